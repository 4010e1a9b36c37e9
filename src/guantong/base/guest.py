"""A guest's statements: what a supplier without a node signs in its browser, as one chain, and the papers it takes along.

Each statement names the digest of the one before it, so that its host can neither drop nor reorder one, and nobody can say one twice. The
host enters each, with its signature, in its evidence log; the guest takes entries and proofs along. Pure: documents in, values out. A
guest that has moved to a node of its own says so in the chain; what comes after is signed with that node's evidence key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guantong.base.canonical import b64, canonical_bytes, digest, sha256, unb64
from guantong.base.clock import iso, parse_iso
from guantong.base.depth import too_deep
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.keys import Ed25519Key, verify_ed25519
from guantong.base.merkle import leaf_hash, root, verify_inclusion
from guantong.base.multikey import jwk_of_multibase, verify_jwk
from guantong.base.note import VerifierKey, open_note, parse_checkpoint, parse_proof, parse_vkey

__all__ = [
    "CHUNK_BYTES",
    "FORM",
    "STATED",
    "Chain",
    "Papers",
    "Statement",
    "file_root",
    "follow",
    "moved",
    "parse",
    "parse_papers",
    "parse_read",
    "proven",
]

CHUNK_BYTES = 65_536
"""Pieces of a file under its root; the last is shorter."""
FORM = "guantong-guest"
STATED = "exchange.guest-stated"
"""Kind of the entry in which a host's log holds a statement."""
MAX_STATEMENT_BYTES = 32 * 1024
MAX_PAPERS_BYTES = 12 * 1024 * 1024
_DEEP = 12
_FILE = {"name", "size", "sha256", "root", "chunkBytes"}
_MEMBERS: dict[str, set[str]] = {
    "join": {"invitation", "name"},
    "share": {"file", "purpose", "terms"},
    "approve": {"request", "share", "purpose", "terms"},
    "decline": {"request", "share", "purpose", "terms"},
    "revoke": {"share"},
    "move": {"to", "address", "evidence"},
}
"""What each kind says beside ``v``, ``type``, ``guest``, ``host``, ``number``, ``previous`` and ``at``."""
_COMMON = {"v", "type", "guest", "host", "number", "previous", "at"}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement whose form is right; whether it was signed and follows the others is for :meth:`Chain.add`."""

    kind: str
    guest: str
    host: str
    number: int
    """0 for the first."""
    previous: str
    """Digest of the statement before it; empty for the first."""
    at: int
    """When it was signed by the guest's clock, ns."""
    body: Mapping[str, Any]
    envelope: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Its name, whoever signed it."""
        return digest(dict(self.body))


@dataclass(slots=True)
class Chain:
    """What a guest has stated so far, as far as the next statement needs it."""

    guest: str
    host: str
    number: int = 0
    """Of the next statement."""
    head: str = ""
    moved_to: str = ""
    key: bytes = b""
    """Evidence key of the guest's own node, once it has moved."""

    def add(self, statement: Statement) -> None:
        """Follow one statement. Raises Refused ``exchange.guest-refused``; nothing is changed then."""
        message = canonical_bytes(dict(statement.body))
        if statement.guest != self.guest:
            raise _refused("it is another guest's")
        if statement.host != self.host:
            raise _refused("it was made for another host")
        try:
            signature = unb64(str(statement.envelope["signature"]))
            if self.key:
                good = verify_ed25519(self.key, message, signature)
            else:
                good = verify_jwk(_jwk(self.guest), message, signature)
            if statement.kind == "move" and good:
                new = unb64(str(statement.body["evidence"]))
                good = len(new) == 32 and verify_ed25519(new, message, unb64(str(statement.envelope["accepted"])))
        except (ValueError, KeyError) as error:
            raise _refused("its signature is unreadable") from error
        if not good:
            raise _refused("its signature does not match")
        if statement.number != self.number or statement.previous != self.head:
            raise _refused("it was stated before, or does not follow the last statement")
        if (statement.kind == "join") != (self.number == 0):
            raise _refused("a guest joins first, and once")
        self.number, self.head = self.number + 1, statement.digest
        if statement.kind == "move":
            self.moved_to, self.key = str(statement.body["to"]), unb64(str(statement.body["evidence"]))


def parse(data: bytes | Mapping[str, Any]) -> Statement:
    """Read an envelope: ``statement``, ``signature`` and, for a move, ``accepted``. Raises Refused ``exchange.guest-refused``."""
    if isinstance(data, bytes):
        if len(data) > MAX_STATEMENT_BYTES:
            raise _refused("it is too long")
        data = _json(data, "statement")
    try:
        body = data["statement"]
        kind = str(body["type"]).removeprefix(f"{FORM}-")
        if kind not in _MEMBERS or body["type"] != f"{FORM}-{kind}" or set(body) != _COMMON | _MEMBERS[kind]:
            raise ValueError("it has other members than its kind has")
        if set(data) != {"statement", "signature"} | ({"accepted"} if kind == "move" else set()):
            raise ValueError("its envelope has other members")
        number = body["number"]
        if body["v"] != 1 or type(body["v"]) is not int or type(number) is not int or not 0 <= number < 2**31:
            raise ValueError("it is of another version or has no number")
        texts = {name: body[name] for name in (_COMMON | _MEMBERS[kind]) - {"v", "number", "file"}}
        if any(not isinstance(text, str) or len(text) > 8000 for text in texts.values()):
            raise ValueError("a member is no text, or too long")
        short = [texts[name] for name in ("guest", "host", "to", "name", "previous", "invitation") if name in texts]
        if any(len(text) > 255 or not text.isprintable() for text in short):
            raise ValueError("a name is too long, or has characters that don't print")
        if kind == "share":
            _checked_file(body["file"])
        if len(canonical_bytes(body)) > MAX_STATEMENT_BYTES:
            raise ValueError("it is too long")
        _jwk(str(body["guest"]))
        return Statement(
            kind, body["guest"], body["host"], number, body["previous"], parse_iso(body["at"]), dict(body), dict(data)
        )
    except (ValueError, KeyError, TypeError, AttributeError, Skippable) as error:
        raise _refused(
            str(error)[:200] if isinstance(error, ValueError) else "it is no statement of a guest"
        ) from error


def parse_read(data: bytes, signature: bytes, *, guest: str, host: str, now: int, leeway: int) -> None:
    """Whether a guest asks for what is its own: a fresh, signed question. Raises Refused ``exchange.guest-refused``."""
    body = _json(data, "question")
    if set(body) != {"v", "type", "guest", "host", "at"} or body["type"] != f"{FORM}-read":
        raise _refused("it is no question of a guest")
    if body["guest"] != guest or body["host"] != host or canonical_bytes(body) != data:
        raise _refused("it is another guest's, or made for another host")
    if not verify_jwk(_jwk(guest), data, signature):
        raise _refused("its signature does not match")
    try:
        at = parse_iso(str(body["at"]))
    except (ValueError, GuantongError) as error:
        raise _refused("it names no time") from error
    if abs(now - at) > leeway:
        raise _refused("it is too old, or the clock of the guest's device is wrong")


def file_root(data: bytes) -> str:
    """Root over the file's pieces (RFC 6962, 2.1), so that one piece can be shown later without the others."""
    leaves = [leaf_hash(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    return "sha256:" + root(leaves).hex()


def matches(file: Mapping[str, Any], data: bytes) -> bool:
    """Whether these bytes are the file that a statement names."""
    return bool(
        file["size"] == len(data)
        and file["sha256"] == "sha256:" + sha256(data).hex()
        and file["root"] == file_root(data)
    )


def moved(
    chain: Chain, to: str, address: str, evidence: Ed25519Key, key: Any, at: int
) -> tuple[dict[str, Any], Statement]:
    """The statement of a move, signed by the guest's key (``key.sign``) and accepted by the evidence key of its own node."""
    body = stated(chain, "move", at, to=to, address=address, evidence=b64(evidence.public))
    message = canonical_bytes(body)
    envelope = {"statement": body, "signature": b64(key.sign(message)), "accepted": b64(evidence.sign(message))}
    return envelope, parse(envelope)


def stated(chain: Chain, kind: str, at: int, **more: Any) -> dict[str, Any]:
    """The next statement of a chain, to be signed."""
    return {
        "v": 1,
        "type": f"{FORM}-{kind}",
        "guest": chain.guest,
        "host": chain.host,
        "number": chain.number,
        "previous": chain.head,
        "at": iso(at),
        **more,
    }


def follow(envelopes: Iterable[Mapping[str, Any]], guest: str, host: str) -> tuple[Chain, list[Statement]]:
    """A whole chain from its beginning. Raises Refused ``exchange.guest-refused``."""
    chain, found = Chain(guest, host), []
    for envelope in envelopes:
        statement = parse(envelope)
        chain.add(statement)
        found.append(statement)
    return chain, found


@dataclass(frozen=True, slots=True)
class Papers:
    """What a guest takes along from its host: statements, the host's entries about them with proofs, and the own key, encrypted."""

    guest: str
    host: str
    address: str
    """Root address of the host."""
    log_key: str
    """The host's log as a verifier key (signed-note), to be compared with the host's trust file."""
    statements: tuple[Mapping[str, Any], ...]
    entries: tuple[tuple[bytes, bytes], ...]
    """Leaf and proof (C2SP tlog-proof), in the order of the statements."""
    key: Mapping[str, Any] = field(default_factory=dict)


def parse_papers(data: bytes) -> Papers:
    """Read the file that the guest's page writes; nothing is verified yet. Raises Skippable ``exchange.guest-file-unreadable``."""
    try:
        if len(data) > MAX_PAPERS_BYTES:
            raise ValueError("it is too long")
        body = _json(data, "file")
        if body.get("v") != 1 or body.get("type") != FORM:
            raise ValueError("it is no file of a guest")
        for name in ("guest", "host", "address", "logKey"):
            if not isinstance(body.get(name), str) or len(body[name]) > 1024:
                raise ValueError(f"it has no {name}")
        entries = tuple((str(one["leaf"]).encode(), str(one["proof"]).encode()) for one in body["entries"])
        statements = tuple(dict(one) for one in body["statements"])
        key = body.get("key") or {}
        if not statements or len(entries) != len(statements) or not isinstance(key, dict):
            raise ValueError("each statement needs its entry and proof")
        return Papers(body["guest"], body["host"], body["address"], body["logKey"], statements, entries, dict(key))
    except (ValueError, KeyError, TypeError, Refused) as error:
        reason = str(error.facts.get("reason")) if isinstance(error, Refused) else str(error)[:200]
        raise Skippable("exchange.guest-file-unreadable", reason=reason) from error


def is_papers(data: bytes) -> bool:
    """Whether a JSON file calls itself a guest's papers."""
    try:
        return not too_deep(data, _DEEP) and json.loads(data.decode("utf-8")).get("type") == FORM
    except (ValueError, AttributeError, RecursionError):
        return False


def says(leaf: Mapping[str, Any], statement: Statement, host: str) -> bool:
    """Whether an entry of the host's log holds that statement with its signature."""
    body = leaf.get("body")
    return (
        leaf.get("kind") == STATED
        and leaf.get("participant") == host
        and isinstance(body, dict)
        and canonical_bytes(body.get("envelope")) == canonical_bytes(dict(statement.envelope))
    )


def open_key(stored: Mapping[str, Any], passphrase: str) -> bytes:
    """The private key of a guest's file, PKCS #8: AES-256-GCM under PBKDF2-HMAC-SHA-256, as browsers can do it.

    Raises Refused ``exchange.guest-refused`` where the passphrase or the file is wrong.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    try:
        rounds = stored["iterations"]
        if stored["kdf"] != "PBKDF2-HMAC-SHA-256" or stored["cipher"] != "AES-256-GCM" or type(rounds) is not int:
            raise ValueError("it is encrypted in another way")
        if not 100_000 <= rounds <= 10_000_000:
            raise ValueError("its number of rounds is not to be believed")
        derived = PBKDF2HMAC(SHA256(), 32, unb64(stored["salt"]), rounds).derive(passphrase.encode())
        sealed, name = unb64(stored["sealed"]), str(stored["guest"]).encode()
        return AESGCM(derived).decrypt(unb64(stored["iv"]), sealed, name)
    except InvalidTag as error:
        raise _refused("the passphrase is wrong, or the key file was changed") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(f"the key file is unreadable: {str(error)[:120]}") from error


def _checked_file(file: Any) -> None:
    if not isinstance(file, dict) or set(file) != _FILE or file["chunkBytes"] != CHUNK_BYTES:
        raise ValueError("it names no file")
    if type(file["size"]) is not int or file["size"] < 1:
        raise ValueError("the file is empty")
    for name in ("name", "sha256", "root"):
        if not isinstance(file[name], str) or not 0 < len(file[name]) <= 255 or not file[name].isprintable():
            raise ValueError("it names no file")


def _jwk(guest: str) -> dict[str, Any]:
    jwk = jwk_of_multibase(guest.removeprefix("did:key:")) if guest.startswith("did:key:") else None
    if jwk is None:
        raise _refused("the guest is no did:key of Ed25519 or P-256")
    return jwk


def _json(data: bytes, what: str) -> dict[str, Any]:
    try:
        if too_deep(data, _DEEP):
            raise ValueError("it is nested too deep")
        body = json.loads(data.decode("utf-8"))
        if not isinstance(body, dict):
            raise ValueError("it is no object")  # noqa: TRY004 - one kind of refusal for all of it
    except (ValueError, RecursionError) as error:
        raise _refused(f"the {what} is not JSON: {str(error)[:80]}") from error
    return body


def _refused(reason: str) -> Refused:
    return Refused("exchange.guest-refused", reason=reason)


def verified_leaves(papers: Papers, statements: Sequence[Statement]) -> list[Mapping[str, Any]]:
    """The host's entries about the statements, each holding its own. Raises Refused ``exchange.guest-refused``."""
    leaves: list[Mapping[str, Any]] = []
    for (data, _), statement in zip(papers.entries, statements, strict=True):
        leaf = _json(data, "entry")
        if canonical_bytes(leaf) != data or not says(leaf, statement, papers.host):
            raise _refused(f"the entry of statement {statement.number} holds something else")
        leaves.append(leaf)
    return leaves


def proven(papers: Papers, keys: Iterable[VerifierKey] = ()) -> str:
    """Whether every entry lies in the host's log, under a checkpoint that the log signed; the log's origin.

    keys: the log's keys as the verifier knows them; else the file's own. Raises Refused ``exchange.guest-refused`` and
    ``base.signature-bad``, Skippable ``base.note-malformed``.
    """
    own = parse_vkey(papers.log_key)
    if own.name != f"guantong/{papers.host}":  # origin of a participant's log, as prove names it
        raise _refused("the log's key is another participant's")
    known = list(keys) or [own]
    for leaf, data in papers.entries:
        proof = parse_proof(data)
        head = parse_checkpoint(open_note(proof.checkpoint, known).note.text)
        if head.origin != own.name:
            raise _refused("the checkpoint is of another log")
        if not verify_inclusion(leaf_hash(leaf), proof.index, head.size, proof.path, head.root):
            raise _refused("an entry does not lie in the host's log")
    return own.name
