"""Duties of agreements: what the consumer owes, until when, and its word that it was done, on record on both sides.

No machine can make a duty true: it is a legal term. What a node does is to keep it in sight with its deadline, to take the word of who
fulfilled it as evidence, and to bring that word to the partner. Source: ODRL 2.2 Information Model, Duty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from guantong.base.clock import iso, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused
from guantong.exchange.hosting import Hosting, verdict_of
from guantong.exchange.model import DUTY_CONFIRMED, Agreement, Answer, OwedDuty, Question
from guantong.exchange.negotiations import Negotiations
from guantong.exchange.policy import Duty, compile_policy
from guantong.exchange.tables import DUTIES
from guantong.exchange.vocabulary import action_of
from guantong.records.model import Message
from guantong.records.outbox import Note
from guantong.records.service import Row, Step

__all__ = ["DUTY_DONE", "DUTY_KIND", "Duties"]

DUTY_KIND = "exchange.duty"
"""Kind of the outbox message that brings the word to the partner."""
DUTY_DONE = "duty-done"
"""Kind of the question that it is to the partner's node."""


class Duties:
    """Duties of every hosted participant's agreements; the :class:`Answerer` of a consumer's word."""

    def __init__(self, hosting: Hosting, negotiations: Negotiations) -> None:
        self._hosting = hosting
        self._negotiations = negotiations

    async def list(self, participant: str, agreement_id: str = "") -> list[OwedDuty]:
        """The duties of an agreement, or of all; those that are open come first, by deadline."""
        if agreement_id:
            agreements = [await self._negotiations.agreement(participant, agreement_id)]
        else:
            agreements = await self._negotiations.agreements(participant)
        rows = await self._hosting.records.rows(select(DUTIES).where(DUTIES.c.participant == participant))
        done = {(row["agreement_id"], row["action"]): row for row in rows}
        now = self._hosting.clock.now()
        found = [
            _owed(agreement, duty, done.get((agreement.id, duty.action)), now)
            for agreement in agreements
            if agreement.state != "agreed"
            for duty in _duties(agreement)
        ]
        return sorted(found, key=lambda one: (one.done_at is not None, one.deadline is None, one.deadline or 0))

    async def confirm(self, participant: str, agreement_id: str, action: str, *, by: str, note: str = "") -> OwedDuty:
        """Say that a duty of ours was done. On record here, then told to the partner, who has it on record too.

        by: who says so, a person's name or ``node`` · note: how, or, for ``inform``, what the partner is to know.
        Raises Refused ``exchange.duty-unknown``.
        """
        agreement = await self._negotiations.agreement(participant, agreement_id)
        duty = next((one for one in _duties(agreement) if one.action == action and one.todo), None)
        if agreement.role != "consumer" or agreement.state == "agreed" or duty is None:
            raise Refused("exchange.duty-unknown", duty=action[:100], agreement=agreement_id[:200])
        async with self._hosting.records.step(participant) as step:
            self._keep(step, agreement, duty, by[:200], note[:1000], step.at)
            step.send(
                Message(
                    lane=agreement.partner,
                    kind=DUTY_KIND,
                    key=f"{agreement.id} {action}",
                    payload={
                        "partner": agreement.partner,
                        "agreement": agreement.id,
                        "body": {"action": action, "by": by[:200], "note": note[:1000], "at": iso(step.at)},
                    },
                )
            )
        return next(one for one in await self.list(participant, agreement_id) if one.action == action)

    async def answer(self, participant: str, question: Question) -> Answer:
        """A consumer's word that it fulfilled a duty, put on record. Raises Refused ``exchange.duty-unknown``."""
        body, agreement = question.body, question.agreement
        action = str(body.get("action", ""))
        duty = next((one for one in _duties(agreement) if one.action == action and one.todo), None)
        if agreement.role != "provider" or duty is None:
            raise Refused("exchange.duty-unknown", duty=action[:100], agreement=agreement.id)
        said_at = parse_iso(str(body.get("at", "")))
        async with self._hosting.records.step(participant) as step:
            self._keep(step, agreement, duty, str(body.get("by", ""))[:200], str(body.get("note", ""))[:1000], said_at)
        return Answer({"action": action, "recorded": iso(self._hosting.clock.now())})

    async def carry(self, participant: str, message: Message, attempt: int) -> Note | None:
        """Sender of the outbox: tell the partner. A plain connector can't be told; the word stands in our own evidence alone then."""
        partner = str(message.payload["partner"])
        root = await self._hosting.partner_extension(partner)
        if root:
            question: Mapping[str, Any] = {
                "kind": DUTY_DONE,
                "agreementId": message.payload["agreement"],
                "body": message.payload["body"],
            }
            response = await self._hosting.request(participant, partner, "POST", f"{root}/guantong/questions", question)
            verdict_of(response.status, attempt, first=False, partner=partner, message=DUTY_DONE)
        return None

    @staticmethod
    def _keep(step: Step, agreement: Agreement, duty: Duty, by: str, note: str, at: int) -> None:
        deadline = duty.deadline(agreement.since)
        step.upsert(DUTIES, agreement_id=agreement.id, action=duty.action, done_at=at, by=by, note=note)
        step.record(
            Entry(
                DUTY_CONFIRMED,
                {
                    "agreement": agreement.id,
                    "partner": agreement.partner,
                    "role": agreement.role,
                    "duty": duty.action,
                    "by": by,
                    "note": note,
                    "at": iso(at),
                    "deadline": "" if deadline is None else iso(deadline),
                },
            )
        )


def _duties(agreement: Agreement) -> tuple[Duty, ...]:
    try:
        return compile_policy(agreement.agreement).duties
    except GuantongError:
        return ()  # a policy that is refused is shown as such where the agreement is


def _owed(agreement: Agreement, duty: Duty, row: Row | None, now: int) -> OwedDuty:
    deadline = duty.deadline(agreement.since)
    if row is not None:
        state = "done"
    elif deadline is not None and now > deadline:
        state = "overdue"
    else:
        state = "open" if duty.todo else "standing"
    action = action_of(duty.action)
    en, zh = action.says("obligation") if action is not None else (duty.action, duty.action)
    return OwedDuty(
        agreement_id=agreement.id,
        role=agreement.role,
        partner=agreement.partner,
        dataset_id=agreement.dataset_id,
        action=duty.action,
        en=en,
        zh=zh,
        todo=duty.todo,
        deadline=deadline,
        state=state,
        done_at=None if row is None else row["done_at"],
        by="" if row is None else row["by"],
        note="" if row is None else row["note"],
    )
