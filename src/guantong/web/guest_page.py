"""The page of a guest: a supplier without a node opens its link in a browser and acts from there, with a key that the page makes.

The page is the same for everybody and carries no session: what it shows and does is asked for with signatures (exchange/guest_routes.py).
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["PATH", "routes"]

PATH = "/space/guest"
_HEADERS = {"cache-control": "no-cache", "vary": "Cookie, Accept-Language", "referrer-policy": "no-referrer"}


def routes(
    draw: Callable[[str], str],
    language: Callable[[Request], str],
    remember: Callable[[Request, Response, str], None],
) -> list[Route]:
    """``draw(language)`` gives the page's HTML; ``remember`` keeps a language that was chosen."""

    async def page(request: Request) -> Response:
        chosen = language(request)
        response = Response(draw(chosen), media_type="text/html", headers=_HEADERS)
        remember(request, response, chosen)
        return response

    return [Route(PATH, page)]
