"""All tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the schema one step on."""
    op.create_table(
        "connect_files",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "source", "digest"),
    )
    op.create_table(
        "connect_positions",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("position", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "source"),
    )
    op.create_table(
        "connect_sources",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("interface", sa.LargeBinary(), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "name"),
    )
    op.create_table(
        "counters",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "name"),
    )
    op.create_table(
        "describe_assets",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("asset", sa.String(length=255), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "asset"),
    )
    op.create_table(
        "describe_datasets",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "describe_documents",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("id_short", sa.String(length=128), nullable=False),
        sa.Column("asset", sa.String(length=255), nullable=False),
        sa.Column("semantic_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("live", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("describe_documents", schema=None) as batch_op:
        batch_op.create_index("describe_documents_order", ["participant", "kind", "number"], unique=False)

    op.create_table(
        "describe_elements",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("submodel", sa.String(length=512), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("model_type", sa.String(length=40), nullable=False),
        sa.Column("semantic_ids", sa.Text(), nullable=False),
        sa.Column("value_type", sa.String(length=32), nullable=False),
        sa.Column("value_text", sa.Text(), nullable=True),
        sa.Column("value_number", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("participant", "submodel", "path"),
    )
    with op.batch_alter_table("describe_elements", schema=None) as batch_op:
        batch_op.create_index("describe_elements_semantic", ["participant", "path"], unique=False)

    op.create_table(
        "edges",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("relation", sa.String(length=32), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "source", "target", "relation"),
    )
    with op.batch_alter_table("edges", schema=None) as batch_op:
        batch_op.create_index("edges_back", ["participant", "target"], unique=False)

    op.create_table(
        "exchange_agreements",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("partner_address", sa.String(length=1024), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("product_id", sa.String(length=128), nullable=False),
        sa.Column("agreement", sa.LargeBinary(), nullable=False),
        sa.Column("agreement_hash", sa.String(length=80), nullable=False),
        sa.Column("policy_hash", sa.String(length=80), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("price", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("agreed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("negotiation_pid", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_negotiations",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("partner_pid", sa.String(length=128), nullable=True),
        sa.Column("partner_address", sa.String(length=1024), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("offer", sa.LargeBinary(), nullable=False),
        sa.Column("asked", sa.LargeBinary(), nullable=True),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("waiting", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid"),
    )
    with op.batch_alter_table("exchange_negotiations", schema=None) as batch_op:
        batch_op.create_index("exchange_negotiations_partner", ["participant", "partner", "partner_pid"], unique=True)
        batch_op.create_index("exchange_negotiations_state", ["participant", "state"], unique=False)

    op.create_table(
        "exchange_products",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("dataset_id", sa.String(length=128), nullable=False),
        sa.Column("product", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_pulls",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("record_id", sa.String(length=128), nullable=False),
        sa.Column("transfer_pid", sa.String(length=128), nullable=False),
        sa.Column("counted", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "record_id"),
    )
    op.create_table(
        "exchange_receipts",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("record_id", sa.String(length=128), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("transfer_pid", sa.String(length=128), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("countersignature", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "record_id"),
    )
    with op.batch_alter_table("exchange_receipts", schema=None) as batch_op:
        batch_op.create_index(
            "exchange_receipts_agreement", ["participant", "agreement_id", "recorded_at"], unique=False
        )

    op.create_table(
        "exchange_seen",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid", "digest"),
    )
    op.create_table(
        "exchange_tokens_seen",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("jti", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "issuer", "jti"),
    )
    with op.batch_alter_table("exchange_tokens_seen", schema=None) as batch_op:
        batch_op.create_index("exchange_tokens_expiry", ["expires_at"], unique=False)

    op.create_table(
        "exchange_transfers",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("partner_pid", sa.String(length=128), nullable=True),
        sa.Column("partner_address", sa.String(length=1024), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("format", sa.String(length=128), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("data_address", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.String(length=80), nullable=False),
        sa.Column("token_expires", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid"),
    )
    with op.batch_alter_table("exchange_transfers", schema=None) as batch_op:
        batch_op.create_index("exchange_transfers_agreement", ["participant", "agreement_id"], unique=False)
        batch_op.create_index("exchange_transfers_partner", ["participant", "partner", "partner_pid"], unique=True)

    op.create_table(
        "fuse_corrections",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "fuse_findings",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "fuse_gaps",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "position", "number"),
    )
    op.create_table(
        "fuse_mappings",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "name"),
    )
    op.create_table(
        "fuse_parts",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("design", sa.String(length=255), nullable=False),
        sa.Column("serial", sa.String(length=255), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "fuse_signals",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("native_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("declared_unit", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("newest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("fuse_signals", schema=None) as batch_op:
        batch_op.create_index("fuse_signals_source", ["participant", "source"], unique=False)

    op.create_table(
        "fuse_tallies",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("corrected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "position", "source", "kind"),
    )
    op.create_table(
        "govern_decisions",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=512), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("context", sa.String(length=80), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "number"),
    )
    with op.batch_alter_table("govern_decisions", schema=None) as batch_op:
        batch_op.create_index("govern_decisions_at", ["participant", "first_at"], unique=False)

    op.create_table(
        "govern_grades",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("enforce", sa.String(length=16), nullable=False),
        sa.Column("domain", sa.String(length=64), nullable=False),
        sa.Column("subclass", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("graded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "govern_quality",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("scored_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "dataset_id", "scored_at"),
    )
    op.create_table(
        "govern_rights",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("stated_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "dataset_id", "stated_at"),
    )
    op.create_table(
        "leaves",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "number"),
    )
    with op.batch_alter_table("leaves", schema=None) as batch_op:
        batch_op.create_index("leaves_kind", ["participant", "kind"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("lane", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "kind", "key"),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("outbox_queue", ["state", "lane", "number"], unique=False)

    op.create_table(
        "prove_checkpoints",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "size"),
    )
    op.create_table(
        "prove_cosignatures",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("witness", sa.String(length=255), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("cosigned_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "size", "witness"),
    )
    op.create_table(
        "prove_peers",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("did", sa.String(length=255), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("evidence_key", sa.LargeBinary(), nullable=False),
        sa.Column("witness_key", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("participant", "did"),
    )
    op.create_table(
        "prove_subjects",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "subject", "number"),
    )
    op.create_table(
        "prove_trees",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant"),
    )
    op.create_table(
        "prove_witnessed",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("origin", sa.String(length=512), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("cosigned_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "origin"),
    )
    op.create_table(
        "settle_invoices",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=255), nullable=False),
        sa.Column("basis", sa.String(length=71), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total", sa.String(length=64), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.Column("differences", sa.LargeBinary(), nullable=False),
        sa.Column("partner_document", sa.LargeBinary(), nullable=True),
        sa.Column("left_out", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "agreement_id", "basis"),
    )
    with op.batch_alter_table("settle_invoices", schema=None) as batch_op:
        batch_op.create_index("settle_invoices_state", ["participant", "state"], unique=False)

    op.create_table(
        "value_appraisals",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("appraisal_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "appraisal_id"),
    )
    with op.batch_alter_table("value_appraisals", schema=None) as batch_op:
        batch_op.create_index("value_appraisals_time", ["participant", "subject", "at"], unique=False)

    op.create_table(
        "value_costs",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("entry_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("item", sa.String(length=128), nullable=False),
        sa.Column("quantity", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("rate", sa.String(length=64), nullable=True),
        sa.Column("rate_source", sa.Text(), nullable=False),
        sa.Column("amount", sa.String(length=64), nullable=True),
        sa.Column("voucher", sa.String(length=255), nullable=False),
        sa.Column("grade", sa.String(length=16), nullable=False),
        sa.Column("corrects", sa.String(length=64), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "entry_id"),
    )
    with op.batch_alter_table("value_costs", schema=None) as batch_op:
        batch_op.create_index("value_costs_time", ["participant", "subject", "end"], unique=False)

    op.create_table(
        "value_meters",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("cumulative", sa.Boolean(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "name"),
    )
    op.create_table(
        "value_rates",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("meter", sa.String(length=128), nullable=False),
        sa.Column("price", sa.String(length=64), nullable=False),
        sa.Column("per", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("voucher", sa.String(length=255), nullable=False),
        sa.Column("grade", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("participant", "meter"),
    )
    op.create_table(
        "watch_scalars",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=255), nullable=False),
        sa.Column("component", sa.String(length=200), nullable=False),
        sa.Column("disrupted", sa.String(length=200), nullable=False),
        sa.Column("days", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("watch_scalars", schema=None) as batch_op:
        batch_op.create_index("watch_scalars_time", ["participant", "at"], unique=False)

    op.create_table(
        "watch_supplies",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("component", sa.String(length=200), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "component"),
    )
    op.create_table(
        "watch_warnings",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("signal", sa.String(length=255), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("watch_warnings", schema=None) as batch_op:
        batch_op.create_index("watch_warnings_time", ["participant", "start"], unique=False)

    op.create_table(
        "web_links",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("participant", "token_hash"),
    )
    op.create_table(
        "web_sessions",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("session_hash", sa.String(length=64), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "session_hash"),
    )
    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.create_index("web_sessions_expiry", ["expires_at"], unique=False)


def downgrade() -> None:
    """Take the schema one step back."""
    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.drop_index("web_sessions_expiry")

    op.drop_table("web_sessions")
    op.drop_table("web_links")
    with op.batch_alter_table("watch_warnings", schema=None) as batch_op:
        batch_op.drop_index("watch_warnings_time")

    op.drop_table("watch_warnings")
    op.drop_table("watch_supplies")
    with op.batch_alter_table("watch_scalars", schema=None) as batch_op:
        batch_op.drop_index("watch_scalars_time")

    op.drop_table("watch_scalars")
    op.drop_table("value_rates")
    op.drop_table("value_meters")
    with op.batch_alter_table("value_costs", schema=None) as batch_op:
        batch_op.drop_index("value_costs_time")

    op.drop_table("value_costs")
    with op.batch_alter_table("value_appraisals", schema=None) as batch_op:
        batch_op.drop_index("value_appraisals_time")

    op.drop_table("value_appraisals")
    with op.batch_alter_table("settle_invoices", schema=None) as batch_op:
        batch_op.drop_index("settle_invoices_state")

    op.drop_table("settle_invoices")
    op.drop_table("prove_witnessed")
    op.drop_table("prove_trees")
    op.drop_table("prove_subjects")
    op.drop_table("prove_peers")
    op.drop_table("prove_cosignatures")
    op.drop_table("prove_checkpoints")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("outbox_queue")

    op.drop_table("outbox")
    with op.batch_alter_table("leaves", schema=None) as batch_op:
        batch_op.drop_index("leaves_kind")

    op.drop_table("leaves")
    op.drop_table("govern_rights")
    op.drop_table("govern_quality")
    op.drop_table("govern_grades")
    with op.batch_alter_table("govern_decisions", schema=None) as batch_op:
        batch_op.drop_index("govern_decisions_at")

    op.drop_table("govern_decisions")
    op.drop_table("fuse_tallies")
    with op.batch_alter_table("fuse_signals", schema=None) as batch_op:
        batch_op.drop_index("fuse_signals_source")

    op.drop_table("fuse_signals")
    op.drop_table("fuse_parts")
    op.drop_table("fuse_mappings")
    op.drop_table("fuse_gaps")
    op.drop_table("fuse_findings")
    op.drop_table("fuse_corrections")
    with op.batch_alter_table("exchange_transfers", schema=None) as batch_op:
        batch_op.drop_index("exchange_transfers_partner")
        batch_op.drop_index("exchange_transfers_agreement")

    op.drop_table("exchange_transfers")
    with op.batch_alter_table("exchange_tokens_seen", schema=None) as batch_op:
        batch_op.drop_index("exchange_tokens_expiry")

    op.drop_table("exchange_tokens_seen")
    op.drop_table("exchange_seen")
    with op.batch_alter_table("exchange_receipts", schema=None) as batch_op:
        batch_op.drop_index("exchange_receipts_agreement")

    op.drop_table("exchange_receipts")
    op.drop_table("exchange_pulls")
    op.drop_table("exchange_products")
    with op.batch_alter_table("exchange_negotiations", schema=None) as batch_op:
        batch_op.drop_index("exchange_negotiations_state")
        batch_op.drop_index("exchange_negotiations_partner")

    op.drop_table("exchange_negotiations")
    op.drop_table("exchange_agreements")
    with op.batch_alter_table("edges", schema=None) as batch_op:
        batch_op.drop_index("edges_back")

    op.drop_table("edges")
    with op.batch_alter_table("describe_elements", schema=None) as batch_op:
        batch_op.drop_index("describe_elements_semantic")

    op.drop_table("describe_elements")
    with op.batch_alter_table("describe_documents", schema=None) as batch_op:
        batch_op.drop_index("describe_documents_order")

    op.drop_table("describe_documents")
    op.drop_table("describe_datasets")
    op.drop_table("describe_assets")
    op.drop_table("counters")
    op.drop_table("connect_sources")
    op.drop_table("connect_positions")
    op.drop_table("connect_files")
