"""What a provider may lose to a consumer that takes and never signs is bounded, and silence is on record."""

from __future__ import annotations

from typing import Any

import pytest

from guantong.base.errors import GuantongError
from guantong.base.wire import Response


def unreachable(method: str, url: str, body: bytes) -> Response | None:
    return Response(503, b"", {}) if url.endswith("/guantong/receipts") else None


async def pulled(consumer: Any, pid: str) -> int:
    return sum([batch.num_rows async for batch in consumer.exchange.pull(consumer.did, pid)])


async def test_no_more_is_delivered_while_too_much_is_not_countersigned(
    companies: Any, agreed: Any, started: Any, network: Any
) -> None:
    provider = await companies("localhost:7001", unanswered_blocks=2)
    consumer = await companies("localhost:7002")
    agreement = await agreed(provider, consumer)
    pid = await started(provider, consumer, agreement)
    network.before.append(unreachable)
    taken = [await pulled(consumer, pid) for _ in range(2)]
    with pytest.raises(GuantongError) as refused:
        await pulled(consumer, pid)
    network.before.clear()
    await provider.exchange.wait_receipts(provider.did, agreement, count=2, timeout_s=10)

    assert taken == [3, 3]
    assert "exchange.exposure-reached" in str(refused.value)
    assert await pulled(consumer, pid) == 3


async def test_a_receipt_that_nobody_answers_falls_silent_on_record_and_a_late_answer_still_counts(
    companies: Any, agreed: Any, started: Any, network: Any
) -> None:
    provider, consumer = await companies("localhost:7001"), await companies("localhost:7002")
    agreement = await agreed(provider, consumer)
    pid = await started(provider, consumer, agreement)
    network.before.append(unreachable)
    await pulled(consumer, pid)
    early = await provider.exchange.receipting.fall_silent(provider.did, agreement, 3600)
    silent = await provider.exchange.receipting.fall_silent(provider.did, agreement, 0)
    (receipt,) = await provider.exchange.receipts(provider.did, agreement)
    noted = [leaf for leaf in provider.leaves("exchange.usage-countersigned") if leaf["state"] == "silent"]
    network.before.clear()

    async def answered() -> str:
        import asyncio

        for _ in range(200):
            (found,) = await provider.exchange.receipts(provider.did, agreement)
            if found.state != "silent":
                break
            await asyncio.sleep(0.02)
        return str(found.state)

    assert (early, silent, receipt.state) == ([], [receipt.record_id], "silent")
    assert [leaf["record"] for leaf in noted] == [receipt.record_id]
    assert await answered() == "acknowledged"
