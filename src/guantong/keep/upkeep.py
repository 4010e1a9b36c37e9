"""Upkeep of the tables: many small files become few sorted ones, repeats go, retention is kept, replaced files are removed.

It runs in the committing thread, so there is one writer. A day is rewritten in one commit of the Delta protocol (an overwrite of its
partition); the application transaction stays, so exactly-once is untouched. Every revision stays; only a row whose identity and revision
are there already is a repeat, and of repeats the first arrival stays. Retention counts whole days: a row goes when its day is more than
the days of its signal ago.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from guantong.base.errors import Retryable
from guantong.keep.delta import READINGS, ROW_GROUP, Table, foreign, said
from guantong.keep.model import READINGS_KEY, Retention, Upkeep, clean_schema
from guantong.keep.rules import DAY_NS
from guantong.keep.tail import first_of_runs, in_order

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FILES_OF_TODAY", "keep_up"]

FILES_OF_TODAY = 16
"""A day that still grows is rewritten when it has so many files; an older one, when it has more than one."""
GROUP_ROWS = 1_000_000
"""Rows that are sorted at once; a day with more is rewritten signal group by signal group. The library may then mix the order of
pieces, never the rows within one, so that a row group still covers few signals."""
FILE_BYTES = 256 * 1024**2


def keep_up(table: Table, retention: Retention, now: int, replaced_s: float) -> Upkeep:
    """One round over one table. Raises Retryable ``keep.table-unwritable``."""
    try:
        with table.writing():
            return _readings(table, retention, now, replaced_s) if table.name == READINGS else _plain(table, replaced_s)
    except foreign() as error:
        raise Retryable("keep.table-unwritable", table=table.name, reason=said(error)) from error


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
    for day, (files, rows) in sorted(_days(handle).items()):
        gone, some = _expired(retention, day, today)
        kept_some = _rows_but(table, day, gone, some)
        if kept_some == 0:
            handle.delete(f"day = '{_date(day)}'")
            table.written_aside()
            expired += rows
            continue
        if files > (1 if day < today else FILES_OF_TODAY - 1) or kept_some < rows:
            written = _rewrite(table, day, gone, some)
            repeats += kept_some - written
            expired += rows - kept_some
    removed = _vacuum(handle, replaced_s)
    after = _sums(handle)
    return Upkeep(table.name, before[0], after[0], before[1], after[1], repeats, expired, removed)


def _expired(retention: Retention, day: int, today: int) -> tuple[bool, list[int]]:
    """Whether readings of a day are too old by default, and the signals for which the opposite holds."""

    def old(days: float | None) -> bool:
        return days is not None and today - day > days

    default = old(retention.days)
    return default, sorted(signal for signal in retention.spoken_of() if old(retention.days_of(signal)) != default)


def _condition(day: int, gone: bool, some: list[int]) -> Any:
    """Arrow expression: the rows of a day that stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    condition = pc.field("day") == pa.scalar(day, pa.int32()).cast(pa.date32())
    if gone or some:
        named = pc.field("signal_id").isin(pa.array(some, pa.int32()))
        condition &= named if gone else ~named
    return condition


def _rows_but(table: Table, day: int, gone: bool, some: list[int]) -> int:
    if gone and not some:
        return 0
    found: int = table.dataset().count_rows(filter=_condition(day, gone, some))
    return found


def _rewrite(table: Table, day: int, gone: bool, some: list[int]) -> int:
    """Write a day anew; the rows that it then has."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import CommitProperties, write_deltalake

    dataset = table.dataset()
    kept = _condition(day, gone, some)
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
        for group in groups:
            wanted = kept & pc.field("signal_id").isin(pa.array(group, pa.int32()))
            rows = _once(dataset.scanner(clean_schema().names, filter=wanted).to_table().cast(clean_schema()))
            written += rows.num_rows
            yield from rows.to_batches(max_chunksize=ROW_GROUP)

    handle = table.handle()
    assert handle is not None
    write_deltalake(
        handle,
        pa.RecordBatchReader.from_batches(clean_schema(), pieces()),
        mode="overwrite",
        predicate=f"day = '{_date(day)}'",
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
