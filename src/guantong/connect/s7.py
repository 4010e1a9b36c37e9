"""Siemens S7 by its classic protocol. **Experimental**: no independent server to prove it against is known; the library's own server only
shows that the wiring is right, not that a control answers so.

Signals are given as a symbol list: ``DB1,REAL4``, ``DB1,X0.3``, ``DB1,INT10``, ``DB1,STRING20.30``, ``M,BYTE5``. Blocks with optimised
access can't be read. Only reading is done. Neighbouring bytes of one block are read together.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from guantong.base.batch import BAD
from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface, Property
from guantong.connect.rules import address_parts, names_of, units_of

__all__ = ["S7Reader", "Spot", "address", "spot_of", "spots_together", "value_of"]

_SPOT = re.compile(
    r"(?:DB(\d{1,5})|(M)|(I)|(Q))[,.](X|BYTE|CHAR|WORD|INT|DWORD|DINT|REAL|LREAL|STRING)(\d{1,5})(?:\.(\d{1,3}))?", re.I
)
_TYPES = {
    "BYTE": "B", "CHAR": "c", "WORD": "H", "INT": "h", "DWORD": "I", "DINT": "i", "REAL": "f", "LREAL": "d",
}  # fmt: skip
_AREAS = {"I": 0x81, "Q": 0x82, "M": 0x83, "DB": 0x84}
_MOST = 200  # bytes that one answer of the smallest controls holds
_GAP = 16
_REFUSED_S = 60.0


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a signal stands."""

    key: str
    area: int
    block: int
    start: int
    size: int
    type: str
    bit: int = 0


def address(base: str) -> tuple[str, int, int, int]:
    """Host, port, rack and slot of ``s7://host:102/0/1``. Raises ConfigProblem ``connect.address-unusable``."""
    parts = address_parts(base)
    place = [piece for piece in parts.path.split("/") if piece] or ["0", "1"]
    port = parts.port or 102
    if (
        parts.scheme != "s7"
        or not parts.hostname
        or not port
        or len(place) != 2
        or not all(one.isascii() and one.isdigit() and len(one) < 4 for one in place)
    ):
        raise ConfigProblem("connect.address-unusable", base=base, reason="s7://host:102/rack/slot is expected")
    return parts.hostname, port, int(place[0]), int(place[1])


def spot_of(item: Property) -> Spot:
    """Where a property stands. Raises ConfigProblem ``connect.address-unusable``."""
    text = item.form.href if item.form is not None else item.key
    match = _SPOT.fullmatch(text.strip().lstrip("/"))
    if match is None:
        raise ConfigProblem("connect.address-unusable", base=text[:100], reason="DB1,REAL4 or M,X0.3 is expected")
    kind, start, more = match[5].upper(), int(match[6]), int(match[7] or 0)
    area = "DB" if match[1] is not None else (match[2] or match[3] or match[4]).upper()
    if kind == "X" and more > 7:
        raise ConfigProblem("connect.address-unusable", base=text[:100], reason="a bit is 0 to 7")
    if kind == "STRING" and not 1 <= more <= _MOST - 2:
        raise ConfigProblem("connect.address-unusable", base=text[:100], reason="the length of the string is missing")
    size = 1 if kind == "X" else more + 2 if kind == "STRING" else struct.calcsize(_TYPES[kind])
    return Spot(item.key, _AREAS[area], int(match[1] or 0), start, size, kind, more if kind == "X" else 0)


def spots_together(spots: list[Spot]) -> list[tuple[int, int, int, int, list[Spot]]]:
    """Area, block, start and size of each read, and the signals in it."""
    found: list[tuple[int, int, int, int, list[Spot]]] = []
    for spot in sorted(spots, key=lambda one: (one.area, one.block, one.start, one.size)):
        if found:
            area, block, start, size, held = found[-1]
            end = max(start + size, spot.start + spot.size)
            if (
                (area, block) == (spot.area, spot.block)
                and spot.start - (start + size) <= _GAP
                and end - start <= _MOST
            ):
                found[-1] = (area, block, start, end - start, [*held, spot])
                continue
        found.append((spot.area, spot.block, spot.start, spot.size, [spot]))
    return found


def value_of(spot: Spot, data: bytes) -> tuple[float | int | str | bool | None, str | None]:
    """What the bytes of a signal mean, or None and why not."""
    if len(data) < spot.size:
        return None, "truncated"
    if spot.type == "X":
        return bool(data[0] >> spot.bit & 1), None
    if spot.type == "STRING":
        return data[2 : 2 + min(data[1], spot.size - 2)].decode("latin-1"), None
    value = struct.unpack_from(">" + _TYPES[spot.type], data)[0]
    if isinstance(value, bytes):
        return value.decode("latin-1"), None
    if isinstance(value, float) and not math.isfinite(value):
        return None, "not-finite"
    return value, None


class S7Reader:
    """Polls the symbols of an interface until the line is lost."""

    def __init__(self, interface: Interface) -> None:
        try:
            import snap7
        except ModuleNotFoundError as error:
            raise ConfigProblem("base.extra-missing", feature="S7", extra="s7") from error
        self._library: Any = snap7
        self._host, self._port, self._rack, self._slot = address(interface.base)
        self._interface = interface
        self._spots = [spot_of(item) for item in interface.properties]
        if not self._spots:
            raise ConfigProblem(
                "connect.address-unusable", base=interface.base, reason="S7 tells no names: a symbol list is needed"
            )
        self._refused: dict[str, float] = {}
        self._last = 0

    async def run(self, delivery: Delivery) -> None:
        """Poll until lost. Raises Retryable ``connect.unreachable`` and ``connect.lost``."""
        every_s = float(self._interface.term("interval_ms") or delivery.settings.poll_s * 1000) / 1000
        client = self._library.Client()
        # the library raises several kinds of error of its own, and plain ones
        foreign: Any = (RuntimeError, OSError, ValueError, TypeError, struct.error, *_errors(self._library))
        try:
            try:
                await asyncio.wait_for(
                    asyncio.to_thread(client.connect, self._host, self._rack, self._slot, self._port),
                    delivery.settings.connect_timeout_s,
                )
            except (*foreign, TimeoutError) as error:
                raise Retryable(
                    "connect.unreachable", base=self._interface.base, reason=str(error)[:200] or "no answer"
                ) from error
            if delivery.lost_at is not None:
                delivery.unasked(self._last)
            properties = self._interface.properties
            await delivery.connected(names=names_of(properties), units=units_of(properties))
            due = delivery.clock.monotonic()
            while True:
                now_s = delivery.clock.monotonic()
                free = [spot for spot in self._spots if self._refused.get(spot.key, 0.0) <= now_s]
                for area, block, start, size, spots in spots_together(free):
                    await self._read(client, area, block, start, size, spots, delivery, foreign)
                await delivery.settle()
                due = max(due + every_s, delivery.clock.monotonic())
                await delivery.clock.sleep(max(0.0, due - delivery.clock.monotonic()))
        finally:
            with contextlib.suppress(*foreign):
                await asyncio.to_thread(client.disconnect)

    async def _read(
        self,
        client: Any,
        area: int,
        block: int,
        start: int,
        size: int,
        spots: list[Spot],
        delivery: Delivery,
        foreign: Any,
    ) -> None:
        areas: Any = self._library.Area
        try:
            data = bytes(
                await asyncio.wait_for(
                    asyncio.to_thread(client.read_area, areas(area), block, start, size),
                    delivery.settings.poll_timeout_s,
                )
            )
        except (*foreign, TimeoutError) as error:
            if isinstance(error, OSError | TimeoutError) or not client.get_connected():
                raise Retryable(
                    "connect.lost", base=self._interface.base, reason=str(error)[:200] or "no answer"
                ) from error
            if len(spots) > 1:
                for spot in spots:
                    await self._read(client, spot.area, spot.block, spot.start, spot.size, [spot], delivery, foreign)
                return
            now = delivery.clock.now()
            self._refused[spots[0].key] = delivery.clock.monotonic() + _REFUSED_S
            delivery.quarantine(spots[0].start, "refused", f"{spots[0].key}: {error}")
            delivery.rows.append(spots[0].key, now, now, None, status=BAD)
            return
        now = self._last = delivery.clock.now()
        for spot in spots:
            value, reason = value_of(spot, data[spot.start - start :])
            if reason is not None:
                delivery.quarantine(spot.start, reason, spot.key)
            else:
                delivery.rows.append(spot.key, now, now, value)


def _errors(library: Any) -> tuple[type[Exception], ...]:
    found = getattr(library, "error", None)
    return tuple(
        one for one in vars(found).values() if isinstance(one, type) and issubclass(one, Exception)
    ) if found is not None else ()  # fmt: skip
