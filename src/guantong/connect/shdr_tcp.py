"""The client side of an SHDR adapter: one TCP connection, heartbeat both ways, every line a reading or in quarantine.

Heartbeat, as the C++ agent and its adapters speak it: the client sends ``* PING``, the adapter answers ``* PONG <ms>`` and from then on
expects a ping at that interval; silence for twice the interval means the line is dead even if the socket looks open. An adapter that
pings us is answered in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from urllib.parse import urlsplit

from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface
from guantong.connect.rules import names_of, units_of
from guantong.connect.shdr import Item, ShdrParser

__all__ = ["DEFAULT_PORT", "ShdrReader", "address", "items_of"]

DEFAULT_PORT = 7878
_PONG = re.compile(r"\*\s*PONG\s+(\d{1,9})", re.ASCII)
_READ_BYTES = 256 * 1024


def address(base: str) -> tuple[str, int]:
    """Host and port of ``shdr://host[:port]``. Raises ConfigProblem ``connect.address-unusable``."""
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigProblem("connect.address-unusable", base=base, reason=str(error)) from error
    if parts.scheme != "shdr" or not host:
        raise ConfigProblem("connect.address-unusable", base=base, reason="shdr://host:port is expected")
    return host, port or DEFAULT_PORT


def items_of(interface: Interface) -> dict[str, Item]:
    """What the interface's properties say of each key, for the parser."""
    found = {}
    for item in interface.properties:
        category = item.term("category") or ""
        if category:
            numeric = {"number": True, "integer": True, "array": True, "string": False}.get(item.type or "")
            found[item.key] = Item(category, item.term("type") or "", numeric)
    return found


class ShdrReader:
    """Reads one adapter until the connection ends."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._host, self._port = address(interface.base)
        self._heard_at: int | None = None

    async def run(self, delivery: Delivery) -> None:
        """Connect and read; raises Retryable ``connect.unreachable``, ``connect.lost``, ``connect.silent``."""
        base, settings = self._interface.base, delivery.settings
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(self._host, self._port), settings.connect_timeout_s
            )
        except (OSError, TimeoutError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            raise Retryable("connect.unreachable", base=base, reason=reason) from error
        try:
            lost_at, now = delivery.lost_at, delivery.clock.now()
            if lost_at is not None:  # SHDR has no numbers: what fell into the interruption can't be counted, only dated
                # a line that died silently lost what came after the last we heard, not after we noticed
                since = lost_at if self._heard_at is None else min(lost_at, self._heard_at)
                delivery.gap(
                    since=since, until=now, count=0, unit="time", reason="connection lost", start=since, end=now
                )
            await delivery.connected(
                names=names_of(self._interface.properties), units=units_of(self._interface.properties)
            )
            conversation = _Conversation(self._interface, delivery, reader, writer)
            try:
                await conversation.run()
            finally:
                self._heard_at = conversation.heard_at or self._heard_at
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


class _Conversation:
    def __init__(
        self, interface: Interface, delivery: Delivery, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._base = interface.base
        self._delivery = delivery
        self._reader = reader
        self._writer = writer
        self._parser = ShdrParser(items_of(interface))
        self._interval_s: float | None = None
        self._offset = 0
        self._skipping = False
        self.heard_at: int | None = None
        """When bytes last came (ns)."""

    async def run(self) -> None:
        settings = self._delivery.settings
        loop = asyncio.get_running_loop()
        heard = pinged = loop.time()
        self._say("* PING")
        rest = b""
        pending: asyncio.Task[bytes] | None = None
        try:
            while True:
                every_s = self._interval_s or settings.heartbeat_s
                if pending is None:
                    pending = loop.create_task(self._reader.read(_READ_BYTES))
                await asyncio.wait({pending}, timeout=max(0.0, pinged + every_s - loop.time()))
                if pending.done():
                    task, pending = pending, None
                    try:
                        data = task.result()
                    except OSError as error:
                        await self._ended(rest)
                        raise Retryable("connect.lost", base=self._base, reason=str(error)) from error
                    if not data:
                        await self._ended(rest)
                        raise Retryable("connect.lost", base=self._base, reason="closed by the other side")
                    self.heard_at = self._delivery.clock.now()
                    rest = await self._take(rest + data)
                    heard = loop.time()  # only now: a slow sink of ours is not the adapter's silence
                if loop.time() - pinged >= every_s:
                    self._say("* PING")
                    pinged = loop.time()
                # only an adapter that has answered a ping has promised not to be silent
                if self._interval_s is not None and loop.time() - heard > 2 * self._interval_s:
                    # our own loop may have been held up while the answer lay in the socket: look once more before we judge
                    if pending is None:
                        continue
                    await asyncio.wait({pending}, timeout=0.1)
                    if pending.done():
                        continue
                    await self._ended(rest)
                    raise Retryable("connect.silent", base=self._base, seconds=round(loop.time() - heard, 1))
        finally:
            if pending is not None:
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await pending

    def _say(self, line: str) -> None:
        if not self._writer.is_closing():
            self._writer.write(line.encode("ascii") + b"\n")

    async def _take(self, data: bytes) -> bytes:
        """Parse the whole lines of ``data`` and return the unfinished one."""
        delivery, limit = self._delivery, self._delivery.settings.line_bytes
        *whole, rest = data.split(b"\n")
        lines: list[str] = []
        offsets: list[int] = []
        refused = 0
        for raw in whole:
            offset, self._offset = self._offset, self._offset + len(raw) + 1
            if self._skipping:  # the tail of a line that was too long
                self._skipping = False
                continue
            if raw.startswith(b"*"):
                self._command(raw.decode("ascii", "replace").strip())
            elif len(raw) > limit:
                delivery.quarantine(offset, "too-long", raw[:200].decode("utf-8", "replace"))
                refused += 1
            else:
                try:
                    lines.append(raw.decode("utf-8"))
                    offsets.append(offset)
                except UnicodeDecodeError:
                    delivery.quarantine(offset, "not-text", raw[:200].decode("utf-8", "replace"))
                    refused += 1
        if len(rest) > limit:
            if not self._skipping:
                delivery.quarantine(self._offset, "too-long", rest[:200].decode("utf-8", "replace"))
                refused += 1
            self._skipping = True
            self._offset += len(rest)
            rest = b""
        if lines or refused:
            count, parsed = self._parser.feed(lines, offsets, delivery.clock.now(), delivery.rows, delivery.quarantine)
            delivery.lines(count + refused, parsed)
            await delivery.settle()
        return rest

    def _command(self, line: str) -> None:
        pong = _PONG.fullmatch(line)
        if pong is not None:
            self._interval_s = min(max(int(pong[1]) / 1000.0, 0.05), 3600.0)
        elif line.replace(" ", "").upper() == "*PING":
            self._say(f"* PONG {int((self._interval_s or self._delivery.settings.heartbeat_s) * 1000)}")
        # other commands (* device: …, * manufacturer: …) describe the adapter and carry no reading

    async def _ended(self, rest: bytes) -> None:
        if rest and not self._skipping:
            self._delivery.quarantine(self._offset, "truncated", rest[:200].decode("utf-8", "replace"))
            self._delivery.lines(1, 0)
        await self._delivery.flush()
