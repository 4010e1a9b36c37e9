"""Each term is enforced, shown as a legal term, or refused by name; none is silently true."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.canonical import digest
from guantong.base.clock import parse_iso
from guantong.base.errors import Refused
from guantong.exchange.facts import Facts
from guantong.exchange.policy import (
    CONTRACT_TERM,
    PRICE_TERM,
    compile_policy,
    explain,
    policy_hash,
    same_policy,
    with_contract,
)
from guantong.exchange.vocabulary import vocabularies

AT = parse_iso("2026-11-24T08:00:00Z")
vocabularies()  # read once, before a deadline of an example counts it


def permit(*constraints, **more):
    return {"permission": [{"action": "use", "constraint": list(constraints)}], **more}


def term(left, operator, right):
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def at(did, instant=AT, **more):
    return Facts(did, instant, **more)


def refusal_of(policy):
    with pytest.raises(Refused) as refused:
        compile_policy(policy)
    assert refused.value.code == "exchange.term-refused"
    return refused.value.facts["term"]


def test_a_recipient_is_enforced():
    terms = compile_policy(permit(term("recipient", "isAnyOf", ["did:web:a", "did:web:b"])))

    assert terms.refusal("access", at("did:web:a")) == ""
    assert terms.refusal("access", at("did:web:c")).startswith("recipient:")


def test_two_recipient_constraints_both_hold():
    terms = compile_policy(
        permit(term("recipient", "isAnyOf", ["did:web:a", "did:web:b"]), term("recipient", "eq", "did:web:b"))
    )

    assert terms.refusal("access", at("did:web:a"))
    assert not terms.refusal("access", at("did:web:b"))


@pytest.mark.parametrize(
    "operator, offset, allowed",
    [("gteq", 0, True), ("gt", 0, False), ("gt", -1, True), ("lteq", 0, True), ("lt", 0, False), ("lt", 1, True)],
)
def test_the_ends_of_a_time_window_are_open_or_closed_as_written(operator, offset, allowed):
    terms = compile_policy(permit(term("dateTime", operator, "2026-11-24T08:00:00Z")))

    assert (terms.refusal("access", at("did:web:a", AT - offset)) == "") is allowed


@pytest.mark.parametrize(
    "operator, uses, allowed", [("lteq", 2, True), ("lteq", 3, False), ("lt", 1, True), ("lt", 2, False)]
)
def test_a_count_is_enforced(operator, uses, allowed):
    terms = compile_policy(permit(term("count", operator, "3")))

    assert (terms.refusal("access", at("did:web:a", uses=uses)) == "") is allowed


def test_a_purpose_is_a_legal_term():
    policy = permit(term("purpose", "eq", "quality assurance"))

    assert ("only for the purpose quality assurance", "legal") in explain(policy)
    assert ("仅用于：quality assurance", "legal") in explain(policy, "zh-CN")


@pytest.mark.parametrize(
    "policy, named",
    [
        (permit(term("absolutePosition", "eq", "1")), "absolutePosition"),
        (permit(term("https://w3id.org/catenax/2025/9/policy/Mambership", "eq", "active")), "Mambership"),
        (permit(term("Membership", "eq", "active")), "Membership"),
        (permit(term("count", "gteq", "3")), "count gteq"),
        (permit(term("count", "lteq", "many")), "count"),
        (permit(term("count", "lteq", "-1")), "count"),
        (permit(term("dateTime", "lteq", "tomorrow")), "dateTime"),
        (permit(term("recipient", "eq", ["a", "b"])), "recipient"),
        (permit(term("recipient", "isAnyOf", [])), "recipient"),
        (permit({"or": [term("count", "lteq", "3")]}), "or"),
        (permit({"xone": [term("count", "lteq", "3")]}), "xone"),
        (permit({"andSequence": [term("count", "lteq", "3")]}), "andSequence"),
        ({"permission": [{"action": "sell"}]}, "sell"),
        ({"permission": [{"action": "use", "duty": [{"action": "delete"}]}]}, "duty"),
        ({"permission": [{"action": "use"}, {"action": "read"}]}, "permission"),
        ({"prohibition": [{"action": "distribute"}]}, "permission"),
        ({**permit(), "prohibition": [{"action": "distribute", "constraint": [term("count", "lteq", "3")]}]}, "count"),
        ({**permit(), "obligation": [{"action": "dance"}]}, "dance"),
        ({**permit(), "obligation": [{"action": "use"}]}, "use"),
        ({**permit(), "prohibition": [{"action": "use"}]}, "use"),
        ({**permit(), "obligation": [{"action": "delete", "constraint": [term("spatial", "eq", "CN")]}]}, "spatial"),
        (permit(term("elapsedTime", "lteq", "P1Y")), "elapsedTime"),
        (permit(term("elapsedTime", "lteq", "P")), "elapsedTime"),
        (permit(term("https://w3id.org/guantong/gb/mode", "eq", "smoke")), "mode"),
        (permit("not an object"), "permission"),
    ],
)
def test_an_unknown_term_is_refused_by_name(policy, named):
    assert named in refusal_of(policy)


def test_prohibitions_and_duties_are_shown_as_legal_terms():
    policy = {**permit(), "prohibition": [{"action": "distribute"}], "obligation": [{"action": "delete"}]}

    assert [said for said in explain(policy) if said[1] == "legal"] == [
        ("must not pass it on", "legal"),
        ("must delete it afterwards", "legal"),
    ]


def test_contract_and_price_are_bound_into_the_offer():
    rules = with_contract(permit(), terms="Pay monthly.", price={"perRow": "0.01"})

    bound = {item.left: item.right[0] for item in compile_policy(rules).constraints if item.left}

    assert bound == {CONTRACT_TERM: digest("Pay monthly."), PRICE_TERM: digest({"perRow": "0.01"})}
    assert not same_policy(rules, with_contract(permit(), terms="Pay daily.", price={"perRow": "0.01"}))


constraints = st.lists(
    st.sampled_from(
        [
            term("count", "lteq", "3"),
            term("purpose", "eq", "quality"),
            term("recipient", "isAnyOf", ["did:web:a"]),
            term("dateTime", "lteq", "2027-01-01T00:00:00Z"),
        ]
    ),
    max_size=4,
)


@given(constraints, st.randoms(use_true_random=False))
def test_the_order_of_constraints_means_nothing(items, shuffler: random.Random):
    shuffled = list(items)
    shuffler.shuffle(shuffled)
    decorated = [{"@type": "Constraint", **item} for item in shuffled]

    assert policy_hash(permit(*items)) == policy_hash(permit(*decorated))
    assert same_policy(permit(*items), {"@id": "x", "target": "y", **permit(*shuffled)})


@given(constraints, st.integers(0, 5))
def test_taking_a_term_away_never_allows_less(items, uses):
    full = compile_policy(permit(*items)).refusal("access", at("did:web:b", uses=uses))
    for place in range(len(items)):
        fewer = compile_policy(permit(*items[:place], *items[place + 1 :])).refusal(
            "access", at("did:web:b", uses=uses)
        )
        assert full or not fewer
