"""The arithmetic of figures: pure folds with a beginning, a step for each unit of input and an end.

A unit is a chunk, or chunks whose times overlap. The state is small JSON, so that one step can be checked without the others. Numbers are
exact decimals. The text of this module is part of every published function's hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from guantong.base.clock import NS, parse_iso

__all__ = ["EXACT", "Outcome", "Row", "State", "Window", "Wrong", "natural", "number", "rounded", "rows_of"]

State = dict[str, Any]
Row = Any
EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_DIGITS = Decimal("0.000001")
_FAULTS_MAX = 500
D2 = Decimal("1.128")
"""Control chart constant for moving ranges of two (ISO 7870-2)."""


class Wrong(Exception):
    """A step does not follow from what was opened."""


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open stretch of time, nanoseconds since the epoch."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a function ends with."""

    value: Decimal | None
    reason: str = ""
    coverage: Decimal = Decimal(1)
    facts: Mapping[str, str] = field(default_factory=dict)


def rows_of(chunks: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of the chunks of one unit. Readings as ``[time, sequence, revision, status, value]``, the highest revision of each, by
    time; measurements and table rows as they are.
    """
    if chunks[0]["table"] != "readings":
        return [chunk["row"] for chunk in chunks]
    newest: dict[tuple[int, int], Row] = {}
    for chunk in chunks:
        times, size = chunk["time"], len(chunk["time"])
        # a column that does not change stands there once
        columns = [
            given if isinstance(given, list) else [given] * size
            for given in (chunk[name] for name in ("sequence", "revision", "status", "value"))
        ]
        for row in zip(times, *columns, strict=True):
            key = (row[0], -1 if row[1] is None else row[1])
            if key not in newest or row[2] >= newest[key][2]:
                newest[key] = list(row)
    return [newest[key] for key in sorted(newest)]


def natural(text: str) -> list[list[Any]]:
    """Numbers by value, words by letter: A2 before A10."""
    return [
        [0, int(piece), ""] if piece.isdigit() else [1, 0, piece] for piece in re.split(r"(\d+)", text or "") if piece
    ]


def number(value: Any) -> Decimal | None:
    """A finite number as an exact decimal, else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value)) if value == value and abs(value) != float("inf") else None
    if isinstance(value, str) and re.fullmatch(
        r"-?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,3})?", value, re.ASCII | re.IGNORECASE
    ):
        return Decimal(value)
    return None


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def rounded(value: Decimal) -> Decimal:
    """Six decimals, half to even: the one rounding of a figure."""
    return value.quantize(_DIGITS, ROUND_HALF_EVEN, Context(prec=60))


def _good(row: Row) -> Any:
    """Value of a reading, None where its status is bad (OPC UA Part 4, 7.39: the two highest bits are 10)."""
    return None if (row[3] >> 30) & 3 == 2 else row[4]


# ---- spans of time


def _clip(spans: Sequence[Sequence[int]], start: int, end: int) -> list[list[int]]:
    joined: list[list[int]] = []
    for lower, upper in sorted([max(one[0], start), min(one[1], end)] for one in spans):
        if lower >= upper:
            continue
        if joined and lower <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], upper)
        else:
            joined.append([lower, upper])
    return joined


def _without(spans: Sequence[Sequence[int]], taken: Sequence[Sequence[int]]) -> list[list[int]]:
    found = [list(one) for one in spans]
    for lower, upper in taken:
        rest: list[list[int]] = []
        for start, end in found:
            if start < min(lower, end):
                rest.append([start, min(lower, end)])
            if max(upper, start) < end:
                rest.append([max(upper, start), end])
        found = rest
    return found


def _length(spans: Sequence[Sequence[int]]) -> int:
    return sum(upper - lower for lower, upper in spans)


def _within(spans: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]] | None) -> list[list[int]]:
    if allowed is None:
        return [list(one) for one in spans]
    return [piece for lower, upper in spans for piece in _clip(allowed, lower, upper)]


# ---- availability and OEE


def machine_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {
        "state": "UNAVAILABLE",
        "since": window.start,
        "at": {},
        "active": 0,
        "busy": 0,
        "observed": 0,
        "faults": [],
        "open": {},
    }


def _spans(parameters: Mapping[str, Any], name: str, window: Window) -> list[list[int]] | None:
    given = parameters.get(name)
    if given is None:
        return None
    return _clip([[parse_iso(str(one[0])), parse_iso(str(one[1]))] for one in given], window.start, window.end)


def _level(value: Any) -> str:
    return "UNAVAILABLE" if value is None else str(value).partition("|")[0].strip().upper() or "UNAVAILABLE"


def _in_order(state: State, stream: str, rows: Sequence[Row]) -> State:
    """The state with the time of the stream's last row; rows come once and in order."""
    if not rows:
        raise Wrong("a unit without rows")
    if rows[0][0] < state["at"].get(stream, -(2**62)):
        raise Wrong(f"rows of {stream} are out of order")
    return {**state, "at": {**state["at"], stream: rows[-1][0]}}


def machine_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    state = _in_order(state, stream, rows)
    if role == "condition":
        faults, open_ = [list(one) for one in state["faults"]], dict(state["open"])
        for row in rows:
            at = max(row[0], window.start)
            if row[0] >= window.end:
                break
            if _level(_good(row)) == "FAULT":
                open_.setdefault(stream, at)
            elif stream in open_:
                faults.append([open_.pop(stream), at])
        faults = _clip(faults, window.start, window.end)
        if len(faults) > _FAULTS_MAX:
            raise Wrong(f"more than {_FAULTS_MAX} stretches of fault: choose a shorter window")
        return {**state, "faults": faults, "open": open_}, 1
    now, since = state["state"], state["since"]
    sums = {name: state[name] for name in ("active", "busy", "observed")}
    for row in rows:
        if row[0] >= window.end:
            break
        if row[0] > since:
            _count(sums, now, since, row[0], state, parameters, window)
            since = row[0]
        value = _good(row)
        now = "UNAVAILABLE" if value is None else str(value).upper()
    return {**state, **sums, "state": now, "since": since}, 1


def _count(
    sums: dict[str, int],
    now: str,
    start: int,
    end: int,
    state: State,
    parameters: Mapping[str, Any],
    window: Window,
) -> None:
    if now == "UNAVAILABLE":
        return
    seen = _without([[start, end]], _spans(parameters, "gaps", window) or [])
    seen = _within(seen, _spans(parameters, "planned", window))
    sums["observed"] += _length(seen)
    sums["busy"] += _length(seen)
    if now == "ACTIVE":
        faults = [*state["faults"], *([at, window.end] for at in state["open"].values())]
        sums["active"] += _length(_without(seen, _clip(faults, window.start, window.end)))


def _machine_end(state: State, parameters: Mapping[str, Any], window: Window) -> tuple[int, int, Decimal]:
    sums = {name: state[name] for name in ("active", "busy", "observed")}
    if window.end > state["since"]:
        _count(sums, state["state"], state["since"], window.end, state, parameters, window)
    planned = _spans(parameters, "planned", window)
    wanted = window.end - window.start if planned is None else _length(planned)
    return sums["active"], sums["busy"], Decimal(sums["observed"]) / wanted if wanted > 0 else Decimal(0)


def availability(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    active, busy, coverage = _machine_end(state, parameters, window)
    facts = {"APT_s": _plain(Decimal(active) / NS), "PBT_s": _plain(Decimal(busy) / NS)}
    if not busy:
        return Outcome(None, "the machine was unavailable for the whole window", coverage, facts)
    return Outcome(Decimal(active) / busy, "", coverage, facts)


def oee_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {**machine_begin(parameters, window), "parts": _counter(), "good": _counter()}


def oee_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    if role in ("parts", "good"):
        return {**state, role: _counted(state[role], rows, window)}, 1
    return machine_step(state, role, stream, rows, parameters, window)


def oee(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    active, busy, coverage = _machine_end(state, parameters, window)
    parts, good = Decimal(state["parts"]["sum"]), Decimal(state["good"]["sum"])
    ideal = Decimal(str(parameters["ideal_cycle_s"]))
    facts = {
        "APT_s": _plain(Decimal(active) / NS),
        "PBT_s": _plain(Decimal(busy) / NS),
        "PQ": _plain(parts),
        "GQ": _plain(good),
    }
    if not busy or not active:
        return Outcome(None, "the machine did not produce in the window", coverage, facts)
    if not parts:
        return Outcome(None, "no part was counted in the window", coverage, facts)
    factors = {
        "availability": Decimal(active) / busy,
        "performance": ideal * parts * NS / active,
        "quality": good / parts,
    }
    facts |= {name: _plain(rounded(value)) for name, value in factors.items()}
    return Outcome(factors["availability"] * factors["performance"] * factors["quality"], "", coverage, facts)


# ---- counters: parts, energy


def _counter() -> State:
    return {"sum": "0", "last": None, "at": None, "first": None, "seen": 0, "resets": 0}


def _counted(counter: State, rows: Sequence[Row], window: Window) -> State:
    """Add the counter's increases; a fall is a reset. What happened before the window is shared out by time."""
    if not rows:
        raise Wrong("a unit without rows")
    if counter["at"] is not None and rows[0][0] < counter["at"]:
        raise Wrong("counter readings are out of order")
    total, last, at = Decimal(counter["sum"]), counter["last"], counter["at"]
    first, seen, resets = counter["first"], counter["seen"], counter["resets"]
    for row in rows:
        value = number(_good(row))
        if value is None or row[0] >= window.end:
            continue
        if row[0] >= window.start:
            if last is not None:
                old = Decimal(last)
                resets += value < old
                step = value if value < old else value - old
                if at < window.start and row[0] > at:
                    step = step * (row[0] - window.start) / (row[0] - at)
                total += step
                first = max(window.start, at) if first is None else first
            elif first is None:
                first = row[0]
            seen += 1
        last, at = _plain(value), row[0]
    return {"sum": _plain(total), "last": last, "at": at, "first": first, "seen": seen, "resets": resets}


def _coverage(counter: State, window: Window) -> Decimal:
    if counter["first"] is None or counter["at"] is None:
        return Decimal(0)
    return Decimal(max(0, counter["at"] - counter["first"])) / (window.end - window.start)


def energy_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {"parts": _counter(), "energy": _counter()}


def energy_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    after = _counted(state[role], rows, window)
    moved = Decimal(after["sum"]) - Decimal(state[role]["sum"])
    # in millionths, and never nothing: a chunk that claims no increase may be wrong too
    return {**state, role: after}, int(moved * 1_000_000) + 1


def _energy_per_part(state: State, parameters: Mapping[str, Any], window: Window, factor: Decimal) -> Outcome:
    energy = Decimal(state["energy"]["sum"]) * Decimal(str(parameters.get("scale", "1")))
    parts = Decimal(state["parts"]["sum"])
    coverage = min(_coverage(state["energy"], window), _coverage(state["parts"], window))
    facts = {"energy_kWh": _plain(rounded(energy)), "parts": _plain(parts), "resets": str(state["energy"]["resets"])}
    if (
        state["energy"]["seen"] < 1
        or state["energy"]["first"] is None
        or state["energy"]["at"] == state["energy"]["first"]
    ):
        return Outcome(None, "the energy counter has fewer than two readings", coverage, facts)
    if not parts:
        return Outcome(None, "no part was counted in the window", coverage, facts)
    return Outcome(energy * factor / parts, "", coverage, facts)


def energy(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    return _energy_per_part(state, parameters, window, Decimal(1))


def carbon(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    found = _energy_per_part(state, parameters, window, Decimal(str(parameters["kg_per_kwh"])))
    named = {name: str(parameters.get(name, "")) for name in ("factor", "gas", "basis", "year", "source")}
    return Outcome(found.value, found.reason, found.coverage, {**found.facts, **named})


# ---- capability of a measured characteristic


def cpk_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {"n": 0, "rows": 0, "sum": "0", "ranges": "0", "last": None, "key": None, "differ": 0}


def cpk_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    row = max(rows, key=lambda one: one["revision"])
    key: list[Any] = natural(str(row["part"]))
    if parameters.get("order") == "time":
        if row["time"] is None:
            raise Wrong("a value has no time, but the order is by time")
        key = [[0, row["time"], ""], *key]
    if row["time"] is not None and not window.start <= row["time"] < window.end:
        raise Wrong("a value was measured outside the window")
    if state["key"] is not None and key <= state["key"]:
        raise Wrong("values are out of order, or one part is counted twice")
    value = number(row["value"])
    state = {**state, "rows": state["rows"] + 1, "key": key}
    if value is None:
        return state, 1
    given = [None if parameters.get(name) is None else Decimal(str(parameters[name])) for name in ("lower", "upper")]
    differ = [number(row["lower"]), number(row["upper"])] != given
    moved = Decimal(0) if state["last"] is None else abs(value - Decimal(state["last"]))
    return {
        **state,
        "n": state["n"] + 1,
        "sum": _plain(Decimal(state["sum"]) + value),
        "ranges": _plain(Decimal(state["ranges"]) + moved),
        "last": _plain(value),
        "differ": state["differ"] + differ,
    }, 1


def cpk(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    n = state["n"]
    coverage = Decimal(n) / state["rows"] if state["rows"] else Decimal(0)
    lower, upper = (
        None if parameters.get(name) is None else Decimal(str(parameters[name])) for name in ("lower", "upper")
    )
    facts = {"n": str(n), "unit": str(parameters.get("unit", "")), "limitsDiffer": str(state["differ"])}
    if (lower is None) != (upper is None):
        facts["sides"] = "one"
    if n < 2:
        return Outcome(None, "fewer than two values", coverage, facts)
    if lower is None and upper is None:
        return Outcome(None, "no tolerance limit is declared", coverage, facts)
    if lower is not None and upper is not None and not lower < upper:
        return Outcome(None, "the declared limits are not in order", coverage, facts)
    centre = Decimal(state["sum"]) / n
    sigma = Decimal(state["ranges"]) / (n - 1) / D2
    facts |= {"mean": _plain(rounded(centre)), "sigma": _plain(rounded(sigma))}
    if sigma <= Decimal("1e-12") * max(Decimal(1), abs(centre)):
        return Outcome(None, "the values do not vary", coverage, facts)
    sides = [] if upper is None else [(upper - centre) / (3 * sigma)]
    sides += [] if lower is None else [(centre - lower) / (3 * sigma)]
    return Outcome(min(sides), "", coverage, facts)


# ---- orders


def _moment(value: Any) -> int | None:
    """Instant of a cell; a date alone means the end of that day."""
    if value is None or str(value).strip() == "":
        return None
    text = str(value).strip()
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return parse_iso(text + "T00:00:00Z") + 86_400 * NS - 1
    return parse_iso(text)


def orders_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {"key": None, "due": 0, "kept": 0, "open": "0", "done": "0", "orders": 0}


def orders_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    row = max(rows, key=lambda one: one["log_position"])
    key = natural(str(row[parameters["order"]]))
    if any(natural(str(one[parameters["order"]])) != key for one in rows):
        raise Wrong("a unit holds two orders")
    if state["key"] is not None and key <= state["key"]:
        raise Wrong("orders are out of order, or one is counted twice")
    due, done = _moment(row.get(parameters["due"])), _moment(row.get(parameters["delivered"]))
    quantity = number(row.get(parameters.get("quantity", ""), 1)) or Decimal(0)
    after = {**state, "key": key, "orders": state["orders"] + 1}
    if due is not None and window.start <= due < window.end:
        after["due"] += 1
        after["kept"] += done is not None and done <= due
    if done is None or done >= window.end:
        after["open"] = _plain(Decimal(state["open"]) + quantity)
    elif done >= window.start:
        after["done"] = _plain(Decimal(state["done"]) + quantity)
    return after, 1


def on_time(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    facts = {"due": str(state["due"]), "onTime": str(state["kept"]), "orders": str(state["orders"])}
    if not state["due"]:
        return Outcome(None, "no order was due in the window", Decimal(0), facts)
    return Outcome(Decimal(state["kept"]) / state["due"], "", Decimal(1), facts)


def cover(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    facts = {"open": state["open"], "delivered": state["done"], "orders": str(state["orders"])}
    done = Decimal(state["done"])
    if not done:
        return Outcome(None, "nothing was delivered in the window, so there is no pace", Decimal(0), facts)
    days = Decimal(window.end - window.start) / (86_400 * NS)
    return Outcome(Decimal(state["open"]) * days / done, "", Decimal(1), facts)


# ---- figures of figures


def cited_begin(parameters: Mapping[str, Any], window: Window) -> State:
    return {"n": 0, "undefined": 0, "sum": "0", "least": None, "unit": None, "key": None}


def cited_step(
    state: State, role: str, stream: str, rows: Sequence[Row], parameters: Mapping[str, Any], window: Window
) -> tuple[State, int]:
    (row,) = rows
    if state["key"] is not None and row["figure"] <= state["key"]:
        raise Wrong("cited figures are out of order, or one is counted twice")
    if state["unit"] not in (None, row["unit"]):
        raise Wrong("figures of different units can't be put together")
    after = {**state, "key": row["figure"], "unit": row["unit"]}
    if row["value"] is None:
        return {**after, "undefined": state["undefined"] + 1}, 1
    value = Decimal(row["value"])
    least = value if state["least"] is None else min(value, Decimal(state["least"]))
    return {
        **after,
        "n": state["n"] + 1,
        "sum": _plain(Decimal(state["sum"]) + value),
        "least": _plain(least),
    }, 1


def _cited_outcome(state: State, value: Callable[[], Decimal]) -> Outcome:
    every = state["n"] + state["undefined"]
    facts = {"figures": str(every), "undefined": str(state["undefined"]), "unit": state["unit"] or ""}
    if not state["n"]:
        return Outcome(None, "none of the cited figures is defined", Decimal(0), facts)
    return Outcome(value(), "", Decimal(state["n"]) / every, facts)


def mean(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    return _cited_outcome(state, lambda: Decimal(state["sum"]) / state["n"])


def least(state: State, parameters: Mapping[str, Any], window: Window) -> Outcome:
    return _cited_outcome(state, lambda: Decimal(state["least"]))
