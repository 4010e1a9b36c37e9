"""Rules decide who gets a contract at once, who waits for a person and who is refused; the first line that fits."""

from __future__ import annotations

from typing import Any

import pytest

from guantong.base.errors import ConfigProblem
from guantong.exchange.acceptance import acceptance_of, verdict_on
from guantong.exchange.facts import Facts

LINES = ("refuse did:web:rival *", "person group:new *", "person * secret", "auto * spindle")


@pytest.mark.parametrize(
    ("did", "groups", "dataset", "verdict"),
    [
        ("did:web:rival", (), "spindle", "refuse"),
        ("did:web:a", ("new",), "spindle", "person"),
        ("did:web:a", (), "secret", "person"),
        ("did:web:a", (), "spindle", "auto"),
        ("did:web:a", (), "other", ""),
    ],
)
def test_the_first_line_that_fits_decides(did: str, groups: tuple[str, ...], dataset: str, verdict: str) -> None:
    assert verdict_on(acceptance_of(LINES), Facts(did, 0, groups=frozenset(groups)), dataset) == verdict


@pytest.mark.parametrize("line", ["auto *", "perhaps * *", "auto * * *", ""])
def test_a_line_that_is_not_well_made_is_named(line: str) -> None:
    with pytest.raises(ConfigProblem) as refused:
        acceptance_of([line])

    assert refused.value.code == "config.wrong-type"
    assert refused.value.facts["value"] == line


async def test_a_request_waits_for_a_person_or_is_refused_as_the_rules_say(companies: Any, product: Any) -> None:
    waiting = "did:web:localhost%3A7002"
    provider = await companies(
        "localhost:7001",
        partner_groups=(f"new {waiting}",),
        acceptance=("person group:new *", "refuse did:web:localhost%3A7003 *"),
    )
    newcomer, rival, other = [await companies(f"localhost:{port}") for port in (7002, 7003, 7004)]
    await provider.exchange.offer(provider.did, product())
    pids = {}
    for one in (newcomer, rival, other):
        offers = (await one.exchange.catalogue(one.did, provider.base, provider.did)).offers
        pids[one.did] = await one.exchange.negotiate(one.did, provider.base, provider.did, offers[0])

    refused = await rival.exchange.wait_negotiation(rival.did, pids[rival.did], timeout_s=5)
    agreed = await other.exchange.wait_negotiation(other.did, pids[other.did], timeout_s=5)
    [queued] = [one for one in await provider.exchange.negotiations(provider.did) if one.waiting == "person"]
    await provider.exchange.decide_negotiation(provider.did, queued.pid, "agree")
    after = await newcomer.exchange.wait_negotiation(newcomer.did, pids[newcomer.did], timeout_s=5)

    assert refused.state == "TERMINATED"
    assert refused.reason.startswith("acceptance: ")
    assert agreed.state == "FINALIZED"
    assert (queued.partner, queued.state) == (waiting, "REQUESTED")
    assert after.state == "FINALIZED"
