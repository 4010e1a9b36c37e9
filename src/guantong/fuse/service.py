"""Fuse: reads the log as it grows, and hands clean rows back to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guantong.base.clock import Clock
from guantong.base.finding import Finding
from guantong.fuse.model import Correction, Counts, FuseSettings, Gap, Mapping, Part, Signal
from guantong.records import Records

if TYPE_CHECKING:
    from guantong.keep.service import Keep

__all__ = ["Fuse"]


class Fuse:
    """Fusion of every participant of the node."""

    def __init__(self, records: Records, keep: Keep, clock: Clock, settings: FuseSettings | None = None) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Catch up with the log and follow it."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish the chunk at hand and stop."""
        raise NotImplementedError

    async def drain(self, participant: str) -> None:
        """Fuse everything logged so far; findings that wait for more rows are decided now."""
        raise NotImplementedError

    async def signals(self, participant: str) -> list[Signal]:
        """The catalogue, by id."""
        raise NotImplementedError

    async def set_mapping(self, participant: str, mapping: Mapping) -> None:
        """Set a mapping (by name); it holds for readings fused from now on."""
        raise NotImplementedError

    async def mappings(self, participant: str) -> list[Mapping]:
        """The mappings in force."""
        raise NotImplementedError

    async def counts(self, participant: str, *, kind: str | None = None, source: str | None = None) -> Counts:
        """The account, of everything or of one kind (``readings``, ``measurements``, ``table``) or source."""
        raise NotImplementedError

    async def findings(self, participant: str, *, kinds: Sequence[str] | None = None) -> list[Finding]:
        """What was found, by start."""
        raise NotImplementedError

    async def corrections(self, participant: str) -> list[Correction]:
        """What was corrected, by start."""
        raise NotImplementedError

    async def gaps(self, participant: str) -> list[Gap]:
        """What the sources say is missing."""
        raise NotImplementedError

    async def parts(self, participant: str) -> list[Part]:
        """Parts with their names."""
        raise NotImplementedError
