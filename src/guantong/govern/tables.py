"""Record tables of govern: grades, rights statements, quality scores and the access log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, String, Text

from guantong.records.tables import INSTANT, table

__all__ = ["DECISIONS", "GRADES", "QUALITY", "RIGHTS"]

GRADES = table(
    "govern_grades",
    Column("id", String(255), primary_key=True),
    Column("kind", String(16), nullable=False),  # subject, table, fusion
    Column("level", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("enforce", String(16), nullable=False),
    Column("domain", String(64), nullable=False),
    Column("subclass", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),  # canonical JSON of Graded
    Column("graded_at", INSTANT, nullable=False),
)

RIGHTS = table(
    "govern_rights",
    Column("dataset_id", String(255), primary_key=True),
    Column("stated_at", INSTANT, primary_key=True),  # every statement is kept; the newest one in force counts
    Column("body", LargeBinary, nullable=False),
)

QUALITY = table(
    "govern_quality",
    Column("dataset_id", String(255), primary_key=True),
    Column("scored_at", INSTANT, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

DECISIONS = table(
    "govern_decisions",
    Column("number", BigInteger, primary_key=True),
    Column("subject", String(255), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(512), nullable=False),
    Column("allowed", Boolean, nullable=False),
    Column("policies", Text, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("context", String(80), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", INSTANT, nullable=False),
    Column("last_at", INSTANT, nullable=False),
    Index("govern_decisions_at", "participant", "first_at"),
)
