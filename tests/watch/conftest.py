"""A participant's own keep and fuse under the watch, fed by batches as connect hands them over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from guantong.base.batch import GOOD, Batch, reading_schema
from guantong.fuse.service import Fuse
from guantong.keep.service import Keep
from guantong.watch.service import Watch

US = "did:web:customer.example"


@dataclass
class House:
    keep: Keep
    fuse: Fuse
    watch: Watch
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    async def feed(self, source: str, rows: Iterable[dict[str, Any]], note: dict[str, Any] | None = None) -> None:
        """Log readings (signal, source_time, a value) and fuse them."""
        filled = [{"receive_time": row["source_time"], "status": GOOD, **row} for row in rows]
        columns = {name: [row.get(name) for row in filled] for name in reading_schema().names}
        batch = pa.record_batch(columns, schema=reading_schema())
        await self.keep.take(US, Batch(source, "readings", batch, note or {}))
        await self.fuse.drain(US)


@pytest.fixture
async def house(tmp_path, records, clock) -> AsyncIterator[House]:
    async with Keep(tmp_path / "keep", records, clock) as keep:
        fuse = Fuse(records, keep, clock)
        yield House(keep, fuse, Watch(records, keep, fuse, clock))
