"""The door for webhooks: ``POST /connect/hooks/<source>`` with ``Authorization: Bearer <token>`` and a JSON body."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from guantong.base.errors import Refused, Skippable
from guantong.connect.webhook import Hooks

__all__ = ["routes"]


def routes(hooks: Hooks, participant: str, *, limit: int) -> list[Route]:
    """The route of one participant's webhooks; ``limit``: most bytes of a body."""

    async def receive(request: Request) -> JSONResponse:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        source = str(request.path_params["source"])
        if scheme.lower() != "bearer" or not token:
            raise Refused("connect.token-refused", source=source[:100])
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise Skippable("connect.document-too-large", name=source, size=len(body), limit=limit)
        taken = await hooks.post(participant, source, token.strip(), bytes(body))
        return JSONResponse({"readings": taken}, status_code=202)

    return [Route("/connect/hooks/{source:path}", receive, methods=["POST"])]
