"""Fuzz the parsers: ``python -m tests.fuzz [--seconds 30] [--seed 1] [--list] [NAME ...]``.

Each file ``target_*.py`` beside this one has a tuple TARGETS. Inputs that break a promise are written to ``--out`` and end it with 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from engine import Target, attack  # noqa: E402

DATA = Path(os.environ.get("GUANTONG_DATA", HERE.parents[1].parent / "shared" / "data"))


def targets() -> dict[str, Target]:
    """Every target by its name."""
    found: dict[str, Target] = {}
    for file in sorted(HERE.glob("target_*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for target in module.TARGETS:
            assert target.name not in found, target.name
            found[target.name] = target
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    known = targets()
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--seconds", type=float, default=30.0, help="for each target")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--list", action="store_true")
    options.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    given = options.parse_args(arguments)
    unknown = set(given.names) - set(known)
    if unknown:
        options.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [target for name, target in known.items() if not given.names or name in given.names]
    if given.list:
        for target in chosen:
            print(f"{target.name:<14}{target.invariant}")
        return 0
    logging.disable(logging.CRITICAL)
    broken = 0
    for target in chosen:
        outcome = attack(target, DATA, seed=given.seed, seconds=given.seconds)
        broken += len(outcome.findings)
        print(
            f"{target.name:<14}{outcome.executions:>10,} executions  {outcome.corpus:>5} inputs kept  {len(outcome.findings)} findings  seed {outcome.seed}  {outcome.seconds:.0f} s",
            flush=True,
        )
        for finding in outcome.findings[:20]:
            given.out.mkdir(exist_ok=True)
            (given.out / f"{finding.target}-{finding.digest}").write_bytes(finding.data)
            print(f"  {finding.digest}  {finding.what}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
