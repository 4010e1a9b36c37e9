"""The whole way: two exchanges deliver and countersign, then both companies settle over the same network and the same outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from starlette.applications import Starlette
from tests.exchange.conftest import Company, Network, _agreed, _started

from guantong.base.canonical import canonical_bytes, unb64
from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem
from guantong.base.keys import verify_ed25519
from guantong.exchange.model import ExchangeSettings
from guantong.records import METADATA, Records
from guantong.settle.model import AGREED, ISSUED
from guantong.settle.partners import ExchangePartners
from guantong.settle.routes import routes
from guantong.settle.service import OUTBOX_KIND, Settle

PLAN = {"currency": "CNY", "charges": [{"per": "row", "price": "0.5"}], "taxes": [{"name": "VAT", "rate": "0.13"}]}


class Settling(Company):
    """A company that also settles."""

    extension = True

    def build(self) -> None:
        super().build()
        self.settle = Settle(self.records, *[ExchangePartners(self.exchange)] * 2, self.clock)
        self.outbox.register(OUTBOX_KIND, self.settle.deliver)
        served = self.exchange.routes(self.did)
        if self.extension:
            served += routes(self.settle, self.did, self.exchange.identify)
        self.network.apps[self.address.removeprefix("http://")] = Starlette(routes=served)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Settling, Settling]]:
    network, clock, made = Network(), SystemClock(), []
    for host in ("localhost:7101", "localhost:7102"):
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        company = Settling(network, host, records, clock, ExchangeSettings())
        await company.start()
        made.append(company)
    yield made[0], made[1]
    for company in made:
        await company.stop()
        company.records.close()


async def delivered(provider: Company, consumer: Company, **changes: Any) -> str:
    agreement_id = await _agreed(provider, consumer, **{"price": PLAN, **changes})
    transfer = await _started(provider, consumer, agreement_id)
    rows = [batch async for batch in consumer.exchange.pull(consumer.did, transfer)]
    assert pa.Table.from_batches(rows).num_rows == 3
    for company in (provider, consumer):
        await company.exchange.wait_receipts(company.did, agreement_id, timeout_s=5)
    return agreement_id


async def test_from_delivery_to_an_invoice_that_both_derived_and_signed(pair):
    """Three rows at 0.5 and 13 per cent: 1.70 (1.695 to the cent)."""
    provider, consumer = pair
    agreement_id = await delivered(provider, consumer)
    await provider.settle.invoice(provider.did, agreement_id)
    await provider.outbox.drained()
    (ours,) = await provider.settle.invoices(provider.did, agreement_id)
    (theirs,) = await consumer.settle.invoices(consumer.did, agreement_id)

    assert (ours.state, theirs.state) == (AGREED, AGREED)
    assert ours.total == theirs.total == "1.70"
    assert ours.document["lines"][0]["receipts"] == [row["id"] for row in theirs.document["receipts"]]
    for signature, company in zip(ours.signatures, pair, strict=True):
        assert signature["by"] == company.did
        public = company.identity.evidence_key.public
        assert verify_ed25519(public, canonical_bytes(theirs.document), unb64(signature["value"]))


async def test_opposite_a_connector_without_invoices_the_message_is_given_up_and_shown(pair):
    provider, consumer = pair
    agreement_id = await delivered(provider, consumer)
    consumer.network.apps[consumer.address.removeprefix("http://")] = Starlette(
        routes=consumer.exchange.routes(consumer.did)
    )
    await provider.settle.invoice(provider.did, agreement_id)
    await provider.outbox.drained()
    (stuck,) = await provider.outbox.stuck(provider.did)

    assert (stuck.kind, "settle.partner-refused" in stuck.error) == (OUTBOX_KIND, True)
    assert [found.state for found in await provider.settle.invoices(provider.did)] == [ISSUED]


async def test_a_price_that_is_no_plan_is_said_before_anything_is_invoiced(pair):
    provider, consumer = pair
    agreement_id = await delivered(provider, consumer, price={"currency": "CNY", "perRow": "0.01"})
    with pytest.raises(ConfigProblem) as caught:
        await provider.settle.invoice(provider.did, agreement_id)

    assert caught.value.code == "settle.plan-invalid"
    assert await provider.settle.invoices(provider.did) == []
