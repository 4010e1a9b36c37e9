"""Record tables of settlement."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, String

from guantong.records.tables import INSTANT, table

__all__ = ["INVOICES"]

INVOICES = table(
    "settle_invoices",
    Column("agreement_id", String(255), primary_key=True),
    Column("basis", String(71), primary_key=True),  # digest of the debt: the same receipts make the same invoice
    Column("role", String(16), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("number", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total", String(64), nullable=False),
    Column("document", LargeBinary, nullable=False),  # canonical JSON
    Column("signatures", LargeBinary, nullable=False),  # canonical JSON
    Column("differences", LargeBinary, nullable=False),  # canonical JSON
    Column("partner_document", LargeBinary),  # canonical JSON: what the other side derived, in a dispute
    Column("left_out", LargeBinary, nullable=False),  # canonical JSON
    Column("created_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("settle_invoices_state", "participant", "state"),
)
