"""Merkle arithmetic against the vectors of the certificate-transparency reference code, a definition written straight from RFC 6962,
and properties."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base import merkle
from guantong.base.merkle import Frontier, Tile

# RFC 6962 reference inputs and roots of certificate-transparency (Apache-2.0), cpp/merkletree/merkle_tree_test.cc
LEAVES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    bytes.fromhex("5051525354555657"),
    bytes.fromhex("606162636465666768696a6b6c6d6e6f"),
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(data: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(number).encode()) for number in range(count)]


def test_roots_are_those_of_the_reference_code() -> None:
    hashed = [merkle.leaf_hash(item) for item in LEAVES]

    assert [merkle.root(hashed[: size + 1]).hex() for size in range(8)] == ROOTS
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_inclusion_proof_is_that_of_the_reference_code() -> None:
    # certificate-transparency, paths[2]: leaf 6 of 8, counted from 1
    node = merkle.nodes_of([merkle.leaf_hash(item) for item in LEAVES])
    path = [item.hex() for item in merkle.inclusion_proof(node, 5, 8)]

    assert path == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_agrees_with_the_definition(data: list[bytes]) -> None:
    frontier = Frontier()
    for item in data:
        frontier.append(merkle.leaf_hash(item))
    again = Frontier.from_bytes(frontier.size, frontier.to_bytes())

    assert frontier.root() == mth(data) == again.root()
    assert merkle.root_at(merkle.nodes_of([merkle.leaf_hash(item) for item in data]), len(data)) == mth(data)


@settings(max_examples=200)
@given(st.data())
def test_every_proof_verifies_and_every_change_of_it_does_not(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    hashed = hashes(size)
    node = merkle.nodes_of(hashed)
    top = merkle.root(hashed)
    proof = merkle.inclusion_proof(node, index, size)

    assert merkle.verify_inclusion(hashed[index], index, size, proof, top)
    assert not merkle.verify_inclusion(hashed[index], index, size, [*proof, top], top)
    assert not merkle.verify_inclusion(hashed[index], size, size, proof, top)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, top)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bad = list(proof)
        bad[at] = bytes([bad[at][0] ^ 1]) + bad[at][1:]
        assert not merkle.verify_inclusion(hashed[index], index, size, bad, top)
        assert not merkle.verify_inclusion(hashed[index], index, size, proof[:-1], top)
        bad[at] = proof[at][:31]
        assert not merkle.verify_inclusion(hashed[index], index, size, bad, top)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert not merkle.verify_inclusion(hashed[index], other, size, proof, top)


@settings(max_examples=200)
@given(st.data())
def test_consistency_proofs_verify_and_split_views_do_not(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 300))
    old = data.draw(st.integers(0, new))
    hashed = hashes(new)
    node = merkle.nodes_of(hashed)
    old_root, new_root = merkle.root(hashed[:old]), merkle.root(hashed)
    proof = merkle.consistency_proof(node, old, new)

    assert merkle.verify_consistency(old, old_root, new, new_root, proof)
    assert not merkle.verify_consistency(old, old_root, new, new_root, [*proof, new_root])
    assert not merkle.verify_consistency(old, hashed[0][::-1], new, new_root, proof)
    if old < new:
        assert not merkle.verify_consistency(new, new_root, old, old_root, proof)
    if proof:
        assert not merkle.verify_consistency(old, old_root, new, new_root, proof[1:])
        forked = list(hashed)
        forked[data.draw(st.integers(0, old - 1))] = merkle.leaf_hash(b"rewritten")
        fork_root = merkle.root(forked)
        fork_proof = merkle.consistency_proof(merkle.nodes_of(forked), old, new)
        assert not merkle.verify_consistency(old, old_root, new, fork_root, fork_proof)


def test_sizes_zero_and_one() -> None:
    one = hashes(1)

    assert merkle.verify_consistency(0, merkle.EMPTY_ROOT, 1, one[0], [])
    assert not merkle.verify_consistency(0, merkle.EMPTY_ROOT, 1, one[0], [one[0]])
    assert not merkle.verify_consistency(0, one[0], 1, one[0], [])
    assert merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    assert not merkle.verify_consistency(0, one[0], 0, one[0], [])
    assert merkle.verify_inclusion(one[0], 0, 1, [], one[0])
    assert not merkle.verify_inclusion(one[0], 0, 0, [], merkle.EMPTY_ROOT)


def test_a_path_that_is_too_short_leads_to_no_root() -> None:
    hashed = hashes(8)
    proof = merkle.inclusion_proof(merkle.nodes_of(hashed), 3, 8)

    assert merkle.root_of_inclusion(hashed[3], 3, 8, proof) == merkle.root(hashed)
    assert merkle.root_of_inclusion(hashed[3], 3, 8, proof[:-1]) is None
    assert merkle.root_of_inclusion(hashed[3], 3, 8, [*proof, hashed[0]]) is None


def test_frontiers_that_do_not_fit_their_size_are_refused() -> None:
    with pytest.raises(ValueError):
        Frontier(3, [bytes(32)])
    with pytest.raises(ValueError):
        Frontier.from_bytes(1, bytes(31))
    with pytest.raises(ValueError):
        Frontier().append(bytes(31))


# the example of C2SP tlog-tiles: 1234067 is x001/x234/067
@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(5, 255, 17), "tile/5/255.p/17"),
        (Tile(-1, 1000), "tile/entries/x001/000"),
    ],
)
def test_tile_paths_are_spelt_as_the_standard_says(tile: Tile, path: str) -> None:
    assert merkle.tile_path(tile) == path
    assert merkle.unpack_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0", "tile/00/000", "tile/0/x000/000", "tile/0/000.p/256", "tile/0/000.p/0", "tile/0/000.p/01",
        "tile/64/000", "tile/0/../000", "tile/0/000/", "tile/-1/000", "tile/0/٠٠٠", "tile/0/000\n",
    ],
)  # fmt: skip
def test_other_spellings_name_no_tile(path: str) -> None:
    assert merkle.unpack_tile_path(path) is None


def test_the_tiles_of_size_256_are_one_full_one_and_a_partial_above() -> None:
    assert list(merkle.tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(merkle.tiles_of(255)) == [Tile(0, 0, 255)]
    assert list(merkle.tiles_of(70_000))[-3:] == [Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]


@given(st.integers(0, 200_000), st.integers(0, 3000))
def test_new_tiles_are_those_that_were_not_there(old: int, more: int) -> None:
    new = old + more

    assert set(merkle.new_tiles(old, new)) == set(merkle.tiles_of(new)) - set(merkle.tiles_of(old))


@settings(max_examples=50)
@given(st.data())
def test_nodes_can_be_read_from_tiles(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 1500))
    node = merkle.nodes_of(hashes(size))
    level = data.draw(st.integers(0, size.bit_length() - 1))
    index = data.draw(st.integers(0, (size >> level) - 1))
    tile, start, end = merkle.node_in_tile(level, index)
    inside = [node(8 * tile.level, tile.number * 256 + place) for place in range(start, end)]

    frontier = Frontier()
    for item in inside:
        frontier.append(item)

    assert frontier.root() == node(level, index)
