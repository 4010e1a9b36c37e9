"""国密 beside the international algorithms: an SM2 line that others ignore, SM3 digests in entries, SM4 at rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select
from tests.conftest import missing
from tests.verify.conftest import World

from guantong.base import gm
from guantong.base.canonical import canonical_bytes
from guantong.base.errors import ConfigProblem, GuantongError
from guantong.base.note import open_note, parse_note
from guantong.base.vault import VaultReader, VaultWriter
from guantong.keep.blobs import FolderBlobs
from guantong.keep.seal import MAGIC_SM4, Seal, SealedBlobs, load_seal
from guantong.prove import rules
from guantong.prove.model import origin_of
from guantong.records.tables import LEAVES
from guantong.verify import verify_package

needs_sm2 = pytest.mark.skipif(not __import__("importlib.util").util.find_spec("tongsuopy"), reason="extra gm")


def der(point: bytes) -> bytes:
    """SubjectPublicKeyInfo of an SM2 key, by hand: id-ecPublicKey, curve 1.2.156.10197.1.301."""
    return bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200") + point


@needs_sm2
def test_openssl_accepts_our_sm2_signature_and_we_refuse_a_changed_one(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl", "not found on this machine")
    key = gm.Sm2Key.generate()
    for name, data in (("key", der(key.public)), ("msg", b"checkpoint\n"), ("sig", key.sign(b"checkpoint\n"))):
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [openssl, "pkeyutl", "-verify", "-rawin", "-digest", "sm3", "-pubin", "-keyform", "DER", "-inkey", "key", "-in", "msg",
         "-sigfile", "sig", "-pkeyopt", "distid:1234567812345678"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    public = gm.Sm2Public("log", key.public)

    assert "Verified Successfully" in done.stdout, done.stderr
    assert public.verify(b"checkpoint\n", (tmp_path / "sig").read_bytes())
    assert not public.verify(b"checkpoint?\n", (tmp_path / "sig").read_bytes())
    assert not public.verify(b"checkpoint\n", b"no DER")
    assert gm.parse_sm2(str(public)) == public


@needs_sm2
async def test_a_checkpoint_carries_an_sm2_line_that_who_does_not_know_it_ignores(build) -> None:
    supplier = await build("did:web:supplier.example")
    customer = await build("did:web:customer.example")
    supplier.keys = replace(supplier.keys, sm2=gm.Sm2Key.generate())
    await supplier.again()
    for one, other in ((supplier, customer), (customer, supplier)):
        await one.know(other)
    await supplier.note(3)
    head = await supplier.prove.catch_up(supplier.did)
    origin = origin_of(supplier.did)
    note = parse_note(head.note)
    key = gm.Sm2Public(origin, supplier.keys.sm2.public)
    # who knows Ed25519 only, the partner's witness among them, takes the note
    opened = open_note(head.note, [supplier.prove.keys_of(supplier.did)[0]])
    answered = await customer.post("/witness/add-checkpoint", b"old 0\n\n" + head.note)
    forged = note.to_bytes().replace(
        note.signatures[1].line().encode(), gm.sign_line("other\n", origin, supplier.keys.sm2).line().encode()
    )

    assert len(note.signatures) == 2
    assert [one.name for one in opened.signers] == [origin]
    assert answered.status == 200
    assert gm.check_line(note, key)
    assert open_note(forged, [supplier.prove.keys_of(supplier.did)[0]]).signers
    with pytest.raises(GuantongError) as error:
        gm.check_line(parse_note(forged), key)
    assert error.value.code == "base.signature-bad"
    assert f"sm2 {key}" in await supplier.prove.trust_lines(supplier.did)
    assert rules.parse_trust(await supplier.prove.trust_lines(supplier.did)).sm2 == {origin: (key,)}


@needs_sm2
def test_go_sumdb_accepts_a_note_with_an_sm2_line(tmp_path: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        missing("go", "not found on this machine")
    from tests.conformance import material

    material.LOG_ROWS["control"](tmp_path)
    origin = (tmp_path / "vkey").read_text().split("+")[0]
    key = gm.Sm2Key.generate()
    for name in ("old.note", "new.note"):
        note = parse_note((tmp_path / name).read_bytes())
        (tmp_path / name).write_bytes(note.adding([gm.sign_line(note.text, origin, key)]).to_bytes())
    where = Path(material.__file__).parent / "sumdb"
    binary = tmp_path / "sumdbcheck"
    env = {**os.environ, "GOFLAGS": "-mod=readonly"}
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."], cwd=where, capture_output=True, text=True, check=False, env=env
    )
    if built.returncode:
        missing("go", "golang.org/x/mod can't be built")
    done = subprocess.run([str(binary), str(tmp_path)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout[:3]) == (0, "ok "), done.stderr
    assert gm.check_line(parse_note((tmp_path / "new.note").read_bytes()), gm.Sm2Public(origin, key.public))


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tongsuopy.crypto", None)
    with pytest.raises(ConfigProblem) as error:
        gm.Sm2Key.generate()

    assert error.value.code == "base.extra-missing"
    assert "guantong[gm]" in error.value.hint()


@needs_sm2
def test_a_verifier_without_the_extra_says_that_sm2_was_not_checked_and_one_with_it_that_it_matches(
    monkeypatch,
) -> None:
    world = World()
    key, wrong = gm.Sm2Key.generate(), gm.Sm2Key.generate()
    origin = origin_of(world.provider)
    files = world.files()

    def package(signer: gm.Sm2Key) -> bytes:
        changed = dict(files)
        for path, data in files.items():
            if path.endswith(".tlog-proof"):
                head, checkpoint = data.split(b"\n\n", 1)
                note = parse_note(checkpoint)
                line = gm.sign_line(note.text, origin, signer)
                named = line._replace(key_id=gm.Sm2Public(origin, key.public).id)
                changed[path] = head + b"\n\n" + note.adding([named]).to_bytes()
        manifest = rules.manifest(
            changed,
            maker=world.provider,
            agreement_id=world.agreement_id,
            made_at=1_795_500_000 * 10**9,
            key=world.keys[world.provider],
        )
        return rules.write_zip({rules.MANIFEST: manifest, **changed})

    # one note is made once: SM2 signatures are random, so each proof would else carry another
    signatures: dict[str, object] = {}
    real = gm.sign_line
    monkeypatch.setattr(gm, "sign_line", lambda text, name, by: signatures.setdefault(repr(by), real(text, name, by)))
    trust = rules.parse_trust(world.trust_text() + f"sm2 {gm.Sm2Public(origin, key.public)}\n")

    def remark(report) -> str:
        return next(check.reason for check in report.checks if check.name == "checkpoint")

    good = verify_package(package(key), trust)
    bad = verify_package(package(wrong), trust)
    unaware = verify_package(package(wrong), world.trust())
    monkeypatch.setitem(sys.modules, "tongsuopy.crypto", None)
    without = verify_package(package(key), trust)

    assert good.verdict == "ok"
    assert "not a certified module / 未经密码模块认证" in remark(good)
    assert (bad.verdict, remark(bad)[:3]) == ("not-ok", "The")
    assert unaware.verdict == "ok"
    assert (without.verdict, "not checked" in remark(without)) == ("ok", True)


async def test_entries_carry_an_sm3_digest_that_openssl_computes_too(supplier) -> None:
    supplier.records.with_sm3 = True
    await supplier.note(1)
    (row,) = await supplier.records.rows(select(LEAVES.c.leaf))
    leaf = orjson.loads(row["leaf"])
    stated = leaf.pop("sm3")

    assert stated == gm.sm3(canonical_bytes(leaf))
    # GB/T 32905-2016, A.1
    assert gm.sm3(b"abc") == "sm3:66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_sm4_gcm_gives_the_vector_of_rfc_8998() -> None:
    key, nonce = bytes.fromhex("0123456789abcdeffedcba9876543210"), bytes.fromhex("00001234567800000000abcd")
    plain = b"".join(bytes([value]) * 8 for value in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0xEE, 0xAA))
    sealed = gm.Sm4Gcm(key).encrypt(nonce, plain, bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"))

    assert sealed.hex() == (
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735d82710ca5c22f0ccfa7cbf93d496ac15"
        "a56834cbcf98c397b4024a2691233b8d83de3541e4c2b58177e065a9bf7b62ec"
    )


async def test_sm4_at_rest_keeps_the_contract_and_reads_what_aes_sealed(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    before = SealedBlobs(FolderBlobs(tmp_path / "b"), load_seal(str(tmp_path / "key"), tmp_path / "n"))
    await before.put("one", b"sealed with AES")
    seal = load_seal(str(tmp_path / "key"), tmp_path / "n", "sm4-gcm")
    after = SealedBlobs(FolderBlobs(tmp_path / "b"), seal)
    await after.put("two", b"sealed with SM4")
    changed = bytearray((tmp_path / "b/two").read_bytes())
    changed[-1] ^= 1

    assert changed.startswith(MAGIC_SM4)
    assert await after.get("one") == b"sealed with AES"
    assert await before.get("two") == b"sealed with SM4"
    for data, owner in ((bytes(changed), "two"), ((tmp_path / "b/two").read_bytes(), "three")):
        with pytest.raises(GuantongError) as error:
            Seal(bytes(range(32))).open(data, owner)
        assert error.value.code == "keep.seal-broken"
    with pytest.raises(GuantongError) as unknown:
        load_seal(str(tmp_path / "key"), tmp_path / "n", "rot13")
    assert unknown.value.code == "keep.cipher-unknown"


def test_a_back_up_sealed_with_sm4_opens_and_notices_a_change(tmp_path: Path) -> None:
    data = os.urandom(1024 * 1024 + 5)
    with (tmp_path / "v").open("wb") as file:
        sealed = VaultWriter(file, "five words drawn by lot", sm4=True)
        sealed.write(data)
        sealed.close()
    whole = (tmp_path / "v").read_bytes()

    assert whole.startswith(b"GTVAULT2")
    with (tmp_path / "v").open("rb") as file:
        assert VaultReader(file, "five words drawn by lot").read() == data
    for changed in (b"GTVAULT1" + whole[8:], whole[:-1]):
        (tmp_path / "v").write_bytes(changed)
        with (tmp_path / "v").open("rb") as file, pytest.raises(GuantongError) as error:
            VaultReader(file, "five words drawn by lot").read()
        assert error.value.code in ("base.passphrase-wrong", "base.vault-changed")
