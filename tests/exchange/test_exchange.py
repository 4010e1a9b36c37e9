"""Two whole exchanges: from the catalogue to receipts signed by both, and what happens when a partner is strange or hostile."""

from __future__ import annotations

import asyncio
import io

import orjson
import pyarrow as pa
import pytest
from pyarrow import csv

from guantong.base.clock import NS, SystemClock
from guantong.base.errors import Refused, Retryable, Skippable
from guantong.base.wire import Response
from guantong.exchange import messages
from guantong.exchange.identity import did_document
from guantong.exchange.messages import message, token_of
from guantong.exchange.model import ENTRY_KINDS, Answer
from guantong.exchange.ports import Verdict
from guantong.exchange.receipts import Counting
from guantong.exchange.rules import verify_receipt
from guantong.records.outbox import OutboxSettings


class MovableClock(SystemClock):
    """The machine's clock, shifted."""

    shift = 0

    def now(self) -> int:
        return super().now() + self.shift


async def call(company, partner, method, path, body=None, *, token=None, base="/dsp/2025-1"):
    """A raw request of ``partner`` to ``company``."""
    token = partner.exchange.hosting.tokens.issue(partner.identity, company.did) if token is None else token
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = orjson.dumps(body) if body is not None else None
    answer = await company.network.request(method, f"{company.address}{base}{path}", body=data, headers=headers)
    return answer.status, orjson.loads(answer.body) if answer.body else {}


async def pulled(consumer, transfer_id, **options):
    batches = [batch async for batch in consumer.exchange.pull(consumer.did, transfer_id, **options)]
    return pa.Table.from_batches(batches)


# -- the whole way


async def test_two_companies_go_from_catalogue_to_countersigned_receipt(pair, agreed, started):
    provider, consumer = pair

    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    table = await pulled(consumer, transfer_id)
    given = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)
    taken = await consumer.exchange.wait_receipts(consumer.did, agreement_id, timeout_s=5)

    assert table.equals(provider.table)
    assert [receipt.state for receipt in given + taken] == ["acknowledged", "acknowledged"]
    assert given[0].record == taken[0].record
    assert (given[0].record["rows"], given[0].record["quantity"], given[0].record["seq"]) == (3, "3", 1)
    problems = verify_receipt(
        given[0].record,
        given[0].signature,
        given[0].countersignature,
        provider.identity.evidence_key.public,
        consumer.identity.evidence_key.public,
    )
    assert problems == []


async def test_both_sides_hold_the_same_agreement(pair, agreed):
    provider, consumer = pair

    agreement_id = await agreed(provider, consumer)
    ours = await provider.exchange.agreement(provider.did, agreement_id)
    theirs = await consumer.exchange.agreement(consumer.did, agreement_id)

    assert (ours.agreement_hash, ours.policy_hash) == (theirs.agreement_hash, theirs.policy_hash)
    assert ours.price == theirs.price == {"currency": "CNY", "perRow": "0.01"}
    assert ours.terms == theirs.terms
    assert (ours.role, theirs.role, ours.state, theirs.state) == ("provider", "consumer", "final", "final")


async def test_every_message_that_leaves_is_valid_against_the_protocol_s_schemas(pair, agreed, started, network):
    provider, consumer = pair
    wrong = []

    def look(method, url, body):
        if body and "/dsp/2025-1/" in url:
            sent = orjson.loads(body)
            wrong.extend(messages.problems(sent["@type"], sent))
        return

    network.before.append(look)
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    for verb in ("suspend", "start", "complete"):
        await provider.exchange.decide_transfer(provider.did, await other_pid(provider), verb, reason="for a test")
    await consumer.exchange.wait_transfer(consumer.did, transfer_id, states=("COMPLETED",), timeout_s=5)

    assert wrong == []
    assert len([1 for method, url, _ in network.log if method == "POST" and "/dsp/" in url]) >= 9


async def other_pid(company):
    return (await company.exchange.transfers(company.did))[0].pid


async def test_every_entry_recorded_has_the_declared_shape(pair, agreed, started):
    import jsonschema_rs

    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    await pulled(consumer, await started(provider, consumer, agreement_id))
    await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)

    seen = 0
    for kind in ENTRY_KINDS:
        validator = jsonschema_rs.validator_for(dict(kind.schema))
        for company in pair:
            for body in company.leaves(kind.name):
                assert validator.is_valid(body), (kind.name, list(validator.iter_errors(body)))
                seen += 1
    assert seen >= 18


@pytest.mark.parametrize("whole_bytes", [0, 1024 * 1024])
async def test_the_intent_is_on_record_before_the_first_byte(companies, agreed, started, whole_bytes):
    provider, consumer = await companies("localhost:7001", whole_bytes=whole_bytes), await companies("localhost:7002")
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    answered = provider.network.apps["localhost:7001"]
    recorded_when_the_answer_began = []

    async def watched(scope, receive, send):
        async def sending(event):
            if scope["path"].startswith("/data/") and event["type"] == "http.response.start":
                recorded_when_the_answer_began.extend(provider.leaves("exchange.delivery-intended"))
            await send(event)

        await answered(scope, receive, sending)

    provider.network.apps["localhost:7001"] = watched
    await pulled(consumer, transfer_id)

    assert len(recorded_when_the_answer_began) == 1


async def test_rows_that_can_not_be_read_are_no_delivery(pair, agreed, started):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=counted(1))
    transfer_id = await started(provider, consumer, agreement_id)
    real = provider.exchange.hosting.rows

    async def rows(participant, dataset_id, start=None, end=None):
        raise Retryable("keep.query-lost", reason="for a test")
        yield

    provider.exchange.hosting.rows = rows
    with pytest.raises(Retryable):
        await pulled(consumer, transfer_id)
    provider.exchange.hosting.rows = real
    table = await pulled(consumer, transfer_id)

    assert table.num_rows == 3
    assert len(provider.leaves("exchange.delivery-intended")) == 1


# -- identity at the door


@pytest.mark.parametrize(
    "method, path",
    [
        ("POST", "/catalog/request"),
        ("GET", "/catalog/datasets/x"),
        ("POST", "/negotiations/request"),
        ("POST", "/negotiations/offers"),
        ("GET", "/negotiations/x"),
        ("POST", "/negotiations/x/request"),
        ("POST", "/negotiations/x/offers"),
        ("POST", "/negotiations/x/agreement"),
        ("POST", "/negotiations/x/agreement/verification"),
        ("POST", "/negotiations/x/events"),
        ("POST", "/negotiations/x/termination"),
        ("POST", "/transfers/request"),
        ("GET", "/transfers/x"),
        ("POST", "/transfers/x/start"),
        ("POST", "/transfers/x/completion"),
        ("POST", "/transfers/x/suspension"),
        ("POST", "/transfers/x/termination"),
    ],
)
async def test_without_a_token_every_endpoint_answers_401(pair, method, path):
    provider, consumer = pair

    status, body = await call(provider, consumer, method, path, {} if method == "POST" else None, token="")

    assert status == 401
    assert body["code"] == "exchange.token-refused"


@pytest.mark.parametrize("path", ["/guantong/receipts", "/guantong/questions"])
async def test_without_a_token_the_partner_extension_answers_401(pair, path):
    provider, consumer = pair

    assert (await call(provider, consumer, "POST", path, {}, token="", base=""))[0] == 401


async def test_the_version_and_the_did_document_are_open_to_everybody(pair):
    provider, consumer = pair

    status, version = await call(provider, consumer, "GET", "/.well-known/dspace-version", token="", base="")
    assert (status, messages.problems("VersionResponse", version)) == (200, [])
    assert (await call(provider, consumer, "GET", "/.well-known/did.json", token="", base=""))[1]["id"] == provider.did


async def test_the_same_token_is_refused_the_second_time(pair):
    provider, consumer = pair
    token = consumer.exchange.hosting.tokens.issue(consumer.identity, provider.did)
    request = message("CatalogRequestMessage")

    assert (await call(provider, consumer, "POST", "/catalog/request", request, token=token))[0] == 200
    assert (await call(provider, consumer, "POST", "/catalog/request", request, token=token))[0] == 401


async def test_another_s_process_is_as_unknown_as_none(companies, pair, agreed, started):
    provider, consumer = pair
    stranger = await companies("localhost:7003")
    await started(provider, consumer, await agreed(provider, consumer))
    negotiation = (await provider.exchange.negotiations(provider.did))[0]

    for path in (f"/negotiations/{negotiation.pid}", f"/transfers/{await other_pid(provider)}", "/negotiations/none"):
        status, body = await call(provider, stranger, "GET", path)
        assert (status, body["code"]) == (404, "exchange.process-unknown")


# -- products and catalogue


async def test_nothing_is_offered_without_a_statement_of_rights(pair, product):
    provider, _ = pair
    provider.stated = None

    with pytest.raises(Refused) as refused:
        await provider.exchange.offer(provider.did, product())
    assert refused.value.code == "exchange.no-rights"
    assert await provider.exchange.products(provider.did) == []


async def test_a_product_with_an_unknown_term_is_refused_by_name(pair, product):
    provider, _ = pair
    policy = {
        "permission": [
            {"action": "use", "constraint": [{"leftOperand": "moonPhase", "operator": "eq", "rightOperand": "full"}]}
        ]
    }

    with pytest.raises(Refused) as refused:
        await provider.exchange.offer(provider.did, product(policy=policy))
    assert refused.value.facts["term"] == "moonPhase"


async def test_a_product_is_seen_by_those_it_is_meant_for_only(companies, pair, product):
    provider, consumer = pair
    stranger = await companies("localhost:7003")
    only = {
        "permission": [
            {
                "action": "use",
                "constraint": [{"leftOperand": "recipient", "operator": "eq", "rightOperand": consumer.did}],
            }
        ]
    }
    await provider.exchange.offer(provider.did, product(id="a", dataset_id="a", visible_to=(consumer.did,)))
    await provider.exchange.offer(provider.did, product(id="b", dataset_id="b", policy=only))

    async def seen(company):
        return {
            o.dataset_id for o in (await company.exchange.catalogue(company.did, provider.base, provider.did)).offers
        }

    assert (await seen(consumer), await seen(stranger)) == ({"a", "b"}, set())
    assert (await call(provider, stranger, "GET", "/catalog/datasets/b"))[0] == 404


async def test_products_survive_a_restart_and_withdrawn_ones_are_gone(pair, product):
    provider, _ = pair
    await provider.exchange.offer(provider.did, product(id="a", dataset_id="a"))
    await provider.exchange.offer(provider.did, product(id="b", dataset_id="b"))
    await provider.exchange.withdraw(provider.did, "b")
    await provider.stop()

    provider.build()
    await provider.start()

    assert await provider.exchange.products(provider.did) == [product(id="a", dataset_id="a")]


async def test_a_long_catalogue_comes_in_pages_and_is_read_whole(companies, product):
    provider = await companies("localhost:7001", page_size=3)
    consumer = await companies("localhost:7002")
    for n in range(8):
        await provider.exchange.offer(provider.did, product(id=f"p{n}", dataset_id=f"d{n}"))

    found = await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
    status, page = await call(provider, consumer, "POST", "/catalog/request", message("CatalogRequestMessage"))

    assert [offer.dataset_id for offer in found.offers] == [f"d{n}" for n in range(8)]
    assert (status, len(page["dataset"]), messages.problems("Catalog", page)) == (200, 3, [])


async def test_a_dataset_is_valid_and_an_unknown_filter_is_refused(pair, product):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())

    _, dataset = await call(provider, consumer, "GET", "/catalog/datasets/urn:dataset:spindle")
    status, error = await call(
        provider, consumer, "POST", "/catalog/request", message("CatalogRequestMessage", filter=[{"a": 1}])
    )

    assert messages.problems("Dataset", dataset) == []
    assert (status, error["@type"]) == (400, "CatalogError")


# -- negotiation


def request_of(consumer, product, pid="urn:consumer:1", **changes):
    offer = {"@id": product.offer_id, "@type": "Offer", "target": product.dataset_id, "permission": [{"action": "use"}]}
    return message(
        "ContractRequestMessage", consumerPid=pid, offer={**offer, **changes}, callbackAddress=consumer.base + "/"
    )


async def test_the_same_consumer_pid_gives_the_same_process(pair, product):
    provider, consumer = pair
    plain = product(terms="", price={})
    await provider.exchange.offer(provider.did, plain)
    consumer.network.before.append(lambda method, url, body: Response(200, b"") if consumer.base in url else None)

    answers = await asyncio.gather(
        *(call(provider, consumer, "POST", "/negotiations/request", request_of(consumer, plain)) for _ in range(3))
    )

    assert {status for status, _ in answers} == {201}
    assert len({body["providerPid"] for _, body in answers}) == 1
    assert len(await provider.exchange.negotiations(provider.did)) == 1


async def test_a_repeated_message_is_acknowledged_and_changes_nothing(pair, agreed, network):
    provider, consumer = pair
    sent = []
    network.before.append(lambda method, url, body: sent.append((url, body)))
    await agreed(provider, consumer)
    leaves = len(provider.leaves("exchange.negotiation-moved"))
    verification = next(orjson.loads(body) for url, body in sent if url.endswith("agreement/verification"))
    pid = verification["providerPid"]

    again = await call(provider, consumer, "POST", f"/negotiations/{pid}/agreement/verification", verification)
    altered = await call(
        provider, consumer, "POST", f"/negotiations/{pid}/agreement/verification", {**verification, "@id": "urn:other"}
    )

    assert (again[0], again[1]["state"]) == (200, "FINALIZED")
    assert (altered[0], altered[1]["@type"]) == (400, "ContractNegotiationError")
    assert altered[1]["providerPid"] == pid
    assert len(provider.leaves("exchange.negotiation-moved")) == leaves


async def test_a_request_with_other_rules_waits_for_a_person_who_may_refuse(pair, product):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    cheaper = {**offer.offer, "permission": [{"action": "use"}]}

    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, cheaper)
    with pytest.raises(Retryable) as waited:
        await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=0.1)
    waiting = (await provider.exchange.negotiations(provider.did))[0]
    await provider.exchange.decide_negotiation(provider.did, waiting.pid, "terminate", reason="too cheap")
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert waited.value.code == "exchange.wait-ended"
    assert (waiting.state, waiting.waiting) == ("REQUESTED", "person")
    assert (done.state, done.reason) == ("TERMINATED", "too cheap")


async def test_offers_go_back_and_forth_until_one_is_accepted(pair, product):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    pid = await consumer.exchange.negotiate(
        consumer.did, provider.base, provider.did, {**offer.offer, "permission": [{"action": "use"}]}
    )
    await consumer.outbox.drained()
    theirs = (await provider.exchange.negotiations(provider.did))[0].pid

    await provider.exchange.decide_negotiation(provider.did, theirs, "offer", offer=offer.offer)
    offered = await consumer.exchange.wait_negotiation(consumer.did, pid, states=("OFFERED",), timeout_s=5)
    await consumer.exchange.decide_negotiation(consumer.did, pid, "accept")
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert offered.waiting == "person"
    assert done.state == "FINALIZED"


async def test_a_denied_partner_gets_a_termination_with_the_reason(pair, product):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    provider.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]

    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert (done.state, done.reason) == ("TERMINATED", "grade 3 stays at home")


async def test_a_first_request_that_is_refused_ends_with_the_partner_s_words(pair):
    provider, consumer = pair
    offer = {"@id": "none", "@type": "Offer", "target": "none", "permission": [{"action": "use"}]}

    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert done.state == "TERMINATED"
    assert "exchange.dataset-unknown" in done.reason
    assert [stuck.kind for stuck in await consumer.outbox.stuck(consumer.did)] == ["exchange.dsp"]


@pytest.mark.parametrize("part", ["policy", "target", "assigner"])
async def test_an_agreement_that_is_not_what_was_asked_for_is_terminated(pair, product, network, part):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    real = network.request

    async def lying(method, url, *, body=None, **options):
        if body and url.endswith("/agreement"):
            sent = orjson.loads(body)
            change = {
                "policy": {"permission": [{"action": "use"}]},
                "target": {"target": "urn:dataset:other"},
                "assigner": {"assigner": "did:web:other.example"},
            }[part]
            sent["agreement"] = {**sent["agreement"], **change}
            body = orjson.dumps(sent)
        return await real(method, url, body=body, **options)

    network.request = lying
    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert done.state == "TERMINATED"
    assert part in done.reason
    assert await consumer.exchange.agreements(consumer.did) == []
    with pytest.raises(Refused):
        await consumer.exchange.request_transfer(consumer.did, (await provider.exchange.agreements(provider.did))[0].id)


async def test_text_shown_beside_an_offer_must_be_bound_into_it(pair, product):
    import dataclasses

    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]

    for changed in (
        dataclasses.replace(offer, price={"perRow": "0"}),
        dataclasses.replace(offer, terms="Free of charge."),
    ):
        with pytest.raises(Refused) as refused:
            await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, changed)
        assert refused.value.code == "exchange.term-refused"


@pytest.mark.parametrize("status", [404, 409, 503])
async def test_a_first_callback_that_comes_too_early_is_repeated(pair, agreed, network, status):
    provider, consumer = pair
    early = []

    def not_yet(method, url, body):
        if url.endswith("/agreement") and len(early) < 3:
            early.append(url)
            return Response(status, b"")
        return None

    network.before.append(not_yet)

    assert await agreed(provider, consumer)
    assert len(early) == 3


async def test_a_callback_may_overtake_the_answer_to_the_request(pair, product, network):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    real = network.request

    async def slow(method, url, **options):
        answer = await real(method, url, **options)
        if url.endswith("/request"):
            await asyncio.sleep(0.1)
        return answer

    network.request = slow
    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert done.state == "FINALIZED"


async def test_a_partner_that_answers_200_without_a_body_is_understood(pair, product, network):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    real = network.request

    async def silent(method, url, **options):
        answer = await real(method, url, **options)
        return answer if "/catalog/" in url or answer.status >= 300 or "did.json" in url else Response(200, b"")

    network.request = silent
    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)

    assert (await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)).state == "FINALIZED"


async def test_fifty_negotiations_at_once_all_end(pair, product):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]

    pids = [await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer) for _ in range(50)]
    done = await asyncio.gather(*(consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=20) for pid in pids))

    assert {process.state for process in done} == {"FINALIZED"}
    assert len({process.agreement_id for process in done}) == 50


async def test_a_negotiation_goes_on_after_both_sides_restart(pair, product, network):
    provider, consumer = pair
    await provider.exchange.offer(provider.did, product())
    offer = (await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)).offers[0]
    network.before.append(lambda method, url, body: Response(503, b"") if url.endswith("/agreement") else None)
    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, offer)
    await consumer.outbox.drained()

    for company in pair:
        await company.stop()
    network.before.clear()
    for company in pair:
        company.build()
        await company.start()
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)

    assert done.state == "FINALIZED"


# -- transfer and data plane


async def test_a_transfer_needs_a_final_agreement_of_the_same_partner(companies, pair, agreed):
    provider, consumer = pair
    stranger = await companies("localhost:7003")
    agreement_id = await agreed(provider, consumer)
    request = message(
        "TransferRequestMessage",
        consumerPid="urn:c:1",
        agreementId=agreement_id,
        format="HttpData-PULL",
        callbackAddress=stranger.base,
    )

    status, body = await call(provider, stranger, "POST", "/transfers/request", request)

    assert (status, body["@type"], body["code"]) == (400, "TransferError", "exchange.agreement-unknown")


async def test_an_unknown_format_is_terminated_with_the_reason(pair, agreed):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)

    pid = await consumer.exchange.request_transfer(consumer.did, agreement_id, format="Carrier-Pigeon")
    done = await consumer.exchange.wait_transfer(consumer.did, pid, timeout_s=5)

    assert (done.state, "Carrier-Pigeon" in done.reason) == ("TERMINATED", True)


async def fetch(company, pid, token, **headers):
    async with company.network.stream(
        "GET", f"{company.address}/data/{pid}", headers={"authorization": token, **headers}
    ) as stream:
        return stream.status, b"".join([piece async for piece in stream.chunks()]), stream.headers


async def test_the_data_come_as_csv_and_json_too(pair, agreed, started):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)
    _, token = token_of(transfer.data_address)
    pid = transfer.partner_pid

    as_csv = await fetch(provider, pid, token, accept="text/csv")
    as_json = await fetch(provider, pid, f"Bearer {token}", accept="application/json")

    assert csv.read_csv(io.BytesIO(as_csv[1])).equals(provider.table)
    assert orjson.loads(as_json[1]) == provider.table.to_pylist()
    assert as_csv[2]["content-type"].startswith("text/csv")


@pytest.mark.parametrize("form", ["text/csv", "application/json", "*/*"])
async def test_an_empty_delivery_is_a_valid_body(pair, agreed, started, form):
    provider, consumer = pair
    provider.table = provider.table.slice(0, 0)
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)

    status, body, _ = await fetch(provider, transfer.partner_pid, token_of(transfer.data_address)[1], accept=form)

    assert status == 200
    if form == "application/json":
        assert orjson.loads(body) == []


async def test_a_wrong_token_is_refused(pair, agreed, started):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    second = await started(provider, consumer, await agreed(provider, consumer))
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)
    other = await consumer.exchange.transfer(consumer.did, second)

    for token in ("", "Bearer ", "guess", token_of(other.data_address)[1]):
        assert (await fetch(provider, transfer.partner_pid, token))[0] == 401
    assert (await fetch(provider, "urn:none", "guess"))[0] == 401
    assert provider.leaves("exchange.delivery-intended") == []


async def test_an_expired_token_is_refused_and_renewed(companies, agreed, started):
    clock = MovableClock()
    provider = await companies("localhost:7001", clock=clock)
    consumer = await companies("localhost:7002", clock=clock)
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    await pulled(consumer, transfer_id)
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)

    clock.shift = 3600 * NS

    token = token_of(transfer.data_address)[1]
    assert (await fetch(provider, transfer.partner_pid, token))[0] == 401
    await pulled(consumer, transfer_id)
    renewed = await consumer.exchange.transfer(consumer.did, transfer_id)
    assert token_of(renewed.data_address)[1] != token


@pytest.mark.parametrize(
    "verb, state", [("suspend", "SUSPENDED"), ("complete", "COMPLETED"), ("terminate", "TERMINATED")]
)
async def test_a_token_ends_with_its_transfer(pair, agreed, started, verb, state):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)
    token = token_of(transfer.data_address)[1]

    await provider.exchange.decide_transfer(provider.did, transfer.partner_pid, verb)
    status, _, _ = await fetch(provider, transfer.partner_pid, token)
    done = await consumer.exchange.wait_transfer(consumer.did, transfer_id, states=(state,), timeout_s=5)

    assert status in (401, 403)
    assert done.state == state
    with pytest.raises(Refused):
        await pulled(consumer, transfer_id)


async def test_a_suspended_transfer_started_again_has_a_new_token(pair, agreed, started):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    before = await consumer.exchange.transfer(consumer.did, transfer_id)

    await provider.exchange.decide_transfer(provider.did, before.partner_pid, "suspend")
    await consumer.exchange.wait_transfer(consumer.did, transfer_id, states=("SUSPENDED",), timeout_s=5)
    await provider.exchange.decide_transfer(provider.did, before.partner_pid, "start")
    await consumer.exchange.wait_transfer(consumer.did, transfer_id, states=("STARTED",), timeout_s=5)
    table = await pulled(consumer, transfer_id)

    assert table.equals(provider.table)
    assert (await fetch(provider, before.partner_pid, token_of(before.data_address)[1]))[0] == 401


async def test_an_open_delivery_stops_when_its_transfer_is_terminated(companies, agreed, started):
    provider = await companies("localhost:7001", chunk_rows=10)
    consumer = await companies("localhost:7002")
    provider.table = pa.table({"n": list(range(100_000))})
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    rows = 0

    with pytest.raises(Skippable):
        async for batch in consumer.exchange.pull(consumer.did, transfer_id):
            rows += batch.num_rows
            if rows == 100:
                await provider.exchange.decide_transfer(provider.did, await other_pid(provider), "terminate")
    receipts = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)

    assert 100 <= rows < 2000
    assert (receipts[0].record["complete"], receipts[0].record["rows"]) == (False, rows)


def counted(limit):
    return {
        "permission": [
            {"action": "use", "constraint": [{"leftOperand": "count", "operator": "lteq", "rightOperand": str(limit)}]}
        ]
    }


async def test_a_count_ends_deliveries_also_after_a_restart(pair, agreed, started):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer, policy=counted(2))
    transfer_id = await started(provider, consumer, agreement_id)
    await pulled(consumer, transfer_id)
    await provider.stop()
    provider.build()
    await provider.start()
    await pulled(consumer, transfer_id)

    with pytest.raises(Refused) as refused:
        await pulled(consumer, transfer_id)

    assert "records.limit-reached" in refused.value.facts["reason"]
    assert await provider.exchange.deliveries(provider.did, agreement_id) == 2
    assert [body["code"] for body in provider.leaves("exchange.delivery-refused")] == ["records.limit-reached"]


async def test_a_count_holds_against_pulls_at_the_same_moment(pair, agreed, started):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer, policy=counted(3)))

    outcomes = await asyncio.gather(*(pulled(consumer, transfer_id) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(outcome, pa.Table) for outcome in outcomes) == 3


async def test_each_delivery_is_decided(pair, agreed, started):
    provider, consumer = pair
    transfer_id = await started(provider, consumer, await agreed(provider, consumer))
    await pulled(consumer, transfer_id)
    provider.verdict = Verdict(allowed=False, reason="re-graded")

    with pytest.raises(Refused) as refused:
        await pulled(consumer, transfer_id)

    assert "re-graded" in refused.value.facts["reason"]
    assert [access.action for access in provider.accesses] == ["negotiate", "transfer", "read", "read"]


async def test_a_time_window_is_checked_at_each_delivery(companies, agreed, started):
    clock = MovableClock()
    provider = await companies("localhost:7001", clock=clock)
    consumer = await companies("localhost:7002", clock=clock)
    end = messages_time(clock.now() + 60 * NS)
    window = {
        "permission": [
            {"action": "use", "constraint": [{"leftOperand": "dateTime", "operator": "lteq", "rightOperand": end}]}
        ]
    }
    transfer_id = await started(provider, consumer, await agreed(provider, consumer, policy=window))
    await pulled(consumer, transfer_id)

    clock.shift = 61 * NS

    with pytest.raises(Refused) as refused:
        await pulled(consumer, transfer_id)
    assert "dateTime" in refused.value.facts["reason"]


def messages_time(instant):
    from guantong.base.clock import iso

    return iso(instant, digits=3)


async def test_a_stated_purpose_must_be_the_agreed_one(pair, agreed, started):
    provider, consumer = pair
    policy = {
        "permission": [
            {"action": "use", "constraint": [{"leftOperand": "purpose", "operator": "eq", "rightOperand": "quality"}]}
        ]
    }
    transfer_id = await started(provider, consumer, await agreed(provider, consumer, policy=policy))

    await pulled(consumer, transfer_id, purpose="quality")
    with pytest.raises(Refused):
        await pulled(consumer, transfer_id, purpose="resale")


# -- receipts


async def test_receipts_of_a_transfer_form_a_chain(pair, agreed, started):
    from guantong.base.canonical import digest

    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    for _ in range(3):
        await pulled(consumer, transfer_id)
    receipts = await provider.exchange.wait_receipts(provider.did, agreement_id, count=3, timeout_s=5)

    assert [receipt.seq for receipt in receipts] == [1, 2, 3]
    assert [receipt.record["prev"] for receipt in receipts] == ["", *(digest(dict(r.record)) for r in receipts[:2])]


async def test_a_receipt_offered_twice_at_once_gets_one_answer(pair, agreed, started):
    """As after a restart of the provider, while the consumer still waits for its own count."""
    import asyncio

    from guantong.exchange.model import Participant

    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    await pulled(consumer, transfer_id)
    (receipt,) = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)
    record = {**receipt.record, "recordId": "urn:uuid:another", "seq": 2, "prev": ""}
    from guantong.base.canonical import b64, canonical_bytes

    offer = {"record": record, "signature": b64(provider.identity.evidence_key.sign(canonical_bytes(record)))}
    consumer.exchange.receipting.begin(consumer.did, record["recordId"])
    answering = [
        asyncio.create_task(
            consumer.exchange.receipting.answer(consumer.did, Participant(provider.did, {}, f"token {n}", 1), offer)
        )
        for n in range(3)
    ]
    await asyncio.sleep(0)
    transfer = await consumer.exchange.transfer(consumer.did, transfer_id)
    await consumer.exchange.receipting.received(consumer.did, transfer, record["recordId"], Counting(65536))
    answers = await asyncio.gather(*answering)

    assert answers[0]["statement"]["verdict"] == "dispute"
    assert answers[0] == answers[1] == answers[2]


async def test_a_small_delivery_leaves_after_its_usage_record_is_durable(pair, agreed, started):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    sizes, recorded = [], []

    async for piece in consumer.exchange.pull_bytes(consumer.did, transfer_id):
        sizes.append(len(piece))
        recorded = [r.record["bytes"] for r in await provider.exchange.receipts(provider.did, agreement_id)]

    assert recorded == [sum(sizes)]


async def test_the_end_of_a_delivery_leaves_after_its_usage_record_is_durable(companies, agreed, started):
    provider, consumer = await companies("localhost:7001", whole_bytes=0), await companies("localhost:7002")
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    held = []

    async def at_the_end(participant, pid):
        size = 0
        async for piece in consumer.exchange.pull_bytes(participant, pid):
            size += len(piece)
            held.append(
                (size, [r.record["bytes"] for r in await provider.exchange.receipts(provider.did, agreement_id)])
            )

    await at_the_end(consumer.did, transfer_id)
    size, recorded = held[-1]

    assert len(held) > 1
    assert held[0][1] == []
    assert recorded == [size]


async def test_a_consumer_that_counted_otherwise_disputes(pair, agreed, started):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    real = consumer.exchange.receipting.received

    async def lost_some(participant, transfer, record_id, counting):
        counting.rows -= 1
        await real(participant, transfer, record_id, counting)

    consumer.exchange.receipting.received = lost_some
    await pulled(consumer, transfer_id)
    receipts = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)

    assert receipts[0].state == "disputed"
    assert receipts[0].countersignature["statement"]["reason"] == "counted otherwise: rows"


async def test_opposite_a_plain_connector_a_receipt_is_one_sided(pair, agreed, started, network):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    plain = did_document(consumer.identity, consumer.address)
    plain["service"] = [entry for entry in plain["service"] if entry["type"] != "GuantongPartner"]
    network.before.append(
        lambda method, url, body: Response(200, orjson.dumps(plain)) if "7002/.well-known/did.json" in url else None
    )
    provider.exchange.hosting.resolver._kept.clear()

    await pulled(consumer, await started(provider, consumer, agreement_id))
    receipts = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)

    assert receipts[0].state == "one-sided"
    assert [body["state"] for body in provider.leaves("exchange.usage-countersigned")] == ["one-sided"]


async def test_from_a_plain_connector_the_consumer_keeps_its_own_one_sided_record(pair, agreed, started):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    app = consumer.network.apps["localhost:7001"]

    async def without_our_headers(scope, receive, send):
        async def plain(event):
            if event["type"] == "http.response.start":
                event = {
                    **event,
                    "headers": [pair for pair in event["headers"] if not pair[0].startswith(b"guantong-")],
                }
            await send(event)

        await app(scope, receive, plain)

    consumer.network.apps["localhost:7001"] = without_our_headers
    await pulled(consumer, transfer_id)
    receipts = await consumer.exchange.receipts(consumer.did, agreement_id)

    assert [(receipt.state, receipt.record["rows"]) for receipt in receipts] == [("one-sided", 3)]


async def test_a_forged_record_is_refused(companies, pair, agreed, started):
    provider, consumer = pair
    stranger = await companies("localhost:7003")
    agreement_id = await agreed(provider, consumer)
    await pulled(consumer, await started(provider, consumer, agreement_id))
    receipt = (await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5))[0]
    offered = {"record": dict(receipt.record), "signature": receipt.signature}
    more = {"record": {**receipt.record, "recordId": "urn:new", "rows": 999}, "signature": receipt.signature}
    same_id = {"record": {**receipt.record, "rows": 999}, "signature": receipt.signature}

    async def offer(company, body):
        return await call(consumer, company, "POST", "/guantong/receipts", body, base="")

    assert await offer(provider, offered) == (200, receipt.countersignature)
    for company, body in ((stranger, offered), (provider, more), (provider, same_id), (provider, {})):
        status, problem = await offer(company, body)
        assert (status, problem["code"]) == (400, "exchange.receipt-bad")
    assert len(await consumer.exchange.receipts(consumer.did, agreement_id)) == 1


# -- questions


class Doubler:
    async def answer(self, participant, question):
        if question.body.get("n") is None:
            raise Refused("exchange.question-refused", kind=question.kind)
        return Answer({"n": question.body["n"] * 2})


async def test_a_question_under_an_agreement_is_answered_and_recorded(companies, pair, agreed):
    provider, consumer = pair
    stranger = await companies("localhost:7003")
    agreement_id = await agreed(provider, consumer)
    provider.exchange.answer("double", Doubler())

    answer = await consumer.exchange.ask(consumer.did, agreement_id, "double", {"n": 21})
    for kind, body in (("double", {}), ("unheard", {"n": 1})):
        with pytest.raises(Refused):
            await consumer.exchange.ask(consumer.did, agreement_id, kind, body)
    status, problem = await call(
        provider,
        stranger,
        "POST",
        "/guantong/questions",
        {"kind": "double", "agreementId": agreement_id, "body": {"n": 1}},
        base="",
    )

    assert answer == {"n": 42}
    assert [body["outcome"] for body in provider.leaves("exchange.question-answered")] == [
        "answered",
        "exchange.question-refused",
        "exchange.question-refused",
    ]
    assert (status, problem["code"]) == (400, "exchange.agreement-unknown")


async def test_a_body_beyond_the_limit_is_refused(companies):
    provider = await companies("localhost:7001", body_limit=2000)
    consumer = await companies("localhost:7002")

    status, body = await call(provider, consumer, "POST", "/negotiations/request", {"x": "y" * 3000})

    assert (status, body["code"]) == (413, "exchange.message-too-large")


async def test_receipts_are_verified_anew_with_both_parties_keys(pair, agreed, started):
    import sqlalchemy

    from guantong.base.canonical import canonical_bytes
    from guantong.exchange.tables import RECEIPTS

    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    await pulled(consumer, await started(provider, consumer, agreement_id))
    for company in pair:
        (receipt,) = await company.exchange.wait_receipts(company.did, agreement_id, timeout_s=5)
        assert await company.exchange.verify_receipts(company.did, agreement_id) == ()

    # a row more in the record, as somebody with access to the database could write it
    forged = canonical_bytes({**receipt.record, "rows": receipt.record["rows"] + 1})
    async with consumer.records.step(consumer.did) as step:
        step.apply(lambda connection: connection.execute(sqlalchemy.update(RECEIPTS).values(record=forged)))
    found = await consumer.exchange.verify_receipts(consumer.did, agreement_id)
    assert any("the provider's signature does not match" in problem for problem in found)
    assert all(problem.startswith(receipt.record_id) for problem in found)


async def test_a_partner_that_calls_again_gets_at_once_what_waited_for_it(companies, agreed, network):
    provider, consumer = await companies("localhost:7001"), await companies("localhost:7002")
    provider.outbox.settings = OutboxSettings(first_backoff_s=3600, longest_backoff_s=3600)
    agreement_id = await agreed(provider, consumer)
    callback = consumer.base
    dead = True

    def nobody(method, url, body):
        if dead and url.startswith(f"{callback}/transfers/"):
            raise Retryable("web.unreachable", url=url, reason="for a test")

    network.before.append(nobody)
    pid = await consumer.exchange.request_transfer(consumer.did, agreement_id)
    await asyncio.sleep(0.1)
    waited = (await consumer.exchange.transfer(consumer.did, pid)).state
    dead = False
    await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, timeout_s=5)

    assert (waited, done.state) == ("REQUESTED", "STARTED")


@pytest.mark.parametrize("status", [404, 409])
async def test_a_start_that_comes_too_early_is_repeated(pair, agreed, started, network, status):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    early = []

    def not_yet(method, url, body):
        if url.endswith("/start") and len(early) < 3:
            early.append(url)
            return Response(status, b"")
        return None

    network.before.append(not_yet)
    await pulled(consumer, await started(provider, consumer, agreement_id))

    assert len(early) == 3


async def test_a_start_may_overtake_the_answer_to_its_request(pair, agreed, network):
    provider, consumer = pair
    agreement_id = await agreed(provider, consumer)
    real = network.request

    async def slow(method, url, **options):
        answer = await real(method, url, **options)
        if url.endswith("/transfers/request"):
            await asyncio.sleep(0.1)
        return answer

    network.request = slow
    pid = await consumer.exchange.request_transfer(consumer.did, agreement_id)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, timeout_s=5)
    table = await pulled(consumer, pid)

    assert (done.state, table.num_rows) == ("STARTED", 3)


async def test_processes_that_memory_has_let_go_are_taken_up_from_the_records(companies, agreed, started):
    provider = await companies("localhost:7001", process_cache=1)
    consumer = await companies("localhost:7002", process_cache=1)

    agreements = [await agreed(provider, consumer) for _ in range(3)]
    transfers = [await started(provider, consumer, agreement_id) for agreement_id in agreements]
    tables = [await pulled(consumer, transfer_id) for transfer_id in transfers]

    assert [table.num_rows for table in tables] == [3, 3, 3]
    assert [(await provider.exchange.agreement(provider.did, one)).state for one in agreements] == ["final"] * 3


async def test_a_receipt_that_comes_while_the_consumer_still_counts_comes_again_and_is_not_disputed(
    companies, agreed, started
):
    provider, consumer = await companies("localhost:7001"), await companies("localhost:7002", receipt_wait_s=0.02)
    agreement = await agreed(provider, consumer)
    pid = await started(provider, consumer, agreement)
    rows = 0
    async for batch in consumer.exchange.pull(consumer.did, pid):
        rows += batch.num_rows
        await asyncio.sleep(0.3)  # the provider has sent everything, and offers its record
    receipts = await consumer.exchange.wait_receipts(consumer.did, agreement, timeout_s=5)

    assert rows == 3
    assert [one.state for one in receipts] == ["acknowledged"]
    assert await provider.exchange.verify_receipts(provider.did, agreement) == ()
