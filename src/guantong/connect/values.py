"""Values in JSON, as MQTT, HTTP and webhooks bring them: what is a value, what is its time, which signal is it.

A bare value is a reading of its signal. ``{"value": 21.5, "timestamp": …}`` is one too. Any other object gives a reading for each
member, named below the signal with ``/``; a list of objects gives the readings of each; ``{"name": "temp", "value": …}`` names itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from guantong.base.batch import BAD
from guantong.base.clock import parse_iso
from guantong.base.errors import Skippable
from guantong.connect.columns import Value
from guantong.connect.delivery import Delivery
from guantong.connect.model import Property

__all__ = ["Shape", "at_path", "instant_of", "read_json"]

_TIMES: Mapping[str, int] = {
    "timestamp_ns": 1,
    "timestamp_us": 1_000,
    "timestamp_ms": 1_000_000,
    "timestamp_s": 1_000_000_000,
    "ts_ms": 1_000_000,
    "timestamp": 0,
    "ts": 0,
    "time": 0,
    "t": 0,
    "datetime": 0,
    "@timestamp": 0,
    "sourcetimestamp": 0,
    "source_time": 0,
}
"""Members that hold a time, in lower case, and the nanoseconds of their unit; 0: told by the size of the number."""

_VALUES = ("value", "val", "v")
_NAMES = ("name", "signal", "tag", "id", "key")
_BESIDE = frozenset({"quality", "status", "unit", "q", "datatype", "type", "good"})
_MAX_DEPTH = 8
_LIMIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Shape:
    """How JSON becomes readings."""

    time: str | None = None
    """Member that holds the time; None: the usual names."""

    def take(
        self, key: str, value: Any, item: Property | None, when: int, received: int, delivery: Delivery, depth: int = 0
    ) -> None:
        """Append the readings of a value to the delivery."""
        if isinstance(value, Mapping):
            when = instant_of(value, self) or when
            if depth >= _MAX_DEPTH:
                delivery.rows.append(key, when, received, orjson.dumps(value).decode())
            elif item is not None and item.properties:
                for inner in item.properties:
                    if inner.key in value:
                        self.take(f"{key}/{inner.key}", value[inner.key], inner, when, received, delivery, depth + 1)
            else:
                for name, member in self.members(value):
                    self.take(
                        f"{key}/{name}" if name else key,
                        member,
                        item if not name else None,
                        when,
                        received,
                        delivery,
                        depth + 1,
                    )
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value) and depth < 2:
            for one in value:
                self.take(key, one, item, when, received, delivery, depth + 1)
        else:
            plain = _plain(value, item.type if item is not None else None)
            delivery.rows.append(key, when, received, plain, status=BAD if plain is None else None)

    def members(self, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Names below the signal ("" for the signal itself) and values."""
        holder = next((name for name in _VALUES if name in value), None)
        if holder is not None:
            named = next((name for name in _NAMES if isinstance(value.get(name), str)), None)
            rest = {name for name in value if name not in (holder, named) and not self._is_time(name)}
            if all(name.lower() in _BESIDE for name in rest):
                yield (str(value[named]) if named else ""), value[holder]
                return
        for name, member in value.items():
            if not self._is_time(name):
                yield name, member

    def _is_time(self, name: str) -> bool:
        return name == self.time if self.time else name.lower() in _TIMES


def read_json(payload: bytes) -> Any:
    """The value of a payload: JSON, else its text; None for what is not UTF-8 text (and for JSON's null)."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        pass
    try:
        return payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def instant_of(value: Any, shape: Shape) -> int | None:
    """The time that an object names, in ns; None where it names none that can be read."""
    if not isinstance(value, Mapping):
        return None
    for name, member in value.items():
        unit = _TIMES.get(name.lower(), 0) if shape.time is None or name == shape.time else None
        if unit is None or (shape.time is None and name.lower() not in _TIMES):
            continue
        if isinstance(member, str):
            try:
                return parse_iso(member)
            except Skippable:
                try:
                    member = float(member)
                except ValueError:
                    continue
        if isinstance(member, bool) or not isinstance(member, int | float) or not 0 < member < 1e19:
            continue
        if not unit:
            unit = next(ns for limit, ns in ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (1e20, 1)) if member < limit)
        instant = member * unit if isinstance(member, int) else round(member * unit)
        if 0 < instant < _LIMIT:
            return int(instant)
    return None


def at_path(value: Any, path: str | None) -> Any:
    """What stands at a path (``/`` between the levels, numbers count in lists); None where there is nothing."""
    for step in filter(None, (path or "").split("/")):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif (
            isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(value)
        ):
            value = value[int(step)]
        else:
            return None
    return value


def _plain(value: Any, kind: str | None) -> Value:
    """A value in one of our types, by the type that the interface gives it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if kind == "number":
            return float(value)
        if kind == "boolean" and value in (0, 1):
            return bool(value)
        if kind == "string":
            return str(value)
        return value if -_LIMIT <= value < _LIMIT else str(value)
    if isinstance(value, float):
        return str(value) if kind == "string" else value
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
