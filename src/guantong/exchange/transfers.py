"""Transfer processes, both sides: each message or decision is one step that holds state, outgoing message and evidence together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64url, sha256
from guantong.base.clock import NS
from guantong.base.errors import Refused, Retryable
from guantong.exchange import transfer as machine
from guantong.exchange.deliveries import FINGERPRINT_TERM, QUERY_TERM, stated
from guantong.exchange.facts import MODES
from guantong.exchange.hosting import Hosting, checked_address, in_path
from guantong.exchange.messages import check, content_digest, data_address, message, token_of
from guantong.exchange.model import TRANSFER_MOVED, Agreement, Participant, Transfer
from guantong.exchange.negotiations import Negotiations
from guantong.exchange.policy import compile_policy
from guantong.exchange.ports import Access
from guantong.exchange.processes import Kind, Processes, reason_of
from guantong.exchange.tables import RENEWALS, TRANSFERS
from guantong.records.model import Message
from guantong.records.service import Row, Step

if TYPE_CHECKING:
    from guantong.exchange.planes import Planes

__all__ = [
    "BROKER_FORMATS",
    "FORMATS",
    "KINDS",
    "PULL",
    "PUSH",
    "PUSH_KIND",
    "S3_PUSH",
    "Transfers",
    "token_hash",
    "transfer_of",
]

PULL = "HttpData-PULL"
PUSH = "HttpData-PUSH"
S3_PUSH = "AmazonS3-PUSH"
FORMATS = (PULL, PUSH, S3_PUSH)
"""What a transfer may be asked for in. Source: CX-0018, 2.3."""
BROKER_FORMATS = ("Sparkplug-PUSH", "UNS-PUSH")
"""Formats of ours that publish to a broker, where the setting ``brokers`` names one."""
PUSH_KIND = "exchange.push"
"""Kind of the outbox message that brings the data of a push to its target."""

WAITS_FOR_PLANE = "plane"
"""What a transfer waits for whose data plane, somebody else's, has not yet answered."""

KINDS: Mapping[str, tuple[str, str]] = {
    "request": ("TransferRequestMessage", "request"),
    "start": ("TransferStartMessage", "start"),
    "completion": ("TransferCompletionMessage", "completion"),
    "suspension": ("TransferSuspensionMessage", "suspension"),
    "termination": ("TransferTerminationMessage", "termination"),
}

VERBS: Mapping[str, str] = {
    "start": "start",
    "complete": "completion",
    "suspend": "suspension",
    "terminate": "termination",
}


def token_hash(token: str) -> str:
    """What is stored of an access token."""
    return "sha256:" + sha256(token.encode()).hex()


def counted_by_consumer(transfer: Transfer) -> bool:
    """Whether the consumer's own node sees the bytes: it pulls them, or they are pushed to its inbox for this transfer."""
    if not transfer.partner_address:
        return False  # a data flow of another control plane: nobody there answers receipts
    if transfer.format == PULL:
        return True
    return transfer.format == PUSH and token_of(transfer.data_address)[0].endswith(
        f"/inbox/{in_path(transfer.partner_pid)}"
    )


class Transfers:
    """The transfers of every hosted participant."""

    def __init__(self, hosting: Hosting, negotiations: Negotiations) -> None:
        self.hosting = hosting
        self.negotiations = negotiations
        self.processes: Processes[Transfer] = Processes(hosting, _KIND)
        self.planes: Planes | None = None
        """Somebody else's data planes, which serve datasets in our place."""

    async def request(
        self,
        participant: str,
        agreement_id: str,
        wanted_format: str,
        address: str = "",
        *,
        target: Mapping[str, Any] | None = None,
    ) -> str:
        """As consumer: ask for the data of an agreement, for a push with where to: a data address, or else our own inbox.

        Raises Refused ``exchange.agreement-unknown``.
        """
        hosting = self.hosting
        hosted = hosting.hosted(participant)
        agreement = await self.negotiations.agreement(participant, agreement_id)
        if agreement.role != "consumer" or agreement.state != "final":
            raise Refused("exchange.agreement-unknown", agreement=agreement_id)
        pid = hosting.new_id()
        async with hosting.records.step(participant) as step:
            process = _new(
                pid,
                "consumer",
                agreement,
                partner_pid="",
                address=checked_address(address or agreement.partner_address),
                form=wanted_format,
                at=step.at,
            )
            elsewhere = self._elsewhere(participant, process)
            if elsewhere is not None:
                process = replace(process, waiting=WAITS_FOR_PLANE)
                # its plane says first where the data may go; then the partner is asked
                self.insert(step, process)
                elsewhere.begin(step, process)
                self.processes.becomes(step, process, new=True)
                return pid
            if wanted_format == PUSH and target is None:
                token = b64url(hosting.records.random(32))
                process = replace(process, token_hash=token_hash(token))
                target = data_address(f"{hosted.address}/inbox/{in_path(pid)}", token, None)
            self.insert(step, process)
            self._ask(step, participant, process, target)
            self.processes.becomes(step, process, new=True)
        return pid

    async def prepared(self, participant: str, pid: str, address: Mapping[str, Any]) -> None:
        """As consumer: our plane is ready, and the partner is asked now. Raises Refused ``exchange.transition-refused`` if it was."""
        async with self.processes.lock(participant, pid):
            process = await self.processes.get(participant, pid)
            if process.state != "REQUESTED" or process.waiting != WAITS_FOR_PLANE:
                raise Refused("exchange.transition-refused", message="prepared", sender="us", state=process.state)
            async with self.hosting.records.step(participant) as step:
                step.update(TRANSFERS, {"pid": pid}, {"waiting": ""})
                process = replace(process, waiting="")
                self._ask(step, participant, process, dict(address) if process.format != PULL else None)
                self.processes.becomes(step, process)

    def _ask(self, step: Step, participant: str, process: Transfer, target: Mapping[str, Any] | None) -> None:
        body = message(
            "TransferRequestMessage",
            id=self.hosting.new_id(),
            consumerPid=process.pid,
            agreementId=process.agreement_id,
            format=process.format,
            dataAddress=target,
            callbackAddress=self.hosting.hosted(participant).callback,
        )
        self.processes.send(step, process, "request", body, initial=True)
        self.processes.record(step, process, "consumer", "request")

    def _elsewhere(self, participant: str, process: Transfer) -> Planes | None:
        """The planes, where one of them serves the process's dataset in our place."""
        planes = self.planes
        return planes if planes is not None and planes.serving(participant, process.dataset_id) else None

    async def receive_initial(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> Transfer:
        """A partner's transfer request. The same ``consumerPid`` gives the same process."""
        hosting = self.hosting
        heard = check(body, "TransferRequestMessage")
        address = checked_address(heard["callbackAddress"])
        agreement = await self.negotiations.agreement(participant, heard["agreementId"])
        if agreement.role != "provider" or agreement.partner != caller.did or agreement.state != "final":
            raise Refused("exchange.agreement-unknown", agreement=heard["agreementId"][:200])
        pid = hosting.new_id()
        process = _new(
            pid,
            "provider",
            agreement,
            partner_pid=heard["consumerPid"],
            address=address,
            form=heard["format"],
            at=hosting.clock.now(),
        )
        if process.format != PULL:
            process = replace(process, data_address=heard.get("dataAddress") or {})
        reaction = await self._react(participant, process, caller, agreement)
        try:
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                process = replace(process, created_at=step.at, changed_at=step.at)
                self.insert(step, process)
                self.processes.record(step, process, "consumer", "request")
                after = self._apply(step, participant, process, reaction)
                self.processes.becomes(step, after, content_digest(heard), new=True)
        except Retryable as error:
            return await self.processes.known_after(error, participant, caller.did, heard["consumerPid"])
        return process

    async def receive(
        self, participant: str, caller: Participant, pid: str, path: str, body: Mapping[str, Any]
    ) -> Transfer:
        """A partner's message for a transfer; a repeated one is acknowledged and changes nothing."""
        hosting = self.hosting
        async with self.processes.lock(participant, pid):
            process = await self.processes.of_caller(participant, pid, caller)
            word = _WORDS.get(path)
            if word is None:
                raise Refused("exchange.message-invalid", message=path, reason="there is no such path")
            heard = self.processes.heard(process, word, body)
            digest_of_message = content_digest(heard)
            repeated = await self.processes.seen(participant, pid, digest_of_message)
            sender = "consumer" if process.role == "provider" else "provider"
            known = repeated and "@id" in heard
            if not known:
                try:
                    state = machine.next_state(process.state, sender, word)
                except Refused:
                    if not repeated:
                        raise
                    known = True
            if known:
                await self.processes.remember_only(participant, caller)
                return process
            changes: dict[str, Any] = {
                "waiting": "",
                "reason": reason_of(heard) if word in ("termination", "suspension") else "",
            }
            if word == "start" and process.role == "consumer":
                offered = heard.get("dataAddress")
                if isinstance(offered, dict):
                    endpoint, _ = token_of(offered)
                    if endpoint:
                        checked_address(endpoint.partition("?")[0])
                    changes["data_address"] = offered
            if not process.partner_pid:
                process = replace(
                    process, partner_pid=heard["providerPid" if process.role == "consumer" else "consumerPid"]
                )
            if state in machine.TERMINAL:
                changes.update(_closed(process))
            async with hosting.records.step(participant) as step:
                hosting.tokens.remember(step, caller)
                moved = self.processes.move(step, process, state, **changes)
                if self.planes is not None:
                    self.planes.follow(step, process, word)
                self.processes.record(step, moved, sender, word, changes["reason"])
                self.processes.becomes(step, moved, digest_of_message)
            return moved

    async def decide(
        self, participant: str, pid: str, verb: str, *, reason: str = "", address: Mapping[str, Any] | None = None
    ) -> Transfer:
        """Do what a person, a script or the end of a contract decided. Raises Refused ``exchange.transition-refused``.

        ``address``: where a plane of somebody else's serves the data that are started.
        """
        word = VERBS.get(verb)
        if word is None:
            raise Refused("exchange.transition-refused", message=verb, sender="us", state="any")
        async with self.processes.lock(participant, pid):
            process = await self.processes.get(participant, pid)
            async with self.hosting.records.step(participant) as step:
                after = self._apply(step, participant, process, (word, reason), address)
                self.processes.becomes(step, after)
            return after

    async def of_agreement(self, participant: str, agreement_id: str) -> list[Transfer]:
        """The transfers of an agreement."""
        rows = await self.hosting.records.rows(
            select(TRANSFERS).where(
                and_(TRANSFERS.c.participant == participant, TRANSFERS.c.agreement_id == agreement_id)
            )
        )
        return [transfer_of(row) for row in rows]

    # -- rules without a person

    async def _react(
        self, participant: str, process: Transfer, caller: Participant, agreement: Agreement
    ) -> tuple[str, str] | None:
        served = self.planes.formats(participant, process.dataset_id) if self.planes is not None else None
        own = (*FORMATS, *BROKER_FORMATS) if self.hosting.settings.brokers else FORMATS
        if process.format not in (own if served is None else served):
            return ("termination", f"the format {process.format[:100]} is not offered")
        if served is not None and any(stated(agreement.agreement, term) for term in (QUERY_TERM, FINGERPRINT_TERM)):
            # the rows would pass by what the contract promises of them
            return ("termination", "another data plane neither runs query templates nor marks copies")
        if process.format != PULL and served is None:
            from guantong.exchange.push import check_target

            check_target(process.format, process.data_address, self.hosting.settings.brokers)
        if ("start-pull" if process.format == PULL else "start-push") not in self.hosting.settings.auto:
            return None
        terms = compile_policy(agreement.agreement)
        facts = replace(
            self.hosting.facts(participant, caller.did, caller.claims),
            agreed_at=agreement.since,
            mode=MODES.get(process.format, process.format),
            floor=2**40,
        )
        # a floor is about what leaves: each delivery is asked
        refusal = terms.refusal("access", facts)
        if not refusal:
            verdict = await self.hosting.decide(
                Access(
                    participant,
                    caller.did,
                    "transfer",
                    process.dataset_id,
                    agreement.id,
                    "",
                    facts.at,
                    caller.claims,
                    facts=facts.context(terms.needs),
                )
            )
            refusal = "" if verdict.allowed else verdict.reason
        return ("termination", refusal) if refusal else ("start", "")

    def _apply(
        self,
        step: Step,
        participant: str,
        process: Transfer,
        decision: tuple[str, str] | None,
        address: Mapping[str, Any] | None = None,
    ) -> Transfer:
        if decision is None:
            step.update(TRANSFERS, {"pid": process.pid}, {"waiting": "person"})
            return replace(process, waiting="person")
        word, reason = decision
        hosting = self.hosting
        state = machine.next_state(process.state, process.role, word)
        changes: dict[str, Any] = {"waiting": "", "reason": reason}
        members: dict[str, Any] = {}
        elsewhere = self._elsewhere(participant, process)
        if elsewhere is not None and word == "start" and process.role == "provider" and address is None:
            # the plane's answer starts it
            if process.state == "SUSPENDED":
                elsewhere.resume(step, process)
            else:
                elsewhere.begin(step, process)
            step.update(TRANSFERS, {"pid": process.pid}, {"waiting": WAITS_FOR_PLANE, "reason": ""})
            return replace(process, waiting=WAITS_FOR_PLANE, reason="")
        if elsewhere is not None:
            if word != "start" or process.role == "consumer":
                elsewhere.follow(step, process, word)
            if word == "start" and process.format == PULL and address:
                members["dataAddress"] = dict(address)
        elif word == "start" and process.role == "provider" and process.format == PULL:
            token = b64url(hosting.records.random(32))
            lifetime = hosting.settings.access_lifetime_s
            changes["token_hash"] = token_hash(token)
            changes["token_expires"] = step.at + lifetime * NS
            refresh = b64url(hosting.records.random(32))
            step.upsert(RENEWALS, pid=process.pid, refresh_hash=token_hash(refresh), changed_at=step.at)
            endpoint = f"{hosting.hosted(participant).address}/data/{in_path(process.pid)}"
            members["dataAddress"] = data_address(
                endpoint,
                token,
                lifetime,
                refresh_token=refresh,
                refresh_endpoint=f"{endpoint}/token",
                audience=participant,
            )
        if word in ("termination", "suspension"):
            members["code"] = f"exchange.{word}"
            members["reason"] = [reason] if reason else None
        if state in machine.TERMINAL:
            changes.update(_closed(process))
        body = message(
            KINDS[word][0],
            id=hosting.new_id(),
            consumerPid=process.consumer_pid,
            providerPid=process.provider_pid,
            **members,
        )
        after = self.processes.move(step, process, state, **changes)
        first = process.role == "provider" and word in ("start", "termination")
        if process.partner_pid or process.waiting != WAITS_FOR_PLANE:  # else the partner was never asked
            self.processes.send(step, after, word, body, first=first)
        if word == "start" and process.role == "provider" and process.format != PULL and elsewhere is None:
            # once more in the table, after the start message and in a lane of its own: a long push holds up no message
            step.send(
                Message(
                    lane=f"{process.partner} push {process.pid}",
                    kind=PUSH_KIND,
                    key=str(body["@id"]),
                    payload={"pid": process.pid},
                )
            )
        self.processes.record(step, after, process.role, word, reason)
        return after

    # -- small parts

    def insert(self, step: Step, process: Transfer) -> None:
        """Add a transfer to the table."""
        step.insert(
            TRANSFERS,
            pid=process.pid,
            role=process.role,
            partner=process.partner,
            partner_pid=process.partner_pid or None,
            partner_address=process.partner_address,
            state=process.state,
            agreement_id=process.agreement_id,
            format=process.format,
            dataset_id=process.dataset_id,
            data_address=orjson.dumps(dict(process.data_address)),
            token_hash=process.token_hash,
            token_expires=0,
            waiting=process.waiting,
            reason="",
            created_at=process.created_at,
            changed_at=process.changed_at,
        )


def _closed(process: Transfer) -> dict[str, Any]:
    # nothing that opens a door outlives the transfer: neither side's token, nor the address that holds the other's
    return {"token_hash": "", "token_expires": 0, "data_address": {}}


def new_transfer(
    pid: str,
    role: str,
    *,
    partner: str,
    partner_pid: str,
    address: str,
    agreement_id: str,
    dataset_id: str,
    form: str,
    at: int,
    data_address: Mapping[str, Any] | None = None,
) -> Transfer:
    """A transfer that was just asked for."""
    return Transfer(
        pid=pid,
        role=role,
        partner=partner,
        partner_pid=partner_pid,
        partner_address=address,
        state=machine.next_state(machine.START, "consumer", "request"),
        agreement_id=agreement_id,
        format=form,
        dataset_id=dataset_id,
        data_address=data_address or {},
        token_hash="",
        token_expires=0,
        waiting="",
        reason="",
        created_at=at,
        changed_at=at,
    )


def _new(pid: str, role: str, agreement: Agreement, *, partner_pid: str, address: str, form: str, at: int) -> Transfer:
    return new_transfer(
        pid,
        role,
        partner=agreement.partner,
        partner_pid=partner_pid,
        address=address,
        agreement_id=agreement.id,
        dataset_id=agreement.dataset_id,
        form=form,
        at=at,
    )


_WORDS: Mapping[str, str] = {path: word for word, (_, path) in KINDS.items() if word != "request"}


def transfer_of(row: Row) -> Transfer:
    """A row of the table as a value."""
    return Transfer(
        pid=row["pid"],
        role=row["role"],
        partner=row["partner"],
        partner_pid=row["partner_pid"] or "",
        partner_address=row["partner_address"],
        state=row["state"],
        agreement_id=row["agreement_id"],
        format=row["format"],
        dataset_id=row["dataset_id"],
        data_address=orjson.loads(row["data_address"]),
        token_hash=row["token_hash"],
        token_expires=row["token_expires"],
        waiting=row["waiting"],
        reason=row["reason"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


_KIND: Kind[Transfer] = Kind(
    "transfers",
    TRANSFERS,
    KINDS,
    transfer_of,
    TRANSFER_MOVED,
    lambda process: {"agreement": process.agreement_id},
    machine.TERMINAL,
)
