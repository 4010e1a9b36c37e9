"""Figures with proof: rows are committed to as they are recorded, figures are made of them, challenged and checked, here and by partners.

The seller's order of events is in its log: commitments of chunks, then the figure with the digest of the buyer's nonce, then the
cosigned checkpoint that, with the nonce, fixes the draws. What the buyer holds verifies without either node.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.clock import Clock, parse_iso
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused, Skippable
from guantong.base.keys import Ed25519Key
from guantong.base.note import parse_note, parse_proof
from guantong.keep.service import Keep
from guantong.prove import figure_proof
from guantong.prove.figure import (
    FIGURE_CHALLENGED,
    FIGURE_DEFINED,
    FIGURE_MADE,
    Checked,
    Definition,
    Input,
    Made,
)
from guantong.prove.figure_functions import FUNCTIONS, Function, Window, Wrong, function_hash
from guantong.prove.figure_inputs import Inputs
from guantong.prove.figure_proof import Trace, Unit, check_bundle, draws
from guantong.prove.model import CheckpointView, ProveSettings, origin_of
from guantong.prove.ports import KeysOf
from guantong.prove.rules import Trust, parse_trust
from guantong.prove.service import Prove
from guantong.prove.tables import COSIGNATURES, DEFINITIONS, FIGURES
from guantong.records import Records, Step
from guantong.records.service import Row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Figures"]

FactorOf = Callable[[str], Mapping[str, str]]
"""Parameters that an emission factor's name stands for (watch's table): ``kg_per_kwh, factor, gas, basis, year, source``."""


def no_factor(name: str) -> Mapping[str, str]:
    """Where no table of factors is wired. Raises ConfigProblem ``prove.figure-invalid``."""
    raise ConfigProblem("prove.figure-invalid", figure=name, reason="no table of emission factors is wired")


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
        factor: FactorOf = no_factor,
    ) -> None:
        self.records = records
        self._prove = prove
        self.clock = clock
        self._keys = keys
        self.settings = settings or ProveSettings()
        self._factor = factor
        self.inputs = Inputs(records, keep, self.settings)

    def note(self, table: str, rows: pa.Table) -> Callable[[Step], None] | None:
        """Commit to the rows that became part of a table: keep's :data:`guantong.keep.ports.Note`."""
        return self.inputs.note(table, rows) if self.settings.commit_chunks else None

    async def streams(self, participant: str, table: str | None = None) -> list[dict[str, Any]]:
        """Streams that have commitments: ``{table, stream, chunks, commitments}``."""
        return await self.inputs.streams(participant, table)

    async def trust(self, participant: str) -> Trust:
        """The keys that this node knows: its own and its partners'."""
        return parse_trust(await self._prove.trust_lines(participant))

    def key(self, participant: str) -> Ed25519Key:
        """The key that signs figures and verdicts: the evidence key."""
        return self._keys(participant).log

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
        async with self.records.step(participant) as step:
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
        rows = await self.records.rows(
            select(DEFINITIONS).where(DEFINITIONS.c.participant == participant).order_by(DEFINITIONS.c.id)
        )
        return [_definition(row) for row in rows]

    async def definition(self, participant: str, definition_id: str) -> Definition:
        """One definition. Raises Skippable ``prove.figure-unknown``."""
        row = await self.records.row(
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
        units, commits = await self.inputs.units(participant, definition, function, window)
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
        secret = self.records.random(32)
        made = await self._trace(definition, function, window, units, secret)
        figure = figure_proof.figure_document(
            seller=participant,
            definition=definition.document(),
            window=window,
            made=made,
            commits=commits,
            openings=openings,
            made_at=self.clock.now(),
            nonce_hash=nonce_hash,
            agreement_id=agreement_id,
            buyer=partner,
        )
        name = digest(figure)
        signature = figure_proof.sign_as(participant, self.key(participant), canonical_bytes(figure))
        body = {
            "figure": name,
            "definition": digest(definition.document()),
            "nonceHash": nonce_hash,
            "agreementId": agreement_id,
            "partner": partner,
        }
        async with self.records.step(participant) as step:
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
        await self.store(
            participant, name, "seller", definition.id, partner, agreement_id, "", secret, bundle, self.clock.now()
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

    async def _proven(self, participant: str, entry: int, *, first: bool) -> dict[str, str]:
        """A leaf and its proof; ``first``: under the earliest checkpoint that was witnessed, so that it says how old the leaf is."""
        await self._prove.catch_up(participant)
        leaf = await self._prove.leaf(participant, entry)
        assert leaf is not None
        head = None
        if first:
            row = await self.records.row(
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
        row = await self.row(participant, name)
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
        cosignature, note, head = await self._cosigned(participant, int(bundle["entry"]))
        definition = _definition_of(figure["definition"])
        function = _function(definition)
        window = Window(parse_iso(figure["window"]["from"]), parse_iso(figure["window"]["to"]))
        units, _ = await self.inputs.units(participant, definition, function, window)
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
            "proofs": await self._seen(participant, bundle, head),
        }
        async with self.records.step(participant) as step:
            step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps({**bundle, "challenge": challenge})})
            step.record(challenged(figure, name, seed, len(openings), "opened", ""))
        return challenge

    async def _seen(self, participant: str, bundle: Mapping[str, Any], head: CheckpointView | None) -> dict[str, Any]:
        """Proofs under the cosigned checkpoint of the entries that no witness had seen when the figure was made: what is signed here
        stays good when the key is changed later, because somebody else saw it before.
        """
        if head is None:
            return {}
        own = origin_of(participant)

        async def again(entry: int, shown: Mapping[str, str]) -> str:
            note = parse_note(parse_proof(shown["proof"].encode()).checkpoint)
            if any(one.name != own for one in note.signatures):
                return ""
            return (await self._prove.inclusion(participant, entry, head)).to_bytes().decode()

        pairs = zip(bundle["figure"]["commits"], bundle["commits"], strict=True)
        return {
            "made": await again(int(bundle["entry"]), bundle["made"]),
            "commits": [await again(int(one["entry"]), shown) for one, shown in pairs],
        }

    async def challenge(self, participant: str, name: str, count: int) -> Checked:
        """Challenge a figure made here, with a nonce of our own: what anybody would see who ordered it."""
        await self.open(participant, name, self.records.random(32), count)
        return await self.check(participant, name)

    async def _cosigned(self, participant: str, entry: int) -> tuple[str, bytes, CheckpointView | None]:
        await self._prove.catch_up(participant)
        head = None
        if self._prove.peers(participant):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.package_wait_s):
                    head = await self._prove.witnessed(participant, entry + 1)
        head = head or await self._prove.witnessed_checkpoint(participant, entry + 1)
        if head is None or not head.cosigners:
            plain = await self._prove.checkpoint(participant)
            return "", b"" if plain is None else plain.note, None
        own = origin_of(participant)  # under which the former key signs too while both are listed
        lines = sorted(one.line() for one in parse_note(head.note).signatures if one.name != own)
        return lines[0].strip("\n"), head.note, head

    async def check(self, participant: str, name: str) -> Checked:
        """Check a figure that is kept here, with the keys that this node knows."""
        row = await self.row(participant, name)
        trust = await self.trust(participant)
        checked = await asyncio.to_thread(check_bundle, orjson.loads(row["proof"]), trust)
        if checked.verdict != row["verdict"]:
            async with self.records.step(participant) as step:
                step.update(FIGURES, {"digest": name}, {"verdict": checked.verdict})
        return checked

    # ---- what is kept

    async def figures(self, participant: str, limit: int = 1000) -> list[Made]:
        """Figures made and received, newest first."""
        rows = await self.records.rows(
            select(FIGURES)
            .where(FIGURES.c.participant == participant)
            .order_by(FIGURES.c.made_at.desc(), FIGURES.c.digest)
            .limit(limit)
        )
        return [_made(row) for row in rows]

    async def figure(self, participant: str, name: str) -> Made:
        """One figure by its digest. Raises Skippable ``prove.figure-unknown``."""
        return _made(await self.row(participant, name))

    async def row(self, participant: str, name: str) -> Row:
        """What is kept of a figure. Raises Skippable ``prove.figure-unknown``."""
        row = await self.records.row(
            select(FIGURES).where(and_(FIGURES.c.participant == participant, FIGURES.c.digest == name[:71]))
        )
        if row is None:
            raise Skippable("prove.figure-unknown", figure=name[:100])
        return row

    async def store(
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
        """Keep a figure, or what became of it."""
        async with self.records.step(participant) as step:
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


def challenged(figure: Mapping[str, Any], name: str, seed: bytes, opened: int, verdict: str, statement: str) -> Entry:
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
    needed: tuple[str, ...] = {"oee": ("ideal_cycle_s",), "carbon-per-part": ("kg_per_kwh",)}.get(function.id, ())
    if function.id in ("on-time-delivery", "order-cover"):
        needed = ("order", "due", "delivered")
    for name in needed:
        if name not in definition.parameters:
            raise wrong(f"the parameter {name} is missing")
    try:
        canonical_bytes(definition.document())
    except GuantongError as error:
        raise wrong("parameters are JSON; numbers that are not whole are text") from error


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
