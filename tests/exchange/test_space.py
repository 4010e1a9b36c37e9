"""A space: founded, joined with a one-time link, left by revocation."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from guantong.base.errors import GuantongError, Refused, Retryable, Skippable
from guantong.base.wire import Response
from guantong.exchange.space import MEMBERSHIP, code_of, root_of
from guantong.exchange.tables import INVITATIONS

DAY = 86_400


@pytest.fixture
async def leader(companies, clock):
    leader = await companies("localhost:7200", clock=clock, claims_cache_s=10)
    await leader.exchange.spaces.make(leader.did, "  Gear  makers ")
    return leader


async def invited(leader, **options):
    return (await leader.exchange.spaces.invite(leader.did, **options))[1]


async def reason_of(coming, kind=Refused, code="exchange.invitation-refused"):
    with pytest.raises(kind) as failed:
        await coming
    assert failed.value.code == code
    return str(failed.value.facts.get("reason", ""))


async def test_a_company_joins_with_one_link_and_both_sides_then_trade_as_members(companies, clock, leader):
    member = await companies("localhost:7201", clock=clock)
    stranger = await companies("localhost:7202", clock=clock)
    space, came = await member.exchange.spaces.join(member.did, await invited(leader), name="Zhou Gears")
    catalogue = await member.exchange.catalogue(member.did, leader.base, leader.did)
    back = await leader.exchange.catalogue(leader.did, member.base, member.did)

    assert (space.name, space.issuer, space.role, came) == ("Gear makers", leader.did, "member", True)
    assert (catalogue.participant_id, back.participant_id) == (leader.did, member.did)
    assert [held.issuer for held in member.exchange.wallet.held(member.did)] == [leader.did]
    assert {one["name"] for one in await member.exchange.spaces.directory(member.did)} >= {"Zhou Gears"}
    for host in (leader, member):
        with pytest.raises(GuantongError) as refused:
            await stranger.exchange.catalogue(stranger.did, host.base, host.did)
        assert refused.value.facts["status"] == 401


async def test_a_link_works_once_and_its_code_is_not_kept(companies, clock, leader):
    member = await companies("localhost:7201", clock=clock)
    other = await companies("localhost:7202", clock=clock)
    link = await invited(leader)
    await member.exchange.spaces.join(member.did, link)
    rows = await leader.records.rows(select(INVITATIONS))

    assert "used up" in await reason_of(other.exchange.spaces.join(other.did, link))
    assert rows[0]["state"] == "used"
    assert rows[0]["used_by"] == member.did
    assert link.partition("#")[2] not in repr(rows)


async def test_of_two_who_use_a_link_at_once_one_gets_in(companies, clock, leader):
    found = [await companies(f"localhost:720{number}", clock=clock) for number in (1, 2)]
    link = await invited(leader)
    done = await asyncio.gather(*(one.exchange.spaces.join(one.did, link) for one in found), return_exceptions=True)

    assert sorted(isinstance(one, GuantongError) for one in done) == [False, True]
    assert sum(one.state == "admitted" for one in await leader.exchange.spaces.members(leader.did)) == 2


async def test_the_same_company_may_ask_again_when_the_answer_was_lost(companies, clock, leader, network):
    member = await companies("localhost:7201", clock=clock)
    link, lost = await invited(leader), []

    def lose(method, url, body):
        if url.endswith("/dcp/issuer/metadata") and not lost:
            lost.append(url)
            raise Retryable("web.unreachable", url=url, reason="cut")
        return

    network.before.append(lose)
    with pytest.raises(Retryable):
        await member.exchange.spaces.join(member.did, link)
    _, came = await member.exchange.spaces.join(member.did, link)

    assert came
    assert lost


@pytest.mark.parametrize("what", ["old", "withdrawn", "unknown", "guest"])
async def test_a_link_that_is_not_open_is_refused(companies, clock, leader, what):
    member = await companies("localhost:7201", clock=clock)
    spaces = leader.exchange.spaces
    made, link = await spaces.invite(leader.did, kind="guest" if what == "guest" else "join", valid_s=DAY)
    if what == "old":
        clock.advance(DAY)
    elif what == "withdrawn":
        await spaces.withdraw(leader.did, made.id[:12])
    elif what == "unknown":
        link = link[:-4] + ("0000" if not link.endswith("0000") else "1111")

    await reason_of(member.exchange.spaces.join(member.did, link))
    assert not member.exchange.spaces.spaces(member.did)


async def test_nobody_can_offer_the_space_of_another_host(companies, clock, leader, network):
    member = await companies("localhost:7201", clock=clock)
    link = await invited(leader)
    body = (await leader.exchange.spaces.offered(leader.did, link.partition("#")[2], "join")) | {"issuer": "did:web:x"}

    import orjson

    network.before.append(lambda method, url, _: Response(200, orjson.dumps(body)) if "/offer" in url else None)
    assert "not who issues" in await reason_of(member.exchange.spaces.join(member.did, link))


async def test_without_proof_of_the_key_nobody_is_admitted(companies, clock, leader, network):
    link = await invited(leader)
    body = b'{"code": "%s", "name": "x"}' % link.partition("#")[2].encode()
    answer = await network.request("POST", "http://localhost:7200/space/join", body=body)

    assert answer.status == 401
    assert [one.did for one in await leader.exchange.spaces.members(leader.did)] == [leader.did]


async def test_a_membership_that_was_ended_counts_no_more_once_the_cache_is_old(companies, clock, leader):
    member = await companies("localhost:7201", clock=clock)
    await member.exchange.spaces.join(member.did, await invited(leader))
    await member.exchange.catalogue(member.did, leader.base, leader.did)
    ended = await leader.exchange.spaces.remove(leader.did, member.did)
    clock.advance(11)
    with pytest.raises(GuantongError) as refused:
        await member.exchange.catalogue(member.did, leader.base, leader.did)

    assert ended == 1
    assert refused.value.facts["status"] == 401
    assert "ended by its issuer" in str(refused.value.facts["reason"])
    with pytest.raises(Refused):
        await leader.exchange.spaces.remove(leader.did, member.did)
    with pytest.raises(Refused):
        await leader.exchange.spaces.remove(leader.did, leader.did)


async def test_after_a_restart_the_spaces_still_count(companies, clock, leader):
    member = await companies("localhost:7201", clock=clock)
    await member.exchange.spaces.join(member.did, await invited(leader))
    hosting = member.exchange.hosting
    hosting.trust._of.clear()
    assert hosting.trust.required(member.did) == ()
    await member.exchange.spaces.start()

    assert hosting.trust.required(member.did) == (MEMBERSHIP,)
    assert hosting.trust.issuers(member.did) == (f"{leader.did} {MEMBERSHIP}",)


@pytest.mark.parametrize(
    "link",
    [
        "",
        "https://a.example/space/join",
        "https://a.example/space/join#short",
        "ftp://a.example/space/join#" + "0" * 32,
        "https://u:p@a.example/space/join#" + "0" * 32,
        "https://a.example/space/else#" + "0" * 32,
        "https://a.example/space/join?x=1#" + "0" * 32,
        "https://[::1/space/join#" + "0" * 32,
    ],
)
def test_what_is_no_link_is_called_so(link):
    with pytest.raises(Skippable) as failed:
        code_of(link)

    assert failed.value.code == "exchange.invitation-unreadable"


def test_a_link_names_root_kind_and_code():
    assert code_of("https://a.example/p/x/space/guest#" + "ab" * 16) == ("https://a.example/p/x", "guest", "ab" * 16)
    assert root_of("did:web:a.example:p:x") == "https://a.example/p/x"
    assert root_of("did:web:a.example") == "https://a.example"
