"""What is asked of keep: one set of functions over tables and tail, whichever process answers.

Every answer is of one moment: the tables' version and the tail's pieces are taken together before the question goes out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guantong.keep.delta import MEASUREMENTS, NAMED, READINGS
from guantong.keep.model import Filter, KeepSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.keep.reading import Seen

__all__ = ["Queries"]

_CHUNK = 65_536


class Queries(ABC):
    """The questions; :class:`guantong.keep.service.Keep` gives what they are asked of."""

    settings: KeepSettings

    @abstractmethod
    async def table_names(self, participant: str) -> list[str]:
        """Names of the participant's named tables."""

    @abstractmethod
    async def _see(self, participant: str, names: Iterable[str], durable: bool = False) -> dict[str, Seen]:
        """Each table with its tail at one moment."""

    @abstractmethod
    def _ask(
        self,
        seen: Mapping[str, Seen],
        kind: str,
        narrow: Callable[[Callable[[str], Any]], Any] | None = None,
        **arguments: Any,
    ) -> Awaitable[Any]:
        """The reader's answer to one kind of question."""

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
        """Readings with ``start <= source time < end`` (ns, None: open), columns of ``clean_schema``, by signal, time and sequence.

        Of each reading the highest revision, or all (``revisions``; highest first). ``durable``: commit first, so that the answer holds
        after a crash. ``limit``: most rows, at most ``query_rows_max``. Raises Refused ``keep.query-too-large``,
        ``keep.query-too-long``.
        """
        return await self._readings(
            participant,
            "select",
            durable,
            signal_ids=_listed(signal_ids),
            start=start,
            end=end,
            revisions=revisions,
            limit=self.settings.query_rows_max if limit is None else min(limit, self.settings.query_rows_max),
        )

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
        """Numeric readings per signal and bucket of ``every_s``: ``signal_id``, ``time`` (start of the bucket) and one column each of
        ``how`` (mean, min, max, count, sum, stddev, first, last).

        Buckets count from 1970-01-01. Bad readings are left out, booleans count as 0 and 1, integers become float64 here and only
        here. Raises Skippable ``keep.query-invalid`` and as :meth:`range`.
        """
        return await self._readings(
            participant,
            "downsample",
            durable,
            signal_ids=_listed(signal_ids),
            start=start,
            end=end,
            every_s=every_s,
            how=list(how),
        )

    async def lttb(
        self,
        participant: str,
        signal_ids: Iterable[int] | None,
        start: int | None,
        end: int | None,
        points: int,
        *,
        durable: bool = False,
    ) -> pa.Table:
        """Of each signal at most ``points`` (3 to 20,000) real readings that show its shape best: ``signal_id``, ``time``,
        ``source_ns``, ``value`` (float64), in order. Largest Triangle Three Buckets (Steinarsson 2013); what counts as a number is as
        in :meth:`downsample`.
        """
        return await self._readings(
            participant, "lttb", durable, signal_ids=_listed(signal_ids), start=start, end=end, points=points
        )

    async def aggregate(
        self,
        participant: str,
        signal_ids: Iterable[int] | None,
        start: int | None,
        end: int | None,
        *,
        how: Sequence[str] = ("mean", "min", "max", "count"),
        durable: bool = False,
    ) -> pa.Table:
        """As :meth:`downsample` with the whole time as one bucket: ``signal_id``, ``first_time``, ``last_time`` and one column each of
        ``how``; a signal without a number has no row.
        """
        return await self._readings(
            participant, "aggregate", durable, signal_ids=_listed(signal_ids), start=start, end=end, how=list(how)
        )

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
        """For each reading of ``left_signal`` in ``start <= source time < end`` and each right signal, the right reading current then.

        Columns: source_time, source_ns, sequence, value_f64, value_i64, value_text, value_bool, status (left) · right_signal ·
        right_time, right_ns, age_s · right_value_f64 … right_status. The matched time and its age stand beside every value. A reading
        older than ``tolerance_s`` gives its time and age but no value; before ``start - tolerance_s`` nobody looks.
        """
        from guantong.keep.queries import condition

        right = sorted(set(right_signals))
        back = None if start is None else start - max(0, round(tolerance_s * 1e9))
        seen = await self._see(participant, (READINGS,), durable)
        return await self._ask(
            seen,
            "as_of",
            condition([left_signal, *right], back, end),
            left_signal=left_signal,
            right_signals=right,
            start=start,
            end=end,
            tolerance_s=tolerance_s,
        )

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
        """Measurements, columns of ``clean_measurement_schema``, by report, result and arrival; the highest revision of each, or all."""
        seen = await self._see(participant, (MEASUREMENTS,), durable)
        return await self._ask(
            seen, "measured", models=_one(model), serials=_one(serial), reports=_one(report), revisions=revisions
        )

    async def sql(
        self, participant: str, statement: str, *, limit: int | None = None, durable: bool = False
    ) -> pa.Table:
        """The answer to one SELECT over the participant's views: ``readings`` and ``measurements`` (the highest revision of each),
        ``readings_all`` and ``measurements_all``, and each named table. Nothing else can be reached: no file, network, extension or
        setting. Times are UTC.

        Raises Skippable ``keep.query-invalid``, Refused ``keep.query-too-large``, ``keep.query-too-long``.
        """
        most = self.settings.query_rows_max if limit is None else min(limit, self.settings.query_rows_max)
        named = await self.table_names(participant)
        seen = await self._see(participant, (READINGS, MEASUREMENTS, *(NAMED + name for name in named)), durable)
        return await self._ask(seen, "sql", statement=statement, limit=most)

    async def table(self, participant: str, name: str, *, durable: bool = False) -> pa.Table:
        """All rows of a named table; empty without columns where there is none. Raises Refused ``keep.query-too-large``."""
        seen = await self._see(participant, (NAMED + name,), durable)
        return await self._ask(seen, "whole", limit=self.settings.query_rows_max)

    async def mark(self, participant: str, kind: str) -> tuple[int, ...]:
        """What ``readings`` or ``measurements`` hold now: where two marks are equal, so are the rows of every scan."""
        one = (await self._see(participant, (kind,)))[kind]
        return (one.version, *(number for piece in one.pieces for number in (piece.position, piece.rows.num_rows)))

    async def scan(
        self, participant: str, kind: str, filter: Filter | None = None, *, durable: bool = False
    ) -> AsyncIterator[pa.RecordBatch]:
        """Stream rows for export: ``readings``, ``measurements`` or the name of a table. Rows that come while it runs are not in it.

        Readings come day by day, within a day by signal and source time; there is no limit on rows, only on the time of each piece.
        """
        from guantong.keep.queries import DAY_US, condition, days_of

        wanted = filter or Filter()
        own = kind in (READINGS, MEASUREMENTS)
        seen = await self._see(participant, (kind if own else NAMED + kind,), durable)
        if kind == MEASUREMENTS:
            rows = await self._ask(
                seen,
                "measured",
                models=wanted.models,
                serials=wanted.serials,
                reports=wanted.reports,
                revisions=wanted.revisions,
            )
            for batch in rows.to_batches(max_chunksize=_CHUNK):
                yield batch
            return
        if not own:
            for batch in (await self._ask(seen, "whole", limit=None)).to_batches(max_chunksize=_CHUNK):
                yield batch
            return
        signals = list(wanted.signal_ids) or None
        found = await self._ask(seen, "days", lambda _: None, start=wanted.start, end=wanted.end)
        for piece in seen[READINGS].pieces:
            found += days_of(piece.rows["day"].unique().cast("int32").to_pylist(), wanted.start, wanted.end)
        for day in sorted(set(found)):
            start, end = day * DAY_US * 1000, (day + 1) * DAY_US * 1000
            start = start if wanted.start is None else max(start, wanted.start)
            end = end if wanted.end is None else min(end, wanted.end)
            near = condition(signals, start, end)
            for group in await self._ask(seen, "pieces_of_day", near, signal_ids=signals, start=start, end=end):
                rows = await self._ask(
                    seen,
                    "select",
                    condition(group, start, end),
                    signal_ids=group,
                    start=start,
                    end=end,
                    revisions=wanted.revisions,
                    limit=None,
                )
                for batch in rows.combine_chunks().to_batches(max_chunksize=_CHUNK):
                    yield batch

    async def _readings(self, participant: str, kind: str, durable: bool, **arguments: Any) -> Any:
        from guantong.keep.queries import condition

        seen = await self._see(participant, (READINGS,), durable)
        narrow = condition(arguments["signal_ids"], arguments["start"], arguments["end"])
        return await self._ask(seen, kind, narrow, **arguments)


def _listed(signal_ids: Iterable[int] | None) -> list[int] | None:
    return None if signal_ids is None else list(signal_ids)


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)
