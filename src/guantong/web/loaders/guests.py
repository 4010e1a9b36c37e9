"""Guests as their host sees them, and those who have moved in here."""

from __future__ import annotations

import json
from typing import Any

from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["guests"]


async def guests(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Who, what is shared for what, what was asked for; and where this node's own guests came from."""
    room, me = rooms.exchange.guests, rooms.participant
    terms = await room.terms(me)
    names = {one.did: one.name for one in await room.guests(me)}
    moved = []
    for one in await rooms.exchange.moving.moved(me):
        papers = json.loads(await rooms.exchange.moving.papers(me, one.guest))
        stated = [envelope["statement"] for envelope in papers["statements"]]
        moved.append(
            {
                "guest": one.guest,
                "host": one.host,
                "address": one.address,
                "statements": one.statements,
                "told": one.told,
                "at": time_of(one.at),
                "shares": [
                    {"file": item["file"]["name"], "purpose": item["purpose"], "terms": item["terms"], "at": item["at"]}
                    for item in stated
                    if item["type"] == "guantong-guest-share"
                ],
            }
        )
    return {
        "purpose": terms.purpose,
        "terms": terms.terms,
        "guests": [
            {
                "did": one.did,
                "name": one.name,
                "statements": one.number,
                "head": one.head,
                "moved_to": one.moved_to,
                "joined_at": time_of(one.joined_at),
            }
            for one in await room.guests(me)
        ],
        "shares": [
            {
                "id": one.id,
                "guest": one.guest,
                "name": names.get(one.guest, ""),
                "file": one.file,
                "form": one.form,
                "rows": one.rows,
                "purpose": one.purpose,
                "terms": one.terms,
                "root": one.root,
                "state": one.state,
                "uses": one.uses,
                "shared_at": time_of(one.shared_at),
                "changed_at": time_of(one.changed_at),
            }
            for one in await room.shares(me)
        ],
        "requests": [
            {
                "id": one.id,
                "share": one.share,
                "name": names.get(one.guest, ""),
                "purpose": one.purpose,
                "state": one.state,
                "asked_at": time_of(one.asked_at),
            }
            for one in await room.requests(me)
        ],
        "moved": moved,
    }
