"""Which reader serves which kind of source; each is imported where it is first used, and with it the library it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from guantong.base.wire import Http
from guantong.connect.delivery import Delivery
from guantong.connect.model import Imported, Interface
from guantong.connect.secrets import Lookup

if TYPE_CHECKING:
    from guantong.connect.webhook import Hooks

__all__ = ["Reader", "reader_of"]


class Reader(Protocol):
    """What serves one kind of source."""

    async def run(self, delivery: Delivery) -> None:
        """Read until the source ends (return) or is lost (raise Retryable); it is then run again with the same delivery."""
        ...


def reader_of(
    participant: str,
    interface: Interface,
    *,
    http: Http,
    secrets: Lookup,
    hooks: Hooks,
    folder: Path | None,
    known: Callable[[str], Awaitable[bool]],
    done: Callable[[Imported], Awaitable[None]],
) -> Reader:
    """The reader of an interface. Raises ConfigProblem ``connect.address-unusable`` and ``base.extra-missing``."""
    kind = interface.kind
    if kind == "shdr":
        from guantong.connect.shdr_tcp import ShdrReader

        return ShdrReader(interface)
    if kind == "mtconnect":
        from guantong.connect.mtconnect import AgentReader

        return AgentReader(interface, http)
    if kind == "opcua":
        from guantong.connect.opcua import OpcUaReader

        return OpcUaReader(interface, secrets=secrets, folder=folder)
    if kind == "mqtt":
        from guantong.connect.mqtt import MqttReader

        return MqttReader(interface, secrets)
    if kind == "sparkplug":
        from guantong.connect.sparkplug import SparkplugReader

        return SparkplugReader(interface, secrets)
    if kind == "modbus":
        from guantong.connect.modbus import ModbusReader

        return ModbusReader(interface)
    if kind == "http":
        from guantong.connect.http import HttpReader

        return HttpReader(interface, http, secrets)
    if kind == "webhook":
        from guantong.connect.webhook import HookReader

        return HookReader(interface, hooks, participant)
    if kind == "sql":
        from guantong.connect.sql import SqlReader

        return SqlReader(interface, secrets)
    if kind == "s7":
        from guantong.connect.s7 import S7Reader

        return S7Reader(interface)
    from guantong.connect.files import FileReader, FolderReader

    return FolderReader(interface, known, done) if kind == "folder" else FileReader(interface, known, done)
