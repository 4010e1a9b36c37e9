"""The HTTP shell: pages, their JSON twins, actions, live streams, static files, health and metrics in one Starlette application.

Every page is a row of :data:`guantong.web.pages.PAGES`, every action a row of :data:`guantong.web.actions.ACTIONS`; nothing else
answers on behalf of a person. Routes of the stages (protocols, AAS, evidence) come in as ``extra_routes`` and do their own checks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.web import checking, guest_page
from guantong.web.actions import ACTIONS, Action
from guantong.web.ask import Ask
from guantong.web.auditing import AUDITOR_MAY, AUDITOR_SEES
from guantong.web.client import is_loopback
from guantong.web.direct import Direct
from guantong.web.forms import form_fields
from guantong.web.guard import DATA_HEADERS, Guard, problem_response
from guantong.web.live import Live
from guantong.web.metrics import exposition
from guantong.web.model import LANGUAGES, Session, WebSettings
from guantong.web.openapi import document
from guantong.web.pages import PAGES, Page
from guantong.web.render import Render
from guantong.web.rooms import Rooms
from guantong.web.signin import SignIn, cookie_name
from guantong.web.texts import chosen_language

__all__ = ["create_app"]

_OPEN = frozenset({"/sign-in", "/healthz", "/readyz", "/metrics", "/api/openapi.json"})
_JSON = {"cache-control": "no-store"}
_STATIC = Path(__file__).parent / "static"
_YEAR = 365 * 24 * 3600


def create_app(
    rooms: Rooms,
    *,
    settings: WebSettings | None = None,
    language: str | None = None,
    extra_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application of one participant.

    ``app.state.sign_in`` issues links; ``app.state.live`` wakes the open pages (it already listens to records, keep and connect).
    ``extra_routes`` come before the pages.
    """
    chosen = settings or WebSettings()
    return _Shell(rooms, chosen, language or chosen.language, list(extra_routes)).app


class _App(Starlette):
    """Pages and all, with a way of their own for partners' messages."""

    def partners(self, direct: Direct, settings: WebSettings) -> None:
        self._direct = direct
        self._guarded = Guard(_endpoint, settings, lambda _: False, DATA_HEADERS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        endpoint = self._direct.find(scope) if scope["type"] == "http" else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
        else:
            scope["endpoint"] = endpoint
            await self._guarded(scope, receive, send)


async def _endpoint(scope: Any, receive: Any, send: Any) -> None:
    await scope["endpoint"](scope, receive, send)


class _Shell:
    def __init__(self, rooms: Rooms, settings: WebSettings, language: str, extra_routes: list[BaseRoute]) -> None:
        self.rooms = rooms
        self.settings = settings
        self.language = language
        self.sign_in = SignIn(rooms.records, settings)
        self.live = Live()
        self.render = Render(rooms)
        routes: list[BaseRoute] = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/sign-in", self._sign_in),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Mount("/static", _Static(directory=_STATIC), name="static"),
            Route("/favicon.ico", self._favicon),
            Route("/api/openapi.json", self._openapi),
            *checking.routes(),
            *guest_page.routes(self.render.guest, self._language, self._remember),
        ]
        routes += extra_routes
        for action in ACTIONS:
            routes.append(Route("/api" + action.path, self._act(action, json=True), methods=["POST"]))
            routes.append(Route(action.path, self._act(action, json=False), methods=["POST"]))
        for page in PAGES:
            if page.live:
                routes.append(Route("/live" + page.path, self._stream(page)))
        for page in PAGES:
            routes.append(Route("/api" + page.path, self._twin(page)))
            if page.path == "/":
                routes.append(Route("/api", self._twin(page)))
            routes.append(Route(page.path, self._page(page)))
        most = settings.max_form_bytes
        self._large = {"/evidence/verify"} | {
            action.path for action in ACTIONS if any(field.limit > most for field in action.fields)
        }
        self._page_paths = re.compile("|".join(f"(?:{_pattern(page.path)})" for page in PAGES))
        self._extra = extra_routes
        self.app = _App(
            routes=routes,
            middleware=[Middleware(Guard, settings=settings, is_small=self._is_small)],
            exception_handlers={GuantongError: self._failed, HTTPException: self._failed_http},
        )
        self.app.partners(Direct(extra_routes), settings)
        self.app.state.sign_in = self.sign_in
        self.app.state.live = self.live
        rooms.records.on_commit(self.live.wake)
        rooms.keep.on_append(self.live.wake)
        rooms.connect.on_change(self.live.wake)

    # ---- who asks, and in which language

    def _is_small(self, path: str) -> bool:
        """Whether only a form's worth of bytes is taken; a package to verify or a table of debts may be larger."""
        return self._is_ours(path) and path.removeprefix("/api") not in self._large

    def _is_ours(self, path: str) -> bool:
        return (
            path.startswith(("/api/", "/live/"))
            or path in ("/sign-in", "/sign-out")
            or bool(self._page_paths.fullmatch(path))
        )

    def _language(self, request: Request) -> str:
        return chosen_language(
            request.query_params.get("lang"),
            request.cookies.get("guantong-lang"),
            request.headers.get("accept-language", ""),
            self.language,
        )

    def _cookie(self, request: Request) -> str | None:
        return request.cookies.get(cookie_name(self.rooms.participant, secure=request.url.scheme == "https"))

    async def _session(self, request: Request, *, sees: str = "", takes: str = "") -> Session:
        found = await self.sign_in.session(self.rooms.participant, self._cookie(request))
        if found is None:
            raise Refused("web.not-signed-in")
        if found.role != "owner" and ((sees and sees not in AUDITOR_SEES) or (takes and takes not in AUDITOR_MAY)):
            raise Refused("web.read-only")
        return found

    # ---- answers

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            session = await self._session(request, sees=page.name)
            data = await page.loader(self.rooms, _ask(request))
            language = self._language(request)
            html = await self.render.page(page, data, language=language, session=session, url=request.url)
            response = Response(
                html, media_type="text/html", headers={"cache-control": "no-store", "vary": "Cookie, Accept-Language"}
            )
            self._remember(request, response, language)
            return response

        return answer

    def _remember(self, request: Request, response: Response, language: str) -> None:
        if request.query_params.get("lang") and language in LANGUAGES:
            response.set_cookie(
                "guantong-lang",
                language,
                max_age=_YEAR,
                samesite="strict",
                secure=request.url.scheme == "https",
                httponly=True,
            )

    def _twin(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            await self._session(request, sees=page.name)
            return _json(await page.loader(self.rooms, _ask(request)))

        return answer

    def _act(self, action: Action, *, json: bool) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            session = await self._session(request, takes=action.path)
            given, token = await _given(request)
            self.sign_in.check(session, token, request.headers.get("origin"), request.headers.get("host", ""))
            result = await action.run(self.rooms, Ask(_texts(request.path_params), given))
            if isinstance(result, bytes):
                return Response(
                    result,
                    media_type="application/zip",
                    headers={"content-disposition": 'attachment; filename="guantong-evidence.zip"'},
                )
            if json:
                return _json(result)
            if action.fragment and request.headers.get("hx-request") == "true":
                html = self.render.fragment(action.fragment, result, language=self._language(request), session=session)
                return Response(html, media_type="text/html", headers=_JSON)
            if action.fragment:
                page_html = await self.render.bare(
                    action.fragment, result, language=self._language(request), session=session, url=request.url
                )
                return Response(page_html, media_type="text/html", headers=_JSON)
            return RedirectResponse(str(result.get("next") or "/"), status_code=303)

        return answer

    def _stream(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            session = await self._session(request, sees=page.name)
            watcher = self.live.watch()
            if watcher is None:
                return Response(status_code=204)  # tells the browser to stop asking
            language, ask = self._language(request), _ask(request)

            async def events() -> AsyncIterator[bytes]:
                last = ""
                try:
                    while not watcher.ended and self.rooms.records.clock.now() < session.expires_at:
                        data = await page.loader(self.rooms, ask)
                        html = self.render.live(page, data, language=language, session=session)
                        if html != last:
                            last = html
                            lines = "\n".join(f"data: {line}" for line in html.splitlines())
                            yield f"event: live\n{lines}\n\n".encode()
                        pause = asyncio.create_task(asyncio.sleep(1.0))
                        try:
                            while not watcher.ended and not await watcher.changed(15.0):
                                yield b": still here\n\n"
                            await pause
                        finally:
                            pause.cancel()
                finally:
                    watcher.leave()

            return StreamingResponse(
                events(),
                media_type="text/event-stream",
                headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            )

        return answer

    # ---- sign-in

    async def _sign_in(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        secret = await self.sign_in.redeem(self.rooms.participant, token[:128], replaces=self._cookie(request))
        secure = request.url.scheme == "https"
        # an answer of our own instead of a redirect: a Strict cookie would not travel on a redirect that began on another site
        html = self.render.signed_in(self._language(request))
        response = Response(html, media_type="text/html", headers=_JSON)
        response.headers.append("set-cookie", self.sign_in.cookie(self.rooms.participant, secret, secure=secure))
        return response

    async def _sign_out(self, request: Request) -> Response:
        session = await self._session(request)
        _, token = await _given(request)
        self.sign_in.check(session, token, request.headers.get("origin"), request.headers.get("host", ""))
        await self.sign_in.sign_out(self.rooms.participant, self._cookie(request) or "")
        html = self.render.error(Refused("web.not-signed-in"), self._language(request), signed_in=False)
        response = Response(html, media_type="text/html", headers=_JSON)
        secure = request.url.scheme == "https"
        response.headers.append("set-cookie", self.sign_in.cookie(self.rooms.participant, "", secure=secure))
        return response

    # ---- machines that look after the node

    async def _healthz(self, _: Request) -> Response:
        return _json({"status": "up"})

    async def _readyz(self, _: Request) -> Response:
        failed = sorted(name for name, task in self.rooms.health().items() if task.get("state") == "failed")
        return _json({"status": "not-ready" if failed else "ready", "failed": failed}, 503 if failed else 200)

    async def _metrics(self, request: Request) -> Response:
        # counts say much about a business: without a sign-in they are for collectors on this machine only
        if request.client is None or not is_loopback(request.client.host):
            await self._session(request)
        text = await exposition(self.rooms, len(self.live.watchers))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8", headers=_JSON)

    async def _openapi(self, _: Request) -> Response:
        return _json(document(self.rooms, self._extra))

    async def _favicon(self, _: Request) -> Response:
        return RedirectResponse("/static/favicon.svg", status_code=308)

    # ---- errors

    async def _failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, GuantongError)
        language = self._language(request)
        path = request.url.path
        as_page = (self._is_ours(path) or not self._is_extra(path)) and not path.startswith(("/api/", "/live/"))
        if as_page and "text/html" in request.headers.get("accept", ""):
            signed_in = await self.sign_in.session(self.rooms.participant, self._cookie(request)) is not None
            html = self.render.error(error, language, signed_in=signed_in)
            return Response(html, error.status, media_type="text/html", headers=_JSON)
        status, headers, body = problem_response(error, language)
        return Response(body, status, headers=headers)

    async def _failed_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return await self._failed(request, Refused("web.not-found", path=request.url.path[:200]))
        if error.status_code == 405:
            method = request.method[:16]
            return await self._failed(
                request, Refused("web.method-not-allowed", path=request.url.path[:200], method=method)
            )
        return Response(error.detail, error.status_code, headers=error.headers)

    def _is_extra(self, path: str) -> bool:
        return any(path.startswith(getattr(route, "path", "\0").split("{")[0] or "\0") for route in self._extra)


class _Static(StaticFiles):
    """Static files. A request that names the content's hash may be kept for ever."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        marked = b"v=" in scope.get("query_string", b"")
        response.headers["cache-control"] = f"public, max-age={_YEAR}, immutable" if marked else "no-cache"
        return response


def _pattern(path: str) -> str:
    return re.sub(
        r"\\\{\w+:int\\\}",
        "[0-9]+",
        re.sub(r"\\\{\w+:path\\\}", ".+", re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))),
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _ask(request: Request) -> Ask:
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items()[:100]:
        # a name that is given again, as by ticked boxes, is a list
        query[name] = (f"{query[name]},{value}" if name in query else value)[:1000]
    return Ask(_texts(request.path_params), query)


async def _given(request: Request) -> tuple[dict[str, Any], str | None]:
    """Fields of a form or of a JSON object, and the token that came with them."""
    token = request.headers.get("x-csrf-token")
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = orjson.loads(await request.body() or b"{}")
        except orjson.JSONDecodeError as error:
            raise Skippable("web.field-missing", field="body", reason="not JSON") from error
        if not isinstance(body, dict):
            raise Skippable("web.field-missing", field="body", reason="not a JSON object")
        return body, token
    given: dict[str, Any] = {}
    for name, value in form_fields(request.headers.get("content-type", ""), await request.body()):
        if name == "_csrf":
            token = token or (value if isinstance(value, str) else None)
        elif name in given:
            given[name] = [*(given[name] if isinstance(given[name], list) else [given[name]]), value]
        else:
            given[name] = value
    return given, token


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, media_type="application/json", headers=_JSON
    )
