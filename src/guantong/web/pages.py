"""One table of pages. A page is a path, the station it belongs to, a loader and a template; its JSON twin is ``/api`` and the path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guantong.web.ask import Ask
from guantong.web.loaders import (
    accounts,
    compare,
    connect,
    describe,
    exchange,
    figures,
    fuse,
    govern,
    guests,
    journey,
    mappings,
    partners,
    prove,
    queries,
    settings,
    settle,
    value,
    watch,
)
from guantong.web.rooms import Rooms

__all__ = ["PAGES", "STATION", "Loader", "Page", "page_named"]


Loader = Callable[[Rooms, Ask], Awaitable[dict[str, Any]]]
"""Turns what the services answer into plain JSON; page and twin show the same."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    name: str
    """Template ``<name>.html``; texts ``<name>.title`` and ``<name>.lead``."""
    path: str
    stage: str
    """The station on the line, or ``rest``."""
    loader: Loader
    live: bool = False
    """Whether its block ``live`` is sent again when something was written."""
    menu: bool = False
    """Whether it stands in the lower part of the rail."""


PAGES: tuple[Page, ...] = (
    Page("journey", "/", "rest", journey.journey, live=True),
    Page("sources", "/sources", "connect", connect.sources, live=True),
    Page("openness", "/openness", "connect", connect.openness),
    Page("source-new", "/sources/new", "connect", connect.proposal),
    Page("source", "/sources/{name:path}", "connect", connect.source, live=True),
    Page("keep", "/keep", "keep", connect.keep, live=True),
    Page("signals", "/signals", "fuse", fuse.signals),
    Page("compare", "/signals/compare", "fuse", compare.compare),
    Page("signal", "/signals/{id:int}", "fuse", fuse.signal),
    Page("fuse", "/fuse", "fuse", fuse.account, live=True),
    Page("mappings", "/mappings", "fuse", mappings.mappings),
    Page("parts", "/parts", "fuse", fuse.parts, menu=True),
    Page("part", "/parts/{id:path}", "fuse", fuse.part),
    Page("describe", "/describe", "describe", describe.overview),
    Page("dataset", "/datasets/{id:path}", "describe", describe.dataset),
    Page("lineage", "/lineage", "describe", describe.lineage),
    Page("govern", "/govern", "govern", govern.overview),
    Page("products", "/products", "exchange", exchange.products),
    Page("rehearsal", "/rehearsal", "exchange", queries.rehearsal),
    Page("queries", "/queries", "exchange", queries.queries),
    Page("catalogue", "/catalogue", "exchange", exchange.catalogue),
    Page("contracts", "/contracts", "exchange", exchange.contracts, live=True),
    Page("contract", "/contracts/{id:path}", "exchange", exchange.contract, live=True),
    Page("evidence", "/evidence", "prove", prove.evidence, live=True),
    Page("figures", "/figures", "prove", figures.figures, menu=True),
    Page("figure", "/figures/{id:path}", "prove", figures.figure),
    Page("invoices", "/invoices", "settle", settle.invoices),
    Page("netting", "/netting", "settle", accounts.netting),
    Page("shares", "/shares", "settle", accounts.shares),
    Page("value", "/value", "value", value.overview),
    Page("watch", "/watch", "watch", watch.overview),
    Page("warning", "/watch/{id:path}", "watch", watch.warning),
    Page("guests", "/guests", "rest", guests.guests, menu=True),
    Page("partners", "/partners", "rest", partners.partners, menu=True),
    Page("settings", "/settings", "rest", settings.overview, live=True, menu=True),
    Page("help", "/help", "rest", settings.help_page, menu=True),
)
"""Every page, in the order of the journey."""

STATION: Mapping[str, str] = {
    "connect": "/sources",
    "keep": "/keep",
    "fuse": "/fuse",
    "describe": "/describe",
    "govern": "/govern",
    "exchange": "/contracts",
    "prove": "/evidence",
    "settle": "/invoices",
    "value": "/value",
    "watch": "/watch",
}
"""Where each station's own page is."""


def page_named(name: str) -> Page:
    """The page with that name."""
    return next(page for page in PAGES if page.name == name)
