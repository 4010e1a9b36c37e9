"""Signed notes and what is written with them: checkpoints, cosignatures, proofs, policies. Pure: bytes in, values out.

Sources: C2SP signed-note v1.0.0, tlog-checkpoint v1.0.0, tlog-cosignature v1.0.1 (Ed25519 only), tlog-proof@v1 and tlog-policy
(C2SP 5ba5ee8). Whatever has two spellings is refused, so that one statement has one form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from guantong.base.canonical import b64, sha256, unb64
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import Ed25519Key, verify_ed25519
from guantong.base.merkle import EMPTY_ROOT, HASH_BYTES

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "MAX_NOTE_BYTES",
    "MAX_SIZE",
    "Checkpoint",
    "Note",
    "Opened",
    "Policy",
    "Proof",
    "Signature",
    "VerifierKey",
    "cosign",
    "is_key_name",
    "key_of",
    "open_note",
    "parse_checkpoint",
    "parse_note",
    "parse_policy",
    "parse_proof",
    "parse_signature_lines",
    "parse_vkey",
    "sign",
]

ED25519 = 0x01
"""Signature type: Ed25519 over the text."""
COSIGNATURE = 0x04
"""Signature type: Ed25519 with a time, by a witness (cosignature/v1)."""
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
"""More than the 16 that a verifier must accept; a bound all the same."""
MAX_SIZE = 2**63 - 1
"""Largest tree size and time of a cosignature."""

_DASH = "— "
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def _malformed(reason: str) -> Skippable:
    return Skippable("base.note-malformed", reason=reason)


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SIZE:
        raise _malformed(f"{what} is not a decimal number without leading zeros")
    return int(text)


def _hash(text: str) -> bytes:
    try:
        data = unb64(text)
    except ValueError as error:
        raise _malformed("a hash is not base64") from error
    if len(data) != HASH_BYTES:
        raise _malformed("a hash does not have 32 bytes")
    return data


# ---- keys


def is_key_name(name: str) -> bool:
    """Whether the name may stand in a signature line: not empty, no Unicode space, no plus, no control characters."""
    return bool(name) and not any(char.isspace() or char == "+" or char < " " for char in name)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and type, ``name+hex(id)+base64(type || key)`` as text (signed-note, Verifier keys)."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """SHA-256(name || newline || type || key), first four bytes."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public)[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(bytes([self.kind]) + self.public)}"


def key_of(name: str, key: Ed25519Key, kind: int = ED25519) -> VerifierKey:
    """The public half of a signing key, under a name."""
    if not is_key_name(name):
        raise ValueError(f"{name!r} is no key name")
    return VerifierKey(name, kind, key.public)


def parse_vkey(text: str) -> VerifierKey:
    """The key that the text names. Raises Skippable ``base.note-malformed``; only Ed25519 types are taken."""
    parts = text.split("+", 2)  # the base64 part may itself hold a plus
    if len(parts) != 3 or not is_key_name(parts[0]):
        raise _malformed("a verifier key is name+id+base64")
    try:
        data = unb64(parts[2])
    except ValueError as error:
        raise _malformed("a verifier key is not base64") from error
    if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise _malformed("only Ed25519 verifier keys are known")
    key = VerifierKey(parts[0], data[0], data[1:])
    if key.id.hex() != parts[1]:
        raise _malformed("the id of a verifier key does not match")
    return key


# ---- notes


class Signature(NamedTuple):
    """One signature line: key name, key id (4 bytes) and what follows it."""

    name: str
    key_id: bytes
    payload: bytes

    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {b64(self.key_id + self.payload)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, ending in a newline, and its signatures; nothing is verified yet."""

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """The note as it travels."""
        return (self.text + "\n" + "".join(item.line() for item in self.signatures)).encode()

    def adding(self, more: Iterable[Signature]) -> Note:
        """The same note with further signatures; those it already has are not repeated."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


def parse_note(data: bytes) -> Note:
    """Take a note apart (signed-note, Format). Raises Skippable ``base.note-malformed``."""
    if len(data) > MAX_NOTE_BYTES:
        raise _malformed("it is too long")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    if any(char < " " and char != "\n" for char in whole):
        raise _malformed("it has control characters")
    cut = whole.rfind("\n\n")
    if cut < 1:
        raise _malformed("it has no signatures")
    return Note(whole[: cut + 1], parse_signature_lines(whole[cut + 2 :]))


def parse_signature_lines(text: str) -> tuple[Signature, ...]:
    """One or more signature lines, as at the end of a note or in a witness's answer."""
    if not text.endswith("\n"):
        raise _malformed("its last line does not end")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed("it has too many signatures")
    found = []
    for line in lines:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not is_key_name(name):
            raise _malformed("a signature line is not “— name base64”")
        try:
            data = unb64(encoded)
        except ValueError as error:
            raise _malformed("a signature is not base64") from error
        if len(data) < 5:
            raise _malformed("a signature is too short")
        found.append(Signature(name, data[:4], data[4:]))
    return tuple(found)


def sign(text: str, name: str, key: Ed25519Key) -> Note:
    """A note signed with Ed25519 (type 0x01)."""
    if not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise ValueError("a note's text ends in a newline and has no control characters")
    return Note(text, (Signature(name, key_of(name, key).id, key.sign(text.encode())),))


class Opened(NamedTuple):
    """A note and the known keys whose signatures on it are good; cosignatures with their time in seconds."""

    note: Note
    signers: tuple[VerifierKey, ...]
    times: Mapping[VerifierKey, int]


def open_note(data: bytes, keys: Iterable[VerifierKey]) -> Opened:
    """Verify a note: unknown keys are ignored, a bad signature of a known key or no known signature at all refuses it.

    Raises Skippable ``base.note-malformed`` and Refused ``base.signature-bad``. Source: signed-note, Verification.
    """
    note = parse_note(data)
    known = {(key.name, key.id): key for key in keys}
    signers: dict[VerifierKey, None] = {}
    times: dict[VerifierKey, int] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if key.kind == ED25519:
            if not verify_ed25519(key.public, note.text.encode(), signature.payload):
                raise Refused("base.signature-bad", signer=key.name)
        else:
            at = _cosigned_at(note.text, signature.payload, key)
            times[key] = min(at, times.get(key, at))
        signers[key] = None
    if not signers:
        raise Refused("base.signature-bad", signer="any known key")
    return Opened(note, tuple(signers), times)


def cosign(text: str, name: str, key: Ed25519Key, at_s: int) -> Signature:
    """A witness's signature of a checkpoint's text at a time, in seconds (tlog-cosignature, Ed25519)."""
    if not 0 < at_s <= MAX_SIZE:
        raise ValueError("the time of a cosignature lies in 1…2^63-1")
    parse_checkpoint(text)
    payload = at_s.to_bytes(8, "big") + key.sign(_cosigned_message(text, at_s))
    return Signature(name, key_of(name, key, COSIGNATURE).id, payload)


def _cosigned_message(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _cosigned_at(text: str, payload: bytes, key: VerifierKey) -> int:
    at_s = int.from_bytes(payload[:8], "big")
    if (
        len(payload) != 72
        or at_s > MAX_SIZE
        or not verify_ed25519(key.public, _cosigned_message(text, at_s), payload[8:])
    ):
        raise Refused("base.signature-bad", signer=key.name)
    return at_s


# ---- checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: who, how many leaves, which root (tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note text."""
        return "".join(f"{line}\n" for line in (self.origin, str(self.size), b64(self.root), *self.extensions))


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text. Raises Skippable ``base.note-malformed``."""
    if not text.endswith("\n"):
        raise _malformed("a checkpoint ends in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise _malformed("a checkpoint has origin, size and root, and no empty line")
    size, root = _number(lines[1], "the size of a checkpoint"), _hash(lines[2])
    if size == 0 and root != EMPTY_ROOT:
        raise _malformed("the empty tree has another root")
    return Checkpoint(lines[0], size, root, tuple(lines[3:]))


# ---- proofs

_PROOF_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """A leaf's place in a log: index, path (leaf's sibling first) and the checkpoint with its signatures (tlog-proof@v1).

    ``extra`` is not covered by anything: it may say where from, nothing may trust it.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def to_bytes(self) -> bytes:
        """The file ``.tlog-proof``."""
        lines = [_PROOF_HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [b64(item) for item in self.path]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint


def parse_proof(data: bytes) -> Proof:
    """Take a proof apart; nothing is verified. Raises Skippable ``base.note-malformed``."""
    if len(data) > MAX_NOTE_BYTES:
        raise _malformed("the proof is too long")
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed("the proof has other characters than ASCII in its head") from error
    if not blank or lines[0] != _PROOF_HEADER:
        raise _malformed(f"the proof does not begin with {_PROOF_HEADER}")
    rest = lines[1:]
    extra = None
    if rest and rest[0].startswith("extra "):
        try:
            extra = unb64(rest.pop(0)[6:])
        except ValueError as error:
            raise _malformed("the extra line is not base64") from error
    if not rest or not rest[0].startswith("index "):
        raise _malformed("the proof has no index")
    index = _number(rest[0][6:], "the index")
    if len(rest) > 64:
        raise _malformed("the path is too long")
    return Proof(index, tuple(_hash(line) for line in rest[1:]), checkpoint, extra)


# ---- policies


@dataclass(frozen=True, slots=True)
class Policy:
    """Which logs and witnesses count, and how many of them must have cosigned (tlog-policy)."""

    logs: Mapping[str, tuple[VerifierKey, ...]]
    """By origin; several keys while a log changes its key."""
    witnesses: Mapping[str, VerifierKey]
    """By the policy's own names."""
    groups: Mapping[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Name to threshold and members."""
    quorum: str = "none"

    def is_met(self, cosigners: Collection[VerifierKey]) -> bool:
        """Whether these keys' cosignatures are enough."""
        return self._counts(self.quorum, cosigners)

    def _counts(self, name: str, cosigners: Collection[VerifierKey]) -> bool:
        if name == "none":
            return True
        if name in self.witnesses:
            return self.witnesses[name] in cosigners
        threshold, members = self.groups[name]
        return sum(self._counts(member, cosigners) for member in members) >= threshold

    @property
    def text(self) -> str:
        """The policy file."""
        lines = [f"log {key}" for keys in self.logs.values() for key in keys]
        lines += [f"witness {name} {key}" for name, key in self.witnesses.items()]
        lines += [f"group {name} {number} {' '.join(members)}" for name, (number, members) in self.groups.items()]
        return "".join(f"{line}\n" for line in (*lines, f"quorum {self.quorum}"))


_MAX_POLICY_LINES = 4096


def parse_policy(text: str, *, other: Mapping[str, Callable[[Sequence[str]], None]] | None = None) -> Policy:
    """Read a policy file. ``other``: lines of further kinds, by first word, each given to its function as fields.

    Raises Skippable ``base.note-malformed``: unknown lines, names used before they are defined, a name in two groups, a key twice,
    no quorum or two.
    """
    logs: dict[str, tuple[VerifierKey, ...]] = {}
    witnesses: dict[str, VerifierKey] = {}
    groups: dict[str, tuple[int, tuple[str, ...]]] = {}
    members_used: set[str] = set()
    keys_used: set[bytes] = set()
    quorum: str | None = None

    def key_from(word: str, kind: int) -> VerifierKey:
        key = parse_vkey(word)
        if key.kind != kind:
            raise _malformed("a log needs a key of type 1 and a witness one of type 4")
        if key.public in keys_used:
            raise _malformed(f"the key of {key.name} is there twice")
        keys_used.add(key.public)
        return key

    def new_name(name: str) -> str:
        if name == "none" or name in witnesses or name in groups:
            raise _malformed(f"the name {name} is there twice or is reserved")
        return name

    lines = text.split("\n")
    if len(lines) > _MAX_POLICY_LINES:
        raise _malformed("the policy is too long")
    for line in lines:
        fields = [word for word in re.split(r"[ \t]+", line) if word]
        if not fields or fields[0].startswith("#"):
            continue
        match fields:
            case ["log", word] | ["log", word, _]:
                key = key_from(word, ED25519)
                logs[key.name] = (*logs.get(key.name, ()), key)
            case ["witness", name, word] | ["witness", name, word, _]:
                witnesses[new_name(name)] = key_from(word, COSIGNATURE)
            case ["group", name, wanted, *members] if members:
                if any(member not in witnesses and member not in groups for member in members):
                    raise _malformed(f"the group {name} names somebody not yet defined")
                if len(set(members)) != len(members) or members_used & set(members):
                    raise _malformed(f"a member of the group {name} is in two groups")
                number = {"any": 1, "all": len(members)}.get(wanted) or _number(wanted, "the threshold of a group")
                if not 1 <= number <= len(members):
                    raise _malformed(f"the threshold of the group {name} can't be met")
                groups[new_name(name)] = (number, tuple(members))
                members_used |= set(members)
            case ["quorum", name]:
                if quorum is not None:
                    raise _malformed("there are two quorum lines")
                if name != "none" and name not in witnesses and name not in groups:
                    raise _malformed(f"the quorum names {name}, which is not defined")
                quorum = name
            case [word, *rest] if other and word in other:
                other[word](rest)
            case _:
                raise _malformed(f"a policy has no line “{line[:60]}”")
    if quorum is None:
        raise _malformed("there is no quorum line")
    return Policy(logs, witnesses, groups, quorum)
