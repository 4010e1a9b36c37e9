"""Keep: durable log, hot tail and tables behind one set of functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from guantong.base.batch import Batch
from guantong.base.clock import Clock
from guantong.keep.model import Filter, KeepSettings, KeepStats, Logged
from guantong.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Keep"]


class Keep:
    """Everything a node keeps. ``open`` (or ``start``) before use, ``stop`` after; or ``async with Keep(...) as keep``.

    ``inline=True``: no threads of its own, for simulations.
    """

    def __init__(
        self,
        directory: Path,
        records: Records,
        clock: Clock,
        settings: KeepSettings | None = None,
        *,
        inline: bool = False,
    ) -> None:
        self.directory = directory
        self.records = records
        self.clock = clock
        self.settings = settings or KeepSettings()

    def open(self) -> None:
        """Open the log and start its writer."""
        raise NotImplementedError

    async def start(self) -> None:
        """As :meth:`open`."""
        self.open()

    async def stop(self) -> None:
        """Flush every participant, then close."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Close without flushing, as a crash would: the log holds what the tables lack."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def take(self, participant: str, batch: Batch) -> int:
        """Make a batch durable; its position in the log. This is connect's sink."""
        raise NotImplementedError

    async def read(self, participant: str, after: int, limit_rows: int = 100_000) -> list[Logged]:
        """Entries with a position above ``after``, in order: at least one if there is any, then as many as fit in ``limit_rows``."""
        raise NotImplementedError

    def on_append(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on the event loop after batches became durable."""
        raise NotImplementedError

    async def store(
        self,
        participant: str,
        position: int,
        *,
        readings: pa.Table | None = None,
        measurements: pa.Table | None = None,
        tables: Mapping[str, pa.Table] | None = None,
    ) -> None:
        """Take clean rows; everything in the log up to ``position`` is then fused."""
        raise NotImplementedError

    async def stored(self, participant: str) -> int:
        """Log position up to which the tables are committed; fuse begins after it."""
        raise NotImplementedError

    async def flush(self, participant: str | None = None) -> None:
        """Commit what waits in memory."""
        raise NotImplementedError

    async def latest(self, participant: str, signal_ids: Iterable[int] | None = None) -> pa.Table:
        """The last reading of each signal, columns of ``clean_schema``, by signal id."""
        raise NotImplementedError

    async def range(
        self,
        participant: str,
        signal_ids: Iterable[int] | None,
        start: int | None,
        end: int | None,
        *,
        revisions: bool = False,
        durable: bool = False,
        limit: int | None = None,
    ) -> pa.Table:
        """Readings with ``start <= source time < end`` (ns), columns of ``clean_schema``, sorted by signal and source time."""
        raise NotImplementedError

    async def downsample(
        self,
        participant: str,
        signal_ids: Iterable[int] | None,
        start: int | None,
        end: int | None,
        every_s: float,
        *,
        how: Sequence[str] = ("mean", "min", "max", "count"),
        durable: bool = False,
    ) -> pa.Table:
        """Numeric readings per signal and bucket of ``every_s``: ``signal_id``, ``time`` (start of the bucket) and one column each of ``how``."""
        raise NotImplementedError

    async def as_of(
        self,
        participant: str,
        left_signal: int,
        right_signals: Iterable[int],
        start: int | None,
        end: int | None,
        tolerance_s: float,
        *,
        durable: bool = False,
    ) -> pa.Table:
        """For each reading of ``left_signal`` and each right signal, the right reading that was current then."""
        raise NotImplementedError

    async def measurements(
        self,
        participant: str,
        *,
        model: str | None = None,
        serial: str | None = None,
        report: str | None = None,
        revisions: bool = False,
        durable: bool = False,
    ) -> pa.Table:
        """Measurements, columns of ``clean_measurement_schema``."""
        raise NotImplementedError

    async def table(self, participant: str, name: str, *, durable: bool = False) -> pa.Table:
        """All rows of a named table."""
        raise NotImplementedError

    async def table_names(self, participant: str) -> list[str]:
        """Names of the participant's named tables."""
        raise NotImplementedError

    async def stats(self, participant: str) -> KeepStats:
        """What is kept for a participant."""
        raise NotImplementedError

    def scan(self, participant: str, kind: str, filter: Filter | None = None) -> AsyncIterator[pa.RecordBatch]:
        """Stream rows for export: ``readings``, ``measurements`` or the name of a table, day by day, by signal and time."""
        raise NotImplementedError
