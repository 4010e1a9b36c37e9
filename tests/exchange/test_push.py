"""Data planes beside the plain pull: token renewal, HttpData-PUSH to an address and to an inbox, AmazonS3-PUSH."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import threading
from urllib.parse import urlencode

import orjson
import pyarrow as pa
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from guantong.base.clock import NS, SystemClock
from guantong.base.errors import Refused
from guantong.exchange.encoding import ArrowReader
from guantong.exchange.messages import problems, properties_of
from guantong.exchange.push import HttpTarget, target_of
from guantong.exchange.s3 import Bucket, put_object, signed_headers
from guantong.web.client import AiohttpClient
from guantong.web.model import WebSettings

EDC = "https://w3id.org/edc/v0.0.1/ns/"


def address(kind: str, **properties: str) -> dict:
    return {
        "@type": "DataAddress",
        "endpointType": kind,
        "endpointProperties": [
            {"@type": "EndpointProperty", "name": EDC + name, "value": value} for name, value in properties.items()
        ],
    }


# -- renewal


async def refresh(network, provider, consumer, transfer, **changes):
    given = {**properties_of(transfer.data_address), **changes}
    token = consumer.exchange.hosting.tokens.issue(
        given.get("identity", consumer.identity),
        given.get("audience", provider.did),
        access_token=given["authorization"],
    )
    form = {"grant_type": given.get("grant", "refresh_token"), "refresh_token": given["refreshToken"]}
    answer = await network.request(
        "POST",
        given["refreshEndpoint"] + ("?" + urlencode(form) if given.get("in_query") else ""),
        body=b"" if given.get("in_query") else urlencode(form).encode(),
        headers={"authorization": f"Bearer {token}"},
    )
    return answer.status, orjson.loads(answer.body)


@pytest.mark.parametrize("in_query", ["", "yes"])
async def test_a_refresh_token_gets_the_next_access_token_once(pair, agreed, started, network, in_query):
    provider, consumer = pair
    transfer = await consumer.exchange.transfer(
        consumer.did, await started(provider, consumer, await agreed(provider, consumer))
    )
    names = {entry["name"] for entry in transfer.data_address["endpointProperties"]}
    for name in ("refreshToken", "refreshEndpoint", "expiresIn"):
        assert {name, f"https://w3id.org/tractusx/auth/{name}"} <= names
    assert {"authorization", "authType", f"{EDC}authorization", f"{EDC}authType", f"{EDC}endpoint"} <= names

    status, answer = await refresh(network, provider, consumer, transfer, in_query=in_query)
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "bearer", 3600)
    got = await network.request(
        "GET", properties_of(transfer.data_address)["endpoint"], headers={"authorization": answer["access_token"]}
    )
    assert got.status == 200
    old = await network.request(
        "GET",
        properties_of(transfer.data_address)["endpoint"],
        headers={"authorization": properties_of(transfer.data_address)["authorization"]},
    )
    assert old.status == 401
    assert (await refresh(network, provider, consumer, transfer))[0] == 400


async def test_a_refresh_is_refused_to_another_and_with_anything_wrong(companies, agreed, started, network):
    provider, consumer, thief = [await companies(f"localhost:700{n}") for n in (1, 2, 3)]
    transfer = await consumer.exchange.transfer(
        consumer.did, await started(provider, consumer, await agreed(provider, consumer))
    )
    for changes, status, error in (
        ({"refreshToken": "guess"}, 400, "invalid_grant"),
        ({"authorization": "guess"}, 400, "invalid_grant"),
        ({"grant": "password"}, 400, "invalid_grant"),
        ({"identity": thief.identity}, 400, "invalid_grant"),
        ({"audience": thief.did}, 401, "invalid_client"),
    ):
        found, answer = await refresh(network, provider, consumer, transfer, **changes)
        assert (found, answer["error"]) == (status, error), changes
    assert (await refresh(network, provider, consumer, transfer))[0] == 200


# -- push over HTTP


async def test_a_push_without_a_target_comes_to_the_own_inbox_and_is_countersigned(pair, agreed):
    provider, consumer = pair
    arrived: list[pa.RecordBatch] = []

    async def inbox(participant, transfer, media_type, chunks):
        reader = ArrowReader()
        rows = 0
        async for chunk in chunks:
            for batch in reader.feed(chunk):
                arrived.append(batch)
                rows += batch.num_rows
        return rows

    consumer.exchange.receive_pushes(inbox)
    agreement = await agreed(provider, consumer)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement, format="HttpData-PUSH")
    done = await consumer.exchange.wait_transfer(consumer.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=5)
    receipts = await provider.exchange.wait_receipts(provider.did, agreement, timeout_s=5)

    assert done.state == "COMPLETED", done.reason
    assert pa.Table.from_batches(arrived).equals(provider.table)
    assert [(one.state, one.record["rows"]) for one in receipts] == [("acknowledged", 3)]
    assert (done.token_hash, done.data_address) == ("", {})


async def test_a_push_to_an_address_carries_the_asked_for_authorization_and_its_receipt_is_one_sided(
    pair, agreed, network
):
    provider, consumer = pair
    heard = []

    async def sink(request):
        heard.append((request.method, request.headers.get("x-key"), len(await request.body())))
        return Response(status_code=201)

    network.apps["localhost:9001"] = Starlette(routes=[Route("/in/{id}", sink, methods=["PUT"])])
    agreement = await agreed(provider, consumer)
    target = address(
        "HttpData", baseUrl="http://localhost:9001/in", path="7", method="put", authKey="X-Key", authCode="s"
    )
    pid = await consumer.exchange.request_transfer(consumer.did, agreement, format="HttpData-PUSH", target=target)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=5)

    assert done.state == "COMPLETED", done.reason
    assert [(method, key) for method, key, _ in heard] == [("PUT", "s")]
    assert [one.state for one in await provider.exchange.receipts(provider.did, agreement)] == ["one-sided"]


@pytest.mark.parametrize(("status", "tries", "state"), [(503, 3, "COMPLETED"), (403, 1, "TERMINATED")])
async def test_a_push_is_tried_again_unless_it_is_refused(pair, agreed, network, status, tries, state):
    provider, consumer = pair
    heard = []

    async def sink(request):
        await request.body()
        heard.append(1)
        return Response(status_code=status if len(heard) < 3 else 200)

    network.apps["localhost:9001"] = Starlette(routes=[Route("/in", sink, methods=["POST"])])
    target = address("HttpData", baseUrl="http://localhost:9001/in")
    agreement = await agreed(provider, consumer)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement, format="HttpData-PUSH", target=target)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=5)

    assert (done.state, len(heard)) == (state, tries)
    assert state == "COMPLETED" or "403" in done.reason


async def test_an_inbox_takes_nothing_without_its_token(pair, agreed, network):
    provider, consumer = pair
    pid = await consumer.exchange.request_transfer(
        consumer.did, await agreed(provider, consumer), format="HttpData-PUSH"
    )
    for token in ("", "Bearer guess"):
        answer = await network.request(
            "POST", f"{consumer.address}/inbox/{pid}", body=b"x", headers={"authorization": token}
        )
        assert answer.status == 401


@pytest.mark.parametrize(
    ("form", "target", "reason"),
    [
        ("HttpData-PUSH", {}, "no http"),
        ("HttpData-PUSH", address("HttpData", baseUrl="file:///etc/passwd"), "no http"),
        ("HttpData-PUSH", address("HttpData", baseUrl="http://user:pw@host/"), "no http"),
        ("HttpData-PUSH", address("HttpData", baseUrl="http://host/", method="DELETE"), "neither POST nor PUT"),
        (
            "HttpData-PUSH",
            address("HttpData", baseUrl="http://host/", authKey="A\r\nB", authCode="x"),
            "can't be a header",
        ),
        ("AmazonS3-PUSH", address("AmazonS3", bucketName="b", region="r"), "missing"),
        ("AzureStorage-PUSH", {}, "not pushed"),
    ],
)
def test_an_unusable_target_is_named(form, target, reason):
    with pytest.raises(Refused) as refused:
        target_of(form, target)
    assert reason in refused.value.facts["reason"]


def test_a_target_s_bearer_token_is_written_as_one():
    found = target_of(
        "HttpData-PUSH", address("HttpData", endpoint="http://h/a?b=c", authorization="t", authType="bearer")
    )

    assert found == HttpTarget("http://h/a?b=c", "POST", {"authorization": "Bearer t"})


# -- S3, against moto's server and botocore's signatures


@pytest.fixture(scope="module")
def s3_server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and "moto" in thread.name.lower():
            thread.join(1)


@pytest.fixture
def bucket(s3_server):
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3_server, region_name="eu-west-1", aws_access_key_id="AK", aws_secret_access_key="SK"
    )
    client.create_bucket(Bucket="inbound", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client
    for entry in client.list_objects_v2(Bucket="inbound").get("Contents", ()):
        client.delete_object(Bucket="inbound", Key=entry["Key"])
    client.delete_bucket(Bucket="inbound")
    client.close()


@pytest.mark.parametrize("query", ["", "?uploads=", "?partNumber=2&uploadId=a%2Fb%3D"])
@pytest.mark.parametrize("session", ["", "TOKEN"])
def test_our_signature_is_botocore_s(query, session, monkeypatch):
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    at = 1_790_000_000 * NS
    bucket = Bucket("https://s3.example", "b ucket", "eu-west-1", "AK", "SK", session)
    url = bucket.url("folder/näme 1.arrow") + query
    ours = signed_headers(bucket, "PUT", url, hashlib.sha256(b"").hexdigest(), at)

    request = AWSRequest("PUT", url)
    request.context["timestamp"] = ours["x-amz-date"]
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: datetime.datetime(2026, 9, 21, 14, 13, 20))
    S3SigV4Auth(Credentials("AK", "SK", session or None), "s3", "eu-west-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("size", [0, 1000, 17 * 1024 * 1024])
async def test_an_object_of_any_size_arrives_whole(s3_server, bucket, size):
    http = AiohttpClient(WebSettings())

    async def chunks():
        for at in range(0, size, 1024 * 1024):
            yield bytes([at // (1024 * 1024)]) * min(1024 * 1024, size - at)

    try:
        await put_object(
            http, SystemClock(), Bucket(s3_server, "inbound", "eu-west-1", "AK", "SK"), "a/b c", "x/y", chunks()
        )
    finally:
        await http.close()

    got = await asyncio.to_thread(bucket.get_object, Bucket="inbound", Key="a/b c")
    body = await asyncio.to_thread(got["Body"].read)
    assert (len(body), got["ContentType"]) == (size, "x/y")
    assert size == 0 or body[-1] == (size - 1) // (1024 * 1024)


async def test_a_transfer_is_pushed_into_a_bucket(pair, agreed, s3_server, bucket):
    provider, consumer = pair
    http = AiohttpClient(WebSettings())
    real = provider.exchange.hosting.http

    class Both:
        """The test's network, and the real client for the bucket."""

        def stream(self, *arguments, **options):
            return real.stream(*arguments, **options)

        async def request(self, method, url, **options):
            return await (http if url.startswith(s3_server) else real).request(method, url, **options)

    provider.exchange.hosting.http = Both()
    target = address(
        "AmazonS3",
        bucketName="inbound",
        region="eu-west-1",
        accessKeyId="AK",
        secretAccessKey="SK",
        endpointOverride=s3_server,
        folderName="from/spindle",
        objectName="day.arrow",
    )
    try:
        agreement = await agreed(provider, consumer)
        pid = await consumer.exchange.request_transfer(consumer.did, agreement, format="AmazonS3-PUSH", target=target)
        done = await consumer.exchange.wait_transfer(
            consumer.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=10
        )
    finally:
        await http.close()

    assert done.state == "COMPLETED", done.reason
    got = await asyncio.to_thread(bucket.get_object, Bucket="inbound", Key="from/spindle/day.arrow")
    body = await asyncio.to_thread(got["Body"].read)
    assert pa.ipc.open_stream(body).read_all().equals(provider.table)
    assert [one.state for one in await provider.exchange.receipts(provider.did, agreement)] == ["one-sided"]


async def test_the_catalogue_lists_every_format_and_its_dataset_is_valid(pair, product, network):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    catalogue = await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)

    assert catalogue.offers[0].formats == ("HttpData-PULL", "HttpData-PUSH", "AmazonS3-PUSH")
    assert (
        problems(
            "Dataset", {"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], **catalogue.offers[0].dataset}
        )
        == []
    )
