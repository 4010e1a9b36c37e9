"""The watch's shell: reads keep and fuse, applies the rules, records warnings and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guantong.base.clock import Clock
from guantong.base.finding import Finding
from guantong.records import Records
from guantong.watch.model import Availability, Carbon, Chart, Supply, Survival, WatchSettings

if TYPE_CHECKING:
    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["Ask", "Watch"]

Ask = Callable[[str, str, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""``ask(participant, partner, agreement_id, kind, question)``: put a question to a partner under an agreement; exchange gives it."""


class Watch:
    """Figures, warnings and survival times of the participants of this node."""

    def __init__(
        self,
        records: Records,
        keep: Keep,
        fuse: Fuse,
        clock: Clock,
        settings: WatchSettings | None = None,
        *,
        ask: Ask | None = None,
    ) -> None: ...

    async def availability(
        self, participant: str, *, start: int | None = None, end: int | None = None
    ) -> list[Availability]:
        """State intervals and availability of each machine that has an execution signal."""
        raise NotImplementedError

    async def spc(self, participant: str, *, model: str | None = None, characteristic: str | None = None) -> list[Chart]:
        """I-MR charts of inspection results, one a characteristic, in part order."""
        raise NotImplementedError

    async def warnings(self, participant: str, *, start: int | None = None, end: int | None = None) -> list[Finding]:
        """Drift findings of each source, from dynamic PCA; new ones are recorded."""
        raise NotImplementedError

    async def energy(
        self, participant: str, *, start: int | None = None, end: int | None = None, factor: str | None = None
    ) -> list[Carbon]:
        """Energy and emissions of each energy counter or power signal."""
        raise NotImplementedError

    async def set_supply(self, participant: str, supplies: Sequence[Supply]) -> None:
        """Replace the input table of stocks and usage rates."""
        raise NotImplementedError

    async def supply(self, participant: str) -> list[Supply]:
        """The input table."""
        raise NotImplementedError

    async def time_to_survive(self, participant: str, disrupted: str) -> list[Survival]:
        """For each end product: at least how many days it lasts when ``disrupted`` stops, partners asked under their agreements."""
        raise NotImplementedError

    async def answer(self, participant: str, partner: str, agreement_id: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a partner's days-of-supply question with one scalar, recorded before it leaves."""
        raise NotImplementedError
