"""Time stamps as ``openssl ts -verify`` sees them, with a test authority that OpenSSL runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import material, stamps  # noqa: E402


def main(only: tuple[str, ...] = ()) -> int:
    """Verify each case over the very bytes that a package holds: the reply, and the checkpoint's text as data."""
    if shutil.which("openssl") is None:
        return material.absent("openssl-ts", "there is no openssl")
    with tempfile.TemporaryDirectory() as folder:

        def verify(case: stamps.Case) -> tuple[int, str]:
            data, reply = Path(folder) / "checkpoint", Path(folder) / "token.tsr"
            data.write_bytes(case.data)
            reply.write_bytes(case.reply)
            done = subprocess.run(
                ["openssl", "ts", "-verify", "-data", str(data), "-in", str(reply), "-CAfile", str(case.root)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            said = done.stdout + done.stderr
            return done.returncode, "ok " + said if done.returncode == 0 and "Verification: OK" in said else said

        made = stamps.cases(Path(folder))
        return material.judge(
            "openssl-ts", {name: lambda case=case: verify(case) for name, case in made.items()}, only=only
        )


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
