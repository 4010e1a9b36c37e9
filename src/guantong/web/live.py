"""Live values: whoever watches a page is woken when something was written, and sends the page's live part again if it changed.

Nothing polls: records and keep wake this on commit and on append; a watcher sleeps until then, and at most once a second it looks.
"""

from __future__ import annotations

import asyncio

__all__ = ["Live", "Watcher"]


class Watcher:
    """One open page."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._woken = asyncio.Event()
        self.ended = False

    async def changed(self, longest_s: float) -> bool:
        """Wait until something was written; False if ``longest_s`` passed first or the node stops."""
        try:
            await asyncio.wait_for(self._woken.wait(), longest_s)
        except TimeoutError:
            return False
        self._woken.clear()
        return not self.ended

    def wake(self) -> None:
        """Something was written."""
        self._woken.set()

    def leave(self) -> None:
        """The page was closed."""
        self._live.watchers.discard(self)


class Live:
    """Everybody who watches."""

    def __init__(self, limit: int = 64) -> None:
        self.watchers: set[Watcher] = set()
        self._limit = limit
        self._closed = False

    def watch(self) -> Watcher | None:
        """A new watcher, or None when too many watch already or the node stops."""
        if self._closed or len(self.watchers) >= self._limit:
            return None
        watcher = Watcher(self)
        self.watchers.add(watcher)
        return watcher

    def wake(self) -> None:
        """Wake everybody; call it on the event loop."""
        for watcher in self.watchers:
            watcher.wake()

    def close(self) -> None:
        """The node stops: end every stream."""
        self._closed = True
        for watcher in list(self.watchers):
            watcher.ended = True
            watcher.wake()
