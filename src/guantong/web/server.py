"""The HTTP server: uvicorn on a socket of ours, inside the node's own event loop.

``httptools`` parses; the loop is whatever the process runs (uvloop where it is installed, asyncio elsewhere). Headers of proxies are
not believed and the server does not say what it is. A client that does not finish its request in time is cut off, so that slow
senders can't hold connections for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from guantong.base.errors import ConfigProblem
from guantong.web.model import WebSettings

__all__ = ["WebServer", "bind"]

_LOG = logging.getLogger("guantong.web")

CERTIFICATE_CHECK_S = 5.0
"""How often the certificate's files are looked at, seconds."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's address taken, before anything is served: port 0 takes a free one.

    Raises ConfigProblem ``web.port-in-use``.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigProblem("web.port-in-use", host=host, port=port, reason=error.strerror or str(error)) from error
    try:
        if hasattr(socket, "SO_REUSEADDR") and socket.SO_REUSEADDR and not _is_windows():
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.setblocking(False)
    except OSError as error:
        taken.close()
        raise ConfigProblem("web.port-in-use", host=host, port=port, reason=error.strerror or str(error)) from error
    return taken


def _changed_at(files: list[Path]) -> list[int]:
    found = []
    for file in files:
        try:
            found.append(file.stat().st_mtime_ns)
        except OSError:
            found.append(0)  # between the old file and the new one
    return found


def _is_windows() -> bool:
    # SO_REUSEADDR on Windows lets two processes share a port silently
    return sys.platform == "win32"


class WebServer:
    """One running server. ``port = await server.start(app, host, port)``; ``await server.stop()``."""

    def __init__(self, settings: WebSettings | None = None) -> None:
        self._settings = settings or WebSettings()
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None
        self._app: Any = None
        self.port = 0
        """The port in use, 0 before start."""

    @property
    def scheme(self) -> str:
        """``https`` with a certificate, else ``http``."""
        return "https" if self._settings.tls_certificate else "http"

    async def start(
        self, app: Any, host: str | None = None, port: int | None = None, *, taken: socket.socket | None = None
    ) -> int:
        """Listen and serve; returns the port bound. ``taken`` is a socket of :func:`bind`, for who must know the port before."""
        settings = self._settings
        bound = taken or bind(host or settings.host, settings.port if port is None else port)
        config = uvicorn.Config(
            app,
            http=_guarded_protocol(settings.request_seconds),
            ws="wsproto" if find_spec("wsproto") else "none",  # only a relay needs it
            ws_max_size=128 * 1024,
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            backlog=1024,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=5,
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
        )
        try:
            config.load()
        except OSError as error:
            bound.close()
            raise ConfigProblem(
                "web.certificate-unreadable", path=settings.tls_certificate, reason=str(error)
            ) from error
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[bound])
        self._server, self._app = server, app
        self.port = int(bound.getsockname()[1])
        self._task = asyncio.create_task(self._run(server, bound), name="web")
        return self.port

    async def _run(self, server: Any, bound: socket.socket) -> None:
        watching = asyncio.create_task(self._renew_certificate(server.config.ssl), name="web certificate")
        try:
            await server.main_loop()
        finally:
            watching.cancel()
        await server.shutdown(sockets=[bound])

    async def _renew_certificate(self, context: Any) -> None:
        """Take a renewed certificate for connections to come, without a restart; one that can't be read leaves the old one in place."""
        settings = self._settings
        files = [Path(name) for name in (settings.tls_certificate, settings.tls_key) if name]
        if context is None or not files:
            return
        known = _changed_at(files)
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK_S)
            found = _changed_at(files)
            if found == known or not all(found):
                continue
            try:
                context.load_cert_chain(settings.tls_certificate, settings.tls_key or None)
            except (OSError, ssl.SSLError) as error:
                _LOG.warning("the new certificate can't be read, the old one stays: %s", error)
            else:
                _LOG.info("a new certificate is in use")
            known = found

    async def stop(self) -> None:
        """Stop accepting, end live streams, let running requests finish (five seconds at most), close."""
        if self._task is None:
            return
        live = getattr(getattr(self._app, "state", None), "live", None)
        if live is not None:
            live.close()
        self._server.should_exit = True
        await self._task
        self._task = None
        self.port = 0


def _guarded_protocol(seconds: int) -> type[asyncio.Protocol]:
    """Uvicorn's httptools protocol with a time limit on the arrival of each request's headers."""

    class GuardedProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._arm()

        def on_message_begin(self) -> None:
            self._arm()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._disarm()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def _arm(self) -> None:
            self._disarm()
            self._deadline = self.loop.call_later(seconds, self._expire)

        def _disarm(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _expire(self) -> None:
            _LOG.info("closed a connection whose request did not arrive in %s s", seconds)
            self.transport.close()

    return GuardedProtocol
