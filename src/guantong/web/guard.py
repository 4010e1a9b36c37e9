"""The outermost ring around every request: limits on what comes in, security headers on what goes out, and no traceback to anyone.

Source: OWASP Secure Headers Project; RFC 9457 (problem documents); W3C Content Security Policy Level 3.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from guantong.base.errors import Corrupt, GuantongError, Retryable, Skippable
from guantong.web.model import WebSettings

__all__ = ["DATA_HEADERS", "PAGE_HEADERS", "POLICY", "Guard", "problem_response"]

_LOG = logging.getLogger("guantong.web")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Scripts and styles from this origin's files only: none inline, none from elsewhere, nothing evaluated."""

PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}

DATA_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""For answers that no browser shows: whoever opens one nevertheless runs nothing of it."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def problem_response(error: GuantongError, language: str = "en") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an RFC 9457 problem document."""
    headers = {"content-type": "application/problem+json", "content-language": language, "cache-control": "no-store"}
    if error.status == 401:
        headers["www-authenticate"] = 'Session realm="guantong"'
    return error.status, headers, orjson.dumps(error.problem(language))


class Guard:
    """ASGI middleware."""

    def __init__(
        self,
        app: App,
        settings: WebSettings,
        is_small: Callable[[str], bool],
        headers: Mapping[str, str] = PAGE_HEADERS,
    ) -> None:
        self._app = app
        self._headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        self._settings = settings
        self._is_small = is_small

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        secure = scope.get("scheme") == "https"

        async def guarded_send(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", ()))
                given = {name for name, _ in headers}
                headers += [pair for pair in self._headers if pair[0] not in given]
                if secure and _HSTS[0] not in given:
                    headers.append(_HSTS)
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, self._limited(scope, receive), guarded_send)
        except GuantongError as error:
            if started:
                _LOG.warning("%s %s broke off: %s", scope["method"], scope["path"], error)
                raise
            await _answer(error, guarded_send)
        except Exception:
            reference = secrets.token_hex(4)
            _LOG.exception("%s %s failed (reference %s)", scope["method"], scope["path"], reference)
            if started:
                raise
            await _answer(Corrupt("web.internal", reference=reference), guarded_send)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        settings = self._settings
        limit = settings.max_form_bytes if self._is_small(scope["path"]) else settings.max_body_bytes
        if "/inbox/" in scope["path"]:
            limit = 2**63  # a push may be of any length; its token is checked before a byte of it is read
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        too_large = declared.isdigit() and int(declared) > limit
        taken = 0
        complete = False

        async def limited() -> dict[str, Any]:
            nonlocal taken, complete
            if too_large:
                raise Skippable("web.body-too-large", limit=limit)
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(settings.request_seconds):
                    message = await receive()
            except TimeoutError as error:
                raise Retryable("web.body-too-slow", seconds=settings.request_seconds) from error
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if taken > limit:
                    raise Skippable("web.body-too-large", limit=limit)
            return message

        return limited


async def _answer(error: GuantongError, send: Send) -> None:
    status, headers, body = problem_response(error)
    headers["content-length"] = str(len(body))
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
