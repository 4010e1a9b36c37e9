"""Status lists of credentials: a compressed string of bits in which each credential has its place.

Two forms of one idea: BitstringStatusList (VC 2.0; multibase ``u`` and base64url) and StatusList2021 (VC 1.1; base64 or base64url).
Source: W3C Bitstring Status List 1.0, Algorithms; W3C StatusList2021 (draft), Algorithms.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LIST_TYPES", "StatusList", "encoded", "status_list"]

LIST_TYPES: Mapping[str, str] = {
    # type of the credential's entry: type of the list's subject
    "BitstringStatusListEntry": "BitstringStatusList",
    "StatusList2021Entry": "StatusList2021",
}
MAX_BYTES = 2 * 1024 * 1024
"""Largest list unpacked, 16 million credentials: a small body must not become a big one."""


@dataclass(frozen=True, slots=True)
class StatusList:
    """A list as it was fetched; it is believed until ``until``."""

    purposes: tuple[str, ...]
    bits: bytes
    ttl_s: float | None
    """How long its issuer says that it may be kept, seconds."""

    def value(self, index: int, size: int = 1) -> int:
        """The status at an index, ``size`` bits wide; the first bit is the most significant one of the first byte.

        Raises ValueError where the list does not reach so far.
        """
        first = index * size
        if not 0 <= first <= len(self.bits) * 8 - size:
            raise ValueError("the index is not in the list")
        found = 0
        for at in range(first, first + size):
            found = found << 1 | (self.bits[at >> 3] >> (7 - (at & 7)) & 1)
        return found


def status_list(subject: Mapping[str, Any], kind: str) -> StatusList:
    """The list in a status list credential's subject. ``kind`` is a type of :data:`LIST_TYPES`'s values. Raises ValueError."""
    if subject.get("type") != kind:
        raise ValueError(f"it is no {kind}")
    purposes = subject.get("statusPurpose")
    named = tuple(str(one) for one in purposes) if isinstance(purposes, list) else (str(purposes),)
    text = subject.get("encodedList")
    ttl = subject.get("ttl")
    kept = ttl / 1000 if isinstance(ttl, (int, float)) and not isinstance(ttl, bool) and ttl >= 0 else None
    return StatusList(named, _unpacked(text if isinstance(text, str) else ""), kept)


def _unpacked(text: str) -> bytes:
    # both forms occur with and without the multibase prefix: a gzip member begins with H4sI in base64 of either alphabet
    packed_text = text[1:] if text.startswith("uH4s") else text
    packed_text = packed_text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        packed = base64.urlsafe_b64decode(packed_text + "=" * (-len(packed_text) % 4))
        unpacking = zlib.decompressobj(wbits=31)
        bits = unpacking.decompress(packed, MAX_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ValueError("its encodedList can't be unpacked") from error
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError("its encodedList is too large or cut short")
    return bits


def encoded(set_bits: set[int], *, size: int = 131_072) -> str:
    """The ``encodedList`` of a BitstringStatusList of ``size`` bits in which these are set. Source: Bitstring Status List, Bitstring Encoding.

    131,072 is the least size that hides which credential is asked about.
    """
    bits = bytearray(max(size, (max(set_bits, default=0) // 8 + 1) * 8) // 8)
    for index in set_bits:
        bits[index >> 3] |= 1 << (7 - (index & 7))
    return "u" + base64.urlsafe_b64encode(gzip.compress(bytes(bits), mtime=0)).rstrip(b"=").decode("ascii")
