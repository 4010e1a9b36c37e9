"""A simulated milling machine: correlated channels, cycles, parts, and how it ends in a fault. Pure; randomness is an argument."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from guantong.base.clock import NS, iso
from guantong.demo.plan import HISTORY_S, STEP_S, Plan

__all__ = ["CHANNELS", "CYCLE_S", "Mill", "history_lines"]

CHANNELS: dict[str, tuple[str, float, float, float]] = {
    # signal: (unit as declared, level, share of the common load, own noise)
    "spindle_speed": ("rev/min", 8000.0, 120.0, 18.0),
    "spindle_load": ("%", 46.0, 9.0, 0.9),
    "x_load": ("%", 22.0, 4.0, 0.5),
    "y_load": ("%", 25.0, 4.5, 0.5),
    "z_load": ("%", 31.0, 5.5, 0.6),
    "bearing_temperature": ("Cel", 41.0, 1.6, 0.12),
    "motor_temperature": ("Cel", 52.0, 2.2, 0.15),
    "coolant_pressure": ("bar", 6.2, 0.18, 0.03),
    "coolant_flow": ("l/min", 12.4, 0.5, 0.06),
    "hydraulic_pressure": ("bar", 58.0, 1.1, 0.2),
    "vibration": ("mm/s", 1.4, 0.22, 0.03),
    "power": ("kW", 7.5, 1.6, 0.08),
}
CYCLE_S = 1200
"""Seconds a part takes."""
PSI_PER_BAR = 14.503773773


@dataclass
class Mill:
    """The state of the machine; :meth:`sample` moves it on by one step."""

    dice: random.Random
    load: float = 0.0
    slow: float = 0.0

    def sample(self, second: float, *, drift: float = 0.0) -> dict[str, float]:
        """All channels at ``second``; ``drift`` in 0..1 is how far the bearing has worn."""
        self.load += 0.08 * (-self.load) + 0.25 * self.dice.gauss(0, 1)
        self.slow += 0.02 * (self.load - self.slow)
        cycle = math.sin(2 * math.pi * second / CYCLE_S) + 0.4 * math.sin(2 * math.pi * second / 170)
        common = 0.7 * self.load + 0.6 * cycle
        values = {}
        for name, (_, level, share, noise) in CHANNELS.items():
            drive = 0.6 * self.slow + 0.6 * cycle if name.endswith("temperature") else common
            values[name] = level + share * drive + noise * self.dice.gauss(0, 1)
        values["bearing_temperature"] += 14.0 * drift
        values["vibration"] += 1.3 * drift * drift
        values["power"] += 0.8 * drift
        return values


def history_lines(plan: Plan) -> Iterator[str]:
    """The adapter's log of the history, line by line, with the planned trouble in it."""
    dice = random.Random(plan.seed + 1)  # noqa: S311 - reproducible, not secret
    mill = Mill(dice)
    frozen: float | None = None
    repeat: list[str] = []
    steps = HISTORY_S // STEP_S
    broken = set(dice.sample(range(steps // 10, steps // 3), plan.broken_lines)) if plan.trouble else set()
    part = 0
    for step in range(steps):
        second = step * STEP_S
        at = iso(plan.history_start + second * NS + dice.randrange(0, 40) * 1_000_000, digits=6)
        wear = max(0.0, (second - plan.drift_s[0]) / (plan.drift_s[1] - plan.drift_s[0])) if plan.trouble else 0.0
        values = mill.sample(second, drift=wear)
        lines = []
        if second % CYCLE_S == 0:
            part += 1
            lines += [f"{at}|part_id|{part:02d}", f"{at}|execution|ACTIVE", f"{at}|program|HOUSING-7.NC"]
        elif second % CYCLE_S == CYCLE_S - 60:
            lines += [f"{at}|execution|READY", f"{at}|part_count|{part}"]
        if plan.trouble:
            if plan.unit_s[0] <= second <= plan.unit_s[1]:
                values["coolant_pressure"] *= PSI_PER_BAR
            if plan.frozen_s[0] <= second <= plan.frozen_s[1]:
                frozen = values[plan.frozen_signal] if frozen is None else frozen
                values[plan.frozen_signal] = frozen
            if step == steps - 1:
                lines.append(f"{at}|spindle_condition|FAULT|SP-17|2|HIGH|bearing temperature above limit")
        if step == 0:
            lines.append(f"{at}|spindle_condition|NORMAL||||")
        lines += [f"{at}|{name}|{value:.4f}" for name, value in values.items()]
        yield from lines
        if step in broken:
            yield f"{at}|spindle_lo"  # the adapter was killed while it wrote
        if plan.trouble and plan.duplicate_s[0] <= second <= plan.duplicate_s[1]:
            repeat += lines
        elif repeat:
            yield from repeat
            repeat = []
