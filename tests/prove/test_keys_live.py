"""Two running nodes trade over HTTP while one of them rotates its keys, and then loses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.web.conftest import PRICE, new_node, shdr_log

from guantong.base import keychange
from guantong.base.clock import SystemClock
from guantong.describe.model import Dataset
from guantong.exchange import keyring
from guantong.exchange.keyring import FILE, load_keys, store_keys
from guantong.exchange.model import Product
from guantong.govern.model import Rights
from guantong.node import Node
from guantong.prove import rules
from guantong.records.tables import LEAVES
from guantong.verify import verify_package

Again = Callable[[str], Awaitable[Node]]


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[dict[str, Node]]:
    running = {name: await new_node(tmp_path / name, name) for name in ("supplier", "customer")}
    yield running
    for node in running.values():
        await node.stop()


async def again(nodes: dict[str, Node], name: str, change: Callable[[Path, str], Any]) -> Node:
    """Stop a node, change its keys as ``guantong keys`` does, start it again."""
    old = nodes[name]
    await old.stop()
    change(old.directory / FILE, old.participant)
    nodes[name] = await new_node(old.directory, name)
    assert nodes[name].participant == old.participant
    return nodes[name]


def rotate(path: Path, did: str) -> None:
    store_keys(path, keyring.rotated(load_keys(path), did, SystemClock().now(), overlap_s=86_400))


def lose(path: Path, did: str) -> None:
    path.unlink()
    store_keys(path, keyring.lost(path, did, SystemClock().now()))


async def agreed(supplier: Node, customer: Node, folder: Path) -> str:
    me, them = supplier.participant, customer.participant
    await supplier.connect.import_file(me, "mill", shdr_log(folder))
    await supplier.fuse.drain(me)
    await supplier.keep.flush(me)
    signals = tuple(one.id for one in await supplier.fuse.signals(me))
    await supplier.describe.define(me, Dataset("load", "Load", "负载", signals=signals))
    await supplier.govern.state_rights(
        me, Rights("load", me, me, me, "own production", "register", "2026-01-01T00:00:00Z")
    )
    policy = {"permission": [{"action": "use"}]}
    await supplier.exchange.offer(me, Product("load", "load", policy, "Load", "负载", "Within 30 days.", PRICE))
    address = supplier.address + "/dsp/2025-1"
    catalogue = await customer.exchange.catalogue(them, address, me)
    pid = await customer.exchange.negotiate(them, address, me, catalogue.offers[0])
    talk = await customer.exchange.wait_negotiation(them, pid)
    assert talk.state == "FINALIZED", talk
    return str(talk.agreement_id)


async def delivered(customer: Node, agreement: str, count: int) -> list[str]:
    await customer.receive(agreement, purpose="inspection")
    async with asyncio.timeout(20):
        while len(found := await customer.exchange.wait_receipts(customer.participant, agreement)) < count:
            await asyncio.sleep(0.05)
    return [one.state for one in found]


async def kinds(node: Node) -> list[str]:
    rows = await node.records.rows(LEAVES.select().where(LEAVES.c.participant == node.participant))
    return [str(json.loads(row["leaf"])["kind"]) for row in rows]


async def test_trade_goes_on_over_a_rotation_and_after_a_loss_only_once_the_partner_has_confirmed(
    nodes: dict[str, Node], tmp_path: Path
) -> None:
    supplier, customer = nodes["supplier"], nodes["customer"]
    me, them = supplier.participant, customer.participant
    agreement = await agreed(supplier, customer, tmp_path)
    first = await delivered(customer, agreement, 1)
    await supplier.prove.witnessed(me, 1)
    trust_of_before = rules.parse_trust(await customer.trust())
    before = (await supplier.prove.package(me, agreement, tmp_path / "before")).path.read_bytes()
    old = supplier.keys.evidence.public

    supplier = await again(nodes, "supplier", rotate)
    second = await delivered(customer, agreement, 2)
    head = await supplier.prove.catch_up(me)
    assert head is not None
    await supplier.prove.witnessed(me, head.size)
    after = (await supplier.prove.package(me, agreement, tmp_path / "after")).path.read_bytes()
    invoice = await supplier.settle.invoice(me, agreement)
    trust = rules.parse_trust(await customer.trust())

    assert (first, second) == (["acknowledged"], ["acknowledged", "acknowledged"])
    assert supplier.keys.evidence.public != old
    peer = next(one for one in customer.prove.peers(them) if one.did == me)
    peer = await customer.prove.key_changes.follow(them, peer)  # by itself once the old key's overlap has ended
    assert (peer.evidence_key, old) == (supplier.keys.evidence.public, keychange.parse(supplier.keys.changes[0]).old)
    assert "prove.partner-key-changed" in await kinds(customer)
    for data in (before, after):
        for known in (trust_of_before, trust):
            report = verify_package(data, known)
            assert report.verdict == "ok", report.text()
    assert invoice.state in ("issued", "agreed")

    supplier = await again(nodes, "supplier", lose)
    assert await customer.prove.key_changes.follow(them, peer) == peer, "nobody has confirmed the new key yet"
    (document,) = [one for one in supplier.keys.changes if one["reason"] == "lost"]
    change = keychange.parse(document)
    confirmed = {
        **document,
        "confirmations": [keychange.confirmation(change, them, customer.keys.evidence, customer.clock.now())],
    }

    def confirm(path: Path, _: str) -> None:
        from dataclasses import replace

        keys = load_keys(path)
        store_keys(path, replace(keys, changes=(*keys.changes[:-1], confirmed)))

    supplier = await again(nodes, "supplier", confirm)
    found = await customer.prove.key_changes.follow(them, peer)
    third = await delivered(customer, agreement, 3)

    assert found.evidence_key == supplier.keys.evidence.public == change.new
    assert third == ["acknowledged"] * 3
    assert (await kinds(supplier)).count("prove.key-lost") == 1
    final = rules.parse_trust(await customer.trust())
    for data in (before, after):  # what a witness saw before the loss still counts
        report = verify_package(data, final)
        assert report.verdict == "ok", report.text()
