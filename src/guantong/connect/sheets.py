"""Excel workbooks and JSON lines: rows that become readings where a column holds times, else a table.

Excel is read by calamine (extra ``excel``); the sheet is the first, or that of the term ``sheet``. A line of JSON that can't be read is
quarantined with its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.errors import ConfigProblem
from guantong.connect.delivery import Delivery
from guantong.connect.pieces import cells, melt
from guantong.connect.values import Shape, instant_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_lines", "read_workbook"]


async def read_workbook(path: Path, delivery: Delivery) -> dict[str, Any]:
    """Read one sheet into the delivery; returns the facts found out. Raises ConfigProblem ``connect.file-unreadable``."""
    rows, facts = await asyncio.to_thread(_sheet, path, delivery.interface.term("sheet"))
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = delivery.interface.term("time_column")
    column = wanted or next((field.name for field in rows.schema if pa.types.is_timestamp(field.type)), None)
    if column is not None and (
        column not in rows.schema.names or not pa.types.is_timestamp(rows.schema.field(column).type)
    ):
        column = None
    facts["time_column"] = column
    note = {"file": path.name, "form": facts}
    if column is None or delivery.interface.term("as") == "table":
        delivery.lines(rows.num_rows, rows.num_rows)
        await delivery.send(rows, {**note, "table": path.stem}, kind="table")
        return facts
    times = rows.column(column)
    for row in pc.indices_nonzero(pc.is_null(times)).to_pylist():
        delivery.quarantine(row + 2, "time", "")  # as the sheet numbers its rows
    whole = rows.filter(pc.is_valid(times))
    step = max(1, delivery.settings.file_batch_rows // max(1, rows.num_columns - 1))
    for begin in range(0, whole.num_rows, step):
        part = whole.slice(begin, step)
        instants = part.column(column).cast(pa.timestamp("ns")).cast(pa.int64())
        columns = {name: cells(part.column(name)) for name in part.schema.names if name != column}
        await delivery.send(melt(columns, instants, delivery.clock.now()), note)
    delivery.lines(rows.num_rows, whole.num_rows)
    return facts


def _sheet(path: Path, name: str | None) -> tuple[pa.RecordBatch, dict[str, Any]]:
    try:
        import fastexcel
    except ModuleNotFoundError as error:
        raise ConfigProblem("base.extra-missing", feature="Excel", extra="excel") from error
    try:
        book = fastexcel.read_excel(path)
        if name is not None and name not in book.sheet_names:
            raise ConfigProblem("connect.file-unreadable", path=path.name, reason=f"there is no sheet {name}")
        sheet = book.load_sheet(name if name is not None else 0)
        return sheet.to_arrow(), {"sheet": sheet.name, "sheets": len(book.sheet_names), "columns": sheet.width}
    except fastexcel.FastExcelError as error:
        raise ConfigProblem("connect.file-unreadable", path=path.name, reason=str(error)[:200]) from error


async def read_lines(path: Path, delivery: Delivery) -> dict[str, Any]:
    """Read JSON lines into the delivery; returns the facts found out. Raises ConfigProblem ``connect.file-unreadable``."""
    import pyarrow as pa

    shape = Shape(time=delivery.interface.term("time"))
    table: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"objects": 0, "with_time": 0}
    pieces = _pieces(path, delivery.settings.line_bytes)
    note = {"file": path.name, "table": path.stem}
    while block := await asyncio.to_thread(next, pieces, None):
        for number, raw in block:
            try:
                value = orjson.loads(raw)
            except orjson.JSONDecodeError:
                delivery.quarantine(number, "unreadable", raw[:200].decode("utf-8", "replace"))
                continue
            if not isinstance(value, dict):
                delivery.quarantine(number, "fields", raw[:200].decode("utf-8", "replace"))
                continue
            facts["objects"] += 1
            when = None if delivery.interface.term("as") == "table" else instant_of(value, shape)
            if when is None:
                table.append({name: _flat(member) for name, member in value.items()})
                continue
            facts["with_time"] += 1
            for name, member in shape.members(value):
                shape.take(name or delivery.source, member, None, when, delivery.clock.now(), delivery)
        delivery.lines(len(block), len(block))
        await delivery.settle()
        if table:
            await delivery.send(pa.RecordBatch.from_pylist(_alike(table)), note, kind="table")
            table.clear()
    return facts


def _pieces(path: Path, limit: int) -> Iterator[list[tuple[int, bytes]]]:
    try:
        with path.open("rb") as file:
            block: list[tuple[int, bytes]] = []
            number = 0
            while raw := file.readline(limit):
                number += 1
                if raw.strip():
                    block.append((number, raw))
                if len(block) >= 5_000:
                    yield block
                    block = []
            if block:
                yield block
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=path.name, reason=error.strerror or str(error)) from error


def _flat(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Members whose values are of several types become text, so that a column has one."""
    names = {name: None for row in rows for name in row}
    for name in names:
        kinds = {type(row[name]) for row in rows if row.get(name) is not None}
        if len(kinds) > 1 or any(isinstance(row.get(name), int) and abs(row[name]) >= 1 << 63 for row in rows):
            for row in rows:
                if row.get(name) is not None:
                    row[name] = str(row[name])
    return [{name: row.get(name) for name in names} for row in rows]
