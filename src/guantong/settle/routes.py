"""The partner extension ``POST /guantong/invoices``: a signed invoice in, our verdict with our own signature out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from guantong.base.errors import GuantongError, Skippable
from guantong.exchange.model import Participant
from guantong.exchange.ports import Identify
from guantong.settle.model import MAX_INVOICE_BYTES
from guantong.settle.service import PATH, Settle

__all__ = ["routes"]

Remember = Callable[[str, Participant], Awaitable[None]]
"""``Exchange.remember``."""


def routes(settle: Settle, participant: str, identify: Identify, remember: Remember | None = None) -> list[BaseRoute]:
    """Routes of a hosted participant, relative to its root address. identify: exchange's check of the ``Authorization`` header;
    remember: its note that the caller's token was used, which is durable before the answer leaves.
    """

    async def take(request: Request) -> Response:
        try:
            caller = await identify(participant, request.headers.get("authorization", ""))
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_INVOICE_BYTES:
                    raise Skippable("settle.invoice-unusable", reason=f"it is longer than {MAX_INVOICE_BYTES} bytes")
            try:
                document = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Skippable("settle.invoice-unusable", reason="it is not JSON") from error
            if not isinstance(document, dict):
                raise Skippable("settle.invoice-unusable", reason="it is not a JSON object")
            answer = await settle.receive(participant, caller.did, document)
            if remember is not None:
                await remember(participant, caller)
            return JSONResponse(answer)
        except GuantongError as error:
            language = "zh" if request.headers.get("accept-language", "").startswith("zh") else "en"
            return JSONResponse(error.problem(language), error.status, media_type="application/problem+json")

    return [Route(PATH, take, methods=["POST"])]
