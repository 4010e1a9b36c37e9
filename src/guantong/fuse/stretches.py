"""Stretches of one signal that can't be what they seem: values in another unit, values that stand still. Pure, on arrays.

Both rules are robust: they judge a stretch against the rest of what is known of the signal and say nothing where the rest is too short or
too irregular. Limits, documented: units whose factor lies between 1/5 and 5 are not told apart (except temperatures); a stretch in another
unit is reported when the signal has returned; signals whose normal values span the factor are not judged; a value of exactly zero never
counts as standing still, nor does a signal that habitually stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.base.units import factors, find_unit
from guantong.fuse.model import FuseSettings

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["Frozen", "UnitStretch", "find_frozen", "find_unit_stretches", "medians_of_five"]

COMMON = (
    "Pa", "kPa", "MPa", "bar", "mbar", "[psi]", "Pa{gauge}", "kPa{gauge}", "MPa{gauge}", "bar{gauge}", "[psi]{gauge}",
    "Cel", "[degF]", "K", "W", "kW", "MW", "VA", "kVA", "var", "kvar", "W.h", "kW.h", "MW.h", "J", "kJ", "MJ",
    "um", "mm", "cm", "m", "[in_i]", "[ft_i]", "mg", "g", "kg", "t", "mA", "A", "mV", "V", "kV",
    "L/min", "L/s", "L/h", "m3/h", "m3/s", "m3/h{normal}", "mm/s", "m/s", "m/min", "mm/min", "[in_i]/s", "um/s",
    "{rev}/min", "{rev}/s", "rad/s", "deg", "rad", "mm/s2", "m/s2", "N", "kN", "N.m", "kN.m", "mL", "L", "m3", "Hz", "kHz", "s", "ms", "min", "h",
)  # fmt: skip
"""Units in which machines of a shop are found to report."""

_CONTEXT = 48
"""Rows of the rest that are needed."""


@dataclass(frozen=True, slots=True)
class UnitStretch:
    """Rows ``begin`` to ``end`` (not included) are in ``unit`` while another is declared: value = true value · slope + shift."""

    begin: int
    end: int
    unit: str
    slope: float
    shift: float
    level_before: float
    level_in: float
    level_after: float
    ratio: float
    """Ratio of level inside to level around, after the shift is taken off."""


@lru_cache(512)
def _candidates(unit: str) -> tuple[tuple[str, float, float], ...]:
    if not unit or find_unit(unit) is None:
        return ()
    return tuple(
        (code, slope, shift)
        for code, slope, shift in factors(unit, COMMON)
        if shift or abs(math.log(slope)) >= math.log(5.0)
    )


def find_unit_stretches(values: Floats, unit: str, settings: FuseSettings) -> list[UnitStretch]:
    """Stretches in another unit. values: finite, in order of time; unit: UCUM code they are declared in."""
    import numpy as np

    candidates = _candidates(unit)
    if len(values) < _CONTEXT + settings.unit_run or not candidates:
        return []
    found: list[UnitStretch] = []
    jump = _jumps(values)
    for code, slope, shift in candidates:
        entries = np.flatnonzero(_near(jump[1], slope * jump[0] + shift, settings.unit_tolerance))
        if not len(entries):
            continue
        for begin in _firsts(entries, settings.unit_run):
            if any(one.begin - 4 <= begin <= one.end + 4 for one in found):
                continue
            stretch = _stretch(values, int(begin), code, slope, shift, settings)
            if stretch is not None:
                found.append(stretch)
    return _best(found)


def medians_of_five(values: Floats) -> Floats:
    """Median of each row and the four after it, by least and greatest of pairs: no sort. A NaN among them gives NaN."""
    import numpy as np

    one, two, three, four, five = (values[place : len(values) - 4 + place] for place in range(5))
    low = np.maximum(np.minimum(one, two), np.minimum(three, four))
    high = np.minimum(np.maximum(one, two), np.maximum(three, four))
    return np.maximum(np.minimum(low, high), np.minimum(five, np.maximum(low, high)))


def _jumps(values: Floats) -> tuple[Floats, Floats]:
    """Medians of the five values before and from each row on (ends: fewer count as none)."""
    import numpy as np

    width = 5
    medians = medians_of_five(values)
    before = np.full(len(values), np.nan)
    after = np.full(len(values), np.nan)
    before[width:] = medians[: len(values) - width]
    after[: len(medians)] = medians
    return before, after


def _near(value: Any, wanted: Any, tolerance: float) -> Any:
    import numpy as np

    with np.errstate(invalid="ignore"):
        return np.abs(value - wanted) <= tolerance * np.abs(wanted)


def _firsts(rows: Ints, apart: int) -> list[int]:
    """The first row of each group of neighbours."""
    import numpy as np

    return [int(group[0]) for group in np.split(rows, np.flatnonzero(np.diff(rows) > apart) + 1)]


def _stretch(
    values: Floats, entry: int, code: str, slope: float, shift: float, settings: FuseSettings
) -> UnitStretch | None:
    import numpy as np

    before = values[max(0, entry - 400) : entry]
    if len(before) < _CONTEXT // 2:
        return None
    low, high = np.quantile(before, [0.02, 0.98])
    level = float(np.median(before))
    inside = slope * level + shift
    # the border between what is normal and what is not, in the middle on the scale of the jump
    border = (
        math.copysign(math.sqrt(abs(level * inside)), level)
        if level * inside > 0 and not shift
        else (level + inside) / 2.0
    )
    beyond = values[entry - 2 :] > border if inside > level else values[entry - 2 :] < border
    inner = np.flatnonzero(beyond)
    if not len(inner) or inner[0] > 6:
        return None
    begin = entry - 2 + int(inner[0])
    outer = np.flatnonzero(~beyond[inner[0] :])
    if not len(outer):
        return None  # not yet returned
    end = begin + int(outer[0])
    after = values[end : end + 400]
    if end - begin < settings.unit_run or len(after) < 8:
        return None
    stretch = values[begin:end]
    back = (stretch - shift) / slope
    rest = np.concatenate([before, after])
    low, high = float(np.quantile(rest, 0.01)), float(np.quantile(rest, 0.99))
    width = max(high - low, 1e-9 * abs(level))
    inside_low, inside_high = np.quantile(stretch, [0.02, 0.98])
    apart = inside_low > high + 0.5 * width if inside > level else inside_high < low - 0.5 * width
    back_low, back_middle, back_high = np.quantile(back, [0.05, 0.5, 0.95])
    fits = back_low >= low - 0.5 * width and back_high <= high + 0.5 * width
    level_after = float(np.median(after[:48]))
    near = abs(back_middle - 0.5 * (level + level_after)) <= settings.unit_tolerance * abs(level)
    if not (apart and fits and near and _rough_alike(stretch, rest, slope)):
        return None
    around = 0.5 * (float(np.median(before[-48:])) + level_after)
    return UnitStretch(
        begin,
        end,
        code,
        slope,
        shift,
        level,
        float(np.median(stretch)),
        level_after,
        float((np.median(stretch) - shift) / around) if around else 0.0,
    )


def _rough_alike(stretch: Floats, rest: Floats, slope: float) -> bool:
    """A change of unit multiplies the small movements too; a change of the process seldom does by the same factor."""
    import numpy as np

    inner = float(np.median(np.abs(np.diff(stretch)))) / abs(slope)
    outer = float(np.median(np.abs(np.diff(rest))))
    if outer == 0.0 or inner == 0.0:
        return outer == inner or len(stretch) < 24
    return 1 / 3 <= inner / outer <= 3


def _best(found: list[UnitStretch]) -> list[UnitStretch]:
    kept: list[UnitStretch] = []
    for one in sorted(found, key=lambda one: abs(math.log(max(one.ratio / one.slope, 1e-9)))):
        if all(one.end <= other.begin or one.begin >= other.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.begin)


@dataclass(frozen=True, slots=True)
class Frozen:
    """Rows ``begin`` to ``end`` (not included) hold exactly one value."""

    begin: int
    end: int
    value: float
    usual: int
    """The longest other standstill, rows."""
    open: bool
    """The newest row is part of it."""


def find_frozen(times: Ints, values: Floats, settings: FuseSettings) -> list[Frozen]:
    """Stretches that stand still, of a signal that otherwise varies. One that stands more than twice, or twice at one value, does so by
    habit.

    times: ns, ascending · values: finite.
    """
    import numpy as np

    size = len(values)
    if size < settings.frozen_run + 2 * _CONTEXT:
        return []
    edges = np.flatnonzero(np.r_[True, values[1:] != values[:-1], True])
    lengths = np.diff(edges)
    long = np.flatnonzero(lengths >= settings.frozen_run)
    rest = np.delete(lengths, long)
    still = int(lengths[long].sum())
    if not 1 <= len(long) <= 2 or not len(rest) or size - still < 2 * _CONTEXT:
        return []
    usual = int(rest.max())
    varies = len(rest) / (size - still) >= 0.3  # on the whole, a value seldom equals the one before it
    if not varies or len(np.unique(values[edges[long]])) < len(long):
        return []
    found = []
    for number in long.tolist():
        run, begin = int(lengths[number]), int(edges[number])
        end, value = begin + run, float(values[begin])
        lasts = int(times[end - 1] - times[begin]) >= settings.frozen_s * NS
        if value != 0.0 and run >= settings.frozen_factor * usual and lasts:
            found.append(Frozen(begin, end, value, usual, end == size))
    return found
