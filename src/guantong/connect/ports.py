"""What connect needs from others."""

from __future__ import annotations

from typing import Protocol

from guantong.base.batch import Batch

__all__ = ["Sink"]


class Sink(Protocol):
    """Where batches go: keep's durable log, a test's list."""

    async def take(self, participant: str, batch: Batch) -> int:
        """Write the batch durably and return its position, which only grows. Raises Retryable when it can't be written now."""
        ...
