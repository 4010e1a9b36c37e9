"""The one owner of canonical bytes: whatever is signed or hashed passes through here.

Source: RFC 8785 (JSON Canonicalization Scheme). Integers beyond ±(2^53−1), NaN and infinities have no canonical form.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import rfc8785

from guantong.base.errors import Skippable

__all__ = ["b64", "b64url", "canonical_bytes", "digest", "sha256", "unb64", "unb64url"]


def canonical_bytes(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value (dict with text keys, list, text, int, float, bool, None).

    Raises Skippable ``base.not-canonical``.
    """
    if _alike(value):
        try:
            return _quick(value)
        except (UnicodeEncodeError, RecursionError, TypeError):
            pass  # a lone surrogate or too deep: let the reference say what is wrong
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, TypeError, UnicodeEncodeError) as error:
        raise Skippable("base.not-canonical", reason=str(error) or type(error).__name__) from error


_LARGEST = 2**53 - 1
_SAME = frozenset((str, bool, type(None), int))
_KINDS = _SAME | {dict, list}

try:
    import orjson
except ImportError:  # the stranger's verifier runs without it
    _TEXT = json.JSONEncoder(
        ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode

    def _quick(value: Any) -> bytes:
        return _TEXT(value).encode("utf-8")

    def _in_range(parts: Iterable[Any]) -> bool:
        return all(-_LARGEST <= part <= _LARGEST for part in parts if type(part) is int)
else:

    def _quick(value: Any) -> bytes:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)

    def _in_range(parts: Iterable[Any]) -> bool:
        return True  # the encoder refuses integers out of range itself


_KNOWN_KEYS: set[tuple[str, ...]] = set()
"""Keys of objects that were found to be ASCII texts: records come in few shapes, and one look is enough for each."""
_MOST_KEYS, _MOST_MEMBERS, _MOST_LETTERS = 1024, 64, 2048


def _plain_keys(item: dict[Any, Any]) -> bool:
    keys = tuple(item)
    if keys in _KNOWN_KEYS:
        return True
    if set(map(type, keys)) != {str}:
        return False
    joined = "".join(keys)
    if not joined.isascii():
        return False
    if len(keys) <= _MOST_MEMBERS and len(joined) <= _MOST_LETTERS:
        if len(_KNOWN_KEYS) >= _MOST_KEYS:
            _KNOWN_KEYS.clear()
        _KNOWN_KEYS.add(keys)
    return True


def _alike(value: Any) -> bool:
    """Whether orjson and the standard library's encoder write the very bytes of RFC 8785.

    No floats (their notation differs), no integer out of range, ASCII keys only
    (UTF-8 and UTF-16 order differ beyond), no subclasses. The test compares both on generated values.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind is dict:
            if item and not _plain_keys(item):
                return False
            parts = item.values()
        elif kind is list:
            parts = item
        else:
            parts = (item,)
        # by the kinds that occur, not value by value: a usage record has thirty values of three kinds
        kinds = set(map(type, parts))
        if int in kinds and not _in_range(parts):
            return False
        if kinds <= _SAME:
            continue
        if not kinds <= _KINDS:
            return False
        waiting += [part for part in parts if type(part) is dict or type(part) is list]
    return True


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
