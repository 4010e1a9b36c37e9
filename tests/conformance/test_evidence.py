"""Evidence as tools see it that we did not write; the kits behind ``python -m tests.conformance``, and the table of who sees what."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conformance import material

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("kit", ["sumdb", "sigstore", "openssl-ts", "rfc3161", "evm", "verifier"])
def test_the_tool_accepts_the_control_and_answers_each_row_as_the_table_says(kit: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / kit / "run.py")], capture_output=True, text=True, check=False, timeout=110
    )
    found = re.search(rf"^{kit}: (\d+) passed, (\d+) failed, (\d+) skipped(.*)$", done.stdout, re.MULTILINE)
    if found and found[1] == found[2] == "0":
        from tests.conftest import missing

        missing(kit, found[4])

    assert done.returncode == 0, done.stdout + done.stderr
    assert found is not None
    assert found[2] == "0"


def test_every_row_is_seen_by_some_tool_or_by_a_test_that_exists() -> None:
    for name, row in material.ROWS.items():
        assert set(row) - {"what"}, name
        place, _, test = row.get("tests", "").partition("::")
        if test:
            assert f"def {test}(" in (HERE.parents[1] / place).read_text(encoding="utf-8"), name


def test_the_table_for_readers_is_the_table_that_runs() -> None:
    assert (HERE / "README.md").read_text(encoding="utf-8") == material.table()
