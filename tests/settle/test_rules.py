"""The invoice as a pure function."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.settle.conftest import AGREEMENT, CONSUMER, PLAN, PROVIDER, receipt, usage

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.base.merkle import Frontier, leaf_hash, node_hash
from guantong.settle import rules

ISSUED = 1_795_000_000_000_000_000


def invoice(records, plan=PLAN, **more):
    return rules.invoice(rules.PricePlan.parse(plan), records, number="GT-2026-000001", issued_at=ISSUED, **more)


def test_an_invoice_is_what_a_person_computes_by_hand():
    """2,250 rows, 1,000 free: 1,250 · 0.0028 = 3.50; two transfers · 0.5 = 1.00; 4.50 + 6 % = 0.27; 4.77."""
    found = invoice([usage(0, 1500), usage(1, 500), usage(0, 250, transfer="urn:uuid:t2")])

    assert [(line["per"], line["billable"], line["amount"]) for line in found["lines"]] == [
        ("row", "1250", "3.50"),
        ("transfer", "2", "1.00"),
    ]
    assert (found["subtotal"], found["taxes"][0]["amount"], found["total"]) == ("4.50", "0.27", "4.77")
    assert (found["agreementId"], found["provider"], found["consumer"]) == (AGREEMENT, PROVIDER, CONSUMER)
    assert found["lines"][1]["receipts"] == ["urn:uuid:record-t1-0", "urn:uuid:record-t2-0"]


def test_the_minimum_raises_and_the_cap_lowers_the_subtotal_and_the_invoice_says_so():
    low = invoice([usage(0, 10)])
    high = invoice([usage(0, 10_000_000)], {**PLAN, "cap": "20.00"})

    assert (low["adjusted"], low["subtotal"], low["total"]) == ("minimum", "1.00", "1.06")
    assert (high["adjusted"], high["subtotal"], high["total"]) == ("cap", "20.00", "21.20")


@pytest.mark.parametrize(
    ("rule", "amount"), [("half-up", "0.03"), ("half-even", "0.02"), ("down", "0.02"), ("up", "0.03")]
)
def test_the_plan_states_how_a_half_cent_is_rounded(rule, amount):
    """5 rows at 0.005 are 0.025, exactly half a cent."""
    plan = {"currency": "CNY", "charges": [{"per": "row", "price": "0.005"}], "rounding": rule}

    assert invoice([usage(0, 5)], plan)["total"] == amount


def test_the_records_root_is_the_rfc_6962_root_of_three_records():
    records = [usage(0, 1), usage(1, 2), usage(2, 3)]
    a, b, c = (leaf_hash(canonical_bytes(record)) for record in records)

    assert rules.records_root(reversed(records)) == "sha256:" + node_hash(node_hash(a, b), c).hex()


def test_a_free_quota_larger_than_the_use_bills_nothing():
    plan = {"currency": "EUR", "charges": [{"per": "byte", "price": "1", "free": "100000"}]}
    found = invoice([usage(0, 10)], plan)

    assert (found["lines"][0]["free"], found["lines"][0]["billable"], found["total"]) == ("400", "0", "0.00")


def test_yen_has_no_decimals():
    plan = {"currency": "JPY", "decimals": 0, "charges": [{"per": "row", "price": "0.5"}]}

    assert invoice([usage(0, 3)], plan)["total"] == "2"


def test_one_number_with_two_contents_is_refused_and_names_both():
    with pytest.raises(Refused) as caught:
        invoice([usage(0, 10), usage(0, 11)])

    assert caught.value.code == "settle.receipt-conflict"


def test_records_of_two_agreements_make_no_invoice():
    with pytest.raises(Skippable) as caught:
        invoice([usage(0, 10), usage(1, 10, agreementId="another")])

    assert caught.value.code == "settle.agreement-mixed"


def test_a_record_that_does_not_count_what_is_charged_is_refused_rather_than_free():
    record = usage(0, 10)
    del record["bytes"]
    with pytest.raises(Skippable) as caught:
        invoice([record], {"currency": "CNY", "charges": [{"per": "byte", "price": "1"}]})

    assert caught.value.code == "settle.record-unusable"


def test_readings_are_counted_where_they_are_the_records_unit():
    plan = {"currency": "CNY", "charges": [{"per": "reading", "price": "0.01"}]}

    assert invoice([usage(0, 10, unit="readings", quantity=700)], plan)["total"] == "7.00"
    assert invoice([usage(0, 10)], plan)["total"] == "0.10"


def test_only_countersigned_and_marked_one_sided_receipts_count():
    receipts = [
        receipt(usage(0, 10)),
        receipt(usage(1, 10), "one-sided"),
        receipt(usage(2, 10), "offered"),
        receipt(usage(3, 10), "disputed"),
        receipt(usage(4, 10), "silent"),
    ]
    ready = rules.countable(receipts)
    found = invoice(ready.records, one_sided=ready.one_sided)

    assert [row["seq"] for row in found["receipts"]] == [0, 1]
    assert [row["oneSided"] for row in found["receipts"]] == [False, True]
    assert ready.left_out == (
        ("urn:uuid:record-t1-2", "offered"),
        ("urn:uuid:record-t1-3", "disputed"),
        ("urn:uuid:record-t1-4", "silent"),
    )


def test_a_record_that_corrects_another_takes_its_place():
    first, second = usage(0, 10), usage(1, 7, corrects="urn:uuid:record-t1-0")
    ready = rules.countable([receipt(first), receipt(second)])

    assert list(ready.records) == [second]
    assert ready.left_out == (("urn:uuid:record-t1-0", "corrected"),)


def test_currencies_are_never_added_to_each_other():
    sums = rules.totals(
        [
            {"currency": "CNY", "total": "1.10"},
            {"currency": "EUR", "total": "2.00"},
            {"currency": "CNY", "total": "0.90"},
        ]
    )

    assert sums == {"CNY": "2.00", "EUR": "2.00"}


BROKEN_PLANS = [
    ({"currency": "yuan", "charges": [{"per": "row", "price": "1"}]}, "$.currency"),
    ({"currency": "CNY", "charges": []}, "$.charges"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": 0.1}]}, "$.charges[0].price"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "-1"}]}, "$.charges[0].price"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1e9"}]}, "$.charges[0].price"),
    ({"currency": "CNY", "charges": [{"per": "kilometre", "price": "1"}]}, "$.charges[0].per"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}] * 2}, "$.charges[1].per"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}], "minimum": "5", "cap": "4"}, "$.cap"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}], "rounding": "bankers"}, "$.rounding"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}], "taxes": [{"rate": "0.1"}]}, "$.taxes[0]"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}], "discount": "0.1"}, "$.discount"),
    ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}], "decimals": True}, "$.decimals"),
    ([], "$"),
]


@pytest.mark.parametrize(("plan", "path"), BROKEN_PLANS)
def test_a_broken_plan_is_refused_with_the_place_of_the_problem(plan, path):
    assert [found for found, _ in rules.check_plan(plan)] == [path]
    with pytest.raises(ConfigProblem) as caught:
        rules.PricePlan.parse(plan)
    assert caught.value.facts["path"] == path


PRICES = st.decimals(min_value=0, max_value=1000, places=4).map(lambda price: format(price, "f"))
PLANS = st.fixed_dictionaries(
    {
        "currency": st.sampled_from(["CNY", "EUR"]),
        "decimals": st.integers(0, 4),
        "charges": st.lists(
            st.fixed_dictionaries(
                {"per": st.sampled_from(["agreement", "byte", "row", "transfer"]), "price": PRICES},
                optional={"free": st.integers(0, 5000).map(str)},
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda charge: charge["per"],
        ),
        "rounding": st.sampled_from(sorted(rules.ROUNDINGS)),
        "taxes": st.lists(st.fixed_dictionaries({"name": st.just("t"), "rate": PRICES}), max_size=2),
    },
    optional={"minimum": st.integers(0, 50).map(str), "cap": st.integers(50, 10_000).map(str)},
)
RECORDS = st.lists(
    st.builds(
        lambda seq, rows, transfer: usage(seq, rows, transfer=f"urn:uuid:t{transfer}"),
        st.integers(0, 30),
        st.integers(0, 10**9),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda record: (record["transferProcessId"], record["seq"]),
)


@settings(max_examples=150, deadline=None)
@given(PLANS, RECORDS, st.randoms(use_true_random=False))
def test_order_repetition_and_the_callers_decimal_context_change_nothing(plan, records, random):
    straight = canonical_bytes(invoice(records, plan))
    shuffled = records + random.sample(records, k=random.randint(0, len(records)))
    random.shuffle(shuffled)
    with decimal.localcontext() as context:
        context.prec = 5
        context.rounding = decimal.ROUND_UP
        twisted = canonical_bytes(invoice(shuffled, plan))

    assert twisted == straight


@settings(max_examples=150, deadline=None)
@given(PLANS, RECORDS)
def test_the_parts_equal_the_total_and_everything_adds_up(plan, records):
    found = invoice(records, plan)
    amounts = [Decimal(row["amount"]) for row in found["receipts"]]
    lines = sum(Decimal(line["amount"]) for line in found["lines"])

    assert sum(amounts) == Decimal(found["subtotal"])
    assert all(amount >= 0 for amount in amounts)
    assert Decimal(found["total"]) == Decimal(found["subtotal"]) + sum(Decimal(tax["amount"]) for tax in found["taxes"])
    if found["adjusted"] is None:
        assert lines == Decimal(found["subtotal"])
    elif found["adjusted"] == "cap":
        assert lines > Decimal(found["subtotal"]) == Decimal(plan["cap"])
    else:
        assert lines < Decimal(found["subtotal"]) == Decimal(plan["minimum"])


@given(PLANS)
def test_a_plan_survives_the_way_through_json(plan):
    parsed = rules.PricePlan.parse(plan)

    assert rules.PricePlan.parse(parsed.document()) == parsed
    assert digest(rules.PricePlan.parse(parsed.document()).document()) == digest(parsed.document())


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.data())
def test_one_changed_record_is_the_one_that_the_differences_name(records, data):
    index = data.draw(st.integers(0, len(records) - 1))
    changed = list(records)
    changed[index] = {**records[index], "rows": records[index]["rows"] + 1}
    plan = {"currency": "CNY", "charges": [{"per": "row", "price": "1"}]}
    found = rules.differences(invoice(records, plan), invoice(changed, plan))

    assert [row["receipt"] for row in found if row["receipt"]] == [records[index]["recordId"]]
    assert found[0]["why"] == "record-differs"
    assert rules.differences(invoice(records, plan), invoice(records[::-1], plan)) == []


# ---- the same by the slow way: one record at a time, fractions throughout, a tree that grows leaf by leaf

WIDE_PLANS = st.fixed_dictionaries(
    {
        "currency": st.just("CNY"),
        "charges": st.lists(
            st.fixed_dictionaries(
                {"per": st.sampled_from(["agreement", "byte", "call", "month", "row", "transfer"])},
                optional={"free": st.integers(0, 3000).map(str)},
            ).flatmap(
                lambda charge: st.one_of(
                    PRICES.map(lambda price: {**charge, "price": price}),
                    st.tuples(PRICES, PRICES).map(
                        lambda two: {
                            **charge,
                            "tiers": [{"from": "0", "price": two[0]}, {"from": "7", "price": two[1]}],
                        }
                    ),
                )
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda charge: charge["per"],
        ),
        "rounding": st.sampled_from(sorted(rules.ROUNDINGS)),
        "discounts": st.lists(st.just({"name": "d", "rate": "0.07", "reason": "volume"}), max_size=2),
    },
    optional={"minimum": st.integers(0, 50).map(str), "cap": st.integers(50, 10_000).map(str)},
)
EVEN_RECORDS = st.lists(
    st.builds(
        lambda seq, rows, transfer: usage(seq, rows, transfer=f"urn:uuid:t{transfer}"),
        st.integers(0, 40),
        st.integers(0, 4),  # few sizes: many equal remainders
        st.integers(1, 12),  # t10 sorts before t2
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda record: (record["transferProcessId"], record["seq"]),
)


def slowly(plan, records):
    """Root, line amounts, subtotal and the share of each record, computed one record at a time."""
    parsed = rules.PricePlan.parse(plan)
    records = sorted(records, key=lambda record: (record["transferProcessId"], record["seq"]))
    tree = Frontier()
    for record in records:
        tree.append(leaf_hash(canonical_bytes(record)))
    cent, mode = Decimal(1).scaleb(-parsed.decimals), rules.ROUNDINGS[parsed.rounding]
    amounts, weights = [], [Fraction(0)] * len(records)
    for charge in parsed.charges:
        seen, counts = set(), []
        for record in records:
            mark = {
                "agreement": "all",
                "transfer": record["transferProcessId"],
                "month": record["to"][:7],
            }.get(charge.per)
            if mark is not None:
                counts.append(0 if mark in seen else 1)
                seen.add(mark)
            else:
                counts.append({"call": 1, "row": record["rows"], "byte": record["bytes"]}[charge.per])
        billable = max(Fraction(0), Fraction(sum(counts)) - Fraction(charge.free))
        steps = [(Fraction(tier.start), Fraction(tier.price)) for tier in charge.tiers] or [
            (Fraction(0), Fraction(charge.price))
        ]
        cost = Fraction(0)
        for (start, price), end in zip(steps, [one[0] for one in steps[1:]] + [billable], strict=True):
            cost += max(Fraction(0), min(billable, max(end, start)) - start) * price
        exact = Decimal(cost.numerator) / Decimal(cost.denominator)  # four decimals at most: divides without rest
        amounts.append(exact.quantize(cent, mode))
        each = cost / billable if billable and charge.tiers else Fraction(charge.price)
        weights = [weight + count * each for weight, count in zip(weights, counts, strict=True)]
    gross = sum(amounts)
    gross = max(Decimal(0), gross - sum((gross * one.rate).quantize(cent, mode) for one in parsed.discounts))
    if parsed.minimum is not None and gross < parsed.minimum:
        gross = parsed.minimum
    elif parsed.cap is not None and gross > parsed.cap:
        gross = parsed.cap
    if not sum(weights):
        weights = [Fraction(1)] * len(weights)
    ideal = [int(gross / cent) * weight / sum(weights) for weight in weights]
    shares = [int(one) for one in ideal]
    for _ in range(int(gross / cent) - sum(shares)):
        at = max(
            range(len(ideal)), key=lambda at: (ideal[at] - int(ideal[at]) if shares[at] == int(ideal[at]) else -1, -at)
        )
        shares[at] += 1
    return tree.root(), amounts, gross, shares


@settings(max_examples=200, deadline=None)
@given(WIDE_PLANS, EVEN_RECORDS, st.randoms(use_true_random=False))
def test_the_invoice_by_columns_is_the_invoice_by_one_record_at_a_time(plan, records, random):
    tree, amounts, subtotal, shares = slowly(plan, records)
    random.shuffle(records)
    found = invoice(records, plan)

    assert found["recordsRoot"] == "sha256:" + tree.hex()
    assert [Decimal(line["amount"]) for line in found["lines"]] == amounts
    assert Decimal(found["subtotal"]) == subtotal
    assert [int(Decimal(row["amount"]).scaleb(2)) for row in found["receipts"]] == shares
