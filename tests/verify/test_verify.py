"""The verifier: a good package passes, and nothing else does."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from tests.verify.conftest import AT, PRICE, World

from guantong import verify
from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.entry import Entry
from guantong.base.note import COSIGNATURE, key_of
from guantong.exchange import policy
from guantong.prove import package, rules
from guantong.prove.model import witness_name_of
from guantong.prove.verdict import in_chinese
from guantong.settle import credit, dispute
from guantong.settle import rules as settle
from guantong.settle.model import DISPUTE_LOCATED, DISPUTE_RESOLVED, NOTE_AGREED
from guantong.verify import verify_package

NOW = 1_795_600_000 * 10**9  # later in November 2026


def failed(report) -> list[str]:
    return [check.name for check in report.checks if check.ok is False]


def test_a_good_package_passes_and_says_what_it_proves(world, package_bytes) -> None:
    report = verify_package(package_bytes, world.trust(), now_ns=NOW)

    assert (report.verdict, report.exit_code, failed(report)) == ("ok", 0, [])
    assert [check.ok for check in report.checks] == [True] * 15
    assert report.receipts == {"acknowledged": 3}
    assert report.invoices == [{"number": "GT-2026-000001", "currency": "CNY", "total": "10.50", "signed": "2"}]
    assert report.signers == [world.consumer, world.provider]
    assert report.known_at == "2026-11-24T08:00:05Z"
    assert report.entries == 8
    text = report.text("en")
    assert "Proven:" in text
    assert "that the sensor told the truth" in text
    assert "不能证明：" in report.text("zh")


def test_without_keys_it_is_consistent_but_the_signer_is_unknown(package_bytes) -> None:
    report = verify_package(package_bytes, now_ns=NOW)

    assert (report.verdict, report.exit_code, failed(report)) == ("signer-unknown", 6, [])
    assert report.proven() == []


def test_known_at_is_when_the_quorum_was_complete(world, package_bytes) -> None:
    both = rules.parse_trust(world.trust_text("all"))
    assert verify_package(package_bytes, both, now_ns=NOW).known_at == "2026-11-24T09:00:00Z"


def test_two_of_two_witnesses_are_not_met_by_one(world) -> None:
    files = world.files(cosigners=((world.consumer, "2026-11-24T08:00:05Z"),))
    both = rules.parse_trust(world.trust_text("all"))

    assert failed(verify_package(world.pack(files), both, now_ns=NOW)) == ["witnesses"]
    assert verify_package(world.pack(files), world.trust(), now_ns=NOW).verdict == "ok"


def test_nobody_witnesses_its_own_log(world) -> None:
    files = world.files(cosigners=((world.provider, "2026-11-24T08:00:05Z"),))
    own = key_of(witness_name_of(world.provider), world.keys["witness " + world.provider], COSIGNATURE)
    trust = rules.parse_trust(
        world.trust_text().replace("group witnesses any", f"witness own {own}\ngroup witnesses any own")
    )

    assert failed(verify_package(world.pack(files), trust, now_ns=NOW)) == ["witnesses"]


def test_a_cosignature_from_the_future_is_refused(world) -> None:
    files = world.files(cosigners=((world.consumer, "2031-01-01T00:00:00Z"),))

    assert failed(verify_package(world.pack(files), world.trust(), now_ns=NOW)) == ["witnesses"]


# ---- one byte changed


def positions(data: bytes) -> list[int]:
    """Every byte of the container, of every file up to 4 kB, and 200 seeded positions of each larger file."""
    chance = random.Random(20261124)
    found = set(range(len(data)))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        for info in archive.infolist():
            start = info.header_offset + 30 + len(info.filename)
            if info.file_size > 4096:
                found -= set(range(start, start + info.file_size))
                found |= {start + at for at in chance.sample(range(info.file_size), 200)}
    return sorted(found)


def test_no_byte_of_a_package_can_be_changed(world, package_bytes) -> None:
    trust = world.trust()
    chance = random.Random(7)
    places = positions(package_bytes)
    survivors = []
    for at in places:
        changed = bytearray(package_bytes)
        changed[at] ^= chance.randrange(1, 256)
        if verify_package(bytes(changed), trust, now_ns=NOW).verdict != "not-ok":
            survivors.append(at)

    assert survivors == []
    assert len(places) > 10_000


def test_no_byte_can_be_changed_without_keys_either(package_bytes) -> None:
    chance = random.Random(8)
    for at in chance.sample(positions(package_bytes), 2000):
        changed = bytearray(package_bytes)
        changed[at] ^= 1 << chance.randrange(8)
        assert verify_package(bytes(changed), now_ns=NOW).verdict == "not-ok", at


@pytest.mark.parametrize("tail", [b"\x00", b"PK\x05\x06" + bytes(18), b"\n"])
def test_nothing_can_be_added_before_after_or_between(world, package_bytes, tail: bytes) -> None:
    middle = package_bytes.index(b"PK\x01\x02")
    for data in (package_bytes + tail, tail + package_bytes, package_bytes[:middle] + tail + package_bytes[middle:]):
        assert verify_package(data, world.trust(), now_ns=NOW).verdict == "not-ok"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x00" * 100, b"{}"])
def test_what_is_no_package_is_not_ok(data: bytes) -> None:
    assert verify_package(data).verdict == "not-ok"


def test_another_zip_of_the_same_files_is_not_ok(world, package_bytes) -> None:
    files = rules.read_zip(package_bytes)
    for compression, comment, folder in (
        (zipfile.ZIP_DEFLATED, b"", ""),
        (zipfile.ZIP_STORED, b"hi", ""),
        (zipfile.ZIP_STORED, b"", "x/"),
    ):
        held = BytesIO()
        with zipfile.ZipFile(held, "w", compression) as archive:
            archive.comment = comment
            for path, data in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, compression)
            if folder:
                archive.writestr(folder, b"")
        assert verify_package(held.getvalue(), world.trust(), now_ns=NOW).verdict == "not-ok"


def test_other_zip_tools_read_what_we_write(package_bytes) -> None:
    with zipfile.ZipFile(BytesIO(package_bytes)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == rules.read_zip(package_bytes)


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "x/../y", "a//b", "a/", "", ".x", "a/.b", "a\\b", "C:x", "con", "a/NUL.txt", "x.", "ä", "a b", "a\n", "com1"],
)  # fmt: skip
def test_paths_that_lead_outside_or_that_windows_refuses_are_not_written(path: str) -> None:
    with pytest.raises(ValueError):
        rules.write_zip({path: b""})


def test_paths_that_differ_only_in_case_are_not_written() -> None:
    with pytest.raises(ValueError):
        rules.write_zip({"a": b"", "A": b""})


# ---- forgeries that sign again


def test_a_package_signed_again_by_a_stranger_is_not_ok(world, package_bytes, make_world) -> None:
    stranger = make_world(salt="stranger")
    assert verify_package(stranger.pack(), stranger.trust(), now_ns=NOW).verdict == "ok"
    assert failed(verify_package(stranger.pack(), world.trust(), now_ns=NOW))[0] == "maker"
    assert verify_package(stranger.pack(), world.trust(), now_ns=NOW).exit_code == 1
    # the stranger keeps every file and signs only the manifest anew, under its own name or the maker's
    files = {path: data for path, data in rules.read_zip(package_bytes).items() if path != rules.MANIFEST}
    for maker in ("", "did:web:auditor.example"):
        forged = world.pack(files, maker=maker, signer=stranger.keys[world.provider])
        assert verify_package(forged, world.trust(), now_ns=NOW).verdict == "not-ok"
        assert verify_package(forged, now_ns=NOW).verdict == "not-ok"


def without(files: dict[str, bytes], path: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != path}


def test_the_maker_itself_cannot_leave_anything_out(world) -> None:
    files = world.files()
    for path, check in (
        ("agreement.json", "agreement"),
        ("receipts/000002.json", "receipts"),
        ("log/000000000302.json", "entries"),
        ("log/000000000302.tlog-proof", "entries"),
        ("policy.txt", "checkpoint"),
    ):
        assert failed(verify_package(world.pack(without(files, path)), world.trust(), now_ns=NOW)) == [check], path
    # an entry with its proof can be left out, but not its meaning: the receipt is then not in the log
    fewer = without(without(files, "log/000000000301.json"), "log/000000000301.tlog-proof")
    assert failed(verify_package(world.pack(fewer), world.trust(), now_ns=NOW)) == ["receipts"]


def test_the_maker_itself_cannot_change_an_entry_or_swap_two(world) -> None:
    files = world.files()
    a, b = "log/000000000301.json", "log/000000000303.json"
    changed = {**files, a: files[a].replace(b'"rows":1000', b'"rows":9000')}
    assert changed[a] != files[a]
    assert failed(verify_package(world.pack(changed), world.trust(), now_ns=NOW)) == ["entries"]
    swapped = {**files, a: files[b], b: files[a]}
    assert failed(verify_package(world.pack(swapped), world.trust(), now_ns=NOW)) == ["entries"]
    renamed = without({**files, "log/000000000302.tlog-proof": files["log/000000000301.tlog-proof"]}, "")
    assert failed(verify_package(world.pack(renamed), world.trust(), now_ns=NOW)) == ["entries"]


def test_the_extra_line_of_a_proof_changes_nothing(world) -> None:
    from dataclasses import replace

    from guantong.base.note import parse_proof

    files = world.files()
    path = "log/000000000301.tlog-proof"
    files[path] = replace(parse_proof(files[path]), extra=b"whatever").to_bytes()

    assert verify_package(world.pack(files), world.trust(), now_ns=NOW).verdict == "ok"


def change(files: dict[str, bytes], path: str, alter) -> dict[str, bytes]:
    paper = json.loads(files[path])
    alter(paper)
    return {**files, path: canonical_bytes(paper)}


@pytest.mark.parametrize(
    ("path", "alter", "check"),
    [
        ("receipts/000001.json", lambda p: p["record"].update(rows=999), "receipts"),
        ("receipts/000001.json", lambda p: p.update(state="disputed", more=1), "receipts"),
        ("receipts/000001.json", lambda p: p["countersignature"]["statement"].update(verdict="dispute"), "receipts"),
        ("receipts/000001.json", lambda p: p.update(signature=p["countersignature"]["signature"]), "receipts"),
        ("agreement.json", lambda p: p["agreement"].update(target="urn:uuid:other"), "agreement"),
        ("agreement.json", lambda p: p["price"]["charges"][0].update(price="0.0001"), "agreement"),
        ("agreement.json", lambda p: p.update(terms="Do what you like."), "agreement"),
        ("invoices/000001.json", lambda p: p["document"].update(total="9.99"), "invoices"),
        ("invoices/000001.json", lambda p: p["document"].update(number="GT-2026-000002"), "invoices"),
        ("invoices/000001.json", lambda p: p["document"]["receipts"].pop(), "invoices"),
        ("invoices/000001.json", lambda p: p.update(signatures=[]), "invoices"),
        ("invoices/000001.json", lambda p: p.update(signatures=[p["signatures"][0]] * 2), "invoices"),
        ("invoices/000001.json", lambda p: p["signatures"][0].update(by="did:web:auditor.example"), "invoices"),
        ("invoices/000001.json", lambda p: p["signatures"][0].update(value=p["signatures"][1]["value"]), "invoices"),
    ],
    ids=[
        "rows", "state", "verdict", "signature", "target", "price", "terms", "total", "number", "row-of-invoice", "unsigned",
        "signed-twice-by-one", "signed-by-no-party", "signature-of-the-other",
    ],
)  # fmt: skip
def test_papers_that_the_maker_altered_and_signed_again_are_found(world, path: str, alter, check: str) -> None:
    data = world.pack(change(world.files(), path, alter))

    assert failed(verify_package(data, world.trust(), now_ns=NOW)) == [check]


class Settled(World):
    """The third delivery was disputed, both sides settled on 30 of its 40 rows, and a credit note gives the rest back."""

    def settle_dispute(self, price=PRICE, **more) -> None:
        self.receipts[2] = self.receipt(3, 40, "dispute", **more)
        record = self.receipts[2]["record"]
        statement = {
            "v": 1,
            "type": "dispute",
            "agreementId": self.agreement_id,
            "recordId": record["recordId"],
            "record": digest(record),
            "block": 0,
            "blocks": 1,
            "providerHash": "00",
            "consumerHash": "01",
            "counted": {},
            "messages": 1,
            "consumer": self.consumer,
            "at": "2026-11-24T07:40:00Z",
        }
        self.agreed = dispute.resolution(
            record, rows=30, size=1200, reason="recounted", by=self.provider, at="2026-11-24T07:50:00Z"
        )
        parties = {"agreementId": self.agreement_id, "provider": self.provider, "consumer": self.consumer}
        plan, records = settle.PricePlan.parse(price), [one["record"] for one in self.receipts]
        self.invoice = settle.invoice(plan, records, number="GT-2026-000001", issued_at=AT)
        self.note = credit.for_disputes(
            plan, records, [self.agreed], number="GTC-2026-000001", issued_at=AT, invoice_number="GT-2026-000001", parties=parties
        )  # fmt: skip
        self.papers = {
            "disputes/0001.json": {
                "statement": statement,
                "resolution": self.agreed,
                "signatures": {"statement": self.both(statement), "resolution": self.both(self.agreed)},
            },
            "credit-notes/0001.json": {"document": self.note, "signatures": self.both(self.note)},
        }

    def both(self, document: dict) -> list[dict[str, str]]:
        return [
            {"by": did, "key": f"{did}#evidence", "algorithm": "Ed25519", "value": b64(self.keys[did].sign(canonical_bytes(document)))}
            for did in (self.provider, self.consumer)
        ]  # fmt: skip

    def entries(self):
        paper = self.papers["disputes/0001.json"]
        about = {"agreementId": self.agreement_id, "recordId": paper["statement"]["recordId"]}
        return [
            *super().entries(),
            Entry(DISPUTE_LOCATED, {**about, "statement": digest(paper["statement"])}),
            Entry(DISPUTE_RESOLVED, {**about, "resolution": digest(self.agreed)}),
            Entry(NOTE_AGREED, {"agreementId": self.agreement_id, "note": digest(self.note)}),
        ]

    def files(self, **more):
        return {**super().files(**more), **{path: canonical_bytes(paper) for path, paper in self.papers.items()}}


@pytest.fixture
def settled() -> Settled:
    found = Settled()
    found.settle_dispute()
    return found


def test_a_credit_note_is_derived_again_from_what_both_sides_settled_on(settled) -> None:
    report = verify_package(settled.pack(), settled.trust(), now_ns=NOW)

    assert report.verdict == "ok", report.text()
    assert report.credits[0]["total"] == settled.note["total"] == "0.03"
    assert any("gives back 0.03 CNY of invoice GT-2026-000001, signed by 2" in en for en, _ in report.proven())
    assert "红字账单 GTC-2026-000001" in report.text("zh")


def test_a_missed_service_level_is_derived_again_too(monkeypatch) -> None:
    price = settle.PricePlan.parse({**PRICE, "service": {"complete": "0.9", "credit": "0.5"}}).document()
    monkeypatch.setattr("tests.verify.conftest.PRICE", price)
    settled = Settled()
    settled.settle_dispute(price)
    parties = {name: settled.note[name] for name in ("agreementId", "provider", "consumer")}
    late = {"number": "GTC-2026-000002", "issued_at": AT, "invoice_number": "GT-2026-000001", "parties": parties}
    records = [{**one["record"], "complete": False} for one in settled.receipts]
    honest = credit.for_service(settle.PricePlan.parse(price), records, **late)
    settled.note = honest  # says that no delivery was complete, while every signed receipt says that it was
    settled.papers["credit-notes/0001.json"] = {"document": honest, "signatures": settled.both(honest)}
    refused = verify_package(settled.pack(), settled.trust(), now_ns=NOW)
    settled.receipts = [settled.receipt(number, count, complete=False) for number, count in enumerate(settled.rows, 1)]
    settled.settle_dispute(price, complete=False)
    settled.note = credit.for_service(
        settle.PricePlan.parse(price), [one["record"] for one in settled.receipts], **late
    )
    settled.papers["credit-notes/0001.json"] = {"document": settled.note, "signatures": settled.both(settled.note)}
    report = verify_package(settled.pack(), settled.trust(), now_ns=NOW)

    assert failed(refused) == ["credit-notes"]
    assert report.verdict == "ok", report.text()
    assert report.credits[0]["total"] == settled.note["total"] == "5.26"  # 9.91 · 0.5 = 4.96, 6 % of it 0.30


@pytest.mark.parametrize(
    ("path", "alter", "check"),
    [
        ("credit-notes/0001.json", lambda p: p["document"].update(total="9.99"), "credit-notes"),
        ("credit-notes/0001.json", lambda p: p.update(signatures=[]), "credit-notes"),
        ("credit-notes/0001.json", lambda p: p["signatures"][0].update(value=p["signatures"][1]["value"]), "credit-notes"),
        ("disputes/0001.json", lambda p: p["resolution"]["agreed"].update(rows=1), "disputes"),
        ("disputes/0001.json", lambda p: p["statement"].update(block=7), "disputes"),
        ("disputes/0001.json", lambda p: p["signatures"]["resolution"].pop(), "credit-notes"),
        ("disputes/0001.json", lambda p: p["signatures"].update(statement=[]), "disputes"),
    ],
    ids=["total", "unsigned", "signature-of-the-other", "agreed", "block", "resolution-of-one-side", "statement-unsigned"],
)  # fmt: skip
def test_disputes_and_credit_notes_that_the_maker_altered_are_found(settled, path: str, alter, check: str) -> None:
    data = settled.pack(change(settled.files(), path, alter))

    assert failed(verify_package(data, settled.trust(), now_ns=NOW)) == [check]


def test_a_logged_credit_note_over_more_than_was_settled_does_not_follow(settled) -> None:
    settled.note["total"] = "0.30"
    settled.papers["credit-notes/0001.json"] = {"document": settled.note, "signatures": settled.both(settled.note)}
    report = verify_package(settled.pack(), settled.trust(), now_ns=NOW)

    assert failed(report) == ["credit-notes"]
    assert "does not follow" in report.text()


def test_a_countersignature_moved_to_another_record_is_found(world) -> None:
    world.receipts[1]["countersignature"] = world.receipts[0]["countersignature"]

    assert failed(verify_package(world.pack(), world.trust(), now_ns=NOW)) == ["receipts"]


def test_a_countersignature_over_another_signature_of_the_provider_is_found(world) -> None:
    from guantong.base.canonical import b64
    from guantong.exchange.rules import statement_of

    item = world.receipts[0]
    record = item["record"]
    statement = statement_of(
        record,
        b64(bytes(64)),
        {n: record[n] for n in ("rows", "bytes", "contentRoot")},
        consumer=world.consumer,
        at="2026-11-24T07:31:00Z",
    )
    item["countersignature"] = {
        "statement": statement,
        "signature": b64(world.keys[world.consumer].sign(canonical_bytes(statement))),
    }

    assert failed(verify_package(world.pack(), world.trust(), now_ns=NOW)) == ["receipts"]


def test_a_consumer_that_accepted_what_it_did_not_count_is_found(world) -> None:
    from guantong.base.canonical import b64

    item = world.receipts[0]
    item["countersignature"]["statement"]["counted"]["rows"] -= 1
    item["countersignature"]["signature"] = b64(
        world.keys[world.consumer].sign(canonical_bytes(item["countersignature"]["statement"]))
    )

    assert failed(verify_package(world.pack(), world.trust(), now_ns=NOW)) == ["receipts"]


def test_one_sided_offered_and_disputed_receipts_are_counted_as_what_they_are(world) -> None:
    world.receipts[0].update(countersignature={}, state="one-sided")
    world.receipts[1].update(countersignature={}, state="offered")
    world.receipts[2] = world.receipt(3, 40, "dispute")
    files = world.files()
    files = without(files, "invoices/000001.json")
    report = verify_package(world.pack(files), world.trust(), now_ns=NOW)

    assert report.verdict == "ok"
    assert report.receipts == {"one-sided": 1, "offered": 1, "disputed": 1}
    assert not any("both sides" in en for en, _ in report.proven())


def test_an_invoice_over_receipts_that_nobody_countersigned_is_found(world) -> None:
    world.receipts[1].update(countersignature={}, state="offered")

    assert failed(verify_package(world.pack(), world.trust(), now_ns=NOW)) == ["invoices"]


def test_a_party_that_the_trust_file_does_not_know_is_not_ok(world, package_bytes) -> None:
    text = "\n".join(line for line in world.trust_text().splitlines() if not line.startswith(f"did {world.consumer} "))

    assert failed(verify_package(package_bytes, rules.parse_trust(text), now_ns=NOW)) == ["receipts"]


def test_another_log_or_witness_key_in_the_trust_file_is_not_ok(world, package_bytes, make_world) -> None:
    other = make_world(salt="other").trust_text().splitlines()
    mine = world.trust_text().splitlines()

    def mixed(word: str) -> rules.Trust:
        lines = [b if a.startswith(word) else a for a, b in zip(mine, other, strict=True)]
        return rules.parse_trust("\n".join(lines))

    assert failed(verify_package(package_bytes, mixed("log "), now_ns=NOW)) == ["checkpoint"]
    assert failed(verify_package(package_bytes, mixed("witness "), now_ns=NOW)) == ["witnesses"]
    assert failed(verify_package(package_bytes, mixed("did "), now_ns=NOW))[0] == "maker"


def test_a_cosignature_of_a_known_witness_that_does_not_match_is_not_ok(world) -> None:
    files = world.files()
    for path in files:
        if path.endswith(".tlog-proof"):
            head, _, last = files[path].rstrip(b"\n").rpartition(b"\n")
            name, _, encoded = last.rpartition(b" ")
            import base64

            raw = bytearray(base64.b64decode(encoded))
            raw[-1] ^= 1
            files[path] = head + b"\n" + name + b" " + base64.b64encode(bytes(raw)) + b"\n"

    assert failed(verify_package(world.pack(files), world.trust(), now_ns=NOW)) == ["checkpoint"]


def test_a_manifest_with_other_members_or_in_another_form_is_not_ok(world, package_bytes) -> None:
    files = rules.read_zip(package_bytes)
    document = json.loads(files[rules.MANIFEST])
    for data in (
        json.dumps(document).encode(),
        canonical_bytes({**document, "note": "x"}),
        files[rules.MANIFEST].replace(b'"v":1', b'"v":true'),
        files[rules.MANIFEST][:-1] + b',"v":1}',
    ):
        assert failed(verify_package(rules.write_zip({**files, rules.MANIFEST: data}), world.trust())) == ["manifest"]


def test_the_terms_that_bind_price_and_contract_are_spelt_as_the_exchange_writes_them() -> None:
    assert (rules.PRICE_TERM, rules.CONTRACT_TERM) == (policy.PRICE_TERM, policy.CONTRACT_TERM)
    bound = policy.with_contract({"permission": [{"action": "use"}]}, terms="t", price={"a": "b"})
    assert rules.bound(bound, rules.PRICE_TERM) == {digest({"a": "b"})}
    assert rules.bound(bound, rules.CONTRACT_TERM) == {digest("t")}


@pytest.fixture(scope="module")
def good_files(package_bytes) -> dict[str, bytes]:
    return {path: data for path, data in rules.read_zip(package_bytes).items() if path != rules.MANIFEST}


VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2**53 - 1, 0.5, "", "x", "1", "did:web:x", "sha256:" + "0" * 64, [], {}, [[]], [{}], {"a": 1}, {"did": []}, "一",
)  # fmt: skip


def test_whatever_stands_in_a_paper_the_verifier_answers(world, good_files) -> None:
    chance = random.Random(20261124)
    paths = sorted(name for name in good_files if name.endswith(".json"))
    trust = world.trust()
    for _ in range(400):
        path = chance.choice(paths)
        paper = json.loads(good_files[path])
        holder, way = paper, []
        while True:
            key = chance.choice(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
            way.append(key)
            if not isinstance(holder[key], (dict, list)) or not holder[key] or chance.random() < 0.3:
                break
            holder = holder[key]
        old, holder[key] = holder[key], chance.choice(VALUES)
        same = canonical_bytes([old]) == canonical_bytes([holder[key]])
        verdict = verify_package(world.pack({**good_files, path: canonical_bytes(paper)}), trust, now_ns=NOW).verdict
        # the state beside a countersigned receipt is the maker's remark: the signatures decide
        remark = path.startswith("receipts/") and way == ["state"]
        # a text that the maker does not have can be missing, if the agreement binds it; it can't be another
        remark = remark or (path == "agreement.json" and way == ["terms"] and not holder[key])
        assert (verdict == "ok") == (same or remark), (path, way, holder[key])


def test_terms_known_only_by_their_digest_are_said_to_be_so(world, good_files) -> None:
    data = world.pack(change(good_files, "agreement.json", lambda paper: paper.update(terms="")))
    report = verify_package(data, world.trust(), now_ns=NOW)

    assert report.verdict == "ok"
    assert "terms: only the digest is known" in report.text()


def test_json_nested_too_deeply_is_not_ok(world, good_files) -> None:
    for depth in (300, 900, 100_000):
        deep = b"[" * depth + b"]" * depth
        for path in ("agreement.json", "log/000000000300.json", "receipts/000001.json"):
            assert verify_package(world.pack({**good_files, path: deep}), world.trust()).verdict == "not-ok"
        manifest = rules.write_zip({**good_files, rules.MANIFEST: b'{"x":' + deep + b"}"})
        assert verify_package(manifest, world.trust()).verdict == "not-ok"


# ---- the command


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "guantong.verify", *map(str, arguments)], capture_output=True, check=False
    )


@pytest.fixture
def laid_out(tmp_path: Path, world, package_bytes) -> tuple[Path, Path]:
    trust, data = tmp_path / "trust.txt", tmp_path / "p.guantong.zip"
    trust.write_text(world.trust_text(), encoding="utf-8")
    data.write_bytes(package_bytes)
    return trust, data


def test_exit_codes_tell_the_four_outcomes_apart(laid_out, tmp_path: Path, capsys) -> None:
    trust, data = laid_out
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data.read_bytes()[:-1])

    assert verify.main(["--trust", str(trust), str(data)]) == 0
    assert verify.main([str(data)]) == 6
    assert verify.main(["--trust", str(trust), str(bad)]) == 1
    assert verify.main(["--trust", str(trust), str(tmp_path / "missing.zip")]) == 4
    assert verify.main(["--trust", str(data), str(data)]) == 4
    assert "prove.trust-unreadable" in capsys.readouterr().err


def test_json_says_everything_in_both_languages(laid_out, capsys) -> None:
    trust, data = laid_out
    assert verify.main(["--trust", str(trust), "--json", str(data)]) == 0
    document = json.loads(capsys.readouterr().out)

    assert document["verdict"] == "ok"
    assert len(document["notProven"]) == 3
    assert all(any("一" <= char <= "鿿" for char in item["zh"]) for item in document["proven"] + document["checks"])


def test_every_reason_that_the_verifier_gives_is_also_said_in_chinese() -> None:
    import re

    source = Path(verify.__file__).read_text(encoding="utf-8")
    reasons = re.findall(r'(?:_Failed\(|return None, )f?"((?:[^"\\\\]|\\\\.)*)"', source)
    spoken = [re.sub(r"\{[^}]*\}", "x", reason) for reason in reasons]
    assert len(spoken) > 30
    untold = [
        reason for reason in spoken if reason != "x: x" and not any("一" <= char <= "鿿" for char in in_chinese(reason))
    ]

    # two reasons whose last word is filled in: both words are in the table
    assert sorted(untold) == ["the x is not the one bound into the agreement", "x is x"]
    for reason in ("a is missing", "a is not listed", "the price is not the one bound into the agreement"):
        assert in_chinese(reason) != reason


def test_chinese_is_printed_on_a_console_that_knows_only_ascii(laid_out) -> None:
    trust, data = laid_out
    done = subprocess.run(
        [sys.executable, "-m", "guantong.verify", "--lang", "zh", "--trust", str(trust), str(data)],
        capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


# ---- verify.pyz


def test_the_verifier_in_the_package_runs_with_nothing_but_cryptography(laid_out, tmp_path: Path) -> None:
    trust, data = laid_out
    # a virtual environment of its own without pip, and in it cryptography alone
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (
        Path(line)
        for line in subprocess.run(
            [tmp_path / "venv/bin/python", "-c", "import site; print(site.getsitepackages()[0])"],
            capture_output=True, text=True, check=True,
        ).stdout.split()
    )  # fmt: skip
    import cryptography

    for name in ("cryptography", "cffi", "_cffi_backend*.so"):
        for found in Path(cryptography.__file__).parent.parent.glob(name):
            (site / found.name).symlink_to(found)
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, name in ((trust, "KEYS"), (data, "PACKAGE")):
        (empty / name).write_bytes(source.read_bytes())
    (empty / "verify.pyz").write_bytes(rules.read_zip(data.read_bytes())["verify.pyz"])

    def start(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [tmp_path / "venv/bin/python", "-I", "verify.pyz", *arguments],
            capture_output=True, check=False, cwd=empty,
        )  # fmt: skip

    good = start("--trust", "KEYS", "--json", "PACKAGE")
    assert (good.returncode, good.stderr) == (0, b"")
    assert json.loads(good.stdout)["verdict"] == "ok"
    assert start("PACKAGE").returncode == 6


def test_the_verifier_in_the_package_is_the_same_bytes_each_time() -> None:
    first = package.verifier()
    package.verifier.cache_clear()

    assert package.verifier() == first
    names = set(rules.read_zip(first))
    assert {"__main__.py", "guantong/verify.py", "rfc8785/__init__.py", "guantong/settle/rules.py"} <= names
    assert all(name.startswith(("guantong/", "rfc8785/", "__main__")) for name in names)


def test_nothing_that_the_verifier_imports_loads_a_heavy_library() -> None:
    code = (
        "import sys, guantong.verify; heavy = {'pyarrow', 'polars', 'duckdb', 'sqlalchemy', 'aiohttp', 'starlette', 'numpy', "
        "'deltalake', 'lxml', 'jinja2', 'click'}; found = sorted(heavy & set(sys.modules)); print(found); sys.exit(bool(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_verifier_imports_only_base_and_models_and_rules() -> None:
    modules = {name for name in rules.read_zip(package.verifier()) if name.startswith("guantong/")}
    allowed = {
        name
        for name in modules
        if name.startswith("guantong/base/")
        or name.endswith(
            (
                "/__init__.py",
                "/model.py",
                "/rules.py",
                "/verdict.py",
                "/figure.py",
                "/plan.py",
                "/sharing.py",
                "/credit.py",
                "/dispute.py",
            )
        )
    }

    assert modules - allowed == {"guantong/verify.py"}
