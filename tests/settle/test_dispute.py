"""A dispute from beginning to end between two exchanges: a row is lost on the way, and nobody has to be believed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from tests.exchange.conftest import Company, Network, _agreed, _started

from guantong.base.canonical import canonical_bytes, digest, unb64
from guantong.base.clock import SystemClock
from guantong.base.errors import Refused
from guantong.base.keys import verify_ed25519
from guantong.base.merkle import leaf_hash, root
from guantong.exchange.model import ExchangeSettings
from guantong.records import METADATA, Records
from guantong.settle import dispute
from guantong.settle.disputes import Disputes
from guantong.settle.model import AGREED, BISECT, CREDIT_NOTE, LOCATED, RESOLVE, RESOLVED, TELL
from guantong.settle.partners import ExchangePartners
from guantong.settle.routes import routes
from guantong.settle.service import OUTBOX_KIND, Settle

PLAN = {"currency": "CNY", "charges": [{"per": "row", "price": "0.5"}], "taxes": [{"name": "VAT", "rate": "0.13"}]}
ROWS = 2_000


class Lossy(Network):
    """A network that loses one row of a delivery on its way to the consumer."""

    def __init__(self) -> None:
        super().__init__()
        self.drops: int | None = None

    @contextlib.asynccontextmanager
    async def stream(self, method: str, url: str, **more: Any) -> AsyncIterator[Any]:
        async with super().stream(method, url, **more) as stream:
            if "/data/" in url and self.drops is not None:
                body = b"".join([piece async for piece in stream.chunks()])
                table = pa.ipc.open_stream(body).read_all()
                kept = pa.concat_tables([table.slice(0, self.drops), table.slice(self.drops + 1)])
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    for batch in kept.to_batches(max_chunksize=100):
                        writer.write_batch(batch)
                changed = sink.getvalue().to_pybytes()

                async def chunks() -> AsyncIterator[bytes]:
                    yield changed

                stream.chunks = chunks
            yield stream


class Settling(Company):
    def build(self) -> None:
        super().build()
        self.settle = Settle(self.records, *[ExchangePartners(self.exchange)] * 2, self.clock)
        self.disputes = Disputes(self.settle)
        for kind in (BISECT, TELL, RESOLVE, CREDIT_NOTE):
            self.exchange.answer(kind, self.disputes)
        self.outbox.register(OUTBOX_KIND, self.settle.deliver)
        served = self.exchange.routes(self.did) + routes(self.settle, self.did, self.exchange.identify)
        self.network.apps[self.address.removeprefix("http://")] = Starlette(routes=served)

    async def rows(self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None) -> Any:
        for batch in self.table.to_batches(max_chunksize=100):
            yield batch


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Settling, Settling]]:
    network, clock, made = Lossy(), SystemClock(), []
    for host in ("localhost:7201", "localhost:7202"):
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        company = Settling(network, host, records, clock, ExchangeSettings(block_bytes=512))
        await company.start()
        made.append(company)
    made[0].table = pa.table({"signal": list(range(ROWS)), "value": [number / 7 for number in range(ROWS)]})
    yield made[0], made[1]
    for company in made:
        await company.stop()
        company.records.close()


async def disputed(provider: Settling, consumer: Settling, drops: int = 1_234) -> tuple[str, str]:
    """An agreement, and the id of a receipt under it that the consumer disputes."""
    agreement_id = await _agreed(provider, consumer, price=PLAN)
    provider.network.drops = drops  # type: ignore[attr-defined]
    transfer = await _started(provider, consumer, agreement_id)
    rows = [batch async for batch in consumer.exchange.pull(consumer.did, transfer)]
    assert pa.Table.from_batches(rows).num_rows == ROWS - 1
    for company in (provider, consumer):
        await company.exchange.wait_receipts(company.did, agreement_id, timeout_s=5)
    (receipt,) = await consumer.exchange.receipts(consumer.did, agreement_id)
    assert receipt.state == "disputed"
    return agreement_id, receipt.record_id


async def test_a_dispute_from_one_row_fewer_to_the_credit_note_all_of_it_in_both_logs(pair: Any) -> None:
    provider, consumer = pair
    agreement_id, record_id = await disputed(provider, consumer)
    with pytest.raises(Refused) as waits:
        await provider.settle.invoice(provider.did, agreement_id)
    named = await consumer.disputes.narrow(consumer.did, agreement_id, record_id)
    theirs, mine = [await one.exchange.receipting.blocks(one.did, record_id) for one in (provider, consumer)]
    first = next(at for at, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b)
    counted = named.statement["counted"]
    settled = await provider.disputes.propose(
        provider.did, agreement_id, record_id, rows=counted["rows"], size=counted["bytes"], reason="a row was lost"
    )
    invoice = await provider.settle.invoice(provider.did, agreement_id)
    await provider.outbox.drained()
    note = await provider.disputes.notes.issue(provider.did, agreement_id, "dispute")
    again = await provider.disputes.notes.issue(provider.did, agreement_id, "dispute")
    (kept,) = await consumer.disputes.notes.notes(consumer.did)
    (agreed,) = await consumer.settle.invoices(consumer.did)

    assert waits.value.code == "settle.nothing-to-invoice"
    assert (named.state, named.block) == (LOCATED, first)
    assert named.statement["messages"] <= (len(theirs) - 1).bit_length()
    assert counted["rows"] == ROWS - 1
    assert settled.state == RESOLVED
    assert (await consumer.disputes.disputes(consumer.did))[0].state == RESOLVED
    assert (invoice.total, agreed.state) == ("1130.00", AGREED)  # 2,000 · 0.50 and 13 %
    assert (note.state, note.total, note.invoice) == (AGREED, "0.56", invoice.number)  # 1130.00 − (999.50 + 129.94)
    assert again == note
    assert kept.document == note.document
    for signature, company in zip(note.signatures, pair, strict=True):
        public = company.identity.evidence_key.public
        assert verify_ed25519(public, canonical_bytes(dict(note.document)), unb64(signature["value"]))
    for company in pair:
        (located,) = company.leaves("settle.dispute-located")
        (resolved,) = company.leaves("settle.dispute-resolved")
        (credited,) = company.leaves("settle.credit-note-agreed")
        assert (located["block"], resolved["rows"]) == (first, ROWS - 1)
        assert credited["note"] == digest(dict(note.document))


async def test_a_provider_that_answers_otherwise_than_it_signed_is_caught(pair: Any) -> None:
    provider, consumer = pair
    agreement_id, record_id = await disputed(provider, consumer)
    truth = provider.settle.receipts.blocks

    async def lies(participant: str, record: str) -> Any:
        blocks = list(await truth(participant, record))
        return [*blocks[:-1], leaf_hash(b"something else")]

    provider.settle.receipts.blocks = lies
    with pytest.raises(Refused) as caught:
        await consumer.disputes.narrow(consumer.did, agreement_id, record_id)

    assert caught.value.code == "settle.dispute-forged"
    assert await consumer.disputes.disputes(consumer.did) == []


async def test_a_proposal_that_is_not_what_the_consumer_counted_waits_for_a_person(pair: Any) -> None:
    provider, consumer = pair
    agreement_id, record_id = await disputed(provider, consumer)
    named = await consumer.disputes.narrow(consumer.did, agreement_id, record_id)
    size = named.statement["counted"]["bytes"]
    first = await provider.disputes.propose(
        provider.did, agreement_id, record_id, rows=ROWS, size=size, reason="we delivered them all"
    )
    with pytest.raises(Refused) as own:
        await provider.disputes.accept(provider.did, agreement_id, record_id)
    accepted = await consumer.disputes.accept(consumer.did, agreement_id, record_id)
    await provider.settle.invoice(provider.did, agreement_id)
    with pytest.raises(Refused) as nothing:
        await provider.disputes.notes.issue(provider.did, agreement_id, "dispute")

    assert first.state == "proposed"
    assert own.value.code == "settle.proposal-refused"
    assert accepted.state == RESOLVED
    assert {one["by"] for one in accepted.signatures["resolution"]} == {provider.did, consumer.did}
    assert nothing.value.code == "settle.nothing-to-credit"


async def test_strangers_to_a_receipt_can_not_narrow_or_settle_it(pair: Any) -> None:
    provider, consumer = pair
    agreement_id, record_id = await disputed(provider, consumer)
    for call in (
        provider.disputes.narrow(provider.did, agreement_id, record_id),
        consumer.disputes.narrow(consumer.did, agreement_id, "urn:uuid:none"),
        consumer.disputes.accept(consumer.did, agreement_id, record_id),
        consumer.disputes.notes.issue(consumer.did, agreement_id, "dispute"),
    ):
        with pytest.raises(Refused):
            await call


@given(st.integers(1, 200), st.data())
def test_the_walk_ends_at_the_first_block_that_differs(size: int, data: st.DataObject) -> None:
    theirs = [leaf_hash(b"%d" % at) for at in range(size)]
    first = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(first, size + 3))
    mine = [*theirs[:first], *(leaf_hash(b"other %d" % at) for at in range(first, length))]
    stretch, messages = dispute.Stretch(0, size, root(theirs)), 0
    while stretch.end - stretch.start > 1:
        stretch = dispute.narrowed(mine, stretch, *dispute.halves(theirs, (stretch.start, stretch.end)))
        messages += 1

    assert (stretch.start, stretch.expected) == (first, theirs[first])
    assert messages <= (size - 1).bit_length()
