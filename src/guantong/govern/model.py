"""Frozen values of govern: what is graded, how far, why and by which rule; rights; quality; requests and decisions; entry kinds.

Sources: GB/T 43697-2024 (levels, elements, degrees), 工业数据分类分级指南（试行）2020 (domains), GB/T 36344-2018 and ISO/IEC 25012
(quality dimensions), 数据二十条 (the three rights). Rules themselves are data, in ``packs/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from guantong.base.entry import EntryKind

__all__ = [
    "ACCESS_DENIED",
    "ENTRY_KINDS",
    "GRADED",
    "LEVELS",
    "REGRADED",
    "REVIEWED",
    "RIGHTS_MISSING",
    "RIGHTS_STATED",
    "SCORED",
    "Check",
    "Decision",
    "GovernSettings",
    "Graded",
    "Impact",
    "LoggedDecision",
    "Quality",
    "QualityInputs",
    "Reason",
    "Request",
    "Rights",
    "Rule",
    "SubjectFacts",
]

Level = Literal["general-1", "general-2", "general-3", "general-4", "important", "core"]

LEVELS: tuple[Level, ...] = ("general-1", "general-2", "general-3", "general-4", "important", "core")
"""GB/T 43697-2024: 一般1级 < 一般2级 < 一般3级 < 一般4级 < 重要 < 核心. The only ladder used in guantong."""

RIGHTS_MISSING = "govern.rights-missing"
"""Error code with which exchange refuses an offer of a dataset without a rights statement."""

ACCESS_DENIED = "govern.denied"
"""Error code of a refused access."""


@dataclass(frozen=True, slots=True)
class GovernSettings:
    """Settings of govern."""

    decision_flush_s: float = 0.5
    """Decisions wait at most this long before they are written, in seconds, > 0."""
    decision_pending_rows: int = 20_000
    """Distinct unwritten decisions held at most; above it every access is denied, because it could not be accounted for."""
    decision_keep_days: int = 183
    """Lines of the access log younger than this are never deleted (MIIT 2022 Art 25: at least six months)."""
    policy_cache: int = 256
    """Parsed policy sets kept."""
    policy_bytes: int = 65_536
    """Largest policy text of one agreement, in bytes."""
    house_policies: str = ""
    """Cedar text of the house rules; empty means the shipped ones (``packs/house.cedar``)."""
    regrade_volume_ratio: float = 0.3
    """Growth of rows beyond which a grade is due for review (MIIT 2022 Art 12 names 30 %)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a pack. ``verified_by`` empty means that no person has compared it with the official text yet."""

    pack: str
    id: str
    text_en: str
    text_zh: str
    source: str
    clause: str
    version: str
    effective_from: str
    """ISO date, first day in force."""
    effective_to: str
    """ISO date, last day in force; empty while in force."""
    evidence: str
    """``verified``, ``secondary``, ``memory``, ``measured`` or ``inference``."""
    verified_by: str
    verified_on: str
    when: Mapping[str, object] = field(default_factory=dict)
    """Conditions, as the pack states them."""
    then: Mapping[str, object] = field(default_factory=dict)
    """Consequences, as the pack states them."""

    @property
    def ref(self) -> str:
        """``pack/id@version``: the name lineage and evidence use."""
        return f"{self.pack}/{self.id}@{self.version}"


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What is known about a signal or a column before it is graded. Unknown figures are None, never zero."""

    id: str
    """Stable id; ``signal:12`` or ``column:dataset/name``."""
    name: str
    path: str = ""
    unit: str = ""
    """UCUM code."""
    type: str = ""
    """``EVENT``, ``SAMPLE``, ``CONDITION`` or the value type."""
    equipment: str = ""
    """Kind or name of the machine."""
    rate_hz: float | None = None
    rows: int | None = None
    span_s: float | None = None
    """Time covered, in seconds."""
    machines: int | None = None
    table: str = ""
    """Dataset the subject belongs to; table grades are the maximum over it."""
    samples: tuple[str, ...] = ()
    """A few values as text for the checksum recognisers (at most 1,000 are read); they are never stored."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule applied: the part looked at, the words or figures that matched, and the rule."""

    part: Literal["name", "path", "unit", "equipment", "type", "rate", "values", "default"]
    matched: str
    rule: str


@dataclass(frozen=True, slots=True)
class Impact:
    """One affected object and the degree of harm (GB/T 43697 6.4)."""

    object: Literal["security", "economy", "order", "public", "organisation", "individual"]
    degree: Literal["none", "general", "serious", "exceptional"]
    why: str
    rule: str


@dataclass(frozen=True, slots=True)
class Graded:
    """Class and grade of one subject, table or fusion, with everything that led to it.

    ``important`` and ``core`` are never a legal determination: ``status`` is then ``suspected`` and ``enforce`` is ``important``, the
    conservative controls, until an authority's notice or published catalogue says otherwise (网络数据安全管理条例 Arts 29, 37).
    """

    id: str
    domain: str
    subclass: str
    level: Level
    status: Literal["general", "suspected"]
    enforce: Level
    elements: Mapping[str, object]
    """Field, scale, precision, coverage … as far as measured (GB/T 43697 6.3)."""
    impacts: tuple[Impact, ...]
    reasons: tuple[Reason, ...]
    personal: tuple[str, ...]
    """Kinds of personal data found; empty if none."""
    rules: tuple[str, ...]
    unverified: tuple[str, ...]
    """Those of ``rules`` that no person has verified; every output says so."""
    flags: tuple[str, ...]
    members: tuple[str, ...] = ()
    """Of a table or a fusion: the subjects it was graded from."""
    graded_at: int = 0
    rows: int | None = None
    """Rows at the time of grading, for the change trigger."""
    reviewed_by: str = ""

    @property
    def legally_determined(self) -> bool:
        """Always False: the node only suspects."""
        return False


@dataclass(frozen=True, slots=True)
class Rights:
    """Who holds which right in a dataset (数据持有权、数据使用权、数据经营权) and on what ground. Without one there is no offer."""

    dataset_id: str
    holder: str
    """数据持有权: who holds the data; DID or registered name."""
    processor: str
    """数据使用权 (processing and use)."""
    operator: str
    """数据经营权: who may offer products made of it."""
    source: str
    """Where the right comes from: own production, purchase, authorisation, collection agreement."""
    evidence: str
    """Voucher, contract number or digest that shows it."""
    valid_from: str
    """RFC 3339 instant or date, inclusive."""
    valid_to: str = ""
    """Inclusive; empty means without end."""
    personal_basis: str = ""
    """Legal basis where the dataset holds personal data."""
    restrictions: str = ""
    """Terms of third parties that bind us."""
    stated_by: str = ""
    """Person or system that stated it."""


@dataclass(frozen=True, slots=True)
class QualityInputs:
    """Figures of keep and fuse for a window. None means not measured; it is never filled in."""

    window_start: int
    """Nanoseconds, inclusive."""
    window_end: int
    """Nanoseconds, inclusive."""
    rows: int
    received: int | None = None
    kept: int | None = None
    duplicates: int | None = None
    quarantined: int | None = None
    gaps: int | None = None
    """Missing readings by the sources' own sequence numbers."""
    expected: int | None = None
    """Readings expected at the declared rate."""
    good: int | None = None
    """Rows whose OPC UA status is Good."""
    status_rows: int | None = None
    signals: int | None = None
    signals_with_unit: int | None = None
    """Numeric signals with a UCUM unit; ``signals`` then counts numeric signals."""
    ordered: int | None = None
    """Rows not earlier than the one before them of the same signal."""
    timely: int | None = None
    """Rows received within the declared time of their source time."""
    timed: int | None = None
    """Rows for which that was checked."""
    frozen: int | None = None
    """Rows inside stretches found frozen."""
    in_range: int | None = None
    ranged: int | None = None
    """Rows checked against an engineering range."""
    revisions: int | None = None
    """Rows that contradict an earlier value of the same instant."""
    clock_ok: int | None = None
    """Sources whose clock offset is within the limit."""
    clocks: int | None = None
    served: int | None = None
    """Requests for the dataset that were answered."""
    asked: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One quality check: conforming over checked, or why it could not be done."""

    id: str
    dimension: str
    """GB/T 36344: conformity, completeness, accuracy, consistency, timeliness, accessibility."""
    iso25012: str
    numerator: int | None
    denominator: int | None
    score: float | None
    """0 to 1; None if not measured."""
    low: float | None
    """Wilson score interval, 95 %."""
    high: float | None
    rule: str
    unmeasured: str = ""
    """Why there is no figure."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of a dataset in a window: Q over the measured dimensions only, and how much of the weight was measured (coverage c)."""

    dataset_id: str
    q: float | None
    """0 to 1; None if nothing was measured."""
    coverage: float
    dimensions: Mapping[str, float | None]
    checks: tuple[Check, ...]
    rows: int
    window_start: int
    window_end: int
    ruleset: str
    """Digest of the rules used."""
    unverified: tuple[str, ...]
    capped: bool
    """A critical check failed, so Q was capped."""
    scored_at: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A question to the decision point.

    subject: ``did:…`` (a participant) or ``user:<name>`` (a person of this node) or empty (unknown) · action: ``read``, ``offer``,
    ``negotiate``, ``transfer``, … · resource: ``<kind>:<id>`` with kind dataset, shell, submodel, agreement, product, log, node ·
    context: values the policies look at (text, int, bool, list of text; instants as ints of milliseconds).
    """

    subject: str
    action: str
    resource: str
    context: Mapping[str, object] = field(default_factory=dict)
    claims: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the subject that were proven."""
    attributes: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the resource beyond grade and domain, which govern adds itself."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the policies that decided. Deny is the default."""

    allowed: bool
    policies: tuple[str, ...]
    """``@id`` of the deciding policies; empty when nothing permitted."""
    reason: str
    """``permitted``, ``forbidden``, ``nothing-permits``, ``policy-error``, ``policy-unreadable``, ``log-full``."""
    errors: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """A line of the access log: equal decisions of one flush are one line with their count."""

    number: int
    subject: str
    action: str
    object: str
    allowed: bool
    policies: tuple[str, ...]
    reason: str
    context: str
    """Digest of the context."""
    count: int
    first_at: int
    last_at: int


def _schema(required: dict[str, str], optional: dict[str, str] | None = None) -> dict[str, object]:
    names = {
        "text": {"type": "string"},
        "int": {"type": "integer"},
        "bool": {"type": "boolean"},
        "texts": {"type": "array", "items": {"type": "string"}},
        "object": {"type": "object"},
    }
    properties = {name: names[kind] for name, kind in {**required, **(optional or {})}.items()}
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


GRADED = EntryKind(
    "govern.graded",
    "Signals were classified and graded",
    "已对信号分类分级",
    _schema({"subjects": "int", "levels": "object", "digest": "text", "rules": "texts", "unverified": "texts"}),
)
REGRADED = EntryKind(
    "govern.regraded",
    "A fusion or table was graded again from its inputs",
    "已按输入重新定级融合数据",
    _schema(
        {"id": "text", "level": "text", "status": "text", "members": "int", "digest": "text", "unverified": "texts"}
    ),
)
REVIEWED = EntryKind(
    "govern.reviewed",
    "A person reviewed a grade",
    "已由人员复核定级",
    _schema({"id": "text", "level": "text", "reviewed_by": "text", "note": "text"}),
)
RIGHTS_STATED = EntryKind(
    "govern.rights-stated",
    "The rights in a dataset were stated",
    "已声明数据集权利",
    _schema({"dataset": "text", "holder": "text", "processor": "text", "operator": "text", "digest": "text"}),
)
SCORED = EntryKind(
    "govern.scored",
    "The quality of a dataset was scored",
    "已评定数据集质量",
    _schema({"dataset": "text", "q": "text", "coverage": "text", "rows": "int", "ruleset": "text", "digest": "text"}),
)
ENTRY_KINDS: tuple[EntryKind, ...] = (GRADED, REGRADED, REVIEWED, RIGHTS_STATED, SCORED)
