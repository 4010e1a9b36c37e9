"""Frozen values of settlement and the kinds of entries it records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guantong.base.entry import EntryKind
from guantong.base.identifiers import check_particulars

__all__ = [
    "AGREED",
    "BISECT",
    "CREDIT_NOTE",
    "DISPUTED",
    "DISPUTE_LOCATED",
    "DISPUTE_RESOLVED",
    "ENTRY_KINDS",
    "EXPECTED",
    "INVOICE_AGREED",
    "INVOICE_DERIVED",
    "INVOICE_DISPUTED",
    "INVOICE_SENT",
    "ISSUED",
    "LOCATED",
    "MAX_INVOICE_BYTES",
    "NETTED",
    "NOTE_AGREED",
    "PROPOSED",
    "REPLACED",
    "RESOLVE",
    "RESOLVED",
    "STATES",
    "TELL",
    "CreditNote",
    "Dispute",
    "Invoice",
    "SettleSettings",
    "Terms",
]

ISSUED, EXPECTED, AGREED, DISPUTED, REPLACED = "issued", "expected", "agreed", "disputed", "replaced"

STATES: Mapping[str, tuple[str, str]] = {
    ISSUED: ("Issued, waiting for the partner", "已开出，待对方确认"),
    EXPECTED: ("Derived here, the partner's invoice is not in yet", "本方已算出，尚未收到对方账单"),
    AGREED: ("Both sides derived and signed the same", "双方得出一致结果并已签名"),
    DISPUTED: ("The sides differ", "双方结果不一致，存在争议"),
    REPLACED: ("Replaced by a later invoice", "已被后续账单取代"),
}
"""States of an invoice with their names. The provider's goes issued → agreed | disputed, the consumer's expected → agreed | disputed;
a later invoice of the same agreement makes any of them replaced."""

LOCATED, PROPOSED, RESOLVED = "located", "proposed", "resolved"
"""States of a dispute: its block is named · one side has proposed what is owed · both have signed it."""

BISECT, TELL, RESOLVE, CREDIT_NOTE = "settle.bisect", "settle.dispute", "settle.resolve", "settle.credit-note"
"""Kinds of the questions between partners: halves of a stretch of blocks · the block that differs · a proposal · a note to sign."""

MAX_INVOICE_BYTES = 4 * 1024 * 1024
"""An invoice that a partner sends may be this long: about 15,000 receipts."""


@dataclass(frozen=True, slots=True)
class SettleSettings:
    """Settings of settlement."""

    number_prefix: str = "GT"
    """Invoice numbers are ``<prefix>-<year>-<six digits>``, counted for each participant without holes."""
    silent_after_s: float = 86_400.0
    """A receipt that the consumer has not answered for so long is silent when an invoice is made."""
    country: str = "CN"
    """Country of the own company on papers, ISO 3166-1 alpha-2."""
    registration: str = ""
    """Registration number of the own company on papers: in China the unified social credit code."""
    tax_number: str = ""
    """Tax number of the own company on papers."""
    address: str = ""
    """Street and number of the own company on papers."""
    city: str = ""
    """City of the own company on papers."""
    zip: str = ""
    """Postal code of the own company on papers."""

    def __post_init__(self) -> None:
        check_particulars(self.country, self.registration, self.tax_number)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the agreement says that settlement needs."""

    agreement_id: str
    provider: str
    """DID of the provider."""
    consumer: str
    """DID of the consumer."""
    plan: Mapping[str, Any]
    """Price plan as JSON (:meth:`guantong.settle.rules.PricePlan.parse`), as both sides agreed on it."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as one participant holds it."""

    participant: str
    agreement_id: str
    role: str
    """``provider`` or ``consumer``."""
    state: str
    """One of :data:`STATES`."""
    number: str
    """The provider's number; empty while the consumer has only its own derivation."""
    currency: str
    total: str
    """Decimal text."""
    basis: str
    """Digest of the debt without its envelope: equal on both sides when they agree."""
    document: Mapping[str, Any]
    """The invoice (:func:`guantong.settle.rules.invoice`)."""
    signatures: tuple[Mapping[str, str], ...]
    """``{by, key, algorithm, value}``: Ed25519 over the document's canonical bytes, value in base64."""
    differences: tuple[Mapping[str, str], ...]
    """``{receipt, why, mine, theirs}`` of a dispute."""
    partner_document: Mapping[str, Any] | None
    """What the partner derived, in a dispute."""
    left_out: tuple[tuple[str, str], ...]
    """Receipts that do not count yet, with the reason."""
    changed_at: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """A disputed receipt once its first differing block is known."""

    record_id: str
    agreement_id: str
    role: str
    partner: str
    state: str
    """:data:`LOCATED`, :data:`PROPOSED` or :data:`RESOLVED`."""
    block: int
    """Index of the first block that differs."""
    statement: Mapping[str, Any]
    """The consumer's statement (:func:`guantong.settle.dispute.located`)."""
    resolution: Mapping[str, Any] | None
    """What is owed (:func:`guantong.settle.dispute.resolution`)."""
    signatures: Mapping[str, Any]
    """``{statement: [...], resolution: [...]}``."""
    changed_at: int


@dataclass(frozen=True, slots=True)
class CreditNote:
    """A credit note as one participant holds it."""

    agreement_id: str
    role: str
    state: str
    """``issued`` or ``agreed``."""
    number: str
    invoice: str
    currency: str
    total: str
    document: Mapping[str, Any]
    signatures: tuple[Mapping[str, str], ...]
    changed_at: int


def _kind(name: str, en: str, zh: str, extra: Mapping[str, Any] | None = None) -> EntryKind:
    text = {"type": "string", "maxLength": 255}
    properties: dict[str, Any] = {
        "agreementId": text,
        "number": text,
        "role": {"enum": ["provider", "consumer"]},
        "partner": text,
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "total": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        "invoice": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "planHash": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "recordsRoot": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "count": {"type": "integer", "minimum": 0},
        **(extra or {}),
    }
    return EntryKind(
        name,
        en,
        zh,
        {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False},
    )


_DIFFERENCES = {
    "differences": {
        "type": "array",
        "maxItems": 50,
        "items": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("receipt", "why", "mine", "theirs")},
            "required": ["receipt", "why", "mine", "theirs"],
            "additionalProperties": False,
        },
    },
    "differenceCount": {"type": "integer", "minimum": 1},
}

INVOICE_DERIVED = _kind(
    "settle.invoice-derived", "An invoice was derived from receipts and signed", "已由回执算出账单并签名"
)
INVOICE_SENT = _kind("settle.invoice-sent", "An invoice was handed to the partner", "账单已送达对方")
INVOICE_AGREED = _kind(
    "settle.invoice-agreed",
    "Both sides derived and signed the same invoice",
    "双方得出同一账单并均已签名",
    {"partnerSignature": {"type": "string", "maxLength": 100}},
)
INVOICE_DISPUTED = _kind(
    "settle.invoice-disputed",
    "The sides derived different invoices; the differing receipts are named",
    "双方得出的账单不同，已指明有差异的回执",
    _DIFFERENCES,
)


def _plain_kind(name: str, en: str, zh: str, properties: Mapping[str, Any]) -> EntryKind:
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": sorted(properties),
        "additionalProperties": False,
    }
    return EntryKind(name, en, zh, schema)


_TEXT: Mapping[str, Any] = {"type": "string", "maxLength": 255}
_HASH: Mapping[str, Any] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_PARTIES: Mapping[str, Any] = {"agreementId": _TEXT, "role": {"enum": ["provider", "consumer"]}, "partner": _TEXT}

DISPUTE_LOCATED = _plain_kind(
    "settle.dispute-located",
    "A disputed delivery was narrowed down to the first block that differs",
    "有争议的交付已定位到首个不同的数据块",
    {
        **_PARTIES,
        "recordId": _TEXT,
        "record": _HASH,
        "block": _COUNT,
        "blocks": _COUNT,
        "messages": _COUNT,
        "statement": _HASH,
    },
)
DISPUTE_RESOLVED = _plain_kind(
    "settle.dispute-resolved",
    "Both sides signed what is owed for a disputed delivery",
    "双方已就有争议的交付签署应付数量",
    {
        **_PARTIES,
        "recordId": _TEXT,
        "record": _HASH,
        "rows": _COUNT,
        "bytes": _COUNT,
        "resolution": _HASH,
        "partnerSignature": _TEXT,
    },
)
NOTE_AGREED = _plain_kind(
    "settle.credit-note-agreed",
    "Both sides derived and signed the same credit note",
    "双方得出同一红字账单并均已签名",
    {
        **_PARTIES,
        "number": _TEXT,
        "invoice": _TEXT,
        "currency": _TEXT,
        "total": _TEXT,
        "note": _HASH,
        "partnerSignature": _TEXT,
    },
)
NETTED = _plain_kind(
    "settle.netted",
    "Obligations were set off against each other; the certificate proves that no more could be",
    "债务已相互抵销，证书可证明已达最大抵销额",
    {
        "currency": _TEXT,
        "obligations": _COUNT,
        "gross": _TEXT,
        "cancelled": _TEXT,
        "inputRoot": _HASH,
        "outputRoot": _HASH,
        "certificate": _HASH,
        "solver": _TEXT,
        "version": _TEXT,
    },
)

ENTRY_KINDS = (
    DISPUTE_LOCATED,
    DISPUTE_RESOLVED,
    INVOICE_AGREED,
    INVOICE_DERIVED,
    INVOICE_DISPUTED,
    INVOICE_SENT,
    NETTED,
    NOTE_AGREED,
)
"""Kinds of entries of this room."""
