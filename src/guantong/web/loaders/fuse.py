"""What the pages of fuse show: the account, signals with their curves, parts with both companies' measurements."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS, iso
from guantong.connect.rules import out_of_tolerance
from guantong.web.ask import Ask, cut, found, not_found, time_of
from guantong.web.fuse_actions import quality_of as quality_checks
from guantong.web.loaders.labels import labels
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.base.finding import Finding
    from guantong.fuse.model import Counts, Gap, Part, Signal

__all__ = [
    *("account", "counts_of", "curve", "finding_of", "gap_of", "instant_of", "last_instant"),
    *("part", "parts", "signal", "signal_of", "signals"),
]

JUDGED = 200_000
"""Readings of a window whose quality a page judges row by row."""

BUCKETS = 600
"""Points of a curve at most: about one a pixel of a wide sheet."""


def counts_of(counts: Counts) -> dict[str, int]:
    """The account of arrivals."""
    return {
        "received": counts.received,
        "kept": counts.kept,
        "duplicates": counts.duplicates,
        "quarantined": counts.quarantined,
        "gaps": counts.gaps,
        "corrected": counts.corrected,
    }


def plain(value: Any) -> Any:
    """Facts of a finding or correction as JSON; floats keep six significant digits."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value][:50]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value)


def finding_of(one: Finding) -> dict[str, Any]:
    """A finding as plain JSON."""
    return {
        "id": one.id,
        "kind": one.kind,
        "source": one.source,
        "signal": one.signal,
        "start": time_of(one.start),
        "end": time_of(one.end),
        "seconds": (one.end - one.start) / NS if one.start and one.end else None,
        "facts": plain(one.facts),
    }


def gap_of(one: Gap) -> dict[str, Any]:
    """Data known to be missing."""
    return {
        "source": one.source,
        "signal": one.signal,
        "start": time_of(one.start),
        "end": time_of(one.end),
        "count": one.count,
        "unit": one.unit,
        "reason": one.reason,
    }


def signal_of(one: Signal) -> dict[str, Any]:
    """A row of the catalogue."""
    return {
        "id": one.id,
        "source": one.source,
        "native_id": one.native_id,
        "path": one.path,
        "name": one.name,
        "unit": one.unit,
        "declared_unit": one.declared_unit,
        "type": one.type,
        "category": one.category,
        "version": one.version,
    }


async def account(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """What arrived and what became of it; corrections, findings, gaps."""
    me = rooms.participant
    corrections = await rooms.fuse.corrections(me)
    return {
        "counts": counts_of(await rooms.fuse.counts(me)),
        "by_kind": [
            {"kind": kind, **counts_of(await rooms.fuse.counts(me, kind=kind))}
            for kind in ("readings", "measurements", "table")
        ],
        "corrections": cut(
            [
                {
                    "id": one.id,
                    "kind": one.kind,
                    "source": one.source,
                    "signal": one.signal,
                    "start": time_of(one.start),
                    "end": time_of(one.end),
                    "value": plain(one.value),
                    "rule": f"{one.rule} v{one.rule_version}",
                }
                for one in corrections
            ],
            ask,
        ),
        "findings": [finding_of(one) for one in await rooms.fuse.findings(me)][:100],
        "gaps": [gap_of(one) for one in await rooms.fuse.gaps(me)][:100],
        "signals": len(await rooms.fuse.signals(me)),
    }


async def signals(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """The catalogue with the last value of each signal."""
    known = found(
        await rooms.fuse.signals(rooms.participant),
        ask,
        lambda one: f"{one.source} {one.native_id} {one.name} {one.path} {one.unit} {one.category} {one.type}",
    )
    listed = cut(known, ask)
    last = {row["signal_id"]: row for row in await _latest(rooms, [one.id for one in listed["items"]])}
    listed["items"] = [{**signal_of(one), "last": last.get(one.id)} for one in listed["items"]]
    return {"signals": listed, "q": ask.query.get("q", "")}


async def _latest(rooms: Rooms, ids: list[int]) -> list[dict[str, Any]]:
    if not ids:
        return []
    table = await rooms.keep.latest(rooms.participant, ids)
    return [reading_of(row) for row in _rows(table)]


def _rows(table: pa.Table) -> Iterable[dict[str, Any]]:
    """Rows with times as ns ints: pyarrow's Python datetimes can't be trusted with a database's zone on every system."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            unit = {"s": NS, "ms": 1_000_000, "us": 1_000, "ns": 1}[column.type.unit]
            columns[name] = [None if value is None else value * unit for value in column.cast(pa.int64()).to_pylist()]
        elif pa.types.is_date(column.type):
            continue
        else:
            columns[name] = column.to_pylist()
    names = list(columns)
    return (dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True))


def value_of(row: Mapping[str, Any]) -> Any:
    """The one value that is set; int64 beyond what JSON can hold goes as text."""
    for name in ("value_f64", "value_i64", "value_text", "value_bool"):
        value = row.get(name)
        if value is not None:
            return plain_value(value)
    return None


def plain_value(value: Any) -> Any:
    """A value for JSON without losing a digit."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    return value if math.isfinite(value) else None


def quality_of(status: int) -> str:
    """OPC UA Part 4, 7.39: the two top bits say good, uncertain or bad."""
    return ("good", "uncertain", "bad", "bad")[(status >> 30) & 3]


def reading_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A clean reading as plain JSON."""
    return {
        "signal_id": row["signal_id"],
        "source_time": iso(row["source_time"] + (row.get("source_ns") or 0)),
        "aligned_time": time_of(row.get("aligned_time")),
        "receive_time": time_of(row.get("receive_time")),
        "value": value_of(row),
        "status": f"0x{row['status']:08X}",
        "quality": quality_of(row["status"]),
        "sequence": row.get("sequence"),
        "revision": row.get("revision"),
        "reason": row.get("reason"),
        "corrections": row.get("corrections"),
        "log_position": row.get("log_position"),
    }


async def curve(rooms: Rooms, signal: Signal, start: int, end: int) -> dict[str, Any]:
    """A signal between two instants in at most BUCKETS buckets, with its gaps, bad stretches and findings.

    ``points``: [seconds since the epoch, mean, least, most, count]; a bucket without readings is null, so that a gap stays a gap.
    """
    step = max((end - start) / NS / BUCKETS, 0.001)
    table = await rooms.keep.downsample(rooms.participant, [signal.id], start, end, step)
    points: list[list[Any]] = []
    last: float | None = None
    for row in _rows(table):
        at = row["time"] / NS
        if last is not None and at - last > step * 1.5:
            typical = _typical(points)
            if at - last > max(step * 1.5, typical * 5):
                points.append([round(last + step, 6), None, None, None, 0])
        points.append(
            [round(at, 6), _digits(row.get("mean")), _digits(row.get("min")), _digits(row.get("max")), row.get("count")]
        )
        last = at
    gaps = [
        {"start": one.start / NS, "end": one.end / NS, "count": one.count, "reason": one.reason}
        for one in await rooms.fuse.gaps(rooms.participant)
        if one.source == signal.source
        and one.signal in ("", signal.native_id)
        and one.end >= start
        and one.start <= end
    ]
    return {
        "start": time_of(start),
        "end": time_of(end),
        "every_s": step,
        "points": points,
        "gaps": gaps[:100],
    }


def _typical(points: list[list[Any]]) -> float:
    recent = [one[0] for one in points[-12:] if one[1] is not None]
    steps = sorted(later - earlier for earlier, later in pairwise(recent))
    return float(steps[len(steps) // 2]) if steps else 0.0


def _digits(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


async def last_instant(rooms: Rooms, ids: list[int]) -> int | None:
    """The newest source time among the signals, nanoseconds."""
    found = [instant_of(row["source_time"]) for row in await _latest(rooms, ids)]
    return max((one for one in found if one is not None), default=None)


def instant_of(text: str) -> int | None:
    """An instant as people give it: RFC 3339, or seconds since the epoch; None if it is neither."""
    from guantong.base.clock import parse_iso
    from guantong.base.errors import Skippable

    try:
        return int(float(text) * NS) if text.replace(".", "", 1).isdigit() else parse_iso(text)
    except (Skippable, ValueError, OverflowError):
        return None


async def signal(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One signal: curve, the readings behind it, corrections, findings."""
    me = rooms.participant
    known = {one.id: one for one in await rooms.fuse.signals(me)}
    one = known.get(int(ask.path["id"]))
    if one is None:
        raise not_found(f"/signals/{ask.path['id']}")
    newest = await last_instant(rooms, [one.id])
    end = instant_of(ask.query.get("to", "")) or ((newest or rooms.records.clock.now()) + NS)
    span = ask.whole("span", 3600, 1, 400 * 86_400)
    start = instant_of(ask.query.get("from", "")) or end - span * NS
    if start >= end:
        start = end - span * NS
    numeric = one.type in ("f64", "i64", "mixed", "")
    table = await rooms.keep.range(me, [one.id], start, end, revisions=True, limit=5_000)
    rows = [reading_of(row) for row in _rows(table)]
    rows.reverse()
    findings = [
        finding_of(item)
        for item in await rooms.fuse.findings(me)
        if item.source == one.source and item.signal in ("", one.native_id)
    ]
    corrections = [
        {
            "id": item.id,
            "kind": item.kind,
            "start": time_of(item.start),
            "end": time_of(item.end),
            "value": plain(item.value),
            "rule": f"{item.rule} v{item.rule_version}",
        }
        for item in await rooms.fuse.corrections(me)
        if item.source == one.source and item.signal in ("", one.native_id)
    ]
    grades = await rooms.govern.grades(me, ids=[f"signal:{one.id}"])
    # the curve has counted the readings: what can't be judged while a page is waited for is not begun
    drawn = await curve(rooms, one, start, end) if numeric else None
    judged = None
    if drawn and 0 < sum(point[4] for point in drawn["points"]) <= JUDGED:
        judged = quality_checks(await rooms.fuse.quality(me, one.id, start, end))
    return {
        "judged": judged,
        "judged_at_most": JUDGED,
        "title": one.name or one.native_id,
        "signal": signal_of(one),
        "curve": drawn,
        "window": {"start": time_of(start), "end": time_of(end), "span_s": (end - start) / NS},
        "readings": cut(rows, ask, 100),
        "limited": len(rows) == 5_000,
        "bad": sum(row["quality"] == "bad" for row in rows),
        "revised": sum(bool(row["revision"]) for row in rows),
        "findings": findings[:50],
        "corrections": corrections[:50],
        "grade": grades[0].level if grades else None,
    }


def part_of(one: Part) -> dict[str, Any]:
    """A part and its names."""
    return {
        "id": one.id,
        "design": one.design,
        "serial": one.serial,
        "names": [{"where": where, "name": name} for where, name in one.names],
        "rules": list(one.rules),
        "confidence": one.confidence,
    }


async def parts(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every part that is known, once, with the names that each company has for it."""
    from guantong.fuse.parts import joined

    known = found(
        joined(await rooms.fuse.parts(rooms.participant)),
        ask,
        lambda one: f"{one.design} {one.serial} {' '.join(name for _, name in one.names)}",
    )
    return {"parts": cut([part_of(one) for one in known], ask), "q": ask.query.get("q", "")}


async def part(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One part: who measured what, side by side, and its thread."""
    from guantong.fuse.parts import joined

    me = rooms.participant
    every_part = await rooms.fuse.parts(me)
    one = next((item for item in every_part if item.id == ask.path["id"]), None)
    if one is None:
        raise not_found(f"/parts/{ask.path['id']}")
    every = list(_rows(await rooms.keep.measurements(me)))
    sides: dict[str, list[dict[str, Any]]] = {}
    for row in every:
        if row.get("part") == one.id:
            sides.setdefault(row["source"], []).append(row)
    if len(sides) == 1:
        # the partner's design has another name, so its part has another id here: the rules say which results are of this one
        (source,) = sides
        partners = await _partners_rows(rooms, sides[source], source, {row["source"] for row in every} - {source})
        for other, results in partners.items():
            sides[other] = [
                row for row in every if row["source"] == other and f"{row['report']}#{row['result']}" in results
            ]
    # where a report does not say when it was measured, the partner's parts were measured before they arrived here
    timed = all(_first_time(side) for side in sides.values())
    order = sorted(sides, key=lambda name: (_first_time(sides[name]) if timed else 0, "/" not in name, name))
    compared, matched = await _compared(rooms, sides, order)
    edges = await rooms.describe.lineage(me, f"fuse:part:{one.id}", "back")
    forward = await rooms.describe.lineage(me, f"fuse:part:{one.id}", "forward")
    shown = [*edges, *forward]
    shared = await _shared(rooms, {source for side in sides.values() for source in [side[0]["source"]]})
    models = {row["model"] for rows in sides.values() for row in rows}
    findings = [
        finding_of(item)
        for item in await rooms.fuse.findings(me)
        if item.kind in ("serial", "tolerance", "zone")
        and item.facts.get("model") in (None, *models)
        and (item.facts.get("part") in (None, one.id) or one.id in str(item.facts))
    ]
    whole = next(item for item in joined(every_part) if item.serial == one.serial and set(one.names) <= set(item.names))
    return {
        "title": {
            "en": f"{whole.design.replace('_', ' ')} No. {whole.serial}" if whole.serial else whole.design,
            "zh": f"{whole.design.replace('_', ' ')} {whole.serial} 号" if whole.serial else whole.design,
        },
        "part": part_of(whole),
        "sides": [
            {
                "source": name,
                "partner": "/" in name,
                "characteristics": len(sides[name]),
                "measured_time": time_of(_first_time(sides[name]) or None),
                "report": sides[name][0]["report"],
                "out": sum(out_of_tolerance(row) is True for row in sides[name]),
            }
            for name in order
        ],
        "rows": compared,
        "matched": matched,
        "findings": findings[:20],
        "shared": shared,
        "labels": await labels(rooms, {end for edge in shown for end in (edge.source, edge.target)}),
        "thread": [{"from": edge.source, "to": edge.target, "relation": edge.relation} for edge in shown][:60],
    }


async def _shared(rooms: Rooms, sources: set[str]) -> list[dict[str, Any]]:
    """Agreements under which inspection data went to a partner or came from one, each with its receipts."""
    me = rooms.participant
    datasets = {one.id for one in await rooms.describe.datasets(me) if one.kind == "measurements"}
    found = []
    for deal in await rooms.exchange.agreements(me):
        ours = deal.role == "provider" and deal.dataset_id in datasets
        theirs = deal.role == "consumer" and any(one.endswith("/" + deal.dataset_id) for one in sources)
        if not (ours or theirs):
            continue
        receipts = await rooms.exchange.receipts(me, deal.id)
        both = [one for one in receipts if one.state == "acknowledged"]
        found.append(
            {
                "agreement": deal.id,
                "dataset": deal.dataset_id,
                "partner": deal.partner,
                "ours": ours,
                "agreed_at": time_of(deal.agreed_at),
                "receipts": len(receipts),
                "sealed": len(both),
                "sealed_at": time_of(max(one.recorded_at for one in both)) if both else None,
            }
        )
    return found[:5]


def _first_time(rows: list[dict[str, Any]]) -> int:
    return min((row["measured_time"] for row in rows if row.get("measured_time")), default=0)


def _measured(row: Mapping[str, Any], *, report: bool = False) -> dict[str, Any]:
    value = row.get("value_f64")
    return {
        "name": row["name"],
        "kind": row["kind"],
        "value": row.get("value_text") if value is None else value,
        "unit": row.get("unit"),
        "nominal": row.get("nominal"),
        "lower": row.get("lower"),
        "upper": row.get("upper"),
        "out": out_of_tolerance(row),
        "characteristic": row["characteristic"],
        "feature": row.get("feature"),
        "report": row["report"].removesuffix(".qif") if report else None,
    }


async def _compared(
    rooms: Rooms, sides: Mapping[str, list[dict[str, Any]]], order: list[str]
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the table: a characteristic of the first source beside the one of the second that measures the same feature."""
    if not order:
        return [], 0
    left = order[0]
    if len(order) == 1:
        several = len({row["report"] for row in sides[left]}) > 1
        return [
            {
                "left": _measured(row, report=several),
                "right": None,
                "rule": None,
                "confidence": None,
                "difference": None,
            }
            for row in sides[left]
        ], 0
    right = order[1]
    pairs = await _pairs(rooms, {name: {row["model"] for row in sides[name]} for name in (left, right)})
    by_key = {_key(row): row for row in sides[right]}
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    for row in sides[left]:
        match = pairs.get(_key(row))
        other = None if match is None else by_key.get(match[0])
        if match is not None and other is not None:
            used.add(match[0])
        both = other is not None and row.get("value_f64") is not None and other.get("value_f64") is not None
        rows.append(
            {
                "left": _measured(row),
                "right": None if other is None else _measured(other),
                "rule": match[1] if match and other is not None else None,
                "confidence": match[2] if match and other is not None else None,
                "difference": round(other["value_f64"] - row["value_f64"], 9) if both and other is not None else None,
            }
        )
    rows.sort(key=lambda item: item["right"] is None)
    rows += [
        {"left": None, "right": _measured(row), "rule": None, "confidence": None, "difference": None}
        for row in sides[right]
        if _key(row) not in used
    ]
    return rows, len(used)


def _key(row: Mapping[str, Any]) -> str:
    return f"{row.get('feature') or ''}#{row['characteristic']}"


async def _pairs(rooms: Rooms, models: Mapping[str, set[str]]) -> dict[str, tuple[str, str, float]]:
    """Which characteristic of one source is which of the other, by fuse's rules over every part of the design.

    ``models``: of each of the two sources, what it calls the part's design. Ids of characteristics repeat from design to design.
    """
    from guantong.fuse.rules import match_characteristics, match_parts

    mine, theirs = [
        [row for row in await _rows_of(rooms, source) if row["model"] in names] for source, names in models.items()
    ]

    def decide() -> dict[str, tuple[str, str, float]]:
        found = match_characteristics(mine, theirs, match_parts(mine, theirs))
        return {match.left.id: (match.right.id, match.rule, match.confidence) for match in found}

    return await asyncio.get_running_loop().run_in_executor(None, decide)


async def _rows_of(rooms: Rooms, source: str) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    table = await rooms.keep.measurements(rooms.participant)
    return list(table.filter(pc.equal(table.column("source"), source)).to_pylist())


async def _partners_rows(
    rooms: Rooms, mine: list[dict[str, Any]], source: str, others: set[str]
) -> dict[str, set[str]]:
    """The results (``report#result``) of other sources that are of the same physical part, by fuse's rules."""
    from guantong.fuse.rules import match_parts

    left = await _rows_of(rooms, source)
    wanted = {f"{row['report']}#{row['result']}" for row in mine}
    found: dict[str, set[str]] = {}
    for other in sorted(others):
        right = await _rows_of(rooms, other)
        matches = await asyncio.get_running_loop().run_in_executor(None, match_parts, left, right)
        results = {match.right for match in matches.matches if match.left in wanted}
        if results:
            found[other] = results
    return found
