"""Witnessing, both ways: every answer of C2SP tlog-witness, races, split views, roll-backs, and partners that are not there."""

from __future__ import annotations

import asyncio

import pytest

from guantong.base import merkle
from guantong.base.canonical import b64
from guantong.base.errors import Skippable
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import consistency_proof, leaf_hash, nodes_of, root
from guantong.base.note import Checkpoint, Note, open_note, parse_note, parse_signature_lines, sign
from guantong.prove.model import origin_of
from guantong.prove.rules import origin_hash
from guantong.prove.witness import WitnessRequest, parse_request

HASHES = [leaf_hash(str(number).encode()) for number in range(40)]
ORIGIN = origin_of("did:web:customer.example")


def signed(house, size: int, *, hashes=HASHES, key=None, tree_root=None, origin=ORIGIN) -> bytes:
    top = root(hashes[:size]) if tree_root is None else tree_root
    return sign(Checkpoint(origin, size, top).text, origin, key or house.keys.log).to_bytes()


def request(old: int, note: bytes, *, proof=None, new: int = 0) -> bytes:
    path = consistency_proof(nodes_of(HASHES), old, new) if proof is None else proof
    return WitnessRequest(old, tuple(path), note).to_bytes()


@pytest.fixture
async def witness(supplier, customer):
    """The supplier witnesses the customer's log."""
    await supplier.know(customer)
    return supplier


async def ask(witness, body: bytes):
    return await witness.post("/witness/add-checkpoint", body)


async def test_a_first_checkpoint_is_cosigned_with_a_time(witness, customer) -> None:
    note = signed(customer, 5)
    answer = await ask(witness, request(0, note, proof=[]))
    key = witness.prove.keys_of(witness.did)[1]
    cosigned = Note(parse_note(note).text, parse_signature_lines(answer.body.decode())).to_bytes()

    assert answer.status == 200
    assert open_note(cosigned, [key]).times == {key: witness.clock.now() // 10**9}


async def test_a_grown_log_is_cosigned_and_a_repeated_request_too(witness, customer) -> None:
    assert (await ask(witness, request(0, signed(customer, 5), proof=[]))).status == 200
    grown = signed(customer, 17)
    assert (await ask(witness, request(5, grown, new=17))).status == 200
    assert (await ask(witness, request(17, grown, new=17))).status == 200


async def test_an_old_size_above_the_checkpoint_is_400(witness, customer) -> None:
    assert (await ask(witness, request(6, signed(customer, 5), proof=[]))).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"old 0\n", b"old 00\n\nx\n", b"old -1\n\nx", b"old 0\n" + b"AAAA\n" + b"\nx",
        b"new 0\n\nx\n", b"old 0\n\nx\n", b"old 0\r\n\nx\n", b"old 1\n" + b64(bytes(32)).encode() * 2 + b"\n\nx\n", b"\xff\n\n",
    ],
)  # fmt: skip
async def test_what_is_no_request_is_400(witness, body: bytes) -> None:
    assert (await ask(witness, body)).status == 400


async def test_more_than_63_hashes_are_400(witness, customer) -> None:
    note = signed(customer, 5)
    assert (await ask(witness, request(1, note, proof=[bytes(32)] * 64))).status == 400
    assert (await ask(witness, request(1, note, proof=[bytes(32)] * 63))).status == 409


async def test_a_stranger_s_key_is_403_and_so_is_a_bad_signature(witness, customer) -> None:
    stranger = Ed25519Key(bytes(range(32)))
    assert (await ask(witness, request(0, signed(customer, 5, key=stranger), proof=[]))).status == 403
    note = bytearray(signed(customer, 5))
    good = parse_note(bytes(note))
    broken = good.signatures[0]._replace(payload=bytes(64))
    assert (await ask(witness, request(0, Note(good.text, (broken,)).to_bytes(), proof=[]))).status == 403
    both = Note(good.text, (*good.signatures, broken)).to_bytes()
    assert (await ask(witness, request(0, both, proof=[]))).status == 403


async def test_signatures_of_unknown_keys_are_ignored(witness, customer) -> None:
    note = parse_note(signed(customer, 5))
    extra = sign(note.text, "somebody.example", Ed25519Key(bytes(range(32)))).signatures
    assert (await ask(witness, request(0, note.adding(extra).to_bytes(), proof=[]))).status == 200


async def test_an_unknown_origin_is_404(witness, customer) -> None:
    note = signed(customer, 5, origin="guantong/did:web:nobody.example")
    assert (await ask(witness, request(0, note, proof=[]))).status == 404


async def test_another_old_size_than_recorded_is_409_with_the_size(witness, customer) -> None:
    await ask(witness, request(0, signed(customer, 5), proof=[]))
    answer = await ask(witness, request(0, signed(customer, 9), proof=[]))

    assert (answer.status, answer.body, answer.headers["content-type"]) == (409, b"5\n", "text/x.tlog.size")
    assert (await ask(witness, request(4, signed(customer, 9), new=9))).status == 409


async def test_a_smaller_tree_never_rolls_the_witness_back(witness, customer) -> None:
    await ask(witness, request(0, signed(customer, 9), proof=[]))
    assert (await ask(witness, request(0, signed(customer, 5), proof=[]))).status == 409
    assert (await ask(witness, request(5, signed(customer, 5), proof=[]))).status == 409
    assert (await ask(witness, request(9, signed(customer, 5), proof=[]))).status == 400


async def test_a_split_view_is_422(witness, customer) -> None:
    await ask(witness, request(0, signed(customer, 9), proof=[]))
    other = [*HASHES[:3], leaf_hash(b"rewritten"), *HASHES[4:]]
    same_size = signed(customer, 9, hashes=other)
    assert (await ask(witness, request(9, same_size, proof=[]))).status == 422
    grown = signed(customer, 20, hashes=other)
    proof = consistency_proof(nodes_of(other), 9, 20)
    assert (await ask(witness, request(9, grown, proof=proof))).status == 422
    assert (await ask(witness, request(9, signed(customer, 20), new=20))).status == 200


async def test_a_proof_from_size_0_is_422(witness, customer) -> None:
    assert (await ask(witness, request(0, signed(customer, 5), proof=[bytes(32)]))).status == 422


async def test_an_empty_tree_with_another_root_is_422_and_with_the_right_one_200(witness, customer) -> None:
    assert (await ask(witness, request(0, signed(customer, 0, tree_root=bytes(32)), proof=[]))).status == 422
    assert (await ask(witness, request(0, signed(customer, 0, tree_root=merkle.EMPTY_ROOT), proof=[]))).status == 200
    assert (await ask(witness, request(0, signed(customer, 5), proof=[]))).status == 200


async def test_an_oversized_request_is_413(witness) -> None:
    assert (await ask(witness, b"x" * 70_000)).status == 413


async def test_only_post_is_taken(witness) -> None:
    assert (await witness.get("/witness/add-checkpoint")).status == 405


async def test_of_two_requests_at_once_one_wins(witness, customer) -> None:
    answers = await asyncio.gather(
        *(ask(witness, request(0, signed(customer, size), proof=[])) for size in (5, 9, 9, 12))
    )

    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


async def test_monitors_read_the_newest_cosigned_checkpoint(witness, customer) -> None:
    path = f"/witness/{origin_hash(ORIGIN)}/checkpoint"
    assert (await witness.get(path)).status == 404
    await ask(witness, request(0, signed(customer, 5), proof=[]))
    answer = await witness.get(path)
    opened = open_note(answer.body, [customer.prove.keys_of(customer.did)[0], witness.prove.keys_of(witness.did)[1]])

    assert len(opened.signers) == 2
    assert (await witness.get("/witness/nothex/checkpoint")).status == 404


def test_requests_survive_a_round_trip() -> None:
    asked = WitnessRequest(7, (bytes(32), bytes(range(32))), b"a\n\n\xe2\x80\x94 b\n\nc\n")

    assert parse_request(asked.to_bytes()) == asked


# ---- the client


async def settle(condition) -> None:
    for _ in range(500):
        if await condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")


async def test_partners_cosign_each_other_without_being_asked_twice(supplier, customer) -> None:
    await supplier.know(customer)
    await customer.know(supplier)
    await supplier.prove.start()
    await customer.prove.start()
    await supplier.note(3)
    async with asyncio.timeout(5):
        view = await supplier.prove.witnessed(supplier.did, 3)
    key = customer.prove.keys_of(customer.did)[1]

    assert view.size == 3
    assert view.cosigners == ((customer.did, supplier.clock.now()),)
    assert key in open_note(view.note, [supplier.prove.keys_of(supplier.did)[0], key]).times
    assert (await supplier.prove.view(supplier.did)).witnesses[0].error is None
    requests = len(supplier.wire.seen)
    for _ in range(30):
        await asyncio.sleep(0)
    assert len(supplier.wire.seen) == requests


async def test_many_checkpoints_while_one_request_is_under_way_become_one_more_request(supplier, customer) -> None:
    await customer.know(supplier)
    await supplier.know(customer)
    gate = asyncio.Event()

    async def hold(url: str) -> None:
        if url.endswith("add-checkpoint"):
            await gate.wait()

    supplier.wire.before = hold
    await supplier.prove.start()
    for _ in range(20):
        await supplier.note(1)
        await supplier.prove.catch_up(supplier.did)
        await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(5):
        view = await supplier.prove.witnessed(supplier.did, 20)

    assert view.size == 20
    assert sum(path == "/witness/add-checkpoint" for _, path, _ in supplier.wire.seen) <= 3


async def test_a_partner_that_is_not_there_is_asked_again(build, clock, wire) -> None:
    supplier = await build("did:web:supplier.example", retry_min_s=0.0)
    customer = await build("did:web:customer.example")
    await customer.know(supplier)
    await supplier.know(customer)
    wire.cut.add(customer.host)
    await supplier.prove.start()
    await supplier.note(2)

    async def failed() -> bool:
        return (await supplier.prove.view(supplier.did)).witnesses[0].attempts > 1

    await settle(failed)
    assert (await supplier.prove.view(supplier.did)).witnesses[0].error == "prove.witness-later"
    wire.cut.clear()
    async with asyncio.timeout(5):
        assert (await supplier.prove.witnessed(supplier.did, 2)).size == 2


async def test_a_client_that_lost_its_memory_learns_the_size_from_the_witness(supplier, customer) -> None:
    from guantong.prove.tables import COSIGNATURES

    await customer.know(supplier)
    await supplier.know(customer)
    await supplier.prove.start()
    await supplier.note(4)
    async with asyncio.timeout(5):
        await supplier.prove.witnessed(supplier.did, 4)
    with supplier.records.engine.begin() as connection:
        connection.execute(COSIGNATURES.delete())
    prove = await supplier.again()
    await prove.start()
    await supplier.note(3)
    async with asyncio.timeout(5):
        assert (await prove.witnessed(supplier.did, 7)).size == 7
    assert 409 in [status for _, _, status in supplier.wire.seen]


async def test_a_log_set_back_below_what_the_witness_saw_is_reported_as_such(build) -> None:
    supplier = await build("did:web:supplier.example")
    customer = await build("did:web:customer.example")
    await customer.know(supplier)
    note = sign(
        Checkpoint(origin_of(supplier.did), 30, root(HASHES[:30])).text, origin_of(supplier.did), supplier.keys.log
    ).to_bytes()
    assert (await customer.post("/witness/add-checkpoint", request(0, note, proof=[]))).status == 200
    await supplier.know(customer)
    await supplier.prove.start()
    await supplier.note(2)

    async def reported() -> bool:
        return (await supplier.prove.view(supplier.did)).witnesses[0].error == "prove.rolled-back"

    await settle(reported)


async def test_a_rewritten_history_is_reported_as_a_split_view(supplier, customer) -> None:
    await customer.know(supplier)
    origin = origin_of(supplier.did)
    note = sign(Checkpoint(origin, 2, root(HASHES[:2])).text, origin, supplier.keys.log).to_bytes()
    assert (await customer.post("/witness/add-checkpoint", request(0, note, proof=[]))).status == 200
    await supplier.know(customer)
    await supplier.prove.start()
    await supplier.note(5)

    async def reported() -> bool:
        return (await supplier.prove.view(supplier.did)).witnesses[0].error == "prove.split-view"

    await settle(reported)


async def test_a_witness_key_is_only_taken_from_the_partner_s_own_signed_statement(supplier, customer) -> None:
    await customer.know(supplier)
    await supplier.prove.add_peer(supplier.did, customer.did, bytes(32), customer.url)
    await supplier.prove.start()
    await supplier.note(1)

    async def refused() -> bool:
        return (await supplier.prove.view(supplier.did)).witnesses[0].error == "base.signature-bad"

    await settle(refused)
    assert supplier.prove.peers(supplier.did)[0].witness_key is None
    # with the right evidence key the statement is good
    await supplier.know(customer)
    async with asyncio.timeout(5):
        await supplier.prove.witnessed(supplier.did, 1)


async def test_a_cosignature_by_another_key_is_not_kept(supplier, customer) -> None:
    await customer.know(supplier)
    await supplier.prove.add_peer(
        supplier.did, customer.did, customer.keys.log.public, customer.url, witness_key=Ed25519Key(bytes(32)).public
    )
    await supplier.prove.start()
    await supplier.note(1)

    async def refused() -> bool:
        return (await supplier.prove.view(supplier.did)).witnesses[0].error == "base.signature-bad"

    await settle(refused)
    assert await supplier.prove.witnessed_checkpoint(supplier.did) is None


async def test_partners_are_still_known_after_a_restart_and_can_be_forgotten(supplier, customer) -> None:
    await supplier.know(customer)
    prove = await supplier.again()
    assert [peer.did for peer in prove.peers(supplier.did)] == [customer.did]
    await prove.remove_peer(supplier.did, customer.did)
    assert (await supplier.again()).peers(supplier.did) == ()


def test_log_and_witness_keys_must_differ() -> None:
    from guantong.prove.model import ProveKeys

    key = Ed25519Key(bytes(32))
    with pytest.raises(ValueError):
        ProveKeys(key, key)


async def test_the_trust_file_of_a_participant_names_everybody_it_knows(supplier, customer) -> None:
    from guantong.prove.rules import parse_trust

    await customer.know(supplier)
    await supplier.know(customer)
    await supplier.prove.start()
    await supplier.note(1)
    async with asyncio.timeout(5):
        await supplier.prove.witnessed(supplier.did, 1)
    trust = parse_trust(await supplier.prove.trust_lines(supplier.did))

    assert trust.dids == {
        supplier.did: frozenset({supplier.keys.log.public}),
        customer.did: frozenset({customer.keys.log.public}),
    }
    assert set(trust.policy.logs) == {origin_of(supplier.did), origin_of(customer.did)}
    assert trust.policy.is_met([customer.prove.keys_of(customer.did)[1]])
    assert not trust.policy.is_met([])
    with pytest.raises(Skippable):
        parse_trust("did x y\nquorum none\n")
