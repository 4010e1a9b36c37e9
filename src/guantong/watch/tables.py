"""Record tables of the watch: warnings, the supply table, scalars traded with partners."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, String

from guantong.records.tables import INSTANT, table

__all__ = ["SCALARS", "SUPPLIES", "WARNINGS"]

WARNINGS = table(
    "watch_warnings",
    Column("id", String(64), primary_key=True),
    Column("source", String(255), nullable=False),
    Column("signal", String(255), nullable=False),
    Column("start", INSTANT, nullable=False),
    Column("end", INSTANT, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # canonical JSON
    Column("found_at", INSTANT, nullable=False),
    Index("watch_warnings_time", "participant", "start"),
)

SUPPLIES = table(
    "watch_supplies",
    Column("component", String(200), primary_key=True),
    Column("document", LargeBinary, nullable=False),  # canonical JSON
)

SCALARS = table(
    "watch_scalars",
    Column("id", String(64), primary_key=True),
    Column("direction", String(8), nullable=False),  # told, heard
    Column("partner", String(255), nullable=False),
    Column("agreement_id", String(255), nullable=False),
    Column("component", String(200), nullable=False),
    Column("disrupted", String(200), nullable=False),
    Column("days", String(64), nullable=False),  # decimal text, empty: not affected
    Column("at", INSTANT, nullable=False),
    Index("watch_scalars_time", "participant", "at"),
)
