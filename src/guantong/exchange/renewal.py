"""Token renewal of HttpData-PULL: access tokens are short-lived, a refresh token that is bound to the consumer's DID gets the next one.

Both sides. The refresh token changes with each use; the provider keeps only its digest. Source: Data Plane Signaling, Token Renewal
profile; OAuth 2.0 (RFC 6749), 5.1, 5.2 and 6; CX-0018, 2.3 (``https://w3id.org/tractusx/auth/`` names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64url
from guantong.base.clock import NS
from guantong.base.errors import GuantongError, Refused
from guantong.exchange.identity import same_token
from guantong.exchange.messages import checked_endpoint, properties_of, with_token
from guantong.exchange.model import Transfer
from guantong.exchange.tables import RENEWALS
from guantong.exchange.transfers import Transfers, token_hash

if TYPE_CHECKING:
    from guantong.exchange.hosting import Hosting

__all__ = ["Renewal"]


class Renewal:
    """Renewal of every hosted participant's tokens, given and received."""

    def __init__(self, hosting: Hosting, transfers: Transfers) -> None:
        self._hosting = hosting
        self._transfers = transfers

    # -- provider

    async def renew(
        self, participant: str, pid: str, authorization: str, form: Mapping[str, str], *, audience: str = ""
    ) -> dict[str, Any]:
        """A new access token for a refresh token (OAuth 2.0, 5.1). ``audience``: who its identity token must be meant for.

        Raises Refused ``exchange.token-refused`` (the client) and ``exchange.grant-refused`` (the grant).
        """
        hosting = self._hosting
        if audience in ("", participant):
            caller = await hosting.identify(participant, authorization)  # with its claims, like any message
        else:
            caller = await hosting.tokens.identify(audience, authorization)
        if form.get("grant_type") != "refresh_token":
            raise Refused("exchange.grant-refused", reason="its grant_type is not refresh_token")
        async with self._transfers.processes.lock(participant, pid):
            try:
                transfer = await self._transfers.processes.get(participant, pid)
            except Refused as error:
                raise Refused("exchange.grant-refused", reason="it belongs to no transfer") from error
            if transfer.role != "provider" or transfer.state != "STARTED" or transfer.partner != caller.did:
                raise Refused("exchange.grant-refused", reason="it is not the caller's, or the transfer does not run")
            row = await hosting.records.row(
                select(RENEWALS.c.refresh_hash).where(
                    and_(RENEWALS.c.participant == participant, RENEWALS.c.pid == pid)
                )
            )
            if row is None or not same_token(token_hash(form.get("refresh_token", "")), row["refresh_hash"]):
                raise Refused("exchange.grant-refused", reason="it was used before, or was never given")
            named = caller.claims.get("token")
            if not isinstance(named, str) or not same_token(token_hash(named), transfer.token_hash):
                raise Refused("exchange.grant-refused", reason="it is not presented with the access token it came with")
            access, refresh = (b64url(hosting.records.random(32)) for _ in range(2))
            lifetime = hosting.settings.access_lifetime_s
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                moved = self._transfers.processes.move(
                    step,
                    transfer,
                    transfer.state,
                    token_hash=token_hash(access),
                    token_expires=step.at + lifetime * NS,
                )
                step.upsert(RENEWALS, pid=pid, refresh_hash=token_hash(refresh), changed_at=step.at)
                self._transfers.processes.becomes(step, moved)
        return {"access_token": access, "token_type": "bearer", "expires_in": lifetime, "refresh_token": refresh}

    # -- consumer

    async def refreshed(self, participant: str, transfer: Transfer) -> Transfer | None:
        """The transfer with a new access token, None where its provider gives none (the token at hand is all there is)."""
        hosting = self._hosting
        given = properties_of(transfer.data_address)
        refresh = given.get("refreshToken")
        endpoint = given.get("refreshEndpoint") or given.get("endpoint", "")
        if not refresh or not endpoint:
            return None
        async with self._transfers.processes.lock(participant, transfer.pid):
            now = await self._transfers.processes.get(participant, transfer.pid)
            if properties_of(now.data_address).get("refreshToken") != refresh:
                return now if now.state == "STARTED" else None  # another pull has renewed it meanwhile
            try:
                form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh})
                # audience: the provider, or whom it names (Tractus-X); parameters in query and form, both are in use
                identity = hosting.hosted(participant).identity
                token = hosting.tokens.issue(
                    identity,
                    given.get("refreshAudience") or transfer.partner,
                    access_token=given.get("authorization", "").removeprefix("Bearer "),
                )
                url = checked_endpoint(endpoint)
                response = await hosting.http.request(
                    "POST",
                    url + ("&" if "?" in url else "?") + form,
                    body=form.encode(),
                    headers={
                        "authorization": f"Bearer {token}",
                        "content-type": "application/x-www-form-urlencoded",
                        "accept": "application/json",
                    },
                    max_bytes=64 * 1024,
                )
                answer = orjson.loads(response.body) if response.status == 200 else None
            except (GuantongError, orjson.JSONDecodeError):
                return None
            if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
                return None
            address = with_token(
                transfer.data_address,
                authorization=answer["access_token"],
                refreshToken=str(answer.get("refresh_token") or refresh),
                expiresIn=str(answer.get("expires_in", "")),
            )
            async with hosting.records.step(participant) as step:
                moved = self._transfers.processes.move(step, now, now.state, data_address=address)
                self._transfers.processes.becomes(step, replace(moved))
            return moved
