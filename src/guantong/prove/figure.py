"""Frozen values of figures with proof, and the kinds of entries they record.

A figure is a published pure function over chunks of data whose root went into the evidence log when the data were recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guantong.base.entry import EntryKind

__all__ = [
    "CHUNKS_COMMITTED",
    "FIGURE_CHALLENGED",
    "FIGURE_DEFINED",
    "FIGURE_KINDS",
    "FIGURE_MADE",
    "NOT_SHOWN",
    "OPEN_FIGURE",
    "ORDER_FIGURE",
    "RECEIVE_FIGURE",
    "Checked",
    "Definition",
    "Input",
    "Made",
]

ORDER_FIGURE = "prove.figure"
"""Kind of the question by which a partner orders a figure under an agreement."""
OPEN_FIGURE = "prove.figure-open"
"""Kind of the question that challenges it: nonce in, drawn chunks out."""
RECEIVE_FIGURE = "prove.figure-receipt"
"""Kind of the message that brings the buyer's signed verdict."""

NOT_SHOWN: tuple[tuple[str, str], ...] = (
    (
        "that the data were true when they were recorded: who alters them before the commitment is not caught",
        "数据在记录时是否属实：在承诺写入之前改动数据的，抽查发现不了",
    ),
    (
        "how much the chunks that were not drawn weigh: the bound is on their share, not on what they could move",
        "未抽中的数据块影响有多大：界限约束的是其占比，而非其对结果的影响",
    ),
    (
        "that the sensor told the truth or that the meter was not bypassed",
        "传感器如实反映了实际情况，计量未被绕过",
    ),
    (
        "that nothing was left out in the log positions that no named commitment covers, or of a commitment that was named and not opened",
        "列明的承诺未覆盖的日志位置，以及已列明但未打开的承诺之中，是否另有遗漏",
    ),
)
"""What a challenge does not show, in English and Chinese; every result carries it."""


@dataclass(frozen=True, slots=True)
class Input:
    """Which recorded streams play a role in a figure."""

    role: str
    """Role that the function names, for example ``execution``."""
    table: str
    """``readings``, ``measurements`` or a named table."""
    streams: tuple[str, ...]
    """Streams of that table as the commitments name them (:func:`guantong.prove.figure_chunks.stream_of`)."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"role": self.role, "table": self.table, "streams": list(self.streams)}


@dataclass(frozen=True, slots=True)
class Definition:
    """A figure as its owner defines it: which function, over which data, with which parameters, how far it may be opened."""

    id: str
    function: str
    """``<id>@<version>`` of a published function."""
    inputs: tuple[Input, ...]
    title_en: str = ""
    title_zh: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Canonical JSON; numbers that are not whole as decimal text."""
    openings: int = 300
    """Most chunks that a challenge may open, where the agreement's price plan does not say otherwise (``openings``)."""
    agreements: tuple[str, ...] = ()
    """Agreements under which a partner may order it; none: only its owner makes it."""

    def document(self) -> dict[str, Any]:
        """As canonical JSON; its digest names the definition."""
        return {
            "v": 1,
            "type": "figure-definition",
            "id": self.id,
            "function": self.function,
            "inputs": [one.document() for one in self.inputs],
            "title": {"en": self.title_en, "zh": self.title_zh},
            "parameters": dict(self.parameters),
            "openings": self.openings,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """A figure that was made or received, as its holder keeps it."""

    digest: str
    """``sha256:`` of the figure's canonical bytes."""
    role: str
    """``seller`` or ``buyer``."""
    definition_id: str
    partner: str
    """The other side, empty where it was made without an order."""
    agreement_id: str
    value: str | None
    unit: str
    verdict: str
    """``""`` before a challenge, then ``clean`` or ``wrong``."""
    made_at: int
    proof: Mapping[str, Any]
    """The bundle that verifies offline."""


@dataclass(slots=True)
class Checked:
    """What the check of a figure found."""

    digest: str = ""
    value: str | None = None
    unit: str = ""
    reason: str = ""
    """Why there is no value."""
    problems: list[str] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    """What could not be decided for want of keys."""
    opened: int = 0
    """Draws answered."""
    positions: int = 0
    """Different positions among them."""
    units: int = 0
    bound: str = ""
    """With 95 % confidence at most this share of the weight is wrong: 1 − 0.05^(1/opened), about 3/opened."""
    weighted: str = ""
    """What the share is of: ``positions`` or ``contributions``."""
    committed_before: str = ""
    """When the newest commitment used was witnessed at the latest, or the time it states."""
    covers: Mapping[str, Any] = field(default_factory=dict)
    """Log positions that the named commitments span: ``first``, ``last``, and how many in between are in none (``uncovered``, with the
    first 50 ``stretches``). Positions without rows, such as that a connection was lost, belong there too."""
    seed: str = ""
    witnessed: bool = False
    cites: list[Checked] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``wrong``, ``clean`` (challenged), ``unchallenged`` or ``signer-unknown``."""
        if self.problems or any(one.verdict == "wrong" for one in self.cites):
            return "wrong"
        if self.unconfirmed or any(one.verdict == "signer-unknown" for one in self.cites):
            return "signer-unknown"
        return "clean" if self.opened or self.cites else "unchallenged"

    def document(self) -> dict[str, Any]:
        """JSON for programs."""
        return {
            "verdict": self.verdict,
            "figure": self.digest,
            "value": self.value,
            "unit": self.unit,
            "reason": self.reason,
            "problems": self.problems,
            "unconfirmed": self.unconfirmed,
            "opened": self.opened,
            "positions": self.positions,
            "units": self.units,
            "bound": self.bound,
            "weighted": self.weighted,
            "committedBefore": self.committed_before,
            "covers": dict(self.covers),
            "seed": self.seed,
            "witnessed": self.witnessed,
            "cites": [one.document() for one in self.cites],
            "notShown": [{"en": en, "zh": zh} for en, zh in NOT_SHOWN],
        }


_TEXT: dict[str, Any] = {"type": "string", "maxLength": 512}
_HASH: dict[str, Any] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}


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


CHUNKS_COMMITTED = _kind(
    "prove.chunks-committed",
    "Rows that became part of a table were committed to by the root over their chunks.",
    "写入数据表的行已按数据块计算根散列并作出承诺。",
    {"table": _TEXT, "first": _COUNT, "last": _COUNT, "rows": _COUNT, "chunks": _COUNT, "root": _HASH},
)
FIGURE_DEFINED = _kind(
    "prove.figure-defined",
    "A figure was defined: function, inputs, parameters and how far it may be opened.",
    "已定义带证数：函数、输入、参数及可抽查的数据块数。",
    {"id": _TEXT, "definition": _HASH, "function": _TEXT, "functionHash": _HASH},
)
FIGURE_MADE = _kind(
    "prove.figure-made",
    "A figure was computed and its trace committed.",
    "已算出带证数并承诺其计算过程。",
    {
        "figure": _HASH,
        "definition": _HASH,
        "nonceHash": {"type": "string", "maxLength": 71},
        "agreementId": _TEXT,
        "partner": _TEXT,
    },
)
FIGURE_CHALLENGED = _kind(
    "prove.figure-challenged",
    "A figure was challenged: so many chunks were opened, with this verdict.",
    "带证数已接受抽查：打开若干数据块，并得出结论。",
    {
        "figure": _HASH,
        "seed": _HASH,
        "opened": _COUNT,
        "verdict": {"enum": ["opened", "clean", "wrong"]},
        "agreementId": _TEXT,
        "partner": _TEXT,
        "statement": {"type": "string", "maxLength": 71},
    },
)

FIGURE_KINDS = (CHUNKS_COMMITTED, FIGURE_CHALLENGED, FIGURE_DEFINED, FIGURE_MADE)
"""Kinds of entries of figures; the room's list takes them in."""
