"""Start to ready, and resident memory idle before and after the first query: each start is a process of its own.

Resident memory is what Linux counts (``/proc/<pid>/statm``): pages of libraries included, shared or not. The node's process and the
query process beside it are printed apart; the latter ends when nobody has asked for ``keep.query-idle-s``.

    .venv/bin/python bench/start.py [--runs 5] [--quick] [--json]

Ready means: ``/readyz`` answers 200, counted from the start of the process. A fresh directory and one with a day's data. Bytecode is
kept in a folder of the bench, warmed by one start that is not counted, as an installed package has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()


def resident_mb(process: int | str = "self") -> float:
    """Resident memory of a process, MB of 2^20 bytes (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def query_process() -> float:
    """Resident memory of the children of this process, MB."""
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return sum(resident_mb(int(child)) for child in children)


async def live(directory: str) -> None:
    """A node that answers commands: fill, idle, query, stop."""
    from guantong.config import load
    from guantong.node import Node

    node = Node(load({"node.directory": directory, "web.port": 0}, environment={}))
    await node.start()
    address = await node.serve()
    print(json.dumps({"address": address}), flush=True)
    loop = asyncio.get_running_loop()
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        found: dict[str, Any] = {}
        if order == "fill":
            sys.path.insert(0, str(HERE.parent))
            from fuse import batches

            for batch in batches(100_000, 4):
                await node.keep.take(node.participant, batch)
            await node.fuse.drain(node.participant)
            await node.keep.flush(node.participant)
        elif order == "idle":
            await asyncio.sleep(1.5)
            found = {"rss_mb": resident_mb(), "cpu_s": time.process_time(), "query_process_mb": query_process()}
        elif order == "rest":
            until = time.monotonic() + node.keep.settings.query_idle_s + 5
            while query_process() and time.monotonic() < until:
                await asyncio.sleep(0.2)
            found = {"rss_mb": resident_mb(), "query_process_mb": query_process()}
        elif order == "query":
            now = time.time_ns()
            began = time.perf_counter()
            rows = await node.keep.range(node.participant, [1], now - 86_400 * 10**9, now)
            found = {"ms": (time.perf_counter() - began) * 1000, "rows": rows.num_rows}
        print(json.dumps(found), flush=True)
    await node.stop()


class Run:
    """One start, timed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--live", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        address = self._heard()["address"]
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
            assert answer.status == 200
        self.ready_s = time.perf_counter() - began

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the node ended early; its error stands above")
        found: dict[str, Any] = json.loads(line)
        return found

    def do(self, order: str) -> dict[str, Any]:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self._heard()

    def end(self) -> None:
        """Let the node stop by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


def three(values: list[float]) -> dict[str, float]:
    """min, median, max."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def measure(runs: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        filled = Run(folder / "filled", environment)
        filled.do("fill")
        filled.do("query")  # warms the bytecode of the query's libraries too
        filled.end()
        fresh, existing, cpu, before, after, first, second, beside, rested = [], [], [], [], [], [], [], [], []
        for number in range(runs):
            one = Run(folder / f"fresh{number}", environment)
            fresh.append(one.ready_s)
            one.end()
            one = Run(folder / "filled", environment)
            existing.append(one.ready_s)
            idle = one.do("idle")
            before.append(idle["rss_mb"])
            cpu.append(idle["cpu_s"])
            first.append(one.do("query")["ms"])
            second.append(one.do("query")["ms"])
            idle = one.do("idle")
            after.append(idle["rss_mb"])
            beside.append(idle["query_process_mb"])
            idle = one.do("rest")
            rested.append(idle["rss_mb"] + idle["query_process_mb"])
            one.end()
    return {
        "start to ready, fresh directory (s, target < 2)": three(fresh),
        "start to ready, with data (s, target < 2)": three(existing),
        "CPU until idle (s)": three(cpu),
        "RSS idle before the first query (MB, target < 150)": three(before),
        "RSS idle after the first query (MB, target < 150)": three(after),
        "  the query process beside it, until it has been idle (MB)": three(beside),
        "  node and query process, 30 s after the last query (MB)": three(rested),
        "first query of the process (ms)": three(first),
        "second query (ms)": three(second),
    }


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="3 runs")
    options.add_argument("--json", action="store_true")
    options.add_argument("--live", default="", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.live:
        from guantong.node import run_async

        run_async(live(given.live))
        return
    found = measure(3 if given.quick else given.runs)
    if given.json:
        print(json.dumps(found))
        return
    for name, values in found.items():
        print(f"{name:<62}" + " / ".join(f"{value:.2f}" for value in values.values()))


if __name__ == "__main__":
    main()
