"""What a person does with accounts: disputes, credit notes, papers, netting. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.clock import iso
from guantong.base.errors import Skippable
from guantong.web.ask import Ask
from guantong.web.rooms import Rooms

__all__ = [
    "accept_resolution",
    "clear_obligations",
    "credit_note",
    "list_disputes",
    "narrow_dispute",
    "print_contract",
    "print_invoice",
    "propose_resolution",
]


def _text(ask: Ask, name: str, *, required: bool = True, limit: int = 200) -> str:
    from guantong.web.actions import text

    return text(ask, name, required=required, limit=limit)


def _whole(ask: Ask, name: str) -> int:
    try:
        return int(_text(ask, name, limit=20))
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
    return _dispute(await rooms.disputes.narrow(rooms.participant, _text(ask, "agreement"), _text(ask, "receipt")))


async def propose_resolution(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Propose what is owed for a disputed delivery."""
    made = await rooms.disputes.propose(
        rooms.participant,
        _text(ask, "agreement"),
        _text(ask, "receipt"),
        rows=_whole(ask, "rows"),
        size=_whole(ask, "bytes"),
        reason=_text(ask, "reason", limit=500),
    )
    return _dispute(made)


async def accept_resolution(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Sign what the other side proposed."""
    return _dispute(await rooms.disputes.accept(rooms.participant, _text(ask, "agreement"), _text(ask, "receipt")))


async def credit_note(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Derive the credit note of an agreement and have the consumer sign it."""
    reason = _text(ask, "reason")
    if reason not in ("dispute", "service-level"):
        raise Skippable("web.field-missing", field="reason", reason="dispute or service-level is wanted")
    return _note(await rooms.disputes.notes.issue(rooms.participant, _text(ask, "agreement"), reason))


def _partner(ask: Ask) -> Any:
    from guantong.settle.ubl import Party

    return Party(
        _text(ask, "partner_name"),
        _text(ask, "partner_country", required=False) or "CN",
        _text(ask, "partner_registration", required=False),
        _text(ask, "partner_tax_number", required=False),
        _text(ask, "partner_address", required=False),
    )


def _form(ask: Ask, forms: tuple[str, ...]) -> str:
    form = _text(ask, "form")
    if form not in forms:
        raise Skippable("web.field-missing", field="form", reason=f"{', '.join(forms)} are possible")
    return form


async def print_invoice(rooms: Rooms, ask: Ask) -> bytes:
    """An invoice or credit note on paper: HTML, PDF or UBL."""
    return await rooms.accounts.paper(
        rooms.participant,
        _text(ask, "number"),
        _form(ask, ("html", "pdf", "ubl")),
        _partner(ask),
        language=_text(ask, "language", required=False) or "zh",
        fapiao=_text(ask, "fapiao", required=False),
    )


async def print_contract(rooms: Rooms, ask: Ask) -> bytes:
    """A contract on paper: HTML or PDF."""
    from guantong.settle import papers

    language = _text(ask, "language", required=False) or "zh"
    form = _form(ask, ("html", "pdf"))
    agreement = await rooms.exchange.agreement(rooms.participant, _text(ask, "agreement"))
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


async def clear_obligations(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Set off obligations, a certificate for each currency: CSV with debtor, creditor, amount, currency."""
    from guantong.settle.accounts import read_obligations

    given = read_obligations(_text(ask, "table", limit=4_000_000))
    return {
        "certificates": [
            await rooms.accounts.net(rooms.participant, obligations, currency)
            for currency, obligations in sorted(given.items())
        ]
    }
