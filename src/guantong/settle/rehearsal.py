"""A rehearsal with its money and its grade: what an offer would have brought, told before anybody has signed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS, iso
from guantong.exchange.model import Product
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.rehearsal import Rehearsed, Visit, offer_digest
from guantong.settle.plan import PricePlan
from guantong.settle.rules import invoice

if TYPE_CHECKING:
    from guantong.exchange.rehearsal import Consider
    from guantong.exchange.service import Exchange
    from guantong.govern.service import Govern

__all__ = ["SOMEBODY", "considered", "rehearse", "summary", "visits"]

DAY_NS = 86_400 * NS
DAYS_MAX = 366
SOMEBODY = "did:example:any-partner"
"""Who comes where the offer names nobody: a partner of whom nothing is known."""


def visits(product: Product, *, now: int, days: int, partners: Sequence[str] = (), whole: bool = False) -> list[Visit]:
    """One visit a day and partner over the last days, each for what is new since the day before, or for everything until then."""
    subjects = list(partners) or list(product.visible_to) or _named(product.policy) or [SOMEBODY]
    first = now - min(max(1, days), DAYS_MAX) * DAY_NS
    ends = range(first + DAY_NS, now + 1, DAY_NS)
    return [Visit(end, subject, start=None if whole else end - DAY_NS, end=end) for end in ends for subject in subjects]


def considered(govern: Govern) -> Consider:
    """Govern's answer to an access of then, without an entry in its log."""

    async def consider(access: Access, permits: str) -> Verdict:
        from guantong.govern.model import Request

        asked = Request(
            subject=access.subject,
            action=access.action,
            resource=f"dataset:{access.dataset_id}",
            context=access.context(),
            claims=dict(access.claims),
        )
        decision = govern.consider(access.participant, asked, permits, access.at)
        return Verdict(decision.allowed, decision.reason)

    return consider


async def rehearse(
    exchange: Exchange, govern: Govern, participant: str, product: Product, asked: Sequence[Visit], *, now: int
) -> dict[str, Any]:
    """Replay the visits and say what would have been; who was shown it may publish the offer.

    Raises as :meth:`guantong.exchange.rehearsal.Rehearsal.run` and ``settle.plan-invalid`` for a price plan that can't be read.
    """
    found = await exchange.rehearsal.run(participant, product, asked, considered(govern))
    grades = await govern.grades(participant, ids=[f"dataset:{product.dataset_id}"])
    rights = await exchange.hosting.rights(participant, product.dataset_id)
    told = {
        **summary(found, product, now=now),
        "grade": grades[0].enforce if grades else "",
        "rights": rights is not None,
    }
    await exchange.rehearsal.seen(
        participant, product, {name: told[name] for name in ("rows", "bytes", "left", "refused")}
    )
    return told


def summary(found: Rehearsed, product: Product, *, now: int) -> dict[str, Any]:
    """A rehearsal as plain JSON: totals, refusals by reason, invoices, terms, and each visit."""
    refused = Counter(one.refused for one in found.outcomes if one.refused)
    return {
        "offer": offer_digest(product),
        "dataset": product.dataset_id,
        "visits": len(found.outcomes),
        "left": sum(not one.refused for one in found.outcomes),
        "refused": sum(refused.values()),
        "rows": found.rows,
        "bytes": found.bytes,
        "refusals": [{"reason": reason, "visits": count} for reason, count in refused.most_common()],
        "invoices": invoices(found, product, now=now),
        "terms": [{"en": en, "zh": zh, "status": status} for en, zh, status in found.terms],
        "outcomes": [
            {
                "at": iso(one.visit.at),
                "partner": one.visit.subject,
                "refused": one.refused,
                "rows": one.rows,
                "bytes": one.bytes,
            }
            for one in found.outcomes
        ],
    }


def invoices(found: Rehearsed, product: Product, *, now: int) -> list[dict[str, Any]]:
    """One invoice a partner, by the very rules of a real one; none where the offer is free."""
    if not product.price:
        return []
    plan = PricePlan.parse(product.price)
    by_partner: dict[str, list[Mapping[str, Any]]] = {}
    for record in found.records:
        by_partner.setdefault(str(record["consumer"]), []).append(record)
    made: list[dict[str, Any]] = []
    for partner, records in sorted(by_partner.items()):
        document = invoice(plan, records, number="rehearsal", issued_at=now)
        lines = [{name: value for name, value in line.items() if name != "receipts"} for line in document["lines"]]
        totals = {name: document[name] for name in ("currency", "subtotal", "taxes", "total")}
        made.append({"partner": partner, "lines": lines, **totals})
    return made


def _named(policy: Mapping[str, Any]) -> list[str]:
    """Partners whom a policy names as recipients."""
    found: list[str] = []
    for rule in policy.get("permission") or ():
        for one in rule.get("constraint") or ():
            if str(one.get("leftOperand", "")).endswith("recipient"):
                right = one.get("rightOperand")
                found += [str(item) for item in (right if isinstance(right, list) else [right])]
    return sorted(set(found))
