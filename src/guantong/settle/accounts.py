"""What a person does with accounts beside invoicing: papers of the own documents, and netting of obligations, put on record."""

from __future__ import annotations

import csv
import io
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from guantong.base.canonical import digest
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Skippable
from guantong.settle import papers
from guantong.settle.model import NETTED, REPLACED, CreditNote, Invoice
from guantong.settle.netting import Obligation
from guantong.settle.ubl import Party, ubl

if TYPE_CHECKING:
    from guantong.settle.disputes import Disputes
    from guantong.settle.service import Settle

__all__ = ["Accounts", "read_obligations"]

FORMS = ("html", "pdf", "ubl")


class Accounts:
    """Papers and netting of the participants of this node."""

    def __init__(self, settle: Settle, disputes: Disputes, name: str) -> None:
        self.settle = settle
        self.disputes = disputes
        self._name = name

    def own_party(self) -> Party:
        """The own company as papers name it, from the settings."""
        given = self.settle.settings
        return Party(
            self._name, given.country, given.registration, given.tax_number, given.address, given.city, given.zip
        )

    async def paper(
        self, participant: str, number: str, form: str, partner: Party, *, language: str = "zh", fapiao: str = ""
    ) -> bytes:
        """An invoice or credit note by its number, as ``html``, ``pdf`` or ``ubl``. Raises Refused ``settle.invoice-unknown``."""
        found = await self._document(participant, number)
        own = self.own_party()
        provider, consumer = (own, partner) if found.role == "provider" else (partner, own)
        if form == "ubl":
            return ubl(found.document, provider, consumer, fapiao=fapiao)
        made = papers.invoice_paper(
            found.document, found.signatures, provider, consumer, language=language, fapiao=fapiao
        )
        return papers.pdf(made) if form == "pdf" else papers.html(made).encode("utf-8")

    async def _document(self, participant: str, number: str) -> Invoice | CreditNote:
        every: list[Invoice | CreditNote] = [
            *await self.settle.invoices(participant),
            *await self.disputes.notes.notes(participant),
        ]
        found = [one for one in every if one.number == number]
        if not found:
            raise Refused("settle.invoice-unknown", agreement=number[:64])
        return min(found, key=lambda one: one.state == REPLACED)

    async def net(self, participant: str, obligations: list[Obligation], currency: str) -> dict[str, Any]:
        """Set off obligations of one currency, and record both roots. Returns the certificate."""
        import asyncio

        from guantong.settle.clearing import clear

        made = await asyncio.to_thread(clear, obligations, currency=currency)
        async with self.settle.records.step(participant) as step:
            step.record(
                Entry(
                    NETTED,
                    {
                        "currency": currency,
                        "obligations": len(made["obligations"]),
                        "gross": made["gross"],
                        "cancelled": made["cancelled"],
                        "inputRoot": made["inputRoot"],
                        "outputRoot": made["outputRoot"],
                        "certificate": digest(made),
                        "solver": made["solver"]["name"],
                        "version": made["solver"]["version"],
                    },
                )
            )
        return made


def read_obligations(text: str, *, decimals: int = 2) -> dict[str, list[Obligation]]:
    """Obligations by currency from CSV with the columns debtor, creditor, amount, currency. Amounts are decimal text.

    Raises Skippable ``settle.obligation-unusable``.
    """
    found: dict[str, list[Obligation]] = {}
    rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    if not {"debtor", "creditor", "amount", "currency"} <= set(rows.fieldnames or ()):
        raise Skippable(
            "settle.obligation-unusable",
            debtor="–",
            creditor="–",
            reason="columns are debtor, creditor, amount, currency",
        )
    for row in rows:
        debtor, creditor = str(row["debtor"]).strip(), str(row["creditor"]).strip()
        try:
            amount = Decimal(str(row["amount"]).strip()).scaleb(decimals)
            whole = int(amount)
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise Skippable(
                "settle.obligation-unusable", debtor=debtor, creditor=creditor, reason="its amount is no number"
            ) from error
        if whole != amount:
            raise Skippable(
                "settle.obligation-unusable", debtor=debtor, creditor=creditor, reason=f"more than {decimals} decimals"
            )
        found.setdefault(str(row["currency"]).strip().upper(), []).append(Obligation(debtor, creditor, whole))
    return found
