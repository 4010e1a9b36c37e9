"""Fixtures for all tests: real data where it is, foreign tools where they are, a clock that tests set."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guantong.base.clock import NS, parse_iso
from guantong.records import METADATA, Records

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("GUANTONG_DATA", ROOT.parent / "shared" / "data"))
REQUIRED = frozenset(filter(None, os.environ.get("GUANTONG_REQUIRE", "").split(",")))


def missing(name: str, why: str) -> None:
    """Skip the test for want of a tool, or fail it where the tool is required."""
    if name in REQUIRED:
        pytest.fail(f"{name} is required (GUANTONG_REQUIRE) but {why}", pytrace=False)
    pytest.skip(f"{name}: {why}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real industrial data that nobody here wrote."""
    if not DATA.is_dir():
        missing("data", f"there is no {DATA.name} folder beside the project")
    return DATA


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """``tool("java")`` returns the path of a foreign program, or skips the test with its name."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if path is None:
            missing(name, "not found on this machine")
        assert path is not None
        return path

    return find


@dataclass(frozen=True, slots=True)
class Peers:
    """Programs in JavaScript that we did not write, and the Node that runs them."""

    node: str
    folder: Path

    def run(self, script: Path, *arguments: str) -> list[str]:
        """The command line that runs a script of ours; it reaches the peers with ``require(process.env.PEERS + "/<package>")``."""
        return [self.node, str(script), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment and where the peers are (``PEERS`` and ``NODE_PATH``)."""
        return {**os.environ, "PEERS": str(self.folder), "NODE_PATH": str(self.folder)}


@pytest.fixture(scope="session")
def peers() -> Peers:
    """The npm packages of tests/peers (``make peers``) on the pinned Node of the PyPI wheel."""
    folder = Path(__file__).resolve().parent / "peers" / "node_modules"
    node = Path(sys.executable).with_name("node")
    if not folder.is_dir() or not node.exists():
        missing("peers", "run `make peers` first")
    return Peers(str(node), folder)


class TestClock:
    """A clock that stands still until told otherwise."""

    __test__ = False

    def __init__(self, at: str = "2026-11-24T08:00:00Z") -> None:
        self.at = parse_iso(at)
        self.seconds = 0.0

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.at += int(seconds * NS)
        self.seconds += seconds


@pytest.fixture
def clock() -> TestClock:
    """A clock that stands still at 2026-11-24T08:00:00Z until it is advanced."""
    return TestClock()


@pytest.fixture
def records(clock: TestClock) -> Iterator[Records]:
    """Records in memory, without threads, with every table that the test's imports know."""
    opened = Records("sqlite://", clock, inline=True)
    opened.open(METADATA.create_all)
    yield opened
    opened.close()
