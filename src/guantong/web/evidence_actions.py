"""What a person does with evidence: packages of agreements or parts of them, verdicts, trust. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.clock import parse_iso
from guantong.base.errors import Skippable
from guantong.prove.model import Scope
from guantong.web.ask import Ask, text
from guantong.web.rooms import Rooms

__all__ = ["package", "trust", "verify"]


async def package(rooms: Rooms, ask: Ask) -> bytes:
    """The evidence package of an agreement, or of one transfer or period of it, a zip file that strangers verify without us."""
    agreement = text(ask, "agreement", limit=200)
    return await rooms.package(agreement, await _scope(rooms, ask, agreement))


async def _scope(rooms: Rooms, ask: Ask, agreement: str) -> Scope:
    """Which part is wanted. A transfer may be named by either side's process id; packages name it by the provider's."""
    wanted = text(ask, "transfer", required=False, limit=200)
    transfer = None
    if wanted:
        for one in await rooms.exchange.transfers(rooms.participant):
            if one.agreement_id == agreement and wanted in (one.pid, one.partner_pid):
                transfer = one.pid if one.role == "provider" else one.partner_pid
        if transfer is None:
            raise Skippable("web.field-missing", field="transfer", reason="this agreement has no such transfer")
    start, end = (
        parse_iso(given) if (given := text(ask, name, required=False, limit=200)) else None for name in ("from", "to")
    )
    if any(at is not None and not 0 < at < 2**63 for at in (start, end)):
        raise Skippable("web.field-missing", field="from", reason="a time between 1970 and 2262 is wanted")
    if start is not None and end is not None and start >= end:
        raise Skippable("web.field-missing", field="to", reason="the period ends before it begins")
    return Scope(transfer, start, end)


async def verify(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Verify a package: an uploaded one, or the one of an agreement, made now."""
    given: Any = ask.query.get("file")
    if isinstance(given, bytes) and given:
        verdict = await rooms.verify(given)
        return {"subject": "", "verdict": dict(verdict)}
    agreement = text(ask, "agreement", limit=200)
    return {"subject": agreement, "verdict": dict(await rooms.verify(await rooms.package(agreement)))}


async def trust(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The trust file: keys of this node and of its partners, to be compared with their owners before use."""
    return {"next": "/evidence", "trust": await rooms.prove.trust_lines(rooms.participant)}
