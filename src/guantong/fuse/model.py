"""Values of fusion: signals and their mappings, corrections, counts, parts, and the rules that say why two names are one thing.

Source of the mapping's fields: IDTA 02027-2-0 (Asset Interfaces Mapping Configuration 2.0); the document itself is made in ``aimc.py``.
"""

from __future__ import annotations

from collections.abc import Mapping as Facts
from dataclasses import dataclass
from typing import Literal

from guantong.base.entry import EntryKind

__all__ = [
    "CORRECTION_MADE",
    "ENTRY_KINDS",
    "FINDING_MADE",
    "LIMITS_SET",
    "MAPPING_REMOVED",
    "MAPPING_SET",
    "PARTS_MATCHED",
    "SIGNALS_ADDED",
    "SUGGESTION_DECIDED",
    "Bits",
    "Characteristic",
    "CharacteristicMatch",
    "Correction",
    "Counts",
    "FuseSettings",
    "Gap",
    "Join",
    "Key",
    "Lookup",
    "MapSink",
    "MapSource",
    "Mapping",
    "Match",
    "Matches",
    "Offset",
    "Part",
    "PartRule",
    "Piece",
    "Scale",
    "Signal",
    "Split",
    "Transformation",
    "Unit",
    "Watermark",
]


@dataclass(frozen=True, slots=True)
class Signal:
    """One time series of one source, as the catalogue knows it."""

    id: int
    """Number within the participant, given once and never used again."""
    source: str
    native_id: str
    """The source's own id."""
    path: str
    """Where it sits in the equipment, as the source says, with ``/``; empty where unknown."""
    name: str
    unit: str
    """UCUM code of the values that are kept; empty where none is known."""
    declared_unit: str
    """The unit as the source writes it; empty where it writes none."""
    type: str
    """``f64``, ``i64``, ``text``, ``bool`` or ``mixed``; empty until a value was seen."""
    category: str
    """``sample``, ``event``, ``condition`` or what else the source calls it."""
    version: int
    """1 when first seen; +1 each time path, name, unit, type or category changes."""


Key = tuple[str, str]
"""One key of an AAS ModelReference: key type and value, for example ``("Submodel", "https://…")``."""


@dataclass(frozen=True, slots=True)
class MapSource:
    """AIMC 2.0 Source."""

    id: str
    """SourceId, unique within the mapping's sources."""
    reference: tuple[Key, ...]
    """Source: the ModelReference to the property in the interface description."""
    polling_interval_s: float | None = None
    """PollingInterval; a synchronous source needs one above zero, its own or the default."""


@dataclass(frozen=True, slots=True)
class MapSink:
    """AIMC 2.0 Sink."""

    id: str
    """SinkId, unique within the mapping's sinks."""
    reference: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """value · factor"""

    factor: float


@dataclass(frozen=True, slots=True)
class Offset:
    """value + by"""

    by: float


@dataclass(frozen=True, slots=True)
class Unit:
    """Conversion between two units that measure the same; both are UCUM codes."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """Text by text, for codes; a value that isn't listed stays as it is. Pairs are (from, to), each ``from`` once."""

    pairs: tuple[tuple[str, str], ...]


Piece = Literal["number", "integer", "text"]
"""What a piece of text is."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Fields of a word: a value for each sink. One bit gives a boolean, more give a whole number."""

    fields: tuple[tuple[str, int, int], ...]
    """(sink id, first bit, width), one for each sink in the sinks' order; bit 0 is the lowest."""


@dataclass(frozen=True, slots=True)
class Split:
    """A text cut at every separator: the n-th piece is the n-th sink's value. A text with more or fewer pieces gives none."""

    separator: str
    kinds: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Several sources' values that were read together, in the sources' order, as one text (or the number that it spells)."""

    separator: str
    kind: Piece = "text"


Transformation = Scale | Offset | Unit | Lookup | Bits | Split | Join
"""The fixed set of transformations; free code is never run."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """How signals become the values of an asset: the fields of one AIMC 2.0 mapping configuration.

    Without ``transformations`` sources and sinks are 1:1 and their ids equal. With them there is one source, and every sink gets the
    transformed value. Bits, split and join come first, one of them, and make signals of their own: bits and split one a sink, join one of
    several sources.
    """

    name: str
    """idShort of the configuration."""
    sources: tuple[MapSource, ...]
    sinks: tuple[MapSink, ...]
    transformations: tuple[Transformation, ...] = ()
    """Applied in order."""
    default_polling_interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction of data, on record under its id. The original values stay."""

    id: str
    kind: Literal["clock", "unit", "mapping"]
    source: str
    signal: str
    """The source's own id; empty where the whole source is meant."""
    start: int
    """First instant it holds for, ns."""
    end: int
    """Last instant it holds for, ns (closed)."""
    value: Facts[str, object]
    """What is applied: ``offset_s`` and ``uncertainty_s``, or ``from``, ``to`` (UCUM) …"""
    rule: str
    """Which rule decided."""
    rule_version: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Data known to be missing, as the source said."""

    source: str
    signal: str
    """Empty: any signal of the source."""
    start: int
    end: int
    count: int
    """How many readings are missing, as far as numbers tell; 0 where only a time is known."""
    unit: Literal["sequence", "time"]
    reason: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a live source is."""

    source: str
    newest: int
    """Newest source time that has come (aligned where the clock was off), ns."""
    allowed_s: float
    """How far behind it a reading may come."""
    watermark: int
    """``newest`` less what is allowed; what is older is late."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The account of what arrived; ``received == kept + duplicates + quarantined`` always."""

    received: int = 0
    """Rows and quarantined lines together."""
    kept: int = 0
    """Rows handed on, all revisions that a source sent."""
    duplicates: int = 0
    quarantined: int = 0
    gaps: int = 0
    """Readings the sources say are missing (numbers missing in a sequence)."""
    corrected: int = 0
    """Rows that fusion itself added; not part of ``kept``: revisions (a unit converted back, ``reason`` ``corrected: …``), and values that a
    mapping took out of others or put together (each names its correction)."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.received + other.received,
            self.kept + other.kept,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.gaps + other.gaps,
            self.corrected + other.corrected,
        )


@dataclass(frozen=True, slots=True)
class PartRule:
    """A rule that says why two names are one thing."""

    id: str
    version: int
    en: str
    zh: str
    confidence: float
    """0 to 1: how often such a match is right, as judged by its maker."""


@dataclass(frozen=True, slots=True)
class Part:
    """One physical part and every name it goes by."""

    id: str
    design: str
    """Word that the designs' names share (``box``), lower case."""
    serial: str
    """The plain number, without leading zeros."""
    names: tuple[tuple[str, str], ...]
    """(origin, name as written): where it is called so."""
    rules: tuple[str, ...]
    """Ids of the rules that joined the names."""
    confidence: float


@dataclass(frozen=True, slots=True)
class Match:
    """Two results that are of one part."""

    part: str
    left: str
    """``report`` and ``result`` of the left table, joined by ``#``."""
    right: str
    left_serial: str
    """As written, or the source URI where no serial is written."""
    right_serial: str
    rule: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic of a part design as one company names it, the same for all its parts."""

    id: str
    """Id of the feature and of the characteristic item, joined by ``#``: the identity (names repeat)."""
    name: str
    kind: str
    unit: str
    nominal: float | None
    lower: float | None
    """Lower limit, absolute."""
    upper: float | None
    position: tuple[float, float, float] | None
    median: float | None
    """Median of what was measured."""
    count: int


@dataclass(frozen=True, slots=True)
class CharacteristicMatch:
    """A characteristic of the left company and the one of the right company that measures the same."""

    design: str
    left: Characteristic
    right: Characteristic
    rule: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Matches:
    """What :func:`guantong.fuse.rules.match_parts` answers."""

    parts: tuple[Part, ...]
    matches: tuple[Match, ...]
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FuseSettings:
    """Settings of fusion."""

    chunk_rows: int = 200_000
    """Rows read from the log at once."""
    recent_rows: int = 300_000
    """Rows of the newest readings held in memory to recognise duplicates; what is older is looked up in the tables."""
    lookup_rows: int = 200_000
    """Most rows asked from the tables at once; where an answer would be larger, it is asked for in halves."""
    clock_threshold_s: float = 2.0
    """A smaller clock offset is not corrected."""
    clock_jitter_factor: float = 5.0
    """An offset must also exceed this many times the jitter."""
    clock_window_s: float = 2.0
    """Length of one window of the offset estimate."""
    clock_min_rows: int = 3
    """Rows a window needs to be judged."""
    late_s: float = 3.0
    """How far behind its source's newest time a reading may arrive."""
    late_sources: tuple[str, ...] = ()
    """The same for single sources, as ``source=seconds``."""
    late_run: int = 3
    """Fewer late readings of a signal are counted but make no finding (a start sends one old value per signal)."""
    duplicate_run: int = 10
    """Fewer repeated readings of a signal in a row make no finding (a reconnect repeats one or two)."""
    unit_run: int = 8
    """Rows a stretch in another unit must have."""
    unit_tolerance: float = 0.12
    """How far the ratio of levels may be from the factor of the units, relative."""
    unit_correct: bool = True
    """Write the converted values as a further revision; if not, the finding alone is recorded."""
    frozen_run: int = 30
    """Rows that must be exactly equal."""
    frozen_s: float = 20.0
    """How long a value must stand still."""
    frozen_factor: float = 8.0
    """How many times longer than any other standstill of the signal."""
    window_rows: int = 4_096
    """Newest rows per signal that the unit and standstill rules look at."""
    lineage_s: float = 60.0
    """Of live batches, a lineage edge to a signal is recorded at most this often (each row names its own batch all the same)."""
    gap_s: float = 30.0
    """Findings of one kind and place closer than this are one."""


def _schema(**properties: str) -> Facts[str, object]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": sorted(properties),
        "additionalProperties": False,
    }


SIGNALS_ADDED = EntryKind(
    "fuse.signals-added",
    "Signals of a source entered the catalogue or changed in it.",
    "信号进入目录，或其描述发生变化。",
    _schema(source="string", count="integer", digest="string"),
)
MAPPING_SET = EntryKind(
    "fuse.mapping-set",
    "A mapping of signals was set.",
    "设定了信号映射。",
    _schema(name="string", version="integer", digest="string"),
)
MAPPING_REMOVED = EntryKind(
    "fuse.mapping-removed",
    "A mapping of signals was taken away; what it made stays.",
    "移除了信号映射，已生成的数据保留。",
    _schema(name="string", version="integer"),
)
CORRECTION_MADE = EntryKind(
    "fuse.correction-made",
    "Readings were corrected by a rule; the originals stay.",
    "按规则修正了读数，原值保留。",
    _schema(
        id="string", kind="string", source="string", signal="string", start="string", end="string", rule="string",
        version="integer", value="object",
    ),
)  # fmt: skip
FINDING_MADE = EntryKind(
    "fuse.finding-made",
    "Trouble was found in the data.",
    "在数据中发现问题。",
    _schema(id="string", kind="string", source="string", signal="string", start="string", end="string"),
)
LIMITS_SET = EntryKind(
    "fuse.limits-set",
    "Limits that a signal's quality is held against were stated.",
    "设定了信号质量的限值。",
    _schema(signal="integer", version="integer", limits="object"),
)
SUGGESTION_DECIDED = EntryKind(
    "fuse.suggestion-decided",
    "A person confirmed or rejected a suggested mapping.",
    "有人确认或拒绝了建议的映射。",
    _schema(id="string", state="string", signal="integer", target="string"),
)
PARTS_MATCHED = EntryKind(
    "fuse.parts-matched",
    "Names of parts were reconciled by rules.",
    "按规则将零件的不同名称归为同一零件。",
    _schema(report="string", parts="integer", digest="string"),
)
ENTRY_KINDS = (
    CORRECTION_MADE,
    FINDING_MADE,
    LIMITS_SET,
    MAPPING_REMOVED,
    MAPPING_SET,
    PARTS_MATCHED,
    SIGNALS_ADDED,
    SUGGESTION_DECIDED,
)
"""All kinds of this room."""
