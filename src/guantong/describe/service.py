"""Describe's shell: datasets, Asset Administration Shells and lineage over the records, with data read from keep."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import orjson
from sqlalchemy import Connection, and_, delete, select

from guantong.base.canonical import canonical_bytes, digest, sha256
from guantong.base.clock import Clock, iso
from guantong.base.entry import Entry
from guantong.base.errors import Skippable
from guantong.describe.dcat import catalog, dataset_node
from guantong.describe.documents import Draft, read_cursor, write_cursor, write_documents
from guantong.describe.drafts import Names, machine_drafts, part_drafts
from guantong.describe.lineage import Direction, edges_of, walk_edges
from guantong.describe.machine import lexical
from guantong.describe.model import (
    DATASET_DEFINED,
    SHELLS_WRITTEN,
    Dataset,
    DatasetStats,
    DescribeSettings,
    Page,
    Trace,
)
from guantong.describe.nameplate import FACTS
from guantong.describe.paths import put
from guantong.describe.ports import Decide, Interfaces, deny
from guantong.describe.rows import named_readings
from guantong.describe.tables import ASSETS, DATASETS, DOCUMENTS, ELEMENTS
from guantong.describe.values import by_part, measured, newest, readings
from guantong.records import Edge, Records

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["Describe"]

_DATASET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_STATS_ROWS = 20_000_000
_RECENT, _RECENT_BYTES = 16, 2 * 1024 * 1024
"""Datasets kept as they were last read, and the size up to which one is."""
_SCANNED = 2_000
"""Documents looked at for one page when most of them are hidden from the reader."""


class Describe:
    """The stage describe (述). Open the records first."""

    def __init__(
        self,
        records: Records,
        keep: Keep,
        fuse: Fuse,
        clock: Clock,
        decide: Decide = deny,
        *,
        settings: DescribeSettings | None = None,
        interfaces: Interfaces | None = None,
    ) -> None:
        self._records = records
        self._keep = keep
        self._fuse = fuse
        self._clock = clock
        self.decide: Decide = decide
        """Who may do what; denies until something is wired."""
        self.settings = settings or DescribeSettings()
        self._interfaces = interfaces
        self._recent: OrderedDict[tuple[Any, ...], tuple[tuple[int, ...], list[pa.RecordBatch]]] = OrderedDict()
        """Small datasets as they were last read; good while keep's mark is the same."""

    def now(self) -> int:
        """The instant, for answers that carry one."""
        return self._clock.now()

    # datasets

    async def define(self, participant: str, dataset: Dataset) -> Dataset:
        """Define a dataset, or replace the definition with that id.

        Raises Skippable ``describe.dataset-invalid`` for a bad id, unknown signals, an empty title or an empty selection.
        """
        known = {signal.id: signal for signal in await self._fuse.signals(participant)}
        reason = _fault(dataset, known)
        if reason:
            raise Skippable("describe.dataset-invalid", dataset=dataset.id[:100] or "–", reason=reason)
        body = _dataset_json(dataset)
        async with self._records.step(participant) as step:
            step.upsert(DATASETS, id=dataset.id, body=canonical_bytes(body), changed_at=step.at)
            step.link(
                *(
                    Edge(f"fuse:signal:{signal}", f"describe:dataset:{dataset.id}", "included")
                    for signal in dataset.signals
                )
            )
            step.record(
                Entry(
                    DATASET_DEFINED,
                    {
                        "dataset": dataset.id,
                        "kind": dataset.kind,
                        "signals": len(dataset.signals),
                        "digest": digest(body),
                    },
                )
            )
        return dataset

    async def dataset(self, participant: str, dataset_id: str) -> Dataset:
        """One dataset. Raises Skippable ``describe.unknown-dataset``."""
        row = await self._records.find(DATASETS, ("body",), participant=participant, id=dataset_id)
        if row is None:
            raise Skippable("describe.unknown-dataset", dataset=dataset_id[:100])
        return _dataset(row["body"])

    async def datasets(self, participant: str) -> list[Dataset]:
        """All datasets, by id."""
        rows = await self._records.rows(
            select(DATASETS.c.body).where(DATASETS.c.participant == participant).order_by(DATASETS.c.id)
        )
        return [_dataset(row["body"]) for row in rows]

    async def rows(
        self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """The dataset's rows with ``start <= source time < end`` (nanoseconds; None is open), the newest revision of each.

        Readings: columns of :func:`guantong.describe.rows.reading_rows_schema`. Measurements: ``keep.clean_measurement_schema`` without
        the log position. Streams: memory does not grow with the dataset.
        """
        dataset = await self.dataset(participant, dataset_id)
        known = {signal.id: signal for signal in await self._fuse.signals(participant)}
        asked = (participant, dataset, start, end, tuple(known.get(number) for number in dataset.signals))
        mark = await self._keep.mark(participant, dataset.kind)
        kept = self._recent.get(asked)
        if kept is not None and kept[0] == mark:
            self._recent.move_to_end(asked)
            for batch in kept[1]:
                yield batch
            return
        found: list[pa.RecordBatch] = []
        size = 0
        async for batch in self._scan(participant, dataset, start, end):
            named = named_readings(batch, known) if dataset.kind == "readings" else batch.drop_columns(["log_position"])
            size += named.nbytes
            if size <= _RECENT_BYTES:
                found.append(named)
            yield named
        if size <= _RECENT_BYTES:
            self._recent[asked] = (mark, found)
            self._recent.move_to_end(asked)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    async def _scan(
        self, participant: str, dataset: Dataset, start: int | None, end: int | None
    ) -> AsyncIterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        from guantong.keep.model import Filter

        first = max((at for at in (start, dataset.start) if at is not None), default=None)
        last = min((at for at in (end, dataset.end) if at is not None), default=None)
        if first is not None and last is not None and first >= last:
            return
        if dataset.kind == "readings":
            wanted = Filter(signal_ids=dataset.signals, start=first, end=last)
        else:
            wanted = Filter(models=dataset.models, start=first, end=last)
        async for batch in self._keep.scan(participant, dataset.kind, wanted):
            if dataset.kind == "measurements" and dataset.sources:
                keep = pc.is_in(batch.column("source"), value_set=pa.array(dataset.sources))
                batch = batch.filter(keep)
            for place in range(0, batch.num_rows, self.settings.batch_rows):
                yield batch.slice(place, self.settings.batch_rows)

    async def statistics(self, participant: str, dataset_id: str) -> DatasetStats:
        """Rows, first and last instant and size, counted now over the tables."""
        import pyarrow as pa
        import pyarrow.compute as pc

        dataset = await self.dataset(participant, dataset_id)
        column = "source_time" if dataset.kind == "readings" else "measured_time"
        rows = size = 0
        first: int | None = None
        last: int | None = None
        async for batch in self._scan(participant, dataset, None, None):
            rows += batch.num_rows
            size += batch.nbytes
            times = batch.column(column).cast(pa.int64())
            span = pc.min_max(times).as_py()
            if span["min"] is not None:
                first = span["min"] * 1000 if first is None else min(first, span["min"] * 1000)
                last = span["max"] * 1000 if last is None else max(last, span["max"] * 1000)
            if rows >= _STATS_ROWS:
                return DatasetStats(dataset_id, rows, first, last, size, complete=False)
        return DatasetStats(dataset_id, rows, first, last, size, complete=True)

    async def dcat(self, participant: str, dataset_id: str | None = None) -> dict[str, Any]:
        """DCAT 3 JSON-LD: the catalogue, or one dataset with its counted extent."""
        known = {signal.id: signal for signal in await self._fuse.signals(participant)}
        wanted = (
            await self.datasets(participant) if dataset_id is None else [await self.dataset(participant, dataset_id)]
        )
        nodes = []
        for dataset in wanted:
            inside = [known[key] for key in dataset.signals if key in known]
            stats = await self.statistics(participant, dataset.id) if dataset_id is not None else None
            nodes.append(
                dataset_node(
                    dataset,
                    stats,
                    publisher=participant,
                    namespace=self.settings.namespace,
                    names=[signal.name for signal in inside],
                    units=[signal.unit for signal in inside],
                )
            )
        whole = catalog(nodes, publisher=participant, namespace=self.settings.namespace)
        return whole if dataset_id is None else {"@context": whole["@context"], **nodes[0]}

    # shells

    async def set_nameplate(self, participant: str, asset: str, facts: Mapping[str, str]) -> None:
        """State nameplate facts of a machine (its source's name) or part (``part:<id>``), by idShort of Nameplate 3.0.1.

        Raises Skippable ``describe.bad-request`` for a fact that the template does not have.
        """
        for name, value in facts.items():
            if name not in FACTS or not isinstance(value, str) or len(value) > 1000:
                raise Skippable("describe.bad-request", name=name[:60], reason="not a nameplate fact, or too long")
        key = asset if asset.startswith("part:") else f"machine:{asset}"
        async with self._records.step(participant) as step:
            step.upsert(ASSETS, asset=key, body=canonical_bytes(dict(facts)), changed_at=step.at)

    async def write_shells(self, participant: str) -> int:
        """Write shell and submodels of every machine (source) and part; returns how many documents changed.

        Every document is fully verified; unchanged ones are left alone, those of vanished assets are deleted.
        Raises ConfigProblem ``describe.constraints``.
        """
        drafts = await self._drafts(participant)
        rows = await self._records.rows(
            select(DOCUMENTS.c.id, DOCUMENTS.c.body, DOCUMENTS.c.live).where(DOCUMENTS.c.participant == participant)
        )
        known = {str(row["id"]): (bytes(row["body"]), bytes(row["live"])) for row in rows}
        gone = sorted(set(known) - {str(draft.body["id"]) for draft in drafts})
        step = self._records.step(participant)
        async with step:
            # verification is pure computing, a millisecond a document: keep it off the loop
            written = await asyncio.to_thread(write_documents, step, drafts, known)
            if gone:
                step.apply(_remove(participant, gone))
            if written or gone:
                step.record(
                    Entry(
                        SHELLS_WRITTEN,
                        {
                            "shells": sum(draft.kind == "shell" for draft in drafts),
                            "submodels": sum(draft.kind == "submodel" for draft in drafts),
                            "digest": digest([[identity, sha256(body).hex()] for identity, body in written]),
                        },
                    )
                )
        return len(written) + len(gone)

    async def _drafts(self, participant: str) -> list[Draft]:
        rows = await self._records.rows(
            select(ASSETS.c.asset, ASSETS.c.body).where(ASSETS.c.participant == participant)
        )
        stated: dict[str, dict[str, str]] = {str(row["asset"]): orjson.loads(row["body"]) for row in rows}
        names = Names(self.settings.namespace, participant, self.settings.base_url)
        drafts = machine_drafts(
            names,
            await self._fuse.signals(participant),
            stated,
            self._interfaces(participant) if self._interfaces else (),
        )
        parts = await self._fuse.parts(participant)
        if parts:
            drafts += part_drafts(names, parts, stated, by_part(await self._keep.measurements(participant)))
        return drafts

    async def shells(self, participant: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A page of shells as metamodel JSON, in the order of first writing."""
        return await self.page(participant, "shell", limit=limit, cursor=cursor)

    async def submodels(self, participant: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A page of submodels as metamodel JSON with live values."""
        return await self.page(participant, "submodel", limit=limit, cursor=cursor)

    async def page(
        self,
        participant: str,
        kind: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        id_short: str | None = None,
        semantic_id: str | None = None,
        allowed: Callable[[str], bool] | None = None,
        accepts: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> Page:
        """A page of documents. ``allowed`` hides documents by id, ``accepts`` by content; both before the page is cut.

        Raises Skippable ``describe.bad-cursor`` and ``describe.bad-request`` (a limit below 1).
        """
        wanted = self.settings.page_limit if limit is None else min(limit, self.settings.page_limit_max)
        if wanted < 1:
            raise Skippable("describe.bad-request", name="limit", reason="must be at least 1")
        last = -1 if cursor is None else read_cursor(kind, cursor)
        where = [DOCUMENTS.c.participant == participant, DOCUMENTS.c.kind == kind]
        if id_short is not None:
            where.append(DOCUMENTS.c.id_short == id_short)
        if semantic_id is not None:
            where.append(DOCUMENTS.c.semantic_id == semantic_id)
        items: list[dict[str, Any]] = []
        scanned = 0
        while True:
            rows = await self._records.rows(
                select(DOCUMENTS.c.id, DOCUMENTS.c.number, DOCUMENTS.c.body, DOCUMENTS.c.live)
                .where(and_(*where, DOCUMENTS.c.number > last))
                .order_by(DOCUMENTS.c.number)
                .limit(wanted + 1)
            )
            for row in rows:
                scanned += 1
                hidden = allowed is not None and not allowed(str(row["id"]))
                body = None if hidden else orjson.loads(row["body"])
                if body is not None and (accepts is None or accepts(body)):
                    if len(items) == wanted:
                        return Page(tuple(items), write_cursor(kind, last))
                    items.append(await self._alive(participant, body, row["live"]))
                last = int(row["number"])
            if len(rows) <= wanted:
                return Page(tuple(items), None)
            if scanned >= _SCANNED:
                return Page(tuple(items), write_cursor(kind, last))

    async def document(self, participant: str, kind: str, id: str) -> dict[str, Any]:
        """One shell or submodel as metamodel JSON with live values. Raises Skippable ``describe.unknown``."""
        row = await self._document_row(participant, kind, id)
        return await self._alive(participant, orjson.loads(row["body"]), row["live"])

    async def _document_row(self, participant: str, kind: str, id: str) -> Mapping[str, Any]:
        row = await self._records.row(
            select(DOCUMENTS.c.body, DOCUMENTS.c.live).where(
                and_(DOCUMENTS.c.participant == participant, DOCUMENTS.c.id == id, DOCUMENTS.c.kind == kind)
            )
        )
        if row is None:
            raise Skippable("describe.unknown", what=kind, id=id[:100])
        return row

    async def _alive(self, participant: str, body: dict[str, Any], live: bytes) -> dict[str, Any]:
        """The document with the newest figures of keep in their places."""
        plan = orjson.loads(live)
        if not plan["items"]:
            return body
        found = newest(await self._keep.latest(participant, plan["signals"]))
        latest = max(found.values(), key=lambda row: row["time_ns"], default=None)
        for path, signal, what in plan["items"]:
            row = latest if signal == -1 else found.get(signal)
            if row is not None:
                put(body, path, lexical(row, what))
        return body

    async def series(
        self,
        participant: str,
        submodel_id: str,
        *,
        signals: Sequence[int] | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1000,
        after: tuple[int, int, int] | None = None,
    ) -> tuple[list[dict[str, Any]], tuple[int, int, int] | None]:
        """Readings behind a TimeSeries submodel's LinkedSegment, by signal and time; and where the next page begins.

        Only signals of that machine are read. ``after``: (signal, instant, readings of that instant to pass over), as the answer before
        gave it. Raises Skippable ``describe.unknown`` and ``describe.bad-request``.
        """
        from guantong.keep.model import Filter

        row = await self._document_row(participant, "submodel", submodel_id)
        own: list[int] = orjson.loads(row["live"])["signals"]
        wanted = sorted(own if signals is None else set(signals))
        strange = sorted(set(wanted) - set(own))
        if strange or not wanted:
            raise Skippable("describe.bad-request", name="signals", reason=f"{strange[:5]} are not of this machine")
        known = {signal.id: signal for signal in await self._fuse.signals(participant)}
        found: list[dict[str, Any]] = []
        for signal in wanted:
            if after is not None and signal < after[0]:
                continue
            resumed = after is not None and signal == after[0]
            first, skip = (after[1], after[2]) if after is not None and resumed else (start, 0)
            place, same = first, 0
            # one signal at a time, so that a page reads no more than it shows
            scan = cast(
                "AsyncGenerator[pa.RecordBatch, None]",
                self._keep.scan(participant, "readings", Filter((signal,), first, end)),
            )
            async with aclosing(scan) as batches:
                async for batch in batches:
                    for one in readings(batch):
                        same = same + 1 if one["time_ns"] == place else 1
                        place = one["time_ns"]
                        if skip:
                            skip -= 1
                            continue
                        if len(found) == limit:
                            return found, (signal, place, same - 1)
                        found.append(
                            {
                                "signal": known[signal].native_id,
                                "signalId": signal,
                                "time": iso(one["time_ns"]),
                                "value": lexical(one, "value"),
                                "unit": known[signal].unit or None,
                                "status": one["status"],
                            }
                        )
        return found, None

    # lineage

    async def lineage(self, participant: str, node_id: str, direction: Direction = "back") -> list[Edge]:
        """Edges reached from a node, nearest first: what it was made from (``back``) or what was made of it (``forward``).

        Bounded by the settings ``lineage_depth`` and ``lineage_edges``; a cycle ends the walk.
        """
        edges, _ = await walk_edges(
            edges_of(self._records, participant),
            [node_id],
            direction,
            depth=self.settings.lineage_depth,
            limit=self.settings.lineage_edges,
        )
        return edges

    async def trace(self, participant: str, signal_id: int, source_time: int) -> Trace:
        """Where one reading comes from and what became of it: its batch, corrections and their rules, the signal, the datasets that
        hold it, agreements and receipts.

        source_time: nanoseconds, exactly as the source stated it. Raises Skippable ``describe.unknown`` if there is no such value.
        """
        microsecond = source_time - source_time % 1000
        table = await self._keep.range(participant, [signal_id], microsecond, microsecond + 1000, revisions=True)
        rows = sorted(
            (row for row in readings(table) if row["time_ns"] == source_time), key=lambda row: row["revision"]
        )
        signal = {one.id: one for one in await self._fuse.signals(participant)}.get(signal_id)
        if not rows or signal is None:
            raise Skippable("describe.unknown", what="value", id=f"{signal_id}@{iso(source_time)}")
        home = f"fuse:signal:{signal_id}"
        others = [
            f"describe:dataset:{one.id}"
            for one in await self.datasets(participant)
            if signal_id in one.signals and not _within(one, source_time)
        ]
        edges, starts = await self._origins(
            participant, f"fuse:value:{signal_id}@{iso(source_time)}", signal.source, home, rows
        )
        return await self._traced(participant, signal_id, source_time, rows, edges, starts, [home], frozenset(others))

    async def trace_measurement(self, participant: str, report: str, result: str, characteristic: str) -> Trace:
        """Where one measured characteristic comes from and what became of it; as :meth:`trace`. ``signal_id`` is then -1 and
        ``source_time`` the measuring time, 0 where none is stated.
        """
        table = await self._keep.measurements(participant, report=report, revisions=True)
        rows = [
            row
            for row in measured(table)
            if row["result"] == result and characteristic in (row["characteristic"], row["feature"])
        ]
        if not rows:
            raise Skippable("describe.unknown", what="value", id=f"{report}/{result}/{characteristic}"[:100])
        rows.sort(key=lambda row: row["revision"])
        first = rows[0]
        # a node's id has at most 255 characters in the records, names of reports may be longer
        value = f"fuse:measurement:{sha256(f'{report}/{result}/{characteristic}'.encode()).hex()[:32]}"
        home = f"fuse:part:{first['part']}" if first["part"] else ""
        edges, starts = await self._origins(participant, value, first["source"], home, rows)
        onward = [home] if home else []
        for one in await self.datasets(participant):
            at = first["measured_time"]
            if (
                one.kind == "measurements"
                and (not one.models or first["model"] in one.models)
                and (not one.sources or first["source"] in one.sources)
                and (at is None or _within(one, at))
            ):
                edges.append(Edge(f"{value}#{rows[-1]['revision']}", f"describe:dataset:{one.id}", "included"))
                onward.append(f"describe:dataset:{one.id}")
        return await self._traced(
            participant, -1, first["measured_time"] or 0, rows, edges, starts, onward, frozenset()
        )

    async def _origins(
        self, participant: str, value: str, source: str, home: str, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Edge], list[str]]:
        """Edges of every revision to its batch, corrections and home, and the nodes from which to go back."""
        corrections = {one.id: one for one in await self._fuse.corrections(participant)}
        edges: list[Edge] = []
        starts: list[str] = []
        for row in rows:
            revision = f"{value}#{row['revision']}"
            batch = f"keep:batch:{source}/{row['log_position']}"
            edges.append(Edge(batch, revision, "derived"))
            starts.append(batch)
            for key in (row["corrections"] or "").split():
                node = f"fuse:correction:{key}"
                edges.append(Edge(node, revision, "corrected"))
                starts.append(node)
                if key in corrections:
                    rule = corrections[key]
                    edges.append(Edge(f"fuse:rule:{rule.rule}@{rule.rule_version}", node, "decided"))
            if home:
                edges.append(Edge(revision, home, "belongs"))
        return edges, starts

    async def _traced(
        self,
        participant: str,
        signal_id: int,
        source_time: int,
        rows: Sequence[Mapping[str, Any]],
        edges: Sequence[Edge],
        starts: Sequence[str],
        homes: Sequence[str],
        avoid: frozenset[str],
    ) -> Trace:
        depth, room = self.settings.lineage_depth, self.settings.lineage_edges
        fetch = edges_of(self._records, participant)
        back, cut = await walk_edges(fetch, starts, "back", depth=depth, limit=room)
        # the home was made of many batches; of this value only its own is told
        rules, _ = await walk_edges(
            edges_of(self._records, participant, without="keep:batch:"), homes, "back", depth=1, limit=room
        )
        onward, cut_onward = await walk_edges(fetch, homes, "forward", depth=depth, limit=room, avoid=avoid)
        seen = {(edge.source, edge.target, edge.relation): edge for edge in [*back, *rules, *edges, *onward]}
        return Trace(signal_id, source_time, tuple(rows), tuple(seen.values()), cut or cut_onward)

    async def link(self, participant: str, edges: Sequence[Edge]) -> None:
        """Record edges of lineage; known ones are left alone."""
        async with self._records.step(participant) as step:
            step.link(*edges)


def _fault(dataset: Dataset, known: Mapping[int, object]) -> str:
    if not _DATASET_ID.fullmatch(dataset.id):
        return "the id needs small letters, digits, '.', '_' or '-', at most 100"
    if not dataset.title_en.strip() and not dataset.title_zh.strip():
        return "a title is missing"
    if dataset.kind not in ("readings", "measurements"):
        return f"the kind {dataset.kind!r} is not known"
    if dataset.kind == "readings":
        if not dataset.signals:
            return "no signals"
        strange = [signal for signal in dataset.signals if signal not in known]
        if strange:
            return f"unknown signals: {', '.join(map(str, strange[:5]))}"
    elif dataset.signals:
        return "measurements are chosen by model, not by signal"
    if dataset.start is not None and dataset.end is not None and dataset.start >= dataset.end:
        return "it ends before it begins"
    return ""


def _dataset_json(dataset: Dataset) -> dict[str, Any]:
    body = asdict(dataset)
    for name in ("signals", "models", "keywords", "sources"):
        body[name] = list(body[name])
    for name in ("start", "end"):
        # instants are beyond 2^53 and travel as text
        body[name] = None if body[name] is None else str(body[name])
    return body


def _dataset(body: bytes) -> Dataset:
    row = orjson.loads(body)
    for name in ("signals", "models", "keywords", "sources"):
        row[name] = tuple(row[name])
    for name in ("start", "end"):
        row[name] = None if row[name] is None else int(row[name])
    return Dataset(**row)


def _within(dataset: Dataset, at: int) -> bool:
    return (dataset.start is None or dataset.start <= at) and (dataset.end is None or at < dataset.end)


def _remove(participant: str, ids: list[str]) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        for identity in ids:
            connection.execute(
                delete(DOCUMENTS).where(and_(DOCUMENTS.c.participant == participant, DOCUMENTS.c.id == identity))
            )
            connection.execute(
                delete(ELEMENTS).where(and_(ELEMENTS.c.participant == participant, ELEMENTS.c.submodel == identity))
            )

    return run
