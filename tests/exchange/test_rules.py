"""A receipt holds as a whole or not at all: nothing in it can be changed or moved."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.canonical import b64, canonical_bytes
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import leaf_hash, root
from guantong.exchange.receipts import Counting
from guantong.exchange.rules import receipt_state, statement_of, verify_receipt

PROVIDER, CONSUMER, STRANGER = (Ed25519Key(bytes([n]) * 32) for n in (1, 2, 3))
RECORD = {
    "v": 1,
    "type": "usage",
    "recordId": "urn:record:1",
    "agreementId": "urn:agreement:1",
    "agreementHash": "sha256:aa",
    "policyHash": "sha256:bb",
    "assetId": "urn:dataset:1",
    "assetVersion": "1",
    "transferProcessId": "urn:p:1",
    "consumerProcessId": "urn:c:1",
    "seq": 1,
    "provider": "did:web:p.example",
    "consumer": "did:web:c.example",
    "from": "2026-11-24T08:00:00Z",
    "to": "2026-11-24T08:00:01Z",
    "unit": "row",
    "quantity": "3",
    "rows": 3,
    "bytes": 100,
    "contentRoot": "sha256:cc",
    "complete": True,
    "purpose": "",
    "contentAlg": "sha256-rfc6962",
    "blockBytes": 65536,
    "chunkCount": 1,
    "prev": "",
    "meterSource": "did:web:p.example#evidence",
    "clock": "system",
    "salt": "AAAA",
}
COUNTED = {"rows": 3, "bytes": 100, "contentRoot": "sha256:cc"}


def signed(key, value):
    return b64(key.sign(canonical_bytes(value)))


def receipt(counted=COUNTED, record=RECORD):
    signature = signed(PROVIDER, record)
    statement = statement_of(record, signature, counted, consumer="did:web:c.example", at="2026-11-24T08:00:02Z")
    return dict(record), signature, {"statement": statement, "signature": signed(CONSUMER, statement)}


def check(record, signature, countersignature):
    return verify_receipt(record, signature, countersignature, PROVIDER.public, CONSUMER.public)


def test_a_receipt_signed_by_both_holds():
    assert check(*receipt()) == []
    assert receipt_state(receipt()[2]) == "acknowledged"


def test_a_rightly_signed_dispute_holds_as_a_dispute():
    record, signature, countersignature = receipt({**COUNTED, "rows": 2})

    assert check(record, signature, countersignature) == []
    assert receipt_state(countersignature) == "disputed"
    assert receipt_state(receipt(None)[2]) == "disputed"


def test_a_one_sided_receipt_needs_the_provider_only():
    record, signature, _ = receipt()

    assert verify_receipt(record, signature, None, PROVIDER.public, None) == []
    assert verify_receipt(record, signature, None, STRANGER.public, None) != []


@pytest.mark.parametrize("member", sorted(RECORD))
def test_any_altered_member_of_the_record_is_found(member):
    record, signature, countersignature = receipt()
    value = record[member]
    record[member] = value + 1 if type(value) is int else not value if type(value) is bool else value + "x"

    assert check(record, signature, countersignature)
    del record[member]
    assert check(record, signature, countersignature)


@pytest.mark.parametrize("member", ["recordId", "record", "providerSig", "consumer", "verdict", "reason", "at", "type"])
def test_any_altered_member_of_the_statement_is_found(member):
    record, signature, countersignature = copy.deepcopy(receipt())
    countersignature["statement"][member] += "x"

    assert check(record, signature, countersignature)


def test_a_countersignature_can_not_be_moved_to_another_record():
    _, _, countersignature = receipt()
    other = {**RECORD, "recordId": "urn:record:2"}

    assert "the consumer signed another record" in check(other, signed(PROVIDER, other), countersignature)


def test_a_countersignature_names_the_provider_s_signature():
    record, _, countersignature = receipt()
    stranger = b64(bytes(64))

    problems = check(record, stranger, countersignature)

    assert "the provider's signature does not match" in problems
    assert "the consumer signed another signature of the provider" in problems


def test_a_consumer_that_accepts_what_it_did_not_count_is_found():
    record, signature, countersignature = receipt()
    countersignature["statement"]["counted"]["rows"] = 2
    countersignature["signature"] = signed(CONSUMER, countersignature["statement"])

    assert check(record, signature, countersignature) == ["the consumer accepted what it did not count"]


@pytest.mark.parametrize("broken", ["", "not base64!", b64(bytes(63)), "A" * 85 + "="])
def test_an_unreadable_signature_is_a_problem_and_no_crash(broken):
    record, signature, countersignature = receipt()

    assert check(record, broken, countersignature)
    assert check(record, signature, {**countersignature, "signature": broken})


@given(st.binary(max_size=700), st.lists(st.integers(1, 200), max_size=12))
def test_the_root_does_not_depend_on_how_the_body_was_cut_on_its_way(body, cuts):
    whole, pieces = Counting(64), Counting(64)
    whole.add(body)
    at = 0
    for cut in [*cuts, 10_000]:
        pieces.add(body[at : at + cut])
        at += cut
    blocks = [leaf_hash(body[start : start + 64]) for start in range(0, len(body), 64)]

    assert whole.counted() == pieces.counted()
    assert whole.counted()["contentRoot"] == "sha256:" + root(blocks).hex()
    assert whole.blocks == len(blocks)
