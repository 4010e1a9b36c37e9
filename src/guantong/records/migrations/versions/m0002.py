"""Tables of the second release."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the schema one step on."""
    op.create_table(
        "connect_edges",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("log_position", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("sources", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "connect_invites",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "code"),
    )
    op.create_table(
        "exchange_amendments",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("by", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("proposal", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("exchange_amendments", schema=None) as batch_op:
        batch_op.create_index(
            "exchange_amendments_agreement", ["participant", "agreement_id", "changed_at"], unique=False
        )

    op.create_table(
        "exchange_blocks",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("record_id", sa.String(length=128), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "record_id"),
    )
    op.create_table(
        "exchange_control_planes",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("endpoint", sa.String(length=1024), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_credential_requests",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("partner_pid", sa.String(length=128), nullable=False),
        sa.Column("kinds", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_credentials",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_credentials_issued",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("credential_id", sa.String(length=128), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "place"),
    )
    with op.batch_alter_table("exchange_credentials_issued", schema=None) as batch_op:
        batch_op.create_index("exchange_credentials_issued_holder", ["participant", "holder", "kind"], unique=False)

    op.create_table(
        "exchange_demands",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_duties",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "agreement_id", "action"),
    )
    op.create_table(
        "exchange_flows",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("process_id", sa.String(length=128), nullable=False),
        sa.Column("participant_id", sa.String(length=1024), nullable=False),
        sa.Column("counter_party", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("profile", sa.String(length=1024), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("control_plane", sa.String(length=1024), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("exchange_flows", schema=None) as batch_op:
        batch_op.create_index("exchange_flows_process", ["participant", "process_id"], unique=True)

    op.create_table(
        "exchange_guest_moves",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("guest", sa.String(length=128), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=1024), nullable=False),
        sa.Column("papers", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("statements", sa.Integer(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "guest"),
    )
    op.create_table(
        "exchange_guest_requests",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("guest", sa.String(length=128), nullable=False),
        sa.Column("share", sa.String(length=80), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("exchange_guest_requests", schema=None) as batch_op:
        batch_op.create_index("exchange_guest_requests_guest", ["participant", "guest"], unique=False)

    op.create_table(
        "exchange_guest_shares",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("guest", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("file", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=80), nullable=False),
        sa.Column("root", sa.String(length=80), nullable=False),
        sa.Column("form", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("shared_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("exchange_guest_shares", schema=None) as batch_op:
        batch_op.create_index("exchange_guest_shares_guest", ["participant", "guest"], unique=False)

    op.create_table(
        "exchange_guest_statements",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("guest", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False),
        sa.Column("stated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "guest", "number"),
    )
    with op.batch_alter_table("exchange_guest_statements", schema=None) as batch_op:
        batch_op.create_index("exchange_guest_statements_digest", ["participant", "digest"], unique=True)

    op.create_table(
        "exchange_guest_terms",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_guests",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("did", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(length=80), nullable=False),
        sa.Column("moved_to", sa.String(length=255), nullable=False),
        sa.Column("evidence", sa.String(length=64), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "did"),
    )
    op.create_table(
        "exchange_invitations",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("used_by", sa.String(length=255), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_marks",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("marking", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "agreement_id"),
    )
    op.create_table(
        "exchange_members",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("claims", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "holder", "kind"),
    )
    op.create_table(
        "exchange_plane_datasets",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("plane", sa.String(length=255), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "dataset_id"),
    )
    op.create_table(
        "exchange_plane_flows",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("plane", sa.String(length=255), nullable=False),
        sa.Column("flow_id", sa.String(length=255), nullable=False),
        sa.Column("profile", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid"),
    )
    op.create_table(
        "exchange_planes",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("endpoint", sa.String(length=1024), nullable=False),
        sa.Column("profiles", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_query_jobs",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("agreement_id", sa.String(length=128), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("job", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    with op.batch_alter_table("exchange_query_jobs", schema=None) as batch_op:
        batch_op.create_index("exchange_query_jobs_agreement", ["participant", "agreement_id", "at"], unique=False)
        batch_op.create_index("exchange_query_jobs_partner", ["participant", "partner", "digest"], unique=False)

    op.create_table(
        "exchange_query_sets",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("units", sa.LargeBinary(), nullable=False),
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "partner", "scope", "id"),
    )
    op.create_table(
        "exchange_rehearsals",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("dataset_id", sa.String(length=255), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "exchange_relayed",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("did", sa.String(length=255), nullable=False),
        sa.Column("invitation", sa.String(length=64), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("stated_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "name"),
    )
    op.create_table(
        "exchange_renewals",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("refresh_hash", sa.String(length=80), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid"),
    )
    op.create_table(
        "exchange_spaces",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("leader", sa.String(length=255), nullable=False),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "issuer"),
    )
    op.create_table(
        "exchange_streams",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.String(length=128), nullable=False),
        sa.Column("acknowledged", sa.BigInteger(), nullable=False),
        sa.Column("acknowledgement", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "pid"),
    )
    op.create_table(
        "exchange_templates",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("author", sa.String(length=255), nullable=False),
        sa.Column("template", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "digest"),
    )
    op.create_table(
        "fuse_limits",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("signal", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "signal"),
    )
    op.create_table(
        "fuse_suggestions",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "prove_alarms",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("did", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=True),
        sa.Column("over", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "did", "kind", "subject"),
    )
    op.create_table(
        "prove_anchors",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("anchored_at", sa.BigInteger(), nullable=False),
        sa.Column("ref", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "kind", "size"),
    )
    op.create_table(
        "prove_chunks",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("source_table", sa.String(length=255), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.Column("committed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "entry"),
    )
    op.create_table(
        "prove_definitions",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("definition", sa.LargeBinary(), nullable=False),
        sa.Column("agreements", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "id"),
    )
    op.create_table(
        "prove_figures",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("definition_id", sa.String(length=200), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=255), nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "digest"),
    )
    with op.batch_alter_table("prove_figures", schema=None) as batch_op:
        batch_op.create_index("prove_figures_by_time", ["participant", "made_at"], unique=False)

    op.create_table(
        "prove_stretches",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("stream", sa.String(length=512), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("source_table", sa.String(length=255), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.Column("last_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "stream", "entry"),
    )
    op.create_table(
        "settle_credit_notes",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("agreement_id", sa.String(length=255), nullable=False),
        sa.Column("basis", sa.String(length=71), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("invoice", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total", sa.String(length=64), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "agreement_id", "basis"),
    )
    op.create_table(
        "settle_disputes",
        sa.Column("participant", sa.String(length=255), nullable=False),
        sa.Column("record_id", sa.String(length=128), nullable=False),
        sa.Column("agreement_id", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("resolution", sa.LargeBinary(), nullable=True),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant", "record_id"),
    )
    with op.batch_alter_table("settle_disputes", schema=None) as batch_op:
        batch_op.create_index("settle_disputes_agreement", ["participant", "agreement_id"], unique=False)

    with op.batch_alter_table("web_links", schema=None) as batch_op:
        batch_op.add_column(sa.Column("role", sa.String(length=16), nullable=True))

    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("role", sa.String(length=16), nullable=True))


def downgrade() -> None:
    """Take the schema one step back."""
    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.drop_column("role")

    with op.batch_alter_table("web_links", schema=None) as batch_op:
        batch_op.drop_column("role")

    with op.batch_alter_table("settle_disputes", schema=None) as batch_op:
        batch_op.drop_index("settle_disputes_agreement")

    op.drop_table("settle_disputes")
    op.drop_table("settle_credit_notes")
    op.drop_table("prove_stretches")
    with op.batch_alter_table("prove_figures", schema=None) as batch_op:
        batch_op.drop_index("prove_figures_by_time")

    op.drop_table("prove_figures")
    op.drop_table("prove_definitions")
    op.drop_table("prove_chunks")
    op.drop_table("prove_anchors")
    op.drop_table("prove_alarms")
    op.drop_table("fuse_suggestions")
    op.drop_table("fuse_limits")
    op.drop_table("exchange_templates")
    op.drop_table("exchange_streams")
    op.drop_table("exchange_spaces")
    op.drop_table("exchange_renewals")
    op.drop_table("exchange_relayed")
    op.drop_table("exchange_rehearsals")
    op.drop_table("exchange_query_sets")
    with op.batch_alter_table("exchange_query_jobs", schema=None) as batch_op:
        batch_op.drop_index("exchange_query_jobs_partner")
        batch_op.drop_index("exchange_query_jobs_agreement")

    op.drop_table("exchange_query_jobs")
    op.drop_table("exchange_planes")
    op.drop_table("exchange_plane_flows")
    op.drop_table("exchange_plane_datasets")
    op.drop_table("exchange_members")
    op.drop_table("exchange_marks")
    op.drop_table("exchange_invitations")
    op.drop_table("exchange_guests")
    op.drop_table("exchange_guest_terms")
    with op.batch_alter_table("exchange_guest_statements", schema=None) as batch_op:
        batch_op.drop_index("exchange_guest_statements_digest")

    op.drop_table("exchange_guest_statements")
    with op.batch_alter_table("exchange_guest_shares", schema=None) as batch_op:
        batch_op.drop_index("exchange_guest_shares_guest")

    op.drop_table("exchange_guest_shares")
    with op.batch_alter_table("exchange_guest_requests", schema=None) as batch_op:
        batch_op.drop_index("exchange_guest_requests_guest")

    op.drop_table("exchange_guest_requests")
    op.drop_table("exchange_guest_moves")
    with op.batch_alter_table("exchange_flows", schema=None) as batch_op:
        batch_op.drop_index("exchange_flows_process")

    op.drop_table("exchange_flows")
    op.drop_table("exchange_duties")
    op.drop_table("exchange_demands")
    with op.batch_alter_table("exchange_credentials_issued", schema=None) as batch_op:
        batch_op.drop_index("exchange_credentials_issued_holder")

    op.drop_table("exchange_credentials_issued")
    op.drop_table("exchange_credentials")
    op.drop_table("exchange_credential_requests")
    op.drop_table("exchange_control_planes")
    op.drop_table("exchange_blocks")
    with op.batch_alter_table("exchange_amendments", schema=None) as batch_op:
        batch_op.drop_index("exchange_amendments_agreement")

    op.drop_table("exchange_amendments")
    op.drop_table("connect_invites")
    op.drop_table("connect_edges")
