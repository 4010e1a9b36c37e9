"""Several signals on one time axis, each in its own unit and with its gaps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.web.ask import Ask, time_of
from guantong.web.loaders.fuse import curve, instant_of, last_instant, signal_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.fuse.model import Signal

__all__ = ["compare", "tree"]

MOST = 6
"""As many curves as there are plot colours, and as a person can follow."""


def tree(signals: Iterable[Signal]) -> list[dict[str, Any]]:
    """Sources, under each the places its signals name (``path``), under each place its signals; all in order of name."""
    sources: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in signals:
        name = one.name or one.native_id
        sources.setdefault(one.source, {}).setdefault(one.path.removesuffix(name).rstrip("/"), []).append(
            {
                "id": one.id,
                "name": name,
                "unit": one.unit,
                "numeric": one.type in ("f64", "i64", "mixed"),
            }
        )
    return [
        {
            "source": source,
            "signals": sum(len(inner) for inner in places.values()),
            "places": [
                {"path": path, "signals": sorted(places[path], key=lambda one: one["name"])} for path in sorted(places)
            ],
        }
        for source, places in sorted(sources.items())
    ]


async def compare(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Curves of the chosen signals in one window; without a choice the tree to choose from."""
    me = rooms.participant
    known = {one.id: one for one in await rooms.fuse.signals(me)}
    asked = [
        int(word)
        for word in f"{ask.query.get('ids', '')},{ask.query.get('id', '')}".replace(",", " ").split()
        if word.isascii() and word.isdigit() and len(word) < 10
    ]
    chosen = [known[one] for one in dict.fromkeys(asked) if one in known]
    shown = [one for one in chosen if one.type in ("f64", "i64", "mixed", "")][:MOST]
    newest = await last_instant(rooms, [one.id for one in shown]) if shown else None
    end = instant_of(ask.query.get("to", "")) or ((newest or rooms.records.clock.now()) + NS)
    span = ask.whole("span", 3600, 1, 400 * 86_400)
    start = instant_of(ask.query.get("from", "")) or end - span * NS
    if start >= end:
        start = end - span * NS
    return {
        "ids": [one.id for one in shown],
        "curves": [{**signal_of(one), "curve": await curve(rooms, one, start, end)} for one in shown],
        "left_out": [signal_of(one) for one in chosen if one not in shown],
        "most": MOST,
        "window": {"start": time_of(start), "end": time_of(end), "span_s": (end - start) / NS},
        "tree": tree(known.values()),
    }
