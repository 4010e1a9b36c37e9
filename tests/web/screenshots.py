"""Screenshots of every page for people: both nodes, both languages, wide and narrow, light and dark.

Run ``python -m tests.web.screenshots LINK [LINK ...]`` with sign-in links of running nodes (``guantong demo`` prints two). Pictures go
to the git-ignored folder ``screenshots``; ``--only journey,part`` takes some pages, ``--out`` another folder.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.web.browsing import ARGUMENTS, LANGUAGES, found_paths

SHOTS = Path(__file__).resolve().parents[2] / "screenshots"
LOOKS = ((1360, "light"), (1360, "dark"), (500, "light"), (500, "dark"))


async def shoot(browser: Any, link: str, out: Path, number: int, only: frozenset[str], looks: list[str]) -> int:
    """Pictures of one node; returns how many."""
    base = "{0.scheme}://{0.netloc}".format(urlsplit(link))
    first = await browser.new_context()
    page = await first.new_page()
    await page.goto(link)
    await page.wait_for_url(base + "/")
    paths = await found_paths(first, base)
    state = await first.storage_state()
    taken = 0
    for width, scheme in LOOKS:
        if looks and f"{width}-{scheme}" not in looks:
            continue
        context = await browser.new_context(
            storage_state=state, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = await context.new_page()
        for language in LANGUAGES:
            for name, path in paths.items():
                if only and name not in only:
                    continue
                mark = "&" if "?" in path else "?"
                await page.goto(f"{base}{path}{mark}lang={language}", wait_until="load")
                wide = await page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                if wide > 0:
                    sys.stdout.write(f"{number}-{name} {width} px {language}: {wide} px too wide\n")
                target = out / f"{number}-{name}.{language}.{width}.{scheme}.png"
                await page.screenshot(path=target, full_page=True)
                taken += 1
        await context.close()
    await first.close()
    return taken


async def main() -> int:
    """Take the pictures; 0 when there is at least one."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("links", nargs="+", help="sign-in links")
    asked.add_argument("--only", default="", help="names of pages, separated by commas")
    asked.add_argument("--looks", default="", help="for example 1360-light,500-dark")
    asked.add_argument("--out", type=Path, default=SHOTS)
    given = asked.parse_args()
    from playwright.async_api import async_playwright

    given.out.mkdir(parents=True, exist_ok=True)
    taken = 0
    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for number, link in enumerate(given.links):
            only = frozenset(filter(None, given.only.split(",")))
            looks = list(filter(None, given.looks.split(",")))
            taken += await shoot(browser, link, given.out, number, only, looks)
        await browser.close()
    sys.stdout.write(f"{taken} screenshots in {given.out}\n")
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
