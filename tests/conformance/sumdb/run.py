"""The log as the code of Go's checksum database sees it (golang.org/x/mod/sumdb: note, tlog; BSD-3-Clause)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import material  # noqa: E402


def main(only: tuple[str, ...] = ()) -> int:
    """Build the checker and show it every row."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return material.absent("sumdb", "there is no go")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "sumdbcheck"
        built = subprocess.run(
            [go, "build", "-o", str(binary), "."],
            cwd=HERE, capture_output=True, text=True, check=False, env={**os.environ, "GOFLAGS": "-mod=readonly"},
        )  # fmt: skip
        if built.returncode:
            return material.absent("sumdb", f"golang.org/x/mod: {built.stderr.strip()[-200:]}")

        def case(name: str) -> tuple[int, str]:
            where = Path(folder) / name
            where.mkdir()
            material.LOG_ROWS[name](where)
            done = subprocess.run([str(binary), str(where)], capture_output=True, text=True, check=False, timeout=60)
            return done.returncode, done.stdout + done.stderr

        return material.judge("sumdb", {name: lambda name=name: case(name) for name in material.LOG_ROWS}, only=only)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
