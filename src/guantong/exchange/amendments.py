"""Live agreements amended and ended with both sides' proof: our small extension, told to partners that have it and to no other.

An amendment is proposed, looked at by a person on the other side, and holds from the step in which that side accepts. An end is a notice:
who gives it delivers and uses no more from that step on, the transfers end with messages of the Dataspace Protocol, and the other side
signs that it heard. Opposite a plain connector an end is one-sided (its transfers end all the same) and an amendment is not understood.
Of two proposals at once the provider's stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.clock import iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused
from guantong.exchange.amendment import AMEND, END, amended, kind_of, proposal_of, statement_of, verify_amendment
from guantong.exchange.hosting import Hosting, verdict_of
from guantong.exchange.model import AGREEMENT_AMENDED, AGREEMENT_MADE, Agreement, Participant
from guantong.exchange.policy import policy_hash
from guantong.exchange.tables import AGREEMENTS, AMENDMENTS
from guantong.exchange.transfer import TERMINAL
from guantong.records.model import Message
from guantong.records.service import Row, Step

if TYPE_CHECKING:
    from guantong.exchange.negotiations import Negotiations
    from guantong.exchange.receipts import Receipts
    from guantong.exchange.transfers import Transfers

__all__ = ["AMENDMENT_KIND", "Amendment", "Amendments"]

AMENDMENT_KIND = "exchange.amendment"
"""Kind of the outbox message that brings a proposal, or the answer to one, to the partner."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """A proposal to change an agreement, or a notice of its end."""

    id: str
    agreement_id: str
    kind: str
    """``amend`` or ``end``."""
    by: str
    """``us`` or ``partner``: whose it is."""
    state: str
    """``proposed``, ``accepted`` (of an end: heard), ``refused``, ``superseded``, or ``one-sided`` opposite a plain connector."""
    proposal: Mapping[str, Any]
    signature: str
    answer: Mapping[str, Any]
    """``{statement, signature}`` of the other side; empty until it came."""
    changed_at: int


class Amendments:
    """Amendments and ends of every hosted participant's agreements."""

    def __init__(self, hosting: Hosting, negotiations: Negotiations, transfers: Transfers, receipts: Receipts) -> None:
        self._hosting = hosting
        self._negotiations = negotiations
        self._transfers = transfers
        self._receipts = receipts
        receipts.former = self.former
        receipts.coming = self.coming

    async def start(self) -> None:
        """End the transfers that a stop left open between the end of their agreement and their own."""
        rows = await self._hosting.records.rows(
            select(AGREEMENTS.c.participant, AGREEMENTS.c.id)
            .join(
                AMENDMENTS,
                and_(
                    AMENDMENTS.c.participant == AGREEMENTS.c.participant, AMENDMENTS.c.agreement_id == AGREEMENTS.c.id
                ),
            )
            .where(and_(AMENDMENTS.c.kind == END, AGREEMENTS.c.state == "ended"))
        )
        for row in rows:
            await self._end_transfers(row["participant"], row["id"])

    # -- ours

    async def propose(
        self,
        participant: str,
        agreement_id: str,
        *,
        policy: Mapping[str, Any],
        terms: str | None = None,
        reason: str = "",
    ) -> str:
        """Propose other rules (and terms, else they stay) for a final agreement; the proposal's id.

        Raises Refused ``exchange.amendment-open`` while another proposal waits, ``exchange.term-refused``, ``exchange.message-invalid``.
        """
        before = await self._final(participant, agreement_id)
        if (open_ := await self._open(participant, agreement_id)) is not None:
            raise Refused("exchange.amendment-open", amendment=open_.id)
        return await self._begin(participant, before, AMEND, policy, before.terms if terms is None else terms, reason)

    async def end(self, participant: str, agreement_id: str, *, reason: str = "") -> str:
        """End a final agreement now: nothing is delivered or used under it any more. Returns the notice's id."""
        before = await self._final(participant, agreement_id)
        identifier = await self._begin(participant, before, END, None, "", reason)
        await self._end_transfers(participant, agreement_id)
        return identifier

    async def decide(self, participant: str, amendment_id: str, *, accept: bool, reason: str = "") -> Amendment:
        """Accept or refuse a partner's amendment; the agreement is the amended one from this step on.

        Raises Refused ``exchange.amendment-unknown`` or ``exchange.amendment-closed``.
        """
        async with self._transfers.processes.lock(participant, f"amendment {amendment_id}"):
            found = await self.get(participant, amendment_id)
            if found.by != "partner" or found.state != "proposed":
                raise Refused("exchange.amendment-closed", amendment=amendment_id[:200], state=found.state)
            before = await self._final(participant, found.agreement_id)
            if accept and found.proposal["agreementHash"] != before.agreement_hash:
                accept, reason = False, "the agreement was amended meanwhile"
            async with self._hosting.records.step(participant) as step:
                answer = self._answer(step, found, "accept" if accept else "refuse", reason)
                state = "accepted" if accept else "refused"
                after = replace(found, state=state, answer=answer, changed_at=step.at)
                self._keep(step, after)
                if accept:
                    self._amend(step, before, found.proposal)
                self._send(step, before.partner, found.agreement_id, f"{found.id} answer", {"answer": found.id})
            return after

    async def get(self, participant: str, amendment_id: str) -> Amendment:
        """A proposal. Raises Refused ``exchange.amendment-unknown``."""
        row = await self._hosting.records.row(
            select(AMENDMENTS).where(and_(AMENDMENTS.c.participant == participant, AMENDMENTS.c.id == amendment_id))
        )
        if row is None:
            raise Refused("exchange.amendment-unknown", amendment=amendment_id[:200])
        return _amendment(row)

    async def all(self, participant: str, agreement_id: str) -> list[Amendment]:
        """Proposals and notices of an agreement, oldest first."""
        table = AMENDMENTS
        rows = await self._hosting.records.rows(
            select(table)
            .where(and_(table.c.participant == participant, table.c.agreement_id == agreement_id))
            .order_by(table.c.changed_at)
        )
        return [_amendment(row) for row in rows]

    async def former(self, participant: str, agreement_id: str) -> set[str]:
        """Hashes of what the agreement was before it was amended: receipts of then name them."""
        return {
            str(one.proposal["agreementHash"])
            for one in await self.all(participant, agreement_id)
            if (one.kind, one.state) == (AMEND, "accepted")
        }

    async def coming(self, participant: str, agreement_id: str) -> set[str]:
        """Hash of what the agreement would be by a proposal of ours that waits for its answer: the partner may have accepted it."""
        open_ = await self._open(participant, agreement_id)
        return {digest(dict(open_.proposal["agreement"]))} if open_ is not None and open_.by == "us" else set()

    async def verify(self, participant: str, agreement_id: str) -> tuple[str, ...]:
        """What is wrong with the proofs of an agreement's amendments and its end, each with its id; empty where all hold."""
        agreement = await self._negotiations.agreement(participant, agreement_id)
        own = self._hosting.hosted(participant).identity.evidence_key.public
        theirs = await self._receipts.evidence_key(agreement.partner)
        found: list[str] = []
        for one in await self.all(participant, agreement_id):
            keys = (own, theirs) if one.by == "us" else (theirs, own)
            problems = verify_amendment(one.proposal, one.signature, dict(one.answer) or None, *keys)
            found += [f"{one.id}: {problem}" for problem in problems]
        return tuple(found)

    # -- the partner's

    async def receive(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /guantong/amendments``: a proposal or notice; what we say to it so far. The same one gets the same answer."""
        proposal, signature = body.get("proposal"), body.get("signature")
        if not isinstance(proposal, dict) or not isinstance(signature, str):
            raise _invalid("proposal and signature are missing")
        kind = kind_of(proposal)
        if proposal["proposer"] != caller.did or proposal["other"] != participant:
            raise _invalid("it is between other participants")
        problems = verify_amendment(proposal, signature, None, await self._receipts.evidence_key(caller.did), None)
        if problems:
            raise _invalid("; ".join(problems))
        before = await self._negotiations.agreement(participant, proposal["agreementId"])
        if before.partner != caller.did or before.state not in ("final", "ended"):
            raise Refused("exchange.agreement-unknown", agreement=proposal["agreementId"][:200])
        async with self._transfers.processes.lock(participant, f"amendments {before.id}"):
            try:
                known = await self.get(participant, proposal["id"])
            except Refused:
                known = None
            if known is not None:
                if digest(dict(known.proposal)) != digest(proposal) or known.by != "partner":
                    raise _invalid("another proposal has this identifier")
                await self._remember(participant, caller)
                return _said(known)
            if kind == AMEND:
                amended(before, proposal)
            open_ = await self._open(participant, before.id) if kind == AMEND else None
            async with self._hosting.records.step(participant) as step:
                self._hosting.tokens.remember(step, caller)
                one = Amendment(
                    proposal["id"], before.id, kind, "partner", "proposed", proposal, signature, {}, step.at
                )
                verdict = reason = ""
                if kind == END:
                    verdict = "heard"
                elif before.state == "ended":
                    verdict, reason = "refuse", "the agreement has ended"
                elif proposal["agreementHash"] != before.agreement_hash:
                    verdict, reason = "refuse", "the agreement was amended meanwhile"
                elif open_ is not None and (before.role == "provider" or open_.by == "partner"):
                    verdict, reason = "refuse", f"the proposal {open_.id} is open"
                elif open_ is not None:
                    self._keep(step, replace(open_, state="superseded", changed_at=step.at))
                if verdict:
                    answer = self._answer(step, one, verdict, reason)
                    one = replace(one, state="refused" if verdict == "refuse" else "accepted", answer=answer)
                self._keep(step, one)
                if kind == END and before.state == "final":
                    self._ended(step, before)
        if kind == END:
            await self._end_transfers(participant, before.id)
        self._hosting.changed(participant, f"amendments {before.id}", one.state)
        return _said(one)

    async def receive_answer(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /guantong/amendments/answers``: the partner's statement on a proposal of ours."""
        statement = body.get("statement")
        identifier = statement.get("id") if isinstance(statement, dict) else None
        if not isinstance(identifier, str):
            raise _invalid("statement: is missing")
        found = await self.get(participant, identifier)
        if found.by != "us" or found.proposal["other"] != caller.did:
            raise Refused("exchange.amendment-unknown", amendment=identifier[:200])
        await self._heard(participant, found, body)
        await self._remember(participant, caller)
        return {}

    async def carry(self, participant: str, message: Message, attempt: int) -> None:
        """Sender of the outbox: bring a proposal of ours, or our answer to one, to the partner."""
        partner = str(message.payload["partner"])
        is_answer = "answer" in message.payload
        found = await self.get(participant, str(message.payload["answer" if is_answer else "proposal"]))
        if not is_answer and found.state != "proposed":
            return  # answered before, or superseded by the partner's own
        root = await self._hosting.partner_extension(partner)
        body = dict(found.answer) if is_answer else {"proposal": dict(found.proposal), "signature": found.signature}
        status = 404
        if root:
            path = "/guantong/amendments/answers" if is_answer else "/guantong/amendments"
            response = await self._hosting.request(participant, partner, "POST", root + path, body)
            status = response.status
        if status == 404 and not is_answer:
            # a plain connector, or one that does not know the extension: it was told what it understands, the end of its transfers
            async with self._hosting.records.step(participant) as step:
                self._keep(step, replace(found, state="one-sided", changed_at=step.at))
            self._hosting.changed(participant, f"amendments {found.agreement_id}", "one-sided")
            return
        verdict_of(status, attempt, first=False, partner=partner, message="agreement proposal")
        if is_answer:
            return
        try:
            answer = orjson.loads(response.body)
        except orjson.JSONDecodeError as error:
            raise Refused(
                "exchange.answer-unusable", partner=partner, status=status, message="proposal", reason="it is not JSON"
            ) from error
        if isinstance(answer, dict) and answer.get("statement"):
            await self._heard(participant, found, answer)

    # -- inside

    async def _begin(
        self,
        participant: str,
        before: Agreement,
        kind: str,
        policy: Mapping[str, Any] | None,
        terms: str,
        reason: str,
    ) -> str:
        hosting = self._hosting
        async with hosting.records.step(participant) as step:
            proposal = proposal_of(
                kind,
                before,
                identifier=hosting.new_id(),
                proposer=participant,
                at=iso(step.at, digits=3),
                reason=reason,
                policy=policy,
                terms=terms,
            )
            signature = b64(hosting.hosted(participant).identity.evidence_key.sign(canonical_bytes(proposal)))
            one = Amendment(proposal["id"], before.id, kind, "us", "proposed", proposal, signature, {}, step.at)
            self._keep(step, one)
            if kind == END:
                self._ended(step, before)
            self._send(step, before.partner, before.id, one.id, {"proposal": one.id})
        return one.id

    async def _heard(self, participant: str, found: Amendment, body: Mapping[str, Any]) -> None:
        """The partner's statement on a proposal of ours, checked and applied once."""
        partner = str(found.proposal["other"])
        answer = {"statement": body.get("statement"), "signature": body.get("signature")}
        own = self._hosting.hosted(participant).identity.evidence_key.public
        problems = verify_amendment(
            found.proposal, found.signature, answer, own, await self._receipts.evidence_key(partner)
        )
        if problems:
            raise _invalid("; ".join(problems))
        async with self._transfers.processes.lock(participant, f"amendment {found.id}"):
            found = await self.get(participant, found.id)
            if found.answer:
                return
            accepted = dict(answer["statement"] or {}).get("verdict") != "refuse"
            before = await self._negotiations.agreement(participant, found.agreement_id)
            async with self._hosting.records.step(participant) as step:
                state = "accepted" if accepted else "refused"
                self._keep(step, replace(found, state=state, answer=answer, changed_at=step.at))
                if accepted and found.kind == AMEND:
                    self._amend(step, before, found.proposal)
        self._hosting.changed(participant, f"amendments {found.agreement_id}", state)

    def _amend(self, step: Step, before: Agreement, proposal: Mapping[str, Any]) -> None:
        document = amended(before, proposal)
        after = replace(
            before,
            agreement=document,
            agreement_hash=digest(document),
            policy_hash=policy_hash(document),
            terms=str(proposal["terms"]),
        )
        step.update(
            AGREEMENTS,
            {"id": before.id},
            {
                "agreement": orjson.dumps(document),
                "agreement_hash": after.agreement_hash,
                "policy_hash": after.policy_hash,
                "terms": after.terms,
                "changed_at": step.at,
            },
        )
        # as when it was first made: whoever looks for the text that a receipt names finds it on record
        step.record(
            Entry(
                AGREEMENT_MADE,
                {
                    "agreement": after.id,
                    "partner": after.partner,
                    "role": after.role,
                    "dataset": after.dataset_id,
                    "agreementHash": after.agreement_hash,
                    "policyHash": after.policy_hash,
                },
            )
        )
        step.then(lambda: self._negotiations.remember(step.participant, after))

    def _ended(self, step: Step, before: Agreement) -> None:
        step.update(AGREEMENTS, {"id": before.id}, {"state": "ended", "changed_at": step.at})
        step.then(lambda: self._negotiations.remember(step.participant, replace(before, state="ended")))

    async def _end_transfers(self, participant: str, agreement_id: str) -> None:
        for transfer in await self._transfers.of_agreement(participant, agreement_id):
            if transfer.state in TERMINAL:
                continue
            try:
                await self._transfers.decide(participant, transfer.pid, "terminate", reason="the agreement has ended")
            except Refused as error:
                if error.code != "exchange.transition-refused":
                    raise  # else it ended meanwhile

    async def _final(self, participant: str, agreement_id: str) -> Agreement:
        found = await self._negotiations.agreement(participant, agreement_id)
        if found.state != "final":
            raise Refused("exchange.agreement-unknown", agreement=agreement_id[:200])
        return found

    async def _open(self, participant: str, agreement_id: str) -> Amendment | None:
        found = await self.all(participant, agreement_id)
        return next((one for one in found if one.kind == AMEND and one.state == "proposed"), None)

    async def _remember(self, participant: str, caller: Participant) -> None:
        async with self._hosting.records.step(participant) as step:
            self._hosting.tokens.remember(step, caller)

    def _answer(self, step: Step, one: Amendment, verdict: str, reason: str) -> dict[str, Any]:
        statement = statement_of(
            one.proposal, one.signature, by=step.participant, verdict=verdict, reason=reason, at=iso(step.at, digits=3)
        )
        key = self._hosting.hosted(step.participant).identity.evidence_key
        return {"statement": statement, "signature": b64(key.sign(canonical_bytes(statement)))}

    def _keep(self, step: Step, one: Amendment) -> None:
        step.upsert(
            AMENDMENTS,
            id=one.id,
            agreement_id=one.agreement_id,
            kind=one.kind,
            by=one.by,
            state=one.state,
            proposal=orjson.dumps(dict(one.proposal)),
            signature=one.signature,
            answer=orjson.dumps(dict(one.answer)),
            changed_at=step.at,
        )
        body: dict[str, Any] = {
            "amendment": one.id,
            "agreement": one.agreement_id,
            "kind": one.kind,
            "by": one.by,
            "state": one.state,
            "proposalHash": digest(dict(one.proposal)),
            "signature": one.signature,
        }
        if one.state == "proposed" or not one.answer or one.by == "partner":
            body["proposal"] = dict(one.proposal)
        if one.answer:
            body["answer"] = dict(one.answer)
        step.record(Entry(AGREEMENT_AMENDED, body))

    def _send(self, step: Step, partner: str, agreement_id: str, key: str, payload: Mapping[str, Any]) -> None:
        # one lane an agreement: an answer never overtakes a proposal that was made after it
        lane = f"{partner} amendments {agreement_id}"
        step.send(Message(lane, AMENDMENT_KIND, key, {"partner": partner, **payload}))


def _said(one: Amendment) -> dict[str, Any]:
    return {"id": one.id, "state": one.state, **one.answer}


def _amendment(row: Row) -> Amendment:
    return Amendment(
        id=row["id"],
        agreement_id=row["agreement_id"],
        kind=row["kind"],
        by=row["by"],
        state=row["state"],
        proposal=orjson.loads(row["proposal"]),
        signature=row["signature"],
        answer=orjson.loads(row["answer"]),
        changed_at=row["changed_at"],
    )


def _invalid(reason: str) -> GuantongError:
    return Refused("exchange.message-invalid", message="agreement proposal", reason=reason)
