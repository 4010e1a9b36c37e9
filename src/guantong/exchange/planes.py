"""Somebody else's data planes under our control plane: our half of Data Plane Signaling 1.0.

A plane registers with the key that we share, a person says which dataset it serves, and from then on the transfers of that dataset are
started, suspended, resumed and ended there: each signal is a message of the outbox, queued in the step that moves the transfer. The data
do not pass through this node, so it makes no receipts of them; decisions and terms are checked before a flow is started all the same.

Source: Data Plane Signaling 1.0, Data Flow API, Control Plane Endpoint, Registration.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.errors import GuantongError, Refused
from guantong.exchange.hosting import Hosting, checked_address, in_path, verdict_of
from guantong.exchange.signaling import PROFILES
from guantong.exchange.tables import PLANE_DATASETS, PLANE_FLOWS, PLANES
from guantong.exchange.transfers import PULL
from guantong.records.model import Message
from guantong.records.service import Row, Step

if TYPE_CHECKING:
    from guantong.exchange.model import Transfer
    from guantong.exchange.negotiations import Negotiations
    from guantong.exchange.transfers import Transfers

__all__ = ["PLANE_KIND", "Plane", "PlaneFlow", "Planes"]

PLANE_KIND = "exchange.plane"
"""Kind of the outbox message that signals a data plane."""

_SIGNALS: Mapping[str, str] = {"completion": "completed", "suspension": "suspend", "termination": "terminate"}
"""What a message of the transfer is for its data flow."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A data plane that registered here."""

    id: str
    endpoint: str
    profiles: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def profile_of(self, form: str) -> str:
        """The profile that serves a transfer format, empty where none does."""
        named = (name for name in self.profiles if name == form or PROFILES.get(name, name) == form)
        return next(named, "")


@dataclass(frozen=True, slots=True)
class PlaneFlow:
    """The data flow of one of our transfers, as its plane tells it."""

    pid: str
    plane: str
    flow_id: str
    profile: str
    state: str
    error: str


class Planes:
    """The data planes of every hosted participant."""

    def __init__(self, hosting: Hosting, transfers: Transfers, negotiations: Negotiations) -> None:
        self._hosting = hosting
        self._transfers = transfers
        self._negotiations = negotiations
        self._planes: dict[tuple[str, str], Plane] = {}
        self._serving: dict[tuple[str, str], str] = {}
        transfers.planes = self

    async def start(self) -> None:
        """Read what is registered."""
        for row in await self._hosting.records.rows(select(PLANES)):
            self._planes[(row["participant"], row["id"])] = _plane(row)
        for row in await self._hosting.records.rows(select(PLANE_DATASETS)):
            self._serving[(row["participant"], row["dataset_id"])] = row["plane"]

    # -- registration

    def allow(self, authorization: str) -> None:
        """Let a data plane in, by the key it shares with us. Raises Refused ``exchange.token-refused``."""
        key = self._hosting.settings.signaling_key
        given = authorization.removeprefix("Bearer ")
        if not key or not hmac.compare_digest(given.encode(), key.encode()):
            raise Refused("exchange.token-refused", reason="it is not the key of the data plane")

    async def register(self, participant: str, body: Mapping[str, Any]) -> None:
        """``PUT /dataplanes``: a plane is here; told again, it replaces what it told before. Raises Refused ``exchange.message-invalid``."""
        identifier, profiles, labels = body.get("dataplaneId"), body.get("profiles"), body.get("labels") or []
        if not isinstance(identifier, str) or not 0 < len(identifier) <= 255:
            raise _invalid("dataplaneId: must have 1 to 255 characters")
        for name, value in (("profiles", profiles), ("labels", labels)):
            if (
                not isinstance(value, list)
                or len(value) > 100
                or not all(isinstance(one, str) and 0 < len(one) <= 255 for one in value)
            ):
                raise _invalid(f"{name}: is no list of texts")
        if not profiles:
            raise _invalid("profiles: it serves none")
        # the schema requires the member, the prose does not; what it asks for beside the shared key we can't give
        if body.get("authorization") not in (None, []):
            raise _invalid("authorization: only the shared key is spoken here, leave the list empty")
        plane = Plane(identifier, checked_address(body.get("endpoint")), tuple(profiles or ()), tuple(labels))
        async with self._hosting.records.step(participant) as step:
            step.upsert(
                PLANES,
                id=plane.id,
                endpoint=plane.endpoint,
                profiles=orjson.dumps(plane.profiles),
                labels=orjson.dumps(plane.labels),
                changed_at=step.at,
            )
        self._planes[(participant, plane.id)] = plane

    async def remove(self, participant: str, plane_id: str) -> None:
        """``DELETE /dataplanes/:id``. Transfers of its datasets wait for a person then. Raises Refused ``exchange.plane-unknown``."""
        self._get(participant, plane_id)
        table = PLANES
        statement = table.delete().where(and_(table.c.participant == participant, table.c.id == plane_id))
        async with self._hosting.records.step(participant) as step:
            step.apply(lambda connection: connection.execute(statement))
        self._planes.pop((participant, plane_id), None)

    def all(self, participant: str) -> list[Plane]:
        """The planes that are registered, by their ids."""
        return [plane for (owner, _), plane in sorted(self._planes.items()) if owner == participant]

    async def serve(self, participant: str, dataset_id: str, plane_id: str) -> None:
        """Let a plane serve a dataset from now on; an empty ``plane_id``: this node serves it itself again.

        Raises Refused ``exchange.plane-unknown``.
        """
        if plane_id:
            self._get(participant, plane_id)
        async with self._hosting.records.step(participant) as step:
            step.upsert(PLANE_DATASETS, dataset_id=dataset_id, plane=plane_id, changed_at=step.at)
        self._serving[(participant, dataset_id)] = plane_id

    def formats(self, participant: str, dataset_id: str) -> tuple[str, ...] | None:
        """The formats in which a plane serves a dataset, each once; None where this node serves it itself."""
        plane_id = self._serving.get((participant, dataset_id), "")
        if not plane_id:
            return None
        plane = self._planes.get((participant, plane_id))
        return tuple(dict.fromkeys(PROFILES.get(name, name) for name in plane.profiles)) if plane else ()

    def serving(self, participant: str, dataset_id: str) -> bool:
        """Whether somebody else's plane serves a dataset."""
        return bool(self._serving) and bool(self._serving.get((participant, dataset_id)))

    # -- what a transfer's moves mean to its plane, in the step that makes them

    def begin(self, step: Step, transfer: Transfer) -> None:
        """Ask the plane to start (as provider) or to prepare (as consumer) a flow; its answer moves the transfer.

        Raises Refused ``exchange.plane-unknown``.
        """
        participant = step.participant
        plane_id = self._serving.get((participant, transfer.dataset_id), "")
        plane = self._get(participant, plane_id)
        step.upsert(
            PLANE_FLOWS,
            pid=transfer.pid,
            plane=plane.id,
            flow_id="",
            profile=plane.profile_of(transfer.format),
            state="INITIALIZED",
            error="",
            changed_at=step.at,
        )
        self._signal(step, transfer, "start" if transfer.role == "provider" else "prepare")

    def follow(self, step: Step, transfer: Transfer, word: str) -> None:
        """Tell the plane what a message of the transfer means to its flow."""
        if not self.serving(step.participant, transfer.dataset_id):
            return
        if word == "start":
            verb = "resume" if transfer.state == "SUSPENDED" else "started" if transfer.role == "consumer" else ""
        else:
            verb = _SIGNALS.get(word, "")
        if verb:
            self._signal(step, transfer, verb)

    def resume(self, step: Step, transfer: Transfer) -> None:
        """Ask the plane of a suspended transfer of ours, as provider, to go on; its answer, with a new address, moves the transfer."""
        self._signal(step, transfer, "resume")

    def _signal(self, step: Step, transfer: Transfer, verb: str) -> None:
        key = self._hosting.new_id()
        step.send(
            Message(f"plane {transfer.pid}", PLANE_KIND, key, {"pid": transfer.pid, "verb": verb, "message": key})
        )

    # -- sender of the outbox

    async def carry(self, participant: str, message: Message, attempt: int) -> None:
        """Signal the plane, and do what its answer says."""
        pid, verb = str(message.payload["pid"]), str(message.payload["verb"])
        flow = await self.flow(participant, pid)
        plane = self._get(participant, flow.plane)
        transfer = await self._transfers.processes.get(participant, pid)
        body: dict[str, Any] = {"messageId": message.payload["message"]}
        if verb in ("prepare", "start"):
            if transfer.state != "REQUESTED":
                return  # it ended before its flow began
            body |= await self._whole(participant, transfer, flow)
            url = f"{plane.endpoint}/dataflows/{verb}"
        elif not flow.flow_id:
            return  # the plane never named a flow: there is none to signal
        else:
            url = f"{plane.endpoint}/dataflows/{in_path(flow.flow_id)}/{verb}"
            if verb in ("started", "resume") and transfer.role == "consumer" and transfer.data_address:
                body["dataAddress"] = dict(transfer.data_address)
            if verb in ("suspend", "terminate") and transfer.reason:
                body["reason"] = transfer.reason
        headers = {"content-type": "application/json", "accept": "application/json"}
        headers["authorization"] = f"Bearer {self._hosting.settings.signaling_key}"
        response = await self._hosting.http.request(
            "POST", url, body=orjson.dumps(body), headers=headers, max_bytes=1024 * 1024
        )
        try:
            verdict_of(response.status, attempt, first=False, partner=plane.id, message=f"dataflows/{verb}")
        except Refused:
            text = response.body[:300].decode("utf-8", "replace")
            if verb in ("prepare", "start", "started", "resume"):
                await self._failed(participant, pid, f"the data plane refused {verb}: {response.status} {text}")
            raise
        try:
            answer = orjson.loads(response.body) if response.body else {}
        except orjson.JSONDecodeError:
            answer = {}
        if verb in ("prepare", "start", "resume"):
            await self._told(participant, pid, answer if isinstance(answer, dict) else {}, asked=verb)

    async def _whole(self, participant: str, transfer: Transfer, flow: PlaneFlow) -> dict[str, Any]:
        """The members of a prepare or start message."""
        body: dict[str, Any] = {
            "participantId": participant,
            "counterPartyId": transfer.partner,
            "dataspaceContext": "dataspace",
            "processId": transfer.pid,
            "agreementId": transfer.agreement_id,
            "datasetId": transfer.dataset_id,
            "profile": flow.profile,
            "claims": {},
        }
        if transfer.role == "provider" and transfer.format != PULL and transfer.data_address:
            body["dataAddress"] = dict(transfer.data_address)
        return body

    # -- callbacks of the plane

    async def callback(self, participant: str, pid: str, what: str, body: Mapping[str, Any]) -> None:
        """``POST /transfers/:id/dataflow/:what``. Raises Refused ``exchange.process-unknown`` or ``exchange.message-invalid``."""
        flow = await self.flow(participant, pid)
        given = body.get("dataFlowId")
        # a callback of the signaling kit comes without messageId; a flow that is named must be this one
        if flow.flow_id and isinstance(given, str) and given not in ("", flow.flow_id):
            raise _invalid("dataFlowId: is another flow's")
        if what in ("prepared", "started"):
            await self._told(participant, pid, body, asked="prepare" if what == "prepared" else "start")
        elif what == "completed":
            await self._note(participant, pid, state="COMPLETED")
            await self._decide(participant, pid, "complete")
        elif what == "errored":
            # an error moves nothing and is not forwarded: what follows from it is a person's matter
            error = body.get("error")
            await self._note(participant, pid, error=error[:1000] if isinstance(error, str) else "unnamed")
        else:
            raise _invalid(f"there is no callback {what[:60]}")

    async def agreement(self, participant: str, pid: str) -> dict[str, Any]:
        """``GET /transfers/:id/agreement``: what was agreed, for the plane to enforce. Raises Refused ``exchange.process-unknown``."""
        await self.flow(participant, pid)
        transfer = await self._transfers.processes.get(participant, pid)
        return dict((await self._negotiations.agreement(participant, transfer.agreement_id)).agreement)

    async def flow(self, participant: str, pid: str) -> PlaneFlow:
        """The flow of a transfer. Raises Refused ``exchange.process-unknown``."""
        table = PLANE_FLOWS
        row = await self._hosting.records.row(
            select(table).where(and_(table.c.participant == participant, table.c.pid == pid))
        )
        if row is None:
            raise Refused("exchange.process-unknown", pid=pid[:200])
        return PlaneFlow(**{name: row[name] for name in PlaneFlow.__dataclass_fields__})

    # -- inside

    async def _told(self, participant: str, pid: str, answer: Mapping[str, Any], *, asked: str) -> None:
        state, flow_id, address = answer.get("state"), answer.get("dataFlowId"), answer.get("dataAddress")
        if asked == "resume":
            state = state or "STARTED"
        known = state if isinstance(state, str) and len(state) <= 16 else ""
        await self._note(
            participant, pid, state=known, flow_id=flow_id if isinstance(flow_id, str) and len(flow_id) <= 255 else ""
        )
        transfer = await self._transfers.processes.get(participant, pid)
        given = dict(address) if isinstance(address, Mapping) else {}
        if given:
            # examples of the standard leave the types out, the Dataspace Protocol requires them
            given.setdefault("@type", "DataAddress")
            entries = given.get("endpointProperties")
            if isinstance(entries, list):
                given["endpointProperties"] = [
                    {"@type": "EndpointProperty", **entry} for entry in entries if isinstance(entry, dict)
                ]
                if not given["endpointProperties"]:
                    del given["endpointProperties"]
        try:
            if known == "STARTED" and transfer.role == "provider":
                await self._transfers.decide(participant, pid, "start", address=given)
            elif known == "PREPARED" and transfer.role == "consumer":
                await self._transfers.prepared(participant, pid, given)
        except Refused as error:
            if error.code != "exchange.transition-refused":
                raise  # the transfer moved on meanwhile: the plane hears of that by its own signal

    async def _failed(self, participant: str, pid: str, reason: str) -> None:
        await self._note(participant, pid, error=reason)
        await self._decide(participant, pid, "terminate", reason)

    async def _decide(self, participant: str, pid: str, verb: str, reason: str = "") -> None:
        try:
            await self._transfers.decide(participant, pid, verb, reason=reason)
        except Refused as error:
            if error.code != "exchange.transition-refused":
                raise

    async def _note(self, participant: str, pid: str, **values: str) -> None:
        kept = {name: value for name, value in values.items() if value}
        if kept:
            async with self._hosting.records.step(participant) as step:
                step.update(PLANE_FLOWS, {"pid": pid}, {**kept, "changed_at": step.at})

    def _get(self, participant: str, plane_id: str) -> Plane:
        found = self._planes.get((participant, plane_id))
        if found is None:
            raise Refused("exchange.plane-unknown", plane=plane_id[:200])
        return found


def _plane(row: Row) -> Plane:
    return Plane(row["id"], row["endpoint"], tuple(orjson.loads(row["profiles"])), tuple(orjson.loads(row["labels"])))


def _invalid(reason: str) -> GuantongError:
    return Refused("exchange.message-invalid", message="DataPlaneRegistrationMessage", reason=reason)
