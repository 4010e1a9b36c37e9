"""An OPC UA subscription end to end: 1,000 items at 10 Hz from node-opcua into the durable log, beside the bare asyncua client.

    .venv/bin/python bench/opcua.py [--seconds 20] [--runs 3] [--quick] [--json]

Both read the same server one after the other, each in a process of its own; the figure is notifications by seconds of that process's own
CPU. guantong's includes rows, the batch, its encoding and the durable commit; ``to the tables`` also fusion and Delta commits in the same
process. Bare asyncua counts in a handler and keeps nothing. Lost: numbers that the peer offered and the log does not have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.disturbances.peers import OpcServer  # noqa: E402

ITEMS, HZ = 1000, 10
URI = "urn:machine.example"


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def bare(port: int, seconds: float, _: Path) -> dict[str, Any]:
    """asyncua as its documentation shows it: a subscription and a handler."""
    from asyncua import Client, ua

    class Handler:
        count = 0

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            self.count += 1

    async with Client(f"opc.tcp://127.0.0.1:{port}/") as client:
        index = await client.get_namespace_index(URI)
        nodes = [client.get_node(ua.NodeId(f"Item{number}", index)) for number in range(ITEMS)]
        handler = Handler()
        subscription = await client.create_subscription(100, handler)
        await subscription.subscribe_data_change(nodes, queuesize=1000, sampling_interval=0)
        await asyncio.sleep(2)
        before, began, wall = handler.count, cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        return {"count": handler.count - before, "cpu_s": cpu_s() - began, "seconds": time.monotonic() - wall}


async def ours(port: int, seconds: float, folder: Path, *, tables: bool = False) -> dict[str, Any]:
    """connect and the durable log, as a node composes them; with fusion and tables where asked."""
    from bench.disturbances.guantong_gateway import ME, interface, name_of, number
    from guantong.base.clock import SystemClock
    from guantong.connect.service import Connect
    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep
    from guantong.records import METADATA, Records

    clock = SystemClock()
    records = Records(f"sqlite:///{folder / 'records.db'}", clock)
    records.open(METADATA.create_all)
    keep = Keep(folder / "keep", records, clock)
    connect = Connect(records, keep, clock, None)  # type: ignore[arg-type]
    fuse = Fuse(records, keep, clock)
    await keep.start()
    if tables:
        await fuse.start([ME])
    await connect.start()
    source = {
        "kind": "opcua",
        "url": f"opc.tcp://127.0.0.1:{port}/",
        "signals": [f"Item{item}" for item in range(ITEMS)],
        "terms": {"queue": 1000},
    }
    await connect.add(ME, interface(source))
    while connect.scorecards(ME)[0].received < 2 * ITEMS:
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    before, began, wall = connect.scorecards(ME)[0].received, cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    found = {
        "count": connect.scorecards(ME)[0].received - before,
        "cpu_s": cpu_s() - began,
        "seconds": time.monotonic() - wall,
    }
    gaps = connect.scorecards(ME)[0].gap_records
    await connect.stop()
    seen: dict[str, list[int]] = {}
    after = 0
    while entries := await keep.read(ME, after):
        after = entries[-1].position
        for entry in entries:
            for row in entry.batch.rows.select(["signal", "value_i64", "value_f64", "value_text"]).to_pylist():
                value = number(row)
                if value is not None:
                    seen.setdefault(name_of(row["signal"]), []).append(value)
    lost = sum(max(values) - min(values) + 1 - len(set(values)) for values in seen.values())
    if tables:
        await fuse.stop()
    await keep.stop()
    records.close()
    return {**found, "lost": lost, "gap records": gaps}


async def child(kind: str, port: int, seconds: float, folder: Path) -> None:
    work = {"bare": bare, "ours": ours}.get(kind)
    found = await (work(port, seconds, folder) if work else ours(port, seconds, folder, tables=True))
    print(json.dumps(found))


async def measure(seconds: float, runs: int) -> dict[str, Any]:
    """All three in turn, so that the machine's mood falls on each alike."""
    results: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": [], "tables": []}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        server = OpcServer(folder, items=ITEMS, hz=HZ, halted=False)
        await server.start()
        try:
            for run in range(runs):
                for kind, list_ in results.items():
                    below = folder / f"{kind}{run}"
                    below.mkdir()
                    process = await asyncio.create_subprocess_exec(
                        sys.executable,
                        str(Path(__file__).resolve()),
                        "--child",
                        kind,
                        "--port",
                        str(server.port),
                        "--seconds",
                        str(seconds),
                        "--folder",
                        str(below),
                        stdout=asyncio.subprocess.PIPE,
                    )
                    out, _ = await process.communicate()
                    list_.append(json.loads(out.decode().strip().splitlines()[-1]))
        finally:
            await server.kill()
    figures: dict[str, Any] = {}
    names = {"bare": "bare asyncua", "ours": "guantong to the durable log", "tables": "guantong to the tables"}
    for kind, list_ in results.items():
        values = [one["count"] / one["cpu_s"] for one in list_]
        figures[f"{names[kind]} (notifications per core-second)"] = {
            "min": min(values),
            "median": statistics.median(values),
            "max": max(values),
        }
    figures["notifications a second"] = statistics.median(one["count"] / one["seconds"] for one in results["ours"])
    for kind, where in (("ours", "log"), ("tables", "tables")):
        pairs = [
            mine["count"] / mine["cpu_s"] / (one["count"] / one["cpu_s"])
            for mine, one in zip(results[kind], results["bare"], strict=True)
        ]
        figures[f"to the {where}, by bare asyncua (target 0.8)"] = {
            "min": min(pairs), "median": statistics.median(pairs), "max": max(pairs)
        }  # fmt: skip
    figures["lost"] = sum(one["lost"] for kind in ("ours", "tables") for one in results[kind])
    return figures


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="one run of 5 s")
    options.add_argument("--json", action="store_true")
    for hidden in ("--child", "--folder"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    options.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    logging.basicConfig(level="CRITICAL")
    if given.child:
        asyncio.run(child(given.child, given.port, given.seconds, Path(given.folder)))
        return
    seconds, runs = (5.0, 1) if given.quick else (given.seconds, given.runs)
    figures = asyncio.run(measure(seconds, runs))
    if given.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        shown = (
            " / ".join(f"{value:,.{0 if value > 100 else 2}f}" for value in values.values())
            if isinstance(values, dict)
            else f"{values:,.2f}"
        )
        print(f"{name:<62} {shown}")
    print(f"{'load':<62} {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
