"""Two companies in one process: whole exchanges behind an in-memory network that speaks ASGI to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from starlette.applications import Starlette

from guantong.base.clock import SystemClock
from guantong.base.errors import Retryable
from guantong.base.keys import Ed25519Key, P256Key
from guantong.base.wire import Response
from guantong.exchange import tables  # noqa: F401 - declares its tables
from guantong.exchange.identity import Identity, did_of
from guantong.exchange.model import ExchangeSettings, Product
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.service import Exchange
from guantong.records import METADATA, Records
from guantong.records.outbox import Outbox, OutboxSettings


class Network:
    """Http of every node in a test: requests go to the ASGI application that listens at the host."""

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}
        self.log: list[tuple[str, str, int]] = []
        self.before: list[Callable[[str, str, bytes], Response | None]] = []
        """Asked before each request; a response they return is the answer, an exception is raised."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        max_bytes: int = 16 * 1024 * 1024,
        zone: str = "partner",
    ) -> Response:
        if body is not None and not isinstance(body, bytes):
            body = b"".join([piece async for piece in body])
        for ask in self.before:
            given = ask(method, url, body or b"")
            if given is not None:
                self.log.append((method, url, given.status))
                return given
        async with self.stream(method, url, body=body, headers=headers) as stream:
            parts = [part async for part in stream.chunks()]
            self.log.append((method, url, stream.status))
            return Response(stream.status, b"".join(parts), stream.headers)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        zone: str = "partner",
    ) -> AsyncIterator[_Stream]:
        parts = urlsplit(url)
        app = self.apps.get(parts.netloc)
        if app is None:
            raise Retryable("web.unreachable", url=url, reason="nobody listens")
        stream = _Stream()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": parts.scheme,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": (parts.hostname, parts.port or 80),
        }
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body or b"", "more_body": False}
            await stream.gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await app(scope, receive, stream.send)
            finally:
                stream.begun.set()
                await stream.queue.put(None)

        task = asyncio.create_task(run())
        begun = asyncio.create_task(stream.begun.wait())
        await asyncio.wait({begun, task}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if stream.status == 0:
            await task
        try:
            yield stream
        finally:
            stream.gone.set()
            with contextlib.suppress(BaseException):
                await asyncio.wait_for(task, 1)
            if not task.done():
                task.cancel()


class _Stream:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(4)

    async def send(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in event["headers"]}
            self.begun.set()
        elif event.get("body"):
            if self.gone.is_set():
                raise OSError("the client is gone")
            put = asyncio.create_task(self.queue.put(bytes(event["body"])))
            gone = asyncio.create_task(self.gone.wait())
            await asyncio.wait({put, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not put.done():
                put.cancel()
                raise OSError("the client is gone")

    async def chunks(self) -> AsyncIterator[bytes]:
        while (piece := await self.queue.get()) is not None:
            yield piece


class Company:
    """A company: one participant, its exchange and its address on the network."""

    def __init__(self, network: Network, host: str, records: Records, clock: Any, settings: ExchangeSettings) -> None:
        self.address = f"http://{host}"
        self.did = did_of(self.address)
        self.base = f"{self.address}/dsp/2025-1"
        self.identity = Identity(self.did, P256Key.generate(), Ed25519Key.generate())
        self.records = records
        self.clock = clock
        self.network = network
        self.settings = settings
        self.verdict = Verdict(allowed=True, reason="allowed in this test")
        self.accesses: list[Access] = []
        self.table = pa.table({"signal": [1, 2, 3], "value": [1.5, 2.5, 3.5]})
        self.stated: Mapping[str, Any] | None = {"holder": self.did, "source": "own production"}
        self.exchange: Exchange
        self.outbox: Outbox
        self.build()

    def build(self) -> None:
        self.outbox = Outbox(self.records, self.clock, OutboxSettings(first_backoff_s=0.005, longest_backoff_s=0.02))
        self.exchange = Exchange(
            self.records,
            self.outbox,
            self.clock,
            self.network,
            self.settings,
            decide=self.decide,
            rights=self.rights,
            rows=self.rows,
        )
        self.exchange.host(self.identity, self.address)
        self.network.apps[urlsplit(self.address).netloc] = Starlette(routes=self.exchange.routes(self.did))

    async def decide(self, access: Access) -> Verdict:
        self.accesses.append(access)
        return self.verdict

    async def rights(self, participant: str, dataset_id: str) -> Mapping[str, Any] | None:
        return self.stated

    async def rows(self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None) -> Any:
        for batch in self.table.to_batches(max_chunksize=1000):
            yield batch

    async def start(self) -> None:
        await self.exchange.start()
        await self.outbox.start()

    async def stop(self) -> None:
        await self.exchange.stop()
        await self.outbox.stop()

    def leaves(self, kind: str) -> list[dict[str, Any]]:
        import orjson
        from sqlalchemy import select

        from guantong.records.tables import LEAVES

        rows = self.records.rows_now(select(LEAVES).where(LEAVES.c.kind == kind).order_by(LEAVES.c.number))
        return [orjson.loads(row["leaf"])["body"] for row in rows if row["participant"] == self.did]


USE = {"permission": [{"action": "use"}]}


def _product(**changes: Any) -> Product:
    fields: dict[str, Any] = {
        "id": "spindle",
        "dataset_id": "urn:dataset:spindle",
        "policy": USE,
        "title_en": "Spindle load",
        "title_zh": "主轴负载",
        "terms": "For quality assurance of order 4711.",
        "price": {"currency": "CNY", "perRow": "0.01"},
    }
    return Product(**{**fields, **changes})


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def companies(network: Network) -> AsyncIterator[Callable[..., Any]]:
    """``await companies("a.example")`` starts a company; all are stopped at the end."""
    started: list[Company] = []

    async def start(host: str, **options: Any) -> Company:
        clock = options.pop("clock", None) or SystemClock()
        url = options.pop("url", "sqlite://")
        records = Records(url, clock, inline=True)
        records.open(METADATA.create_all)
        company = Company(network, host, records, clock, ExchangeSettings(**options))
        await company.start()
        started.append(company)
        return company

    yield start
    for company in started:
        await company.stop()
        company.records.close()


@pytest.fixture
async def pair(companies: Callable[..., Any]) -> tuple[Company, Company]:
    """A provider and a consumer."""
    return await companies("localhost:7001"), await companies("localhost:7002")


async def _agreed(provider: Company, consumer: Company, **changes: Any) -> str:
    """The id of a final agreement on a product, made over the network."""
    await provider.exchange.offer(provider.did, _product(**changes))
    catalogue = await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
    pid = await consumer.exchange.negotiate(consumer.did, provider.base, provider.did, catalogue.offers[-1])
    done = await consumer.exchange.wait_negotiation(consumer.did, pid, timeout_s=5)
    assert done.state == "FINALIZED", done.reason
    return done.agreement_id


async def _started(provider: Company, consumer: Company, agreement_id: str) -> str:
    """The id of a started transfer on the consumer's side."""
    pid = await consumer.exchange.request_transfer(consumer.did, agreement_id)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, timeout_s=5)
    assert done.state == "STARTED", done.reason
    return pid


@pytest.fixture
def product() -> Callable[..., Product]:
    """``product(policy=…)`` is a product of the provider."""
    return _product


@pytest.fixture
def agreed() -> Callable[..., Any]:
    """``await agreed(provider, consumer, policy=…)`` is the id of a final agreement made over the network."""
    return _agreed


@pytest.fixture
def started() -> Callable[..., Any]:
    """``await started(provider, consumer, agreement_id)`` is the id of a started transfer on the consumer's side."""
    return _started
