"""What a person does about spaces. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.clock import iso
from guantong.base.errors import Skippable
from guantong.exchange.space import root_of
from guantong.web.ask import Ask, text
from guantong.web.rooms import Rooms

__all__ = ["found_space", "invite", "join_space", "list_directory", "revoke_member", "withdraw_invitation"]

_PAGE = "/partners"
_DAYS = 90.0


async def found_space(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Found a space, or rename it."""
    required = ask.query.get("required", True) not in (False, "false", "0", "", "no")
    made = await rooms.exchange.spaces.make(rooms.participant, text(ask, "name"), required=required)
    return {"space": made.name, "issuer": made.issuer, "required": made.required, "next": _PAGE}


async def invite(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """A one-time link, shown only now."""
    given = str(ask.query.get("days") or 7)
    try:
        days = float(given)
    except ValueError:
        days = -1.0
    if not 0 < days <= _DAYS:
        raise Skippable("web.field-missing", field="days", reason=f"more than 0 and at most {_DAYS:.0f}")
    made, link = await rooms.exchange.spaces.invite(
        rooms.participant,
        kind=str(ask.query.get("kind") or "join"),
        name=str(ask.query.get("name") or ""),
        valid_s=days * 86_400,
    )
    return {"link": link, "id": made.id, "kind": made.kind, "until": iso(made.until, digits=0), "next": _PAGE}


async def withdraw_invitation(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """An open link works no more."""
    await rooms.exchange.spaces.withdraw(rooms.participant, text(ask, "invitation"))
    return {"withdrawn": text(ask, "invitation"), "next": _PAGE}


async def revoke_member(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """End a membership."""
    ended = await rooms.exchange.spaces.remove(rooms.participant, text(ask, "member"))
    return {"member": text(ask, "member"), "credentials_ended": ended, "next": _PAGE}


async def join_space(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Join a space with a link; the same answer as the command's."""
    space, issued = await rooms.exchange.spaces.join(
        rooms.participant, text(ask, "link"), name=str(ask.query.get("name") or "")
    )
    uplink = rooms.uplink()
    return {
        "space": space.name,
        "issuer": space.issuer,
        "leader": space.leader,
        "participant": rooms.participant,
        "issued": issued,
        "relay": "" if uplink is None else uplink.seat.root,
        "address": root_of(space.issuer),
        "next": _PAGE,
    }


async def list_directory(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Members of our spaces, as their leaders say now."""
    return {"members": await rooms.exchange.spaces.directory(rooms.participant)}
