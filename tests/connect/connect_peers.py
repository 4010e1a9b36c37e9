"""Peers for connect's tests: a sink that remembers, an adapter and an agent that replay what tests give them, a plain HTTP client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from guantong.base.batch import Batch
from guantong.base.errors import Retryable
from guantong.base.wire import Response
from guantong.connect.model import ConnectSettings

SUPPLIER = "did:web:supplier.example"
QUICK = ConnectSettings(
    batch_wait_s=0.02, backoff_first_s=0.02, backoff_max_s=0.1, silence_s=3.0, folder_interval_s=0.05
)


class ListSink:
    """A durable log that is a list; ``refuse`` makes that many writes fail first."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refuse = 0

    async def take(self, participant: str, batch: Batch) -> int:
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse -= 1
            raise Retryable("records.disk-full", reason="test")
        self.batches.append(batch)
        return len(self.batches)

    def readings(self) -> list[dict[str, Any]]:
        """Every reading, with times as ints of nanoseconds."""
        found = []
        for batch in self.batches:
            if batch.kind != "readings":
                continue
            columns = {
                name: (
                    batch.rows.column(name).cast("int64").to_pylist()
                    if name.endswith("_time")
                    else batch.rows.column(name).to_pylist()
                )
                for name in batch.rows.schema.names
            }
            found.extend(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return found

    def noted(self, what: str) -> list[Any]:
        """Everything of that name in the notes; lists are joined."""
        found: list[Any] = []
        for batch in self.batches:
            value = batch.note.get(what)
            if isinstance(value, list):
                found.extend(value)
            elif value is not None:
                found.append(value)
        return found


def value_of(reading: Mapping[str, Any]) -> Any:
    """The one value that is set."""
    return next(
        (reading[name] for name in ("value_f64", "value_i64", "value_text", "value_bool") if reading[name] is not None),
        None,
    )


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something that must happen."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class PlainHttp:
    """base.wire.Http over aiohttp, without address rules: tests talk to loopback only."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self.zones: set[str] = set()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Any = None,
        timeout_s: float = 10.0,
        max_bytes: int = 1 << 24,
        zone: str = "partner",
    ) -> Response:
        self.zones.add(zone)
        try:
            async with self._open().request(
                method, url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(timeout_s), allow_redirects=False
            ) as answer:
                return Response(answer.status, await answer.read(), {k.lower(): v for k, v in answer.headers.items()})
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Retryable("connect.unreachable", base=url, reason=str(error)) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Any = None,
        timeout_s: float = 30.0,
        zone: str = "partner",
    ) -> AsyncIterator[Any]:
        self.zones.add(zone)
        limits = aiohttp.ClientTimeout(total=None, sock_read=timeout_s)
        try:
            async with self._open().request(method, url, data=body, headers=headers, timeout=limits) as answer:
                yield _Stream(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Retryable("connect.unreachable", base=url, reason=str(error)) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Stream:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.status = answer.status
        self.headers = {k.lower(): v for k, v in answer.headers.items()}
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in self._answer.content.iter_any():
            yield piece


class Adapter:
    """An SHDR adapter on loopback: answers pings, says what tests tell it, can go silent or be cut."""

    def __init__(self) -> None:
        self.interval_ms: int | None = 200
        self.greeting = b""
        self.heard: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.silent = False
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        if self.greeting:
            writer.write(self.greeting)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(line.decode().strip())
                if line.startswith(b"* PING") and self.interval_ms and not self.silent:
                    writer.write(f"* PONG {self.interval_ms}\n".encode())

    def say(self, data: str) -> None:
        self.writers[-1].write(data.encode())

    async def cut(self) -> None:
        """Close every connection and the port."""
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self.writers.clear()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None


class Agent:
    """An MTConnect agent with a ring of observations. It knows `probe`, `current` and `sample`, pushed or asked for."""

    def __init__(self, probe: bytes, *, size: int = 1000) -> None:
        self.probe = probe
        self.instance = 1
        self.size = size
        self.ring: list[tuple[int, str, str, str, str]] = []  # sequence, group, tag, id, value
        self.latest: dict[str, tuple[int, str, str, str, str]] = {}
        self.next = 1
        self.pushes = True
        self.hidden: set[int] = set()
        self.body: bytes | None = None
        self.requests: list[str] = []
        self.port = 0
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def tell(self, item: str, value: str, *, group: str = "Samples", tag: str = "Position") -> None:
        entry = (self.next, group, tag, item, value)
        self.ring.append(entry)
        self.latest[item] = entry
        self.next += 1
        del self.ring[: -self.size]
        self._news.set()
        self._news = asyncio.Event()

    def restart(self) -> None:
        self.instance += 1
        self.ring, self.latest, self.next = [], {}, 1

    @property
    def first(self) -> int:
        return self.ring[0][0] if self.ring else self.next

    def document(self, entries: list[tuple[int, str, str, str, str]], following: int) -> bytes:
        if self.body is not None:
            return self.body
        groups: dict[str, list[str]] = {}
        for sequence, group, tag, item, value in entries:
            if sequence not in self.hidden:
                groups.setdefault(group, []).append(
                    f'<{tag} dataItemId="{item}" sequence="{sequence}" timestamp="2026-11-24T08:00:{sequence % 60:02d}.{sequence:06d}Z">{value}</{tag}>'
                )
        inner = "".join(f"<{group}>{''.join(lines)}</{group}>" for group, lines in groups.items())
        return (
            '<?xml version="1.0" encoding="UTF-8"?><MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:1.3">'
            f'<Header instanceId="{self.instance}" version="1.3" bufferSize="{self.size}" firstSequence="{self.first}" '
            f'lastSequence="{self.next - 1}" nextSequence="{following}"/><Streams><DeviceStream name="M1" uuid="m1">'
            f'<ComponentStream component="Linear" name="X" componentId="x">{inner}</ComponentStream></DeviceStream></Streams>'
            "</MTConnectStreams>"
        ).encode()

    def _piece(self, start: int, count: int) -> tuple[bytes, int]:
        entries = [entry for entry in self.ring if entry[0] >= start][:count]
        following = entries[-1][0] + 1 if entries else start
        return self.document(entries, following), following

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        verb = request.path.rpartition("/")[2]
        self.requests.append(request.path_qs)
        if verb == "probe":
            return web.Response(body=self.probe, content_type="text/xml")
        if verb == "current":
            return web.Response(body=self.document(sorted(self.latest.values()), self.next), content_type="text/xml")
        start, count = int(request.query["from"]), int(request.query["count"])
        if not self.first <= start <= self.next:
            error = (
                '<MTConnectError xmlns="urn:mtconnect.org:MTConnectError:1.3"><Header/><Errors>'
                '<Error errorCode="OUT_OF_RANGE">from</Error></Errors></MTConnectError>'
            )
            return web.Response(text=error, status=404, content_type="text/xml")
        if not self.pushes:
            return web.Response(body=self._piece(start, count)[0], content_type="text/xml")
        answer = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace;boundary=abc"})
        await answer.prepare(request)
        while True:
            document, start = self._piece(start, count)
            head = f"\r\n--abc\r\nContent-type: text/xml\r\nContent-length: {len(document)}\r\n\r\n"
            await answer.write(head.encode() + document + b"\r\n")
            if start == self.next:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.2)

    async def open(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def cut(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
