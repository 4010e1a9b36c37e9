"""The partner extension ``POST /guantong/invoices``: a signed invoice in, our verdict with our own signature out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from guantong.base.errors import GuantongError, Skippable
from guantong.settle.model import MAX_INVOICE_BYTES
from guantong.settle.service import PATH, Settle

__all__ = ["Callers", "routes"]

Callers = Callable[[Request], Awaitable[tuple[str, str]]]
"""Request to (participant addressed, verified DID of the caller); exchange's identity check. Raises Refused where there is none."""


def routes(settle: Settle, callers: Callers, *, prefix: str = "") -> list[Route]:
    """Routes to mount; ``prefix`` is the participant's path where a node serves several (``/p/{participant}``)."""

    async def take(request: Request) -> Response:
        try:
            participant, partner = await callers(request)
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
            return JSONResponse(await settle.receive(participant, partner, document))
        except GuantongError as error:
            language = "zh" if request.headers.get("accept-language", "").startswith("zh") else "en"
            return JSONResponse(error.problem(language), error.status, media_type="application/problem+json")

    return [Route(prefix + PATH, take, methods=["POST"])]
