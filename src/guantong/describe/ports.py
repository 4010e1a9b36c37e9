"""What describe needs from others: the decision of access, the tables of keep, the catalogue of fuse, the documents of connect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Decide", "Interfaces", "KeepReads", "Signals", "deny"]

Decide = Callable[[str, str, str, str], bool]
"""(participant, subject, action, object) → allowed. Objects are ``shell:<id>``, ``submodel:<id>`` and ``dataset:<id>``."""

Interfaces = Callable[[str], Sequence[Mapping[str, Any]]]
"""(participant) → the AssetInterfacesDescription of each source: ``{"source": name, "submodel": AID 1.1 as metamodel JSON}``."""


def deny(participant: str, subject: str, action: str, object: str) -> bool:
    """The decision while none is wired: no."""
    return False


class KeepReads(Protocol):
    """The queries of keep that describe uses."""

    async def latest(self, participant: str, signal_ids: Sequence[int] | None = None) -> pa.Table:
        """The newest row of each signal."""
        ...

    async def range(
        self,
        participant: str,
        signal_ids: Sequence[int],
        start: int,
        end: int,
        *,
        revisions: bool = False,
        durable: bool = False,
        limit: int = ...,
    ) -> pa.Table:
        """Clean readings of the signals in [start, end)."""
        ...

    async def measurements(
        self, participant: str, *, model: str | None = None, serial: str | None = None, report: str | None = None
    ) -> pa.Table:
        """Clean measurements."""
        ...


class Signals(Protocol):
    """The catalogue of fuse that describe uses."""

    async def signals(self, participant: str) -> list[Any]:
        """``fuse.Signal``s: id, source, native_id, path, name, unit, declared_unit, type, category, version."""
        ...

    async def parts(self, participant: str) -> list[Any]:
        """``fuse.Part``s."""
        ...
