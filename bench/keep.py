"""Figures of keep: source to durable log, log to fusion, clean rows to table, and one signal's day out of 10 million rows.

    .venv/bin/python bench/keep.py            10 M rows, 5 runs
    .venv/bin/python bench/keep.py --quick    1 M rows, 3 runs (--json: one object)

Beside each figure stands, from the same run on the same data, what the engine below does when it is used directly: SQLite with one blob
a transaction, deltalake's writer, DuckDB over the files. Times as long: how many times as long ours took, of pairs that ran one after the
other; below 1 ours is the faster one. The target is 1.5.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import SystemClock
from guantong.keep.model import KeepSettings, clean_schema
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

ME = "did:web:bench.example"
DAY_US = 86_400_000_000
BASE_US = 1_795_478_400_000_000  # 2026-11-24T00:00:00Z
PER_DAY = 19_200  # one reading every 4.5 s
DAYS = 3
FIGURES: dict[str, dict[str, object]] = {}


def show(name: str, unit: str, ours: list[float], theirs: list[float] | None = None, than: str = "") -> None:
    def line(values: list[float]) -> dict[str, float]:
        return {"min": min(values), "median": statistics.median(values), "max": max(values)}

    def text(values: dict[str, float], digits: int = 1) -> str:
        return " / ".join(f"{values[key]:,.{digits}f}" for key in ("min", "median", "max"))

    mine = line(ours)
    FIGURES[name] = {"unit": unit, **mine}
    say(f"{name:<50} {text(mine):>40} {unit}")
    if theirs:
        other = line(theirs)
        # the two of a pair ran one after the other; how many times as long ours took
        times = line([a / b if unit == "ms" else b / a for a, b in zip(ours, theirs, strict=True)])
        FIGURES[name] |= {"beside": than, "beside figures": other, "times as long": times}
        say(f"{'  beside ' + than:<50} {text(other):>40} {unit}   times as long {text(times, 2)}")


def say(message: str) -> None:
    print(message, file=sys.stderr if "--json" in sys.argv else sys.stdout, flush=True)


def arriving(count: int, first: int) -> Batch:
    at = BASE_US * 1000 + (first + np.arange(count, dtype=np.int64)) * 1_000_000
    time_type = pa.timestamp("ns", tz="UTC")
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array([f"signal-{i % 100}" for i in range(count)]),
            pa.array(at).cast(time_type),
            pa.nulls(count, time_type),
            pa.array(at + 3_000_000).cast(time_type),
            pa.array(np.random.default_rng(first).normal(20, 1, count)),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.string()),
            pa.nulls(count, pa.bool_()),
            pa.array(np.zeros(count, np.uint32)),
            pa.array(np.arange(first, first + count, dtype=np.int64)),
        ],
        schema=reading_schema(),
    )
    return Batch("bench", "readings", rows)


def clean(signals: int, days: range, first_signal: int = 0) -> pa.Table:
    """Readings in arrival order: by time, then by signal."""
    count = signals * PER_DAY * len(days)
    start = BASE_US + days.start * DAY_US
    at = start + np.repeat(np.arange(PER_DAY * len(days), dtype=np.int64) * (DAY_US // PER_DAY), signals)
    time_type = pa.timestamp("us", tz="UTC")
    number = np.arange(count, dtype=np.int64)
    return pa.table(
        [
            pa.array(np.tile(np.arange(first_signal, first_signal + signals, dtype=np.int32), PER_DAY * len(days))),
            pa.array(at).cast(time_type),
            pa.array(np.zeros(count, np.int16)),
            pa.nulls(count, time_type),
            pa.array(at + 3_000).cast(time_type),
            pa.nulls(count, time_type),
            pa.array(np.random.default_rng(1).normal(20, 1, count)),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.string()),
            pa.nulls(count, pa.bool_()),
            pa.array(np.zeros(count, np.int64)),
            pa.array(number),
            pa.array(np.zeros(count, np.int32)),
            pa.nulls(count, pa.string()),
            pa.nulls(count, pa.string()),
            pa.array(np.ones(count, np.int64)),
            pa.array((at // DAY_US).astype(np.int32)).cast(pa.date32()),
        ],
        schema=clean_schema(),
    )


async def to_log(keep: Keep, folder: Path, batches: int, runs: int) -> None:
    given = [arriving(1000, 1000 * i) for i in range(batches)]
    ours: list[float] = []
    single: list[float] = []
    theirs: list[float] = []
    for run in range(runs):
        begun = time.perf_counter()
        for at in range(0, batches, 8):  # eight sources, each waiting for its acknowledgement
            await asyncio.gather(*(keep.take(ME, batch) for batch in given[at : at + 8]))
        ours.append(batches * 1000 / (time.perf_counter() - begun))
        for batch in given[:200]:
            begun = time.perf_counter()
            await keep.take(ME, batch)
            single.append((time.perf_counter() - begun) * 1000)
        raw = sqlite3.connect(folder / f"raw-{run}.db", isolation_level=None)
        raw.execute("PRAGMA journal_mode=WAL").fetchall()
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, blob BLOB)")
        begun = time.perf_counter()
        for batch in given:
            sink = pa.BufferOutputStream()
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.ipc.new_stream(sink, batch.rows.schema, options=options) as writer:
                writer.write_batch(batch.rows)
            raw.execute("INSERT INTO log (blob) VALUES (?)", (sink.getvalue(),))
        theirs.append(batches * 1000 / (time.perf_counter() - begun))
        raw.close()
    read: list[float] = []
    for _ in range(runs):
        after, count, begun = 0, 0, time.perf_counter()
        while entries := await keep.read(ME, after):
            after = entries[-1].position
            count += sum(entry.batch.rows.num_rows for entry in entries)
        read.append(count / (time.perf_counter() - begun))
    show("source to durable log (1,000-point batches)", "points/s", ours, theirs, "SQLite directly, a batch a commit")
    show("one batch acknowledged", "ms", single)
    show("log to fusion (checked, decoded)", "points/s", read)


async def to_table(keep: Keep, folder: Path, rows: pa.Table, runs: int) -> None:
    import deltalake

    pieces = [rows.slice(at, 100_000) for at in range(0, rows.num_rows, 100_000)]
    ours: list[float] = []
    theirs: list[float] = []
    for run in range(runs):
        begun = time.perf_counter()
        for number, piece in enumerate(pieces, 1):
            await keep.store(f"{ME}:{run}", number, readings=piece)
            await keep.flush(f"{ME}:{run}")
        ours.append(rows.num_rows / (time.perf_counter() - begun))
        begun = time.perf_counter()
        properties = deltalake.WriterProperties(compression="ZSTD", max_row_group_size=122_880)
        table = deltalake.DeltaTable.create(folder / f"direct-{run}", rows.schema, partition_by=["day"])
        for piece in pieces:
            deltalake.write_deltalake(table, piece, mode="append", writer_properties=properties)
        theirs.append(rows.num_rows / (time.perf_counter() - begun))
    show(
        "clean rows to table (100,000 a commit, durable)",
        "points/s",
        ours,
        theirs,
        "deltalake directly, unsorted, unsynced",
    )


async def one_day(keep: Keep, signals: int, runs: int) -> None:
    import duckdb
    from deltalake import DeltaTable

    begun = time.perf_counter()
    for day in range(DAYS):
        step = max(1, signals // 4)
        for first in range(0, signals, step):
            rows = clean(min(step, signals - first), range(day, day + 1), first)
            await keep.store(ME, 1 + day * signals + first, readings=rows)
            await keep.flush(ME)
    stats = await keep.stats(ME)
    say(
        f"{stats.rows:,} rows in {stats.files} files, {stats.bytes / 1e6:,.0f} MB, {time.perf_counter() - begun:.1f} s to write"
    )
    signal, day = signals // 2, 1
    start, end = (BASE_US + day * DAY_US) * 1000, (BASE_US + (day + 1) * DAY_US) * 1000
    uri = keep._table(await keep._state(ME), "readings").uri
    direct = duckdb.connect(":memory:", config={"threads": 2})
    handle = DeltaTable(uri)
    files = handle.file_uris()
    sql = (
        f"SELECT * FROM read_parquet({files}, hive_partitioning = true) WHERE signal_id = {signal}"
        f" AND source_time >= make_timestamptz({start // 1000}) AND source_time < make_timestamptz({end // 1000}) ORDER BY source_time"
    )
    ours: list[float] = []
    theirs: list[float] = []
    frame: list[float] = []
    begun = time.perf_counter()
    await keep.range(ME, [signal], start, end)
    first = (time.perf_counter() - begun) * 1000
    for _ in range(runs * 4):
        begun = time.perf_counter()
        found = await keep.range(ME, [signal], start, end)
        ours.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        same = direct.sql(sql).to_arrow_table()
        theirs.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        handle.to_pyarrow_dataset().to_table(
            filter=(
                pa.compute.field("day") == pa.scalar((BASE_US + day * DAY_US) // DAY_US, pa.int32()).cast(pa.date32())
            )
            & (pa.compute.field("signal_id") == signal)
        )
        frame.append((time.perf_counter() - begun) * 1000)
        assert found.num_rows == same.num_rows == PER_DAY
    show("one signal, one day (19,200 rows)", "ms", ours, theirs, "DuckDB directly over the files")
    show("  the same", "ms", ours, frame, "deltalake's own dataset, opened each time")
    show("  the first query of the process", "ms", [first])
    many = list(range(min(100, signals)))
    minute_sql = (
        "SELECT signal_id, time_bucket(INTERVAL 60 seconds, source_time) AS time, avg(value_f64), min(value_f64), max(value_f64), count(*)"
        f" FROM read_parquet({files}, hive_partitioning = true) WHERE signal_id < {len(many)} AND status < 2147483648"
        " GROUP BY ALL ORDER BY signal_id, time"
    )
    minutes: list[float] = []
    plain: list[float] = []
    for _ in range(runs):
        begun = time.perf_counter()
        buckets = await keep.downsample(ME, many, None, None, 60)
        minutes.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        same = direct.sql(minute_sql).to_arrow_table()
        plain.append((time.perf_counter() - begun) * 1000)
        assert buckets.num_rows == same.num_rows
    direct.close()
    show(f"{len(many)} signals, three days, by minute", "ms", minutes, plain, "DuckDB directly over the files")


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def main(quick: bool, structured: bool) -> None:
    import pyarrow.compute  # noqa: F401

    runs, signals, batches = (3, 18, 200) if quick else (5, 174, 1000)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        settings = KeepSettings(commit_rows=10**9, tail_rows_max=10**9, commit_s=3600)
        async with Keep(folder / "keep", records, clock, settings) as keep:
            await to_log(keep, folder, batches, runs)
            await to_table(keep, folder, clean(max(4, signals // 6), range(1)), runs)
            await one_day(keep, signals, runs)
        records.close()
    if structured:
        print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()[0], "figures": FIGURES}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 M rows instead of 10 M")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.quick, given.json))
