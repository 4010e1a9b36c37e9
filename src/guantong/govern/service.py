"""Govern's shell: classifies, grades, states rights, scores, decides, and keeps what it decided."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, delete, desc, func, insert, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import Clock
from guantong.base.entry import Entry
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.govern.access import DecisionPoint, subject_of
from guantong.govern.documents import (
    graded_from_json,
    graded_to_json,
    period,
    quality_from_json,
    quality_to_json,
    rights_from_json,
    rights_problems,
    rights_to_json,
)
from guantong.govern.model import (
    ACCESS_DENIED,
    GRADED,
    REGRADED,
    REVIEWED,
    RIGHTS_MISSING,
    RIGHTS_STATED,
    SCORED,
    Decision,
    GovernSettings,
    Graded,
    LoggedDecision,
    Quality,
    QualityInputs,
    Request,
    Rights,
    Rule,
    SubjectFacts,
)
from guantong.govern.pack import Packs, load_packs
from guantong.govern.quality import score_quality
from guantong.govern.rules import fuse_grades, grade
from guantong.govern.tables import DECISIONS, GRADES, QUALITY, RIGHTS
from guantong.records import Edge, Records, Step

__all__ = ["Govern"]

_DAY_NS = 86_400 * 1_000_000_000


@dataclass(slots=True)
class _Known:
    """What the decision point knows of one participant's resources, in memory."""

    grades: dict[str, dict[str, object]] = field(default_factory=dict)
    rights: dict[str, Rights] = field(default_factory=dict)


class _Key(NamedTuple):
    """What makes two decisions one line of the access log."""

    participant: str
    subject: str
    action: str
    object: str
    allowed: bool
    policies: str
    reason: str
    context: str


@dataclass(slots=True)
class _Line:
    count: int
    first_at: int
    last_at: int


class Govern:
    """The stage govern (治). Open the records first; :meth:`start` begins writing the access log, :meth:`stop` writes what is left."""

    def __init__(self, records: Records, clock: Clock, settings: GovernSettings | None = None) -> None:
        self._records = records
        self._clock = clock
        self._settings = settings or GovernSettings()
        self._packs: Packs = load_packs()
        self._point = DecisionPoint(
            self._settings.house_policies, keep=self._settings.policy_cache, max_bytes=self._settings.policy_bytes
        )
        self._known: dict[str, _Known] = {}
        self._pending: dict[_Key, _Line] = {}
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.log_failure = ""
        """Code of the last failure to write the access log; empty while it works. For the health page."""

    async def start(self) -> None:
        """Begin writing decisions; until then they are written by :meth:`flush` only."""
        if self._task is None:
            self._wake = asyncio.Event()
            self._task = asyncio.create_task(self._write_decisions(), name="govern-decisions")

    async def stop(self) -> None:
        """Write the waiting decisions and end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.flush()

    # rules

    def digests(self) -> frozenset[str]:
        """Further digests that the loaded packs ask of the evidence log."""
        return self._packs.digests()

    @property
    def rules(self) -> Sequence[Rule]:
        """Every rule of the loaded packs."""
        return tuple(self._packs.rules.values())

    # classes and grades

    async def classify(self, participant: str, subjects: Iterable[SubjectFacts]) -> list[Graded]:
        """Classify and grade the subjects, and each table they belong to as the maximum of its columns; record grades and reasons.

        Returns the subjects' grades in their order, then the tables' (id ``dataset:<table>``). Sources: GB/T 43697-2024 6.5 and 6.6,
        工业数据分类分级指南（试行） 2020. Grades above general are suspicions only.
        """
        now = self._clock.now()
        graded: list[Graded] = []
        tables: dict[str, list[Graded]] = {}
        for subject in subjects:
            one = replace(grade(subject, self._packs), graded_at=now)
            graded.append(one)
            if subject.table:
                tables.setdefault(subject.table, []).append(one)
        whole = [
            replace(fuse_grades(f"dataset:{name}", members, self._packs), graded_at=now)
            for name, members in sorted(tables.items())
        ]
        if not graded:
            return []
        async with self._records.step(participant) as step:
            for kind, group in (("subject", graded), ("table", whole)):
                for one in group:
                    self._write_grade(step, one, kind)
            levels: dict[str, int] = {}
            for one in graded:
                levels[one.level] = levels.get(one.level, 0) + 1
            used = sorted({ref for one in [*graded, *whole] for ref in one.rules})
            step.record(
                Entry(
                    GRADED,
                    {
                        "subjects": len(graded),
                        "levels": levels,
                        "digest": digest([graded_to_json(one) for one in [*graded, *whole]]),
                        "rules": used,
                        "unverified": sorted({ref for one in [*graded, *whole] for ref in one.unverified}),
                    },
                )
            )
        self._learn_grades(participant, [*graded, *whole])
        return [*graded, *whole]

    async def regrade(
        self, participant: str, fused_id: str, members: Sequence[str], *, elements: Mapping[str, object] | None = None
    ) -> Graded:
        """Grade a fusion or dataset from its inputs: the maximum of them, then assessed again with scale, precision and coverage.

        ``members``: ids of graded subjects · ``elements``: ``rows``, ``rate_hz``, ``span_s``, ``machines`` of the result, where known.
        Raises Skippable ``govern.not-graded`` if a member has no grade. Source: GB/T 43697-2024 6.6 and Annex I.
        """
        rows = await self._records.rows(
            select(GRADES.c.id, GRADES.c.body).where(
                and_(GRADES.c.participant == participant, GRADES.c.id.in_(list(members)))
            )
        )
        found = {str(row["id"]): graded_from_json(orjson.loads(row["body"])) for row in rows}
        missing = [member for member in members if member not in found]
        if missing or not members:
            raise Skippable("govern.not-graded", subject=missing[0] if missing else fused_id)
        now = self._clock.now()
        one = replace(
            fuse_grades(fused_id, [found[member] for member in members], self._packs, elements=elements), graded_at=now
        )
        async with self._records.step(participant) as step:
            self._write_grade(step, one, "fusion")
            step.record(
                Entry(
                    REGRADED,
                    {
                        "id": one.id,
                        "level": one.level,
                        "status": one.status,
                        "members": len(one.members),
                        "digest": digest(graded_to_json(one)),
                        "unverified": list(one.unverified),
                    },
                )
            )
        self._learn_grades(participant, [one])
        return one

    async def grades(self, participant: str, *, ids: Sequence[str] | None = None) -> list[Graded]:
        """The current grades, by id."""
        where = [GRADES.c.participant == participant]
        if ids is not None:
            where.append(GRADES.c.id.in_(list(ids)))
        rows = await self._records.rows(select(GRADES.c.body).where(and_(*where)).order_by(GRADES.c.id))
        return [graded_from_json(orjson.loads(row["body"])) for row in rows]

    async def review(self, participant: str, graded_id: str, reviewed_by: str, note: str = "") -> Graded:
        """A person confirms having looked at a grade; the level itself does not change, and a suspicion stays one.

        Raises Skippable ``govern.not-graded``. The next classification starts without the review.
        """
        found = await self.grades(participant, ids=[graded_id])
        if not found or not reviewed_by.strip():
            raise Skippable("govern.not-graded", subject=graded_id[:100])
        one = replace(found[0], reviewed_by=reviewed_by.strip()[:200])
        async with self._records.step(participant) as step:
            step.update(
                GRADES,
                {"id": graded_id},
                {"body": canonical_bytes(graded_to_json(one))},
                expect={"body": canonical_bytes(graded_to_json(found[0]))},
            )
            step.record(
                Entry(REVIEWED, {"id": one.id, "level": one.level, "reviewed_by": one.reviewed_by, "note": note[:1000]})
            )
        return one

    async def due_for_review(self, participant: str, rows_now: Mapping[str, int]) -> list[str]:
        """Ids whose rows changed by more than the configured ratio since they were graded, or that were graded without a count."""
        due = []
        for one in await self.grades(participant, ids=list(rows_now)):
            now = rows_now[one.id]
            if one.rows is None or abs(now - one.rows) >= self._settings.regrade_volume_ratio * max(one.rows, 1):
                due.append(one.id)
        return due

    # rights

    async def state_rights(self, participant: str, rights: Rights) -> Rights:
        """Record who holds which right in a dataset. An earlier statement stays readable; the newest one counts.

        Raises Skippable ``govern.rights-incomplete`` naming every missing field. Source: 数据二十条 (2022) III.(3), 数据安全法 Art 33.
        """
        problems = list(rights_problems(rights))
        if problems:
            raise Skippable("govern.rights-incomplete", dataset=rights.dataset_id or "–", fields=", ".join(problems))
        body = rights_to_json(rights)
        async with self._records.step(participant) as step:
            step.insert(RIGHTS, dataset_id=rights.dataset_id, stated_at=step.at, body=canonical_bytes(body))
            step.record(
                Entry(
                    RIGHTS_STATED,
                    {
                        "dataset": rights.dataset_id,
                        "holder": rights.holder,
                        "processor": rights.processor,
                        "operator": rights.operator,
                        "digest": digest(body),
                    },
                )
            )
        self._of(participant).rights[rights.dataset_id] = rights
        return rights

    async def rights(self, participant: str, dataset_id: str, *, at: int | None = None) -> Rights | None:
        """The statement in force at ``at`` (default now), or None: then there is no offer."""
        row = await self._records.row(
            select(RIGHTS.c.body)
            .where(and_(RIGHTS.c.participant == participant, RIGHTS.c.dataset_id == dataset_id))
            .order_by(desc(RIGHTS.c.stated_at))
            .limit(1)
        )
        if row is None:
            return None
        found = rights_from_json(orjson.loads(row["body"]))
        return found if _in_force(found, self._clock.now() if at is None else at) else None

    async def require_rights(self, participant: str, dataset_id: str) -> Rights:
        """The statement in force; Refused ``govern.rights-missing`` without one."""
        found = await self.rights(participant, dataset_id)
        if found is None:
            raise Refused(RIGHTS_MISSING, dataset=dataset_id)
        return found

    async def all_rights(self, participant: str) -> list[Rights]:
        """The newest statement of every dataset, in force or not."""
        rows = await self._records.rows(
            select(RIGHTS.c.dataset_id, RIGHTS.c.body)
            .where(RIGHTS.c.participant == participant)
            .order_by(RIGHTS.c.dataset_id, RIGHTS.c.stated_at)
        )
        newest = {str(row["dataset_id"]): row["body"] for row in rows}
        return [rights_from_json(orjson.loads(body)) for body in newest.values()]

    # quality

    async def score(self, participant: str, dataset_id: str, inputs: QualityInputs) -> Quality:
        """Score a dataset from the figures of a window, record and return it. Unmeasured checks stay unmeasured."""
        now = self._clock.now()
        quality = replace(score_quality(dataset_id, inputs, self._packs), scored_at=now)
        body = quality_to_json(quality)
        async with self._records.step(participant) as step:
            step.upsert(QUALITY, dataset_id=dataset_id, scored_at=now, body=canonical_bytes(body))
            step.record(
                Entry(
                    SCORED,
                    {
                        "dataset": dataset_id,
                        "q": "" if quality.q is None else f"{quality.q:.4f}",
                        "coverage": f"{quality.coverage:.4f}",
                        "rows": quality.rows,
                        "ruleset": quality.ruleset,
                        "digest": digest(body),
                    },
                )
            )
            step.link(
                *(
                    Edge(f"govern:rule:{check.rule}", f"describe:dataset:{dataset_id}", "scored")
                    for check in quality.checks
                )
            )
        return quality

    async def quality(self, participant: str, dataset_id: str) -> Quality | None:
        """The newest score, or None."""
        row = await self._records.row(
            select(QUALITY.c.body)
            .where(and_(QUALITY.c.participant == participant, QUALITY.c.dataset_id == dataset_id))
            .order_by(desc(QUALITY.c.scored_at))
            .limit(1)
        )
        return None if row is None else quality_from_json(orjson.loads(row["body"]))

    # access

    def check_policies(self, policies: str) -> None:
        """Refused ``govern.policy-unreadable`` if a policy text is not Cedar or too large."""
        reason = self._point.check(policies)
        if reason:
            raise Refused("govern.policy-unreadable", reason=reason)

    def decide(self, participant: str, request: Request, policies: str | None = None) -> Decision:
        """Whether the request is allowed under the house rules and, if given, one agreement's Cedar policies. Deny is the default.

        Every decision goes into the access log (:meth:`flush` makes it durable; :meth:`start` does so on its own). When the log can't
        keep up the answer is deny with reason ``log-full``: an access that can't be accounted for does not happen.
        """
        now = self._clock.now()
        known = self._attributes(participant, request.resource, now)
        if len(self._pending) >= self._settings.decision_pending_rows:
            return Decision(False, (), "log-full")
        decision = self._point.decide(participant, request, policies, known, now)
        self._note(participant, request, decision, now)
        return decision

    def consider(self, participant: str, request: Request, policies: str | None, at: int) -> Decision:
        """As :meth:`decide`, of another instant and without an entry in the log: for rehearsals, which give nobody anything."""
        known = self._attributes(participant, request.resource, at)
        return self._point.decide(participant, request, policies, known, at)

    def require(self, participant: str, request: Request, policies: str | None = None) -> Decision:
        """As :meth:`decide`; Refused ``govern.denied`` if the answer is no."""
        decision = self.decide(participant, request, policies)
        if not decision.allowed:
            raise Refused(
                ACCESS_DENIED,
                subject=request.subject or "–",
                action=request.action,
                object=request.resource,
                reason=decision.reason,
            )
        return decision

    def allows(self, participant: str, subject: str, action: str, resource: str) -> bool:
        """The house rules' answer alone, in the shape of describe's port ``Decide``."""
        return self.decide(participant, Request(subject, action, resource)).allowed

    async def flush(self) -> None:
        """Write the waiting decisions; returns when they are durable.

        A caller that goes away does not stop the writing, so that nothing is written twice or lost.
        """
        while self._flushing is not None or self._pending:
            if self._flushing is None:
                self._flushing = asyncio.create_task(self._write_pending(), name="govern-flush")
                self._flushing.add_done_callback(self._flushed)
            await asyncio.shield(self._flushing)

    def _flushed(self, _: asyncio.Task[None]) -> None:
        self._flushing = None

    async def _write_pending(self) -> None:
        lines, self._pending = self._pending, {}
        by_participant: dict[str, list[dict[str, Any]]] = {}
        for key, line in lines.items():
            row = {**key._asdict(), "count": line.count, "first_at": line.first_at, "last_at": line.last_at}
            by_participant.setdefault(key.participant, []).append(row)
        try:
            for participant, rows in by_participant.items():
                async with self._records.step(participant) as step:
                    step.apply(_numbered(participant, rows))
                for key in [key for key in lines if key.participant == participant]:
                    del lines[key]
        except GuantongError:
            self._put_back(lines)
            raise
        self.log_failure = ""

    async def decisions(
        self,
        participant: str,
        *,
        subject: str | None = None,
        object: str | None = None,
        after: int = -1,
        limit: int = 200,
    ) -> list[LoggedDecision]:
        """Lines of the access log with a number above ``after``, oldest first, at most ``limit`` (<= 1,000); waiting ones are written first."""
        await self.flush()
        where = [DECISIONS.c.participant == participant, DECISIONS.c.number > after]
        if subject is not None:
            where.append(DECISIONS.c.subject == subject)
        if object is not None:
            where.append(DECISIONS.c.object == object)
        rows = await self._records.rows(
            select(DECISIONS).where(and_(*where)).order_by(DECISIONS.c.number).limit(max(1, min(limit, 1000)))
        )
        return [
            LoggedDecision(
                row["number"],
                row["subject"],
                row["action"],
                row["object"],
                bool(row["allowed"]),
                tuple(row["policies"].split()),
                row["reason"],
                row["context"],
                row["count"],
                row["first_at"],
                row["last_at"],
            )
            for row in rows
        ]

    async def forget_decisions(self, participant: str, before: int) -> None:
        """Delete lines of the access log that ended before an instant; never those younger than ``decision_keep_days``."""
        oldest = min(before, self._clock.now() - self._settings.decision_keep_days * _DAY_NS)
        async with self._records.step(participant) as step:
            step.apply(
                lambda connection: _nothing(
                    connection.execute(
                        delete(DECISIONS).where(
                            and_(DECISIONS.c.participant == participant, DECISIONS.c.last_at < oldest)
                        )
                    )
                )
            )

    # inside

    def _note(self, participant: str, request: Request, decision: Decision, now: int) -> None:
        stranger = subject_of(request.subject)[0] == "Unknown"
        key = _Key(
            participant,
            # somebody without a proven name must not be able to fill the log with names of his own invention
            "unknown" if stranger else request.subject[:255],
            request.action[:64],
            request.resource.partition(":")[0][:32] + ":*" if stranger else request.resource[:512],
            decision.allowed,
            " ".join(decision.policies)[:2000],
            decision.reason,
            "" if stranger else digest_of(request.context),
        )
        line = self._pending.get(key)
        if line is None:
            self._pending[key] = _Line(1, now, now)
        else:
            line.count += 1
            line.last_at = now
        if self._wake is not None:
            self._wake.set()

    def _put_back(self, lines: dict[_Key, _Line]) -> None:
        for key, line in lines.items():
            newer = self._pending.get(key)
            if newer is None:
                self._pending[key] = line
            else:
                newer.count += line.count
                newer.first_at = min(newer.first_at, line.first_at)

    async def _write_decisions(self) -> None:
        assert self._wake is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._clock.sleep(self._settings.decision_flush_s)
            try:
                await self.flush()
            except GuantongError as error:
                # the lines are back in the queue; a full queue then denies
                self.log_failure = error.code
                self._wake.set()

    def _of(self, participant: str) -> _Known:
        known = self._known.get(participant)
        if known is None:
            known = self._known[participant] = _Known()
            for row in self._records.rows_now(
                select(GRADES.c.id, GRADES.c.level, GRADES.c.status, GRADES.c.enforce, GRADES.c.domain).where(
                    and_(GRADES.c.participant == participant, GRADES.c.kind != "subject")
                )
            ):
                known.grades[row["id"]] = {name: row[name] for name in ("level", "status", "enforce", "domain")}
            for row in self._records.rows_now(
                select(RIGHTS.c.dataset_id, RIGHTS.c.body)
                .where(RIGHTS.c.participant == participant)
                .order_by(RIGHTS.c.stated_at)
            ):
                known.rights[row["dataset_id"]] = rights_from_json(orjson.loads(row["body"]))
        return known

    def _attributes(self, participant: str, resource: str, now: int) -> dict[str, object]:
        known = self._of(participant)
        found = dict(known.grades.get(resource, {}))
        if resource.startswith("dataset:"):
            rights = known.rights.get(resource[8:])
            found["rights"] = rights is not None and _in_force(rights, now)
        return found

    def _learn_grades(self, participant: str, graded: Iterable[Graded]) -> None:
        known = self._of(participant)
        for one in graded:
            if one.members:
                known.grades[one.id] = {
                    "level": one.level,
                    "status": one.status,
                    "enforce": one.enforce,
                    "domain": one.domain,
                }

    @staticmethod
    def _write_grade(step: Step, one: Graded, kind: str) -> None:
        step.upsert(
            GRADES,
            id=one.id,
            kind=kind,
            level=one.level,
            status=one.status,
            enforce=one.enforce,
            domain=one.domain,
            subclass=one.subclass,
            body=canonical_bytes(graded_to_json(one)),
            graded_at=one.graded_at,
        )
        target = node_of(one.id)
        step.link(*(Edge(f"govern:rule:{ref}", target, "graded") for ref in one.rules))
        step.link(*(Edge(node_of(member), target, "derived") for member in one.members if member != one.id))


def node_of(graded_id: str) -> str:
    """The lineage node of a graded thing: signals belong to fuse, datasets to describe, other subjects to govern."""
    kind, _, name = graded_id.partition(":")
    if kind == "signal":
        return f"fuse:signal:{name}"
    if kind == "dataset":
        return f"describe:dataset:{name}"
    return f"govern:subject:{graded_id}"


def digest_of(context: Mapping[str, object]) -> str:
    """Digest of a decision's context, empty for an empty one."""
    if not context:
        return ""
    try:
        return digest(dict(context))
    except GuantongError:
        return "not-canonical"


def _nothing(_: object) -> None:
    return None


def _in_force(rights: Rights, now: int) -> bool:
    start, end = period(rights)
    return start <= now and (end is None or now <= end)


def _numbered(participant: str, rows: list[dict[str, Any]]) -> Any:
    def run(connection: Connection) -> None:
        last = connection.execute(
            select(func.max(DECISIONS.c.number)).where(DECISIONS.c.participant == participant)
        ).scalar()
        start = 0 if last is None else int(last) + 1
        connection.execute(insert(DECISIONS), [{**row, "number": start + offset} for offset, row in enumerate(rows)])

    return run
