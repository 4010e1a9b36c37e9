"""The hot tail: clean rows that fuse gave and the tables do not have yet, and the last reading of every signal.

Everything here is Arrow in memory; the durable log has the same rows, so a crash loses nothing. A tail is shared between the event loop
(which adds), the committing thread (which drops) and queries (which look): ``lock`` is held for the moment of each, never during I/O.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guantong.keep.model import clean_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Latest", "Piece", "Tail", "highest", "last_of_each", "newest_first"]

FOLD_ROWS = 65_536
"""So many rows wait before the last values are worked out without being asked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that came in one call of ``store``, and the log position of that call."""

    position: int
    rows: pa.Table


class Tail:
    """What waits for one participant."""

    def __init__(self, position: int) -> None:
        self.lock = threading.RLock()
        self.position = position
        """Everything in the log up to here is fused."""
        self.rows = 0
        self.latest = Latest()
        self._waiting: dict[str, list[Piece]] = {}

    def add(self, name: str, piece: Piece) -> None:
        """Append rows for a table."""
        self._waiting.setdefault(name, []).append(piece)
        self.rows += piece.rows.num_rows

    def waiting(self, name: str) -> list[Piece]:
        """The pieces that wait for a table, in order of arrival."""
        return list(self._waiting.get(name, ()))

    def names(self) -> list[str]:
        """Tables for which rows wait."""
        return sorted(self._waiting)

    def drop(self, name: str, pieces: int) -> None:
        """Forget the first pieces of a table: they are committed."""
        gone, rest = self._waiting[name][:pieces], self._waiting[name][pieces:]
        self.rows -= sum(piece.rows.num_rows for piece in gone)
        if rest:
            self._waiting[name] = rest
        else:
            del self._waiting[name]


class Latest:
    """The last reading of each signal: highest source time, then sequence, then revision. Late rows do not displace it."""

    def __init__(self) -> None:
        self._folded: pa.Table | None = None
        self._new: list[pa.Table] = []
        self._rows = 0

    def see(self, rows: pa.Table) -> None:
        """Take rows into account."""
        self._new.append(rows)
        self._rows += rows.num_rows
        if self._rows >= FOLD_ROWS:
            self.table()

    def table(self) -> pa.Table:
        """One row a signal, by signal id."""
        import pyarrow as pa

        if self._folded is None:
            self._folded = clean_schema().empty_table()
        if self._new:
            self._folded = last_of_each(pa.concat_tables([self._folded, *self._new]))
            self._new, self._rows = [], 0
        return self._folded

    def encoded(self) -> bytes:
        """The same as an Arrow IPC stream, for the log's mark."""
        import pyarrow as pa

        rows = self.table()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(rows)
        return bytes(sink.getvalue())

    @classmethod
    def decoded(cls, data: bytes) -> Latest:
        """Back from :meth:`encoded`."""
        import pyarrow as pa

        latest = cls()
        with pa.ipc.open_stream(data) as reader:
            latest.see(reader.read_all())
        return latest


def newest_first(rows: pa.Table, *, by_time: bool) -> pa.Table:
    """Rows by signal, then (``by_time``: within each time; else latest time first) highest revision first, last arrival first."""
    order = "ascending" if by_time else "descending"
    return rows.sort_by(
        [
            ("signal_id", "ascending"),
            ("source_time", order),
            ("source_ns", order),
            ("sequence", order),
            ("revision", "descending"),
            ("log_position", "descending"),
        ]
    )


def last_of_each(rows: pa.Table) -> pa.Table:
    """The last reading of each signal, by signal id."""
    return _first_of_runs(newest_first(rows, by_time=False), ["signal_id"])


def highest(rows: pa.Table) -> pa.Table:
    """Of readings with one identity only the highest revision; sorted by signal, source time and sequence."""
    return _first_of_runs(newest_first(rows, by_time=True), ["signal_id", "source_time", "source_ns", "sequence"])


def _first_of_runs(rows: pa.Table, key: list[str]) -> pa.Table:
    """The first row of each run of equal keys in sorted rows; nulls are equal to each other."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows.num_rows < 2:
        return rows
    first = np.zeros(rows.num_rows, dtype=bool)
    first[0] = True
    for name in key:
        column = rows[name].combine_chunks()
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if column.null_count:
            empty = column.is_null().to_numpy(zero_copy_only=False)
            first[1:] |= empty[1:] != empty[:-1]
            column = pc.fill_null(column, 0)
        values = column.to_numpy(zero_copy_only=False)
        first[1:] |= values[1:] != values[:-1]
    return rows if first.all() else rows.filter(pa.array(first))
