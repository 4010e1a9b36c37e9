"""``guantong plane`` under a control plane that knows nothing of guantong: tests/conformance/signaling/control_plane.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "conformance" / "signaling" / "control_plane.py"
CSV = "time,spindle_load\n" + "".join(f"2026-11-24T08:00:{second:02}Z,{40 + second % 7}\n" for second in range(60))


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")}
    return {**kept, "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


@pytest.mark.skipif(sys.platform == "win32", reason="the node is stopped with a signal")
def test_our_sources_are_the_data_plane_of_somebody_else_s_control_plane(tmp_path):
    directory = tmp_path / "plane"
    (tmp_path / "mill.csv").write_text(CSV)

    def run(*words: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "guantong.cli", *words, "--directory", str(directory), "--json"],
            capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    control = subprocess.Popen(
        [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    address = control.stdout.readline().strip()
    plane = subprocess.Popen(
        [sys.executable, "-m", "guantong.cli", "plane", "--control-plane", address, "--directory", str(directory),
         "--port", "0", "--json"],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        told = json.loads(plane.stdout.readline())
        assert told["registered"] == "yes"
        run("sources", "import", "mill.csv")
        run("datasets", "define", "mill-load", "--title", "Load of the mill")
        run("govern", "grade")
        run("rights", "state", "mill-load", "--source", "own production", "--evidence", "asset register")
        key = Path(told["key"]).read_text().strip()
        said, _ = control.communicate(
            json.dumps({"signaling": told["signaling"], "key": key, "dataset": "mill-load"}) + "\n", timeout=90
        )
    finally:
        control.kill()
        control.wait()
        control.stdout.close()
        plane.send_signal(signal.SIGTERM)
        plane.wait(20)
        plane.stdout.close()

    assert said.splitlines()[-1] == "signaling: 9 passed, 0 failed", said
