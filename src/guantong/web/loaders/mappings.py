"""What the page of mapping suggestions shows: what signals may be in a companion model, why, and what a person decided."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import select

from guantong.fuse.tables import SUGGESTIONS
from guantong.fuse.written import written
from guantong.web.ask import Ask, cut, found, time_of
from guantong.web.rooms import Rooms

__all__ = ["mappings", "suggestion_rows"]

DECIDED = 100
EXAMPLE = """name = "press status"
sources = ["press/status_word"]
sinks = ["running", "fault", "mode"]
steps = [{ bits = { running = 0, fault = 1, mode = [4, 3] } }]"""
"""Shown where a mapping is written."""


async def suggestion_rows(rooms: Rooms) -> list[dict[str, Any]]:
    """Open suggestions, strongest first, with the names of their signals."""
    names = {one.id: f"{one.source}/{one.native_id}" for one in await rooms.fuse.signals(rooms.participant)}
    return [
        {**asdict(one), "reasons": list(one.reasons), "name": names[one.signal]}
        for one in await rooms.fuse.suggestions(rooms.participant)
    ]


async def mappings(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Suggestions that wait for a person, the latest decisions, and the mappings in force."""
    me = rooms.participant
    names = {one.id: f"{one.source}/{one.native_id}" for one in await rooms.fuse.signals(me)}
    rows = await rooms.records.rows(
        select(SUGGESTIONS)
        .where(SUGGESTIONS.c.participant == me)
        .order_by(SUGGESTIONS.c.decided_at.desc())
        .limit(DECIDED)
    )
    decided = []
    for row in rows:
        document = orjson.loads(row["document"])
        decided.append(
            {
                "signal": document["signal"],
                "name": names.get(document["signal"], ""),
                "target": document["target"],
                "state": row["state"],
                "decided_at": time_of(row["decided_at"]),
            }
        )
    in_force = []
    for one in await rooms.fuse.mappings(me):
        lines = written(one)
        steps = [orjson.dumps(step).decode() for step in lines["steps"]]
        in_force.append({**lines, "steps": steps, "text": orjson.dumps(lines, option=orjson.OPT_INDENT_2).decode()})
    open_rows = found(await suggestion_rows(rooms), ask, lambda one: f"{one['name']} {one['target']}")
    return {
        "suggestions": cut(open_rows, ask),
        "decided": decided,
        "in_force": in_force,
        "example": EXAMPLE,
        "signals": len(names),
    }
