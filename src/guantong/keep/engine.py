"""Where a query runs: a bounded pool with limits of time, memory and rows, and a DuckDB that can reach nothing.

DuckDB runs in memory without access to files or network, without extensions, and its settings are locked. A query whose caller leaves is
interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from guantong.base.errors import Refused, Skippable
from guantong.keep.model import KeepSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Engine", "Guard", "bounded"]

T = TypeVar("T")


class Guard:
    """The time limit of one query and its caller's wish to leave; checked between pieces of work."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.left = threading.Event()
        self.interrupt: Callable[[], None] | None = None

    def check(self) -> None:
        """Raise Refused ``keep.query-too-long`` when the time is over or the caller has left."""
        if self.left.is_set() or time.monotonic() > self.until:
            raise Refused("keep.query-too-long", seconds=self.seconds)

    def stop(self) -> None:
        """End the query from another thread."""
        self.left.set()
        if self.interrupt is not None:
            self.interrupt()


class Engine:
    """The pool that runs queries. Each thread has one DuckDB in memory, opened when first needed."""

    def __init__(self, settings: KeepSettings, *, inline: bool = False) -> None:
        self.settings = settings
        self._pool = None if inline else ThreadPoolExecutor(settings.query_threads, thread_name_prefix="keep-query")
        self._own = threading.local()
        self._opened: list[Any] = []

    async def run(self, work: Callable[[Guard], T]) -> T:
        """Run ``work`` in the pool; stop it when its time is over or the caller is cancelled.

        Raises Refused ``keep.query-too-long``, ``keep.query-too-large``.
        """
        if self._pool is None:
            return work(Guard(self.settings.query_seconds))
        guard = Guard(float("inf"))
        future = asyncio.get_running_loop().run_in_executor(self._pool, self.timed, guard, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            guard.stop()
            future.add_done_callback(_seen)
            raise

    def submit(self, guard: Guard, work: Callable[[Guard], None]) -> None:
        """Run ``work`` in the pool, without an event loop; it tells its outcome itself."""
        if self._pool is None:
            self.timed(guard, work)
        else:
            self._pool.submit(self.timed, guard, work)

    def timed(self, guard: Guard, work: Callable[[Guard], T]) -> T:
        """Run ``work`` on this thread. The limit is on its own time, not on its wait for a place."""
        seconds = self.settings.query_seconds
        guard.seconds, guard.until = seconds, time.monotonic() + seconds
        timer = threading.Timer(seconds, guard.stop)
        timer.daemon = True
        timer.start()
        try:
            return work(guard)
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def sql(self, guard: Guard, **tables: Any) -> Iterator[Callable[[str], pa.Table]]:
        """Run statements over Arrow tables and datasets given by name; each answer is an Arrow table of bounded size."""
        with self.connection(guard, tables) as connection:
            limit = self.settings.query_rows_max

            def ask(statement: str) -> pa.Table:
                guard.check()
                limited = f"SELECT * FROM ({statement}) LIMIT {limit + 1}"  # noqa: S608 - a statement of this room
                return bounded(connection.sql(limited).to_arrow_table(), limit)

            yield ask

    @contextlib.contextmanager
    def connection(self, guard: Guard, tables: dict[str, Any]) -> Iterator[Any]:
        """This thread's DuckDB with ``tables`` in it; what it raises becomes an error of ours."""
        import duckdb

        connection = self._connection()
        for name, rows in tables.items():
            connection.register(name, rows)
        guard.interrupt = connection.interrupt
        try:
            yield connection
        except duckdb.InterruptException as error:
            raise Refused("keep.query-too-long", seconds=guard.seconds) from error
        except duckdb.OutOfMemoryException as error:
            raise Refused(
                "keep.query-too-large", limit=f"{self.settings.query_memory_bytes // 1024**2} MiB of memory"
            ) from error
        except duckdb.Error as error:
            if guard.left.is_set():
                raise Refused("keep.query-too-long", seconds=guard.seconds) from error
            raise Skippable("keep.query-invalid", reason=str(error).splitlines()[0][:200]) from error
        finally:
            guard.interrupt = None
            for name in tables:
                connection.unregister(name)

    def close(self) -> None:
        """Wait for running queries and close."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _connection(self) -> Any:
        found = getattr(self._own, "connection", None)
        if found is None:
            import duckdb

            found = duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""})
            for setting in (
                f"memory_limit='{self.settings.query_memory_bytes // 1024**2}MiB'",
                "enable_progress_bar=false",
                "autoinstall_known_extensions=false",
                "autoload_known_extensions=false",
                "python_enable_replacements=false",
                # last: from here on no file, no network, and no way back
                "enable_external_access=false",
                "lock_configuration=true",
            ):
                found.execute(f"SET {setting}")
            self._own.connection = found
            self._opened.append(found)
        return found


def bounded(rows: pa.Table, limit: int) -> pa.Table:
    """The rows, if there are not more than ``limit``. Raises Refused ``keep.query-too-large``."""
    if rows.num_rows > limit:
        raise Refused("keep.query-too-large", limit=f"{limit} rows")
    return rows


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
