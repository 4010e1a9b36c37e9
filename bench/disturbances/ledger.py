"""The account: what the peer's file says was offered against what the gateway's ledger says it kept. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Offered = Mapping[tuple[str, int], int]
"""(signal, number) to the source time that the peer gave it, ns."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A gateway's ledger."""

    rows: list[tuple[str, int, int, int]]
    gaps: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of what was offered."""

    offered: int
    kept: int
    """Different readings of those offered that the gateway kept."""
    missing: int
    duplicated: int
    """Readings that stand more than once in what was kept."""
    out_of_order: int
    """Readings that arrived after a later one of their signal, without having been declared as missing meanwhile."""
    gap_records: int
    undeclared: int
    """Missing readings that no gap record covers."""
    overclaimed: int
    """Kept readings that a gap record claims to be missing."""
    altered: int
    """Kept readings whose source time is not the one that the peer gave."""

    @property
    def exact(self) -> bool:
        """Gap intervals cover exactly what is missing."""
        return self.undeclared == 0 and self.overclaimed == 0

    def to_json(self) -> dict[str, int]:
        """Plain JSON."""
        return asdict(self)


def read_offered(path: Path, signals: Iterable[str]) -> dict[tuple[str, int], int]:
    """``<number> <time in ms>`` a line, each for every signal: what the peer wrote down."""
    names = tuple(signals)
    found: dict[tuple[str, int], int] = {}
    for line in path.read_text("ascii").splitlines():
        number, _, at = line.partition(" ")
        for name in names:
            found[name, int(number)] = int(at) * 1_000_000
    return found


def read_ledger(path: Path) -> Kept:
    """A gateway's ledger file; no file is an empty one."""
    kept = Kept([])
    if not path.exists():
        return kept
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)
        if isinstance(entry, list):
            if entry[1] is None:
                continue
            kept.rows.append((str(entry[0]), int(entry[1]), int(entry[2]), int(entry[3])))
        elif "gap" in entry:
            kept.gaps.append(entry["gap"])
        elif "event" in entry:
            kept.events.append(entry)
        elif "facts" in entry:
            kept.facts.update(entry["facts"])
    return kept


def account(offered: Offered, kept: Kept, *, out_of_order: int | None = None) -> Ledger:
    """The ledger of one case. Readings that were not offered in the case (before it began) are left out."""
    mine = [row for row in kept.rows if (row[0], row[1]) in offered]
    times = Counter((signal, number) for signal, number, _, _ in mine)
    missing = [key for key in offered if key not in times]
    newest: dict[str, int] = {}
    late = 0
    for signal, number, _, _ in sorted(mine, key=lambda row: row[3]):
        late += number < newest.get(signal, -1)
        newest[signal] = max(number, newest.get(signal, -1))
    spans: dict[str | None, list[tuple[int, int]]] = {}
    for gap in kept.gaps:
        spans.setdefault(gap.get("signal"), []).append((int(gap["start"]), int(gap["end"])))

    def covered(key: tuple[str, int]) -> bool:
        at = offered[key]
        # the peer's file has milliseconds
        return any(
            start < at + 1_000_000 and at <= end for start, end in (*spans.get(key[0], ()), *spans.get(None, ()))
        )

    return Ledger(
        offered=len(offered),
        kept=len(times),
        missing=len(missing),
        duplicated=sum(count - 1 for count in times.values()),
        out_of_order=late if out_of_order is None else out_of_order,
        gap_records=len(kept.gaps),
        undeclared=sum(not covered(key) for key in missing),
        overclaimed=sum(_inside(offered[key], spans.get(key[0], []), spans.get(None, [])) for key in times),
        altered=sum(abs(at - offered[signal, number]) >= 1_000_000 for signal, number, at, _ in mine),
    )


def _inside(at: int, *lists: list[tuple[int, int]]) -> bool:
    return any(start <= at <= end for spans in lists for start, end in spans)
