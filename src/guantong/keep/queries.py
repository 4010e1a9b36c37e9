"""Queries over table and tail: a bounded pool, limits of time, memory and rows, and the statements themselves.

What can be filtered is filtered by Arrow, which prunes files and row groups by partition and statistics; DuckDB aggregates and joins
what is left. DuckDB runs in memory without access to files or network and without extensions. Plain ranges need no SQL: they come
straight from Arrow, in less time and without loading DuckDB.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from guantong.base.batch import BAD
from guantong.base.errors import Refused, Skippable
from guantong.keep.delta import Snapshot
from guantong.keep.model import (
    MEASUREMENT_KEY,
    READINGS_KEY,
    Filter,
    KeepSettings,
    clean_measurement_schema,
    clean_schema,
)
from guantong.keep.tail import Piece, highest, in_order

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "HOW",
    "Engine",
    "Guard",
    "View",
    "as_of",
    "days",
    "downsample",
    "measured",
    "pieces_of_day",
    "select",
    "whole",
]

T = TypeVar("T")
DAY_US = 86_400_000_000
SCAN_ROWS = 1_000_000
"""A day with more rows than this is exported signal group by signal group."""

HOW = {
    "mean": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "count": "count(value)",
    "sum": "sum(value)",
    "stddev": "stddev_samp(value)",
    "first": "arg_min(value, moment)",
    "last": "arg_max(value, moment)",
}
"""What a bucket can be asked for. ``mean`` weighs every reading alike."""


class Guard:
    """The time limit of one query and its caller's wish to leave; checked between pieces of work."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.left = threading.Event()
        self.interrupt: Callable[[], None] | None = None

    def check(self) -> None:
        """Raise Refused ``keep.query-too-long`` when the time is over or the caller has left."""
        if self.left.is_set() or time.monotonic() > self.until:
            raise Refused("keep.query-too-long", seconds=self.seconds)

    def stop(self) -> None:
        """End the query from another thread."""
        self.left.set()
        if self.interrupt is not None:
            self.interrupt()


class Engine:
    """The pool that runs queries. Each thread has one DuckDB in memory, opened when first needed."""

    def __init__(self, settings: KeepSettings, *, inline: bool = False) -> None:
        self._settings = settings
        self._pool = None if inline else ThreadPoolExecutor(settings.query_threads, thread_name_prefix="keep-query")
        self._own = threading.local()
        self._opened: list[Any] = []

    async def run(self, work: Callable[[Guard], T]) -> T:
        """Run ``work`` in the pool; stop it when its time is over or the caller is cancelled.

        Raises Refused ``keep.query-too-long``, ``keep.query-too-large``.
        """
        seconds = self._settings.query_seconds
        if self._pool is None:
            return work(Guard(seconds))
        guard = Guard(float("inf"))

        def begin() -> T:
            # the limit is on the query's own work, not on its wait for a place
            guard.check()
            guard.seconds, guard.until = seconds, time.monotonic() + seconds
            timer = threading.Timer(seconds, guard.stop)
            timer.daemon = True
            timer.start()
            try:
                return work(guard)
            finally:
                timer.cancel()

        future = asyncio.get_running_loop().run_in_executor(self._pool, begin)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            guard.stop()
            future.add_done_callback(_seen)
            raise

    @contextlib.contextmanager
    def sql(self, guard: Guard, **tables: Any) -> Iterator[Callable[[str], pa.Table]]:
        """Run statements over Arrow tables and datasets given by name; each answer is an Arrow table of bounded size."""
        import duckdb

        connection = self._connection()
        limit = self._settings.query_rows_max
        for name, rows in tables.items():
            connection.register(name, rows)

        def ask(statement: str) -> pa.Table:
            guard.check()
            bounded = f"SELECT * FROM ({statement}) LIMIT {limit + 1}"  # noqa: S608 - a statement of this module
            return connection.sql(bounded).to_arrow_table()

        guard.interrupt = connection.interrupt
        try:
            yield lambda statement: _bounded(ask(statement), limit)
        except duckdb.InterruptException as error:
            raise Refused("keep.query-too-long", seconds=guard.seconds) from error
        except duckdb.OutOfMemoryException as error:
            raise Refused(
                "keep.query-too-large", limit=f"{self._settings.query_memory_bytes // 1024**2} MiB of memory"
            ) from error
        except duckdb.Error as error:
            if guard.left.is_set():
                raise Refused("keep.query-too-long", seconds=guard.seconds) from error
            raise Skippable("keep.query-invalid", reason=str(error).splitlines()[0][:200]) from error
        finally:
            guard.interrupt = None
            for name in tables:
                connection.unregister(name)

    def close(self) -> None:
        """Wait for running queries and close."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _connection(self) -> Any:
        found = getattr(self._own, "connection", None)
        if found is None:
            import duckdb

            found = duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""})
            for setting in (
                f"memory_limit='{self._settings.query_memory_bytes // 1024**2}MiB'",
                "enable_progress_bar=false",
                "autoinstall_known_extensions=false",
                "autoload_known_extensions=false",
                # last: from here on no file, no network, and no way back
                "enable_external_access=false",
                "lock_configuration=true",
            ):
                found.execute(f"SET {setting}")
            self._own.connection = found
            self._opened.append(found)
        return found


@dataclass(frozen=True, slots=True)
class View:
    """A table and its tail at one moment."""

    snapshot: Snapshot
    pieces: Sequence[Piece]

    def filtered(self, expression: Any, schema: pa.Schema) -> tuple[Any, pa.Table]:
        """The part of the table and the part of the tail that an Arrow expression selects."""
        import pyarrow as pa

        waiting = [piece.rows for piece in self.pieces]
        tail = pa.concat_tables(waiting) if waiting else schema.empty_table()
        stored = schema.empty_table() if self.snapshot.dataset is None else self.snapshot.dataset
        if expression is not None:
            tail, stored = tail.filter(expression), stored.filter(expression)
        return stored, tail

    def revised(self, start: int | None, end: int | None, tail: pa.Table) -> bool:
        """Whether a reading between two instants (ns) may have more than one revision."""
        import pyarrow.compute as pc

        first = None if start is None else start // 1000
        last = None if end is None else -(-end // 1000)
        return self.snapshot.revised(first, last) or (tail.num_rows > 0 and pc.max(tail["revision"]).as_py() > 0)


def within(signal_ids: Iterable[int] | None, start: int | None, end: int | None) -> Any:
    """Arrow expression: these signals (None: all), ``start <= source time < end`` in ns; None where nothing is asked."""
    import pyarrow as pa
    from pyarrow.dataset import field

    time_type = pa.timestamp("us", tz="UTC")
    parts = []
    if signal_ids is not None:
        listed = sorted(set(signal_ids))
        if len(listed) == 1:
            parts.append(field("signal_id") == pa.scalar(listed[0], pa.int32()))
        else:
            parts.append(field("signal_id").isin(pa.array(listed, pa.int32())))
    for instant, is_start in ((start, True), (end, False)):
        if instant is None:
            continue
        whole, rest = divmod(instant, 1000)
        at = pa.scalar(whole, pa.int64()).cast(time_type)
        day = pa.scalar(whole // DAY_US, pa.int32()).cast(pa.date32())
        exact = field("source_time") == at
        finer = field("source_ns")
        if is_start:
            parts.append(field("day") >= day)
            if rest:
                parts.append((field("source_time") > at) | (exact & (finer >= rest)))
            else:
                parts.append(field("source_time") >= at)
        else:
            parts.append(field("day") <= day)
            if rest:
                parts.append((field("source_time") < at) | (exact & (finer < rest)))
            else:
                parts.append(field("source_time") < at)
    if not parts:
        return None
    expression = parts[0]
    for part in parts[1:]:
        expression &= part
    return expression


def select(
    view: View,
    guard: Guard,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    *,
    revisions: bool,
    limit: int | None,
) -> pa.Table:
    """Readings, sorted by signal, source time and sequence. Raises Refused ``keep.query-too-large``."""
    import pyarrow as pa

    schema = clean_schema()
    stored, tail = view.filtered(within(signal_ids, start, end), schema)
    revised = view.revised(start, end, tail)
    found, count = [tail], tail.num_rows
    # lower revisions are read and then left out, so they may not count against the caller's limit yet
    most = None if limit is None else limit * 4 if revised and not revisions else limit
    batches = stored.to_batches() if isinstance(stored, pa.Table) else stored.scanner(schema.names).to_batches()
    for batch in batches:
        guard.check()
        count += batch.num_rows
        if most is not None and count > most:
            raise Refused("keep.query-too-large", limit=f"{limit} rows")
        if batch.num_rows:
            found.append(pa.Table.from_batches([batch]).cast(schema))
    rows = pa.concat_tables(found)
    guard.check()
    rows = highest(rows) if revised and not revisions else in_order(rows)
    return rows if limit is None else _bounded(rows, limit)


def downsample(
    engine: Engine,
    view: View,
    guard: Guard,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    every_s: float,
    how: Sequence[str],
) -> pa.Table:
    """Buckets of numeric readings whose status is not bad."""
    import pyarrow as pa

    every = round(every_s * 1e6)
    unknown = [name for name in how if name not in HOW]
    if every < 1:
        raise Skippable("keep.query-invalid", reason=f"buckets of {every_s} s")
    if unknown or not how:
        raise Skippable("keep.query-invalid", reason=f"how {unknown}; known are {', '.join(HOW)}")
    stored, tail = view.filtered(within(signal_ids, start, end), clean_schema())
    columns = ", ".join(f"{HOW[name]} AS {name}" for name in dict.fromkeys(how))
    source = _union(view.revised(start, end, tail))
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        rows = ask(
            f"""
            SELECT signal_id, moment - (moment % {every} + {every}) % {every} AS time, {columns}
            FROM (
                SELECT signal_id, epoch_us(source_time) AS moment, coalesce(value_f64, value_i64, value_bool::INT) AS value
                FROM {source} WHERE status < {BAD}
            ) WHERE value IS NOT NULL GROUP BY ALL ORDER BY signal_id, time
            """  # noqa: S608 - integers and names of a table of ours, no text of a caller
        )
    at = rows.schema.get_field_index("time")
    return rows.set_column(at, "time", rows["time"].cast(pa.timestamp("us", tz="UTC")))


def as_of(
    engine: Engine,
    view: View,
    guard: Guard,
    left_signal: int,
    right_signals: Iterable[int],
    start: int | None,
    end: int | None,
    tolerance_s: float,
) -> pa.Table:
    """For each reading of the left signal and each right signal, the right reading that was current."""
    import pyarrow as pa

    tolerance = round(tolerance_s * 1e9)
    right = sorted(set(right_signals))
    if tolerance < 0 or not right:
        raise Skippable("keep.query-invalid", reason="as-of needs right signals and a tolerance of at least 0 s")
    back = None if start is None else start - tolerance
    schema = clean_schema()
    left_stored, left_tail = view.filtered(within([left_signal], start, end), schema)
    stored, tail = view.filtered(within(right, back, end), schema)
    values = ("value_f64", "value_i64", "value_text", "value_bool", "status")
    revised = view.revised(back, end, tail) or view.revised(start, end, left_tail)
    with engine.sql(
        guard,
        left_stored=left_stored,
        left_tail=left_tail,
        stored=stored,
        tail=tail,
        wanted=pa.table({"right_signal": pa.array(right, pa.int32())}),
    ) as ask:
        rows = ask(
            f"""
            WITH l AS (
                SELECT *, epoch_us(source_time) * 1000 + source_ns AS moment
                FROM {_union(revised, "left_stored", "left_tail")}
            ), r AS (
                SELECT *, epoch_us(source_time) * 1000 + source_ns AS moment FROM {_union(revised)}
                QUALIFY row_number() OVER (
                    PARTITION BY signal_id, moment ORDER BY sequence DESC NULLS LAST, revision DESC, log_position DESC
                ) = 1
            ), w AS (SELECT * FROM l CROSS JOIN wanted)
            SELECT w.source_time, w.source_ns, w.sequence, {", ".join(f"w.{name}" for name in values)}, w.right_signal,
                r.source_time AS right_time, r.source_ns AS right_ns, (w.moment - r.moment) / 1e9 AS age_s,
                {", ".join(f"CASE WHEN w.moment - r.moment <= {tolerance} THEN r.{name} END AS right_{name}" for name in values)}
            FROM w ASOF LEFT JOIN r ON w.right_signal = r.signal_id AND w.moment >= r.moment
            ORDER BY w.moment, w.sequence, w.right_signal
            """  # noqa: S608 - integers and names of a table of ours, no text of a caller
        )
    return _utc(rows)


def measured(engine: Engine, view: View, guard: Guard, wanted: Filter) -> pa.Table:
    """Measurements by model, serial and report; sorted by report, result and arrival."""
    from pyarrow.dataset import field

    schema = clean_measurement_schema()
    expression = None
    for name, listed in (("model", wanted.models), ("serial", wanted.serials), ("report", wanted.reports)):
        if listed:
            part = field(name).isin(list(listed))
            expression = part if expression is None else expression & part
    stored, tail = view.filtered(expression, schema)
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        rows = ask(
            f"SELECT {', '.join(schema.names)} FROM {_union(not wanted.revisions, key=MEASUREMENT_KEY)}"  # noqa: S608
            " ORDER BY report, result, log_position, characteristic, feature, revision"
        )
    return rows.cast(schema)


def whole(view: View, guard: Guard) -> Iterator[pa.RecordBatch]:
    """Every row of a named table, piece by piece."""
    import pyarrow as pa

    schema = None
    if view.snapshot.dataset is not None:
        schema = view.snapshot.dataset.schema
        for batch in view.snapshot.dataset.to_batches():
            guard.check()
            yield batch
    for piece in view.pieces:
        rows = piece.rows
        if schema is not None:
            merged = pa.concat_tables([schema.empty_table(), rows], promote_options="permissive")
            rows = merged
        yield from rows.to_batches()


def days(view: View, start: int | None, end: int | None) -> list[int]:
    """UTC days (since 1970) on which there may be readings between two instants, in order."""
    import pyarrow.compute as pc

    found: set[int] = set()
    for file in view.snapshot.files:
        if file.first is not None and file.last is not None:
            found.update(range(file.first // DAY_US, file.last // DAY_US + 1))
    for piece in view.pieces:
        found.update(pc.unique(piece.rows["day"]).cast("int32").to_pylist())
    low = -(2**40) if start is None else start // 1000 // DAY_US
    high = 2**40 if end is None else end // 1000 // DAY_US
    return sorted(day for day in found if low <= day <= high)


def pieces_of_day(
    engine: Engine, view: View, guard: Guard, signal_ids: Iterable[int] | None, start: int, end: int
) -> list[list[int] | None]:
    """Groups of signals that are exported together, so that no group has many more than ``SCAN_ROWS`` rows."""
    rows = sum(
        file.rows
        for file in view.snapshot.files
        if file.first is not None and file.first * 1000 < end and (file.last or 0) * 1000 >= start
    )
    listed = None if signal_ids is None else sorted(set(signal_ids))
    if rows <= SCAN_ROWS:
        return [listed]
    stored, tail = view.filtered(within(listed, start, end), clean_schema())
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        counts = ask(f"SELECT signal_id, count(*) AS rows FROM {_union(False)} GROUP BY ALL ORDER BY signal_id")  # noqa: S608
    groups: list[list[int] | None] = []
    group: list[int] = []
    total = 0
    for signal, number in zip(counts["signal_id"].to_pylist(), counts["rows"].to_pylist(), strict=True):
        if group and total + number > SCAN_ROWS:
            groups.append(group)
            group, total = [], 0
        group.append(signal)
        total += number
    return [*groups, group] if group else groups


def _union(deduplicate: bool, stored: str = "stored", tail: str = "tail", key: Sequence[str] = READINGS_KEY) -> str:
    rows = f"(SELECT * FROM {stored} UNION ALL BY NAME SELECT * FROM {tail})"  # noqa: S608 - names of ours
    if not deduplicate:
        return rows
    return (
        f"(SELECT * FROM {rows} QUALIFY row_number() OVER"  # noqa: S608 - names of ours
        f" (PARTITION BY {', '.join(key)} ORDER BY revision DESC, log_position DESC) = 1)"
    )


def _bounded(rows: pa.Table, limit: int) -> pa.Table:
    if rows.num_rows > limit:
        raise Refused("keep.query-too-large", limit=f"{limit} rows")
    return rows


def _utc(rows: pa.Table) -> pa.Table:
    """Times with the zone name that the schemas use; DuckDB answers with its session's."""
    import pyarrow as pa

    return rows.cast(
        pa.schema(
            [
                pa.field(field.name, pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(field.type) else field.type)
                for field in rows.schema
            ]
        )
    )


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
