"""Days of supply added up along the chain, beside the linear programme of the literature."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from guantong.base.errors import ConfigProblem
from guantong.watch.model import Supply
from guantong.watch.survival import check_supplies, days_text, is_tree, survive


def supply(name, stock, usage, *inputs, **more):
    return Supply(name, stock, usage, inputs, **more)


def linear_programme(supplies, stopped):
    """Time to survive of the whole network (Simchi-Levi et al. 2015, multi-tier, no loss): max t, one unit of each input a unit made.

    Variables: t, production u_i, flow y_ij. Capacity is exactly the usage rate, as the guarantee demands.
    """
    names = [item.component for item in supplies]
    arcs = [(source, item.component) for item in supplies for source in item.inputs]
    width = 1 + len(names) + len(arcs)
    u = {name: 1 + index for index, name in enumerate(names)}
    y = {arc: 1 + len(names) + index for index, arc in enumerate(arcs)}
    feeding = {source for source, _ in arcs}
    rows, bounds = [], []

    def row(bound, **terms):
        line = np.zeros(width)
        for column, factor in terms["terms"]:
            line[column] += factor
        rows.append(line)
        bounds.append(bound)

    for item in supplies:
        for source in item.inputs:
            row(0, terms=[(u[item.component], 1), (y[source, item.component], -1)])
        out = [(y[arc], 1) for arc in arcs if arc[0] == item.component]
        if out:
            row(item.stock, terms=[*out, (u[item.component], -1)])
        if item.component not in feeding:
            row(item.stock, terms=[(0, item.usage_per_day), (u[item.component], -1)])
        row(0, terms=[(u[item.component], 1), (0, -item.usage_per_day)])
    limits = [(0, 1e6)] + [(0, 0) if name in stopped else (0, None) for name in names] + [(0, None)] * len(arcs)
    cost = np.zeros(width)
    cost[0] = -1
    answer = linprog(cost, A_ub=np.array(rows), b_ub=bounds, bounds=limits, method="highs")
    assert answer.status == 0
    return answer.x[0]


def random_tree(rng):
    """A tree in which every component feeds one other; usage is the end product's demand, one piece each."""
    size = rng.randint(2, 9)
    demand = rng.uniform(1, 20)
    parents = [None] + [rng.randrange(index) for index in range(1, size)]
    inputs = {index: [f"c{child}" for child in range(size) if parents[child] == index] for index in range(size)}
    return [supply(f"c{index}", rng.uniform(0, 100), demand, *inputs[index]) for index in range(size)]


@pytest.mark.parametrize("seed", range(40))
def test_on_a_tree_the_result_is_the_optimum_of_the_linear_programme(seed):
    rng = random.Random(seed)
    tree = random_tree(rng)
    stopped = rng.choice(tree).component

    assert is_tree(tree)
    assert survive(tree, {stopped: None})["c0"] == pytest.approx(linear_programme(tree, {stopped}), rel=1e-9, abs=1e-9)


def random_shared(rng):
    """A network in which components feed several others; usage of each is the sum of what its consumers use."""
    size = rng.randint(3, 8)
    inputs = {
        index: sorted({rng.randrange(index + 1, size) for _ in range(rng.randint(1, 3))}) if index < size - 1 else []
        for index in range(size)
    }
    usage = {0: rng.uniform(1, 20)}
    for index in range(size):
        for source in inputs[index]:
            usage[source] = usage.get(source, 0.0) + usage.get(index, 0.0)
    used = [index for index in range(size) if usage.get(index)]
    return [
        supply(f"c{index}", rng.uniform(0, 100), usage[index], *(f"c{source}" for source in inputs[index]))
        for index in used
    ]


@pytest.mark.parametrize("seed", range(40))
def test_with_shared_components_the_result_is_never_above_the_linear_programme(seed):
    rng = random.Random(1000 + seed)
    network = random_shared(rng)
    stopped = rng.choice(network).component

    assert survive(network, {stopped: None})["c0"] <= linear_programme(network, {stopped}) * (1 + 1e-9) + 1e-9


def test_a_chain_by_hand():
    """Forging 10 d, gear 4 d, gearbox 2.5 d, beside a housing that is not affected: 16.5 days."""
    chain = [
        supply("forging", 100, 10),
        supply("gear", 40, 10, "forging"),
        supply("housing", 5, 10),
        supply("gearbox", 25, 10, "gear", "housing", end_product=True),
    ]
    days = survive(chain, {"forging": None})

    assert days == {"forging": 10.0, "gear": 14.0, "gearbox": 16.5}
    assert survive(chain, {"housing": None})["gearbox"] == 3.0


def test_a_partners_days_come_before_our_own_stock():
    ours = [supply("gear", 40, 10, partner="did:web:s", agreement_id="a"), supply("gearbox", 25, 10, "gear")]

    assert survive(ours, {"gear": 6.0}) == {"gear": 10.0, "gearbox": 12.5}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 50))
def test_more_stock_never_shortens_survival(seed, more):
    rng = random.Random(seed)
    tree = random_tree(rng)
    stopped, index = rng.choice(tree).component, rng.randrange(len(tree))
    richer = list(tree)
    richer[index] = supply(
        tree[index].component, tree[index].stock + more, tree[index].usage_per_day, *tree[index].inputs
    )

    assert survive(richer, {stopped: None})["c0"] >= survive(tree, {stopped: None})["c0"] - 1e-9


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([supply("a", -1, 1)], "not below zero"),
        ([supply("a", float("nan"), 1)], "not below zero"),
        ([supply("a", 1, 0)], "above zero"),
        ([supply("a", 1, 1), supply("a", 1, 1)], "twice"),
        ([supply("a", 1, 1, "b")], "not in the table"),
        ([supply("a", 1, 1, "a")], "needs itself: a → a"),
        ([supply("a", 1, 1, "b"), supply("b", 1, 1, "c"), supply("c", 1, 1, "b")], "needs itself: b → c → b"),
        ([supply("a", 1, 1, partner="did:web:p")], "agreement"),
        ([supply("", 1, 1)], "name"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused_with_its_reason(table, reason):
    assert any(reason in found for _, found in check_supplies(table))
    with pytest.raises(ConfigProblem) as caught:
        survive(table, {})
    assert caught.value.code == "watch.supply-invalid"


def test_a_diamond_is_no_loop():
    diamond = [supply("x", 4, 2), supply("l", 1, 1, "x"), supply("r", 3, 1, "x"), supply("p", 5, 1, "l", "r")]

    assert list(check_supplies(diamond)) == []
    assert not is_tree(diamond)
    assert survive(diamond, {"x": None})["p"] == 8.0


@given(st.floats(0, 1e6))
def test_days_on_the_wire_are_never_more_than_they_are(days):
    assert float(days_text(days)) <= days < float(days_text(days)) + 0.001 + 1e-9
