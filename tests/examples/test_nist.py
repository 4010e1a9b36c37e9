"""The acceptance case on real input: NIST's files through two nodes, every figure against a truth counted without the product."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guantong.config import load
from guantong.node import Node
from guantong.web.ask import Ask
from guantong.web.loaders import fuse as pages

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "nist_two_companies.py"
BOX_FAIR, COVER_FAIR = "7_28_2017 8_16_42 AM Box_Results.qif", "7_18_2017 9_24_30 AM Cover_Results.qif"
FAIR, INCOMING = "tdp_mtc/FAIR", "tdp_mtc/QIF-IncomingInspection"
BOX_IN, COVER_IN = "BoxResults_19_samples.QIF", "CoverResults_20_samples.QIF"
MAZAK = "raw/Mazak01-20161129-20161130.txt"

TRUTH: dict[str, Any] = {
    "mazak.lines": 102_601,
    "mazak.parsed": 102_601,
    "mazak.quarantined": 0,
    "mazak.fields": {"3": 101_950, "7": 651},
    "fair": {"box": 855, "cover": 560},
    "incoming": {"box": 893, "cover": 541},
    "values_per_part.fair": {"box": {"45": 19}, "cover": {"28": 20}},
    "values_per_part.incoming": {"box": {"47": 19}, "cover": {"27": 19, "28": 1}},
    "part_number_is_serial": 39,
    "parts_matched": 39,
    "parts": {"box": list(range(2, 21)), "cover": list(range(1, 21))},
    "matched_by_source_uri": 2,
    "repeated_names.incoming.DIAMETER7": 8,
    "out_of_tolerance": {
        "fair": {"flatness": 1, "perpendicularity": 3},
        "incoming": {"diameter": 76, "position": 1},
    },
    "negative_zones": 20,
    "exchange.negotiation": {"provider": "FINALIZED", "consumer": "FINALIZED"},
    "exchange.transfer": {"provider": "COMPLETED", "consumer": "COMPLETED"},
    "exchange.rows": {"sent": 855 + 560, "received": 855 + 560},
    "exchange.receipts": {"provider": True, "consumer": True},
    "exchange.invoice": {"provider": "16.15", "consumer": "16.15", "currency": "USD"},  # 1,415 rows at 0.01, and 2.00
    "exchange.verified": True,
}


def at(report: Any, path: str) -> Any:
    for name in path.split("."):
        report = report[name]
    return report


@pytest.fixture(scope="session")
def nist(data_dir: Path) -> Path:
    return data_dir / "nist_smstestbed"


@pytest.fixture(scope="session")
def whole(nist: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """The example as a user runs it, on the whole of NIST's files: report, the nodes' directory, what went to stderr."""
    place = tmp_path_factory.mktemp("nist")
    command = [sys.executable, str(EXAMPLE), "--supplier", str(nist), "--customer", str(nist)]
    done = subprocess.run(
        [*command, "--directory", str(place), "--json"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), place, done.stderr


# ---- the truth itself


def test_the_truth_is_what_plain_counting_finds_in_the_files(nist: Path) -> None:
    """Without any product code: lines by their bars, values by their closing tags."""
    lines = (nist / MAZAK).read_bytes().splitlines()
    fields = Counter(str(line.count(b"|") + 1) for line in lines)

    def values(path: str) -> int:
        return len(re.findall(rb"</\w+CharacteristicActual>", (nist / path).read_bytes()))

    assert len(lines) == TRUTH["mazak.lines"]
    assert fields == TRUTH["mazak.fields"]
    assert {"box": values(f"{FAIR}/{BOX_FAIR}"), "cover": values(f"{FAIR}/{COVER_FAIR}")} == TRUTH["fair"]
    assert {"box": values(f"{INCOMING}/{BOX_IN}"), "cover": values(f"{INCOMING}/{COVER_IN}")} == TRUTH["incoming"]


@pytest.mark.parametrize("figure", TRUTH)
def test_a_figure_is_the_truth(whole: tuple[dict[str, Any], Path, str], figure: str) -> None:
    assert at(whole[0], figure) == TRUTH[figure]


def test_the_findings_are_the_wrong_nominal_and_the_negative_zone_and_no_other(
    whole: tuple[dict[str, Any], Path, str],
) -> None:
    tolerance, zone = whole[0]["findings"]

    assert (tolerance["company"], tolerance["kind"], tolerance["signal"]) == ("customer", "tolerance", "DIAMETER7")
    assert len(tolerance["facts"]["features"]) == 4
    assert (tolerance["facts"]["nominal"], round(tolerance["facts"]["measured"])) == (6.6, 11)
    assert tolerance["facts"]["counterpart"] == {"names": [f"Diameter {n}" for n in range(16, 20)], "nominal": 11.0}
    assert (zone["company"], zone["kind"], zone["facts"]["zone"]) == ("customer", "zone", -0.13)
    assert "not bad parts" in tolerance["text"]
    assert "can't be negative" in zone["text"]


def test_broken_lines_of_the_part_data_are_put_together_and_none_is_left(
    whole: tuple[dict[str, Any], Path, str], nist: Path
) -> None:
    found = whole[0]["part_data"]
    files = [path.read_text("ascii").splitlines() for path in (nist / "tdp_mtc/PartData").glob("*Hurco0[24]*.txt")]
    stray = sum(line.count("|") == 0 for lines in files for line in lines)

    assert found["lines"] == found["parsed"] == sum(map(len, files)) - stray
    assert found["mended"] == stray > 0
    assert (found["quarantined"], found["pieces"]) == (0, [])


def test_nist_is_acknowledged_in_output_docstring_and_page(whole: tuple[dict[str, Any], Path, str]) -> None:
    page = (ROOT / "docs/how-to/two-companies.md").read_text("utf-8")

    for text in (whole[0]["data"], EXAMPLE.read_text("utf-8").split('"""')[1], page):
        assert "National Institute of Standards and Technology" in text.replace("\n", " ")


def test_the_figures_on_the_page_are_those_of_the_run(whole: tuple[dict[str, Any], Path, str]) -> None:
    page = (ROOT / "docs/how-to/two-companies.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| ([\d,]+) \|", page, re.MULTILINE)

    assert len(rows) >= 20
    assert {name: int(value.replace(",", "")) for name, value in rows} == {name: at(whole[0], name) for name, _ in rows}


def test_the_package_holds_for_a_stranger(whole: tuple[dict[str, Any], Path, str]) -> None:
    """The verifier in a process of its own; without keys from outside it can only say that the package is consistent."""
    exchange = whole[0]["exchange"]
    command = [sys.executable, "-m", "guantong.verify", exchange["package"]]
    with_keys = [*command, "--trust", exchange["trust"]]

    assert subprocess.run(with_keys, capture_output=True, check=False).returncode == 0
    assert subprocess.run(command, capture_output=True, check=False).returncode == 6  # consistent, signer unknown


async def test_the_customers_parts_pages_show_both_measurements(whole: tuple[dict[str, Any], Path, str]) -> None:
    """A node started again on the customer's directory is the same participant, and its pages hold both companies' values."""
    config = load({"node.directory": whole[1] / "customer", "node.name": "customer", "web.port": 0}, environment={})
    node = Node(config)
    await node.start()
    try:
        listed = (await pages.parts(node._rooms, Ask(query={"q": "box"})))["parts"]["items"]
        every = (await pages.parts(node._rooms, Ask()))["parts"]["total"]
        by_serial = {one["serial"]: one["id"] for one in listed}
        seven = await pages.part(node._rooms, Ask(path={"id": by_serial["7"]}))
        twenty = await pages.part(node._rooms, Ask(path={"id": by_serial["20"]}))
    finally:
        await node.stop()

    assert (every, len(listed)) == (39, 19)
    assert all({name["where"] for name in one["names"]} == {"incoming", "fair"} for one in listed)
    for page in (seven, twenty):  # 20 has no serial at the customer's
        assert {side["source"] for side in page["sides"]} == {"incoming", "fair"}
        assert page["matched"] == 27
        assert [finding["kind"] for finding in page["findings"]] == ["tolerance"]
    both = [row for row in seven["rows"] if row["left"] and row["right"]]
    assert len(both) == 27
    assert all(row["rule"] and row["confidence"] for row in both)
    assert {row[side]["unit"] for row in both for side in ("left", "right")} == {"mm", None}


# ---- altered copies


@pytest.fixture(scope="session")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nist_two_companies", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_copy(nist: Path, to: Path) -> Path:
    """All inspection reports, and the beginning of every recording."""
    for name in (FAIR, INCOMING, "tdp_mtc/PartData", "raw", "agent"):
        (to / name).mkdir(parents=True)
    for name in (FAIR, INCOMING):
        for path in (nist / name).iterdir():
            if path.suffix.lower() == ".qif":
                shutil.copy(path, to / name)
    shutil.copy(nist / "agent/Devices.xml", to / "agent")
    for path in [nist / MAZAK, *(nist / "tdp_mtc/PartData").glob("*.txt")]:
        with path.open("rb") as file:
            (to / path.relative_to(nist)).write_bytes(b"".join(file.readline() for _ in range(2_000)))
    return to


def carry(example: ModuleType, folder: Path, place: Path) -> dict[str, Any]:
    """The example on a folder, in this process."""
    options = argparse.Namespace(supplier=folder, customer=folder, directory=place, part="", json=True, serve=False)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        asyncio.run(example.run(options))
    report: dict[str, Any] = json.loads(printed.getvalue())
    return report


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every figure by its path; lists as a whole. What differs in any two runs (ids, paths) is left out."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, member in value.items():
            if name not in ("agreement", "package", "trust"):
                found |= leaves(member, f"{path}.{name}".lstrip("."))
        return found
    return {path: value}


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The figures that differ, before and after, but those of the recordings, of which copies hold the beginning only."""
    one, other = (
        leaves({name: value for name, value in report.items() if name not in ("mazak", "part_data")})
        for report in (before, after)
    )
    return {path: (one.get(path), other.get(path)) for path in {*one, *other} if one.get(path) != other.get(path)}


def change(path: Path, pattern: bytes, by: bytes) -> None:
    """Replace the first match in a file, which must be there."""
    data = path.read_bytes()
    new, count = re.subn(pattern, by, data, count=1, flags=re.DOTALL)
    assert count == 1
    assert new != data
    path.write_bytes(new)


def test_a_value_out_of_tolerance_and_ten_broken_lines_move_their_own_figures_alone(
    example: ModuleType, nist: Path, whole: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    """A length of 144.4 ± 0.5 mm becomes 145 at the customer's; ten lines of the mill's recording lose their values."""
    folder = small_copy(nist, tmp_path / "data")
    length = rb"(<CharacteristicItemId>209</CharacteristicItemId>\s*<Value>)144\.4\d*"
    change(folder / INCOMING / BOX_IN, length, rb"\g<1>145.0")
    path = folder / MAZAK
    lines = path.read_bytes().split(b"\n")
    bars = Counter(str(line.count(b"|") + 1) for line in lines if line)
    offsets = []
    for number in range(500, 1_500, 100):
        assert lines[number].count(b"|") == 2
        lines[number] = lines[number].rpartition(b"|")[0]
        offsets.append(sum(len(line) + 1 for line in lines[:number]))
    path.write_bytes(b"\n".join(lines))

    after = carry(example, folder, tmp_path / "nodes")
    mazak = after["mazak"]
    assert moved(whole[0], after) == {"out_of_tolerance.incoming.distance": (None, 1)}
    assert (mazak["lines"], mazak["parsed"], mazak["quarantined"]) == (2_000, 1_990, 10)
    assert mazak["fields"] == {"3": bars["3"] - 10, "7": bars["7"]}
    assert [(piece["offset"], piece["reason"]) for piece in mazak["pieces"]] == [
        (offset, "fields") for offset in offsets
    ]


def test_a_dropped_part_takes_its_values_its_match_and_its_price_with_it(
    example: ModuleType, nist: Path, whole: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    """The supplier's report loses box 7."""
    folder = small_copy(nist, tmp_path / "data")
    change(folder / FAIR / BOX_FAIR, rb'<MeasurementResults id="185">.*?</MeasurementResults>', b"")

    after = carry(example, folder, tmp_path / "nodes")
    changed = moved(whole[0], after)
    forms = [changed.pop(f"limit_forms.fair.{form}") for form in ("absolute", "zone")]
    assert sum(before - now for before, now in forms) == 45
    assert changed == {
        "fair.box": (855, 855 - 45),
        "values_per_part.fair.box.45": (19, 18),
        "part_number_is_serial": (39, 38),
        "parts_matched": (39, 38),
        "parts.box": (list(range(2, 21)), [n for n in range(2, 21) if n != 7]),
        "parts_unmatched.incoming": (0, 1),
        "characteristics.pairs": (19 * 27 + 20 * 26, 18 * 27 + 20 * 26),
        "exchange.rows.sent": (1415, 1370),
        "exchange.rows.received": (1415, 1370),
        "exchange.invoice.provider": ("16.15", "15.70"),
        "exchange.invoice.consumer": ("16.15", "15.70"),
    }


def test_a_renamed_serial_costs_one_match_and_no_value(
    example: ModuleType, nist: Path, whole: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    """The customer writes A77 instead of A05 on a cover."""
    folder = small_copy(nist, tmp_path / "data")
    change(folder / INCOMING / COVER_IN, rb"COVER_RESULTS_A05_", b"COVER_RESULTS_A77_")

    after = carry(example, folder, tmp_path / "nodes")
    assert moved(whole[0], after) == {
        "parts_matched": (39, 38),
        "parts.cover": (list(range(1, 21)), [n for n in range(1, 21) if n != 5]),
        "parts_unmatched.fair": (0, 1),
        "parts_unmatched.incoming": (0, 1),
        "characteristics.pairs": (19 * 27 + 20 * 26, 19 * 27 + 19 * 26),
    }


# ---- how it is written


def test_a_missing_folder_is_said_and_ends_with_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--supplier", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "is not there" in done.stderr
    assert "--supplier" in done.stderr
    assert done.stdout == ""


def test_no_figure_of_the_truth_is_written_into_the_product() -> None:
    figures = re.compile(r"(?<![\w.])(?:102601|101950|855|560|893|541)(?![\w.%])")
    found = []
    for folder in ("src", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            generated = "_auto" in path.name or "vendor" in path.parts or "__pycache__" in path.parts
            if generated or path.suffix not in (".py", ".toml", ".html", ".css", ".js", ".json", ".sql", ".md"):
                continue
            text = re.sub(r"(?<=\d)[_,](?=\d{3})", "", path.read_text("utf-8"))
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in figures.finditer(text)]

    assert found == []
