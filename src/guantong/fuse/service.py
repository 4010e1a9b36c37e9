"""Fuse: reads the log as it grows, and hands clean rows back to keep.

For each chunk of the log, in this order: catalogue, mappings, clocks, identity, stretches; then one unit of work puts catalogue, tallies,
findings, corrections, gaps and lineage on record; then the rows go to keep. A crash between the two, or before keep's commit, costs
nothing: fusion begins again after the position that keep has committed, and forgets its own tallies above it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping as Facts
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, delete, func, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import NS, Clock
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Skippable
from guantong.base.finding import Finding
from guantong.fuse.aimc import mapping_from_element, mapping_to_element, signal_reference
from guantong.fuse.comparison import Comparison, compare, natural
from guantong.fuse.model import (
    LIMITS_SET,
    MAPPING_REMOVED,
    MAPPING_SET,
    SUGGESTION_DECIDED,
    Correction,
    Counts,
    FuseSettings,
    Gap,
    Mapping,
    MapSink,
    MapSource,
    Part,
    Signal,
    Unit,
    Watermark,
)
from guantong.fuse.parts import part_from_json
from guantong.fuse.revise import newest_revisions
from guantong.fuse.stream import NO_MAPPING, Stream
from guantong.fuse.tables import CORRECTIONS, FINDINGS, GAPS, LIMITS, MAPPINGS, PARTS, SIGNALS, SUGGESTIONS, TALLIES
from guantong.records import Records

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from guantong.fuse.aggregates import AggregateConfiguration
    from guantong.fuse.clocks import DriftPiece, Lag, Offset
    from guantong.fuse.quality import Limits, SignalQuality
    from guantong.fuse.suggest import Suggestion
    from guantong.keep.service import Keep

__all__ = ["Fuse"]

_LOG = logging.getLogger("guantong.fuse")
_MTCONNECT = "https://guantong.org/mapping/mtconnect"
"""Submodel in which confirmed names of MTConnect stand."""
_PACE_S = 0.25
"""Small chunks of live data are fused no more often: the work of a chunk is for the most part the same whether it has ten rows or a
thousand. What comes after a pause is fused at once."""
_COUNTS = ("received", "kept", "duplicates", "quarantined", "gaps", "corrected")


class Fuse:
    """Fusion of every participant of the node."""

    def __init__(self, records: Records, keep: Keep, clock: Clock, settings: FuseSettings | None = None) -> None:
        self.records = records
        self.keep = keep
        self.clock = clock
        self.settings = settings or FuseSettings()
        self.error: GuantongError | None = None
        """Why fusion last stood still; None while it runs."""
        self._streams: dict[str, Stream] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._participants: set[str] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._halt = asyncio.Event()
        keep.on_append(self._woken.set)

    async def start(self, participants: Sequence[str] = ()) -> None:
        """Follow the log: of these participants and of all that this node has fused before."""
        self._stopping = False
        self._halt.clear()
        known = await self.records.rows(select(TALLIES.c.participant).distinct())
        self._participants |= {*participants, *(row["participant"] for row in known)}
        self._woken.set()
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="fuse")

    async def follow(self, participant: str) -> None:
        """Follow the log of one more participant."""
        self._participants.add(participant)
        self._woken.set()

    async def stop(self) -> None:
        """Finish the chunk at hand and stop."""
        self._stopping = True
        self._halt.set()
        self._woken.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def drain(self, participant: str) -> None:
        """Fuse everything logged so far; what waited for more rows is decided now."""
        self._participants.add(participant)
        while await self._advance(participant):
            pass
        async with self._lock(participant):
            stream = await self._stream(participant)
            await stream.settle(final=True)

    async def signals(self, participant: str) -> list[Signal]:
        """The catalogue, by id."""
        stream = self._streams.get(participant)
        if stream is not None:
            return list(stream.catalogue.durable)
        rows = await self.records.rows(
            select(SIGNALS).where(SIGNALS.c.participant == participant).order_by(SIGNALS.c.id)
        )
        return [Signal(**{name: row[name] for name in Signal.__dataclass_fields__}) for row in rows]

    async def set_mapping(self, participant: str, mapping: Mapping) -> None:
        """Set a mapping (by name); it holds for readings fused from now on.

        Raises Skippable ``fuse.mapping-invalid``.
        """
        element = mapping_to_element(mapping)
        async with self._lock(participant):
            stream = await self._stream(participant)
            old = await self.records.row(
                select(MAPPINGS.c.version).where(
                    and_(MAPPINGS.c.participant == participant, MAPPINGS.c.name == mapping.name)
                )
            )
            version = int(old["version"]) + 1 if old else 1
            async with self.records.step(participant) as step:
                step.upsert(
                    MAPPINGS,
                    name=mapping.name,
                    version=version,
                    document=canonical_bytes(element),
                    set_at=self.clock.now(),
                )
                step.record(Entry(MAPPING_SET, {"name": mapping.name, "version": version, "digest": digest(element)}))
            stream.mappings[mapping.name] = (mapping, version)

    async def remove_mapping(self, participant: str, name: str) -> None:
        """Take a mapping away; what it made stays. Raises Skippable ``fuse.no-such-mapping``."""
        async with self._lock(participant):
            stream = await self._stream(participant)
            if name not in stream.mappings:
                raise Skippable("fuse.no-such-mapping", name=name[:60])
            async with self.records.step(participant) as step:
                version = stream.mappings[name][1]
                # the row stays without its document: a mapping of that name that is set later goes on counting versions
                step.upsert(MAPPINGS, name=name, version=version, document=NO_MAPPING, set_at=self.clock.now())
                step.record(Entry(MAPPING_REMOVED, {"name": name, "version": version}))
            del stream.mappings[name]

    async def mappings(self, participant: str) -> list[Mapping]:
        """The mappings in force, by name."""
        rows = await self.records.rows(
            select(MAPPINGS).where(MAPPINGS.c.participant == participant).order_by(MAPPINGS.c.name)
        )
        return [mapping_from_element(orjson.loads(row["document"])) for row in rows if row["document"] != NO_MAPPING]

    async def suggestions(self, participant: str) -> list[Suggestion]:
        """What signals may be in a companion model, strongest first; what a person decided is not suggested again."""
        from guantong.fuse.suggest import suggest

        rows = await self.records.rows(select(SUGGESTIONS.c.id).where(SUGGESTIONS.c.participant == participant))
        last = (await self.keep.latest(participant)).to_pydict()
        values = {
            number: float(value if value is not None else whole)
            for number, value, whole in zip(last["signal_id"], last["value_f64"], last["value_i64"], strict=True)
            if value is not None or whole is not None
        }
        return suggest(await self.signals(participant), values, frozenset(str(row["id"]) for row in rows))

    async def decide(self, participant: str, id: str, *, confirm: bool) -> Suggestion:
        """Confirm a suggestion, which sets the mapping (with the unit's conversion), or reject it, so that it is not made again.

        Raises Skippable ``fuse.no-such-suggestion``.
        """
        found = next((one for one in await self.suggestions(participant) if one.id == id), None)
        if found is None:
            raise Skippable("fuse.no-such-suggestion", id=id[:40])
        if confirm:
            signal = next(one for one in await self.signals(participant) if one.id == found.signal)
            unit = (
                (Unit(found.source_unit, found.target_unit),)
                if found.source_unit not in ("", found.target_unit)
                else ()
            )
            sink = MapSink("value", (("Submodel", _MTCONNECT), ("Property", f"{found.target}_{found.signal}")))
            source = MapSource("value", signal_reference(signal.source, signal.native_id))
            await self.set_mapping(participant, Mapping(f"{found.target}_{found.signal}", (source,), (sink,), unit))
        state = "confirmed" if confirm else "rejected"
        async with self.records.step(participant) as step:
            document = {"signal": found.signal, "target": found.target, "reasons": list(found.reasons)}
            step.upsert(SUGGESTIONS, id=id, state=state, document=orjson.dumps(document), decided_at=step.at)
            entry = {"id": id, "state": state, "signal": found.signal, "target": found.target}
            step.record(Entry(SUGGESTION_DECIDED, entry))
        return found

    async def quality(
        self,
        participant: str,
        signal_id: int,
        start: int | None = None,
        end: int | None = None,
        *,
        limits: Limits | None = None,
    ) -> SignalQuality:
        """Every check of one signal over ``start <= source time < end`` (ns), held against the limits stated for it or those given.

        Raises Skippable ``fuse.no-such-signal``; Refused ``keep.query-too-large``: ask for a shorter window.
        """
        from guantong.fuse.quality import evaluate

        limits = limits or (await self.limits(participant, signal_id))[0]
        frame = await self._frame(participant, signal_id, start, end, limits)
        return await asyncio.to_thread(evaluate, frame, limits, signal_id=signal_id, start=start, end=end)

    async def proposed_limits(
        self, participant: str, signal_id: int, start: int | None = None, end: int | None = None
    ) -> Limits:
        """Limits read off this window, for a person to look at; they are not put in force. Raises Skippable ``fuse.no-such-signal``."""
        from guantong.fuse.quality import proposed_limits

        frame = await self._frame(participant, signal_id, start, end, None)
        return await asyncio.to_thread(proposed_limits, frame)

    async def limits(self, participant: str, signal_id: int) -> tuple[Limits, int]:
        """The limits in force for a signal with their version; none stated: the defaults, version 0."""
        from guantong.fuse.quality import Limits, limits_from

        row = await self.records.row(
            select(LIMITS).where(and_(LIMITS.c.participant == participant, LIMITS.c.signal == signal_id))
        )
        return (limits_from(orjson.loads(row["document"])), int(row["version"])) if row else (Limits(), 0)

    async def set_limits(self, participant: str, signal_id: int, document: Facts[str, Any]) -> int:
        """State limits of a signal; the whole set replaces the one before. Returns its version.

        Raises ConfigProblem ``fuse.limits-invalid``, Skippable ``fuse.no-such-signal``.
        """
        from guantong.fuse.quality import limits_from

        limits_from(document)
        await self._known(participant, signal_id)
        version = (await self.limits(participant, signal_id))[1] + 1
        stated = {name: value for name, value in document.items() if value is not None}
        async with self.records.step(participant) as step:
            step.upsert(
                LIMITS, signal=signal_id, version=version, document=canonical_bytes(stated), set_at=self.clock.now()
            )
            step.record(Entry(LIMITS_SET, {"signal": signal_id, "version": version, "limits": stated}))
        return version

    async def as_of(
        self,
        participant: str,
        signal_ids: Sequence[int],
        start: int | None = None,
        end: int | None = None,
        *,
        position: int | None = None,
        received: int | None = None,
    ) -> pa.Table:
        """Readings as they were known then: from log entries up to ``position``, or received up to that instant (ns); highest revision.

        Revisions that fusion itself added carry the entry and the time of the reading that they correct.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = await self.keep.range(participant, signal_ids, start, end, revisions=True)
        if position is not None:
            rows = rows.filter(pc.less_equal(rows["log_position"], position))
        if received is not None:
            when = pa.scalar(received // 1000, pa.int64()).cast(rows.schema.field("receive_time").type)
            rows = rows.filter(pc.less_equal(rows["receive_time"], when))
        return await asyncio.to_thread(newest_revisions, rows)

    async def watermarks(self, participant: str) -> list[Watermark]:
        """How far each live source is: what is older than its watermark counts as late when it comes."""
        async with self._lock(participant):
            return (await self._stream(participant)).watermarks()

    async def aggregate(
        self,
        participant: str,
        signal_id: int,
        start: int,
        end: int,
        every_s: float,
        names: Sequence[str],
        configuration: AggregateConfiguration | None = None,
    ) -> pl.DataFrame:
        """Aggregates of OPC UA Part 13 over equal intervals; the reading before ``start`` gives the first bound.

        Raises Skippable ``fuse.no-such-signal``, ``fuse.aggregate-unknown``.
        """
        from guantong.fuse.aggregates import aggregate

        frame, status = await self._numbers(participant, signal_id, start - 86_400 * NS, end)
        return await asyncio.to_thread(aggregate, *frame, status, start, end, int(every_s * NS), names, configuration)

    async def lag(
        self, participant: str, one: int, other: int, start: int, end: int, *, every_s: float, max_lag_s: float
    ) -> Lag:
        """How much later the second signal shows what the first shows. Raises Skippable ``fuse.too-few-readings``."""
        from guantong.fuse.clocks import lag

        first, _ = await self._numbers(participant, one, start, end)
        second, _ = await self._numbers(participant, other, start, end)
        return await asyncio.to_thread(lag, *first, *second, every_s=every_s, max_lag_s=max_lag_s)

    async def clock_of(
        self, participant: str, source: str, start: int | None = None, end: int | None = None
    ) -> tuple[Offset, list[DriftPiece]]:
        """Offset and drift of a source's clock over a window, from all its readings. Raises Skippable ``fuse.too-few-readings``."""
        import polars as pl

        from guantong.fuse.clocks import drift, lower_envelope

        ids = [one.id for one in await self.signals(participant) if one.source == source]
        rows = await self.keep.range(participant, ids, start, end)
        frame = pl.from_arrow(rows)
        assert isinstance(frame, pl.DataFrame)
        frame = frame.sort("log_position", "receive_time", "source_time")
        receive = (frame["receive_time"].dt.epoch("us") * 1000).to_numpy()
        sent = (frame["source_time"].dt.epoch("us") * 1000 + frame["source_ns"]).to_numpy()
        return await asyncio.to_thread(lambda: (lower_envelope(receive, sent), drift(receive, sent)))

    async def _numbers(self, participant: str, signal_id: int, start: int, end: int) -> tuple[tuple[Any, Any], Any]:
        """((times, values), status) of a signal as arrays; NaN where there is no number."""
        from guantong.fuse.quality import frame_of

        await self._known(participant, signal_id)
        rows = await self.keep.range(participant, [signal_id], start, end)
        frame = await asyncio.to_thread(frame_of, rows)
        return (frame["time"].to_numpy(), frame["value"].fill_null(float("nan")).to_numpy()), rows["status"].to_numpy()

    async def _frame(
        self, participant: str, signal_id: int, start: int | None, end: int | None, limits: Limits | None
    ) -> Any:
        from guantong.fuse.quality import frame_of

        await self._known(participant, signal_id)
        rows = await self.keep.range(participant, [signal_id], start, end)
        neighbour = None
        if limits is not None and limits.neighbour is not None:
            neighbour = await self.keep.range(participant, [limits.neighbour], start, end)
        return await asyncio.to_thread(frame_of, rows, neighbour=neighbour)

    async def _known(self, participant: str, signal_id: int) -> None:
        if not await self.records.row(
            select(SIGNALS.c.id).where(and_(SIGNALS.c.participant == participant, SIGNALS.c.id == signal_id))
        ):
            raise Skippable("fuse.no-such-signal", signal=signal_id)

    async def counts(self, participant: str, *, kind: str | None = None, source: str | None = None) -> Counts:
        """The account, of everything or of one kind (``readings``, ``measurements``, ``table``) or source."""
        where = [TALLIES.c.participant == participant]
        if kind is not None:
            where.append(TALLIES.c.kind == kind)
        if source is not None:
            where.append(TALLIES.c.source == source)
        row = await self.records.row(
            select(*(func.coalesce(func.sum(TALLIES.c[name]), 0).label(name) for name in _COUNTS)).where(and_(*where))
        )
        return Counts(**{name: int(row[name]) for name in _COUNTS}) if row else Counts()

    async def findings(self, participant: str, *, kinds: Sequence[str] | None = None) -> list[Finding]:
        """What was found, by start."""
        rows = await self.records.rows(
            select(FINDINGS).where(FINDINGS.c.participant == participant).order_by(FINDINGS.c.start, FINDINGS.c.id)
        )
        return [
            Finding(
                row["kind"],
                row["source"],
                row["signal"],
                row["start"],
                row["end"],
                orjson.loads(row["facts"]),
                row["id"],
            )
            for row in rows
            if kinds is None or row["kind"] in kinds
        ]

    async def corrections(self, participant: str) -> list[Correction]:
        """What was corrected, by start."""
        rows = await self.records.rows(
            select(CORRECTIONS)
            .where(CORRECTIONS.c.participant == participant)
            .order_by(CORRECTIONS.c.start, CORRECTIONS.c.id)
        )
        return [
            Correction(
                **{
                    **{name: row[name] for name in Correction.__dataclass_fields__},
                    "value": orjson.loads(row["value"]),
                }
            )
            for row in rows
        ]

    async def gaps(self, participant: str) -> list[Gap]:
        """What the sources say is missing, by start."""
        rows = await self.records.rows(select(GAPS).where(GAPS.c.participant == participant).order_by(GAPS.c.start))
        return [Gap(**{name: row[name] for name in Gap.__dataclass_fields__}) for row in rows]

    async def parts(self, participant: str) -> list[Part]:
        """Parts with their names, by design and number."""
        rows = await self.records.rows(select(PARTS).where(PARTS.c.participant == participant))
        parts = [part_from_json(orjson.loads(row["document"])) for row in rows]
        return sorted(parts, key=lambda part: (part.design, part.serial.zfill(20), part.id))

    async def compare(self, participant: str, left: str, right: str) -> Comparison:
        """The measurements of two sources (say, a supplier's report and the own incoming inspection) side by side.

        Revised values count, superseded ones don't. A source without measurements compares with nothing. Tables keep no order, so the
        reports' own numbers do: the same data give the same answer.
        """
        table = await self.keep.measurements(participant)
        rows = [row for row in table.to_pylist() if row["source"] in (left, right)]
        rows.sort(key=lambda row: [natural(row[name]) for name in ("report", "result", "characteristic", "feature")])
        one, other = ([row for row in rows if row["source"] == source] for source in (left, right))
        return await asyncio.to_thread(compare, one, other, left_origin=left, right_origin=right)

    def _lock(self, participant: str) -> asyncio.Lock:
        return self._locks.setdefault(participant, asyncio.Lock())

    async def _stream(self, participant: str) -> Stream:
        stream = self._streams.get(participant)
        if stream is None:
            # what an earlier fusion of this process handed over may still wait in keep's tail
            await self.keep.flush(participant)
            position = await self.keep.stored(participant)

            async with self.records.step(participant) as step:
                for table in (TALLIES, GAPS):
                    step.apply(
                        lambda connection, table=table: connection.execute(  # type: ignore[misc]
                            delete(table).where(and_(table.c.participant == participant, table.c.position > position))
                        )
                    )
            stream = await Stream.load(self.records, self.keep, self.clock, self.settings, participant, position)
            self._streams[participant] = stream
        return stream

    async def _advance(self, participant: str) -> int:
        """Fuse one chunk; how large it was, 0 where the log has nothing more."""
        async with self._lock(participant):
            stream = await self._stream(participant)
            batches = await self.keep.read(participant, stream.position, self.settings.chunk_rows)
            if not batches:
                return 0
            try:
                await stream.fuse(batches)
            except BaseException:
                # half a chunk may be in memory: load again from what is durable
                self._streams.pop(participant, None)
                raise
            return max(1, int(sum(one.batch.rows.num_rows for one in batches)))

    async def _follow(self) -> None:
        pause, loop = 0.0, asyncio.get_running_loop()
        while not self._stopping:
            # what waits to be judged is judged without a further row; nothing else needs a timer
            timer = 2.0 if any(stream.waiting for stream in self._streams.values()) else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), timer)
            self._woken.clear()
            try:
                for participant in sorted(self._participants):
                    began = loop.time()
                    while not self._stopping and (rows := await self._advance(participant)):
                        if rows < self.settings.chunk_rows // 4 and (wait := began + _PACE_S - loop.time()) > 0:
                            with contextlib.suppress(TimeoutError):
                                await asyncio.wait_for(self._halt.wait(), wait)
                        began = loop.time()
                    if not self._stopping:
                        async with self._lock(participant):
                            await (await self._stream(participant)).settle(final=False)
                pause, self.error = 0.0, None
            except GuantongError as error:
                # nothing is lost: the log keeps what isn't fused
                self.error = error
                _LOG.warning("fusion waits: %s", error)
                pause = min(30.0, max(1.0, pause * 2))
                await self.clock.sleep(pause)
                self._woken.set()
