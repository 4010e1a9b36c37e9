"""Two zones: a gateway in the machine network hands what its log holds to a node in the office, outbound only, acknowledged end to end.

The gateway (``guantong edge``) connects and logs; its durable log is the buffer, bounded as any node's. It posts the log's entries in
their order, each as it came, to the node, which makes them durable in its own log before it answers. What the node has answered for may
be trimmed here. Nothing listens in the machine network.

One request is a run of frames: the head's length, a CRC-32 over head and rows (4 bytes each, big-endian), the head (JSON: ``position``,
``part``, ``parts``, ``after``, ``source``, ``kind``, ``note``, ``size``) and the rows as an Arrow IPC stream. ``after`` is the position that came before: frames form a chain, so that the node knows
that none is missing and takes each once, however often it is sent. A batch too large for a request goes in parts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import orjson

from guantong.base.batch import Batch
from guantong.base.clock import Clock
from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Http
from guantong.connect.rules import address_parts

__all__ = [
    "CONTENT_TYPE", "HEAD_BYTES", "EdgeLog", "Entry", "Forwarder", "Frame", "encode", "enrol", "frames_of", "parts_of", "secure_url",
]  # fmt: skip

LOG = logging.getLogger("guantong.connect")

CONTENT_TYPE = "application/vnd.guantong.frames"
HEAD_BYTES = 8 * 1024 * 1024
"""Largest head of a frame: names of a machine's signals and quarantined lines travel in it."""
SEND_BYTES = 4 * 1024 * 1024
"""A request ends with the frame that brings it above this."""
PART_ROWS = 50_000
"""Rows of one frame at most; a larger batch goes in parts."""
READ_ROWS = 200_000
CARDS = 20
"""So many sources' scorecards are told; they travel in a header."""
TIMEOUT_S = 60.0
REFUSED_WAIT_S = 30.0
"""Pause after the node refused this gateway: a person must act."""


class Entry(Protocol):
    """An entry of the log."""

    @property
    def position(self) -> int:
        """Where it stands."""
        ...

    @property
    def batch(self) -> Batch:
        """What it is."""
        ...


class EdgeLog(Protocol):
    """The gateway's durable log, as its composition lends it."""

    async def read(self, participant: str, after: int, limit_rows: int) -> list[Any]:
        """Entries above a position, in order."""
        ...

    async def acknowledged(self, participant: str) -> int:
        """Up to which position the node has answered for."""
        ...

    async def acknowledge(self, participant: str, position: int) -> None:
        """The node has everything up to here; what the retention allows may go."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One batch, or a part of one, on the way."""

    position: int
    """In the gateway's log."""
    part: int
    parts: int
    after: int
    """Position of the entry before it in the gateway's log that was sent, 0 for the first."""
    batch: Batch


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    rows = frame.batch.rows
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(rows)
    blob: bytes = sink.getvalue().to_pybytes()
    head = orjson.dumps(
        {
            "position": frame.position,
            "part": frame.part,
            "parts": frame.parts,
            "after": frame.after,
            "source": frame.batch.source,
            "kind": frame.batch.kind,
            "note": dict(frame.batch.note),
            "size": len(blob),
        }
    )
    check = zlib.crc32(blob, zlib.crc32(head))
    return b"".join((len(head).to_bytes(4, "big"), check.to_bytes(4, "big"), head, blob))


def frames_of(body: bytes) -> Iterator[Frame]:
    """The frames of a request. Raises Skippable ``connect.edge-frame-unreadable`` for whatever is not whole and as it was sent."""
    import pyarrow as pa

    at, number = 0, 0
    while at < len(body):
        number += 1
        size, wanted = (int.from_bytes(body[at + place : at + place + 4], "big") for place in (0, 4))
        begin = at + 8 + size
        if size > HEAD_BYTES or begin > len(body):
            raise Skippable("connect.edge-frame-unreadable", number=number, reason="its head is cut")
        try:
            head = orjson.loads(body[at + 8 : begin])
            position, part, parts, after = (_whole(head[name]) for name in ("position", "part", "parts", "after"))
            source, kind, note, length = str(head["source"]), str(head["kind"]), head["note"], _whole(head["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise Skippable("connect.edge-frame-unreadable", number=number, reason="its head is no frame's") from error
        blob = body[begin : begin + length]
        if len(blob) != length or zlib.crc32(blob, zlib.crc32(body[at + 8 : begin])) != wanted:
            raise Skippable("connect.edge-frame-unreadable", number=number, reason="it is cut or changed")
        if not (isinstance(note, dict) and 0 < len(source) <= 128 and 1 <= part <= parts and 0 <= after < position):
            raise Skippable("connect.edge-frame-unreadable", number=number, reason="its head is no frame's")
        try:
            with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
                rows = reader.read_next_batch()
        except (pa.ArrowException, StopIteration, OSError) as error:
            raise Skippable(
                "connect.edge-frame-unreadable", number=number, reason="its rows are no Arrow stream"
            ) from error
        yield Frame(position, part, parts, after, Batch(source, kind, rows, note))
        at = begin + length


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def secure_url(url: str) -> str:
    """The node's address without a slash at its end; only https, or http on loopback.

    Raises ConfigProblem ``connect.edge-insecure``, ``connect.address-unusable``.
    """
    parts = address_parts(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigProblem("connect.address-unusable", base=url[:200], reason="an http or https address is wanted")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigProblem("connect.edge-insecure", address=url[:200])
    return url.rstrip("/")


@dataclass(slots=True)
class Forwarder:
    """Brings the log to the node, as long as :meth:`run` runs. Everything it must not forget is in the log."""

    log: EdgeLog
    http: Http
    clock: Clock
    url: str
    participant: str
    edge: str
    token: str
    cards: Callable[[], list[Any]] = field(default=list)
    """The sources' scorecards, shown at the node."""
    backoff_max_s: float = 2.0
    zone: str = "plant"
    error: GuantongError | None = None
    """Why it waits; None while the node answers."""
    sent: int = 0
    """Frames the node has answered for, since the start."""
    position: int = 0
    """Last position the node has answered for."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False
    _rewound: bool = False

    def wake(self) -> None:
        """Something was logged."""
        self._woken.set()

    def stop(self) -> None:
        """End :meth:`run` when the request under way is answered."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Forward until stopped. The node is away: wait, try again after 0.1 s, 0.2 s, … ; each state is logged once."""
        self.position = await self.log.acknowledged(self.participant)
        pause = 0.1
        while not self._stopping:
            self._woken.clear()
            try:
                entries = await self.log.read(self.participant, self.position, READ_ROWS)
                if entries:
                    await self._post(entries)
                elif self.error is None:
                    await self._wait(5.0)  # idle: only the scorecards go, so that the node knows it is alive
                    if not self._woken.is_set():
                        await self._request(b"")
                    continue
                else:
                    await self._request(b"")
                if self.error is not None:
                    LOG.info("edge %s: the node is back", self.edge)
                self.error, pause = None, 0.1
            except GuantongError as error:
                if self.error is None or self.error.code != error.code:
                    LOG.warning("edge %s: %s", self.edge, error)
                self.error = error
                await self._wait(REFUSED_WAIT_S if isinstance(error, Refused) else pause, awake=False)
                pause = min(self.backoff_max_s, pause * 2)

    async def _wait(self, seconds: float, *, awake: bool = True) -> None:
        # a wake ends an idle wait; while the node is away only a stop does
        until = self.clock.monotonic() + seconds
        while not self._stopping and (left := until - self.clock.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._woken.wait(), left)
            except TimeoutError:
                return
            if awake or self._stopping:
                return
            self._woken.clear()

    async def _post(self, entries: list[Any]) -> None:
        frames = [(frame, encode(frame)) for entry, after in self._chain(entries) for frame in parts_of(entry, after)]
        body: list[bytes] = []
        size = 0
        for number, (frame, data) in enumerate(frames):
            body.append(data)
            size += len(data)
            last = number + 1 == len(frames)
            if last or (size >= SEND_BYTES or size + len(frames[number + 1][1]) > 2 * SEND_BYTES):
                await self._request(b"".join(body), frame.position if frame.part == frame.parts else 0, len(body))
                body, size = [], 0
                if self._stopping:
                    return

    def _chain(self, entries: list[Any]) -> Iterator[tuple[Entry, int]]:
        after = self.position
        for entry in entries:
            if self._rewound and entry.position > after + 1:
                entry = _Late(entry.position, _with_gap(entry.batch, after + 1, entry.position - 1, self.clock.now()))
            self._rewound = False
            yield entry, after
            after = entry.position

    async def _request(self, body: bytes, position: int = 0, count: int = 0) -> None:
        headers = {
            "authorization": f"Bearer {self.token}",
            "content-type": CONTENT_TYPE,
            "x-guantong-edge": json.dumps({"sources": [_card(one) for one in self.cards()[:CARDS]]}),  # ASCII
        }
        answer = await self.http.request(
            "POST", f"{self.url}/edge/frames", body=body, headers=headers, timeout_s=TIMEOUT_S, zone=self.zone
        )
        if answer.status == 409:  # the node stands elsewhere: go on from there
            where = orjson.loads(answer.body)["received"]
            LOG.warning("edge %s: the node has entries up to %d, %d was thought", self.edge, where, self.position)
            self._rewound = int(where) < self.position
            self.position = int(where)
            await self.log.acknowledge(self.participant, self.position)
            return
        if answer.status in (401, 403):
            raise Refused("connect.edge-refused", url=self.url, status=answer.status)
        if answer.status != 200:
            raise Retryable("connect.edge-answer", url=self.url, status=answer.status)
        self.sent += count
        if position:
            await self.log.acknowledge(self.participant, position)
            self.position = position


@dataclass(frozen=True, slots=True)
class _Late:
    position: int
    batch: Batch


def _with_gap(batch: Batch, first: int, last: int, now: int) -> Batch:
    """The node wants entries that this log has trimmed (it was restored from a back-up, say): what is missing is said."""
    gap = {
        "signal": None,
        "from": first,
        "to": last,
        "count": 0,
        "unit": "time",
        "reason": f"entries {first} to {last} of the gateway's log were trimmed after the node had them",
        "start": now,
        "end": now,
    }
    gaps = [*(batch.note.get("gaps") or ()), gap]  # type: ignore[misc]
    return Batch(batch.source, batch.kind, batch.rows, {**batch.note, "gaps": gaps})


def _card(card: Any) -> dict[str, Any]:
    shown = asdict(card)
    names = ("source", "kind", "state", "received", "gaps", "gap_records", "rejected", "lag_s", "last_error")
    return {name: shown[name] if not isinstance(shown[name], str) else shown[name][:100] for name in names}


def parts_of(entry: Entry, after: int) -> list[Frame]:
    """The frames of an entry; its note goes with the first part."""
    batch = entry.batch
    size = batch.rows.num_rows
    parts = max(1, -(-size // PART_ROWS))
    note: Mapping[str, object] = batch.note
    found = []
    for part in range(parts):
        rows = batch.rows.slice(part * PART_ROWS, PART_ROWS) if parts > 1 else batch.rows
        kept = note if part == 0 else {name: note[name] for name in ("file", "table", "report") if name in note}
        found.append(Frame(entry.position, part + 1, parts, after, Batch(batch.source, batch.kind, rows, kept)))
    return found


async def enrol(http: Http, url: str, code: str, name: str, *, zone: str = "plant") -> dict[str, Any]:
    """Use up a one-time code at the node. Returns edge, token and participant; the token is told this once.

    Raises Refused ``connect.edge-code-refused``, Retryable ``web.unreachable``, ConfigProblem ``connect.edge-insecure``.
    """
    answer = await http.request(
        "POST",
        f"{secure_url(url)}/edge/enrol",
        body=orjson.dumps({"code": code, "name": name}),
        headers={"content-type": "application/json"},
        zone=zone,
    )
    if answer.status != 200:
        raise Refused("connect.edge-code-refused", url=url)
    found: dict[str, Any] = orjson.loads(answer.body)
    return found
