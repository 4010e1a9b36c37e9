"""What the pages of watch show: warnings with what explains them, availability, control charts, energy, time to survive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.web.ask import Ask, not_found, time_of
from guantong.web.loaders.fuse import curve, finding_of, plain
from guantong.web.loaders.labels import labels
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.base.finding import Finding
    from guantong.watch.model import Chart, Figure, Survival

__all__ = ["overview", "survival_of", "warning"]


def figure_of(one: Figure) -> dict[str, Any]:
    """A number that says where it comes from."""
    return {
        "name": one.name,
        "value": plain(one.value),
        "unit": one.unit,
        "source": one.source,
        "start": time_of(one.start),
        "end": time_of(one.end),
        "coverage": one.coverage,
        "reason": one.reason,
        "definition": one.definition,
        "facts": plain(one.facts),
    }


def chart_of(one: Chart) -> dict[str, Any]:
    """A control chart."""
    return {
        "characteristic": one.characteristic,
        "name": one.name,
        "unit": one.unit,
        "source": one.source,
        "parts": list(one.parts)[:200],
        "values": [plain(value) for value in one.values][:200],
        "centre": plain(one.centre),
        "lower": plain(one.lower),
        "upper": plain(one.upper),
        "signals": [
            {"rule": item.rule, "name": item.name, "index": item.index, "part": item.part} for item in one.signals
        ][:50],
        "capability": [figure_of(item) for item in one.capability],
        "out_of_tolerance": one.out_of_tolerance,
        "coverage": one.coverage,
    }


def survival_of(one: Survival) -> dict[str, Any]:
    """How long supply lasts."""
    return {
        "component": one.component,
        "disrupted": one.disrupted,
        "figure": figure_of(one.figure),
        "days": plain(one.days),
        "asked": [plain(item) for item in one.asked],
        "lower_bound": one.lower_bound,
    }


def warning_of(one: Finding) -> dict[str, Any]:
    """A warning with the channels that explain it, largest first."""
    given: Any = one.facts.get("channels", ())
    channels: list[dict[str, Any]] = [
        {"signal": str(item["signal"]), "name": str(item.get("name") or item["signal"]), "share": float(item["share"])}
        for item in given
    ]
    channels.sort(key=lambda item: float(item["share"]), reverse=True)
    found = finding_of(one)
    found["facts"] = {name: value for name, value in found["facts"].items() if name != "channels"}
    return {**found, "contributions": channels[:12]}


async def overview(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Everything the watch sees."""
    me = rooms.participant
    warnings = await rooms.watch.warnings(me)
    availability = await rooms.watch.availability(me)
    charts = await rooms.watch.spc(me)
    energy = await rooms.watch.energy(me)
    charts = sorted(charts, key=lambda one: (-one.out_of_tolerance, -len(one.signals), one.characteristic))
    return {
        "warnings": [warning_of(one) for one in warnings][:50],
        "availability": [
            {
                "machine": one.machine,
                "figure": figure_of(one.availability),
                "durations_s": plain(one.durations_s),
                "faults": one.faults,
                "intervals": [
                    {
                        "state": item.state,
                        "start": item.start / NS,
                        "end": item.end / NS,
                        "seconds": (item.end - item.start) / NS,
                    }
                    for item in [item for item in one.intervals if item.end - item.start >= NS][-300:]
                ],
            }
            for one in availability
        ],
        "charts": [chart_of(one) for one in charts[:12]],
        "charts_total": len(charts),
        "energy": [
            {
                "meter": one.meter,
                "energy": figure_of(one.energy),
                "emission": figure_of(one.emission),
                "factor": {
                    "id": one.factor.id,
                    "region": one.factor.region,
                    "kg_per_kwh": one.factor.kg_per_kwh,
                    "gas": one.factor.gas,
                    "basis": one.factor.basis,
                    "year": one.factor.year,
                    "source": one.factor.source,
                    "verified": one.factor.verified,
                },
                "resets": one.resets,
            }
            for one in energy
        ],
        "supply": [
            {
                "component": one.component,
                "stock": plain(one.stock),
                "usage_per_day": plain(one.usage_per_day),
                "inputs": list(one.inputs),
                "partner": one.partner,
                "agreement": one.agreement_id,
                "end_product": one.end_product,
                "as_of": time_of(one.as_of),
            }
            for one in await rooms.watch.supply(me)
        ],
    }


async def warning(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One warning: what deviates, since when, which channels, and their curves."""
    me, key = rooms.participant, ask.path["id"]
    one = next((item for item in await rooms.watch.warnings(me) if item.id == key), None)
    if one is None:
        raise not_found(f"/watch/{key}")
    shown = warning_of(one)
    known = {(item.source, item.native_id): item for item in await rooms.fuse.signals(me)}
    names = {item.name: item for item in known.values() if item.source == one.source}
    span = max(one.end - one.start, 60 * NS)
    curves = []
    for row in shown["contributions"][:3]:
        signal = known.get((one.source, row["signal"])) or names.get(row["signal"])
        if signal is not None:
            row["signal_id"] = signal.id
            row["unit"] = signal.unit
            curves.append(
                {
                    "signal": row["signal"],
                    "signal_id": signal.id,
                    "unit": signal.unit,
                    **await curve(rooms, signal, one.start - span, one.end + span),
                }
            )
    edges = await rooms.describe.lineage(me, f"fuse:signal:{curves[0]['signal_id']}", "forward") if curves else []
    return {
        "title": shown["signal"] or shown["source"],
        "warning": shown,
        "curves": curves,
        "labels": await labels(rooms, {end for one in edges for end in (one.source, one.target)}),
        "touches": [{"from": edge.source, "to": edge.target, "relation": edge.relation} for edge in edges][:30],
    }
