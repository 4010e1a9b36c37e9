"""Individuals and moving range of a measured characteristic, with named run rules, and capability where limits allow.

Sources: W. A. Shewhart's chart of individuals with limits x̄ ± 3·MR̄/d2, moving range of two: d2 = 1.128, D3 = 0, D4 = 3.267 (ISO 7870-2;
NIST/SEMATECH e-Handbook 6.3.2.2); run rules of the Western Electric Statistical Quality Control Handbook (1956) 1 to 4, which are
Nelson's (1984) 1, 5, 6 and, with eight points instead of nine, 2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from guantong.watch.model import Figure, Signalled

__all__ = ["D2", "D4", "RULES", "capability", "limits", "moving_ranges", "signals"]

D2, D4 = 1.128, 3.267
"""Control chart constants for moving ranges of two."""

RULES = {
    "WE1": "Western Electric 1 / Nelson 1: a point beyond 3 sigma",
    "WE2": "Western Electric 2 / Nelson 5: two of three points beyond 2 sigma on one side",
    "WE3": "Western Electric 3 / Nelson 6: four of five points beyond 1 sigma on one side",
    "WE4": "Western Electric 4 / Nelson 2 with eight points: eight points in a row on one side",
    "MR": "moving range above D4·MR̄",
}
"""Rules with their names."""


def moving_ranges(values: Sequence[float]) -> list[float]:
    """|x_i − x_(i−1)|."""
    return [abs(after - before) for before, after in itertools.pairwise(values)]


def limits(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """(centre, lower, upper, centre of the ranges, upper limit of the ranges). ValueError: fewer than two values."""
    if len(values) < 2:
        raise ValueError("a chart of individuals needs two values")
    centre = math.fsum(values) / len(values)
    ranges = moving_ranges(values)
    mean_range = math.fsum(ranges) / len(ranges)
    spread = 3.0 * mean_range / D2
    return centre, centre - spread, centre + spread, mean_range, D4 * mean_range


def signals(values: Sequence[float], parts: Sequence[str]) -> list[Signalled]:
    """Points that the rules pick out, each rule at the point that completes its pattern. Without variation there are none."""
    centre, _, upper, mean_range, range_upper = limits(values)
    sigma = (upper - centre) / 3.0
    found: list[Signalled] = []
    # equal values may differ in their last bit after the mean: that is not variation
    if sigma <= 1e-12 * max(1.0, abs(centre)):
        return found
    score = [(value - centre) / sigma for value in values]

    def add(rule: str, index: int) -> None:
        found.append(Signalled(rule, RULES[rule], index, parts[index]))

    for index, at in enumerate(score):
        if abs(at) > 3:
            add("WE1", index)
        for rule, window, least, beyond in (("WE2", 3, 2, 2.0), ("WE3", 5, 4, 1.0), ("WE4", 8, 8, 0.0)):
            recent = score[max(0, index - window + 1) : index + 1]
            side = 1.0 if at > 0 else -1.0
            # the point that completes a pattern belongs to it
            if side * at > beyond and sum(side * value > beyond for value in recent) >= least:
                add(rule, index)
    for index, moved in enumerate(moving_ranges(values)):
        if moved > range_upper > 0 and mean_range > 0:
            add("MR", index + 1)
    return sorted(found, key=lambda point: (point.index, point.rule))


def capability(
    values: Sequence[float], lower: float | None, upper: float | None, *, unit: str, source: str, start: int, end: int
) -> tuple[Figure, Figure]:
    """Cp and Cpk with the short-term sigma MR̄/d2.

    Cp needs both limits; Cpk is taken at the one limit there is. None with the reason where a limit is missing, where there are fewer
    than two values, or where nothing varies.
    """
    cp = cpk = None
    cp_reason = cpk_reason = ""
    sigma = centre = 0.0
    if len(values) >= 2:
        centre, _, top, _, _ = limits(values)
        sigma = (top - centre) / 3.0
    if len(values) < 2:
        cp_reason = cpk_reason = "fewer than two values"
    elif lower is None and upper is None:
        cp_reason = cpk_reason = "no tolerance limit is declared"
    elif lower is not None and upper is not None and not lower < upper:
        cp_reason = cpk_reason = "the declared limits are not in order"
    elif sigma <= 1e-12 * max(1.0, abs(centre)):
        cp_reason = cpk_reason = "the values do not vary"
    else:
        sides = []
        if upper is not None:
            sides.append((upper - centre) / (3.0 * sigma))
        if lower is not None:
            sides.append((centre - lower) / (3.0 * sigma))
        cpk = min(sides)
        if lower is None or upper is None:
            cp_reason = "only one limit is declared"
        else:
            cp = (upper - lower) / (6.0 * sigma)
    one_sided = (lower is None) != (upper is None)

    def figure(name: str, value: float | None, reason: str, definition: str) -> Figure:
        return Figure(
            name,
            value,
            "1",
            source,
            start,
            end,
            1.0 if value is not None else 0.0,
            reason,
            definition,
            {"n": len(values), "unit": unit},
        )

    return (
        figure("Cp", cp, cp_reason, "(upper − lower) / 6σ, σ = MR̄ / 1.128"),
        figure(
            "Cpk",
            cpk,
            cpk_reason,
            "distance of the mean to the nearer limit / 3σ" + (", one-sided" if one_sided else ""),
        ),
    )
