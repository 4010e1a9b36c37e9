"""A copy that is found elsewhere names the agreement it left under, and no value has moved beyond what was declared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.errors import Refused
from guantong.exchange.deliveries import FINGERPRINT_TERM, bound
from guantong.exchange.fingerprint import FALSE_NAMING, Marking, detect, mark, read_marking, tail

MARKING = Marking("value_f64", "signal", ("source_time",), {"load": "0.1", "temperature": "0.5"})


FLOAT = 1 + 1e-6
"""What the numbers of a machine add to half a resolution."""


def readings(count: int, seed: int, *, scale: float = 40.0) -> pa.Table:
    """Readings of two signals with a declared resolution and one without."""
    random = np.random.default_rng(seed)
    names = np.array(["load", "temperature", "speed"])[np.arange(count) % 3]
    return pa.table(
        {
            "signal": pa.array(names),
            "source_time": pa.array(np.arange(count) * 1_000_000_000, pa.timestamp("ns", tz="UTC")),
            "value_f64": pa.array(np.round(random.normal(scale, 5.0, count), 2)),
        }
    )


def key(number: int) -> bytes:
    return hashlib.sha256(b"agreement %d" % number).digest()


KEYS = [(f"agreement {number}", MARKING, key(number)) for number in range(1000)]


def copied(table: pa.Table, number: int) -> pa.Table:
    return pa.Table.from_batches([mark(batch, MARKING, key(number)) for batch in table.to_batches()])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 300),
    scale=st.sampled_from([0.0, 1e-9, 40.0, 1e9, 1e17, -3e5]),
    number=st.integers(0, 999),
)
def test_no_value_moves_by_more_than_half_its_declared_resolution(
    seed: int, count: int, scale: float, number: int
) -> None:
    table = readings(count, seed, scale=scale)
    marked = copied(table, number)

    before, after = table["value_f64"].to_numpy(), marked["value_f64"].to_numpy()
    names = table["signal"].to_numpy(zero_copy_only=False)
    moved = np.abs(after - before)
    assert np.all(moved[names == "load"] <= 0.05 * FLOAT)
    assert np.all(moved[names == "temperature"] <= 0.25 * FLOAT)
    assert np.all(moved[names == "speed"] == 0.0)
    assert marked.drop_columns(["value_f64"]).equals(table.drop_columns(["value_f64"]))


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(0, 999))
def test_a_copy_of_which_half_the_rows_are_deleted_names_its_agreement_among_a_thousand(seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    marked = copied(readings(240, seed), number)
    rest = marked.take(random.permutation(marked.num_rows)[: marked.num_rows // 2])  # half of them, in another order

    found = detect(rest, KEYS)

    assert [one.agreement_id for one in found if one.named] == [f"agreement {number}"]
    assert found[0].agree == found[0].rows
    assert found[0].chance * len(KEYS) <= FALSE_NAMING


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_table_that_never_left_names_nobody(seed: int) -> None:
    # the bound over all thousand keys is one in a million a search
    assert not any(one.named for one in detect(readings(240, seed), KEYS))


def test_a_copy_with_added_and_repeated_rows_still_names_its_agreement_and_the_chance_is_the_binomials() -> None:
    marked = copied(readings(600, 7), 41)
    mixed = pa.concat_tables([marked.slice(0, 300), marked.slice(0, 100), readings(1200, 8).slice(900)])

    found = detect(mixed, KEYS)

    assert [one.agreement_id for one in found if one.named] == ["agreement 41"]
    assert found[0].rows == 400  # two thirds of the 600 different rows are of marked series; the repeated count once
    assert tail(10, 9) == pytest.approx(11 / 1024)
    assert tail(10, 0) == 1.0
    assert tail(0, 0) == 1.0


@pytest.mark.parametrize(
    "statement",
    [
        "{}",
        "not json",
        '{"value":"v","series":"s","identity":["t"],"resolution":{}}',
        '{"value":"v","series":"s","identity":[],"resolution":{"a":"0.1"}}',
        '{"value":"v","series":"s","identity":["v"],"resolution":{"a":"0.1"}}',
        '{"value":"v","series":"s","identity":["t"],"resolution":{"a":"0"}}',
        '{"value":"v","series":"s","identity":["t"],"resolution":{"a":0.1}}',
        '{"value":"v","series":"s","identity":["t"],"resolution":{"a":"0.1"},"more":1}',
    ],
)
def test_without_a_declared_resolution_no_copy_is_marked(statement: str) -> None:
    with pytest.raises(Refused, match=r"resolution|column|JSON"):
        read_marking(statement)


async def test_a_delivered_copy_names_its_agreement(
    pair: tuple[Any, Any], agreed: Callable[..., Any], started: Callable[..., Any]
) -> None:
    owner, partner = pair
    owner.table = readings(300, 1)
    policy = bound({"permission": [{"action": "use"}]}, FINGERPRINT_TERM, MARKING.text())
    copies = {}
    for name in ("one", "two"):
        agreement = await agreed(owner, partner, policy=policy, id=name, dataset_id=f"d:{name}")
        pid = await started(owner, partner, agreement)
        copies[agreement] = pa.Table.from_batches([batch async for batch in partner.exchange.pull(partner.did, pid)])

    for agreement, copy in copies.items():
        found = await owner.exchange.marks.search(owner.did, copy.slice(100))
        assert [one.agreement_id for one in found if one.named] == [agreement]
    first, second = copies.values()
    assert first["value_f64"] != second["value_f64"]
    # the contract says so to both sides, and the key was committed before the copy left
    assert "0.1" in str(owner.exchange.explain(policy))
    assert {leaf["agreement"] for leaf in owner.leaves("exchange.copy-marked")} == set(copies)


async def test_a_copy_that_can_not_be_marked_as_agreed_does_not_leave(
    pair: tuple[Any, Any], agreed: Callable[..., Any], started: Callable[..., Any]
) -> None:
    owner, partner = pair  # its table has no column source_time
    policy = bound({"permission": [{"action": "use"}]}, FINGERPRINT_TERM, MARKING.text())
    pid = await started(owner, partner, await agreed(owner, partner, policy=policy))

    with pytest.raises(Refused, match="fingerprint"):
        [batch async for batch in partner.exchange.pull(partner.did, pid)]
    assert len(owner.leaves("exchange.delivery-refused")) == 1
