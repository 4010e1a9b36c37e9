"""Cost evidence and appraisal as pure functions."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, Refused
from guantong.value import rules
from guantong.value.model import CostEntry, Meter, Meters, QualityFact, Rate

HOUR = 3600 * NS
SPREAD = {"high": "0", "medium": "0.10", "low": "0.30"}


def entry(amount, *, identity="1", grade="medium", currency="CNY", corrects="", item="points"):
    return CostEntry(
        identity, "", item, Decimal(1), "1", 0, HOUR, "keep.stats", currency, Decimal(1), "tariff",
        None if amount is None else Decimal(amount), "", grade, corrects,
    )  # fmt: skip


SCORED = QualityFact(80.0, 0.75, "rules 1")


def appraise(entries, quality=SCORED, delta=("0.9", "1", "1.2"), **more):
    facts = {
        "appraisal_id": "a",
        "subject": "d",
        "delta": delta,
        "delta_source": "declared",
        "spread": SPREAD,
        "decimals": 2,
        "at": 5 * HOUR,
    }
    return rules.appraise(rules.sheet(entries), quality, **{**facts, **more})


def test_an_appraisal_is_what_a_person_computes_by_hand():
    """C = 1000, spread 10 % of 600 and 0 of 400: 940 / 1000 / 1060. α: 0.8·0.75 = 0.60 / 0.80 / 0.60 + 0.25 = 0.85."""
    found = appraise([entry("600"), entry("400", identity="2", grade="high")])

    assert [(f.symbol, f.value.low, f.value.likely, f.value.high) for f in found.factors] == [
        ("C", Decimal("940.00"), Decimal("1000.00"), Decimal("1060.00")),
        ("δ", Decimal("0.9"), Decimal(1), Decimal("1.2")),
        ("α", Decimal("0.600000"), Decimal("0.800000"), Decimal("0.850000")),
    ]
    assert (found.value.low, found.value.likely, found.value.high) == (
        Decimal("507.60"),  # 940 · 0.9 · 0.6
        Decimal("800.00"),
        Decimal("1081.20"),  # 1060 · 1.2 · 0.85
    )
    assert {item.factor: (item.at_low, item.at_high) for item in found.sensitivity} == {
        "C": (Decimal("752.00"), Decimal("848.00")),
        "δ": (Decimal("720.00"), Decimal("960.00")),
        "α": (Decimal("600.00"), Decimal("850.00")),
    }
    assert [item.factor for item in found.sensitivity] == ["α", "δ", "C"]


def test_every_appraisal_is_stamped_not_for_booking_in_both_languages():
    found = appraise([entry("1")])

    assert found.stamp == ("reference, not for booking", "仅供参考，不得作为入账依据")


def test_every_factor_names_its_source_and_the_coverage_is_stated():
    found = appraise([entry("1")])

    assert all(factor.source for factor in found.factors)
    assert found.coverage == Decimal("0.75")
    assert "coverage c 0.75" in found.factors[2].source


def test_an_appraisal_has_no_way_into_the_cost_ledger():
    with pytest.raises(TypeError, match="no line of the cost ledger"):
        rules.sheet([appraise([entry("1")])])  # type: ignore[list-item]


def test_without_a_quality_score_there_is_no_coefficient_and_no_appraisal():
    with pytest.raises(Refused) as caught:
        appraise([entry("1")], quality=None)

    assert caught.value.code == "value.quality-missing"


@pytest.mark.parametrize("entries", [[], [entry(None)], [entry("1"), entry("1", identity="2", currency="EUR")]])
def test_no_priced_cost_or_two_currencies_give_no_appraisal(entries):
    with pytest.raises(Refused) as caught:
        appraise(entries)

    assert caught.value.code == "value.nothing-to-appraise"


@pytest.mark.parametrize("delta", [("1", "0.9", "1.2"), ("-1", "0", "1"), ("x", "1", "1"), ("1", "1", "NaN")])
def test_a_value_adjustment_that_is_no_range_is_refused(delta):
    with pytest.raises(ConfigProblem) as caught:
        appraise([entry("1")], delta=delta)

    assert caught.value.code == "value.factor-invalid"


def test_a_corrected_line_stays_visible_and_does_not_count():
    sheet = rules.sheet([entry("10"), entry("7", identity="2", corrects="1")])

    assert sheet.totals == {"CNY": Decimal(7)}
    assert len(sheet.entries) == 2
    assert (
        appraise([entry("10"), entry("7", identity="2", corrects="1")], delta=("1", "1", "1")).factors[0].value.likely
        == 7
    )


def test_what_has_no_rate_is_shown_without_an_amount():
    line = rules.price("1", "", Meter("points", Decimal(5), "{point}", "keep"), Decimal(5), "{point}", 0, 1, None, 2)
    sheet = rules.sheet([line])

    assert (line.amount, line.quantity, sheet.totals, sheet.unpriced) == (None, Decimal(5), {}, (line,))


def test_a_line_is_quantity_times_rate():
    """3,221,225,472 By·h at 0.30 a GiB·h are 0.90."""
    meter = Meter("stored-bytes", Decimal(0), "By", "keep.stats", cumulative=False)
    rate = Rate("stored-bytes", Decimal("0.30"), "CNY", "tariff", per=Decimal(1024**3))
    line = rules.price("1", "", meter, Decimal(3 * 1024**3), "By.h", 0, HOUR, rate, 2)

    assert line.amount == Decimal("0.90")


def test_a_level_counts_as_its_mean_over_time_and_a_counter_as_its_growth():
    level = Meter("stored-bytes", Decimal(300), "By", "keep", cumulative=False)
    counter = Meter("points", Decimal(150), "{point}", "keep")
    before = {
        "stored-bytes": (0, Meter("stored-bytes", Decimal(100), "By", "", cumulative=False)),
        "points": (0, Meter("points", Decimal(50), "{point}", "")),
    }
    found = rules.used(before, Meters(2 * HOUR, (level, counter)))

    assert [(meter.name, quantity, unit) for meter, quantity, unit, _ in found] == [
        ("stored-bytes", Decimal(400), "By.h"),  # mean 200 over two hours
        ("points", Decimal(100), "{point}"),
    ]


def test_a_counter_that_fell_was_reset_and_counts_what_it_shows():
    before = {"points": (0, Meter("points", Decimal(50), "{point}", ""))}
    ((_, quantity, _, _),) = rules.used(before, Meters(HOUR, (Meter("points", Decimal(20), "{point}", "k"),)))

    assert quantity == 20


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_the_sum_of_the_increments_is_the_growth_however_often_the_meter_is_read(readings):
    readings = sorted(readings)
    before: dict = {}
    total = Decimal(0)
    for at, value in enumerate(readings):
        meter = Meter("points", Decimal(value), "{point}", "keep")
        total += sum((quantity for _, quantity, _, _ in rules.used(before, Meters(at, (meter,)))), Decimal(0))
        before = {"points": (at, meter)}

    assert total == readings[-1]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from(["high", "medium", "low"])), min_size=1, max_size=8),
    st.floats(0, 100),
    st.floats(0, 1),
    st.lists(st.integers(0, 300), min_size=3, max_size=3).map(sorted),
)
def test_low_is_never_above_likely_nor_likely_above_high(costs, score, coverage, delta):
    entries = [entry(str(amount), identity=str(n), grade=grade) for n, (amount, grade) in enumerate(costs)]
    low, likely, high = (str(Decimal(value) / 100) for value in delta)
    found = appraise(entries, QualityFact(score, coverage, "r"), (low, likely, high))

    assert found.value.low <= found.value.likely <= found.value.high
    for item in found.sensitivity:
        assert found.value.low <= item.at_low <= found.value.likely <= item.at_high <= found.value.high
