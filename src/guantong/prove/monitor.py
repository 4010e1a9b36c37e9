"""Watching partners' logs: what a log shows us, what it showed its witnesses, and whether the two are one history.

A witness sees a log only through what is sent to it; a monitor asks both sides and compares. Sources: C2SP tlog-witness (Monitor
Retrieval), tlog-tiles. What contradicts becomes a proof (``base/fork.py``) that convinces anybody who knows the log's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guantong.base.errors import GuantongError, Skippable
from guantong.base.fork import Fork, contradicts
from guantong.base.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Node,
    Tile,
    consistency_proof,
    node_in_tile,
    root,
    root_at,
    tile_path,
)
from guantong.base.note import Checkpoint, open_note, parse_checkpoint
from guantong.base.wire import Http
from guantong.prove import rules
from guantong.prove.model import Peer, origin_of

__all__ = ["Seen", "compare", "fork_of", "look", "others_saw"]

MAX_CHECKPOINT_BYTES = 65_536
MAX_TILES = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that the log's key signed, and where it was seen."""

    note: bytes
    head: Checkpoint
    where: str
    """DID of who showed it."""


def _open(peer: Peer, note: bytes, where: str) -> Seen:
    head = parse_checkpoint(open_note(note, [peer.log_vkey]).note.text)
    if head.origin != origin_of(peer.did):
        raise Skippable("base.note-malformed", reason="the checkpoint is of another log")
    return Seen(note, head, where)


async def look(http: Http, peer: Peer, *, timeout_s: float) -> Seen | None:
    """The checkpoint that the log shows us; None before its first. Raises what the wire raises, and for a bad signature."""
    answer = await http.request(
        "GET", f"{peer.url}/log/checkpoint", timeout_s=timeout_s, max_bytes=MAX_CHECKPOINT_BYTES
    )
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise Skippable("base.note-malformed", reason=f"the log answered {answer.status}")
    return _open(peer, answer.body, peer.did)


async def others_saw(http: Http, peer: Peer, witnesses: Sequence[Peer], *, timeout_s: float) -> list[Seen]:
    """What each witness cosigned of the log last. One that does not answer, or never saw the log, is left out."""
    found = []
    name = rules.origin_hash(origin_of(peer.did))
    for witness in witnesses:
        if witness.did == peer.did:
            continue
        try:
            answer = await http.request(
                "GET",
                f"{witness.url}/witness/{name}/checkpoint",
                timeout_s=timeout_s,
                max_bytes=MAX_CHECKPOINT_BYTES,
            )
            if answer.status == 200:
                found.append(_open(peer, answer.body, witness.did))
        except GuantongError:
            continue
    return found


async def compare(http: Http, peer: Peer, one: Seen, other: Seen, *, timeout_s: float) -> Fork | None:
    """A proof of the fork if the two checkpoints are not of one history, else None. The log's own tiles are the witness against it.

    Raises Skippable ``prove.tiles-unusable`` where the log does not hand out tiles that lead to the larger checkpoint.
    """
    first, second = sorted((one, other), key=lambda seen: seen.head.size)
    if first.head.size == 0 or (first.head.size, first.head.root) == (second.head.size, second.head.root):
        return None
    if first.head.size == second.head.size:
        return Fork(first.note, second.note, second.head.root)
    remote = _Remote(http, peer, second.head.size, timeout_s)
    sizes = (first.head.size, second.head.size)
    node = await remote.nodes([*sizes])
    found = Fork(first.note, second.note, root_at(node, sizes[0]), tuple(consistency_proof(node, *sizes)))
    if root_at(node, sizes[1]) != second.head.root:
        raise Skippable("prove.tiles-unusable", did=peer.did, size=sizes[1])
    return found if contradicts(first.head, second.head, found.root, found.consistency) else None


def fork_of(first: Seen, second: Seen, proof: Sequence[bytes]) -> Fork | None:
    """A proof of the fork from what a log itself sent to be witnessed: a proof that leads to its new root, but from another old one."""
    if first.head.size == second.head.size:
        fork = Fork(first.note, second.note, second.head.root)
    else:
        # unless the old size is a power of two, the first hash begins both ways: the old root can be told from the proof alone
        old = _old_root(first.head.size, second.head.size, proof)
        if old is None:
            return None
        fork = Fork(first.note, second.note, old, tuple(proof))
    return fork if contradicts(first.head, second.head, fork.root, fork.consistency) else None


def _old_root(old: int, new: int, proof: Sequence[bytes]) -> bytes | None:
    from guantong.base.merkle import node_hash

    if not proof or old >= new or old & (old - 1) == 0:
        return None
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    found = proof[0]
    for item in proof[1:]:
        if place & 1 or place == last:
            found = node_hash(item, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        place >>= 1
        last >>= 1
    return found


class _Remote:
    """The nodes of somebody else's tree, from its tiles."""

    def __init__(self, http: Http, peer: Peer, size: int, timeout_s: float) -> None:
        self._http, self._peer, self._size, self._timeout_s = http, peer, size, timeout_s
        self._tiles: dict[Tile, bytes] = {}

    async def nodes(self, sizes: Sequence[int]) -> Node:
        """A :data:`Node` that knows what the roots at these two sizes and the proof between them need."""
        wanted: list[tuple[int, int]] = []

        def ask(level: int, index: int) -> bytes:
            wanted.append((level, index))
            return bytes(HASH_BYTES)

        for size in sizes:
            root_at(ask, size)
        consistency_proof(ask, sizes[0], sizes[1])
        known: Mapping[tuple[int, int], bytes] = {place: await self._node(*place) for place in dict.fromkeys(wanted)}
        return lambda level, index: known[level, index]

    async def _node(self, level: int, index: int) -> bytes:
        tile, start, end = node_in_tile(level, index)
        data = await self._tile(tile)
        return root([data[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(start, end)])

    async def _tile(self, tile: Tile) -> bytes:
        have = self._size >> (8 * tile.level)
        width = min(TILE_WIDTH, have - tile.number * TILE_WIDTH)
        wanted = Tile(tile.level, tile.number, width)
        if wanted not in self._tiles:
            if len(self._tiles) >= MAX_TILES:
                raise Skippable("prove.tiles-unusable", did=self._peer.did, size=self._size)
            answer = await self._http.request(
                "GET",
                f"{self._peer.url}/log/{tile_path(wanted)}",
                timeout_s=self._timeout_s,
                max_bytes=TILE_WIDTH * HASH_BYTES,
            )
            if answer.status != 200 or len(answer.body) != width * HASH_BYTES:
                raise Skippable("prove.tiles-unusable", did=self._peer.did, size=self._size)
            self._tiles[wanted] = answer.body
        return self._tiles[wanted]
