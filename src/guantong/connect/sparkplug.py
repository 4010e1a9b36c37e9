"""Sparkplug B 3.0.0 as a host application: births name the signals, data messages are read as columns, deaths make values bad.

Sent to the broker: STATE (with its will) and, unless the interface forbids it, ``Node Control/Rebirth`` where data can't be understood;
nothing else. What the protocol can't tell is never guessed: see ``sparkplug_host.py``.
Source: Sparkplug 3.0.0, 5 (operational behavior), 6.4 (payloads).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.batch import reading_schema
from guantong.base.errors import Skippable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface
from guantong.connect.mqtt import Broker, Message, address
from guantong.connect.secrets import Lookup
from guantong.connect.sparkplug_host import EdgeNode, Topic, node_death_counts, topic_of
from guantong.connect.sparkplug_payload import (
    TYPES,
    Metric,
    Payload,
    outline,
    read_columns,
    read_metric,
    read_payload,
    value_of,
    write_payload,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["NO_COMMUNICATION", "Book", "SparkplugReader", "Told", "readings_of"]

NO_COMMUNICATION = 0x80310000
"""Bad_NoCommunication (OPC 10000-4, 7.39.2): the status of a signal whose edge node or device has died."""
_SCHEMES = ("sparkplug", "sparkplugs")
_MS = 1_000_000
_REBIRTH = "Node Control/Rebirth"
_CONTROL = ("Node Control/", "Device Control/")
_BDSEQ = "bdSeq"
_QUALITY = {192: 0x00000000, 0: 0x80000000, 500: 0x40900000}
"""Property ``Quality`` of a metric (Sparkplug follows OPC classic: 192 good, 0 bad) and 500 stale, as status codes."""


@dataclass(slots=True)
class Told:
    """A data message that waits to be read."""

    topic: Topic
    payload: bytes
    outline: Payload
    received: int


class Book:
    """What births have said: names, types and aliases of signals."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.types: list[int] = []
        self._number: dict[str, int] = {}
        self._aliases: dict[str, dict[int, int]] = {}
        self._of: dict[str, set[int]] = {}
        self._sorted: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._columns: tuple[Any, np.ndarray] | None = None

    def born(self, topic: Topic, metrics: Iterable[Metric]) -> None:
        """Take a birth: aliases of the node (with all its devices) or of the device begin anew."""
        aliases = self._aliases.setdefault(topic.edge, {})
        if topic.device is None:
            aliases.clear()
        else:
            mine = self._of.get(topic.source, set())
            for alias in [alias for alias, number in aliases.items() if number in mine]:
                del aliases[alias]
        self._sorted.pop(topic.edge, None)
        self._columns = None
        own = self._of[topic.source] = set()
        for metric in metrics:
            if metric.name is None:
                continue
            name = f"{topic.source}/{metric.name}"
            number = self._number.get(name)
            if number is None:
                number = self._number[name] = len(self.names)
                self.names.append(name)
                self.types.append(0)
            self.types[number] = metric.datatype or 0
            own.add(number)
            if metric.alias is not None:
                aliases[metric.alias] = number

    def number(self, topic: Topic, name: str) -> int:
        """The signal of a name below a topic; -1 for an unknown one."""
        return self._number.get(f"{topic.source}/{name}", -1)

    def signals(self, topic: Topic) -> list[str]:
        """Signals of a device, or of a node and all its devices."""
        below = topic.edge + "/"
        return [
            self.names[number]
            for source, numbers in self._of.items()
            if source == topic.source or (topic.device is None and source.startswith(below))
            for number in sorted(numbers)
        ]

    def by_alias(self, edge: str, aliases: np.ndarray) -> np.ndarray:
        """Signals of aliases within an edge node; -1 for unknown ones."""
        import numpy as np

        found = self._sorted.get(edge)
        if found is None:
            known = sorted(self._aliases.get(edge, {}).items())
            found = self._sorted[edge] = (
                np.array([alias if alias < 1 << 63 else -2 for alias, _ in known], np.int64),
                np.array([number for _, number in known], np.int64),
            )
        keys, numbers = found
        if not len(keys):
            return np.full(len(aliases), -1, np.int64)
        place = np.minimum(np.searchsorted(keys, aliases), len(keys) - 1)
        return np.where(keys[place] == aliases, numbers[place], -1)

    def columns(self) -> tuple[Any, np.ndarray]:
        """All names as an Arrow array and all types, by number."""
        import numpy as np
        import pyarrow as pa

        if self._columns is None:
            self._columns = (pa.array(self.names, pa.string()), np.array(self.types, np.int64))
        return self._columns


def readings_of(
    messages: Sequence[Told], book: Book
) -> tuple[pa.RecordBatch, list[tuple[int, str, str]], set[str], int]:
    """Data messages as one batch of readings: rows, what is quarantined, edge nodes that must be asked, historical metrics.

    Every message is read by its own edge node's aliases. Integers are given the sign and width of the type in the birth.
    """
    import numpy as np
    import pyarrow as pa

    data = b"".join([message.payload for message in messages])
    counts = np.array([len(message.outline.spans) for message in messages], np.int64)
    base, offset = [], 0
    flat: list[tuple[int, int]] = []
    for message in messages:
        base.append(offset)
        offset += len(message.payload)
        flat += message.outline.spans
    owner = np.repeat(np.arange(len(messages)), counts)
    spans = np.array(flat, np.int64).reshape(-1, 2) + np.array(base, np.int64)[owner][:, None]
    read = read_columns(data, spans)
    bad: list[tuple[int, str, str]] = []
    asked: set[str] = set()
    number = np.full(len(spans), -1, np.int64)
    edges: dict[str, list[int]] = {}
    for place, message in enumerate(messages):
        edges.setdefault(message.topic.edge, []).append(place)
    mine = {edge: number_ for number_, edge in enumerate(edges)}
    edge_of = np.array([mine[message.topic.edge] for message in messages], np.int64)[owner]
    for edge, which in mine.items():
        rows = slice(None) if len(mine) == 1 else np.flatnonzero(edge_of == which)
        number[rows] = book.by_alias(edge, read.alias[rows])
    named = np.flatnonzero((read.name[:, 1] > 0) & ~read.odd)
    for row in named.tolist():
        begin, stop = read.name[row]
        number[row] = book.number(messages[owner[row]].topic, data[begin:stop].decode("utf-8", "replace"))
    names, types = book.columns()
    kind = read.kind
    sort = types[number] if len(types) else np.zeros(len(spans), np.int64)
    # an unsigned number of 64 bits: what nanoseconds don't reach is no time, and the time of arrival stands in for it below
    stamps = (one.outline.timestamp for one in messages)
    stamp = np.array([-1 if one is None or one >> 63 else one for one in stamps], np.int64)
    received = np.array([message.received for message in messages], np.int64)[owner]
    when = np.where(read.timestamp >= 0, read.timestamp, stamp[owner])
    late = (when < 0) | (when > (1 << 62) // _MS)
    source = np.where(late, received, when * _MS)
    null = ((read.flags & 4) != 0) | (kind == 0)
    status = np.where(null, np.uint32(0x80000000), np.uint32(0))
    number_f = np.zeros(len(spans), np.float64)
    number_i = np.zeros(len(spans), np.int64)
    number_b = np.zeros(len(spans), bool)
    whole = (kind == 10) | (kind == 11)
    is_int = whole & (sort >= 1) & (sort <= 8) & ~null
    widths = np.array([64, 8, 16, 32, 64, 8, 16, 32, 64], np.int64)
    shift = (64 - widths[np.where(is_int, sort, 0)]).astype(np.uint64)
    raised = read.bits << shift
    number_i[:] = np.where(sort <= 4, raised.view(np.int64) >> shift.astype(np.int64), (raised >> shift).view(np.int64))
    is_int &= ~((sort == 8) & (read.bits > np.uint64((1 << 63) - 1)))
    single, double = (kind == 12) & ~null, (kind == 13) & ~null
    if single.any():
        number_f[single] = read.bits[single].astype(np.uint32).view(np.float32)
    if double.any():
        number_f[double] = read.bits[double].view(np.float64)
    is_float = single | double
    is_bool = (kind == 14) & ~null
    number_b[is_bool] = read.bits[is_bool] != 0
    is_text = (kind == 15) & ~null
    texts: list[str | None] | None = None
    keep = np.ones(len(spans), bool)
    slow = np.flatnonzero(read.odd | ~(null | is_int | is_float | is_bool | is_text))
    worded = np.flatnonzero(is_text & ~read.odd)
    if len(slow) or len(worded):
        texts = [None] * len(spans)
        for row in worded.tolist():
            begin, stop = read.text[row]
            try:
                texts[row] = data[begin:stop].decode("utf-8")
            except UnicodeDecodeError:
                bad.append((int(begin - base[owner[row]]), "not-text", messages[owner[row]].topic.source))
                keep[row] = False
    for row in slow.tolist():
        message = messages[owner[row]]
        start, end = (int(edge_) for edge_ in spans[row])
        is_int[row] = is_float[row] = is_bool[row] = False
        try:
            metric = read_metric(data, start, end)
        except Skippable as error:
            bad.append((start - base[owner[row]], "unreadable", f"{message.topic.source}: {error.message()}"))
            keep[row] = False
            continue
        if metric.name is not None:
            number[row] = book.number(message.topic, metric.name)
        elif metric.alias is not None and metric.alias < 1 << 63:
            number[row] = book.by_alias(message.topic.edge, np.array([metric.alias], np.int64))[0]
        if number[row] < 0:
            continue
        if metric.timestamp is not None and metric.timestamp < (1 << 62) // _MS:
            source[row] = metric.timestamp * _MS
        value, reason = (None, None) if metric.null else value_of(metric.value, types[number[row]])
        if reason is not None:
            bad.append((start - base[owner[row]], reason, f"{names[int(number[row])].as_py()}: {metric.value!r:.80}"))
            keep[row] = False
            continue
        assert texts is not None
        status[row] = 0x80000000 if value is None else 0
        quality = metric.properties.get("Quality", metric.properties.get("quality"))
        if isinstance(quality, int) and quality in _QUALITY and value is not None:
            status[row] = _QUALITY[quality]
        read.flags[row] = np.uint8(int(metric.historical) | (4 if metric.null else 0))
        if isinstance(value, bool):
            is_bool[row], number_b[row] = True, value
        elif isinstance(value, int):
            is_int[row], number_i[row] = True, value
        elif isinstance(value, float):
            is_float[row], number_f[row] = True, value
        else:
            texts[row] = value
    unending = is_float & ~np.isfinite(number_f)
    for row in np.flatnonzero(unending & (number >= 0)).tolist():
        bad.append((int(spans[row, 0] - base[owner[row]]), "not-finite", names[int(number[row])].as_py()))
    keep &= ~unending
    for row in np.flatnonzero(keep & (number < 0)).tolist():
        topic = messages[owner[row]].topic
        if (what := _spoken(data, read.name[row])) is None or not what.startswith((*_CONTROL, _BDSEQ)):
            asked.add(topic.edge)
            text = f"{topic.source}: {what if what is not None else f'alias {read.alias[row]}'}"
            bad.append((int(spans[row, 0] - base[owner[row]]), "unknown-alias", text))
    keep &= number >= 0
    historical = int(np.count_nonzero((read.flags & 1)[keep]))
    schema = reading_schema()
    time = schema.field("source_time").type
    count = len(spans)
    columns = [
        names.take(pa.array(np.maximum(number, 0))) if len(names) else pa.array([""] * count, pa.string()),
        pa.array(source).cast(time),
        pa.nulls(count, time),
        pa.array(received).cast(time),
        pa.array(number_f, mask=~is_float),
        pa.array(number_i, mask=~is_int),
        pa.nulls(count, pa.string()) if texts is None else pa.array(texts, pa.string()),
        pa.array(number_b, mask=~is_bool),
        pa.array(status.astype(np.uint32)),
        pa.nulls(count, pa.int64()),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return (batch if keep.all() else batch.filter(pa.array(keep))), bad, asked, historical


def _spoken(data: bytes, span: np.ndarray) -> str | None:
    return data[span[0] : span[1]].decode("utf-8", "replace") if span[1] else None


class SparkplugReader:
    """Reads the edge nodes of a broker until the connection is lost."""

    def __init__(self, interface: Interface, secrets: Lookup) -> None:
        address(interface.base, _SCHEMES)
        self._interface = interface
        self._secrets = secrets
        self._host = interface.term("host_id") or "guantong"
        self._group = interface.term("group") or "+"
        self._may_ask = interface.term("rebirth") != "no"
        self._nodes: dict[str, EdgeNode[Told]] = {}
        self._vain: dict[str, tuple[int, int]] = {}
        """Data that could not be read before a birth: when the first came, and how many messages."""
        self._away: dict[str, int] = {}
        """Edge nodes whose messages we may have missed, and when their last one came."""
        self._book = Book()
        self._ready: list[Told] = []

    async def run(self, delivery: Delivery) -> None:
        """Read until lost. Raises Retryable ``connect.unreachable`` and ``connect.lost``, ConfigProblem ``connect.refused``."""
        state = f"spBv1.0/STATE/{self._host}"
        online = delivery.clock.now() // _MS
        broker = Broker(
            self._interface,
            delivery.settings,
            self._secrets,
            delivery.clock.now,
            client=(self._interface.term("client") or f"guantong-{delivery.source}")[:64],
            clean=True,  # 5.3: a host application begins a clean session
            will=(state, orjson.dumps({"online": False, "timestamp": online})),
            schemes=("sparkplug", "sparkplugs"),
        )
        await broker.open()
        try:
            await broker.subscribe([(f"spBv1.0/{self._group}/#", 1), (state, 1)])
            self._say_online(broker, state, online)
            for node in self._nodes.values():
                if node.online:
                    self._away[node.name] = node.last_at
                    node.died(node.last_at)
            await delivery.connected()
            while True:
                await self._round(broker, delivery, state, online)
        finally:
            await broker.close()

    async def _round(self, broker: Broker, delivery: Delivery, state: str, online: int) -> None:
        waits = any(node.waits_since is not None for node in self._nodes.values())
        try:
            messages = await asyncio.wait_for(broker.take(), delivery.settings.reorder_s / 4 if waits else None)
        except TimeoutError:
            messages = []
        for topic, size in broker.oversize():
            delivery.quarantine(size, "too-long", topic)
        good = 0
        for message in messages:
            if message.topic == state:
                if b"false" in message.payload:  # another's will, or an old one of ours: 5.3.2 says we are online again
                    self._say_online(broker, state, online)
            elif not message.topic.startswith("spBv1.0/STATE/"):
                good += await self._message(message, delivery)
        delivery.lines(len(messages), good)
        await self._send(delivery)
        now_s = delivery.clock.monotonic()
        for node in self._nodes.values():
            wanting = node.waits_since is not None or node.name in self._vain
            if wanting and self._may_ask and node.must_ask(now_s, delivery.settings.reorder_s):
                self._ask(broker, node.name, delivery.clock.now() // _MS)
        if any(message.qos for message in messages):
            await delivery.flush()
            broker.confirm(messages)
        else:
            await delivery.settle()

    def _say_online(self, broker: Broker, state: str, online: int) -> None:
        broker.publish(state, orjson.dumps({"online": True, "timestamp": online}), qos=1, retain=True)

    def _ask(self, broker: Broker, edge: str, now_ms: int) -> None:
        group, _, node = edge.partition("/")
        metric = Metric(name=_REBIRTH, timestamp=now_ms, datatype=11, value=True)
        broker.publish(f"spBv1.0/{group}/NCMD/{node}", write_payload([metric], timestamp=now_ms))

    async def _message(self, message: Message, delivery: Delivery) -> bool:
        topic = topic_of(message.topic)
        if topic is None or topic.verb in ("NCMD", "DCMD"):
            return topic is not None
        try:
            told = Told(topic, message.payload, outline(message.payload), message.received)
        except Skippable as error:
            delivery.quarantine(message.mid, "unreadable", f"{message.topic}: {error.facts.get('reason')}")
            return False
        node = self._nodes.get(topic.edge)
        if node is None:
            node = self._nodes[topic.edge] = EdgeNode(topic.edge)
        if topic.verb in ("NBIRTH", "NDEATH"):
            await self._send(delivery)
            return await (self._born if topic.verb == "NBIRTH" else self._died)(told, node, delivery)
        if not node.online:
            first, count = self._vain.get(node.name, (message.received, 0))
            self._vain[node.name] = (first, count + 1)
            delivery.quarantine(message.mid, "before-birth", message.topic)
            return False
        for ready in node.accept(told.outline.seq, told, told.received, delivery.clock.monotonic()):
            await self._in_order(ready, delivery)
        return True

    async def _in_order(self, told: Told, delivery: Delivery) -> None:
        if told.topic.verb in ("NDATA", "DDATA"):
            self._ready.append(told)
            return
        await self._send(delivery)
        if told.topic.verb == "DDEATH":
            self._bad(told.topic, told.received, delivery)
            return
        try:
            payload = read_payload(told.payload)
        except Skippable as error:
            delivery.quarantine(0, "unreadable", f"{told.topic.source}: {error.facts.get('reason')}")
            return
        await self._values(told, payload, delivery)

    async def _born(self, told: Told, node: EdgeNode[Told], delivery: Delivery) -> bool:
        try:
            payload = read_payload(told.payload)
        except Skippable as error:
            delivery.quarantine(0, "unreadable", f"{told.topic.source}: {error.facts.get('reason')}")
            return False
        bdseq = next((one.value for one in payload.metrics if one.name == _BDSEQ), None)
        readable, missing, lost = node.born(bdseq if isinstance(bdseq, int) else None, told.received)
        for held in readable:
            await self._in_order(held, delivery)
        await self._send(delivery)
        for held in lost:
            delivery.quarantine(held.outline.seq or 0, "before-birth", held.topic.source)
        for hole in missing:
            delivery.gap(
                since=hole.first,
                until=hole.last,
                count=hole.last - hole.first + 1,
                unit="sequence",
                reason=f"{node.name}: {hole.reason}",
                start=hole.start,
                end=hole.end,
            )
        node.started_at(payload.seq)
        vain, away = self._vain.pop(node.name, None), self._away.pop(node.name, None)
        if vain is not None or away is not None:
            start = away if away is not None else vain[0] if vain is not None else told.received
            delivery.gap(
                since=start,
                until=told.received,
                count=0,
                unit="time",
                reason=f"{node.name}: " + ("the broker was not connected" if away is not None else "no birth was seen"),
                start=start,
                end=told.received,
            )
        await self._values(told, payload, delivery)
        return True

    async def _values(self, told: Told, payload: Payload, delivery: Delivery) -> None:
        """The metrics of a birth: their names, and their values as readings."""
        topic = told.topic
        wanted = [
            one for one in payload.metrics if one.name and one.name != _BDSEQ and not one.name.startswith(_CONTROL)
        ]
        wanted = [one for one in wanted if not (isinstance(one.value, dict) and one.value.get("definition"))]
        self._book.born(topic, wanted)
        names, units = {}, {}
        for metric in wanted:
            key = f"{topic.source}/{metric.name}"
            kind = metric.datatype or 0
            names[key] = {
                "name": metric.name,
                "path": topic.source,
                "type": TYPES[kind] if kind < len(TYPES) else str(kind),
                "category": None,
            }
            unit = metric.properties.get("engUnit") or metric.properties.get("Engineering Units")
            if isinstance(unit, str) and unit:
                units[key] = unit
            value, reason = (None, None) if metric.null else value_of(metric.value, kind)
            if reason is not None:
                delivery.quarantine(0, reason, f"{key}: {metric.value!r:.80}")
                continue
            stamp = metric.timestamp if metric.timestamp is not None else payload.timestamp
            when = told.received if stamp is None or stamp > (1 << 62) // _MS else stamp * _MS
            quality = metric.properties.get("Quality")
            status = _QUALITY.get(quality) if isinstance(quality, int) and value is not None else None
            delivery.rows.append(key, when, told.received, value, status=status)
        delivery.note(names=names, **({"units": units} if units else {}))
        await delivery.flush()

    async def _died(self, told: Told, node: EdgeNode[Told], delivery: Delivery) -> bool:
        try:
            payload = read_payload(told.payload)
        except Skippable as error:
            delivery.quarantine(0, "unreadable", f"{told.topic.source}: {error.facts.get('reason')}")
            return False
        dying = next((one.value for one in payload.metrics if one.name == _BDSEQ), None)
        if not node.online or not node_death_counts(node.bdseq, dying if isinstance(dying, int) else None):
            return True  # of a session that was over before
        first, start = node.next, node.last_at
        lost = node.died(told.received)
        for held in lost:
            delivery.quarantine(held.outline.seq or 0, "before-birth", held.topic.source)
        if lost:
            delivery.gap(
                since=first,
                until=first,
                count=0,
                unit="sequence",
                reason=f"{node.name}: a message never came before the death",
                start=start,
                end=told.received,
            )
        self._bad(told.topic, told.received, delivery)
        await delivery.flush()
        return True

    def _bad(self, topic: Topic, at: int, delivery: Delivery) -> None:
        for signal in self._book.signals(topic):
            delivery.rows.append(signal, at, at, None, status=NO_COMMUNICATION)

    async def _send(self, delivery: Delivery) -> None:
        """Read what is in order and hand it over."""
        if not self._ready:
            return
        messages, self._ready = self._ready, []
        rows, bad, asked, historical = readings_of(messages, self._book)
        for offset, reason, text in bad:
            delivery.quarantine(offset, reason, text)
        for edge in asked:
            node = self._nodes[edge]
            if node.waits_since is None:
                node.waits_since = delivery.clock.monotonic() - delivery.settings.reorder_s
        if not rows.num_rows:
            return
        note: dict[str, Any] = {"historical": historical} if historical else {}
        lag = (messages[-1].received - rows.column("source_time")[-1].value) / 1e9
        await delivery.send(rows, note, lag_s=lag)
