"""What a person does with accounts: disputes, credit notes, papers, netting. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson

from guantong.base.clock import iso
from guantong.base.errors import ConfigProblem, Skippable
from guantong.web.ask import Ask, text
from guantong.web.loaders.accounts import certificate_of, recorded, share_rows
from guantong.web.rooms import Rooms

__all__ = [
    "accept_resolution",
    "check_certificates",
    "clear_obligations",
    "compute_shares",
    "credit_note",
    "list_disputes",
    "narrow_dispute",
    "print_contract",
    "print_invoice",
    "propose_resolution",
]


def _whole(ask: Ask, name: str) -> int:
    try:
        return int(text(ask, name, limit=20))
    except ValueError as error:
        raise Skippable("web.field-missing", field=name, reason="a whole number is wanted") from error


def _dispute(one: Any) -> dict[str, Any]:
    return {
        "receipt": one.record_id,
        "agreement": one.agreement_id,
        "role": one.role,
        "partner": one.partner,
        "state": one.state,
        "block": one.block,
        "blocks": one.statement.get("blocks"),
        "messages": one.statement.get("messages"),
        "counted": one.statement.get("counted"),
        "agreed": None if one.resolution is None else one.resolution.get("agreed"),
        "reason": "" if one.resolution is None else one.resolution.get("reason"),
        "by": "" if one.resolution is None else one.resolution.get("by"),
        "changed_at": iso(one.changed_at),
    }


def _note(one: Any) -> dict[str, Any]:
    return {
        "number": one.number,
        "invoice": one.invoice,
        "agreement": one.agreement_id,
        "role": one.role,
        "state": one.state,
        "total": one.total,
        "currency": one.currency,
        "reason": one.document.get("reason"),
    }


async def list_disputes(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Disputed receipts that were narrowed down, and credit notes."""
    me = rooms.participant
    return {
        "disputes": [_dispute(one) for one in await rooms.disputes.disputes(me)],
        "notes": [_note(one) for one in await rooms.disputes.notes.notes(me)],
    }


async def narrow_dispute(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Find the first block of a disputed delivery that differs."""
    return _dispute(
        await rooms.disputes.narrow(
            rooms.participant, text(ask, "agreement", limit=200), text(ask, "receipt", limit=200)
        )
    )


async def propose_resolution(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Propose what is owed for a disputed delivery."""
    made = await rooms.disputes.propose(
        rooms.participant,
        text(ask, "agreement", limit=200),
        text(ask, "receipt", limit=200),
        rows=_whole(ask, "rows"),
        size=_whole(ask, "bytes"),
        reason=text(ask, "reason", limit=500),
    )
    return _dispute(made)


async def accept_resolution(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Sign what the other side proposed."""
    return _dispute(
        await rooms.disputes.accept(
            rooms.participant, text(ask, "agreement", limit=200), text(ask, "receipt", limit=200)
        )
    )


async def credit_note(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Derive the credit note of an agreement and have the consumer sign it."""
    reason = text(ask, "reason", limit=200)
    if reason not in ("dispute", "service-level"):
        raise Skippable("web.field-missing", field="reason", reason="dispute or service-level is wanted")
    return _note(await rooms.disputes.notes.issue(rooms.participant, text(ask, "agreement", limit=200), reason))


def _partner(ask: Ask) -> Any:
    from guantong.settle.ubl import Party

    return Party(
        text(ask, "partner_name", limit=200),
        text(ask, "partner_country", required=False, limit=200) or "CN",
        text(ask, "partner_registration", required=False, limit=200),
        text(ask, "partner_tax_number", required=False, limit=200),
        text(ask, "partner_address", required=False, limit=200),
    )


def _form(ask: Ask, forms: tuple[str, ...]) -> str:
    form = text(ask, "form", limit=200)
    if form not in forms:
        raise Skippable("web.field-missing", field="form", reason=f"{', '.join(forms)} are possible")
    return form


async def print_invoice(rooms: Rooms, ask: Ask) -> bytes:
    """An invoice or credit note on paper: HTML, PDF or UBL."""
    return await rooms.accounts.paper(
        rooms.participant,
        text(ask, "number", limit=200),
        _form(ask, ("html", "pdf", "ubl")),
        _partner(ask),
        language=text(ask, "language", required=False, limit=200) or "zh",
        fapiao=text(ask, "fapiao", required=False, limit=200),
    )


async def print_contract(rooms: Rooms, ask: Ask) -> bytes:
    """A contract on paper: HTML or PDF."""
    from guantong.settle import papers

    language = text(ask, "language", required=False, limit=200) or "zh"
    form = _form(ask, ("html", "pdf"))
    agreement = await rooms.exchange.agreement(rooms.participant, text(ask, "agreement", limit=200))
    own, partner = rooms.accounts.own_party(), _partner(ask)
    provider, consumer = (own, partner) if agreement.role == "provider" else (partner, own)
    paper = papers.contract_paper(
        agreement_id=agreement.id,
        agreement_hash=agreement.agreement_hash,
        dataset=agreement.dataset_id,
        agreed_at=iso(agreement.agreed_at),
        provider=provider,
        consumer=consumer,
        rules=rooms.exchange.explain(agreement.agreement, language),
        terms=agreement.terms,
        price=agreement.price,
        language=language,
    )
    return papers.pdf(paper) if form == "pdf" else papers.html(paper).encode("utf-8")


def _uploaded(ask: Ask, name: str, limit: int) -> str:
    """A text that was typed, or the file that was chosen beside it."""
    chosen: Any = ask.query.get("file")
    if isinstance(chosen, bytes) and chosen.strip():
        if len(chosen) > limit:
            raise Skippable("web.field-missing", field="file", reason=f"more than {limit} bytes")
        try:
            return chosen.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Skippable("web.field-missing", field="file", reason="not UTF-8") from error
    return text(ask, name, limit=limit)


def _document(ask: Ask, name: str, limit: int) -> Any:
    try:
        return orjson.loads(_uploaded(ask, name, limit))
    except orjson.JSONDecodeError as error:
        raise Skippable("web.field-missing", field=name, reason="it is not JSON") from error


async def clear_obligations(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Set off obligations, a certificate for each currency: CSV with debtor, creditor, amount, currency."""
    from guantong.settle.accounts import read_obligations

    given = read_obligations(_uploaded(ask, "table", 4_000_000))
    made = [
        await rooms.accounts.net(rooms.participant, obligations, currency)
        for currency, obligations in sorted(given.items())
    ]
    return {"certificates": made, "checked": await _checked(rooms, made)}


async def check_certificates(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Check netting certificates without a solver, and say whether they are on record here."""
    given = _document(ask, "certificate", 4_000_000)
    if isinstance(given, dict) and isinstance(given.get("certificates"), list):
        given = given["certificates"]
    listed = given if isinstance(given, list) else [given]
    if not 0 < len(listed) <= 20 or not all(isinstance(one, dict) for one in listed):
        raise Skippable("web.field-missing", field="certificate", reason="1 to 20 certificates are wanted")
    return {"certificates": [], "checked": await _checked(rooms, listed)}


async def _checked(rooms: Rooms, certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = await recorded(rooms)
    return [await asyncio.to_thread(certificate_of, one, known) for one in certificates]


_HUGE = re.compile(r"[eE][+-]?\d{3,}|\d{60,}")
OWNERS = 200
"""Most owners whose shares a page computes: copies are looked for in every pair."""


def _bounded(value: Any) -> bool:
    """No number whose digits would fill the memory when it is written out."""
    if isinstance(value, dict):
        return all(_bounded(one) for one in value.values())
    if isinstance(value, list):
        return all(_bounded(one) for one in value)
    return not isinstance(value, str) or len(value) > 80 or not _HUGE.search(value)


async def compute_shares(_: Rooms, ask: Ask) -> dict[str, Any]:
    """Share revenue by a rule, or pay out a risk pool: the JSON that ``guantong share`` takes. Nothing is recorded."""
    from guantong.settle.rules import payouts, share_out

    given = _document(ask, "inputs", 4_000_000)
    owners = given.get("owners", []) if isinstance(given, dict) else None
    if not isinstance(owners, list) or len(owners) > OWNERS:
        raise ConfigProblem("settle.share-invalid", reason=f"a JSON object with at most {OWNERS} owners is wanted")
    # record digests may be any text; everything else is a number or a name
    if not _bounded({name: value for name, value in given.items() if name != "holdings"}):
        raise ConfigProblem("settle.share-invalid", reason="a number has too many digits")
    try:
        if "pool" in given:
            made = await asyncio.to_thread(payouts, given["pool"], given["claims"])
            return {"made": made, "rows": []}
        made = await asyncio.to_thread(lambda: share_out(**given))
        return {"made": made, "rows": share_rows(given, made)}
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigProblem("settle.share-invalid", reason=f"{type(error).__name__}: {error}"[:200]) from error
