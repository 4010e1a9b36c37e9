"""A gateway and a node in two network namespaces: the short form of ``python -m bench.edge``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(240)
def test_after_a_separation_the_ledger_is_exact_and_every_connection_went_out(tool):
    for name in ("unshare", "nsenter", "ip"):
        tool(name)
    allowed = subprocess.run(
        ["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
    )
    if allowed.returncode:
        pytest.skip("unshare: this machine allows no network namespaces")
    command = [sys.executable, "-m", "bench.edge", "--seconds", "20", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["offered_while_separated"] >= 20 * 20 * 0.8
    assert found["kept"] == found["offered"] == found["edge"]["rows"]
    assert (found["missing"], found["twice"]) == (0, 0)
    assert (found["gateway_listens"], found["opened_towards_machines"]) == ([], [])
