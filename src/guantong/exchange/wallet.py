"""Our own credentials: taken from issuers, kept, and shown to the partners whom we call and who ask with the access token we gave them.

There is no token service: the access token in our identity tokens is a keyed digest over the partner and an expiry, so that nothing has
to be kept and another partner can't use it. What may be shown are the types in ``presented_credentials``.
Source: Decentralized Claims Protocol 1.0, Verifiable Presentation Protocol (Resolution API) and Credential Issuance Protocol (Storage API).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64url, sha256
from guantong.base.clock import NS
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.exchange.claims import CONTEXT, type_of
from guantong.exchange.credentials import PROFILES, Credential, credential_in, made_presentation, problems_of
from guantong.exchange.dids import service_of
from guantong.exchange.jws import verified
from guantong.exchange.model import CREDENTIAL_STORED, Participant
from guantong.exchange.tables import CREDENTIAL_REQUESTS, CREDENTIALS

if TYPE_CHECKING:
    from guantong.exchange.hosting import Hosting

__all__ = ["Held", "Wallet"]

ISSUER_SERVICE = "IssuerService"
TOKEN_LIFETIME_S = 600
_BASE = "VerifiableCredential"


@dataclass(frozen=True, slots=True)
class Held:
    """A credential of ours."""

    id: str
    issuer: str
    kind: str
    credential: Credential
    stored_at: int


class Wallet:
    """The credentials of every hosted participant."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._held: dict[str, list[Held]] = {}

    async def start(self) -> None:
        """Read what was stored; newer credentials of a kind take the place of older ones."""
        self._held.clear()
        for row in await self._hosting.records.rows(select(CREDENTIALS).order_by(CREDENTIALS.c.stored_at)):
            credential = credential_in(row["credential"])
            held = Held(row["id"], row["issuer"], row["kind"], credential, row["stored_at"])
            self._put(row["participant"], held)

    def held(self, participant: str) -> list[Held]:
        """Credentials of a participant."""
        return list(self._held.get(participant, ()))

    # -- what we show

    def access_token(self, participant: str, partner: str) -> str:
        """The token by which ``partner`` may ask for our credentials, empty where we hold none that it may see."""
        wanted = self._hosting.settings.presented_credentials
        if not any(held.kind in wanted for held in self._held.get(participant, ())):
            return ""
        # the same for some minutes, so that a partner who has seen our credentials need not ask again
        end = (self._hosting.clock.now() // NS // (TOKEN_LIFETIME_S // 2) + 2) * (TOKEN_LIFETIME_S // 2)
        return f"{end}.{self._mark(participant, partner, end)}"

    async def present(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a presentation query. Raises Refused ``exchange.message-invalid`` and ``exchange.token-refused``."""
        if body.get("type", body.get("@type")) != "PresentationQueryMessage":
            raise _invalid("PresentationQueryMessage", "its type is another")
        scopes, definition = body.get("scope"), body.get("presentationDefinition")
        if definition is not None and scopes is not None:
            raise _invalid("PresentationQueryMessage", "it has both scope and presentationDefinition")
        if definition:
            raise Refused("exchange.definition-unsupported")
        if not isinstance(scopes, list) or not scopes or not all(isinstance(one, str) for one in scopes):
            raise _invalid("PresentationQueryMessage", "scope: is missing or empty")
        self._check(participant, caller)
        shown = set(self._hosting.settings.presented_credentials)
        wanted = {type_of(one) for one in scopes if one.split(":")[0].endswith(".vc.type")} & shown
        ids = {one.partition(":")[2].removesuffix(":read") for one in scopes if one.split(":")[0].endswith(".vc.id")}
        now = self._hosting.clock.now()
        found = [
            held
            for held in self._held.get(participant, ())
            if (held.kind in wanted or (held.kind in shown and str(held.credential.document.get("id")) in ids))
            and (held.credential.valid_until is None or held.credential.valid_until > now)
        ]
        identity = self._hosting.hosted(participant).identity
        presentations = [
            made_presentation(
                identity.token_key,
                identity.token_kid,
                participant,
                caller.did,
                texts,
                version,
                at=now,
                jti=self._hosting.new_id(),
            )
            for version in PROFILES
            if (texts := [held.credential.text for held in found if held.credential.version == version])
        ]
        return {"@context": [CONTEXT], "type": "PresentationResponseMessage", "presentation": presentations}

    def _check(self, participant: str, caller: Participant) -> None:
        end, _, mark = str(caller.claims.get("token", "")).partition(".")
        if not end.isascii() or not end.isdigit() or len(end) > 12:
            raise _no_token("its access token is none of ours")
        if not hmac.compare_digest(mark.encode(), self._mark(participant, caller.did, int(end)).encode()):
            raise _no_token("its access token was given to another, or is none of ours")
        if int(end) <= self._hosting.clock.now() // NS:
            raise _no_token("its access token has expired")

    def _mark(self, participant: str, partner: str, end: int) -> str:
        key = sha256(
            b"guantong presentation access" + self._hosting.hosted(participant).identity.token_key.private_bytes()
        )
        return b64url(hmac.digest(key, f"{participant} {partner} {end}".encode(), "sha256"))

    # -- what we get

    async def request(self, participant: str, issuer: str, kinds: list[str]) -> str:
        """Ask an issuer for credentials of these types; our identifier of the request. The credentials come in a message of its own.

        Raises Refused ``exchange.answer-unusable``.
        """
        hosting = self._hosting
        service = service_of(await hosting.resolver.document(issuer), ISSUER_SERVICE)
        if not service:
            raise _unusable(issuer, "–", "its DID document names no issuer service")
        from guantong.exchange.hosting import checked_address

        service = checked_address(service)
        metadata = _object(
            await hosting.request(participant, issuer, "GET", f"{service}/metadata", max_bytes=256 * 1024), issuer
        )
        supported = [entry for entry in metadata.get("credentialsSupported") or () if isinstance(entry, dict)]
        wanted = []
        for kind in kinds:
            offered = [entry for entry in supported if entry.get("credentialType") == kind and entry.get("id")]
            if not offered:
                raise _unusable(issuer, 200, f"it does not issue {kind}")
            # the newer data model where the issuer has both
            offered.sort(key=lambda entry: entry.get("profile") != PROFILES["2.0"])
            wanted.append({"id": offered[0]["id"]})
        pid = hosting.new_id()
        async with hosting.records.step(participant) as step:
            step.insert(
                CREDENTIAL_REQUESTS,
                id=pid,
                role="holder",
                partner=issuer,
                partner_pid="",
                kinds=orjson.dumps(kinds),
                state="RECEIVED",
                reason="",
                created_at=step.at,
                changed_at=step.at,
            )
        body = {"@context": [CONTEXT], "type": "CredentialRequestMessage", "holderPid": pid, "credentials": wanted}
        response = await hosting.request(participant, issuer, "POST", f"{service}/credentials", body)
        if not 200 <= response.status < 300:
            raise _unusable(issuer, response.status, response.body[:300].decode("utf-8", "replace"))
        return pid

    async def store(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> None:
        """Take the credentials that an issuer sends. Only one we asked, or whom we trust, may; each is checked before it is kept.

        Raises Refused ``exchange.message-invalid`` and ``exchange.claims-refused``.
        """
        if body.get("type", body.get("@type")) != "CredentialMessage":
            raise _invalid("CredentialMessage", "its type is another")
        status, holder_pid, entries = body.get("status"), body.get("holderPid"), body.get("credentials")
        if (
            status not in ("ISSUED", "REJECTED")
            or not isinstance(holder_pid, str)
            or not isinstance(body.get("issuerPid"), str)
        ):
            raise _invalid("CredentialMessage", "status, holderPid or issuerPid: is missing or unknown")
        asked = await self._hosting.records.row(
            select(CREDENTIAL_REQUESTS.c.id).where(
                and_(
                    CREDENTIAL_REQUESTS.c.participant == participant,
                    CREDENTIAL_REQUESTS.c.id == holder_pid,
                    CREDENTIAL_REQUESTS.c.partner == caller.did,
                    CREDENTIAL_REQUESTS.c.role == "holder",
                )
            )
        )
        trusted = any(entry.partition(" ")[0] == caller.did for entry in self._hosting.trust.issuers(participant))
        if asked is None and not trusted:
            raise Refused("exchange.claims-refused", reason="nobody here asked this issuer for credentials")
        if status == "ISSUED" and (not isinstance(entries, list) or not 0 < len(entries) <= 32):
            raise _invalid("CredentialMessage", "credentials: is missing or empty")
        found = (
            [await self._judged(participant, caller.did, entry) for entry in entries or ()]
            if status == "ISSUED"
            else []
        )
        async with self._hosting.records.step(participant) as step:
            self._hosting.tokens.remember(step, caller)
            if asked is not None:
                values = {"state": status, "partner_pid": str(body["issuerPid"])[:128], "changed_at": step.at}
                step.update(CREDENTIAL_REQUESTS, {"id": holder_pid}, values)
            kept = []
            for kind, credential in found:
                held = Held(self._hosting.new_id(), credential.issuer, kind, credential, step.at)
                kept.append(held)
                step.insert(
                    CREDENTIALS,
                    id=held.id,
                    issuer=held.issuer,
                    kind=kind,
                    credential=credential.text,
                    stored_at=step.at,
                )
                step.record(
                    Entry(
                        CREDENTIAL_STORED,
                        {
                            "issuer": held.issuer,
                            "kind": kind,
                            "credentialHash": "sha256:" + sha256(credential.text.encode()).hex(),
                        },
                    )
                )
        for held in kept:
            self._put(participant, held)
        self._hosting.changed(participant, f"credentials {holder_pid}", status)

    async def keep(self, participant: str, kind: str, text: str) -> None:
        """Keep a credential that this participant has issued to itself."""
        credential = credential_in(text)
        digest = "sha256:" + sha256(text.encode()).hex()
        async with self._hosting.records.step(participant) as step:
            held = Held(self._hosting.new_id(), credential.issuer, kind, credential, step.at)
            step.insert(
                CREDENTIALS, id=held.id, issuer=held.issuer, kind=kind, credential=text, stored_at=held.stored_at
            )
            step.record(Entry(CREDENTIAL_STORED, {"issuer": held.issuer, "kind": kind, "credentialHash": digest}))
        self._put(participant, held)

    async def offered(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> None:
        """An issuer says that it has credentials for us; a person may then ask for them. Raises Refused ``exchange.message-invalid``."""
        entries = body.get("credentials")
        if (
            body.get("type", body.get("@type")) != "CredentialOfferMessage"
            or body.get("issuer") != caller.did
            or not isinstance(entries, list)
            or not 0 < len(entries) <= 32
            or not all(isinstance(entry, dict) and isinstance(entry.get("id"), str) for entry in entries)
        ):
            raise _invalid("CredentialOfferMessage", "type, issuer or credentials: is missing or wrong")
        async with self._hosting.records.step(participant) as step:
            self._hosting.tokens.remember(step, caller)
        self._hosting.changed(participant, f"credential offer {caller.did}", "OFFERED")

    async def _judged(self, participant: str, issuer: str, entry: object) -> tuple[str, Credential]:
        if not isinstance(entry, dict):
            raise _invalid("CredentialMessage", "credentials: are unreadable")
        try:
            credential = credential_in(entry.get("payload"))
        except ValueError as error:
            raise _invalid("CredentialMessage", str(error)) from error
        if credential.issuer != issuer:
            raise Refused("exchange.claims-refused", reason="it is another issuer's credential")
        hosting = self._hosting
        wrong = problems_of(
            credential, holder=participant, at=hosting.clock.now(), leeway_s=hosting.settings.token_leeway_s
        )
        if wrong:
            raise Refused("exchange.claims-refused", reason=wrong[0])
        try:
            jwk = await hosting.resolver.key(issuer, "assertionMethod", credential.jws.key_id)
        except ValueError as error:
            raise Refused("exchange.claims-refused", reason=str(error)) from error
        if not await asyncio.to_thread(verified, credential.jws, jwk):
            raise Refused("exchange.claims-refused", reason="its signature does not match")
        return next((name for name in credential.types if name != _BASE), _BASE), credential

    def _put(self, participant: str, held: Held) -> None:
        kept = self._held.setdefault(participant, [])
        kept[:] = [
            one
            for one in kept
            if (one.issuer, one.kind, one.credential.version) != (held.issuer, held.kind, held.credential.version)
        ]
        kept.append(held)


def _object(response: Any, partner: str) -> dict[str, Any]:
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        body = None
    if not 200 <= response.status < 300 or not isinstance(body, dict):
        failure: GuantongError = _unusable(partner, response.status, response.body[:300].decode("utf-8", "replace"))
        if response.status >= 500:
            failure = Retryable(
                "exchange.partner-busy", partner=partner, status=response.status, message="issuer metadata"
            )
        raise failure
    return body


def _unusable(partner: str, status: object, reason: str) -> Refused:
    return Refused(
        "exchange.answer-unusable", partner=partner, status=status, message="credential request", reason=reason
    )


def _invalid(message: str, reason: str) -> Refused:
    return Refused("exchange.message-invalid", message=message, reason=reason)


def _no_token(reason: str) -> Refused:
    return Refused("exchange.token-refused", reason=reason)
