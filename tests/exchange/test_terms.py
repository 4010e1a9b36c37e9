"""Each term of each vocabulary is enforced where its row says, shown to both sides as a legal term, or refused by name.

The cases are written by hand, beside the data files: a term whose row changes its meaning fails here.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from guantong.base.clock import NS, iso, parse_iso
from guantong.base.errors import Refused
from guantong.exchange.catalogue import Shelf
from guantong.exchange.facts import Facts, facts_of, groups_of
from guantong.exchange.model import Product
from guantong.exchange.permits import Permits, cedar_permit
from guantong.exchange.policy import Terms, compile_policy, explain, said
from guantong.exchange.vocabulary import action_of, term_of, vocabularies
from guantong.govern.access import DecisionPoint
from guantong.govern.model import Request

AT = parse_iso("2026-11-24T08:00:00Z")
DAY = 86_400 * NS
ME, YOU, OTHER = "did:web:me.example", "did:web:you.example", "did:web:other.example"
CX = "https://w3id.org/catenax/2025/9/policy/"
GB = "https://w3id.org/guantong/gb/"
OWN = "https://w3id.org/guantong/ns/"
BPN, USCC = "BPNL00000000000A", "91310000MA1K35XY8Q"
MEMBER = frozenset({"MembershipCredential"})
FRAMEWORK = frozenset({"DataExchangeGovernanceCredential", "DataExchangeGovernanceCredential:1.0"})
EVERYWHERE = ("catalogue", "agreement", "access", "after")
BEFORE, AFTER = iso(AT - DAY), iso(AT + DAY)


def term(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def permit(*constraints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"permission": [{"action": "use", "constraint": list(constraints)}], **more}


def on_duty(*constraints: dict[str, Any], action: str = "use") -> dict[str, Any]:
    return {**permit(), "obligation": [{"action": action, "constraint": list(constraints)}]}


def facts(**more: Any) -> Facts:
    return Facts(YOU, more.pop("at", AT), **more)


ENFORCED: list[tuple[str, dict[str, Any], Facts, Facts, tuple[str, ...]]] = [
    # term, policy, facts that keep it, facts that break it, where it is refused
    ("count", permit(term("count", "lteq", "3")), facts(uses=2), facts(uses=3), ("access",)),
    ("dateTime", permit(term("dateTime", "lteq", iso(AT))), facts(), facts(at=AT + 1), EVERYWHERE),
    ("dateTime", permit(term("dateTime", "gteq", iso(AT))), facts(), facts(at=AT - 1), ("access",)),
    (
        "elapsedTime",
        permit(term("elapsedTime", "lteq", "P1DT1H")),
        facts(agreed_at=AT - DAY - 3600 * NS),
        facts(agreed_at=AT - DAY - 3600 * NS - 1),
        ("access", "after"),
    ),
    (
        "delayPeriod",
        permit(term("delayPeriod", "gteq", "P1D")),
        facts(agreed_at=AT - DAY),
        facts(agreed_at=AT - DAY + 1),
        ("access",),
    ),
    ("recipient", permit(term("recipient", "isAnyOf", [ME, YOU])), facts(), Facts(OTHER, AT), EVERYWHERE),
    ("Membership", permit(term(CX + "Membership", "eq", "active")), facts(credentials=MEMBER), facts(), EVERYWHERE),
    (
        "FrameworkAgreement",
        permit(term(CX + "FrameworkAgreement", "eq", "DataExchangeGovernance:1.0")),
        facts(credentials=FRAMEWORK),
        facts(credentials=frozenset({"DataExchangeGovernanceCredential:1.1", "DataExchangeGovernanceCredential"})),
        EVERYWHERE,
    ),
    (
        "BusinessPartnerNumber",
        permit(term(CX + "BusinessPartnerNumber", "isAnyOf", [BPN])),
        facts(bpns=frozenset({BPN})),
        facts(bpns=frozenset({"BPNL00000000000B"})),
        EVERYWHERE,
    ),
    (
        "BusinessPartnerGroup",
        permit(term(CX + "BusinessPartnerGroup", "isNoneOf", ["rivals"])),
        facts(groups=frozenset({"friends"})),
        facts(groups=frozenset({"friends", "rivals"})),
        EVERYWHERE,
    ),
    (
        "DataUsageEndDate",
        permit(term(CX + "DataUsageEndDate", "eq", AFTER)),
        facts(),
        facts(at=AT + 2 * DAY),
        EVERYWHERE,
    ),
    (
        "DataUsageEndDurationDays",
        permit(term(CX + "DataUsageEndDurationDays", "eq", "30")),
        facts(agreed_at=AT - 30 * DAY),
        facts(agreed_at=AT - 30 * DAY - 1),
        ("access", "after"),
    ),
    (
        "DataProvisioningEndDate",
        on_duty(term(CX + "DataProvisioningEndDate", "eq", AFTER)),
        facts(),
        facts(at=AT + 2 * DAY),
        EVERYWHERE,
    ),
    (
        "DataProvisioningEndDurationDays",
        on_duty(term(CX + "DataProvisioningEndDurationDays", "eq", "30")),
        facts(agreed_at=AT - 30 * DAY),
        facts(agreed_at=AT - 31 * DAY),
        ("access", "after"),
    ),
    ("rows", permit(term(OWN + "rows", "lt", "100")), facts(rows=98), facts(rows=99), ("access",)),
    ("bytes", permit(term(OWN + "bytes", "lteq", "100")), facts(bytes=99), facts(bytes=100), ("access",)),
    (
        "aggregationFloor",
        permit(term(OWN + "aggregationFloor", "gteq", "5")),
        facts(floor=5),
        facts(floor=4),
        ("access",),
    ),
    (
        "recipientRegion",
        permit(term(OWN + "recipientRegion", "eq", "CN")),
        facts(regions=frozenset({"CN"})),
        facts(regions=frozenset({"DE"})),
        EVERYWHERE,
    ),
    (
        "credential",
        permit(term(OWN + "credential", "isAllOf", ["MembershipCredential", "Iso9001Credential"])),
        facts(credentials=MEMBER | {"Iso9001Credential"}),
        facts(credentials=MEMBER),
        EVERYWHERE,
    ),
    ("group", permit(term(OWN + "group", "eq", "gold")), facts(groups=frozenset({"gold"})), facts(), EVERYWHERE),
    ("user", permit(term(GB + "user", "isAnyOf", [USCC])), facts(codes=frozenset({USCC})), facts(), EVERYWHERE),
    ("user", permit(term(GB + "user", "eq", YOU)), facts(), Facts(OTHER, AT), EVERYWHERE),
    ("mode", permit(term(GB + "mode", "eq", "pull")), facts(mode="pull"), facts(mode="push"), ("access",)),
    ("times", permit(term(GB + "times", "lt", "3")), facts(uses=1), facts(uses=2), ("access",)),
]
BY_DATA_PLANE = {"queryTemplate", "fingerprint"}
"""Enforced by the data plane that makes the answer or the copy, which has tests of its own."""


@pytest.mark.parametrize(
    ("name", "policy", "kept", "broken", "places"),
    ENFORCED,
    ids=[f"{number} {one[0]}" for number, one in enumerate(ENFORCED)],
)
def test_an_enforced_term_refuses_by_name_where_its_row_says_and_nowhere_else(
    name: str, policy: dict[str, Any], kept: Facts, broken: Facts, places: tuple[str, ...]
) -> None:
    terms = compile_policy(policy)

    for place in EVERYWHERE:
        refusal = terms.refusal(place, broken)  # type: ignore[arg-type]
        assert terms.refusal(place, kept) == ""  # type: ignore[arg-type]
        assert bool(refusal) is (place in places), place
        if refusal:
            assert refusal.startswith(f"{name}: ")
            assert any("\u4e00" <= letter <= "\u9fff" for letter in refusal)


def test_every_enforced_term_has_its_case_here() -> None:
    enforced = {one.name for words in vocabularies() for one in words.terms.values() if one.status == "enforced"}

    assert enforced - BY_DATA_PLANE == {name for name, *_ in ENFORCED}


VALUES = {"instant": AFTER, "duration": "P1D", "whole": "3", "days": "3", "mode": "pull", "credential": "active"}
SHOWN = [
    (one.name, one.left, place, operator, VALUES.get(one.value, "x"))
    for words in vocabularies()
    for one in words.terms.values()
    for place in one.places
    for operator in one.operators
    if place != "obligation" or one.places == ("obligation",) or operator in ("lteq", "lt")  # a deadline
]


@pytest.mark.parametrize(("name", "left", "place", "operator", "value"), SHOWN)
def test_a_term_is_shown_to_both_sides_in_plain_words_of_both_languages_and_marked(
    name: str, left: str, place: str, operator: str, value: str
) -> None:
    action = "delete" if place == "obligation" and name in ("dateTime", "elapsedTime") else "use"
    offered = {**permit(), place: [{"action": action, "constraint": [term(left, operator, value)]}]}
    found = term_of(left)
    assert found is not None

    english, chinese = explain(offered)[-1], explain(offered, "zh-CN")[-1]

    assert english[1] == chinese[1] == ("legal" if action == "delete" else found.status)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese[0])
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english[0])
    assert "{" not in english[0] + chinese[0]
    assert explain({"@type": "Agreement", "@id": "a", "target": "t", **offered})[-1] == english


REFUSED = [
    *((one.left, "term") for words in vocabularies() for one in words.terms.values() if one.status == "refused"),
    *((one.name, "action") for words in vocabularies() for one in words.actions.values() if not one.places),
    ("https://example.org/unheardOf", "term"),
    ("unheardOf", "term"),
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_a_term_that_is_not_enforced_or_legal_is_refused_by_name(name: str, kind: str) -> None:
    policy = permit(term(name, "eq", "1")) if kind == "term" else {"permission": [{"action": name}]}

    with pytest.raises(Refused) as refused:
        compile_policy(policy)

    assert refused.value.code == "exchange.term-refused"
    assert name in refused.value.message("en")
    assert name in refused.value.message("zh")


# -- the vocabularies are those of the standards


def test_every_left_operand_of_odrl_and_of_the_catena_x_profile_has_its_row() -> None:
    odrl, cx, *_ = vocabularies()

    assert len(odrl.terms) == 34  # ODRL Vocabulary 2.2, 4.5: the instances of Left Operand
    assert len(cx.terms) == 27  # cx-odrl-profile 2025/9
    assert {"count", "spatialCoordinates", "virtualLocation", "industry"} <= set(odrl.terms)


def test_names_may_be_bare_prefixed_or_iris_as_each_vocabulary_allows() -> None:
    assert term_of("odrl:count") is term_of("count") is term_of("http://www.w3.org/ns/odrl/2/count") is not None
    assert term_of("cx-policy:Membership") is term_of(CX + "Membership") is not None
    assert term_of("Membership") is None
    use = action_of("use")
    assert use is action_of("odrl:use")


# -- facts


def test_facts_are_taken_from_the_credentials_that_were_shown() -> None:
    claims = {
        "credentials": [
            {
                "types": ["MembershipCredential"],
                "issuer": "did:web:leader",
                "subject": {"id": YOU, "holderIdentifier": BPN, "memberOf": "Space", "region": "CN-31"},
            },
            {
                "types": ["DataExchangeGovernanceCredential"],
                "issuer": "did:web:leader",
                "subject": [{"id": YOU, "contractVersion": "1.0"}, {"id": OTHER, "holderIdentifier": USCC}],
            },
            "not a credential",
        ]
    }

    found = facts_of(YOU, AT, claims, groups_of([f"gold {OTHER} {YOU}"]))

    assert found.credentials == MEMBER | FRAMEWORK
    assert found.bpns == {BPN}
    assert found.codes == frozenset(), "another's code is not the caller's"
    assert found.groups == {"gold", "Space"}
    assert found.regions == {"CN-31"}


# -- duties


def test_a_duty_keeps_the_earliest_of_its_deadlines() -> None:
    policy = on_duty(term("dateTime", "lteq", AFTER), term("elapsedTime", "lteq", "P30D"), action="delete")

    [duty] = compile_policy(policy).duties

    assert duty.todo
    assert duty.deadline(AT) == AT + DAY
    assert duty.deadline(AT - 40 * DAY) == AT - 10 * DAY
    assert explain(policy)[-1] == ("must delete it afterwards within P30D of the agreement", "legal")
    assert compile_policy({**permit(), "obligation": [{"action": "attribute"}]}).duties[0].deadline(AT) is None


# -- one meaning: the compiled terms, Cedar's answer and the index of the catalogue


PARTIES = [YOU, OTHER, ME, 'did:web:q"\\uote.example', "did:web:数据😀.example"]
CREDENTIALS = ["MembershipCredential", "DataExchangeGovernanceCredential:1.0", "Iso9001Credential"]
GROUPS = ["gold", "rivals"]


def some_policy(random: random.Random) -> dict[str, Any]:
    def some(values: list[str]) -> list[str]:
        return random.sample(values, random.randint(1, len(values)))

    def instant() -> str:
        return iso(AT + random.randint(-3, 3) * DAY)

    makers = [
        lambda: term("recipient", "isAnyOf", some(PARTIES)),
        lambda: term("dateTime", random.choice(["gteq", "gt", "lteq", "lt"]), instant()),
        lambda: term("count", random.choice(["lteq", "lt"]), str(random.randint(1, 4))),
        lambda: term("elapsedTime", random.choice(["lteq", "lt"]), f"P{random.randint(0, 3)}D"),
        lambda: term("delayPeriod", "gteq", f"P{random.randint(0, 3)}D"),
        lambda: term("purpose", "isAnyOf", some(["quality", "warranty"])),
        lambda: term(CX + "Membership", "eq", "active"),
        lambda: term(CX + "FrameworkAgreement", "eq", "DataExchangeGovernance:1.0"),
        lambda: term(CX + "BusinessPartnerNumber", random.choice(["isAnyOf", "isNoneOf"]), [BPN]),
        lambda: term(OWN + "group", random.choice(["isAnyOf", "isNoneOf"]), some(GROUPS)),
        lambda: term(OWN + "credential", random.choice(["isAnyOf", "isAllOf"]), some(CREDENTIALS)),
        lambda: term(OWN + "recipientRegion", random.choice(["isAnyOf", "isNoneOf"]), some(["CN", "DE"])),
        lambda: term(OWN + "rows", random.choice(["lteq", "lt"]), str(random.randint(1, 4))),
        lambda: term(OWN + "bytes", random.choice(["lteq", "lt"]), str(random.randint(1, 4))),
        lambda: term(OWN + "aggregationFloor", "gteq", str(random.randint(1, 3))),
        lambda: term(GB + "user", random.choice(["isAnyOf", "isNoneOf"]), some([USCC, YOU, BPN])),
        lambda: term(GB + "mode", "isAnyOf", some(["pull", "push"])),
        lambda: term(GB + "scope", "eq", "workshop 3"),
    ]
    return permit(*(make() for make in random.sample(makers, random.choice([0, 1, 1, 2, 2, 3]))))


def some_facts(random: random.Random) -> Facts:
    def some(values: list[str]) -> frozenset[str]:
        return frozenset(random.sample(values, random.randint(0, len(values))))

    return Facts(
        random.choice(PARTIES),
        AT + random.randint(-3, 3) * DAY + random.choice([-1, 0, 1]) * 1_000_000,
        agreed_at=AT - random.randint(0, 3) * DAY,
        uses=random.randint(0, 4),
        rows=random.randint(0, 4),
        bytes=random.randint(0, 4),
        floor=random.randint(1, 3),
        mode=random.choice(["pull", "push"]),
        purposes=some(["quality", "warranty"]),
        credentials=some(CREDENTIALS),
        bpns=some([BPN]),
        codes=some([USCC]),
        groups=some(GROUPS),
        regions=some(["CN", "DE"]),
    )


@pytest.fixture(scope="module")
def point() -> DecisionPoint:
    return DecisionPoint("", keep=16, max_bytes=65_536)


def cedar(point: DecisionPoint, action: str, policies: str, terms: Terms, given: Facts, dataset: str = "d") -> bool:
    asked = Request(given.did, action, f"dataset:{dataset}", context=given.context(terms.needs))
    decision = point.decide(ME + "#owner", asked, policies, {}, given.at)
    assert decision.reason in ("permitted", "nothing-permits"), decision
    return decision.allowed


def test_cedar_answers_as_the_compiled_terms_do_on_a_thousand_policies_and_callers(point: DecisionPoint) -> None:
    dice = random.Random(20261124)
    answers = {True: 0, False: 0}
    for _ in range(1000):
        policy, given = some_policy(dice), some_facts(dice)
        terms = compile_policy(policy)
        text = cedar_permit(policy, name="p", dataset_id="d")
        for place, actions in (("catalogue", ["see"]), ("agreement", ["negotiate"]), ("access", ["transfer", "read"])):
            allowed = not terms.refusal(place, given)  # type: ignore[arg-type]
            answers[allowed] += 1
            for action in actions:
                assert cedar(point, action, text, terms, given) is allowed, (policy, given, action)

    assert min(answers.values()) > 500, "both answers are met often"


def test_the_catalogue_shows_what_cedar_lets_a_caller_see_on_a_thousand_policies_and_callers(
    point: DecisionPoint,
) -> None:
    dice = random.Random(20261125)
    shelf = Shelf(ME, "https://me.example/dsp")
    products = [Product(f"p{number}", f"d{number}", some_policy(dice)) for number in range(1000)]
    for product in products:
        shelf.put(product)
    for number in range(0, 1000, 7):  # some are changed and some are taken away
        shelf.take(f"p{number}")
        if number % 2:
            shelf.put(products[number])
    offered = {product.id: product for product in shelf.products()}
    texts = {
        product.id: cedar_permit(product.policy, name=product.id, dataset_id=product.dataset_id)
        for product in offered.values()
    }
    seen = 0
    for _ in range(1000):
        given = some_facts(dice)
        shown = {one.product.id for one in shelf.visible(given)}
        seen += len(shown)
        for name in dice.sample(sorted(offered), 3):
            product = offered[name]
            terms = compile_policy(product.policy)
            assert cedar(point, "see", texts[name], terms, given, product.dataset_id) is (name in shown), (
                product.policy,
                given,
            )
            found = shelf.find(given, dataset_id=product.dataset_id)
            assert (found is not None) is (name in shown)

    assert 1000 * 50 < seen < 1000 * 900


def test_what_was_seen_once_is_not_seen_when_it_has_ended_or_the_proof_is_gone() -> None:
    shelf = Shelf(ME, "https://me.example/dsp")
    shelf.put(Product("p", "d", permit(term("dateTime", "lteq", iso(AT)), term(CX + "Membership", "eq", "active"))))

    assert len(shelf.visible(facts(credentials=MEMBER))) == 1
    assert shelf.visible(facts(credentials=MEMBER, at=AT + 1)) == []
    assert shelf.visible(facts()) == []


def test_a_permit_is_written_once_for_all_agreements_on_the_same_rules() -> None:
    permits = Permits()
    product = Product("p", "d", permit(term("count", "lteq", "3")))

    written = permits._texts
    assert permits.of_products([product]) == permits.of_products([product])
    assert len(written) == 1
    assert permits.of_products([product]).count("permit (") == 3


def test_no_text_of_a_policy_can_break_out_of_its_permit(point: DecisionPoint) -> None:
    hostile = '"]) || true) }; permit(principal, action, resource); //\\'
    policy = permit(term("recipient", "eq", hostile), term(OWN + "group", "eq", hostile))
    text = cedar_permit(policy, name=hostile, dataset_id=hostile)

    assert point.check(text) == ""
    assert not cedar(point, "read", text, compile_policy(policy), facts())


def test_the_terms_page_of_the_documents_lists_every_term_and_its_tests_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "reference" / "terms.md").read_text("utf-8")
    named = {test for words in vocabularies() for one in words.terms.values() for test in one.tests}

    for words in vocabularies():
        for name in (*words.terms, *words.actions):
            assert f"`{name}`" in page, name
    for test in sorted(named):
        path, _, function = test.partition("::")
        assert f"def {function}(" in (root / path).read_text("utf-8"), test


def test_every_sentence_of_a_policy_can_be_put_into_json() -> None:
    policy = permit(term("count", "lteq", "3"), term(GB + "environment", "eq", "数据沙箱"))

    assert json.loads(json.dumps([said(item, "zh") for item in compile_policy(policy).constraints]))[-1].endswith(
        "数据沙箱"
    )
