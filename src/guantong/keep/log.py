"""The durable log: every batch as it came, before anything else sees it.

One SQLite file (write-ahead log, ``synchronous=FULL``: a commit returns when the disk has it), one writer thread, group commit: all
batches that wait go into one transaction, so the disk is paid once for many. A batch is an Arrow IPC stream (zstd) beside its kind,
source and note, with a CRC-32 over both, since SQLite itself does not notice a flipped bit in a blob.

Positions are numbers of this file, never used twice (``AUTOINCREMENT``), so they grow within each participant. The file also holds how
far each participant's tables are committed. Whoever commits tables states the intent first and the outcome after; entries between the
two after a crash may be in some tables and not in others, and :meth:`Log.read` does not read across that border in one go.

The log is bounded. Entries that the tables have are trimmed after a retention, or at once when the bound is reached. When nothing may be
trimmed, the drop policy decides: ``refuse`` (a batch is refused with ``keep.log-full``, so that the source holds it) or ``oldest`` (entries
that nobody has read are dropped, oldest first, in chunks; a gap record for each source takes their place, and what was dropped is
counted). This module and ``doctor.py`` are the only ones of the room that know SQL of an engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import NS, Clock
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Retryable, Skippable
from guantong.keep.entries import check, crc, decode, encode, gap_of, merged, reason
from guantong.keep.model import KeepSettings, Logged
from guantong.keep.seal import Seal, opened

__all__ = ["Dropped", "Log", "Mark", "owner_of", "write_gaps"]

FORMAT = 2
"""1: no sealed entries, no drop counters, no samples. A log that was never sealed stays readable for the version before."""
GROUP_MAX = 256
"""Most batches in one transaction, so that the first of them does not wait for ever."""
DROP_PART = 50
"""When entries are dropped, at least one part in so many of the bound goes, so that gap records stay few."""
SAMPLES_MAX = 24 * 30
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
CREATE TABLE IF NOT EXISTS dropped (
    participant TEXT NOT NULL, source TEXT NOT NULL, entries INTEGER NOT NULL, rows INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (participant, source)
);
CREATE TABLE IF NOT EXISTS samples (at INTEGER PRIMARY KEY, free INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS seals (name TEXT PRIMARY KEY);
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


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the drop policy took of one source."""

    entries: int
    rows: int
    last: int
    """When it last did, ns."""


class Log:
    """The log of one node. With ``inline=True`` everything runs on the calling thread, one batch a transaction."""

    def __init__(
        self, path: Path, clock: Clock, settings: KeepSettings, *, seal: Seal | None = None, inline: bool = False
    ) -> None:
        self.path = path
        self.refused = 0
        """Batches refused since the start because the log or its disk was full."""
        self.trimmed = 0
        """Entries trimmed since the start."""
        self._seal = seal
        self._turn = threading.Lock()
        """Held while entries are read and while unread ones are dropped: what was handed out is never dropped."""
        self._read_up_to: dict[str, int] = {}
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
            self._unseal(connection)
            sealed = connection.execute("SELECT 1 FROM seals").fetchone() is not None
            connection.execute(f"PRAGMA user_version={FORMAT if sealed else 1}")
            self._used = int(connection.execute("SELECT coalesce(sum(bytes), 0) FROM marks").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise Corrupt("keep.log-unopenable", path=self.path.name, reason=reason(error)) from error
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

    def _unseal(self, connection: sqlite3.Connection) -> None:
        """Know the key of this log, or refuse to open it."""
        known = {name for (name,) in connection.execute("SELECT name FROM seals")}
        if known and self._seal is None:
            connection.close()
            raise ConfigProblem("keep.key-missing")
        if self._seal is not None and self._seal.name not in known:
            if known:
                connection.close()
                raise ConfigProblem("keep.key-other", found=self._seal.name, known=", ".join(sorted(known)))
            connection.execute("INSERT INTO seals VALUES (?)", (self._seal.name,))

    # writing

    async def append(self, participant: str, batch: Batch) -> int:
        """Make a batch durable and return its position.

        Raises Skippable ``keep.batch-unfit``, Retryable ``keep.log-full``, ``keep.disk-full``, ``keep.closed``.
        """
        check(participant, batch)
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
                (position, position, commits, self._closed(latest, participant), participant),
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

        def work(connection: sqlite3.Connection) -> list[Logged]:
            with self._turn:
                found = _entries(connection, participant, after, limit_rows, self._seal)
                if found:
                    self._read_up_to[participant] = max(found[-1].position, self._read_up_to.get(participant, 0))
                return found

        return await self._read(work)

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
            if latest is not None:
                latest = opened(self._seal, latest, owner_of(participant, "latest"))
            return Mark(logged, stored, intended, size, entries, commits, listed, latest)

        return await self._read(work)

    async def participants(self) -> list[str]:
        """Everyone who has an entry or a mark."""
        return await self._read(
            lambda connection: [name for (name,) in connection.execute("SELECT participant FROM marks ORDER BY 1")]
        )

    async def dropped(self, participant: str) -> dict[str, Dropped]:
        """What the drop policy took, by source, since the log was made."""
        return await self._read(
            lambda connection: {
                source: Dropped(entries, rows, last)
                for source, entries, rows, last in connection.execute(
                    "SELECT source, entries, rows, last FROM dropped WHERE participant = ? ORDER BY source",
                    (participant,),
                )
            }
        )

    async def sample(self, free: int) -> None:
        """Note the free bytes of the disk at this time, for the forecast; the oldest notes are forgotten."""
        now = self._clock.now()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO samples VALUES (?, ?)", (now, free))
            connection.execute(
                "DELETE FROM samples WHERE at NOT IN (SELECT at FROM samples ORDER BY at DESC LIMIT ?)", (SAMPLES_MAX,)
            )

        await self._write(work)

    async def samples(self) -> list[tuple[int, int]]:
        """Those notes: time (ns) and free bytes, in order."""
        return await self._read(
            lambda connection: connection.execute("SELECT at, free FROM samples ORDER BY at").fetchall()
        )

    async def last_at(self) -> int:
        """When the newest entry or note was made, ns; 0 for none."""

        def work(connection: sqlite3.Connection) -> int:
            entry = connection.execute("SELECT at FROM log ORDER BY position DESC LIMIT 1").fetchone()
            noted = connection.execute("SELECT max(at) FROM samples").fetchone()
            return max(entry[0] if entry else 0, noted[0] or 0)

        return await self._read(work)

    def busy(self) -> bool:
        """Whether batches wait to be made durable."""
        return not self._queue.empty()

    # inside

    def _closed(self, data: bytes | None, participant: str) -> bytes | None:
        return data if data is None or self._seal is None else self._seal.close(data, owner_of(participant, "latest"))

    def _append(self, connection: sqlite3.Connection, participant: str, batch: Batch) -> int:
        blob, note = encode(batch, self._seal, owner_of(participant, batch.source))
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
            if used + size > limit and self._settings.log_drop == "oldest":
                used -= self._drop_unread(connection, used + size - limit)
            if used + size > limit:
                raise Retryable("keep.log-full", used=used, limit=limit)
        return self._insert(connection, participant, batch, blob, note)

    def _insert(self, connection: sqlite3.Connection, participant: str, batch: Batch, blob: Any, note: bytes) -> int:
        size = len(blob) + len(note)
        cursor = connection.execute(
            "INSERT INTO log (participant, source, kind, at, rows, size, crc, note, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                participant,
                batch.source,
                batch.kind,
                self._clock.now(),
                batch.rows.num_rows,
                size,
                crc(note, blob),
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

    def _drop_unread(self, connection: sqlite3.Connection, need: int) -> int:
        """Drop the oldest entries that were never handed out, put gap records in their place; the bytes freed by it."""
        wanted = max(need, self._settings.log_bytes_max // DROP_PART)
        freed = 0
        with self._turn:
            gone: dict[tuple[str, str], list[tuple[int, int, int, list[dict[str, Any]]]]] = {}
            cursor = connection.execute(
                "SELECT l.participant, l.source, l.kind, l.position, l.size, l.note, l.blob FROM log l"
                " LEFT JOIN marks m ON m.participant = l.participant WHERE l.position > coalesce(m.stored, 0) ORDER BY l.position"
            )
            with contextlib.closing(cursor):
                for participant, source, kind, position, size, note, blob in cursor:
                    if freed >= wanted:
                        break
                    if position <= self._read_up_to.get(participant, 0):
                        continue
                    batch = decode(source, kind, note, blob, self._seal, owner_of(participant, source))
                    gone.setdefault((participant, source), []).append(
                        (position, size, batch.rows.num_rows, gap_of(batch))
                    )
                    freed += size
            for (participant, source), entries in gone.items():
                self._drop(connection, participant, [(position, size) for position, size, _, _ in entries])
                rows = sum(count for _, _, count, _ in entries)
                connection.execute(
                    "INSERT INTO dropped VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET"
                    " entries = entries + ?3, rows = rows + ?4, last = ?5",
                    (participant, source, len(entries), rows, self._clock.now()),
                )
                gaps = merged(gap for _, _, _, told in entries for gap in told)
                batch = Batch(source, "readings", _no_rows(), {"gaps": gaps})
                blob, note = encode(batch, self._seal, owner_of(participant, source))
                self._insert(connection, participant, batch, blob, note)
                freed -= len(blob) + len(note)
                self._trimming -= len(entries)
        return max(freed, 0)

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
            raise Retryable("keep.disk-full", reason=reason(error)) from error
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
            return [(future, None, Retryable("keep.disk-full", reason=reason(error))) for _, future, _ in jobs]
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
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    # a reader needs a little room too, for the index of the write-ahead log
                    raise Retryable("keep.disk-full", reason=reason(error)) from error
                raise Corrupt("keep.log-unopenable", path=self.path.name, reason=reason(error)) from error

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


def _entries(
    connection: sqlite3.Connection, participant: str, after: int, limit_rows: int, seal: Seal | None
) -> list[Logged]:
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
        for position, source, kind, at, rows, stored, note, blob in cursor:
            if found and total + rows > limit_rows:
                break
            if crc(note, blob) != stored:
                if found:
                    break  # hand over what is whole; the next call stops here
                raise Corrupt("keep.log-damaged", position=position)
            found.append(Logged(position, decode(source, kind, note, blob, seal, owner_of(participant, source)), at))
            total += rows
    return found


def write_gaps(
    connection: sqlite3.Connection,
    participant: str,
    source: str,
    gaps: list[dict[str, Any]],
    at: int,
    seal: Seal | None,
) -> int:
    """Add an entry without rows that carries gap records, and count it, while no log is open; the bytes it takes."""
    blob, note = encode(Batch(source, "readings", _no_rows(), {"gaps": gaps}), seal, owner_of(participant, source))
    size = len(blob) + len(note)
    cursor = connection.execute(
        "INSERT INTO log (participant, source, kind, at, rows, size, crc, note, blob) VALUES (?, ?, 'readings', ?, 0, ?, ?, ?, ?)",
        (participant, source, at, size, crc(note, blob), note, blob),
    )
    connection.execute("INSERT OR IGNORE INTO marks (participant) VALUES (?)", (participant,))
    connection.execute(
        "UPDATE marks SET bytes = bytes + ?, entries = entries + 1, logged = max(logged, ?) WHERE participant = ?",
        (size, int(cursor.lastrowid or 0), participant),
    )
    return size


def _no_rows() -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], reading_schema())


def owner_of(participant: str, source: str) -> str:
    """What a sealed value of the log belongs to."""
    return f"log:{participant}:{source}"


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
