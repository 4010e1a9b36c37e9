"""A supplier without a node, in a real browser: makes its key, shares a real inspection file, approves, revokes, moves to a node of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.web.browsing import ARGUMENTS
from tests.web.conftest import new_node

from guantong.base.errors import Refused
from guantong.node import Node
from guantong.prove.rules import parse_trust
from guantong.verify import verify_guest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(180)]

SHOTS = Path(__file__).resolve().parents[2] / "screenshots"
PASSPHRASE = "three blue gears"
PHONE = {"width": 390, "height": 844}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium(tool: Callable[[str], str]) -> AsyncIterator[Any]:
    path = tool("chromium")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def host(tmp_path: Path) -> AsyncIterator[Node]:
    node = await new_node(tmp_path / "host", "Liu Drives")
    yield node
    await node.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def own(tmp_path: Path) -> AsyncIterator[Node]:
    node = await new_node(tmp_path / "own", "Zhou Gears")
    yield node
    await node.stop()


async def opened(chromium: Any, node: Node, language: str, host_name: str = "127.0.0.1") -> tuple[Any, list[str]]:
    """The page behind a fresh link on a phone, and what its console says."""
    _, link = await node.exchange.spaces.invite(node.participant, kind="guest", name="Zhou Gears")
    context = await chromium.new_context(viewport=PHONE, locale=language, accept_downloads=True)
    page = await context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    await page.goto(link.replace("127.0.0.1", host_name))
    await page.wait_for_selector("#join")
    return page, trouble


async def join(page: Any, *, passkey: bool = False) -> dict[str, Any]:
    """Fill in the form; what the key file says."""
    await page.fill("input[name=passphrase]", PASSPHRASE)
    await page.fill("input[name=again]", PASSPHRASE)
    if passkey:
        await page.check("input[name=passkey]")
    async with page.expect_download() as saved:
        await page.click("#join button")
    await page.wait_for_selector("#file")
    return dict(json.loads(Path(await (await saved.value).path()).read_text()))


async def shot(page: Any, name: str, language: str = "zh-CN") -> None:
    SHOTS.mkdir(exist_ok=True)
    wide = await page.evaluate("document.documentElement.scrollWidth")
    await page.screenshot(path=SHOTS / f"guest-{name}-{language}.png", full_page=True)

    assert wide <= PHONE["width"], f"{name} is wider than a phone"
    assert await page.get_attribute("html", "lang") == language


async def test_a_guest_shares_a_real_file_approves_revokes_and_moves_in(
    chromium: Any, host: Node, own: Node, data_dir: Path
) -> None:
    (report,) = (data_dir / "nist_smstestbed" / "tdp_mtc" / "FAIR").glob("*Box_Results.qif")
    guests, me = host.exchange.guests, host.participant
    page, trouble = await opened(chromium, host, "zh-CN")
    await shot(page, "join")
    key_file = await join(page)
    await page.set_input_files("#file", report)
    await page.wait_for_selector("#share")
    await shot(page, "file")
    await page.click("#share")
    await page.wait_for_selector(".share[data-state=shared]")
    (share,) = await guests.shares(me)
    used = await guests.use(me, share.id)
    await guests.ask(me, share.id, "Audit by our customer / 供我方客户审核")
    await page.reload()
    await page.wait_for_selector(".request .approve")
    await shot(page, "request")
    with pytest.raises(Refused):
        await guests.use(me, share.id, "Audit by our customer / 供我方客户审核")
    await page.click(".approve")
    await page.wait_for_selector(".request", state="detached")
    again = await guests.use(me, share.id, "Audit by our customer / 供我方客户审核")
    await page.click(".revoke")
    await page.click(".revoke")
    await page.wait_for_selector(".share[data-state=revoked]")
    await shot(page, "revoked")
    with pytest.raises(Refused) as revoked:
        await guests.use(me, share.id)
    async with page.expect_download() as along:
        await page.click("#along")
    papers = Path(await (await along.value).path()).read_bytes()
    trust = parse_trust(await host.trust())
    report_now = verify_guest(papers, trust)
    moved = await own.exchange.moving.move_in(own.participant, papers, PASSPHRASE)
    for _ in range(200):
        (guest,) = await guests.guests(me)
        if guest.moved_to:
            break
        await page.wait_for_timeout(50)
    await page.click("[data-lang][lang=en]")
    await page.wait_for_selector("#shares")
    await shot(page, "moved", "en")
    statements = await guests.statements(me, moved.guest)
    held = await own.exchange.moving.papers(own.participant, moved.guest)

    assert (used.num_rows, again.num_rows) == (share.rows, share.rows)
    assert share.rows > 800
    assert revoked.value.code == "exchange.guest-not-shared"
    assert report_now.verdict == "ok", report_now.text("en")
    assert guest.moved_to == own.participant
    assert [one["statement"]["type"].rpartition("-")[2] for one in statements] == [
        "join",
        "share",
        "approve",
        "revoke",
        "move",
    ]
    assert await page.locator("#file").count() == 0
    assert key_file["guest"] == moved.guest
    assert verify_guest(held, trust).verdict == "ok"
    assert not trouble
    await page.context.close()


async def test_a_passkey_seals_the_key_and_a_key_file_brings_it_back_elsewhere(chromium: Any, host: Node) -> None:
    page, trouble = await opened(chromium, host, "en", "localhost")
    await shot(page, "join", "en")
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    await devtools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "ctap2Version": "ctap2_1",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "hasPrf": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    key_file = await join(page, passkey=True)
    stored = await page.evaluate(
        """() => new Promise((done) => { const asked = indexedDB.open("guantong-guest", 1);
        asked.onsuccess = () => { const all = asked.result.transaction("keys").objectStore("keys").getAll();
        all.onsuccess = () => done(all.result.map((one) => [one.key === null, one.passkey !== null])); }; })"""
    )
    words = await page.inner_text("#key-words")
    await shot(page, "empty", "en")
    await page.reload()
    await page.click("#unlock")
    await page.wait_for_selector("#file")
    other = await (await chromium.new_context(viewport=PHONE)).new_page()
    await other.goto(page.url)
    await other.set_input_files(
        "#key-file", {"name": "key.json", "mimeType": "application/json", "buffer": json.dumps(key_file).encode()}
    )
    await other.fill("input[type=password]", PASSPHRASE)
    await other.click("#restore button")
    await other.wait_for_selector("#file")

    assert stored == [[True, True]]
    assert "passkey" in words
    assert "not protected" not in words
    assert await other.inner_text("#did") == key_file["guest"]
    assert "not protected" in await other.inner_text("#key-words")
    assert not trouble
    await page.context.close()
    await other.context.close()
