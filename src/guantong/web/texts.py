"""The words of the pages: one table, ``texts.toml``, each text in English and Chinese side by side, so that neither is forgotten.

A text may hold ``{name}`` places. Where the count ``n`` is one and English wants another form, the entry has ``one``.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from guantong.web.model import LANGUAGES

__all__ = ["Text", "all_texts", "chosen_language", "places", "say"]

Text = Mapping[str, str]
"""``en``, ``zh`` and sometimes ``one``."""


@cache
def all_texts() -> Mapping[str, Text]:
    """Every text by its key, ``group.name``."""
    read = tomllib.loads((files("guantong.web") / "texts.toml").read_text("utf-8"))
    return {f"{group}.{name}": text for group, texts in read.items() for name, text in texts.items()}


def places(text: str) -> frozenset[str]:
    """Names of the places in a text."""
    return frozenset(_places(text))


def _places(text: str) -> Iterator[str]:
    for _, name, _, _ in string.Formatter().parse(text):
        if name:
            yield name


def say(language: str, key: str, /, **facts: Any) -> str:
    """The text in the language with its places filled. LookupError for a key that is not in the table."""
    text = all_texts()[key]
    if language.startswith("zh"):
        chosen = text["zh"]
    else:
        chosen = text["one"] if "one" in text and str(facts.get("n")) == "1" else text["en"]
    return chosen.format(**facts) if facts else chosen


def chosen_language(asked: str | None, remembered: str | None, accepted: str, fallback: str) -> str:
    """The language of an answer: the address names it, else the cookie remembers it, else the browser wishes it (RFC 9110 12.5.4)."""
    for wish in (asked, remembered):
        if wish:
            found = _known(wish)
            if found:
                return found
    wishes: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:200].split(",")):
        tag, _, weight = part.strip().partition(";")
        try:
            q = float(weight.strip()[2:]) if weight.strip().startswith("q=") else 1.0
        except ValueError:
            q = 0.0
        wishes.append((-q, place, tag.strip()))
    for negative, _, tag in sorted(wishes):
        found = _known(tag)
        if negative < 0 and found:
            return found
    return _known(fallback) or LANGUAGES[0]


def _known(tag: str) -> str | None:
    primary = tag.lower().split("-")[0]
    return next((language for language in LANGUAGES if language.lower().split("-")[0] == primary), None)
