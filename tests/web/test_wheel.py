"""A wheel without the scripts of its pages is the classic failure: build one and look inside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_lock_file_names_hashes_and_no_addresses() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}

    assert set(packages) == {"node_modules/htmx.org", "node_modules/htmx-ext-sse", "node_modules/uplot"}
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages.values())
    assert packages["node_modules/htmx.org"]["version"].split(".")[0] == "2"
    assert packages["node_modules/htmx-ext-sse"]["version"].split(".")[0] == "2"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_built_wheel_holds_pages_words_scripts_and_licences(tmp_path: Path) -> None:
    # a tree without built scripts, as a fresh clone is: the wheel must build them itself
    tree = tmp_path / "tree"
    for name in ("src", "scripts"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("vendor", "__pycache__"))
    for file in (
        *ROOT.glob("*.md"),
        *ROOT.glob("package*.json"),
        ROOT / "pyproject.toml",
        ROOT / "LICENSE",
        ROOT / "NOTICE",
    ):
        shutil.copy(file, tree)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=tree, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = zipfile.ZipFile(wheel)
    names = set(held.namelist())

    # the conformance kits' personas are tests: whoever installs the wheel has none of them
    assert not [name for name in names if name.startswith("tests") or name.endswith(("persona.py", "counterpart.py"))]
    assert not [name for name in names if b"TCK_PARTICIPANT" in held.read(name)]

    for wanted in (
        "static/vendor/htmx.min.js",
        "static/vendor/htmx-sse.min.js",
        "static/vendor/uplot.min.js",
        "static/vendor/uplot.min.css",
        "static/vendor/htmx.LICENSE.txt",
        "static/vendor/htmx-sse.LICENSE.txt",
        "static/vendor/uplot.LICENSE.txt",
        "static/tokens.css",
        "static/guantong.css",
        "static/guantong.js",
        "templates/journey.html",
        "texts.toml",
    ):
        assert f"guantong/web/{wanted}" in names
    assert not [name for name in names if "node_modules" in name]
