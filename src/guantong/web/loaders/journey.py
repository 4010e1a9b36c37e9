"""What the Journey page shows: ten stations with a figure each, what needs a person, what went wrong and what was done."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from guantong.base.clock import NS
from guantong.base.errors import GuantongError
from guantong.journey import JOURNEY
from guantong.web.ask import Ask
from guantong.web.loaders.exchange import turn_of
from guantong.web.loaders.fuse import curve, finding_of, part
from guantong.web.loaders.watch import warning_of
from guantong.web.rooms import Rooms

__all__ = ["journey", "station_states"]

_LOG = logging.getLogger("guantong.web")


def _stop(state: str, figure: str, detail: str, **facts: Any) -> dict[str, Any]:
    """``figure`` and ``detail`` name texts ``station.<name>``; ``facts`` fill both."""
    return {"state": state, "figure": figure, "detail": detail, "facts": facts}


async def _connect(rooms: Rooms) -> dict[str, Any]:
    cards = rooms.connect.scorecards(rooms.participant)
    if not cards:
        received = (await rooms.fuse.counts(rooms.participant)).received
        if received:
            return _stop("ok", "received-once", "from-files", received=received)
        return _stop("idle", "sources", "none-yet", n=0)
    down = sum(card.state == "lost" for card in cards)
    rate = sum(card.rate_hz for card in cards)
    if down:
        return _stop("warn", "sources", "down", n=len(cards), down=down)
    if rate:
        return _stop("ok", "sources", "rate", n=len(cards), rate=rate)
    # scorecards begin anew with the node; fuse's account doesn't
    received = max(sum(card.received for card in cards), (await rooms.fuse.counts(rooms.participant)).received)
    return _stop("ok", "sources", "received", n=len(cards), received=received)


async def _keep(rooms: Rooms) -> dict[str, Any]:
    stats = await rooms.keep.stats(rooms.participant)
    rows = stats.rows + stats.measurements + stats.tail_rows
    if stats.refused:
        return _stop("warn", "rows", "refused", rows=rows, refused=stats.refused)
    if stats.measurements and not stats.rows:
        return _stop("ok", "measurements", "measurements-kept", n=stats.measurements, bytes=stats.bytes)
    return _stop(
        "ok" if stats.logged else "idle",
        "rows",
        "waiting" if stats.tail_rows else "committed",
        rows=rows,
        waiting=stats.tail_rows,
        bytes=stats.bytes,
    )


async def _fuse(rooms: Rooms) -> dict[str, Any]:
    counts = await rooms.fuse.counts(rooms.participant)
    corrections = await rooms.fuse.corrections(rooms.participant)
    clocks = [one for one in corrections if one.kind == "clock"]
    if clocks:
        offsets = [float(str(one.value.get("offset_s", 0))) for one in clocks]
        return _stop("ok", "offset", "clock-found", seconds=max(offsets, key=abs))
    signals = len(await rooms.fuse.signals(rooms.participant))
    if not signals:
        from guantong.fuse.parts import joined

        known = joined(await rooms.fuse.parts(rooms.participant))
        if known:
            return _stop("ok", "parts", "parts-of", n=len(known), measured=counts.kept)
    return _stop("ok" if counts.received else "idle", "signals", "duplicates", n=signals, duplicates=counts.duplicates)


async def _describe(rooms: Rooms) -> dict[str, Any]:
    datasets = len(await rooms.describe.datasets(rooms.participant))
    page = await rooms.describe.shells(rooms.participant, limit=1000)
    shells = len(page.items)
    return _stop("ok" if shells or datasets else "idle", "shells", "datasets", n=shells, datasets=datasets)


async def _govern(rooms: Rooms) -> dict[str, Any]:
    grades = await rooms.govern.grades(rooms.participant)
    if not grades:
        return _stop("idle", "graded", "none-yet", n=0)
    suspected = sum(one.status == "suspected" and not one.reviewed_by for one in grades)
    if suspected:
        return _stop("warn", "to-confirm", "graded-of", n=suspected, graded=len(grades))
    return _stop("ok", "graded", "by-rules", n=len(grades), rules=len(rooms.govern.rules))


async def _exchange(rooms: Rooms) -> dict[str, Any]:
    agreements = await rooms.exchange.agreements(rooms.participant)
    talks = await rooms.exchange.negotiations(rooms.participant)
    ours = sum(turn_of(one) == "us" for one in talks)
    times = sorted((one.changed_at - one.created_at) / NS for one in talks if one.state == "FINALIZED")
    live = sum(one.state == "final" for one in agreements)
    if ours:
        return _stop("warn", "agreements", "our-turn", n=live, ours=ours)
    if times:
        return _stop("ok", "agreements", "median", n=live, seconds=times[len(times) // 2])
    return _stop("ok" if live else "idle", "agreements", "none-yet", n=live)


async def _prove(rooms: Rooms) -> dict[str, Any]:
    view = await rooms.prove.view(rooms.participant)
    failure = rooms.prove.failure(rooms.participant)
    if failure:
        return _stop("bad", "leaves", "damaged", n=view.size, code=failure)
    witnessed = max((one.size for one in view.witnesses), default=0)
    if view.witnesses:
        behind = view.size - witnessed
        return _stop("ok", "leaves", "witnessed" if behind <= 0 else "witnessed-to", n=view.size, witnessed=witnessed)
    return _stop("ok" if view.size else "idle", "leaves", "no-witness", n=view.size)


async def _settle(rooms: Rooms) -> dict[str, Any]:
    invoices = [one for one in await rooms.settle.invoices(rooms.participant) if one.state != "replaced"]
    if not invoices:
        return _stop("idle", "invoices", "none-yet", n=0)
    newest = invoices[0]
    disputed = sum(one.state == "disputed" for one in invoices)
    if disputed:
        return _stop("warn", "invoices", "disputed", n=len(invoices), disputed=disputed)
    agreed = all(one.state == "agreed" for one in invoices)
    return _stop(
        "ok", "amount", "both-agree" if agreed else "awaits-partner", currency=newest.currency, total=newest.total
    )


async def _value(rooms: Rooms) -> dict[str, Any]:
    appraisals = await rooms.value.appraisals(rooms.participant)
    if appraisals:
        one = appraisals[0]
        return _stop(
            "ok",
            "worth",
            "worth-range",
            currency=one.currency,
            likely=str(one.value.likely),
            low=str(one.value.low),
            high=str(one.value.high),
        )
    sheet = await rooms.value.costs(rooms.participant)
    if sheet.entries:
        return _stop("ok", "cost-lines", "not-appraised", n=len(sheet.entries))
    return _stop("idle", "cost-lines", "none-yet", n=0)


async def _watch(rooms: Rooms) -> dict[str, Any]:
    warnings = await rooms.watch.warnings(rooms.participant)
    if warnings:
        return _stop("warn", "warnings", "look", n=len(warnings))
    machines = await rooms.watch.availability(rooms.participant)
    known = [one.availability.value for one in machines if one.availability.value is not None]
    if known:
        return _stop("ok", "availability", "machines", share=sum(known) / len(known), n=len(machines))
    return _stop("idle", "warnings", "none-yet", n=0)


_STATIONS: dict[str, Callable[[Rooms], Awaitable[dict[str, Any]]]] = {
    "connect": _connect,
    "keep": _keep,
    "fuse": _fuse,
    "describe": _describe,
    "govern": _govern,
    "exchange": _exchange,
    "prove": _prove,
    "settle": _settle,
    "value": _value,
    "watch": _watch,
}


async def _stations(rooms: Rooms) -> list[dict[str, Any]]:
    stops = []
    for stage in JOURNEY:
        try:
            stop = await _STATIONS[stage.name](rooms)
        except GuantongError as error:
            stop = _stop("bad", "silent", "silent-code", code=error.code)
        except Exception:  # noqa: BLE001 - an outer edge: one station that fails must not blank the line
            _LOG.exception("station %s gave no figure", stage.name)
            stop = _stop("bad", "silent", "silent-code", code="web.stage-silent")
        stops.append({"stage": stage.name, **stop})
    return stops


async def station_states(rooms: Rooms) -> dict[str, str]:
    """State of each station, for the rail."""
    return {one["stage"]: one["state"] for one in await _stations(rooms)}


def _wanted(text: str, href: str, **facts: Any) -> dict[str, Any]:
    """``text`` names ``decide.<text>``."""
    return {"text": text, "facts": facts, "href": href}


def _at(folder: str, name: str) -> str:
    return f"/{folder}/{quote(name, safe='')}"


async def _decisions(rooms: Rooms) -> list[dict[str, Any]]:
    """What waits for a person, with the way to it."""
    me = rooms.participant
    wanted = [
        _wanted("talk", _at("contracts", talk.pid), partner=talk.partner, dataset=talk.dataset_id)
        for talk in await rooms.exchange.negotiations(me)
        if turn_of(talk) == "us"
    ]
    suspected = sum(one.status == "suspected" and not one.reviewed_by for one in await rooms.govern.grades(me))
    if suspected:
        wanted.append(_wanted("grades", "/govern", n=suspected))
    stated = {one.dataset_id for one in await rooms.govern.all_rights(me)}
    wanted += [
        _wanted("rights", _at("datasets", dataset.id), dataset=dataset.id)
        for dataset in await rooms.describe.datasets(me)
        if dataset.id not in stated
    ]
    wanted += [_wanted("dispute", "/invoices", number=invoice.number) for invoice in await rooms.settle.disputes(me)]
    unsure = [one for one in await rooms.fuse.parts(me) if len(one.names) > 1 and one.confidence < 0.9]
    wanted += [_wanted("part", _at("parts", one.id), one=one.names[0][1], other=one.names[-1][1]) for one in unsure[:5]]
    stuck = len(await rooms.outbox.stuck(me))
    if stuck:
        wanted.append(_wanted("stuck", "/settings", n=stuck))
    wanted += [
        _wanted("source", _at("sources", card.source), source=card.source)
        for card in rooms.connect.scorecards(me)
        if card.state == "lost"
    ]
    return wanted[:12]


async def _plot(rooms: Rooms) -> dict[str, Any] | None:
    """The last hour of the signal that deserves a look: the one a warning names, else the busiest numeric one."""
    me = rooms.participant
    signals = [one for one in await rooms.fuse.signals(me) if one.type in ("f64", "i64")]
    if not signals:
        return None
    warnings = await rooms.watch.warnings(me)
    named = {(one.source, one.signal) for one in warnings}
    chosen = next((one for one in signals if (one.source, one.native_id) in named), None)
    if chosen is None:
        words = ("load", "temp", "power", "speed", "vibration", "pressure", "current")
        ranked = [one for word in words for one in signals if word in f"{one.name} {one.path}".lower() and one.unit]
        chosen = (ranked or [one for one in signals if one.unit] or signals)[0]
    latest = await rooms.keep.latest(me, [chosen.id])
    if latest.num_rows == 0:
        return None
    import pyarrow as pa

    newest = latest.column("source_time").cast(pa.int64())[0].as_py()
    end = newest * 1000 + NS
    drawn = await curve(rooms, chosen, end - 3600 * NS, end)
    if sum(point[1] is not None for point in drawn["points"]) < 2:
        return None
    return {
        "id": chosen.id,
        "name": chosen.name or chosen.native_id,
        "source": chosen.source,
        "unit": chosen.unit,
        **drawn,
    }


async def _part(rooms: Rooms) -> dict[str, Any] | None:
    """Where no machine is read: one part with the measurements of both companies side by side, the most that are known."""
    from guantong.fuse.parts import joined

    known = await rooms.fuse.parts(rooms.participant)
    if not known:
        return None
    names = {one.id: len(one.names) for one in joined(known)}
    first = max(known, key=lambda one: (names.get(one.id, 1), one.confidence))
    shown = await part(rooms, Ask(path={"id": first.id}))
    return {
        "id": first.id,
        "title": shown["title"],
        "sides": shown["sides"],
        "matched": shown["matched"],
        "rows": [row for row in shown["rows"] if row["left"]][:6],
    }


async def journey(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The whole line at a glance."""
    stops = await _stations(rooms)
    found = await rooms.fuse.findings(rooms.participant)
    warnings = await rooms.watch.warnings(rooms.participant)
    drawn = await _plot(rooms)
    return {
        "stations": stops,
        "states": {one["stage"]: one["state"] for one in stops},
        "decisions": await _decisions(rooms),
        "troubles": [finding_of(one) for one in sorted(found, key=lambda one: -one.start)][:10],
        "troubles_total": len(found),
        "plot": drawn,
        "part": await _part(rooms) if drawn is None else None,
        "warning": warning_of(warnings[-1]) if warnings else None,
        "sources": len(rooms.connect.scorecards(rooms.participant)),
    }
