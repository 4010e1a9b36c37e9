"""Demands: published, read by a partner, matched there with reasons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.clock import NS
from guantong.base.errors import Refused, Skippable
from guantong.exchange.demands import Candidate, Demand, Held, Wanted, demand_of, match

DAY = 86_400 * NS
HELD = Candidate(
    "line-1",
    "Line 1",
    (Held(("SPINDLE_TEMP", "ns=2;i=5", "Temperature"), "[degF]"), Held(("load",), "%")),
    10,
    0,
    10 * DAY,
)


def wants(*wanted: Wanted, start: int | None = None, end: int | None = None) -> Demand:
    return Demand("temps", "Temperatures", "Drift", wanted, start, end)


def test_a_term_is_found_by_any_name_and_its_unit_by_conversion() -> None:
    (found,) = match(wants(Wanted("temperature", "Cel"), Wanted("spindle temp", "K")), [HELD])

    assert found.score == 1.0
    assert [(one.kind, one.ok) for one in found.reasons] == [
        ("vocabulary", True),
        ("unit", True),
        ("vocabulary", True),
        ("unit", True),
        ("coverage", True),
    ]


def test_what_does_not_fit_is_named_with_its_reason() -> None:
    demand = wants(Wanted("Temperature", "Cel"), Wanted("load", "N"), Wanted("vibration"), start=5 * DAY, end=15 * DAY)
    (found,) = match(demand, [HELD])
    failed = {(one.kind, one.facts.get("term", "")) for one in found.reasons if not one.ok}

    assert failed == {("unit", "load"), ("vocabulary", "vibration")}
    assert found.reasons[-1].facts["share"] == 0.5
    assert found.score == pytest.approx(1 / 3 * 0.5, abs=1e-4)
    assert match(wants(Wanted("load", "N")), [HELD]) == []
    assert match(wants(Wanted("load"), start=20 * DAY, end=30 * DAY), [HELD])[0].score == 0.0


@given(
    st.lists(st.sampled_from([("a", "m"), ("b", "Cel"), ("c", "")]), min_size=1, max_size=3, unique=True),
    st.integers(0, 20),
    st.integers(1, 20),
)
def test_the_order_of_datasets_changes_nothing_and_more_coverage_never_scores_less(
    held: list[tuple[str, str]], first: int, days: int
) -> None:
    demand = wants(Wanted("a", "mm"), Wanted("b", "K"), start=0, end=20 * DAY)
    quantities = tuple(Held((name,), unit) for name, unit in held)
    small = Candidate("small", "", quantities, 1, first * DAY, (first + days) * DAY)
    large = Candidate("large", "", quantities, 1, 0, max(20, first + days) * DAY)
    one, other = match(demand, [small, large]), match(demand, [large, small])

    assert one == other
    assert all(0 <= found.score <= 1 for found in one)
    if one:
        assert one[0].dataset_id == "large"


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"id": "A b", "title": "", "wanted": [{"term": "x"}]},
        {"id": "a", "title": "", "wanted": []},
        {"id": "a", "title": "", "wanted": [{"term": "x", "unit": 5}]},
        {"id": "a", "title": "\x1b[2J", "wanted": [{"term": "x"}]},
        {"id": "a", "title": "", "wanted": [{"term": "x"}], "from": "2026-02-01", "until": "2026-01-01"},
    ],
    ids=["none", "empty", "id", "nothing", "unit", "escape", "period"],
)
def test_what_is_no_demand_is_refused_by_name(body: object) -> None:
    with pytest.raises(Skippable) as failed:
        demand_of(body)

    assert failed.value.code == "exchange.demand-invalid"


async def test_a_partner_reads_demands_and_matches_its_own_datasets(companies) -> None:
    customer, supplier = await companies("localhost:7301"), await companies("localhost:7302")
    body = {"id": "temps", "title": "Temperatures", "wanted": [{"term": "Temperature", "unit": "°C"}]}
    await customer.exchange.demands.publish(customer.did, demand_of(body))

    async def candidates(_: str) -> list[Candidate]:
        return [HELD]

    supplier.exchange.demands.candidates = candidates
    ((demand, found),) = await supplier.exchange.demands.matches(supplier.did, customer.did)
    await customer.exchange.demands.withdraw(customer.did, "temps")
    later = await supplier.exchange.demands.matches(supplier.did, customer.did)
    with pytest.raises(Refused):
        await customer.exchange.demands.withdraw(customer.did, "temps")

    assert demand.wanted == (Wanted("Temperature", "Cel"),)
    assert [(one.dataset_id, one.score) for one in found] == [("line-1", 1.0)]
    assert later == []
