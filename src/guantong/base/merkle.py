"""Merkle tree arithmetic: roots, an appender of O(log n) memory, proofs and their checks, and where tiles lie.

Sources: RFC 6962 section 2.1 and RFC 9162 section 2.1 (tree, proofs, their checks); C2SP tlog-tiles v0.1.0 (tiles). All hashes are
SHA-256, 32 bytes. Nothing here reads, writes or signs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "TILE_WIDTH",
    "Frontier",
    "Node",
    "Tile",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "new_tiles",
    "node_hash",
    "node_in_tile",
    "nodes_of",
    "root",
    "root_at",
    "root_of_inclusion",
    "tile_path",
    "tiles_of",
    "unpack_tile_path",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
TILE_WIDTH = 256
"""Hashes in a full tile (C2SP tlog-tiles)."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962, 2.1)."""

Node = Callable[[int, int], bytes]
"""``node(level, index)``: root of the full subtree over leaves ``index·2^level`` up to ``(index+1)·2^level``; level 0 is leaf hashes."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf (RFC 6962, 2.1): SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 6962, 2.1): SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, in order; the empty tree has SHA-256 of nothing."""
    level = list(leaf_hashes)
    if any(len(item) != HASH_BYTES for item in level):
        raise ValueError("a leaf hash has 32 bytes")
    sha = hashlib.sha256
    while len(level) > 1:
        # a node without a right neighbour goes up as it is, which is RFC 6962's split at the largest power of two
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0] if level else EMPTY_ROOT


class Frontier:
    """The right edge of a growing tree: one hash for each bit set in its size, largest subtree first.

    Appending needs no other memory; ``hashes`` and ``size`` are all that must be kept to go on after a restart.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if size < 0 or len(hashes) != size.bit_count() or any(len(item) != HASH_BYTES for item in hashes):
            raise ValueError("a frontier holds one 32-byte hash for each bit set in its size")
        self.size = size
        self.hashes = list(hashes)

    def append(self, hashed: bytes) -> list[bytes]:
        """Add a leaf hash. Returns the roots of the full subtrees that it ends, level 0 (itself) first."""
        if len(hashed) != HASH_BYTES:
            raise ValueError("a leaf hash has 32 bytes")
        ended = [hashed]
        rest = self.size
        hashes = self.hashes
        while rest & 1:
            hashed = hashlib.sha256(b"\x01" + hashes.pop() + hashed).digest()
            ended.append(hashed)
            rest >>= 1
        hashes.append(hashed)
        self.size += 1
        return ended

    def root(self) -> bytes:
        """Root of the tree so far."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found

    def copy(self) -> Frontier:
        """A frontier of its own with the same content."""
        return Frontier(self.size, self.hashes)

    def to_bytes(self) -> bytes:
        """The hashes one after the other; the size is kept beside them."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The inverse of :meth:`to_bytes`; ValueError if the length does not fit the size."""
        if len(data) != size.bit_count() * HASH_BYTES:
            raise ValueError("a frontier holds one 32-byte hash for each bit set in its size")
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])


def nodes_of(leaf_hashes: Sequence[bytes]) -> Node:
    """A :data:`Node` over leaf hashes held in memory."""
    levels: list[list[bytes]] = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def root_at(node: Node, size: int) -> bytes:
    """Root of the first ``size`` leaves."""
    return EMPTY_ROOT if size == 0 else _range(node, 0, size)


def _split(size: int) -> int:
    # RFC 6962, 2.1: the largest power of two smaller than size
    return 1 << ((size - 1).bit_length() - 1)


def _range(node: Node, start: int, end: int) -> bytes:
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range(node, start, middle), _range(node, middle, end))


def inclusion_proof(node: Node, index: int, size: int) -> list[bytes]:
    """Path from the leaf to the root of the first ``size`` leaves, leaf's sibling first (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError("the index lies outside the tree")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range(node, middle, end))
            end = middle
        else:
            path.append(_range(node, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(node: Node, old: int, new: int) -> list[bytes]:
    """Proof that the tree of ``old`` leaves is the beginning of the tree of ``new`` (RFC 6962, 2.1.2).

    It is empty when the sizes are equal and, as C2SP witnesses have it, when ``old`` is 0.
    """
    if not 0 <= old <= new:
        raise ValueError("a tree does not shrink")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range(node, middle, end))
            end = middle
        else:
            proof.append(_range(node, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(_range(node, start, end))
    proof.reverse()
    return proof


def root_of_inclusion(hashed: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that the path leads to, or None if it can't be a path of that leaf (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _hashes(hashed, *proof):
        return None
    place, last, found = index, size - 1, hashed
    for item in proof:
        if last == 0:
            return None  # hashes left over
        if place & 1 or place == last:
            found = node_hash(item, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            found = node_hash(found, item)
        place >>= 1
        last >>= 1
    return found if last == 0 else None


def verify_inclusion(hashed: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Whether the leaf with this hash is at ``index`` in the tree of ``size`` leaves with this root (RFC 9162, 2.1.3.2)."""
    return _hashes(tree_root) and root_of_inclusion(hashed, index, size, proof) == tree_root


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the first ``old`` leaves of the newer tree are the older tree (RFC 9162, 2.1.4.2).

    Equal sizes need equal roots and no proof; size 0 needs the empty root and no proof (C2SP tlog-witness).
    """
    if not 0 <= old <= new or not _hashes(old_root, new_root, *proof):
        return False
    if old == new:
        return not proof and old_root == new_root and (new > 0 or new_root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = path[0]
    for item in path[1:]:
        if last == 0:
            return False  # hashes left over
        if place & 1 or place == last:
            first = node_hash(item, first)
            second = node_hash(item, second)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, item)
        place >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


def _hashes(*items: bytes) -> bool:
    return all(len(item) == HASH_BYTES for item in items)


# ---- tiles


class Tile(NamedTuple):
    """A tile: its level (0 holds leaf hashes; -1 stands for the bundle of entries), number and width in 1…256."""

    level: int
    number: int
    width: int = TILE_WIDTH


def tile_path(tile: Tile) -> str:
    """Path after the log's prefix, ``tile/<L>/<N>[.p/<W>]`` or ``tile/entries/<N>[.p/<W>]`` (C2SP tlog-tiles)."""
    if not -1 <= tile.level < 64 or tile.number < 0 or not 1 <= tile.width <= TILE_WIDTH:
        raise ValueError("there is no such tile")
    groups: list[str] = []
    rest = tile.number
    while True:
        rest, last = divmod(rest, 1000)
        groups.append(f"{last:03d}" if not groups else f"x{last:03d}")
        if not rest:
            break
    level = "entries" if tile.level < 0 else str(tile.level)
    partial = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


_TILE = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


def unpack_tile_path(path: str) -> Tile | None:
    """The tile that a path names, or None; only the one right spelling is taken."""
    match = _TILE.fullmatch(path)
    if match is None:
        return None
    level, number, width = match.groups()
    tile = Tile(
        -1 if level == "entries" else int(level),
        int(number.replace("x", "").replace("/", "")),
        int(width) if width else TILE_WIDTH,
    )
    if tile.level >= 64 or tile.width > TILE_WIDTH or tile_path(tile) != path:
        return None
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Every hash tile of a tree of that size, the partial ones of that size included, level 0 first."""
    level = 0
    while size:
        full, width = divmod(size, TILE_WIDTH)
        for number in range(full):
            yield Tile(level, number)
        if width:
            yield Tile(level, full, width)
        size = full
        level += 1


def new_tiles(old: int, new: int) -> Iterator[Tile]:
    """Hash tiles of the tree of ``new`` leaves that the tree of ``old`` leaves did not have."""
    level = 0
    while new:
        for number in range(old // TILE_WIDTH, new // TILE_WIDTH):
            yield Tile(level, number)
        if new % TILE_WIDTH and old != new:
            yield Tile(level, new // TILE_WIDTH, new % TILE_WIDTH)
        old //= TILE_WIDTH
        new //= TILE_WIDTH
        level += 1


def node_in_tile(level: int, index: int) -> tuple[Tile, int, int]:
    """Where a node comes from: the tile (its smallest width that holds it) and the first and last+1 hash in it that the node covers.

    The node is the root over those hashes, whose number is a power of two.
    """
    tile_level, up = divmod(level, 8)
    first = index << up
    number, start = divmod(first, TILE_WIDTH)
    end = start + (1 << up)
    return Tile(tile_level, number, end), start, end
