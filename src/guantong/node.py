"""The composition root: one running node. Everything that crosses against the order of the rooms is wired here, and listed in WIRES."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from guantong import __version__
from guantong.base.clock import Clock, SystemClock, iso
from guantong.base.errors import GuantongError
from guantong.base.ids import NewId, Randomness, new_uuid, system_random
from guantong.base.wire import Http
from guantong.config import SETTINGS, Config

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from guantong.exchange.ports import Access, Verdict
    from guantong.exchange.relayed import Seat, Uplink
    from guantong.keep.model import Retention
    from guantong.prove.model import Scope

__all__ = ["WIRES", "Node", "Wire", "run_async"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wire:
    """One value, function or port that crosses against the order of the rooms."""

    needs: str
    """Room and name that needs it, as it stands in that room's code."""
    gives: str
    """Room whose service gives it."""
    shape: str
    """What crosses."""


WIRES: tuple[Wire, ...] = (
    Wire("base.Http", "web", "request(...) -> response, dial(...) -> socket: client of connect, exchange and prove"),
    Wire("records.Send", "settle", "(participant, message, attempt): brings an invoice to the partner"),
    Wire(
        "connect.Sink", "keep", "take(participant, batch) -> log position; a gateway's place is read back after a crash"
    ),
    Wire("keep.Keep.on_retention", "govern", "(participant) -> days by grade and the grade of each signal"),
    Wire(
        "keep.Who",
        "exchange",
        "(request) -> the participant whose person is signed in; a partner's token is nobody here",
    ),
    Wire("describe.Decide", "govern", "(participant, subject, action, object) -> bool"),
    Wire("describe.Who", "exchange", "(request) -> participant and the partner that its identity token names"),
    Wire("describe.Who", "web", "(request) -> participant and the person signed in"),
    Wire("govern.Govern.decide", "exchange", "the Cedar permit that an agreement or an offer compiles to"),
    Wire(
        "keep.Note",
        "prove",
        "note(table, rows) -> what the step that records the commit does: the root over the rows' chunks",
    ),
    Wire(
        "exchange.Answerer",
        "settle",
        "answer(participant, question) -> halves of disputed blocks, signed resolutions, credit notes",
    ),
    Wire(
        "exchange.Answerer",
        "prove",
        "answer(participant, question) -> a figure with its proof, or the chunks a challenge draws",
    ),
    Wire("prove.FactorOf", "watch", "factor(name) -> emission factor with basis, year and source, for kgCO2e per part"),
    Wire("exchange.Answerer", "watch", "answer(participant, question) -> one scalar: days of supply"),
    Wire("exchange.ProofOf", "prove", "(participant, leaf) -> proof and the log's key: what a guest takes along"),
    Wire(
        "exchange.Exchange.on_change",
        "prove",
        "(participant, process, state): partners of an agreement witness each other",
    ),
    Wire("exchange.Exchange.on_change", "settle", "the same, with the partner's public key"),
    Wire("prove.Prove.add_peer", "settle", "the partner's public evidence key, once an agreement is final"),
)
"""What :class:`Node` carries backwards: a room's function, value or port that a room before it uses. What an earlier room gives to a
later one (govern decides for exchange, exchange hands its receipts to settle) goes with the order and needs no row. A test reads the
calls in :class:`Node` and compares.
"""


class Node:
    """One node with one participant. ``await start()``, ``await serve()``, ``await stop()``.

    The clock, the HTTP client and randomness are arguments, so that a simulation can give its own.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        http: Http | None = None,
        random: Randomness = system_random,
        new_id: NewId = new_uuid,
        inline: bool = False,
    ) -> None:
        from guantong.connect.edges import Edges
        from guantong.connect.model import ConnectSettings
        from guantong.connect.secrets import Secrets
        from guantong.connect.service import Connect
        from guantong.describe.model import DescribeSettings
        from guantong.describe.service import Describe
        from guantong.exchange.candidates import OwnDatasets
        from guantong.exchange.guest_rows import GuestRows
        from guantong.exchange.identity import did_of
        from guantong.exchange.keyring import FILE, load_keys
        from guantong.exchange.model import ExchangeSettings
        from guantong.exchange.permits import Permits
        from guantong.exchange.relayed import seat_in
        from guantong.exchange.service import Exchange
        from guantong.fuse.model import FuseSettings
        from guantong.fuse.service import Fuse
        from guantong.govern.model import GovernSettings
        from guantong.govern.service import Govern
        from guantong.keep.blobs import FolderBlobs
        from guantong.keep.model import KeepSettings
        from guantong.keep.seal import SealedBlobs
        from guantong.keep.service import Keep
        from guantong.prove import anchors
        from guantong.prove.figure import OPEN_FIGURE, ORDER_FIGURE, RECEIVE_FIGURE
        from guantong.prove.figure_trade import FigureTrade
        from guantong.prove.figures import Figures
        from guantong.prove.model import ProveKeys, ProveSettings
        from guantong.prove.papers import ExchangePapers, proof_of
        from guantong.prove.service import Prove
        from guantong.records.outbox import Outbox, OutboxSettings
        from guantong.records.schema import migrate
        from guantong.records.service import Records
        from guantong.settle.accounts import Accounts
        from guantong.settle.disputes import Disputes
        from guantong.settle.model import BISECT, CREDIT_NOTE, RESOLVE, TELL, SettleSettings
        from guantong.settle.partners import ExchangePartners
        from guantong.settle.service import OUTBOX_KIND, Settle
        from guantong.value.metering import read_meters, read_quality
        from guantong.value.model import ValueSettings
        from guantong.value.service import Value
        from guantong.watch.model import DAYS_OF_SUPPLY, WatchSettings
        from guantong.watch.service import Watch
        from guantong.web.client import AiohttpClient
        from guantong.web.model import WebSettings
        from guantong.web.server import bind

        self.config = config
        self.clock = clock or SystemClock()
        self.directory = Path(config["node.directory"]).expanduser().resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.web_settings: WebSettings = config.section("web", WebSettings)
        self._socket = None
        self.seat: Seat | None = None
        self.uplink: Uplink | None = None
        local, address = "", config["web.public-url"]
        if not address:
            self._socket = bind(config["web.host"], self._port())
            host, port = self._socket.getsockname()[:2]
            (self.directory / "port").write_text(str(port), "ascii")
            address = local = f"http://{host}:{port}"
            self.seat = seat_in(self.directory)
            if self.seat is not None:  # partners reach it through a relay, its own people as before
                address = self.seat.address
        self.local: str = (local or address).rstrip("/")
        self.address: str = address.rstrip("/")
        prove_settings = config.section("prove", ProveSettings)
        self.keys = load_keys(self.directory / FILE, sm2=prove_settings.sm2_line)
        self.participant = did_of(self.address)
        self.name = config["node.name"] or self.participant
        self.identity = self.keys.identity(self.participant)
        self._own_http = None if http is not None else AiohttpClient(self.web_settings)
        self.http: Http = http if http is not None else self._own_http  # type: ignore[assignment]
        url = config["node.records"] or f"sqlite:///{self.directory / 'records.db'}"
        self.records = Records(url, self.clock, random=random, inline=inline)
        self._migrate = migrate
        self.outbox = Outbox(self.records, self.clock, config.section("outbox", OutboxSettings))
        self.keep = Keep(
            self.directory / "keep", self.records, self.clock, config.section("keep", KeepSettings), inline=inline
        )
        folder = FolderBlobs(self.directory / "blobs")
        self.blobs = folder if self.keep.seal is None else SealedBlobs(folder, self.keep.seal)
        self.keep.on_retention(self._retention)
        self.secrets = Secrets(self.directory / "secrets.toml")
        self.connect = Connect(
            self.records,
            self.keep,
            self.clock,
            self.http,
            config.section("connect", ConnectSettings),
            secrets=self.secrets,
            folder=self.directory / "certificates",
        )
        self.edges = Edges(self.records, self.keep, self.clock)
        self.fuse = Fuse(self.records, self.keep, self.clock, config.section("fuse", FuseSettings))
        self.govern = Govern(self.records, self.clock, config.section("govern", GovernSettings))
        self.records.with_sm3 = prove_settings.sm3_digests or "sm3" in self.govern.digests()
        self.describe = Describe(
            self.records,
            self.keep,
            self.fuse,
            self.clock,
            self.govern.allows,
            settings=replace(config.section("describe", DescribeSettings), base_url=self.address),
            interfaces=self._interfaces,
        )
        self.exchange = Exchange(
            self.records,
            self.outbox,
            self.clock,
            self.http,
            decide=self._decide,
            rights=self._rights,
            rows=self.describe.rows,
            settings=config.section("exchange", ExchangeSettings),
            new_id=new_id,
        )
        self._texts = Permits()
        self.exchange.spaces.company = lambda _: self.name
        self.exchange.host(self.identity, self.address)
        self.exchange.receive_pushes(self._inbox)
        self.prove = Prove(
            self.records,
            self.blobs,
            self.clock,
            self.http,
            lambda _: ProveKeys(
                self.keys.evidence,
                self.keys.witness,
                self.keys.sm2 if prove_settings.sm2_line else None,
                self.keys.former_at(self.clock.now()),
                self.keys.changes,
                self.keys.company,
            ),
            source=ExchangePapers(self.exchange),
            settings=prove_settings,
        )
        self.prove.rounds.anchors = anchors.chosen(self.prove.settings, self.http, self.clock)
        self.exchange.demands.candidates = OwnDatasets(self.describe, self.keep, self.fuse).candidates
        self.exchange.guests.serve(
            self.directory / "guests", GuestRows(self.connect, self.keep, self.fuse), partial(proof_of, self.prove)
        )
        partners = ExchangePartners(self.exchange)
        self.settle = Settle(self.records, partners, partners, self.clock, config.section("settle", SettleSettings))
        self.disputes = Disputes(self.settle)
        self.accounts = Accounts(self.settle, self.disputes, self.name)
        for kind in (BISECT, TELL, RESOLVE, CREDIT_NOTE):
            self.exchange.answer(kind, self.disputes)
        self.value = Value(
            self.records,
            read_meters(self.keep, self.connect, self.clock),
            read_quality(self.govern),
            self.clock,
            settings=config.section("value", ValueSettings),
            new_id=new_id,
        )
        self.watch = Watch(
            self.records,
            self.keep,
            self.fuse,
            self.clock,
            settings=config.section("watch", WatchSettings),
            ask=self.exchange.ask,
        )
        self.figures = Figures(
            self.records,
            self.keep,
            self.prove,
            self.clock,
            self.prove.private_keys,
            prove_settings,
            factor=self._factor,
        )
        self.trade = FigureTrade(self.figures, self.exchange.ask)
        self.keep.on_table_commit(self.figures.note)
        for kind in (ORDER_FIGURE, OPEN_FIGURE, RECEIVE_FIGURE):
            self.exchange.answer(kind, self.trade)
        self._rooms: Any = None
        self._server: Any = None
        self._background: set[asyncio.Task[None]] = set()
        self.exchange.answer(DAYS_OF_SUPPLY, self.watch)
        self.exchange.on_change(self._changed)
        self.outbox.register(OUTBOX_KIND, self.settle.deliver)

    # -- running

    async def start(self, *, alone: bool = False) -> None:
        """Open the records and start the rooms in the order of the journey.

        ``alone``: for one command of a person; no source is read and no message leaves, both wait for the next full start.
        """
        self.records.open(self._migrate)
        await self.keep.start(() if alone else [self.participant, *await self.exchange.guests.known()])
        await self.fuse.start([self.participant])
        await self.govern.start()
        await self.exchange.start()
        if not alone:
            await self.outbox.start()
        await self.prove.add(self.participant)
        await self.prove.start()
        await self.connect.start(run=not alone)
        self.app = self._make_app()
        if not alone:
            await self._join_in()

    async def serve(self) -> str:
        """Answer HTTP at the node's address; returns the address."""
        from guantong.web.server import WebServer

        self._server = WebServer(self.web_settings)
        port = await self._server.start(self.app, taken=self._socket)
        if self._socket is not None:
            _write_whole(self.directory / "port", str(port))
        everywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        host = everywhere.get(self.web_settings.host, self.web_settings.host)
        place = {
            "participant": self.participant,
            "address": self.address,
            "local": f"{self._server.scheme}://{f'[{host}]' if ':' in host else host}:{port}",
            "certificate": self.web_settings.tls_certificate,
            "pid": os.getpid(),
        }
        _write_whole(self.directory / "address", json.dumps(place))
        return self.address

    async def stop(self) -> None:
        """Stop in the reverse order of the journey; what was acknowledged is durable."""
        await self.connect.stop()
        if self.uplink is not None:
            await self.uplink.stop()
        if self._server is not None:
            (self.directory / "address").unlink(missing_ok=True)
            await self._server.stop()
        elif self._socket is not None:
            self._socket.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.prove.stop()
        await self.outbox.stop()
        await self.exchange.stop()
        await self.govern.stop()
        await self.fuse.stop()
        await self.keep.stop()
        if self._own_http is not None:
            await self._own_http.close()
        self.records.close()

    async def sign_in_link(self) -> str:
        """A link that signs one person in, once."""
        assert self.app is not None
        link: str = await self.app.state.sign_in.issue_link(self.participant, self.local)
        return link

    def _port(self) -> int:
        # a DID names its port: a node that took a free one keeps it
        stored = self.directory / "port"
        wanted = int(self.config["web.port"])
        if wanted and self.config.origins["web.port"] != "default":
            return wanted
        return int(stored.read_text("ascii")) if stored.exists() else wanted

    def _make_app(self) -> Starlette:
        from starlette.routing import Route

        from guantong.connect.edges import edge_routes
        from guantong.connect.model import ConnectSettings
        from guantong.connect.routes import routes as hook_routes
        from guantong.describe.routes import aas_routes
        from guantong.keep.routes import keep_routes
        from guantong.prove.routes import routes as evidence_routes
        from guantong.settle.routes import routes as invoice_routes
        from guantong.web.app import create_app
        from guantong.web.rooms import Rooms

        self._rooms = Rooms(
            participant=self.participant,
            name=self.name,
            records=self.records,
            connect=self.connect,
            keep=self.keep,
            fuse=self.fuse,
            describe=self.describe,
            govern=self.govern,
            exchange=self.exchange,
            prove=self.prove,
            settle=self.settle,
            value=self.value,
            watch=self.watch,
            outbox=self.outbox,
            package=self.package_bytes,
            verify=self.verify,
            receive=self.receive,
            backup=self.backup,
            config={
                row.name: {
                    "value": self.config.shown(row.name),
                    "default": row.default,
                    "from": self.config.origins[row.name],
                    "en": row.en,
                    "zh": row.zh,
                    "type": row.kind.__name__,
                }
                for row in SETTINGS
            },
            health=self.health,
            base_url=self.address,
            version=__version__,
            figures=self.figures,
            trade=self.trade,
            disputes=self.disputes,
            accounts=self.accounts,
            edges=self.edges,
            uplink=lambda: self.uplink,
        )
        return create_app(
            self._rooms,
            settings=self.web_settings,
            extra_routes=[
                *self.exchange.routes(self.participant),
                *edge_routes(self.edges, self.participant),
                *keep_routes(self.keep, self._person),
                *evidence_routes(self.prove, lambda _: self.participant),
                *hook_routes(
                    self.connect.hooks,
                    self.participant,
                    limit=self.config.section("connect", ConnectSettings).message_bytes,
                ),
                *invoice_routes(self.settle, self.participant, self.exchange.identify, self.exchange.remember),
                *(
                    Route(route.path, self._identified(route.endpoint), methods=list(route.methods or ["GET"]))
                    for route in aas_routes(self.describe, lambda request: request.state.reader)
                ),
            ],
        )

    def health(self) -> dict[str, dict[str, Any]]:
        """How the tasks do, by name: ``state`` (running, waiting, stopped or failed) and the ``code`` of what is in the way.

        A machine that is dead is waited for, and so is whatever heals by itself: neither makes the node unready.
        """
        from guantong.base.error_table import ERRORS

        def task(code: str | None, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
            if not code:
                return {"state": "running", "code": "", "facts": {}}
            row = ERRORS.get(code)
            heals = row is not None and row.kind == "retry"
            return {"state": "waiting" if heals else "failed", "code": code, "facts": dict(facts or {})}

        tasks = {
            f"connect {card.source}": {
                "state": {"connected": "running", "finished": "running", "stopped": "stopped"}.get(
                    card.state, "waiting"
                ),
                "code": (card.last_error or "") if card.state in ("lost", "connecting") else "",
                "facts": dict(card.error_facts),
            }
            for card in self.connect.scorecards(self.participant)
        }
        error = self.fuse.error
        if self.uplink is not None:
            lost = self.uplink.error
            tasks["relay"] = task("") if lost is None else task(lost.code, lost.facts)
        tasks["keep"] = task(self.keep.failure(self.participant))
        tasks["fuse"] = task(error.code, error.facts) if error is not None else task("")
        tasks["prove"] = task(self.prove.failure(self.participant))
        return tasks

    # -- what a partner delivers

    async def receive(self, agreement_id: str, *, purpose: str = "", source: str = "") -> dict[str, Any]:
        """Have the dataset of an agreement delivered into the own durable log, like a source of one's own.

        Returns transfer id, state, rows and log position. The source is named ``partner/<dataset>`` unless told otherwise; rows keep
        their own times, and the partner's signal names.
        """
        agreement = await self.exchange.agreement(self.participant, agreement_id)
        pid = await self.exchange.request_transfer(self.participant, agreement_id)
        transfer = await self.exchange.wait_transfer(self.participant, pid)
        rows, position = 0, 0
        async for batch in self.exchange.pull(self.participant, pid, purpose=purpose):
            position = await self._keep_delivered(transfer, batch, source or f"partner/{agreement.dataset_id}")
            rows += batch.num_rows
        return {"transfer": transfer.state, "pid": pid, "rows": rows, "position": position}

    async def _inbox(self, participant: str, transfer: Any, media_type: str, chunks: AsyncIterator[bytes]) -> int:
        """What a partner pushes: an Arrow stream, kept as it comes. Raises Refused ``exchange.push-refused`` for other forms."""
        from guantong.base.errors import Refused
        from guantong.exchange.encoding import ARROW, ArrowReader

        if media_type.partition(";")[0].strip() != ARROW:
            raise Refused("exchange.push-refused", address="inbox", reason=f"only {ARROW} is taken here")
        reader, rows = ArrowReader(), 0
        async for chunk in chunks:
            for batch in reader.feed(chunk):
                await self._keep_delivered(transfer, batch, f"partner/{transfer.dataset_id}")
                rows += batch.num_rows
        return rows

    async def _keep_delivered(self, transfer: Any, batch: Any, source: str) -> int:
        from guantong.base.batch import Batch, as_arrived, measurement_schema, reading_schema

        kind = "measurements" if "characteristic" in batch.schema.names else "readings"
        schema = measurement_schema() if kind == "measurements" else reading_schema()
        note = {
            "agreement": transfer.agreement_id,
            "partner": transfer.partner,
            "file": f"delivery:{transfer.pid}",
        }
        arrived = Batch(source, kind, as_arrived(batch, schema, self.clock.now()), note)
        return await self.keep.take(self.participant, arrived)

    # -- what crosses against the order (WIRES)

    def _interfaces(self, participant: str) -> list[dict[str, Any]]:
        from guantong.connect.aid import to_aid

        return [
            {"source": interface.name, "submodel": to_aid([interface], id=f"{participant}:aid:{interface.name}")}
            for interface in self.connect.interfaces(participant)
        ]

    async def _decide(self, access: Access) -> Verdict:
        """Govern's decision for exchange: house rules, and the permit that the agreement (or the offer) compiles to."""
        from guantong.exchange.ports import Verdict
        from guantong.govern.model import Request as Asked

        decision = self.govern.decide(
            access.participant,
            Asked(
                subject=access.subject,
                action=access.action,
                resource=f"dataset:{access.dataset_id}",
                context=access.context(),
                claims=dict(access.claims),
            ),
            await self._permits(access),
        )
        return Verdict(decision.allowed, decision.reason)

    async def _permits(self, access: Access) -> str:
        if access.agreement_id:
            return self._texts.of_agreement(await self.exchange.agreement(access.participant, access.agreement_id))
        return self._texts.of_products(await self.exchange.products(access.participant, access.dataset_id))

    async def _retention(self, participant: str) -> Retention:
        """What keep may throw away: days by grade from the settings, and govern's grade of each signal."""
        from guantong.keep.model import Retention

        days = {grade: float(text) for grade, text in self.config["keep.grade-days"].items()}
        graded = await self.govern.grades(participant) if days else []
        return Retention(
            days=self.config["keep.readings-days"] or None,
            grades=days,
            graded={int(one.id.removeprefix("signal:")): one.enforce for one in graded if one.id.startswith("signal:")},
        )

    def _factor(self, name: str) -> Mapping[str, str]:
        from guantong.watch.carbon import stated

        return stated(name or self.watch.settings.factor)

    async def _rights(self, participant: str, dataset_id: str) -> Mapping[str, Any] | None:
        found = await self.govern.rights(participant, dataset_id)
        return None if found is None else asdict(found)

    async def backup(self, out: Path, passphrase: str) -> dict[str, Any]:
        """Write everything of this node into one sealed file while it runs; ``keep/backup.py`` says what is in it and in which order.

        Raises Skippable ``base.passphrase-short``, Retryable ``keep.backup-failed``.
        """
        from guantong.keep import backup

        out = backup.outside(out, self.directory)
        sealed_at = self.clock.now()
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".backup-") as name:
            copies = Path(name)

            def copy(database: str) -> backup.Source:
                target = copies / Path(database).name
                backup.copy_database(self.directory / database, target)
                return backup.Source(database, target)

            async with self.keep.resting(self.participant):
                async with self.keep.held(self.participant):
                    sources = await asyncio.to_thread(backup.files_of, self.directory)
                    for database in backup.DATABASES:
                        if (self.directory / database).exists():
                            sources.append(await asyncio.to_thread(copy, database))
                facts = {
                    "participant": self.participant,
                    "address": self.address,
                    "version": __version__,
                    "made": iso(sealed_at),
                    "records_elsewhere": bool(self.config["node.records"]),
                    "tables_elsewhere": bool(self.config["keep.tables-uri"]),
                }
                size = await asyncio.to_thread(
                    backup.write, out, passphrase, sources, facts, sm4=self.keep.settings.cipher == "sm4-gcm"
                )
        return {**facts, "file": str(out), "bytes": size, "files": len(sources)}

    async def package_bytes(self, agreement_id: str, scope: Scope | None = None) -> bytes:
        """The evidence package of an agreement or a part of it, with its invoices, as the bytes of a zip file."""
        made = await self.package(agreement_id, self.directory / "packages", scope)
        return await asyncio.to_thread(made.read_bytes)

    async def package(self, agreement_id: str, folder: Path, scope: Scope | None = None) -> Path:
        """Write the evidence package of an agreement, or of one transfer or period of it, into a folder; returns its path."""
        from guantong.base.canonical import canonical_bytes, sha256

        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        extra = await self.disputes.enclosures(self.participant, agreement_id)
        about = canonical_bytes([agreement_id, scope.document() if scope else {}])
        out = folder / f"{sha256(about).hex()[:16]}.guantong.zip"
        made = await self.prove.package(self.participant, agreement_id, out, extra=extra, scope=scope)
        return made.path

    async def trust(self) -> str:
        """The node's trust file: its own keys and those of its partners, to be checked with their owners."""
        return await self.prove.trust_lines(self.participant)

    async def verify(self, package: bytes) -> Mapping[str, Any]:
        """The stranger's verdict on a package, with the keys that this node knows as trust."""
        from guantong.prove.rules import parse_trust
        from guantong.verify import verify_package

        trust = parse_trust(await self.trust())
        report = await asyncio.to_thread(verify_package, package, trust, now_ns=self.clock.now())
        return {**report.document(), "ok": report.verdict == "ok"}

    async def _caller(self, request: Request) -> tuple[str, str]:
        caller = await self.exchange.identify(self.participant, request.headers.get("authorization", ""))
        return self.participant, caller.did

    async def _person(self, request: Request) -> str:
        """The participant, where a person of this node is signed in; else empty."""
        participant, subject = await self._reader(request)
        return participant if subject == "user:owner" else ""

    async def _reader(self, request: Request) -> tuple[str, str]:
        """Who reads the shells: a signed-in person of this node, or a partner with an identity token."""
        from guantong.web.signin import cookie_name

        header = request.headers.get("authorization", "")
        if header:
            return await self._caller(request)
        assert self.app is not None
        secret = request.cookies.get(cookie_name(self.participant, secure=request.url.scheme == "https"))
        session = await self.app.state.sign_in.session(self.participant, secret)
        return self.participant, "user:owner" if session is not None else ""

    def _identified(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def run(request: Request) -> Response:
            try:
                request.state.reader = await self._reader(request)
            except GuantongError:
                request.state.reader = (self.participant, "")
            return await answer(request)

        return run

    # -- partners

    async def _join_in(self) -> None:
        if self.seat is not None and self._own_http is not None:
            from guantong.exchange.relayed import Uplink
            from guantong.web.socket import dial_with

            exchange, me, changes = self.exchange, self.participant, self.keys.changes
            self.uplink = Uplink(exchange.hosting, self.seat, dial_with(self._own_http), self.app, changes=changes)
            self.uplink.document = lambda: exchange.document(me)
            self.uplink.start()
        self._background.add(asyncio.ensure_future(self.exchange.spaces.renew(self.participant)))

    def _changed(self, participant: str, pid: str, state: str) -> None:
        # partners under an agreement witness each other's logs from then on
        if state == "FINALIZED":
            task = asyncio.ensure_future(self._meet(participant, pid))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _meet(self, participant: str, pid: str) -> None:
        negotiation = await self.exchange.negotiation(participant, pid)
        address = await self.exchange.hosting.partner_extension(negotiation.partner)
        if address:
            await self.prove.add_peer(
                participant, negotiation.partner, await self.settle.partners.partner_key(negotiation.partner), address
            )


def _write_whole(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on uvloop where it is installed, on asyncio elsewhere (or where ``GUANTONG_LOOP=asyncio``)."""
    if os.environ.get("GUANTONG_LOOP") != "asyncio" and sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            return asyncio.run(work)
        return uvloop.run(work)
    return asyncio.run(work)
