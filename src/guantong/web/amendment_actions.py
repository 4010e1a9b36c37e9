"""What a person does with a live agreement: propose a change, answer one, end it; and with somebody else's data planes.

The rows are part of :data:`guantong.web.actions.ACTIONS`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from guantong.base.errors import Refused
from guantong.exchange.amendments import Amendment
from guantong.web.action import Action, Field
from guantong.web.ask import Ask, go, text, time_of
from guantong.web.rooms import Rooms

__all__ = ["AMENDMENT_ACTIONS"]


async def list_amendments(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """The proposals and the end of an agreement, and what is wrong with their signatures."""
    agreement, me = text(ask, "agreement", limit=200), rooms.participant
    found = await rooms.exchange.amendments.all(me, agreement)
    problems = await rooms.exchange.amendments.verify(me, agreement)
    return {"proposals": [_amendment_of(one) for one in found], "problems": list(problems)}


async def propose_amendment(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Propose other rules for an agreement."""
    agreement = text(ask, "agreement", limit=200)
    try:
        policy = json.loads(text(ask, "policy", limit=100_000))
    except ValueError as error:
        raise Refused("exchange.message-invalid", message="policy", reason=str(error)[:200]) from error
    if not isinstance(policy, dict):
        raise Refused("exchange.message-invalid", message="policy", reason="it is no JSON object")
    terms = text(ask, "terms", required=False, limit=20_000)
    made = await rooms.exchange.amendments.propose(
        rooms.participant, agreement, policy=policy, terms=terms or None, reason=text(ask, "reason", required=False)
    )
    return go(_page(agreement), proposal=made)


async def answer_amendment(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Accept or refuse what the partner proposes."""
    verdict = text(ask, "verdict", limit=10)
    if verdict not in ("accept", "refuse"):
        raise Refused("exchange.message-invalid", message="verdict", reason="accept or refuse")
    done = await rooms.exchange.amendments.decide(
        rooms.participant,
        text(ask, "proposal", limit=200),
        accept=verdict == "accept",
        reason=text(ask, "reason", required=False),
    )
    return go(_page(done.agreement_id), proposal=done.id, state=done.state)


async def end_agreement(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """End an agreement now."""
    agreement = text(ask, "agreement", limit=200)
    made = await rooms.exchange.amendments.end(rooms.participant, agreement, reason=text(ask, "reason", required=False))
    return go(_page(agreement), notice=made)


async def list_planes(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The data planes that registered here."""
    found = rooms.exchange.planes.all(rooms.participant)
    return {
        "planes": [
            {"id": one.id, "endpoint": one.endpoint, "profiles": list(one.profiles), "labels": list(one.labels)}
            for one in found
        ]
    }


async def serve_by_plane(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Let a registered data plane serve a dataset, or this node again."""
    dataset, plane = text(ask, "dataset", limit=255), text(ask, "plane", required=False, limit=255)
    await rooms.exchange.planes.serve(rooms.participant, dataset, plane)
    return go("/products", dataset=dataset, plane=plane)


def _page(agreement: str) -> str:
    return f"/contracts/{quote(agreement, safe='')}"


def _amendment_of(one: Amendment) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "by": one.by,
        "state": one.state,
        "reason": one.proposal["reason"],
        "agreement": one.proposal.get("agreement"),
        "terms": one.proposal.get("terms", ""),
        "answer": dict(one.answer).get("statement"),
        "changed_at": time_of(one.changed_at),
    }


AMENDMENT_ACTIONS: tuple[Action, ...] = (
    Action("/contracts/amendments/list", "Proposals to change an agreement", (Field("agreement"),), list_amendments),
    Action(
        "/contracts/amend",
        "Propose other rules for an agreement",
        (
            Field("agreement"),
            Field("policy", limit=100_000),
            Field("terms", required=False, limit=20_000),
            Field("reason", required=False),
        ),
        propose_amendment,
    ),
    Action(
        "/contracts/amendments/answer",
        "Accept or refuse a proposal of the partner",
        (Field("proposal"), Field("verdict"), Field("reason", required=False)),
        answer_amendment,
    ),
    Action(
        "/contracts/end", "End an agreement now", (Field("agreement"), Field("reason", required=False)), end_agreement
    ),
    Action("/planes/list", "Data planes that registered here", (), list_planes),
    Action(
        "/planes/serve",
        "Let a data plane serve a dataset",
        (Field("dataset"), Field("plane", required=False)),
        serve_by_plane,
    ),
)
