"""The built wheel runs away from its source: in a fresh environment, with the libraries but without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from guantong.journey import JOURNEY

ROOT = Path(__file__).resolve().parents[2]

START_AND_STOP = """
import asyncio
from guantong.config import load
from guantong.node import Node

async def main():
    node = Node(load({"node.directory": "n", "web.port": 0}))
    await node.start()
    await node.stop()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_built_wheel_runs_in_a_fresh_environment(tmp_path: Path) -> None:
    built = tmp_path / "dist"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", fresh], check=True)
    scripts = fresh / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    # the libraries come from here, guantong itself only from the wheel: its own folder stands first on the path
    (inside,) = fresh.glob("Lib/site-packages" if os.name == "nt" else "lib/*/site-packages")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")}
    environment["PYTHONPATH"] = os.pathsep.join(
        (str(inside), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    )

    def ask(*arguments: str) -> str:
        return subprocess.run(
            [scripts / "guantong", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    where = subprocess.run(
        [python, "-c", "import guantong; print(guantong.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(where.strip()).is_relative_to(fresh)
    assert "demo" in ask("--help")
    lines = ask("stages")
    assert [stage.name for stage in JOURNEY if stage.name not in lines] == []
    assert "keep.commit-s" in ask("settings")
    assert "base.key-unreadable" in ask("errors", "base")
    subprocess.run([python, "-W", "error", "-c", START_AND_STOP], cwd=tmp_path, env=environment, check=True)
    for name in ("LICENSE", "NOTICE"):
        assert list(inside.glob(f"guantong-*.dist-info/**/{name}"))
