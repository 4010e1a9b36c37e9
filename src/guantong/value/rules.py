"""What was used, what it cost, what it may be worth: three pure steps, the last one apart from the first two.

Sources: 财会〔2023〕11号 (cost, by voucher, allocation or estimate); 中评协〔2023〕17号 cost approach P = C·δ; the quality coefficient
α = Q/100 with its coverage c stated, dimensions that were not measured never filled in: they widen the range instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, localcontext
from typing import Any

from guantong.base.canonical import digest
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, Refused
from guantong.value.model import (
    GRADES,
    Appraisal,
    CostEntry,
    CostSheet,
    Factor,
    Meter,
    Meters,
    QualityFact,
    Range,
    Rate,
    Sensitivity,
)

__all__ = ["appraise", "check_rates", "costs_digest", "price", "sheet", "used"]

_EXACT = Context(prec=50)
_HOUR = 3600 * NS


def used(before: Mapping[str, tuple[int, Meter]], now: Meters) -> list[tuple[Meter, Decimal, str, int]]:
    """What was used of each meter since its last reading: (meter, quantity, unit, since).

    A counter that fell was reset: what it shows was gathered since. A level counts as its mean over the time between two readings, in
    unit·h. A meter seen for the first time counts its whole value if it is a counter, and not at all if it is a level.
    """
    result: list[tuple[Meter, Decimal, str, int]] = []
    with localcontext(_EXACT):
        for meter in now.meters:
            known = before.get(meter.name)
            first = now.at if now.since is None else min(now.since, now.at)
            since, old = (known[0], known[1].value) if known else (first, Decimal(0))
            if meter.cumulative:
                quantity, unit = meter.value if meter.value < old else meter.value - old, meter.unit
            elif known is None:
                continue
            else:
                quantity = (old + meter.value) / 2 * Decimal(now.at - since) / _HOUR
                unit = f"{meter.unit}.h"
            if quantity > 0:
                result.append((meter, quantity.quantize(Decimal("0.000001")).normalize(), unit, since))
    return result


def check_rates(rates: Iterable[Rate]) -> Iterable[tuple[str, str]]:
    """Every problem of the configured rates as (meter, reason)."""
    seen: set[str] = set()
    for rate in rates:
        if not rate.meter or rate.meter in seen:
            yield rate.meter, "stands twice or has no name"
        seen.add(rate.meter)
        if not (rate.price.is_finite() and rate.price >= 0):
            yield rate.meter, "its price must be a number not below zero"
        if not (rate.per.is_finite() and rate.per > 0):
            yield rate.meter, "its quantity (per) must be above zero"
        if len(rate.currency) != 3 or not rate.currency.isupper():
            yield rate.meter, "its currency must be an ISO 4217 code"
        if not rate.source:
            yield rate.meter, "must say where it comes from"
        if rate.grade not in GRADES:
            yield rate.meter, f"its grade must be one of {', '.join(GRADES)}"
        elif rate.grade == "high" and not rate.voucher:
            yield rate.meter, "a rate of high evidence names its voucher"


def price(
    entry_id: str,
    subject: str,
    meter: Meter,
    quantity: Decimal,
    unit: str,
    start: int,
    end: int,
    rate: Rate | None,
    decimals: int,
) -> CostEntry:
    """The ledger line for what was used. Without a rate there is a quantity and no amount."""
    amount = None
    if rate is not None:
        with localcontext(_EXACT):
            amount = (quantity * rate.price / rate.per).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN)
    return CostEntry(
        entry_id=entry_id,
        subject=subject,
        item=meter.name,
        quantity=quantity,
        unit=unit,
        start=start,
        end=end,
        source=meter.source,
        currency=rate.currency if rate else "",
        rate=None if rate is None else _EXACT.divide(rate.price, rate.per),
        rate_source=rate.source if rate else "",
        amount=amount,
        voucher=rate.voucher if rate else "",
        grade=rate.grade if rate else "low",
    )


def sheet(entries: Sequence[CostEntry]) -> CostSheet:
    """The ledger summed by currency, item and grade; corrected lines stay visible and don't count. Takes ledger lines only.

    Raises TypeError for anything that is not a ledger line: an appraisal has no way in.
    """
    for entry in entries:
        if type(entry) is not CostEntry:
            raise TypeError(f"{type(entry).__name__} is no line of the cost ledger")
    corrected = {entry.corrects for entry in entries if entry.corrects}
    totals: dict[str, Decimal] = {}
    by_item: dict[tuple[str, str], Decimal] = {}
    by_grade: dict[tuple[str, str], Decimal] = {}
    unpriced: list[CostEntry] = []
    with localcontext(_EXACT):
        for entry in entries:
            if entry.entry_id in corrected:
                continue
            if entry.amount is None:
                unpriced.append(entry)
                continue
            totals[entry.currency] = totals.get(entry.currency, Decimal(0)) + entry.amount
            item, grade = (entry.currency, entry.item), (entry.currency, entry.grade)
            by_item[item] = by_item.get(item, Decimal(0)) + entry.amount
            by_grade[grade] = by_grade.get(grade, Decimal(0)) + entry.amount
    return CostSheet(tuple(entries), totals, by_item, by_grade, tuple(unpriced))


def costs_digest(entries: Iterable[CostEntry]) -> str:
    """Digest of ledger lines, by id."""
    return digest([_json(asdict(entry)) for entry in sorted(entries, key=lambda entry: entry.entry_id)])


def appraise(
    costs: CostSheet,
    quality: QualityFact | None,
    *,
    appraisal_id: str,
    subject: str,
    delta: tuple[str, str, str],
    delta_source: str,
    spread: Mapping[str, str],
    decimals: int,
    at: int,
) -> Appraisal:
    """P = C·δ·α, low, likely and high, every factor traced.

    C: the ledger's sum, wider by ``spread`` where the evidence is weaker. δ: the declared value adjustment. α: Q/100; what quality did
    not measure (1 − c of the weight) counts as 0 in the low and as 100 in the high end, and not at all in the likely one.
    Raises Refused ``value.nothing-to-appraise`` (no priced cost, or more than one currency) and ``value.quality-missing``, ConfigProblem
    ``value.factor-invalid``.
    """
    priced = [entry for entry in costs.entries if entry.amount is not None and entry not in costs.unpriced]
    if len(costs.totals) != 1 or not priced:
        raise Refused("value.nothing-to-appraise", subject=subject, currencies=", ".join(sorted(costs.totals)) or "–")
    if quality is None:
        raise Refused("value.quality-missing", subject=subject)
    currency, total = next(iter(costs.totals.items()))
    adjustment = _range("δ", delta)
    with localcontext(_EXACT):
        off = sum(
            (
                amount * _number(f"cost_spread.{grade}", spread.get(grade, "0"))
                for (_, grade), amount in costs.by_grade.items()
            ),
            Decimal(0),
        )
        cost = Range(max(Decimal(0), total - off), total, total + off)
        q = Decimal(str(quality.score)) / 100
        c = Decimal(str(quality.coverage))
        if not (0 <= q <= 1 and 0 <= c <= 1):
            raise ConfigProblem("value.factor-invalid", factor="α", value=f"Q {quality.score}, c {quality.coverage}")
        alpha = Range(q * c, q, q * c + (1 - c))
        factors = (
            Factor(
                "cost",
                "C",
                _rounded(cost, decimals),
                currency,
                f"cost ledger, {len(priced)} lines, spread by evidence grade: "
                + ", ".join(f"{k} ±{v}" for k, v in spread.items()),
            ),
            Factor("value adjustment", "δ", adjustment, "1", delta_source),
            Factor(
                "quality coefficient",
                "α",
                _rounded(alpha, 6),
                "1",
                f"{quality.source}; Q {quality.score:g}, coverage c {quality.coverage:g}",
            ),
        )
        ranges = (cost, adjustment, alpha)
        value = Range(
            _product(r.low for r in ranges), _product(r.likely for r in ranges), _product(r.high for r in ranges)
        )
        sensitivity = []
        for index, factor in enumerate(factors):
            others = _product(r.likely for number, r in enumerate(ranges) if number != index)
            low, high = others * ranges[index].low, others * ranges[index].high
            sensitivity.append(
                Sensitivity(
                    factor.symbol,
                    _money(low, decimals),
                    _money(high, decimals),
                    _money(high, decimals) - _money(low, decimals),
                )
            )
        sensitivity.sort(key=lambda item: -item.swing)
        return Appraisal(
            appraisal_id=appraisal_id,
            subject=subject,
            method="cost approach P = C·δ·α",
            currency=currency,
            value=_rounded(value, decimals),
            factors=factors,
            sensitivity=tuple(sensitivity),
            coverage=c,
            start=min(entry.start for entry in priced),
            end=max(entry.end for entry in priced),
            at=at,
            cost_digest=costs_digest(priced),
        )


def _range(name: str, values: tuple[str, str, str]) -> Range:
    low, likely, high = (_number(name, value) for value in values)
    if not 0 <= low <= likely <= high:
        raise ConfigProblem("value.factor-invalid", factor=name, value=" / ".join(values))
    return Range(low, likely, high)


def _number(name: str, value: str) -> Decimal:
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ConfigProblem("value.factor-invalid", factor=name, value=value) from error
    if not number.is_finite() or number < 0:
        raise ConfigProblem("value.factor-invalid", factor=name, value=value)
    return number


def _product(values: Iterable[Decimal]) -> Decimal:
    result = Decimal(1)
    for value in values:
        result *= value
    return result


def _money(value: Decimal, decimals: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN)


def _rounded(value: Range, decimals: int) -> Range:
    return Range(_money(value.low, decimals), _money(value.likely, decimals), _money(value.high, decimals))


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    # instants in nanoseconds are beyond what JSON numbers hold exactly
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
