"""The auditor: a session that reads and changes nothing, search, the regulator's pack, a deposit that never poses as a certificate."""

from __future__ import annotations

import json

import pytest

from guantong.base.canonical import canonical_bytes, unb64
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import verify_ed25519
from guantong.prove.rules import parse_trust, read_zip
from guantong.verify import verify_package
from guantong.web import auditing
from guantong.web.actions import ACTIONS
from guantong.web.ask import Ask
from guantong.web.pages import PAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")


def asked(**given: str) -> Ask:
    return Ask({}, given)


async def test_what_the_read_only_role_may_is_what_there_is() -> None:
    assert {page.name for page in PAGES} >= auditing.AUDITOR_SEES
    assert {action.path for action in ACTIONS} >= auditing.AUDITOR_MAY


async def test_an_auditor_opens_contracts_and_evidence_and_can_change_nothing(world, browser_of) -> None:
    supplier, _ = world
    link = await auditing.invite(supplier._rooms, asked())
    browser = browser_of(supplier)
    await browser.send("GET", "/sign-in?" + link["link"].partition("?")[2])

    codes = {
        path: (await browser.send("GET", path)).status
        for path in ("/evidence", "/api/contracts", "/sources", "/api/signals", "/settings")
    }
    assert codes == {"/evidence": 200, "/api/contracts": 200, "/sources": 403, "/api/signals": 403, "/settings": 403}
    session = await supplier.app.state.sign_in.session(supplier.participant, next(iter(browser.cookies.values())))
    assert session.role == "auditor"
    for action in ACTIONS:
        if action.path not in auditing.AUDITOR_MAY and "{" not in action.path:
            answer = await browser.send(
                "POST",
                "/api" + action.path,
                headers={"content-type": "application/json", "x-csrf-token": session.csrf},
                body=b"{}",
            )
            assert (answer.status, answer.json["code"]) == (403, "web.read-only"), action.path


async def test_the_regulator_s_pack_says_who_received_what_under_which_contract(world) -> None:
    supplier, customer = world
    files = read_zip(await auditing.regulator(supplier._rooms, asked()))
    pack = json.loads(files["pack.json"])

    assert set(files) == {"README.txt", "agreements.csv", "deliveries.csv", "grades.csv", "pack.json"}
    assert pack["agreements"][0]["partner"] == customer.participant
    assert pack["deliveries"]
    assert {one["agreement"] for one in pack["deliveries"]} <= {one["agreement"] for one in pack["agreements"]}
    assert files["deliveries.csv"].startswith("\ufeffrecordedAt,".encode())
    later = json.loads(
        read_zip(await auditing.regulator(supplier._rooms, asked(**{"from": "2250-01-01T00:00:00Z"})))["pack.json"]
    )
    assert later["deliveries"] == []


async def test_search_finds_by_kind_text_and_period(world) -> None:
    rooms = world[0]._rooms
    everything = (await auditing.search(rooms, asked()))["entries"]
    made = (await auditing.search(rooms, asked(kind="exchange.agreement-made")))["entries"]

    assert [one["number"] for one in everything] == sorted((one["number"] for one in everything), reverse=True)
    assert {one["kind"] for one in made} == {"exchange.agreement-made"}
    partner = (await auditing.search(rooms, asked(text=world[1].participant)))["entries"]
    assert 0 < len(partner) < len(everything)
    assert (await auditing.search(rooms, asked(**{"from": "2250-01-01T00:00:00Z"})))["entries"] == []
    with pytest.raises(Skippable):
        await auditing.search(rooms, asked(to="2999-01-01T00:00:00Z"))


async def test_a_deposit_is_signed_holds_the_package_and_says_that_it_is_no_certificate(world) -> None:
    supplier, _ = world
    agreement = (await supplier.exchange.agreements(supplier.participant))[0].id
    files = read_zip(await auditing.deposit(supplier._rooms, asked(agreement=agreement, uscc="91330100799655058B")))
    deposit = json.loads(files["deposit.json"])
    signature = deposit.pop("signature")

    assert "不是任何登记机构颁发的登记证书" in deposit["notice"]["zh"]
    assert [one["uscc"] for one in deposit["parties"]] == ["91330100799655058B", None]
    assert verify_ed25519(supplier.keys.evidence.public, canonical_bytes(deposit), unb64(signature["value"]))
    assert verify_package(files["evidence.guantong.zip"], parse_trust(await supplier.trust())).verdict == "ok"
    with pytest.raises(Skippable) as caught:
        await auditing.deposit(supplier._rooms, asked(agreement=agreement, uscc="91330100799655058A"))
    assert caught.value.code == "base.identifier-wrong"
    with pytest.raises((Skippable, Refused)):
        await auditing.deposit(supplier._rooms, asked(agreement="urn:uuid:none"))
