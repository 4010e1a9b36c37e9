"""Clean readings, as keep answers with them, taken apart into one series a signal.

Instants are those of the receiver's time line: the aligned time where the clock was corrected, else the source time, to the nanosecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Numbers", "buckets", "numbers", "texts"]

Numbers = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Sorted instants (ns) and values; NaN where the reading was bad."""


def numbers(table: pa.Table) -> dict[int, Numbers]:
    """Signal id to its numbers. A reading with a bad status, or that holds no number, is NaN, never the last good value."""
    import pyarrow.compute as pc

    if not table.num_rows:
        return {}
    whole = pc.cast(table["value_i64"], "float64", safe=False)
    truth = pc.cast(pc.cast(table["value_bool"], "int8"), "float64")
    value = pc.coalesce(table["value_f64"], whole, truth).combine_chunks().to_numpy(zero_copy_only=False)
    value = np.array(value, dtype=np.float64)
    value[_bad(table)] = np.nan
    return {signal: (instants, value[index]) for signal, index, instants in _groups(table)}


def buckets(table: pa.Table, every_s: float) -> dict[int, Numbers]:
    """Signal id to the last number of each bucket, as keep's ``downsample`` gives them, at the bucket's end: nobody knew it before."""
    import pyarrow.compute as pc

    signal = np.asarray(table["signal_id"].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
    instant = np.asarray(
        pc.cast(table["time"], "int64").combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64
    )
    value = np.array(table["last"].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
    end = instant * 1000 + int(every_s * 1_000_000_000)
    return {int(one): (end[signal == one], value[signal == one]) for one in np.unique(signal)}


def texts(table: pa.Table) -> dict[int, list[tuple[int, str | None]]]:
    """Signal id to its texts by time; None where the reading was bad or empty."""
    if not table.num_rows:
        return {}
    bad = _bad(table)
    value = table["value_text"].to_pylist()
    return {
        signal: [(int(at), None if bad[row] else value[row]) for at, row in zip(instants, index, strict=True)]
        for signal, index, instants in _groups(table)
    }


def _bad(table: pa.Table) -> npt.NDArray[np.bool_]:
    # OPC UA Part 4, 7.39.1: the two highest bits are the severity, 10 is bad
    status = np.asarray(table["status"].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
    result: npt.NDArray[np.bool_] = (status >> 30) & 3 >= 2
    return result


def _groups(table: pa.Table) -> list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    import pyarrow.compute as pc

    signal = np.asarray(table["signal_id"].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
    time = pc.coalesce(table["aligned_time"], table["source_time"])
    rest = np.asarray(table["source_ns"].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
    instant = np.asarray(pc.cast(time, "int64").combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
    instant = instant * 1000 + rest
    order = np.lexsort((instant, signal))
    found, first = np.unique(signal[order], return_index=True)
    return [
        (int(identity), index, instant[index])
        for identity, index in zip(found, np.split(order, first[1:]), strict=True)
    ]
