"""What the simulators will do wrong, decided by a seed before anything starts and told only after the journey."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

from guantong.base.clock import NS

__all__ = ["Plan", "Trouble", "make_plan"]

MILL, AGENT, METER, GAUGE = "mill-01", "mill-02", "meter-01", "gauge"
"""The supplier's sources: SHDR adapter, MTConnect agent, OPC UA energy meter, inspection files."""

HISTORY_S = 4 * 3600
"""Seconds of history in the adapter's log file."""
STEP_S = 2
"""Seconds between its samples."""
LIVE_S = 22
"""Seconds of live production."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One planned item; ``start`` and ``end`` in nanoseconds since the epoch."""

    kind: str
    source: str
    signal: str
    start: int
    end: int
    facts: dict[str, float | str]

    def to_json(self) -> dict[str, object]:
        """As written to the plan's file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """All trouble of one run. Offsets are seconds from the start of the history or of the live window."""

    seed: int
    history_start: int
    """Nanoseconds since the epoch."""
    trouble: bool
    duplicate_s: tuple[float, float]
    unit_s: tuple[float, float]
    frozen_s: tuple[float, float]
    frozen_signal: str
    drift_s: tuple[float, float]
    broken_lines: int
    clock_offset_s: float
    cut_s: tuple[float, float]
    late_s: tuple[float, float]
    late_by_s: float
    serial_part: int

    @property
    def history_end(self) -> int:
        """Nanoseconds since the epoch."""
        return self.history_start + HISTORY_S * NS

    def history_trouble(self) -> list[Trouble]:
        """The items in the log file and in the inspection files."""
        if not self.trouble:
            return []

        def at(span: tuple[float, float]) -> tuple[int, int]:
            return (self.history_start + int(span[0] * NS), self.history_start + int(span[1] * NS))

        return [
            Trouble("duplicate", MILL, "", *at(self.duplicate_s), {}),
            Trouble("unit", MILL, "coolant_pressure", *at(self.unit_s), {"written": "psi", "declared": "bar"}),
            Trouble("frozen", MILL, self.frozen_signal, *at(self.frozen_s), {}),
            Trouble("drift", MILL, "bearing_temperature", *at(self.drift_s), {}),
            Trouble("serial", GAUGE, f"{self.serial_part:02d}", self.history_start, self.history_end, {}),
        ]

    def live_trouble(self, live_start: int) -> list[Trouble]:
        """The items of the live window, once it is known when it began."""
        if not self.trouble:
            return []

        def at(span: tuple[float, float]) -> tuple[int, int]:
            return (live_start + int(span[0] * NS), live_start + int(span[1] * NS))

        return [
            Trouble("clock", MILL, "", *at((0, LIVE_S)), {"offset_s": self.clock_offset_s}),
            Trouble("cut", AGENT, "", *at(self.cut_s), {}),
            Trouble("late", METER, "", *at(self.late_s), {"late_s": self.late_by_s}),
        ]


def make_plan(seed: int, history_start: int, *, trouble: bool = True) -> Plan:
    """The plan of a seed. Stretches never overlap: each item can be told apart from the others."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    hour = 3600.0
    duplicate = 1.55 * hour + dice.uniform(0, 300)
    unit = 1.9 * hour + dice.uniform(0, 240)
    frozen = 2.3 * hour + dice.uniform(0, 240)
    drift = 3.35 * hour + dice.uniform(0, 360)
    cut = 5 + dice.uniform(0, 3)
    late = 12 + dice.uniform(0, 3)
    return Plan(
        seed=seed,
        history_start=history_start,
        trouble=trouble,
        duplicate_s=(duplicate, duplicate + dice.uniform(60, 150)),
        unit_s=(unit, unit + dice.uniform(300, 540)),
        frozen_s=(frozen, frozen + dice.uniform(420, 780)),
        frozen_signal=dice.choice(["coolant_flow", "x_load", "hydraulic_pressure"]),
        drift_s=(drift, float(HISTORY_S)),
        broken_lines=dice.randint(2, 5),
        clock_offset_s=dice.choice([-37.0, 37.0]),
        cut_s=(cut, cut + dice.uniform(4, 6)),
        late_s=(late, late + dice.uniform(2, 3)),
        late_by_s=dice.uniform(6, 9),
        serial_part=dice.randint(2, 11),
    )
