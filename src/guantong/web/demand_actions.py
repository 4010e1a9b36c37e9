"""What a person does about demands. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.exchange.demands import demand_of
from guantong.web.ask import Ask, text, texts
from guantong.web.rooms import Rooms

__all__ = ["list_demands", "match_demands", "publish_demand", "withdraw_demand"]

_PAGE = "/catalogue"


async def publish_demand(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Publish what is wanted; quantities are written ``term:unit``."""
    wanted = [one.rpartition(":") if ":" in one else (one, "", "") for one in texts(ask, "wanted")]
    demand = demand_of(
        {
            "id": text(ask, "id", limit=100),
            "title": text(ask, "title", limit=300),
            "purpose": text(ask, "purpose", required=False, limit=300),
            "wanted": [{"term": term, "unit": unit} for term, _, unit in wanted],
            "from": text(ask, "from", required=False, limit=40),
            "until": text(ask, "until", required=False, limit=40),
        }
    )
    await rooms.exchange.demands.publish(rooms.participant, demand)
    return {**demand.document(), "next": _PAGE}


async def list_demands(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Own demands, or a partner's."""
    partner = text(ask, "partner", required=False, limit=200)
    room = rooms.exchange.demands
    found = await (room.of_partner(rooms.participant, partner) if partner else room.demands(rooms.participant))
    return {"demands": [one.document() for one in found]}


async def withdraw_demand(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Want it no more."""
    await rooms.exchange.demands.withdraw(rooms.participant, text(ask, "id", limit=100))
    return {"withdrawn": text(ask, "id", limit=100), "next": _PAGE}


async def match_demands(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Own datasets that would serve a partner's demands, with the reasons for and against each."""
    found = await rooms.exchange.demands.matches(rooms.participant, text(ask, "partner", limit=200))
    return {
        "demands": [
            {
                **demand.document(),
                "matches": [
                    {
                        "dataset": one.dataset_id,
                        "title": one.title,
                        "score": one.score,
                        "reasons": [
                            {"kind": reason.kind, "ok": reason.ok, "facts": dict(reason.facts)}
                            for reason in one.reasons
                        ],
                    }
                    for one in matches
                ],
            }
            for demand, matches in found
        ]
    }
