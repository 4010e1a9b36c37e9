"""Rows for the tests of keep: readings as they arrive, clean readings, clean measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from guantong.base.batch import Batch, measurement_schema, reading_schema
from guantong.base.clock import parse_iso
from guantong.keep.model import KeepSettings, clean_measurement_schema, clean_schema

ME = "did:web:mill.example"
T0 = parse_iso("2026-11-24T08:00:00Z")
SECOND = 1_000_000_000
TIMES = ("source_time", "server_time", "receive_time", "aligned_time", "measured_time")


def batch(count: int, first: int = 0, source: str = "mill-01", **note: Any) -> Batch:
    """``count`` readings of one signal, one a second."""
    rows = [
        {
            "signal": "Xpos",
            "source_time": T0 + (first + i) * SECOND,
            "receive_time": T0 + (first + i) * SECOND + 5,
            "value_f64": float(first + i),
            "status": 0,
            "sequence": first + i,
        }
        for i in range(count)
    ]
    return Batch(source, "readings", pa.RecordBatch.from_pylist(rows, reading_schema()), note)


def clean(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Clean readings from mappings; ``at`` is the source time in ns."""
    listed = []
    for row in rows:
        given = dict(row)
        at = given.pop("at")
        listed.append(
            {
                "source_time": at // 1000,
                "source_ns": at % 1000,
                "receive_time": at // 1000 + 7,
                "status": 0,
                "revision": 0,
                "log_position": 0,
                "day": at // 1000 // 86_400_000_000,
                **given,
            }
        )
    return pa.Table.from_pylist(listed, clean_schema())


def measured(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Clean measurements from mappings."""
    listed = [
        {
            "report": "r",
            "result": "1",
            "characteristic": "c",
            "name": "Diameter 1",
            "kind": "diameter",
            "receive_time": T0 // 1000,
            "source": "qif",
            "revision": 0,
            "log_position": 0,
            **row,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(listed, clean_measurement_schema())


def measurement_batch(rows: Iterable[Mapping[str, Any]]) -> Batch:
    """Measurements as they arrive."""
    listed = [
        {
            "report": "r",
            "result": "1",
            "characteristic": "c",
            "name": "D",
            "kind": "diameter",
            "receive_time": T0,
            **row,
        }
        for row in rows
    ]
    return Batch("qif", "measurements", pa.RecordBatch.from_pylist(listed, measurement_schema()))


def near(**given: Any) -> KeepSettings:
    """Settings under which queries run in this process; ``test_process.py`` asks through the query process."""
    return KeepSettings(**{"query_idle_s": 0.0, **given})
