"""Parquet files: types and nanoseconds as they are; readings where a column holds instants, else a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.connect.delivery import Delivery
from guantong.connect.narrow import Narrow, find_narrow, narrow_rows, units_in
from guantong.connect.pieces import Piece, cells, melt

__all__ = ["parquet_pieces"]


def parquet_pieces(path: Path, delivery: Delivery) -> tuple[dict[str, Any], Iterator[Piece]]:
    """What the file says of itself, and its pieces. Raises ConfigProblem ``connect.file-unreadable``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigProblem("connect.file-unreadable", path=path.name, reason=str(error)[:200]) from error
    schema = file.schema_arrow
    column = delivery.interface.term("time_column") or next(
        (field.name for field in schema if pa.types.is_timestamp(field.type)), None
    )
    if column is not None and (column not in schema.names or not pa.types.is_timestamp(schema.field(column).type)):
        column = None
    facts: dict[str, Any] = {
        "columns": len(schema),
        "rows": file.metadata.num_rows,
        "time_column": column,
        "time_format": None,
    }

    def sample(name: str) -> list[str]:
        first = next(file.iter_batches(batch_size=2_000, columns=[name]), None)
        return [] if first is None else [str(value) for value in first.column(0).to_pylist() if value is not None]

    narrow = find_narrow(schema.names, column, delivery.interface, sample)
    if narrow is not None:
        facts.update(narrow.facts())
    return facts, _pieces(path, file, column, narrow, delivery)


def _pieces(path: Path, file: Any, column: str | None, narrow: Narrow | None, delivery: Delivery) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.compute as pc

    as_readings = column is not None and delivery.interface.term("as") != "table"
    width = max(1, len(file.schema_arrow) - 1) if as_readings and narrow is None else 1
    done = 0
    known: dict[str, str] = {}
    with file:
        try:
            for batch in file.iter_batches(batch_size=max(1, delivery.settings.file_batch_rows // width)):
                bad: list[tuple[int, str, str]] = []
                if not as_readings:
                    yield Piece("table", batch, batch.num_rows, batch.num_rows, bad)
                    continue
                times = batch.column(column)
                if times.null_count:
                    empty = pc.indices_nonzero(pc.is_null(times)).to_pylist()
                    bad = [(done + row, "time", "") for row in empty]
                told = pc.is_valid(times)
                if narrow is not None:
                    named = pc.is_valid(batch.column(narrow.signal))
                    nameless = pc.indices_nonzero(pc.and_(told, pc.invert(named))).to_pylist()
                    bad += [(done + row, "empty-key", "") for row in nameless]
                    told = pc.and_(told, named)
                whole = batch.filter(told)
                instants = whole.column(column).cast(pa.timestamp("ns", tz=times.type.tz)).cast(pa.int64())
                if narrow is not None:
                    yield _narrow(narrow, whole, instants, delivery.clock.now(), batch.num_rows, bad, known)
                    done += batch.num_rows
                    continue
                columns = {name: cells(whole.column(name)) for name in batch.schema.names if name != column}
                yield Piece(
                    "readings", melt(columns, instants, delivery.clock.now()), batch.num_rows, whole.num_rows, bad
                )
                done += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigProblem("connect.file-unreadable", path=path.name, reason=str(error)[:200]) from error


def _narrow(
    narrow: Narrow,
    whole: Any,
    instants: Any,
    receive: int,
    lines: int,
    bad: list[tuple[int, str, str]],
    known: dict[str, str],
) -> Piece:
    import pyarrow as pa

    signals = cells(whole.column(narrow.signal)).cast(pa.string())
    units: dict[str, str] = {}
    if narrow.unit is not None:
        units = units_in(signals, cells(whole.column(narrow.unit)).cast(pa.string()), known)
    quality = cells(whole.column(narrow.quality)) if narrow.quality is not None else None
    values = cells(whole.column(narrow.value))
    rows = narrow_rows(narrow, signals, values, quality, instants, receive, lambda _, part: part)
    return Piece("readings", rows, lines, whole.num_rows, bad, units)
