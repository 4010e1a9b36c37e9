"""What the exchange needs from other stages: functions and small protocols, wired by ``node.py``. Every default refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from guantong.base.errors import Refused
from guantong.exchange.model import Answer, Participant, Question, Transfer

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Access",
    "Answerer",
    "Decide",
    "Identify",
    "Inbox",
    "RightsOf",
    "Rows",
    "Verdict",
    "answer_nobody",
    "deny_all",
    "no_rights",
    "no_rows",
]


@dataclass(frozen=True, slots=True)
class Access:
    """One access that a policy decision is asked about."""

    participant: str
    """Whose data."""
    subject: str
    """Who asks (a DID)."""
    action: str
    """``see`` (an offer), ``negotiate`` (agree to a contract), ``transfer`` (start one) or ``read`` (each delivery)."""
    dataset_id: str
    agreement_id: str
    """Empty while there is none."""
    purpose: str
    at: int
    """Nanoseconds since the epoch."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    uses: int = 0
    """Deliveries under this agreement so far."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The facts that the policy is compared with (:meth:`Facts.context`)."""

    def context(self) -> dict[str, Any]:
        """What the policies look at beside who asks for what."""
        return {"purpose": self.purpose, "agreement": self.agreement_id, "uses": self.uses, **self.facts}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and why."""

    allowed: bool
    reason: str


Decide = Callable[[Access], Awaitable[Verdict]]
"""The single decision point, govern's."""

RightsOf = Callable[[str, str], Awaitable[Mapping[str, Any] | None]]
"""``(participant, dataset id)`` to the statement of rights as JSON, or None where none was made: then nothing is offered."""

Identify = Callable[[str, str], Awaitable[Participant]]
"""``(participant addressed, value of the Authorization header)`` to the caller. Raises Refused ``exchange.token-refused``."""


class Rows(Protocol):
    """The rows of a dataset in delivery order (describe's)."""

    def __call__(
        self, participant: str, dataset_id: str, start: int | None = None, end: int | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """Record batches of one schema; ``start`` (closed) and ``end`` (open) are nanoseconds."""
        ...


class Inbox(Protocol):
    """Takes what a partner pushes to us (keep's durable log, through ``node.py``)."""

    async def __call__(
        self, participant: str, transfer: Transfer, media_type: str, chunks: AsyncIterator[bytes]
    ) -> int:
        """Read the body to its end and keep it; the rows it held. Raises Refused or Skippable where it can't be kept."""
        ...


class Answerer(Protocol):
    """Answers partners' questions of one kind under an agreement (prove: figures; watch: time to survive; settle: invoices)."""

    async def answer(self, participant: str, question: Question) -> Answer:
        """The answer. Raises Refused when it is not given."""
        ...


async def deny_all(access: Access) -> Verdict:
    """The decision where none is wired."""
    return Verdict(allowed=False, reason=f"no decision point is wired for {access.action}")


async def no_rights(participant: str, dataset_id: str) -> Mapping[str, Any] | None:
    """No statement of rights where govern is not wired."""
    return None


def no_rows(
    participant: str, dataset_id: str, start: int | None = None, end: int | None = None
) -> AsyncIterator[pa.RecordBatch]:
    """No rows where describe is not wired. Raises Refused ``exchange.dataset-unknown``."""
    raise Refused("exchange.dataset-unknown", dataset=dataset_id)


async def answer_nobody(participant: str, question: Question) -> Answer:
    """The answer to a kind of question that nobody registered for."""
    raise Refused("exchange.question-refused", kind=question.kind)
