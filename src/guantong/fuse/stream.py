"""The stream of one participant: state between chunks, and what happens to a chunk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from sqlalchemy import select

from guantong.base.clock import NS, Clock
from guantong.fuse.aimc import mapping_from_element
from guantong.fuse.catalogue import Catalogue
from guantong.fuse.findings import Book, signal_node, stable_id
from guantong.fuse.identity import NEVER, Keys, Recent, first_rows, judge
from guantong.fuse.mapping import Applied, apply_mappings
from guantong.fuse.measures import Measures
from guantong.fuse.model import Correction, Counts, FuseSettings, Mapping, Watermark
from guantong.fuse.readings import Piece, clean, gather, keys_of, keys_of_clean, types_of
from guantong.fuse.series import Series
from guantong.fuse.structure import derive, is_structural
from guantong.fuse.tables import CORRECTIONS, FINDINGS, GAPS, MAPPINGS, SIGNALS, TALLIES
from guantong.fuse.timing import ClockRun, SourceClock, SourceLateness
from guantong.records import Edge, Records

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from guantong.keep.model import Logged
    from guantong.keep.service import Keep

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

__all__ = ["NO_MAPPING", "Stream"]

NO_MAPPING = b"{}"
"""Stands in place of a mapping that was taken away."""

Answer = TypeVar("Answer")

_THREAD_ROWS = 5_000
"""Chunks with more rows are worked on in a thread, so that the event loop goes on; small ones aren't worth the way."""

_LATE_RIPE = 6 * NS
"""A late reading is judged this long after it came: by then a clock that is off has shown itself."""
CLOCK_RULE = ("clock.lower-envelope", 1)
UNIT_RULE = ("unit.level-ratio", 1)


class Stream:
    """Fusion of one participant's log, chunk by chunk."""

    def __init__(self, records: Records, keep: Keep, clock: Clock, settings: FuseSettings, participant: str) -> None:
        import numpy as np

        self.records = records
        self.keep = keep
        self.clock = clock
        self.settings = settings
        self.participant = participant
        self.position = 0
        self.mappings: dict[str, tuple[Mapping, int]] = {}
        self.catalogue = Catalogue(())
        self.book = Book((), (), settings.gap_s)
        self.recent = Recent(settings.recent_rows)
        self.series = Series(settings)
        self.measures = Measures(participant)
        self._clocks: dict[str, SourceClock] = {}
        self._lateness: dict[str, SourceLateness] = {}
        self._lost: dict[str, tuple[int, str]] = {}
        self._arrived: dict[str, int] = {}
        self._linked: Ints = np.zeros(0, np.int64)
        """When a live row of each signal was last linked to its batch."""
        self._bounds: Ints = np.zeros(0, np.int64)
        """The catalogue's bounds by signal."""
        self._typed: set[int] = set()
        """Pairs of signal and kind of value that the catalogue has been told of."""

    @classmethod
    async def load(
        cls, records: Records, keep: Keep, clock: Clock, settings: FuseSettings, participant: str, position: int
    ) -> Stream:
        """The stream as far as it is durable, from ``position`` on."""
        stream = cls(records, keep, clock, settings, participant)

        async def rows(table: Any) -> list[Any]:
            return list(await records.rows(select(table).where(table.c.participant == participant)))

        stream.position = position
        stream.catalogue = Catalogue(await rows(SIGNALS))
        stream.book = Book(await rows(FINDINGS), await rows(CORRECTIONS), settings.gap_s)
        for row in await rows(MAPPINGS):
            if row["document"] == NO_MAPPING:
                continue
            stream.mappings[row["name"]] = (mapping_from_element(orjson.loads(row["document"])), row["version"])
        for number, newest in stream.catalogue.newest.items():
            # the memory of rows is gone, so whatever is not newer must be looked up
            stream.recent.know(number, newest, complete=newest == NEVER)
        await stream.measures.load(records)
        return stream

    @property
    def waiting(self) -> bool:
        """Something wants to be judged later, though no row may come."""
        return any(one.pending for one in self._lateness.values())

    def watermarks(self) -> list[Watermark]:
        """How far each live source is, by name."""
        return [
            Watermark(source, one.newest, one.allowed / NS, one.newest - one.allowed)
            for source, one in sorted(self._lateness.items())
            if one.newest != NEVER
        ]

    # one chunk ------------------------------------------------------------------------------------------------------------------------

    async def fuse(self, batches: Sequence[Logged]) -> None:
        """Fuse log entries that follow each other, put the outcome on record, hand the rows to keep."""
        position = batches[-1].position
        tallies: dict[tuple[str, str], Counts] = defaultdict(Counts)
        gaps: list[dict[str, Any]] = []
        for one in batches:
            batch, note = one.batch, one.batch.note
            if note.get("names") or note.get("units"):
                self.catalogue.describe(batch.source, note)
            quarantined = len(note.get("quarantined") or ())  # type: ignore[arg-type]
            before = len(gaps)
            for gap in note.get("gaps") or ():  # type: ignore[attr-defined]
                gaps.append(_gap(batch.source, gap, one.position))
            missing = sum(gap["count"] for gap in gaps[before:] if gap["unit"] == "sequence")
            self._cuts(batch.source, gaps[before:])
            received = batch.rows.num_rows + quarantined
            tallies[batch.source, batch.kind] += Counts(received=received, quarantined=quarantined, gaps=missing)
        rows = sum(one.batch.rows.num_rows for one in batches)
        piece = await _work(rows, lambda: gather(batches, self.catalogue.resolve))
        readings: pa.Table | None = None
        edges: dict[Edge, None] = {}
        remembered: Keys | None = None
        if piece is not None:
            readings, remembered = await self._readings(piece, batches, tallies, edges)
        else:
            self._connections(batches, None, None, None, None)
        await self.measures.recall(self.keep, batches, self.position)
        measurements = self.measures.clean(batches, tallies, self.book, edges)
        tables = _tables(batches, tallies)
        if readings is not None:
            readings, remembered = await self._units(readings, remembered, piece, position, tallies)
            await _work(readings.num_rows, self._frozen)
        self._ripe(0)
        await self._record(position, tallies, gaps, edges)
        await self.keep.store(
            self.participant, position, readings=readings, measurements=measurements, tables=tables or None
        )
        if remembered is not None:
            self.recent.add(remembered)
        self.position = position

    async def settle(self, *, final: bool) -> None:
        """Judge what waited. ``final``: judge it now, whatever may still come."""
        if final:
            for source, clock in self._clocks.items():
                self._clock_runs(source, clock, ())
            self._frozen(final=True)
        self._ripe(2**63 - 1 if final else self.clock.now())
        await self._record(self.position, {}, [], {})

    async def _record(
        self, position: int, tallies: dict[tuple[str, str], Counts], gaps: list[dict[str, Any]], edges: dict[Edge, None]
    ) -> None:
        async with self.records.step(self.participant) as step:
            for (source, kind), counts in tallies.items():
                if counts != Counts():
                    step.upsert(
                        TALLIES,
                        position=position,
                        source=source,
                        kind=kind,
                        **{name: getattr(counts, name) for name in Counts.__dataclass_fields__},
                    )
            for number, gap in enumerate(gaps):
                step.upsert(GAPS, number=number, **gap)
            self.catalogue.write(step)
            self.book.write(step)
            self.measures.write(step)
            step.link(*edges)
        self.catalogue.written()
        self.book.written()
        self.measures.written()

    # readings -------------------------------------------------------------------------------------------------------------------------

    async def _readings(
        self,
        piece: Piece,
        batches: Sequence[Logged],
        tallies: dict[tuple[str, str], Counts],
        edges: dict[Edge, None],
    ) -> tuple[pa.Table, Keys]:
        applied = apply_mappings(piece, self.catalogue, self.mappings)
        keys = await _work(len(piece.signal), lambda: keys_of(piece))
        self.catalogue.typed(types_of(keys, self._typed))
        suspects = self.recent.suspects(keys)
        known: list[Keys] = []
        if suspects.any():
            doubtful = keys.take(suspects)
            known = self.recent.same(doubtful)
            forgotten = self.recent.forgotten(doubtful)
            if forgotten.any():
                known.append(await self._lookup(doubtful.take(forgotten)))
        return await _work(
            len(keys), lambda: self._judged(piece, keys, suspects, known, applied, batches, tallies, edges)
        )

    def _judged(
        self,
        piece: Piece,
        keys: Keys,
        suspects: Flags,
        known: list[Keys],
        applied: Applied,
        batches: Sequence[Logged],
        tallies: dict[tuple[str, str], Counts],
        edges: dict[Edge, None],
    ) -> tuple[pa.Table, Keys]:
        import numpy as np

        duplicate, revision, status_only = judge(keys, suspects, known)
        kept = ~duplicate
        reasons = {
            row: ("status differs" if status_only[row] else "value differs")
            for row in np.flatnonzero(kept & (revision > 0)).tolist()
        }
        receive = piece.table["receive_time"].cast("int64").to_numpy()
        aligned, ids = self._connections(batches, piece, keys, kept, receive)
        corrections = _corrections(len(keys), ids, applied)
        for fix in applied.corrections:
            self.book.correct(fix, applied.signals[fix.id])
        made = clean(piece, keys, kept, revision, reasons, aligned, corrections)
        for number, source in enumerate(piece.sources):
            mine = piece.source == number
            tallies[source, "readings"] += Counts(
                kept=int((kept & mine).sum()), duplicates=int((duplicate & mine).sum())
            )
        self._duplicates(piece, keys, duplicate, receive)
        remembered = replace(keys, revision=revision).take(kept)
        self._advance(remembered)
        self._lineage(piece, kept, receive, edges)
        self.series.add(remembered, made, self.catalogue.signals)
        return self._derived(made, tallies, edges), remembered

    def _derived(self, made: pa.Table, tallies: dict[tuple[str, str], Counts], edges: dict[Edge, None]) -> pa.Table:
        """The kept rows, and what mappings take out of them or put together."""
        if not any(is_structural(mapping) for mapping, _ in self.mappings.values()) or not made.num_rows:
            return made
        import pyarrow as pa

        added = derive(made, self.catalogue, self.mappings)
        for fix, numbers in added.corrections:
            self.book.correct(fix, numbers)
        for origin, number in added.origins:
            edges[Edge(signal_node(origin), signal_node(number), "derived")] = None
        for source, count in added.counts.items():
            tallies[source, "readings"] += Counts(corrected=count)
        return pa.concat_tables([made, *added.tables])

    def _advance(self, keys: Keys) -> None:
        """Tell the catalogue of signals that have passed the bound it has on record for them."""
        import numpy as np

        if not len(keys):
            return
        width = int(keys.signal.max()) + 1
        if width > len(self._bounds):
            newest = self.catalogue.newest
            self._bounds = np.array([newest.get(number, NEVER) for number in range(2 * width)], np.int64)
        latest = np.full(width, NEVER, np.int64)
        np.maximum.at(latest, keys.signal, keys.time)
        passed = np.flatnonzero(latest > self._bounds[:width]).tolist()
        self.catalogue.advance({number: int(latest[number]) for number in passed})
        for number in passed:
            self._bounds[number] = self.catalogue.newest[number]

    def _lineage(self, piece: Piece, kept: Flags, receive: Ints, edges: dict[Edge, None]) -> None:
        """Edges from batches to signals. Each row names its batch; edges are thinned, so that the graph stays small beside the data."""
        import numpy as np

        rows = np.flatnonzero(kept)
        if not len(rows):
            return
        # log entries stand in their order, so that counting them is enough for a number of each
        entry = np.cumsum(np.r_[0, np.diff(piece.position) != 0])[rows]
        width = int(piece.signal.max()) + 1
        _, first = first_rows(entry * width + piece.signal[rows])
        every = int(self.settings.lineage_s * NS)
        rows = rows[first]
        if width > len(self._linked):
            self._linked = np.concatenate(
                [self._linked, np.full(2 * width - len(self._linked), NEVER + every, np.int64)]
            )
        live = piece.live[rows]
        rows = rows[~live | (receive[rows] - every >= self._linked[piece.signal[rows]])]
        for row in rows.tolist():
            position, signal = int(piece.position[row]), int(piece.signal[row])
            at = int(receive[row])
            if not piece.live[row] or at - every >= self._linked[signal]:
                self._linked[signal] = at
                source = self.catalogue.signals[signal].source
                edges[Edge(f"keep:batch:{source}/{position}", signal_node(signal), "derived")] = None

    async def _lookup(self, keys: Keys) -> Keys:
        """Rows of the tables that may have the identity of one of these; asked in halves where one answer would be too large."""
        import numpy as np

        limit = self.settings.lookup_rows
        found: list[pa.Table] = []
        todo = [np.sort(np.unique(keys.time))]
        signals = np.unique(keys.signal).tolist()
        while todo:
            times = todo.pop()
            rows = await self.keep.range(
                self.participant, signals, int(times[0]), int(times[-1]) + 1, revisions=True, limit=limit
            )
            if rows.num_rows >= limit and len(times) > 1:
                todo += [times[: len(times) // 2], times[len(times) // 2 :]]
            else:
                found.append(self._before(rows))
        import pyarrow as pa

        return keys_of_clean(pa.concat_tables(found))

    def _before(self, rows: pa.Table) -> pa.Table:
        """Rows of the tables that come from before this chunk. A crash within a commit may have left this chunk's own there: taken for
        known, they would be counted as duplicates of themselves.
        """
        import pyarrow.compute as pc

        return rows.filter(pc.field("log_position") <= self.position)

    def _duplicates(self, piece: Piece, keys: Keys, duplicate: Flags, receive: Ints) -> None:
        import numpy as np

        if not duplicate.any():
            return
        for number, source in enumerate(piece.sources):
            mine = np.flatnonzero(duplicate & (piece.source == number))
            if not len(mine):
                continue
            order = mine[np.argsort(keys.time[mine], kind="stable")]
            times = keys.time[order]
            # a stretch ends where nothing was repeated for longer than the gap, or than ten times the usual distance
            steps = np.diff(times)
            moving = steps[steps > 0]
            wide = max(self.book.gap, 10 * int(np.median(moving)) if len(moving) else 0)
            for group in np.split(order, np.flatnonzero(steps > wide) + 1):
                numbers, counts = np.unique(keys.signal[group], return_counts=True)
                if counts.max() < self.settings.duplicate_run:
                    continue
                self.book.find(
                    "duplicate",
                    source,
                    "",
                    int(keys.time[group].min()),
                    int(keys.time[group].max()),
                    rows=len(group),
                    signals=sorted(self.catalogue.signals[one].native_id for one in numbers.tolist()),
                )

    # connections, clocks, lateness ---------------------------------------------------------------------------------------------------

    def _connections(
        self,
        batches: Sequence[Logged],
        piece: Piece | None,
        keys: Keys | None,
        kept: Flags | None,
        receive: Ints | None,
    ) -> tuple[Ints | None, list[tuple[Ints, str]]]:
        """Take live rows and connection events in their order. Returns aligned times and (rows, correction id)."""
        import numpy as np

        events: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for one in batches:
            event = one.batch.note.get("connection")
            if isinstance(event, dict):
                events[one.batch.source].append((one.position, event))
        aligned: Ints | None = None
        ids: list[tuple[Ints, str]] = []
        done: set[str] = set()
        if piece is not None and keys is not None and kept is not None and receive is not None:
            for number, source in enumerate(piece.sources):
                rows = np.flatnonzero((piece.source == number) & piece.live & kept)
                if not len(rows):
                    continue
                done.add(source)
                self._arrived[source] = max(self._arrived.get(source, 0), int(receive[rows].max()))
                clock = self._clocks.setdefault(source, SourceClock(self.settings))
                lateness = self._lateness.setdefault(source, SourceLateness(self.settings, source))
                times = clock.feed(receive[rows], keys.time[rows])
                signals = np.unique(keys.signal[rows]).tolist()
                ids += [
                    (rows[where], id) for where, id in self._clock_runs(source, clock, signals, times, receive[rows])
                ]
                if (times != NEVER).any():
                    if aligned is None:
                        aligned = np.full(len(keys), NEVER, np.int64)
                    aligned[rows] = times
                right = np.where(times == NEVER, keys.time[rows], times)
                at = 0
                for place, event in events.get(source, ()):
                    end = int(np.searchsorted(piece.position[rows], place))
                    lateness.feed(
                        keys.signal[rows[at:end]], right[at:end], receive[rows[at:end]], piece.position[rows[at:end]]
                    )
                    self._event(source, event)
                    at = end
                lateness.feed(keys.signal[rows[at:]], right[at:], receive[rows[at:]], piece.position[rows[at:]])
        for source, list_ in events.items():
            if source not in done:
                for _, event in list_:
                    self._event(source, event)
        return aligned, ids

    def _event(self, source: str, event: dict[str, Any]) -> None:
        at = int(event.get("at") or 0)
        if event.get("event") == "lost":
            self._lost.setdefault(source, (at, str(event.get("reason") or "")))
        elif event.get("event") == "back":
            lost = self._lost.pop(source, None)
            if lost is not None:
                self.book.find("cut", source, "", lost[0], max(at, lost[0]), reason=lost[1][:200])
            if source in self._lateness:
                self._lateness[source].reconnected()

    def _cuts(self, source: str, gaps: list[dict[str, Any]]) -> None:
        """What one batch says is missing, one finding a signal and stretch."""
        stretches: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
        for gap in gaps:
            if gap["start"]:
                stretches[gap["signal"], gap["start"], gap["end"]].append(gap)
        for (signal, start, end), list_ in stretches.items():
            missing = sum(gap["count"] for gap in list_)
            self.book.find("cut", source, signal, start, end, rows=missing, reason=list_[0]["reason"][:200])

    def _clock_runs(
        self,
        source: str,
        clock: SourceClock,
        signals: Sequence[int],
        times: Ints | None = None,
        receive: Ints | None = None,
    ) -> list[tuple[Ints, str]]:
        """Put confirmed runs on record; with times, the rows that each correction holds for."""
        import numpy as np

        runs: list[ClockRun] = [
            *clock.closed,
            *([clock.run] if clock.run is not None and clock.run.add is not None else []),
        ]
        clock.closed.clear()
        rows = []
        for run in runs:
            add = run.add or 0
            fix = Correction(
                stable_id("fix-clock", source, "", run.start),
                "clock",
                source,
                "",
                run.start,
                run.end,
                {"offset_s": -add / NS, "uncertainty_s": run.uncertainty / NS},
                *CLOCK_RULE,
            )
            self.book.correct(fix, signals)
            # rows: those of this run only, the finding may join several
            self.book.find(
                "clock",
                source,
                "",
                run.start,
                run.end,
                offset_s=-add / NS,
                uncertainty_s=run.uncertainty / NS,
                max_rows=run.rows,
                correction=fix.id,
            )
            if times is not None and receive is not None:
                where = np.flatnonzero((times != NEVER) & (receive >= run.start) & (receive <= run.end))
                if len(where):
                    rows.append((where, fix.id))
        return rows

    def _ripe(self, now: int) -> None:
        for source, lateness in self._lateness.items():
            ripe = lateness.ripe(max(self._arrived.get(source, 0), now) - _LATE_RIPE)
            if not ripe:
                continue
            excused = [
                (one.start - NS, one.end + NS)
                for one in self.book.findings.values()
                if one.source == source and one.kind in ("clock", "cut")
            ]
            left = [
                one
                for one in ripe
                if not any(start <= one.time <= end or start <= one.receive <= end for start, end in excused)
            ]
            counts: dict[int, int] = defaultdict(int)
            for one in left:
                counts[one.signal] += 1
            if not counts or max(counts.values()) < self.settings.late_run:
                continue
            start, end = min(one.time for one in left), max(one.receive for one in left)
            self.book.find(
                "late",
                source,
                "",
                start,
                end,
                rows=len(left),
                max_late_s=round(max(one.receive - one.time for one in left) / NS, 3),
                signals=sorted({self.catalogue.signals[one].native_id for one in counts}),
            )

    # stretches ------------------------------------------------------------------------------------------------------------------------

    async def _units(
        self,
        readings: pa.Table,
        remembered: Keys | None,
        piece: Piece | None,
        position: int,
        tallies: dict[tuple[str, str], Counts],
    ) -> tuple[pa.Table, Keys | None]:
        import pyarrow as pa

        from guantong.fuse.revise import converted

        for number, start, end, stretch in await _work(
            readings.num_rows, lambda: list(self.series.unit_stretches(self.catalogue.signals))
        ):
            signal = self.catalogue.signals[number]
            fix = Correction(
                stable_id("fix-unit", signal.source, signal.native_id, start),
                "unit",
                signal.source,
                signal.native_id,
                start,
                end,
                {"from": stretch.unit, "to": signal.unit, "slope": stretch.slope, "shift": stretch.shift},
                *UNIT_RULE,
            )
            facts: dict[str, Any] = {
                "written": stretch.unit,
                "declared": signal.unit,
                "rows": stretch.end - stretch.begin,
                "ratio": round(stretch.ratio, 4),
                "level_before": round(stretch.level_before, 6),
                "level_in": round(stretch.level_in, 6),
                "level_after": round(stretch.level_after, 6),
            }
            if self.settings.unit_correct:
                earlier = self._before(
                    await self.keep.range(self.participant, [number], start, end + 1, revisions=True)
                )
                added = converted(pa.concat_tables([earlier, readings]), number, start, end, fix)
                if added.num_rows:
                    readings = pa.concat_tables([readings, added])
                    extra = keys_of_clean(added)
                    remembered = extra if remembered is None else _joined(remembered, extra)
                    tallies[signal.source, "readings"] += Counts(corrected=added.num_rows)
                self.book.correct(fix, [number])
                facts["correction"] = fix.id
            self.book.find("unit", signal.source, signal.native_id, start, end, **facts)
        return readings, remembered

    def _frozen(self, *, final: bool = False) -> None:
        for number, start, end, rows, value in self.series.frozen(self.catalogue.signals, final=final):
            signal = self.catalogue.signals[number]
            self.book.find("frozen", signal.source, signal.native_id, start, end, max_rows=rows, value=value)


def _gap(source: str, gap: dict[str, Any], position: int) -> dict[str, Any]:
    start, end = int(gap.get("start") or 0), int(gap.get("end") or 0)
    return {
        "position": position,
        "source": source,
        "signal": str(gap.get("signal") or ""),
        "start": start,
        "end": max(start, end),
        "count": int(gap.get("count") or 0),
        "unit": str(gap.get("unit") or "sequence"),
        "reason": str(gap.get("reason") or "")[:500],
    }


async def _work(rows: int, work: Callable[[], Answer]) -> Answer:
    return await asyncio.to_thread(work) if rows > _THREAD_ROWS else work()


def _joined(one: Keys, other: Keys) -> Keys:
    import numpy as np

    names = ("signal", "time", "sequence", "kind", "bits", "status", "revision")
    return Keys(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in names))


def _corrections(size: int, clocks: list[tuple[Ints, str]], applied: Applied) -> pa.Array | None:
    """The corrections column: ids separated by blanks, null where there are none."""
    import numpy as np
    import pyarrow as pa

    pieces = [*applied.rows, *clocks]
    if not pieces:
        return None
    words = [""]
    code = np.zeros(size, np.int64)
    for rows, id in pieces:
        for old in np.unique(code[rows]).tolist():
            words.append(f"{words[old]} {id}".strip())
            code[rows[code[rows] == old]] = len(words) - 1
    return pa.DictionaryArray.from_arrays(pa.array(code, mask=code == 0), pa.array(words)).cast(pa.string())


def _tables(batches: Sequence[Logged], tallies: dict[tuple[str, str], Counts]) -> dict[str, pa.Table]:
    """Tables pass through whole: they have no identity that we know of."""
    import pyarrow as pa

    found: dict[str, list[pa.Table]] = defaultdict(list)
    for one in batches:
        batch = one.batch
        if batch.kind == "table" and batch.rows.num_rows:
            name = str(batch.note.get("table") or batch.source)
            rows = pa.Table.from_batches([batch.rows]).append_column(
                "log_position", pa.array([one.position] * batch.rows.num_rows, pa.int64())
            )
            found[name].append(rows)
            tallies[batch.source, "table"] += Counts(kept=batch.rows.num_rows)
    return {name: pa.concat_tables(pieces, promote_options="permissive") for name, pieces in found.items()}
