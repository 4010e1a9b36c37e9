"""Webhooks: a machine or system sends JSON to ``POST /connect/hooks/<source>`` on this node, with a token of its own.

The answer 202 is given when the readings are durable, so that a sender may forget what it sent; 503 asks it to send again. The token
is shown once, when it is made; kept is its SHA-256. Bodies are bounded by ``message_bytes``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

from guantong.base.errors import ConfigProblem, Refused, Retryable, Skippable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface
from guantong.connect.rules import names_of, units_of
from guantong.connect.values import Shape, at_path, instant_of, read_json

__all__ = ["HookReader", "Hooks", "token_digest"]


def token_digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(slots=True)
class _Post:
    body: bytes
    done: asyncio.Future[int] = field(repr=False)


class Hooks:
    """The doors that are open: participant and source to the reader behind it."""

    def __init__(self) -> None:
        self._readers: dict[tuple[str, str], HookReader] = {}

    def open(self, participant: str, source: str, reader: HookReader) -> None:
        """A reader waits behind its door."""
        self._readers[participant, source] = reader

    def shut(self, participant: str, source: str, reader: HookReader) -> None:
        """The reader has gone."""
        if self._readers.get((participant, source)) is reader:
            del self._readers[participant, source]

    async def post(self, participant: str, source: str, token: str, body: bytes) -> int:
        """Hand a request to its reader and wait until it is durable; returns how many readings it gave.

        Raises Refused ``connect.token-refused`` for an unknown source as for a wrong token, Retryable ``connect.lost`` while the source
        does not run, Skippable ``connect.document-unreadable`` and ``connect.document-too-large``.
        """
        reader = self._readers.get((participant, source))
        if reader is None or not reader.opens_to(token):
            raise Refused("connect.token-refused", source=source)
        return await reader.post(body)


class HookReader:
    """Takes what is sent to one source."""

    def __init__(self, interface: Interface, hooks: Hooks, participant: str) -> None:
        if not interface.base.startswith("webhook:"):
            raise ConfigProblem("connect.address-unusable", base=interface.base, reason="webhook://name/ is expected")
        self._interface = interface
        self._hooks = hooks
        self._participant = participant
        self._digest = interface.term("token_sha256") or ""
        self._shape = Shape(time=interface.term("time"))
        self._posts: asyncio.Queue[_Post] = asyncio.Queue(64)
        self._limit = 0
        self._known = {item.key: item for item in interface.properties}

    def opens_to(self, token: str) -> bool:
        """Whether the token is the one."""
        return bool(self._digest) and hmac.compare_digest(token_digest(token), self._digest)

    async def post(self, body: bytes) -> int:
        """One request, until it is durable."""
        if len(body) > self._limit:
            raise Skippable("connect.document-too-large", name=self._interface.name, size=len(body), limit=self._limit)
        post = _Post(body, asyncio.get_running_loop().create_future())
        try:
            self._posts.put_nowait(post)
        except asyncio.QueueFull:
            raise Retryable("connect.lost", base=self._interface.base, reason="too many requests wait") from None
        return await post.done

    async def run(self, delivery: Delivery) -> None:
        """Wait for requests."""
        self._limit = delivery.settings.message_bytes
        self._hooks.open(self._participant, delivery.source, self)
        properties = self._interface.properties
        await delivery.connected(names=names_of(properties), units=units_of(properties))
        waiting: list[_Post] = []
        try:
            while True:
                waiting = [await self._posts.get()]
                while not self._posts.empty():
                    waiting.append(self._posts.get_nowait())
                answers: list[tuple[_Post, int | Skippable]] = [
                    (post, self._read(post.body, delivery)) for post in waiting
                ]
                await delivery.flush()
                for post, answer in answers:
                    if post.done.done():
                        continue
                    if isinstance(answer, Skippable):
                        post.done.set_exception(answer)
                    else:
                        post.done.set_result(answer)
                waiting = []
        finally:
            self._hooks.shut(self._participant, delivery.source, self)
            while not self._posts.empty():
                waiting.append(self._posts.get_nowait())
            for post in waiting:
                if not post.done.done():
                    post.done.set_exception(
                        Retryable("connect.lost", base=self._interface.base, reason="the source was stopped")
                    )

    def _read(self, body: bytes, delivery: Delivery) -> int | Skippable:
        before = len(delivery.rows)
        value: Any = read_json(body)
        received = delivery.clock.now()
        found = at_path(value, self._interface.term("rows")) if not isinstance(value, str) else None
        if found is None:
            delivery.quarantine(0, "unreadable", body[:200].decode("utf-8", "replace"))
            return Skippable("connect.document-unreadable", name=delivery.source, reason="it is not the JSON expected")
        when = instant_of(value, self._shape) or received
        rows = found if isinstance(found, list) else [found]
        for row in rows:
            self._take(row, when, received, delivery)
        delivery.lines(1, 1 if len(delivery.rows) > before else 0)
        return len(delivery.rows) - before

    def _take(self, row: Any, when: int, received: int, delivery: Delivery) -> None:
        if not isinstance(row, dict):
            self._shape.take(delivery.source, row, None, when, received, delivery)
            return
        when = instant_of(row, self._shape) or when
        if not self._known:
            for name, member in self._shape.members(row):
                self._shape.take(name or delivery.source, member, None, when, received, delivery)
            return
        for name, member in self._shape.members(row):
            item = self._known.get(name)
            if item is not None:
                self._shape.take(name, member, item, when, received, delivery)
