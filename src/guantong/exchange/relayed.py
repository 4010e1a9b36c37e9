"""The company behind a router: its seat at a relay, and the connection that it opens and keeps open.

The connection goes outwards only; requests of partners come in over it and are answered by the node's own application. The relay is known
by its DID, this company to it by an identity token. When the connection is lost it is opened again, with growing pauses; what partners
send meanwhile waits with them. Source: RFC 6455; ASGI 3.0, HTTP connection scope.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable
from guantong.exchange.dids import did_of
from guantong.exchange.identity import Identity, did_document
from guantong.exchange.relay import claim, passes, seat_of
from guantong.exchange.relay_frames import HEAD, PING, PONG, Lane, frame, head_of, kind_of

if TYPE_CHECKING:
    from guantong.base.clock import Clock
    from guantong.base.wire import Dial, Http, Socket
    from guantong.exchange.hosting import Hosting
    from guantong.exchange.space import Offer

__all__ = ["FILE", "Seat", "Uplink", "seat_in", "take_seat"]

_LOG = logging.getLogger("guantong.exchange")
FILE = "relay.json"
"""Where a node keeps its seat, in its directory."""
PING_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_MOST_LANES = 256
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Seat:
    """A company's place at a relay."""

    relay: str
    """DID of the relay."""
    root: str
    """The relay's root address."""
    name: str

    @property
    def address(self) -> str:
        """The root address by which partners reach the company."""
        return seat_of(self.root, self.name)

    @property
    def did(self) -> str:
        """The company's DID."""
        return did_of(self.address)


def seat_in(directory: Path) -> Seat | None:
    """The seat that a node in a directory has, None where it has none. Raises ConfigProblem ``cli.file-unreadable``."""
    file = directory / FILE
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        return Seat(str(found["relay"]), str(found["root"]), str(found["name"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigProblem("cli.file-unreadable", path=file, reason=error) from error


async def take_seat(
    directory: Path,
    http: Http,
    clock: Clock,
    identity_of: Callable[[str], Identity],
    offer: Offer,
    name: str,
    changes: tuple[Mapping[str, Any], ...] = (),
) -> Seat:
    """Have a seat at the relay of an offer, and keep it in the directory. Asked again with the same link, name and keys it is the same.

    ``identity_of(did)`` is the keys under a DID. Raises Refused ``exchange.relay-refused``, Retryable ``exchange.relay-lost``.
    """
    if not offer.relay:
        raise Refused("exchange.relay-refused", reason="the leader of this space relays for nobody")
    seat = Seat(offer.issuer, offer.root, name)
    await _state(http, clock, identity_of(seat.did), seat, changes, code=offer.code)
    fresh = directory / f"{FILE}.new"
    fresh.write_text(json.dumps({"relay": seat.relay, "root": seat.root, "name": seat.name}), "utf-8")
    fresh.replace(directory / FILE)
    return seat


async def _state(
    http: Http,
    clock: Clock,
    identity: Identity,
    seat: Seat,
    changes: tuple[Mapping[str, Any], ...],
    *,
    code: str = "",
    document: Mapping[str, Any] | None = None,
) -> None:
    at = clock.now()
    shown = document or did_document(identity, seat.address, at=at)
    body = {**claim(identity, seat.relay, seat.name, shown, at, changes=changes), "code": code}
    response = await http.request(
        "POST",
        f"{seat.root}/space/relay",
        body=orjson.dumps(body),
        headers={"content-type": "application/json", "accept": "application/json"},
        max_bytes=64 * 1024,
    )
    if response.status >= 500 or response.status == 429:
        raise Retryable("exchange.relay-lost", relay=seat.root, reason=f"it answered {response.status}")
    if not 200 <= response.status < 300:
        try:
            told = str(orjson.loads(response.body)["title"]).removeprefix("The relay refuses: ").rstrip(".")
        except (ValueError, KeyError, TypeError):
            told = f"it answered {response.status}"
        raise Refused("exchange.relay-refused", reason=told[:200])


class Uplink:
    """The connection of a company to its relay. ``start()``, ``await stop()``."""

    def __init__(
        self,
        hosting: Hosting,
        seat: Seat,
        dial: Dial,
        app: App,
        *,
        changes: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        """``app`` answers the requests."""
        self.seat = seat
        self.since = 0
        """Since when it is connected, ns; 0 while it isn't."""
        self.error: GuantongError | None = None
        """Why it isn't."""
        self.served = 0
        """Requests that came over it."""
        self._hosting = hosting
        self._dial = dial
        self._app = app
        self.document: Callable[[], Mapping[str, Any] | None] = lambda: None
        """The own DID document as it is now; one made of the keys alone if None."""
        self._changes = changes
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    def start(self) -> None:
        """Connect, and stay connected."""
        self._task = asyncio.create_task(self._run(), name="relay")

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def connected(self, timeout_s: float) -> None:
        """Wait until it is connected. Raises Retryable ``exchange.relay-lost``, or why the relay refuses."""
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            raise self.error or Retryable("exchange.relay-lost", relay=self.seat.root, reason="no answer") from None

    async def _run(self) -> None:
        hosting, pause, stated = self._hosting, _FIRST_PAUSE_S, False
        while True:
            try:
                if not stated:  # keys may have changed since the last start
                    identity = hosting.hosted(self.seat.did).identity
                    await _state(
                        hosting.http, hosting.clock, identity, self.seat, self._changes, document=self.document()
                    )
                    stated = True
                await self._connect()
                pause = _FIRST_PAUSE_S
                self._lost(Retryable("exchange.relay-lost", relay=self.seat.root, reason="the connection ended"))
            except GuantongError as error:
                self._lost(error)
            except OSError as error:
                self._lost(Retryable("exchange.relay-lost", relay=self.seat.root, reason=str(error)[:100]))
            spread = int.from_bytes(hosting.records.random(2), "big") / 65_536
            await asyncio.sleep(pause * (0.5 + spread))
            pause = min(_LONGEST_PAUSE_S, pause * 2)

    def _lost(self, error: GuantongError) -> None:
        self.since, self.error = 0, error
        self._connected.clear()
        self._hosting.changed(self.seat.did, "relay", "LOST")

    async def _connect(self) -> None:
        hosting, seat = self._hosting, self.seat
        token = hosting.tokens.issue(hosting.hosted(seat.did).identity, seat.relay)
        url = f"{seat.root}/space/relay/{quote(seat.name)}"
        async with self._dial(url, {"authorization": f"Bearer {token}"}) as socket:
            self.since, self.error = hosting.clock.now(), None
            self._connected.set()
            hosting.changed(seat.did, "relay", "CONNECTED")
            lanes: dict[int, Lane] = {}
            tasks: set[asyncio.Task[None]] = set()
            pinging = asyncio.create_task(_ping(socket), name="relay ping")
            try:
                while True:
                    message = await asyncio.wait_for(socket.receive(), PING_S * 3)
                    if message is None:
                        return
                    self._took(socket, lanes, tasks, message)
            except (TimeoutError, ValueError):
                return
            finally:
                pinging.cancel()
                for lane in lanes.values():
                    lane.cut()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(pinging, *tasks, return_exceptions=True)

    def _took(self, socket: Socket, lanes: dict[int, Lane], tasks: set[asyncio.Task[None]], message: bytes) -> None:
        kind, number, payload = kind_of(message)
        if kind == PONG:
            return
        lane = lanes.get(number)
        if kind != HEAD:
            if lane is not None:
                lane.take(kind, payload)
            return
        if lane is not None or len(lanes) >= _MOST_LANES:
            raise ValueError("more requests than can be under way")
        lane = lanes[number] = Lane(number, socket.send, idle_s=float(self._hosting.settings.relay_idle_s))
        task = asyncio.create_task(self._answer(lane, head_of(payload)), name=f"relayed {number}")
        tasks.add(task)

        def over(done: asyncio.Task[None]) -> None:
            tasks.discard(done)
            if not done.cancelled() and done.exception() is not None:
                _LOG.error("a relayed request failed", exc_info=done.exception())
            lanes.pop(number, None)

        task.add_done_callback(over)

    async def _answer(self, lane: Lane, head: Mapping[str, Any]) -> None:
        """One request to the own application, its answer to the relay."""
        self.served += 1
        path, query, ended, whole = str(head.get("path")), str(head.get("query", "")), False, False
        coming = lane.pieces()

        async def receive() -> dict[str, Any]:
            nonlocal ended
            if not ended:
                try:
                    return {"type": "http.request", "body": await anext(coming), "more_body": True}
                except StopAsyncIteration:
                    ended = True
                    return {"type": "http.request", "body": b"", "more_body": False}
                except OSError:
                    return {"type": "http.disconnect"}
            await lane.broken.wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in message["headers"]]
                await lane.open({"status": message["status"], "headers": headers})
                return
            if message.get("body"):
                await lane.put(message["body"])
            if not message.get("more_body", False):
                await lane.end()
                whole = True

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": str(head.get("method", "GET")),
            "scheme": "https",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]],
            "client": ("relay", 0),  # no address, so nobody on loopback
            "server": ("relay", 0),
        }
        try:
            # the relay asks only for these; a node does not rely on it
            if not passes(path):
                await lane.open({"status": 404, "headers": []})
                await lane.end()
                whole = True
                return
            await self._app(scope, receive, send)
        except OSError:
            _LOG.info("a relayed request was broken off")  # whoever asked has left, or the connection has ended
        finally:
            with contextlib.suppress(OSError):
                if not whole:
                    await lane.reset()


async def _ping(socket: Socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(PING_S)
            await socket.send(frame(PING, 0))
