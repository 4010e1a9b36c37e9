"""An MTConnect agent over HTTP: ``probe``, ``current``, then ``sample`` pushed by the agent, from the number where we stopped.

The agent keeps a ring of observations with numbers. As long as a cut ends within that ring, nothing is lost: reading goes on at the
next number. Where the ring has moved on, or the agent was started anew, the interval that is missing goes on record.
Source: MTConnect Part 1, 8 (protocol, streaming, OUT_OF_RANGE).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Http, Stream
from guantong.connect.delivery import Delivery
from guantong.connect.devices import Device, read_devices
from guantong.connect.model import Interface, Property
from guantong.connect.rules import holes, names_of, units_of
from guantong.connect.shdr import Instants
from guantong.connect.streams import AgentFault, Header, observations, parse_streams

__all__ = ["AgentReader", "Parts", "agent_devices"]

_INTERVAL_MS = 100
_COUNT = 5_000


class Parts:
    """The parts of a ``multipart/x-mixed-replace`` body, as its pieces arrive."""

    def __init__(self, boundary: str, limit: int) -> None:
        self._mark = b"--" + boundary.encode("ascii", "replace")
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Documents completed by this piece. Raises Skippable ``connect.document-too-large`` and ``connect.document-unreadable``."""
        self._data += data
        found = []
        while (part := self._next()) is not None:
            found.append(part)
        if len(self._data) > self._limit:
            raise Skippable("connect.document-too-large", name="stream", size=len(self._data), limit=self._limit)
        return found

    def _next(self) -> bytes | None:
        start = self._data.find(self._mark)
        if start < 0:
            return None
        head_end = self._data.find(b"\r\n\r\n", start)
        gap = 4
        if head_end < 0:
            head_end, gap = self._data.find(b"\n\n", start), 2
            if head_end < 0:
                return None
        length = None
        for line in bytes(self._data[start:head_end]).split(b"\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit() and len(value) < 20:
                length = int(value.strip()[:12])
        body = head_end + gap
        if length is None:  # no length: up to the next boundary
            end = self._data.find(self._mark, body)
            if end < 0:
                return None
        else:
            if length > self._limit:
                raise Skippable("connect.document-too-large", name="stream", size=length, limit=self._limit)
            end = body + length
            if len(self._data) < end:
                return None
        part = bytes(self._data[body:end])
        del self._data[:end]
        return part.strip()


class AgentReader:
    """Reads one agent, or one device of it, until the connection ends."""

    def __init__(self, interface: Interface, http: Http) -> None:
        if not interface.base.lower().startswith(("http://", "https://")):
            raise ConfigProblem("connect.address-unusable", base=interface.base, reason="http://host:port/ is expected")
        self._interface = interface
        self._http = http
        self._base = interface.base.rstrip("/")
        device = interface.term("device")
        self._path = f"{self._base}/{quote(device, safe='')}" if device else self._base
        self._counted = device is None
        """With one device wanted, missing numbers may be another device's; without, every number must come."""
        self._interval_ms = int(interface.term("interval_ms") or _INTERVAL_MS)
        self._count = int(interface.term("count") or _COUNT)
        self._instants = Instants()
        self._items: dict[str, Property] = {}
        self._unreadable_at: int | None = None

    async def run(self, delivery: Delivery) -> None:
        """Read until the agent is lost (Retryable ``connect.lost``, ``connect.agent-error``, or the network's own)."""
        devices = await agent_devices(self._http, self._path, delivery.settings.document_bytes)
        items = [item for device in devices for item in device.items]
        self._items = {item.key: item for item in items}
        known = delivery.resume.get("instance")
        if known is None:
            header, root = await self._document(delivery, "current", {})
            await delivery.connected(names=names_of(items), units=units_of(items))
            place = await self._begin(delivery, header, root)
        else:  # go on where we stopped; an agent that can't says so, and only then is its present state asked for
            await delivery.connected(names=names_of(items), units=units_of(items))
            place = {"instance": int(known), "next": int(delivery.resume.get("next", 0))}
        while True:
            try:
                await self._sample(delivery, place)
            except AgentFault as fault:
                if "OUT_OF_RANGE" not in fault.codes:
                    raise Retryable(
                        "connect.agent-error", base=self._base, error=", ".join(fault.codes) or fault.text
                    ) from fault
                await delivery.clock.sleep(
                    self._interval_ms / 1000
                )  # a ring that moves faster than we ask must not spin us
                header, root = await self._document(delivery, "current", {})
                place = await self._begin(delivery, header, root)

    async def _begin(self, delivery: Delivery, header: Header, root: Any) -> dict[str, int]:
        """Where to go on. What the agent no longer holds goes on record as missing, except the newest value of each signal, which
        ``current`` still tells. What the ring holds is not taken from ``current``: the ring delivers it.
        """
        await delivery.flush()
        now = delivery.clock.now()
        known, following = delivery.resume.get("instance"), int(delivery.resume.get("next", 0))
        if known == header.instance and header.first <= following <= header.next:
            return {"instance": header.instance, "next": following}
        lowest = None
        reason = "agent's buffer moved on"
        if known is not None:
            if known != header.instance:
                self._missing(delivery, following, following - 1, 0, "agent started anew", now)
                lowest = 1
            else:
                lowest = min(following, header.first)
        told = observations(
            root,
            now,
            delivery.rows,
            delivery.quarantine,
            self._items,
            self._instants,
            below=header.first,
            lowest=lowest,
        )
        if lowest is not None:
            for low, high in holes(lowest, header.first, told):
                self._missing(delivery, low, high, high - low + 1, reason, now)
        delivery.mark(instance=header.instance, next=header.first, time=now)
        return {"instance": header.instance, "next": header.first}

    def _missing(self, delivery: Delivery, first: int, last: int, count: int, reason: str, now: int) -> None:
        start = int(delivery.resume.get("time", now))
        delivery.gap(since=first, until=last, count=count, unit="sequence", reason=reason, start=start, end=now)

    async def _sample(self, delivery: Delivery, place: dict[str, int]) -> None:
        """Let the agent push; an agent that can't is asked again and again."""
        heartbeat_ms = int(delivery.settings.silence_s * 1000 / 3)
        query = {
            "from": place["next"],
            "count": self._count,
            "interval": self._interval_ms,
            "heartbeat": heartbeat_ms,
        }
        url = f"{self._path}/sample?{urlencode(query)}"
        async with self._http.stream(
            "GET", url, headers={"Accept": "text/xml"}, timeout_s=delivery.settings.silence_s, zone="plant"
        ) as stream:
            kind = stream.headers.get("content-type", "")
            if stream.status == 200 and kind.lower().startswith("multipart/"):
                parts = Parts(_boundary(kind), delivery.settings.document_bytes)
                async for piece in stream.chunks():
                    for document in parts.feed(piece):
                        await self._observe(delivery, document, place)
                raise Retryable("connect.lost", base=self._base, reason="the agent ended the stream")
            document = b"".join(
                [piece async for piece in _bounded(stream, delivery.settings.document_bytes, self._base)]
            )
        if not document or (stream.status != 200 and b"MTConnectError" not in document):
            raise Retryable("connect.agent-error", base=self._base, error=f"HTTP {stream.status}")
        if not await self._observe(delivery, document, place):
            await delivery.clock.sleep(self._interval_ms / 1000)

    async def _observe(self, delivery: Delivery, document: bytes, place: dict[str, int]) -> int:
        """Take one sample document; returns how many observations it held."""
        try:
            header, root = parse_streams(document, name=self._base, limit=delivery.settings.document_bytes)
        except (Skippable, Refused) as error:
            if self._unreadable_at != place["next"]:  # once for each place, however often the agent repeats it
                self._unreadable_at = place["next"]
                reason = "hostile" if isinstance(error, Refused) else "unreadable"
                delivery.quarantine(place["next"], reason, document[:200].decode("utf-8", "replace"))
                await delivery.flush()
            raise Retryable("connect.lost", base=self._base, reason=error.message()) from error
        if header.instance != place["instance"]:
            raise AgentFault(("OUT_OF_RANGE",), "the agent was started anew")
        numbers = observations(
            root, delivery.clock.now(), delivery.rows, delivery.quarantine, self._items, self._instants
        )
        first, following = place["next"], header.next
        again = sum(1 for number in numbers if 0 <= number < first)
        if again:
            delivery.repeated(again)
        now = delivery.clock.now()
        if self._counted and following > first:
            for low, high in holes(first, following, numbers):
                self._missing(delivery, low, high, high - low + 1, "not in the agent's answer", now)
        if numbers or following != first:
            place["next"] = max(first, following)
            delivery.lines(1, 1)
            delivery.note(instance_id=header.instance)
            delivery.mark(instance=header.instance, next=place["next"], time=now)
            await delivery.settle()
        return len(numbers)

    async def _document(self, delivery: Delivery, verb: str, query: dict[str, Any]) -> tuple[Header, Any]:
        url = f"{self._path}/{verb}" + (f"?{urlencode(query)}" if query else "")
        limit = delivery.settings.document_bytes
        response = await self._http.request("GET", url, headers={"Accept": "text/xml"}, max_bytes=limit, zone="plant")
        try:
            return parse_streams(response.body, name=url, limit=limit)
        except AgentFault as fault:
            raise Retryable("connect.agent-error", base=self._base, error=", ".join(fault.codes)) from fault
        except Skippable as error:
            raise Retryable("connect.lost", base=self._base, reason=error.message()) from error


async def agent_devices(http: Http, base: str, limit: int) -> tuple[Device, ...]:
    """The devices of an agent. Raises Retryable ``connect.agent-error`` and the network's own errors."""
    response = await http.request(
        "GET", f"{base.rstrip('/')}/probe", headers={"Accept": "text/xml"}, max_bytes=limit, zone="plant"
    )
    if response.status != 200:
        raise Retryable("connect.agent-error", base=base, error=f"HTTP {response.status}")
    try:
        return read_devices(response.body, name=base, limit=limit)
    except GuantongError as error:
        raise Retryable("connect.agent-error", base=base, error=error.message()) from error


async def _bounded(stream: Stream, limit: int, base: str) -> AsyncIterator[bytes]:
    size = 0
    async for piece in stream.chunks():
        size += len(piece)
        if size > limit:
            raise Skippable("connect.document-too-large", name=base, size=size, limit=limit)
        yield piece


def _boundary(content_type: str) -> str:
    for piece in content_type.split(";")[1:]:
        name, _, value = piece.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip().strip('"').removeprefix("--")
    return ""
