"""Pure decisions of keep: when the disk is full, and how far the own clock is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from guantong.base.clock import NS
from guantong.keep.model import Forecast

__all__ = ["DAY_NS", "forecast", "slope"]

DAY_NS = 86_400 * NS
SPAN_MIN_NS = DAY_NS // 4
"""A shorter history says nothing: commits and upkeep make free space go up and down within hours."""


def slope(points: Sequence[tuple[int, int]]) -> float | None:
    """Least-squares slope of bytes over ns; None where all times are one."""
    if len(points) < 2:
        return None
    first = points[0][0]
    times = [float(time - first) for time, _ in points]
    mean_time = sum(times) / len(points)
    mean_bytes = sum(value for _, value in points) / len(points)
    spread = sum((time - mean_time) ** 2 for time in times)
    if not spread:
        return None
    shared = sum((time - mean_time) * (value - mean_bytes) for time, (_, value) in zip(times, points, strict=True))
    return shared / spread


def forecast(samples: Sequence[tuple[int, int]], free: int, now: int) -> Forecast:
    """When ``free`` bytes are used up, from earlier samples of free space (ns, bytes) and this one.

    A straight line through the last 30 days (least squares). With less than 6 hours of history nothing is said; where free space
    does not shrink, no day is named.
    """
    points = [(at, value) for at, value in samples if now - 30 * DAY_NS <= at < now] + [(now, free)]
    since = points[0][0]
    steep = slope(points) if now - since >= SPAN_MIN_NS else None
    if steep is None:
        return Forecast(free, None, None, len(points), since)
    full_at = now + round(free / -steep) if steep < 0 else None
    return Forecast(free, -steep * DAY_NS, full_at, len(points), since)
