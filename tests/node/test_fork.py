"""Acceptance of the evidence log among whole nodes: a company that shows two partners two histories is caught, shown, and proven so."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from guantong.base.fork import parse_fork
from guantong.base.note import parse_checkpoint, parse_note
from guantong.config import load
from guantong.govern.model import Rights
from guantong.node import Node
from guantong.prove.model import origin_of
from guantong.prove.rules import origin_hash


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def running(directory: Path, port: int, monitor_every_s: float = 0.0) -> AsyncIterator[Node]:
    """The node of a directory, serving; without rounds of its monitor unless an interval is given."""
    flags = {"node.directory": directory, "web.port": port, "web.host": "127.0.0.1"}
    node = Node(load({**flags, "prove.monitor-every-s": monitor_every_s}, environment={}))
    await node.start()
    try:
        await node.serve()
        yield node
    finally:
        await node.stop()


async def meet(node: Node, other: str) -> None:
    """What a node does when a contract with a partner is final: from then on they witness each other's logs."""
    address = await node.exchange.hosting.partner_extension(other)
    assert address is not None
    key = await node.settle.partners.partner_key(other)
    await node.prove.add_peer(node.participant, other, key, address)


async def record(node: Node, name: str, count: int) -> int:
    """Business as usual: so many statements of rights, each an entry of the log. Returns the log's size."""
    me = node.participant
    for number in range(count):
        await node.govern.state_rights(
            me, Rights(f"{name}-{number}", me, me, me, "own production", "asset register", "2026-01-01T00:00:00Z")
        )
    head = await node.prove.catch_up(me)
    assert head is not None
    return int(head.size)


async def until(ask: Callable[[], Awaitable[Any]], what: str) -> Any:
    for _ in range(200):
        found = await ask()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not happen in ten seconds")


async def fetch(address: str) -> bytes:
    def get() -> bytes:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return bytes(answer.read())

    return await asyncio.to_thread(get)


async def as_owner(node: Node, *paths: str) -> list[str]:
    """Pages as their owner's browser gets them: the one-time link, its cookie, the page."""
    link = await node.sign_in_link()

    def get() -> list[str]:
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        found = []
        for address in (link, *(node.address + path for path in paths)):
            with browser.open(address, timeout=10) as answer:
                found.append(answer.read().decode())
        return found[1:]

    return await asyncio.to_thread(get)


async def cosigned(witness: Node, did: str, size: int) -> bytes:
    """What a witness shows everybody of a log, once it has cosigned so many entries."""

    async def newest() -> bytes | None:
        note = await witness.prove.monitored(witness.participant, origin_hash(origin_of(did)))
        return note if note and parse_checkpoint(parse_note(note).text).size >= size else None

    await until(newest, f"a cosignature over {size} entries")
    return await fetch(f"{witness.address}/witness/{origin_hash(origin_of(did))}/checkpoint")


async def verify(*arguments: str) -> tuple[int, Any]:
    """The command, in a process of its own."""
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "guantong.cli", "verify", "--json", *arguments], capture_output=True, timeout=60
    )  # fmt: skip
    return run.returncode, json.loads(run.stdout)


@pytest.mark.timeout(120)
async def test_a_node_that_forks_its_log_is_caught_shown_and_the_proof_of_the_fork_verifies(tmp_path: Path) -> None:
    port, port_b, port_c = free_port(), free_port(), free_port()
    original, copy = tmp_path / "supplier", tmp_path / "copy"
    async with AsyncExitStack() as whole:
        auditor = await whole.enter_async_context(running(tmp_path / "auditor", port_c))
        witness = auditor.participant
        async with (
            running(original, port) as supplier,
            running(tmp_path / "customer", port_b, 0.2) as customer,
        ):
            did, partner = supplier.participant, customer.participant
            for node, others in ((supplier, (partner, witness)), (customer, (did, witness)), (auditor, (did,))):
                for other in others:
                    await meet(node, other)
            common = await record(supplier, "common", 5)
            await cosigned(customer, did, common)
            await cosigned(auditor, did, common)
            await asyncio.sleep(0.5)  # a few rounds of the monitor over an honest log
            assert (await customer.prove.view(partner)).alarms == ()
        shutil.copytree(original, copy)

        # the customer is shown one continuation, and the auditor another
        async with running(original, port) as supplier, running(tmp_path / "customer", port_b) as customer:
            assert supplier.participant == did
            await supplier.prove.remove_peer(did, witness)
            ours = await record(supplier, "shown", 12)
            await cosigned(customer, did, ours)
            assert (await customer.prove.view(partner)).alarms == ()
        async with running(copy, port) as twin:
            assert twin.participant == did
            await twin.prove.remove_peer(did, partner)
            theirs = await record(twin, "hidden", 3)
            note = await cosigned(auditor, did, theirs)
        seen = parse_checkpoint(parse_note(note).text).size
        assert common < theirs <= seen < ours

        # the supplier shows the customer's history again; the customer's monitor asks the witness what it saw
        async with running(original, port), running(tmp_path / "customer", port_b, 0.2) as customer:

            async def forked() -> list[Any]:
                return [one for one in (await customer.prove.view(partner)).alarms if one.kind == "forked"]

            (alarm,) = await until(forked, "the alarm")
            twin_page, html = await as_owner(customer, "/api/evidence", "/evidence")
            trust, outsider = await customer.trust(), await auditor.trust()

    (shown,) = [one for one in json.loads(twin_page)["alarms"] if one["kind"] == "forked"]
    assert (shown["did"], shown["own"], shown["over"]) == (did, False, False)
    assert (shown["facts"]["shownBy"], shown["facts"]["second"]) == (witness, ours)
    assert shown["proof"].encode() == alarm.proof
    assert did in html
    assert "guantong verify --trust KEYS fork.json" in html
    fork = parse_fork(alarm.proof)
    assert [parse_checkpoint(parse_note(one).text).size for one in (fork.first, fork.second)] == [seen, ours]

    proof, keys, other, empty = (tmp_path / name for name in ("fork.json", "keys", "other", "nobody"))
    proof.write_bytes(shown["proof"].encode())
    keys.write_text(trust, encoding="utf-8")
    other.write_text(outsider, encoding="utf-8")
    empty.write_text("quorum none\n", encoding="utf-8")
    for trusted in (keys, other):  # by the customer's keys as by those of anybody who knows the supplier's
        code, report = await verify("--trust", str(trusted), str(proof))
        assert (code, report["verdict"], report["kind"]) == (0, "ok", "fork")
        assert report["maker"] == origin_of(did)
        assert "signed two histories" in report["proven"][0]["en"]
    assert (await verify("--trust", str(empty), str(proof)))[0] == 1
    bent = json.loads(proof.read_text())
    bent["second"] = bent["first"]
    proof.write_text(json.dumps(bent, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    assert (await verify("--trust", str(keys), str(proof)))[0] == 1
