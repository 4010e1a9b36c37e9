"""Who may see the pages: one-time links, sessions, tokens; and what a stranger gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from guantong.base.clock import NS
from guantong.base.errors import Refused
from guantong.node import Node
from guantong.records import Records
from guantong.web.model import WebSettings
from guantong.web.pages import PAGES
from guantong.web.signin import SignIn, cookie_name
from guantong.web.tables import LINKS, SESSIONS

session_loop = pytest.mark.asyncio(loop_scope="session")
ME = "did:web:127.0.0.1%3A8443"


@pytest.fixture
def sign_in(records: Records) -> SignIn:
    return SignIn(records, WebSettings())


def token_of(link: str) -> str:
    return link.split("token=")[1]


async def test_a_link_works_once(sign_in: SignIn) -> None:
    token = token_of(await sign_in.issue_link(ME, "http://127.0.0.1:8443/"))
    secret = await sign_in.redeem(ME, token)

    assert await sign_in.session(ME, secret) is not None
    with pytest.raises(Refused) as refused:
        await sign_in.redeem(ME, token)
    assert refused.value.code == "web.link-used"


async def test_a_link_is_good_for_fifteen_minutes_and_for_one_participant(sign_in: SignIn, clock: Any) -> None:
    token = token_of(await sign_in.issue_link(ME, "http://127.0.0.1:8443"))
    with pytest.raises(Refused):
        await sign_in.redeem("did:web:other", token)
    clock.advance(15 * 60)
    with pytest.raises(Refused):
        await sign_in.redeem(ME, token)


async def test_a_session_ends_after_twelve_hours_and_at_sign_out(sign_in: SignIn, clock: Any) -> None:
    first = await sign_in.redeem(ME, token_of(await sign_in.issue_link(ME, "")))
    second = await sign_in.redeem(ME, token_of(await sign_in.issue_link(ME, "")))
    assert (await sign_in.session(ME, first)).csrf != (await sign_in.session(ME, second)).csrf  # type: ignore[union-attr]
    await sign_in.sign_out(ME, first)
    assert await sign_in.session(ME, first) is None
    assert await sign_in.session(ME, second) is not None
    clock.advance(12 * 3600)
    assert await sign_in.session(ME, second) is None


async def test_the_records_hold_no_secret_that_opens_a_door(sign_in: SignIn, records: Records) -> None:
    token = token_of(await sign_in.issue_link(ME, ""))
    secret = await sign_in.redeem(ME, token)
    stored = str(await records.rows(select(LINKS))) + str(await records.rows(select(SESSIONS)))

    assert token not in stored
    assert secret not in stored


async def test_signing_in_again_ends_the_session_that_the_browser_had(sign_in: SignIn) -> None:
    old = await sign_in.redeem(ME, token_of(await sign_in.issue_link(ME, "")))
    new = await sign_in.redeem(ME, token_of(await sign_in.issue_link(ME, "")), replaces=old)

    assert new != old
    assert await sign_in.session(ME, old) is None
    assert (await sign_in.session(ME, new)).expires_at > NS  # type: ignore[union-attr]


@session_loop
async def test_a_stranger_gets_no_page_and_no_twin(empty: Node, browser_of: Callable[[Node], Any]) -> None:
    stranger = browser_of(empty)
    for page in PAGES:
        path = page.path.replace("{name:path}", "x").replace("{id:int}", "1").replace("{id:path}", "x")
        for address in (path, "/api" + path, *(["/live" + path] if page.live else [])):
            answer = await stranger.get(address)
            assert answer.status == 401, address
            assert empty.name not in answer.text, address
    assert (await stranger.post("/sources/probe", {"url": "http://127.0.0.1/"})).status == 401
    answer = await stranger.get("/?lang=zh-CN")
    assert "尚未登录" in answer.text


@session_loop
async def test_the_link_gives_a_cookie_that_scripts_and_other_sites_cannot_use(
    empty: Node, browser_of: Callable[[Node], Any]
) -> None:
    browser = browser_of(empty)
    path = (await empty.sign_in_link()).removeprefix(empty.address)
    answer = await browser.get(path)
    cookie = answer.header("set-cookie")

    assert answer.status == 200
    assert re.search(r"HttpOnly", cookie)
    assert re.search(r"SameSite=Strict", cookie)
    assert "Secure" not in cookie  # plain http on loopback
    again = await browser_of(empty).get(path)
    assert again.status == 403
    assert "web.link-used" in again.text
    assert again.header("set-cookie") is None


@session_loop
async def test_over_https_the_cookie_is_secure_and_pinned_to_the_host(
    empty: Node, browser_of: Callable[[Node], Any]
) -> None:
    browser = browser_of(empty)
    browser.scheme = "https"
    answer = await browser.get((await empty.sign_in_link()).removeprefix(empty.address))

    assert answer.header("set-cookie").startswith("__Host-")
    assert "Secure" in answer.header("set-cookie")
    assert answer.header("strict-transport-security") is not None
    assert cookie_name(ME, secure=False) != cookie_name("did:web:127.0.0.1%3A8444", secure=False)


@session_loop
async def test_a_session_id_that_a_stranger_planted_opens_nothing(
    empty: Node, browser_of: Callable[[Node], Any]
) -> None:
    browser = browser_of(empty)
    name = cookie_name(empty.participant, secure=False)
    browser.cookies[name] = "planted-by-an-attacker"
    await browser.get((await empty.sign_in_link()).removeprefix(empty.address))

    assert browser.cookies[name] != "planted-by-an-attacker"
    thief = browser_of(empty)
    thief.cookies[name] = "planted-by-an-attacker"
    assert (await thief.get("/help")).status == 401


@session_loop
async def test_what_changes_something_needs_the_token_of_the_session(
    empty: Node, signed_in: Callable[[Node], Any]
) -> None:
    browser = await signed_in(empty)
    token = await browser.token()
    path, form = "/govern/grade", {}
    refused = [
        await browser.post(path, form),
        await browser.post(path, {**form, "_csrf": "guess"}),
        await browser.post(path, {**form, "_csrf": token}, headers={"origin": "https://elsewhere.example"}),
        await browser.post("/api" + path, json_body=form),
    ]
    assert [answer.status for answer in refused] == [403] * 4
    assert all("web.forgery-suspected" in answer.text for answer in refused)

    assert (
        await browser.post(path, {**form, "_csrf": token}, headers={"origin": "http://127.0.0.1:8443"})
    ).status == 303
    done = await browser.post("/api" + path, json_body=form, headers={"x-csrf-token": token})
    assert done.json == {"graded": 0, "datasets": 0, "next": "/govern"}


@session_loop
async def test_signing_out_ends_the_session_at_once(empty: Node, signed_in: Callable[[Node], Any]) -> None:
    browser = await signed_in(empty)
    kept = dict(browser.cookies)
    assert (await browser.act("/sign-out")).status == 200
    browser.cookies = kept
    assert (await browser.get("/help")).status == 401


@session_loop
async def test_bodies_are_bounded_also_when_their_length_is_not_declared(
    empty: Node, signed_in: Callable[[Node], Any]
) -> None:
    browser = await signed_in(empty)
    big = await browser.post("/sources/probe", {"_csrf": await browser.token(), "url": "x" * 300_000})
    assert (big.status, "web.body-too-large" in big.text) == (413, True)
    pieces = [b"url=" + b"x" * 100_000] * 4
    answer = await browser.send(
        "POST", "/sources/probe", chunks=pieces, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 413


@session_loop
async def test_a_form_field_that_is_missing_is_named(empty: Node, signed_in: Callable[[Node], Any]) -> None:
    browser = await signed_in(empty)
    answer = await browser.act("/datasets/define", id="x")
    assert answer.status == 400
    assert "title_en" in answer.text
    package = b"PK\x03\x04--x\r\n" + bytes(range(256)) * 2000
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="_csrf"\r\n\r\n'
        + (await browser.token()).encode()
        + b'\r\n--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
        + package
        + b"\r\n--xyz--\r\n"
    )
    judged = await browser.send(
        "POST", "/evidence/verify", body=body, headers={"content-type": "multipart/form-data; boundary=xyz"}
    )
    assert judged.status in (200, 400)
    assert "web.body-too-large" not in judged.text
    refused = await browser.act("/sources/probe", url="http://198.51.100.7:5000/")
    assert refused.status in (403, 400, 502, 504)
    assert "<code>" in refused.text
