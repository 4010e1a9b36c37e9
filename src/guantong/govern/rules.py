"""Pure decisions of govern: class and grade of a subject, grade of a table or a fusion. Rules are data (``packs/``); this is how they combine.

Source: GB/T 43697-2024, 6.3 to 6.6; 工业数据分类分级指南（试行） 2020; 网络数据安全管理条例 Arts 29, 37. The node never determines important or
core data: it suspects them, and then enforces the controls of important data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from guantong.govern.model import LEVELS, Graded, Impact, Level, Reason, Rule, SubjectFacts
from guantong.govern.pack import Packs
from guantong.govern.words import RECOGNISERS, han_words, phrases_in, tokens

__all__ = ["fuse_grades", "grade", "level_of", "max_level"]

DEGREES = ("none", "general", "serious", "exceptional")
"""Degrees of harm, mildest first (GB/T 43697 6.4)."""

_SAMPLES = 1_000
_DAY_S = 86_400.0


def max_level(levels: Iterable[Level]) -> Level:
    """The highest of the levels; ``general-1`` of none (就高从严)."""
    return max(levels, key=LEVELS.index, default="general-1")


def level_of(impacts: Sequence[Impact], packs: Packs) -> tuple[Level, tuple[str, ...], tuple[str, ...]]:
    """Level, rule references used and flags of a set of impacts.

    Level = max over the matrix of 6.5; general data get a sub-grade by the harm to organisation or individual.
    """
    used: list[str] = []
    flags: list[str] = []
    found: list[str] = []
    for impact in impacts:
        if impact.degree == "none":
            continue
        cell = packs.get(f"gbt-43697/matrix.{impact.object}")
        used.append(cell.ref)
        found.append(str(cell.then[impact.degree]))
    level: Level = "core" if "core" in found else "important" if "important" in found else "general-1"
    if level == "general-1":
        own = [item.degree for item in impacts if item.object in ("organisation", "individual")]
        worst = max(own, key=DEGREES.index, default="none")
        rule = packs.get(f"gbt-43697/general.{worst}")
        used.append(rule.ref)
        level = cast("Level", rule.then["level"])
        if any(item.degree != "none" and item.object in ("economy", "order", "public") for item in impacts):
            high = packs.get("gbt-43697/general.fail-high")
            used.append(high.ref)
            flags.append(str(high.then["flag"]))
            level = max_level([level, cast("Level", high.then["level"])])
    return level, _unique(used), tuple(flags)


def grade(subject: SubjectFacts, packs: Packs) -> Graded:
    """Class and grade of one subject with reasons. Pure; the instant is filled in by the caller."""
    name = tokens(subject.name) or tokens(subject.id)
    chosen, reasons, flags = _classify(subject, name, packs)
    personal, notes, personal_impacts, personal_reasons = _personal(subject, name, packs)
    subclass = f"{chosen.then['domain']}.{chosen.then['subclass']}"
    elements: dict[str, object] = {"field": "industry"}
    for key in ("rate_hz", "rows", "span_s", "machines"):
        value = getattr(subject, key)
        if value is not None:
            elements[key] = value
    impacts = [*_class_impacts([subclass], packs), *_element_impacts(elements, [subclass], packs), *personal_impacts]
    return _graded(
        subject.id,
        subclass,
        elements,
        impacts,
        (*reasons, *personal_reasons),
        personal,
        (*flags, *notes),
        packs,
        rows=subject.rows,
    )


def fuse_grades(
    id: str, members: Sequence[Graded], packs: Packs, *, elements: Mapping[str, object] | None = None
) -> Graded:
    """Grade of a table or fusion: the highest of its members, then assessed again with scale, precision and coverage.

    ``elements``: what is measured of the whole (``rows``, ``rate_hz``, ``span_s``, ``machines``); what is missing is taken from the
    members, never lower than the largest of them. The result is never below any member. Source: GB/T 43697-2024, 6.6, Annex I.
    """
    merged: dict[str, object] = {"field": "industry"}
    for key in ("rate_hz", "rows", "span_s", "machines"):
        figures = [one.elements[key] for one in members if isinstance(one.elements.get(key), (int, float))]
        own = (elements or {}).get(key)
        if isinstance(own, (int, float)):
            figures.append(own)
        if figures:
            merged[key] = max(cast("list[float]", figures))
    merged["coverage"] = sorted({one.subclass for one in members})
    highest = packs.get("gbt-43697/table-max" if elements is None else "gbt-43697/fusion-max")
    top = max(members, key=lambda one: LEVELS.index(one.level))
    impacts = [impact for one in members for impact in one.impacts]
    subclasses = [one.subclass for one in members]
    impacts += _element_impacts(merged, subclasses, packs)
    impacts += _combined_impacts(subclasses, packs)
    rows = merged.get("rows")
    return _graded(
        id,
        top.subclass,
        merged,
        _worst(impacts),
        (),
        tuple(sorted({kind for one in members for kind in one.personal})),
        tuple(sorted({flag for one in members for flag in one.flags if flag != "suspected-apply-to-the-authority"})),
        packs,
        members=tuple(one.id for one in members),
        extra=(highest.ref, *(ref for one in members for ref in one.rules)),
        at_least=max_level(one.level for one in members),
        rows=int(rows) if isinstance(rows, (int, float)) else None,
    )


def _graded(
    id: str,
    subclass: str,
    elements: Mapping[str, object],
    impacts: Sequence[Impact],
    reasons: tuple[Reason, ...],
    personal: tuple[str, ...],
    flags: tuple[str, ...],
    packs: Packs,
    *,
    members: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    at_least: Level = "general-1",
    rows: int | None = None,
) -> Graded:
    level, used, more = level_of(impacts, packs)
    level = max_level([level, at_least])
    refs = [*(reason.rule for reason in reasons), *(impact.rule for impact in impacts), *used, *extra]
    enforce = level
    suspected = level in ("important", "core")
    if suspected:
        rule = packs.get("gbt-43697/suspected")
        refs.append(rule.ref)
        more = (*more, str(rule.then["flag"]))
        enforce = cast("Level", rule.then["enforce"])
    rules = _unique(refs)
    return Graded(
        id=id,
        domain=subclass.partition(".")[0],
        subclass=subclass,
        level=level,
        status="suspected" if suspected else "general",
        enforce=enforce,
        elements=elements,
        impacts=tuple(impacts),
        reasons=reasons,
        personal=personal,
        rules=rules,
        unverified=packs.unverified(rules),
        flags=_unique([*flags, *more]),
        members=members,
        rows=rows,
    )


def _classify(subject: SubjectFacts, name: list[str], packs: Packs) -> tuple[Rule, list[Reason], list[str]]:
    path, equipment = tokens(subject.path), tokens(subject.equipment)
    known, longest = _han(packs)
    han = han_words(name, known, longest)
    best: tuple[float, Rule, list[Reason]] | None = None
    for rule in packs.of("industrial-2020"):
        when: Mapping[str, Any] = rule.when
        reasons: list[Reason] = []
        score = 0.0
        words = when.get("words", ())
        for phrase in phrases_in(name, words, axes=True):
            score += 4 + phrase.count(" ")
            reasons.append(Reason("name", phrase, rule.ref))
        for phrase in han:
            if phrase in when.get("words_zh", ()):
                score += 3 + len(phrase) / 2
                reasons.append(Reason("name", phrase, rule.ref))
        if subject.type and subject.type.upper() in when.get("types", ()):
            score += 5
            reasons.append(Reason("type", subject.type, rule.ref))
        if subject.unit and subject.unit in when.get("units", ()):
            score += 2
            reasons.append(Reason("unit", subject.unit, rule.ref))
        for part, text in (("path", path), ("equipment", equipment)):
            for phrase in phrases_in(text, words):
                score += 1
                reasons.append(Reason(cast("Any", part), phrase, rule.ref))
        least = when.get("min_rate_hz")
        if least is not None and subject.rate_hz is not None and subject.rate_hz >= least:
            score += 0.5
            reasons.append(Reason("rate", f"{subject.rate_hz:g} Hz", rule.ref))
        if reasons and (best is None or score > best[0]):
            best = (score, rule, reasons)
    if best is None:
        rule = packs.get("industrial-2020/default")
        return rule, [Reason("default", "", rule.ref)], ["class-by-default"]
    flags = [] if best[0] >= 2 else ["class-weak"]
    return best[1], best[2], flags


def _personal(
    subject: SubjectFacts, name: list[str], packs: Packs
) -> tuple[tuple[str, ...], tuple[str, ...], list[Impact], list[Reason]]:
    kinds: list[str] = []
    notes: list[str] = []
    impacts: list[Impact] = []
    reasons: list[Reason] = []
    known, longest = _han(packs)
    han = han_words(name, known, longest)
    values = [text.strip() for text in subject.samples[:_SAMPLES] if text.strip()]
    for rule in packs.of("personal"):
        when: Mapping[str, Any] = rule.when
        matched = phrases_in(name, when.get("words", ())) + [word for word in han if word in when.get("words_zh", ())]
        if " ".join(name) in when.get("whole", ()):
            matched.append(" ".join(name))
        part: Any = "name"
        recogniser = RECOGNISERS.get(str(when.get("values", "")))
        if recogniser is not None and len(values) >= when["min_count"]:
            hits = sum(map(recogniser, values))
            if hits >= when["min_ratio"] * len(values):
                # the values themselves are personal: only how many matched is kept
                matched, part = [f"{hits}/{len(values)}"], "values"
        if not matched:
            continue
        reasons += [Reason(part, text, rule.ref) for text in matched]
        if "note" in rule.then:
            notes.append(str(rule.then["note"]))
            continue
        kinds.append(str(rule.then["kind"]))
        impacts.append(
            Impact(cast("Any", rule.then["object"]), cast("Any", rule.then["degree"]), rule.text_en, rule.ref)
        )
    return _unique(kinds), tuple(notes), impacts, reasons


def _class_impacts(subclasses: Iterable[str], packs: Packs) -> list[Impact]:
    wanted = set(subclasses)
    return [_impact(rule) for rule in packs.of("gbt-43697", "impact.") if rule.when["subclass"] in wanted]


def _element_impacts(elements: Mapping[str, object], subclasses: Sequence[str], packs: Packs) -> list[Impact]:
    found = []
    for rule in [*packs.of("gbt-43697", "scale."), *packs.of("gbt-43697", "precision.")]:
        when: Mapping[str, Any] = rule.when
        machines, span, rate = elements.get("machines"), elements.get("span_s"), elements.get("rate_hz")
        if "machines" in when and (not isinstance(machines, (int, float)) or machines < when["machines"]):
            continue
        if "span_days" in when and (not isinstance(span, (int, float)) or span < when["span_days"] * _DAY_S):
            continue
        if "rate_hz" in when and (not isinstance(rate, (int, float)) or rate < when["rate_hz"]):
            continue
        if not any(subclass.startswith(("production.", "platform-operation.")) for subclass in subclasses):
            continue
        found.append(_impact(rule))
    return found


def _combined_impacts(subclasses: Sequence[str], packs: Packs) -> list[Impact]:
    have = set(subclasses)
    return [
        _impact(rule)
        for rule in packs.of("gbt-43697", "combine.")
        if have >= set(cast("Sequence[str]", rule.when["subclasses"]))
    ]


def _impact(rule: Rule) -> Impact:
    return Impact(cast("Any", rule.then["object"]), cast("Any", rule.then["degree"]), rule.text_en, rule.ref)


def _worst(impacts: Sequence[Impact]) -> tuple[Impact, ...]:
    """The gravest impact on each object, so that a fusion of a thousand signals keeps a short list."""
    worst: dict[str, Impact] = {}
    for impact in impacts:
        known = worst.get(impact.object)
        if known is None or DEGREES.index(impact.degree) > DEGREES.index(known.degree):
            worst[impact.object] = impact
    return tuple(worst.values())


_HAN: dict[int, tuple[frozenset[str], int]] = {}


def _han(packs: Packs) -> tuple[frozenset[str], int]:
    found = _HAN.get(id(packs))
    if found is None:
        words = frozenset(
            word for rule in packs.rules.values() for word in cast("Iterable[str]", rule.when.get("words_zh", ()))
        )
        found = _HAN[id(packs)] = (words, max(map(len, words), default=1))
    return found


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
