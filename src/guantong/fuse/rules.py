"""Pure decisions over measurement tables: which parts and which characteristics of two companies are the same, which tolerance was
declared for another feature.

Rows are dicts of the measurement schema (``table.to_pylist()``), clean or as they arrived. The rules themselves, with sentence and
confidence, stand in :data:`guantong.fuse.parts.RULES`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from guantong.fuse.model import Characteristic, CharacteristicMatch, Match, Matches, Part
from guantong.fuse.parts import RULES, Reading, join, read_name, same_design

__all__ = [
    "Misdeclared",
    "NegativeZone",
    "characteristics",
    "declared_alike",
    "find_misdeclared",
    "find_negative_zones",
    "match_characteristics",
    "match_parts",
    "pair_designs",
]

Rows = Sequence[Mapping[str, Any]]
"""Rows of the measurement schema."""

_KINDS = (
    "diameter",
    "radius",
    "distance",
    "flatness",
    "perpendicularity",
    "parallelism",
    "position",
    "angle",
    "roundness",
)
_NEAR = 0.1
"""Positions this near, mm, are one."""


def match_parts(left: Rows, right: Rows, *, left_origin: str = "left", right_origin: str = "right") -> Matches:
    """Parts that both tables measure.

    Two results are of one part if a rule makes the designs one and the serials (or, without a serial, the source URIs) read as the same
    number. Results whose name no rule reads, or whose part the other side lacks, come back by name. A design that fits two designs of
    the other side matches neither.
    """
    ours, theirs = _results(left), _results(right)
    designs = pair_designs({model for model, _, _ in ours.values()}, {model for model, _, _ in theirs.values()})
    by_number: dict[tuple[str, str], list[tuple[str, Reading]]] = defaultdict(list)
    for key, (model, serial, uri) in theirs.items():
        reading = read_name(serial, uri)
        if reading is not None:
            by_number[model, reading.number].append((key, reading))
    matches: list[Match] = []
    parts: dict[str, Part] = {}
    left_only: list[str] = []
    taken: set[str] = set()
    for key, (model, serial, uri) in ours.items():
        reading = read_name(serial, uri)
        other_model, design_rule = designs.get(model, ("", ""))
        found = by_number.get((other_model, reading.number), []) if reading is not None and design_rule else []
        if reading is None or not found:
            left_only.append(key)
            continue
        design = min(model, other_model, key=lambda name: (len(name), name))
        for other_key, other in found:
            part = join(
                design,
                reading.number,
                [(left_origin, reading.written), (right_origin, other.written)],
                [reading.rule, other.rule, design_rule],
            )
            old = parts.get(part.id)
            if old is not None:
                part = join(design, reading.number, [*old.names, *part.names], [*old.rules, *part.rules])
            parts[part.id] = part
            taken.add(other_key)
            matches.append(
                Match(
                    part.id,
                    key,
                    other_key,
                    reading.written,
                    other.written,
                    " ".join(sorted({reading.rule, other.rule, design_rule})),
                    part.confidence,
                )
            )
    ordered = sorted(parts.values(), key=lambda part: (part.design, int(part.serial)))
    return Matches(tuple(ordered), tuple(matches), tuple(left_only), tuple(key for key in theirs if key not in taken))


def _results(rows: Rows) -> dict[str, tuple[str, str | None, str | None]]:
    """(model, serial, source URI) of each result, by report and result."""
    found: dict[str, tuple[str, str | None, str | None]] = {}
    for row in rows:
        found.setdefault(f"{row['report']}#{row['result']}", (row["model"] or "", row["serial"], row["source_uri"]))
    return found


def pair_designs(left: Iterable[str], right: Iterable[str]) -> dict[str, tuple[str, str]]:
    """For each left design the right one and the rule, where there is exactly one on either side."""
    pairs = [(one, other, rule) for one in left for other in right if (rule := same_design(one, other))]
    return {
        one: (other, rule)
        for one, other, rule in pairs
        if sum(1 for pair in pairs if pair[0] == one) == 1 and sum(1 for pair in pairs if pair[1] == other) == 1
    }


def characteristics(rows: Rows) -> dict[str, list[Characteristic]]:
    """Characteristics by design, in the order of the report. The feature item is the identity; names repeat."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["model"] or "", f"{row['feature'] or ''}#{row['characteristic']}"].append(row)
    found: dict[str, list[Characteristic]] = defaultdict(list)
    for (model, id), list_ in groups.items():
        first = list_[0]
        values = [row["value_f64"] for row in list_ if row["value_f64"] is not None]
        place = (first["x"], first["y"], first["z"])
        found[model].append(
            Characteristic(
                id,
                first["name"],
                first["kind"],
                first["unit"] or "",
                first["nominal"],
                first["lower"],
                first["upper"],
                place if None not in place else None,
                float(median(values)) if values else None,
                len(list_),
            )
        )
    return dict(found)


def match_characteristics(left: Rows, right: Rows, matches: Matches | None = None) -> list[CharacteristicMatch]:
    """Characteristics that measure the same, each with its rule and confidence; what can't be matched is left out.

    With ``matches`` only results of matched parts are looked at. Whose report stands left makes no difference: where the rules tell
    more from one side than from the other, because one report says less, the fuller answer counts.
    """
    if matches is not None:
        ours, theirs = {one.left for one in matches.matches}, {one.right for one in matches.matches}
        left = [row for row in left if f"{row['report']}#{row['result']}" in ours]
        right = [row for row in right if f"{row['report']}#{row['result']}" in theirs]
    left_by, right_by = characteristics(left), characteristics(right)
    wrong = {id for rows in (left, right) for one in find_misdeclared(rows) for id in one.features}
    found: list[CharacteristicMatch] = []
    for design, (other, _) in pair_designs(left_by, right_by).items():
        found += _either_way(
            min(design, other, key=lambda name: (len(name), name)), left_by[design], right_by[other], wrong
        )
    return found


def _either_way(
    design: str, left: list[Characteristic], right: list[Characteristic], wrong: set[str]
) -> list[CharacteristicMatch]:
    """The fuller of both ways round, in the order of the left report; of equal ones that which begins with the lesser list."""
    forth = _Pairing(design, left, right, wrong).run()
    back = [
        CharacteristicMatch(one.design, one.right, one.left, one.rule, one.confidence)
        for one in _Pairing(design, right, left, wrong).run()
    ]

    def fullness(found: list[CharacteristicMatch]) -> tuple[int, float]:
        return len(found), round(sum(one.confidence for one in found), 6)

    if fullness(forth) == fullness(back):
        chosen = forth if repr(left) <= repr(right) else back
    else:
        chosen = max(forth, back, key=fullness)
    order = {one.id: number for number, one in enumerate(left)}
    return sorted(chosen, key=lambda match: order[match.left.id])


class _Pairing:
    """The characteristics of one design: rules are tried from the surest to the weakest; what is matched leaves."""

    def __init__(self, design: str, left: list[Characteristic], right: list[Characteristic], wrong: set[str]) -> None:
        self.design = design
        self.left = [one for one in left if one.id not in wrong]
        self.right = [one for one in right if one.id not in wrong]
        self.left_wrong = [one for one in left if one.id in wrong]
        self.right_wrong = [one for one in right if one.id in wrong]
        self.found: list[CharacteristicMatch] = []

    def run(self) -> list[CharacteristicMatch]:
        """All matches."""
        self._by_position()
        self._by_key(1, "characteristic.only-one")
        self._near()
        self._declared_otherwise(self.left, self.right_wrong, swapped=False)
        self._declared_otherwise(self.right, self.left_wrong, swapped=True)
        self._by_key(None, "characteristic.alike")
        self._measured_alike()
        return self.found

    def _take(self, left: Characteristic, right: Characteristic, rule: str, among: int = 1) -> None:
        confidence = 1.0 / among if rule == "characteristic.alike" else RULES[rule].confidence / among
        self.found.append(CharacteristicMatch(self.design, left, right, rule, round(confidence, 4)))
        for list_ in (self.left, self.left_wrong):
            if left in list_:
                list_.remove(left)
        for list_ in (self.right, self.right_wrong):
            if right in list_:
                list_.remove(right)

    def _by_position(self) -> None:
        for one in [one for one in self.left if one.position]:
            near = [
                other
                for other in self.right
                if other.position and _key(other) == _key(one) and _apart(one, other) <= _NEAR
            ]
            if len(near) == 1:
                self._take(one, near[0], "characteristic.position")

    def _by_key(self, size: int | None, rule: str) -> None:
        left, right = _grouped(self.left, _key), _grouped(self.right, _key)
        for key, ours in left.items():
            theirs = right.get(key, [])
            if len(ours) == len(theirs) and (size is None or len(ours) == size):
                for one, other in zip(ours, theirs, strict=True):
                    self._take(one, other, rule, len(ours))

    def _near(self) -> None:
        def close(one: Characteristic, other: Characteristic) -> bool:
            if one.nominal is None or other.nominal is None or _kind(one) != _kind(other):
                return False
            width = min(_width(one), _width(other))
            return abs(one.nominal - other.nominal) < 0.1 * width

        for one in list(self.left):
            theirs = [other for other in self.right if close(one, other)]
            if len(theirs) == 1 and sum(1 for mine in self.left if close(mine, theirs[0])) == 1:
                self._take(one, theirs[0], "characteristic.near-nominal")

    def _declared_otherwise(
        self, right_ones: list[Characteristic], wrong: list[Characteristic], *, swapped: bool
    ) -> None:
        for key, group in _grouped(right_ones, _key).items():
            if not isinstance(key, tuple) or group[0].nominal is None:
                continue
            fitting = [
                other
                for other in wrong
                if _kind(other) == _kind(group[0])
                and other.median is not None
                and group[0].lower is not None
                and group[0].upper is not None
                and group[0].lower <= other.median <= group[0].upper
            ]
            if len(fitting) == len(group):
                for one, other in zip(group, fitting, strict=True):
                    pair = (other, one) if swapped else (one, other)
                    self._take(*pair, "characteristic.declared-otherwise", len(group))

    def _measured_alike(self) -> None:
        for key, ours in _grouped(self.left, _key).items():
            groups = _grouped(
                [one for one in self.right if _key(one) == key], lambda one: one.id.rpartition("#")[2]
            ).values()
            theirs = [group for group in groups if len(group) == len(ours)]
            level = _level(ours)
            if level is None or not theirs or any(_level(group) is None for group in theirs):
                continue
            ranked = sorted(theirs, key=lambda group: abs((_level(group) or 0.0) - level))
            first = abs((_level(ranked[0]) or 0.0) - level)
            if len(ranked) == 1 or first <= 0.5 * abs((_level(ranked[1]) or 0.0) - level):
                for one, other in zip(ours, ranked[0], strict=True):
                    self._take(one, other, "characteristic.measured-alike", len(ours))


def _grouped(
    list_: Iterable[Characteristic], key: Callable[[Characteristic], Hashable]
) -> dict[Hashable, list[Characteristic]]:
    groups: dict[Hashable, list[Characteristic]] = defaultdict(list)
    for one in list_:
        groups[key(one)].append(one)
    return groups


def _kind(one: Characteristic) -> str:
    """The kind that the name begins with, where it does: makers file a distance between planes under diameter."""
    match = re.match(r"[A-Za-z]+", one.name)
    word = match[0].lower() if match else ""
    return next((kind for kind in _KINDS if word.startswith(kind)), one.kind)


def _key(one: Characteristic) -> Hashable:
    """Kind and nominal; of a zone kind and width, whatever its sign."""
    if one.nominal is not None:
        return (_kind(one), round(one.nominal, 4))
    return (_kind(one), "zone", round(abs(one.upper), 4) if one.upper is not None else None)


def declared_alike(one: Characteristic, other: Characteristic) -> bool:
    """Whether both are of one kind and nominal (of a zone: kind and width)."""
    return _key(one) == _key(other)


def _width(one: Characteristic) -> float:
    return one.upper - one.lower if one.upper is not None and one.lower is not None else 0.0


def _apart(one: Characteristic, other: Characteristic) -> float:
    assert one.position is not None
    assert other.position is not None
    return max(abs(a - b) for a, b in zip(one.position, other.position, strict=True))


def _level(group: Sequence[Characteristic]) -> float | None:
    values = [one.median for one in group if one.median is not None]
    return float(median(values)) if values else None


def _count(flags: Iterable[bool]) -> int:
    return sum(1 for flag in flags if flag)


@dataclass(frozen=True, slots=True)
class Misdeclared:
    """Features whose every value contradicts the tolerance that their characteristic declares for them."""

    model: str
    name: str
    features: tuple[str, ...]
    """Ids as of :class:`Characteristic`."""
    unit: str
    nominal: float
    measured: float
    """Median of what was measured."""
    rows: int
    """Values that are out of tolerance for this reason and no other."""
    parts: int

    def facts(self) -> dict[str, Any]:
        """Facts of a finding."""
        return {
            "model": self.model,
            "features": list(self.features),
            "unit": self.unit,
            "nominal": self.nominal,
            "measured": self.measured,
            "max_rows": self.rows,
            "parts": self.parts,
        }


def find_misdeclared(rows: Rows) -> list[Misdeclared]:
    """Characteristics that give several features one tolerance which only some of them can have.

    A feature counts if it was measured on at least three parts, lies outside the limits on one side nine times in ten, by more than three
    half-widths of the tolerance, its middle half varies by less than one half-width, and another feature of the same characteristic
    meets it. Bad parts
    look otherwise: they scatter, and their neighbours are not perfect.
    """
    groups: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["feature"] and row["value_f64"] is not None and None not in (row["nominal"], row["lower"], row["upper"]):
            groups[row["model"] or "", row["characteristic"]][row["feature"]].append(row)
    found: list[Misdeclared] = []
    for (model, characteristic), features in groups.items():
        wrong: list[str] = []
        right = 0
        for feature, list_ in features.items():
            first = list_[0]
            half = (first["upper"] - first["lower"]) / 2
            values = sorted(row["value_f64"] for row in list_)
            size = len(values)
            away = abs(median(values) - first["nominal"])
            outside = max(
                _count(value > first["upper"] for value in values), _count(value < first["lower"] for value in values)
            )
            middle = values[(3 * size) // 4] - values[size // 4]
            if size >= 3 and half > 0 and outside >= 0.9 * size and away > 3 * half and middle < half:
                wrong.append(feature)
            elif first["lower"] <= median(values) <= first["upper"]:
                right += 1
        if not wrong or not right:
            continue
        mine = [
            row
            for feature in wrong
            for row in features[feature]
            if not row["lower"] <= row["value_f64"] <= row["upper"]
        ]
        found.append(
            Misdeclared(
                model,
                mine[0]["name"],
                tuple(f"{feature}#{characteristic}" for feature in wrong),
                mine[0]["unit"] or "",
                mine[0]["nominal"],
                float(median(row["value_f64"] for row in mine)),
                len(mine),
                len({(row["report"], row["result"]) for row in mine}),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class NegativeZone:
    """A characteristic of form or position whose tolerance zone is declared below zero: nothing can be judged by it."""

    model: str
    name: str
    unit: str
    zone: float
    parts: int

    def facts(self) -> dict[str, Any]:
        """Facts of a finding."""
        return {"model": self.model, "unit": self.unit, "zone": self.zone, "max_parts": self.parts}


def find_negative_zones(rows: Rows) -> list[NegativeZone]:
    """Zones declared negative, by design and characteristic, with the number of parts that carry each.

    A deviation of form is never negative (ISO 1101), so a value within such a zone does not exist.
    """
    groups: dict[tuple[str, str, str, str, float], set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if row["limit_form"] == "zone" and row["upper"] is not None and row["upper"] < 0:
            key = (row["model"] or "", row["characteristic"], row["name"], row["unit"] or "", row["upper"])
            groups[key].add((row["report"], row["result"]))
    return [NegativeZone(model, name, unit, zone, len(of)) for (model, _, name, unit, zone), of in groups.items()]
