"""The newest values of each numeric signal, as far back as the rules for stretches look; bounded by ``window_rows`` a signal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD
from guantong.base.clock import NS
from guantong.fuse.identity import Keys, first_rows
from guantong.fuse.model import FuseSettings, Signal
from guantong.fuse.stretches import UnitStretch, find_frozen, find_unit_stretches

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["Series"]

_FRESH = 64
"""A signal is looked at when it has so many new rows."""


class Series:
    """Windows of values by signal."""

    def __init__(self, settings: FuseSettings) -> None:
        self.settings = settings
        self._times: dict[int, Ints] = {}
        self._values: dict[int, Floats] = {}
        self._look: set[int] = set()
        self._waiting: list[tuple[Ints, Ints, Floats]] = []
        """Signals, times and values of chunks that no window has yet: a window is made anew for its rows, not for each chunk's few."""
        self._fresh: Ints | None = None
        """New rows of each signal since it was last looked at."""

    def add(self, keys: Keys, rows: pa.Table, signals: Mapping[int, Signal]) -> None:
        """Take the kept readings of a chunk (``rows`` and ``keys`` side by side)."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = pc.coalesce(rows["value_f64"], rows["value_i64"].cast(pa.float64(), safe=False))
        values = pc.fill_null(numbers, np.nan).to_numpy()
        usable = np.isfinite(values) & (keys.status < BAD)
        if keys.revision is not None:
            usable &= keys.revision == 0
        where = np.flatnonzero(usable)
        if not len(where):
            return
        self._waiting.append((keys.signal[where], keys.time[where], values[where]))
        fresh = np.bincount(self._waiting[-1][0])
        if self._fresh is not None:
            fresh, other = (fresh, self._fresh) if len(fresh) > len(self._fresh) else (self._fresh, fresh)
            fresh[: len(other)] += other
        self._fresh = fresh
        ripe = np.flatnonzero(fresh >= _FRESH)
        if len(ripe):
            self._fold()
            self._look.update(ripe.tolist())
            fresh[ripe] = 0

    def _fold(self) -> None:
        """Bring what waits into the windows."""
        import numpy as np

        if not self._waiting:
            return
        signal, at, values = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        self._waiting = []
        # in arrival order within each signal: a sort of small numbers, by their digits
        order = np.argsort(signal.astype(np.uint16) if int(signal.max()) < 1 << 16 else signal, kind="stable")
        numbers_, begins = first_rows(signal[order])
        for number, group in zip(numbers_.tolist(), np.split(order, begins[1:]), strict=True):
            times, new = at[group], values[group]
            if len(times) > 1 and (times[1:] < times[:-1]).any():
                sorting = np.argsort(times, kind="stable")
                times, new = times[sorting], new[sorting]
            old = self._times.get(number)
            if old is not None:
                late = len(old) and times[0] < old[-1]
                times, new = np.concatenate([old, times]), np.concatenate([self._values[number], new])
                if late:
                    sorting = np.argsort(times, kind="stable")
                    times, new = times[sorting], new[sorting]
            self._times[number], self._values[number] = times, new

    def unit_stretches(self, signals: Mapping[int, Signal]) -> Iterator[tuple[int, int, int, UnitStretch]]:
        """(signal, first and last time, stretch) of each stretch that has ended; its rows leave the window."""
        import numpy as np

        for number in sorted(self._look):
            unit = signals[number].unit
            found = find_unit_stretches(self._values[number], unit, self.settings) if unit else []
            times = self._times[number]
            for one in found:
                yield number, int(times[one.begin]), int(times[one.end - 1]), one
            if found:
                gone = np.zeros(len(times), np.bool_)
                for one in found:
                    gone[one.begin : one.end] = True
                self._times[number], self._values[number] = times[~gone], self._values[number][~gone]

    def frozen(
        self, signals: Mapping[int, Signal], *, final: bool = False
    ) -> Iterator[tuple[int, int, int, int, float]]:
        """(signal, first and last time, rows, value) of standstills that have ended, or have lasted twice as long as needed."""
        import numpy as np

        if final:
            self._fold()
        looked = sorted(self._times) if final else sorted(self._look)
        candidates: dict[str, list[tuple[int, int, int, int, float, bool]]] = {}
        varied: dict[str, int] = {}
        for number in looked:
            times, values = self._times[number], self._values[number]
            source = signals[number].source
            if len(values) > 1 and np.count_nonzero(values[1:] != values[:-1]) >= 0.3 * len(values):
                varied[source] = varied.get(source, 0) + 1
            for one in find_frozen(times, values, self.settings):
                rows = one.end - one.begin
                candidates.setdefault(source, []).append(
                    (number, int(times[one.begin]), int(times[one.end - 1]), rows, one.value, one.open)
                )
        for source, list_ in candidates.items():
            for number, start, end, rows, value, still in list_:
                together = sum(1 for other in list_ if other[1] <= end and other[2] >= start)
                if varied.get(source, 1) >= 3 and together >= 0.5 * (varied[source] + 1):
                    continue  # the whole machine stands: that is no fault of a signal
                long = rows >= 2 * self.settings.frozen_run and end - start >= 2 * self.settings.frozen_s * NS
                if still and not final and not long:
                    continue
                yield number, start, end, rows, value
                if not still:
                    keep = (self._times[number] < start) | (self._times[number] > end)
                    self._times[number], self._values[number] = self._times[number][keep], self._values[number][keep]
        if final:
            self._fresh = None
        for number in list(self._look) if not final else list(self._times):
            limit = self.settings.window_rows
            if len(self._times[number]) > limit:
                self._times[number] = self._times[number][-limit:].copy()
                self._values[number] = self._values[number][-limit:].copy()
        self._look.clear()
