"""Price plans as data: what is charged, how it is checked, and what a price list must not allow.

A plan is JSON with text amounts, agreed on by both sides and named by its digest. Sources: issue of the price list is the provider's;
the rules of the linter are those of query pricing without arbitrage (Koutris et al., PODS 2012): more is never cheaper, and no bundle of
offers that covers another is cheaper than it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Context, Decimal
from typing import Any

from guantong.base.errors import ConfigProblem

__all__ = [
    "ROUNDINGS",
    "UNITS",
    "Charge",
    "Discount",
    "Listed",
    "PricePlan",
    "Tax",
    "Tier",
    "cheapest_cover",
    "check_plan",
    "is_number",
    "lint",
    "plain",
]

UNITS = (
    "agreement",
    "byte",
    "call",
    "figure",
    "hour",
    "machine-hour",
    "month",
    "opening",
    "part",
    "reading",
    "revenue",
    "row",
    "transfer",
)
"""What a charge may count. ``agreement``: a flat fee, due as soon as one record counts · ``month``: a subscription, due for each
calendar month (UTC) in which one counts · ``call``: each delivery · ``hour``: duration of deliveries · ``revenue``: the price is a share
of the amount that records of unit ``revenue`` state · ``part``, ``machine-hour``, ``figure``, ``opening``: quantity of records of that
unit."""

ROUNDINGS: Mapping[str, str] = {
    "half-up": ROUND_HALF_UP,
    "half-even": ROUND_HALF_EVEN,
    "down": ROUND_DOWN,
    "up": ROUND_UP,
}
"""Names of the rounding rules a plan may state."""

_NUMBER = re.compile(r"(0|[1-9]\d{0,20})(\.\d{1,20})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Tier:
    """Units from ``start`` on, counted after the free quota, cost ``price`` each."""

    start: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """One price: ``price`` for each unit above the ``free`` quota of the agreement, or by tiers."""

    per: str
    """One of :data:`UNITS`."""
    price: Decimal
    """Price of one unit, >= 0; of the first tier where there are tiers."""
    free: Decimal = Decimal(0)
    """Units of the agreement that cost nothing, >= 0."""
    tiers: tuple[Tier, ...] = ()
    """Graduated: each unit costs what its own tier says. The first tier starts at 0."""

    def amount(self, billable: Decimal) -> Decimal:
        """What so many units above the free quota cost, not rounded."""
        if not self.tiers:
            return _EXACT.multiply(billable, self.price)
        total = Decimal(0)
        ends = [tier.start for tier in self.tiers[1:]] + [None]
        for tier, end in zip(self.tiers, ends, strict=True):
            upper = billable if end is None else min(billable, end)
            if upper > tier.start:
                total = _EXACT.add(total, _EXACT.multiply(upper - tier.start, tier.price))
        return total


@dataclass(frozen=True, slots=True)
class Tax:
    """A tax line as the provider configured it; guantong ships no rates."""

    name: str
    rate: Decimal
    """A share of the subtotal, 0.06 for six per cent."""


@dataclass(frozen=True, slots=True)
class Discount:
    """A share off the sum of the lines, with the reason that stands in every invoice."""

    name: str
    rate: Decimal
    """0.1 for ten per cent off; discounts add up and never exceed the whole."""
    reason: str


@dataclass(frozen=True, slots=True)
class PricePlan:
    """What the agreement says about money. :meth:`parse` reads it from JSON, :meth:`document` writes it back."""

    currency: str
    """ISO 4217 code."""
    charges: tuple[Charge, ...]
    decimals: int = 2
    """Decimals of the currency's minor unit, 0 to 4."""
    minimum: Decimal | None = None
    """Least subtotal once anything was delivered."""
    cap: Decimal | None = None
    """Greatest subtotal."""
    taxes: tuple[Tax, ...] = ()
    rounding: str = "half-up"
    """One of :data:`ROUNDINGS`."""
    discounts: tuple[Discount, ...] = ()
    openings: int | None = None
    """Most chunks of one figure that a challenge may open; None: as the figure's definition says."""
    service: Mapping[str, Any] | None = None
    """Service level: ``{"complete": share, "credit": share}``: where fewer of the deliveries were complete, that share of the subtotal is
    given back by a credit note."""
    silence: str = "waits"
    """What the contract makes of a receipt that was never answered: ``waits`` or ``accepted``."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> PricePlan:
        """The plan in a JSON document. Raises ConfigProblem ``settle.plan-invalid`` with the first problem."""
        problems = list(check_plan(document))
        if problems:
            path, reason = problems[0]
            raise ConfigProblem("settle.plan-invalid", path=path, reason=reason, problems=len(problems))
        minimum, cap = document.get("minimum"), document.get("cap")
        return cls(
            currency=document["currency"],
            charges=tuple(_charge(item) for item in document["charges"]),
            decimals=document.get("decimals", 2),
            minimum=None if minimum is None else Decimal(minimum),
            cap=None if cap is None else Decimal(cap),
            taxes=tuple(Tax(item["name"], Decimal(item["rate"])) for item in document.get("taxes", ())),
            rounding=document.get("rounding", "half-up"),
            discounts=tuple(
                Discount(item["name"], Decimal(item["rate"]), item["reason"]) for item in document.get("discounts", ())
            ),
            openings=document.get("openings"),
            service=document.get("service"),
            silence=document.get("silence", "waits"),
        )

    def document(self) -> dict[str, Any]:
        """JSON of the plan; its digest is the invoice's ``planHash``. What a plan does not use does not stand in it."""
        found: dict[str, Any] = {
            "v": 1,
            "type": "price-plan",
            "currency": self.currency,
            "decimals": self.decimals,
            "charges": [_charge_document(charge) for charge in self.charges],
            "minimum": None if self.minimum is None else plain(self.minimum),
            "cap": None if self.cap is None else plain(self.cap),
            "taxes": [{"name": tax.name, "rate": plain(tax.rate)} for tax in self.taxes],
            "rounding": self.rounding,
        }
        if self.discounts:
            found["discounts"] = [
                {"name": one.name, "rate": plain(one.rate), "reason": one.reason} for one in self.discounts
            ]
        if self.openings is not None:
            found["openings"] = self.openings
        if self.service is not None:
            found["service"] = dict(self.service)
        if self.silence != "waits":
            found["silence"] = self.silence
        return found

    def gross(self, counts: Mapping[str, Decimal]) -> Decimal:
        """What counts of units cost before discounts, minimum, cap and taxes, not rounded; for price lists."""
        total = Decimal(0)
        for charge in self.charges:
            total = _EXACT.add(total, charge.amount(max(Decimal(0), counts.get(charge.per, Decimal(0)) - charge.free)))
        return total

    def price(self, counts: Mapping[str, Decimal]) -> Decimal:
        """What an offer of so many units costs: with discounts, minimum and cap, without taxes, not rounded."""
        gross = self.gross(counts)
        for one in self.discounts:
            gross = _EXACT.subtract(gross, _EXACT.multiply(self.gross(counts), one.rate))
        gross = max(gross, self.minimum) if self.minimum is not None else gross
        return min(gross, self.cap) if self.cap is not None else gross


def _charge(item: Mapping[str, Any]) -> Charge:
    tiers = tuple(Tier(Decimal(one["from"]), Decimal(one["price"])) for one in item.get("tiers", ()))
    price = tiers[0].price if tiers else Decimal(item["price"])
    return Charge(item["per"], price, Decimal(item.get("free", "0")), tiers)


def _charge_document(charge: Charge) -> dict[str, Any]:
    found: dict[str, Any] = {"per": charge.per, "price": plain(charge.price), "free": plain(charge.free)}
    if charge.tiers:
        found["tiers"] = [{"from": plain(tier.start), "price": plain(tier.price)} for tier in charge.tiers]
    return found


_KNOWN = {
    "v", "type", "currency", "decimals", "charges", "minimum", "cap", "taxes", "rounding", "discounts", "openings", "service", "silence",
}  # fmt: skip


def check_plan(document: Any) -> Iterable[tuple[str, str]]:
    """Every problem of a price plan as (path, reason); nothing when it is usable."""
    if not isinstance(document, Mapping):
        yield "$", "must be an object"
        return
    for name in sorted(set(document) - _KNOWN):
        yield f"$.{name}", "is not a member of a price plan"
    if document.get("v", 1) != 1 or document.get("type", "price-plan") != "price-plan":
        yield "$.type", "must be a price-plan of version 1"
    if not (isinstance(document.get("currency"), str) and _CURRENCY.fullmatch(document["currency"])):
        yield "$.currency", "must be an ISO 4217 code such as CNY"
    decimals = document.get("decimals", 2)
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= 4:
        yield "$.decimals", "must be a whole number from 0 to 4"
    if document.get("rounding", "half-up") not in ROUNDINGS:
        yield "$.rounding", f"must be one of {', '.join(ROUNDINGS)}"
    yield from _check_charges(document.get("charges"))
    for name in ("minimum", "cap"):
        if document.get(name) is not None and not is_number(document[name]):
            yield f"$.{name}", "must be an amount as text"
    minimum, cap = document.get("minimum"), document.get("cap")
    if is_number(minimum) and is_number(cap) and Decimal(str(minimum)) > Decimal(str(cap)):
        yield "$.cap", "is below the minimum"
    yield from _check_rates(document)
    openings = document.get("openings")
    if openings is not None and (
        isinstance(openings, bool) or not isinstance(openings, int) or not 0 < openings <= 10_000
    ):
        yield "$.openings", "must be a whole number from 1 to 10000"
    if document.get("silence", "waits") not in ("waits", "accepted"):
        yield "$.silence", "must be waits or accepted"
    service = document.get("service")
    if service is not None and not (
        isinstance(service, Mapping)
        and set(service) == {"complete", "credit"}
        and all(is_number(value) and Decimal(value) <= 1 for value in service.values())
    ):
        yield "$.service", "must hold complete and credit as shares from 0 to 1, as text"


def _check_charges(charges: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(charges, (list, tuple)) or not 1 <= len(charges) <= 20:
        yield "$.charges", "must be a list of 1 to 20 charges"
        charges = ()
    seen: set[object] = set()
    for index, charge in enumerate(charges):
        path = f"$.charges[{index}]"
        if not isinstance(charge, Mapping) or set(charge) - {"per", "price", "free", "tiers"}:
            yield path, "must hold per, price and perhaps free, or tiers"
            continue
        if charge.get("per") not in UNITS:
            yield f"{path}.per", f"must be one of {', '.join(UNITS)}"
        elif charge["per"] in seen:
            yield f"{path}.per", "is charged twice"
        seen.add(charge.get("per"))
        if "tiers" in charge:
            yield from _check_tiers(f"{path}.tiers", charge)
        elif not is_number(charge.get("price")):
            yield f"{path}.price", "must be a decimal number as text, such as 0.0028"
        if not is_number(charge.get("free", "0")):
            yield f"{path}.free", "must be a number as text"


def _check_tiers(path: str, charge: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    tiers = charge["tiers"]
    if not isinstance(tiers, (list, tuple)) or not 1 <= len(tiers) <= 50:
        yield path, "must be a list of 1 to 50 tiers"
        return
    if not all(
        isinstance(one, Mapping) and set(one) == {"from", "price"} and all(map(is_number, one.values()))
        for one in tiers
    ):
        yield path, "each must hold from and price as text"
        return
    starts = [Decimal(one["from"]) for one in tiers]
    if starts[0] != 0 or any(later <= earlier for earlier, later in itertools.pairwise(starts)):
        yield path, "must begin at 0 and rise"
    if "price" in charge and (not is_number(charge["price"]) or Decimal(charge["price"]) != Decimal(tiers[0]["price"])):
        yield path, "the price beside tiers must be that of the first"


def _check_rates(document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, members in (("taxes", {"name", "rate"}), ("discounts", {"name", "rate", "reason"})):
        rates = document.get(name, ())
        if not isinstance(rates, (list, tuple)) or len(rates) > 10:
            yield f"$.{name}", f"must be a list of at most 10 {name}"
            continue
        for index, one in enumerate(rates):
            if not (
                isinstance(one, Mapping)
                and set(one) == members
                and all(isinstance(one[text], str) and 0 < len(one[text]) <= 200 for text in members)
                and is_number(one["rate"])
            ):
                yield f"$.{name}[{index}]", f"must hold {', '.join(sorted(members))} as text, the rate such as 0.06"
        numbers = all(isinstance(one, Mapping) and is_number(one.get("rate")) for one in rates)
        if name == "discounts" and numbers and sum((Decimal(one["rate"]) for one in rates), Decimal(0)) > 1:
            yield "$.discounts", "must not come to more than the whole"


def plain(value: Decimal) -> str:
    """A number as text without trailing zeros or exponent."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_number(value: object) -> bool:
    """Whether it is a number >= 0 as text."""
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


# ---- price lists


@dataclass(frozen=True, slots=True)
class Listed:
    """An offer on a price list: what it contains, and what it costs."""

    id: str
    contains: frozenset[str]
    """What a buyer gets, in the smallest pieces that are sold: for example ``column/day/freshness`` for each combination."""
    price: Decimal


def lint(offers: Sequence[Listed]) -> list[dict[str, Any]]:
    """What is wrong with a price list: ``{rule, offer, price, cheaper, instead}``, empty where nothing is.

    ``monotone``: an offer that contains another costs less than it. ``arbitrage``: other offers together contain an offer and cost less;
    ``instead`` is the cheapest cover. At most 60 offers.
    """
    if len(offers) > 60:
        raise ConfigProblem("settle.plan-invalid", path="$", reason="a price list of more than 60 offers", problems=1)
    found: list[dict[str, Any]] = []
    for one in sorted(offers, key=lambda offer: offer.id):
        larger = [other for other in offers if one.contains < other.contains and other.price < one.price]
        if larger:
            least = min(larger, key=lambda offer: (offer.price, offer.id))
            found.append(_problem("monotone", one, least.price, [least.id]))
            continue
        cover = cheapest_cover(one, [other for other in offers if other.id != one.id])
        if cover is not None and cover[0] < one.price:
            found.append(_problem("arbitrage", one, cover[0], list(cover[1])))
    return found


def _problem(rule: str, offer: Listed, cheaper: Decimal, instead: list[str]) -> dict[str, Any]:
    return {"rule": rule, "offer": offer.id, "price": plain(offer.price), "cheaper": plain(cheaper), "instead": instead}


def cheapest_cover(wanted: Listed, offers: Sequence[Listed]) -> tuple[Decimal, tuple[str, ...]] | None:
    """The cheapest bundle of offers that together contain what is wanted: (price, ids), None where there is none. Exact.

    Branch and bound over the piece that the fewest offers contain; a list of 60 offers takes milliseconds unless it is made to be hard.
    """
    useful = [one for one in offers if one.contains & wanted.contains]
    best: list[tuple[Decimal, tuple[str, ...]]] = []

    def search(missing: frozenset[str], spent: Decimal, chosen: tuple[str, ...]) -> None:
        if best and spent >= best[0][0]:
            return
        if not missing:
            best[:] = [(spent, tuple(sorted(chosen)))]
            return
        holders = {piece: [one for one in useful if piece in one.contains] for piece in missing}
        piece = min(sorted(missing), key=lambda name: len(holders[name]))
        for one in sorted(holders[piece], key=lambda offer: (offer.price, offer.id)):
            search(missing - one.contains, spent + one.price, (*chosen, one.id))

    search(wanted.contains, Decimal(0), ())
    return best[0] if best else None


def lint_plan(plan: PricePlan, unit: str, steps: Sequence[Decimal]) -> list[dict[str, Any]]:
    """The same for one plan along one unit: more never costs less, and no two smaller purchases cost less than one larger.

    steps: quantities that are compared, rising. Purchases under one agreement are counted together, so that a split means two agreements.
    """
    found: list[dict[str, Any]] = []
    ordered = sorted(set(steps))
    prices = {step: plan.price({unit: step}) for step in ordered}
    for less, more in itertools.pairwise(ordered):
        if prices[more] < prices[less]:
            found.append({"rule": "monotone", "offer": plain(less), "price": plain(prices[less]), "cheaper": plain(prices[more]), "instead": [plain(more)]})  # fmt: skip
    for whole in ordered:
        for part in ordered:
            rest = whole - part
            if 0 < part <= rest < whole:
                split = plan.price({unit: part}) + plan.price({unit: rest})
                if split < prices[whole]:
                    found.append({"rule": "arbitrage", "offer": plain(whole), "price": plain(prices[whole]), "cheaper": plain(split), "instead": [plain(part), plain(rest)]})  # fmt: skip
                    break
    return found
