"""Pure decisions of connect: what a note says of signals, and whether a measured value is within its limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from guantong.base.errors import ConfigProblem
from guantong.connect.model import Property

__all__ = ["address_parts", "digits_in", "holes", "names_of", "out_of_tolerance", "units_of"]


def address_parts(url: str) -> SplitResult:
    """The parts of an address that somebody wrote. Raises ConfigProblem ``connect.address-unusable`` where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.port  # looked at late by the library, and refused late
    except ValueError as error:
        raise ConfigProblem("connect.address-unusable", base=url[:200], reason=str(error)) from error
    return parts


def digits_in(text: str | None, most: int) -> int | None:
    """The whole number that ``text`` is, of at most ``most`` digits; None of anything else (``³`` is a digit to Python, too)."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= most else None


def names_of(properties: Iterable[Property]) -> dict[str, dict[str, str | None]]:
    """``note['names']``: name, path, type and category of each signal, as far as the source says."""
    return {
        item.key: {
            "name": item.title or item.key,
            "path": item.term("path"),
            "type": item.term("type"),
            "category": item.term("category"),
        }
        for item in properties
    }


def units_of(properties: Iterable[Property]) -> dict[str, str]:
    """``note['units']``: the unit of each signal as the source names it."""
    return {item.key: item.unit for item in properties if item.unit}


def out_of_tolerance(row: Mapping[str, Any]) -> bool | None:
    """Whether a measurement (a row of ``measurement_schema``) lies outside its limits as declared; None where that can't be said.

    The limits themselves are inside. A zone that is declared negative contradicts itself (a deviation of form is never negative), so
    nothing can be said by it.
    """
    value, lower, upper = row["value_f64"], row["lower"], row["upper"]
    if value is None or (lower is None and upper is None):
        return None
    if row["limit_form"] == "zone" and upper is not None and upper < 0:
        return None
    return bool((lower is not None and value < lower) or (upper is not None and value > upper))


def holes(first: int, end: int, present: Iterable[int]) -> Iterator[tuple[int, int]]:
    """What of the whole numbers from ``first`` to before ``end`` is not present, as runs with their first and last number.

    The work is that of the present numbers, however wide the interval.
    """
    place = first
    for number in sorted(set(present)):
        if number >= end:
            break
        if number > place:
            yield place, number - 1
        place = max(place, number + 1)
    if place < end:
        yield place, end - 1
