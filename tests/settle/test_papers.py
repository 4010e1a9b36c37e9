"""Invoices on paper: UBL against the official schemas and somebody else's EN 16931 rules, HTML, and PDF that is read back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from tests.settle.conftest import AGREEMENT, CONSUMER, PROVIDER, usage

from guantong.base.clock import parse_iso
from guantong.base.errors import Refused
from guantong.settle import credit, dispute, rules
from guantong.settle.papers import contract_paper, html, invoice_paper, pdf
from guantong.settle.ubl import Party, ubl

SUPPLIER = Party(
    "精密铣削有限公司", "CN", "91330100799655058B", "91330100799655058B", "滨江区江南大道 1 号", "杭州", "310051"
)
CUSTOMER = Party("Werkzeugbau & Söhne <GmbH>", "DE", "HRB 4711", "DE136695976", "Hauptstraße 5", "Bochum", "44789")
PLAN = {
    "currency": "CNY",
    "charges": [
        {"per": "row", "tiers": [{"from": "0", "price": "0.01"}, {"from": "1000", "price": "0.004"}], "free": "100"},
        {"per": "transfer", "price": "0.5"},
        {"per": "month", "price": "20"},
    ],
    "discounts": [{"name": "launch", "rate": "0.1", "reason": "first year"}],
    "taxes": [{"name": "增值税 6%", "rate": "0.06"}],
}
AT = parse_iso("2026-11-24T10:00:00Z")
PARTIES = {"agreementId": AGREEMENT, "provider": PROVIDER, "consumer": CONSUMER}


def invoice(plan: Any = PLAN, rows: int = 2500, **more: Any) -> dict[str, Any]:
    records = [usage(0, rows), usage(1, 40, transfer="urn:uuid:t2")]
    return rules.invoice(rules.PricePlan.parse(plan), records, number="GT-2026-000001", issued_at=AT, **more)


def checked(data: bytes) -> list[str]:
    """What the OASIS schema and an implementation of EN 16931's rules that is not ours find wrong; process identifiers are Peppol's own."""
    from peppol.rules import check_rules
    from peppol.xsd import validate_xsd

    valid, problems = validate_xsd(data)
    assert valid, problems
    found = [str(one) for one in check_rules(etree.fromstring(data)) if "fatal" in str(one).lower()]
    return [one for one in found if "endpoint" not in one.lower()]


def note(reason: str = "dispute") -> dict[str, Any]:
    plan = rules.PricePlan.parse({**PLAN, "service": {"complete": "0.99", "credit": "0.05"}})
    records = [usage(0, 2500, complete=False), usage(1, 40, transfer="urn:uuid:t2")]
    given_ = {"number": "GTC-2026-000001", "issued_at": AT, "invoice_number": "GT-2026-000001", "parties": PARTIES}
    if reason == "service-level":
        return credit.for_service(plan, records, **given_)
    agreed = {"recordId": records[0]["recordId"], "agreed": {"rows": 1500, "bytes": 60_000}}
    return credit.for_disputes(plan, records, [agreed], **given_)


@pytest.mark.parametrize(
    "document",
    [
        invoice(),
        invoice({**PLAN, "taxes": []}),
        invoice({**PLAN, "taxes": [{"name": "VAT", "rate": "0"}]}),
        invoice({**PLAN, "minimum": "500"}),
        invoice({**PLAN, "cap": "10", "discounts": []}),
        invoice({"currency": "JPY", "decimals": 0, "charges": [{"per": "row", "price": "3"}], "taxes": [{"name": "VAT", "rate": "0.1"}]}),
        note(),
        note("service-level"),
    ],
    ids=["tiers and discount", "no tax", "zero rate", "minimum", "cap", "yen", "credit note", "service level"],
)  # fmt: skip
def test_ubl_is_valid_by_the_official_schema_and_keeps_the_rules_of_en_16931(document: Any) -> None:
    data = ubl(document, SUPPLIER, CUSTOMER, fapiao="24332000000012345678")

    assert checked(data) == []
    spaces = {"c": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"}
    (payable,) = etree.fromstring(data).findall(".//c:PayableAmount", spaces)
    assert payable.text == document["total"]
    assert payable.get("currencyID") == document["currency"]


@given(
    st.integers(0, 5000),
    st.decimals("0.0001", "9", places=4),
    st.decimals(0, "0.5", places=2),
    st.sampled_from(["0.06", "0.13", "0.19"]),
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_prices_the_sums_of_the_ubl_agree_with_each_other(
    rows: int, price: Decimal, off: Decimal, rate: str
) -> None:
    plan = {
        "currency": "EUR",
        "charges": [{"per": "row", "price": str(price)}, {"per": "byte", "price": "0.0003"}],
        "discounts": [{"name": "d", "rate": str(off), "reason": "r"}],
        "taxes": [{"name": "VAT", "rate": rate}],
    }

    assert checked(ubl(invoice(plan, rows), SUPPLIER, CUSTOMER)) == []


def test_two_taxes_or_a_missing_tax_number_are_refused_by_name() -> None:
    two = invoice({**PLAN, "taxes": [{"name": "A", "rate": "0.06"}, {"name": "B", "rate": "0.01"}]})
    for document, party in ((two, SUPPLIER), (invoice(), Party("x"))):
        with pytest.raises(Refused) as caught:
            ubl(document, party, CUSTOMER)
        assert caught.value.code == "settle.paper-impossible"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_html_says_everything_and_nothing_of_a_name_becomes_markup(language: str) -> None:
    document = invoice()
    page = html(invoice_paper(document, [{"by": PROVIDER}], SUPPLIER, CUSTOMER, language=language))

    assert "&lt;GmbH&gt;" in page
    assert "<GmbH>" not in page
    for text in (document["total"], document["number"], "91330100799655058B", "first year", document["recordsRoot"]):
        assert text in page
    assert ("发票号码" in page) == (language == "zh")
    assert "src=" not in page
    assert "href=" not in page


@pytest.mark.parametrize("document", [invoice(), note()], ids=["invoice", "credit note"])
def test_a_pdf_read_back_says_the_same_in_chinese_with_its_font_inside(document: Any) -> None:
    import pylopdf

    data = pdf(
        invoice_paper(document, [{"by": PROVIDER}, {"by": CONSUMER}], SUPPLIER, CUSTOMER, fapiao="24332000000012345678")
    )
    opened = pylopdf.Document(stream=data)
    text = "\n".join(opened.get_page_text(at) for at in range(opened.page_count))
    opened.close()

    assert data.startswith(b"%PDF-")
    assert b"/FontFile" in data
    assert len(data) < 300_000  # the letters that are used, not the whole font
    for wanted in (document["number"], document["total"], "精密铣削有限公司", "24332000000012345678", "合计"):
        assert wanted in text, text


def test_a_long_contract_runs_over_pages_with_its_rules_price_and_places_to_sign() -> None:
    import pylopdf

    paper = contract_paper(
        agreement_id=AGREEMENT, agreement_hash="sha256:" + "a" * 64, dataset="主轴负载", agreed_at="2026-11-24", provider=SUPPLIER,
        consumer=CUSTOMER, rules=[("仅用于来料检验", "enforced"), ("不得再次转让", "legal")], terms="\n".join(["第一条 数据用途。" * 12] * 60),
        price=PLAN,
    )  # fmt: skip
    opened = pylopdf.Document(stream=pdf(paper))
    text = "\n".join(opened.get_page_text(at) for at in range(opened.page_count))
    pages = opened.page_count
    opened.close()

    assert pages > 2
    for wanted in ("数据合约", "仅用于来料检验", "由系统执行", "提供方（签字、盖章、日期）", "0.004"):
        assert wanted in text
    assert "数据合约" in html(paper)


def test_a_credit_note_after_a_dispute_leaves_what_was_agreed_on() -> None:
    plan = rules.PricePlan.parse(PLAN)
    records = [usage(0, 2500), usage(1, 40, transfer="urn:uuid:t2")]
    corrected = [dispute.counted(records[0], {"rows": 1500, "bytes": 60_000}), records[1]]
    whole, less = (rules.invoice(plan, one, number="", issued_at=AT) for one in (records, corrected))

    assert Decimal(whole["total"]) - Decimal(note()["total"]) == Decimal(less["total"])
