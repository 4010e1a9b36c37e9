"""What govern looks at: the subjects of the catalogue to grade, and the figures of one dataset to score. Read, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from guantong.govern.model import QualityInputs, SubjectFacts

if TYPE_CHECKING:
    from guantong.describe.model import Dataset
    from guantong.describe.service import Describe
    from guantong.fuse.model import Signal
    from guantong.fuse.service import Fuse

__all__ = ["datasets_of_signals", "measure", "subjects"]

_UNCERTAIN = 0x40000000
"""The severity bits of a StatusCode: 00 is Good (OPC UA Part 4, 7.39)."""


def subjects(signals: Iterable[Signal], datasets: Iterable[Dataset]) -> list[SubjectFacts]:
    """Every signal, within its dataset where it has one; a dataset of measurements has no signals and speaks for itself."""
    datasets = list(datasets)
    of: dict[int, str] = {}
    for dataset in datasets:
        of |= dict.fromkeys(dataset.signals, dataset.id)
    return [
        SubjectFacts(
            f"signal:{one.id}",
            one.name or one.native_id,
            one.path,
            one.unit,
            (one.category or one.type).upper(),
            one.source,
            table=of.get(one.id, ""),
        )
        for one in signals
    ] + [SubjectFacts(f"dataset:{one.id}", one.title_en, one.description) for one in datasets if not one.signals]


def datasets_of_signals(
    datasets: Iterable[Dataset], signals: Iterable[Signal], graded: Iterable[str]
) -> Mapping[str, list[str]]:
    """Datasets that classifying the subjects left ungraded, as all their signals stand in another one too, and their signals."""
    known, done = {one.id for one in signals}, set(graded)
    found = {}
    for dataset in datasets:
        members = [f"signal:{one}" for one in dataset.signals if one in known]
        if members and f"dataset:{dataset.id}" not in done:
            found[f"dataset:{dataset.id}"] = members
    return found


async def measure(participant: str, dataset: Dataset, describe: Describe, fuse: Fuse, *, now: int) -> QualityInputs:
    """Figures of this dataset alone: its rows in one pass, and the accounts of the sources that they come from.

    The window is from the first to the last instant of its rows, ``now`` where they state none. Raises what reading its rows raises.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    readings = dataset.kind == "readings"
    column = "source_time" if readings else "measured_time"
    seen = _Seen()
    async for batch in describe.rows(participant, dataset.id):
        seen.rows += batch.num_rows
        seen.sources |= set(pc.unique(batch.column("source")).to_pylist())
        # times of readings are in nanoseconds already, those of measurements in microseconds
        times = pc.min_max(batch.column(column).cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())).as_py()
        for instant in (times["min"], times["max"]):
            if instant is not None:
                seen.meet(instant)
        if readings:
            seen.good += pc.sum(pc.less(batch.column("status"), _UNCERTAIN)).as_py() or 0
        else:
            keys = zip(batch.column("characteristic").to_pylist(), batch.column("unit").to_pylist(), strict=True)
            seen.characteristics |= dict(keys)
    account = [
        await fuse.counts(participant, kind="readings" if readings else "measurements", source=one)
        for one in sorted(seen.sources)
    ]
    off = {one.source for one in await fuse.findings(participant, kinds=["clock"])} & seen.sources
    if readings:
        members = set(dataset.signals)
        numeric = [
            one for one in await fuse.signals(participant) if one.id in members and one.type in ("f64", "i64", "mixed")
        ]
        with_unit = sum(bool(one.unit) for one in numeric)
        counted = len(numeric)
    else:
        counted = len(seen.characteristics)
        with_unit = sum(bool(unit) for unit in seen.characteristics.values())
    return QualityInputs(
        window_start=now if seen.first is None else seen.first,
        window_end=now if seen.last is None else seen.last,
        rows=seen.rows,
        received=sum(one.received for one in account) if account else None,
        kept=sum(one.kept for one in account) if account else None,
        duplicates=sum(one.duplicates for one in account) if account else None,
        quarantined=sum(one.quarantined for one in account) if account else None,
        # only a source of readings numbers what it sends
        gaps=sum(one.gaps for one in account) if account and readings else None,
        good=seen.good if readings and seen.rows else None,
        status_rows=seen.rows if readings and seen.rows else None,
        signals=counted if counted else None,
        signals_with_unit=with_unit if counted else None,
        clocks=len(seen.sources) if readings and seen.sources else None,
        clock_ok=len(seen.sources) - len(off) if readings and seen.sources else None,
    )


class _Seen:
    """What one pass over the rows collects."""

    def __init__(self) -> None:
        self.rows = self.good = 0
        self.sources: set[str] = set()
        self.first: int | None = None
        self.last: int | None = None
        self.characteristics: dict[Any, Any] = {}

    def meet(self, instant: int) -> None:
        self.first = instant if self.first is None else min(self.first, instant)
        self.last = instant if self.last is None else max(self.last, instant)
