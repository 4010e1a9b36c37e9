"""What the evidence room needs from others: keys, and the papers of an agreement. (Files go through ``keep.ports.Blobs``.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from guantong.prove.model import ProveKeys

__all__ = ["KeysOf", "PackageSource"]

KeysOf = Callable[[str], ProveKeys]
"""The keys of a hosted participant."""


class PackageSource(Protocol):
    """Who knows the papers of an agreement (exchange: agreement and receipts)."""

    async def documents(self, participant: str, agreement_id: str) -> Mapping[str, bytes]:
        """Files for the package by relative path, ``agreement.json`` among them; empty if there is no such agreement."""
        ...
