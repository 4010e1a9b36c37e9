"""Duties stay in sight on both sides, with their deadlines; the consumer's word that one was fulfilled is evidence on both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guantong.base.clock import NS, SystemClock
from guantong.base.errors import Refused

POLICY = {
    "permission": [{"action": "use"}],
    "obligation": [
        {"action": "attribute"},
        {
            "action": "delete",
            "constraint": [{"leftOperand": "elapsedTime", "operator": "lteq", "rightOperand": "P30D"}],
        },
        {"action": "inform"},
    ],
}


class MovableClock(SystemClock):
    """The machine's clock, shifted."""

    shift = 0

    def now(self) -> int:
        return super().now() + self.shift


async def test_both_sides_see_the_duties_with_their_deadlines(companies: Any, agreed: Any) -> None:
    clock = MovableClock()
    provider, consumer = await companies("localhost:7001", clock=clock), await companies("localhost:7002", clock=clock)
    agreement_id = await agreed(provider, consumer, policy=POLICY)

    sides = [await one.exchange.duties.list(one.did, agreement_id) for one in (provider, consumer)]
    clock.shift = 31 * 86_400 * NS
    late = {one.action: one.state for one in await provider.exchange.duties.list(provider.did)}

    for role, owed in zip(("provider", "consumer"), sides, strict=True):
        assert [(one.action, one.state, one.role) for one in owed] == [
            ("delete", "open", role),
            ("attribute", "standing", role),
            ("inform", "open", role),
        ]
        assert owed[0].deadline is not None
        assert (owed[0].zh, owed[0].en) == ("用后必须删除", "must delete it afterwards")
    assert late == {"delete": "overdue", "attribute": "standing", "inform": "open"}


async def test_the_word_that_a_duty_was_fulfilled_is_evidence_on_both_sides(pair: Any, agreed: Any) -> None:
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=POLICY)
    told = await consumer.exchange.duties.confirm(
        consumer.did, agreement_id, "delete", by="Wang Fang", note="copies and back-ups destroyed"
    )
    for _ in range(400):
        if provider.leaves("exchange.duty-confirmed"):
            break
        await asyncio.sleep(0.005)

    [theirs], [ours] = provider.leaves("exchange.duty-confirmed"), consumer.leaves("exchange.duty-confirmed")
    seen = {one.action: one for one in await provider.exchange.duties.list(provider.did, agreement_id)}["delete"]

    assert told.state == seen.state == "done"
    assert (seen.by, seen.note, seen.done_at) == ("Wang Fang", "copies and back-ups destroyed", told.done_at)
    assert {**theirs, "role": "", "partner": ""} == {**ours, "role": "", "partner": ""}
    assert (theirs["role"], ours["role"]) == ("provider", "consumer")


@pytest.mark.parametrize(
    ("side", "action"), [("consumer", "attribute"), ("consumer", "compensate"), ("provider", "delete")]
)
async def test_only_the_consumer_confirms_and_only_what_is_to_be_done(
    pair: Any, agreed: Any, side: str, action: str
) -> None:
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=POLICY)
    company = consumer if side == "consumer" else provider

    with pytest.raises(Refused) as refused:
        await company.exchange.duties.confirm(company.did, agreement_id, action, by="x")

    assert refused.value.code == "exchange.duty-unknown"
    assert provider.leaves("exchange.duty-confirmed") == consumer.leaves("exchange.duty-confirmed") == []


async def test_a_partner_can_not_confirm_a_duty_that_was_not_agreed(pair: Any, agreed: Any) -> None:
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)

    with pytest.raises(Refused):
        await consumer.exchange.ask(
            consumer.did, agreement_id, "duty-done", {"action": "delete", "by": "x", "at": "2026-11-24T08:00:00Z"}
        )

    assert provider.leaves("exchange.duty-confirmed") == []
