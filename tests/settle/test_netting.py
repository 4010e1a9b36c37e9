"""Netting: what is set off is a greatest circulation, and a certificate says so to people without a solver."""

from __future__ import annotations

import copy
import itertools
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.errors import Skippable
from guantong.settle.clearing import clear
from guantong.settle.netting import Obligation, bilateral, check, gathered, in_chinese, positions, residual

debts = st.lists(
    st.builds(Obligation, st.sampled_from("abcdefg"), st.sampled_from("abcdefg"), st.integers(0, 10**11)).filter(
        lambda one: one.debtor != one.creditor
    ),
    max_size=25,
)


def triangle() -> list[Obligation]:
    return [Obligation("a", "b", 100), Obligation("b", "c", 80), Obligation("c", "a", 50), Obligation("a", "c", 20)]


def test_a_triangle_is_set_off_as_a_person_would() -> None:
    """a owes b 100, b owes c 80, c owes a 50, a owes c 20: fifty around the three."""
    made = clear(triangle(), currency="CNY")

    assert made["cancelled"] == "150"
    assert residual(made) == [Obligation("a", "b", 50), Obligation("a", "c", 20), Obligation("b", "c", 30)]
    assert check(made) == []


def test_two_debts_between_two_leave_their_difference() -> None:
    assert bilateral([Obligation("a", "b", 70), Obligation("b", "a", 30), Obligation("b", "c", 5)]) == [
        Obligation("a", "b", 40),
        Obligation("b", "c", 5),
    ]


@given(debts)
@settings(max_examples=80, deadline=None)
def test_net_positions_stay_totals_add_up_and_no_debt_grows(given_: list[Obligation]) -> None:
    made = clear(given_, currency="CNY")
    stays = residual(made)
    before, after = positions(given_), positions(stays)

    assert check(made) == []
    assert {party: value for party, value in before.items() if value} == {p: v for p, v in after.items() if v}
    assert int(made["gross"]) - int(made["cancelled"]) == sum(one.amount for one in stays)
    owed = {(one.debtor, one.creditor): one.amount for one in gathered(given_)}
    assert all(one.amount <= owed[one.debtor, one.creditor] for one in stays)
    assert sum(one.amount for one in stays) <= sum(one.amount for one in bilateral(given_))


@given(debts, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_and_cutting_up_of_debts_changes_nothing(given_: list[Obligation], chance: random.Random) -> None:
    pieces = []
    for one in given_:
        part = chance.randint(0, one.amount)
        pieces += [Obligation(one.debtor, one.creditor, part), Obligation(one.debtor, one.creditor, one.amount - part)]
    chance.shuffle(pieces)

    assert clear(pieces, currency="CNY") == clear(given_, currency="CNY")


@given(debts.filter(lambda found: len(gathered(found)) > 2))
@settings(max_examples=30, deadline=None)
def test_nothing_larger_exists_by_another_algorithm(given_: list[Obligation]) -> None:
    """networkx's network simplex, which shares nothing with HiGHS, comes to the same sum."""
    import networkx

    graph = networkx.DiGraph()
    for one in gathered(given_):
        graph.add_edge(one.debtor, one.creditor, capacity=one.amount, weight=-1)
    cost, _ = networkx.network_simplex(graph)

    assert int(clear(given_, currency="CNY")["cancelled"]) == -cost


def certificates() -> dict[str, Any]:
    chance = random.Random(11)
    parties = [f"firm {at}" for at in range(12)]
    return clear([Obligation(*chance.sample(parties, 2), chance.randint(1, 10**8)) for _ in range(60)], currency="CNY")


def test_a_certificate_is_refused_after_a_change_of_one_cent_anywhere() -> None:
    made = certificates()
    assert check(made) == []
    changes = 0
    for at, place in itertools.product(range(len(made["obligations"])), (2, 3)):
        for by in (1, -1):
            changed = copy.deepcopy(made)
            changed["obligations"][at][place] = str(int(changed["obligations"][at][place]) + by)
            assert check(changed), (at, place, by)
            changes += 1
    for name in ("gross", "cancelled"):
        changed = copy.deepcopy(made)
        changed[name] = str(int(changed[name]) + 1)
        assert check(changed)

    assert changes == 4 * len(made["obligations"])


def test_every_reason_is_also_said_in_chinese() -> None:
    made = certificates()
    rows = made["obligations"]
    broken: list[dict[str, Any]] = [
        {},
        {**made, "obligations": rows[::-1]},
        {**made, "obligations": [[rows[0][0], rows[0][1], "1", "2"], *rows[1:]]},
        {**made, "gross": "1"},
        {**made, "cancelled": "1"},
        {**made, "potentials": {}},
        *(
            {**made, "obligations": [[*debt, "0"]]}
            for debt in (("a", "a", "1"), ("a", "b", "-1"), ("a", "b", str(2**60)))
        ),
    ]
    found = [problem for document in broken for problem in check(document)]
    said = [in_chinese(problem) for problem in found]

    assert len(set(found)) >= 10
    assert [one for one in said if not re.search("[\u4e00-\u9fff]", one)] == []
    assert "抵销的金额超过其欠" in "".join(said)


def test_a_circulation_that_could_be_larger_is_not_proven_by_any_potentials() -> None:
    made = clear(triangle(), currency="CNY")
    small = copy.deepcopy(made)
    for row, flow in zip(small["obligations"], (49, 0, 49, 49), strict=True):
        row[3] = str(flow)
    small["cancelled"] = "147"
    found = check(small)

    assert any("not shown that no more" in problem for problem in found)


@pytest.mark.parametrize("document", [{}, {"obligations": 3}, {"obligations": [["a"]], "potentials": {}}])
def test_a_certificate_of_another_form_is_said_to_be_so(document: Any) -> None:
    assert "another form" in check(document)[0]


@pytest.mark.parametrize(
    "debt", [Obligation("a", "a", 5), Obligation("a", "b", -1), Obligation("", "b", 1), Obligation("a", "b", 2**60)]
)
def test_a_debt_that_can_not_be_is_refused(debt: Obligation) -> None:
    with pytest.raises(Skippable) as caught:
        clear([debt], currency="CNY")

    assert caught.value.code == "settle.obligation-unusable"


def test_nothing_owed_is_set_off_as_nothing() -> None:
    made = clear([], currency="CNY")

    assert (made["cancelled"], check(made)) == ("0", [])
