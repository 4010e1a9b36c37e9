"""Frozen values of the exchange: who takes part, what is offered, what was agreed, what moved, and the kinds of entries it records.

Words are those of the Dataspace Protocol 2025-1 (offer, agreement, negotiation, transfer); process states are its enumerations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guantong.base.clock import parse_iso
from guantong.base.entry import EntryKind
from guantong.base.errors import Skippable
from guantong.exchange import guest_model

__all__ = [
    "ENTRY_KINDS",
    "Agreement",
    "Answer",
    "Catalogue",
    "CatalogueOffer",
    "ExchangeSettings",
    "Negotiation",
    "OwedDuty",
    "Participant",
    "Product",
    "Question",
    "Receipt",
    "Transfer",
]


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """Settings of the exchange."""

    auto: tuple[str, ...] = (
        "agree-own-offer",
        "verify-asked-offer",
        "finalize",
        "start-pull",
        "start-push",
        "accept-asked-offer",
        "prepare-flow",
        "start-flow",
    )
    """What happens without a person: ``agree-own-offer`` (a request equal to our own offer is agreed to), ``verify-asked-offer`` (an
    agreement equal to what we asked for is verified), ``accept-asked-offer`` (an offer equal to what we asked for is accepted),
    ``finalize`` (a verified agreement is finalized), ``start-pull`` and ``start-push`` (a pull or push under a valid agreement starts),
    ``prepare-flow`` and ``start-flow`` (a data flow of another control plane is prepared or started at once). What is not listed waits."""

    token_lifetime_s: int = 300
    """Lifetime of a self-issued identity token, seconds."""

    token_leeway_s: int = 60
    """Clock difference tolerated when a partner's identity token is checked, seconds."""

    token_max_lifetime_s: int = 3600
    """An identity token that lives longer than this is refused, seconds."""

    did_cache_s: int = 300
    """How long a resolved DID document is kept, seconds."""

    did_negative_cache_s: int = 5
    """How long a DID that could not be resolved is not asked for again, seconds."""

    access_lifetime_s: int = 3600
    """Lifetime of the access token of a transfer, seconds."""

    chunk_rows: int = 10_000
    """Rows in one record batch of a delivery."""

    whole_bytes: int = 1024 * 1024
    """A delivery of at most so many bytes leaves in one piece, its usage record durable with its intent."""

    stream_window: int = 16
    """Most chunks of a stream that have left and are not acknowledged by its consumer; then it waits."""

    stream_wait_s: float = 60.0
    """How long a stream waits for an acknowledgement before it ends, seconds. Its consumer may take it up again."""

    brokers: tuple[str, ...] = ()
    """MQTT brokers (``host:port``) that a partner may have data pushed to, as a Sparkplug edge node or a tree of topics. Empty: none."""

    block_bytes: int = 65_536
    """Size of the blocks of a delivered body whose hashes form the content root of the receipt."""

    unanswered_blocks: int = 4096
    """Most blocks delivered for money under one agreement and not countersigned yet; above it nothing more is delivered. So much may be
    lost to a consumer that takes and never signs. A delivery under way is not cut short."""
    body_limit: int = 1024 * 1024
    """Largest protocol message accepted, bytes."""

    depth_limit: int = 64
    """Deepest JSON nesting accepted."""

    receipt_wait_s: float = 5.0
    """How long the consumer's side waits for its own count before it answers a receipt, seconds."""

    process_cache: int = 10_000
    """Processes kept in memory besides the records."""

    page_size: int = 500
    """Datasets on one page of the catalogue."""

    requests_per_s: int = 2000
    """Requests that one participant may make in a second, twice as many at once; beyond that it is told to wait (429). 0: no limit."""

    required_credentials: tuple[str, ...] = ()
    """Credentials that a caller must show beside its identity token: types (``MembershipCredential``) or whole scopes. Empty: none."""

    trusted_issuers: tuple[str, ...] = ()
    """DIDs whose credentials are believed; ``did:web:leader.example MembershipCredential`` believes one type of it only."""

    claims_cache_s: int = 60
    """How long a verified presentation and a status list are kept at most, seconds; a revocation takes effect within this time."""

    presented_credentials: tuple[str, ...] = ("MembershipCredential",)
    """Types of our own credentials that a partner we call may ask for."""

    issued_credentials: tuple[str, ...] = ()
    """Types of credentials that this node issues to others; empty: it is no issuer."""

    control_plane: str = ""
    """Address of somebody else's control plane (Data Plane Signaling) whose data plane this node is; empty: of none."""

    signaling_key: str = ""
    """Key shared with that control plane, or, where none is set, with the data planes that this node controls: they must send it, and are
    sent it, as a bearer token. Without one no signal is taken."""

    issued_lifetime_d: int = 365
    """How long a credential that this node issues holds, days."""

    guest_file_bytes: int = 12 * 1024 * 1024
    """Largest file that a guest may share, bytes; ``web.max_body_bytes`` must be larger."""

    guest_total_bytes: int = 1024**3
    """Most bytes that one guest may share in all."""

    partner_groups: tuple[str, ...] = ()
    """Groups of partners that policies name, one line a group: ``gold did:web:a.example did:web:b.example``."""

    acceptance: tuple[str, ...] = ()
    """Which requests for a contract are agreed to at once, wait for a person or are refused, one line each, the first that fits decides:
    ``refuse did:web:rival.example *``, ``person group:new *``, ``auto * spindle-load``. Without one that fits, ``auto`` decides."""

    terms_check_s: float = 0.5
    """How often a delivery that runs is asked whether its terms still hold, seconds; it stops at most so long after they ended."""

    rehearsal: str = "required"
    """Whether a person who publishes an offer must have seen its rehearsal: ``required``, or ``waived``, which the offer's entry says."""

    query_min_group: int = 5
    """Fewest units behind a group that a query template may release, whatever the template says."""

    query_seconds: float = 20.0
    """Longest a partner's query template may run."""

    query_memory_bytes: int = 256 * 1024 * 1024
    """Memory a partner's query template may use; half of it is the most that it may be given to read."""

    query_sets: int = 200
    """Most different groups released to one partner over one column of units; above it no more leave."""

    query_failures: int = 3
    """Runs of a template that failed for one partner; above it the template must be approved again, since a failure tells something too."""

    relay_names: int = 100
    """Companies without a public address whose requests this node relays for at most, once it leads a space; 0: none."""

    relay_in_flight: int = 64
    """Relayed requests under way at once for one company; beyond that a caller is told to wait (503)."""

    relay_idle_s: int = 60
    """A relayed connection on which nothing was heard for so long is taken for dead, and a request without a sign of its answer too, seconds."""


@dataclass(frozen=True, slots=True)
class Participant:
    """A caller whose identity was verified."""

    did: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    """The claims of its token."""
    jti: str = ""
    """Identifier of the token; empty where the identification has none."""
    expires: int = 0
    """End of the token, nanoseconds."""


@dataclass(frozen=True, slots=True)
class Product:
    """A dataset put on offer: rights stated elsewhere, contract terms, policy and price here."""

    id: str
    dataset_id: str
    policy: Mapping[str, Any]
    """ODRL rules (``permission``, ``prohibition``, ``obligation``) of the typed subset, see ``policy.py``; without id, type and target."""
    title_en: str = ""
    title_zh: str = ""
    terms: str = ""
    """Contract terms in plain words; bound into the offer by their digest."""
    price: Mapping[str, Any] = field(default_factory=dict)
    """Price plan (settle's JSON); bound into the offer by its digest."""
    visible_to: tuple[str, ...] = ()
    """DIDs that see it in the catalogue; empty: every identified participant."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """More properties of the dataset in the catalogue, for example ``http://purl.org/dc/terms/type``."""
    offer: str = ""
    """Identifier of its offer where the default (product and dataset) won't do."""

    @property
    def offer_id(self) -> str:
        """Identifier of its offer in the catalogue."""
        return self.offer or f"{self.id}:{self.dataset_id}"


@dataclass(frozen=True, slots=True)
class CatalogueOffer:
    """One offer in a partner's catalogue, ready to be asked for."""

    dataset_id: str
    offer: Mapping[str, Any]
    """The ODRL offer with ``@id``, ``@type`` and ``target``: hand it to ``negotiate``."""
    title: str = ""
    terms: str = ""
    price: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """The dataset as received."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A partner's catalogue."""

    participant_id: str
    offers: tuple[CatalogueOffer, ...]


@dataclass(frozen=True, slots=True)
class Negotiation:
    """A contract negotiation as one side sees it."""

    pid: str
    """Our identifier of it."""
    role: str
    """``consumer`` or ``provider``: what we are in it."""
    partner: str
    partner_pid: str
    """The partner's identifier; empty until it is known."""
    partner_address: str
    """Base address of the partner for messages of this negotiation."""
    state: str
    offer: Mapping[str, Any]
    """The offer on the table."""
    dataset_id: str
    agreement_id: str
    waiting: str
    """``person`` when somebody here must decide, else empty."""
    reason: str
    created_at: int
    changed_at: int

    @property
    def consumer_pid(self) -> str:
        """The protocol's ``consumerPid``."""
        return self.pid if self.role == "consumer" else self.partner_pid

    @property
    def provider_pid(self) -> str:
        """The protocol's ``providerPid``."""
        return self.pid if self.role == "provider" else self.partner_pid


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two participants agreed."""

    id: str
    role: str
    partner: str
    partner_address: str
    dataset_id: str
    product_id: str
    """Our product; empty on the consumer's side."""
    agreement: Mapping[str, Any]
    """The ODRL agreement as exchanged."""
    agreement_hash: str
    policy_hash: str
    terms: str
    price: Mapping[str, Any]
    state: str
    """``agreed``, ``final`` or ``ended``."""
    agreed_at: int
    negotiation_pid: str

    def __post_init__(self) -> None:
        if self.role not in ("consumer", "provider"):
            raise ValueError(self.role)

    @property
    def since(self) -> int:
        """When it was made, by its own time stamp, which both sides hold; where it has none, when it came here."""
        try:
            return parse_iso(str(self.agreement["timestamp"]))
        except (KeyError, Skippable):
            return self.agreed_at


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer process as one side sees it."""

    pid: str
    role: str
    partner: str
    partner_pid: str
    partner_address: str
    state: str
    agreement_id: str
    format: str
    dataset_id: str
    data_address: Mapping[str, Any]
    """Where the consumer pulls from, with its token; empty on the provider's side."""
    token_hash: str
    """Digest of the access token; empty on the consumer's side and when revoked."""
    token_expires: int
    waiting: str
    reason: str
    created_at: int
    changed_at: int

    @property
    def consumer_pid(self) -> str:
        """The protocol's ``consumerPid``."""
        return self.pid if self.role == "consumer" else self.partner_pid

    @property
    def provider_pid(self) -> str:
        """The protocol's ``providerPid``."""
        return self.pid if self.role == "provider" else self.partner_pid


@dataclass(frozen=True, slots=True)
class Receipt:
    """A usage record with its signatures."""

    record_id: str
    agreement_id: str
    transfer_pid: str
    seq: int
    role: str
    partner: str
    state: str
    """``offered``, ``acknowledged``, ``disputed`` or ``one-sided``."""
    record: Mapping[str, Any]
    signature: str
    """The provider's Ed25519 signature of the record's canonical bytes, base64; on a consumer's own one-sided record its own."""
    countersignature: Mapping[str, Any]
    """``{statement, signature}`` of the consumer; empty until it came."""
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Question:
    """A partner's question under an agreement."""

    kind: str
    partner: str
    agreement: Agreement
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question; ``body`` is small JSON."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OwedDuty:
    """A duty under an agreement: the consumer's, shown on both sides."""

    agreement_id: str
    role: str
    """What we are in the agreement: as ``consumer`` the duty is ours."""
    partner: str
    dataset_id: str
    action: str
    en: str
    zh: str
    todo: bool
    """Whether somebody says when it is done; others stand as long as the agreement."""
    deadline: int | None
    """Latest instant, None where the policy says nothing."""
    state: str
    """``open``, ``overdue``, ``done``, or ``standing`` (nothing is to be confirmed)."""
    done_at: int | None = None
    by: str = ""
    """Who says so."""
    note: str = ""


def _text() -> dict[str, Any]:
    return {"type": "string", "maxLength": 1024}


def _kind(name: str, en: str, zh: str, required: tuple[str, ...], **properties: Mapping[str, Any]) -> EntryKind:
    return EntryKind(
        name,
        en,
        zh,
        {
            "type": "object",
            "required": list(required),
            "properties": {**{key: _text() for key in required}, **properties},
            "additionalProperties": False,
        },
    )


_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_OBJECT: dict[str, Any] = {"type": "object"}

PRODUCT_OFFERED = _kind(
    "exchange.product-offered",
    "A product was put on offer",
    "产品已上架",
    ("product", "dataset", "offer", "policyHash", "priceHash", "termsHash", "rightsHash"),
    rehearsal=_text(),
)
PRODUCT_WITHDRAWN = _kind(
    "exchange.product-withdrawn", "A product was taken off the offer", "产品已下架", ("product", "dataset")
)
NEGOTIATION_MOVED = _kind(
    "exchange.negotiation-moved",
    "A contract negotiation changed its state",
    "合约协商状态变化",
    ("pid", "partner", "role", "state", "by", "message"),
    reason=_text(),
)
AGREEMENT_AMENDED = _kind(
    "exchange.agreement-amended",
    "A change or the end of an agreement was proposed or answered",
    "合约变更或终止的提议与答复",
    ("amendment", "agreement", "kind", "by", "state", "proposalHash", "signature"),
    proposal=_OBJECT,
    answer=_OBJECT,
)
AGREEMENT_MADE = _kind(
    "exchange.agreement-made",
    "An agreement was made",
    "合约已达成",
    ("agreement", "partner", "role", "dataset", "agreementHash", "policyHash"),
)
TRANSFER_MOVED = _kind(
    "exchange.transfer-moved",
    "A transfer changed its state",
    "传输状态变化",
    ("pid", "partner", "role", "agreement", "state", "by", "message"),
    reason=_text(),
)
DELIVERY_INTENDED = _kind(
    "exchange.delivery-intended",
    "A delivery is about to leave",
    "数据即将发出",
    ("record", "agreement", "transfer", "partner", "dataset", "format", "purpose"),
    seq=_COUNT,
)
DELIVERY_REFUSED = _kind(
    "exchange.delivery-refused",
    "A delivery was refused",
    "数据交付被拒绝",
    ("agreement", "transfer", "partner", "code"),
    reason=_text(),
)
USAGE_RECORDED = _kind(
    "exchange.usage-recorded",
    "A usage record was signed",
    "用量记录已签名",
    ("recordHash", "role", "partner", "state", "signature"),
    record=_OBJECT,
)
USAGE_COUNTERSIGNED = _kind(
    "exchange.usage-countersigned",
    "A usage record was answered by its consumer",
    "用量记录已由使用方回签",
    ("record", "agreement", "role", "partner", "state", "signature"),
    statement=_OBJECT,
)
QUERY_ANSWERED = _kind(
    "exchange.query-answered",
    "A query template was run, or refused",
    "查询模板已运行或被拒绝",
    ("job", "agreement", "partner", "template", "dataset", "snapshot", "parameters", "rule", "outcome"),
    answer=_text(),
    rows=_COUNT,
    bytes=_COUNT,
    suppressed=_COUNT,
)
TEMPLATE_APPROVED = _kind(
    "exchange.template-approved",
    "A query template was approved here",
    "查询模板已在本节点批准",
    ("template", "name", "version", "author", "signature"),
)
TEMPLATE_REFUSED = _kind(
    "exchange.template-refused",
    "A query template was refused",
    "查询模板被拒绝批准",
    ("template", "author", "what", "reason"),
)
TEMPLATE_WITHDRAWN = _kind(
    "exchange.template-withdrawn",
    "The approval of a query template was withdrawn",
    "查询模板的批准已撤销",
    ("template",),
)
COPY_MARKED = _kind(
    "exchange.copy-marked",
    "Copies under an agreement carry its fingerprint",
    "合约的交付副本带有指纹",
    ("agreement", "keyHash", "marking"),
)
STREAM_ACKNOWLEDGED = _kind(
    "exchange.stream-acknowledged",
    "The consumer of a stream signed how far it has it",
    "数据流的使用方已签名确认接收位置",
    ("transfer", "partner", "role", "signature"),
    acknowledgement=_OBJECT,
)
QUESTION_ANSWERED = _kind(
    "exchange.question-answered",
    "A partner's question was answered or refused",
    "伙伴的提问已答复或拒绝",
    ("agreement", "partner", "kind", "question", "answer", "outcome"),
)
DUTY_CONFIRMED = _kind(
    "exchange.duty-confirmed",
    "A duty of an agreement was said to be fulfilled",
    "合约义务已声明履行",
    ("agreement", "partner", "role", "duty", "by", "note", "at", "deadline"),
)
CREDENTIAL_STORED = _kind(
    "exchange.credential-stored",
    "A credential of ours was stored",
    "我方凭证已入库",
    ("issuer", "kind", "credentialHash"),
)
CREDENTIAL_ISSUED = _kind(
    "exchange.credential-issued", "A credential was issued", "凭证已签发", ("holder", "kind", "place")
)
CREDENTIAL_ENDED = _kind(
    "exchange.credential-ended",
    "A credential that was issued here was ended",
    "已签发的凭证被吊销",
    ("holder", "kind", "place"),
)
FLOW_MOVED = _kind(
    "exchange.flow-moved",
    "A data flow of another control plane changed its state",
    "其他控制面的数据流状态变化",
    ("flow", "process", "role", "partner", "dataset", "state", "by", "message"),
    reason=_text(),
)
SPACE_MADE = _kind("exchange.space-made", "A space was founded here", "在此发起了数据空间", ("issuer", "name", "kind"))
SPACE_JOINED = _kind("exchange.space-joined", "A space was joined", "已加入数据空间", ("issuer", "name", "kind"))
INVITATION_MADE = _kind(
    "exchange.invitation-made",
    "A one-time invitation was made",
    "已生成一次性邀请",
    ("invitation", "kind", "until"),
)
INVITATION_ENDED = _kind(
    "exchange.invitation-ended",
    "An invitation was used or withdrawn",
    "邀请已使用或撤回",
    ("invitation", "state", "by"),
)
MEMBER_ADMITTED = _kind(
    "exchange.member-admitted",
    "A company was admitted to the space",
    "企业已获准加入空间",
    ("holder", "name", "invitation"),
)
RELAY_NAMED = _kind(
    "exchange.relay-named",
    "A company's address is relayed here, its document as signed by it",
    "在此为企业中转其地址，身份文档由其签名",
    ("name", "did", "documentHash", "signature"),
)
RELAY_ENDED = _kind(
    "exchange.relay-ended", "A company's address is relayed no more", "不再中转该企业的地址", ("name", "did")
)

DEMAND_PUBLISHED = _kind(
    "exchange.demand-published", "A wanted dataset was published", "已发布数据需求", ("demand", "documentHash")
)
DEMAND_WITHDRAWN = _kind(
    "exchange.demand-withdrawn", "A wanted dataset is wanted no more", "数据需求已撤回", ("demand",)
)

ENTRY_KINDS: tuple[EntryKind, ...] = (
    AGREEMENT_AMENDED,
    AGREEMENT_MADE,
    COPY_MARKED,
    CREDENTIAL_ENDED,
    CREDENTIAL_ISSUED,
    CREDENTIAL_STORED,
    DELIVERY_INTENDED,
    DELIVERY_REFUSED,
    DEMAND_PUBLISHED,
    DEMAND_WITHDRAWN,
    DUTY_CONFIRMED,
    FLOW_MOVED,
    INVITATION_ENDED,
    INVITATION_MADE,
    MEMBER_ADMITTED,
    NEGOTIATION_MOVED,
    PRODUCT_OFFERED,
    PRODUCT_WITHDRAWN,
    QUERY_ANSWERED,
    QUESTION_ANSWERED,
    RELAY_ENDED,
    RELAY_NAMED,
    SPACE_JOINED,
    SPACE_MADE,
    TEMPLATE_APPROVED,
    TEMPLATE_REFUSED,
    TEMPLATE_WITHDRAWN,
    STREAM_ACKNOWLEDGED,
    TRANSFER_MOVED,
    USAGE_COUNTERSIGNED,
    USAGE_RECORDED,
    *guest_model.ENTRY_KINDS,
)
"""Every kind of entry this stage records."""
