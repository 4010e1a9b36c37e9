"""Anchors in a running room: one root an interval and kind, kept, put into packages, and verified offline by the stranger."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import missing

from guantong.base.errors import ConfigProblem, Refused, Retryable
from guantong.base.wire import Response
from guantong.prove.anchors import TimestampAnchor, WitnessAnchor, chosen
from guantong.prove.model import ProveSettings, origin_of
from guantong.prove.ports import Anchor


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory):
    if shutil.which("openssl") is None:
        missing("openssl", "not found on this machine")
    path = Path(__file__).parents[1] / "conformance" / "authority.py"
    spec = importlib.util.spec_from_file_location("test_authority", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Authority(tmp_path_factory.mktemp("authority"))


class AuthorityHttp:
    """The authority behind an address; it can be asked to misbehave."""

    def __init__(self, authority) -> None:
        self.authority, self.asked, self.status, self.bend = authority, 0, 200, lambda reply: reply

    async def request(self, method: str, url: str, *, body: bytes, headers, **_) -> Response:
        assert (method, headers["content-type"]) == ("POST", "application/timestamp-query")
        self.asked += 1
        return Response(self.status, self.bend(self.authority.reply(body)))


class AnchorContract:
    """What every anchor does; a new kind proves itself by subclassing this."""

    make: Callable[..., Anchor]

    async def test_what_was_handed_over_is_what_the_reference_states(self, anchor, supplier) -> None:
        head = await grown(supplier, 5)
        ref = await anchor.submit(origin_of(supplier.did), head.size, head.root)
        found = await anchor.verify(ref)

        assert (found.origin, found.size, found.root) == (origin_of(supplier.did), 5, head.root)
        assert found.at > 0
        assert found.by

    async def test_a_reference_with_another_root_does_not_hold(self, anchor, supplier) -> None:
        head = await grown(supplier, 5)
        ref = dict(await anchor.submit(origin_of(supplier.did), head.size, head.root))
        text = next(name for name in ("text", "note") if name in ref)
        ref[text] = ref[text].replace("\n5\n", "\n6\n")

        with pytest.raises(Refused):
            await anchor.verify(ref)


async def grown(house, count: int):
    await house.note(count)
    return await house.prove.catch_up(house.did)


class TestTimestamps(AnchorContract):
    @pytest.fixture
    def anchor(self, authority):
        return TimestampAnchor(AuthorityHttp(authority), "http://tsa.example", authority.root.read_bytes())


class TestWitnesses(AnchorContract):
    @pytest.fixture
    async def anchor(self, supplier, customer):
        await supplier.know(customer)
        await customer.know(supplier)
        await supplier.prove.start()
        keys = lambda: [peer.witness_vkey for peer in supplier.prove.peers(supplier.did) if peer.witness_vkey]  # noqa: E731
        return WitnessAnchor(lambda size: supplier.prove.witnessed(supplier.did, size), keys, wait_s=10)


async def test_a_witness_that_never_answers_is_waited_for_no_longer_than_said(supplier) -> None:
    anchor = WitnessAnchor(lambda size: supplier.prove.witnessed(supplier.did, size), list, wait_s=0.05)
    with pytest.raises(Retryable) as caught:
        await anchor.submit(origin_of(supplier.did), 1, bytes(32))
    assert caught.value.code == "prove.anchor-later"


async def test_one_root_goes_out_for_each_interval_in_which_the_log_has_grown(supplier, authority) -> None:
    http = AuthorityHttp(authority)
    supplier.prove.rounds.anchors = [TimestampAnchor(http, "http://tsa.example", authority.root.read_bytes())]
    assert await supplier.prove.rounds.anchor(supplier.did) == []
    await grown(supplier, 5)
    (first,) = await supplier.prove.rounds.anchor(supplier.did)
    assert await supplier.prove.rounds.anchor(supplier.did) == []
    await grown(supplier, 1)
    (second,) = await supplier.prove.rounds.anchor(supplier.did)

    assert (http.asked, first.size, second.size) == (2, 5, 6)
    assert (await supplier.prove.view(supplier.did)).anchors == (second,)
    assert await supplier.prove.rounds.anchors_over(supplier.did, 3) == [first]
    assert await supplier.prove.rounds.anchors_over(supplier.did, 6) == [second]
    assert await supplier.prove.rounds.anchors_over(supplier.did, 7) == []
    assert "authority " in await supplier.prove.trust_lines(supplier.did)


async def test_an_authority_that_fails_or_lies_leaves_no_anchor(supplier, authority) -> None:
    http = AuthorityHttp(authority)
    supplier.prove.rounds.anchors = [TimestampAnchor(http, "http://tsa.example", authority.root.read_bytes())]
    await grown(supplier, 5)
    http.status = 503
    with pytest.raises(Retryable):
        await supplier.prove.rounds.anchor(supplier.did)
    http.status, http.bend = 200, lambda reply: reply[:-1] + bytes([reply[-1] ^ 1])
    with pytest.raises(Refused):
        await supplier.prove.rounds.anchor(supplier.did)

    assert (await supplier.prove.view(supplier.did)).anchors == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"timestamp_url": "http://x", "timestamp_roots": "/nowhere"},
        {"timestamp_url": "http://x", "timestamp_roots": __file__},
        {"evm_url": "http://x"},
        {"evm_url": "http://x", "evm_key_file": __file__},
    ],
)
def test_settings_that_can_t_be_used_are_said_at_the_start(settings, clock) -> None:
    with pytest.raises(ConfigProblem) as caught:
        chosen(ProveSettings(**settings), None, clock)
    assert caught.value.code == "prove.anchor-setting"


def test_without_settings_nothing_is_anchored_beside_the_witnesses(clock) -> None:
    assert chosen(ProveSettings(), None, clock) == []
