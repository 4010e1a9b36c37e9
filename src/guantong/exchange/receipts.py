"""Usage receipts: the provider's signed record of each delivery, the consumer's countersignature, and the exchange of both.

Opposite a connector without our extension a receipt is ``one-sided`` and marked so.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64, canonical_bytes, digest, sha256, unb64url
from guantong.base.clock import NS, iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.merkle import HASH_BYTES, Frontier, leaf_hash
from guantong.exchange.hosting import RECEIPT_KIND, Hosting, verdict_of
from guantong.exchange.identity import public_key_of
from guantong.exchange.model import (
    USAGE_COUNTERSIGNED,
    USAGE_RECORDED,
    Agreement,
    Participant,
    Receipt,
    Transfer,
)
from guantong.exchange.negotiations import Negotiations
from guantong.exchange.rules import CONTENT_ALGORITHM, receipt_state, record_problems, statement_of, verify_receipt
from guantong.exchange.tables import BLOCKS, PULLS, RECEIPTS
from guantong.exchange.transfers import Transfers, counted_by_consumer
from guantong.records.model import Edge, Message
from guantong.records.service import Row, Step

_RECEIPT = tuple(column.name for column in RECEIPTS.c)

__all__ = ["Counting", "Receipts", "receipt_of"]


Former = Callable[[str, str], Awaitable[set[str]]]
"""``(participant, agreement)`` to the hashes of the texts it had before."""


async def _never(participant: str, agreement_id: str) -> set[str]:
    return set()


class Counting:
    """Counts a body as it passes: bytes, and the root over its blocks. Both sides count with it."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self.rows = 0
        self.bytes = 0
        self._tree = Frontier()
        self._open = bytearray()
        self._hashes = bytearray()

    def add(self, data: bytes) -> None:
        """Count a piece of the body."""
        self.bytes += len(data)
        size = self.block_bytes
        view = memoryview(data)
        if self._open:
            missing = size - len(self._open)
            self._open += view[:missing]
            view = view[missing:]
            if len(self._open) < size:
                return
            self._close(bytes(self._open))
            self._open.clear()
        while len(view) >= size:
            self._close(bytes(view[:size]))
            view = view[size:]
        self._open += view

    def _close(self, block: bytes) -> None:
        hashed = leaf_hash(block)
        self._tree.append(hashed)
        self._hashes += hashed

    def hashes(self) -> bytes:
        """Leaf hashes of the blocks, 32 bytes each: what a dispute is narrowed down by."""
        return bytes(self._hashes) + (leaf_hash(bytes(self._open)) if self._open else b"")

    def counted(self) -> dict[str, Any]:
        """Rows, bytes and root so far."""
        tree = self._tree.copy()
        if self._open:
            tree.append(leaf_hash(bytes(self._open)))
        return {"rows": self.rows, "bytes": self.bytes, "contentRoot": "sha256:" + tree.root().hex()}

    @property
    def blocks(self) -> int:
        """Number of blocks so far."""
        return -(-self.bytes // self.block_bytes)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that has ended."""

    record_id: str
    started_at: int
    purpose: str
    unit: str
    complete: bool
    counting: Counting
    countable: bool = True
    """Whether the consumer's own node can have counted it; a machine's client that took it can't."""


class Receipts:
    """Makes, offers, answers and keeps receipts."""

    def __init__(self, hosting: Hosting, negotiations: Negotiations, transfers: Transfers) -> None:
        self.hosting = hosting
        self._negotiations = negotiations
        self._transfers = transfers
        self.former: Former = _never
        """What an agreement was before it was amended."""
        self.coming: Former = _never
        """What an agreement would be by a proposal of ours that is not answered yet."""
        self._last: dict[tuple[str, str], tuple[int, str]] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._pulling: dict[tuple[str, str], asyncio.Future[Mapping[str, Any]]] = {}
        self._arriving: set[tuple[str, str]] = set()
        """Deliveries that have begun here and are not counted yet."""
        self._answering: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    # -- provider

    async def delivered(
        self, participant: str, transfer: Transfer, agreement: Agreement, delivery: Delivery
    ) -> Receipt:
        """Sign the record of a delivery and queue its offer to the consumer, unless the data went where the consumer can't count."""
        state = "offered" if delivery.countable and counted_by_consumer(transfer) else "one-sided"
        return await self._make(participant, transfer, agreement, delivery, state=state)

    async def delivering(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        delivery: Delivery,
        *,
        first: bool,
        beside: Callable[[Step], None],
    ) -> Receipt:
        """As :meth:`delivered`, for a delivery that is about to leave in one piece; ``beside``: what is written in the same step, before
        it. ``first``: there was none under the agreement before.
        """
        state = "offered" if delivery.countable and counted_by_consumer(transfer) else "one-sided"
        return await self._make(participant, transfer, agreement, delivery, state=state, first=first, beside=beside)

    async def _make(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        delivery: Delivery,
        *,
        state: str,
        first: bool = False,
        beside: Callable[[Step], None] | None = None,
    ) -> Receipt:
        hosting = self.hosting
        identity = hosting.hosted(participant).identity
        lock = self._locks.get((participant, transfer.pid)) or asyncio.Lock()
        self._locks[(participant, transfer.pid)] = lock
        async with lock:
            seq, prev = (0, "") if first else await self._previous(participant, transfer.pid)
            async with hosting.records.step(participant) as step:
                if beside is not None:
                    beside(step)
                provider, consumer = (
                    (participant, transfer.partner) if transfer.role == "provider" else (transfer.partner, participant)
                )
                record: dict[str, Any] = {
                    "v": 1,
                    "type": "usage",
                    "recordId": delivery.record_id,
                    "agreementId": agreement.id,
                    "agreementHash": agreement.agreement_hash,
                    "policyHash": agreement.policy_hash,
                    "assetId": agreement.dataset_id,
                    "assetVersion": "1",
                    "transferProcessId": transfer.provider_pid,
                    "consumerProcessId": transfer.consumer_pid,
                    "seq": seq + 1,
                    "provider": provider,
                    "consumer": consumer,
                    "from": iso(delivery.started_at, digits=6),
                    "to": iso(step.at, digits=6),
                    "unit": delivery.unit,
                    "quantity": str(delivery.counting.rows),
                    **delivery.counting.counted(),
                    "complete": delivery.complete,
                    "purpose": delivery.purpose,
                    "contentAlg": CONTENT_ALGORITHM,
                    "blockBytes": delivery.counting.block_bytes,
                    "chunkCount": delivery.counting.blocks,
                    "prev": prev,
                    "meterSource": identity.evidence_kid,
                    "clock": "system",
                    "salt": b64(hosting.records.random(16)),
                }
                signed = canonical_bytes(record)
                record_hash = "sha256:" + sha256(signed).hex()
                signature = b64(identity.evidence_key.sign(signed))
                receipt = Receipt(
                    record_id=delivery.record_id,
                    agreement_id=agreement.id,
                    transfer_pid=transfer.pid,
                    seq=seq + 1,
                    role=transfer.role,
                    partner=transfer.partner,
                    state=state,
                    record=record,
                    signature=signature,
                    countersignature={},
                    recorded_at=step.at,
                )
                self._insert(step, receipt, record_hash)
                step.upsert(BLOCKS, record_id=delivery.record_id, hashes=delivery.counting.hashes(), at=step.at)
                if state == "offered":
                    step.send(
                        Message(
                            lane=f"{transfer.partner} receipts {transfer.pid}",
                            kind=RECEIPT_KIND,
                            key=delivery.record_id,
                            payload={"record": record, "signature": signature, "partner": transfer.partner},
                        )
                    )
            self._last.pop((participant, transfer.pid), None)
            self._last[(participant, transfer.pid)] = (seq + 1, record_hash)
            if len(self._last) > hosting.settings.process_cache:
                del self._last[next(iter(self._last))]
        hosting.changed(participant, f"receipts {agreement.id}", receipt.state)
        return receipt

    async def carry(self, participant: str, message: Message, attempt: int) -> None:
        """Sender of the outbox: offer a record to the consumer and take its answer."""
        hosting = self.hosting
        partner = str(message.payload["partner"])
        root = await hosting.partner_extension(partner)
        if not root:
            await self._answered(participant, message, "one-sided", {})
            return
        response = await hosting.request(
            participant,
            partner,
            "POST",
            f"{root}/guantong/receipts",
            {"record": message.payload["record"], "signature": message.payload["signature"]},
        )
        verdict_of(response.status, attempt, first=False, partner=partner, message="usage record")
        try:
            answer = orjson.loads(response.body)
        except orjson.JSONDecodeError as error:
            raise _unusable(partner, response.status, "it is not JSON") from error
        countersignature = {"statement": answer.get("statement"), "signature": answer.get("signature")}
        found = verify_receipt(
            message.payload["record"],
            message.payload["signature"],
            countersignature,
            hosting.hosted(participant).identity.evidence_key.public,
            await self.evidence_key(partner),
        )
        if found:
            raise _unusable(partner, response.status, "; ".join(found))
        await self._answered(participant, message, receipt_state(countersignature), countersignature)

    async def _answered(
        self, participant: str, message: Message, state: str, countersignature: Mapping[str, Any]
    ) -> None:
        record_id, partner = message.key, str(message.payload["partner"])
        agreement_id = str(message.payload["record"]["agreementId"])
        try:
            async with self.hosting.records.step(participant) as step:
                step.update(
                    RECEIPTS,
                    {"record_id": record_id},
                    {"state": state, "countersignature": orjson.dumps(dict(countersignature))},
                    expect={"state": ("offered", "silent")},
                )
                self._record_answer(step, record_id, agreement_id, "provider", partner, state, countersignature)
        except Retryable as error:
            if error.code != "records.conflict":
                raise
            return  # answered before: the offer was repeated after a restart
        self.hosting.changed(participant, f"receipts {agreement_id}", state)

    async def unanswered(self, participant: str, agreement_id: str) -> int:
        """Blocks that were delivered under an agreement and not answered yet: what is lost if the consumer never signs again."""
        rows = await self.hosting.records.rows(
            select(RECEIPTS.c.record).where(
                and_(
                    RECEIPTS.c.participant == participant,
                    RECEIPTS.c.agreement_id == agreement_id,
                    RECEIPTS.c.state.in_(("offered", "silent")),
                )
            )
        )
        return sum(int(orjson.loads(row["record"])["chunkCount"]) for row in rows)

    async def fall_silent(self, participant: str, agreement_id: str, older_than_s: float) -> list[str]:
        """Note that receipts which nobody answered for so long are silent; silence is on record, and a late answer still counts.

        Returns their record ids. What silence means the contract says (price plan, ``silence``).
        """
        limit = self.hosting.clock.now() - int(older_than_s * NS)
        found = [
            receipt
            for receipt in await self.list(participant, agreement_id)
            if receipt.state == "offered" and receipt.role == "provider" and receipt.recorded_at <= limit
        ]
        for receipt in found:
            async with self.hosting.records.step(participant) as step:
                step.update(
                    RECEIPTS, {"record_id": receipt.record_id}, {"state": "silent"}, expect={"state": "offered"}
                )
                self._record_answer(step, receipt.record_id, agreement_id, "provider", receipt.partner, "silent", {})
        return [receipt.record_id for receipt in found]

    # -- consumer

    def begin(self, participant: str, record_id: str) -> None:
        """A delivery with a provider's record begins to arrive."""
        self._pulling.setdefault((participant, record_id), asyncio.get_running_loop().create_future())
        self._arriving.add((participant, record_id))

    async def received(self, participant: str, transfer: Transfer, record_id: str, counting: Counting) -> None:
        """What we counted of a delivery, made durable before any receipt is answered."""
        counted = counting.counted()
        async with self.hosting.records.step(participant) as step:
            step.upsert(
                PULLS, record_id=record_id, transfer_pid=transfer.pid, counted=orjson.dumps(counted), at=step.at
            )
            step.upsert(BLOCKS, record_id=record_id, hashes=counting.hashes(), at=step.at)
        self._arriving.discard((participant, record_id))
        future = self._pulling.pop((participant, record_id), None)
        if future is not None and not future.done():
            future.set_result(counted)

    async def received_plain(
        self, participant: str, transfer: Transfer, agreement: Agreement, delivery: Delivery
    ) -> None:
        """A delivery of a provider without records: our own one-sided record of it."""
        await self._make(participant, transfer, agreement, delivery, state="one-sided")

    async def answer(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A provider's offered record: check it, compare it with our count, countersign. The same record gets the same answer."""
        record, signature = body.get("record"), body.get("signature")
        if not isinstance(record, dict) or not isinstance(signature, str):
            raise _bad("record and signature are missing")
        found = record_problems(record)
        if found:
            raise _bad("; ".join(found))
        name = (participant, f"{caller.did} {record['recordId']}")
        lock = self._answering.get(name)
        if lock is None:
            lock = self._answering[name] = asyncio.Lock()
        # the offer may come again while we wait for our own count: one is answered, the other is told the same
        async with lock:
            return await self._answer(participant, caller, record, signature)

    async def _answer(
        self, participant: str, caller: Participant, record: dict[str, Any], signature: str
    ) -> Mapping[str, Any]:
        hosting = self.hosting
        if record["provider"] != caller.did or record["consumer"] != participant:
            raise _bad("it is between other participants")
        known = await self._known(participant, str(record["recordId"]))
        if known is not None:
            if digest(dict(known.record)) != digest(record):
                raise _bad("another record has this identifier")
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
            return known.countersignature
        agreement = await self._negotiations.agreement(participant, str(record["agreementId"]))
        if agreement.role != "consumer" or agreement.partner != caller.did:
            raise Refused("exchange.agreement-unknown", agreement=str(record["agreementId"])[:200])
        if (
            record["agreementHash"] != agreement.agreement_hash or record["policyHash"] != agreement.policy_hash
        ) and record["agreementHash"] not in await self.former(participant, agreement.id):
            if record["agreementHash"] in await self.coming(participant, agreement.id):
                # the provider has accepted our amendment and its word is on the way: the record comes again
                raise Retryable("exchange.wait-ended", pid=str(record["recordId"]), wanted="amended", state="proposed")
            raise _bad("it names another text of the agreement")
        transfer = await self._transfers.processes.of_caller(participant, str(record["consumerProcessId"]), caller)
        if transfer.agreement_id != agreement.id or transfer.role != "consumer":
            raise _bad("the transfer belongs to another agreement")
        found = verify_receipt(record, signature, None, await self.evidence_key(caller.did), None)
        if found:
            raise _bad("; ".join(found))
        counted = await self._count_of(participant, str(record["recordId"]))
        identity = hosting.hosted(participant).identity
        async with hosting.records.step(participant) as step:
            hosting.tokens.remember(step, caller)
            statement = statement_of(record, signature, counted, consumer=participant, at=iso(step.at, digits=6))
            countersignature = {
                "statement": statement,
                "signature": b64(identity.evidence_key.sign(canonical_bytes(statement))),
            }
            state = receipt_state(countersignature)
            self._insert(
                step,
                Receipt(
                    record_id=str(record["recordId"]),
                    agreement_id=agreement.id,
                    transfer_pid=transfer.pid,
                    seq=int(record["seq"]),
                    role="consumer",
                    partner=caller.did,
                    state=state,
                    record=record,
                    signature=signature,
                    countersignature=countersignature,
                    recorded_at=step.at,
                ),
                str(statement["record"]),
            )
            self._record_answer(
                step, str(record["recordId"]), agreement.id, "consumer", caller.did, state, countersignature
            )
        hosting.changed(participant, f"receipts {agreement.id}", state)
        return countersignature

    # -- both

    async def list(self, participant: str, agreement_id: str) -> list[Receipt]:
        """Receipts of an agreement, oldest first."""
        rows = await self.hosting.records.rows(
            select(RECEIPTS)
            .where(and_(RECEIPTS.c.participant == participant, RECEIPTS.c.agreement_id == agreement_id))
            .order_by(RECEIPTS.c.recorded_at, RECEIPTS.c.seq)
        )
        return [receipt_of(row) for row in rows]

    async def _known(self, participant: str, record_id: str) -> Receipt | None:
        row = await self.hosting.records.find(RECEIPTS, _RECEIPT, participant=participant, record_id=record_id)
        return receipt_of(row) if row else None

    async def _count_of(self, participant: str, record_id: str) -> Mapping[str, Any] | None:
        # the record may overtake the last bytes, or even the first: wait for our own count. The place to wait is taken before the table
        # is read, or a count that became durable in between would wake nobody
        name = (participant, record_id)
        future = self._pulling.setdefault(name, asyncio.get_running_loop().create_future())
        if future.done():
            return future.result()
        row = await self.hosting.records.find(PULLS, ("counted",), participant=participant, record_id=record_id)
        if row:
            if self._pulling.get(name) is future:
                del self._pulling[name]
            return dict(orjson.loads(row["counted"]))
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.hosting.settings.receipt_wait_s)
        except TimeoutError:
            if (
                name in self._arriving
            ):  # it is on its way and not counted yet: no reason to dispute it, the record comes again
                raise Retryable("exchange.wait-ended", pid=record_id, wanted="counted", state="arriving") from None
            if self._pulling.get(name) is future:
                del self._pulling[name]
            return None

    async def _previous(self, participant: str, transfer_pid: str) -> tuple[int, str]:
        kept = self._last.get((participant, transfer_pid))
        if kept is not None:
            return kept
        row = await self.hosting.records.row(
            select(RECEIPTS.c.seq, RECEIPTS.c.record)
            .where(and_(RECEIPTS.c.participant == participant, RECEIPTS.c.transfer_pid == transfer_pid))
            .order_by(RECEIPTS.c.seq.desc())
            .limit(1)
        )
        return (row["seq"], digest(orjson.loads(row["record"]))) if row else (0, "")

    async def blocks(self, participant: str, record_id: str) -> tuple[bytes, ...]:
        """Leaf hashes of the blocks of a delivery as this side counted them; empty where it counted none."""
        row = await self.hosting.records.row(
            select(BLOCKS.c.hashes).where(and_(BLOCKS.c.participant == participant, BLOCKS.c.record_id == record_id))
        )
        data = b"" if row is None else bytes(row["hashes"])
        return tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))

    async def verify(self, participant: str, agreement_id: str) -> tuple[str, ...]:
        """Everything that is wrong with the receipts of an agreement, each checked anew with both parties' keys."""
        identity = self.hosting.hosted(participant).identity
        former = [unb64url(one.jwk["x"]) for one in identity.retired if one.name.startswith("evidence-")]
        own = [identity.evidence_key.public, *former]
        found: tuple[str, ...] = ()
        for receipt in await self.list(participant, agreement_id):
            partner = [await self.evidence_key(receipt.partner), *await self._former_keys(receipt.partner)]
            providers, consumers = (own, partner) if receipt.role == "provider" else (partner, own)
            record, countersignature = dict(receipt.record), dict(receipt.countersignature)
            # a receipt of before a rotation was signed with the keys of then
            tried = [
                verify_receipt(record, receipt.signature, countersignature or None, one, other)
                for one in providers
                for other in consumers
            ]
            if all(tried):
                found += tuple(f"{receipt.record_id}: {problem}" for problem in tried[0])
        return found

    async def _former_keys(self, partner: str) -> tuple[bytes, ...]:
        document = await self.hosting.resolver.document(partner)
        names = [str(one.get("id")) for one in document.get("verificationMethod") or () if isinstance(one, dict)]
        jwks = [public_key_of(document, name) for name in names if "#evidence-" in name]
        return tuple(unb64url(str(jwk["x"])) for jwk in jwks if jwk is not None and jwk.get("crv") == "Ed25519")

    async def evidence_key(self, partner: str) -> bytes:
        """The partner's evidence key, from its DID document. Raises Refused ``exchange.receipt-bad``."""
        try:
            document = await self.hosting.resolver.document(partner)
            jwk = public_key_of(document, "#evidence")
            if jwk is None or jwk.get("crv") != "Ed25519":
                raise _bad("its provider names no evidence key")
            return unb64url(str(jwk.get("x")))
        except ValueError as error:
            raise _bad("its provider's evidence key is unreadable") from error

    def _insert(self, step: Step, receipt: Receipt, record_hash: str) -> None:
        step.insert(
            RECEIPTS,
            record_id=receipt.record_id,
            agreement_id=receipt.agreement_id,
            transfer_pid=receipt.transfer_pid,
            seq=receipt.seq,
            role=receipt.role,
            partner=receipt.partner,
            state=receipt.state,
            record=orjson.dumps(dict(receipt.record)),
            signature=receipt.signature,
            countersignature=orjson.dumps(dict(receipt.countersignature)),
            recorded_at=step.at,
        )
        step.record(
            Entry(
                USAGE_RECORDED,
                {
                    "recordHash": record_hash,
                    "role": receipt.role,
                    "partner": receipt.partner,
                    "state": receipt.state,
                    "signature": receipt.signature,
                    "record": dict(receipt.record),
                },
            )
        )
        step.link(
            Edge(f"exchange:agreement:{receipt.agreement_id}", f"exchange:receipt:{receipt.record_id}", "delivered")
        )

    def _record_answer(
        self,
        step: Step,
        record_id: str,
        agreement_id: str,
        role: str,
        partner: str,
        state: str,
        countersignature: Mapping[str, Any],
    ) -> None:
        body: dict[str, Any] = {
            "record": record_id,
            "agreement": agreement_id,
            "role": role,
            "partner": partner,
            "state": state,
            "signature": str(countersignature.get("signature", "")),
        }
        if countersignature:
            body["statement"] = dict(countersignature["statement"])
        step.record(Entry(USAGE_COUNTERSIGNED, body))


def _bad(reason: str) -> Refused:
    return Refused("exchange.receipt-bad", reason=reason[:1000])


def _unusable(partner: str, status: int, reason: str) -> GuantongError:
    return Refused(
        "exchange.answer-unusable", partner=partner, status=status, message="usage record", reason=reason[:1000]
    )


def receipt_of(row: Row) -> Receipt:
    """A row of the table as a value."""
    return Receipt(
        record_id=row["record_id"],
        agreement_id=row["agreement_id"],
        transfer_pid=row["transfer_pid"],
        seq=row["seq"],
        role=row["role"],
        partner=row["partner"],
        state=row["state"],
        record=orjson.loads(row["record"]),
        signature=row["signature"],
        countersignature=orjson.loads(row["countersignature"]),
        recorded_at=row["recorded_at"],
    )
