"""Describe (述): assets as Asset Administration Shells, datasets for the catalogue, lineage both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.describe.model import ENTRY_KINDS, Dataset, DatasetStats, DescribeSettings, Page, Trace

if TYPE_CHECKING:
    from guantong.describe.service import Describe

__all__ = ["ENTRY_KINDS", "Dataset", "DatasetStats", "Describe", "DescribeSettings", "Page", "Trace"]


def __getattr__(name: str) -> Any:
    if name == "Describe":
        from guantong.describe.service import Describe

        return Describe
    raise AttributeError(name)
