"""Records: one database, one writer thread, group commit.

A step gathers what it wants written and hands it over when its block ends; the writer puts every waiting step into one transaction,
each behind a savepoint of its own, commits once, and only then lets the steps return. So a step is recorded whole or not at all, and a
slow disk is paid once for many steps. What must be true at the moment of writing (a state not yet changed, a counter below its limit)
is checked by the writer inside the transaction.

Reads use snapshots of their own and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from sqlalchemy import Connection, Executable, PoolProxiedConnection, Table, and_, create_engine, event, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from guantong.base.clock import Clock
from guantong.base.entry import MAX_LEAF_BYTES, Entry, leaf_bytes
from guantong.base.errors import ConfigProblem, Corrupt, Refused, Retryable
from guantong.base.ids import Randomness, system_random
from guantong.records.model import Edge, Message
from guantong.records.statements import Statements, Writing
from guantong.records.tables import COUNTERS, EDGES, LEAVES, OUTBOX

__all__ = ["Queued", "Records", "Row", "Step"]

Row = Mapping[str, Any]
"""One row of an answer, by column name."""

_LOG_BYTES = 4 * 1024 * 1024
"""Size of SQLite's write-ahead log above which it is brought home."""

_LOG = logging.getLogger("guantong.records")

Operation = Callable[[Writing], object]


@dataclass(frozen=True, slots=True)
class Queued:
    """A message of the outbox as it was committed."""

    participant: str
    kind: str
    key: str
    lane: str
    number: int
    payload: bytes
    attempts: int = 0

    def message(self) -> Message:
        """The message as its sender gets it."""
        return Message(self.lane, self.kind, self.key, orjson.loads(self.payload))


@dataclass(eq=False, slots=True)
class _Waiting:
    """A step that waits for the writer, and how it ended."""

    operations: Sequence[Operation]
    queued: list[Queued]
    after: Sequence[Callable[[], None]]
    future: asyncio.Future[None]
    outcome: BaseException | None = None


class Step:
    """One unit of work. Use it as ``async with records.step(participant) as step``; nothing is written before the block ends.

    After the block, ``leaves`` holds the indexes of the recorded entries, in order.
    """

    def __init__(self, records: Records, participant: str) -> None:
        self.participant = participant
        self.at = records.clock.now()
        """The instant of the step; leaves, edges and messages carry it."""
        self.leaves: list[int] = []
        self._records = records
        self._operations: list[Operation] = []
        self._messages: list[Queued] = []
        self._after: list[Callable[[], None]] = []
        self._stated: list[tuple[str, bytes]] = []

    def insert(self, into: Table, **values: Any) -> None:
        """Add a row; the participant is filled in. A row with that key already there: Retryable ``records.conflict``."""
        row = {"participant": self.participant, **values}
        statements = self._records.statements

        def run(writing: Writing) -> None:
            try:
                statements.insert(writing, into, row)
            except (DBAPIError, sqlite3.Error) as error:
                if _is_integrity(error):
                    raise Retryable(
                        "records.conflict", table=into.name, key=_key_of(into, row), expected="absent"
                    ) from error
                raise

        self._operations.append(run)

    def upsert(self, into: Table, **values: Any) -> None:
        """Add a row, or replace the other columns of the row with that key."""
        row = {"participant": self.participant, **values}
        statements = self._records.statements
        self._operations.append(lambda writing: statements.upsert(writing, into, row))

    def update(
        self,
        table: Table,
        key: Mapping[str, Any],
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the row with that key. It must exist and hold ``expect`` (a tuple means: one of these), else Retryable
        ``records.conflict`` and nothing of the step is written.
        """
        wanted = {"participant": self.participant, **key}
        statements = self._records.statements

        def run(writing: Writing) -> None:
            if statements.update(writing, table, wanted, values, expect or {}) != 1:
                raise Retryable("records.conflict", table=table.name, key=dict(key), expected=dict(expect or {}))

        self._operations.append(run)

    def move(
        self, table: Table, key: Mapping[str, Any], state: str, *, was: str | tuple[str, ...], **values: Any
    ) -> None:
        """Take a process from one of the states ``was`` to ``state``; the columns ``state`` and ``changed_at`` are written."""
        self.update(table, key, {"state": state, "changed_at": self.at, **values}, expect={"state": was})

    def delete(self, table: Table, **key: Any) -> None:
        """Delete the rows with that (part of the) key."""
        wanted = {"participant": self.participant, **key}
        self._operations.append(
            lambda writing: writing.connection.execute(
                delete_from(table).where(and_(*(table.c[name] == value for name, value in wanted.items())))
            )
        )

    def send(self, message: Message) -> None:
        """Queue a message; it leaves after the commit. A key already queued is not queued again."""
        payload = orjson.dumps(dict(message.payload), option=orjson.OPT_SORT_KEYS)
        statements = self._records.statements

        def run(writing: Writing) -> None:
            number = self._records.next_number(writing.connection)
            kind, key, lane = message.kind, message.key, message.lane
            row = (self.participant, kind, key, lane, number, payload, "queued", 0, self.at, self.at)
            if statements.add(writing, OUTBOX, _QUEUED, [row]):
                self._messages.append(Queued(self.participant, kind, key, lane, number, payload))

        self._operations.append(run)

    def record(self, entry: Entry) -> int:
        """State something for the record: a leaf of the evidence log, durable with this step. Returns its place in ``leaves``."""
        salt = self._records.random(16)
        leaf = leaf_bytes(entry, participant=self.participant, at=self.at, salt=salt, with_sm3=self._records.with_sm3)
        if len(leaf) > MAX_LEAF_BYTES:
            raise ConfigProblem("records.entry-too-large", kind=entry.kind.name, size=len(leaf))
        if not self._stated:
            self._operations.append(self._write_leaves)
        self._stated.append((entry.kind.name, leaf))
        return len(self._stated) - 1

    def _write_leaves(self, writing: Writing) -> None:
        # all leaves of a step in one statement, in the order in which they were stated
        rows = []
        for kind, leaf in self._stated:
            number = self._records.next_leaf(writing.connection, self.participant)
            rows.append((self.participant, number, kind, leaf, self.at))
            self.leaves.append(number)
        self._records.statements.insert_many(writing, LEAVES, _LEAF, rows)

    def count(self, name: str, by: int = 1, *, limit: int | None = None) -> None:
        """Add to a counter. Above ``limit``: Refused ``records.limit-reached`` and nothing of the step is written."""
        statements = self._records.statements

        def run(writing: Writing) -> None:
            text = statements.find_text(COUNTERS, ("value",), ("name",))
            old = writing.run(text, (self.participant, name)).fetchone()
            value = (old[0] if old else 0) + by
            if limit is not None and value > limit:
                raise Refused("records.limit-reached", name=name, limit=limit)
            statements.upsert(writing, COUNTERS, {"participant": self.participant, "name": name, "value": value})

        self._operations.append(run)

    def link(self, *edges: Edge) -> None:
        """Record edges of lineage; an edge already known is left alone."""
        wanted = sorted({(edge.source, edge.target, edge.relation) for edge in edges})
        if not wanted:
            return
        rows = [(self.participant, *edge, self.at) for edge in wanted]
        statements = self._records.statements
        self._operations.append(lambda writing: statements.add(writing, EDGES, _EDGE, rows))

    def apply(self, operation: Callable[[Connection], object]) -> None:
        """Run ``operation(connection)`` inside the transaction, for what the other verbs can't say. It must be quick and may raise."""
        self._operations.append(lambda writing: operation(writing.connection))

    def then(self, act: Callable[[], None]) -> None:
        """Call ``act`` on the event loop once the step is durable, before its messages leave and also where who waits for it has gone: for
        what memory knows of the tables.
        """
        self._after.append(act)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._operations:
            await self._records.write(self._operations, self._messages, self._after)
        elif kind is None:
            _run_all(self._after)


class Records:
    """The database of records. Open it with :meth:`open`, close it with :meth:`close`.

    With ``inline=True`` everything runs on the calling thread, one step a transaction: for simulations, which want no threads.
    """

    def __init__(self, url: str, clock: Clock, *, random: Randomness = system_random, inline: bool = False) -> None:
        self.url = url
        self.clock = clock
        self.random = random
        self.with_sm3 = False
        """Whether each leaf carries its SM3 digest too (base/entry.py)."""
        self._inline = inline
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._leaves: dict[str, int] = {}
        self._number: int | None = None
        self._wakers: list[Callable[[], None]] = []
        self._receivers: list[Callable[[list[Queued]], None]] = []
        memory = url in ("sqlite://", "sqlite:///:memory:")
        options: dict[str, Any] = {"poolclass": StaticPool} if memory else {}
        if url.startswith("sqlite"):
            options["connect_args"] = {"check_same_thread": False, "timeout": 30}
        self.engine = create_engine(url, **options)
        if url.startswith("sqlite"):
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self.statements = Statements(self.engine.dialect)
        self._readers = None if inline or memory else ThreadPoolExecutor(4, thread_name_prefix="records-read")
        self._memory = memory
        self._lite = url.startswith("sqlite")
        self._finding: PoolProxiedConnection | None = None
        self._groups = 0

    def open(self, migrate: Callable[[Connection], None]) -> None:
        """Connect, bring the schema up to date with ``migrate`` and start the writer.

        Raises Corrupt ``records.unopenable`` and ConfigProblem ``records.newer``.
        """
        try:
            with self.engine.begin() as connection:
                migrate(connection)
        except SQLAlchemyError as error:
            raise Corrupt(
                "records.unopenable", url=self.engine.url.render_as_string(), reason=_reason(error)
            ) from error
        if not self._inline:
            self._thread = threading.Thread(target=self._write_loop, name="records-write", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish the waiting steps and close every connection."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._readers is not None:
            self._readers.shutdown()
        if self._finding is not None:
            self._finding.close()
            self._finding = None
        self.engine.dispose()

    def step(self, participant: str) -> Step:
        """A new unit of work for a participant."""
        return Step(self, participant)

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on the event loop after each commit (the outbox and the prover sleep until then)."""
        self._wakers.append(wake)

    def on_messages(self, take: Callable[[list[Queued]], None]) -> None:
        """Hand ``take`` the messages of each committed step, on the event loop, in the order of the outbox."""
        self._receivers.append(take)

    async def write(
        self, operations: Sequence[Operation], queued: list[Queued], after: Sequence[Callable[[], None]]
    ) -> None:
        """Run the operations in one transaction and return when it is durable. Steps call this.

        ``queued`` is filled by the operations and handed over after the commit, and after ``after``.
        """
        if self._inline:
            with self.engine.begin() as connection:
                writing = Writing(connection)
                try:
                    for operation in operations:
                        operation(writing)
                except BaseException:
                    self._forget()
                    raise
            _run_all(after)
            self._hand_over(queued)
            for wake in self._wakers:
                wake()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Waiting(operations, queued, after, future))
        await future

    async def rows(self, statement: Executable) -> list[Row]:
        """All rows of a select, as mappings, from a snapshot."""
        if self._readers is None:
            return self.rows_now(statement)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.rows_now, statement)

    async def row(self, statement: Executable) -> Row | None:
        """The first row of a select, or None."""
        found = await self.rows(statement)
        return found[0] if found else None

    async def find(self, table: Table, columns: tuple[str, ...], **key: Any) -> Row | None:
        """One row by its key (the participant among it), as it is committed.

        On SQLite it is read at once on the calling thread: that takes about 10 microseconds, handing it to another thread ten times as
        long. On a server it is read as :meth:`row` does.
        """
        if self._memory or not self._lite:
            where = and_(*(table.c[name] == value for name, value in key.items()))
            return await self.row(select(*(table.c[name] for name in columns)).where(where))
        if self._finding is None:
            self._finding = self.engine.raw_connection()
        participant = key.pop("participant")
        text = self.statements.find_text(table, columns, tuple(key))
        raw: Any = self._finding.dbapi_connection
        found = raw.execute(text, (participant, *key.values())).fetchone()
        return None if found is None else dict(zip(columns, found, strict=True))

    def rows_now(self, statement: Executable) -> list[Row]:
        """As :meth:`rows`, on the calling thread; for start-up and for code that has no loop."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    async def counter(self, participant: str, name: str) -> int:
        """The value of a counter, 0 if it was never counted."""
        row = await self.find(COUNTERS, ("value",), participant=participant, name=name)
        return int(row["value"]) if row else 0

    def next_leaf(self, connection: Connection, participant: str) -> int:
        """The next index in the participant's tree; only the writer calls it, inside the transaction."""
        number = self._leaves.get(participant)
        if number is None:
            last = connection.execute(
                select(func.max(LEAVES.c.number)).where(LEAVES.c.participant == participant)
            ).scalar()
            number = -1 if last is None else int(last)
        self._leaves[participant] = number + 1
        return number + 1

    def next_number(self, connection: Connection) -> int:
        """The next number of the outbox; only the writer calls it, inside the transaction."""
        if self._number is None:
            self._number = int(connection.execute(select(func.coalesce(func.max(OUTBOX.c.number), 0))).scalar_one())
        self._number += 1
        return self._number

    def _hand_over(self, messages: list[Queued]) -> None:
        if messages:
            for take in self._receivers:
                take(messages)

    def _forget(self) -> None:
        # a rolled-back step may have taken numbers: read them again from the table, so that the tree has no holes
        self._leaves.clear()
        self._number = None

    def _write_loop(self) -> None:
        stopping = False
        writing: Writing | None = None
        while not stopping:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._queue.get_nowait())
            stopping = None in waiting
            steps = [item for item in waiting if item is not None]
            if not steps:
                continue
            try:
                if writing is None:
                    writing = Writing(self.engine.connect())
                if len(steps) == 1:
                    steps[0].outcome = self._run_alone(writing, steps[0].operations)
                else:
                    writing.begin()
                    for step in steps:
                        step.outcome = self._run(writing, step.operations)
                    writing.commit()
            except (SQLAlchemyError, sqlite3.Error, OSError) as error:
                # the group's transaction is gone: nobody's step was written, everybody is told
                self._forget()
                failure = _failure(error)
                for step in steps:
                    step.outcome = failure
                if writing is not None:
                    with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                        writing.rollback()
                    with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                        writing.connection.close()
                    writing = None
            self._tidy()
            with contextlib.suppress(RuntimeError):  # the loop may be closed when the process ends
                steps[0].future.get_loop().call_soon_threadsafe(self._settle, steps)
        if writing is not None:
            writing.connection.close()

    def _tidy(self) -> None:
        # SQLite itself would bring the log home within some unlucky step's commit, every thousand pages; here a reader's thread does it
        # beside the writer
        self._groups += 1
        if not self._lite or self._readers is None or self._groups % 64:
            return
        with contextlib.suppress(OSError, RuntimeError):
            if Path(f"{self.engine.url.database}-wal").stat().st_size > _LOG_BYTES:
                self._readers.submit(self._bring_home)

    def _bring_home(self) -> None:
        with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
            raw = self.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                raw.close()

    def _settle(self, steps: list[_Waiting]) -> None:
        # on the loop: memory learns what the tables hold, the steps return, their messages leave, the sleepers wake
        for step in steps:
            if step.outcome is None:
                _run_all(step.after)
            _resolve(step.future, step.outcome)
        for step in steps:
            if step.outcome is None:
                self._hand_over(step.queued)
        for wake in self._wakers:
            wake()

    def _run_alone(self, writing: Writing, operations: Sequence[Operation]) -> BaseException | None:
        # a group of one needs no savepoint: its transaction is its own
        writing.begin()
        try:
            for operation in operations:
                operation(writing)
            writing.commit()
        except Exception as error:
            if _is_fatal(error):
                raise
            writing.rollback()
            self._forget()
            return error
        return None

    def _run(self, writing: Writing, operations: Sequence[Operation]) -> BaseException | None:
        writing.mark()
        try:
            for operation in operations:
                operation(writing)
        except Exception as error:  # the caller gets its own exception back; the writer lives on
            if _is_fatal(error):
                raise
            writing.take_back()
            self._forget()
            return error
        writing.keep()
        return None


_QUEUED = (
    "participant",
    "kind",
    "key",
    "lane",
    "number",
    "payload",
    "state",
    "attempts",
    "next_at",
    "created_at",
)
_LEAF = ("participant", "number", "kind", "leaf", "recorded_at")
_EDGE = ("participant", "source", "target", "relation", "recorded_at")


def _run_all(acts: Sequence[Callable[[], None]]) -> None:
    for act in acts:
        try:
            act()
        except Exception:  # noqa: BLE001 - the step is durable whatever listeners make of it, and others wait for theirs
            _LOG.exception("what follows a step failed")


def _resolve(future: asyncio.Future[None], outcome: BaseException | None) -> None:
    if future.done():
        return
    if outcome is None:
        future.set_result(None)
    else:
        future.set_exception(outcome)


def _sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are ours (see _sqlite_begin)
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=30000",
        f"wal_autocheckpoint={4 * _LOG_BYTES // 4096}",  # where nobody else does it, see Records._tidy
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    raw: Any = connection.connection.dbapi_connection
    if not raw.in_transaction:  # the writer may have begun it already
        raw.execute("BEGIN")


def _is_integrity(error: BaseException) -> bool:
    # SQLAlchemy and the driver call it alike
    return type(error).__name__ == "IntegrityError"


def _is_fatal(error: BaseException) -> bool:
    # a full disk or a lost server aborts the whole group, not one step
    return isinstance(error, (DBAPIError, sqlite3.Error)) and type(error).__name__ in (
        "OperationalError",
        "InternalError",
        "InterfaceError",
    )


def _key_of(into: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: row.get(column.name) for column in into.primary_key if column.name != "participant"}


_FULL = ("disk is full", "no space left", "disk quota", "could not extend file")
"""What SQLite, PostgreSQL and the system say when there is no room; anything else that fails is not a matter of room."""


def _failure(error: BaseException) -> Retryable:
    reason = _reason(error)
    full = getattr(getattr(error, "orig", None), "sqlstate", "") == "53100" or any(
        words in reason.lower() for words in _FULL
    )  # PostgreSQL says it in its own language
    return Retryable("records.disk-full" if full else "records.write-failed", reason=reason)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200]
