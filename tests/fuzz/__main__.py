"""Fuzz the parsers: ``python -m tests.fuzz [--seconds 30] [--seed 1] [--jobs 2] [NAME ...]``.

Coverage-guided (atheris, libFuzzer), a process for each parser with limits on time and memory; prints executions and findings, and
exits with 1 if there is one. The input of a finding is kept under ``--keep``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.targets import LIMIT, TARGETS, seeds

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("GUANTONG_DATA", ROOT.parent / "shared" / "data"))


def child(name: str, arguments: list[str]) -> None:
    """The process of one parser."""
    import atheris

    with atheris.instrument_imports(include=["guantong.connect", "guantong.fuse.aimc", "pymodbus"]):
        from guantong.base.errors import GuantongError

        target = TARGETS[name]
        for seed in seeds(name, DATA):  # imports what the target needs while imports are instrumented
            try:
                target(seed)
            except GuantongError:
                continue

    def once(data: bytes) -> None:
        try:
            target(data)
        except GuantongError:
            return

    atheris.Setup([f"fuzz-{name}", *arguments], once)
    atheris.Fuzz()


def run(name: str, seconds: int, seed: int, keep: Path) -> dict[str, Any]:
    """Fuzz one parser in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        for data in seeds(name, DATA):
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        keep.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "tests.fuzz", "--child", name, f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=20",
            "-rss_limit_mb=3000", f"-max_len={min(LIMIT, 65_536)}", "-print_final_stats=1", f"-artifact_prefix={keep}/{name}-", str(corpus),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + 180
        )
    said = done.stdout + done.stderr
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", said) or re.search(r"Done (\d+) runs", said)
    found = [line.strip() for line in said.splitlines() if "Test unit written to" in line]
    error = re.findall(r"^(\w+(?:\.\w+)*(?:Error|Exception)\b.*|AssertionError.*|.*libFuzzer: .*)$", said, re.MULTILINE)
    wrong = done.returncode != 0
    return {
        "name": name,
        "executions": int(count[1]) if count else 0,
        "findings": 1 if wrong else 0,
        "said": (error[-1][:200] if error else said[-400:]) if wrong else "",
        "input": found[-1].rpartition(" ")[2] if found else "",
    }


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "guantong-fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    asked = parser.parse_args()
    unknown = set(asked.names) - set(TARGETS)
    if unknown:
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    names = asked.names or list(TARGETS)
    with ThreadPoolExecutor(asked.jobs) as pool:
        results = list(pool.map(lambda name: run(name, asked.seconds, asked.seed, asked.keep), names))
    findings = sum(one["findings"] for one in results)
    if asked.as_json:
        print(json.dumps({"seconds": asked.seconds, "seed": asked.seed, "results": results, "findings": findings}))
    else:
        for one in results:
            print(
                f"{one['name']:<16} {one['executions']:>10} executions  {one['findings']} findings  {one['said']} {one['input']}"
            )
        print(f"{sum(one['executions'] for one in results)} executions, seed {asked.seed}, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
