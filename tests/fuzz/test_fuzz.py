"""A first helping of each fuzz target, the same each time; ``python -m tests.fuzz`` goes on for as long as wanted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine import Target, attack, mutate

pytest.importorskip("asyncua")
import importlib.util
import random

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def _targets() -> dict[str, Target]:
    spec = importlib.util.spec_from_file_location("fuzz_main", Path(__file__).with_name("__main__.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.targets()


TARGETS = _targets()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_input_makes_a_parser_crash_hang_or_grow(name: str) -> None:
    outcome = attack(TARGETS[name], DATA, seed=7, executions=150)

    assert outcome.executions == 150
    assert [(finding.what, finding.data[:200]) for finding in outcome.findings] == []


def test_a_crash_a_hang_and_growth_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    import engine

    monkeypatch.setattr(engine, "HANG_S", 1)

    def one(data: bytes) -> int:
        if data == b"hang":
            while True:
                pass
        raise ValueError("boom")

    outcome = attack(Target("x", lambda _: [b"hang", b"crash"], one, ""), DATA, seed=1, executions=2)

    whats = [finding.what for finding in outcome.findings]
    assert whats[0] == "took longer than 1 s"
    assert whats[1].startswith("ValueError at test_fuzz.py:")
    assert len(whats) == 2


def test_mutations_are_the_same_for_the_same_seed() -> None:
    first = [mutate(b"2017|x|1", random.Random(number), [b"abc"]) for number in range(50)]

    assert first == [mutate(b"2017|x|1", random.Random(number), [b"abc"]) for number in range(50)]
    assert len(set(first)) > 30
