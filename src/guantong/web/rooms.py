"""Everything the pages read: the ten services and what stands beside them, in one frozen value that ``node`` fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guantong.connect.edges import Edges
    from guantong.connect.service import Connect
    from guantong.describe.service import Describe
    from guantong.exchange.relayed import Uplink
    from guantong.exchange.service import Exchange
    from guantong.fuse.service import Fuse
    from guantong.govern.service import Govern
    from guantong.keep.service import Keep
    from guantong.prove.figure_trade import FigureTrade
    from guantong.prove.figures import Figures
    from guantong.prove.service import Prove
    from guantong.records.outbox import Outbox
    from guantong.records.service import Records
    from guantong.settle.accounts import Accounts
    from guantong.settle.disputes import Disputes
    from guantong.settle.service import Settle
    from guantong.value.service import Value
    from guantong.watch.service import Watch

__all__ = ["Rooms"]


@dataclass(frozen=True, slots=True)
class Rooms:
    """One participant's node as the pages see it."""

    participant: str
    """DID of the participant."""
    name: str
    """Name of the company as people write it."""
    records: Records
    connect: Connect
    keep: Keep
    fuse: Fuse
    describe: Describe
    govern: Govern
    exchange: Exchange
    prove: Prove
    settle: Settle
    value: Value
    watch: Watch
    outbox: Outbox
    package: Callable[..., Awaitable[bytes]]
    """``await package(agreement_id, scope=None)``: the evidence package of an agreement, or a part of it, as the bytes of a zip file."""
    verify: Callable[[bytes], Awaitable[Mapping[str, Any]]]
    """``await verify(package_bytes)``: the stranger's verdict on a package, ``{"ok": bool, "signer": …, "checks": [...]}``."""
    receive: Callable[..., Awaitable[Mapping[str, Any]]] | None = None
    """``await receive(agreement_id, purpose=…)``: have an agreement's dataset delivered into the own log: ``pid``, ``state``, ``rows``."""
    backup: Callable[..., Awaitable[Mapping[str, Any]]] | None = None
    """``await backup(path, passphrase)``: everything of the node as one sealed file on its own disk."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings as the Settings page shows them: ``{name: {"value", "default", "from", "en", "zh", "type"}}``; no secrets."""
    health: Callable[[], Mapping[str, Any]] = dict
    """``health()``: supervised tasks by name, ``{name: {"state": "running"|"waiting"|"failed", "detail": …}}``."""
    base_url: str = ""
    """The address this node is reached by."""
    version: str = "0.1.0"
    """Version of guantong."""
    figures: Figures = field(default=None)  # type: ignore[assignment]
    """Figures with proof: prove's part that needs keep."""
    trade: FigureTrade = field(default=None)  # type: ignore[assignment]
    """Ordering and challenging partners' figures."""
    disputes: Disputes = field(default=None)  # type: ignore[assignment]
    """Disputed deliveries and credit notes: settle's second part."""
    accounts: Accounts = field(default=None)  # type: ignore[assignment]
    """Papers and netting: settle's third part."""
    uplink: Callable[[], Uplink | None] = lambda: None
    """The connection to the relay that partners reach this node through, None where it has an address of its own."""
    edges: Edges = field(default=None)  # type: ignore[assignment]
    """Gateways in the machine network: connect's second zone."""
