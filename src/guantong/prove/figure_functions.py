"""The published functions of figures, each with its definition, unit, source clause and a test of its own.

A function is named ``id@version`` and by its hash, which covers the text of this module and of :mod:`guantong.prove.figure_folds`:
another text is another function. Numbers are exact decimals (50 digits, half even); a figure is rounded once, at the end.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

from guantong.base.clock import NS
from guantong.prove import figure_folds as folds
from guantong.prove.figure_folds import EXACT, Outcome, Row, State, Window, Wrong, natural, rounded, rows_of

__all__ = [
    "FUNCTIONS",
    "Function",
    "Outcome",
    "Window",
    "Wrong",
    "function_hash",
    "natural",
    "rows_of",
    "run_example",
]


@dataclass(frozen=True, slots=True)
class Function:
    """A published function."""

    id: str
    version: str
    unit: str
    """UCUM; ``1`` for a plain number, ``@unit`` for the unit that the parameters name."""
    roles: tuple[str, ...]
    """In the order in which they are folded; a role in brackets may be absent."""
    en: str
    zh: str
    definition: str
    """Formula with its source clause."""
    begin: Callable[[Mapping[str, Any], Window], State]
    step: Callable[[State, str, str, Sequence[Row], Mapping[str, Any], Window], tuple[State, int]]
    """(state, role, stream, rows, parameters, window) to the next state and the step's contribution, a whole number >= 0."""
    finish: Callable[[State, Mapping[str, Any], Window], Outcome]
    weighted: str = "positions"
    """What draws are weighted by: ``positions`` (each alike) or ``contributions`` (sums)."""
    example: tuple[tuple[tuple[str, str, tuple[Row, ...]], ...], Mapping[str, Any], Window, str | None] = (
        (),
        {},
        Window(0, 1),
        None,
    )
    """A test that travels with the function: ((role, stream, rows), …), parameters, window, value as text."""

    @property
    def name(self) -> str:
        """``id@version``."""
        return f"{self.id}@{self.version}"


@cache
def _text() -> bytes:
    names = ("figure_folds.py", "figure_functions.py")
    return b"".join(pkgutil.get_data("guantong.prove", name) or b"" for name in names)


def function_hash(function: Function) -> str:
    """``sha256:`` over the name and the text of both modules, line ends as LF."""
    return "sha256:" + hashlib.sha256(function.name.encode() + b"\n" + _text().replace(b"\r\n", b"\n")).hexdigest()


def _exact(function: Function) -> Function:
    """The function with its arithmetic bound to this module's precision, whatever the caller's decimal context is."""

    def step(*given: Any) -> tuple[State, int]:
        with localcontext(EXACT):
            return function.step(*given)

    def finish(*given: Any) -> Outcome:
        with localcontext(EXACT):
            found = function.finish(*given)
            return Outcome(
                None if found.value is None else rounded(found.value),
                found.reason,
                rounded(found.coverage),
                found.facts,
            )

    return Function(
        **{
            name: getattr(function, name)
            for name in ("id", "version", "unit", "roles", "en", "zh", "definition", "begin", "weighted", "example")
        },
        step=step,
        finish=finish,
    )


def _readings(*pairs: tuple[int, Any]) -> tuple[Row, ...]:
    return tuple([second * NS, None, 0, 0, value] for second, value in pairs)


def _value(part: str, value: str, **more: Any) -> Row:
    return {"part": part, "value": Decimal(value), "lower": None, "upper": None, "time": None, "revision": 0, **more}


def _order(number: str, due: str, delivered: str | None, quantity: int) -> Row:
    return {"order": number, "due": due, "delivered": delivered, "quantity": quantity, "log_position": 1}


_HUNDRED = Window(0, 100 * NS)
_EXECUTION = ("execution", "signal/1", _readings((0, "READY"), (20, "ACTIVE"), (80, "READY")))
_PARTS = ("parts", "signal/2", _readings((0, 10), (50, 12), (90, 15)))
_ENERGY = ("energy", "signal/4", _readings((0, "100.5"), (60, 101), (99, "102.5")))
_ORDER_COLUMNS = {"order": "order", "due": "due", "delivered": "delivered", "quantity": "quantity"}
_TWO_DAYS = Window(1_767_225_600 * NS, 1_767_398_400 * NS)  # 2026-01-01 and -02
_ORDERS = tuple(
    ("orders", "table/orders", (row,))
    for row in (
        _order("1", "2026-01-01", "2026-01-01T09:00:00Z", 10),
        _order("2", "2026-01-02", "2026-01-02T09:00:00Z", 10),
        _order("3", "2026-01-02", None, 30),
    )
)

FUNCTIONS: Mapping[str, Function] = {
    function.name: _exact(function)
    for function in (
        Function(
            "availability", "1", "1", ("[condition]", "execution"),
            "Availability of a machine", "设备可用率",
            "APT / PBT (ISO 22400-2 by OPC 40501-1 Annex C.2.4); APT: time in ACTIVE without a condition in FAULT; PBT: the planned time "
            "where the parameters name it, else the observed time; UNAVAILABLE is never filled in",
            folds.machine_begin, folds.machine_step, folds.availability,
            example=((_EXECUTION,), {}, _HUNDRED, "0.600000"),
        ),
        Function(
            "oee", "1", "1", ("[condition]", "execution", "parts", "good"),
            "Overall equipment effectiveness", "设备综合效率（OEE）",
            "availability × performance × quality (ISO 22400-2 by OPC 40501-1 Annex C.2.4); performance: ideal cycle time × parts / APT; "
            "quality: good parts / parts",
            folds.oee_begin, folds.oee_step, folds.oee,
            example=(
                (_EXECUTION, _PARTS, ("good", "signal/3", _readings((0, 0), (90, 4)))), {"ideal_cycle_s": "9"}, _HUNDRED, "0.360000",
            ),
        ),
        Function(
            "cpk", "1", "1", ("value",),
            "Cpk of a characteristic", "特性的过程能力指数 Cpk",
            "distance of the mean to the nearer limit / 3σ, σ = MR̄ / 1.128 (individuals, moving range of two: ISO 7870-2, NIST/SEMATECH "
            "6.3.2.2); one-sided where one limit is declared; undefined without a limit, without variation, or with fewer than two values",
            folds.cpk_begin, folds.cpk_step, folds.cpk,
            example=(
                tuple(("value", "a/b/#1", (_value(str(at), text),)) for at, text in enumerate(("10.0", "10.1", "9.9", "10.0"))),
                {"lower": "9.7", "upper": "10.3"}, Window(0, 1), "0.846000",
            ),
        ),
        Function(
            "on-time-delivery", "1", "1", ("orders",),
            "On-time delivery", "准时交付率",
            "orders due in the window that were delivered by their due time / orders due in the window; a date alone means its end; an "
            "order not delivered is late",
            folds.orders_begin, folds.orders_step, folds.on_time,
            example=(_ORDERS, _ORDER_COLUMNS, _TWO_DAYS, "0.666667"),
        ),
        Function(
            "order-cover", "1", "d", ("orders",),
            "Order cover", "订单覆盖天数",
            "quantity of orders open at the end of the window / quantity delivered a day in the window",
            folds.orders_begin, folds.orders_step, folds.cover,
            example=(_ORDERS, _ORDER_COLUMNS, _TWO_DAYS, "3.000000"),
        ),
        Function(
            "energy-per-part", "1", "kW.h", ("parts", "energy"),
            "Energy per part", "单件能耗",
            "sum of the energy counter's increases / sum of the part counter's increases; a fall counts as a reset; the reading before the "
            "window is shared out by time",
            folds.energy_begin, folds.energy_step, folds.energy, "contributions",
            example=((_PARTS, _ENERGY), {}, _HUNDRED, "0.400000"),
        ),
        Function(
            "carbon-per-part", "1", "kg", ("parts", "energy"),
            "kgCO2e of electricity per part", "单件用电碳排放（kgCO2e）",
            "energy per part × emission factor of electricity as the parameters name it (location-based, value, year, source)",
            folds.energy_begin, folds.energy_step, folds.carbon, "contributions",
            example=((_PARTS, _ENERGY), {"kg_per_kwh": "0.5"}, _HUNDRED, "0.200000"),
        ),
        Function(
            "mean-of-figures", "1", "@cited", ("figure",),
            "Mean of figures", "多个带证数的均值",
            "arithmetic mean of the cited figures that are defined; all of one unit",
            folds.cited_begin, folds.cited_step, folds.mean,
            example=(
                (("figure", "", ({"figure": "a", "value": "1", "unit": "1"},)), ("figure", "", ({"figure": "b", "value": "2", "unit": "1"},))),
                {}, Window(0, 1), "1.500000",
            ),
        ),
        Function(
            "least-of-figures", "1", "@cited", ("figure",),
            "Least of figures", "多个带证数的最小值",
            "least of the cited figures that are defined; all of one unit",
            folds.cited_begin, folds.cited_step, folds.least,
            example=(
                (("figure", "", ({"figure": "a", "value": "1", "unit": "1"},)), ("figure", "", ({"figure": "b", "value": None, "unit": "1"},))),
                {}, Window(0, 1), "1.000000",
            ),
        ),
    )
}  # fmt: skip
"""Every published function by ``id@version``."""


def run_example(function: Function) -> str | None:
    """The value that a function gives on the test that travels with it."""
    steps, parameters, window, _ = function.example
    state = function.begin(parameters, window)
    for role, stream, rows in steps:
        state, _weight = function.step(
            state, role, stream, json.loads(json.dumps(rows, default=str)), parameters, window
        )
    value = function.finish(state, parameters, window).value
    return None if value is None else format(value, "f")
