"""Contract negotiations, both sides: each message or decision is one step that holds state, outgoing message and evidence together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import select

from guantong.base.clock import iso
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable
from guantong.exchange import negotiation as machine
from guantong.exchange.acceptance import verdict_on
from guantong.exchange.agreements import agreement_from, agreement_of, agreement_received, asked_of
from guantong.exchange.hosting import Hosting, checked_address
from guantong.exchange.messages import check, content_digest, message
from guantong.exchange.model import (
    AGREEMENT_MADE,
    NEGOTIATION_MOVED,
    Agreement,
    CatalogueOffer,
    Negotiation,
    Participant,
    Product,
)
from guantong.exchange.policy import (
    compile_policy,
    rules_of,
    same_policy,
    with_contract,
)
from guantong.exchange.ports import Access
from guantong.exchange.processes import Kind, Processes, reason_of
from guantong.exchange.tables import AGREEMENTS, NEGOTIATIONS
from guantong.records.model import Edge
from guantong.records.service import Row, Step

__all__ = ["KINDS", "Negotiations", "agreement_of", "negotiation_of"]

KINDS: Mapping[str, tuple[str, str]] = {
    # word of the machine: (message, path below the negotiation)
    "request": ("ContractRequestMessage", "request"),
    "offer": ("ContractOfferMessage", "offers"),
    "accepted": ("ContractNegotiationEventMessage", "events"),
    "agreement": ("ContractAgreementMessage", "agreement"),
    "verification": ("ContractAgreementVerificationMessage", "agreement/verification"),
    "finalized": ("ContractNegotiationEventMessage", "events"),
    "termination": ("ContractNegotiationTerminationMessage", "termination"),
}

VERBS: Mapping[str, str] = {
    "request": "request",
    "offer": "offer",
    "accept": "accepted",
    "agree": "agreement",
    "verify": "verification",
    "finalize": "finalized",
    "terminate": "termination",
}
"""What a person or rule decides, and the message it sends."""

FindProduct = Callable[[str, Participant, str, str], Awaitable[Product | None]]
"""``(participant, caller, offer id, dataset id)``."""


class Negotiations:
    """The negotiations of every hosted participant."""

    def __init__(self, hosting: Hosting, find_product: FindProduct) -> None:
        self.hosting = hosting
        self.processes: Processes[Negotiation] = Processes(hosting, _KIND)
        self._find_product = find_product
        self._asked: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._agreements: dict[tuple[str, str], Agreement] = {}

    # -- we begin

    async def negotiate(
        self, participant: str, address: str, partner: str, offer: CatalogueOffer | Mapping[str, Any]
    ) -> str:
        """As consumer: ask for a contract on an offer. Raises Refused ``exchange.term-refused``."""
        asked = asked_of(offer)
        wanted = asked["offer"]
        return await self._begin(participant, "consumer", address, partner, "request", wanted, asked=asked)

    async def offer(
        self, participant: str, address: str, partner: str, product: Product, offer: Mapping[str, Any]
    ) -> str:
        """As provider: begin with an offer to a partner."""
        asked = {"offer": dict(offer), "terms": product.terms, "price": dict(product.price)}
        return await self._begin(participant, "provider", address, partner, "offer", offer, asked=asked)

    async def _begin(
        self,
        participant: str,
        role: str,
        address: str,
        partner: str,
        word: str,
        offer: Mapping[str, Any],
        *,
        asked: Mapping[str, Any],
    ) -> str:
        compile_policy(offer)
        hosting = self.hosting
        hosted = hosting.hosted(participant)
        base = checked_address(address)
        pid = hosting.new_id()
        state = machine.next_state(machine.START, role, word)
        async with hosting.records.step(participant) as step:
            process = Negotiation(
                pid=pid,
                role=role,
                partner=partner,
                partner_pid="",
                partner_address=base,
                state=state,
                offer=dict(offer),
                dataset_id=str(offer.get("target", "")),
                agreement_id="",
                waiting="",
                reason="",
                created_at=step.at,
                changed_at=step.at,
            )
            self._insert(step, process, asked)
            body = message(
                KINDS[word][0],
                id=hosting.new_id(),
                consumerPid=process.consumer_pid,
                providerPid=process.provider_pid,
                offer=dict(offer),
                callbackAddress=hosted.callback,
            )
            path = "request" if word == "request" else "offers"
            self.processes.send(step, process, word, body, initial=True, path=path)
            self.processes.record(step, process, role, word)
            self._becomes(step, process, asked, new=True)
        return pid

    # -- a partner begins

    async def receive_initial(
        self, participant: str, caller: Participant, role: str, body: Mapping[str, Any]
    ) -> Negotiation:
        """A partner's first request (we are provider) or offer (we are consumer). The same identifier gives the same process."""
        hosting = self.hosting
        kind = "ContractRequestMessage" if role == "provider" else "ContractOfferMessage"
        heard = check(body, kind)
        theirs = "consumerPid" if role == "provider" else "providerPid"
        partner_pid = heard[theirs]
        if "callbackAddress" not in heard:
            raise Refused("exchange.message-invalid", message=kind, reason="callbackAddress: is missing")
        address = checked_address(heard["callbackAddress"])
        offer = dict(heard["offer"])
        product: Product | None = None
        if role == "provider":
            product = await self._find_product(participant, caller, str(offer.get("@id")), str(offer.get("target")))
            if product is None:
                raise Refused("exchange.dataset-unknown", dataset=str(offer.get("target"))[:200])
            if product.offer_id != offer.get("@id"):
                raise Refused("exchange.offer-unknown", offer=str(offer.get("@id"))[:200])
        compile_policy(offer)
        word = "request" if role == "provider" else "offer"
        sender = "consumer" if role == "provider" else "provider"
        state = machine.next_state(machine.START, sender, word)
        pid = hosting.new_id()
        now = hosting.clock.now()
        process = Negotiation(
            pid=pid,
            role=role,
            partner=caller.did,
            partner_pid=partner_pid,
            partner_address=address,
            state=state,
            offer=offer,
            dataset_id=str(offer.get("target", "")),
            agreement_id="",
            waiting="",
            reason="",
            created_at=now,
            changed_at=now,
        )
        asked = (
            {"offer": offer, "terms": product.terms, "price": dict(product.price), "product": product.id}
            if product
            else {"offer": {}, "terms": "", "price": {}}  # we asked for nothing: accepting it is a decision
        )
        reaction = await self._react(participant, process, caller, product)
        try:
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                process = replace(process, created_at=step.at, changed_at=step.at)
                self._insert(step, process, asked)
                self.processes.record(step, process, sender, word)
                after = self._apply(step, participant, process, reaction, asked)
                self._becomes(step, after, asked, content_digest(heard), new=True)
        except Retryable as error:
            return await self.processes.known_after(error, participant, caller.did, partner_pid)
        return process

    # -- a partner goes on

    async def receive(
        self, participant: str, caller: Participant, pid: str, word_or_path: str, body: Mapping[str, Any], *, role: str
    ) -> Negotiation:
        """A partner's message for a negotiation in which we are ``role`` (empty: either). Returns the process after it.

        A repeated message is acknowledged and changes nothing. Raises Refused with 400 or 404, Retryable ``records.conflict``.
        """
        hosting = self.hosting
        async with self.processes.lock(participant, pid):
            process = await self.processes.of_caller(participant, pid, caller)
            if role not in ("", process.role):
                raise Refused("exchange.process-unknown", pid=pid)
            role = process.role
            word = _word_at(word_or_path, body)
            heard = self.processes.heard(process, word, body)
            digest_of_message = content_digest(heard)
            repeated = await self.processes.seen(participant, pid, digest_of_message)
            if repeated and "@id" in heard:
                await self.processes.remember_only(participant, caller)
                return process
            sender = "consumer" if role == "provider" else "provider"
            try:
                state = machine.next_state(process.state, sender, word)
            except Refused:
                if repeated:
                    await self.processes.remember_only(participant, caller)
                    return process
                raise
            changes: dict[str, Any] = {"waiting": "", "reason": reason_of(heard) if word == "termination" else ""}
            if word in ("request", "offer"):
                offer = dict(heard["offer"])
                compile_policy(offer)
                if str(offer.get("target")) != process.dataset_id:
                    raise Refused("exchange.message-invalid", message=word, reason="offer/target: is another dataset")
                changes["offer"] = offer
            if not process.partner_pid:
                process = replace(process, partner_pid=heard["providerPid" if role == "consumer" else "consumerPid"])
            asked = await self._asked_for(participant, pid)
            agreement: Agreement | None = None
            if word == "agreement":
                agreement, differs = agreement_received(
                    participant, process, heard["agreement"], asked, hosting.clock.now()
                )
                if differs:
                    await self._refuse_agreement(participant, caller, process, differs, asked)
                    raise Refused("exchange.agreement-differs", part=differs)
                changes["agreement_id"] = agreement.id
            moved = replace(process, state=state, **changes)
            product = None
            if role == "provider" and word == "request":
                product = await self._find_product(participant, caller, str(moved.offer.get("@id")), process.dataset_id)
            reaction = await self._react(participant, moved, caller, product)
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                moved = self.processes.move(step, process, state, **changes)
                self.processes.record(step, moved, sender, word)
                if agreement is not None:
                    self._keep_agreement(step, agreement)
                self._follow_agreement(step, moved)
                after = self._apply(step, participant, moved, reaction, asked)
                self._becomes(step, after, asked, digest_of_message)
            return moved

    async def _refuse_agreement(
        self, participant: str, caller: Participant, process: Negotiation, differs: str, asked: Mapping[str, Any]
    ) -> None:
        """An agreement that is not what we asked for moves nothing; we end the negotiation ourselves, or somebody decides."""
        async with self.hosting.records.step(participant) as step:
            self.hosting.tokens.remember(step, caller)
            if "verify-asked-offer" in self.hosting.settings.auto:
                after = self._apply(step, participant, process, ("termination", differs, None), asked)
            else:
                after = replace(process, waiting="person", reason=differs)
                step.update(NEGOTIATIONS, {"pid": process.pid}, {"waiting": "person", "reason": differs})
            self._becomes(step, after, asked)

    # -- we decide

    async def decide(
        self, participant: str, pid: str, verb: str, *, offer: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Negotiation:
        """Do what a person or a script decided. Raises Refused ``exchange.transition-refused``."""
        word = VERBS.get(verb)
        if word is None:
            raise Refused("exchange.transition-refused", message=verb, sender="us", state="any")
        async with self.processes.lock(participant, pid):
            process = await self.processes.get(participant, pid)
            asked = await self._asked_for(participant, pid)
            if offer is not None:
                compile_policy(offer)
                if process.role == "consumer":
                    asked = {**asked, "offer": dict(offer)}
            async with self.hosting.records.step(participant) as step:
                after = self._apply(step, participant, process, (word, reason, offer), asked)
                if offer is not None and process.role == "consumer":
                    step.update(NEGOTIATIONS, {"pid": pid}, {"asked": orjson.dumps(asked)})
                self._becomes(step, after, asked)
            return after

    # -- rules without a person

    async def _react(
        self, participant: str, process: Negotiation, caller: Participant, product: Product | None
    ) -> tuple[str, str, Mapping[str, Any] | None] | None:
        """What follows at once from a state just reached: ``(word, reason, offer)``, or None where somebody must decide or wait."""
        auto = self.hosting.settings.auto
        if process.role == "provider" and process.state in ("REQUESTED", "ACCEPTED"):
            if process.state == "REQUESTED" and product is None:
                return None
            facts, terms = self.hosting.facts(participant, caller.did, caller.claims), compile_policy(process.offer)
            rule = verdict_on(self.hosting.acceptance, facts, process.dataset_id)
            if rule == "refuse":
                return (
                    "termination",
                    "acceptance: a rule of the provider refuses it / 提供方的受理规则拒绝该请求",
                    None,
                )
            if rule == "person" or (not rule and "agree-own-offer" not in auto):
                return None
            if product is not None and not same_policy(_own(product), process.offer):
                return None
            refusal = terms.refusal("agreement", facts)
            if not refusal:
                verdict = await self.hosting.decide(
                    Access(
                        participant,
                        caller.did,
                        "negotiate",
                        process.dataset_id,
                        "",
                        "",
                        facts.at,
                        caller.claims,
                        facts=facts.context(terms.needs),
                    )
                )
                refusal = "" if verdict.allowed else verdict.reason
            return ("termination", refusal, None) if refusal else ("agreement", "", None)
        if process.role == "provider" and process.state == "VERIFIED" and "finalize" in auto:
            return ("finalized", "", None)
        if process.role == "consumer" and process.state == "OFFERED" and "accept-asked-offer" in auto:
            asked = await self._asked_for(participant, process.pid)
            if asked.get("offer") and same_policy(asked["offer"], process.offer):
                return ("accepted", "", None)
        if process.role == "consumer" and process.state == "AGREED" and "verify-asked-offer" in auto:
            return ("verification", "", None)
        return None

    def _apply(
        self,
        step: Step,
        participant: str,
        process: Negotiation,
        decision: tuple[str, str, Mapping[str, Any] | None] | None,
        asked: Mapping[str, Any],
    ) -> Negotiation:
        """Take our own next move inside a step, or mark the process as waiting for a person where it is our turn."""
        if decision is None:
            if process.state in machine.TERMINAL or process.state in _THEIR_TURN[process.role]:
                return process
            step.update(NEGOTIATIONS, {"pid": process.pid}, {"waiting": "person"})
            return replace(process, waiting="person")
        word, reason, offer = decision
        hosting = self.hosting
        state = machine.next_state(process.state, process.role, word)
        changes: dict[str, Any] = {"waiting": "", "reason": reason}
        members: dict[str, Any] = {}
        if word in ("request", "offer"):
            changes["offer"] = dict(offer if offer is not None else process.offer)
            members["offer"] = changes["offer"]
        elif word == "agreement":
            agreement = self._agree(step, participant, process, asked)
            changes["agreement_id"] = agreement.id
            members["agreement"] = dict(agreement.agreement)
        elif word in ("accepted", "finalized"):
            members["eventType"] = word.upper()
        elif word == "termination":
            members["code"] = "exchange.terminated"
            members["reason"] = [reason] if reason else None
        body = message(
            KINDS[word][0],
            id=hosting.new_id(),
            consumerPid=process.consumer_pid,
            providerPid=process.provider_pid,
            **members,
        )
        after = self.processes.move(step, process, state, **changes)
        first = process.role == "provider" and word in ("offer", "agreement", "termination")
        self.processes.send(step, after, word, body, first=first)
        self.processes.record(step, after, process.role, word, reason)
        self._follow_agreement(step, after)
        return after

    # -- agreements

    def _agree(self, step: Step, participant: str, process: Negotiation, asked: Mapping[str, Any]) -> Agreement:
        document = {
            "@id": self.hosting.new_id(),
            "@type": "Agreement",
            "target": process.dataset_id,
            "assigner": participant,
            "assignee": process.partner,
            "timestamp": iso(step.at, digits=3),
            **rules_of(process.offer),
        }
        agreement = agreement_from(process, document, asked, step.at)
        self._keep_agreement(step, agreement)
        return agreement

    def _keep_agreement(self, step: Step, agreement: Agreement) -> None:
        step.insert(
            AGREEMENTS,
            id=agreement.id,
            role=agreement.role,
            partner=agreement.partner,
            partner_address=agreement.partner_address,
            dataset_id=agreement.dataset_id,
            product_id=agreement.product_id,
            agreement=orjson.dumps(dict(agreement.agreement)),
            agreement_hash=agreement.agreement_hash,
            policy_hash=agreement.policy_hash,
            terms=agreement.terms,
            price=orjson.dumps(dict(agreement.price)),
            state="agreed",
            agreed_at=step.at,
            changed_at=step.at,
            negotiation_pid=agreement.negotiation_pid,
        )
        step.record(
            Entry(
                AGREEMENT_MADE,
                {
                    "agreement": agreement.id,
                    "partner": agreement.partner,
                    "role": agreement.role,
                    "dataset": agreement.dataset_id,
                    "agreementHash": agreement.agreement_hash,
                    "policyHash": agreement.policy_hash,
                },
            )
        )
        if agreement.role == "provider":
            step.link(Edge(f"describe:dataset:{agreement.dataset_id}", f"exchange:agreement:{agreement.id}", "agreed"))
        step.then(lambda: self.remember(step.participant, replace(agreement, agreed_at=step.at)))

    def _follow_agreement(self, step: Step, process: Negotiation) -> None:
        if process.agreement_id and process.state in machine.TERMINAL:
            state = "final" if process.state == "FINALIZED" else "ended"
            step.update(AGREEMENTS, {"id": process.agreement_id}, {"state": state, "changed_at": step.at})
            name = (step.participant, process.agreement_id)

            def follow() -> None:
                known = self._agreements.get(name)
                if known is not None:
                    self._agreements[name] = replace(known, state=state)

            step.then(follow)

    def remember(self, participant: str, agreement: Agreement) -> None:
        """What an agreement is now, once the step that made it so is durable."""
        self._agreements.pop((participant, agreement.id), None)
        if len(self._agreements) >= self.hosting.settings.process_cache:
            self._agreements.pop(next(iter(self._agreements)))
        self._agreements[(participant, agreement.id)] = agreement

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        """An agreement. Raises Refused ``exchange.agreement-unknown``."""
        kept = self._agreements.get((participant, agreement_id))
        if kept is not None:
            return kept
        row = await self.hosting.records.find(AGREEMENTS, _AGREEMENT, participant=participant, id=agreement_id)
        if row is None:
            raise Refused("exchange.agreement-unknown", agreement=agreement_id[:200])
        found = agreement_of(row)
        if found.state == "final":
            self.remember(participant, found)
        return found

    async def agreements(self, participant: str) -> list[Agreement]:
        """All agreements, newest first."""
        rows = await self.hosting.records.rows(
            select(AGREEMENTS).where(AGREEMENTS.c.participant == participant).order_by(AGREEMENTS.c.agreed_at.desc())
        )
        return [agreement_of(row) for row in rows]

    # -- small parts

    def _insert(self, step: Step, process: Negotiation, asked: Mapping[str, Any]) -> None:
        step.insert(
            NEGOTIATIONS,
            pid=process.pid,
            role=process.role,
            partner=process.partner,
            partner_pid=process.partner_pid or None,
            partner_address=process.partner_address,
            state=process.state,
            offer=orjson.dumps(dict(process.offer)),
            asked=orjson.dumps(dict(asked)),
            dataset_id=process.dataset_id,
            agreement_id="",
            waiting="",
            reason="",
            created_at=process.created_at,
            changed_at=process.changed_at,
        )

    def _becomes(
        self, step: Step, process: Negotiation, asked: Mapping[str, Any], digest: str = "", *, new: bool = False
    ) -> None:
        name = (step.participant, process.pid)
        if process.state in machine.TERMINAL:
            step.then(lambda: _forget(self._asked, name))
        else:
            step.then(lambda: self._asked.__setitem__(name, asked))
        self.processes.becomes(step, process, digest, new=new)

    async def _asked_for(self, participant: str, pid: str) -> Mapping[str, Any]:
        kept = self._asked.get((participant, pid))
        if kept is None:
            row = await self.hosting.records.find(NEGOTIATIONS, ("asked",), participant=participant, pid=pid)
            kept = orjson.loads(row["asked"]) if row and row["asked"] else {}
        return kept


_THEIR_TURN: Mapping[str, frozenset[str]] = {
    "consumer": frozenset({"REQUESTED", "ACCEPTED", "VERIFIED"}),
    "provider": frozenset({"OFFERED", "AGREED"}),
}


def _word_at(path: str, body: Mapping[str, Any]) -> str:
    """The machine's word for a message at a path; which event it is stands in the body."""
    if path == "events":
        return "finalized" if body.get("eventType") == "FINALIZED" else "accepted"
    found = _WORDS.get(path)
    if found is None:
        raise Refused("exchange.message-invalid", message=path, reason="there is no such path")
    return found


_WORDS: Mapping[str, str] = {path: word for word, (_, path) in KINDS.items() if path != "events"}
_AGREEMENT = tuple(column.name for column in AGREEMENTS.c)


def _forget(kept: dict[tuple[str, str], Any], name: tuple[str, str]) -> None:
    kept.pop(name, None)


def _own(product: Product) -> Mapping[str, Any]:
    return with_contract(product.policy, terms=product.terms, price=product.price)


def negotiation_of(row: Row) -> Negotiation:
    """A row of the table as a value."""
    return Negotiation(
        pid=row["pid"],
        role=row["role"],
        partner=row["partner"],
        partner_pid=row["partner_pid"] or "",
        partner_address=row["partner_address"],
        state=row["state"],
        offer=orjson.loads(row["offer"]),
        dataset_id=row["dataset_id"],
        agreement_id=row["agreement_id"],
        waiting=row["waiting"],
        reason=row["reason"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


_KIND: Kind[Negotiation] = Kind(
    "negotiations", NEGOTIATIONS, KINDS, negotiation_of, NEGOTIATION_MOVED, lambda _: {}, machine.TERMINAL
)
