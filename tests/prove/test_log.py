"""The log: leaves in, tiles and checkpoints out, and what happens when things break."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from sqlalchemy import select, update

from guantong.base import merkle
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Retryable, Skippable
from guantong.base.merkle import Tile, leaf_hash, verify_consistency, verify_inclusion
from guantong.base.note import open_note, parse_checkpoint, parse_note
from guantong.prove.tables import CHECKPOINTS, TREES
from guantong.records.tables import LEAVES


async def leaves_of(house) -> list[bytes]:
    rows = await house.records.rows(
        select(LEAVES.c.leaf).where(LEAVES.c.participant == house.did).order_by(LEAVES.c.number)
    )
    return [row["leaf"] for row in rows]


async def checkpoints_of(house) -> list:
    rows = await house.records.rows(select(CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size))
    key = house.prove.keys_of(house.did)[0]
    return [parse_checkpoint(open_note(row["note"], [key]).note.text) for row in rows]


async def test_every_leaf_is_proven_and_every_checkpoint_continues_the_one_before(supplier) -> None:
    chance = random.Random(5)
    count = 0
    while count < 700:
        step = chance.choice((1, 2, 7, 60))
        await supplier.note(step)
        count += step
        head = await supplier.prove.catch_up(supplier.did)
    leaves = await leaves_of(supplier)
    checkpoints = await checkpoints_of(supplier)

    assert head.size == len(leaves) == count
    assert head.root == merkle.root([leaf_hash(leaf) for leaf in leaves])
    for old, new in itertools.pairwise(checkpoints):
        proof = await supplier.prove.consistency(supplier.did, old.size, new.size)
        assert verify_consistency(old.size, old.root, new.size, new.root, proof)
    for index in [0, 1, 255, 256, 257, 511, 512, count - 1, *chance.sample(range(count), 20)]:
        proof = await supplier.prove.inclusion(supplier.did, index)
        assert verify_inclusion(leaf_hash(leaves[index]), proof.index, head.size, proof.path, head.root)
    old_head = await supplier.prove.checkpoint(supplier.did, checkpoints[3].size)
    proof = await supplier.prove.inclusion(supplier.did, 2, old_head)
    assert verify_inclusion(leaf_hash(leaves[2]), 2, old_head.size, proof.path, old_head.root)


async def test_tiles_of_every_published_size_can_be_read_as_the_standard_says(supplier) -> None:
    for count in (1, 100, 154, 1, 256, 30):
        await supplier.note(count)
        await supplier.prove.catch_up(supplier.did)
    hashed = [leaf_hash(leaf) for leaf in await leaves_of(supplier)]
    node = merkle.nodes_of(hashed)

    for checkpoint in await checkpoints_of(supplier):
        for tile in merkle.tiles_of(checkpoint.size):
            answer = await supplier.get("/log/" + merkle.tile_path(tile))
            expected = b"".join(node(8 * tile.level, tile.number * 256 + place) for place in range(tile.width))
            assert (answer.status, answer.body) == (200, expected)
            assert answer.headers["content-type"] == "application/octet-stream"


async def test_tiles_that_were_never_published_and_entries_are_not_served(supplier) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)
    names = (
        "tile/0/001.p/45",
        "tile/0/001",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/0/0",
        "tile/63/000.p/1",
        "tile/0/000.p/256",
    )

    assert [(await supplier.get(f"/log/{name}")).status for name in names] == [404] * len(names)


async def test_the_checkpoint_is_a_note_of_the_log_over_http(supplier) -> None:
    assert (await supplier.get("/log/checkpoint")).status == 404
    await supplier.note(3)
    await supplier.prove.catch_up(supplier.did)
    answer = await supplier.get("/log/checkpoint")
    opened = open_note(answer.body, [supplier.prove.keys_of(supplier.did)[0]])

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert opened.note.text.splitlines()[:2] == ["guantong/did:web:supplier.example", "3"]


async def test_the_room_follows_the_records_and_catches_up_after_a_stop(supplier) -> None:
    await supplier.prove.start()
    await supplier.note(5)
    for _ in range(50):
        await asyncio.sleep(0)
        if (await supplier.prove.view(supplier.did)).size == 5:
            break
    assert (await supplier.prove.view(supplier.did)).behind == 0
    await supplier.prove.stop()
    await supplier.note(9)
    assert (await supplier.prove.view(supplier.did)).behind == 9
    prove = await supplier.again()
    await prove.start()
    for _ in range(50):
        await asyncio.sleep(0)

    assert (await prove.view(supplier.did)).size == 14


@pytest.mark.parametrize("count", [1, 255, 256, 257, 513])
async def test_a_restart_goes_on_with_the_same_tree(supplier, count: int) -> None:
    await supplier.note(count)
    await supplier.prove.catch_up(supplier.did)
    await supplier.again()
    await supplier.note(3)
    head = await supplier.prove.catch_up(supplier.did)

    assert head.root == merkle.root([leaf_hash(leaf) for leaf in await leaves_of(supplier)])


async def test_missing_tiles_are_made_again_from_the_leaves(supplier) -> None:
    await supplier.note(1000)
    await supplier.prove.catch_up(supplier.did)
    before = dict(supplier.blobs.files)
    supplier.blobs.files.clear()
    await supplier.again()
    leaves = await leaves_of(supplier)
    head = await supplier.prove.checkpoint(supplier.did)
    for index in (0, 300, 600, 999):
        proof = await supplier.prove.inclusion(supplier.did, index)
        assert verify_inclusion(leaf_hash(leaves[index]), index, head.size, proof.path, head.root)

    assert supplier.blobs.files == before
    assert len(before) == 6  # three full tiles and their bundles


async def test_a_stop_between_tile_and_checkpoint_loses_and_doubles_nothing(supplier, monkeypatch) -> None:
    await supplier.note(250)
    await supplier.prove.catch_up(supplier.did)
    await supplier.note(20)
    calls = 0
    write = supplier.records.write

    async def fail_once(*arguments):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Retryable("records.disk-full", reason="no space left")
        await write(*arguments)

    monkeypatch.setattr(supplier.records, "write", fail_once)
    with pytest.raises(Retryable):
        await supplier.prove.catch_up(supplier.did)

    head = await supplier.prove.catch_up(supplier.did)
    assert head.size == 270
    assert head.root == merkle.root([leaf_hash(leaf) for leaf in await leaves_of(supplier)])
    assert [item.size for item in await checkpoints_of(supplier)] == [250, 270]


async def test_a_second_process_cannot_sign_a_second_view(supplier) -> None:
    from guantong.prove.service import Prove

    await supplier.note(4)
    await supplier.prove.catch_up(supplier.did)
    other = Prove(supplier.records, supplier.blobs, supplier.clock, supplier.wire, lambda _: supplier.keys)
    await other.add(supplier.did)
    await supplier.note(1)
    await supplier.prove.catch_up(supplier.did)

    with pytest.raises(Retryable) as caught:
        await other.catch_up(supplier.did)
    assert caught.value.code == "records.conflict"
    # after the failure it has read the tree anew; a second stale one that has further leaves is stopped as well
    stale = Prove(supplier.records, supplier.blobs, supplier.clock, supplier.wire, lambda _: supplier.keys)
    await stale.add(supplier.did)
    await supplier.note(1)
    await supplier.prove.catch_up(supplier.did)
    await supplier.note(1)
    with pytest.raises(Retryable) as caught:
        await stale.catch_up(supplier.did)
    assert caught.value.code == "records.conflict"
    assert [item.size for item in await checkpoints_of(supplier)] == [4, 5, 6]


@pytest.mark.parametrize("number", [0, 255, 256, 299])
async def test_a_rewritten_leaf_is_found(supplier, number: int) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)
    with supplier.records.engine.begin() as connection:
        leaf = connection.execute(select(LEAVES.c.leaf).where(LEAVES.c.number == number)).scalar()
        connection.execute(update(LEAVES).where(LEAVES.c.number == number).values(leaf=leaf.replace(b'"n"', b'"m"')))

    with pytest.raises(Corrupt) as caught:
        await supplier.prove.audit(supplier.did)
    assert caught.value.code == "prove.tree-damaged"
    if number >= 256:  # the unfinished edge is compared at every start; what full tiles hold is the audit's matter
        await damaged_after_restart(supplier)


async def damaged_after_restart(supplier) -> None:
    """The node starts and says what is wrong; nothing more is signed until somebody acts."""
    room = await supplier.again()
    before = await checkpoints_of(supplier)

    assert room.failure(supplier.did) == "prove.tree-damaged"
    assert (await room.view(supplier.did)).failure == "prove.tree-damaged"
    await supplier.note(1)
    for work in (room.catch_up, room.audit):
        with pytest.raises(Corrupt):
            await work(supplier.did)
    assert [one.size for one in await checkpoints_of(supplier)] == [one.size for one in before]


async def test_an_altered_tile_is_found_at_the_next_start(supplier) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)
    name = next(name for name in supplier.blobs.files if "/tile/0/" in name)
    data = supplier.blobs.files[name]
    supplier.blobs.files[name] = bytes([data[0] ^ 1]) + data[1:]

    await damaged_after_restart(supplier)


async def test_a_bundle_that_was_cut_is_found_by_the_audit(supplier) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)
    name = next(name for name in supplier.blobs.files if "/tile/entries/" in name)
    whole = supplier.blobs.files[name]
    supplier.blobs.files[name] = whole[:-10]

    with pytest.raises(Corrupt):
        await supplier.prove.rounds.audit(supplier.did)
    del supplier.blobs.files[name]
    await supplier.prove.rounds.audit(supplier.did)
    assert supplier.blobs.files[name] == whole
    assert (await supplier.prove.view(supplier.did)).audited_at is not None


async def test_pruning_removes_bundles_of_entries_and_nothing_else(build) -> None:
    house = await build("did:web:supplier.example", retain_leaves_below=513)
    await house.note(800)
    await house.prove.catch_up(house.did)
    before = set(house.blobs.files)

    assert await house.prove.rounds.prune(house.did) == 2
    assert {name.rpartition("/")[2] for name in before - set(house.blobs.files)} == {"000", "001"}
    assert all("/tile/entries/" in name for name in before - set(house.blobs.files))
    assert await house.prove.rounds.prune(house.did) == 0
    await house.prove.rounds.audit(house.did)
    await house.again()
    assert await house.prove.audit(house.did) == 800


async def test_an_entry_of_more_than_65535_bytes_is_refused(supplier) -> None:
    with pytest.raises(ConfigProblem) as caught:
        await supplier.note(1, text="x" * 65_500)

    assert caught.value.code == "records.entry-too-large"
    await supplier.note(1, text="x" * 65_200)
    assert (await supplier.prove.catch_up(supplier.did)).size == 1


async def test_an_untouched_log_passes_its_audit(supplier) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)

    assert await supplier.prove.audit(supplier.did) == 300


async def test_a_dropped_leaf_or_an_altered_frontier_stops_the_log(supplier) -> None:
    await supplier.note(300)
    await supplier.prove.catch_up(supplier.did)
    with supplier.records.engine.begin() as connection:
        connection.execute(update(TREES).values(size=299))
    await damaged_after_restart(supplier)
    with supplier.records.engine.begin() as connection:
        connection.execute(update(TREES).values(size=300))
        connection.execute(LEAVES.delete().where(LEAVES.c.number == 280))
    await damaged_after_restart(supplier)


async def test_logs_of_two_participants_never_mix(supplier) -> None:
    guest = "did:web:guest.example"
    await supplier.prove.add(guest)
    await supplier.note(2)
    async with supplier.records.step(guest) as step:
        from guantong.base.entry import Entry, EntryKind

        step.record(Entry(EntryKind("test.noted", "", "", {}), {}))
    a = await supplier.prove.catch_up(supplier.did)
    b = await supplier.prove.catch_up(guest)

    assert (a.size, b.size) == (2, 1)
    assert parse_note(b.note).text.startswith("guantong/did:web:guest.example\n1\n")
    with pytest.raises(Skippable):
        await supplier.prove.catch_up("did:web:nobody.example")


async def test_proofs_outside_the_log_are_refused(supplier) -> None:
    await supplier.note(2)
    await supplier.prove.catch_up(supplier.did)
    for index in (-1, 2, 10**9):
        with pytest.raises(GuantongError) as caught:
            await supplier.prove.inclusion(supplier.did, index)
        assert caught.value.code == "prove.not-in-log"
    assert await supplier.prove.tile(supplier.did, Tile(0, 0, 3)) is None
