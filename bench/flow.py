"""Source to durable log to table, 1,000-point batches: as fast as it goes, and at a steady rate with memory watched.

    .venv/bin/python bench/flow.py [--seconds 60] [--quick] [--json]       keep alone: log, read back, hand over, Delta commits
    .venv/bin/python bench/flow.py --node [--seconds 60]                   the whole node, fusion included
    .venv/bin/python bench/flow.py --node --rate 100000 --seconds 600      steady; resident memory every ten seconds

Beside it, in the same run: the disk's own limit (as many bytes a batch written and flushed, one after the other) and SQLite used directly
with a batch a commit. A commit is what one source waits for: from ``take`` to its answer, encoding and the wait for others included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import SystemClock
from guantong.keep.model import KeepSettings, clean_schema
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

ME = "did:web:bench.example"
SIZE = 1_000
SIGNALS = 100
SOURCES = 4
NAMES = pa.array([f"signal_{number:03d}" for number in range(SIGNALS)])
WHICH = NAMES.take(pa.array(np.arange(SIZE) % SIGNALS))
TIME = pa.timestamp("ns", tz="UTC")
NOTHING = {
    "time": pa.nulls(SIZE, TIME),
    "i": pa.nulls(SIZE, pa.int64()),
    "t": pa.nulls(SIZE, pa.string()),
    "b": pa.nulls(SIZE, pa.bool_()),
}
GOOD = pa.array(np.zeros(SIZE, np.uint32))
VALUES = 20 + np.random.default_rng(1).normal(0, 1, SIZE)


class Source:
    """A machine with a hundred signals; no two batches are alike."""

    def __init__(self, number: int) -> None:
        self.name = f"press-{number:02d}"
        self.sent = 0
        self.start = time.time_ns()

    def batch(self) -> Batch:
        index = np.arange(self.sent, self.sent + SIZE)
        stamp = self.start + index * 10_000
        columns = [
            WHICH, pa.array(stamp).cast(TIME), NOTHING["time"], pa.array(stamp + 5_000_000).cast(TIME),
            pa.array(np.round(VALUES + (self.sent % 7919) * 1e-3, 3)), NOTHING["i"], NOTHING["t"], NOTHING["b"], GOOD, pa.array(index),
        ]  # fmt: skip
        note = {"units": {f"signal_{number:03d}": "bar" for number in range(SIGNALS)}} if not self.sent else {}
        self.sent += SIZE
        return Batch(self.name, "readings", pa.RecordBatch.from_arrays(columns, schema=reading_schema()), note)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def parts(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "min": ordered[0], "median": statistics.median(ordered), "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]
    }  # fmt: skip


def limits(folder: Path) -> dict[str, Any]:
    """What the disk does, and SQLite used directly."""
    batch = Source(99).batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch.rows)
    blob = sink.getvalue().to_pybytes()
    flushed, direct = [], []
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
    for _ in range(400):
        begun = time.perf_counter()
        os.write(descriptor, blob)
        os.fdatasync(descriptor)
        flushed.append((time.perf_counter() - begun) * 1000)
    os.close(descriptor)
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL").fetchall()
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, blob BLOB)")
    for _ in range(400):
        begun = time.perf_counter()
        raw.execute("INSERT INTO log (blob) VALUES (?)", (blob,))
        direct.append((time.perf_counter() - begun) * 1000)
    raw.close()
    return {
        "bytes a batch": len(blob),
        "disk: write and flush of a batch (ms)": parts(flushed),
        "SQLite directly, a batch a commit (ms)": parts(direct),
        "SQLite directly (points/s)": SIZE / statistics.mean(direct) * 1000,
    }


async def feed(take: Any, until: float, rate: float, waits: list[float], number: int) -> int:
    """One source: a batch after the other, or at its share of the rate."""
    source, begun = Source(number), time.monotonic()
    while time.monotonic() < until:
        if rate:
            await asyncio.sleep(max(0.0, begun + source.sent / rate - time.monotonic()))
        batch = source.batch()
        at = time.perf_counter()
        await take(batch)
        waits.append((time.perf_counter() - at) * 1000)
    return source.sent


async def alone(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Keep without fusion: what is logged is read back, given the clean columns and handed over."""
    records = Records("sqlite://", SystemClock(), inline=True)
    records.open(METADATA.create_all)
    logged, ended = asyncio.Event(), asyncio.Event()
    async with Keep(folder / "keep", records, SystemClock(), KeepSettings(drain_rows_s=0)) as keep:
        keep.on_append(logged.set)

        async def drain() -> None:
            after = 0
            while True:
                entries = await keep.read(ME, after, 100_000)
                if entries:
                    after = entries[-1].position
                    await keep.store(ME, after, readings=await asyncio.to_thread(tidy, entries))
                elif ended.is_set():
                    return await keep.flush(ME)
                else:
                    await logged.wait()
                    logged.clear()

        draining = asyncio.ensure_future(drain())
        waits: list[float] = []
        begun, cpu = time.monotonic(), time.process_time()
        until = begun + seconds
        sent = sum(
            await asyncio.gather(
                *(feed(lambda b: keep.take(ME, b), until, rate / SOURCES, waits, n) for n in range(SOURCES))
            )
        )
        taken = time.monotonic() - begun
        ended.set()
        logged.set()
        await draining
        took, cpu = time.monotonic() - begun, time.process_time() - cpu
        stats = await keep.stats(ME)
        assert stats.rows == sent
    records.close()
    return figures(sent, taken, took, cpu, waits)


def tidy(entries: list[Any]) -> pa.Table:
    rows = pa.Table.from_batches([entry.batch.rows for entry in entries])
    count = rows.num_rows
    micro = pa.timestamp("us", tz="UTC")
    at = rows["source_time"].cast(micro, safe=False)
    return pa.table(
        [
            rows["signal"].combine_chunks().dictionary_encode().indices.cast(pa.int32()), at, pa.array(np.zeros(count, np.int16)),
            pa.nulls(count, micro), rows["receive_time"].cast(micro, safe=False), pa.nulls(count, micro), rows["value_f64"],
            rows["value_i64"], rows["value_text"], rows["value_bool"], rows["status"].cast(pa.int64()), rows["sequence"],
            pa.array(np.zeros(count, np.int32)), pa.nulls(count, pa.string()), pa.nulls(count, pa.string()),
            pa.array(np.repeat([entry.position for entry in entries], [entry.batch.rows.num_rows for entry in entries])),
            at.cast(pa.date32(), safe=False),
        ],
        schema=clean_schema(),
    )  # fmt: skip


async def whole(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Through a node, fusion included; memory is looked at every ten seconds."""
    from guantong.config import load
    from guantong.node import Node

    node = Node(load({"node.directory": folder / "node", "web.port": 0}, environment={}))
    await node.start()
    me = node.participant
    waits: list[float] = []
    memory: list[tuple[float, float]] = []
    backlog: list[int] = []
    begun, cpu = time.monotonic(), time.process_time()

    async def look() -> None:
        while True:
            await asyncio.sleep(10)
            memory.append((time.monotonic() - begun, resident_mb()))
            backlog.append(
                (await node.keep.stats(me)).logged - node.fuse.position(me) if hasattr(node.fuse, "position") else 0
            )

    looking = asyncio.ensure_future(look())
    try:
        until = begun + seconds
        sent = sum(
            await asyncio.gather(
                *(feed(lambda b: node.keep.take(me, b), until, rate / SOURCES, waits, n) for n in range(SOURCES))
            )
        )
        taken = time.monotonic() - begun
        looking.cancel()
        await node.fuse.drain(me)
        await node.keep.flush(me)
        took, cpu = time.monotonic() - begun, time.process_time() - cpu
        stats = await node.keep.stats(me)
        assert stats.rows == sent, (stats.rows, sent)
    finally:
        await node.stop()
    found = figures(sent, taken, took, cpu, waits)
    settled = [point for point in memory if point[0] > min(120.0, seconds / 3)]
    if len(settled) > 3:
        x, y = (np.array(axis) for axis in zip(*settled, strict=True))
        found["resident memory (MB)"] = {"first": y[0], "last": y[-1], "max": y.max()}
        found["growth (MB a minute, target < 1)"] = float(np.polyfit(x, y, 1)[0] * 60)
    return found


def figures(sent: int, taken: float, took: float, cpu: float, waits: list[float]) -> dict[str, Any]:
    return {
        "points": sent,
        "source to durable log (points/s)": sent / taken,
        "source to durable log to table (points/s, target 1,000,000)": sent / took,
        "points a CPU second": sent / cpu,
        "durable commit as a source sees it (ms, target p99 < 5)": parts(waits),
    }


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--rate", type=float, default=0.0, help="points a second; 0: as fast as it goes")
    options.add_argument("--node", action="store_true")
    options.add_argument("--quick", action="store_true", help="10 s")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    seconds = 10.0 if given.quick else given.seconds
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        beside = limits(folder)
        run = whole if given.node else alone
        found = {**asyncio.run(run(folder, seconds, given.rate)), **beside, "load": os.getloadavg()[0]}
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        shown = (
            "  ".join(f"{part} {number:,.2f}" for part, number in value.items())
            if isinstance(value, dict)
            else f"{value:,.1f}"
        )
        print(f"{name:<62} {shown}")


if __name__ == "__main__":
    main()
