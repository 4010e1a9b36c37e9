"""The relay: a node that answers for companies without a public address, and hands their requests on over connections that they open.

It hosts ``did:web:<relay>:p:<name>``, the document as its subject signed it. Keys and evidence stay with the subject; TLS ends here, so
the relay can read what passes, and the pages and commands say so. It adds and keeps nothing: a company that is not connected is answered
for with 503, and whoever called sends again. Source: did:web method specification; RFC 6455.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select

from guantong.base import keychange
from guantong.base.canonical import b64, canonical_bytes, digest, unb64, unb64url
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.base.keys import verify_ed25519, verify_es256
from guantong.exchange.dids import did_of, public_key_of
from guantong.exchange.model import RELAY_ENDED, RELAY_NAMED
from guantong.exchange.relay_frames import PING, PONG, Lane, frame, kind_of
from guantong.exchange.serving import Answer
from guantong.exchange.tables import RELAYED

if TYPE_CHECKING:
    from guantong.base.wire import Socket
    from guantong.exchange.hosting import Hosting
    from guantong.exchange.identity import Identity
    from guantong.exchange.serving import Asked
    from guantong.exchange.space import Spaces

__all__ = ["PASSED", "Relay", "Relayed", "claim", "passes", "seat_of"]

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
PASSED = ("/dsp/", "/dcp/", "/data/", "/inbox/", "/guantong/", "/witness/", "/log/", "/.well-known/dspace-version")
"""Where partners speak to a node; its pages and everything else are not reached through a relay."""
_TYPE = "guantong-relay-claim"
_MAX_DOCUMENT = 32 * 1024
_SKEW_NS = 300 * NS
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
_ASKED = frozenset(
    {
        "accept",
        "authorization",
        "content-length",
        "content-type",
        "guantong-block-bytes",
        "guantong-record",
        "if-none-match",
        "range",
    }
)
"""Headers of a request that are handed on; a cookie of the relay's own pages is not among them."""
_ANSWERED = frozenset(
    {
        "cache-control",
        "content-length",
        "content-range",
        "content-type",
        "etag",
        "guantong-block-bytes",
        "guantong-record",
        "link",
        "location",
        "retry-after",
        "www-authenticate",
    }
)
"""Headers of an answer that are handed on; nothing that makes a browser run, keep or frame anything under the relay's name."""
_SEALED = {"content-security-policy": "default-src 'none'; sandbox", "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Relayed:
    """A company whose requests are relayed here."""

    name: str
    did: str
    state: str
    """``hosted``, or ``ended``: its document is still shown, so that what it signed can be checked."""
    connected: bool
    in_flight: int


def passes(path: str) -> bool:
    """Whether a path may be asked for through a relay. ``path`` is decoded; one that goes upwards never passes."""
    return path.startswith(PASSED) and ".." not in path.split("/") and "\\" not in path


def seat_of(address: str, name: str) -> str:
    """The root address of a company at a relay."""
    return f"{address}/p/{name}"


def claim(
    identity: Identity,
    relay: str,
    name: str,
    document: Mapping[str, Any],
    at: int,
    *,
    changes: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """The statement by which a company has its document hosted, signed by both of its keys."""
    statement = {
        "v": 1,
        "type": _TYPE,
        "relay": relay,
        "name": name,
        "at": iso(at),
        "document": dict(document),
        "changes": [dict(one) for one in changes],
    }
    message = canonical_bytes(statement)
    signatures = {"evidence": b64(identity.evidence_key.sign(message)), "token": b64(identity.token_key.sign(message))}
    return {"statement": statement, "signatures": signatures}


def checked_claim(claimed: Mapping[str, Any], *, relay: str, address: str, at: int) -> tuple[str, dict[str, Any], int]:
    """Name, document and instant of a claim. Raises Refused ``exchange.relay-refused`` with what is wrong."""
    try:
        statement, signatures = claimed["statement"], claimed["signatures"]
        message = canonical_bytes(statement)
        name, document, stated = statement["name"], statement["document"], parse_iso(str(statement["at"]))
        if len(message) > _MAX_DOCUMENT or statement["type"] != _TYPE or statement["v"] != 1:
            raise ValueError("it is too large, or no claim")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError("a name is 1 to 40 small letters, digits and hyphens")
        if statement["relay"] != relay or abs(stated - at) > _SKEW_NS:
            raise ValueError("it is meant for another relay or another time")
        seat = seat_of(address, name)
        did = did_of(seat)
        if document["id"] != did:
            raise ValueError("its document names another subject")
        for method in document["verificationMethod"]:
            if method["controller"] != did or not str(method["id"]).startswith(f"{did}#"):
                raise ValueError("its document names keys of another subject")
        for service in document["service"]:
            if not str(service["serviceEndpoint"]).startswith(f"{seat}/") and service["serviceEndpoint"] != seat:
                raise ValueError("its document names services elsewhere")
        evidence = _evidence_of(document)
        token = public_key_of(document, str(document["authentication"][0]))
        if token is None or not _signed(token, message, unb64(signatures["token"])):
            raise ValueError("the token key has not signed it")
        if not verify_ed25519(evidence, message, unb64(signatures["evidence"])):
            raise ValueError("the evidence key has not signed it")
        return name, dict(document), stated
    except GuantongError as error:
        raise Refused("exchange.relay-refused", reason=error.message()) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Refused("exchange.relay-refused", reason=str(error)[:200]) from error


def _evidence_of(document: Mapping[str, Any]) -> bytes:
    jwk = public_key_of(document, "#evidence")
    if jwk is None or jwk.get("crv") != "Ed25519":
        raise ValueError("it has no evidence key")
    return unb64url(str(jwk["x"]))


def _signed(jwk: dict[str, Any], message: bytes, signature: bytes) -> bool:
    if jwk.get("kty") == "EC":
        return verify_es256(jwk, message, signature)
    return verify_ed25519(unb64url(str(jwk["x"])), message, signature)


def follows(known: Mapping[str, Any], document: Mapping[str, Any], changes: Any) -> bool:
    """Whether a newer document is of who held the evidence key of the known one: the same key, or one that it has signed over to."""
    held, wanted = _evidence_of(known), _evidence_of(document)
    for one in changes if isinstance(changes, list) else ():
        change = keychange.parse(one)
        if change.did == document["id"] and change.old == held and change.reason == keychange.ROTATED:
            held = change.new
    return held == wanted


class _Link:
    """A connection that a company has opened."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.lanes: dict[int, Lane] = {}
        self.last = 0

    def lane(self, idle_s: float) -> Lane:
        self.last = (self.last + 1) % 2**32
        while self.last in self.lanes:
            self.last = (self.last + 1) % 2**32
        lane = Lane(self.last, self.socket.send, idle_s=idle_s)
        self.lanes[lane.number] = lane
        return lane


class Relay:
    """Names hosted here, and the connections of those who are there now."""

    def __init__(self, hosting: Hosting, spaces: Spaces) -> None:
        self._hosting = hosting
        self._spaces = spaces
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._links: dict[tuple[str, str], _Link] = {}
        self._ending: set[asyncio.Task[None]] = set()
        spaces.on_removed.append(self._removed)

    async def start(self) -> None:
        """Read who is hosted."""
        for row in await self._hosting.records.rows(select(RELAYED)):
            known = {**row, "document": orjson.loads(row["document"])}
            self._known[(row["participant"], row["name"])] = known
            self._hosting.resolver.host(known["document"])

    def relayed(self, participant: str) -> list[Relayed]:
        """Every company that is or was relayed, by name."""
        found = []
        for (owner, name), known in sorted(self._known.items()):
            if owner == participant:
                link = self._links.get((owner, name))
                flying = 0 if link is None else len(link.lanes)
                found.append(Relayed(name, known["did"], known["state"], link is not None, flying))
        return found

    def document(self, participant: str, name: str) -> dict[str, Any]:
        """The document of a company. Raises Refused ``exchange.participant-unknown``."""
        known = self._known.get((participant, name))
        if known is None:
            raise Refused("exchange.participant-unknown", participant=name[:60])
        return dict(known["document"])

    async def claim(self, participant: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Host a company's document under a name: with an invitation the first time, signed by the same keys from then on.

        Raises Refused ``exchange.relay-refused`` and ``exchange.invitation-refused``.
        """
        hosting = self._hosting
        address = hosting.hosted(participant).address
        name, document, stated = checked_claim(body, relay=participant, address=address, at=hosting.clock.now())
        known = self._known.get((participant, name))
        invitation = ""
        if known is None:
            if not self._spaces.relays(participant):
                raise Refused("exchange.relay-refused", reason="this node relays for nobody")
            invitation = (await self._spaces.invitation(participant, str(body.get("code", "")), "join")).id
            mine = [one for (owner, _), one in self._known.items() if owner == participant]
            if any(one["invitation"] == invitation for one in mine):
                raise Refused("exchange.relay-refused", reason="this invitation has a name already")
            if sum(one["state"] == "hosted" for one in mine) >= hosting.settings.relay_names:
                raise Refused(
                    "exchange.relay-refused", reason=f"{hosting.settings.relay_names} names are hosted already"
                )
        else:
            try:
                same = follows(known["document"], document, body["statement"]["changes"])
            except (ValueError, KeyError, TypeError) as error:
                raise Refused("exchange.relay-refused", reason=str(error)[:200]) from error
            if not same:
                raise Refused("exchange.relay-refused", reason=f"{name} is another's name")
            if known["state"] != "hosted":
                raise Refused("exchange.relay-refused", reason="its membership was ended")
            if document == known["document"]:
                return {"type": "RelaySeat", "address": seat_of(address, name)}
            if stated <= known["stated_at"]:
                raise Refused("exchange.relay-refused", reason="a newer document is known")
        row = {
            "name": name,
            "did": document["id"],
            "invitation": invitation or (known or {}).get("invitation", ""),
            "stated_at": stated,
            "state": "hosted",
        }
        # two claims of one name meet here: the second finds it taken, before anything is awaited
        self._known[(participant, name)] = {**row, "document": document}
        try:
            async with hosting.records.step(participant) as step:
                step.upsert(RELAYED, **row, document=orjson.dumps(document), changed_at=step.at)
                step.record(
                    Entry(
                        RELAY_NAMED,
                        {
                            "name": name,
                            "did": document["id"],
                            "documentHash": digest(document),
                            "signature": str(body["signatures"]["evidence"]),
                        },
                    )
                )
        except BaseException:
            if known is None:
                del self._known[(participant, name)]
            else:
                self._known[(participant, name)] = known
            raise
        hosting.resolver.host(document)
        return {"type": "RelaySeat", "address": seat_of(address, name)}

    def _removed(self, participant: str, member: str) -> None:
        for (owner, name), known in self._known.items():
            if owner == participant and known["did"] == member:
                known["state"] = "ended"
                link = self._links.get((owner, name))
                task = asyncio.ensure_future(self._end(participant, name, member, link))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _end(self, participant: str, name: str, did: str, link: _Link | None) -> None:
        async with self._hosting.records.step(participant) as step:
            step.update(RELAYED, {"name": name}, {"state": "ended", "changed_at": step.at})
            step.record(Entry(RELAY_ENDED, {"name": name, "did": did}))
        if link is not None:
            await link.socket.close()

    # -- the connection of a company

    async def may_connect(self, participant: str, name: str, authorization: str) -> None:
        """Whether who wants to connect is who the name belongs to. Raises Refused ``exchange.token-refused``, ``exchange.relay-refused``."""
        caller = await self._hosting.tokens.identify(participant, authorization)
        known = self._known.get((participant, name))
        if known is None or known["did"] != caller.did:
            raise Refused("exchange.relay-refused", reason="the name is another's")
        if known["state"] != "hosted":
            raise Refused("exchange.relay-refused", reason="its membership was ended")
        async with self._hosting.records.step(participant) as step:
            self._hosting.tokens.remember(step, caller)

    async def serve(self, participant: str, name: str, socket: Socket) -> None:
        """Hand requests to a company until its connection ends; a newer connection takes the place of an older one."""
        key, link = (participant, name), _Link(socket)
        former = self._links.get(key)
        self._links[key] = link
        if former is not None:
            await former.socket.close()
        self._hosting.changed(participant, f"relay {name}", "CONNECTED")
        try:
            while True:
                message = await asyncio.wait_for(socket.receive(), self._hosting.settings.relay_idle_s)
                if message is None:
                    return
                kind, number, payload = kind_of(message)
                lane = link.lanes.get(number)
                if kind == PING:
                    await socket.send(frame(PONG, 0))
                elif lane is not None:  # what comes for a request that has ended is of no use
                    lane.take(kind, payload)
        except (TimeoutError, OSError, ValueError):
            return  # silent, gone, or speaking something else: it connects anew
        finally:
            if self._links.get(key) is link:
                del self._links[key]
            for lane in list(link.lanes.values()):
                lane.cut()
            with contextlib.suppress(OSError):
                await socket.close()
            self._hosting.changed(participant, f"relay {name}", "DISCONNECTED")

    # -- the request of a partner

    async def forward(self, participant: str, request: Asked) -> Answer:
        """The company's answer to a request.

        Raises Retryable ``exchange.relay-away``, Refused ``exchange.participant-unknown``, ``exchange.relay-refused`` once it has ended.
        """
        name, path = request.path_params["name"], "/" + request.path_params["path"]
        known = self._known.get((participant, name))
        if known is None or not passes(path) or request.method not in _METHODS:
            raise Refused("exchange.participant-unknown", participant=f"{name[:60]}{path[:60]}")
        settings = self._hosting.settings
        link = self._links.get((participant, name))
        if known["state"] != "hosted":
            raise Refused("exchange.relay-refused", reason="the membership of this company was ended")
        if link is None or len(link.lanes) >= settings.relay_in_flight:
            raise Retryable("exchange.relay-away", name=name)
        lane = link.lane(settings.relay_idle_s)
        sending: asyncio.Task[None] | None = None
        handed = False
        try:
            await lane.open(
                {
                    "method": request.method,
                    "path": path,
                    "query": request.query_string[:8192],
                    "headers": [[key, value] for key, value in request.headers.items() if key in _ASKED],
                }
            )
            sending = asyncio.create_task(_sent(lane, request), name=f"relay {name}")
            head = await asyncio.wait_for(asyncio.shield(lane.head), settings.relay_idle_s)
            status = head["status"]
            if not isinstance(status, int) or not 200 <= status < 600:
                raise ValueError("no status")
            headers = {
                key.lower(): value
                for key, value in head["headers"]
                if key.lower() in _ANSWERED and value.isascii() and value.isprintable()
            }
            handed = True
            return Answer(_Body(link, lane, sending), status, headers={**headers, **_SEALED})
        except (TimeoutError, OSError, ValueError, KeyError) as error:
            raise Retryable("exchange.relay-away", name=name) from error
        finally:
            if not handed:
                await _over(link, lane, sending)


async def _sent(lane: Lane, request: Asked) -> None:
    try:
        async for piece in request.stream():
            await lane.put(piece)
        await lane.end()
    except OSError:
        await _quietly_reset(lane)
    except GuantongError:
        await _quietly_reset(lane)  # larger than is taken here, or too slow: the answer to it is the company's silence


class _Body:
    """The body of an answer. Closed in any case by who sends it, also where not a piece of it was asked for."""

    def __init__(self, link: _Link, lane: Lane, sending: asyncio.Task[None]) -> None:
        self._link, self._lane, self._sending = link, lane, sending
        self._pieces = lane.pieces()
        self._whole = False

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self._whole = True
            raise

    async def aclose(self) -> None:
        await _over(self._link, self._lane, self._sending, whole=self._whole)


async def _over(link: _Link, lane: Lane, sending: asyncio.Task[None] | None, *, whole: bool = False) -> None:
    link.lanes.pop(lane.number, None)
    if sending is not None and not sending.done():
        sending.cancel()
    if not whole:
        await _quietly_reset(lane)


async def _quietly_reset(lane: Lane) -> None:
    with contextlib.suppress(OSError):
        await lane.reset()
