"""A reader and writer of the few DER shapes that time-stamp tokens need (ITU-T X.690). Whatever has two spellings is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "BOOLEAN",
    "INTEGER",
    "OCTETS",
    "OID",
    "SEQUENCE",
    "SET",
    "TIME",
    "Value",
    "children",
    "encode",
    "integer",
    "oid",
    "one",
]

BOOLEAN, INTEGER, OCTETS, OID, TIME, SEQUENCE, SET = 0x01, 0x02, 0x04, 0x06, 0x18, 0x30, 0x31


class Value(NamedTuple):
    """One value: tag, content, and the whole with tag and length."""

    tag: int
    content: bytes
    whole: bytes


def children(data: bytes) -> Iterator[Value]:
    """The values one after another. Raises ValueError for indefinite, long or cut lengths."""
    at = 0
    while at < len(data):
        start = at
        if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
            raise ValueError("DER is cut off or has a long tag")
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            if not 1 <= count <= 4 or at + count > len(data) or size < (0x80 if count == 1 else 1 << (8 * count - 8)):
                raise ValueError("a DER length has another form")
            at += count
        if at + size > len(data):
            raise ValueError("DER is cut off")
        yield Value(tag, data[at : at + size], data[start : at + size])
        at += size


def one(data: bytes, tag: int) -> Value:
    """The single value that the bytes are, which must have this tag."""
    found = list(children(data))
    if len(found) != 1 or found[0].tag != tag:
        raise ValueError(f"one DER value with tag {tag:#04x} is wanted")
    return found[0]


def encode(tag: int, *parts: bytes) -> bytes:
    """A value from its content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray([40 * first + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return encode(OID, bytes(content))
