"""Rules about who gets a contract at once, who waits for a person and who is refused: lines of a setting, read in order.

A line is ``auto | person | refuse``, then a DID, ``group:<name>`` or ``*``, then a dataset or ``*``. The first that fits decides; without one
the setting ``auto`` does. They come before the policy and the decision point, and allow nothing that those refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from guantong.base.errors import ConfigProblem
from guantong.exchange.facts import Facts

__all__ = ["VERDICTS", "Acceptance", "acceptance_of", "verdict_on"]

VERDICTS = ("auto", "person", "refuse")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One line."""

    verdict: str
    partner: str
    dataset: str

    def fits(self, caller: Facts, dataset_id: str) -> bool:
        """Whether it is about this caller and dataset."""
        who = self.partner in ("*", caller.did) or (
            self.partner.startswith("group:") and self.partner.removeprefix("group:") in caller.groups
        )
        return who and self.dataset in ("*", dataset_id)


def acceptance_of(lines: Iterable[str]) -> tuple[Acceptance, ...]:
    """The lines of the setting. Raises ConfigProblem ``config.wrong-type`` naming the line that is not well made."""
    found = []
    for line in lines:
        parts = line.split()
        if len(parts) != 3 or parts[0] not in VERDICTS:
            raise ConfigProblem(
                "config.wrong-type", name="exchange.acceptance", kind="auto|person|refuse DID DATASET", value=line
            )
        found.append(Acceptance(*parts))
    return tuple(found)


def verdict_on(rules: Iterable[Acceptance], caller: Facts, dataset_id: str) -> str:
    """``auto``, ``person`` or ``refuse`` by the first line that fits, empty where none does."""
    return next((rule.verdict for rule in rules if rule.fits(caller, dataset_id)), "")
