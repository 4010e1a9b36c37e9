"""The page that verifies in a browser gives the verdicts of ``guantong verify``, from the node without an account and from the file."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.verify.conftest import AT, World
from tests.web.browsing import ARGUMENTS

from guantong.base import keychange
from guantong.base.canonical import canonical_bytes
from guantong.base.clock import parse_iso
from guantong.base.keys import Ed25519Key
from guantong.node import Node
from guantong.prove import package, rules
from guantong.verify import verify_package
from guantong.web.checking import POLICY

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(120)]

WORLD = World()
NOW = AT + 10**9 * 10**6


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium(tool: Callable[[str], str]) -> AsyncIterator[Any]:
    path = tool("chromium")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


class Checker:
    """The open page, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.trouble: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: message.type in ("error", "warning") and self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    async def verdict(self, data: bytes, trust: str) -> str:
        await self.page.set_input_files("#package", {"name": "p.zip", "mimeType": "application/zip", "buffer": data})
        await self.page.fill("#trust", trust)
        await self.page.evaluate("document.getElementById('result').replaceChildren()")
        await self.page.click("#go")
        return await self.page.locator("#verdict").get_attribute("data-verdict")

    async def checks(self) -> dict[str, str]:
        rows = await self.page.eval_on_selector_all(
            "#checks li", "items => items.map(one => [one.dataset.check, one.dataset.ok])"
        )
        return dict(rows)


async def opened(chromium: Any, address: str, locale: str = "en-GB") -> Checker:
    checker = Checker(await (await chromium.new_context(locale=locale)).new_page())
    await checker.page.goto(address)
    return checker


@pytest_asyncio.fixture(params=["node", "file"], loop_scope="session")
async def checker(request: Any, chromium: Any, empty: Node, tmp_path: Path) -> AsyncIterator[Checker]:
    if request.param == "node":
        address = empty.address + "/verify"
    else:
        files = rules.read_zip(WORLD.pack())  # as somebody does who unpacks the package
        for name in package.PAGE:
            (tmp_path / name).write_bytes(files[name])
        address = (tmp_path / package.PAGE[0]).as_uri()
    found = await opened(chromium, address)
    yield found
    assert found.trouble == []
    assert len(found.asked) == 2, "the page and its script, and nothing when it verifies"
    await found.page.context.close()


def same_as_command(data: bytes, trust: str) -> str:
    return verify_package(data, rules.parse_trust(trust) if trust else None, now_ns=NOW).verdict


async def test_an_untouched_package_verifies_and_says_what_is_proven_and_what_is_not(checker: Checker) -> None:
    data, trust = WORLD.pack(), WORLD.trust_text()

    assert await checker.verdict(data, trust) == same_as_command(data, trust) == "ok"
    assert set((await checker.checks()).values()) == {"true"}
    words = await checker.page.inner_text("#result")
    assert "3 usage records were signed by both sides" in words
    assert "existed at the latest at 2026-11-24T08:00:05Z" in words
    assert "that the sensor told the truth" in words
    assert "guantong verify computes them again" in words
    assert "传感器" not in words
    await checker.page.click("#to-zh")
    words = await checker.page.inner_text("#result")
    assert "3 份用量记录由双方签名" in words
    assert "不能证明" in words
    assert "told the truth" not in words
    assert await checker.verdict(data, "") == same_as_command(data, "") == "signer-unknown"


async def test_one_changed_byte_in_any_of_twenty_places_is_not_ok(checker: Checker) -> None:
    data, trust, chance = WORLD.pack(), WORLD.trust_text(), random.Random(20261124)
    for at in chance.sample(range(len(data)), 20):
        changed = bytearray(data)
        changed[at] ^= chance.randrange(1, 256)
        got = await checker.verdict(bytes(changed), trust)
        assert got == same_as_command(bytes(changed), trust) == "not-ok", at


async def test_a_package_that_a_stranger_signed_again_is_not_ok(checker: Checker) -> None:
    stranger, trust = World(salt="stranger"), WORLD.trust_text()
    assert await checker.verdict(stranger.pack(), stranger.trust_text()) == "ok"
    assert await checker.verdict(stranger.pack(), trust) == same_as_command(stranger.pack(), trust) == "not-ok"
    assert (await checker.checks())["maker"] == "false"
    files = {path: data for path, data in rules.read_zip(WORLD.pack()).items() if path != rules.MANIFEST}
    forged = WORLD.pack(files, signer=stranger.keys[WORLD.provider])
    for given in (trust, ""):
        assert await checker.verdict(forged, given) == same_as_command(forged, given) == "not-ok"


async def test_what_the_maker_itself_forged_fails_at_the_same_check_as_on_the_command_line(
    chromium: Any, empty: Node
) -> None:
    checker = await opened(chromium, empty.address + "/verify")
    whole, trust = WORLD.files(), WORLD.trust_text()
    other = World(rows=(1000, 2500, 41)).files()
    proof = "log/000000000302.tlog-proof"
    lines = whole[proof].split(b"\n")
    cases: list[dict[str, bytes]] = [
        {path: data for path, data in whole.items() if path != gone}
        for gone in ("agreement.json", "receipts/000002.json", proof, "policy.txt")
    ]
    cases += [
        {**whole, "receipts/000003.json": other["receipts/000003.json"]},
        {**whole, "receipts/000004.json": whole["receipts/000003.json"]},
        {**whole, proof: b"\n".join([*lines[:3], lines[4], lines[3], *lines[5:]])},
        {**whole, proof: b"\n".join([*lines[:3], lines[3], *lines[3:]])},
        {**whole, proof: other[proof]},
        {**whole, "agreement.json": rules.agreement_paper(WORLD.agreement, price={"x": 1}, terms="")},
        WORLD.files(cosigners=((WORLD.provider, "2026-11-24T08:00:05Z"),)),
        WORLD.files(cosigners=((WORLD.consumer, "2031-01-01T00:00:00Z"),)),
        WORLD.files(change_entries=lambda ours: ours.reverse()),
    ]
    for number, files in enumerate(cases):
        report = verify_package(WORLD.pack(files), rules.parse_trust(trust), now_ns=NOW)
        wanted = [check.name for check in report.checks if check.ok is False]
        assert await checker.verdict(WORLD.pack(files), trust) == report.verdict == "not-ok", number
        assert [name for name, ok in (await checker.checks()).items() if ok == "false"] == wanted, number
    for text in ("x", trust.replace("quorum witnesses", "quorum nobody"), trust + "quorum none\n"):
        assert await checker.verdict(WORLD.pack(), text) == "unreadable"
    changed = {**whole, "keys/001.json": b"{}"}
    assert await checker.verdict(WORLD.pack(changed), trust) == same_as_command(WORLD.pack(changed), trust) == "not-ok"
    assert await checker.verdict(WORLD.pack(), trust + "key-change e30=\n") == "unreadable"
    disputed = World()
    disputed.receipts[1] = disputed.receipt(2, 2500, "dispute")
    files = {path: data for path, data in disputed.files().items() if not path.startswith("invoices/")}
    assert await checker.verdict(disputed.pack(files), trust) == same_as_command(disputed.pack(files), trust) == "ok"
    assert "1 usage records are disputed" in await checker.page.inner_text("#result")
    await checker.page.context.close()


async def test_which_key_counted_when_is_judged_as_on_the_command_line(chromium: Any, empty: Node) -> None:
    checker = await opened(chromium, empty.address + "/verify")
    old, new, trust = WORLD.keys[WORLD.provider], Ed25519Key(bytes(range(32))), WORLD.trust_text()

    def change(at: str, to: Ed25519Key = new, *, lost: bool = False, confirmed: bool = False) -> dict[str, Any]:
        made = keychange.make(WORLD.provider, old.public, to, parse_iso(at), old_key=None if lost else old)
        if confirmed:
            one = keychange.confirmation(keychange.parse(made), WORLD.consumer, WORLD.keys[WORLD.consumer], AT)
            made["confirmations"].append(one)
        return made

    def pack(world: World, *changes: dict[str, Any]) -> bytes:
        papers = {f"keys/{number:03d}.json": canonical_bytes(one) for number, one in enumerate(changes, 1)}
        return world.pack({**world.files(), **papers})

    later = World()
    later.keys = {**WORLD.keys, WORLD.provider: new}
    later.__dict__.update(receipts=[later.receipt(number, count) for number, count in enumerate(later.rows, 1)])
    last = Ed25519Key(bytes(range(1, 33)))
    second = keychange.make(WORLD.provider, new.public, last, parse_iso("2026-11-24T08:00:01Z"), old_key=new)
    third = keychange.make(WORLD.provider, new.public, last, parse_iso("2026-11-24T11:00:00Z"), old_key=new)
    world = World()
    world.keys = {**WORLD.keys, WORLD.provider: last}
    newest = world.trust_text()
    early, between, late = "2026-11-24T07:00:00Z", "2026-11-24T08:00:00Z", "2026-11-24T10:00:00Z"
    cases = [
        ("known to witnesses before its key was rotated", pack(WORLD, change(late)), trust, "ok"),
        ("signed after its key was rotated", pack(WORLD, change(between)), trust, "not-ok"),
        ("led on to the new key by the statement inside", pack(later, change(early)), trust, "ok"),
        ("no statement leads to the new key", pack(later), trust, "not-ok"),
        ("a loss that nobody known confirms", pack(later, change(early, lost=True)), trust, "not-ok"),
        ("a loss that the customer confirms", pack(later, change(early, lost=True, confirmed=True)), trust, "ok"),
        ("one key changed for two", pack(WORLD, change(late), change(late, Ed25519Key(bytes(32)))), trust, "not-ok"),
        ("the trust file knows of the rotation", WORLD.pack(), trust + rules.change_line(change(between)) + "\n", "not-ok"),
        ("who knows the newest key only is led back over two changes", pack(WORLD, change(between), second), newest, "not-ok"),
        ("and what was witnessed before both counts", pack(WORLD, change(late), third), newest, "ok"),
        ("without a trust file", pack(WORLD, change(late)), "", "signer-unknown"),
    ]  # fmt: skip
    for name, data, known, wanted in cases:
        assert same_as_command(data, known) == wanted, name
        assert await checker.verdict(data, known) == wanted, name
    await checker.page.context.close()


async def test_a_browser_without_ed25519_says_so_and_gives_no_verdict(chromium: Any, empty: Node) -> None:
    context = await chromium.new_context(locale="zh-CN")
    await context.add_init_script(
        "SubtleCrypto.prototype.importKey = async () => { throw new DOMException('none', 'NotSupportedError'); }"
    )
    checker = Checker(await context.new_page())
    await checker.page.goto(empty.address + "/verify")
    assert await checker.verdict(WORLD.pack(), WORLD.trust_text()) == "unreadable"
    assert "不支持 Ed25519" in await checker.page.inner_text("#result")
    await context.close()


async def test_the_page_needs_no_account_and_may_send_nothing_anywhere(browser_of: Any, empty: Node) -> None:
    browser = browser_of(empty)
    for path, kind in (("/verify", "text/html"), ("/verify.js", "text/javascript")):
        answer = await browser.get(path)
        headers = dict(answer.headers)
        assert (answer.status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert headers["content-security-policy"] == POLICY
        assert "set-cookie" not in headers
    assert "connect-src" not in POLICY
    assert b"<style" not in package.page("verify.html")
    assert b"style=" not in package.page("verify.html")


async def test_the_evidence_page_offers_parts_and_the_browser_and_the_part_it_hands_out_verifies_there(
    chromium: Any, world: tuple[Node, Node], tmp_path: Path
) -> None:
    supplier, customer = world
    checker = await opened(chromium, await supplier.sign_in_link())
    await checker.page.goto(supplier.address + "/evidence?lang=en")
    code = checker.page.locator("details", has_text=supplier.address + "/verify")
    assert await code.locator("svg").count() == 1, "a QR code leads to the page"
    form = checker.page.locator('form[action="/evidence/package"]')
    await form.locator("summary").click()
    (transfer,) = await supplier.exchange.transfers(supplier.participant)
    await form.locator("select[name=transfer]").select_option(transfer.pid)
    await form.locator("input[name=to]").fill("2200-01-01T00:00:00Z")
    async with checker.page.expect_download() as waiting:
        await form.locator("button").click()
    path = await (await waiting.value).path()
    data, trust = path.read_bytes(), await customer.trust()
    await checker.page.click('a[href="/verify"]')

    assert await checker.verdict(data, trust) == verify_package(data, rules.parse_trust(trust)).verdict == "ok"
    words = await checker.page.inner_text("#result")
    assert f"a part of the agreement's records only: to 2200-01-01T00:00:00Z, transfer {transfer.pid}" in words
    assert checker.trouble == []
    await checker.page.context.close()
