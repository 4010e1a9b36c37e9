"""Kill -9 at ten random points of append, witness and receipt exchange; ``python -m tests.prove.kills --kills 100`` goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_contradicted_by_ten_kills(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("prove_kills", Path(__file__).with_name("kills.py"))
    kills = importlib.util.module_from_spec(spec)
    sys.modules["prove_kills"] = kills
    spec.loader.exec_module(kills)

    told = kills.run(10, 7, tmp_path)

    assert told["ready"] == 11
    assert min(told[name] for name in ("leaf", "checkpoint", "receipt")) > 0
