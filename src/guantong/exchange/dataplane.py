"""HttpData-PULL, both sides: who holds the token of a started transfer may fetch the data, counted and recorded.

Order on the provider's side: token, state, terms, decision; then one durable step with the intent and the count; then bytes; then the
signed usage record, before the end leaves. What is small enough to be at hand whole has its record in the step of its intent, and leaves
in one piece. A delivery stops when its transfer or its terms end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.clock import parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable, Skippable
from guantong.exchange.encoding import ARROW, ArrowReader, Encoder, negotiated
from guantong.exchange.hosting import Hosting
from guantong.exchange.identity import same_token
from guantong.exchange.messages import token_of
from guantong.exchange.model import DELIVERY_INTENDED, DELIVERY_REFUSED, Agreement, ExchangeSettings, Transfer
from guantong.exchange.negotiations import Negotiations
from guantong.exchange.policy import Terms, compile_policy
from guantong.exchange.ports import Access
from guantong.exchange.receipts import Counting, Delivery, Receipts
from guantong.exchange.renewal import Renewal
from guantong.exchange.transfers import Transfers, token_hash
from guantong.records.service import Step

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DataPlane", "Outgoing"]

RECORD_HEADER = "guantong-record"
BLOCK_HEADER = "guantong-block-bytes"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A delivery whose intent is durable: headers and the body, to be sent at once."""

    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


class DataPlane:
    """Deliveries of every hosted participant."""

    def __init__(self, hosting: Hosting, negotiations: Negotiations, transfers: Transfers, receipts: Receipts) -> None:
        self.hosting = hosting
        self._negotiations = negotiations
        self._transfers = transfers
        self._receipts = receipts
        self.renewal = Renewal(hosting, transfers)
        self._finishing: set[asyncio.Task[Any]] = set()
        self._terms: dict[str, Terms] = {}

    async def stop(self) -> None:
        """Wait for the usage records of deliveries that have ended."""
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    # -- provider

    async def open(
        self, participant: str, pid: str, authorization: str, *, accept: str, query: Mapping[str, str]
    ) -> Outgoing:
        """Begin a delivery. Raises Refused with 401 or 403; nothing has left then."""
        hosting = self.hosting
        try:
            transfer = await self._transfers.processes.get(participant, pid)
        except Refused as error:
            raise _token("it belongs to no transfer") from error
        token = authorization.removeprefix("Bearer ").strip()
        if transfer.role != "provider" or not token or not transfer.token_hash:
            raise _token("it is not valid, or was revoked")
        if not same_token(token_hash(token), transfer.token_hash):
            raise _token("it is not that of the transfer")
        if hosting.clock.now() >= transfer.token_expires:
            raise _token("it has expired")
        return await self._begin(participant, transfer, accept=accept, query=query, whole=True)

    async def begin(
        self, participant: str, transfer: Transfer, *, accept: str, query: Mapping[str, str]
    ) -> tuple[Mapping[str, str], AsyncIterator[bytes]]:
        """A delivery that we push, its headers and its body in pieces: terms, decision, durable intent; its record when its end leaves.

        Raises Refused with 403; nothing has left then.
        """
        outgoing = await self._begin(participant, transfer, accept=accept, query=query, whole=False)
        assert not isinstance(outgoing.body, bytes)
        return outgoing.headers, outgoing.body

    async def _begin(
        self, participant: str, transfer: Transfer, *, accept: str, query: Mapping[str, str], whole: bool
    ) -> Outgoing:
        hosting = self.hosting
        now = hosting.clock.now()
        if transfer.state != "STARTED":
            raise Refused("exchange.decision-denied", reason=f"the transfer is {transfer.state}")
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        terms = self._terms_of(agreement)
        counter = f"exchange:deliveries:{agreement.id}"
        purpose = query.get("purpose", "")[:500] or ", ".join(terms.purposes)
        start, end = _time(query, "start"), _time(query, "end")
        record_id = hosting.new_id()
        form = negotiated(accept)
        counting = Counting(hosting.settings.block_bytes)
        delivery = Delivery(record_id, now, purpose, "row", True, counting)
        headers = {
            "content-type": form,
            RECORD_HEADER: record_id,
            BLOCK_HEADER: str(counting.block_bytes),
            "cache-control": "no-store",
        }
        intent = Entry(
            DELIVERY_INTENDED,
            {
                "record": record_id,
                "agreement": agreement.id,
                "transfer": transfer.pid,
                "partner": transfer.partner,
                "dataset": agreement.dataset_id,
                "format": form,
                "purpose": purpose,
            },
        )

        def intend(step: Step) -> None:
            step.count(counter, 1, limit=terms.count)
            step.record(intent)

        reading = _Reading(
            hosting.rows(participant, agreement.dataset_id, start, end), form, hosting.settings, counting
        )
        kept = False
        try:
            uses = await hosting.records.counter(participant, counter)
            await self._allow(participant, transfer, agreement, terms, purpose, now, uses)
            if agreement.price and (open_ := await self._receipts.unanswered(participant, agreement.id)) >= (
                limit := hosting.settings.unanswered_blocks
            ):
                raise Refused("exchange.exposure-reached", agreement=agreement.id, blocks=open_, limit=limit)
            if whole and (body := await reading.whole()) is not None:
                # no message of the transfer comes between: it is still open when the record says that it was delivered
                async with self._transfers.processes.lock(participant, transfer.pid):
                    if not await self._still(participant, transfer):
                        raise Refused("exchange.decision-denied", reason="the transfer has ended")
                    await self._receipts.delivering(
                        participant, transfer, agreement, delivery, first=uses == 0, beside=intend
                    )
                return Outgoing(headers, body)
            async with hosting.records.step(participant) as step:
                intend(step)
            kept = True
        except Refused as error:
            async with hosting.records.step(participant) as step:
                step.record(
                    Entry(
                        DELIVERY_REFUSED,
                        {
                            "agreement": agreement.id,
                            "transfer": transfer.pid,
                            "partner": transfer.partner,
                            "code": error.code,
                        },
                    )
                )
            raise
        finally:
            if not kept:
                await reading.close()
        return Outgoing(headers, self._body(participant, transfer, agreement, terms, reading, delivery))

    async def _allow(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        terms: Terms,
        purpose: str,
        now: int,
        uses: int,
    ) -> None:
        if agreement.state != "final":
            raise Refused("exchange.decision-denied", reason="the agreement has ended")
        refusal = terms.refusal(transfer.partner, now, uses)
        if terms.count is not None and uses >= terms.count:
            raise Refused("records.limit-reached", name=f"deliveries of {agreement.id}", limit=terms.count)
        if not refusal and terms.purposes and not set(purpose.split(", ")) <= set(terms.purposes):
            refusal = f"purpose: {purpose} was not agreed"
        refusal = refusal or await self.hosting.claims.still(participant, transfer.partner)
        if not refusal:
            verdict = await self.hosting.decide(
                Access(
                    participant, transfer.partner, "read", agreement.dataset_id, agreement.id, purpose, now, {}, uses
                )
            )
            refusal = "" if verdict.allowed else verdict.reason
        if refusal:
            raise Refused("exchange.decision-denied", reason=refusal)

    async def _body(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        terms: Terms,
        reading: _Reading,
        delivery: Delivery,
    ) -> AsyncIterator[bytes]:
        counting = delivery.counting
        complete = recorded = False
        try:
            async for piece in reading.pieces():
                if not await self._still(participant, transfer):
                    return
                counting.add(piece.data)
                counting.rows += piece.rows
                if piece.data and not piece.last:
                    yield piece.data
            complete = recorded = True
            # the record is durable before the end leaves: whoever has a whole delivery will be offered its receipt
            await asyncio.shield(self._ended(participant, transfer, agreement, delivery, counting, complete=True))
            if piece.data:
                yield piece.data
        finally:
            await reading.close()
            if not recorded:
                # the caller may be gone and this task cancelled: the record of what left is made by a task of its own
                self._ended(participant, transfer, agreement, delivery, counting, complete=complete)

    def _ended(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        delivery: Delivery,
        counting: Counting,
        *,
        complete: bool,
    ) -> asyncio.Task[Any]:
        ended = Delivery(delivery.record_id, delivery.started_at, delivery.purpose, delivery.unit, complete, counting)
        return self._finish(self._receipts.delivered(participant, transfer, agreement, ended))

    async def _still(self, participant: str, transfer: Transfer) -> bool:
        transfer = await self._transfers.processes.get(participant, transfer.pid)
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        terms = self._terms_of(
            agreement
        )  # as they are now: an agreement can be amended, or ended, under a delivery that runs
        now = self.hosting.clock.now()
        if agreement.state != "final":
            return False
        if transfer.state != "STARTED" or (terms.not_after is not None and now > terms.not_after):
            return False
        # a credential that was revoked ends a delivery that runs, once its status may be looked at again
        return not await self.hosting.claims.still(participant, transfer.partner)

    def _terms_of(self, agreement: Agreement) -> Terms:
        terms = self._terms.get(agreement.policy_hash)
        if terms is None:
            terms = compile_policy(agreement.agreement)
            if len(self._terms) >= self.hosting.settings.process_cache:
                self._terms.pop(next(iter(self._terms)))
            self._terms[agreement.policy_hash] = terms
        return terms

    # -- consumer

    async def pull_bytes(
        self, participant: str, pid: str, *, accept: str = ARROW, purpose: str = "", count_rows: Counting | None = None
    ) -> AsyncIterator[bytes]:
        """The body of a started transfer as it comes, counted for the receipt. Raises Refused where the provider refuses."""
        hosting = self.hosting
        transfer = await self._transfers.processes.get(participant, pid)
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        if transfer.role != "consumer" or transfer.state != "STARTED":
            raise Refused("exchange.decision-denied", reason=f"the transfer is {transfer.state}")
        endpoint, token = token_of(transfer.data_address)
        if not endpoint:
            raise Refused("exchange.decision-denied", reason="the provider named no endpoint")
        url = endpoint
        if purpose:
            from urllib.parse import quote

            url += ("&" if "?" in url else "?") + "purpose=" + quote(purpose)
        started_at = hosting.clock.now()
        async with AsyncExitStack() as open_streams:
            headers = {"authorization": token, "accept": accept}
            stream = await open_streams.enter_async_context(hosting.http.stream("GET", url, headers=headers))
            if stream.status == 401 and (renewed := await self.renewal.refreshed(participant, transfer)):
                transfer = renewed
                headers["authorization"] = token_of(transfer.data_address)[1]
                stream = await open_streams.enter_async_context(hosting.http.stream("GET", url, headers=headers))
            if not 200 <= stream.status < 300:
                await _refusal(stream.status, stream.chunks(), transfer.partner)
            record_id = stream.headers.get(RECORD_HEADER, "")[:128]
            counting = count_rows or Counting(hosting.settings.block_bytes)
            if record_id:
                counting.block_bytes = block_bytes(stream.headers.get(BLOCK_HEADER, ""), counting.block_bytes)
                self._receipts.begin(participant, record_id)
            complete = False
            try:
                async for piece in stream.chunks():
                    counting.add(piece)
                    yield piece
                complete = True
            finally:
                if record_id:
                    finish = self._receipts.received(participant, transfer, record_id, counting)
                else:
                    finish = self._receipts.received_plain(
                        participant,
                        transfer,
                        agreement,
                        Delivery(hosting.new_id(), started_at, purpose, "row", complete, counting),
                    )
                # who says that it received must be able to say what, also after a crash
                await asyncio.shield(self._finish(finish))

    async def pull(self, participant: str, pid: str, *, purpose: str = "") -> AsyncIterator[pa.RecordBatch]:
        """The record batches of a started transfer. Raises Skippable ``exchange.body-unreadable`` where it is no whole Arrow stream."""
        reader = ArrowReader()
        counting = Counting(self.hosting.settings.block_bytes)
        async with aclosing(self.pull_bytes(participant, pid, purpose=purpose, count_rows=counting)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                for batch in reader.feed(piece):
                    counting.rows += batch.num_rows
                    yield batch
        if not reader.complete:
            raise Skippable("exchange.body-unreadable", reason="it ended before its end marker")

    def _finish(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task


@dataclass(frozen=True, slots=True)
class _Piece:
    data: bytes
    rows: int
    last: bool


class _Reading:
    """The rows of a delivery as pieces of its body, counted when they are taken."""

    def __init__(
        self, batches: AsyncIterator[pa.RecordBatch], form: str, settings: ExchangeSettings, counting: Counting
    ) -> None:
        self._batches = batches
        self._encoder = Encoder(form)
        self._chunk_rows = settings.chunk_rows
        self._whole_bytes = settings.whole_bytes
        self._counting = counting
        self._ready: list[_Piece] = []
        self._made = self._encoded()

    async def whole(self) -> bytes | None:
        """The whole body, counted, if it is small; else None, and :meth:`pieces` begins at its beginning."""
        size = 0
        async for piece in self._made:
            self._ready.append(piece)
            size += len(piece.data)
            if size > self._whole_bytes:
                return None
        body = b"".join(piece.data for piece in self._ready)
        self._counting.add(body)
        self._counting.rows += sum(piece.rows for piece in self._ready)
        return body

    async def pieces(self) -> AsyncIterator[_Piece]:
        """The pieces in order; the last one is the end of the body, with or without bytes."""
        while self._ready:
            yield self._ready.pop(0)
        async for piece in self._made:
            yield piece

    async def close(self) -> None:
        """Read no further."""
        await self._made.aclose()
        close = getattr(self._batches, "aclose", None)
        if close is not None:
            await close()

    async def _encoded(self) -> AsyncGenerator[_Piece, None]:
        async for batch in self._batches:
            for at in range(0, batch.num_rows, self._chunk_rows) if batch.num_rows else (0,):
                chunk = batch.slice(at, self._chunk_rows)
                # a small piece takes less time than its way to another thread and back
                if chunk.nbytes < _SMALL_BYTES:
                    data = self._encoder.encode(chunk)
                else:
                    data = await asyncio.to_thread(self._encoder.encode, chunk)
                yield _Piece(data, chunk.num_rows, last=False)
        yield _Piece(self._encoder.end(), 0, last=True)


_SMALL_BYTES = 128 * 1024


def _time(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    return parse_iso(text) if text else None


def block_bytes(text: str, default: int) -> int:
    """The block size that a delivery's header names, the default where it names none that is usable."""
    return int(text) if text.isascii() and text.isdigit() and 1024 <= int(text) <= 16 * 1024 * 1024 else default


async def _refusal(status: int, chunks: AsyncIterator[bytes], partner: str) -> None:
    text = b""
    async for piece in chunks:
        text += piece
        if len(text) > 4096:
            break
    failure: GuantongError
    if status >= 500 or status == 429:
        failure = Retryable("exchange.partner-busy", partner=partner, status=status, message="pull")
    else:
        failure = Refused("exchange.decision-denied", reason=f"{status} {text[:500].decode('utf-8', 'replace')}")
    raise failure


def _token(reason: str) -> Refused:
    return Refused("exchange.token-refused", reason=reason)
