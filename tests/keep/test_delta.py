"""The contract of tables, in a folder and on S3: commits exactly once, read back by an engine that is not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from guantong.keep.delta import READINGS, Table
from guantong.keep.model import KeepSettings
from guantong.keep.service import Keep
from guantong.keep.tail import Piece, Tail

from .rows import ME, SECOND, T0, clean, measured, near

DAY = 86_400 * SECOND


@pytest.fixture
def settings(place) -> KeepSettings:
    uri, options = place
    return near(tables_uri=uri, storage_options=options)


def rows(count: int, position: int, signal: int = 1) -> pa.Table:
    return clean(
        {"signal_id": signal, "at": T0 + i * DAY // 3, "value_i64": i, "sequence": i, "log_position": position}
        for i in range(count)
    )


async def test_what_is_committed_is_answered_after_a_restart(settings, tmp_path, records, clock):
    async with Keep(tmp_path / "k", records, clock, settings) as keep:
        await keep.store(ME, 1, readings=rows(10, 1), measurements=measured([{"feature": "f"}]))
        await keep.flush()
        await keep.store(ME, 2, readings=rows(10, 2, signal=2), tables={"parts": pa.table({"part": ["01of20"]})})
    async with Keep(tmp_path / "k", records, clock, settings) as keep:
        found = await keep.range(ME, None, None, None)
        one_day = await keep.range(ME, [2], T0 + DAY, T0 + 2 * DAY)

        assert found.num_rows == 20
        assert one_day["value_i64"].to_pylist() == [3, 4, 5]
        assert (await keep.measurements(ME)).num_rows == 1
        assert (await keep.table(ME, "parts"))["part"].to_pylist() == ["01of20"]
        assert (await keep.downsample(ME, [1], None, None, 86_400, how=("count",)))["count"].to_pylist() == [2, 3, 3, 2]
        assert (await keep.as_of(ME, 1, [2], None, None, 1)).num_rows == 10
        assert (await keep.stats(ME)).rows == 20


async def test_polars_reads_the_same_rows_from_the_files_alone(place, settings, tmp_path, records, clock):
    import polars

    async with Keep(tmp_path / "k", records, clock, settings) as keep:
        await keep.store(ME, 1, readings=rows(10, 1))
        await keep.flush()
        uri = keep._table(await keep._state(ME), READINGS).uri
    found = polars.read_delta(uri, storage_options=place[1] or None)

    assert found.shape == (10, 17)
    assert sorted(found["value_i64"]) == list(range(10))


def test_a_commit_repeated_is_not_written_twice(place):
    uri, options = place
    tail = Tail(0)
    tail.add(READINGS, Piece(5, rows(4, 5)))
    table = Table(uri, ME, READINGS, options)
    first = table.append(tail, 5, 5)
    for again in (table, Table(uri, ME, READINGS, options)):
        tail.add(READINGS, Piece(5, rows(4, 5)))
        assert again.append(tail, 5, 5) is None
    tail.add(READINGS, Piece(5, rows(4, 5)))
    tail.add(READINGS, Piece(6, rows(2, 6)))
    second = table.append(tail, 6, 6)

    assert first is not None
    assert second is not None
    assert (first[1].num_rows, second[1].num_rows) == (4, 2)
    assert sum(file.rows for file in table.view(tail)[0].files) == 6
    assert table.committed() == 6


def test_an_answer_lost_after_the_commit_does_not_double_it(place, monkeypatch):
    """The commit arrives, the library reports a failure: the retry looks first and finds it."""
    import deltalake

    uri, options = place
    real = deltalake.write_deltalake
    calls = []

    def lossy(*given, **named):
        real(*given, **named)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("connection reset")

    monkeypatch.setattr(deltalake, "write_deltalake", lossy)
    tail = Tail(0)
    tail.add(READINGS, Piece(1, rows(3, 1)))
    table = Table(uri, ME, READINGS, options)
    table.append(tail, 1, 1)

    assert len(calls) == 1
    assert sum(file.rows for file in table.view(tail)[0].files) == 3
    assert tail.rows == 0


def test_files_are_sorted_by_signal_and_time_within_their_day(place):
    from deltalake import DeltaTable

    uri, options = place
    tail = Tail(0)
    tail.add(READINGS, Piece(1, pa.concat_tables([rows(6, 1, signal) for signal in (3, 1, 2)])))
    table = Table(uri, ME, READINGS, options)
    table.append(tail, 1, 1)
    stored = DeltaTable(table.uri, storage_options=options or None)

    assert stored.metadata().partition_columns == ["day"]
    for part in stored.to_pyarrow_dataset().get_fragments():
        found = part.to_table(columns=["signal_id", "source_time"])
        keys = list(zip(found["signal_id"].to_pylist(), found["source_time"].to_pylist(), strict=True))
        assert keys == sorted(keys)


def test_a_local_commit_is_on_the_disk_before_it_is_reported(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("/proc: not on this system")
    monkeypatch.setattr(os, "fsync", fsync)
    tail = Tail(0)
    tail.add(READINGS, Piece(1, rows(6, 1)))
    table = Table(str(tmp_path), ME, READINGS, {})
    table.append(tail, 1, 1)

    written = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert written
    assert written <= set(flushed)


@pytest.mark.parametrize("torn", ["entry", "entry gone", "data", "data gone"])
@pytest.mark.parametrize("commits", [0, 2])
async def test_a_commit_left_in_pieces_by_the_machine_is_taken_back_and_made_again(
    tmp_path, records, clock, torn, commits, monkeypatch
):
    """Power fails after the library wrote a commit and before it was flushed; the log still has the rows."""
    keep = Keep(tmp_path, records, clock, inline=True)
    keep.open()

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    for position in range(1, commits + 1):
        await keep.store(ME, position, readings=rows(10, position, signal=position))
        await keep.flush()
    await keep.store(ME, commits + 1, readings=rows(10, commits + 1, signal=commits + 1))
    with monkeypatch.context() as patch:
        patch.setattr(Table, "_sync", lambda self, version: die() if version or commits else None)
        with pytest.raises(Died):
            await keep.flush()
    await keep.abandon()
    (log,) = tmp_path.rglob("_delta_log")
    newest = max(log.glob("*.json"))
    data = max(log.parent.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if torn == "entry":
        newest.write_bytes(b"")
    elif torn == "entry gone":
        newest.unlink()
        if not commits:
            min(log.glob("*.json")).write_bytes(b"")
    elif torn == "data":
        data.write_bytes(b"\0" * data.stat().st_size)
    else:
        data.unlink()
    async with Keep(tmp_path, records, clock, inline=True) as keep:
        assert await keep.stored(ME) == commits
        await keep.store(ME, commits + 1, readings=rows(10, commits + 1, signal=commits + 1))
        await keep.flush()

        assert (await keep.range(ME, None, None, None)).num_rows == 10 * (commits + 1)
        assert await keep.stored(ME) == commits + 1
