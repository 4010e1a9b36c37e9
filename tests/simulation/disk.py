"""A disk that forgets what was not flushed.

A node's directory is a real folder in memory (tmpfs), so that SQLite and Delta run as they are. What is durable is kept beside it: the
content of a file as of its last ``fsync``, the entries of a folder as of the folder's last ``fsync``. A crash puts the folder back: of
what was written since, every file and every entry is lost or survives by lot. SQLite flushes inside its own library, so there the commit
counts: a transaction is durable when it is committed, and a connection whose commits would not be flushed (``synchronous`` below FULL) fails the run.

Every flush and every commit is a *point*; a crash is planned for the n-th, before it (lost) or after it (durable, but nobody was told).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Crashed", "Disk", "simulated_disks"]


class Crashed(BaseException):
    """The node's machine stopped here; like a process that is gone, nothing in it catches this."""


class Disk:
    """The disk under one node."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root.resolve()
        self.rng = rng
        self.alive = True
        self.points = 0
        self.crash_at: int | None = None
        self.crash_before = False
        self.on_death: Callable[[], None] = lambda: None
        self.connections: list[sqlite3.Connection] = []
        self.lost = 0
        """Files and entries that crashes took."""
        self._content: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}

    def point(self) -> None:
        """Before something becomes durable. Raises Crashed where the machine stops."""
        if not self.alive:
            raise Crashed
        self.points += 1
        if self.points == self.crash_at:
            self.alive = False
            self.on_death()
            if self.crash_before:
                raise Crashed

    def flushed(self, path: str) -> None:
        """A file or folder was flushed."""
        self.point()
        if os.path.isdir(path):  # noqa: PTH112
            self._note_folder(path)
        else:
            self._note_file(path)

    def settle(self) -> None:
        """Everything there is now is durable: how a node's folder was before the run."""
        for folder, _, files in os.walk(self.root):
            self._note_folder(folder)
            for file in files:
                if not _own(file):
                    self._note_file(os.path.join(folder, file))  # noqa: PTH118

    def crash(self) -> None:
        """Close what the dead process held and forget what was not flushed."""
        self.alive = False
        for connection in self.connections:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.connections.clear()
        self._all = self.rng.random() < 0.5
        self._put_back(self.root)
        self.alive = True
        self.crash_at = None

    def _note_file(self, path: str) -> None:
        with open(path, "rb") as file:  # noqa: PTH123
            self._content[os.fstat(file.fileno()).st_ino] = file.read()

    def _note_folder(self, path: str) -> None:
        with os.scandir(path) as entries:
            self._entries[os.stat(path).st_ino] = {e.name: e.inode() for e in entries if not _own(e.name)}  # noqa: PTH116

    def _lose(self) -> bool:
        taken = self._all or self.rng.random() < 0.5
        self.lost += taken
        return taken

    def _put_back(self, folder: Path) -> None:
        durable = self._entries.get(folder.stat().st_ino, {})
        live = {path.name: path for path in folder.iterdir() if not _own(path.name)}
        for name in sorted(durable.keys() | live.keys()):
            path = folder / name
            known = durable.get(name)
            if name in live and known != path.stat().st_ino and self._lose():
                # a new entry, or one renamed over another
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                if known in self._content:
                    path.write_bytes(self._content[known])
                    self._content[path.stat().st_ino] = self._content[known]
            elif name in live and path.is_dir():
                self._put_back(path)
            elif name in live:
                content = self._content.get(path.stat().st_ino, b"")
                if path.read_bytes() != content and self._lose():
                    path.write_bytes(content)
            elif known in self._content and self._lose():
                path.write_bytes(self._content[known])  # the removal was not flushed
                self._content[path.stat().st_ino] = self._content[known]


def _own(name: str) -> bool:
    """Whether SQLite looks after the file."""
    return ".db" in name or name.startswith("keep.lock")


class _Connection(sqlite3.Connection):
    """A connection whose commits are points of its disk."""

    disk: Disk | None = None
    checked = False

    def commit(self) -> None:
        if self.in_transaction:
            self._point()
        super().commit()

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self._point()
        return super().execute(sql, *arguments)

    def _point(self) -> None:
        if self.disk is None:
            return
        if not self.checked:
            (level,) = super().execute("PRAGMA synchronous").fetchone()
            assert level >= 2, f"commits of a connection are not flushed: synchronous={level}"
            self.checked = True
        self.disk.point()


@contextlib.contextmanager
def simulated_disks(disks: list[Disk]) -> Iterator[None]:
    """While this lasts, SQLite connections and flushes below the roots belong to the disks."""
    real_connect, real_fsync = sqlite3.connect, os.fsync

    def disk_of(path: str) -> Disk | None:
        return next((disk for disk in disks if path.startswith(f"{disk.root}/")), None)

    def connect(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        disk = disk_of(str(database))
        if disk is None:
            return real_connect(database, *arguments, **options)
        if not disk.alive:
            raise Crashed
        connection = real_connect(database, *arguments, **{**options, "factory": _Connection})
        connection.disk = disk
        disk.connections.append(connection)
        return connection

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        disk = disk_of(path + "/")
        if disk is None:
            real_fsync(descriptor)
        else:
            disk.flushed(path)

    sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]
    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = sqlite3.dbapi2.connect = real_connect  # type: ignore[assignment]
        os.fsync = real_fsync
