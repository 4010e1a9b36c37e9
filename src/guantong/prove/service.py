"""Prove: reads leaves as they are recorded, grows each participant's tree, signs checkpoints, has them witnessed, packs proofs.

Nobody waits for it: stop it and everything else goes on; started again, the tree catches up. What it signs is durable before anybody
sees it, and one size is never signed twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sqlalchemy import and_, func, select

from guantong.base import company, gm
from guantong.base.clock import NS, Clock
from guantong.base.entry import Entry
from guantong.base.errors import Corrupt, GuantongError, Skippable
from guantong.base.merkle import EMPTY_ROOT, Frontier, Tile, consistency_proof, inclusion_proof, leaf_hash
from guantong.base.note import (
    Checkpoint,
    Proof,
    VerifierKey,
    key_of,
    parse_note,
    parse_signature_lines,
)
from guantong.base.wire import Http
from guantong.keep.ports import Blobs
from guantong.prove import packing, rules
from guantong.prove.keychanges import KeyChanges
from guantong.prove.model import (
    PACKAGE_MADE,
    CheckpointView,
    LogView,
    PackageMade,
    Peer,
    ProveKeys,
    ProveSettings,
    Scope,
    WitnessView,
    origin_of,
    witness_name_of,
)
from guantong.prove.ports import KeysOf, PackageSource
from guantong.prove.rounds import Rounds
from guantong.prove.tables import CHECKPOINTS, COSIGNATURES, PEERS, SUBJECTS, TREES, WITNESSED
from guantong.prove.tree import Tree
from guantong.prove.witness import Answer, add_checkpoint, ask_to_cosign, fetch_witness_key
from guantong.records import Records
from guantong.records.tables import LEAVES

__all__ = ["Prove"]

log = logging.getLogger("guantong.prove")


class _Log:
    """A hosted participant's log while the node runs."""

    def __init__(self, participant: str, tree: Tree) -> None:
        self.participant = participant
        self.tree = tree
        self.lock = asyncio.Lock()
        self.latest: CheckpointView | None = None
        self.ready = False
        self.peers: dict[str, Peer] = {}
        self.witnesses: dict[str, WitnessView] = {}
        self.rounds: dict[str, asyncio.Task[None]] = {}
        self.wake: dict[str, asyncio.Event] = {}
        self.cosigned = asyncio.Condition()


class Prove:
    """The evidence room of a node. ``add`` each hosted participant, then ``start``."""

    def __init__(
        self,
        records: Records,
        blobs: Blobs,
        clock: Clock,
        http: Http,
        keys: KeysOf,
        settings: ProveSettings | None = None,
        *,
        source: PackageSource | None = None,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self.clock = self._clock = clock
        self.http = self._http = http
        self._keys = keys
        self.settings = settings or ProveSettings()
        self.source = source
        self._logs: dict[str, _Log] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures: dict[str, str] = {}
        self.rounds = Rounds(self, records, blobs)
        self.key_changes = KeyChanges(self, records)
        records.on_commit(self._wake.set)

    # ---- running

    async def add(self, participant: str) -> None:
        """Host a participant's log: read where it ended and what partners it has.

        A log that does not lead to what was signed is hosted too: it signs nothing and says so (:meth:`failure`), the rest goes on.
        """
        if participant in self._logs:
            return
        one = _Log(
            participant, Tree(participant, self._blobs, lambda first, end: self._leaves(participant, first, end))
        )
        try:
            await self._load(one)
        except Corrupt as error:
            self._failures[participant] = error.code
            log.critical("%s: %s", participant, error)
        for row in await self._records.rows(select(PEERS).where(PEERS.c.participant == participant)):
            self._enlist(one, Peer(row["did"], row["url"], row["evidence_key"], row["witness_key"]))
        for did in one.peers:
            one.witnesses[did] = await self._witness_view(participant, did)
        self._logs[participant] = one
        await self.key_changes.record_own(participant)
        if self._task is not None:
            for did in one.peers:
                self._begin_round(one, did)
        self._wake.set()

    async def start(self) -> None:
        """Follow the records and keep partners' witnesses up to date until :meth:`stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="prove")
            for one in self._logs.values():
                for did in one.peers:
                    self._begin_round(one, did)
            self.rounds.start()
            self._wake.set()

    async def stop(self) -> None:
        """Stop following; what is signed is durable, what is not is caught up later."""
        await self.rounds.stop()
        tasks = [task for one in self._logs.values() for task in one.rounds.values()]
        if self._task is not None:
            tasks.append(self._task)
            self._task = None
        for one in self._logs.values():
            one.rounds.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        pause = self.settings.retry_min_s
        while True:
            await self._wake.wait()
            if self.settings.gather_s:
                await self._clock.sleep(self.settings.gather_s)
            self._wake.clear()
            again = False
            for participant in list(self._logs):
                try:
                    await self.catch_up(participant)
                    self._failures.pop(participant, None)
                except Corrupt as error:
                    # no use in trying again before somebody acts; the next commit looks anew
                    if self._failures.get(participant) != error.code:
                        log.critical("%s: %s", participant, error)
                    self._failures[participant] = error.code
                except Exception as error:
                    # edge of the task: a reader's database error must not end the log for good
                    self._failures[participant] = (
                        error.code if isinstance(error, GuantongError) else type(error).__name__
                    )
                    log.warning("%s: %s", participant, error, exc_info=not isinstance(error, GuantongError))
                    again = True
            if again:
                await self._clock.sleep(pause)
                pause = min(pause * 2, self.settings.retry_max_s)
                self._wake.set()
            else:
                pause = self.settings.retry_min_s

    # ---- the log

    async def catch_up(self, participant: str) -> CheckpointView | None:
        """Take every leaf recorded so far into the tree. Returns the checkpoint that covers them, None while there are none."""
        one = self._log(participant)
        async with one.lock:
            if not one.ready:
                await self._load(one)
            while True:
                start = one.tree.size
                leaves = await self._leaves(participant, start, start + self.settings.batch_leaves)
                if not leaves:
                    return one.latest
                await self._grow(one, leaves)
                for event in one.wake.values():
                    event.set()
                if len(leaves) < self.settings.batch_leaves:
                    return one.latest  # what was recorded meanwhile wakes us again

    async def _grow(self, one: _Log, leaves: list[bytes]) -> None:
        start = one.tree.size
        if (one.latest.root if one.latest else EMPTY_ROOT) != one.tree.frontier.root():
            raise Corrupt(
                "prove.tree-damaged", participant=one.participant, reason="the tree is not what was signed last"
            )
        one.ready = False  # until the checkpoint is durable: a failure below means reading it all again
        await one.tree.take(leaves)
        size, root = one.tree.size, one.tree.frontier.root()
        origin = origin_of(one.participant)
        note = rules.signed(Checkpoint(origin, size, root).text, origin, self._keys(one.participant)).to_bytes()
        subjects = [(subject, start + at) for at, leaf in enumerate(leaves) for subject in rules.subjects(leaf)]
        frontier = one.tree.frontier.to_bytes()
        async with self._records.step(one.participant) as step:
            if start:
                step.update(TREES, {}, {"size": size, "frontier": frontier, "root": root}, expect={"size": start})
            else:
                step.insert(TREES, size=size, frontier=frontier, root=root)
            step.insert(CHECKPOINTS, size=size, root=root, note=note, signed_at=step.at)
            for subject, number in subjects:
                step.upsert(SUBJECTS, subject=subject, number=number)
        one.latest = CheckpointView(size, root, note, step.at)
        one.ready = True

    async def _load(self, one: _Log) -> None:
        participant = one.participant
        one.tree = Tree(participant, self._blobs, lambda first, end: self._leaves(participant, first, end))
        one.latest = None
        row = await self._records.row(select(TREES).where(TREES.c.participant == participant))
        if row is not None:
            await one.tree.resume(int(row["size"]), row["frontier"])
            one.latest = await self._checkpoint(participant, one.tree.size)
            if one.latest is None or one.latest.root != one.tree.frontier.root():
                raise Corrupt("prove.tree-damaged", participant=participant, reason="the last checkpoint is missing")
        one.ready = True

    async def _leaves(self, participant: str, first: int, end: int) -> list[bytes]:
        found = await self._records.rows(
            select(LEAVES.c.number, LEAVES.c.leaf)
            .where(and_(LEAVES.c.participant == participant, LEAVES.c.number >= first, LEAVES.c.number < end))
            .order_by(LEAVES.c.number)
        )
        for expected, row in enumerate(found, first):
            if row["number"] != expected:
                raise Corrupt("prove.tree-damaged", participant=participant, reason=f"leaf {expected} is missing")
        return [bytes(row["leaf"]) for row in found]

    async def _checkpoint(self, participant: str, size: int) -> CheckpointView | None:
        row = await self._records.row(
            select(CHECKPOINTS).where(and_(CHECKPOINTS.c.participant == participant, CHECKPOINTS.c.size == size))
        )
        if row is None:
            return None
        note = parse_note(row["note"])
        cosigners = []
        for other in await self._records.rows(
            select(COSIGNATURES)
            .where(and_(COSIGNATURES.c.participant == participant, COSIGNATURES.c.size == size))
            .order_by(COSIGNATURES.c.witness)
        ):
            note = note.adding(parse_signature_lines(bytes(other["line"]).decode()))
            cosigners.append((str(other["witness"]), int(other["cosigned_at"])))
        return CheckpointView(size, bytes(row["root"]), note.to_bytes(), int(row["signed_at"]), tuple(cosigners))

    async def checkpoint(self, participant: str, size: int | None = None) -> CheckpointView | None:
        """The checkpoint of that size, or the newest, with the cosignatures there are."""
        one = self._log(participant)
        if size is None:
            if one.latest is None:
                return None
            size = one.latest.size
        return await self._checkpoint(participant, size)

    async def witnessed_checkpoint(self, participant: str, size: int = 1) -> CheckpointView | None:
        """The newest checkpoint of at least ``size`` leaves that a partner has cosigned, or None."""
        newest = await self._records.row(
            select(func.max(COSIGNATURES.c.size).label("size")).where(
                and_(COSIGNATURES.c.participant == participant, COSIGNATURES.c.size >= size)
            )
        )
        if newest is None or newest["size"] is None:
            return None
        return await self._checkpoint(participant, int(newest["size"]))

    async def tile(self, participant: str, tile: Tile) -> bytes | None:
        """A hash tile of any width that a published checkpoint covers; entry bundles are private and never answered here."""
        one = self._log(participant)
        async with one.lock:
            if one.latest is None or tile.number * 256 + tile.width > one.latest.size >> (8 * tile.level):
                return None
            return await one.tree.tile(tile)

    async def inclusion(self, participant: str, index: int, checkpoint: CheckpointView | None = None) -> Proof:
        """Proof that leaf ``index`` lies under a checkpoint (the newest by default). Raises Skippable ``prove.not-in-log``."""
        one = self._log(participant)
        head = checkpoint or await self.checkpoint(participant)
        if head is None or not 0 <= index < head.size:
            raise Skippable("prove.not-in-log", index=index)
        size = head.size
        async with one.lock:
            path = await one.tree.prove(lambda node: inclusion_proof(node, index, size))
        return Proof(index, tuple(path), head.note)

    async def consistency(self, participant: str, old: int, new: int) -> list[bytes]:
        """Proof that the tree of ``old`` leaves is the beginning of that of ``new``."""
        one = self._log(participant)
        if not 0 <= old <= new <= one.tree.size:
            raise Skippable("prove.not-in-log", index=new)
        async with one.lock:
            return await one.tree.prove(lambda node: consistency_proof(node, old, new))

    async def leaf(self, participant: str, index: int) -> bytes | None:
        """The canonical JSON of a leaf."""
        found = await self._leaves(participant, index, index + 1)
        return found[0] if found else None

    async def audit(self, participant: str) -> int:
        """Hash every leaf again and compare with what was signed. Returns their number. Raises Corrupt ``prove.tree-damaged``."""
        head = await self.checkpoint(participant)
        if head is None and self.failure(participant):
            raise Corrupt("prove.tree-damaged", participant=participant, reason="the tree can't be read")
        frontier = Frontier()
        while head is not None and frontier.size < head.size:
            leaves = await self._leaves(participant, frontier.size, min(head.size, frontier.size + 4096))
            if not leaves:
                raise Corrupt("prove.tree-damaged", participant=participant, reason=f"leaf {frontier.size} is missing")
            for leaf in leaves:
                frontier.append(leaf_hash(leaf))
        if head is not None and frontier.root() != head.root:
            raise Corrupt("prove.tree-damaged", participant=participant, reason="leaves differ from what was signed")
        await self._log(participant).tree.check_bundles(self.settings.retain_leaves_below)
        return frontier.size

    async def view(self, participant: str) -> LogView:
        """What the log says of itself, for pages and health."""
        one = self._log(participant)
        last = await self._records.row(
            select(func.max(LEAVES.c.number).label("number")).where(LEAVES.c.participant == participant)
        )
        recorded = 0 if last is None or last["number"] is None else int(last["number"]) + 1
        head = await self.checkpoint(participant)
        size = head.size if head else 0
        return LogView(
            origin_of(participant),
            size,
            head.root if head else EMPTY_ROOT,
            head.note if head else None,
            recorded - size,
            tuple(one.witnesses.values()),
            await self.rounds.alarms(participant),
            await self.rounds.newest_anchors(participant),
            self.failure(participant),
            self.rounds.audited.get(participant),
        )

    async def first_unwitnessed(self, participant: str, size: int) -> int:
        """When the first checkpoint above a size was signed, ns; now if there is none."""
        row = await self._records.row(
            select(func.min(CHECKPOINTS.c.signed_at).label("at")).where(
                and_(CHECKPOINTS.c.participant == participant, CHECKPOINTS.c.size > size)
            )
        )
        return self._clock.now() if row is None or row["at"] is None else int(row["at"])

    @property
    def running(self) -> bool:
        """Whether the room follows the records."""
        return self._task is not None

    def private_keys(self, participant: str) -> ProveKeys:
        """The participant's keys, for what is signed in this room."""
        return self._keys(participant)

    @property
    def participants(self) -> tuple[str, ...]:
        """Whose logs are hosted."""
        return tuple(self._logs)

    def failure(self, participant: str) -> str | None:
        """Code of what keeps the tree from growing, or None."""
        return self._failures.get(participant) or self.rounds.errors.get((participant, "audit"))

    def keys_of(self, participant: str) -> tuple[VerifierKey, VerifierKey]:
        """Public keys of log and witness."""
        keys = self._keys(participant)
        return key_of(origin_of(participant), keys.log), key_of(witness_name_of(participant), keys.witness, 0x04)

    def key_statement(self, participant: str) -> bytes:
        """Signed statement of the participant's witness key, for partners (``GET /log/keys``)."""
        keys: ProveKeys = self._keys(participant)
        return rules.signed(
            rules.key_statement(participant, self.keys_of(participant)[1]), origin_of(participant), keys
        ).to_bytes()

    # ---- witnesses

    async def add_peer(
        self, participant: str, did: str, evidence_key: bytes, url: str, *, witness_key: bytes | None = None
    ) -> None:
        """Know a partner: witness its log, and have it witness ours. ``url``: prefix of its evidence addresses.

        Repeating is free; a changed evidence key or url replaces what was known.
        """
        one = self._log(participant)
        known = one.peers.get(did)
        if known is not None and witness_key is None and known.evidence_key == evidence_key:
            witness_key = known.witness_key
        peer = Peer(did, url.rstrip("/"), evidence_key, witness_key)
        if known == peer:
            return
        await self._store_peer(one, peer)
        if did not in one.witnesses:
            one.witnesses[did] = await self._witness_view(participant, did)
        if self._task is not None:
            self._begin_round(one, did)
        one.wake[did].set()

    async def remove_peer(self, participant: str, did: str) -> None:
        """Stop witnessing with a partner; cosignatures stay."""
        one = self._log(participant)
        async with self._records.step(participant) as step:
            step.delete(PEERS, did=did)
        for held in (one.peers, one.witnesses, one.wake):
            held.pop(did, None)
        task = one.rounds.pop(did, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def peers(self, participant: str) -> tuple[Peer, ...]:
        """The partners known."""
        return tuple(self._log(participant).peers.values())

    async def answer_witness(self, participant: str, body: bytes) -> Answer:
        """``POST /witness/add-checkpoint``: cosign a partner's checkpoint (C2SP tlog-witness)."""
        one = self._log(participant)
        logs = [peer.log_vkey for peer in one.peers.values()]
        answer = await add_checkpoint(self._records, self._clock, participant, self._keys(participant), logs, body)
        if answer.status == 403 and (changed := await self._changed_key(participant, body)) is not None:
            answer = await add_checkpoint(
                self._records, self._clock, participant, self._keys(participant), [changed.log_vkey], body
            )
        if answer.status == 422:
            await self.rounds.refused(participant, body)
        return answer

    async def _changed_key(self, participant: str, body: bytes) -> Peer | None:
        """The partner that sent a checkpoint under a key we don't know, if it says, believably, that its key changed."""
        for peer in self.peers(participant):
            if f"\n\n{origin_of(peer.did)}\n".encode() in body:
                try:
                    found = await self.key_changes.follow(participant, peer, at_most_every_s=60.0)
                except GuantongError:
                    return None
                return found if found != peer else None
        return None

    async def replace_peer(self, participant: str, peer: Peer, entry: Entry) -> None:
        """Know a partner under its new key from now on, and record why."""
        await self._store_peer(self._log(participant), peer, entry)

    async def monitored(self, participant: str, origin_hash: str) -> bytes | None:
        """The newest checkpoint cosigned of the log whose origin has that SHA-256 (lower-case hex), or None."""
        for row in await self._records.rows(select(WITNESSED).where(WITNESSED.c.participant == participant)):
            if rules.origin_hash(row["origin"]) == origin_hash:
                return bytes(row["note"])
        return None

    async def witnessed(self, participant: str, size: int) -> CheckpointView:
        """Wait until a partner has cosigned a checkpoint of at least ``size`` leaves. Bound the wait with ``asyncio.timeout``."""
        one = self._log(participant)
        async with one.cosigned:
            while True:
                found = await self.witnessed_checkpoint(participant, size)
                if found is not None:
                    return found
                await one.cosigned.wait()

    def _enlist(self, one: _Log, peer: Peer) -> None:
        one.peers[peer.did] = peer
        one.wake.setdefault(peer.did, asyncio.Event())
        one.wake[peer.did].set()

    async def _store_peer(self, one: _Log, peer: Peer, entry: Entry | None = None) -> None:
        async with self._records.step(one.participant) as step:
            step.upsert(PEERS, did=peer.did, url=peer.url, evidence_key=peer.evidence_key, witness_key=peer.witness_key)
            if entry is not None:
                step.record(entry)
        self._enlist(one, peer)

    async def _witness_view(self, participant: str, did: str) -> WitnessView:
        row = await self._records.row(
            select(COSIGNATURES.c.size, COSIGNATURES.c.cosigned_at)
            .where(and_(COSIGNATURES.c.participant == participant, COSIGNATURES.c.witness == did))
            .order_by(COSIGNATURES.c.size.desc())
            .limit(1)
        )
        return WitnessView(did, int(row["size"]), int(row["cosigned_at"])) if row else WitnessView(did, 0, None)

    def _begin_round(self, one: _Log, did: str) -> None:
        if did not in one.rounds:
            one.rounds[did] = asyncio.create_task(self._witness_round(one, did), name=f"prove-witness-{did}")

    async def _witness_round(self, one: _Log, did: str) -> None:
        """Keep one partner's cosignature up to date: at most one request under way, always for the newest checkpoint."""
        pause = self.settings.retry_min_s
        wake = one.wake[did]
        while True:
            await wake.wait()
            wake.clear()
            try:
                while await self._ask_witness(one, did):
                    pass
            except Exception as error:  # edge of the task: whatever a partner answers, it is asked again
                view = one.witnesses[did]
                code = error.code if isinstance(error, GuantongError) else type(error).__name__
                if view.error != code:
                    log.warning("witness %s: %s", did, error, exc_info=not isinstance(error, GuantongError))
                one.witnesses[did] = replace(view, error=code, attempts=view.attempts + 1)
                if not isinstance(error, Corrupt):
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, self.settings.retry_max_s)
                    wake.set()
                continue
            pause = self.settings.retry_min_s

    async def _ask_witness(self, one: _Log, did: str) -> bool:
        """One request. True if a newer checkpoint came meanwhile or the witness named another size to start from."""
        head = one.latest
        view = one.witnesses[did]
        if head is None or head.size <= view.size:
            return False
        peer = one.peers[did]
        if peer.witness_key is None:
            key = await fetch_witness_key(self._http, peer, timeout_s=self.settings.witness_timeout_s)
            peer = replace(peer, witness_key=key)
            await self._store_peer(one, peer)
        lines, at_s = await ask_to_cosign(
            self._http,
            peer,
            head,
            known=view.size,
            prove=lambda old: self.consistency(one.participant, old, head.size),
            timeout_s=self.settings.witness_timeout_s,
        )
        async with self._records.step(one.participant) as step:
            step.upsert(COSIGNATURES, size=head.size, witness=did, line=lines, cosigned_at=at_s * NS)
        one.witnesses[did] = WitnessView(did, head.size, at_s * NS)
        async with one.cosigned:
            one.cosigned.notify_all()
        return one.latest is not head

    # ---- packages and trust

    async def numbers_about(self, participant: str, agreement_id: str) -> list[int]:
        """Indexes of the leaves that concern an agreement, in order."""
        found = await self._records.rows(
            select(SUBJECTS.c.number)
            .where(and_(SUBJECTS.c.participant == participant, SUBJECTS.c.subject == agreement_id))
            .order_by(SUBJECTS.c.number)
        )
        return [int(row["number"]) for row in found]

    async def package(
        self,
        participant: str,
        agreement_id: str,
        out: Path,
        *,
        extra: Mapping[str, bytes] | None = None,
        scope: Scope | None = None,
    ) -> PackageMade:
        """Write the package about an agreement, or about one transfer or period of it, to ``out`` (``.guantong.zip`` is added to a name
        without suffix).

        extra: further files by relative path, such as ``invoices/1.json``. Waits up to ``package_wait_s`` for a cosignature over the
        newest entry about the agreement. Raises Skippable ``prove.no-such-agreement``.
        """
        made, data = await packing.make(self, participant, agreement_id, out, extra or {}, scope or Scope())
        async with self._records.step(participant) as step:
            step.record(Entry(PACKAGE_MADE, made))
        return await packing.store(data)

    async def trust_lines(self, participant: str) -> str:
        """The trust file as this participant knows the world: its own keys and its partners' (``guantong trust export``)."""
        dids = {participant: self._keys(participant).log.public}
        logs = [self.keys_of(participant)[0]]
        witnesses = [self.keys_of(participant)[1]]
        for peer in self.peers(participant):
            dids[peer.did] = peer.evidence_key
            logs.append(peer.log_vkey)
            if peer.witness_vkey is not None:
                witnesses.append(peer.witness_vkey)
        lines = [line for anchor in self.rounds.anchors for line in anchor.trust_lines()]
        lines += [rules.change_line(one) for one in await self.key_changes.known(participant)]
        statement = self._keys(participant).company
        if statement is not None:
            lines.append(company.line("company", statement))
        sm2 = self._keys(participant).sm2
        if sm2 is not None:
            lines.append(f"sm2 {gm.Sm2Public(origin_of(participant), sm2.public)}")
        return rules.trust_text(dids, logs, witnesses, lines)

    def _log(self, participant: str) -> _Log:
        try:
            return self._logs[participant]
        except KeyError:
            raise Skippable("prove.no-such-log", participant=participant) from None
