"""Two whole exchanges: from the catalogue to receipts signed by both."""

from __future__ import annotations

import pyarrow as pa

from guantong.exchange.rules import verify_receipt


async def test_two_companies_go_from_catalogue_to_countersigned_receipt(pair, agreed, started):
    provider, consumer = pair

    agreement_id = await agreed(provider, consumer)
    transfer_id = await started(provider, consumer, agreement_id)
    batches = [batch async for batch in consumer.exchange.pull(consumer.did, transfer_id)]
    given = await provider.exchange.wait_receipts(provider.did, agreement_id, timeout_s=5)
    taken = await consumer.exchange.wait_receipts(consumer.did, agreement_id, timeout_s=5)

    assert pa.Table.from_batches(batches).equals(provider.table)
    assert [receipt.state for receipt in given] == ["acknowledged"]
    assert [receipt.state for receipt in taken] == ["acknowledged"]
    assert given[0].record == taken[0].record
    assert given[0].record["rows"] == 3
    problems = verify_receipt(
        given[0].record,
        given[0].signature,
        given[0].countersignature,
        provider.identity.evidence_key.public,
        consumer.identity.evidence_key.public,
    )
    assert problems == []


async def test_both_sides_hold_the_same_agreement(pair, agreed):
    provider, consumer = pair

    agreement_id = await agreed(provider, consumer)
    ours = await provider.exchange.agreement(provider.did, agreement_id)
    theirs = await consumer.exchange.agreement(consumer.did, agreement_id)

    assert (ours.agreement_hash, ours.policy_hash) == (theirs.agreement_hash, theirs.policy_hash)
    assert ours.price == theirs.price == {"currency": "CNY", "perRow": "0.01"}
    assert ours.terms == theirs.terms
    assert (ours.role, theirs.role) == ("provider", "consumer")
