"""What the page of partners shows: who is there, spaces and their members, invitations, whom we trust, and the relay."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from guantong.exchange.messages import PATH as DSP
from guantong.exchange.space import MEMBERSHIP, root_of
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.exchange.space import Invitation, Space

__all__ = ["partners"]


async def partners(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Who is there: everybody whom a space, a contract or a witness connects us with; the spaces, invitations and trust; the relay."""
    me = rooms.participant
    known: dict[str, dict[str, Any]] = {}

    def row(did: str) -> dict[str, Any]:
        return known.setdefault(
            did,
            {
                "did": did,
                "name": "",
                "address": "",
                "agreements": 0,
                "talks": 0,
                "witness": None,
                "stuck": 0,
                "member": "",
            },
        )

    spaces = rooms.exchange.spaces
    own = [one for one in spaces.spaces(me) if one.role == "leader"]
    members = await spaces.members(me) if own else []
    for member in members:
        if member.did != me:
            row(member.did).update(name=member.name, address=_base(member.did), member=member.state)
    for space in spaces.spaces(me):
        if space.role == "member":
            row(space.issuer).update(name=space.leader, address=_base(space.issuer), member="leader")
    for one in await rooms.exchange.agreements(me):
        entry = row(one.partner)
        entry["address"] = one.partner_address
        entry["agreements"] += 1
    for talk in await rooms.exchange.negotiations(me):
        entry = row(talk.partner)
        entry["address"] = entry["address"] or talk.partner_address
        entry["talks"] += 1
    view = await rooms.prove.view(me)
    for witness in view.witnesses:
        row(witness.did)["witness"] = {"size": witness.size, "at": time_of(witness.at), "error": witness.error}
    for stuck in await rooms.outbox.stuck(me):
        if stuck.lane in known:
            known[stuck.lane]["stuck"] += 1
    return {
        "me": me,
        "name": rooms.name,
        "address": rooms.base_url,
        "partners": sorted(known.values(), key=lambda one: one["did"]),
        "spaces": [_space_of(rooms, one) for one in spaces.spaces(me)],
        "invitations": [_invitation_of(rooms, one) for one in (await spaces.invitations(me))[:200]],
        "members": [
            {
                "did": one.did,
                "name": one.name,
                "state": one.state,
                "since": time_of(one.changed_at),
                "us": one.did == me,
            }
            for one in members
        ],
        "trust": [_trust_of(one) for one in rooms.exchange.hosting.trust.issuers(me)],
        "required": list(rooms.exchange.hosting.trust.required(me)),
        "relay": _relay_of(rooms),
        "relayed": [asdict(one) for one in rooms.exchange.relay.relayed(me)],
    }


def _base(did: str) -> str:
    return f"{root_of(did)}{DSP}" if did.startswith("did:web:") else ""


def _space_of(rooms: Rooms, space: Space) -> dict[str, Any]:
    until = [
        one.credential.valid_until
        for one in rooms.exchange.wallet.held(rooms.participant)
        if one.issuer == space.issuer and one.kind == MEMBERSHIP and one.credential.valid_until is not None
    ]
    return {
        "name": space.name,
        "role": space.role,
        "issuer": space.issuer,
        "leader": space.leader,
        "required": space.required,
        "since": time_of(space.since),
        "credential_until": time_of(max(until)) if until else "",
    }


def _invitation_of(rooms: Rooms, one: Invitation) -> dict[str, Any]:
    late = one.state == "open" and one.until <= rooms.records.clock.now()
    return {
        "id": one.id[:16],
        "kind": one.kind,
        "name": one.name,
        "state": "expired" if late else one.state,
        "until": time_of(one.until),
        "used_by": one.used_by,
        "used_at": time_of(one.used_at) if one.used_at else "",
    }


def _trust_of(entry: str) -> dict[str, str]:
    issuer, _, kind = entry.partition(" ")
    return {"issuer": issuer, "kind": kind}


def _relay_of(rooms: Rooms) -> dict[str, Any] | None:
    uplink = rooms.uplink()
    if uplink is None:
        return None
    error = uplink.error
    return {
        "root": uplink.seat.root,
        "name": uplink.seat.name,
        "connected": bool(uplink.since),
        "since": time_of(uplink.since) if uplink.since else "",
        "served": uplink.served,
        "error": "" if error is None else error.code,
        "facts": {} if error is None else {name: str(value) for name, value in error.facts.items()},
    }
