"""Public keys as multibase text, as a did:key carries them. Source: Controlled Identifiers 1.0, Multikey; did:key method, Ed25519 and P-256."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from guantong.base.canonical import b64url, unb64url
from guantong.base.keys import verify_ed25519, verify_es256

__all__ = ["jwk_of_multibase", "multibase_of", "verify_jwk"]

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def jwk_of_multibase(text: str) -> dict[str, Any] | None:
    """The JWK of a multibase (base58btc) multikey of Ed25519 or P-256, None where it is none."""
    if not text.startswith("z") or len(text) > 100:
        return None
    number = 0
    for letter in text[1:]:
        value = _BASE58.find(letter)
        if value < 0:
            return None
        number = number * 58 + value
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if raw[:2] == b"\xed\x01" and len(raw) == 34:
        return {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw[2:])}
    if raw[:2] == b"\x80\x24" and len(raw) == 35:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw[2:]).public_numbers()
        except ValueError:
            return None
        x, y = (b64url(value.to_bytes(32, "big")) for value in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    return None


def multibase_of(jwk: Mapping[str, Any]) -> str:
    """The inverse. ValueError for a key of another kind."""
    if jwk.get("crv") == "Ed25519":
        raw = b"\xed\x01" + unb64url(str(jwk["x"]))
    elif jwk.get("crv") == "P-256":
        y = unb64url(str(jwk["y"]))
        raw = b"\x80\x24" + (b"\x03" if y[-1] & 1 else b"\x02") + unb64url(str(jwk["x"]))
    else:
        raise ValueError("only Ed25519 and P-256 keys have a form here")
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, at = divmod(number, 58)
        text = _BASE58[at] + text
    return "z" + text


def verify_jwk(jwk: Mapping[str, Any], message: bytes, signature: bytes) -> bool:
    """Whether the signature (64 bytes, r || s for P-256) is by the key, by the one algorithm that its kind has."""
    if jwk.get("crv") == "Ed25519":
        return verify_ed25519(unb64url(str(jwk["x"])), message, signature)
    return jwk.get("crv") == "P-256" and verify_es256(dict(jwk), message, signature)
