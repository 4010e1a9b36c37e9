"""A time-stamp authority of our own, which OpenSSL runs: a root, a signer for time stamps, answers to queries."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = authority
[authority]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
ordering = yes
ess_cert_id_alg = sha256
"""
# no "certs =": with a chain OpenSSL emits an unsorted SET, which rfc3161-client refuses (InvalidSetOrdering)


class Authority:
    """Made in a folder; ``reply`` answers a query, ``root`` is the certificate to trust."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "authority.cnf"
        self.config.write_text(CONFIG.format(folder=folder, name=name), encoding="utf-8")
        (folder / "serial").write_text("01\n", encoding="ascii")
        for what in ("root", "signer"):
            self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{what}.key")
        self._openssl("req", "-new", "-x509", "-key", "root.key", "-out", "root.pem", "-days", "3650", "-config", self.config.name,
                      "-extensions", "root", "-subj", f"/CN={name} root")  # fmt: skip
        self._openssl("req", "-new", "-key", "signer.key", "-out", "signer.csr", "-config", self.config.name,
                      "-subj", f"/CN={name} signer")  # fmt: skip
        self._openssl("x509", "-req", "-in", "signer.csr", "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "2", "-days", "3650",
                      "-out", "signer.pem", "-extfile", self.config.name, "-extensions", "signer")  # fmt: skip
        self.root = folder / "root.pem"

    def reply(self, query: bytes) -> bytes:
        """``application/timestamp-reply`` to ``application/timestamp-query``."""
        (self.folder / "query.tsq").write_bytes(query)
        self._openssl(
            "ts",
            "-reply",
            "-queryfile",
            "query.tsq",
            "-config",
            self.config.name,
            "-section",
            "authority",
            "-out",
            "reply.tsr",
        )
        return (self.folder / "reply.tsr").read_bytes()

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
