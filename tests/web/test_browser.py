"""Every page in a real browser, both languages: no console error, no text left out, no empty screen, a JSON twin, nothing from elsewhere.

The nodes are those of the other tests. To look at a running node instead, set ``GUANTONG_TEST_SIGN_IN`` to its sign-in link (or to
several, separated by blanks). Screenshots go to the git-ignored folder ``screenshots``.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from tests.web.browsing import ARGUMENTS, LANGUAGES, found_paths

from guantong.node import Node
from guantong.web.pages import PAGES
from guantong.web.texts import all_texts

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = Path(__file__).resolve().parents[2] / "screenshots"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def links(world: tuple[Node, Node], empty: Node) -> list[str]:
    """Sign-in links of the nodes to look at."""
    given = os.environ.get("GUANTONG_TEST_SIGN_IN", "").split()
    if given:
        return given
    return [await node.sign_in_link() for node in (*world, empty)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium(tool: Callable[[str], str]) -> AsyncIterator[Any]:
    path = tool("chromium")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


async def test_every_page_in_a_real_browser(chromium: Any, links: list[str]) -> None:
    SHOTS.mkdir(exist_ok=True)
    trouble: list[str] = []
    seen: set[str] = set()
    for number, link in enumerate(links):
        base = "{0.scheme}://{0.netloc}".format(urlsplit(link))
        context = await chromium.new_context(viewport={"width": 1360, "height": 900}, locale="en-GB")
        page = await context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and trouble.append(f"{message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"script: {error}"))
        page.on(
            "request",
            lambda asked, base=base: asked.url.startswith((base, "data:")) or trouble.append(f"asks {asked.url}"),
        )
        await page.goto(link)
        await page.wait_for_url(base + "/")
        paths = await found_paths(context, base)
        seen |= set(paths)
        for name, path in paths.items():
            for language in LANGUAGES:
                mark = "&" if "?" in path else "?"
                answer = await page.goto(f"{base}{path}{mark}lang={language}", wait_until="domcontentloaded")
                where = f"{name} {language}"
                if answer.status != 200:
                    trouble.append(f"{where}: HTTP {answer.status}")
                    continue
                words = (await page.inner_text("main")).strip()
                if len(words) < 80:
                    trouble.append(f"{where}: an empty screen")
                if any(line.strip() in all_texts() for line in words.splitlines()):
                    trouble.append(f"{where}: a key in place of its words")
                if language == "zh-CN" and len(re.findall(r"[\u4e00-\u9fff]", words)) < 10:
                    trouble.append(f"{where}: not in Chinese")
                if await page.get_attribute("html", "lang") != language:
                    trouble.append(f"{where}: language not stated")
                await page.screenshot(path=SHOTS / f"{number}-{name}.{language}.png", full_page=True)
            twin = await context.request.get(f"{base}/api{path}")
            if twin.status != 200 or not isinstance(await twin.json(), dict):
                trouble.append(f"{name}: no JSON twin")
        await context.close()

    assert not trouble, "\n".join(dict.fromkeys(trouble))
    assert seen >= {one.name for one in PAGES if "{" not in one.path} | {"signal", "dataset", "contract", "figure"}


async def test_a_phone_in_the_dark_needs_no_sideways_scrolling(chromium: Any, world: tuple[Node, Node]) -> None:
    node, _ = world
    context = await chromium.new_context(
        viewport={"width": 500, "height": 900}, color_scheme="dark", reduced_motion="reduce", locale="zh-CN"
    )
    page = await context.new_page()
    await page.goto(await node.sign_in_link())
    await page.wait_for_url(node.address + "/")
    wide = []
    for one in PAGES:
        if "{" in one.path:
            continue
        await page.goto(node.address + one.path, wait_until="domcontentloaded")
        if await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") > 0:
            wide.append(one.name)
        dark = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert dark == "rgb(15, 21, 32)", one.name
    await page.goto(node.address + "/")
    await page.screenshot(path=SHOTS / "phone-dark.png", full_page=True)
    await context.close()
    assert not wide


async def test_the_keyboard_reaches_content_and_a_plot_is_drawn(chromium: Any, world: tuple[Node, Node]) -> None:
    node, _ = world
    signal = next(one for one in await node.fuse.signals(node.participant) if one.native_id == "Sload")
    page = await (await chromium.new_context(locale="en-GB")).new_page()
    await page.goto(await node.sign_in_link())
    await page.wait_for_url(node.address + "/")
    await page.wait_for_selector("#live.ok")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.goto(f"{node.address}/signals/{signal.id}")
    await page.wait_for_selector(".uplot canvas")
    assert await page.locator(".u-legend").count() == 1
    await page.context.close()


async def test_without_script_every_page_can_be_read(chromium: Any, world: tuple[Node, Node]) -> None:
    node, _ = world
    context = await chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = await context.new_page()
    await page.goto(await node.sign_in_link())
    await asyncio.sleep(0.3)
    signal = next(one for one in await node.fuse.signals(node.participant) if one.native_id == "Sload")
    await page.goto(f"{node.address}/signals/{signal.id}")
    assert await page.locator("svg.plot polyline").count() == 2
    await page.goto(node.address + "/sources/new")
    await page.fill("input[name=url]", "http://127.0.0.1:1/")
    await page.click("form[action='/sources/probe'] button")
    assert "web.unreachable" in await page.inner_text("main")
    await context.close()
