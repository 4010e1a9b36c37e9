"""Frozen values of the evidence room: keys, settings, partners that witness, what the log says of itself, and its entry kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guantong.base.clock import iso
from guantong.base.entry import EntryKind
from guantong.base.gm import Sm2Key
from guantong.base.keys import Ed25519Key
from guantong.base.note import COSIGNATURE, ED25519, VerifierKey
from guantong.prove.figure import FIGURE_KINDS

__all__ = [
    "ENTRY_KINDS",
    "KEY_LOST",
    "KEY_ROTATED",
    "LOG_FORKED",
    "PACKAGE_MADE",
    "PARTNER_KEY_CHANGED",
    "Alarm",
    "AnchorView",
    "Anchored",
    "CheckpointView",
    "LogView",
    "PackageMade",
    "Peer",
    "ProveKeys",
    "ProveSettings",
    "Scope",
    "WitnessView",
    "origin_of",
    "witness_name_of",
]


def origin_of(did: str) -> str:
    """Origin of a participant's log, which is also the name of its key."""
    return f"guantong/{did}"


def witness_name_of(did: str) -> str:
    """Name under which a participant cosigns other logs."""
    return f"guantong/witness/{did}"


@dataclass(frozen=True, slots=True)
class ProveKeys:
    """A participant's two keys here. They must differ: a cosignature does not name its cosigner (C2SP tlog-cosignature)."""

    log: Ed25519Key
    """Signs checkpoints and packages: the evidence key of the DID document."""
    witness: Ed25519Key
    """Cosigns partners' checkpoints."""
    sm2: Sm2Key | None = None
    """Adds an SM2 line to checkpoints, which who does not know it ignores."""
    former: Ed25519Key | None = None
    """The log's key before the last rotation: signs checkpoints too while partners may not have heard of the new one."""
    changes: tuple[Mapping[str, Any], ...] = ()
    """Statements of the changes of the log's key, oldest first (``base/keychange.py``)."""
    company: Mapping[str, Any] | None = None
    """Statement of the company's certificate over DID and log key (``base/company.py``)."""

    def __post_init__(self) -> None:
        if self.log.public == self.witness.public:
            raise ValueError("the log's key and the witness's key must differ")


@dataclass(frozen=True, slots=True)
class ProveSettings:
    """Settings of the evidence room."""

    batch_leaves: int = 4096
    """Leaves taken into the tree under one checkpoint, at most."""
    sm2_line: bool = False
    """Checkpoints carry an SM2 signature line beside the Ed25519 one (SM algorithms; not a certified module), which verifiers that do not know it
    ignore. Needs the extra “gm”."""
    sm3_digests: bool = False
    """Each entry of the evidence log carries its SM3 digest too (SM algorithms; not a certified module); the tree stays SHA-256."""
    gather_s: float = 0.5
    """How long after a commit the log waits, so that one checkpoint covers what is recorded meanwhile. A checkpoint costs a commit, a
    signature and, for each partner, a request and a commit on both sides; a package does not wait for it."""
    witness_timeout_s: float = 10.0
    """Longest wait for a witness's answer."""
    retry_min_s: float = 0.5
    """First pause after a witness could not be reached; it doubles each time."""
    retry_max_s: float = 300.0
    """Longest pause between two attempts at a witness."""
    package_wait_s: float = 10.0
    """How long a package waits for a cosignature over its newest entry before it goes out with what there is."""
    max_request_bytes: int = 65_536
    """Largest checkpoint a partner may send to be witnessed."""
    max_package_bytes: int = 256 * 1024 * 1024
    """Largest package made."""
    audit_every_s: float = 86_400.0
    """How often every leaf is hashed again and compared with what was signed; 0 never."""
    stale_after_s: float = 3600.0
    """A partner's checkpoint that is older than this, and a cosignature missing for as long, is reported as stale."""
    monitor_every_s: float = 300.0
    """How often a partner's log and its witnesses are compared; 0 never."""
    anchor_every_s: float = 3600.0
    """Interval of anchors: one root per log, kind and interval, if the log has grown; 0 never."""
    timestamp_url: str = ""
    """Address of a time-stamp authority (RFC 3161); empty for none."""
    timestamp_roots: str = ""
    """PEM file with the certificates of authorities that are trusted; empty: tokens are kept, who signed them stays unconfirmed."""
    evm_url: str = ""
    """Address of a chain's JSON-RPC node; empty for none. Needs the extra “evm”."""
    evm_contract: str = ""
    """Address of the anchor contract on that chain, 0x and 40 hex digits (``guantong audit deploy`` makes one)."""
    evm_key_file: str = ""
    """File with the private key that pays for and owns the anchors, 64 hex digits, readable by its owner only."""
    retain_leaves_below: int = 0
    """Bundles of entries below this index are removed from the files, as a written retention policy says; never the tree."""
    commit_chunks: bool = True
    """Whether rows are committed to, chunk by chunk, as they become part of a table; without it no figure with proof can be made of
    them. It costs about a microsecond of hashing and two of writing for each row."""
    figure_positions_max: int = 200_000
    """Most positions (chunks) that one figure may take in."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A partner whose log this node witnesses and who witnesses this node's log."""

    did: str
    url: str
    """Prefix of the partner's evidence addresses: ``<url>/log/keys``, ``<url>/witness/add-checkpoint``."""
    evidence_key: bytes
    """Ed25519, 32 bytes, from the partner's DID document."""
    witness_key: bytes | None = None
    """Ed25519, 32 bytes; None until the partner's key statement was fetched and verified."""

    @property
    def log_vkey(self) -> VerifierKey:
        """The key under which the partner signs checkpoints."""
        return VerifierKey(origin_of(self.did), ED25519, self.evidence_key)

    @property
    def witness_vkey(self) -> VerifierKey | None:
        """The key under which the partner cosigns."""
        return (
            None if self.witness_key is None else VerifierKey(witness_name_of(self.did), COSIGNATURE, self.witness_key)
        )


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A published checkpoint and who cosigned it."""

    size: int
    root: bytes
    note: bytes
    """The signed note with the cosignatures known so far."""
    at: int
    """When it was signed, ns."""
    cosigners: tuple[tuple[str, int], ...] = ()
    """(DID, time in ns the cosignature states)."""


@dataclass(frozen=True, slots=True)
class WitnessView:
    """How far a partner has witnessed this log."""

    did: str
    size: int
    """Largest size it has cosigned, 0 before the first."""
    at: int | None
    """Time of that cosignature, ns."""
    error: str | None = None
    """Code of what stands in the way, or None."""
    attempts: int = 0
    """Attempts since the last success."""


@dataclass(frozen=True, slots=True)
class AnchorView:
    """An anchor as it is kept."""

    kind: str
    size: int
    root: bytes
    at: int
    """Time that it states, ns."""
    ref: Mapping[str, Any]
    """What the anchor handed back; verified without network by ``prove.rules``."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something is wrong with a log."""

    did: str
    """Whose log."""
    kind: str
    """``forked``: two histories; ``rolled-back``: smaller than it was; ``stale``: silent, or not cosigned, for too long."""
    at: int
    """When it was found, ns."""
    facts: Mapping[str, Any]
    """Sizes, who showed which, or since when."""
    proof: bytes | None = None
    """A file that ``guantong verify`` verifies, where there is one."""
    over: bool = False
    """Whether it has passed; a fork never does."""


@dataclass(frozen=True, slots=True)
class LogView:
    """What a participant's log says of itself."""

    origin: str
    size: int
    root: bytes
    checkpoint: bytes | None
    behind: int
    """Leaves recorded but not yet in the tree."""
    witnesses: tuple[WitnessView, ...] = field(default_factory=tuple)
    alarms: tuple[Alarm, ...] = ()
    """What is wrong with this or a partner's log, newest first."""
    anchors: tuple[AnchorView, ...] = ()
    """The newest anchor of each kind."""
    failure: str | None = None
    """Code of what keeps the tree from growing."""
    audited_at: int | None = None
    """When every leaf was last hashed again and found to be what was signed, ns."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """What an anchor states of a log, once its reference was verified."""

    origin: str
    size: int
    root: bytes
    at: int
    """Time that the anchor states, ns."""
    by: str
    """Who states it: a witness's key name, an authority's subject, or chain, contract and block."""
    confirmed: bool
    """Whether who states it is known to the verifier from elsewhere."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of an agreement a package holds: all of it, one transfer, or a period."""

    transfer: str | None = None
    """Only what concerns this transfer, by the provider's process id."""
    start: int | None = None
    """Only entries recorded from this instant on, ns."""
    end: int | None = None
    """Only entries recorded before this instant, ns."""

    def document(self) -> dict[str, str]:
        """As the manifest states it; empty for the whole agreement."""
        found = {"transfer": self.transfer, "from": self.start and iso(self.start), "to": self.end and iso(self.end)}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class PackageMade:
    """A package that was written."""

    path: Path
    size: int
    sha256: str
    """``sha256:`` and hex digest of the whole file."""
    leaves: int
    files: int
    witnessed_at: int | None
    """Earliest cosignature on its checkpoint, ns; None if nobody has witnessed it."""


PACKAGE_MADE = EntryKind(
    "prove.package-made",
    "A package about an agreement was made for strangers to verify.",
    "为某项合约生成了可供第三方核验的存证包。",
    {
        "type": "object",
        "required": ["agreementId", "manifest", "files"],
        "additionalProperties": False,
        "properties": {
            "agreementId": {"type": "string"},
            "manifest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
            "files": {"type": "integer", "minimum": 1},
        },
    },
)

LOG_FORKED = EntryKind(
    "prove.log-forked",
    "A partner's log was found to have two histories; the proof is kept.",
    "发现某伙伴的日志存在两份不同的历史，证明已保存。",
    {
        "type": "object",
        "required": ["partner", "origin", "first", "second", "proof"],
        "additionalProperties": False,
        "properties": {
            "partner": {"type": "string"},
            "origin": {"type": "string"},
            "first": {"type": "integer", "minimum": 1},
            "second": {"type": "integer", "minimum": 1},
            "proof": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        },
    },
)

_STATEMENT = {
    "type": "object",
    "required": ["v", "type", "did", "reason", "old", "new", "at", "signatures", "confirmations"],
}

KEY_ROTATED = EntryKind(
    "prove.key-rotated",
    "The participant took a new evidence key; the old one has signed the change.",
    "参与方更换了存证密钥，旧密钥已对变更签名。",
    {
        "type": "object",
        "required": ["statement"],
        "additionalProperties": False,
        "properties": {"statement": _STATEMENT},
    },
)

KEY_LOST = EntryKind(
    "prove.key-lost",
    "The participant declared its evidence key lost and took a new one; partners confirm it.",
    "参与方声明存证密钥丢失并启用新密钥，由伙伴确认。",
    {
        "type": "object",
        "required": ["statement"],
        "additionalProperties": False,
        "properties": {"statement": _STATEMENT},
    },
)

PARTNER_KEY_CHANGED = EntryKind(
    "prove.partner-key-changed",
    "A partner's evidence key changed, and why that was believed.",
    "某伙伴的存证密钥已变更，并记录采信的依据。",
    {
        "type": "object",
        "required": ["partner", "reason", "confirmedBy", "statement"],
        "additionalProperties": False,
        "properties": {
            "partner": {"type": "string"},
            "reason": {"enum": ["rotated", "lost"]},
            "confirmedBy": {"type": "array", "items": {"type": "string"}},
            "statement": _STATEMENT,
        },
    },
)

ENTRY_KINDS = (*FIGURE_KINDS, PACKAGE_MADE, LOG_FORKED, KEY_ROTATED, KEY_LOST, PARTNER_KEY_CHANGED)
