"""Witnessing: what this node cosigns for partners, and how it has its own checkpoints cosigned.

Source: C2SP tlog-witness v1.0.0. A witness sees size and root of a log, never its entries.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, select, update

from guantong.base.canonical import b64, unb64
from guantong.base.clock import NS, Clock
from guantong.base.errors import Corrupt, Refused, Retryable, Skippable
from guantong.base.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from guantong.base.note import (
    Checkpoint,
    Note,
    VerifierKey,
    cosign,
    open_note,
    parse_checkpoint,
    parse_note,
    parse_signature_lines,
)
from guantong.base.wire import Http
from guantong.prove.model import CheckpointView, Peer, ProveKeys, witness_name_of
from guantong.prove.rules import size_answer, stated_witness_key
from guantong.prove.tables import WITNESSED
from guantong.records import Records

__all__ = ["Answer", "WitnessRequest", "add_checkpoint", "ask_to_cosign", "fetch_witness_key", "parse_request"]

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)
MAX_PROOF_LINES = 63
MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """``add-checkpoint``: the size the witness is thought to know, the way from there, and the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old}", *(b64(item) for item in self.proof)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint


@dataclass(frozen=True, slots=True)
class Answer:
    """What the witness answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class _Stop(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def parse_request(data: bytes) -> WitnessRequest:
    """Take an ``add-checkpoint`` body apart. Raises Skippable ``base.note-malformed``."""
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        first, *rest = head.decode("ascii").split("\n")
        match = _OLD.fullmatch(first)
        proof = tuple(unb64(line) for line in rest)
    except ValueError as error:
        raise Skippable("base.note-malformed", reason="the witness request can't be read") from error
    if not blank or match is None or len(proof) > MAX_PROOF_LINES or any(len(item) != HASH_BYTES for item in proof):
        raise Skippable(
            "base.note-malformed", reason="the witness request is not “old”, hashes, empty line, checkpoint"
        )
    return WitnessRequest(int(match[1]), proof, checkpoint)


async def add_checkpoint(
    records: Records, clock: Clock, participant: str, keys: ProveKeys, logs: Sequence[VerifierKey], data: bytes
) -> Answer:
    """Cosign a partner's checkpoint, or say with the right code why not.

    logs: keys of the logs this participant witnesses. Comparing with the size and root on record and replacing them is one
    transaction, durable before the answer, so that two requests at once can't roll the witness back.
    """
    try:
        request = parse_request(data)
        note = parse_note(request.checkpoint)
        checkpoint = _checkpoint_but_root(note.text)
    except Skippable as error:
        return _plain(400, error)
    known = [key for key in logs if key.name == checkpoint.origin]
    if not known:
        return Answer(404, b"unknown origin\n")
    try:
        opened = open_note(request.checkpoint, known)
    except Refused as error:
        return _plain(403, error)
    if request.old > checkpoint.size:
        return Answer(400, b"old size is above the checkpoint's size\n")
    verified = {(key.name, key.id) for key in opened.signers}
    result: list[bytes] = []

    def compare_and_store(connection: Connection) -> None:
        where = and_(WITNESSED.c.participant == participant, WITNESSED.c.origin == checkpoint.origin)
        stored = connection.execute(select(WITNESSED.c.size, WITNESSED.c.root).where(where)).first()
        size, root = (0, EMPTY_ROOT) if stored is None else (int(stored.size), bytes(stored.root))
        if request.old != size:
            raise _Stop(Answer(409, f"{size}\n".encode(), "text/x.tlog.size"))
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            raise _Stop(Answer(422, b"the empty tree has another root\n"))
        if not verify_consistency(size, root, checkpoint.size, checkpoint.root, request.proof):
            raise _Stop(Answer(422, b"not consistent with what was cosigned before\n"))
        # the time is taken inside the transaction: a smaller tree can't get a later time than a larger one
        at = clock.now()
        signature = cosign(note.text, witness_name_of(participant), keys.witness, at // NS)
        kept = Note(note.text, tuple(s for s in note.signatures if (s.name, s.key_id) in verified))
        row = {
            "size": checkpoint.size,
            "root": checkpoint.root,
            "note": kept.adding([signature]).to_bytes(),
            "cosigned_at": at,
        }
        if stored is None:
            connection.execute(insert(WITNESSED), {"participant": participant, "origin": checkpoint.origin, **row})
        else:
            connection.execute(update(WITNESSED).where(where), row)
        result.append(signature.line().encode())

    try:
        async with records.step(participant) as step:
            step.apply(compare_and_store)
    except _Stop as stop:
        return stop.answer
    return Answer(200, result[0])


async def ask_to_cosign(
    http: Http,
    peer: Peer,
    head: CheckpointView,
    *,
    known: int,
    prove: Callable[[int], Awaitable[list[bytes]]],
    timeout_s: float,
) -> tuple[bytes, int]:
    """Have a partner cosign a checkpoint. known: the size it is thought to have seen; if it says otherwise, it is asked once more.

    Returns its signature lines and the time they state, in seconds. Raises Retryable ``prove.witness-later``, Refused
    ``prove.witness-refused`` and ``base.signature-bad``, Corrupt ``prove.rolled-back`` and ``prove.split-view``.
    """
    key = peer.witness_vkey
    assert key is not None
    for _ in range(2):
        answer = await http.request(
            "POST",
            f"{peer.url}/witness/add-checkpoint",
            body=WitnessRequest(known, tuple(await prove(known)), head.note).to_bytes(),
            headers={"content-type": "text/plain; charset=utf-8"},
            timeout_s=timeout_s,
            max_bytes=MAX_ANSWER_BYTES,
        )
        if answer.status != 409:
            break
        known = size_answer(answer.body)
        if known > head.size:
            raise Corrupt("prove.rolled-back", witness=peer.did, theirs=known, ours=head.size)
    if answer.status >= 500 or answer.status in (404, 408, 409, 425, 429):
        raise Retryable("prove.witness-later", witness=peer.did, status=answer.status)
    if answer.status == 422:
        raise Corrupt("prove.split-view", witness=peer.did, size=head.size)
    if answer.status != 200:
        raise Refused("prove.witness-refused", witness=peer.did, status=answer.status)
    note = Note(parse_note(head.note).text, parse_signature_lines(answer.body.decode("utf-8", "replace")))
    opened = open_note(note.to_bytes(), [key])
    lines = b"".join(s.line().encode() for s in note.signatures if (s.name, s.key_id) == (key.name, key.id))
    return lines, opened.times[key]


async def fetch_witness_key(http: Http, peer: Peer, *, timeout_s: float) -> bytes:
    """A partner's witness key from its own statement, signed with the evidence key of its DID document."""
    answer = await http.request("GET", f"{peer.url}/log/keys", timeout_s=timeout_s, max_bytes=MAX_ANSWER_BYTES)
    if answer.status != 200:
        raise Retryable("prove.witness-later", witness=peer.did, status=answer.status)
    opened = open_note(answer.body, [peer.log_vkey])
    return stated_witness_key(peer.did, opened.note.text).public


def _checkpoint_but_root(text: str) -> Checkpoint:
    # an empty tree with a wrong root must be answered 422, not 400, so it may not fail to parse here
    lines = text.split("\n")
    if len(lines) > 3 and lines[1] == "0":
        fixed = parse_checkpoint("\n".join((lines[0], "0", b64(EMPTY_ROOT), *lines[3:])))
        try:
            root = unb64(lines[2])
        except ValueError as error:
            raise Skippable("base.note-malformed", reason="a hash is not base64") from error
        return Checkpoint(fixed.origin, 0, root, fixed.extensions)
    return parse_checkpoint(text)


def _plain(status: int, error: Skippable | Refused) -> Answer:
    return Answer(status, f"{error.message()}\n".encode())
