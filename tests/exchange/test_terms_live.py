"""Terms between two companies: asked before an agreement, at it, at each access and while a delivery runs; both sides have the reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import select

from guantong.base.clock import NS, SystemClock, iso
from guantong.base.errors import GuantongError, Refused
from guantong.exchange.messages import message
from guantong.exchange.policy import rules_of
from guantong.exchange.tables import AGREEMENTS, TRANSFERS

OWN = "https://w3id.org/guantong/ns/"
CX = "https://w3id.org/catenax/2025/9/policy/"
MEMBERSHIP = "MembershipCredential"


class MovableClock(SystemClock):
    """The machine's clock, shifted."""

    shift = 0

    def now(self) -> int:
        return super().now() + self.shift


def limited(left: str, operator: str, right: str, **more: Any) -> dict[str, Any]:
    constraint = {"leftOperand": left, "operator": operator, "rightOperand": right}
    return {"permission": [{"action": "use", "constraint": [constraint]}], **more}


def slow(provider: Any, first: int) -> asyncio.Event:
    """Let the provider's dataset give its first batches at once and then nothing until the event; the event."""
    go_on = asyncio.Event()

    async def rows(participant: str, dataset_id: str, start: int | None = None, end: int | None = None) -> Any:
        for number, batch in enumerate(provider.table.to_batches(max_chunksize=100)):
            if number == first:
                await go_on.wait()
            yield batch

    provider.rows = rows
    provider.build()
    return go_on


async def streaming(companies: Callable[..., Any], clock: Any, first: int = 2, **options: Any) -> tuple[Any, Any]:
    """A provider whose deliveries begin and then wait, and a consumer."""
    provider = await companies("localhost:7001", clock=clock, whole_bytes=0, chunk_rows=100, **options)
    consumer = await companies("localhost:7002", clock=clock)
    provider.table = pa.table({"n": list(range(1000))})
    await provider.stop()
    slow(provider, first)
    await provider.start()
    return provider, consumer


def ends(company: Any) -> list[str]:
    """The reasons of ended transfers on a company's record."""
    return [one.get("reason", "") for one in company.leaves("exchange.transfer-moved") if one["state"] == "TERMINATED"]


async def both_ended(provider: Any, consumer: Any) -> tuple[list[str], list[str]]:
    for _ in range(400):
        if ends(provider) and ends(consumer):
            break
        await asyncio.sleep(0.005)
    return ends(provider), ends(consumer)


def in_a_minute(clock: Any) -> dict[str, Any]:
    return limited("dateTime", "lteq", iso(clock.now() + 60 * NS, digits=3))


async def the_agreement_ends(provider: Any, agreement_id: str) -> None:
    async with provider.records.step(provider.did) as step:
        step.update(AGREEMENTS, {"id": agreement_id}, {"state": "ended"})
    provider.exchange.negotiating._agreements.clear()


@pytest.mark.parametrize("how", ["dateTime", "elapsedTime", "agreement"])
async def test_an_open_delivery_stops_within_a_second_of_its_end_and_both_sides_have_the_reason(
    companies: Any, agreed: Any, started: Any, how: str
) -> None:
    clock = MovableClock()
    provider, consumer = await streaming(companies, clock)
    policy = {"dateTime": in_a_minute(clock), "elapsedTime": limited("elapsedTime", "lteq", "PT1M")}.get(
        how, {"permission": [{"action": "use"}]}
    )
    agreement_id = await agreed(provider, consumer, policy=policy)
    pulling = consumer.exchange.pull(consumer.did, await started(provider, consumer, agreement_id))
    rows = (await anext(pulling)).num_rows

    if how == "agreement":
        await the_agreement_ends(provider, agreement_id)
    else:
        clock.shift = 61 * NS
    began = time.monotonic()
    with pytest.raises(GuantongError):
        async for batch in pulling:
            rows += batch.num_rows  # what left before
    took = time.monotonic() - began
    ours, theirs = await both_ended(provider, consumer)

    assert took < 1.0
    assert len(ours) == len(theirs) == 1
    assert ours == theirs
    assert ("the agreement has ended" if how == "agreement" else f"{how}: ended") in ours[0]
    receipts = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)
    assert (receipts[0].record["complete"], receipts[0].record["rows"]) == (False, rows)
    assert 100 <= rows <= 200


@pytest.mark.parametrize(("what", "limit"), [("rows", 250), ("bytes", 3000)])
async def test_a_volume_is_counted_before_the_bytes_leave_and_nothing_beyond_it_does(
    companies: Any, agreed: Any, started: Any, what: str, limit: int
) -> None:
    provider, consumer = await streaming(companies, SystemClock(), first=1000)
    agreement_id = await agreed(provider, consumer, policy=limited(OWN + what, "lteq", str(limit)))
    transfer = await started(provider, consumer, agreement_id)
    got = {"rows": 0, "bytes": 0}
    counted = []

    with pytest.raises(GuantongError):
        async for batch in consumer.exchange.pull(consumer.did, transfer):
            got["rows"] += batch.num_rows
            got["bytes"] += batch.nbytes
            counted.append(await provider.records.counter(provider.did, f"exchange:{what}:{agreement_id}") >= got[what])
    ours, theirs = await both_ended(provider, consumer)

    assert 0 < got[what] <= limit
    assert all(counted)
    assert ours == theirs
    assert ours[0].startswith(f"{what}: no more than {limit} were agreed")


async def test_a_small_delivery_above_the_volume_does_not_leave(pair: Any, agreed: Any, started: Any) -> None:
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=limited(OWN + "rows", "lteq", "5"))
    transfer = await started(provider, consumer, agreement_id)
    rows = [len(batch) async for batch in consumer.exchange.pull(consumer.did, transfer)]

    with pytest.raises(Refused) as refused:
        _ = [batch async for batch in consumer.exchange.pull(consumer.did, transfer)]

    assert rows == [3]
    assert "records.limit-reached" in refused.value.facts["reason"]
    assert await provider.records.counter(provider.did, f"exchange:rows:{agreement_id}") == 3


async def test_raw_rows_are_refused_under_an_aggregation_floor(pair: Any, agreed: Any, started: Any) -> None:
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=limited(OWN + "aggregationFloor", "gteq", "5"))
    transfer = await started(provider, consumer, agreement_id)

    with pytest.raises(Refused) as refused:
        _ = [batch async for batch in consumer.exchange.pull(consumer.did, transfer)]

    assert "aggregationFloor: each row must stand for at least 5 records" in refused.value.facts["reason"]
    [on_record] = provider.leaves("exchange.delivery-refused")
    assert "aggregationFloor" in on_record["reason"]


async def test_a_membership_is_asked_for_in_the_catalogue_at_the_agreement_and_at_each_access(
    companies: Any, clock: Any, product: Any, agreed: Any, started: Any
) -> None:
    leader = await companies("localhost:7100", clock=clock, issued_credentials=(MEMBERSHIP,))
    member = await companies("localhost:7101", clock=clock)
    asking = await companies(
        "localhost:7102", clock=clock, required_credentials=(MEMBERSHIP,), trusted_issuers=(leader.did,)
    )
    not_asking = await companies("localhost:7103", clock=clock)
    await leader.exchange.issuer.admit(leader.did, member.did, MEMBERSHIP, {})
    await member.exchange.wallet.request(member.did, leader.did, [MEMBERSHIP])
    for _ in range(200):
        if member.exchange.wallet.held(member.did):
            break
        await asyncio.sleep(0.005)
    policy = limited(CX + "Membership", "eq", "active")
    offered = product(policy=policy)
    await not_asking.exchange.offer(not_asking.did, offered)

    hidden = await member.exchange.catalogue(member.did, not_asking.base, not_asking.did)
    agreement_id = await agreed(asking, member, policy=policy)
    transfer = await started(asking, member, agreement_id)
    rows = sum([len(batch) async for batch in member.exchange.pull(member.did, transfer)])
    asking.exchange.hosting.claims._standing.clear()  # what was proven is known no more, until it is proven anew
    with pytest.raises(Refused) as refused:
        _ = [batch async for batch in member.exchange.pull(member.did, transfer)]
    offer = {**offered.policy, "@id": offered.offer_id, "@type": "Offer", "target": offered.dataset_id}
    asked = await member.exchange.negotiate(member.did, not_asking.base, not_asking.did, offer)
    ended = await member.exchange.wait_negotiation(member.did, asked, timeout_s=5)

    assert hidden.offers == ()
    assert rows == 3
    assert f"Membership: {member.did} has not proven MembershipCredential" in refused.value.facts["reason"]
    assert ended.state == "TERMINATED"


async def test_an_unknown_term_is_refused_by_name_before_an_agreement_at_it_and_after_it(
    pair: Any, product: Any, agreed: Any, started: Any
) -> None:
    provider, consumer = pair
    unknown = limited("https://example.org/moonPhase", "eq", "full")
    with pytest.raises(Refused) as offering:
        await provider.exchange.offer(provider.did, product(policy=unknown))
    with pytest.raises(Refused) as asking:
        await consumer.exchange.negotiate(
            consumer.did, provider.base, provider.did, {**unknown, "@id": "o", "@type": "Offer", "target": "d"}
        )

    plain = product(id="plain", terms="", price={})
    await provider.exchange.offer(provider.did, plain)
    offer = {**unknown, "@id": plain.offer_id, "@type": "Offer", "target": plain.dataset_id}
    body = message(
        "ContractRequestMessage",
        id="m1",
        consumerPid="c1",
        offer=offer,
        callbackAddress=f"{consumer.address}/dsp/2025-1",
    )
    token = consumer.exchange.hosting.tokens.issue(consumer.identity, provider.did)
    at_it = await consumer.network.request(
        "POST",
        f"{provider.base}/negotiations/request",
        body=orjson.dumps(body),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )

    agreement_id = await agreed(provider, consumer)
    transfer = await started(provider, consumer, agreement_id)
    row = await provider.records.row(select(AGREEMENTS).where(AGREEMENTS.c.id == agreement_id))
    document = {**orjson.loads(row["agreement"]), **rules_of(unknown)}
    async with provider.records.step(provider.did) as step:  # as an earlier release may have left it
        step.update(AGREEMENTS, {"id": agreement_id}, {"agreement": orjson.dumps(document)})
    provider.exchange.negotiating._agreements.clear()
    with pytest.raises(Refused) as using:
        _ = [batch async for batch in consumer.exchange.pull(consumer.did, transfer)]
    ours, theirs = await both_ended(provider, consumer)

    for refused in (offering, asking):
        assert refused.value.code == "exchange.term-refused"
        assert "moonPhase" in refused.value.facts["term"]
    assert at_it.status == 400
    assert b"moonPhase" in at_it.body
    assert "moonPhase" in using.value.facts["reason"]
    assert ours == theirs
    assert "moonPhase" in ours[0]
    assert len(provider.records.rows_now(select(TRANSFERS.c.pid))) == 1
