"""The query process: ``python -m guantong.keep.worker``, started and ended by a node (``process.py``).

It opens the tables for reading only, answers queries from its standard input on its standard output, and ends when the input ends, so
it can't outlive its node. A query that does not stop when it should, or that takes more memory than it may, ends the whole process: it
says so first, and the node asks the others' queries again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import IO, Any

from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.keep import frames
from guantong.keep.delta import Snapshot, Table
from guantong.keep.engine import Engine, Guard
from guantong.keep.model import KeepSettings
from guantong.keep.queries import ANSWERS, View
from guantong.keep.sql import select, syntax, written
from guantong.keep.tail import Piece

__all__ = ["Worker", "answer", "main"]

GRACE_S = 2.0
"""How long a query may go on after it was told to stop."""
LOOK_S = 0.25
ROOM_BYTES = 256 * 1024**2
"""Memory of the process itself beside that of its queries."""
_OF_STATEMENTS: Mapping[str, Callable[..., Any]] = {"syntax": syntax, "written": written}


def answer(engine: Engine, views: Mapping[str, View], guard: Guard, kind: str, arguments: Mapping[str, Any]) -> Any:
    """One query by its name: an Arrow table or a plain value."""
    if kind == "sql":
        return select(engine, views, guard, **arguments)
    if kind in _OF_STATEMENTS:
        return _OF_STATEMENTS[kind](engine, guard, **arguments)
    (view,) = views.values()
    return ANSWERS[kind](engine, view, guard, **arguments)


class Worker:
    """Reads requests, runs them in the engine's pool, writes answers as they come."""

    def __init__(self, settings: KeepSettings, root: str, source: IO[bytes], out: IO[bytes]) -> None:
        self._settings = settings
        self._engine = Engine(settings)
        self._root = root
        self._source = source
        self._out = out
        self._tables: dict[tuple[str, str], Table] = {}
        self._running: dict[int, Guard] = {}
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Until the input ends."""
        threading.Thread(target=self._watch, name="keep-query-watch", daemon=True).start()
        while (frame := frames.read(self._source)) is not None:
            header, body = frame
            number = header["id"]
            if header.get("stop"):
                guard = self._running.get(number)
                if guard is not None:
                    guard.until = time.monotonic()
                    guard.stop()
                continue
            guard = self._running[number] = Guard(float("inf"))
            self._engine.submit(guard, lambda guard, h=header, b=body: self._answer(guard, h, b))  # type: ignore[misc]

    def _answer(self, guard: Guard, header: Mapping[str, Any], body: memoryview) -> None:
        number = header["id"]
        try:
            guard.check()
            tails = frames.opened(header, body)
            views = {
                seen["name"]: View(
                    self._snapshot(header["participant"], seen),
                    [Piece(0, rows)] if rows.num_columns and rows.num_rows else [],
                )
                for seen, rows in zip(header["tables"], tails, strict=True)
            }
            found = answer(self._engine, views, guard, header["kind"], header["arguments"])
            plain = isinstance(found, dict | list)
            reply, tables = ({"id": number, "value": found}, []) if plain else ({"id": number}, [found])
        except GuantongError as error:
            reply, tables = _failed(number, error), []
        except Exception as error:  # noqa: BLE001 - the edge of the process: the node hears of it and lives on
            lost = Retryable("keep.query-lost", reason=f"{type(error).__name__}: {error}"[:200])
            reply, tables = _failed(number, lost), []
        # out of the watch's sight before the answer is written: a full pipe is not the query's fault
        self._running.pop(number, None)
        self._write(reply, tables)

    def _snapshot(self, participant: str, seen: Mapping[str, Any]) -> Snapshot:
        table = self._tables.get((participant, seen["name"]))
        if table is None:
            table = Table(self._root, participant, seen["name"], self._settings.storage_options)
            self._tables[participant, seen["name"]] = table
        return table.at(seen["version"])

    def _write(self, reply: Mapping[str, Any], tables: list[Any]) -> None:
        with self._writing:
            frames.write(self._out, reply, tables)

    def _watch(self) -> None:
        """End the process for a query that does not stop, or for memory."""
        limit = self._settings.query_memory_bytes * self._settings.query_threads + ROOM_BYTES
        while True:
            time.sleep(LOOK_S)
            running = dict(self._running)
            late = [number for number, guard in running.items() if time.monotonic() > guard.until + GRACE_S]
            if late:
                self._end(
                    [
                        _failed(number, Refused("keep.query-too-long", seconds=running[number].seconds))
                        for number in late
                    ]
                )
            if running and _anonymous_bytes() > limit:
                error = Refused("keep.query-too-large", limit=f"{limit // 1024**2} MiB of memory")
                self._end([_failed(number, error) for number in running])

    def _end(self, replies: list[dict[str, Any]]) -> None:
        if self._writing.acquire(timeout=GRACE_S):  # never released: nothing may follow
            for reply in replies:
                frames.write(self._out, reply)
        os._exit(70)


def _failed(number: int, error: GuantongError) -> dict[str, Any]:
    facts = {name: value if isinstance(value, int | float) else str(value) for name, value in error.facts.items()}
    return {"id": number, "error": error.code, "facts": facts}


def _anonymous_bytes() -> int:
    """Memory of this process that is not a file's; 0 where the system does not say (the engine's own limits hold there)."""
    try:
        fields = Path("/proc/self/statm").read_text("ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


class _WithoutPandas(MetaPathFinder):
    """Arrow imports pandas wherever it is installed: a second and 60 MB for nothing that is used here."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def main() -> None:
    """The command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this process in its own time
    source, out = open(0, "rb", buffering=0), open(1, "wb", buffering=0)  # noqa: SIM115 - descriptors of the process
    first = frames.read(source)
    if first is None:
        return
    sys.meta_path.insert(0, _WithoutPandas())
    # before the first query, so that its time is its own
    import deltalake  # noqa: F401
    import pyarrow.compute
    import pyarrow.dataset  # noqa: F401

    worker = Worker(KeepSettings(**first[0]["settings"]), first[0]["root"], source, out)
    worker.serve()
    os._exit(0)  # the node is gone or needs this process no more; nothing here has to be finished


if __name__ == "__main__":
    main()
