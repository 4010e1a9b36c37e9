"""Energy from counters or power, and what it emitted by a named emission factor.

Factors are data: value, gas, basis, year, source, and whether somebody checked the number against the official notice. Those shipped
here come from an unlicensed transcription of the notices; only the averages and regions were cross-checked, and every one says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem
from guantong.watch.model import Carbon, EnergyFactor, Figure

__all__ = ["FACTORS", "carbon", "from_counter", "from_power", "kwh_per", "named", "stated"]

_2022 = "生态环境部、国家统计局 2022 年电力二氧化碳排放因子公告（公告2024年第12号 / 2024-12-20）"
_2023 = "生态环境部、国家统计局 2023 年电力二氧化碳排放因子公告（2026-01，摘录）"

FACTORS: tuple[EnergyFactor, ...] = tuple(
    EnergyFactor(name, region, value, "CO2", "location-based average", year, source, verified)
    for name, region, value, year, source, verified in (
        ("cn-average-2022", "全国 China", 0.5366, 2022, _2022, True),
        ("cn-average-2023", "全国 China", 0.5306, 2023, _2023, True),
        ("cn-north-2022", "华北 North", 0.6776, 2022, _2022, False),
        ("cn-northeast-2022", "东北 Northeast", 0.5564, 2022, _2022, False),
        ("cn-east-2022", "华东 East", 0.5617, 2022, _2022, False),
        ("cn-central-2022", "华中 Central", 0.5395, 2022, _2022, False),
        ("cn-northwest-2022", "西北 Northwest", 0.5857, 2022, _2022, False),
        ("cn-south-2022", "南方 South", 0.3869, 2022, _2022, False),
        ("cn-southwest-2022", "西南 Southwest", 0.2268, 2022, _2022, False),
        ("cn-north-2023", "华北 North", 0.6361, 2023, _2023, False),
        ("cn-northeast-2023", "东北 Northeast", 0.5122, 2023, _2023, False),
        ("cn-east-2023", "华东 East", 0.5500, 2023, _2023, False),
        ("cn-central-2023", "华中 Central", 0.5271, 2023, _2023, False),
        ("cn-northwest-2023", "西北 Northwest", 0.5543, 2023, _2023, False),
    )
)
"""Grid emission factors, kgCO2/kWh. ``verified`` False: check against the notice before a report stands on it."""

_KWH = {
    "Wh": 1e-3,
    "W.h": 1e-3,
    "kWh": 1.0,
    "kW.h": 1.0,
    "MWh": 1e3,
    "MW.h": 1e3,
    "J": 1 / 3.6e6,
    "W.s": 1 / 3.6e6,
    "kJ": 1 / 3600,
    "MJ": 1 / 3.6,
    "GJ": 1000 / 3.6,
}
_KW = {"W": 1e-3, "kW": 1.0, "MW": 1e3, "V.A": 0.0, "kV.A": 0.0}


def named(name: str) -> EnergyFactor:
    """The factor of that id. Raises ConfigProblem ``watch.factor-unknown``."""
    for factor in FACTORS:
        if factor.id == name:
            return factor
    raise ConfigProblem("watch.factor-unknown", factor=name, known=", ".join(factor.id for factor in FACTORS))


def stated(name: str) -> dict[str, str]:
    """A factor as a figure states it: id, kg a kWh, gas, basis, year, source. Raises ConfigProblem as :func:`named` does."""
    found = named(name)
    return {
        "factor": found.id,
        "kg_per_kwh": str(found.kg_per_kwh),
        "gas": found.gas,
        "basis": found.basis,
        "year": str(found.year),
        "source": found.source,
    }


def kwh_per(unit: str) -> tuple[str, float] | None:
    """(``counter`` or ``power``, factor to kWh or kW) of a UCUM unit, None where it is neither. Apparent power is neither."""
    if unit in _KWH:
        return "counter", _KWH[unit]
    factor = _KW.get(unit)
    return ("power", factor) if factor else None


def from_counter(
    readings: Sequence[tuple[int, float | None]], *, start: int, end: int, source: str, scale: float = 1.0
) -> tuple[Figure, int]:
    """Energy by a counter that adds up: the sum of its increases; (figure in kWh, number of resets).

    readings: sorted instants and counts, None where the counter was unavailable; the last one before the window may be among them. A
    fall is a reset: the count after it was gathered since, so that it is added whole, and what was used between the last reading and
    the reset is missing. Coverage: time between the first and the last reading over the window; unavailability in between does not
    lose energy, since the counter goes on.
    """
    known = [(at, value) for at, value in readings if value is not None]
    before = [item for item in known if item[0] < start]
    inside = [item for item in known if start <= item[0] < end]
    used = ([before[-1]] if before else []) + inside
    if len(used) < 2:
        return Figure(
            "energy", None, "kW.h", source, start, end, 0.0, "the counter has fewer than two readings in the window"
        ), 0
    total, resets = 0.0, 0
    for index, ((earlier, old), (later, new)) in enumerate(itertools.pairwise(used)):
        resets += new < old
        step = new if new < old else new - old
        # the reading before the window belongs to it only in part: shared out by time
        part = (later - start) / (later - earlier) if index == 0 and earlier < start and later > earlier else 1.0
        total += step * part
    covered = used[-1][0] - max(start, used[0][0])
    return (
        Figure(
            "energy",
            total * scale,
            "kW.h",
            source,
            start,
            end,
            covered / (end - start) if end > start else 0.0,
            definition="sum of the counter's increases; a fall counts as a reset",
            facts={"readings": len(inside), "resets": resets},
        ),
        resets,
    )


def from_power(
    readings: Sequence[tuple[int, float | None]], *, start: int, end: int, source: str, hold_ns: int, scale: float = 1.0
) -> Figure:
    """Energy by power over time: each reading holds until the next one, no longer than ``hold_ns``; the rest is not covered."""
    energy, covered = 0.0, 0
    for index, (at, value) in enumerate(readings):
        if value is None or at >= end:
            continue
        until = min(readings[index + 1][0] if index + 1 < len(readings) else end, at + hold_ns, end)
        length = until - max(at, start)
        if length > 0:
            energy += value * length / NS / 3600
            covered += length
    return Figure(
        "energy",
        energy * scale if covered else None,
        "kW.h",
        source,
        start,
        end,
        covered / (end - start) if end > start else 0.0,
        reason="" if covered else "no power reading in the window",
        definition=f"time-weighted integral of power, a reading holds for at most {hold_ns / NS:g} s",
        facts={"readings": len(readings)},
    )


def carbon(meter: str, energy: Figure, factor: EnergyFactor, resets: int = 0) -> Carbon:
    """The emission of that energy. Its unit names the gas that the factor counts; what was not measured is not emitted on paper."""
    gas = "kgCO2e" if factor.gas == "CO2e" else "kgCO2"
    emission = Figure(
        name="emission",
        value=None if energy.value is None else energy.value * factor.kg_per_kwh,
        unit=gas,
        source=f"{energy.source}; factor {factor.id}: {factor.source}",
        start=energy.start,
        end=energy.end,
        coverage=energy.coverage,
        reason=energy.reason,
        definition=f"energy · {factor.kg_per_kwh} {gas}/kWh ({factor.basis}, {factor.year})",
        facts={
            "factor": factor.kg_per_kwh,
            "basis": factor.basis,
            "year": factor.year,
            "region": factor.region,
            "verified": factor.verified,
        },
    )
    return Carbon(meter, energy, emission, factor, resets)
