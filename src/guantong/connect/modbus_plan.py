"""Which registers are asked for together, and what the words in them mean. Pure: no network, no clock.

Neighbouring registers are joined to one request, over at most ``skip`` unwanted ones, up to ``block`` in all (a device may take fewer
than the 125 registers and 2,000 bits that the protocol allows). Source: Modbus Application Protocol V1.1b3, 6.1-6.4; AID 1.1 with
``modv_`` terms.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guantong.base.errors import ConfigProblem
from guantong.connect.model import Interface, Property
from guantong.connect.rules import address_parts, digits_in

__all__ = ["ENTITIES", "Block", "Item", "address", "blocks", "item_of", "value_of"]

ENTITIES = {"coil": 1, "discreteinput": 2, "holdingregister": 3, "inputregister": 4}
"""What can be read, by the function code that reads it."""
_FUNCTIONS = {"readcoil": 1, "readcoils": 1, "readdiscreteinput": 2, "readholdingregisters": 3, "readinputregisters": 4}
_TYPES: dict[str, tuple[int, str]] = {
    "byte": (1, "b"),
    "unsignedbyte": (1, "B"),
    "short": (1, "h"),
    "unsignedshort": (1, "H"),
    "int": (2, "i"),
    "unsignedint": (2, "I"),
    "long": (4, "q"),
    "unsignedlong": (4, "Q"),
    "float": (2, "f"),
    "double": (4, "d"),
}
"""Registers and struct code of the XML Schema types."""
_BY_SIZE = {
    False: {1: "unsignedshort", 2: "unsignedint", 4: "unsignedlong"},
    True: {1: "short", 2: "float", 4: "double"},
}
_TOP = {1: 2_000, 2: 2_000, 3: 125, 4: 125}
_HREF = re.compile(r"(?:(\d{1,3})/)?(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Item:
    """One signal: where it stands and what it means."""

    key: str
    unit: int
    function: int
    start: int
    """Address from 0."""
    count: int
    type: str
    high_byte_first: bool = True
    high_word_first: bool = True
    scale: float | None = None
    offset: float | None = None
    bit: int | None = None
    every_ms: int = 1_000

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Block:
    """One request and the items that its reply holds."""

    unit: int
    function: int
    start: int
    count: int
    items: tuple[Item, ...]


def address(base: str) -> tuple[str, int, int]:
    """Host, port and unit of ``modbus+tcp://host:502/1/``. Raises ConfigProblem ``connect.address-unusable``."""
    parts = address_parts(base)
    unit = parts.path.strip("/") or "1"
    port = parts.port or 502
    if (
        parts.scheme != "modbus+tcp"
        or not parts.hostname
        or not port
        or (digits_in(unit, 3) or 0) > 255
        or digits_in(unit, 3) is None
    ):
        raise ConfigProblem("connect.address-unusable", base=base, reason="modbus+tcp://host:502/1/ is expected")
    return parts.hostname, port, int(unit)


def item_of(item: Property, interface: Interface) -> Item | None:
    """What to read for a property; None for one that only writes. Raises ConfigProblem ``connect.address-unusable``."""
    _, _, unit = address(interface.base)
    form = item.form
    href = form.href if form is not None else item.key
    terms = {**dict(interface.terms), **dict(form.terms if form is not None else ())}
    if "://" in href:
        parts = address_parts(href)
        unit_text, _, place = parts.path.strip("/").rpartition("/")
        path, query = f"{unit_text}/{place}" if unit_text else place, parts.query
    else:
        path, _, query = href.strip("/").partition("?")
    match = _HREF.fullmatch(path)
    if match is None:
        raise ConfigProblem("connect.address-unusable", base=href[:200], reason="a register address is expected")
    if match[1]:
        unit = int(match[1])
    function_name = terms.get("modv_function", "").strip().lower()
    if function_name.startswith("write") or function_name == "readdeviceidentification":
        return None
    entity = terms.get("modv_entity", "").replace(" ", "").lower()
    function = _FUNCTIONS.get(function_name) or ENTITIES.get(entity) or 3
    asked = dict(piece.partition("=")[::2] for piece in query.split("&"))
    quantity = asked.get("quantity") or asked.get("length")
    kind = terms.get("modv_type", "").strip().lower().rpartition(":")[2]
    bit = item.term("bit")
    asked_for = digits_in(quantity, 5)
    count = asked_for if asked_for is not None else _TYPES[kind][0] if kind in _TYPES else 1
    if function <= 2:
        kind, count = "boolean", 1
    elif bit is not None:
        kind = "boolean"
    elif kind not in _TYPES and kind not in ("string", "boolean", "hexbinary"):
        kind = "string" if item.type == "string" else _BY_SIZE[item.type == "number"].get(count, "hexbinary")
    elif kind in _TYPES and quantity and count != _TYPES[kind][0]:
        # quantity wins over the type: an int in one register is a short
        letter = "unsigned" if kind.startswith("unsigned") else ""
        kind = letter + {
            1: "short",
            2: "float" if kind in ("float", "double") else "int",
            4: "double" if kind in ("float", "double") else "long",
        }.get(count, "hexbinary")
    start = int(match[2]) - (
        0 if _true(terms.get("modv_zeroBasedAddressing", terms.get("zero_based")), default=True) else 1
    )
    if not 0 <= start <= 65_535 or not 1 <= count <= 125 or start + count > 65_536:
        raise ConfigProblem(
            "connect.address-unusable", base=href[:200], reason="a register between 0 and 65535 is expected"
        )
    polling = terms.get("modv_pollingTime") or interface.term("interval_ms")
    period = _number(polling)
    return Item(
        item.key,
        unit,
        function,
        start,
        count,
        kind,
        _true(terms.get("modv_mostSignificantByte"), default=True),
        _true(terms.get("modv_mostSignificantWord"), default=True),
        _number(item.term("scale")),
        _number(item.term("offset")),
        digits_in(bit, 2),
        min(max(10, int(period)), 86_400_000) if period is not None and math.isfinite(period) else 1_000,
    )


def _true(text: str | None, *, default: bool) -> bool:
    return default if text is None or not text.strip() else text.strip().lower() in ("true", "1")


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise ConfigProblem("connect.address-unusable", base=str(text)[:50], reason="a number is expected") from error


def blocks(items: Iterable[Item], *, most: int = 125, skip: int = 8) -> list[Block]:
    """Requests that read all items, neighbours together. An item is never cut in two."""
    found: list[Block] = []
    for item in sorted(items, key=lambda one: (one.unit, one.function, one.start, one.end)):
        top = min(most if item.function > 2 else max(most, 16), _TOP[item.function])
        last = found[-1] if found else None
        if last is not None and (last.unit, last.function) == (item.unit, item.function):
            end = max(last.start + last.count, item.end)
            if item.start - (last.start + last.count) <= skip and end - last.start <= top:
                found[-1] = Block(last.unit, last.function, last.start, end - last.start, (*last.items, item))
                continue
        found.append(Block(item.unit, item.function, item.start, item.count, (item,)))
    return found


def value_of(item: Item, words: Sequence[int]) -> tuple[float | int | str | bool | None, str | None]:
    """The value of an item's registers (or its bit), or None and why not (QUARANTINE_REASONS)."""
    if item.function <= 2:
        return bool(words[0]), None
    if item.bit is not None:
        return bool(words[item.bit // 16] >> (item.bit % 16) & 1) if item.bit // 16 < len(words) else None, None
    if item.type == "boolean":
        return any(words), None
    ordered = words if item.high_word_first else list(reversed(words))
    raw = b"".join(struct.pack(">H" if item.high_byte_first else "<H", word) for word in ordered)
    if item.type == "string":
        raw = b"".join(struct.pack(">H" if item.high_byte_first else "<H", word) for word in words)
        return raw.split(b"\0")[0].decode("utf-8", "replace").rstrip(), None
    if item.type not in _TYPES:
        return raw.hex(), None
    code = _TYPES[item.type][1]
    value = struct.unpack(">" + code, raw[-struct.calcsize(code) :])[0]
    if isinstance(value, float) and not math.isfinite(value):
        return None, "not-finite"
    if item.scale is not None or item.offset is not None:
        value = value * (1.0 if item.scale is None else item.scale) + (item.offset or 0.0)
    return (value if not isinstance(value, int) or value < 1 << 63 else str(value)), None
