"""Who speaks: a participant's keys and DID document, and self-issued identity tokens of the Decentralized Claims Protocol 1.0.

A token is a compact JWS (RFC 7515) with ``iss`` = ``sub`` = own DID, ``aud`` = the partner's DID, ``jti``, ``iat``, ``exp``. Algorithms are
ES256 and EdDSA and nothing else; a token is accepted once, also after a restart.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from guantong.base.canonical import b64url
from guantong.base.clock import NS, Clock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.ids import NewId, new_uuid
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange.dids import Resolver, did_of, did_url, key_for, public_key_of, service_of
from guantong.exchange.jws import ALGORITHMS, opened, verified
from guantong.exchange.model import ExchangeSettings, Participant
from guantong.exchange.tables import TOKENS_SEEN
from guantong.records.service import Records, Step

__all__ = [
    "Identity",
    "Resolver",
    "Retired",
    "Tokens",
    "did_document",
    "did_of",
    "did_url",
    "public_key_of",
    "service_of",
]

DID_CONTEXTS = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/suites/jws-2020/v1",
    "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld",
)
PARTNER_SERVICE = "GuantongPartner"
"""Type of the service entry under which our partner extension (receipts, questions) is found; plain connectors have none."""
CLAIMS_PATH = "/dcp"
"""Where the credential service is, below the root address."""
ISSUER_PATH = "/dcp/issuer"
"""Where the issuer service is, below the root address."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A key of before the last rotation: still listed, so that what it signed can be checked, until nothing it signed lives.

    A P-256 key was one for tokens; a name that begins with ``evidence-`` says that it was an evidence key, and it only asserts.
    """

    name: str
    jwk: Mapping[str, str]
    until: int
    """Nanoseconds since the epoch; from then on the document lists it no more."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A participant's own keys: P-256 (or Ed25519) for tokens, Ed25519 for evidence and receipts."""

    did: str
    token_key: P256Key | Ed25519Key
    evidence_key: Ed25519Key
    token_name: str = "token"  # noqa: S105 - the fragment that names the key, no secret
    """Fragment of the token key's identifier; each rotation takes a new one."""
    retired: tuple[Retired, ...] = ()
    company: bool = False
    """Whether a company certificate stands for it, published at ``/log/company``."""

    @property
    def token_kid(self) -> str:
        """Identifier of the token key in the DID document."""
        return f"{self.did}#{self.token_name}"

    @property
    def evidence_kid(self) -> str:
        """Identifier of the evidence key in the DID document."""
        return f"{self.did}#evidence"


def did_document(identity: Identity, address: str, *, at: int = 0, issuer: bool = False) -> dict[str, Any]:
    """The DID document of a participant reached at the root ``address``, as it is at an instant.

    ``issuer``: it issues credentials too. Source: DCP 1.0, 4; CX-0018 2.6 (one entry a connector).
    """
    did = identity.did
    keys: list[tuple[str, Mapping[str, str]]] = [(identity.token_kid, identity.token_key.jwk)]
    keys += [(f"{did}#{old.name}", old.jwk) for old in identity.retired if at < old.until]
    tokens = [key_id for key_id, _ in keys if "#evidence-" not in key_id]
    keys.append((identity.evidence_kid, identity.evidence_key.jwk))
    asserting = [identity.evidence_kid, *(key_id for key_id, _ in keys if "#evidence-" in key_id)]
    services = [
        {
            "id": f"{did}#dataservice",
            "type": "DataService",
            "serviceEndpoint": f"{address}/.well-known/dspace-version",
        },
        {"id": f"{did}#catalog", "type": "CatalogService", "serviceEndpoint": f"{address}/dsp/2025-1/catalog"},
        {"id": f"{did}#credentials", "type": "CredentialService", "serviceEndpoint": address + CLAIMS_PATH},
        {"id": f"{did}#partner", "type": PARTNER_SERVICE, "serviceEndpoint": address},
    ]
    if identity.company:
        services.append(
            {"id": f"{did}#company", "type": "GuantongCompanyCertificate", "serviceEndpoint": f"{address}/log/company"}
        )
    if issuer:
        services.append({"id": f"{did}#issuer", "type": "IssuerService", "serviceEndpoint": address + ISSUER_PATH})
    return {
        "@context": list(DID_CONTEXTS),
        "id": did,
        "verificationMethod": [
            {
                "id": key_id,
                "type": "JsonWebKey2020",
                "controller": did,
                "publicKeyJwk": {**jwk, "kid": key_id, "alg": "ES256" if jwk["kty"] == "EC" else "EdDSA"},
            }
            for key_id, jwk in keys
        ],
        "authentication": tokens,
        "assertionMethod": [*tokens, *asserting],
        "capabilityInvocation": tokens,
        "service": services,
    }


class Tokens:
    """Makes our tokens and checks partners'. Its :meth:`identify` is the default of the port ``Identify``."""

    def __init__(
        self,
        records: Records,
        resolver: Resolver,
        clock: Clock,
        settings: ExchangeSettings,
        *,
        new_id: NewId = new_uuid,
    ) -> None:
        self._records = records
        self._resolver = resolver
        self._clock = clock
        self._settings = settings
        self._new_id = new_id
        self._heads: dict[str, str] = {}
        self._seen: dict[tuple[str, str, str], int] = {}
        self._ends: deque[tuple[int, tuple[str, str, str]]] = deque()

    async def start(self) -> None:
        """Read which tokens were accepted before; forget the expired ones."""
        now = self._clock.now()
        for row in await self._records.rows(select(TOKENS_SEEN).order_by(TOKENS_SEEN.c.expires_at)):
            if row["expires_at"] > now:
                self._mark((row["participant"], row["issuer"], row["jti"]), row["expires_at"])

    def issue(self, identity: Identity, audience: str, *, access_token: str = "") -> str:
        """A token for one request to ``audience``; ``access_token`` becomes the claim ``token`` (DCP 1.0, presentation queries)."""
        head = self._heads.get(identity.token_kid)
        if head is None:
            algorithm = "ES256" if isinstance(identity.token_key, P256Key) else "EdDSA"
            head = b64url(orjson.dumps({"alg": algorithm, "kid": identity.token_kid, "typ": "JWT"}))
            self._heads[identity.token_kid] = head
        now = self._clock.now() // NS
        claims: dict[str, Any] = {
            "iss": identity.did,
            "sub": identity.did,
            "aud": audience,
            "jti": self._new_id(),
            "iat": now,
            "exp": now + self._settings.token_lifetime_s,
        }
        if access_token:
            claims["token"] = access_token
        signed = f"{head}.{b64url(orjson.dumps(claims))}"
        return f"{signed}.{b64url(identity.token_key.sign(signed.encode('ascii')))}"

    async def identify(self, participant: str, authorization: str) -> Participant:
        """The caller named by an ``Authorization`` header for ``participant``. Raises Refused ``exchange.token-refused``, and
        Retryable ``exchange.did-unresolved`` where the issuer's document can't be read now.

        Source: DCP 1.0, Validating Self-Issued ID Tokens. The token counts as used from here on; make that durable with
        :meth:`remember` in the step that follows.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _refused("there is no bearer token")
        try:
            jws = opened(token)
        except ValueError as error:
            raise _refused(str(error)) from error
        claims = jws.claims
        if jws.head.get("alg") not in ALGORITHMS:
            raise _refused("its algorithm is neither ES256 nor EdDSA")
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer != claims.get("sub"):
            raise _refused("its issuer is not its subject")
        audience = claims.get("aud")
        if audience != participant and not (isinstance(audience, list) and audience == [participant]):
            raise _refused("it is meant for somebody else")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= 255:
            raise _refused("it has no identifier")
        expires = self._check_times(claims)
        name = (participant, issuer, jti)
        if name in self._seen:
            raise _refused("it was used before")
        if not verified(jws, await self._key(issuer, jws.key_id)):
            newer = await self._newer(issuer, jws.key_id)
            if newer is None or not verified(jws, newer):
                raise _refused("its signature does not match")
        if name in self._seen:  # another request with it was checked while the key was looked up
            raise _refused("it was used before")
        self._mark(name, expires)
        return Participant(issuer, claims, jti, expires)

    def remember(self, step: Step, caller: Participant) -> None:
        """Make it durable in a step that the caller's token was used, and forget the expired ones."""
        if not caller.jti:
            return
        step.insert(TOKENS_SEEN, issuer=caller.did, jti=caller.jti, expires_at=caller.expires)
        gone = self._purge()
        if gone:
            now = step.at
            statement = TOKENS_SEEN.delete().where(TOKENS_SEEN.c.expires_at <= now)
            step.apply(lambda connection: connection.execute(statement))

    def _check_times(self, claims: Mapping[str, Any]) -> int:
        now = self._clock.now() / NS
        leeway = self._settings.token_leeway_s
        issued, expires, not_before = claims.get("iat"), claims.get("exp"), claims.get("nbf")
        for value in (issued, expires, not_before if not_before is not None else 0):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
                raise _refused("its times are missing or unreadable")
        assert isinstance(expires, (int, float))
        assert isinstance(issued, (int, float))
        if expires + leeway <= now:
            raise _refused("it has expired")
        if issued - leeway > now or (isinstance(not_before, (int, float)) and not_before - leeway > now):
            raise _refused("it is not valid yet")
        if expires - now > self._settings.token_max_lifetime_s + leeway:
            raise _refused("it lives too long")
        return int((expires + leeway) * NS)

    async def _key(self, issuer: str, key_id: str) -> dict[str, Any]:
        try:
            return await self._resolver.key(issuer, "capabilityInvocation", key_id)
        except Retryable as error:
            # not the caller's fault: a refusal would make it give up a message that a lost answer of ours held up
            raise Retryable("exchange.did-unresolved", did=issuer[:200], reason=error.code) from error
        except GuantongError as error:
            raise _refused(f"its issuer can't be resolved ({error.code})") from error
        except ValueError as error:
            raise _refused(str(error)) from error

    async def _newer(self, issuer: str, key_id: str) -> dict[str, Any] | None:
        # another key may stand under the same name since the document was read; a refusal would end the caller's process
        try:
            document = await self._resolver.fresh(issuer)
            return None if document is None else key_for(document, "capabilityInvocation", key_id)
        except Retryable as error:
            raise Retryable("exchange.did-unresolved", did=issuer[:200], reason=error.code) from error
        except (GuantongError, ValueError):
            return None

    def _mark(self, name: tuple[str, str, str], expires: int) -> None:
        self._seen[name] = expires
        self._ends.append((expires, name))

    def _purge(self) -> bool:
        now = self._clock.now()
        gone = False
        while self._ends and self._ends[0][0] <= now:
            _, name = self._ends.popleft()
            self._seen.pop(name, None)
            gone = True
        return gone


def _refused(reason: str) -> Refused:
    return Refused("exchange.token-refused", reason=reason)


def same_token(left: str, right: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing."""
    return hmac.compare_digest(left.encode(), right.encode())
