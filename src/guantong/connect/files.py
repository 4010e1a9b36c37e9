"""Files: one, or all that come into a watched folder. Recordings of SHDR, MTConnect streams, QIF reports, CSV and Parquet.

A file in a folder is taken when its size and time have stood still between two looks; its digest is remembered, so that a file is
taken once, whatever its name.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import url2pathname

from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.connect.columns import Readings
from guantong.connect.delivery import Delivery
from guantong.connect.model import Imported, Interface
from guantong.connect.rules import address_parts, names_of, units_of

__all__ = [
    "FileReader",
    "FolderReader",
    "digest_of",
    "form_of",
    "interface_for_file",
    "path_of",
    "read_bytes",
    "read_file",
]

Known = Callable[[str], Awaitable[bool]]
Done = Callable[[Imported], Awaitable[None]]

_HEAD_BYTES = 64 * 1024
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # .xls


def path_of(base: str) -> Path:
    """The path of ``file:///…`` or of a plain path. Raises ConfigProblem ``connect.address-unusable``."""
    parts = address_parts(base)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigProblem("connect.address-unusable", base=base, reason="a file of this machine is expected")
        return Path(url2pathname(parts.path) if "%" in parts.path else unquote(parts.path))
    if len(parts.scheme) > 1:
        raise ConfigProblem("connect.address-unusable", base=base, reason="file:///path is expected")
    return Path(base)


def interface_for_file(source: str, path: Path) -> Interface:
    """The interface that an imported file stands for."""
    try:
        form = form_of(path)
    except ConfigProblem:
        form = "csv"
    kind = {"shdr": "shdr-log", "qif": "qif"}.get(form, "folder")
    return Interface(name=source, kind=kind, base=path.resolve().as_uri(), title=path.name)  # type: ignore[arg-type]


def form_of(path: Path) -> str:
    """Form of a file, by its first bytes: ``parquet``, ``excel``, ``jsonl``, ``qif``, ``mtconnect-streams``, ``shdr`` or ``csv``.

    Raises ConfigProblem ``connect.file-unreadable``.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
    if head[:4] == b"PAR1":
        return "parquet"
    if (head[:2] == b"PK" and path.suffix.lower() in (".xlsx", ".xlsm", ".xlsb", ".ods")) or head[:8] == _OLE:
        return "excel"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<?xml", b"<QIFDocument", b"<MTConnect")):
        if b"MTConnectStreams" in head:
            return "mtconnect-streams"
        if b"QIFDocument" in head or path.suffix.lower() == ".qif":
            return "qif"
        raise ConfigProblem(
            "connect.file-unreadable", path=str(path), reason="an XML document of a kind that is not read"
        )
    if path.suffix.lower() == ".qif":
        return "qif"
    if start.startswith(b"{") and (path.suffix.lower() in (".jsonl", ".ndjson") or start[:2] in (b'{"', b"{ ")):
        return "jsonl"
    lines = [line for line in head.split(b"\n")[:200] if line.strip()]
    if lines and 2 * sum(line.count(b"|") >= 2 and line.lstrip()[:4].isdigit() for line in lines) >= len(lines):
        return "shdr"
    if head.lstrip().startswith(b"<<<<<<<") and any(line.count(b"|") >= 2 for line in lines):
        return "shdr"
    # a recording whose lines are broken is still one: some lines keep their time and key
    if any(line.count(b"|") >= 2 and line.lstrip()[4:5] == b"-" and b"T" in line[:60] for line in lines):
        return "shdr"
    if b"\x00" in head[:1000] and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason="neither text nor Parquet")
    return "csv"


async def read_file(path: Path, delivery: Delivery) -> Imported:
    """Read one file to its end into the delivery, by its form.

    Raises ConfigProblem ``connect.file-unreadable``; Skippable and Refused for documents that can't be taken.
    """
    digest, size = await asyncio.to_thread(digest_of, path, delivery.settings.file_bytes)
    form = await asyncio.to_thread(form_of, path)
    before = delivery.totals
    facts: dict[str, Any] = {"digest": digest}
    delivery.pieces.clear()
    interface = delivery.interface
    if form == "shdr":
        from guantong.connect.shdr_log import read_shdr_log
        from guantong.connect.shdr_tcp import items_of

        if interface.properties:
            delivery.note(names=names_of(interface.properties), units=units_of(interface.properties))
        facts.update(await read_shdr_log(path, delivery, items_of(interface)))
    elif form == "mtconnect-streams":
        await _read_streams(path, delivery, facts)
    elif form == "qif":
        await _read_qif(path, delivery, facts)
    elif form == "excel":
        from guantong.connect.sheets import read_workbook

        facts.update(await read_workbook(path, delivery))
    elif form == "jsonl":
        from guantong.connect.sheets import read_lines

        facts.update(await read_lines(path, delivery))
    else:
        from guantong.connect.tabular import read_tabular

        facts.update(await read_tabular(path, form, delivery))
    await delivery.flush()
    after = delivery.totals
    return Imported(
        source=delivery.source,
        path=str(path),
        form=form,
        digest=digest,
        size=size,
        lines=after[0] - before[0],
        parsed=after[1] - before[1],
        rows=after[2] - before[2],
        quarantined=after[3] - before[3],
        position=after[4] if after[4] != before[4] else None,
        facts={**facts, "quarantined": list(delivery.pieces)},
    )


async def _read_qif(path: Path, delivery: Delivery, facts: dict[str, Any]) -> None:
    from guantong.connect.qif import read_qif

    data = await asyncio.to_thread(read_bytes, path, delivery.settings.document_bytes)
    report = await asyncio.to_thread(
        read_qif, data, name=path.name, receive=delivery.clock.now(), limit=delivery.settings.document_bytes
    )
    facts.update(report.facts)
    for offset, reason, text in report.quarantined:
        delivery.quarantine(offset, reason, text)
    delivery.lines(report.results, report.results)
    note = {"file": path.name, "report": report.facts, "results": report.results}
    await delivery.send(report.rows, note, kind="measurements")


async def _read_streams(path: Path, delivery: Delivery, facts: dict[str, Any]) -> None:
    from guantong.connect.shdr import Instants
    from guantong.connect.streams import AgentFault, names_in, observations, parse_streams

    limit = delivery.settings.document_bytes
    data = await asyncio.to_thread(read_bytes, path, limit)
    try:
        header, root = await asyncio.to_thread(parse_streams, data, name=path.name, limit=limit)
    except AgentFault as fault:
        raise Skippable("connect.document-unreadable", name=path.name, reason=", ".join(fault.codes)) from fault
    known = {item.key: item for item in delivery.interface.properties}
    rows = Readings()
    numbers = observations(root, delivery.clock.now(), rows, delivery.quarantine, known, Instants())
    named = {**names_in(root), **known}
    delivery.lines(len(numbers), len(rows))
    facts.update(instance_id=header.instance, first=header.first, last=header.last)
    note: dict[str, Any] = {"file": path.name, "instance_id": header.instance, "names": names_of(named.values())}
    units = units_of(named.values())
    if units:
        note["units"] = units
    await delivery.send(rows.batch(), note, lag_s=rows.newest_lag_s())


class FileReader:
    """One file, read once to its end."""

    def __init__(self, interface: Interface, known: Known, done: Done) -> None:
        self._path = path_of(interface.base)
        self._known = known
        self._done = done

    async def run(self, delivery: Delivery) -> None:
        """Read the file unless its bytes were read before."""
        digest, _ = await asyncio.to_thread(digest_of, self._path, delivery.settings.file_bytes)
        if await self._known(digest):
            return
        await delivery.connected()
        await self._done(await read_file(self._path, delivery))


class FolderReader:
    """A watched folder. It never ends; a folder that vanishes is lost and comes back like any source."""

    def __init__(self, interface: Interface, known: Known, done: Done) -> None:
        self._folder = path_of(interface.base)
        self._pattern = interface.term("pattern") or "*"
        self._base = interface.base
        self._known = known
        self._done = done
        self._seen: dict[str, tuple[int, int]] = {}
        self._finished: dict[str, tuple[int, int]] = {}

    async def run(self, delivery: Delivery) -> None:
        """Look every ``folder_interval_s`` and take what has stood still since the last look."""
        await self._look()
        await delivery.connected()
        while True:
            for name in await self._still():
                await self._take_one(name, delivery)
            await delivery.clock.sleep(delivery.settings.folder_interval_s)

    async def _look(self) -> dict[str, tuple[int, int]]:
        def look() -> dict[str, tuple[int, int]]:
            found = {}
            for entry in self._folder.iterdir():
                if entry.name.startswith(".") or not fnmatch.fnmatch(entry.name, self._pattern):
                    continue
                try:
                    state = entry.stat()
                except FileNotFoundError:  # taken away between the listing and the look
                    continue
                if entry.is_file():
                    found[entry.name] = (state.st_size, state.st_mtime_ns)
            return found

        try:
            return await asyncio.to_thread(look)
        except OSError as error:
            raise ConfigProblem(
                "connect.file-unreadable", path=str(self._folder), reason=error.strerror or str(error)
            ) from error

    async def _still(self) -> list[str]:
        """Names of the files that look as they did last time and were not read in that form."""
        now = await self._look()
        ready = [
            name for name, state in now.items() if self._seen.get(name) == state and self._finished.get(name) != state
        ]
        self._seen = now
        return sorted(ready)

    async def _take_one(self, name: str, delivery: Delivery) -> None:
        path, state = self._folder / name, self._seen[name]
        try:
            digest, _ = await asyncio.to_thread(digest_of, path, delivery.settings.file_bytes)
            if not await self._known(digest):
                await self._done(await read_file(path, delivery))
        except (ConfigProblem, Skippable, Refused) as error:
            # one bad file does not keep the others out; it is tried again when it changes
            delivery.failed(error)
            delivery.quarantine(
                0, "hostile" if isinstance(error, Refused) else "unreadable", f"{name}: {error.message()}"
            )
            delivery.note(file=name)
            await delivery.flush()
        self._finished[name] = state


def digest_of(path: Path, limit: int) -> tuple[str, int]:
    """Digest and size of a file. Raises Skippable ``connect.document-too-large``, ConfigProblem ``connect.file-unreadable``."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise Skippable("connect.document-too-large", name=path.name, size=size, limit=limit)
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest(), size
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a file. Raises Skippable ``connect.document-too-large``, ConfigProblem ``connect.file-unreadable``."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise Skippable("connect.document-too-large", name=path.name, size=size, limit=limit)
        return path.read_bytes()
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
