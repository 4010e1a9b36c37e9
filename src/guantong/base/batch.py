"""The schema of readings and of measurements: the one form in which data travels from connect to fuse.

pyarrow is imported where a schema is first asked for, so that programs that only verify never load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BAD", "GOOD", "UNCERTAIN", "Batch", "as_arrived", "measurement_schema", "reading_schema"]

GOOD, UNCERTAIN, BAD = 0x00000000, 0x40000000, 0x80000000
"""OPC UA StatusCode severities (Part 4, 7.39); a status column always holds such a code. UNAVAILABLE is ``BAD``, never zero."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a source hands to the sink in one piece.

    ``kind`` is ``readings`` (rows of :func:`reading_schema`), ``measurements`` (rows of :func:`measurement_schema`) or ``table`` (any
    columns; ``note['table']`` names it). ``rows`` is one Arrow record batch. ``note`` holds what the source knows about the batch as
    plain JSON: ``file``, ``offset``, ``instance_id``, ``gaps`` (list of ``{signal?, from, to, count, reason}``), ``quarantined``
    (list of ``{offset, reason, text}``), ``units`` (signal to unit as the source names it).
    """

    source: str
    kind: str
    rows: pa.RecordBatch
    note: Mapping[str, object] = field(default_factory=dict)


@cache
def reading_schema() -> pa.Schema:
    """Columns of a reading as it arrives.

    signal: the source's own id of the signal · source_time, server_time (may be null), receive_time: UTC, nanoseconds · exactly one of
    value_f64, value_i64, value_text, value_bool is set unless the status is bad · status: OPC UA StatusCode · sequence: the source's
    own number, null where it has none.
    """
    import pyarrow as pa

    time = pa.timestamp("ns", tz="UTC")
    return pa.schema(
        [
            pa.field("signal", pa.string(), nullable=False),
            pa.field("source_time", time, nullable=False),
            pa.field("server_time", time),
            pa.field("receive_time", time, nullable=False),
            pa.field("value_f64", pa.float64()),
            pa.field("value_i64", pa.int64()),
            pa.field("value_text", pa.string()),
            pa.field("value_bool", pa.bool_()),
            pa.field("status", pa.uint32(), nullable=False),
            pa.field("sequence", pa.int64()),
        ]
    )


@cache
def measurement_schema() -> pa.Schema:
    """Columns of one measured characteristic of one part, as an inspection report states it (QIF 2.1 names where it has them).

    report: id of the report (file name and QPId) · result: id of the result within it (one part measured once) · model: the part
    design's name · serial: serial number as written, null where the result carries none · source_uri · characteristic: id of the
    characteristic item · feature: id of the feature item, the identity within a part (names repeat) · name: as shown · kind:
    diameter, distance, flatness, ... · value_f64 or value_text · unit: as declared or null · nominal, lower, upper: absolute limits in
    the same unit, null where not declared · limit_form: ``absolute``, ``offset`` or ``zone`` as declared · x, y, z: position of the
    feature where stated · declared_status: pass/fail as the report says · measured_time: UTC, null where not stated · receive_time.
    """
    import pyarrow as pa

    time = pa.timestamp("ns", tz="UTC")
    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            pa.field("report", text, nullable=False),
            pa.field("result", text, nullable=False),
            pa.field("model", text),
            pa.field("serial", text),
            pa.field("source_uri", text),
            pa.field("characteristic", text, nullable=False),
            pa.field("feature", text),
            pa.field("name", text, nullable=False),
            pa.field("kind", text, nullable=False),
            pa.field("value_f64", number),
            pa.field("value_text", text),
            pa.field("unit", text),
            pa.field("nominal", number),
            pa.field("lower", number),
            pa.field("upper", number),
            pa.field("limit_form", text),
            pa.field("x", number),
            pa.field("y", number),
            pa.field("z", number),
            pa.field("declared_status", text),
            pa.field("measured_time", time),
            pa.field("receive_time", time, nullable=False),
        ]
    )


def as_arrived(batch: pa.RecordBatch, schema: pa.Schema, now: int) -> pa.RecordBatch:
    """A partner's delivery in the columns of an own source's batch; what the partner does not say stays null. ``now``: ns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for wanted in schema:
        if wanted.name == "receive_time":
            column = pa.array([now] * batch.num_rows, pa.int64()).cast(wanted.type)
        elif wanted.name == "source_time" and "source_ns" in batch.schema.names:
            whole = batch.column("source_time").cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
            column = pc.add(whole, batch.column("source_ns").cast(pa.int64())).cast(wanted.type)
        elif wanted.name in batch.schema.names:
            column = batch.column(wanted.name).cast(wanted.type)
        else:
            column = pa.nulls(batch.num_rows, wanted.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
