"""Endpoints of Data Plane Signaling below ``/signaling``: of a data plane for its control plane, or of a control plane for data planes.

Which of them a node has, the setting ``control_plane`` says; without a shared key it has none.
Source: Data Plane Signaling 1.0, Data Plane Endpoint, Control Plane Endpoint, Registration.
"""

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
    """The routes of a participant, relative to its root address."""
    flows, planes, settings = exchange.flows, exchange.planes, exchange.settings

    def endpoint(allow: Callable[[str], None], act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            try:
                allow(request.headers.get("authorization", ""))
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

    def route(allow: Callable[[str], None], method: str, path: str, act: Act) -> Route:
        return Route(f"/signaling{path}", endpoint(allow, act), methods=[method])

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

    async def take_control_plane(request: Request, body: dict[str, Any]) -> Response:
        await flows.take_control_plane(participant, body)
        return _json({})

    async def leave_control_plane(request: Request, body: dict[str, Any]) -> Response:
        await flows.leave_control_plane(participant, request.path_params["id"])
        return Response(status_code=204)

    async def take_plane(request: Request, body: dict[str, Any]) -> Response:
        await planes.register(participant, body)
        return _json({})

    async def leave_plane(request: Request, body: dict[str, Any]) -> Response:
        await planes.remove(participant, request.path_params["id"])
        return Response(status_code=204)

    async def callback(request: Request, body: dict[str, Any]) -> Response:
        await planes.callback(participant, request.path_params["pid"], request.path_params["what"], body)
        return _json({})

    async def agreement(request: Request, body: dict[str, Any]) -> Response:
        return _json(await planes.agreement(participant, request.path_params["pid"]))

    if settings.control_plane:
        return [
            route(flows.allow, "POST", "/dataflows/prepare", prepare),
            route(flows.allow, "POST", "/dataflows/start", start),
            route(flows.allow, "GET", "/dataflows/{id}/status", status),
            route(flows.allow, "POST", "/dataflows/{id}/{signal}", signal),
            route(flows.allow, "PUT", "/controlplanes", take_control_plane),
            route(flows.allow, "DELETE", "/controlplanes/{id:path}", leave_control_plane),
        ]
    if settings.signaling_key:
        return [
            route(planes.allow, "PUT", "/dataplanes", take_plane),
            route(planes.allow, "DELETE", "/dataplanes/{id:path}", leave_plane),
            route(planes.allow, "POST", "/transfers/{pid}/dataflow/{what}", callback),
            route(planes.allow, "GET", "/transfers/{pid}/agreement", agreement),
        ]
    return []


def _begun(status: int, body: dict[str, Any]) -> Response:
    answer = _json(body, status)
    if status == 202:
        answer.headers["location"] = f"/dataflows/{body['dataFlowId']}/status"
    return answer


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
