"""Time that is not waited for: an event loop whose clock jumps to the next timer, and whose threads are calls."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from guantong.base.clock import NS, parse_iso

__all__ = ["SimClock", "VirtualLoop"]

START = parse_iso("2026-11-24T08:00:00Z")


class _Jumping(selectors.SelectSelector):
    """Nothing comes from outside, so waiting for a timer is setting the clock to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits for something that never comes")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one run. What would go to a thread runs at once: same order in every run."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the run began."""
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run it here and now; the answer is there when the caller is next on turn."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class SimClock:
    """The clock of every node: the loop's time, from one fixed morning on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return START + int(self._loop.time() * NS)

    def monotonic(self) -> float:
        """Seconds since the run began."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Let that much simulated time pass."""
        await asyncio.sleep(seconds)
