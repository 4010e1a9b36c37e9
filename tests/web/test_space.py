"""Spaces with real nodes on real sockets: the page, the buttons, and a company behind the relay's WebSocket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem
from guantong.config import load
from guantong.exchange.keyring import FILE, load_keys
from guantong.exchange.relayed import take_seat
from guantong.exchange.space import looked
from guantong.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def new_node(folder: Path, name: str) -> Node:
    node = Node(load({"node.directory": folder, "node.name": name, "web.port": 0}, environment={}))
    await node.start()
    await node.serve()
    return node


async def page(browser: Any) -> Any:
    return (await browser.get("/api/partners")).json


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A leader, and a supplier that is at no address but the leader's relay."""
    from tests.web.conftest import Browser

    leader = await new_node(tmp_path_factory.mktemp("leader"), "Gear Works")
    browser = Browser(leader.app)
    await browser.get((await leader.sign_in_link()).removeprefix(leader.address))
    await browser.act("/partners/space", name="Gear makers")
    made = await browser.send(
        "POST",
        "/api/partners/invite",
        json_body={"name": "Zhou Gears"},
        headers={"x-csrf-token": await browser.token()},
    )
    link = made.json["link"]
    folder = tmp_path_factory.mktemp("supplier")
    keys = load_keys(folder / FILE)
    seat = await take_seat(folder, leader.http, SystemClock(), keys.identity, await looked(leader.http, link), "zhou")
    supplier = await new_node(folder, "Zhou Gears")
    assert supplier.uplink is not None
    await supplier.uplink.connected(10)
    own = Browser(supplier.app)
    signed = await own.get((await supplier.sign_in_link()).removeprefix(supplier.local))
    assert signed.status == 200
    yield leader, browser, supplier, own, link, seat
    await supplier.stop()
    await leader.stop()


async def test_the_page_of_the_leader_offers_and_shows_what_the_commands_do(scene: Any) -> None:
    leader, browser, _, _, link, _ = scene
    made = await browser.act("/partners/invite", name="Li Forge", days="2", kind="guest")
    wrong = await browser.act("/partners/invite", name="x", days="1000")
    found = await page(browser)
    for language in ("en", "zh-CN"):
        html = (await browser.get(f"/partners?lang={language}")).text
        assert "Gear makers" in html

    assert made.status == 200
    assert "<svg" in made.text
    assert "/space/guest#" in made.text
    assert wrong.status == 400
    assert found["spaces"][0]["issuer"] == leader.participant
    assert found["required"] == ["MembershipCredential"]
    assert {(one["name"], one["kind"]) for one in found["invitations"]} >= {
        ("Zhou Gears", "join"),
        ("Li Forge", "guest"),
    }
    assert link.partition("#")[2] not in str(found)
    (guest,) = [one for one in found["invitations"] if one["kind"] == "guest"]
    await browser.act("/partners/withdraw", invitation=guest["id"])
    assert [one["state"] for one in (await page(browser))["invitations"] if one["kind"] == "guest"] == ["withdrawn"]


async def test_a_company_behind_the_relay_joins_with_its_button_and_is_spoken_with(scene: Any) -> None:
    leader, browser, supplier, own, link, seat = scene
    answer = await own.send(
        "POST", "/api/partners/join", json_body={"link": link}, headers={"x-csrf-token": await own.token()}
    )
    catalogue = await leader.exchange.catalogue(leader.participant, f"{seat.address}/dsp/2025-1", supplier.participant)
    theirs, ours = await page(own), await page(browser)
    html = (await own.get("/partners?lang=zh-CN")).text

    assert answer.json["issued"]
    assert answer.json["relay"] == leader.address
    assert catalogue.participant_id == supplier.participant == seat.did
    assert theirs["relay"]["connected"]
    assert "可以读到其内容" in html
    assert ours["relayed"] == [{"name": "zhou", "did": seat.did, "state": "hosted", "connected": True, "in_flight": 0}]
    assert {one["name"] for one in ours["members"]} == {"Gear Works", "Zhou Gears"}
    assert any(one["did"] == leader.participant and one["name"] == "Gear Works" for one in theirs["partners"])
    assert supplier.health()["relay"]["state"] == "running"
    assert supplier.local != supplier.address == seat.address


async def test_the_door_for_companies_is_shut_without_proof(scene: Any) -> None:
    leader, _, supplier, _, _, _ = scene
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"authorization": "Bearer x.y.z"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{leader.address}/space/relay/zhou", headers=headers)
            assert refused.value.status == 403
        async with session.get(f"{supplier.address}/api/partners") as answer:
            assert answer.status == 404
        async with session.get(f"{leader.address}/space/join") as answer:
            assert "guantong space join" in await answer.text()


async def test_when_the_relay_is_gone_the_page_says_so_and_it_comes_back_by_itself(scene: Any) -> None:
    leader, browser, supplier, own, _, _ = scene
    link = leader.exchange.relay._links[(leader.participant, "zhou")]
    at = supplier.uplink.since
    await link.socket.close()
    for _ in range(500):
        if not supplier.uplink.since:
            break
        await asyncio.sleep(0.01)
    gone = await page(own)
    health = supplier.health()["relay"]
    await supplier.uplink.connected(10)

    assert gone["relay"]["connected"] is False
    assert (gone["relay"]["error"], health["code"]) == ("exchange.relay-lost", "exchange.relay-lost")
    assert health["state"] == "waiting"
    assert supplier.uplink.since > at
    assert (await page(browser))["relayed"][0]["connected"]


async def test_a_node_that_has_a_name_keeps_it(scene: Any) -> None:
    from guantong.cli.space import _keys_of_a_new_node, _needs_relay, _slug

    leader, _, supplier, _, link, _ = scene
    with pytest.raises(ConfigProblem) as failed:
        _keys_of_a_new_node(leader.directory)

    assert failed.value.code == "exchange.relay-name-late"
    assert _keys_of_a_new_node(supplier.directory) is None
    none = load({"node.directory": leader.directory}, environment={})
    public = load({"web.public-url": "https://me.example"}, environment={})
    assert _needs_relay(none, leader.directory, "https://leader.example/space/join#x")
    assert not _needs_relay(none, leader.directory, link)
    assert not _needs_relay(public, leader.directory, "https://leader.example/space/join#x")
    assert _slug("Zhou Gears & Co.") == "zhou-gears-co"
    assert _slug("周氏齿轮").startswith("company-")
