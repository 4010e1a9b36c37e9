"""The HTTP client of the node: aiohttp behind ``base.wire.Http``, with a guard over every address it connects to.

An address is resolved once, checked, and then connected to; nothing resolves it again in between, so a name that answers
differently the second time (DNS rebinding) gains nothing. Two lists decide: *partner* (public addresses, other participants) and
*plant* (private and loopback addresses, machines). Redirects are never followed: a redirect would carry a request past the check.

Source: OWASP Server-Side Request Forgery Prevention Cheat Sheet; IANA IPv4 and IPv6 special-purpose address registries.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from guantong.base.errors import GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Response, Stream
from guantong.web.model import WebSettings

__all__ = ["AddressGuard", "AiohttpClient", "is_loopback"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PLANT = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
)
"""RFC 1918, RFC 4193 and loopback. Link-local is not among them: cloud metadata services live there."""


def _unwrapped(address: IpAddress) -> IpAddress:
    """The IPv4 address inside an IPv4-mapped, 6to4 or NAT64 address, for the list must not be passed in disguise."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own loopback, without asking any resolver."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return _unwrapped(ipaddress.ip_address(host.strip("[]"))).is_loopback
    except ValueError:
        return False


class AddressGuard:
    """The two allow-lists. Pure: it is given addresses and answers."""

    def __init__(self, settings: WebSettings) -> None:
        self._loopback_partners = settings.partner_loopback or is_loopback(settings.host)
        self._partner: tuple[IpNetwork, ...] = tuple(ipaddress.ip_network(text) for text in settings.partner_networks)
        self._plant: tuple[IpNetwork, ...] = PLANT + tuple(
            ipaddress.ip_network(text) for text in settings.plant_networks
        )
        self._plain = {"partner": settings.partner_plain_http, "plant": settings.plant_plain_http}

    def allows(self, address: str, zone: str, *, plain: bool) -> bool:
        """Whether a connection to the address may be made in the zone; ``plain`` means without TLS."""
        try:
            found = _unwrapped(ipaddress.ip_address(address.split("%", 1)[0]))
        except ValueError:
            return False
        if plain and not found.is_loopback and not self._plain.get(zone, False):
            return False
        if zone == "plant":
            return _within(found, self._plant)
        if zone != "partner":
            return False
        if found.is_loopback:
            return self._loopback_partners
        return _within(found, self._partner) or (found.is_global and not found.is_multicast)


def _within(address: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class AiohttpClient:
    """The client. Make it anywhere, use it on one event loop, close it with :meth:`close`.

    Raises Retryable ``web.unreachable``, Refused ``web.address-refused`` or ``web.certificate-refused``, Skippable
    ``web.answer-too-large``.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings)
        self._sessions: dict[tuple[str, bool], aiohttp.ClientSession] = {}
        self._allowed: dict[tuple[str, str], bool] = {}

    async def close(self) -> None:
        """Close every connection."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        max_bytes: int = 16 * 1024 * 1024,
        zone: str = "partner",
    ) -> Response:
        """Send and read the whole answer."""
        session = self._session(zone, plain=self._check(url, zone))
        answer: aiohttp.ClientResponse | None = None
        try:
            answer = await session.request(
                method, url, data=_data(body), headers=headers, timeout=_whole(timeout_s), allow_redirects=False
            )
            if (answer.content_length or 0) > max_bytes:
                raise Skippable("web.answer-too-large", url=url, limit=max_bytes)
            pieces: list[bytes] = []
            size = 0
            async for piece in answer.content.iter_any():
                size += len(piece)
                if size > max_bytes:
                    raise Skippable("web.answer-too-large", url=url, limit=max_bytes)
                pieces.append(piece)
        except Exception as error:
            ours = _ours(url, error)
            if ours is None:
                raise
            raise ours from error
        finally:
            if answer is not None:
                answer.release()  # closes the connection too where the body was not read to its end
        return Response(answer.status, pieces[0] if len(pieces) == 1 else b"".join(pieces), _headers(answer))

    def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        zone: str = "partner",
    ) -> AbstractAsyncContextManager[Stream]:
        """Send and read the body in pieces; ``timeout_s`` bounds the wait for each piece."""
        return self._stream(method, url, body, headers, timeout_s, zone)

    @contextlib.asynccontextmanager
    async def _stream(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None, timeout_s: float, zone: str
    ) -> AsyncIterator[Stream]:
        session = self._session(zone, plain=self._check(url, zone))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        with _mapped(url):
            answer = await session.request(
                method, url, data=_data(body), headers=headers, timeout=timeout, allow_redirects=False
            )
        try:
            yield _Pieces(url, answer)
        finally:
            answer.release()

    def session(self, url: str, zone: str) -> aiohttp.ClientSession:
        """The session for an address that was checked; its connector resolves and checks names. Raises Refused ``web.address-refused``."""
        return self._session(zone, plain=self._check(url, zone))

    def _check(self, url: str, zone: str) -> bool:
        """Check what the URL says by itself; returns whether it is plain http. Host names are checked when they are resolved.

        Only scheme, host and port decide, so what was allowed of them once is allowed again.
        """
        origin = _ORIGIN.match(url)
        known = self._allowed.get((zone, origin[0])) if origin else None
        if known is not None:
            return known
        plain = self._checked(url, zone)
        if origin:
            if len(self._allowed) >= 1024:
                self._allowed.clear()
            self._allowed[(zone, origin[0])] = plain
        return plain

    def _checked(self, url: str, zone: str) -> bool:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Refused("web.address-refused", url=url[:200], reason="not a URL", zone=zone) from error
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise Refused(
                "web.address-refused", url=url[:200], reason="only http and https URLs with a host", zone=zone
            )
        if parts.username is not None or parts.password is not None:
            raise Refused(
                "web.address-refused",
                url=parts._replace(netloc=host).geturl()[:200],
                reason="user info in the URL",
                zone=zone,
            )
        plain = parts.scheme == "http"
        try:
            ipaddress.ip_address(host.split("%", 1)[0])
        except ValueError:
            return plain
        if not self._guard.allows(host, zone, plain=plain):
            raise Refused("web.address-refused", url=url[:200], reason=_why(plain=plain, zone=zone), zone=zone)
        return plain

    def _session(self, zone: str, *, plain: bool) -> aiohttp.ClientSession:
        key = (zone, plain)
        session = self._sessions.get(key)
        if session is None or session.closed:
            connector = aiohttp.TCPConnector(
                resolver=_GuardedResolver(self._guard, zone, plain=plain),
                use_dns_cache=False,
                ttl_dns_cache=None,
                limit=0,
                limit_per_host=self._settings.connections_per_partner,
                ssl=self._trust() if not plain else True,
                keepalive_timeout=60,
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "guantong", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
            self._sessions[key] = session
        return session

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._settings.ca_file:
            context.load_verify_locations(self._settings.ca_file)
        return context


def _why(*, plain: bool, zone: str) -> str:
    return f"the {zone} list does not allow this address" + (" or not without TLS" if plain else "")


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


class _GuardedResolver(AbstractResolver):
    """Resolves a name once and hands only allowed addresses to the connector, which connects to exactly these."""

    def __init__(self, guard: AddressGuard, zone: str, *, plain: bool) -> None:
        self._guard, self._zone, self._plain = guard, zone, plain

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        allowed: list[ResolveResult] = [
            {
                "hostname": host,
                "host": str(address[0]),
                "port": port,
                "family": kind,
                "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for kind, _, protocol, _, address in found
            if self._guard.allows(str(address[0]), self._zone, plain=self._plain)
        ]
        if not allowed:
            raise Refused(
                "web.address-refused", url=host, reason=_why(plain=self._plain, zone=self._zone), zone=self._zone
            )
        return allowed

    async def close(self) -> None:
        return None


class _Pieces:
    """A streamed answer."""

    def __init__(self, url: str, answer: aiohttp.ClientResponse) -> None:
        self.status: int = answer.status
        self.headers: Mapping[str, str] = _headers(answer)
        self._url, self._answer = url, answer

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they come."""
        with _mapped(self._url):
            async for piece in self._answer.content.iter_any():
                yield piece


@contextlib.contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Nothing of aiohttp's leaks: each of its exceptions becomes one of ours."""
    try:
        yield
    except Exception as error:
        ours = _ours(url, error)
        if ours is None:
            raise
        raise ours from error


def _ours(url: str, error: Exception) -> GuantongError | None:
    """The error of ours for one of aiohttp's; None where it is another's or ours already."""
    if isinstance(error, GuantongError):
        return None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Refused("web.certificate-refused", url=url[:200], reason=_text(error))
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return Refused("web.address-refused", url=url[:200], reason="not a URL", zone="")
    if isinstance(error, TimeoutError):
        return Retryable("web.unreachable", url=url[:200], reason="no answer in time")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return Retryable("web.unreachable", url=url[:200], reason=_text(error))
    return None


_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?=/|$)")
"""What may be remembered of a URL: no user info, no escapes, nothing that another reader may end elsewhere."""


@lru_cache(16)
def _whole(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=seconds)


def _data(body: bytes | AsyncIterator[bytes] | None) -> Any:
    # a large body goes in pieces: as one block it would hold up the loop, and aiohttp warns of it
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > 1024 * 1024 else body


def _text(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__
