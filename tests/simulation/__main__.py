"""``python -m tests.simulation --seed N`` replays one run and prints its events; ``--seeds N`` runs many, on all processors."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import run_seed


def _try(seed: int) -> tuple[int, str, int, int, float]:
    begun = time.perf_counter()
    try:
        outcome = run_seed(seed)
    except BaseException as error:
        return seed, "".join(traceback.format_exception(error)), 0, 0, time.perf_counter() - begun
    return seed, "", outcome.crashes, outcome.lost_files, time.perf_counter() - begun


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="replay this run and print every event")
    parser.add_argument("--seeds", type=int, default=200, help="how many runs")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--quiet-day", action="store_true", help="no faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run_seed(options.seed, trouble=not options.quiet_day, echo=True)
        print(f"seed {outcome.seed}: {outcome.crashes} crashes, {outcome.seconds:.1f} simulated s, {outcome.figures}")
        print(f"trace {outcome.trace_hash}")
        return 0
    begun, failed, crashes, lost, spent = time.perf_counter(), [], 0, 0, []
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.jobs) as pool:
        for count, (seed, problem, crashed, gone, seconds) in enumerate(pool.map(_try, seeds, chunksize=1), 1):
            crashes, lost = crashes + crashed, lost + gone
            spent.append(seconds)
            if problem:
                failed.append(seed)
                print(problem, flush=True)
            if count % 100 == 0:
                print(f"{count} seeds, {len(failed)} failed, {time.perf_counter() - begun:.0f} s", flush=True)
    spent.sort()
    print(
        f"{len(seeds)} seeds, {crashes} crashes, {lost} unflushed files and entries lost, {len(failed)} failed {failed[:20]};"
        f" s per seed min {spent[0]:.2f} median {spent[len(spent) // 2]:.2f} max {spent[-1]:.2f};"
        f" {time.perf_counter() - begun:.0f} s on {options.jobs} processes"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
