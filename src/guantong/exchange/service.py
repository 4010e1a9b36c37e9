"""The exchange as other stages and pages use it: products, catalogues, negotiations, transfers, deliveries, receipts, questions.

Everything is driven by events: a message or decision is one durable step, its answer leaves through the outbox when the step is
committed, and those who wait for a process are woken by its change.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import digest
from guantong.base.clock import Clock
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.ids import NewId, new_uuid
from guantong.base.wire import Http, Response
from guantong.exchange import messages
from guantong.exchange.amendments import AMENDMENT_KIND, Amendments
from guantong.exchange.catalogue import Shelf, read_catalogue
from guantong.exchange.dataplane import DataPlane
from guantong.exchange.deliveries import Deliveries
from guantong.exchange.demands import Demands
from guantong.exchange.duties import DUTY_DONE, DUTY_KIND, Duties
from guantong.exchange.fingerprint import Marks
from guantong.exchange.guests import Guests
from guantong.exchange.hosting import RECEIPT_KIND, SEND_KIND, Hosted, Hosting, checked_address
from guantong.exchange.identity import Identity, did_document
from guantong.exchange.inquiry import Inquiry
from guantong.exchange.issuer import ISSUE_KIND, Issuer
from guantong.exchange.model import (
    PRODUCT_OFFERED,
    PRODUCT_WITHDRAWN,
    QUESTION_ANSWERED,
    Agreement,
    Catalogue,
    CatalogueOffer,
    ExchangeSettings,
    Negotiation,
    Participant,
    Product,
    Question,
    Receipt,
    Transfer,
)
from guantong.exchange.moving import MOVE_KIND, Moving
from guantong.exchange.mtconnect_out import MtconnectServer
from guantong.exchange.negotiations import Negotiations
from guantong.exchange.planes import PLANE_KIND, Planes
from guantong.exchange.policy import compile_policy, explain, policy_hash, with_contract
from guantong.exchange.ports import (
    Answerer,
    Decide,
    Identify,
    Inbox,
    RightsOf,
    Rows,
    answer_nobody,
    deny_all,
    no_rights,
    no_rows,
)
from guantong.exchange.push import Pushes
from guantong.exchange.queries import Queries
from guantong.exchange.receipts import Receipts
from guantong.exchange.rehearsal import Rehearsal
from guantong.exchange.relay import Relay
from guantong.exchange.signaling import PULL_KIND, SIGNAL_KIND, Flows
from guantong.exchange.space import Spaces
from guantong.exchange.stream import Streams
from guantong.exchange.tables import PRODUCTS
from guantong.exchange.transfers import PULL, PUSH_KIND, Transfers
from guantong.records.model import Message
from guantong.records.outbox import Note, Outbox
from guantong.records.service import Records

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.routing import BaseRoute

__all__ = ["Exchange"]

_LOG = logging.getLogger("guantong.exchange")


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
        self.settings = settings or ExchangeSettings()
        self.hosting = Hosting(
            records,
            clock,
            http,
            self.settings,
            decide=decide,
            rights=rights,
            rows=rows,
            identify=identify,
            new_id=new_id,
        )
        self._attempts = outbox.settings.attempts
        self._clock = clock
        self._records = records
        self._outbox = outbox
        self._shelves: dict[str, Shelf] = {}
        self._answerers: dict[str, Answerer] = {}
        self._negotiations = Negotiations(self.hosting, self._find_product)
        self._transfers = Transfers(self.hosting, self._negotiations)
        self._receipts = Receipts(self.hosting, self._negotiations, self._transfers)
        self.queries = Queries(self.hosting, self._receipts)
        self.marks = Marks(self.hosting)
        deliveries = Deliveries(self.hosting, self.queries, self.marks)
        self._remembering: set[asyncio.Task[None]] = set()
        self._plane = DataPlane(self.hosting, self._negotiations, self._transfers, self._receipts, deliveries)
        self.streams = Streams(self.hosting, self._transfers, self._receipts, self._plane)
        self.rehearsal = Rehearsal(self.hosting, self._plane)
        self.agent = MtconnectServer(self.hosting, self._plane)
        self.inquiry = Inquiry(self.hosting)
        self.wallet = self.hosting.wallet
        self.issuer = Issuer(self.hosting)
        self.spaces = Spaces(self.hosting, self.issuer)
        self.spaces.remade = self._remade
        self.relay = Relay(self.hosting, self.spaces)
        self.guests = Guests(self.hosting, self.spaces)
        self.demands = Demands(self.hosting)
        self.moving = Moving(self.hosting)
        outbox.register(MOVE_KIND, self.moving.carry)
        self.duties = Duties(self.hosting, self._negotiations)
        self._answerers[DUTY_DONE] = self.duties
        outbox.register(DUTY_KIND, self.duties.carry)
        self._pushes = Pushes(self.hosting, self._transfers, self._plane, self._receipts)
        self.flows = Flows(self.hosting, self._transfers, self._plane, self._pushes)
        self.amendments = Amendments(self.hosting, self._negotiations, self._transfers, self._receipts)
        outbox.register(AMENDMENT_KIND, self.amendments.carry)
        self.planes = Planes(self.hosting, self._transfers, self._negotiations)
        outbox.register(PLANE_KIND, self.planes.carry)
        outbox.register(SIGNAL_KIND, self.flows.carry_signal)
        outbox.register(PULL_KIND, self.flows.carry_pull)
        outbox.register(SEND_KIND, self._carry)
        outbox.register(PUSH_KIND, self._pushes.carry)
        outbox.register(ISSUE_KIND, self.issuer.carry)
        outbox.register(RECEIPT_KIND, self._receipts.carry)

    # -- running

    def host(self, identity: Identity, address: str) -> None:
        """Serve a participant whose root address (no trailing slash) is ``address``."""
        hosted = Hosted(identity, messages.base_of(address))
        self.hosting.add(hosted)
        self.hosting.resolver.host(self.document(identity.did))
        self._shelves[identity.did] = Shelf(identity.did, hosted.callback)

    def routes(self, participant: str) -> list[BaseRoute]:
        """The routes of a hosted participant, to be mounted at the path of its address."""
        from guantong.exchange.claims_routes import claims_routes
        from guantong.exchange.guest_routes import guest_routes
        from guantong.exchange.routes import routes
        from guantong.exchange.signaling_routes import signaling_routes
        from guantong.exchange.space_routes import space_routes

        return [
            *routes(self, participant),
            *claims_routes(self, participant),
            *signaling_routes(self, participant),
            *space_routes(self, participant),
            *guest_routes(self.guests, participant),
        ]

    def document(self, participant: str) -> dict[str, Any]:
        """The DID document of a hosted participant, as it is now."""
        hosted = self.hosting.hosted(participant)
        issuer = bool(self.hosting.trust.issued(participant))
        return did_document(hosted.identity, hosted.address, at=self._clock.now(), issuer=issuer)

    def _remade(self, participant: str) -> None:
        self.hosting.resolver.host(self.document(participant))

    def answer(self, kind: str, answerer: Answerer) -> None:
        """Let ``answerer`` answer partners' questions of a kind; one answerer a kind."""
        if kind in self._answerers:
            raise LookupError(f"an answerer for {kind!r} is registered already")
        self._answerers[kind] = answerer

    async def start(self) -> None:
        """Read products and used tokens, and begin. Start it before the outbox and before the routes are served."""
        await self.hosting.tokens.start()
        await self.wallet.start()
        await self.spaces.start()
        await self.guests.start()
        await self.relay.start()
        await self.planes.start()
        await self.amendments.start()
        for participant, shelf in self._shelves.items():
            rows = await self._records.rows(
                select(PRODUCTS.c.product)
                .where(and_(PRODUCTS.c.participant == participant, PRODUCTS.c.state == "offered"))
                .order_by(PRODUCTS.c.created_at)
            )
            for row in rows:
                shelf.put(_product_of(row["product"]))

    async def stop(self) -> None:
        """Finish the usage records of deliveries that have ended."""
        await self._plane.stop()
        await asyncio.gather(*self._remembering, return_exceptions=True)
        self.queries.close()

    # -- who calls, and requests of other stages in the exchange's name

    async def identify(self, participant: str, authorization: str) -> Participant:
        """The caller of a request to ``participant``. Raises Refused ``exchange.token-refused``.

        Whoever calls can be called: messages to it that wait for their next attempt leave now.
        """
        caller = await self.hosting.identify(participant, authorization)
        self._outbox.wake(participant, caller.did)
        return caller

    async def remember(self, participant: str, caller: Participant) -> None:
        """Make it durable that the caller's token was used, where no other step does."""
        if caller.jti:
            async with self._records.step(participant) as step:
                self.hosting.tokens.remember(step, caller)

    def remember_soon(self, participant: str, caller: Participant) -> None:
        """As :meth:`remember`, beside the answer: for requests that only read. Memory refuses the token from now on; a crash in between
        could let the same question be asked once more.
        """
        if caller.jti:
            task = asyncio.get_running_loop().create_task(self.remember(participant, caller), name="token used")
            self._remembering.add(task)
            task.add_done_callback(self._remembered)

    def _remembered(self, task: asyncio.Task[None]) -> None:
        self._remembering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.warning("that a token was used could not be written: %s", task.exception())

    async def partner_request(
        self, participant: str, partner: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Response:
        """A request with our token to the partner's own extension, at ``path`` below its root address.

        Raises Refused ``exchange.answer-unusable`` opposite a plain connector.
        """
        root = await self.hosting.partner_extension(partner)
        if not root:
            raise Refused(
                "exchange.answer-unusable", partner=partner, status="–", message=path, reason="it is a plain connector"
            )
        return await self.hosting.request(participant, partner, method, root + path, body)

    # -- provider's products

    async def publish(self, participant: str, product: Product) -> str:
        """Put a product on offer as a person does: its rehearsal was seen, or the settings waive that. Returns the offer's id.

        Raises Refused ``exchange.not-rehearsed`` and as :meth:`offer`.
        """
        return await self.offer(participant, product, rehearsal=await self.rehearsal.gate(participant, product))

    async def offer(self, participant: str, product: Product, *, rehearsal: str = "") -> str:
        """Put a product on offer, or change it; returns the offer's id. People publish: :meth:`publish`.

        Raises Refused ``exchange.no-rights`` without a statement of rights and ``exchange.term-refused`` for a policy term that would
        neither be enforced nor shown.
        """
        shelf = self._shelf(participant)
        compile_policy(product.policy)
        rights = await self.hosting.rights(participant, product.dataset_id)
        if rights is None:
            raise Refused("exchange.no-rights", dataset=product.dataset_id)
        rules = with_contract(product.policy, terms=product.terms, price=product.price)
        async with self._records.step(participant) as step:
            step.upsert(
                PRODUCTS,
                id=product.id,
                dataset_id=product.dataset_id,
                product=orjson.dumps(dataclasses.asdict(product)),
                state="offered",
                created_at=step.at,
                changed_at=step.at,
            )
            step.record(
                Entry(
                    PRODUCT_OFFERED,
                    {
                        "product": product.id,
                        "dataset": product.dataset_id,
                        "offer": product.offer_id,
                        "policyHash": policy_hash(rules),
                        "priceHash": digest(dict(product.price)),
                        "termsHash": digest(product.terms),
                        "rightsHash": digest(dict(rights)),
                        **({"rehearsal": rehearsal} if rehearsal else {}),
                    },
                )
            )
        shelf.put(product)
        return product.offer_id

    async def withdraw(self, participant: str, product_id: str) -> None:
        """Take a product off the offer; agreements made from it stand."""
        shelf = self._shelf(participant)
        product = shelf.product(product_id)
        if product is None:
            raise Refused("exchange.product-unknown", product=product_id)
        async with self._records.step(participant) as step:
            step.update(PRODUCTS, {"id": product_id}, {"state": "withdrawn", "changed_at": step.at})
            step.record(Entry(PRODUCT_WITHDRAWN, {"product": product_id, "dataset": product.dataset_id}))
        shelf.take(product_id)

    async def products(self, participant: str, dataset_id: str = "") -> list[Product]:
        """Products on offer, all or those of a dataset."""
        return self._shelf(participant).products(dataset_id)

    def explain(self, policy: Mapping[str, Any], language: str = "en") -> list[tuple[str, str]]:
        """A policy in plain words, each term ``enforced`` or ``legal``. Raises Refused ``exchange.term-refused``."""
        return [(sentence, status) for sentence, status in explain(policy, language)]

    # -- consumer's verbs

    async def catalogue(self, participant: str, partner_address: str, partner: str) -> Catalogue:
        """A partner's catalogue, all pages of it (at most 100).

        ``partner_address`` is its protocol base (``https://host/dsp/2025-1``), ``partner`` its DID.
        """
        base = checked_address(partner_address)
        url = f"{base}/catalog/request"
        found: Catalogue | None = None
        for _ in range(100):
            response = await self.hosting.request(
                participant, partner, "POST", url, messages.message("CatalogRequestMessage", id=self.hosting.new_id())
            )
            body = _body_of(response, partner, "CatalogRequestMessage")
            page = read_catalogue(body)
            found = page if found is None else Catalogue(found.participant_id, found.offers + page.offers)
            following = _next_link(response.headers.get("link", ""))
            if not following:
                break
            if not following.startswith(f"{base}/"):
                raise _unusable(partner, response.status, "CatalogRequestMessage", "its next page is elsewhere")
            url = following
        assert found is not None
        return found

    async def negotiate(
        self, participant: str, partner_address: str, partner: str, offer: CatalogueOffer | Mapping[str, Any]
    ) -> str:
        """Ask for a contract on an offer of the partner's catalogue; the negotiation's id.

        Raises Refused ``exchange.term-refused`` where the offer has a term we do not know, or text shown but not bound in.
        """
        return await self._negotiations.negotiate(participant, partner_address, partner, offer)

    async def wait_negotiation(
        self,
        participant: str,
        pid: str,
        *,
        states: Sequence[str] = ("FINALIZED", "TERMINATED"),
        timeout_s: float = 30.0,
    ) -> Negotiation:
        """The negotiation once it is in one of the states. Raises Retryable ``exchange.wait-ended``."""
        end = self._clock.monotonic() + timeout_s
        while True:
            with self.hosting.watching(participant, pid) as changed:
                process = await self._negotiations.processes.get(participant, pid)
                if process.state in states:
                    return process
                await self._wait(changed, pid, end, states, process.state)

    async def request_transfer(
        self,
        participant: str,
        agreement_id: str,
        *,
        format: str = PULL,
        address: str = "",
        target: Mapping[str, Any] | None = None,
    ) -> str:
        """Ask for the data of a final agreement; the transfer's id. ``address``: where the partner is now, if it has moved.

        ``target``: the data address that a push goes to; a push over HTTP without one comes to our own inbox.
        """
        return await self._transfers.request(participant, agreement_id, format, address, target=target)

    async def wait_transfer(
        self,
        participant: str,
        pid: str,
        *,
        states: Sequence[str] = ("STARTED", "COMPLETED", "TERMINATED"),
        timeout_s: float = 30.0,
    ) -> Transfer:
        """The transfer once it is in one of the states. Raises Retryable ``exchange.wait-ended``."""
        end = self._clock.monotonic() + timeout_s
        while True:
            with self.hosting.watching(participant, pid) as changed:
                process = await self._transfers.processes.get(participant, pid)
                if process.state in states:
                    return process
                await self._wait(changed, pid, end, states, process.state)

    def pull(
        self,
        participant: str,
        transfer_id: str,
        *,
        purpose: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> AsyncIterator[pa.RecordBatch]:
        """The data of a started transfer as record batches, counted for the receipt; ``parameters``: of the contract's query template."""
        return self._plane.pull(participant, transfer_id, purpose=purpose, parameters=parameters)

    def pull_bytes(
        self, participant: str, transfer_id: str, *, accept: str = "*/*", purpose: str = ""
    ) -> AsyncIterator[bytes]:
        """The data of a started transfer as it comes, for providers that deliver something else than Arrow."""
        return self._plane.pull_bytes(participant, transfer_id, accept=accept, purpose=purpose)

    async def ask(self, participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the partner of a final agreement a question; the body of its answer. Raises Refused where it does not answer."""
        agreement = await self._negotiations.agreement(participant, agreement_id)
        response = await self.partner_request(
            participant,
            agreement.partner,
            "POST",
            "/guantong/questions",
            {"kind": kind, "agreementId": agreement_id, "body": dict(body)},
        )
        answer = _body_of(response, agreement.partner, f"question {kind}").get("body")
        if not isinstance(answer, dict):
            raise _unusable(agreement.partner, response.status, f"question {kind}", "it has no body")
        return answer

    # -- both roles

    async def negotiations(self, participant: str) -> list[Negotiation]:
        """All negotiations, newest first."""
        return await self._negotiations.processes.all(participant)

    async def negotiation(self, participant: str, pid: str) -> Negotiation:
        """One negotiation. Raises Refused ``exchange.process-unknown``."""
        return await self._negotiations.processes.get(participant, pid)

    async def decide_negotiation(
        self, participant: str, pid: str, verb: str, *, offer: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Negotiation:
        """Take our turn: ``request``, ``accept``, ``verify`` as consumer, ``offer``, ``agree``, ``finalize`` as provider, ``terminate``.

        Raises Refused ``exchange.transition-refused`` where it is not our turn.
        """
        return await self._negotiations.decide(participant, pid, verb, offer=offer, reason=reason)

    async def transfers(self, participant: str) -> list[Transfer]:
        """All transfers, newest first."""
        return await self._transfers.processes.all(participant)

    async def transfer(self, participant: str, pid: str) -> Transfer:
        """One transfer. Raises Refused ``exchange.process-unknown``."""
        return await self._transfers.processes.get(participant, pid)

    async def decide_transfer(self, participant: str, pid: str, verb: str, *, reason: str = "") -> Transfer:
        """``start``, ``suspend``, ``complete`` or ``terminate`` a transfer. Raises Refused ``exchange.transition-refused``."""
        return await self._transfers.decide(participant, pid, verb, reason=reason)

    async def agreements(self, participant: str) -> list[Agreement]:
        """All agreements, newest first."""
        return await self._negotiations.agreements(participant)

    async def agreement(self, participant: str, agreement_id: str) -> Agreement:
        """One agreement. Raises Refused ``exchange.agreement-unknown``."""
        return await self._negotiations.agreement(participant, agreement_id)

    async def receipts(self, participant: str, agreement_id: str) -> list[Receipt]:
        """Receipts of an agreement, oldest first."""
        return await self._receipts.list(participant, agreement_id)

    async def wait_receipts(
        self, participant: str, agreement_id: str, *, count: int = 1, timeout_s: float = 30.0
    ) -> list[Receipt]:
        """The receipts once ``count`` of them are answered or one-sided. Raises Retryable ``exchange.wait-ended``."""
        end = self._clock.monotonic() + timeout_s
        while True:
            pid = f"receipts {agreement_id}"
            with self.hosting.watching(participant, pid) as changed:
                found = await self._receipts.list(participant, agreement_id)
                settled = [receipt for receipt in found if receipt.state != "offered"]
                if len(settled) >= count:
                    return found
                await self._wait(changed, pid, end, ("answered",), f"{len(settled)} answered")

    async def verify_receipts(self, participant: str, agreement_id: str) -> tuple[str, ...]:
        """Check every receipt of an agreement anew: signatures of both sides, what was counted, the chain's form. Returns what is wrong,
        each with the record's id; empty where every receipt holds. A receipt that waits for its countersignature, or is one-sided, is
        no problem: its state says so. Raises Retryable ``exchange.did-unresolved`` where the partner's key can't be read.
        """
        return await self._receipts.verify(participant, agreement_id)

    async def deliveries(self, participant: str, agreement_id: str) -> int:
        """How many deliveries were begun under an agreement (the figure that a count constraint limits)."""
        return await self._records.counter(participant, f"exchange:deliveries:{agreement_id}")

    def on_change(self, tell: Callable[[str, str, str], None]) -> None:
        """Call ``tell(participant, pid, state)`` after each durable change of a process or receipt (``receipts <agreement>``)."""
        self.hosting.on_change(tell)

    # -- what the routes need beside the parts

    def shelf(self, participant: str) -> Shelf:
        """The products on offer of a participant."""
        return self._shelf(participant)

    @property
    def negotiating(self) -> Negotiations:
        """The negotiations part, for the routes."""
        return self._negotiations

    @property
    def transferring(self) -> Transfers:
        """The transfers part, for the routes."""
        return self._transfers

    @property
    def receipting(self) -> Receipts:
        """The receipts part, for the routes."""
        return self._receipts

    def receive_pushes(self, inbox: Inbox) -> None:
        """Let ``inbox`` keep what partners push to us; without it pushes are refused."""
        self._pushes.inbox = inbox

    @property
    def pushing(self) -> Pushes:
        """Pushes, for the routes."""
        return self._pushes

    @property
    def plane(self) -> DataPlane:
        """The data plane, for the routes."""
        return self._plane

    async def answer_question(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a partner's question under an agreement; question and answer are on record before the answer leaves."""
        kind, agreement_id, asked = body.get("kind"), body.get("agreementId"), body.get("body")
        if not isinstance(kind, str) or not isinstance(agreement_id, str) or not isinstance(asked, dict):
            raise Refused("exchange.message-invalid", message="question", reason="kind, agreementId or body is missing")
        agreement = await self._negotiations.agreement(participant, agreement_id)
        if agreement.partner != caller.did or agreement.state != "final":
            raise Refused("exchange.agreement-unknown", agreement=agreement_id[:200])
        question = Question(kind[:100], caller.did, agreement, asked)
        failure: GuantongError | None = None
        answer: dict[str, Any] = {}
        try:
            answerer = self._answerers.get(kind)
            given = await (answerer.answer(participant, question) if answerer else answer_nobody(participant, question))
            answer = dict(given.body)
        except Refused as error:
            failure = error
        async with self._records.step(participant) as step:
            self.hosting.tokens.remember(step, caller)
            step.record(
                Entry(
                    QUESTION_ANSWERED,
                    {
                        "agreement": agreement.id,
                        "partner": caller.did,
                        "kind": question.kind,
                        "question": digest(asked),
                        "answer": digest(answer) if failure is None else "",
                        "outcome": "answered" if failure is None else failure.code,
                    },
                )
            )
        if failure is not None:
            raise failure
        return {"kind": question.kind, "agreementId": agreement.id, "body": answer}

    # -- inside

    def _shelf(self, participant: str) -> Shelf:
        shelf = self._shelves.get(participant)
        if shelf is None:
            raise Refused("exchange.participant-unknown", participant=participant)
        return shelf

    async def _find_product(
        self, participant: str, caller: Participant, offer_id: str, dataset_id: str
    ) -> Product | None:
        facts = self.hosting.facts(participant, caller.did, caller.claims)
        return self._shelf(participant).find(facts, offer_id=offer_id, dataset_id=dataset_id)

    async def _wait(
        self, changed: asyncio.Future[None], pid: str, end: float, wanted: Sequence[str], state: str
    ) -> None:
        try:
            await asyncio.wait_for(changed, max(0.0, end - self._clock.monotonic()))
        except TimeoutError as error:
            raise Retryable("exchange.wait-ended", pid=pid, wanted=" / ".join(wanted), state=state) from error

    async def _carry(self, participant: str, message: Message, attempt: int) -> Note | None:
        """Sender of the outbox: a protocol message to a partner."""
        part = self._negotiations if message.payload["area"] == "negotiations" else self._transfers
        try:
            return await part.processes.carry(participant, message, attempt)
        except Retryable as error:
            if (
                attempt >= self._attempts
            ):  # the partner never answered: the outbox gives up with this one, and a person may retry
                await part.processes.refused(participant, message.payload, error.message(), ends=False)
            raise


def _product_of(stored: bytes) -> Product:
    fields = orjson.loads(stored)
    fields["visible_to"] = tuple(fields["visible_to"])
    return Product(**fields)


def _body_of(response: Response, partner: str, message: str) -> dict[str, Any]:
    if not 200 <= response.status < 300:
        if response.status >= 500 or response.status == 429:
            raise Retryable("exchange.partner-busy", partner=partner, status=response.status, message=message)
        raise _unusable(partner, response.status, message, response.body[:300].decode("utf-8", "replace"))
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise _unusable(partner, response.status, message, "it is not JSON") from error
    if not isinstance(body, dict):
        raise _unusable(partner, response.status, message, "it is no object")
    return body


def _unusable(partner: str, status: int, message: str, reason: str) -> Refused:
    return Refused("exchange.answer-unusable", partner=partner, status=status, message=message, reason=reason)


def _next_link(header: str) -> str:
    for part in header.split(","):
        target, _, rest = part.partition(";")
        if 'rel="next"' in rest or "rel=next" in rest:
            return target.strip().strip("<>")
    return ""
