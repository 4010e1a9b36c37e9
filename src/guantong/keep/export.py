"""Rows as files that other tools read, made piece by piece: Parquet, CSV, Arrow IPC (stream)."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.errors import Skippable
from guantong.keep.model import clean_measurement_schema, clean_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "schema_of", "written"]

FORMATS: Mapping[str, str] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}
"""Formats and their media types."""


def schema_of(kind: str) -> pa.Schema | None:
    """The schema of a table whose columns are known before its first row."""
    return {"readings": clean_schema, "measurements": clean_measurement_schema}.get(kind, lambda: None)()


class _Sink(io.RawIOBase):
    """What writers write to: bytes are taken away as they come; nothing can be sought."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        return found


async def written(
    batches: AsyncIterator[pa.RecordBatch], form: str, schema: pa.Schema | None = None
) -> AsyncIterator[bytes]:
    """The bytes of a file of all batches, a piece for each batch. Without a schema, that of the first batch; without both, empty.

    CSV: RFC 4180, times as RFC 3339 with microseconds, empty for null; a text that a spreadsheet would run as a formula is quoted with
    an apostrophe. Raises Skippable ``keep.query-invalid`` for an unknown format.
    """
    if form not in FORMATS:
        raise Skippable("keep.query-invalid", reason=f"format {form[:20]!r}; known are {', '.join(FORMATS)}")
    sink, writer = _Sink(), None
    async for batch in batches:
        if writer is None:
            writer = _writer(form, sink, schema or batch.schema)
        writer.write_batch(batch)
        if piece := sink.taken():
            yield piece
    if writer is None and schema is not None:
        writer = _writer(form, sink, schema)
    if writer is not None:
        writer.close()
        if piece := sink.taken():
            yield piece


def _writer(form: str, sink: _Sink, schema: pa.Schema) -> Any:
    import pyarrow as pa

    if form == "arrow":
        return pa.ipc.new_stream(sink, schema)
    if form == "parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(sink, schema, compression="zstd")
    return _Csv(sink, schema)


class _Csv:
    def __init__(self, sink: _Sink, schema: pa.Schema) -> None:
        self._sink = sink
        self._text = io.StringIO()
        self._lines = csv.writer(self._text, lineterminator="\r\n")
        self._lines.writerow(schema.names)
        self._give()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        self._lines.writerows(zip(*(_cells(column) for column in batch.columns), strict=True))
        self._give()

    def close(self) -> None:
        self._give()

    def _give(self) -> None:
        self._sink.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _cells(column: pa.Array) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_timestamp(kind):
        column = pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ" if kind.tz else "%Y-%m-%dT%H:%M:%S")
    values = column.to_pylist()
    if pa.types.is_boolean(kind):
        return [None if value is None else str(value).lower() for value in values]
    if pa.types.is_string(kind):
        return [
            "'" + value if value is not None and value[:1] in ("=", "+", "-", "@", "\t") else value for value in values
        ]
    return [repr(value) if isinstance(value, float) else value for value in values]
