"""What a page is asked for, and the two things every list of a page does: search and cut into pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from guantong.base.clock import iso
from guantong.base.errors import Refused

__all__ = ["Ask", "cut", "found", "not_found", "time_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Parameters of the path and of the query."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the query, held within bounds."""
        try:
            return max(low, min(high, int(self.query.get(name, ""))))
        except ValueError:
            return default


def cut(items: Sequence[Any], ask: Ask, size: int = 50) -> dict[str, Any]:
    """One page of a list: ``items``, ``page`` (from 1), ``pages``, ``total``."""
    pages = max(1, -(-len(items) // size))
    page = ask.whole("page", 1, 1, pages)
    return {
        "items": list(items[(page - 1) * size : page * size]),
        "page": page,
        "pages": pages,
        "total": len(items),
    }


def found(items: Sequence[T], ask: Ask, words: Callable[[T], str]) -> list[T]:
    """The items whose words hold every word of the query's ``q``."""
    wanted = ask.query.get("q", "").lower().split()[:8]
    return [item for item in items if all(word in words(item).lower() for word in wanted)] if wanted else list(items)


def time_of(instant: int | None) -> str | None:
    """RFC 3339 text of an instant, or None: JSON numbers are too short for nanoseconds."""
    return None if not instant else iso(instant)


def not_found(path: str) -> Refused:
    """What a page answers for a thing that does not exist."""
    return Refused("web.not-found", path=path)
