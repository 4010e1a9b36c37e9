"""Individuals and moving range, run rules, capability."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.watch import control_chart

MONTGOMERY = [
    33.75, 33.05, 34.00, 33.81, 33.46, 34.02, 33.68, 33.27, 33.49, 33.20, 33.62, 33.00, 33.54, 33.12, 33.84,
]  # fmt: skip
"""Viscosity of aircraft primer paint, D. C. Montgomery, Introduction to Statistical Quality Control, table of the chapter on individuals."""


def test_the_textbook_example_of_individuals():
    """Montgomery prints x̄ = 33.52, MR̄ = 0.48, limits 34.80 and 32.24, upper range limit 1.57; two decimals."""
    centre, lower, upper, mean_range, range_upper = control_chart.limits(MONTGOMERY)

    assert round(centre, 2) == 33.52
    assert round(mean_range, 2) == 0.48
    assert round(upper, 2) == pytest.approx(34.80, abs=0.011)
    assert round(lower, 2) == pytest.approx(32.24, abs=0.011)
    assert round(range_upper, 2) == pytest.approx(1.57, abs=0.011)
    assert control_chart.signals(MONTGOMERY, [str(n) for n in range(15)]) == []


def rules_at(values, index):
    found = control_chart.signals(values, [str(n) for n in range(len(values))])
    return [point.rule for point in found if point.index == index]


def with_tail(*tail):
    """Thirty alternating values (sigma of 1 up to the tail's own share) followed by a tail in units of that sigma."""
    return [0.564 if n % 2 else -0.564 for n in range(60)] + list(tail)


def test_each_rule_by_a_pattern_of_its_own():
    assert "WE1" in rules_at(with_tail(5.0), 60)
    assert "WE2" in rules_at(with_tail(2.8, 0.0, 2.8), 62)
    assert "WE3" in rules_at(with_tail(1.6, 1.6, 0.0, 1.6, 1.6), 64)
    assert rules_at(with_tail(*[0.4] * 7), 66) == ["WE4"]  # the last value before the tail is the eighth
    assert "MR" in rules_at(with_tail(4.5), 60)


def test_each_rule_names_the_side_and_is_silent_on_two_sides():
    assert "WE2" not in rules_at(with_tail(2.8, 0.0, -2.8), 62)
    assert "WE4" not in rules_at(with_tail(*[0.4, -0.4] * 8), 75)


def test_equal_values_have_no_signals_and_no_capability():
    values = [10.1] * 12
    cp, cpk = control_chart.capability(values, 9.0, 11.0, unit="mm", source="s", start=0, end=1)

    assert control_chart.signals(values, [""] * 12) == []
    assert (cp.value, cpk.value) == (None, None)
    assert cp.reason == "the values do not vary"


def test_capability_by_hand():
    """Values 9, 10, 11, 10: MR̄ = 1, σ = 1/1.128, x̄ = 10. Limits 8 and 13: Cp = 5/6σ, Cpk = 2/3σ."""
    cp, cpk = control_chart.capability([9, 10, 11, 10], 8.0, 13.0, unit="mm", source="s", start=0, end=1)

    assert cp.value == pytest.approx(5 / 6 * 1.128)
    assert cpk.value == pytest.approx(2 / 3 * 1.128)


def test_one_limit_gives_cpk_alone_and_says_why():
    cp, cpk = control_chart.capability([9, 10, 11, 10], None, 13.0, unit="mm", source="s", start=0, end=1)

    assert (cp.value, cp.reason) == (None, "only one limit is declared")
    assert cpk.value == pytest.approx(3 / 3 * 1.128)
    assert "one-sided" in cpk.definition


@pytest.mark.parametrize(
    ("lower", "upper", "reason"),
    [(None, None, "no tolerance limit is declared"), (2.0, 1.0, "the declared limits are not in order")],
)
def test_without_usable_limits_there_is_a_reason_and_no_number(lower, upper, reason):
    cp, cpk = control_chart.capability([1.0, 2.0, 1.5], lower, upper, unit="mm", source="s", start=0, end=1)

    assert (cp.value, cpk.value, cp.reason, cpk.reason) == (None, None, reason, reason)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=8, max_size=40), st.integers(-500, 500), st.sampled_from([1, 2, 5]))
def test_shifting_and_stretching_the_values_leaves_the_signals_where_they_are(values, shift, factor):
    parts = [""] * len(values)
    moved = [value * factor + shift for value in values]
    before = [(p.rule, p.index) for p in control_chart.signals(values, parts) if _clear(values, p.index)]
    after = [(p.rule, p.index) for p in control_chart.signals(moved, parts) if _clear(values, p.index)]

    assert after == before


def _clear(values, index):
    # points exactly on a limit may fall to either side by rounding
    centre, _, upper, _, _ = control_chart.limits(values)
    sigma = (upper - centre) / 3
    window = values[max(0, index - 7) : index + 1]
    return sigma > 0 and all(
        abs(abs(value - centre) / sigma - edge) > 1e-6 for value in window for edge in (0, 1, 2, 3)
    )
