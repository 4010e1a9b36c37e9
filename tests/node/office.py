"""A whole node in a process of its own, for tests that kill it: commands as JSON lines in, answers as JSON lines out.

``python -m tests.node.office DIRECTORY PORT``. It uses the node as the product does: real files, real sockets, real clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from guantong.base.errors import GuantongError, Retryable
from guantong.config import load
from guantong.node import Node, run_async

__all__ = ["Office", "rows_digest"]

DATASET, PURPOSE = "spindle", "incoming inspection"


def rows_digest(rows: Any) -> str:
    """What tells one batch from another: every value of every column."""
    import pyarrow as pa

    columns = [
        (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in rows.columns
    ]
    return hashlib.sha256(repr((rows.schema.names, columns)).encode()).hexdigest()


class Office:
    """What people ask of the node, by name; each answer is plain JSON."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.me = node.participant

    async def take(self, first: int, count: int) -> dict[str, Any]:
        """Readings ``first`` and following in one batch; answered when they are durable."""
        from tests.node.goods import batch

        one = batch(first, count)
        return {"position": await self.node.keep.take(self.me, one), "digest": rows_digest(one.rows)}

    async def fuse(self) -> dict[str, Any]:
        """Everything logged into the tables."""
        await self.node.fuse.drain(self.me)
        await self.node.keep.flush(self.me)
        return {}

    async def offer(self, partner: str) -> dict[str, Any]:
        """Describe, state the rights, offer to the partner."""
        from tests.node.goods import describe_and_offer

        return {"offer": await describe_and_offer(self.node, partner)}

    async def negotiate(self, address: str, partner: str) -> dict[str, Any]:
        """Ask for a contract on the partner's dataset."""
        base = address + "/dsp/2025-1"
        catalogue = await self.node.exchange.catalogue(self.me, base, partner)
        offer = next(item for item in catalogue.offers if item.dataset_id == DATASET)
        return {"pid": await self.node.exchange.negotiate(self.me, base, partner, offer)}

    async def agree(self, pid: str) -> dict[str, Any]:
        """Wait until the negotiation is over."""
        done = await self.node.exchange.wait_negotiation(self.me, pid, timeout_s=10)
        return {"state": done.state, "agreement": done.agreement_id}

    async def receive(self, agreement: str) -> dict[str, Any]:
        """Have the data delivered."""
        return await self.node.receive(agreement, purpose=PURPOSE)

    async def complete(self, agreement: str) -> dict[str, Any]:
        """Nothing more will be asked under an agreement."""
        for transfer in await self.node.exchange.transfers(self.me):
            if transfer.agreement_id == agreement and transfer.state == "STARTED":
                await self.node.exchange.decide_transfer(self.me, transfer.pid, "complete")
        return {}

    async def receipts(self, agreement: str) -> dict[str, Any]:
        """Wait for an answered receipt."""
        found = await self.node.exchange.wait_receipts(self.me, agreement, timeout_s=10)
        return {"states": [item.state for item in found]}

    async def invoice(self, agreement: str) -> dict[str, Any]:
        """Issue the invoice, or say what it is."""
        found = await self.node.settle.invoice(self.me, agreement)
        return {"number": found.number, "total": found.total, "state": found.state}

    async def settled(self) -> dict[str, Any]:
        """Wait until nothing is on its way out and the log has caught up."""
        try:
            await asyncio.wait_for(self.node.outbox.drained(), 3)
        except TimeoutError:
            # the partner may be dead just now: say so, that whoever waits brings it back and asks again
            raise Retryable("exchange.wait-ended", pid="outbox", wanted="drained", state="waiting") from None
        await self.node.prove.catch_up(self.me)
        return {}

    async def _evidence_key(self, did: str) -> bytes:
        from guantong.base.canonical import unb64url
        from guantong.exchange.identity import public_key_of

        jwk = public_key_of(await self.node.exchange.hosting.resolver.document(did), "#evidence")
        assert jwk is not None
        return unb64url(str(jwk["x"]))

    async def facts(self, sizes: list[int]) -> dict[str, Any]:
        """All that the ledger is compared with. Raises where log, records, tables or evidence can't be read whole."""
        from sqlalchemy import select, text

        from guantong.base.merkle import Frontier, leaf_hash
        from guantong.exchange.rules import verify_receipt
        from guantong.records.tables import LEAVES, OUTBOX

        node, me = self.node, self.me
        sound = await node.records.rows(text("PRAGMA quick_check"))
        assert [list(row.values()) for row in sound] == [["ok"]]
        logged: dict[int, str] = {}
        deliveries: dict[str, int] = {}
        position, given = 0, 0
        while entries := await node.keep.read(me, position):
            position = entries[-1].position
            for entry in entries:
                logged[entry.position] = rows_digest(entry.batch.rows)
                given += entry.batch.rows.num_rows
                file = str(entry.batch.note.get("file", ""))
                deliveries[file] = deliveries.get(file, 0) + entry.batch.rows.num_rows
        await self.fuse()
        table = await node.keep.range(me, None, None, None, durable=True)
        table.validate(full=True)
        counts = await node.fuse.counts(me)
        assert counts.received == counts.kept + counts.duplicates + counts.quarantined == given
        await self.settled()
        assert await node.prove.audit(me) > 0
        leaves = await node.records.rows(select(LEAVES.c.number, LEAVES.c.leaf).order_by(LEAVES.c.number))
        assert [row["number"] for row in leaves] == list(range(len(leaves)))
        tree, roots = Frontier(), {}
        for row in leaves:
            tree.append(leaf_hash(bytes(row["leaf"])))
            if tree.size in sizes:
                roots[tree.size] = tree.root().hex()
        receipts, problems = [], []
        for agreement in await node.exchange.agreements(me):
            for item in await node.exchange.receipts(me, agreement.id):
                receipts.append([item.record_id, item.state, item.transfer_pid, item.record["rows"]])
                provider, consumer = [
                    node.keys.evidence.public if did == me else await self._evidence_key(did)
                    for did in (str(item.record["provider"]), str(item.record["consumer"]))
                ]
                problems += verify_receipt(
                    dict(item.record), item.signature, dict(item.countersignature) or None, provider, consumer
                )
        waiting = await node.records.rows(select(OUTBOX.c.kind, OUTBOX.c.error).where(OUTBOX.c.state == "gave-up"))
        return {
            "logged": logged,
            "deliveries": deliveries,
            "sequences": sorted(table["sequence"].to_pylist()),
            "counts": {"received": counts.received, "kept": counts.kept},
            "leaves": len(leaves),
            "roots": roots,
            "negotiations": {n.pid: [n.partner_pid, n.state] for n in await node.exchange.negotiations(me)},
            "transfers": {t.pid: [t.partner_pid, t.state] for t in await node.exchange.transfers(me)},
            "receipts": sorted(receipts),
            "problems": problems,
            "invoices": sorted([i.agreement_id, i.number, i.total, i.state] for i in await node.settle.invoices(me)),
            "gave_up": [dict(row) for row in waiting],
        }


async def main(directory: str, port: str) -> None:
    """Serve until the input ends."""
    # a partner is killed every few seconds here: a message that has failed often must not wait out half a minute after it is back
    flags = {"web.port": int(port), "web.host": "127.0.0.1", "outbox.longest-backoff-s": 1.0}
    config = load({"node.directory": Path(directory), **flags}, environment={})
    node = Node(config)
    await node.start()
    await node.serve()
    office = Office(node)
    _say({"ready": node.address, "did": node.participant})
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    import threading

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        command = json.loads(line)
        step: Callable[..., Awaitable[dict[str, Any]]] = getattr(office, command["do"])
        try:
            _say({"ok": await step(**command["with"])})
        except GuantongError as error:
            _say({"error": error.code, "text": str(error)})
        except Exception as error:
            import traceback

            _say({"broken": repr(error), "text": traceback.format_exc()})
    await node.stop()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run_async(main(*sys.argv[1:3]))
