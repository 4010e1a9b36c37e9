"""The tutorial "connect your first machine", followed command by command as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
ENGLISH, CHINESE = DOCS / "connect-your-first-machine.md", DOCS / "connect-your-first-machine.zh-CN.md"
EXAMPLES = DOCS.parent / "examples"
_BLOCK = re.compile(r"```(\w+)\n(.*?)```(?:\n<!-- (.*?) -->)?", re.DOTALL)
PROGRAMS = Path(sys.executable).parent


class Reader:
    """Somebody who does what the page says. The machine and the node run on; another port stands in for the page's, which may be taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.running: dict[str, subprocess.Popen[str]] = {}
        # as in a shell whose environment is activated, and in English whatever this machine speaks
        self.environment = {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "LANG": "C.UTF-8"}
        self.environment.pop("GUANTONG_NODE_DIRECTORY", None)

    def does(self, command: str, shows: str | None) -> None:
        words = shlex.split(command.replace("7878", self.port))
        if words[0] == "python" or words[:2] == ["guantong", "run"]:
            self.starts(words[0], words)
            return
        end = time.monotonic() + 90
        while True:
            done = subprocess.run(
                words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=90
            )
            said = done.stdout + done.stderr
            fine = done.returncode == 0 and (shows is None or shows in said)
            if fine or time.monotonic() > end:
                assert fine, f"{command}: {done.returncode}, without {shows!r}:\n{said}"
                return
            time.sleep(0.3)

    def starts(self, name: str, words: list[str]) -> None:
        self.running[name] = subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if name == "guantong":  # the page says that it prints a link: read on when it is there
            output = self.running[name].stdout
            assert output is not None
            assert any("/sign-in?token=" in line for line in output), "no link was printed"

    def stops(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    for name in list(made.running):
        made.stops(name)


def test_both_languages_print_the_same_commands() -> None:
    english, chinese = (
        [block.groups() for block in _BLOCK.finditer(path.read_text("utf-8"))] for path in (ENGLISH, CHINESE)
    )

    assert english == chinese


def test_the_page_works_command_by_command(reader: Reader) -> None:
    shutil.copytree(EXAMPLES, reader.folder / "examples")
    machine: list[str] = []
    commands = 0
    for kind, text, said in _BLOCK.findall(ENGLISH.read_text("utf-8")):
        if kind == "toml":
            assert text == (EXAMPLES / "press.toml").read_text("utf-8")
            continue
        for command in text.strip().splitlines():
            if "first_machine.py" in command:
                machine = shlex.split(command.replace("7878", reader.port))
            if "stops the machine" in said:
                reader.stops("python")
            if "starts the machine" in said:
                reader.starts("python", machine)
            reader.does(command, said.partition("shows: ")[2] or None)
            commands += 1

    assert commands == 11
