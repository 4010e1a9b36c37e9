"""A simulated energy meter with an OPC UA server (the library's own), and readings that come late when planned."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from guantong.base.clock import to_datetime
from guantong.demo.plan import Plan

__all__ = ["Meter"]

SIGNALS: Mapping[str, tuple[str, int, str]] = {
    # browse name: (display unit, UNECE unitId, description)
    "ActivePower": ("kW", 4937556, "active power"),
    "ActiveEnergy": ("kWh", 4937544, "active energy, cumulative"),
}


class Meter:
    """Counts in ``offered`` what its monitored items are told."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.url = ""
        self.writes = 0
        self.energy = 18_204.0
        self._dice = random.Random(plan.seed + 4)  # noqa: S311 - reproducible, not secret
        self._server: Any = None
        self._nodes: dict[str, Any] = {}
        self._held: list[tuple[str, float, Any]] = []
        self.items = 0

    @property
    def offered(self) -> int:
        """The first value of each monitored item and every write after it."""
        return self.items + self.writes

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        import logging
        import socket

        from asyncua import ua
        from asyncua.server.server import Server

        logging.getLogger("asyncua").setLevel(logging.ERROR)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"opc.tcp://127.0.0.1:{port}/meter"
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace("urn:example:meter")
        meter = await server.nodes.objects.add_object(index, "Meter")
        for name, (unit, unit_id, description) in SIGNALS.items():
            node = await meter.add_variable(
                ua.NodeId(ua.String(name), ua.Int16(index)), ua.QualifiedName(name, index), 0.0, ua.VariantType.Double
            )
            information = ua.EUInformation()
            information.NamespaceUri = "http://www.opcfoundation.org/UA/units/un/cefact"
            information.UnitId = ua.Int32(unit_id)
            information.DisplayName = ua.LocalizedText(unit)
            information.Description = ua.LocalizedText(description)
            await node.add_property(0, "EngineeringUnits", information)
            self._nodes[name] = node
        await server.start()
        self._server = server
        await self._write("ActivePower", 6.0, to_datetime(time.time_ns()))
        await self._write("ActiveEnergy", self.energy, to_datetime(time.time_ns()))
        self.writes = 0

    async def stop(self) -> None:
        """Close the server."""
        if self._server is not None:
            await self._server.stop()

    async def _write(self, name: str, value: float, at: Any) -> None:
        from asyncua import ua

        sent: Any = to_datetime(time.time_ns())
        await self._nodes[name].write_value(
            ua.DataValue(
                ua.Variant(value, ua.VariantType.Double),
                SourceTimestamp=at,
                ServerTimestamp=sent,
            )
        )
        self.writes += 1

    def _monitored(self) -> int:
        service = self._server.iserver.subscription_service
        return sum(
            len(subscription.monitored_item_srv._monitored_items) for subscription in service.subscriptions.values()
        )

    async def tick(self, second: float) -> None:
        """Write power and energy; hold the planned stretch back and send it late."""
        # a subscription that replaces another is there beside it for a moment: an item's first value counts once
        self.items = max(self.items, min(self._monitored(), len(SIGNALS)))
        now = to_datetime(time.time_ns())
        power = 7.0 + 1.2 * math.sin(second / 4) + self._dice.gauss(0, 0.05)
        self.energy += power * 0.25 / 3600
        start, end = self.plan.late_s
        if self.plan.trouble and start - self.plan.late_by_s <= second < end - self.plan.late_by_s:
            # these were measured now and leave the meter late_by_s later
            self._held.append(("ActivePower", power, now))
        else:
            await self._write("ActivePower", power, now)
        await self._write("ActiveEnergy", self.energy, now)
        due = now - timedelta(seconds=self.plan.late_by_s)
        while self._held and self._held[0][2] <= due:
            name, value, at = self._held.pop(0)
            await self._write(name, value, at)
