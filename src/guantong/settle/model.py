"""Frozen values of settlement and the kinds of entries it records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guantong.base.entry import EntryKind

__all__ = [
    "AGREED",
    "DISPUTED",
    "ENTRY_KINDS",
    "EXPECTED",
    "INVOICE_AGREED",
    "INVOICE_DERIVED",
    "INVOICE_DISPUTED",
    "INVOICE_SENT",
    "ISSUED",
    "MAX_INVOICE_BYTES",
    "REPLACED",
    "STATES",
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

MAX_INVOICE_BYTES = 4 * 1024 * 1024
"""An invoice that a partner sends may be this long: about 15,000 receipts."""


@dataclass(frozen=True, slots=True)
class SettleSettings:
    """Settings of settlement."""

    number_prefix: str = "GT"
    """Invoice numbers are ``<prefix>-<year>-<six digits>``, counted for each participant without holes."""


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

ENTRY_KINDS = (INVOICE_AGREED, INVOICE_DERIVED, INVOICE_DISPUTED, INVOICE_SENT)
"""Kinds of entries of this room."""
