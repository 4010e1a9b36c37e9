"""What guests share, kept as the readings and measurements of each guest: read in by connect, made durable by keep, fused by fuse."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.connect.service import Connect
    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["GuestRows"]


class GuestRows:
    """The rows of every guest; a guest is a participant of its own, whose rows never stand among the host's."""

    def __init__(self, connect: Connect, keep: Keep, fuse: Fuse) -> None:
        self._connect = connect
        self._keep = keep
        self._fuse = fuse

    async def follow(self, guests: Iterable[str]) -> None:
        """Go on with guests that are known already."""
        for guest in guests:
            await self._fuse.follow(guest)

    async def take(self, guest: str, source: str, path: Path) -> tuple[int, int]:
        """Read a file into the guest's durable log and fuse it; rows taken, rows quarantined."""
        imported = await self._connect.import_file(guest, source, path)
        await self._fuse.drain(guest)
        return imported.rows, imported.quarantined

    async def rows(self, guest: str, source: str) -> pa.Table:
        """Measurements of a source, its readings with their signals' names and units, or a table without times as it stands."""
        import pyarrow as pa
        import pyarrow.compute as pc

        measured = await self._keep.measurements(guest)
        measured = measured.filter(pc.equal(measured.column("source"), source))
        if measured.num_rows:
            return measured
        signals = {one.id: one for one in await self._fuse.signals(guest) if one.source == source}
        if not signals:
            # a table is named by its file, which is stored under its digest, as the source is
            digest = source.removeprefix("guest/")
            tables = [one for one in await self._keep.table_names(guest) if one.startswith(digest)]
            return await self._keep.table(guest, tables[0]) if tables else measured
        found = await self._keep.range(guest, list(signals), None, None)
        ids = found.column("signal_id").to_pylist()
        named = [signals[one] for one in ids]
        return found.add_column(0, "signal", pa.array([one.name for one in named], pa.string())).add_column(
            1, "unit", pa.array([one.unit for one in named], pa.string())
        )
