"""DID documents: where they are (did:web), what they say, and those that are their own document (did:key).

Source: did:web method specification; did:key method, Ed25519 and P-256; Decentralized Identifiers 1.0, Verification Methods.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from guantong.base.clock import Clock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.multikey import jwk_of_multibase
from guantong.base.wire import Http
from guantong.exchange.model import ExchangeSettings

__all__ = [
    "Resolver",
    "did_key",
    "did_of",
    "did_url",
    "jwk_of_multibase",
    "key_for",
    "listed",
    "public_key_of",
    "service_of",
]

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_DOCUMENT = 256 * 1024
_REFRESHES = 32.0


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
            "exchange.did-refused",
            did=did[:200],
            reason="only did:web and did:key of at most 200 characters are understood",
        )
    host, *path = (unquote(part) for part in did[8:].split(":"))
    if not _HOST.fullmatch(host) or any(
        not re.fullmatch(r"[A-Za-z0-9._~-]+", part) or part in (".", "..") for part in path
    ):
        raise Refused("exchange.did-refused", did=did[:200], reason="it is not a well-formed did:web")
    bare = (urlsplit("//" + host).hostname or "").lower()
    scheme = "http" if bare in _LOOPBACK else "https"
    return f"{scheme}://{host}/" + ("/".join(path) if path else ".well-known") + "/did.json"


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
            if isinstance(jwk, dict):
                return jwk
            text = method.get("publicKeyMultibase")
            return jwk_of_multibase(text) if isinstance(text, str) else None
    return None


_RELATIONS = ("authentication", "assertionMethod", "capabilityInvocation", "capabilityDelegation", "keyAgreement")


def listed(document: Mapping[str, Any], relation: str, key_id: str) -> bool:
    """Whether a document lets a verification method act in a relation (``authentication``, ``assertionMethod`` …).

    A document that lists no relation at all (identity hubs and conformance kits in use publish such) lets its own methods do everything;
    as soon as it lists one, only what is listed counts.
    """
    wanted = _absolute(document, key_id)
    if not any(document.get(name) for name in _RELATIONS):
        return public_key_of(document, wanted) is not None
    return wanted in {
        _absolute(document, entry.get("id") if isinstance(entry, dict) else entry)
        for entry in document.get(relation) or ()
    }


def key_for(document: Mapping[str, Any], relation: str, key_id: str) -> dict[str, Any]:
    """The public JWK by which the subject of a document may act in a relation. Raises ValueError with the reason.

    Without a key id the subject must have exactly one verification method. Source: DCP 1.0, Validating Self-Issued ID Tokens.
    """
    methods = [method for method in document.get("verificationMethod") or () if isinstance(method, dict)]
    if not key_id or key_id == document.get("id"):
        if len(methods) != 1:
            raise ValueError("it names no key and its issuer has several")
        key_id = str(methods[0].get("id"))
    if not listed(document, relation, key_id):
        raise ValueError(f"its key is not listed for {relation}")
    jwk = public_key_of(document, key_id)
    if jwk is None:
        raise ValueError("its key is not in the issuer's document")
    return jwk


def did_key(did: str) -> dict[str, Any]:
    """The document of a did:key, which is the key itself. Raises Refused ``exchange.did-refused``."""
    text = did.removeprefix("did:key:")
    jwk = jwk_of_multibase(text)
    if jwk is None:
        raise Refused("exchange.did-refused", did=did[:200], reason="it is no did:key of Ed25519 or P-256")
    key_id = f"{did}#{text}"
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "verificationMethod": [{"id": key_id, "type": "JsonWebKey2020", "controller": did, "publicKeyJwk": jwk}],
        "authentication": [key_id],
        "assertionMethod": [key_id],
        "capabilityInvocation": [key_id],
    }


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
        self._refreshes: dict[str, tuple[float, float]] = {}

    def host(self, document: dict[str, Any]) -> None:
        """Answer for a participant of this node without asking the network."""
        self._own[document["id"]] = document

    async def fresh(self, did: str) -> dict[str, Any] | None:
        """The document asked for anew, because a key is not in the one we hold or is another there; None where that was done too often of late.

        A subject may rotate its keys at any time, but made-up key ids must not become a flood of requests: 32 at once, then one in
        ``did_negative_cache_s``.
        """
        now = self._clock.monotonic()
        left, at = self._refreshes.get(did, (_REFRESHES, now))
        left = min(_REFRESHES, left + (now - at) / max(self._settings.did_negative_cache_s, 0.001))
        if did in self._own or left < 1:
            return None
        if len(self._refreshes) >= 4096:
            self._refreshes.pop(next(iter(self._refreshes)))
        self._refreshes[did] = (left - 1, now)
        self._kept.pop(did, None)
        return await self.document(did)

    async def key(self, did: str, relation: str, key_id: str) -> dict[str, Any]:
        """The public JWK by which a subject acts in a relation. Raises ValueError with the reason, else as :meth:`document` does."""
        try:
            return key_for(await self.document(did), relation, key_id)
        except ValueError:
            document = await self.fresh(did)
            if document is None:
                raise
            return key_for(document, relation, key_id)

    async def document(self, did: str) -> dict[str, Any]:
        """The DID document. Raises Refused ``exchange.did-refused`` and Retryable ``exchange.did-unresolved``."""
        own = self._own.get(did)
        if own is not None:
            return own
        if did.startswith("did:key:"):
            return did_key(did)
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
