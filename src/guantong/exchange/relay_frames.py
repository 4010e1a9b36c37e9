"""Requests and answers as frames on one connection, many at a time, none further ahead than its reader.

A frame is its kind (1 byte), the number of the request (4 bytes, big-endian, chosen by the relay) and the payload. ``HEAD`` opens a request
or an answer (JSON), ``DATA`` is a piece of a body, ``END`` its end, ``RESET`` breaks it off, ``CREDIT`` says how many more pieces are welcome.
``PING`` is answered by ``PONG``. At most :data:`WINDOW` pieces of :data:`PIECE` bytes wait on either side for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson

__all__ = [
    "CREDIT",
    "DATA",
    "END",
    "HEAD",
    "PIECE",
    "PING",
    "PONG",
    "RESET",
    "WINDOW",
    "Lane",
    "frame",
    "head_of",
    "kind_of",
]

HEAD, DATA, END, RESET, CREDIT, PING, PONG = range(1, 8)
PIECE = 64 * 1024
"""Largest payload of a piece, bytes."""
WINDOW = 16
"""Pieces of one body that may be under way unread."""
_HEAD_BYTES = 64 * 1024

Send = Callable[[bytes], Awaitable[None]]


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """One message."""
    return bytes((kind,)) + number.to_bytes(4, "big") + payload


def kind_of(message: bytes) -> tuple[int, int, bytes]:
    """Kind, number and payload of a message. Raises ValueError for what is no frame."""
    if len(message) < 5 or not HEAD <= message[0] <= PONG or len(message) > 5 + max(PIECE, _HEAD_BYTES):
        raise ValueError("no frame")
    return message[0], int.from_bytes(message[1:5], "big"), message[5:]


def head_of(payload: bytes) -> dict[str, Any]:
    """The JSON object of a ``HEAD``, its headers as pairs of text. Raises ValueError."""
    found = orjson.loads(payload)
    pairs = found.get("headers") if isinstance(found, dict) else None
    if (
        not isinstance(pairs, list)
        or len(pairs) > 100
        or not all(
            isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one) for one in pairs
        )
        or any("\r" in text or "\n" in text or "\0" in text for one in pairs for text in one)
    ):
        raise ValueError("no head")
    return dict(found)


class Lane:
    """One end of one relayed request: pieces in, pieces out."""

    def __init__(self, number: int, send: Send, *, idle_s: float) -> None:
        self.number = number
        self.head: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        """The other side's head."""
        self.broken = asyncio.Event()
        """Set when the other side has given up, or the connection has ended."""
        self._send = send
        self._idle_s = idle_s
        self._in: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = WINDOW
        self._more = asyncio.Event()
        self._ended = False

    # -- what comes

    def take(self, kind: int, payload: bytes) -> None:
        """A frame from the other side. Raises ValueError where it is further ahead than it may be."""
        if kind == HEAD:
            if self.head.done():
                raise ValueError("two heads")
            self.head.set_result(head_of(payload))
        elif kind == CREDIT:
            self._room = min(WINDOW, self._room + int.from_bytes(payload[:4], "big"))
            self._more.set()
        elif kind == RESET:
            self.cut()
        elif self._ended or self._in.qsize() > WINDOW:
            raise ValueError("more than was asked for")
        else:
            self._ended = kind == END
            self._in.put_nowait(None if kind == END else payload)

    def cut(self) -> None:
        """Nothing more comes or goes."""
        self.broken.set()
        self._more.set()
        self._in.put_nowait(None)
        if not self.head.done():
            self.head.set_exception(OSError("broken off"))
            self.head.exception()  # looked at here, so that nobody is warned where nobody waits

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises OSError where it breaks off, or nothing is heard for the idle time."""
        while True:
            piece = await self._in_time(self._in.get())
            if piece is None:
                if self.broken.is_set() and not self._ended:
                    raise OSError("broken off")
                return
            yield piece
            await self._send(frame(CREDIT, self.number, (1).to_bytes(4, "big")))

    # -- what goes

    async def open(self, head: dict[str, Any]) -> None:
        """Send the head."""
        await self._send(frame(HEAD, self.number, orjson.dumps(head)))

    async def put(self, body: bytes) -> None:
        """Send a part of the body, piece by piece, as there is room. Raises OSError where nobody reads."""
        for start in range(0, len(body), PIECE):
            while self._room == 0 and not self.broken.is_set():
                self._more.clear()
                await self._in_time(self._more.wait())
            if self.broken.is_set():
                raise OSError("broken off")
            self._room -= 1
            await self._send(frame(DATA, self.number, body[start : start + PIECE]))

    async def end(self) -> None:
        """Nothing more follows."""
        await self._send(frame(END, self.number))

    async def reset(self) -> None:
        """Give up, and say so."""
        if not self.broken.is_set():
            self.broken.set()
            await self._send(frame(RESET, self.number))

    async def _in_time(self, coming: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(coming, self._idle_s)
        except TimeoutError as error:
            raise OSError("nothing heard in time") from error
