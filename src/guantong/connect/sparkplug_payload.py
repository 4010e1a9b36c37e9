"""The payload of Sparkplug B in protobuf wire format: read whole, read as columns, written.

Two readers give the same values. :func:`read_payload` takes one payload apart with everything it may hold (births, templates, data
sets). :func:`read_columns` takes the metrics of many data messages at once: it walks all metrics in step, a field at a time, in numpy
arrays, and leaves what is not a plain value to the other. Integers are kept as the bits they came in; what they mean is said by the
data type, which data messages leave out and births give.
Source: Sparkplug 3.0.0, 6.4 (payload definition), 6.4.16 (signed integers in unsigned fields); Protocol Buffers encoding.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.clock import iso
from guantong.base.errors import Skippable

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "INTEGERS",
    "TYPES",
    "Columns",
    "Metric",
    "Payload",
    "outline",
    "read_columns",
    "read_metric",
    "read_payload",
    "value_of",
    "write_payload",
]

TYPES: tuple[str, ...] = (
    "Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean", "String",
    "DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList", "Int8Array", "Int16Array",
    "Int32Array", "Int64Array", "UInt8Array", "UInt16Array", "UInt32Array", "UInt64Array", "FloatArray", "DoubleArray", "BooleanArray",
    "StringArray", "DateTimeArray",
)  # fmt: skip
"""Names of the data types, by number (6.4.16)."""

INTEGERS: dict[int, tuple[int, bool]] = {
    1: (8, True), 2: (16, True), 3: (32, True), 4: (64, True), 5: (8, False), 6: (16, False), 7: (32, False), 8: (64, False),
}  # fmt: skip
"""Bits and sign of the integer types."""

_ARRAYS = {22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "q"}
_FLOAT, _DOUBLE, _BOOLEAN, _STRING, _DATETIME = 9, 10, 11, 12, 13
_MAX_DEPTH = 8
_MAX_METRICS = 200_000

Fields = list[tuple[int, Any]]


@dataclass(slots=True)
class Metric:
    """One metric as it stands in a payload. ``value`` is what the field holds; its meaning is :func:`value_of`'s."""

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    """Milliseconds since the epoch."""
    datatype: int | None = None
    historical: bool = False
    transient: bool = False
    null: bool = False
    properties: dict[str, Any] = field(default_factory=dict)
    value: Any = None


@dataclass(slots=True)
class Payload:
    """One message's payload."""

    timestamp: int | None = None
    seq: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Where each metric stands in the bytes; :func:`outline` fills this and leaves ``metrics`` empty."""


def _bad(reason: str) -> Skippable:
    return Skippable("connect.document-unreadable", name="Sparkplug payload", reason=reason)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            break
    raise _bad(f"a number does not end at byte {at}")


def _walk(data: bytes, at: int, end: int) -> Iterable[tuple[int, int, Any, int]]:
    """Fields of a message: number, wire type, value (for type 2 its beginning), end."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _bad(f"field 0 at byte {at}")
        if wire == 0:
            value, at = _varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == 2:
            size, at = _varint(data, at, end)
        elif wire == 1:
            size = 8
        elif wire == 5:
            size = 4
        else:
            raise _bad(f"wire type {wire} at byte {at}")
        start, at = at, at + size
        if at > end:
            raise _bad(f"a field of {size} bytes at byte {start} goes beyond the end")
        yield number, wire, start, at


def outline(data: bytes) -> Payload:
    """Time and number of a payload, and where its metrics stand; the metrics are not read. Raises Skippable."""
    found = Payload()
    at, end = 0, len(data)
    spans = found.spans
    while at < end:
        # metrics of less than 128 bytes are what nearly all messages consist of
        if data[at] == 0x12 and at + 1 < end and data[at + 1] < 0x80:
            start = at + 2
            at = start + data[at + 1]
            if at > end:
                raise _bad(f"a metric at byte {start} goes beyond the end")
            spans.append((start, at))
            continue
        for number, wire, value, after in _walk(data, at, end):
            at = after
            if number == 2 and wire == 2:
                spans.append((value, after))
            elif number == 1 and wire == 0:
                found.timestamp = value
            elif number == 3 and wire == 0:
                found.seq = value
            break
    if len(spans) > _MAX_METRICS:
        raise _bad("too many metrics")
    return found


def read_payload(data: bytes) -> Payload:
    """A payload with all it holds. Raises Skippable ``connect.document-unreadable``."""
    found = outline(data)
    found.metrics = [read_metric(data, start, end) for start, end in found.spans]
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad("a text is not UTF-8") from error


def read_metric(data: bytes, start: int, end: int, depth: int = 0) -> Metric:
    """One metric, of which the bytes are given. Raises Skippable."""
    if depth > _MAX_DEPTH:
        raise _bad("nested too deeply")
    found = Metric()
    for number, wire, value, after in _walk(data, start, end):
        if wire == 0:
            if number == 2:
                found.alias = value
            elif number == 3:
                found.timestamp = value
            elif number == 4:
                found.datatype = value & 0xFFFFFFFF
            elif number == 5:
                found.historical = bool(value)
            elif number == 6:
                found.transient = bool(value)
            elif number == 7:
                found.null = bool(value)
            elif number in (10, 11):
                found.value = value
            elif number == 14:
                found.value = bool(value)
        elif wire == 5 and number == 12:
            found.value = struct.unpack_from("<f", data, value)[0]
        elif wire == 1 and number == 13:
            found.value = struct.unpack_from("<d", data, value)[0]
        elif wire == 2:
            if number == 1:
                found.name = _text(data[value:after])
            elif number == 9:
                found.properties = _properties(data, value, after, depth + 1)
            elif number == 15:
                found.value = _text(data[value:after])
            elif number == 16:
                found.value = data[value:after]
            elif number == 17:
                found.value = _data_set(data, value, after)
            elif number == 18:
                found.value = _template(data, value, after, depth + 1)
    return found


def _scalars(data: bytes, start: int, end: int, first: int) -> tuple[Any, Fields]:
    """The value among six consecutive fields from ``first`` (int, long, float, double, boolean, string), and the other fields."""
    value: Any = None
    others: Fields = []
    for number, wire, found, after in _walk(data, start, end):
        place = number - first
        if wire == 0 and place in (0, 1):
            value = found
        elif wire == 0 and place == 4:
            value = bool(found)
        elif wire == 5 and place == 2:
            value = struct.unpack_from("<f", data, found)[0]
        elif wire == 1 and place == 3:
            value = struct.unpack_from("<d", data, found)[0]
        elif wire == 2 and place == 5:
            value = _text(data[found:after])
        else:
            others.append((number, found if wire == 0 else data[found:after]))
    return value, others


def _properties(data: bytes, start: int, end: int, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise _bad("nested too deeply")
    keys: list[str] = []
    values: list[Any] = []
    for number, wire, found, after in _walk(data, start, end):
        if wire != 2:
            continue
        if number == 1:
            keys.append(_text(data[found:after]))
        elif number == 2:
            value, others = _scalars(data, found, after, 3)
            kinds = dict(others)
            if isinstance(kinds.get(9), bytes):
                value = _properties(kinds[9], 0, len(kinds[9]), depth + 1)
            elif isinstance(kinds.get(10), bytes):
                inner = kinds[10]
                value = [
                    _properties(inner, begin, stop, depth + 1)
                    for number_, wire_, begin, stop in _walk(inner, 0, len(inner))
                    if number_ == 1 and wire_ == 2
                ]
            elif isinstance(value, int) and not isinstance(value, bool) and isinstance(kinds.get(1), int):
                value = _signed(value, kinds[1])
            values.append(None if kinds.get(2) else value)
    return dict(zip(keys, values, strict=False))


def _signed(value: int, datatype: int) -> int:
    bits, sign = INTEGERS.get(datatype, (64, False))
    value &= (1 << bits) - 1
    return value - (1 << bits) if sign and value >> (bits - 1) else value


def _data_set(data: bytes, start: int, end: int) -> dict[str, Any]:
    names: list[str] = []
    types: list[int] = []
    rows: list[list[Any]] = []
    for number, wire, found, after in _walk(data, start, end):
        if number == 2 and wire == 2:
            names.append(_text(data[found:after]))
        elif number == 3 and wire == 0:
            types.append(found)
        elif number == 3 and wire == 2:  # packed
            at = found
            while at < after:
                kind, at = _varint(data, at, after)
                types.append(kind)
        elif number == 4 and wire == 2:
            rows.append(
                [
                    _scalars(data, begin, stop, 1)[0]
                    for number_, wire_, begin, stop in _walk(data, found, after)
                    if number_ == 1 and wire_ == 2
                ]
            )
    plain = [
        [
            None if cell is None else value_of(cell, kind)[0] if kind in INTEGERS or kind == _DATETIME else cell
            for cell, kind in zip(row, types + [0] * (len(row) - len(types)), strict=False)
        ]
        for row in rows
    ]
    return {
        "columns": names,
        "types": [TYPES[kind] if kind < len(TYPES) else str(kind) for kind in types],
        "rows": plain,
    }


def _template(data: bytes, start: int, end: int, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"metrics": {}}
    for number, wire, found, after in _walk(data, start, end):
        if number == 1 and wire == 2:
            made["version"] = _text(data[found:after])
        elif number == 2 and wire == 2:
            metric = read_metric(data, found, after, depth)
            value = None if metric.null else value_of(metric.value, metric.datatype or 0)[0]
            made["metrics"][metric.name or str(metric.alias)] = (
                orjson.loads(str(value)) if _is_document(metric) else value
            )
        elif number == 3 and wire == 2:
            value, others = _scalars(data, found, after, 3)
            name = next((item for kind, item in others if kind == 1 and isinstance(item, bytes)), b"")
            kind = next((item for kind, item in others if kind == 2 and isinstance(item, int)), 0)
            made.setdefault("parameters", {})[_text(name)] = None if value is None else value_of(value, kind)[0]
        elif number == 4 and wire == 2:
            made["template"] = _text(data[found:after])
        elif number == 5 and wire == 0:
            made["definition"] = bool(found)
    return made


def _is_document(metric: Metric) -> bool:
    return isinstance(metric.value, dict) and not metric.null


def value_of(value: Any, datatype: int) -> tuple[float | int | str | bool | None, str | None]:
    """What a field's content means by its data type, in one of our types, or None and why not (QUARANTINE_REASONS).

    Unsigned numbers beyond int64 become text, as do data sets, templates, bytes and arrays (JSON, or hexadecimal digits); a time is
    written in RFC 3339.
    """
    if value is None:
        return None, None
    if isinstance(value, bool):
        return value, None
    if isinstance(value, int):
        if datatype == _BOOLEAN:
            return bool(value), None
        if datatype == _DATETIME:
            return (iso(value * 1_000_000, digits=3) if value < 1 << 43 else str(value)), None
        number = _signed(value, datatype) if datatype in INTEGERS else value
        if datatype in (_FLOAT, _DOUBLE):
            return float(number), None
        return (number if -(1 << 63) <= number < 1 << 63 else str(number)), None
    if isinstance(value, float):
        return (value, None) if math.isfinite(value) else (None, "not-finite")
    if isinstance(value, str):
        return value, None
    if isinstance(value, bytes):
        return (_array(value, datatype) if datatype >= 22 else value.hex()), None
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode(), None


def _array(data: bytes, datatype: int) -> str:
    """An array type as JSON (6.4.16, packed little-endian; booleans as bits after a count, texts ended by zero)."""
    if datatype in _ARRAYS:
        code = _ARRAYS[datatype]
        count = len(data) // struct.calcsize(code)
        numbers = struct.unpack_from(f"<{count}{code}", data)
        return orjson.dumps(
            [number if not isinstance(number, float) or math.isfinite(number) else None for number in numbers]
        ).decode()
    if datatype == 32 and len(data) >= 4:
        count = min(struct.unpack_from("<I", data)[0], 8 * (len(data) - 4))
        return orjson.dumps([bool(data[4 + place // 8] >> (7 - place % 8) & 1) for place in range(count)]).decode()
    if datatype == 33:
        return orjson.dumps([piece.decode("utf-8", "replace") for piece in data.split(b"\0")[:-1]]).decode()
    return data.hex()


# many metrics at once ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Columns:
    """The metrics of many payloads, a column for each field. Times in milliseconds; -1 stands for none."""

    alias: np.ndarray
    """int64; -1 where the metric has none."""
    timestamp: np.ndarray
    bits: np.ndarray
    """uint64: an integer as it came, the bits of a float or double, 0 or 1."""
    kind: np.ndarray
    """Number of the field that held the value: 10, 11, 12, 13, 14 or 15; 0 for none."""
    flags: np.ndarray
    """1 historical, 2 transient, 4 null."""
    name: np.ndarray
    """int64 [n, 2]: where the name begins and ends; 0, 0 for none."""
    text: np.ndarray
    """int64 [n, 2]: where a text value begins and ends."""
    odd: np.ndarray
    """bool: read this one with :func:`read_metric`; the columns do not hold it."""


_ROUNDS = 24


def read_columns(data: bytes, spans: np.ndarray) -> Columns:
    """The metrics at ``spans`` (int64 [n, 2]) of the joined payloads ``data``. Nothing is raised: what can't be read so is odd."""
    import numpy as np

    count = len(spans)
    whole = np.frombuffer(data + bytes(16), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 11)
    at, end = spans[:, 0].copy(), spans[:, 1]
    alias, timestamp = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    bits, kind, flags = np.zeros(count, np.uint64), np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    name, text = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.int64)
    odd = np.zeros(count, bool)
    live = np.flatnonzero(at < end)
    for _ in range(_ROUNDS):
        if not len(live):
            break
        here = at[live]
        window = windows[here]
        tag = window[:, 0]
        number, wire = tag >> 3, tag & 7
        value, size = _varints(window[:, 1:])
        after = here + 1 + size
        fixed = wire == 5
        eight = wire == 1
        sized = wire == 2
        after[fixed] = here[fixed] + 5
        after[eight] = here[eight] + 9
        wrong = (size == 0) & ((wire == 0) | sized)
        if sized.any():
            length = np.minimum(value, np.uint64(1 << 40)).astype(np.int64)
            inside = sized & ((number == 1) | (number == 15))
            rows = live[inside]
            begins, stops = after[inside], after[inside] + length[inside]
            named = number[inside] == 1
            name[rows[named]] = np.stack([begins[named], stops[named]], 1)
            worded = ~named
            text[rows[worded]] = np.stack([begins[worded], stops[worded]], 1)
            kind[rows[worded]] = 15
            after[sized] += length[sized]
            wrong |= sized & ~inside
        # numbers 16 and above have tags of two bytes; groups and unknown fields are not for this reader either
        wrong |= (tag >= 0x80) | (number == 0) | (wire == 3) | (wire == 4) | (wire > 5) | (after > end[live])
        plain = wire == 0
        for what, target in ((2, alias), (3, timestamp)):
            chosen = plain & (number == what)
            if chosen.any():
                big = chosen & (value > np.uint64((1 << 63) - 1))
                wrong |= big
                target[live[chosen]] = value[chosen].astype(np.int64)
        numeric = plain & ((number == 10) | (number == 11) | (number == 14))
        if numeric.any():
            bits[live[numeric]] = value[numeric]
            kind[live[numeric]] = number[numeric]
        for width, mark, what in ((4, fixed, 12), (8, eight, 13)):
            chosen = mark & (number == what)
            if chosen.any():
                raw = np.zeros((int(chosen.sum()), 8), np.uint8)
                raw[:, :width] = window[chosen][:, 1 : 1 + width]
                bits[live[chosen]] = raw.view("<u8")[:, 0]
                kind[live[chosen]] = what
        for what, flag in ((5, 1), (6, 2), (7, 4)):
            chosen = plain & (number == what) & (value != 0)
            if chosen.any():
                flags[live[chosen]] |= flag
        at[live] = after
        odd[live[wrong]] = True
        live = live[~wrong & (after < end[live])]
    odd[live] = True
    return Columns(alias, timestamp, bits, kind, flags, name, text, odd)


def _varints(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number at the beginning of each row of ten bytes, and how many bytes it takes; 0 where it does not end."""
    import numpy as np

    more = window >= 0x80
    first = np.argmin(more, axis=1)
    unending = more[:, 9]
    size = first + 1
    longest = int(size.max()) if len(size) else 0
    value = np.zeros(len(window), np.uint64)
    for place in range(min(longest, 10)):
        piece = (window[:, place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
        value |= np.where(place < size, piece, np.uint64(0))
    size[unending & (np.sum(more, axis=1) == 10)] = 0
    return value, size


# writing ----------------------------------------------------------------------------------------------------------------------------


def _number(number: int, wire: int, value: int) -> bytes:
    made = bytearray()
    for rest in ((number << 3) | wire, value):
        while rest > 0x7F:
            made.append(rest & 0x7F | 0x80)
            rest >>= 7
        made.append(rest)
    return bytes(made)


def _piece(number: int, data: bytes) -> bytes:
    return _number(number, 2, len(data)) + data


def _write_metric(metric: Metric) -> bytes:
    made = bytearray()
    if metric.name is not None:
        made += _piece(1, metric.name.encode())
    if metric.alias is not None:
        made += _number(2, 0, metric.alias)
    if metric.timestamp is not None:
        made += _number(3, 0, metric.timestamp)
    if metric.datatype is not None:
        made += _number(4, 0, metric.datatype)
    for number, flag in ((5, metric.historical), (6, metric.transient), (7, metric.null)):
        if flag:
            made += _number(number, 0, 1)
    value, kind = metric.value, metric.datatype or 0
    if metric.null or value is None:
        return bytes(made)
    if isinstance(value, bool):
        made += _number(14, 0, int(value))
    elif isinstance(value, int):
        bits = INTEGERS.get(kind, (64, False))[0]
        # 6.4.16: up to 32 bits in int_value, above in long_value; the sign is two's complement of the type's own width
        made += _number(10 if bits <= 32 else 11, 0, value & ((1 << (32 if bits <= 32 else 64)) - 1))
    elif isinstance(value, float) and kind == _FLOAT:
        made += _number(12, 5, 0)[:-1] + struct.pack("<f", value)
    elif isinstance(value, float):
        made += _number(13, 1, 0)[:-1] + struct.pack("<d", value)
    elif isinstance(value, str):
        made += _piece(15, value.encode())
    elif isinstance(value, bytes):
        made += _piece(16, value)
    return bytes(made)


def write_payload(metrics: Sequence[Metric], *, timestamp: int | None = None, seq: int | None = None) -> bytes:
    """A payload with metrics of plain values. Source: 6.4.6 (payload), 6.4.7 (metric)."""
    made = bytearray()
    if timestamp is not None:
        made += _number(1, 0, timestamp)
    for metric in metrics:
        made += _piece(2, _write_metric(metric))
    if seq is not None:
        made += _number(3, 0, seq)
    return bytes(made)
