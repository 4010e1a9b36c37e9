"""One participant's tree: leaves in, full tiles out, the unfinished edge in memory.

Full tiles are immutable files. A partial tile is never a file: it is a prefix of the edge, or of the full tile that came after it, so
every width that ever was published can be answered. Everything here can be made again from the leaves, and is when a file is missing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Awaitable, Callable, Sequence

from guantong.base.errors import Corrupt
from guantong.base.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Frontier,
    Node,
    Tile,
    leaf_hash,
    node_in_tile,
    root,
    tile_path,
)
from guantong.keep.ports import Blobs

__all__ = ["ReadLeaves", "Tree", "blob_name", "bundle"]

ReadLeaves = Callable[[int, int], Awaitable[list[bytes]]]
"""``await read(first, end)``: the leaves from index ``first`` up to ``end``, fewer if there are fewer."""

_LEVELS = 8  # 256^8 leaves are more than 2^63


def bundle(leaves: Sequence[bytes]) -> bytes:
    """Entry bundle: each entry behind its length as a big-endian uint16 (C2SP tlog-tiles, Entries)."""
    return b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in leaves)


def blob_name(participant: str, tile: Tile) -> str:
    """Name of a tile's file; the participant's part is a digest, because a DID's characters are not safe in file names."""
    return f"log/{hashlib.sha256(participant.encode()).hexdigest()[:32]}/{tile_path(tile)}"


class Tree:
    """The tree of one participant. ``take`` adds leaves; ``node`` answers for proofs; ``tile`` for readers."""

    def __init__(self, participant: str, blobs: Blobs, read_leaves: ReadLeaves) -> None:
        self.participant = participant
        self.frontier = Frontier()
        self._blobs = blobs
        self._read_leaves = read_leaves
        self._edge: list[list[bytes]] = [[] for _ in range(_LEVELS)]
        self._bundle: list[bytes] = []
        self._recent: dict[Tile, bytes] = {}

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return self.frontier.size

    async def resume(self, size: int, frontier: bytes) -> None:
        """Go on where a durable frontier ended. Raises Corrupt ``prove.tree-damaged`` if leaves or tiles no longer lead to it."""
        try:
            known = Frontier.from_bytes(size, frontier)
        except ValueError as error:
            raise Corrupt("prove.tree-damaged", participant=self.participant, reason=str(error)) from error
        edge: list[list[bytes]] = [[] for _ in range(_LEVELS)]
        tail = await self._leaves(size - size % TILE_WIDTH, size)
        edge[0] = [leaf_hash(leaf) for leaf in tail]
        for level in range(1, _LEVELS):
            count = size >> (8 * level)
            edge[level] = [
                root(_split(await self._full(Tile(level - 1, number))))
                for number in range(count - count % TILE_WIDTH, count)
            ]
        if _frontier_of(size, edge) != known.hashes:
            raise Corrupt(
                "prove.tree-damaged", participant=self.participant, reason="leaves or tiles differ from what was signed"
            )
        self.frontier, self._edge, self._bundle = known, edge, tail

    async def take(self, leaves: Sequence[bytes]) -> None:
        """Add leaves and store every tile that they fill. On failure the tree must be resumed anew."""
        for leaf in leaves:
            ended = self.frontier.append(leaf_hash(leaf))
            self._bundle.append(leaf)
            number = self.frontier.size - 1
            for level in range((len(ended) + 7) // 8):
                self._edge[level].append(ended[8 * level])
            if len(self._bundle) == TILE_WIDTH:
                await self._store(Tile(-1, number // TILE_WIDTH), bundle(self._bundle))
                self._bundle = []
            for level, hashes in enumerate(self._edge):
                if len(hashes) < TILE_WIDTH:
                    break
                await self._store(Tile(level, (self.frontier.size >> (8 * level)) // TILE_WIDTH - 1), b"".join(hashes))
                self._edge[level] = []

    async def _store(self, tile: Tile, data: bytes) -> None:
        await self._blobs.put(blob_name(self.participant, tile), data)

    async def tile(self, tile: Tile) -> bytes | None:
        """Bytes of a hash tile of any width the tree has reached, or None."""
        if tile.level < 0:
            return None
        have = self.frontier.size >> (8 * tile.level)
        if tile.number * TILE_WIDTH + tile.width > have:
            return None
        if tile.number == have // TILE_WIDTH:
            return b"".join(self._edge[tile.level][: tile.width])
        return (await self._full(Tile(tile.level, tile.number)))[: tile.width * HASH_BYTES]

    async def nodes(self, wanted: Sequence[tuple[int, int]]) -> Node:
        """A :data:`Node` that knows these (level, index) subtree roots."""
        known: dict[tuple[int, int], bytes] = {}
        for level, index in wanted:
            tile, start, end = node_in_tile(level, index)
            data = await self.tile(tile)
            if data is None:
                raise LookupError(f"the tree has no node {index} at level {level}")
            known[level, index] = root(_split(data[start * HASH_BYTES : end * HASH_BYTES]))
        return lambda level, index: known[level, index]

    async def prove(self, build: Callable[[Node], list[bytes]]) -> list[bytes]:
        """Run one of ``base.merkle``'s proof functions over this tree: first to see which nodes it asks for, then with them."""
        wanted: list[tuple[int, int]] = []

        def ask(level: int, index: int) -> bytes:
            wanted.append((level, index))
            return bytes(HASH_BYTES)

        build(ask)
        return build(await self.nodes(wanted))

    async def check_bundles(self, first: int = 0) -> None:
        """Compare each full bundle of entries from leaf ``first`` on with the leaves. Raises Corrupt ``prove.tree-damaged``.

        A bundle that is missing is written again; one with other bytes is evidence and stays as it is.
        """
        for number in range(-(-first // TILE_WIDTH), self.size // TILE_WIDTH):
            tile = Tile(-1, number)
            wanted = bundle(await self._leaves(number * TILE_WIDTH, (number + 1) * TILE_WIDTH))
            held = await self._blobs.get(blob_name(self.participant, tile))
            if held is None:
                await self._store(tile, wanted)
            elif held != wanted:
                raise Corrupt(
                    "prove.tree-damaged",
                    participant=self.participant,
                    reason=f"the bundle {tile_path(tile)} was changed",
                )

    async def _full(self, tile: Tile) -> bytes:
        """A full tile from its file, or made again from what lies below it."""
        cached = self._recent.get(tile)
        if cached is not None:
            return cached
        data = await self._blobs.get(blob_name(self.participant, tile))
        if data is None or len(data) != TILE_WIDTH * HASH_BYTES:
            first = tile.number * TILE_WIDTH
            if tile.level == 0:
                leaves = await self._leaves(first, first + TILE_WIDTH)
                data = b"".join(leaf_hash(leaf) for leaf in leaves)
                await self._store(Tile(-1, tile.number), bundle(leaves))
            else:
                data = b"".join(
                    [
                        root(_split(await self._full(Tile(tile.level - 1, number))))
                        for number in range(first, first + TILE_WIDTH)
                    ]
                )
            await self._store(tile, data)
        if len(self._recent) >= 64:
            self._recent.pop(next(iter(self._recent)))
        self._recent[tile] = data
        return data

    async def _leaves(self, first: int, end: int) -> list[bytes]:
        leaves = await self._read_leaves(first, end)
        if len(leaves) != end - first:
            raise Corrupt(
                "prove.tree-damaged", participant=self.participant, reason=f"leaves {first} to {end - 1} are missing"
            )
        return leaves


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _frontier_of(size: int, edge: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The frontier that the edges of all levels give: per level the full subtrees over its hashes, largest first."""
    found: list[bytes] = []
    for level in range(_LEVELS - 1, -1, -1):
        part = Frontier()
        for hashed in edge[level]:
            part.append(hashed)
        found += part.hashes
    return found
