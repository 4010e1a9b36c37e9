"""Quality of a dataset from counted figures: every check is conforming over checked, and what was not measured stays so.

Source: GB/T 36344-2018 (dimensions), ISO/IEC 25012 (characteristics), ISO/IEC 25024 (A/B); total and coverage as in ADR and pack.
"""

from __future__ import annotations

import math
import re

from guantong.base.canonical import digest
from guantong.govern.model import Check, Quality, QualityInputs
from guantong.govern.pack import Packs

__all__ = ["score_quality", "wilson"]

_Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

_TERM = re.compile(r"([a-z_]+)(?:([+-])([a-z_]+))?")


def wilson(numerator: int, denominator: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion. Source: Wilson 1927; Brown, Cai, DasGupta 2001.

    >>> tuple(round(x, 4) for x in wilson(9, 10))
    (0.5958, 0.9821)
    """
    share = numerator / denominator
    z2 = _Z * _Z / denominator
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt((share * (1 - share) + z2 / 4) / denominator) / (1 + z2)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def score_quality(dataset_id: str, inputs: QualityInputs, packs: Packs) -> Quality:
    """Q = sum of weight times score over the measured dimensions, divided by their weight; coverage c = measured weight over all.

    A dimension's score is the mean of its measured checks. If a critical check fails, Q is capped and ``capped`` says so.
    """
    rules = packs.of("quality")
    iso = {str(rule.then["dimension"]): str(rule.then["iso25012"]) for rule in packs.of("quality", "weight.")}
    checks: list[Check] = []
    capped = False
    for rule in packs.of("quality", "check."):
        dimension = str(rule.then["dimension"])
        numerator, missing = _figure(str(rule.then["numerator"]), inputs)
        denominator, missing_too = _figure(str(rule.then["denominator"]), inputs)
        why = ""
        if numerator is None or denominator is None:
            why = f"no figure for {missing or missing_too}"
        elif denominator <= 0:
            why = "nothing to check"
        common = (rule.id.removeprefix("check."), dimension, str(rule.then.get("iso25012", iso[dimension])))
        if why or numerator is None or denominator is None:
            checks.append(Check(*common, numerator, denominator, None, None, None, rule.ref, why))
            continue
        numerator = max(0, min(numerator, denominator))
        low, high = wilson(numerator, denominator)
        score = numerator / denominator
        checks.append(Check(*common, numerator, denominator, score, low, high, rule.ref))
        critical = rule.then.get("critical_below")
        if isinstance(critical, (int, float)) and score < critical:
            capped = True
    dimensions: dict[str, float | None] = {}
    total = measured = weights = 0.0
    for rule in packs.of("quality", "weight."):
        dimension, weight = str(rule.then["dimension"]), float(str(rule.then["weight"]))
        scores = [check.score for check in checks if check.dimension == dimension and check.score is not None]
        mean = sum(scores) / len(scores) if scores else None
        dimensions[dimension] = mean
        weights += weight
        if mean is not None:
            total += weight * mean
            measured += weight
    q = total / measured if measured else None
    if capped and q is not None:
        q = min(q, float(str(packs.get("quality/cap").then["at_most"])))
    return Quality(
        dataset_id=dataset_id,
        q=q,
        coverage=measured / weights if weights else 0.0,
        dimensions=dimensions,
        checks=tuple(checks),
        rows=inputs.rows,
        window_start=inputs.window_start,
        window_end=inputs.window_end,
        ruleset=digest([{"ref": rule.ref, "then": dict(rule.then)} for rule in rules]),
        unverified=packs.unverified(tuple(rule.ref for rule in rules)),
        capped=capped,
    )


def _figure(term: str, inputs: QualityInputs) -> tuple[int | None, str]:
    """The value of ``name``, ``name+name`` or ``name-name`` over the inputs, or the name that was not measured."""
    match = _TERM.fullmatch(term)
    if match is None:
        raise LookupError(f"quality term {term!r}")
    first, sign, second = match.groups()
    left: int | None = getattr(inputs, first)
    if left is None:
        return None, first
    if sign is None:
        return left, ""
    right: int | None = getattr(inputs, second)
    if right is None:
        return None, second
    return (left + right if sign == "+" else left - right), ""
