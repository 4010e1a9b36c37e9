"""A log that shows two histories, goes back, or falls silent is found by its partners, and a fork leaves a proof that strangers verify."""

from __future__ import annotations

import dataclasses
import json

import pytest

from guantong.base.errors import Refused, Skippable
from guantong.base.fork import Fork, contradicts, parse_fork
from guantong.base.merkle import consistency_proof, leaf_hash, nodes_of, root
from guantong.base.note import Checkpoint, parse_checkpoint, parse_note, sign
from guantong.prove.model import LOG_FORKED, origin_of
from guantong.prove.monitor import Seen, fork_of

HASHES = [leaf_hash(str(number).encode()) for number in range(40)]


@pytest.fixture
async def witness(build):
    return await build("did:web:auditor.example")


@pytest.fixture
async def twin(build, supplier, wire):
    """The same company with the same keys, and a second history, at another address."""
    app = wire.apps["supplier.example"]
    other = await build(supplier.did)
    wire.apps["twin.example"] = wire.apps["supplier.example"]
    wire.apps["supplier.example"] = app
    return dataclasses.replace(other, host="twin.example")


async def cosigned(log, witness) -> None:
    """The witness cosigns the log's newest checkpoint."""
    from guantong.prove.witness import ask_to_cosign, fetch_witness_key

    peer = next(one for one in witness.prove.peers(witness.did) if one.did == log.did)
    me = dataclasses.replace(peer, did=witness.did, url=witness.url, evidence_key=witness.keys.log.public)
    me = dataclasses.replace(me, witness_key=await fetch_witness_key(log.wire, me, timeout_s=1))
    head = await log.prove.catch_up(log.did)
    await ask_to_cosign(
        log.wire, me, head, known=0, prove=lambda old: log.prove.consistency(log.did, old, head.size), timeout_s=1
    )


async def test_an_honest_log_raises_no_alarm_however_it_grows(supplier, customer, witness) -> None:
    for house in (customer, witness):
        await house.know(supplier)
    await customer.know(witness)
    for count in (3, 1, 300, 9):
        await supplier.note(count)
        await cosigned(supplier, customer)
        assert await customer.prove.rounds.watch_partners(customer.did) == []
        await cosigned(supplier, witness)

    assert await customer.prove.rounds.watch_partners(customer.did) == []
    assert (await customer.prove.view(customer.did)).alarms == ()


@pytest.mark.parametrize("ours, theirs", [(5, 5), (3, 8), (4, 9), (8, 3), (300, 700), (256, 1)])
async def test_a_log_that_shows_its_witness_another_history_is_caught_and_the_proof_convinces_a_stranger(
    supplier, customer, witness, twin, ours: int, theirs: int
) -> None:
    await customer.know(supplier)
    await customer.know(witness)
    await witness.prove.add_peer(witness.did, twin.did, twin.keys.log.public, twin.url)
    await supplier.note(ours)
    await supplier.prove.catch_up(supplier.did)
    await twin.note(theirs, other=True)
    await cosigned(twin, witness)
    if ours < theirs:  # its own tiles must lead to the checkpoint that the witness saw, or there is no proof
        supplier.wire.apps["supplier.example"] = supplier.wire.apps["twin.example"]
        await cosigned_by_customer(supplier, customer)

    alarms = [one for one in await customer.prove.rounds.watch_partners(customer.did) if one.kind == "forked"]

    assert [one.did for one in alarms] == [supplier.did]
    first, second = parse_fork(alarms[0].proof).verify([customer.prove.peers(customer.did)[0].log_vkey])
    assert (first.size, second.size) == (min(ours, theirs), max(ours, theirs))
    view = await customer.prove.view(customer.did)
    assert view.alarms[0].proof == alarms[0].proof
    # told once, and recorded
    assert [one for one in await customer.prove.rounds.watch_partners(customer.did) if one.kind == "forked"] == []
    await customer.prove.catch_up(customer.did)
    leaf = json.loads(await customer.prove.leaf(customer.did, 0))
    assert (leaf["kind"], leaf["body"]["partner"]) == (LOG_FORKED.name, supplier.did)


async def cosigned_by_customer(supplier, customer) -> None:
    """The customer has cosigned the history that the supplier showed it before it changed to the other one."""
    head = await supplier.prove.checkpoint(supplier.did)
    from guantong.prove.witness import WitnessRequest

    answer = await customer.post("/witness/add-checkpoint", WitnessRequest(0, (), head.note).to_bytes())
    assert answer.status == 200


async def test_a_log_restored_from_an_old_back_up_is_a_roll_back_and_once_it_grows_a_fork(
    supplier, customer, twin, wire
) -> None:
    await customer.know(supplier)
    await supplier.note(9)
    await cosigned(supplier, customer)
    # the copy holds the same first entries; what came after was lost
    copied = list(await supplier.prove._leaves(supplier.did, 0, 6))
    await restore(twin, copied)
    wire.apps["supplier.example"] = wire.apps["twin.example"]

    (alarm,) = await customer.prove.rounds.watch_partners(customer.did)

    assert (alarm.kind, alarm.facts["shown"], alarm.facts["seen"]) == ("rolled-back", 6, 9)
    assert await customer.prove.rounds.watch_partners(customer.did) == []
    await twin.note(20, after="the restore")
    await twin.prove.catch_up(twin.did)
    (alarm,) = await customer.prove.rounds.watch_partners(customer.did)
    assert alarm.kind == "forked"
    parse_fork(alarm.proof).verify([customer.prove.peers(customer.did)[0].log_vkey])


async def restore(house, leaves) -> None:
    from guantong.records.tables import COUNTERS, LEAVES

    await house.note(len(leaves))
    with house.records.engine.begin() as connection:
        for number, leaf in enumerate(leaves):
            connection.execute(LEAVES.update().where(LEAVES.c.number == number).values(leaf=leaf))
    assert COUNTERS is not None
    await house.prove.catch_up(house.did)


async def test_a_fork_that_is_sent_to_the_witness_itself_is_answered_422_and_its_proof_kept(supplier, customer) -> None:
    from guantong.prove.witness import WitnessRequest

    await customer.know(supplier)
    origin = origin_of(supplier.did)
    other = [leaf_hash(b"other"), *HASHES[1:]]

    def note(hashes, size):
        return sign(Checkpoint(origin, size, root(hashes[:size])).text, origin, supplier.keys.log).to_bytes()

    await customer.post("/witness/add-checkpoint", WitnessRequest(0, (), note(HASHES, 7)).to_bytes())
    proof = consistency_proof(nodes_of(other), 7, 20)
    answer = await customer.post("/witness/add-checkpoint", WitnessRequest(7, tuple(proof), note(other, 20)).to_bytes())

    assert answer.status == 422
    (alarm,) = (await customer.prove.view(customer.did)).alarms
    first, second = parse_fork(alarm.proof).verify([customer.prove.peers(customer.did)[0].log_vkey])
    assert (first.size, second.size, first.root, second.root) == (7, 20, root(HASHES[:7]), root(other[:20]))


async def test_a_wrong_proof_alone_is_no_fork(supplier, customer) -> None:
    from guantong.prove.witness import WitnessRequest

    await customer.know(supplier)
    origin = origin_of(supplier.did)
    notes = [
        sign(Checkpoint(origin, size, root(HASHES[:size])).text, origin, supplier.keys.log).to_bytes()
        for size in (7, 20)
    ]
    await customer.post("/witness/add-checkpoint", WitnessRequest(0, (), notes[0]).to_bytes())
    proof = consistency_proof(nodes_of(HASHES), 7, 20)
    answer = await customer.post(
        "/witness/add-checkpoint", WitnessRequest(7, (*proof[:-1], bytes(32)), notes[1]).to_bytes()
    )

    assert answer.status == 422
    assert (await customer.prove.view(customer.did)).alarms == ()
    seen = [Seen(one, parse_checkpoint(parse_note(one).text), "") for one in notes]
    assert fork_of(seen[0], seen[1], proof) is None


async def test_a_partner_that_is_silent_for_too_long_is_stale_until_it_answers(supplier, customer, clock, wire) -> None:
    await customer.know(supplier)
    await supplier.note(1)
    await supplier.prove.catch_up(supplier.did)
    assert await customer.prove.rounds.watch_partners(customer.did) == []
    wire.cut.add("supplier.example")
    clock.advance(3000)
    assert await customer.prove.rounds.watch_partners(customer.did) == []
    clock.advance(1000)

    (alarm,) = await customer.prove.rounds.watch_partners(customer.did)

    assert (alarm.kind, alarm.did, alarm.facts["since"]) == ("stale", supplier.did, "2026-11-24T08:00:00Z")
    wire.cut.clear()
    assert await customer.prove.rounds.watch_partners(customer.did) == []
    assert [one.over for one in (await customer.prove.view(customer.did)).alarms] == [True]
    wire.cut.add("supplier.example")
    clock.advance(4000)
    assert [one.kind for one in await customer.prove.rounds.watch_partners(customer.did)] == ["stale"]


async def test_an_own_checkpoint_that_nobody_cosigns_for_too_long_is_said(supplier, customer, clock) -> None:
    await supplier.know(customer)
    await supplier.note(1)
    await supplier.prove.catch_up(supplier.did)
    clock.advance(3500)
    assert [one for one in await supplier.prove.rounds.watch_partners(supplier.did) if one.did == supplier.did] == []
    clock.advance(200)

    found = [one for one in await supplier.prove.rounds.watch_partners(supplier.did) if one.did == supplier.did]

    assert [(one.kind, one.facts["size"], one.facts["witnessed"]) for one in found] == [("stale", 1, 0)]


def made(first: int, second: int, other: bool = True) -> Fork:
    from guantong.base.keys import Ed25519Key

    key, origin = Ed25519Key(bytes(32)), origin_of("did:web:x.example")
    tree = [leaf_hash(b"other"), *HASHES[1:]] if other else HASHES
    notes = [
        sign(Checkpoint(origin, size, root(hashes[:size])).text, origin, key).to_bytes()
        for size, hashes in ((first, HASHES), (second, tree))
    ]
    return Fork(*notes, root(tree[:first]), tuple(consistency_proof(nodes_of(tree), first, second)))


@pytest.mark.parametrize("sizes", [(1, 2), (7, 7), (8, 20), (7, 20), (39, 40)])
def test_two_honest_checkpoints_are_never_a_fork_and_two_histories_always_are(sizes) -> None:
    from guantong.base.keys import Ed25519Key
    from guantong.base.note import key_of

    keys = [key_of(origin_of("did:web:x.example"), Ed25519Key(bytes(32)))]
    made(*sizes).verify(keys)
    assert parse_fork(made(*sizes).to_bytes()) == made(*sizes)
    with pytest.raises(Refused) as caught:
        made(*sizes, other=False).verify(keys)
    assert caught.value.code == "base.no-fork"
    honest = made(*sizes, other=False)
    for number in range(len(honest.consistency)):
        bent = list(honest.consistency)
        bent[number] = bytes(32)
        first, second = (parse_checkpoint(parse_note(note).text) for note in (honest.first, honest.second))
        assert not contradicts(first, second, bytes(32), bent)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"type":"guantong-fork"}', b"\xff", b"[" * 100_000])
def test_what_is_no_fork_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(Skippable):
        parse_fork(data)
