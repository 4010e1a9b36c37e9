"""Blobs: named bytes that never change, in a folder or in an object store.

A blob is there whole or not at all. In a folder it is written beside its place, flushed, linked into it (a link fails where the name is
taken, a rename would overwrite) and the folder is flushed; in an object store the put is conditional (``If-None-Match: *``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from guantong.base.errors import ConfigProblem, Corrupt, Retryable
from guantong.keep.ports import Blobs

__all__ = ["FolderBlobs", "ObjectBlobs", "blobs_at"]

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
NAME_MAX = 512


def blobs_at(uri: str, options: Mapping[str, str] | None = None) -> Blobs:
    """The blobs at a folder or at ``s3://bucket/prefix``. Raises ConfigProblem ``base.extra-missing`` without the extra ``s3``."""
    return (
        ObjectBlobs(uri, options or {}) if uri.startswith("s3://") else FolderBlobs(Path(uri.removeprefix("file://")))
    )


class FolderBlobs:
    """Blobs in a folder of this machine. ``inline=True``: on the calling thread, for simulations."""

    def __init__(self, root: Path, *, inline: bool = False) -> None:
        self._root = root
        self._inline = inline

    async def put(self, name: str, data: bytes) -> bool:
        """Store durably unless the name is taken; see :class:`guantong.keep.ports.Blobs`."""
        path = self._root / _checked(name)
        return await self._run("keep.blob-unwritable", name, lambda: self._put(name, path, data))

    async def get(self, name: str) -> bytes | None:
        """The bytes, or None."""
        path = self._root / _checked(name)

        def work() -> bytes | None:
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

        return await self._run("keep.blob-unreadable", name, work)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        """Names that begin with ``prefix``, sorted."""

        def work() -> list[str]:
            # only the folder that the prefix names in full can hold such blobs
            top = self._root / _checked(prefix.rpartition("/")[0]) if "/" in prefix else self._root
            found = []
            for folder, _, files in os.walk(top):
                for file in files:
                    name = (Path(folder) / file).relative_to(self._root).as_posix()
                    if name.startswith(prefix) and not file.startswith("."):
                        found.append(name)
            return sorted(found)

        for name in await self._run("keep.blob-unreadable", prefix or "/", work):
            yield name

    async def delete(self, name: str) -> bool:
        """Remove the blob; False where there was none."""
        path = self._root / _checked(name)

        def work() -> bool:
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return False
            _flush_folder(path.parent)
            return True

        return await self._run("keep.blob-unwritable", name, work)

    def _put(self, name: str, path: Path, data: bytes) -> bool:
        if path.exists():
            return _same(name, path.read_bytes(), data)
        self._make(path.parent)
        draft = path.parent / f".{os.urandom(8).hex()}.part"
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                return _same(name, path.read_bytes(), data)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        _flush_folder(path.parent)
        return True

    def _make(self, folder: Path) -> None:
        """Make the folder durably: each new folder is an entry of the one above it."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            _flush_folder(made.parent)

    async def _run(self, code: str, name: str, work: Callable[[], T]) -> T:
        try:
            return work() if self._inline else await asyncio.to_thread(work)
        except OSError as error:
            raise Retryable(code, name=name, reason=error.strerror or type(error).__name__) from error


class ObjectBlobs:
    """Blobs in an S3 bucket, through the extra ``s3`` (obstore). Options as obstore names them: endpoint, region, allow_http, …"""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise ConfigProblem("base.extra-missing", feature="s3://", extra="s3") from error
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = prefix.strip("/")
        http = {key.lower().removeprefix("aws_"): value for key, value in options.items()}
        client: dict[str, Any] = {}
        if http.pop("allow_http", "").lower() == "true":
            client["allow_http"] = True
        if "endpoint_url" in http:
            http["endpoint"] = http.pop("endpoint_url")
        store: Any = S3Store  # options are names of a person's settings file, checked by the library
        self._store = store(bucket, client_options=client, **http)

    async def put(self, name: str, data: bytes) -> bool:
        """Store durably unless the name is taken; see :class:`guantong.keep.ports.Blobs`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        _checked(name)
        with _translated("keep.blob-unwritable", name):
            try:
                await obstore.put_async(self._store, self._key(name), data, mode="create")
            except AlreadyExistsError:
                held = await self.get(name)
                if held is None:  # deleted in between
                    raise Retryable("keep.blob-unwritable", name=name, reason="the name was just released") from None
                return _same(name, held, data)
        return True

    async def get(self, name: str) -> bytes | None:
        """The bytes, or None."""
        import obstore

        _checked(name)
        with _translated("keep.blob-unreadable", name):
            try:
                found = await obstore.get_async(self._store, self._key(name))
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        """Names that begin with ``prefix``, sorted."""
        import obstore

        # the store lists whole path parts, so the last, unfinished part is compared here
        folder = self._key(prefix.rpartition("/")[0])
        found = []
        with _translated("keep.blob-unreadable", prefix or "/"):
            async for page in obstore.list(self._store, folder or None):
                for item in page:
                    name = item["path"]
                    if self._prefix:
                        name = name.removeprefix(self._prefix + "/")
                    if name.startswith(prefix):
                        found.append(name)
        for name in sorted(found):
            yield name

    async def delete(self, name: str) -> bool:
        """Remove the blob; False where there was none."""
        import obstore

        _checked(name)
        with _translated("keep.blob-unwritable", name):
            try:
                await obstore.head_async(self._store, self._key(name))
            except FileNotFoundError:
                return False
            await obstore.delete_async(self._store, self._key(name))
        return True

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/") if self._prefix else name


def _checked(name: str) -> str:
    if len(name) > NAME_MAX or _NAME.fullmatch(name) is None:
        raise ConfigProblem("keep.blob-name", name=name[:80])
    return name


def _same(name: str, held: bytes, given: bytes) -> bool:
    if held != given:
        raise Corrupt("keep.blob-differs", name=name)
    return False


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows has no handle for a folder to flush
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(code: str, name: str) -> Any:
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise Retryable(code, name=name, reason=lines[0][:200] if lines else type(error).__name__) from error
