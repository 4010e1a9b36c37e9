"""What settlement needs from earlier rooms; ``node.py`` wires it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from guantong.base.keys import Ed25519Key
from guantong.settle.model import Terms

__all__ = ["Partners", "Receipts"]


class Receipts(Protocol):
    """The participant's own receipts and the terms of its agreements; exchange holds both."""

    async def usage(self, participant: str, agreement_id: str) -> list[dict[str, Any]]:
        """Receipts of an agreement: ``{record, providerSignature, countersignature | None, state}`` with state ``countersigned``,
        ``one-sided``, ``offered``, ``silent`` or ``disputed``. ``record`` is the usage record as signed.
        """
        ...

    async def fall_silent(self, participant: str, agreement_id: str, older_than_s: float) -> Sequence[str]:
        """Note that own receipts which nobody answered for so long are silent; their record ids."""
        ...

    async def blocks(self, participant: str, record_id: str) -> Sequence[bytes]:
        """Leaf hashes of the blocks of a delivery as this side counted them."""
        ...

    async def terms(self, participant: str, agreement_id: str) -> Terms:
        """The agreement's parties and price plan. Refused with exchange's own code where there is no such agreement."""
        ...


class Partners(Protocol):
    """Identity and the way to the partner."""

    def evidence_key(self, participant: str) -> Ed25519Key:
        """The participant's own evidence key."""
        ...

    async def partner_key(self, did: str) -> bytes:
        """Public evidence key (Ed25519, 32 bytes) from the partner's DID document. Retryable where it can't be had now."""
        ...

    async def ask(self, participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the partner of a final agreement a question; the body of its answer."""
        ...

    async def post(
        self, participant: str, partner: str, path: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """POST JSON to ``path`` of the partner's node with a self-issued token; status and JSON answer (``{}`` where it is none)."""
        ...
