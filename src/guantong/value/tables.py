"""Record tables of valuation: the cost evidence ledger and, apart from it, the appraisals."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, LargeBinary, String, Text

from guantong.records.tables import INSTANT, table

__all__ = ["APPRAISALS", "COSTS", "METERS", "RATES"]

COSTS = table(
    "value_costs",
    Column("entry_id", String(64), primary_key=True),
    Column("subject", String(255), nullable=False),
    Column("item", String(128), nullable=False),
    Column("quantity", String(64), nullable=False),  # decimal text: amounts are never squeezed through float
    Column("unit", String(64), nullable=False),
    Column("start", INSTANT, nullable=False),
    Column("end", INSTANT, nullable=False),
    Column("source", Text, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("rate", String(64)),
    Column("rate_source", Text, nullable=False),
    Column("amount", String(64)),
    Column("voucher", String(255), nullable=False),
    Column("grade", String(16), nullable=False),
    Column("corrects", String(64), nullable=False),
    Column("recorded_at", INSTANT, nullable=False),
    Index("value_costs_time", "participant", "subject", "end"),
)

METERS = table(
    "value_meters",
    Column("name", String(128), primary_key=True),
    Column("value", String(64), nullable=False),
    Column("unit", String(64), nullable=False),
    Column("cumulative", Boolean, nullable=False),
    Column("at", INSTANT, nullable=False),
)

RATES = table(
    "value_rates",
    Column("meter", String(128), primary_key=True),
    Column("price", String(64), nullable=False),
    Column("per", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("source", Text, nullable=False),
    Column("voucher", String(255), nullable=False),
    Column("grade", String(16), nullable=False),
)

APPRAISALS = table(
    "value_appraisals",
    Column("appraisal_id", String(64), primary_key=True),
    Column("subject", String(255), nullable=False),
    Column("document", LargeBinary, nullable=False),  # canonical JSON
    Column("at", INSTANT, nullable=False),
    Index("value_appraisals_time", "participant", "subject", "at"),
)
