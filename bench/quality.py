"""Quality kernels beside ioos_qc on the same values: ``python bench/quality.py [--rows 5000000] [--runs 3]``.

``ten checks``: gap, syntax, duplicate, clock, unit jump, quantisation, gross range, rate of change, spike, flat line. ``all``: with
attenuated signal, neighbour, counter reset and timeliness. ioos_qc runs four of them: gross range, spike, rate of change, flat line.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from guantong.base.clock import NS
from guantong.fuse.quality import Limits, flags

TEN = Limits(
    fail_span=(0, 40), suspect_span=(10, 30), rate_suspect=0.5, rate_fail=1, spike_suspect=0.3, spike_fail=0.6, flat_suspect_s=60,
    flat_fail_s=120,
)  # fmt: skip
ALL = Limits(
    fail_span=(0, 40), suspect_span=(10, 30), rate_suspect=0.5, rate_fail=1, spike_suspect=0.3, spike_fail=0.6, flat_suspect_s=60,
    flat_fail_s=120, attenuated_s=60, attenuated_suspect=0.01, attenuated_fail=0.001, neighbour_suspect=1, neighbour_fail=2,
    counter=True, late_suspect_s=1, late_fail_s=2,
)  # fmt: skip


def frame(rows: int) -> pl.DataFrame:
    """Readings of one signal, one a second: a walk with noise."""
    dice = np.random.default_rng(1)
    at = 1_700_000_000 * NS + np.arange(rows) * NS
    value = 20 + np.cumsum(dice.normal(0, 0.001, rows)) + dice.normal(0, 0.1, rows)
    return pl.DataFrame(
        {
            "time": at,
            "receive": at + 5_000_000,
            "value": value,
            "there": np.ones(rows, np.bool_),
            "bad": np.zeros(rows, np.bool_),
            "position": np.arange(rows) // 1000,
            "sequence": np.arange(rows),
            "neighbour": value + 0.01,
        }
    )


def measure(name: str, rows: int, runs: int, work: Callable[[], object]) -> None:
    """Points a second and a CPU second."""
    walls, processors = [], []
    for _ in range(runs):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(rows / (time.perf_counter() - began))
        processors.append(rows / (time.process_time() - cpu))
    for per, speeds in (("second", sorted(walls)), ("CPU second", sorted(processors))):
        print(
            f"{name}: {rows:,} points, points per {per}: "
            f"min {speeds[0]:,.0f}  median {statistics.median(speeds):,.0f}  max {speeds[-1]:,.0f}"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--runs", type=int, default=3)
    given = options.parse_args()
    data = frame(given.rows)
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    measure("guantong, ten checks", given.rows, given.runs, lambda: flags(data, TEN, interval_s=1.0))
    measure("guantong, all fourteen row checks", given.rows, given.runs, lambda: flags(data, ALL, interval_s=1.0))
    try:
        from ioos_qc import qartod
    except ImportError:
        print("ioos_qc isn't installed: no peer")
        return
    rows = min(given.rows, 1_000_000)
    values, seconds = data["value"].to_numpy()[:rows], data["time"].to_numpy()[:rows] // NS

    def peer() -> None:
        qartod.gross_range_test(values, (0, 40), (10, 30))
        qartod.spike_test(values, 0.3, 0.6)
        qartod.rate_of_change_test(values, seconds, 0.5, 1)
        qartod.flat_line_test(values, seconds, 60, 120, tolerance=1e-9)

    measure("ioos_qc, four checks", rows, given.runs, peer)


if __name__ == "__main__":
    main()
