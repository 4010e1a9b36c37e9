"""Proof that a log has two histories: two checkpoints that it signed and that can't both be of one tree. Pure: bytes in, values out.

Of one size, two roots are enough. Of two sizes, a consistency proof (RFC 9162, 2.1.4) shows which root the larger tree had when it was
as large as the smaller one: if that is not the root signed then, the beginning was rewritten. The file is canonical JSON, and a
stranger needs only the log's key to verify it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guantong.base.canonical import b64, canonical_bytes, unb64
from guantong.base.depth import too_deep
from guantong.base.errors import Refused, Skippable
from guantong.base.merkle import EMPTY_ROOT, verify_consistency
from guantong.base.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, open_note, parse_checkpoint

__all__ = ["Fork", "contradicts", "parse_fork"]

TYPE = "guantong-fork"
_MEMBERS = {"v", "type", "first", "second", "root", "consistency"}


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed notes, the smaller tree's first, and what contradicts."""

    first: bytes
    second: bytes
    root: bytes
    """Root that the second note's tree had at the size of the first."""
    consistency: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical_bytes(
            {
                "v": 1,
                "type": TYPE,
                "first": self.first.decode(),
                "second": self.second.decode(),
                "root": b64(self.root),
                "consistency": [b64(item) for item in self.consistency],
            }
        )

    def verify(self, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, Checkpoint]:
        """Both checkpoints, if one of the keys signed both and they contradict each other.

        Raises Refused ``base.signature-bad`` and ``base.no-fork``, Skippable ``base.note-malformed``.
        """
        keys = list(keys)
        opened = [open_note(note, keys) for note in (self.first, self.second)]
        if not set(opened[0].signers) & set(opened[1].signers):
            raise Refused("base.no-fork", reason="the two checkpoints are signed with different keys")
        first, second = (parse_checkpoint(one.note.text) for one in opened)
        if not contradicts(first, second, self.root, self.consistency):
            raise Refused("base.no-fork", reason="the two checkpoints may be of one history")
        return first, second


_DEEP = 8


def contradicts(first: Checkpoint, second: Checkpoint, root: bytes, consistency: Sequence[bytes]) -> bool:
    """Whether the second tree, whose root was ``root`` at the size of the first, can't have grown from the first."""
    return (
        first.origin == second.origin
        and 0 < first.size <= second.size
        and root != first.root
        and root != EMPTY_ROOT
        and verify_consistency(first.size, root, second.size, second.root, consistency)
    )


def parse_fork(data: bytes) -> Fork:
    """The inverse of :meth:`Fork.to_bytes`; nothing is verified. Raises Skippable ``base.note-malformed``."""
    try:
        if len(data) > 4 * MAX_NOTE_BYTES:
            raise ValueError("it is too long")
        if too_deep(data, _DEEP):
            raise ValueError("it is nested too deep")
        document = json.loads(data.decode("utf-8"))
        if not isinstance(document, dict) or set(document) != _MEMBERS or document["type"] != TYPE:
            raise ValueError("it is no proof of a fork")
        if canonical_bytes(document) != data or document["v"] != 1 or document["v"] is True:
            raise ValueError("it is of another version or not canonical")
        return Fork(
            document["first"].encode(),
            document["second"].encode(),
            unb64(document["root"]),
            tuple(unb64(item) for item in document["consistency"]),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Skippable("base.note-malformed", reason=str(error)) from error
