"""Tables of guests: who they are, every statement they signed, what they share, what they were asked for, and who moved in here."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Text

from guantong.records.tables import INSTANT, table

__all__ = ["GUESTS", "GUEST_MOVES", "GUEST_REQUESTS", "GUEST_SHARES", "GUEST_STATEMENTS", "GUEST_TERMS"]

GUESTS = table(
    "exchange_guests",
    Column("did", String(128), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("number", Integer, nullable=False),
    Column("head", String(80), nullable=False),
    Column("moved_to", String(255), nullable=False),
    Column("evidence", String(64), nullable=False),
    Column("joined_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

GUEST_STATEMENTS = table(
    "exchange_guest_statements",
    Column("guest", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf", BigInteger, nullable=False),  # its place in our evidence log
    Column("stated_at", INSTANT, nullable=False),
    Index("exchange_guest_statements_digest", "participant", "digest", unique=True),
)

GUEST_SHARES = table(
    "exchange_guest_shares",
    Column("id", String(80), primary_key=True),
    Column("guest", String(128), nullable=False),
    Column("source", String(64), nullable=False),
    Column("file", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(80), nullable=False),
    Column("root", String(80), nullable=False),
    Column("form", String(32), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("state", String(16), nullable=False),  # shared, revoked
    Column("shared_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("uses", BigInteger, nullable=False),
    Column("used_at", INSTANT, nullable=False),
    Index("exchange_guest_shares_guest", "participant", "guest"),
)

GUEST_REQUESTS = table(
    "exchange_guest_requests",
    Column("id", String(80), primary_key=True),
    Column("guest", String(128), nullable=False),
    Column("share", String(80), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("state", String(16), nullable=False),  # asked, approved, declined
    Column("asked_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("exchange_guest_requests_guest", "participant", "guest"),
)

GUEST_TERMS = table(
    "exchange_guest_terms",
    Column("id", String(16), primary_key=True),  # current
    Column("purpose", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

GUEST_MOVES = table(
    "exchange_guest_moves",
    Column("guest", String(128), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("address", String(1024), nullable=False),
    Column("papers", LargeBinary, nullable=False),  # the file as it came: the guest's key in it stays encrypted
    Column("envelope", LargeBinary, nullable=False),
    Column("statements", Integer, nullable=False),
    Column("told", Boolean, nullable=False),
    Column("moved_at", INSTANT, nullable=False),
)
