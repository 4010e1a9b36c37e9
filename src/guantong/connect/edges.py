"""The node's side of two zones: gateways enrol with a one-time code and hand in their logs, each entry once.

How far each gateway is stands in the records beside the position in our own log; an entry is made durable in the log first and carries
the gateway and its position, so that after a crash between the two the log says what was taken. Requests are answered over TLS, or on
loopback where a proxy may have ended it.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from sqlalchemy import and_, select

from guantong.base.batch import Batch
from guantong.base.canonical import b64url
from guantong.base.clock import NS, Clock
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Skippable
from guantong.base.ids import NewId, new_uuid
from guantong.connect.edge import CONTENT_TYPE, Frame, frames_of
from guantong.connect.model import EDGE_ENROLLED, EDGE_REMOVED
from guantong.connect.ports import Sink
from guantong.connect.tables import EDGES, INVITES
from guantong.records import Records

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

__all__ = ["Edge", "Edges", "edge_routes"]

INVITE_S = 3600.0
"""How long a one-time code can be used."""


class Log(Sink, Protocol):
    """The node's own durable log: batches in, and what was taken out again after a crash."""

    async def read(self, participant: str, after: int, limit_rows: int) -> list[Any]:
        """Entries above a position, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Edge:
    """A gateway as the node knows it."""

    id: str
    name: str
    enrolled_at: int
    seen_at: int
    """When it last spoke, ns; 0 if it never did."""
    position: int
    """The last entry of its log that is durable here."""
    frames: int
    rows: int
    sources: tuple[Mapping[str, Any], ...]
    """Its sources' scorecards, as it last told them."""


class Edges:
    """The gateways of this node."""

    def __init__(self, records: Records, log: Log, clock: Clock, *, new_id: NewId = new_uuid) -> None:
        self.records = records
        self.log = log
        self.clock = clock
        self._new_id = new_id
        self._locks: dict[str, asyncio.Lock] = {}
        self._sure: set[str] = set()
        """Gateways whose place was compared with the log since the start."""

    async def invite(self, participant: str) -> dict[str, Any]:
        """A one-time code for one gateway, valid for an hour. Kept is its SHA-256."""
        code = self.records.random(16).hex()
        until = self.clock.now() + int(INVITE_S * NS)
        async with self.records.step(participant) as step:
            step.insert(INVITES, code=_digest(code), until=until)
        return {"code": code, "until": until}

    async def enrol(self, participant: str, code: str, name: str) -> tuple[str, str]:
        """Use up a code. Returns the gateway's id and its token. Raises Refused ``connect.edge-code-refused``, Skippable for a name."""
        name = name.strip()
        if not name or len(name) > 60 or "/" in name:
            raise Skippable("connect.edge-name-invalid", name=name[:60])
        where = and_(INVITES.c.participant == participant, INVITES.c.code == _digest(code))
        row = await self.records.row(select(INVITES).where(where))
        if row is None or row["until"] < self.clock.now():
            raise Refused("connect.edge-code-refused", url="")
        if any(one.name == name for one in await self.edges(participant)):
            raise Skippable("connect.edge-name-invalid", name=name)
        id, token = str(self._new_id()), b64url(self.records.random(32))
        async with self.records.step(participant) as step:
            step.delete(INVITES, code=_digest(code))
            step.insert(
                EDGES,
                id=id,
                name=name,
                token=_digest(token),
                enrolled_at=step.at,
                seen_at=0,
                position=0,
                part=1,
                parts=1,
                log_position=0,
                frames=0,
                rows=0,
                sources=b"[]",
            )
            step.record(Entry(EDGE_ENROLLED, {"edge": id, "name": name}))
        return id, token

    async def remove(self, participant: str, id: str) -> None:
        """The gateway may not speak any more; what it delivered stays. Raises Skippable ``connect.edge-unknown``."""
        found = next((one for one in await self.edges(participant) if id in (one.id, one.name)), None)
        if found is None:
            raise Skippable("connect.edge-unknown", edge=id)
        async with self.records.step(participant) as step:
            step.delete(EDGES, id=found.id)
            step.record(Entry(EDGE_REMOVED, {"edge": found.id, "name": found.name}))

    async def edges(self, participant: str) -> list[Edge]:
        """Every gateway, by name."""
        rows = await self.records.rows(select(EDGES).where(EDGES.c.participant == participant).order_by(EDGES.c.name))
        return [
            Edge(
                row["id"],
                row["name"],
                row["enrolled_at"],
                row["seen_at"],
                row["position"],
                row["frames"],
                row["rows"],
                tuple(orjson.loads(row["sources"])),
            )
            for row in rows
        ]

    async def take(self, participant: str, token: str, body: bytes, told: str = "") -> tuple[bool, int]:
        """Make frames durable, each once. Returns whether they follow what was taken before, and up to which entry all is durable.

        Raises Refused ``connect.edge-refused`` for an unknown token, Skippable ``connect.edge-frame-unreadable`` (nothing of the
        request is taken), Retryable from the log (what was taken before stays taken).
        """
        where = and_(EDGES.c.participant == participant, EDGES.c.token == _digest(token))
        row = await self.records.row(select(EDGES).where(where))
        if row is None:
            raise Refused("connect.edge-refused", url="", status=401)
        id = str(row["id"])
        frames = await asyncio.to_thread(lambda: list(frames_of(body)))
        async with self._locks.setdefault(id, asyncio.Lock()):
            row = await self.records.row(select(EDGES).where(where))
            if row is None:
                raise Refused("connect.edge-refused", url="", status=401)
            place = _Place(row["position"], row["part"], row["parts"], row["log_position"])
            follows, rows, count = True, 0, 0
            if id not in self._sure:
                count, rows = await self._recall(participant, id, place)
                self._sure.add(id)
            try:
                for frame in frames:
                    if place.has(frame):
                        continue
                    if not place.next(frame):
                        follows = False
                        break
                    place.log = await self.log.take(participant, _named(frame, id, str(row["name"])))
                    place.position, place.part, place.parts = frame.position, frame.part, frame.parts
                    rows, count = rows + frame.batch.rows.num_rows, count + 1
            finally:
                async with self.records.step(participant) as step:
                    step.update(
                        EDGES,
                        {"id": id},
                        {
                            "position": place.position,
                            "part": place.part,
                            "parts": place.parts,
                            "log_position": place.log,
                            "seen_at": self.clock.now(),
                            "frames": row["frames"] + count,
                            "rows": row["rows"] + rows,
                            **({"sources": _cards(told)} if told else {}),
                        },
                    )
            return follows, place.whole()

    async def _recall(self, participant: str, id: str, place: _Place) -> tuple[int, int]:
        """Entries that the log took and the records don't know of, because the process ended between the two: how many, and their rows."""
        after, count, rows = place.log, 0, 0
        while entries := await self.log.read(participant, after, 500_000):
            for one in entries:
                mark = one.batch.note.get("edge")
                if isinstance(mark, dict) and mark.get("id") == id:
                    place.position, place.part, place.parts = mark["position"], mark["part"], mark["parts"]
                    place.log = one.position
                    count, rows = count + 1, rows + one.batch.rows.num_rows
            after = entries[-1].position
        return count, rows


@dataclass(slots=True)
class _Place:
    """How far a gateway is."""

    position: int
    part: int
    parts: int
    log: int

    def has(self, frame: Frame) -> bool:
        return (frame.position, frame.part) <= (self.position, self.part)

    def next(self, frame: Frame) -> bool:
        if frame.position == self.position:
            return frame.part == self.part + 1
        return self.part == self.parts and frame.after == self.position and frame.part == 1

    def whole(self) -> int:
        """The last entry that is here with all its parts; of one that isn't, the gateway sends all parts again."""
        return self.position if self.part == self.parts else self.position - 1


def _named(frame: Frame, id: str, name: str) -> Batch:
    batch = frame.batch
    mark = {"id": id, "position": frame.position, "part": frame.part, "parts": frame.parts}
    return Batch(f"{name}/{batch.source}", batch.kind, batch.rows, {**batch.note, "edge": mark})


def _cards(told: str) -> bytes:
    """The scorecards a gateway tells, as they are stored; what is no list of small objects counts as none."""
    try:
        found = orjson.loads(told)["sources"]
    except (ValueError, KeyError, TypeError):
        found = []
    good = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return orjson.dumps(found[:64] if good else [])


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def edge_routes(edges: Edges, participant: str) -> list[BaseRoute]:
    """``POST /edge/enrol`` and ``POST /edge/frames``."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def enrol(request: Request) -> Response:
        _secure(request)
        try:
            asked = orjson.loads(await request.body())
            code, name = str(asked["code"]), str(asked["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise Skippable("connect.edge-frame-unreadable", number=0, reason="code and name are wanted") from error
        id, token = await edges.enrol(participant, code, name)
        return JSONResponse({"edge": id, "token": token, "participant": participant})

    async def frames(request: Request) -> Response:
        _secure(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("connect.edge-refused", url="", status=401)
        if request.headers.get("content-type") != CONTENT_TYPE:
            raise Skippable("connect.edge-frame-unreadable", number=0, reason=f"{CONTENT_TYPE} is wanted")
        told = request.headers.get("x-guantong-edge", "")
        follows, received = await edges.take(participant, token, await request.body(), told)
        return JSONResponse({"received": received}, 200 if follows else 409)

    return [Route("/edge/enrol", enrol, methods=["POST"]), Route("/edge/frames", frames, methods=["POST"])]


def _secure(request: Request) -> None:
    """Raises Refused ``connect.edge-plain`` for plain http from another machine."""
    if request.url.scheme == "https":
        return
    host = request.client.host if request.client else ""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise Refused("connect.edge-plain")
