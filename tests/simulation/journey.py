"""What the people of both companies do in one run: readings in, described, governed, offered; bought, delivered, acknowledged, invoiced."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from tests.simulation.loop import START

from guantong.base.batch import Batch, measurement_schema, reading_schema
from guantong.base.clock import NS
from guantong.base.errors import Retryable

if TYPE_CHECKING:
    from tests.simulation.world import World

    from guantong.node import Node

__all__ = ["DATASET", "Story", "journey"]

DATASET, SOURCE, PURPOSE = "spindle", "mill", "incoming inspection"
SIGNALS = ("load", "speed", "temperature")
PRICE = {"currency": "CNY", "charges": [{"per": "row", "price": "0.02"}, {"per": "transfer", "price": "5.00"}]}


@dataclass(slots=True)
class Story:
    """What the people were told, to be compared with what is true at the end."""

    batches: list[Batch]
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """(log position, batch): told to the machine, which then forgets the batch."""
    defined: bool = False
    negotiated: list[str] = field(default_factory=list)
    agreement: str = ""
    delivered: list[dict[str, Any]] = field(default_factory=list)
    """What the customer's ``receive`` returned."""
    invoiced: list[str] = field(default_factory=list)
    """Numbers of invoices issued."""


def batches_of(rng: random.Random) -> list[Batch]:
    """What the machine says: readings in some batches, some of them twice, one with trouble noted; and a report."""
    made, number = [], 0
    at = START - 3600 * NS
    for _ in range(rng.randrange(2, 5)):
        rows = []
        for _ in range(rng.randrange(1, 40)):
            number += 1
            at += rng.randrange(50, 150) * 1_000_000
            rows.append((rng.choice(SIGNALS), at, 20 + rng.gauss(0, 1), number))
        note: dict[str, Any] = {"file": "day.shdr"}
        if rng.random() < 0.3:
            note["quarantined"] = [{"offset": number, "reason": "unreadable", "text": "x|y"}]
        if rng.random() < 0.3:
            note["gaps"] = [
                {
                    "signal": None, "from": number + 1, "to": number + 3, "count": 3, "unit": "sequence",
                    "reason": "sequence", "start": at, "end": at + NS,
                }
            ]  # fmt: skip
            number += 3
        made.append(_readings(rows, note))
    if rng.random() < 0.5:
        made.insert(rng.randrange(1, len(made) + 1), made[0])  # a stretch sent twice
    if rng.random() < 0.4:
        made.append(_report(rng))
    return made


def _readings(rows: list[tuple[str, int, float, int]], note: dict[str, Any]) -> Batch:
    schema = reading_schema()
    columns: dict[str, list[Any]] = {
        "signal": [row[0] for row in rows],
        "source_time": [row[1] for row in rows],
        "receive_time": [row[1] + 5_000_000 for row in rows],
        "value_f64": [row[2] for row in rows],
        "status": [0] * len(rows),
        "sequence": [row[3] for row in rows],
    }
    return Batch(SOURCE, "readings", _batch(schema, columns, len(rows)), note)


def _report(rng: random.Random) -> Batch:
    schema = measurement_schema()
    items = range(rng.randrange(1, 6))
    columns: dict[str, list[Any]] = {
        "report": ["first.qif"] * len(items), "result": ["1"] * len(items), "model": ["housing-7"] * len(items),
        "serial": ["7"] * len(items), "characteristic": [f"c{item}" for item in items],
        "name": [f"Diameter {item}" for item in items], "kind": ["diameter"] * len(items),
        "value_f64": [10 + rng.gauss(0, 0.01) for _ in items], "unit": ["mm"] * len(items),
        "receive_time": [START] * len(items),
    }  # fmt: skip
    return Batch("gauge", "measurements", _batch(schema, columns, len(items)), {"file": "first.qif"})


def _batch(schema: pa.Schema, columns: dict[str, list[Any]], count: int) -> pa.RecordBatch:
    arrays = [
        pa.array(columns.get(item.name, [None] * count), pa.int64()).cast(item.type)
        if pa.types.is_timestamp(item.type)
        else pa.array(columns.get(item.name, [None] * count), item.type)
        for item in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


async def journey(world: World) -> Story:
    """The whole of it; then calm, and the invoice as it stands then."""
    supplier, customer = world.companies
    rng = random.Random(f"{world.seed} journey")
    story = Story(batches_of(rng))
    early = rng.randrange(1, len(story.batches) + 1)
    await _machine(world, story, rng, range(early))
    await world.do(supplier, "fuse", _fused)
    later = world.loop.create_task(_machine(world, story, rng, range(early, len(story.batches))))
    await world.do(supplier, "describe and govern", lambda node: _describe(node, story))
    await world.do(supplier, "offer", lambda node: _offer(node, customer.address))
    for _ in range(10):
        if await _buy(world, story):
            break
    for _ in range(rng.choice((1, 1, 2))):
        story.delivered.append(await world.do(customer, "receive", lambda node: _receive(node, story.agreement)))
    await world.do(customer, "receipts", lambda node: _receipts(node, story.agreement))
    changing = random.Random(f"{world.seed} amendment")
    if changing.random() < 0.3:
        first, second = (supplier, customer) if changing.random() < 0.5 else (customer, supplier)
        proposed = await world.do(first, "propose", lambda node: _propose(node, story.agreement))
        await world.do(second, "accept", lambda node: _accept(node, proposed))
        story.delivered.append(await world.do(customer, "receive", lambda node: _receive(node, story.agreement)))
    await world.do(supplier, "invoice", lambda node: _invoice(node, story))
    if rng.random() < 0.7:
        await world.do(customer, "complete", lambda node: _complete(node, story.agreement))
    await later
    await world.calm()
    await world.do(supplier, "last invoice", lambda node: _invoice(node, story))
    await world.do(customer, "fuse", _fused)
    await world.do(supplier, "fuse", _fused)
    await world.calm()
    return story


async def _machine(world: World, story: Story, rng: random.Random, numbers: range) -> None:
    """The machine's side: a batch is sent until it is acknowledged, then forgotten."""
    supplier = world.companies[0]
    for number in numbers:
        await asyncio.sleep(rng.random() * 3)
        position = await world.do(
            supplier, f"batch {number}", lambda node, n=number: node.keep.take(node.participant, story.batches[n])
        )
        story.acknowledged.append((position, number))


async def _fused(node: Node) -> None:
    await node.fuse.drain(node.participant)
    await node.keep.flush(node.participant)


async def _describe(node: Node, story: Story) -> None:
    from guantong.describe.model import Dataset
    from guantong.govern.model import Rights

    signals = await node.fuse.signals(node.participant)
    await node.describe.define(
        node.participant,
        Dataset(DATASET, "Spindle", "主轴", kind="readings", signals=tuple(signal.id for signal in signals)),
    )
    await node.govern.state_rights(
        node.participant,
        Rights(
            DATASET,
            holder=node.participant,
            processor=node.participant,
            operator=node.participant,
            source="own production",
            evidence="asset register",
            valid_from="2026-11-24T00:00:00Z",
        ),
    )
    story.defined = True


async def _offer(node: Node, partner: str) -> None:
    from guantong.exchange.identity import did_of
    from guantong.exchange.model import Product

    policy = {
        "permission": [
            {
                "action": "use",
                "constraint": [
                    {"leftOperand": "recipient", "operator": "eq", "rightOperand": did_of(partner)},
                    {"leftOperand": "purpose", "operator": "eq", "rightOperand": PURPOSE},
                    {"leftOperand": "count", "operator": "lteq", "rightOperand": "200"},
                ],
            }
        ]
    }
    await node.exchange.offer(
        node.participant,
        Product("product", DATASET, policy, title_en="Spindle", title_zh="主轴", terms="For order 4711.", price=PRICE),
    )


async def _buy(world: World, story: Story) -> bool:
    from guantong.exchange.identity import did_of

    supplier, customer = world.companies
    partner, base = did_of(supplier.address), supplier.address + "/dsp/2025-1"

    async def ask(node: Node) -> str:
        catalogue = await node.exchange.catalogue(node.participant, base, partner)
        offer = next(item for item in catalogue.offers if item.dataset_id == DATASET)
        return await node.exchange.negotiate(node.participant, base, partner, offer)

    pid = await world.do(customer, "negotiate", ask)
    story.negotiated.append(pid)
    done = await world.do(
        customer, "agree", lambda node: node.exchange.wait_negotiation(node.participant, pid, timeout_s=60)
    )
    if done.state != "FINALIZED":
        return False
    story.agreement = done.agreement_id
    return True


async def _propose(node: Node, agreement: str) -> str:
    """Fewer uses than were agreed."""
    for one in await node.exchange.amendments.all(node.participant, agreement):
        return one.id  # proposed before a crash
    before = await node.exchange.agreement(node.participant, agreement)
    fewer = orjson.loads(orjson.dumps(dict(before.agreement)).replace(b'"200"', b'"150"'))
    return await node.exchange.amendments.propose(node.participant, agreement, policy=fewer, reason="fewer")


async def _accept(node: Node, amendment: str) -> None:
    found = await node.exchange.amendments.get(node.participant, amendment)  # unknown until it has come: tried again
    if found.state == "proposed":
        await node.exchange.amendments.decide(node.participant, amendment, accept=True)


async def _receive(node: Node, agreement: str) -> dict[str, Any]:
    return await node.receive(agreement, purpose=PURPOSE)


async def _receipts(node: Node, agreement: str) -> None:
    found = await node.exchange.wait_receipts(node.participant, agreement, timeout_s=60)
    if not any(receipt.state == "acknowledged" for receipt in found):
        raise Retryable("exchange.wait-ended", pid=agreement, wanted="acknowledged", state="disputed")


async def _complete(node: Node, agreement: str) -> None:
    for transfer in await node.exchange.transfers(node.participant):
        if transfer.agreement_id == agreement and transfer.state == "STARTED":
            await node.exchange.decide_transfer(node.participant, transfer.pid, "complete")


async def _invoice(node: Node, story: Story) -> None:
    found = await node.settle.invoice(node.participant, story.agreement)
    story.invoiced.append(found.number)
