"""Endpoints of a data plane for its control plane, below ``/signaling``. Source: Data Plane Signaling 1.0, Data Plane Endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from guantong.base.errors import GuantongError, Refused
from guantong.exchange.messages import decode

if TYPE_CHECKING:
    from guantong.exchange.service import Exchange

__all__ = ["signaling_routes"]

Act = Callable[[Request, dict[str, Any]], Awaitable[Response]]


def signaling_routes(exchange: Exchange, participant: str) -> list[BaseRoute]:
    """The routes of a participant, relative to its root address; none where no control plane is set."""
    flows, settings = exchange.flows, exchange.settings
    if not settings.control_plane:
        return []

    def endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            try:
                flows.allow(request.headers.get("authorization", ""))
                body: dict[str, Any] = {}
                if request.method in ("POST", "PUT"):
                    raw = bytearray()
                    async for part in request.stream():
                        raw += part
                        if len(raw) > settings.body_limit:
                            raise Refused("exchange.message-too-large", limit=f"{settings.body_limit} bytes")
                    # some signals come without a body
                    body = decode(bytes(raw) or b"{}", limit=settings.body_limit, depth=settings.depth_limit)
                return await act(request, body)
            except GuantongError as failure:
                return Response(orjson.dumps(failure.problem()), failure.status, media_type="application/problem+json")

        return serve

    async def prepare(request: Request, body: dict[str, Any]) -> Response:
        return _begun(*await flows.prepare(participant, body))

    async def start(request: Request, body: dict[str, Any]) -> Response:
        return _begun(*await flows.start(participant, body))

    async def signal(request: Request, body: dict[str, Any]) -> Response:
        name = request.path_params["signal"]
        if name not in ("started", "suspend", "resume", "completed", "terminate"):
            raise Refused("exchange.message-invalid", message=name[:60], reason="there is no such signal")
        return _json(await flows.signal(participant, request.path_params["id"], name, body))

    async def status(request: Request, body: dict[str, Any]) -> Response:
        return _json(await flows.status(participant, request.path_params["id"]))

    return [
        Route("/signaling/dataflows/prepare", endpoint(prepare), methods=["POST"]),
        Route("/signaling/dataflows/start", endpoint(start), methods=["POST"]),
        Route("/signaling/dataflows/{id}/status", endpoint(status), methods=["GET"]),
        Route("/signaling/dataflows/{id}/{signal}", endpoint(signal), methods=["POST"]),
    ]


def _begun(status: int, body: dict[str, Any]) -> Response:
    answer = _json(body, status)
    if status == 202:
        answer.headers["location"] = f"/dataflows/{body['dataFlowId']}/status"
    return answer


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
