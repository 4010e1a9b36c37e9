"""Algorithm to data: a partner's signed template is run here, and only permitted answers leave; and the reverse, a platform's template at home.

A template is signed by its author, approved by a person of the node whose data it reads, and named by its digest in a contract. Each run
is a job on record: contract, snapshot hash of what was read, code hash, what each output rule said, and the id of the usage record, which
both sides sign. The statement runs in a process of its own without file, network, extension or setting, under limits of time and memory.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.canonical import b64, canonical_bytes, digest, sha256, unb64
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.keys import verify_ed25519
from guantong.exchange.hosting import Hosting
from guantong.exchange.model import QUERY_ANSWERED, TEMPLATE_APPROVED, TEMPLATE_REFUSED, TEMPLATE_WITHDRAWN
from guantong.exchange.overlap import isolated
from guantong.exchange.tables import QUERY_JOBS, QUERY_SETS, TEMPLATES
from guantong.exchange.template import (
    UNITS,
    VIEW,
    Template,
    bind,
    checked,
    counted,
    read_template,
    units_statement,
    with_units,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.receipts import Receipts
    from guantong.keep.process import QueryProcess

__all__ = ["TEMPLATE_DATASET", "Job", "Queries", "Signed"]

TEMPLATE_DATASET = "template:"
"""A dataset of this name is the signed template itself, to be run at home by who has a contract on it."""

_UNIT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Signed:
    """A template with its author and signature."""

    template: Template
    author: str
    signature: str
    """The author's Ed25519 evidence key over ``template.signed_bytes(author)``, base64."""
    state: str = ""
    """``approved`` or ``withdrawn`` where it is on record here."""

    def document(self) -> dict[str, Any]:
        """The JSON file in which it travels."""
        return {"template": self.template.document(), "author": self.author, "signature": self.signature}


@dataclass(frozen=True, slots=True)
class Job:
    """One run, answered or not."""

    id: str
    agreement_id: str
    partner: str
    outcome: str
    """``answered``, ``refused`` by a rule before anything left, or ``failed``: it could not be run to its end."""
    facts: Mapping[str, Any]
    at: int


class Queries:
    """Approves templates and runs them for every hosted participant."""

    def __init__(self, hosting: Hosting, receipts: Receipts) -> None:
        self._hosting = hosting
        self._receipts = receipts
        self._process: QueryProcess | None = None
        self._prepared: dict[str, tuple[str, list[str]]] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    def close(self) -> None:
        """End the process that runs templates."""
        if self._process is not None:
            self._process.close()
            self._process = None

    # -- templates

    def sign(self, participant: str, document: Any) -> Signed:
        """Our own template, signed. Raises Refused ``exchange.template-refused``."""
        template = read_template(document)
        key = self._hosting.hosted(participant).identity.evidence_key
        return Signed(template, participant, b64(key.sign(template.signed_bytes(participant))))

    async def verified(self, participant: str, document: Any) -> Signed:
        """A signed template whose signature is its author's and whose statement holds nothing but what a template may.

        Raises Refused ``exchange.template-refused``, Retryable ``exchange.did-unresolved``.
        """
        if not isinstance(document, Mapping):
            raise Refused("exchange.template-refused", what="document", reason="it must be an object")
        author, signature = document.get("author"), document.get("signature")
        template = read_template(document.get("template"))
        if not isinstance(author, str) or not isinstance(signature, str) or len(author) > 255:
            raise Refused("exchange.template-refused", what="signature", reason="author or signature is missing")
        if author == participant:
            key = self._hosting.hosted(participant).identity.evidence_key.public
        else:
            key = await self._receipts.evidence_key(author)
        try:
            good = verify_ed25519(key, template.signed_bytes(author), unb64(signature))
        except (ValueError, Skippable):
            good = False
        if not good:
            raise Refused("exchange.template-refused", what="signature", reason=f"it is not that of {author}")
        await self._prepare(template)
        return Signed(template, author, signature)

    async def approve(self, participant: str, document: Any) -> Signed:
        """Check a signed template and let contracts name it; approving it again forgets that it failed. Raises as :meth:`verified`."""
        try:
            signed = await self.verified(participant, document)
        except Refused as refusal:
            facts = {name: str(refusal.facts.get(name, refusal.code))[:500] for name in ("what", "reason")}
            given: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
            async with self._hosting.records.step(participant) as step:
                about = {"template": _digest_of(given), "author": str(given.get("author", ""))[:255]}
                step.record(Entry(TEMPLATE_REFUSED, about | facts))
            raise
        name = signed.template.digest
        async with self._hosting.records.step(participant) as step:
            step.upsert(
                TEMPLATES,
                digest=name,
                name=signed.template.name,
                author=signed.author,
                template=canonical_bytes(signed.template.document()),
                signature=signed.signature,
                state="approved",
                changed_at=step.at,
            )
            step.record(
                Entry(
                    TEMPLATE_APPROVED,
                    {
                        "template": name,
                        "name": signed.template.name,
                        "version": signed.template.version,
                        "author": signed.author,
                        "signature": signed.signature,
                    },
                )
            )
        return replace(signed, state="approved")

    async def withdraw(self, participant: str, template: str) -> None:
        """Run it no more, whatever contracts name it. Raises Refused ``exchange.template-unknown``."""
        await self.template(participant, template)
        async with self._hosting.records.step(participant) as step:
            step.update(TEMPLATES, {"digest": template}, {"state": "withdrawn", "changed_at": step.at})
            step.record(Entry(TEMPLATE_WITHDRAWN, {"template": template}))

    async def templates(self, participant: str) -> list[Signed]:
        """Every template on record, approved or withdrawn, newest first."""
        rows = await self._hosting.records.rows(
            select(TEMPLATES).where(TEMPLATES.c.participant == participant).order_by(TEMPLATES.c.changed_at.desc())
        )
        return [_signed(row) for row in rows]

    async def template(self, participant: str, template: str) -> Signed:
        """One approved template. Raises Refused ``exchange.template-unknown``."""
        found = await self._hosting.records.row(
            select(TEMPLATES).where(and_(TEMPLATES.c.participant == participant, TEMPLATES.c.digest == template))
        )
        if found is None or found["state"] != "approved":
            raise Refused("exchange.template-unknown", template=template[:200])
        return _signed(found)

    async def jobs(self, participant: str, agreement_id: str = "", limit: int = 200) -> list[Job]:
        """The runs, all or those of an agreement, newest first."""
        wanted = QUERY_JOBS.c.participant == participant
        if agreement_id:
            wanted = and_(wanted, QUERY_JOBS.c.agreement_id == agreement_id)
        rows = await self._hosting.records.rows(
            select(QUERY_JOBS).where(wanted).order_by(QUERY_JOBS.c.at.desc()).limit(limit)
        )
        return [
            Job(row["id"], row["agreement_id"], row["partner"], row["outcome"], orjson.loads(row["job"]), row["at"])
            for row in rows
        ]

    # -- runs

    async def answer(
        self,
        participant: str,
        partner: str,
        agreement_id: str,
        dataset_id: str,
        template: str,
        given: Mapping[str, str],
        job: str,
        *,
        start: int | None = None,
        end: int | None = None,
    ) -> AsyncIterator[pa.RecordBatch]:
        """The permitted answer as one record batch; the job is durable before it is yielded.

        Raises Refused ``exchange.query-refused``, ``exchange.query-failed``, ``exchange.template-unknown``; each is on record as a job.
        """
        facts: dict[str, Any] = {
            "agreement": agreement_id,
            "partner": partner,
            "template": template,
            "dataset": dataset_id,
            "parameters": dict(given),
            "snapshot": "",
            "rules": {},
        }
        lock = self._locks.get((participant, partner)) or asyncio.Lock()
        self._locks[(participant, partner)] = lock
        # one after the other: each answer is judged beside all earlier ones
        async with lock:
            try:
                table, sets = await self._run(participant, facts, job, start, end)
            except Refused as refusal:
                failed = refusal.code == "exchange.query-failed"
                facts["rules"][str(refusal.facts.get("rule", "run"))] = refusal.message()[:500]
                await self._keep(participant, job, "failed" if failed else "refused", facts, {})
                raise
            await self._keep(participant, job, "answered", facts, sets)
        for batch in table.combine_chunks().to_batches() or [
            # an answer without a group is an answer
            _empty(table)
        ]:
            yield batch

    async def at_home(
        self, participant: str, signed: Signed, agreement_id: str, dataset_id: str, given: Mapping[str, str], job: str
    ) -> pa.Table:
        """Run a partner's template over our own dataset; the whole answer is ours, so no output rule applies.

        Raises as :meth:`answer`.
        """
        facts: dict[str, Any] = {
            "agreement": agreement_id,
            "partner": signed.author,
            "template": signed.template.digest,
            "dataset": dataset_id,
            "parameters": dict(given),
            "snapshot": "",
            "rules": {"output": "at home"},
        }
        try:
            answer, _ = await self._ask(participant, signed.template, facts, job, None, None)
        except Refused as refusal:
            await self._keep(participant, job, "failed", facts | {"reason": refusal.message()[:500]}, {})
            raise
        facts |= {"rows": answer.num_rows, "bytes": answer.nbytes, "answer": _hash(answer)}
        await self._keep(participant, job, "answered", facts, {})
        return answer

    async def _run(
        self, participant: str, facts: dict[str, Any], job: str, start: int | None, end: int | None
    ) -> tuple[pa.Table, dict[str, tuple[str, bytes]]]:
        settings = self._hosting.settings
        signed = await self.template(participant, facts["template"])
        template = signed.template
        facts |= {"name": template.name, "version": template.version, "author": signed.author}
        failures = await self._failures(participant, facts["partner"], facts["template"])
        if failures >= settings.query_failures:
            raise _denied("failures", f"it failed {failures} times, and waits to be approved again")
        answer, groups = await self._ask(participant, template, facts, job, start, end)
        floor = max(template.min_group, settings.query_min_group)
        kept = [place for place, sets in enumerate(groups) if all(len(one) >= floor for one in sets)]
        facts["rules"]["group"] = f"{len(kept)} of {len(groups)} groups have {floor} units or more"
        facts["suppressed"] = len(groups) - len(kept)
        answer = _at(answer, kept)
        if answer.num_rows > template.max_rows:
            raise _denied("rows", f"{answer.num_rows} rows of at most {template.max_rows}")
        if answer.nbytes > template.max_bytes:
            raise _denied("bytes", f"{answer.nbytes} bytes of at most {template.max_bytes}")
        facts["rules"]["caps"] = f"{answer.num_rows} rows, {answer.nbytes} bytes"
        new = list(dict.fromkeys(one for place in kept for one in groups[place]))
        earlier = await self._earlier(participant, facts["partner"], template.unit)
        if len(set(earlier) | set(new)) > settings.query_sets:
            raise _denied("record", f"more than {settings.query_sets} groups would be released")
        why = await asyncio.to_thread(isolated, earlier, new, floor)
        if why:
            raise _denied("differencing", why)
        facts["rules"]["differencing"] = f"beside {len(earlier)} earlier groups"
        facts |= {"rows": answer.num_rows, "bytes": answer.nbytes, "answer": _hash(answer)}
        known = set(earlier)
        stored = {_set_id(one): (template.unit, b"".join(sorted(one))) for one in new if one not in known}
        return answer, stored

    async def _ask(
        self,
        participant: str,
        template: Template,
        facts: dict[str, Any],
        job: str,
        start: int | None,
        end: int | None,
    ) -> tuple[pa.Table, list[list[frozenset[bytes]]]]:
        """The raw answer and the units behind each of its groups."""
        values = bind(template, facts["parameters"])
        try:
            statement, names = await self._prepare(template)
            data = await self._data(participant, template, facts, start, end)
            facts["snapshot"] = await asyncio.to_thread(_hash, data)
            facts["read_rows"] = data.num_rows
            begun = time.monotonic()
            found = await self._engine("sql", {VIEW: data}, statement=statement, limit=100_000, parameters=values)
            facts["seconds"] = round(time.monotonic() - begun, 3)
        except GuantongError as error:
            if error.code.startswith("exchange."):
                raise
            # what the engine says may hold values of rows: it stays here
            facts["reason"] = f"{error.code}: {error.message()}"[:500]
            raise Refused("exchange.query-failed", job=job) from error
        lists = [found.column(f"{UNITS}{place}").to_pylist() for place in range(len(names))]
        groups = [
            [frozenset(_unit(unit) for unit in column[row] or ()) for column in lists] for row in range(len(found))
        ]
        return found.select([name for name in found.schema.names if not name.startswith(UNITS)]), groups

    async def _data(
        self, participant: str, template: Template, facts: Mapping[str, Any], start: int | None, end: int | None
    ) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        limit = self._hosting.settings.query_memory_bytes // 2
        columns = list(template.columns)
        batches: list[pa.RecordBatch] = []
        size = 0
        async for batch in self._hosting.rows(participant, str(facts["dataset"]), start, end):
            if missing := set(columns) - set(batch.schema.names):
                raise _denied("columns", f"the dataset has no column {min(missing)}")
            cut = batch.select(columns)
            # a row of no known unit would be counted with no group
            cut = cut.filter(pc.is_valid(cut.column(template.unit)))
            size += cut.nbytes
            if size > limit:
                raise _denied(
                    "input", f"the dataset is larger than {limit} bytes in these columns; ask for a shorter time"
                )
            batches.append(cut)
        if not batches:
            raise _denied("input", "the dataset holds no rows in this time")
        return pa.Table.from_batches(batches)

    async def _prepare(self, template: Template) -> tuple[str, list[str]]:
        """The statement with the units of each group, and the columns counted. Raises Refused ``exchange.template-refused``."""
        name = template.digest
        kept = self._prepared.get(name)
        if kept is None:
            try:
                tree = await self._engine("syntax", {}, statement=template.statement)
                node = checked(template, tree)
                names = counted(template, node)
                units = await self._engine("syntax", {}, statement=units_statement(template, names))
                written = await self._engine("written", {}, tree=with_units(tree, units))
                # what will run is longer than what was signed; whether it still can be run is known now
                await self._engine("syntax", {}, statement=written["statement"])
            except Skippable as error:
                raise Refused("exchange.template-refused", what="statement", reason=error.message()[:300]) from error
            if len(self._prepared) >= 1000:
                self._prepared.clear()
            kept = self._prepared[name] = (written["statement"], names)
        return kept

    async def _engine(self, kind: str, tables: Mapping[str, pa.Table], **arguments: Any) -> Any:
        from guantong.keep.delta import NAMED
        from guantong.keep.model import KeepSettings
        from guantong.keep.process import QueryProcess

        settings = self._hosting.settings
        if self._process is None:
            # not the process that answers our own questions: what goes wrong here disturbs nobody else
            limits = KeepSettings(
                query_threads=1,
                query_seconds=settings.query_seconds,
                query_memory_bytes=settings.query_memory_bytes,
            )
            self._process = QueryProcess(limits, "no tables")
        header = {
            "participant": "",
            "tables": [{"name": NAMED + name, "version": -1} for name in tables],
            "kind": kind,
            "arguments": arguments,
        }
        return await self._process.ask(header, list(tables.values()))

    # -- the record

    async def _keep(
        self, participant: str, job: str, outcome: str, facts: Mapping[str, Any], sets: Mapping[str, tuple[str, bytes]]
    ) -> None:
        rules = facts["rules"]
        rule = next(reversed(rules)) if rules and outcome != "answered" else "all"
        document = {"job": job, "outcome": outcome, **facts}
        async with self._hosting.records.step(participant) as step:
            step.insert(
                QUERY_JOBS,
                id=job,
                agreement_id=facts["agreement"],
                partner=facts["partner"],
                digest=facts["template"],
                dataset_id=facts["dataset"],
                outcome=outcome,
                job=orjson.dumps(document),
                at=step.at,
            )
            for name, (unit, units) in sets.items():
                step.upsert(QUERY_SETS, partner=facts["partner"], scope=unit, id=name, units=units, job=job, at=step.at)
            counted_facts = {name: facts[name] for name in ("rows", "bytes", "suppressed", "answer") if name in facts}
            step.record(
                Entry(
                    QUERY_ANSWERED,
                    {
                        "job": job,
                        "agreement": facts["agreement"],
                        "partner": facts["partner"],
                        "template": facts["template"],
                        "dataset": facts["dataset"],
                        "snapshot": facts["snapshot"],
                        "parameters": digest(dict(facts["parameters"])),
                        "rule": rule,
                        "outcome": outcome,
                        **counted_facts,
                    },
                )
            )

    async def _earlier(self, participant: str, partner: str, unit: str) -> list[frozenset[bytes]]:
        rows = await self._hosting.records.rows(
            select(QUERY_SETS.c.units)
            .where(
                and_(
                    QUERY_SETS.c.participant == participant,
                    QUERY_SETS.c.partner == partner,
                    QUERY_SETS.c.scope == unit,
                )
            )
            .order_by(QUERY_SETS.c.at)
        )
        return [
            frozenset(bytes(row["units"])[at : at + _UNIT_BYTES] for at in range(0, len(row["units"]), _UNIT_BYTES))
            for row in rows
        ]

    async def _failures(self, participant: str, partner: str, template: str) -> int:
        """Failed runs since the template was last approved."""
        row = await self._hosting.records.row(
            select(func.count().label("failed"))
            .select_from(
                QUERY_JOBS.join(
                    TEMPLATES,
                    and_(
                        TEMPLATES.c.participant == QUERY_JOBS.c.participant, TEMPLATES.c.digest == QUERY_JOBS.c.digest
                    ),
                )
            )
            .where(
                and_(
                    QUERY_JOBS.c.participant == participant,
                    QUERY_JOBS.c.partner == partner,
                    QUERY_JOBS.c.digest == template,
                    QUERY_JOBS.c.outcome == "failed",
                    QUERY_JOBS.c.at >= TEMPLATES.c.changed_at,
                )
            )
        )
        return 0 if row is None else int(row["failed"])


def _signed(row: Mapping[str, Any]) -> Signed:
    return Signed(read_template(orjson.loads(row["template"])), row["author"], row["signature"], row["state"])


def _digest_of(document: Any) -> str:
    try:
        return digest(document)
    except (GuantongError, TypeError, ValueError):
        return ""  # it is no JSON that has one form


def _unit(value: Any) -> bytes:
    return sha256(f"{type(value).__name__}:{value}".encode())[:_UNIT_BYTES]


def _set_id(units: frozenset[bytes]) -> str:
    return "sha256:" + sha256(b"".join(sorted(units))).hex()


def _hash(table: pa.Table) -> str:
    """The digest of a table: of its Arrow stream in one batch."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    whole = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return "sha256:" + sha256(sink.getvalue().to_pybytes()).hex()


def _at(table: pa.Table, places: list[int]) -> pa.Table:
    import pyarrow as pa

    return table.take(pa.array(places, pa.int64()))


def _empty(table: pa.Table) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array([], one.type) for one in table.schema], schema=table.schema)


def _denied(rule: str, reason: str) -> Refused:
    return Refused("exchange.query-refused", rule=rule, reason=reason)
