"""What keep needs from outside: a place for blobs, and who wants to know what became part of a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.records import Step

__all__ = ["Blobs", "Note"]

Note = Callable[[str, "pa.Table"], "Callable[[Step], None] | None"]
"""``note(table, rows)`` is called in the commit's thread with the rows that became part of a table (``readings``, ``measurements``,
``table:<name>``); what it returns is done in the step that records the commit. It must not raise."""


class Blobs(Protocol):
    """Named bytes that never change: tiles of an evidence log, files of a package. Implementations: ``keep.blobs``.

    A name is 1 to 512 characters of ``[A-Za-z0-9._-]`` in parts separated by ``/``; no part begins with a dot.
    """

    async def put(self, name: str, data: bytes) -> bool:
        """Store ``data`` durably unless the name is taken. True: stored now; False: the same bytes were there already.

        Raises Corrupt ``keep.blob-differs`` where other bytes hold the name, Retryable ``keep.blob-unwritable``.
        """
        ...

    async def get(self, name: str) -> bytes | None:
        """The bytes, or None. Raises Retryable ``keep.blob-unreadable``."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """Names that begin with ``prefix``, sorted."""
        ...

    async def delete(self, name: str) -> bool:
        """Remove the blob; False where there was none."""
        ...
