"""Who answers a query: this process, or the query process beside it.

What only the tail can answer is answered here, without the libraries that read tables. Everything else goes to the query process, unless
``query_idle_s`` is 0 or everything runs inline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.keep.delta import Snapshot, Table
from guantong.keep.engine import Engine
from guantong.keep.model import KeepSettings
from guantong.keep.process import QueryProcess
from guantong.keep.tail import Piece, Tail

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Reader", "Seen"]

_LIGHT = frozenset({"contents", "days", "pieces_of_day", "select", "whole"})
"""Queries that need neither Delta nor DuckDB where there is no table yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A table and its tail at one moment: no row twice, none missing."""

    table: Table
    version: int
    """Of the table; -1: there is none yet."""
    pieces: Sequence[Piece]
    snapshot: Snapshot | None = None
    """Where this process reads the table itself."""


class Reader:
    """Asks queries. One for a node."""

    def __init__(self, settings: KeepSettings, root: str, *, inline: bool = False) -> None:
        self.engine = Engine(settings, inline=inline)
        self.process = None if inline or settings.query_idle_s <= 0 else QueryProcess(settings, root)

    async def see(self, table: Table, tail: Tail, *, exists: bool) -> Seen:
        """The table as it is now; ``exists``: whether it may have been written."""
        if self.process is None:
            snapshot, pieces = await self.engine.run(lambda _: table.view(tail))
            return Seen(table, snapshot.version, pieces, snapshot)
        if not exists:
            table.settle_version(-1)
        version, pieces = table.mark(tail)
        if version is None:
            # nobody knows before the first commit of this process; one that begins meanwhile says it first
            found = await self.ask({table.name: Seen(table, -2, ())}, "contents")
            table.settle_version(found["version"])
            version, pieces = table.mark(tail)
            assert version is not None
        return Seen(table, version, pieces)

    async def ask(
        self,
        seen: Mapping[str, Seen],
        kind: str,
        narrow: Callable[[Callable[[str], Any]], Any] | None = None,
        **arguments: Any,
    ) -> Any:
        """One query by its name over the tables that it needs. ``narrow``: the rows of the tails that it can need."""
        from guantong.keep.queries import View
        from guantong.keep.worker import answer

        views = {
            name: View(one.snapshot or Snapshot(-1, None, ()), _narrowed(one.pieces, narrow))
            for name, one in seen.items()
        }
        here = all(one.snapshot is not None or (one.version == -1 and kind in _LIGHT) for one in seen.values())
        if self.process is None or here:
            return await self.engine.run(lambda guard: answer(self.engine, views, guard, kind, arguments))
        header = {
            "participant": next(iter(seen.values())).table.participant,
            "tables": [{"name": name, "version": one.version} for name, one in seen.items()],
            "kind": kind,
            "arguments": arguments,
        }
        return await self.process.ask(header, [_together(view.pieces) for view in views.values()])

    def close(self) -> None:
        """Wait for queries in this process, end the other one."""
        self.engine.close()
        if self.process is not None:
            self.process.close()


def _narrowed(pieces: Sequence[Piece], narrow: Callable[[Callable[[str], Any]], Any] | None) -> Sequence[Piece]:
    if narrow is None or not pieces:
        return pieces
    import pyarrow as pa

    rows = pa.concat_tables([piece.rows for piece in pieces])
    mask = narrow(rows.column)
    kept = rows if mask is None else rows.filter(mask)
    return [Piece(pieces[-1].position, kept)] if kept.num_rows else []


def _together(pieces: Sequence[Piece]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([piece.rows for piece in pieces], promote_options="permissive") if pieces else pa.table({})
