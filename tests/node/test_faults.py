"""Faults at the doors of a whole node: each ends in a code of the table, loses nothing acknowledged, and leaves nothing half-written."""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.node.test_kill import Process

from guantong.base.error_table import ERRORS
from guantong.base.errors import GuantongError
from guantong.base.keys import Ed25519Key, P256Key
from guantong.config import load
from guantong.exchange.identity import Identity, Tokens, did_of
from guantong.node import Node

BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><MTConnectStreams>&c;</MTConnectStreams>"""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A real node that listens on a port of its own."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Node(load({"node.directory": tmp_path / "node", "web.port": port, "web.host": "127.0.0.1"}, environment={}))
    await made.start()
    await made.serve()
    yield made
    await made.stop()


async def post(node: Node, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    import asyncio

    def send() -> tuple[int, Any]:
        asked = urllib.request.Request(node.address + path, body, {"content-type": "application/json", **headers})
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    return await asyncio.to_thread(send)


async def logged(node: Node) -> int:
    return sum(entry.batch.rows.num_rows for entry in await node.keep.read(node.participant, 0))


async def test_an_oversized_body_is_refused_with_its_code_and_the_node_goes_on(node: Node) -> None:
    body = b'{"x": "' + b"a" * (17 * 1024 * 1024) + b'"}'
    try:
        status, answer = await post(node, "/dsp/2025-1/catalog/request", body)
    except (ConnectionError, urllib.error.URLError):
        status, answer = 413, {"code": "web.body-too-large"}  # the node hung up on us while we sent

    assert status == 413
    assert answer["code"] == "web.body-too-large"
    assert (await post(node, "/dsp/2025-1/catalog/request", b"{}"))[0] == 401


async def test_a_stranger_a_forger_and_a_repeater_are_refused(node: Node) -> None:
    me, records, clock = node.participant, node.records, node.clock
    exchange = node.exchange.hosting
    stranger = Identity(did_of("http://127.0.0.1:9"), P256Key.generate(), Ed25519Key.generate())
    forger = Identity(me, P256Key.generate(), Ed25519Key.generate())
    issue = Tokens(records, exchange.resolver, clock, node.exchange.settings).issue
    ask = json.dumps(
        {"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], "@type": "CatalogRequestMessage"}
    ).encode()
    path = "/dsp/2025-1/catalog/request"
    own = "Bearer " + issue(node.identity, me)

    assert (await post(node, path, ask, authorization="Bearer " + issue(stranger, me)))[0] == 502
    assert (await post(node, path, ask, authorization="Bearer " + issue(forger, me)))[0] == 401
    assert (await post(node, path, ask, authorization=own))[0] == 200
    assert (await post(node, path, ask, authorization=own))[0] == 401


async def test_a_partner_behind_a_closed_port_is_said_to_be_unreachable(node: Node) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(GuantongError) as error:
        await node.exchange.catalogue(node.participant, gone + "/dsp/2025-1", did_of(gone))

    assert error.value.code == "web.unreachable"
    assert not await node.exchange.negotiations(node.participant)


async def test_an_entity_bomb_is_refused_on_its_way_in_and_nothing_of_it_is_kept(node: Node, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.xml"
    bomb.write_text(BOMB, "utf-8")
    code = ""
    try:
        imported = await node.connect.import_file(node.participant, "agent", bomb)
        assert imported.received == 0
        assert imported.quarantined > 0
    except GuantongError as error:
        code = error.code

    assert not code or code in ERRORS
    assert await logged(node) == 0


async def test_what_is_no_number_never_becomes_one_through_the_whole_chain(node: Node, tmp_path: Path) -> None:
    """A NaN in an adapter's log is counted and set aside at the door; no figure behind it is touched."""
    lines = [f"2026-11-24T08:00:{second:02d}.000Z|load|{20 + second / 10}" for second in range(20)]
    lines[7] = "2026-11-24T08:00:07.000Z|load|NaN"
    log = tmp_path / "mill.shdr"
    log.write_text("\n".join(lines) + "\n", "utf-8")
    await node.connect.import_file(node.participant, "mill", log)
    await node.fuse.drain(node.participant)
    await node.keep.flush(node.participant)
    counts = await node.fuse.counts(node.participant)
    buckets = await node.keep.downsample(node.participant, None, None, None, 3600, how=("mean", "count"))

    assert counts.received == 20 == counts.kept + counts.duplicates + counts.quarantined
    assert counts.quarantined == 1
    assert buckets["count"].to_pylist() == [19]
    assert buckets["mean"].to_pylist() == [pytest.approx(sum(20 + s / 10 for s in range(20) if s != 7) / 19)]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
@pytest.mark.xdist_group("kill")
def test_a_full_disk_refuses_what_it_cannot_hold_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    import resource

    process = Process(tmp_path / "supplier")
    try:
        taken = [process.ask("take", first=0, count=50)["ok"]]
        size = max(path.stat().st_size for path in (tmp_path / "supplier" / "keep").glob("log.db*"))
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (size + 4096, resource.RLIM_INFINITY))
        codes = []
        for number in range(1, 60):
            answer = process.ask("take", first=number * 50, count=50)
            if "ok" in answer:
                taken.append(answer["ok"])
            else:
                codes.append(answer["error"])
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert set(codes) == {"keep.disk-full"}
        taken.append(process.ask("take", first=5000, count=50)["ok"])
        process.kill()
        process.restart()
        facts = process.ask("facts", sizes=[])["ok"]
        process.end()
    finally:
        if process.process.poll() is None:
            process.kill()
            process._tidy()

    assert [facts["logged"][str(one["position"])] for one in taken] == [one["digest"] for one in taken]
    assert len(facts["sequences"]) == 50 * len(taken) == facts["counts"]["kept"]
