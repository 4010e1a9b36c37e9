"""A rehearsal says what then really happens over the same history: what leaves, what is refused, what is invoiced."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.exchange.conftest import Network
from tests.settle.test_over_exchange import Settling

from guantong.base.clock import NS, SystemClock, iso
from guantong.base.errors import Refused
from guantong.exchange.model import ExchangeSettings, Product
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.rehearsal import Rehearsed, Visit
from guantong.records import METADATA, Records
from guantong.settle.rehearsal import DAY_NS, invoices, visits

BEGIN = 1_790_000_000 * NS
DATASET = "urn:dataset:spindle"


class MovedClock(SystemClock):
    """The system's clock, moved to where a test wants it."""

    def __init__(self) -> None:
        self.moved = 0

    def now(self) -> int:
        return super().now() + self.moved

    def move_to(self, instant: int) -> None:
        self.moved = instant - super().now()


class Historian(Settling):
    """A company whose dataset holds at each instant what had come until then."""

    history: pa.Table

    async def rows(self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None) -> Any:
        times = self.history["at"].to_numpy()
        last = self.clock.now() if end is None else end
        for batch in self.history.filter(pa.array((times >= (start or 0)) & (times < last))).to_batches():
            yield batch


async def allow(access: Access, permits: str) -> Verdict:
    assert f'Dataset::"{access.dataset_id}"' in permits
    return Verdict(allowed=True, reason="permitted")


def history(seed: int, days: int) -> pa.Table:
    """A few readings each day, sometimes none."""
    drawn = random.Random(seed)
    times = sorted(BEGIN + drawn.randrange(days * DAY_NS) for _ in range(drawn.randrange(0, 12 * days)))
    return pa.table(
        {"at": pa.array(times, pa.int64()), "load": pa.array([drawn.random() for _ in times], pa.float64())}
    )


@st.composite
def offers(draw: st.DrawFn) -> dict[str, Any]:
    """A policy of the terms that a delivery is stopped by, and a price plan."""
    constraints = []

    def add(left: str, operator: str, right: Any) -> None:
        constraints.append({"leftOperand": left, "operator": operator, "rightOperand": right})

    if draw(st.booleans()):
        add("count", draw(st.sampled_from(["lteq", "lt"])), str(draw(st.integers(1, 4))))
    if draw(st.booleans()):
        add("dateTime", "lteq", iso(BEGIN + draw(st.integers(0, 5)) * DAY_NS + DAY_NS // 2))
    if draw(st.booleans()):
        add("dateTime", "gteq", iso(BEGIN + draw(st.integers(0, 3)) * DAY_NS + DAY_NS // 3))
    if draw(st.booleans()):
        add("https://w3id.org/guantong/ns/rows", "lteq", str(draw(st.integers(1, 80))))
    if draw(st.booleans()):
        add("purpose", "eq", draw(st.sampled_from(["quality", "research"])))
    charges = draw(
        st.lists(
            st.sampled_from(
                [{"per": "row", "price": "0.05"}, {"per": "call", "price": "2"}, {"per": "byte", "price": "0.003"}]
            ),
            max_size=2,
            unique_by=lambda one: one["per"],
        )
    )
    price = {"currency": "CNY", "charges": charges, "taxes": [{"name": "VAT", "rate": "0.13"}]} if charges else {}
    return {"policy": {"permission": [{"action": "use", "constraint": constraints}]}, "price": price}


async def really(provider: Historian, consumer: Settling, product: Product, asked: list[Visit]) -> dict[str, Any]:
    """Offer it and let the partner come at each instant: the rows and bytes of each visit, refusals, and the invoice."""
    outcomes: list[tuple[int, int] | None] = []
    agreement = ""
    await provider.exchange.offer(provider.did, product)
    for visit in asked:
        for company in (provider, consumer):
            company.clock.move_to(visit.at)
        if not agreement:
            try:
                catalogue = await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
                assert catalogue.offers, "not shown"
                pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, catalogue.offers[0])
                done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)
                agreement = done.agreement_id if done.state == "FINALIZED" else ""
            except (Refused, AssertionError):
                agreement = ""
        if not agreement:
            outcomes.append(None)
            continue
        pid = await consumer.exchange.request_transfer(consumer.did, agreement)
        transfer = await consumer.exchange.wait_transfer(consumer.did, pid, timeout_s=5)
        before = len(await provider.exchange.receipts(provider.did, agreement))
        if transfer.state != "STARTED":
            outcomes.append(None)
            continue
        try:
            rows = [batch async for batch in consumer.exchange.pull(consumer.did, pid, purpose=visit.purpose)]
        except Refused:
            outcomes.append(None)
            continue
        receipts = await provider.exchange.wait_receipts(provider.did, agreement, count=before + 1, timeout_s=5)
        record = receipts[-1].record
        assert record["rows"] == sum(batch.num_rows for batch in rows)
        outcomes.append((record["rows"], record["bytes"]))
    records = [one.record for one in await provider.exchange.receipts(provider.did, agreement)] if agreement else []
    told = Rehearsed("", (), (), tuple(records))
    return {"outcomes": outcomes, "invoices": invoices(told, product, now=BEGIN)}


async def compared(seed: int, offer: dict[str, Any], purpose: str) -> None:
    network, made = Network(), []
    days = 5
    for host, kind in (("localhost:7301", Historian), ("localhost:7302", Settling)):
        clock = MovedClock()
        clock.move_to(BEGIN)
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        company = kind(network, host, records, clock, ExchangeSettings())
        made.append(company)
    provider, consumer = made
    provider.history = history(seed, days)
    for company in made:
        await company.start()
    try:
        product = Product("spindle", DATASET, offer["policy"], price=offer["price"])
        asked = visits(product, now=BEGIN + days * DAY_NS, days=days, partners=[consumer.did], whole=True)
        asked = [Visit(one.at, one.subject, purpose, one.start, one.end) for one in asked]

        told = await provider.exchange.rehearsal.run(provider.did, product, asked, allow)
        assert provider.leaves("exchange.delivery-intended") == []
        happened = await really(provider, consumer, product, asked)

        assert [None if one.refused else (one.rows, one.bytes) for one in told.outcomes] == happened["outcomes"]
        wanted = [{**one, "partner": consumer.did} for one in happened["invoices"]]
        assert invoices(told, product, now=BEGIN) == wanted
    finally:
        for company in made:
            await company.stop()
            company.records.close()


@settings(
    max_examples=8, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.too_slow]
)
@given(seed=st.integers(0, 2**32 - 1), offer=offers(), purpose=st.sampled_from(["", "quality", "marketing"]))
def test_a_rehearsal_equals_what_then_really_happens_over_the_same_history(
    seed: int, offer: dict[str, Any], purpose: str
) -> None:
    asyncio.run(compared(seed, offer, purpose))
