"""Run the field's conformance kits: ``python -m tests.conformance``. One line each; exit code 0 only if every kit passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KITS = ("dsp", "dcp", "openapi", "sumdb", "sigstore", "openssl-ts", "rfc3161", "evm", "verifier")
"""Folders with a ``run.py`` that prints ``<kit>: N passed, N failed, N skipped`` and exits 0 only if something passed and nothing failed."""


def main() -> int:
    """The worst exit code of all kits."""
    if sys.argv[1:] == ["--table"]:
        sys.path.insert(0, str(HERE.parents[1]))
        from tests.conformance import material

        (HERE / "README.md").write_text(material.table(), encoding="utf-8")
        return 0
    worst = 0
    for kit in KITS:
        worst = max(worst, subprocess.run([sys.executable, str(HERE / kit / "run.py")], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
