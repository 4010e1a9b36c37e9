"""Stretches in another unit and standstills: hits on seeded series, silence on real ones that nobody here wrote."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from guantong.base.clock import NS
from guantong.base.units import convert
from guantong.fuse.model import FuseSettings
from guantong.fuse.stretches import find_frozen, find_unit_stretches

SETTINGS = FuseSettings()


def process(seed: int, level: float, spread: float, rows: int = 2000) -> np.ndarray:
    """A level with a slow wave, a wandering load and noise."""
    dice = np.random.default_rng(seed)
    steps = np.arange(rows)
    wander = np.convolve(dice.normal(0, 1, rows), np.ones(25) / 5, "same")
    return level + spread * (0.6 * np.sin(steps / 90) + 0.4 * wander + 0.15 * dice.normal(0, 1, rows))


CASES = [
    ("bar", "[psi]", 6.2, 0.2),
    ("bar", "kPa", 6.2, 0.2),
    ("MPa", "bar", 5.8, 0.1),
    ("kW", "W", 7.5, 1.2),
    ("W", "kW", 7500.0, 900.0),
    ("Cel", "[degF]", 52.0, 2.0),
    ("Cel", "K", 41.0, 1.5),
    ("mm", "[in_i]", 120.0, 6.0),
    ("m3/h", "L/min", 0.9, 0.05),
    ("{rev}/min", "{rev}/s", 8000.0, 120.0),
]


@pytest.mark.parametrize("declared, written, level, spread", CASES)
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_stretch_in_another_unit_is_found_row_by_row(
    declared: str, written: str, level: float, spread: float, seed: int
) -> None:
    values = process(seed, level, spread)
    begin = 700 + 31 * seed
    end = begin + 40 * seed
    values[begin:end] = convert(values[begin:end], declared, written)

    (found,) = find_unit_stretches(values, declared, SETTINGS)
    assert (found.begin, found.end, found.unit) == (begin, end, written)


@pytest.mark.parametrize("declared, written, level, spread", CASES)
def test_a_right_series_has_no_stretch_in_another_unit(
    declared: str, written: str, level: float, spread: float
) -> None:
    for seed in range(1, 21):
        assert find_unit_stretches(process(seed, level, spread), declared, SETTINGS) == []


def test_steps_of_the_process_are_no_change_of_unit() -> None:
    dice = np.random.default_rng(3)
    for factor in (2.0, 4.0, 10.0, 14.5, 100.0, 1000.0):
        values = 6.0 + dice.normal(0, 0.05, 1500)
        values[600:800] = 6.0 * factor + dice.normal(0, 0.05, 200)  # the noise of the sensor stays what it was
        assert find_unit_stretches(values, "bar", SETTINGS) == []


def test_a_machine_that_is_switched_off_and_on_is_no_change_of_unit() -> None:
    dice = np.random.default_rng(4)
    values = np.abs(dice.normal(7.5, 0.8, 3000))
    for start in (300, 900, 1700, 2400):
        values[start : start + 150] = np.abs(dice.normal(0.0, 0.02, 150))

    assert find_unit_stretches(values, "kW", SETTINGS) == []


def times(rows: int, step_s: float = 2.0) -> np.ndarray:
    return (np.arange(rows) * step_s * NS).astype(np.int64) + 10**18


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_value_that_stands_still_is_found_row_by_row(seed: int) -> None:
    values = np.round(process(seed, 12.4, 0.5), 2)
    begin, end = 800, 1000 + 10 * seed
    values[begin:end] = 12.3456

    (found,) = find_frozen(times(2000), values, SETTINGS)
    assert (found.begin, found.end, found.open) == (begin, end, False)


@pytest.mark.parametrize(
    "values",
    [
        np.full(2000, 5.0),  # constant
        np.repeat(np.arange(40.0), 50),  # commanded in steps
        np.where(np.arange(2000) % 400 < 200, 0.0, process(1, 5, 1)),  # a machine that idles
        np.where(np.arange(2000) % 400 < 60, 17.0, process(1, 5, 1)),  # a signal that habitually stands
        np.round(process(2, 5, 0.2), 1),  # a coarse sensor
        process(3, 5, 1),
    ],
)
def test_what_stands_by_its_nature_is_not_frozen(values: np.ndarray) -> None:
    assert find_frozen(times(len(values)), values, SETTINGS) == []


def columns(path: Path, names: dict[str, str]) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{name.strip(): cell for name, cell in row.items()} for row in csv.DictReader(file)]
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


def test_real_series_give_no_false_alarm(data_dir: Path) -> None:
    """A machine's temperature until its failure, an office's temperature, a steel works' energy, five years of a gas turbine."""
    series: list[tuple[str, np.ndarray, str]] = []
    for name in ("machine_temperature_system_failure", "ambient_temperature_system_failure"):
        series.append((name, columns(data_dir / "nab" / f"{name}.csv", {"value": "Fahrenheit"})["value"], "[degF]"))
        series.append((name, series[-1][1], "Cel"))
    steel = {"Usage_kWh": "kW.h", "Lagging_Current_Reactive_Power_kVarh": "kvar.h", "CO2(tCO2)": "t"}
    for name, values in columns(data_dir / "steel" / "Steel_industry_data.csv", steel).items():
        series.append((f"steel {name}", values, steel[name]))
    turbine = {"AT": "Cel", "AP": "mbar", "AFDP": "mbar", "TIT": "Cel", "TAT": "Cel", "CDP": "bar"}
    for year in range(2011, 2016):
        for name, values in columns(data_dir / "gas_turbine" / f"gt_{year}.csv", turbine).items():
            series.append((f"{year} {name}", values, turbine[name]))

    alarms = []
    looked = 0
    for name, values, unit in series:
        for at in range(0, len(values), 4096):
            window = values[max(0, at - 4096) : at + 4096]
            looked += len(window)
            alarms += [(name, "unit", one) for one in find_unit_stretches(window, unit, SETTINGS)]
            alarms += [(name, "frozen", one) for one in find_frozen(times(len(window), 300.0), window, SETTINGS)]
    assert looked > 400_000
    assert alarms == []
