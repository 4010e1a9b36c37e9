"""Quality of a signal's readings, row by row: one flag a check and row, as columns, in Polars.

Flags are QARTOD's (Manual for Real-Time Oceanographic Data Quality Control Flags, version 1.2, 2020; the scheme is domain-neutral):
1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing. A check whose limits nobody stated is not evaluated: nothing is filled in. The
counts of each check can be recomputed: ``evaluated`` is passes, suspects and fails, ``passed`` is passes, and the limits stand beside.

Gross range, rate of change, spike, flat line and attenuated signal mean what they mean in the QARTOD manuals as the package ioos_qc
applies them (the tests compare both); where a neighbour that a check needs is missing, the row is not evaluated.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem
from guantong.fuse.stretches import medians_of_five

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CHECKS", "FAIL", "FLAGS", "MISSING", "NOT_EVALUATED", "PASS", "RULE_VERSION", "SUSPECT", "CheckResult", "Limits", "SignalQuality",
    "evaluate", "flags", "frame_of", "limits_from", "proposed_limits",
]  # fmt: skip

PASS, NOT_EVALUATED, SUSPECT, FAIL, MISSING = 1, 2, 3, 4, 9
FLAGS: Mapping[int, tuple[str, str]] = {
    1: ("pass", "通过"),
    2: ("not evaluated", "未评定"),
    3: ("suspect", "可疑"),
    4: ("fail", "不通过"),
    9: ("missing", "缺失"),
}
"""QARTOD flags with their names in English and Chinese."""

CHECKS: Mapping[str, tuple[str, str]] = {
    "gap": ("Gap", "缺口"),
    "syntax": ("Syntax", "格式"),
    "gross_range": ("Gross range", "量程"),
    "rate_of_change": ("Rate of change", "变化率"),
    "spike": ("Spike", "尖峰"),
    "flat_line": ("Flat line", "平直"),
    "attenuated": ("Attenuated signal", "信号衰减"),
    "neighbour": ("Neighbour", "邻近信号"),
    "duplicate": ("Duplicate", "重复"),
    "clock": ("Clock", "时钟"),
    "unit_jump": ("Unit jump", "单位突变"),
    "quantisation": ("Quantisation change", "量化步长变化"),
    "counter_reset": ("Counter reset", "计数器复位"),
    "timeliness": ("Timeliness", "及时性"),
    "availability": ("Availability", "可用性"),
}
"""Checks in their order, with their names."""

RULE_VERSION = 1
"""Of these kernels; raised when a result could change."""

UNIT_FACTORS = (1000.0, 100.0, 10.0, 60.0, 3600.0, 25.4, 6.894757, 3.6)
"""Ratios of levels that a mixed-up unit leaves behind: SI prefixes, minutes and hours, inch, psi and kPa, m/s and km/h."""

_IMPORTED_NS = 86_400 * NS
"""Where readings are received later than this on the median, they were read from a file: receive time says nothing about the source."""

_CHUNK = 512
"""Rows over which the step between values (quantisation) is judged."""

_BLOCK = 131_072
"""Rows worked on at once."""

_AHEAD = 8
"""Rows after a row that its checks may look at."""

_MOVES = 16
"""Changes of value that such a stretch needs."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a signal's readings are held against. None: nobody stated it, the check isn't evaluated. Spans are closed."""

    interval_s: float | None = None
    """Expected distance of readings; None: the median of the readings themselves, which is stated in the result."""
    gap_factor: float = 3.0
    """A longer distance than so many intervals is a gap."""
    fail_span: Span | None = None
    """Least and greatest value the sensor can give."""
    suspect_span: Span | None = None
    """Least and greatest value the process gives; within ``fail_span``."""
    rate_suspect: float | None = None
    """Change in units a second."""
    rate_fail: float | None = None
    spike_suspect: float | None = None
    """Distance from the mean of both neighbours."""
    spike_fail: float | None = None
    flat_suspect_s: float | None = None
    """A value may stand still so long."""
    flat_fail_s: float | None = None
    flat_tolerance: float = 0.0
    """Values nearer than this are the same; 0: exactly equal ones."""
    attenuated_s: float | None = None
    """Length of the window whose standard deviation is looked at."""
    attenuated_suspect: float | None = None
    """Least standard deviation (of the population)."""
    attenuated_fail: float | None = None
    attenuated_rows: int = 8
    """Rows that the window needs."""
    neighbour: int | None = None
    """Id of the signal that this one is compared with."""
    neighbour_suspect: float | None = None
    """Greatest difference to the neighbouring signal's current value."""
    neighbour_fail: float | None = None
    counter: bool | None = None
    """Whether the signal only ever grows (meter, parts made)."""
    unit_tolerance: float = 0.05
    """How near the ratio of levels must be to a factor of units, relative."""
    quantisation_factor: float = 5.0
    """A step between values that is so many times coarser or finer than before is a change."""
    future_s: float = 1.0
    """How far source time may be ahead of receive time."""
    step_s: float = 2.0
    """How far the least delay may move at once."""
    late_suspect_s: float | None = None
    """Receive time minus source time."""
    late_fail_s: float | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check over one window."""

    check: str
    rows: int
    flags: Mapping[int, int]
    """How many rows have each flag; for availability, expected intervals."""
    evaluated: int
    """Denominator: passes, suspects and fails."""
    passed: int
    """Numerator."""
    limits: Mapping[str, object]
    """What was held against; empty where nothing was stated."""


@dataclass(frozen=True, slots=True)
class SignalQuality:
    """Everything about one signal over one window."""

    signal_id: int
    start: int | None
    end: int | None
    rows: int
    flags: Mapping[int, int]
    """Of all row checks together: the worst one of each row decides (fail, suspect, pass, not evaluated); missing where there is no value."""
    checks: tuple[CheckResult, ...]
    interval_s: float | None
    """The distance of readings that gaps and availability were judged by."""
    rule_version: int = RULE_VERSION
    worst: tuple[Mapping[str, object], ...] = field(default=())
    """The first rows that fail or are suspect: time (ns), value, and the checks that say so."""


def limits_from(document: Mapping[str, Any]) -> Limits:
    """Limits from plain JSON. Raises ConfigProblem ``fuse.limits-invalid``: unknown name, wrong kind of value, spans that don't nest."""
    known = {one.name: one for one in fields(Limits)}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            raise ConfigProblem("fuse.limits-invalid", reason=f"{name}: no such limit")
        if value is None:
            continue
        if name.endswith("_span"):
            if not (
                isinstance(value, list | tuple)
                and len(value) == 2
                and all(map(_number, value))
                and value[0] <= value[1]
            ):
                raise ConfigProblem("fuse.limits-invalid", reason=f"{name}: two numbers, the lesser first")
            values[name] = (float(value[0]), float(value[1]))
        elif name == "counter":
            if not isinstance(value, bool):
                raise ConfigProblem("fuse.limits-invalid", reason="counter: true or false")
            values[name] = value
        elif name in ("attenuated_rows", "neighbour"):
            if not (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**31):
                raise ConfigProblem("fuse.limits-invalid", reason=f"{name}: a whole number from 1")
            values[name] = value
        elif not _number(value) or value < 0 or (value == 0 and name in ("interval_s", "gap_factor")):
            raise ConfigProblem("fuse.limits-invalid", reason=f"{name}: a number, not negative")
        else:
            values[name] = float(value)
    made = Limits(**values)
    if made.fail_span and made.suspect_span:
        (low, high), (inner_low, inner_high) = made.fail_span, made.suspect_span
        if inner_low < low or inner_high > high:
            raise ConfigProblem("fuse.limits-invalid", reason="suspect_span: it must lie within fail_span")
    return made


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def frame_of(rows: Any, *, neighbour: Any = None) -> pl.DataFrame:
    """Clean rows (an Arrow table of one signal, by time) as the kernels read them.

    Columns: ``time`` and ``receive`` (ns), ``value`` (float64; integers and booleans become numbers here and only here), ``there``
    (whether the row has any value), ``number`` (whether it is one), ``bad`` (status), ``position``, ``sequence`` and ``neighbour``,
    the current value of the neighbouring signal's rows, if given.
    """
    import polars as pl

    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    numeric = pl.coalesce("value_f64", pl.col("value_i64").cast(pl.Float64), pl.col("value_bool").cast(pl.Float64))
    made = frame.select(
        time=pl.col("source_time").dt.epoch("us") * 1000 + pl.col("source_ns"),
        receive=pl.col("receive_time").dt.epoch("us") * 1000,
        value=numeric,
        there=numeric.is_not_null() | pl.col("value_text").is_not_null(),
        bad=pl.col("status") >= BAD,
        position="log_position",
        sequence="sequence",
    )
    if neighbour is None:
        return made.with_columns(neighbour=pl.lit(None, pl.Float64))
    other = frame_of(neighbour).filter(~pl.col("bad")).select("time", neighbour="value").drop_nulls()
    return made.join_asof(other, on="time", strategy="backward")


@functools.cache
def _literal(flag: int) -> pl.Expr:
    """A flag as a column's value; making one takes longer than comparing a thousand rows."""
    import polars as pl

    return pl.lit(flag, pl.UInt8)


def _flag(fail: pl.Expr | None, suspect: pl.Expr | None, evaluated: pl.Expr | None, missing: pl.Expr | None) -> pl.Expr:
    """One column of flags; where a condition is null the row isn't evaluated."""
    import polars as pl

    passed = _literal(PASS)
    known = None
    for condition in (fail, suspect):
        if condition is not None:
            known = condition.is_not_null() if known is None else known & condition.is_not_null()
    if evaluated is not None:
        known = evaluated if known is None else known & evaluated
    found = passed
    if suspect is not None:
        found = pl.when(suspect).then(_literal(SUSPECT)).otherwise(found)
    if fail is not None:
        found = pl.when(fail).then(_literal(FAIL)).otherwise(found)
    if known is not None:
        found = pl.when(known).then(found).otherwise(_literal(NOT_EVALUATED))
    if missing is not None:
        found = pl.when(missing).then(_literal(MISSING)).otherwise(found)
    return found


def _over(value: pl.Expr, limit: float | None) -> pl.Expr | None:
    return None if limit is None else value > limit


def flags(frame: pl.DataFrame, limits: Limits, *, interval_s: float | None = None, block: int = _BLOCK) -> pl.DataFrame:
    """A column of flags for each row check that has limits; ``frame`` as :func:`frame_of` makes it, one signal, by time.

    Worked on in blocks that the processor's cache holds, each with the rows before and after it that its checks look at: the answer
    is the same for every ``block`` (a multiple of 512).
    """
    import polars as pl

    if not frame.height:
        return _flags(frame.with_columns(overtaken=pl.lit(value=False), before="value"), limits, interval_s, live=False)
    overtaken = pl.lit(value=False)
    if not frame["position"].is_sorted():  # a later row arrived in an earlier log entry
        overtaken = pl.col("position").reverse().cum_min().reverse().shift(-1) < pl.col("position")
    sound = pl.when(~pl.col("bad") & pl.col("value").is_not_nan()).then("value")
    frame = frame.with_columns(
        overtaken=overtaken.fill_null(value=False),
        before=sound.forward_fill().shift(1) if limits.counter else pl.lit(None, pl.Float64),
    )
    some = frame.gather_every(max(1, frame.height // 10_000))
    delay = some.select((pl.col("receive") - pl.col("time")).median()).item()
    live = delay is not None and delay < _IMPORTED_NS
    lead = -(-max(2 * _CHUNK, _looks_back(frame, limits, interval_s)) // _CHUNK) * _CHUNK
    if frame.height <= block + lead:
        return _flags(frame, limits, interval_s, live=live)
    pieces = []
    for begin in range(0, frame.height, block):
        first = max(0, begin - lead)
        piece = frame.slice(first, begin - first + block + _AHEAD)
        pieces.append(_flags(piece, limits, interval_s, live=live).slice(begin - first, block))
    return pl.concat(pieces)


def _looks_back(frame: pl.DataFrame, limits: Limits, interval_s: float | None) -> int:
    """How many rows before a row its checks look at."""
    import numpy as np

    rows = 64
    for seconds in (limits.flat_suspect_s, limits.flat_fail_s):
        if seconds is not None and interval_s:
            rows = max(rows, int(seconds / interval_s) + 2)
    if limits.attenuated_s is not None:
        times, window = frame["time"].to_numpy(), int(limits.attenuated_s * NS)
        steps = np.diff(times)
        if len(steps) and steps[0] > 0 and steps.min() == steps.max():
            return max(rows, -(-window // int(steps[0])) + 2)
        first = np.searchsorted(times, times - window, "right")
        rows = max(rows, int((np.arange(len(times)) - first).max()) + 2)
    return rows


def _flags(frame: pl.DataFrame, limits: Limits, interval_s: float | None, *, live: bool) -> pl.DataFrame:
    import polars as pl

    value, time = pl.col("value"), pl.col("time")
    missing = pl.col("bad") | ~pl.col("there")
    blank = value.is_null() | value.is_nan() | pl.col("bad")
    frame = frame.with_columns(blank=blank, step=time.diff())
    # without the bitmap of nulls the kernels run twice as fast
    good = pl.when("blank").then(None).otherwise(value) if frame["blank"].any() else value
    frame = frame.with_columns(good=good)
    plain = frame["good"].fill_null(float("nan")).to_numpy()
    good, blank, step = pl.col("good"), pl.col("blank"), pl.col("step")
    columns: dict[str, pl.Expr] = {
        # text where numbers are usual, or no finite number
        "syntax": _flag(value.is_null() | ~value.is_finite(), None, None, missing),
        "duplicate": _flag(
            None, (step == 0) & (good == good.shift(1)).fill_null(value=False), step.is_not_null(), missing
        ),
    }
    if interval_s:
        longest = int(limits.gap_factor * interval_s * NS)
        columns["gap"] = _flag(None, step > longest, None, None)
    if limits.fail_span or limits.suspect_span:
        fail = None if limits.fail_span is None else ~good.is_between(*limits.fail_span)
        suspect = None if limits.suspect_span is None else ~good.is_between(*limits.suspect_span)
        columns["gross_range"] = _flag(fail, suspect, None, blank)
    if limits.rate_suspect is not None or limits.rate_fail is not None:
        moved = step > 0
        rate = pl.when(moved).then(good.diff().abs() / (step / NS))
        columns["rate_of_change"] = _flag(_over(rate, limits.rate_fail), _over(rate, limits.rate_suspect), None, blank)
    if limits.spike_suspect is not None or limits.spike_fail is not None:
        away = (good - (good.shift(1) + good.shift(-1)) / 2).abs()
        columns["spike"] = _flag(_over(away, limits.spike_fail), _over(away, limits.spike_suspect), None, blank)
    if interval_s and (limits.flat_suspect_s is not None or limits.flat_fail_s is not None):
        still = {
            name: _still(plain, seconds, interval_s, limits.flat_tolerance)
            for name, seconds in (("still_fail", limits.flat_fail_s), ("still_suspect", limits.flat_suspect_s))
            if seconds is not None
        }
        frame = frame.with_columns(**still)
        least, most = (pl.col(name) if name in still else None for name in ("still_suspect", "still_fail"))
        columns["flat_line"] = _flag(most, least, None, blank)
    if limits.attenuated_s is not None and (
        limits.attenuated_suspect is not None or limits.attenuated_fail is not None
    ):
        spread = _spread(frame, int(limits.attenuated_s * NS), limits.attenuated_rows)
        under = [None if one is None else spread < one for one in (limits.attenuated_fail, limits.attenuated_suspect)]
        columns["attenuated"] = _flag(under[0], under[1], None, blank)
    if limits.neighbour_suspect is not None or limits.neighbour_fail is not None:
        apart = (good - pl.col("neighbour")).abs()
        columns["neighbour"] = _flag(
            _over(apart, limits.neighbour_fail), _over(apart, limits.neighbour_suspect), None, blank
        )
    if limits.counter:
        back = good < pl.col("before")
        fresh = back & (good.abs() <= 0.1 * pl.col("before").abs())
        columns["counter_reset"] = _flag(back & ~fresh, fresh, None, blank)
    delay = pl.col("receive") - time
    if live:
        floor = delay.rolling_min(16, min_samples=8)
        moved = (floor - floor.shift(16)).abs() > int(limits.step_s * NS)
        columns["clock"] = _flag(
            time > pl.col("receive") + int(limits.future_s * NS),
            pl.col("overtaken") | moved.fill_null(value=False),
            None,
            None,
        )
        if limits.late_suspect_s is not None or limits.late_fail_s is not None:
            late = delay / NS
            columns["timeliness"] = _flag(
                _over(late, limits.late_fail_s), _over(late, limits.late_suspect_s), None, None
            )
    frame = frame.with_columns(_jumps(plain, limits.unit_tolerance).alias("jump"))
    columns["unit_jump"] = _flag(None, pl.col("jump"), None, blank)
    # lazily, so that what several checks need is worked out once
    made = frame.lazy().select(**columns).collect()
    return made.with_columns(pl.Series("quantisation", _quantised(plain, limits.quantisation_factor)))


def _spread(frame: pl.DataFrame, window: int, rows: int) -> pl.Expr:
    """Standard deviation (population) of the values in the half-open window before and at each row; null below so many rows."""
    import polars as pl

    good = pl.col("good")
    steps = frame["step"].drop_nulls()
    every = steps[0] if len(steps) else 0
    if every > 0 and window >= every * rows and (steps == every).all():  # counted rows are five times as fast as times
        return good.rolling_std(-(-window // every), min_samples=rows, ddof=0)
    return good.rolling_std_by("time", f"{window}i", min_samples=rows, closed="right", ddof=0)


def _still(good: Any, seconds: float | None, interval_s: float, tolerance: float) -> Any:
    """Whether the values of so long a window, ending at the row, are the same; the first rows, before a whole window, are not."""
    import numpy as np
    import polars as pl

    if seconds is None:
        return None
    rows = int(int(seconds) / interval_s) + 1
    if tolerance > 0:
        series = pl.Series(good, nan_to_null=bool(np.isnan(good).any()))
        least = series.rolling_min(rows, min_samples=rows)
        return ((series.rolling_max(rows, min_samples=rows) - least) < tolerance).fill_null(value=False)
    at = np.arange(len(good))
    at[1:][good[1:] == good[:-1]] = 0
    return pl.Series(np.arange(len(good)) - np.maximum.accumulate(at) >= rows - 1)


def _jumps(good: Any, tolerance: float) -> pl.Series:
    """Whether the level (median of five) is a factor of units away from the level before, at the first row of the new level."""
    import numpy as np
    import polars as pl

    found = np.zeros(len(good), np.bool_)
    if len(good) < 10:
        return pl.Series(found)
    medians = medians_of_five(good)
    before, after = medians[: len(good) - 9], medians[5 : len(good) - 4]
    with np.errstate(all="ignore"):
        ratio = np.abs(after / before)
        rows = np.flatnonzero(np.abs(ratio - 1) > 4 * tolerance)
        if not len(rows):
            return pl.Series(found)
        old, new, ratio = before[rows], after[rows], ratio[rows]
        here, last = good[rows + 5], good[rows + 4]
        # the row itself is on the new level already, the one before was on the old
        edge = (np.abs(here - new) < np.abs(here - old)) & (np.abs(last - old) < np.abs(last - new))
        off = np.zeros(len(rows), np.bool_)
        for factor in UNIT_FACTORS:
            off |= (np.abs(ratio / factor - 1) <= tolerance) | (np.abs(ratio * factor - 1) <= tolerance)
        # degrees Celsius and Fahrenheit: no factor, a line
        for one, other in ((old, new), (new, old)):
            off |= np.abs(other / (one * 1.8 + 32.0) - 1) <= tolerance / 5
    found[rows[edge & off] + 5] = True
    return pl.Series(found)


def _quantised(good: Any, factor: float) -> Any:
    """Flags of the change of the step between values: a stretch whose values are multiples of a step, beside one with another step.

    Stretches are of 512 rows; a stretch is quantised where every change of value is a whole number of its smallest one, to 1e-6.
    """
    import numpy as np

    size = len(good)
    chunks = -(-size // _CHUNK)
    found = np.full(size, NOT_EVALUATED, np.uint8)
    if chunks < 2:
        return found
    flat = np.full(chunks * _CHUNK, np.nan)
    np.abs(np.diff(good), out=flat[1:size])
    flat[flat == 0] = np.nan
    change = flat.reshape(chunks, _CHUNK)
    change[:, 0] = np.nan  # between two stretches: of neither
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a stretch without a change has no least one
        step = np.fmin.reduce(change, axis=1)
        off = change / step[:, None]
        most = np.fmax.reduce(off, axis=1)
        np.subtract(off, np.rint(off), out=off)
        whole = (np.fmax.reduce(np.abs(off, out=off), axis=1) < 1e-6) & (most < 1e6)
        ratio = step[1:] / step[:-1]
        enough = np.count_nonzero(~np.isnan(change), axis=1) >= _MOVES
        judged = enough[1:] & enough[:-1]
        changed = judged & ((ratio >= factor) & whole[1:] | (ratio <= 1 / factor) & whole[:-1])
    flag = np.full(chunks, NOT_EVALUATED, np.uint8)
    flag[1:][judged] = PASS
    flag[1:][changed] = SUSPECT
    found = np.repeat(flag, _CHUNK)[:size]
    found[np.isnan(good)] = MISSING
    return found


def evaluate(
    frame: pl.DataFrame,
    limits: Limits,
    *,
    signal_id: int = 0,
    start: int | None = None,
    end: int | None = None,
    shown: int = 20,
) -> SignalQuality:
    """All checks of one signal over one window, counted; the window's ends (ns) are those of the rows where they aren't given."""
    import numpy as np

    interval = limits.interval_s or _interval(frame)
    columns = flags(frame, limits, interval_s=interval)
    stated = {one.name: getattr(limits, one.name) for one in fields(Limits) if getattr(limits, one.name) is not None}
    checks = []
    for name in CHECKS:
        held = {key: value for key, value in stated.items() if key in _HELD.get(name, ())}
        if name == "availability":
            checks.append(_availability(frame, interval, start, end))
        elif name in columns.columns:
            if name == "gap" and interval:
                held["interval_s"] = interval
            checks.append(_result(name, frame.height, _counted(columns[name].to_numpy()), held))
        else:
            checks.append(_result(name, frame.height, {NOT_EVALUATED: frame.height}, {}))
    missing = (frame["bad"] | ~frame["there"]).to_numpy()
    # availability and gap speak of what isn't there, not of the row
    rank = np.zeros(10, np.uint8)
    rank[[PASS, SUSPECT, FAIL]] = 1, 2, 3
    ranked = np.zeros(frame.height, np.uint8)
    for name in columns.columns:
        if name != "gap":
            np.maximum(ranked, rank[columns[name].to_numpy()], out=ranked)
    overall = np.array([NOT_EVALUATED, PASS, SUSPECT, FAIL], np.uint8)[ranked]
    overall[missing] = MISSING
    found = []
    for index in np.flatnonzero((overall == FAIL) | (overall == SUSPECT))[:shown].tolist():
        row = columns.row(index, named=True)
        value = frame["value"][index]
        found.append(
            {
                "time": int(frame["time"][index]),
                "value": value if value is None or abs(value) < float("inf") else str(value),
                "checks": {name: flag for name, flag in row.items() if flag in (SUSPECT, FAIL)},
            }
        )
    return SignalQuality(
        signal_id,
        start,
        end,
        frame.height,
        _counted(overall),
        tuple(checks),
        interval,
        worst=tuple(found),
    )


_HELD: Mapping[str, tuple[str, ...]] = {
    "gap": ("interval_s", "gap_factor"),
    "gross_range": ("fail_span", "suspect_span"),
    "rate_of_change": ("rate_suspect", "rate_fail"),
    "spike": ("spike_suspect", "spike_fail"),
    "flat_line": ("flat_suspect_s", "flat_fail_s", "flat_tolerance"),
    "attenuated": ("attenuated_s", "attenuated_suspect", "attenuated_fail", "attenuated_rows"),
    "neighbour": ("neighbour", "neighbour_suspect", "neighbour_fail"),
    "clock": ("future_s", "step_s"),
    "unit_jump": ("unit_tolerance",),
    "quantisation": ("quantisation_factor",),
    "counter_reset": ("counter",),
    "timeliness": ("late_suspect_s", "late_fail_s"),
}
"""Limits by check."""


def _counted(column: Any) -> dict[int, int]:
    import numpy as np

    return {flag: count for flag, count in enumerate(np.bincount(column, minlength=10).tolist()) if count}


def _result(name: str, rows: int, counted: Mapping[int, int], held: Mapping[str, object]) -> CheckResult:
    evaluated = sum(counted.get(flag, 0) for flag in (PASS, SUSPECT, FAIL))
    return CheckResult(name, rows, dict(sorted(counted.items())), evaluated, counted.get(PASS, 0), held)


def _interval(frame: pl.DataFrame) -> float | None:
    """The usual distance of readings in seconds: the median of those above zero."""
    import polars as pl

    found = frame.select(pl.col("time").diff().filter(pl.col("time").diff() > 0).median()).item()
    return None if found is None else float(found) / NS


def _availability(frame: pl.DataFrame, interval: float | None, start: int | None, end: int | None) -> CheckResult:
    """Of the intervals that the window has, how many hold a reading that isn't bad."""
    import polars as pl

    if not interval or not frame.height:
        return _result("availability", frame.height, {}, {})
    width = max(1, int(interval * NS))
    first, last = int(frame["time"][0]), int(frame["time"][-1])
    begin = first if start is None else start
    finish = last + width if end is None else end
    expected = max(1, -(-(finish - begin) // width))
    slots = frame.filter(~pl.col("bad") & pl.col("there") & pl.col("time").is_between(begin, finish, closed="left"))
    held = min(expected, slots.select(((pl.col("time") - begin) // width).n_unique()).item())
    return _result("availability", frame.height, {PASS: held, FAIL: expected - held}, {"interval_s": interval})


def proposed_limits(frame: pl.DataFrame) -> Limits:
    """Limits that a person may state, read off good history: for a look, never put in force by themselves.

    Spans and thresholds are the 0.1 % and 99.9 % quantiles, widened by half their width (suspect) and by five times (fail).
    """
    import polars as pl

    good = frame.filter(~pl.col("bad") & pl.col("value").is_finite())
    if good.height < 100:
        return Limits()
    values = good["value"]
    low, high = float(values.quantile(0.001) or 0.0), float(values.quantile(0.999) or 0.0)
    width = (high - low) or abs(high) or 1.0
    away = (values - (values.shift(1) + values.shift(-1)) / 2).abs().drop_nulls()
    pace = (values.diff().abs() / (good["time"].diff() / NS)).filter(good["time"].diff() > 0).drop_nulls()
    spike, rate = float(away.quantile(0.999) or 0.0), float(pace.quantile(0.999) or 0.0)
    interval = _interval(good)
    return Limits(
        interval_s=interval,
        fail_span=(low - 5 * width, high + 5 * width),
        suspect_span=(low - width / 2, high + width / 2),
        rate_suspect=2 * rate or None,
        rate_fail=10 * rate or None,
        spike_suspect=2 * spike or None,
        spike_fail=10 * spike or None,
        counter=bool((values.diff().drop_nulls() >= 0).all() and values.n_unique() > 10) or None,
    )
