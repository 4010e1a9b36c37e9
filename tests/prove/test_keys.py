"""Keys that change: rotated with the old key's signature, or lost and confirmed by others; two and three rooms."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.prove.test_package import ID, Papers

from guantong.base import keychange
from guantong.base.canonical import b64
from guantong.base.errors import ConfigProblem, Refused
from guantong.base.keys import Ed25519Key
from guantong.base.note import open_note
from guantong.exchange import keyring
from guantong.exchange.identity import did_document
from guantong.prove import rules
from guantong.prove.papers import ExchangePapers
from guantong.records.tables import LEAVES
from guantong.verify import verify_package

DAY = 86_400 * 10**9


async def kinds(house) -> list[str]:
    rows = await house.records.rows(select(LEAVES.c.kind).where(LEAVES.c.participant == house.did))
    return [row["kind"] for row in rows if row["kind"] != "test.noted"]


async def rotate(house, *, overlap: bool = True) -> None:
    """What the key ring does to a node's keys, seen by its evidence room after the restart."""
    new = Ed25519Key.generate()
    statement = keychange.make(house.did, house.keys.log.public, new, house.clock.now(), old_key=house.keys.log)
    former = house.keys.log if overlap else None
    house.keys = replace(house.keys, log=new, former=former, changes=(*house.keys.changes, statement))
    await house.again()


async def pair(build):
    supplier, customer = await build("did:web:supplier.example"), await build("did:web:customer.example")
    await supplier.know(customer)
    await customer.know(supplier)
    return supplier, customer


async def witness_by(customer, supplier) -> int:
    """The customer cosigns the supplier's newest checkpoint, as the supplier's rounds have it done."""
    head = await supplier.prove.catch_up(supplier.did)
    one = supplier.prove._log(supplier.did)
    before = one.witnesses[customer.did].size
    await supplier.prove._ask_witness(one, customer.did)
    return head.size - before if one.witnesses[customer.did].size == head.size else 0


async def test_a_partner_follows_a_rotation_by_itself_and_both_record_it(build) -> None:
    supplier, customer = await pair(build)
    await supplier.note(2)
    assert await witness_by(customer, supplier)
    old = supplier.keys.log
    await rotate(supplier, overlap=False)  # nothing of the old key is left: the partner has to look the change up
    await supplier.note(1)
    assert await witness_by(customer, supplier)
    (peer,) = customer.prove.peers(customer.did)
    head = await supplier.prove.checkpoint(supplier.did)

    assert peer.evidence_key == supplier.keys.log.public != old.public
    assert open_note(head.note, [peer.log_vkey]).signers
    assert await kinds(supplier) == ["prove.key-rotated"]
    assert await kinds(customer) == ["prove.partner-key-changed"]
    await supplier.again()  # a restart records nothing twice
    assert await kinds(supplier) == ["prove.key-rotated"]


async def test_during_the_overlap_a_checkpoint_is_good_under_either_key(build) -> None:
    supplier, _ = await pair(build)
    old = supplier.prove.keys_of(supplier.did)[0]
    await rotate(supplier)
    await supplier.note(1)
    head = await supplier.prove.catch_up(supplier.did)

    for key in (old, supplier.prove.keys_of(supplier.did)[0]):
        assert open_note(head.note, [key]).signers == (key,)


async def test_packages_of_before_a_rotation_verify_and_the_old_key_signs_none_afterwards(
    build, tmp_path, clock
) -> None:
    supplier, customer = await pair(build)
    papers = Papers(supplier, customer)
    supplier.prove.source = ExchangePapers(papers)
    await papers.agree()
    await papers.deliver(1)
    assert await witness_by(customer, supplier)
    trust_of_before = rules.parse_trust(await customer.prove.trust_lines(customer.did))
    before = (await supplier.prove.package(supplier.did, ID, tmp_path / "before")).path.read_bytes()
    old_keys = supplier.keys
    clock.at += DAY
    await rotate(supplier, overlap=False)
    await papers.deliver(2)
    assert await witness_by(customer, supplier)
    after = (await supplier.prove.package(supplier.did, ID, tmp_path / "after")).path.read_bytes()
    trust = rules.parse_trust(await customer.prove.trust_lines(customer.did))
    # somebody who holds the old key goes on with it
    thief = replace(old_keys)
    supplier.keys = thief
    await supplier.again()
    clock.at += DAY
    await supplier.note(1)
    await papers.agree()
    await supplier.prove.catch_up(supplier.did)
    forged = (await supplier.prove.package(supplier.did, ID, tmp_path / "forged")).path.read_bytes()

    def verdict(data: bytes, known) -> tuple[str, list[str]]:
        report = verify_package(data, known, now_ns=clock.now())
        return report.verdict, [check.name for check in report.checks if check.ok is False]

    assert verdict(before, trust_of_before) == ("ok", [])
    assert verdict(before, trust) == ("ok", [])
    assert verdict(after, trust) == ("ok", [])
    # who knows the old key only is led on by the statement inside the package
    assert verdict(after, trust_of_before)[0] == "ok"
    assert verdict(forged, trust) == ("not-ok", ["witnesses", "keys"])
    lax = (await customer.prove.trust_lines(customer.did)).replace("quorum witnesses", "quorum none")
    assert verdict(forged, rules.parse_trust(lax)) == ("not-ok", ["keys"])


async def test_a_lost_key_is_followed_only_once_a_known_party_has_confirmed_the_new_one(build) -> None:
    supplier, customer = await pair(build)
    await supplier.note(1)
    assert await witness_by(customer, supplier)
    old, new = supplier.keys.log, Ed25519Key.generate()
    statement = keychange.make(supplier.did, old.public, new, supplier.clock.now(), old_key=None)
    supplier.keys = replace(supplier.keys, log=new, witness=Ed25519Key.generate(), changes=(statement,))
    await supplier.again()
    await supplier.note(1)
    with pytest.raises(Refused) as refused:
        await witness_by(customer, supplier)
    assert refused.value.code == "prove.witness-refused"
    # the customer's people have compared the key over the telephone; the supplier publishes their confirmation
    word = keychange.confirmation(keychange.parse(statement), customer.did, customer.keys.log, customer.clock.now())
    forged = {**word, "by": "did:web:stranger.example"}
    for words, expected in (([forged], old.public), ([word], new.public)):
        supplier.keys = replace(supplier.keys, changes=({**statement, "confirmations": words},))
        (peer,) = customer.prove.peers(customer.did)
        found = await customer.prove.key_changes.follow(customer.did, peer)
        assert found.evidence_key == expected

    assert await witness_by(customer, supplier)
    assert await kinds(supplier) == ["prove.key-lost"]
    assert await kinds(customer) == ["prove.partner-key-changed"]
    trust = rules.parse_trust(await customer.prove.trust_lines(customer.did))
    assert trust.retired.keys() == {old.public}


def test_two_changes_of_one_key_are_refused_and_so_is_a_changed_statement() -> None:
    old, a, b = (Ed25519Key.generate() for _ in range(3))
    did = "did:web:supplier.example"
    first, second = (keychange.make(did, old.public, key, at, old_key=old) for at, key in ((DAY, a), (2 * DAY, b)))
    with pytest.raises(Refused) as two:
        keychange.believed([keychange.parse(first), keychange.parse(second)], {did: frozenset({old.public})})
    assert two.value.code == "base.key-change-refused"
    changed = (
        {**first, "new": b64(b.public)},
        {**first, "at": "2030-01-01T00:00:00Z"},
        {**first, "reason": "lost", "signatures": second["signatures"]},
        {**first, "more": 1},
        {**first, "signatures": {"new": first["signatures"]["new"]}},
        [],
        None,
    )
    for one in changed:
        with pytest.raises(Refused) as error:
            keychange.parse(one)
        assert error.value.code == "base.key-change-refused"
    # a statement that nobody known has signed or confirmed changes nothing
    stranger = keychange.parse(keychange.make(did, a.public, b, DAY, old_key=a))
    assert keychange.believed([stranger], {did: frozenset({old.public})}) == []


def test_the_key_ring_rotates_lists_both_during_the_overlap_and_never_makes_new_keys_in_silence(tmp_path) -> None:
    path, did = tmp_path / "keys.json", "did:web:supplier.example"
    keys = keyring.load_keys(path)
    new = keyring.rotated(keys, did, DAY, overlap_s=86_400)
    keyring.store_keys(path, new)
    again = keyring.load_keys(path)
    identity = again.identity(did)
    during, after = (did_document(identity, "https://supplier.example", at=at) for at in (DAY, 3 * DAY))

    def names(document, relation: str) -> list[str]:
        return [item.partition("#")[2] for item in document[relation]]

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.evidence.public == new.evidence.public != keys.evidence.public
    assert names(during, "authentication") == ["token-2", "token"]
    assert names(during, "assertionMethod") == ["token-2", "token", "evidence", "evidence-1"]
    assert names(after, "assertionMethod") == ["token-2", "evidence"]
    assert (again.former_at(DAY).public, again.former_at(3 * DAY)) == (keys.evidence.public, None)
    path.unlink()
    with pytest.raises(ConfigProblem) as error:
        keyring.load_keys(path)
    assert error.value.code == "base.key-unreadable"
    lost = keyring.lost(path, did, 4 * DAY)
    change = keychange.parse(json.loads(json.dumps(lost.changes[-1])))
    assert (change.reason, change.old, change.new) == ("lost", new.evidence.public, lost.evidence.public)
    assert lost.identity(did).retired == ()
