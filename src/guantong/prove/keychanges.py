"""Changes of evidence keys in the log: one's own are recorded and published, a partner's are looked up, checked and recorded.

A rotation is taken over by itself, because the old key has signed it. A loss waits until this participant or another partner known here
has confirmed the new key (``guantong keys confirm``); until then the old key counts and the partner's new checkpoints are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base import keychange
from guantong.base.canonical import canonical_bytes
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Retryable
from guantong.prove.model import KEY_LOST, KEY_ROTATED, PARTNER_KEY_CHANGED, Peer
from guantong.records.tables import LEAVES

if TYPE_CHECKING:
    from guantong.prove.service import Prove
    from guantong.records import Records

__all__ = ["KeyChanges"]

_MAX_ANSWER = 256 * 1024
_OWN = (KEY_ROTATED.name, KEY_LOST.name)


class KeyChanges:
    """The key changes that an evidence room knows."""

    def __init__(self, prove: Prove, records: Records) -> None:
        self._prove = prove
        self._records = records
        self._asked: dict[tuple[str, str], float] = {}

    async def record_own(self, participant: str) -> None:
        """Record each own change that the log does not hold yet."""
        known = {_name(one) for one in await self._recorded(participant, _OWN)}
        for document in self._prove.private_keys(participant).changes:
            change = keychange.parse(document)
            if change.digest not in known:
                async with self._records.step(participant) as step:
                    if change.reason == keychange.LOST:
                        step.record(Entry(KEY_LOST, {"statement": dict(document)}))
                    else:
                        step.record(Entry(KEY_ROTATED, {"statement": dict(document)}))

    async def known(self, participant: str) -> list[Mapping[str, Any]]:
        """Statements of own and partners' changes, as the trust file and packages carry them."""
        own = list(self._prove.private_keys(participant).changes)
        return own + await self._recorded(participant, (PARTNER_KEY_CHANGED.name,))

    def published(self, participant: str) -> bytes:
        """Own statements with the confirmations so far (``GET /log/key-changes``)."""
        return canonical_bytes([dict(one) for one in self._prove.private_keys(participant).changes])

    async def follow(self, participant: str, peer: Peer, *, at_most_every_s: float = 0.0) -> Peer:
        """Ask a partner for changes of its key and take over those that are to be believed. Returns the partner as it is then."""
        now, key = self._prove.clock.monotonic(), (participant, peer.did)
        if now - self._asked.get(key, float("-inf")) < at_most_every_s:
            return peer
        self._asked[key] = now
        answer = await self._prove.http.request(
            "GET",
            f"{peer.url}/log/key-changes",
            timeout_s=self._prove.settings.witness_timeout_s,
            max_bytes=_MAX_ANSWER,
        )
        if answer.status == 404:
            return peer  # a partner with another or an older program
        if answer.status != 200:
            raise Retryable("prove.witness-later", witness=peer.did, status=answer.status)
        try:
            documents = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return peer
        changes = []
        for document in documents if isinstance(documents, list) else ():
            try:
                change = keychange.parse(document)
            except GuantongError:
                continue
            if change.did == peer.did:
                changes.append(change)
        # the partner's own new key is not what makes a change believed here, so only others' keys and the known one go in
        dids = {one.did: frozenset({one.evidence_key}) for one in self._prove.peers(participant)}
        dids[participant] = frozenset({self._prove.private_keys(participant).log.public})
        for change in keychange.believed(changes, dids):
            if change.old == peer.evidence_key:
                lost = change.reason == keychange.LOST
                peer = replace(
                    peer, evidence_key=change.new, witness_key=None if lost else peer.witness_key
                )  # after a loss the witness's key is another one too: its new statement is fetched
                entry = Entry(
                    PARTNER_KEY_CHANGED,
                    {
                        "partner": peer.did,
                        "reason": change.reason,
                        "confirmedBy": list(keychange.confirmed_by(change, dids)),
                        "statement": dict(change.document),
                    },
                )
                await self._prove.replace_peer(participant, peer, entry)
        return peer

    async def _recorded(self, participant: str, kinds: tuple[str, ...]) -> list[Mapping[str, Any]]:
        rows = await self._records.rows(
            select(LEAVES.c.leaf)
            .where(and_(LEAVES.c.participant == participant, LEAVES.c.kind.in_(kinds)))
            .order_by(LEAVES.c.number)
        )
        return [orjson.loads(row["leaf"])["body"]["statement"] for row in rows]


def _name(document: Mapping[str, Any]) -> str:
    return keychange.parse(document).digest
