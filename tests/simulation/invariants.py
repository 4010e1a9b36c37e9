"""What must be true when a run is over, whatever happened in it. Everything is compared with what the people were told, or computed anew."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select
from tests.simulation.journey import DATASET, PURPOSE, Story

from guantong.base.canonical import digest
from guantong.base.merkle import Frontier, leaf_hash
from guantong.exchange.rules import verify_receipt
from guantong.records.tables import LEAVES, OUTBOX

if TYPE_CHECKING:
    from tests.simulation.world import World

    from guantong.node import Node

__all__ = ["check"]

_CHECKPOINT = re.compile(rb"(?m)^(\S+)\n(\d+)\n([A-Za-z0-9+/=]{44})\n\n")


async def check(world: World, story: Story) -> dict[str, int]:
    """All of it. Raises AssertionError; returns figures of the run."""
    nodes = [company.node for company in world.companies]
    supplier, customer = nodes
    assert supplier is not None
    assert customer is not None
    for company, node in zip(world.companies, (supplier, customer), strict=True):
        await _files_are_whole(company, node)
        await _records_agree(node)
        await _log_is_one(world, node)
        await _account_is_even(node)
    await _acknowledged_batches_are_there(supplier, story)
    await _described_and_offered(supplier, story)
    await _processes_agree(supplier, customer, story)
    await _receipts_agree(supplier, customer, story)
    await _invoices_agree(supplier, customer, story)
    figures = await _rows_arrived(supplier, customer, story)
    for node in (supplier, customer):
        leaves = await node.records.rows(select(LEAVES.c.leaf).order_by(LEAVES.c.number))
        world.trace("leaves", len(leaves), hashlib.sha256(b"".join(row["leaf"] for row in leaves)).hexdigest())
    return figures


async def _files_are_whole(company: Any, node: Node) -> None:
    """SQLite finds its files sound; every data file that a table names can be read; no draft lies about as if it were something."""
    for path in sorted(company.directory.rglob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",), path.name
    stats = await node.keep.stats(node.participant)
    assert not stats.error
    for kind in ("readings", "measurements"):
        rows = 0
        async for batch in node.keep.scan(node.participant, kind, durable=True):
            batch.validate(full=True)
            rows += batch.num_rows
        assert rows == (stats.rows - stats.revisions if kind == "readings" else stats.measurements)
    await node.prove.audit(node.participant)


async def _records_agree(node: Node) -> None:
    """State, outbox and leaf of a step are there together or not at all; nothing waits or was given up."""
    waiting = await node.records.rows(select(OUTBOX).where(OUTBOX.c.state != "sent"))
    assert not waiting, [(row["kind"], row["state"], row["error"]) for row in waiting]
    leaves = await node.records.rows(select(LEAVES).order_by(LEAVES.c.number))
    assert [row["number"] for row in leaves] == list(range(len(leaves)))
    recorded = {
        body["recordHash"]: body["state"]
        for row in leaves
        if row["kind"] == "exchange.usage-recorded"
        for body in [orjson.loads(row["leaf"])["body"]]
    }
    held = [
        receipt
        for agreement in await node.exchange.agreements(node.participant)
        for receipt in await node.exchange.receipts(node.participant, agreement.id)
    ]
    assert sorted(recorded) == sorted(digest(dict(receipt.record)) for receipt in held)
    for kind, processes in (
        ("exchange.negotiation-moved", await node.exchange.negotiations(node.participant)),
        ("exchange.transfer-moved", await node.exchange.transfers(node.participant)),
    ):
        moved = {}
        for row in leaves:
            if row["kind"] == kind:
                body = orjson.loads(row["leaf"])["body"]
                moved[body["pid"]] = body["state"]
        assert moved == {process.pid: process.state for process in processes}
    made = [
        (body["agreement"], body["agreementHash"])
        for row in leaves
        if row["kind"] == "exchange.agreement-made"
        for body in [orjson.loads(row["leaf"])["body"]]
    ]
    agreements = await node.exchange.agreements(node.participant)
    texts: dict[str, list[str]] = {}
    for identifier, text in made:
        texts.setdefault(identifier, []).append(text)
    assert {name: found[-1] for name, found in texts.items()} == {one.id: one.agreement_hash for one in agreements}
    for one in agreements:
        amended = await node.exchange.amendments.all(node.participant, one.id)
        assert len(texts[one.id]) == 1 + sum(item.state == "accepted" for item in amended)
        assert await node.exchange.amendments.verify(node.participant, one.id) == ()


async def _log_is_one(world: World, node: Node) -> None:
    """Every checkpoint that ever left the node is a beginning of the log as it is now."""
    leaves = [row["leaf"] for row in await node.records.rows(select(LEAVES).order_by(LEAVES.c.number))]
    roots: dict[int, bytes] = {}
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf_hash(bytes(leaf)))
        roots[tree.size] = tree.root()
    head = await node.prove.checkpoint(node.participant)
    assert head is not None
    assert head.size == len(leaves), "the log has not caught up with the records"
    from guantong.base.canonical import unb64
    from guantong.prove.model import origin_of

    origin = origin_of(node.participant).encode()
    published = {
        (int(size), unb64(root.decode()))
        for _, _, body in world.network.seen
        for name, size, root in _CHECKPOINT.findall(body)
        if name == origin
    }
    for size, root in published:
        assert roots.get(size) == root, f"a checkpoint of {size} leaves that was published is none of this log"


async def _account_is_even(node: Node) -> None:
    """Received is kept, duplicates and quarantined; received is what the log was given."""
    counts = await node.fuse.counts(node.participant)
    assert counts.received == counts.kept + counts.duplicates + counts.quarantined
    logged = await _logged(node)
    given = sum(entry.batch.rows.num_rows + len(entry.batch.note.get("quarantined", ())) for entry in logged)
    assert counts.received == given
    stats = await node.keep.stats(node.participant)
    assert counts.kept == stats.rows + stats.measurements - counts.corrected, (counts, stats)


async def _logged(node: Node) -> list[Any]:
    found: list[Any] = []
    while entries := await node.keep.read(node.participant, found[-1].position if found else 0):
        found += entries
    return found


async def _acknowledged_batches_are_there(node: Node, story: Story) -> None:
    """Each batch lies in the log at the position that its source was told, and its readings are in the table."""
    logged = {entry.position: entry.batch for entry in await _logged(node)}
    for position, number in story.acknowledged:
        assert logged[position].rows.equals(story.batches[number].rows), f"batch {number} at {position}"
    assert len(story.acknowledged) == len(story.batches)
    table = await node.keep.range(node.participant, None, None, None, durable=True)
    kept = sorted(table["sequence"].to_pylist())
    given = {
        number for batch in story.batches if batch.kind == "readings" for number in batch.rows["sequence"].to_pylist()
    }
    assert kept == sorted(given), "every reading once"


async def _described_and_offered(node: Node, story: Story) -> None:
    assert [dataset.id for dataset in await node.describe.datasets(node.participant)] == [DATASET]
    assert await node.govern.rights(node.participant, DATASET) is not None
    assert [product.dataset_id for product in await node.exchange.products(node.participant)] == [DATASET]


async def _processes_agree(supplier: Node, customer: Node, story: Story) -> None:
    """Both sides see each negotiation and each transfer alike, and every one that a person was told of exists."""
    for read in ("negotiations", "transfers"):
        theirs = {item.pid: item for item in await getattr(supplier.exchange, read)(supplier.participant)}
        ours = await getattr(customer.exchange, read)(customer.participant)
        for item in ours:
            other = theirs.pop(item.partner_pid, None)
            assert other is not None, f"{read}: {item.state} at the customer, unknown at the supplier"
            assert (other.state, other.agreement_id) == (item.state, item.agreement_id), (read, item.state, other.state)
            assert other.partner_pid == item.pid
            assert item.state in ("FINALIZED", "STARTED", "COMPLETED", "TERMINATED"), (read, item.state)
        assert not theirs, f"{read}: unknown at the customer"
    known = {item.pid: item.state for item in await customer.exchange.negotiations(customer.participant)}
    for pid in story.negotiated:
        assert pid in known, "a negotiation that a person was told of is gone"
    both = [
        {one.id: one.agreement_hash for one in await node.exchange.agreements(node.participant)}
        for node in (supplier, customer)
    ]
    assert both[0] == both[1], "the agreement was amended on one side only"
    transfers = {item.pid for item in await customer.exchange.transfers(customer.participant)}
    assert {done["pid"] for done in story.delivered} <= transfers


async def _receipts_agree(supplier: Node, customer: Node, story: Story) -> None:
    """Both sides hold the same receipts, each verifies, and the rows that arrived are the rows receipted."""
    theirs = await supplier.exchange.receipts(supplier.participant, story.agreement)
    ours = await customer.exchange.receipts(customer.participant, story.agreement)

    def said(receipts: list[Any]) -> list[Any]:
        return sorted((r.record_id, r.state, r.signature, digest(dict(r.countersignature))) for r in receipts)

    assert said(theirs) == said(ours)
    for receipt in ours:
        problems = verify_receipt(
            dict(receipt.record),
            receipt.signature,
            dict(receipt.countersignature),
            supplier.keys.evidence.public,
            customer.keys.evidence.public,
        )
        assert not problems, problems
    entries = await _logged(customer)
    for done in story.delivered:
        receipted = [r for r in ours if r.transfer_pid == done["pid"] and r.state == "acknowledged"]
        logged = sum(e.batch.rows.num_rows for e in entries if e.batch.note["file"] == f"delivery:{done['pid']}")
        assert [r.record["rows"] for r in receipted] == [done["rows"]] == [logged]
        assert receipted[0].record["purpose"] == PURPOSE


async def _invoices_agree(supplier: Node, customer: Node, story: Story) -> None:
    """The newest invoice is agreed, alike to the last byte, signed by both; and every number that was given out exists."""
    theirs = await supplier.settle.invoices(supplier.participant, story.agreement)
    ours = await customer.settle.invoices(customer.participant, story.agreement)
    mine = [one for one in theirs if one.state != "replaced"]
    yours = [one for one in ours if one.state != "replaced"]
    assert [one.state for one in mine] == [one.state for one in yours] == ["agreed"]
    assert mine[0].document == yours[0].document
    assert {sign["by"] for sign in mine[0].signatures} == {supplier.participant, customer.participant}
    numbers = {one.number for one in theirs}
    assert set(story.invoiced) <= numbers


async def _rows_arrived(supplier: Node, customer: Node, story: Story) -> dict[str, int]:
    """The customer has what the last delivery held, and nothing that the supplier has not."""
    sent = await supplier.keep.range(supplier.participant, None, None, None)
    got = await customer.keep.range(customer.participant, None, None, None, durable=True)
    assert set(got["value_f64"].to_pylist()) <= set(sent["value_f64"].to_pylist())
    assert got.num_rows == len(set(got["value_f64"].to_pylist())) >= story.delivered[-1]["rows"]
    return {
        "rows": sent.num_rows,
        "arrived": got.num_rows,
        "deliveries": len(story.delivered),
    }
