"""Settlement's shell: derives invoices from the participant's own receipts, signs them, trades them with the partner and compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guantong.base.clock import Clock
from guantong.records import Records
from guantong.settle.model import Invoice, SettleSettings
from guantong.settle.ports import Partners, Receipts

__all__ = ["OUTBOX_KIND", "PATH", "Settle"]

OUTBOX_KIND = "settle.invoice"
"""Kind of the outbox message that carries an invoice to the consumer."""

PATH = "/guantong/invoices"
"""Partner extension endpoint; plain Dataspace Protocol peers ignore it."""


class Settle:
    """Invoices of the participants of this node."""

    def __init__(
        self,
        records: Records,
        receipts: Receipts,
        partners: Partners,
        clock: Clock,
        settings: SettleSettings | None = None,
    ) -> None: ...

    async def invoice(self, participant: str, agreement_id: str) -> Invoice:
        """Derive the invoice from this side's receipts, sign it and, as the provider, send it."""
        raise NotImplementedError

    async def preview(self, participant: str, agreement_id: str) -> dict[str, Any]:
        """The invoice as it would be now; nothing is recorded."""
        raise NotImplementedError

    async def invoices(self, participant: str, agreement_id: str | None = None) -> list[Invoice]:
        """Invoices, newest first."""
        raise NotImplementedError

    async def receive(self, participant: str, partner: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take the provider's signed invoice, derive our own, and answer agreed with our signature or disputed with the differences."""
        raise NotImplementedError

    async def deliver(self, participant: str, payload: Mapping[str, Any]) -> None:
        """Send one queued invoice; the outbox calls it."""
        raise NotImplementedError

    async def totals(self, participant: str) -> dict[str, dict[str, str]]:
        """Agreed and open sums by role, one sum a currency."""
        raise NotImplementedError
