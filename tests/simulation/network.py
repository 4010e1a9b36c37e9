"""A network with moods: it delays, reorders (by delay), repeats, loses requests and answers, breaks streams, and is cut for a while.

Requests go straight to the other node's ASGI application, in tasks that belong to that node: they die with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from guantong.base.errors import Retryable, Skippable
from guantong.base.wire import Response

if TYPE_CHECKING:
    from tests.simulation.world import Company

__all__ = ["Moods", "SimHttp", "SimNetwork"]


@dataclass(frozen=True, slots=True)
class Moods:
    """Chances per request, and how long things take."""

    delay_s: float = 0.02
    slow: float = 0.0
    slow_s: float = 5.0
    lose_request: float = 0.0
    lose_answer: float = 0.0
    repeat: float = 0.0
    break_stream: float = 0.0
    early: float = 0.0
    """The first callback of a process meets a partner that has not yet recorded what it asked for: 409, as an EDC consumer answers."""

    @classmethod
    def of(cls, rng: random.Random) -> Moods:
        """The moods of a run: some runs have none of a kind."""

        def some(most: float) -> float:
            return rng.random() * most if rng.random() < 0.6 else 0.0

        return cls(rng.choice((0.001, 0.02, 0.3)), some(0.2), 8.0, some(0.3), some(0.3), some(0.3), some(0.5), 0.3)


_FIRST = re.compile(r"/((?:negotiations/[^/]+)/(?:offers|agreement)|transfers/[^/]+/start)$")


class SimNetwork:
    """The network of one run."""

    def __init__(
        self, rng: random.Random, moods: Moods, trace: Callable[..., None], *, early: random.Random | None = None
    ) -> None:
        self.rng = rng
        self.early = early or random.Random(0)
        self.called: set[str] = set()
        """Processes that had a callback."""
        self.moods = moods
        self.trace = trace
        self.companies: dict[str, Company] = {}
        self.cut_until = 0.0
        self.seen: list[tuple[str, str, bytes]] = []
        """Every body that left a company: (its address, path, body); for what was published."""

    def heal(self) -> None:
        """From now on everything arrives."""
        self.moods = Moods()
        self.cut_until = 0.0


class SimHttp:
    """The HTTP client of one company (the port ``base.wire.Http``)."""

    def __init__(self, network: SimNetwork, owner: Company) -> None:
        self.network = network
        self.owner = owner

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
        """Send and read the whole answer."""
        try:
            async with asyncio.timeout(timeout_s):
                async with self.stream(method, url, body=body, headers=headers) as stream:
                    data = b"".join([piece async for piece in stream.chunks()])
        except TimeoutError as error:
            self.network.trace("timeout", self.owner.name, method, url)
            raise Retryable("web.unreachable", url=url, reason="no answer in time") from error
        if len(data) > max_bytes:
            raise Skippable("web.answer-too-large", url=url, limit=max_bytes)
        self.network.seen.append((urlsplit(url).netloc, urlsplit(url).path, data))
        return Response(stream.status, data, stream.headers)

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
        """Send and read the body in pieces."""
        network, moods, rng, loop = self.network, self.network.moods, self.network.rng, asyncio.get_running_loop()
        lots = [rng.random() for _ in range(7)]
        parts = urlsplit(url)
        where = f"{method} {parts.path}"
        network.seen.append((urlsplit(self.owner.address).netloc, parts.path, body or b""))
        await asyncio.sleep(moods.delay_s * 2 * lots[0] + (moods.slow_s * lots[1] if lots[2] < moods.slow else 0.0))
        target = network.companies[parts.netloc]
        if lots[3] < moods.lose_request or loop.time() < network.cut_until or target.app is None:
            network.trace("lost request", self.owner.name, where)
            await asyncio.sleep(0.5)
            raise Retryable("web.unreachable", url=url, reason="the request was lost")
        if (found := _FIRST.search(parts.path)) and method == "POST" and found[1] not in network.called:
            network.called.add(found[1])
            if network.early.random() < moods.early:
                network.trace("too early", self.owner.name, where)
                yield _Stream.refused(409)
                return
        call = _Call(method, url, body or b"", headers or {})
        if lots[4] < moods.repeat:
            network.trace("repeated", self.owner.name, where)
            target.spawn(_late(target, call, 0.01 + 3 * lots[1]), "repeated request")
        stream = _Stream(break_after=int(lots[1] * 4) if lots[5] < moods.break_stream else None)
        task = target.spawn(call.run(target.app, stream), "request")
        task.add_done_callback(lambda _: stream.ended())
        try:
            await stream.begun.wait()
            await asyncio.sleep(moods.delay_s * 2 * lots[0])
            lost = lots[6] < moods.lose_answer or loop.time() < network.cut_until
            network.trace("lost answer" if lost else "answer", self.owner.name, where, stream.status)
            if lost or not stream.status:
                await asyncio.sleep(0.5)
                raise Retryable("web.unreachable", url=url, reason="the answer was lost")
            yield stream
        finally:
            stream.gone.set()


async def _late(target: Company, call: _Call, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    if target.app is not None:
        await call.run(target.app, _Stream(keep=False))


class _Call:
    def __init__(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self.body = body
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": parts.scheme,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [
                (b"host", parts.netloc.encode()),
                *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": (parts.hostname, parts.port or 80),
        }

    async def run(self, app: Any, stream: _Stream) -> None:
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": self.body, "more_body": False}
            await stream.gone.wait()
            return {"type": "http.disconnect"}

        try:
            await app(dict(self.scope), receive, stream.send)
        finally:
            stream.ended()


class _Stream:
    """An answer under way."""

    def __init__(self, *, break_after: int | None = None, keep: bool = True) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self._keep = keep
        self._break_after = break_after
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._whole = False

    @classmethod
    def refused(cls, status: int) -> _Stream:
        """A whole answer without a body."""
        stream = cls()
        stream.status, stream._whole = status, True
        stream.ended()
        return stream

    def ended(self) -> None:
        self.begun.set()
        self._pieces.put_nowait(None)

    async def send(self, event: Mapping[str, Any]) -> None:
        if self.gone.is_set():
            await asyncio.sleep(0.002)
            return  # as uvicorn does: what is sent to nobody is dropped
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in event["headers"]}
            self.begun.set()
        elif event["type"] == "http.response.body":
            if event.get("body") and self._keep:
                self._pieces.put_nowait(bytes(event["body"]))
            self._whole = self._whole or not event.get("more_body", False)
            await asyncio.sleep(0.002)  # bytes take their time, so that a stream can be cut within

    async def chunks(self) -> AsyncIterator[bytes]:
        count = 0
        while (piece := await self._pieces.get()) is not None:
            if self._break_after is not None and count >= self._break_after:
                raise Retryable("web.unreachable", url="", reason="the connection broke")
            count += 1
            yield piece
        if not self._whole:
            raise Retryable("web.unreachable", url="", reason="the connection broke")
