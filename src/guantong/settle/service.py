"""Settlement's shell: derives invoices from the participant's own receipts, signs them, trades them with the partner and compares.

The provider numbers and sends; the consumer derives the same debt from its own receipts before it signs. Nobody ever signs a figure
that it did not compute.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, select

from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.clock import Clock, parse_iso, to_datetime
from guantong.base.entry import Entry, EntryKind
from guantong.base.errors import Refused, Retryable, Skippable
from guantong.records import Edge, Message, Records, Step
from guantong.records.service import Row
from guantong.records.tables import COUNTERS
from guantong.settle import rules
from guantong.settle.model import (
    AGREED,
    DISPUTED,
    EXPECTED,
    INVOICE_AGREED,
    INVOICE_DERIVED,
    INVOICE_DISPUTED,
    INVOICE_SENT,
    ISSUED,
    REPLACED,
    RESOLVED,
    Invoice,
    SettleSettings,
    Terms,
)
from guantong.settle.ports import Partners, Receipts
from guantong.settle.signatures import checked_signature
from guantong.settle.tables import DISPUTES, INVOICES

__all__ = ["OUTBOX_KIND", "PATH", "Settle"]

OUTBOX_KIND = "settle.invoice"
"""Kind of the outbox message that carries an invoice to the consumer."""

PATH = "/guantong/invoices"
"""Partner extension endpoint; plain Dataspace Protocol peers ignore it."""

_NUMBERS = "settle.invoice-number"
_OPEN = (ISSUED, EXPECTED, AGREED, DISPUTED)
_EDGES_MAX = 500
_DIFFERENCES_MAX = 50


class Settle:
    """Invoices of the participants of this node."""

    def __init__(
        self,
        records: Records,
        receipts: Receipts,
        partners: Partners,
        clock: Clock,
        settings: SettleSettings | None = None,
    ) -> None:
        self.records = records
        self.receipts = receipts
        self.partners = partners
        self.clock = clock
        self.settings = settings or SettleSettings()
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def invoice(self, participant: str, agreement_id: str) -> Invoice:
        """Derive the invoice from this side's receipts and sign it; as the provider, number it and queue it for the partner.

        The same receipts give the same invoice, so that calling again changes nothing; a disputed one is sent again. New receipts make
        a new invoice of the whole agreement that replaces the earlier one.
        Raises Refused ``settle.nothing-to-invoice`` and what :func:`guantong.settle.rules.invoice` raises.
        """
        async with self._lock(participant, agreement_id):
            return await self._invoice(participant, agreement_id)

    async def _invoice(self, participant: str, agreement_id: str) -> Invoice:
        terms = await self.receipts.terms(participant, agreement_id)
        role, partner = _role(terms, participant)
        if role == "provider":
            await self.receipts.fall_silent(participant, agreement_id, self.settings.silent_after_s)
        ready = await self.ready(participant, terms)
        if not ready.records:
            raise Refused("settle.nothing-to-invoice", agreement=agreement_id, waiting=len(ready.left_out))
        rows = await self._rows(participant, agreement_id)
        taken = await self.records.counter(participant, _NUMBERS)
        now = self.clock.now()
        number = f"{self.settings.number_prefix}-{to_datetime(now).year}-{taken + 1:06d}" if role == "provider" else ""
        before = next((row for row in rows if row["state"] != REPLACED), None)
        document = self._derive(terms, ready, number, now, before["number"] or None if before else None)
        debt = rules.basis(document)
        if before is not None and before["basis"] == debt:
            if before["state"] == DISPUTED and role == "provider":
                await self._send_again(participant, before)
            return await self._one(participant, agreement_id, debt)
        async with self.records.step(participant) as step:
            if role == "provider":
                _claim_number(step, participant, taken)
            for row in rows:
                if row["state"] != REPLACED:
                    key = {"agreement_id": agreement_id, "basis": row["basis"]}
                    step.move(INVOICES, key, REPLACED, was=str(row["state"]))
            self._put(
                step,
                terms,
                role,
                partner,
                ISSUED if role == "provider" else EXPECTED,
                document,
                [self.sign(participant, document)],
                left_out=ready.left_out,
            )
            step.record(_entry(INVOICE_DERIVED, role, partner, document))
            _link(step, document)
            if role == "provider":
                step.send(
                    Message(_lane(partner), OUTBOX_KIND, f"{number}/0", {"agreementId": agreement_id, "basis": debt})
                )
        return await self._one(participant, agreement_id, debt)

    async def preview(self, participant: str, agreement_id: str) -> dict[str, Any]:
        """The invoice as it would be now; nothing is recorded, and no receipt yet gives an invoice over zero."""
        terms = await self.receipts.terms(participant, agreement_id)
        ready = await self.ready(participant, terms)
        return self._derive(terms, ready, "", self.clock.now(), None)

    async def ready(self, participant: str, terms: Terms) -> rules.Countable:
        """What of an agreement counts by now, with disputes that both sides have resolved."""
        resolved = [str(one["recordId"]) for one in await self.resolutions(participant, terms.agreement_id)]
        return rules.countable(
            await self.receipts.usage(participant, terms.agreement_id),
            resolved=resolved,
            silence=str(terms.plan.get("silence", "waits")),
        )

    async def resolutions(self, participant: str, agreement_id: str) -> list[dict[str, Any]]:
        """What both sides have signed about disputed receipts of an agreement."""
        rows = await self.records.rows(
            select(DISPUTES.c.resolution).where(
                DISPUTES.c.participant == participant,
                DISPUTES.c.agreement_id == agreement_id,
                DISPUTES.c.state == RESOLVED,
            )
        )
        return [orjson.loads(row["resolution"]) for row in rows]

    async def invoices(self, participant: str, agreement_id: str | None = None) -> list[Invoice]:
        """Invoices, newest first; replaced ones stay in the list."""
        return [_invoice(row) for row in await self._rows(participant, agreement_id)]

    async def disputes(self, participant: str) -> list[Invoice]:
        """Invoices on which the sides differ, with the receipts named."""
        return [found for found in await self.invoices(participant) if found.state == DISPUTED]

    async def totals(self, participant: str) -> dict[str, dict[str, str]]:
        """``{role: {state currency: sum}}`` as ``{"provider agreed": {"CNY": "12.00"}}``; currencies are never added to each other."""
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for found in await self.invoices(participant):
            if found.state != REPLACED:
                groups.setdefault(f"{found.role} {found.state}", []).append(found.document)
        return {name: rules.totals(documents) for name, documents in sorted(groups.items())}

    async def deliver(self, participant: str, message: Message, attempt: int = 1) -> None:
        """Hand one queued invoice to the consumer and take its answer: the outbox's sender of :data:`OUTBOX_KIND`.

        Raises Retryable ``settle.partner-busy`` and Refused ``settle.partner-refused`` (a plain connector has no such endpoint: the
        invoice stays issued).
        """
        row = await self._row(participant, str(message.payload["agreementId"]), str(message.payload["basis"]))
        if row["state"] not in (ISSUED, DISPUTED):
            return
        partner = str(row["partner"])
        document = orjson.loads(row["document"])
        signatures = orjson.loads(row["signatures"])
        status, answer = await self.partners.post(
            participant, partner, PATH, {"invoice": document, "signature": signatures[0]}
        )
        if status in (408, 409, 425, 429) or status >= 500:
            raise Retryable("settle.partner-busy", partner=partner, status=status)
        if status != 200 or answer.get("verdict") not in (AGREED, DISPUTED):
            raise Refused("settle.partner-refused", partner=partner, status=status, answer=str(answer.get("code", "")))
        theirs = document if answer["verdict"] == AGREED else answer.get("invoice")
        if not isinstance(theirs, dict):
            raise Refused("settle.partner-refused", partner=partner, status=status, answer="no invoice in the dispute")
        signature = await checked_signature(self.partners, partner, theirs, answer.get("signature"))
        key = {"agreement_id": row["agreement_id"], "basis": row["basis"]}
        async with self.records.step(participant) as step:
            if row["state"] == ISSUED:
                step.record(_entry(INVOICE_SENT, "provider", partner, document))
            if answer["verdict"] == AGREED:
                both = canonical_bytes([signatures[0], signature])
                step.move(
                    INVOICES,
                    key,
                    AGREED,
                    was=(ISSUED, DISPUTED),
                    signatures=both,
                    differences=b"[]",
                    partner_document=None,
                )
                step.record(_entry(INVOICE_AGREED, "provider", partner, document, partnerSignature=signature["value"]))
                return
            found = rules.differences(document, theirs) or [
                {"receipt": "", "why": "partner-disputes", "mine": rules.basis(document), "theirs": rules.basis(theirs)}
            ]
            step.move(
                INVOICES,
                key,
                DISPUTED,
                was=(ISSUED, DISPUTED),
                differences=canonical_bytes(found),
                partner_document=canonical_bytes(theirs),
            )
            if canonical_bytes(found) != row["differences"]:
                step.record(_disputed("provider", partner, document, found))

    async def receive(self, participant: str, partner: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take the provider's signed invoice, derive our own from our own receipts, and answer.

        partner: the verified DID of the caller. Returns ``{verdict: agreed, signature}`` or ``{verdict: disputed, invoice, signature,
        differences}``. A repeated message gets the same answer.
        Raises Skippable ``settle.invoice-unusable``, Refused ``base.signature-bad`` and ``settle.not-a-party``.
        """
        theirs = body.get("invoice")
        if not isinstance(theirs, Mapping) or theirs.get("type") != "invoice" or theirs.get("v") != 1:
            raise Skippable("settle.invoice-unusable", reason="it is not an invoice of version 1")
        agreement_id, number = theirs.get("agreementId"), theirs.get("number")
        if not isinstance(agreement_id, str) or not isinstance(number, str) or not 0 < len(number) <= 64:
            raise Skippable("settle.invoice-unusable", reason="agreementId or number is missing")
        receipts = theirs.get("receipts")
        if not isinstance(receipts, list) or not all(isinstance(row, Mapping) and "id" in row for row in receipts):
            raise Skippable("settle.invoice-unusable", reason="it does not name its receipts")
        signature = await checked_signature(self.partners, partner, theirs, body.get("signature"))
        terms = await self.receipts.terms(participant, agreement_id)
        if terms.provider != partner or terms.consumer != participant:
            raise Refused("settle.not-a-party", agreement=agreement_id, partner=partner)
        async with self._lock(participant, agreement_id):
            return await self._judge(participant, partner, terms, theirs, signature)

    async def _judge(
        self,
        participant: str,
        partner: str,
        terms: Terms,
        theirs: Mapping[str, Any],
        signature: dict[str, Any],
    ) -> dict[str, Any]:
        agreement_id, number = terms.agreement_id, str(theirs["number"])
        replaces = theirs.get("replaces")
        ready = await self.ready(participant, terms)
        mine = self._derive(
            terms,
            ready,
            number,
            parse_iso(str(theirs.get("issuedAt", ""))),
            replaces if isinstance(replaces, str) else None,
        )
        same = canonical_bytes(mine) == canonical_bytes(dict(theirs))
        own = self.sign(participant, mine)
        found = [] if same else rules.differences(mine, theirs)
        if not same and not found:
            found = [{"receipt": "", "why": "envelope-differs", "mine": digest(mine), "theirs": digest(dict(theirs))}]
        debt = rules.basis(mine)
        known = await self._rows(participant, agreement_id)
        held = next((row for row in known if row["basis"] == debt), None)
        state = AGREED if same else DISPUTED
        repeated = (
            held is not None
            and held["state"] == state
            and held["document"] == canonical_bytes(mine)
            and held["differences"] == canonical_bytes(found)
        )
        if not repeated:
            async with self.records.step(participant) as step:
                for row in known:
                    if row["state"] in _OPEN and row["basis"] != debt:
                        key = {"agreement_id": agreement_id, "basis": row["basis"]}
                        step.move(INVOICES, key, REPLACED, was=str(row["state"]))
                self._put(
                    step,
                    terms,
                    "consumer",
                    partner,
                    state,
                    mine,
                    [signature, own] if same else [own],
                    left_out=ready.left_out,
                    differences=found,
                    theirs=None if same else dict(theirs),
                )
                if same:
                    step.record(_entry(INVOICE_AGREED, "consumer", partner, mine, partnerSignature=signature["value"]))
                else:
                    step.record(_disputed("consumer", partner, mine, found))
                _link(step, mine)
        if same:
            return {"verdict": AGREED, "signature": own}
        return {
            "verdict": DISPUTED,
            "invoice": mine,
            "signature": own,
            "differences": found[:_DIFFERENCES_MAX],
            "differenceCount": len(found),
        }

    def _lock(self, participant: str, agreement_id: str) -> asyncio.Lock:
        # our own derivation and the partner's invoice may come at once: the later one must see what the earlier one wrote
        key = (participant, agreement_id)
        lock = self._locks.get(key)
        if lock is None:
            self._locks[key] = lock = asyncio.Lock()
        return lock

    def _derive(
        self, terms: Terms, ready: rules.Countable, number: str, issued_at: int, replaces: str | None
    ) -> dict[str, Any]:
        return rules.invoice(
            rules.PricePlan.parse(terms.plan),
            ready.records,
            number=number,
            issued_at=issued_at,
            one_sided=ready.one_sided,
            replaces=replaces,
            agreement_id=terms.agreement_id,
            provider=terms.provider,
            consumer=terms.consumer,
        )

    def sign(self, participant: str, document: Mapping[str, Any]) -> dict[str, str]:
        """The participant's signature of a document: Ed25519 over its canonical bytes."""
        key = self.partners.evidence_key(participant)
        return {
            "by": participant,
            "key": f"{participant}#evidence",
            "algorithm": "Ed25519",
            "value": b64(key.sign(canonical_bytes(dict(document)))),
        }

    def _put(
        self,
        step: Step,
        terms: Terms,
        role: str,
        partner: str,
        state: str,
        document: dict[str, Any],
        signatures: Sequence[Mapping[str, str]],
        *,
        left_out: Sequence[tuple[str, str]],
        differences: Sequence[Mapping[str, str]] = (),
        theirs: Mapping[str, Any] | None = None,
    ) -> None:
        step.upsert(
            INVOICES,
            agreement_id=terms.agreement_id,
            basis=rules.basis(document),
            role=role,
            partner=partner,
            state=state,
            number=document["number"],
            currency=document["currency"],
            total=document["total"],
            document=canonical_bytes(document),
            signatures=canonical_bytes(list(signatures)),
            differences=canonical_bytes(list(differences)),
            partner_document=None if theirs is None else canonical_bytes(dict(theirs)),
            left_out=canonical_bytes([list(pair) for pair in left_out]),
            created_at=step.at,
            changed_at=step.at,
        )

    async def _send_again(self, participant: str, row: Row) -> None:
        attempt = await self.records.counter(participant, f"settle.resent/{row['number']}")
        async with self.records.step(participant) as step:
            step.count(f"settle.resent/{row['number']}")
            payload = {"agreementId": row["agreement_id"], "basis": row["basis"]}
            step.send(Message(_lane(str(row["partner"])), OUTBOX_KIND, f"{row['number']}/{attempt + 1}", payload))

    async def _rows(self, participant: str, agreement_id: str | None) -> list[Row]:
        statement = select(INVOICES).where(INVOICES.c.participant == participant)
        if agreement_id is not None:
            statement = statement.where(INVOICES.c.agreement_id == agreement_id)
        return await self.records.rows(statement.order_by(INVOICES.c.changed_at.desc(), INVOICES.c.number.desc()))

    async def _row(self, participant: str, agreement_id: str, basis: str) -> Row:
        found = await self.records.row(
            select(INVOICES).where(
                INVOICES.c.participant == participant,
                INVOICES.c.agreement_id == agreement_id,
                INVOICES.c.basis == basis,
            )
        )
        if found is None:
            raise Refused("settle.invoice-unknown", agreement=agreement_id)
        return found

    async def _one(self, participant: str, agreement_id: str, basis: str) -> Invoice:
        return _invoice(await self._row(participant, agreement_id, basis))


def _lane(partner: str) -> str:
    # apart from the protocol's lanes, so that a partner without invoices holds up no negotiation
    return f"{partner} {OUTBOX_KIND}"


def _role(terms: Terms, participant: str) -> tuple[str, str]:
    if participant == terms.provider:
        return "provider", terms.consumer
    if participant == terms.consumer:
        return "consumer", terms.provider
    raise Refused("settle.not-a-party", agreement=terms.agreement_id, partner=participant)


def _claim_number(step: Step, participant: str, taken: int) -> None:
    # the number was read before the step: whoever commits second reads anew, so that numbers have no holes and no twins
    def check(connection: Connection) -> None:
        where = (COUNTERS.c.participant == participant) & (COUNTERS.c.name == _NUMBERS)
        if (connection.execute(select(COUNTERS.c.value).where(where)).scalar() or 0) != taken:
            raise Retryable("records.conflict", table="counters", key=_NUMBERS, expected=taken)

    step.apply(check)
    step.count(_NUMBERS)


def _entry(kind: EntryKind, role: str, partner: str, document: Mapping[str, Any], **extra: Any) -> Entry:
    return Entry(
        kind,
        {
            "agreementId": document["agreementId"],
            "number": document["number"],
            "role": role,
            "partner": partner,
            "currency": document["currency"],
            "total": document["total"],
            "invoice": digest(dict(document)),
            "planHash": document["planHash"],
            "recordsRoot": document["recordsRoot"],
            "count": document["count"],
            **extra,
        },
    )


def _disputed(role: str, partner: str, document: Mapping[str, Any], found: Sequence[Mapping[str, str]]) -> Entry:
    return _entry(
        INVOICE_DISPUTED,
        role,
        partner,
        document,
        differences=[{name: str(value)[:255] for name, value in row.items()} for row in found[:_DIFFERENCES_MAX]],
        differenceCount=len(found),
    )


def _link(step: Step, document: Mapping[str, Any]) -> None:
    target = f"settle:invoice:{document['number'] or rules.basis(document)}"
    edges = [Edge(f"exchange:agreement:{document['agreementId']}", target, "invoiced")]
    edges += [Edge(f"exchange:receipt:{row['id']}", target, "invoiced") for row in document["receipts"][:_EDGES_MAX]]
    step.link(*edges)


def _invoice(row: Row) -> Invoice:
    return Invoice(
        participant=row["participant"],
        agreement_id=row["agreement_id"],
        role=row["role"],
        state=row["state"],
        number=row["number"],
        currency=row["currency"],
        total=row["total"],
        basis=row["basis"],
        document=orjson.loads(row["document"]),
        signatures=tuple(orjson.loads(row["signatures"])),
        differences=tuple(orjson.loads(row["differences"])),
        partner_document=None if row["partner_document"] is None else orjson.loads(row["partner_document"]),
        left_out=tuple((str(identity), str(reason)) for identity, reason in orjson.loads(row["left_out"])),
        changed_at=row["changed_at"],
    )
