"""Queries over table and tail: the statements themselves.

What can be filtered is filtered by Arrow, which prunes files and row groups by partition and statistics; DuckDB aggregates and joins
what is left. Plain ranges need no SQL: they come straight from Arrow, in less time and without loading DuckDB.

Each query is a function of an engine, a view, a guard and plain values, and has a name in ``ANSWERS``, so that it can be asked in this
process or in another one (``process.py``). It gives an Arrow table or a plain value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD
from guantong.base.errors import Refused, Skippable
from guantong.keep.delta import Snapshot
from guantong.keep.engine import Engine, Guard, bounded
from guantong.keep.model import MEASUREMENT_KEY, READINGS_KEY, clean_measurement_schema, clean_schema
from guantong.keep.tail import Piece, highest, in_order

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ANSWERS", "HOW", "View", "condition", "days_of", "union"]

DAY_US = 86_400_000_000
SCAN_ROWS = 1_000_000
"""A day with more rows than this is exported signal group by signal group."""
POINTS_MAX = 20_000
"""Most points a signal that ``lttb`` chooses."""

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


@dataclass(frozen=True, slots=True)
class View:
    """A table and its tail at one moment."""

    snapshot: Snapshot
    pieces: Sequence[Piece]

    def filtered(self, wanted: Callable[[Callable[[str], Any]], Any], schema: pa.Schema) -> tuple[Any, pa.Table]:
        """The part of the table and the part of the tail for which a condition holds."""
        import pyarrow as pa
        import pyarrow.compute as pc

        waiting = [piece.rows for piece in self.pieces]
        tail = pa.concat_tables(waiting) if waiting else schema.empty_table()
        stored = schema.empty_table() if self.snapshot.dataset is None else self.snapshot.dataset
        expression = wanted(pc.field)
        if expression is not None:
            if waiting:
                tail = tail.filter(wanted(tail.column))
            if self.snapshot.dataset is not None:
                stored = stored.filter(expression)
        return stored, tail

    def revised(self, start: int | None, end: int | None, tail: pa.Table) -> bool:
        """Whether a reading between two instants (ns) may have more than one revision."""
        import pyarrow.compute as pc

        first = None if start is None else start // 1000
        last = None if end is None else -(-end // 1000)
        return self.snapshot.revised(first, last) or (tail.num_rows > 0 and pc.max(tail["revision"]).as_py() > 0)


def condition(
    signal_ids: Iterable[int] | None, start: int | None, end: int | None
) -> Callable[[Callable[[str], Any]], Any]:
    """These signals (None: all), ``start <= source time < end`` in ns.

    The result takes a way to a column and gives, with ``pc.field``, an expression for a dataset, with a table's columns, a mask: the
    same words for both. None where nothing is asked.
    """
    listed = None if signal_ids is None else sorted(set(signal_ids))

    def wanted(column: Callable[[str], Any]) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        time_type = pa.timestamp("us", tz="UTC")
        parts = []
        if listed is not None:
            if len(listed) == 1:
                parts.append(pc.equal(column("signal_id"), pa.scalar(listed[0], pa.int32())))
            else:
                parts.append(pc.is_in(column("signal_id"), value_set=pa.array(listed, pa.int32())))
        for instant, is_start in ((start, True), (end, False)):
            if instant is None:
                continue
            whole, rest = divmod(instant, 1000)
            at = pa.scalar(whole, pa.int64()).cast(time_type)
            day = pa.scalar(whole // DAY_US, pa.int32()).cast(pa.date32())
            time, finer = column("source_time"), column("source_ns")
            exact = pc.equal(time, at)
            fraction = pa.scalar(rest, pa.int16())
            if is_start:
                parts.append(pc.greater_equal(column("day"), day))
                if rest:
                    same = pc.and_kleene(exact, pc.greater_equal(finer, fraction))
                    parts.append(pc.or_kleene(pc.greater(time, at), same))
                else:
                    parts.append(pc.greater_equal(time, at))
            else:
                parts.append(pc.less_equal(column("day"), day))
                if rest:
                    same = pc.and_kleene(exact, pc.less(finer, fraction))
                    parts.append(pc.or_kleene(pc.less(time, at), same))
                else:
                    parts.append(pc.less(time, at))
        return _all(parts)

    return wanted


def _all(parts: Sequence[Any]) -> Any:
    import pyarrow.compute as pc

    found = None
    for part in parts:
        found = part if found is None else pc.and_kleene(found, part)
    return found


def select(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    revisions: bool,
    limit: int | None,
) -> pa.Table:
    """Readings, sorted by signal, source time and sequence. Raises Refused ``keep.query-too-large``."""
    import pyarrow as pa

    schema = clean_schema()
    stored, tail = view.filtered(condition(signal_ids, start, end), schema)
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
    return rows if limit is None else bounded(rows, limit)


def _numbers(view: View, signal_ids: Iterable[int] | None, start: int | None, end: int | None) -> tuple[Any, Any, str]:
    """Table, tail and a statement: numeric readings whose status is not bad, as ``signal_id, moment (µs), value``. NaN is no number."""
    stored, tail = view.filtered(condition(signal_ids, start, end), clean_schema())
    return (
        stored,
        tail,
        f"""(
            SELECT * FROM (
                SELECT signal_id, epoch_us(source_time) AS moment, source_ns, coalesce(value_f64, value_i64, value_bool::INT) AS value
                FROM {union(view.revised(start, end, tail))} WHERE status < {BAD}
            ) WHERE value IS NOT NULL AND NOT isnan(value)
        )""",  # noqa: S608 - integers and names of a table of ours, no text of a caller
    )


def _columns(how: Sequence[str]) -> str:
    unknown = [name for name in how if name not in HOW]
    if unknown or not how:
        raise Skippable("keep.query-invalid", reason=f"how {unknown}; known are {', '.join(HOW)}")
    return ", ".join(f"{HOW[name]} AS {name}" for name in dict.fromkeys(how))


def downsample(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    every_s: float,
    how: Sequence[str],
) -> pa.Table:
    """Buckets of numeric readings whose status is not bad."""
    every = round(every_s * 1e6)
    if every < 1:
        raise Skippable("keep.query-invalid", reason=f"buckets of {every_s} s")
    columns = _columns(how)
    stored, tail, numbers = _numbers(view, signal_ids, start, end)
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        return _timed(
            ask(
                f"SELECT signal_id, moment - (moment % {every} + {every}) % {every} AS time, {columns}"  # noqa: S608
                f" FROM {numbers} GROUP BY ALL ORDER BY signal_id, time"
            ),
            "time",
        )


def aggregate(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    how: Sequence[str],
) -> pa.Table:
    """The whole time as one bucket."""
    columns = _columns(how)
    stored, tail, numbers = _numbers(view, signal_ids, start, end)
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        return _timed(
            ask(
                f"SELECT signal_id, min(moment) AS first_time, max(moment) AS last_time, {columns}"  # noqa: S608
                f" FROM {numbers} GROUP BY signal_id ORDER BY signal_id"
            ),
            "first_time",
            "last_time",
        )


def lttb(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
    signal_ids: Iterable[int] | None,
    start: int | None,
    end: int | None,
    points: int,
) -> pa.Table:
    """Of each signal the readings that show its shape best: Largest Triangle Three Buckets.

    Source: S. Steinarsson, Downsampling Time Series for Visual Representation, University of Iceland 2013, section 4.2.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not 3 <= points <= POINTS_MAX:
        raise Skippable("keep.query-invalid", reason=f"points {points}; 3 to {POINTS_MAX} are possible")
    stored, tail, numbers = _numbers(view, signal_ids, start, end)
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        rows = ask(
            "SELECT signal_id, moment AS time, source_ns, value::DOUBLE AS value"  # noqa: S608
            f" FROM {numbers} ORDER BY signal_id, time, source_ns"
        ).combine_chunks()
    if not rows.num_rows:
        return _timed(rows, "time")
    ids = rows["signal_id"].to_numpy()
    times = pc.add(pc.multiply(rows["time"], 1000), rows["source_ns"].cast(pa.int64())).to_numpy()
    chosen = _largest_triangles(ids, times, rows["value"].to_numpy(), points, guard)
    return _timed(rows.take(pa.array(chosen)), "time")


def _largest_triangles(ids: Any, times: Any, values: Any, points: int, guard: Guard) -> Any:
    """Row numbers to keep, for rows in order of signal and time."""
    import numpy as np

    borders = np.flatnonzero(np.diff(ids)) + 1
    chosen = []
    for first, last in zip([0, *borders], [*borders, len(ids)], strict=True):
        guard.check()
        count = last - first
        if count <= points:
            chosen.append(np.arange(first, last))
            continue
        x = (times[first:last] - times[first]).astype(np.float64)
        y = values[first:last]
        # buckets of nearly equal size; the first and the last reading stand alone
        edges = np.linspace(1, count - 1, points - 1).astype(np.int64)
        kept = [0]
        for number in range(points - 2):
            low, high = edges[number], edges[number + 1]
            after = slice(high, edges[number + 2]) if number < points - 3 else slice(count - 1, count)
            far_x, far_y = x[after].mean(), y[after].mean()
            near = kept[-1]
            area = np.abs((x[near] - far_x) * (y[low:high] - y[near]) - (x[near] - x[low:high]) * (far_y - y[near]))
            kept.append(int(low + np.argmax(area)))
        chosen.append(first + np.array([*kept, count - 1]))
    return np.concatenate(chosen)


def as_of(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
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
    left_stored, left_tail = view.filtered(condition([left_signal], start, end), schema)
    stored, tail = view.filtered(condition(right, back, end), schema)
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
                FROM {union(revised, "left_stored", "left_tail")}
            ), r AS (
                SELECT *, epoch_us(source_time) * 1000 + source_ns AS moment FROM {union(revised)}
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


def measured(
    engine: Engine,
    view: View,
    guard: Guard,
    *,
    models: Sequence[str],
    serials: Sequence[str],
    reports: Sequence[str],
    revisions: bool,
) -> pa.Table:
    """Measurements by model, serial and report; sorted by report, result and arrival."""

    def wanted(column: Callable[[str], Any]) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        named = (("model", models), ("serial", serials), ("report", reports))
        return _all(
            [pc.is_in(column(name), value_set=pa.array(list(listed), pa.string())) for name, listed in named if listed]
        )

    schema = clean_measurement_schema()
    stored, tail = view.filtered(wanted, schema)
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        rows = ask(
            f"SELECT {', '.join(schema.names)} FROM {union(not revisions, key=MEASUREMENT_KEY)}"  # noqa: S608
            " ORDER BY report, result, log_position, characteristic, feature, revision"
        )
    return rows.cast(schema)


def whole(engine: Engine, view: View, guard: Guard, *, limit: int | None) -> pa.Table:
    """Every row of a named table. Raises Refused ``keep.query-too-large``."""
    import pyarrow as pa

    found: list[pa.Table] = []
    count = 0
    if view.snapshot.dataset is not None:
        found.append(view.snapshot.dataset.schema.empty_table())
        for batch in view.snapshot.dataset.to_batches():
            guard.check()
            found.append(pa.Table.from_batches([batch]))
            count += batch.num_rows
            if limit is not None and count > limit:
                raise Refused("keep.query-too-large", limit=f"{limit} rows")
    found += [piece.rows for piece in view.pieces]
    rows = pa.concat_tables(found, promote_options="permissive") if found else pa.table({})
    return rows if limit is None else bounded(rows, limit)


def days(engine: Engine, view: View, guard: Guard, *, start: int | None, end: int | None) -> list[int]:
    """UTC days (since 1970) on which there may be readings in the files between two instants, in order."""
    found: set[int] = set()
    for file in view.snapshot.files:
        if file.first is not None and file.last is not None:
            found.update(range(file.first // DAY_US, file.last // DAY_US + 1))
    return days_of(found, start, end)


def days_of(found: Iterable[int], start: int | None, end: int | None) -> list[int]:
    """Of some days those between two instants (ns), in order."""
    low = -(2**40) if start is None else start // 1000 // DAY_US
    high = 2**40 if end is None else end // 1000 // DAY_US
    return sorted(day for day in set(found) if low <= day <= high)


def pieces_of_day(
    engine: Engine, view: View, guard: Guard, *, signal_ids: Iterable[int] | None, start: int, end: int
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
    stored, tail = view.filtered(condition(listed, start, end), clean_schema())
    with engine.sql(guard, stored=stored, tail=tail) as ask:
        counts = ask(f"SELECT signal_id, count(*) AS rows FROM {union(False)} GROUP BY ALL ORDER BY signal_id")  # noqa: S608
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


def contents(engine: Engine, view: View, guard: Guard) -> dict[str, Any]:
    """What the files hold, from the table's own statistics; later revisions are counted where there may be some."""
    files = view.snapshot.files
    revised = 0
    if (
        view.snapshot.dataset is not None
        and "revision" in view.snapshot.dataset.schema.names
        and view.snapshot.revised(None, None)
    ):
        import pyarrow.compute as pc

        revised = view.snapshot.dataset.count_rows(filter=pc.field("revision") > 0)
    return {
        "version": view.snapshot.version,
        "rows": sum(file.rows for file in files),
        "bytes": sum(file.bytes for file in files),
        "files": len(files),
        "revised": revised,
        "first": min((file.first for file in files if file.first is not None), default=None),
        "last": max((file.last for file in files if file.last is not None), default=None),
    }


def union(deduplicate: bool, stored: str = "stored", tail: str = "tail", key: Sequence[str] = READINGS_KEY) -> str:
    """A statement for table and tail together, by default without lower revisions."""
    rows = f"(SELECT * FROM {stored} UNION ALL BY NAME SELECT * FROM {tail})"  # noqa: S608 - names of ours
    if not deduplicate:
        return rows
    return (
        f"(SELECT * FROM {rows} QUALIFY row_number() OVER"  # noqa: S608 - names of ours
        f" (PARTITION BY {', '.join(key)} ORDER BY revision DESC, log_position DESC) = 1)"
    )


def _timed(rows: pa.Table, *names: str) -> pa.Table:
    """Columns of microseconds as times."""
    import pyarrow as pa

    for name in names:
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, rows[name].cast(pa.timestamp("us", tz="UTC")))
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


ANSWERS: Mapping[str, Callable[..., Any]] = {
    "aggregate": aggregate,
    "as_of": as_of,
    "contents": contents,
    "days": days,
    "downsample": downsample,
    "lttb": lttb,
    "measured": measured,
    "pieces_of_day": pieces_of_day,
    "select": select,
    "whole": whole,
}
"""Every query over one table by name."""
