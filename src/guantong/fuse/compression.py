"""Fewer values for one signal, with the error stated: dead-band (the value holds) and swinging door (straight lines between values).

``bound`` is the greatest distance of any value left out from what the kept ones say of its instant: exactly for the dead-band, within
rounding for the door. It travels with the values (:meth:`Compressed.metadata`). Averages of what is left are wrong unless they are weighted
by time. Values that aren't finite, or come out of order, are kept and begin anew.

Source: Bristol, "Swinging door trending" (ISA 1990); dead-band and heartbeat as historians' exception reports have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["Compressed", "dead_band", "swinging_door"]


@dataclass(frozen=True, slots=True)
class Compressed:
    """Which rows are kept, and what may be said of the others."""

    rows: tuple[int, ...]
    method: str
    """``dead-band`` or ``swinging-door``."""
    bound: float
    """Greatest error of a row left out, in the signal's unit."""
    max_s: float
    """No two kept rows are further apart, unless the source was silent so long."""
    of: int
    """Rows before."""

    def metadata(self) -> dict[str, str]:
        """For the schema of the table that holds the kept rows."""
        return {
            "guantong.compression": self.method,
            "guantong.error-bound": repr(self.bound),
            "guantong.max-seconds": repr(self.max_s),
            "guantong.rows-before": str(self.of),
        }


def dead_band(times: Ints, values: Floats, bound: float, *, max_s: float = 28_800.0) -> Compressed:
    """Keep a value that is further than ``bound`` from the last one kept, and one each ``max_s`` as a sign of life. 0: exact repeats go."""
    kept: list[int] = []
    longest = int(max_s * NS)
    last_time, last_value = 0, math.nan
    for row, (time, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        # NaN compares false, so that it is kept
        if not kept or not abs(value - last_value) <= bound or time - last_time >= longest or time < last_time:
            kept.append(row)
            last_time, last_value = time, value
    return Compressed(tuple(kept), "dead-band", bound, max_s, len(times))


def swinging_door(times: Ints, values: Floats, bound: float, *, max_s: float = 28_800.0) -> Compressed:
    """Keep the ends of the longest straight lines that pass within ``bound`` of every value between them."""
    kept: list[int] = []
    longest = int(max_s * NS)
    pivot_time, pivot_value = 0, math.nan
    low, high = -math.inf, math.inf
    last = -1
    moments, numbers = times.tolist(), values.tolist()
    for row, (time, value) in enumerate(zip(moments, numbers, strict=True)):
        way = time - pivot_time
        if not kept or not math.isfinite(value) or not math.isfinite(pivot_value) or way <= 0:
            if last >= 0 and kept and kept[-1] != last:
                kept.append(last)
            kept.append(row)
            pivot_time, pivot_value, low, high, last = time, value, -math.inf, math.inf, row
            continue
        slope = (value - pivot_value) / way
        # a line to this row must itself lie within what the rows between allow
        if slope < low or slope > high or way > longest:
            kept.append(last)
            pivot_time, pivot_value = moments[last], numbers[last]
            way = time - pivot_time
            if way <= 0 or not math.isfinite(pivot_value):
                kept.append(row)
                pivot_time, pivot_value, low, high, last = time, value, -math.inf, math.inf, row
                continue
            low, high = -math.inf, math.inf
        low, high = max(low, (value - bound - pivot_value) / way), min(high, (value + bound - pivot_value) / way)
        last = row
    if last >= 0 and kept[-1] != last:
        kept.append(last)
    return Compressed(tuple(dict.fromkeys(kept)), "swinging-door", bound, max_s, len(times))
