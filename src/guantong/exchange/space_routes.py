"""Endpoints of a space: what a link offers, joining with it, and the list of members for members; a page for who opens a link in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from guantong.base.errors import GuantongError
from guantong.exchange.messages import decode
from guantong.exchange.model import Participant
from guantong.exchange.serving import Answer, Asked, Endpoint
from guantong.exchange.space import PATH

if TYPE_CHECKING:
    from guantong.exchange.service import Exchange

__all__ = ["space_routes"]

_JSON = "application/json"
_LIMIT = 64 * 1024
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>guantong 贯通</title></head><body><h1>guantong</h1>
<p>This is an invitation to a data space. Copy the whole address of this page, with what stands behind the #, and run on the PC of your node:</p>
<pre>guantong space join "ADDRESS"</pre>
<p lang="zh-CN">这是加入数据空间的邀请。请复制本页完整地址（包括 # 之后的部分），在您的节点所在电脑上运行：</p>
<pre>guantong space join "地址"</pre></body></html>"""

Act = Callable[[Asked, dict[str, Any]], Awaitable[Answer]]


def space_routes(exchange: Exchange, participant: str) -> list[BaseRoute]:
    """The routes of a participant, relative to its root address. Who joins has no credential yet: its identity token is enough."""
    spaces, hosting = exchange.spaces, exchange.hosting

    def endpoint(act: Act) -> Endpoint:
        async def serve(request: Asked) -> Answer:
            try:
                body: dict[str, Any] = {}
                if request.method == "POST":
                    body = decode(await _body(request), limit=_LIMIT, depth=8)
                return await act(request, body)
            except GuantongError as failure:
                return Answer(orjson.dumps(failure.problem()), failure.status, media_type="application/problem+json")

        serve.__name__, serve.__doc__ = act.__name__, act.__doc__
        return Endpoint(serve)

    async def caller_of(request: Asked) -> Participant:
        return await hosting.tokens.identify(participant, request.headers.get("authorization", ""))

    async def offer(request: Asked, body: dict[str, Any]) -> Answer:
        """What a link offers."""
        return _json(await spaces.offered(participant, str(body.get("code", "")), str(body.get("kind", ""))))

    async def join(request: Asked, body: dict[str, Any]) -> Answer:
        """Become a member with a link."""
        return _json(await spaces.admit(participant, await caller_of(request), body))

    async def members(request: Asked, body: dict[str, Any]) -> Answer:
        """Who is a member, told to members."""
        caller = await exchange.identify(participant, request.headers.get("authorization", ""))
        spaces.own(participant)
        found = spaces.listed(participant, await spaces.members(participant))
        await exchange.remember(participant, caller)
        known = {one["did"] for one in found}
        return _json({"members": found if caller.did in known else []})

    async def page(request: Asked) -> Answer:
        """What to do with the link."""
        return Answer(_PAGE.encode(), media_type="text/html; charset=utf-8")

    async def relay_claim(request: Asked, body: dict[str, Any]) -> Answer:
        """Have a document hosted, and requests relayed."""
        return _json(await exchange.relay.claim(participant, body))

    async def relayed_did(request: Asked, body: dict[str, Any]) -> Answer:
        """The DID document of a company behind the relay."""
        found = exchange.relay.document(participant, request.path_params["name"])
        return Answer(orjson.dumps(found), media_type="application/did+json")

    async def relayed(request: Asked) -> Answer:
        """What a company behind the relay answers."""
        try:
            return await exchange.relay.forward(participant, request)
        except GuantongError as failure:
            again = {"retry-after": "5"} if failure.status == 503 else None
            return Answer(
                orjson.dumps(failure.problem()), failure.status, headers=again, media_type="application/problem+json"
            )

    async def relay_link(socket: WebSocket) -> None:
        name = socket.path_params["name"]
        try:
            await exchange.relay.may_connect(participant, name, socket.headers.get("authorization", ""))
        except GuantongError:
            await socket.close(1008)  # before it is accepted: the answer is 403
            return
        await socket.accept()
        await exchange.relay.serve(participant, name, _Socket(socket))

    return [
        Route(f"{PATH}/relay", endpoint(relay_claim), methods=["POST"]),
        WebSocketRoute(f"{PATH}/relay/{{name}}", relay_link),
        Route("/p/{name}/did.json", endpoint(relayed_did), methods=["GET"]),
        Route("/p/{name}/{path:path}", Endpoint(relayed), methods=["GET", "POST", "PUT", "DELETE"]),
        Route(f"{PATH}/join", Endpoint(page), methods=["GET"]),
        Route(f"{PATH}/join", endpoint(join), methods=["POST"]),
        Route(f"{PATH}/offer", endpoint(offer), methods=["POST"]),
        Route(f"{PATH}/members", endpoint(members), methods=["GET"]),
    ]


class _Socket:
    """``base.wire.Socket`` over Starlette's."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError) as error:  # the framework's word for: it has ended
            raise OSError("the connection has ended") from error

    async def receive(self) -> bytes | None:
        try:
            found = await self._socket.receive()
        except RuntimeError:
            return None
        if found["type"] == "websocket.disconnect":
            return None
        return found.get("bytes") or b""

    async def close(self) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # closed already, by either side
            await self._socket.close()


async def _body(request: Asked) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _LIMIT:
            break  # too long by now; decode says so
    return bytes(found)


def _json(body: dict[str, Any]) -> Answer:
    return Answer(orjson.dumps(body), media_type=_JSON, headers={"cache-control": "no-store"})
