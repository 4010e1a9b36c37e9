"""All measurements: ``python -m bench [--quick] [--json] [--list] [NAME ...]``.

Each bench is a process of its own, run one after the other; nothing here is a test and nothing fails for being slow. Run it on a quiet
machine: the load before each bench is printed with its figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Bench:
    """One script beside this file."""

    name: str
    says: str
    quick: tuple[str, ...] = ("--quick",)
    structured: bool = False
    """Whether it knows ``--json`` and prints one object."""

    def command(self, *, quick: bool, structured: bool) -> list[str]:
        """The command line, to be run from the root of the repository."""
        extra = (*(self.quick if quick else ()), *(("--json",) if structured and self.structured else ()))
        return [sys.executable, f"bench/{self.name}.py", *extra]


BENCHES: tuple[Bench, ...] = (
    Bench("start", "start to ready; resident memory before and after the first query", structured=True),
    Bench("exchange", "an exchange between two nodes on loopback, beside a bare one", structured=True),
    Bench(
        "exchange_loads",
        "exchanges at once and in a row, a large catalogue, decisions, restart, a stream",
        structured=True,
    ),
    Bench("table", "log to table through a node; one signal's day", structured=True),
    Bench("edge", "a gateway and a node in two networks, separated: the ledger", ("--seconds", "20"), structured=True),
    Bench(
        "space", "three companies found and join a space, one behind a router: the time it takes", (), structured=True
    ),
    Bench(
        "guest",
        "a guest joins in a browser, shares, approves, revokes and moves to a node of its own",
        (),
        structured=True,
    ),
    Bench("flow", "source to durable log to table in 1,000-point batches, and what a commit waits", structured=True),
    Bench("keep", "durable log and tables beside SQLite, deltalake and DuckDB used directly", structured=True),
    Bench("fuse", "rows fused a second", ("--rows", "200000", "--runs", "2")),
    Bench("quality", "quality kernels beside ioos_qc", ("--rows", "1000000", "--runs", "3")),
    Bench("raw_clean", "NIST's raw recordings beside NIST's own repair: values lost and added", ()),
    Bench("opcua", "an OPC UA subscription to the durable log beside bare asyncua", structured=True),
    Bench("sparkplug", "Sparkplug B decoded and logged, beside protobuf's own library", structured=True),
    Bench(
        "settle",
        "an invoice over a million receipts, a netting with its certificate, figures with proof",
        structured=True,
    ),
    Bench(
        "prove",
        "evidence: entries beside a hash chain, proofs, a package verified, proofs of a large log",
        ("--entries", "2000", "--runs", "1", "--leaves", "300000", "--receipts", "200"),
    ),
)

ELSEWHERE: tuple[tuple[str, str], ...] = (
    ("EDC 0.15.1, one exchange, as it is delivered", "3,138 ms"),
    ("EDC 0.15.1, one exchange, tuned", "280 ms"),
)
"""Measured at another time on such a machine; no ratio is formed with them."""


def flat(found: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Figures as lines: a mapping of numbers is one line, other mappings are taken apart."""
    lines: list[tuple[str, str]] = []
    for key, value in found.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and all(isinstance(item, int | float) for item in value.values()):
            lines.append((name, "  ".join(f"{part} {number:,.2f}" for part, number in value.items())))
        elif isinstance(value, Mapping):
            lines += flat(value, f"{name}: ")
        else:
            lines.append((name, f"{value:,.2f}" if isinstance(value, float) else str(value)))
    return lines


def run(bench: Bench, *, quick: bool, structured: bool) -> dict[str, Any]:
    """Run one bench; its figures, or its text where it has no JSON."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    command = bench.command(quick=quick, structured=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    shown = " ".join(["python", *command[1:]])
    found: dict[str, Any] = {"command": shown, "load": load, "exit": done.returncode}
    if done.returncode == 0 and bench.structured:
        found["figures"] = json.loads(done.stdout)
    else:
        found["text"] = done.stdout
    if not structured:
        print(f"\n== {bench.name}: {bench.says}\n   {shown}   (load {load})")
        for name, figures in flat(found.get("figures", {})):
            print(f"   {name:<54} {figures}")
        if "text" in found:
            print("\n".join(f"   {line}" for line in found["text"].splitlines() if not line.startswith("{")))
        if done.returncode:
            print(f"   ended with {done.returncode}")
        sys.stdout.flush()
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="only these benches")
    options.add_argument("--quick", action="store_true", help="smaller runs")
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--list", action="store_true", help="say what there is and run nothing")
    given = options.parse_args(arguments)
    unknown = set(given.names) - {bench.name for bench in BENCHES}
    if unknown:
        options.error(f"no such bench: {', '.join(sorted(unknown))}")
    chosen = [bench for bench in BENCHES if not given.names or bench.name in given.names]
    if given.list:
        for bench in chosen:
            command = bench.command(quick=given.quick, structured=given.json)
            print(f"{bench.name:<10}{bench.says}\n          {' '.join(['python', *command[1:]])}")
        return 0
    results = {bench.name: run(bench, quick=given.quick, structured=given.json) for bench in chosen}
    if given.json:
        print(json.dumps({"benches": results, "measured elsewhere": dict(ELSEWHERE), "cores": os.cpu_count()}))
    else:
        print("\n== measured elsewhere, on such a machine; no ratio is formed")
        for name, figure in ELSEWHERE:
            print(f"   {name:<54} {figure}")
    return int(any(result["exit"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
