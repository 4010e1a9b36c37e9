"""A dataset as a stream: taken up by sequence after a cut, held back by what is not acknowledged, signed for as it goes."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
import pyarrow as pa
import pytest

from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.exchange.messages import token_of
from guantong.exchange.stream import row_digest

ROWS = 1000


@pytest.fixture
async def streaming(companies, agreed, started):
    async def make(**options):
        settings = {"chunk_rows": 10, "whole_bytes": 1, "stream_window": 4, **options}
        provider = await companies("localhost:7001", **settings)
        consumer = await companies("localhost:7002")
        provider.table = pa.table({"number": list(range(ROWS)), "name": [f"n{number}" for number in range(ROWS)]})
        agreement = await agreed(provider, consumer)
        return provider, consumer, await started(provider, consumer, agreement)

    return make


def numbers(batches):
    return [number for batch in batches for number in batch.column("number").to_pylist()]


async def theirs(provider):
    (transfer,) = await provider.exchange.transfers(provider.did)
    return transfer.pid


async def test_a_stream_arrives_whole_with_its_sequence_and_every_chunk_is_signed_for(streaming):
    provider, consumer, pid = await streaming()
    got = [item async for item in consumer.exchange.streams.read(consumer.did, pid)]

    assert numbers(batch for _, batch in got) == list(range(ROWS))
    assert [sequence for sequence, _ in got] == list(range(10, ROWS + 1, 10))
    assert await provider.exchange.streams.acknowledged(provider.did, await theirs(provider)) == ROWS
    for company in (provider, consumer):
        said = [leaf["acknowledgement"]["sequence"] for leaf in company.leaves("exchange.stream-acknowledged")]
        assert said[-1] == ROWS
        assert said == sorted(said)
    (receipt,) = await provider.exchange.wait_receipts(
        provider.did, (await provider.exchange.agreements(provider.did))[0].id
    )
    assert (receipt.state, receipt.record["rows"], receipt.record["complete"]) == ("acknowledged", ROWS, True)


async def test_no_more_than_the_window_is_out_while_nobody_acknowledges(streaming, network):
    provider, consumer, pid = await streaming(stream_window=4, stream_wait_s=0.3)
    endpoint, token = token_of((await consumer.exchange.transfer(consumer.did, pid)).data_address)
    received = b""
    with contextlib.suppress(GuantongError):
        async with network.stream("GET", endpoint + "/stream", headers={"authorization": token}) as stream:
            async for chunk in stream.chunks():
                received += chunk
    await provider.exchange.plane.stop()

    (receipt,) = await provider.exchange.receipts(
        provider.did, (await provider.exchange.agreements(provider.did))[0].id
    )
    assert (receipt.record["rows"], receipt.record["complete"]) == (40, False)
    assert len(received) == receipt.record["bytes"]


async def test_a_slow_consumer_holds_the_provider_back(streaming):
    provider, consumer, pid = await streaming()
    read = consumer.exchange.streams.read(consumer.did, pid)
    async with contextlib.aclosing(read) as items:
        await anext(items)
        await asyncio.sleep(0.2)
        pace = provider.exchange.streams.paces[(provider.did, await theirs(provider))]
        assert pace.most_out <= 4
        rest = [item async for item in items]
    assert len(rest) == 99
    assert pace.most_out <= 4


@pytest.mark.parametrize("cuts", [(3,), (1, 7, 8, 30)])
async def test_after_a_cut_the_stream_goes_on_and_every_row_comes_once(streaming, network, cuts):
    provider, consumer, pid = await streaming()
    real, left, begun = network.stream, list(cuts), []

    @contextlib.asynccontextmanager
    async def cutting(method, url, **options):
        async with real(method, url, **options) as stream:
            if "/stream" in url and method == "GET":
                begun.append(url.partition("?")[2])
                chunks, number = stream.chunks, 0

                async def some():
                    nonlocal number
                    async for chunk in chunks():
                        number += 1
                        if left and number > left[0]:
                            left.pop(0)
                            raise Retryable("web.unreachable", url=url, reason="cut in this test")
                        yield chunk

                stream.chunks = some
            yield stream

    network.stream = cutting
    got = [item async for item in consumer.exchange.streams.read(consumer.did, pid)]

    assert numbers(batch for _, batch in got) == list(range(ROWS))
    assert len(begun) == len(cuts) + 1
    assert all("after=" in query for query in begun[1:])
    assert (
        await provider.exchange.deliveries(provider.did, (await provider.exchange.agreements(provider.did))[0].id) == 1
    )
    assert len(provider.leaves("exchange.delivery-intended")) == len(cuts) + 1


async def test_a_later_run_takes_up_what_was_added_meanwhile(streaming):
    provider, consumer, pid = await streaming()
    first = [item async for item in consumer.exchange.streams.read(consumer.did, pid)]
    sequence, last = first[-1]
    more = pa.table({"number": [ROWS, ROWS + 1], "name": ["a", "b"]})
    provider.table = pa.concat_tables([provider.table, more])
    rest = [
        item async for item in consumer.exchange.streams.read(consumer.did, pid, after=sequence, row=row_digest(last))
    ]

    assert numbers(batch for _, batch in rest) == [ROWS, ROWS + 1]
    assert rest[-1][0] == ROWS + 2


async def test_a_stream_whose_rows_changed_or_that_was_acknowledged_can_t_be_taken_up_there(streaming, network):
    provider, consumer, pid = await streaming()
    endpoint, token = token_of((await consumer.exchange.transfer(consumer.did, pid)).data_address)

    async def ask(query, key=token):
        answer = await network.request("GET", f"{endpoint}/stream?{query}", headers={"authorization": key})
        return answer.status, orjson.loads(answer.body).get("code")

    assert await ask("after=20&row=other") == (409, "exchange.stream-changed")
    assert await ask(f"after={ROWS + 5}&row=x") == (409, "exchange.stream-changed")
    assert await ask("after=-1") == (400, "exchange.message-invalid")
    assert await ask("after=0", key="guess") == (401, "exchange.token-refused")
    assert provider.leaves("exchange.delivery-intended") == []
    [item async for item in consumer.exchange.streams.read(consumer.did, pid)]
    assert await ask("after=20&row=x") == (409, "exchange.stream-changed")


async def test_an_acknowledgement_that_the_consumer_did_not_sign_opens_nothing(streaming, network):
    provider, consumer, pid = await streaming()
    endpoint, token = token_of((await consumer.exchange.transfer(consumer.did, pid)).data_address)
    real, posted = network.request, []

    async def kept(method, url, **options):
        if url.endswith("/acknowledgements"):
            posted.append(options["body"])
        return await real(method, url, **options)

    network.request = kept
    read = consumer.exchange.streams.read(consumer.did, pid)
    async with contextlib.aclosing(read) as items:
        for _ in range(5):
            await anext(items)
    good = orjson.loads(posted[0])
    at = await provider.exchange.streams.acknowledged(provider.did, await theirs(provider))

    async def post(body, key=token):
        answer = await real(
            "POST", endpoint + "/stream/acknowledgements", body=orjson.dumps(body), headers={"authorization": key}
        )
        return answer.status

    more = {**good["acknowledgement"], "sequence": 900}
    for body in ({}, {"acknowledgement": more}, {**good, "acknowledgement": more}, {**good, "signature": "AAAA"},
                 {**good, "acknowledgement": {**good["acknowledgement"], "consumer": provider.did}}):  # fmt: skip
        assert await post(body) == 400, body
    assert await post(good, key="guess") == 401
    assert await post(good) == 204  # said again: nothing changes
    assert await provider.exchange.streams.acknowledged(provider.did, await theirs(provider)) == at


async def test_a_stream_ends_when_its_transfer_does_and_does_not_begin_without_a_decision(streaming):
    from guantong.exchange.ports import Verdict

    provider, consumer, pid = await streaming()
    got = 0
    with pytest.raises((Refused, Retryable)):
        async for _ in consumer.exchange.streams.read(consumer.did, pid):
            got += 1
            if got == 5:
                await provider.exchange.decide_transfer(provider.did, await theirs(provider), "suspend")
    assert 5 <= got <= 12
    await provider.exchange.decide_transfer(provider.did, await theirs(provider), "start")
    await consumer.exchange.wait_transfer(consumer.did, pid, states=("STARTED",))
    provider.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    with pytest.raises(Refused):
        [item async for item in consumer.exchange.streams.read(consumer.did, pid)]
