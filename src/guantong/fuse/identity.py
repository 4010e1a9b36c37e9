"""Identity of readings: which rows came before, which are further revisions.

Identity is (source, signal, source time, the source's own sequence or none); our log position is never part of it. Same identity with
the value and status of a revision already there: a duplicate. Anything else under the same identity: the next revision. The answer
doesn't depend on how rows are cut into batches.

Newest rows are remembered in memory up to a limit (:class:`Recent`). For each signal it is known up to which time memory is incomplete
(``floor``); rows at or before it are looked up in the tables by the caller.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

__all__ = ["NEVER", "Keys", "Recent", "first_rows", "judge", "value_keys"]

NEVER = -(2**63)
"""Stands for no sequence, and for before all time."""

_DENSE = 1 << 22
"""Largest range of numbers for which a table of first rows is laid out."""

_VALUES = ("value_f64", "value_i64", "value_text", "value_bool")


def first_rows(codes: Ints) -> tuple[Ints, Ints]:
    """The different numbers, ascending, and the first row of each: ``np.unique`` without its sort where the numbers lie close together."""
    import numpy as np

    if not len(codes):
        return codes, np.zeros(0, np.int64)
    low = int(codes.min())
    width = int(codes.max()) - low + 1
    if width > _DENSE:
        return np.unique(codes, return_index=True)
    first = np.full(width, -1, np.int64)
    first[codes[::-1] - low] = np.arange(len(codes) - 1, -1, -1)  # the last to be written is the first row
    found = np.flatnonzero(first >= 0)
    return found + low, first[found]


@dataclass(slots=True)
class Keys:
    """Columns of one piece of readings, all of one length: what decides identity and sameness."""

    signal: Ints
    time: Ints
    sequence: Ints
    kind: Ints
    """1 f64, 2 i64, 3 text, 4 bool, 0 no value."""
    bits: Ints
    """The value's own bits; of text a 64-bit BLAKE2b digest."""
    status: Ints
    revision: Ints | None = None

    def hashes(self) -> Ints:
        """One number per identity; different identities may share one, so it only narrows the search."""
        import numpy as np

        with np.errstate(over="ignore"):
            mixed = self.time * np.int64(-7046029254386353131) + self.signal * np.int64(-4417276706812531889)
            mixed ^= mixed >> np.int64(29)
            return mixed * np.int64(-3335678366873096957) + self.sequence * np.int64(-49064778989728563)

    def take(self, where: Any) -> Keys:
        """The rows at those indexes or flags."""
        return Keys(
            self.signal[where],
            self.time[where],
            self.sequence[where],
            self.kind[where],
            self.bits[where],
            self.status[where],
            None if self.revision is None else self.revision[where],
        )

    def __len__(self) -> int:
        return len(self.time)


def value_keys(table: pa.Table) -> tuple[Ints, Ints]:
    """(kind, bits) of the four value columns; every NaN is one and the same value."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = np.zeros(table.num_rows, np.int64)
    bits = np.zeros(table.num_rows, np.int64)
    for number, name in enumerate(_VALUES, 1):
        column = table[name]
        if column.null_count == table.num_rows:
            continue
        there = pc.is_valid(column).to_numpy()
        kind[there] = number
        if name == "value_f64":
            floats = column.to_numpy()
            plain = np.where(np.isnan(floats), np.nan, floats)
            bits[there] = plain.view(np.int64)[there]
        elif name == "value_text":
            encoded = column.combine_chunks().dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            digests = np.array(
                [
                    int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
                    for text in encoded.dictionary.to_pylist()
                ],
                np.int64,
            )
            bits[there] = digests[encoded.indices.fill_null(0).to_numpy()[there]]
        else:
            bits[there] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()[there]
    return kind, bits


class Recent:
    """The newest rows of one participant, oldest pieces forgotten first; never more than ``limit`` rows and one piece."""

    def __init__(self, limit: int) -> None:
        import numpy as np

        self.limit = limit
        self.rows = 0
        self._pieces: deque[tuple[Keys, Ints, int, int]] = deque()
        self._newest = np.full(64, NEVER, np.int64)
        self._floor = np.full(64, NEVER, np.int64)

    def know(self, signal: int, newest: int, *, complete: bool) -> None:
        """A signal of the catalogue. ``complete``: nothing of it was stored before; else all up to ``newest`` must be looked up."""
        self._grow(signal)
        self._newest[signal] = max(self._newest[signal], newest)
        if not complete:
            self._floor[signal] = max(self._floor[signal], newest)

    def newest(self, signal: int) -> int:
        """Latest source time of the signal, :data:`NEVER` if there is none."""
        return int(self._newest[signal]) if signal < len(self._newest) else NEVER

    def suspects(self, keys: Keys) -> Flags:
        """Rows that are not newer than what their signal had: only these can have been there before."""
        if len(keys):
            self._grow(int(keys.signal.max()))
        return keys.time <= self._newest[keys.signal]

    def forgotten(self, keys: Keys) -> Flags:
        """Rows at a time for which memory is incomplete."""
        if len(keys):
            self._grow(int(keys.signal.max()))
        return keys.time <= self._floor[keys.signal]

    def same(self, keys: Keys) -> list[Keys]:
        """Remembered rows that may have the identity of one of these."""
        import polars as pl

        if not len(keys):
            return []
        low, high = int(keys.time.min()), int(keys.time.max())
        wanted = pl.Series(keys.hashes())
        found = []
        for piece, hashes, first, last in self._pieces:
            if first <= high and last >= low:
                where = pl.Series(hashes).is_in(wanted.implode()).to_numpy()
                if where.any():
                    found.append(piece.take(where))
        return found

    def add(self, keys: Keys) -> None:
        """Remember rows that were kept (with their revisions)."""
        import numpy as np

        if not len(keys):
            return
        self._grow(int(keys.signal.max()))
        np.maximum.at(self._newest, keys.signal, keys.time)
        self._pieces.append((keys, keys.hashes(), int(keys.time.min()), int(keys.time.max())))
        self.rows += len(keys)
        if len(self._pieces) > 256:
            self._merge()
        while self.rows > self.limit and len(self._pieces) > 1:
            old = self._pieces.popleft()[0]
            self.rows -= len(old)
            np.maximum.at(self._floor, old.signal, old.time)

    def _merge(self) -> None:
        # many small pieces (live data) become few, so that a search stays short
        pieces = list(self._pieces)
        merged: deque[tuple[Keys, Ints, int, int]] = deque()
        group: list[Keys] = []
        size = 0
        for piece, *_ in pieces:
            group.append(piece)
            size += len(piece)
            if size >= self.limit // 16:
                merged.append(_piece(group))
                group, size = [], 0
        if group:
            merged.append(_piece(group))
        self._pieces = merged

    def _grow(self, signal: int) -> None:
        import numpy as np

        if signal >= len(self._newest):
            more = np.full(max(signal + 1, 2 * len(self._newest)) - len(self._newest), NEVER, np.int64)
            self._newest = np.concatenate([self._newest, more])
            self._floor = np.concatenate([self._floor, more])


def _piece(group: list[Keys]) -> tuple[Keys, Ints, int, int]:
    keys = _joined(group)
    return keys, keys.hashes(), int(keys.time.min()), int(keys.time.max())


def _joined(pieces: list[Keys]) -> Keys:
    import numpy as np

    def column(name: str) -> Ints:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    return Keys(*(column(name) for name in ("signal", "time", "sequence", "kind", "bits", "status", "revision")))


def judge(keys: Keys, suspects: Flags, known: list[Keys]) -> tuple[Flags, Ints, Flags]:
    """Decide each row of a chunk, given rows known from before.

    keys: rows in order of arrival · suspects: rows that may equal one of ``known`` · known: rows with their revisions.
    Returns (duplicate, revision, status only): whether the row was there before; its revision, 0 for a first; and whether a further
    revision differs from the one before it in the status alone.
    """
    import numpy as np

    size = len(keys)
    duplicate = np.zeros(size, np.bool_)
    revision = np.zeros(size, np.int64)
    status_only = np.zeros(size, np.bool_)
    hashes = keys.hashes()
    ordered = np.sort(hashes)
    twice_seen = ordered[1:][ordered[1:] == ordered[:-1]]
    doubtful = np.isin(hashes, twice_seen) if len(twice_seen) else np.zeros(size, np.bool_)
    if known:
        doubtful |= suspects
    rows = np.flatnonzero(doubtful)
    if not len(rows):
        return duplicate, revision, status_only
    import polars as pl

    frame = _frame(keys.take(rows), rows, None)
    for piece in known:
        frame = pl.concat([frame, _frame(piece, np.full(len(piece), -1, np.int64), piece.revision)])
    who = ["signal", "time", "sequence"]
    frame = frame.sort([*who, "kind", "bits", "status", "order"])
    same = pl.all_horizontal(
        pl.col(name).eq(pl.col(name).shift(1)) for name in (*who, "kind", "bits", "status")
    ).fill_null(value=False)
    frame = frame.with_columns(same.alias("same"))
    twice = frame.filter(pl.col("same") & (pl.col("order") >= 0))["order"].to_numpy()
    duplicate[twice] = True
    left = frame.filter(~pl.col("same")).sort([*who, "order", "revision"])
    left = left.with_columns(
        (pl.col("revision").max().over(who).fill_null(-1) + pl.col("revision").is_null().cum_sum().over(who)).alias(
            "next"
        ),
        (pl.col("kind").eq(pl.col("kind").shift(1).over(who)) & pl.col("bits").eq(pl.col("bits").shift(1).over(who)))
        .fill_null(value=False)
        .alias("value_same"),
    ).filter(pl.col("order") >= 0)
    revision[left["order"].to_numpy()] = left["next"].to_numpy()
    status_only[left["order"].to_numpy()] = left["value_same"].to_numpy()
    return duplicate, revision, status_only


def _frame(keys: Keys, order: Ints, revision: Ints | None) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        {
            "signal": keys.signal,
            "time": keys.time,
            "sequence": keys.sequence,
            "kind": keys.kind,
            "bits": keys.bits,
            "status": keys.status,
            "order": order,
            "revision": revision if revision is not None else pl.Series([None] * len(keys), dtype=pl.Int64),
        }
    )
