"""What the evidence room needs from others: keys, the papers of an agreement, and somebody to anchor at. (Files go through ``keep.ports.Blobs``.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from guantong.prove.model import Anchored, ProveKeys

__all__ = ["Anchor", "KeysOf", "PackageSource"]

KeysOf = Callable[[str], ProveKeys]
"""The keys of a hosted participant."""


class PackageSource(Protocol):
    """Who knows the papers of an agreement (exchange: agreement and receipts)."""

    async def documents(self, participant: str, agreement_id: str) -> Mapping[str, bytes]:
        """Files for the package by relative path, ``agreement.json`` among them; empty if there is no such agreement."""
        ...


class Anchor(Protocol):
    """Somebody outside both parties who states that a root was known at a time. Implementations: ``prove.anchors``, ``prove.evm``."""

    kind: str

    def trust_lines(self) -> list[str]:
        """Lines for a trust file by which a stranger confirms who states the time; empty where there is nothing to list."""
        ...

    async def submit(self, origin: str, size: int, root: bytes) -> Mapping[str, Any]:
        """Hand over one root. Returns a reference in plain JSON that verifies later, as far as possible without network.

        Raises Retryable ``prove.anchor-later`` and Refused ``prove.anchor-refused``.
        """
        ...

    async def verify(self, ref: Mapping[str, Any]) -> Anchored:
        """What the reference states: origin, size, root and time. Raises Refused or Skippable where it does not hold."""
        ...
