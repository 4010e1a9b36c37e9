"""Valuation's shell: keeps the cost evidence ledger and, apart from it, the appraisals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from guantong.base.clock import Clock
from guantong.base.ids import NewId, new_uuid
from guantong.records import Records
from guantong.value.model import Appraisal, CostEntry, CostSheet, Meters, QualityFact, Rate, ValueSettings

__all__ = ["ReadMeters", "ReadQuality", "Value"]

ReadMeters = Callable[[str], Awaitable[Meters]]
"""Meters of a participant as they stand now; node makes it from keep's statistics and connect's scorecards."""

ReadQuality = Callable[[str, str], Awaitable[QualityFact | None]]
"""Quality of a participant's dataset; node makes it from govern's score. None where nothing was scored."""


class Value:
    """Cost evidence and appraisals of the participants of this node."""

    def __init__(
        self,
        records: Records,
        meters: ReadMeters,
        quality: ReadQuality,
        clock: Clock,
        settings: ValueSettings | None = None,
        *,
        new_id: NewId = new_uuid,
    ) -> None: ...

    async def set_rates(self, participant: str, rates: Sequence[Rate]) -> None:
        """Replace the configured rates."""
        raise NotImplementedError

    async def rates(self, participant: str) -> list[Rate]:
        """The configured rates."""
        raise NotImplementedError

    async def meter(self, participant: str, subject: str = "") -> list[CostEntry]:
        """Read the meters and add what was used since the last reading to the ledger."""
        raise NotImplementedError

    async def purchase(
        self, participant: str, item: str, amount: Decimal, currency: str, *, voucher: str, start: int, end: int, source: str, subject: str = "", corrects: str = ""
    ) -> CostEntry:
        """Add a cost by voucher."""
        raise NotImplementedError

    async def costs(self, participant: str, subject: str | None = None) -> CostSheet:
        """The ledger, summed."""
        raise NotImplementedError

    async def appraise(self, participant: str, dataset_id: str, *, delta: tuple[str, str, str] | None = None) -> Appraisal:
        """Appraise a dataset by the cost approach and record that it was done."""
        raise NotImplementedError

    async def appraisals(self, participant: str, dataset_id: str | None = None) -> list[Appraisal]:
        """Appraisals, newest first."""
        raise NotImplementedError
