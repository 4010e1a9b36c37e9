"""Whom a caller claims to be, proven: the presentation of its credentials is asked for, checked and kept for a while.

Cold: query to the caller's credential service, signatures of presentation and credentials, issuers, times, schemas, status lists. Warm: the
presentation verified before, for the same access token, until the earliest of its expiry, its status lists' time to live and
``claims_cache_s``. A revocation takes effect within that time, because a status list's age counts from when it was fetched.

Source: Decentralized Claims Protocol 1.0, Verifiable Presentation Protocol (Resolution API, Presentation validation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.clock import NS, Clock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.wire import Http
from guantong.exchange.credentials import (
    Credential,
    Presentation,
    Status,
    credential_in,
    ends,
    presentation_in,
    problems_of,
    read_credential,
)
from guantong.exchange.dids import Resolver, service_of
from guantong.exchange.jws import Jws, verified
from guantong.exchange.messages import decode
from guantong.exchange.model import ExchangeSettings, Participant
from guantong.exchange.status_list import LIST_TYPES, StatusList, status_list
from guantong.exchange.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONTEXT", "Claims", "Standing", "scope_of", "type_of"]

CONTEXT = "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"
TYPE_SCOPE = "org.eclipse.dspace.dcp.vc.type"
SERVICE = "CredentialService"

_MAX_ANSWER = 1024 * 1024
_MAX_SCHEMA = 256 * 1024
_TIMEOUT_S = 5.0
_BASES = frozenset({"VerifiableCredential"})


def scope_of(required: str) -> str:
    """The scope of a required credential: a type gets the protocol's prefix, whole scopes (connectors differ) are taken as they are."""
    return required if ":" in required else f"{TYPE_SCOPE}:{required}"


def type_of(required: str) -> str:
    """The credential type in a scope (``…vc.type:Membership:read``) or a bare type."""
    parts = required.split(":")
    return parts[1] if len(parts) > 1 else parts[0]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a partner has proven, until when."""

    partner: str
    credentials: tuple[Credential, ...]
    access_token: str
    until: int
    """Nanoseconds since the epoch; then it is asked again."""

    def claims(self) -> list[dict[str, Any]]:
        """The proven statements for policy decisions: type, issuer and subject of each credential."""
        return [
            {
                "types": [name for name in one.types if name not in _BASES],
                "issuer": one.issuer,
                "subject": dict(one.subjects[0])
                if len(one.subjects) == 1
                else [dict(subject) for subject in one.subjects],
            }
            for one in self.credentials
        ]


class Claims:
    """The verifier of every hosted participant."""

    def __init__(
        self,
        http: Http,
        resolver: Resolver,
        clock: Clock,
        settings: ExchangeSettings,
        trust: Trust,
        *,
        token_for: Callable[[str, str, str], str],
    ) -> None:
        """``token_for(participant, audience, access token)`` is a fresh identity token of ours that repeats the access token."""
        self._http = http
        self._resolver = resolver
        self._clock = clock
        self._settings = settings
        self._trust = trust
        self._token_for = token_for
        self._standing: dict[tuple[str, str], Standing] = {}
        self._ended: dict[tuple[str, str], str] = {}
        self._asking: dict[tuple[str, str, str], asyncio.Task[Standing]] = {}
        self._lists: dict[tuple[str, str], tuple[StatusList, int]] = {}
        self._schemas: dict[str, tuple[Any, int]] = {}

    async def proven(self, participant: str, caller: Participant) -> Participant:
        """The caller with ``credentials`` among its claims, once it has shown every credential that is required here.

        Raises Refused ``exchange.claims-refused``, and Retryable ``exchange.claims-unreachable`` where its service does not answer.
        """
        access_token = caller.claims.get("token")
        if not isinstance(access_token, str) or not 0 < len(access_token) <= 8192:
            raise _refused("its identity token has no access token for its credentials")
        standing = self._standing.get((participant, caller.did))
        if standing is None or standing.access_token != access_token or standing.until <= self._clock.now():
            standing = await self._asked(participant, caller.did, access_token)
        return replace(caller, claims={**caller.claims, "credentials": standing.claims()})

    def standing(self, participant: str, partner: str) -> Standing | None:
        """What a partner has proven last, also when it is to be asked again."""
        return self._standing.get((participant, partner))

    async def still(self, participant: str, partner: str) -> str:
        """Why a partner's proof holds no more (for a delivery that runs), empty while it holds or none is required.

        Looks at status lists again once they are older than they may be kept; needs no token of the partner.
        """
        standing = self._standing.get((participant, partner))
        if (participant, partner) in self._ended:
            return self._ended[(participant, partner)]
        if standing is None or not self._trust.required(participant):
            return ""
        now = self._clock.now()
        if now < standing.until:
            return ""
        try:
            until = await self._checked(standing.credentials, holder=partner)
        except Refused as error:
            self._standing.pop((participant, partner), None)
            # until it proves itself anew: its next message does, or is refused
            self._ended[(participant, partner)] = str(error.facts.get("reason"))
            return self._ended[(participant, partner)]
        except Retryable as error:
            return f"its status can't be read ({error.code})"
        self._standing[(participant, partner)] = replace(standing, until=until)
        return ""

    # -- cold

    async def _asked(self, participant: str, partner: str, access_token: str) -> Standing:
        name = (participant, partner, access_token)
        task = self._asking.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(*name), name=f"claims of {partner}")
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)

    async def _ask(self, participant: str, partner: str, access_token: str) -> Standing:
        presentations = await self._presentations(participant, partner, access_token)
        credentials: list[Credential] = []
        ends_at: list[int] = []
        for presentation in presentations:
            await self._check_presentation(presentation, participant, partner)
            if presentation.valid_until is not None:
                ends_at.append(presentation.valid_until)
            # credentials of issuers that nobody here trusts prove nothing, and their addresses are not visited
            credentials += [one for one in presentation.credentials if self._trusted(participant, one)]
        until = await self._checked(credentials, holder=partner)
        have = {name for one in credentials for name in one.types}
        missing = [type_of(one) for one in self._trust.required(participant) if type_of(one) not in have]
        if missing:
            raise _refused(f"it did not show {', '.join(missing)} of an issuer trusted here")
        standing = Standing(partner, tuple(credentials), access_token, min([until, *ends_at]))
        if len(self._standing) >= self._settings.process_cache:
            self._standing.pop(next(iter(self._standing)))
        self._standing[(participant, partner)] = standing
        self._ended.pop((participant, partner), None)
        return standing

    async def _presentations(self, participant: str, partner: str, access_token: str) -> list[Presentation]:
        document = await self._resolved(partner)
        service = service_of(document, SERVICE)
        if not service:
            raise _refused("its DID document names no credential service")
        body = {
            "@context": [CONTEXT],
            "type": "PresentationQueryMessage",
            "scope": [scope_of(one) for one in self._trust.required(participant)],
        }
        response = await self._fetch(
            "POST",
            f"{service}/presentations/query",
            body=orjson.dumps(body),
            headers={
                "authorization": "Bearer " + self._token_for(participant, partner, access_token),
                "content-type": "application/json",
                "accept": "application/json",
            },
        )
        answer = decode(response, limit=_MAX_ANSWER, depth=self._settings.depth_limit)
        found = answer.get("presentation")
        if answer.get("type", answer.get("@type")) != "PresentationResponseMessage" or not isinstance(found, list):
            raise _refused("its credential service did not answer with presentations")
        if not 0 < len(found) <= 8:
            raise _refused("its credential service showed no presentation")
        try:
            return [presentation_in(one) for one in found]
        except ValueError as error:
            raise _refused(str(error)) from error

    async def _check_presentation(self, presentation: Presentation, participant: str, partner: str) -> None:
        now, slack = self._clock.now(), self._settings.token_leeway_s * NS
        if presentation.holder != partner:
            raise _refused("the presentation is another's")
        if participant not in presentation.audience:
            raise _refused("the presentation is meant for somebody else")
        if presentation.valid_until is None or presentation.valid_until + slack <= now:
            raise _refused("the presentation has expired")
        if presentation.valid_from is not None and presentation.valid_from - slack > now:
            raise _refused("the presentation is not valid yet")
        await self._verify(presentation.jws, partner, "authentication")

    def _trusted(self, participant: str, credential: Credential) -> bool:
        for entry in self._trust.issuers(participant):
            issuer, _, kind = entry.partition(" ")
            if issuer == credential.issuer and (not kind or kind in credential.types):
                return True
        return False

    # -- credentials

    async def _checked(self, credentials: Sequence[Credential], *, holder: str) -> int:
        """Until when all of them hold without being looked at again. Raises Refused with the first thing wrong."""
        now = self._clock.now()
        until = [now + int(self._settings.claims_cache_s * NS)]
        for credential in credentials:
            wrong = problems_of(credential, holder=holder, at=now, leeway_s=self._settings.token_leeway_s)
            if wrong:
                raise _refused(f"credential of {credential.issuer}: {wrong[0]}")
            await self._verify(credential.jws, credential.issuer, "assertionMethod")
            for kind, address in credential.schemas:
                await self._meets(credential, kind, address)
            until += [await self._holds(status, credential.issuer) for status in credential.statuses]
            if credential.valid_until is not None:
                until.append(credential.valid_until)
        return min(until)

    async def _verify(self, jws: Jws, signer: str, relation: str) -> None:
        try:
            jwk = await self._resolver.key(signer, relation, jws.key_id)
        except Retryable as error:
            raise Retryable("exchange.claims-unreachable", address=signer[:200], reason=error.code) from error
        except GuantongError as error:
            raise _refused(f"{signer[:200]} can't be resolved ({error.code})") from error
        except ValueError as error:
            raise _refused(str(error)) from error
        if not await asyncio.to_thread(verified, jws, jwk):
            raise _refused("its signature does not match")

    async def _holds(self, status: Status, issuer: str) -> int:
        """Until when the status may be believed. Raises Refused where it is set, or can't be told."""
        found, fetched_at = await self._list(status, issuer)
        try:
            value = found.value(status.index, status.size)
        except ValueError as error:
            raise _refused(f"its status can't be told: {error}") from error
        if status.purpose not in found.purposes:
            raise _refused(f"its status list is not about {status.purpose[:40]}")
        if value and ends(status):
            raise _refused(f"it was ended by its issuer ({status.purpose[:40]})")
        return fetched_at + int(self._kept_s(found) * NS)

    def _kept_s(self, found: StatusList) -> float:
        limit = float(self._settings.claims_cache_s)
        return limit if found.ttl_s is None else min(limit, found.ttl_s)

    async def _list(self, status: Status, issuer: str) -> tuple[StatusList, int]:
        name = (status.address, status.kind)
        kept = self._lists.get(name)
        now = self._clock.now()
        if kept is not None and now < kept[1] + int(self._kept_s(kept[0]) * NS):
            return kept
        body = await self._fetch(
            "GET",
            status.address,
            headers={"accept": "application/vc+jwt, application/jwt;q=0.9, application/json;q=0.8"},
        )
        try:
            credential = await self._list_credential(body, issuer)
            if credential.issuer != issuer:
                raise ValueError("its list is another issuer's")
            if credential.valid_until is not None and credential.valid_until <= now:
                raise ValueError("its list has expired")
            found = await asyncio.to_thread(status_list, credential.subjects[0], LIST_TYPES[status.kind])
        except ValueError as error:
            raise _refused(f"its status can't be told: {error}") from error
        if len(self._lists) >= 1024:
            self._lists.pop(next(iter(self._lists)))
        self._lists[name] = (found, now)
        return found, now

    async def _list_credential(self, body: bytes, issuer: str) -> Credential:
        text = body.strip()
        if not text.startswith(b"{"):
            credential = credential_in(text.decode("ascii", "replace"))
            await self._verify(credential.jws, issuer, "assertionMethod")
            return credential
        # unsigned JSON is taken too (issuers in use publish it so): its address stands in the signed credential, and TLS names the host
        document = decode(body, limit=_MAX_ANSWER, depth=self._settings.depth_limit)
        return read_credential(document, "1.1", Jws({}, {}, b"", b""))

    async def _meets(self, credential: Credential, kind: str, address: str) -> None:
        if kind not in ("JsonSchema", "JsonSchemaValidator2018"):
            raise _refused(f"its schema {kind[:60]} is not understood")
        kept = self._schemas.get(address)
        if kept is None or kept[1] <= self._clock.now():
            body = await self._fetch(
                "GET", address, headers={"accept": "application/schema+json, application/json"}, limit=_MAX_SCHEMA
            )
            schema = decode(body, limit=_MAX_SCHEMA, depth=self._settings.depth_limit)
            kept = (await asyncio.to_thread(_validator, schema), self._clock.now() + self._settings.did_cache_s * NS)
            if len(self._schemas) >= 256:
                self._schemas.pop(next(iter(self._schemas)))
            self._schemas[address] = kept
        # the older type describes the subject, the newer one the whole credential
        meant: Sequence[Mapping[str, Any]] = (
            credential.subjects if kind == "JsonSchemaValidator2018" else (credential.document,)
        )
        if not all(kept[0].is_valid(dict(one)) for one in meant):
            raise _refused("it does not meet its own schema")

    # -- small parts

    async def _resolved(self, did: str) -> dict[str, Any]:
        try:
            return await self._resolver.document(did)
        except Retryable as error:
            raise Retryable("exchange.claims-unreachable", address=did[:200], reason=error.code) from error
        except GuantongError as error:
            raise _refused(f"{did[:200]} can't be resolved ({error.code})") from error

    async def _fetch(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str], limit: int = _MAX_ANSWER
    ) -> bytes:
        try:
            response = await self._http.request(
                method, url, body=body, headers=headers, timeout_s=_TIMEOUT_S, max_bytes=limit
            )
        except Retryable as error:
            raise Retryable("exchange.claims-unreachable", address=url[:200], reason=error.code) from error
        except GuantongError as error:
            raise _refused(f"{url[:200]} can't be read ({error.code})") from error
        if response.status >= 500 or response.status == 429:
            raise Retryable("exchange.claims-unreachable", address=url[:200], reason=f"it answered {response.status}")
        if not 200 <= response.status < 300:
            raise _refused(f"{url[:200]} answered {response.status}")
        return response.body


def _validator(schema: Mapping[str, Any]) -> Any:
    import jsonschema_rs

    def nowhere(uri: str) -> Any:
        raise LookupError(uri)

    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=nowhere)
    except ValueError as error:
        raise _refused("its schema is none, or refers elsewhere") from error


def _refused(reason: str) -> Refused:
    return Refused("exchange.claims-refused", reason=reason)
