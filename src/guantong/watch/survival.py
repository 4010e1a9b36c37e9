"""How long supply lasts when one component stops: days of supply added up along the chain, the weakest input deciding.

For the disrupted component T = its days of supply; for every other one T = min over its affected inputs of T(input), plus its own days
of supply; inputs that are not affected count as endless. Only one number crosses a company's border, so that no bill of material is
disclosed. On a tree this is the optimum of the time-to-survive linear programme; elsewhere it never exceeds it: at least T days.

Sources: D. Simchi-Levi et al., Interfaces 45 (2015) 375-390 (TTS); Catena-X CX-0145 Days of Supply 1.0.1 (meaning of the scalar).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_DOWN, Decimal

from guantong.base.errors import ConfigProblem
from guantong.watch.model import Supply

__all__ = ["check_supplies", "days_of_supply", "days_text", "is_tree", "survive"]


def days_of_supply(supply: Supply) -> float:
    """Stock over the total usage rate, in days."""
    return supply.stock / supply.usage_per_day


def check_supplies(supplies: Iterable[Supply]) -> Iterable[tuple[str, str]]:
    """Every problem of the input table as (component, reason)."""
    known: dict[str, Supply] = {}
    for supply in supplies:
        if not supply.component or len(supply.component) > 200:
            yield supply.component[:200], "needs a name of 1 to 200 characters"
        if supply.component in known:
            yield supply.component, "stands twice"
        known[supply.component] = supply
        if not (math.isfinite(supply.stock) and supply.stock >= 0):
            yield supply.component, "its stock must be a number not below zero"
        if not (math.isfinite(supply.usage_per_day) and supply.usage_per_day > 0):
            yield supply.component, "its usage a day must be above zero"
        if supply.capacity_per_day is not None and not supply.capacity_per_day >= 0:
            yield supply.component, "its capacity must not be below zero"
        if supply.partner and not supply.agreement_id:
            yield supply.component, "comes from a partner: name the agreement under which that partner may be asked"
    for supply in known.values():
        for name in supply.inputs:
            if name not in known:
                yield supply.component, f"needs {name}, which is not in the table"
    loop = _loop({name: supply.inputs for name, supply in known.items()})
    if loop:
        yield loop[0], f"needs itself: {' → '.join(loop)}"


def survive(supplies: Iterable[Supply], stopped: Mapping[str, float | None]) -> dict[str, float]:
    """Days that each affected component lasts; components that are not affected are absent.

    stopped: disrupted components of our own table, each with the days that its source outside still delivers: None or 0 where
    production here stops at once, a partner's answer where it is bought.
    Raises ConfigProblem ``watch.supply-invalid``.
    """
    rows = list(supplies)
    table = {supply.component: supply for supply in rows}
    for component, reason in check_supplies(rows):
        raise ConfigProblem("watch.supply-invalid", component=component, reason=reason)
    days: dict[str, float] = {}
    for name in _inputs_first({name: supply.inputs for name, supply in table.items()}):
        supply = table[name]
        affected = [days[source] for source in supply.inputs if source in days]
        if name in stopped:
            affected.append(stopped[name] or 0.0)
        if affected:
            days[name] = min(affected) + days_of_supply(supply)
    return days


def is_tree(supplies: Iterable[Supply]) -> bool:
    """Whether no component feeds two others: then the result is exact, not only a lower bound."""
    consumers: dict[str, int] = {}
    for supply in supplies:
        for name in supply.inputs:
            consumers[name] = consumers.get(name, 0) + 1
    return all(count == 1 for count in consumers.values())


def days_text(days: float) -> str:
    """Days with three decimals, cut and not rounded, so that the figure stays a lower bound on its way."""
    return format(Decimal(days).quantize(Decimal("0.001"), ROUND_DOWN), "f")


def _inputs_first(inputs: Mapping[str, Iterable[str]]) -> list[str]:
    order: list[str] = []
    seen: set[str] = set()
    for root in inputs:
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, done = stack.pop()
            if done:
                order.append(name)
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                stack.extend((source, False) for source in inputs[name])
    return order


def _loop(inputs: Mapping[str, Iterable[str]]) -> list[str]:
    finished: set[str] = set()
    for root in inputs:
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, done = stack.pop()
            if done:
                finished.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in finished:
                path.append(name)
                stack.append((name, True))
                stack.extend((source, False) for source in inputs.get(name, ()))
    return []
