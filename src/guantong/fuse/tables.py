"""Fusion's tables of record: catalogue, tallies by log position, findings, corrections, gaps, mappings, parts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Text

from guantong.records.tables import INSTANT, table

__all__ = ["CORRECTIONS", "FINDINGS", "GAPS", "LIMITS", "MAPPINGS", "PARTS", "SIGNALS", "SUGGESTIONS", "TALLIES"]

SIGNALS = table(
    "fuse_signals",
    Column("id", Integer, primary_key=True),
    Column("source", String(255), nullable=False),
    Column("native_id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", String(64), nullable=False),
    Column("declared_unit", String(255), nullable=False),
    Column("type", String(8), nullable=False),
    Column("category", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("newest", INSTANT, nullable=False),  # no source time handed to keep is later
    Index("fuse_signals_source", "participant", "source"),
)

TALLIES = table(
    "fuse_tallies",
    Column("position", BigInteger, primary_key=True),  # the last log position the figures include
    Column("source", String(255), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("corrected", BigInteger, nullable=False),
)

FINDINGS = table(
    "fuse_findings",
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("source", String(255), nullable=False),
    Column("signal", Text, nullable=False),
    Column("start", INSTANT, nullable=False),
    Column("end", INSTANT, nullable=False),
    Column("facts", LargeBinary, nullable=False),
)

CORRECTIONS = table(
    "fuse_corrections",
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("source", String(255), nullable=False),
    Column("signal", Text, nullable=False),
    Column("start", INSTANT, nullable=False),
    Column("end", INSTANT, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("rule_version", Integer, nullable=False),
)

GAPS = table(
    "fuse_gaps",
    Column("position", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("source", String(255), nullable=False),
    Column("signal", Text, nullable=False),
    Column("start", INSTANT, nullable=False),
    Column("end", INSTANT, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("unit", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)

LIMITS = table(
    "fuse_limits",
    Column("signal", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),  # canonical JSON of the limits that are stated
    Column("set_at", INSTANT, nullable=False),
)

MAPPINGS = table(
    "fuse_mappings",
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),  # the AIMC 2.0 submodel element, canonical JSON
    Column("set_at", INSTANT, nullable=False),
)

PARTS = table(
    "fuse_parts",
    Column("id", String(255), primary_key=True),
    Column("design", String(255), nullable=False),
    Column("serial", String(255), nullable=False),
    Column("document", LargeBinary, nullable=False),
)

SUGGESTIONS = table(
    "fuse_suggestions",
    Column("id", String(64), primary_key=True),
    Column("state", String(16), nullable=False),  # confirmed or rejected; what is open is worked out afresh
    Column("document", LargeBinary, nullable=False),
    Column("decided_at", INSTANT, nullable=False),
)
