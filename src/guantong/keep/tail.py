"""The hot tail: clean rows that fuse gave and the tables do not have yet, and the last reading of every signal.

Everything here is Arrow in memory; the durable log has the same rows, so a crash loses nothing. A tail is shared between the event loop
(which adds), the committing thread (which drops) and queries (which look): ``lock`` is held for the moment of each, never during I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guantong.keep.model import READINGS_KEY, clean_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Latest", "Piece", "Tail", "first_of_runs", "highest", "in_order", "last_of_each"]

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


def in_order(rows: pa.Table) -> pa.Table:
    """Rows by signal and source time, of one identity the highest revision first, then the last arrival."""
    rows = rows.combine_chunks()
    return _taken(rows, _order(rows, "ascending"))


def last_of_each(rows: pa.Table) -> pa.Table:
    """The last reading of each signal, by signal id."""
    import numpy as np
    import pyarrow as pa

    rows = rows.combine_chunks()
    if rows.num_rows > 1_000:
        # only rows at the newest time of their signal can be the last: the sort is left with a handful
        signal, time = rows["signal_id"].to_numpy(), rows["source_time"].cast(pa.int64()).to_numpy()
        newest = np.full(int(signal.max()) + 1, np.iinfo(np.int64).min)
        np.maximum.at(newest, signal, time)
        rows = rows.filter(pa.array(time == newest[signal]))
    order = _order(rows, "descending")
    return rows.take(order.filter(first_of_runs(rows, order, ["signal_id"])))


def highest(rows: pa.Table) -> pa.Table:
    """Of readings with one identity only the highest revision; sorted by signal, source time and sequence."""
    rows = rows.combine_chunks()
    order = _order(rows, "ascending")
    return _taken(rows, order.filter(first_of_runs(rows, order, READINGS_KEY)))


def _taken(rows: pa.Table, order: pa.Array) -> pa.Table:
    """Rows by their numbers; a column without a value needs no picking, and of the columns of readings half have none."""
    import pyarrow as pa

    return pa.table(
        [
            column.slice(0, len(order)) if column.null_count == rows.num_rows else column.take(order)
            for column in rows.columns
        ],
        schema=rows.schema,
    )


def _order(rows: pa.Table, times: str) -> pa.Array:
    """Row numbers by signal, then time (ascending or descending), then highest revision and last arrival first."""
    import pyarrow.compute as pc

    keys = [("signal_id", "ascending"), ("source_time", times), ("source_ns", times), ("sequence", times)]
    return pc.sort_indices(rows, [*keys, ("revision", "descending"), ("log_position", "descending")])


def first_of_runs(rows: pa.Table, order: pa.Array, key: Sequence[str]) -> pa.Array:
    """Which of the ordered rows begins a run of equal keys; nulls are equal to each other."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    first = np.zeros(len(order), dtype=bool)
    first[:1] = True
    for name in key:
        column = rows[name].take(order)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if column.null_count:
            empty = column.is_null().to_numpy()
            first[1:] |= empty[1:] != empty[:-1]
            column = pc.fill_null(column, 0)
        values = column.to_numpy()
        first[1:] |= values[1:] != values[:-1]
    return pa.array(first)
