"""Tables of the evidence room: the tree's edge, checkpoints, cosignatures, partners, and what this node has witnessed of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, String

from guantong.records.tables import INSTANT, table

__all__ = [
    "CHECKPOINTS",
    "CHUNKS",
    "COSIGNATURES",
    "DEFINITIONS",
    "FIGURES",
    "PEERS",
    "STRETCHES",
    "SUBJECTS",
    "TREES",
    "WITNESSED",
]

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

CHUNKS = table(
    "prove_chunks",
    Column("entry", BigInteger, primary_key=True),  # number of the leaf that commits to them
    Column("source_table", String(255), nullable=False),
    Column("first", BigInteger, nullable=False),  # log positions of the rows, both included: what cuts the chunks again
    Column("last", BigInteger, nullable=False),
    Column("secret", LargeBinary, nullable=False),  # the salts come from it
    Column("root", LargeBinary, nullable=False),
    Column("leaves", LargeBinary, nullable=False),  # leaf hashes, 32 bytes each: paths need all, rows only those opened
    Column("committed_at", INSTANT, nullable=False),
)

STRETCHES = table(
    "prove_stretches",
    Column("stream", String(512), primary_key=True),
    Column("entry", BigInteger, primary_key=True),
    Column("source_table", String(255), nullable=False),
    Column("start", BigInteger, nullable=False),  # index of the stream's first chunk under the root
    Column("count", BigInteger, nullable=False),
    Column("first_time", INSTANT, nullable=False),
    Column("last_time", INSTANT, nullable=False),
)

DEFINITIONS = table(
    "prove_definitions",
    Column("id", String(200), primary_key=True),
    Column("definition", LargeBinary, nullable=False),  # canonical JSON
    Column("agreements", LargeBinary, nullable=False),  # JSON list of agreement ids
    Column("changed_at", INSTANT, nullable=False),
)

FIGURES = table(
    "prove_figures",
    Column("digest", String(71), primary_key=True),
    Column("role", String(16), nullable=False),  # seller or buyer
    Column("definition_id", String(200), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("agreement_id", String(255), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("secret", LargeBinary, nullable=False),  # the trace's salts (seller), the nonce (buyer)
    Column("proof", LargeBinary, nullable=False),  # the bundle, JSON
    Column("made_at", INSTANT, nullable=False),
    Index("prove_figures_by_time", "participant", "made_at"),
)

ANCHORS = table(
    "prove_anchors",
    Column("kind", String(32), primary_key=True),  # rfc3161, evm
    Column("size", BigInteger, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("anchored_at", INSTANT, nullable=False),  # as the anchor states
    Column("ref", LargeBinary, nullable=False),  # canonical JSON of the reference
)

ALARMS = table(
    "prove_alarms",
    Column("did", String(255), primary_key=True),  # whose log
    Column("kind", String(32), primary_key=True),  # forked, rolled-back, stale
    Column("subject", String(64), primary_key=True),  # digest of what was found, so that it is told once
    Column("found_at", INSTANT, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # canonical JSON
    Column("proof", LargeBinary),  # base/fork.py, where there is one
    Column("over", Boolean, nullable=False, default=False),  # a stale log that answers again
)
