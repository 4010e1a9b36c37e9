"""Queries through the query process: the same answers, and a process that can be lost, stopped, killed and left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from guantong.base.errors import Refused, Retryable, Skippable
from guantong.keep.model import Filter, KeepSettings
from guantong.keep.process import QueryProcess
from guantong.keep.service import Keep

from .rows import ME, SECOND, T0, clean, measured, near

DAY = 86_400 * SECOND


def line(signal: int, count: int, **more: Any) -> pa.Table:
    return clean(
        {
            "signal_id": signal,
            "at": T0 + i * SECOND,
            "value_f64": float(i % 97),
            "sequence": i,
            "log_position": 1,
            **more,
        }
        for i in range(count)
    )


async def fill(keep: Keep) -> None:
    """Two signals committed, later revisions committed and waiting, measurements, and a named table."""
    await keep.store(ME, 1, readings=pa.concat_tables([line(1, 300), line(2, 200)]), measurements=measured([{}]))
    await keep.flush(ME)
    await keep.store(
        ME, 2, readings=line(2, 20, revision=1, log_position=2), tables={"orders": pa.table({"order": ["a", "b"]})}
    )
    await keep.flush(ME)
    await keep.store(ME, 3, readings=line(1, 10, revision=1, log_position=3), measurements=measured([{"revision": 1}]))


def process_of(keep: Keep) -> QueryProcess:
    assert keep._reader is not None
    assert keep._reader.process is not None
    return keep._reader.process


@pytest.fixture
async def keep(tmp_path, records, clock) -> AsyncIterator[Keep]:
    async with Keep(tmp_path / "keep", records, clock) as opened:
        await fill(opened)
        yield opened


async def answers(keep: Keep) -> dict[str, Any]:
    """Every kind of question once."""
    return {
        "latest": await keep.latest(ME, [2]),
        "range": await keep.range(ME, None, None, None),
        "some": await keep.range(ME, [1], T0 + 5 * SECOND, T0 + 15 * SECOND, revisions=True),
        "downsample": await keep.downsample(ME, [1, 2], None, None, 60, how=("mean", "last", "count")),
        "aggregate": await keep.aggregate(ME, None, T0, T0 + 100 * SECOND),
        "lttb": await keep.lttb(ME, [1], None, None, 20),
        "as_of": await keep.as_of(ME, 1, [2], None, None, 5),
        "measurements": await keep.measurements(ME, serial=None),
        "table": await keep.table(ME, "orders"),
        "scan": pa.Table.from_batches([part async for part in keep.scan(ME, "readings", Filter(signal_ids=(1, 2)))]),
        "sql": await keep.sql(
            ME, "SELECT signal_id, count(*) AS n, max(value_f64) AS top FROM readings GROUP BY 1 ORDER BY 1"
        ),
        "joined": await keep.sql(ME, 'SELECT o."order", m.report FROM orders o, measurements m ORDER BY 1'),
        "stats": await keep.stats(ME),
    }


async def test_every_answer_is_the_same_through_the_process_and_without_it(keep, tmp_path, records, clock):
    apart = await answers(keep)
    assert process_of(keep).pid is not None
    async with Keep(tmp_path / "near", records, clock, near()) as other:
        await fill(other)
        here = await answers(other)

    for name, table in here.items():
        found = apart[name]
        if isinstance(table, pa.Table):
            drop = [column for column in ("value_f64",) if name == "none"]
            assert found.drop_columns(drop).equals(table), name
    assert {**vars_of(apart["stats"]), "bytes": 0} == {**vars_of(here["stats"]), "bytes": 0}
    assert here["sql"].to_pylist() == [
        {"signal_id": 1, "n": 300, "top": 96.0},
        {"signal_id": 2, "n": 200, "top": 96.0},
    ]
    assert here["joined"].num_rows == 2
    assert here["lttb"].num_rows == 20
    assert here["aggregate"]["count"].to_pylist() == [100, 100]


def vars_of(stats: Any) -> dict[str, Any]:
    return {name: getattr(stats, name) for name in stats.__slots__}


async def test_a_reopened_store_sees_each_row_once_while_commits_go_on(tmp_path, records, clock):
    """The version of the table is not known at first: the first query and the first commit race for it."""
    async with Keep(tmp_path, records, clock) as keep:
        await keep.store(ME, 1, readings=line(1, 100))
    async with Keep(tmp_path, records, clock, KeepSettings(commit_gap_s=0)) as keep:
        asked = [asyncio.ensure_future(keep.range(ME, [1], None, None)) for _ in range(3)]
        for number in range(2, 8):
            rows = line(1, 1, log_position=number).slice(0, 1)
            moved = rows.set_column(11, "sequence", pa.array([1000 + number], pa.int64()))
            await keep.store(ME, number, readings=moved)
            await keep.flush(ME)
            asked.append(asyncio.ensure_future(keep.range(ME, [1], None, None)))
            await asyncio.sleep(0.05)
        found = [await one for one in asked]

    for rows in found:
        assert len(set(rows["sequence"].to_pylist())) == rows.num_rows
    assert all(100 <= rows.num_rows <= 106 for rows in found)
    assert found[-1].num_rows == 106


async def test_what_only_waits_in_memory_needs_no_process(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock) as keep:
        await keep.store(ME, 1, readings=line(1, 10))
        assert (await keep.range(ME, [1], None, None)).num_rows == 10
        assert (await keep.stats(ME)).tail_rows == 10
        assert process_of(keep).pid is None


async def test_a_process_that_dies_is_replaced_and_the_query_asked_again(keep):
    assert (await keep.range(ME, [1], None, None)).num_rows == 300
    process = process_of(keep)
    first = process.pid
    asking = asyncio.ensure_future(keep.range(ME, [1], None, None))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)

    assert (await asking).num_rows == 300
    assert process.pid not in (None, first)


async def test_a_query_that_kills_its_process_each_time_is_given_up_with_a_code(keep, monkeypatch):
    await keep.range(ME, [1], None, None)
    process = process_of(keep)
    start = process._start

    def start_and_die() -> None:
        start()
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(process, "_start", start_and_die)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(Retryable) as error:
        await keep.range(ME, [1], None, None)

    assert error.value.code == "keep.query-lost"


async def test_the_process_ends_when_nobody_asks_and_starts_again_when_somebody_does(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, KeepSettings(query_idle_s=0.1)) as keep:
        await fill(keep)
        await keep.range(ME, [1], None, None)
        pid = process_of(keep).pid
        await asyncio.sleep(0.4)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert process_of(keep).pid is None
        assert (await keep.range(ME, [1], None, None)).num_rows == 300


async def test_the_process_does_not_outlive_its_node(tmp_path):
    script = (
        "import asyncio, os, sys, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from tests.keep.test_process import fill, ME, process_of\n"
        "from guantong.base.clock import SystemClock\n"
        "from guantong.keep.service import Keep\n"
        "from guantong.records import METADATA, Records\n"
        "async def main():\n"
        "    records = Records('sqlite://', SystemClock(), inline=True)\n"
        "    records.open(METADATA.create_all)\n"
        "    async with Keep(pathlib.Path(sys.argv[1]), records, SystemClock()) as keep:\n"
        "        await fill(keep)\n"
        "        await keep.range(ME, [1], None, None)\n"
        "        print(process_of(keep).pid, flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(root)], stdout=subprocess.PIPE, text=True, check=False
    )
    pid = int(done.stdout)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the query process is still there")


async def test_a_caller_who_leaves_frees_the_place(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, KeepSettings(query_threads=1, query_memory_bytes=2 * 1024**3)) as keep:
        await keep.store(ME, 1, readings=line(1, 30_000))
        await keep.flush(ME)
        await keep.range(ME, [1], T0, T0 + SECOND)
        asking = asyncio.ensure_future(keep.as_of(ME, 1, range(1, 2_000), None, None, 1e6))
        await asyncio.sleep(0.3)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            assert (await keep.range(ME, [1], T0, T0 + SECOND)).num_rows == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"query_seconds": 1.0, "query_memory_bytes": 2 * 1024**3}, "keep.query-too-long"),
        ({"query_memory_bytes": 8 * 1024**2}, "keep.query-too-large"),
    ],
    ids=["time", "memory"],
)
async def test_limits_of_time_and_memory_hold_in_the_process(tmp_path, records, clock, given, code):
    async with Keep(tmp_path, records, clock, KeepSettings(**given)) as keep:
        await keep.store(ME, 1, readings=line(1, 30_000))
        await keep.flush(ME)
        with pytest.raises(Refused) as error:
            await keep.as_of(ME, 1, range(1, 2_000), None, None, 1e6)
        assert (await keep.range(ME, [1], T0, T0 + SECOND)).num_rows == 1

    assert error.value.code == code


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY readings TO '/tmp/out.parquet'",
        "ATTACH '/tmp/other.db'",
        "INSTALL httpfs",
        "LOAD parquet",
        "SET memory_limit='64GB'",
        "CREATE TABLE t (a INT)",
        "DROP VIEW readings",
        "SELECT 1; SELECT 2",
        "SELECT 1) UNION ALL (SELECT 2",
        "PRAGMA database_list",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT * FROM rows",
        "SELECT * FROM others_table",
        "selec 1",
        "",
        "SELECT " + "1," * 20_000 + "1",
    ],
)
async def test_sql_reaches_the_views_and_nothing_else(near_keep, statement):
    rows = pa.table({"a": [1]})  # a name of this very frame: DuckDB would find it if it were let
    assert rows.num_rows == 1
    with pytest.raises(Skippable) as error:
        await near_keep.sql(ME, statement)

    assert error.value.code == "keep.query-invalid"


@pytest.fixture
async def near_keep(tmp_path, records, clock) -> AsyncIterator[Keep]:
    async with Keep(tmp_path / "keep", records, clock, near()) as opened:
        await fill(opened)
        yield opened


async def test_sql_views_give_the_highest_revision_and_every_one(near_keep):
    one = await near_keep.sql(ME, "SELECT count(*) AS n, max(revision) AS r FROM readings -- a comment\n;")
    every = await near_keep.sql(ME, "WITH a AS (SELECT * FROM readings_all) SELECT count(*) AS n FROM a")
    when = await near_keep.sql(ME, "SELECT min(source_time) AS t FROM readings WHERE signal_id = 1")

    assert one.to_pylist() == [{"n": 500, "r": 1}]
    assert every.to_pylist() == [{"n": 530}]
    assert when["t"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist() == [T0 // 1000]


async def test_sql_above_its_limit_of_rows_is_refused(near_keep):
    with pytest.raises(Refused) as error:
        await near_keep.sql(ME, "SELECT * FROM readings", limit=10)

    assert error.value.code == "keep.query-too-large"


async def test_a_nan_that_came_straight_to_the_log_does_not_make_a_mean_nan(tmp_path, records, clock):
    values = [1.0, float("nan"), 3.0]
    async with Keep(tmp_path, records, clock, near()) as keep:
        await keep.store(
            ME,
            1,
            readings=clean(
                {"signal_id": 1, "at": T0 + i * SECOND, "value_f64": value, "log_position": 1}
                for i, value in enumerate(values)
            ),
        )
        found = await keep.downsample(ME, [1], None, None, 60, how=("mean", "min", "max", "count"))

    assert found.drop_columns(["time"]).to_pylist() == [
        {"signal_id": 1, "mean": 2.0, "min": 1.0, "max": 3.0, "count": 2}
    ]


async def test_lttb_keeps_the_ends_and_the_spikes(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near()) as keep:
        rows = clean(
            {
                "signal_id": 1,
                "at": T0 + i * SECOND,
                "value_f64": 100.0 if i == 4321 else float(i % 2),
                "log_position": 1,
            }
            for i in range(10_000)
        )
        await keep.store(ME, 1, readings=rows)
        found = await keep.lttb(ME, [1], None, None, 100)
        times = found["time"].cast(pa.int64()).to_pylist()

        assert found.num_rows == 100
        assert (times[0], times[-1]) == (T0 // 1000, T0 // 1000 + 9_999_000_000)
        assert times == sorted(times)
        assert 100.0 in found["value"].to_pylist()
        with pytest.raises(Skippable):
            await keep.lttb(ME, [1], None, None, 2)
