"""Packages made by a running room, from the exchange's papers, verified with the trust file of the other side."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, Refused, Retryable, Skippable
from guantong.exchange.model import AGREEMENT_MADE, USAGE_COUNTERSIGNED, USAGE_RECORDED, Agreement, Receipt
from guantong.exchange.rules import statement_of
from guantong.prove import rules
from guantong.prove.model import Scope
from guantong.prove.papers import ExchangePapers
from guantong.verify import verify_package

ID = "urn:uuid:agreement-1"


class Papers:
    """What an exchange knows of one agreement, with the entries it would have recorded."""

    def __init__(self, supplier, customer) -> None:
        self.supplier, self.customer = supplier, customer
        document = {"@id": ID, "assigner": supplier.did, "assignee": customer.did, "target": "d", "permission": []}
        self.paper = Agreement(
            id=ID, role="provider", partner=customer.did, partner_address="", dataset_id="d", product_id="p", agreement=document,
            agreement_hash=digest(document), policy_hash="", terms="", price={}, state="final", agreed_at=0, negotiation_pid="n",
        )  # fmt: skip
        self.held: list[Receipt] = []

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        if agreement_id != ID:
            raise Skippable("prove.no-such-agreement", agreement=agreement_id)
        return self.paper

    async def receipts(self, participant: str, agreement_id: str) -> list[Receipt]:
        return list(self.held)

    async def agree(self) -> None:
        async with self.supplier.records.step(self.supplier.did) as step:
            step.record(
                Entry(
                    AGREEMENT_MADE,
                    {
                        "agreement": ID, "partner": self.customer.did, "role": "provider", "dataset": "d",
                        "agreementHash": self.paper.agreement_hash, "policyHash": "",
                    },
                )
            )  # fmt: skip

    async def deliver(self, seq: int, transfer: str = "t") -> None:
        record = {
            "v": 1, "type": "usage", "recordId": f"r{seq}", "agreementId": ID, "agreementHash": self.paper.agreement_hash,
            "policyHash": "", "assetId": "d", "assetVersion": "1", "transferProcessId": transfer, "consumerProcessId": "c", "seq": seq,
            "provider": self.supplier.did, "consumer": self.customer.did, "from": "2026-11-24T07:00:00Z", "to": "2026-11-24T07:30:00Z",
            "unit": "rows", "quantity": "5", "rows": 5, "bytes": 50, "complete": True, "purpose": "", "contentAlg": "sha256-rfc6962",
            "blockBytes": 65536, "contentRoot": digest(seq), "chunkCount": 1, "prev": "", "meterSource": "", "clock": "system", "salt": "",
        }  # fmt: skip
        signature = b64(self.supplier.keys.log.sign(canonical_bytes(record)))
        receipt = Receipt(
            f"r{seq}", ID, transfer, seq, "provider", self.customer.did, "offered", record, signature, {}, 0
        )
        common = {"role": "provider", "partner": self.customer.did, "state": "offered", "signature": signature}
        async with self.supplier.records.step(self.supplier.did) as step:
            step.record(Entry(USAGE_RECORDED, {"recordHash": digest(record), "record": record, **common}))
        self.held.append(receipt)

    async def countersign(self, seq: int) -> None:
        receipt = self.held[seq - 1]
        counted = {name: receipt.record[name] for name in ("rows", "bytes", "contentRoot")}
        statement = statement_of(
            receipt.record, receipt.signature, counted, consumer=self.customer.did, at="2026-11-24T07:31:00Z"
        )
        signature = b64(self.customer.keys.log.sign(canonical_bytes(statement)))
        async with self.supplier.records.step(self.supplier.did) as step:
            step.record(
                Entry(
                    USAGE_COUNTERSIGNED,
                    {
                        "record": f"r{seq}", "agreement": ID, "role": "provider", "partner": self.customer.did,
                        "state": "acknowledged", "signature": signature, "statement": statement,
                    },
                )
            )  # fmt: skip
        self.held[seq - 1] = replace(
            receipt, state="acknowledged", countersignature={"statement": statement, "signature": signature}
        )


@pytest.fixture
async def papers(supplier, customer) -> Papers:
    await supplier.know(customer)
    await customer.know(supplier)
    held = Papers(supplier, customer)
    supplier.prove.source = ExchangePapers(held)
    await supplier.note(3)
    await held.agree()
    for seq in (1, 2):
        await held.deliver(seq)
        await held.countersign(seq)
    await supplier.note(2)
    return held


async def trust_of(house) -> rules.Trust:
    return rules.parse_trust(await house.prove.trust_lines(house.did))


async def test_a_package_of_a_running_room_verifies_with_the_other_side_s_trust_file(
    supplier, customer, papers, tmp_path
) -> None:
    await supplier.prove.start()
    await customer.prove.start()
    await customer.note(1)
    async with asyncio.timeout(5):
        await customer.prove.witnessed(customer.did, 1)
    made = await supplier.prove.package(supplier.did, ID, tmp_path / "deep" / "case")
    report = verify_package(made.path.read_bytes(), await trust_of(customer), now_ns=supplier.clock.now())

    assert made.path.name == "case.guantong.zip"
    assert made.leaves == 5
    assert made.witnessed_at == supplier.clock.now()
    assert (report.verdict, report.text()) == ("ok", report.text())
    assert report.receipts == {"acknowledged": 2}
    assert report.known_at == "2026-11-24T08:00:00Z"
    assert report.signers == [customer.did, supplier.did]


async def test_making_a_package_is_recorded_and_the_next_one_holds_that_entry(
    supplier, customer, papers, tmp_path
) -> None:
    first = await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip")
    second = await supplier.prove.package(supplier.did, ID, tmp_path / "b.zip")
    files = rules.read_zip(second.path.read_bytes())
    leaves = [json.loads(data) for path, data in files.items() if path.startswith("log/") and path.endswith(".json")]
    manifest = rules.read_zip(first.path.read_bytes())[rules.MANIFEST]

    assert [leaf["body"]["manifest"] for leaf in leaves if leaf["kind"] == "prove.package-made"] == [
        rules.digest_of(manifest)
    ]


async def test_without_witnesses_a_package_is_made_and_a_quorum_is_not_met(
    supplier, customer, papers, tmp_path
) -> None:
    made = await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip")
    data = made.path.read_bytes()
    trust = rules.parse_trust(
        rules.trust_text(
            {supplier.did: supplier.keys.log.public, customer.did: customer.keys.log.public},
            [supplier.prove.keys_of(supplier.did)[0]],
            [],
        )
    )

    assert made.witnessed_at is None
    assert [c.name for c in verify_package(data, await trust_of(customer)).checks if c.ok is False] == ["witnesses"]
    report = verify_package(data, trust)
    assert report.verdict == "ok"
    assert report.known_at is None
    assert not any("at the latest" in en for en, _ in report.proven())


async def test_receipts_answered_while_the_package_is_made_do_not_break_it(
    supplier, customer, papers, tmp_path
) -> None:
    await papers.deliver(3)
    documents = supplier.prove.source.documents
    calls = 0

    async def moving(participant: str, agreement_id: str):
        nonlocal calls
        calls += 1
        found = await documents(participant, agreement_id)
        if calls == 1:
            await papers.countersign(3)
        if calls == 2:
            await papers.deliver(4)
        return found

    supplier.prove.source.documents = moving
    await supplier.prove.start()
    made = await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip")
    report = verify_package(made.path.read_bytes(), await trust_of(supplier))

    assert report.verdict == "ok"
    assert report.receipts == {"acknowledged": 3, "offered": 1}


async def test_papers_that_never_stand_still_are_given_up(supplier, papers, tmp_path) -> None:
    documents = supplier.prove.source.documents
    count = 2

    async def restless(participant: str, agreement_id: str):
        nonlocal count
        count += 1
        await papers.deliver(count)
        return await documents(participant, agreement_id)

    supplier.prove.source.documents = restless
    with pytest.raises(Retryable) as caught:
        await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip")
    assert caught.value.code == "prove.package-moving"


async def test_what_can_t_be_packed_is_refused_with_its_code_and_leaves_no_file(
    build, supplier, papers, tmp_path
) -> None:
    with pytest.raises(Skippable) as unknown:
        await supplier.prove.package(supplier.did, "urn:uuid:nothing", tmp_path / "a.zip")
    assert unknown.value.code == "prove.no-such-agreement"
    for path in ("../outside", "agreement.json", rules.MANIFEST, "verify.pyz"):
        with pytest.raises(ConfigProblem) as conflict:
            await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip", extra={path: b""})
        assert conflict.value.code == "prove.package-conflict"
    supplier.prove.settings = replace(supplier.settings, max_package_bytes=1000)
    with pytest.raises(Refused) as large:
        await supplier.prove.package(supplier.did, ID, tmp_path / "a.zip")
    assert large.value.code == "prove.package-too-large"

    assert list(Path(tmp_path).iterdir()) == []


def test_entries_of_this_room_have_a_schema_that_holds(supplier) -> None:
    import jsonschema_rs

    from guantong.prove.model import ENTRY_KINDS, PACKAGE_MADE

    body = {"agreementId": ID, "manifest": "sha256:" + "0" * 64, "files": 3}
    assert jsonschema_rs.is_valid(dict(PACKAGE_MADE.schema), body)
    assert not jsonschema_rs.is_valid(dict(PACKAGE_MADE.schema), {**body, "files": 0})
    assert [kind.name.partition(".")[0] for kind in ENTRY_KINDS] == ["prove"] * len(ENTRY_KINDS)


def test_leaves_say_which_agreement_they_are_about() -> None:
    def leaf(body: object) -> bytes:
        return canonical_bytes({"v": 1, "body": body})

    assert rules.subjects(leaf({"agreementId": "a"})) == {"a"}
    assert rules.subjects(leaf({"agreement": "a", "record": {"agreementId": "b"}})) == {"a", "b"}
    assert rules.subjects(leaf({"agreement": {"x": 1}, "agreementId": ""})) == set()
    assert rules.subjects(leaf({"text": '"agreementId"'})) == set()
    assert rules.subjects(leaf([{"agreementId": "a"}])) == set()


async def test_a_package_may_hold_one_transfer_or_one_period_and_says_so(
    supplier, customer, papers, tmp_path, clock
) -> None:
    clock.advance(3600)
    await papers.deliver(3, transfer="t2")
    await papers.countersign(3)
    await supplier.prove.catch_up(supplier.did)
    trust = rules.parse_trust(
        (await supplier.prove.trust_lines(supplier.did)).partition("witness ")[0] + "quorum none\n"
    )

    async def of(scope: Scope):
        made = await supplier.prove.package(supplier.did, ID, tmp_path / "part", scope=scope)
        return verify_package(made.path.read_bytes(), trust, now_ns=clock.now())

    whole, first, second = await of(Scope()), await of(Scope(transfer="t")), await of(Scope(transfer="t2"))
    early, late = await of(Scope(end=clock.now() - 1)), await of(Scope(start=clock.now()))

    assert [one.receipts for one in (whole, first, second)] == [{"acknowledged": n} for n in (3, 2, 1)]
    assert [one.receipts for one in (early, late)] == [{"acknowledged": 2}, {"acknowledged": 1}]
    assert all(one.verdict == "ok" for one in (whole, first, second, early, late)), late.text()
    assert (whole.scope, second.scope, late.scope) == ({}, {"transfer": "t2"}, {"from": "2026-11-24T09:00:00Z"})
    assert "part of the agreement's records only: transfer t2" in second.text()
    assert "part of" not in whole.text()


async def test_a_fork_s_proof_is_verified_by_the_same_command(supplier, customer, tmp_path, capsys) -> None:
    from guantong import verify
    from guantong.base.fork import Fork
    from guantong.base.note import Checkpoint, sign

    origin = f"guantong/{supplier.did}"
    notes = [sign(Checkpoint(origin, 4, bytes([n] * 32)).text, origin, supplier.keys.log).to_bytes() for n in (1, 2)]
    fork, trust = tmp_path / "fork.json", tmp_path / "keys"
    fork.write_bytes(Fork(notes[0], notes[1], bytes([2] * 32)).to_bytes())
    trust.write_text(await supplier.prove.trust_lines(supplier.did), encoding="utf-8")
    stranger = tmp_path / "stranger"
    stranger.write_text(await customer.prove.trust_lines(customer.did), encoding="utf-8")

    assert verify.main(["--trust", str(trust), str(fork)]) == 0
    assert "the log was forked, and this proves it" in capsys.readouterr().out
    assert verify.main([str(fork)]) == 6
    assert verify.main(["--trust", str(stranger), str(fork)]) == 1
    fork.write_bytes(Fork(notes[0], notes[0], bytes([1] * 32)).to_bytes())
    assert verify.main(["--trust", str(trust), "--lang", "zh", str(fork)]) == 1
    assert "这不能证明日志被分叉" in capsys.readouterr().out
