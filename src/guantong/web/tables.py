"""Tables of sign-in: one-time links and sessions, both by the SHA-256 of their secret, never the secret itself."""

from __future__ import annotations

from sqlalchemy import Column, Index, String

from guantong.records.tables import INSTANT, table

__all__ = ["LINKS", "SESSIONS"]

LINKS = table(
    "web_links",
    Column("token_hash", String(64), primary_key=True),  # SHA-256, hex
    Column("created_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("used_at", INSTANT),  # null until it is used; a link works once
    Column("role", String(16)),  # null: the owner; auditor: may only read
)

SESSIONS = table(
    "web_sessions",
    Column("session_hash", String(64), primary_key=True),  # SHA-256, hex
    Column("csrf", String(64), nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("role", String(16)),  # as of its link
    Index("web_sessions_expiry", "expires_at"),
)
