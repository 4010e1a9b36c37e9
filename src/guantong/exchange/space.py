"""A space of companies: its leader issues membership, invites with one-time links, and ends membership; a company joins with one link.

A link is ``<root address of the leader>/space/join#<code>`` (``/space/guest#<code>`` for a supplier without a node). The code is behind the
``#``, so that no server and no proxy writes it down; kept is its SHA-256. Joining is proof of key possession (our identity token), then
the Credential Issuance Protocol as any wallet speaks it. Source: Decentralized Claims Protocol 1.0; W3C Bitstring Status List 1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import sha256
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Retryable, Skippable
from guantong.exchange.dids import did_of, did_url
from guantong.exchange.model import (
    INVITATION_ENDED,
    INVITATION_MADE,
    MEMBER_ADMITTED,
    SPACE_JOINED,
    SPACE_MADE,
    Participant,
)
from guantong.exchange.tables import CREDENTIAL_REQUESTS, INVITATIONS, MEMBERS, SPACES
from guantong.exchange.trust import Standards

if TYPE_CHECKING:
    from collections.abc import Callable

    from guantong.base.wire import Http, Response
    from guantong.exchange.hosting import Hosting
    from guantong.exchange.issuer import Issuer
    from guantong.records.service import Step

__all__ = ["MEMBERSHIP", "Invitation", "Member", "Offer", "Space", "Spaces", "code_of", "looked", "root_of"]

MEMBERSHIP = "MembershipCredential"
"""Type of the credential that says: this company is a member of the issuer's space."""
KINDS = ("join", "guest")
PATH = "/space"
_CODE = re.compile(r"[0-9a-f]{32}")
_MOST_OPEN = 1000
"""Most invitations that wait for their use."""
_RENEW_NS = 30 * 86_400 * NS
"""A membership that ends sooner than this is renewed when the node starts."""


@dataclass(frozen=True, slots=True)
class Space:
    """A space that a participant leads or is a member of."""

    issuer: str
    """DID of its leader, who issues membership."""
    name: str
    role: str
    """``leader`` or ``member``."""
    leader: str
    """Name of the leader's company, as it wrote it."""
    required: bool
    """Whether callers must show that they are members of a space that is trusted here."""
    since: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """A one-time link, without its code."""

    id: str
    """SHA-256 of the code, hexadecimal."""
    kind: str
    """``join`` (a company with a node) or ``guest`` (one without)."""
    name: str
    """Whom it is for, as the inviter wrote it; may be empty."""
    until: int
    """Nanoseconds since the epoch; not usable from then on."""
    state: str
    """``open``, ``used`` or ``withdrawn``."""
    used_by: str
    """DID that used it, empty if nobody has."""
    made_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class Member:
    """A company that is or was admitted to the own space."""

    did: str
    name: str
    state: str
    """``admitted`` or ``ended``."""
    changed_at: int

    @property
    def address(self) -> str:
        """Its root address, which its DID names."""
        return root_of(self.did)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a link offers, as its leader says."""

    root: str
    """Root address of the leader."""
    code: str
    kind: str
    issuer: str
    space: str
    leader: str
    until: int
    required: bool
    relay: bool
    """Whether the leader relays requests to companies without a public address."""


def root_of(did: str) -> str:
    """The root address of a did:web. Raises Refused ``exchange.did-refused``."""
    return did_url(did).removesuffix("/did.json").removesuffix("/.well-known")


def code_of(link: str) -> tuple[str, str, str]:
    """Root address, kind and code of a link. Raises Skippable ``exchange.invitation-unreadable``."""
    try:
        parts = urlsplit(link.strip())
        prefix, _, kind = parts.path.rpartition(f"{PATH}/")
        whole = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and not parts.query
    except ValueError:
        whole, prefix, kind = None, "", ""
    if not whole or kind not in KINDS or not _CODE.fullmatch(parts.fragment):
        raise Skippable("exchange.invitation-unreadable", link=link.partition("#")[0][:200])
    return f"{parts.scheme}://{parts.netloc}{prefix}", kind, parts.fragment


async def looked(http: Http, link: str) -> Offer:
    """What a link offers, asked of its leader; needs no keys. Raises as :meth:`Spaces.look`."""
    root, kind, code = code_of(link)
    answer = _object(
        await http.request(
            "POST",
            f"{root}{PATH}/offer",
            body=orjson.dumps({"code": code, "kind": kind}),
            headers={"content-type": "application/json", "accept": "application/json"},
            max_bytes=64 * 1024,
        )
    )
    # the name of the host, which TLS has proven, must be the issuer's: nobody can offer another's space
    if answer.get("type") != "SpaceOffer" or answer.get("issuer") != did_of(root):
        raise Refused("exchange.invitation-refused", reason="who answers is not who issues")
    try:
        until = parse_iso(str(answer["until"]))
    except (ValueError, KeyError, GuantongError) as error:
        raise Refused("exchange.invitation-refused", reason="the answer names no end") from error
    return Offer(
        root,
        code,
        kind,
        str(answer["issuer"]),
        str(answer.get("space", ""))[:200],
        str(answer.get("leader", ""))[:200],
        until,
        answer.get("required") is True,
        answer.get("relay") is True,
    )


class Spaces:
    """The spaces of every hosted participant."""

    def __init__(self, hosting: Hosting, issuer: Issuer) -> None:
        self._hosting = hosting
        self._issuer = issuer
        self._spaces: dict[str, tuple[Space, ...]] = {}
        self.on_removed: list[Callable[[str, str], None]] = []
        """Called with participant and member when a membership was ended."""
        self.company: Callable[[str], str] = lambda participant: participant
        """The name of a participant's company, as people write it."""
        self.remade: Callable[[str], None] = lambda _: None
        """Called when the DID document of a participant says something else."""

    async def start(self) -> None:
        """Read the spaces, and let them count."""
        rows = await self._hosting.records.rows(select(SPACES).order_by(SPACES.c.made_at))
        found: dict[str, list[Space]] = {}
        for row in rows:
            found.setdefault(row["participant"], []).append(
                Space(row["issuer"], row["name"], row["role"], row["leader"], bool(row["required"]), row["made_at"])
            )
        for participant, spaces in found.items():
            self._put(participant, spaces)

    async def renew(self, participant: str) -> None:
        """Ask for memberships that end soon, and make the own one anew."""
        now = self._hosting.clock.now()
        for space in self._spaces.get(participant, ()):
            held = [
                one.credential.valid_until or 2**63
                for one in self._hosting.wallet.held(participant)
                if one.issuer == space.issuer and one.kind == MEMBERSHIP
            ]
            if max(held, default=0) > now + _RENEW_NS:
                continue
            if space.role == "leader":
                await self._issuer.own(participant, MEMBERSHIP, self._claims(space, participant, space.leader))
                continue
            with contextlib.suppress(GuantongError):  # it does not answer or has ended us: the pages show what we hold
                await self._hosting.wallet.request(participant, space.issuer, [MEMBERSHIP])

    def spaces(self, participant: str) -> tuple[Space, ...]:
        """The spaces of a participant, oldest first."""
        return self._spaces.get(participant, ())

    def own(self, participant: str) -> Space:
        """The space that a participant leads. Raises Refused ``exchange.space-unknown``."""
        for space in self._spaces.get(participant, ()):
            if space.role == "leader":
                return space
        raise Refused("exchange.space-unknown")

    def relays(self, participant: str) -> bool:
        """Whether it relays requests to companies without a public address: it leads a space and can take their connections."""
        leads = any(one.role == "leader" for one in self._spaces.get(participant, ()))
        return leads and self._hosting.settings.relay_names > 0 and find_spec("wsproto") is not None

    # -- the leader

    async def make(self, participant: str, name: str, *, required: bool = True) -> Space:
        """Found a space: this participant issues membership from now on, and is its first member.

        Asked again it changes the space's name, and whether callers must be members. Raises Skippable ``exchange.space-name``.
        """
        name = _named(name)
        known = [one for one in self._spaces.get(participant, ()) if one.role == "leader"]
        leader = self.company(participant)[:200]
        async with self._hosting.records.step(participant) as step:
            space = Space(participant, name, "leader", leader, required, known[0].since if known else step.at)
            self._store(step, space)
            if not known:
                step.record(Entry(SPACE_MADE, {"issuer": participant, "name": name, "kind": MEMBERSHIP}))
        self._put(participant, [one for one in self._spaces.get(participant, ()) if one.role != "leader"] + [space])
        self.remade(participant)
        await self.renew(participant)
        return space

    async def invite(
        self, participant: str, *, kind: str = "join", name: str = "", valid_s: float = 7 * 86_400.0
    ) -> tuple[Invitation, str]:
        """A one-time link; kept is the digest of its code. Raises Refused ``exchange.space-unknown`` without a space to join."""
        if kind not in KINDS:
            raise Skippable("exchange.invitation-unreadable", link=kind[:40])
        if kind == "join":
            self.own(participant)
        waiting = [one for one in await self.invitations(participant) if one.state == "open"]
        if len([one for one in waiting if one.until > self._hosting.clock.now()]) >= _MOST_OPEN:
            raise Refused("exchange.invitation-refused", reason=f"{_MOST_OPEN} invitations are open")
        code = self._hosting.records.random(16).hex()
        async with self._hosting.records.step(participant) as step:
            made = Invitation(
                _digest(code), kind, name.strip()[:200], step.at + int(valid_s * NS), "open", "", step.at, 0
            )
            step.insert(
                INVITATIONS,
                id=made.id,
                kind=kind,
                name=made.name,
                until=made.until,
                state=made.state,
                used_by="",
                made_at=step.at,
                changed_at=step.at,
            )
            step.record(Entry(INVITATION_MADE, {"invitation": made.id, "kind": kind, "until": iso(made.until)}))
        return made, f"{self._hosting.hosted(participant).address}{PATH}/{kind}#{code}"

    async def invitations(self, participant: str) -> list[Invitation]:
        """Every invitation, newest first."""
        rows = await self._hosting.records.rows(
            select(INVITATIONS).where(INVITATIONS.c.participant == participant).order_by(INVITATIONS.c.made_at.desc())
        )
        return [_invitation(row) for row in rows]

    async def withdraw(self, participant: str, invitation_id: str) -> None:
        """Make an open link useless, named by the beginning of its id. Raises Refused ``exchange.invitation-refused``."""
        found = [one for one in await self.invitations(participant) if one.id.startswith(invitation_id)]
        if len(found) != 1 or len(invitation_id) < 8 or found[0].state != "open":
            raise Refused("exchange.invitation-refused", reason="there is no open one of that name")
        async with self._hosting.records.step(participant) as step:
            step.update(
                INVITATIONS,
                {"id": found[0].id},
                {"state": "withdrawn", "changed_at": step.at},
                expect={"state": "open"},
            )
            step.record(Entry(INVITATION_ENDED, {"invitation": found[0].id, "state": "withdrawn", "by": ""}))

    async def invitation(
        self, participant: str, code: str, kind: str, *, by: str = "", looking: bool = False
    ) -> Invitation:
        """The open invitation of a code, or the one that ``by`` has used itself (its answer was lost); who only looks may see a used one.

        Raises Refused ``exchange.invitation-refused``: unknown, used, withdrawn, too old, all alike.
        """
        row = await self._hosting.records.row(
            select(INVITATIONS).where(and_(INVITATIONS.c.participant == participant, INVITATIONS.c.id == _digest(code)))
        )
        found = None if row is None else _invitation(row)
        if found is not None and found.kind == kind:
            if found.state == "used" and (looking or (by and found.used_by == by)):
                return found
            if found.state == "open" and found.until > self._hosting.clock.now():
                return found
        raise Refused("exchange.invitation-refused", reason="it is unknown, used up, withdrawn or too old")

    def use(self, step: Step, invitation: Invitation, by: str) -> None:
        """Use up an open invitation within a step, which fails where somebody else was quicker (Retryable ``records.conflict``)."""
        if invitation.state == "open":
            step.update(
                INVITATIONS,
                {"id": invitation.id},
                {"state": "used", "used_by": by, "changed_at": step.at},
                expect={"state": "open"},
            )
            step.record(Entry(INVITATION_ENDED, {"invitation": invitation.id, "state": "used", "by": by}))

    async def offered(self, participant: str, code: str, kind: str) -> dict[str, Any]:
        """What the holder of a link is told before it decides."""
        invitation = await self.invitation(participant, code, kind, looking=True)
        space = next((one for one in self._spaces.get(participant, ()) if one.role == "leader"), None)
        return {
            "type": "SpaceOffer",
            "issuer": participant,
            "space": "" if space is None else space.name,
            "leader": self.company(participant),
            "kind": kind,
            "until": iso(invitation.until),
            "credential": MEMBERSHIP,
            "required": space is not None and space.required,
            "relay": self.relays(participant),
        }

    async def admit(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> dict[str, Any]:
        """A company with a link asks to be a member: it is admitted, its wallet then asks for the credential.

        The link was handed to it by a person; that is the decision. Raises Refused ``exchange.invitation-refused``.
        """
        space = self.own(participant)
        invitation = await self.invitation(participant, str(body.get("code", "")), "join", by=caller.did)
        name = str(body.get("name", ""))[:200] or invitation.name or caller.did
        claims = self._claims(space, caller.did, name)
        async with self._hosting.records.step(participant) as step:
            self._hosting.tokens.remember(step, caller)
            self.use(step, invitation, caller.did)
            if invitation.state == "open":
                step.upsert(
                    MEMBERS,
                    holder=caller.did,
                    kind=MEMBERSHIP,
                    claims=orjson.dumps(claims),
                    state="admitted",
                    changed_at=step.at,
                )
                step.record(Entry(MEMBER_ADMITTED, {"holder": caller.did, "name": name, "invitation": invitation.id}))
        return {"type": "SpaceMembership", "issuer": participant, "space": space.name, "credential": MEMBERSHIP}

    async def members(self, participant: str) -> list[Member]:
        """Everybody who is or was admitted, by name."""
        found = [
            Member(row["holder"], str(row["claims"].get("name") or row["holder"]), row["state"], row["changed_at"])
            for row in await self._issuer.members(participant)
            if row["kind"] == MEMBERSHIP
        ]
        return sorted(found, key=lambda one: (one.name, one.did))

    async def remove(self, participant: str, member: str) -> int:
        """End a membership: the status list says so at once, partners know when what they kept of it is too old.

        How many credentials were ended. Raises Refused ``exchange.member-unknown``.
        """
        found = [one for one in await self.members(participant) if one.did == member and one.state == "admitted"]
        if not found or member == participant:
            raise Refused("exchange.member-unknown", member=member[:200])
        ended = await self._issuer.revoke(participant, member, MEMBERSHIP)
        for tell in self.on_removed:
            tell(participant, member)
        return ended

    # -- who joins

    async def look(self, link: str) -> Offer:
        """What a link offers. Raises Skippable ``exchange.invitation-unreadable``, Refused ``exchange.invitation-refused``."""
        return await looked(self._hosting.http, link)

    async def join(
        self, participant: str, link: str, *, name: str = "", required: bool | None = None, wait_s: float = 30.0
    ) -> tuple[Space, bool]:
        """Join the space of a link; the space, and whether the membership came within the time given.

        ``required``: whether our callers must be members too; the leader's own choice if None. Asked again with the same link it goes on
        where it was. Raises what :meth:`look` raises, and Retryable where the leader does not answer.
        """
        offer = await self.look(link)
        if offer.kind != "join":
            raise Refused("exchange.invitation-refused", reason="it is a guest's: open it in a browser")
        hosting = self._hosting
        body = {"code": offer.code, "name": name or self.company(participant)}
        answer = _object(
            await hosting.request(participant, offer.issuer, "POST", f"{offer.root}{PATH}/join", body, max_bytes=65_536)
        )
        if answer.get("issuer") != offer.issuer:
            raise Refused("exchange.invitation-refused", reason="who answers is not who issues")
        wanted = offer.required if required is None else required
        async with hosting.records.step(participant) as step:
            space = Space(offer.issuer, offer.space, "member", offer.leader, wanted, step.at)
            self._store(step, space)
            step.record(Entry(SPACE_JOINED, {"issuer": space.issuer, "name": space.name, "kind": MEMBERSHIP}))
        others = [one for one in self._spaces.get(participant, ()) if one.issuer != space.issuer]
        self._put(participant, [*others, space])
        pid = await hosting.wallet.request(participant, offer.issuer, [MEMBERSHIP])
        return space, await self._came(participant, pid, wait_s)

    async def _came(self, participant: str, pid: str, wait_s: float) -> bool:
        clock = self._hosting.clock
        end = clock.monotonic() + wait_s
        where = and_(CREDENTIAL_REQUESTS.c.participant == participant, CREDENTIAL_REQUESTS.c.id == pid)
        while True:
            with self._hosting.watching(participant, f"credentials {pid}") as changed:
                row = await self._hosting.records.row(select(CREDENTIAL_REQUESTS.c.state).where(where))
                if row is None or row["state"] != "RECEIVED":
                    return row is not None and row["state"] == "ISSUED"
                try:
                    await asyncio.wait_for(changed, max(0.0, end - clock.monotonic()))
                except TimeoutError:
                    return False

    async def directory(self, participant: str) -> list[dict[str, str]]:
        """Who is in our spaces, as their leaders say now: ``space``, ``did``, ``name``, ``address``."""
        found: list[dict[str, str]] = []
        for space in self._spaces.get(participant, ()):
            if space.role == "leader":
                listed: Sequence[Any] = self.listed(participant, await self.members(participant))
            else:
                url = f"{root_of(space.issuer)}{PATH}/members"
                answer = _object(
                    await self._hosting.request(participant, space.issuer, "GET", url, max_bytes=4 * 1024 * 1024)
                )
                told = answer.get("members")
                listed = told if isinstance(told, list) else []
            for one in listed[:10_000]:
                if isinstance(one, dict) and str(one.get("did", "")).startswith("did:web:"):
                    did = str(one["did"])[:200]
                    found.append(
                        {
                            "space": space.name,
                            "did": did,
                            "name": str(one.get("name", ""))[:200],
                            "address": root_of(did),
                        }
                    )
        return found

    def listed(self, participant: str, members: Sequence[Member]) -> list[dict[str, str]]:
        """What members are told of each other."""
        return [{"did": one.did, "name": one.name} for one in members if one.state == "admitted"]

    # -- inside

    def _claims(self, space: Space, holder: str, name: str) -> dict[str, Any]:
        return {"memberOf": space.name, "holderIdentifier": holder, "name": name}

    def _store(self, step: Step, space: Space) -> None:
        step.upsert(
            SPACES,
            issuer=space.issuer,
            name=space.name,
            role=space.role,
            leader=space.leader,
            required=space.required,
            made_at=space.since,
        )

    def _put(self, participant: str, spaces: Sequence[Space]) -> None:
        self._spaces[participant] = tuple(spaces)
        self._hosting.trust.put(
            participant,
            Standards(
                issued=(MEMBERSHIP,) if any(one.role == "leader" for one in spaces) else (),
                issuers=tuple(f"{one.issuer} {MEMBERSHIP}" for one in spaces),
                required=(MEMBERSHIP,) if any(one.required for one in spaces) else (),
            ),
        )


def _digest(code: str) -> str:
    return sha256(code.encode()).hex()


def _named(name: str) -> str:
    name = " ".join(name.split())
    if not 0 < len(name) <= 120:
        raise Skippable("exchange.space-name", name=name[:60])
    return name


def _invitation(row: Mapping[str, Any]) -> Invitation:
    used = row["changed_at"] if row["state"] == "used" else 0
    return Invitation(
        row["id"], row["kind"], row["name"], row["until"], row["state"], row["used_by"], row["made_at"], used
    )


def _object(response: Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        body = None
    if response.status >= 500 or response.status == 429:
        raise Retryable("exchange.partner-busy", partner="leader", status=response.status, message="space")
    if not 200 <= response.status < 300 or not isinstance(body, dict):
        told = body.get("title") if isinstance(body, dict) else None
        reason = str(told or f"the answer is {response.status}").removeprefix("The invitation is not accepted: ")
        raise Refused("exchange.invitation-refused", reason=reason[:300].rstrip("."))
    return body
