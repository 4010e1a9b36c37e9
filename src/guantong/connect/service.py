"""Connect: every source is a supervised task that hands batches to the sink and keeps a scorecard.

A source that is lost is tried again after 0.1 s, 0.2 s, … at most 2 s; it is logged once when lost and once when back, and both go on
record as batches without rows. Sources and how far each was read are in the records; after a restart every running source goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import Clock
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Http
from guantong.connect.delivery import Delivery
from guantong.connect.kinds import Reader, reader_of
from guantong.connect.model import (
    FILE_READ,
    SOURCE_ADDED,
    SOURCE_REMOVED,
    ConnectSettings,
    Imported,
    Interface,
    Proposal,
    Scorecard,
)
from guantong.connect.ports import Sink
from guantong.connect.secrets import Lookup, Secrets, none
from guantong.connect.tables import FILES, POSITIONS, SOURCES
from guantong.connect.webhook import Hooks
from guantong.records import Records

if TYPE_CHECKING:
    from guantong.connect.aid import Described
    from guantong.connect.devices import Device

__all__ = ["Connect", "Reader"]

LOG = logging.getLogger("guantong.connect")


class _Running:
    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.task: asyncio.Task[None] | None = None


class Connect:
    """The stage. ``start`` runs every source on record, ``stop`` ends them after what they gathered is durable."""

    def __init__(
        self,
        records: Records,
        sink: Sink,
        clock: Clock,
        http: Http,
        settings: ConnectSettings | None = None,
        *,
        secrets: Lookup = none,
        folder: Path | None = None,
    ) -> None:
        self._records = records
        self._sink = sink
        self._clock = clock
        self._http = http
        self._settings = settings or ConnectSettings()
        self._secrets = secrets
        self._folder = folder  # where the node's own certificates for machines are kept
        self.hooks = Hooks()
        """The doors of webhook sources; routes.py brings requests to them."""
        self._sources: dict[tuple[str, str], _Running] = {}
        self._wakers: list[Callable[[], None]] = []
        self._started = False

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever a scorecard changes; for pages that follow."""
        self._wakers.append(wake)

    async def start(self, *, run: bool = True) -> None:
        """Know every source on record, and run those that were running unless ``run`` says to leave them alone."""
        self._started = run
        for row in await self._records.rows(select(SOURCES).order_by(SOURCES.c.participant, SOURCES.c.name)):
            participant = str(row["participant"])
            interface = Interface.from_json(orjson.loads(row["interface"]))
            running = self._place(participant, interface)
            if run and row["running"]:
                await self._launch(participant, running)
            else:
                running.delivery.stopped()

    async def stop(self) -> None:
        """End every source; what was gathered is durable when this returns."""
        self._started = False
        for running in list(self._sources.values()):
            await self._halt(running)

    async def add(self, participant: str, interface: Interface, *, start: bool = True) -> None:
        """Put a source on record and run it. Raises ConfigProblem ``connect.source-exists``, ``connect.address-unusable``."""
        if (participant, interface.name) in self._sources or await self._row(participant, interface.name):
            raise ConfigProblem("connect.source-exists", name=interface.name)
        self._reader(participant, interface)  # an unusable address is refused here, not in a task
        document = interface.to_json()
        async with self._records.step(participant) as step:
            step.insert(
                SOURCES, name=interface.name, interface=canonical_bytes(document), running=start, added_at=step.at
            )
            step.record(
                Entry(SOURCE_ADDED, {"source": interface.name, "kind": interface.kind, "interface": digest(document)})
            )
        running = self._place(participant, interface)
        if start and self._started:
            await self._launch(participant, running)
        elif not start:
            running.delivery.stopped()

    async def remove(self, participant: str, name: str) -> None:
        """Stop a source and take it off the record; what it delivered stays. Raises ConfigProblem ``connect.source-unknown``."""
        if await self._row(participant, name) is None:
            raise ConfigProblem("connect.source-unknown", name=name)
        running = self._sources.pop((participant, name), None)
        if running is not None:
            await self._halt(running)
        async with self._records.step(participant) as step:
            step.delete(SOURCES, name=name)
            step.delete(POSITIONS, source=name)
            step.delete(FILES, source=name)
            step.record(Entry(SOURCE_REMOVED, {"source": name}))

    async def pause(self, participant: str, name: str) -> None:
        """Stop a source and keep it on record. Raises ConfigProblem ``connect.source-unknown``."""
        await self._set_running(participant, name, running=False)
        await self._halt(self._sources[participant, name])

    async def resume(self, participant: str, name: str) -> None:
        """Run a paused source again. Raises ConfigProblem ``connect.source-unknown``."""
        await self._set_running(participant, name, running=True)
        if self._started:
            await self._launch(participant, self._sources[participant, name])

    def scorecards(self, participant: str) -> list[Scorecard]:
        """How each source is doing, by name."""
        return [
            running.delivery.scorecard()
            for (owner, _), running in sorted(self._sources.items())
            if owner == participant
        ]

    def interfaces(self, participant: str) -> list[Interface]:
        """The interface of each source, by name."""
        return [
            running.delivery.interface for (owner, _), running in sorted(self._sources.items()) if owner == participant
        ]

    async def probe(self, url: str) -> Proposal:
        """What stands behind an address (``shdr://``, ``http(s)://`` agent, ``opc.tcp://``, path) and an interface for it.

        Raises Retryable ``connect.unreachable``, ConfigProblem ``connect.address-unusable`` and ``connect.file-unreadable``.
        """
        from guantong.connect.probe import probe

        return await probe(url, http=self._http, clock=self._clock, settings=self._settings, secrets=self._secrets)

    async def devices(self, path: str | Path) -> tuple[Device, ...]:
        """The devices of an MTConnect device model (``Devices.xml``). Their ``adapter_items`` are the properties of an interface that
        reads the machine's adapter or its recordings; with them readings get names, places and units.

        Raises ConfigProblem ``connect.file-unreadable``, Skippable ``connect.document-unreadable``, Refused
        ``connect.document-hostile``.
        """
        from guantong.connect.devices import read_devices
        from guantong.connect.files import read_bytes

        limit = self._settings.document_bytes
        data = await asyncio.to_thread(read_bytes, Path(path), limit)
        return await asyncio.to_thread(read_devices, data, name=Path(path).name, limit=limit)

    async def import_file(self, participant: str, source: str, path: str | Path) -> Imported:
        """Read one file to its end into the sink, whatever its form: SHDR log, MTConnect streams, QIF, CSV, Parquet.

        ``source`` may be the name of a source on record (its interface then says how) or a new name, which the batches carry.
        Raises ConfigProblem ``connect.file-unreadable``, Skippable and Refused for documents that can't be taken.
        """
        from guantong.connect.files import interface_for_file, read_file

        known = self._sources.get((participant, source))
        interface = known.delivery.interface if known else interface_for_file(source, Path(path))
        delivery = Delivery(participant, interface, self._sink, self._clock, self._settings)
        imported = await read_file(Path(path), delivery)
        await self._record_file(participant, imported)
        return imported

    async def import_interfaces(self, participant: str, path: str | Path, *, start: bool = True) -> Described:
        """Add every source that an AASX package (or a JSON document) describes; returns those added and those that could not be.

        Raises ConfigProblem ``connect.file-unreadable``, Skippable ``connect.interface-unreadable`` and
        ``connect.document-too-large``, Refused ``connect.document-hostile``.
        """
        from guantong.connect.aasx import read_package
        from guantong.connect.aid import Described
        from guantong.connect.files import read_bytes

        limit = self._settings.document_bytes
        data = await asyncio.to_thread(read_bytes, Path(path), limit)
        described = await asyncio.to_thread(read_package, data, limit=limit)
        added: list[Interface] = []
        unread = list(described.unread)
        for interface in described.interfaces:
            try:
                await self.add(participant, interface, start=start)
                added.append(interface)
            except (ConfigProblem, Skippable) as error:
                unread.append((interface.name, error.message()))
        return Described(tuple(added), tuple(unread))

    def export_interfaces(
        self, participant: str, names: Sequence[str] = (), *, more: Sequence[Mapping[str, Any]] = ()
    ) -> bytes:
        """An AASX package that describes sources (all, or those named), with ``more`` submodels.

        Raises ConfigProblem ``connect.source-unknown``.
        """
        from guantong.connect.aasx import write_package

        known = {one.name: one for one in self.interfaces(participant)}
        for name in names:
            if name not in known:
                raise ConfigProblem("connect.source-unknown", name=name)
        wanted = [known[name] for name in names] if names else list(known.values())
        return write_package(wanted, asset=participant, more=more)

    def keep_secret(self, base: str, values: Mapping[str, str]) -> None:
        """Keep user, password or token for an address; none of them forgets it. Raises ConfigProblem ``connect.secrets-unreadable``."""
        if not isinstance(self._secrets, Secrets):
            raise ConfigProblem("connect.secrets-unreadable", path="–", reason="this node keeps none")
        self._secrets.keep(base, **values)

    async def replay(self, participant: str, source: str) -> list[Imported]:
        """Read again the files of a source of which something was quarantined, where they still stand with the same bytes.

        What was read before comes a second time and is dropped as a repeat by fusion. Raises as :meth:`import_file`.
        """
        from guantong.connect.files import digest_of

        where = and_(FILES.c.participant == participant, FILES.c.source == source, FILES.c.quarantined > 0)
        done = []
        for row in await self._records.rows(select(FILES).where(where).order_by(FILES.c.taken_at)):
            try:
                found, _ = await asyncio.to_thread(digest_of, Path(str(row["path"])), self._settings.file_bytes)
            except (ConfigProblem, Skippable):
                continue
            if found == row["digest"]:
                done.append(await self.import_file(participant, source, str(row["path"])))
        return done

    # the supervisor -----------------------------------------------------------------------------------------------------------------

    def _place(self, participant: str, interface: Interface) -> _Running:
        running = _Running(
            Delivery(participant, interface, self._sink, self._clock, self._settings, changed=self._changed)
        )
        self._sources[participant, interface.name] = running
        return running

    async def _launch(self, participant: str, running: _Running) -> None:
        if running.task is not None and not running.task.done():
            return
        delivery = running.delivery
        row = await self._records.row(
            select(POSITIONS.c.position).where(
                and_(POSITIONS.c.participant == participant, POSITIONS.c.source == delivery.source)
            )
        )
        delivery.resume = orjson.loads(row["position"]) if row else {}

        async def save(place: Mapping[str, Any]) -> None:
            async with self._records.step(participant) as step:
                step.upsert(POSITIONS, source=delivery.source, position=orjson.dumps(dict(place)), changed_at=step.at)

        delivery.save = save
        running.task = asyncio.get_running_loop().create_task(
            self._supervise(participant, delivery), name=f"source {delivery.source}"
        )

    async def _halt(self, running: _Running) -> None:
        task, running.task = running.task, None
        while task is not None and not task.done():
            # once is not always enough: a cancellation that meets the end of what is awaited can be swallowed there
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        with contextlib.suppress(GuantongError):  # a sink that refuses has said so already
            await running.delivery.close()

    async def _supervise(self, participant: str, delivery: Delivery) -> None:
        reader = self._reader(participant, delivery.interface)
        wait_s = self._settings.backoff_first_s
        while True:
            before, began = delivery.scorecard(), self._clock.monotonic()
            pump = asyncio.get_running_loop().create_task(delivery.pump(), name=f"pump {delivery.source}")
            error: GuantongError | None = None
            try:
                await _first(reader.run(delivery), pump)
                await delivery.flush()
                delivery.finished()
                return
            except GuantongError as raised:
                error = raised
            except Exception as raised:
                LOG.exception("source %s failed", delivery.source)
                error = Retryable(
                    "connect.lost", base=delivery.interface.base, reason=f"{type(raised).__name__}: {raised}"
                )
            finally:
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError, GuantongError):
                    await pump
            with contextlib.suppress(
                GuantongError
            ):  # a sink that refuses has been noted; the rows wait in the delivery
                await delivery.lost(error)
            if (
                delivery.scorecard().received > before.received
                or self._clock.monotonic() - began > self._settings.backoff_max_s
            ):  # it worked meanwhile: begin with short waits again
                wait_s = self._settings.backoff_first_s
            if isinstance(error, ConfigProblem | Refused):
                wait_s = self._settings.backoff_max_s  # a person must act first; looked at again all the same
            await self._clock.sleep(wait_s)
            wait_s = min(wait_s * 2, self._settings.backoff_max_s)

    def _reader(self, participant: str, interface: Interface) -> Reader:
        """The reader that serves the interface's kind; each is imported where it is first used."""
        return reader_of(
            participant,
            interface,
            http=self._http,
            secrets=self._secrets,
            hooks=self.hooks,
            folder=self._folder,
            known=lambda key: self._file_known(participant, interface.name, key),
            done=self._file_done(participant),
        )

    async def _file_known(self, participant: str, source: str, file_digest: str) -> bool:
        where = and_(FILES.c.participant == participant, FILES.c.source == source, FILES.c.digest == file_digest)
        return await self._records.row(select(FILES.c.digest).where(where)) is not None

    def _file_done(self, participant: str) -> Callable[[Imported], Any]:
        async def done(imported: Imported) -> None:
            await self._record_file(participant, imported)

        return done

    async def _record_file(self, participant: str, imported: Imported) -> None:
        async with self._records.step(participant) as step:
            step.upsert(
                FILES,
                source=imported.source,
                digest=imported.digest,
                path=imported.path,
                size=imported.size,
                rows=imported.rows,
                quarantined=imported.quarantined,
                taken_at=step.at,
            )
            step.record(
                Entry(
                    FILE_READ,
                    {
                        "source": imported.source,
                        "file": Path(imported.path).name,
                        "form": imported.form,
                        "digest": imported.digest,
                        "size": imported.size,
                        "lines": imported.lines,
                        "rows": imported.rows,
                        "quarantined": imported.quarantined,
                    },
                )
            )

    async def _row(self, participant: str, name: str) -> Mapping[str, Any] | None:
        return await self._records.row(
            select(SOURCES).where(and_(SOURCES.c.participant == participant, SOURCES.c.name == name))
        )

    async def _set_running(self, participant: str, name: str, *, running: bool) -> None:
        if await self._row(participant, name) is None:
            raise ConfigProblem("connect.source-unknown", name=name)
        async with self._records.step(participant) as step:
            step.update(SOURCES, {"name": name}, {"running": running})

    def _changed(self) -> None:
        for wake in self._wakers:
            wake()


async def _first(reading: Any, pump: asyncio.Task[None]) -> None:
    """Await the reader, but not beyond the end of the pump, which ends only when the sink refuses for good."""
    task = asyncio.ensure_future(reading)
    try:
        await asyncio.wait({task, pump}, return_when=asyncio.FIRST_COMPLETED)
        if pump.done() and not task.done():
            pump.result()
        await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, GuantongError):
                await task
        elif not task.cancelled():
            task.exception()  # seen: the supervisor may itself be ending
