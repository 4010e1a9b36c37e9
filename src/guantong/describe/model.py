"""Frozen values of describe: datasets, assets, lineage answers, settings and entry kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from guantong.base.entry import EntryKind

__all__ = [
    "DATASET_DEFINED",
    "ENTRY_KINDS",
    "SHELLS_WRITTEN",
    "Dataset",
    "DatasetStats",
    "DescribeSettings",
    "Page",
    "Trace",
]


@dataclass(frozen=True, slots=True)
class DescribeSettings:
    """Settings of describe."""

    base_url: str = "http://localhost:8080"
    """Where this node answers, without a slash at the end; the endpoint of linked time series and of datasets."""
    namespace: str = "urn:guantong"
    """Prefix of identifiers of shells and submodels."""
    page_limit: int = 100
    """Entries of a page of the AAS API by default (IDTA-01002: server's choice)."""
    page_limit_max: int = 1000
    """Most entries of a page; a larger ``limit`` is cut to it."""
    lineage_depth: int = 32
    """Steps followed at most from the starting node."""
    lineage_edges: int = 5_000
    """Edges returned at most."""
    batch_rows: int = 16_384
    """Rows of one record batch of a dataset."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Signals or measurements under one description: what a product is made of."""

    id: str
    """Lower-case letters, digits, ``-``, ``_`` and ``.``; at most 100 characters."""
    title_en: str
    title_zh: str
    description: str = ""
    kind: Literal["readings", "measurements"] = "readings"
    signals: tuple[int, ...] = ()
    """Signal ids (readings)."""
    models: tuple[str, ...] = ()
    """Part designs (measurements); empty means all."""
    keywords: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Names of the sources the data come from, where known; measurements are cut to these."""
    start: int | None = None
    """First instant included, nanoseconds; None means from the beginning."""
    end: int | None = None
    """First instant no longer included, nanoseconds; None means open."""


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """What a dataset holds, counted over the tables when asked."""

    dataset_id: str
    rows: int
    first: int | None
    """Earliest source or measuring time, nanoseconds; None if empty or not stated."""
    last: int | None
    bytes_estimated: int
    """Size of the rows as Arrow columns, extrapolated from the batches read."""
    complete: bool
    """False if a limit stopped the count."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list with the cursor of the next, None on the last."""

    items: tuple[Mapping[str, object], ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """Where one value comes from: the row itself and the edges from it back to its batch and on to what was made of it."""

    signal_id: int
    source_time: int
    rows: tuple[Mapping[str, object], ...]
    """Every revision of the value, oldest first."""
    edges: tuple[object, ...]
    """``records.Edge``s, sources first."""
    truncated: bool


DATASET_DEFINED = EntryKind(
    "describe.dataset-defined",
    "A dataset was defined or changed",
    "已定义或更改数据集",
    {
        "type": "object",
        "properties": {
            "dataset": {"type": "string"},
            "kind": {"type": "string"},
            "signals": {"type": "integer"},
            "digest": {"type": "string"},
        },
        "required": ["dataset", "digest", "kind", "signals"],
        "additionalProperties": False,
    },
)
SHELLS_WRITTEN = EntryKind(
    "describe.shells-written",
    "Asset Administration Shells were written",
    "已写入资产管理壳",
    {
        "type": "object",
        "properties": {
            "shells": {"type": "integer"},
            "submodels": {"type": "integer"},
            "digest": {"type": "string"},
        },
        "required": ["digest", "shells", "submodels"],
        "additionalProperties": False,
    },
)
ENTRY_KINDS: tuple[EntryKind, ...] = (DATASET_DEFINED, SHELLS_WRITTEN)
