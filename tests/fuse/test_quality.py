"""Quality kernels: what ioos_qc says where it has the check, and planted trouble where it has none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem
from guantong.fuse.quality import (
    CHECKS,
    FAIL,
    MISSING,
    NOT_EVALUATED,
    PASS,
    SUSPECT,
    Limits,
    evaluate,
    flags,
    limits_from,
    proposed_limits,
)

START = 1_700_000_000 * NS
NONE = Limits()


def frame(values, *, step_s=1.0, times=None, receive=None, bad=None, position=None, neighbour=None) -> pl.DataFrame:
    size = len(values)
    at = np.asarray(times if times is not None else START + np.arange(size) * int(step_s * NS), np.int64)
    numbers = [None if value is None else float(value) for value in values]
    return pl.DataFrame(
        {
            "time": at,
            "receive": at + 5_000_000 if receive is None else np.asarray(receive, np.int64),
            "value": pl.Series(numbers, dtype=pl.Float64),
            "there": [value is not None for value in numbers],
            "bad": [False] * size if bad is None else bad,
            "position": np.arange(size) if position is None else position,
            "sequence": np.arange(size),
            "neighbour": pl.Series([None] * size if neighbour is None else neighbour, dtype=pl.Float64),
        }
    )


def found(data: pl.DataFrame, check: str, limits: Limits = NONE, interval_s: float | None = 1.0) -> list[int]:
    return flags(data, limits, interval_s=interval_s)[check].to_list()


VALUES = st.lists(
    st.one_of(
        st.just(float("nan")), st.integers(-50, 50).map(float), st.just(7.0), st.floats(-60, 60, allow_nan=False)
    ),
    min_size=12,
    max_size=60,
)
WHOLE = st.lists(st.one_of(st.integers(-50, 50).map(float), st.just(7.0)), min_size=12, max_size=60)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_gross_range_says_what_ioos_qc_says(values):
    from ioos_qc.qartod import gross_range_test

    oracle = gross_range_test(np.array(values), fail_span=(-40, 40), suspect_span=(-20.5, 30))

    assert found(frame(values), "gross_range", Limits(fail_span=(-40, 40), suspect_span=(-20.5, 30))) == oracle.tolist()


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_a_spike_is_what_ioos_qc_says(values):
    from ioos_qc.qartod import spike_test

    oracle = spike_test(np.array(values), suspect_threshold=10, fail_threshold=30)

    assert found(frame(values), "spike", Limits(spike_suspect=10, spike_fail=30)) == oracle.tolist()


@settings(max_examples=25, deadline=None)
@given(WHOLE, st.sampled_from([1.0, 2.0, 5.0]))
def test_the_rate_of_change_is_what_ioos_qc_says(values, step_s):
    from ioos_qc.qartod import rate_of_change_test

    data = frame(values, step_s=step_s)
    oracle = rate_of_change_test(np.array(values), data["time"].to_numpy() // NS, threshold=4.0, fail_threshold=20.0)
    ours = found(data, "rate_of_change", Limits(rate_suspect=4.0, rate_fail=20.0), step_s)

    assert ours[0] == NOT_EVALUATED  # a first row has no rate; ioos_qc passes it
    assert ours[1:] == oracle.tolist()[1:]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 12)), min_size=3, max_size=12), st.sampled_from([0.5, 3.0])
)
def test_a_flat_line_is_what_ioos_qc_says(runs, tolerance):
    from ioos_qc.qartod import flat_line_test

    values = [float(value) for value, count in runs for _ in range(count)]
    data = frame(values)
    oracle = flat_line_test(np.array(values), data["time"].to_numpy() // NS, 3, 6, tolerance=tolerance)
    ours = found(data, "flat_line", Limits(flat_suspect_s=3, flat_fail_s=6, flat_tolerance=tolerance))

    assert ours == (oracle.tolist() if len(values) >= 3 else ours)
    if tolerance == 0.5:  # of whole numbers, nearer than a half is equal
        assert found(data, "flat_line", Limits(flat_suspect_s=3, flat_fail_s=6)) == ours


@settings(max_examples=20, deadline=None)
@given(WHOLE, st.booleans())
def test_an_attenuated_signal_is_what_ioos_qc_says(values, regular):
    from ioos_qc.qartod import attenuated_signal_test

    steps = [1] * len(values) if regular else [1 + index % 3 for index in range(len(values))]
    times = START + np.cumsum(steps) * NS
    limits = Limits(attenuated_s=10, attenuated_suspect=8.003, attenuated_fail=2.0007, attenuated_rows=4)
    oracle = attenuated_signal_test(
        np.array(values), times.astype("datetime64[ns]"), 8.003, 2.0007, test_period=10, min_obs=4, check_type="std"
    )

    assert found(frame(values, times=times), "attenuated", limits) == oracle.tolist()


def test_a_gap_and_a_repeat_are_flagged_where_they_end():
    times = START + np.array([0, 1, 2, 3, 9, 10, 10, 11]) * NS
    data = frame([1, 2, 3, 4, 5, 6, 6, 7], times=times)

    assert found(data, "gap") == [NOT_EVALUATED, 1, 1, 1, SUSPECT, 1, 1, 1]
    assert found(data, "duplicate") == [NOT_EVALUATED, 1, 1, 1, 1, 1, SUSPECT, 1]


def test_a_missing_value_is_missing_and_no_number_fails():
    data = frame([1, None, float("nan"), float("inf"), 5], bad=[False, True, False, False, False])
    made = evaluate(data, Limits(fail_span=(0, 10)))

    assert found(data, "syntax") == [PASS, MISSING, FAIL, FAIL, PASS]
    assert found(data, "gross_range", Limits(fail_span=(0, 10))) == [PASS, MISSING, MISSING, FAIL, PASS]
    assert made.flags[MISSING] == 1
    assert [row["checks"]["syntax"] for row in made.worst] == [FAIL, FAIL]
    assert made.worst[1]["value"] == "inf"


def test_a_neighbour_that_differs_is_told_and_one_that_is_silent_is_not_judged():
    data = frame([1, 2, 3, 4], neighbour=[None, 2.5, 6.0, 30.0])

    assert found(data, "neighbour", Limits(neighbour_suspect=2, neighbour_fail=10)) == [NOT_EVALUATED, 1, SUSPECT, FAIL]


def test_the_clock_check_tells_future_overtaking_and_steps():
    size = 80
    times = START + np.arange(size) * NS
    receive = times + 10_000_000
    receive[5] = times[5] - 3 * NS  # a reading from the future
    receive[40:] += 37 * NS  # the clock stepped
    position = np.arange(size)
    position[60] = 79  # arrived after those that follow it
    position[79] = 60
    got = found(frame(np.arange(size), receive=receive, position=position), "clock")

    assert got[5] == FAIL
    assert got[60] == SUSPECT
    assert SUSPECT in got[40:60]
    assert got[10:20] == [PASS] * 10
    assert "clock" not in flags(
        frame([1, 2, 3], receive=START + np.arange(3) * NS + 90_000 * NS), Limits(), interval_s=1.0
    )


@pytest.mark.parametrize("factor", [1000.0, 25.4, 0.001, "fahrenheit"])
def test_a_level_that_jumps_by_a_factor_of_units_is_flagged_at_its_first_row(factor):
    dice = np.random.default_rng(3)
    level = 22 + dice.normal(0, 0.2, 60)
    level[30:] = level[30:] * 1.8 + 32 if factor == "fahrenheit" else level[30:] * factor
    got = found(frame(level), "unit_jump")

    assert [index for index, flag in enumerate(got) if flag != PASS] == [30]
    assert set(found(frame(np.r_[level[:30], level[:30] * 1.3]), "unit_jump")) == {PASS}


def test_a_step_between_values_that_becomes_coarser_is_flagged_for_its_stretch():
    dice = np.random.default_rng(4)
    walk = np.cumsum(dice.normal(0, 1, 512 * 6))
    values = np.round(walk, 2)
    values[512 * 3 :] = np.round(walk[512 * 3 :])
    got = np.array(found(frame(values), "quantisation"))

    assert set(got[:512]) == {NOT_EVALUATED}
    assert set(got[512 * 3 : 512 * 4]) == {SUSPECT}
    assert set(np.delete(got[512:], np.s_[512 * 2 : 512 * 3])) == {PASS}


def test_a_counter_that_begins_again_is_suspect_and_one_that_runs_back_fails():
    got = found(frame([100, 110, 120, None, 3, 5, 90, 80, 95]), "counter_reset", Limits(counter=True))

    assert got == [NOT_EVALUATED, 1, 1, MISSING, SUSPECT, 1, 1, FAIL, 1]
    assert "counter_reset" not in flags(frame([1, 2]), Limits(), interval_s=1.0).columns


def test_timeliness_is_the_way_from_source_to_receiver():
    times = START + np.arange(4) * NS
    receive = times + np.array([0.1, 2, 30, 0.2]) * NS
    got = found(frame([1, 2, 3, 4], receive=receive), "timeliness", Limits(late_suspect_s=1, late_fail_s=10))

    assert got == [PASS, SUSPECT, FAIL, PASS]


def test_availability_counts_intervals_that_hold_a_good_reading():
    times = START + np.array([0, 1, 2, 5, 6, 7, 8]) * NS
    data = frame([1, 2, 3, 4, 5, 6, 7], times=times, bad=[False, False, True, False, False, False, False])
    made = {one.check: one for one in evaluate(data, Limits(interval_s=1.0), start=START, end=START + 10 * NS).checks}

    assert (made["availability"].passed, made["availability"].evaluated) == (6, 10)


def test_what_nobody_stated_is_not_evaluated_and_every_check_is_accounted_for():
    made = evaluate(frame(np.arange(600) % 7), Limits())
    by_name = {one.check: one for one in made.checks}

    assert list(by_name) == list(CHECKS)
    for name in (
        "gross_range",
        "rate_of_change",
        "spike",
        "flat_line",
        "attenuated",
        "neighbour",
        "counter_reset",
        "timeliness",
    ):
        assert (by_name[name].evaluated, by_name[name].flags, by_name[name].limits) == (0, {NOT_EVALUATED: 600}, {})
    for one in made.checks:
        assert one.passed <= one.evaluated
        if one.check != "availability":
            assert sum(one.flags.values()) == 600


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2**32 - 1), st.integers(2000, 6000))
def test_the_answer_is_the_same_however_the_rows_are_cut_into_blocks(seed, size):
    dice = np.random.default_rng(seed)
    values = np.round(np.cumsum(dice.normal(0, 1, size)), 1)
    values[dice.integers(0, size, 30)] *= 1000
    values[size // 3 : size // 3 + 90] = 5.0
    values = [
        None if hole else value
        for value, hole in zip(values.tolist(), (dice.random(size) < 0.01).tolist(), strict=True)
    ]
    times = START + np.cumsum(dice.choice([1, 1, 1, 4], size)) * NS
    data = frame(
        values,
        times=times,
        position=dice.permutation(size) if seed % 2 else None,
        neighbour=dice.normal(0, 9, size).tolist(),
    )
    limits = Limits(
        fail_span=(-500, 500), suspect_span=(-40, 40), rate_suspect=2, rate_fail=9, spike_suspect=3, spike_fail=9, flat_suspect_s=20,
        flat_fail_s=60, flat_tolerance=0.3 if seed % 3 else 0.0, attenuated_s=30, attenuated_suspect=0.5, neighbour_suspect=4,
        counter=True, late_suspect_s=1,
    )  # fmt: skip
    whole, cut = flags(data, limits, interval_s=1.0, block=10**9), flags(data, limits, interval_s=1.0, block=512)

    assert cut.equals(whole)


def test_limits_that_cannot_hold_are_refused_with_their_name():
    for document, word in (
        ({"fail_span": [1, 0]}, "fail_span"),
        ({"fail_span": [0, 1], "suspect_span": [0, 2]}, "suspect_span"),
        ({"rate_suspect": -1}, "rate_suspect"),
        ({"rate_suspect": True}, "rate_suspect"),
        ({"interval_s": 0}, "interval_s"),
        ({"counter": 1}, "counter"),
        ({"limit": 1}, "limit"),
        ({"spike_fail": float("inf")}, "spike_fail"),
    ):
        with pytest.raises(ConfigProblem) as caught:
            limits_from(document)

        assert caught.value.code == "fuse.limits-invalid"
        assert word in caught.value.message()


def test_limits_that_are_proposed_pass_the_history_they_were_read_off_and_can_be_stated():
    dice = np.random.default_rng(5)
    data = frame(20 + dice.normal(0, 1, 2000))
    made = proposed_limits(data)
    stated = limits_from(json.loads(json.dumps({name: getattr(made, name) for name in Limits.__dataclass_fields__})))

    assert stated == replace(made)
    assert evaluate(data, made).flags == {PASS: 2000}
    assert proposed_limits(data.head(50)) == Limits()
