"""Contract negotiations, both sides: each message or decision is one step that holds state, outgoing message and evidence together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import and_, select

from guantong.base.clock import iso
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable
from guantong.base.wire import Response
from guantong.exchange import negotiation as machine
from guantong.exchange.agreements import agreement_from, agreement_of, agreement_received, asked_of
from guantong.exchange.hosting import SEND_KIND, Hosting, Processes, checked_address
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
from guantong.exchange.tables import AGREEMENTS, NEGOTIATIONS
from guantong.records.model import Edge, Message
from guantong.records.outbox import Note
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

FindProduct = Callable[[str, str, str, str], Awaitable[Product | None]]
"""``(participant, caller, offer id, dataset id)``."""


class Negotiations:
    """The negotiations of every hosted participant."""

    def __init__(self, hosting: Hosting, find_product: FindProduct) -> None:
        self.hosting = hosting
        self.processes: Processes[Negotiation] = Processes(hosting, NEGOTIATIONS, negotiation_of)
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
            self._send(step, process, word, body, initial=True)
            self._record(step, process, role, word)
        self._asked[(participant, pid)] = asked
        self._keep(participant, process)
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
            product = await self._find_product(participant, caller.did, str(offer.get("@id")), str(offer.get("target")))
            if product is None:
                raise Refused("exchange.dataset-unknown", dataset=str(offer.get("target"))[:200])
        compile_policy(offer)
        word = "request" if role == "provider" else "offer"
        sender = "consumer" if role == "provider" else "provider"
        state = machine.next_state(machine.START, sender, word)
        digest_of_message = content_digest(heard)
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
                self.processes.note_seen(step, pid, heard)
                self._record(step, process, sender, word)
                after = self._apply(step, participant, process, reaction, asked)
        except Retryable as error:
            if error.code != "records.conflict":
                raise
            known = await self.processes.find(participant, caller.did, partner_pid)
            if known is None:
                raise
            return known
        self._asked[(participant, pid)] = asked
        self._keep(participant, after, digest_of_message)
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
            word, heard = _hear(word_or_path, body, process)
            digest_of_message = content_digest(heard)
            repeated = await self.processes.seen(participant, pid, digest_of_message)
            if repeated and "@id" in heard:
                await self._remember_only(participant, caller)
                return process
            sender = "consumer" if role == "provider" else "provider"
            try:
                state = machine.next_state(process.state, sender, word)
            except Refused:
                if repeated:
                    await self._remember_only(participant, caller)
                    return process
                raise
            changes: dict[str, Any] = {"waiting": "", "reason": _reason_of(heard) if word == "termination" else ""}
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
                product = await self._find_product(
                    participant, caller.did, str(moved.offer.get("@id")), process.dataset_id
                )
            reaction = await self._react(participant, moved, caller, product)
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                moved = self.processes.move(step, process, state, **changes)
                self.processes.note_seen(step, pid, heard)
                self._record(step, moved, sender, word)
                if agreement is not None:
                    agreement = self._keep_agreement(step, agreement)
                self._follow_agreement(step, moved)
                after = self._apply(step, participant, moved, reaction, asked)
            if agreement is not None:
                self._agreements[(participant, agreement.id)] = agreement
            self._keep(participant, after, digest_of_message)
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
        self._keep(participant, after)

    async def _remember_only(self, participant: str, caller: Participant) -> None:
        async with self.hosting.records.step(participant) as step:
            self.hosting.tokens.remember(step, caller)

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
            self._asked[(participant, pid)] = asked
            self._keep(participant, after)
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
            if "agree-own-offer" not in auto or (product is not None and not same_policy(_own(product), process.offer)):
                return None
            now = self.hosting.clock.now()
            refusal = compile_policy(process.offer).refusal(caller.did, now)
            if not refusal:
                verdict = await self.hosting.decide(
                    Access(participant, caller.did, "negotiate", process.dataset_id, "", "", now, caller.claims)
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
        self._send(step, after, word, body)
        self._record(step, after, process.role, word, reason)
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
        return self._keep_agreement(step, agreement)

    def _keep_agreement(self, step: Step, agreement: Agreement) -> Agreement:
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
        return agreement

    def _follow_agreement(self, step: Step, process: Negotiation) -> None:
        if process.agreement_id and process.state in machine.TERMINAL:
            state = "final" if process.state == "FINALIZED" else "ended"
            step.update(AGREEMENTS, {"id": process.agreement_id}, {"state": state, "changed_at": step.at})
            self._agreements.pop((step.participant, process.agreement_id), None)

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        """An agreement. Raises Refused ``exchange.agreement-unknown``."""
        kept = self._agreements.get((participant, agreement_id))
        if kept is not None:
            return kept
        row = await self.hosting.records.row(
            select(AGREEMENTS).where(and_(AGREEMENTS.c.participant == participant, AGREEMENTS.c.id == agreement_id))
        )
        if row is None:
            raise Refused("exchange.agreement-unknown", agreement=agreement_id[:200])
        found = agreement_of(row)
        if found.state == "final":
            if len(self._agreements) >= self.hosting.settings.process_cache:
                self._agreements.pop(next(iter(self._agreements)))
            self._agreements[(participant, agreement_id)] = found
        return found

    async def agreements(self, participant: str) -> list[Agreement]:
        """All agreements, newest first."""
        rows = await self.hosting.records.rows(
            select(AGREEMENTS).where(AGREEMENTS.c.participant == participant).order_by(AGREEMENTS.c.agreed_at.desc())
        )
        return [agreement_of(row) for row in rows]

    # -- after a message left

    async def sent(self, participant: str, payload: Mapping[str, Any], response: Response) -> Note | None:
        """Learn from the answer to a first message which identifier the partner gave the process.

        It is written beside the note of the message's arrival: until then the message would be sent again, and answered the same.
        """
        if not payload.get("initial"):
            return None
        pid = payload["pid"]
        theirs = _partner_pid_in(response, "providerPid" if payload["role"] == "consumer" else "consumerPid")
        process = await self.processes.get(participant, pid)
        if process.partner_pid or not theirs:
            return None
        self.processes.keep(participant, replace(process, partner_pid=theirs))
        self.hosting.changed(participant, pid, process.state)
        return lambda step: step.update(NEGOTIATIONS, {"pid": pid}, {"partner_pid": theirs})

    async def refused(self, participant: str, payload: Mapping[str, Any], reason: str) -> None:
        """The partner refused a message for good: a first request ends here, anything later is a person's matter."""
        pid = payload["pid"]
        async with self.processes.lock(participant, pid):
            process = await self.processes.get(participant, pid)
            async with self.hosting.records.step(participant) as step:
                if payload.get("initial") and process.state not in machine.TERMINAL:
                    after = self.processes.move(step, process, "TERMINATED", reason=reason, waiting="")
                    self._record(step, after, process.role, "termination", reason)
                else:
                    step.update(NEGOTIATIONS, {"pid": pid}, {"reason": reason, "waiting": "person"})
                    after = replace(process, reason=reason, waiting="person")
            self._keep(participant, after)

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

    def _send(
        self, step: Step, process: Negotiation, word: str, body: Mapping[str, Any], *, initial: bool = False
    ) -> None:
        path = ("request" if word == "request" else "offers") if initial else KINDS[word][1]
        step.send(
            Message(
                lane=f"{process.partner} {process.pid}",
                kind=SEND_KIND,
                key=str(body["@id"]),
                payload={
                    "area": "negotiations",
                    "pid": process.pid,
                    "role": process.role,
                    "partner": process.partner,
                    "path": path,
                    "initial": initial,
                    "first": process.role == "provider" and word in ("offer", "agreement", "termination"),
                    "body": dict(body),
                },
            )
        )

    def _record(self, step: Step, process: Negotiation, by: str, word: str, reason: str = "") -> None:
        body = {
            "pid": process.pid,
            "partner": process.partner,
            "role": process.role,
            "state": process.state,
            "by": by,
            "message": KINDS[word][0],
        }
        if reason:
            body["reason"] = reason[:1000]
        step.record(Entry(NEGOTIATION_MOVED, body))

    def _keep(self, participant: str, process: Negotiation, seen: str = "") -> None:
        self.processes.keep(participant, process, seen)
        if process.state in machine.TERMINAL:
            self._asked.pop((participant, process.pid), None)
        self.hosting.changed(participant, process.pid, process.state)

    async def _asked_for(self, participant: str, pid: str) -> Mapping[str, Any]:
        kept = self._asked.get((participant, pid))
        if kept is None:
            row = await self.hosting.records.row(
                select(NEGOTIATIONS.c.asked).where(
                    and_(NEGOTIATIONS.c.participant == participant, NEGOTIATIONS.c.pid == pid)
                )
            )
            kept = orjson.loads(row["asked"]) if row and row["asked"] else {}
        return kept


_THEIR_TURN: Mapping[str, frozenset[str]] = {
    "consumer": frozenset({"REQUESTED", "ACCEPTED", "VERIFIED"}),
    "provider": frozenset({"OFFERED", "AGREED"}),
}


def _hear(word_or_path: str, body: Mapping[str, Any], process: Negotiation) -> tuple[str, dict[str, Any]]:
    """The machine's word for a message at a path, checked, with its identifiers compared with the process."""
    kinds = {path: kind for kind, path in KINDS.values()}
    kind = kinds.get(word_or_path)
    if kind is None:
        raise Refused("exchange.message-invalid", message=word_or_path, reason="there is no such path")
    heard = check(body, kind)
    if word_or_path == "events":
        word = {"ACCEPTED": "accepted", "FINALIZED": "finalized"}[heard["eventType"]]
    else:
        word = next(name for name, (_, path) in KINDS.items() if path == word_or_path)
    ours, theirs = ("consumerPid", "providerPid") if process.role == "consumer" else ("providerPid", "consumerPid")
    if heard.get(ours, process.pid) != process.pid:
        raise Refused("exchange.message-invalid", message=kind, reason=f"{ours}: is not that of the path")
    if process.partner_pid and heard.get(theirs, process.partner_pid) != process.partner_pid:
        raise Refused("exchange.message-invalid", message=kind, reason=f"{theirs}: belongs to another process")
    if not process.partner_pid and not heard.get(theirs):
        raise Refused("exchange.message-invalid", message=kind, reason=f"{theirs}: is missing")
    return word, heard


def _reason_of(heard: Mapping[str, Any]) -> str:
    reasons = heard.get("reason")
    texts = [
        str(item.get("@value", item)) if isinstance(item, Mapping) else str(item)
        for item in (reasons if isinstance(reasons, list) else [])
    ]
    return ("; ".join(texts) or str(heard.get("code") or ""))[:1000]


def _partner_pid_in(response: Response, member: str) -> str:
    # partners answer 200 or 201, sometimes without a body: then their first message tells
    try:
        body = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        return ""
    value = body.get(member) if isinstance(body, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= 128 else ""


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
