"""The port to the network for requests that leave this node: a request in, a response out, no library showing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Dial", "Http", "Response", "Socket", "Stream"]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Protocol):
    """An answer whose body arrives piece by piece."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they come."""
        ...


class Http(Protocol):
    """The client. Raises Retryable ``web.unreachable`` (no answer), Refused ``web.address-refused`` (an address no rule allows) and
    Skippable ``web.answer-too-large``. Redirects are never followed.

    ``zone`` says which allow-list applies: ``partner`` (other participants, DID documents) or ``plant`` (machines and systems).
    """

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        max_bytes: int = 16 * 1024 * 1024,
        zone: str = "partner",
    ) -> Response:
        """Send and read the whole answer. A body may come in pieces, then its length is not told before."""
        ...

    def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        zone: str = "partner",
    ) -> AbstractAsyncContextManager[Stream]:
        """Send and read the body in pieces; ``timeout_s`` bounds the wait for each piece."""
        ...


class Socket(Protocol):
    """A connection that carries whole messages both ways (RFC 6455, binary)."""

    async def send(self, message: bytes) -> None:
        """Send one message, once there is room. Raises OSError where the connection has ended."""
        ...

    async def receive(self) -> bytes | None:
        """The next message, None where the connection has ended."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


Dial = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[Socket]]
"""Opens a connection to an https (or loopback http) address, with these headers; what it raises is what :class:`Http` raises."""
