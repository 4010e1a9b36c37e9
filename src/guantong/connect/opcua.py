"""OPC UA: one session, one subscription, every value with its status code, source time and server time.

asyncua is the stack and re-activates the session after a cut. Its stock subscription then asks for a transfer, takes the server's
``BadNothingToDo`` (the subscription already belongs to this session) for a failure and creates a new one, which throws away what the
server has queued. The subscription here keeps the old one and asks for what was missed by Republish; only where the server no longer
has it is a new one created, and then the interval goes on record as a gap.

Source: OPC 10000-4, 5.14 (subscriptions, Republish, TransferSubscriptions), 7.39.1 (StatusCode, overflow bit); OPC 10000-8, 5.6.4
(EUInformation: unitId is the UNECE code).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote

from guantong.base.batch import BAD, GOOD
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.columns import Value
from guantong.connect.delivery import Delivery
from guantong.connect.model import Form, Interface, Property
from guantong.connect.rules import names_of, units_of

try:
    import asyncua
    from asyncua.common.subscription import Subscription
except ModuleNotFoundError as error:
    raise ConfigProblem("base.extra-missing", feature="OPC UA", extra="opcua") from error

Client: Any = asyncua.Client  # type: ignore[attr-defined]
ua: Any = asyncua.ua
"""Untyped here: the package's annotations do not cover what it exports."""

__all__ = ["OVERFLOW", "OpcUaReader", "browse", "look", "unece_code"]

OVERFLOW = 0x480
"""InfoType DataValue (0x400) and the Overflow bit (0x80): the server's queue ran over before this value."""

_NOTHING_TO_DO = 0x800F0000
_SERVER = 2253
_MAX_NODES = 20_000
_MAX_REPUBLISH = 10_000
_ITEMS_PER_CALL = 100  # the smallest that field experience asks for (S7-1200, Ignition)


class OpcUaReader:
    """Reads one server until it is stopped; a cut is mended inside."""

    def __init__(self, interface: Interface) -> None:
        if not interface.base.lower().startswith("opc.tcp://"):
            raise ConfigProblem(
                "connect.address-unusable", base=interface.base, reason="opc.tcp://host:port is expected"
            )
        _open_only(interface)
        self._interface = interface
        self._properties: tuple[Property, ...] = interface.properties

    async def run(self, delivery: Delivery) -> None:
        """Connect, subscribe, deliver. Raises Retryable ``connect.unreachable`` and ``connect.lost``."""
        base = self._interface.base
        client = Client(base, timeout=delivery.settings.connect_timeout_s, auto_reconnect=True, reconnect_max_delay=2.0)
        client.name = "guantong"
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def cut(_: Exception) -> None:
            await delivery.lost(Retryable("connect.lost", base=base, reason="connection cut"))

        client.connection_lost_callback = cut
        try:
            await client.connect()
        except _foreign() as error:
            with contextlib.suppress(*_foreign()):
                await client.disconnect()
            raise Retryable("connect.unreachable", base=base, reason=_say(error)) from error
        try:
            if not self._properties:
                self._properties = await browse(client)
            nodes = await _nodes(client, self._properties)
            known = {item.key: item for item in self._properties}
            if delivery.lost_at is not None:
                now = delivery.clock.now()
                _time_gap(delivery, delivery.lost_at, now, "connection lost")
            await delivery.connected(names=names_of(known.values()), units=units_of(known.values()))
            subscription = await self._subscribe(client, delivery, failed)
            await subscription.watch(nodes, self._interface)
            await failed
        except _foreign() as error:
            raise Retryable("connect.lost", base=base, reason=_say(error)) from error
        finally:
            with contextlib.suppress(*_foreign()):
                await client.disconnect()

    async def _subscribe(self, client: Any, delivery: Delivery, failed: asyncio.Future[None]) -> _Kept:
        period_ms = float(self._interface.term("interval_ms") or 100)
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = period_ms
        parameters.RequestedMaxKeepAliveCount = max(1, int(delivery.settings.silence_s * 1000 / 3 / period_ms))
        # the server keeps the subscription for ten minutes without us, and 3 keep-alives at least
        parameters.RequestedLifetimeCount = max(int(600_000 / period_ms), 3 * parameters.RequestedMaxKeepAliveCount)
        parameters.MaxNotificationsPerPublish = 10_000
        parameters.PublishingEnabled = True
        parameters.Priority = 0
        subscription = _Kept(client.uaclient.session, parameters, delivery, failed)
        await subscription.init()
        client._subscriptions.append(subscription)
        return subscription


class _Kept(Subscription):
    """A subscription that hands values straight to the delivery and survives a cut with what the server kept."""

    def __init__(self, session: Any, parameters: Any, delivery: Delivery, failed: asyncio.Future[None]) -> None:
        super().__init__(
            session, parameters, handler=cast("Any", object())
        )  # a handler, so that no queue drops anything
        self._session: Any = session
        self._delivery = delivery
        self._failed = failed
        self._signals: dict[int, str] = {}
        self._times: dict[str, int] = {}
        self._newest = 0
        self._early: list[tuple[int, Any, int]] = []

    async def watch(self, nodes: Mapping[str, Any], interface: Interface) -> None:
        """Monitor the nodes, by signal."""
        queue = int(interface.term("queue") or 1000)
        sampling = float(interface.term("sampling_ms") or -1)  # -1: as often as the subscription publishes
        signals = list(nodes)
        for begin in range(0, len(signals), _ITEMS_PER_CALL):
            part = signals[begin : begin + _ITEMS_PER_CALL]
            handles: Any = await cast("Any", self).subscribe_data_change(
                [nodes[signal] for signal in part], queuesize=queue, sampling_interval=sampling
            )
            by_handle = {item.server_handle: client_handle for client_handle, item in self._monitored_items.items()}
            for signal, handle in zip(part, handles if isinstance(handles, list) else [handles], strict=True):
                if isinstance(handle, int):
                    self._signals[by_handle[handle]] = signal
                else:  # one node that can't be watched does not keep the others out
                    self._delivery.quarantine(0, "unknown", f"{signal}: {handle}")
        await self._flush_early()

    async def publish_callback(self, publish_result: Any) -> None:
        """Take one notification message; its acknowledgement goes out only after the rows are handed over."""
        message = publish_result.NotificationMessage
        last, number = self.last_sequence_number, int(message.SequenceNumber)
        if message.NotificationData and last is not None and number > last + 1 and not self._replaying:
            await self._ask_again(last + 1, number - 1)
        await super().publish_callback(publish_result)
        await self._delivery.flush()

    async def _ask_again(self, first: int, last: int) -> None:
        """Notification messages were skipped: Republish brings them, or their time is a gap."""
        self._replaying = True
        start = self._newest
        try:
            for number in range(first, min(last, first + 1000) + 1):
                message = await self._session.republish(self.subscription_id, number)
                await super().publish_callback(ua.PublishResult(self.subscription_id, NotificationMessage=message))
        except _foreign() as error:
            _time_gap(self._delivery, start, self._delivery.clock.now(), f"messages {first} to {last}: {_say(error)}")
        finally:
            self._replaying = False

    def _deliver(self, event: Any) -> None:
        notification = getattr(event, "notification", None)
        if notification is not None and isinstance(notification, ua.StatusChangeNotification):
            if not self._failed.done() and notification.Status.value & BAD:
                self._failed.set_exception(
                    Retryable("connect.lost", base=self._delivery.interface.base, reason=str(notification.Status))
                )
            return

    def _explode_datachange(self, datachange: Any) -> Any:
        receive = self._delivery.clock.now()
        for item in datachange.MonitoredItems:
            signal = self._signals.get(item.ClientHandle)
            if signal is None:  # arrived before the answer to our own request: told again once it is known
                self._early.append((item.ClientHandle, item.Value, receive))
            else:
                self._value(signal, item.Value, receive)
        return ()

    async def _flush_early(self) -> None:
        early = list(self._early)
        self._early.clear()
        for handle, value, receive in early:
            if handle in self._signals:
                self._value(self._signals[handle], value, receive)
        await self._delivery.settle()

    def _value(self, signal: str, data: Any, receive: int) -> None:
        delivery = self._delivery
        status = int(data.StatusCode.value) if data.StatusCode is not None else GOOD
        server = _instant(data.ServerTimestamp, data.ServerPicoseconds)
        source = _instant(data.SourceTimestamp, data.SourcePicoseconds)
        instant = source if source is not None else server if server is not None else receive
        if status & OVERFLOW == OVERFLOW:
            start = self._times.get(signal, instant)
            delivery.gap(
                since=start,
                until=instant,
                count=0,
                unit="time",
                reason="the server's queue overflowed",
                start=start,
                end=instant,
                signal=signal,
            )
        self._times[signal] = instant
        self._newest = max(self._newest, instant)
        value: Value = None
        if not status & BAD:
            value, reason = _plain(data.Value)
            if reason is not None:
                delivery.quarantine(instant, reason, f"{signal}: {data.Value}")
                return
            if value is None:  # good, but empty: there is nothing to keep
                status |= BAD
        delivery.rows.append(signal, instant, receive, value, status=status, server=server)

    async def restore(self) -> None:
        """After a cut: keep the subscription if the server still has it, and ask for what was missed.

        Overrides asyncua's, which takes BadNothingToDo for a failure (see the head of this module).
        """
        if self.subscription_id is None:
            await self.recreate()
            return
        parameters = ua.TransferSubscriptionsParameters()
        parameters.SubscriptionIds = [self.subscription_id]
        parameters.SendInitialValues = False
        try:
            results = await self._session.transfer_subscriptions(parameters)
        except _foreign() as error:
            await self._renew(_say(error))
            return
        result = results[0] if results else None
        code = None if result is None else int(result.StatusCode.value)
        if result is None or (code != _NOTHING_TO_DO and not result.StatusCode.is_good()):
            await self._renew("no result" if result is None else str(result.StatusCode))
            return
        self._session._subscription_callbacks[self.subscription_id] = self.publish_callback
        self._session.ensure_publish_loop()
        # where the transfer was done, the server lists what it holds; where there was nothing to transfer, it does not: then we ask
        # number by number until it has no more
        held = None if code == _NOTHING_TO_DO else [int(number) for number in result.AvailableSequenceNumbers or []]
        if not await self._catch_up(held):
            await self._renew("the server no longer holds what was missed")
            return
        self.last_publish_at = asyncio.get_running_loop().time()
        await self._delivery.connected()

    async def _catch_up(self, held: list[int] | None) -> bool:
        """Republish what we have not had; False if something between is gone."""
        last = self.last_sequence_number or 0
        wanted = range(last + 1, last + 1 + _MAX_REPUBLISH) if held is None else sorted(n for n in held if n > last)
        if held is not None and wanted and wanted[0] > last + 1:
            return False
        self._replaying = True
        try:
            for number in wanted:
                message = await self._session.republish(self.subscription_id, number)
                if not message.NotificationData:  # some servers answer so instead of BadMessageNotAvailable
                    return held is None
                await self.publish_callback(ua.PublishResult(self.subscription_id, NotificationMessage=message))
        except ua.uaerrors.BadMessageNotAvailable:
            return held is None
        except _foreign():
            return False
        finally:
            self._replaying = False
        return True

    async def recreate(self) -> None:
        """A new subscription in place of one that is gone; what fell between is on record."""
        await self._renew("the server lost the subscription")

    async def _renew(self, reason: str) -> None:
        now = self._delivery.clock.now()
        start = self._newest or self._delivery.lost_at or now
        self.last_sequence_number = None
        try:
            await super().recreate()
        except (
            _foreign()
        ) as error:  # the server dropped the line on our question: begin afresh, the gap is recorded there
            if not self._failed.done():
                self._failed.set_exception(
                    Retryable("connect.lost", base=self._delivery.interface.base, reason=f"{reason}: {_say(error)}")
                )
            return
        _time_gap(self._delivery, start, now, reason)
        await self._delivery.connected()


def _time_gap(delivery: Delivery, start: int, end: int, reason: str) -> None:
    delivery.gap(since=start, until=end, count=0, unit="time", reason=reason, start=start, end=end)


async def browse(client: Any, *, limit: int = _MAX_NODES) -> tuple[Property, ...]:
    """Variables below Objects, the server's own left out: key is namespace URI and browse path, with unit and type.

    Raises what asyncua raises; callers turn it into ours.
    """
    uris = await client.get_namespace_array()
    found: list[Property] = []
    seen = {str(client.nodes.objects.nodeid)}
    level: list[tuple[Any, str]] = [(client.nodes.objects, "")]
    gate = asyncio.Semaphore(5)

    async def children(node: Any) -> list[Any]:
        async with gate:
            return list(await node.get_children_descriptions(refs=ua.ObjectIds.HierarchicalReferences))

    async def describe(reference: Any, path: str) -> None:
        async with gate:
            found.append(await _describe(client, reference, path, uris))

    while level and len(found) < limit:
        answers = await asyncio.gather(*(children(node) for node, _ in level))
        following: list[tuple[Any, str]] = []
        variables: list[tuple[Any, str]] = []
        for (_, path), references in zip(level, answers, strict=True):
            for reference in references:
                node_id = reference.NodeId
                key = str(node_id)
                own = node_id.NamespaceIndex == 0 and node_id.Identifier == _SERVER
                if key in seen or own or reference.ReferenceTypeId.Identifier == ua.ObjectIds.HasProperty:
                    continue
                seen.add(key)
                below = f"{path}/{reference.BrowseName.Name}"
                if reference.NodeClass == ua.NodeClass.Variable:
                    variables.append((reference, below))
                if reference.NodeClass in (ua.NodeClass.Object, ua.NodeClass.Variable):
                    following.append((client.get_node(node_id), below))
        await asyncio.gather(*(describe(reference, path) for reference, path in variables[: limit - len(found)]))
        level = following
    return tuple(sorted(found, key=lambda item: item.key))


async def look(url: str, timeout_s: float) -> tuple[tuple[Property, ...], dict[str, Any]]:
    """What a server offers and says of itself. Raises Retryable ``connect.unreachable``."""
    client = Client(url, timeout=timeout_s)
    try:
        await client.connect()
        try:
            offers = await browse(client)
            build = (
                await client.nodes.server_status_buildinfo.read_value()
                if hasattr(client.nodes, "server_status_buildinfo")
                else None
            )
            facts: dict[str, Any] = {
                "server": str(getattr(build, "ProductName", "") or ""),
                "version": str(getattr(build, "SoftwareVersion", "") or ""),
                "namespaces": await client.get_namespace_array(),
                "security": sorted(
                    {
                        f"{endpoint.SecurityMode.name} {endpoint.SecurityPolicyUri.rpartition('#')[2]}"
                        for endpoint in await client.get_endpoints()
                    }
                ),
            }
        finally:
            await client.disconnect()
    except _foreign() as error:
        with contextlib.suppress(*_foreign()):
            await client.disconnect()
        raise Retryable("connect.unreachable", base=url, reason=_say(error)) from error
    return offers, facts


async def _describe(client: Any, reference: Any, path: str, uris: list[str]) -> Property:
    node_id = reference.NodeId
    uri = uris[node_id.NamespaceIndex]
    kind = {"i": "i", "s": "s", "g": "g", "b": "b"}.get(node_id.to_string().split(";")[-1][0], "s")
    href = f"/?id=nsu={_escape(uri)};{kind}={_escape(node_id.to_string().split(';')[-1][2:])}"
    node = client.get_node(node_id)
    unit = code = type_name = None
    with contextlib.suppress(ua.UaError):
        for property_ in await node.get_properties():
            if (await property_.read_browse_name()).Name == "EngineeringUnits":
                information = await property_.read_value()
                if information is not None:
                    code = unece_code(int(information.UnitId))
                    unit = (information.DisplayName.Text or None) if information.DisplayName else None
    with contextlib.suppress(ua.UaError):
        type_name = (await node.read_data_type_as_variant_type()).name
    terms = {"path": path, "type": type_name, "unece": code}
    return Property(
        key=f"nsu={uri};p={path}",
        type=_JSON_TYPES.get(type_name or ""),
        title=reference.DisplayName.Text or reference.BrowseName.Name,
        unit=unit or code,
        observable=True,
        form=Form(href=href, terms=(("uav_browsePath", f"/Objects{path}"),)),
        terms=tuple(sorted((name, value) for name, value in terms.items() if value)),
    )


async def _nodes(client: Any, properties: tuple[Property, ...]) -> dict[str, Any]:
    """The node of each property, by its key; a namespace is found by its URI, because its index may change."""
    uris = await client.get_namespace_array()
    found = {}
    for item in properties:
        href = unquote(item.form.href if item.form is not None else item.key)
        identifier = href.partition("id=")[2] or href
        if identifier.startswith("nsu="):
            uri, _, rest = identifier[4:].rpartition(";")
            if uri not in uris:
                raise ConfigProblem("connect.address-unusable", base=href, reason="the server has no such namespace")
            identifier = f"ns={uris.index(uri)};{rest}"
        try:
            found[item.key] = client.get_node(ua.NodeId.from_string(identifier))
        except ua.UaError as error:
            raise ConfigProblem("connect.address-unusable", base=href, reason=_say(error)) from error
    return found


def unece_code(unit_id: int) -> str | None:
    """The UNECE common code of a unitId: up to three characters, the first in the highest byte. -1 or other: none."""
    if not 0 < unit_id < 1 << 24:
        return None
    text = unit_id.to_bytes(3, "big").lstrip(b"\0").decode("ascii", "replace")
    return text if text.isalnum() else None


_JSON_TYPES: Mapping[str, str] = {
    "Boolean": "boolean",
    "Double": "number",
    "Float": "number",
    "String": "string",
    "LocalizedText": "string",
    "DateTime": "string",
    **dict.fromkeys(("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64"), "integer"),
}


def _plain(variant: Any) -> tuple[Value, str | None]:
    """A variant's value in one of our types, or why it can't be used. Lists and structures become text."""
    value = variant.Value if variant is not None else None
    if value is None:
        return None, None
    if isinstance(value, bool):
        return value, None
    if isinstance(value, int):
        number = int(value)
        return (number if -(1 << 63) <= number < 1 << 63 else str(number)), None
    if isinstance(value, float):
        return (float(value), None) if math.isfinite(value) else (None, "not-finite")
    if isinstance(value, str):
        return str(value), None
    if isinstance(value, datetime):
        return value.isoformat(), None
    if isinstance(value, bytes):
        return value.hex(), None
    text = getattr(value, "Text", None)
    return (text if isinstance(text, str) else str(value)), None


def _instant(moment: datetime | None, picoseconds: int | None) -> int | None:
    if moment is None or moment.year <= 1601:  # OPC UA's zero
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    whole = int(aware.replace(microsecond=0).timestamp()) * NS + aware.microsecond * 1000
    return whole + (picoseconds or 0) // 100  # SourcePicoseconds counts 10 ps


def _escape(text: str) -> str:
    """AID 1.1: ``#`` and ``&`` are escaped in an href."""
    return text.replace("%", "%25").replace("#", "%23").replace("&", "%26")


def _open_only(interface: Interface) -> None:
    """Refuse what can't be kept: an interface that asks for signing or encryption is never read without."""
    if any(name != "nosec_sc" for name in interface.security):
        raise ConfigProblem("connect.security-unsupported", name=interface.name, scheme=", ".join(interface.security))


def _foreign() -> tuple[type[BaseException], ...]:
    return (ua.UaError, OSError, TimeoutError, asyncio.TimeoutError, ConnectionError)


def _say(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
