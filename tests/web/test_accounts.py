"""Netting, shares, the openness register and mapping suggestions, as a person meets them on the pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from guantong.node import Node
from guantong.settle.netting import check
from guantong.web.loaders.accounts import SAMPLES
from guantong.web.model import WebSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

SignedIn = Callable[[Node], Any]
DEBTS = "debtor,creditor,amount,currency\nA,B,100.00,CNY\nB,C,80.50,CNY\nC,A,120.00,CNY\nA,C,5.00,EUR\n"


async def test_a_netting_shows_before_and_after_and_its_record(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    node, _ = world
    browser = await signed_in(node)
    answer = await browser.act("/netting/clear", table=DEBTS)
    made = (await browser.get("/api/netting")).json["netted"]["items"]

    assert answer.status == 200
    assert "Certificate and roots" not in answer.text
    cny = next(one for one in made if one["currency"] == "CNY")
    assert (cny["gross"], cny["cancelled"], cny["remains"]) == ("300.50", "241.50", "59.00")
    eur = next(one for one in made if one["currency"] == "EUR")
    assert (eur["gross"], eur["cancelled"], eur["remains"]) == ("5.00", "0.00", "5.00")
    page = (await browser.get("/netting?lang=en")).text
    assert "59.00" in page
    assert cny["certificate"] in page


async def test_a_certificate_changed_by_one_cent_is_refused_on_the_page(
    world: tuple[Node, Node], signed_in: SignedIn
) -> None:
    node, _ = world
    browser = await signed_in(node)
    token = {"x-csrf-token": await browser.token()}
    made = (await browser.post("/api/netting/clear", json_body={"table": DEBTS}, headers=token)).json
    document = next(one for one in made["certificates"] if one["currency"] == "CNY")
    assert check(document) == []
    (right,) = (
        await browser.post("/api/netting/check", json_body={"certificate": json.dumps(document)}, headers=token)
    ).json["checked"]
    assert right["problems"] == []
    assert right["recorded"] is not None
    assert all(row["net"] == row["net_after"] for row in right["parties"])

    document["obligations"][0][3] = str(int(document["obligations"][0][3]) - 1)
    (wrong,) = (
        await browser.post("/api/netting/check", json_body={"certificate": json.dumps(document)}, headers=token)
    ).json["checked"]
    assert wrong["problems"]
    assert wrong["recorded"] is None
    html = await browser.act("/netting/check", certificate=json.dumps(document))
    assert "certificate does not hold" in html.text or "证书不成立" in html.text
    for broken in ("{", "[]", "[7]", '{"obligations": [[1]]}', '{"v": 1}'):
        answer = await browser.post("/api/netting/check", json_body={"certificate": broken}, headers=token)
        assert answer.status in (200, 400, 422), (broken, answer.text)
        assert answer.status != 200 or answer.json["checked"][0]["problems"]


async def test_a_table_of_debts_may_be_larger_than_a_form(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    node, _ = world
    browser = await signed_in(node)
    rows = "".join(f"company-{n:05},company-{(n + 1) % 9000:05},1.00,CNY\n" for n in range(9000))
    table = "debtor,creditor,amount,currency\n" + rows
    assert len(table) > WebSettings().max_form_bytes
    answer = await browser.post(
        "/api/netting/clear", json_body={"table": table}, headers={"x-csrf-token": await browser.token()}
    )

    assert answer.status == 200, answer.text
    assert answer.json["checked"][0]["remains"] == "0.00"
    assert len(answer.json["checked"][0]["debts"]) == 200


async def test_shares_come_with_the_reason_of_each(empty: Node, signed_in: SignedIn) -> None:
    browser = await signed_in(empty)
    token = {"x-csrf-token": await browser.token()}
    for name, given in SAMPLES.items():
        assert json.loads((await browser.get(f"/api/shares?sample={name}")).json["inputs"]) == given
        answer = await browser.act("/shares/compute", inputs=json.dumps(given))
        assert answer.status == 200, name
        found = (await browser.post("/api/shares/compute", json_body={"inputs": json.dumps(given)}, headers=token)).json
        assert sum(int(row["share"]) for row in found["rows"]) == given["total"]
    found = (
        await browser.post("/api/shares/compute", json_body={"inputs": json.dumps(SAMPLES["coverage"])}, headers=token)
    ).json
    rows = {row["owner"]: row for row in found["rows"]}
    assert rows["broker"]["copies"] == ["mill"]
    assert rows["broker"]["penalty"] == "0.1"
    assert rows["foundry"]["reason"] | {"weight": ""} == {"rule": "coverage", "records": 4, "alone": 3, "weight": ""}
    # 3.5 against (4.5 less a tenth), the copies' part in two
    assert [rows[name]["share"] for name in ("foundry", "broker", "mill")] == ["46358", "26821", "26821"]


@pytest.mark.parametrize(
    "given",
    [
        "7",
        '{"owners": 5}',
        '{"total": 1, "currency": "CNY", "rule": "shapley", "owners": ["a"], "statistics": {}}',
        '{"total": 1, "currency": "CNY", "rule": "proportional", "owners": ["a"], "weights": {"a": "1e999999999"}}',
        '{"total": 1, "currency": "CNY", "rule": "proportional", "owners": ["a"], "weights": {"a": "1/0"}}',
        '{"total": 1, "currency": "CNY", "rule": "equal", "owners": ["a"], "holdings": 4}',
        '{"total": 1, "currency": "CNY", "rule": "equal", "owners": ["a"], "unknown": 4}',
        '{"pool": {}, "claims": 1}',
    ],
)
async def test_unusable_shares_are_refused_with_a_code(empty: Node, signed_in: SignedIn, given: str) -> None:
    browser = await signed_in(empty)
    answer = await browser.post(
        "/api/shares/compute",
        json_body={"inputs": given},
        headers={"x-csrf-token": await browser.token()},
        accept="application/json",
    )

    assert answer.json["code"] == "settle.share-invalid"


async def test_a_risk_pool_pays_on_evidence(empty: Node, signed_in: SignedIn) -> None:
    browser = await signed_in(empty)
    pool = {
        "pool": {
            "id": "delay", "currency": "CNY", "decimals": 2, "premium": "1000", "members": ["a", "b"],
            "trigger": {"figure": "on-time@1", "below": "0.9"}, "payout": {"each": "300", "step": "0.05"},
        },
        "claims": {"a": {"figure": "f1", "value": "0.79", "unit": "1"}},
    }  # fmt: skip
    answer = await browser.act("/shares/compute", inputs=json.dumps(pool))

    assert answer.status == 200
    assert "600" in answer.text
    assert "no evidence" in answer.text or "没有凭据" in answer.text


async def test_a_source_says_what_its_interface_gives_and_how_to_ask_for_more(
    world: tuple[Node, Node], signed_in: SignedIn
) -> None:
    node, _ = world
    browser = await signed_in(node)
    row = (await browser.get("/api/openness")).json["sources"]["items"][0]
    twin = (await browser.get(f"/api/sources/{row['source']}")).json

    assert twin["openness"] == row
    assert "units" in row["closed"]
    for language, text in (("en", row["request_en"]), ("zh-CN", row["request_zh"])):
        page = (await browser.get(f"/sources/{row['source']}?lang={language}")).text
        assert text.splitlines()[-1] in page
        assert "data-copy" in page


async def test_a_suggestion_is_confirmed_or_rejected_and_not_made_again(
    world: tuple[Node, Node], signed_in: SignedIn
) -> None:
    node, _ = world
    browser = await signed_in(node)
    before = (await browser.get("/api/mappings")).json["suggestions"]["items"]
    assert len(before) >= 2, "a load and a temperature"
    yes, no = before[0], before[1]
    answer = await browser.act("/mappings/confirm", id=yes["id"])
    assert (answer.status, answer.header("location")) == (303, "/mappings")
    await browser.act("/mappings/reject", id=no["id"])

    after = (await browser.get("/api/mappings")).json
    assert not {yes["id"], no["id"]} & {one["id"] for one in after["suggestions"]["items"]}
    assert [one["state"] for one in after["decided"]][:2] == ["rejected", "confirmed"]
