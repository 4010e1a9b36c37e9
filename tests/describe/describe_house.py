"""A small company for describe's tests: catalogue, rows, rules of access, and a caller for the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from guantong.base.clock import parse_iso
from guantong.fuse.model import Correction, Part, Signal
from guantong.keep.model import clean_measurement_schema, clean_schema

ME, PARTNER = "did:web:supplier.example", "did:web:customer.example"
T0 = parse_iso("2026-11-24T07:00:00.123456789Z")
SECOND = 1_000_000_000


@dataclass
class Catalogue:
    """Signals, parts and corrections as fuse would list them, changeable field by field."""

    listed: list[Signal] = field(default_factory=list)
    known: list[Part] = field(default_factory=list)
    corrected: list[Correction] = field(default_factory=list)

    async def signals(self, participant: str) -> list[Signal]:
        return self.listed if participant == ME else []

    async def parts(self, participant: str) -> list[Part]:
        return self.known if participant == ME else []

    async def corrections(self, participant: str) -> list[Correction]:
        return self.corrected if participant == ME else []


def signal(number: int, native: str, type: str = "f64", unit: str = "", source: str = "mill-01") -> Signal:
    return Signal(number, source, native, f"Axes/{native}", native, unit, unit, type, "sample", 1)


def readings(rows: list[Mapping[str, Any]]) -> pa.Table:
    """Clean readings; ``at`` is the source time in nanoseconds."""
    listed = []
    for given in rows:
        row = dict(given)
        at = row.pop("at")
        listed.append(
            {
                "source_time": at // 1000,
                "source_ns": at % 1000,
                "receive_time": at // 1000 + 7,
                "status": 0,
                "revision": 0,
                "log_position": 1,
                "day": at // 1000 // 86_400_000_000,
                **row,
            }
        )
    return pa.Table.from_pylist(listed, clean_schema())


def measurements(rows: list[Mapping[str, Any]]) -> pa.Table:
    listed = [
        {
            "report": "r",
            "result": "1",
            "characteristic": str(number),
            "name": "Diameter 1",
            "kind": "diameter",
            "receive_time": T0 // 1000,
            "source": "fair",
            "revision": 0,
            "log_position": 1,
            **row,
        }
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(listed, clean_measurement_schema())


@dataclass
class Rulebook:
    """Who may do what, as a set of (subject, action, object); the participant itself may do everything."""

    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)

    def __call__(self, participant: str, subject: str, action: str, object: str) -> bool:
        self.asked.append((participant, subject, action, object))
        return subject == participant or (subject, action, object) in self.allowed


Get = Callable[..., Awaitable[tuple[int, Any]]]


async def call(app: Any, url: str, subject: str) -> tuple[int, bytes]:
    """One GET through ASGI, without a client library."""
    parts = urlsplit(url)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": parts.path, "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
        "headers": [(b"host", b"node.example"), (b"x-subject", subject.encode())], "client": ("127.0.0.1", 1),
        "server": ("node.example", 80), "state": {},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return next(message["status"] for message in sent if message["type"] == "http.response.start"), body
