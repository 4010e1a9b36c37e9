"""Energy from counters and power, emissions by named factors; one real plant's year."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.clock import NS, parse_iso
from guantong.base.errors import ConfigProblem
from guantong.watch import carbon

HOUR = 3600 * NS


def test_a_counter_by_hand_with_a_reset_in_the_middle():
    """100 → 130 → (reset) 5 → 25: 30 + 5 + 20 = 55 kWh."""
    readings = [(0, 100.0), (HOUR, 130.0), (2 * HOUR, 5.0), (3 * HOUR, 25.0)]
    figure, resets = carbon.from_counter(readings, start=0, end=4 * HOUR, source="meter")

    assert (figure.value, resets, figure.unit) == (55.0, 1, "kW.h")
    assert figure.coverage == 0.75


def test_what_is_unavailable_in_between_loses_no_energy_of_a_counter():
    readings = [(0, 10.0), (HOUR, None), (2 * HOUR, 14.0)]

    assert carbon.from_counter(readings, start=0, end=2 * HOUR + 1, source="m")[0].value == 4.0


def test_the_reading_before_the_window_is_shared_out_by_time():
    readings = [(-HOUR, 0.0), (HOUR, 10.0)]
    figure, _ = carbon.from_counter(readings, start=0, end=HOUR + 1, source="m")

    assert figure.value == 5.0
    assert figure.coverage == pytest.approx(1.0)


def test_power_is_weighted_by_time_and_held_no_longer_than_it_is_fresh():
    """2 kW for half an hour, 4 kW for half an hour, then silence for an hour that is not covered."""
    readings = [(0, 2.0), (HOUR // 2, 4.0)]
    figure = carbon.from_power(readings, start=0, end=2 * HOUR, source="m", hold_ns=HOUR // 2)

    assert figure.value == 3.0
    assert figure.coverage == 0.5


def test_unavailable_power_is_not_the_last_power():
    readings = [(0, 2.0), (HOUR // 2, None), (HOUR, 2.0)]
    figure = carbon.from_power(readings, start=0, end=2 * HOUR, source="m", hold_ns=2 * HOUR)

    assert (figure.value, figure.coverage) == (3.0, 0.75)


@pytest.mark.parametrize(
    ("unit", "kind"),
    [("kW.h", ("counter", 1.0)), ("W", ("power", 1e-3)), ("V.A", None), ("mm", None), ("MJ", ("counter", 1 / 3.6))],
)
def test_units_say_whether_a_signal_is_energy_or_active_power(unit, kind):
    assert carbon.kwh_per(unit) == kind


def test_an_emission_carries_factor_basis_year_source_window_and_coverage():
    energy, _ = carbon.from_counter([(0, 0.0), (HOUR, 100.0)], start=0, end=2 * HOUR, source="meter")
    found = carbon.carbon("meter", energy, carbon.named("cn-average-2022"))

    assert found.emission.value == pytest.approx(53.66)
    assert found.emission.unit == "kgCO2"  # the official grid factor counts CO2 alone, so the unit may not say more
    assert found.emission.coverage == energy.coverage == 0.5
    assert (found.emission.facts["year"], found.emission.facts["basis"]) == (2022, "location-based average")
    assert "公告2024年第12号" in found.emission.source


def test_nothing_measured_gives_nothing_emitted_rather_than_zero():
    energy, _ = carbon.from_counter([], start=0, end=HOUR, source="meter")
    found = carbon.carbon("meter", energy, carbon.named("cn-average-2022"))

    assert (found.energy.value, found.emission.value) == (None, None)
    assert found.emission.reason


def test_every_shipped_factor_has_year_basis_source_and_evidence_mark():
    assert len({factor.id for factor in carbon.FACTORS}) == len(carbon.FACTORS)
    for factor in carbon.FACTORS:
        assert factor.source
        assert factor.basis
        assert 2020 < factor.year < 2030
        assert 0 < factor.kg_per_kwh < 1.5
    assert {factor.id for factor in carbon.FACTORS if factor.verified} == {"cn-average-2022", "cn-average-2023"}


def test_the_regional_changes_from_2022_to_2023_are_those_that_were_announced():
    """North −6.1, Northeast −8.0, East −2.1, Central −2.3, Northwest −5.4 per cent."""
    changes = {
        region: 100 * (carbon.named(f"cn-{region}-2023").kg_per_kwh / carbon.named(f"cn-{region}-2022").kg_per_kwh - 1)
        for region in ("north", "northeast", "east", "central", "northwest")
    }

    assert changes == pytest.approx(
        {"north": -6.1, "northeast": -8.0, "east": -2.1, "central": -2.3, "northwest": -5.4}, abs=0.06
    )


def test_an_unknown_factor_is_refused_with_the_known_ones():
    with pytest.raises(ConfigProblem) as caught:
        carbon.named("moon")

    assert "cn-average-2022" in str(caught.value.facts["known"])


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=30), st.integers(1, 28))
def test_a_windows_energy_is_the_sum_of_its_parts(increments, cut):
    total, readings = 0, []
    for index, increment in enumerate(increments):
        total += increment
        readings.append((index * HOUR, float(total)))
    end = len(readings) * HOUR
    middle = min(cut, len(readings) - 1) * HOUR

    def energy(start, until):
        return carbon.from_counter(readings, start=start, end=until, source="m")[0].value or 0.0

    assert energy(0, middle + 1) + energy(middle + 1, end) == pytest.approx(energy(0, end))


def test_a_real_steel_plants_year_adds_up_and_its_gaps_show(data_dir):
    """15-minute energy of a steel plant, UCI; the rows' own sum is the truth, their cumulation the counter."""
    readings: list[tuple[int, float | None]] = []
    total = 0.0
    with (data_dir / "steel" / "Steel_industry_data.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            day, clock = row["date"].split(" ")
            d, m, y = day.split("/")
            at = parse_iso(f"{y}-{m}-{d}T{clock}:00Z")
            if clock == "00:00":
                at += 24 * HOUR  # the file dates the last quarter of a day by the day it belongs to
            readings.append((at, float(row["Usage_kWh"])))
    readings.sort()
    counter: list[tuple[int, float | None]] = [(readings[0][0] - HOUR // 4, 0.0)]
    for at, used in readings:
        total += used or 0.0
        counter.append((at, total))
    start, end = counter[0][0], counter[-1][0] + 1
    by_counter, resets = carbon.from_counter(counter, start=start, end=end, source="steel")
    power = [(at - HOUR // 4, used * 4) for at, used in readings if used is not None]
    by_power = carbon.from_power(power, start=start, end=end, source="steel", hold_ns=HOUR // 4)
    found = carbon.carbon("steel", by_counter, carbon.named("cn-average-2022"))

    assert len(readings) == 35_040
    assert resets == 0
    assert by_counter.value == pytest.approx(sum(used or 0.0 for _, used in readings))
    assert by_power.value == pytest.approx(by_counter.value, rel=1e-9)
    assert by_power.coverage == pytest.approx(1.0, abs=1e-6)
    assert found.emission.value == pytest.approx(by_counter.value * 0.5366)
