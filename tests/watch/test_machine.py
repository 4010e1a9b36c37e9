"""Machine states and availability, by hand and in general."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.clock import NS
from guantong.watch import machine
from guantong.watch.model import Interval

MIN = 60 * NS


def figure(states, start, end, planned=()):
    return machine.availability(states, source="m", start=start, end=end, planned=planned)


def test_a_shift_by_hand():
    """60 min: 10 unknown, 30 ACTIVE, 10 FEED_HOLD, 10 ACTIVE of which the last 5 in FAULT: 35 of 50 observed minutes."""
    execution = [(10 * MIN, "ACTIVE"), (40 * MIN, "FEED_HOLD"), (50 * MIN, "ACTIVE")]
    conditions = {"servo": [(0, "NORMAL||||"), (55 * MIN, "FAULT|417|1||servo alarm")]}
    states = machine.intervals(execution, conditions, start=0, end=60 * MIN)
    found, seconds = figure(states, 0, 60 * MIN)

    assert states == [
        Interval("UNAVAILABLE", 0, 10 * MIN),
        Interval("ACTIVE", 10 * MIN, 40 * MIN),
        Interval("FEED_HOLD", 40 * MIN, 50 * MIN),
        Interval("ACTIVE", 50 * MIN, 55 * MIN),
        Interval("FAULT", 55 * MIN, 60 * MIN),
    ]
    assert found.value == 35 / 50
    assert found.coverage == 50 / 60
    assert found.facts == {"APT_s": 2100.0, "PBT_s": 3000.0}
    assert seconds == {"UNAVAILABLE": 600.0, "ACTIVE": 2100.0, "FEED_HOLD": 600.0, "FAULT": 300.0}
    assert machine.faults_in(conditions, start=0, end=60 * MIN) == 1


def test_unavailable_is_a_state_and_never_filled_with_the_last_one():
    execution = [(0, "ACTIVE"), (10 * MIN, None), (30 * MIN, "ACTIVE")]
    states = machine.intervals(execution, {}, start=0, end=40 * MIN)
    found, _ = figure(states, 0, 40 * MIN)

    assert [state.state for state in states] == ["ACTIVE", "UNAVAILABLE", "ACTIVE"]
    assert (found.value, found.coverage) == (1.0, 0.5)


def test_a_cut_connection_is_unavailable_whatever_was_last_seen():
    states = machine.intervals(
        [(0, "ACTIVE")], {}, start=0, end=60 * MIN, gaps=[(20 * MIN, 30 * MIN), (25 * MIN, 35 * MIN)]
    )

    assert states == [
        Interval("ACTIVE", 0, 20 * MIN),
        Interval("UNAVAILABLE", 20 * MIN, 35 * MIN),
        Interval("ACTIVE", 35 * MIN, 60 * MIN),
    ]


def test_the_state_at_the_start_is_the_last_one_before_the_window():
    states = machine.intervals([(-50, "READY"), (-5, "ACTIVE")], {}, start=0, end=MIN)

    assert states == [Interval("ACTIVE", 0, MIN)]


def test_a_machine_that_was_never_available_has_no_availability():
    found, _ = figure(machine.intervals([], {}, start=0, end=MIN), 0, MIN)

    assert (found.value, found.coverage) == (None, 0.0)
    assert found.reason


def test_with_an_order_calendar_the_planned_busy_time_is_the_denominator():
    """Planned 20 to 60 of 60 minutes; ACTIVE 10 to 40: APT 20, PBT 40."""
    states = machine.intervals([(0, "READY"), (10 * MIN, "ACTIVE"), (40 * MIN, "READY")], {}, start=0, end=60 * MIN)
    found, _ = figure(states, 0, 60 * MIN, planned=[(20 * MIN, 50 * MIN), (45 * MIN, 90 * MIN)])

    assert (found.value, found.coverage) == (0.5, 1.0)
    assert "PBT from the order calendar" in found.definition


def test_a_warning_is_no_fault_and_an_unavailable_machine_is_not_faulty():
    conditions = {"a": [(0, "WARNING|1|||low oil")], "b": [(0, "Fault||||")]}

    assert machine.intervals([(0, "ACTIVE")], {"a": conditions["a"]}, start=0, end=MIN)[0].state == "ACTIVE"
    assert machine.intervals([(0, "UNAVAILABLE")], conditions, start=0, end=MIN)[0].state == "UNAVAILABLE"
    assert machine.level("Unavailable||||") == "UNAVAILABLE"


STATES = st.sampled_from(["ACTIVE", "READY", "STOPPED", None])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-50, 150), STATES), max_size=12).map(
        lambda items: sorted(items, key=lambda item: item[0])
    ),
    st.lists(st.tuples(st.integers(-50, 150), st.sampled_from(["FAULT||||", "NORMAL", None])), max_size=6).map(
        lambda items: sorted(items, key=lambda item: item[0])
    ),
    st.lists(
        st.tuples(st.integers(-20, 120), st.integers(0, 30)).map(lambda gap: (gap[0], gap[0] + gap[1])), max_size=3
    ),
)
def test_intervals_cover_the_window_without_hole_or_overlap(execution, condition, gaps):
    states = machine.intervals(execution, {"c": condition}, start=0, end=100, gaps=gaps)
    found, seconds = figure(states, 0, 100)

    assert states[0].start == 0
    assert states[-1].end == 100
    assert all(a.end == b.start and a.state != b.state for a, b in itertools.pairwise(states))
    assert abs(sum(seconds.values()) * NS - 100) < 1e-6
    assert found.value is None or 0 <= found.value <= 1
    assert abs(found.coverage - (1 - seconds.get("UNAVAILABLE", 0.0) * NS / 100)) < 1e-9
