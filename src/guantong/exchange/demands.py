"""Demands: a participant publishes which dataset it wants; a partner's node matches its own datasets by vocabulary, unit and coverage.

The matching happens at the partner, where the data is: who wants something learns nothing of what others have until they offer it. Every
verdict comes with its reasons, also those of what does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import iso, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.units import canonical, compatible
from guantong.exchange.model import DEMAND_PUBLISHED, DEMAND_WITHDRAWN
from guantong.exchange.tables import DEMANDS

if TYPE_CHECKING:
    from guantong.exchange.hosting import Hosting

__all__ = [
    "PATH",
    "Candidate",
    "Demand",
    "Demands",
    "Held",
    "Match",
    "Reason",
    "Wanted",
    "demand_of",
    "match",
    "no_candidates",
]

PATH = "/guantong/demands"
_MOST = 200
"""Demands that one participant publishes at once, and that are read of a partner."""
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One quantity that is wanted."""

    term: str
    """Its name in a vocabulary that both sides know (``Temperature`` of MTConnect, an IRDI), or as machines write it."""
    unit: str = ""
    """UCUM; empty where any will do."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A dataset that is wanted."""

    id: str
    title: str
    purpose: str
    wanted: tuple[Wanted, ...]
    start: int | None = None
    """First instant of interest, ns; None: any."""
    end: int | None = None
    """First instant no longer of interest."""

    def document(self) -> dict[str, Any]:
        """As partners read it."""
        return {
            "id": self.id,
            "title": self.title,
            "purpose": self.purpose,
            "wanted": [asdict(one) for one in self.wanted],
            "from": "" if self.start is None else iso(self.start),
            "until": "" if self.end is None else iso(self.end),
        }


@dataclass(frozen=True, slots=True)
class Held:
    """One quantity of an own dataset."""

    names: tuple[str, ...]
    """Everything it is called: name, the source's id, terms of mappings."""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An own dataset as matching needs it."""

    dataset_id: str
    title: str
    held: tuple[Held, ...]
    rows: int = 0
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, or why not: ``vocabulary``, ``unit`` or ``coverage``."""

    kind: str
    ok: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """How far an own dataset serves a demand."""

    dataset_id: str
    title: str
    score: float
    """Share of the wanted quantities that are there in a unit that can be converted, times the share of the period covered."""
    reasons: tuple[Reason, ...]


Candidates = Callable[[str], Awaitable[Sequence[Candidate]]]
"""``(participant)`` to its datasets with names, units and coverage (describe's and fuse's, through ``node.py``)."""


async def no_candidates(_: str) -> Sequence[Candidate]:
    """Where none is wired."""
    return ()


def match(demand: Demand, candidates: Sequence[Candidate]) -> list[Match]:
    """Every dataset that has at least one wanted quantity in a unit that fits, best first; ties by id."""
    found = []
    for one in candidates:
        reasons, served = [], 0
        for wanted in demand.wanted:
            named = [held for held in one.held if _same(wanted.term, held.names)]
            reasons.append(Reason("vocabulary", bool(named), {"term": wanted.term}))
            if named:
                fits = [held.unit for held in named if _convertible(held.unit, wanted.unit)]
                units = sorted({held.unit for held in named})
                reasons.append(
                    Reason("unit", bool(fits), {"term": wanted.term, "wanted": wanted.unit, "has": ", ".join(units)})
                )
                served += bool(fits)
        share = _covered(demand, one)
        facts = {
            "share": round(share, 4),
            "first": "" if one.first is None else iso(one.first),
            "last": "" if one.last is None else iso(one.last),
            "rows": one.rows,
        }
        reasons.append(Reason("coverage", share > 0, facts))
        score = served / len(demand.wanted) * share
        if served:
            found.append(Match(one.dataset_id, one.title, round(score, 4), tuple(reasons)))
    return sorted(found, key=lambda one: (-one.score, one.dataset_id))


def demand_of(body: Any) -> Demand:
    """Read a demand. Raises Skippable ``exchange.demand-invalid``."""
    try:
        if not _ID.fullmatch(body["id"]):
            raise ValueError("the id has small letters, digits, - _ . only")
        wanted = tuple(
            Wanted(_short(one["term"]), canonical(_short(one.get("unit") or "")) if one.get("unit") else "")
            for one in body["wanted"]
        )
        if not 0 < len(wanted) <= 100 or not all(one.term for one in wanted):
            raise ValueError("1 to 100 quantities are wanted")
        start, end = (parse_iso(body[name]) if body.get(name) else None for name in ("from", "until"))
        if start is not None and end is not None and start >= end:
            raise ValueError("it ends before it begins")
        return Demand(body["id"], _short(body["title"]), _short(body.get("purpose") or ""), wanted, start, end)
    except (ValueError, KeyError, TypeError, AttributeError, GuantongError) as error:
        reason = error.message() if isinstance(error, GuantongError) else str(error)[:200]
        raise Skippable("exchange.demand-invalid", reason=reason or type(error).__name__) from error


class Demands:
    """What every hosted participant wants."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self.candidates: Candidates = no_candidates

    async def publish(self, participant: str, demand: Demand) -> Demand:
        """Publish a demand, or change it. Raises Refused ``exchange.demands-full``."""
        known = await self.demands(participant)
        if len(known) >= _MOST and demand.id not in {one.id for one in known}:
            raise Refused("exchange.demands-full", limit=_MOST)
        document = demand.document()
        async with self._hosting.records.step(participant) as step:
            step.upsert(DEMANDS, id=demand.id, document=canonical_bytes(document), changed_at=step.at)
            step.record(Entry(DEMAND_PUBLISHED, {"demand": demand.id, "documentHash": digest(document)}))
        return demand

    async def withdraw(self, participant: str, demand_id: str) -> None:
        """Want it no more. Raises Refused ``exchange.demand-unknown``."""
        if demand_id not in {one.id for one in await self.demands(participant)}:
            raise Refused("exchange.demand-unknown", demand=demand_id[:100])
        async with self._hosting.records.step(participant) as step:
            step.delete(DEMANDS, id=demand_id)
            step.record(Entry(DEMAND_WITHDRAWN, {"demand": demand_id}))

    async def demands(self, participant: str) -> list[Demand]:
        """What is wanted, by id."""
        rows = await self._hosting.records.rows(
            select(DEMANDS.c.document).where(and_(DEMANDS.c.participant == participant)).order_by(DEMANDS.c.id)
        )
        return [demand_of(orjson.loads(row["document"])) for row in rows]

    async def of_partner(self, participant: str, partner: str) -> list[Demand]:
        """What a partner wants; what of it can't be read is left out. Raises Refused ``exchange.answer-unusable``."""
        root = await self._hosting.partner_extension(partner)
        if not root:
            raise _unusable(partner, "–", "it is a plain connector")
        answer = await self._hosting.request(participant, partner, "GET", root + PATH, max_bytes=1024 * 1024)
        try:
            body = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            body = None
        listed = body.get("demands") if isinstance(body, dict) else None
        if answer.status != 200 or not isinstance(listed, list):
            raise _unusable(partner, str(answer.status), "its answer holds no demands")
        found = []
        for one in listed[:_MOST]:
            try:
                found.append(demand_of(one))
            except Skippable:
                continue
        return found

    async def matches(self, participant: str, partner: str) -> list[tuple[Demand, list[Match]]]:
        """Each demand of a partner with the own datasets that would serve it."""
        wanted = await self.of_partner(participant, partner)
        held = await self.candidates(participant) if wanted else ()
        return [(one, match(one, held)) for one in wanted]


def _same(term: str, names: Sequence[str]) -> bool:
    plain = _plain(term)
    return any(_plain(name) == plain for name in names)


def _plain(name: str) -> str:
    # SPINDLE_LOAD, SpindleLoad and spindle load are one word to people
    return re.sub(r"[\s_./:-]+", "", name).casefold()


def _convertible(has: str, wanted: str) -> bool:
    if not wanted or has == wanted:
        return True
    try:
        return bool(has) and compatible(has, wanted)
    except GuantongError:
        return False


def _covered(demand: Demand, one: Candidate) -> float:
    if one.first is None or one.last is None:
        return 0.0
    start = one.first if demand.start is None else demand.start
    end = max(one.last, start + 1) if demand.end is None else demand.end
    # a dataset that still grows may have an open end; what is not there yet is not counted
    overlap = min(one.last + 1, end) - max(one.first, start)
    return max(0.0, min(1.0, overlap / (end - start)))


def _short(text: Any) -> str:
    if not isinstance(text, str) or len(text) > 300 or not text.isprintable():
        raise ValueError("a text is too long or has characters that don't print")
    return text.strip()


def _unusable(partner: str, status: str, reason: str) -> Refused:
    return Refused("exchange.answer-unusable", partner=partner, status=status, message="demands", reason=reason)
