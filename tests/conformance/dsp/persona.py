"""The kit's counterpart: a real node whose decisions follow the kit's script instead of rules, and which knows ``TCK_PARTICIPANT``.

Everything here lives in tests only. The exchange is the product's, without any special case: the persona takes turns through the same
verbs that a person's page calls (``decide_negotiation``, ``decide_transfer``) about half a second after a state was reached, because the
kit listens for a push only some time after it has our answer (see ``facts``: handlers are registered after a poll of 100 ms).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from guantong.base.canonical import digest
from guantong.base.clock import SystemClock, iso
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange.identity import Identity
from guantong.exchange.model import ExchangeSettings, Participant, Product
from guantong.exchange.policy import policy_hash
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.service import Exchange
from guantong.exchange.tables import AGREEMENTS
from guantong.records import METADATA, Records
from guantong.records.outbox import Outbox
from guantong.web.client import AiohttpClient
from guantong.web.model import WebSettings
from guantong.web.server import WebServer

TCK = "TCK_PARTICIPANT"
PAUSE_S = 0.5
USE = {"permission": [{"action": "use"}]}

PROVIDER_NEGOTIATIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    # dataset: state reached → what to do, in order of visits
    "ACN0101": {"REQUESTED": ("offer",)},
    "ACN0102": {"REQUESTED": ("offer", "terminate")},
    "ACN0103": {"REQUESTED": ("offer",), "ACCEPTED": ("agree",), "VERIFIED": ("finalize",)},
    "ACN0104": {"REQUESTED": ("agree",), "VERIFIED": ("finalize",)},
    "ACN0201": {"REQUESTED": ("terminate",)},
    "ACN0202": {},
    "ACN0203": {"REQUESTED": ("agree",)},
    "ACN0204": {"REQUESTED": ("offer",)},
    "ACN0205": {"REQUESTED": ("offer",), "OFFERED": ("terminate",)},
    "ACN0206": {"REQUESTED": ("offer",), "ACCEPTED": ("terminate",)},
    "ACN0207": {"REQUESTED": ("agree",), "VERIFIED": ("terminate",)},
    "ACN0301": {"REQUESTED": ("agree",), "VERIFIED": ("finalize",)},
    "ACN0302": {"REQUESTED": ("offer",)},
    "ACN0303": {"REQUESTED": ("offer",)},
    "ACN0304": {"REQUESTED": ("offer",)},
}
CONSUMER_NEGOTIATIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ACNC0101": {"OFFERED": ("accept",), "AGREED": ("verify",)},
    "ACNC0102": {"OFFERED": ("request",)},
    "ACNC0103": {"OFFERED": ("terminate",)},
    "ACNC0104": {"AGREED": ("verify",)},
    "ACNC0202": {"REQUESTED": ("terminate",)},
    "ACNC0203": {"AGREED": ("terminate",)},
    "ACNC0205": {"OFFERED": ("accept",)},
    "ACNC0206": {"AGREED": ("verify",)},
    "ACNC0304": {"OFFERED": ("accept",)},
    "ACNC0305": {"OFFERED": ("accept",)},
    "ACNC0306": {"OFFERED": ("accept",)},
}
PROVIDER_TRANSFERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ATP0101": {"REQUESTED": ("start",), "STARTED": ("terminate",)},
    "ATP0102": {"REQUESTED": ("start",), "STARTED": ("complete",)},
    "ATP0103": {"REQUESTED": ("start",), "STARTED": ("suspend",), "SUSPENDED": ("terminate",)},
    "ATP0104": {"REQUESTED": ("start",), "STARTED": ("suspend", "complete"), "SUSPENDED": ("start",)},
    "ATP0105": {"REQUESTED": ("terminate",)},
    **{f"ATP020{n}": {"REQUESTED": ("start",)} for n in (1, 2, 3, 4)},
    "ATP0205": {},
    "ATP0301": {},
    "ATP0302": {},
    **{f"ATP030{n}": {"REQUESTED": ("start",)} for n in (3, 4, 5, 6)},
}
CONSUMER_TRANSFERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    **{f"ATPC0{group}0{n}": {} for group in (1, 2, 3) for n in range(1, 7)},
    "ATPC0201": {"STARTED": ("terminate",)},
    "ATPC0202": {"STARTED": ("complete",)},
    "ATPC0203": {"STARTED": ("suspend",), "SUSPENDED": ("terminate",)},
    "ATPC0205": {"REQUESTED": ("terminate",)},
}


class Persona:
    """The node under test. ``await start(folder)`` serves it on a free port of the loopback."""

    def __init__(self) -> None:
        self.requests = 0
        self.address = ""
        self.did = ""
        self._visits: dict[tuple[str, str], int] = {}
        self._last: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, folder: Path, port: int = 0) -> None:
        settings = WebSettings()
        self._server = WebServer(settings)
        port = await self._server.start(self, "127.0.0.1", port)
        self.address = f"http://localhost:{port}"
        self.did = f"did:web:localhost%3A{port}"
        clock = SystemClock()
        self._records = Records(f"sqlite:///{folder / 'records.db'}", clock)
        self._records.open(METADATA.create_all)
        self._outbox = Outbox(self._records, clock)
        self._http = AiohttpClient(settings)
        self.exchange = Exchange(
            self._records,
            self._outbox,
            clock,
            self._http,
            ExchangeSettings(auto=()),
            decide=_allow,
            rights=_rights,
            identify=self._identify,
        )
        self.exchange.host(Identity(self.did, P256Key.generate(), Ed25519Key.generate()), self.address)
        self._app = Starlette(
            routes=[
                *self.exchange.routes(self.did),
                Route("/tck/negotiations/requests", self._begin_negotiation, methods=["POST"]),
                Route("/tck/transfers/requests", self._begin_transfer, methods=["POST"]),
            ]
        )
        await self.exchange.start()
        await self._seed()
        self.exchange.on_change(self._changed)
        await self._outbox.start()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop()
        await self.exchange.stop()
        await self._outbox.stop()
        await self._http.close()
        self._records.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.requests += 1
        await self._app(scope, receive, send)

    async def _identify(self, participant: str, authorization: str) -> Participant:
        return Participant(TCK)

    async def _seed(self) -> None:
        for dataset in (*PROVIDER_NEGOTIATIONS, "CAT0101", "CAT0102"):
            await self.exchange.offer(
                self.did, Product(id=dataset, dataset_id=dataset, policy=USE, offer=f"CD123:{dataset}:456")
            )
        for role, identifiers in (("provider", PROVIDER_TRANSFERS), ("consumer", CONSUMER_TRANSFERS)):
            for identifier in identifiers:
                assigner, assignee = (self.did, TCK) if role == "provider" else (TCK, self.did)
                async with self._records.step(self.did) as step:
                    document = {
                        "@id": identifier,
                        "@type": "Agreement",
                        "target": "CAT0101",
                        "assigner": assigner,
                        "assignee": assignee,
                        "timestamp": iso(step.at, digits=3),
                        **USE,
                    }
                    step.insert(
                        AGREEMENTS,
                        id=identifier,
                        role=role,
                        partner=TCK,
                        partner_address=self.address,
                        dataset_id="CAT0101",
                        product_id="CAT0101" if role == "provider" else "",
                        agreement=orjson.dumps(document),
                        agreement_hash=digest(document),
                        policy_hash=policy_hash(document),
                        terms="",
                        price=b"{}",
                        state="final",
                        agreed_at=step.at,
                        changed_at=step.at,
                        negotiation_pid="",
                    )

    # -- the kit tells us to begin

    async def _begin_negotiation(self, request: Request) -> JSONResponse:
        told = orjson.loads(await request.body())
        offer = {"@id": told["offerId"], "@type": "Offer", "target": told["datasetId"], **USE}
        pid = await self.exchange.negotiate(self.did, told["connectorAddress"], told["providerId"], offer)
        return JSONResponse({"id": pid})

    async def _begin_transfer(self, request: Request) -> JSONResponse:
        told = orjson.loads(await request.body())
        pid = await self.exchange.request_transfer(
            self.did, told["agreementId"], format=told["format"], address=told["connectorAddress"]
        )
        return JSONResponse({"id": pid})

    # -- the script

    def _changed(self, participant: str, pid: str, state: str) -> None:
        if self._last.get(pid) == state or pid.startswith("receipts "):
            return
        self._last[pid] = state
        task = asyncio.get_running_loop().create_task(self._follow(pid, state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, pid: str, state: str) -> None:
        try:
            negotiation = await self.exchange.negotiation(self.did, pid)
        except Exception:
            transfer = await self.exchange.transfer(self.did, pid)
            table = PROVIDER_TRANSFERS if transfer.role == "provider" else CONSUMER_TRANSFERS
            script, decide = table.get(transfer.agreement_id, {}), self.exchange.decide_transfer
        else:
            table = PROVIDER_NEGOTIATIONS if negotiation.role == "provider" else CONSUMER_NEGOTIATIONS
            script, decide = table.get(negotiation.dataset_id, {}), self.exchange.decide_negotiation
        visit = self._visits.get((pid, state), 0)
        self._visits[(pid, state)] = visit + 1
        verbs = script.get(state, ())
        if visit < len(verbs):
            await asyncio.sleep(PAUSE_S)
            try:
                await decide(self.did, pid, verbs[visit])
            except Exception:
                logging.getLogger("persona").exception("%s in %s", verbs[visit], state)


async def _allow(access: Access) -> Verdict:
    return Verdict(allowed=True, reason="the kit's counterpart allows everything")


async def _rights(participant: str, dataset_id: str) -> Mapping[str, Any]:
    return {"holder": participant, "source": "made for the kit"}


def properties(persona: Persona, callback_port: int) -> dict[str, str]:
    """The kit's configuration for the persona. Source: Eclipse Dataspace TCK, DSP, configuration."""
    base = f"{persona.address}/dsp/2025-1"
    found = {
        "dataspacetck.launcher": "org.eclipse.dataspacetck.dsp.system.DspSystemLauncher",
        "dataspacetck.host": "0.0.0.0",
        "dataspacetck.port": str(callback_port),
        "dataspacetck.callback.address": f"http://localhost:{callback_port}",
        "dataspacetck.dsp.connector.agent.id": persona.did,
        "dataspacetck.dsp.connector.http.url": base,
        "dataspacetck.dsp.connector.http.base.url": persona.address,
        "dataspacetck.dsp.connector.http.headers.authorization": "anybody",
        "dataspacetck.dsp.connector.negotiation.initiate.url": f"{persona.address}/tck/negotiations/requests",
        "dataspacetck.dsp.connector.transfer.initiate.url": f"{persona.address}/tck/transfers/requests",
        "dataspacetck.dsp.default.wait": "15",
        "CAT_01_01_DATASETID": "CAT0101",
        "CAT_01_02_DATASETID": "CAT0102",
        "CAT_01_03_DATASETID": "CAT0103",
    }
    for group, last in (("01", 4), ("02", 7), ("03", 4)):
        for n in range(1, last + 1):
            found[f"CN_{group}_0{n}_DATASETID"] = f"ACN{group}0{n}"
            found[f"CN_{group}_0{n}_OFFERID"] = f"CD123:ACN{group}0{n}:456"
    for group, last in (("01", 4), ("02", 6), ("03", 6)):
        for n in range(1, last + 1):
            found[f"CN_C_{group}_0{n}_DATASETID"] = f"ACNC{group}0{n}"
    for group, last in (("01", 5), ("02", 5), ("03", 6)):
        for n in range(1, last + 1):
            for prefix, ids in (("TP", "ATP"), ("TP_C", "ATPC")):
                found[f"{prefix}_{group}_0{n}_AGREEMENTID"] = f"{ids}{group}0{n}"
                found[f"{prefix}_{group}_0{n}_FORMAT"] = "HttpData-PULL"
    return found
