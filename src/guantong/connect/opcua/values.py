"""OPC UA values into one of our types: scalars as they are, arrays and structures as JSON text, nothing dropped.

Source: OPC 10000-6, 5.1 (built-in types), 5.4 (JSON form of structures).
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from guantong.connect.columns import Value
from guantong.connect.opcua.stack import ua

__all__ = ["members", "plain"]

_DEPTH = 16
_I64 = 1 << 63


def plain(variant: Any) -> tuple[Value, str | None]:
    """A variant's value in one of our types, or None and why it can't be used. No value gives None without a reason."""
    if variant is None:
        return None, None
    value = variant.Value
    kind = type(value)
    if kind is float:
        return (value, None) if math.isfinite(value) else (None, "not-finite")
    if value is None or kind is bool:
        return value, None
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int):
        number = int(value)
        return (number if -_I64 <= number < _I64 else str(number)), None
    if isinstance(value, float):
        return (float(value), None) if math.isfinite(value) else (None, "not-finite")
    if isinstance(value, (list, tuple)):
        return _text(_shaped(list(value), getattr(variant, "Dimensions", None))), None
    simple = _json(value, 0)
    return (simple if isinstance(simple, str) else _text(simple)), None


def members(variant: Any, names: list[str]) -> dict[str, Value]:
    """The wanted members of a structure, each in its own type; those that are structures or lists themselves as JSON text."""
    value = variant.Value if variant is not None else None
    found: dict[str, Value] = {}
    for name in names:
        member = getattr(value, name, None) if value is not None else None
        found[name] = plain(ua.Variant(member))[0] if member is not None else None
    return found


def _text(value: Any) -> str:
    # a number that is not finite has no JSON form; inside a list it becomes null
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str).decode()


def _shaped(flat: list[Any], dimensions: Any) -> Any:
    """A matrix as lists of lists, by its dimensions."""
    values = [_json(value, 1) for value in flat]
    if any(isinstance(value, list) for value in values):  # already nested by the stack
        return values
    for size in reversed(list(dimensions or [])[1:]):
        if size < 1 or len(values) % size:
            return values
        values = [values[begin : begin + size] for begin in range(0, len(values), size)]
    return values


def _json(value: Any, depth: int) -> Any:
    """Plain JSON of any built-in type or structure."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # the stack lets bytes through that are no UTF-8, as lone surrogates
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        number = int(value)
        return number if -_I64 <= number < 1 << 64 else str(number)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, UUID):
        return _json(str(value), depth)
    if isinstance(value, (ua.NodeId, ua.QualifiedName)):
        return _json(value.to_string(), depth)
    if isinstance(value, ua.LocalizedText):
        return _json(value.Text or "", depth)
    if isinstance(value, ua.StatusCode):
        return value.name
    if isinstance(value, ua.DataValue):
        return _json(value.Value, depth)
    if isinstance(value, ua.Variant):
        return _shaped(value.Value, value.Dimensions) if isinstance(value.Value, list) else _json(value.Value, depth)
    if depth >= _DEPTH:
        return str(value)[:200]
    if isinstance(value, (list, tuple)):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, ua.ExtensionObject):  # of a type that the server did not describe: its bytes, with its type
        return {"typeId": value.TypeId.to_string(), "body": value.Body.hex() if value.Body else None}
    if is_dataclass(value):
        return {
            field.name: _json(getattr(value, field.name), depth + 1)
            for field in fields(value)
            if field.name not in ("Encoding", "data_type")
        }
    return _json(str(value), depth)
