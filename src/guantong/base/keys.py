"""Signing keys as values: Ed25519 for evidence and receipts, P-256 for identity tokens (ES256), with their JWK and multibase forms.

Private keys never leave these objects except as the bytes that ``node`` stores; ``repr`` shows the public half only.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from guantong.base.canonical import b64url, unb64url

__all__ = ["Ed25519Key", "P256Key", "verify_ed25519", "verify_es256"]


_ES256 = ec.ECDSA(hashes.SHA256())


class Ed25519Key:
    """An Ed25519 key pair (RFC 8032)."""

    def __init__(self, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)

    @classmethod
    def generate(cls) -> Ed25519Key:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def private_bytes(self) -> bytes:
        """The secret, 32 bytes; only the key store asks for it."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Signature, 64 bytes."""
        return self._private.sign(message)

    @cached_property
    def jwk(self) -> dict[str, str]:
        """Public JWK (RFC 8037)."""
        return {"kty": "OKP", "crv": "Ed25519", "x": b64url(self.public)}

    def __repr__(self) -> str:
        return f"Ed25519Key({self.public.hex()[:16]}…)"


class P256Key:
    """A NIST P-256 key pair for ES256 (RFC 7518, 3.4)."""

    def __init__(self, private: bytes) -> None:
        self._private = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())

    @classmethod
    def generate(cls) -> P256Key:
        """A new key from the system's randomness."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key.private_numbers().private_value.to_bytes(32, "big"))

    def private_bytes(self) -> bytes:
        """The secret, 32 bytes; only the key store asks for it."""
        return self._private.private_numbers().private_value.to_bytes(32, "big")

    @cached_property
    def jwk(self) -> dict[str, str]:
        """Public JWK."""
        numbers = self._private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": b64url(numbers.x.to_bytes(32, "big")),
            "y": b64url(numbers.y.to_bytes(32, "big")),
        }

    def sign(self, message: bytes) -> bytes:
        """Signature as r || s, 64 bytes."""
        r, s = decode_dss_signature(self._private.sign(message, _ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"P256Key({self.jwk['x'][:16]}…)"


# reading a key costs as much as checking a signature with it, and partners sign with the same few keys all day


@lru_cache(1024)
def _ed25519(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


@lru_cache(1024)
def _p256(x: str, y: str) -> ec.EllipticCurvePublicKey:
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(unb64url(x), "big"), int.from_bytes(unb64url(y), "big"), ec.SECP256R1()
    )
    return numbers.public_key()


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the 64-byte signature of ``message`` is by the 32-byte public key."""
    try:
        _ed25519(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_es256(jwk: dict[str, Any], message: bytes, signature: bytes) -> bool:
    """Whether the 64-byte r || s signature of ``message`` is by the P-256 key of the JWK."""
    try:
        public = _p256(jwk["x"], jwk["y"])
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        public.verify(encode_dss_signature(r, s), message, _ES256)
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True


def der_public(key: Ed25519Key) -> bytes:
    """SubjectPublicKeyInfo in DER, for tools that want it."""
    return key._private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
