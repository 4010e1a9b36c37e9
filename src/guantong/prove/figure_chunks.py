"""Cutting rows into chunks, the same way when they are committed to and when one is opened years later.

Readings: each signal's rows of one commit by time, 256 to a chunk. Measurements and rows of named tables: one to a chunk, so that an
opening shows one value or one row. The text of a chunk is JSON; numbers in it are the shortest that read back as the same value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.clock import NS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "READINGS_A_CHUNK",
    "Stretch",
    "cut",
    "measurement_stream",
    "signal_stream",
    "stream_of_measurement",
    "texts_of",
]

READINGS_A_CHUNK = 256
"""Fixed: another number would cut what was committed before otherwise."""

_ROW = (
    "source_time",
    "source_ns",
    "sequence",
    "revision",
    "status",
    "value_i64",
    "value_text",
    "value_bool",
    "value_f64",
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The chunks of one stream within one commitment, which lie side by side."""

    stream: str
    start: int
    """Index of its first chunk under the commitment's root."""
    count: int
    first: int
    """Time of its first row, ns (of a measurement without a time and of other tables: 0)."""
    last: int


def signal_stream(signal_id: int) -> str:
    """Stream of a signal's readings."""
    return f"signal/{signal_id}"


def measurement_stream(source: str, model: str, feature: str, characteristic: str) -> str:
    """Stream of a characteristic: its identity is source, design, feature and item, since names repeat within a part."""
    return f"{source}/{model}/{feature}#{characteristic}"


def stream_of_measurement(row: Mapping[str, Any]) -> str:
    """The same from a row of the measurements table."""
    return measurement_stream(
        str(row.get("source") or ""), str(row["model"] or ""), str(row["feature"] or ""), str(row["characteristic"])
    )


def cut(table: str, rows: pa.Table) -> tuple[list[Stretch], list[bytes]]:
    """Stretches and chunk texts of the rows of one commit, in the order of their tree."""
    stretches: list[Stretch] = []
    texts: list[bytes] = []
    for stream, first, last, found in texts_of(table, rows):
        stretches.append(Stretch(stream, len(texts), len(found), first, last))
        texts += found
    return stretches, texts


def texts_of(table: str, rows: pa.Table) -> Iterator[tuple[str, int, int, list[bytes]]]:
    """(stream, time of the first row, of the last row, chunk texts) of the rows of one commit, by stream."""
    if table == "readings":
        yield from _readings(rows)
        return
    listed = [{name: _cell(value) for name, value in row.items()} for row in rows.to_pylist()]
    if table == "measurements":
        listed.sort(key=lambda row: (stream_of_measurement(row), orjson.dumps(row)))
        for stream, group in itertools.groupby(listed, stream_of_measurement):
            given = [_measured(row) for row in group]
            times = [row["time"] for row in given if row["time"] is not None]
            yield (
                stream,
                min(times, default=0),
                max(times, default=0),
                _dumped(table, stream, [{"row": row} for row in given]),
            )
        return
    listed.sort(key=orjson.dumps)
    stream = table.replace(":", "/", 1)
    yield stream, 0, 0, _dumped(table, stream, [{"row": row} for row in listed])


def _readings(rows: pa.Table) -> Iterator[tuple[str, int, int, list[bytes]]]:
    """By columns and without a Python object for each number: a commit of 100,000 readings must not hold others up."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    order = ("signal_id", "source_time", "source_ns", "sequence", "revision", "log_position")
    rows = rows.sort_by([(name, "ascending") for name in order]).combine_chunks()
    if not rows.num_rows:
        return
    time = rows["source_time"].cast(pa.int64()).to_numpy() * 1000 + rows["source_ns"].to_numpy()
    whole, text, truth, real = (rows[name] for name in ("value_i64", "value_text", "value_bool", "value_f64"))
    has = [pc.is_valid(column).to_numpy() for column in (whole, text, truth, real)]
    numbers = whole.fill_null(0).to_numpy(), real.fill_null(0.0).to_numpy()
    sequence = rows["sequence"]
    numbered = pc.is_valid(sequence).to_numpy()
    fixed = {name: rows[name].to_numpy() for name in ("revision", "status")}
    signals = rows["signal_id"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(signals)) + 1).tolist(), rows.num_rows]
    for start, end in itertools.pairwise(edges):
        stream = signal_stream(int(signals[start]))
        pieces: list[dict[str, Any]] = []
        for low in range(start, end, READINGS_A_CHUNK):
            high = min(low + READINGS_A_CHUNK, end)
            here = slice(low, high)
            values: Any
            if has[3][here].all() and not has[0][here].any() and not has[1][here].any() and not has[2][here].any():
                values = numbers[1][here]
            elif has[0][here].all():
                values = numbers[0][here]
            else:
                columns = [column.slice(low, high - low).to_pylist() for column in (whole, text, truth, real)]
                values = [next((one for one in row if one is not None), None) for row in zip(*columns, strict=True)]
            pieces.append(
                {
                    "time": time[here],
                    "sequence": sequence.slice(low, high - low).to_pylist() if numbered[here].any() else None,
                    "value": values,
                    **{name: _once(column[here]) for name, column in fixed.items()},
                }
            )
        yield stream, int(time[start]), int(time[end - 1]), _dumped("readings", stream, pieces)


def _once(column: Any) -> Any:
    """A column that does not change as its one value."""
    return int(column[0]) if (column == column[0]).all() else column


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a measurement a figure needs, and what names it; the rest stays unseen."""
    value = row["value_f64"]
    return {
        "report": row["report"],
        "result": row["result"],
        "part": row.get("part") or row["serial"] or f"{row['report']}#{row['result']}",
        "name": row["name"],
        "value": str(value) if isinstance(value, float) and not math.isfinite(value) else value,
        "unit": row["unit"],
        "lower": row["lower"],
        "upper": row["upper"],
        "form": row.get("limit_form"),
        "time": row["measured_time"],
        "revision": row["revision"],
    }


def _dumped(table: str, stream: str, pieces: list[dict[str, Any]]) -> list[bytes]:
    # each chunk says which of how many of its stream it is: one that is opened shows that none of them was left out
    head = {"v": 1, "table": table, "stream": stream, "of": len(pieces)}
    return [
        orjson.dumps({**head, "at": at, **piece}, option=orjson.OPT_SERIALIZE_NUMPY) for at, piece in enumerate(pieces)
    ]


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        whole = value.replace(microsecond=0)
        return int(whole.timestamp()) * NS + value.microsecond * 1000 if whole.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
