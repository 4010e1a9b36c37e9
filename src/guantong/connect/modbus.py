"""Modbus TCP, and RTU frames through a TCP gateway: polled, read only, one request at a time.

Modbus has no times, so a reading's time is that of the reply. A request that is not answered in time is given up: over TCP a late reply
is told by its transaction number, RTU frames have none, so that line is cut and opened anew rather than risk that a late reply is taken
for another's. A block that a device refuses is read item by item; what it refuses then is bad and asked for again a minute later.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from guantong.base.batch import BAD
from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.modbus_plan import Block, Item, address, blocks, item_of, value_of
from guantong.connect.model import Interface
from guantong.connect.rules import names_of, units_of

try:
    from pymodbus import FramerType
    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.exceptions import ModbusException
except ModuleNotFoundError as error:
    raise ConfigProblem("base.extra-missing", feature="Modbus", extra="modbus") from error

__all__ = ["ModbusReader", "identify"]

_REFUSED_S = 60.0
_SILENT = 3
_VERBS = {1: "read_coils", 2: "read_discrete_inputs", 3: "read_holding_registers", 4: "read_input_registers"}


class _Refused(Exception):
    """The device answered with an exception code."""


class ModbusReader:
    """Polls the registers of an interface until the line is lost."""

    def __init__(self, interface: Interface) -> None:
        self._host, self._port, _ = address(interface.base)
        self._interface = interface
        framing = interface.term("framing", "tcp")
        if framing not in ("tcp", "rtu"):
            raise ConfigProblem("connect.address-unusable", base=interface.base, reason="framing is tcp or rtu")
        self._framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
        self._items = [found for item in interface.properties if (found := item_of(item, interface)) is not None]
        if not self._items:
            raise ConfigProblem(
                "connect.address-unusable", base=interface.base, reason="Modbus tells no names: properties are needed"
            )
        self._most = max(1, int(interface.term("block") or 125))
        self._skip = max(0, int(interface.term("skip") or 8))
        self._refused: dict[str, float] = {}
        self._last = 0

    async def run(self, delivery: Delivery) -> None:
        """Poll until lost. Raises Retryable ``connect.unreachable``, ``connect.lost`` and ``connect.silent``."""
        client = await self._open(delivery.settings.connect_timeout_s, delivery.settings.poll_timeout_s)
        try:
            if delivery.lost_at is not None:
                delivery.unasked(self._last)
            properties = self._interface.properties
            told = False
            due = dict.fromkeys({item.every_ms for item in self._items}, 0.0)
            silent = 0
            while True:
                now_s = delivery.clock.monotonic()
                every = min(due, key=lambda one: due[one])
                if due[every] > now_s:
                    await delivery.clock.sleep(due[every] - now_s)
                    continue
                # a slow device is polled as often as it can, not in bursts
                due[every] = max(due[every] + every / 1000, now_s)
                answered = await self._poll(client, every, delivery)
                silent = 0 if answered else silent + 1
                if silent >= _SILENT:
                    raise Retryable(
                        "connect.silent", base=self._interface.base, seconds=_SILENT * delivery.settings.poll_timeout_s
                    )
                if answered and not told:
                    told = True
                    await delivery.connected(names=names_of(properties), units=units_of(properties))
                await delivery.settle()
        finally:
            client.close()

    async def _open(self, connect_s: float, answer_s: float) -> Any:
        client = AsyncModbusTcpClient(
            self._host, port=self._port, framer=self._framer, timeout=answer_s, retries=0, reconnect_delay=0
        )
        try:
            connected = await asyncio.wait_for(client.connect(), connect_s)
        except (OSError, TimeoutError, ModbusException) as error:
            client.close()
            raise Retryable(
                "connect.unreachable", base=self._interface.base, reason=str(error) or "no answer"
            ) from error
        if not connected:
            client.close()
            raise Retryable("connect.unreachable", base=self._interface.base, reason="no answer")
        return client

    async def _poll(self, client: Any, every_ms: int, delivery: Delivery) -> bool:
        """Read what is due; False if nothing answered."""
        now_s = delivery.clock.monotonic()
        free = [item for item in self._items if item.every_ms == every_ms and self._refused.get(item.key, 0.0) <= now_s]
        answered = not free
        for block in blocks(free, most=self._most, skip=self._skip):
            try:
                words = await self._ask(client, block, delivery)
            except _Refused as refusal:
                answered = True
                await self._one_by_one(client, block, str(refusal), delivery)
                continue
            if words is not None:
                answered = True
                self._take(block, words, delivery)
        return answered

    async def _ask(self, client: Any, block: Block, delivery: Delivery) -> list[int] | None:
        """The words or bits of a block; None where no answer came in time. Raises Retryable, _Refused."""
        if not client.connected:
            raise Retryable("connect.lost", base=self._interface.base, reason="the connection was closed")
        try:
            reply = await getattr(client, _VERBS[block.function])(block.start, count=block.count, device_id=block.unit)
        except (ModbusException, OSError, TimeoutError, asyncio.CancelledError) as error:
            # a request that was cut off could still be answered: nothing more is asked on this line
            if isinstance(error, asyncio.CancelledError):
                client.close()
                raise
            if self._framer is FramerType.RTU or not client.connected:
                client.close()
                raise Retryable("connect.lost", base=self._interface.base, reason=str(error)[:200]) from error
            delivery.failed(
                Retryable("connect.silent", base=self._interface.base, seconds=delivery.settings.poll_timeout_s)
            )
            return None
        if reply.isError():
            raise _Refused(f"exception {getattr(reply, 'exception_code', '?')}")
        words = list(reply.bits[: block.count] if block.function <= 2 else reply.registers)
        if reply.dev_id != block.unit or reply.function_code != block.function or len(words) != block.count:
            client.close()
            raise Retryable("connect.lost", base=self._interface.base, reason="a reply to another request")
        return words

    async def _one_by_one(self, client: Any, block: Block, refusal: str, delivery: Delivery) -> None:
        for item in block.items:
            try:
                words = None if len(block.items) == 1 else await self._ask(client, _single(item), delivery)
            except _Refused as error:
                refusal, words = str(error), None
            if words is not None:
                self._take(_single(item), words, delivery)
                continue
            now = delivery.clock.now()
            self._refused[item.key] = delivery.clock.monotonic() + _REFUSED_S
            delivery.quarantine(item.start, "refused", f"{item.key}: {refusal}")
            delivery.rows.append(item.key, now, now, None, status=BAD)

    def _take(self, block: Block, words: list[int], delivery: Delivery) -> None:
        now = self._last = delivery.clock.now()
        for item in block.items:
            begin = item.start - block.start
            value, reason = value_of(item, words[begin : begin + item.count])
            if reason is not None:
                delivery.quarantine(item.start, reason, item.key)
            else:
                delivery.rows.append(item.key, now, now, value)


def _single(item: Item) -> Block:
    return Block(item.unit, item.function, item.start, item.count, (item,))


async def identify(base: str, *, connect_s: float, answer_s: float) -> dict[str, str]:
    """What a device says of itself (function 43/14: vendor, product, revision), as far as it does. Raises Retryable ``connect.unreachable``."""
    host, port, unit = address(base)
    client: Any = AsyncModbusTcpClient(host, port=port, timeout=answer_s, retries=0, reconnect_delay=0)
    found: dict[str, str] = {}
    try:
        if not await asyncio.wait_for(client.connect(), connect_s):
            raise Retryable("connect.unreachable", base=base, reason="no answer")
        with contextlib.suppress(ModbusException, TimeoutError):
            reply = await client.read_device_information(device_id=unit)
            if not reply.isError():
                names = {0: "vendor", 1: "product", 2: "revision", 3: "url", 4: "name", 5: "model"}
                found = {
                    names.get(number, str(number)): value.decode("utf-8", "replace")
                    if isinstance(value, bytes)
                    else str(value)
                    for number, value in reply.information.items()
                }
    except (OSError, TimeoutError) as error:
        raise Retryable("connect.unreachable", base=base, reason=str(error) or "no answer") from error
    finally:
        client.close()
    return found
