"""Keep as a whole: store, commit, crash, ask; and every answer beside that of a plain list."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused, Skippable
from guantong.keep.model import Filter, clean_schema
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

from .rows import ME, SECOND, T0, batch, clean, measured, near

DAY = 86_400 * SECOND


@pytest.fixture
async def keep(tmp_path, records, clock) -> AsyncIterator[Keep]:
    async with Keep(tmp_path / "keep", records, clock, near()) as opened:
        yield opened


def line(signal: int, count: int, *, first: int = 0, step: int = SECOND, position: int = 1, **more: Any) -> pa.Table:
    return clean(
        {
            "signal_id": signal,
            "at": T0 + (first + i) * step,
            "value_f64": float(first + i),
            "sequence": first + i,
            "log_position": position,
            **more,
        }
        for i in range(count)
    )


async def test_rows_are_seen_at_once_and_seen_once_before_and_after_their_commit(keep):
    rows = line(7, 100)
    await keep.store(ME, 1, readings=rows)
    waiting = await keep.range(ME, [7], None, None)
    await keep.flush(ME)
    committed = await keep.range(ME, [7], None, None)

    assert waiting.equals(rows)
    assert committed.equals(rows)


async def test_int64_text_booleans_and_nanoseconds_come_back_exactly(keep):
    big = 2**63 - 1
    rows = clean(
        [
            {"signal_id": 1, "at": T0 + 123_456_789, "value_i64": big, "log_position": 1},
            {"signal_id": 1, "at": T0 + 123_456_790, "value_text": "0042", "log_position": 1},
            {"signal_id": 1, "at": T0 + 123_456_999, "value_bool": False, "log_position": 1},
            {"signal_id": 1, "at": T0 + 123_457_000, "status": 0x80000000, "log_position": 1},
        ]
    )
    await keep.store(ME, 1, readings=rows)
    await keep.flush()
    found = await keep.range(ME, [1], None, None)

    assert found.equals(rows)
    assert found["value_i64"][0].as_py() == big
    assert (await keep.range(ME, [1], T0 + 123_456_790, T0 + 123_456_999)).equals(rows.slice(1, 1))


async def test_the_highest_revision_answers_unless_all_are_asked_for(keep):
    await keep.store(ME, 1, readings=line(1, 10))
    await keep.flush()
    await keep.store(ME, 2, readings=line(1, 3, first=4, position=2, revision=1, reason="late", status=0x40000000))

    once = await keep.range(ME, [1], None, None)
    every = await keep.range(ME, [1], None, None, revisions=True)
    assert once.num_rows == 10
    assert once["revision"].to_pylist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert every.num_rows == 13
    await keep.flush()
    assert (await keep.range(ME, [1], None, None)).equals(once)
    assert (await keep.range(ME, [1], None, None, revisions=True)).equals(every)


async def test_a_range_is_closed_at_its_start_and_open_at_its_end(keep):
    await keep.store(ME, 1, readings=line(1, 10))
    found = await keep.range(ME, [1], T0 + 2 * SECOND, T0 + 5 * SECOND)

    assert found["sequence"].to_pylist() == [2, 3, 4]


async def test_the_day_of_a_row_follows_from_its_time_whatever_the_caller_says(keep):
    rows = line(1, 4, step=DAY)
    wrong = rows.set_column(rows.schema.get_field_index("day"), "day", pa.array([0] * 4, pa.int32()).cast(pa.date32()))
    await keep.store(ME, 1, readings=wrong)
    await keep.flush()

    assert (await keep.range(ME, [1], T0 + DAY, T0 + 2 * DAY)).equals(rows.slice(1, 1))


async def test_latest_is_the_latest_by_source_time_and_survives_a_restart(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near()) as keep:
        await keep.store(ME, 1, readings=line(1, 5))
        await keep.store(ME, 2, readings=line(2, 3, position=2))
        await keep.store(ME, 3, readings=line(1, 1, first=2, position=3, revision=1))  # late: displaces nothing
        before = await keep.latest(ME)
        assert before["sequence"].to_pylist() == [4, 2]
        assert (await keep.latest(ME, [2]))["signal_id"].to_pylist() == [2]
    async with Keep(tmp_path, records, clock, near()) as keep:
        assert (await keep.latest(ME)).equals(before)


async def test_participants_never_see_each_other(keep):
    await keep.store(ME, 1, readings=line(1, 5), measurements=measured([{"feature": "f"}]))
    await keep.store("did:web:other.example", 2, readings=line(1, 7))
    await keep.flush()

    assert (await keep.range(ME, None, None, None)).num_rows == 5
    assert (await keep.measurements("did:web:other.example")).num_rows == 0
    assert (await keep.latest("did:web:nobody.example")).num_rows == 0


async def test_downsampling_gives_what_plain_arithmetic_gives_and_leaves_bad_readings_out(keep):
    await keep.store(ME, 1, readings=line(1, 100))
    await keep.flush()
    await keep.store(ME, 2, readings=line(1, 5, first=100, position=2, status=0x80000000))
    found = (
        await keep.downsample(ME, [1], None, None, 30, how=("mean", "min", "max", "count", "first", "last", "sum"))
    ).to_pylist()

    groups = [list(range(30)), list(range(30, 60)), list(range(60, 90)), list(range(90, 100))]
    assert [row["mean"] for row in found] == [sum(g) / len(g) for g in groups]
    assert [(row["min"], row["max"], row["first"], row["last"]) for row in found] == [
        (g[0], g[-1], g[0], g[-1]) for g in groups
    ]
    assert [row["count"] for row in found] == [len(g) for g in groups]
    assert [row["sum"] for row in found] == [sum(g) for g in groups]
    assert [int(row["time"].timestamp()) * SECOND for row in found] == [T0 + i * 30 * SECOND for i in range(4)]


async def test_downsampling_counts_a_revised_reading_once(keep):
    await keep.store(ME, 1, readings=line(1, 10))
    await keep.flush()
    await keep.store(
        ME, 2, readings=clean([{"signal_id": 1, "at": T0, "value_f64": 100.0, "sequence": 0, "revision": 1}])
    )
    (row,) = (await keep.downsample(ME, [1], None, None, 60)).to_pylist()

    assert (row["count"], row["max"], row["min"]) == (10, 100.0, 1.0)


async def test_as_of_gives_the_reading_that_was_current_with_its_time_and_age(keep):
    await keep.store(ME, 1, readings=line(1, 4, first=10))
    await keep.store(
        ME, 2, readings=clean([{"signal_id": 2, "at": T0 + 11 * SECOND + 3, "value_text": "B", "log_position": 2}])
    )
    await keep.flush()
    await keep.store(
        ME, 3, readings=clean([{"signal_id": 2, "at": T0 + 9 * SECOND, "value_text": "A", "log_position": 3}])
    )
    found = (await keep.as_of(ME, 1, [2], T0, T0 + 60 * SECOND, 1.5)).to_pylist()

    assert [row["right_value_text"] for row in found] == ["A", None, "B", None]
    assert [row["age_s"] for row in found] == [1.0, 2.0, 0.999999997, 1.999999997]
    assert all(row["right_time"] is not None for row in found)
    assert found[2]["right_ns"] == 3


async def test_measurements_are_found_by_part_and_report_in_their_highest_revision(keep):
    rows = [
        {"feature": f"f{i}", "characteristic": f"c{i}", "serial": serial, "report": report, "value_f64": i / 3}
        for i in range(3)
        for serial, report in (("01", "supplier"), ("02", "customer"))
    ]
    await keep.store(ME, 1, measurements=measured(rows))
    await keep.flush()
    await keep.store(ME, 2, measurements=measured([{**rows[0], "part": "box-1", "revision": 1, "log_position": 2}]))

    assert (await keep.measurements(ME)).num_rows == 6
    assert (await keep.measurements(ME, revisions=True)).num_rows == 7
    found = (await keep.measurements(ME, serial="01", report="supplier")).to_pylist()
    assert [row["part"] for row in found] == [None, None, "box-1"]
    assert (await keep.measurements(ME, serial="02"))["value_f64"].to_pylist() == [0.0, 1 / 3, 2 / 3]
    assert (await keep.measurements(ME, serial="1' OR '1'='1")).num_rows == 0


async def test_a_named_table_keeps_its_columns_and_grows_new_ones(keep):
    one = pa.table({"order": ["A1", "A2"], "count": pa.array([1, 2], pa.uint32())})
    two = pa.table({"order": ["A3"], "count": pa.array([3], pa.int64()), "note": ["rush"]})
    await keep.store(ME, 1, tables={"orders": one})
    await keep.flush()
    await keep.store(ME, 2, tables={"orders": two})
    waiting = await keep.table(ME, "orders")
    await keep.flush()
    stored = await keep.table(ME, "orders")

    for found in (waiting, stored):
        assert sorted(row["order"] for row in found.to_pylist()) == ["A1", "A2", "A3"]
        assert {row["order"]: row["note"] for row in found.to_pylist()}["A3"] == "rush"
    assert await keep.table_names(ME) == ["orders"]
    with pytest.raises(ConfigProblem) as error:
        await keep.store(ME, 3, tables={"orders": pa.table({"order": ["A4"], "count": ["many"]})})
    assert error.value.code == "keep.rows-unfit"
    assert (await keep.table(ME, "orders")).num_rows == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.drop_columns(["status"]),
        lambda rows: rows.append_column("extra", pa.nulls(rows.num_rows)),
        lambda rows: rows.set_column(0, "signal_id", pa.nulls(rows.num_rows, pa.int32())),
        lambda rows: rows.set_column(0, "signal_id", pa.array(["x"] * rows.num_rows)),
    ],
    ids=["missing", "unknown", "null", "type"],
)
async def test_rows_that_do_not_fit_are_refused_and_nothing_of_the_call_is_taken(keep, spoil):
    with pytest.raises(ConfigProblem) as error:
        await keep.store(ME, 1, readings=spoil(line(1, 3)), measurements=measured([{}]))

    assert error.value.code == "keep.rows-unfit"
    assert (await keep.measurements(ME)).num_rows == 0
    await keep.store(ME, 1, readings=line(1, 3))
    assert (await keep.range(ME, None, None, None)).num_rows == 3


async def test_a_call_at_or_below_the_last_position_is_refused_silently_and_counted(keep):
    await keep.store(ME, 5, readings=line(1, 3, position=5))
    await keep.store(ME, 5, readings=line(1, 3, position=5))
    await keep.flush()
    await keep.store(ME, 4, readings=line(2, 4, position=4))

    assert (await keep.range(ME, None, None, None)).num_rows == 3
    assert (await keep.stats(ME)).repeated == 7
    assert await keep.stored(ME) == 5


async def test_after_a_crash_fusion_begins_again_where_the_tables_end(tmp_path, records, clock):
    keep = Keep(tmp_path, records, clock, near())
    keep.open()
    places = [await keep.take(ME, batch(10, 10 * i)) for i in range(3)]
    await keep.store(ME, places[0], readings=line(1, 10, position=places[0]))
    await keep.flush()
    await keep.store(ME, places[1], readings=line(1, 10, first=10, position=places[1]))
    await keep.abandon()
    async with Keep(tmp_path, records, clock, near()) as keep:
        stored = await keep.stored(ME)
        again = [entry.position for entry in await keep.read(ME, stored)]
        assert (await keep.range(ME, None, None, None)).num_rows == 10

    assert stored == places[0]
    assert again == places[1:]


@pytest.mark.parametrize("step", ["intend", "readings", "measurements", "record", "settle"])
async def test_a_crash_at_any_step_of_a_commit_neither_loses_nor_doubles_a_row(
    tmp_path, records, clock, step, monkeypatch
):
    """The process dies just before the named step; fusion then repeats from the log, in other pieces than before."""
    keep = Keep(tmp_path, records, clock, near())
    keep.open()
    places = [await keep.take(ME, batch(10, 10 * i)) for i in range(4)]

    def fused(place: int) -> dict[str, pa.Table]:
        i = places.index(place)
        return {
            "readings": line(1, 10, first=10 * i, position=place),
            "measurements": measured([{"feature": f"f{place}", "log_position": place}]),
        }

    for place in places[:2]:
        await keep.store(ME, place, **fused(place))

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    if step in ("intend", "settle"):
        monkeypatch.setattr(keep._log, step, die)
    elif step == "record":
        monkeypatch.setattr(keep, "_record", die)
    else:
        monkeypatch.setattr(keep._table(keep._states[ME], step), "append", die)
    with pytest.raises(Died):
        await keep.flush(ME)
    await keep.abandon()
    async with Keep(tmp_path, records, clock, near()) as keep:
        at = await keep.stored(ME)
        while entries := await keep.read(ME, at):
            tables = [fused(entry.position) for entry in entries]
            at = entries[-1].position
            await keep.store(
                ME,
                at,
                readings=pa.concat_tables(part["readings"] for part in tables),
                measurements=pa.concat_tables(part["measurements"] for part in tables),
            )
            during = await keep.range(ME, [1], None, None, revisions=True)
            assert during["sequence"].to_pylist() == list(range(during.num_rows))
        for _ in range(2):
            assert (await keep.range(ME, [1], None, None, revisions=True)).num_rows == 40
            assert (await keep.measurements(ME, revisions=True)).num_rows == 4
            await keep.flush()
        assert await keep.stored(ME) == places[-1]
        assert (await keep.latest(ME))["sequence"].to_pylist() == [39]


async def test_an_empty_log_beside_full_tables_stops_before_it_can_do_harm(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near()) as keep:
        await keep.store(ME, 500, readings=line(1, 3, position=500))
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    keep = Keep(tmp_path, records, clock, near())
    keep.open()
    await keep.store(ME, 1, readings=line(2, 3, position=1))
    with pytest.raises(Corrupt) as error:
        await keep.flush()
    code = (await keep.stats(ME)).error
    await keep.abandon()

    assert error.value.code == code == "keep.log-behind"


async def test_a_commit_is_recorded_as_evidence_with_table_version_and_rows(keep, records):
    await keep.store(ME, 3, readings=line(1, 8, position=3))
    await keep.flush()
    leaves = await records.rows(METADATA.tables["leaves"].select())

    assert [leaf["kind"] for leaf in leaves] == ["keep.committed"]
    assert b'"position":3' in leaves[0]["leaf"]
    assert b'"rows":8' in leaves[0]["leaf"]


async def test_enough_waiting_rows_are_committed_without_being_asked(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near(commit_rows=50, commit_gap_s=0)) as keep:
        await keep.store(ME, 1, readings=line(1, 49))
        await asyncio.sleep(0.05)
        assert await keep.stored(ME) == 0
        await keep.store(ME, 2, readings=line(1, 1, first=49, position=2))
        for _ in range(200):
            if await keep.stored(ME) == 2:
                break
            await asyncio.sleep(0.02)
        assert await keep.stored(ME) == 2
        assert (await keep.stats(ME)).tail_rows == 0


async def test_waiting_rows_are_committed_when_their_time_is_over(tmp_path, records, clock):
    keep = Keep(tmp_path, records, clock, near(commit_s=60), inline=True)
    keep.open()
    await keep.store(ME, 1, readings=line(1, 5))
    early = await keep.stored(ME)
    clock.advance(61)
    await keep.store(ME, 2)
    late = await keep.stored(ME)
    await keep.stop()

    assert (early, late) == (0, 2)


async def test_a_durable_query_commits_first(keep):
    await keep.store(ME, 9, readings=line(1, 5, position=9))
    await keep.range(ME, [1], None, None, durable=True)

    assert await keep.stored(ME) == 9


async def test_two_processes_cannot_hold_one_folder(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near()):
        code = (
            "import sys; from pathlib import Path; from guantong.keep.service import Keep\n"
            "try: Keep(Path(sys.argv[1]), None, None).open()\n"
            "except Exception as error: print(error.code)"
        )
        found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        with pytest.raises(ConfigProblem) as error:
            Keep(tmp_path, records, clock, near()).open()

    assert found.stdout.strip() == "keep.in-use"
    assert error.value.code == "keep.in-use"


async def test_an_answer_above_the_row_limit_is_refused_not_cut(keep):
    await keep.store(ME, 1, readings=line(1, 100))
    assert (await keep.range(ME, [1], None, None, limit=100)).num_rows == 100
    with pytest.raises(Refused) as error:
        await keep.range(ME, [1], None, None, limit=99)

    assert error.value.code == "keep.query-too-large"


async def test_a_query_above_its_time_is_stopped_and_the_next_one_answered(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near(query_seconds=0.05, query_rows_max=10**9)) as keep:
        await keep.store(ME, 1, readings=line(1, 30_000))
        with pytest.raises(Refused) as error:
            # 30,000 readings beside 30,000: an as-of join whose cross join with 200 signals takes long
            await keep.as_of(ME, 1, range(1, 400), None, None, 1e6)
        assert (await keep.latest(ME)).num_rows == 1

    assert error.value.code == "keep.query-too-long"


async def test_a_query_above_its_memory_is_refused(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near(query_memory_bytes=8 * 1024**2)) as keep:
        await keep.store(ME, 1, readings=line(1, 30_000))
        with pytest.raises(Refused) as error:
            await keep.as_of(ME, 1, range(1, 30), None, None, 1e6)

    assert error.value.code == "keep.query-too-large"
    assert "memory" in error.value.message()


async def test_a_caller_who_leaves_stops_his_query(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near(query_threads=1, query_memory_bytes=2 * 1024**3)) as keep:
        await keep.store(ME, 1, readings=line(1, 30_000))
        asking = asyncio.ensure_future(keep.as_of(ME, 1, range(1, 2_000), None, None, 1e6))
        await asyncio.sleep(0.3)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        # the only place in the pool is free again
        async with asyncio.timeout(5):
            assert (await keep.range(ME, [1], T0, T0 + SECOND)).num_rows == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda keep: keep.downsample(ME, [1], None, None, 0),
        lambda keep: keep.downsample(ME, [1], None, None, 1, how=("mode",)),
        lambda keep: keep.downsample(ME, [1], None, None, 1, how=()),
        lambda keep: keep.as_of(ME, 1, [], None, None, 1),
        lambda keep: keep.as_of(ME, 1, [2], None, None, -1),
    ],
    ids=["no-bucket", "unknown-how", "no-how", "no-right", "negative"],
)
async def test_a_senseless_query_is_refused_with_its_reason(keep, ask):
    with pytest.raises(Skippable) as error:
        await ask(keep)

    assert error.value.code == "keep.query-invalid"


async def test_a_scan_streams_every_row_day_by_day_and_signal_by_signal(keep, monkeypatch):
    from guantong.keep import queries

    monkeypatch.setattr(queries, "SCAN_ROWS", 7)
    for position, signal in enumerate((3, 1, 2), 1):
        await keep.store(ME, position, readings=line(signal, 10, step=DAY // 4, position=position))
    await keep.stop()
    keep.open()
    await keep.store(ME, 1000, readings=line(1, 2, first=100, step=DAY // 4, position=99))
    for signal in (3, 1, 2):
        await keep.store(
            ME, 2000 + signal, readings=line(signal, 10, step=DAY // 4, position=2000 + signal, revision=1)
        )

    found = pa.Table.from_batches([part async for part in keep.scan(ME, "readings")])
    order = [(row["day"], row["signal_id"], row["source_time"]) for row in found.to_pylist()]
    assert found.schema.equals(clean_schema())
    assert found.num_rows == 32
    assert order == sorted(order)
    some = [
        part
        async for part in keep.scan(ME, "readings", Filter(signal_ids=(1,), start=T0, end=T0 + DAY, revisions=True))
    ]
    assert sum(part.num_rows for part in some) == 4


async def test_stats_say_what_is_there(keep):
    position = await keep.take(ME, batch(10))
    await keep.store(ME, position, readings=line(1, 10), measurements=measured([{}]))
    await keep.flush()
    await keep.store(ME, position + 1, readings=line(1, 2, first=20, revision=1))
    found = await keep.stats(ME)

    assert (found.rows, found.revisions, found.measurements, found.tail_rows) == (10, 0, 1, 2)
    assert (found.first_time, found.last_time) == (T0, T0 + 21 * SECOND)
    assert (found.commits, found.files, found.logged, found.stored) == (2, 2, position, position)
    assert found.log_entries == 1
    assert found.bytes > 1000
    await keep.flush()
    assert (await keep.stats(ME)).revisions == 2


async def test_a_folder_that_cannot_be_written_leaves_the_rows_waiting_and_the_next_commit_takes_them(
    tmp_path, records, clock
):
    blocked = tmp_path / "tables"
    blocked.write_text("a file where a folder should be")
    async with Keep(tmp_path / "keep", records, clock, near(tables_uri=str(blocked))) as keep:
        await keep.store(ME, 1, readings=line(1, 5))
        with pytest.raises(GuantongError) as error:
            await keep.flush()
        assert error.value.code == "keep.table-unwritable"
        assert (await keep.latest(ME)).num_rows == 1
        blocked.unlink()
        await keep.flush()
        assert (await keep.range(ME, [1], None, None)).num_rows == 5
        assert (await keep.stats(ME)).error == ""


Row = tuple[int, int, int, int, int]


def answer(rows: list[Row], *, revisions: bool) -> list[Row]:
    """The plain list's answer: signal, time, sequence, then highest revision first."""
    ordered = sorted(rows, key=lambda row: (row[0], row[1], row[2], -row[3]))
    if revisions:
        return ordered
    best: dict[tuple[int, int, int], Row] = {}
    for row in ordered:
        best.setdefault(row[:3], row)
    return list(best.values())


def plain(table: pa.Table) -> list[Row]:
    micro = table["source_time"].cast(pa.int64()).to_pylist()
    return list(
        zip(
            table["signal_id"].to_pylist(),
            [m * 1000 + n for m, n in zip(micro, table["source_ns"].to_pylist(), strict=True)],
            table["sequence"].to_pylist(),
            table["revision"].to_pylist(),
            table["value_i64"].to_pylist(),
            strict=True,
        )
    )


reading = st.tuples(
    st.integers(1, 3),
    # microseconds, nanoseconds and midnights, where cutting would show
    st.sampled_from(
        [T0 + k for k in (0, 1, 999, 1000, 999_999_999)] + [T0 - T0 % DAY + k for k in (-1, 0, DAY - 1, DAY)]
    ),
    st.integers(0, 2),
)
deed = st.one_of(st.lists(reading, max_size=8), st.sampled_from(["flush", "reopen", "crash"]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deeds=st.lists(deed, max_size=8), bounds=st.tuples(reading, reading), wanted=st.sets(st.integers(1, 3), min_size=1)
)
def test_any_sequence_of_store_flush_reopen_and_crash_answers_like_a_plain_list(
    tmp_path_factory, clock, deeds, bounds, wanted
):
    """After a crash the uncommitted part is stored again from the log, as fuse does."""

    async def run(folder: Path, records: Records) -> None:
        keep = Keep(folder, records, clock, inline=True)
        keep.open()
        done: list[tuple[int, list[Row]]] = []
        revisions: dict[tuple[int, int, int], int] = {}

        async def put(position: int, rows: list[Row]) -> None:
            await keep.store(
                ME,
                position,
                readings=clean(
                    {"signal_id": s, "at": t, "sequence": q, "revision": r, "value_i64": v, "log_position": position}
                    for s, t, q, r, v in rows
                ),
            )

        for thing in deeds:
            if thing == "flush":
                await keep.flush(ME)
            elif thing in ("reopen", "crash"):
                await (keep.stop() if thing == "reopen" else keep.abandon())
                keep = Keep(folder, records, clock, inline=True)
                keep.open()
                after = await keep.stored(ME)
                for position, rows in done:
                    if position > after:
                        await put(position, rows)
            else:
                rows = []
                for key in thing:
                    revisions[key] = revisions.get(key, -1) + 1
                    rows.append((*key, revisions[key], len(revisions)))
                position = await keep.take(ME, batch(1))
                done.append((position, rows))
                await put(position, rows)
        every = [row for _, rows in done for row in rows]
        start, end = sorted((bounds[0][1], bounds[1][1]))
        some = [row for row in every if row[0] in wanted and start <= row[1] < end]
        for expected, asked in (
            (answer(every, revisions=True), keep.range(ME, None, None, None, revisions=True)),
            (answer(every, revisions=False), keep.range(ME, None, None, None)),
            (answer(some, revisions=False), keep.range(ME, wanted, start, end)),
        ):
            assert plain(await asked) == expected
        streamed = [row async for part in keep.scan(ME, "readings") for row in plain(pa.Table.from_batches([part]))]
        assert sorted(streamed) == sorted(answer(every, revisions=False))
        counts = {
            (r["signal_id"]): r["count"] for r in (await keep.downsample(ME, None, None, None, 1e6)).group_by("signal_id")
            .aggregate([("count", "sum")]).rename_columns(["signal_id", "count"]).to_pylist()
        }  # fmt: skip
        best = answer(every, revisions=False)
        assert counts == {s: sum(row[0] == s for row in best) for s in {row[0] for row in best}}
        last = {s: max(row[:4] for row in every if row[0] == s) for s in {row[0] for row in every}}
        assert [row[:4] for row in plain(await keep.latest(ME))] == [last[s] for s in sorted(last)]
        await keep.abandon()

    folder = tmp_path_factory.mktemp("keep")
    records = Records("sqlite://", clock, inline=True)
    records.open(METADATA.create_all)
    asyncio.run(run(folder, records))
    records.close()


async def test_commits_of_a_busy_table_are_never_nearer_than_the_gap(tmp_path, records):
    """Rows that come during a commit wait for the gap after its end, not for the end alone."""
    clock = SystemClock()
    ends: list[float] = []
    async with Keep(tmp_path, records, clock, near(commit_rows=1, commit_gap_s=0.3)) as keep:
        begun, number = clock.monotonic(), 0
        while clock.monotonic() < begun + 1.5:
            number += 1
            await keep.store(ME, number, readings=line(1, 1, first=number, position=number))
            last = (await keep._state(ME)).last_commit
            if not ends or ends[-1] != last:
                ends.append(last)
            await asyncio.sleep(0.002)

    commits = ends[1:]  # the first is: never
    assert len(commits) >= 2
    assert min(later - former for former, later in itertools.pairwise(commits)) >= 0.3


async def test_a_backlog_is_read_at_its_rate_and_live_data_is_taken_meanwhile(tmp_path, records):
    async with Keep(tmp_path, records, SystemClock(), near(drain_rows_s=1_000)) as keep:
        for number in range(20):
            await keep.take(ME, batch(100, first=100 * number))
        loop, read, begun = asyncio.get_running_loop(), [0], asyncio.get_running_loop().time()

        async def drain() -> float:
            while entries := await keep.read(ME, read[-1], 100):
                read.append(entries[-1].position)
            return loop.time() - begun

        draining = asyncio.ensure_future(drain())
        await asyncio.sleep(0.3)
        await keep.take(ME, batch(1, first=5_000))
        taken = loop.time() - begun
        took = await draining

    assert read[-1] == 21
    assert took >= 0.95  # 2,000 rows at 1,000 a second, of which the first second's are free
    assert taken < took
