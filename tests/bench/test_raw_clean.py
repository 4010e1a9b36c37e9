"""NIST's raw recordings of 31 January 2017 against NIST's own repair: every differing line has a verdict, no value is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ("Hurco02", "Hurco04")


@pytest.fixture
def nist(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(ROOT))
    return data_dir / "nist_smstestbed/tdp_mtc"


@pytest.mark.parametrize("machine", MACHINES)
def test_every_differing_line_has_a_verdict_and_no_value_of_the_reference_is_lost(nist: Path, machine: str) -> None:
    from bench.raw_clean import compare

    raw, clean = (nist / f"{form}/1-31-2017-{machine}{end}.txt" for form, end in (("Raw", ""), ("Clean", "-Clean")))
    found = compare(raw, clean)
    physical, reference = raw.read_text().splitlines(), clean.read_text().splitlines()
    apart = [number for number, line in enumerate(reference, 1) if line not in physical]

    assert found["lost"] == found["added"] == []
    assert (
        found["readings"]["guantong"]
        == found["readings"]["reference"]
        == sum(len(line.split("|")) // 2 for line in reference)
    )
    assert {row["verdict"] for row in found["differing"]} <= {"joined", "indented", "edge"}
    assert set(apart) <= {row["reference_line"] for row in found["differing"]}
    for row in found["differing"]:
        first, last = row["raw_lines"]
        assert row["text"] == reference[row["reference_line"] - 1]
        assert "".join(physical[first - 1 : last]).lstrip(" ") == row["text"]


def test_where_the_reference_is_broken_guantong_is_better_and_the_lines_are_named(nist: Path) -> None:
    from bench.raw_clean import better

    rows = better(nist / "Clean/2-1-2017-Hurco02-Clean.txt")

    assert [(row["lines"], row["signal"], row["guantong_value"]) for row in rows] == [
        ([6994, 6995], "Block_Number", "2017"),
        ([64872, 64873], "Block_Number", "20175"),
    ]
    for row in rows:  # block numbers only grow here: the neighbours say that the whole number is right
        assert int(row["before"]) < int(row["guantong_value"]) < int(row["after"])


def test_a_value_that_is_only_in_the_reference_is_called_lost(nist: Path, tmp_path: Path) -> None:
    from bench.raw_clean import compare, main

    for folder in ("Raw", "Clean"):
        shutil.copytree(nist / folder, tmp_path / folder, ignore=shutil.ignore_patterns("2-*"))
    (tmp_path / "PartData").mkdir()
    clean = tmp_path / "Clean/1-31-2017-Hurco02-Clean.txt"
    clean.chmod(0o644)
    clean.write_text(clean.read_text().replace("|157.000000", "|157.500000"))
    found = compare(tmp_path / "Raw/1-31-2017-Hurco02.txt", clean)

    assert [row[1:] for row in found["lost"]] == [["Spindle_Override", "157.5"]]
    assert [row[1:] for row in found["added"]] == [["Spindle_Override", "157.0"]]
    assert found["verdicts"]["differs"] == 1
    assert main(["--data", str(tmp_path)]) == 1
