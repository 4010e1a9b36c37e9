"""The way past the pages: requests of partners go straight to their protocol's endpoints.

Starlette tries its routes one after the other and puts three layers around each request; here an endpoint is found by looking its path
up. What is not found goes the usual way, which knows the same routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Route

from guantong.exchange.serving import Endpoint

__all__ = ["Direct"]

_Key = tuple[str, tuple[str | None, ...]]


class Direct:
    """Endpoints by method and path; a place in braces stands for one segment."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._found: dict[_Key, tuple[Endpoint, tuple[tuple[int, str], ...]]] = {}
        self._shapes: dict[int, list[tuple[int, ...]]] = {}
        for route in routes:
            if not isinstance(route, Route) or not isinstance(route.endpoint, Endpoint) or ":" in route.path:
                continue
            parts = route.path.split("/")
            places = tuple((at, part[1:-1]) for at, part in enumerate(parts) if part.startswith("{"))
            shape = tuple(at for at, _ in places)
            known = self._shapes.setdefault(len(parts), [])
            if shape not in known:
                known.append(shape)
                known.sort(key=len)  # a path in so many words before one with a place in it
            for method in (route.methods or set()) - {"HEAD"}:
                self._found[(method, _blank(parts, shape))] = (route.endpoint, places)

    def find(self, scope: dict[str, Any]) -> Endpoint | None:
        """The endpoint of a request, None where there is none here; the scope then holds its path's parameters."""
        parts = scope["path"].split("/")
        for shape in self._shapes.get(len(parts), ()):
            found = self._found.get((scope["method"], _blank(parts, shape)))
            if found is not None:
                endpoint, places = found
                if all(parts[at] for at in shape):
                    scope["path_params"] = {name: parts[at] for at, name in places}
                    return endpoint
        return None


def _blank(parts: list[str], shape: tuple[int, ...]) -> tuple[str | None, ...]:
    if not shape:
        return tuple(parts)
    blank: list[str | None] = list(parts)
    for at in shape:
        blank[at] = None
    return tuple(blank)
