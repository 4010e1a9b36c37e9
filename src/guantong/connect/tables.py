"""Record tables of connect: the sources, how far each was read, and the files already taken."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Text

from guantong.records import table
from guantong.records.tables import INSTANT

__all__ = ["EDGES", "FILES", "INVITES", "POSITIONS", "SOURCES"]

SOURCES = table(
    "connect_sources",
    Column("name", String(128), primary_key=True),
    Column("interface", LargeBinary, nullable=False),  # canonical JSON of Interface.to_json()
    Column("running", Boolean, nullable=False),
    Column("added_at", INSTANT, nullable=False),
)

POSITIONS = table(
    "connect_positions",
    Column("source", String(128), primary_key=True),
    Column("position", LargeBinary, nullable=False),  # canonical JSON, the reader's own
    Column("changed_at", INSTANT, nullable=False),
)

FILES = table(
    "connect_files",
    Column("source", String(128), primary_key=True),
    Column("digest", String(80), primary_key=True),  # of the bytes: the same file under another name is not taken twice
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("taken_at", INSTANT, nullable=False),
)

EDGES = table(
    "connect_edges",
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("token", String(64), nullable=False),  # SHA-256 of the token
    Column("enrolled_at", INSTANT, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
    Column("position", BigInteger, nullable=False),  # last entry of the gateway's log that was taken, whole or in part
    Column("part", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("log_position", BigInteger, nullable=False),  # where it stands in our own log
    Column("frames", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("sources", LargeBinary, nullable=False),  # scorecards, JSON as the gateway told them
)

INVITES = table(
    "connect_invites",
    Column("code", String(64), primary_key=True),  # SHA-256 of the one-time code
    Column("until", INSTANT, nullable=False),
)
