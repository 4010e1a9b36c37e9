"""The signal catalogue of one participant: which signal has which number, unit and name, in memory and on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from guantong.base.canonical import digest
from guantong.base.clock import NS
from guantong.base.entry import Entry
from guantong.base.errors import Skippable
from guantong.base.units import canonical
from guantong.fuse.identity import NEVER
from guantong.fuse.model import SIGNALS_ADDED, Signal
from guantong.fuse.tables import SIGNALS
from guantong.records import Step

__all__ = ["Catalogue"]

_AHEAD = 10 * NS
"""So far ahead of a signal's newest time its bound is put on record, so that it needn't be written with every chunk. After a restart rows
below the bound are looked up in the tables, which costs a moment and decides nothing."""


class Catalogue:
    """Numbers are given once, in order of first sight, and never used again."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.signals: dict[int, Signal] = {}
        self.newest: dict[int, int] = {}
        """Bound of each signal's source times: none is later."""
        self.unknown_units: dict[tuple[str, str], str] = {}
        """Declared units that no table knows: (source, signal) to the unit as written."""
        self._ids: dict[tuple[str, str], int] = {}
        self._changed: dict[int, None] = {}
        self._seen_newest: dict[int, int] = {}
        for row in rows:
            facts = {name: row[name] for name in Signal.__dataclass_fields__}
            signal = Signal(**facts)
            self.signals[signal.id] = signal
            self._ids[signal.source, signal.native_id] = signal.id
            self.newest[signal.id] = int(row["newest"])
        self.durable: tuple[Signal, ...] = ()
        """As the table holds them, by id."""
        self._settle()

    def resolve(self, source: str, native_ids: list[str]) -> list[int]:
        """Numbers of the source's signals; new ones enter the catalogue."""
        found = []
        for native in native_ids:
            number = self._ids.get((source, native))
            if number is None:
                number = len(self.signals) + 1
                self.signals[number] = Signal(number, source, native, "", native, "", "", "", "", 1)
                self._ids[source, native] = number
                self._changed[number] = None
            found.append(number)
        return found

    def find(self, source: str, native: str) -> Signal | None:
        """The signal, or None."""
        number = self._ids.get((source, native))
        return None if number is None else self.signals[number]

    def derived(self, source: str, native: str, *, name: str, like: Signal, type: str, unit: str) -> int:
        """Number of a signal that a mapping makes; it sits where ``like`` does."""
        (number,) = self.resolve(source, [native])
        old = self.signals[number]
        self._put(replace(old, name=name, path=like.path, category=like.category, type=type, unit=unit))
        return number

    def describe(self, source: str, note: Mapping[str, Any]) -> None:
        """Take names and units from a batch's note."""
        names = note.get("names") or {}
        units = note.get("units") or {}
        for native in {*names, *units}:
            (number,) = self.resolve(source, [str(native)])
            old = self.signals[number]
            facts = names.get(native) or {}
            new = replace(
                old,
                name=str(facts.get("name") or old.name),
                path=str(facts.get("path") or old.path),
                category=str(facts.get("category") or old.category)[:64],
            )
            declared = units.get(native)
            if declared is not None and str(declared) != old.declared_unit:
                new = replace(new, declared_unit=str(declared)[:255], unit=self._unit(source, native, str(declared)))
            self._put(new)

    def typed(self, types: Mapping[int, str]) -> None:
        """What kinds of values were seen."""
        for number, kind in types.items():
            old = self.signals[number]
            if old.type != kind and old.type != "mixed":
                if old.type:
                    kind = "f64" if {old.type, kind} == {"f64", "i64"} else "mixed"
                    if kind == old.type:
                        continue
                # a first value is no change of the signal
                self._put(replace(old, type=kind, version=old.version), counts=bool(old.type))

    def set_unit(self, number: int, unit: str) -> None:
        """The unit that a mapping gives the signal's values."""
        self._put(replace(self.signals[number], unit=unit))

    def advance(self, newest: Mapping[int, int]) -> None:
        """Latest source times handed to keep; the bound of each signal is never below them."""
        for number, at in newest.items():
            if at > self.newest.get(number, NEVER):
                self.newest[number] = self._seen_newest[number] = min(at + _AHEAD, 2**63 - 1)

    def write(self, step: Step) -> None:
        """Put what changed since the last time into the step."""
        changed = [self.signals[number] for number in self._changed]
        for number in {*self._changed, *self._seen_newest}:
            signal = self.signals[number]
            step.upsert(
                SIGNALS,
                **{name: getattr(signal, name) for name in Signal.__dataclass_fields__},
                newest=self.newest.get(number, NEVER),
            )
        for source in sorted({signal.source for signal in changed}):
            mine = sorted((s.id, s.native_id, s.unit, s.type, s.version) for s in changed if s.source == source)
            body = {"source": source, "count": len(mine), "digest": digest([list(one) for one in mine])}
            step.record(Entry(SIGNALS_ADDED, body))

    def written(self) -> None:
        """The step is durable."""
        if self._changed:
            self._settle()
        self._changed.clear()
        self._seen_newest.clear()

    def _settle(self) -> None:
        self.durable = tuple(self.signals[number] for number in sorted(self.signals))

    def _unit(self, source: str, native: str, declared: str) -> str:
        try:
            unit = canonical(declared)
        except Skippable:
            self.unknown_units[source, native] = declared
            return ""
        self.unknown_units.pop((source, native), None)
        return unit

    def _put(self, new: Signal, *, counts: bool = True) -> None:
        old = self.signals[new.id]
        if new == old:
            return
        fresh = new.id in self._changed and old.version == 1
        self.signals[new.id] = replace(new, version=old.version if fresh or not counts else old.version + 1)
        self._changed[new.id] = None
