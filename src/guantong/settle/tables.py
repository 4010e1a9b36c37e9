"""Record tables of settlement."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String

from guantong.records.tables import INSTANT, table

__all__ = ["DISPUTES", "INVOICES", "NOTES"]

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

DISPUTES = table(
    "settle_disputes",
    Column("record_id", String(128), primary_key=True),
    Column("agreement_id", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("state", String(16), nullable=False),  # located, proposed, resolved
    Column("block", BigInteger, nullable=False),  # the first that differs
    Column("statement", LargeBinary, nullable=False),  # canonical JSON: the consumer's, which names the block
    Column("resolution", LargeBinary),  # canonical JSON
    Column("signatures", LargeBinary, nullable=False),  # canonical JSON: of statement and resolution
    Column("changed_at", INSTANT, nullable=False),
    Index("settle_disputes_agreement", "participant", "agreement_id"),
)

NOTES = table(
    "settle_credit_notes",
    Column("agreement_id", String(255), primary_key=True),
    Column(
        "basis", String(71), primary_key=True
    ),  # digest without number and time: the same reason makes the same note
    Column("role", String(16), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("state", String(16), nullable=False),  # issued, agreed
    Column("number", String(64), nullable=False),
    Column("invoice", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total", String(64), nullable=False),
    Column("document", LargeBinary, nullable=False),  # canonical JSON
    Column("signatures", LargeBinary, nullable=False),  # canonical JSON
    Column("changed_at", INSTANT, nullable=False),
)
