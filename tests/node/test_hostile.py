"""Peers that mean harm, or fail: one test for each thing they may try, against a whole node on a real socket."""

from __future__ import annotations

import asyncio
import datetime
import io
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from guantong.base.canonical import b64url
from guantong.base.clock import NS, SystemClock
from guantong.base.errors import GuantongError
from guantong.base.keys import Ed25519Key, P256Key
from guantong.config import load
from guantong.exchange.dids import Resolver
from guantong.exchange.identity import Identity, did_document
from guantong.exchange.jws import signed
from guantong.exchange.model import ExchangeSettings, Product
from guantong.exchange.push import target_of
from guantong.node import Node
from guantong.web import server as web_server
from guantong.web.client import AiohttpClient
from guantong.web.model import WebSettings

CONTEXT = ["https://w3id.org/dspace/2025/1/context.jsonld"]
USE = {"permission": [{"action": "use"}]}
OFFER = {"@id": "spindle:spindle", "@type": "Offer", "target": "spindle", **USE}
NONE = b64url(b'{"alg":"none"}')
HS256 = b64url(b'{"alg":"HS256"}')
PRIVATE = [
    "http://169.254.169.254/latest",
    "https://10.0.0.7/x",
    "https://[::ffff:192.168.1.1]/x",
    "http://0.0.0.0:80/",
]


class Peer:
    """A participant in a socket of its own that does what the test says."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        self.delay_s = 0.0

    async def start(self) -> None:
        self._server = web_server.WebServer(WebSettings())
        port = await self._server.start(self, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{port}"
        self.did = f"did:web:127.0.0.1%3A{port}"
        self.identity = Identity(self.did, P256Key.generate(), Ed25519Key.generate())
        self.session = aiohttp.ClientSession()

    async def stop(self) -> None:
        await self.session.close()
        await self._server.stop()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append((scope["method"], scope["path"]))
        if scope["path"] == "/.well-known/did.json":
            status, body = 200, orjson.dumps(did_document(self.identity, self.address))
        else:
            await asyncio.sleep(self.delay_s)
            status, body = self.status, b"{}"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = SystemClock().now() // NS
        made = {
            "iss": self.did,
            "sub": self.did,
            "aud": self.node.participant,
            "jti": os.urandom(8).hex(),
            "iat": now,
            "exp": now + 60,
        }
        return {**made, **changes}

    def token(self, **changes: Any) -> str:
        return signed(self.identity.token_key, self.identity.token_kid, self.claims(**changes))

    async def post(self, path: str, body: Any, *, token: str | None = None) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"authorization": f"Bearer {self.token() if token is None else token}"}
        async with self.session.post(
            f"{self.node.address}/dsp/2025-1{path}", data=io.BytesIO(data), headers=headers
        ) as answer:
            text = await answer.read()
            return answer.status, orjson.loads(text) if text else {}

    async def catalogue(self, token: str | None = None) -> int:
        return (
            await self.post("/catalog/request", {"@context": CONTEXT, "@type": "CatalogRequestMessage"}, token=token)
        )[0]

    def request(self, **changes: Any) -> dict[str, Any]:
        return {
            "@context": CONTEXT,
            "@type": "ContractRequestMessage",
            "@id": os.urandom(8).hex(),
            "consumerPid": os.urandom(8).hex(),
            "offer": OFFER,
            "callbackAddress": f"{self.address}/dsp/2025-1",
            **changes,
        }


@pytest.fixture
async def made(tmp_path) -> AsyncIterator[Any]:
    """``await made(**settings)`` is a running node with one product on offer, and a peer."""
    running: list[Any] = []

    async def start(**settings: Any) -> tuple[Node, Peer]:
        values = {"node.directory": tmp_path / "node", "web.port": 0, "web.host": "127.0.0.1", **settings}
        node = Node(load(values, environment={}))
        await node.start()
        await node.serve()
        running.append(node)
        await node.govern.state_rights(node.participant, _rights(node.participant))
        await node.exchange.offer(node.participant, Product(id="spindle", dataset_id="spindle", policy=USE))
        peer = Peer(node)
        await peer.start()
        running.append(peer)
        return node, peer

    yield start
    for one in reversed(running):
        await one.stop()


def _rights(holder: str) -> Any:
    from guantong.govern.model import Rights

    return Rights(
        dataset_id="spindle", holder=holder, processor=holder, operator=holder, source="own production",
        evidence="asset register", valid_from="2020-01-01",
    )  # fmt: skip


# -- requests that we are to be made to send


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_callback_to_an_address_that_is_no_partner_s_is_never_called(made, address):
    node, peer = await made()
    await peer.post("/negotiations/request", peer.request(callbackAddress=address))
    await asyncio.sleep(0.1)
    process = (await node.exchange.negotiations(node.participant))[0]

    assert process.waiting == "person"
    assert (await node.outbox.stuck(node.participant))[0].error.startswith("web.address-refused")


async def test_did_documents_status_lists_and_push_targets_go_through_the_same_guard():
    """A node that is open to the network: partners are public, plant addresses and its own loopback are not theirs."""
    http = AiohttpClient(WebSettings(host="192.0.2.1"))
    resolver = Resolver(http, SystemClock(), ExchangeSettings())
    try:
        for did in ("did:web:10.0.0.7", "did:web:localhost%3A80", "did:web:169.254.169.254"):
            with pytest.raises(GuantongError) as refused:
                await resolver.document(did)
            assert refused.value.code == "web.address-refused"
        for url in (
            *PRIVATE,
            "https://127.0.0.1/",
            "https://user:pw@example.com/",
            "ftp://example.com/",
            "http://example.com:0/",
        ):
            with pytest.raises(GuantongError) as refused:
                await http.request("GET", url)
            assert refused.value.code == "web.address-refused", url
    finally:
        await http.close()
    target = {"endpointProperties": [{"name": "baseUrl", "value": "https://10.0.0.7/in"}]}
    assert (
        target_of("HttpData-PUSH", target).url == "https://10.0.0.7/in"
    )  # named, and then refused by the client above


async def test_machines_are_private_and_partners_are_not():
    http = AiohttpClient(WebSettings(host="192.0.2.1"))
    try:
        with pytest.raises(GuantongError) as refused:
            await http.request("GET", "https://93.184.216.34/", zone="plant")
        assert refused.value.code == "web.address-refused"
    finally:
        await http.close()


async def test_plain_http_and_http_did_web_are_for_loopback_only():
    http = AiohttpClient(WebSettings(host="192.0.2.1"))
    try:
        with pytest.raises(GuantongError) as refused:
            await http.request("GET", "http://93.184.216.34/")
        assert refused.value.code == "web.address-refused"
    finally:
        await http.close()


# -- tokens


async def test_replayed_misdirected_confused_and_unsigned_tokens_are_refused(made):
    _, peer = await made()
    good = peer.token()
    assert await peer.catalogue(good) == 200
    head, body, _ = good.split(".")
    public = orjson.dumps(peer.identity.token_key.jwk)
    for name, token in {
        "replay": good,
        "audience": peer.token(aud="did:web:somebody.example"),
        "subject": peer.token(sub="did:web:somebody.example"),
        "algorithm none": ".".join((NONE, body, "")),
        "key confusion": _hs256(public, body),
        "another's key": signed(P256Key.generate(), peer.identity.token_kid, peer.claims()),
        "the evidence key": signed(peer.identity.evidence_key, peer.identity.evidence_kid, peer.claims()),
        "no signature": f"{head}.{body}.",
    }.items():
        assert await peer.catalogue(token) == 401, name


def _hs256(key: bytes, body: str) -> str:
    import hmac

    content = f"{HS256}.{body}"
    return f"{content}.{b64url(hmac.digest(key, content.encode(), 'sha256'))}"


async def test_a_clock_that_is_a_little_wrong_is_borne_and_a_wrong_one_is_not(made):
    _, peer = await made()
    now = SystemClock().now() // NS

    assert await peer.catalogue(peer.token(iat=now + 50, exp=now + 300)) == 200
    assert await peer.catalogue(peer.token(iat=now - 300, exp=now - 50)) == 200
    assert await peer.catalogue(peer.token(iat=now + 70, exp=now + 300)) == 401
    assert await peer.catalogue(peer.token(iat=now - 300, exp=now - 70)) == 401


# -- bodies


async def test_huge_and_deep_bodies_are_refused_with_an_error_body(made):
    _, peer = await made()
    huge = orjson.dumps({**peer.request(), "x": "y" * 2_000_000})
    deep = b'{"@type":"ContractRequestMessage","x":' + b"[" * 500 + b"]" * 500 + b"}"
    abyss = b"[" * 200_000
    for body, status in (
        (huge, 413),
        (deep, 413),
        (abyss, 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
    ):
        found, answer = await peer.post("/negotiations/request", body)
        assert (found, answer["@type"]) == (status, "ContractNegotiationError"), body[:40]
    assert await peer.catalogue() == 200


async def test_who_sends_slowly_is_cut_off(made):
    node, peer = await made(**{"web.request-seconds": 1})
    host, port = node.address.removeprefix("http://").split(":")

    async def slow(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    headers, body = await asyncio.gather(
        slow(b"POST /dsp/2025-1/catalog/request HTTP/1.1\r\nHost: x\r\n"),
        slow(
            b"POST /dsp/2025-1/catalog/request HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\nAuthorization: Bearer "
            + peer.token().encode()
            + b"\r\n\r\n{"
        ),
    )
    assert headers == b""
    assert b"web.body-too-slow" in body
    assert await peer.catalogue() == 200


# -- processes


async def test_duplicates_and_messages_out_of_order_change_nothing(made):
    node, peer = await made()
    first = peer.request()
    _, created = await peer.post("/negotiations/request", first)
    _, again = await peer.post("/negotiations/request", first)
    assert created["providerPid"] == again["providerPid"]
    assert len(await node.exchange.negotiations(node.participant)) == 1

    pid = created["providerPid"]
    for _ in range(100):
        if (await node.exchange.negotiation(node.participant, pid)).state == "AGREED":
            break
        await asyncio.sleep(0.02)
    pids = {"@context": CONTEXT, "consumerPid": first["consumerPid"], "providerPid": pid}
    early = {**pids, "@type": "ContractNegotiationEventMessage", "eventType": "ACCEPTED"}
    assert (await peer.post(f"/negotiations/{pid}/events", early))[0] == 400
    verification = {**pids, "@type": "ContractAgreementVerificationMessage", "@id": "1"}
    assert (await peer.post(f"/negotiations/{pid}/agreement/verification", verification))[0] == 200
    assert (await peer.post(f"/negotiations/{pid}/agreement/verification", verification))[0] == 200
    agreements = await node.exchange.agreements(node.participant)
    assert len(agreements) == 1


async def test_a_peer_that_lies_about_the_state_is_refused_and_believed_in_nothing(made):
    node, peer = await made()
    _, created = await peer.post("/negotiations/request", peer.request(consumerPid="mine"))
    pid = created["providerPid"]
    pids = {"@context": CONTEXT, "consumerPid": "mine", "providerPid": pid}
    finalized = {**pids, "@type": "ContractNegotiationEventMessage", "eventType": "FINALIZED"}
    other = {**pids, "@type": "ContractNegotiationEventMessage", "eventType": "ACCEPTED", "consumerPid": "another's"}
    assert (await peer.post(f"/negotiations/{pid}/events", finalized))[0] == 400
    assert (await peer.post(f"/negotiations/{pid}/events", other))[0] == 400
    transfer = {
        "@context": CONTEXT, "@type": "TransferRequestMessage", "consumerPid": "t", "agreementId": "never-made",
        "format": "HttpData-PULL", "callbackAddress": f"{peer.address}/dsp",
    }  # fmt: skip
    assert (await peer.post("/transfers/request", transfer))[0] == 400
    # the partner's own word about a process is asked for, shown, and changes nothing
    process = await node.exchange.negotiation(node.participant, pid)
    with pytest.raises(GuantongError):
        await node.exchange.inquiry.of(node.participant, process)
    assert (await node.exchange.negotiation(node.participant, pid)).state in ("REQUESTED", "AGREED")


async def test_a_peer_that_never_answers_leaves_a_state_that_a_person_can_act_on(made):
    node, peer = await made(**{"outbox.attempts": 3, "outbox.first-backoff-s": 0.01, "outbox.longest-backoff-s": 0.02})
    peer.status = 503
    _, created = await peer.post("/negotiations/request", peer.request())
    for _ in range(200):
        stuck = await node.outbox.stuck(node.participant)
        if stuck:
            break
        await asyncio.sleep(0.02)

    assert [(one.kind, one.attempts) for one in stuck] == [("exchange.dsp", 3)]
    process = await node.exchange.negotiation(node.participant, created["providerPid"])
    assert (process.state, process.waiting) == ("AGREED", "person")
    assert "503" in process.reason
    # a person tries again when the partner is back
    peer.status = 200
    await node.outbox.retry(node.participant, stuck[0].kind, stuck[0].key)
    await node.outbox.drained()
    assert await node.outbox.stuck(node.participant) == []


async def test_who_asks_too_often_is_told_to_wait_and_others_are_not(made):
    node, peer = await made(**{"exchange.requests-per-s": 5})
    other = Peer(node)
    await other.start()
    try:
        found = [await peer.catalogue() for _ in range(20)]
        assert found[:10] == [200] * 10
        assert 429 in found[10:]
        assert await other.catalogue() == 200
        await asyncio.sleep(0.4)
        assert await peer.catalogue() == 200
    finally:
        await other.stop()


# -- TLS


def _certificate(folder: Any, serial: int) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "tls.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "tls.pem"), str(folder / "tls.key")


async def test_a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "CERTIFICATE_CHECK_S", 0.02)
    certificate, key = _certificate(tmp_path, 1001)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = web_server.WebServer(WebSettings(tls_certificate=certificate, tls_key=key))
    port = await served.start(app, "127.0.0.1", 0)

    async def serial() -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(found).serial_number

    try:
        assert await serial() == 1001
        (tmp_path / "tls.pem").write_text("half a file")
        await asyncio.sleep(0.1)
        assert await serial() == 1001
        _certificate(tmp_path, 1002)
        for _ in range(100):
            await asyncio.sleep(0.02)
            if await serial() == 1002:
                break
        assert await serial() == 1002
    finally:
        await served.stop()


async def test_headers_of_a_proxy_are_not_believed(made):
    """Behind a proxy the address is what ``web.public-url`` says; nobody can change it with a header."""
    node, peer = await made()
    headers = {"x-forwarded-proto": "https", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    async with peer.session.get(f"{node.address}/.well-known/did.json", headers=headers) as answer:
        text = await answer.text()

    assert "evil" not in text
    assert node.address in text
