"""What a person does with gateways in the machine network. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.clock import iso
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["invite_edge", "list_edges", "remove_edge"]


async def invite_edge(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """A one-time code, and the command that uses it."""
    made = await rooms.edges.invite(rooms.participant)
    command = f"guantong edge enrol {rooms.base_url} {made['code']}"
    return {"code": made["code"], "until": iso(made["until"]), "command": command, "next": "/sources"}


async def list_edges(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every gateway with its place and its sources' scorecards."""
    return {
        "edges": [
            {
                "id": one.id,
                "name": one.name,
                "enrolled_at": time_of(one.enrolled_at),
                "seen_at": time_of(one.seen_at),
                "position": one.position,
                "frames": one.frames,
                "rows": one.rows,
                "sources": [dict(card) for card in one.sources],
            }
            for one in await rooms.edges.edges(rooms.participant)
        ]
    }


async def remove_edge(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """By id or name."""
    name = str(ask.query.get("edge", ""))
    await rooms.edges.remove(rooms.participant, name)
    return {"removed": name, "next": "/sources"}
