"""Guests over HTTP, hostile and honest: who signs what, what is refused, what counts once, and what is left on record.

The signer here is a second writing of the page's script, from the formats in ``base/guest.py``, with the cryptography library.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from guantong.base import guest as formats
from guantong.base.canonical import b64, b64url, canonical_bytes, sha256
from guantong.base.clock import NS
from guantong.base.errors import Refused
from guantong.base.keys import Ed25519Key, P256Key
from guantong.base.multikey import multibase_of
from guantong.config import load
from guantong.node import Node
from guantong.records.tables import LEAVES
from guantong.verify import verify_guest

pytestmark = pytest.mark.asyncio(loop_scope="module")

CSV = b"time,temp,vib\n2026-01-01T00:00:00Z,20.5,0.1\n2026-01-01T00:00:01Z,20.7,0.2\n"
LIMIT = 4096


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    folder = tmp_path_factory.mktemp("host")
    values = {"node.directory": folder, "node.name": "Liu", "web.port": 0}
    limits = {"exchange.guest-file-bytes": LIMIT, "exchange.guest-total-bytes": 3 * LIMIT}
    node = Node(load({**values, **limits}, environment={}))
    await node.start()
    await node.serve()
    yield node
    await node.stop()


class Hand:
    """A guest with its key, as the page's script is one."""

    def __init__(self, host: Node, key: Ed25519Key | P256Key) -> None:
        self.host, self.key = host, key
        self.did = f"did:key:{multibase_of(key.jwk)}"
        self.chain = formats.Chain(self.did, host.participant)

    def signed(self, kind: str, *, by: Any = None, at: int | None = None, **more: Any) -> dict[str, Any]:
        body = formats.stated(self.chain, kind, at or self.host.clock.now(), **more)
        return {"statement": body, "signature": b64((by or self.key).sign(canonical_bytes(body)))}

    async def send(self, envelope: dict[str, Any], file: bytes = b"", code: str = "") -> tuple[int, dict[str, Any]]:
        answer = await self.host.http.request(
            "POST",
            f"{self.host.address}/guantong/guests/statements",
            body=canonical_bytes(envelope) + b"\n" + file,
            headers={"guantong-invitation": code},
            timeout_s=60.0,
            max_bytes=1_000_000,
        )
        if answer.status == 200:
            self.chain.add(formats.parse(envelope))
        return answer.status, json.loads(answer.body)

    async def read(self, what: str, *, by: Any = None, did: str = "", at: str = "") -> tuple[int, dict[str, Any]]:
        did = did or self.did
        body = {"v": 1, "type": "guantong-guest-read", "guest": did, "host": self.host.participant}
        question = canonical_bytes({**body, "at": at or _iso(self.host.clock.now())})
        answer = await self.host.http.request(
            "GET",
            f"{self.host.address}/guantong/guests/{what}",
            headers={
                "authorization": f"Guest {did} {b64url(question)}.{b64url((by or self.key).sign(question))}",
            },
            max_bytes=1_000_000,
        )
        return answer.status, json.loads(answer.body)

    async def join(self) -> dict[str, Any]:
        _, link = await self.host.exchange.spaces.invite(self.host.participant, kind="guest")
        code = link.partition("#")[2]
        invitation = sha256(code.encode()).hex()
        status, body = await self.send(self.signed("join", invitation=invitation, name="Zhou"), code=code)
        assert status == 200, body
        return body

    def shared(self, state: dict[str, Any], data: bytes = CSV, **more: Any) -> dict[str, Any]:
        return self.signed("share", file=_file(data), purpose=state["purpose"], terms=state["terms"], **more)


def _iso(at: int) -> str:
    from guantong.base.clock import iso

    return iso(at)


def _file(data: bytes, name: str = "../../sizes of 5.csv") -> dict[str, Any]:
    return {
        "name": name,
        "size": len(data),
        "sha256": "sha256:" + sha256(data).hex(),
        "root": formats.file_root(data),
        "chunkBytes": formats.CHUNK_BYTES,
    }


@pytest.mark.parametrize("kind", [Ed25519Key, P256Key])
async def test_what_a_guest_shares_is_kept_as_its_own_until_it_revokes(host: Node, kind: type) -> None:
    hand = Hand(host, kind.generate())
    state = await hand.join()
    data = CSV + f"2026-01-01T00:00:{10 + len(kind.__name__)}Z,1,2\n".encode()
    status, state = await hand.send(hand.shared(state, data), data)
    me, guests = host.participant, host.exchange.guests
    (share,) = await guests.shares(me, hand.did)
    rows, *_ = await asyncio.gather(*(guests.use(me, share.id) for _ in range(3)))
    revoked = await hand.send(hand.signed("revoke", share=share.id))
    with pytest.raises(Refused) as refused:
        await guests.use(me, share.id)
    status_papers, papers = await hand.read("papers")
    report = verify_guest(json.dumps(papers).encode())
    leaves = await host.records.rows(select(LEAVES.c.kind, LEAVES.c.leaf).where(LEAVES.c.participant == me))
    bodies = [json.loads(row["leaf"])["body"] for row in leaves if row["kind"] == formats.STATED]

    assert (status, status_papers, revoked[0]) == (200, 200, 200)
    assert sorted(set(rows.column("signal").to_pylist())) == ["temp", "vib"]
    assert refused.value.code == "exchange.guest-not-shared"
    assert [one["kind"] for one in bodies if one["guest"] == hand.did] == ["join", "share", "revoke"]
    assert not (await host.keep.stats(me)).rows
    assert (report.verdict, report.checks[0].reason) == ("signer-unknown", hand.did)
    assert revoked[1]["shares"][0]["state"] == "revoked"
    assert revoked[1]["shares"][0]["uses"] == 3


async def test_a_table_without_times_is_shared_as_it_stands(host: Node) -> None:
    hand = Hand(host, Ed25519Key.generate())
    data = b"part,width\nA1,10.5\nA2,10.6\n"
    _, state = await hand.send(hand.shared(await hand.join(), data), data)
    rows = await host.exchange.guests.use(host.participant, state["shares"][0]["id"])

    assert rows.column("part").to_pylist() == ["A1", "A2"]


async def test_another_key_cannot_speak_or_read_for_a_guest(host: Node) -> None:
    hand, other = Hand(host, P256Key.generate()), P256Key.generate()
    state = await hand.join()
    wrong = await hand.send(hand.shared(state, by=other), CSV)
    stranger = Hand(host, other)
    stranger.chain.number, stranger.chain.head = hand.chain.number, hand.chain.head
    unknown = await stranger.send(stranger.shared(state), CSV)
    foreign = await hand.read("state", by=other)
    mixed = hand.shared(state)
    mixed["statement"]["guest"] = stranger.did

    assert (wrong[0], wrong[1]["code"]) == (403, "exchange.guest-refused")
    assert (unknown[0], unknown[1]["code"]) == (404, "exchange.guest-unknown")
    assert (foreign[0], foreign[1]["code"]) == (403, "exchange.guest-refused")
    assert (await hand.send(mixed, CSV))[0] in (403, 404)
    assert not await host.exchange.guests.shares(host.participant, hand.did)


async def test_a_guest_cannot_end_or_answer_what_is_anothers(host: Node) -> None:
    mine, theirs = Hand(host, Ed25519Key.generate()), Hand(host, Ed25519Key.generate())
    state = await mine.join()
    await theirs.join()
    await mine.send(mine.shared(state), CSV)
    (share,) = await host.exchange.guests.shares(host.participant, mine.did)
    request = await host.exchange.guests.ask(host.participant, share.id, "Audit")
    answer = {"request": request.id, "share": share.id, "purpose": request.purpose, "terms": request.terms}
    ended = await theirs.send(theirs.signed("revoke", share=share.id))
    answered = await theirs.send(theirs.signed("approve", **answer))
    changed = await mine.send(mine.signed("approve", **{**answer, "purpose": "Anything"}))
    declined = await mine.send(mine.signed("decline", **answer))

    assert [one[1].get("code") for one in (ended, answered, changed)] == ["exchange.guest-refused"] * 3
    assert declined[1]["requests"][0]["state"] == "declined"
    with pytest.raises(Refused):
        await host.exchange.guests.use(host.participant, share.id, "Audit")
    assert (await host.exchange.guests.share(host.participant, share.id)).state == "shared"


async def test_a_statement_counts_once_in_its_place_and_in_its_time(host: Node) -> None:
    hand = Hand(host, Ed25519Key.generate())
    state = await hand.join()
    envelope = hand.shared(state)
    first = await hand.send(envelope, CSV)
    again = await hand.send(envelope, CSV)
    behind = formats.Chain(hand.did, host.participant, 1, hand.chain.head)
    hand.chain, ahead = behind, hand.chain
    out_of_place = await hand.send(hand.signed("revoke", share=first[1]["shares"][0]["id"]))
    hand.chain = ahead
    old = await hand.send(hand.signed("revoke", share=first[1]["shares"][0]["id"], at=host.clock.now() - 3600 * NS))
    read_old = await hand.read("state", at=_iso(host.clock.now() - 3600 * NS))

    assert first[0] == 200
    assert (again[0], again[1]["code"]) == (409, "exchange.guest-repeated")
    assert [one[1]["code"] for one in (out_of_place, old, read_old)] == ["exchange.guest-refused"] * 3
    assert len(await host.exchange.guests.shares(host.participant, hand.did)) == 1


async def test_a_file_that_is_too_large_or_not_the_signed_one_is_not_taken(host: Node) -> None:
    hand = Hand(host, P256Key.generate())
    state = await hand.join()
    large = b"a,b\n" + b"1,2\n" * LIMIT
    answers = [
        await hand.send(hand.shared(state, large), large),
        await hand.send(hand.shared(state), CSV + b"more"),
        await hand.send(hand.shared(state), CSV[:-2]),
        await hand.send(hand.shared(state), CSV.replace(b"20.5", b"99.5")),
        await hand.send(hand.shared(state, b"PK\x03\x04 no table"), b"PK\x03\x04 no table"),
    ]
    hostile = b'<?xml version="1.0"?><!DOCTYPE q [<!ENTITY a "b">]><QIFDocument>&a;</QIFDocument>'
    answers.append(await hand.send(hand.shared(state, hostile), hostile))
    escape = hand.signed("share", file=_file(CSV, "\x1b[2Ja.csv"), purpose=state["purpose"], terms=state["terms"])
    named = await hand.send(escape, CSV)
    for number in range(6):
        data = b"time,a\n" + b"2026-01-01T00:00:00Z,1\n" * 100 + str(number).encode()
        last = await hand.send(hand.shared(state, data), data)

    assert [one[1].get("code") for one in answers] == ["exchange.guest-file-refused"] * 6
    assert last[1].get("code") == "exchange.guest-file-refused"
    assert named[1]["code"] == "exchange.guest-refused"
    assert "in all" in last[1]["title"]


async def test_a_link_joins_one_guest_and_other_terms_than_those_asked_for_are_refused(host: Node) -> None:
    _, link = await host.exchange.spaces.invite(host.participant, kind="guest")
    code = link.partition("#")[2]
    invitation = sha256(code.encode()).hex()
    first, second = Hand(host, Ed25519Key.generate()), Hand(host, Ed25519Key.generate())
    taken = await first.send(first.signed("join", invitation=invitation, name="A"), code=code)
    late = await second.send(second.signed("join", invitation=invitation, name="B"), code=code)
    guess = await second.send(second.signed("join", invitation=invitation, name="B"), code="0" * 32)
    better = await first.send(first.signed("share", file=_file(CSV), purpose="Pay me", terms=taken[1]["terms"]), CSV)

    assert (taken[0], late[1]["code"], guess[1]["code"]) == (
        200,
        "exchange.invitation-refused",
        "exchange.invitation-refused",
    )
    assert better[1]["code"] == "exchange.guest-refused"


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"[]\n", b"{}\n", b'{"statement":1}\n', b"[" * 40_000, b'{"a":' * 5000, b"\xff\xfe\n", b"x" * 200_000],
    ids=["empty", "newline", "array", "object", "number", "open", "deep", "not-utf8", "long"],
)
async def test_what_is_no_statement_is_refused_by_name(host: Node, body: bytes) -> None:
    answer = await host.http.request("POST", f"{host.address}/guantong/guests/statements", body=body, max_bytes=100_000)

    assert answer.status == 403
    assert json.loads(answer.body)["code"] == "exchange.guest-refused"


async def test_changed_papers_do_not_verify_and_do_not_move_in(host: Node) -> None:
    hand = Hand(host, Ed25519Key.generate())
    state = await hand.join()
    await hand.send(hand.shared(state), CSV)
    _, papers = await hand.read("papers")
    whole = json.dumps(papers)
    shorter = {**papers, "statements": papers["statements"][:1], "entries": papers["entries"][:1]}
    swapped = {**papers, "entries": papers["entries"][::-1]}

    assert verify_guest(whole.encode()).verdict == "signer-unknown"
    assert verify_guest(json.dumps(shorter).encode()).verdict == "signer-unknown"  # an honest beginning of the chain
    assert verify_guest(json.dumps(swapped).encode()).verdict == "not-ok"
    assert verify_guest(whole.replace("Zhou", "Chen").encode()).verdict == "not-ok"
    assert verify_guest(whole.replace('"number": 1', '"number": 2').encode()).verdict == "not-ok"
    with pytest.raises(Refused):
        await host.exchange.moving.move_in(host.participant, whole.encode(), "no key in it")


async def test_a_guest_cannot_move_under_another_companys_name(host: Node) -> None:
    hand, evidence = Hand(host, P256Key.generate()), Ed25519Key.generate()
    await hand.join()
    envelope, _ = formats.moved(hand.chain, host.participant, host.address, evidence, hand.key, host.clock.now())
    other = await hand.send(envelope)
    forged = {**envelope, "accepted": envelope["signature"]}
    not_accepted = await hand.send(forged)
    away, _ = formats.moved(
        hand.chain, "did:web:127.0.0.1%3A9", "http://127.0.0.1:9", evidence, hand.key, host.clock.now()
    )
    moved = await hand.send(away)
    by_old_key = await hand.send(hand.signed("revoke", share="sha256:0"))

    assert (other[0], other[1]["code"]) == (403, "exchange.guest-refused")
    assert "does not list" in other[1]["title"]
    assert not_accepted[1]["code"] == "exchange.guest-refused"
    assert (moved[0], moved[1]["movedTo"]) == (200, "did:web:127.0.0.1%3A9")
    assert by_old_key[1]["code"] == "exchange.guest-refused"
