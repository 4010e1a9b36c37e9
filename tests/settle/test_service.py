"""Two companies settle: they agree, they differ, they repeat, they forge."""

from __future__ import annotations

import asyncio

import jsonschema_rs
import orjson
import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from tests.settle.conftest import AGREEMENT, CONSUMER, PLAN, PROVIDER, receipt, usage

from guantong.base.canonical import canonical_bytes, unb64
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import verify_ed25519
from guantong.exchange.model import Participant
from guantong.records import Message
from guantong.records.tables import LEAVES, OUTBOX
from guantong.settle.model import AGREED, DISPUTED, ENTRY_KINDS, EXPECTED, ISSUED, REPLACED
from guantong.settle.routes import routes
from guantong.settle.service import PATH


async def leaves(company):
    rows = await company.records.rows(select(LEAVES).order_by(LEAVES.c.number))
    return [orjson.loads(row["leaf"]) for row in rows]


async def test_both_sides_derive_and_sign_the_same_invoice(companies):
    supplier, customer = companies
    supplier.receipts = [receipt(usage(0, 3000)), receipt(usage(1, 2000))]
    customer.receipts = list(reversed(supplier.receipts))
    expected = await customer.settle.invoice(CONSUMER, AGREEMENT)
    issued = await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    (ours,) = await supplier.settle.invoices(PROVIDER)
    (theirs,) = await customer.settle.invoices(CONSUMER)

    assert (expected.state, expected.total, issued.state) == (EXPECTED, "12.40", ISSUED)
    assert (ours.state, theirs.state) == (AGREED, AGREED)
    assert ours.total == theirs.total == "12.40"
    assert ours.document == theirs.document
    assert ours.number == theirs.number == "GT-2026-000001"
    signed = canonical_bytes(ours.document)
    for signature, key in zip(ours.signatures, (supplier.key, customer.key), strict=True):
        assert verify_ed25519(key.public, signed, unb64(signature["value"]))
    assert ours.signatures == theirs.signatures


async def test_every_step_is_an_entry_that_fits_its_schema(companies):
    supplier, customer = companies
    supplier.receipts = [receipt(usage(0, 3000))]
    customer.receipts = [receipt(usage(0, 3001))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    customer.receipts = list(supplier.receipts)
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    schemas = {kind.name: kind.schema for kind in ENTRY_KINDS}
    kinds = []
    for leaf in await leaves(supplier) + await leaves(customer):
        jsonschema_rs.validator_for(dict(schemas[leaf["kind"]])).validate(leaf["body"])
        kinds.append(leaf["kind"])

    assert kinds == [
        "settle.invoice-derived",
        "settle.invoice-sent",
        "settle.invoice-disputed",
        "settle.invoice-agreed",
        "settle.invoice-disputed",
        "settle.invoice-agreed",
    ]


async def test_a_difference_is_a_dispute_on_both_sides_that_names_the_receipts(companies):
    supplier, customer = companies
    supplier.receipts = [receipt(usage(0, 3000)), receipt(usage(1, 2000)), receipt(usage(2, 1))]
    customer.receipts = [receipt(usage(0, 3000)), receipt(usage(1, 1999))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    (ours,) = await supplier.settle.disputes(PROVIDER)
    (theirs,) = await customer.settle.disputes(CONSUMER)

    assert [(row["receipt"], row["why"]) for row in ours.differences if row["receipt"]] == [
        ("urn:uuid:record-t1-1", "record-differs"),
        ("urn:uuid:record-t1-2", "only-mine"),
    ]
    assert [(row["receipt"], row["why"]) for row in theirs.differences if row["receipt"]] == [
        ("urn:uuid:record-t1-1", "record-differs"),
        ("urn:uuid:record-t1-2", "only-theirs"),
    ]
    assert ours.partner_document == theirs.document
    assert theirs.partner_document == ours.document


async def test_a_dispute_ends_when_the_receipts_are_the_same_after_all(companies):
    supplier, customer = companies
    supplier.receipts = [receipt(usage(0, 3000))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    before = [row.state for row in await customer.settle.invoices(CONSUMER)]
    customer.receipts = list(supplier.receipts)
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()

    assert before == [DISPUTED]
    assert [row.state for row in await supplier.settle.invoices(PROVIDER)] == [AGREED]
    assert sorted(row.state for row in await customer.settle.invoices(CONSUMER)) == [AGREED, REPLACED]


async def test_deriving_again_changes_nothing_and_takes_no_number(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    first = await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    second = await supplier.settle.invoice(PROVIDER, AGREEMENT)

    assert (first.number, second.number) == ("GT-2026-000001", "GT-2026-000001")
    assert second.state == AGREED
    assert len(await supplier.records.rows(select(OUTBOX))) == 1
    assert len(supplier.posted) == 1


async def test_later_receipts_make_a_new_invoice_that_replaces_the_first(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    supplier.receipts = customer.receipts = [*supplier.receipts, receipt(usage(1, 500))]
    latest = await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()

    assert (latest.number, latest.document["replaces"]) == ("GT-2026-000002", "GT-2026-000001")
    for company in companies:
        states = {row.number: row.state for row in await company.settle.invoices(company.did)}
        assert states == {"GT-2026-000001": REPLACED, "GT-2026-000002": AGREED}
    assert await supplier.settle.totals(PROVIDER) == {"provider agreed": {"CNY": latest.total}}


async def test_a_repeated_message_gets_the_same_answer_and_records_nothing_new(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    before = await leaves(customer)
    body = supplier.posted[0]
    again = await customer.settle.receive(CONSUMER, PROVIDER, body)

    assert again["verdict"] == AGREED
    assert again["signature"] == (await supplier.settle.invoices(PROVIDER))[0].signatures[1]
    assert await leaves(customer) == before


async def test_a_forged_invoice_is_refused_and_nothing_is_recorded(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    body = orjson.loads(orjson.dumps(supplier.posted[0]))
    before = await leaves(customer)
    body["invoice"]["total"] = "9999.00"
    with pytest.raises(Refused) as caught:
        await customer.settle.receive(CONSUMER, PROVIDER, body)

    assert caught.value.code == "base.signature-bad"
    assert await leaves(customer) == before


async def test_a_price_plan_that_only_one_side_holds_is_a_dispute(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    customer.plan = {**PLAN, "minimum": "2.00"}
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    await supplier.carry()
    (found,) = await supplier.settle.disputes(PROVIDER)

    assert "plan-differs" in {row["why"] for row in found.differences}


async def test_only_the_provider_of_the_agreement_may_invoice(companies):
    supplier, customer = companies
    customer.receipts = supplier.receipts = [receipt(usage(0, 3000))]
    await customer.settle.invoice(CONSUMER, AGREEMENT)
    held = (await customer.settle.invoices(CONSUMER))[0]
    body = {"invoice": {**held.document, "number": "X"}}
    body["signature"] = customer.settle.sign(CONSUMER, body["invoice"])
    with pytest.raises(Refused) as caught:
        await supplier.settle.receive(PROVIDER, CONSUMER, body)

    assert caught.value.code == "settle.not-a-party"


async def test_a_plain_connector_has_no_invoices_and_the_invoice_stays_issued(companies):
    supplier, customer = companies
    customer.has_endpoint = False
    supplier.receipts = [receipt(usage(0, 3000), "one-sided")]
    found = await supplier.settle.invoice(PROVIDER, AGREEMENT)
    message = Message("x", "settle.invoice", "k", {"agreementId": AGREEMENT, "basis": found.basis})
    with pytest.raises(Refused) as caught:
        await supplier.settle.deliver(PROVIDER, message)

    assert caught.value.code == "settle.partner-refused"
    assert (await supplier.settle.invoices(PROVIDER))[0].state == ISSUED
    assert found.document["receipts"][0]["oneSided"] is True


async def test_without_a_receipt_that_counts_there_is_no_invoice(companies):
    supplier, _ = companies
    supplier.receipts = [receipt(usage(0, 3000), "offered")]
    with pytest.raises(Refused) as caught:
        await supplier.settle.invoice(PROVIDER, AGREEMENT)

    assert caught.value.code == "settle.nothing-to-invoice"
    assert (await supplier.settle.preview(PROVIDER, AGREEMENT))["total"] == "0.00"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"invoice": []},
        {"invoice": {"v": 1, "type": "invoice"}},
        {"invoice": {"v": 1, "type": "invoice", "agreementId": AGREEMENT, "number": "1", "receipts": ["x"]}},
    ],
)
async def test_a_body_that_is_no_invoice_is_refused_by_name(companies, body):
    _, customer = companies
    with pytest.raises(Skippable) as caught:
        await customer.settle.receive(CONSUMER, PROVIDER, body)

    assert caught.value.code == "settle.invoice-unusable"


async def test_the_endpoint_answers_over_http_and_says_what_is_wrong(companies):
    supplier, customer = companies
    supplier.receipts = customer.receipts = [receipt(usage(0, 3000))]
    issued = await supplier.settle.invoice(PROVIDER, AGREEMENT)
    body = {"invoice": issued.document, "signature": issued.signatures[0]}

    async def identify(participant, authorization):
        # whose token this is has been checked in exchange's own tests
        assert participant == CONSUMER
        if authorization != "Bearer supplier":
            raise Refused("exchange.token-refused", reason="there is no bearer token")
        return Participant(PROVIDER)

    app = Starlette(routes=routes(customer.settle, CONSUMER, identify))
    good = await post(app, orjson.dumps(body), {"authorization": "Bearer supplier"})
    bad = await post(app, b"{", {"authorization": "Bearer supplier", "accept-language": "zh-CN"})
    long = await post(app, b" " * 5_000_000, {"authorization": "Bearer supplier"})

    stranger = await post(app, orjson.dumps(body), {})

    assert stranger[0] == 401
    assert (good[0], good[1]["verdict"]) == (200, AGREED)
    assert (bad[0], bad[1]["code"]) == (400, "settle.invoice-unusable")
    assert "账单" in bad[1]["title"]
    assert long[0] == 400


async def post(app, body, headers):
    sent = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    parts = [body[at : at + 65536] for at in range(0, len(body), 65536)]

    async def receive():
        part = parts.pop(0) if parts else b""
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))


class Pausing:
    """The customer's records; the first question for its counter, asked after its invoices were read, waits until it is let go."""

    def __init__(self, records) -> None:
        self.records = records
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.records, name)

    async def counter(self, participant, name):
        self.asked.set()
        await self.go.wait()
        return await self.records.counter(participant, name)


async def test_the_partners_invoice_that_comes_while_ours_is_derived_is_not_lost(companies):
    supplier, customer = companies
    supplier.receipts = [receipt(usage(0, 3000))]
    customer.receipts = list(supplier.receipts)
    customer.settle.records = slow = Pausing(customer.settle.records)
    await supplier.settle.invoice(PROVIDER, AGREEMENT)
    ours = asyncio.create_task(customer.settle.invoice(CONSUMER, AGREEMENT))
    await slow.asked.wait()
    theirs = asyncio.create_task(supplier.carry())
    for _ in range(200):  # as far as it gets
        await asyncio.sleep(0)
    slow.go.set()
    await asyncio.gather(ours, theirs)

    assert [found.state for found in await customer.settle.invoices(CONSUMER)] == [AGREED]
    assert [found.state for found in await supplier.settle.invoices(PROVIDER)] == [AGREED]
