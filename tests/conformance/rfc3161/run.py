"""Time stamps as PyPI ``rfc3161-client`` sees them (Apache-2.0; Rust and cryptography's own certificate checks)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import material, stamps  # noqa: E402


def main(only: tuple[str, ...] = ()) -> int:
    """Verify each case over the bytes that a package holds."""
    try:
        from cryptography.x509 import load_pem_x509_certificate
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
    except ImportError:
        return material.absent("rfc3161", "rfc3161-client is not installed")

    def verify(case: stamps.Case) -> tuple[int, str]:
        verifier = VerifierBuilder(
            roots=[load_pem_x509_certificate(case.root.read_bytes())], nonce=stamps.NONCE
        ).build()
        try:
            verifier.verify_message(decode_timestamp_response(case.reply), case.data)
        except VerificationError as error:
            return 1, str(error)
        return 0, "ok"

    with tempfile.TemporaryDirectory() as folder:
        made = stamps.cases(Path(folder))
        return material.judge(
            "rfc3161", {name: lambda case=case: verify(case) for name, case in made.items()}, only=only
        )


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
