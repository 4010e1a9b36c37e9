"""Endpoints of the Decentralized Claims Protocol 1.0: the credential service of every participant, the issuer service of those who issue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from guantong.base.errors import GuantongError, Refused
from guantong.exchange.identity import CLAIMS_PATH, ISSUER_PATH
from guantong.exchange.messages import decode
from guantong.exchange.model import Participant

if TYPE_CHECKING:
    from guantong.exchange.service import Exchange

__all__ = ["claims_routes"]

_JSON = "application/json"
Act = Callable[[Participant, dict[str, Any], Request], Awaitable[Response]]


def claims_routes(exchange: Exchange, participant: str) -> list[BaseRoute]:
    """The routes of a participant, relative to its root address.

    Callers are known by their identity tokens alone: who asks for a credential has none to show yet.
    """
    hosting, wallet, issuer = exchange.hosting, exchange.wallet, exchange.issuer

    def endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            try:
                caller = await hosting.tokens.identify(participant, request.headers.get("authorization", ""))
                body: dict[str, Any] = {}
                if request.method == "POST":
                    body = decode(
                        await _body(request), limit=hosting.settings.body_limit, depth=hosting.settings.depth_limit
                    )
                return await act(caller, body, request)
            except GuantongError as failure:
                headers = {"www-authenticate": "Bearer"} if failure.status == 401 else None
                return Response(
                    orjson.dumps(failure.problem()),
                    failure.status,
                    headers=headers,
                    media_type="application/problem+json",
                )

        return serve

    async def _body(request: Request) -> bytes:
        found = bytearray()
        async for part in request.stream():
            found += part
            if len(found) > hosting.settings.body_limit:
                raise Refused("exchange.message-too-large", limit=f"{hosting.settings.body_limit} bytes")
        return bytes(found)

    async def present(caller: Participant, body: dict[str, Any], request: Request) -> Response:
        answer = await wallet.present(participant, caller, body)
        await exchange.remember(participant, caller)
        return _json(answer)

    async def store(caller: Participant, body: dict[str, Any], request: Request) -> Response:
        await wallet.store(participant, caller, body)
        return Response(status_code=200)

    async def offer(caller: Participant, body: dict[str, Any], request: Request) -> Response:
        await wallet.offered(participant, caller, body)
        return Response(status_code=200)

    async def ask(caller: Participant, body: dict[str, Any], request: Request) -> Response:
        pid = await issuer.request(participant, caller, body)
        return Response(
            status_code=201, headers={"location": f"{hosting.hosted(participant).address}{ISSUER_PATH}/requests/{pid}"}
        )

    async def stands(caller: Participant, body: dict[str, Any], request: Request) -> Response:
        answer = await issuer.status(participant, caller, request.path_params["pid"])
        await exchange.remember(participant, caller)
        return _json(answer)

    async def metadata(request: Request) -> Response:
        return _json(issuer.metadata(participant))

    async def status(request: Request) -> Response:
        return _json(await issuer.status_list(participant))

    found: list[BaseRoute] = [
        Route(f"{CLAIMS_PATH}/presentations/query", endpoint(present), methods=["POST"]),
        Route(f"{CLAIMS_PATH}/credentials", endpoint(store), methods=["POST"]),
        Route(f"{CLAIMS_PATH}/offers", endpoint(offer), methods=["POST"]),
        Route(f"{ISSUER_PATH}/metadata", metadata, methods=["GET"]),
        Route(f"{ISSUER_PATH}/status", status, methods=["GET"]),
        Route(f"{ISSUER_PATH}/credentials", endpoint(ask), methods=["POST"]),
        Route(f"{ISSUER_PATH}/requests/{{pid}}", endpoint(stands), methods=["GET"]),
    ]
    return found


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=_JSON)
