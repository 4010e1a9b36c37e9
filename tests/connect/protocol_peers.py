"""Brokers and machines that other people wrote: mosquitto, and programs on npm packages that are told what to do over stdin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parent.parent / "peers"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def listening(port: int, seconds: float = 10.0) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)


class Mosquitto:
    """A broker of its own; ``stop`` and ``start`` again on the same port."""

    def __init__(self, program: str, folder: Path, *, more: str = "") -> None:
        self.program, self.folder, self.port = program, folder, free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 200\nmax_queued_messages 100000\n"
            f"persistence true\npersistence_location {folder}/\nuser root\n{more}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await listening(self.port)

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait)


class Script:
    """A program in JavaScript on peers' packages; ``say`` writes a line to it, ``hear`` waits for one that begins so."""

    def __init__(self, peers: Any, name: str, *arguments: str) -> None:
        self.command = peers.run(PEERS / name, *arguments)
        self.environment = peers.environment
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.reader: threading.Thread | None = None

    async def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
            text=True,
            start_new_session=True,  # the wheel's node is a program that starts another: both are ended
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def say(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    async def hear(self, start: str, seconds: float = 10.0, *, after: int = 0) -> int:
        async with asyncio.timeout(seconds):
            while True:
                for place, line in enumerate(self.lines[after:], after):
                    if line.startswith(start):
                        return place
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)
        if self.reader is not None:
            await asyncio.to_thread(self.reader.join)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process = None


def offered(path: Path) -> list[dict[str, Any]]:
    """What a peer wrote down that it sent."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
