"""Who speaks: DID documents (did:web) and self-issued identity tokens of the Decentralized Claims Protocol 1.0, made and checked.

A token is a compact JWS (RFC 7515) with ``iss`` = ``sub`` = own DID, ``aud`` = the partner's DID, ``jti``, ``iat``, ``exp``. Algorithms are
ES256 and EdDSA and nothing else; a token is accepted once, also after a restart.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from sqlalchemy import select

from guantong.base.canonical import b64url, unb64url
from guantong.base.clock import NS, Clock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.ids import NewId, new_uuid
from guantong.base.keys import Ed25519Key, P256Key, verify_ed25519, verify_es256
from guantong.base.wire import Http
from guantong.exchange.model import ExchangeSettings, Participant
from guantong.exchange.tables import TOKENS_SEEN
from guantong.records.service import Records, Step

__all__ = ["Identity", "Resolver", "Tokens", "did_document", "did_of", "did_url", "service_of"]

DID_CONTEXTS = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/suites/jws-2020/v1",
    "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld",
)
PARTNER_SERVICE = "GuantongPartner"
"""Type of the service entry under which our partner extension (receipts, questions) is found; plain connectors have none."""

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_TOKEN = 16 * 1024
_MAX_DOCUMENT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """A participant's own keys: P-256 for tokens, Ed25519 for evidence and receipts."""

    did: str
    token_key: P256Key
    evidence_key: Ed25519Key

    @property
    def token_kid(self) -> str:
        """Identifier of the token key in the DID document."""
        return f"{self.did}#token"

    @property
    def evidence_kid(self) -> str:
        """Identifier of the evidence key in the DID document."""
        return f"{self.did}#evidence"


def did_of(address: str) -> str:
    """The did:web of a root address: ``https://host:port/a/b`` is ``did:web:host%3Aport:a:b``."""
    parts = urlsplit(address)
    path = [part for part in parts.path.split("/") if part]
    return "did:web:" + ":".join([parts.netloc.replace(":", "%3A"), *path])


def did_url(did: str) -> str:
    """Where the document of a did:web is. Source: did:web method specification, Read; http is taken for loopback hosts only.

    Raises Refused ``exchange.did-refused``.
    """
    if not did.startswith("did:web:") or len(did) > 200:
        raise Refused(
            "exchange.did-refused", did=did[:200], reason="only did:web of at most 200 characters is understood"
        )
    host, *path = (unquote(part) for part in did[8:].split(":"))
    if not _HOST.fullmatch(host) or any(
        not re.fullmatch(r"[A-Za-z0-9._~-]+", part) or part in (".", "..") for part in path
    ):
        raise Refused("exchange.did-refused", did=did[:200], reason="it is not a well-formed did:web")
    bare = (urlsplit("//" + host).hostname or "").lower()
    scheme = "http" if bare in _LOOPBACK else "https"
    return f"{scheme}://{host}/" + ("/".join(path) if path else ".well-known") + "/did.json"


def did_document(identity: Identity, address: str) -> dict[str, Any]:
    """The DID document of a participant reached at the root ``address``. Source: DCP 1.0, 4; CX-0018 2.6 (one entry a connector)."""
    did = identity.did
    return {
        "@context": list(DID_CONTEXTS),
        "id": did,
        "verificationMethod": [
            {
                "id": identity.token_kid,
                "type": "JsonWebKey2020",
                "controller": did,
                "publicKeyJwk": {**identity.token_key.jwk, "kid": identity.token_kid, "alg": "ES256"},
            },
            {
                "id": identity.evidence_kid,
                "type": "JsonWebKey2020",
                "controller": did,
                "publicKeyJwk": {**identity.evidence_key.jwk, "kid": identity.evidence_kid, "alg": "EdDSA"},
            },
        ],
        "authentication": [identity.token_kid],
        "assertionMethod": [identity.token_kid, identity.evidence_kid],
        "capabilityInvocation": [identity.token_kid],
        "service": [
            {
                "id": f"{did}#dataservice",
                "type": "DataService",
                "serviceEndpoint": f"{address}/.well-known/dspace-version",
            },
            {"id": f"{did}#catalog", "type": "CatalogService", "serviceEndpoint": f"{address}/dsp/2025-1/catalog"},
            {"id": f"{did}#partner", "type": PARTNER_SERVICE, "serviceEndpoint": address},
        ],
    }


def service_of(document: Mapping[str, Any], kind: str) -> str:
    """The endpoint of the first service entry of a type, empty if there is none."""
    for entry in document.get("service") or ():
        if isinstance(entry, dict) and entry.get("type") == kind and isinstance(entry.get("serviceEndpoint"), str):
            return str(entry["serviceEndpoint"]).rstrip("/")
    return ""


def public_key_of(document: Mapping[str, Any], key_id: str) -> dict[str, Any] | None:
    """The public JWK of a verification method by its id (absolute or ``#fragment``)."""
    for method in document.get("verificationMethod") or ():
        if isinstance(method, dict) and _absolute(document, method.get("id")) == _absolute(document, key_id):
            jwk = method.get("publicKeyJwk")
            return jwk if isinstance(jwk, dict) else None
    return None


def _absolute(document: Mapping[str, Any], key_id: object) -> str:
    text = str(key_id)
    return f"{document.get('id')}{text}" if text.startswith("#") else text


class Resolver:
    """Finds DID documents and keeps them for a while; one that can't be found is not asked for again at once."""

    def __init__(self, http: Http, clock: Clock, settings: ExchangeSettings) -> None:
        self._http = http
        self._clock = clock
        self._settings = settings
        self._own: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, tuple[float, dict[str, Any] | GuantongError]] = {}
        self._asked: dict[str, asyncio.Task[dict[str, Any]]] = {}

    def host(self, document: dict[str, Any]) -> None:
        """Answer for a participant of this node without asking the network."""
        self._own[document["id"]] = document

    def forget(self, did: str) -> None:
        """Ask the network the next time, unless it was asked a moment ago (a flood of bad tokens must not become a flood of requests)."""
        kept = self._kept.get(did)
        if kept is not None:
            asked_at = kept[0] - self._settings.did_cache_s
            if self._clock.monotonic() - asked_at >= self._settings.did_negative_cache_s:
                del self._kept[did]

    async def document(self, did: str) -> dict[str, Any]:
        """The DID document. Raises Refused ``exchange.did-refused`` and Retryable ``exchange.did-unresolved``."""
        own = self._own.get(did)
        if own is not None:
            return own
        kept = self._kept.get(did)
        if kept is not None and kept[0] > self._clock.monotonic():
            if isinstance(kept[1], GuantongError):
                raise kept[1]
            return kept[1]
        task = self._asked.get(did)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(did), name=f"resolve {did}")
            self._asked[did] = task
            task.add_done_callback(lambda _: self._asked.pop(did, None))
        return await asyncio.shield(task)

    async def _ask(self, did: str) -> dict[str, Any]:
        try:
            document = await self._fetch(did)
        except GuantongError as error:
            self._keep(did, self._settings.did_negative_cache_s, error)
            raise
        self._keep(did, self._settings.did_cache_s, document)
        return document

    async def _fetch(self, did: str) -> dict[str, Any]:
        url = did_url(did)
        response = await self._http.request("GET", url, timeout_s=5.0, max_bytes=_MAX_DOCUMENT)
        if response.status != 200:
            raise Retryable("exchange.did-unresolved", did=did, reason=f"{url} answered {response.status}")
        try:
            document = orjson.loads(response.body)
        except orjson.JSONDecodeError as error:
            raise Retryable("exchange.did-unresolved", did=did, reason="its document is not JSON") from error
        if not isinstance(document, dict) or document.get("id") != did:
            raise Refused("exchange.did-refused", did=did, reason="its document names another subject")
        return document

    def _keep(self, did: str, seconds: float, outcome: dict[str, Any] | GuantongError) -> None:
        now = self._clock.monotonic()
        if len(self._kept) >= 4096:
            self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now}
            while len(self._kept) >= 4096:
                self._kept.pop(next(iter(self._kept)))
        self._kept[did] = (now + seconds, outcome)


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
        head = self._heads.get(identity.did)
        if head is None:
            head = b64url(orjson.dumps({"alg": "ES256", "kid": identity.token_kid, "typ": "JWT"}))
            self._heads[identity.did] = head
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
        head, claims, signed, signature = _open(token)
        algorithm = head.get("alg")
        if algorithm not in ("ES256", "EdDSA", "Ed25519"):
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
        jwk = await self._key(issuer, head.get("kid"))
        if not _verify(algorithm, jwk, signed, signature):
            self._resolver.forget(
                issuer
            )  # the key may have been rotated: the next token is checked with a fresh document
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

    async def _key(self, issuer: str, kid: object) -> dict[str, Any]:
        try:
            document = await self._resolver.document(issuer)
        except Retryable as error:
            # not the caller's fault: a refusal would make it give up a message that a lost answer of ours held up
            raise Retryable("exchange.did-unresolved", did=issuer[:200], reason=error.code) from error
        except GuantongError as error:
            raise _refused(f"its issuer can't be resolved ({error.code})") from error
        methods = [method for method in document.get("verificationMethod") or () if isinstance(method, dict)]
        if kid is None:
            if len(methods) != 1:
                raise _refused("it names no key and its issuer has several")
            kid = methods[0].get("id")
        wanted = _absolute(document, kid)
        allowed = {
            _absolute(document, entry.get("id") if isinstance(entry, dict) else entry)
            for entry in document.get("capabilityInvocation") or ()
        }
        if wanted not in allowed:
            raise _refused("its key is not listed for capabilityInvocation")
        jwk = public_key_of(document, wanted)
        if jwk is None:
            raise _refused("its key is not in the issuer's document")
        return jwk

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


def _open(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    if len(token) > _MAX_TOKEN:
        raise _refused("it is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("it is not a compact JWS")
    try:
        head = orjson.loads(unb64url(parts[0]))
        claims = orjson.loads(unb64url(parts[1]))
        signature = unb64url(parts[2])
        signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    except ValueError as error:
        raise _refused("it is not a compact JWS") from error
    if not isinstance(head, dict) or not isinstance(claims, dict) or "crit" in head:
        raise _refused("it is not a compact JWS of claims")
    return head, claims, signed, signature


def _verify(algorithm: str, jwk: Mapping[str, Any], signed: bytes, signature: bytes) -> bool:
    # the key says what it is for: an algorithm of the token's choosing never meets a key of another kind
    if algorithm == "ES256":
        return jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and verify_es256(dict(jwk), signed, signature)
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        return False
    try:
        return verify_ed25519(unb64url(str(jwk.get("x"))), signed, signature)
    except ValueError:
        return False


def _refused(reason: str) -> Refused:
    return Refused("exchange.token-refused", reason=reason)


def same_token(left: str, right: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing."""
    return hmac.compare_digest(left.encode(), right.encode())
