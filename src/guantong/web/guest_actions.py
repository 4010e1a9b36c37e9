"""What a person does about guests, here as their host and as one who has moved in. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.guest import MAX_PAPERS_BYTES
from guantong.web.ask import Ask, go, text
from guantong.web.rooms import Rooms

__all__ = ["ask_guest", "move_in", "revoke_moved", "set_guest_terms", "use_share"]

_PAGE = "/guests"
_ROWS = 10_000


async def set_guest_terms(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """What guests are asked for from now on."""
    made = await rooms.exchange.guests.set_terms(
        rooms.participant, text(ask, "purpose", limit=4000), text(ask, "terms", limit=4000)
    )
    return go(_PAGE, purpose=made.purpose, terms=made.terms)


async def ask_guest(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Ask for one more use of a share."""
    made = await rooms.exchange.guests.ask(
        rooms.participant,
        text(ask, "share", limit=100),
        text(ask, "purpose", limit=4000),
        text(ask, "terms", required=False, limit=4000),
    )
    return go(_PAGE, request=made.id, guest=made.guest, state=made.state)


async def use_share(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """The rows of a share for a purpose that its guest agreed to; the use goes on record."""
    share = await rooms.exchange.guests.share(rooms.participant, text(ask, "share", limit=100))
    purpose = text(ask, "purpose", required=False, limit=4000) or share.purpose
    found = await rooms.exchange.guests.use(rooms.participant, share.id, purpose)
    return {
        "file": share.file,
        "guest": share.guest,
        "purpose": purpose,
        "total": found.num_rows,
        "columns": found.schema.names,
        "rows": [[_plain(value) for value in row.values()] for row in found.slice(0, _ROWS).to_pylist()],
        "next": _PAGE,
    }


async def move_in(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Take a guest's key, contracts and proofs over from the file that its page wrote."""
    papers = text(ask, "papers", limit=MAX_PAPERS_BYTES).encode()
    made = await rooms.exchange.moving.move_in(rooms.participant, papers, text(ask, "passphrase", limit=1000))
    return go(
        _PAGE,
        guest=made.guest,
        participant=rooms.participant,
        host=made.host,
        statements=made.statements,
    )


async def revoke_moved(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """End what was shared as a guest, from the own node."""
    guest, share = text(ask, "guest", limit=128), text(ask, "share", limit=100)
    return go(_PAGE, statement=await rooms.exchange.moving.revoke(rooms.participant, guest, share), share=share)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
