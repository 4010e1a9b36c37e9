"""A guest moves in: its file is verified, its move is signed by its old key and by this node's, recorded here and brought to its host.

Its key stays encrypted in the file, which this node keeps. From the move on, this node's evidence key speaks for the guest at its host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from sqlalchemy import and_, select

from guantong.base import guest as papers_of
from guantong.base.canonical import b64, canonical_bytes, sha256
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable
from guantong.base.keys import Ed25519Key, P256Key
from guantong.base.multikey import multibase_of
from guantong.exchange.guest_model import GUEST_MOVED_IN, Moved
from guantong.exchange.guest_routes import PATH
from guantong.exchange.guest_tables import GUEST_MOVES
from guantong.exchange.hosting import checked_address
from guantong.records.model import Message

if TYPE_CHECKING:
    from guantong.exchange.hosting import Hosting

__all__ = ["MOVE_KIND", "Moving", "key_of"]

MOVE_KIND = "exchange.guest-statement"


@dataclass(frozen=True, slots=True)
class _Chained:
    papers: papers_of.Papers
    chain: papers_of.Chain


class Moving:
    """Guests of other nodes who have become participants of this one."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._records = hosting.records

    async def move_in(self, participant: str, data: bytes, passphrase: str) -> Moved:
        """Take a guest's key, contracts and proofs over from the file that its page wrote.

        Raises Skippable ``exchange.guest-file-unreadable``, Refused ``exchange.guest-refused`` (a signature, a proof or the passphrase is
        wrong) and ``exchange.guest-repeated`` where it has moved in already.
        """
        found = _followed(papers_of.parse_papers(data))
        papers, chain = found.papers, found.chain
        if chain.moved_to:
            raise Refused("exchange.guest-refused", reason=f"this guest has moved to {chain.moved_to} already")
        key = key_of(papers_of.open_key(papers.key, passphrase))
        if f"did:key:{multibase_of(key.jwk)}" != papers.guest:
            raise Refused("exchange.guest-refused", reason="the key in the file is another than the guest's")
        hosted = self._hosting.hosted(participant)
        at = self._hosting.clock.now()
        envelope, statement = papers_of.moved(chain, participant, hosted.address, hosted.identity.evidence_key, key, at)
        number = chain.number + 1
        chain.add(statement)
        known = {one.guest: one.told for one in await self.moved(participant)}
        if known.get(papers.guest):
            raise Refused("exchange.guest-repeated")
        moved = Moved(papers.guest, papers.host, checked_address(papers.address), number, told=False, at=at)
        async with self._records.step(participant) as step:
            # again with a newer file, where the host has refused an older one
            step.upsert(
                GUEST_MOVES,
                guest=moved.guest,
                host=moved.host,
                address=moved.address,
                papers=data,
                envelope=canonical_bytes(envelope),
                statements=number,
                told=False,
                moved_at=at,
            )
            step.record(
                Entry(
                    GUEST_MOVED_IN,
                    {
                        "guest": moved.guest,
                        "host": moved.host,
                        "statement": statement.digest,
                        "papers": "sha256:" + sha256(data).hex(),
                        "envelope": envelope,
                    },
                )
            )
            step.send(Message(moved.host, MOVE_KIND, statement.digest, {"guest": moved.guest, "envelope": envelope}))
        return moved

    async def revoke(self, participant: str, guest: str, share: str) -> str:
        """End a share at the former host, signed with this node's evidence key; the digest of the statement.

        Raises Refused ``exchange.guest-unknown`` and ``exchange.guest-refused``.
        """
        row = await self._row(participant, guest)
        found = _followed(papers_of.parse_papers(bytes(row["papers"])))
        chain = found.chain
        chain.add(papers_of.parse(orjson.loads(row["envelope"])))
        # statements since the move stand in the outbox's order, and the count here
        if int(row["statements"]) != chain.number:
            for envelope in await self._since(participant, guest):
                chain.add(papers_of.parse(envelope))
        evidence = self._hosting.hosted(participant).identity.evidence_key
        body = papers_of.stated(chain, "revoke", self._hosting.clock.now(), share=share)
        envelope = {"statement": body, "signature": b64(evidence.sign(canonical_bytes(body)))}
        statement = papers_of.parse(envelope)
        chain.add(statement)
        async with self._records.step(participant) as step:
            step.update(
                GUEST_MOVES, {"guest": guest}, {"statements": chain.number}, expect={"statements": row["statements"]}
            )
            step.record(
                Entry(
                    GUEST_MOVED_IN,
                    {
                        "guest": guest,
                        "host": found.papers.host,
                        "statement": statement.digest,
                        "papers": "",
                        "envelope": envelope,
                    },
                )
            )
            step.send(Message(found.papers.host, MOVE_KIND, statement.digest, {"guest": guest, "envelope": envelope}))
        return statement.digest

    async def moved(self, participant: str) -> list[Moved]:
        """Who has moved in here, in order."""
        rows = await self._records.rows(
            select(GUEST_MOVES).where(GUEST_MOVES.c.participant == participant).order_by(GUEST_MOVES.c.moved_at)
        )
        return [
            Moved(row["guest"], row["host"], row["address"], int(row["statements"]), bool(row["told"]), row["moved_at"])
            for row in rows
        ]

    async def papers(self, participant: str, guest: str) -> bytes:
        """The file with which a guest moved in, as it came. Raises Refused ``exchange.guest-unknown``."""
        return bytes((await self._row(participant, guest))["papers"])

    async def carry(self, participant: str, message: Message, attempt: int) -> None:
        """Sender of the outbox: bring a statement to the former host; one that it has already counts as brought."""
        guest = str(message.payload["guest"])
        row = await self._row(participant, guest)
        answer = await self._hosting.http.request(
            "POST",
            f"{row['address']}{PATH}/statements",
            body=canonical_bytes(dict(message.payload["envelope"])) + b"\n",
            headers={"content-type": "application/octet-stream", "accept": "application/json"},
            max_bytes=4 * 1024 * 1024,
        )
        if not 200 <= answer.status < 300 and not _repeated(answer.body):
            if answer.status >= 500 or answer.status in (408, 425, 429):
                raise Retryable(
                    "exchange.partner-busy", partner=message.lane, status=answer.status, message="guest statement"
                )
            raise Refused(
                "exchange.answer-unusable",
                partner=message.lane,
                status=answer.status,
                message="guest statement",
                reason="it was not accepted",
            )
        async with self._records.step(participant) as step:
            step.update(GUEST_MOVES, {"guest": guest}, {"told": True})

    async def _row(self, participant: str, guest: str) -> Mapping[str, Any]:
        row = await self._records.row(
            select(GUEST_MOVES).where(and_(GUEST_MOVES.c.participant == participant, GUEST_MOVES.c.guest == guest))
        )
        if row is None:
            raise Refused("exchange.guest-unknown", guest=guest[:80])
        return row

    async def _since(self, participant: str, guest: str) -> list[Mapping[str, Any]]:
        from guantong.records.tables import LEAVES

        rows = await self._records.rows(
            select(LEAVES.c.leaf)
            .where(and_(LEAVES.c.participant == participant, LEAVES.c.kind == GUEST_MOVED_IN.name))
            .order_by(LEAVES.c.number)
        )
        bodies = [orjson.loads(row["leaf"])["body"] for row in rows]
        return [one["envelope"] for one in bodies if one["guest"] == guest and not one["papers"]]


def key_of(pkcs8: bytes) -> Ed25519Key | P256Key:
    """The key of a guest, from PKCS #8. Raises Refused ``exchange.guest-refused``."""
    try:
        key = load_der_private_key(pkcs8, None)
    except (ValueError, TypeError) as error:
        raise Refused("exchange.guest-refused", reason="the key in the file is unreadable") from error
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Key(key.private_bytes_raw())
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return P256Key(key.private_numbers().private_value.to_bytes(32, "big"))
    raise Refused("exchange.guest-refused", reason="the key in the file is of another kind")


def _followed(papers: papers_of.Papers) -> _Chained:
    """Statements, entries and proofs, all of which hold. Raises Refused ``exchange.guest-refused``."""
    chain, statements = papers_of.follow(papers.statements, papers.guest, papers.host)
    papers_of.verified_leaves(papers, statements)
    papers_of.proven(papers)
    return _Chained(papers, chain)


def _repeated(body: bytes) -> bool:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(told, dict) and told.get("code") == "exchange.guest-repeated"
