"""Every page, in both languages, on a full node and on its first day: real services, no script."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from guantong.node import Node
from guantong.web.pages import PAGES
from guantong.web.texts import all_texts

pytestmark = pytest.mark.asyncio(loop_scope="session")

SignedIn = Callable[[Node], Any]
PathsOf = Callable[[Node], Any]
HAN = re.compile(r"[\u4e00-\u9fff]")


class Reader(HTMLParser):
    """Reads a page as a browser without script does: its words, its headings, what it would run or load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._quiet = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._quiet += tag in ("script", "style", "code", "pre")

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag in ("script", "style", "code", "pre")

    def handle_data(self, data: str) -> None:
        if not self._quiet and data.strip():
            self.words.append(data.strip())


def untranslated(words: list[str]) -> list[str]:
    """Keys of texts that stand on the page in place of their words."""
    return [word for word in words if word in all_texts() or re.fullmatch(r"[a-z-]+\.[a-z-]+-(go|title|lead)", word)]


async def test_every_page_of_two_full_nodes_shows_in_both_languages(
    world: tuple[Node, Node], signed_in: SignedIn, paths_of: PathsOf
) -> None:
    seen: set[str] = set()
    for node in world:
        browser = await signed_in(node)
        for name, path in (await paths_of(node)).items():
            seen.add(name)
            for language in ("en", "zh-CN"):
                answer = await browser.get(f"{path}?lang={language}")

                assert answer.status == 200, (name, answer.text[:500])
                read = Reader(answer.text)
                assert not untranslated(read.words), name
                assert ("html", {"lang": language}) in read.tags
                assert len(answer.body) < 200_000, name
                heading = answer.text.split("</h1>")[0].rsplit("<h1", 1)[1]
                assert heading.strip(), name
                if language == "zh-CN":
                    assert HAN.search("".join(read.words)), name
    assert seen >= {"source", "signal", "dataset", "contract"}


async def test_the_first_day_has_no_empty_screen(empty: Node, signed_in: SignedIn, paths_of: PathsOf) -> None:
    browser = await signed_in(empty)
    for name, path in (await paths_of(empty)).items():
        answer = await browser.get(path)
        main = answer.text.split("<main")[1].split("</main>")[0]

        assert answer.status == 200, (name, answer.text[:500])
        ways_on = re.findall(r'<a class="btn[^"]*" href|<button|<input|<dl class="facts"|<ol class', main)
        assert ways_on, f"{name} offers nothing to do"


async def test_every_page_has_its_json_twin(world: tuple[Node, Node], signed_in: SignedIn, paths_of: PathsOf) -> None:
    node, _ = world
    browser = await signed_in(node)
    for name, path in (await paths_of(node)).items():
        page, twin = await browser.get(path), await browser.get("/api" + path)

        assert twin.status == 200, name
        assert twin.header("content-type") == "application/json"
        assert isinstance(twin.json, dict)
        assert f'href="/api{path}"' in page.text, name
        assert "token" not in str(twin.json.keys())


async def test_openapi_lists_every_twin_and_every_action(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    node, _ = world
    document = (await (await signed_in(node)).get("/api/openapi.json")).json

    assert document["openapi"].startswith("3.1")
    for page in PAGES:
        path = "/api" if page.path == "/" else "/api" + re.sub(r":\w+", "", page.path)
        assert "get" in document["paths"][path], path
    assert "post" in document["paths"]["/api/sources/add"]
    assert "/dsp/2025-1/catalog/request" in document["paths"]


async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(
    world: tuple[Node, Node], signed_in: SignedIn, paths_of: PathsOf
) -> None:
    node, _ = world
    browser = await signed_in(node)
    for name, path in (await paths_of(node)).items():
        answer = await browser.get(path)

        policy = answer.header("content-security-policy")
        assert policy is not None
        assert "'unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        for tag, attributes in Reader(answer.text).tags:
            assert not any(key.startswith("on") or key == "style" for key in attributes), (name, tag, attributes)
            if tag == "script":
                assert attributes.get("src", "").startswith("/static/") or attributes.get("type") == "application/json"
            assert tag != "style"
            for key in ("src", "href", "action"):
                assert not (attributes.get(key) or "").startswith(("http:", "https:", "//")), (name, attributes)


async def test_tables_have_headers_and_controls_have_labels(
    world: tuple[Node, Node], signed_in: SignedIn, paths_of: PathsOf
) -> None:
    node, _ = world
    browser = await signed_in(node)
    for name, path in (await paths_of(node)).items():
        text = (await browser.get(path)).text
        for form in re.findall(r"<(?:input|select|textarea)[^>]*>", text):
            if 'type="hidden"' not in form and 'type="checkbox"' not in form:
                before = text.split(form)[0]
                assert before.rfind("<label") > before.rfind("</label>"), (name, form)
        assert 'class="skip"' in text
        assert "<nav" in text
        assert text.count("<h1") == 1, name


async def test_a_curve_keeps_its_gap_and_its_table(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    node, _ = world
    browser = await signed_in(node)
    one = next(one for one in await node.fuse.signals(node.participant) if one.native_id == "Sload")
    twin = (await browser.get(f"/api/signals/{one.id}")).json

    missing = [point for point in twin["curve"]["points"] if point[1] is None]
    assert len(missing) == 1, "one minute without readings is one break"
    assert twin["readings"]["total"] == 1140
    page = (await browser.get(f"/signals/{one.id}")).text
    assert page.count('<polyline class="curve"') == 2
    assert "<table" in page


async def test_both_companies_measurements_stand_side_by_side(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    _, node = world
    parts = [one for one in await node.fuse.parts(node.participant) if one.serial == "7"]
    if not parts:
        pytest.skip("data: no real inspection files on this machine")
    twin = (await (await signed_in(node)).get(f"/api/parts/{parts[0].id}")).json

    assert [side["characteristics"] for side in twin["sides"]] in ([45, 47], [47, 45])
    assert twin["matched"] >= 25
    both = [row for row in twin["rows"] if row["left"] and row["right"]]
    assert all(row["rule"] and 0 < row["confidence"] <= 1 for row in both)
    assert any(row["difference"] not in (None, 0) for row in both)


async def test_lists_are_searched_and_cut(world: tuple[Node, Node], signed_in: SignedIn) -> None:
    node, _ = world
    browser = await signed_in(node)
    found = (await browser.get("/api/signals?q=mill-01+temp")).json["signals"]

    assert [one["native_id"] for one in found["items"]] == ["temp"]
    assert (await browser.get("/api/signals?q=%3Cscript%3E")).json["signals"]["total"] == 0
    assert "<script>alert" not in (await browser.get("/signals?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")).text


async def test_what_does_not_exist_is_said_with_code_and_next_step(
    world: tuple[Node, Node], signed_in: SignedIn
) -> None:
    node, _ = world
    browser = await signed_in(node)
    for path in ("/nothing/here", "/signals/999999", "/parts/none", "/contracts/none", "/sources/none", "/watch/none"):
        for language, word in (("en", "Start from the journey"), ("zh-CN", "数据旅程")):
            answer = await browser.get(f"{path}?lang={language}")
            assert answer.status == 404, path
            assert "web.not-found" in answer.text
            assert word in answer.text
        problem = await browser.get("/api" + path, accept="application/json")
        assert problem.status == 404
        assert problem.header("content-type") == "application/problem+json"
        assert problem.json["code"] == "web.not-found"
    assert (await browser.post("/help", {"_csrf": await browser.token()})).status == 405


async def test_health_and_metrics_speak_to_machines(
    world: tuple[Node, Node], browser_of: Callable[[Node], Any]
) -> None:
    node, _ = world
    stranger = browser_of(node)
    assert (await stranger.get("/healthz")).json == {"status": "up"}
    assert (await stranger.get("/readyz")).json["status"] == "ready"
    text = (await stranger.get("/metrics")).text
    counts = await node.fuse.counts(node.participant)
    assert re.search(rf"^guantong_readings_received_total\{{[^}}]+\}} {counts.received}$", text, re.MULTILINE)
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r'[a-z_]+(\{([a-z_]+="[^"]*",?)*\})? [-+.e0-9]+', line), line
    stranger.client = "203.0.113.9"
    assert (await stranger.get("/metrics")).status == 401


async def test_the_live_stream_sends_the_page_again_when_something_was_written(
    world: tuple[Node, Node], signed_in: SignedIn
) -> None:
    import asyncio

    node, _ = world
    browser = await signed_in(node)
    got: list[bytes] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        got.append(message.get("body", b""))

    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/live/evidence", "raw_path": b"/live/evidence", "query_string": b"", "root_path": "", "state": {},
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8443),
    }  # fmt: skip
    stream = asyncio.create_task(node.app(scope, receive, send))
    try:
        async with asyncio.timeout(5):
            while not any(b"event: live" in piece for piece in got):
                await asyncio.sleep(0.02)
        before = sum(b"event: live" in piece for piece in got)
        await node.sign_in_link()  # not recorded: a link alone is no statement
        await signed_in(node)  # recorded: one more entry
        async with asyncio.timeout(8):
            while sum(b"event: live" in piece for piece in got) <= before:
                await asyncio.sleep(0.05)
    finally:
        gone.set()
        await asyncio.wait_for(stream, 20)

    assert b'class="figures"' in b"".join(got)
    assert b"<html" not in b"".join(got)
