"""Notifications and history as they stand in the bytes: one tuple an item, nothing else.

asyncua makes four objects of an item and reads server time and picoseconds in the wrong order where a server sends both (the field order
of DataValue is value, status, source time, source picoseconds, server time, server picoseconds). Values that are not plain scalars are
handed to its decoder. Every length is checked against what is there; bytes that contradict themselves raise :class:`Garbled`.

Source: OPC 10000-6, 5.2.2 (built-in types, DataValue in 5.2.2.17), 5.2.2.15 (ExtensionObject); OPC 10000-4, 5.14.5, 7.25.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from guantong.connect.opcua.stack import ua

__all__ = ["Garbled", "Item", "Message", "history_results", "publish_result", "republished"]

Item = tuple[int, int, int | None, int | None, Any]
"""Handle, status, source time, server time (ns or None), value: a plain scalar, None, or asyncua's Variant of anything else."""

_DATA_CHANGE, _STATUS_CHANGE, _HISTORY_DATA = 811, 820, 658
_EPOCH_TICKS = 116_444_736_000_000_000
_FIRST_TICKS = _EPOCH_TICKS - (1 << 63) // 100 + 1
_LAST_TICKS = _EPOCH_TICKS + (1 << 63) // 100 - 1
_MAX_ITEMS = 10_000_000

_SCALARS: dict[int, tuple[struct.Struct, int]] = {
    kind: (struct.Struct(form), struct.calcsize(form))
    for kind, form in (
        (2, "<b"),
        (3, "<B"),
        (4, "<h"),
        (5, "<H"),
        (6, "<i"),
        (7, "<I"),
        (8, "<q"),
        (10, "<f"),
        (11, "<d"),
    )
}
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_I64 = struct.Struct("<q").unpack_from
_U16 = struct.Struct("<H").unpack_from
_U64 = struct.Struct("<Q").unpack_from


class Garbled(ValueError):
    """Bytes that are no such message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One notification message."""

    number: int
    items: list[Item]
    status: int | None
    """Of the subscription, where the server says that it ended."""
    empty: bool
    """A keep-alive: ``number`` is the one to come."""


def _bytes(body: Any) -> bytes:
    found: bytes = body._data[body._cur_pos : body._cur_pos + body._size]
    return found


def _after_header(data: bytes, expected: int) -> int:
    """Position behind type id and response header; a fault of the service is raised as asyncua does."""
    buffer = ua.utils.Buffer(data)
    type_id = ua.ua_binary.nodeid_from_binary(buffer)
    header = ua.ua_binary.struct_from_binary(ua.ResponseHeader, buffer)
    header.ServiceResult.check()
    if type_id.Identifier != expected:
        raise Garbled(f"response of type {type_id.Identifier}")
    return int(buffer.cur_pos)


def _guarded(read: Any) -> Any:
    def wrapped(body: Any) -> Any:
        try:
            return read(_bytes(body))
        except ua.UaStatusCodeError:
            raise
        except (
            struct.error,
            IndexError,
            ValueError,
            TypeError,
            AttributeError,  # the stack's own reader, where an array's dimensions belie its elements
            KeyError,
            OverflowError,
            RecursionError,
            ua.UaError,
        ) as error:
            raise Garbled(f"{type(error).__name__}: {error}"[:200]) from error

    return wrapped


@_guarded
def publish_result(data: bytes) -> tuple[int, Message]:
    """Subscription id and message of a PublishResponse. Raises asyncua's status codes and Garbled."""
    at = _after_header(data, ua.ObjectIds.PublishResponse_Encoding_DefaultBinary)
    subscription, count = _U32(data, at)[0], _I32(data, at + 4)[0]
    at = at + 8 + 4 * max(0, count) + 1
    _, message = _message(data, at)
    return subscription, message


@_guarded
def republished(data: bytes) -> Message:
    """The message of a RepublishResponse. Raises asyncua's status codes and Garbled."""
    found: Message = _message(data, _after_header(data, ua.ObjectIds.RepublishResponse_Encoding_DefaultBinary))[1]
    return found


@_guarded
def history_results(data: bytes) -> list[tuple[int, bytes, list[Item]]]:
    """Status, continuation point and values (handle 0) of each node of a HistoryReadResponse."""
    at = _after_header(data, ua.ObjectIds.HistoryReadResponse_Encoding_DefaultBinary)
    (count,) = _I32(data, at)
    at += 4
    found = []
    for _ in range(max(0, count)):
        status = _U32(data, at)[0]
        at, point = _string(data, at + 4)
        at, kind, begin, end = _extension(data, at)
        items: list[Item] = []
        if kind == _HISTORY_DATA:
            (values,) = _I32(data, begin)
            _check(values, begin + 4, end)
            begin += 4
            for _ in range(max(0, values)):
                begin, item = _data_value(data, begin, 0)
                items.append(item)
        found.append((status, point or b"", items))
    return found


def _message(data: bytes, at: int) -> tuple[int, Message]:
    number = _U32(data, at)[0]
    at += 12  # sequence number, publish time
    (count,) = _I32(data, at)
    at += 4
    items: list[Item] = []
    status: int | None = None
    for _ in range(max(0, count)):
        at, kind, begin, end = _extension(data, at)
        if kind == _DATA_CHANGE:
            (length,) = _I32(data, begin)
            _check(length, begin + 4, end)
            begin += 4
            for _ in range(max(0, length)):
                handle = _U32(data, begin)[0]
                begin, item = _data_value(data, begin + 4, handle)
                items.append(item)
            if begin > end:
                raise Garbled("items reach beyond their notification")
        elif kind == _STATUS_CHANGE:
            status = _U32(data, begin)[0]
    return at, Message(number, items, status, count <= 0)


def _check(count: int, begin: int, end: int) -> None:
    if count > min(_MAX_ITEMS, end - begin):
        raise Garbled(f"{count} items in {end - begin} bytes")


def _extension(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Position behind an ExtensionObject, the identifier of its encoding, begin and end of its body."""
    form = data[at]
    if form == 0:  # two-byte NodeId
        kind, at = data[at + 1], at + 2
    elif form == 1:  # four-byte
        kind, at = _U16(data, at + 2)[0] if data[at + 1] == 0 else -1, at + 4
    else:
        buffer = ua.utils.Buffer(data, at)
        node = ua.ua_binary.nodeid_from_binary(buffer)
        kind = node.Identifier if node.NamespaceIndex == 0 and isinstance(node.Identifier, int) else -1
        at = buffer.cur_pos
    if not data[at]:
        return at + 1, kind, at + 1, at + 1
    (length,) = _I32(data, at + 1)
    begin = at + 5
    end = begin + max(0, length)
    if end > len(data):
        raise Garbled("a body longer than the message")
    return end, kind, begin, end


def _string(data: bytes, at: int) -> tuple[int, bytes | None]:
    (length,) = _I32(data, at)
    at += 4
    if length < 0:
        return at, None
    if at + length > len(data):
        raise Garbled("a text longer than the message")
    return at + length, data[at : at + length]


def _data_value(data: bytes, at: int, handle: int) -> tuple[int, Item]:
    mask = data[at]
    at += 1
    value: Any = None
    status = 0
    source: int | None = None
    server: int | None = None
    if mask & 1:
        kind = data[at]
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            (value,) = scalar[0].unpack_from(data, at + 1)
            at += 1 + scalar[1]
        elif kind == 12:
            at, text = _string(data, at + 1)
            value = None if text is None else text.decode("utf-8", "replace")
        elif kind == 1:
            value = data[at + 1] != 0
            at += 2
        elif kind == 9:
            (value,) = _U64(data, at + 1)
            value = str(value) if value >> 63 else value
            at += 9
        elif kind == 0:
            at += 1
        else:
            buffer = ua.utils.Buffer(data, at)
            value = ua.ua_binary.variant_from_binary(buffer)
            at = buffer.cur_pos
    if mask & 2:
        (status,) = _U32(data, at)
        at += 4
    if mask & 4:
        (ticks,) = _I64(data, at)
        at += 8
        source = (ticks - _EPOCH_TICKS) * 100 if _FIRST_TICKS < ticks < _LAST_TICKS else None
    if mask & 16:
        if source is not None:
            source += _U16(data, at)[0] // 100  # counted in 10 ps
        at += 2
    if mask & 8:
        (ticks,) = _I64(data, at)
        at += 8
        server = (ticks - _EPOCH_TICKS) * 100 if _FIRST_TICKS < ticks < _LAST_TICKS else None
    if mask & 32:
        if server is not None:
            server += _U16(data, at)[0] // 100
        at += 2
    return at, (handle, status, source, server, value)
