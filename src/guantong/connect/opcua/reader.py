"""Reads one OPC UA server until it is stopped. A cut is mended by the supervisor running the reader again: it remembers its session.

Source: OPC 10000-4, 6.7 (re-establishing connections).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface, Property
from guantong.connect.opcua.rules import UNKNOWN, Profile, companions, profile_of, security_of
from guantong.connect.opcua.session import Line, thumbprint
from guantong.connect.opcua.space import browse, build_info, resolve
from guantong.connect.opcua.stack import Client, foreign, say
from guantong.connect.opcua.subscription import Memory, Subscription
from guantong.connect.rules import names_of, units_of
from guantong.connect.secrets import Lookup, none

__all__ = ["OpcUaReader", "look"]

OUTAGE_S = 600.0
"""How long session, subscription and queues are asked to wait for us, unless the interface says."""


class OpcUaReader:
    """Reads one server; :meth:`run` ends with the line and goes on where it was when it is called again."""

    def __init__(self, interface: Interface, *, secrets: Lookup = none, folder: Path | None = None) -> None:
        if not interface.base.lower().startswith("opc.tcp://"):
            raise ConfigProblem(
                "connect.address-unusable", base=interface.base, reason="opc.tcp://host:port is expected"
            )
        self._security = security_of(interface)
        self._interface = interface
        self._secrets = secrets
        self._folder = folder
        self._properties: tuple[Property, ...] = interface.properties
        self._outage_s = float(interface.term("outage_s") or OUTAGE_S)
        self._line: Line | None = None
        self._subscription: Subscription | None = None
        self._memory = Memory()
        self._profile: Profile = UNKNOWN

    async def run(self, delivery: Delivery) -> None:
        """Connect, subscribe or attach again, deliver. Raises Retryable ``connect.unreachable``, ``connect.lost``, ``connect.silent``."""
        try:
            await self._run(delivery)
        except asyncio.CancelledError:  # stopped by us: the server is told, so that nothing waits there
            if self._line is not None:
                await self._line.close(wait_s=1.0)
                delivery.mark(until=self._memory.newest, session=None, subscription=None, last=None)
            self._line = self._subscription = None
            raise

    async def _run(self, delivery: Delivery) -> None:
        base, first = self._interface.base, self._line is None
        if self._line is None:
            self._line = Line(base, timeout_s=delivery.settings.connect_timeout_s, session_s=self._outage_s)
            if self._properties:
                self._adopt(delivery)
        line = self._line
        try:
            await line.secure(self._security, name=self._interface.name, secrets=self._secrets, folder=self._folder)
            reused = await line.open()
        except foreign() as error:
            raise Retryable("connect.unreachable", base=base, reason=say(error)) from error
        try:
            await self._attach(delivery, line, reused=reused, first=first)
            await self._watch(delivery, line)
        except foreign() as error:
            raise Retryable("connect.lost", base=base, reason=say(error)) from error
        finally:
            await line.drop()

    def _adopt(self, delivery: Delivery) -> None:
        """Go on with the session and subscription of an earlier process, if it left word of them."""
        place = delivery.resume
        if not place.get("session") or place.get("signals") != self._digest() or self._line is None:
            return
        self._line.adopt(place["session"])
        self._subscription = self._new_subscription(delivery, self._line)
        self._subscription.id, self._subscription.last = int(place["subscription"]), int(place["last"])

    def _digest(self) -> str:
        return hashlib.sha256("\n".join(item.key for item in self._properties).encode()).hexdigest()[:16]

    def _new_subscription(self, delivery: Delivery, line: Line) -> Subscription:
        return Subscription(
            line,
            delivery,
            self._profile,
            self._memory,
            [item.key for item in self._properties],
            {item.key: [member.key for member in item.properties] for item in self._properties},
        )

    async def _attach(self, delivery: Delivery, line: Line, *, reused: bool, first: bool) -> None:
        """The subscription again, or a new one with everything in doubt."""
        kept = self._subscription
        lost_at = delivery.lost_at
        if kept is not None and await kept.restore(reused=reused):
            await self._say_connected(delivery)
            if first:
                kept.nodes, _ = await resolve(line, self._properties, self._profile)
            return
        info = await build_info(line)
        self._profile = profile_of(info.get("manufacturer"), info.get("product"), self._interface.title)
        if not self._properties:
            self._properties = await browse(line, self._profile)
        nodes, bad = await resolve(line, self._properties, self._profile)
        subscription = self._subscription = self._new_subscription(delivery, line)
        keys = [item.key for item in self._properties]
        until = delivery.resume.get("until")
        reason = "the server lost the subscription" if kept is not None and not first else "connection lost"
        if first and until:
            self._memory.newest = int(until)
            self._memory.doubt("guantong did not run", keys, int(until))
        else:
            self._memory.doubt(reason, keys if lost_at is not None else (), lost_at)
        delivery.mark(signals=self._digest(), session=None)
        await self._say_connected(delivery)
        subscription.nodes = nodes
        await subscription.create(outage_s=self._outage_s)
        await subscription.monitor(nodes)
        for signal, why in bad.items():
            subscription.refuse(signal, why)
        await delivery.settle()

    async def _say_connected(self, delivery: Delivery) -> None:
        await delivery.connected(names=names_of(self._columns()), units=units_of(self._columns()))

    def _columns(self) -> list[Property]:
        """The properties as signals: a structure with named members is one signal a member."""
        found: list[Property] = []
        for item in self._properties:
            if not item.properties:
                found.append(item)
            for member in item.properties:
                terms = dict(item.terms)
                terms["path"] = f"{terms.get('path') or item.key}/{member.key}"
                terms["type"] = {"number": "Double", "integer": "Int64", "boolean": "Boolean"}.get(
                    member.type or "", "String"
                )
                found.append(
                    Property(
                        f"{item.key}.{member.key}",
                        type=member.type,
                        title=f"{item.title or item.key} {member.title or member.key}",
                        unit=member.unit,
                        terms=tuple(sorted(terms.items())),
                    )
                )
        return found

    async def _watch(self, delivery: Delivery, line: Line) -> None:
        """Deliver until something ends it."""
        subscription = self._subscription
        assert subscription is not None
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(subscription.run(), name=f"publish {self._interface.name}"),
            loop.create_task(self._beat(delivery, line, subscription), name=f"beat {self._interface.name}"),
            loop.create_task(self._mend(delivery, line, subscription), name=f"mend {self._interface.name}"),
            loop.create_task(line.down.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not tasks[-1]:
                    task.result()
            raise Retryable("connect.lost", base=self._interface.base, reason="connection cut")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, delivery: Delivery, line: Line, subscription: Subscription) -> None:
        """A question now and then: a line that is dead without saying so, and a server that forgot to publish, are found out."""
        settings, loop = delivery.settings, asyncio.get_running_loop()
        every_s = min(settings.heartbeat_s, settings.silence_s / 3)
        while True:
            await asyncio.sleep(every_s)
            if subscription.busy:
                subscription.heard = loop.time()
                await subscription.keep_alive()
            async with asyncio.timeout(every_s):
                await line.nodes.server_state.read_value()
            silent_s = loop.time() - subscription.heard
            if silent_s > settings.silence_s:
                raise Retryable("connect.silent", base=self._interface.base, seconds=round(silent_s, 1))

    async def _mend(self, delivery: Delivery, line: Line, subscription: Subscription) -> None:
        """Nodes that could not be watched are looked up again from time to time."""
        while True:
            await asyncio.sleep(delivery.settings.bad_node_retry_s)
            if not subscription.bad or subscription.busy:
                continue
            wanted = [item for item in self._properties if item.key in subscription.bad]
            nodes, bad = await resolve(line, wanted, self._profile)
            for signal, why in bad.items():
                subscription.refuse(signal, why)
            if nodes:
                subscription.nodes = {**subscription.nodes, **nodes}
                await subscription.monitor(nodes)
            await delivery.settle()


async def look(url: str, timeout_s: float) -> tuple[tuple[Property, ...], dict[str, Any]]:
    """What a server offers and says of itself. Raises Retryable ``connect.unreachable``."""
    client = Client(url, timeout=timeout_s)
    client.name = "guantong"
    try:
        endpoints = await client.connect_and_get_server_endpoints()
        facts: dict[str, Any] = {
            "security": sorted(
                {
                    f"{endpoint.SecurityMode.name} {endpoint.SecurityPolicyUri.rpartition('#')[2]}"
                    for endpoint in endpoints
                }
            ),
            "certificate": next(
                (thumbprint(endpoint.ServerCertificate) for endpoint in endpoints if endpoint.ServerCertificate), ""
            ),
            "tokens": sorted(
                {token.TokenType.name for endpoint in endpoints for token in endpoint.UserIdentityTokens or ()}
            ),
        }
        if not any(endpoint.SecurityMode.name == "None_" for endpoint in endpoints):
            return (), {**facts, "server": "", "version": "", "namespaces": [], "models": []}
        line = Line(url, timeout_s=timeout_s, session_s=60.0)
        try:
            await line.open()
            info = await build_info(line)
            profile = profile_of(info.get("manufacturer"), info.get("product"))
            offers = await browse(line, profile)
            uris = list(await line.get_namespace_array())
            facts |= {
                "server": info.get("product", ""),
                "version": info.get("version", ""),
                "profile": profile.name,
                "namespaces": uris,
                "models": companions(uris),
            }
        finally:
            await line.close(wait_s=2.0)
    except foreign() as error:
        with contextlib.suppress(*foreign()):
            client.disconnect_socket()
        raise Retryable("connect.unreachable", base=url, reason=say(error)) from error
    return offers, facts
