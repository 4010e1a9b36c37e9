"""A dispute about a delivery, narrowed down to one block: each message halves what is left, under the root that the provider signed. Pure.

The walk follows the provider's tree (RFC 6962, 2.1): it answers the two halves of a stretch of leaves, which must hash to what it said of
the stretch before; the consumer goes on in the first half that is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.canonical import digest
from guantong.base.errors import Refused
from guantong.base.merkle import node_hash, root

__all__ = ["Stretch", "begin", "counted", "halves", "located", "narrowed", "resolution"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Leaves ``start`` to ``end`` (not included), and the hash that the provider's tree has over them."""

    start: int
    end: int
    expected: bytes

    @property
    def middle(self) -> int:
        """Where the tree divides it."""
        return self.start + (1 << ((self.end - self.start - 1).bit_length() - 1))


def begin(record: Mapping[str, Any]) -> Stretch:
    """All blocks of a usage record, under the root that stands in it."""
    return Stretch(0, int(record["chunkCount"]), bytes.fromhex(str(record["contentRoot"])[7:]))


def halves(theirs: Sequence[bytes], stretch: tuple[int, int]) -> tuple[bytes, bytes]:
    """The provider's answer: hashes of both halves. ValueError for a stretch that it does not have or that is one block."""
    start, end = stretch
    if not 0 <= start < end <= len(theirs) or end - start < 2:
        raise ValueError("there is no such stretch")
    middle = Stretch(start, end, b"").middle
    return root(theirs[start:middle]), root(theirs[middle:end])


def narrowed(mine: Sequence[bytes], stretch: Stretch, left: bytes, right: bytes) -> Stretch:
    """The half in which the first difference lies. Raises Refused ``settle.dispute-forged`` where the halves are not the whole."""
    if node_hash(left, right) != stretch.expected:
        raise Refused(
            "settle.dispute-forged", reason=f"the halves of blocks {stretch.start} to {stretch.end} are not the whole"
        )
    middle = stretch.middle
    if middle <= len(mine) and root(mine[stretch.start : middle]) == left:
        return Stretch(middle, stretch.end, right)
    return Stretch(stretch.start, middle, left)


def located(
    record: Mapping[str, Any],
    stretch: Stretch,
    mine: Sequence[bytes],
    statement: Mapping[str, Any],
    *,
    messages: int,
    consumer: str,
    at: str,
) -> dict[str, Any]:
    """The consumer's statement that names the block. statement: its own of the receipt, with what it counted."""
    place = stretch.start
    return {
        "v": 1,
        "type": "dispute",
        "agreementId": record["agreementId"],
        "recordId": record["recordId"],
        "record": digest(dict(record)),
        "block": place,
        "blocks": record["chunkCount"],
        "providerHash": stretch.expected.hex(),
        "consumerHash": mine[place].hex() if place < len(mine) else "",
        "counted": dict(statement.get("counted") or {}),
        "messages": messages,
        "consumer": consumer,
        "at": at,
    }


def resolution(record: Mapping[str, Any], *, rows: int, size: int, reason: str, by: str, at: str) -> dict[str, Any]:
    """What the sides settle on: the record stands as it was signed, and so much of it is owed."""
    return {
        "v": 1,
        "type": "resolution",
        "agreementId": record["agreementId"],
        "recordId": record["recordId"],
        "record": digest(dict(record)),
        "agreed": {"rows": rows, "bytes": size},
        "reason": reason,
        "by": by,
        "at": at,
    }


def counted(record: Mapping[str, Any], agreed: Mapping[str, Any]) -> dict[str, Any]:
    """The record with what was agreed on in place of what it stated; for arithmetic only, nobody signs it."""
    changed = {**record, "rows": int(agreed["rows"]), "bytes": int(agreed["bytes"])}
    if str(record.get("unit", "")).lower().removesuffix("s") in ("row", "reading"):
        changed["quantity"] = str(agreed["rows"])
    return changed
