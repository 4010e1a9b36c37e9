"""Figures to shapes: curves with their gaps, tolerance bars, state strips, control charts. Pure: numbers in, SVG coordinates out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guantong.web.shown import number

__all__ = ["control", "curve_lines", "drawn", "strip", "tolerance"]


def _scale(low: float, high: float) -> tuple[float, float]:
    if high > low:
        pad = (high - low) * 0.08
        return low - pad, high + pad
    pad = abs(low) * 0.05 or 1.0
    return low - pad, high + pad


def curve_lines(curve: Mapping[str, Any], width: int = 720, height: int = 140) -> dict[str, Any]:
    """Polylines of a curve, broken where nothing was measured, a band from least to most, and rectangles for gaps."""
    points = curve["points"]
    known = [point for point in points if point[1] is not None]
    if not known:
        return {"lines": [], "bands": [], "gaps": [], "low": None, "high": None, "dots": []}
    first, last = known[0][0], known[-1][0]
    span = (last - first) or 1.0
    low, high = _scale(min(point[2] for point in known), max(point[3] for point in known))

    def x(at: float) -> float:
        return float(round(max(0.0, min(1.0, (at - first) / span)) * width, 1))

    def y(value: float) -> float:
        return round(height - (value - low) / (high - low) * height, 1)

    runs: list[list[Any]] = [[]]
    for point in points:
        if point[1] is None:
            runs.append([])
        else:
            runs[-1].append(point)
    lines, bands, dots = [], [], []
    for run in runs:
        if len(run) == 1:
            dots.append((x(run[0][0]), y(run[0][1])))
        elif run:
            lines.append(" ".join(f"{x(point[0])},{y(point[1])}" for point in run))
            if any(point[3] > point[2] for point in run):
                upper = [f"{x(point[0])},{y(point[3])}" for point in run]
                lower = [f"{x(point[0])},{y(point[2])}" for point in reversed(run)]
                bands.append(" ".join(upper + lower))
    gaps = []
    for gap in curve["gaps"]:
        left, right = x(gap["start"]), x(gap["end"])
        if gap["end"] >= first and gap["start"] <= last:
            gaps.append(
                {"x": left, "width": max(round(right - left, 1), 2.0), "count": gap["count"], "reason": gap["reason"]}
            )
    return {
        "lines": lines,
        "bands": bands,
        "gaps": gaps,
        "dots": dots,
        "low": min(point[2] for point in known),
        "high": max(point[3] for point in known),
        "first": first,
        "last": last,
        "width": width,
        "height": height,
    }


def _two_limits(side: Mapping[str, Any]) -> bool:
    return side["lower"] is not None and side["upper"] is not None and bool(side["upper"] > side["lower"])


def tolerance(row: Mapping[str, Any], width: int = 144) -> dict[str, Any] | None:
    """Where two measurements lie within the tolerance: marks from 0 to ``width``, the zone as a bar; outside it they go to the edge."""
    left, right = row.get("left"), row.get("right")
    sides = [side for side in (left, right) if side]
    limits = next((side for side in sides if _two_limits(side)), None)
    words = None
    if limits is None:
        # only one limit: a zone of form reaches from zero to it, other sizes as far on the other side of their nominal
        limits = next((side for side in sides if (side["lower"] is None) != (side["upper"] is None)), None)
        if limits is None:
            return None
        below = limits["lower"] is None
        only, middle = limits["upper"] if below else limits["lower"], limits["nominal"] or 0.0
        words = f"{'≤' if below else '≥'} {number(only)}"
        low, high = (min(middle * 2 - only if middle else 0.0, only), only) if below else (only, middle * 2 - only)
        if high <= low:
            return {"start": 0.0, "end": 0.0, "left": None, "right": None, "nominal": None, "words": words}
    else:
        low, high = limits["lower"], limits["upper"]
    zone, start = width * 0.8, width * 0.1

    def place(side: Mapping[str, Any] | None) -> float | None:
        if not side or not isinstance(side["value"], int | float):
            return None
        share = (side["value"] - low) / (high - low)
        return float(round(max(5.0, min(width - 5.0, start + share * zone)), 1))

    nominal = limits["nominal"]
    return {
        "start": round(start, 1),
        "end": round(start + zone, 1),
        "left": place(left),
        "right": place(right),
        "nominal": round(start + (nominal - low) / (high - low) * zone, 1)
        if nominal is not None and low <= nominal <= high
        else None,
        "words": words or f"{number(low)} – {number(high)}",
    }


_COLOURS = {
    "ACTIVE": "ok",
    "READY": "idle",
    "UNAVAILABLE": "gone",
    "FAULT": "bad",
    "INTERRUPTED": "warn",
    "STOPPED": "warn",
    "FEED_HOLD": "warn",
    "OPTIONAL_STOP": "warn",
    "PROGRAM_STOPPED": "warn",
    "PROGRAM_COMPLETED": "idle",
    "WAIT": "idle",
}


def strip(intervals: Sequence[Mapping[str, Any]], width: int = 720) -> list[dict[str, Any]]:
    """Machine states as one strip of rectangles."""
    if not intervals:
        return []
    first, last = intervals[0]["start"], intervals[-1]["end"]
    span = (last - first) or 1.0
    return [
        {
            "x": round((item["start"] - first) / span * width, 2),
            "width": max(round((item["end"] - item["start"]) / span * width, 2), 0.4),
            "state": item["state"],
            "look": _COLOURS.get(item["state"], "warn"),
        }
        for item in intervals
    ]


def control(chart: Mapping[str, Any], width: int = 320, height: int = 90) -> dict[str, Any] | None:
    """A control chart of individuals: the line, its limits, and the points that a rule picks out."""
    values = [value for value in chart["values"] if value is not None]
    if len(values) < 2 or chart["lower"] is None or chart["upper"] is None:
        return None
    low, high = _scale(min(*values, chart["lower"]), max(*values, chart["upper"]))
    marked = {item["index"] for item in chart["signals"]}

    def y(value: float) -> float:
        return round(height - (value - low) / (high - low) * height, 1)

    points = [(round(place / (len(values) - 1) * (width - 12) + 6, 1), y(value)) for place, value in enumerate(values)]
    return {
        "width": width,
        "height": height,
        "line": " ".join(f"{x},{at}" for x, at in points),
        "marks": [points[place] for place in sorted(marked) if place < len(points)],
        "centre": y(chart["centre"]),
        "upper": y(chart["upper"]),
        "lower": y(chart["lower"]),
    }


def drawn(link: str) -> str:
    """A link as an SVG picture (a QR code); empty without the library that draws it."""
    try:
        import segno
    except ImportError:
        return ""
    return str(segno.make(link, error="m", micro=False).svg_inline(scale=5, border=3, dark="#000", light="#fff"))
