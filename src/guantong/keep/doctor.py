"""Check and repair of a directory while no node runs in it: every broken file by name, and what can be mended.

Check reads everything and changes nothing. Repair takes nothing away for good: what is broken is moved to ``damaged/``, and what went
missing with it becomes a gap record in the log, so that the loss is on record like any other.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from guantong.base.errors import GuantongError
from guantong.keep.delta import MEASUREMENTS, READINGS, Table, folder_name, foreign, said
from guantong.keep.entries import crc, decode, gap_of, merged, reason
from guantong.keep.log import owner_of, write_gaps
from guantong.keep.seal import Seal

__all__ = ["Broken", "check", "rebuild", "repair"]

DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that is not as it was written."""

    file: str
    """Path within the directory; ``#`` and a number: an entry of the log."""
    problem: str
    mendable: bool
    mend: str
    """What repair does, or what a person can do."""


def check(directory: Path, seal: Seal | None = None) -> list[Broken]:
    """Everything that is broken in a node's directory, by name; empty: nothing. Nobody may write there meanwhile."""
    return [*_databases(directory), *_log_entries(directory, seal), *_tables(directory), *_small(directory)]


def repair(directory: Path, seal: Seal | None = None) -> list[Broken]:
    """Mend what can be mended; what was mended. Run :func:`check` again afterwards."""
    done = []
    damaged = directory / DAMAGED
    for one in check(directory, seal):
        if not one.mendable:
            continue
        damaged.mkdir(exist_ok=True)
        if one.file.startswith("keep/log.db#"):
            _set_aside_entry(directory, int(one.file.partition("#")[2]), damaged, seal)
        elif one.file.startswith("keep/tables/") and "/_delta_log" not in one.file and one.file.endswith(".parquet"):
            _set_aside_file(directory, directory / one.file, damaged)
        elif one.file.startswith("keep/tables/"):
            # one commit in pieces: the table itself knows how to take it back
            _table_at(directory, directory / one.file).committed()
        else:
            (directory / one.file).unlink(missing_ok=True)
        done.append(one)
    return done


def rebuild(directory: Path, participant: str, name: str) -> tuple[int, int]:
    """Set a table aside and have it filled anew from the log when the node starts: first and last log position that are left for it.

    Rows of entries that were trimmed before are only in the table set aside (``damaged/``). Other tables are not filled twice: they
    know how far they are. Raises Skippable ``keep.query-invalid`` where there is no such table.
    """
    from guantong.base.errors import Skippable

    table = Table(str(directory / "keep" / "tables"), participant, name, {})
    folder = Path(table.uri)
    if not folder.is_dir():
        raise Skippable("keep.query-invalid", reason=f"there is no table {name[:60]!r} in this directory")
    with contextlib.closing(_connected(directory / "keep" / "log.db")) as log:
        first, last = log.execute(
            "SELECT min(position), max(position) FROM log WHERE participant = ?", (participant,)
        ).fetchone()
        stored, intended = log.execute(
            "SELECT stored, intended FROM marks WHERE participant = ?", (participant,)
        ).fetchone()
        target = directory / DAMAGED / f"{folder.name}-{len(list(_made(directory / DAMAGED).iterdir()))}"
        folder.rename(target)
        # as after a crash within a commit: what other tables have up to ``intended`` is refused when it comes again
        log.execute(
            "UPDATE marks SET stored = ?, intended = ? WHERE participant = ?",
            (min(stored, (first or stored + 1) - 1), max(stored, intended), participant),
        )
        log.commit()
    return first or 0, last or 0


def _databases(directory: Path) -> Iterator[Broken]:
    for name in ("records.db", "keep/log.db"):
        path = directory / name
        if not path.exists():
            continue
        try:
            with contextlib.closing(_connected(path)) as connection:
                said_ = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        except sqlite3.Error as error:
            said_ = [reason(error)]
        if said_ != ["ok"]:
            yield Broken(
                name,
                "; ".join(said_)[:300],
                False,
                "restore it from a back-up, together with the rest of the directory",
            )


def _log_entries(directory: Path, seal: Seal | None) -> Iterator[Broken]:
    path = directory / "keep" / "log.db"
    if not path.exists():
        return
    try:
        with contextlib.closing(_connected(path)) as connection:
            for position, participant, source, kind, stored, note, blob in connection.execute(
                "SELECT position, participant, source, kind, crc, note, blob FROM log ORDER BY position"
            ):
                problem = ""
                if crc(note, blob) != stored:
                    problem = "not what was written (CRC-32)"
                else:
                    try:
                        decode(source, kind, note, blob, seal, owner_of(participant, source))
                    except GuantongError as error:
                        problem = error.message()
                if problem:
                    yield Broken(f"keep/log.db#{position}", problem, True, "set aside; a gap record takes its place")
    except sqlite3.Error as error:
        yield Broken(
            "keep/log.db", reason(error), False, "restore it from a back-up, together with the rest of the directory"
        )


def _tables(directory: Path) -> Iterator[Broken]:
    import pyarrow.parquet as pq

    root = directory / "keep" / "tables"
    for log in sorted(root.glob("**/_delta_log")):
        table = log.parent
        entries = sorted(path for path in log.glob("*.json") if path.stem.isdigit())
        torn = [path for path in entries if not _parsed(path)]
        for path in torn:
            newest = path == entries[-1]
            yield Broken(
                path.relative_to(directory).as_posix(),
                "an entry of the table's log can't be read",
                newest,
                "taken back: nobody was told of it and the log has its rows"
                if newest
                else "restore the table from a back-up, or rebuild it",
            )
        if torn:
            continue
        try:
            from deltalake import DeltaTable

            files = DeltaTable(str(table)).get_add_actions(flatten=True)
        except foreign() as error:
            yield Broken(
                table.relative_to(directory).as_posix(),
                said(error),
                False,
                "restore the table from a back-up, or rebuild it",
            )
            continue
        import pyarrow as pa

        for name, size in zip(*(pa.table(files)[column].to_pylist() for column in ("path", "size_bytes")), strict=True):
            file = table / unquote(name)
            problem = ""
            if not file.exists():
                problem = "missing"
            elif file.stat().st_size != size:
                problem = f"{file.stat().st_size} bytes instead of {size}"
            else:
                try:
                    with pq.ParquetFile(file) as opened:
                        for _ in opened.iter_batches():
                            pass
                except (OSError, ValueError, pa.ArrowException) as error:
                    problem = said(error)
            if problem:
                yield Broken(
                    file.relative_to(directory).as_posix(),
                    problem,
                    True,
                    "set aside; the table goes on without its rows, a gap record says which",
                )


def _small(directory: Path) -> Iterator[Broken]:
    keys = directory / "keys.json"
    if keys.exists() and not _parsed(keys):
        yield Broken("keys.json", "can't be read", False, "restore it from a back-up: it is the node's identity")
    for draft in sorted((directory / "blobs").rglob(".*.part")):
        yield Broken(draft.relative_to(directory).as_posix(), "left by an interrupted write", True, "removed")
    for blob in sorted((directory / "blobs").rglob("*")):
        if blob.is_file() and not blob.name.startswith(".") and blob.stat().st_size == 0:
            yield Broken(blob.relative_to(directory).as_posix(), "empty", False, "restore it from a back-up")


def _set_aside_entry(directory: Path, position: int, damaged: Path, seal: Seal | None) -> None:
    with contextlib.closing(_connected(directory / "keep" / "log.db")) as log:
        participant, source, kind, at, rows, size, note, blob = log.execute(
            "SELECT participant, source, kind, at, rows, size, note, blob FROM log WHERE position = ?", (position,)
        ).fetchone()
        (damaged / f"log-{position}.blob").write_bytes(blob)
        (damaged / f"log-{position}.note").write_bytes(note)
        stored = log.execute("SELECT stored FROM marks WHERE participant = ?", (participant,)).fetchone()
        gaps: list[dict[str, Any]] = []
        if stored is None or position > stored[0]:
            # the tables do not have its rows: say what is lost, as exactly as the bytes still let us
            try:
                gaps = gap_of(decode(source, kind, note, blob, seal, owner_of(participant, source)))
            except (GuantongError, ValueError, OSError):
                gaps = [{"signal": None, "unit": "time", "from": at, "to": at, "start": at, "end": at, "count": rows}]
            gaps = [{**gap, "reason": "log-damaged"} for gap in gaps]
        log.execute("DELETE FROM log WHERE position = ?", (position,))
        log.execute(
            "UPDATE marks SET bytes = bytes - ?, entries = entries - 1 WHERE participant = ?", (size, participant)
        )
        if gaps:
            write_gaps(log, participant, source, merged(gaps), at, seal)
        log.commit()


def _set_aside_file(directory: Path, file: Path, damaged: Path) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable

    root = next(parent for parent in file.parents if (parent / "_delta_log").is_dir())
    handle = DeltaTable(str(root))
    actions = pa.table(handle.get_add_actions(flatten=True))
    name = file.relative_to(root).as_posix()
    listed = actions.to_pylist()
    facts: dict[str, Any] = next((row for row in listed if unquote(row["path"]) == name), {})
    if file.exists():
        file.rename(damaged / file.name)
    (damaged / f"{file.name}.json").write_text(json.dumps(facts, default=str, indent=1), "utf-8")
    # repair() forgets every file that is gone, not this one alone: the gaps of all of them are written now
    gone = [row for row in listed if not (root / unquote(row["path"])).exists()]
    handle.repair()
    table = _table_at(directory, file)
    for row in gone:
        first, last = row.get("min.source_time"), row.get("max.source_time")
        if table.name != READINGS or first is None or last is None:
            continue
        start, end = (round(time.timestamp() * 1_000_000) * 1000 for time in (first, last))
        gap = {
            "signal": None,
            "unit": "time",
            "from": start,
            "to": end,
            "start": start,
            "end": end,
            "count": int(row.get("num_records") or 0),
            "reason": "table-damaged",
        }
        with contextlib.closing(_connected(directory / "keep" / "log.db")) as log:
            write_gaps(log, table.participant, "keep/tables", [gap], end, None)
            log.commit()


def _table_at(directory: Path, path: Path) -> Table:
    """The table that a file belongs to: folders carry digests of names, the log knows the names."""
    root = directory / "keep" / "tables"
    folder = path.relative_to(root).parts
    with contextlib.closing(_connected(directory / "keep" / "log.db")) as log:
        known = log.execute("SELECT participant, name FROM names").fetchall()
    for participant, name in [*known, *((one, own) for one, _ in known for own in (READINGS, MEASUREMENTS))]:
        parts = (name,) if name in (READINGS, MEASUREMENTS) else ("tables", folder_name(name))
        if folder[: len(parts) + 1] == (folder_name(participant), *parts):
            return Table(str(root), participant, name, {})
    raise LookupError(f"{path.name} belongs to no table of the log")


def _parsed(path: Path) -> bool:
    try:
        lines = path.read_text("utf-8").splitlines()
        return bool([json.loads(line) for line in lines])
    except (OSError, ValueError):
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
