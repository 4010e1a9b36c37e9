"""Control charts from a table of measurements: one chart for each characteristic of a part design, in part order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.watch import control_chart
from guantong.watch.model import Chart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["charts"]

_COLUMNS = (
    "source", "report", "result", "model", "serial", "part", "characteristic", "feature", "name", "value_f64", "unit", "lower", "upper",
    "limit_form", "measured_time", "receive_time",
)  # fmt: skip


def charts(table: pa.Table, characteristic: str | None = None) -> list[Chart]:
    """Charts of all characteristics that have at least two numbers, or of the one with that id or name.

    Identity: source, design, feature and characteristic item, since names repeat within a part. Parts that were measured several times
    (in process and at the end) have one chart for each report: a repeated measurement says nothing about the next part. Part order: by
    measured time where every value has one, else by the number in the reconciled part, serial or result.
    """
    rows = table.select([name for name in _COLUMNS if name in table.column_names]).to_pylist()
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    parts: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        design = (str(row.get("source") or ""), str(row["model"] or ""))
        parts.setdefault(design, set()).add(_part(row))
        if row["value_f64"] is None:
            continue
        if characteristic is not None and characteristic not in (row["characteristic"], row["name"]):
            continue
        key = (*design, str(row["feature"] or ""), str(row["characteristic"]))
        groups.setdefault(key, []).append(row)
    result = []
    for key, members in _once_a_part(groups):
        if len(members) < 2 or all(_is_number_of_part(row) for row in members):
            continue
        timed = all(row["measured_time"] is not None for row in members) and len(
            {row["measured_time"] for row in members}
        ) == len(members)
        members.sort(
            key=(lambda row: (row["measured_time"], _natural(_part(row))))
            if timed
            else (lambda row: _natural(_part(row)))
        )
        result.append(_chart(key, members, len(parts[key[:2]])))
    return sorted(result, key=lambda chart: (chart.source, _natural(chart.name), _natural(chart.characteristic)))


def _once_a_part(
    groups: Mapping[tuple[str, str, str, str], list[dict[str, Any]]],
) -> Iterator[tuple[tuple[str, str, str, str], list[dict[str, Any]]]]:
    for key, members in groups.items():
        if len({_part(row) for row in members}) == len(members):
            yield key, members
            continue
        reports: dict[str, list[dict[str, Any]]] = {}
        for row in members:
            reports.setdefault(str(row["report"]), []).append(row)
        for report in sorted(reports):
            yield key, reports[report]


def _chart(key: tuple[str, str, str, str], rows: list[dict[str, Any]], parts: int) -> Chart:
    source, design, feature, item = key
    values = [float(row["value_f64"]) for row in rows]
    names = [_part(row) for row in rows]
    centre, lower, upper, range_centre, range_upper = control_chart.limits(values)
    # limits can be declared anew for single parts: the chart takes what most of them say
    low, high = Counter(_limits(row) for row in rows).most_common(1)[0][0]
    unit = Counter(str(row["unit"] or "") for row in rows).most_common(1)[0][0]
    times = sorted(_ns(row["measured_time"] or row["receive_time"]) for row in rows)
    where = f"{source}: {design}" if source else design
    reports = {str(row["report"]) for row in rows}
    if len(reports) == 1:
        where = f"{where}, {reports.pop()}"
    return Chart(
        characteristic=f"{feature}#{item}" if feature else item,
        name=str(rows[0]["name"]),
        unit=unit,
        parts=tuple(names),
        values=tuple(values),
        ranges=tuple(control_chart.moving_ranges(values)),
        centre=centre,
        lower=lower,
        upper=upper,
        range_centre=range_centre,
        range_upper=range_upper,
        signals=tuple(control_chart.signals(values, names)),
        capability=control_chart.capability(
            values, low, high, unit=unit, source=where, start=times[0], end=times[-1] + 1
        ),
        out_of_tolerance=sum(_is_outside(row) for row in rows),
        source=where,
        start=times[0],
        end=times[-1] + 1,
        coverage=len(set(names)) / parts if parts else 0.0,
    )


def _limits(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The declared limits. A zone (flatness, position, ...) can't be narrower than nothing: a negative one limits nothing."""
    if row.get("limit_form") == "zone" and row["upper"] is not None and row["upper"] < 0:
        return row["lower"], None
    return row["lower"], row["upper"]


def _is_outside(row: Mapping[str, Any]) -> bool:
    lower, upper = _limits(row)
    value = row["value_f64"]
    return (lower is not None and value < lower) or (upper is not None and value > upper)


def _is_number_of_part(row: Mapping[str, Any]) -> bool:
    # reports may list the part's own number among the results: an identity, not a measure
    value = row["value_f64"]
    digits = re.findall(r"\d+", str(row["serial"] or ""))
    return value == int(value) and len(digits) == 1 and int(digits[0]) == int(value)


def _part(row: Mapping[str, Any]) -> str:
    return str(row.get("part") or row["serial"] or f"{row['report']}#{row['result']}")


def _natural(text: str) -> tuple[Any, ...]:
    """Numbers by value, words by letter: A2 before A10."""
    return tuple(
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", text) if piece
    )


def _ns(value: datetime) -> int:
    return int(value.replace(microsecond=0).timestamp()) * NS + value.microsecond * 1000
