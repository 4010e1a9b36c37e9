"""A supplier restored from a back-up, seen from its customer: a fresh one goes on as if nothing had been, an older one shows as rolled back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.node.goods import DATASET, PURPOSE, batch, describe_and_offer
from tests.node.test_fork import free_port, record, running, until

from guantong.keep.backup import restore
from guantong.node import Node

pytestmark = pytest.mark.timeout(180)
SECRET = "five words drawn by lot"


async def agreed(supplier: Node, customer: Node) -> str:
    """Data, offer, contract."""
    me, them = supplier.participant, customer.participant
    await supplier.keep.take(me, batch(0, 20))
    await supplier.fuse.drain(me)
    await supplier.keep.flush(me)
    await describe_and_offer(supplier, them)
    address = supplier.address + "/dsp/2025-1"
    catalogue = await customer.exchange.catalogue(them, address, me)
    offer = next(one for one in catalogue.offers if one.dataset_id == DATASET)
    pid = await customer.exchange.negotiate(them, address, me, offer)
    return str((await customer.exchange.wait_negotiation(them, pid, timeout_s=20)).agreement_id)


async def delivered(supplier: Node, customer: Node, agreement: str, count: int) -> dict[str, Any]:
    """One delivery under the agreement; ``count`` receipts are then answered on the supplier's side."""
    done = await customer.receive(agreement, purpose=PURPOSE)

    async def answered() -> bool:
        found = await supplier.exchange.receipts(supplier.participant, agreement)
        return len({one.transfer_pid for one in found}) == count and all(one.state == "acknowledged" for one in found)

    await until(answered, f"the answer to receipt {count}")
    return done


async def seen(node: Node) -> int:
    """Entries of a node's log that its partner has cosigned, once it has cosigned them all."""
    head = await node.prove.catch_up(node.participant)
    assert head is not None

    async def cosigned() -> bool:
        return any(one.size >= head.size for one in (await node.prove.view(node.participant)).witnesses)

    await until(cosigned, "the cosignature")
    return int(head.size)


async def test_a_restored_supplier_goes_on_with_its_customer_and_an_older_back_up_shows_as_rolled_back(
    tmp_path: Path,
) -> None:
    port = free_port()
    fresh = tmp_path / "fresh.backup"
    async with running(tmp_path / "customer", free_port()) as customer:
        async with running(tmp_path / "supplier", port) as supplier:
            me = supplier.participant
            agreement = await agreed(supplier, customer)
            first = await delivered(supplier, customer, agreement, 1)
            await supplier.outbox.drained()
            await seen(supplier)
            await supplier.backup(fresh, SECRET)
        await asyncio.to_thread(restore, fresh, SECRET, tmp_path / "restored")

        async with running(tmp_path / "restored", port) as restored:
            assert restored.participant == me
            assert [one.id for one in await restored.exchange.products(me)] == ["product"]
            second = await delivered(restored, customer, agreement, 2)  # the contract and its count stand
            await restored.outbox.drained()
            known = await seen(restored)
            errors = [one.error for one in (await restored.prove.view(me)).witnesses]
        await asyncio.to_thread(restore, fresh, SECRET, tmp_path / "older")

        async with running(tmp_path / "older", port) as older:

            async def shown() -> str | None:
                (witness,) = (await older.prove.view(me)).witnesses
                return witness.error

            size = await record(older, "anew", 1)
            error = await until(shown, "the customer's answer that it knows a larger log")

    assert first["rows"] == second["rows"] == 20
    assert errors == [None]
    assert size < known
    assert error == "prove.rolled-back"
