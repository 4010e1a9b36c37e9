"""Rows that fusion adds: the same reading in the right unit, as a further revision with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guantong.fuse.model import Correction

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CORRECTED", "converted", "newest_revisions"]

CORRECTED = "corrected: "
"""Begins the reason of every row that fusion added and no source sent."""


def converted(rows: pa.Table, signal: int, start: int, end: int, fix: Correction) -> pa.Table:
    """For each reading of the signal in the closed interval (ns): its next revision, value brought back by the correction.

    rows: clean rows, all revisions. Readings that have such a revision already get none.
    """
    import polars as pl

    schema = rows.schema
    slope, shift = float(fix.value["slope"]), float(fix.value["shift"])  # type: ignore[arg-type]
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    at = pl.col("source_time").dt.epoch("us") * 1000 + pl.col("source_ns")
    frame = frame.filter((pl.col("signal_id") == signal) & at.is_between(start, end))
    who = ["signal_id", "source_time", "source_ns", "sequence"]
    frame = frame.sort([*who, "revision"])
    done = frame.filter(pl.col("reason").str.starts_with(CORRECTED).fill_null(value=False)).select(who)
    newest = frame.unique(who, keep="last", maintain_order=True)
    newest = newest.join(done, on=who, how="anti", nulls_equal=True)
    value = pl.coalesce(pl.col("value_f64"), pl.col("value_i64").cast(pl.Float64))
    newest = newest.filter(value.is_not_null()).with_columns(
        ((value - shift) / slope).alias("value_f64"),
        pl.lit(None, pl.Int64).alias("value_i64"),
        (pl.col("revision") + 1).alias("revision"),
        pl.lit(f"{CORRECTED}{fix.value['from']} to {fix.value['to']}").alias("reason"),
        pl.concat_str([pl.col("corrections").fill_null(""), pl.lit(" " + fix.id)])
        .str.strip_chars()
        .alias("corrections"),
    )
    return newest.to_arrow().cast(schema)


def newest_revisions(rows: pa.Table) -> pa.Table:
    """Of each reading among the rows the highest revision, by signal, time and sequence."""
    import polars as pl

    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    who = ["signal_id", "source_time", "source_ns", "sequence"]
    return frame.sort([*who, "revision"]).unique(who, keep="last", maintain_order=True).to_arrow().cast(rows.schema)
