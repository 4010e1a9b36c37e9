"""Credit notes as pure functions: what a resolved dispute or a missed service level gives back. Both sides derive the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, localcontext
from typing import Any

from guantong.base.canonical import digest
from guantong.base.clock import iso
from guantong.base.errors import Refused
from guantong.settle.dispute import counted
from guantong.settle.plan import ROUNDINGS, PricePlan, plain
from guantong.settle.rules import invoice, money

__all__ = ["for_disputes", "for_service", "service_level"]

_EXACT = Context(prec=60)


def for_disputes(
    plan: PricePlan,
    records: Sequence[Mapping[str, Any]],
    resolutions: Sequence[Mapping[str, Any]],
    *,
    number: str,
    issued_at: int,
    invoice_number: str,
    parties: Mapping[str, str],
) -> dict[str, Any]:
    """What is given back so that the invoice and this note come to what was agreed on.

    records: those that the invoice counts · resolutions: signed by both sides, at most one a record · parties: agreementId, provider,
    consumer. Raises Refused ``settle.nothing-to-credit``.
    """
    agreed = {str(one["recordId"]): one for one in resolutions}
    corrected = [
        counted(record, agreed[str(record["recordId"])]["agreed"]) if str(record["recordId"]) in agreed else record
        for record in records
    ]
    envelope: dict[str, Any] = {
        "number": "",
        "issued_at": issued_at,
        "agreement_id": parties["agreementId"],
        "provider": parties["provider"],
        "consumer": parties["consumer"],
    }
    before, after = invoice(plan, records, **envelope), invoice(plan, corrected, **envelope)
    with localcontext(_EXACT):
        subtotal = Decimal(before["subtotal"]) - Decimal(after["subtotal"])
        taxes = [
            {
                "name": was["name"],
                "rate": was["rate"],
                "amount": money(Decimal(was["amount"]) - Decimal(now["amount"]), plan.decimals),
            }
            for was, now in zip(before["taxes"], after["taxes"], strict=True)
        ]
        total = Decimal(before["total"]) - Decimal(after["total"])
        if total <= 0:
            raise Refused("settle.nothing-to-credit", agreement=parties["agreementId"])
        lines = [
            {
                "per": was["per"],
                "quantity": plain(Decimal(was["billable"]) - Decimal(now["billable"])),
                "amount": money(Decimal(was["amount"]) - Decimal(now["amount"]), plan.decimals),
            }
            for was, now in zip(before["lines"], after["lines"], strict=True)
            if was["amount"] != now["amount"]
        ]
        return _note(
            plan, number, issued_at, invoice_number, parties, "dispute", lines, subtotal, taxes, total,
            {"resolutions": [{"recordId": name, "hash": digest(dict(one))} for name, one in sorted(agreed.items())]},
        )  # fmt: skip


def service_level(records: Sequence[Mapping[str, Any]]) -> Decimal:
    """Share of deliveries that were complete, 0 to 1; 1 where there was none."""
    if not records:
        return Decimal(1)
    return _EXACT.divide(Decimal(sum(bool(record.get("complete", True)) for record in records)), Decimal(len(records)))


def for_service(
    plan: PricePlan,
    records: Sequence[Mapping[str, Any]],
    *,
    number: str,
    issued_at: int,
    invoice_number: str,
    parties: Mapping[str, str],
) -> dict[str, Any]:
    """What a missed service level gives back: the share of the subtotal that the plan states, with its taxes.

    Raises Refused ``settle.nothing-to-credit`` where the plan names no level or it was kept.
    """
    level = service_level(records)
    if plan.service is None or level >= Decimal(plan.service["complete"]):
        raise Refused("settle.nothing-to-credit", agreement=parties["agreementId"])
    owed = invoice(
        plan,
        records,
        number="",
        issued_at=issued_at,
        agreement_id=parties["agreementId"],
        provider=parties["provider"],
        consumer=parties["consumer"],
    )
    unit, rounding = Decimal(1).scaleb(-plan.decimals), ROUNDINGS[plan.rounding]
    with localcontext(_EXACT):
        subtotal = (Decimal(owed["subtotal"]) * Decimal(plan.service["credit"])).quantize(unit, rounding)
        taxes = [
            {
                "name": tax.name,
                "rate": plain(tax.rate),
                "amount": money((subtotal * tax.rate).quantize(unit, rounding), plan.decimals),
            }
            for tax in plan.taxes
        ]
        total = subtotal + sum((Decimal(str(tax["amount"])) for tax in taxes), Decimal(0))
        if total <= 0:
            raise Refused("settle.nothing-to-credit", agreement=parties["agreementId"])
        level_text = plain(level.quantize(Decimal("0.000001"), "ROUND_DOWN"))
        return _note(
            plan, number, issued_at, invoice_number, parties, "service-level", [], subtotal, taxes, total,
            {"service": {**dict(plan.service), "reached": level_text, "deliveries": len(records)}},
        )  # fmt: skip


def _note(
    plan: PricePlan,
    number: str,
    issued_at: int,
    invoice_number: str,
    parties: Mapping[str, str],
    reason: str,
    lines: list[dict[str, Any]],
    subtotal: Decimal,
    taxes: list[dict[str, Any]],
    total: Decimal,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "v": 1,
        "type": "credit-note",
        "number": number,
        "issuedAt": iso(issued_at),
        "invoice": invoice_number,
        **parties,
        "currency": plan.currency,
        "planHash": digest(plan.document()),
        "reason": reason,
        "lines": lines,
        "subtotal": money(subtotal, plan.decimals),
        "taxes": taxes,
        "total": money(total, plan.decimals),
        **extra,
    }
