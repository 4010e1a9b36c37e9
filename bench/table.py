"""Through a whole node: logged readings to committed tables (points/s), and one signal's day out of them (ms).

    .venv/bin/python bench/table.py [--runs 3] [--quick] [--json]

The log is filled first (not timed). A run is fusion, hand-over and the Delta commit. Twelve signals, one reading a second each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fuse import batches
from guantong.config import load
from guantong.node import Node, run_async

DAY_S = 86_400


async def one(folder: Path, signals: int) -> tuple[float, list[float], int]:
    """Points per second, the query's times in ms, the rows that it found."""
    node = Node(load({"node.directory": folder, "web.port": 0}, environment={}))
    await node.start()
    try:
        me, rows = node.participant, signals * DAY_S
        start = time.time_ns() - rows // signals * 10**9
        for batch in batches(rows, signals):
            await node.keep.take(me, batch)
        began = time.perf_counter()
        await node.fuse.drain(me)
        await node.keep.flush(me)
        speed = rows / (time.perf_counter() - began)
        asked, found = [], 0
        for _ in range(20):
            began = time.perf_counter()
            found = (await node.keep.range(me, [signals // 2], start, start + (DAY_S + 60) * 10**9)).num_rows
            asked.append((time.perf_counter() - began) * 1000)
        return speed, asked, found
    finally:
        await node.stop()


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="4 signals")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    signals = 4 if given.quick else 12
    speeds: list[float] = []
    asked: list[float] = []
    rows = 0
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
            speed, times, rows = run_async(one(Path(name), signals))
        speeds.append(speed)
        asked += times
    found: dict[str, Any] = {
        "log to table through the node (points/s)": speeds,
        f"one signal, one day, {rows:,} rows (ms)": asked,
    }
    figures = {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name, values in found.items()
    }
    if given.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:<54}" + " / ".join(f"{value:,.1f}" for value in values.values()))


if __name__ == "__main__":
    main()
