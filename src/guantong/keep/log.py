"""The durable log: every batch as it came, before anything else sees it.

One SQLite file (write-ahead log, ``synchronous=FULL``: a commit returns when the disk has it), one writer thread, group commit: all
batches that wait go into one transaction, so the disk is paid once for many. A batch is an Arrow IPC stream (zstd) beside its kind,
source and note, with a CRC-32 over both, since SQLite itself does not notice a flipped bit in a blob.

Positions are numbers of this file, never used twice (``AUTOINCREMENT``), so they grow within each participant. The file also holds how
far each participant's tables are committed. Whoever commits tables states the intent first and the outcome after; entries between the
two after a crash may be in some tables and not in others, and :meth:`Log.read` does not read across that border in one go.

The log is bounded. Entries that the tables have are trimmed after a retention, or at once when the bound is reached; when nothing may be
trimmed, a batch is refused with ``keep.log-full``, so that the source holds it. This module is the only one of the room that knows SQL
of an engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from guantong.base.batch import Batch, measurement_schema, reading_schema
from guantong.base.clock import NS, Clock
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Retryable, Skippable
from guantong.keep.model import KeepSettings, Logged

__all__ = ["Log", "Mark"]

FORMAT = 1
GROUP_MAX = 256
"""Most batches in one transaction, so that the first of them does not wait for ever."""
TRIM_CHUNK = 2_000
"""Most entries trimmed in one transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    participant TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL,
    at INTEGER NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL,
    note BLOB NOT NULL, blob BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS log_order ON log (participant, position);
CREATE TABLE IF NOT EXISTS marks (
    participant TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL DEFAULT 0, entries INTEGER NOT NULL DEFAULT 0, logged INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0, intended INTEGER NOT NULL DEFAULT 0,
    commits INTEGER NOT NULL DEFAULT 0, latest BLOB
);
CREATE TABLE IF NOT EXISTS names (participant TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (participant, name));
"""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a participant is.

    logged: last position given out · stored: position up to which all tables are committed · intended: position of a commit that was
    begun; above ``stored`` only while it runs or after a crash within it · names: tables written so far · latest: last reading of each
    signal up to ``stored``, an Arrow IPC stream, or None.
    """

    logged: int = 0
    stored: int = 0
    intended: int = 0
    size_bytes: int = 0
    entries: int = 0
    commits: int = 0
    names: tuple[str, ...] = ()
    latest: bytes | None = None


class Log:
    """The log of one node. With ``inline=True`` everything runs on the calling thread, one batch a transaction."""

    def __init__(self, path: Path, clock: Clock, settings: KeepSettings, *, inline: bool = False) -> None:
        self.path = path
        self.refused = 0
        """Batches refused since the start because the log or its disk was full."""
        self.trimmed = 0
        """Entries trimmed since the start."""
        self._clock = clock
        self._settings = settings
        self._inline = inline
        self._queue: queue.SimpleQueue[tuple[Work, asyncio.Future[Any], bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._used = 0
        self._change: dict[str, list[int]] = {}  # participant: bytes, entries, logged within the open transaction
        self._trimming = 0
        self._wakers: list[Callable[[], None]] = []
        self._open = False

    # life

    def open(self) -> None:
        """Open or create the file and start the writer.

        Raises Corrupt ``keep.log-unopenable``, ConfigProblem ``keep.log-newer``.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect()
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if found > FORMAT:
                connection.close()
                raise ConfigProblem("keep.log-newer", found=found, known=FORMAT)
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version={FORMAT}")
            self._used = int(connection.execute("SELECT coalesce(sum(bytes), 0) FROM marks").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise Corrupt("keep.log-unopenable", path=self.path.name, reason=_reason(error)) from error
        self._writer = connection
        self._open = True
        if not self._inline:
            self._readers = ThreadPoolExecutor(1, thread_name_prefix="keep-log-read")
            self._thread = threading.Thread(target=self._write_loop, name="keep-log-write", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish what waits and close the file."""
        self._open = False
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    def on_append(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on the event loop after batches became durable."""
        self._wakers.append(wake)

    # writing

    async def append(self, participant: str, batch: Batch) -> int:
        """Make a batch durable and return its position.

        Raises Skippable ``keep.batch-unfit``, Retryable ``keep.log-full``, ``keep.disk-full``, ``keep.closed``.
        """
        _check(participant, batch)
        return await self._write(lambda connection: self._append(connection, participant, batch), wake=True)

    async def intend(self, participant: str, position: int, names: Iterable[str]) -> None:
        """State that tables ``names`` are about to be committed up to ``position``."""
        listed = tuple(names)

        def work(connection: sqlite3.Connection) -> None:
            self._touch(connection, participant)
            connection.execute(
                "UPDATE marks SET intended = max(intended, ?) WHERE participant = ?", (position, participant)
            )
            connection.executemany(
                "INSERT OR IGNORE INTO names VALUES (?, ?)", [(participant, name) for name in listed]
            )

        await self._write(work)

    async def settle(self, participant: str, position: int, *, latest: bytes | None, commits: int) -> None:
        """State that all tables are committed up to ``position``; trims what is past its retention."""

        def work(connection: sqlite3.Connection) -> None:
            self._touch(connection, participant)
            connection.execute(
                "UPDATE marks SET stored = max(stored, ?), intended = max(intended, ?), commits = commits + ?,"
                " latest = coalesce(?, latest) WHERE participant = ?",
                (position, position, commits, latest, participant),
            )
            cut = self._clock.now() - int(self._settings.log_retention_s * NS)
            old: list[tuple[int, int]] = []
            for number, size, at in connection.execute(
                "SELECT position, size, at FROM log WHERE participant = ? AND position <= ? ORDER BY position LIMIT ?",
                (participant, position, TRIM_CHUNK),
            ):
                if at > cut:
                    break
                old.append((number, size))
            self._drop(connection, participant, old)

        await self._write(work)

    # reading

    async def read(self, participant: str, after: int, limit_rows: int) -> list[Logged]:
        """Entries above ``after``, in order: at least one if there is any, then as many as fit in ``limit_rows``.

        Stops at the border of a commit that a crash cut short. Raises Corrupt ``keep.log-damaged``.
        """
        return await self._read(lambda connection: _entries(connection, participant, after, limit_rows))

    async def mark(self, participant: str) -> Mark:
        """How far the participant is."""

        def work(connection: sqlite3.Connection) -> Mark:
            row = connection.execute(
                "SELECT logged, stored, intended, bytes, entries, commits, latest FROM marks WHERE participant = ?",
                (participant,),
            ).fetchone()
            names = connection.execute("SELECT name FROM names WHERE participant = ? ORDER BY name", (participant,))
            listed = tuple(name for (name,) in names)
            if row is None:
                return Mark(names=listed)
            logged, stored, intended, size, entries, commits, latest = row
            return Mark(logged, stored, intended, size, entries, commits, listed, latest)

        return await self._read(work)

    async def participants(self) -> list[str]:
        """Everyone who has an entry or a mark."""
        return await self._read(
            lambda connection: [name for (name,) in connection.execute("SELECT participant FROM marks ORDER BY 1")]
        )

    # inside

    def _append(self, connection: sqlite3.Connection, participant: str, batch: Batch) -> int:
        blob, note = _encode(batch)
        size = len(blob) + len(note)
        if size > self._settings.batch_bytes_max:
            raise Skippable(
                "keep.batch-unfit",
                source=batch.source,
                reason=f"{size} bytes, at most {self._settings.batch_bytes_max} are allowed",
            )
        limit = self._settings.log_bytes_max
        used = self._used + sum(change[0] for change in self._change.values())
        if used + size > limit:
            used -= self._make_room(connection, used + size - limit)
            if used + size > limit:
                raise Retryable("keep.log-full", used=used, limit=limit)
        cursor = connection.execute(
            "INSERT INTO log (participant, source, kind, at, rows, size, crc, note, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                participant,
                batch.source,
                batch.kind,
                self._clock.now(),
                batch.rows.num_rows,
                size,
                _crc(note, blob),
                note,
                blob,
            ),
        )
        position = int(cursor.lastrowid or 0)
        change = self._change.setdefault(participant, [0, 0, 0])
        change[0] += size
        change[1] += 1
        change[2] = position
        return position

    def _make_room(self, connection: sqlite3.Connection, need: int) -> int:
        """Trim the oldest entries that the tables have, whatever their age, until ``need`` bytes are free; the bytes freed."""
        freed = 0
        while freed < need:
            rows = connection.execute(
                "SELECT l.participant, l.position, l.size FROM log l JOIN marks m ON m.participant = l.participant"
                " WHERE l.position <= m.stored ORDER BY l.position LIMIT 64"
            ).fetchall()
            if not rows:
                break
            for participant, position, size in rows:
                self._drop(connection, participant, [(position, size)])
                freed += size
                if freed >= need:
                    break
        return freed

    def _drop(self, connection: sqlite3.Connection, participant: str, entries: list[tuple[int, int]]) -> None:
        if not entries:
            return
        connection.executemany("DELETE FROM log WHERE position = ?", [(position,) for position, _ in entries])
        change = self._change.setdefault(participant, [0, 0, 0])
        change[0] -= sum(size for _, size in entries)
        change[1] -= len(entries)
        self._trimming += len(entries)

    def _touch(self, connection: sqlite3.Connection, participant: str) -> None:
        connection.execute("INSERT OR IGNORE INTO marks (participant) VALUES (?)", (participant,))

    def _begin(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect()
        self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Write the sums of the transaction beside its entries and make both durable."""
        for participant, (size, entries, logged) in self._change.items():
            self._touch(connection, participant)
            connection.execute(
                "UPDATE marks SET bytes = bytes + ?, entries = entries + ?, logged = max(logged, ?) WHERE participant = ?",
                (size, entries, logged, participant),
            )
        connection.execute("COMMIT")
        self._used += sum(change[0] for change in self._change.values())
        if self._trimming:
            self.trimmed += self._trimming
            with contextlib.suppress(sqlite3.Error):  # giving pages back to the disk can wait for the next time
                connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        self._forget()

    def _forget(self) -> None:
        self._change.clear()
        self._trimming = 0

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, wake: bool = False) -> T:
        if not self._open:
            raise Retryable("keep.closed")
        if self._inline:
            return self._write_inline(work, wake)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((work, future, wake))
        # shielded: a caller that leaves does not undo what is being written
        return await asyncio.shield(future)

    def _write_inline(self, work: Callable[[sqlite3.Connection], T], wake: bool) -> T:
        try:
            connection = self._begin()
            result = work(connection)
            self._commit(connection)
        except (sqlite3.Error, OSError) as error:
            self._broken()
            self.refused += wake
            raise Retryable("keep.disk-full", reason=_reason(error)) from error
        except Exception as error:
            self.refused += isinstance(error, GuantongError) and error.code == "keep.log-full"
            self._forget()
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        for call in self._wakers if wake else ():
            call()
        return result

    def _write_loop(self) -> None:
        stopping = False
        while not stopping:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(waiting) < GROUP_MAX and waiting[-1] is not None:
                    waiting.append(self._queue.get_nowait())
            stopping = waiting[-1] is None
            jobs = [job for job in waiting if job is not None]
            if jobs:
                _deliver(self._write_group(jobs), self._wakers if any(wake for _, _, wake in jobs) else [])

    def _write_group(
        self, jobs: list[tuple[Work, asyncio.Future[Any], bool]]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            connection = self._begin()
            for work, future, _ in jobs:
                try:
                    done.append((future, work(connection), None))
                except (sqlite3.Error, OSError):
                    raise
                except Exception as error:  # noqa: BLE001 - the caller gets its own exception back; the writer lives on
                    # such an error comes before the job's first own statement, so the others of the group stay whole
                    self.refused += isinstance(error, GuantongError) and error.code == "keep.log-full"
                    done.append((future, None, error))
            self._commit(connection)
        except (sqlite3.Error, OSError) as error:
            # the transaction is gone: nothing of the group was written, and everybody is told
            self._broken()
            self.refused += sum(wake for _, _, wake in jobs)
            return [(future, None, Retryable("keep.disk-full", reason=_reason(error))) for _, future, _ in jobs]
        return done

    def _broken(self) -> None:
        self._forget()
        connection, self._writer = self._writer, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._open:
            raise Retryable("keep.closed")

        def run() -> T:
            try:
                if self._reader is None:
                    self._reader = self._connect()
                return work(self._reader)
            except sqlite3.Error as error:
                raise Corrupt("keep.log-unopenable", path=self.path.name, reason=_reason(error)) from error

        if self._readers is None:
            return run()
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                "auto_vacuum=INCREMENTAL",
                "journal_mode=WAL",
                "synchronous=FULL",
                f"journal_size_limit={64 * 1024**2}",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _check(participant: str, batch: Batch) -> None:
    reason = ""
    if not participant:
        reason = "no participant"
    elif batch.kind == "readings":
        reason = _columns(batch, reading_schema())
    elif batch.kind == "measurements":
        reason = _columns(batch, measurement_schema())
    elif batch.kind != "table":
        reason = f"unknown kind {batch.kind[:32]!r}"
    elif not isinstance(batch.note.get("table"), str):
        reason = "note names no table"
    if reason:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=reason)


def _columns(batch: Batch, wanted: Any) -> str:
    # nullability is a promise about values, not a type: sources may leave it out
    found, known = batch.rows.schema, wanted
    if found.names == known.names and found.types == known.types:
        return ""
    odd = [name for name in known.names if name not in found.names or found.field(name).type != known.field(name).type]
    return f"columns {odd or found.names} differ"[:200]


def _encode(batch: Batch) -> tuple[Any, bytes]:
    import pyarrow as pa

    try:
        note = orjson.dumps(dict(batch.note))
    except TypeError as error:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=f"note: {error}") from error
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, batch.rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(batch.rows)
    except pa.ArrowException as error:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=_reason(error)) from error
    return sink.getvalue(), note


def _crc(note: bytes, blob: Any) -> int:
    return zlib.crc32(blob, zlib.crc32(note))


def _entries(connection: sqlite3.Connection, participant: str, after: int, limit_rows: int) -> list[Logged]:
    import pyarrow as pa

    row = connection.execute("SELECT intended, stored FROM marks WHERE participant = ?", (participant,)).fetchone()
    border = row[0] if row is not None and row[0] > row[1] and after < row[0] else 2**63 - 1
    found: list[Logged] = []
    total = 0
    cursor = connection.execute(
        "SELECT position, source, kind, at, rows, crc, note, blob FROM log"
        " WHERE participant = ? AND position > ? AND position <= ? ORDER BY position",
        (participant, after, border),
    )
    with contextlib.closing(cursor):
        for position, source, kind, at, rows, crc, note, blob in cursor:
            if found and total + rows > limit_rows:
                break
            if _crc(note, blob) != crc:
                if found:
                    break  # hand over what is whole; the next call stops here
                raise Corrupt("keep.log-damaged", position=position)
            with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
                batch = Batch(source, kind, reader.read_next_batch(), orjson.loads(note))
            found.append(Logged(position, batch, at))
            total += rows
    return found


def _deliver(
    done: list[tuple[asyncio.Future[Any], Any, BaseException | None]], wakers: list[Callable[[], None]]
) -> None:
    """Resolve the futures of each event loop in one call into it, then wake who waits for entries."""
    loops = {future.get_loop() for future, _, _ in done}
    for loop in loops:
        mine = [item for item in done if item[0].get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop may be closed when the process ends
            loop.call_soon_threadsafe(_resolve, mine, list(wakers))


def _resolve(
    done: list[tuple[asyncio.Future[Any], Any, BaseException | None]], wakers: list[Callable[[], None]]
) -> None:
    for future, result, error in done:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # marked as seen: the caller may have left
    for wake in wakers:
        wake()


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
