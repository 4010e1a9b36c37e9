"""What a signal may be in a companion model, suggested with reasons and a confidence; a person decides. Pure.

Evidence: words of the signal's name and path (0.6 at most, by the share of a target's key words), a unit that converts to the target's
(0.3; one that doesn't rules the target out), and a last value within the target's usual range (0.1). Below 0.5 nothing is suggested.
Names are those of MTConnect Part 2 (1.8, data item types).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from guantong.base.units import compatible, convert
from guantong.fuse.model import Signal

__all__ = ["TARGETS", "Suggestion", "Target", "suggest"]

LEAST = 0.5
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[一-鿿]+")


@dataclass(frozen=True, slots=True)
class Target:
    """One name of a companion model."""

    id: str
    words: tuple[frozenset[str], ...]
    """Sets of words; all of one set in a name is a full match."""
    unit: str
    span: tuple[float, float]


def _target(id: str, unit: str, span: tuple[float, float], *words: str) -> Target:
    return Target(id, tuple(frozenset(one.split()) for one in words), unit, span)


TARGETS = (
    _target("ROTARY_VELOCITY", "{rev}/min", (0, 60_000), "spindle speed", "srpm", "rpm", "主轴 转速"),
    _target("PATH_FEEDRATE", "mm/min", (0, 100_000), "feed rate", "feedrate", "path feedrate", "进给"),
    _target("LOAD", "%", (-100, 300), "load", "spindle load", "负载"),
    _target("TEMPERATURE", "Cel", (-60, 1_500), "temperature", "temp", "温度"),
    _target("PRESSURE", "kPa", (-200, 100_000), "pressure", "press", "压力"),
    _target("FLOW", "L/min", (0, 100_000), "flow", "coolant flow", "流量"),
    _target("ELECTRICAL_ENERGY", "kW.h", (0, 1e9), "energy", "active energy", "电能"),
    _target("WATTAGE", "kW", (-10_000, 10_000), "power", "active power", "功率"),
    _target("AMPERAGE", "A", (-10_000, 10_000), "current", "amperage", "电流"),
    _target("VOLTAGE", "V", (-100_000, 100_000), "voltage", "电压"),
    _target("FREQUENCY", "Hz", (0, 100_000), "frequency", "频率"),
    _target("TORQUE", "N.m", (-1e6, 1e6), "torque", "扭矩"),
    _target("PART_COUNT", "{#}", (0, 1e9), "part count", "parts", "产量"),
    _target("POSITION", "mm", (-100_000, 100_000), "position", "pos", "位置"),
    _target("ACCELERATION", "mm/s2", (-1e6, 1e6), "vibration", "acceleration", "振动"),
)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One signal may be one target."""

    id: str
    signal: int
    target: str
    confidence: float
    """0 to 1: weight of the evidence, no probability."""
    reasons: tuple[str, ...]
    source_unit: str
    target_unit: str


def words_of(text: str) -> frozenset[str]:
    """The words of a name: at blanks, underscores, digits and where small letters become large."""
    return frozenset(word.lower() for word in _WORD.findall(text))


def suggest(signals: Iterable[Signal], last: Mapping[int, float], decided: frozenset[str]) -> list[Suggestion]:
    """Open suggestions, the strongest target of each signal; what was decided (either way) is not suggested again."""
    found = []
    for signal in signals:
        if signal.type not in ("f64", "i64"):
            continue
        names = words_of(f"{signal.name} {signal.native_id} {signal.path}")
        best: Suggestion | None = None
        for target in TARGETS:
            id = hashlib.sha256(f"{signal.source}\x1f{signal.native_id}\x1f{target.id}".encode()).hexdigest()[:20]
            if id in decided or (signal.unit and not compatible(signal.unit, target.unit)):
                continue
            share, hit = max((len(one & names) / len(one), sorted(one & names)) for one in target.words)
            if not share:
                continue
            score, reasons = 0.6 * share, [f"name: {' '.join(hit)}"]
            if signal.unit:
                score += 0.3
                reasons.append(f"unit: {signal.unit}")
            value = last.get(signal.id)
            if value is not None:
                shown = convert(value, signal.unit, target.unit) if signal.unit else value
                if target.span[0] <= shown <= target.span[1]:
                    score += 0.1
                    reasons.append("range")
            if score >= LEAST and (best is None or score > best.confidence):
                best = Suggestion(id, signal.id, target.id, round(score, 3), tuple(reasons), signal.unit, target.unit)
        if best is not None:
            found.append(best)
    return sorted(found, key=lambda one: (-one.confidence, one.signal))
