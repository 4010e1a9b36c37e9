"""Two or more evidence rooms in one process: records in memory, files in a dictionary, and a wire that calls the other's routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from guantong.base.canonical import sha256
from guantong.base.entry import Entry, EntryKind
from guantong.base.errors import Corrupt, Retryable
from guantong.base.keys import Ed25519Key
from guantong.base.wire import Response
from guantong.prove.model import ProveKeys, ProveSettings
from guantong.prove.routes import routes
from guantong.prove.service import Prove
from guantong.records import METADATA, Records

NOTED = EntryKind("test.noted", "Something was noted", "已记录", {"type": "object"})

QUIET = {"audit_every_s": 0.0, "monitor_every_s": 0.0, "anchor_every_s": 0.0}
"""No rounds by themselves: a standing clock would let them spin. Tests call them."""


class MemoryBlobs:
    """keep's port for immutable files, in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes) -> bool:
        if name in self.files:
            if self.files[name] != data:
                raise Corrupt("prove.tree-damaged", participant="-", reason=f"{name} has other bytes")
            return False
        self.files[name] = data
        return True

    async def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        for name in sorted(self.files):
            if name.startswith(prefix):
                yield name

    async def delete(self, name: str) -> bool:
        return self.files.pop(name, None) is not None


class Wire:
    """Carries requests to the application behind a host name; ``cut`` hosts don't answer; every request is noted."""

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}
        self.cut: set[str] = set()
        self.seen: list[tuple[str, str, int]] = []
        self.before: Callable[[str], Any] | None = None

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
        parts = urlsplit(url)
        if self.before is not None:
            await self.before(url)
        await asyncio.sleep(0)
        if parts.netloc in self.cut:
            raise Retryable("prove.witness-later", witness=parts.netloc, status=0)
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self.apps[parts.netloc](
            {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
                "path": parts.path, "raw_path": parts.path.encode(), "query_string": b"", "root_path": "",
                "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
                "server": (parts.netloc, 80), "client": ("test", 1),
            },
            receive,
            send,
        )  # fmt: skip
        status = sent[0]["status"]
        self.seen.append((method, parts.path, status))
        return Response(
            status,
            b"".join(message.get("body", b"") for message in sent[1:]),
            {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        )


@dataclass
class House:
    """One node with one participant and its evidence room."""

    did: str
    records: Records
    blobs: MemoryBlobs
    prove: Prove
    keys: ProveKeys
    wire: Wire
    host: str
    clock: Any
    settings: ProveSettings = field(default_factory=ProveSettings)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    async def note(self, count: int = 1, **body: Any) -> None:
        """Record entries, all in one step."""
        async with self.records.step(self.did) as step:
            for number in range(count):
                step.record(Entry(NOTED, {"n": number, **body}))

    async def know(self, other: House) -> None:
        await self.prove.add_peer(self.did, other.did, other.keys.log.public, other.url)

    async def again(self) -> Prove:
        """The room opened anew over the same records and files, as after a crash."""
        await self.prove.stop()
        self.prove = Prove(
            self.records,
            self.blobs,
            self.clock,
            self.wire,
            lambda _: self.keys,
            self.settings,
            source=self.prove.source,
        )
        await self.prove.add(self.did)
        self.wire.apps[self.host] = Starlette(routes=routes(self.prove, lambda _: self.did))
        return self.prove

    async def get(self, path: str) -> Response:
        return await self.wire.request("GET", self.url + path)

    async def post(self, path: str, body: bytes) -> Response:
        return await self.wire.request("POST", self.url + path, body=body)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def build(clock: Any, wire: Wire) -> AsyncIterator[Callable[..., Any]]:
    """``await build("did:web:supplier.example")`` opens a house; all are closed at the end."""
    houses: list[House] = []

    async def make(did: str, **settings: Any) -> House:
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        keys = ProveKeys(Ed25519Key(sha256(b"log" + did.encode())), Ed25519Key(sha256(b"witness" + did.encode())))
        blobs = MemoryBlobs()
        chosen = ProveSettings(**{**QUIET, "package_wait_s": 2.0, "gather_s": 0.0, **settings})
        prove = Prove(records, blobs, clock, wire, lambda _: keys, chosen)
        await prove.add(did)
        host = did.rpartition(":")[2]
        house = House(did, records, blobs, prove, keys, wire, host, clock, chosen)
        wire.apps[host] = Starlette(routes=routes(prove, lambda _: did))
        houses.append(house)
        return house

    yield make
    for house in houses:
        await house.prove.stop()
        house.records.close()


@pytest.fixture
async def supplier(build: Callable[..., Any]) -> House:
    return await build("did:web:supplier.example")


@pytest.fixture
async def customer(build: Callable[..., Any]) -> House:
    return await build("did:web:customer.example")
