"""Time: one port for the clock, one notation for instants.

Inside guantong an instant is an ``int`` of nanoseconds since 1970-01-01T00:00:00Z (UTC, leap seconds as POSIX counts them), because
SHDR adapters write seven fractional digits, which ``datetime`` can't hold. On the wire and in documents it is RFC 3339 text with ``Z``.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from guantong.base.errors import Skippable

__all__ = ["NS", "Clock", "SystemClock", "iso", "parse_iso", "to_datetime"]

NS = 1_000_000_000
"""Nanoseconds in a second."""

_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,9})\d*)?\s*(Z|z|[+-]\d{2}:?\d{2})?", re.ASCII
)


class Clock(Protocol):
    """What every shell asks for the time; the simulation has one of its own."""

    def now(self) -> int:
        """Nanoseconds since the epoch, UTC; may step when the system clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for measuring durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


def iso(instant: int, *, digits: int | None = None) -> str:
    """RFC 3339 text of an instant in UTC, with as many fractional digits as it needs (0, 3, 6 or 9) or ``digits`` of them."""
    seconds, fraction = divmod(instant, NS)
    text = _second(seconds)
    if digits is None:
        digits = 0 if not fraction else 3 if not fraction % 1_000_000 else 6 if not fraction % 1_000 else 9
    return f"{text}.{fraction:09d}"[: len(text) + 1 + digits] + "Z" if digits else text + "Z"


@lru_cache(64)
def _second(seconds: int) -> str:
    # many instants of a moment are written within the same second
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_iso(text: str) -> int:
    """Nanoseconds since the epoch from RFC 3339 text; an absent zone means UTC; more than nine digits are cut.

    Raises Skippable ``base.time-unreadable``.
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise Skippable("base.time-unreadable", text=text[:40])
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        # a leap second (60) is counted as the second after, as POSIX does
        whole = int(
            datetime(
                int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
            ).timestamp()
        )
    except ValueError as error:
        raise Skippable("base.time-unreadable", text=text[:40]) from error
    if int(second) == 60:
        whole += 1
    elif int(second) > 60:
        raise Skippable("base.time-unreadable", text=text[:40])
    if zone and zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        whole -= sign * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)
    return whole * NS + int((fraction or "0").ljust(9, "0"))


def to_datetime(instant: int) -> datetime:
    """The instant as an aware ``datetime`` in UTC, cut to microseconds."""
    seconds, fraction = divmod(instant, NS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction // 1000)
