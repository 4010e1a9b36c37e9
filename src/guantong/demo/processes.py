"""Processes that speak JSON lines: the simulators and the two companies, as the director sees them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem

__all__ = ["Child", "start"]

_STEP_S = 90.0
"""Longest wait for one answer."""
_END_S = 20.0
"""Longest wait for a process to end by itself."""


class Child:
    """One process. ``hello`` is the first object it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.hello: dict[str, Any] = {}

    async def read(self, timeout_s: float = _STEP_S) -> dict[str, Any]:
        """The next object it says. Raises ConfigProblem ``demo.process-ended``."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        if not line:
            raise ConfigProblem("demo.process-ended", code=await self._process.wait())
        return dict(json.loads(line))

    async def write(self, text: str) -> None:
        """Say one line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write((text + "\n").encode())
        await self._process.stdin.drain()

    async def do(self, step: str, **arguments: Any) -> Any:
        """One step of a company; raises ConfigProblem ``demo.step-failed`` with the step's own words."""
        await self.write(json.dumps({"step": step, "with": arguments}))
        answer = await self.read()
        if not answer["ok"]:
            raise ConfigProblem("demo.step-failed", step=step, reason=answer["message"])
        return answer["result"]

    async def end(self) -> None:
        """Close its input, wait until it has ended; kill it if it does not."""
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _END_S)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def start(children: list[Child], log: Path, module: str, *arguments: str) -> Child:
    """Start ``python -m module``, append it to ``children`` at once, and wait for its first object. Its errors go to ``log``."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=1 << 22,
            env={name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")},
        )
    child = Child(process)
    children.append(child)
    child.hello = await child.read()
    return child
