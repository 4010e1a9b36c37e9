"""Tables of other systems, on SQLite and on PostgreSQL: new rows once, changed schemas on record, nothing written."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from connect_peers import QUICK, SUPPLIER, ListSink, until

from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem
from guantong.connect.model import Interface
from guantong.connect.secrets import Secrets
from guantong.connect.service import Connect
from guantong.connect.sql import VIEWS, look


@pytest.fixture(scope="session")
def postgres() -> Any:
    """URL of a PostgreSQL of this session's own; skips by name where there is none."""
    found = shutil.which("initdb") or next(
        iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None
    )
    if found is None:
        pytest.skip("postgres: initdb was not found on this machine")
    programs = Path(found).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="gt-sql-"))
    run: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        run = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [*run, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-N"],
        check=True,
        capture_output=True,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run(
        [*run, str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"],
        check=True,
        capture_output=True,
    )
    yield f"postgresql+psycopg://127.0.0.1:{port}/postgres"
    subprocess.run(
        [*run, str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def system(request: Any, tmp_path: Path) -> Any:
    """The other system: its URL, and a function that runs SQL in it."""
    if request.param == "sqlite":
        base, writer = f"sqlite:///{tmp_path}/erp.db", f"sqlite:///{tmp_path}/erp.db"
    else:
        base = request.getfixturevalue("postgres")
        writer = base.replace("://", "://postgres@")
    engine = sa.create_engine(writer)

    def run(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    run("DROP TABLE IF EXISTS orders")
    run(
        "CREATE TABLE orders (order_id INTEGER PRIMARY KEY, part VARCHAR(20), quantity INTEGER, price NUMERIC(10,2), due_at TIMESTAMP,"
        " state VARCHAR(10), changed_at TIMESTAMP)"
    )
    yield base, run
    engine.dispose()


@pytest.fixture
async def stage(memory: Any, sink: ListSink, tmp_path: Path, system: Any) -> Any:
    secrets = Secrets(tmp_path / "secrets.toml")
    if system[0].startswith("postgresql"):
        secrets.keep(system[0], user="postgres")
    made = Connect(memory, sink, SystemClock(), None, replace(QUICK), secrets=secrets)  # type: ignore[arg-type]
    await made.start()
    yield made
    await made.stop()


def erp(base: str, **terms: str) -> Interface:
    return Interface("erp", "sql", base, terms=tuple(sorted({"table": "orders", "interval_ms": "30", **terms}.items())))


def insert(number: int, at: str, part: str = "box", price: str = "19.90") -> str:
    return (
        f"INSERT INTO orders VALUES ({number}, '{part}', {number * 10}, {price}, '2026-12-01 00:00:00', 'open', '{at}')"
    )


def rows(sink: ListSink) -> list[dict[str, Any]]:
    return [row for batch in sink.batches if batch.kind == "table" for row in batch.rows.to_pylist()]


async def test_new_rows_are_read_once_by_key_and_reading_goes_on_after_a_restart(stage, sink, system, memory):
    base, run = system
    run(*(insert(n, f"2026-11-24 08:00:0{n}") for n in range(5)))
    await stage.add(SUPPLIER, erp(base, key="order_id", limit="2"))
    await until(lambda: len(rows(sink)) == 5, 20)
    await stage.pause(SUPPLIER, "erp")
    run(insert(7, "2026-11-24 09:00:00"))
    await stage.resume(SUPPLIER, "erp")
    await until(lambda: len(rows(sink)) == 6)

    assert [row["order_id"] for row in rows(sink)] == [0, 1, 2, 3, 4, 7]
    assert str(rows(sink)[0]["price"]) == "19.90"  # digits, not a float
    assert {batch.note["table"] for batch in sink.batches if batch.kind == "table"} == {"orders"}


async def test_rows_that_come_late_with_the_newest_instant_are_not_lost_and_not_repeated(stage, sink, system):
    base, run = system
    run(insert(1, "2026-11-24 08:00:00"))
    await stage.add(SUPPLIER, erp(base, time="changed_at"))
    await until(lambda: len(rows(sink)) == 1, 20)
    run(insert(2, "2026-11-24 08:00:00"))
    await until(lambda: len(rows(sink)) == 2)
    run("UPDATE orders SET state = 'done', changed_at = '2026-11-24 10:00:00' WHERE order_id = 1")
    await until(lambda: len(rows(sink)) == 3)
    time.sleep(0.1)

    assert [(row["order_id"], row["state"]) for row in rows(sink)] == [(1, "open"), (2, "open"), (1, "done")]


async def test_a_changed_schema_is_on_record_and_the_new_column_is_read(stage, sink, system):
    base, run = system
    run(insert(1, "2026-11-24 08:00:00"))
    await stage.add(SUPPLIER, erp(base, key="order_id"))
    await until(lambda: len(rows(sink)) == 1, 20)
    run("ALTER TABLE orders ADD COLUMN customer VARCHAR(20)")
    await until(lambda: sink.noted("schema"))
    run("INSERT INTO orders (order_id, customer) VALUES (2, 'acme')")
    await until(lambda: len(rows(sink)) == 2)

    assert sink.noted("schema") == [{"table": "orders", "added": ["customer"], "removed": [], "changed": []}]
    assert rows(sink)[1]["customer"] == "acme"


@pytest.mark.parametrize("terms, gaps", [({"key": "order_id"}, 0), ({"time": "changed_at"}, 1)])
async def test_an_interruption_is_a_gap_where_rows_change_and_none_where_they_only_come(
    stage, sink, system, terms, gaps
):
    base, run = system
    run(insert(1, "2026-11-24 08:00:01"))
    await stage.add(SUPPLIER, erp(base, **terms))
    await until(lambda: len(rows(sink)) == 1)
    run("ALTER TABLE orders RENAME TO away")
    await until(lambda: stage.scorecards(SUPPLIER)[0].state == "lost")
    run("ALTER TABLE away RENAME TO orders", insert(2, "2026-11-24 08:00:02"))
    await until(lambda: len(rows(sink)) == 2)
    found = sink.noted("gaps")

    assert [row["order_id"] for row in rows(sink)] == [1, 2]
    assert [(gap["unit"], gap["reason"]) for gap in found] == [("time", "not polled")] * gaps
    lost = [one["at"] for one in sink.noted("connection") if one["event"] == "lost"]
    assert all(gap["start"] <= lost[0] < gap["end"] for gap in found)


async def test_a_probe_names_tables_and_says_which_documented_view_they_serve(system, tmp_path):
    base, _ = system
    secrets = Secrets(tmp_path / "secrets.toml")
    if base.startswith("postgresql"):
        secrets.keep(base, user="postgres")
    offers, facts = await look(base, secrets)

    assert [one.key for one in offers] == ["orders"]
    assert facts["serves"] == {"orders": "orders"}
    assert all("changed_at" in columns for columns in VIEWS.values())


async def test_what_can_not_be_read_is_refused_with_a_code(stage, system):
    base, _ = system
    for interface in (
        Interface("a", "sql", base),
        Interface("b", "sql", "no url", terms=(("table", "x"),)),
    ):
        with pytest.raises(ConfigProblem) as caught:
            await stage.add(SUPPLIER, interface)
        assert caught.value.code == "connect.address-unusable"
    await stage.add(SUPPLIER, erp(base, key="nothing"))
    await until(lambda: stage.scorecards(SUPPLIER)[0].last_error == "connect.address-unusable", 20)
