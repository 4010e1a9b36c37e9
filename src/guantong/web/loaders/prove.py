"""What the page of prove shows: the tree, its witnesses, and the timeline of what was recorded."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import and_, func, select

from guantong.records.tables import LEAVES
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["entry_of", "evidence"]

PAGE = 50


async def evidence(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """The log as people read it, newest first."""
    me = rooms.participant
    view = await rooms.prove.view(me)
    where = [LEAVES.c.participant == me]
    kind = ask.query.get("kind", "")
    if kind:
        where.append(LEAVES.c.kind == kind[:64])
    total = int(
        (await rooms.records.rows(select(func.count().label("n")).select_from(LEAVES).where(and_(*where))))[0]["n"]
    )
    pages = max(1, -(-total // PAGE))
    page = ask.whole("page", 1, 1, pages)
    rows = await rooms.records.rows(
        select(LEAVES).where(and_(*where)).order_by(LEAVES.c.number.desc()).limit(PAGE).offset((page - 1) * PAGE)
    )
    kinds = await rooms.records.rows(
        select(LEAVES.c.kind, func.count().label("n"))
        .where(LEAVES.c.participant == me)
        .group_by(LEAVES.c.kind)
        .order_by(LEAVES.c.kind)
    )
    witnessed = max((one.size for one in view.witnesses), default=0)
    return {
        "checker": f"{rooms.base_url}/verify",
        "origin": view.origin,
        "size": view.size,
        "behind": view.behind,
        "root": view.root.hex(),
        "checkpoint": None if view.checkpoint is None else view.checkpoint.decode("utf-8", "replace"),
        "witnesses": [
            {"did": one.did, "size": one.size, "at": time_of(one.at), "error": one.error, "attempts": one.attempts}
            for one in view.witnesses
        ],
        "witnessed": witnessed,
        "failure": view.failure,
        "audited": time_of(view.audited_at),
        "alarms": [
            {
                "did": one.did,
                "own": one.did == me,
                "kind": one.kind,
                "at": time_of(one.at),
                "facts": dict(one.facts),
                "over": one.over,
                "proof": None if one.proof is None else one.proof.decode(),
            }
            for one in view.alarms
        ],
        "anchors": [
            {"kind": one.kind, "size": one.size, "root": one.root.hex(), "at": time_of(one.at)} for one in view.anchors
        ],
        "entries": {
            "items": [entry_of(row, view.size, witnessed) for row in rows],
            "page": page,
            "pages": pages,
            "total": total,
        },
        "kinds": [{"kind": row["kind"], "count": row["n"]} for row in kinds],
        "kind": kind,
        "agreements": [
            {"id": one.id, "dataset": one.dataset_id, "partner": one.partner, "role": one.role}
            for one in await rooms.exchange.agreements(me)
        ],
        "transfers": [
            {"pid": one.pid, "dataset": one.dataset_id, "agreement": one.agreement_id, "at": time_of(one.created_at)}
            for one in await rooms.exchange.transfers(me)
        ],
    }


_SUBJECTS = (
    "product",
    "dataset",
    "number",
    "source",
    "subject",
    "signal",
    "table",
    "name",
    "report",
    "component",
    "kind",
    "id",
)
"""Fields of an entry's body that tell it from others of its kind, the most telling first."""


def _about(body: Any) -> dict[str, str]:
    """What the entry is about: the state it came to and its subject, as its body says."""
    if not isinstance(body, dict):
        return {"state": "", "subject": "", "total": ""}
    inner = body["record"] if isinstance(body.get("record"), dict) else {}
    subject = next((str(place[name]) for place in (body, inner) for name in _SUBJECTS if place.get(name)), "")
    rest = str(body.get("pid") or body.get("transfer") or body.get("agreement") or body.get("agreementId") or "")
    if not subject and rest:
        subject = rest.rsplit(":", 1)[-1].rsplit("/", 1)[-1][:8]
    return {
        "state": str(body.get("state") or body.get("outcome") or body.get("level") or ""),
        "subject": subject.removeprefix("dataset:").removeprefix("signal:")[:80],
        "total": f"{body['currency']} {body['total']}" if body.get("currency") and body.get("total") else "",
    }


def entry_of(row: Any, size: int, witnessed: int) -> dict[str, Any]:
    """An entry as people read it, and how far its proof is."""
    leaf = orjson.loads(row["leaf"])
    return {
        "number": row["number"],
        "kind": row["kind"],
        "at": time_of(row["recorded_at"]),
        "body": leaf.get("body", {}),
        "about": _about(leaf.get("body", {})),
        "proof": "witnessed" if row["number"] < witnessed else "in-tree" if row["number"] < size else "waiting",
    }
