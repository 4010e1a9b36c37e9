"""HTTP of the evidence room: the log for readers (C2SP tlog-tiles, hash tiles only) and the witness (C2SP tlog-witness).

Nobody needs to sign in for these: a checkpoint shows size and root, a hash tile salted hashes, and a witness checks the log's
signature itself. Entries are never served.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guantong.base.canonical import canonical_bytes
from guantong.base.errors import GuantongError
from guantong.base.merkle import unpack_tile_path
from guantong.prove.service import Prove

__all__ = ["routes"]

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXT = "text/plain; charset=utf-8"


def routes(prove: Prove, participant_of: Callable[[Request], str]) -> list[Route]:
    """The routes, to be mounted at a participant's prefix. ``participant_of`` tells whose prefix a request came through."""

    async def checkpoint(request: Request) -> Response:
        view = await prove.checkpoint(participant_of(request))
        if view is None:
            return Response("no checkpoint yet\n", 404, media_type=_TEXT)
        return Response(view.note, media_type=_TEXT, headers={"cache-control": "max-age=1"})

    async def tile(request: Request) -> Response:
        found = unpack_tile_path("tile/" + request.path_params["rest"])
        data = None if found is None or found.level < 0 else await prove.tile(participant_of(request), found)
        if data is None:
            return Response("no such tile\n", 404, media_type=_TEXT)
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"cache-control": "public, max-age=31536000, immutable"},
        )

    async def keys(request: Request) -> Response:
        return Response(prove.key_statement(participant_of(request)), media_type=_TEXT)

    async def key_changes(request: Request) -> Response:
        return Response(prove.key_changes.published(participant_of(request)), media_type="application/json")

    async def company(request: Request) -> Response:
        statement = prove.private_keys(participant_of(request)).company
        if statement is None:
            return Response("no company certificate\n", 404, media_type=_TEXT)
        return Response(canonical_bytes(dict(statement)), media_type="application/json")

    async def add_checkpoint(request: Request) -> Response:
        limit = prove.settings.max_request_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return Response("the request is too large\n", 413, media_type=_TEXT)
        answer = await prove.answer_witness(participant_of(request), bytes(body))
        return Response(answer.body, answer.status, headers={"content-type": answer.content_type})

    async def monitor(request: Request) -> Response:
        name = request.path_params["origin"]
        note = await prove.monitored(participant_of(request), name) if _HASH.fullmatch(name) else None
        if note is None:
            return Response("never cosigned\n", 404, media_type=_TEXT)
        return Response(note, media_type=_TEXT, headers={"cache-control": "max-age=1"})

    return [
        Route("/log/checkpoint", _told(checkpoint)),
        Route("/log/tile/{rest:path}", _told(tile)),
        Route("/log/keys", _told(keys)),
        Route("/log/company", _told(company)),
        Route("/log/key-changes", _told(key_changes)),
        Route("/witness/add-checkpoint", _told(add_checkpoint), methods=["POST"]),
        Route("/witness/{origin}/checkpoint", _told(monitor)),
    ]


def _told(endpoint: Callable) -> Callable:
    async def answer(request: Request) -> Response:
        try:
            found: Response = await endpoint(request)
        except GuantongError as error:
            return Response(f"{error.code}: {error.message()}\n", error.status, media_type=_TEXT)
        return found

    return answer
