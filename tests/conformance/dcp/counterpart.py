"""A real node's exchange that the Decentralized Claims Protocol kit talks to: it asks callers for a membership credential.

Nothing of the exchange is replaced: the kit's issuer is in the settings as the one trusted issuer, its membership as the required
credential, and the kit's trigger is the node's own ``/catalog/request``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from guantong.base.clock import SystemClock
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange.identity import Identity
from guantong.exchange.model import ExchangeSettings, Product
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.service import Exchange
from guantong.records import METADATA, Records
from guantong.records.outbox import Outbox
from guantong.web.client import AiohttpClient
from guantong.web.model import WebSettings
from guantong.web.server import WebServer

MEMBERSHIP = "org.eclipse.dspace.dcp.vc.type:MembershipCredential:read"
"""The kit takes scopes of three parts; the specification's has two."""


class Counterpart:
    """The node under test. ``await start(folder, kit_port)`` serves it on a free port of the loopback."""

    def __init__(self) -> None:
        self.requests = 0
        self.address = ""
        self.did = ""

    async def start(self, folder: Path, kit_port: int) -> None:
        settings = WebSettings()
        self._server = WebServer(settings)
        port = await self._server.start(self, "127.0.0.1", 0)
        self.address = f"http://localhost:{port}"
        self.did = f"did:web:localhost%3A{port}"
        kit = f"did:web:localhost%3A{kit_port}"
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
            ExchangeSettings(
                required_credentials=(MEMBERSHIP,),
                trusted_issuers=(f"{kit}:issuer",),
                presented_credentials=("MembershipCredential", "SensitiveDataCredential"),
                issued_credentials=("MembershipCredential", "SensitiveDataCredential"),
            ),
            decide=_allow,
            rights=_rights,
        )
        self.exchange.host(Identity(self.did, P256Key.generate(), Ed25519Key.generate()), self.address)
        self._app = Starlette(routes=self.exchange.routes(self.did))
        await self.exchange.start()
        await self.exchange.offer(
            self.did, Product(id="spindle", dataset_id="spindle", policy={"permission": [{"action": "use"}]})
        )
        for kind in ("MembershipCredential", "SensitiveDataCredential"):
            await self.exchange.issuer.admit(self.did, f"{kit}:holder", kind)
        await self._outbox.start()

    async def stop(self) -> None:
        await self._server.stop()
        await self.exchange.stop()
        await self._outbox.stop()
        await self._http.close()
        self._records.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.requests += 1
        await self._app(scope, receive, send)


async def _allow(access: Access) -> Verdict:
    return Verdict(allowed=True, reason="the kit's counterpart allows everything")


async def _rights(participant: str, dataset_id: str) -> Mapping[str, Any]:
    return {"holder": participant, "source": "made for the kit"}


def properties(node: Counterpart, kit_port: int, package: str) -> dict[str, str]:
    """The kit's configuration for one of its packages. Source: Eclipse Dataspace TCK, DCP, configuration."""
    found = {
        "dataspacetck.launcher": "org.eclipse.dataspacetck.dcp.system.DcpSystemLauncher",
        "dataspacetck.host": "0.0.0.0",
        "dataspacetck.port": str(kit_port),
        "dataspacetck.callback.address": f"http://localhost:{kit_port}",
        "dataspacetck.credentials.correlation.id": "membership-of-the-kit",
    }
    if package.endswith("verifier"):
        found["dataspacetck.did.verifier"] = node.did
        found["dataspacetck.vpp.trigger.endpoint"] = f"{node.address}/dsp/2025-1/catalog/request"
    elif package.endswith("cs"):
        found["dataspacetck.did.holder"] = node.did
    else:
        found["dataspacetck.did.issuer"] = node.did
    return found
