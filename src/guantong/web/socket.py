"""Connections for whole messages both ways (RFC 6455), opened through the guarded client: aiohttp behind ``base.wire.Socket``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from guantong.base.errors import Refused, Retryable
from guantong.base.wire import Dial
from guantong.web.client import AiohttpClient

__all__ = ["dial_with"]

_MOST_BYTES = 128 * 1024
_OPEN_S = 10.0


def dial_with(client: AiohttpClient) -> Dial:
    """Opens connections to partners by the client's own rules: addresses checked, redirects never followed."""

    @contextlib.asynccontextmanager
    async def dial(url: str, headers: Mapping[str, str]) -> AsyncIterator[_Socket]:
        guarded = client.session(url, "partner")
        watch = aiohttp.TraceConfig()
        watch.on_request_redirect.append(_redirected)
        async with aiohttp.ClientSession(
            connector=guarded.connector, connector_owner=False, trace_configs=[watch], trust_env=False
        ) as session:
            try:
                opened = await session.ws_connect(
                    url,
                    headers=dict(headers),
                    max_msg_size=_MOST_BYTES,
                    heartbeat=25.0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                    autoping=True,
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status in (401, 403):
                    raise Refused("exchange.relay-refused", reason=f"it answered {error.status}") from error
                raise Retryable("web.unreachable", url=url[:200], reason=f"it answered {error.status}") from error
            except (aiohttp.ClientError, OSError) as error:
                raise Retryable("web.unreachable", url=url[:200], reason=str(error)[:200]) from error
            try:
                yield _Socket(opened)
            finally:
                await opened.close()

    def open_it(url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Any]:
        return dial(url, headers)

    return open_it


async def _redirected(_: Any, __: Any, params: Any) -> None:
    raise Refused("web.address-refused", url=str(params.url)[:200], reason="a redirect", zone="partner")


class _Socket:
    def __init__(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self._opened = opened

    async def send(self, message: bytes) -> None:
        try:
            await self._opened.send_bytes(message)
        except (aiohttp.ClientError, RuntimeError) as error:
            raise OSError("the connection has ended") from error

    async def receive(self) -> bytes | None:
        found = await self._opened.receive()
        if found.type == aiohttp.WSMsgType.BINARY:
            return bytes(found.data)
        if found.type == aiohttp.WSMsgType.TEXT:
            return b""  # no frame: whoever reads it ends the connection
        return None

    async def close(self) -> None:
        await self._opened.close()
