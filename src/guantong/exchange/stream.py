"""The data of a pull as a stream that can be taken up again: Arrow record batches, acknowledged by row number.

``GET <data address>/stream`` is one Arrow IPC stream. Its sequence number is the number of rows from the beginning of the dataset. The
consumer signs how far it has it and posts that to ``…/stream/acknowledgements`` (same token). No more than a window of chunks is ever out
unacknowledged: that much a consumer can have without having signed for it, and so it holds a fast provider back. After a cut it asks with
``?after=<rows it has>&row=<digest of the last of them>``. Each connection is a delivery of its own, with decision, durable intent and
usage record like any other; only a beginning counts against a limit of uses, since what was acknowledged is not sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64, canonical_bytes, sha256, unb64
from guantong.base.clock import iso
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable, Skippable
from guantong.base.keys import verify_ed25519
from guantong.exchange.dataplane import DataPlane, Outgoing
from guantong.exchange.encoding import ArrowReader
from guantong.exchange.hosting import Hosting
from guantong.exchange.messages import token_of
from guantong.exchange.model import STREAM_ACKNOWLEDGED, Transfer
from guantong.exchange.receipts import Counting
from guantong.exchange.tables import STREAMS
from guantong.records.service import Step

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.receipts import Receipts
    from guantong.exchange.transfers import Transfers

__all__ = ["Streams", "row_digest"]

WINDOW_HEADER = "guantong-window"
"""Header of a stream: chunks that may be out unacknowledged."""
_PATH = "/stream"
_ACKNOWLEDGEMENTS = "/stream/acknowledgements"
_TRIES = 6


def row_digest(batch: pa.RecordBatch) -> str:
    """How the last row of a batch is named when a stream is taken up after it."""
    row = [column[-1].as_py() for column in batch.columns]
    return sha256(orjson.dumps(row, default=str)).hex()


class _Pace:
    """The rows of one connection on their way out: from a row on, in chunks, no more unacknowledged than the window."""

    def __init__(self, after: int, row: str, *, chunk_rows: int, window: int, wait_s: float) -> None:
        self.again = after > 0
        self.closed = False
        self._after, self._row = after, row
        self._chunk_rows, self._window, self._wait_s = chunk_rows, window, wait_s
        self._out: deque[int] = deque()
        self._moved = asyncio.Event()
        self._first: pa.RecordBatch | None = None
        self._source: AsyncIterator[pa.RecordBatch] | None = None
        self.most_out = 0

    def acknowledge(self, sequence: int) -> None:
        """The consumer has the rows up to here."""
        while self._out and self._out[0] <= sequence:
            self._out.popleft()
        self._moved.set()

    def close(self) -> None:
        """Let nothing more leave."""
        self.closed = True
        self._moved.set()

    def rows(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        """See :class:`guantong.exchange.dataplane.Passing`."""
        self._source = self._chunks(batches)
        return self._paced()

    async def ready(self) -> None:
        """Read the first chunk. Raises Refused ``exchange.stream-changed``."""
        assert self._source is not None
        self._first = await anext(self._source, None)

    async def _paced(self) -> AsyncIterator[pa.RecordBatch]:
        assert self._source is not None
        sequence, chunk = self._after, self._first
        async with aclosing(self._source):  # type: ignore[type-var]
            while chunk is not None:
                await self._room()
                sequence += chunk.num_rows
                self._out.append(sequence)
                self.most_out = max(self.most_out, len(self._out))
                yield chunk
                chunk = await anext(self._source, None)

    async def _room(self) -> None:
        while len(self._out) >= self._window and not self.closed:
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), self._wait_s)
            except TimeoutError as error:
                raise Refused("exchange.decision-denied", reason="nobody acknowledges the stream") from error
        if self.closed:
            raise Refused("exchange.decision-denied", reason="the stream was taken up elsewhere")

    async def _chunks(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        """The chunks after a row. Raises Refused ``exchange.stream-changed`` where that row is another one now."""
        seen = 0
        try:
            async for batch in batches:
                begin = min(batch.num_rows, self._after - seen)
                seen += begin
                if begin and seen == self._after and row_digest(batch.slice(begin - 1, 1)) != self._row:
                    raise Refused("exchange.stream-changed", sequence=self._after, reason="the rows before it changed")
                if batch.num_rows == 0 and not self._after:
                    yield batch  # its schema is all that an empty dataset has
                for at in range(begin, batch.num_rows, self._chunk_rows):
                    yield batch.slice(at, self._chunk_rows)
            if seen < self._after:
                raise Refused("exchange.stream-changed", sequence=self._after, reason="there are fewer rows now")
        finally:
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()


class Streams:
    """Streams of every hosted participant, both sides."""

    def __init__(self, hosting: Hosting, transfers: Transfers, receipts: Receipts, plane: DataPlane) -> None:
        self._hosting = hosting
        self._transfers = transfers
        self._receipts = receipts
        self._plane = plane
        self.paces: dict[tuple[str, str], _Pace] = {}
        """The newest connection of each transfer's stream."""

    # -- provider

    async def open(self, participant: str, pid: str, authorization: str, query: Mapping[str, str]) -> Outgoing:
        """Begin a stream, or take it up again. Raises Refused with 401, 403 or 409; nothing has left then."""
        settings = self._hosting.settings
        transfer = await self._plane.admitted(participant, pid, authorization)
        text = query.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise _bad("after: is no row number")
        after = int(text)
        if after < (known := await self.acknowledged(participant, pid)):
            raise Refused("exchange.stream-changed", sequence=after, reason=f"row {known} was acknowledged")
        pace = _Pace(
            after,
            query.get("row", ""),
            chunk_rows=settings.chunk_rows,
            window=settings.stream_window,
            wait_s=settings.stream_wait_s,
        )
        outgoing = await self._plane.stream(participant, transfer, pace, query)
        before = self.paces.get((participant, pid))
        if before is not None:
            before.close()  # one connection a stream: the newest
        self.paces[(participant, pid)] = pace
        return replace(outgoing, headers={**outgoing.headers, WINDOW_HEADER: str(settings.stream_window)})

    async def acknowledge(self, participant: str, pid: str, authorization: str, body: Mapping[str, Any]) -> None:
        """The consumer's signed word on how far it has a stream; durable before more leaves.

        Raises Refused ``exchange.token-refused`` or ``exchange.message-invalid``.
        """
        transfer = await self._plane.admitted(participant, pid, authorization)
        told, signature = body.get("acknowledgement"), body.get("signature")
        sequence = told.get("sequence") if isinstance(told, dict) else None
        if (
            not isinstance(told, dict)
            or not isinstance(signature, str)
            or isinstance(sequence, bool)
            or not isinstance(sequence, int)
            or not 0 <= sequence < 2**53
        ):
            raise _bad("acknowledgement or signature is missing")
        wanted = _acknowledgement(transfer, transfer.partner, sequence, str(told.get("at")))
        try:
            signed = told == wanted and verify_ed25519(
                await self._receipts.evidence_key(transfer.partner), canonical_bytes(told), unb64(signature)
            )
        except (Skippable, ValueError):
            signed = False
        if not signed:
            raise _bad("it is not signed by the consumer of the transfer")
        async with self._transfers.processes.lock(participant, f"stream {pid}"):
            if sequence > await self.acknowledged(participant, pid):
                async with self._hosting.records.step(participant) as step:
                    step.upsert(
                        STREAMS,
                        pid=pid,
                        acknowledged=sequence,
                        acknowledgement=orjson.dumps(told),
                        signature=signature,
                        changed_at=step.at,
                    )
                    _record(step, transfer, told, signature)
        pace = self.paces.get((participant, pid))
        if pace is not None:
            pace.acknowledge(sequence)

    async def acknowledged(self, participant: str, pid: str) -> int:
        """Rows of a transfer's stream that its consumer has signed for."""
        row = await self._hosting.records.row(
            select(STREAMS.c.acknowledged).where(and_(STREAMS.c.participant == participant, STREAMS.c.pid == pid))
        )
        return int(row["acknowledged"]) if row is not None else 0

    # -- consumer

    async def read(
        self, participant: str, pid: str, *, after: int = 0, row: str = "", purpose: str = ""
    ) -> AsyncIterator[tuple[int, pa.RecordBatch]]:
        """The record batches of a started transfer, each with its sequence number (rows up to its end), over as many cuts as it takes.

        A batch is acknowledged once the next one is asked for, so do with it what must be done first. after, row: of what the caller has
        from an earlier run. Raises Retryable where the provider stays away, Refused ``exchange.stream-changed`` where it can't go on.
        """
        failures = 0
        telling: asyncio.Task[None] | None = None
        while True:
            reader = ArrowReader()
            counting = Counting(self._hosting.settings.block_bytes)
            query = {"after": str(after), "row": row} if after else {}
            told: dict[str, str] = {}
            body = self._plane.pull_bytes(
                participant, pid, purpose=purpose, count_rows=counting, below=(_PATH, query), told=told
            )
            try:
                async with aclosing(body) as pieces:  # type: ignore[type-var]
                    out = 0
                    async for piece in pieces:
                        for batch in reader.feed(piece):
                            counting.rows += batch.num_rows
                            after += batch.num_rows
                            if batch.num_rows:
                                row = row_digest(batch)
                            failures = 0
                            yield after, batch
                            out += 1
                            if out >= _half(told.get(WINDOW_HEADER, "")):
                                # beside the reading, one at a time: the provider has half a window left meanwhile
                                if telling is not None:
                                    await telling
                                telling = asyncio.create_task(self._tell(participant, pid, after), name="acknowledge")
                                out = 0
                if reader.complete:
                    if telling is not None:
                        await telling
                    await self._tell(participant, pid, after)
                    return
                reason: Exception = Retryable("web.unreachable", url=pid, reason="the stream was cut")
            except Retryable as error:
                reason = error
            finally:
                if telling is not None:
                    await asyncio.gather(telling, return_exceptions=True)
                    telling = None
            failures += 1
            if failures >= _TRIES:
                raise reason
            await self._hosting.clock.sleep(0.05 * 4**failures)

    async def _tell(self, participant: str, pid: str, sequence: int) -> None:
        """Sign and send how far we have a stream. Raises Refused where the provider does not take it."""
        hosting = self._hosting
        transfer = await self._transfers.processes.get(participant, pid)
        endpoint, token = token_of(transfer.data_address)
        told = _acknowledgement(transfer, participant, sequence, iso(hosting.clock.now(), digits=3))
        signature = b64(hosting.hosted(participant).identity.evidence_key.sign(canonical_bytes(told)))
        async with hosting.records.step(participant) as step:
            _record(step, transfer, told, signature)
        url, mark, own = endpoint.partition("?")
        response = await hosting.http.request(
            "POST",
            url + _ACKNOWLEDGEMENTS + mark + own,
            body=orjson.dumps({"acknowledgement": told, "signature": signature}),
            headers={"authorization": token, "content-type": "application/json"},
        )
        if response.status >= 500 or response.status in (408, 429):
            raise Retryable(
                "exchange.partner-busy", partner=transfer.partner, status=response.status, message="acknowledgement"
            )
        if response.status >= 400 and response.status != 401:  # a token that ended: the next connection renews it
            raise Refused("exchange.decision-denied", reason=f"the acknowledgement was answered {response.status}")


def _half(window: str) -> int:
    """After how many chunks to acknowledge: at half of the window the provider need not wait."""
    return max(1, int(window) // 2) if window.isascii() and window.isdigit() and len(window) < 7 else 1


def _acknowledgement(transfer: Transfer, consumer: str, sequence: int, at: str) -> dict[str, Any]:
    return {
        "v": 1,
        "type": "stream-acknowledgement",
        "transferProcessId": transfer.provider_pid,
        "agreementId": transfer.agreement_id,
        "consumer": consumer,
        "sequence": sequence,
        "at": at,
    }


def _record(step: Step, transfer: Transfer, told: Mapping[str, Any], signature: str) -> None:
    step.record(
        Entry(
            STREAM_ACKNOWLEDGED,
            {
                "transfer": transfer.pid,
                "partner": transfer.partner,
                "role": transfer.role,
                "signature": signature,
                "acknowledgement": dict(told),
            },
        )
    )


def _bad(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="stream acknowledgement", reason=reason)
