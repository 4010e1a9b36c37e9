"""What a person does with signals: judge quality, state limits. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.clock import iso, parse_iso
from guantong.base.errors import Skippable
from guantong.web.ask import Ask
from guantong.web.loaders.mappings import suggestion_rows
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.fuse.quality import Limits, SignalQuality

__all__ = ["confirm_mapping", "quality", "quality_of", "reject_mapping", "state_limits", "suggest_mappings"]


def _signal(ask: Ask) -> int:
    try:
        return int(str(ask.query.get("signal", "")))
    except ValueError as error:
        raise Skippable("web.field-missing", field="signal", reason="the number of a signal is wanted") from error


def _instant(ask: Ask, name: str) -> int | None:
    given = ask.query.get(name)
    return parse_iso(str(given)) if given else None


def _document(ask: Ask) -> dict[str, Any] | None:
    given: Any = ask.query.get("limits")
    if given is None or given == "":
        return None
    try:
        found = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError as error:
        raise Skippable("web.field-missing", field="limits", reason="it is not JSON") from error
    if not isinstance(found, dict):
        raise Skippable("web.field-missing", field="limits", reason="a JSON object is wanted")
    return found


def _stated(limits: Limits) -> dict[str, Any]:
    return {one.name: value for one in fields(limits) if (value := getattr(limits, one.name)) is not None}


def quality_of(found: SignalQuality) -> dict[str, Any]:
    """A signal's quality as plain JSON: names of flags beside their counts, the check's numerator and denominator."""
    from guantong.fuse.quality import CHECKS, FLAGS

    def flags(counts: Any) -> dict[str, int]:
        return {FLAGS[flag][0]: count for flag, count in counts.items()}

    return {
        "signal": found.signal_id,
        "start": None if found.start is None else iso(found.start),
        "end": None if found.end is None else iso(found.end),
        "rows": found.rows,
        "interval_s": found.interval_s,
        "rule_version": found.rule_version,
        "flags": flags(found.flags),
        "checks": [
            {
                "check": one.check,
                "name": {"en": CHECKS[one.check][0], "zh": CHECKS[one.check][1]},
                "passed": one.passed,
                "evaluated": one.evaluated,
                "share": one.passed / one.evaluated if one.evaluated else None,
                "flags": flags(one.flags),
                "limits": dict(one.limits),
            }
            for one in found.checks
        ],
        "worst": [{**row, "time": iso(row["time"])} for row in map(dict[str, Any], found.worst)],
    }


async def quality(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every check of one signal over a window; limits given here hold for this answer alone. ``propose``: limits read off the window."""
    from guantong.fuse.quality import limits_from

    me, signal, start, end = rooms.participant, _signal(ask), _instant(ask, "from"), _instant(ask, "to")
    document = _document(ask)
    limits, version = await rooms.fuse.limits(me, signal)
    if document is not None:
        limits = limits_from({**asdict(limits), **document})
    found = quality_of(await rooms.fuse.quality(me, signal, start, end, limits=limits))
    found["limits"] = {"version": version, "stated": _stated(limits)}
    if ask.query.get("propose"):
        found["proposed"] = _stated(await rooms.fuse.proposed_limits(me, signal, start, end))
    return found


async def state_limits(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """State the limits of a signal; they replace the ones before."""
    document = _document(ask)
    if document is None:
        raise Skippable("web.field-missing", field="limits", reason="it is empty")
    signal = _signal(ask)
    version = await rooms.fuse.set_limits(rooms.participant, signal, document)
    return {"signal": signal, "version": version, "next": f"/signals/{signal}"}


async def suggest_mappings(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Open suggestions with their reasons."""
    return {"suggestions": await suggestion_rows(rooms)}


async def confirm_mapping(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Take a suggestion over as a mapping."""
    found = await rooms.fuse.decide(rooms.participant, str(ask.query.get("id", "")), confirm=True)
    return {"confirmed": found.id, "signal": found.signal, "target": found.target, "next": "/mappings"}


async def reject_mapping(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Put a suggestion aside for good."""
    found = await rooms.fuse.decide(rooms.participant, str(ask.query.get("id", "")), confirm=False)
    return {"rejected": found.id, "signal": found.signal, "target": found.target, "next": "/mappings"}
