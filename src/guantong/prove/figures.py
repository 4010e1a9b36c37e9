"""Figures with proof: rows are committed to as they are recorded, figures are made of them, challenged and checked, here and by partners.

The seller's order of events is in its log: commitments of chunks, then the figure with the digest of the buyer's nonce, then the
cosigned checkpoint that, with the nonce, fixes the draws. What the buyer holds verifies without either node.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.canonical import b64, canonical_bytes, digest, unb64
from guantong.base.chunks import ChunkTree, chunk_salt
from guantong.base.clock import Clock, iso, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused, Skippable
from guantong.base.merkle import HASH_BYTES
from guantong.base.note import parse_note
from guantong.exchange.model import Agreement, Answer, Question
from guantong.keep.service import Keep
from guantong.prove import figure_proof
from guantong.prove.figure import (
    CHUNKS_COMMITTED,
    FIGURE_CHALLENGED,
    FIGURE_DEFINED,
    FIGURE_MADE,
    OPEN_FIGURE,
    ORDER_FIGURE,
    RECEIVE_FIGURE,
    Checked,
    Definition,
    Input,
    Made,
)
from guantong.prove.figure_functions import FUNCTIONS, Function, Window, Wrong, function_hash, natural
from guantong.prove.figure_proof import Chunk, Trace, Unit, check_bundle, draws
from guantong.prove.model import ProveSettings
from guantong.prove.ports import KeysOf
from guantong.prove.rules import parse_trust
from guantong.prove.service import Prove
from guantong.prove.tables import CHUNKS, COSIGNATURES, DEFINITIONS, FIGURES, STRETCHES
from guantong.records import Records, Step
from guantong.records.service import Row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Figures"]

Ask = Callable[[str, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
AgreementOf = Callable[[str, str], Awaitable[Agreement]]
FactorOf = Callable[[str], Mapping[str, str]]
"""Parameters that an emission factor's name stands for (watch's table): ``kg_per_kwh, factor, gas, basis, year, source``."""

_CACHED = 8


def no_factor(name: str) -> Mapping[str, str]:
    """Where no table of factors is wired. Raises ConfigProblem ``prove.figure-invalid``."""
    raise ConfigProblem("prove.figure-invalid", figure=name, reason="no table of emission factors is wired")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk of a stretch before it becomes part of a unit."""

    entry: int
    index: int
    text: bytes
    low: int
    high: int


class Figures:
    """Figures of the participants of this node: prove's part that needs keep and the exchange."""

    def __init__(
        self,
        records: Records,
        keep: Keep,
        prove: Prove,
        clock: Clock,
        keys: KeysOf,
        settings: ProveSettings | None = None,
        *,
        ask: Ask | None = None,
        agreement: AgreementOf | None = None,
        factor: FactorOf = no_factor,
    ) -> None:
        self._records = records
        self._keep = keep
        self._prove = prove
        self._clock = clock
        self._keys = keys
        self.settings = settings or ProveSettings()
        self._ask = ask
        self._agreement = agreement
        self._factor = factor
        self._cut: OrderedDict[tuple[str, int, str], Mapping[str, list[bytes]]] = OrderedDict()
        if self.settings.commit_chunks:
            keep.on_table_commit(self.note)

    # ---- committing

    def note(self, table: str, rows: pa.Table) -> Callable[[Step], None] | None:
        """Commit to the rows that became part of a table: keep's :data:`guantong.keep.ports.Note`."""
        from guantong.prove.figure_chunks import cut

        if not rows.num_rows:
            return None
        import pyarrow.compute as pc

        span = pc.min_max(rows["log_position"]).as_py()
        stretches, texts = cut(table, rows)
        secret = self._records.random(32)
        tree = ChunkTree.of(secret, texts)
        root = tree.root
        count = rows.num_rows

        def do(step: Step) -> None:
            step.record(
                Entry(
                    CHUNKS_COMMITTED,
                    {
                        "table": table,
                        "first": span["min"],
                        "last": span["max"],
                        "rows": count,
                        "chunks": len(texts),
                        "root": "sha256:" + root.hex(),
                    },
                )
            )

            def write(connection: Any) -> None:
                entry = step.leaves[-1]
                connection.execute(
                    CHUNKS.insert(),
                    {
                        "participant": step.participant,
                        "entry": entry,
                        "source_table": table,
                        "first": span["min"],
                        "last": span["max"],
                        "secret": secret,
                        "root": root,
                        "leaves": b"".join(tree.leaves),
                        "committed_at": step.at,
                    },
                )
                connection.execute(
                    STRETCHES.insert(),
                    [
                        {
                            "participant": step.participant,
                            "stream": one.stream[:512],
                            "entry": entry,
                            "source_table": table,
                            "start": one.start,
                            "count": one.count,
                            "first_time": one.first,
                            "last_time": one.last,
                        }
                        for one in stretches
                    ],
                )

            step.apply(write)

        return do

    async def streams(self, participant: str, table: str | None = None) -> list[dict[str, Any]]:
        """Streams that have commitments: ``{table, stream, chunks, commitments}``."""
        where = STRETCHES.c.participant == participant
        if table is not None:
            where = and_(where, STRETCHES.c.source_table == table)
        rows = await self._records.rows(
            select(
                STRETCHES.c.source_table.label("table"),
                STRETCHES.c.stream,
                func.sum(STRETCHES.c.count).label("chunks"),
                func.count().label("commitments"),
            )
            .where(where)
            .group_by(STRETCHES.c.source_table, STRETCHES.c.stream)
            .order_by(STRETCHES.c.source_table, STRETCHES.c.stream)
        )
        return [dict(row) | {"chunks": int(row["chunks"])} for row in rows]

    # ---- definitions

    async def define(self, participant: str, definition: Definition) -> Definition:
        """Publish a figure, or change it; every change is on record. A parameter ``factor`` that names an emission factor is filled in
        from its table. Raises ConfigProblem ``prove.figure-invalid``.
        """
        parameters = dict(definition.parameters)
        if "factor" in parameters and "kg_per_kwh" not in parameters:
            parameters |= dict(self._factor(str(parameters["factor"])))
        definition = replace(definition, parameters=parameters)
        function = _function(definition)
        _check_definition(definition, function)
        async with self._records.step(participant) as step:
            step.upsert(
                DEFINITIONS,
                id=definition.id,
                definition=canonical_bytes(definition.document()),
                agreements=orjson.dumps(list(definition.agreements)),
                changed_at=step.at,
            )
            step.record(
                Entry(
                    FIGURE_DEFINED,
                    {
                        "id": definition.id,
                        "definition": digest(definition.document()),
                        "function": function.name,
                        "functionHash": function_hash(function),
                    },
                )
            )
        return definition

    async def definitions(self, participant: str) -> list[Definition]:
        """Every figure that is defined, by id."""
        rows = await self._records.rows(
            select(DEFINITIONS).where(DEFINITIONS.c.participant == participant).order_by(DEFINITIONS.c.id)
        )
        return [_definition(row) for row in rows]

    async def definition(self, participant: str, definition_id: str) -> Definition:
        """One definition. Raises Skippable ``prove.figure-unknown``."""
        row = await self._records.row(
            select(DEFINITIONS).where(and_(DEFINITIONS.c.participant == participant, DEFINITIONS.c.id == definition_id))
        )
        if row is None:
            raise Skippable("prove.figure-unknown", figure=definition_id[:200])
        return _definition(row)

    # ---- making

    async def make(
        self,
        participant: str,
        definition_id: str,
        start: int,
        end: int,
        *,
        nonce_hash: str = "",
        agreement_id: str = "",
        partner: str = "",
        openings: int | None = None,
    ) -> Made:
        """Compute a figure over a window and commit to its trace. Raises Skippable ``prove.figure-unknown``, Refused
        ``prove.figure-impossible``, Corrupt ``prove.chunk-differs``.
        """
        definition = await self.definition(participant, definition_id)
        window = Window(start, end)
        function = _function(definition)
        if not start < end:
            raise Refused("prove.figure-impossible", figure=definition_id, reason="the window is empty")
        units, commits = await self._units(participant, definition, function, window)
        return await self._finish(
            participant,
            definition,
            function,
            window,
            units,
            commits,
            [],
            nonce_hash=nonce_hash,
            agreement_id=agreement_id,
            partner=partner,
            openings=definition.openings if openings is None else openings,
        )

    async def make_of(
        self, participant: str, function_name: str, digests: Sequence[str], *, definition_id: str = ""
    ) -> Made:
        """A figure of figures: each cited one travels inside, with its own proof."""
        cited = [await self.figure(participant, one) for one in sorted(set(digests))]
        definition = Definition(
            definition_id or f"{function_name} of {len(cited)}", function_name, (Input("figure", "figures", ()),)
        )
        function = _function(definition)
        if function.roles != ("figure",) or not 0 < len(cited) <= figure_proof.CITES_MAX:
            raise ConfigProblem(
                "prove.figure-invalid", figure=definition.id, reason="it takes figures, and at least one"
            )
        units = [Unit("figure", "", (), {"figure": one.digest, "value": one.value, "unit": one.unit}) for one in cited]
        bundles = [one.proof for one in cited]
        return await self._finish(
            participant, definition, function, Window(0, 1), units, [], bundles, openings=definition.openings
        )

    async def _finish(
        self,
        participant: str,
        definition: Definition,
        function: Function,
        window: Window,
        units: list[Unit],
        commits: list[dict[str, Any]],
        cites: list[Mapping[str, Any]],
        *,
        openings: int,
        nonce_hash: str = "",
        agreement_id: str = "",
        partner: str = "",
    ) -> Made:
        secret = self._records.random(32)
        made = await self._trace(definition, function, window, units, secret)
        figure = figure_proof.figure_document(
            seller=participant,
            definition=definition.document(),
            window=window,
            made=made,
            commits=commits,
            openings=openings,
            made_at=self._clock.now(),
            nonce_hash=nonce_hash,
            agreement_id=agreement_id,
            buyer=partner,
        )
        name = digest(figure)
        signature = figure_proof.sign_as(participant, self._keys(participant).log, canonical_bytes(figure))
        body = {
            "figure": name,
            "definition": digest(definition.document()),
            "nonceHash": nonce_hash,
            "agreementId": agreement_id,
            "partner": partner,
        }
        async with self._records.step(participant) as step:
            step.record(Entry(FIGURE_MADE, body))
        entry = step.leaves[-1]
        bundle = {
            "v": 1,
            "type": "figure-proof",
            "figure": figure,
            "signature": signature,
            "entry": entry,
            "made": await self._proven(participant, entry, first=False),
            "commits": [await self._proven(participant, one["entry"], first=True) for one in commits],
            "ends": figure_proof.ends(made),
            "cites": cites,
        }
        await self._store(
            participant, name, "seller", definition.id, partner, agreement_id, "", secret, bundle, self._clock.now()
        )
        return await self.figure(participant, name)

    async def _trace(
        self, definition: Definition, function: Function, window: Window, units: list[Unit], secret: bytes
    ) -> Trace:
        try:
            return await asyncio.to_thread(
                figure_proof.trace, function, dict(definition.parameters), window, units, secret
            )
        except (Wrong, KeyError, ArithmeticError, TypeError, ValueError) as error:
            raise Refused("prove.figure-impossible", figure=definition.id, reason=_reason(error)) from error

    async def _units(
        self, participant: str, definition: Definition, function: Function, window: Window
    ) -> tuple[list[Unit], list[dict[str, Any]]]:
        pieces: list[tuple[str, str, list[_Piece]]] = []
        entries: set[int] = set()
        for role in function.roles:
            for one in definition.inputs:
                if one.role != role.strip("[]"):
                    continue
                for stream in one.streams:
                    found = await self._pieces(participant, one.table, stream, window)
                    if not found and not role.startswith("["):
                        raise Refused(
                            "prove.figure-impossible",
                            figure=definition.id,
                            reason=f"nothing of {stream} was committed to in or before the window",
                        )
                    groups = _overlapping(found) if one.table == "readings" else _grouped(found, definition, function)
                    pieces += [(one.role, stream, group) for group in groups]
                    entries |= {piece.entry for piece in found}
        if len(pieces) > self.settings.figure_positions_max:
            raise Refused(
                "prove.figure-impossible",
                figure=definition.id,
                reason=f"more than {self.settings.figure_positions_max} chunks: choose a shorter window",
            )
        order = sorted(entries)
        rows = {entry: await self._commitment(participant, entry) for entry in order}
        trees = {entry: ChunkTree(_leaves(row)) for entry, row in rows.items()}
        place = {entry: at for at, entry in enumerate(order)}
        units = [
            Unit(
                role,
                stream,
                tuple(
                    Chunk(
                        place[piece.entry],
                        piece.index,
                        chunk_salt(rows[piece.entry]["secret"], piece.index),
                        piece.text,
                        lambda entry=piece.entry, index=piece.index: trees[entry].path(index),  # type: ignore[misc]
                    )
                    for piece in group
                ),
            )
            for role, stream, group in pieces
        ]
        commits = [
            {
                "entry": entry,
                "table": rows[entry]["source_table"],
                "chunks": len(trees[entry].leaves),
                "root": "sha256:" + bytes(rows[entry]["root"]).hex(),
            }
            for entry in order
        ]
        return units, commits

    async def _pieces(self, participant: str, table: str, stream: str, window: Window) -> list[_Piece]:
        stretches = await self._records.rows(
            select(STRETCHES)
            .where(
                and_(
                    STRETCHES.c.participant == participant,
                    STRETCHES.c.stream == stream[:512],
                    STRETCHES.c.source_table == table,
                )
            )
            .order_by(STRETCHES.c.first_time, STRETCHES.c.entry)
        )
        found: list[_Piece] = []
        if table == "readings":
            inside = [row for row in stretches if row["last_time"] >= window.start and row["first_time"] < window.end]
            before = [row for row in stretches if row["last_time"] < window.start]
            # what held when the window began was said before it
            stretches = [*([max(before, key=lambda row: row["last_time"])] if before else []), *inside]
        for row in stretches:
            for at, text in enumerate(await self._texts(participant, table, stream, row)):
                head = orjson.loads(text)
                low, high = (head["time"][0], head["time"][-1]) if table == "readings" else (0, 0)
                found.append(_Piece(row["entry"], row["start"] + at, text, low, high))
        if table == "readings":
            found.sort(key=lambda piece: (piece.low, piece.high))
            earlier = [at for at, piece in enumerate(found) if piece.high < window.start]
            found = [
                piece
                for at, piece in enumerate(found)
                if piece.low < window.end and (piece.high >= window.start or at == earlier[-1])
            ]
        return found

    async def _texts(self, participant: str, table: str, stream: str, stretch: Row) -> list[bytes]:
        """The chunk texts of a stretch, cut again from the table and compared with what was committed."""
        from guantong.prove.figure_chunks import texts_of

        entry = int(stretch["entry"])
        key = (participant, entry, stream if table == "readings" else "")
        known = self._cut.get(key)
        if known is None:
            commitment = await self._commitment(participant, entry)
            rows = await self._rows(participant, table, stream, stretch, commitment)
            known = await asyncio.to_thread(lambda: {name: texts for name, _, _, texts in texts_of(table, rows)})
            self._cut[key] = known
            if len(self._cut) > _CACHED:
                self._cut.popitem(last=False)
        texts = known.get(stream, [])
        await self._same(participant, stretch, texts)
        return texts

    async def _rows(self, participant: str, table: str, stream: str, stretch: Row, commitment: Row) -> pa.Table:
        import pyarrow.compute as pc

        if table == "readings":
            signal = int(stream.removeprefix("signal/"))
            rows = await self._keep.range(
                participant, [signal], stretch["first_time"], stretch["last_time"] + 1, revisions=True
            )
        elif table == "measurements":
            rows = await self._keep.measurements(participant, revisions=True)
        else:
            rows = await self._keep.table(participant, table.removeprefix("table:"))
        if not rows.num_rows:
            return rows
        position = pc.field("log_position")
        return rows.filter((position >= commitment["first"]) & (position <= commitment["last"]))

    async def _same(self, participant: str, stretch: Row, texts: list[bytes]) -> None:
        from guantong.base.chunks import chunk_leaf

        commitment = await self._commitment(participant, int(stretch["entry"]))
        start = int(stretch["start"])
        leaves = _leaves(commitment)[start : start + int(stretch["count"])]
        again = [chunk_leaf(chunk_salt(commitment["secret"], start + at), text) for at, text in enumerate(texts)]
        if leaves != again:
            raise Corrupt(
                "prove.chunk-differs", stream=stretch["stream"], entry=stretch["entry"], table=stretch["source_table"]
            )

    async def _commitment(self, participant: str, entry: int) -> Row:
        row = await self._records.row(
            select(CHUNKS).where(and_(CHUNKS.c.participant == participant, CHUNKS.c.entry == entry))
        )
        if row is None:
            raise Skippable("prove.figure-unknown", figure=f"commitment {entry}")
        return row

    async def _proven(self, participant: str, entry: int, *, first: bool) -> dict[str, str]:
        """A leaf and its proof; ``first``: under the earliest checkpoint that was witnessed, so that it says how old the leaf is."""
        await self._prove.catch_up(participant)
        leaf = await self._prove.leaf(participant, entry)
        assert leaf is not None
        head = None
        if first:
            row = await self._records.row(
                select(func.min(COSIGNATURES.c.size).label("size")).where(
                    and_(COSIGNATURES.c.participant == participant, COSIGNATURES.c.size > entry)
                )
            )
            if row is not None and row["size"] is not None:
                head = await self._prove.checkpoint(participant, int(row["size"]))
        proof = await self._prove.inclusion(participant, entry, head)
        return {"leaf": leaf.decode("utf-8"), "proof": proof.to_bytes().decode("utf-8")}

    # ---- challenging

    async def open(self, participant: str, name: str, nonce: bytes, count: int) -> dict[str, Any]:
        """Open what a challenge draws from a figure made here: ``{nonce, count, cosignature, checkpoint, openings}``.

        Waits up to ``package_wait_s`` for a witness's cosignature over the figure's entry; without one the draws rest on the nonce alone,
        and the result says so. Raises Refused ``prove.openings-spent`` beyond what the contract states.
        """
        row = await self._row(participant, name)
        if row["role"] != "seller":
            raise Skippable("prove.figure-unknown", figure=name)
        bundle = orjson.loads(row["proof"])
        figure = bundle["figure"]
        if figure["nonceHash"] and figure_proof.nonce_hash(nonce) != figure["nonceHash"]:
            raise Refused("prove.challenge-refused", figure=name, reason="the nonce is not the one of the order")
        known = bundle.get("challenge")
        if known is not None:
            if known["nonce"] == b64(nonce) and known["count"] == count:
                return dict(known)
            # a second draw would open more than one contract states, and let the buyer choose
            raise Refused("prove.challenge-refused", figure=name, reason="it was challenged before")
        if not 0 < count <= figure_proof.OPENINGS_MAX:
            raise Refused("prove.challenge-refused", figure=name, reason="the number of draws is out of range")
        cosignature, note = await self._cosigned(participant, int(bundle["entry"]))
        definition = _definition_of(figure["definition"])
        function = _function(definition)
        window = Window(parse_iso(figure["window"]["from"]), parse_iso(figure["window"]["to"]))
        units, _ = await self._units(participant, definition, function, window)
        made = await self._trace(definition, function, window, units, bytes(row["secret"]))
        if "sha256:" + made.root.hex() != figure["root"]:
            raise Corrupt("prove.chunk-differs", stream=definition.id, entry=bundle["entry"], table="–")
        seed = figure_proof.challenge_seed(name, nonce, cosignature)
        openings = figure_proof.openings(made, units, draws(seed, count, made.weights[-1]))
        if len(openings) > int(figure["openings"]):
            raise Refused("prove.openings-spent", figure=name, asked=len(openings), limit=figure["openings"])
        challenge = {
            "nonce": b64(nonce),
            "count": count,
            "cosignature": cosignature,
            "checkpoint": b64(note),
            "openings": openings,
        }
        async with self._records.step(participant) as step:
            step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps({**bundle, "challenge": challenge})})
            step.record(_challenged(figure, name, seed, len(openings), "opened", ""))
        return challenge

    async def challenge(self, participant: str, name: str, count: int) -> Checked:
        """Challenge a figure made here, with a nonce of our own: what anybody would see who ordered it."""
        await self.open(participant, name, self._records.random(32), count)
        return await self.check(participant, name)

    async def _cosigned(self, participant: str, entry: int) -> tuple[str, bytes]:
        await self._prove.catch_up(participant)
        head = None
        if self._prove.peers(participant):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.package_wait_s):
                    head = await self._prove.witnessed(participant, entry + 1)
        head = head or await self._prove.witnessed_checkpoint(participant, entry + 1)
        if head is None or not head.cosigners:
            plain = await self._prove.checkpoint(participant)
            return "", b"" if plain is None else plain.note
        own = {self._prove.keys_of(participant)[0].id}
        lines = sorted(one.line() for one in parse_note(head.note).signatures if one.key_id not in own)
        return lines[0].strip("\n"), head.note

    async def check(self, participant: str, name: str) -> Checked:
        """Check a figure that is kept here, with the keys that this node knows."""
        row = await self._row(participant, name)
        trust = parse_trust(await self._prove.trust_lines(participant))
        checked = await asyncio.to_thread(check_bundle, orjson.loads(row["proof"]), trust)
        if checked.verdict != row["verdict"]:
            async with self._records.step(participant) as step:
                step.update(FIGURES, {"digest": name}, {"verdict": checked.verdict})
        return checked

    # ---- what is kept

    async def figures(self, participant: str, limit: int = 1000) -> list[Made]:
        """Figures made and received, newest first."""
        rows = await self._records.rows(
            select(FIGURES)
            .where(FIGURES.c.participant == participant)
            .order_by(FIGURES.c.made_at.desc(), FIGURES.c.digest)
            .limit(limit)
        )
        return [_made(row) for row in rows]

    async def figure(self, participant: str, name: str) -> Made:
        """One figure by its digest. Raises Skippable ``prove.figure-unknown``."""
        return _made(await self._row(participant, name))

    async def _row(self, participant: str, name: str) -> Row:
        row = await self._records.row(
            select(FIGURES).where(and_(FIGURES.c.participant == participant, FIGURES.c.digest == name[:71]))
        )
        if row is None:
            raise Skippable("prove.figure-unknown", figure=name[:100])
        return row

    async def _store(
        self,
        participant: str,
        name: str,
        role: str,
        definition_id: str,
        partner: str,
        agreement_id: str,
        verdict: str,
        secret: bytes,
        bundle: Mapping[str, Any],
        at: int,
    ) -> None:
        async with self._records.step(participant) as step:
            step.upsert(
                FIGURES,
                digest=name,
                role=role,
                definition_id=definition_id,
                partner=partner,
                agreement_id=agreement_id,
                verdict=verdict,
                secret=secret,
                proof=orjson.dumps(bundle),
                made_at=at,
            )

    # ---- buying

    async def order(self, participant: str, agreement_id: str, definition_id: str, start: int, end: int) -> Made:
        """Order a figure from the partner of an agreement; our nonce is fixed with the order, by its digest."""
        assert self._ask is not None
        nonce = self._records.random(32)
        answer = await self._ask(
            participant,
            agreement_id,
            ORDER_FIGURE,
            {
                "definition": definition_id,
                "from": iso(start),
                "to": iso(end),
                "nonceHash": figure_proof.nonce_hash(nonce),
            },
        )
        bundle = answer.get("proof")
        if not isinstance(bundle, dict) or not isinstance(bundle.get("figure"), dict):
            raise Skippable("prove.figure-unusable", reason="there is no proof in the answer")
        figure = bundle["figure"]
        if (
            figure.get("nonceHash") != figure_proof.nonce_hash(nonce)
            or figure.get("agreementId") != agreement_id
            or figure.get("window") != {"from": iso(start), "to": iso(end)}
        ):
            raise Skippable("prove.figure-unusable", reason="it answers another order")
        name = digest(figure)
        await self._store(
            participant,
            name,
            "buyer",
            definition_id,
            str(figure.get("seller")),
            agreement_id,
            "",
            nonce,
            bundle,
            self._clock.now(),
        )
        return await self.figure(participant, name)

    async def challenge_partner(self, participant: str, name: str, count: int) -> Checked:
        """Challenge a figure that a partner made for us, check what it opens, sign the verdict and hand it over: the figure's receipt."""
        assert self._ask is not None
        row = await self._row(participant, name)
        if row["role"] != "buyer":
            raise Skippable("prove.figure-unknown", figure=name)
        bundle = orjson.loads(row["proof"])
        agreement_id = str(row["agreement_id"])
        if bundle.get("challenge") is None:
            challenge = await self._ask(
                participant,
                agreement_id,
                OPEN_FIGURE,
                {"figure": name, "nonce": b64(bytes(row["secret"])), "count": count},
            )
            bundle["challenge"] = dict(challenge)
        trust = parse_trust(await self._prove.trust_lines(participant))
        checked = await asyncio.to_thread(check_bundle, bundle, trust)
        figure = bundle["figure"]
        if bundle.get("receipt") is None:
            statement = figure_proof.receipt_statement(checked, figure, buyer=participant, at=self._clock.now())
            signature = figure_proof.sign_as(participant, self._keys(participant).log, canonical_bytes(statement))
            bundle["receipt"] = {"statement": statement, "signature": signature}
            async with self._records.step(participant) as step:
                step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps(bundle), "verdict": checked.verdict})
                seed = bytes.fromhex(checked.seed[7:] or "00" * 32)
                verdict = "wrong" if checked.verdict == "wrong" else "clean"
                step.record(_challenged(figure, name, seed, checked.opened, verdict, digest(statement)))
        with contextlib.suppress(Refused, Skippable):
            # the verdict stands on our own record; a seller that will not hear it changes nothing
            await self._ask(participant, agreement_id, RECEIVE_FIGURE, bundle["receipt"])
        return checked

    # ---- selling: exchange's Answerer

    async def answer(self, participant: str, question: Question) -> Answer:
        """Answer a partner's order, challenge or receipt under an agreement."""
        body = question.body
        if question.kind == ORDER_FIGURE:
            return Answer({"proof": await self._sell(participant, question)})
        name = str(body.get("figure") or _of(body, "statement", "figure"))[:71]
        row = await self._row(participant, name)
        if row["partner"] != question.partner or row["agreement_id"] != question.agreement.id:
            raise Skippable("prove.figure-unknown", figure=name)
        if question.kind == OPEN_FIGURE:
            try:
                nonce, count = unb64(str(body.get("nonce", ""))), int(body.get("count", 0))
            except (TypeError, ValueError) as error:
                raise Refused("prove.challenge-refused", figure=name, reason="nonce or count is missing") from error
            return Answer(await self.open(participant, name, nonce, count))
        await self._take_receipt(participant, name, row, body)
        return Answer({"figure": name, "taken": True})

    async def _sell(self, participant: str, question: Question) -> Mapping[str, Any]:
        body = question.body
        try:
            start, end = parse_iso(str(body["from"])), parse_iso(str(body["to"]))
            definition_id, nonce_hash = str(body["definition"]), str(body["nonceHash"])
        except KeyError as error:
            raise Refused("prove.figure-impossible", figure="–", reason="the order is incomplete") from error
        definition = await self.definition(participant, definition_id)
        if question.agreement.id not in definition.agreements or question.agreement.role != "provider":
            raise Refused("prove.figure-refused", figure=definition_id, agreement=question.agreement.id)
        contract = question.agreement.price.get("openings")
        openings = min(definition.openings, contract) if isinstance(contract, int) else definition.openings
        made = await self.make(
            participant,
            definition_id,
            start,
            end,
            nonce_hash=nonce_hash[:71],
            agreement_id=question.agreement.id,
            partner=question.partner,
            openings=openings,
        )
        return made.proof

    async def _take_receipt(self, participant: str, name: str, row: Row, body: Mapping[str, Any]) -> None:
        statement, signature = body.get("statement"), body.get("signature")
        if not isinstance(statement, dict) or not isinstance(signature, dict):
            raise Refused("prove.challenge-refused", figure=name, reason="the receipt is of another form")
        bundle = orjson.loads(row["proof"])
        if bundle.get("receipt") is not None:
            return
        trust = parse_trust(await self._prove.trust_lines(participant))
        checked = Checked()
        try:
            figure_proof.check_signature(signature, canonical_bytes(statement), str(row["partner"]), trust, checked)
        except (Wrong, GuantongError, KeyError, ValueError) as error:
            raise Refused("base.signature-bad", signer=row["partner"]) from error
        if statement.get("figure") != name or statement.get("buyer") != row["partner"]:
            raise Refused("prove.challenge-refused", figure=name, reason="the receipt is about another figure")
        bundle["receipt"] = {"statement": statement, "signature": signature}
        opened = statement.get("opened")
        seed = str(statement.get("seed", ""))
        async with self._records.step(participant) as step:
            step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps(bundle)})
            step.record(
                _challenged(
                    bundle["figure"],
                    name,
                    bytes.fromhex(seed[7:]) if len(seed) == 71 else bytes(HASH_BYTES),
                    opened if isinstance(opened, int) and opened >= 0 else 0,
                    "wrong" if statement.get("verdict") == "wrong" else "clean",
                    digest(statement),
                )
            )


def _challenged(figure: Mapping[str, Any], name: str, seed: bytes, opened: int, verdict: str, statement: str) -> Entry:
    return Entry(
        FIGURE_CHALLENGED,
        {
            "figure": name,
            "seed": "sha256:" + seed.hex().zfill(64)[:64],
            "opened": opened,
            "verdict": verdict,
            "agreementId": str(figure.get("agreementId", "")),
            "partner": str(figure.get("buyer", "")),
            "statement": statement,
        },
    )


def _of(body: Mapping[str, Any], *names: str) -> Any:
    found: Any = body
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _function(definition: Definition) -> Function:
    function = FUNCTIONS.get(definition.function)
    if function is None:
        raise ConfigProblem(
            "prove.figure-invalid",
            figure=definition.id,
            reason=f"there is no function {definition.function}; there are {', '.join(sorted(FUNCTIONS))}",
        )
    return function


def _check_definition(definition: Definition, function: Function) -> None:
    def wrong(reason: str) -> ConfigProblem:
        return ConfigProblem("prove.figure-invalid", figure=definition.id, reason=reason)

    if not 0 < len(definition.id) <= 200:
        raise wrong("its id has 1 to 200 characters")
    if not 0 < definition.openings <= figure_proof.OPENINGS_MAX:
        raise wrong(f"openings lie between 1 and {figure_proof.OPENINGS_MAX}")
    roles = {one.strip("[]") for one in function.roles}
    given = [one.role for one in definition.inputs]
    for role in function.roles:
        if not role.startswith("[") and role not in given:
            raise wrong(f"the role {role} has no input")
    if set(given) - roles:
        raise wrong(f"{function.name} knows the roles {', '.join(sorted(roles))} only")
    needed = {"oee": ("ideal_cycle_s",), "carbon-per-part": ("kg_per_kwh",)}.get(function.id, ())
    if function.id in ("on-time-delivery", "order-cover"):
        needed = ("order", "due", "delivered")
    for name in needed:
        if name not in definition.parameters:
            raise wrong(f"the parameter {name} is missing")
    try:
        canonical_bytes(definition.document())
    except GuantongError as error:
        raise wrong("parameters are JSON; numbers that are not whole are text") from error


def _overlapping(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Pieces whose times overlap stand together: late rows and revisions belong to what they change."""
    groups: list[list[_Piece]] = []
    high = None
    for piece in pieces:
        if high is not None and piece.low <= high:
            groups[-1].append(piece)
            high = max(high, piece.high)
        else:
            groups.append([piece])
            high = piece.high
    return groups


def _grouped(pieces: list[_Piece], definition: Definition, function: Function) -> list[list[_Piece]]:
    """Rows of one part, or of one order, stand together, in the order in which the function wants them."""
    groups: dict[Any, list[_Piece]] = {}
    keys: dict[Any, Any] = {}
    report = definition.parameters.get("report")
    for piece in pieces:
        row = orjson.loads(piece.text)["row"]
        if function.id == "cpk":
            if report is not None and row["report"] != report:
                continue
            key = natural(str(row["part"]))
            if definition.parameters.get("order") == "time" and row["time"] is not None:
                key = [[0, row["time"], ""], *key]
        else:
            key = natural(str(row.get(str(definition.parameters.get("order", "")))))
        name = str(key)
        keys[name] = key
        groups.setdefault(name, []).append(piece)
    return [groups[name] for name in sorted(groups, key=lambda name: keys[name])]


def _leaves(row: Row) -> list[bytes]:
    data = bytes(row["leaves"])
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _definition_of(document: Mapping[str, Any], agreements: Sequence[str] = ()) -> Definition:
    return Definition(
        str(document["id"]),
        str(document["function"]),
        tuple(Input(one["role"], one["table"], tuple(one["streams"])) for one in document["inputs"]),
        str(document["title"]["en"]),
        str(document["title"]["zh"]),
        dict(document["parameters"]),
        int(document["openings"]),
        tuple(agreements),
    )


def _definition(row: Row) -> Definition:
    return _definition_of(orjson.loads(row["definition"]), orjson.loads(row["agreements"]))


def _made(row: Row) -> Made:
    bundle = orjson.loads(row["proof"])
    figure = bundle["figure"]
    return Made(
        digest=row["digest"],
        role=row["role"],
        definition_id=row["definition_id"],
        partner=row["partner"],
        agreement_id=row["agreement_id"],
        value=figure.get("value"),
        unit=str(figure.get("unit", "")),
        verdict=row["verdict"],
        made_at=row["made_at"],
        proof=bundle,
    )


def _reason(error: BaseException) -> str:
    return str(error)[:300] or type(error).__name__
