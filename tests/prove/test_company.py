"""A company certificate stands for a participant: chains made and checked by OpenSSL's rules, refused where anything does not fit."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import missing
from tests.verify.conftest import World

from guantong.base import company
from guantong.base.errors import Refused
from guantong.base.keys import Ed25519Key
from guantong.exchange.identity import did_document
from guantong.exchange.keyring import load_keys, rotated, store_keys
from guantong.prove import rules
from guantong.verify import verify_package

CONF = """[req]
distinguished_name=dn
[dn]
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[leaf]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,nonRepudiation
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


class Authority:
    """An authority run with OpenSSL, which knows nothing of guantong."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        (folder / "conf").write_text(CONF)
        self.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "3000",
                 "-subj", f"/O={name}/CN={name} root", "-config", "conf", "-extensions", "ca")  # fmt: skip

    def run(self, *words: str) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            missing("openssl", "not found on this machine")
        subprocess.run([openssl, *words], cwd=self.folder, check=True, capture_output=True)

    def company(self, kind: str) -> tuple[bytes, bytes]:
        new = ("-newkey", "rsa:2048") if kind == "rsa" else ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        self.run("req", *new, "-nodes", "-keyout", f"{kind}.key", "-out", f"{kind}.csr", "-config", "conf",
                 "-subj", "/C=CN/O=Example Machines/organizationIdentifier=91330100799655058B/CN=Example Machines")  # fmt: skip
        self.run("x509", "-req", "-in", f"{kind}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial",
                 "-out", f"{kind}.pem", "-days", "2000", "-extfile", "conf", "-extensions", "leaf")  # fmt: skip
        return (self.folder / f"{kind}.pem").read_bytes(), (self.folder / f"{kind}.key").read_bytes()

    @property
    def root(self) -> bytes:
        return (self.folder / f"{self.name}.pem").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Good")


def now() -> int:
    from guantong.base.clock import SystemClock

    return SystemClock().now() + 3600 * 10**9


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_certificate_stands_for_did_and_key_and_leads_to_the_given_root_only(
    authority: Authority, kind: str, tmp_path
) -> None:
    certificate, key = authority.company(kind)
    evidence = Ed25519Key.generate().public
    statement = company.bind("did:web:a.example", evidence, now(), certificates=certificate, key=key, password=None)
    found = company.read(statement, company.load_roots(authority.root))
    other = company.load_roots(Authority(tmp_path, "Other").root)

    assert (found.did, found.evidence, found.confirmed) == ("did:web:a.example", evidence, True)
    assert "O=Example Machines" in found.subject
    assert company.read(statement).confirmed is False
    refused = [
        (statement, other, "root"),
        ({**statement, "did": "did:web:b.example"}, (), "not signed"),
        ({**statement, "at": "2010-01-01T00:00:00Z"}, (), "not signed"),
        ({**statement, "chain": []}, (), "chain"),
        ({**statement, "more": 1}, (), "members"),
        (7, (), "read"),
    ]
    for document, roots, reason in refused:
        with pytest.raises(Refused) as error:
            company.read(document, roots)
        assert error.value.code == "base.certificate-refused"
        assert reason in error.value.message()
    with pytest.raises(Refused, match="not valid"):
        company.bind("did:web:a.example", evidence, 10**18, certificates=certificate, key=key, password=None)
    with pytest.raises(Refused, match="not signed"):
        company.bind("did:web:a.example", evidence, now(), certificates=authority.root, key=key, password=None)


def test_the_verifier_names_the_company_and_refuses_a_certificate_for_another_key_or_root(
    authority: Authority, tmp_path
) -> None:
    certificate, key = authority.company("ec")
    world = World()
    maker = world.keys[world.provider]
    good = company.bind(world.provider, maker.public, now(), certificates=certificate, key=key, password=None)
    wrong = company.bind(
        world.provider, Ed25519Key.generate().public, now(), certificates=certificate, key=key, password=None
    )
    root = company.line("company-root", _der(authority.root))
    other = company.line("company-root", _der(Authority(tmp_path, "Other").root))

    def report(statement, *lines: str):
        from guantong.base.canonical import canonical_bytes

        files = {**world.files(), "company/001.json": canonical_bytes(statement)}
        manifest = rules.manifest(
            files, maker=world.provider, agreement_id=world.agreement_id, made_at=1_795_500_000 * 10**9, key=maker
        )
        trust = rules.parse_trust(world.trust_text() + "".join(f"{one}\n" for one in lines))
        found = verify_package(rules.write_zip({rules.MANIFEST: manifest, **files}), trust)
        return found.verdict, next(check.reason for check in found.checks if check.name == "company")

    assert report(good, root)[0] == "ok"
    assert "O=Example Machines" in report(good, root)[1]
    assert "(unconfirmed)" not in report(good, root)[1]
    assert "(unconfirmed)" in report(good)[1]
    assert report(good, other)[0] == "not-ok"
    assert report(wrong, root) == ("not-ok", "the company certificate stands for another key")


def test_the_did_document_names_the_certificate_until_the_key_is_rotated(authority: Authority, tmp_path) -> None:
    certificate, key = authority.company("ec")
    did, keys = "did:web:a.example", load_keys(tmp_path / "keys.json")
    statement = company.bind(did, keys.evidence.public, now(), certificates=certificate, key=key, password=None)
    store_keys(tmp_path / "keys.json", replace(keys, company=statement))
    held = load_keys(tmp_path / "keys.json")

    def services(ring) -> list[str]:
        return [one["type"] for one in did_document(ring.identity(did), "https://a.example")["service"]]

    assert "GuantongCompanyCertificate" in services(held)
    assert "GuantongCompanyCertificate" not in services(rotated(held, did, now()))


def _der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return company.load_roots(pem)[0].public_bytes(Encoding.DER)
