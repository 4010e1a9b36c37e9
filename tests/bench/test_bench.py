"""The benches can be listed, and what is computed from their figures is right. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_every_bench_is_listed_with_its_command_and_exists() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--list", "--quick"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = {line.split("bench/")[1].split(".py")[0] for line in done.stdout.splitlines() if "bench/" in line}

    assert named == {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__"}


def test_hops_are_differences_and_their_median_is_in_milliseconds() -> None:
    from bench.exchange import HOPS, hop_medians

    first = [0.001 * (number + 1) for number in range(len(HOPS))]
    second = [0.003 * (number + 1) for number in range(len(HOPS))]

    assert hop_medians([first, second]) == pytest.approx(dict.fromkeys(HOPS, 2.0))


def test_quantiles_of_a_hundred_and_one_numbers() -> None:
    from bench.exchange import quantiles

    assert quantiles([float(number) for number in range(100, -1, -1)]) == {"min": 0, "p50": 50, "p95": 95, "max": 100}


def test_figures_become_lines() -> None:
    from bench.__main__ import flat

    assert flat({"a": {"min": 1, "max": 2.5}, "ratio": 2.0, "b": {"c": {"p50": 3}, "n": 4}}) == [
        ("a", "min 1.00  max 2.50"),
        ("ratio", "2.00"),
        ("b: c", "p50 3.00"),
        ("b: n", "4"),
    ]
