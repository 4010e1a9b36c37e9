"""HttpData-PULL, both sides: who holds the token of a started transfer may fetch the data, counted and recorded.

Order on the provider's side: token, state, terms, decision; then one durable step with the intent and the count; then bytes; then the
signed usage record, before the end leaves. What is small enough to be at hand whole has its record in the step of its intent, and leaves
in one piece. A delivery stops when its transfer or its terms end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from guantong.base.clock import parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable, Skippable
from guantong.exchange.deliveries import PARAMETER, Deliveries
from guantong.exchange.encoding import ARROW, ArrowReader, Encoder, Writer, negotiated
from guantong.exchange.facts import MODES, Facts
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

__all__ = ["DataPlane", "Outgoing", "Passing"]

RECORD_HEADER = "guantong-record"
BLOCK_HEADER = "guantong-block-bytes"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A delivery whose intent is durable: headers and the body, to be sent at once."""

    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


class Passing(Protocol):
    """Paces the rows of a delivery on their way out, and says whether they go on from where an earlier one stopped."""

    again: bool

    def rows(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        """The rows that leave, each batch when it may."""
        ...

    async def ready(self) -> None:
        """Read the first of them. Raises Refused where they can't go on."""
        ...


class DataPlane:
    """Deliveries of every hosted participant."""

    def __init__(
        self,
        hosting: Hosting,
        negotiations: Negotiations,
        transfers: Transfers,
        receipts: Receipts,
        deliveries: Deliveries,
    ) -> None:
        self.hosting = hosting
        self._negotiations = negotiations
        self._transfers = transfers
        self._receipts = receipts
        self._deliveries = deliveries
        self.renewal = Renewal(hosting, transfers)
        self._finishing: set[asyncio.Task[Any]] = set()
        self.end: End = self._end_transfer
        """Ends a transfer whose terms ended, with the reason for both sides (flows of other control planes end otherwise)."""

    async def stop(self) -> None:
        """Wait for the usage records of deliveries that have ended."""
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    # -- provider

    async def open(
        self, participant: str, pid: str, authorization: str, *, accept: str, query: Mapping[str, str]
    ) -> Outgoing:
        """Begin a delivery. Raises Refused with 401 or 403; nothing has left then."""
        transfer = await self.admitted(participant, pid, authorization)
        return await self._begin(participant, transfer, accept=accept, query=query, whole=True)

    async def stream(
        self,
        participant: str,
        transfer: Transfer,
        passing: Passing,
        query: Mapping[str, str],
        *,
        writer: Writer | None = None,
        whole: bool = False,
    ) -> Outgoing:
        """Begin a delivery that somebody paces or chooses from, and may take up again. Raises Refused; nothing has left then."""
        return await self._begin(
            participant, transfer, accept=ARROW, query=query, whole=whole, passing=passing, writer=writer
        )

    async def admitted(self, participant: str, pid: str, authorization: str) -> Transfer:
        """The transfer that an access token opens. Raises Refused ``exchange.token-refused``."""
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
        return transfer

    async def begin(
        self,
        participant: str,
        transfer: Transfer,
        *,
        accept: str,
        query: Mapping[str, str],
        writer: Writer | None = None,
    ) -> tuple[Mapping[str, str], AsyncIterator[bytes]]:
        """A delivery that we push, its headers and its body in pieces: terms, decision, durable intent; its record when its end leaves.

        Raises Refused with 403; nothing has left then.
        """
        outgoing = await self._begin(participant, transfer, accept=accept, query=query, whole=False, writer=writer)
        assert not isinstance(outgoing.body, bytes)
        return outgoing.headers, outgoing.body

    async def _begin(
        self,
        participant: str,
        transfer: Transfer,
        *,
        accept: str,
        query: Mapping[str, str],
        whole: bool,
        passing: Passing | None = None,
        writer: Writer | None = None,
    ) -> Outgoing:
        hosting = self.hosting
        now = hosting.clock.now()
        if transfer.state != "STARTED":
            raise Refused("exchange.decision-denied", reason=f"the transfer is {transfer.state}")
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        try:
            terms = compile_policy(agreement.agreement)
        except Refused as error:  # a term of an agreement made elsewhere, or by an earlier release
            unknown = Refused("exchange.decision-denied", reason=error.message("en"))
            await self._refuse(participant, transfer, agreement, unknown)
            raise unknown from error
        counter = f"exchange:deliveries:{agreement.id}"
        purpose = query.get("purpose", "")[:500] or ", ".join(terms.purposes)
        start, end = _time(query, "start"), _time(query, "end")
        record_id = hosting.new_id()
        foreign, writer = writer, writer or Encoder(negotiated(accept))
        form = writer.form
        counting = Counting(hosting.settings.block_bytes)
        delivery = Delivery(record_id, now, purpose, "row", True, counting, countable=foreign is None)
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
            if not again:
                step.count(counter, 1, limit=terms.count)
            if whole_at_hand:
                self._spend(step, agreement, terms, counting.rows, counting.bytes)
            step.record(intent)

        again = passing is not None and passing.again
        rows = self._deliveries.rows(participant, agreement, record_id, query, start, end)
        reading = _Reading(rows if passing is None else passing.rows(rows), writer, hosting.settings, counting)
        kept = whole_at_hand = False
        try:
            uses = await hosting.records.counter(participant, counter)
            # what is taken up again was begun once: that use is among those counted
            await self._allow(participant, transfer, agreement, terms, purpose, uses - (1 if again and uses else 0))
            if (
                uses
                and agreement.price
                and (open_ := await self._receipts.unanswered(participant, agreement.id))
                >= (limit := hosting.settings.unanswered_blocks)
            ):
                raise Refused("exchange.exposure-reached", agreement=agreement.id, blocks=open_, limit=limit)
            if whole and (body := await reading.whole()) is not None:
                # no message of the transfer comes between: it is still open when the record says that it was delivered
                whole_at_hand = True
                async with self._transfers.processes.lock(participant, transfer.pid):
                    if over := await self._over(participant, transfer):
                        raise Refused("exchange.decision-denied", reason=over)
                    await self._receipts.delivering(
                        participant, transfer, agreement, delivery, first=uses == 0, beside=intend
                    )
                return Outgoing(headers, body)
            if passing is not None:
                await passing.ready()  # what can't go on is refused before anything is on record as leaving
            async with hosting.records.step(participant) as step:
                intend(step)
            kept = True
        except Refused as error:
            await self._refuse(participant, transfer, agreement, error)
            raise
        finally:
            if not kept:
                await reading.close()
        return Outgoing(
            headers, self._body(participant, transfer, agreement, reading, delivery, loud=not whole and passing is None)
        )

    def rows_of(
        self, participant: str, dataset_id: str, start: int | None, end: int | None
    ) -> AsyncIterator[pa.RecordBatch]:
        """The rows that a delivery of a dataset begins from."""
        return self._deliveries.dataset(participant, dataset_id, start, end)

    async def measure(self, rows: AsyncIterator[pa.RecordBatch]) -> Counting:
        """Count a body that is made as a delivery's would be, and sent to nobody."""
        settings = self.hosting.settings
        counting = Counting(settings.block_bytes)
        reading = _Reading(rows, Encoder(ARROW), settings, counting)
        try:
            async for piece in reading.pieces():
                counting.add(piece.data)
                counting.rows += piece.rows
        finally:
            await reading.close()
        return counting

    async def _refuse(self, participant: str, transfer: Transfer, agreement: Agreement, error: Refused) -> None:
        """A refused delivery on record; a transfer that gives nothing any more is ended, with the reason for both sides."""
        async with self.hosting.records.step(participant) as step:
            step.record(
                Entry(
                    DELIVERY_REFUSED,
                    {
                        "agreement": agreement.id,
                        "transfer": transfer.pid,
                        "partner": transfer.partner,
                        "code": error.code,
                        "reason": error.message("en")[:1000],
                    },
                )
            )
        if over := await self._over(participant, transfer):
            await self._stop(participant, transfer, over)

    async def _allow(
        self, participant: str, transfer: Transfer, agreement: Agreement, terms: Terms, purpose: str, uses: int
    ) -> None:
        if agreement.state != "final":
            raise Refused("exchange.decision-denied", reason="the agreement has ended")
        counter = self.hosting.records.counter
        facts = replace(
            self.facts(participant, transfer, agreement),
            uses=uses,
            purposes=frozenset(_purposes(purpose)),
            floor=await self._deliveries.floor(participant, agreement) if "floor" in terms.needs else 1,
            rows=await counter(participant, _counter("rows", agreement)) if "rows" in terms.limits else 0,
            bytes=await counter(participant, _counter("bytes", agreement)) if "bytes" in terms.limits else 0,
        )
        for name, limit in terms.limits.items():
            if facts.number(name) >= limit:
                what = "deliveries" if name == "uses" else name
                raise Refused("records.limit-reached", name=f"{what} of {agreement.id}", limit=limit)
        refusal = terms.refusal("access", facts)
        refusal = refusal or await self.hosting.claims.still(participant, transfer.partner)
        if not refusal:
            verdict = await self.hosting.decide(
                Access(
                    participant,
                    transfer.partner,
                    "read",
                    agreement.dataset_id,
                    agreement.id,
                    purpose,
                    facts.at,
                    {},
                    uses,
                    facts.context(terms.needs),
                )
            )
            refusal = "" if verdict.allowed else verdict.reason
        if refusal:
            raise Refused("exchange.decision-denied", reason=refusal)

    def facts(self, participant: str, transfer: Transfer, agreement: Agreement) -> Facts:
        """What is known now about the partner of a transfer."""
        return replace(
            self.hosting.facts(participant, transfer.partner),
            agreed_at=agreement.since,
            mode=MODES.get(transfer.format, transfer.format),
        )

    @staticmethod
    def _spend(step: Step, agreement: Agreement, terms: Terms, rows: int, size: int) -> None:
        """Count what is about to leave where the terms limit it. Raises Refused ``records.limit-reached`` at the limit."""
        for name, by in (("rows", rows), ("bytes", size)):
            if name in terms.limits and by:
                step.count(_counter(name, agreement), by, limit=terms.limits[name])

    async def _body(
        self,
        participant: str,
        transfer: Transfer,
        agreement: Agreement,
        reading: _Reading,
        delivery: Delivery,
        *,
        loud: bool,
    ) -> AsyncIterator[bytes]:
        """The body in pieces. ``loud``: to raise where it stops early, for a target that would take its end for the whole."""
        counting = delivery.counting
        complete = recorded = False
        stopped = asyncio.create_task(self._watch(participant, transfer), name=f"terms of {transfer.pid}")
        pieces = aiter(reading.pieces())
        coming: asyncio.Task[_Piece] | None = None
        over = ""
        try:
            while True:
                coming = asyncio.ensure_future(_next(pieces))
                await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    over = stopped.result()
                    break
                piece = coming.result()
                over = await self._leaving(participant, transfer, piece)
                if over:
                    await self._stop(participant, transfer, over)
                    break
                counting.add(piece.data)
                counting.rows += piece.rows
                if piece.last:
                    break
                if piece.data:
                    yield piece.data
            if over and loud:
                raise Refused("exchange.decision-denied", reason=over)
            if over:
                return
            complete = recorded = True
            # the record is durable before the end leaves: whoever has a whole delivery will be offered its receipt
            await asyncio.shield(self._ended(participant, transfer, agreement, delivery, counting, complete=True))
            if piece.data:
                yield piece.data
        finally:
            for task in (stopped, coming):
                if task is not None and not task.done():
                    task.cancel()
            # a row that is being read must be let go of before its reader is closed
            await asyncio.gather(*(task for task in (stopped, coming) if task is not None), return_exceptions=True)
            await reading.close()
            if not recorded:
                # the caller may be gone and this task cancelled: the record of what left is made by a task of its own
                self._ended(participant, transfer, agreement, delivery, counting, complete=complete)

    async def _leaving(self, participant: str, transfer: Transfer, piece: _Piece) -> str:
        """Why a piece may not leave, empty where it may: then it is counted, durably, before it does."""
        over = await self._over(participant, transfer)
        if over:
            return over
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        terms = compile_policy(agreement.agreement)
        if ("rows" in terms.limits or "bytes" in terms.limits) and (piece.rows or piece.data):
            try:
                async with self.hosting.records.step(participant) as step:
                    self._spend(step, agreement, terms, piece.rows, len(piece.data))
            except Refused as error:
                what = str(error.facts.get("name", "")).split(":")[1]
                limit = error.facts.get("limit")
                return f"{what}: no more than {limit} were agreed / 约定至多 {limit}"
        return ""

    async def _watch(self, participant: str, transfer: Transfer) -> str:
        """Why a delivery that runs must stop, as soon as this node knows it; the transfer has ended for that reason then."""
        hosting = self.hosting
        while True:
            with hosting.watching(participant, transfer.pid) as changed:
                over = await self._over(participant, transfer)
                if over:
                    break
                await asyncio.wait({changed}, timeout=hosting.settings.terms_check_s)
        await self._stop(participant, transfer, over)
        return over

    async def _stop(self, participant: str, transfer: Transfer, reason: str) -> None:
        """End the transfer with the reason, on record here and told to the partner, who has it on record too."""
        process = await self._transfers.processes.get(participant, transfer.pid)
        if process.state == "STARTED":
            await asyncio.shield(self._finish(self.end(participant, transfer.pid, "terminate", reason[:500])))

    async def _end_transfer(self, participant: str, pid: str, verb: str, reason: str = "") -> None:
        try:
            await self._transfers.decide(participant, pid, verb, reason=reason)
        except Refused as error:
            if error.code != "exchange.transition-refused":
                raise  # the partner ended it first: nothing is left to do

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
        ended = replace(delivery, complete=complete, counting=counting)
        return self._finish(self._receipts.delivered(participant, transfer, agreement, ended))

    async def _over(self, participant: str, transfer: Transfer) -> str:
        """Why a transfer gives nothing any more, by its terms as they are now (they can be amended or ended); empty while it does."""
        now = await self._transfers.processes.get(participant, transfer.pid)
        if now.state != "STARTED":
            return f"the transfer is {now.state}" + (f": {now.reason}" if now.reason else "")
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        if agreement.state != "final":
            return "the agreement has ended"
        try:
            refusal = compile_policy(agreement.agreement).refusal("after", self.facts(participant, now, agreement))
        except Refused as error:
            refusal = error.message("en")
        # a credential that was revoked ends a delivery that runs, once its status may be looked at again
        return refusal or await self.hosting.claims.still(participant, transfer.partner)

    # -- consumer

    async def pull_bytes(
        self,
        participant: str,
        pid: str,
        *,
        accept: str = ARROW,
        purpose: str = "",
        parameters: Mapping[str, str] | None = None,
        count_rows: Counting | None = None,
        below: tuple[str, Mapping[str, str]] = ("", {}),
        told: dict[str, str] | None = None,
    ) -> AsyncIterator[bytes]:
        """The body of a started transfer as it comes, counted for the receipt; ``parameters``: of the contract's query template;
        ``below``: path and query of another resource under the provider's address; ``told``: takes the headers of its answer.

        Raises Refused where the provider refuses.
        """
        hosting = self.hosting
        transfer = await self._transfers.processes.get(participant, pid)
        agreement = await self._negotiations.agreement(participant, transfer.agreement_id)
        if transfer.role != "consumer" or transfer.state != "STARTED":
            raise Refused("exchange.decision-denied", reason=f"the transfer is {transfer.state}")
        endpoint, token = token_of(transfer.data_address)
        if not endpoint:
            raise Refused("exchange.decision-denied", reason="the provider named no endpoint")
        url, mark, own = endpoint.partition("?")
        url += below[0] + mark + own
        asked = {**below[1], **({"purpose": purpose} if purpose else {})}
        asked |= {PARAMETER + name: text for name, text in (parameters or {}).items()}
        if asked:
            url += ("&" if "?" in url else "?") + urlencode(asked, quote_via=quote)
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
            if told is not None:
                told.update(stream.headers)
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

    async def pull(
        self, participant: str, pid: str, *, purpose: str = "", parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """The record batches of a started transfer. Raises Skippable ``exchange.body-unreadable`` where it is no whole Arrow stream."""
        reader = ArrowReader()
        counting = Counting(self.hosting.settings.block_bytes)
        body = self.pull_bytes(participant, pid, purpose=purpose, parameters=parameters, count_rows=counting)
        async with aclosing(body) as pieces:  # type: ignore[type-var]
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
        self, batches: AsyncIterator[pa.RecordBatch], writer: Writer, settings: ExchangeSettings, counting: Counting
    ) -> None:
        self._batches = batches
        self._encoder = writer
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

End = Callable[[str, str, str, str], Awaitable[None]]
"""``(participant, transfer, verb, reason)``."""


async def _next(pieces: AsyncIterator[_Piece]) -> _Piece:
    return await anext(pieces)


def _counter(name: str, agreement: Agreement) -> str:
    return f"exchange:{name}:{agreement.id}"


def _purposes(stated: str) -> list[str]:
    return [one for one in stated.split(", ") if one]


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
