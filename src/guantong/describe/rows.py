"""The rows of a dataset as a partner reads them: every row names its signal, its source and its unit.

pyarrow is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["named_readings", "reading_rows_schema"]


@cache
def reading_rows_schema() -> pa.Schema:
    """Columns of a dataset of readings.

    source, signal (the source's own id), name, unit (UCUM) · source_time: UTC, nanoseconds, as the source stated it · aligned_time: with
    the clock correction, null where there is none · exactly one value column is set unless the status is bad · status: OPC UA StatusCode
    · sequence: the source's own number · revision: 0 first · corrections: ids, separated by blanks.
    """
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            pa.field("signal_id", pa.int32(), nullable=False),
            pa.field("source", text, nullable=False),
            pa.field("signal", text, nullable=False),
            pa.field("name", text, nullable=False),
            pa.field("unit", text),
            pa.field("source_time", pa.timestamp("ns", tz="UTC"), nullable=False),
            pa.field("aligned_time", pa.timestamp("us", tz="UTC")),
            pa.field("value_f64", pa.float64()),
            pa.field("value_i64", pa.int64()),
            pa.field("value_text", text),
            pa.field("value_bool", pa.bool_()),
            pa.field("status", pa.int64(), nullable=False),
            pa.field("sequence", pa.int64()),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("corrections", text),
        ]
    )


def named_readings(batch: pa.RecordBatch, signals: Mapping[int, Any]) -> pa.RecordBatch:
    """Rows of ``keep.clean_schema`` with the words of the catalogue; microseconds and the rest become nanoseconds again."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = reading_rows_schema()
    codes = batch.column("signal_id").dictionary_encode()
    known = [signals.get(key) for key in codes.dictionary.to_pylist()]

    def column(attribute: str, missing: str | None) -> pa.Array:
        words = [missing if one is None else (getattr(one, attribute) or missing) for one in known]
        return pa.array(words, pa.string()).take(codes.indices)

    microseconds = batch.column("source_time").cast(pa.int64())
    nanoseconds = pc.add(pc.multiply(microseconds, 1000), batch.column("source_ns").cast(pa.int64()))
    columns = {
        "source": column("source", ""),
        "signal": column("native_id", ""),
        "name": column("name", ""),
        "unit": column("unit", None),
        "source_time": nanoseconds.cast(pa.timestamp("ns", tz="UTC")),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name] if field.name in columns else batch.column(field.name) for field in schema], schema=schema
    )
