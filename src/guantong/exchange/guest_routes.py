"""What a guest's page asks the node: the terms of a link, its own state and papers, and its signed statements.

There is no session and no cookie: a statement or question carries its own signature, so that no other site can ask in a guest's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from guantong.base.canonical import unb64url
from guantong.base.errors import GuantongError, Refused
from guantong.base.guest import MAX_STATEMENT_BYTES

if TYPE_CHECKING:
    from guantong.exchange.guests import Guests

__all__ = ["PATH", "guest_routes"]

PATH = "/guantong/guests"
_HEADERS = {"cache-control": "no-store"}
_JSON = "application/json"


def guest_routes(guests: Guests, participant: str) -> list[BaseRoute]:
    """The routes of a participant, relative to its root address."""

    def answering(act: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            language = "zh-CN" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"
            try:
                return Response(orjson.dumps(await act(request)), media_type=_JSON, headers=_HEADERS)
            except GuantongError as failure:
                return Response(
                    orjson.dumps(failure.problem(language)),
                    failure.status,
                    headers=_HEADERS,
                    media_type="application/problem+json",
                )

        return serve

    async def invitation(request: Request) -> dict[str, Any]:
        return await guests.invited(participant, _code(request))

    async def state(request: Request) -> dict[str, Any]:
        return await guests.state(participant, asking(request))

    async def papers(request: Request) -> dict[str, Any]:
        return await guests.papers(participant, asking(request))

    def asking(request: Request) -> str:
        """The guest whose signed question came: ``Guest <did> <question>.<signature>``, both base64url."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        did, _, token = rest.partition(" ")
        question, _, signature = token.partition(".")
        if scheme.lower() != "guest" or not signature:
            raise Refused("exchange.guest-refused", reason="it carries no signed question")
        try:
            guests.reads(participant, unb64url(question), unb64url(signature), did[:200])
        except ValueError as error:
            raise Refused("exchange.guest-refused", reason="its question is unreadable") from error
        return did

    async def statement(request: Request) -> dict[str, Any]:
        pieces = request.stream()
        head = bytearray()
        async for piece in pieces:
            head += piece
            if b"\n" in head or len(head) > MAX_STATEMENT_BYTES:
                break
        envelope, _, first = bytes(head).partition(b"\n")

        async def rest() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        return await guests.take(participant, envelope, _code(request), rest())

    return [
        Route(f"{PATH}/invitation", answering(invitation), methods=["GET"]),
        Route(f"{PATH}/state", answering(state), methods=["GET"]),
        Route(f"{PATH}/papers", answering(papers), methods=["GET"]),
        Route(f"{PATH}/statements", answering(statement), methods=["POST"]),
    ]


def _code(request: Request) -> str:
    return request.headers.get("guantong-invitation", "")[:64]
