"""Requests to a protocol's endpoints and their answers, straight on ASGI: no framework's layers between the server and the act.

A message between partners passes through here ten times in one exchange; a framework's request, routing and response objects cost as
much there as all the rest. Source: ASGI 3.0, HTTP connection scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Answer", "Asked", "Endpoint"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Asked:
    """A request."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.path_params: Mapping[str, str] = scope.get("path_params") or {}
        self._scope = scope
        self._receive = receive

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Headers by their lower-case names; of repeated ones the first."""
        return {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(list(self._scope["headers"]))
        }

    @cached_property
    def query_params(self) -> Mapping[str, str]:
        """Parameters of the query; of repeated ones the last."""
        text = self._scope["query_string"]
        return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}

    @property
    def query_string(self) -> str:
        """The query as it was sent."""
        return str(self._scope["query_string"].decode("latin-1"))

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises OSError where the caller leaves before its end."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise OSError("the caller left before the end of its request")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]


class Answer:
    """An answer: a body at once, or one that comes in pieces and ends early where the caller has left."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self,
        body: bytes | AsyncIterator[bytes] = b"",
        status: int = 200,
        *,
        media_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._body = body
        self._status = status
        named = {"content-type": media_type, **(headers or {})} if media_type else (headers or {})
        self._headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]

    async def send(self, receive: Receive, send: Send) -> None:
        """Send it."""
        body = self._body
        if isinstance(body, bytes):
            if self._status not in (204, 304):
                self._headers.append((b"content-length", b"%d" % len(body)))
            await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            await send({"type": "http.response.body", "body": body})
            return
        # what is sent to nobody is dropped by the server, without a word: ask whether the caller is still there
        sending = asyncio.current_task()
        assert sending is not None
        watching = asyncio.create_task(_gone(receive), name="caller")
        left = False

        def leave(_: asyncio.Task[None]) -> None:
            nonlocal left
            left = not done
            if left:
                sending.cancel()

        done = False
        watching.add_done_callback(leave)
        try:
            await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            done = True
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not left:
                raise
            sending.uncancel()
        except OSError:
            pass  # the same, told by the server
        finally:
            done = True
            watching.cancel()
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Endpoint:
    """One address as an ASGI application. ``act`` answers; what it raises is not its caller's fault."""

    def __init__(self, act: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._act = act
        self.__name__ = act.__name__.strip("_")
        self.__doc__ = act.__doc__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        answer = await self._act(Asked(scope, receive))
        await answer.send(receive, send)
