"""The relay: a company without an address of its own is reached over a connection that it opens, as well as any other."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base import keychange
from guantong.base.clock import SystemClock
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange.identity import Identity, did_document
from guantong.exchange.relay import claim, passes, seat_of
from guantong.exchange.relay_frames import CREDIT, DATA, END, HEAD, PIECE, WINDOW, Lane, frame, head_of, kind_of
from guantong.exchange.relayed import Seat, Uplink, seat_in, take_seat

HOST = "localhost:7300"
SEAT = f"{HOST}/p/zhou"


class End:
    """One end of a connection in memory."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: End
        self.closed = False

    async def send(self, message: bytes) -> None:
        if self.closed or self.other.closed:
            raise OSError("closed")
        self.other.coming.put_nowait(message)

    async def receive(self) -> bytes | None:
        return await self.coming.get()

    async def close(self) -> None:
        self.closed = self.other.closed = True
        self.coming.put_nowait(None)
        self.other.coming.put_nowait(None)


class Wire:
    """Connections between a company and its relay; can be cut, and kept down."""

    def __init__(self, leader) -> None:
        self.leader, self.down, self.ends, self.tasks = leader, False, [], set()

    @contextlib.asynccontextmanager
    async def dial(self, url, headers):
        if self.down:
            raise Retryable("web.unreachable", url=url, reason="down")
        relay, me, name = self.leader.exchange.relay, self.leader.did, urlsplit(url).path.rpartition("/")[2]
        await relay.may_connect(me, name, headers["authorization"])
        here, there = End(), End()
        here.other, there.other = there, here
        self.ends.append(here)
        task = asyncio.create_task(relay.serve(me, name, there))
        self.tasks.add(task)
        try:
            yield here
        finally:
            await here.close()
            await task

    async def cut(self):
        self.down = True
        for end in self.ends:
            await end.close()


@pytest.fixture
async def scene(companies, network, tmp_path):
    """A leader, a customer, and a supplier behind the leader's relay; all are members."""
    clock = SystemClock()
    leader = await companies(HOST, clock=clock, relay_idle_s=5)
    own_app = network.apps[HOST]
    spaces = leader.exchange.spaces
    await spaces.make(leader.did, "Gear makers")
    customer = await companies("localhost:7301", clock=clock)
    await customer.exchange.spaces.join(customer.did, (await spaces.invite(leader.did))[1])
    supplier = await companies(SEAT, clock=clock)
    network.apps[HOST] = own_app  # the supplier's application is at no address
    link = (await spaces.invite(leader.did))[1]
    offer = await supplier.exchange.spaces.look(link)
    seat = await take_seat(tmp_path, network, clock, lambda did: supplier.identity, offer, "zhou")
    wire = Wire(leader)
    from starlette.applications import Starlette

    app = Starlette(routes=supplier.exchange.routes(supplier.did))
    uplink = Uplink(supplier.exchange.hosting, seat, wire.dial, app)
    uplink.start()
    await uplink.connected(5)
    _, came = await supplier.exchange.spaces.join(supplier.did, link, name="Zhou Gears")
    assert came

    class Scene:
        pass

    found = Scene()
    found.__dict__ |= locals()
    yield found
    await uplink.stop()
    await asyncio.gather(*wire.tasks, return_exceptions=True)


async def until(true):
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


async def test_a_company_behind_a_relay_negotiates_delivers_and_is_countersigned(scene, agreed, started):
    supplier, customer = scene.supplier, scene.customer
    agreement = await agreed(supplier, customer)
    pid = await started(supplier, customer, agreement)
    rows = sum([batch.num_rows async for batch in customer.exchange.pull(customer.did, pid)])
    receipts = await customer.exchange.wait_receipts(customer.did, agreement, timeout_s=5)

    assert supplier.did == "did:web:localhost%3A7300:p:zhou"
    assert rows == 3
    assert [one.state for one in receipts] == ["acknowledged"]
    assert await supplier.exchange.verify_receipts(supplier.did, agreement) == ()
    assert scene.uplink.served > 4
    assert [
        (one.name, one.connected, one.in_flight) for one in scene.leader.exchange.relay.relayed(scene.leader.did)
    ] == [("zhou", True, 0)]


async def test_a_large_delivery_passes_whole_and_no_further_ahead_than_its_reader(scene, agreed, started):
    import pyarrow as pa

    supplier, customer = scene.supplier, scene.customer
    supplier.table = pa.table({"value": pa.array(range(300_000), pa.int64())})
    agreement = await agreed(supplier, customer)
    pid = await started(supplier, customer, agreement)
    most, total = 0, 0
    async for batch in customer.exchange.pull(customer.did, pid):
        total += batch.num_rows
        most = max(most, *(end.coming.qsize() for end in scene.wire.ends), 0)

    assert total == 300_000
    assert most <= WINDOW + 8


async def test_while_the_relay_is_down_messages_wait_and_arrive_once(scene, product):
    supplier, customer = scene.supplier, scene.customer
    await supplier.exchange.offer(supplier.did, product())
    catalogue = await customer.exchange.catalogue(customer.did, supplier.base, supplier.did)
    await scene.wire.cut()
    await until(lambda: not scene.uplink.since)
    pid = await customer.exchange.negotiate(customer.did, supplier.base, supplier.did, catalogue.offers[-1])
    await asyncio.sleep(0.1)
    waiting = await customer.exchange.negotiation(customer.did, pid)
    answer = await customer.network.request("GET", f"{supplier.address}/.well-known/dspace-version")
    document = await customer.network.request("GET", f"{supplier.address}/did.json")
    error = scene.uplink.error
    scene.wire.down = False
    done = await customer.exchange.wait_negotiation(customer.did, pid, timeout_s=10)

    assert waiting.state == "REQUESTED"
    assert not waiting.partner_pid
    assert (answer.status, orjson.loads(answer.body)["code"]) == (503, "exchange.relay-away")
    assert (document.status, orjson.loads(document.body)["id"]) == (200, supplier.did)
    assert error is not None
    assert done.state == "FINALIZED"
    assert len(await supplier.exchange.negotiations(supplier.did)) == 1


async def test_a_connection_that_breaks_in_a_delivery_is_seen_as_a_break_not_as_an_end(scene, agreed, started):
    import pyarrow as pa

    supplier, customer = scene.supplier, scene.customer
    supplier.table = pa.table({"value": pa.array(range(300_000), pa.int64())})
    agreement = await agreed(supplier, customer)
    pid = await started(supplier, customer, agreement)
    seen = 0
    with pytest.raises(GuantongError):
        async for batch in customer.exchange.pull(customer.did, pid):
            seen += batch.num_rows
            await scene.wire.cut()

    assert 0 < seen < 300_000


async def test_who_was_revoked_is_disconnected_and_relayed_no_more(scene):
    leader, supplier = scene.leader, scene.supplier
    await leader.exchange.spaces.remove(leader.did, supplier.did)
    await until(lambda: scene.uplink.error is not None)
    await until(lambda: leader.exchange.relay.relayed(leader.did)[0].state == "ended")
    answer = await supplier.network.request("GET", f"{supplier.address}/.well-known/dspace-version")
    document = await supplier.network.request("GET", f"{supplier.address}/did.json")

    assert answer.status == 403
    assert document.status == 200  # what it signed can still be checked
    with pytest.raises(Refused):
        await leader.exchange.relay.claim(leader.did, {**scene_claim(scene), "code": ""})


def scene_claim(scene, *, name="zhou", identity=None, at=None, changes=(), **changed):
    supplier = scene.supplier
    identity = identity or supplier.identity
    document = did_document(identity, seat_of(scene.leader.address, name)) | changed
    now = supplier.clock.now() if at is None else at
    return claim(identity, scene.leader.did, name, document, now, changes=changes)


def strange(scene, name="zhou"):
    did = f"did:web:localhost%3A7300:p:{name}"
    return Identity(did, P256Key.generate(), Ed25519Key.generate())


async def refused(scene, body):
    with pytest.raises(Refused) as failed:
        await scene.leader.exchange.relay.claim(scene.leader.did, body)
    return failed.value


async def test_a_name_is_its_keys_and_nobody_elses(scene):
    leader, relay = scene.leader, scene.leader.exchange.relay
    _, link = await leader.exchange.spaces.invite(leader.did)
    code = link.partition("#")[2]
    same = await relay.claim(leader.did, scene_claim(scene))
    other = await refused(scene, {**scene_claim(scene, identity=strange(scene)), "code": code})

    assert same["address"] == scene.supplier.address
    assert other.facts["reason"] == "zhou is another's name"


async def test_a_rotated_key_follows_where_the_old_one_has_signed_it_over(scene):
    old, leader = scene.supplier.identity, scene.leader
    new = Identity(old.did, P256Key.generate(), Ed25519Key.generate())
    at = scene.supplier.clock.now()
    change = keychange.make(old.did, old.evidence_key.public, new.evidence_key, at, old_key=old.evidence_key)
    lost = keychange.make(old.did, old.evidence_key.public, new.evidence_key, at, old_key=None)
    without = await refused(scene, scene_claim(scene, identity=new))
    unsigned = await refused(scene, scene_claim(scene, identity=new, changes=(lost,)))
    await leader.exchange.relay.claim(leader.did, scene_claim(scene, identity=new, changes=(change,)))
    back = await refused(scene, scene_claim(scene, identity=old))
    document = leader.exchange.relay.document(leader.did, "zhou")

    assert without.facts["reason"] == unsigned.facts["reason"] == back.facts["reason"] == "zhou is another's name"
    assert document == did_document(new, scene.supplier.address)


async def bad_claim(scene, what):
    leader = scene.leader
    _, link = await leader.exchange.spaces.invite(leader.did)
    who = strange(scene, "li")
    body = {**scene_claim(scene, name="li", identity=who), "code": link.partition("#")[2]}
    if what == "no-code":
        body["code"] = ""
    elif what == "used":
        body["code"] = scene.link.partition("#")[2]
    elif what == "name":
        body |= scene_claim(scene, name="Li/../x", identity=who)
    elif what == "late":
        body |= scene_claim(scene, name="li", identity=who, at=leader.clock.now() - 301 * 10**9)
    elif what == "elsewhere":
        services = [{"id": f"{who.did}#x", "type": "CredentialService", "serviceEndpoint": "http://169.254.169.254/"}]
        body |= scene_claim(scene, name="li", identity=who, service=services)
    elif what == "subject":
        body |= scene_claim(scene, name="li", identity=who, id=leader.did)
    elif what == "tampered":
        body["statement"]["document"]["service"].pop()
    elif what == "token":
        body["signatures"]["token"] = body["signatures"]["evidence"]
    elif what == "relay":
        body["statement"]["relay"] = "did:web:other.example"
    elif what == "upwards":
        services = [{"id": "#x", "type": "X", "serviceEndpoint": seat_of(leader.address, "lily") + "/x"}]
        body |= scene_claim(scene, name="li", identity=who, service=services)
    elif what == "junk":
        body = {"statement": [1], "signatures": None}
    return body


async def test_bad_claims_are_refused(scene):
    leader = scene.leader
    kinds = ["no-code", "name", "late", "elsewhere", "subject", "tampered", "token", "relay", "upwards", "junk", "used"]
    for what in kinds:
        found = await refused(scene, await bad_claim(scene, what))
        assert found.code in ("exchange.relay-refused", "exchange.invitation-refused"), what

    assert [one.name for one in leader.exchange.relay.relayed(leader.did)] == ["zhou"]
    assert await leader.exchange.relay.claim(leader.did, await bad_claim(scene, "nothing"))


async def test_only_the_owner_of_a_name_may_connect_under_it(scene):
    leader, customer = scene.leader, scene.customer
    token = customer.exchange.hosting.tokens.issue(customer.identity, leader.did)
    for name in ("zhou", "nobody"):
        with pytest.raises(Refused):
            await leader.exchange.relay.may_connect(leader.did, name, f"Bearer {token}")
    with pytest.raises(Refused):
        await leader.exchange.relay.may_connect(leader.did, "zhou", "")


async def test_pages_are_not_reached_and_nothing_runs_under_the_relays_name(scene):
    from starlette.responses import HTMLResponse

    seen = []

    async def hostile(scope, receive, send):
        seen.append((scope["path"], dict(scope["headers"])))
        headers = {"set-cookie": "guantong=x", "content-security-policy": "default-src *", "x-odd": "1"}
        await HTMLResponse("<script>1</script>", headers=headers)(scope, receive, send)

    scene.uplink._app = hostile
    network, root = scene.network, scene.supplier.address
    answers = {
        path: await network.request("GET", root + path, headers={"cookie": "guantong=secret", "accept": "x/y"})
        for path in ("/partners", "/api/partners", "/metrics", "/sign-in", "/dsp/../partners", "/log/checkpoint", "/")
    }
    one = answers.pop("/log/checkpoint")

    assert {answer.status for answer in answers.values()} == {404}
    assert [path for path, _ in seen] == ["/log/checkpoint"]
    assert b"cookie" not in seen[0][1]
    assert (one.status, one.body) == (200, b"<script>1</script>")
    assert one.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert not {"set-cookie", "x-odd"} & set(one.headers)


async def test_a_request_too_many_is_told_to_wait(scene):
    holding = asyncio.Event()

    async def slow(scope, receive, send):
        await holding.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    await until(lambda: not scene.leader.exchange.relay.relayed(scene.leader.did)[0].in_flight)
    scene.uplink._app = slow
    object.__setattr__(scene.leader.settings, "relay_in_flight", 2)
    url = f"{scene.supplier.address}/log/checkpoint"
    first = [asyncio.create_task(scene.network.request("GET", url)) for _ in range(2)]
    await asyncio.sleep(0.05)
    third = await scene.network.request("GET", url)
    holding.set()
    done = [await task for task in first]

    assert third.status == 503
    assert third.headers["retry-after"]
    assert [one.body for one in done] == [b"done", b"done"]
    assert scene.leader.exchange.relay.relayed(scene.leader.did)[0].in_flight == 0


async def test_a_company_that_speaks_nonsense_is_disconnected_and_connects_anew(scene):
    for nonsense in (b"", b"\x09\x00\x00\x00\x00", b"\x02" + b"\x00" * 4 + b"x" * (PIECE + 1)):
        end = scene.wire.ends[-1]
        await end.send(nonsense)
        await until(lambda end=end: end.closed and scene.wire.ends[-1] is not end and scene.uplink.since)

    assert len(scene.wire.ends) == 4


def test_a_seat_is_kept_in_the_directory(tmp_path):
    (tmp_path / "relay.json").write_text('{"relay": "did:web:a.example", "root": "https://a.example", "name": "zhou"}')

    assert seat_in(tmp_path) == Seat("did:web:a.example", "https://a.example", "zhou")
    assert seat_in(tmp_path / "none") is None
    (tmp_path / "relay.json").write_text("{")
    with pytest.raises(GuantongError) as failed:
        seat_in(tmp_path)
    assert failed.value.code == "cli.file-unreadable"


@pytest.mark.parametrize(
    ("path", "passed"),
    [
        ("/dsp/2025-1/catalog/request", True),
        ("/log/tile/0/000", True),
        ("/dsp/../api/partners", False),
        ("/data\\..\\api", False),
        ("/api/partners", False),
        ("/", False),
        ("/.well-known/did.json", False),
        ("/space/join", False),
        ("/p/other/dsp/x", False),
    ],
)
def test_what_passes_a_relay(path, passed):
    assert passes(path) is passed


@given(st.binary(max_size=64))
def test_no_bytes_end_the_reader_of_frames(message):
    with contextlib.suppress(ValueError):
        kind, number, payload = kind_of(message)
        assert frame(kind, number, payload) == message
        if kind == HEAD:
            head_of(payload)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=40))
async def test_a_body_arrives_as_it_was_sent_through_a_window(pieces):
    ends: list[Lane] = []

    def sender(at):
        async def send(message):
            kind, _, payload = kind_of(message)
            ends[1 - at].take(kind, payload)

        return send

    ends += [Lane(1, sender(0), idle_s=5), Lane(1, sender(1), idle_s=5)]

    async def put():
        for piece in pieces:
            await ends[0].put(piece)
        await ends[0].end()

    task = asyncio.create_task(put())
    came = [piece async for piece in ends[1].pieces()]
    await task

    assert came == [piece for piece in pieces if piece]


async def test_who_sends_more_than_was_asked_for_is_caught():
    async def nowhere(message):
        pass

    lane = Lane(1, nowhere, idle_s=1)
    for _ in range(WINDOW + 1):
        lane.take(DATA, b"x")
    with pytest.raises(ValueError, match="more than"):
        lane.take(DATA, b"x")
    lane.take(CREDIT, (2**31).to_bytes(4, "big"))
    assert lane._room == WINDOW
    other = Lane(2, nowhere, idle_s=1)
    other.take(END, b"")
    with pytest.raises(ValueError, match="more than"):
        other.take(DATA, b"x")
