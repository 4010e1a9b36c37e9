"""Settlement's ports over the exchange: receipts, terms, keys and the way to the partner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from guantong.base.canonical import unb64url
from guantong.base.errors import Refused
from guantong.base.keys import Ed25519Key
from guantong.exchange.identity import public_key_of
from guantong.exchange.service import Exchange
from guantong.settle.model import MAX_INVOICE_BYTES, Terms

__all__ = ["ExchangePartners"]


class ExchangePartners:
    """Both ports of settlement, answered by the exchange of this node."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def usage(self, participant: str, agreement_id: str) -> list[dict[str, Any]]:
        """Receipts of the agreement, oldest first."""
        return [
            {
                "record": dict(receipt.record),
                "providerSignature": receipt.signature,
                "countersignature": dict(receipt.countersignature) or None,
                "state": receipt.state,
            }
            for receipt in await self._exchange.receipts(participant, agreement_id)
        ]

    async def fall_silent(self, participant: str, agreement_id: str, older_than_s: float) -> Sequence[str]:
        """Note silence on record."""
        return await self._exchange.receipting.fall_silent(participant, agreement_id, older_than_s)

    async def blocks(self, participant: str, record_id: str) -> Sequence[bytes]:
        """Leaf hashes of the blocks that this side counted."""
        return await self._exchange.receipting.blocks(participant, record_id)

    async def ask(self, participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the partner of the agreement."""
        return await self._exchange.ask(participant, agreement_id, kind, body)

    async def terms(self, participant: str, agreement_id: str) -> Terms:
        """Parties and price plan of the agreement. Raises Refused ``exchange.agreement-unknown``."""
        agreement = await self._exchange.agreement(participant, agreement_id)
        if agreement.role == "provider":
            return Terms(agreement.id, participant, agreement.partner, agreement.price)
        return Terms(agreement.id, agreement.partner, participant, agreement.price)

    def evidence_key(self, participant: str) -> Ed25519Key:
        """The participant's own evidence key."""
        return self._exchange.hosting.hosted(participant).identity.evidence_key

    async def partner_key(self, did: str) -> bytes:
        """The evidence key in the partner's DID document. Raises Retryable where the document can't be had, Refused
        ``base.signature-bad`` where it names no Ed25519 key.
        """
        jwk = public_key_of(await self._exchange.hosting.resolver.document(did), f"{did}#evidence")
        if jwk is None or jwk.get("crv") != "Ed25519":
            raise Refused("base.signature-bad", signer=did)
        try:
            return unb64url(str(jwk.get("x", "")))
        except ValueError as error:
            raise Refused("base.signature-bad", signer=did) from error

    async def post(
        self, participant: str, partner: str, path: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """POST with our token to the partner's extension; status 404 where the partner is a plain connector."""
        root = await self._exchange.hosting.partner_extension(partner)
        if not root:
            return 404, {}
        response = await self._exchange.hosting.request(
            participant, partner, "POST", root + path, body, max_bytes=2 * MAX_INVOICE_BYTES
        )
        try:
            answer = orjson.loads(response.body or b"{}")
        except orjson.JSONDecodeError:
            answer = {}
        return response.status, answer if isinstance(answer, dict) else {}
