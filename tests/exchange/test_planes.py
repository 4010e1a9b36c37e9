"""Data Plane Signaling 1.0, our control plane: data planes that we did not write serve the data, in both roles.

The plane here is a small HTTP program of its own (no code of the exchange). Groups as in the signaling kit: CP_P, CP_C; its traps (facts
of the field) are among them: callbacks without messageId, addresses without ``@type``, waiting answers (202) that no message announces.
Last, our own data plane stands in for the foreign one, so that both halves meet.
"""

from __future__ import annotations

import asyncio

import orjson
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from guantong.base.errors import GuantongError
from guantong.exchange.messages import problems, properties_of

KEY = "the-key-they-share"
DATASET = "urn:dataset:spindle"
PULL_ADDRESS = {"endpointType": "http-pull", "endpoint": "http://plane.example/data/1", "endpointProperties": [
    {"name": "authorization", "value": "theirs"}, {"name": "authType", "value": "bearer"}]}  # fmt: skip
PUSH_ADDRESS = {"endpointType": "http-push", "endpoint": "http://plane.example/in/1"}


class DataPlane:
    """Somebody else's: it takes signals, answers at once or later, and keeps what it heard."""

    def __init__(self, network, control):
        self.network, self.control = network, control
        self.heard: list[tuple[str, dict]] = []
        self.keys: set[str] = set()
        self.later = False
        self.status = 200
        network.apps["plane.example"] = Starlette(
            routes=[
                Route("/dps/dataflows/{verb}", self._begin, methods=["POST"]),
                Route("/dps/dataflows/{id}/{verb}", self._signal, methods=["POST"]),
            ]
        )

    async def _begin(self, request):
        verb, body = request.path_params["verb"], orjson.loads(await request.body())
        self.keys.add(request.headers["authorization"])
        self.heard.append((verb, body))
        if self.status != 200:
            return JSONResponse({"error": "not today"}, self.status)
        state = {"start": "STARTED", "prepare": "PREPARED"}[verb]
        if self.later:
            waiting = {"start": "STARTING", "prepare": "PREPARING"}[verb]
            return JSONResponse({"dataFlowId": "flow-1", "state": waiting}, 202, {"location": "/x"})
        return JSONResponse({"messageId": "a", "dataFlowId": "flow-1", "state": state, **self._address(verb, body)})

    def _address(self, verb, body):
        if verb == "start" and body["profile"].endswith("pull"):
            return {"dataAddress": PULL_ADDRESS}
        if verb == "prepare" and body["profile"].endswith("push"):
            return {"dataAddress": PUSH_ADDRESS}
        return {}

    async def _signal(self, request):
        body = orjson.loads(await request.body())
        assert request.path_params["id"] == "flow-1"
        self.heard.append((request.path_params["verb"], body))
        fresh = {**PULL_ADDRESS, "endpoint": "http://plane.example/data/2"}
        return JSONResponse({"dataFlowId": "flow-1", "state": "STARTED", "dataAddress": fresh}
                            if request.path_params["verb"] == "resume" else {})  # fmt: skip

    async def call(self, method, path, body=None, key=KEY):
        return await self.network.request(
            method, f"{self.control.address}/signaling/{path}", body=b"" if body is None else orjson.dumps(body),
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip

    async def register(self, **changes):
        body = {"dataplaneId": "plane-1", "endpoint": "http://plane.example/dps",
                "profiles": ["http-pull", "http-push"], "authorization": [], **changes}  # fmt: skip
        return await self.call("PUT", "dataplanes", {name: value for name, value in body.items() if value is not None})

    async def verbs(self, *wanted):
        for _ in range(400):
            if [verb for verb, _ in self.heard] == list(wanted):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(self.heard)


@pytest.fixture
async def parties(companies, network):
    """A provider with a control plane of its own and a consumer with one; the plane is given to one of them by the test."""
    provider = await companies("localhost:7001", signaling_key=KEY)
    consumer = await companies("localhost:7002", signaling_key=KEY)
    return provider, consumer


async def given(network, company):
    plane = DataPlane(network, company)
    assert (await plane.register()).status == 200
    await company.exchange.planes.serve(company.did, DATASET, "plane-1")
    return plane


async def until(company, pid, *states):
    return await company.exchange.wait_transfer(company.did, pid, states=states, timeout_s=5)


async def of_partner(company, partner_pid):
    return next(one for one in await company.exchange.transfers(company.did) if one.partner_pid == partner_pid)


# -- CP_P: the provider's control plane


async def test_cp_p_01_a_transfer_starts_at_the_plane_and_its_address_goes_to_the_consumer(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    mine = await until(consumer, pid, "STARTED")

    (verb, message), *rest = plane.heard
    assert (verb, rest, plane.keys) == ("start", [], {f"Bearer {KEY}"})
    theirs = await of_partner(provider, pid)
    assert {name: message[name] for name in ("participantId", "counterPartyId", "processId", "agreementId")} == {
        "participantId": provider.did, "counterPartyId": consumer.did, "processId": theirs.pid,
        "agreementId": agreement}  # fmt: skip
    assert message["datasetId"] == DATASET
    assert message["profile"] == "http-pull"
    assert {"messageId", "dataspaceContext", "claims"} <= set(message)
    assert "dataAddress" not in message
    # the plane leaves @type out, the Dataspace Protocol asks for it
    assert properties_of(mine.data_address)["endpoint"] == "http://plane.example/data/1"
    start = {"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], "@type": "TransferStartMessage",
             "providerPid": "p", "consumerPid": "c", "dataAddress": dict(mine.data_address)}  # fmt: skip
    assert problems("TransferStartMessage", start) == []

    answer = await plane.call("GET", f"transfers/{theirs.pid}/agreement")
    assert orjson.loads(answer.body)["@id"] == agreement
    assert (await plane.call("GET", f"transfers/{theirs.pid}/agreement", key="guess")).status == 401


async def test_cp_p_02_a_start_that_waits_is_told_later(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    plane.later = True
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await plane.verbs("start")
    theirs = await of_partner(provider, pid)
    assert (theirs.state, theirs.waiting) == ("REQUESTED", "plane")

    # a callback of the kit has no messageId
    told = {"dataFlowId": "flow-1", "state": "STARTED", "dataAddress": PULL_ADDRESS}
    assert (await plane.call("POST", f"transfers/{theirs.pid}/dataflow/started", told)).status == 200
    assert properties_of((await until(consumer, pid, "STARTED")).data_address)["authorization"] == "theirs"
    again = await plane.call("POST", f"transfers/{theirs.pid}/dataflow/started", told)
    assert again.status == 200  # told twice: nothing more happens
    other = await plane.call("POST", f"transfers/{theirs.pid}/dataflow/started", {**told, "dataFlowId": "flow-2"})
    assert other.status == 400


async def test_cp_p_03_suspension_resumption_and_termination_reach_the_plane(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await until(consumer, pid, "STARTED")
    theirs = (await of_partner(provider, pid)).pid
    await provider.exchange.decide_transfer(provider.did, theirs, "suspend", reason="service")
    await until(consumer, pid, "SUSPENDED")
    await plane.verbs("start", "suspend")
    assert plane.heard[-1][1]["reason"] == "service"

    await provider.exchange.decide_transfer(provider.did, theirs, "start")
    mine = await until(consumer, pid, "STARTED")
    assert properties_of(mine.data_address)["endpoint"] == "http://plane.example/data/2"
    await consumer.exchange.decide_transfer(consumer.did, pid, "suspend")
    await plane.verbs("start", "suspend", "resume", "suspend")
    await consumer.exchange.decide_transfer(consumer.did, pid, "start")
    await plane.verbs("start", "suspend", "resume", "suspend", "resume")
    await consumer.exchange.decide_transfer(consumer.did, pid, "terminate")
    await plane.verbs("start", "suspend", "resume", "suspend", "resume", "terminate")


async def test_cp_p_04_what_the_plane_finishes_completes_the_transfer_and_an_error_moves_nothing(
    parties, agreed, network
):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    pid = await consumer.exchange.request_transfer(
        consumer.did, agreement, format="HttpData-PUSH", target={"@type": "DataAddress", **PUSH_ADDRESS}
    )
    await until(consumer, pid, "STARTED")
    assert plane.heard[0][1]["dataAddress"]["endpoint"] == PUSH_ADDRESS["endpoint"]
    theirs = (await of_partner(provider, pid)).pid
    callback = f"transfers/{theirs}/dataflow/"
    assert (await plane.call("POST", callback + "errored", {"dataFlowId": "flow-1", "error": "disk"})).status == 200
    assert (await provider.exchange.transfer(provider.did, theirs)).state == "STARTED"
    assert (await provider.exchange.planes.flow(provider.did, theirs)).error == "disk"
    assert (await plane.call("POST", callback + "completed", {"dataFlowId": "flow-1"})).status == 200
    await until(consumer, pid, "COMPLETED")
    assert (await plane.call("POST", callback + "exploded", {})).status == 400
    assert (await plane.call("POST", "transfers/none/dataflow/completed", {})).status == 404


async def test_cp_p_05_a_plane_that_refuses_ends_the_transfer_with_its_reason(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    plane.status = 422
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)

    assert "422" in (await until(consumer, pid, "TERMINATED")).reason
    unserved = await consumer.exchange.request_transfer(
        consumer.did, agreement, format="AmazonS3-PUSH", target={"@type": "DataAddress", **PUSH_ADDRESS}
    )
    assert "not offered" in (await until(consumer, unserved, "TERMINATED")).reason


async def test_a_partner_whom_the_decision_denies_reaches_no_plane(parties, agreed, network):
    from guantong.exchange.ports import Verdict

    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, provider)
    provider.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)

    assert "grade 3" in (await until(consumer, pid, "TERMINATED")).reason
    assert plane.heard == []


# -- CP_C: the consumer's control plane


async def test_cp_c_01_the_plane_is_prepared_before_the_partner_is_asked_and_started_with_its_address(
    parties, agreed, network
):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, consumer)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await until(consumer, pid, "STARTED")
    await plane.verbs("prepare", "started")

    assert plane.heard[0][1]["processId"] == pid
    assert "dataAddress" not in plane.heard[0][1]
    address = properties_of(plane.heard[1][1]["dataAddress"])
    answer = await network.request("GET", address["endpoint"], headers={"authorization": address["authorization"]})
    assert answer.status == 200
    done = await plane.call("POST", f"transfers/{pid}/dataflow/completed", {"dataFlowId": "flow-1"})
    assert done.status == 200
    await until(provider, (await of_partner(provider, pid)).pid, "COMPLETED")


async def test_cp_c_02_a_push_goes_where_the_prepared_plane_says(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, consumer)
    taken = []

    async def sink(request):
        taken.append(await request.body())
        return Response(status_code=200)

    network.apps["plane.example"].router.routes.append(Route("/in/1", sink, methods=["POST"]))
    pid = await consumer.exchange.request_transfer(consumer.did, agreement, format="HttpData-PUSH")
    await until(consumer, pid, "COMPLETED")

    assert len(taken) == 1
    await plane.verbs("prepare", "started", "completed")


async def test_cp_c_03_a_prepare_that_waits_holds_the_request_back(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, consumer)
    plane.later = True
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await plane.verbs("prepare")
    assert await provider.exchange.transfers(provider.did) == []

    told = {"dataFlowId": "flow-1", "state": "PREPARED"}
    assert (await plane.call("POST", f"transfers/{pid}/dataflow/prepared", told)).status == 200
    await until(consumer, pid, "STARTED")
    assert (await plane.call("POST", f"transfers/{pid}/dataflow/prepared", told)).status == 200
    assert len(await provider.exchange.transfers(provider.did)) == 1


async def test_cp_c_04_a_provider_that_suspends_and_ends_moves_the_consumer_s_plane(parties, agreed, network):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, consumer)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await until(consumer, pid, "STARTED")
    theirs = (await of_partner(provider, pid)).pid
    for verb in ("suspend", "start", "complete"):
        await provider.exchange.decide_transfer(provider.did, theirs, verb)
    await until(consumer, pid, "COMPLETED")
    await plane.verbs("prepare", "started", "suspend", "resume", "completed")
    assert "dataAddress" in plane.heard[3][1]


async def test_cp_c_05_a_plane_that_refuses_to_prepare_ends_the_transfer_and_the_partner_is_never_asked(
    parties, agreed, network
):
    provider, consumer = parties
    agreement = await agreed(provider, consumer)
    plane = await given(network, consumer)
    plane.status = 400
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)

    assert "refused prepare" in (await until(consumer, pid, "TERMINATED")).reason
    assert await provider.exchange.transfers(provider.did) == []
    assert not [url for _, url, _ in network.log if "/transfers/" in url]


# -- registration, both roles


async def test_a_plane_registers_again_and_leaves(parties, network):
    provider, _ = parties
    plane = DataPlane(network, provider)
    planes = provider.exchange.planes
    for changes, status in (
        ({}, 200),
        ({"authorization": None}, 200),  # the schema requires it, the prose does not
        ({"profiles": ["http-pull"], "labels": ["hall 3"]}, 200),
        ({"profiles": []}, 400),
        ({"endpoint": "ftp://plane.example"}, 400),
        ({"dataplaneId": ""}, 400),
        ({"authorization": [{"type": "oauth2_client_credentials"}]}, 400),
    ):
        assert (await plane.register(**changes)).status == status, changes
    (known,) = planes.all(provider.did)
    assert (known.profiles, known.labels) == (("http-pull",), ("hall 3",))

    provider.build()  # a restart
    await provider.exchange.start()
    assert provider.exchange.planes.all(provider.did) == [known]
    assert (await plane.call("DELETE", "dataplanes/plane-1", key="guess")).status == 401
    assert (await plane.call("DELETE", "dataplanes/plane-1")).status == 204
    assert (await plane.call("DELETE", "dataplanes/plane-1")).status == 404
    with pytest.raises(GuantongError) as refused:
        await provider.exchange.planes.serve(provider.did, DATASET, "plane-1")
    assert refused.value.code == "exchange.plane-unknown"


async def test_a_control_plane_registers_at_our_data_plane_and_hears_its_callbacks_there(companies, network):
    node = await companies("localhost:7001", control_plane="http://old.example/api", signaling_key=KEY)
    plane = DataPlane(network, node)
    flows = node.exchange.flows
    one = {"controlplaneId": "control-1", "endpoint": "http://new.example/api", "authorization": []}
    assert await flows.control_plane(node.did) == "http://old.example/api"
    assert (await plane.call("PUT", "controlplanes", one, key="guess")).status == 401
    for _ in range(2):
        assert (await plane.call("PUT", "controlplanes", one)).status == 200
    assert (await plane.call("PUT", "controlplanes", {**one, "endpoint": "http://newer.example/api/"})).status == 200
    assert await flows.control_plane(node.did) == "http://newer.example/api"
    other = await plane.call("PUT", "controlplanes", {**one, "controlplaneId": "control-2"})
    assert (other.status, orjson.loads(other.body)["code"]) == (409, "exchange.plane-taken")
    assert (await plane.call("PUT", "controlplanes", {**one, "endpoint": "x"})).status == 400

    told = []

    async def callback(request):
        told.append((request.path_params["what"], request.path_params["id"]))
        return Response(status_code=200)

    network.apps["newer.example"] = Starlette(
        routes=[Route("/api/transfers/{id}/dataflow/{what}", callback, methods=["POST"])]
    )
    network.apps["localhost:9001"] = Starlette(
        routes=[Route("/in", lambda request: Response(status_code=200), methods=["POST"])]
    )
    message = {"messageId": "m", "participantId": "did:web:c.example", "counterPartyId": "did:web:d.example",
               "dataspaceContext": "s", "processId": "p1", "agreementId": "a1", "datasetId": DATASET,
               "profile": "http-push", "claims": {},
               "dataAddress": {"endpointType": "http-push", "endpoint": "http://localhost:9001/in"}}  # fmt: skip
    assert (await plane.call("POST", "dataflows/start", message)).status == 200
    for _ in range(200):
        if told:
            break
        await asyncio.sleep(0.01)
    assert told == [("completed", "p1")]
    assert (await plane.call("DELETE", "controlplanes/control-2")).status == 404
    assert (await plane.call("DELETE", "controlplanes/control-1")).status == 204
    assert await flows.control_plane(node.did) == "http://old.example/api"


# -- both halves of ours


async def test_our_control_plane_drives_our_data_plane_for_a_third_company(companies, agreed, network):
    provider = await companies("localhost:7001", signaling_key=KEY)
    consumer = await companies("localhost:7002")
    node = await companies("localhost:7003", control_plane=f"{provider.address}/signaling", signaling_key=KEY)
    await node.exchange.flows.register(node.did, f"{provider.address}/signaling")
    await provider.exchange.planes.serve(provider.did, DATASET, node.did)
    agreement = await agreed(provider, consumer)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement)
    await until(consumer, pid, "STARTED")
    rows = [batch async for batch in consumer.exchange.pull(consumer.did, pid, purpose="x")]
    assert sum(batch.num_rows for batch in rows) == node.table.num_rows
    assert provider.leaves("exchange.delivery-intended") == []
    assert len(node.leaves("exchange.delivery-intended")) == 1

    await consumer.exchange.decide_transfer(consumer.did, pid, "complete")
    for _ in range(200):
        (flow,) = await node.exchange.flows.all(node.did)
        if flow.state == "COMPLETED":
            break
        await asyncio.sleep(0.01)
    assert flow.state == "COMPLETED"
    with pytest.raises(GuantongError):
        [batch async for batch in consumer.exchange.pull(consumer.did, pid)]
