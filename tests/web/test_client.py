"""The client reaches only what the two lists allow, never follows a redirect, and turns every failure into ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from guantong.base.errors import ConfigProblem, Refused, Retryable, Skippable
from guantong.web.client import AddressGuard, AiohttpClient, is_loopback
from guantong.web.model import WebSettings
from guantong.web.server import WebServer, bind


@pytest.mark.parametrize(
    ("address", "partner", "plant"),
    [
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("8.8.8.8", True, False),
        ("2606:4700:4700::1111", True, False),
        ("10.1.2.3", False, True),
        ("172.31.0.1", False, True),
        ("192.168.1.20", False, True),
        ("fd00::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("100.64.0.1", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("::ffff:10.0.0.1", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a00:1::", False, True),
        ("not-an-address", False, False),
    ],
)
def test_each_kind_of_address_is_on_the_list_where_it_belongs(address: str, partner: bool, plant: bool) -> None:
    guard = AddressGuard(WebSettings())

    assert guard.allows(address, "partner", plain=False) is partner
    assert guard.allows(address, "plant", plain=False) is plant
    assert not guard.allows(address, "elsewhere", plain=False)


def test_plain_http_to_partners_stays_on_loopback_unless_told_otherwise() -> None:
    usual = AddressGuard(WebSettings())
    assert not usual.allows("8.8.8.8", "partner", plain=True)
    assert usual.allows("127.0.0.1", "partner", plain=True)
    assert usual.allows("192.168.1.20", "plant", plain=True)
    assert AddressGuard(WebSettings(partner_plain_http=True)).allows("8.8.8.8", "partner", plain=True)


def test_a_node_open_to_the_network_does_not_call_partners_on_loopback() -> None:
    guard = AddressGuard(WebSettings(host="0.0.0.0", partner_networks=("10.20.0.0/16",)))
    assert not guard.allows("127.0.0.1", "partner", plain=False)
    assert guard.allows("10.20.3.4", "partner", plain=False)
    assert not guard.allows("10.21.3.4", "partner", plain=False)
    assert is_loopback("LOCALHOST.")
    assert not is_loopback("localhost.example.org")


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, AiohttpClient]]:
    async def echo(request: Request) -> Response:
        return PlainTextResponse(
            f"{request.method} {len(await request.body())} {request.headers.get('accept-encoding')}"
        )

    async def slow(_: Request) -> Response:
        await asyncio.sleep(30)
        return Response()

    async def pieces(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x" * 1000

        return StreamingResponse(body())

    routes = [
        Route("/", echo, methods=["GET", "POST"]),
        Route("/slow", slow),
        Route("/pieces", pieces),
        Route("/away", lambda _: RedirectResponse("http://169.254.169.254/latest")),
    ]
    server, client = WebServer(WebSettings(request_seconds=1)), AiohttpClient(WebSettings())
    port = await server.start(Starlette(routes=routes), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}", client
    await client.close()
    await server.stop()


async def test_it_sends_and_reads(served: tuple[str, AiohttpClient]) -> None:
    base, client = served
    answer = await client.request("POST", base + "/", body=b"abc")

    assert (answer.status, answer.body) == (200, b"POST 3 identity")
    assert "server" not in answer.headers
    async with client.stream("GET", base + "/pieces") as stream:
        assert sum([len(piece) async for piece in stream.chunks()]) == 4000


async def test_a_redirect_is_handed_back_not_followed(served: tuple[str, AiohttpClient]) -> None:
    base, client = served
    answer = await client.request("GET", base + "/away")
    assert (answer.status, answer.headers["location"]) == (307, "http://169.254.169.254/latest")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://10.0.0.1/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://user:secret@127.0.0.1/",
        "http:///nothing",
        "http://127.0.0.1:99999/",
    ],
)
async def test_addresses_off_the_list_are_refused_before_anything_is_sent(
    served: tuple[str, AiohttpClient], url: str
) -> None:
    _, client = served
    with pytest.raises(Refused) as refused:
        await client.request("GET", url)
    assert refused.value.code == "web.address-refused"
    assert "secret" not in str(refused.value)


async def test_a_name_that_resolves_to_a_private_address_is_refused(
    served: tuple[str, AiohttpClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = served
    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.168.1.1", port))]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", resolve)
    with pytest.raises(Refused) as refused:
        await client.request("GET", "https://rebound.example/")
    assert refused.value.code == "web.address-refused"
    assert asked == ["rebound.example"], "a name is resolved once"


async def test_silence_refusal_and_size_have_codes(served: tuple[str, AiohttpClient]) -> None:
    base, client = served
    with pytest.raises(Retryable) as silent:
        await client.request("GET", base + "/slow", timeout_s=0.1)
    with pytest.raises(Retryable) as closed:
        await client.request("GET", "http://127.0.0.1:1/")
    with pytest.raises(Skippable) as large:
        await client.request("GET", base + "/pieces", max_bytes=3999)
    assert {silent.value.code, closed.value.code} == {"web.unreachable"}
    assert large.value.code == "web.answer-too-large"
    assert (await client.request("GET", base + "/pieces", max_bytes=4000)).status == 200


async def test_an_error_of_the_reader_of_a_stream_stays_its_own(served: tuple[str, AiohttpClient]) -> None:
    base, client = served
    with pytest.raises(OSError, match="disk"):
        async with client.stream("GET", base + "/pieces"):
            raise OSError("disk")


async def test_a_request_that_never_ends_is_cut_off(served: tuple[str, AiohttpClient]) -> None:
    base, _ = served
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rsplit(":", 1)[1]))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    await writer.drain()

    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()
    await writer.wait_closed()


def test_a_port_in_use_is_said() -> None:
    taken = bind("127.0.0.1", 0)
    taken.listen()
    try:
        with pytest.raises(ConfigProblem) as problem:
            bind("127.0.0.1", taken.getsockname()[1])
        assert problem.value.code == "web.port-in-use"
    finally:
        taken.close()
