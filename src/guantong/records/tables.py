"""The floor's own tables, and the one way a stage declares a table: with ``participant`` in its primary key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

__all__ = ["COUNTERS", "EDGES", "INSTANT", "LEAVES", "METADATA", "OUTBOX", "table"]

METADATA = MetaData()
"""All tables of all stages; the migrations are compared with it."""

INSTANT = BigInteger
"""Nanoseconds since the epoch, UTC."""


def table(name: str, *columns: Column | Index) -> Table:
    """A table whose first primary-key column is the participant (its DID). Mark the rest of the key with ``primary_key=True``."""
    return Table(name, METADATA, Column("participant", String(255), primary_key=True), *columns)


OUTBOX = table(
    "outbox",
    Column("kind", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("lane", String(255), nullable=False),
    Column("number", BigInteger, nullable=False),  # order within the node; assigned by the writer
    Column("payload", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),  # queued, sent, gave-up
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", INSTANT, nullable=False),
    Column("error", Text),
    Column("created_at", INSTANT, nullable=False),
    Index("outbox_queue", "state", "lane", "number"),
)

LEAVES = table(
    "leaves",
    Column("number", BigInteger, primary_key=True),  # zero-based, without holes, per participant: the index in the tree
    Column("kind", String(64), nullable=False),
    Column("leaf", LargeBinary, nullable=False),  # canonical JSON, base/entry.py
    Column("recorded_at", INSTANT, nullable=False),
    Index("leaves_kind", "participant", "kind"),
)

COUNTERS = table(
    "counters",
    Column("name", String(255), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

EDGES = table(
    "edges",
    Column("source", String(255), primary_key=True),
    Column("target", String(255), primary_key=True),
    Column("relation", String(32), primary_key=True),
    Column("recorded_at", INSTANT, nullable=False),
    Index("edges_back", "participant", "target"),
)
