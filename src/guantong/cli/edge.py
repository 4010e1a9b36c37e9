"""Two zones: ``guantong edge`` is the gateway in the machine network, ``guantong edges`` are the gateways that a node lets in.

A gateway connects and logs, nothing else: a records file for its sources, a durable log, and one way out. It listens nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guantong.base.errors import ConfigProblem
from guantong.cli.data import _here
from guantong.cli.node import _until_stopped, run_async
from guantong.cli.root import Place, at_node, facts, main, table

if TYPE_CHECKING:
    from guantong.base.batch import Batch
    from guantong.keep.log import Log

__all__ = ["Gateway"]


@main.group()
def edges() -> None:
    """Gateways in the machine network that this node lets in.

    本节点接受的设备网网关。
    """


@edges.command("invite")
@at_node
def edges_invite(place: Place) -> None:
    """A one-time code for a gateway, valid for an hour.

    为网关生成一次性代码，一小时内有效。
    """
    place.action("/edges/invite")


@edges.command("list")
@at_node
def edges_list(place: Place) -> None:
    """Every gateway, how far it is and when it last spoke.

    全部网关、传送进度及最近联系时间。
    """
    with place.desk() as desk:
        found = desk.act("/edges/list")
    place.say(found, lambda data: table(data["edges"], ("name", "seen_at", "position", "frames", "rows", "id")))


@edges.command("remove")
@click.argument("edge")
@at_node
def edges_remove(place: Place, edge: str) -> None:
    """Let a gateway deliver no more; what it delivered stays.

    取消网关的接入，已交付的数据保留。
    """
    place.action("/edges/remove", edge=edge)


@main.group("edge")
def gateway() -> None:
    """The gateway in the machine network: connects, logs, and sends to a node, outbound only.

    设备网中的网关：接入、记录并向节点单向发送。
    """


@gateway.command("enrol")
@click.argument("url")
@click.argument("code")
@click.option(
    "--name", default="edge", show_default=True, help="Name of the gateway at the node. / 网关在节点上的名称。"
)
@at_node
def edge_enrol(place: Place, url: str, code: str, name: str) -> None:
    """Become a gateway of the node at that address, with its one-time code.

    凭一次性代码成为该地址节点的网关。
    """
    from guantong.connect.edge import enrol

    async def work() -> dict[str, Any]:
        gateway = Gateway(place.config)
        async with gateway.client() as http:
            return await enrol(http, url, code, name)

    found = run_async(work())
    Gateway(place.config).store({**found, "url": url.rstrip("/"), "name": name})
    place.say({"edge": found["edge"], "name": name, "participant": found["participant"], "url": url}, facts)


@gateway.command("add")
@click.argument("url")
@click.option("--name", help="Name of the source. / 数据源名称。")
@at_node
def edge_add(place: Place, url: str, name: str | None) -> None:
    """Probe an address and have the gateway read it from its next start on.

    探测地址，网关下次启动时开始读取。
    """
    from dataclasses import replace

    address = _here(url)

    async def work() -> dict[str, Any]:
        gateway = Gateway(place.config)
        async with gateway.open() as (connect, _):
            proposal = await connect.probe(address)
            interface = replace(proposal.interface, name=name or proposal.interface.name)
            await connect.add(gateway.participant, interface)
            return {"name": interface.name, "kind": interface.kind, "signals": len(proposal.offers)}

    place.say(run_async(work()), facts)


@gateway.command("status")
@at_node
def edge_status(place: Place) -> None:
    """Where the gateway is: entries logged, and how many the node has.

    网关状态：已记录条目数与节点已确认条目数。
    """

    async def work() -> dict[str, Any]:
        gateway = Gateway(place.config)
        async with gateway.logged() as log:
            mark = await log.mark(gateway.participant)
            dropped = await log.dropped(gateway.participant)
        return {
            "name": gateway.enrolled["name"],
            "node": gateway.enrolled["url"],
            "logged": mark.logged,
            "acknowledged": mark.stored,
            "waiting": mark.logged - mark.stored,
            "log_bytes": mark.size_bytes,
            "log_bytes_max": log.settings.log_bytes_max,
            "dropped_rows": sum(one.rows for one in dropped.values()),
        }

    place.say(run_async(work()), facts)


@gateway.command("run")
@at_node
def edge_run(place: Place) -> None:
    """Run the gateway until Ctrl-C.

    运行网关，直到按 Ctrl-C。
    """

    async def work() -> None:
        gateway = Gateway(place.config)
        async with gateway.running():
            place.say({"name": gateway.enrolled["name"], "node": gateway.enrolled["url"]}, facts)
            await _until_stopped()

    run_async(work())


class Gateway:
    """The composition of a gateway, in the node's directory of its settings. Settings ``connect`` and ``keep`` hold as for a node."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.directory = Path(config["node.directory"]).expanduser().resolve()

    @property
    def enrolled(self) -> dict[str, Any]:
        """What the node told at the enrolment. Raises ConfigProblem ``connect.edge-not-enrolled``."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "edge.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigProblem("connect.edge-not-enrolled", directory=self.directory) from error
        return found

    @property
    def participant(self) -> str:
        """Whose gateway it is."""
        return str(self.enrolled["participant"])

    def store(self, found: dict[str, Any]) -> None:
        """Keep what the node told, readable by the owner only."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = self.directory / "edge.json.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(found))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.directory / "edge.json")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """The HTTP client."""
        from guantong.web.client import AiohttpClient
        from guantong.web.model import WebSettings

        http = AiohttpClient(self.config.section("web", WebSettings))
        try:
            yield http
        finally:
            await http.close()

    @asynccontextmanager
    async def logged(self) -> AsyncIterator[_Logged]:
        """The durable log, open."""
        from guantong.base.clock import SystemClock
        from guantong.keep.log import Log
        from guantong.keep.model import KeepSettings

        settings = self.config.section("keep", KeepSettings)
        log = Log(self.directory / "log.db", SystemClock(), settings)
        log.open()
        try:
            yield _Logged(log, settings)
        finally:
            log.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Any, _Logged]]:
        """Connect and the log; no source runs yet."""
        from guantong.base.clock import SystemClock
        from guantong.connect.model import ConnectSettings
        from guantong.connect.service import Connect
        from guantong.records.schema import migrate
        from guantong.records.service import Records

        clock = SystemClock()
        _ = self.enrolled  # said first: nothing is made in a directory that is no gateway's
        records = Records(f"sqlite:///{self.directory / 'records.db'}", clock)
        records.open(migrate)
        try:
            async with self.logged() as log, self.client() as http:
                connect = Connect(records, log, clock, http, self.config.section("connect", ConnectSettings))
                yield connect, log
        finally:
            records.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        """Every source runs, and what they give is forwarded; yields the forwarder."""
        import asyncio

        from guantong.base.clock import SystemClock
        from guantong.connect.edge import Forwarder, secure_url

        told = self.enrolled
        url = secure_url(str(told["url"]))
        async with self.open() as (connect, log), self.client() as http:
            forwarder = Forwarder(
                log, http, SystemClock(), url, self.participant, str(told["edge"]), str(told["token"]),
                cards=lambda: connect.scorecards(self.participant),
            )  # fmt: skip
            log.log.on_append(forwarder.wake)
            task = asyncio.create_task(forwarder.run(), name="forward")
            await connect.start()
            try:
                yield forwarder
            finally:
                await connect.stop()
                forwarder.stop()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


class _Logged:
    """The log as connect's sink and as the forwarder's source."""

    def __init__(self, log: Log, settings: Any) -> None:
        self.log = log
        self.settings = settings
        self.mark = log.mark
        self.dropped = log.dropped
        self.read = log.read

    async def take(self, participant: str, batch: Batch) -> int:
        return await self.log.append(participant, batch)

    async def acknowledged(self, participant: str) -> int:
        return (await self.log.mark(participant)).stored

    async def acknowledge(self, participant: str, position: int) -> None:
        await self.log.settle(participant, position, latest=None, commits=0)
