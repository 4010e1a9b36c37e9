"""Definitions of Cpk for every characteristic of a table of measurements, with the limits that its rows declare. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guantong.prove.figure import Definition, Input
from guantong.prove.figure_chunks import stream_of_measurement

__all__ = ["cpk_definitions"]

Row = Mapping[str, Any]


def cpk_definitions(rows: Iterable[Row], *, openings: int = 300, agreements: Sequence[str] = ()) -> list[Definition]:
    """One definition for each characteristic (source, design, feature, item), by stream.

    Limits are those that most rows declare, since they can be declared anew for single parts; the figure counts the rows that differ. A
    zone below zero limits nothing. Parts measured in several reports have a definition for each report: a repeated measurement says
    nothing about the next part. Order: by measured time where every value has one of its own, else by part.
    """
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=stream_of_measurement):
        groups.setdefault(stream_of_measurement(row), []).append(row)
    return [
        _definition(stream, report, list_, openings, tuple(agreements))
        for stream, every in groups.items()
        for report, list_ in _reports(every)
    ]


def _reports(rows: list[Row]) -> list[tuple[str | None, list[Row]]]:
    parts = Counter(str(row.get("part") or row["serial"] or f"{row['report']}#{row['result']}") for row in rows)
    if max(parts.values()) == 1:
        return [(None, rows)]
    ordered = sorted(rows, key=lambda row: str(row["report"]))
    return [(report, list(found)) for report, found in itertools.groupby(ordered, lambda row: str(row["report"]))]


def _definition(
    stream: str, report: str | None, rows: list[Row], openings: int, agreements: tuple[str, ...]
) -> Definition:
    lower, upper = Counter(_limits(row) for row in rows).most_common(1)[0][0]
    times = [row["measured_time"] for row in rows if row["value_f64"] is not None]
    timed = None not in times and len(set(times)) == len(times)
    parameters: dict[str, Any] = {
        "unit": Counter(str(row["unit"] or "") for row in rows).most_common(1)[0][0],
        "order": "time" if timed and times else "part",
    }
    parameters |= {name: _text(value) for name, value in (("lower", lower), ("upper", upper)) if value is not None}
    if report is not None:
        parameters["report"] = report
    name = str(rows[0]["name"])
    return Definition(
        id=f"cpk {stream}" + (f" {report}" if report else ""),
        function="cpk@1",
        inputs=(Input("value", "measurements", (stream,)),),
        title_en=f"Cpk of {name}",
        title_zh=f"{name} 的 Cpk",
        parameters=parameters,
        openings=openings,
        agreements=agreements,
    )


def _limits(row: Row) -> tuple[float | None, float | None]:
    if row.get("limit_form") == "zone" and row["upper"] is not None and row["upper"] < 0:
        return row["lower"], None
    return row["lower"], row["upper"]


def _text(value: float) -> str:
    return repr(value)
