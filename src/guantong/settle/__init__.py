"""Turns receipts into invoices that both sides derive for themselves; a difference is a dispute that names the receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.settle.model import ENTRY_KINDS, STATES, Invoice, SettleSettings, Terms
from guantong.settle.rules import Charge, PricePlan, Tax, check_plan, countable, differences, invoice

if TYPE_CHECKING:
    from guantong.settle.service import Settle

__all__ = [
    "ENTRY_KINDS",
    "STATES",
    "Charge",
    "Invoice",
    "PricePlan",
    "Settle",
    "SettleSettings",
    "Tax",
    "Terms",
    "check_plan",
    "countable",
    "differences",
    "invoice",
]


def __getattr__(name: str) -> Any:
    if name == "Settle":
        from guantong.settle.service import Settle

        return Settle
    raise AttributeError(name)
