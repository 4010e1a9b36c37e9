"""What the pages of exchange show: products, partners' catalogues, contracts as conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.errors import GuantongError, Refused
from guantong.web.ask import Ask, cut, not_found, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.exchange.model import Agreement, Negotiation, OwedDuty, Receipt, Transfer

__all__ = ["catalogue", "contract", "contracts", "products"]

_ENDED = frozenset({"FINALIZED", "TERMINATED"})


def negotiation_of(one: Negotiation) -> dict[str, Any]:
    """A negotiation as plain JSON."""
    return {
        "pid": one.pid,
        "role": one.role,
        "partner": one.partner,
        "state": one.state,
        "dataset": one.dataset_id,
        "agreement": one.agreement_id,
        "turn": turn_of(one),
        "reason": one.reason,
        "created_at": time_of(one.created_at),
        "changed_at": time_of(one.changed_at),
        "moves": moves_of(one),
        "offer": dict(one.offer),
    }


def turn_of(one: Negotiation) -> str:
    """Whose turn it is: ``us`` when a person here must decide, ``partner``, or ``nobody`` when it has ended."""
    if one.state in _ENDED:
        return "nobody"
    return "us" if one.waiting == "person" else "partner"


def moves_of(one: Negotiation) -> list[str]:
    """What this side may say now (Dataspace Protocol 2025-1, Contract Negotiation, States)."""
    if one.state in _ENDED or one.waiting != "person":
        return [] if one.state in _ENDED else ["terminate"]
    legal: Mapping[tuple[str, str], list[str]] = {
        ("provider", "REQUESTED"): ["agree", "offer"],
        ("consumer", "OFFERED"): ["accept", "request"],
        ("provider", "ACCEPTED"): ["agree"],
        ("consumer", "AGREED"): ["verify"],
        ("provider", "VERIFIED"): ["finalize"],
    }
    # a counter-offer needs a new text of the offer; it is made with the command line or the API, not with one button
    return [verb for verb in legal.get((one.role, one.state), []) if verb not in ("offer", "request")] + ["terminate"]


def agreement_of(one: Agreement) -> dict[str, Any]:
    """An agreement as plain JSON."""
    return {
        "id": one.id,
        "role": one.role,
        "partner": one.partner,
        "dataset": one.dataset_id,
        "product": one.product_id,
        "state": one.state,
        "agreed_at": time_of(one.agreed_at),
        "hash": one.agreement_hash,
        "policy_hash": one.policy_hash,
        "terms": one.terms,
        "price": dict(one.price),
        "negotiation": one.negotiation_pid,
        "constraints": constraints_of(one.agreement),
    }


def constraints_of(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each term of a policy in one line, with what exchange makes of it: enforced here, or a legal term between the parties. A policy that
    exchange refuses (a stranger's may hold anything) is one line that names the refused term.
    """
    from guantong.exchange.policy import compile_policy, said
    from guantong.exchange.vocabulary import term_of

    line: dict[str, Any] = {
        "rule": "",
        "action": "",
        "left": "",
        "operator": "",
        "right": "",
        "enforced": False,
        "says": {"en": "", "zh": ""},
        "at": [],
    }
    try:
        read = compile_policy(policy).constraints
    except GuantongError as error:
        return [{**line, "refused": {"en": error.message("en"), "zh": error.message("zh")}}]
    except (TypeError, ValueError, AttributeError, LookupError):
        unread = Refused("exchange.term-refused", term="permission", reason="a rule must be an object")
        return [{**line, "refused": {"en": unread.message("en"), "zh": unread.message("zh")}}]
    bare = {(one.place, one.action) for one in read if one.left}
    return [
        {
            **line,
            "rule": one.place,
            "action": one.action,
            "left": _word(one.left),
            "operator": one.operator,
            "right": ", ".join(one.right[:20]),
            "enforced": one.status == "enforced",
            "says": {language: cut_digest(said(one, language)) for language in ("en", "zh")},
            "at": list(term.at) if (term := term_of(one.left)) and one.status == "enforced" else [],
            "refused": None,
        }
        for one in read
        if one.left or (one.place, one.action) not in bare
    ][:100]


def cut_digest(sentence: str) -> str:
    """A sentence for people: of a digest its beginning, which is enough to compare by eye."""
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", sentence)[:1000]


def duty_of(one: OwedDuty) -> dict[str, Any]:
    """A duty as plain JSON."""
    return {
        "agreement": one.agreement_id,
        "role": one.role,
        "partner": one.partner,
        "dataset": one.dataset_id,
        "duty": one.action,
        "says": {"en": one.en, "zh": one.zh},
        "state": one.state,
        "deadline": None if one.deadline is None else time_of(one.deadline),
        "done_at": None if one.done_at is None else time_of(one.done_at),
        "by": one.by,
        "note": one.note,
        "ours": one.role == "consumer" and one.todo and one.state != "done",
    }


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("@id") or value.get("@value") or value.get("id") or ""
    if isinstance(value, list):
        return ", ".join(_word(item) for item in value[:20])
    text = str(value if value is not None else "")
    return (
        text.rsplit("/", 1)[-1].rsplit("#", 1)[-1].removeprefix("odrl:") if text.startswith(("http", "odrl:")) else text
    )


def transfer_of(one: Transfer) -> dict[str, Any]:
    """A transfer as plain JSON, without its token."""
    moves: Mapping[tuple[str, str], list[str]] = {
        ("provider", "REQUESTED"): ["start", "terminate"],
        ("provider", "STARTED"): ["suspend", "complete", "terminate"],
        ("consumer", "STARTED"): ["suspend", "complete", "terminate"],
        ("provider", "SUSPENDED"): ["start", "terminate"],
        ("consumer", "SUSPENDED"): ["start", "terminate"],
    }
    return {
        "pid": one.pid,
        "role": one.role,
        "partner": one.partner,
        "state": one.state,
        "agreement": one.agreement_id,
        "format": one.format,
        "dataset": one.dataset_id,
        "token_expires": time_of(one.token_expires),
        "waiting": one.waiting,
        "reason": one.reason,
        "created_at": time_of(one.created_at),
        "changed_at": time_of(one.changed_at),
        "moves": moves.get((one.role, one.state), []),
    }


def receipt_of(one: Receipt) -> dict[str, Any]:
    """A usage receipt: what was used, who signed."""
    return {
        "id": one.record_id,
        "seq": one.seq,
        "role": one.role,
        "partner": one.partner,
        "state": one.state,
        "recorded_at": time_of(one.recorded_at),
        "signed": bool(one.signature),
        "countersigned": bool(one.countersignature),
        "transfer": one.transfer_pid,
        "record": dict(one.record),
    }


async def products(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """What is on offer, and the datasets that could be."""
    me = rooms.participant
    offered = await rooms.exchange.products(me)
    rights = {one.dataset_id for one in await rooms.govern.all_rights(me)}
    datasets = await rooms.describe.datasets(me)
    return {
        "products": [
            {
                "id": one.id,
                "dataset": one.dataset_id,
                "offer": one.offer_id,
                "title": {"en": one.title_en or one.id, "zh": one.title_zh or one.title_en or one.id},
                "terms": one.terms,
                "price": dict(one.price),
                "visible_to": list(one.visible_to),
                "constraints": constraints_of(one.policy),
            }
            for one in offered
        ],
        "datasets": [
            {"id": one.id, "title": {"en": one.title_en, "zh": one.title_zh}, "rights": one.id in rights}
            for one in datasets
        ],
    }


async def catalogue(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """A partner's catalogue, asked for now."""
    address, partner = ask.query.get("address", "").strip(), ask.query.get("partner", "").strip()
    known = await _known_partners(rooms)
    if not address or not partner:
        return {"address": address, "partner": partner, "known": known, "offers": None}
    answer = await rooms.exchange.catalogue(rooms.participant, address, partner)
    return {
        "address": address,
        "partner": answer.participant_id,
        "known": known,
        "offers": [
            {
                "id": str(one.offer.get("@id", "")),
                "dataset": one.dataset_id,
                "title": one.title or one.dataset_id,
                "terms": one.terms,
                "price": dict(one.price),
                "formats": list(one.formats),
                "constraints": constraints_of(one.offer),
            }
            for one in answer.offers
        ],
    }


async def _known_partners(rooms: Rooms) -> list[dict[str, str]]:
    known: dict[str, str] = {}
    for one in await rooms.exchange.agreements(rooms.participant):
        known[one.partner] = one.partner_address
    for item in await rooms.exchange.negotiations(rooms.participant):
        known.setdefault(item.partner, item.partner_address)
    return [{"partner": partner, "address": address} for partner, address in sorted(known.items())]


async def contracts(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every conversation and every agreement, whose turn it is first."""
    me = rooms.participant
    talks = [negotiation_of(one) for one in await rooms.exchange.negotiations(me)]
    talks.sort(key=lambda one: one["changed_at"] or "", reverse=True)
    talks.sort(key=lambda one: {"us": 0, "partner": 1, "nobody": 2}[one["turn"]])
    agreements = [agreement_of(one) for one in await rooms.exchange.agreements(me)]
    transfers = await rooms.exchange.transfers(me)
    for one in agreements:
        one["transfers"] = sum(item.agreement_id == one["id"] for item in transfers)
        one["receipts"] = len(await rooms.exchange.receipts(me, one["id"]))
    agreements.sort(key=lambda one: one["agreed_at"] or "", reverse=True)
    return {
        "talks": [
            {name: value for name, value in one.items() if name != "offer"}
            for one in talks
            if one["turn"] != "nobody" or one["state"] == "TERMINATED"
        ][:50],
        "agreements": cut(agreements, ask),
        "ours": sum(one["turn"] == "us" for one in talks),
        "duties": [duty_of(one) for one in await rooms.exchange.duties.list(me) if one.state in ("open", "overdue")][
            :50
        ],
    }


async def contract(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One contract, by the id of its agreement or of its negotiation: conversation, terms, use so far, receipts."""
    me, key = rooms.participant, ask.path["id"]
    agreements = await rooms.exchange.agreements(me)
    talks = await rooms.exchange.negotiations(me)
    agreement = next((one for one in agreements if key in (one.id, one.negotiation_pid)), None)
    talk = next(
        (one for one in talks if key == one.pid or (agreement is not None and agreement.negotiation_pid == one.pid)),
        None,
    )
    if agreement is None and talk is None:
        raise not_found(f"/contracts/{key}")
    transfers = [
        transfer_of(one) for one in await rooms.exchange.transfers(me) if agreement and one.agreement_id == agreement.id
    ]
    receipts = [receipt_of(one) for one in await rooms.exchange.receipts(me, agreement.id)] if agreement else []
    turns = await _turns(
        rooms, [value for value in (talk.pid if talk else "", *(one["pid"] for one in transfers)) if value]
    )
    invoices = [
        {"number": one.number, "total": one.total, "currency": one.currency, "state": one.state}
        for one in (await rooms.settle.invoices(me, agreement.id) if agreement else [])
    ]
    policy = agreement.agreement if agreement else (talk.offer if talk else {})
    dataset_id = agreement.dataset_id if agreement else (talk.dataset_id if talk else key)
    known = next((one for one in await rooms.describe.datasets(me) if one.id == dataset_id), None)
    return {
        "title": dataset_id,
        "dataset": dataset_id,
        "named": None if known is None else {"en": known.title_en, "zh": known.title_zh},
        "agreement": None if agreement is None else agreement_of(agreement),
        "talk": None if talk is None else negotiation_of(talk),
        "constraints": constraints_of(policy),
        "policy": dict(policy),
        "duties": [duty_of(one) for one in await rooms.exchange.duties.list(me, agreement.id)] if agreement else [],
        "transfers": transfers,
        "receipts": cut(list(reversed(receipts)), ask, 25),
        "used": _used(receipts),
        "turns": turns,
        "invoices": invoices,
    }


async def _turns(rooms: Rooms, pids: list[str]) -> list[dict[str, Any]]:
    """The conversation as the evidence log recorded it: who said what, and which leaf says so."""
    import orjson
    from sqlalchemy import and_, select

    from guantong.records.tables import LEAVES

    rows = await rooms.records.rows(
        select(LEAVES.c.number, LEAVES.c.leaf, LEAVES.c.recorded_at)
        .where(
            and_(
                LEAVES.c.participant == rooms.participant,
                LEAVES.c.kind.in_(("exchange.negotiation-moved", "exchange.transfer-moved", "exchange.agreement-made")),
            )
        )
        .order_by(LEAVES.c.number.desc())
        .limit(2000)
    )
    wanted = frozenset(pids)
    turns = []
    for row in rows:
        leaf = orjson.loads(row["leaf"])
        body = leaf.get("body", {})
        if body.get("pid") in wanted:
            turns.append(
                {
                    "leaf": row["number"],
                    "at": time_of(row["recorded_at"]),
                    "kind": leaf.get("kind"),
                    "by": body.get("by"),
                    "message": body.get("message"),
                    "state": body.get("state"),
                    "reason": body.get("reason", ""),
                }
            )
    turns.reverse()
    return turns[-100:]


def _used(receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums of the figures that the receipts carry."""
    sums: dict[str, int] = {}
    for one in receipts:
        for name in ("rows", "points", "bytes", "reads"):
            value = one["record"].get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                sums[name] = sums.get(name, 0) + value
    return {
        **sums,
        "receipts": len(receipts),
        "both": sum(one["state"] == "acknowledged" for one in receipts),
        "one_sided": sum(one["state"] == "one-sided" for one in receipts),
        "disputed": sum(one["state"] == "disputed" for one in receipts),
    }
