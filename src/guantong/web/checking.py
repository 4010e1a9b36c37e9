"""The page that verifies a package in the reader's own browser: public, static, and without a way to send anything anywhere.

Whoever scans the address from a contract needs no account here. The files are those that go into every package.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guantong.prove import package

__all__ = ["POLICY", "routes"]

POLICY = "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Its script, and nothing else: no connection, no form, nothing inline (Content Security Policy Level 3)."""
_HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}


def routes() -> list[Route]:
    """``/verify`` and the script beside it."""

    async def html(_: Request) -> Response:
        return Response(package.page("verify.html"), media_type="text/html", headers=_HEADERS)

    async def script(_: Request) -> Response:
        return Response(package.page("verify.js"), media_type="text/javascript", headers=_HEADERS)

    return [Route("/verify", html), Route("/verify.js", script)]
