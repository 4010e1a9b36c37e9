"""What the pages about offers that nobody has made yet and about query templates show."""

from __future__ import annotations

from typing import Any

from guantong.base.errors import GuantongError
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["queries", "rehearsal"]


async def rehearsal(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """What an offer would have done over the last days; who has seen it may publish it."""
    from guantong.settle.rehearsal import DAYS_MAX, rehearse, visits
    from guantong.web.offer_actions import product_of

    days = ask.whole("days", 30, 1, DAYS_MAX)
    names = ("dataset", "id", "title_en", "title_zh", "policy", "price", "terms", "visible_to", "query", "fingerprint")
    fields = {name: given for name in names if (given := ask.query.get(name))}
    datasets = [
        {"id": one.id, "title": {"en": one.title_en, "zh": one.title_zh}}
        for one in await rooms.describe.datasets(rooms.participant)
    ]
    page: dict[str, Any] = {"fields": fields, "days": days, "datasets": datasets, "told": None, "error": None}
    if "dataset" not in fields:
        return page
    now = rooms.records.clock.now()
    partners = ask.query.get("partners", "").split()
    try:
        product = product_of(ask)
        asked = visits(product, now=now, days=days, partners=partners[:20], whole=ask.query.get("whole") == "true")
        told = await rehearse(rooms.exchange, rooms.govern, rooms.participant, product, asked, now=now)
    except GuantongError as error:
        if ask.query.get("strict"):
            raise
        return page | {"error": {"code": error.code, "en": error.message("en"), "zh": error.message("zh")}}
    return page | {"told": told}


async def queries(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Query templates on record here, and the runs of them."""
    me = rooms.participant
    return {
        "templates": [
            {
                "digest": one.template.digest,
                "name": one.template.name,
                "version": one.template.version,
                "author": one.author,
                "state": one.state,
                "statement": one.template.statement,
                "columns": list(one.template.columns),
                "unit": one.template.unit,
                "min_group": one.template.min_group,
                "extremes": one.template.extremes,
                "parameters": sorted(one.template.parameters),
            }
            for one in await rooms.exchange.queries.templates(me)
        ],
        "jobs": [
            {
                "id": one.id,
                "agreement": one.agreement_id,
                "partner": one.partner,
                "outcome": one.outcome,
                "template": one.facts.get("name") or one.facts.get("template"),
                "dataset": one.facts.get("dataset"),
                "parameters": one.facts.get("parameters"),
                "rules": one.facts.get("rules"),
                "reason": one.facts.get("reason"),
                "snapshot": one.facts.get("snapshot"),
                "rows": one.facts.get("rows"),
                "suppressed": one.facts.get("suppressed"),
                "at": time_of(one.at),
            }
            for one in await rooms.exchange.queries.jobs(me, ask.query.get("agreement", ""))
        ],
    }
