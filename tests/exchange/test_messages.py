"""Messages: what we send validates, what partners send differently is understood, what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.errors import GuantongError, Refused
from guantong.exchange import messages
from guantong.exchange.catalogue import filter_of
from guantong.exchange.hosting import checked_address

OFFER = {"@id": "o", "@type": "Offer", "target": "d", "permission": [{"action": "use"}]}
REQUEST = messages.message(
    "ContractRequestMessage", consumerPid="c", offer=OFFER, callbackAddress="https://c.example/dsp"
)


def problem(body, *kinds):
    with pytest.raises(Refused) as refused:
        messages.check(body, *(kinds or ("ContractRequestMessage",)))
    assert refused.value.code == "exchange.message-invalid"
    return refused.value.facts["reason"]


def test_a_request_is_valid_as_built():
    assert messages.check(REQUEST, "ContractRequestMessage") == REQUEST


def test_every_schema_compiles_and_none_is_fetched():
    for kind in messages.MESSAGES:
        assert messages.problems(kind, {"@type": kind}), kind


@pytest.mark.parametrize(
    "context",
    [
        messages.CONTEXT,
        [messages.CONTEXT, "https://w3id.org/edc/dspace/v0.0.1"],
        ["https://w3id.org/edc/dspace/v0.0.1", messages.CONTEXT],
        [messages.CONTEXT, {"edc": "https://w3id.org/edc/v0.0.1/ns/"}],
    ],
)
def test_partners_contexts_are_understood(context):
    assert messages.check({**REQUEST, "@context": context}, "ContractRequestMessage")


@pytest.mark.parametrize(
    "kind",
    [
        "https://w3id.org/dspace/2025/1/ContractRequestMessage",
        "dspace:ContractRequestMessage",
        ["ContractRequestMessage"],
    ],
)
def test_partners_spellings_of_the_type_are_understood(kind):
    assert messages.check({**REQUEST, "@type": kind}, "ContractRequestMessage")["@type"] == "ContractRequestMessage"


def test_unknown_members_are_borne():
    assert messages.check({**REQUEST, "@id": "m", "edc:hint": {"a": 1}}, "ContractRequestMessage")


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"@context": "https://w3id.org/dspace/2024/1/context.jsonld"}, "context"),
        ({"@type": "ContractOfferMessage"}, "@type"),
        ({"consumerPid": None}, "consumerPid"),
        ({"consumerPid": "x" * 129}, "consumerPid"),
        ({"offer": {**OFFER, "target": None}}, "offer/target"),
        ({"offer": {**OFFER, "permission": []}}, "offer"),
        ({"offer": {"@id": "o", "@type": "Offer", "target": "d", "obligation": [{"action": "pay"}]}}, "offer"),
        ({"providerPid": "p"}, "message"),
    ],
)
def test_what_is_wrong_is_named(changes, named):
    body = {name: value for name, value in {**REQUEST, **changes}.items() if value is not None}
    if "offer" in changes:
        body["offer"] = {name: value for name, value in changes["offer"].items() if value is not None}

    assert named in problem(body)


def test_every_problem_is_listed_at_once():
    reason = problem({"@context": [messages.CONTEXT], "@type": "ContractRequestMessage", "offer": {"@type": "Offer"}})

    assert reason.count(";") >= 2


@pytest.mark.parametrize("kind", ["CatalogError", "ContractNegotiationError", "TransferError"])
def test_error_bodies_are_valid(kind):
    body = messages.error(kind, Refused("exchange.process-unknown", pid="x"))

    assert messages.problems(kind, body) == []


def test_a_data_address_is_read_under_both_sets_of_names():
    address = messages.data_address("https://p.example/data/1", "secret", 60)
    edc_only = {
        "endpointProperties": [
            entry for entry in address["endpointProperties"] if entry["name"].startswith("https://w3id.org/edc/")
        ]
    }

    assert messages.token_of(address) == messages.token_of(edc_only) == ("https://p.example/data/1", "secret")
    start = messages.message("TransferStartMessage", consumerPid="c", providerPid="p", dataAddress=address)
    assert messages.problems("TransferStartMessage", start) == []


@pytest.mark.timeout(10)
def test_huge_and_deep_bodies_are_refused():
    deep = b'{"a":' * 500 + b"1" + b"}" * 500

    for body, limit in ((b'{"a":"' + b"x" * 2000 + b'"}', 1000), (deep, 10**6)):
        with pytest.raises(Refused) as refused:
            messages.decode(body, limit=limit, depth=64)
        assert refused.value.code == "exchange.message-too-large"
        assert refused.value.status == 413


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body):
    try:
        assert isinstance(messages.decode(body, limit=1000, depth=8), dict)
    except GuantongError as error:
        assert error.status < 500  # noqa: PT017 - both outcomes are right


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(messages.MESSAGES)),
    st.dictionaries(
        st.sampled_from(["@context", "@type", "offer", "agreement", "consumerPid", "dataAddress", "filter"]),
        json_values,
    ),
)
def test_any_object_is_a_valid_message_or_named_as_wrong(kind, body):
    try:
        messages.check(body, kind)
    except GuantongError as error:
        assert error.status == 400  # noqa: PT017 - both outcomes are right


@given(json_values)
def test_any_filter_is_understood_or_refused(value):
    try:
        filter_of(value)
    except Refused as error:
        assert error.code == "exchange.filter-unsupported"  # noqa: PT017 - both outcomes are right


def test_the_filter_that_edc_always_sends_is_understood():
    spec = {"@type": "https://w3id.org/edc/v0.0.1/ns/QuerySpec", "offset": 0, "limit": 50, "filterExpression": []}
    by_id = {"operandLeft": "https://w3id.org/edc/v0.0.1/ns/id", "operator": "=", "operandRight": "d"}

    assert filter_of(spec).ids is None
    assert filter_of([{**spec, "filterExpression": [by_id]}]).ids == {"d"}


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ftp://x",
        "https://",
        "https://u:p@host/a",
        "https://host/a?b",
        "https://host/a#b",
        "https://host:99999/",
        None,
        "x" * 2000,
    ],
)
def test_an_unusable_address_is_refused(address):
    with pytest.raises(Refused):
        checked_address(address)


def test_a_trailing_slash_means_nothing():
    assert checked_address("https://c.example/dsp/") == "https://c.example/dsp"
