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
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from sqlalchemy import Connection, Executable, Table, and_, create_engine, event, func, insert, select, text
from sqlalchemy import delete as delete_from
from sqlalchemy import update as update_table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from guantong.base.clock import Clock
from guantong.base.entry import MAX_LEAF_BYTES, Entry, leaf_bytes
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused, Retryable
from guantong.base.ids import Randomness, system_random
from guantong.records.model import Edge, Message
from guantong.records.statements import Statements
from guantong.records.tables import COUNTERS, EDGES, LEAVES, OUTBOX

__all__ = ["Queued", "Records", "Row", "Step"]

Row = Mapping[str, Any]
"""One row of an answer, by column name."""

Operation = Callable[[Connection], object]


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

    def insert(self, into: Table, **values: Any) -> None:
        """Add a row; the participant is filled in. A row with that key already there: Retryable ``records.conflict``."""
        row = {"participant": self.participant, **values}
        statements = self._records.statements

        def run(connection: Connection) -> None:
            try:
                statements.insert(connection, into, row)
            except DBAPIError as error:
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
        self._operations.append(lambda connection: statements.upsert(connection, into, row))

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

        def run(connection: Connection) -> None:
            if statements.update(connection, table, wanted, values, expect or {}) != 1:
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
            lambda connection: _discard(
                connection.execute(
                    delete_from(table).where(and_(*(table.c[name] == value for name, value in wanted.items())))
                )
            )
        )

    def send(self, message: Message) -> None:
        """Queue a message; it leaves after the commit. A key already queued is not queued again."""
        payload = orjson.dumps(dict(message.payload), option=orjson.OPT_SORT_KEYS)
        statements = self._records.statements

        def run(connection: Connection) -> None:
            same = and_(
                OUTBOX.c.participant == self.participant, OUTBOX.c.kind == message.kind, OUTBOX.c.key == message.key
            )
            if connection.execute(select(OUTBOX.c.number).where(same)).first() is not None:
                return
            number = self._records.next_number(connection)
            self._messages.append(Queued(self.participant, message.kind, message.key, message.lane, number, payload))
            statements.insert(
                connection,
                OUTBOX,
                {
                    "participant": self.participant,
                    "kind": message.kind,
                    "key": message.key,
                    "lane": message.lane,
                    "number": number,
                    "payload": payload,
                    "state": "queued",
                    "attempts": 0,
                    "next_at": self.at,
                    "created_at": self.at,
                },
            )

        self._operations.append(run)

    def record(self, entry: Entry) -> None:
        """State something for the record: a leaf of the evidence log, durable with this step."""
        salt = self._records.random(16)
        leaf = leaf_bytes(entry, participant=self.participant, at=self.at, salt=salt)
        if len(leaf) > MAX_LEAF_BYTES:
            raise ConfigProblem("records.entry-too-large", kind=entry.kind.name, size=len(leaf))
        statements = self._records.statements

        def run(connection: Connection) -> None:
            number = self._records.next_leaf(connection, self.participant)
            statements.insert(
                connection,
                LEAVES,
                {
                    "participant": self.participant,
                    "number": number,
                    "kind": entry.kind.name,
                    "leaf": leaf,
                    "recorded_at": self.at,
                },
            )
            self.leaves.append(number)

        self._operations.append(run)

    def count(self, name: str, by: int = 1, *, limit: int | None = None) -> None:
        """Add to a counter. Above ``limit``: Refused ``records.limit-reached`` and nothing of the step is written."""

        def run(connection: Connection) -> None:
            where = and_(COUNTERS.c.participant == self.participant, COUNTERS.c.name == name)
            old = connection.execute(select(COUNTERS.c.value).where(where)).scalar()
            value = (old or 0) + by
            if limit is not None and value > limit:
                raise Refused("records.limit-reached", name=name, limit=limit)
            if old is None:
                connection.execute(insert(COUNTERS), {"participant": self.participant, "name": name, "value": value})
            else:
                connection.execute(update_table(COUNTERS).where(where), {"value": value})

        self._operations.append(run)

    def link(self, *edges: Edge) -> None:
        """Record edges of lineage; an edge already known is left alone."""
        wanted = {(edge.source, edge.target, edge.relation) for edge in edges}
        if not wanted:
            return

        def run(connection: Connection) -> None:
            listed = sorted(wanted)
            # in pieces: a step may carry thousands of edges, and one select a piece is far quicker than one an edge
            for place in range(0, len(listed), 200):
                piece = listed[place : place + 200]
                known = {
                    tuple(row)
                    for row in connection.execute(
                        select(EDGES.c.source, EDGES.c.target, EDGES.c.relation).where(
                            and_(
                                EDGES.c.participant == self.participant,
                                EDGES.c.source.in_({edge[0] for edge in piece}),
                                EDGES.c.target.in_({edge[1] for edge in piece}),
                            )
                        )
                    )
                }
                rows = [
                    {
                        "participant": self.participant,
                        "source": source,
                        "target": target,
                        "relation": relation,
                        "recorded_at": self.at,
                    }
                    for source, target, relation in piece
                    if (source, target, relation) not in known
                ]
                if rows:
                    connection.execute(insert(EDGES), rows)

        self._operations.append(run)

    def apply(self, operation: Operation) -> None:
        """Run ``operation(connection)`` inside the transaction, for what the other verbs can't say. It must be quick and may raise."""
        self._operations.append(operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._operations:
            await self._records.write(self._operations, self._messages)


class Records:
    """The database of records. Open it with :meth:`open`, close it with :meth:`close`.

    With ``inline=True`` everything runs on the calling thread, one step a transaction: for simulations, which want no threads.
    """

    def __init__(self, url: str, clock: Clock, *, random: Randomness = system_random, inline: bool = False) -> None:
        self.url = url
        self.clock = clock
        self.random = random
        self._inline = inline
        self._queue: queue.SimpleQueue[tuple[list[Operation], list[Queued], asyncio.Future[None]] | None] = (
            queue.SimpleQueue()
        )
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

    async def write(self, operations: Sequence[Operation], messages: list[Queued] | None = None) -> None:
        """Run the operations in one transaction and return when it is durable. Steps call this.

        ``messages`` is filled by the operations and handed over after the commit.
        """
        queued = messages if messages is not None else []
        if self._inline:
            with self.engine.begin() as connection:
                try:
                    for operation in operations:
                        operation(connection)
                except BaseException:
                    self._forget()
                    raise
            self._hand_over(queued)
            for wake in self._wakers:
                wake()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.put((list(operations), queued, future))
        # awaited as it is: a step goes on before its messages leave (see _settle), so that what it keeps in memory is there for them
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

    def rows_now(self, statement: Executable) -> list[Row]:
        """As :meth:`rows`, on the calling thread; for start-up and for code that has no loop."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    async def counter(self, participant: str, name: str) -> int:
        """The value of a counter, 0 if it was never counted."""
        row = await self.row(
            select(COUNTERS.c.value).where(and_(COUNTERS.c.participant == participant, COUNTERS.c.name == name))
        )
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
        connection: Connection | None = None
        while not stopping:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._queue.get_nowait())
            stopping = None in waiting
            steps = [item for item in waiting if item is not None]
            if not steps:
                continue
            done: list[tuple[asyncio.Future[None], list[Queued], BaseException | None]] = []
            try:
                if connection is None:
                    connection = self.engine.connect()
                if len(steps) == 1:
                    operations, queued, future = steps[0]
                    done.append((future, queued, self._run_alone(connection, operations)))
                else:
                    with connection.begin():
                        for operations, queued, future in steps:
                            done.append((future, queued, self._run(connection, operations)))
            except (SQLAlchemyError, sqlite3.Error, OSError) as error:
                # the group's transaction is gone: nobody's step was written, everybody is told
                self._forget()
                failure = Retryable("records.disk-full", reason=_reason(error))
                done = [(future, queued, failure) for _, queued, future in steps]
                if connection is not None:
                    with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                        connection.close()
                    connection = None
            with contextlib.suppress(RuntimeError):  # the loop may be closed when the process ends
                done[0][0].get_loop().call_soon_threadsafe(self._settle, done)
        if connection is not None:
            connection.close()

    def _settle(self, done: list[tuple[asyncio.Future[None], list[Queued], BaseException | None]]) -> None:
        # on the loop: the steps return first, then their messages leave, then the sleepers wake
        for future, _, outcome in done:
            _resolve(future, outcome)
        for _, queued, outcome in done:
            if outcome is None:
                self._hand_over(queued)
        for wake in self._wakers:
            wake()

    def _run_alone(self, connection: Connection, operations: list[Operation]) -> BaseException | None:
        # a group of one needs no savepoint: its transaction is its own
        try:
            with connection.begin():
                for operation in operations:
                    operation(connection)
        except Exception as error:
            self._forget()
            if isinstance(error, DBAPIError) and _is_fatal(error):
                raise
            return error
        return None

    def _run(self, connection: Connection, operations: list[Operation]) -> BaseException | None:
        savepoint = connection.begin_nested()
        try:
            for operation in operations:
                operation(connection)
        except (GuantongError, DBAPIError) as error:
            if isinstance(error, DBAPIError) and _is_fatal(error):
                raise
            savepoint.rollback()
            self._forget()
            return error
        except Exception as error:  # noqa: BLE001 - the caller gets its own exception back; the writer lives on
            savepoint.rollback()
            self._forget()
            return error
        savepoint.commit()
        return None


def _resolve(future: asyncio.Future[None], outcome: BaseException | None) -> None:
    if future.done():
        return
    if outcome is None:
        future.set_result(None)
    else:
        future.set_exception(outcome)


def _discard(_: object) -> None:
    return None


def _sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are ours (see _sqlite_begin)
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    connection.execute(text("BEGIN"))


def _is_integrity(error: DBAPIError) -> bool:
    return type(error).__name__ == "IntegrityError"


def _is_fatal(error: DBAPIError) -> bool:
    # a full disk or a lost server aborts the whole group, not one step
    return type(error).__name__ in ("OperationalError", "InternalError", "InterfaceError")


def _key_of(into: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: row.get(column.name) for column in into.primary_key if column.name != "participant"}


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200]
