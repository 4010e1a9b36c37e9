"""Packages of one transfer or one period between two whole nodes: they hold what they say, and strangers verify them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.node.goods import DATASET, PURPOSE, batch, describe_and_offer
from tests.node.test_fork import free_port, running, until

from guantong.base.clock import iso
from guantong.base.errors import Skippable
from guantong.node import Node
from guantong.prove.rules import parse_trust, read_zip
from guantong.verify import verify_package
from guantong.web.ask import Ask
from guantong.web.evidence_actions import package

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@dataclass
class Deal:
    supplier: Node
    customer: Node
    agreement: str
    transfers: tuple[tuple[str, str], ...]
    """Process ids of each transfer, supplier's and customer's."""
    between: str
    """An instant after the first transfer and before the second."""

    async def package(self, node: Node, **fields: str) -> tuple[Any, list[str]]:
        data = await package(node._rooms, Ask({}, {"agreement": self.agreement, **fields}))
        other = self.customer if node is self.supplier else self.supplier
        report = verify_package(data, parse_trust(await other.trust()), now_ns=node.clock.now())
        return report, sorted(path.rpartition("/")[0] for path in read_zip(data) if path.endswith(".json"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deal]:
    folder: Path = tmp_path_factory.mktemp("deal")
    async with (
        running(folder / "supplier", free_port()) as supplier,
        running(folder / "customer", free_port()) as customer,
    ):
        me, them = supplier.participant, customer.participant
        await supplier.keep.take(me, batch(0, 20))
        await supplier.fuse.drain(me)
        await supplier.keep.flush(me)
        await describe_and_offer(supplier, them)
        address = supplier.address + "/dsp/2025-1"
        catalogue = await customer.exchange.catalogue(them, address, me)
        offer = next(one for one in catalogue.offers if one.dataset_id == DATASET)
        pid = await customer.exchange.negotiate(them, address, me, offer)
        agreement = (await customer.exchange.wait_negotiation(them, pid, timeout_s=10)).agreement_id
        ends = []
        for count in (1, 2):
            await customer.receive(agreement, purpose=PURPOSE)

            async def answered(count: int = count) -> bool:
                found = await supplier.exchange.receipts(me, agreement)
                return len({one.transfer_pid for one in found}) == count and all(
                    one.state == "acknowledged" for one in found
                )

            await until(answered, "the receipt's answer")
            if count == 1:
                await supplier.settle.invoice(me, agreement)
            await supplier.outbox.drained()
            await customer.outbox.drained()
            ends.append(iso(supplier.clock.now()))
            await asyncio.sleep(0.05)
        transfers = sorted(await supplier.exchange.transfers(me), key=lambda one: one.created_at)
        for node in (supplier, customer):
            await until(lambda node=node: _peers(node), "knowing the partner as a witness")
        yield Deal(
            supplier, customer, agreement, tuple((one.pid, one.partner_pid) for one in transfers), ends[0]
        )  # fmt: skip


async def _peers(node: Node) -> Any:
    return node.prove.peers(node.participant)


async def test_a_transfer_s_package_holds_its_receipt_and_verifies_by_either_side_s_id(deal: Deal) -> None:
    whole, _ = await deal.package(deal.supplier)
    assert (whole.verdict, whole.receipts, len(whole.invoices)) == ("ok", {"acknowledged": 2}, 1), whole.text()
    for node in (deal.supplier, deal.customer):
        for number, (provider_pid, consumer_pid) in enumerate(deal.transfers):
            for wanted in (provider_pid, consumer_pid):
                report, folders = await deal.package(node, transfer=wanted)
                assert report.verdict == "ok", report.text()
                assert report.scope == {"transfer": provider_pid}
                assert report.receipts == {"acknowledged": 1}
                assert report.entries < whole.entries
                # the invoice over the first transfer goes with the first transfer
                assert len(report.invoices) == folders.count("invoices") == (1 if number == 0 else 0)
                assert f"transfer {provider_pid}" in report.text()


async def test_a_period_s_package_holds_what_was_recorded_then_and_verifies(deal: Deal) -> None:
    early, _ = await deal.package(deal.supplier, to=deal.between)
    late, _ = await deal.package(deal.supplier, **{"from": deal.between})
    before, _ = await deal.package(deal.supplier, to="2000-01-01T00:00:00Z")

    assert [one.verdict for one in (early, late, before)] == ["ok"] * 3, late.text()
    assert [one.receipts for one in (early, late, before)] == [{"acknowledged": 1}, {"acknowledged": 1}, {}]
    assert [len(one.invoices) for one in (early, late, before)] == [1, 0, 0]
    assert before.entries == 1
    assert early.scope == {"to": deal.between}
    both, _ = await deal.package(deal.supplier, transfer=deal.transfers[1][0], **{"from": deal.between})
    assert (both.verdict, both.receipts) == ("ok", {"acknowledged": 1})
    none, _ = await deal.package(deal.supplier, transfer=deal.transfers[1][0], to=deal.between)
    assert (none.verdict, none.receipts) == ("ok", {})


@pytest.mark.parametrize(
    "fields",
    [
        {"transfer": "urn:uuid:none"},
        {"from": "2026-11-24T09:00:00Z", "to": "2026-11-24T09:00:00Z"},
        {"from": "2999-01-01T00:00:00Z"},
        {"to": "yesterday"},
    ],
)
async def test_a_part_that_there_is_not_is_refused_with_its_field(deal: Deal, fields: dict[str, str]) -> None:
    with pytest.raises(Skippable) as caught:
        await deal.package(deal.supplier, **fields)
    assert caught.value.code in ("web.field-missing", "base.time-unreadable")
