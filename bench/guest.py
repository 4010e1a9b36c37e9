"""A supplier without a node, from link to a node of its own, in a real browser: how long it takes, and whether everything then holds.

``python -m bench.guest [--file REPORT.qif] [--json]``: the customer's node and the supplier's later node are processes of their own, told of
by the commands of docs/how-to/guests.md; the supplier's part in between happens in chromium, at phone width: it makes its key, drops the
file, approves a further use, revokes, and takes everything along. Ends with 1 if a step fails, if what was revoked could still be used,
or if ``guantong verify`` does not say ok with the keys that the customer exports. Needs chromium and playwright.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GUANTONG = [sys.executable, "-m", "guantong.cli"]
PASSPHRASE = "three blue gears"
CSV = "time,diameter,flatness\n" + "".join(
    f"2026-11-24T08:{minute:02d}:00Z,{25 + minute / 1e4:.4f},{minute / 1e5:.5f}\n" for minute in range(60)
)


class Firm:
    """A node of its own in a directory, and the commands typed at it."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.environment = {**os.environ, "GUANTONG_NODE_NAME": name, "GUANTONG_PASSPHRASE": PASSPHRASE}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start the node; returns once it answers."""
        command = [*GUANTONG, "run", "--directory", str(self.directory), "--port", "0"]
        self._process = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not (self.directory / "address").exists():
            if time.monotonic() > end or self._process.poll() is not None:
                raise SystemExit(f"the node in {self.directory} did not start")
            time.sleep(0.05)

    def types(self, *words: str) -> tuple[int, Any]:
        """Exit code, and what the command prints as JSON (or its complaint)."""
        command = [*GUANTONG, *words, "--directory", str(self.directory), "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def stop(self) -> None:
        """End the node."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)


async def play(folder: Path, file: Path) -> dict[str, Any]:
    """Every step in order, and how long each took."""
    from playwright.async_api import async_playwright

    took: dict[str, float] = {}
    began = last = time.monotonic()

    def done(step: str) -> None:
        nonlocal last
        took[step], last = round(time.monotonic() - last, 2), time.monotonic()

    host, own = Firm(folder / "customer", "Drives Ltd"), Firm(folder / "supplier", "Zhou Gears")
    found: dict[str, Any] = {"file": file.name, "bytes": file.stat().st_size}
    try:
        host.run()
        done("the customer's node runs")
        _, invited = host.types("space", "invite", "--guest", "--name", "Zhou Gears")
        done("invite")
        async with async_playwright() as started:
            browser = await started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = await (await browser.new_context(viewport={"width": 390, "height": 844})).new_page()
            await page.goto(invited["link"])
            await page.fill("input[name=passphrase]", PASSPHRASE)
            await page.fill("input[name=again]", PASSPHRASE)
            await page.click("#join button")
            await page.wait_for_selector("#file")
            done("key made, joined")
            await page.set_input_files("#file", file)
            await page.click("#share")
            await page.wait_for_selector(".share[data-state=shared]", timeout=120_000)
            done("file hashed, signed, shared")
            _, listed = host.types("guests", "list")
            share = listed["shares"][0]["id"]
            found["used"] = host.types("guests", "use", share)[1]["total"]
            host.types("guests", "ask", share, "Audit by our customer")
            done("used and asked for more")
            await page.reload()
            await page.click(".approve")
            await page.wait_for_selector(".request", state="detached")
            found["approved"] = host.types("guests", "use", share, "--purpose", "Audit by our customer")[0] == 0
            done("approved and used")
            await page.click(".revoke")
            await page.click(".revoke")
            await page.wait_for_selector(".share[data-state=revoked]")
            found["refused"] = host.types("guests", "use", share)[0] == 1
            done("revoked and refused")
            async with page.expect_download() as along:
                await page.click("#along")
            papers = folder / "guantong-guest.json"
            await (await along.value).save_as(papers)
            done("taken along")
            await browser.close()
        own.run()
        found["moved"] = own.types("move-in", str(papers))[0] == 0
        end = time.monotonic() + 30
        while not host.types("guests", "list")[1]["guests"][0]["moved_to"] and time.monotonic() < end:
            await asyncio.sleep(0.2)
        found["host_knows"] = bool(host.types("guests", "list")[1]["guests"][0]["moved_to"])
        done("moved in")
        trust = folder / "trust"
        host.types("trust", "export", "--out", str(trust))
        command = [*GUANTONG, "verify", "--trust", str(trust), str(papers)]
        found["verified"] = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        done("verified")
    finally:
        own.stop()
        host.stop()
    return {
        **found,
        "steps_s": took,
        "total_s": round(time.monotonic() - began, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Play it and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="inspection file to share; else a small CSV")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="guantong-guest-") as name:
        folder = Path(name)
        file = options.file
        if file is None:
            file = folder / "sizes.csv"
            file.write_text(CSV)
        found = asyncio.run(play(folder, file))
    held = all(found[name] for name in ("used", "approved", "refused", "moved", "host_knows", "verified"))
    if options.json:
        print(json.dumps({**found, "ok": held}, indent=1))
    else:
        for step, seconds in found["steps_s"].items():
            print(f"{seconds:7.2f} s  {step}")
        print(f"{found['total_s']:7.1f} s  in all (load {found['load']}): {'ok' if held else 'NOT ok'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
