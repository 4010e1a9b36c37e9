"""What a page is asked for, and the two things every list of a page does: search and cut into pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from guantong.base.clock import iso
from guantong.base.errors import Refused, Skippable

__all__ = ["Ask", "cut", "decimal", "found", "go", "not_found", "text", "texts", "time_of"]

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


def text(ask: Ask, name: str, *, required: bool = True, limit: int = 2000) -> str:
    """A text field without blanks around it. Raises Skippable ``web.field-missing``."""
    given: Any = ask.query.get(name, "")
    if not isinstance(given, str):
        raise Skippable("web.field-missing", field=name, reason="one text is wanted")
    value = given.strip()
    if required and not value:
        raise Skippable("web.field-missing", field=name, reason="it is empty")
    if len(value) > limit:
        raise Skippable("web.field-missing", field=name, reason=f"more than {limit} characters")
    return value


def texts(ask: Ask, name: str) -> tuple[str, ...]:
    """A field that may come several times or as a JSON list."""
    value: Any = ask.query.get(name, ())
    found = (value,) if isinstance(value, str) else tuple(value)
    if len(found) > 10_000 or not all(isinstance(item, str | int) for item in found):
        raise Skippable("web.field-missing", field=name, reason="a list of texts is wanted")
    return tuple(str(item).strip() for item in found if str(item).strip())


def decimal(ask: Ask, name: str) -> Decimal:
    """An amount: decimal text, finite, not negative."""
    try:
        value = Decimal(text(ask, name, limit=40))
    except InvalidOperation as error:
        raise Skippable("web.field-missing", field=name, reason="a decimal number is wanted") from error
    if not value.is_finite() or value < 0:
        raise Skippable("web.field-missing", field=name, reason="a number from 0 up is wanted")
    return value


def go(path: str, **result: Any) -> dict[str, Any]:
    """What an action answers: its result, and the page to go on with."""
    return {**result, "next": path}
