"""Meters read from the rooms before: what keep holds, how long connect's sources were connected, what the process computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from guantong.base.clock import NS, Clock
from guantong.connect.model import Scorecard
from guantong.keep.model import KeepStats
from guantong.value.model import Meter, Meters, QualityFact

if TYPE_CHECKING:
    from guantong.connect.service import Connect
    from guantong.govern.model import Quality
    from guantong.govern.service import Govern
    from guantong.keep.service import Keep
    from guantong.value.service import ReadMeters, ReadQuality

__all__ = ["meters_of", "quality_of", "read_meters", "read_quality"]


def meters_of(
    stats: KeepStats, scorecards: Sequence[Scorecard], compute_s: float, *, at: int, since: int | None = None
) -> Meters:
    """The meters at one instant.

    Connector hours count one meter a source, from when its present connection began: a lost connection resets it, what ran between
    the last reading and the loss is not counted. Compute seconds are those of the whole node's process.
    """
    meters = [
        Meter(
            "points",
            Decimal(stats.rows + stats.tail_rows),
            "{point}",
            "keep.stats: readings in table and tail, all revisions",
        ),
        Meter(
            "stored-bytes",
            Decimal(stats.bytes + stats.log_bytes),
            "By",
            "keep.stats: bytes of tables and log",
            cumulative=False,
        ),
        Meter("compute-seconds", Decimal(str(round(compute_s, 3))), "s", "CPU time of the node's process"),
    ]
    meters += [
        Meter(
            f"connector-hours/{card.source}"[:128],
            Decimal(max(0, at - card.since) if card.connected else 0) / NS / 3600,
            "h",
            f"connect.scorecards: {card.source} connected",
        )
        for card in scorecards
    ]
    return Meters(at, tuple(meters), since)


def quality_of(quality: Quality | None) -> QualityFact | None:
    """The score as an appraisal takes it; None where nothing was measured."""
    if quality is None or quality.q is None:
        return None
    # govern scores from 0 to 1, an appraisal speaks of points from 0 to 100
    return QualityFact(100 * quality.q, quality.coverage, f"govern score, ruleset {quality.ruleset}")


def read_meters(
    keep: Keep, connect: Connect, clock: Clock, *, compute_s: Callable[[], float] = time.process_time
) -> ReadMeters:
    """The reader that :class:`guantong.value.service.Value` takes."""
    since = clock.now()

    async def read(participant: str) -> Meters:
        stats = await keep.stats(participant)
        return meters_of(stats, connect.scorecards(participant), compute_s(), at=clock.now(), since=since)

    return read


def read_quality(govern: Govern) -> ReadQuality:
    """The reader of quality that :class:`guantong.value.service.Value` takes."""

    async def read(participant: str, dataset_id: str) -> QualityFact | None:
        return quality_of(await govern.quality(participant, dataset_id))

    return read
