"""The one owner of canonical bytes: whatever is signed or hashed passes through here.

Source: RFC 8785 (JSON Canonicalization Scheme). Integers beyond ±(2^53−1), NaN and infinities have no canonical form.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import rfc8785

from guantong.base.errors import Skippable

__all__ = ["b64", "b64url", "canonical_bytes", "digest", "sha256", "unb64", "unb64url"]


def canonical_bytes(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value (dict with text keys, list, text, int, float, bool, None).

    Raises Skippable ``base.not-canonical``.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, TypeError, UnicodeEncodeError) as error:
        raise Skippable("base.not-canonical", reason=str(error) or type(error).__name__) from error


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def digest(value: Any) -> str:
    """``sha256:`` and the lower-case hex SHA-256 of a JSON value's canonical bytes."""
    return "sha256:" + hashlib.sha256(canonical_bytes(value)).hexdigest()


def b64(data: bytes) -> str:
    """RFC 4648 section 4, with padding."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    """Strict RFC 4648 section 4: no other characters, canonical padding bits; ValueError otherwise."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode("ascii") != text:
        raise ValueError("base64 is not canonical")
    return data


def b64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """RFC 4648 section 5 without padding, strict; ValueError otherwise."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if b64url(data) != text:
        raise ValueError("base64url is not canonical")
    return data
