"""Readings gathered column by column, so that a batch is built without touching a row twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guantong.base.batch import BAD, GOOD, reading_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Readings", "Value"]

Value = float | int | str | bool | None
"""A value in its own type; None where the status is bad."""


class Readings:
    """Columns of :func:`guantong.base.batch.reading_schema` that grow."""

    __slots__ = ("flag", "number", "receive", "sequence", "server", "signal", "source", "status", "text", "whole")

    def __init__(self) -> None:
        self.signal: list[str] = []
        self.source: list[int] = []
        self.server: list[int | None] = []
        self.receive: list[int] = []
        self.number: list[float | None] = []
        self.whole: list[int | None] = []
        self.text: list[str | None] = []
        self.flag: list[bool | None] = []
        self.status: list[int] = []
        self.sequence: list[int | None] = []

    def __len__(self) -> int:
        return len(self.signal)

    def append(
        self,
        signal: str,
        source: int,
        receive: int,
        value: Value,
        *,
        status: int | None = None,
        server: int | None = None,
        sequence: int | None = None,
    ) -> None:
        """Add a reading; the value goes into the column of its own type. No status means good, or bad where there is no value."""
        self.signal.append(signal)
        self.source.append(source)
        self.server.append(server)
        self.receive.append(receive)
        kind = type(value)
        self.number.append(value if kind is float else None)  # type: ignore[arg-type]
        self.whole.append(value if kind is int else None)  # type: ignore[arg-type]
        self.text.append(value if kind is str else None)  # type: ignore[arg-type]
        self.flag.append(value if kind is bool else None)  # type: ignore[arg-type]
        self.status.append((BAD if value is None else GOOD) if status is None else status)
        self.sequence.append(sequence)

    def newest_lag_s(self) -> float | None:
        """Receive time minus source time of the newest reading, in seconds."""
        if not self.source:
            return None
        newest = max(self.source)
        return (self.receive[self.source.index(newest)] - newest) / 1e9

    def batch(self) -> pa.RecordBatch:
        """The rows as one Arrow record batch."""
        import pyarrow as pa

        schema = reading_schema()
        columns = (
            self.signal,
            self.source,
            self.server,
            self.receive,
            self.number,
            self.whole,
            self.text,
            self.flag,
            self.status,
            self.sequence,
        )
        return pa.RecordBatch.from_arrays(
            [
                pa.array(column, pa.int64()).cast(field.type)
                if pa.types.is_timestamp(field.type)
                else pa.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ],
            schema=schema,
        )
