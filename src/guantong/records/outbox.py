"""The outbox: messages leave after the commit that queued them, in order within a lane, all lanes at once, until they arrive.

A committed message is handed over in memory, so it leaves without the table being read again; the table is read once, at the start, for
what an earlier run left behind. There is no polling: the only timers are those of the back-off. Delivery is at least once: a message
whose arrival was not yet noted when the process ended is sent again, and receivers take a repeated message as the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import and_, select

from guantong.base.clock import NS, Clock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.records.model import Message
from guantong.records.service import Queued, Records, Step
from guantong.records.tables import OUTBOX

__all__ = ["Note", "Outbox", "OutboxSettings", "Send", "Stuck"]

Note = Callable[[Step], None]
"""What is written in the same step as the note that a message arrived."""

Send = Callable[[str, Message, int], Awaitable[Note | None]]
"""``(participant, message, attempt from 1)``. Returns when the message arrived, with what is to be written beside the note of its arrival;
raises Retryable to be called again after the back-off, Refused or any other error of the tree to give up."""

_LOG = logging.getLogger("guantong.outbox")


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Settings of the outbox."""

    first_backoff_s: float = 0.05
    """Wait after the first failure, seconds; doubled at each further one."""
    longest_backoff_s: float = 30.0
    """Longest wait between two attempts, seconds."""
    attempts: int = 100
    """Attempts before a message is given up and shown to a person (100 are about 45 minutes)."""
    per_partner: int = 64
    """Messages to one partner under way at once (a lane's name up to the first blank is the partner)."""
    note_after_s: float = 0.5
    """Arrivals are noted together after this time, seconds: one commit for many. What is not noted when the process ends is sent again."""
    keep_sent_s: int = 86_400
    """How long a delivered message stays in the table, seconds."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A message that was given up, for a person to look at."""

    kind: str
    key: str
    lane: str
    payload: Mapping[str, Any]
    attempts: int
    error: str
    created_at: int


class Outbox:
    """Carries messages out. Register a sender per kind, then :meth:`start`."""

    def __init__(self, records: Records, clock: Clock, settings: OutboxSettings | None = None) -> None:
        self.settings = settings or OutboxSettings()
        self._records = records
        self._clock = clock
        self._senders: dict[str, Send] = {}
        self._lanes: dict[str, deque[Queued]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._known: set[tuple[str, str, str]] = set()
        self._partners: dict[str, asyncio.Semaphore] = {}
        self._noting: dict[tuple[str, str, str], tuple[int, Note | None]] = {}
        self._note_task: asyncio.Task[None] | None = None
        self._waiting: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = False
        self._purged_at = 0
        records.on_messages(self._take)

    def register(self, kind: str, send: Send) -> None:
        """Let ``send`` take the messages of a kind; one sender a kind."""
        if kind in self._senders:
            raise LookupError(f"a sender for {kind!r} is registered already")
        self._senders[kind] = send

    async def start(self) -> None:
        """Begin, with what an earlier run left behind first."""
        self._running = True
        waiting = await self._records.rows(select(OUTBOX).where(OUTBOX.c.state == "queued").order_by(OUTBOX.c.number))
        committed_meanwhile = [item for lane in self._lanes.values() for item in lane]
        self._lanes.clear()
        self._known.clear()
        self._take([_queued(row) for row in waiting])
        self._take(committed_meanwhile)

    async def stop(self) -> None:
        """Stop sending; what has not arrived stays queued for the next start."""
        self._running = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        if self._note_task is not None:
            self._note_task.cancel()
            await asyncio.gather(self._note_task, return_exceptions=True)
            self._note_task = None
        await self._note_now()
        self._lanes.clear()
        self._known.clear()
        self._idle.set()

    async def drained(self) -> None:
        """Return when nothing waits in memory: everything arrived or was given up, and that is noted."""
        while not self._idle.is_set():
            if self._tasks:
                await asyncio.wait(list(self._tasks.values()))
            elif self._noting:
                await self._note_now()  # who waits for it does not wait for company
            elif self._note_task is not None:
                self._note_task.cancel()
                await asyncio.wait([self._note_task])
            else:
                await self._idle.wait()

    def wake(self, participant: str, partner: str) -> None:
        """A partner shows life: what waits to be sent to it again after a failure is sent now."""
        for pause in self._waiting.pop((participant, partner), ()):
            pause.cancel()

    async def stuck(self, participant: str) -> list[Stuck]:
        """Messages of a participant that were given up, oldest first."""
        rows = await self._records.rows(
            select(OUTBOX)
            .where(and_(OUTBOX.c.participant == participant, OUTBOX.c.state == "gave-up"))
            .order_by(OUTBOX.c.number)
        )
        return [
            Stuck(
                row["kind"],
                row["key"],
                row["lane"],
                orjson.loads(row["payload"]),
                row["attempts"],
                row["error"] or "",
                row["created_at"],
            )
            for row in rows
        ]

    async def retry(self, participant: str, kind: str, key: str) -> None:
        """Queue a message that was given up once more. Raises Retryable ``records.conflict`` where it is not stuck."""
        async with self._records.step(participant) as step:
            step.update(
                OUTBOX,
                {"kind": kind, "key": key},
                {"state": "queued", "attempts": 0, "error": None, "next_at": step.at},
                expect={"state": "gave-up"},
            )
        row = await self._records.row(
            select(OUTBOX).where(and_(OUTBOX.c.participant == participant, OUTBOX.c.kind == kind, OUTBOX.c.key == key))
        )
        if row is not None and row["state"] == "queued":
            self._take([_queued(row)])

    # -- lanes

    def _take(self, messages: list[Queued]) -> None:
        for item in messages:
            name = (item.participant, item.kind, item.key)
            if name in self._known:
                continue
            self._known.add(name)
            lane = f"{item.participant} {item.lane}"
            self._lanes.setdefault(lane, deque()).append(item)
            if self._running and lane not in self._tasks:
                self._idle.clear()
                task = asyncio.get_running_loop().create_task(self._run(lane), name=f"outbox {lane}")
                self._tasks[lane] = task

    async def _run(self, lane: str) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                await self._carry(queue[0])
                done = queue.popleft()
                self._known.discard((done.participant, done.kind, done.key))
        finally:
            self._tasks.pop(lane, None)
            if not queue:
                self._lanes.pop(lane, None)
            self._rest()

    async def _carry(self, item: Queued) -> None:
        message = item.message()
        partner = item.lane.partition(" ")[0]
        gate = self._partners.setdefault(partner, asyncio.Semaphore(self.settings.per_partner))
        attempt = item.attempts
        while True:
            attempt += 1
            send = self._senders.get(item.kind)
            try:
                if send is None:
                    raise Refused("records.sender-missing", kind=item.kind)
                async with gate:
                    beside = await send(item.participant, message, attempt)
                self._note((item.participant, item.kind, item.key), attempt, beside)
                return
            except Retryable as error:
                if attempt >= self.settings.attempts:
                    await self._give_up(item, attempt, error)
                    return
                if await self._put_off(item, attempt, error):
                    attempt -= 1  # the partner shows life: what was tried before does not count against it
            except GuantongError as error:
                await self._give_up(item, attempt, error)
                return
            except Exception as error:  # noqa: BLE001 - the edge of a task loop: a sender's own bug must not stop its lane unseen
                _LOG.exception("sender of %s failed", item.kind)
                await self._give_up(item, attempt, error)
                return

    async def _put_off(self, item: Queued, attempt: int, error: GuantongError) -> bool:
        """Wait out the back-off; True if the partner showed life before its end."""
        wait_s = min(self.settings.first_backoff_s * 2 ** min(attempt - 1, 20), self.settings.longest_backoff_s)
        if wait_s < 1.0:  # quick repeats are not worth a commit
            await self._clock.sleep(wait_s)
            return False
        with contextlib.suppress(Retryable):  # long waits survive a restart with their count
            async with self._records.step(item.participant) as step:
                step.update(
                    OUTBOX,
                    {"kind": item.kind, "key": item.key},
                    {"attempts": attempt, "error": str(error)[:2000], "next_at": step.at + int(wait_s * NS)},
                )
        waiting = self._waiting.setdefault((item.participant, item.lane.partition(" ")[0]), set())
        pause: asyncio.Future[None] = asyncio.ensure_future(self._clock.sleep(wait_s))
        waiting.add(pause)
        try:
            await asyncio.wait({pause})
            return pause.cancelled()
        finally:
            pause.cancel()
            waiting.discard(pause)

    async def _give_up(self, item: Queued, attempt: int, error: BaseException) -> None:
        _LOG.warning("gave up %s %s to %s: %s", item.kind, item.key, item.lane, error)
        async with self._records.step(item.participant) as step:
            step.update(
                OUTBOX,
                {"kind": item.kind, "key": item.key},
                {"state": "gave-up", "attempts": attempt, "error": str(error)[:2000]},
            )

    # -- noting arrivals, many in one commit

    def _note(self, name: tuple[str, str, str], attempt: int, beside: Note | None) -> None:
        self._noting[name] = (attempt, beside)
        if self._note_task is None:
            self._note_task = asyncio.get_running_loop().create_task(self._note_soon(), name="outbox notes")

    async def _note_soon(self) -> None:
        try:
            while self._noting:
                await self._clock.sleep(self.settings.note_after_s)
                await self._note_now()
        finally:
            self._note_task = None
            self._rest()

    async def _note_now(self) -> None:
        noted = self._noting
        self._noting = {}
        if not noted:
            return
        by_participant: dict[str, list[tuple[str, str, int, Note | None]]] = {}
        for (participant, kind, key), (attempt, beside) in noted.items():
            by_participant.setdefault(participant, []).append((kind, key, attempt, beside))
        now = self._clock.now()
        purge = now - self._purged_at > self.settings.keep_sent_s * NS // 24
        if purge:
            self._purged_at = now
        try:
            for participant, arrived in by_participant.items():
                async with self._records.step(participant) as step:
                    for kind, key, attempt, beside in arrived:
                        step.update(OUTBOX, {"kind": kind, "key": key}, {"state": "sent", "attempts": attempt})
                        if beside is not None:
                            beside(step)
                    if purge:
                        step.apply(_purge(participant, now - self.settings.keep_sent_s * NS))
        except Retryable as error:  # not noted: it is sent again after a restart, which receivers bear
            _LOG.warning("arrivals could not be noted: %s", error)

    def _rest(self) -> None:
        if not self._tasks and not self._noting and self._note_task is None:
            self._idle.set()


def _purge(participant: str, before: int) -> Callable[[Any], object]:
    statement = OUTBOX.delete().where(
        and_(OUTBOX.c.participant == participant, OUTBOX.c.state == "sent", OUTBOX.c.created_at < before)
    )
    return lambda connection: connection.execute(statement)


def _queued(row: Mapping[str, Any]) -> Queued:
    return Queued(
        row["participant"], row["kind"], row["key"], row["lane"], row["number"], row["payload"], row["attempts"]
    )
