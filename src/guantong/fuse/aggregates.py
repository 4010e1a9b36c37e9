"""Aggregates of one signal over equal intervals, with the names and meanings of OPC UA Part 13 (1.05, Aggregates, clause 5.4).

Raw aggregates look at the good values within the interval: Average, Minimum, Maximum, Range, Count, Start, End, Delta, StandardDeviationSample,
StandardDeviationPopulation. Time-weighted ones look at the signal between its values: TimeAverage and Total with interpolated bounds (sloped, or
stepped where the signal is), TimeAverage2 and Total2 with simple bounds (the value holds until the next). DurationGood, DurationBad, PercentGood,
PercentBad, WorstQuality and NumberOfTransitions look at status and change. After compression only the time-weighted ones are right.

Not here: annotations, AnnotationCount, MinimumActualTime and its kin, UseSlopedExtrapolation (after the last value, it holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD, GOOD, UNCERTAIN
from guantong.base.clock import NS
from guantong.base.errors import Skippable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["AGGREGATES", "AggregateConfiguration", "aggregate"]

AGGREGATES = (
    "Interpolative", "Average", "TimeAverage", "TimeAverage2", "Total", "Total2", "Minimum", "Maximum", "Range", "Count", "Start", "End",
    "Delta", "StartBound", "EndBound", "DurationGood", "DurationBad", "PercentGood", "PercentBad", "WorstQuality", "NumberOfTransitions",
    "StandardDeviationSample", "StandardDeviationPopulation",
)  # fmt: skip
"""Names that may be asked for."""


@dataclass(frozen=True, slots=True)
class AggregateConfiguration:
    """AggregateConfiguration (Part 13, 4.2.1.2)."""

    treat_uncertain_as_bad: bool = True
    percent_data_bad: int = 100
    """From so many percent bad on, the result is bad."""
    percent_data_good: int = 100
    """From so many percent good on, the result is good; between both it is uncertain."""
    stepped: bool = False
    """Whether the signal holds its value until the next (Part 13, Stepped)."""


def aggregate(
    times: Ints,
    values: Floats,
    status: Ints,
    start: int,
    end: int,
    every: int,
    names: Sequence[str],
    configuration: AggregateConfiguration | None = None,
) -> pl.DataFrame:
    """One row for each interval ``[start, start + every)``, … before ``end``; times ascending, ns; values NaN where there is none.

    Columns: ``time``, one for each name (null where there is nothing to say), ``percent_good`` and ``status``. Values before ``start``
    give the first bound. Raises Skippable ``fuse.aggregate-unknown``.
    """
    import numpy as np
    import polars as pl

    unknown = [name for name in names if name not in AGGREGATES]
    if unknown or every <= 0 or end <= start or (end - start) // every > 1_000_000:
        raise Skippable("fuse.aggregate-unknown", name=", ".join(unknown) or f"{start} to {end} by {every}")
    rules = configuration or AggregateConfiguration()
    edges = np.arange(start, end, every)
    ends = np.minimum(edges + every, end)
    limit = UNCERTAIN if rules.treat_uncertain_as_bad else BAD
    sound = (status < limit) & ~np.isnan(values)
    good_times, good_values = times[sound], values[sound]
    inside = (good_times >= start) & (good_times < end)
    slot = (good_times[inside] - start) // every
    held = good_values[inside]
    count = np.bincount(slot, minlength=len(edges)).astype(np.float64)
    some = count > 0
    found: dict[str, Any] = {}

    def folded(of: np.ufunc, begin: float) -> Floats:
        made = np.full(len(edges), begin)
        of.at(made, slot, held)
        return np.where(some, made, np.nan)

    def at_edges(instants: Ints, *, stepped: bool) -> Floats:
        if not len(good_times):
            return np.full(len(instants), np.nan)
        index = np.searchsorted(good_times, instants, "right") - 1
        low = np.clip(index, 0, len(good_times) - 1)
        made = good_values[low].astype(np.float64)
        if not stepped:
            high = np.minimum(low + 1, len(good_times) - 1)
            width = (good_times[high] - good_times[low]).astype(np.float64)
            share = np.divide(instants - good_times[low], width, out=np.zeros(len(instants)), where=width > 0)
            made = made + share * (good_values[high] - made)
        return np.where(index >= 0, made, np.nan)

    def areas(*, stepped: bool) -> tuple[Floats, Floats]:
        """Integral over each interval in value seconds, and how many seconds of it the signal covers."""
        if not len(good_times):
            return np.zeros(len(edges)), np.zeros(len(edges))
        gaps = np.diff(good_times) / NS
        pieces = gaps * (good_values[:-1] if stepped else (good_values[:-1] + good_values[1:]) / 2)
        total = np.r_[0.0, np.cumsum(pieces)]

        def upto(instants: Ints) -> Floats:
            bounded = np.maximum(instants, good_times[0])
            index = np.searchsorted(good_times, bounded, "right") - 1
            here = at_edges(bounded, stepped=stepped)
            way = (bounded - good_times[index]) / NS
            middle = good_values[index] if stepped else (good_values[index] + here) / 2
            area: Floats = total[index] + way * middle
            return area

        covered = np.maximum(0, ends - np.maximum(edges, good_times[0])) / NS
        return upto(ends) - upto(edges), covered

    good_s, bad_s, worst = _durations(times, status, sound, edges, ends)
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in dict.fromkeys(names):
            if name == "Interpolative":
                found[name] = at_edges(edges, stepped=rules.stepped)
            elif name in ("StartBound", "EndBound"):
                found[name] = at_edges(edges if name == "StartBound" else ends, stepped=True)
            elif name == "Average":
                found[name] = np.bincount(slot, held, len(edges)) / count
            elif name in ("TimeAverage", "TimeAverage2", "Total", "Total2"):
                area, covered = areas(stepped=rules.stepped or name.endswith("2"))
                # Total is the time average over the whole interval (5.4.3.9)
                average = np.where(covered > 0, area / covered, np.nan)
                found[name] = average * ((ends - edges) / NS) if name.startswith("Total") else average
            elif name == "Count":
                found[name] = count
            elif name in ("Minimum", "Maximum"):
                found[name] = folded(np.minimum, np.inf) if name == "Minimum" else folded(np.maximum, -np.inf)
            elif name == "Range":
                found[name] = folded(np.maximum, -np.inf) - folded(np.minimum, np.inf)
            elif name in ("Start", "End", "Delta"):
                first, last = np.full(len(edges), np.nan), np.full(len(edges), np.nan)
                first[slot[::-1]], last[slot] = held[::-1], held
                found[name] = first if name == "Start" else last if name == "End" else last - first
            elif name.startswith("StandardDeviation"):
                mean = np.bincount(slot, held, len(edges)) / count
                squares = np.bincount(slot, (held - mean[slot]) ** 2, len(edges))
                less = 1 if name.endswith("Sample") else 0
                found[name] = np.where(count > less, np.sqrt(squares / (count - less)), np.nan)
            elif name == "NumberOfTransitions":
                index = np.flatnonzero(np.diff(good_values) != 0) + 1
                changed = good_times[index]
                changed = changed[(changed >= start) & (changed < end)]
                found[name] = np.bincount((changed - start) // every, minlength=len(edges)).astype(np.float64)
            elif name in ("DurationGood", "DurationBad"):
                found[name] = good_s if name == "DurationGood" else bad_s
            elif name in ("PercentGood", "PercentBad"):
                found[name] = 100 * (good_s if name == "PercentGood" else bad_s) / ((ends - edges) / NS)
            else:
                found[name] = worst.astype(np.float64)
    share = 100 * good_s / ((ends - edges) / NS)
    bad_share = 100 - share
    result = np.where(
        share >= rules.percent_data_good - 1e-9,
        GOOD,
        np.where(bad_share >= rules.percent_data_bad - 1e-9, BAD, UNCERTAIN),
    )
    return pl.DataFrame({"time": edges, **found, "percent_good": share, "status": result}).with_columns(
        pl.col(list(found)).fill_nan(None)
    )


def _durations(times: Ints, status: Ints, sound: Any, edges: Ints, ends: Ints) -> tuple[Floats, Floats, Ints]:
    """Seconds good and bad in each interval, and the worst status: a status holds until the next value; before the first it is bad."""
    import numpy as np

    length = (ends - edges) / NS
    if not len(times):
        return np.zeros(len(edges)), length, np.full(len(edges), BAD)
    held = np.r_[0.0, np.cumsum(np.diff(times) / NS * sound[:-1])]

    def upto(instants: Ints) -> Floats:
        index = np.searchsorted(times, instants, "right") - 1
        low = np.maximum(index, 0)
        found: Floats = np.where(index < 0, 0.0, held[low] + (instants - times[low]) / NS * sound[low])
        return found

    good = upto(ends) - upto(edges)
    worst = np.full(len(edges), GOOD)
    first = np.searchsorted(times, edges, "right") - 1
    worst = np.where(first < 0, BAD, status[np.maximum(first, 0)])
    inside = (times >= edges[0]) & (times < ends[-1])
    np.maximum.at(worst, (times[inside] - edges[0]) // (ends[0] - edges[0]), status[inside])
    return good, length - good, worst
