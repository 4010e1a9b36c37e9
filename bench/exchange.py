"""One exchange between two nodes on loopback: two processes, real HTTP, durable records on this disk.

    .venv/bin/python bench/exchange.py [--exchanges 200] [--warm-up 20] [--json] [--profile FOLDER]

An exchange is catalogue, negotiation (request, agreement, verification, finalized), transfer (request, start), first byte, data
complete; eight HTTP requests, five from the customer and three from the supplier. The countersigned receipt follows and is timed apart. Beside it,
turn by turn in the same run, stands a bare exchange: the same eight requests between the same two processes' worth of uvicorn
(httptools, uvloop) and aiohttp, without records, signatures, rules or the data's own bytes (every body is 1,200 bytes). Ratio: ours by bare, medians. A disk's flush is timed beside both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
PURPOSE = "incoming inspection"
HOPS = (
    "catalogue",
    "request on record",
    "agreement verified",
    "finalized",
    "transfer asked",
    "transfer started",
    "first byte",
    "data complete",
)
"""The hops of an exchange, as the customer sees them, in order. The receipt comes after."""

MESSAGE = b"x" * 1200
"""About what a protocol message with its context and offer weighs."""
TOKEN = "Bearer " + "x" * 420


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process, MB of 2^20 bytes (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def flush_ms(folder: Path, times: int = 100) -> list[float]:
    """What the disk takes to make 4 KiB durable, ms."""
    taken = []
    with (folder / "flush").open("ab") as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def quantiles(values: list[float]) -> dict[str, float]:
    """min, p50, p95, max."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "min": ordered[0],
        "p50": statistics.median(ordered),
        "p95": ordered[min(last, round(0.95 * last))],
        "max": ordered[-1],
    }


def hop_medians(laps: list[list[float]]) -> dict[str, float]:
    """Median of each hop, ms; a lap holds seconds since its start, one a hop."""
    hops = [[b - a for a, b in zip([0.0, *lap], lap, strict=False)] for lap in laps]
    return {name: statistics.median(lap[at] for lap in hops) * 1000 for at, name in enumerate(HOPS)}


# -- one side in a process of its own: commands come in as JSON lines, answers go out as JSON lines


class Side:
    """A real node, told what to do."""

    def __init__(self, directory: str) -> None:
        from guantong.config import load
        from guantong.node import Node

        self.node = Node(load({"node.directory": directory, "web.port": 0}, environment={}))
        self.commits = 0
        self._cpu = 0.0

    async def start(self) -> dict[str, Any]:
        await self.node.start()
        address = await self.node.serve()
        self.node.records.on_commit(self._committed)
        return {"participant": self.node.participant, "address": address}

    def _committed(self) -> None:
        self.commits += 1

    async def prepare(self, partner: str, rows: int) -> dict[str, Any]:
        """Readings through the node's own log, fused, described, with a statement of rights, on offer."""
        from guantong.base.clock import iso
        from guantong.describe.model import Dataset
        from guantong.exchange.model import Product
        from guantong.govern.model import Rights, SubjectFacts

        sys.path.insert(0, str(HERE.parent))
        from fuse import batches

        node, me = self.node, self.node.participant
        for batch in batches(rows, 4):
            await node.keep.take(me, batch)
        await node.fuse.drain(me)
        await node.keep.flush(me)
        signals = await node.fuse.signals(me)
        await node.describe.define(
            me, Dataset("bench", "Bench", "测量", kind="readings", signals=tuple(signal.id for signal in signals))
        )
        graded = await node.govern.classify(
            me, [SubjectFacts(f"signal:{signal.id}", signal.native_id, unit=signal.unit) for signal in signals]
        )
        await node.govern.regrade(me, "dataset:bench", tuple(item.id for item in graded))
        rights = Rights("bench", me, me, me, "own production", "bench", valid_from=iso(node.clock.now(), digits=0))
        await node.govern.state_rights(me, rights)
        constraints = [
            {"leftOperand": "recipient", "operator": "eq", "rightOperand": partner},
            {"leftOperand": "purpose", "operator": "eq", "rightOperand": PURPOSE},
            {"leftOperand": "count", "operator": "lteq", "rightOperand": "10"},
        ]
        policy = {"permission": [{"action": "use", "constraint": constraints}]}
        price = {"currency": "CNY", "charges": [{"per": "transfer", "price": "5.00"}], "minimum": "5.00"}
        await node.exchange.offer(me, Product("bench", "bench", policy, title_en="Bench", title_zh="测量", price=price))
        return {"signals": len(signals)}

    async def exchanges(self, address: str, partner: str, count: int) -> dict[str, Any]:
        """Run exchanges one after the other; per exchange the seconds at the end of each hop, then of the receipt."""
        laps, receipts, rows = [], [], 0
        for _ in range(count):
            lap, receipt, rows = await self._one(address + "/dsp/2025-1", partner)
            laps.append(lap)
            receipts.append(receipt)
        return {"laps": laps, "receipts": receipts, "rows": rows}

    async def crowd(self, address: str, partner: str, count: int, at_once: int) -> dict[str, Any]:
        """Run exchanges, ``at_once`` of them under way at any time; the seconds of each, and how many were lost."""
        from guantong.base.errors import GuantongError

        seconds: list[float] = []
        left = iter(range(count))
        lost = 0

        async def runner() -> None:
            nonlocal lost
            for _ in left:
                began = time.perf_counter()
                try:
                    await self._one(address + "/dsp/2025-1", partner)
                except (AssertionError, GuantongError, StopIteration) as error:
                    lost += 1
                    print(f"lost: {error!r}", file=sys.stderr, flush=True)
                else:
                    seconds.append(time.perf_counter() - began)

        await asyncio.gather(*(runner() for _ in range(at_once)))
        return {"seconds": seconds, "lost": lost}

    async def _one(self, base: str, partner: str) -> tuple[list[float], float, int]:
        exchange, me = self.node.exchange, self.node.participant
        clock = time.perf_counter
        lap: list[float] = []
        began = clock()
        catalogue = await exchange.catalogue(me, base, partner)
        offer = next(item for item in catalogue.offers if item.dataset_id == "bench")
        lap.append(clock() - began)
        pid = await exchange.negotiate(me, base, partner, offer)
        lap.append(clock() - began)
        negotiation = await exchange.wait_negotiation(me, pid, states=("VERIFIED", "FINALIZED", "TERMINATED"))
        lap.append(clock() - began)
        negotiation = await exchange.wait_negotiation(me, pid)
        assert negotiation.state == "FINALIZED", negotiation.reason
        lap.append(clock() - began)
        transfer_pid = await exchange.request_transfer(me, negotiation.agreement_id)
        lap.append(clock() - began)
        transfer = await exchange.wait_transfer(me, transfer_pid)
        assert transfer.state == "STARTED", transfer.reason
        lap.append(clock() - began)
        rows = 0
        first = 0.0
        async for batch in exchange.pull(me, transfer_pid, purpose=PURPOSE):
            first = first or clock() - began
            rows += batch.num_rows
        lap += [first, clock() - began]
        found = await exchange.wait_receipts(me, negotiation.agreement_id)
        assert [item.state for item in found] == ["acknowledged"], found
        return lap, clock() - began, rows

    async def settle(self) -> dict[str, Any]:
        """Let what runs behind (witnesses, notes of arrivals) come to rest."""
        await self.node.outbox.drained()
        await asyncio.sleep(0.3)
        return {}

    async def counters(self) -> dict[str, Any]:
        return {"commits": self.commits, "cpu_s": time.process_time(), "rss_mb": resident_mb()}

    async def stop(self) -> None:
        await self.node.stop()


class BareSide:
    """The floor: the same requests between uvicorn and aiohttp, nothing behind them."""

    def __init__(self, directory: str) -> None:
        self.partner = ""
        self._events: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> dict[str, Any]:
        import socket

        import aiohttp
        import uvicorn

        self.session = aiohttp.ClientSession()
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
        )
        self.server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self.server.serve([listening]))
        while not self.server.started:
            await asyncio.sleep(0.01)
        return {"participant": "", "address": f"http://127.0.0.1:{listening.getsockname()[1]}"}

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        word = scope["path"].rpartition("/")[2]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1200")]})
        await send({"type": "http.response.body", "body": MESSAGE})
        answers = {
            "request": "agreement",
            "agreement": "verification",
            "verification": "finalized",
            "transfer": "start",
        }
        if word in answers:
            task = asyncio.create_task(self._post(answers[word]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if word in self._events:
            self._events[word].set()

    async def _post(self, word: str) -> None:
        async with self.session.post(
            f"{self.partner}/{word}", data=MESSAGE, headers={"authorization": TOKEN}
        ) as answer:
            await answer.read()

    async def meet(self, address: str) -> dict[str, Any]:
        self.partner = address
        return {}

    async def exchanges(self, address: str, partner: str, count: int) -> dict[str, Any]:
        laps = []
        for _ in range(count):
            began = time.perf_counter()
            finalized, started = asyncio.Event(), asyncio.Event()
            self._events = {"finalized": finalized, "start": started}
            await self._post("catalogue")
            await self._post("request")
            await finalized.wait()
            await self._post("transfer")
            await started.wait()
            await self._post("data")
            laps.append([time.perf_counter() - began])
        return {"laps": laps}

    async def counters(self) -> dict[str, Any]:
        return {"cpu_s": time.process_time()}

    async def stop(self) -> None:
        self.server.should_exit = True
        await self._serving
        await self.session.close()


async def obey(side: Any, profile: str) -> None:
    """Start the side and carry out commands until standard input ends."""
    loop = asyncio.get_running_loop()
    say: Callable[[Any], None] = lambda found: print(json.dumps(found), flush=True)  # noqa: E731
    profiler = None
    say(await side.start())
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    try:
        while line := await lines.readline():
            order = json.loads(line)
            if order["do"] == "profile":
                import cProfile

                profiler = cProfile.Profile()
                profiler.enable()
                say({})
                continue
            act: Callable[..., Awaitable[Any]] = getattr(side, order["do"])
            say(await act(**order.get("with", {})))
    finally:
        if profiler is not None:
            profiler.disable()
            profiler.dump_stats(profile)
        await side.stop()


# -- the director


class Told:
    """A side's process, as its director sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def begin(cls, role: str, directory: Path, *, bare: bool, profile: str) -> Told:
        """Start the process of a side."""
        arguments = [str(HERE), "--role", role, "--directory", str(directory), "--profile", profile]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            *(["--bare"] if bare else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        return cls(process)

    async def heard(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("a side of the bench ended early; its error stands above")
        found: dict[str, Any] = json.loads(line)
        return found

    async def do(self, verb: str, **given: Any) -> dict[str, Any]:
        """Give a command, wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": verb, "with": given}).encode() + b"\n")
        return await self.heard()

    async def end(self) -> None:
        """Let the process stop by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 20)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def measure(exchanges: int, warm_up: int, rows: int, profile: str) -> dict[str, Any]:
    """Ours and bare in turns of a fifth of the exchanges each; every figure of the run."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        flushes = flush_ms(folder)
        told: list[Told] = []
        try:
            for bare in (False, True):
                for role in ("supplier", "customer"):
                    where = f"{profile}/{role}.prof" if profile and not bare else ""
                    told.append(await Told.begin(role, folder / f"{role}{bare}", bare=bare, profile=where))
            known = [await side.heard() for side in told]
            supplier, customer, bare_supplier, bare_customer = told
            await bare_supplier.do("meet", address=known[3]["address"])
            await bare_customer.do("meet", address=known[2]["address"])
            await supplier.do("prepare", partner=known[1]["participant"], rows=rows)
            partner = {"address": known[0]["address"], "partner": known[0]["participant"]}
            await customer.do("exchanges", **partner, count=warm_up)
            await bare_customer.do("exchanges", **partner, count=warm_up)
            for side in (supplier, customer):
                await side.do("settle")
            if profile:
                for side in (supplier, customer):
                    await side.do("profile")
            before = [await side.do("counters") for side in told]
            laps: list[list[float]] = []
            receipts: list[float] = []
            floor: list[float] = []
            turn = max(1, exchanges // 5)
            while len(laps) < exchanges:
                found = await customer.do("exchanges", **partner, count=min(turn, exchanges - len(laps)))
                laps += found["laps"]
                receipts += found["receipts"]
                bare_found = await bare_customer.do("exchanges", **partner, count=turn)
                floor += [lap[-1] * 1000 for lap in bare_found["laps"]]
            for side in (supplier, customer):
                await side.do("settle")
            after = [await side.do("counters") for side in told]
        finally:
            for side in told:
                await side.end()
        flushes += flush_ms(folder)
    ours = quantiles([lap[-1] * 1000 for lap in laps])
    bare_figures = quantiles(floor)
    gone = [
        {name: later[name] - earlier[name] for name in earlier} for earlier, later in zip(before, after, strict=True)
    ]
    return {
        "exchanges": exchanges,
        "rows": found["rows"],
        "exchange_ms": ours,
        "hops_ms": hop_medians(laps),
        "with_receipt_ms": quantiles([value * 1000 for value in receipts]),
        "bare_ms": bare_figures,
        "ratio": ours["p50"] / bare_figures["p50"],
        "flush_ms": quantiles(flushes),
        "commits_per_exchange": {
            "supplier": gone[0]["commits"] / exchanges,
            "customer": gone[1]["commits"] / exchanges,
        },
        "cpu_ms_per_exchange": {
            "supplier": gone[0]["cpu_s"] * 1000 / exchanges,
            "customer": gone[1]["cpu_s"] * 1000 / exchanges,
            "bare_both": (gone[2]["cpu_s"] + gone[3]["cpu_s"]) * 1000 / len(floor),
        },
        "rss_mb": {"supplier": after[0]["rss_mb"], "customer": after[1]["rss_mb"]},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def show(found: dict[str, Any]) -> None:
    """The figures as text."""

    def line(name: str, values: dict[str, float]) -> None:
        print(f"{name:<44}" + "  ".join(f"{key} {value:8.2f}" for key, value in values.items()))

    print(f"{found['exchanges']} exchanges of {found['rows']} rows; load {found['load']:.1f}; milliseconds")
    line("exchange, catalogue to data complete", found["exchange_ms"])
    line("bare ASGI + aiohttp, as many requests", found["bare_ms"])
    print(f"{'ratio of the medians':<44}    {found['ratio']:8.2f}")
    line("exchange with the countersigned receipt", found["with_receipt_ms"])
    line("the disk's flush of 4 KiB", found["flush_ms"])
    for name, value in found["hops_ms"].items():
        print(f"    {name:<40}    {value:8.2f}")
    line("commits an exchange", found["commits_per_exchange"])
    line("CPU ms an exchange", found["cpu_ms_per_exchange"])
    line("resident MB after it", found["rss_mb"])


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--exchanges", type=int, default=200)
    options.add_argument("--warm-up", type=int, default=20)
    options.add_argument("--rows", type=int, default=400, help="rows of the dataset that is transferred")
    options.add_argument("--quick", action="store_true", help="40 exchanges")
    options.add_argument("--json", action="store_true")
    options.add_argument("--profile", default="", help="folder for a cProfile of each node's event loop")
    for name in ("--role", "--directory"):
        options.add_argument(name, default="", help=argparse.SUPPRESS)
    options.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.role:
        from guantong.node import run_async

        side = (BareSide if given.bare else Side)(given.directory)
        run_async(obey(side, given.profile))
        return
    found = asyncio.run(measure(40 if given.quick else given.exchanges, given.warm_up, given.rows, given.profile))
    if given.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
