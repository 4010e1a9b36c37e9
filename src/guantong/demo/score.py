"""Compare what was planned with what was found: by kind, signal and overlapping time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Score", "score"]

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """The comparison. ``pairs`` holds each planned item with the finding that matches it, or None."""

    pairs: tuple[tuple[Item, Item | None], ...]
    false_alarms: tuple[Item, ...]

    @property
    def planted(self) -> int:
        """How many items were planned."""
        return len(self.pairs)

    @property
    def found(self) -> int:
        """How many of them were found."""
        return sum(match is not None for _, match in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """As in the report: counts of planted, found, false alarms; and the lists behind them."""
        return {
            "planted": self.planted,
            "found": self.found,
            "false_alarms": len(self.false_alarms),
            "items": [{**item, "found": None if match is None else dict(match)} for item, match in self.pairs],
            "alarms": [dict(item) for item in self.false_alarms],
        }


def score(planned: Sequence[Item], found: Sequence[Item]) -> Score:
    """Match each planned item with findings of its kind and source whose time overlaps it.

    A planned item without a signal concerns the whole source: findings of any of its signals match. Findings that match a planned item
    are never false alarms; the others are.
    """
    pairs: list[tuple[Item, Item | None]] = []
    used: set[int] = set()
    for item in planned:
        matches = [index for index, finding in enumerate(found) if _matches(item, finding)]
        used.update(matches)
        pairs.append((item, found[matches[0]] if matches else None))
    return Score(tuple(pairs), tuple(finding for index, finding in enumerate(found) if index not in used))


def _matches(item: Item, finding: Item) -> bool:
    if item["kind"] != finding["kind"] or item["source"] != finding["source"]:
        return False
    if item["signal"] and finding["signal"] and item["signal"] != finding["signal"]:
        return False
    return bool(finding["start"] <= item["end"] and item["start"] <= finding["end"])
