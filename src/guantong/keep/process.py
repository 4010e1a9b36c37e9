"""The query process seen from the node: started with the first query that needs it, ended when nobody has asked for a while.

The libraries that read and join tables take more memory than the rest of a node together, and a query may fail in ways that nobody can
catch. Both stay in a process beside the node. It only reads; if it dies, queries that were under way are asked once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.error_table import ERRORS
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused, Retryable, Skippable
from guantong.keep import frames
from guantong.keep.model import KeepSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["QueryProcess"]

_log = logging.getLogger(__name__)
_PIPE_BYTES = 1024 * 1024
_CHILD = {"MALLOC_ARENA_MAX": "2", "TOKIO_WORKER_THREADS": "2"}
"""What keeps the process small: it has few threads that work."""


@dataclass(slots=True)
class _Asked:
    header: Mapping[str, Any]
    tables: Sequence[pa.Table]
    future: asyncio.Future[Any]
    again: bool = False


class QueryProcess:
    """Asks one process, or none; from one event loop."""

    def __init__(self, settings: KeepSettings, root: str) -> None:
        self._settings = settings
        self._root = root
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    async def ask(self, header: Mapping[str, Any], tables: Sequence[pa.Table]) -> Any:
        """One query; its table or plain value. Cancelled, it is stopped there too. Raises as the query, and Retryable
        ``keep.query-lost`` when the process died twice under it.
        """
        number = next(self._numbers)
        asked = _Asked({**header, "id": number}, tables, asyncio.get_running_loop().create_future())
        self._asked[number] = asked
        self._send(asked)
        try:
            return await asked.future
        except asyncio.CancelledError:
            if self._asked.pop(number, None) is not None:
                self._write({"id": number, "stop": True}, ())
            raise
        finally:
            self._rest()

    def close(self) -> None:
        """End the process; whoever still waits is told."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        writer, self._writer = self._writer, None
        waiting = list(self._asked.values())
        self._asked.clear()
        for asked in waiting:
            if not asked.future.done():
                asked.future.set_exception(Retryable("keep.closed"))
        if writer is not None:
            writer.shutdown(wait=False, cancel_futures=True)
        if process is not None:
            # it only reads, so there is nothing that it must finish
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    # inside

    def _send(self, asked: _Asked) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is None:
            self._start()
        self._write(asked.header, asked.tables)

    def _start(self) -> None:
        # sys.path as it is here: a process must not find another guantong than its node did
        environment = {**os.environ, **_CHILD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "guantong.keep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
            )
        except OSError as error:
            raise Retryable("keep.query-lost", reason=error.strerror or type(error).__name__) from error
        if sys.platform == "linux":
            import fcntl

            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
        self._process = process
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="keep-query-send")
        settings = asdict(self._settings)
        self._write({"settings": settings, "root": self._root}, ())
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(process, loop), name="keep-query-answers", daemon=True).start()

    def _write(self, header: Mapping[str, Any], tables: Sequence[pa.Table]) -> None:
        process = self._process
        if process is None or self._writer is None or process.stdin is None:
            return
        out = process.stdin

        def work() -> None:
            with contextlib.suppress(OSError, ValueError):  # a dead process is seen where its answers end
                frames.write(out, header, tables)

        self._writer.submit(work)

    def _listen(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        """On a thread of its own: answers as they come, then the end."""
        assert process.stdout is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed when the node ended first
            with contextlib.suppress(OSError, ValueError):
                while (frame := frames.read(process.stdout)) is not None:
                    loop.call_soon_threadsafe(self._answered, *frame)
            loop.call_soon_threadsafe(self._ended, process)

    def _answered(self, header: dict[str, Any], body: memoryview) -> None:
        asked = self._asked.pop(header["id"], None)
        if asked is None or asked.future.done():
            return  # the caller has left
        if "error" in header:
            asked.future.set_exception(_error(header["error"], header["facts"]))
        elif "value" in header:
            asked.future.set_result(header["value"])
        else:
            asked.future.set_result(frames.opened(header, body)[0])

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:
            return
        self._process = None
        code = process.wait()
        if self._writer is not None:
            self._writer.shutdown(wait=False, cancel_futures=True)
            self._writer = None
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        waiting = list(self._asked.items())
        if waiting:
            _log.warning("the query process ended with %s; %s queries are asked again", code, len(waiting))
        for number, asked in waiting:
            if asked.again:
                del self._asked[number]
                asked.future.set_exception(Retryable("keep.query-lost", reason=f"its process ended with {code}"))
                continue
            asked.again = True
            try:
                self._send(asked)
            except GuantongError as error:
                del self._asked[number]
                asked.future.set_exception(error)

    def _rest(self) -> None:
        """Begin to count the time until the process is ended, when nobody asks."""
        if self._asked or self._process is None:
            return
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._settings.query_idle_s, self._retire)

    def _retire(self) -> None:
        if not self._asked:
            self.close()


def _error(code: str, facts: Mapping[str, Any]) -> GuantongError:
    kinds = {kind.kind: kind for kind in (ConfigProblem, Retryable, Skippable, Refused, Corrupt)}
    return kinds[ERRORS[code].kind](code, **facts)
