"""Back-up and restore of a node's directory as one sealed file (``base/vault.py`` over a tar archive).

The order makes the copy one moment: while nothing is committed to tables and nothing is fused, first the names of blobs (evidence tiles
and the like, which never change), then a snapshot of the records, then one of the durable log, then the names of the tables' files. So
every tile belongs to a recorded leaf, every tally to an entry of the log, and the tables are exactly as far as the log says. The files
themselves are copied afterwards; upkeep removes none meanwhile.

Not in it: tables in an object store and records in PostgreSQL (their own back-up tools; the manifest says so), the key of ``keep.key-file``
(it lies outside on purpose), and what a node makes anew (its address, sessions, finished packages).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem, Corrupt, Retryable
from guantong.base.vault import VaultReader, VaultWriter
from guantong.keep.entries import reason

__all__ = ["MANIFEST", "Source", "copy_database", "files_of", "outside", "restore", "write"]

MANIFEST = "backup.json"
FORMAT = 1
DATABASES = ("records.db", "keep/log.db")
_VOLATILE = frozenset({"address", "session.json", "keep/keep.lock", MANIFEST})
_VOLATILE_FOLDERS = ("packages", ".backup-")
_MUTABLE = "_last_checkpoint"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a back-up: its name in the directory, and where its bytes are now."""

    name: str
    path: Path | None = None
    data: bytes = b""


def outside(out: Path, directory: Path) -> Path:
    """Where to write, as a full path. Raises ConfigProblem ``keep.backup-inside``."""
    full = out.expanduser().resolve()
    if full.is_relative_to(directory):
        raise ConfigProblem("keep.backup-inside", path=full.name)
    return full


def files_of(directory: Path) -> list[Source]:
    """Every file of a node's directory that a back-up holds as it is; databases are copied apart."""
    found = []
    for folder, folders, files in os.walk(directory):
        at = Path(folder).relative_to(directory)
        folders[:] = [name for name in folders if at.parts or not name.startswith(_VOLATILE_FOLDERS)]
        for file in files:
            name = (at / file).as_posix()
            base = name.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
            if base in DATABASES or base in _VOLATILE or file.endswith((".new", ".part")):
                continue
            path = directory / name
            with contextlib.suppress(FileNotFoundError):
                # a file that is written over is taken now; all others never change
                found.append(Source(name, data=path.read_bytes()) if file == _MUTABLE else Source(name, path))
    return found


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of an SQLite file that others are using. Raises Retryable ``keep.backup-failed``."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as read,
            contextlib.closing(sqlite3.connect(target)) as written,
        ):
            read.backup(written)
    except sqlite3.Error as error:
        raise Retryable("keep.backup-failed", path=source.name, reason=reason(error)) from error


def write(out: Path, passphrase: str, sources: Iterable[Source], facts: Mapping[str, Any], *, sm4: bool = False) -> int:
    """Write the sealed file, whole or not at all; its size in bytes. Raises Retryable ``keep.backup-failed``."""
    fresh = out.with_name(out.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with (
                contextlib.closing(VaultWriter(file, passphrase, sm4=sm4)) as sealed,
                tarfile.open(fileobj=sealed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                _add(archive, Source(MANIFEST, data=json.dumps({"format": FORMAT, **facts}, indent=1).encode()))
                for source in sources:
                    _add(archive, source)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(out)
    except OSError as error:
        raise Retryable("keep.backup-failed", path=out.name, reason=error.strerror or reason(error)) from error
    finally:
        fresh.unlink(missing_ok=True)
    return out.stat().st_size


def _add(archive: tarfile.TarFile, source: Source) -> None:
    entry = tarfile.TarInfo(source.name)
    entry.mode = 0o600
    if source.path is None:
        entry.size = len(source.data)
        archive.addfile(entry, io.BytesIO(source.data))
        return
    with source.path.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        archive.addfile(entry, file)


def restore(file: Path, passphrase: str, directory: Path) -> dict[str, Any]:
    """Open a back-up into a directory that is empty or not there; what its manifest says.

    Whole or not at all: it is unpacked beside its place and renamed. Raises ConfigProblem ``keep.restore-occupied``, Refused
    ``base.passphrase-wrong``, ``base.vault-changed``, Skippable ``base.vault-malformed``, Corrupt ``keep.restore-newer``.
    """
    directory = directory.resolve()
    if directory.exists() and any(directory.iterdir()):
        raise ConfigProblem("keep.restore-occupied", directory=directory.name)
    fresh = directory.with_name(directory.name + ".restoring")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        with file.open("rb") as raw, VaultReader(raw, passphrase) as opened:
            with tarfile.open(fileobj=io.BufferedReader(opened, 1024 * 1024), mode="r|") as archive:
                for entry in archive:
                    archive.extract(entry, fresh, filter="data")
            while opened.read(65_536):  # to the end, so that nothing behind the archive is unauthenticated
                pass
        manifest: dict[str, Any] = json.loads((fresh / MANIFEST).read_text("utf-8"))
        if manifest["format"] > FORMAT:
            raise Corrupt("keep.restore-newer", found=manifest["format"], known=FORMAT)
        _flush(fresh)
        if directory.exists():
            directory.rmdir()
        fresh.rename(directory)
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise Retryable("keep.restore-failed", path=file.name, reason=reason(error)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _flush(folder: Path) -> None:
    if os.name == "nt":
        return
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
