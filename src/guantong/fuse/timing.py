"""Clocks and lateness of one source, from what it sends live: pure state, fed with arrays.

The offset of a source's clock is read off the lower envelope of (receive time − source time): transport only ever adds to it. A clock that
is off shifts every reading by the same amount while source time runs on; a delayed stretch does not (its delay shrinks as fast as its
source time grows), and other signals of the source are on time meanwhile. Times are ns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem
from guantong.fuse.identity import NEVER, first_rows
from guantong.fuse.model import FuseSettings

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["ClockRun", "Late", "SourceClock", "SourceLateness"]

_JOIN = NS
"""Delays of neighbouring readings that differ by less belong to one state of the clock."""


_MANY = 1_000
"""So many late readings are judged even while more arrive."""


@dataclass(slots=True)
class ClockRun:
    """A stretch in which the clock was off by one amount."""

    start: int
    """Receive time of its first reading."""
    end: int
    rows: int
    low: int
    """Smallest delay, ns."""
    high: int
    last: int
    """Delay of its newest reading."""
    first_source: int
    last_source: int
    delays: list[int] = field(default_factory=list)
    """The first few, for the jitter."""
    add: int | None = None
    """What is added to source time, ns; None until the run is confirmed."""
    uncertainty: int = 0


class SourceClock:
    """The clock of one source."""

    def __init__(self, settings: FuseSettings) -> None:
        self.threshold = int(settings.clock_threshold_s * NS)
        self.factor = settings.clock_jitter_factor
        self.rows = settings.clock_min_rows
        self.span = int(settings.clock_window_s * NS)
        self.base = 0
        """Delay of readings that are on time."""
        self.run: ClockRun | None = None
        self.closed: list[ClockRun] = []
        """Confirmed runs that ended; the caller takes them out."""

    def feed(self, receive: Ints, source: Ints) -> Ints:
        """Live readings in order of arrival. Returns aligned times, :data:`NEVER` where source time stands."""
        import numpy as np

        aligned = np.full(len(receive), NEVER, np.int64)
        if not len(receive):
            return aligned
        delay = receive - source
        off = np.abs(delay - self.base) > self.threshold
        cuts = np.flatnonzero((off[1:] != off[:-1]) | (off[1:] & (np.abs(np.diff(delay)) > _JOIN))) + 1
        starts = [0, *cuts.tolist()]
        for begin, end in zip(starts, [*cuts.tolist(), len(receive)], strict=True):
            if not off[begin]:
                self.close()
                low = int(delay[begin:end].min())
                self.base = low if self.base == 0 else (3 * self.base + low) // 4
                continue
            self._extend(receive[begin:end], source[begin:end], delay[begin:end])
            if self.run is not None and self.run.add is not None:
                aligned[begin:end] = source[begin:end] + self.run.add
        return aligned

    def close(self) -> None:
        """The run is over."""
        if self.run is not None and self.run.add is not None:
            self.closed.append(self.run)
        self.run = None

    def _extend(self, receive: Ints, source: Ints, delay: Ints) -> None:
        run = self.run
        if run is None or abs(int(delay[0]) - run.last) > _JOIN:
            self.close()
            run = self.run = ClockRun(
                int(receive[0]), int(receive[0]), 0, int(delay[0]), int(delay[0]), 0, int(source[0]), int(source[0])
            )
        run.rows += len(receive)
        run.end = max(run.end, int(receive.max()))
        run.low, run.high = min(run.low, int(delay.min())), max(run.high, int(delay.max()))
        run.last = int(delay[-1])
        run.first_source = min(run.first_source, int(source.min()))
        run.last_source = max(run.last_source, int(source.max()))
        if len(run.delays) < 1000:
            run.delays.extend(delay[: 1000 - len(run.delays)].tolist())
        span = run.last_source - run.first_source
        if run.add is None and run.rows >= self.rows and span >= self.span and run.high - run.low <= span // 2:
            middle = sorted(run.delays)[len(run.delays) // 2]
            jitter = max(middle - run.low, 1_000_000)
            if abs(run.low - self.base) > self.factor * jitter:
                run.add, run.uncertainty = run.low - self.base, jitter


@dataclass(frozen=True, slots=True)
class Late:
    """One reading that came late."""

    signal: int
    time: int
    """Its (aligned) source time."""
    receive: int


class SourceLateness:
    """Lateness of one source's live readings against the newest time that the source had sent before."""

    def __init__(self, settings: FuseSettings, source: str = "") -> None:
        try:
            own = {name: float(seconds) for name, _, seconds in (one.rpartition("=") for one in settings.late_sources)}
        except ValueError as error:
            raise ConfigProblem("fuse.limits-invalid", reason=f"fuse.late-sources: {error}") from error
        self.allowed = int(own.get(source, settings.late_s) * NS)
        self.newest = NEVER
        self.pending: list[Late] = []
        """Late readings that aren't yet judged: a clock run may still explain them."""
        self._seen: set[int] = set()

    def reconnected(self) -> None:
        """The source may send the last value of each signal again, however old."""
        self._seen.clear()

    def feed(self, signal: Ints, time: Ints, receive: Ints, position: Ints) -> None:
        """Live kept readings in order of arrival; ``time`` is the aligned time where there is one."""
        import numpy as np

        if not len(time):
            return
        ahead = np.maximum.accumulate(np.minimum(time, receive))
        # the newest time is that of earlier log entries: within one, a source may send signal after signal
        begins = np.flatnonzero(np.r_[True, position[1:] != position[:-1]])
        entry = np.repeat(np.arange(len(begins)), np.diff(np.r_[begins, len(time)]))
        before = np.r_[NEVER, ahead[begins[1:] - 1]][entry]
        before = np.maximum(before, self.newest)
        late = (before != NEVER) & (time < before - self.allowed) & (receive - time > self.allowed)
        _, first = first_rows(signal)
        for row in first.tolist():
            if int(signal[row]) not in self._seen:
                late[row] = False
                self._seen.add(int(signal[row]))
        self.newest = max(self.newest, int(ahead[-1]))
        for row in np.flatnonzero(late).tolist():
            self.pending.append(Late(int(signal[row]), int(time[row]), int(receive[row])))

    def ripe(self, until: int) -> list[Late]:
        """Take out the late readings if none came after ``until``, so that one stretch is judged whole; or if they have become many."""
        if not self.pending:
            return []
        newest = max(one.receive for one in self.pending)
        if newest >= until and len(self.pending) < _MANY:
            return []
        taken, self.pending = self.pending, []
        return taken
