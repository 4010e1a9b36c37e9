"""Rows of keep as plain values, times as nanoseconds. pyarrow is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["by_part", "measured", "newest", "readings"]


def readings(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows of the clean schema as plain values; ``time_ns`` is the source time in nanoseconds."""
    import pyarrow as pa

    names = ("signal_id", "value_f64", "value_i64", "value_text", "value_bool", "status", "revision", "corrections", "log_position")  # fmt: skip
    micro = table.column("source_time").cast(pa.int64()).to_pylist()
    rest = table.column("source_ns").to_pylist()
    return [
        {**row, "time_ns": us * 1000 + ns}
        for row, us, ns in zip(table.select(names).to_pylist(), micro, rest, strict=True)
    ]


def newest(table: pa.Table) -> dict[int, dict[str, Any]]:
    """The rows by signal id."""
    return {row["signal_id"]: row for row in readings(table)}


def measured(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of the clean measurements as plain values; ``measured_time`` in nanoseconds."""
    import pyarrow as pa

    micro = table.column("measured_time").cast(pa.int64()).to_pylist()
    rest = table.drop_columns(["measured_time", "receive_time"]).to_pylist()
    return [{**row, "measured_time": None if us is None else us * 1000} for row, us in zip(rest, micro, strict=True)]


def by_part(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Rows of the clean measurements by reconciled part; rows without one are left out."""
    import pyarrow.compute as pc

    found: dict[str, list[dict[str, Any]]] = {}
    for row in measured(table.filter(pc.is_valid(table.column("part")))):
        found.setdefault(row["part"], []).append(row)
    return found
