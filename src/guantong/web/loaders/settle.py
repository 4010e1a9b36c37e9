"""What the page of settle shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.web.ask import Ask, cut, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.settle.model import Invoice

__all__ = ["invoice_of", "invoices"]


def invoice_of(one: Invoice) -> dict[str, Any]:
    """An invoice as plain JSON."""
    return {
        "number": one.number,
        "agreement": one.agreement_id,
        "role": one.role,
        "state": one.state,
        "currency": one.currency,
        "total": one.total,
        "basis": one.basis,
        "lines": list(one.document.get("lines") or []),
        "receipts": len(one.document.get("receipts") or []),
        "partner": one.document.get("consumer") if one.role == "provider" else one.document.get("provider"),
        "signatures": [signature.get("by", "") for signature in one.signatures],
        "differences": [dict(item) for item in one.differences][:50],
        "partner_total": None if one.partner_document is None else one.partner_document.get("total"),
        "left_out": [{"receipt": receipt, "reason": reason} for receipt, reason in one.left_out],
        "changed_at": time_of(one.changed_at),
    }


async def invoices(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every invoice, both roles, with totals by currency."""
    me = rooms.participant
    found = [invoice_of(one) for one in await rooms.settle.invoices(me)]
    agreements = [one for one in await rooms.exchange.agreements(me) if one.role == "provider" and one.price]
    return {
        "dispute_list": [
            {
                "record": one.record_id,
                "agreement": one.agreement_id,
                "role": one.role,
                "state": one.state.lower(),
                "block": one.block,
                "blocks": one.statement.get("blocks"),
                "messages": one.statement.get("messages"),
                "provider_hash": one.statement.get("providerHash"),
                "consumer_hash": one.statement.get("consumerHash"),
                "counted": dict(one.statement.get("counted") or {}),
                "agreed": dict((one.resolution or {}).get("agreed") or {}),
                "reason": (one.resolution or {}).get("reason", ""),
                "changed_at": time_of(one.changed_at),
            }
            for one in await rooms.disputes.disputes(me)
        ],
        "notes": [
            {
                "number": one.number,
                "agreement": one.agreement_id,
                "invoice": one.invoice,
                "role": one.role,
                "state": one.state,
                "currency": one.currency,
                "total": one.total,
                "changed_at": time_of(one.changed_at),
            }
            for one in await rooms.disputes.notes.notes(me)
        ],
        "invoices": cut(found, ask),
        "totals": await rooms.settle.totals(me),
        "disputes": sum(one["state"] == "disputed" for one in found),
        "agreements": [{"id": one.id, "dataset": one.dataset_id, "partner": one.partner} for one in agreements],
    }
