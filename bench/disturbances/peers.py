"""Processes of a case: peers that offer, gateways that keep. Each is started, told things, and ended by its own process id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests" / "peers" / "node_modules"
NODE = Path(sys.executable).with_name("node")


class Process:
    """A child that says lines and is told lines."""

    def __init__(self, command: list[str], *, name: str) -> None:
        self.command = command
        self.name = name
        self.heard: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()

    async def start(self) -> None:
        environment = {
            **os.environ,
            "PEERS": str(MODULES),
            "NODE_PATH": str(MODULES),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            limit=1 << 22,
            start_new_session=True,  # the wheel's node is a program that starts another: both are ended
        )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            async with self._news:
                self.heard.append(line.decode().strip())
                self._news.notify_all()
        async with self._news:
            self.heard.append("(ended)")
            self._news.notify_all()

    async def hear(self, begin: str, *, after: int = 0, wait_s: float = 120.0) -> str:
        """The first line from ``after`` on that begins so."""
        try:
            async with asyncio.timeout(wait_s), self._news:
                while True:
                    for line in self.heard[after:]:
                        if line.startswith(begin):
                            return line
                        if line == "(ended)":
                            raise RuntimeError(f"{self.name} ended before it said {begin!r}")
                    await self._news.wait()
        except TimeoutError as error:
            raise RuntimeError(f"{self.name} did not say {begin!r} within {wait_s:g} s") from error

    async def say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self.ended()

    async def ended(self, wait_s: float = 300.0) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        assert self._reading is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        async with asyncio.timeout(wait_s):
            await self._reading
            return await self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None


class OpcServer:
    """node-opcua, and the file of what it offered. A restart goes on counting where it stopped."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options: dict[str, Any] = {"items": 20, "hz": 10, "halted": True, "folder": str(folder / "pki"), **options}
        self.offered = folder / "offered"
        self.stats = folder / "stats"
        self.port = 0
        self.process: Process | None = None

    async def start(self, **more: Any) -> None:
        self.options |= more
        options = {
            **self.options,
            "port": self.port,
            "offered": str(self.offered),
            "stats": str(self.stats),
            "first": self.next,
        }
        script = ROOT / "tests" / "peers" / "opcua_server.js"
        self.process = Process([str(NODE), str(script), json.dumps(options)], name="node-opcua")
        await self.process.start()
        self.port = int((await self.process.hear("ready")).split()[1])

    @property
    def next(self) -> int:
        """The number it will offer next."""
        try:
            return int(self.offered.read_text("ascii").split("\n")[-2].partition(" ")[0]) + 1
        except (OSError, IndexError, ValueError):
            return 1

    async def tell(self, **command: Any) -> None:
        assert self.process is not None
        before = len(self.process.heard)
        await self.process.say(json.dumps(command))
        await self.process.hear("done", after=before)

    def sessions(self) -> dict[str, int]:
        """Most sessions that each client had at the same time."""
        most: dict[str, int] = {}
        for line in self.stats.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):
                for name, count in json.loads(line)["sessions"].items():
                    most[name] = max(most.get(name, 0), count)
        return most

    async def kill(self) -> None:
        if self.process is not None:
            await self.process.kill()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """Where a foreign program is, if it is."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Broker:
    """mosquitto, with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 200\nmax_queued_messages 100000\n"
            f"persistence false\nuser root\nlog_type none\n"
        )
        self.process: Process | None = None

    async def start(self) -> None:
        self.process = Process([program("mosquitto") or "mosquitto", "-c", str(self.config)], name="mosquitto")
        await self.process.start()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self.process is not None:
            await self.process.kill()


class Gateway:
    """A gateway under measurement, by the port that the package describes."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self.command = command
        self.folder = folder
        self.ledger = folder / "ledger"
        self.process: Process | None = None

    async def start(
        self, sources: list[dict[str, Any]], options: dict[str, Any] | None = None, *, wait: bool = True
    ) -> None:
        """Begin, or begin again with the same directory after it was killed."""
        directory = self.folder / "data"
        directory.mkdir(parents=True, exist_ok=True)
        given = {
            "name": self.name,
            "directory": str(directory),
            "ledger": str(self.ledger),
            "sources": sources,
            "options": options or {},
        }
        path = self.folder / "given.json"
        path.write_text(json.dumps(given), "utf-8")
        self.process = Process([*self.command, str(path)], name=self.name)
        await self.process.start()
        if wait:
            await self.process.hear("up")

    async def stop(self) -> None:
        """Let it write its ledger."""
        assert self.process is not None
        if self.process.alive:
            await self.process.say("stop")
        code = await self.process.ended()
        if code:
            raise RuntimeError(f"{self.name} ended with {code}")

    async def kill(self) -> None:
        if self.process is not None:
            await self.process.kill()


GATEWAYS: dict[str, list[str]] = {
    "guantong": [sys.executable, "-m", "bench.disturbances.guantong_gateway"],
    "asyncua": [sys.executable, "-m", "bench.disturbances.asyncua_gateway"],
}
"""Gateways and their command lines; ``--gateway NAME=COMMAND`` adds one."""
