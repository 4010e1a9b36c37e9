"""The way from a reader to the sink: rows are gathered into batches, every batch gets a durable position, nothing is dropped.

A reader appends to ``rows`` and calls :meth:`Delivery.settle`. Rows wait at most ``batch_wait_s`` for company. When the sink can't write
now, the batch is kept and tried again, and the reader waits: the pressure reaches the source, the data stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.batch import Batch
from guantong.base.clock import Clock
from guantong.base.errors import GuantongError, Retryable
from guantong.connect.columns import Readings
from guantong.connect.model import ConnectSettings, Interface, Scorecard, State
from guantong.connect.ports import Sink

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Delivery"]

LOG = logging.getLogger("guantong.connect")
PIECES = 1_000
"""Most quarantined pieces that the account of one file repeats."""

Save = Callable[[Mapping[str, Any]], Awaitable[None]]


class Delivery:
    """What one source hands over, and its scorecard. It outlives the reader: a restarted reader goes on with it."""

    def __init__(
        self,
        participant: str,
        interface: Interface,
        sink: Sink,
        clock: Clock,
        settings: ConnectSettings,
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.participant = participant
        self.interface = interface
        self.source = interface.name
        self.settings = settings
        self.clock = clock
        self.rows = Readings()
        """Readings that wait for company; a reader appends, :meth:`settle` sends."""
        self.resume: dict[str, Any] = {}
        """The reader's own place in the source; stored durably after each batch if :meth:`mark` was called."""
        self.save: Save | None = None
        self.pieces: list[dict[str, Any]] = []
        """The first pieces that were quarantined, at most PIECES, for the account of a file; all of them are in the batches' notes."""
        self._sink = sink
        self._changed = changed
        self._lock = asyncio.Lock()
        self._waiting = asyncio.Event()
        self._note: dict[str, Any] = {}
        self._mark: dict[str, Any] | None = None
        self._pending: deque[tuple[Batch, float | None, dict[str, Any] | None]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._state: State = "connecting"
        self._since = clock.now()
        self._received = self._batches = self._gaps = self._gap_records = self._duplicates = 0
        self._rejected = self._lines = self._parsed = self._losses = 0
        self._lag_s: float | None = None
        self._error: str | None = None
        self._error_facts: dict[str, Any] = {}
        self._error_at: int | None = None
        self._last_time: int | None = None
        self._position: int | None = None
        self._ever_connected = False
        self._told = False
        self._lost_at: int | None = None

    # what readers call ------------------------------------------------------------------------------------------------------------

    async def connected(
        self, *, names: Mapping[str, Any] | None = None, units: Mapping[str, str] | None = None
    ) -> None:
        """The source answers. Names and units, where known, go ahead of the first reading; a return after a loss is put on record."""
        note: dict[str, Any] = {}
        if names:
            note["names"] = dict(names)
        if units:
            note["units"] = dict(units)
        if self._lost_at is not None:
            note["connection"] = {"event": "back", "at": self.clock.now(), "reason": f"lost {self._lost_at}"}
            self._lost_at = None
        self._ever_connected = True
        if self._told:
            LOG.info("source %s is back", self.source)
            self._told = False
        self._become("connected")
        if note:
            await self.send(Readings().batch(), note)

    async def lost(self, error: GuantongError) -> None:
        """The source does not answer any more. On record once, until it is back."""
        self.failed(error)
        if not self._told:
            LOG.warning("source %s is lost: %s", self.source, error)
            self._told = True
        if self._lost_at is None and self._ever_connected:
            self._losses += 1
            self._lost_at = self.clock.now()
            await self.flush()
            await self.send(
                Readings().batch(),
                {
                    "connection": {
                        "event": "lost",
                        "at": self._lost_at,
                        "reason": f"{error.code}: {error.message()}"[:200],
                    }
                },
            )
        self._become("lost" if self._ever_connected else "connecting")

    @property
    def lost_at(self) -> int | None:
        """Since when the source is lost (ns), None while it is connected."""
        return self._lost_at

    def failed(self, error: GuantongError) -> None:
        """Remember the error on the scorecard."""
        self._error, self._error_at = error.code, self.clock.now()
        self._error_facts = dict(error.facts)
        self._changed()

    def finished(self) -> None:
        """The source is read to its end."""
        self._become("finished")

    def stopped(self) -> None:
        """The source is on record but does not run."""
        self._become("stopped")

    def lines(self, count: int, parsed: int) -> None:
        """Count lines (or documents) read and those that gave at least one row; both go into the next batch's note."""
        self._lines += count
        self._parsed += parsed
        self._note["lines"] = self._note.get("lines", 0) + count
        self._note["parsed"] = self._note.get("parsed", 0) + parsed

    def quarantine(self, offset: int, reason: str, text: str) -> None:
        """A piece that can't be used: its offset in the source, why (QUARANTINE_REASONS), and the beginning of its text."""
        self._rejected += 1
        piece = {"offset": offset, "reason": reason, "text": text[:200]}
        self._note.setdefault("quarantined", []).append(piece)
        if len(self.pieces) < PIECES:
            self.pieces.append(piece)

    def gap(
        self,
        *,
        since: int,
        until: int,
        count: int,
        unit: str,
        reason: str,
        start: int,
        end: int,
        signal: str | None = None,
    ) -> None:
        """Something is missing: from and to (both inclusive) as sequence numbers or instants, how many, why, and when (ns)."""
        self._gaps += count
        self._gap_records += 1
        self._note.setdefault("gaps", []).append(
            {
                "signal": signal,
                "from": since,
                "to": until,
                "count": count,
                "unit": unit,
                "reason": reason,
                "start": start,
                "end": end,
            }
        )

    def unasked(self, since: int, until: int | None = None) -> None:
        """A source that only answers gave no answer from ``since`` (ns; 0: it never did) to ``until`` (now): what was there is missing."""
        if since:
            end = self.clock.now() if until is None else until
            self.gap(since=since, until=end, count=0, unit="time", reason="not polled", start=since, end=end)

    def repeated(self, count: int) -> None:
        """Count sequence numbers that came again; the readings are handed over all the same."""
        self._duplicates += count

    def note(self, **facts: Any) -> None:
        """Add facts to the note of the next batch."""
        self._note.update(facts)

    def mark(self, **place: Any) -> None:
        """Where the reader is once everything gathered so far is durable; stored with the next batch and given back after a restart."""
        self._mark = {**self.resume, **place}

    async def settle(self) -> None:
        """Send if enough rows wait; else see to it that they leave soon. Call it after each piece read; it waits if the sink is slow."""
        if len(self.rows) >= self.settings.batch_rows or self._noted() >= self.settings.quarantine_notes:
            await self.flush()
        elif len(self.rows) or self._note or self._mark:
            self._waiting.set()

    async def flush(self) -> None:
        """Hand everything gathered to the sink and return when it is durable."""
        if len(self.rows) or self._note:
            rows, self.rows = self.rows, Readings()
            self._queue(rows.batch(), {}, "readings", rows.newest_lag_s())
        await self._drain()
        await self._keep_mark()

    async def send(
        self, rows: pa.RecordBatch, note: Mapping[str, Any], *, kind: str = "readings", lag_s: float | None = None
    ) -> None:
        """Hand one batch straight to the sink, after what was gathered before it."""
        if len(self.rows):
            await self.flush()
        self._queue(rows, note, kind, lag_s)
        await self._drain()
        await self._keep_mark()

    async def close(self) -> None:
        """Hand over what waits, or give up after ``stop_wait_s``: then the sink never took it and the source never had it confirmed."""
        try:
            async with asyncio.timeout(self.settings.stop_wait_s):
                await self.flush()
        except TimeoutError:
            LOG.warning("source %s: %d batches could not be written before the stop", self.source, len(self._pending))
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
        self._become("stopped")

    async def pump(self) -> None:
        """Send what waits, ``batch_wait_s`` after its first row. The supervisor runs this beside the reader."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(self.settings.batch_wait_s)
            self._waiting.clear()
            await self.flush()

    # what the supervisor asks -----------------------------------------------------------------------------------------------------

    def scorecard(self) -> Scorecard:
        """How the source is doing now."""
        now = self.clock.monotonic()
        self._forget_old(now)
        return Scorecard(
            source=self.source,
            kind=self.interface.kind,
            base=self.interface.base,
            state=self._state,
            connected=self._state == "connected",
            since=self._since,
            rate_hz=sum(count for _, count in self._recent) / 10.0,
            lag_s=self._lag_s,
            received=self._received,
            batches=self._batches,
            gaps=self._gaps,
            gap_records=self._gap_records,
            duplicates=self._duplicates,
            rejected=self._rejected,
            lines=self._lines,
            losses=self._losses,
            last_error=self._error,
            last_error_at=self._error_at,
            last_time=self._last_time,
            position=self._position,
            error_facts=self._error_facts,
        )

    @property
    def totals(self) -> tuple[int, int, int, int, int | None]:
        """Lines read and parsed, rows, quarantined and last position, for the account of a file."""
        return self._lines, self._parsed, self._received, self._rejected, self._position

    # inside -----------------------------------------------------------------------------------------------------------------------

    def _noted(self) -> int:
        quarantined: list[Any] = self._note.get("quarantined", [])
        return len(quarantined)

    def _queue(self, rows: pa.RecordBatch, note: Mapping[str, Any], kind: str, lag_s: float | None) -> None:
        gathered, self._note = self._note, {}
        mark, self._mark = self._mark, None
        self._pending.append((Batch(self.source, kind, rows, {**gathered, **note}), lag_s, mark))

    async def _drain(self) -> None:
        # the write itself is shielded: a reader that is cancelled meanwhile neither loses the batch nor hands it over twice
        async with self._lock:
            while self._pending:
                if self._writing is None or self._writing.done():
                    self._writing = asyncio.get_running_loop().create_task(self._take(), name=f"take {self.source}")
                await asyncio.shield(self._writing)

    async def _take(self) -> None:
        """Write the batch that has waited longest; it leaves the queue only when it is durable."""
        batch, lag_s, mark = self._pending[0]
        wait_s = self.settings.backoff_first_s
        while True:
            try:
                self._position = await self._sink.take(self.participant, batch)
                break
            except Retryable as error:
                self.failed(error)
                await self.clock.sleep(wait_s)
                wait_s = min(wait_s * 2, self.settings.backoff_max_s)
        self._pending.popleft()
        self._batches += 1
        if batch.rows.num_rows:
            self._received += batch.rows.num_rows
            self._last_time = self.clock.now()
            now = self.clock.monotonic()
            self._recent.append((now, batch.rows.num_rows))
            self._forget_old(now)
        if lag_s is not None:
            self._lag_s = lag_s
        self._changed()
        if mark is not None:
            await self._store(mark)

    async def _keep_mark(self) -> None:
        # a place without rows before it is safe at once; one behind rows that still wait is stored with them
        if self._mark is not None and not (self._pending or len(self.rows) or self._note):
            mark, self._mark = self._mark, None
            await self._store(mark)

    async def _store(self, mark: dict[str, Any]) -> None:
        self.resume = mark
        if self.save is not None:
            await self.save(mark)

    def _forget_old(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - 10.0:
            self._recent.popleft()

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state, self._since = state, self.clock.now()
            self._changed()
