"""A subscription that survives cuts: what the server still holds is asked for again, what it does not is filled from history or on record.

asyncua re-activates a session after a cut and asks for a transfer of its subscriptions. The server answers ``BadNothingToDo``, because
they belong to this session already; asyncua takes that for a failure and creates new ones, which throws away what the server has
queued, that is, the whole outage. Here Good and BadNothingToDo both mean: still attached. Then Republish brings what was sent and never
arrived, and only where the server no longer has the subscription is a new one made. Every signal is then in doubt: its next value
closes a hole that began after its last one. History is read over the hole; what stays open is a gap record with the instants between.

A message is acknowledged after its rows are durable and our place is stored, so the server keeps it until then.

Source: OPC 10000-4, 5.14 (subscriptions, Publish, Republish, TransferSubscriptions), 5.11.3 and OPC 10000-11, 6.4 (HistoryRead, raw).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from guantong.base.batch import BAD, GOOD
from guantong.base.errors import Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.opcua.rules import (
    OVERFLOW,
    Hole,
    Profile,
    after,
    following,
    grouped,
    overflowed,
    remaining,
)
from guantong.connect.opcua.session import Line
from guantong.connect.opcua.stack import foreign, ua
from guantong.connect.opcua.values import members, plain
from guantong.connect.opcua.wire import Garbled, Item, Message, history_results, publish_result, republished

__all__ = ["Memory", "Subscription"]

_OUTSTANDING = 2  # the server always has a request to answer while the other is being worked on
_MAX_REPUBLISH = 100_000
_MARK_EVERY_S = 1.0
_HISTORY_NODES = 20
_HISTORY_VALUES = 10_000
_HISTORY_ROUNDS = 1_000
_NOTHING_TO_DO = 0x800F0000
_NOT_OFFERED = (0x800B0000, 0x80400000)  # BadServiceUnsupported, BadNotImplemented
_NODE_GONE = (0x80340000, 0x80330000, 0x80350000)  # BadNodeIdUnknown, BadNodeIdInvalid, BadAttributeIdInvalid
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Memory:
    """What outlives a connection: the last instant of each signal, the newest of all, and which signals are in doubt."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self.newest = 0
        self.doubts: dict[str, tuple[int, str]] = {}
        """Signal to the last known instant and why something may be missing after it."""

    def doubt(self, reason: str, signals: Sequence[str] = (), since: int | None = None) -> None:
        """Every signal that had a value may have missed some; those in doubt already keep their earlier reason."""
        for signal, last in self.times.items():
            self.doubts.setdefault(signal, (last, reason))
        if since is not None:
            for signal in signals:
                self.doubts.setdefault(signal, (since, reason))


class Subscription:
    """The one subscription of a source, on whatever line there is."""

    def __init__(
        self,
        line: Line,
        delivery: Delivery,
        profile: Profile,
        memory: Memory,
        signals: Sequence[str],
        structures: Mapping[str, Sequence[str]],
    ) -> None:
        self._line = line
        self._delivery = delivery
        self._profile = profile
        self._memory = memory
        self._signals = list(signals)
        self._handles = {signal: number for number, signal in enumerate(signals, 1)}
        self._by_handle = dict(enumerate(signals, 1))
        self._structures = {signal: list(names) for signal, names in structures.items() if names}
        self._items: dict[str, int] = {}
        self._history = True
        self._unacknowledged: list[int] = []
        self._marked_at = 0.0
        self.id: int | None = None
        self.last = 0
        self.heard = 0.0
        self.busy = False
        """Rows wait for the sink: no message is asked for meanwhile."""
        self.nodes: Mapping[str, Any] = {}
        """Signal to NodeId, as resolved on this session."""
        self.bad: dict[str, str] = {}
        """Signals that can't be watched now, and why."""

    # making it ---------------------------------------------------------------------------------------------------------------------

    async def create(self, *, outage_s: float) -> None:
        """A new subscription, without items. ``outage_s``: how long the server keeps it without us."""
        interface, settings = self._delivery.interface, self._delivery.settings
        period_ms = float(interface.term("interval_ms") or 100)
        request = ua.CreateSubscriptionRequest()
        parameters = request.Parameters
        parameters.RequestedPublishingInterval = period_ms
        parameters.RequestedMaxKeepAliveCount = max(1, int(settings.silence_s * 1000 / 3 / period_ms))
        parameters.RequestedLifetimeCount = max(
            int(outage_s * 1000 / period_ms), 3 * parameters.RequestedMaxKeepAliveCount
        )
        parameters.MaxNotificationsPerPublish = 0
        parameters.PublishingEnabled = True
        parameters.Priority = 0
        data = await self._line.service._send_request(request)
        response = ua.ua_binary.struct_from_binary(ua.CreateSubscriptionResponse, data)
        response.ResponseHeader.ServiceResult.check()
        self.id, self.last = int(response.Parameters.SubscriptionId), 0
        self._items.clear()
        self._unacknowledged.clear()
        self._queue = min(int(interface.term("queue") or min(10_000, max(100, outage_s * 1000 / period_ms))), 1_000_000)

    async def monitor(self, nodes: Mapping[str, Any]) -> None:
        """Watch these nodes; what can't be watched is kept out of the others' way and in ``bad``."""
        sampling = float(self._delivery.interface.term("sampling_ms") or 0)  # 0: as fast as the server can
        wanted = list(nodes.items())
        old = [self._items.pop(signal) for signal, _ in wanted if signal in self._items]
        if old:
            with contextlib.suppress(*foreign()):
                parameters = ua.DeleteMonitoredItemsParameters()
                parameters.SubscriptionId, parameters.MonitoredItemIds = self.id, old
                await self._line.service.delete_monitored_items(parameters)
        for begin in range(0, len(wanted), self._profile.items_per_call):
            part = wanted[begin : begin + self._profile.items_per_call]
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = self.id
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            parameters.ItemsToCreate = [self._item(signal, node, sampling) for signal, node in part]
            results = await self._line.service.create_monitored_items(parameters)
            for (signal, _), result in zip(part, results, strict=True):
                if result.StatusCode.is_good():
                    self._items[signal] = int(result.MonitoredItemId)
                    self.bad.pop(signal, None)
                else:
                    self.refuse(signal, result.StatusCode.name)

    def _item(self, signal: str, node: Any, sampling: float) -> Any:
        request = ua.MonitoredItemCreateRequest()
        request.ItemToMonitor.NodeId = node
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        request.RequestedParameters.ClientHandle = self._handles[signal]
        request.RequestedParameters.SamplingInterval = sampling
        request.RequestedParameters.QueueSize = self._queue
        request.RequestedParameters.DiscardOldest = True
        return request

    def refuse(self, signal: str, reason: str) -> None:
        """A signal that can't be watched now: quarantined once, tried again later."""
        if self.bad.get(signal) != reason:
            self.bad[signal] = reason
            self._delivery.quarantine(0, "bad-node", f"{signal}: {reason}")

    # after a cut -------------------------------------------------------------------------------------------------------------------

    async def restore(self, *, reused: bool) -> bool:
        """Attach to the subscription again and catch up; False if the server no longer has it. Raises what the stack raises."""
        if self.id is None:
            return False
        parameters = ua.TransferSubscriptionsParameters()
        parameters.SubscriptionIds = [self.id]
        parameters.SendInitialValues = False
        held: list[int] = []
        try:
            results = await self._line.service.transfer_subscriptions(parameters)
        except ua.UaStatusCodeError as error:
            if not (reused and error.code in _NOT_OFFERED):  # the session kept it; Republish shows whether it did
                return False
        else:
            code = int(results[0].StatusCode.value) if results else BAD
            if code == GOOD:
                held = [int(number) for number in results[0].AvailableSequenceNumbers or []]
            elif code != _NOTHING_TO_DO:
                return False
        try:
            await self._catch_up(held)
        except (ua.uaerrors.BadSubscriptionIdInvalid, ua.uaerrors.BadNoSubscription):
            return False
        return True

    async def _catch_up(self, held: list[int]) -> None:
        """Republish what was sent and never arrived. An empty list of what the server holds is normal, so it is asked until it has no more."""
        for _ in range(_MAX_REPUBLISH):
            message = await self._republish(following(self.last))
            if message is None:
                break
            await self._take(message)
        for number in sorted(held, key=lambda one: (one - self.last) % 0xFFFFFFFF):
            if after(number, self.last):
                message = await self._republish(number)
                if message is not None:
                    await self._take(message)

    async def _republish(self, number: int) -> Message | None:
        """One message again; None where the server no longer has it, or it can't be read."""
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self.id
        request.Parameters.RetransmitSequenceNumber = number
        try:
            message: Message = republished(await self._line.service._send_request(request))
        except (ua.uaerrors.BadMessageNotAvailable, Garbled):
            return None
        return None if message.empty else message  # some servers answer with an empty one instead of a fault

    # while it runs -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take notification messages until the line or the subscription fails. Raises what the stack raises, and Retryable."""
        loop = asyncio.get_running_loop()
        outstanding, waiting = _OUTSTANDING, deque[asyncio.Task[Any]]()
        acknowledged: list[int] = []
        self.heard = loop.time()
        try:
            while True:
                while len(waiting) < outstanding:
                    waiting.append(loop.create_task(self._publish(acknowledged)))
                    acknowledged = []
                try:
                    subscription, message = publish_result(await waiting[0])
                except ua.uaerrors.BadTooManyPublishRequests:
                    outstanding = 1
                    continue
                except (ua.uaerrors.BadTimeout, Garbled):
                    continue  # a message that can't be read shows as a missing number with the next one
                finally:
                    if waiting[0].done():
                        waiting.popleft()
                self.heard = loop.time()
                if subscription != self.id:
                    continue  # an older subscription of ours, which the server still drains
                await self._take(message)
                acknowledged = self._safe()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _publish(self, numbers: list[int]) -> Any:
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=self.id, SequenceNumber=number) for number in numbers
        ]
        return await self._line.service._send_request(request, timeout=0)  # the server answers when it has something

    def _safe(self) -> list[int]:
        """Messages whose rows are durable and behind our stored place."""
        if self._delivery.resume.get("last") != self.last:
            return []
        numbers, self._unacknowledged = self._unacknowledged, []
        return numbers

    async def _take(self, message: Message) -> None:
        """One notification message: rows to the sink; what was skipped before it is asked for, or its signals are in doubt."""
        expected = following(self.last)
        if after(message.number, expected):
            await self._ask_again(expected, message.number)
        if message.empty or not after(message.number, self.last):
            return  # a keep-alive names the number to come; another is one that we have
        if message.items:
            await self._values(message.items)
        if message.status is not None:
            raise Retryable(
                "connect.lost", base=self._delivery.interface.base, reason=ua.StatusCode(message.status).name
            )
        self._taken(message.number)
        await self.flush()

    def _taken(self, number: int) -> None:
        self.last = number
        self._unacknowledged.append(number)

    async def flush(self) -> None:
        """Hand over what was gathered; about once a second our place goes with it."""
        now = asyncio.get_running_loop().time()
        if now - self._marked_at >= _MARK_EVERY_S or len(self._unacknowledged) >= 16:
            self._marked_at = now
            self._delivery.mark(
                until=self._memory.newest, subscription=self.id, last=self.last, session=self._line.ticket
            )
        self.busy = True
        try:
            await self._delivery.flush()
        finally:
            self.busy = False

    async def _ask_again(self, first: int, end: int) -> None:
        """Messages from ``first`` to before ``end`` were skipped."""
        number = first
        for _ in range(_MAX_REPUBLISH):
            if number == end:
                return
            message = await self._republish(number)
            if message is None:
                break
            await self._values(message.items)
            self._taken(number)
            number = following(number)
        self._memory.doubt(f"notification messages {number} to {end - 1} are gone")

    async def keep_alive(self) -> None:
        """Tell the server that we are there while no message is asked for (OPC 10000-4, 5.14.1.1: the life-time counter)."""
        if self.id is not None:
            parameters = ua.SetPublishingModeParameters()
            parameters.PublishingEnabled, parameters.SubscriptionIds = True, [self.id]
            await self._line.service.set_publishing_mode(parameters)

    # values ------------------------------------------------------------------------------------------------------------------------

    async def _values(self, items: Sequence[Item]) -> None:
        """Rows of one message. The loop is the hot path: nothing is made for an item but its cells."""
        delivery, memory, by_handle = self._delivery, self._memory, self._by_handle
        receive = delivery.clock.now()
        if memory.doubts or any(item[1] & OVERFLOW == OVERFLOW for item in items):
            await self._close_holes(self._holes(items, receive))
        rows, times, structures = delivery.rows, memory.times, self._structures
        add_signal, add_source, add_server = rows.signal.append, rows.source.append, rows.server.append
        add_receive, add_status, add_sequence = rows.receive.append, rows.status.append, rows.sequence.append
        add_number, add_whole, add_text, add_flag = (
            rows.number.append,
            rows.whole.append,
            rows.text.append,
            rows.flag.append,
        )
        newest = memory.newest
        for handle, status, source, server, value in items:
            signal = by_handle.get(handle)
            if signal is None:
                continue
            at = source if source is not None else server if server is not None else receive
            times[signal] = at
            if at > newest:
                newest = at
            kind = type(value)
            if status & BAD:
                value, kind = None, type(None)
                if status in _NODE_GONE:
                    self.refuse(signal, ua.StatusCode(status).name)
            elif value is None:  # good, but empty: there is nothing to keep
                status |= BAD
            elif kind is float:
                if not isfinite(value):
                    delivery.quarantine(at, "not-finite", f"{signal}: {value}")
                    continue
            elif kind is ua.Variant:
                if signal in structures:
                    self._structure(signal, value, at, receive, status, server)
                    continue
                value, reason = plain(value)
                if reason is not None:
                    delivery.quarantine(at, reason, signal)
                    continue
                kind = type(value)
                status |= BAD if value is None else GOOD
            add_signal(signal)
            add_source(at)
            add_server(server)
            add_receive(receive)
            add_number(value if kind is float else None)
            add_whole(value if kind is int else None)
            add_text(value if kind is str else None)
            add_flag(value if kind is bool else None)
            add_status(status)
            add_sequence(None)
        memory.newest = newest

    def _structure(self, signal: str, variant: Any, source: int, receive: int, status: int, server: int | None) -> None:
        """Each member that the interface names is a signal of its own, below the structure's."""
        for name, value in members(variant, self._structures[signal]).items():
            self._delivery.rows.append(
                f"{signal}.{name}",
                source,
                receive,
                value,
                status=status if value is not None else status | BAD,
                server=server,
            )

    def _holes(self, items: Sequence[Item], receive: int) -> list[Hole]:
        """Where something may be missing before these values: after a doubt, or where the server says that its queue ran over."""
        memory = self._memory
        before: dict[str, int] = {}
        holes: list[Hole] = []
        for handle, status, source, server, _ in items:
            signal = self._by_handle.get(handle)
            if signal is None:
                continue
            at = source if source is not None else server if server is not None else receive
            last = before.get(signal, memory.times.get(signal))
            doubt = memory.doubts.pop(signal, None)
            if overflowed(status):
                last = doubt[0] if last is None and doubt is not None else at - 1 if last is None else last
                holes.append(Hole(signal, last, at, "the server's queue overflowed"))
            elif doubt is not None and at > doubt[0]:
                holes.append(Hole(signal, doubt[0], at, doubt[1]))
            before[signal] = at
        return holes

    async def _close_holes(self, holes: list[Hole]) -> None:
        """Read history over the holes; what stays open goes on record."""
        if not holes:
            return
        found = await self._read_history(holes) if self._history else {}
        open_: list[tuple[str, int, int, str]] = []
        receive = self._delivery.clock.now()
        for hole in holes:
            values = found.get((hole.signal, hole.last), [])
            left = remaining(hole, [at for at, _ in values])
            for at, item in values:
                if hole.last < at < hole.next:
                    self._append(hole.signal, at, item, receive)
            if left is not None:
                open_.append((hole.signal, *left, hole.reason))
        for name, first, last, reason in grouped(open_, len(self._items)):
            for signal in self._columns(name):
                self._delivery.gap(
                    since=first, until=last, count=0, unit="time", reason=reason, start=first, end=last, signal=signal
                )

    def _columns(self, signal: str | None) -> list[str | None]:
        """The signals that rows of this one carry: itself, or one for each member of a structure."""
        names = self._structures.get(signal) if signal is not None else None
        return [f"{signal}.{name}" for name in names] if names else [signal]

    def _append(self, signal: str, at: int, item: Item, receive: int) -> None:
        """A reading out of history."""
        _, status, _, server, value = item
        if isinstance(value, ua.Variant):
            if signal in self._structures:
                self._structure(signal, value, at, receive, status, server)
                return
            value, _ = plain(value)
        if status & BAD or (isinstance(value, float) and not isfinite(value)):
            value = None
        status = status | BAD if value is None else status
        self._delivery.rows.append(signal, at, receive, value, status=status, server=server)

    async def _read_history(self, holes: list[Hole]) -> dict[tuple[str, int], list[tuple[int, Item]]]:
        """Raw history over each hole, ends included, as far as the server has it; ascending by source time."""
        found: dict[tuple[str, int], list[tuple[int, Item]]] = {}
        wanted = [hole for hole in holes if hole.signal in self.nodes]
        for begin in range(0, len(wanted), _HISTORY_NODES):
            part = wanted[begin : begin + _HISTORY_NODES]
            request = ua.HistoryReadRequest()
            details = ua.ReadRawModifiedDetails()
            details.IsReadModified, details.ReturnBounds = False, False
            details.NumValuesPerNode = _HISTORY_VALUES
            details.StartTime = _moment(min(hole.last for hole in part))
            # the end itself is left out, and times are cut to the microsecond here
            details.EndTime = _moment(max(hole.next for hole in part)) + timedelta(milliseconds=1)
            request.Parameters.HistoryReadDetails = details
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.ReleaseContinuationPoints = False
            asked = [(hole, b"") for hole in part]
            for _ in range(_HISTORY_ROUNDS):
                if not asked:
                    break
                request.Parameters.NodesToRead = [
                    ua.HistoryReadValueId(NodeId=self.nodes[hole.signal], ContinuationPoint=point or None)
                    for hole, point in asked
                ]
                try:
                    results = history_results(await self._line.service._send_request(request))
                except (ua.UaStatusCodeError, Garbled):
                    self._history = False  # not offered, or not to us: asked once a subscription
                    return found
                more: list[tuple[Hole, bytes]] = []
                for (hole, _), (status, point, items) in zip(asked, results, strict=False):
                    if status & BAD:
                        continue
                    values = found.setdefault((hole.signal, hole.last), [])
                    values.extend((item[2], item) for item in items if item[2] and hole.last <= item[2] <= hole.next)
                    if point:
                        more.append((hole, point))
                asked = more
        for values in found.values():
            values.sort(key=lambda pair: pair[0])
        return found


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at // 1000)
