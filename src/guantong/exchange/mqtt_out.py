"""Rows pushed to a broker: as a Sparkplug B edge node, or as a tree of topics (unified namespace).

A push like any other: terms and decision, durable intent, then the messages, then the signed record. What the record counts and hashes
are the messages as they leave, each as a frame (length of topic, topic, length of payload, payload). A broker is not a partner's web
server, so the node's owner lists the ones that may be written to.

Source: Sparkplug 3.0.0, 5 (operational behaviour: birth, data, death, seq, bdSeq), 6.4 (payload); MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from guantong.base.errors import Refused, Retryable
from guantong.base.ids import new_uuid
from guantong.exchange.messages import properties_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPARKPLUG_PUSH", "UNS_PUSH", "BrokerTarget", "SparkplugWriter", "UnsWriter", "broker_target", "publish"]

SPARKPLUG_PUSH = "Sparkplug-PUSH"
"""Transfer format: the dataset is published as an edge node's metrics."""
UNS_PUSH = "UNS-PUSH"
"""Transfer format: each signal is a topic below a root, each reading a JSON message."""

_DOUBLE, _INT64, _BOOLEAN, _STRING, _UINT64 = 10, 4, 11, 12, 8
_VALUES: tuple[tuple[str, int], ...] = (
    ("value_f64", _DOUBLE),
    ("value_i64", _INT64),
    ("value_bool", _BOOLEAN),
    ("value_text", _STRING),
)
_BAD = 0x80000000


@dataclass(frozen=True, slots=True)
class BrokerTarget:
    """A broker and the place in it."""

    host: str
    port: int
    secure: bool
    user: str
    password: str
    group: str
    """Sparkplug's group; the root topic of a tree."""
    node: str
    """Sparkplug's edge node; empty for a tree."""


def broker_target(form: str, address: Mapping[str, object], allowed: tuple[str, ...]) -> BrokerTarget:
    """Where a push to a broker goes, from the data address of its request.

    Raises Refused ``exchange.message-invalid``, also for a broker (``host:port``) that is not among the allowed ones.
    """
    given = properties_of(address)
    parts = urlsplit(given.get("endpoint", ""))
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise _invalid("endpoint: mqtt://host:1883 is expected")
    secure = parts.scheme == "mqtts"
    port = port or (8883 if secure else 1883)
    if f"{parts.hostname}:{port}" not in allowed:
        raise _invalid(f"the broker {parts.hostname}:{port} is not among those that may be written to")
    node = given.get("edgeNodeId", "") if form == SPARKPLUG_PUSH else ""
    group = given.get("groupId" if form == SPARKPLUG_PUSH else "root", "").strip("/")
    for name in (group, node) if form == SPARKPLUG_PUSH else (group,):
        if not name or len(name) > 200 or re.search(r"[+#\x00]" + ("|/" if form == SPARKPLUG_PUSH else ""), name):
            raise _invalid("groupId and edgeNodeId, or root, are missing or no topic")
    return BrokerTarget(parts.hostname, port, secure, given.get("user", ""), given.get("password", ""), group, node)


class SparkplugWriter:
    """Rows as an edge node's messages. A birth is published anew when a signal appears that the one before did not have."""

    form = "application/vnd.guantong.mqtt-frames"

    def __init__(self, target: BrokerTarget, *, bdseq: int = 0) -> None:
        self._target = target
        self._aliases: dict[str, tuple[int, int]] = {}
        self._seq = 0
        self._bdseq = bdseq
        self._newest: dict[str, Any] = {}

    @property
    def death(self) -> tuple[str, bytes]:
        """Topic and payload of the will, to be left with the broker before the birth."""
        from guantong.connect.sparkplug_payload import Metric, write_payload

        return self._topic("NDEATH"), write_payload([Metric("bdSeq", datatype=_UINT64, value=self._bdseq)])

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The messages of these rows: a birth where it is due, then their data."""
        from guantong.connect.sparkplug_payload import Metric, write_payload

        rows = [row for row in _rows(batch) if row is not None]
        made = b""
        for name, _, _, kind, _ in rows:
            self._aliases.setdefault(name, (len(self._aliases) + 1, kind))
        if rows and len(self._newest) < len(self._aliases):
            made += self._birth(rows)
        metrics = [
            Metric(
                alias=self._aliases[name][0],
                timestamp=at // 1_000_000,
                datatype=self._aliases[name][1],
                null=value is None or kind != self._aliases[name][1],
                value=value if kind == self._aliases[name][1] else None,
            )
            for name, _, at, kind, value in rows
        ]
        for begin in range(0, len(metrics), 500):
            part = metrics[begin : begin + 500]
            made += self._frame("NDATA", write_payload(part, timestamp=part[-1].timestamp, seq=self._next()))
        for row in rows:
            self._newest[row[0]] = row
        return made

    def end(self) -> bytes:
        """Nothing: the death is the broker's to tell, or is told when we leave."""
        return b""

    def _birth(self, rows: list[Any]) -> bytes:
        from guantong.connect.sparkplug_payload import Metric, write_payload

        first: dict[str, Any] = dict(self._newest)
        for row in rows:
            first.setdefault(row[0], row)
        at = max(row[2] for row in first.values()) // 1_000_000
        metrics = [
            Metric("bdSeq", datatype=_UINT64, timestamp=at, value=self._bdseq),
            Metric("Node Control/Rebirth", datatype=_BOOLEAN, timestamp=at, value=False),
        ]
        for name, (alias, kind) in self._aliases.items():
            # the value before the data that follow: none is told twice
            known = self._newest.get(name)
            metrics.append(
                Metric(
                    name,
                    alias=alias,
                    datatype=kind,
                    timestamp=(known or first[name])[2] // 1_000_000,
                    null=known is None or known[4] is None,
                    value=known[4] if known is not None else None,
                )
            )
        self._seq = 0
        return self._frame("NBIRTH", write_payload(metrics, timestamp=at, seq=self._next()))

    def _next(self) -> int:
        now, self._seq = self._seq, (self._seq + 1) % 256
        return now

    def _topic(self, verb: str) -> str:
        return f"spBv1.0/{self._target.group}/{verb}/{self._target.node}"

    def _frame(self, verb: str, payload: bytes) -> bytes:
        return frame(self._topic(verb), payload)


class UnsWriter:
    """Rows as topics below a root: ``<root>/<source>/<signal>``, each reading a JSON object with ``timestamp_ms`` and ``value``."""

    form = SparkplugWriter.form

    def __init__(self, target: BrokerTarget) -> None:
        self._root = target.group

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The messages of these rows."""
        made = bytearray()
        for row in _rows(batch):
            if row is not None:
                name, unit, at, _, value = row
                body: dict[str, Any] = {"timestamp_ms": at // 1_000_000, "value": value}
                if unit:
                    body["unit"] = unit
                made += frame(f"{self._root}/{name}", orjson.dumps(body))
        return bytes(made)

    def end(self) -> bytes:
        """Nothing."""
        return b""


def frame(topic: str, payload: bytes) -> bytes:
    """One message as it is counted."""
    name = topic.encode()
    return struct.pack(">H", len(name)) + name + struct.pack(">I", len(payload)) + payload


def frames(data: bytes) -> list[tuple[str, bytes]]:
    """The messages of a piece."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">H", data, at)
        topic = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        (size,) = struct.unpack_from(">I", data, at)
        found.append((topic, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


async def publish(
    target: BrokerTarget, pieces: AsyncIterator[bytes], *, will: tuple[str, bytes] | None = None, wait_s: float = 20.0
) -> int:
    """Publish frames, each acknowledged by the broker before the next piece is taken; how many messages.

    Raises Retryable ``exchange.push-failed``, ConfigProblem ``base.extra-missing`` without the MQTT extra.
    """
    from guantong.connect.mqtt import paho

    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id=new_uuid().rpartition(":")[2][:23], protocol=paho.MQTTv311,
        reconnect_on_failure=False,
    )  # fmt: skip
    if target.user:
        client.username_pw_set(target.user, target.password)
    if target.secure:
        client.tls_set()
    if will is not None:
        client.will_set(will[0], will[1], qos=1, retain=False)
    loop = asyncio.get_running_loop()
    joined: asyncio.Future[Any] = loop.create_future()

    def connected(_: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
        loop.call_soon_threadsafe(lambda: None if joined.done() else joined.set_result(code))

    client.on_connect = connected
    where = f"mqtt://{target.host}:{target.port}"
    count = 0
    try:
        await asyncio.to_thread(client.connect, target.host, target.port, 30)
        client.loop_start()
        code = await asyncio.wait_for(joined, wait_s)
        if code.is_failure:
            raise Retryable("exchange.push-failed", address=where, reason=str(code))
        async for piece in pieces:
            told = [client.publish(topic, payload, qos=1) for topic, payload in frames(piece)]
            count += len(told)
            if told:
                await asyncio.to_thread(told[-1].wait_for_publish, wait_s)
                if not all(one.is_published() for one in told):
                    await asyncio.to_thread(_all_published, told, wait_s)
        if will is not None:
            # an orderly end sends no will: it is said instead
            await asyncio.to_thread(client.publish(will[0], will[1], qos=1).wait_for_publish, wait_s)
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        raise Retryable("exchange.push-failed", address=where, reason=str(error) or "no answer") from error
    finally:
        await asyncio.to_thread(_leave, client)
    return count


def _all_published(told: list[Any], wait_s: float) -> None:
    for one in told:
        one.wait_for_publish(wait_s)
        if not one.is_published():
            raise TimeoutError("the broker did not acknowledge")


def _leave(client: Any) -> None:
    client.disconnect()
    client.loop_stop()


def _rows(batch: pa.RecordBatch) -> list[tuple[str, str, int, int, Any] | None]:
    """Name, unit, instant, type and value of each reading; None as the value where its status is bad."""
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names if name not in ("source_time",)}
    if not {"source", "signal", "status", "value_f64"} <= set(columns) or "source_time" not in batch.schema.names:
        raise Refused("exchange.push-refused", address="broker", reason="only a dataset of readings can be published")
    times = batch.column("source_time").cast("int64").to_pylist()
    found: list[tuple[str, str, int, int, Any] | None] = []
    for at, instant in enumerate(times):
        name = f"{columns['source'][at]}/{columns['signal'][at]}"
        kind, value = next(
            ((kind, columns[column][at]) for column, kind in _VALUES if columns[column][at] is not None),
            (_DOUBLE, None),
        )
        if columns["status"][at] & _BAD:
            value = None
        found.append((re.sub(r"[+#\x00]", "_", name), columns["unit"][at] or "", instant, kind, value))
    return found


def _invalid(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="DataAddress", reason=reason)
