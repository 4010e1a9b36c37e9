"""Machine states and availability from MTConnect execution and conditions.

A state holds from one observation to the next. UNAVAILABLE is a state of its own: it is never filled in, it is left out of the
denominator, and the coverage says how much of the window it took. A condition in FAULT overrides the execution state.

Sources: MTConnect Part 3 (Execution: ACTIVE, READY, INTERRUPTED, FEED_HOLD, STOPPED, OPTIONAL_STOP, PROGRAM_STOPPED,
PROGRAM_COMPLETED, WAIT; condition states); ISO 22400-2 by OPC 40501-1 Annex C.2.4: Availability = APT / PBT.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from guantong.base.clock import NS
from guantong.watch.model import Figure, Interval

__all__ = ["ACTIVE", "FAULT", "UNAVAILABLE", "availability", "faults_in", "intervals", "level"]

ACTIVE, FAULT, UNAVAILABLE = "ACTIVE", "FAULT", "UNAVAILABLE"

Observation = tuple[int, str | None]
"""Instant and text; None where the value was unavailable."""


def level(text: str | None) -> str:
    """Level of a condition as connect writes it (``LEVEL`` or ``LEVEL|code|severity|qualifier|text``), upper case."""
    return UNAVAILABLE if text is None else text.partition("|")[0].strip().upper() or UNAVAILABLE


def intervals(
    execution: Sequence[Observation],
    conditions: Mapping[str, Sequence[Observation]],
    *,
    start: int,
    end: int,
    gaps: Sequence[tuple[int, int]] = (),
) -> list[Interval]:
    """States of the window, without holes, oldest first. Observations are sorted by time; one before the window gives the state at its
    start, without one the beginning is UNAVAILABLE.

    gaps: stretches in which data are known to be missing (a cut connection): UNAVAILABLE, whatever was last seen.
    """
    changes: list[tuple[int, str, str]] = [(at, "", (value or UNAVAILABLE).upper()) for at, value in execution]
    for name, observations in conditions.items():
        changes += [(at, name, level(value)) for at, value in observations]
    changes.sort(key=lambda change: change[0])
    state, faulty = UNAVAILABLE, set[str]()
    result: list[Interval] = []
    since = start
    for at, name, value in changes:
        if at >= end:
            break
        if at > since:
            _extend(result, FAULT if faulty and state != UNAVAILABLE else state, since, at)
            since = at
        if not name:
            state = value
        elif value == FAULT:
            faulty.add(name)
        else:
            faulty.discard(name)
    if end > since:
        _extend(result, FAULT if faulty and state != UNAVAILABLE else state, since, end)
    return _cut(result, _clipped(gaps, start, end))


def availability(
    states: Iterable[Interval], *, source: str, start: int, end: int, planned: Sequence[tuple[int, int]] = ()
) -> tuple[Figure, dict[str, float]]:
    """Availability and the seconds in each state.

    planned: planned busy time as half-open intervals from the order calendar. Without one, the observed time of the window stands for
    PBT, and the figure says so. APT is the time in ACTIVE.
    """
    seconds: dict[str, float] = {}
    active = busy = observed = 0
    for state in states:
        length = state.end - state.start
        seconds[state.state] = seconds.get(state.state, 0.0) + length / NS
        if state.state == UNAVAILABLE:
            continue
        within = _overlap(state.start, state.end, planned) if planned else length
        observed += within
        busy += within
        if state.state == ACTIVE:
            active += within
    wanted = sum(upper - lower for lower, upper in _clipped(planned, start, end)) if planned else end - start
    if planned:
        definition = "ISO 22400-2 Availability = APT / PBT; PBT from the order calendar, unobserved time left out"
    else:
        definition = "APT / (window − unavailable); ISO 22400-2 APT / PBT with the observed time for PBT, no order calendar given"
    return (
        Figure(
            name="availability",
            value=active / busy if busy else None,
            unit="1",
            source=source,
            start=start,
            end=end,
            coverage=observed / wanted if wanted > 0 else 0.0,
            reason="" if busy else "the machine was unavailable for the whole window",
            definition=definition,
            facts={"APT_s": active / NS, "PBT_s": busy / NS},
        ),
        seconds,
    )


def faults_in(conditions: Mapping[str, Sequence[Observation]], *, start: int, end: int) -> int:
    """How often a condition went to FAULT within the window."""
    count = 0
    for observations in conditions.values():
        before = ""
        for at, value in observations:
            now = level(value)
            count += now == FAULT and before != FAULT and start <= at < end
            before = now
    return count


def _extend(result: list[Interval], state: str, start: int, end: int) -> None:
    if result and result[-1].state == state and result[-1].end == start:
        result[-1] = Interval(state, result[-1].start, end)
    else:
        result.append(Interval(state, start, end))


def _cut(states: list[Interval], gaps: list[tuple[int, int]]) -> list[Interval]:
    if not gaps:
        return states
    edges = sorted(
        {edge for state in states for edge in (state.start, state.end)} | {edge for gap in gaps for edge in gap}
    )
    result: list[Interval] = []
    number = 0
    for lower, upper in itertools.pairwise(edges):
        while states[number].end <= lower:
            number += 1
        missing = any(gap[0] <= lower and upper <= gap[1] for gap in gaps)
        _extend(result, UNAVAILABLE if missing else states[number].state, lower, upper)
    return result


def _clipped(spans: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The spans within the window, sorted and joined where they overlap."""
    joined: list[tuple[int, int]] = []
    for lower, upper in sorted((max(lower, start), min(upper, end)) for lower, upper in spans):
        if lower >= upper:
            continue
        if joined and lower <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], upper))
        else:
            joined.append((lower, upper))
    return joined


def _overlap(start: int, end: int, spans: Sequence[tuple[int, int]]) -> int:
    return sum(upper - lower for lower, upper in _clipped(spans, start, end))
