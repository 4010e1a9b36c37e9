"""Frozen values of valuation and the kinds of entries it records.

Two ledgers that never mix: :class:`CostEntry` states what the data cost, fit for the books; :class:`Appraisal` states what they may be
worth and is stamped not for booking. No function takes the one for the other, and they live in tables of their own.
Source: 企业数据资源相关会计处理暂行规定, 财会〔2023〕11号 (cost); 数据资产评估指导意见, 中评协〔2023〕17号 (appraisal).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from guantong.base.entry import EntryKind

__all__ = [
    "APPRAISED",
    "COST_RECORDED",
    "ENTRY_KINDS",
    "GRADES",
    "STAMP_EN",
    "STAMP_ZH",
    "Appraisal",
    "CostEntry",
    "CostSheet",
    "Factor",
    "Meter",
    "Meters",
    "QualityFact",
    "Range",
    "Rate",
    "Sensitivity",
    "ValueSettings",
]

STAMP_EN = "reference, not for booking"
STAMP_ZH = "仅供参考，不得作为入账依据"

GRADES: Mapping[str, tuple[str, str]] = {
    "high": ("by voucher", "有凭证"),
    "medium": ("measured, rate allocated", "数量实测、单价分摊"),
    "low": ("estimated", "估算"),
}
"""Evidence grades of a cost entry: full vouchers, allocated, estimated."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that a room counts."""

    name: str
    """``connector-hours/<source>``, ``points``, ``stored-bytes``, ``compute-seconds``, or a name of the participant's own. A rate for
    the part before the slash prices all that begin with it."""
    value: Decimal
    """The reading of the counter, or the level."""
    unit: str
    """UCUM or a plain word: ``h``, ``{point}``, ``By``, ``s``."""
    source: str
    """Which room and figure it was read from, for example ``keep.stats: rows``."""
    cumulative: bool = True
    """A counter that grows (its increase is what was used), or a level that is held (its time integral is, in ``unit``·h)."""


@dataclass(frozen=True, slots=True)
class Meters:
    """What the rooms counted up to one instant."""

    at: int
    """Nanoseconds since the epoch."""
    meters: tuple[Meter, ...]
    since: int | None = None
    """When a meter that is seen for the first time began to count; None where nobody knows, the line then has an empty window."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit of a meter costs, as the participant configured it."""

    meter: str
    price: Decimal
    """Price of one ``per`` units."""
    currency: str
    """ISO 4217 code."""
    source: str
    """Where the rate comes from: a contract, a tariff, an allocation key."""
    per: Decimal = Decimal(1)
    """Units that the price is for, > 0: 1073741824 for a price a GiB·h."""
    voucher: str = ""
    """Reference of the booking voucher, empty where there is none."""
    grade: str = "medium"
    """One of :data:`GRADES`; ``high`` needs a voucher."""


@dataclass(frozen=True, slots=True)
class CostEntry:
    """One line of the cost evidence ledger. Append only: a correction is a new line that names the old one."""

    entry_id: str
    subject: str
    """What the cost is for: a dataset id, or empty for the participant's data as a whole."""
    item: str
    """The meter, or the words of a purchase."""
    quantity: Decimal
    unit: str
    start: int
    end: int
    """Window in nanoseconds since the epoch, start included, end not."""
    source: str
    """Where the quantity was read."""
    currency: str
    rate: Decimal | None
    """Price of one unit; None where no rate is configured, and then there is no amount either."""
    rate_source: str
    amount: Decimal | None
    voucher: str
    grade: str
    corrects: str = ""


@dataclass(frozen=True, slots=True)
class CostSheet:
    """The ledger summed by currency and item."""

    entries: tuple[CostEntry, ...]
    totals: Mapping[str, Decimal]
    """Currency to sum of the amounts."""
    by_item: Mapping[tuple[str, str], Decimal]
    """(currency, item) to sum."""
    by_grade: Mapping[tuple[str, str], Decimal]
    """(currency, grade) to sum."""
    unpriced: tuple[CostEntry, ...]
    """Measured but without a configured rate: shown, never guessed."""


@dataclass(frozen=True, slots=True)
class QualityFact:
    """The quality score as govern gives it."""

    score: float
    """Q, 0 to 100, over the dimensions that were measured."""
    coverage: float
    """c, 0 to 1: weight of the measured dimensions in all."""
    source: str
    """Rule set and run that the score comes from."""


@dataclass(frozen=True, slots=True)
class Range:
    """Low, likely and high, low <= likely <= high."""

    low: Decimal
    likely: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of an appraisal, traced."""

    name: str
    symbol: str
    value: Range
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The likely value when one factor alone goes to its low or high end."""

    factor: str
    at_low: Decimal
    at_high: Decimal
    swing: Decimal
    """at_high − at_low."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What the data may be worth by the cost approach. Never a booking figure."""

    appraisal_id: str
    subject: str
    method: str
    """``cost approach P = C·δ·α``."""
    currency: str
    value: Range
    factors: tuple[Factor, ...]
    sensitivity: tuple[Sensitivity, ...]
    """Largest swing first."""
    coverage: Decimal
    """c of the quality coefficient."""
    start: int
    end: int
    """Window of the costs."""
    at: int
    cost_digest: str
    """Digest of the ledger lines it stands on."""
    stamp: tuple[str, str] = (STAMP_EN, STAMP_ZH)


@dataclass(frozen=True, slots=True)
class ValueSettings:
    """Settings of valuation. Assumptions, not measurements: each appears in the appraisal with its name."""

    delta: tuple[str, str, str] = ("1", "1", "1")
    """Value adjustment δ, low, likely and high; 1 means that none is declared."""
    cost_spread: Mapping[str, str] = field(default_factory=lambda: {"high": "0", "medium": "0.10", "low": "0.30"})
    """How far the cost may lie from the ledger, by evidence grade, as a share."""
    decimals: int = 2
    """Decimals of amounts."""


def _kind(name: str, en: str, zh: str, properties: Mapping[str, Any]) -> EntryKind:
    return EntryKind(
        name,
        en,
        zh,
        {
            "type": "object",
            "properties": dict(properties),
            "required": sorted(properties),
            "additionalProperties": False,
        },
    )


_TEXT = {"type": "string", "maxLength": 255}
_DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}

COST_RECORDED = _kind(
    "value.cost-recorded",
    "Lines were added to the cost evidence ledger",
    "成本证据账本新增记录",
    {"entries": {"type": "integer", "minimum": 1}, "digest": _DIGEST, "from": _TEXT, "to": _TEXT},
)
APPRAISED = _kind(
    "value.appraised",
    "An appraisal was made; it is not for booking",
    "完成一次价值评估，不得作为入账依据",
    {
        "appraisal": _TEXT,
        "subject": _TEXT,
        "currency": _TEXT,
        "low": _TEXT,
        "likely": _TEXT,
        "high": _TEXT,
        "coverage": _TEXT,
        "digest": _DIGEST,
        "stamp": _TEXT,
    },
)

ENTRY_KINDS = (APPRAISED, COST_RECORDED)
"""Kinds of entries of this room."""
