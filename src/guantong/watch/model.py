"""Frozen values of the watch and the kinds of entries it records. Every figure carries source, unit, window and coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guantong.base.entry import EntryKind

__all__ = [
    "DAYS_OF_SUPPLY",
    "ENTRY_KINDS",
    "Availability",
    "Carbon",
    "Chart",
    "EnergyFactor",
    "Figure",
    "Interval",
    "Signalled",
    "Supply",
    "Survival",
    "WatchSettings",
]

DAYS_OF_SUPPLY = "watch.days-of-supply"
"""Kind of the question that partners may ask under an agreement; the answer is one scalar (meaning as Catena-X CX-0145)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that says where it comes from. ``value`` is None where it could not be measured; ``reason`` then says why."""

    name: str
    value: float | None
    unit: str
    """UCUM."""
    source: str
    """Signals, table or partner it was derived from."""
    start: int
    end: int
    """Window in nanoseconds since the epoch, start included, end not."""
    coverage: float
    """Share of the window (or of the rows) that was measured, 0 to 1."""
    reason: str = ""
    definition: str = ""
    """Formula and standard clause."""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """One machine state over a half-open stretch of time."""

    state: str
    """MTConnect execution (``ACTIVE``, ``READY``, ...), ``UNAVAILABLE``, or ``FAULT`` where a condition overrides."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Availability:
    """State intervals of one machine and its availability."""

    machine: str
    intervals: tuple[Interval, ...]
    availability: Figure
    """ISO 22400-2: APT / PBT, with the order calendar's planned time where there is one, else the observed time."""
    durations_s: Mapping[str, float]
    """State to seconds within the window."""
    faults: int
    """Times that a condition went to FAULT."""


@dataclass(frozen=True, slots=True)
class Signalled:
    """One point that a run rule picks out."""

    rule: str
    """``WE1``..``WE4`` (Western Electric 1956) with the Nelson number in ``name``."""
    name: str
    index: int
    """Position of the point in the chart's order, from 0."""
    part: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Individuals and moving range of one characteristic in part order."""

    characteristic: str
    name: str
    unit: str
    parts: tuple[str, ...]
    values: tuple[float, ...]
    ranges: tuple[float, ...]
    """Moving ranges; one shorter than ``values``."""
    centre: float
    lower: float
    upper: float
    """Control limits of the individuals: x̄ ± 3·MR̄/d2, d2 = 1.128."""
    range_centre: float
    range_upper: float
    """D4·MR̄, D4 = 3.267."""
    signals: tuple[Signalled, ...]
    capability: tuple[Figure, ...]
    """Cp and Cpk; value None with the reason where a limit is missing or the variation is zero."""
    out_of_tolerance: int
    source: str
    start: int
    end: int
    coverage: float
    """Parts with a value of all parts that were inspected."""


@dataclass(frozen=True, slots=True)
class EnergyFactor:
    """An emission factor as data."""

    id: str
    region: str
    kg_per_kwh: float
    """kgCO2 or kgCO2e per kWh as ``gas`` says."""
    gas: str
    basis: str
    """``location-based average``, ``excluding market-traded non-fossil``, ``fossil``."""
    year: int
    source: str
    verified: bool
    """False where the number was not checked against the official notice."""


@dataclass(frozen=True, slots=True)
class Carbon:
    """Energy of one meter over a window and what it emitted."""

    meter: str
    energy: Figure
    """kWh."""
    emission: Figure
    """kgCO2e (or kgCO2 where the factor counts CO2 only)."""
    factor: EnergyFactor
    resets: int
    """Times that the counter fell and counting began anew."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What a participant knows about one component of its own: an input table row."""

    component: str
    stock: float
    """Pieces at hand, >= 0."""
    usage_per_day: float
    """Total usage rate over all that consume it, pieces a day, > 0."""
    inputs: tuple[str, ...] = ()
    """Components that are needed to make it (own ones)."""
    partner: str = ""
    """DID of the partner that supplies it, empty when made here."""
    agreement_id: str = ""
    """Agreement under which that partner may be asked."""
    partner_component: str = ""
    """The partner's name of the component."""
    end_product: bool = False
    capacity_per_day: float | None = None
    """Production rate where it is made here; None where unknown. Spare capacity only lengthens survival."""
    as_of: int = 0
    """Instant of the stock figure, ns since the epoch."""


@dataclass(frozen=True, slots=True)
class Survival:
    """How long supply lasts: at least ``figure.value`` days."""

    component: str
    disrupted: str
    """The component whose production stops."""
    figure: Figure
    days: Mapping[str, float]
    """T of each own component that is affected."""
    asked: tuple[Mapping[str, Any], ...]
    """Scalars received from partners: ``{partner, agreementId, component, days, at}``."""
    lower_bound: bool
    """True unless the supply is a tree with single sources, where it equals the linear programme."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Settings of the watch."""

    lags: int = 5
    """L of dynamic PCA: the current sample and the four before it."""
    smoothing: int = 11
    """Causal median, samples."""
    variance: float = 0.90
    """Share of variance that the principal components keep."""
    margin: float = 1.5
    """Threshold = largest smoothed held-out statistic times this."""
    window_s: float = 86_400.0
    """Window of availability and energy where none is named: the last day of the data."""
    history_s: float = 604_800.0
    """Window of early warning where none is named: the last seven days of the data."""
    min_history_s: float = 300.0
    """A source with a shorter history has no model."""
    t2_margin: float = 6.0
    """The same for T²: slow processes wander within the model plane without being at fault."""
    training_share: float = 0.4
    """First part of the history that is taken as normal."""
    held_out_share: float = 0.3
    """Last part of the training window that is kept out of the fit to set the threshold."""
    stale_after_s: float = 60.0
    """A channel's last value is carried no longer than this onto the common grid."""
    grid_points: int = 4000
    """Most rows of the common grid; the step is a multiple of the channels' own median step."""
    min_rows: int = 120
    """Least training rows; below it there is no model, and the page says so."""
    channel_coverage: float = 0.8
    """A channel takes part when it is known in so much of the training window."""
    min_channels: int = 4
    """With fewer there is nothing that moves together."""
    max_channels: int = 64
    """Most channels in one model."""
    min_run: int = 11
    """Rows above the threshold that make a warning."""
    merge_rows: int = 55
    """Warnings with a pause of so many rows between them are one."""
    questions_per_day: int = 100
    """Most days-of-supply questions that a partner gets answered a day under one agreement."""
    factor: str = "cn-average-2022"
    """Emission factor of :mod:`guantong.watch.carbon` used where none is named."""


def _kind(name: str, en: str, zh: str, properties: Mapping[str, Any]) -> EntryKind:
    return EntryKind(
        name,
        en,
        zh,
        {
            "type": "object",
            "properties": dict(properties),
            "required": sorted(properties),
            "additionalProperties": False,
        },
    )


_TEXT = {"type": "string", "maxLength": 255}

WARNED = _kind(
    "watch.warned",
    "An early warning was raised",
    "发出早期预警",
    {"id": _TEXT, "source": _TEXT, "signal": _TEXT, "from": _TEXT, "to": _TEXT, "statistic": _TEXT, "ratio": _TEXT},
)
ANSWERED = _kind(
    "watch.days-answered",
    "A partner was told for how many days supply lasts",
    "已回答伙伴供应可维持的天数",
    {"agreementId": _TEXT, "partner": _TEXT, "component": _TEXT, "days": _TEXT},
)
ASKED = _kind(
    "watch.days-asked",
    "A partner told for how many days its supply lasts",
    "伙伴告知其供应可维持的天数",
    {"agreementId": _TEXT, "partner": _TEXT, "component": _TEXT, "days": _TEXT},
)

ENTRY_KINDS = (ANSWERED, ASKED, WARNED)
"""Kinds of entries of this room."""
