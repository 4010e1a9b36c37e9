"""The exchange as other stages and pages use it (signatures)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guantong.base.clock import Clock
from guantong.base.ids import NewId, new_uuid
from guantong.base.wire import Http
from guantong.exchange.identity import Identity
from guantong.exchange.model import Agreement, Catalogue, ExchangeSettings, Negotiation, Product, Receipt, Transfer
from guantong.exchange.ports import Answerer, Decide, Identify, RightsOf, Rows, deny_all, no_rights, no_rows
from guantong.records.outbox import Outbox
from guantong.records.service import Records

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.routing import BaseRoute

__all__ = ["Exchange"]


class Exchange:
    """One exchange serves every participant of the node. ``participant`` (a DID) is the first argument of every verb."""

    def __init__(
        self,
        records: Records,
        outbox: Outbox,
        clock: Clock,
        http: Http,
        settings: ExchangeSettings | None = None,
        *,
        decide: Decide = deny_all,
        rights: RightsOf = no_rights,
        rows: Rows = no_rows,
        identify: Identify | None = None,
        new_id: NewId = new_uuid,
    ) -> None:
        raise NotImplementedError

    def host(self, identity: Identity, address: str) -> None:
        """Serve a participant whose root address (no trailing slash) is ``address``."""

    def routes(self, participant: str) -> list[BaseRoute]:
        """The routes of a hosted participant, to be mounted at the path of its address."""
        raise NotImplementedError

    def answer(self, kind: str, answerer: Answerer) -> None:
        """Let ``answerer`` answer partners' questions of a kind."""

    async def start(self) -> None:
        """Read what was left and begin."""

    async def stop(self) -> None:
        """End open deliveries."""

    # provider's products
    async def offer(self, participant: str, product: Product) -> str:
        """Put a product on offer; the offer's id."""
        raise NotImplementedError

    async def withdraw(self, participant: str, product_id: str) -> None: ...
    async def products(self, participant: str) -> list[Product]:
        raise NotImplementedError

    # consumer's verbs
    async def catalogue(self, participant: str, partner_address: str, partner: str) -> Catalogue:
        """``partner_address`` is the partner's protocol base (``https://host/dsp/2025-1``), ``partner`` its DID."""
        raise NotImplementedError

    async def negotiate(self, participant: str, partner_address: str, partner: str, offer: Mapping[str, Any]) -> str:
        raise NotImplementedError

    async def wait_negotiation(
        self, participant: str, pid: str, *, states: Sequence[str] = ("FINALIZED", "TERMINATED"), timeout_s: float = 30
    ) -> Negotiation:
        raise NotImplementedError

    async def request_transfer(self, participant: str, agreement_id: str, *, format: str = "HttpData-PULL") -> str:
        raise NotImplementedError

    async def wait_transfer(
        self, participant: str, pid: str, *, states: Sequence[str] = ("STARTED",), timeout_s: float = 30
    ) -> Transfer:
        raise NotImplementedError

    def pull(self, participant: str, transfer_id: str, *, purpose: str = "") -> AsyncIterator[pa.RecordBatch]:
        raise NotImplementedError

    async def ask(self, participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the partner of an agreement a question; its answer's body."""
        raise NotImplementedError

    # both roles
    async def negotiations(self, participant: str) -> list[Negotiation]:
        raise NotImplementedError

    async def negotiation(self, participant: str, pid: str) -> Negotiation:
        raise NotImplementedError

    async def decide_negotiation(
        self, participant: str, pid: str, verb: str, *, offer: Mapping[str, Any] | None = None, reason: str = ""
    ) -> None:
        """``verb``: request, offer, accept, agree, verify, finalize, terminate."""

    async def transfers(self, participant: str) -> list[Transfer]:
        raise NotImplementedError

    async def transfer(self, participant: str, pid: str) -> Transfer:
        raise NotImplementedError

    async def decide_transfer(self, participant: str, pid: str, verb: str, *, reason: str = "") -> None:
        """``verb``: start, suspend, complete, terminate."""

    async def agreements(self, participant: str) -> list[Agreement]:
        raise NotImplementedError

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        raise NotImplementedError

    async def receipts(self, participant: str, agreement_id: str) -> list[Receipt]:
        """Oldest first."""
        raise NotImplementedError

    def on_change(self, tell: Callable[[str, str, str], None]) -> None:
        """Call ``tell(participant, pid, state)`` after each durable change of a process."""
