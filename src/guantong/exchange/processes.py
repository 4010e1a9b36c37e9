"""Processes of one kind (negotiations, transfers): what is in memory of them, how a step moves them, and how their messages are carried.

Both kinds send, hear and refuse alike; what differs (which message leads where, what an agreement or a token is) is their own.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import orjson
from sqlalchemy import Table, and_, select

from guantong.base.entry import Entry, EntryKind
from guantong.base.errors import Refused, Retryable
from guantong.base.wire import Response
from guantong.exchange.hosting import SEND_KIND, Hosting, in_path, verdict_of
from guantong.exchange.messages import check
from guantong.exchange.model import Negotiation, Participant, Transfer
from guantong.exchange.tables import SEEN
from guantong.records.model import Message
from guantong.records.outbox import Note
from guantong.records.service import Row, Step

__all__ = ["Kind", "Processes"]

P = TypeVar("P", Negotiation, Transfer)


class _Process(Protocol):
    @property
    def pid(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def partner_pid(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """What is particular to one kind of process."""

    area: str
    """``negotiations`` or ``transfers``: the part of a partner's address that its messages go to."""
    table: Table
    words: Mapping[str, tuple[str, str]]
    """Word of the machine to ``(message, path below the process)``."""
    read: Callable[[Row], P]
    """A row of the table as a value."""
    moved: EntryKind
    stated: Callable[[P], Mapping[str, str]]
    """What an entry says of a process beside its state."""
    terminal: frozenset[str]


class Processes(Generic[P]):
    """The table is the truth; memory holds the recent processes with the digests of the messages they took."""

    def __init__(self, hosting: Hosting, kind: Kind[P]) -> None:
        self.hosting = hosting
        self.kind: Kind[P] = kind
        self.table = kind.table
        self._kept: OrderedDict[tuple[str, str], tuple[P, set[str]]] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._moves = 0

    # -- looking them up

    def lock(self, participant: str, pid: str) -> asyncio.Lock:
        """The lock of one process."""
        found = self._locks.get((participant, pid))
        if found is None:
            found = asyncio.Lock()
            self._locks[(participant, pid)] = found
        return found

    async def get(self, participant: str, pid: str) -> P:
        """The process. Raises Refused ``exchange.process-unknown``."""
        return (await self._entry(participant, pid))[0]

    async def of_caller(self, participant: str, pid: str, caller: Participant) -> P:
        """The process if it is with the caller; another's is as unknown as none at all."""
        process = await self.get(participant, pid)
        if process.partner != caller.did:
            raise Refused("exchange.process-unknown", pid=pid)
        return process

    async def find(self, participant: str, partner: str, partner_pid: str) -> P | None:
        """Our process for a partner's identifier."""
        table = self.table
        row = await self.hosting.records.row(
            select(table).where(
                and_(table.c.participant == participant, table.c.partner == partner, table.c.partner_pid == partner_pid)
            )
        )
        return self.kind.read(row) if row else None

    async def all(self, participant: str) -> list[P]:
        """All processes of a participant, newest first."""
        table = self.table
        rows = await self.hosting.records.rows(
            select(table).where(table.c.participant == participant).order_by(table.c.created_at.desc())
        )
        return [self.kind.read(row) for row in rows]

    async def seen(self, participant: str, pid: str, digest: str) -> bool:
        """Whether a message with that content was taken before."""
        return digest in (await self._entry(participant, pid))[1]

    # -- within a step

    def move(self, step: Step, process: P, state: str, **changes: Any) -> P:
        """Take the process to a state in a step; what it will be is returned, give that to :meth:`becomes`."""
        values = {name: _stored(value) for name, value in changes.items()}
        if process.partner_pid:
            values.setdefault("partner_pid", process.partner_pid)
        step.move(self.table, {"pid": process.pid}, state, was=process.state, **values)
        return replace(process, state=state, changed_at=step.at, **changes)

    def becomes(self, step: Step, process: P, digest: str = "", *, new: bool = False) -> None:
        """What the process is once the step is durable: memory holds it then, and those who wait for it are woken.

        ``digest``: of a message that it took in this step. ``new``: it took no other before.
        """
        if digest:
            step.upsert(SEEN, pid=process.pid, digest=digest, at=step.at)
        step.then(lambda: self._became(step.participant, process, digest, new=new))

    def _became(self, participant: str, process: P, digest: str, *, new: bool) -> None:
        self._keep(participant, process, digest, new=new)
        self.hosting.changed(participant, process.pid, process.state)

    def _keep(self, participant: str, process: P, digest: str = "", *, new: bool = False) -> None:
        self._moves += 1
        name = (participant, process.pid)
        known = self._kept.get(name)
        if known is None and not new:
            return  # it was pushed out: its digests are in the table only, and so it is read from there the next time
        digests = known[1] if known else set()
        if digest:
            digests.add(digest)
        self._kept[name] = (process, digests)
        self._kept.move_to_end(name)
        while len(self._kept) > self.hosting.settings.process_cache:
            self._kept.popitem(last=False)

    def send(
        self,
        step: Step,
        process: P,
        word: str,
        body: Mapping[str, Any],
        *,
        initial: bool = False,
        path: str = "",
        first: bool = False,
    ) -> None:
        """Queue a message of the process. ``initial``: it makes the process known to the partner. ``first``: it is the first that the
        partner hears after it made the process known to us, and may meet a partner that has not yet recorded it.
        """
        step.send(
            Message(
                lane=f"{process.partner} {process.pid}",
                kind=SEND_KIND,
                key=str(body["@id"]),
                payload={
                    "area": self.kind.area,
                    "pid": process.pid,
                    "role": process.role,
                    "partner": process.partner,
                    "path": path or self.kind.words[word][1],
                    "initial": initial,
                    "first": first,
                    "body": dict(body),
                },
            )
        )

    def record(self, step: Step, process: P, by: str, word: str, reason: str = "") -> None:
        """State a move of the process for the record."""
        body = {
            "pid": process.pid,
            "partner": process.partner,
            "role": process.role,
            "state": process.state,
            "by": by,
            "message": self.kind.words[word][0],
            **self.kind.stated(process),
        }
        if reason:
            body["reason"] = reason[:1000]
        step.record(_moved(self.kind.moved, body))

    # -- messages that leave

    async def carry(self, participant: str, message: Message, attempt: int) -> Note | None:
        """Bring a message to the partner, and take from the answer to a first message how the partner calls the process."""
        payload = message.payload
        process = await self.get(participant, payload["pid"])
        body = dict(payload["body"])
        base = f"{process.partner_address}/{self.kind.area}"
        if payload["initial"]:
            url = f"{base}/{payload['path']}"
        else:
            # a message that was queued before the partner named the process gets its name now
            body.setdefault("providerPid" if process.role == "consumer" else "consumerPid", process.partner_pid)
            url = f"{base}/{in_path(process.partner_pid)}/{payload['path']}"
        try:
            response = await self.hosting.request(
                participant, process.partner, "POST", url, body, max_bytes=1024 * 1024
            )
        except Refused as error:  # an address that no rule allows, a certificate that nobody trusts
            await self.refused(participant, payload, error.message(), ends=payload["initial"])
            raise
        try:
            verdict_of(
                response.status, attempt, first=bool(payload["first"]), partner=process.partner, message=body["@type"]
            )
        except Refused as error:
            text = response.body[:500].decode("utf-8", "replace")
            await self.refused(participant, payload, f"{error.message()} {text}".strip(), ends=payload["initial"])
            raise
        return await self._learned(participant, payload, response) if payload["initial"] else None

    async def _learned(self, participant: str, payload: Mapping[str, Any], response: Response) -> Note | None:
        # written beside the note of the message's arrival: until then it would be sent again, and answered the same
        pid = payload["pid"]
        theirs = _named_in(response, "providerPid" if payload["role"] == "consumer" else "consumerPid")
        process = await self.get(participant, pid)
        if process.partner_pid or not theirs:
            return None
        self._keep(participant, replace(process, partner_pid=theirs))
        self.hosting.changed(participant, pid, process.state)
        return lambda step: step.update(self.table, {"pid": pid}, {"partner_pid": theirs})

    async def refused(self, participant: str, payload: Mapping[str, Any], reason: str, *, ends: bool) -> None:
        """A message did not get through for good: the process ends with it, or is a person's matter from here on."""
        pid = payload["pid"]
        async with self.lock(participant, pid):
            process = await self.get(participant, pid)
            async with self.hosting.records.step(participant) as step:
                if ends and process.state not in self.kind.terminal:
                    after = self.move(step, process, "TERMINATED", reason=reason, waiting="")
                    self.record(step, after, process.role, "termination", reason)
                else:
                    step.update(self.table, {"pid": pid}, {"reason": reason, "waiting": "person"})
                    after = replace(process, reason=reason, waiting="person")
                self.becomes(step, after)

    # -- messages that come

    def heard(self, process: P, word: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A message at a path of the process, checked, with its identifiers compared. Raises Refused ``exchange.message-invalid``."""
        kind = self.kind.words[word][0]
        heard = check(body, kind)
        ours, theirs = ("consumerPid", "providerPid") if process.role == "consumer" else ("providerPid", "consumerPid")
        if heard.get(ours, process.pid) != process.pid:
            raise Refused("exchange.message-invalid", message=kind, reason=f"{ours}: is not that of the path")
        if process.partner_pid and heard.get(theirs, process.partner_pid) != process.partner_pid:
            raise Refused("exchange.message-invalid", message=kind, reason=f"{theirs}: belongs to another process")
        if not process.partner_pid and not heard.get(theirs):
            raise Refused("exchange.message-invalid", message=kind, reason=f"{theirs}: is missing")
        return heard

    async def remember_only(self, participant: str, caller: Participant) -> None:
        """A message that changes nothing: only that its token was used becomes durable."""
        async with self.hosting.records.step(participant) as step:
            self.hosting.tokens.remember(step, caller)

    async def known_after(self, error: Retryable, participant: str, partner: str, partner_pid: str) -> P:
        """The process that a repeated first message made before. Raises ``error`` where that is not why the step failed."""
        if error.code != "records.conflict":
            raise error
        known = await self.find(participant, partner, partner_pid)
        if known is None:
            raise error
        return known

    async def _entry(self, participant: str, pid: str) -> tuple[P, set[str]]:
        name = (participant, pid)
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            return kept
        table = self.table
        moves = self._moves
        row = await self.hosting.records.row(
            select(table).where(and_(table.c.participant == participant, table.c.pid == pid))
        )
        if row is None:
            raise Refused("exchange.process-unknown", pid=pid)
        digests = await self.hosting.records.rows(
            select(SEEN.c.digest).where(and_(SEEN.c.participant == participant, SEEN.c.pid == pid))
        )
        found = self._kept.get(name) or (self.kind.read(row), {entry["digest"] for entry in digests})
        if moves == self._moves:  # else a step may have moved it while the table was read
            self._kept[name] = found
        return found


def reason_of(heard: Mapping[str, Any]) -> str:
    """The reasons that a partner gives, as one text."""
    reasons = heard.get("reason")
    texts = [
        str(item.get("@value", item)) if isinstance(item, Mapping) else str(item)
        for item in (reasons if isinstance(reasons, list) else [])
    ]
    return ("; ".join(texts) or str(heard.get("code") or ""))[:1000]


def _named_in(response: Response, member: str) -> str:
    # partners answer 200 or 201, sometimes without a body: then their first message tells
    try:
        body = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        return ""
    value = body.get(member) if isinstance(body, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= 128 else ""


def _stored(value: Any) -> Any:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, Mapping) else value


def _moved(kind: EntryKind, body: Mapping[str, Any]) -> Entry:
    return Entry(kind, body)
