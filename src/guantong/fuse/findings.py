"""Findings and corrections of one participant: neighbours become one, each has an id that a second fusion of the same data gives again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from guantong.base.clock import NS, iso
from guantong.base.entry import Entry
from guantong.base.finding import Finding
from guantong.fuse.model import CORRECTION_MADE, FINDING_MADE, Correction
from guantong.fuse.tables import CORRECTIONS, FINDINGS
from guantong.records import Edge, Step

__all__ = ["Book", "signal_node", "stable_id"]


def stable_id(kind: str, source: str, signal: str, start: int) -> str:
    """The id of a finding or correction: the same for the same data."""
    text = "\x1f".join((kind, source, signal, str(start)))
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def signal_node(number: int) -> str:
    """Lineage node of a signal."""
    return f"fuse:signal:{number}"


class Book:
    """What is found and corrected, in memory and on record."""

    def __init__(
        self, findings: Iterable[Mapping[str, Any]], corrections: Iterable[Mapping[str, Any]], gap_s: float
    ) -> None:
        self.gap = int(gap_s * NS)
        self.findings: dict[str, Finding] = {}
        self.corrections: dict[str, Correction] = {}
        self._changed: dict[str, None] = {}
        self._gone: set[str] = set()
        self._stated: set[str] = set()
        self._new_corrections: dict[str, None] = {}
        self._edges: list[Edge] = []
        for row in findings:
            one = Finding(
                row["kind"],
                row["source"],
                row["signal"],
                row["start"],
                row["end"],
                orjson.loads(row["facts"]),
                row["id"],
            )
            self.findings[one.id] = one
            self._stated.add(one.id)
        for row in corrections:
            facts = {name: row[name] for name in Correction.__dataclass_fields__}
            facts["value"] = orjson.loads(row["value"])
            self.corrections[row["id"]] = Correction(**facts)
            self._stated.add(row["id"])

    def find(self, kind: str, source: str, signal: str, start: int, end: int, **facts: Any) -> Finding:
        """Put a finding down; one of the same kind and place that touches it (or is nearer than the gap) becomes one with it."""
        new = Finding(kind, source, signal, start, end, facts)
        touching = [
            old
            for old in self.findings.values()
            if (old.kind, old.source, old.signal) == (kind, source, signal)
            and old.start <= end + self.gap
            and old.end >= start - self.gap
        ]
        for old in touching:
            new = _one(old, new)
        id = touching[0].id if touching else stable_id(kind, source, signal, start)
        for old in touching[1:]:
            del self.findings[old.id]
            self._changed.pop(old.id, None)
            self._gone.add(old.id)
        new = replace(new, id=id)
        if self.findings.get(id) != new:
            self.findings[id] = new
            self._changed[id] = None
        return new

    def correct(self, correction: Correction, signals: Iterable[int]) -> None:
        """Put a correction down, or its new end."""
        old = self.corrections.get(correction.id)
        if old == correction:
            return
        self.corrections[correction.id] = correction
        self._new_corrections[correction.id] = None
        if old is None:
            self._edges += [
                Edge(f"fuse:correction:{correction.id}", signal_node(number), "corrected") for number in signals
            ]

    def write(self, step: Step) -> None:
        """Put what changed since the last time into the step."""
        for id in self._gone:
            step.delete(FINDINGS, id=id)
        for id in self._changed:
            one = self.findings[id]
            step.upsert(
                FINDINGS,
                id=id,
                kind=one.kind,
                source=one.source,
                signal=one.signal,
                start=one.start,
                end=one.end,
                facts=orjson.dumps(dict(one.facts)),
            )
            if id not in self._stated:
                self._stated.add(id)
                step.record(
                    Entry(
                        FINDING_MADE,
                        {
                            "id": id,
                            "kind": one.kind,
                            "source": one.source,
                            "signal": one.signal,
                            "start": iso(one.start),
                            "end": iso(one.end),
                        },
                    )
                )
        for id in self._new_corrections:
            fix = self.corrections[id]
            step.upsert(
                CORRECTIONS,
                id=id,
                kind=fix.kind,
                source=fix.source,
                signal=fix.signal,
                start=fix.start,
                end=fix.end,
                value=orjson.dumps(dict(fix.value)),
                rule=fix.rule,
                rule_version=fix.rule_version,
            )
            if id not in self._stated:
                self._stated.add(id)
                step.record(
                    Entry(
                        CORRECTION_MADE,
                        {
                            "id": id,
                            "kind": fix.kind,
                            "source": fix.source,
                            "signal": fix.signal,
                            "start": iso(fix.start),
                            "end": iso(fix.end),
                            "rule": fix.rule,
                            "version": fix.rule_version,
                            "value": dict(fix.value),
                        },
                    )
                )
        step.link(*self._edges)

    def written(self) -> None:
        """The step is durable."""
        self._changed.clear()
        self._gone.clear()
        self._new_corrections.clear()
        self._edges.clear()


def _one(old: Finding, new: Finding) -> Finding:
    """Both as one. Figures: rows add up unless one stretch lies in the other; of the rest the earlier wins, of ``max_…`` the larger."""
    facts: dict[str, Any] = {**new.facts, **old.facts}
    for name in {*old.facts, *new.facts}:
        left, right = old.facts.get(name), new.facts.get(name)
        if name == "signals" and isinstance(left, list) and isinstance(right, list):
            facts[name] = sorted({*left, *right})
        elif isinstance(left, int | float) and isinstance(right, int | float):
            if name == "rows":
                nested = (old.start <= new.start and new.end <= old.end) or (
                    new.start <= old.start and old.end <= new.end
                )
                facts[name] = max(left, right) if nested else left + right
            elif name.startswith("max_"):
                facts[name] = max(left, right)
    return replace(new, start=min(old.start, new.start), end=max(old.end, new.end), facts=facts)
