"""Frozen values and entry kinds of guests: suppliers without a node, who act through a page on their customer's node with a key of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guantong.base.entry import EntryKind
from guantong.base.guest import STATED

__all__ = ["ENTRY_KINDS", "Guest", "Moved", "Request", "Share", "Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What this node asks its guests for: each statement of a share repeats it, so that a later change binds nobody."""

    purpose: str
    terms: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest of this node."""

    did: str
    """did:key of the key in its browser."""
    name: str
    number: int
    """Statements so far."""
    head: str
    """Digest of the last one."""
    moved_to: str
    """DID of its own node, empty while it has none."""
    evidence: str
    """Evidence key of that node in base64, empty while it has none."""
    joined_at: int


@dataclass(frozen=True, slots=True)
class Share:
    """A file that a guest shares, or shared."""

    id: str
    """Digest of the statement."""
    guest: str
    source: str
    """The source under which the guest's readings and measurements are kept."""
    file: str
    size: int
    sha256: str
    root: str
    form: str
    rows: int
    quarantined: int
    purpose: str
    terms: str
    state: str
    """``shared`` or ``revoked``."""
    shared_at: int
    changed_at: int
    uses: int
    used_at: int


@dataclass(frozen=True, slots=True)
class Request:
    """This node asks a guest for one more use of what it shares."""

    id: str
    guest: str
    share: str
    purpose: str
    terms: str
    state: str
    """``asked``, ``approved`` or ``declined``."""
    asked_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A guest that has moved in here: its papers, verified, and where it was a guest."""

    guest: str
    host: str
    address: str
    statements: int
    told: bool
    """Whether the former host knows."""
    at: int


_TEXT: dict[str, Any] = {"type": "string", "maxLength": 8192}


def _kind(name: str, en: str, zh: str, texts: tuple[str, ...], *objects: str) -> EntryKind:
    properties: dict[str, Any] = dict.fromkeys(texts, _TEXT) | {key: {"type": "object"} for key in objects}
    return EntryKind(
        name,
        en,
        zh,
        {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False},
    )


GUEST_STATED = _kind(
    STATED,
    "A guest stated something, signed with its own key",
    "访客方作出声明，并以自己的密钥签名",
    ("guest", "kind", "statement"),
    "envelope",
    "kept",
)
GUEST_ASKED = _kind(
    "exchange.guest-asked",
    "A guest was asked for one more use of what it shares",
    "向访客方请求将其共享数据用于新的用途",
    ("guest", "request", "share", "purpose", "terms"),
)
GUEST_USED = _kind(
    "exchange.guest-used",
    "What a guest shares was used for a purpose it agreed to",
    "按访客方同意的用途使用了其共享数据",
    ("guest", "share", "purpose", "by"),
)
GUEST_MOVED_IN = _kind(
    "exchange.guest-moved-in",
    "A guest of another node moved to this one with key, contracts and proofs",
    "其他节点的访客方携密钥、合约和证明迁入本节点",
    ("guest", "host", "statement", "papers"),
    "envelope",
)

ENTRY_KINDS: tuple[EntryKind, ...] = (GUEST_ASKED, GUEST_MOVED_IN, GUEST_STATED, GUEST_USED)
