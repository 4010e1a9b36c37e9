"""Our data plane for somebody else's control plane: data flows of Data Plane Signaling 1.0, metered and with one-sided receipts.

A flow stands on the same tables as a transfer of our own, so that its deliveries meet the same terms, decisions, counters, evidence and
receipts; only who speaks differs. What the control plane agreed is fetched from it and enforced here too.
Source: Data Plane Signaling 1.0, Data Flow API, Data Plane Endpoint; HTTP and Token Renewal profiles.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64url, digest
from guantong.base.clock import NS
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.exchange import dataflow as machine
from guantong.exchange.hosting import checked_address, in_path, verdict_of
from guantong.exchange.messages import checked_endpoint, data_address, properties_of
from guantong.exchange.model import FLOW_MOVED, Transfer
from guantong.exchange.policy import compile_policy, policy_hash
from guantong.exchange.ports import Access
from guantong.exchange.tables import AGREEMENTS, CONTROL_PLANES, FLOWS, RENEWALS
from guantong.exchange.transfers import PULL, PUSH, PUSH_KIND, S3_PUSH, Transfers, new_transfer, token_hash
from guantong.records.model import Message
from guantong.records.service import Row, Step

if TYPE_CHECKING:
    from guantong.exchange.dataplane import DataPlane
    from guantong.exchange.hosting import Hosting
    from guantong.exchange.push import Pushes

__all__ = ["PROFILES", "PULL_KIND", "SIGNAL_KIND", "Flow", "Flows"]

SIGNAL_KIND = "exchange.signal"
"""Kind of the outbox message that tells a control plane what became of a flow."""
PULL_KIND = "exchange.flow-pull"
"""Kind of the outbox message that fetches the data of a started flow."""

HTTP_PULL = "https://w3id.org/dspace-sig/profile/http-pull"
HTTP_PUSH = "https://w3id.org/dspace-sig/profile/http-push"
S3 = "https://w3id.org/dspace-sig/profile/s3-push"
PROFILES: Mapping[str, str] = {
    HTTP_PULL: PULL,
    HTTP_PUSH: PUSH,
    S3: S3_PUSH,
    "http-pull": PULL,
    "http-push": PUSH,
    "s3-push": S3_PUSH,
    PULL: PULL,
    PUSH: PUSH,
    S3_PUSH: S3_PUSH,
}
"""Profiles of data flows, by every name in use, and the format of ours that serves them."""

_REQUIRED = (
    "messageId",
    "participantId",
    "counterPartyId",
    "dataspaceContext",
    "processId",
    "agreementId",
    "datasetId",
    "profile",
)
_CLOSED: Mapping[str, Any] = {"token_hash": "", "token_expires": 0, "data_address": {}}


@dataclass(frozen=True, slots=True)
class Flow:
    """A data flow."""

    id: str
    role: str
    """``consumer`` or ``provider``: which side's data plane we are in it."""
    process_id: str
    """The control plane's identifier of its transfer process."""
    participant_id: str
    counter_party: str
    agreement_id: str
    dataset_id: str
    profile: str
    state: str
    control_plane: str
    error: str
    changed_at: int


class Flows:
    """The data flows of every hosted participant."""

    def __init__(self, hosting: Hosting, transfers: Transfers, plane: DataPlane, pushes: Pushes) -> None:
        self._hosting = hosting
        self._transfers = transfers
        self._plane = plane
        self._pushes = pushes
        pushes.flows = self

    # -- who may signal

    def allow(self, authorization: str) -> None:
        """Let the control plane in, by the key it shares with us. Raises Refused ``exchange.token-refused``."""
        key = self._hosting.settings.signaling_key
        given = authorization.removeprefix("Bearer ")
        if not key or not hmac.compare_digest(given.encode(), key.encode()):
            raise Refused("exchange.token-refused", reason="it is not the key of the control plane")

    async def control_plane(self, participant: str) -> str:
        """Address of the control plane that this data plane belongs to: the one that registered, else that of the setting."""
        row = await self._registered(participant)
        return row["endpoint"] if row is not None else self._hosting.settings.control_plane

    async def take_control_plane(self, participant: str, body: Mapping[str, Any]) -> None:
        """``PUT /controlplanes``: a control plane says where it hears callbacks; told again, it replaces what it told.

        One at a time, since all of them would share one key. Raises Refused ``exchange.plane-taken`` or ``exchange.message-invalid``.
        """
        identifier = body.get("controlplaneId")
        if not isinstance(identifier, str) or not 0 < len(identifier) <= 255:
            raise _invalid("ControlPlaneRegistrationMessage", "controlplaneId: must have 1 to 255 characters")
        if body.get("authorization") not in (None, []):
            raise _invalid("ControlPlaneRegistrationMessage", "authorization: only the shared key is spoken here")
        endpoint = checked_address(body.get("endpoint"))
        known = await self._registered(participant)
        if known is not None and known["id"] != identifier:
            raise Refused("exchange.plane-taken", control_plane=known["id"])
        async with self._hosting.records.step(participant) as step:
            step.upsert(CONTROL_PLANES, id=identifier, endpoint=endpoint, changed_at=step.at)

    async def leave_control_plane(self, participant: str, identifier: str) -> None:
        """``DELETE /controlplanes/:id``; its flows stay as they are. Raises Refused ``exchange.plane-unknown``."""
        known = await self._registered(participant)
        if known is None or known["id"] != identifier:
            raise Refused("exchange.plane-unknown", plane=identifier[:200])
        table = CONTROL_PLANES
        statement = table.delete().where(and_(table.c.participant == participant, table.c.id == identifier))
        async with self._hosting.records.step(participant) as step:
            step.apply(lambda connection: connection.execute(statement))

    async def _registered(self, participant: str) -> Row | None:
        return await self._hosting.records.row(
            select(CONTROL_PLANES).where(CONTROL_PLANES.c.participant == participant)
        )

    # -- signals of the control plane

    async def prepare(self, participant: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """``POST /dataflows/prepare``: get ready to receive. Status and ``DataFlowStatusMessage``."""
        return await self._begin(participant, body, "consumer")

    async def start(self, participant: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """``POST /dataflows/start``: begin to provide. Status and ``DataFlowStatusMessage``.

        Raises Refused for a known process, a data address where the data are pulled, an unknown dataset, a denied partner.
        """
        return await self._begin(participant, body, "provider")

    async def signal(self, participant: str, flow_id: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """``started``, ``suspend``, ``resume``, ``completed`` or ``terminate``. Raises Refused ``exchange.transition-refused``."""
        if not isinstance(body.get("messageId", ""), str):
            raise _invalid(name, "messageId: is no text")
        async with self._transfers.processes.lock(participant, flow_id):
            flow = await self.get(participant, flow_id)
            state = machine.next_state(flow.state, flow.role, name)
            given = body.get("dataAddress")
            changes: dict[str, Any] = {}
            if name == "started" and flow.role == "consumer":
                changes.update(_taken(flow, given))
            elif name == "resume" and isinstance(given, Mapping) and given:
                changes.update(_taken(flow, given) if flow.role == "consumer" else _target(flow, given))
            async with self._hosting.records.step(participant) as step:
                transfer = await self._transfers.processes.get(participant, flow_id)
                answer = None
                if name == "resume" and flow.role == "provider" and PROFILES[flow.profile] == PULL:
                    answer, granted = self._grant(step, participant, flow)
                    changes.update(granted)
                self._move(
                    step, flow, transfer, state, changes, by="control plane", signal=name, reason=_text(body, "reason")
                )
                if state == "STARTED":
                    self._run(step, participant, flow, str(body.get("messageId")) or self._hosting.new_id())
            return self._status(flow_id, state, answer)

    async def status(self, participant: str, flow_id: str) -> dict[str, Any]:
        """``GET /dataflows/:id/status``: a ``DataFlowStatusResponseMessage``."""
        flow = await self.get(participant, flow_id)
        return {"dataFlowId": flow.id, "state": flow.state}

    # -- our own moves

    async def release(self, participant: str, flow_id: str) -> Flow:
        """Somebody here lets a flow go on that waited for it (PREPARING, STARTING); the control plane is called back."""
        async with self._transfers.processes.lock(participant, flow_id):
            flow = await self.get(participant, flow_id)
            state = machine.next_state(flow.state, flow.role, "READY")
            async with self._hosting.records.step(participant) as step:
                transfer = await self._transfers.processes.get(participant, flow_id)
                address, changes = self._opened(step, participant, flow)
                self._move(step, flow, transfer, state, changes, by="data plane", signal="READY")
                self._tell(step, flow, "prepared" if state == "PREPARED" else "started", state, address=address)
                if state == "STARTED":
                    self._run(step, participant, flow, flow.id)
        return await self.get(participant, flow_id)

    async def ended(self, participant: str, pid: str, verb: str, reason: str) -> bool:
        """A push or pull of ours has ended; whether it was that of a flow. Done: COMPLETED and told; failed: told only."""
        try:
            async with self._transfers.processes.lock(participant, pid):
                flow = await self.get(participant, pid)
                async with self._hosting.records.step(participant) as step:
                    if verb == "complete":
                        state = machine.next_state(flow.state, flow.role, "DONE")
                        transfer = await self._transfers.processes.get(participant, pid)
                        self._move(step, flow, transfer, state, {}, by="data plane", signal="DONE")
                        self._tell(step, flow, "completed", state)
                    else:
                        # an error moves nothing: whether to end the flow is the control plane's matter
                        step.update(FLOWS, {"id": pid}, {"error": reason})
                        self._tell(step, flow, "errored", flow.state, error=reason)
        except Refused as error:
            if error.code == "exchange.process-unknown":
                return False
            raise
        return True

    async def get(self, participant: str, flow_id: str) -> Flow:
        """A flow. Raises Refused ``exchange.process-unknown``."""
        row = await self._hosting.records.row(
            select(FLOWS).where(and_(FLOWS.c.participant == participant, FLOWS.c.id == flow_id))
        )
        if row is None:
            raise Refused("exchange.process-unknown", pid=flow_id[:200])
        return _flow(row)

    async def all(self, participant: str) -> list[Flow]:
        """Flows, newest first."""
        rows = await self._hosting.records.rows(
            select(FLOWS).where(FLOWS.c.participant == participant).order_by(FLOWS.c.changed_at.desc())
        )
        return [_flow(row) for row in rows]

    async def audience(self, participant: str, pid: str) -> str:
        """Who a token renewal of a flow must be meant for: the participant that the control plane acts for; empty for other transfers."""
        try:
            return (await self.get(participant, pid)).participant_id
        except Refused:
            return ""

    # -- senders of the outbox

    async def carry_signal(self, participant: str, message: Message, attempt: int) -> None:
        """Tell the control plane what became of a flow."""
        payload = message.payload
        url = f"{payload['control_plane']}/transfers/{in_path(payload['process'])}/dataflow/{payload['path']}"
        response = await self.call("POST", url, payload["body"])
        verdict_of(response.status, attempt, first=True, partner=url, message=f"dataflow/{payload['path']}")

    async def carry_pull(self, participant: str, message: Message, attempt: int) -> None:
        """Fetch the data of a started consumer's flow into our own log, then complete the flow."""
        pid = str(message.payload["pid"])
        transfer = await self._transfers.processes.get(participant, pid)
        inbox = self._pushes.inbox
        if transfer.state != "STARTED" or inbox is None:
            return
        try:
            pieces: AsyncIterator[bytes] = self._plane.pull_bytes(participant, pid)
            async with aclosing(pieces):  # type: ignore[type-var]
                await inbox(participant, transfer, "application/vnd.apache.arrow.stream", pieces)
        except Retryable:
            raise
        except GuantongError as error:
            await self.ended(participant, pid, "terminate", error.message("en")[:500])
            raise
        await self.ended(participant, pid, "complete", "")

    async def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """A request to the control plane, with the key we share."""
        headers = {"content-type": "application/json", "accept": "application/json"}
        key = self._hosting.settings.signaling_key
        if key:
            headers["authorization"] = f"Bearer {key}"
        return await self._hosting.http.request(
            method, url, body=None if body is None else orjson.dumps(dict(body)), headers=headers, max_bytes=1024 * 1024
        )

    async def register(self, participant: str, control_plane: str, *, labels: tuple[str, ...] = ()) -> None:
        """Tell a control plane that we are here (``PUT /dataplanes``); told again, it replaces what was told before.

        Raises Refused ``exchange.answer-unusable`` and what ``Http`` raises.
        """
        address = self._hosting.hosted(participant).address
        body: dict[str, Any] = {
            "dataplaneId": participant,
            "endpoint": f"{address}/signaling",
            "profiles": list(PROFILES),
            "authorization": [],
        }
        if labels:
            body["labels"] = list(labels)
        response = await self.call("PUT", f"{checked_address(control_plane)}/dataplanes", body)
        verdict_of(response.status, 8, first=False, partner=control_plane, message="DataPlaneRegistrationMessage")

    # -- inside

    async def _begin(self, participant: str, body: Mapping[str, Any], role: str) -> tuple[int, dict[str, Any]]:
        hosting = self._hosting
        kind = "DataFlowPrepareMessage" if role == "consumer" else "DataFlowStartMessage"
        missing = [name for name in _REQUIRED if not isinstance(body.get(name), str) or not 0 < len(body[name]) <= 1024]
        if missing or not isinstance(body.get("claims"), Mapping):
            raise _invalid(kind, f"{', '.join(missing) or 'claims'}: missing or no text")
        form = PROFILES.get(body["profile"])
        if form is None:
            raise _invalid(kind, f"profile: {body['profile'][:100]} is not served here")
        if len(body["processId"]) > 128 or len(body["agreementId"]) > 128 or len(body["datasetId"]) > 255:
            raise _invalid(kind, "an identifier is too long")
        if await hosting.records.row(
            select(FLOWS.c.id).where(and_(FLOWS.c.participant == participant, FLOWS.c.process_id == body["processId"]))
        ):
            raise Refused("exchange.flow-known", process=body["processId"][:200])
        if await hosting.records.row(
            select(AGREEMENTS.c.id).where(
                and_(
                    AGREEMENTS.c.participant == participant,
                    AGREEMENTS.c.id == body["agreementId"],
                    AGREEMENTS.c.negotiation_pid != "",
                )
            )
        ):
            raise _invalid(kind, "agreementId: an agreement of our own has this identifier")
        given = body.get("dataAddress")
        flow = Flow(
            id=hosting.new_id(),
            role=role,
            process_id=body["processId"],
            participant_id=body["participantId"],
            counter_party=body["counterPartyId"][:255],
            agreement_id=body["agreementId"],
            dataset_id=body["datasetId"],
            profile=body["profile"],
            state=machine.START,
            control_plane=await self.control_plane(participant),
            error="",
            changed_at=hosting.clock.now(),
        )
        target: dict[str, Any] = {}
        if role == "provider":
            if form == PULL and given:
                raise _invalid(kind, "dataAddress: the data are pulled here, so nobody may name an address")
            if form != PULL:
                target = _target(flow, given)["data_address"]
        document = await self._agreed(participant, flow)
        async with hosting.records.step(participant) as step:
            # the decision reads it: what the control plane says it has agreed is on record whether or not we then serve it
            self._keep_agreement(step, flow, document)
        if role == "provider":
            await self._allowed(participant, flow, document, body["claims"])
        waits = f"{'prepare' if role == 'consumer' else 'start'}-flow" not in hosting.settings.auto
        verb = ("prepare" if role == "consumer" else "start") + (" later" if waits else "")
        state = machine.next_state(flow.state, role, verb)
        address: dict[str, Any] | None = None
        async with hosting.records.step(participant) as step:
            transfer = new_transfer(
                flow.id,
                role,
                partner=flow.counter_party,
                partner_pid=flow.process_id,
                address="",
                agreement_id=flow.agreement_id,
                dataset_id=flow.dataset_id,
                form=form,
                at=step.at,
                data_address=target,
            )
            self._transfers.insert(step, transfer)
            step.insert(
                FLOWS,
                id=flow.id,
                role=role,
                process_id=flow.process_id,
                participant_id=flow.participant_id,
                counter_party=flow.counter_party,
                agreement_id=flow.agreement_id,
                dataset_id=flow.dataset_id,
                profile=flow.profile,
                state=flow.state,
                control_plane=flow.control_plane,
                error="",
                changed_at=step.at,
            )
            changes: dict[str, Any] = {"data_address": target} if target else {}
            if not waits:
                address, opened = self._opened(step, participant, flow)
                changes.update(opened)
            self._move(step, flow, transfer, state, changes, by="control plane", signal=verb, new=True)
            if state == "STARTED":
                self._run(step, participant, flow, flow.id)
        return (202 if waits else 200), self._status(flow.id, state, address)

    async def _agreed(self, participant: str, flow: Flow) -> dict[str, Any]:
        """What was agreed, as the control plane tells it; without an answer only its identifiers are known."""
        document: dict[str, Any] = {}
        if flow.control_plane:
            try:
                url = f"{flow.control_plane}/transfers/{in_path(flow.process_id)}/agreement"
                response = await self.call("GET", url)
                found = orjson.loads(response.body) if response.status == 200 else {}
                document = found if isinstance(found, dict) else {}
            except (GuantongError, orjson.JSONDecodeError):
                document = {}  # control planes in use do not all tell it
        if not document.get("permission") and not document.get("prohibition"):
            document = {"permission": [{"action": "use"}]}
        document = {
            "@type": "Agreement",
            **document,
            "@id": flow.agreement_id,
            "target": flow.dataset_id,
        }
        compile_policy(document)
        return document

    async def _allowed(
        self, participant: str, flow: Flow, document: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> None:
        hosting = self._hosting
        if await hosting.rights(participant, flow.dataset_id) is None:
            raise Refused("exchange.no-rights", dataset=flow.dataset_id)
        terms, facts = compile_policy(document), hosting.facts(participant, flow.counter_party, claims)
        refusal = terms.refusal("access", facts)
        if not refusal:
            verdict = await hosting.decide(
                Access(
                    participant,
                    flow.counter_party,
                    "transfer",
                    flow.dataset_id,
                    flow.agreement_id,
                    "",
                    facts.at,
                    claims,
                    facts=facts.context(terms.needs),
                )
            )
            refusal = "" if verdict.allowed else verdict.reason
        if refusal:
            raise Refused("exchange.decision-denied", reason=refusal)

    def _keep_agreement(self, step: Step, flow: Flow, document: Mapping[str, Any]) -> None:
        step.upsert(
            AGREEMENTS,
            id=flow.agreement_id,
            role=flow.role,
            partner=flow.counter_party,
            partner_address="",
            dataset_id=flow.dataset_id,
            product_id="",
            agreement=orjson.dumps(dict(document)),
            agreement_hash=digest(dict(document)),
            policy_hash=policy_hash(document),
            terms="",
            price=b"{}",
            state="final",
            agreed_at=step.at,
            changed_at=step.at,
            negotiation_pid="",
        )

    def _opened(self, step: Step, participant: str, flow: Flow) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """The address that the flow opens here (provider's pull, consumer's push), with the changes of its transfer."""
        form = PROFILES[flow.profile]
        if flow.role == "provider" and form == PULL:
            return self._grant(step, participant, flow)
        if flow.role == "consumer" and form == PUSH:
            token = b64url(self._hosting.records.random(32))
            endpoint = f"{self._hosting.hosted(participant).address}/inbox/{in_path(flow.id)}"
            kind = flow.profile if flow.profile == HTTP_PUSH else "HttpData"
            return data_address(endpoint, token, None, kind=kind), {"token_hash": token_hash(token)}
        return None, {}

    def _grant(self, step: Step, participant: str, flow: Flow) -> tuple[dict[str, Any], dict[str, Any]]:
        hosting = self._hosting
        token, refresh = (b64url(hosting.records.random(32)) for _ in range(2))
        lifetime = hosting.settings.access_lifetime_s
        endpoint = f"{hosting.hosted(participant).address}/data/{in_path(flow.id)}"
        step.upsert(RENEWALS, pid=flow.id, refresh_hash=token_hash(refresh), changed_at=step.at)
        kind = {"kind": HTTP_PULL} if flow.profile == HTTP_PULL else {}
        address = data_address(
            endpoint,
            token,
            lifetime,
            refresh_token=refresh,
            refresh_endpoint=f"{endpoint}/token",
            audience=flow.participant_id,
            **kind,
        )
        return address, {"token_hash": token_hash(token), "token_expires": step.at + lifetime * NS}

    def _run(self, step: Step, participant: str, flow: Flow, key: str) -> None:
        """What a flow that has just started does by itself: a push leaves, a consumer's pull begins."""
        form = PROFILES[flow.profile]
        kind = ""
        if flow.role == "provider" and form != PULL:
            kind = PUSH_KIND
        elif flow.role == "consumer" and form == PULL:
            kind = PULL_KIND
        if kind:
            step.send(Message(f"{flow.counter_party} flow {flow.id}", kind, f"{flow.id} {key}", {"pid": flow.id}))

    def _move(
        self,
        step: Step,
        flow: Flow,
        transfer: Transfer,
        state: str,
        changes: Mapping[str, Any],
        *,
        by: str,
        signal: str,
        reason: str = "",
        new: bool = False,
    ) -> None:
        values = dict(changes)
        if state in machine.TERMINAL:
            values.update(_CLOSED)
        step.move(FLOWS, {"id": flow.id}, state, was=flow.state)
        mirrored = state if state in ("STARTED", "SUSPENDED", "COMPLETED", "TERMINATED") else "REQUESTED"
        moved = self._transfers.processes.move(step, transfer, mirrored, **values)
        self._transfers.processes.becomes(step, moved, new=new)
        body = {
            "flow": flow.id,
            "process": flow.process_id,
            "role": flow.role,
            "partner": flow.counter_party,
            "dataset": flow.dataset_id,
            "state": state,
            "by": by,
            "message": signal,
        }
        if reason:
            body["reason"] = reason[:1000]
        step.record(Entry(FLOW_MOVED, body))

    def _tell(
        self,
        step: Step,
        flow: Flow,
        path: str,
        state: str,
        *,
        address: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> None:
        if not flow.control_plane:
            return
        body = self._status(flow.id, state, address, error)
        step.send(
            Message(
                f"{flow.control_plane} flow {flow.id}",
                SIGNAL_KIND,
                str(body["messageId"]),
                {"control_plane": flow.control_plane, "process": flow.process_id, "path": path, "body": body},
            )
        )

    def _status(
        self, flow_id: str, state: str, address: Mapping[str, Any] | None = None, error: str = ""
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"messageId": self._hosting.new_id(), "dataFlowId": flow_id, "state": state}
        if address:
            body["dataAddress"] = dict(address)
        if error:
            body["error"] = error
        return body


def _taken(flow: Flow, given: object) -> dict[str, Any]:
    """The provider's address in a ``started`` signal. The HTTP profile asks for renewal; others take what there is."""
    if PROFILES[flow.profile] != PULL or not given:
        return {}
    if not isinstance(given, Mapping):
        raise _invalid("DataFlowStartedNotificationMessage", "dataAddress: is no object")
    found = properties_of(given)
    if found.get("endpoint"):
        checked_endpoint(found["endpoint"])
    if flow.profile == HTTP_PULL:
        missing = [name for name in ("authorization", "refreshToken", "expiresIn") if not found.get(name)]
        if missing or not found["expiresIn"].isdigit():
            raise _invalid("DataAddress", f"{', '.join(missing) or 'expiresIn'}: the http-pull profile needs it")
    return {"data_address": dict(given)}


def _target(flow: Flow, given: object) -> dict[str, Any]:
    from guantong.exchange.push import target_of

    if PROFILES[flow.profile] == PULL:
        return {}
    if not isinstance(given, Mapping):
        raise _invalid("DataFlowStartMessage", "dataAddress: is missing, where should the data go?")
    target_of(PROFILES[flow.profile], given)
    return {"data_address": dict(given)}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value[:1000] if isinstance(value, str) else ""


def _flow(row: Row) -> Flow:
    return Flow(**{name: row[name] for name in Flow.__dataclass_fields__})


def _invalid(message: str, reason: str) -> Refused:
    return Refused("exchange.message-invalid", message=message, reason=reason)
