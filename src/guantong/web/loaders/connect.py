"""What the pages of connect and keep show."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from guantong.base.clock import iso
from guantong.web.ask import Ask, cut, found, not_found, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.connect.model import Interface, Property, Proposal, Scorecard

__all__ = ["keep", "openness", "openness_rows", "proposal", "proposal_of", "source", "sources"]

EXAMPLES = (
    ("shdr", "shdr://192.168.1.20:7878"),
    ("mtconnect", "http://192.168.1.20:5000/"),
    ("opcua", "opc.tcp://192.168.1.20:4840"),
    ("folder", "file:///data/inbox"),
    ("shdr-log", "file:///data/mill-01.log"),
    ("qif", "file:///data/inspection.qif"),
)
"""Addresses as each kind of source writes them."""


def card_of(card: Scorecard) -> dict[str, Any]:
    """A scorecard as plain JSON."""
    return {
        "name": card.source,
        "kind": card.kind,
        "address": card.base,
        "state": card.state,
        "connected": card.connected,
        "since": time_of(card.since),
        "rate_hz": round(card.rate_hz, 3),
        "lag_s": None if card.lag_s is None else round(card.lag_s, 6),
        "received": card.received,
        "batches": card.batches,
        "gaps": card.gaps,
        "gap_records": card.gap_records,
        "duplicates": card.duplicates,
        "rejected": card.rejected,
        "lines": card.lines,
        "losses": card.losses,
        "last_error": card.last_error,
        "error_facts": {name: str(value)[:300] for name, value in card.error_facts.items()},
        "last_error_at": time_of(card.last_error_at),
        "last_time": time_of(card.last_time),
        "position": card.position,
    }


def property_of(one: Property) -> dict[str, Any]:
    """A signal that a source offers."""
    return {
        "key": one.key,
        "title": one.title,
        "type": one.type,
        "unit": one.unit,
        "category": one.term("category"),
        "path": one.term("path"),
        "observable": one.observable,
    }


def _interface(one: Interface) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "title": one.title,
        "address": one.base,
        "security": list(one.security),
        "properties": [property_of(item) for item in one.properties],
        "terms": dict(one.terms),
    }


def proposal_of(one: Proposal, asked: str = "") -> dict[str, Any]:
    """What a probe found."""
    return {
        "url": asked or one.url,
        "interface": _interface(one.interface),
        "offers": [property_of(item) for item in one.offers],
        "facts": {str(name): str(value)[:300] for name, value in one.facts.items()},
    }


async def sources(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Every source with its scorecard."""
    cards = found(
        rooms.connect.scorecards(rooms.participant), ask, lambda card: f"{card.source} {card.kind} {card.base}"
    )
    return {
        "sources": [card_of(card) for card in cards],
        "examples": [{"kind": kind, "address": address} for kind, address in EXAMPLES],
    }


def openness_rows(rooms: Rooms, name: str | None = None) -> list[dict[str, Any]]:
    """The openness register, or the row of one source."""
    from guantong.connect.openness import openness_of

    cards = {card.source: card for card in rooms.connect.scorecards(rooms.participant)}
    today = iso(rooms.records.clock.now(), digits=0)[:10]
    return [
        asdict(openness_of(one, cards.get(one.name), company=rooms.name, today=today))
        for one in rooms.connect.interfaces(rooms.participant)
        if name is None or one.name == name
    ]


async def openness(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """What each interface offers, what stays closed, and how its data can be had all the same."""
    rows = found(openness_rows(rooms), ask, lambda one: f"{one['source']} {one['kind']} {one['base']}")
    return {"sources": cut(rows, ask)}


async def proposal(_: Rooms, ask: Ask) -> dict[str, Any]:
    """The form that asks for an address."""
    return {
        "url": ask.query.get("url", ""),
        "examples": [{"kind": kind, "address": address} for kind, address in EXAMPLES],
    }


async def source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One source: scorecard, description, its signals and what was found in it."""
    name = ask.path["name"]
    card = next((one for one in rooms.connect.scorecards(rooms.participant) if one.source == name), None)
    interface = next((one for one in rooms.connect.interfaces(rooms.participant) if one.name == name), None)
    signals = [one for one in await rooms.fuse.signals(rooms.participant) if one.source == name]
    counts = await rooms.fuse.counts(rooms.participant, source=name)
    if card is None and interface is None and not counts.received and not signals:
        raise not_found(f"/sources/{name}")
    findings = [one for one in await rooms.fuse.findings(rooms.participant) if one.source == name]
    gaps = [one for one in await rooms.fuse.gaps(rooms.participant) if one.source == name]
    from guantong.web.loaders.fuse import counts_of, finding_of, gap_of

    return {
        "title": name,
        "name": name,
        "card": None if card is None else card_of(card),
        "interface": None if interface is None else _interface(interface),
        "openness": next(iter(openness_rows(rooms, name)), None),
        "counts": counts_of(counts),
        "signals": cut(
            [
                {
                    "id": one.id,
                    "key": one.native_id,
                    "name": one.name,
                    "path": one.path,
                    "unit": one.unit,
                    "type": one.type,
                }
                for one in signals
            ],
            ask,
        ),
        "findings": [finding_of(one) for one in findings][:50],
        "gaps": [gap_of(one) for one in gaps][:50],
    }


async def keep(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """What is kept: log, tail and tables."""
    stats = await rooms.keep.stats(rooms.participant)
    disk, clock = await rooms.keep.forecast(), rooms.keep.clock_check()
    return {
        "lag": max(0, stats.logged - stats.stored),
        "dropped": [
            {"source": source, **asdict(one)} for source, one in (await rooms.keep.dropped(rooms.participant)).items()
        ],
        "dropped_rows": stats.dropped_rows,
        "disk": {"free": disk.free_bytes, "per_day": disk.bytes_per_day, "full_at": time_of(disk.full_at)},
        "clock": {
            "back_s": clock.back_s,
            "jumped_s": clock.jumped_s,
            "synchronised": clock.synchronised,
            "error_s": clock.error_s,
        },
        "rows": stats.rows,
        "revisions": stats.revisions,
        "measurements": stats.measurements,
        "tail_rows": stats.tail_rows,
        "bytes": stats.bytes,
        "files": stats.files,
        "log_bytes": stats.log_bytes,
        "log_entries": stats.log_entries,
        "first_time": time_of(stats.first_time),
        "last_time": time_of(stats.last_time),
        "commits": stats.commits,
        "logged": stats.logged,
        "stored": stats.stored,
        "refused": stats.refused,
        "repeated": stats.repeated,
        "tables": list(await rooms.keep.table_names(rooms.participant)),
    }
