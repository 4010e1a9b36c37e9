"""The twelve disturbances (D1 to D12): what is done, and when a gateway passes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.disturbances.ledger import Kept, Ledger, account, read_ledger, read_offered
from bench.disturbances.peers import GATEWAYS, NODE, ROOT, Broker, Gateway, OpcServer, Process, free_port
from bench.disturbances.proxy import Line

__all__ = ["CASES", "Bench", "Case", "Row"]

BACKOFF_CAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one gateway in one case."""

    case: str
    gateway: str
    form: str
    """What was done, in few words."""
    ledger: Ledger | None
    complaints: list[str]
    """Why it does not pass; empty: it passes."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.complaints


@dataclass(frozen=True, slots=True)
class Bench:
    """How the cases are run."""

    folder: Path
    full: bool = False
    beside: bool = True
    """Whether other gateways run in the same cases."""
    commands: Mapping[str, list[str]] = field(default_factory=lambda: dict(GATEWAYS))

    def gateways(self, folder: Path, names: tuple[str, ...]) -> list[Gateway]:
        """The gateways of a case, each with a folder of its own."""
        found = []
        for name in self.commands:
            if name in names or name not in GATEWAYS:
                (folder / name).mkdir(parents=True, exist_ok=True)
                found.append(Gateway(name, self.commands[name], folder / name))
        return found

    @property
    def opc_gateways(self) -> tuple[str, ...]:
        return ("guantong", "asyncua") if self.beside else ("guantong",)


@dataclass(frozen=True, slots=True)
class Case:
    """One disturbance."""

    id: str
    says: str
    passes: str
    run: Callable[[Bench, Path], Awaitable[list[Row]]]
    needs: tuple[str, ...] = ()
    """Programs that must be on the machine."""


def command(text: str) -> list[str]:
    """A command line as typed."""
    return shlex.split(text)


# OPC UA --------------------------------------------------------------------------------------------------------------------------


class Plant:
    """A node-opcua server, and for each gateway a line of its own to it."""

    def __init__(
        self, bench: Bench, folder: Path, names: tuple[str, ...], terms: Mapping[str, Any], **options: Any
    ) -> None:
        self.server = OpcServer(folder, **options)
        self.gateways = bench.gateways(folder, names)
        self.lines: dict[str, Line] = {}
        self.terms = dict(terms)
        self.signals = [f"Item{number}" for number in range(int(self.server.options["items"]))]
        self.asked = list(self.signals)

    def source(self, gateway: Gateway) -> dict[str, Any]:
        """What a gateway is told of the server."""
        return {
            "kind": "opcua",
            "url": f"opc.tcp://127.0.0.1:{self.lines[gateway.name].port}/",
            "signals": self.asked,
            "terms": self.terms,
        }

    async def each(self, what: Callable[[Line], Awaitable[Any]]) -> None:
        """The same disturbance on every line at the same time."""
        await asyncio.gather(*(what(line) for line in self.lines.values()))

    async def run_for(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def end(self, settle_s: float) -> dict[str, Kept]:
        """No more is offered; what is on the way arrives; every gateway writes its ledger."""
        await self.server.tell(do="halt")
        await asyncio.sleep(settle_s)
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        return {gateway.name: read_ledger(gateway.ledger) for gateway in self.gateways}


@contextlib.asynccontextmanager
async def plant(
    bench: Bench,
    folder: Path,
    *,
    names: tuple[str, ...] | None = None,
    terms: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    asked: list[str] | None = None,
    **options: Any,
) -> AsyncIterator[Plant]:
    """Server, lines and gateways, up and counting; all ended afterwards."""
    made = Plant(bench, folder, bench.opc_gateways if names is None else names, terms or {}, **options)
    if asked is not None:
        made.asked = asked
    try:
        await made.server.start()
        for gateway in made.gateways:
            made.lines[gateway.name] = Line(made.server.port)
            await made.lines[gateway.name].open()
        await asyncio.gather(
            *(gateway.start([made.source(gateway)], dict(settings or {})) for gateway in made.gateways)
        )
        await made.server.tell(do="go")
        yield made
    finally:
        await asyncio.gather(*(gateway.kill() for gateway in made.gateways))
        for line in made.lines.values():
            await line.close()
        await made.server.kill()


def rows(
    case: str,
    form: str,
    made: Plant,
    kept: Mapping[str, Kept],
    judge: Callable[[Ledger, Kept], list[str]],
    signals: list[str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> list[Row]:
    """A row for each gateway."""
    offered = read_offered(made.server.offered, made.signals if signals is None else signals)
    found = []
    for name, one in kept.items():
        ledger = account(offered, one)
        found.append(Row(case, name, form, ledger, judge(ledger, one), {**(facts or {}), **said(one)}))
    return found


def said(kept: Kept) -> dict[str, Any]:
    """Of a gateway's own facts those that belong in a report."""
    return {key: value for key, value in kept.facts.items() if key in ("duplicates removed", "refused", "corrections")}


def lossless(ledger: Ledger, _: Kept) -> list[str]:
    found = []
    for name in ("missing", "duplicated", "out_of_order", "altered", "overclaimed"):
        if getattr(ledger, name):
            found.append(f"{getattr(ledger, name)} {name.replace('_', ' ')}")
    return found


def counted(ledger: Ledger, _: Kept) -> list[str]:
    """Something may be missing, and gap records say exactly what."""
    found = []
    for name in ("undeclared", "overclaimed", "duplicated", "out_of_order", "altered"):
        if getattr(ledger, name):
            found.append(f"{getattr(ledger, name)} {name.replace('_', ' ')}")
    return found


async def cuts(bench: Bench, folder: Path) -> list[Row]:
    """D1."""
    found: list[Row] = []
    for seconds in (3.0, 8.0, 20.0) if bench.full else (1.0,):
        below = folder / f"{seconds:g}"
        below.mkdir(parents=True)
        items = 50 if bench.full else 20
        async with plant(bench, below, items=items) as made:
            await made.run_for(2.0 if bench.full else 1.0)
            await made.each(lambda line, s=seconds: line.cut_for(s))  # type: ignore[misc]
            await made.run_for(6.0 if bench.full else 2.5)
            kept = await made.end(2.0)
        found += rows("D1", f"cut of {seconds:g} s, {items} items at 10 Hz", made, kept, lossless)
    return found


async def long_outage(bench: Bench, folder: Path) -> list[Row]:
    """D2."""
    seconds, queue = (15.0, 20) if bench.full else (2.5, 8)

    def judge(ledger: Ledger, kept: Kept) -> list[str]:
        found = counted(ledger, kept)
        if not ledger.missing:
            found.append("nothing was lost: the outage was no longer than the queue")
        if not any("overflow" in gap.get("reason", "") for gap in kept.gaps):
            found.append("no gap record names the overflow")
        return found

    async with plant(bench, folder, items=20, terms={"queue": queue}) as made:
        await made.run_for(1.0)
        await made.each(lambda line: line.cut_for(seconds))
        await made.run_for(4.0 if bench.full else 2.5)
        kept = await made.end(1.5)
    return rows("D2", f"cut of {seconds:g} s, server queue of {queue} values", made, kept, judge)


async def server_restart(bench: Bench, folder: Path) -> list[Row]:
    """D3."""
    async with plant(bench, folder, items=20) as made:
        await made.run_for(2.0 if bench.full else 1.0)
        await made.server.kill()
        await asyncio.sleep(5.0 if bench.full else 0.5)
        await made.server.start(halted=False)
        began = time.time_ns()
        await made.run_for(10.0 if bench.full else 3.5)
        kept = await made.end(1.0)
    offered = read_offered(made.server.offered, made.signals)

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = counted(ledger, one)
        after = [at for signal, number, at, _ in one.rows if (signal, number) in offered and at >= began]
        wait_s = (min(after) - began) / 1e9 if after else None
        if wait_s is None or wait_s > 2 * BACKOFF_CAP_S:
            found.append(f"resubscribed after {wait_s} s")
        if len({row[0] for row in one.rows if row[2] >= began}) < len(made.signals):
            found.append("not every item came back")
        if not one.gaps:
            found.append("no gap record")
        return found

    return rows("D3", "server killed and started anew", made, kept, judge)


async def renumbered(bench: Bench, folder: Path) -> list[Row]:
    """D4."""
    gone = ["Item3"]
    async with plant(bench, folder, items=20, settings={"connect": {"bad_node_retry_s": 0.5}}) as made:
        await made.run_for(1.0)
        await made.server.kill()
        await made.server.start(halted=False, before=["urn:newcomer.example", "urn:other.example"], omit=gone)
        await made.run_for(8.0 if bench.full else 3.0)
        others = made.server.next
        await made.server.tell(do="add", names=gone)
        back = made.server.next
        await made.run_for(5.0 if bench.full else 2.0)
        kept = await made.end(1.0)

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = counted(ledger, one)
        running = {row[0] for row in one.rows if row[1] >= others - 5}
        if len(running - set(gone)) < len(made.signals) - len(gone):
            found.append("not every remaining item went on")
        if not any(row[0] in gone and row[1] > back for row in one.rows):
            found.append("the item that came back was not taken up again")
        return found

    signals = [name for name in made.signals if name not in gone]
    return rows(
        "D4",
        "restart with two namespaces before ours, new NodeIds, one item gone for a while",
        made,
        kept,
        judge,
        signals,
    )


async def bad_node(bench: Bench, folder: Path) -> list[Row]:
    """D5."""
    items = 1000 if bench.full else 200
    asked = [f"Item{number}" for number in range(items)]
    asked.insert(items // 2, "Missing")
    async with plant(
        bench,
        folder,
        items=items,
        hz=10 if bench.full else 5,
        asked=asked,
        settings={"connect": {"bad_node_retry_s": 0.5}},
    ) as made:
        await made.run_for(5.0 if bench.full else 1.5)
        await made.server.tell(do="add", names=["Missing"])
        back = made.server.next
        await made.run_for(4.0 if bench.full else 1.5)
        kept = await made.end(5.0 if bench.full else 1.5)

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = lossless(ledger, one)
        if not any(row[0] == "Missing" and row[1] > back for row in one.rows):
            found.append("the bad node was not tried again")
        if "quarantined" in one.facts and not any("Missing" in text for text in one.facts["quarantined"]):
            found.append("the bad node is not in quarantine")
        return found

    return rows("D5", f"one of {items + 1} nodes unknown, later there", made, kept, judge)


async def black_hole(bench: Bench, folder: Path) -> list[Row]:
    """D6."""
    silence = 6.0 if bench.full else 2.0
    settings = {"connect": {"silence_s": silence, "heartbeat_s": silence / 3, "connect_timeout_s": 1.0}}
    hole = 3 * silence if bench.full else 3.0
    async with plant(bench, folder, items=20, settings=settings) as made:
        await made.run_for(1.0)
        began = time.time_ns()
        await made.each(lambda line: line.swallow_for(hole))
        ended = time.time_ns()
        await made.run_for(8.0 if bench.full else 4.0)
        kept = await made.end(1.5)

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = lossless(ledger, one)
        lost = [event["at"] for event in one.events if event["event"] == "lost"]
        if one.events and (not lost or not 0 <= (lost[0] - began) / 1e9 <= silence + 0.5):
            found.append("the dead line was found out too late")
        if max((row[2] for row in one.rows), default=0) < ended:
            found.append("it hangs")
        return found

    return rows("D6", f"{hole:g} s without a byte and without a reset; silence limit {silence:g} s", made, kept, judge)


async def sink_down(bench: Bench, folder: Path) -> list[Row]:
    """D7."""
    cap = 64 * 2**20 if bench.full else 3 * 2**20
    pad = 60_000 if bench.full else 24_000  # random letters: in the log a value is so many bytes, less a quarter
    weight = 0.75 * pad
    options = {"sink_down": True, "keep": {"log_bytes_max": cap, "commit_s": 1.0}}
    async with plant(
        bench,
        folder,
        names=("guantong",),
        items=1,
        hz=100,
        pad=pad,
        terms={"queue": 100 if bench.full else 30},
        settings=options,
    ) as made:
        while made.server.next * weight < 2.2 * cap:
            await made.run_for(0.5)
        (gateway,) = made.gateways
        assert gateway.process is not None
        await gateway.process.say("sink-up")
        await made.run_for(25.0 if bench.full else 5.0)  # the log is drained and committed before there is room
        kept = await made.end(4.0)
    offered_bytes = weight * made.server.next

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = counted(ledger, one)
        if offered_bytes < 2 * cap:
            found.append("the cap was not passed twice")
        first = min((number for (_, number) in missing(made, one)), default=0)
        if first and weight * first < 0.85 * cap:
            found.append(f"lost from number {first} on, before the cap")
        if not one.facts.get("refused"):
            found.append("nothing was refused: the cap was not reached")
        return found

    return rows(
        "D7",
        f"{offered_bytes / 2**20:.0f} MiB while the sink is down, log of {cap / 2**20:g} MiB; policy: hold at the source",
        made,
        kept,
        judge,
    )


def missing(made: Plant, one: Kept) -> list[tuple[str, int]]:
    """Readings that were offered and not kept."""
    have = {(signal, number) for signal, number, _, _ in one.rows}
    return [key for key in read_offered(made.server.offered, made.signals) if key not in have]


async def power_cut(bench: Bench, folder: Path) -> list[Row]:
    """D8."""
    times = 5 if bench.full else 1
    async with plant(bench, folder, names=("guantong",), items=50 if bench.full else 20) as made:
        (gateway,) = made.gateways
        for _ in range(times):
            await made.run_for(2.0 if bench.full else 1.5)
            await gateway.kill()
            await asyncio.sleep(0.5)
            await gateway.start([made.source(gateway)])
        await made.run_for(3.0 if bench.full else 1.5)
        kept = await made.end(1.5)
    return rows("D8", f"kill -9 of the gateway, {times} times, mid-stream", made, kept, counted)


# Modbus and Sparkplug ------------------------------------------------------------------------------------------------------------


async def late_replies(bench: Bench, folder: Path) -> list[Row]:
    """D9."""
    registers, steps = (40, 8) if bench.full else (12, 3)
    port = free_port()
    device = Process([str(NODE), str(ROOT / "tests/peers/modbus_server.js"), str(port)], name="modbus-serial")
    # one request a register (nothing is read along), so that each late reply could be taken for another's
    properties = [
        {"key": f"r{number}", "href": f"{number * 10}", "form": [["modv_type", "xs:unsignedShort"]]}
        for number in range(registers)
    ]
    source = {
        "kind": "modbus",
        "url": f"modbus+tcp://127.0.0.1:{port}/1/",
        "properties": properties,
        "terms": {"interval_ms": 100, "skip": 0},
    }
    (gateway,) = bench.gateways(folder, ("guantong",))
    try:
        await device.start()
        await device.hear("ready")
        for number in range(registers):
            await device.say(f"set {number * 10} {number}")
        await device.hear(f"done set {(registers - 1) * 10} ")
        await gateway.start([source], {"connect": {"poll_timeout_s": 0.25}})
        await device.say("late 400 7")  # later than the limit: the answer comes when another question is open
        for step in range(1, steps + 1):
            for number in range(registers):
                await device.say(f"set {number * 10} {step * 1000 + number}")
            await asyncio.sleep(registers / 7 * 0.5 + 2.0)
        await gateway.stop()
    finally:
        await gateway.kill()
        await device.kill()
    # what the peer itself says it was told to hold
    offered = {
        (f"r{int(word[2]) // 10}", int(word[3]))
        for line in device.heard
        if len(word := line.split()) == 4 and word[:2] == ["done", "set"]
    }
    kept = read_ledger(gateway.ledger)
    seen = {(signal, number) for signal, number, _, _ in kept.rows}
    wrong = sum((signal, number) not in offered for signal, number in seen)
    asked = sum(line.startswith("ask") for line in device.heard)
    ledger = Ledger(
        len(offered), len(offered & seen), len(offered - seen), 0, 0, len(kept.gaps), len(offered - seen), 0, wrong
    )
    complaints = [f"{wrong} replies attributed to another request"] if wrong else []
    if offered - seen:
        complaints.append(f"{len(offered - seen)} values never read")
    return [
        Row(
            "D9",
            "guantong",
            f"every 7th of {asked} replies 400 ms late, limit 250 ms",
            ledger,
            complaints,
            {"requests": asked},
        )
    ]


async def edge_node(bench: Bench, folder: Path) -> list[Row]:
    """D10."""
    count = 100 if bench.full else 40  # the number has 256 values: more at once could not be told apart
    broker = Broker(folder)
    offered_file = folder / "offered"
    (gateway,) = bench.gateways(folder, ("guantong",))
    url = f"127.0.0.1:{broker.port}"
    edge = Process(
        [str(NODE), str(ROOT / "tests/peers/sparkplug_edge.js"), f"mqtt://{url}", "plant", "cell", str(offered_file)],
        name="sparkplug-client",
    )
    try:
        await broker.start()
        await edge.start()
        await edge.hear("birth")  # nobody hears it
        options = {"connect": {"reorder_s": 0.3}, "revisions": True}
        await gateway.start([{"kind": "sparkplug", "url": f"sparkplug://{url}/", "signals": []}], options, wait=False)
        while not any(
            line.startswith("ncmd") for line in edge.heard
        ):  # until the host is there to hear what it can't read
            await edge.say("data 1")
            await asyncio.sleep(0.4)
            if not edge.alive:
                raise RuntimeError("the edge node ended")
        first = sum(line.startswith("ncmd") for line in edge.heard)
        unread = len(offered_file.read_text("utf-8").splitlines())
        assert gateway.process is not None
        await gateway.process.hear("up")
        await asyncio.sleep(0.5)
        births = sum(line.startswith("birth") for line in edge.heard)
        for _part in range(4 if bench.full else 2):
            await edge.say(f"data {count}")
            await edge.hear("done data", after=len(edge.heard) - 1)
            before = len(edge.heard)
            await edge.say("skip")  # a number is missing, and data goes on while the second birth is on its way
            await edge.say(f"data {count}")
            await edge.hear("ncmd", after=before)
            await edge.say(f"data {count}")
            await asyncio.sleep(1.5)
        await gateway.stop()
    finally:
        await gateway.kill()
        await edge.kill()
        await broker.kill()
    parts = 4 if bench.full else 2
    ncmds = sum(line.startswith("ncmd") for line in edge.heard)
    lines = [json.loads(line) for line in offered_file.read_text("utf-8").splitlines()]
    lines = lines[max(0, unread - 11) :]  # from the birth that the host asked for: eleven metrics
    offered = {
        (f"plant/cell/{'mill/' if one['device'] else ''}{one['name']}", int(one["timestamp"]), one["value"])
        for one in lines
    }
    kept = read_ledger(gateway.ledger)
    rows_ = [json.loads(line) for line in gateway.ledger.read_text("utf-8").splitlines() if line.startswith("[")]
    seen = {(row[5], row[2] // 1_000_000, row[4]) for row in rows_}
    ours = offered & seen
    wrong = sum(
        signal.endswith(("offset", "long")) and isinstance(value, int) and value > 0 for signal, _, value in seen
    )
    sequence = [gap for gap in kept.gaps if gap.get("unit") == "sequence"]
    ledger = Ledger(len(offered), len(ours), len(offered - seen), 0, 0, len(kept.gaps), len(offered - seen), 0, wrong)
    complaints = []
    if offered - seen:
        complaints.append(f"{len(offered - seen)} missing")
    if wrong:
        complaints.append(f"{wrong} signed values came as unsigned")
    if first != 1:
        complaints.append(f"rebirth asked {first} times for the missed birth")
    if ncmds - first != parts:
        complaints.append(f"rebirth asked {ncmds - first} times for {parts} missing numbers")
    if sum(gap["count"] for gap in sequence) != parts:
        complaints.append("gap records do not name the missing numbers")
    return [
        Row(
            "D10",
            "guantong",
            f"missed birth, {parts} missing numbers, data racing the second birth, signed aliases",
            ledger,
            complaints,
            {"births": births},
        )
    ]


async def clock_step(bench: Bench, folder: Path) -> list[Row]:
    """D11."""
    step_s, skew_s = 37, 90
    async with plant(bench, folder, names=("guantong",), items=4, hz=10, shift=skew_s * 1000) as made:
        await made.run_for(20.0 if bench.full else 7.0)
        await made.server.tell(do="step", ms=step_s * 1000)
        await made.run_for(20.0 if bench.full else 7.0)
        kept = await made.end(1.0)

    def judge(ledger: Ledger, one: Kept) -> list[str]:
        found = lossless(ledger, one)
        offsets = sorted(-float(value["offset_s"]) for value in one.facts.get("corrections", ()) if "offset_s" in value)
        for wanted in (skew_s, skew_s + step_s):
            if not any(abs(abs(offset) - wanted) < 1.0 for offset in offsets):
                found.append(f"no offset of {wanted} s among {offsets}")
        return found

    return rows("D11", f"source clock {skew_s} s ahead, then a step of {step_s} s", made, kept, judge)


async def flapping(bench: Bench, folder: Path) -> list[Row]:
    """D12."""
    times, up, down = (40, 0.7, 0.3) if bench.full else (6, 0.3, 0.15)
    async with plant(bench, folder, items=20) as made:
        await made.run_for(1.0)
        await made.each(lambda line: line.flap(times, up_s=up, down_s=down))
        await made.run_for(6.0 if bench.full else 3.0)
        kept = await made.end(2.0)
    sessions = made.server.sessions()
    found = rows("D12", f"{times} times down for {down:g} s and up for {up:g} s", made, kept, lossless)
    for row in found:
        most = sessions.get(row.gateway, 0)
        row.facts["sessions at once"] = most  # type: ignore[index]
        if most != 1:
            row.complaints.append(f"{most} sessions at once on the server")
    return found


CASES: tuple[Case, ...] = (
    Case("D1", "TCP cut, server queue deep enough", "0 missing, 0 duplicates after fusion, order kept", cuts),
    Case(
        "D2",
        "outage longer than the server's queue",
        "loss counted; the overflow bit becomes a gap record",
        long_outage,
    ),
    Case("D3", "server restart, new session", "resubscribed within twice the back-off cap; gap record", server_restart),
    Case(
        "D4",
        "NodeIds vanish, namespace index renumbered",
        "found by namespace URI and browse path; the others keep running",
        renumbered,
    ),
    Case("D5", "one bad node in a batch", "others subscribed; the bad one quarantined and retried", bad_node),
    Case("D6", "black hole, no reset", "found out within the limit of silence; no hang, nothing lost", black_hole),
    Case(
        "D7",
        "sink down beyond the log's cap",
        "no loss up to the cap, then the declared policy and counters",
        sink_down,
    ),
    Case("D8", "kill -9 mid-batch", "at most the last unsynced batch lost, and reported", power_cut),
    Case("D9", "late Modbus replies", "no reply attributed to another request", late_replies),
    Case(
        "D10",
        "Sparkplug: missed birth, missing number, racing birth, signed aliases",
        "rebirth asked for once each; types right",
        edge_node,
        ("mosquitto",),
    ),
    Case("D11", "source clock step and skew", "offset estimated; source time preserved", clock_step),
    Case("D12", "flapping link", "at most one session a connection on the server, nothing lost", flapping),
)
