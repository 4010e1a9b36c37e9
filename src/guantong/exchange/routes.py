"""Endpoints of the Dataspace Protocol 2025-1 in both roles, the DID document, the data plane and our partner extension.

Source: Dataspace Protocol 2025-1, HTTPS bindings. Identity first, then the body, then the message: a caller without a valid token learns
nothing about what exists here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from starlette.routing import BaseRoute, Route

from guantong.base.errors import GuantongError, Refused
from guantong.exchange import messages
from guantong.exchange.catalogue import filter_of
from guantong.exchange.dataplane import RECORD_HEADER
from guantong.exchange.demands import PATH as DEMANDS_PATH
from guantong.exchange.messages import PATH, decode, error, message
from guantong.exchange.model import Negotiation, Participant, Transfer
from guantong.exchange.mtconnect_out import VERBS, MtconnectFault
from guantong.exchange.serving import Answer, Asked, Endpoint

if TYPE_CHECKING:
    from guantong.exchange.service import Exchange

__all__ = ["routes"]

_JSON = "application/json"

Body = Mapping[str, Any]
Act = Callable[[Asked, Participant, Body], Awaitable[Answer]]


def routes(exchange: Exchange, participant: str) -> list[BaseRoute]:
    """The routes of a participant, relative to its root address."""
    served = _Served(exchange, participant)
    base = PATH
    catalog, negotiation, transfer, plain = "CatalogError", "ContractNegotiationError", "TransferError", ""

    def post(path: str, act: Act, kind: str) -> Route:
        return Route(path, Endpoint(served.endpoint(act, kind, read=True)), methods=["POST"])

    def get(path: str, act: Act, kind: str) -> Route:
        return Route(path, Endpoint(served.endpoint(act, kind, read=False)), methods=["GET"])

    found: list[BaseRoute] = [
        Route("/.well-known/dspace-version", Endpoint(served.version), methods=["GET"]),
        Route("/.well-known/did.json", Endpoint(served.did), methods=["GET"]),
        Route("/did.json", Endpoint(served.did), methods=["GET"]),
        post(f"{base}/catalog/request", served.catalogue, catalog),
        get(f"{base}/catalog/datasets/{{id:path}}", served.dataset, catalog),
        post(f"{base}/negotiations/request", served.first_request, negotiation),
        post(f"{base}/negotiations/offers", served.first_offer, negotiation),
        get(f"{base}/negotiations/{{pid}}", served.negotiation, negotiation),
        post(f"{base}/transfers/request", served.transfer_request, transfer),
        get(f"{base}/transfers/{{pid}}", served.transfer, transfer),
        get(DEMANDS_PATH, served.demands, plain),
        post("/guantong/receipts", served.receipt, plain),
        post("/guantong/questions", served.question, plain),
        post("/guantong/amendments", served.amendment, plain),
        post("/guantong/amendments/answers", served.amendment_answer, plain),
        Route("/data/{pid}", Endpoint(served.data), methods=["GET"]),
        Route("/data/{pid}/mtconnect/{verb}", Endpoint(served.mtconnect), methods=["GET"]),
        Route("/data/{pid}/stream", Endpoint(served.stream), methods=["GET"]),
        Route("/data/{pid}/stream/acknowledgements", Endpoint(served.acknowledgement), methods=["POST"]),
        Route("/data/{pid}/token", Endpoint(served.token), methods=["POST"]),
        Route("/inbox/{pid}", Endpoint(served.inbox), methods=["POST"]),
    ]
    for path, role in (
        ("request", "provider"),
        ("events", ""),
        ("agreement/verification", "provider"),
        ("offers", "consumer"),
        ("agreement", "consumer"),
        ("termination", ""),
    ):
        found.append(post(f"{base}/negotiations/{{pid}}/{path}", served.negotiation_message(path, role), negotiation))
    found.extend(
        post(f"{base}/transfers/{{pid}}/{path}", served.transfer_message(path), transfer)
        for path in ("start", "completion", "suspension", "termination")
    )
    return found


class _Served:
    def __init__(self, exchange: Exchange, participant: str) -> None:
        self.exchange = exchange
        self.participant = participant
        self.settings = exchange.settings
        self._version = orjson.dumps(messages.version_document())

    def endpoint(self, act: Act, kind: str, *, read: bool) -> Callable[[Asked], Awaitable[Answer]]:
        """Identity, body, message, answer; every error of the tree becomes the area's error body."""

        async def serve(request: Asked) -> Answer:
            body: dict[str, Any] = {}
            try:
                caller = await self.exchange.identify(self.participant, request.headers.get("authorization", ""))
                if read:
                    body = decode(
                        await self._body(request), limit=self.settings.body_limit, depth=self.settings.depth_limit
                    )
                return await act(request, caller, body)
            except GuantongError as failure:
                return _failed(kind, failure, body, request)

        return serve

    async def _body(self, request: Asked) -> bytes:
        limit = self.settings.body_limit
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > limit:
            raise Refused("exchange.message-too-large", limit=f"{limit} bytes")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise Refused("exchange.message-too-large", limit=f"{limit} bytes")
            parts.append(part)
        return b"".join(parts)

    # -- open to everybody

    async def version(self, request: Asked) -> Answer:
        return Answer(self._version, media_type=_JSON)

    async def did(self, request: Asked) -> Answer:
        return Answer(orjson.dumps(self.exchange.document(self.participant)), media_type="application/did+json")

    # -- catalogue

    async def catalogue(self, request: Asked, caller: Participant, body: Body) -> Answer:
        # a bare term means nothing without its context; a full IRI does (a trigger of other conformance kits is written so)
        given = body.get("@type")
        kind = messages.plain(body).get("@type")
        if kind != "CatalogRequestMessage" or (given == kind and not messages.speaks(body)):
            raise Refused(
                "exchange.message-invalid",
                message="CatalogRequestMessage",
                reason=f"its @type is {str(given)[:100]!r} in the context {str(body.get('@context'))[:100]!r}",
            )
        wanted = filter_of(body.get("filter"))
        offset = request.query_params.get("offset", "")
        if offset.isascii() and offset.isdigit() and len(offset) < 10:
            wanted = type(wanted)(wanted.ids, int(offset), wanted.limit)
        self.exchange.remember_soon(self.participant, caller)
        shelf = self.exchange.shelf(self.participant)
        facts = self.exchange.hosting.facts(self.participant, caller.did, caller.claims)
        page, following, previous = shelf.page(facts, wanted, self.settings.page_size)
        headers = {}
        url = f"{shelf.callback}/catalog/request"
        links = [
            f'<{url}?offset={at}>; rel="{name}"'
            for name, at in (("next", following), ("previous", previous))
            if at is not None
        ]
        if links:
            headers["link"] = ", ".join(links)
        return Answer(page, media_type=_JSON, headers=headers)

    async def dataset(self, request: Asked, caller: Participant, body: Body) -> Answer:
        shelf = self.exchange.shelf(self.participant)
        self.exchange.remember_soon(self.participant, caller)
        facts = self.exchange.hosting.facts(self.participant, caller.did, caller.claims)
        return _json(shelf.one(facts, request.path_params["id"]))

    # -- negotiations

    async def first_request(self, request: Asked, caller: Participant, body: Body) -> Answer:
        process = await self.exchange.negotiating.receive_initial(self.participant, caller, "provider", body)
        return _json(_negotiation(process), 201)

    async def first_offer(self, request: Asked, caller: Participant, body: Body) -> Answer:
        process = await self.exchange.negotiating.receive_initial(self.participant, caller, "consumer", body)
        return _json(_negotiation(process), 201)

    async def negotiation(self, request: Asked, caller: Participant, body: Body) -> Answer:
        process = await self.exchange.negotiating.processes.of_caller(
            self.participant, request.path_params["pid"], caller
        )
        self.exchange.remember_soon(self.participant, caller)
        return _json(_negotiation(process))

    def negotiation_message(self, path: str, role: str) -> Act:
        async def act(request: Asked, caller: Participant, body: Body) -> Answer:
            process = await self.exchange.negotiating.receive(
                self.participant, caller, request.path_params["pid"], path, body, role=role
            )
            return _json(_negotiation(process))

        return act

    # -- transfers

    async def transfer_request(self, request: Asked, caller: Participant, body: Body) -> Answer:
        process = await self.exchange.transferring.receive_initial(self.participant, caller, body)
        return _json(_transfer(process), 201)

    async def transfer(self, request: Asked, caller: Participant, body: Body) -> Answer:
        process = await self.exchange.transferring.processes.of_caller(
            self.participant, request.path_params["pid"], caller
        )
        self.exchange.remember_soon(self.participant, caller)
        return _json(_transfer(process))

    def transfer_message(self, path: str) -> Act:
        async def act(request: Asked, caller: Participant, body: Body) -> Answer:
            process = await self.exchange.transferring.receive(
                self.participant, caller, request.path_params["pid"], path, body
            )
            return _json(_transfer(process))

        return act

    # -- the partner extension

    async def receipt(self, request: Asked, caller: Participant, body: Body) -> Answer:
        return _json(dict(await self.exchange.receipting.answer(self.participant, caller, body)))

    async def demands(self, request: Asked, caller: Participant, body: Body) -> Answer:
        self.exchange.remember_soon(self.participant, caller)
        return _json({"demands": [one.document() for one in await self.exchange.demands.demands(self.participant)]})

    async def question(self, request: Asked, caller: Participant, body: Body) -> Answer:
        return _json(await self.exchange.answer_question(self.participant, caller, body))

    async def amendment(self, request: Asked, caller: Participant, body: Body) -> Answer:
        return _json(await self.exchange.amendments.receive(self.participant, caller, body))

    async def amendment_answer(self, request: Asked, caller: Participant, body: Body) -> Answer:
        return _json(await self.exchange.amendments.receive_answer(self.participant, caller, body))

    # -- the data plane: its token is the transfer's, not the caller's identity

    async def data(self, request: Asked) -> Answer:
        try:
            outgoing = await self.exchange.plane.open(
                self.participant,
                request.path_params["pid"],
                request.headers.get("authorization", ""),
                accept=request.headers.get("accept", ""),
                query=request.query_params,
            )
        except GuantongError as failure:
            return _failed("", failure, {}, request)
        return Answer(outgoing.body, headers=outgoing.headers)

    async def stream(self, request: Asked) -> Answer:
        try:
            outgoing = await self.exchange.streams.open(
                self.participant,
                request.path_params["pid"],
                request.headers.get("authorization", ""),
                request.query_params,
            )
        except GuantongError as failure:
            return _failed("", failure, {}, request)
        return Answer(outgoing.body, headers=outgoing.headers)

    async def mtconnect(self, request: Asked) -> Answer:
        verb = request.path_params["verb"]
        agent = self.exchange.agent
        try:
            if verb not in VERBS:
                raise MtconnectFault("UNSUPPORTED", f"{verb[:60]} is not answered")
            outgoing = await agent.open(
                self.participant,
                request.path_params["pid"],
                request.headers.get("authorization", ""),
                verb,
                request.query_params,
            )
        except MtconnectFault as fault:
            return Answer(agent.fault(self.participant, fault), 404, media_type="text/xml")
        except GuantongError as failure:
            return _failed("", failure, {}, request)
        return Answer(outgoing.body, headers=outgoing.headers)

    async def acknowledgement(self, request: Asked) -> Answer:
        try:
            body = decode(await self._body(request), limit=self.settings.body_limit, depth=self.settings.depth_limit)
            await self.exchange.streams.acknowledge(
                self.participant, request.path_params["pid"], request.headers.get("authorization", ""), body
            )
        except GuantongError as failure:
            return _failed("", failure, {}, request)
        return Answer(status=204)

    async def token(self, request: Asked) -> Answer:
        try:
            form = dict(parse_qsl((await self._body(request)).decode("utf-8", "replace")))
            answer = await self.exchange.plane.renewal.renew(
                self.participant,
                request.path_params["pid"],
                request.headers.get("authorization", ""),
                {**dict(request.query_params), **form},
                audience=await self.exchange.flows.audience(self.participant, request.path_params["pid"]),
            )
        except GuantongError as failure:
            return _oauth_failed(failure)
        return Answer(orjson.dumps(answer), media_type=_JSON, headers={"cache-control": "no-store"})

    async def inbox(self, request: Asked) -> Answer:
        try:
            record = await self.exchange.pushing.take(
                self.participant,
                request.path_params["pid"],
                request.headers.get("authorization", ""),
                request.headers,
                request.stream(),
            )
        except GuantongError as failure:
            return _failed("", failure, {}, request)
        return Answer(status=204, headers={RECORD_HEADER: record} if record else None)


def _negotiation(process: Negotiation) -> dict[str, Any]:
    return message(
        "ContractNegotiation",
        consumerPid=process.consumer_pid,
        providerPid=process.provider_pid,
        state=process.state,
    )


def _transfer(process: Transfer) -> dict[str, Any]:
    return message(
        "TransferProcess", consumerPid=process.consumer_pid, providerPid=process.provider_pid, state=process.state
    )


def _json(body: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(orjson.dumps(body), status, media_type=_JSON)


def _oauth_failed(failure: GuantongError) -> Answer:
    # OAuth 2.0, 5.2: the client failed, or its grant did
    name = "invalid_client" if failure.status == 401 else "invalid_grant"
    body = {"error": name, "error_description": f"{failure.code}: {failure.message('en')}"}
    return Answer(orjson.dumps(body), failure.status, media_type=_JSON, headers={"cache-control": "no-store"})


def _failed(kind: str, failure: GuantongError, body: Mapping[str, Any], request: Asked) -> Answer:
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(failure.status)
    if not kind:
        return Answer(
            orjson.dumps(failure.problem()), failure.status, headers=headers, media_type="application/problem+json"
        )
    pid = request.path_params.get("pid", "")
    known = {name: body.get(name) for name in ("consumerPid", "providerPid")}
    texts = {name: value if isinstance(value, str) else "" for name, value in known.items()}
    answer = error(kind, failure, consumer_pid=texts["consumerPid"] or pid, provider_pid=texts["providerPid"] or pid)
    return Answer(orjson.dumps(answer), failure.status, headers=headers, media_type=_JSON)
