"""Pure decisions about receipts, for both sides and for strangers who verify them: no I/O, and nothing but ``base``.

A usage record is one canonical JSON text (RFC 8785). The provider signs it; the consumer signs a statement that names the record and the
provider's signature by their digests, what it counted itself, and its verdict. A countersignature can't be moved to another record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guantong.base.canonical import canonical_bytes, digest, sha256, unb64
from guantong.base.errors import Skippable
from guantong.base.keys import verify_ed25519

__all__ = ["CONTENT_ALGORITHM", "receipt_state", "signature_digest", "statement_of", "verify_receipt"]

CONTENT_ALGORITHM = "sha256-rfc6962"
"""Root over the delivered body cut into blocks of ``blockBytes`` (the last may be shorter), leaves and nodes as in RFC 6962, 2.1."""

_RECORD_MEMBERS = frozenset(
    [
        "v",
        "type",
        "recordId",
        "agreementId",
        "agreementHash",
        "policyHash",
        "assetId",
        "assetVersion",
        "transferProcessId",
        "consumerProcessId",
        "seq",
        "provider",
        "consumer",
        "from",
        "to",
        "unit",
        "quantity",
        "rows",
        "bytes",
        "complete",
        "purpose",
        "contentAlg",
        "blockBytes",
        "contentRoot",
        "chunkCount",
        "prev",
        "meterSource",
        "clock",
        "salt",
    ]
)


def signature_digest(signature: str) -> str:
    """How a statement names the provider's signature: digest of its 64 bytes."""
    return "sha256:" + sha256(unb64(signature)).hex()


def statement_of(
    record: Mapping[str, Any], signature: str, counted: Mapping[str, Any] | None, *, consumer: str, at: str
) -> dict[str, Any]:
    """The consumer's statement on a record: accepted where its own count is equal, disputed with the difference named."""
    verdict, reason = "accept", ""
    if counted is None:
        verdict, reason = "dispute", "no such delivery was received"
    else:
        differing = [name for name in ("rows", "bytes", "contentRoot") if counted.get(name) != record.get(name)]
        if differing:
            verdict, reason = "dispute", "counted otherwise: " + ", ".join(differing)
    return {
        "v": 1,
        "type": "usage-statement",
        "recordId": record["recordId"],
        "record": digest(dict(record)),
        "providerSig": signature_digest(signature),
        "consumer": consumer,
        "counted": dict(counted or {}),
        "verdict": verdict,
        "reason": reason,
        "at": at,
    }


def receipt_state(countersignature: Mapping[str, Any]) -> str:
    """``acknowledged`` or ``disputed`` by the verdict, ``offered`` where there is none yet."""
    statement = countersignature.get("statement")
    if not isinstance(statement, Mapping):
        return "offered"
    return "acknowledged" if statement.get("verdict") == "accept" else "disputed"


def record_problems(record: Mapping[str, Any]) -> list[str]:
    """What is wrong with the form of a usage record."""
    found = [f"{name} is missing" for name in sorted(_RECORD_MEMBERS - set(record))]
    found += [f"{name} is not a member of a usage record" for name in sorted(set(record) - _RECORD_MEMBERS)]
    if record.get("v") != 1 or record.get("type") != "usage":
        found.append("it is not a usage record of version 1")
    for name in ("seq", "rows", "bytes", "chunkCount", "blockBytes"):
        value = record.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            found.append(f"{name} is not a whole number")
    return found


def verify_receipt(
    record: Mapping[str, Any],
    provider_sig: str,
    countersignature: Mapping[str, Any] | None,
    provider_key: bytes,
    consumer_key: bytes | None,
) -> list[str]:
    """Everything that is wrong with a receipt, empty where it holds.

    record: the usage record · provider_sig: base64, 64 bytes · countersignature: ``{statement, signature}`` or None for a one-sided
    receipt · keys: Ed25519, 32 bytes, from outside the receipt. A dispute that is rightly signed is no problem of the receipt.
    """
    found = record_problems(record)
    try:
        signed = canonical_bytes(dict(record))
        signature = unb64(provider_sig)
    except (Skippable, ValueError):
        return [*found, "the record or its signature can't be read"]
    if not verify_ed25519(provider_key, signed, signature):
        found.append("the provider's signature does not match")
    if not countersignature:
        return found
    statement, consumer_sig = countersignature.get("statement"), countersignature.get("signature")
    if not isinstance(statement, Mapping) or not isinstance(consumer_sig, str) or consumer_key is None:
        return [*found, "the countersignature can't be checked"]
    try:
        stated = canonical_bytes(dict(statement))
        countersigned = unb64(consumer_sig)
    except (Skippable, ValueError):
        return [*found, "the countersignature can't be read"]
    if not verify_ed25519(consumer_key, stated, countersigned):
        found.append("the consumer's signature does not match")
    if statement.get("record") != digest(dict(record)):
        found.append("the consumer signed another record")
    if statement.get("providerSig") != signature_digest(provider_sig):
        found.append("the consumer signed another signature of the provider")
    if statement.get("consumer") != record.get("consumer"):
        found.append("the statement is by another consumer")
    if statement.get("verdict") == "accept":
        counted = statement.get("counted")
        if not isinstance(counted, Mapping) or any(
            counted.get(name) != record.get(name) for name in ("rows", "bytes", "contentRoot")
        ):
            found.append("the consumer accepted what it did not count")
    elif statement.get("verdict") != "dispute":
        found.append("the statement has no verdict")
    return found
