"""Settlement's shell for credit notes: the provider derives and numbers one, the consumer derives the same and signs it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, and_, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import parse_iso, to_datetime
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable
from guantong.exchange.model import Question
from guantong.records import Edge
from guantong.records.service import Row
from guantong.records.tables import COUNTERS
from guantong.settle import credit
from guantong.settle.model import AGREED, CREDIT_NOTE, ISSUED, NOTE_AGREED, CreditNote, Terms
from guantong.settle.rules import PricePlan
from guantong.settle.signatures import checked_signature
from guantong.settle.tables import NOTES

if TYPE_CHECKING:
    from guantong.settle.service import Settle

__all__ = ["Notes"]

_NUMBERS = "settle.credit-number"
_ENVELOPE = ("issuedAt", "number")


class Notes:
    """Credit notes of the participants of this node."""

    def __init__(self, settle: Settle) -> None:
        self.settle = settle
        self.records = settle.records

    async def issue(self, participant: str, agreement_id: str, reason: str) -> CreditNote:
        """As the provider: derive the note of an agreement for ``dispute`` or ``service-level``, number it and have the consumer sign it.

        The same reason gives the same note. Raises Refused ``settle.nothing-to-credit``, ``settle.note-refused``.
        """
        terms = await self.settle.receipts.terms(participant, agreement_id)
        if terms.provider != participant:
            raise Refused("settle.not-a-party", agreement=agreement_id, partner=participant)
        now = self.settle.clock.now()
        invoice = await self._invoice(participant, agreement_id)
        taken = await self.records.counter(participant, _NUMBERS)
        number = f"{self.settle.settings.number_prefix}C-{to_datetime(now).year}-{taken + 1:06d}"
        document = await self._derive(participant, terms, reason, number, now, invoice)
        row = await self._row(participant, agreement_id, _basis(document))
        if row is None:
            await self._put(
                participant, terms, "provider", ISSUED, document, [self.settle.sign(participant, document)], taken
            )
            row = await self._row(participant, agreement_id, _basis(document))
            assert row is not None
        if row["state"] == AGREED:
            return _note(row)
        document, signatures = orjson.loads(row["document"]), orjson.loads(row["signatures"])
        answer = await self.settle.partners.ask(
            participant, agreement_id, CREDIT_NOTE, {"note": document, "signature": signatures[0]}
        )
        if answer.get("verdict") != AGREED:
            raise Refused("settle.note-refused", number=document["number"], reason=str(answer.get("reason", ""))[:300])
        theirs = await checked_signature(self.settle.partners, terms.consumer, document, answer.get("signature"))
        await self._put(participant, terms, "provider", AGREED, document, [signatures[0], theirs], None)
        found = await self._row(participant, agreement_id, _basis(document))
        assert found is not None
        return _note(found)

    async def notes(self, participant: str, agreement_id: str | None = None) -> list[CreditNote]:
        """Credit notes, newest first."""
        where = NOTES.c.participant == participant
        if agreement_id is not None:
            where = and_(where, NOTES.c.agreement_id == agreement_id)
        rows = await self.records.rows(select(NOTES).where(where).order_by(NOTES.c.changed_at.desc(), NOTES.c.number))
        return [_note(row) for row in rows]

    async def asked_to_sign(self, participant: str, question: Question) -> dict[str, Any]:
        """Derive the provider's note from our own receipts and resolutions, and sign it where it is the same."""
        theirs = question.body["note"]
        terms = await self.settle.receipts.terms(participant, question.agreement.id)
        if terms.provider != question.partner or terms.consumer != participant:
            raise Refused("settle.not-a-party", agreement=question.agreement.id, partner=question.partner)
        signature = await checked_signature(self.settle.partners, question.partner, theirs, question.body["signature"])
        try:
            mine = await self._derive(
                participant,
                terms,
                str(theirs["reason"]),
                str(theirs["number"])[:64],
                parse_iso(str(theirs["issuedAt"])),
                str(theirs["invoice"])[:64],
            )
        except Refused as error:
            return {"verdict": "disputed", "reason": error.message()}
        if canonical_bytes(mine) != canonical_bytes(dict(theirs)):
            return {"verdict": "disputed", "reason": f"we come to {mine['total']} {mine['currency']}", "note": mine}
        own = self.settle.sign(participant, mine)
        known = await self._row(participant, terms.agreement_id, _basis(mine))
        if known is None:
            await self._put(participant, terms, "consumer", AGREED, mine, [signature, own], None)
        return {"verdict": AGREED, "signature": own}

    # ---- inside

    async def _derive(
        self, participant: str, terms: Terms, reason: str, number: str, issued_at: int, invoice: str
    ) -> dict[str, Any]:
        plan = PricePlan.parse(terms.plan)
        ready = await self.settle.ready(participant, terms)
        records = ready.records
        for one in await self.settle.invoices(participant, terms.agreement_id):
            if one.number and one.number == invoice:  # what came after that invoice is no part of what is given back
                named = {str(row["id"]) for row in one.document["receipts"]}
                records = tuple(record for record in records if str(record["recordId"]) in named)
        parties = {"agreementId": terms.agreement_id, "provider": terms.provider, "consumer": terms.consumer}
        if reason == "service-level":
            return credit.for_service(
                plan, records, number=number, issued_at=issued_at, invoice_number=invoice, parties=parties
            )
        resolutions = await self.settle.resolutions(participant, terms.agreement_id)
        return credit.for_disputes(
            plan,
            records,
            [one for one in resolutions if str(one["recordId"]) in {str(record["recordId"]) for record in records}],
            number=number,
            issued_at=issued_at,
            invoice_number=invoice,
            parties=parties,
        )

    async def _invoice(self, participant: str, agreement_id: str) -> str:
        for one in await self.settle.invoices(participant, agreement_id):
            if one.state in (ISSUED, AGREED):
                return one.number
        raise Refused("settle.nothing-to-credit", agreement=agreement_id)

    async def _put(
        self,
        participant: str,
        terms: Terms,
        role: str,
        state: str,
        document: Mapping[str, Any],
        signatures: Sequence[Mapping[str, str]],
        taken: int | None,
    ) -> None:
        partner = terms.consumer if role == "provider" else terms.provider

        def check(connection: Connection) -> None:
            where = (COUNTERS.c.participant == participant) & (COUNTERS.c.name == _NUMBERS)
            if (connection.execute(select(COUNTERS.c.value).where(where)).scalar() or 0) != taken:
                raise Retryable("records.conflict", table="counters", key=_NUMBERS, expected=taken)

        async with self.records.step(participant) as step:
            if taken is not None:
                step.apply(check)
                step.count(_NUMBERS)
            step.upsert(
                NOTES,
                agreement_id=terms.agreement_id,
                basis=_basis(document),
                role=role,
                partner=partner,
                state=state,
                number=document["number"],
                invoice=document["invoice"],
                currency=document["currency"],
                total=document["total"],
                document=canonical_bytes(dict(document)),
                signatures=canonical_bytes([dict(one) for one in signatures]),
                changed_at=step.at,
            )
            if state == AGREED:
                theirs = next(one for one in signatures if one["by"] != participant)
                step.record(
                    Entry(
                        NOTE_AGREED,
                        {
                            "agreementId": terms.agreement_id,
                            "role": role,
                            "partner": partner,
                            "number": document["number"],
                            "invoice": document["invoice"],
                            "currency": document["currency"],
                            "total": document["total"],
                            "note": digest(dict(document)),
                            "partnerSignature": theirs["value"],
                        },
                    )
                )
                step.link(
                    Edge(
                        f"settle:invoice:{document['invoice']}", f"settle:credit-note:{document['number']}", "credited"
                    )
                )

    async def _row(self, participant: str, agreement_id: str, basis: str) -> Row | None:
        return await self.records.row(
            select(NOTES).where(
                and_(NOTES.c.participant == participant, NOTES.c.agreement_id == agreement_id, NOTES.c.basis == basis)
            )
        )


def _basis(document: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in document.items() if name not in _ENVELOPE})


def _note(row: Row) -> CreditNote:
    return CreditNote(
        agreement_id=row["agreement_id"],
        role=row["role"],
        state=row["state"],
        number=row["number"],
        invoice=row["invoice"],
        currency=row["currency"],
        total=row["total"],
        document=orjson.loads(row["document"]),
        signatures=tuple(orjson.loads(row["signatures"])),
        changed_at=row["changed_at"],
    )
