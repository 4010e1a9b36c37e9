"""Data Plane Signaling 1.0: our data plane under a control plane that we did not write the rules of.

The control plane here is a small HTTP program of its own (no code of the exchange), behind the test's network. The groups are those of
the signaling kit: DP_P_PULL, DP_C_PULL, DP_P_PUSH, DP_C_PUSH, DP_P_HTTP_PULL, DP_C_HTTP_PULL; the kit is not in a registry.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import orjson
import pyarrow as pa
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from guantong.base.errors import Refused
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange import dataflow
from guantong.exchange.encoding import ArrowReader
from guantong.exchange.identity import Identity
from guantong.exchange.messages import properties_of

KEY = "the-key-they-share"
HTTP_PULL = "https://w3id.org/dspace-sig/profile/http-pull"
THEIRS = "did:web:control.example"
PARTNER = "did:web:localhost%3A7009"

EDGES = """
INITIALIZED consumer prepare          PREPARED
INITIALIZED consumer prepare-later    PREPARING
PREPARING   consumer READY            PREPARED
PREPARED    consumer started          STARTED
INITIALIZED provider start            STARTED
INITIALIZED provider start-later      STARTING
STARTING    provider READY            STARTED
STARTED     both     suspend          SUSPENDED
SUSPENDED   both     resume           STARTED
STARTED     both     completed        COMPLETED
STARTED     both     DONE             COMPLETED
INITIALIZED both     terminate        TERMINATED
PREPARING   both     terminate        TERMINATED
PREPARED    both     terminate        TERMINATED
STARTING    both     terminate        TERMINATED
STARTED     both     terminate        TERMINATED
SUSPENDED   both     terminate        TERMINATED
"""


def written_by_hand():
    for line in EDGES.strip().splitlines():
        state, roles, signal, after = line.split()
        for role in ("consumer", "provider") if roles == "both" else (roles,):
            yield (state, role, signal.replace("-", " ")), after


def test_the_machine_has_the_edges_of_the_standard_and_no_other():
    assert dict(dataflow.TRANSITIONS) == dict(written_by_hand())
    for state in dataflow.TERMINAL:
        for role in ("consumer", "provider"):
            with pytest.raises(Refused):
                dataflow.next_state(state, role, "terminate")


class ControlPlane:
    """Somebody else's: it knows agreements, hears callbacks, and signals with its key."""

    def __init__(self, network, plane):
        self.network, self.plane = network, plane
        self.callbacks: list[tuple[str, dict]] = []
        self.registered: list[dict] = []
        self.agreements: dict[str, dict] = {}
        self.keys: list[str] = []
        self.heard = asyncio.Event()
        network.apps["control.example"] = Starlette(
            routes=[
                Route("/api/transfers/{id}/dataflow/{what}", self._callback, methods=["POST"]),
                Route("/api/transfers/{id}/agreement", self._agreement, methods=["GET"]),
                Route("/api/dataplanes", self._register, methods=["PUT"]),
            ]
        )

    async def _callback(self, request):
        self.keys.append(request.headers["authorization"])
        self.callbacks.append((request.path_params["what"], orjson.loads(await request.body())))
        self.heard.set()
        return Response(status_code=200)

    async def _agreement(self, request):
        found = self.agreements.get(request.path_params["id"])
        return JSONResponse(found, 200) if found else Response(status_code=404)

    async def _register(self, request):
        self.registered.append(orjson.loads(await request.body()))
        return Response(status_code=204)

    async def call(self, path, body=None, method="POST", key=KEY):
        response = await self.network.request(
            method,
            f"{self.plane.address}/signaling/{path}",
            body=b"" if body is None else orjson.dumps(body),
            headers={"authorization": f"Bearer {key}"},
        )
        return response.status, orjson.loads(response.body) if response.body else {}, response.headers

    def message(self, **changes):
        return {
            "messageId": "m1",
            "participantId": THEIRS,
            "counterPartyId": PARTNER,
            "dataspaceContext": "space",
            "processId": "process-1",
            "agreementId": "agreement-1",
            "datasetId": "urn:dataset:spindle",
            "profile": "http-pull",
            "claims": {"membership": "active"},
            **changes,
        }

    async def start(self, **changes):
        status, body, _ = await self.call("dataflows/start", self.message(**changes))
        assert (status, body["state"]) == (200, "STARTED"), body
        return body["dataFlowId"], body.get("dataAddress")

    async def prepare(self, **changes):
        status, body, _ = await self.call("dataflows/prepare", self.message(**changes))
        assert (status, body["state"]) == (200, "PREPARED"), body
        return body["dataFlowId"], body.get("dataAddress")

    async def signal(self, flow, name, **body):
        status, _, _ = await self.call(f"dataflows/{flow}/{name}", {"messageId": "m2", **body})
        return status

    async def state(self, flow):
        status, body, _ = await self.call(f"dataflows/{flow}/status", method="GET")
        assert (status, set(body)) == (200, {"dataFlowId", "state"})
        return body["state"]

    async def callback(self, what):
        for _ in range(200):
            for name, body in self.callbacks:
                if name == what:
                    return body
            await asyncio.sleep(0.01)
        raise AssertionError(f"no callback {what}: {self.callbacks}")


@pytest.fixture
async def control(companies, network):
    """``await control(…)`` starts a node in plane mode and the control plane that owns it."""

    async def start(**options):
        settings = {"control_plane": "http://control.example/api", "signaling_key": KEY, **options}
        plane = await companies("localhost:7001", **settings)
        return ControlPlane(network, plane)

    return start


async def fetch(network, address):
    given = properties_of(address)
    return await network.request("GET", given["endpoint"], headers={"authorization": given["authorization"]})


# -- DP_P_PULL


async def test_dp_p_pull_01_a_started_flow_can_be_pulled_and_ends_when_it_is_told(control, network):
    plane = await control()
    flow, address = await plane.start()
    got = await fetch(network, address)

    assert pa.ipc.open_stream(got.body).read_all().equals(plane.plane.table)
    assert await plane.signal(flow, "completed") == 200
    assert await plane.state(flow) == "COMPLETED"
    assert (await fetch(network, address)).status == 401


async def test_dp_p_pull_01_02_a_started_flow_is_terminated(control, network):
    plane = await control()
    flow, address = await plane.start()
    assert await plane.signal(flow, "terminate", reason="over") == 200
    assert await plane.state(flow) == "TERMINATED"
    assert (await fetch(network, address)).status == 401


async def test_dp_p_pull_02_a_suspended_flow_gives_nothing_until_it_is_resumed_with_a_new_address(control, network):
    plane = await control()
    flow, address = await plane.start()
    assert await plane.signal(flow, "suspend") == 200
    assert await plane.state(flow) == "SUSPENDED"
    assert (await fetch(network, address)).status in (401, 403)

    status, body, _ = await plane.call(f"dataflows/{flow}/resume", {"messageId": "m3"})
    assert (status, body["state"]) == (200, "STARTED")
    assert (await fetch(network, body["dataAddress"])).status == 200
    assert await plane.signal(flow, "suspend") == 200
    assert await plane.signal(flow, "terminate") == 200
    assert await plane.state(flow) == "TERMINATED"


async def test_dp_p_pull_04_a_start_that_waits_is_accepted_and_called_back(control, network):
    plane = await control(auto=("prepare-flow",))
    status, body, headers = await plane.call("dataflows/start", plane.message())
    flow = body["dataFlowId"]
    assert (status, body["state"], headers["location"]) == (202, "STARTING", f"/dataflows/{flow}/status")
    assert "dataAddress" not in body

    await plane.plane.exchange.flows.release(plane.plane.did, flow)
    told = await plane.callback("started")
    assert (told["dataFlowId"], told["state"], await plane.state(flow)) == (flow, "STARTED", "STARTED")
    assert {"messageId", "dataAddress"} <= set(told)
    assert (await fetch(network, told["dataAddress"])).status == 200
    assert plane.keys == [f"Bearer {KEY}"]


# -- DP_C_PULL


async def test_dp_c_pull_01_a_prepared_flow_starts_with_the_provider_s_address(control):
    plane = await control()
    flow, address = await plane.prepare()
    assert address is None
    assert await plane.signal(flow, "started") == 200
    assert await plane.state(flow) == "STARTED"
    assert await plane.signal(flow, "terminate") == 200
    assert await plane.state(flow) == "TERMINATED"


async def test_dp_c_pull_02_a_consumer_s_flow_is_suspended_and_resumed(control):
    plane = await control()
    flow, _ = await plane.prepare()
    await plane.signal(flow, "started")
    assert await plane.signal(flow, "suspend") == 200
    assert await plane.state(flow) == "SUSPENDED"
    assert await plane.signal(flow, "resume") == 200
    assert await plane.state(flow) == "STARTED"
    assert await plane.signal(flow, "suspend") == 200
    assert await plane.signal(flow, "terminate") == 200
    assert await plane.state(flow) == "TERMINATED"


async def test_dp_c_pull_03_the_data_are_fetched_and_the_control_plane_hears_that_it_is_done(
    control, companies, network
):
    provider = await companies("localhost:7002", control_plane="http://other.example/api", signaling_key=KEY)
    theirs = ControlPlane(network, provider)
    plane = await control()
    arrived = []

    async def inbox(participant, transfer, media_type, chunks):
        reader = ArrowReader()
        async for chunk in chunks:
            arrived.extend(reader.feed(chunk))
        return sum(batch.num_rows for batch in arrived)

    plane.plane.exchange.receive_pushes(inbox)
    _, address = await theirs.start()
    flow, _ = await plane.prepare()
    assert await plane.signal(flow, "started", dataAddress=address) == 200

    told = await plane.callback("completed")
    assert (told["dataFlowId"], told["state"], await plane.state(flow)) == (flow, "COMPLETED", "COMPLETED")
    assert pa.Table.from_batches(arrived).equals(provider.table)


async def test_dp_c_pull_04_a_prepare_that_waits_is_accepted_and_called_back(control):
    plane = await control(auto=())
    status, body, headers = await plane.call("dataflows/prepare", plane.message())
    flow = body["dataFlowId"]
    assert (status, body["state"], headers["location"]) == (202, "PREPARING", f"/dataflows/{flow}/status")
    await plane.plane.exchange.flows.release(plane.plane.did, flow)

    told = await plane.callback("prepared")
    assert (told["state"], await plane.state(flow)) == ("PREPARED", "PREPARED")
    assert "dataAddress" not in told


# -- DP_P_PUSH, DP_C_PUSH


async def test_dp_p_push_the_data_leave_for_the_address_of_the_start_and_the_end_is_told(control, network):
    plane = await control()
    received = []

    async def sink(request):
        received.append(await request.body())
        return Response(status_code=200)

    network.apps["localhost:9001"] = Starlette(routes=[Route("/in", sink, methods=["POST"])])
    # the examples of the standard leave out @type: taken all the same
    target = {"endpointType": "http-push", "endpoint": "http://localhost:9001/in", "endpointProperties": []}
    flow, address = await plane.start(profile="http-push", dataAddress=target)
    assert address is None
    told = await plane.callback("completed")

    assert (told["state"], await plane.state(flow)) == ("COMPLETED", "COMPLETED")
    assert pa.ipc.open_stream(received[0]).read_all().equals(plane.plane.table)


async def test_dp_p_push_an_error_moves_nothing_and_is_told(control, network):
    plane = await control()

    async def sink(request):
        return Response(status_code=403)

    network.apps["localhost:9001"] = Starlette(routes=[Route("/in", sink, methods=["POST"])])
    target = {"endpointType": "http-push", "endpoint": "http://localhost:9001/in"}
    flow, _ = await plane.start(profile="http-push", dataAddress=target)
    told = await plane.callback("errored")

    assert (told["state"], await plane.state(flow)) == ("STARTED", "STARTED")
    assert "403" in told["error"]
    assert await plane.signal(flow, "terminate") == 200


async def test_dp_c_push_the_address_of_a_prepared_flow_takes_the_data(control, network):
    plane = await control()
    taken = []

    async def inbox(participant, transfer, media_type, chunks):
        taken.append(b"".join([chunk async for chunk in chunks]))
        return 0

    plane.plane.exchange.receive_pushes(inbox)
    flow, address = await plane.prepare(profile="http-push")
    given = properties_of(address)
    headers = {"authorization": f"Bearer {given['authorization']}"}
    # the provider may send before the consumer's control plane says so
    assert (await network.request("POST", given["endpoint"], body=b"early", headers=headers)).status == 204
    assert await plane.signal(flow, "started") == 200
    assert (await network.request("POST", given["endpoint"], body=b"more", headers=headers)).status == 204
    assert await plane.signal(flow, "suspend") == 200
    assert (await network.request("POST", given["endpoint"], body=b"no", headers=headers)).status == 403
    assert await plane.signal(flow, "resume") == 200
    assert await plane.signal(flow, "completed") == 200
    assert await plane.state(flow) == "COMPLETED"
    assert (await network.request("POST", given["endpoint"], body=b"no", headers=headers)).status == 401
    assert taken == [b"early", b"more"]


# -- DP_P_HTTP_PULL, DP_C_HTTP_PULL


async def refreshed(network, plane, address, *, refresh="", audience=THEIRS):
    """The consumer's client: its identity token is meant for the participant that the control plane acts for."""
    consumer = Identity(PARTNER, P256Key.generate(), Ed25519Key.generate())
    from guantong.exchange.identity import did_document

    class Document:
        async def document(self):
            return did_document(consumer, "http://localhost:7009")

    network.apps["localhost:7009"] = Starlette(
        routes=[
            Route(
                "/.well-known/did.json",
                lambda request: JSONResponse(did_document(consumer, "http://localhost:7009")),
            )
        ]
    )
    plane.plane.exchange.hosting.resolver._kept.clear()
    given = properties_of(address)
    token = plane.plane.exchange.hosting.tokens.issue(consumer, audience, access_token=given["authorization"])
    form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh or given["refreshToken"]})
    return await network.request(
        "POST", given["refreshEndpoint"], body=form.encode(), headers={"authorization": f"Bearer {token}"}
    )


async def test_dp_p_http_pull_the_address_can_be_renewed_by_its_consumer_only(control, network):
    plane = await control()
    _, address = await plane.start(profile=HTTP_PULL)
    given = properties_of(address)
    assert address["endpointType"] == HTTP_PULL
    assert {"authorization", "authType", "refreshToken", "expiresIn", "refreshEndpoint", "endpoint"} <= set(given)
    assert (given["authType"], given["expiresIn"].isdigit()) == ("bearer", True)

    assert (await refreshed(network, plane, address, refresh="guess")).status == 400
    assert (await refreshed(network, plane, address, audience="did:web:else.example")).status == 401
    answer = await refreshed(network, plane, address)
    body = orjson.loads(answer.body)
    assert (answer.status, body["token_type"]) == (200, "bearer")
    got = await network.request("GET", given["endpoint"], headers={"authorization": body["access_token"]})
    assert got.status == 200


async def test_dp_c_http_pull_an_address_without_renewal_is_rejected_and_moves_nothing(control):
    plane = await control()
    flow, _ = await plane.prepare(profile=HTTP_PULL)
    properties = {"authorization": "t", "authType": "bearer"}

    def address(**more):
        entries = [{"name": name, "value": value} for name, value in {**properties, **more}.items()]
        return {"endpointType": HTTP_PULL, "endpoint": "https://provider.example/data", "endpointProperties": entries}

    assert await plane.signal(flow, "started", dataAddress=address()) == 400
    assert await plane.state(flow) == "PREPARED"
    renewable = address(refreshToken="r", expiresIn="300", refreshEndpoint="https://provider.example/token")
    assert await plane.signal(flow, "started", dataAddress=renewable) == 200
    assert await plane.state(flow) == "STARTED"


# -- members and errors


@pytest.mark.parametrize("missing", ["messageId", "participantId", "counterPartyId", "dataspaceContext", "processId",
                                     "agreementId", "datasetId", "profile", "claims"])  # fmt: skip
@pytest.mark.parametrize("verb", ["prepare", "start"])
async def test_a_message_without_a_required_member_is_refused(control, missing, verb):
    plane = await control()
    body = plane.message()
    del body[missing]

    status, answer, _ = await plane.call(f"dataflows/{verb}", body)
    assert (status, answer["code"]) == (400, "exchange.message-invalid")
    assert missing in answer["title"]


async def test_what_the_standard_forbids_is_refused(control):
    plane = await control()
    address = {"endpointType": "x", "endpoint": "http://localhost:9001/in"}
    for verb, changes, status, code in (
        ("start", {"dataAddress": address}, 400, "exchange.message-invalid"),  # nobody names where to pull
        ("start", {"profile": "http-push"}, 400, "exchange.message-invalid"),  # a push needs an address
        ("start", {"profile": "carrier-pigeon"}, 400, "exchange.message-invalid"),
        ("start", {"claims": "all"}, 400, "exchange.message-invalid"),
        ("start", {"processId": "x" * 129}, 400, "exchange.message-invalid"),
    ):
        found, answer, _ = await plane.call(f"dataflows/{verb}", plane.message(**changes))
        assert (found, answer["code"]) == (status, code), changes

    flow, _ = await plane.start()
    again, answer, _ = await plane.call("dataflows/start", plane.message())
    assert (again, answer["code"]) == (409, "exchange.flow-known")
    for name in ("started", "resume"):  # started goes to the consumer's side only; nothing is suspended
        assert await plane.signal(flow, name) == 400
    assert await plane.signal(flow, "explode") == 400
    assert await plane.signal("none", "suspend") == 404
    assert (await plane.call("dataflows/none/status", method="GET"))[0] == 404
    assert await plane.state(flow) == "STARTED"
    await plane.signal(flow, "completed")
    for name in ("suspend", "resume", "terminate", "completed"):
        assert await plane.signal(flow, name) == 400


async def test_nobody_signals_without_the_key_and_a_node_without_one_has_no_such_address(control, companies, network):
    plane = await control()
    for key in ("", "guess"):
        assert (await plane.call("dataflows/start", plane.message(), key=key))[0] == 401
    plain = await companies("localhost:7003")
    answer = await network.request("POST", f"{plain.address}/signaling/dataflows/start", body=b"{}")
    assert answer.status == 404


async def test_the_terms_that_the_control_plane_agreed_hold_here_too(control, network):
    plane = await control()
    count = {"leftOperand": "count", "operator": "lteq", "rightOperand": "1"}
    plane.agreements["process-1"] = {"permission": [{"action": "use", "constraint": [count]}]}
    _, address = await plane.start()
    assert (await fetch(network, address)).status == 200
    assert (await fetch(network, address)).status in (403, 409, 429)

    plane.agreements["process-2"] = {"permission": [{"action": "use", "constraint": [{**count, "leftOperand": "odd"}]}]}
    status, answer, _ = await plane.call("dataflows/start", plane.message(processId="process-2", agreementId="b"))
    assert (status, answer["code"]) == (400, "exchange.term-refused")


async def test_a_denied_partner_and_a_dataset_without_rights_get_no_flow(control):
    from guantong.exchange.ports import Verdict

    plane = await control()
    plane.plane.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    assert (await plane.call("dataflows/start", plane.message()))[0] == 403
    plane.plane.stated = None
    assert (await plane.call("dataflows/start", plane.message()))[1]["code"] == "exchange.no-rights"
    assert plane.plane.leaves("exchange.flow-moved") == []


async def test_deliveries_of_a_flow_are_metered_with_one_sided_receipts_and_evidence(control, network):
    plane = await control()
    flow, address = await plane.start()
    await fetch(network, address)
    await fetch(network, address)
    await plane.plane.exchange.plane.stop()
    receipts = await plane.plane.exchange.receipts(plane.plane.did, "agreement-1")

    assert [(one.state, one.record["rows"], one.record["consumer"]) for one in receipts] == [
        ("one-sided", 3, PARTNER)
    ] * 2
    moved = plane.plane.leaves("exchange.flow-moved")
    assert [(one["flow"], one["state"], one["by"], one["message"]) for one in moved] == [
        (flow, "STARTED", "control plane", "start")
    ]


async def test_a_plane_registers_and_again_replaces_what_it_said(control):
    plane = await control()
    for _ in range(2):
        await plane.plane.exchange.flows.register(plane.plane.did, "http://control.example/api/")

    first, second = plane.registered
    assert first == second
    assert first["dataplaneId"] == plane.plane.did
    assert first["endpoint"] == f"{plane.plane.address}/signaling"
    assert {HTTP_PULL, "http-push", "AmazonS3-PUSH"} <= set(first["profiles"])
