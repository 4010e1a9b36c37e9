"""A data directory of the version before: it opens whole, nothing of it changes its meaning, and there is a way back."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.node.goods import batch

from guantong.base.merkle import verify_consistency
from guantong.config import load
from guantong.keep.backup import restore
from guantong.keep.doctor import check
from guantong.node import Node
from guantong.records import schema

FIXTURE = Path(__file__).parent / "previous" / "node-0001.tar.gz"
ROOT = "15692019c7884b19f05ca6ebe1f6d3adb73ee25441c739cda1a45bc430a3f6c9"
"""Of the evidence log as the version before left it (PROVENANCE.md)."""
SECRET = "five words drawn by lot"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "previous"


def node_in(directory: Path) -> Node:
    return Node(load({"node.directory": directory, "web.port": 0, "keep.query-idle-s": 0.0}, environment={}))


def version(directory: Path) -> str:
    connection = sqlite3.connect(directory / "records.db")
    try:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    finally:
        connection.close()


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


async def held(node: Node) -> dict[str, Any]:
    me = node.participant
    counts = await node.fuse.counts(me)
    rows = await node.keep.range(me, None, None, None)
    return {
        "participant": me,
        "signals": [(one.id, one.source, one.native_id) for one in await node.fuse.signals(me)],
        "kept": counts.kept,
        "sequences": rows["sequence"].to_pylist(),
        "datasets": [one.id for one in await node.describe.datasets(me)],
        "products": [one.id for one in await node.exchange.products(me)],
    }


async def test_the_whole_directory_of_the_version_before_opens_and_the_node_goes_on(previous: Path) -> None:
    before = version(previous)
    node = node_in(previous)
    await node.start(alone=True)
    try:
        me = node.participant
        found = await held(node)
        await node.prove.catch_up(me)
        grown = await node.prove.checkpoint(me)
        assert grown is not None
        proof = await node.prove.consistency(me, 5, grown.size)
        await node.keep.take(me, batch(110, 20))  # ten of them are known
        await node.fuse.drain(me)
        after = await held(node)
    finally:
        await node.stop()

    assert (before, version(previous)) == ("0001", schema.HEAD)
    assert found["participant"] == "did:web:127.0.0.1%3A45443"
    assert found["sequences"] == list(range(120))
    assert found["kept"] == 120
    assert (found["datasets"], found["products"]) == (["spindle"], ["product"])
    assert after["sequences"] == list(range(130))
    assert verify_consistency(5, bytes.fromhex(ROOT), grown.size, grown.root, proof), (
        "the old log is no beginning of ours"
    )
    assert check(previous) == []


async def test_the_way_back_is_the_back_up_made_before_which_is_never_touched(previous: Path, tmp_path: Path) -> None:
    """What an administrator does: a copy of the stopped node's directory, the new version, and back to the copy."""
    copy = tmp_path / "before"
    shutil.copytree(previous, copy)
    as_it_was = digests(copy)
    node = node_in(previous)
    await node.start(alone=True)
    out = tmp_path / "after.backup"
    await node.backup(out, SECRET)
    await node.stop()
    restore(out, SECRET, tmp_path / "again")

    assert digests(copy) == as_it_was  # the version before opens these bytes: they are its own
    assert version(copy) == "0001"
    assert version(tmp_path / "again") == schema.HEAD
    assert check(tmp_path / "again") == []


def test_the_version_before_refuses_what_this_one_has_migrated(previous: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares the number of the schema with those that it knows, and says which it found: no half-understood records."""
    import sqlalchemy as sa

    from guantong.base.errors import ConfigProblem

    engine = sa.create_engine(f"sqlite:///{previous / 'records.db'}")
    with engine.begin() as connection:
        schema.migrate(connection)
    monkeypatch.setattr(schema, "HEAD", "0001")
    monkeypatch.setattr(schema, "_KNOWN", ("0001",))
    with engine.begin() as connection, pytest.raises(ConfigProblem) as refused:
        schema.migrate(connection)
    engine.dispose()

    assert refused.value.code == "records.newer"
