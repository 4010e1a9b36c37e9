"""Own datasets as demands are matched with them: every name of their quantities, units, and from when to when they reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guantong.exchange.demands import Candidate, Held

if TYPE_CHECKING:
    from guantong.describe.service import Describe
    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["OwnDatasets"]


class OwnDatasets:
    """Datasets of describe with the signals of fuse; measurements with the characteristics that keep holds."""

    def __init__(self, describe: Describe, keep: Keep, fuse: Fuse) -> None:
        self._describe = describe
        self._keep = keep
        self._fuse = fuse

    async def candidates(self, participant: str) -> Sequence[Candidate]:
        """Every dataset of a participant."""
        signals = {one.id: one for one in await self._fuse.signals(participant)}
        terms: dict[int, list[str]] = {}
        for mapping in await self._fuse.mappings(participant):
            # a mapping into a companion model is named by its term and the signal: Temperature_12
            term, _, number = mapping.name.rpartition("_")
            if number.isdigit():
                terms.setdefault(int(number), []).append(term)
        found = []
        for dataset in await self._describe.datasets(participant):
            counted = await self._describe.statistics(participant, dataset.id)
            if dataset.kind == "measurements":
                held = await self._measured(participant, dataset.models)
            else:
                held = tuple(
                    Held((one.name, one.native_id, *terms.get(one.id, ())), one.unit)
                    for number in dataset.signals
                    if (one := signals.get(number)) is not None
                )
            found.append(Candidate(dataset.id, dataset.title_en, held, counted.rows, counted.first, counted.last))
        return found

    async def _measured(self, participant: str, models: Sequence[str]) -> tuple[Held, ...]:
        rows = (await self._keep.measurements(participant)).select(["model", "name", "kind", "unit"])
        kinds = {
            (name, kind, unit or "")
            for model, name, kind, unit in zip(*(column.to_pylist() for column in rows.columns), strict=True)
            if not models or model in models
        }
        return tuple(Held((name, kind), unit) for name, kind, unit in sorted(kinds))
