"""A gateway in the machine network and its node: frames, enrolment, a chain in which each entry is taken once, whatever the way does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from connect_peers import SUPPLIER, ListSink
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.batch import Batch
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Response
from guantong.connect import edge as edge_module
from guantong.connect.columns import Readings
from guantong.connect.edge import Forwarder, Frame, encode, enrol, frames_of, parts_of, secure_url
from guantong.connect.edges import Edges, edge_routes
from guantong.records import METADATA, Records


def batch(first: int, count: int, **note: Any) -> Batch:
    rows = Readings()
    for number in range(first, first + count):
        rows.append("counter", 1_700_000_000 * NS + number, 1_700_000_001 * NS, number)
    return Batch("mill", "readings", rows.batch(), note)


class Shelf(ListSink):
    """A node's log that can be read back."""

    async def read(self, participant: str, after: int, limit_rows: int) -> list[Any]:
        return [SimpleNamespace(position=at + 1, batch=one) for at, one in enumerate(self.batches)][after : after + 3]

    def numbers(self) -> list[int]:
        return [number for one in self.batches for number in one.rows.column("value_i64").to_pylist()]


class Log:
    """A gateway's log."""

    def __init__(self) -> None:
        self.entries: dict[int, Batch] = {}
        self.stored = 0

    def add(self, *batches: Batch) -> None:
        for one in batches:
            self.entries[max(self.entries, default=0) + 1] = one

    async def read(self, participant: str, after: int, limit_rows: int) -> list[Any]:
        found = [SimpleNamespace(position=at, batch=one) for at, one in sorted(self.entries.items()) if at > after]
        return found[:4]

    async def acknowledged(self, participant: str) -> int:
        return self.stored

    async def acknowledge(self, participant: str, position: int) -> None:
        self.stored = max(self.stored, position)


class Wire:
    """The HTTP port onto the node's routes; ``trouble`` may lose a request or its answer."""

    def __init__(self, edges: Edges, *, client: tuple[str, int] = ("127.0.0.1", 5), scheme: str = "http") -> None:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse

        async def problem(_: Any, error: Any) -> Any:
            return JSONResponse({"code": error.code}, error.status)

        self.app = Starlette(routes=edge_routes(edges, SUPPLIER), exception_handlers={GuantongError: problem})
        self.client, self.scheme = client, scheme
        self.trouble: Any = lambda: ""
        self.requests = 0

    async def request(self, method: str, url: str, **given: Any) -> Response:
        self.requests += 1
        what = self.trouble()
        if what == "lost":
            raise Retryable("web.unreachable", url=url, reason="test")
        body, headers = given.get("body") or b"", given.get("headers") or {}
        sent: list[Any] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": self.scheme,
            "path": url.partition("//")[2].partition("/")[1] + url.partition("//")[2].partition("/")[2], "query_string": b"",
            "root_path": "", "client": self.client, "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if what == "answer lost":
            raise Retryable("web.unreachable", url=url, reason="test")
        return Response(sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]))


@pytest.fixture
async def scene(tmp_path: Path, clock: Any) -> AsyncIterator[SimpleNamespace]:
    records = Records(f"sqlite:///{tmp_path}/records.db", clock, inline=True)
    records.open(METADATA.create_all)
    shelf = Shelf()
    edges = Edges(records, shelf, clock)
    wire = Wire(edges)
    told = await enrol(wire, "http://127.0.0.1:1", (await edges.invite(SUPPLIER))["code"], "hall")
    yield SimpleNamespace(records=records, shelf=shelf, edges=edges, wire=wire, told=told, clock=clock, log=Log())
    records.close()


def forwarder(scene: SimpleNamespace) -> Forwarder:
    return Forwarder(
        scene.log, scene.wire, scene.clock, "http://127.0.0.1:1", SUPPLIER, scene.told["edge"], scene.told["token"]
    )


async def forward(scene: SimpleNamespace, by: Forwarder | None = None) -> Forwarder:
    """Everything that the log holds, without waiting."""
    made = by or forwarder(scene)
    made.position = max(made.position, await scene.log.acknowledged(SUPPLIER)) if by is None else made.position
    while entries := await scene.log.read(SUPPLIER, made.position, 9):
        await made._post(entries)
    return made


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 40),
    st.integers(1, 2**40),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(0, 9)),
)
def test_a_frame_comes_back_as_it_was_sent(count, position, note):
    frame = Frame(position, 1, 1, position - 1, batch(0, count, **{f"_{name}": value for name, value in note.items()}))
    (got,) = frames_of(encode(frame))

    assert (got.position, got.part, got.parts, got.after) == (position, 1, 1, position - 1)
    assert got.batch.rows.equals(frame.batch.rows)
    assert got.batch.note == frame.batch.note


def test_no_cut_and_no_changed_byte_passes_for_a_frame():
    first = encode(Frame(2, 1, 1, 1, batch(0, 5, file="a")))
    data = first + encode(Frame(3, 1, 1, 2, batch(5, 5)))
    dice = random.Random(2)
    spoilt = [data[:size] for size in range(1, len(data), 7) if size != len(first)]
    for at in {*range(60), *(dice.randrange(len(data)) for _ in range(120))}:
        changed = bytearray(data)
        changed[at] ^= 1 << dice.randrange(8)
        spoilt.append(bytes(changed))

    assert len(list(frames_of(data))) == 2
    for one in spoilt:
        with pytest.raises(Skippable) as caught:
            list(frames_of(one))
        assert caught.value.code == "connect.edge-frame-unreadable"


async def test_a_code_is_used_once_and_not_after_an_hour(scene):
    code = (await scene.edges.invite(SUPPLIER))["code"]
    await scene.edges.enrol(SUPPLIER, code, "second")
    late = (await scene.edges.invite(SUPPLIER))["code"]
    scene.clock.advance(3601)

    for used in (code, late, "guess"):
        with pytest.raises(Refused) as caught:
            await scene.edges.enrol(SUPPLIER, used, "third")
        assert caught.value.code == "connect.edge-code-refused"
    assert [one.name for one in await scene.edges.edges(SUPPLIER)] == ["hall", "second"]


async def test_a_gateway_that_is_not_known_or_was_removed_is_refused(scene):
    scene.log.add(batch(0, 3))
    stranger = forwarder(scene)
    stranger.token = "guess"
    with pytest.raises(Refused) as caught:
        await forward(scene, stranger)
    assert caught.value.code == "connect.edge-refused"
    await scene.edges.remove(SUPPLIER, "hall")
    with pytest.raises(Refused):
        await forward(scene)

    assert scene.shelf.batches == []


async def test_plain_http_is_heard_on_loopback_only_and_sent_nowhere_else(scene):
    code = (await scene.edges.invite(SUPPLIER))["code"]
    outside = Wire(scene.edges, client=("10.0.0.9", 5))
    with pytest.raises(Refused):
        await enrol(outside, "http://127.0.0.1:1", code, "x")
    with pytest.raises(ConfigProblem) as caught:
        secure_url("http://10.0.0.9:8080")

    assert caught.value.code == "connect.edge-insecure"
    assert secure_url("https://10.0.0.9:8443/") == "https://10.0.0.9:8443"
    assert (await enrol(Wire(scene.edges, client=("10.0.0.9", 5), scheme="https"), "https://10.0.0.9", code, "x"))[
        "participant"
    ] == SUPPLIER


@pytest.mark.parametrize("seed", range(8))
async def test_every_entry_is_taken_once_in_order_whatever_the_wire_loses(scene, seed, monkeypatch):
    monkeypatch.setattr(edge_module, "PART_ROWS", 7)
    monkeypatch.setattr(edge_module, "SEND_BYTES", 4000)
    dice = random.Random(seed)
    at = 0
    for _ in range(20):
        size = dice.choice([0, 1, 5, 20, 33])
        scene.log.add(batch(at, size, quarantined=[{"offset": at}] if dice.random() < 0.3 else []))
        at += size
    scene.wire.trouble = lambda: dice.choices(["", "lost", "answer lost"], [2, 1, 1])[0]
    by = None
    for _ in range(400):
        try:
            by = await forward(scene, by)
            break
        except Retryable:
            if dice.random() < 0.3:
                by = None  # the gateway starts again: it knows what its log knows
            if dice.random() < 0.3:
                scene.edges = Edges(scene.records, scene.shelf, scene.clock)
                scene.wire = Wire(scene.edges)
                scene.wire.trouble = lambda: dice.choices(["", "lost", "answer lost"], [2, 1, 1])[0]
            by = by or forwarder(scene)
            by.http, by.position = scene.wire, scene.log.stored

    assert scene.shelf.numbers() == list(range(at))
    assert scene.log.stored == 20
    told = [piece for one in scene.shelf.batches for piece in one.note.get("quarantined", [])]
    assert told == [piece for one in scene.log.entries.values() for piece in one.note["quarantined"]]
    assert {one.source for one in scene.shelf.batches} == {"hall/mill"}


async def test_what_the_log_took_before_a_crash_is_not_taken_again(scene):
    scene.log.add(*(batch(at * 10, 10) for at in range(6)))
    frames = [
        frame
        for at, one in scene.log.entries.items()
        for frame in parts_of(SimpleNamespace(position=at, batch=one), at - 1)
    ]
    await scene.edges.take(SUPPLIER, scene.told["token"], b"".join(map(encode, frames[:2])))
    row = (await scene.edges.edges(SUPPLIER))[0]
    for frame in frames[2:4]:  # durable in the log, and the process ends before its records know
        mark = {"id": row.id, "position": frame.position, "part": 1, "parts": 1}
        await scene.shelf.take(SUPPLIER, Batch("hall/mill", "readings", frame.batch.rows, {"edge": mark}))
    await scene.shelf.take(SUPPLIER, batch(900, 1))  # a source of the node's own logs meanwhile
    scene.edges = Edges(scene.records, scene.shelf, scene.clock)
    follows, received = await scene.edges.take(SUPPLIER, scene.told["token"], b"".join(map(encode, frames[1:])))

    shown = (await scene.edges.edges(SUPPLIER))[0]

    assert (follows, received) == (True, 6)
    assert (shown.frames, shown.rows) == (6, 60)
    assert sorted(scene.shelf.numbers()) == [*range(60), 900]


async def test_a_node_that_was_restored_asks_again_and_what_was_trimmed_is_a_gap(scene):
    scene.log.add(*(batch(at * 10, 10) for at in range(6)))
    by = await forward(scene)
    async with scene.records.step(SUPPLIER) as step:  # the records as they were after entry 2; the log lost the rest
        from guantong.connect.tables import EDGES

        step.update(EDGES, {"id": scene.told["edge"]}, {"position": 2, "log_position": 2})
    del scene.shelf.batches[2:]
    scene.edges._sure.clear()
    for trimmed in (1, 2, 3):
        del scene.log.entries[trimmed]
    scene.log.add(batch(60, 10))
    await by._post(await scene.log.read(SUPPLIER, by.position, 9))
    await forward(scene, by)
    gaps = [gap for one in scene.shelf.batches for gap in one.note.get("gaps", [])]

    assert scene.shelf.numbers() == [*range(20), *range(30, 70)]
    assert [(gap["from"], gap["to"]) for gap in gaps] == [(3, 3)]


async def test_a_frame_that_does_not_follow_is_not_taken(scene):
    follows, received = await scene.edges.take(SUPPLIER, scene.told["token"], encode(Frame(9, 1, 1, 8, batch(0, 3))))

    assert (follows, received, scene.shelf.batches) == (False, 0, [])


async def test_the_node_shows_the_scorecards_that_a_gateway_tells_and_nothing_that_is_none(scene):
    token = scene.told["token"]
    await scene.edges.take(
        SUPPLIER, token, b"", orjson.dumps({"sources": [{"source": "mill", "state": "connected"}]}).decode()
    )
    shown = (await scene.edges.edges(SUPPLIER))[0].sources
    await scene.edges.take(SUPPLIER, token, b"", '{"sources": ["x"]}')

    assert shown == ({"source": "mill", "state": "connected"},)
    assert (await scene.edges.edges(SUPPLIER))[0].sources == ()


async def test_the_forwarder_waits_while_the_node_is_away_and_goes_on_by_itself(scene, monkeypatch):
    import asyncio

    from guantong.base.clock import SystemClock

    scene.clock = SystemClock()
    away = True
    scene.wire.trouble = lambda: "lost" if away else ""
    by = forwarder(scene)
    task = asyncio.create_task(by.run())
    scene.log.add(batch(0, 10))
    by.wake()
    async with asyncio.timeout(5):
        while by.error is None:
            await asyncio.sleep(0.01)
        assert by.error.code == "web.unreachable"
        away = False
        while scene.log.stored < 1:
            await asyncio.sleep(0.01)
        scene.log.add(batch(10, 10))
        by.wake()
        while scene.log.stored < 2:
            await asyncio.sleep(0.01)
        by.stop()
        await task

    assert by.error is None
    assert scene.shelf.numbers() == list(range(20))
