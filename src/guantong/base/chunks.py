"""Chunks of recorded data under one root, so that one chunk can be shown later without the others.

A chunk is text (canonical enough for its maker to cut it again: nobody else has to). Its leaf is the RFC 6962 leaf hash of a salt of its
own followed by the text; the salt stops a short chunk from being guessed from its hash, which the paths of its neighbours show.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from guantong.base.merkle import inclusion_proof, leaf_hash, nodes_of, root, verify_inclusion

__all__ = ["SALT_BYTES", "ChunkTree", "chunk_leaf", "chunk_salt", "verify_chunk"]

SALT_BYTES = 16


def chunk_salt(secret: bytes, number: int) -> bytes:
    """Salt of the chunk of that number: HMAC-SHA-256 under the commitment's secret, cut to 16 bytes."""
    return hmac.digest(secret, number.to_bytes(8, "big"), "sha256")[:SALT_BYTES]


def chunk_leaf(salt: bytes, text: bytes) -> bytes:
    """Leaf hash of a chunk. ValueError: a salt of another length, which could hide where the text begins."""
    if len(salt) != SALT_BYTES:
        raise ValueError("a chunk's salt has 16 bytes")
    return leaf_hash(salt + text)


class ChunkTree:
    """The tree over the chunks of one commitment, in memory."""

    __slots__ = ("_node", "leaves")

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = list(leaves)
        self._node = nodes_of(self.leaves)

    @classmethod
    def of(cls, secret: bytes, texts: Sequence[bytes]) -> ChunkTree:
        """The tree of chunks that are salted from one secret."""
        prefix = b"\x00"
        digest = hmac.digest
        sha = hashlib.sha256
        return cls(
            [
                sha(prefix + digest(secret, at.to_bytes(8, "big"), "sha256")[:SALT_BYTES] + text).digest()
                for at, text in enumerate(texts)
            ]
        )

    @property
    def root(self) -> bytes:
        """Root of the tree (RFC 6962, 2.1)."""
        return root(self.leaves)

    def path(self, index: int) -> list[bytes]:
        """Path of a chunk, its sibling first."""
        return inclusion_proof(self._node, index, len(self.leaves))


def verify_chunk(salt: bytes, text: bytes, index: int, size: int, path: Sequence[bytes], tree_root: bytes) -> bool:
    """Whether that text is the chunk at ``index`` of the ``size`` chunks under the root."""
    return len(salt) == SALT_BYTES and verify_inclusion(chunk_leaf(salt, text), index, size, path, tree_root)
