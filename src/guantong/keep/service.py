"""Keep: durable log, hot tail and tables behind one set of functions.

A batch goes into the log (``take``), comes out for fusion (``read``), and comes back as clean rows (``store``). Clean rows wait in the
tail, where queries see them at once, until a commit takes them into the Delta tables: when ``commit_s`` have passed, when
``commit_rows`` wait, or on ``flush``. ``stored`` says how far the tables are; after a crash fusion begins again there, and rows that a
table already has are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from guantong.base.batch import Batch
from guantong.base.clock import Clock
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, GuantongError, Retryable
from guantong.keep.asking import Queries
from guantong.keep.delta import MEASUREMENTS, NAMED, READINGS, Table
from guantong.keep.log import Dropped, Log
from guantong.keep.machine import OwnClock, free_bytes
from guantong.keep.model import (
    COMMITTED,
    ClockCheck,
    Forecast,
    KeepSettings,
    KeepStats,
    Logged,
    Retention,
    Upkeep,
)
from guantong.keep.ports import Note
from guantong.keep.rules import forecast
from guantong.keep.seal import load_seal
from guantong.keep.tail import Latest, Piece, Tail
from guantong.records import Records, Step

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.keep.reading import Reader, Seen

__all__ = ["Keep"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _State:
    """What keep holds in memory for one participant."""

    participant: str
    tail: Tail
    stored: int
    intended: int
    """Position of a commit that a crash may have cut short; 0 or below ``stored`` in peace."""
    names: set[str]
    commits: int
    logged: int
    tables: dict[str, Table] = field(default_factory=dict)
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    """Positions of tables that are ahead of ``stored``; only after a crash within a commit."""
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    upkeeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    unrecorded: list[Entry] = field(default_factory=list)
    noted: list[Callable[[Step], None]] = field(default_factory=list)
    since: float | None = None
    """When the oldest waiting row came, on the clock's monotonic scale."""
    last_commit: float = float("-inf")
    timer: asyncio.TimerHandle | None = None
    failures: int = 0
    error: str = ""
    repeated: int = 0


class Keep(Queries):
    """Everything a node keeps. ``open`` (or ``start``) before use, ``stop`` after; or ``async with Keep(...) as keep``.

    ``inline=True``: no threads and no timers of its own, for simulations; a commit that is due then happens within ``store``.
    """

    def __init__(
        self,
        directory: Path,
        records: Records,
        clock: Clock,
        settings: KeepSettings | None = None,
        *,
        inline: bool = False,
    ) -> None:
        self.directory = directory
        self.records = records
        self.clock = clock
        self.settings = settings or KeepSettings()
        self._inline = inline
        self.seal = load_seal(self.settings.key_file, directory.parent, self.settings.cipher)
        self._log = Log(directory / "log.db", clock, self.settings, seal=self.seal, inline=inline)
        self._lock: sqlite3.Connection | None = None
        self._states: dict[str, _State] = {}
        self._opening = asyncio.Lock()
        self._committer: ThreadPoolExecutor | None = None
        self._reader: Reader | None = None
        self._drained = 0.0
        """Up to when, on the monotonic clock, the rows that were read so far may be read at the limited rate."""
        self._retention: Callable[[str], Awaitable[Retention]] | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._own_clock: OwnClock | None = None
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._note: Note | None = None
        self._root = self.settings.tables_uri or str(directory / "tables")

    # life

    def open(self) -> None:
        """Open the log and start its writer; opening again changes nothing.

        Raises ConfigProblem ``keep.in-use``, ``keep.log-newer``; Corrupt ``keep.log-unopenable``.
        """
        if self._lock is not None:
            return
        self._closing = False
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(self.directory)
        try:
            self._log.open()
        except GuantongError:
            self._release()
            raise
        if not self._inline:
            self._committer = ThreadPoolExecutor(1, thread_name_prefix="keep-commit")

    async def start(self, participants: Iterable[str] = ()) -> None:
        """As :meth:`open`; then the tables of ``participants`` are looked after every ``upkeep_s``."""
        self.open()
        self._own_clock = OwnClock(self.clock, await self._log.last_at())
        listed = tuple(participants)
        if listed and not self._inline and self.settings.upkeep_s > 0:
            self._upkeep = asyncio.get_running_loop().create_task(self._look_after(listed))

    async def stop(self) -> None:
        """Flush every participant, then close. What can't be committed now stays in the log."""
        if self._lock is None:
            return
        try:
            await self.flush()
        except GuantongError as error:
            _log.warning("not everything was committed before the stop; it is in the log: %s", error)
        await self.abandon()

    async def abandon(self) -> None:
        """Close without flushing, as a crash would: the log holds what the tables lack."""
        self._closing = True
        if self._upkeep is not None:
            self._upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep
            self._upkeep = None
        for state in self._states.values():
            if state.timer is not None:
                state.timer.cancel()
        for task in tuple(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, GuantongError):
                await task
        if self._committer is not None:
            self._committer.shutdown()
            self._committer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._states.clear()
        self._log.close()
        self._release()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # log

    async def take(self, participant: str, batch: Batch) -> int:
        """Make a batch durable; its position in the log. This is connect's sink.

        Raises Skippable ``keep.batch-unfit``, Retryable ``keep.log-full``, ``keep.disk-full``, ``keep.closed``.
        """
        return await self._log.append(participant, batch)

    async def read(self, participant: str, after: int, limit_rows: int = 100_000) -> list[Logged]:
        """Entries with a position above ``after``, in order: at least one if there is any, then as many as fit in ``limit_rows``.

        After a crash within a commit it stops once at the position of that commit; ask again after storing. Raises Corrupt
        ``keep.log-damaged`` when the next entry is damaged (``error.facts["position"]``).
        """
        found = await self._log.read(participant, after, limit_rows)
        rows, limit = sum(one.batch.rows.num_rows for one in found), self.settings.drain_rows_s
        if limit and not self._inline and rows >= limit_rows // 2:
            # a backlog: whoever delivers now goes first
            self._drained = max(self._drained, self.clock.monotonic() - 1.0) + rows / limit
            await asyncio.sleep(max(0.0, self._drained - self.clock.monotonic()))
        return found

    def on_append(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on the event loop after batches became durable."""
        self._log.on_append(wake)

    def on_table_commit(self, note: Note) -> None:
        """Have ``note`` see the rows of each commit of a table; what it returns is part of the step that records the commit."""
        self._note = note

    # tables

    async def store(
        self,
        participant: str,
        position: int,
        *,
        readings: pa.Table | None = None,
        measurements: pa.Table | None = None,
        tables: Mapping[str, pa.Table] | None = None,
    ) -> None:
        """Take clean rows; everything in the log up to ``position`` is then fused.

        readings: columns of ``clean_schema`` (``day`` is worked out here) · measurements: columns of ``clean_measurement_schema`` ·
        tables: any columns, by table name; ``log_position`` is added where it is absent, new columns widen the table. A call whose
        position is not above the last one is refused silently and counted. Raises ConfigProblem ``keep.rows-unfit`` and takes nothing.
        """
        state = await self._state(participant)
        async with state.storing:
            given = {READINGS: readings, MEASUREMENTS: measurements, **_prefixed(tables or {})}
            fitting: dict[str, pa.Table] = {}
            for name, rows in given.items():
                if rows is None or not rows.num_rows:
                    continue
                table = self._table(state, name)
                if name in (READINGS, MEASUREMENTS):
                    fitting[name] = table.fit(rows, position)
                else:
                    fitting[name] = await self._commit_thread(lambda t=table, r=rows: t.fit(r, position))  # type: ignore[misc]
            self._add(state, position, fitting)
        await self._due(state)

    async def stored(self, participant: str) -> int:
        """Log position up to which the tables are committed; fuse begins after it."""
        return (await self._state(participant)).stored

    async def flush(self, participant: str | None = None) -> None:
        """Commit what waits in memory. Raises Retryable ``keep.table-unwritable``, Corrupt ``keep.log-behind``."""
        states = list(self._states.values()) if participant is None else [await self._state(participant)]
        failure: GuantongError | None = None
        for state in states:
            try:
                await self._commit(state)
            except GuantongError as error:
                failure = failure or error  # one participant's trouble does not keep another's rows waiting
        if failure is not None:
            raise failure

    # upkeep

    def on_retention(self, retention: Callable[[str], Awaitable[Retention]]) -> None:
        """Ask for each participant how long readings are kept; without it, ``readings_days`` holds for all."""
        self._retention = retention

    async def keep_up(self, participant: str, retention: Retention | None = None) -> list[Upkeep]:
        """One round of upkeep over a participant's tables: sort into few files, drop repeats of the same revision, keep retention,
        remove files that were replaced more than ``replaced_s`` ago. ``retention``: instead of what is asked for by itself.

        Raises Retryable ``keep.table-unwritable``.
        """
        from guantong.keep.upkeep import keep_up, together

        state = await self._state(participant)
        kept = retention or await self._retained(participant)
        now = self.clock.now()
        done = []
        async with state.upkeeping:
            for name in sorted(state.names):
                table = self._table(state, name)
                rounds = [await self._commit_thread(lambda t=table: keep_up(t, kept, now, self.settings.replaced_s))]  # type: ignore[misc]
                while rounds[-1].more and len(rounds) < 1_000:  # commits have their turn in between
                    rounds.append(
                        await self._commit_thread(lambda t=table: keep_up(t, kept, now, self.settings.replaced_s))  # type: ignore[misc]
                    )
                done.append(together(rounds))
                state.contents.pop(name, None)
        return done

    async def _retained(self, participant: str) -> Retention:
        default = Retention(days=self.settings.readings_days or None)
        return default if self._retention is None else await self._retention(participant)

    async def _look_after(self, participants: Sequence[str]) -> None:
        while True:
            await self._log.sample(free_bytes(self.directory))
            await asyncio.sleep(self.settings.upkeep_s)
            for participant in participants:
                try:
                    await self.keep_up(participant)
                except GuantongError as error:
                    _log.warning("upkeep of the tables of %s waits for the next round: %s", participant, error)

    async def forecast(self) -> Forecast:
        """When the disk that the log lies on is full, from what was free in the last 30 days."""
        return forecast(await self._log.samples(), free_bytes(self.directory), self.clock.now())

    def clock_check(self) -> ClockCheck:
        """What can be told of this machine's clock. Raises Retryable ``keep.closed``."""
        if self._own_clock is None:
            raise Retryable("keep.closed")
        return self._own_clock.check()

    async def dropped(self, participant: str) -> Mapping[str, Dropped]:
        """What the drop policy took of each source."""
        return await self._log.dropped(participant)

    @contextlib.asynccontextmanager
    async def held(self, participant: str) -> AsyncIterator[None]:
        """Nothing is stored or committed meanwhile, so that a copy of the files is of one moment. Batches are still taken."""
        state = await self._state(participant)
        async with state.storing, state.committing:
            yield

    @contextlib.asynccontextmanager
    async def resting(self, participant: str) -> AsyncIterator[None]:
        """Upkeep removes no file meanwhile."""
        async with (await self._state(participant)).upkeeping:
            yield

    # queries

    async def latest(self, participant: str, signal_ids: Iterable[int] | None = None) -> pa.Table:
        """The last reading of each signal, columns of ``clean_schema``, by signal id. Answered from memory."""
        from guantong.keep.queries import condition

        state = await self._state(participant)
        with state.tail.lock:
            rows = state.tail.latest.table()
        return rows if signal_ids is None else rows.filter(condition(signal_ids, None, None)(rows.column))

    async def table_names(self, participant: str) -> list[str]:
        """Names of the participant's named tables."""
        state = await self._state(participant)
        names = state.names | set(state.tail.names())
        return sorted(name.removeprefix(NAMED) for name in names if name.startswith(NAMED))

    async def stats(self, participant: str) -> KeepStats:
        """What is kept for a participant, from the tables' own statistics."""
        state = await self._state(participant)
        mark = await self._log.mark(participant)
        held = await self._contents(state)
        with state.tail.lock:
            waiting = state.tail.waiting(READINGS)
            tail_rows = state.tail.rows
        times = [time for time in (held[READINGS]["first"], held[READINGS]["last"]) if time is not None]
        for piece in waiting:
            times += _span(piece.rows)
        return KeepStats(
            rows=held[READINGS]["rows"],
            revisions=held[READINGS]["revised"],
            measurements=held[MEASUREMENTS]["rows"],
            tail_rows=tail_rows,
            bytes=sum(one["bytes"] for one in held.values()),
            files=sum(one["files"] for one in held.values()),
            log_bytes=mark.size_bytes,
            log_entries=mark.entries,
            first_time=min(times) * 1000 if times else None,
            last_time=max(times) * 1000 if times else None,
            commits=mark.commits,
            logged=mark.logged,
            stored=state.stored,
            refused=self._log.refused,
            repeated=state.repeated,
            trimmed=self._log.trimmed,
            dropped_rows=sum(one.rows for one in (await self._log.dropped(participant)).values()),
            error=state.error,
        )

    # inside

    async def _state(self, participant: str) -> _State:
        state = self._states.get(participant)
        if state is not None:
            return state
        if self._lock is None:
            raise Retryable("keep.closed")
        async with self._opening:
            state = self._states.get(participant)
            if state is not None:
                return state
            mark = await self._log.mark(participant)
            tail = Tail(mark.stored)
            if mark.latest is not None:
                tail.latest = Latest.decoded(mark.latest)
            state = _State(participant, tail, mark.stored, mark.intended, set(mark.names), mark.commits, mark.logged)
            if mark.intended > mark.stored:
                # a crash cut a commit short: ask each table whether it was in time
                for name in mark.names:
                    table = self._table(state, name)
                    state.committed[name] = await self._commit_thread(table.committed)
            self._states[participant] = state
            return state

    def _table(self, state: _State, name: str) -> Table:
        table = state.tables.get(name)
        if table is None:
            table = Table(self._root, state.participant, name, self.settings.storage_options)
            state.tables[name] = table
        return table

    def _add(self, state: _State, position: int, fitting: Mapping[str, pa.Table]) -> None:
        tail = state.tail
        if position <= tail.position:
            state.repeated += sum(rows.num_rows for rows in fitting.values())
            return
        with tail.lock:
            for name, given in fitting.items():
                if name == READINGS:
                    tail.latest.see(given)
                rows = self._new(state, name, position, given)
                state.repeated += given.num_rows - rows.num_rows
                if rows.num_rows:
                    tail.add(name, Piece(position, rows))
            tail.position = position
        if state.since is None:
            state.since = self.clock.monotonic()

    def _new(self, state: _State, name: str, position: int, rows: pa.Table) -> pa.Table:
        """What of the rows a table lacks, when it may be ahead of the others after a crash."""
        committed = state.committed.get(name, 0)
        if committed <= state.tail.position:
            return rows
        if position <= committed:
            return rows.slice(0, 0)
        import pyarrow.compute as pc

        return rows.filter(pc.field("log_position") > committed)

    async def _due(self, state: _State) -> None:
        """Commit now, later or not at all, as the settings say."""
        if state.since is None:
            return
        wait = self._wait(state)
        if state.tail.rows > self.settings.tail_rows_max:
            await self._commit(state)
        elif self._inline:
            if wait <= 0:
                await self._commit(state)
        else:
            loop = asyncio.get_running_loop()
            if state.timer is not None:
                if state.timer.when() <= loop.time() + wait:
                    return
                state.timer.cancel()
            self._plan(state, max(wait, 0.0))

    def _wait(self, state: _State) -> float:
        """Seconds until the next commit, from the age and number of the rows that wait and the end of the last commit."""
        now = self.clock.monotonic()
        since = now if state.since is None else state.since
        ripe = 0.0 if state.tail.rows >= self.settings.commit_rows else since + self.settings.commit_s - now
        gap = self.settings.commit_gap_s * float(2 ** min(state.failures, 6))
        return max(ripe, state.last_commit + gap - now)

    def _plan(self, state: _State, wait: float) -> None:
        loop = asyncio.get_running_loop()
        state.timer = loop.call_later(wait, self._begin_commit, state, state.last_commit)

    def _begin_commit(self, state: _State, known: float) -> None:
        """``known``: the end of the last commit when this one was planned. If another has ended since or still runs, the gap counts anew."""
        state.timer = None
        if state.since is None:
            return  # a flush was faster
        running = state.committing.locked()
        if running or state.last_commit != known:
            wait = self.settings.commit_gap_s if running else self._wait(state)
            if wait > 0:
                self._plan(state, wait)
                return
        task = asyncio.get_running_loop().create_task(self._commit_later(state))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marked as seen: whoever waited got it, and a timer's is logged

    def failure(self, participant: str) -> str:
        """Code of the last failed commit, empty when the last one went well."""
        state = self._states.get(participant)
        return "" if state is None else state.error

    async def _commit_later(self, state: _State) -> None:
        try:
            await self._commit(state)
        except GuantongError as error:
            _log.warning("rows of %s wait for their tables: %s", state.participant, error)
        if not self._closing:
            await self._due(state)

    async def _commit(self, state: _State) -> None:
        if self._inline:
            await self._commit_alone(state)
            return
        # a task of its own: a caller that leaves must not leave a commit half told
        task = asyncio.get_running_loop().create_task(self._commit_alone(state))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.shield(task)

    async def _commit_alone(self, state: _State) -> None:
        async with state.committing:
            try:
                await self._commit_all(state)
            except GuantongError as error:
                state.failures += 1
                state.error = error.code
                raise
            finally:
                state.last_commit = self.clock.monotonic()
            state.failures, state.error = 0, ""

    async def _commit_all(self, state: _State) -> None:
        tail = state.tail
        with tail.lock:
            names, position = tail.names(), tail.position
            state.since = None
        if not names and position <= state.stored and not state.unrecorded:
            return
        try:
            if names:
                await self._log.intend(state.participant, position, names)
                state.names.update(names)
            commits = 0
            ceiling = max(position, state.intended)
            for name in names:
                table = self._table(state, name)
                done = await self._commit_thread(lambda t=table: t.append(tail, position, ceiling))  # type: ignore[misc]
                if done is not None:
                    version, rows = done
                    commits += 1
                    state.unrecorded.append(
                        Entry(
                            COMMITTED, {"table": name, "version": version, "position": position, "rows": rows.num_rows}
                        )
                    )
                    if self._note is not None:
                        noted = await self._commit_thread(lambda n=name, r=rows: self._note(n, r))  # type: ignore[misc]
                        if noted is not None:
                            state.noted.append(noted)
            await self._record(state)
            with tail.lock:
                latest = tail.latest.encoded() if READINGS in names else None
            await self._log.settle(state.participant, position, latest=latest, commits=commits)
        except BaseException:
            if state.since is None:
                state.since = self.clock.monotonic()
            raise
        state.commits += commits
        state.stored = max(state.stored, position)
        with tail.lock:
            if state.since is None and (tail.names() or tail.position > state.stored):
                state.since = self.clock.monotonic()

    async def _record(self, state: _State) -> None:
        """A leaf for each commit, before the log is told that it is over."""
        if not state.unrecorded:
            return
        async with self.records.step(state.participant) as step:
            for entry in state.unrecorded:
                step.record(entry)
            for note in state.noted:
                note(step)
        state.unrecorded.clear()
        state.noted.clear()

    def _ask(
        self,
        seen: Mapping[str, Seen],
        kind: str,
        narrow: Callable[[Callable[[str], Any]], Any] | None = None,
        **arguments: Any,
    ) -> Awaitable[Any]:
        if self._reader is None:
            raise Retryable("keep.closed")
        return self._reader.ask(seen, kind, narrow, **arguments)

    async def _see(self, participant: str, names: Iterable[str], durable: bool = False) -> dict[str, Seen]:
        """Each table with its tail at one moment."""
        from guantong.keep.reading import Reader

        state = await self._state(participant)
        if durable:
            await self._commit(state)
        if self._reader is None:
            self._reader = Reader(self.settings, self._root, inline=self._inline)
        seen = {}
        for name in names:
            table = self._table(state, name)
            seen[name] = await self._reader.see(table, state.tail, exists=name in state.names or table.exists())
        return seen

    async def _contents(self, state: _State) -> dict[str, dict[str, Any]]:
        """What each table's files hold; asked once for each version."""
        seen = await self._see(state.participant, sorted({READINGS, MEASUREMENTS, *state.names}))
        for name, one in seen.items():
            held = state.contents.get(name)
            if held is None or held["version"] != one.version:
                state.contents[name] = await self._ask({name: one}, "contents", lambda _: None)
        return dict(state.contents)

    async def _commit_thread(self, work: Callable[[], T]) -> T:
        if self._inline:
            return work()
        if self._committer is None:
            raise Retryable("keep.closed")
        return await asyncio.get_running_loop().run_in_executor(self._committer, work)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _hold(directory: Path) -> sqlite3.Connection:
    """Keep others out of the folder until this process ends, however it ends; the same on every system."""
    lock = sqlite3.connect(directory / "keep.lock", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("PRAGMA locking_mode=EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise ConfigProblem("keep.in-use", directory=directory.name) from error
    return lock


def _prefixed(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    return {NAMED + name: rows for name, rows in tables.items()}


def _span(rows: pa.Table) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pc.min_max(rows["source_time"].cast(pa.int64())).as_py()
    return [ends["min"], ends["max"]]
