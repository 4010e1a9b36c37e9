"""What negotiations, transfers and deliveries share: hosted participants, signed requests to partners, processes in memory and their events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from guantong.base.clock import Clock
from guantong.base.errors import Refused, Retryable
from guantong.base.ids import NewId
from guantong.base.wire import Http, Response
from guantong.exchange.acceptance import acceptance_of
from guantong.exchange.claims import Claims
from guantong.exchange.facts import Facts, facts_of, groups_of
from guantong.exchange.identity import PARTNER_SERVICE, Identity, Resolver, Tokens, service_of
from guantong.exchange.messages import PATH, base_of
from guantong.exchange.model import ExchangeSettings, Participant
from guantong.exchange.ports import Decide, Identify, RightsOf, Rows
from guantong.exchange.trust import Trust
from guantong.exchange.wallet import Wallet
from guantong.records.service import Records

__all__ = ["Hosted", "Hosting", "checked_address", "in_path", "verdict_of"]

SEND_KIND = "exchange.dsp"
RECEIPT_KIND = "exchange.receipt"


@dataclass(frozen=True, slots=True)
class Hosted:
    """A participant of this node with its keys and root address."""

    identity: Identity
    address: str

    @property
    def callback(self) -> str:
        """The protocol base told to partners; without a trailing slash."""
        return self.address + PATH


class Hosting:
    """The floor that the parts of the exchange stand on."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        http: Http,
        settings: ExchangeSettings,
        *,
        decide: Decide,
        rights: RightsOf,
        rows: Rows,
        identify: Identify | None,
        new_id: NewId,
    ) -> None:
        self.records = records
        self.clock = clock
        self.http = http
        self.settings = settings
        self.decide = decide
        self.rights = rights
        self.rows = rows
        self.new_id = new_id
        self.resolver = Resolver(http, clock, settings)
        self.tokens = Tokens(records, self.resolver, clock, settings, new_id=new_id)
        self.trust = Trust(settings)
        self.claims = Claims(http, self.resolver, clock, settings, self.trust, token_for=self._token_for)
        self.wallet = Wallet(self)
        self.acceptance = acceptance_of(settings.acceptance)
        self._groups = groups_of(settings.partner_groups)
        self._pace: dict[tuple[str, str], tuple[float, float]] = {}
        self.identify: Identify = identify or self._identified
        self._hosted: dict[str, Hosted] = {}
        self._listeners: list[Callable[[str, str, str], None]] = []
        self._waiters: dict[tuple[str, str], list[asyncio.Future[None]]] = {}

    def add(self, hosted: Hosted) -> None:
        """Serve one more participant."""
        self._hosted[hosted.identity.did] = hosted

    def hosted(self, participant: str) -> Hosted:
        """A participant of this node. Raises Refused ``exchange.participant-unknown``."""
        found = self._hosted.get(participant)
        if found is None:
            raise Refused("exchange.participant-unknown", participant=participant)
        return found

    async def _identified(self, participant: str, authorization: str) -> Participant:
        caller = await self.tokens.identify(participant, authorization)
        self._paced(participant, caller.did)
        if not self.trust.required(participant):
            return caller
        return await self.claims.proven(participant, caller)

    def _paced(self, participant: str, caller: str) -> None:
        # a bucket that fills with the clock; only who has proven to be somebody has one
        rate = self.settings.requests_per_s
        if rate <= 0:
            return
        now = self.clock.monotonic()
        left, at = self._pace.get((participant, caller), (2.0 * rate, now))
        left = min(2.0 * rate, left + (now - at) * rate)
        if left < 1:
            raise Retryable("exchange.too-many-requests", participant=caller, limit=rate)
        if len(self._pace) >= 65_536:
            self._pace.clear()
        self._pace[(participant, caller)] = (left - 1, now)

    def _token_for(self, participant: str, audience: str, access_token: str) -> str:
        return self.tokens.issue(self.hosted(participant).identity, audience, access_token=access_token)

    async def request(
        self,
        participant: str,
        partner: str,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> Response:
        """A request to a partner with our identity token. Raises what ``Http`` raises."""
        headers = {
            "authorization": "Bearer "
            + self.tokens.issue(
                self.hosted(participant).identity, partner, access_token=self.wallet.access_token(participant, partner)
            ),
            "accept": "application/json",
        }
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["content-type"] = "application/json"
        return await self.http.request(method, url, body=data, headers=headers, max_bytes=max_bytes)

    async def partner_extension(self, partner: str) -> str:
        """Root address of the partner's own extension, empty where the partner is a plain connector.

        Raises Retryable ``exchange.did-unresolved``.
        """
        try:
            return service_of(await self.resolver.document(partner), PARTNER_SERVICE)
        except Refused:
            return ""  # an identifier without a document can't name the extension

    def facts(self, participant: str, partner: str, claims: Mapping[str, Any] | None = None) -> Facts:
        """What is known now about a partner. ``claims``: those of the request; without, what it has proven last."""
        if claims is None:
            standing = self.claims.standing(participant, partner)
            claims = {"credentials": standing.claims()} if standing is not None else {}
        return facts_of(partner, self.clock.now(), claims, self._groups)

    # -- events

    def on_change(self, tell: Callable[[str, str, str], None]) -> None:
        """Call ``tell(participant, pid, state)`` after each durable change."""
        self._listeners.append(tell)

    def changed(self, participant: str, pid: str, state: str) -> None:
        """Wake those who wait for a process."""
        for waiter in self._waiters.pop((participant, pid), ()):
            if not waiter.done():
                waiter.set_result(None)
        for tell in self._listeners:
            tell(participant, pid, state)

    @contextlib.contextmanager
    def watching(self, participant: str, pid: str) -> Iterator[asyncio.Future[None]]:
        """A future that the next change of the process ends. Begin before the state is looked at, or a change in between wakes nobody."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault((participant, pid), [])
        waiting.append(future)
        try:
            yield future
        finally:
            with contextlib.suppress(ValueError):
                waiting.remove(future)
            if not waiting and self._waiters.get((participant, pid)) is waiting:
                del self._waiters[(participant, pid)]


def checked_address(address: Any) -> str:
    """A partner's base address, without its trailing slash. Raises Refused ``exchange.message-invalid``."""
    text = base_of(address) if isinstance(address, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        parts.port  # noqa: B018 - raises ValueError where the port is none
    except ValueError:
        usable = False
    if not usable or len(text) > 1024 or parts.query or parts.fragment:
        raise Refused(
            "exchange.message-invalid", message="address", reason=f"{text[:200]!r} is no http(s) base address"
        )
    return text


def in_path(pid: str) -> str:
    """An identifier as one segment of a path."""
    return quote(pid, safe=":@!$&'()*+,;=-._~")


def verdict_of(status: int, attempt: int, *, first: bool, partner: str, message: str) -> None:
    """Whether an answer means arrival. Raises Retryable ``exchange.partner-busy`` or Refused ``exchange.answer-unusable``.

    A first callback may meet a partner that has not yet recorded what it asked for: EDC answers 409 then, others 404 (measured:
    answers of 0-2 ms). That alone is repeated; later 4xx are final.
    """
    if 200 <= status < 300:
        return
    if (
        status >= 500
        or status in (408, 425, 429)
        or (first and status in (404, 409) and attempt < 8)
        or (status == 401 and attempt < 3)
    ):
        raise Retryable("exchange.partner-busy", partner=partner, status=status, message=message)
    raise Refused(
        "exchange.answer-unusable", partner=partner, status=status, message=message, reason="it was not accepted"
    )
