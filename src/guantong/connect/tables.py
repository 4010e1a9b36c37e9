"""Record tables of connect: the sources, how far each was read, and the files already taken."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, String, Text

from guantong.records import table
from guantong.records.tables import INSTANT

__all__ = ["FILES", "POSITIONS", "SOURCES"]

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
