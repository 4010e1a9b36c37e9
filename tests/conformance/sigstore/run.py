"""Checkpoints and inclusion proofs as npm ``@sigstore/verify`` sees them (Apache-2.0), on the pinned Node."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import material  # noqa: E402


def main(only: tuple[str, ...] = ()) -> int:
    """Show the verifier every row that it can see: it knows neither tiles nor consistency."""
    node, peers = Path(sys.executable).with_name("node"), HERE.parents[1] / "peers" / "node_modules"
    if not node.exists() or not (peers / "@sigstore" / "verify").is_dir():
        return material.absent("sigstore", "run `make peers` first")
    with tempfile.TemporaryDirectory() as folder:

        def case(name: str) -> tuple[int, str]:
            where = Path(folder) / name
            where.mkdir()
            material.LOG_ROWS[name](where)
            done = subprocess.run(
                [str(node), str(HERE / "check.js"), str(where)],
                capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PEERS": str(peers)},
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

        names = material.expected("sigstore")
        return material.judge("sigstore", {name: lambda name=name: case(name) for name in names}, only=only)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
