"""What comes round: the audit of every leaf, the look at partners' logs, the anchors, and the pruning of old entry bundles.

Each round is one method that a test, a command or the clock may call; a failure of one is reported and never stops the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.canonical import canonical_bytes, sha256
from guantong.base.clock import NS, iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.fork import Fork
from guantong.base.merkle import TILE_WIDTH, Tile
from guantong.base.note import parse_checkpoint, parse_note
from guantong.prove import monitor, rules
from guantong.prove.model import LOG_FORKED, Alarm, AnchorView, Peer, origin_of
from guantong.prove.ports import Anchor
from guantong.prove.tables import ALARMS, ANCHORS, WITNESSED
from guantong.prove.tree import blob_name
from guantong.prove.witness import parse_request

if TYPE_CHECKING:
    from guantong.keep.ports import Blobs
    from guantong.prove.service import Prove
    from guantong.records import Records

__all__ = ["Rounds"]

log = logging.getLogger("guantong.prove")


class Rounds:
    """The rounds of an evidence room."""

    def __init__(self, prove: Prove, records: Records, blobs: Blobs) -> None:
        self._prove = prove
        self._records = records
        self._blobs = blobs
        self.anchors: list[Anchor] = []
        """Where roots are anchored beside the partners' witnesses."""
        self.audited: dict[str, int] = {}
        self.errors: dict[tuple[str, str], str] = {}
        """Code of what went wrong last, by participant and round."""
        self._answered: dict[tuple[str, str], int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin each round that has an interval."""
        settings = self._prove.settings
        rounds: Sequence[tuple[str, float, Callable[[str], Awaitable[object]]]] = (
            ("audit", settings.audit_every_s, self.audit),
            ("monitor", settings.monitor_every_s, self.watch_partners),
            ("anchor", settings.anchor_every_s, self.anchor),
            ("prune", settings.audit_every_s if settings.retain_leaves_below else 0, self.prune),
        )
        self._tasks = [
            asyncio.create_task(self._repeat(name, every_s, work), name=f"prove-{name}")
            for name, every_s, work in rounds
            if every_s > 0
        ]

    async def stop(self) -> None:
        """End all rounds; each begins anew at the next start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, name: str, every_s: float, work: Callable[[str], Awaitable[object]]) -> None:
        while True:
            await self._prove.clock.sleep(every_s)
            await asyncio.sleep(0)  # a clock that tests move may not let go of the loop
            for participant in self._prove.participants:
                try:
                    await work(participant)
                    self.errors.pop((participant, name), None)
                except Exception as error:  # edge of the task
                    code = error.code if isinstance(error, GuantongError) else type(error).__name__
                    if self.errors.get((participant, name)) != code:
                        log.warning(
                            "%s of %s: %s", name, participant, error, exc_info=not isinstance(error, GuantongError)
                        )
                    self.errors[participant, name] = code

    # ---- the own log

    async def audit(self, participant: str) -> int:
        """Hash every leaf again. Raises Corrupt ``prove.tree-damaged``, which the log reports until an audit passes."""
        count = await self._prove.audit(participant)
        self.audited[participant] = self._prove.clock.now()
        return count

    async def prune(self, participant: str) -> int:
        """Remove the entry bundles of leaves below the index that the written retention policy names. Returns how many went.

        Hash tiles stay, so every proof can still be cut; what a bundle held stays in the records as long as their own retention says.
        Source: C2SP tlog-tiles, Pruning (a prefix below a minimum index; never the tree).
        """
        gone = 0
        for number in range(self._prove.settings.retain_leaves_below // TILE_WIDTH):
            gone += await self._blobs.delete(blob_name(participant, Tile(-1, number)))
        return gone

    # ---- anchors

    async def anchor(self, participant: str) -> list[AnchorView]:
        """Hand the newest root to each anchor whose last one is older. Returns what was anchored now."""
        head = await self._prove.checkpoint(participant)
        made = []
        for anchor in self.anchors:
            if head is None:
                break
            last = await self.newest_anchor(participant, anchor.kind)
            if last is not None and last.size >= head.size:
                continue
            ref = await anchor.submit(origin_of(participant), head.size, head.root)
            stated = await anchor.verify(ref)
            if (stated.origin, stated.size, stated.root) != (origin_of(participant), head.size, head.root):
                raise Refused("prove.anchor-refused", kind=anchor.kind, reason="it states another root")
            view = AnchorView(anchor.kind, head.size, head.root, stated.at, ref)
            async with self._records.step(participant) as step:
                step.upsert(
                    ANCHORS,
                    kind=view.kind,
                    size=view.size,
                    root=view.root,
                    anchored_at=view.at,
                    ref=canonical_bytes(dict(ref)),
                )
            made.append(view)
        return made

    async def newest_anchor(self, participant: str, kind: str) -> AnchorView | None:
        """The anchor of that kind over the largest tree."""
        rows = await self._records.rows(
            select(ANCHORS)
            .where(and_(ANCHORS.c.participant == participant, ANCHORS.c.kind == kind))
            .order_by(ANCHORS.c.size.desc())
            .limit(1)
        )
        return _anchor(rows[0]) if rows else None

    async def anchors_over(self, participant: str, size: int) -> list[AnchorView]:
        """For each kind the earliest anchor over a tree of at least ``size`` leaves."""
        found = []
        for row in await self._records.rows(
            select(ANCHORS.c.kind, func.min(ANCHORS.c.size).label("size"))
            .where(and_(ANCHORS.c.participant == participant, ANCHORS.c.size >= size))
            .group_by(ANCHORS.c.kind)
            .order_by(ANCHORS.c.kind)
        ):
            one = await self._records.row(
                select(ANCHORS).where(
                    and_(
                        ANCHORS.c.participant == participant,
                        ANCHORS.c.kind == row["kind"],
                        ANCHORS.c.size == row["size"],
                    )
                )
            )
            assert one is not None
            found.append(_anchor(one))
        return found

    async def newest_anchors(self, participant: str) -> tuple[AnchorView, ...]:
        """The newest anchor of each kind there ever was."""
        kinds = await self._records.rows(
            select(ANCHORS.c.kind).where(ANCHORS.c.participant == participant).distinct().order_by(ANCHORS.c.kind)
        )
        found = [await self.newest_anchor(participant, str(row["kind"])) for row in kinds]
        return tuple(one for one in found if one is not None)

    # ---- partners' logs

    async def watch_partners(self, participant: str) -> list[Alarm]:
        """Compare what each partner's log shows us, what we cosigned, and what its other witnesses cosigned. Returns new alarms."""
        found = []
        for peer in self._prove.peers(participant):
            found += await self._watch(participant, peer)
        return found + await self._unwitnessed(participant)

    async def _watch(self, participant: str, peer: Peer) -> list[Alarm]:
        prove, timeout_s = self._prove, self._prove.settings.witness_timeout_s
        now = prove.clock.now()
        key = (participant, peer.did)
        try:
            peer = await prove.key_changes.follow(participant, peer)
            shown = await monitor.look(prove.http, peer, timeout_s=timeout_s)
        except GuantongError as error:
            since = self._answered.setdefault(key, now)
            if now - since < prove.settings.stale_after_s * NS:
                return []
            facts = {"since": iso(since), "code": error.code}
            return await self._raise(participant, Alarm(peer.did, "stale", now, facts))
        self._answered[key] = now
        await self._over(participant, peer.did)
        known = [await self._cosigned(participant, peer)]
        known += await monitor.others_saw(prove.http, peer, prove.peers(participant), timeout_s=timeout_s)
        seen = [one for one in (shown, *known) if one is not None]
        alarms: list[Alarm] = []
        largest = max(seen, key=lambda one: one.head.size, default=None)
        if shown is not None and largest is not None and shown.head.size < largest.head.size:
            sizes = {"shown": shown.head.size, "seen": largest.head.size, "by": largest.where}
            alarms += await self._raise(participant, Alarm(peer.did, "rolled-back", now, sizes))
        for one in seen[1:] if shown is not None else ():
            try:
                fork = await monitor.compare(prove.http, peer, seen[0], one, timeout_s=timeout_s)
            except GuantongError as error:
                log.warning("comparing the log of %s with what %s saw: %s", peer.did, one.where, error)
                continue
            if fork is not None:
                alarms += await self.forked(participant, peer, fork, shown_by=one.where)
        return alarms

    async def _cosigned(self, participant: str, peer: Peer) -> monitor.Seen | None:
        row = await self._records.row(
            select(WITNESSED).where(
                and_(WITNESSED.c.participant == participant, WITNESSED.c.origin == origin_of(peer.did))
            )
        )
        if row is None:
            return None
        note = bytes(row["note"])
        return monitor.Seen(note, parse_checkpoint(parse_note(note).text), participant)

    async def _unwitnessed(self, participant: str) -> list[Alarm]:
        """The own log: there are partners, and none has cosigned the newest checkpoint for too long."""
        head = await self._prove.checkpoint(participant)
        view = await self._prove.view(participant)
        witnessed = max((one.size for one in view.witnesses), default=0)
        if head is None or not view.witnesses or witnessed >= head.size:
            await self._over(participant, participant)
            return []
        first = await self._prove.first_unwitnessed(participant, witnessed)
        now = self._prove.clock.now()
        if now - first < self._prove.settings.stale_after_s * NS:
            return []
        facts = {"size": head.size, "witnessed": witnessed, "since": iso(first)}
        return await self._raise(participant, Alarm(participant, "stale", now, facts))

    async def refused(self, participant: str, body: bytes) -> None:
        """A partner sent a checkpoint that is not consistent with what was cosigned (422): keep the proof, if what it sent is one."""
        try:
            request = parse_request(body)
            head = parse_checkpoint(parse_note(request.checkpoint).text)
        except Skippable:
            return
        for peer in self._prove.peers(participant):
            if origin_of(peer.did) == head.origin:
                known = await self._cosigned(participant, peer)
                if known is not None:
                    new = monitor.Seen(request.checkpoint, head, peer.did)
                    fork = monitor.fork_of(known, new, request.proof)
                    if fork is not None:
                        await self.forked(participant, peer, fork, shown_by=peer.did)

    async def forked(self, participant: str, peer: Peer, fork: Fork, *, shown_by: str) -> list[Alarm]:
        """Keep a proof of a fork, once verified. Returns the alarm if it is new."""
        first, second = fork.verify([peer.log_vkey])
        proof = fork.to_bytes()
        facts = {"first": first.size, "second": second.size, "shownBy": shown_by}
        alarm = Alarm(peer.did, "forked", self._prove.clock.now(), facts, proof)
        entry = Entry(
            LOG_FORKED,
            {
                "partner": peer.did,
                "origin": first.origin,
                "first": first.size,
                "second": second.size,
                "proof": rules.digest_of(proof),
            },
        )
        return await self._raise(participant, alarm, entry)

    async def _raise(self, participant: str, alarm: Alarm, entry: Entry | None = None) -> list[Alarm]:
        subject = "" if alarm.kind == "stale" else sha256(canonical_bytes(dict(alarm.facts))).hex()
        where = and_(
            ALARMS.c.participant == participant,
            ALARMS.c.did == alarm.did,
            ALARMS.c.kind == alarm.kind,
            ALARMS.c.subject == subject,
        )
        known = await self._records.row(select(ALARMS).where(where))
        if known is not None and not known["over"]:
            return []
        async with self._records.step(participant) as step:
            step.upsert(
                ALARMS,
                did=alarm.did,
                kind=alarm.kind,
                subject=subject,
                found_at=alarm.at,
                facts=canonical_bytes(dict(alarm.facts)),
                proof=alarm.proof,
                over=False,
            )
            if entry is not None:
                step.record(entry)
        log.critical("the log of %s: %s %s", alarm.did, alarm.kind, dict(alarm.facts))
        return [alarm]

    async def _over(self, participant: str, did: str) -> None:
        where = and_(
            ALARMS.c.participant == participant,
            ALARMS.c.did == did,
            ALARMS.c.kind == "stale",
            ALARMS.c.over.is_(False),
        )
        if await self._records.row(select(ALARMS).where(where)) is not None:
            async with self._records.step(participant) as step:
                step.update(ALARMS, {"did": did, "kind": "stale", "subject": ""}, {"over": True})

    async def alarms(self, participant: str) -> tuple[Alarm, ...]:
        """All alarms, newest first; those that have passed are marked."""
        rows = await self._records.rows(
            select(ALARMS).where(ALARMS.c.participant == participant).order_by(ALARMS.c.found_at.desc())
        )
        return tuple(
            Alarm(
                str(row["did"]),
                str(row["kind"]),
                int(row["found_at"]),
                orjson.loads(row["facts"]),
                None if row["proof"] is None else bytes(row["proof"]),
                bool(row["over"]),
            )
            for row in rows
        )


def _anchor(row: Mapping[str, Any]) -> AnchorView:
    return AnchorView(
        str(row["kind"]), int(row["size"]), bytes(row["root"]), int(row["anchored_at"]), orjson.loads(row["ref"])
    )
