"""The twelve disturbances in their short forms, and the arithmetic of their ledger."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
pytest.importorskip("asyncua")

from bench.disturbances.__main__ import markdown, run, verdict  # noqa: E402
from bench.disturbances.cases import CASES, Bench  # noqa: E402
from bench.disturbances.ledger import Kept, account, read_ledger, read_offered  # noqa: E402

MS = 1_000_000
OFFERED = {("a", number): number * 100 * MS for number in range(1, 11)}


def row(number: int, order: int | None = None) -> tuple[str, int, int, int]:
    return ("a", number, number * 100 * MS, number if order is None else order)


def gap(start_ms: int, end_ms: int, signal: str | None = "a") -> dict[str, Any]:
    return {"signal": signal, "start": start_ms * MS, "end": end_ms * MS, "reason": "r"}


def test_all_kept_is_a_clean_account():
    ledger = account(OFFERED, Kept([row(number) for number in range(1, 11)]))

    assert (ledger.offered, ledger.kept, ledger.missing, ledger.duplicated, ledger.out_of_order) == (10, 10, 0, 0, 0)
    assert ledger.exact


def test_what_is_missing_must_be_declared_and_nothing_else():
    kept = [row(number) for number in (1, 2, 3, 7, 8, 9, 10)]
    exact = account(OFFERED, Kept(kept, [gap(301, 699)]))
    short = account(OFFERED, Kept(kept, [gap(301, 550)]))
    wide = account(OFFERED, Kept(kept, [gap(250, 850)]))
    other = account(OFFERED, Kept(kept, [gap(301, 699, "b")]))

    assert (exact.missing, exact.undeclared, exact.overclaimed) == (3, 0, 0)
    assert (short.undeclared, short.overclaimed) == (1, 0)
    assert (wide.undeclared, wide.overclaimed) == (0, 3)
    assert other.undeclared == 3


def test_repeats_lateness_and_altered_times_are_counted():
    kept = [row(1, 1), row(3, 2), row(2, 3), row(3, 4), ("a", 4, 450 * MS, 5)]
    ledger = account(OFFERED, Kept(kept))

    assert (ledger.duplicated, ledger.out_of_order, ledger.altered) == (1, 1, 1)


def test_what_was_offered_comes_from_the_peers_own_file(tmp_path):
    (tmp_path / "offered").write_text("1 1000\n2 1100\n")
    (tmp_path / "ledger").write_text(
        '["x", 1, 1000000000, 1]\n["y", null, 5, 2]\n{"gap": {"start": 1, "end": 2}}\n{"facts": {"k": 1}}\n'
    )
    kept = read_ledger(tmp_path / "ledger")

    assert read_offered(tmp_path / "offered", ["x"]) == {("x", 1): 1_000_000_000, ("x", 2): 1_100_000_000}
    assert (kept.rows, len(kept.gaps), kept.facts) == ([("x", 1, 1_000_000_000, 1)], 1, {"k": 1})
    assert read_ledger(tmp_path / "none") == Kept([])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_twelve_short_disturbances_pass(peers: Any, tool: Any, tmp_path: Path):
    tool("mosquitto")
    rows = asyncio.run(run(Bench(tmp_path, beside=False), [], 5))
    shutil.rmtree(tmp_path, ignore_errors=True)

    assert verdict(rows) == (len(CASES), 0), markdown(rows)
    assert len(CASES) == 12
    assert [one.ledger.missing for one in rows if one.case == "D1"] == [0]
    json.dumps([one.ledger.to_json() for one in rows])
