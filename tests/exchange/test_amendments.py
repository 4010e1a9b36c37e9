"""A live agreement is amended and ended: both sides' proof, what holds from then on, and what a plain connector sees of it (nothing)."""

from __future__ import annotations

import asyncio
import json

import pytest

from guantong.base.errors import GuantongError, Refused
from guantong.exchange.amendment import verify_amendment
from guantong.exchange.ports import Verdict

FEWER = {"permission": [{"action": "use", "constraint": [
    {"leftOperand": "count", "operator": "lteq", "rightOperand": "1"}]}]}  # fmt: skip


@pytest.fixture
async def live(pair, agreed, started):
    provider, consumer = pair
    agreement = await agreed(provider, consumer)
    return provider, consumer, agreement, await started(provider, consumer, agreement)


async def settled(company, identifier, *states):
    for _ in range(400):
        found = await company.exchange.amendments.get(company.did, identifier)
        if found.state in states:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(found)


async def arrived(company, agreement, count=1):
    for _ in range(400):
        found = await company.exchange.amendments.all(company.did, agreement)
        if len(found) >= count:
            return found[-1]
        await asyncio.sleep(0.005)
    raise AssertionError("nothing came")


async def pulled(company, pid):
    return sum([batch.num_rows async for batch in company.exchange.pull(company.did, pid)])


async def test_an_amendment_holds_for_both_from_the_step_in_which_the_other_side_accepts(live):
    provider, consumer, agreement, pid = live
    old = await provider.exchange.agreement(provider.did, agreement)
    assert await pulled(consumer, pid) == 3
    one = await provider.exchange.amendments.propose(
        provider.did, agreement, policy=FEWER, terms="Once only.", reason="the order was cut"
    )
    seen = await arrived(consumer, agreement)
    assert (seen.id, seen.kind, seen.by, seen.state) == (one, "amend", "partner", "proposed")
    assert (await consumer.exchange.agreement(consumer.did, agreement)).agreement_hash == old.agreement_hash

    await consumer.exchange.amendments.decide(consumer.did, one, accept=True)
    mine = await settled(provider, one, "accepted")
    new = await provider.exchange.agreement(provider.did, agreement)
    theirs = await consumer.exchange.agreement(consumer.did, agreement)
    assert new.agreement_hash == theirs.agreement_hash != old.agreement_hash
    assert (new.terms, new.price, new.agreement["@id"]) == ("Once only.", old.price, agreement)
    with pytest.raises(GuantongError):  # one delivery was made, one is allowed now
        await pulled(consumer, pid)

    keys = provider.identity.evidence_key.public, consumer.identity.evidence_key.public
    assert verify_amendment(mine.proposal, mine.signature, mine.answer, *keys) == []
    for company in (provider, consumer):
        assert await company.exchange.amendments.verify(company.did, agreement) == ()
        states = [leaf["state"] for leaf in company.leaves("exchange.agreement-amended")]
        assert states == ["proposed", "accepted"]
        assert company.leaves("exchange.agreement-made")[-1]["agreementHash"] == new.agreement_hash
    changed = {**mine.proposal, "terms": "Never."}
    assert verify_amendment(changed, mine.signature, mine.answer, *keys)
    assert verify_amendment(mine.proposal, mine.signature, mine.answer, *reversed(keys))


async def test_a_restart_keeps_the_amended_agreement_and_a_receipt_of_before_is_still_answered(live, network):
    provider, consumer, agreement, pid = live
    held = True

    def hold(method, url, body):
        if held and url.endswith("/guantong/receipts"):
            from guantong.base.errors import Retryable

            raise Retryable("web.unreachable", url=url, reason="held in this test")
        return

    network.before.append(hold)
    await pulled(consumer, pid)
    one = await consumer.exchange.amendments.propose(consumer.did, agreement, policy=FEWER)
    await arrived(provider, agreement)
    await provider.exchange.amendments.decide(provider.did, one, accept=True)
    await settled(consumer, one, "accepted")
    held = False
    (receipt,) = await provider.exchange.wait_receipts(provider.did, agreement, timeout_s=5)
    assert receipt.state == "acknowledged"

    await consumer.stop()
    consumer.build()
    await consumer.start()
    kept = await consumer.exchange.agreement(consumer.did, agreement)
    assert kept.agreement_hash == (await provider.exchange.agreement(provider.did, agreement)).agreement_hash


async def test_an_amendment_that_is_refused_changes_nothing(live):
    provider, consumer, agreement, pid = live
    before = await consumer.exchange.agreement(consumer.did, agreement)
    one = await consumer.exchange.amendments.propose(consumer.did, agreement, policy=FEWER)
    with pytest.raises(Refused) as again:
        await consumer.exchange.amendments.propose(consumer.did, agreement, policy=FEWER)
    assert again.value.code == "exchange.amendment-open"
    await arrived(provider, agreement)
    await provider.exchange.amendments.decide(provider.did, one, accept=False, reason="no")
    refused = await settled(consumer, one, "refused")

    assert refused.answer["statement"]["reason"] == "no"
    assert await consumer.exchange.agreement(consumer.did, agreement) == before
    assert await pulled(consumer, pid) == 3
    with pytest.raises(Refused) as closed:
        await provider.exchange.amendments.decide(provider.did, one, accept=True)
    assert closed.value.code == "exchange.amendment-closed"


async def test_of_two_proposals_at_once_the_provider_s_stands(live, network):
    provider, consumer, agreement, _ = live
    gate = asyncio.Event()
    real = network.request

    async def held(method, url, **options):
        if "amendments" in url:
            await gate.wait()
        return await real(method, url, **options)

    network.request = held
    theirs = await consumer.exchange.amendments.propose(consumer.did, agreement, policy=FEWER, terms="mine")
    ours = await provider.exchange.amendments.propose(provider.did, agreement, policy=FEWER, terms="ours")
    gate.set()
    await settled(consumer, theirs, "refused", "superseded")
    await arrived(consumer, agreement, 2)
    await consumer.exchange.amendments.decide(consumer.did, ours, accept=True)
    await settled(provider, ours, "accepted")

    for company in (provider, consumer):
        assert (await company.exchange.agreement(company.did, agreement)).terms == "ours"


@pytest.mark.parametrize("ender", ["provider", "consumer"])
async def test_either_side_ends_the_agreement_and_the_other_signs_that_it_heard(live, ender):
    provider, consumer, agreement, pid = live
    first, second = (provider, consumer) if ender == "provider" else (consumer, provider)
    one = await first.exchange.amendments.end(first.did, agreement, reason="the order is done")
    with pytest.raises(GuantongError):
        await pulled(consumer, pid)
    heard = await settled(first, one, "accepted")

    assert heard.answer["statement"]["verdict"] == "heard"
    for company in (first, second):
        assert (await company.exchange.agreement(company.did, agreement)).state == "ended"
        assert await company.exchange.amendments.verify(company.did, agreement) == ()
        for transfer in await company.exchange.transfers(company.did):
            await company.exchange.wait_transfer(company.did, transfer.pid, states=("TERMINATED",), timeout_s=5)
    with pytest.raises(Refused):
        await consumer.exchange.request_transfer(consumer.did, agreement)


async def test_a_delivery_that_runs_stops_when_its_agreement_is_ended(companies, agreed, started, network):
    import pyarrow as pa

    provider = await companies("localhost:7001", chunk_rows=10, whole_bytes=1)
    consumer = await companies("localhost:7002")
    provider.table = pa.table({"value": list(range(1000))})
    agreement = await agreed(provider, consumer)
    pid = await started(provider, consumer, agreement)
    rows = 0
    with pytest.raises(GuantongError):
        async for batch in consumer.exchange.pull(consumer.did, pid):
            rows += batch.num_rows
            if rows == 10:
                await provider.exchange.amendments.end(provider.did, agreement)

    assert 10 <= rows < 200
    await provider.exchange.plane.stop()
    (receipt,) = await provider.exchange.receipts(provider.did, agreement)
    assert receipt.record["complete"] is False


async def test_a_plain_connector_meets_only_the_end_of_its_transfers(live, network, monkeypatch):
    provider, consumer, agreement, pid = live

    async def plain(partner):
        return ""

    monkeypatch.setattr(provider.exchange.hosting, "partner_extension", plain)
    network.log.clear()
    one = await provider.exchange.amendments.propose(provider.did, agreement, policy=FEWER)
    await settled(provider, one, "one-sided")
    assert network.log == []
    assert (await provider.exchange.agreement(provider.did, agreement)).policy_hash == (
        await consumer.exchange.agreement(consumer.did, agreement)
    ).policy_hash

    end = await provider.exchange.amendments.end(provider.did, agreement)
    await settled(provider, end, "one-sided")
    done = await consumer.exchange.wait_transfer(consumer.did, pid, states=("TERMINATED",), timeout_s=5)
    assert done.reason == "the agreement has ended"
    assert {url.rpartition("/")[2] for _, url, _ in network.log if "guantong" in url} == set()
    assert await consumer.exchange.amendments.all(consumer.did, agreement) == []


async def test_what_can_t_be_amended_is_named(live):
    provider, consumer, agreement, _ = live
    with pytest.raises(Refused) as unknown:
        odd = {"permission": [{"action": "use", "constraint": [
            {"leftOperand": "odd", "operator": "eq", "rightOperand": "1"}]}]}  # fmt: skip
        await provider.exchange.amendments.propose(provider.did, agreement, policy=odd)
    assert unknown.value.code == "exchange.term-refused"

    one = await provider.exchange.amendments.propose(provider.did, agreement, policy=FEWER)
    good = json.loads(json.dumps(dict((await arrived(consumer, agreement)).proposal)))
    outbox = provider.exchange.hosting
    for change, words in (
        ({"target": "urn:else"}, "target"),
        ({"assignee": provider.did}, "assignee"),
        ({"permission": [{"action": "use"}]}, "price"),
    ):
        proposal = {**good, "id": "urn:x", "agreement": {**good["agreement"], **change}}
        signature = provider_signature(provider, proposal)
        answer = await outbox.request(
            provider.did, consumer.did, "POST", f"{consumer.address}/guantong/amendments",
            {"proposal": proposal, "signature": signature},
        )  # fmt: skip
        assert answer.status == 400, change
        assert words in answer.body.decode()
    for proposal, signature in (
        (good, provider_signature(consumer, good)),
        ({**good, "id": "urn:y", "other": "did:web:else.example"}, ""),
        ({**good, "more": 1}, ""),
    ):
        answer = await outbox.request(
            provider.did, consumer.did, "POST", f"{consumer.address}/guantong/amendments",
            {"proposal": proposal, "signature": signature or provider_signature(provider, proposal)},
        )  # fmt: skip
        assert answer.status == 400
    assert [found.id for found in await consumer.exchange.amendments.all(consumer.did, agreement)] == [one]


async def test_a_decision_point_sees_the_amended_rules(live):
    provider, consumer, agreement, pid = live
    seen = []

    async def decide(access):
        found = await provider.exchange.agreement(access.participant, access.agreement_id)
        seen.append(found.policy_hash)
        return Verdict(allowed=True, reason="")

    provider.exchange.hosting.decide = decide
    await pulled(consumer, pid)
    many = {"permission": [{"action": "use", "constraint": [
        {"leftOperand": "count", "operator": "lteq", "rightOperand": "9"}]}]}  # fmt: skip
    one = await consumer.exchange.amendments.propose(consumer.did, agreement, policy=many)
    await arrived(provider, agreement)
    await provider.exchange.amendments.decide(provider.did, one, accept=True)
    await pulled(consumer, pid)

    assert len(set(seen)) == 2


def provider_signature(company, proposal):
    from guantong.base.canonical import b64, canonical_bytes

    return b64(company.identity.evidence_key.sign(canonical_bytes(proposal)))


async def test_people_propose_answer_and_end_with_actions_that_pages_and_commands_use(live):
    from types import SimpleNamespace

    from guantong.web.amendment_actions import AMENDMENT_ACTIONS
    from guantong.web.ask import Ask

    provider, consumer, agreement, _ = live
    acts = {action.path: action for action in AMENDMENT_ACTIONS}

    async def act(company, path, **fields):
        rooms = SimpleNamespace(exchange=company.exchange, participant=company.did)
        assert set(fields) <= {field.name for field in acts[path].fields}
        return await acts[path].run(rooms, Ask({}, fields))

    with pytest.raises(GuantongError):
        await act(provider, "/contracts/amend", agreement=agreement, policy="[]")
    made = await act(provider, "/contracts/amend", agreement=agreement, policy=json.dumps(FEWER), reason="fewer")
    await arrived(consumer, agreement)
    done = await act(consumer, "/contracts/amendments/answer", proposal=made["proposal"], verdict="accept")
    assert done["state"] == "accepted"
    await settled(provider, made["proposal"], "accepted")
    await act(consumer, "/contracts/end", agreement=agreement, reason="enough")
    listed = await act(consumer, "/contracts/amendments/list", agreement=agreement)
    assert [(one["kind"], one["reason"]) for one in listed["proposals"]] == [("amend", "fewer"), ("end", "enough")]
    assert listed["problems"] == []
    assert await act(provider, "/planes/list") == {"planes": []}
    with pytest.raises(GuantongError):
        await act(provider, "/planes/serve", dataset="d", plane="none")


async def test_a_receipt_of_the_amended_text_that_overtakes_the_acceptance_is_taken_when_that_has_come(live, network):
    """Found by simulated days 73 and 108: the consumer's own proposal was accepted, and it had not heard so yet."""
    provider, consumer, agreement, pid = live
    gate = asyncio.Event()
    real = network.request

    async def held(method, url, **options):
        if url.endswith("/amendments/answers"):
            await gate.wait()
        return await real(method, url, **options)

    network.request = held
    many = {"permission": [{"action": "use", "constraint": [
        {"leftOperand": "count", "operator": "lteq", "rightOperand": "9"}]}]}  # fmt: skip
    one = await consumer.exchange.amendments.propose(consumer.did, agreement, policy=many)
    await arrived(provider, agreement)
    await provider.exchange.amendments.decide(provider.did, one, accept=True)
    await pulled(consumer, pid)
    await asyncio.sleep(0.1)
    gate.set()
    (receipt,) = await provider.exchange.wait_receipts(provider.did, agreement, timeout_s=5)

    assert receipt.state == "acknowledged"
    new = await consumer.exchange.agreement(consumer.did, agreement)
    assert receipt.record["agreementHash"] == new.agreement_hash
