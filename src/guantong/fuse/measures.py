"""Measurements: which rows came before, which part they are of, and names of one part that disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import Skippable
from guantong.fuse.findings import Book
from guantong.fuse.model import PARTS_MATCHED, Counts, Part
from guantong.fuse.parts import Reading, join, part_from_json, part_to_json, read_name
from guantong.fuse.tables import PARTS
from guantong.records import Edge, Records, Step

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.keep.model import Logged
    from guantong.keep.service import Keep

__all__ = ["Measures"]

_IDENTITY = ("report", "result", "characteristic", "feature")
_VALUE = ("value_f64", "value_text", "unit", "nominal", "lower", "upper", "declared_status", "serial", "source_uri")


_REPORTS = 64
"""Reports held in memory; older ones are read from the tables when they come again."""


class Measures:
    """Reports of one participant. What is known of a report is read from the tables once it comes again."""

    def __init__(self, participant: str) -> None:
        self.participant = participant
        self.parts: dict[str, Part] = {}
        self._known: dict[tuple[str, str], dict[tuple[Any, ...], list[tuple[Any, ...]]]] = {}
        self._changed: dict[str, str] = {}

    async def load(self, records: Records) -> None:
        """Parts from the records."""
        import orjson

        for row in await records.rows(select(PARTS).where(PARTS.c.participant == self.participant)):
            part = part_from_json(orjson.loads(row["document"]))
            self.parts[part.id] = part

    async def recall(self, keep: Keep, batches: Sequence[Logged], position: int) -> None:
        """Read what the tables hold of the reports in these batches, if it isn't in memory. Rows from above ``position`` are left out:
        they are these batches' own, from before a crash.
        """
        for one in batches:
            if one.batch.kind != "measurements":
                continue
            for report in one.batch.rows["report"].unique().to_pylist():
                if (one.batch.source, report) in self._known:
                    continue
                self._known[one.batch.source, report] = {}
                rows = await keep.measurements(self.participant, report=report, revisions=True)
                for row in rows.to_pylist():
                    if row["source"] == one.batch.source and row["log_position"] <= position:
                        self._remember(row["source"], row)

    def _remember(self, source: str, row: dict[str, Any]) -> tuple[bool, int]:
        """(seen before, revision) of a row, and remember it."""
        report = self._known.setdefault((source, row["report"]), {})
        values = report.setdefault(tuple(row[name] for name in _IDENTITY), [])
        value = tuple(row[name] for name in _VALUE)
        if value in values:
            return True, values.index(value)
        values.append(value)
        return False, len(values) - 1

    def clean(
        self, batches: Sequence[Logged], tallies: dict[tuple[str, str], Counts], book: Book, edges: dict[Edge, None]
    ) -> pa.Table | None:
        """Clean rows of the chunk's measurements; None where it has none."""
        import pyarrow as pa

        from guantong.keep.model import clean_measurement_schema

        schema = clean_measurement_schema()
        pieces: list[pa.Table] = []
        sources: set[str] = set()
        for one in batches:
            batch = one.batch
            if batch.kind != "measurements" or not batch.rows.num_rows:
                continue
            rows = _plain_rows(batch.rows)
            kept: list[int] = []
            revisions: list[int] = []
            for number, row in enumerate(rows):
                seen, revision = self._remember(batch.source, row)
                if not seen:
                    kept.append(number)
                    revisions.append(revision)
            tallies[batch.source, "measurements"] += Counts(kept=len(kept), duplicates=len(rows) - len(kept))
            parts = self._parts(batch.source, rows, one.position, edges)
            sources.add(batch.source)
            table = pa.Table.from_batches([batch.rows]).take(pa.array(kept, pa.int64()))
            columns = [
                _micro(table[field.name], field.type) if field.name in table.schema.names else None for field in schema
            ]
            extra = {
                "source": pa.array([batch.source] * len(kept), pa.string()),
                "part": pa.array([parts[rows[number]["result"]] for number in kept], pa.string()),
                "revision": pa.array(revisions, pa.int32()),
                "corrections": pa.nulls(len(kept), pa.string()),
                "log_position": pa.array([one.position] * len(kept), pa.int64()),
            }
            pieces.append(
                pa.table(
                    [
                        extra[field.name] if column is None else column
                        for field, column in zip(schema, columns, strict=True)
                    ],
                    schema=schema,
                )
            )
            self._misdeclare(batch.source, rows, _span(one), book)
        for source in sources:
            self._serials(source, batches, book)
        return pa.concat_tables(pieces) if pieces else None

    def write(self, step: Step) -> None:
        """Put parts that changed into the step."""
        by_report: dict[str, list[str]] = defaultdict(list)
        for id, report in self._changed.items():
            part = self.parts[id]
            step.upsert(
                PARTS, id=id, design=part.design[:255], serial=part.serial, document=canonical_bytes(part_to_json(part))
            )
            by_report[report].append(id)
        for report, ids in by_report.items():
            body = {
                "report": report[:500],
                "parts": len(ids),
                "digest": digest([part_to_json(self.parts[id]) for id in sorted(ids)]),
            }
            step.record(Entry(PARTS_MATCHED, body))

    def written(self) -> None:
        """The step is durable."""
        self._changed.clear()
        while len(self._known) > _REPORTS:
            del self._known[next(iter(self._known))]

    def _parts(
        self, source: str, rows: list[dict[str, Any]], position: int, edges: dict[Edge, None]
    ) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for row in rows:
            if row["result"] in found:
                continue
            reading = read_name(row["serial"], row["source_uri"])
            if reading is None:
                found[row["result"]] = None
                continue
            design = row["model"] or ""
            new = join(design, reading.number, [(source, reading.written)], [reading.rule])
            old = self.parts.get(new.id)
            if old is not None:
                new = join(old.design, old.serial, [*old.names, *new.names], [*old.rules, *new.rules])
            found[row["result"]] = new.id
            if new != old:
                self.parts[new.id] = new
                self._changed[new.id] = row["report"]
            edges[Edge(f"keep:batch:{source}/{position}", f"fuse:part:{new.id}", "derived")] = None
        return found

    def _serials(self, source: str, batches: Sequence[Logged], book: Book) -> None:
        """Parts whose serial the source writes in two ways, while it writes others in one."""
        forms: dict[str, list[tuple[Part, list[Reading]]]] = defaultdict(list)
        for part in self.parts.values():
            readings = [
                reading
                for origin, name in part.names
                if origin == source and (reading := read_name(name) or read_name(None, name)) is not None
            ]
            if readings:
                forms[part.design].append((part, readings))
        spans = [_span(one) for one in batches if one.batch.source == source and one.batch.kind == "measurements"]
        for list_ in forms.values():
            two_ways = [(part, readings) for part, readings in list_ if len({one.written for one in readings}) > 1]
            if not two_ways or len(two_ways) > len(list_) // 2:
                continue  # a source that writes every serial in two ways has two habits, and no mistake
            usual = max(
                ("serial.plain", "serial.inside", "serial.of-lot", "serial.from-source"),
                key=lambda rule: sum(1 for _, readings in list_ for one in readings if one.rule == rule),
            )
            for part, readings in two_ways:
                shown = next((one.written for one in readings if one.rule == usual), readings[0].written)
                book.find(
                    "serial",
                    source,
                    shown,
                    min(start for start, _ in spans),
                    max(end for _, end in spans),
                    part=part.id,
                    written=sorted({one.written for one in readings}),
                    rule=" ".join(part.rules),
                )

    def _misdeclare(self, source: str, rows: list[dict[str, Any]], span: tuple[int, int], book: Book) -> None:
        from guantong.fuse.rules import find_misdeclared, find_negative_zones

        for one in find_misdeclared(rows):
            book.find("tolerance", source, one.name, *span, **one.facts())
        for zone in find_negative_zones(rows):
            book.find("zone", source, zone.name, *span, **zone.facts())


def _span(logged: Logged) -> tuple[int, int]:
    """From when the report was made, as far as it says, until it came in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = logged.batch.rows
    end = int(pc.max(rows["receive_time"].cast(pa.int64())).as_py() or 0)
    measured = pc.min(rows["measured_time"].cast(pa.int64())).as_py()
    start = end if measured is None else min(int(measured), end)
    report = logged.batch.note.get("report")
    for name in ("prepared", "created"):
        text = report.get(name) if isinstance(report, dict) else None
        if isinstance(text, str):
            try:
                start = min(start, parse_iso(text))
            except Skippable:
                continue
    return start, end


def _micro(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    return column.cast(kind, safe=False) if pa.types.is_timestamp(kind) else column.cast(kind)


def _plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dicts. Times are cut to microseconds: Python's ``datetime`` can't hold the nanoseconds of an arrival."""
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    columns = [
        column.cast(time, safe=False) if pa.types.is_timestamp(column.type) else column for column in batch.columns
    ]
    return list(pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist())
