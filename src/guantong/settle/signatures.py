"""Checking a partner's signature of a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guantong.base.canonical import b64, canonical_bytes, unb64
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import verify_ed25519
from guantong.settle.ports import Partners

__all__ = ["checked_signature"]


async def checked_signature(partners: Partners, partner: str, document: Any, signature: Any) -> dict[str, str]:
    """A partner's signature once it is verified: Ed25519 over the document's canonical bytes, with the key of its DID document.

    Raises Skippable ``settle.invoice-unusable``, Refused ``base.signature-bad``.
    """
    if not isinstance(document, Mapping) or not isinstance(signature, Mapping):
        raise Skippable("settle.invoice-unusable", reason="the document or its signature is missing")
    try:
        value = unb64(str(signature.get("value", "")))
    except ValueError as error:
        raise Refused("base.signature-bad", signer=partner) from error
    public = await partners.partner_key(partner)
    if signature.get("by") != partner or not verify_ed25519(public, canonical_bytes(dict(document)), value):
        raise Refused("base.signature-bad", signer=partner)
    return {"by": partner, "key": f"{partner}#evidence", "algorithm": "Ed25519", "value": b64(value)}
