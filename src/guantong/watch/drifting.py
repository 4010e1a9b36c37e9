"""From the readings of one source to its drift findings: choose channels, lay them on a grid, learn, score, name what moved first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guantong.base.clock import NS, iso
from guantong.base.finding import Finding
from guantong.watch import drift, series
from guantong.watch.model import WatchSettings

if TYPE_CHECKING:
    from guantong.fuse.model import Signal

__all__ = ["findings"]

_READINGS_MIN = 30
_FRESH_STEPS = 10
_TOP = 5


def findings(
    source: str,
    signals: Sequence[Signal],
    by_signal: Mapping[int, series.Numbers],
    exclude: Mapping[int, Sequence[tuple[int, int]]],
    settings: WatchSettings,
) -> list[Finding]:
    """Drift findings of one source; none where its history is too short or too thin to learn from.

    The history has to be regular enough to have a step of its own: the grid takes the median step of the channels, or a longer one
    where the window would need more than ``grid_points`` rows. A value is carried for ``stale_after_s``, or ten of its own steps
    where those are longer.
    """
    chosen: list[tuple[Signal, series.Numbers, float]] = []
    for signal in signals:
        found = by_signal.get(signal.id)
        if found is None or len(found[0]) < _READINGS_MIN:
            continue
        good = found[1][np.isfinite(found[1])]
        if len(good) < _READINGS_MIN or drift.is_counter(good) or drift.is_code(good):
            continue
        steps = np.diff(found[0])
        steps = steps[steps > 0]
        if len(steps):
            chosen.append((signal, found, float(np.median(steps))))
    if len(chosen) < settings.min_channels:
        return []
    step = float(np.median([own for _, _, own in chosen]))
    start = min(int(found[0][0]) for _, found, _ in chosen)
    end = max(int(found[0][-1]) for _, found, _ in chosen) + 1
    if (end - start) / NS < settings.min_history_s:
        return []
    step_ns = max(1, int(max(step, (end - start) / settings.grid_points)))
    stale = [int(max(settings.stale_after_s * NS, _FRESH_STEPS * own, step_ns)) for _, _, own in chosen]
    grid = drift.align(
        [found for _, found, _ in chosen],
        start=start,
        end=end,
        step_ns=step_ns,
        stale_ns=stale,
        exclude={column: exclude.get(signal.id, ()) for column, (signal, _, _) in enumerate(chosen)},
    )
    # rows of a pause in the history (nothing fresh at all) are no part of the first share
    alive = np.isfinite(grid.values).any(axis=1)
    values, times = grid.values[alive], grid.times[alive]
    learned = int(len(values) * settings.training_share)
    known = np.isfinite(values[:learned]).mean(axis=0) if learned else np.zeros(len(chosen))
    order = np.argsort(-known, kind="stable")[: settings.max_channels]
    columns = np.sort(order[known[order] >= settings.channel_coverage])
    if len(columns) < settings.min_channels:
        return []
    values = values[:, columns]
    training = values[:learned]
    training = training[np.isfinite(training).all(axis=1)]
    if len(training) < settings.min_rows:
        return []
    model = drift.fit(
        training,
        lags=settings.lags,
        smoothing=settings.smoothing,
        variance=settings.variance,
        margin=settings.margin,
        t2_margin=settings.t2_margin,
        held_out=settings.held_out_share,
    )
    scored = drift.score(model, values[learned:])
    coverage = float(np.isfinite(scored.spe).mean()) if len(values) > learned else 0.0
    later = times[learned:]
    result = []
    for event in drift.events(scored, merge_rows=settings.merge_rows, least_rows=settings.min_run):
        top = [
            {
                "signal": chosen[columns[channel]][0].native_id,
                "name": chosen[columns[channel]][0].name,
                "share": round(share, 4),
            }
            for channel, share in event.channels[:_TOP]
        ]
        result.append(
            Finding(
                "drift",
                source,
                str(top[0]["signal"]),
                int(later[event.first]),
                int(later[event.last]),
                {
                    "channels": top,
                    "statistic": event.statistic,
                    "ratio": round(event.peak, 3),
                    "rows": event.rows,
                    "step_s": step_ns / NS,
                    "trained_from": iso(int(times[0])),
                    "trained_to": iso(int(times[max(0, learned - 1)])),
                    "training_rows": model.rows,
                    "channels_in_model": len(columns),
                    "coverage": round(coverage, 4),
                },
            )
        )
    return result
