"""What the pages of figures with proof show: which can be made, which were, and what a challenge bounds."""

from __future__ import annotations

import asyncio
from typing import Any

from guantong.web.ask import Ask, cut
from guantong.web.figure_actions import shown
from guantong.web.rooms import Rooms

__all__ = ["figure", "figures"]


async def figures(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Published functions, own definitions, and every figure made or received."""
    from guantong.prove.figure_functions import FUNCTIONS, function_hash

    me = rooms.participant
    made = await rooms.figures.figures(me)
    return {
        "figures": cut([shown(one) for one in made], ask),
        "definitions": [
            {**one.document(), "agreements": list(one.agreements)} for one in await rooms.figures.definitions(me)
        ],
        "functions": [
            {
                "name": name,
                "title": {"en": one.en, "zh": one.zh},
                "unit": one.unit,
                "roles": list(one.roles),
                "definition": one.definition,
                "hash": function_hash(one),
            }
            for name, one in sorted(FUNCTIONS.items())
        ],
        "streams": len(await rooms.figures.streams(me)),
    }


async def figure(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One figure: definition, window, coverage, what was opened and what that bounds; checked anew while the page is made."""
    from guantong.prove.figure import NOT_SHOWN
    from guantong.prove.figure_proof import check_bundle

    me = rooms.participant
    made = await rooms.figures.figure(me, ask.path["id"])
    checked = await asyncio.to_thread(check_bundle, made.proof, await rooms.figures.trust(me))
    document = made.proof["figure"]
    title = (document.get("definition") or {}).get("title") or {}
    name = made.definition_id or document["function"]["name"]
    return {
        "title": {"en": title.get("en") or name, "zh": title.get("zh") or title.get("en") or name},
        "figure": shown(made),
        "definition": document.get("definition"),
        "function": document["function"],
        "checked": checked.document(),
        "verdict": checked.verdict,
        "openings": document.get("openings"),
        "cites": [
            {"figure": one.digest, "value": one.value, "unit": one.unit, "verdict": one.verdict}
            for one in checked.cites
        ],
        "not_shown": [{"en": english, "zh": chinese} for english, chinese in NOT_SHOWN],
    }
