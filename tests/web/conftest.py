"""A node with real services, real data and a partner, and a browser small enough to read: ASGI messages in, ASGI messages out."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import pytest_asyncio

from guantong.config import load
from guantong.node import Node
from guantong.web.pages import PAGES

DATA = Path(os.environ.get("GUANTONG_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@dataclass
class Answer:
    """What the application sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Sends ASGI requests and keeps cookies, as a browser does."""

    app: Any
    host: str = "127.0.0.1:8443"
    cookies: dict[str, str] = field(default_factory=dict)
    client: str = "127.0.0.1"
    scheme: str = "http"

    async def send(
        self,
        method: str,
        url: str,
        *,
        form: dict[str, Any] | None = None,
        json_body: Any = None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        accept: str = "text/html",
        chunks: list[bytes] | None = None,
    ) -> Answer:
        sent = {"host": self.host, "accept": accept, **(headers or {})}
        if form is not None:
            body = urlencode(form, doseq=True).encode()
            sent["content-type"] = "application/x-www-form-urlencoded"
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["content-type"] = "application/json"
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if chunks is None:
            sent.setdefault("content-length", str(len(body)))
        parts = urlsplit(url)
        waiting = [
            {"type": "http.request", "body": piece, "more_body": True}
            for piece in (chunks if chunks is not None else [body])
        ]
        waiting[-1]["more_body"] = False
        got: list[dict[str, Any]] = []
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop(0)
            await done.wait()
            return {"type": "http.disconnect"}

        async def answer(message: dict[str, Any]) -> None:
            got.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": _unquoted(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": (self.client, 50000),
            "server": ("127.0.0.1", 8443),
            "root_path": "",
            "state": {},
        }
        await self.app(scope, receive, answer)
        done.set()
        start = next(message for message in got if message["type"] == "http.response.start")
        found = [(name.decode().lower(), value.decode()) for name, value in start["headers"]]
        for name, value in found:
            if name == "set-cookie":
                jar: SimpleCookie = SimpleCookie(value)
                for key, morsel in jar.items():
                    if morsel.value and morsel["max-age"] != "0":
                        self.cookies[key] = morsel.value
                    else:
                        self.cookies.pop(key, None)
        return Answer(start["status"], found, b"".join(message.get("body", b"") for message in got))

    async def get(self, url: str, **more: Any) -> Answer:
        return await self.send("GET", url, **more)

    async def post(self, url: str, form: dict[str, Any] | None = None, **more: Any) -> Answer:
        return await self.send("POST", url, form=form if "json_body" not in more else None, **more)

    async def token(self) -> str:
        """The token that the pages carry."""
        found = re.search(r'name="csrf-token" content="([^"]+)"', (await self.get("/help")).text)
        assert found is not None
        return found[1]

    async def act(self, path: str, /, **form: Any) -> Answer:
        """What pressing a button sends."""
        return await self.post(path, {"_csrf": await self.token(), **form})


def _unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


@pytest.fixture
def browser_of() -> Callable[[Node], Browser]:
    """A browser that nobody signed in with."""
    return lambda node: Browser(node.app)


@pytest.fixture
def signed_in() -> Callable[[Node], Any]:
    """A browser that followed a one-time link."""

    async def sign_in(node: Node) -> Browser:
        browser = Browser(node.app)
        answer = await browser.get((await node.sign_in_link()).removeprefix(node.address))
        assert answer.status == 200, answer.text
        return browser

    return sign_in


@pytest.fixture
def paths_of() -> Callable[[Node], Any]:
    """One address for each page that a node can show."""

    async def found(node: Node) -> dict[str, str]:
        me = node.participant
        paths = {page.name: page.path for page in PAGES if "{" not in page.path}
        for card in node.connect.scorecards(me)[:1]:
            paths["source"] = f"/sources/{card.source}"
        for signal in (await node.fuse.signals(me))[:1]:
            paths["signal"] = f"/signals/{signal.id}"
        for part in (await node.fuse.parts(me))[:1]:
            paths["part"] = f"/parts/{part.id}"
        for dataset in (await node.describe.datasets(me))[:1]:
            paths["dataset"] = f"/datasets/{dataset.id}"
        for agreement in (await node.exchange.agreements(me))[:1]:
            paths["contract"] = f"/contracts/{agreement.id}"
        for warning in (await node.watch.warnings(me))[:1]:
            paths["warning"] = f"/watch/{warning.id}"
        return paths

    return found


def shdr_log(folder: Path) -> Path:
    """Twenty minutes of a small machine, with a stretch that is missing."""
    start = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
    lines = []
    for second in range(1200):
        if 600 <= second < 660:
            continue
        at = (start + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        load_now = 40 + 15 * math.sin(second / 90) + (second % 7) * 0.4
        lines.append(f"{at}|Sload|{load_now:.3f}|temp|{32 + second / 300:.2f}")
        if second % 300 == 0:
            lines.append(f"{at}|execution|{'ACTIVE' if second % 600 == 0 else 'READY'}|program|HOUSING-7")
    path = folder / "mill-01.log"
    path.write_text("\n".join(lines) + "\n")
    return path


async def new_node(folder: Path, name: str) -> Node:
    node = Node(load({"node.directory": folder, "node.name": name, "web.port": 0}, environment={}))
    await node.start()
    await node.serve()
    return node


PRICE = {"currency": "CNY", "charges": [{"per": "row", "price": "0.02"}], "minimum": "8.00"}


async def tell(supplier: Node, customer: Node, folder: Path) -> None:
    """What the two companies did before the test looks at their pages; real inspection files where they are at hand."""
    from decimal import Decimal

    from guantong.describe.model import Dataset
    from guantong.exchange.model import Product
    from guantong.govern.measure import measure, subjects
    from guantong.govern.model import Rights
    from guantong.prove.figure import Definition, Input
    from guantong.value.model import Rate
    from guantong.watch.model import Supply

    me, log = supplier.participant, shdr_log(folder)
    reports = DATA / "nist_smstestbed" / "tdp_mtc"
    await supplier.connect.import_file(me, "mill-01", log)
    proposal = await supplier.connect.probe(log.as_uri())
    await supplier.connect.add(me, replace(proposal.interface, name="mill-02"))
    if reports.is_dir():
        (report,) = (reports / "FAIR").glob("*Box_Results.qif")
        await supplier.connect.import_file(me, "final-inspection", report)
        await customer.connect.import_file(
            customer.participant,
            "incoming-inspection",
            reports / "QIF-IncomingInspection" / "BoxResults_19_samples.QIF",
        )
    await supplier.fuse.drain(me)
    await supplier.keep.flush(me)
    signals = await supplier.fuse.signals(me)
    await supplier.describe.define(
        me,
        Dataset(
            "mill-load",
            "Load of mill 01",
            "1 号铣床负载",
            signals=tuple(one.id for one in signals if one.source == "mill-01"),
        ),
    )
    kind = "measurements" if reports.is_dir() else "readings"
    ids = () if reports.is_dir() else tuple(one.id for one in signals)
    await supplier.describe.define(
        me, Dataset("box-results", "Inspection of boxes", "箱体检测结果", kind=kind, signals=ids)
    )
    await supplier.describe.write_shells(me)
    datasets = await supplier.describe.datasets(me)
    await supplier.govern.classify(me, subjects(signals, datasets))
    await supplier.govern.state_rights(
        me, Rights("box-results", me, me, me, "own production", "asset register 2026-07", "2026-01-01T00:00:00Z")
    )
    for dataset in datasets:
        inputs = await measure(me, dataset, supplier.describe, supplier.fuse, now=supplier.clock.now())
        await supplier.govern.score(me, dataset.id, inputs)
    policy = {
        "permission": [
            {
                "action": "use",
                "constraint": [{"leftOperand": "purpose", "operator": "eq", "rightOperand": "incoming inspection"}],
            }
        ]
    }
    await supplier.exchange.offer(
        me,
        Product(
            "boxes", "box-results", policy, "Inspection of boxes", "箱体检测结果", "Payment within 30 days.", PRICE
        ),
    )
    them, address = customer.participant, supplier.address + "/dsp/2025-1"
    catalogue = await customer.exchange.catalogue(them, address, me)
    pid = await customer.exchange.negotiate(them, address, me, catalogue.offers[0].offer)
    talk = await customer.exchange.wait_negotiation(them, pid)
    assert talk.state == "FINALIZED", talk
    await customer.receive(talk.agreement_id, purpose="incoming inspection")
    await customer.exchange.wait_receipts(them, talk.agreement_id)
    await customer.fuse.drain(them)
    await customer.keep.flush(them)
    await customer.describe.write_shells(them)
    await supplier.settle.invoice(me, talk.agreement_id)
    (execution,) = [one.id for one in signals if one.source == "mill-01" and one.native_id == "execution"]
    await supplier.figures.define(
        me,
        Definition(
            "running",
            "availability@1",
            (Input("execution", "readings", (f"signal/{execution}",)),),
            "Availability of mill 01",
        ),
    )
    stats = await supplier.keep.stats(me)
    assert stats.first_time is not None
    assert stats.last_time is not None
    made = await supplier.figures.make(me, "running", stats.first_time, stats.last_time)
    await supplier.figures.challenge(me, made.digest, 50)
    await supplier.value.set_rates(
        me, [Rate("points", Decimal("0.80"), "CNY", "allocation key 2026", per=Decimal(10_000))]
    )
    await supplier.value.meter(me)
    await supplier.value.appraise(me, "box-results")
    await supplier.watch.set_supply(
        me, [Supply("housing-7", 120.0, 12.0, end_product=True, inputs=("bearing",)), Supply("bearing", 30.0, 12.0)]
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node on its first day: nothing connected, nothing kept."""
    node = await new_node(tmp_path_factory.mktemp("empty"), "New company")
    yield node
    await node.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Node, Node]]:
    """A supplier with a machine's log, a dataset, rights and a product; a customer that negotiated and received it."""
    folder = tmp_path_factory.mktemp("world")
    supplier = await new_node(folder / "supplier", "Hengda Milling")
    customer = await new_node(folder / "customer", "Northwind Aero")
    await tell(supplier, customer, folder)
    yield supplier, customer
    await customer.stop()
    await supplier.stop()
