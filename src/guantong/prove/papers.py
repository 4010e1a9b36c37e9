"""The papers of an agreement for a package, taken from the exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from guantong.exchange.model import Agreement, Receipt
from guantong.prove import rules

if TYPE_CHECKING:
    from guantong.prove.service import Prove

__all__ = ["Contracts", "ExchangePapers", "proof_of"]


class Contracts(Protocol):
    """The part of ``exchange.service.Exchange`` that knows agreements and receipts."""

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        """The agreement; Refused or Skippable where there is none."""
        ...

    async def receipts(self, participant: str, agreement_id: str) -> list[Receipt]:
        """Its receipts."""
        ...


class ExchangePapers:
    """A :class:`guantong.prove.ports.PackageSource` over the exchange."""

    def __init__(self, exchange: Contracts) -> None:
        self._exchange = exchange

    async def documents(self, participant: str, agreement_id: str) -> Mapping[str, bytes]:
        """``agreement.json`` and one file a receipt, in the order of transfer and sequence."""
        agreement = await self._exchange.agreement(participant, agreement_id)
        found = {
            rules.AGREEMENT_PATH: rules.agreement_paper(
                agreement.agreement, price=agreement.price, terms=agreement.terms
            )
        }
        receipts = sorted(
            await self._exchange.receipts(participant, agreement_id), key=lambda item: (item.transfer_pid, item.seq)
        )
        for number, receipt in enumerate(receipts, 1):
            found[f"receipts/{number:06d}.json"] = rules.receipt_paper(
                receipt.record,
                signature=receipt.signature,
                countersignature=receipt.countersignature,
                state=receipt.state,
            )
        return found


async def proof_of(prove: Prove, participant: str, leaf: int) -> tuple[str, str]:
    """The proof of a leaf under the newest checkpoint as text (tlog-proof), and the log's verifier key."""
    await prove.catch_up(participant)
    proof = await prove.inclusion(participant, leaf)
    return proof.to_bytes().decode(), str(prove.keys_of(participant)[0])
