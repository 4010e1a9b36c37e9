"""Pieces of a tabular file on their way to the sink, and how a row of many columns becomes readings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD, GOOD, reading_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Piece", "cells", "melt"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one log entry takes of a file."""

    kind: str
    rows: pa.RecordBatch
    lines: int
    parsed: int
    bad: list[tuple[int, str, str]]
    units: dict[str, str] = field(default_factory=dict)


def melt(columns: dict[str, Any], instants: Any, receive: int) -> pa.RecordBatch:
    """One reading for each cell: signal is the column, a missing cell is a bad reading without a value."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = reading_schema()
    rows = len(instants)
    parts: dict[str, list[Any]] = {field.name: [] for field in schema}
    time_type = schema.field("source_time").type
    for name, raw in columns.items():
        column = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
        status = pc.if_else(pc.is_valid(column), pa.scalar(GOOD, pa.uint32()), pa.scalar(BAD, pa.uint32()))
        kind = column.type
        home = (
            "value_i64"
            if pa.types.is_integer(kind)
            else "value_f64"
            if pa.types.is_floating(kind)
            else "value_bool"
            if pa.types.is_boolean(kind)
            else "value_text"
        )
        parts["signal"].append(pa.array(np.full(rows, name, dtype=object), pa.string()))
        parts["source_time"].append(instants.cast(time_type))
        parts["server_time"].append(pa.nulls(rows, time_type))
        parts["receive_time"].append(pa.array(np.full(rows, receive), pa.int64()).cast(time_type))
        for target in ("value_f64", "value_i64", "value_text", "value_bool"):
            type_ = schema.field(target).type
            parts[target].append(column.cast(type_) if target == home else pa.nulls(rows, type_))
        parts["status"].append(status)
        parts["sequence"].append(pa.nulls(rows, pa.int64()))
    if not columns:
        return pa.RecordBatch.from_pylist([], schema=schema)
    return pa.RecordBatch.from_arrays([pa.concat_arrays(parts[field.name]) for field in schema], schema=schema)


def cells(column: Any) -> Any:
    """A Parquet column as one of the four value types; not-a-number becomes missing, anything else its text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return cells(column.dictionary_decode())
    if pa.types.is_floating(kind):
        wide = column.cast(pa.float64())
        return pc.if_else(pc.is_finite(wide), wide, pa.scalar(None, pa.float64()))
    if pa.types.is_uint64(kind):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column.cast(pa.string())
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return column
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
