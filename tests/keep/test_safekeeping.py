"""The log's bound and what it drops, encryption, check and repair, an older directory, a full disk: nothing is lost without a word."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from guantong.base.errors import ConfigProblem, GuantongError, Retryable
from guantong.base.vault import VaultReader, VaultWriter
from guantong.keep import doctor
from guantong.keep.blobs import FolderBlobs
from guantong.keep.log import Log
from guantong.keep.machine import OwnClock
from guantong.keep.model import KeepSettings
from guantong.keep.rules import DAY_NS, forecast
from guantong.keep.seal import Seal, SealedBlobs, load_seal
from guantong.keep.service import Keep

from ..conftest import missing
from .rows import ME, SECOND, T0, batch, clean, near

KEY = bytes(range(32))
ROOT = Path(__file__).resolve().parents[2]


# the bound of the log


async def test_oldest_unread_entries_are_dropped_into_gap_records_that_cover_exactly_the_missing_numbers(
    tmp_path, clock
):
    """D7: nobody reads until the cap is passed twice; then all that is left is read."""
    cap = 400_000
    log = Log(tmp_path / "log.db", clock, KeepSettings(log_bytes_max=cap, log_drop="oldest"), inline=True)
    log.open()
    offered, size = 0, 0
    while size < 2 * cap + cap // 2:
        position = await log.append(ME, batch(100, first=offered))
        offered += 100
        size += (await log.mark(ME)).size_bytes // position if position == 1 else 2_000
        assert (await log.mark(ME)).size_bytes <= cap
    kept: list[int] = []
    lost: list[tuple[int, int]] = []
    after = 0
    while found := await log.read(ME, after, 10_000):
        after = found[-1].position
        for one in found:
            kept += one.batch.rows["sequence"].to_pylist()
            for gap in one.batch.note.get("gaps", ()):
                assert (gap["unit"], gap["reason"]) == ("sequence", "log-full")
                assert gap["count"] == gap["to"] - gap["from"] + 1
                lost.append((gap["from"], gap["to"]))
    missing_numbers = sorted(set(range(offered)) - set(kept))
    covered = sorted(number for first, last in lost for number in range(first, last + 1))
    dropped = (await log.dropped(ME))["mill-01"]
    log.close()

    assert missing_numbers
    assert covered == missing_numbers
    assert dropped.rows == len(missing_numbers)
    assert len(kept) == len(set(kept)) == offered - dropped.rows


async def test_what_was_handed_out_is_never_dropped(tmp_path, clock):
    log = Log(tmp_path / "log.db", clock, KeepSettings(log_bytes_max=40_000, log_drop="oldest"), inline=True)
    log.open()
    for number in range(5):
        await log.append(ME, batch(100, first=number * 100))
    handed = await log.read(ME, 0, 10_000)
    first = 500
    with pytest.raises(Retryable) as full:
        for _ in range(200):
            await log.append(ME, batch(100, first=first))
            first += 100
            if first > 15_000:
                break
            await log.read(ME, 0, 10**9)
    again = await log.read(ME, 0, 10_000)
    log.close()

    assert full.value.code == "keep.log-full"
    assert [one.position for one in again][: len(handed)] == [one.position for one in handed]


async def test_by_default_a_full_log_refuses_and_drops_nothing(tmp_path, clock):
    log = Log(tmp_path / "log.db", clock, KeepSettings(log_bytes_max=10_000), inline=True)
    log.open()
    taken = 0
    with pytest.raises(Retryable):
        while True:
            await log.append(ME, batch(100, first=taken))
            taken += 100
    rows = sum(one.batch.rows.num_rows for one in await log.read(ME, 0, 10**9))
    assert (rows, await log.dropped(ME)) == (taken, {})
    log.close()


# encryption


async def test_an_encrypted_log_shows_no_value_and_opens_with_its_key_only(tmp_path, records, clock):
    key = tmp_path / "key"
    key.write_text(KEY.hex())
    other = tmp_path / "other"
    other.write_bytes(bytes(32))
    folder = tmp_path / "node" / "keep"
    note = {"names": {"Xpos": {"name": "very secret name"}}}
    async with Keep(folder, records, clock, near(key_file=str(key))) as keep:
        await keep.take(ME, batch(10, **note))
        await keep.store(
            ME, 1, readings=clean([{"signal_id": 1, "at": T0, "value_text": "a secret reading", "log_position": 1}])
        )
        await keep.flush(ME)
    raw = b"".join(path.read_bytes() for path in folder.glob("log.db*"))
    assert b"very secret" not in raw
    assert b"secret reading" not in raw
    assert b"Xpos" not in raw
    codes = []
    for given in ("", str(other), str(folder / "inside")):
        with pytest.raises(ConfigProblem) as error:
            Keep(folder, records, clock, near(key_file=given)).open()
        codes.append(error.value.code)
    async with Keep(folder, records, clock, near(key_file=str(key))) as keep:
        (entry,) = await keep.read(ME, 0)
        assert entry.batch.note == note
        assert (await keep.latest(ME))["value_text"].to_pylist() == ["a secret reading"]

    assert codes == ["keep.key-missing", "keep.key-other", "keep.key-unfit"]


async def test_a_log_from_before_the_key_stays_readable(tmp_path, records, clock):
    async with Keep(tmp_path / "n" / "keep", records, clock, near()) as keep:
        await keep.take(ME, batch(10))
    key = tmp_path / "key"
    key.write_bytes(KEY)
    async with Keep(tmp_path / "n" / "keep", records, clock, near(key_file=str(key))) as keep:
        await keep.take(ME, batch(10, first=10))
        found = await keep.read(ME, 0)

    assert [one.batch.rows["sequence"][0].as_py() for one in found] == [0, 10]


async def test_sealed_blobs_keep_the_contract_of_blobs_and_hide_their_bytes(tmp_path):
    blobs = SealedBlobs(FolderBlobs(tmp_path), Seal(KEY))
    assert await blobs.put("tile/0/000", b"leaf hashes")
    assert not await blobs.put("tile/0/000", b"leaf hashes")
    with pytest.raises(GuantongError) as error:
        await blobs.put("tile/0/000", b"other")
    assert await blobs.get("tile/0/000") == b"leaf hashes"
    assert await blobs.get("tile/0/001") is None
    assert [name async for name in blobs.list()] == ["tile/0/000"]
    assert b"leaf" not in (tmp_path / "tile/0/000").read_bytes()
    # moved under another name it does not open
    shutil.copy(tmp_path / "tile/0/000", tmp_path / "tile/0/002")
    with pytest.raises(GuantongError) as moved:
        await blobs.get("tile/0/002")

    assert (error.value.code, moved.value.code) == ("keep.blob-differs", "keep.seal-broken")


@pytest.mark.parametrize("content", [b"short", b"zz" * 32, bytes(31), b""])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigProblem) as error:
        load_seal(str(tmp_path / "key"), tmp_path / "node")

    assert error.value.code == "keep.key-unfit"


# the sealed stream of a back-up


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 2 * 1024 * 1024])
def test_a_vault_gives_back_what_was_put_in_and_notices_every_change(tmp_path, size):
    data = os.urandom(size)
    with (tmp_path / "v").open("wb") as file:
        sealed = VaultWriter(file, "five words drawn by lot")
        for at in range(0, size, 300_001):
            sealed.write(data[at : at + 300_001])
        sealed.close()
    whole = (tmp_path / "v").read_bytes()

    def opened(content: bytes) -> bytes:
        (tmp_path / "w").write_bytes(content)
        with (tmp_path / "w").open("rb") as file:
            return VaultReader(file, "five words drawn by lot").read()

    assert opened(whole) == data
    chunk = 1024 * 1024 + 16
    changed = [whole[:-1], whole + b"x", whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]]
    if size > 1024 * 1024:
        changed += [whole[: 34 + chunk], whole[:34] + whole[34 + chunk :]]
    for content in changed:
        with pytest.raises(GuantongError) as error:
            opened(content)
        assert error.value.code in ("base.vault-changed", "base.passphrase-wrong", "base.vault-malformed")


# forecast and clock


def test_the_day_the_disk_fills_is_where_the_line_through_free_space_ends():
    gb = 10**9
    samples = [(T0 + hour * DAY_NS // 24, 100 * gb - hour * gb) for hour in range(48)]
    now = T0 + 2 * DAY_NS
    found = forecast(samples, 52 * gb, now)

    assert found.bytes_per_day == pytest.approx(24 * gb)
    assert found.full_at == pytest.approx(now + 52 / 24 * DAY_NS, rel=1e-9)
    assert forecast(samples[:2], 98 * gb, samples[1][0] + 1).full_at is None
    assert forecast([(at, 10 * gb) for at, _ in samples], 10 * gb, now).full_at is None
    assert forecast([], gb, now).bytes_per_day is None


async def test_the_node_knows_when_its_clock_went_back_or_jumped(tmp_path, records, clock):
    async with Keep(tmp_path, records, clock, near()) as keep:
        await keep.take(ME, batch(1))
    clock.at -= 90 * SECOND
    keep = Keep(tmp_path, records, clock, near(upkeep_s=0))
    await keep.start()
    back = keep.clock_check()
    await keep.stop()
    own = OwnClock(clock, 0)
    clock.advance(10)
    assert own.check().jumped_s == pytest.approx(0, abs=1e-6)
    clock.at += 5 * SECOND

    assert back.back_s == 90
    assert own.check().jumped_s == pytest.approx(5, abs=1e-6)


# check and repair


async def filled(folder: Path, records, clock) -> None:
    async with Keep(folder / "keep", records, clock, near()) as keep:
        for number in range(3):
            position = await keep.take(ME, batch(10, first=number * 10))
            await keep.store(
                ME,
                position,
                readings=clean(
                    {
                        "signal_id": 1,
                        "at": T0 + (number * 10 + i) * SECOND,
                        "sequence": number * 10 + i,
                        "value_i64": i,
                        "log_position": position,
                    }
                    for i in range(10)
                ),
                tables={"orders": pa.table({"order": ["a"]})},
            )
            await keep.flush(ME)
    (folder / "keys.json").write_text("{}")


async def test_check_names_each_broken_file_and_repair_mends_what_it_can(tmp_path, records, clock):
    await filled(tmp_path, records, clock)
    assert doctor.check(tmp_path) == []
    parts = sorted((tmp_path / "keep" / "tables").glob("*/readings/**/*.parquet"))
    flipped = bytearray(parts[0].read_bytes())
    flipped[len(flipped) // 3] ^= 0xFF
    parts[0].write_bytes(flipped)
    parts[1].unlink()
    with sqlite3.connect(tmp_path / "keep" / "log.db") as log:
        log.execute(
            "UPDATE log SET blob = CAST(substr(blob, 1, 200) || x'00' || substr(blob, 202) AS BLOB) WHERE position = 2"
        )
        log.execute("UPDATE log SET crc = crc + 1 WHERE position = 3")
    log.close()
    orders = next((tmp_path / "keep" / "tables").glob("*/tables/table_orders-*/_delta_log"))
    newest = sorted(orders.glob("*.json"))[-1]
    newest.write_text(newest.read_text()[:50])
    draft = tmp_path / "blobs" / "tile"
    draft.mkdir(parents=True)
    (draft / ".0123.part").write_bytes(b"half")
    named = {one.file: one.mendable for one in doctor.check(tmp_path)}

    assert set(named) == {
        parts[0].relative_to(tmp_path).as_posix(),
        parts[1].relative_to(tmp_path).as_posix(),
        "keep/log.db#2",
        "keep/log.db#3",
        newest.relative_to(tmp_path).as_posix(),
        "blobs/tile/.0123.part",
    }
    assert all(named.values())
    done = doctor.repair(tmp_path)
    assert {one.file for one in done} == set(named)
    assert doctor.check(tmp_path) == []
    assert (tmp_path / "damaged" / parts[0].name).exists()
    async with Keep(tmp_path / "keep", records, clock, near()) as keep:
        assert (await keep.range(ME, [1], None, None)).num_rows == 10
        entries = await keep.read(ME, 0)
        gaps = [gap for one in entries for gap in one.batch.note.get("gaps", ())]
        assert [gap["reason"] for gap in gaps] == ["table-damaged", "table-damaged"]
        assert sum(gap["count"] for gap in gaps) == 20


async def test_a_table_is_rebuilt_from_the_log(tmp_path, records, clock):
    await filled(tmp_path, records, clock)
    assert doctor.rebuild(tmp_path, ME, "readings") == (1, 3)
    async with Keep(tmp_path / "keep", records, clock, near()) as keep:
        assert (await keep.range(ME, None, None, None)).num_rows == 0
        assert await keep.stored(ME) == 0
        after = 0
        while found := await keep.read(ME, after):  # what fuse does when it starts
            for one in found:
                after = one.position
                first = one.batch.rows["sequence"][0].as_py()
                await keep.store(
                    ME,
                    one.position,
                    readings=clean(
                        {
                            "signal_id": 1,
                            "at": T0 + (first + i) * SECOND,
                            "sequence": first + i,
                            "value_i64": i,
                            "log_position": one.position,
                        }
                        for i in range(10)
                    ),
                    tables={"orders": pa.table({"order": ["a"]})},
                )
        await keep.flush(ME)
        assert (await keep.range(ME, None, None, None)).num_rows == 30
        assert (await keep.table(ME, "orders")).num_rows == 3
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["readings-0"]


# an older directory

FORMAT_1 = """
CREATE TABLE log (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    participant TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL,
    at INTEGER NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL,
    note BLOB NOT NULL, blob BLOB NOT NULL
);
CREATE INDEX log_order ON log (participant, position);
CREATE TABLE marks (
    participant TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL DEFAULT 0, entries INTEGER NOT NULL DEFAULT 0, logged INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0, intended INTEGER NOT NULL DEFAULT 0,
    commits INTEGER NOT NULL DEFAULT 0, latest BLOB
);
CREATE TABLE names (participant TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (participant, name));
PRAGMA user_version = 1;
"""
"""The log of version 0.1.0, as it stood in ``keep/log.py`` of that version."""


def older(path: Path, clock) -> None:
    """A log as version 0.1.0 wrote it: its tables, three entries, an Arrow stream with zstd and a CRC-32 over note and blob."""
    import zlib

    path.parent.mkdir(parents=True, exist_ok=True)
    log = sqlite3.connect(path)
    log.executescript("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;" + FORMAT_1)
    total = 0
    for number in range(3):
        one = batch(10, first=number * 10)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, one.rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(one.rows)
        blob, note = sink.getvalue().to_pybytes(), b"{}"
        total += len(blob) + len(note)
        log.execute(
            "INSERT INTO log (participant, source, kind, at, rows, size, crc, note, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ME,
                one.source,
                one.kind,
                clock.now(),
                10,
                len(blob) + len(note),
                zlib.crc32(blob, zlib.crc32(note)),
                note,
                blob,
            ),
        )
    log.execute("INSERT INTO marks (participant, bytes, entries, logged) VALUES (?, ?, 3, 3)", (ME, total))
    log.commit()
    log.close()


async def test_the_log_of_the_version_before_opens_and_that_version_would_open_it_again(tmp_path, records, clock):
    older(tmp_path / "log.db", clock)
    async with Keep(tmp_path, records, clock, near()) as keep:
        found = await keep.read(ME, 0)
        assert [row for one in found for row in one.batch.rows["sequence"].to_pylist()] == list(range(30))
        assert await keep.take(ME, batch(10, first=30)) == 4
    log = sqlite3.connect(tmp_path / "log.db")
    version = log.execute("PRAGMA user_version").fetchone()[0]
    columns = {
        name: [row[1] for row in log.execute(f"PRAGMA table_info({name})")] for name in ("log", "marks", "names")
    }
    log.close()
    before = sqlite3.connect(":memory:")
    before.executescript(FORMAT_1)

    # what the version before checks and reads: the number of the format, and its own tables with their own columns
    assert version == 1
    assert columns == {name: [row[1] for row in before.execute(f"PRAGMA table_info({name})")] for name in columns}
    before.close()


async def test_an_encrypted_log_is_refused_by_the_version_before(tmp_path, records, clock):
    (tmp_path / "key").write_bytes(KEY)
    async with Keep(tmp_path / "n" / "keep", records, clock, near(key_file=str(tmp_path / "key"))) as keep:
        await keep.take(ME, batch(1))
    log = sqlite3.connect(tmp_path / "n" / "keep" / "log.db")
    version = log.execute("PRAGMA user_version").fetchone()[0]
    log.close()

    assert version == 2


# a full disk

FULL = """
import asyncio, json, os, sys
from pathlib import Path
from guantong.base.clock import SystemClock
from guantong.base.errors import GuantongError
from guantong.keep.service import Keep
from guantong.records import METADATA, Records
from tests.keep.rows import ME, T0, SECOND, batch, clean, near

async def main():
    disk = Path(sys.argv[1])
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(4_000_000))
    records = Records("sqlite://", SystemClock(), inline=True)
    records.open(METADATA.create_all)
    codes, acknowledged, number = set(), [], 0
    async with Keep(disk / "keep", records, SystemClock(), near(commit_rows=10**9, commit_s=3600)) as keep:
        while "keep.disk-full" not in codes:
            try:
                acknowledged.append((await keep.take(ME, batch(2_000, first=number * 2_000)), number))
                number += 1
            except GuantongError as error:
                codes.add(error.code)
        position = acknowledged[-1][0]
        rows = clean({"signal_id": 1, "at": T0 + i * SECOND, "value_text": os.urandom(300).hex(), "sequence": i, "log_position": position} for i in range(5_000))
        try:
            await keep.store(ME, position, readings=rows)
            await keep.flush(ME)
        except GuantongError as error:
            codes.add(error.code)
        ballast.unlink()  # a person made room
        await keep.store(ME, position, readings=rows)
        await keep.flush(ME)
        acknowledged.append((await keep.take(ME, batch(10, first=10**6)), -1))
    async with Keep(disk / "keep", records, SystemClock(), near()) as keep:
        found, after = [], 0
        while entries := await keep.read(ME, after):
            after = entries[-1].position
            found += [one.position for one in entries]
        stored = (await keep.range(ME, None, None, None)).num_rows
    print(json.dumps({"codes": sorted(codes), "lost": sorted({p for p, _ in acknowledged} - set(found)), "extra": len(found) - len(acknowledged), "stored": stored}))

asyncio.run(main())
"""


def test_a_disk_that_is_really_full_loses_nothing_acknowledged_and_goes_on_when_there_is_room(tmp_path):
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=8m none {disk} && exec {sys.executable} -c "$SCRIPT" {disk}'
    if (
        unshare is None
        or subprocess.run(
            [unshare, "-rm", "sh", "-c", f"mount -t tmpfs -o size=1m none {disk}"], capture_output=True, check=False
        ).returncode
    ):
        missing("unshare", "no mount namespace for a small disk here")
    done = subprocess.run(
        [str(unshare), "-rm", "sh", "-c", command],
        cwd=ROOT, env={**os.environ, "SCRIPT": FULL}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert "keep.disk-full" in found["codes"]
    assert found["lost"] == [], found
    assert found["extra"] == 0
    assert found["stored"] == 5_000, found
