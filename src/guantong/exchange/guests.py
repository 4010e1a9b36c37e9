"""Guests: suppliers without a node. They act through a page on this node, but sign with a key that never leaves their browser.

Every statement (join, share, approve, decline, revoke, move) is verified here, entered whole with its signature in the evidence log, and
chained to the one before it (``base/guest.py``). What a guest shares is kept as the readings and measurements of that guest, a
participant of its own; this node may use it for the purposes that the guest signed, until the guest revokes.
"""

from __future__ import annotations

import asyncio
import os
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select, update

from guantong.base import guest as papers_of
from guantong.base.canonical import b64, b64url, canonical_bytes, digest, sha256, unb64
from guantong.base.clock import NS, iso
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, GuantongError, Refused, Retryable, Skippable
from guantong.base.guest import Chain, Statement
from guantong.connect.files import form_of
from guantong.exchange.guest_model import GUEST_ASKED, GUEST_STATED, GUEST_USED, Guest, Request, Share, Terms
from guantong.exchange.guest_tables import GUEST_REQUESTS, GUEST_SHARES, GUEST_STATEMENTS, GUEST_TERMS, GUESTS
from guantong.records.tables import LEAVES

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.guest_rows import GuestRows
    from guantong.exchange.hosting import Hosting
    from guantong.exchange.space import Spaces
    from guantong.records.service import Row, Step

__all__ = ["FORMS", "Guests", "ProofOf"]

FORMS = ("csv", "qif")
"""Forms of file that a guest may share; others are refused before anything reads them."""
LEEWAY_S = 15 * 60
"""How far the clock of a guest's device may be off."""
DEFAULT = Terms(
    "Quality of the parts delivered to us / 用于核对交付零件的质量",
    "Used for this purpose only, not passed on, and no longer after you revoke. / 仅用于此目的，不转交他人；您撤销后即停止使用。",
)
_SAFE = re.compile(r"[^\w.() -]+")


ProofOf = Callable[[str, int], Awaitable[tuple[str, str]]]
"""``(participant, place of a leaf)`` to the tlog-proof and the log's verifier key (prove's). Raises Retryable where the tree lags."""


class Guests:
    """The guests of every hosted participant."""

    def __init__(self, hosting: Hosting, spaces: Spaces) -> None:
        self.hosting = hosting
        self._spaces = spaces
        self._records = hosting.records
        self.folder: Path | None = None
        """Where the files that guests share are stored."""
        self.kept: GuestRows | None = None
        """Where their rows are kept."""
        self._prove: ProofOf | None = None
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    def serve(self, folder: Path, kept: GuestRows, prove: ProofOf) -> None:
        """Take files from now on. ``folder``: where they are stored as they came."""
        self.folder, self.kept, self._prove = folder, kept, prove

    async def start(self) -> None:
        """Go on with the guests there are."""
        if self.kept is not None:
            await self.kept.follow(await self.known())

    async def known(self) -> list[str]:
        """Every guest of this node."""
        return [str(row["did"]) for row in await self._records.rows(select(GUESTS.c.did).order_by(GUESTS.c.did))]

    # -- what the host asks for

    async def terms(self, participant: str) -> Terms:
        """What guests are asked for now."""
        row = await self._records.row(select(GUEST_TERMS).where(GUEST_TERMS.c.participant == participant))
        return DEFAULT if row is None else Terms(str(row["purpose"]), str(row["terms"]))

    async def set_terms(self, participant: str, purpose: str, terms: str) -> Terms:
        """Ask for something else from now on; what was signed stands. Raises Skippable ``exchange.guest-text``."""
        purpose, terms = _text(purpose), _text(terms)
        async with self._records.step(participant) as step:
            step.upsert(GUEST_TERMS, id="current", purpose=purpose, terms=terms, changed_at=step.at)
        return Terms(purpose, terms)

    async def ask(self, participant: str, share_id: str, purpose: str, terms: str = "") -> Request:
        """Ask a guest for one more use of what it shares; its page shows it. Raises Refused ``exchange.guest-not-shared``."""
        share = await self.share(participant, share_id)
        if share.state != "shared":
            raise Refused("exchange.guest-not-shared", share=share.file, purpose=purpose[:80])
        purpose, terms = _text(purpose), _text(terms or share.terms)
        async with self._records.step(participant) as step:
            stated = {"share": share.id, "purpose": purpose, "terms": terms, "at": iso(step.at)}
            request = Request(digest(stated), share.guest, share.id, purpose, terms, "asked", step.at, step.at)
            step.insert(GUEST_REQUESTS, **asdict(request))
            step.record(
                Entry(
                    GUEST_ASKED,
                    {
                        "guest": share.guest,
                        "request": request.id,
                        "share": share.id,
                        "purpose": purpose,
                        "terms": terms,
                    },
                )
            )
        return request

    async def use(self, participant: str, share_id: str, purpose: str = "", *, by: str = "owner") -> pa.Table:
        """The rows of a share, for a purpose that the guest signed; the use is recorded first.

        Raises Refused ``exchange.guest-not-shared`` where it was revoked or never agreed to for this purpose.
        """
        share = await self.share(participant, share_id)
        purpose = purpose or share.purpose
        allowed = {share.purpose} | {
            one.purpose
            for one in await self.requests(participant, share.guest)
            if one.share == share.id and one.state == "approved"
        }
        if share.state != "shared" or purpose not in allowed:
            raise Refused("exchange.guest-not-shared", share=share.file, purpose=purpose[:80])
        assert self.kept is not None
        try:
            async with self._records.step(participant) as step:
                # the writer looks again: a revocation that came meanwhile wins, and two uses at once count twice
                step.update(
                    GUEST_SHARES,
                    {"id": share.id},
                    {"uses": share.uses + 1, "used_at": step.at},
                    expect={"state": "shared", "uses": share.uses},
                )
                step.record(Entry(GUEST_USED, {"guest": share.guest, "share": share.id, "purpose": purpose, "by": by}))
        except Retryable as error:
            if error.code != "records.conflict":
                raise
            return await self.use(participant, share_id, purpose, by=by)
        return await self.kept.rows(share.guest, share.source)

    # -- what there is

    async def guests(self, participant: str) -> list[Guest]:
        """Every guest, by name."""
        rows = await self._records.rows(
            select(GUESTS).where(GUESTS.c.participant == participant).order_by(GUESTS.c.name, GUESTS.c.did)
        )
        return [_guest(row) for row in rows]

    async def guest(self, participant: str, did: str) -> Guest:
        """One guest. Raises Refused ``exchange.guest-unknown``."""
        row = await self._records.row(
            select(GUESTS).where(and_(GUESTS.c.participant == participant, GUESTS.c.did == did))
        )
        if row is None:
            raise Refused("exchange.guest-unknown", guest=did[:80])
        return _guest(row)

    async def shares(self, participant: str, guest: str = "") -> list[Share]:
        """Shares of all guests or of one, newest first."""
        where = [GUEST_SHARES.c.participant == participant, *([GUEST_SHARES.c.guest == guest] if guest else [])]
        rows = await self._records.rows(
            select(GUEST_SHARES).where(and_(*where)).order_by(GUEST_SHARES.c.shared_at.desc())
        )
        return [Share(**{name: row[name] for name in Share.__dataclass_fields__}) for row in rows]

    async def share(self, participant: str, share_id: str) -> Share:
        """One share, by its id or the beginning of it. Raises Refused ``exchange.guest-not-shared``."""
        wanted = share_id.removeprefix("sha256:")
        found = [one for one in await self.shares(participant) if one.id.removeprefix("sha256:").startswith(wanted)]
        if len(found) != 1 or len(wanted) < 6:
            raise Refused("exchange.guest-not-shared", share=share_id[:80], purpose="–")
        return found[0]

    async def requests(self, participant: str, guest: str = "") -> list[Request]:
        """What guests were asked for beyond their shares, newest first."""
        where = [GUEST_REQUESTS.c.participant == participant, *([GUEST_REQUESTS.c.guest == guest] if guest else [])]
        rows = await self._records.rows(
            select(GUEST_REQUESTS).where(and_(*where)).order_by(GUEST_REQUESTS.c.asked_at.desc())
        )
        return [Request(**{name: row[name] for name in Request.__dataclass_fields__}) for row in rows]

    async def statements(self, participant: str, guest: str) -> list[Mapping[str, Any]]:
        """The envelopes of a guest, in order."""
        rows = await self._records.rows(
            select(GUEST_STATEMENTS.c.envelope)
            .where(and_(GUEST_STATEMENTS.c.participant == participant, GUEST_STATEMENTS.c.guest == guest))
            .order_by(GUEST_STATEMENTS.c.number)
        )
        return [orjson.loads(row["envelope"]) for row in rows]

    # -- what the guest's page shows

    async def invited(self, participant: str, code: str) -> dict[str, Any]:
        """What the holder of a link is told before it makes a key. Raises Refused ``exchange.invitation-refused``."""
        invitation = await self._spaces.invitation(participant, code, "guest")
        return {**await self._about(participant), "invitation": invitation.id, "name": invitation.name}

    async def state(self, participant: str, did: str) -> dict[str, Any]:
        """What a guest sees: what it shares, for what, how often it was used, and what it is asked for."""
        guest = await self.guest(participant, did)
        return {
            **await self._about(participant),
            "name": guest.name,
            "number": guest.number,
            "head": guest.head,
            "movedTo": guest.moved_to,
            "shares": [
                {
                    "id": one.id,
                    "file": one.file,
                    "size": one.size,
                    "rows": one.rows,
                    "quarantined": one.quarantined,
                    "purpose": one.purpose,
                    "terms": one.terms,
                    "state": one.state,
                    "at": iso(one.shared_at),
                    "changedAt": iso(one.changed_at),
                    "uses": one.uses,
                    "usedAt": iso(one.used_at) if one.used_at else "",
                }
                for one in await self.shares(participant, did)
            ],
            "requests": [
                {
                    "id": one.id,
                    "share": one.share,
                    "purpose": one.purpose,
                    "terms": one.terms,
                    "state": one.state,
                    "at": iso(one.asked_at),
                }
                for one in await self.requests(participant, did)
            ],
        }

    async def _about(self, participant: str) -> dict[str, Any]:
        terms = await self.terms(participant)
        return {
            "host": participant,
            "hostName": self._spaces.company(participant),
            "address": self.hosting.hosted(participant).address,
            "now": iso(self.hosting.clock.now()),
            "purpose": terms.purpose,
            "terms": terms.terms,
            "fileBytes": self.hosting.settings.guest_file_bytes,
        }

    def reads(self, participant: str, question: bytes, signature: bytes, did: str) -> None:
        """Whether a guest itself asks for what is its own. Raises Refused ``exchange.guest-refused``."""
        papers_of.parse_read(
            question, signature, guest=did, host=participant, now=self.hosting.clock.now(), leeway=LEEWAY_S * NS
        )

    async def papers(self, participant: str, did: str) -> dict[str, Any]:
        """What a guest takes along: its statements, our entries about them, and their proofs under one checkpoint each.

        Raises Retryable ``exchange.guest-papers-later`` while the tree lags behind.
        """
        await self.guest(participant, did)
        assert self._prove is not None
        rows = await self._records.rows(
            select(GUEST_STATEMENTS.c.envelope, GUEST_STATEMENTS.c.leaf, LEAVES.c.leaf.label("entry"))
            .join(
                LEAVES,
                and_(
                    LEAVES.c.participant == GUEST_STATEMENTS.c.participant, LEAVES.c.number == GUEST_STATEMENTS.c.leaf
                ),
            )
            .where(and_(GUEST_STATEMENTS.c.participant == participant, GUEST_STATEMENTS.c.guest == did))
            .order_by(GUEST_STATEMENTS.c.number)
        )
        entries, log_key = [], ""
        for row in rows:
            proof, log_key = await self._prove(participant, int(row["leaf"]))
            entries.append({"leaf": bytes(row["entry"]).decode(), "proof": proof})
        return {
            "v": 1,
            "type": papers_of.FORM,
            "guest": did,
            "host": participant,
            "address": self.hosting.hosted(participant).address,
            "logKey": log_key,
            "statements": [orjson.loads(row["envelope"]) for row in rows],
            "entries": entries,
        }

    # -- a statement arrives

    async def take(self, participant: str, envelope: bytes, code: str, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """A statement, and for a share the file after it. Returns what the guest sees then.

        Nothing of the file is read before the signature holds. Raises Refused ``exchange.guest-refused``, ``exchange.guest-repeated``,
        ``exchange.guest-unknown``, ``exchange.guest-file-refused`` and what ``exchange.invitation-refused`` means.
        """
        statement = papers_of.parse(envelope)
        key = (participant, statement.guest)
        lock = self._locks.get(key) or self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            chain = await self._chain(participant, statement)
            now = self.hosting.clock.now()
            if statement.kind != "move" and abs(now - statement.at) > LEEWAY_S * NS:
                raise Refused(
                    "exchange.guest-refused", reason="it is too old, or the clock of the guest's device is wrong"
                )
            chain.add(statement)
            act = getattr(self, f"_{statement.kind}")
            try:
                await act(participant, statement, chain, code, body)
            except Retryable as error:
                if error.code != "records.conflict":
                    raise
                raise Refused("exchange.guest-repeated") from error
        return await self.state(participant, statement.guest)

    async def _chain(self, participant: str, statement: Statement) -> Chain:
        known = await self._records.row(
            select(GUEST_STATEMENTS.c.number).where(
                and_(
                    GUEST_STATEMENTS.c.participant == participant,
                    GUEST_STATEMENTS.c.guest == statement.guest,
                    GUEST_STATEMENTS.c.digest == statement.digest,
                )
            )
        )
        if known is not None:
            raise Refused("exchange.guest-repeated")
        chain = Chain(statement.guest, participant)
        if statement.kind == "join":
            return chain
        guest = await self.guest(participant, statement.guest)
        chain.number, chain.head = guest.number, guest.head
        if guest.moved_to:
            chain.moved_to, chain.key = guest.moved_to, unb64(guest.evidence)
        return chain

    async def _join(
        self, participant: str, statement: Statement, chain: Chain, code: str, _: AsyncIterator[bytes]
    ) -> None:
        invitation = await self._spaces.invitation(participant, code, "guest")
        if statement.body["invitation"] != invitation.id:
            raise Refused("exchange.guest-refused", reason="it names another invitation")
        async with self._records.step(participant) as step:
            self._spaces.use(step, invitation, statement.guest)
            step.insert(
                GUESTS,
                did=statement.guest,
                name=str(statement.body["name"])[:200] or invitation.name or statement.guest[-12:],
                number=chain.number,
                head=chain.head,
                moved_to="",
                evidence="",
                joined_at=step.at,
                changed_at=step.at,
            )
            self._enter(step, statement, {})

    async def _share(
        self, participant: str, statement: Statement, chain: Chain, _: str, body: AsyncIterator[bytes]
    ) -> None:
        file = statement.body["file"]
        settings = self.hosting.settings
        if file["size"] > settings.guest_file_bytes:
            raise Refused("exchange.guest-file-refused", reason=f"more than {settings.guest_file_bytes} bytes")
        asked = await self.terms(participant)
        if (statement.body["purpose"], statement.body["terms"]) != (asked.purpose, asked.terms):
            raise Refused("exchange.guest-refused", reason="purpose or terms are not those asked for now")
        stored = sum(one.size for one in await self.shares(participant, statement.guest))
        if stored + file["size"] > settings.guest_total_bytes:
            raise Refused("exchange.guest-file-refused", reason=f"more than {settings.guest_total_bytes} bytes in all")
        found = bytearray()
        async for part in body:
            found += part
            if len(found) > file["size"]:
                raise Refused("exchange.guest-file-refused", reason="it is longer than the statement says")
        data = bytes(found)
        if not await asyncio.to_thread(papers_of.matches, file, data):
            raise Refused("exchange.guest-file-refused", reason="it is not the file that was signed")
        path = await asyncio.to_thread(self._store, statement.guest, str(file["name"]), data)
        source = "guest/" + sha256(data).hex()[:16]
        assert self.kept is not None
        try:
            form = await asyncio.to_thread(form_of, path)
            if form not in FORMS:
                raise Refused("exchange.guest-file-refused", reason=f"{form} is not one of {', '.join(FORMS)}")
            rows, quarantined = await self.kept.take(statement.guest, source, path)
            if not rows:
                raise Refused("exchange.guest-file-refused", reason="no row of it could be read")
        except (ConfigProblem, Skippable, Refused) as error:
            if not await self._is_shared(participant, statement.guest, file["sha256"]):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            if error.code == "exchange.guest-file-refused":
                raise
            raise Refused("exchange.guest-file-refused", reason=error.message()) from error
        async with self._records.step(participant) as step:
            step.insert(
                GUEST_SHARES,
                id=statement.digest,
                guest=statement.guest,
                source=source,
                file=str(file["name"]),
                size=file["size"],
                sha256=file["sha256"],
                root=file["root"],
                form=form,
                rows=rows,
                quarantined=quarantined,
                purpose=statement.body["purpose"],
                terms=statement.body["terms"],
                state="shared",
                shared_at=step.at,
                changed_at=step.at,
                uses=0,
                used_at=0,
            )
            self._advance(step, statement, chain)
            self._enter(step, statement, {"source": source, "form": form, "rows": rows, "quarantined": quarantined})

    async def _approve(
        self, participant: str, statement: Statement, chain: Chain, _: str, __: AsyncIterator[bytes]
    ) -> None:
        body = statement.body
        request = next(
            (one for one in await self.requests(participant, statement.guest) if one.id == body["request"]), None
        )
        if request is None or (request.share, request.purpose, request.terms) != (
            body["share"],
            body["purpose"],
            body["terms"],
        ):
            raise Refused("exchange.guest-refused", reason="it answers something that was not asked")
        async with self._records.step(participant) as step:
            step.move(
                GUEST_REQUESTS,
                {"id": request.id},
                "approved" if statement.kind == "approve" else "declined",
                was=("asked", "approved") if statement.kind == "decline" else "asked",
            )
            self._advance(step, statement, chain)
            self._enter(step, statement, {})

    _decline = _approve

    async def _revoke(
        self, participant: str, statement: Statement, chain: Chain, _: str, __: AsyncIterator[bytes]
    ) -> None:
        mine = await self.shares(participant, statement.guest)
        if not any(one.id == statement.body["share"] and one.state == "shared" for one in mine):
            raise Refused("exchange.guest-refused", reason="this guest shares nothing of that name")
        async with self._records.step(participant) as step:
            step.move(GUEST_SHARES, {"id": statement.body["share"]}, "revoked", was="shared")
            self._advance(step, statement, chain)
            self._enter(step, statement, {})

    async def _move(
        self, participant: str, statement: Statement, chain: Chain, _: str, __: AsyncIterator[bytes]
    ) -> None:
        confirmed = await self._lists(chain.moved_to, chain.key)
        async with self._records.step(participant) as step:
            self._advance(step, statement, chain, moved_to=chain.moved_to, evidence=b64(chain.key))
            self._enter(step, statement, {"confirmed": confirmed})

    async def _lists(self, did: str, evidence: bytes) -> bool:
        """Whether the document of a guest's own node lists its key: a guest can't move under another company's name.

        A PC without an address that this node may call can't be asked: the entry then says that nobody has confirmed it. Raises Refused
        ``exchange.guest-refused`` where the document names other keys.
        """
        try:
            document = await self.hosting.resolver.document(did)
        except GuantongError as error:
            if error.code == "exchange.did-refused":
                raise
            return False
        keys = [one.get("publicKeyJwk") for one in document.get("verificationMethod") or () if isinstance(one, dict)]
        if not any(isinstance(key, dict) and key.get("x") == b64url(evidence) for key in keys):
            raise Refused("exchange.guest-refused", reason=f"{did} does not list the key that the move names")
        return True

    def _advance(self, step: Step, statement: Statement, chain: Chain, **more: Any) -> None:
        step.update(
            GUESTS,
            {"did": statement.guest},
            {"number": chain.number, "head": chain.head, "changed_at": step.at, **more},
            expect={"number": statement.number},
        )

    def _enter(self, step: Step, statement: Statement, kept: Mapping[str, Any]) -> None:
        place = step.record(
            Entry(
                GUEST_STATED,
                {
                    "guest": statement.guest,
                    "kind": statement.kind,
                    "statement": statement.digest,
                    "envelope": dict(statement.envelope),
                    "kept": dict(kept),
                },
            )
        )
        step.insert(
            GUEST_STATEMENTS,
            guest=statement.guest,
            number=statement.number,
            digest=statement.digest,
            kind=statement.kind,
            envelope=canonical_bytes(dict(statement.envelope)),
            leaf=-1,
            stated_at=step.at,
        )
        where = and_(
            GUEST_STATEMENTS.c.participant == step.participant,
            GUEST_STATEMENTS.c.guest == statement.guest,
            GUEST_STATEMENTS.c.number == statement.number,
        )
        # the leaf's number is only known when the writer has written it
        step.apply(
            lambda connection: connection.execute(update(GUEST_STATEMENTS).where(where).values(leaf=step.leaves[place]))
        )

    async def _is_shared(self, participant: str, guest: str, found: str) -> bool:
        return any(one.sha256 == found for one in await self.shares(participant, guest))

    def _store(self, guest: str, name: str, data: bytes) -> Path:
        assert self.folder is not None
        folder = self.folder / sha256(guest.encode()).hex()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = ".qif" if name.lower().endswith((".qif", ".xml")) else ".csv"
        path = folder / f"{sha256(data).hex()}{suffix}"
        if not path.exists():
            fresh = path.with_name(path.name + ".new")
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        return path


def _guest(row: Row) -> Guest:
    return Guest(**{name: row[name] for name in Guest.__dataclass_fields__})


def _text(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= 4000:
        raise Skippable("exchange.guest-text", length=len(text))
    return text
