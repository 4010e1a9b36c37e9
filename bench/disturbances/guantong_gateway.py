"""guantong as a gateway under measurement: connect, the durable log, fusion and tables, as a node composes them (see the package for the port)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guantong.base.clock import SystemClock
from guantong.base.errors import GuantongError
from guantong.connect.model import ConnectSettings, Form, Interface, Property
from guantong.connect.service import Connect
from guantong.fuse.service import Fuse
from guantong.keep.model import Filter, KeepSettings
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

ME = "did:web:gateway.example"
URI = "urn:machine.example"


class NoHttp:
    """Nothing here speaks HTTP."""


def interface(source: dict[str, Any]) -> Interface:
    """The configuration that a person would have made by a probe."""
    terms = tuple(sorted((name, str(value)) for name, value in source.get("terms", {}).items()))
    if source["kind"] == "opcua":
        properties = tuple(
            Property(
                f"nsu={URI};p=/Machine/{name}",
                type="integer",
                title=name,
                form=Form(f"/?id=nsu={URI};s={name}", terms=(("uav_browsePath", f"/Objects/Machine/{name}"),)),
            )
            for name in source["signals"]
        )
    else:
        properties = tuple(
            Property(
                item["key"],
                type=item.get("type"),
                form=Form(item["href"], terms=tuple(map(tuple, item.get("form", ())))),
                terms=tuple(map(tuple, item.get("terms", ()))),
            )
            for item in source.get("properties", ())
        )
    return Interface(source.get("name", "machine"), source["kind"], source["url"], properties=properties, terms=terms)


def number(row: dict[str, Any]) -> int | None:
    """The peer's number in a reading."""
    for name in ("value_i64", "value_f64", "value_text"):
        if row[name] is not None:
            try:
                return int(str(row[name]).partition(" ")[0].partition(".")[0])
            except ValueError:
                return None
    return None


def name_of(signal: str) -> str:
    return signal.rpartition("/")[2]


async def run(given: dict[str, Any]) -> None:
    folder, options = Path(given["directory"]), given.get("options", {})
    clock = SystemClock()
    records = Records(f"sqlite:///{folder / 'records.db'}", clock)
    records.open(METADATA.create_all)
    keep = Keep(folder / "keep", records, clock, KeepSettings(**options.get("keep", {})))
    settings = ConnectSettings(**{"batch_wait_s": 0.05, **options.get("connect", {})})
    connect = Connect(records, keep, clock, NoHttp(), settings)  # type: ignore[arg-type]
    fuse = Fuse(records, keep, clock)
    await keep.start()
    if not options.get("sink_down"):
        await fuse.start([ME])
    await connect.start()
    known = {one.name for one in connect.interfaces(ME)}
    for source in given["sources"]:
        one = interface(source)
        if one.name not in known:
            await connect.add(ME, one)
    stopped = asyncio.Event()
    wanted = {source.get("name", "machine") for source in given["sources"] if source.get("wait", True)}
    loop = asyncio.get_running_loop()

    async def commands() -> None:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line.strip() == b"stop":
                break
            if line.strip() == b"sink-up":
                await fuse.start([ME])
        stopped.set()

    listening = asyncio.create_task(commands())
    announced = False
    while not stopped.is_set():
        if not announced and all(card.received > 0 for card in connect.scorecards(ME) if card.source in wanted):
            announced = True
            print("up", flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 0.05)
    cards = [
        {
            "losses": card.losses,
            "gap_records": card.gap_records,
            "rejected": card.rejected,
            "received": card.received,
            "last_error": card.last_error,
        }
        for card in connect.scorecards(ME)
    ]
    await connect.stop()
    await fuse.drain(ME)
    await fuse.stop()
    await write(Path(given["ledger"]), keep, fuse, cards, revisions=bool(options.get("revisions")))
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    await keep.stop()
    records.close()


async def write(path: Path, keep: Keep, fuse: Fuse, cards: list[dict[str, Any]], *, revisions: bool) -> None:
    """Readings as the table has them, in the order of the log; gaps as they are on record, events as the log has them."""
    lines: list[str] = []
    order: dict[tuple[str, int], int] = {}
    place, after, quarantined = 0, 0, []
    while entries := await keep.read(ME, after):
        for entry in entries:
            after = entry.position
            note: dict[str, Any] = dict(entry.batch.note)
            if note.get("connection"):
                lines.append(json.dumps(note["connection"]))
            quarantined += note.get("quarantined", [])
            if entry.batch.kind == "readings":
                for row in entry.batch.rows.to_pylist():
                    place += 1
                    value = number(row)
                    if value is not None:
                        order.setdefault((name_of(row["signal"]), value), place)
    # the log is trimmed once its entries are in the tables; what is missing stays on record
    for gap in await fuse.gaps(ME):
        lines.append(json.dumps({"gap": {**asdict(gap), "signal": name_of(gap.signal) or None}}))
    await keep.flush(ME)
    names = {signal.id: signal.native_id for signal in await fuse.signals(ME)}
    async for piece in keep.scan(ME, "readings", Filter(revisions=revisions)):
        times = piece.column("source_time").cast("int64").to_pylist()
        columns = ["signal_id", "source_ns", "value_i64", "value_f64", "value_text", "value_bool"]
        for at, row in zip(times, piece.select(columns).to_pylist(), strict=True):
            signal, value = names[row["signal_id"]], number(row)
            whole = next((row[name] for name in columns[2:] if row[name] is not None), None)
            place = order.get((name_of(signal), value), 0) if value is not None else 0
            lines.append(json.dumps([name_of(signal), value, at * 1000 + row["source_ns"], place, whole, signal]))
    counts = await fuse.counts(ME)
    stats = await keep.stats(ME)
    findings = [
        {
            "kind": one.kind,
            "start": one.start,
            "end": one.end,
            "facts": {k: v for k, v in dict(one.facts).items() if isinstance(v, int | float | str)},
        }
        for one in await fuse.findings(ME)
    ]
    corrections = [dict(one.value) for one in await fuse.corrections(ME)]
    facts = {
        "cards": cards,
        "duplicates removed": counts.duplicates,
        "quarantined": [piece["text"] for piece in quarantined][:50],
        "findings": findings[:100],
        "corrections": corrections[:100],
        "refused": stats.refused,
        "log_bytes": stats.log_bytes,
    }
    lines.append(json.dumps({"facts": facts}, default=str))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    logging.basicConfig(level=os.environ.get("LEVEL", "ERROR"))
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    try:
        asyncio.run(run(given))
    except GuantongError as error:
        print(error, file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
