"""Tables of the evidence room: the tree's edge, checkpoints, cosignatures, partners, and what this node has witnessed of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, String

from guantong.records.tables import INSTANT, table

__all__ = ["CHECKPOINTS", "COSIGNATURES", "PEERS", "SUBJECTS", "TREES", "WITNESSED"]

TREES = table(
    "prove_trees",
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),  # base/merkle.py Frontier.to_bytes
    Column("root", LargeBinary, nullable=False),
)

CHECKPOINTS = table(
    "prove_checkpoints",
    Column("size", BigInteger, primary_key=True),  # one checkpoint a size: no second view of it can be signed
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),  # signed by the log, without cosignatures
    Column("signed_at", INSTANT, nullable=False),
)

COSIGNATURES = table(
    "prove_cosignatures",
    Column("size", BigInteger, primary_key=True),
    Column("witness", String(255), primary_key=True),  # DID of the cosigner
    Column("line", LargeBinary, nullable=False),  # signature line
    Column("cosigned_at", INSTANT, nullable=False),  # as the cosignature states
)

SUBJECTS = table(
    "prove_subjects",
    Column("subject", String(255), primary_key=True),  # agreement id
    Column("number", BigInteger, primary_key=True),
)

PEERS = table(
    "prove_peers",
    Column("did", String(255), primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("evidence_key", LargeBinary, nullable=False),
    Column("witness_key", LargeBinary),
)

WITNESSED = table(
    "prove_witnessed",
    Column("origin", String(512), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),  # with the log's signatures and our cosignature
    Column("cosigned_at", INSTANT, nullable=False),
)
