"""A simulated MTConnect agent: probe, current and sample over HTTP, a small ring buffer, and a planned cut.

The cut refuses connections between answers, never inside one, so that what was sent was received and the count is exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from dataclasses import dataclass
from xml.sax.saxutils import escape

from aiohttp import web

from guantong.base.clock import iso
from guantong.demo.plan import Plan

__all__ = ["Agent"]

BUFFER = 32
"""Observations the agent remembers: about two seconds, so that a cut of four loses some."""

ITEMS: dict[str, tuple[str, str, str]] = {
    # id: (category, type, unit)
    "m2_exec": ("EVENT", "EXECUTION", ""),
    "m2_spindle": ("SAMPLE", "SPINDLE_SPEED", "REVOLUTION/MINUTE"),
    "m2_load": ("SAMPLE", "LOAD", "PERCENT"),
    "m2_temp": ("SAMPLE", "TEMPERATURE", "CELSIUS"),
}


@dataclass(frozen=True, slots=True)
class Observation:
    sequence: int
    item: str
    at: int
    value: str


class Agent:
    """Counts what it sends in ``offered`` (numbers that were never sent included, from ``stop`` on)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.port = 0
        self.sent = 0
        self.generated = 0
        self._buffer: deque[Observation] = deque(maxlen=BUFFER)
        self._latest: dict[str, Observation] = {}
        self._seen: set[int] = set()
        self._dice = random.Random(plan.seed + 3)  # noqa: S311 - reproducible, not secret
        self._instance = 1_700_000_000 + plan.seed
        self._runner: web.AppRunner | None = None
        self._cut = False
        self._changed = asyncio.Condition()
        for item in ITEMS:
            self._observe(item, "READY" if item == "m2_exec" else "UNAVAILABLE")

    @property
    def never_sent(self) -> int:
        """Sequence numbers that no answer ever carried."""
        return self.generated - len(self._seen)

    @property
    def offered(self) -> int:
        """Observations sent, each time they were sent, and those lost in the cut."""
        return self.sent + self.never_sent

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        app = web.Application()
        app.router.add_get("/probe", self._probe)
        app.router.add_get("/current", self._current)
        app.router.add_get("/sample", self._sample)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=5, shutdown_timeout=1)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._site = site

    async def stop(self) -> None:
        """Close the server."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _observe(self, item: str, value: str) -> None:
        self.generated += 1
        observation = Observation(self.generated, item, time.time_ns(), value)
        self._buffer.append(observation)
        self._latest[item] = observation

    async def tick(self, second: float) -> None:
        """Produce one observation of each sample; begin or end the cut when its time has come."""
        cut = self.plan.trouble and self.plan.cut_s[0] <= second < self.plan.cut_s[1]
        if cut and not self._cut:
            self._cut = True
            await self._site.stop()
        wave = math.sin(second / 3)
        self._observe("m2_spindle", f"{6200 + 40 * wave + self._dice.gauss(0, 4):.3f}")
        self._observe("m2_load", f"{38 + 6 * wave + self._dice.gauss(0, 0.6):.3f}")
        self._observe("m2_temp", f"{36 + 0.5 * wave + self._dice.gauss(0, 0.05):.3f}")
        if second % 8 == 0:
            self._observe("m2_exec", "ACTIVE" if second % 16 == 0 else "READY")
        if self._cut and not cut:
            self._cut = False
            await self._listen()
        async with self._changed:
            self._changed.notify_all()

    async def settle(self) -> None:
        """Wait until a client has taken everything, at most three seconds."""
        for _ in range(60):
            if self._buffer[-1].sequence in self._seen:
                return
            await asyncio.sleep(0.05)

    def _refused(self) -> bool:
        # a connection kept alive from before the cut must not get through either
        return self._cut

    async def _probe(self, _: web.Request) -> web.Response:
        items = "".join(
            f'<DataItem id="{item}" name="{item}" category="{category}" type="{kind}"{f" units={chr(34)}{unit}{chr(34)}" if unit else ""}/>'
            for item, (category, kind, unit) in ITEMS.items()
        )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:1.3">'
            f'<Header creationTime="{iso(time.time_ns(), digits=0)}" sender="simulator" instanceId="{self._instance}" '
            f'bufferSize="{BUFFER}" version="1.3"/><Devices><Device id="d2" name="mill-02" uuid="mill-02"><DataItems>{items}'
            "</DataItems></Device></Devices></MTConnectDevices>"
        )
        return web.Response(text=body, content_type="text/xml")

    def _document(self, observations: list[Observation]) -> str:
        first, last = self._buffer[0].sequence, self._buffer[-1].sequence
        following = observations[-1].sequence + 1 if observations else last + 1
        rows: dict[str, list[str]] = {"SAMPLE": [], "EVENT": []}
        for item in observations:
            category, kind, _ = ITEMS[item.item]
            tag = "".join(word.capitalize() for word in kind.split("_"))
            rows[category].append(
                f'<{tag} dataItemId="{item.item}" name="{item.item}" sequence="{item.sequence}" timestamp="{iso(item.at, digits=6)}">'
                f"{escape(item.value)}</{tag}>"
            )
        body = "".join(
            f"<{block}>{''.join(rows[category])}</{block}>"
            for category, block in (("SAMPLE", "Samples"), ("EVENT", "Events"))
            if rows[category]
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:1.3">'
            f'<Header creationTime="{iso(time.time_ns(), digits=0)}" sender="simulator" instanceId="{self._instance}" bufferSize="{BUFFER}" '
            f'version="1.3" firstSequence="{first}" lastSequence="{last}" nextSequence="{following}"/>'
            f'<Streams><DeviceStream name="mill-02" uuid="mill-02"><ComponentStream component="Device" name="mill-02" componentId="d2">{body}'
            "</ComponentStream></DeviceStream></Streams></MTConnectStreams>"
        )

    def _count(self, observations: list[Observation]) -> None:
        self.sent += len(observations)
        self._seen.update(item.sequence for item in observations)

    async def _answer(
        self, request: web.Request, observations: list[Observation], *, counted: list[Observation] | None = None
    ) -> web.StreamResponse:
        body = self._document(observations).encode()
        response = web.Response(body=body, content_type="text/xml", headers={"Connection": "close"})
        response.force_close()
        self._count(observations if counted is None else counted)
        return response

    async def _current(self, request: web.Request) -> web.StreamResponse:
        if self._refused():
            raise web.HTTPServiceUnavailable
        latest = sorted(self._latest.values(), key=lambda item: item.sequence)
        # a snapshot tells the state; an observation that the ring still holds counts as sent when the ring delivers it, and one that was
        # sent before is no new reading when a client asks for the state twice
        first = self._buffer[0].sequence
        only_here = [item for item in latest if item.sequence < first and item.sequence not in self._seen]
        return await self._answer(request, latest, counted=only_here)

    async def _sample(self, request: web.Request) -> web.StreamResponse:
        if self._refused():
            raise web.HTTPServiceUnavailable
        start = int(request.query.get("from", "0") or 0)
        count = int(request.query.get("count", "100"))
        first, last = self._buffer[0].sequence, self._buffer[-1].sequence
        if start and (start < first or start > last + 1):
            return web.Response(
                text='<?xml version="1.0" encoding="UTF-8"?><MTConnectError xmlns="urn:mtconnect.org:MTConnectError:1.3">'
                f'<Header creationTime="{iso(time.time_ns(), digits=0)}" sender="simulator" instanceId="{self._instance}" bufferSize="{BUFFER}" '
                f'version="1.3"/><Errors><Error errorCode="OUT_OF_RANGE">from must be between {first} and {last + 1}</Error></Errors></MTConnectError>',
                content_type="text/xml",
                status=404,
            )
        if "interval" in request.query:
            return await self._stream(request, start or first, count)
        return await self._answer(request, [item for item in self._buffer if item.sequence >= (start or first)][:count])

    async def _stream(self, request: web.Request, following: int, count: int) -> web.StreamResponse:
        boundary = f"mt{self._instance}"
        response = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace;boundary={boundary}"})
        response.force_close()
        await response.prepare(request)
        beat = time.monotonic()
        while not self._cut:
            due = [item for item in self._buffer if item.sequence >= following][:count]
            if due and due[0].sequence > following:
                break  # the reader was too slow: it must start anew and will see the gap
            if due or time.monotonic() - beat > 5:
                document = self._document(due).encode()
                head = f"--{boundary}\r\nContent-type: text/xml\r\nContent-length: {len(document)}\r\n\r\n".encode()
                try:
                    await response.write(head + document + b"\r\n")
                except ConnectionResetError:
                    break  # the reader went away
                self._count(due)
                beat = time.monotonic()
                following = due[-1].sequence + 1 if due else following
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), 1.0)
                except TimeoutError:
                    continue
        with contextlib.suppress(ConnectionResetError):
            await response.write(
                f"--{boundary}--\r\n".encode()
            )  # what was sent is complete; nothing is lost in the cut itself
        return response
