"""Settlement's shell for disputes: the consumer narrows a disputed delivery down to one block, both sides sign what is owed, and a
credit note gives back the rest. The invoice waits until then. Everything is in both sides' evidence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64, canonical_bytes, digest, unb64
from guantong.base.clock import Clock, iso
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Skippable
from guantong.base.merkle import HASH_BYTES
from guantong.exchange.model import Answer, Question
from guantong.records import Edge, Records
from guantong.records.service import Row
from guantong.settle import dispute
from guantong.settle.model import (
    AGREED,
    BISECT,
    DISPUTE_LOCATED,
    DISPUTE_RESOLVED,
    ISSUED,
    LOCATED,
    PROPOSED,
    RESOLVE,
    RESOLVED,
    TELL,
    Dispute,
    Terms,
)
from guantong.settle.notes import Notes
from guantong.settle.signatures import checked_signature
from guantong.settle.tables import DISPUTES

if TYPE_CHECKING:
    from guantong.settle.service import Settle

__all__ = ["Disputes"]


class Disputes:
    """Disputes and credit notes of the participants of this node; exchange's ``Answerer`` of the four kinds of question."""

    def __init__(self, settle: Settle) -> None:
        self.settle = settle
        self.records: Records = settle.records
        self.clock: Clock = settle.clock
        self.notes = Notes(settle)

    # ---- the consumer's side: which block

    async def narrow(self, participant: str, agreement_id: str, record_id: str) -> Dispute:
        """Find the first block that differs, one message for each halving, and tell the provider; repeating gives what was found.

        Raises Refused ``settle.no-dispute`` where the receipt is not disputed, ``settle.dispute-forged`` where the provider's answers
        contradict its signed root.
        """
        known = await self._row(participant, record_id)
        if known is not None:
            return _dispute(known)
        terms, receipt = await self._receipt(participant, agreement_id, record_id)
        if terms.consumer != participant:
            raise Refused("settle.not-a-party", agreement=agreement_id, partner=participant)
        record = receipt["record"]
        if str(receipt["state"]).lower() != "disputed":
            raise Refused("settle.no-dispute", record=record_id, state=receipt["state"])
        mine = await self.settle.receipts.blocks(participant, record_id)
        stretch = dispute.begin(record)
        messages = 0
        while stretch.end - stretch.start > 1:
            answer = await self.settle.partners.ask(
                participant,
                agreement_id,
                BISECT,
                {"recordId": record_id, "start": stretch.start, "end": stretch.end},
            )
            messages += 1
            stretch = dispute.narrowed(mine, stretch, _hash(answer, "left"), _hash(answer, "right"))
        counter = receipt["countersignature"] or {}
        statement = dispute.located(
            record,
            stretch,
            mine,
            counter.get("statement") or {},
            messages=messages,
            consumer=participant,
            at=iso(self.clock.now(), digits=6),
        )
        signature = self.settle.sign(participant, statement)
        answer = await self.settle.partners.ask(
            participant, agreement_id, TELL, {"statement": statement, "signature": signature}
        )
        theirs = await checked_signature(self.settle.partners, terms.provider, statement, answer.get("signature"))
        return await self._located(participant, terms, "consumer", statement, [signature, theirs])

    async def disputes(self, participant: str, agreement_id: str | None = None) -> list[Dispute]:
        """Disputes, newest first."""
        where = DISPUTES.c.participant == participant
        if agreement_id is not None:
            where = and_(where, DISPUTES.c.agreement_id == agreement_id)
        rows = await self.records.rows(select(DISPUTES).where(where).order_by(DISPUTES.c.changed_at.desc()))
        return [_dispute(row) for row in rows]

    async def enclosures(self, participant: str, agreement_id: str) -> dict[str, bytes]:
        """What goes into an agreement's package beside receipts: signed invoices, credit notes and disputes, by path, canonical.

        An invoice that a later one replaced goes along where a credit note names it, so that the note can be derived again.
        """
        found = {}
        notes = [one for one in await self.notes.notes(participant, agreement_id) if one.state == AGREED]
        credited = {note.invoice for note in notes}
        for number, invoice in enumerate(await self.settle.invoices(participant, agreement_id), 1):
            if invoice.state in (AGREED, ISSUED) or (invoice.number and invoice.number in credited):
                found[f"invoices/{number:04d}.json"] = canonical_bytes(
                    {"document": dict(invoice.document), "signatures": [dict(one) for one in invoice.signatures]}
                )
        for number, note in enumerate(notes, 1):
            found[f"credit-notes/{number:04d}.json"] = canonical_bytes(
                {"document": dict(note.document), "signatures": [dict(one) for one in note.signatures]}
            )
        for number, one in enumerate(await self.disputes(participant, agreement_id), 1):
            found[f"disputes/{number:04d}.json"] = canonical_bytes(
                {"statement": dict(one.statement), "resolution": one.resolution, "signatures": dict(one.signatures)}
            )
        return found

    # ---- both sides: what is owed

    async def propose(
        self, participant: str, agreement_id: str, record_id: str, *, rows: int, size: int, reason: str
    ) -> Dispute:
        """Propose what is owed for a disputed delivery and send it to the other side, which signs it at once where it is what it counted
        itself; otherwise it waits there for a person (:meth:`accept`).
        """
        row = await self._known(participant, record_id)
        terms, receipt = await self._receipt(participant, agreement_id, record_id)
        if row["state"] == RESOLVED:
            return _dispute(row)
        record = receipt["record"]
        if not 0 <= rows <= int(record["rows"]) or size < 0:
            raise Refused(
                "settle.proposal-refused", record=record_id, reason="more than the record states, or less than nothing"
            )
        document = dispute.resolution(
            record, rows=rows, size=size, reason=reason[:500], by=participant, at=iso(self.clock.now(), digits=6)
        )
        signature = self.settle.sign(participant, document)
        await self._proposed(participant, row, document, [signature])
        answer = await self.settle.partners.ask(
            participant, agreement_id, RESOLVE, {"resolution": document, "signature": signature}
        )
        if answer.get("accepted") is not True:
            return _dispute(await self._known(participant, record_id))
        theirs = await checked_signature(self.settle.partners, str(row["partner"]), document, answer.get("signature"))
        return await self._resolved(participant, terms, row, document, [signature, theirs])

    async def accept(self, participant: str, agreement_id: str, record_id: str) -> Dispute:
        """Sign what the other side proposed."""
        row = await self._known(participant, record_id)
        terms, _ = await self._receipt(participant, agreement_id, record_id)
        if row["state"] != PROPOSED or row["resolution"] is None:
            raise Refused("settle.no-dispute", record=record_id, state=row["state"])
        document = orjson.loads(row["resolution"])
        (theirs,) = orjson.loads(row["signatures"])["resolution"]
        if theirs["by"] == participant:
            raise Refused(
                "settle.proposal-refused", record=record_id, reason="it is our own proposal: the other side signs it"
            )
        mine = self.settle.sign(participant, document)
        answer = await self.settle.partners.ask(
            participant, agreement_id, RESOLVE, {"resolution": document, "signature": mine, "accepts": True}
        )
        if answer.get("accepted") is not True:
            raise Refused("settle.proposal-refused", record=record_id, reason="the other side no longer stands by it")
        return await self._resolved(participant, terms, row, document, [theirs, mine])

    # ---- answering

    async def answer(self, participant: str, question: Question) -> Answer:
        """Answer a partner's question under an agreement."""
        answers: dict[str, Callable[[str, Question], Awaitable[dict[str, Any]]]] = {
            BISECT: self._bisect,
            TELL: self._told,
            RESOLVE: self._asked_to_resolve,
        }
        handle = answers.get(question.kind, self.notes.asked_to_sign)
        try:
            return Answer(await handle(participant, question))
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(
                "settle.proposal-refused", record="–", reason=f"it is of another form ({type(error).__name__})"
            ) from error
        except Skippable as error:
            raise Refused("settle.proposal-refused", record="–", reason=error.message()) from error

    async def _bisect(self, participant: str, question: Question) -> dict[str, Any]:
        body = question.body
        _, receipt = await self._receipt(participant, question.agreement.id, str(body["recordId"]))
        if receipt["record"]["provider"] != participant:
            raise Refused("settle.not-a-party", agreement=question.agreement.id, partner=question.partner)
        blocks = await self.settle.receipts.blocks(participant, str(body["recordId"]))
        left, right = dispute.halves(blocks, (int(body["start"]), int(body["end"])))
        return {"left": b64(left), "right": b64(right)}

    async def _told(self, participant: str, question: Question) -> dict[str, Any]:
        statement, signature = question.body["statement"], question.body["signature"]
        record_id = str(statement["recordId"])
        terms, receipt = await self._receipt(participant, question.agreement.id, record_id)
        theirs = await checked_signature(self.settle.partners, question.partner, statement, signature)
        blocks = await self.settle.receipts.blocks(participant, record_id)
        block = int(statement["block"])
        if (
            statement["record"] != digest(dict(receipt["record"]))
            or statement["agreementId"] != question.agreement.id
            or statement["consumer"] != question.partner
            or not 0 <= block < len(blocks)
            or blocks[block].hex() != statement["providerHash"]
            or statement["consumerHash"] == statement["providerHash"]
        ):
            raise Refused("settle.dispute-forged", reason="the statement does not fit what we delivered")
        mine = self.settle.sign(participant, statement)
        if await self._row(participant, record_id) is None:
            await self._located(participant, terms, "provider", statement, [theirs, mine])
        return {"signature": mine}

    async def _asked_to_resolve(self, participant: str, question: Question) -> dict[str, Any]:
        document, signature = question.body["resolution"], question.body["signature"]
        record_id = str(document["recordId"])
        row = await self._known(participant, record_id)
        terms, receipt = await self._receipt(participant, question.agreement.id, record_id)
        theirs = await checked_signature(self.settle.partners, question.partner, document, signature)
        if document["record"] != digest(dict(receipt["record"])) or document["agreementId"] != question.agreement.id:
            raise Refused("settle.proposal-refused", record=record_id, reason="it is about another record")
        if row["state"] == RESOLVED:
            # an answer that was lost is given again
            same = canonical_bytes(document) == bytes(row["resolution"] or b"")
            return (
                {"accepted": True, "signature": self.settle.sign(participant, document)}
                if same
                else {"accepted": False}
            )
        ours = None if row["resolution"] is None else orjson.loads(row["resolution"])
        if question.body.get("accepts") is True:
            if ours is None or canonical_bytes(ours) != canonical_bytes(document) or ours["by"] != participant:
                return {"accepted": False}
            mine = self.settle.sign(participant, document)
            await self._resolved(participant, terms, row, document, [mine, theirs])
            return {"accepted": True, "signature": mine}
        statement = orjson.loads(row["statement"])
        counted, agreed = statement["counted"], document["agreed"]
        if participant == terms.consumer and (agreed["rows"], agreed["bytes"]) == (
            counted.get("rows"),
            counted.get("bytes"),
        ):
            mine = self.settle.sign(participant, document)
            await self._resolved(participant, terms, row, document, [theirs, mine])
            return {"accepted": True, "signature": mine}
        await self._proposed(participant, row, document, [theirs])
        return {"accepted": False}

    # ---- inside

    async def _receipt(self, participant: str, agreement_id: str, record_id: str) -> tuple[Terms, dict[str, Any]]:
        terms = await self.settle.receipts.terms(participant, agreement_id)
        for one in await self.settle.receipts.usage(participant, agreement_id):
            if one["record"]["recordId"] == record_id:
                return terms, one
        raise Refused("settle.no-dispute", record=record_id[:200], state="unknown")

    async def _row(self, participant: str, record_id: str) -> Row | None:
        return await self.records.row(
            select(DISPUTES).where(and_(DISPUTES.c.participant == participant, DISPUTES.c.record_id == record_id))
        )

    async def _known(self, participant: str, record_id: str) -> Row:
        row = await self._row(participant, record_id)
        if row is None:
            raise Refused("settle.no-dispute", record=record_id[:200], state="not narrowed down")
        return row

    async def _located(
        self,
        participant: str,
        terms: Terms,
        role: str,
        statement: Mapping[str, Any],
        signatures: list[dict[str, str]],
    ) -> Dispute:
        partner = terms.provider if role == "consumer" else terms.consumer
        record_id = str(statement["recordId"])
        async with self.records.step(participant) as step:
            step.upsert(
                DISPUTES,
                record_id=record_id,
                agreement_id=terms.agreement_id,
                role=role,
                partner=partner,
                state=LOCATED,
                block=int(statement["block"]),
                statement=canonical_bytes(dict(statement)),
                resolution=None,
                signatures=canonical_bytes({"statement": signatures, "resolution": []}),
                changed_at=step.at,
            )
            step.record(
                Entry(
                    DISPUTE_LOCATED,
                    {
                        "agreementId": terms.agreement_id,
                        "role": role,
                        "partner": partner,
                        "recordId": record_id,
                        "record": statement["record"],
                        "block": statement["block"],
                        "blocks": statement["blocks"],
                        "messages": statement["messages"],
                        "statement": digest(dict(statement)),
                    },
                )
            )
            step.link(Edge(f"exchange:receipt:{record_id}", f"settle:dispute:{record_id}", "disputed"))
        return _dispute(await self._known(participant, record_id))

    async def _proposed(
        self, participant: str, row: Row, document: Mapping[str, Any], signatures: list[dict[str, str]]
    ) -> None:
        kept = orjson.loads(row["signatures"])
        async with self.records.step(participant) as step:
            step.update(
                DISPUTES,
                {"record_id": row["record_id"]},
                {
                    "state": PROPOSED,
                    "resolution": canonical_bytes(dict(document)),
                    "signatures": canonical_bytes({**kept, "resolution": signatures}),
                    "changed_at": step.at,
                },
                expect={"state": (LOCATED, PROPOSED)},
            )

    async def _resolved(
        self, participant: str, terms: Terms, row: Row, document: Mapping[str, Any], signatures: list[dict[str, str]]
    ) -> Dispute:
        kept = orjson.loads(row["signatures"])
        theirs = next(one for one in signatures if one["by"] != participant)
        record_id = str(row["record_id"])
        async with self.records.step(participant) as step:
            step.update(
                DISPUTES,
                {"record_id": record_id},
                {
                    "state": RESOLVED,
                    "resolution": canonical_bytes(dict(document)),
                    "signatures": canonical_bytes({**kept, "resolution": signatures}),
                    "changed_at": step.at,
                },
                expect={"state": (LOCATED, PROPOSED)},
            )
            step.record(
                Entry(
                    DISPUTE_RESOLVED,
                    {
                        "agreementId": terms.agreement_id,
                        "role": row["role"],
                        "partner": row["partner"],
                        "recordId": record_id,
                        "record": document["record"],
                        "rows": document["agreed"]["rows"],
                        "bytes": document["agreed"]["bytes"],
                        "resolution": digest(dict(document)),
                        "partnerSignature": theirs["value"],
                    },
                )
            )
        return _dispute(await self._known(participant, record_id))


def _hash(answer: Mapping[str, Any], name: str) -> bytes:
    try:
        found = unb64(str(answer.get(name, "")))
    except ValueError as error:
        raise Refused("settle.dispute-forged", reason="an answer holds no hash") from error
    if len(found) != HASH_BYTES:
        raise Refused("settle.dispute-forged", reason="an answer holds no hash")
    return found


def _dispute(row: Row) -> Dispute:
    return Dispute(
        record_id=row["record_id"],
        agreement_id=row["agreement_id"],
        role=row["role"],
        partner=row["partner"],
        state=row["state"],
        block=int(row["block"]),
        statement=orjson.loads(row["statement"]),
        resolution=None if row["resolution"] is None else orjson.loads(row["resolution"]),
        signatures=orjson.loads(row["signatures"]),
        changed_at=row["changed_at"],
    )
