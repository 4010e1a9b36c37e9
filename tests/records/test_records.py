"""The contract of records, on SQLite and on PostgreSQL: a step is recorded whole or not at all."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Boolean, Column, LargeBinary, MetaData, String, Table, event, select

from guantong.base.clock import SystemClock, parse_iso
from guantong.base.entry import Entry, EntryKind
from guantong.base.errors import ConfigProblem, Corrupt, Refused, Retryable
from guantong.records import METADATA, Edge, Message, Records
from guantong.records.tables import EDGES, INSTANT, LEAVES, OUTBOX

ME, OTHER = "did:web:me.example", "did:web:other.example"
KIND = EntryKind("test.thing-said", "A thing was said", "说了一件事", {"type": "object"})
THINGS = Table(  # in a MetaData of its own: the product's tables are compared with the migrations
    "test_things",
    MetaData(),
    Column("participant", String(255), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("changed_at", INSTANT),
    Column("body", LargeBinary),
    Column("good", Boolean),
)


def _postgres_bin() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return folders[0] if folders else None


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root: the name of somebody who is not, None where we are nobody special ourselves."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL that lives for this session only; skips by name where there is none."""
    required = "postgresql" in os.environ.get("GUANTONG_REQUIRE", "").split(",")

    def missing(why):
        if required:
            pytest.fail(f"postgres is required (GUANTONG_REQUIRE) but {why}", pytrace=False)
        pytest.skip(f"postgres: {why}")

    programs = _postgres_bin()
    if programs is None or sys.platform == "win32":
        missing("initdb was not found on this machine")
    pytest.importorskip("psycopg")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="gt-pg-"))
    user = _unprivileged()
    prefix = []
    if user:
        shutil.chown(folder, user)
        prefix = ["runuser", "-u", user, "--"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    data = folder / "data"

    def run(*command):
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd=folder)
        if done.returncode:
            missing(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-300:]}")

    run(str(programs / "initdb"), "-D", str(data), "-U", "guantong", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    # the server keeps its pipes open: give it a log file, or the call would wait for it
    run(str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    yield f"postgresql+psycopg://guantong@127.0.0.1:{port}/postgres"
    subprocess.run(
        [*prefix, str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], capture_output=True, cwd=folder
    )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite-inline", "sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return f"sqlite:///{tmp_path / 'records.db'}" if request.param == "sqlite" else "sqlite://"


@pytest.fixture
def opened(url):
    records = Records(url, SystemClock(), inline=url == "sqlite://")

    def fresh(connection):
        for metadata in (METADATA, THINGS.metadata):
            metadata.drop_all(connection)
            metadata.create_all(connection)

    records.open(fresh)
    yield records
    records.close()


def things(records):
    return {row["name"]: row["state"] for row in records.rows_now(select(THINGS))}


async def test_a_step_is_recorded_whole(opened):
    async with opened.step(ME) as step:
        step.insert(THINGS, name="a", state="new", body=b"\x00\xff", good=True)
        step.send(Message("lane", "kind", "key", {"n": 1}))
        step.record(Entry(KIND, {"text": "你好"}))
        step.count("uses", 2)
        step.link(Edge("x:y:1", "x:y:2", "derived"), Edge("x:y:1", "x:y:2", "derived"))

    row = await opened.row(select(THINGS))
    assert (row["participant"], bytes(row["body"]), row["good"]) == (ME, b"\x00\xff", True)
    assert len(await opened.rows(select(OUTBOX))) == len(await opened.rows(select(EDGES))) == 1
    assert await opened.counter(ME, "uses") == 2
    leaf = orjson.loads((await opened.row(select(LEAVES)))["leaf"])
    assert leaf["body"] == {"text": "你好"}
    assert step.leaves == [0]


async def test_a_step_that_fails_leaves_nothing_and_other_steps_stand(opened):
    async def good(n):
        async with opened.step(ME) as step:
            step.insert(THINGS, name=f"good{n}", state="new")
            step.record(Entry(KIND, {"n": n}))

    async def bad(n):
        async with opened.step(ME) as step:
            step.record(Entry(KIND, {"bad": n}))
            step.send(Message("lane", "kind", f"bad{n}", {}))
            step.count("bad")
            step.move(THINGS, {"name": "absent"}, "moved", was="new")

    outcomes = await asyncio.gather(*(good(n) if n % 2 else bad(n) for n in range(20)), return_exceptions=True)

    assert [isinstance(outcome, Retryable) for outcome in outcomes] == [n % 2 == 0 for n in range(20)]
    assert len(things(opened)) == 10
    numbers = [row["number"] for row in await opened.rows(select(LEAVES).order_by(LEAVES.c.number))]
    assert numbers == list(range(10))
    assert await opened.rows(select(OUTBOX)) == []
    assert await opened.counter(ME, "bad") == 0


async def test_an_exception_in_the_block_writes_nothing(opened):
    with pytest.raises(ZeroDivisionError):
        async with opened.step(ME) as step:
            step.insert(THINGS, name="a", state="new")
            raise ZeroDivisionError

    assert things(opened) == {}


async def test_a_key_can_be_inserted_once_per_participant(opened):
    for participant in (ME, OTHER):
        async with opened.step(participant) as step:
            step.insert(THINGS, name="a", state="new")
    with pytest.raises(Retryable) as refused:
        async with opened.step(ME) as step:
            step.insert(THINGS, name="a", state="again")

    assert refused.value.code == "records.conflict"
    assert len(await opened.rows(select(THINGS))) == 2


async def test_a_state_moves_only_from_where_it_is(opened):
    async with opened.step(ME) as step:
        step.insert(THINGS, name="a", state="new")
    async with opened.step(ME) as step:
        step.move(THINGS, {"name": "a"}, "open", was=("new", "idle"))
    with pytest.raises(Retryable):
        async with opened.step(ME) as step:
            step.move(THINGS, {"name": "a"}, "closed", was="new")
    with pytest.raises(Retryable):
        async with opened.step(OTHER) as step:
            step.move(THINGS, {"name": "a"}, "closed", was="open")

    assert things(opened) == {"a": "open"}


async def test_of_many_who_move_the_same_state_one_wins(opened):
    async with opened.step(ME) as step:
        step.insert(THINGS, name="a", state="new")

    async def take(n):
        async with opened.step(ME) as step:
            step.move(THINGS, {"name": "a"}, f"won{n}", was="new")

    outcomes = await asyncio.gather(*(take(n) for n in range(10)), return_exceptions=True)

    assert sum(outcome is None for outcome in outcomes) == 1


async def test_upsert_writes_once_and_then_replaces(opened):
    for state in ("new", "newer"):
        async with opened.step(ME) as step:
            step.upsert(THINGS, name="a", state=state)

    assert things(opened) == {"a": "newer"}


async def test_a_counter_stops_at_its_limit_however_many_count(opened):
    async def use():
        async with opened.step(ME) as step:
            step.count("uses", limit=5)
            step.record(Entry(KIND, {}))

    outcomes = await asyncio.gather(*(use() for _ in range(12)), return_exceptions=True)

    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 7
    assert await opened.counter(ME, "uses") == 5
    assert len(await opened.rows(select(LEAVES))) == 5


async def test_leaves_are_numbered_without_holes_per_participant_also_after_a_restart(url, opened):
    for n in range(4):
        async with opened.step(ME if n % 2 else OTHER) as step:
            step.record(Entry(KIND, {"n": n}))
    if url != "sqlite://":
        again = Records(url, SystemClock())
        again.open(lambda connection: None)
        async with again.step(ME) as step:
            step.record(Entry(KIND, {"n": 4}))
        again.close()
        assert step.leaves == [2]
    else:
        assert step.leaves == [1]


async def test_committed_messages_are_handed_over_in_order_and_failed_ones_are_not(opened):
    handed, woken = [], []
    opened.on_messages(lambda messages: handed.extend(item.key for item in messages))
    opened.on_commit(lambda: woken.append(True))

    async with opened.step(ME) as step:
        step.send(Message("lane", "kind", "a", {}))
        step.send(Message("lane", "kind", "b", {}))
    with pytest.raises(Retryable):
        async with opened.step(ME) as step:
            step.send(Message("lane", "kind", "c", {}))
            step.move(THINGS, {"name": "absent"}, "x", was="y")
    async with opened.step(ME) as step:
        step.send(Message("lane", "kind", "a", {}))
    await asyncio.sleep(0.01)

    assert handed == ["a", "b"]
    assert woken


async def test_an_entry_that_is_too_large_is_refused_before_anything_is_written(opened):
    with pytest.raises(ConfigProblem) as refused:
        async with opened.step(ME) as step:
            step.insert(THINGS, name="a", state="new")
            step.record(Entry(KIND, {"text": "x" * 70_000}))

    assert refused.value.code == "records.entry-too-large"
    assert things(opened) == {}


async def test_a_step_s_instant_is_that_of_its_leaf(opened):
    async with opened.step(ME) as step:
        step.record(Entry(KIND, {}))

    row = await opened.row(select(LEAVES))
    assert row["recorded_at"] == step.at == parse_iso(orjson.loads(row["leaf"])["at"])


async def test_a_cancelled_step_is_still_written_and_its_messages_leave(opened):
    handed = []
    opened.on_messages(lambda messages: handed.extend(item.key for item in messages))

    async def write():
        async with opened.step(ME) as step:
            step.insert(THINGS, name="a", state="new")
            step.send(Message("lane", "kind", "a", {}))

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with opened.step(ME) as step:
        step.insert(THINGS, name="b", state="new")
    await asyncio.sleep(0.01)

    assert set(things(opened)) == {"a", "b"}
    assert handed == ["a"]


def test_records_that_can_not_be_opened_say_so(tmp_path):
    (tmp_path / "records.db").write_bytes(b"this is no database" * 100)
    records = Records(f"sqlite:///{tmp_path / 'records.db'}", SystemClock())

    with pytest.raises(Corrupt) as refused:
        records.open(METADATA.create_all)
    records.close()

    assert refused.value.code == "records.unopenable"


async def test_a_table_that_is_not_there_is_not_called_a_full_disk(tmp_path):
    records = Records(f"sqlite:///{tmp_path / 'records.db'}", SystemClock())
    records.open(METADATA.create_all)
    try:
        with pytest.raises(Retryable) as error:
            async with records.step(ME) as step:
                step.insert(THINGS, name="a", state="new")
        assert error.value.code == "records.write-failed"
        assert "no such table" in str(error.value)
    finally:
        records.close()


async def test_a_full_database_is_called_so_and_goes_on_when_there_is_room(tmp_path):
    records = Records(f"sqlite:///{tmp_path / 'records.db'}", SystemClock())
    pages: list[int] = [10**9]
    made: list[object] = []

    def small(connection, _):
        made.append(connection)
        connection.execute(f"PRAGMA max_page_count={pages[0]}")

    event.listen(records.engine, "connect", small)

    def fresh(connection):
        METADATA.create_all(connection)
        THINGS.metadata.create_all(connection)

    records.open(fresh)
    try:
        async with records.step(ME) as step:
            step.insert(THINGS, name="a", state="new")
        for connection in made:
            connection.execute("PRAGMA max_page_count=1")  # SQLite makes it no smaller than the file is now
        with pytest.raises(Retryable) as error:
            for number in range(100):
                async with records.step(ME) as step:
                    step.insert(THINGS, name=f"b{number}", state="new", body=b"x" * 20_000)
        assert error.value.code == "records.disk-full"
        pages[0] = 10**9
        for connection in made:
            connection.execute(f"PRAGMA max_page_count={pages[0]}")
        async with records.step(ME) as step:
            step.insert(THINGS, name="c", state="new", body=b"x" * 20_000)
        assert "c" in things(records)
    finally:
        records.close()
