"""Races between connectors, each with the test that shows it.

| race (where it was seen) | test | seeds |
|---|---|---|
| The first callback is answered 409 or 404, since the partner has not yet recorded its own request (EDC consumer, 0-5 ms) | ``test_exchange::test_a_first_callback_that_comes_too_early_is_repeated``, ``test_a_start_that_comes_too_early_is_repeated``, ``test_edc_wire::test_a_409_to_the_first_callback…`` | ``too early`` |
| The first callback overtakes the answer to the request (a provider that sends before it answers) | ``test_exchange::test_a_callback_may_overtake_the_answer_to_the_request``, ``test_a_start_may_overtake_the_answer_to_its_request`` | delay, ``lost answer`` |
| A provider sends "started" before it has recorded it, and our next message meets 409 (dataspace-in-a-box) | here: :func:`test_what_follows_a_start_too_fast_is_a_person_s_matter_and_no_loop` | |
| A request is repeated (EDC now and then): the same process, also at the same moment | ``test_exchange::test_the_same_consumer_pid_gives_the_same_process``; here: :func:`test_the_same_request_twice_at_once_is_one_process` | ``repeated`` |
| A message is repeated after its successor | ``test_exchange::test_a_repeated_message_is_acknowledged_and_changes_nothing``; here: :func:`test_an_old_message_that_comes_late_moves_nothing` | ``repeated`` |
| Both sides move at once, in opposite directions | here: :func:`test_both_sides_end_a_transfer_at_once` | |
| A consumer's token is used at the moment its transfer ends | ``test_exchange::test_an_open_delivery_stops_when_its_transfer_is_terminated`` | |
| Two pulls at once against one remaining use | ``test_exchange::test_a_count_holds_against_pulls_at_the_same_moment`` | |
| Two proposals to amend at once | ``test_amendments::test_of_two_proposals_at_once_the_provider_s_stands`` | ``propose`` |
| A crash between any two steps of either side | | ``crash`` |

"Seeds" is the word in a run's trace: ``python -m tests.simulation --seed N`` prints it, ``--seeds 10000`` runs as many.
"""

from __future__ import annotations

import asyncio

import orjson
import pytest

from guantong.base.wire import Response


async def posted(company, partner, url, body):
    return await company.exchange.hosting.request(company.did, partner.did, "POST", url, body)


async def test_the_same_request_twice_at_once_is_one_process(pair, agreed, network):
    provider, consumer = pair
    agreement = await agreed(provider, consumer)
    sent = []

    def keep(method, url, body):
        if url.endswith("/transfers/request"):
            sent.append(orjson.loads(body))
        return

    network.before.append(keep)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await consumer.exchange.wait_transfer(consumer.did, pid, states=("STARTED",))
    request = {**sent[0], "consumerPid": "urn:once"}
    url = f"{provider.base}/transfers/request"
    answers = await asyncio.gather(*(posted(consumer, provider, url, request) for _ in range(8)))

    assert {answer.status for answer in answers} <= {200, 201}
    assert len({orjson.loads(answer.body)["providerPid"] for answer in answers}) == 1
    assert len([one for one in await provider.exchange.transfers(provider.did) if one.partner_pid == "urn:once"]) == 1


@pytest.mark.parametrize("verbs", [("terminate", "terminate"), ("complete", "terminate"), ("suspend", "terminate")])
async def test_both_sides_end_a_transfer_at_once(pair, agreed, started, network, verbs):
    """Each has moved before the other's message comes. Whoever is told what it can't do any more stays where it is; nothing is tried for ever."""
    provider, consumer = pair
    pid = await started(provider, consumer, await agreed(provider, consumer))
    theirs = (await consumer.exchange.transfer(consumer.did, pid)).partner_pid
    gate = asyncio.Event()
    real = network.request

    async def held(method, url, **options):
        if "/transfers/" in url:
            await gate.wait()
        return await real(method, url, **options)

    network.request = held
    await provider.exchange.decide_transfer(provider.did, theirs, verbs[0])
    await consumer.exchange.decide_transfer(consumer.did, pid, verbs[1])
    gate.set()
    for company in pair:
        await asyncio.wait_for(company.outbox.drained(), 5)
    states = [
        (await provider.exchange.transfer(provider.did, theirs)).state,
        (await consumer.exchange.transfer(consumer.did, pid)).state,
    ]

    assert states[1] == "TERMINATED"
    assert states[0] in ("TERMINATED", "COMPLETED")  # a suspended one is ended by the other's termination
    assert len([url for _, url, _ in network.log if url.endswith(("/termination", "/completion", "/suspension"))]) == 2


async def test_an_old_message_that_comes_late_moves_nothing(pair, agreed, started, network):
    provider, consumer = pair
    kept = []

    def keep(method, url, body):
        if url.endswith(("/suspension", "/start")):
            kept.append((url, orjson.loads(body)))
        return

    network.before.append(keep)
    pid = await started(provider, consumer, await agreed(provider, consumer))
    theirs = (await consumer.exchange.transfer(consumer.did, pid)).partner_pid
    for verb, state in (("suspend", "SUSPENDED"), ("start", "STARTED")):
        await provider.exchange.decide_transfer(provider.did, theirs, verb)
        await consumer.exchange.wait_transfer(consumer.did, pid, states=(state,))
    before = await consumer.exchange.transfer(consumer.did, pid)
    for url, body in list(kept):
        assert (await posted(provider, consumer, url, body)).status == 200
    assert await consumer.exchange.transfer(consumer.did, pid) == before


async def test_what_follows_a_start_too_fast_is_a_person_s_matter_and_no_loop(pair, agreed, started, network):
    """A partner that has not recorded its own start answers 409 to what follows: told to a person, who may send it again; not lost."""
    provider, consumer = pair
    pid = await started(provider, consumer, await agreed(provider, consumer))
    refused = []

    def refuse(method, url, body):
        if url.endswith("/completion") and not refused:
            refused.append(url)
            return Response(409, b"{}")
        return None

    network.before.append(refuse)
    await consumer.exchange.decide_transfer(consumer.did, pid, "complete")
    await asyncio.wait_for(consumer.outbox.drained(), 5)
    assert (await consumer.exchange.transfer(consumer.did, pid)).waiting == "person"
    (stuck,) = await consumer.outbox.stuck(consumer.did)
    await consumer.outbox.retry(consumer.did, stuck.kind, stuck.key)
    theirs = (await consumer.exchange.transfer(consumer.did, pid)).partner_pid
    done = await provider.exchange.wait_transfer(provider.did, theirs, states=("COMPLETED",), timeout_s=5)

    assert done.state == "COMPLETED"
    assert len(refused) == 1
