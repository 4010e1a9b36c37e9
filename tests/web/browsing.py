"""What the browser test and the screenshots share: how chromium starts, and an address for every page of a node."""

from __future__ import annotations

import re
from typing import Any

from guantong.web.pages import PAGES

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LANGUAGES = ("en", "zh-CN")
_HREF = re.compile(r"<main.*?(?=</main>)", re.S)


async def found_paths(context: Any, base: str) -> dict[str, str]:
    """An address for each page: those without a place, and for the others the first link to one on the pages before it.

    ``context``: a signed-in browser context of playwright; pages are read without drawing them.
    """
    paths = {one.name: one.path for one in PAGES if "{" not in one.path}
    wanted = {
        one.name: re.compile("^" + re.sub(r"\{\w+(:\w+)?\}", "[^?#]+", one.path) + "$")
        for one in PAGES
        if "{" in one.path
    }
    for path in list(paths.values()):
        text = await (await context.request.get(base + path)).text()
        main = _HREF.search(text)
        for href in re.findall(r'href="(/[^"]*)"', main[0] if main else ""):
            for name, pattern in wanted.items():
                if name not in paths and pattern.match(href) and href not in paths.values():
                    paths[name] = href
    return paths
