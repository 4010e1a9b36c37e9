"""Entries of the durable log as bytes: which batches fit, how one is stored, what a dropped one leaves behind."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from guantong.base.batch import Batch, measurement_schema, reading_schema
from guantong.base.errors import Skippable
from guantong.keep.seal import Seal, opened

__all__ = ["GAPS_MAX", "check", "crc", "decode", "encode", "gap_of", "merged", "reason"]

GAPS_MAX = 64
"""Most gap records that one batch of them carries; more are merged."""


def check(participant: str, batch: Batch) -> None:
    """Raise Skippable ``keep.batch-unfit`` for what no log may hold."""
    odd = ""
    if not participant:
        odd = "no participant"
    elif batch.kind == "readings":
        odd = _columns(batch, reading_schema())
    elif batch.kind == "measurements":
        odd = _columns(batch, measurement_schema())
    elif batch.kind != "table":
        odd = f"unknown kind {batch.kind[:32]!r}"
    elif not isinstance(batch.note.get("table"), str):
        odd = "note names no table"
    if odd:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=odd)


def _columns(batch: Batch, wanted: Any) -> str:
    # nullability is a promise about values, not a type: sources may leave it out
    found, known = batch.rows.schema, wanted
    if found.names == known.names and found.types == known.types:
        return ""
    odd = [name for name in known.names if name not in found.names or found.field(name).type != known.field(name).type]
    return f"columns {odd or found.names} differ"[:200]


def encode(batch: Batch, seal: Seal | None, owner: str) -> tuple[Any, bytes]:
    """Blob and note of a batch as they are stored. Raises Skippable ``keep.batch-unfit``."""
    import pyarrow as pa

    try:
        note = orjson.dumps(dict(batch.note))
    except TypeError as error:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=f"note: {error}") from error
    sink = pa.BufferOutputStream()
    # no threads: a batch has so few bytes a column that handing them out costs more than it saves, here and in decode
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    try:
        with pa.ipc.new_stream(sink, batch.rows.schema, options=options) as writer:
            writer.write_batch(batch.rows)
    except pa.ArrowException as error:
        raise Skippable("keep.batch-unfit", source=batch.source, reason=reason(error)) from error
    if seal is None:
        return sink.getvalue(), note
    return seal.close(sink.getvalue().to_pybytes(), owner), seal.close(note, owner)


def crc(note: bytes, blob: Any) -> int:
    """CRC-32 over both, as they are stored: a flipped bit is found without the key."""
    return zlib.crc32(blob, zlib.crc32(note))


def decode(source: str, kind: str, note: bytes, blob: bytes, seal: Seal | None, owner: str) -> Batch:
    """The batch of a stored entry. Raises ConfigProblem ``keep.key-missing``, Corrupt ``keep.seal-broken``."""
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(pa.py_buffer(opened(seal, blob, owner)), options=options) as reader:
        return Batch(source, kind, reader.read_next_batch(), orjson.loads(opened(seal, note, owner)))


def gap_of(batch: Batch) -> list[dict[str, Any]]:
    """The gap records that a batch leaves when it is dropped unread: its rows, and the gaps that it told of itself."""
    import pyarrow.compute as pc

    told = [dict(gap) for gap in batch.note.get("gaps") or ()]  # type: ignore[attr-defined]
    rows = batch.rows
    if not rows.num_rows:
        return told
    lost: dict[str, Any] = {"signal": None, "count": rows.num_rows, "reason": "log-full"}
    if batch.kind == "readings":
        times = pc.min_max(rows.column("source_time").cast("int64")).as_py()
        lost |= {"start": times["min"], "end": times["max"]}
        sequence = rows.column("sequence")
        if sequence.null_count == 0:
            ends = pc.min_max(sequence).as_py()
            return [*told, {**lost, "unit": "sequence", "from": ends["min"], "to": ends["max"]}]
    else:
        lost |= {"start": 0, "end": 0}
    return [*told, {**lost, "unit": "time", "from": lost["start"], "to": lost["end"]}]


def merged(gaps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gap records of one source, in order of their entries, with neighbours of one reason and unit made one.

    Sequence gaps become one only where they touch, so that a record covers the missing numbers and no others, unless there are more
    than ``GAPS_MAX``: then the nearest are joined.
    """
    found: list[dict[str, Any]] = []
    for gap in gaps:
        last = found[-1] if found else None
        if last is not None and _alike(last, gap) and (gap["unit"] != "sequence" or gap["from"] == last["to"] + 1):
            found[-1] = _joined(last, gap)
        else:
            found.append(dict(gap))
    while len(found) > GAPS_MAX:
        pairs = [number for number in range(len(found) - 1) if _alike(found[number], found[number + 1])]
        if not pairs:
            break
        at = min(pairs, key=lambda number: abs(found[number + 1]["from"] - found[number]["to"]))
        found[at : at + 2] = [_joined(found[at], found[at + 1])]
    return found


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("signal", "unit", "reason"))


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "count": one["count"] + other["count"],
        **{name: min(one[name], other[name]) for name in ("from", "start")},
        **{name: max(one[name], other[name]) for name in ("to", "end")},
    }


def reason(error: BaseException) -> str:
    """What a foreign error says, short."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
