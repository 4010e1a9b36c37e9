"""Shares of revenue and payouts of pools: they add up, order changes nothing, and copies gain nothing."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.errors import ConfigProblem
from guantong.settle.rules import coverage, near_duplicates, payouts, shapley, share_out, split

weights = st.lists(st.fractions(0, 100), min_size=1, max_size=12)
holdings = st.dictionaries(
    st.sampled_from("abcdef"), st.frozensets(st.sampled_from("0123456789"), max_size=8), min_size=1, max_size=6
)


@given(st.integers(0, 10**12), weights)
def test_shares_add_up_to_the_last_cent_and_stand_within_one_of_their_part(total: int, given_: list[Fraction]) -> None:
    shares = split(total, given_)
    whole = sum(given_, Fraction(0))

    assert sum(shares) == total
    if whole:
        assert all(abs(share - total * weight / whole) < 1 for share, weight in zip(shares, given_, strict=True))


def by_definition(owners: list[str], value: Any) -> dict[str, Fraction]:
    """Mean of marginal contributions over all orders."""
    orders = list(itertools.permutations(range(len(owners))))
    found = dict.fromkeys(owners, Fraction(0))
    for order in orders:
        mask = 0
        for at in order:
            found[owners[at]] += value(mask | 1 << at) - value(mask)
            mask |= 1 << at
    return {owner: total / len(orders) for owner, total in found.items()}


@given(st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_shapley_value_is_the_mean_over_all_orders(n: int, chance: random.Random) -> None:
    owners = [f"o{at}" for at in range(n)]
    values = {mask: Fraction(chance.randint(-20, 20), chance.randint(1, 6)) for mask in range(1 << n)} | {
        0: Fraction(0)
    }
    found = shapley(owners, values.__getitem__)

    assert found == by_definition(owners, values.__getitem__)
    assert sum(found.values()) == values[(1 << n) - 1]


@given(holdings)
def test_coverage_is_the_shapley_value_of_the_union(held: dict[str, frozenset[str]]) -> None:
    owners = sorted(held)

    def union(mask: int) -> Fraction:
        return Fraction(len(frozenset().union(*(held[one] for at, one in enumerate(owners) if mask >> at & 1))))

    assert coverage(held) == shapley(owners, union)


@given(holdings, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_owners_changes_nothing_and_everybody_computes_the_same(
    held: dict[str, frozenset[str]], total: int, chance: random.Random
) -> None:
    owners = list(held)
    made = share_out(total=total, currency="CNY", rule="coverage", owners=owners, holdings=held)
    chance.shuffle(owners)
    again = share_out(
        total=total, currency="CNY", rule="coverage", owners=owners, holdings=dict(reversed(held.items()))
    )

    assert made == again
    assert sum(int(row["share"]) for row in made["shares"]) == total


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("equal", {}),
        ("coverage", {}),
        ("proportional", {"weights": {"a": "5", "b": "3", "b2": "3", "b3": "3"}}),
        ("shapley", {"statistics": {"a": 500, "b": 300, "b2": 300, "b3": 300}, "half": 100}),
    ],
)
def test_who_copies_itself_earns_together_no_more_than_alone_and_less_with_a_penalty(rule: str, more: Any) -> None:
    records = {"a": {f"r{at}" for at in range(50)}, "b": {f"r{at}" for at in range(40, 80)}}
    copied = records | {"b2": records["b"] - {"r79"}, "b3": records["b"] | {"x"}}
    alone = share_out(total=100_000, currency="CNY", rule=rule, owners=["a", "b"], holdings=records, **more)
    cloned = share_out(total=100_000, currency="CNY", rule=rule, owners=sorted(copied), holdings=copied, **more)
    punished = share_out(
        total=100_000, currency="CNY", rule=rule, owners=sorted(copied), holdings=copied, penalty="0.25", **more
    )

    def earns(made: Any) -> int:
        return sum(int(row["share"]) for row in made["shares"] if row["owner"].startswith("b"))

    assert cloned["groups"] == [["b", "b2", "b3"]]
    assert earns(cloned) <= earns(alone) * 1.02  # the union of nearly equal copies may hold a record more
    assert earns(punished) < earns(alone)
    assert "clone-resistant" in cloned["bound"]


def test_copies_less_alike_than_the_threshold_are_not_found_and_the_bound_does_not_claim_it() -> None:
    half = {"a": frozenset("0123456789"), "b": frozenset("01234abcde")}

    assert near_duplicates(half, Fraction("0.9")) == []
    assert near_duplicates(half, Fraction("0.3")) == [("a", "b")]


def test_sixteen_owners_are_shared_exactly_and_seventeen_are_refused() -> None:
    counts = {f"owner {at:02d}": 10 * (at + 1) for at in range(16)}
    made = share_out(
        total=1_000_000, currency="CNY", rule="shapley", owners=sorted(counts), statistics=counts, half=500
    )
    shares = [int(row["share"]) for row in made["shares"]]
    with pytest.raises(ConfigProblem):
        share_out(
            total=1, currency="CNY", rule="shapley", owners=[str(at) for at in range(17)],
            statistics={str(at): 1 for at in range(17)}, half=1,
        )  # fmt: skip

    assert sum(shares) == 1_000_000
    assert shares == sorted(shares)


def test_a_coalition_table_is_shared_as_a_person_computes_it() -> None:
    """Two owners worth 10 and 20 alone and 50 together: 20 and 30."""
    made = share_out(
        total=5_000, currency="CNY", rule="shapley", owners=["x", "y"], coalitions={"x": "10", "y": "20", "x+y": "50"}
    )

    assert [(row["owner"], row["weight"], row["share"]) for row in made["shares"]] == [
        ("x", "20", "2000"),
        ("y", "30", "3000"),
    ]


POOL = {
    "id": "downtime", "currency": "CNY", "premium": "10000", "members": ["a", "b", "c"],
    "trigger": {"figure": "availability", "below": "0.80"}, "payout": {"each": "5000", "step": "0.05"},
}  # fmt: skip


def test_a_pool_pays_what_the_evidence_triggers() -> None:
    made = payouts(
        POOL,
        {
            "a": {"figure": "sha256:1", "value": "0.68", "unit": "1", "definition": "availability"},
            "b": {"figure": "sha256:2", "value": "0.91", "unit": "1"},
            "c": {"figure": "sha256:3", "value": None, "unit": "1"},
        },
    )

    assert [(row["member"], row["paid"], row["why"]) for row in made["members"]] == [
        ("a", "10000", "triggered, 2 steps"),
        ("b", "0", "not triggered"),
        ("c", "0", "the figure is undefined"),
    ]
    assert (made["held"], made["paid"], made["stays"]) == ("30000", "10000", "20000")


@given(st.dictionaries(st.sampled_from("abc"), st.decimals(0, 1, places=3), max_size=3))
def test_a_pool_never_pays_more_than_it_holds_and_loses_no_cent(values: dict[str, Any]) -> None:
    made = payouts(
        POOL, {who: {"figure": "sha256:x", "value": str(value), "unit": "1"} for who, value in values.items()}
    )
    paid = [int(row["paid"]) for row in made["members"]]

    assert sum(paid) == int(made["paid"]) <= 30_000
    assert int(made["paid"]) + int(made["stays"]) == int(made["held"])
    assert all(amount <= int(row["due"]) for amount, row in zip(paid, made["members"], strict=True))


@pytest.mark.parametrize(
    "more",
    [
        {"rule": "fair"},
        {"owners": ["a", "a"]},
        {"owners": []},
        {"penalty": "2"},
        {"rule": "proportional"},
        {"rule": "shapley"},
    ],
)
def test_a_rule_that_can_not_be_followed_is_refused(more: Any) -> None:
    with pytest.raises(ConfigProblem) as caught:
        share_out(**{"total": 1, "currency": "CNY", "rule": "equal", "owners": ["a", "b"], **more})

    assert caught.value.code == "settle.share-invalid"
