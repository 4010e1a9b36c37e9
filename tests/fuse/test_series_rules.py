"""Aggregates by OPC UA Part 13, compression with its error bound, clocks compared with their uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.batch import BAD, GOOD, UNCERTAIN
from guantong.base.clock import NS
from guantong.base.errors import Skippable
from guantong.fuse.aggregates import AGGREGATES, AggregateConfiguration, aggregate
from guantong.fuse.clocks import drift, lag, lower_envelope
from guantong.fuse.compression import dead_band, swinging_door

START = 1_700_000_000 * NS


def arrays(*rows):
    times, values, status = zip(*((START + int(at * NS), value, bad) for at, value, bad in rows), strict=True)
    return np.array(times), np.array(values, float), np.array(status)


# 10 at 0 s, 20 at 10 s, a bad value at 20 s, 40 at 30 s, 40 at 50 s; two intervals of 30 s
ROWS = arrays((0, 10, GOOD), (10, 20, GOOD), (20, math.nan, BAD), (30, 40, GOOD), (50, 40, GOOD))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Interpolative", 10, 40),
        ("Average", 15, 40),
        ("TimeAverage", (15 * 10 + 30 * 20) / 30, 40),  # sloped from 20 to 40 across the bad value
        ("TimeAverage2", (10 * 10 + 20 * 20) / 30, 40),  # each value holds until the next good one
        ("Total", 15 * 10 + 30 * 20, 1200),
        ("Minimum", 10, 40),
        ("Maximum", 20, 40),
        ("Range", 10, 0),
        ("Count", 2, 2),
        ("Start", 10, 40),
        ("End", 20, 40),
        ("Delta", 10, 0),
        ("StartBound", 10, 40),
        ("EndBound", 40, 40),
        ("DurationGood", 20, 30),
        ("DurationBad", 10, 0),
        ("PercentGood", 200 / 3, 100),
        ("PercentBad", 100 / 3, 0),
        ("WorstQuality", BAD, GOOD),
        ("NumberOfTransitions", 1, 1),
        ("StandardDeviationSample", math.sqrt(50), 0),
        ("StandardDeviationPopulation", 5, 0),
    ],
)
def test_an_aggregate_means_what_part_13_says(name, first, second):
    made = aggregate(*ROWS, START, START + 60 * NS, 30 * NS, [name])

    assert made["time"].to_list() == [START, START + 30 * NS]
    assert made[name].to_list() == pytest.approx([first, second])


def test_results_carry_a_status_by_the_share_of_good_time():
    names = ["Average"]
    strict = aggregate(*ROWS, START, START + 60 * NS, 30 * NS, names)
    lenient = aggregate(*ROWS, START, START + 60 * NS, 30 * NS, names, AggregateConfiguration(percent_data_good=60))
    severe = aggregate(*ROWS, START, START + 60 * NS, 30 * NS, names, AggregateConfiguration(percent_data_bad=30))

    assert strict["status"].to_list() == [UNCERTAIN, GOOD]
    assert lenient["status"].to_list() == [GOOD, GOOD]
    assert severe["status"].to_list() == [BAD, GOOD]


def test_an_interval_without_values_says_nothing_and_one_before_all_values_is_bad():
    made = aggregate(*arrays((100, 1, GOOD)), START, START + 90 * NS, 30 * NS, list(AGGREGATES))

    assert set(made["Average"].to_list() + made["TimeAverage"].to_list() + made["Start"].to_list()) == {None}
    assert made["Count"].to_list() == [0, 0, 0]
    assert made["status"].to_list() == [BAD] * 3
    for names, every in ((["Mode"], 30), (["Average"], 0)):
        with pytest.raises(Skippable):
            aggregate(*ROWS, START, START + 60 * NS, every * NS, names)


SERIES = st.lists(st.tuples(st.integers(1, 600), st.floats(-1e3, 1e3)), min_size=1, max_size=80)


def held(series):
    times = START + np.cumsum([step for step, _ in series]) * NS
    return times, np.array([value for _, value in series])


@settings(max_examples=60, deadline=None)
@given(SERIES, st.floats(0, 50), st.sampled_from([60.0, 28_800.0]))
def test_nothing_that_a_dead_band_left_out_is_further_from_what_it_kept_than_its_bound(series, bound, max_s):
    times, values = held(series)
    made = dead_band(times, values, bound, max_s=max_s)
    kept = np.array(made.rows)
    said = values[kept[np.searchsorted(times[kept], times, "right") - 1]]

    assert made.rows[0] == 0
    assert np.abs(values - said).max() <= bound
    assert made.metadata()["guantong.error-bound"] == repr(bound)


@settings(max_examples=60, deadline=None)
@given(SERIES, st.floats(1e-6, 50))
def test_nothing_that_a_swinging_door_left_out_is_further_from_its_lines_than_its_bound(series, bound):
    times, values = held(series)
    made = swinging_door(times, values, bound)
    kept = np.array(made.rows)
    said = np.interp(times - START, times[kept] - START, values[kept])

    assert (made.rows[0], made.rows[-1]) == (0, len(times) - 1)
    assert list(made.rows) == sorted(set(made.rows))
    assert np.abs(values - said).max() <= bound * (1 + 1e-9) + 1e-9


def test_a_straight_line_needs_its_two_ends_and_a_flat_one_its_sign_of_life():
    times = START + np.arange(1000) * NS

    assert swinging_door(times, np.arange(1000) * 0.5, 0.01).rows == (0, 999)
    assert dead_band(times, np.full(1000, 7.0), 0.0, max_s=300).rows == (0, 300, 600, 900)
    assert dead_band(times[:4], np.array([1, math.nan, math.nan, 1.0]), 5.0).rows == (0, 1, 2, 3)


def test_the_offset_is_the_least_delay_with_an_uncertainty_that_covers_it():
    dice = np.random.default_rng(1)
    source = START + np.arange(2000) * NS
    receive = source + int(36.98 * NS) + (dice.exponential(0.05, 2000) * NS).astype(np.int64)
    made = lower_envelope(receive, source)

    assert abs(made.offset_s - 36.98) <= made.uncertainty_s < 0.02
    with pytest.raises(Skippable):
        lower_envelope(receive[:5], source[:5])


def test_the_lag_between_two_signals_is_found_within_its_uncertainty():
    dice = np.random.default_rng(2)
    times = START + np.arange(5000) * NS
    values = np.cumsum(dice.normal(0, 1, 5000))
    made = lag(times, values, times + 37 * NS, values + dice.normal(0, 0.1, 5000), every_s=1.0, max_lag_s=120)
    back = lag(times + 37 * NS, values, times, values, every_s=1.0, max_lag_s=120)

    assert abs(made.lag_s - 37) <= made.uncertainty_s <= 1
    assert made.correlation > 0.9
    assert abs(back.lag_s + 37) <= back.uncertainty_s
    with pytest.raises(Skippable):
        lag(times, np.ones(5000), times, values, every_s=1.0, max_lag_s=120)


def test_a_clock_that_runs_fast_and_is_then_set_right_is_two_pieces_with_its_drift():
    dice = np.random.default_rng(3)
    source = START + np.arange(20_000) * NS
    error = np.where(np.arange(20_000) < 12_000, np.arange(20_000) * 80e-6, 0.1)
    receive = source + (error * NS).astype(np.int64) + (dice.exponential(0.01, 20_000) * NS).astype(np.int64)
    made = drift(receive, source)

    assert len(made) == 2
    assert abs(made[0].ppm - 80) <= made[0].ppm_uncertainty < 5
    assert abs(made[1].ppm) <= max(made[1].ppm_uncertainty, 0.2)
    assert abs((made[0].end - START) / NS - 12_000) < 200
