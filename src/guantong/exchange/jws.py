"""Compact JWS (RFC 7515) as this node takes and makes them: ES256 and EdDSA, nothing else, and no header that asks for more.

The key says what it is for: an algorithm of the token's choosing never meets a key of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from guantong.base.canonical import b64url, unb64url
from guantong.base.keys import Ed25519Key, P256Key, verify_ed25519, verify_es256

__all__ = ["ALGORITHMS", "Jws", "opened", "signed", "verified"]

ALGORITHMS = frozenset({"ES256", "EdDSA", "Ed25519"})
"""What is accepted. ``Ed25519`` is the fully specified name of RFC 9864 for what JOSE called ``EdDSA``."""

MAX_TOKEN = 16 * 1024


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart; nothing of it is believed yet."""

    head: Mapping[str, Any]
    claims: Mapping[str, Any]
    content: bytes
    """What the signature is over."""
    signature: bytes

    @property
    def key_id(self) -> str:
        """The header's ``kid``, empty where it has none."""
        kid = self.head.get("kid")
        return kid if isinstance(kid, str) else ""


def opened(token: str, *, limit: int = MAX_TOKEN) -> Jws:
    """A compact JWS taken apart. Raises ValueError with the reason, to be quoted to its sender."""
    if len(token) > limit:
        raise ValueError("it is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("it is not a compact JWS")
    try:
        head = orjson.loads(unb64url(parts[0]))
        claims = orjson.loads(unb64url(parts[1]))
        signature = unb64url(parts[2])
        content = f"{parts[0]}.{parts[1]}".encode("ascii")
    except ValueError as error:
        raise ValueError("it is not a compact JWS") from error
    if not isinstance(head, dict) or not isinstance(claims, dict) or "crit" in head:
        raise ValueError("it is not a compact JWS of claims")
    return Jws(head, claims, content, signature)


def verified(jws: Jws, jwk: Mapping[str, Any]) -> bool:
    """Whether the token was signed by the key, which must be of the kind that its algorithm names."""
    algorithm = jws.head.get("alg")
    if algorithm not in ALGORITHMS:
        return False
    if algorithm == "ES256":
        return (
            jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and verify_es256(dict(jwk), jws.content, jws.signature)
        )
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        return False
    try:
        return verify_ed25519(unb64url(str(jwk.get("x"))), jws.content, jws.signature)
    except ValueError:
        return False


def signed(key: P256Key | Ed25519Key, key_id: str, claims: Mapping[str, Any], *, kind: str = "JWT") -> str:
    """A compact JWS of claims. ``kind`` is the header's ``typ``."""
    algorithm = "ES256" if isinstance(key, P256Key) else "EdDSA"
    head = b64url(orjson.dumps({"alg": algorithm, "kid": key_id, "typ": kind}))
    content = f"{head}.{b64url(orjson.dumps(dict(claims)))}"
    return f"{content}.{b64url(key.sign(content.encode('ascii')))}"
