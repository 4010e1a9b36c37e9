"""Upkeep of the tables: many small files become few sorted ones, repeats go, retention is kept, replaced files are removed.

It runs in the committing thread, so there is one writer. A day is rewritten in one commit of the Delta protocol (an overwrite of its
partition); the application transaction stays, so exactly-once is untouched. Every revision stays; only a row whose identity and revision
are there already is a repeat, and of repeats the first arrival stays. Retention counts whole days: a row goes when its day is more than
the days of its signal ago.

A day of more than :data:`PORTION_ROWS` rows is sorted portion by portion of the log, each once, so that a busy day is not written again
every hour; repeats are then found within a portion. A round stops after :data:`ROUND_S` and says that there is more, so that commits
never wait for long.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from guantong.base.errors import Retryable
from guantong.keep.delta import READINGS, ROW_GROUP, SMALL_BYTES, Table, foreign, said
from guantong.keep.model import READINGS_KEY, Retention, Upkeep, clean_schema
from guantong.keep.rules import DAY_NS
from guantong.keep.tail import first_of_runs, in_order

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FILES_OF_TODAY", "keep_up", "together"]

FILES_OF_TODAY = 16
"""A day that still grows is rewritten when it has so many files; an older one, when it has more than one."""
GROUP_ROWS = 1_000_000
"""Rows that are sorted at once; a day with more is rewritten signal group by signal group. The library may then mix the order of
pieces, never the rows within one, so that a row group still covers few signals."""
PORTION_ROWS = 4_000_000
"""Rows of a portion of a large day."""
ROUND_S = 10.0
"""After so many seconds a round leaves the rest to the next one."""
FILE_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows of a day with these log positions, both included."""

    first: int
    last: int
    rows: int
    ready: bool = False
    """One file, sorted before."""
    large: bool = False
    """And large enough to stay as it is."""


_MAX = 2**63 - 1


def keep_up(table: Table, retention: Retention, now: int, replaced_s: float) -> Upkeep:
    """One round over one table. Raises Retryable ``keep.table-unwritable``."""
    try:
        with table.writing():
            return _readings(table, retention, now, replaced_s) if table.name == READINGS else _plain(table, replaced_s)
    except foreign() as error:
        raise Retryable("keep.table-unwritable", table=table.name, reason=said(error)) from error


def together(rounds: Sequence[Upkeep]) -> Upkeep:
    """Rounds over one table as one."""
    first, last = rounds[0], rounds[-1]
    return Upkeep(
        first.table,
        first.files_before,
        last.files_after,
        first.rows_before,
        last.rows_after,
        sum(one.repeats for one in rounds),
        sum(one.expired for one in rounds),
        sum(one.removed for one in rounds),
    )


def _plain(table: Table, replaced_s: float) -> Upkeep:
    """Measurements and named tables: they have no partitions, no retention, and grow slowly."""
    handle = table.handle()
    if handle is None:
        return Upkeep(table.name, 0, 0, 0, 0, 0, 0, 0)
    before = _sums(handle)
    if before[0] > 1:
        handle.optimize.compact(target_size=FILE_BYTES)
        table.written_aside()
    removed = _vacuum(handle, replaced_s)
    after = _sums(handle)
    return Upkeep(table.name, before[0], after[0], before[1], after[1], 0, 0, removed)


def _readings(table: Table, retention: Retention, now: int, replaced_s: float) -> Upkeep:
    handle = table.handle()
    if handle is None:
        return Upkeep(table.name, 0, 0, 0, 0, 0, 0, 0)
    before = _sums(handle)
    today = now // DAY_NS
    repeats = expired = 0
    worked, more, until = False, False, time.monotonic() + ROUND_S
    for day, (files, rows) in sorted(_days(handle).items()):
        gone, some = _expired(retention, day, today)
        kept_some = _rows_but(table, day, gone, some)
        if kept_some == 0:
            handle.delete(f"day = '{_date(day)}'")
            table.written_aside()
            expired += rows
            continue
        if files > (1 if day < today else FILES_OF_TODAY - 1) or kept_some < rows:
            for portion in _portions(table, day) if rows > PORTION_ROWS else [Portion(0, _MAX, rows)]:
                held = _rows_but(table, day, gone, some, portion)
                if portion.ready and held == portion.rows:
                    continue
                if worked and time.monotonic() > until:
                    more = True
                    break
                worked = True
                written = _rewrite(table, day, gone, some, portion)
                repeats += held - written
                expired += portion.rows - held
    removed = _vacuum(handle, replaced_s)
    after = _sums(handle)
    return Upkeep(table.name, before[0], after[0], before[1], after[1], repeats, expired, removed, more)


def _expired(retention: Retention, day: int, today: int) -> tuple[bool, list[int]]:
    """Whether readings of a day are too old by default, and the signals for which the opposite holds."""

    def old(days: float | None) -> bool:
        return days is not None and today - day > days

    default = old(retention.days)
    return default, sorted(signal for signal in retention.spoken_of() if old(retention.days_of(signal)) != default)


def _condition(day: int, gone: bool, some: list[int], portion: Portion | None = None) -> Any:
    """Arrow expression: the rows of a day, or of a portion of it, that stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    condition = pc.field("day") == pa.scalar(day, pa.int32()).cast(pa.date32())
    if portion is not None and portion.last != _MAX:
        condition &= (pc.field("log_position") >= portion.first) & (pc.field("log_position") <= portion.last)
    if gone or some:
        named = pc.field("signal_id").isin(pa.array(some, pa.int32()))
        condition &= named if gone else ~named
    return condition


def _rows_but(table: Table, day: int, gone: bool, some: list[int], portion: Portion | None = None) -> int:
    if gone and not some:
        return 0
    found: int = table.dataset().count_rows(filter=_condition(day, gone, some, portion))
    return found


def _portions(table: Table, day: int) -> list[Portion]:
    """A day's files in portions of the log that share no position, oldest first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    handle = table.handle()
    assert handle is not None
    ordered = {
        PurePosixPath(unquote(fragment.path)).name: _ordered(fragment)
        for fragment in table.dataset().get_fragments(_condition(day, gone=False, some=[]))
    }
    actions = pa.table(handle.get_add_actions(flatten=True))
    actions = actions.filter(pc.equal(actions["partition.day"].cast(pa.date32()).cast(pa.int32()), day))
    names = ("min.log_position", "max.log_position", "num_records", "size_bytes", "path")
    found: list[Portion] = []
    for first, last, rows, size, path in sorted(zip(*(actions[name].to_pylist() for name in names), strict=True)):
        ready = ordered.get(PurePosixPath(unquote(path)).name, False)
        large = ready and (size > SMALL_BYTES or rows >= PORTION_ROWS // 2)
        before = found[-1] if found else None
        if before is not None and (
            first <= before.last or (before.rows + rows <= PORTION_ROWS and not large and not before.large)
        ):
            found[-1] = Portion(before.first, max(before.last, last), before.rows + rows)
        else:
            found.append(Portion(first, last, rows, ready, large))
    return found


def _ordered(fragment: Any) -> bool:
    """Whether a row group of a file has but a part of its signals, as in a sorted one, even where the library mixed the pieces."""
    spans = [group.statistics["signal_id"] for group in fragment.row_groups]
    whole = max(span["max"] for span in spans) - min(span["min"] for span in spans) + 1
    return bool(sum(span["max"] - span["min"] + 1 for span in spans) <= (0.6 * whole + 1) * len(spans))


def _rewrite(table: Table, day: int, gone: bool, some: list[int], portion: Portion) -> int:
    """Write a day, or a portion of it, anew; the rows that it then has."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import CommitProperties, write_deltalake

    dataset = table.dataset()
    kept = _condition(day, gone, some, portion)
    counts = dataset.scanner(["signal_id"], filter=kept).to_table().group_by("signal_id").aggregate([([], "count_all")])
    counts = counts.sort_by("signal_id")
    groups: list[list[int]] = [[]]
    total = 0
    for signal, number in zip(counts["signal_id"].to_pylist(), counts["count_all"].to_pylist(), strict=True):
        if groups[-1] and total + number > GROUP_ROWS:
            groups.append([])
            total = 0
        groups[-1].append(signal)
        total += number
    written = 0

    def pieces() -> Iterator[pa.RecordBatch]:
        nonlocal written
        rest = clean_schema().empty_table()
        for group in groups:
            wanted = kept & pc.field("signal_id").isin(pa.array(group, pa.int32()))
            rows = _once(dataset.scanner(clean_schema().names, filter=wanted).to_table().cast(clean_schema()))
            written += rows.num_rows
            # pieces of a row group's size, across groups, so that pieces which change places stay row groups
            rows = pa.concat_tables([rest, rows]).combine_chunks()
            even = rows.num_rows - rows.num_rows % ROW_GROUP
            yield from rows.slice(0, even).to_batches(max_chunksize=ROW_GROUP)
            rest = rows.slice(even)
        yield from rest.to_batches()

    handle = table.handle()
    assert handle is not None
    write_deltalake(
        handle,
        pa.RecordBatchReader.from_batches(clean_schema(), pieces()),
        mode="overwrite",
        predicate=f"day = '{_date(day)}'"
        + ("" if portion.last == _MAX else f" AND log_position >= {portion.first} AND log_position <= {portion.last}"),
        writer_properties=table.properties(),
        target_file_size=FILE_BYTES,
        commit_properties=CommitProperties(custom_metadata={"guantong.upkeep": "sorted"}),
    )
    table.written_aside()
    return written


def _once(rows: pa.Table) -> pa.Table:
    """Rows in order, of the same identity and revision only the first arrival."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = in_order(rows)  # of one identity the highest revision first, then the last arrival
    key = (*READINGS_KEY, "revision")
    backwards = pa.array(range(rows.num_rows - 1, -1, -1), pa.int64())
    last = first_of_runs(rows, backwards, key)
    return rows.filter(pc.array_take(last, backwards)) if rows.num_rows else rows


def _days(handle: Any) -> dict[int, tuple[int, int]]:
    """Files and rows of each day."""
    import pyarrow as pa

    actions = pa.table(handle.get_add_actions(flatten=True))
    found: dict[int, tuple[int, int]] = {}
    for day, rows in zip(
        actions["partition.day"].cast(pa.date32()).cast(pa.int32()).to_pylist(),
        actions["num_records"].to_pylist(),
        strict=True,
    ):
        files, total = found.get(day, (0, 0))
        found[day] = (files + 1, total + (rows or 0))
    return found


def _sums(handle: Any) -> tuple[int, int]:
    import pyarrow as pa

    actions = pa.table(handle.get_add_actions(flatten=True))
    return actions.num_rows, sum(rows or 0 for rows in actions["num_records"].to_pylist())


def _vacuum(handle: Any, replaced_s: float) -> int:
    return len(handle.vacuum(retention_hours=int(replaced_s // 3600), dry_run=False, enforce_retention_duration=False))


def _date(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
