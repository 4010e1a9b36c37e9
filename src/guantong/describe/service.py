"""Describe's shell: datasets, Asset Administration Shells and lineage over the records, with data read from keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from guantong.base.clock import Clock
from guantong.describe.model import Dataset, DatasetStats, DescribeSettings, Page, Trace
from guantong.describe.ports import Decide, Interfaces, deny
from guantong.records import Edge, Records

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["Describe"]


class Describe:
    """The stage describe (述)."""

    def __init__(
        self,
        records: Records,
        keep: Keep,
        fuse: Fuse,
        clock: Clock,
        decide: Decide = deny,
        *,
        settings: DescribeSettings | None = None,
        interfaces: Interfaces | None = None,
    ) -> None: ...

    async def define(self, participant: str, dataset: Dataset) -> Dataset:
        """Define or replace a dataset."""
        raise NotImplementedError

    async def dataset(self, participant: str, dataset_id: str) -> Dataset:
        """One dataset; Skippable ``describe.unknown-dataset``."""
        raise NotImplementedError

    async def datasets(self, participant: str) -> list[Dataset]:
        """All datasets, by id."""
        raise NotImplementedError

    def rows(
        self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """The dataset's rows in [start, end) (nanoseconds)."""
        raise NotImplementedError

    async def statistics(self, participant: str, dataset_id: str) -> DatasetStats:
        """Rows, first and last instant, size."""
        raise NotImplementedError

    async def dcat(self, participant: str, dataset_id: str | None = None) -> dict[str, Any]:
        """DCAT 3 JSON-LD of one dataset or of the catalogue."""
        raise NotImplementedError

    async def write_shells(self, participant: str) -> int:
        """Write shell and submodels of every machine and part; returns how many documents changed."""
        raise NotImplementedError

    async def shells(self, participant: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A page of shells."""
        raise NotImplementedError

    async def submodels(self, participant: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A page of submodels with live values."""
        raise NotImplementedError

    async def set_nameplate(self, participant: str, asset: str, facts: Mapping[str, str]) -> None:
        """State nameplate facts of a machine (source name)."""
        raise NotImplementedError

    async def lineage(self, participant: str, node_id: str, direction: Literal["back", "forward"] = "back") -> list[Edge]:
        """Edges reached from a node."""
        raise NotImplementedError

    async def trace(self, participant: str, signal_id: int, source_time: int) -> Trace:
        """Where one value comes from and what became of it."""
        raise NotImplementedError

    async def link(self, participant: str, edges: Sequence[Edge]) -> None:
        """Record edges of lineage."""
        raise NotImplementedError
