"""Upkeep: rows stay what they are, repeats go, retention is kept, and nothing is lost to a kill in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from guantong.keep.model import Retention
from guantong.keep.service import Keep

from .rows import ME, SECOND, T0, clean, measured, near

DAY = 86_400 * SECOND


@pytest.fixture
async def keep(tmp_path, records, clock) -> AsyncIterator[Keep]:
    clock.at = T0 + 3 * DAY
    async with Keep(tmp_path / "keep", records, clock, near(replaced_s=0)) as opened:
        yield opened


def rows(signal_id: int, first: int, count: int, position: int, **more: object) -> pa.Table:
    return clean(
        {
            "signal_id": signal_id,
            "at": T0 + (first + i) * SECOND,
            "value_i64": i,
            "sequence": first + i,
            "log_position": position,
            **more,
        }
        for i in range(count)
    )


async def fill(keep: Keep, parts: int = 6) -> None:
    for number in range(1, parts + 1):
        await keep.store(
            ME, number, readings=pa.concat_tables([rows(2, number * 10, 10, number), rows(1, number * 10, 10, number)])
        )
        await keep.flush(ME)


async def test_many_files_become_one_in_order_and_answers_stay_the_same(keep):
    await fill(keep)
    await keep.store(ME, 7, readings=rows(1, 10, 5, 7, revision=1), measurements=measured([{}]))
    await keep.flush(ME)
    await keep.store(ME, 8, measurements=measured([{"characteristic": "d"}]))
    await keep.flush(ME)
    before = await keep.range(ME, None, None, None, revisions=True)
    done = {one.table: one for one in await keep.keep_up(ME)}
    after = await keep.range(ME, None, None, None, revisions=True)
    uri = keep._table(await keep._state(ME), "readings").uri
    held = DeltaTable(uri).to_pyarrow_table()

    assert after.equals(before)
    assert (done["readings"].files_before, done["readings"].files_after) == (7, 1)
    assert (done["readings"].rows_before, done["readings"].rows_after, done["readings"].repeats) == (125, 125, 0)
    assert (done["measurements"].files_after, done["measurements"].rows_after) == (1, 2)
    assert held["signal_id"].to_pylist() == sorted(held["signal_id"].to_pylist())
    assert len(list(Path(uri).rglob("*.parquet"))) == 1
    assert (await keep.stats(ME)).files == 2


async def test_a_repeat_of_the_same_revision_goes_and_every_revision_stays(keep):
    await keep.store(ME, 1, readings=rows(1, 0, 10, 1))
    await keep.flush(ME)
    await keep.store(ME, 2, readings=rows(1, 0, 10, 2))  # the same again, as after a table was filled twice
    await keep.flush(ME)
    await keep.store(ME, 3, readings=rows(1, 0, 4, 3, revision=1))
    await keep.flush(ME)
    (done,) = await keep.keep_up(ME)
    found = await keep.range(ME, None, None, None, revisions=True)

    assert (done.repeats, found.num_rows) == (10, 14)
    assert set(found.filter(pa.compute.field("revision") == 0)["log_position"].to_pylist()) == {1}


async def test_exactly_once_holds_after_upkeep_and_a_restart(tmp_path, records, clock):
    keep = Keep(tmp_path, records, clock, near(replaced_s=0))
    keep.open()
    await fill(keep)
    await keep.keep_up(ME)
    table = keep._table(await keep._state(ME), "readings")
    await keep.stop()

    assert table.committed() == 6
    keep = Keep(tmp_path, records, clock, near())
    keep.open()
    await keep.store(ME, 6, readings=rows(1, 60, 10, 6))
    await keep.flush(ME)
    assert (await keep.range(ME, None, None, None, revisions=True)).num_rows == 120
    await keep.stop()


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(), {1: 60, 2: 60}),
        (Retention(days=5), {1: 60, 2: 60}),
        (Retention(days=2), {}),
        (Retention(days=2, signals={1: 9.0}), {1: 60}),
        (Retention(signals={1: 2.0}), {2: 60}),
        (Retention(days=9, grades={"general": 1.0}, graded={2: "general"}), {1: 60}),
        (Retention(days=9, signals={2: 9.0}, grades={"general": 1.0}, graded={2: "general"}), {1: 60, 2: 60}),
    ],
    ids=["none", "long", "all", "all-but-one", "one", "grade", "signal-before-grade"],
)
async def test_retention_is_kept_by_signal_then_grade_then_default(keep, retention, left):
    await fill(keep)
    (done,) = await keep.keep_up(ME, retention)
    found = await keep.range(ME, None, None, None)
    counts = found.group_by("signal_id").aggregate([([], "count_all")]).to_pylist()

    assert {row["signal_id"]: row["count_all"] for row in counts} == left
    assert done.expired == 120 - sum(left.values())
    assert done.rows_after == sum(left.values())


async def test_a_day_with_more_rows_than_are_sorted_at_once_is_rewritten_by_groups(keep, monkeypatch):
    from guantong.keep import upkeep

    monkeypatch.setattr(upkeep, "GROUP_ROWS", 70)
    for number, one in enumerate((5, 3, 4, 1), 1):
        await keep.store(ME, number, readings=rows(one, 0, 50, number))
        await keep.flush(ME)
    before = await keep.range(ME, None, None, None)
    (done,) = await keep.keep_up(ME)

    assert (done.files_after, done.rows_after) == (1, 200)
    assert (await keep.range(ME, None, None, None)).equals(before)


async def test_a_growing_day_is_left_alone_until_it_has_many_files(keep, clock):
    clock.at = T0 + 3600 * SECOND
    await fill(keep)
    (done,) = await keep.keep_up(ME)

    assert (done.files_before, done.files_after) == (6, 6)


async def test_a_kill_in_the_middle_of_upkeep_loses_and_doubles_nothing(tmp_path, records, clock):
    """Killed at each step of the commit: the rows are those of before."""
    script = (
        "import asyncio, os, sys, pathlib\n"
        "import deltalake\n"
        "from tests.conftest import TestClock as SystemClock\n"
        "from guantong.keep import delta\n"
        "from guantong.keep.service import Keep\n"
        "from guantong.records import METADATA, Records\n"
        "from tests.keep.rows import near, ME\n"
        "from tests.keep.test_upkeep import fill\n"
        "where = sys.argv[2]\n"
        "def die(*a, **k): os.kill(os.getpid(), 9)\n"
        "async def main():\n"
        "    clock = SystemClock('2026-11-27T08:00:00Z')\n"
        "    records = Records('sqlite://', clock, inline=True)\n"
        "    records.open(METADATA.create_all)\n"
        "    keep = Keep(pathlib.Path(sys.argv[1]), records, clock, near(replaced_s=0))\n"
        "    keep.open()\n"
        "    await fill(keep)\n"
        "    from guantong.keep import upkeep\n"
        "    if where == 'reading': upkeep._once = die\n"
        "    if where == 'after': delta.Table.written_aside = die\n"
        "    if where == 'vacuum': upkeep._vacuum = die\n"
        "    await keep.keep_up(ME)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).resolve().parents[2]
    for where in ("reading", "after", "vacuum"):
        folder = tmp_path / where
        done = subprocess.run([sys.executable, "-c", script, str(folder), where], cwd=root, check=False)
        assert done.returncode == -signal.SIGKILL
        async with Keep(folder, records, clock, near(replaced_s=0)) as keep:
            assert (await keep.range(ME, None, None, None, revisions=True)).num_rows == 120, where
            await keep.keep_up(ME)
            assert (await keep.range(ME, None, None, None, revisions=True)).num_rows == 120, where


async def test_a_day_of_many_commits_keeps_few_files_and_upkeep_still_sorts_it(keep, monkeypatch):
    """The work and memory of a commit grow with the files of a table, so a busy day must not have one for each commit."""
    from guantong.keep import delta

    monkeypatch.setattr(delta, "CROWD", 8)
    most = 0
    for number in range(1, 31):
        await keep.store(ME, number, readings=rows(number % 3, number * 10, 10, number))
        await keep.flush(ME)
        table = keep._table(await keep._state(ME), "readings")
        most = max(most, len(DeltaTable(table.uri).file_uris()))
    found = await keep.range(ME, None, None, None)
    (done,) = await keep.keep_up(ME)

    assert most < 20
    assert table.committed() == 30
    assert found.num_rows == 300
    assert (done.rows_before, done.files_after, done.repeats) == (300, 1, 0)
    assert (await keep.range(ME, None, None, None)).equals(found)


async def test_a_large_day_is_sorted_portion_by_portion_and_each_once(keep, monkeypatch):
    """So a busy day is not written again with every round, and a round leaves off when its time is over."""
    from guantong.keep import upkeep

    monkeypatch.setattr(upkeep, "PORTION_ROWS", 100)
    await fill(keep, 12)  # 240 rows, 20 a commit
    before = await keep.range(ME, None, None, None, revisions=True)
    table = keep._table(await keep._state(ME), "readings")
    monkeypatch.setattr(upkeep, "ROUND_S", 0.0)
    (first,) = await keep.keep_up(ME)
    files = set(DeltaTable(table.uri).file_uris())
    (again,) = await keep.keep_up(ME)
    still = set(DeltaTable(table.uri).file_uris())
    (gone,) = await keep.keep_up(ME, Retention(signals={1: 2.0}))

    assert (first.files_before, first.files_after, first.rows_after, first.repeats) == (12, 3, 240, 0)
    assert (again.files_after, again.rows_after) == (3, 240)
    assert still == files
    assert (gone.rows_after, gone.expired) == (120, 120)
    left = await keep.range(ME, None, None, None, revisions=True)
    assert left.equals(before.filter(pa.compute.field("signal_id") == 2))
    assert table.committed() == 12
