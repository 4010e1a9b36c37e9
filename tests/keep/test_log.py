"""The durable log: what was acknowledged is there, whole, in order; what is not whole is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pytest

from guantong.base.batch import Batch
from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem, Corrupt, Retryable, Skippable
from guantong.keep.log import Log
from guantong.keep.model import KeepSettings

from .rows import ME, batch, measurement_batch

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def log_at(folder: Path, *, inline: bool = False, **settings):
    log = Log(folder / "log.db", SystemClock(), KeepSettings(**settings), inline=inline)
    log.open()
    try:
        yield log
    finally:
        log.close()


@pytest.mark.parametrize("inline", [False, True])
async def test_a_batch_comes_out_of_the_log_as_it_went_in(tmp_path, inline):
    given = batch(10, gaps=[{"signal": None, "from": 3, "to": 4}], file="日志.txt")
    with log_at(tmp_path, inline=inline) as log:
        position = await log.append(ME, given)
        (found,) = await log.read(ME, 0, 1000)

    assert found.position == position
    assert found.batch.source == given.source
    assert found.batch.note == given.note
    assert found.batch.rows.equals(given.rows)


async def test_every_kind_of_batch_is_kept_and_a_batch_without_rows_too(tmp_path):
    table = Batch("erp", "table", pa.RecordBatch.from_pydict({"order": ["A1"], "count": [3]}), {"table": "orders"})
    given = [measurement_batch([{"feature": "f1", "value_f64": 6.6}]), table, batch(0, connection={"event": "lost"})]
    with log_at(tmp_path) as log:
        for item in given:
            await log.append(ME, item)
        found = await log.read(ME, 0, 1000)

    assert [entry.batch.kind for entry in found] == ["measurements", "table", "readings"]
    assert all(entry.batch.rows.equals(item.rows) for entry, item in zip(found, given, strict=True))


async def test_positions_grow_and_each_participant_sees_only_its_own(tmp_path):
    with log_at(tmp_path) as log:
        places = [await log.append(who, batch(1, i)) for i, who in enumerate([ME, "did:web:b", ME, "did:web:b", ME])]
        mine = [entry.position for entry in await log.read(ME, 0, 100)]
        later = [entry.position for entry in await log.read(ME, places[0], 100)]

    assert places == sorted(set(places))
    assert mine == [places[0], places[2], places[4]]
    assert later == mine[1:]


async def test_a_read_stops_at_the_wanted_number_of_rows_but_gives_at_least_one_batch(tmp_path):
    with log_at(tmp_path) as log:
        for i in range(4):
            await log.append(ME, batch(10, 10 * i))

        assert len(await log.read(ME, 0, 1)) == 1
        assert len(await log.read(ME, 0, 25)) == 2
        assert len(await log.read(ME, 0, 1000)) == 4


async def test_two_hundred_writers_at_once_get_different_positions_and_all_is_there_after_reopening(tmp_path):
    with log_at(tmp_path) as log:
        woken = []
        log.on_append(lambda: woken.append(1))
        places = await asyncio.gather(*(log.append(ME, batch(5, 5 * i, f"s{i % 7}")) for i in range(200)))
    with log_at(tmp_path) as log:
        found = await log.read(ME, 0, 10**6)

    assert len(set(places)) == 200
    assert woken
    assert [entry.position for entry in found] == sorted(places)
    assert {entry.batch.rows["sequence"][0].as_py() for entry in found} == {5 * i for i in range(200)}


@pytest.mark.parametrize(
    "bad",
    [
        Batch("x", "rumours", batch(1).rows),
        Batch("x", "readings", pa.RecordBatch.from_pydict({"signal": ["a"]})),
        Batch("x", "table", batch(1).rows),
        Batch("x", "readings", batch(1).rows, {"what": object()}),
    ],
    ids=["kind", "columns", "unnamed-table", "note"],
)
async def test_a_batch_that_does_not_fit_is_refused_by_name_and_the_next_one_is_kept(tmp_path, bad):
    with log_at(tmp_path) as log:
        with pytest.raises(Skippable) as error:
            await log.append(ME, bad)
        await log.append(ME, batch(1))

        assert error.value.code == "keep.batch-unfit"
        assert len(await log.read(ME, 0, 10)) == 1


async def test_a_batch_above_the_size_limit_is_refused(tmp_path):
    with log_at(tmp_path, batch_bytes_max=1000) as log, pytest.raises(Skippable) as error:
        await log.append(ME, batch(1000))

    assert error.value.code == "keep.batch-unfit"


async def test_a_full_log_refuses_and_counts_and_keeps_what_it_has(tmp_path):
    with log_at(tmp_path, log_bytes_max=10_000) as log:
        kept = 0
        with pytest.raises(Retryable) as error:
            for i in range(100):
                await log.append(ME, batch(10, 10 * i))
                kept += 1

        assert error.value.code == "keep.log-full"
        assert 0 < kept < 100
        assert log.refused == 1
        assert len(await log.read(ME, 0, 10**6)) == kept


async def test_a_full_log_first_drops_the_oldest_entries_that_the_tables_have(tmp_path):
    with log_at(tmp_path, log_bytes_max=10_000) as log:
        places = []
        with pytest.raises(Retryable):
            while True:
                places.append(await log.append(ME, batch(10)))
        await log.settle(ME, places[1], latest=None, commits=1)
        places.append(await log.append(ME, batch(10)))
        found = [entry.position for entry in await log.read(ME, 0, 10**6)]
        mark = await log.mark(ME)

    assert found == places[1:]
    assert log.trimmed == 1
    assert mark.entries == len(found)
    assert mark.size_bytes <= 10_000


async def test_entries_are_trimmed_only_after_their_retention_and_only_up_to_what_tables_have(tmp_path, clock):
    log = Log(tmp_path / "log.db", clock, KeepSettings(log_retention_s=100), inline=True)
    log.open()
    places = [await log.append(ME, batch(1, i)) for i in range(3)]
    await log.settle(ME, places[1], latest=None, commits=1)
    before = len(await log.read(ME, 0, 100))
    clock.advance(101)
    await log.settle(ME, places[1], latest=None, commits=0)
    after = [entry.position for entry in await log.read(ME, 0, 100)]
    fresh = await log.append(ME, batch(1))
    log.close()

    assert before == 3
    assert after == [places[2]]
    assert fresh > places[2]


async def test_a_position_is_never_used_twice_even_when_the_log_was_trimmed_empty(tmp_path, clock):
    log = Log(tmp_path / "log.db", clock, KeepSettings(log_retention_s=0), inline=True)
    log.open()
    first = await log.append(ME, batch(1))
    clock.advance(1)
    await log.settle(ME, first, latest=None, commits=1)
    assert await log.read(ME, 0, 10) == []
    log.close()
    log.open()
    second = await log.append(ME, batch(1))
    log.close()

    assert second > first


async def test_a_read_does_not_cross_the_border_of_a_commit_that_was_begun(tmp_path):
    with log_at(tmp_path) as log:
        places = [await log.append(ME, batch(1, i)) for i in range(4)]
        await log.intend(ME, places[1], ["readings"])

        assert [entry.position for entry in await log.read(ME, 0, 100)] == places[:2]
        assert [entry.position for entry in await log.read(ME, places[1], 100)] == places[2:]


async def test_a_flipped_bit_is_noticed_and_what_is_whole_can_still_be_read(tmp_path):
    with log_at(tmp_path) as log:
        places = [await log.append(ME, batch(100, i)) for i in range(3)]
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as raw, raw:
        (blob,) = raw.execute("SELECT blob FROM log WHERE position = ?", (places[1],)).fetchone()
        spoilt = bytearray(blob)
        spoilt[len(spoilt) // 2] ^= 1
        raw.execute("UPDATE log SET blob = ? WHERE position = ?", (bytes(spoilt), places[1]))
    with log_at(tmp_path) as log:
        whole = await log.read(ME, 0, 10**6)
        with pytest.raises(Corrupt) as error:
            await log.read(ME, places[0], 10**6)
        rest = await log.read(ME, places[1], 10**6)

    assert [entry.position for entry in whole] == places[:1]
    assert error.value.code == "keep.log-damaged"
    assert error.value.facts["position"] == places[1]
    assert [entry.position for entry in rest] == places[2:]


async def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path):
    (tmp_path / "log.db").write_bytes(b"not a database at all" * 300)
    with pytest.raises(Corrupt) as error, log_at(tmp_path):
        pass

    assert error.value.code == "keep.log-unopenable"
    assert (tmp_path / "log.db").read_bytes().startswith(b"not a database")


async def test_a_log_of_a_newer_version_is_refused(tmp_path):
    with log_at(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as raw:
        raw.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigProblem) as error, log_at(tmp_path):
        pass

    assert error.value.code == "keep.log-newer"


async def test_a_closed_log_says_so(tmp_path):
    with log_at(tmp_path) as log:
        pass
    for call in (log.append(ME, batch(1)), log.read(ME, 0, 1)):
        with pytest.raises(Retryable) as error:
            await call
        assert error.value.code == "keep.closed"


CHILD = """
import asyncio, sys
from pathlib import Path
{limit}
sys.path.insert(0, {tests!r})
from rows import ME, batch
from guantong.base.clock import SystemClock
from guantong.base.errors import Retryable
from guantong.keep.log import Log
from guantong.keep.model import KeepSettings

async def source(log, name):
    i = 0
    while True:
        try:
            position = await log.append(ME, batch(50, 50 * i, name))
        except Retryable as error:
            print("refused", error.code, flush=True)
            return
        print(position, name, 50 * i, flush=True)
        i += 1

async def main():
    log = Log(Path({path!r}), SystemClock(), KeepSettings())
    log.open()
    await asyncio.gather(*(source(log, f"s{{n}}") for n in range(4)))
    log.close()

asyncio.run(main())
"""


def child(path: Path, limit: str = "") -> subprocess.Popen[str]:
    code = textwrap.dedent(CHILD).format(tests=str(HERE), path=str(path), limit=limit)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def acknowledged(output: str) -> dict[int, tuple[str, int]]:
    whole = output[: output.rfind("\n") + 1]
    lines = [line.split() for line in whole.splitlines() if line and not line.startswith("refused")]
    return {int(position): (name, int(first)) for position, name, first in lines}


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed_in_mid_append(tmp_path):
    chance = random.Random(3)
    path = tmp_path / "log.db"
    known: dict[int, tuple[str, int]] = {}
    for _ in range(4):
        process = child(path)
        assert process.stdout is not None
        first = process.stdout.readline()  # it has begun to write
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        rest, trouble = process.communicate()
        assert process.returncode == -signal.SIGKILL, trouble
        known |= acknowledged(first + rest)
    with log_at(tmp_path) as log:
        found = {}
        after = 0
        while entries := await log.read(ME, after, 100_000):
            for entry in entries:
                assert entry.batch.rows.num_rows == 50
                found[entry.position] = (entry.batch.source, entry.batch.rows["sequence"][0].as_py())
            after = entries[-1].position
        mark = await log.mark(ME)

    assert len(known) > 20
    assert known.items() <= found.items()
    assert mark.entries == len(found)


async def test_a_full_disk_refuses_the_batch_and_leaves_a_log_that_opens_and_goes_on(tmp_path):
    if os.name == "nt":
        pytest.skip("posix: file size limits")
    path = tmp_path / "log.db"
    process = child(path, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))")
    output, trouble = process.communicate(timeout=60)
    known = acknowledged(output)

    assert process.returncode == 0, trouble
    assert output.count("refused keep.disk-full") == 4
    assert len(known) > 5
    with log_at(tmp_path) as log:
        found = await log.read(ME, 0, 10**6)
        assert set(known) <= {entry.position for entry in found}
        assert await log.append(ME, batch(1)) > max(known)


async def test_a_commit_waits_for_the_disk(tmp_path):
    """SQLite: synchronous 2 is FULL; a killed process cannot show this, only a power cut could."""
    with log_at(tmp_path) as log:
        connection = log._begin()
        try:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        finally:
            connection.execute("ROLLBACK")
