"""Walking the edges of lineage: both directions, bounded, and safe against cycles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from sqlalchemy import and_, select

from guantong.records import Edge, Records
from guantong.records.tables import EDGES

__all__ = ["Direction", "edges_of", "walk_edges"]

Direction = Literal["back", "forward"]
"""``back``: what it was made from · ``forward``: what was made of it."""

Fetch = Callable[[Sequence[str], Direction, int], Awaitable[list[Edge]]]

_CHUNK = 400
"""Nodes asked for in one select (SQLite's default allows 32,766 variables, but short statements plan faster)."""


async def walk_edges(
    fetch: Fetch,
    start: Sequence[str],
    direction: Direction,
    *,
    depth: int,
    limit: int,
    avoid: frozenset[str] = frozenset(),
) -> tuple[list[Edge], bool]:
    """Edges reached from the nodes, nearest first, each once; and whether depth or limit cut the walk.

    A node is visited once, so cycles end. Nodes to ``avoid`` are neither shown nor passed.
    """
    seen = {*start, *avoid}
    found: dict[tuple[str, str, str], Edge] = {}
    frontier = list(dict.fromkeys(start))
    for _ in range(depth):
        if not frontier:
            return list(found.values()), False
        step: list[str] = []
        for place in range(0, len(frontier), _CHUNK):
            for edge in await fetch(frontier[place : place + _CHUNK], direction, limit + 1):
                node = edge.source if direction == "back" else edge.target
                if node in avoid:
                    continue
                found.setdefault((edge.source, edge.target, edge.relation), edge)
                if len(found) > limit:
                    return list(found.values())[:limit], True
                if node not in seen:
                    seen.add(node)
                    step.append(node)
        frontier = step
    return list(found.values()), bool(frontier)


def edges_of(records: Records, participant: str, *, without: str = "") -> Fetch:
    """Fetches a participant's edges from the records, leaving out those whose source begins with ``without``."""

    async def fetch(nodes: Sequence[str], direction: Direction, limit: int) -> list[Edge]:
        near = EDGES.c.target if direction == "back" else EDGES.c.source
        where = [EDGES.c.participant == participant, near.in_(list(nodes))]
        if without:
            where.append(EDGES.c.source.not_like(f"{without}%"))
        rows = await records.rows(
            select(EDGES.c.source, EDGES.c.target, EDGES.c.relation)
            .where(and_(*where))
            .order_by(EDGES.c.recorded_at, EDGES.c.source, EDGES.c.target, EDGES.c.relation)
            .limit(limit)
        )
        return [Edge(row["source"], row["target"], row["relation"]) for row in rows]

    return fetch
