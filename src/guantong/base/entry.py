"""Entries: what a stage states for the record, and the kinds of them.

Each stage defines its kinds in its ``model.py``; ``records`` writes the leaf in the same transaction as the step; ``prove`` only reads
leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guantong.base.canonical import b64, canonical_bytes
from guantong.base.clock import iso

__all__ = ["MAX_LEAF_BYTES", "Entry", "EntryKind", "leaf_bytes"]

MAX_LEAF_BYTES = 65_535
"""C2SP tlog-tiles: entries carry a big-endian uint16 length."""


@dataclass(frozen=True, slots=True)
class EntryKind:
    """A kind of entry: its name (``room.noun-verb``), what it states in both languages, and the JSON Schema of its body."""

    name: str
    en: str
    zh: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement for the record. ``body`` is small JSON: payloads stay off the log, their digests go in."""

    kind: EntryKind
    body: Mapping[str, Any]


def leaf_bytes(entry: Entry, *, participant: str, at: int, salt: bytes, with_sm3: bool = False) -> bytes:
    """Canonical JSON of the leaf. The salt (16 random bytes) stops a guessable body from being found out by its leaf hash.

    with_sm3: the leaf carries the SM3 digest of its canonical form without the member ``sm3`` (国密, not a certified module); the leaf
    hash in the tree stays SHA-256.
    """
    leaf = {
        "v": 1,
        "kind": entry.kind.name,
        "participant": participant,
        "at": iso(at),
        "salt": b64(salt),
        "body": dict(entry.body),
    }
    data = canonical_bytes(leaf)
    if with_sm3:
        from guantong.base.gm import sm3

        data = canonical_bytes({**leaf, "sm3": sm3(data)})
    return data
