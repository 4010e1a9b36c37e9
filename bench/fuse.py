"""Rows fused a second: log to clean rows handed to keep, with identity, clocks and stretches judged, on real clocks and a real disk.

    .venv/bin/python bench/fuse.py [--rows 1000000] [--signals 50] [--runs 3]

The log is filled first (not timed). Prints min/median/max of each stretch of work.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import NS, SystemClock
from guantong.base.units import find_unit
from guantong.fuse import Fuse
from guantong.keep.service import Keep
from guantong.records import METADATA, Records


def batches(rows: int, signals: int, size: int = 20_000) -> list[Batch]:
    dice = np.random.default_rng(1)
    start = time.time_ns() - rows // signals * NS
    names = pa.array([f"signal_{number:03d}" for number in range(signals)])
    made = []
    for at in range(0, rows, size):
        index = np.arange(at, min(at + size, rows))
        times = start + (index // signals) * NS
        stamp = pa.array(times).cast(pa.timestamp("ns", tz="UTC"))
        empty = len(index)
        columns = {
            "signal": names.take(pa.array(index % signals)),
            "source_time": stamp,
            "server_time": pa.nulls(empty, stamp.type),
            "receive_time": pa.array(times + 5_000_000).cast(stamp.type),
            "value_f64": pa.array(20 + dice.normal(0, 1, empty)),
            "value_i64": pa.nulls(empty, pa.int64()),
            "value_text": pa.nulls(empty, pa.string()),
            "value_bool": pa.nulls(empty, pa.bool_()),
            "status": pa.array(np.zeros(empty, np.uint32)),
            "sequence": pa.array(index),
        }
        note = {"units": {f"signal_{number:03d}": "bar" for number in range(signals)}} if at == 0 else {}
        schema = reading_schema()
        made.append(
            Batch(
                "press-01",
                "readings",
                pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema),
                note,
            )
        )
    return made


async def one(rows: int, signals: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        clock = SystemClock()
        records = Records(f"sqlite:///{folder}/records.db", clock)
        records.open(METADATA.create_all)
        async with Keep(Path(folder) / "keep", records, clock) as keep:
            fuse = Fuse(records, keep, clock)
            for batch in batches(rows, signals):
                await keep.take("did:web:bench", batch)
            find_unit("bar")  # the table of units is read once a process
            began, cpu = time.perf_counter(), time.process_time()
            await fuse.drain("did:web:bench")
            took = time.perf_counter() - began, time.process_time() - cpu
            counts = await fuse.counts("did:web:bench")
            assert counts.kept == rows, counts
        records.close()
        return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--signals", type=int, default=50)
    options.add_argument("--runs", type=int, default=3)
    given = options.parse_args()
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    took = [asyncio.run(one(given.rows, given.signals)) for _ in range(given.runs)]
    for name, number in (("second", 0), ("CPU second, keep's commits included", 1)):
        speeds = sorted(given.rows / seconds[number] for seconds in took)
        print(
            f"fuse: {given.rows} rows, {given.signals} signals, rows per {name}: "
            f"min {speeds[0]:,.0f}  median {statistics.median(speeds):,.0f}  max {speeds[-1]:,.0f}"
        )


if __name__ == "__main__":
    main()
