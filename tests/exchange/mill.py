"""A mill's readings as a partner gets them: load, counter, mode and door, one a millisecond, one of them bad."""

from __future__ import annotations

import pyarrow as pa

from guantong.describe.rows import reading_rows_schema

START = 1_764_000_000_000_000_000


def readings(count, *, late=False):
    """Load, counter, mode and door of a mill, one a millisecond; the last signal appears late where asked."""
    columns = {name: [] for name in reading_rows_schema().names}
    for number in range(count):
        which = number % (4 if not late or number > count // 2 else 3)
        row = {
            "signal_id": which, "source": "mill", "signal": ("load", "parts", "mode", "door")[which], "name": "x",
            "unit": "%" if which == 0 else None, "source_time": START + number * 1_000_000,
            "value_f64": number / 8 if which == 0 else None, "value_i64": -number - 2**40 if which == 1 else None,
            "value_text": f"运行{number}" if which == 2 else None, "value_bool": number % 8 < 4 if which == 3 else None,
            "status": 0x80320000 if number == 8 else 0, "revision": 0,
        }  # fmt: skip
        for name in columns:
            columns[name].append(row.get(name))
    return pa.table(columns, schema=reading_rows_schema())


def value_of(row):
    if row["status"]:
        return None
    return next(row[name] for name in ("value_f64", "value_i64", "value_text", "value_bool") if row[name] is not None)
