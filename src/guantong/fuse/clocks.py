"""Clocks compared: offset of a source by its lower envelope, lag between two signals, drift in pieces; each with its uncertainty. Pure.

Nothing here changes a source time: what follows from it stands beside it (``aligned_time`` and the correction's id).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.clock import NS
from guantong.base.errors import Skippable

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["DriftPiece", "Lag", "Offset", "drift", "lag", "lower_envelope"]

_WINDOWS = 64


@dataclass(frozen=True, slots=True)
class Offset:
    """Receiver's clock minus source's clock, the least transport time included (it can't be told from it in one direction)."""

    offset_s: float
    uncertainty_s: float
    """Median distance of the windows' least delays from the least of all."""
    rows: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How much later the second signal shows what the first shows."""

    lag_s: float
    uncertainty_s: float
    """Half the width of the correlation's peak where it is one standard error below its top, half a step at least."""
    correlation: float


@dataclass(frozen=True, slots=True)
class DriftPiece:
    """A stretch in which the clock ran evenly: offset = ``offset_s`` at ``start``, growing by ``ppm`` microseconds a second."""

    start: int
    end: int
    offset_s: float
    ppm: float
    ppm_uncertainty: float
    """Two standard errors of the slope."""
    rows: int


def _floors(receive: Ints, source: Ints, windows: int) -> tuple[Ints, Ints]:
    """Source time and least delay of each of so many windows of rows."""
    import numpy as np

    delay = receive - source
    pieces = np.array_split(np.arange(len(delay)), min(windows, max(1, len(delay) // 4)))
    least = np.array([piece[np.argmin(delay[piece])] for piece in pieces if len(piece)], np.int64)
    return source[least], delay[least]


def lower_envelope(receive: Ints, source: Ints) -> Offset:
    """Offset from (receive time, source time) in order of arrival: transport only ever adds to the least delay.

    Raises Skippable ``fuse.too-few-readings``: fewer than 8.
    """
    import numpy as np

    if len(receive) < 8:
        raise Skippable("fuse.too-few-readings", found=len(receive), wanted=8)
    _, least = _floors(receive, source, _WINDOWS)
    low = int(least.min())
    return Offset(low / NS, max(float(np.median(least - low)) / NS, 1e-9), len(receive))


def lag(
    one_times: Ints, one_values: Floats, other_times: Ints, other_values: Floats, *, every_s: float, max_lag_s: float
) -> Lag:
    """The shift at which the changes of both signals agree best; positive: the other is late.

    Both are held on a common grid of ``every_s`` and differenced; cross-correlation by FFT. Raises Skippable ``fuse.too-few-readings``:
    fewer than 32 grid points in common, or a signal that does not change.
    """
    import numpy as np

    step = int(every_s * NS)
    begin = max(int(one_times[0]), int(other_times[0])) if len(one_times) and len(other_times) else 0
    end = min(int(one_times[-1]), int(other_times[-1])) if len(one_times) and len(other_times) else 0
    grid = np.arange(begin, end, step)
    if len(grid) < 32:
        raise Skippable("fuse.too-few-readings", found=len(grid), wanted=32)
    series = []
    for times, values in ((one_times, one_values), (other_times, other_values)):
        held = np.diff(values[np.searchsorted(times, grid, "right") - 1])
        spread = float(held.std())
        if spread == 0.0:
            raise Skippable("fuse.too-few-readings", found=0, wanted=1)
        series.append((held - held.mean()) / spread)
    size = 1 << (2 * len(series[0]) - 1).bit_length()
    spectrum = np.fft.rfft(series[1], size) * np.conj(np.fft.rfft(series[0], size))
    correlation = np.fft.irfft(spectrum, size) / len(series[0])
    reach = min(int(max_lag_s / every_s), len(series[0]) // 2)
    shifts = np.arange(-reach, reach + 1)
    window = correlation[shifts]
    best = int(np.argmax(window))
    top = float(window[best])
    error = max((1 - min(top, 1.0) ** 2), 1e-12) / np.sqrt(len(series[0]))
    near = np.flatnonzero(window >= top - error)
    left = right = best
    while left - 1 in near:
        left -= 1
    while right + 1 in near:
        right += 1
    fine = 0.0
    if 0 < best < len(window) - 1:  # the top of the parabola through three points
        before, after = float(window[best - 1]), float(window[best + 1])
        curve = before - 2 * top + after
        fine = 0.5 * (before - after) / curve if curve < 0 else 0.0
    return Lag(float(shifts[best] + fine) * every_s, max(0.5, (right - left + 1) / 2) * every_s, top)


def drift(receive: Ints, source: Ints, *, pieces: int = 8) -> list[DriftPiece]:
    """How the offset of a source changes, in at most so many straight pieces, on the least delays of windows.

    A piece is divided where that lowers the residual by more than the two further parameters are worth (BIC). Raises Skippable
    ``fuse.too-few-readings``: fewer than 32 readings.
    """
    import numpy as np

    if len(receive) < 32:
        raise Skippable("fuse.too-few-readings", found=len(receive), wanted=32)
    at, least = _floors(receive, source, 4 * _WINDOWS)
    x, y = (at - at[0]) / NS, least / NS
    done: list[tuple[int, int]] = [(0, len(x))]
    while len(done) < pieces:
        best: tuple[float, int, int] | None = None
        for place, (begin, end) in enumerate(done):
            whole = _residual(x[begin:end], y[begin:end])
            for cut in range(begin + 4, end - 3):
                parts = _residual(x[begin:cut], y[begin:cut]) + _residual(x[cut:end], y[cut:end])
                size = end - begin
                gain = size * np.log(max(whole, 1e-18) / max(parts, 1e-18)) - 3 * np.log(len(x))
                if gain > 0 and (best is None or gain > best[0]):
                    best = (float(gain), place, cut)
        if best is None:
            break
        begin, end = done[best[1]]
        done[best[1] : best[1] + 1] = [(begin, best[2]), (best[2], end)]
    found = []
    for begin, end in done:
        slope, level, error = _line(x[begin:end], y[begin:end])
        offset = level + slope * x[begin]
        found.append(
            DriftPiece(int(at[begin]), int(at[end - 1]), float(offset), slope * 1e6, 2 * error * 1e6, end - begin)
        )
    return found


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Slope, level at 0, standard error of the slope."""
    middle = x - x.mean()
    spread = float((middle**2).sum())
    slope = float((middle * y).sum() / spread) if spread else 0.0
    level = float(y.mean() - slope * x.mean())
    rest = float(((y - level - slope * x) ** 2).sum())
    error = (rest / max(1, len(x) - 2) / spread) ** 0.5 if spread else 0.0
    return slope, level, error


def _residual(x: Floats, y: Floats) -> float:
    slope, level, _ = _line(x, y)
    return float(((y - level - slope * x) ** 2).sum()) + 1e-18
