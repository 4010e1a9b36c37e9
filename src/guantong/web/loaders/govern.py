"""What the page of govern shows: grades with reasons, rights, decisions, quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.web.ask import Ask, cut, found, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.govern.model import Graded, Quality, Rights

__all__ = ["grade_of", "overview", "quality_of", "rights_of"]


def grade_of(one: Graded) -> dict[str, Any]:
    """A grade with everything that led to it."""
    return {
        "id": one.id,
        "domain": one.domain,
        "subclass": one.subclass,
        "level": one.level,
        "status": one.status,
        "enforce": one.enforce,
        "reasons": [{"part": reason.part, "matched": reason.matched, "rule": reason.rule} for reason in one.reasons],
        "impacts": [
            {"object": impact.object, "degree": impact.degree, "why": impact.why, "rule": impact.rule}
            for impact in one.impacts
        ],
        "personal": list(one.personal),
        "rules": list(one.rules),
        "unverified": list(one.unverified),
        "flags": list(one.flags),
        "members": len(one.members),
        "graded_at": time_of(one.graded_at),
        "reviewed_by": one.reviewed_by,
    }


def rights_of(one: Rights) -> dict[str, Any]:
    """A rights statement."""
    return {
        "dataset": one.dataset_id,
        "holder": one.holder,
        "processor": one.processor,
        "operator": one.operator,
        "source": one.source,
        "evidence": one.evidence,
        "valid_from": one.valid_from,
        "valid_to": one.valid_to,
        "personal_basis": one.personal_basis,
        "restrictions": one.restrictions,
        "stated_by": one.stated_by,
    }


def quality_of(one: Quality) -> dict[str, Any]:
    """A quality score with each check's figures."""
    return {
        "dataset": one.dataset_id,
        "q": one.q,
        "coverage": one.coverage,
        "rows": one.rows,
        "capped": one.capped,
        "window_start": time_of(one.window_start),
        "window_end": time_of(one.window_end),
        "scored_at": time_of(one.scored_at),
        "ruleset": one.ruleset,
        "unverified": list(one.unverified),
        "dimensions": dict(one.dimensions),
        "checks": [
            {
                "id": check.id,
                "dimension": check.dimension,
                "numerator": check.numerator,
                "denominator": check.denominator,
                "score": check.score,
                "low": check.low,
                "high": check.high,
                "unmeasured": check.unmeasured,
                "rule": check.rule,
            }
            for check in one.checks
        ],
    }


async def overview(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Grades, rights, decisions and quality of everything."""
    me = rooms.participant
    grades = await rooms.govern.grades(me)
    names = {
        f"signal:{one.id}": (one.name or one.native_id, one.source, one.id) for one in await rooms.fuse.signals(me)
    }
    datasets = await rooms.describe.datasets(me)
    titles = {f"dataset:{one.id}": {"en": one.title_en, "zh": one.title_zh} for one in datasets}
    rows = []
    for one in grades:
        name, source, signal_id = names.get(one.id, (one.id, "", None))
        title = titles.get(one.id)
        if title is not None:
            name = f"{title['en']} {title['zh']}"
        rows.append({**grade_of(one), "name": name, "source": source, "signal_id": signal_id, "title": title})
    wanted = ask.query.get("level", "")
    chosen = found(
        [row for row in rows if not wanted or row["level"] == wanted],
        ask,
        lambda row: f"{row['name']} {row['source']} {row['domain']}",
    )
    levels: dict[str, int] = {}
    for row in rows:
        levels[row["level"]] = levels.get(row["level"], 0) + 1
    qualities = [await rooms.govern.quality(me, one.id) for one in datasets]
    stated = {one.dataset_id: one for one in await rooms.govern.all_rights(me)}
    decisions = await rooms.govern.decisions(me, limit=1000)
    return {
        "levels": levels,
        "grades": cut(chosen, ask, 25),
        "suspected": sum(row["status"] == "suspected" for row in rows),
        "unverified": sorted({rule for row in rows for rule in row["unverified"]}),
        "signals": len(names),
        "rights": [
            {
                "dataset": one.id,
                "title": {"en": one.title_en, "zh": one.title_zh},
                "stated": rights_of(stated[one.id]) if one.id in stated else None,
            }
            for one in datasets
        ],
        "quality": [
            {**quality_of(one), "title": titles.get(f"dataset:{one.dataset_id}")}
            for one in qualities
            if one is not None
        ],
        "decisions": [
            {
                "number": one.number,
                "subject": one.subject,
                "action": one.action,
                "object": one.object,
                "title": titles.get(one.object),
                "allowed": one.allowed,
                "policies": list(one.policies),
                "reason": one.reason,
                "count": one.count,
                "last_at": time_of(one.last_at),
            }
            for one in reversed(decisions[-50:])
        ],
        "rules": len(rooms.govern.rules),
        "q": ask.query.get("q", ""),
        "level": wanted,
    }
