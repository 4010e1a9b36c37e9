"""Makes one chain of many sources: clocks, units, names, duplicates and parts are reconciled, each correction on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.fuse.model import Correction, Counts, FuseSettings, Gap, Mapping, Part, Signal

if TYPE_CHECKING:
    from guantong.fuse.service import Fuse

__all__ = ["Correction", "Counts", "Fuse", "FuseSettings", "Gap", "Mapping", "Part", "Signal"]


def __getattr__(name: str) -> Any:
    # the service brings the database with it; values alone stay cheap to import
    if name == "Fuse":
        from guantong.fuse.service import Fuse

        return Fuse
    raise AttributeError(name)
