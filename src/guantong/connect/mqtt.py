"""MQTT 3.1.1 and 5: a line to a broker, and the reader of plain topics.

A message of quality 1 or 2 is acknowledged to the broker only when the batch that holds it is durable; with a kept session the broker
repeats what was not. Payloads are JSON, a bare value or text. A JSON object becomes a signal for each member, below its topic, as the
unified namespace does it (``umh/v1/<enterprise>/…/_historian/<name>``); a member named like a time is the source time of the others.
Source: MQTT 5.0, 4.3 (quality of service), 3.1.2.11 (session expiry, receive maximum); AID 1.1 with ``mqv_`` terms.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.model import ConnectSettings, Interface, Property
from guantong.connect.rules import address_parts, names_of, units_of
from guantong.connect.secrets import Lookup
from guantong.connect.values import Shape, instant_of, read_json

try:
    from paho.mqtt import client as _paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties as _Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ModuleNotFoundError as error:
    raise ConfigProblem("base.extra-missing", feature="MQTT", extra="mqtt") from error

paho: Any = _paho
Properties: Any = _Properties
"""Untyped here: the package's annotations do not cover what it exports."""

__all__ = ["Broker", "Message", "MqttReader", "address", "topic_of"]

_KEPT_S = 24 * 3600
_WINDOW = 2_000
_FOREIGN = (OSError, ValueError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    retained: bool
    received: int
    """ns"""


def address(base: str, schemes: tuple[str, str] = ("mqtt", "mqtts")) -> tuple[str, int, bool]:
    """Host, port and whether the line is encrypted. Raises ConfigProblem ``connect.address-unusable``."""
    parts = address_parts(base)
    port = parts.port
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigProblem("connect.address-unusable", base=base, reason=f"{schemes[0]}://host:1883/ is expected")
    secure = parts.scheme == schemes[1]
    return parts.hostname, port or (8883 if secure else 1883), secure


class Broker:
    """One connection to a broker: the library's thread reads, this loop takes what it read."""

    def __init__(
        self,
        interface: Interface,
        settings: ConnectSettings,
        secrets: Lookup,
        now: Callable[[], int],
        *,
        client: str,
        clean: bool,
        will: tuple[str, bytes] | None = None,
        schemes: tuple[str, str] = ("mqtt", "mqtts"),
    ) -> None:
        self._base = interface.base
        self._host, self._port, self._secure = address(interface.base, schemes)
        self._settings = settings
        self._secrets = secrets
        self._now = now
        self._five = interface.term("version", "5") != "3.1.1"
        self._client_id = client
        self._clean = clean
        self._will = will
        self._waiting: deque[Message] = deque()
        self._room = threading.Event()
        self._room.set()
        self._told = asyncio.Event()
        self._oversize: list[tuple[str, int]] = []
        self._client: Any = None
        self._lost: Retryable | None = None

    async def open(self) -> None:
        """Connect. Raises Retryable ``connect.unreachable``, ConfigProblem ``connect.refused``."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()
        self._told = asyncio.Event()
        made = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self._five else self._clean,
            protocol=paho.MQTTv5 if self._five else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client = made
        made.connect_timeout = self._settings.connect_timeout_s
        found = self._secrets(self._base)
        if found.get("user"):
            made.username_pw_set(found["user"], found.get("password"))
        if self._secure:
            try:
                context = ssl.create_default_context(cafile=found.get("ca"))
                if found.get("certificate"):
                    context.load_cert_chain(found["certificate"], found.get("key"))
            except (OSError, ssl.SSLError) as error:
                raise ConfigProblem("connect.refused", base=self._base, reason=f"certificates: {error}") from error
            made.tls_set_context(context)
        if self._will is not None:
            made.will_set(self._will[0], self._will[1], qos=1, retain=True)

        def connected(client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
            loop.call_soon_threadsafe(_settle, answered, code)

        def gone(client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
            loop.call_soon_threadsafe(self._cut, str(code))

        def message(client: Any, userdata: Any, item: Any) -> None:
            if len(item.payload) > self._settings.message_bytes:
                self._oversize.append((item.topic, len(item.payload)))
                client.ack(item.mid, item.qos)
            else:
                self._waiting.append(
                    Message(item.topic, item.payload, item.qos, item.mid, bool(item.retain), self._now())
                )
            if len(self._waiting) == 1 or self._oversize:
                loop.call_soon_threadsafe(self._told.set)
            if len(self._waiting) >= self._settings.waiting_messages:
                # the thread stops reading, the broker's window fills: pressure instead of loss
                self._room.clear()
                self._room.wait(self._settings.stop_wait_s * 12)

        made.on_connect, made.on_disconnect, made.on_message = connected, gone, message
        keepalive = max(5, int(self._settings.silence_s))
        arguments: dict[str, Any] = {}
        if self._five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if self._clean else _KEPT_S
            properties.ReceiveMaximum = _WINDOW
            properties.MaximumPacketSize = self._settings.message_bytes + 65_536 + 1024
            arguments = {"clean_start": self._clean, "properties": properties}
        try:
            await asyncio.to_thread(made.connect, self._host, self._port, keepalive, **arguments)
            made.loop_start()
            code = await asyncio.wait_for(answered, self._settings.connect_timeout_s)
        except (*_FOREIGN, TimeoutError) as error:
            await self.close()
            raise Retryable("connect.unreachable", base=self._base, reason=str(error) or "no answer") from error
        if code.is_failure:
            await self.close()
            if code.value in (133, 134, 135, 138, 140):
                raise ConfigProblem("connect.refused", base=self._base, reason=str(code))
            raise Retryable("connect.unreachable", base=self._base, reason=str(code))

    async def subscribe(self, filters: Iterable[tuple[str, int]]) -> None:
        """Ask for topics, each with its quality of service. Raises ConfigProblem ``connect.refused`` where one is refused."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()
        wanted: list[Any] = list(filters)

        def subscribed(client: Any, userdata: Any, mid: int, codes: Any, properties: Any) -> None:
            loop.call_soon_threadsafe(_settle, answered, codes)

        self._client.on_subscribe = subscribed
        asked = [(topic, SubscribeOptions(qos=qos)) for topic, qos in wanted] if self._five else wanted
        try:
            self._client.subscribe(asked)
            codes = await asyncio.wait_for(answered, self._settings.connect_timeout_s)
        except TimeoutError as error:
            raise self._lost or Retryable("connect.lost", base=self._base, reason="no answer to SUBSCRIBE") from error
        except ValueError as error:
            raise ConfigProblem("connect.address-unusable", base=self._base, reason=str(error)) from error
        refused = [topic for (topic, _), code in zip(wanted, codes, strict=False) if code.is_failure]
        if refused:
            raise ConfigProblem(
                "connect.refused", base=self._base, reason=f"no right to read {', '.join(refused)[:150]}"
            )

    async def take(self) -> list[Message]:
        """What has come since the last call, at least one. Raises Retryable ``connect.lost`` once nothing more will come."""
        while not self._waiting:
            if self._lost is not None:
                raise self._lost
            if self._oversize:
                return []
            self._told.clear()
            if self._waiting:  # it came between the two looks
                break
            await self._told.wait()
        count = len(self._waiting)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._room.set()
        return taken

    def oversize(self) -> list[tuple[str, int]]:
        """Topics and sizes of messages that were too large, since the last call."""
        found, self._oversize = self._oversize, []
        return found

    def confirm(self, messages: Iterable[Message]) -> None:
        """Acknowledge what is durable."""
        for message in messages:
            if message.qos:
                self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a message of this host application. Only Sparkplug's own STATE and rebirth requests are sent."""
        self._client.publish(topic, payload, qos=qos, retain=retain)

    async def close(self) -> None:
        """Leave; the broker keeps the session unless it was a clean one."""
        made, self._client = self._client, None
        if made is None:
            return
        self._room.set()

        def leave() -> None:
            with contextlib.suppress(*_FOREIGN):
                if self._will is not None and made.is_connected():
                    # an orderly end sends no will: it is said instead
                    made.publish(self._will[0], self._will[1], qos=1, retain=True).wait_for_publish(1.0)
                made.disconnect()
            made.loop_stop()

        await asyncio.to_thread(leave)

    def _cut(self, reason: str) -> None:
        if self._lost is None:
            self._lost = Retryable("connect.lost", base=self._base, reason=reason)
        self._told.set()


def _settle(answered: asyncio.Future[Any], value: Any) -> None:
    if not answered.done():
        answered.set_result(value)


def topic_of(href: str, base: str) -> str:
    """The topic of a form's href (AID 1.1: ``#`` as ``%23``, a leading slash as ``.//a``, or a whole address)."""
    if href.startswith(("mqtt://", "mqtts://")):
        return unquote(address_parts(href).path[1:])
    text = href[2:] if href.startswith(".//") else href.removeprefix("./")
    prefix = unquote(address_parts(base).path.lstrip("/"))
    return prefix + (unquote(text) if href.startswith(".//") else unquote(text).removeprefix("/"))


class MqttReader:
    """Reads the topics of a broker until the connection is lost."""

    def __init__(self, interface: Interface, secrets: Lookup) -> None:
        address(interface.base)
        self._interface = interface
        self._secrets = secrets
        self._wanted: dict[str, list[Property]] = {}
        for item in interface.properties:
            href = item.form.href if item.form is not None else item.key
            self._wanted.setdefault(topic_of(href, interface.base), []).append(item)
        self._filters = self._filters_of()
        self._shape = Shape(time=interface.term("time"))

    def _filters_of(self) -> list[tuple[str, int]]:
        quality = int(self._interface.term("qos", "1") or 1)
        named = (self._interface.term("topics") or "").split()
        if named:
            return [(topic, quality) for topic in named]
        if not self._wanted:
            return [("#", quality)]
        return [
            (
                topic,
                max(
                    int(dict(item.form.terms).get("mqv_qos") or quality) if item.form is not None else quality
                    for item in items
                ),
            )
            for topic, items in self._wanted.items()
        ]

    async def run(self, delivery: Delivery) -> None:
        """Read until lost. Raises Retryable ``connect.unreachable`` and ``connect.lost``, ConfigProblem ``connect.refused``."""
        client = self._interface.term("client") or f"guantong-{delivery.source}"
        broker = Broker(
            self._interface, delivery.settings, self._secrets, delivery.clock.now, client=client[:64], clean=False
        )
        await broker.open()
        try:
            await broker.subscribe(self._filters)
            properties = self._interface.properties
            await delivery.connected(names=names_of(properties), units=units_of(properties))
            while True:
                messages = await broker.take()
                for topic, size in broker.oversize():
                    delivery.quarantine(size, "too-long", topic)
                parsed = sum(self._read(message, delivery) for message in messages)
                delivery.lines(len(messages), parsed)
                if any(message.qos for message in messages):
                    await delivery.flush()
                    broker.confirm(messages)
                else:
                    await delivery.settle()
        finally:
            await broker.close()

    def _read(self, message: Message, delivery: Delivery) -> bool:
        items = self._wanted.get(message.topic) or _matching(self._wanted, message.topic)
        before = len(delivery.rows)
        value = read_json(message.payload)
        if value is None and message.payload.strip() not in (b"null", b""):
            delivery.quarantine(message.mid, "not-text", f"{message.topic}: {message.payload[:80].hex()}")
            return False
        if not message.payload:  # an empty retained message only clears what the broker holds
            return True
        when = instant_of(value, self._shape) or message.received
        if items:
            for item in items:
                key = item.key if "%23" not in (item.form.href if item.form else "") else f"{item.key}/{message.topic}"
                self._shape.take(key, value, item, when, message.received, delivery)
        else:
            self._shape.take(message.topic, value, None, when, message.received, delivery)
        return len(delivery.rows) > before


def _matching(wanted: Mapping[str, list[Property]], topic: str) -> list[Property]:
    return [item for pattern, items in wanted.items() if paho.topic_matches_sub(pattern, topic) for item in items]
