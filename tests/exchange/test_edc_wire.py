"""Every request that was recorded between two Eclipse EDC 0.15.1 connectors and a foreign peer, replayed against us in the matching role.

Process identifiers and participant names are mapped to ours; the identity is EDC's ``iam-mock`` (here only). After each message the state
is looked at. EDC's own requests are accepted; of the foreign peer's the good are accepted and the bad refused with an error body. Every
answer that EDC gave is given to our client and must be understood as meant.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from guantong.base.errors import GuantongError, Refused
from guantong.exchange.messages import problems
from guantong.exchange.model import Participant, Product
from guantong.exchange.policy import policy_hash
from guantong.exchange.tables import AGREEMENTS, TRANSFERS

USE = {"permission": [{"action": "use"}]}
OFFER = "ZGVmLTM2Yjg1OGFi:YXNzZXQtMzZiODU4YWI=:YjI1MDM2YWQtODJhMS00ZGQ4LWEyYTktNjZlMTc3MjJiYzY4"
EDC_PROVIDER = "http://127.0.0.1:19194/protocol/2025-1"


@pytest.fixture(scope="module")
def wire(data_dir) -> list[dict[str, Any]]:
    recorded = json.loads((data_dir / "edc_wire.json").read_text("utf-8"))
    assert len(recorded) == 39
    return recorded


async def iam_mock(participant: str, authorization: str) -> Participant:
    """EDC's iam-mock: the header is JSON and believed; ``faultyClientId`` is refused."""
    try:
        client = json.loads(authorization)["clientId"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("exchange.token-refused", reason="there is no token") from error
    if client == "faultyClientId":
        raise Refused("exchange.token-refused", reason="it is faulty")
    return Participant(client)


class Replay:
    """Our node in the role of one side of the recording, and the other side's callback addresses, which only take note."""

    def __init__(self, company: Any, network: Any, wire: list[dict[str, Any]]) -> None:
        self.company, self.network, self.wire = company, network, wire
        self.exchange = company.exchange
        self.exchange.hosting.identify = iam_mock
        self.names: dict[str, str] = {}
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.answer: tuple[int, Any] = (200, None)
        partner = Starlette(routes=[Route("/{path:path}", self._partner, methods=["GET", "POST"])])
        for host in ("127.0.0.1:29194", "127.0.0.1:19194", "127.0.0.1:8000"):
            network.apps[host] = partner

    async def _partner(self, request: Any) -> Response:
        body = await request.body()
        self.heard.append((request.url.path, orjson.loads(body) if body else {}))
        status, answer = self.answer
        return Response(b"" if answer is None else orjson.dumps(self.mapped(answer)), status)

    def mapped(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.mapped(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.mapped(inner) for inner in value]
        return self.names.get(value, value) if isinstance(value, str) else value

    async def send(self, number: int) -> tuple[int, dict[str, Any]]:
        """Replay a recorded request against our node; its status and body. No answer may be a fault, every refusal says why."""
        recorded = self.wire[number]
        path = recorded["path"].replace("/protocol/", "/dsp/", 1)
        if path.startswith("/dsp/transfers"):
            path = path.replace("/dsp/", "/dsp/2025-1/", 1)
        path = "/".join(self.names.get(part, part) for part in path.split("/")).replace(
            "/dsp/.well-known", "/.well-known"
        )
        body = recorded["body"]
        response = await self.network.request(
            recorded["method"],
            self.company.address + path,
            body=None if body is None else orjson.dumps(self.mapped(body)),
            headers={name.lower(): value for name, value in recorded["headers"].items()},
        )
        answer = orjson.loads(response.body) if response.body else {}
        assert response.status < 500, (number, answer)
        if response.status >= 400:
            assert answer["@type"] in ("CatalogError", "ContractNegotiationError", "TransferError"), (number, answer)
            assert problems(answer["@type"], answer) == []
        return response.status, answer

    async def accepted(self, number: int) -> dict[str, Any]:
        status, answer = await self.send(number)
        assert status in (200, 201), (number, status, answer)
        return answer

    async def refused(self, number: int, status: int) -> None:
        assert (await self.send(number))[0] == status, self.wire[number]["case"]

    async def negotiation(self, pid: str) -> str:
        return (await self.exchange.negotiation(self.company.did, pid)).state

    async def transfer(self, pid: str) -> str:
        return (await self.exchange.transfer(self.company.did, pid)).state

    async def quiet(self) -> None:
        """Until everything queued was sent."""
        for _ in range(400):
            await asyncio.sleep(0.005)
            if not self.company.outbox._tasks:
                return
        raise AssertionError("the outbox does not come to rest")

    async def agreement(self, identifier: str, role: str, partner: str, dataset: str) -> None:
        """A final agreement of before the recording."""
        document = {"@id": identifier, "@type": "Agreement", "target": dataset, **USE}
        async with self.company.records.step(self.company.did) as step:
            step.insert(
                AGREEMENTS,
                id=identifier,
                role=role,
                partner=partner,
                partner_address="http://127.0.0.1:8000/dsp/2025-1",
                dataset_id=dataset,
                product_id="",
                agreement=orjson.dumps(document),
                agreement_hash="sha256:" + "0" * 64,
                policy_hash=policy_hash(document),
                terms="",
                price=b"{}",
                state="final",
                agreed_at=step.at,
                changed_at=step.at,
                negotiation_pid="",
            )

    async def transferring(self, pid: str, role: str, partner: str, partner_pid: str, state: str) -> None:
        """A transfer as it stood before a recorded message."""
        await self.agreement(f"agreement of {pid}", role, partner, "asset-36b858ab")
        async with self.company.records.step(self.company.did) as step:
            step.insert(
                TRANSFERS,
                pid=pid,
                role=role,
                partner=partner,
                partner_pid=partner_pid,
                partner_address="http://127.0.0.1:8000/dsp/2025-1",
                state=state,
                agreement_id=f"agreement of {pid}",
                format="HttpData-PULL",
                dataset_id="asset-36b858ab",
                data_address=b"{}",
                token_hash="",
                token_expires=0,
                waiting="",
                reason="",
                created_at=step.at,
                changed_at=step.at,
            )


def _product(asset: str) -> Product:
    return Product(id=asset, dataset_id=asset, policy=USE, offer=OFFER if asset == "asset-36b858ab" else "")


@pytest.fixture
async def replay(companies, network, wire):
    """Nothing happens by itself: the recording says who does what."""
    company = await companies("localhost:7001", auto=())
    replay = Replay(company, network, wire)
    for asset in ("asset-36b858ab", "asset-69e7925f"):
        await company.exchange.offer(company.did, _product(asset))
    return replay


async def test_the_requests_of_an_edc_consumer_lead_us_as_provider_through_contract_and_pull(replay):
    replay.names["provider"] = replay.company.did
    catalogue = await replay.accepted(0)
    assert {dataset["@id"] for dataset in catalogue["dataset"]} == {"asset-36b858ab", "asset-69e7925f"}

    first = await replay.accepted(1)
    pid = replay.names["5f6a0cde-e1b8-40ef-85d1-5793e571e6a4"] = first["providerPid"]
    assert first["consumerPid"] == "63feece5-ad7c-4bc2-ad84-4f25816a64d9"
    assert await replay.negotiation(pid) == "REQUESTED"
    assert (await replay.accepted(1))["providerPid"] == pid  # EDC repeats requests now and then

    await replay.exchange.decide_negotiation(replay.company.did, pid, "agree")
    await replay.quiet()
    assert replay.heard[-1][0].endswith("/negotiations/63feece5-ad7c-4bc2-ad84-4f25816a64d9/agreement")
    await replay.accepted(3)
    assert await replay.negotiation(pid) == "VERIFIED"
    await replay.exchange.decide_negotiation(replay.company.did, pid, "finalize")
    await replay.quiet()
    assert await replay.negotiation(pid) == "FINALIZED"

    agreement = (await replay.exchange.agreements(replay.company.did))[0].id
    replay.names["4fccfed0-e3f4-4ee2-be43-a2a42b34ab96"] = agreement
    transfer = (await replay.accepted(5))["providerPid"]
    assert await replay.transfer(transfer) == "REQUESTED"
    await replay.exchange.decide_transfer(replay.company.did, transfer, "start")
    await replay.quiet()
    path, start = replay.heard[-1]
    assert path.endswith("/transfers/21d4c5a4-4747-43cf-bf20-094234968783/start")
    assert problems("TransferStartMessage", start) == []
    assert await replay.transfer(transfer) == "STARTED"


async def test_the_push_of_an_edc_consumer_is_delivered_and_completed(replay, network):
    received: dict[str, bytes] = {}

    async def sink(request: Any) -> Response:
        received[request.url.path] = await request.body()
        return Response(status_code=200)

    network.apps["127.0.0.1:42707"] = Starlette(routes=[Route("/{path:path}", sink, methods=["POST"])])
    await replay.agreement("e71c902c-8066-43b1-b4c3-7f329e294e12", "provider", "consumer", "asset-36b858ab")

    pid = (await replay.accepted(7))["providerPid"]
    assert await replay.transfer(pid) == "REQUESTED"
    await replay.exchange.decide_transfer(replay.company.did, pid, "start")
    done = await replay.exchange.wait_transfer(replay.company.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=5)
    await replay.quiet()

    assert done.state == "COMPLETED", done.reason
    assert [path.rpartition("/")[2] for path, _ in replay.heard] == ["start", "completion"]
    assert len(received["/sink/7b49fa1c686e409585fb01a5444adf23"]) > 100
    assert [one.state for one in await replay.exchange.receipts(replay.company.did, done.agreement_id)] == ["one-sided"]


async def test_the_messages_of_an_edc_provider_lead_us_as_consumer_through_contract_and_pull(replay, wire):
    replay.names["consumer"] = replay.company.did
    offer = {"@id": OFFER, "@type": "Offer", "target": "asset-36b858ab", **USE}
    replay.answer = (wire[1]["status"], wire[1]["response"])
    pid = await replay.exchange.negotiate(replay.company.did, EDC_PROVIDER, "provider", offer)
    replay.names["63feece5-ad7c-4bc2-ad84-4f25816a64d9"] = pid
    await replay.quiet()
    known = await replay.exchange.negotiation(replay.company.did, pid)
    assert (known.state, known.partner_pid) == ("REQUESTED", "5f6a0cde-e1b8-40ef-85d1-5793e571e6a4")

    replay.answer = (wire[3]["status"], wire[3]["response"])
    await replay.accepted(2)
    assert await replay.negotiation(pid) == "AGREED"
    await replay.exchange.decide_negotiation(replay.company.did, pid, "verify")
    await replay.quiet()
    await replay.accepted(4)
    assert await replay.negotiation(pid) == "FINALIZED"

    replay.answer = (wire[5]["status"], wire[5]["response"])
    transfer = await replay.exchange.request_transfer(replay.company.did, "4fccfed0-e3f4-4ee2-be43-a2a42b34ab96")
    replay.names["21d4c5a4-4747-43cf-bf20-094234968783"] = transfer
    await replay.quiet()
    assert (await replay.exchange.transfer(replay.company.did, transfer)).partner_pid == (
        "a5e4e937-a386-4cc7-8f14-8031e1bb9f61"
    )
    await replay.accepted(6)
    assert await replay.transfer(transfer) == "STARTED"


async def test_the_push_messages_of_an_edc_provider_are_taken(replay, wire):
    await replay.agreement("e71c902c-8066-43b1-b4c3-7f329e294e12", "consumer", "provider", "asset-36b858ab")
    replay.answer = (wire[7]["status"], wire[7]["response"])
    target = wire[7]["body"]["dataAddress"]
    pid = await replay.exchange.request_transfer(
        replay.company.did, "e71c902c-8066-43b1-b4c3-7f329e294e12", format="HttpData-PUSH", target=target
    )
    replay.names["2a60e901-1c40-4af1-a072-f5bce7b9f7c2"] = pid
    await replay.quiet()
    sent = replay.heard[-1][1]
    assert sent["dataAddress"] == target
    assert problems("TransferRequestMessage", sent) == []

    await replay.accepted(8)
    assert await replay.transfer(pid) == "STARTED"
    await replay.accepted(9)
    assert await replay.transfer(pid) == "COMPLETED"


async def test_what_the_foreign_peer_asked_a_provider_is_answered_and_its_bad_requests_are_refused(replay, wire):
    versions = await replay.accepted(10)
    assert [entry["version"] for entry in versions["protocolVersions"]] == ["2025-1"]
    await replay.refused(11, 401)
    await replay.refused(12, 401)
    await replay.refused(13, 400)
    assert (await replay.accepted(14))["@id"] == "asset-69e7925f"
    await replay.refused(15, 404)
    await replay.refused(16, 404)
    good = json.loads(json.dumps(wire[16]))
    good["body"]["offer"]["@id"] = "asset-69e7925f:asset-69e7925f"
    replay.wire = [*wire[:16], good, *wire[17:]]
    known = await replay.accepted(16)
    replay.wire = wire
    pid = replay.names["98834a6f-4fb3-4d60-a78a-d022a6057295"] = known["providerPid"]
    replay.names["eeea82aa-995d-44ea-9705-87e2310ae477"] = "4718c961-c4f5-4080-b433-b6504d7829cd"

    assert (await replay.accepted(17))["state"] == "REQUESTED"
    await replay.refused(18, 404)
    await replay.refused(19, 404)
    await replay.refused(20, 400)
    assert await replay.negotiation(pid) == "REQUESTED"
    await replay.refused(21, 400)

    replay.names["91c61f3f-f7a3-4878-b520-afba69f4a89a"] = pid
    replay.names["532de521-c168-4c3d-b2ea-299ecd40f4d7"] = "4718c961-c4f5-4080-b433-b6504d7829cd"
    await replay.accepted(27)
    assert await replay.negotiation(pid) == "TERMINATED"


async def test_the_foreign_peer_suspends_resumes_and_completes_its_pull(replay):
    pid = "39611bb2-4a0d-47aa-b5b8-40714a0698ce"
    await replay.transferring(pid, "provider", "foreign", "e241ec03-e33d-4601-a6e6-ff45b0ec958a", "STARTED")

    assert (await replay.accepted(22))["state"] == "STARTED"
    await replay.accepted(24)
    assert await replay.transfer(pid) == "SUSPENDED"
    await replay.accepted(25)
    assert await replay.transfer(pid) == "STARTED"
    await replay.accepted(26)
    assert await replay.transfer(pid) == "COMPLETED"


async def test_a_transfer_that_the_edc_provider_terminates_is_terminated(replay):
    pid = "cbafbfd1-986a-4eb5-9a3e-08636c150589"
    await replay.transferring(pid, "consumer", "provider", "08d4c3d8-ee03-47ce-b799-ee9903303033", "REQUESTED")

    await replay.accepted(23)
    done = await replay.exchange.transfer(replay.company.did, pid)
    assert (done.state, done.reason) == ("TERMINATED", "No dataplane found")


async def test_what_the_foreign_peer_sent_a_consumer_is_taken_and_a_wrong_agreement_refused(replay):
    replay.names["consumer"] = replay.company.did
    offer = {"@id": "foreign-offer", "@type": "Offer", "target": "foreign-asset", **USE}
    pids = {}
    for recorded in ("77e2aa8b-0bff-4284-90fa-3af9f10303af", "08573cbc-6de6-47b9-9d1e-f5678243caf5"):
        theirs = f"urn:uuid:{recorded}"
        replay.answer = (201, {"@type": "ContractNegotiation", "providerPid": theirs, "state": "REQUESTED"})
        pids[recorded] = await replay.exchange.negotiate(
            replay.company.did, "http://127.0.0.1:8000/dsp/2025-1", "foreign", offer
        )
        replay.names[recorded] = pids[recorded]
        await replay.quiet()
    good, wrong = pids.values()

    await replay.accepted(28)
    assert await replay.negotiation(good) == "AGREED"
    replay.answer = (200, None)
    await replay.exchange.decide_negotiation(replay.company.did, good, "verify")
    await replay.quiet()
    await replay.accepted(29)
    assert await replay.negotiation(good) == "FINALIZED"

    await replay.refused(31, 400)
    await replay.refused(32, 404)
    state = await replay.accepted(33)
    assert (state["state"], await replay.negotiation(wrong)) == ("REQUESTED", "REQUESTED")
    assert (await replay.exchange.negotiation(replay.company.did, wrong)).waiting == "person"

    await replay.transferring(
        "8bd9ba8a-b483-4fb1-b218-308d8b1a7710",
        "consumer",
        "foreign",
        "urn:uuid:8bd9ba8a-b483-4fb1-b218-308d8b1a7710",
        "REQUESTED",
    )
    assert (await replay.accepted(34))["state"] == "REQUESTED"
    await replay.accepted(30)
    assert await replay.transfer("8bd9ba8a-b483-4fb1-b218-308d8b1a7710") == "STARTED"


async def test_an_edc_consumer_suspends_resumes_and_ends_a_transfer_with_us(replay):
    pid = "urn:uuid:8bd9ba8a-b483-4fb1-b218-308d8b1a7710"
    await replay.transferring(pid, "provider", "consumer", "8bd9ba8a-b483-4fb1-b218-308d8b1a7710", "STARTED")
    await replay.accepted(35)
    assert await replay.transfer(pid) == "SUSPENDED"
    await replay.accepted(36)
    assert await replay.transfer(pid) == "STARTED"
    await replay.accepted(37)
    assert await replay.transfer(pid) == "TERMINATED"

    request = json.loads(json.dumps(replay.wire[1]))
    request["body"]["consumerPid"] = "c2f88c87-c089-4a76-bab6-752f43e06b62"
    replay.wire = [request, *replay.wire[1:]]
    negotiation = (await replay.accepted(0))["providerPid"]
    replay.names["urn:uuid:c2f88c87-c089-4a76-bab6-752f43e06b62"] = negotiation
    await replay.accepted(38)
    assert await replay.negotiation(negotiation) == "TERMINATED"


# -- the answers that EDC gave, given to our client

CATALOGUES = {0: "", 11: "exchange.answer-unusable", 12: "exchange.answer-unusable", 13: "exchange.answer-unusable"}


@pytest.mark.parametrize(("number", "code"), CATALOGUES.items())
async def test_edc_s_answers_to_a_catalogue_request_are_understood(replay, wire, number, code):
    replay.answer = (wire[number]["status"], wire[number]["response"])
    if code:
        with pytest.raises(GuantongError) as refused:
            await replay.exchange.catalogue(replay.company.did, EDC_PROVIDER, "provider")
        assert refused.value.code == code
        assert refused.value.facts["status"] == wire[number]["status"]
    else:
        found = await replay.exchange.catalogue(replay.company.did, EDC_PROVIDER, "provider")
        assert [(offer.dataset_id, offer.offer["@id"]) for offer in found.offers] == [("asset-36b858ab", OFFER)]
        assert found.offers[0].formats == ("HttpData-PULL", "HttpData-PUSH")


@pytest.mark.parametrize("number", [10, 14, 15, 17, 18, 19, 22, 33, 34])
async def test_edc_s_answers_to_a_question_are_understood(replay, wire, number):
    """Versions, a dataset, and the state of a process as the partner sees it."""
    recorded = wire[number]
    replay.answer = (recorded["status"], recorded["response"])
    inquiry = replay.exchange.inquiry
    if number == 10:
        assert await inquiry.base(replay.company.did, "provider", "http://127.0.0.1:19194/protocol") == EDC_PROVIDER
    elif number in (14, 15):
        wanted = recorded["path"].rpartition("/")[2]
        found = await inquiry.dataset(replay.company.did, EDC_PROVIDER, "provider", wanted)
        assert (found is None) == (recorded["status"] == 404)
        assert found is None or found.offers[0].dataset_id == wanted
    else:
        area = recorded["path"].split("/")[3]
        state = await inquiry.state(replay.company.did, "provider", f"{EDC_PROVIDER}/{area}/x")
        assert state == (recorded["response"]["state"] if recorded["status"] == 200 else "")


@pytest.mark.parametrize(
    ("number", "state", "waiting"),
    [
        (1, "REQUESTED", ""),  # 200 where the protocol says 201
        (16, "TERMINATED", ""),  # 404: there is no such offer
    ],
)
async def test_edc_s_answers_to_a_contract_request_are_understood(replay, wire, number, state, waiting):
    replay.answer = (wire[number]["status"], wire[number]["response"])
    offer = {"@id": OFFER, "@type": "Offer", "target": "asset-36b858ab", **USE}
    pid = await replay.exchange.negotiate(replay.company.did, EDC_PROVIDER, "provider", offer)
    await replay.quiet()

    after = await replay.exchange.negotiation(replay.company.did, pid)
    assert (after.state, after.waiting) == (state, waiting)
    assert state == "REQUESTED" or "Not found" in after.reason


@pytest.mark.parametrize(("number", "state"), [(5, "REQUESTED"), (7, "REQUESTED"), (21, "TERMINATED")])
async def test_edc_s_answers_to_a_transfer_request_are_understood(replay, wire, number, state):
    await replay.agreement("agreed", "consumer", "provider", "asset-36b858ab")
    replay.answer = (wire[number]["status"], wire[number]["response"])
    pid = await replay.exchange.request_transfer(replay.company.did, "agreed")
    await replay.quiet()

    after = await replay.exchange.transfer(replay.company.did, pid)
    assert after.state == state
    assert bool(after.partner_pid) == (state == "REQUESTED")


@pytest.mark.parametrize(("number", "arrived"), [(3, True), (20, False), (31, False), (32, False)])
async def test_edc_s_answers_to_a_later_message_are_understood(replay, wire, number, arrived):
    """200 without a body: it arrived. 409 for a wrong state and 400 for what EDC does not accept: final, and a person is told."""
    pid = "39611bb2-4a0d-47aa-b5b8-40714a0698ce"
    await replay.transferring(pid, "provider", "consumer", "theirs", "STARTED")
    replay.answer = (wire[number]["status"], wire[number]["response"])
    await replay.exchange.decide_transfer(replay.company.did, pid, "suspend")
    await replay.quiet()

    after = await replay.exchange.transfer(replay.company.did, pid)
    assert (after.state, after.waiting) == ("SUSPENDED", "" if arrived else "person")
    assert len(replay.heard) == 1
    assert len(await replay.company.outbox.stuck(replay.company.did)) == (0 if arrived else 1)


@pytest.mark.parametrize("number", [2, 4, 6, 8, 9, 23, 24, 25, 26, 27, 28, 29, 30, 35, 36, 37, 38])
async def test_edc_s_empty_200_says_that_a_message_arrived(replay, wire, number):
    """What EDC, or the foreign peer, answered to each later message: taken as arrival, whatever the message was."""
    assert (wire[number]["status"], wire[number]["response"]) == (200, None)
    replay.answer = (wire[number]["status"], wire[number]["response"])
    pid = "39611bb2-4a0d-47aa-b5b8-40714a0698ce"
    await replay.transferring(pid, "consumer", "provider", "theirs", "STARTED")
    await replay.exchange.decide_transfer(replay.company.did, pid, "terminate")
    await replay.quiet()

    assert len(replay.heard) == 1
    assert (await replay.exchange.transfer(replay.company.did, pid)).waiting == ""
    assert await replay.company.outbox.stuck(replay.company.did) == []


async def test_a_409_to_the_first_callback_is_repeated_because_edc_may_not_have_recorded_its_own_request(replay, wire):
    replay.names["provider"] = replay.company.did
    pid = (await replay.accepted(1))["providerPid"]
    replay.answer = (409, wire[20]["response"])
    await replay.exchange.decide_negotiation(replay.company.did, pid, "agree")
    await asyncio.sleep(0.02)
    assert len(replay.heard) >= 1
    replay.answer = (200, None)
    await replay.quiet()

    assert len(replay.heard) >= 2
    assert {body["@type"] for _, body in replay.heard} == {"ContractAgreementMessage"}
    assert await replay.company.outbox.stuck(replay.company.did) == []
