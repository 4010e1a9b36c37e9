"""The demonstration as a stranger runs it: seeds 1 to 10 with planned trouble, and one without; scored by kind, signal and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from guantong.demo.score import score
from guantong.journey import JOURNEY

GUANTONG = str(Path(sys.executable).with_name("guantong"))
"""The command as it was installed."""

AT_ONCE = 3
"""Demos under way at the same time: each mostly waits for its live window."""


def run_demo(folder: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [GUANTONG, "demo", "--once", "--json", "--directory", str(folder), *flags],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=400,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")},
    )
    assert done.returncode == 0, f"{flags}: exit {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-3000:]}"
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "stdout holds one JSON object and nothing else"
    return dict(json.loads(lines[0]))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run for each seed, and one without trouble."""
    base = tmp_path_factory.mktemp("demo")
    runs = {str(seed): ("--seed", str(seed)) for seed in range(1, 11)} | {"quiet": ("--seed", "11", "--no-trouble")}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = {name: pool.submit(run_demo, base / name, *flags) for name, flags in runs.items()}
        return {name: run.result() for name, run in under_way.items()}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("demo")]


def test_every_seed_walks_the_ten_stages(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        assert [stage["name"] for stage in report["stages"]] == [stage.name for stage in JOURNEY], name
        assert all(stage["ok"] and stage["figure"] and stage["seconds"] >= 0 for stage in report["stages"]), (
            name,
            report["stages"],
        )
        assert report["negotiation"] == {"provider": "FINALIZED", "consumer": "FINALIZED"}, name
        assert report["transfer"]["provider"] == report["transfer"]["consumer"] in ("STARTED", "COMPLETED"), name
        assert report["rows"]["sent"] == report["rows"]["received"] > 0, name
        assert report["receipt"] == {"provider": True, "consumer": True}, name
        assert report["invoice"]["provider"] == report["invoice"]["consumer"] != "0.00", name
        assert report["verified"] is True, name
        assert Path(report["package"]).is_file(), name


def test_the_account_of_readings_closes(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        account = report["readings"]

        assert account["offered"] == account["received"] + account["gaps"], (name, account)
        assert account["received"] == account["kept"] + account["duplicates"] + account["quarantined"], (name, account)
    assert any(report["readings"]["gaps"] > 0 for name, report in reports.items() if name != "quiet")


def test_all_planned_trouble_is_found_with_at_most_one_false_alarm(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        trouble = report["trouble"]
        if name == "quiet":
            assert (trouble["planted"], trouble["found"], trouble["false_alarms"]) == (0, 0, 0), trouble
            continue
        missed = [item for item in trouble["items"] if item["found"] is None]

        assert trouble["planted"] == 8, (name, trouble)
        assert not missed, (name, missed)
        assert trouble["false_alarms"] <= 1, (name, trouble["alarms"])


def test_the_demo_needs_no_network_but_loopback(tmp_path: Path, tool: Callable[[str], str]) -> None:
    inside = f"{tool('ip')} link set lo up && exec {GUANTONG} demo --once --json --directory {tmp_path / 'd'}"
    done = subprocess.run(
        [tool("unshare"), "-rn", "sh", "-c", inside],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=400,
        check=False,
    )
    if "unshare" in done.stderr and "perm" in done.stderr.lower():
        pytest.skip("unshare: this machine allows no network namespaces")

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["verified"] is True


def test_the_score_itself_tells_hits_misses_and_false_alarms_apart() -> None:
    plan = [{"kind": "unit", "source": "m", "signal": "p", "start": 10, "end": 20}]

    def finding(**changes: object) -> dict[str, object]:
        return {"kind": "unit", "source": "m", "signal": "p", "start": 20, "end": 30, **changes}

    assert (score(plan, [finding()]).found, len(score(plan, [finding()]).false_alarms)) == (1, 0)
    for changed in ({"kind": "late"}, {"source": "n"}, {"signal": "q"}, {"start": 21}):
        result = score(plan, [finding(**changed)])
        assert (result.found, len(result.false_alarms)) == (0, 1), changed
