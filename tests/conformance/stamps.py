"""Time stamps over a checkpoint by a test authority, and the ways to forge them: for every tool that reads RFC 3161."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.authority import Authority
from tests.conformance.material import ORIGIN

from guantong.base import timestamp
from guantong.base.canonical import sha256
from guantong.base.note import Checkpoint

NONCE = 2**62 + 12345
TEXT = Checkpoint(ORIGIN, 700, sha256(b"root")).text.encode()


@dataclass(frozen=True)
class Case:
    """What a verifier is given."""

    data: bytes
    reply: bytes
    root: Path


def another_time(reply: bytes) -> bytes:
    """The same token with the next year in its time, when the certificate is still valid."""
    found = re.search(rb"\x18.20(\d\d)\d{10}(?:\.\d+)?Z", reply)
    assert found is not None
    at = found.start(1)
    return reply[:at] + b"%02d" % (int(found[1]) + 1) + reply[at + 2 :]


def cases(folder: Path) -> dict[str, Case]:
    """By row."""
    ours, other = Authority(folder / "ours", "Test authority"), Authority(folder / "other", "Another authority")
    query = timestamp.request(TEXT, NONCE)
    reply = ours.reply(query)
    changed = Checkpoint(ORIGIN, 700, sha256(b"another root")).text.encode()
    return {
        "control": Case(TEXT, reply, ours.root),
        "token-time-forged": Case(TEXT, another_time(reply), ours.root),
        "token-over-other-root": Case(changed, reply, ours.root),
        "token-by-stranger": Case(TEXT, other.reply(query), ours.root),
    }
