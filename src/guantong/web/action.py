"""What a row of the table of actions is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from guantong.web.ask import Ask
from guantong.web.rooms import Rooms

__all__ = ["Action", "Field"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value that an action takes."""

    name: str
    required: bool = True
    many: bool = False
    limit: int = 2000


@dataclass(frozen=True, slots=True)
class Action:
    """One row of the table."""

    path: str
    summary: str
    fields: tuple[Field, ...]
    run: Callable[[Rooms, Ask], Awaitable[Any]]
    fragment: str = ""
    """Piece of a page that shows the result; without one the browser goes on to ``next``."""
