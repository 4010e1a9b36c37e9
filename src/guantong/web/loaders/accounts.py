"""What the pages of netting and of shares show: what was set off and what remains, and why each owner gets its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.canonical import digest
from guantong.records.tables import LEAVES
from guantong.web.ask import Ask
from guantong.web.loaders.prove import entry_of
from guantong.web.rooms import Rooms

__all__ = ["certificate_of", "netting", "recorded", "share_rows", "shares"]

PAGE = 50
SHOWN = 200
"""Most debts and parties of one certificate on a page; the certificate itself holds them all."""
DECIMALS = 2
"""As :func:`guantong.settle.accounts.read_obligations` reads amounts."""


def _money(minor: Any) -> str:
    return f"{Decimal(int(minor)).scaleb(-DECIMALS):.{DECIMALS}f}"


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


async def netting(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every netting on record, newest first: gross, set off, what remains."""
    from guantong.settle.model import NETTED

    me = rooms.participant
    where = and_(LEAVES.c.participant == me, LEAVES.c.kind == NETTED.name)
    total = int((await rooms.records.rows(select(func.count().label("n")).select_from(LEAVES).where(where)))[0]["n"])
    pages = max(1, -(-total // PAGE))
    page = ask.whole("page", 1, 1, pages)
    rows = await rooms.records.rows(
        select(LEAVES).where(where).order_by(LEAVES.c.number.desc()).limit(PAGE).offset((page - 1) * PAGE)
    )
    view = await rooms.prove.view(me)
    witnessed = max((one.size for one in view.witnesses), default=0)
    return {
        "netted": {
            "items": [_netted(entry_of(row, view.size, witnessed)) for row in rows],
            "page": page,
            "pages": pages,
            "total": total,
        },
        "columns": ["debtor", "creditor", "amount", "currency"],
    }


def _netted(entry: Mapping[str, Any]) -> dict[str, Any]:
    body = entry["body"]
    gross, cancelled = int(body["gross"]), int(body["cancelled"])
    return {
        "number": entry["number"],
        "at": entry["at"],
        "proof": entry["proof"],
        "currency": body["currency"],
        "obligations": body["obligations"],
        "gross": _money(gross),
        "cancelled": _money(cancelled),
        "remains": _money(gross - cancelled),
        "share": _rate(cancelled, gross),
        "input_root": body["inputRoot"],
        "output_root": body["outputRoot"],
        "certificate": body["certificate"],
        "solver": f"{body['solver']} {body['version']}",
    }


async def recorded(rooms: Rooms) -> dict[str, int]:
    """The first entry of each netting on record, by the digest of its certificate; the newest thousand entries are read."""
    from guantong.settle.model import NETTED

    rows = await rooms.records.rows(
        select(LEAVES.c.number, LEAVES.c.leaf)
        .where(and_(LEAVES.c.participant == rooms.participant, LEAVES.c.kind == NETTED.name))
        .order_by(LEAVES.c.number.desc())
        .limit(1000)
    )
    return {orjson.loads(row["leaf"])["body"]["certificate"]: int(row["number"]) for row in rows}


def certificate_of(document: Mapping[str, Any], known: Mapping[str, int]) -> dict[str, Any]:
    """A netting certificate before and after, with everything that is wrong with it. CPU work; call it on a thread."""
    from guantong.settle.netting import check, in_chinese, read

    problems = check(document)[:20]
    found: dict[str, Any] = {
        "currency": str(document.get("currency", ""))[:8],
        "problems": problems,
        "problems_zh": [in_chinese(one) for one in problems],
    }
    try:
        found["digest"] = digest(dict(document))
        debts, flows = read(document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return {**found, "readable": False}
    gross, cancelled = sum(one.amount for one in debts), sum(flows)
    parties: dict[str, list[int]] = {}
    for one, flow in zip(debts, flows, strict=True):
        debtor, creditor = parties.setdefault(one.debtor, [0] * 4), parties.setdefault(one.creditor, [0] * 4)
        debtor[0] += one.amount
        debtor[1] += one.amount - flow
        creditor[2] += one.amount
        creditor[3] += one.amount - flow
    return {
        **found,
        "readable": True,
        "recorded": known.get(found["digest"]),
        "gross": _money(gross),
        "cancelled": _money(cancelled),
        "remains": _money(gross - cancelled),
        "share": _rate(cancelled, gross),
        "obligations": len(debts),
        "debts": [
            {
                "debtor": one.debtor,
                "creditor": one.creditor,
                "owed": _money(one.amount),
                "cancelled": _money(flow),
                "remains": _money(one.amount - flow),
            }
            for one, flow in list(zip(debts, flows, strict=True))[:SHOWN]
        ],
        "members": len(parties),
        "parties": [
            {
                "party": party,
                "owes": _money(owes),
                "owes_after": _money(owes_after),
                "is_owed": _money(is_owed),
                "is_owed_after": _money(is_owed_after),
                "net": _money(is_owed - owes),
                "net_after": _money(is_owed_after - owes_after),
            }
            for party, (owes, owes_after, is_owed, is_owed_after) in sorted(parties.items())[:SHOWN]
        ],
    }


SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "coverage": {
        "total": 100_000,
        "currency": "CNY",
        "rule": "coverage",
        "owners": ["foundry", "mill", "broker"],
        "holdings": {
            "foundry": ["r1", "r2", "r3", "r4"],
            "mill": ["r4", "r5", "r6", "r7", "r8"],
            "broker": ["r4", "r5", "r6", "r7", "r8"],
        },
        "similar": "0.9",
        "penalty": "0.1",
    },
    "shapley": {
        "total": 100_000,
        "currency": "CNY",
        "rule": "shapley",
        "owners": ["foundry", "mill", "inspector"],
        "statistics": {"foundry": 120, "mill": 40, "inspector": 40},
        "half": 60,
    },
}
"""Inputs to try: two owners who hold the same records; and an exact Shapley value from counts of samples."""


async def shares(_: Rooms, ask: Ask) -> dict[str, Any]:
    """The form that asks for a rule and its inputs, with samples."""
    from guantong.settle.sharing import OWNERS_MAX, RULES

    name = ask.query.get("sample", "")
    given = SAMPLES.get(name)
    return {
        "rules": list(RULES),
        "owners_max": OWNERS_MAX,
        "samples": list(SAMPLES),
        "sample": name if given else "",
        "inputs": "" if given is None else orjson.dumps(given, option=orjson.OPT_INDENT_2).decode(),
    }


def share_rows(given: Mapping[str, Any], made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each owner's share and the facts that explain it. ``given``: what was asked, ``made``: what ``share_out`` answered."""
    group = {member: members for members in made["groups"] for member in members}
    held = {owner: frozenset(records) for owner, records in (given.get("holdings") or {}).items()}
    unions: dict[str, frozenset[str]] = {}
    for owner, records in held.items():
        head = group.get(owner, [owner])[0]
        unions[head] = unions.get(head, frozenset()) | records
    holders = Counter(record for records in unions.values() for record in records)
    total = int(made["total"])
    players = len({members[0] for members in made["groups"]} | {row["owner"] for row in made["shares"]} - set(group))
    rows = []
    for row in made["shares"]:
        owner = row["owner"]
        same = group.get(owner, [owner])
        own = unions.get(same[0], frozenset())
        facts: dict[str, Any] = {"rule": made["rule"], "weight": row["weight"]}
        if made["rule"] == "equal":
            facts["owners"] = players
        if made["rule"] == "coverage":
            facts |= {"records": len(own), "alone": sum(1 for record in own if holders[record] == 1)}
        if made["rule"] == "proportional":
            facts["stated"] = (given.get("weights") or {}).get(owner)
        if made["rule"] == "shapley" and given.get("statistics") is not None:
            counts = given["statistics"]
            facts |= {"samples": max(counts[one] for one in same), "half": given.get("half")}
        elif made["rule"] == "shapley":
            facts["worth_alone"] = (given.get("coalitions") or {}).get(same[0], "0")
        rows.append(
            {
                "owner": owner,
                "share": row["share"],
                "part": _rate(int(row["share"]), total),
                "reason": facts,
                "copies": [one for one in same if one != owner],
                "penalty": made["penalty"] if len(same) > 1 else None,
            }
        )
    return rows
