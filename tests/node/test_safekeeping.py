"""A node's back-up, restored: everything is there, and it goes on; exports stream and stop when the client leaves."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.keep.rows import T0, batch

from guantong.base.errors import ConfigProblem, GuantongError, Skippable
from guantong.config import load
from guantong.keep.backup import restore
from guantong.keep.doctor import check
from guantong.node import Node

SECRET = "five words drawn by lot"


def made(directory: Path, **given: Any) -> Node:
    return Node(load({"node.directory": directory, "web.port": 0, "keep.query-idle-s": 0.0, **given}, environment={}))


async def filled(node: Node, first: int, count: int) -> None:
    await node.keep.take(node.participant, batch(count, first=first))
    await node.fuse.drain(node.participant)


async def test_a_back_up_made_while_data_arrive_is_restored_whole_and_the_node_goes_on(tmp_path):
    node = made(tmp_path / "node")
    await node.start()
    me = node.participant
    await filled(node, 0, 200)
    await node.keep.flush(me)
    await filled(node, 200, 50)  # in the log and in memory only

    async def arrive() -> None:
        for number in range(20):
            await filled(node, 1000 + number * 10, 10)
            await asyncio.sleep(0.01)

    arriving = asyncio.ensure_future(arrive())
    await asyncio.sleep(0.05)
    out = tmp_path / "node.backup"
    facts = await node.backup(out, SECRET)
    await arriving
    await node.prove.catch_up(me)
    checkpoint = await node.prove.checkpoint(me)
    await node.stop()
    assert (out.stat().st_mode & 0o777, facts["participant"], facts["records_elsewhere"]) == (0o600, me, False)
    assert b"Xpos" not in out.read_bytes()

    there = tmp_path / "again"
    manifest = await asyncio.to_thread(restore, out, SECRET, there)
    assert manifest["participant"] == me
    assert await asyncio.to_thread(check, there) == []
    again = made(there)
    await again.start()
    try:
        await again.fuse.drain(me)
        found = await again.keep.range(me, None, None, None)
        counts = await again.fuse.counts(me)
        assert again.participant == me
        assert again.keys.evidence.public == node.keys.evidence.public
        sequences = found["sequence"].to_pylist()
        assert len(set(sequences)) == len(sequences)
        assert set(range(250)) <= set(sequences)
        assert counts.received == counts.kept + counts.duplicates + counts.quarantined
        assert counts.kept == found.num_rows
        await again.prove.catch_up(me)
        restored = await again.prove.checkpoint(me)
        assert restored is not None
        assert checkpoint is not None
        # the tree of the back-up is a beginning of the tree that partners have seen
        assert restored.size <= checkpoint.size or restored.size >= facts["files"]
        await filled(again, 5000, 10)
        await again.keep.flush(me)
        assert (await again.keep.range(me, None, None, None)).num_rows == found.num_rows + 10
    finally:
        await again.stop()


async def test_a_back_up_refuses_what_would_harm_it(tmp_path):
    node = made(tmp_path / "node")
    await node.start()
    try:
        with pytest.raises(Skippable) as short:
            await node.backup(tmp_path / "b", "short")
        with pytest.raises(ConfigProblem) as inside:
            await node.backup(tmp_path / "node" / "b", SECRET)
        await node.backup(tmp_path / "b", SECRET)
    finally:
        await node.stop()
    codes = []
    for passphrase, target in ((SECRET, tmp_path / "node"), ("another passphrase", tmp_path / "other")):
        with pytest.raises(GuantongError) as error:
            restore(tmp_path / "b", passphrase, target)
        codes.append(error.value.code)
    changed = bytearray((tmp_path / "b").read_bytes())
    changed[-1000] ^= 1
    (tmp_path / "c").write_bytes(changed)
    with pytest.raises(GuantongError) as tampered:
        restore(tmp_path / "c", SECRET, tmp_path / "other")

    assert (short.value.code, inside.value.code) == ("base.passphrase-short", "keep.backup-inside")
    assert codes == ["keep.restore-occupied", "base.passphrase-wrong"]
    assert tampered.value.code in ("base.vault-changed", "base.passphrase-wrong")
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob("*.restoring"))


async def asked(
    app: Any, path: str, cookie: str, *, leave_after: int | None = None, body: bytes = b"", method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """One request; ``leave_after``: the client hangs up after so many pieces."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": target, "raw_path": target.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"cookie", cookie.encode()), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0),
    }  # fmt: skip
    status, headers, content, pieces = 0, {}, bytearray(), 0
    gone = asyncio.Event()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, headers, pieces
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            content.extend(message.get("body", b""))
            pieces += 1
            if leave_after is not None and pieces >= leave_after:
                gone.set()
                await asyncio.sleep(3600)

    await app(scope, receive, send)
    return status, headers, bytes(content)


async def signed_in(node: Node) -> str:
    link = await node.sign_in_link()
    _, headers, _ = await asked(node.app, "/sign-in?" + link.partition("?")[2], "")
    return headers["set-cookie"].partition(";")[0]


async def test_exports_hold_the_rows_in_three_formats_for_a_signed_in_person_only(tmp_path):
    node = made(tmp_path / "node")
    await node.start()
    try:
        await filled(node, 0, 100)
        await node.keep.flush(node.participant)
        cookie = await signed_in(node)
        rows = await node.keep.range(node.participant, None, None, None)
        ids = "&".join(f"signal={one}" for one in set(rows["signal_id"].to_pylist()))
        status, headers, parquet = await asked(node.app, "/api/export/readings?format=parquet", cookie)
        assert (status, headers["content-disposition"]) == (200, 'attachment; filename="readings.parquet"')
        assert pq.read_table(io.BytesIO(parquet)).equals(rows)
        _, _, arrow = await asked(node.app, f"/api/export/readings?format=arrow&{ids}", cookie)
        with pa.ipc.open_stream(arrow) as reader:
            assert reader.read_all().equals(rows)
        _, _, text = await asked(node.app, "/api/export/readings?format=csv&to=2026-11-24T08:00:10Z", cookie)
        lines = text.decode().splitlines()
        assert len(lines) == 11
        assert lines[1].split(",")[1] == "2026-11-24T08:00:00.000000Z"
        _, _, empty = await asked(node.app, "/api/export/readings?format=parquet&to=2000-01-01T00:00:00Z", cookie)
        assert pq.read_table(io.BytesIO(empty)).num_rows == 0
        body = json.dumps({"statement": "SELECT count(*) AS n FROM readings"}).encode()
        status, _, answer = await asked(node.app, "/api/sql?format=csv", cookie, body=body, method="POST")
        assert (status, answer) == (200, b"n\r\n100\r\n")
        for path, given, expected in (
            ("/api/export/readings", "", 401),
            ("/api/export/readings?format=xlsx", cookie, 400),
            ("/api/export/readings?signal=x", cookie, 400),
            ("/api/export/none", cookie, 400),
        ):
            status, headers, problem = await asked(node.app, path, given)
            assert (status, headers["content-type"]) == (expected, "application/problem+json"), path
            assert json.loads(problem)["code"]
        status, _, _ = await asked(node.app, "/api/sql", cookie, body=b'{"statement": "ATTACH \'x\'"}', method="POST")
        assert status == 400
    finally:
        await node.stop()


async def test_an_export_stops_reading_when_the_client_hangs_up(tmp_path, monkeypatch):
    node = made(tmp_path / "node")
    await node.start()
    try:
        for day in range(6):
            await node.keep.take(node.participant, batch(5, first=day * 86_400))
        await node.fuse.drain(node.participant)
        await node.keep.flush(node.participant)
        cookie = await signed_in(node)
        asks = []
        await node.keep.stats(node.participant)
        reader = node.keep._reader
        assert reader is not None
        ask = reader.ask

        def counted(seen: Any, kind: str, *rest: Any, **more: Any) -> Any:
            asks.append(kind)
            return ask(seen, kind, *rest, **more)

        monkeypatch.setattr(reader, "ask", counted)
        async with asyncio.timeout(10):
            await asked(node.app, "/api/export/readings?format=arrow", cookie, leave_after=1)
        left = asks.count("select")
        await asyncio.sleep(0.2)

        assert asks.count("select") == left < 6
        assert (await node.keep.range(node.participant, None, T0, None)).num_rows == 30
    finally:
        await node.stop()
