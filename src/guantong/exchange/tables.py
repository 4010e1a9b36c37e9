"""Tables of the exchange. Documents are canonical JSON in LargeBinary columns; protocol state is one column, delivery the outbox's."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, String, Text

from guantong.exchange import guest_tables  # noqa: F401 - the tables of guests belong to this schema
from guantong.records.tables import INSTANT, table

__all__ = [
    "AGREEMENTS",
    "AMENDMENTS",
    "BLOCKS",
    "CONTROL_PLANES",
    "CREDENTIALS",
    "CREDENTIALS_ISSUED",
    "CREDENTIAL_REQUESTS",
    "DEMANDS",
    "DUTIES",
    "FLOWS",
    "INVITATIONS",
    "MARKS",
    "MEMBERS",
    "NEGOTIATIONS",
    "PLANES",
    "PLANE_DATASETS",
    "PLANE_FLOWS",
    "PRODUCTS",
    "PULLS",
    "QUERY_JOBS",
    "QUERY_SETS",
    "RECEIPTS",
    "REHEARSALS",
    "RELAYED",
    "RENEWALS",
    "SEEN",
    "SPACES",
    "STREAMS",
    "TEMPLATES",
    "TOKENS_SEEN",
    "TRANSFERS",
]

PRODUCTS = table(
    "exchange_products",
    Column("id", String(128), primary_key=True),
    Column("dataset_id", String(128), nullable=False),
    Column("product", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),  # offered, withdrawn
    Column("created_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

NEGOTIATIONS = table(
    "exchange_negotiations",
    Column("pid", String(128), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("partner_pid", String(128)),  # null until the partner named it
    Column("partner_address", String(1024), nullable=False),
    Column("state", String(16), nullable=False),
    Column("offer", LargeBinary, nullable=False),
    Column("asked", LargeBinary),  # what we asked for ourselves: the agreement is compared with it
    Column("dataset_id", String(255), nullable=False),
    Column("agreement_id", String(128), nullable=False),
    Column("waiting", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("exchange_negotiations_partner", "participant", "partner", "partner_pid", unique=True),
    Index("exchange_negotiations_state", "participant", "state"),
)

AGREEMENTS = table(
    "exchange_agreements",
    Column("id", String(128), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("partner_address", String(1024), nullable=False),
    Column("dataset_id", String(255), nullable=False),
    Column("product_id", String(128), nullable=False),
    Column("agreement", LargeBinary, nullable=False),
    Column("agreement_hash", String(80), nullable=False),
    Column("policy_hash", String(80), nullable=False),
    Column("terms", Text, nullable=False),
    Column("price", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("agreed_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Column("negotiation_pid", String(128), nullable=False),
)

TRANSFERS = table(
    "exchange_transfers",
    Column("pid", String(128), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("partner_pid", String(128)),
    Column("partner_address", String(1024), nullable=False),
    Column("state", String(16), nullable=False),
    Column("agreement_id", String(128), nullable=False),
    Column("format", String(128), nullable=False),
    Column("dataset_id", String(255), nullable=False),
    Column("data_address", LargeBinary, nullable=False),
    Column("token_hash", String(80), nullable=False),
    Column("token_expires", INSTANT, nullable=False),
    Column("waiting", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("exchange_transfers_partner", "participant", "partner", "partner_pid", unique=True),
    Index("exchange_transfers_agreement", "participant", "agreement_id"),
)

SEEN = table(
    "exchange_seen",
    Column("pid", String(128), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("at", INSTANT, nullable=False),
)

TOKENS_SEEN = table(
    "exchange_tokens_seen",
    Column("issuer", String(255), primary_key=True),
    Column("jti", String(255), primary_key=True),
    Column("expires_at", INSTANT, nullable=False),
    Index("exchange_tokens_expiry", "expires_at"),
)

PULLS = table(
    "exchange_pulls",
    Column("record_id", String(128), primary_key=True),
    Column("transfer_pid", String(128), nullable=False),
    Column("counted", LargeBinary, nullable=False),
    Column("at", INSTANT, nullable=False),
)

RECEIPTS = table(
    "exchange_receipts",
    Column("record_id", String(128), primary_key=True),
    Column("agreement_id", String(128), nullable=False),
    Column("transfer_pid", String(128), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("role", String(8), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("signature", String(128), nullable=False),
    Column("countersignature", LargeBinary, nullable=False),
    Column("recorded_at", INSTANT, nullable=False),
    Index("exchange_receipts_agreement", "participant", "agreement_id", "recorded_at"),
)

CREDENTIALS = table(
    "exchange_credentials",
    Column("id", String(128), primary_key=True),
    Column("issuer", String(255), nullable=False),
    Column("kind", String(255), nullable=False),
    Column("credential", Text, nullable=False),  # compact JWS
    Column("stored_at", INSTANT, nullable=False),
)

CREDENTIAL_REQUESTS = table(
    "exchange_credential_requests",
    Column("id", String(128), primary_key=True),
    Column("role", String(8), nullable=False),  # holder, issuer
    Column("partner", String(255), nullable=False),
    Column("partner_pid", String(128), nullable=False),
    Column("kinds", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),  # RECEIVED, ISSUED, REJECTED
    Column("reason", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

MEMBERS = table(
    "exchange_members",
    Column("holder", String(255), primary_key=True),
    Column("kind", String(255), primary_key=True),
    Column("claims", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),  # admitted, ended
    Column("changed_at", INSTANT, nullable=False),
)

CREDENTIALS_ISSUED = table(
    "exchange_credentials_issued",
    Column("place", BigInteger, primary_key=True, autoincrement=False),  # in the status list
    Column("holder", String(255), nullable=False),
    Column("kind", String(255), nullable=False),
    Column("credential_id", String(128), nullable=False),
    Column("issued_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT, nullable=False),  # 0 while it holds
    Index("exchange_credentials_issued_holder", "participant", "holder", "kind"),
)

BLOCKS = table(
    "exchange_blocks",
    Column("record_id", String(128), primary_key=True),
    Column("hashes", LargeBinary, nullable=False),  # leaf hash of each block that was counted, 32 bytes each
    Column("at", INSTANT, nullable=False),
)

RENEWALS = table(
    "exchange_renewals",
    Column("pid", String(128), primary_key=True),
    Column("refresh_hash", String(80), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

FLOWS = table(
    "exchange_flows",
    Column("id", String(128), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("process_id", String(128), nullable=False),
    Column("participant_id", String(1024), nullable=False),
    Column("counter_party", String(255), nullable=False),
    Column("agreement_id", String(128), nullable=False),
    Column("dataset_id", String(255), nullable=False),
    Column("profile", String(1024), nullable=False),
    Column("state", String(16), nullable=False),
    Column("control_plane", String(1024), nullable=False),
    Column("error", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("exchange_flows_process", "participant", "process_id", unique=True),
)

CONTROL_PLANES = table(
    "exchange_control_planes",
    Column("id", String(255), primary_key=True),
    Column("endpoint", String(1024), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

PLANES = table(
    "exchange_planes",
    Column("id", String(255), primary_key=True),
    Column("endpoint", String(1024), nullable=False),
    Column("profiles", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

PLANE_DATASETS = table(
    "exchange_plane_datasets",
    Column("dataset_id", String(255), primary_key=True),
    Column("plane", String(255), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

PLANE_FLOWS = table(
    "exchange_plane_flows",
    Column("pid", String(128), primary_key=True),  # our transfer
    Column("plane", String(255), nullable=False),
    Column("flow_id", String(255), nullable=False),  # empty until the plane named it
    Column("profile", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

AMENDMENTS = table(
    "exchange_amendments",
    Column("id", String(128), primary_key=True),
    Column("agreement_id", String(128), nullable=False),
    Column("kind", String(16), nullable=False),  # amend, end
    Column("by", String(8), nullable=False),  # us, partner
    Column("state", String(16), nullable=False),  # proposed, accepted, refused, superseded, one-sided
    Column("proposal", LargeBinary, nullable=False),
    Column("signature", String(128), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
    Index("exchange_amendments_agreement", "participant", "agreement_id", "changed_at"),
)

SPACES = table(
    "exchange_spaces",
    Column("issuer", String(255), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("role", String(8), nullable=False),  # leader, member
    Column("leader", String(255), nullable=False),  # name of the leader's company
    Column("required", Boolean, nullable=False),
    Column("made_at", INSTANT, nullable=False),
)

INVITATIONS = table(
    "exchange_invitations",
    Column("id", String(64), primary_key=True),  # SHA-256 of the code
    Column("kind", String(8), nullable=False),  # join, guest
    Column("name", String(255), nullable=False),
    Column("until", INSTANT, nullable=False),
    Column("state", String(16), nullable=False),  # open, used, withdrawn
    Column("used_by", String(255), nullable=False),
    Column("made_at", INSTANT, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

RELAYED = table(
    "exchange_relayed",
    Column("name", String(64), primary_key=True),
    Column("did", String(255), nullable=False),
    Column("invitation", String(64), nullable=False),
    Column("document", LargeBinary, nullable=False),  # the DID document, as its subject signed it
    Column("stated_at", INSTANT, nullable=False),  # when it signed it
    Column("state", String(16), nullable=False),  # hosted, ended
    Column("changed_at", INSTANT, nullable=False),
)

TEMPLATES = table(
    "exchange_templates",
    Column("digest", String(80), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("author", String(255), nullable=False),
    Column("template", LargeBinary, nullable=False),
    Column("signature", String(128), nullable=False),
    Column("state", String(16), nullable=False),  # approved, withdrawn
    Column("changed_at", INSTANT, nullable=False),
)

QUERY_JOBS = table(
    "exchange_query_jobs",
    Column("id", String(128), primary_key=True),  # the usage record's
    Column("agreement_id", String(128), nullable=False),
    Column("partner", String(255), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("dataset_id", String(255), nullable=False),
    Column("outcome", String(16), nullable=False),  # answered, refused, failed
    Column("job", LargeBinary, nullable=False),
    Column("at", INSTANT, nullable=False),
    Index("exchange_query_jobs_agreement", "participant", "agreement_id", "at"),
    Index("exchange_query_jobs_partner", "participant", "partner", "digest"),
)

QUERY_SETS = table(
    "exchange_query_sets",
    Column("partner", String(255), primary_key=True),
    Column("scope", String(255), primary_key=True),  # dataset and unit
    Column("id", String(80), primary_key=True),  # digest of the set
    Column("units", LargeBinary, nullable=False),  # 16 bytes each
    Column("job", String(128), nullable=False),
    Column("at", INSTANT, nullable=False),
)

MARKS = table(
    "exchange_marks",
    Column("agreement_id", String(128), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("marking", Text, nullable=False),
    Column("made_at", INSTANT, nullable=False),
)

REHEARSALS = table(
    "exchange_rehearsals",
    Column("id", String(80), primary_key=True),  # digest of the offer as it would be made
    Column("dataset_id", String(255), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
)

STREAMS = table(
    "exchange_streams",
    Column("pid", String(128), primary_key=True),
    Column("acknowledged", BigInteger, nullable=False),  # rows: what the consumer has and will not ask for again
    Column("acknowledgement", LargeBinary, nullable=False),  # the newest, as it was signed
    Column("signature", String(128), nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)

DUTIES = table(
    "exchange_duties",
    Column("agreement_id", String(128), primary_key=True),
    Column("action", String(64), primary_key=True),
    Column("done_at", INSTANT, nullable=False),
    Column("by", String(200), nullable=False),
    Column("note", Text, nullable=False),
)

DEMANDS = table(
    "exchange_demands",
    Column("id", String(128), primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("changed_at", INSTANT, nullable=False),
)
