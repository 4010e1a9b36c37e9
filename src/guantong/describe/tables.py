"""Record tables of describe: datasets, facts stated about assets, documents (canonical JSON) and the flat index of their elements."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, String, Text

from guantong.records.tables import INSTANT, table

__all__ = ["ASSETS", "DATASETS", "DOCUMENTS", "ELEMENTS"]

DATASETS = table(
    "describe_datasets",
    Column("id", String(100), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # canonical JSON of Dataset
    Column("changed_at", INSTANT, nullable=False),
)

ASSETS = table(
    "describe_assets",
    Column("asset", String(255), primary_key=True),  # machine:<source> or part:<id>
    Column("body", LargeBinary, nullable=False),  # canonical JSON: nameplate facts as stated
    Column("changed_at", INSTANT, nullable=False),
)

DOCUMENTS = table(
    "describe_documents",
    Column("id", String(512), primary_key=True),
    Column("kind", String(16), nullable=False),  # shell, submodel
    Column("number", BigInteger, nullable=False),  # order of first writing: pages stay stable under updates
    Column("id_short", String(128), nullable=False),
    Column("asset", String(255), nullable=False),
    Column("semantic_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # canonical JSON, fully verified
    Column("live", LargeBinary, nullable=False),  # canonical JSON: which elements get which figure of keep at read
    Column("changed_at", INSTANT, nullable=False),
    Index("describe_documents_order", "participant", "kind", "number"),
)

ELEMENTS = table(
    "describe_elements",
    Column("submodel", String(512), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("model_type", String(40), nullable=False),
    Column("semantic_ids", Text, nullable=False),  # main and supplemental, a blank between
    Column("value_type", String(32), nullable=False),
    Column("value_text", Text),  # lexical form, as in the document
    Column("value_number", Float),  # for comparisons only; the lexical form is the truth
    Index("describe_elements_semantic", "participant", "path"),
)
