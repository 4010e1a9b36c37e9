"""The only door to Delta tables: by URI, read through an Arrow dataset, written by one writer.

A table is named by URI and options, so that a folder and an object store are the same to everybody else. DuckDB and Arrow read the
dataset of a :class:`Snapshot`; nobody lists files.

Exactly once: each commit carries the application transaction (participant/fuse, log position) of the Delta protocol ("Transaction
Identifiers"). The library stores it and does not enforce it, so :meth:`Table.append` compares before it commits and drops what the table
already has.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from guantong.base.errors import ConfigProblem, Corrupt, Retryable
from guantong.keep.model import clean_measurement_schema, clean_schema
from guantong.keep.tail import Piece, Tail, in_order

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties

__all__ = ["MEASUREMENTS", "NAMED", "READINGS", "File", "Snapshot", "Table", "folder_name", "foreign", "said"]

_log = logging.getLogger(__name__)

READINGS, MEASUREMENTS = "readings", "measurements"
NAMED = "table:"
"""What stands before the name of a table that is neither."""
ROW_GROUP = 122_880
"""Rows of a Parquet row group: DuckDB's unit of parallel work, and few enough that one signal's day touches one or two."""
VERSIONS_HELD = 4
"""Versions of a table that a reader keeps open, for queries that began before a commit."""
CROWD = 32
"""So many small files of a day (or of a table without days) are joined before a commit adds the next: the library's work and memory for
a commit grow with the number of files."""
SMALL_BYTES = 16 * 1024**2
"""Files of this size are joined no more; upkeep, which sorts, does the rest."""
ATTEMPTS = 5
"""Commits tried before ``keep.table-unwritable``."""


@dataclass(frozen=True, slots=True)
class File:
    """One data file of a snapshot, from the table's own statistics. Times in microseconds, None where there are none."""

    rows: int
    bytes: int
    first: int | None
    last: int | None
    revised: bool
    """Whether a row may have a revision above 0."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table. Version -1: the table does not exist yet."""

    version: int
    dataset: Any
    files: tuple[File, ...]

    def revised(self, first: int | None, last: int | None) -> bool:
        """Whether a row between two times (µs, both included, None: open) may have a later revision."""
        return any(
            file.revised
            and (first is None or file.last is None or file.last >= first)
            and (last is None or file.first is None or file.first <= last)
            for file in self.files
        )


class Table:
    """One Delta table of one participant."""

    def __init__(self, root: str, participant: str, name: str, options: Mapping[str, str]) -> None:
        self.name = name
        self.participant = participant
        self.uri = "/".join(
            (root.rstrip("/"), folder_name(participant), *((name,) if name in _OWN else ("tables", folder_name(name))))
        )
        self._base = _local(root) or Path(root)
        self._options = dict(options) or None
        self._application = f"{participant}/fuse"
        self._own = _OWN.get(name)
        self._handle: DeltaTable | None = None
        self._shown: Snapshot | None = None
        self._asked = False
        self._writing = threading.Lock()
        self._version: int | None = None
        self._appended = CROWD
        """Commits since the files were last counted."""
        self._versions: dict[int, Snapshot] = {}

    # writing

    def fit(self, rows: pa.Table, position: int) -> pa.Table:
        """Rows with exactly the table's columns and types. Raises ConfigProblem ``keep.rows-unfit``."""
        import pyarrow as pa

        try:
            if self._own is not None:
                return self._fit_own(rows, self._own())
            return self._fit_named(rows, position)
        except (KeyError, pa.ArrowException) as error:
            raise ConfigProblem("keep.rows-unfit", table=self.name, reason=said(error)) from error

    def append(self, tail: Tail, position: int, ceiling: int) -> tuple[int, pa.Table] | None:
        """Commit what waits in the tail up to ``position``; version and rows of the commit, or None if there was nothing new.

        ceiling: highest position that a commit can have had. Raises Corrupt ``keep.log-behind``, Retryable ``keep.table-unwritable``.
        """
        with self._writing:
            with tail.lock:
                pieces = [piece for piece in tail.waiting(self.name) if piece.position <= position]
            if not pieces:
                return None
            done = self._append(pieces, position, ceiling)
            shown = self._look() if self._asked else None
            with tail.lock:
                # in one moment rows leave the tail and enter what queries see of the table
                tail.drop(self.name, len(pieces))
                self._shown = shown
                self._version = None if self._handle is None else self._handle.version()
            return done

    def committed(self) -> int:
        """Log position of the last commit, 0 for none; asked after a crash within a commit.

        A commit that the machine's end left in pieces (its entry or a data file not flushed) is taken back first: nobody was told of
        it, and the log still has its rows.
        """
        with self._writing:
            self._take_back_torn()
            return self._position()

    # reading

    def view(self, tail: Tail) -> tuple[Snapshot, list[Piece]]:
        """The table and what waits for it, at one moment: no row twice, none missing."""
        with tail.lock:
            if self._shown is not None:
                return self._shown, tail.waiting(self.name)
        with self._writing:
            if self._shown is None:
                self._shown = self._look()
                self._asked = True
            with tail.lock:
                return self._shown, tail.waiting(self.name)

    def mark(self, tail: Tail) -> tuple[int | None, list[Piece]]:
        """The same for a reader elsewhere: the version that goes with what waits. None: not known yet, see :meth:`settle_version`."""
        with tail.lock:
            return self._version, tail.waiting(self.name)

    def settle_version(self, found: int) -> None:
        """Say which version there was before the first commit of this process; a commit that began meanwhile has said it already."""
        if self._version is None:
            self._version = found

    def exists(self) -> bool:
        """Whether there is a table in its folder; for an object store, False: only the log knows."""
        root = _local(self.uri)
        return root is not None and (root / "_delta_log").is_dir()

    def at(self, version: int) -> Snapshot:
        """One version for a reader that does not write; -1: no table, below: the newest there is."""
        if version == -1:
            return Snapshot(-1, None, ())
        with self._writing:
            found = self._versions.get(version)
            if found is not None:
                return found
            found = self._looked_up(version)
            if found.version >= 0:
                self._versions[found.version] = found
                for old in sorted(self._versions)[:-VERSIONS_HELD]:
                    del self._versions[old]
            return found

    # for upkeep, within ``writing``

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes meanwhile."""
        with self._writing:
            yield

    def handle(self) -> DeltaTable | None:
        """The table itself."""
        return self._open()

    def dataset(self) -> Any:
        """All rows as they are now."""
        return self._look().dataset

    def written_aside(self) -> None:
        """After a commit that changed files and no rows that a query may see: make it durable, and let queries see it from here on.

        A commit is one version, so a query sees the files before it or those after it, never both.
        """
        assert self._handle is not None
        version = self._handle.version()
        self._sync(version)
        if self._asked:
            self._shown = self._look()
        if self._version is not None:
            self._version = version

    # inside

    def _looked_up(self, version: int) -> Snapshot:
        from deltalake import DeltaTable

        try:
            handle = self._open()
            if handle is not None and (version < 0 or handle.version() < version):
                handle.update_incremental()
            if handle is None or version < 0 or handle.version() == version:
                return self._look()
            held, self._handle = self._handle, DeltaTable(self.uri, version=version, storage_options=self._options)
            try:
                return self._look()
            finally:
                self._handle = held
        except foreign() as error:
            raise Retryable("keep.table-unreadable", table=self.name, reason=said(error)) from error

    def _fit_own(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        if "day" in schema.names:
            # the partition follows from the time; it is not left to the caller
            day = pc.cast(rows["source_time"], pa.date32(), safe=False)
            at = rows.schema.get_field_index("day")
            rows = rows.append_column("day", day) if at < 0 else rows.set_column(at, "day", day)
        odd = [name for name in rows.column_names if name not in schema.names]
        if odd:
            raise ConfigProblem("keep.rows-unfit", table=self.name, reason=f"unknown columns {odd}"[:200])
        empty = [field.name for field in schema if not field.nullable and rows[field.name].null_count]
        if empty:
            raise ConfigProblem("keep.rows-unfit", table=self.name, reason=f"nulls in {empty}"[:200])
        return rows.select(schema.names).cast(schema)

    def _fit_named(self, rows: pa.Table, position: int) -> pa.Table:
        import pyarrow as pa

        if "log_position" not in rows.column_names:
            rows = rows.append_column("log_position", pa.repeat(pa.scalar(position, pa.int64()), rows.num_rows))
        wanted = pa.schema([pa.field(field.name, _storable(field.type)) for field in rows.schema])
        rows = rows.cast(wanted)
        with self._writing:
            handle = self._open()
            known = pa.schema(handle.schema().to_arrow()) if handle is not None else None
        if known is None:
            return rows
        for field in known:
            at = rows.schema.get_field_index(field.name)
            if at >= 0 and rows.schema.field(at).type != field.type:
                rows = rows.set_column(at, pa.field(field.name, field.type), rows[field.name].cast(field.type))
        return rows

    def _append(self, pieces: Sequence[Piece], position: int, ceiling: int) -> tuple[int, pa.Table] | None:
        import pyarrow as pa
        from deltalake import CommitProperties, Transaction, write_deltalake

        failure: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(0.05 * 2**attempt)
            begun = time.time()
            try:
                have = self._position()
                if have > ceiling:
                    raise Corrupt("keep.log-behind", table=self.name, found=have, known=ceiling)
                new = [piece.rows for piece in pieces if piece.position > have and piece.rows.num_rows]
                if not new:
                    return None
                rows = pa.concat_tables(new, promote_options="default")
                handle = self._uncrowded(self._create(rows.schema), rows)
                # before the commit: from here on nobody takes a version that he finds for the one before it
                self._version = handle.version()
                write_deltalake(
                    handle,
                    in_order(rows) if self.name == READINGS else rows,
                    mode="append",
                    schema_mode=None if self._own else "merge",
                    writer_properties=self.properties(),
                    commit_properties=CommitProperties(
                        custom_metadata={"guantong.after": str(have), "guantong.position": str(position)},
                        app_transactions=[Transaction(self._application, position)],
                    ),
                )
                self._sync(handle.version())
                return handle.version(), rows
            except foreign() as error:
                # the commit may have arrived although the answer did not: look again before repeating it
                failure = error
                self._handle = None
                self._clear(begun)
        raise Retryable("keep.table-unwritable", table=self.name, reason=said(failure)) from failure

    def _uncrowded(self, handle: DeltaTable, rows: pa.Table) -> DeltaTable:
        """The table with few small files where these rows go. It runs before an append, so that a day which was joined gets one more
        file, and upkeep, which passes over days of a single file, sorts it.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self._appended += 1
        if self._appended < CROWD:
            return handle
        self._appended = 0
        begun = time.time()
        try:
            actions = pa.table(handle.get_add_actions(flatten=True))
            small = actions.filter(pc.less(actions["size_bytes"], SMALL_BYTES))
            wanted: list[list[tuple[str, str, str]] | None] = [None]
            crowds = [small.num_rows]
            if self.name == READINGS:
                days = [str(day) for day in pc.unique(rows["day"]).to_pylist()]
                wanted = [[("day", "=", day)] for day in days]
                held = pc.cast(small["partition.day"], pa.string()) if small.num_rows else pa.array([], pa.string())
                crowds = [pc.sum(pc.equal(held, day)).as_py() or 0 for day in days]
            for filters, crowd in zip(wanted, crowds, strict=True):
                if crowd >= CROWD:
                    handle.optimize.compact(
                        filters,
                        target_size=SMALL_BYTES,
                        max_concurrent_tasks=1,
                        writer_properties=self.properties(),
                    )
                    self._sync(handle.version())
        except foreign() as error:
            _log.warning("small files of %s stay for now: %s", self.name, said(error))
            self._handle = None
            self._clear(begun)
            return self._create(rows.schema)
        return handle

    def _clear(self, begun: float) -> None:
        """Remove what a failed write left in a local folder: on a full disk the next attempt needs its room."""
        root = _local(self.uri)
        if root is None or not root.is_dir():
            return
        with contextlib.suppress(OSError, *foreign()):
            handle = self._open()
            held = set() if handle is None else {Path(unquote(uri)).name for uri in handle.file_uris()}
            for path in root.rglob("*.parquet*"):
                if "_delta_log" not in path.parts and path.stat().st_mtime >= begun - 1 and path.name not in held:
                    path.unlink()

    def properties(self) -> WriterProperties:
        """How Parquet is written: times and numbers that grow as differences, since a dictionary of them is larger than they are."""
        from deltalake import ColumnProperties, WriterProperties

        growing = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
        columns = dict.fromkeys(_GROWING, growing) if self.name == READINGS else None
        return WriterProperties(compression="ZSTD", max_row_group_size=ROW_GROUP, column_properties=columns)

    def _create(self, schema: pa.Schema) -> DeltaTable:
        from deltalake import DeltaTable

        handle = self._open()
        if handle is None:
            handle = self._handle = DeltaTable.create(
                self.uri,
                schema,
                mode="ignore",
                partition_by=["day"] if self.name == READINGS else None,
                storage_options=self._options,
            )
            self._sync(0)
        return handle

    def _open(self) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if self._handle is None:
            try:
                self._handle = DeltaTable(self.uri, storage_options=self._options)
            except TableNotFoundError:
                return None
        return self._handle

    def _position(self) -> int:
        try:
            handle = self._open()
            return 0 if handle is None else int(handle.transaction_version(self._application) or 0)
        except foreign() as error:
            raise Retryable("keep.table-unreadable", table=self.name, reason=said(error)) from error

    def _look(self) -> Snapshot:
        import pyarrow as pa

        try:
            handle = self._open()
            if handle is None:
                return Snapshot(-1, None, ())
            actions = pa.table(handle.get_add_actions(flatten=True))
            dataset = handle.to_pyarrow_dataset(filesystem=self._filesystem())
            return Snapshot(handle.version(), dataset, _files(actions))
        except foreign() as error:
            raise Retryable("keep.table-unreadable", table=self.name, reason=said(error)) from error

    def _filesystem(self) -> Any:
        """Arrow's own file system for a folder: the library's calls back into Python for each read, which is slower and, when the
        process ends with a read under way, ends it badly. None (the library's) for an object store, whose options only it knows.
        """
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        root = _local(self.uri)
        return None if root is None else SubTreeFileSystem(str(root), LocalFileSystem())

    def _take_back_torn(self) -> None:
        root = _local(self.uri)
        log = None if root is None else root / "_delta_log"
        if root is None or log is None or not log.is_dir():
            return
        entries = sorted(path for path in log.glob("*.json") if path.stem.isdigit())
        # each commit is flushed before the next begins, so that only the newest can be in pieces
        if entries and _whole(root, entries[-1]):
            self._sync(int(entries[-1].stem))  # it may not have come that far
            return
        if len(entries) > 1:
            for path in (*log.glob(f"{entries[-1].stem}.*"), log / "_last_checkpoint"):
                path.unlink(missing_ok=True)
            _fsync(log)
        elif (not entries or int(entries[0].stem) == 0) and not any(log.glob("*.checkpoint*")):
            # the table's very beginning: its folders go too, since the library takes an empty log for a damaged one
            shutil.rmtree(root)
        self._handle = None

    def _sync(self, version: int) -> None:
        """Bring a commit in a local folder to the disk: the library leaves that to the system, and the log is trimmed after it."""
        root = _local(self.uri)
        if root is None:
            return
        entry = root / "_delta_log" / f"{version:020d}.json"
        paths = {entry, entry.parent, root}
        if version == 0:
            # the table's own folders are new entries of those above them, up to the folder that holds the root of all tables
            above = Path(root)
            while above != self._base.parent and above != above.parent:
                above = above.parent
                paths.add(above)
        for line in entry.read_text("utf-8").splitlines():
            added = json.loads(line).get("add")
            if added:
                file = root / unquote(added["path"])
                paths |= {file, file.parent}
        checkpoints = list(entry.parent.glob(f"{version:020d}.checkpoint*"))
        if checkpoints:
            paths |= {*checkpoints, entry.parent / "_last_checkpoint"}
        for path in sorted(paths):
            _fsync(path)


_GROWING = ("source_time", "server_time", "receive_time", "aligned_time", "sequence")
_OWN = {READINGS: clean_schema, MEASUREMENTS: clean_measurement_schema}


def folder_name(name: str) -> str:
    """A folder name for a participant or table: what can be read of it, and a digest so that no two share one."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:48] or "x"
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _files(actions: pa.Table) -> tuple[File, ...]:
    import pyarrow as pa

    def column(name: str) -> list[Any]:
        if name not in actions.column_names:
            return [None] * actions.num_rows
        values = actions[name]
        listed: list[Any] = (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_pylist()
        return listed

    parts = (
        column(name) for name in ("num_records", "size_bytes", "min.source_time", "max.source_time", "max.revision")
    )
    return tuple(
        File(rows or 0, size or 0, first, last, revision is None or revision > 0)
        for rows, size, first, last, revision in zip(*parts, strict=True)
    )


def _storable(kind: pa.DataType) -> pa.DataType:
    """The type that Delta stores a column as, without loss; Delta knows no unsigned and no nanoseconds."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _storable(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_null(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    widened = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20)}
    return {**widened, pa.float16(): pa.float32(), pa.date64(): pa.date32()}.get(kind, kind)


def foreign() -> tuple[type[Exception], ...]:
    """What the libraries raise."""
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    return (DeltaError, OSError, pa.ArrowException)


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if len(parts.scheme) < 2 else None


def _whole(root: Path, entry: Path) -> bool:
    """Whether an entry of the table's log and all that it adds can be read to the end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        actions = [json.loads(line) for line in entry.read_text("utf-8").splitlines()]
        if not actions:
            return False
        for added in (action["add"] for action in actions if "add" in action):
            file = root / unquote(added["path"])
            if file.stat().st_size != added["size"]:
                return False
            with pq.ParquetFile(file) as rows:
                for _ in rows.iter_batches():
                    pass
        for checkpoint in entry.parent.glob(f"{entry.stem}.checkpoint*.parquet"):
            pq.read_metadata(checkpoint)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return True


def _fsync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle for a folder to flush
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def said(error: BaseException | None) -> str:
    """What a foreign error says, short."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
