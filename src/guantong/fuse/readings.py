"""From what the log holds to clean rows: columns in, columns out, no loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.fuse.identity import NEVER, Keys, first_rows, value_keys

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from guantong.keep.model import Logged

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

__all__ = ["TYPES", "Piece", "clean", "gather", "keys_of", "keys_of_clean", "types_of"]

TYPES = ("", "f64", "i64", "text", "bool")
"""Type names by the number that :class:`Keys` gives a kind of value."""


@dataclass(slots=True)
class Piece:
    """The readings of one chunk of the log, in order of arrival."""

    table: pa.Table
    """Columns of the reading schema without ``signal``."""
    source: Ints
    """Number of the source in ``sources``."""
    sources: list[str]
    position: Ints
    """Log position of each row."""
    live: Flags
    """False for rows read from a file: their time of arrival says nothing about clocks."""
    signal: Ints
    """Catalogue id."""


def gather(batches: Sequence[Logged], resolve: Callable[[str, list[str]], list[int]]) -> Piece | None:
    """Join the readings of several log entries. ``resolve(source, native ids)`` answers with catalogue ids."""
    import numpy as np
    import pyarrow as pa

    from guantong.base.batch import reading_schema

    taken = [logged for logged in batches if logged.batch.kind == "readings" and logged.batch.rows.num_rows]
    if not taken:
        return None
    schema = reading_schema()
    table = pa.Table.from_batches(
        [
            one.batch.rows if one.batch.rows.schema.equals(schema) else one.batch.rows.select(schema.names).cast(schema)
            for one in taken
        ]
    )
    counts = [one.batch.rows.num_rows for one in taken]
    sources = list(dict.fromkeys(one.batch.source for one in taken))
    number = {source: index for index, source in enumerate(sources)}
    source = np.repeat(np.array([number[one.batch.source] for one in taken], np.int64), counts)
    position = np.repeat(np.array([one.position for one in taken], np.int64), counts)
    live = np.repeat(np.array(["file" not in one.batch.note for one in taken], np.bool_), counts)
    encoded = table["signal"].combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks)
    encoded = encoded.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy().astype(np.int64)
    pairs = source * len(names) + codes if len(sources) > 1 else codes
    there, _ = first_rows(pairs)
    ids = np.zeros(len(sources) * len(names), np.int64)
    for index, name in enumerate(sources):
        mine = there[there // len(names) == index]
        ids[mine] = resolve(name, [names[pair % len(names)] for pair in mine.tolist()])
    return Piece(table.drop_columns(["signal"]), source, sources, position, live, ids[pairs])


def keys_of(piece: Piece) -> Keys:
    """Identity and value of each row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = piece.table
    kind, bits = value_keys(table)
    return Keys(
        piece.signal,
        table["source_time"].cast(pa.int64()).to_numpy(),
        pc.fill_null(table["sequence"], NEVER).to_numpy(),
        kind,
        bits,
        table["status"].to_numpy().astype(np.int64),
    )


def keys_of_clean(table: pa.Table) -> Keys:
    """The same of rows that keep hands out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, bits = value_keys(table)
    return Keys(
        table["signal_id"].to_numpy().astype(np.int64),
        table["source_time"].cast(pa.int64()).to_numpy() * 1000 + table["source_ns"].to_numpy(),
        pc.fill_null(table["sequence"], NEVER).to_numpy(),
        kind,
        bits,
        table["status"].to_numpy(),
        table["revision"].to_numpy().astype(np.int64),
    )


def types_of(keys: Keys, told: set[int]) -> dict[int, str]:
    """The type of each signal that has a value here: ``f64`` also where some are whole, ``mixed`` where they differ otherwise.

    told: pairs of signal and kind that were answered before; only new ones are, and are added.
    """
    found: dict[int, str] = {}
    codes, _ = first_rows(keys.signal * 8 + keys.kind)
    new = set(codes.tolist()) - told
    told |= new
    for code in sorted(new):
        signal, kind = divmod(code, 8)
        if kind:
            pair = {found.get(signal, TYPES[kind]), TYPES[kind]}
            found[signal] = pair.pop() if len(pair) == 1 else "f64" if pair == {"f64", "i64"} else "mixed"
    return found


def clean(
    piece: Piece,
    keys: Keys,
    kept: Flags,
    revision: Ints,
    reasons: Mapping[int, str],
    aligned: Ints | None,
    corrections: pa.Array | None,
) -> pa.Table:
    """Rows as keep stores them.

    reasons: by row number · aligned: source time plus correction in ns, :data:`NEVER` where there is none.
    """
    import numpy as np
    import pyarrow as pa

    from guantong.keep.model import clean_schema

    schema = clean_schema()
    table = piece.table
    size = len(keys)
    micro, rest = np.divmod(keys.time, 1000)
    why: list[str | None] | None = None
    if reasons:
        why = [None] * size
        for row, reason in reasons.items():
            why[row] = reason
    columns = {
        "signal_id": pa.array(keys.signal.astype(np.int32)),
        "source_time": pa.array(micro).cast(schema.field("source_time").type),
        "source_ns": pa.array(rest.astype(np.int16)),
        "server_time": _micro(table["server_time"], schema.field("server_time").type),
        "receive_time": _micro(table["receive_time"], schema.field("receive_time").type),
        "aligned_time": (
            pa.nulls(size, schema.field("aligned_time").type)
            if aligned is None
            else pa.array(np.floor_divide(aligned, 1000), mask=aligned == NEVER).cast(schema.field("aligned_time").type)
        ),
        **{name: table[name] for name in ("value_f64", "value_i64", "value_text", "value_bool")},
        "status": pa.array(keys.status),
        "sequence": table["sequence"],
        "revision": pa.array(revision.astype(np.int32)),
        "reason": pa.nulls(size, pa.string()) if why is None else pa.array(why, pa.string()),
        "corrections": pa.nulls(size, pa.string()) if corrections is None else corrections,
        "log_position": pa.array(piece.position),
        "day": pa.array(np.floor_divide(keys.time, 86_400_000_000_000).astype(np.int32)).cast(pa.date32()),
    }
    made = pa.table([columns[name] for name in schema.names], schema=schema)
    return made if kept.all() else made.take(pa.array(np.flatnonzero(kept))) if kept.any() else made.slice(0, 0)


def _micro(column: Any, kind: Any) -> Any:
    # cut, never rounded, and rounding down also before 1970
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.cast(pa.int64())
    whole = pc.divide(numbers, 1000)  # towards zero
    return pc.subtract(whole, pc.less(numbers, pc.multiply(whole, 1000)).cast(pa.int64())).cast(kind)
