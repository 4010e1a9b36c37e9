"""Two hundred days of two companies, each with its own trouble; and that a day can be replayed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.world import run_seed

# a killed node's tasks end before their first step: their coroutines are never awaited, as in a process that is gone
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 201)
GROUPS = 20


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_goes_wrong_nothing_acknowledged_is_lost_and_both_sides_agree(group: int) -> None:
    for seed in SEEDS[group::GROUPS]:
        run_seed(seed)


def test_days_with_crashes_losses_and_cuts_are_among_them() -> None:
    """The simulation would pass for ever if nothing went wrong in it."""
    outcomes = [run_seed(seed) for seed in (6, 10, 21)]

    text = "\n".join(event for outcome in outcomes for event in outcome.events)
    assert sum(outcome.crashes for outcome in outcomes) >= 3
    for word in (" crash ", " lost request ", " lost answer ", " repeated ", " cut ", " too early "):
        assert word in text


def test_a_quiet_day_needs_no_second_try() -> None:
    outcome = run_seed(1, trouble=False)

    assert outcome.crashes == 0
    assert not [event for event in outcome.events if " failed " in event or " lost " in event]


def test_the_same_seed_gives_the_same_events_in_another_process() -> None:
    """Whatever the order of sets and hashes is there."""
    here = run_seed(10)
    there = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "10"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    ]

    assert there == [f"trace {here.trace_hash}"] * 2


def test_a_lost_flush_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk really forgets: without the flush of its tables the node loses what it acknowledged, and the run says so."""
    from guantong.keep import delta

    monkeypatch.setattr(delta.Table, "_sync", lambda self, version: None)
    found = 0
    for seed in range(1, 40):
        try:
            run_seed(seed)
        except BaseException as error:
            found += f"--seed {seed}" in "".join(error.__notes__)
            break

    assert found
