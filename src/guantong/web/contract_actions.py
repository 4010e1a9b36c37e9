"""What a person says about a contract: its turn in the conversation, the data asked for, a duty that was fulfilled."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from guantong.web.ask import Ask, go, text
from guantong.web.rooms import Rooms

__all__ = ["confirm_duty", "request_transfer", "say_in_negotiation", "say_in_transfer"]


async def confirm_duty(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Say that a duty of ours was fulfilled; evidence here and, where it can be told, at the partner's."""
    agreement, duty = text(ask, "agreement", limit=200), text(ask, "duty", limit=64)
    by = text(ask, "by", required=False, limit=200) or "owner"
    note = text(ask, "note", required=False, limit=1000)
    done = await rooms.exchange.duties.confirm(rooms.participant, agreement, duty, by=by, note=note)
    return go(f"/contracts/{quote(agreement, safe='')}", duty=done.action, state=done.state)


async def say_in_negotiation(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Take our turn in a negotiation."""
    pid = text(ask, "pid", limit=200)
    verb = text(ask, "verb", limit=20)
    await rooms.exchange.decide_negotiation(rooms.participant, pid, verb, reason=text(ask, "reason", required=False))
    return go(f"/contracts/{quote(pid, safe='')}", pid=pid, verb=verb)


async def request_transfer(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Ask for the data of an agreement."""
    agreement = text(ask, "agreement", limit=200)
    pid = await rooms.exchange.request_transfer(rooms.participant, agreement)
    return go(f"/contracts/{quote(agreement, safe='')}", transfer=pid)


async def say_in_transfer(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Start, suspend, complete or terminate a transfer."""
    pid, agreement = text(ask, "pid", limit=200), text(ask, "agreement", limit=200)
    verb = text(ask, "verb", limit=20)
    await rooms.exchange.decide_transfer(rooms.participant, pid, verb, reason=text(ask, "reason", required=False))
    return go(f"/contracts/{quote(agreement, safe='')}", pid=pid, verb=verb)
