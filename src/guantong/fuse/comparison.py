"""Two companies' measurements of the same parts side by side: which values are of one feature, what stays alone, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guantong.fuse.model import Characteristic, CharacteristicMatch, Part
from guantong.fuse.rules import Rows, characteristics, declared_alike, match_characteristics, match_parts, pair_designs

__all__ = ["Comparison", "Pair", "Unmatched", "compare", "natural"]

Row = Mapping[str, Any]
"""A row of the measurement schema."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One feature of one part, as each of the two companies measured it."""

    part: str
    """Id of the part."""
    left: Row
    right: Row
    rule: str
    """Id of the rule that says the two measure the same (``guantong.fuse.parts.RULES``)."""
    confidence: float


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A characteristic that only one company measures, or whose counterpart can't be told."""

    side: Literal["left", "right"]
    model: str
    characteristic: Characteristic
    alike: tuple[int, int]
    """How many characteristics of this kind and nominal this side and the other side have (0: the other has none)."""

    @property
    def reason(self) -> tuple[str, str]:
        """Why it stays alone, in English and Chinese."""
        mine, theirs = self.alike
        if theirs == 0:
            return ("the other side has none of this kind and nominal", "对方没有该类型、该名义值的特性")
        return (
            f"{mine} here and {theirs} there are of this kind and nominal: which is which can't be told",
            f"该类型、该名义值的特性本方 {mine} 个、对方 {theirs} 个，无法分清对应关系",
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What :func:`compare` answers."""

    parts: tuple[Part, ...]
    """Parts that both sides measured, with their names and the rules that joined them."""
    characteristics: tuple[CharacteristicMatch, ...]
    pairs: tuple[Pair, ...]
    """By part, in the order of the left report."""
    unmatched: tuple[Unmatched, ...]
    left_only: tuple[str, ...]
    """Results (``report#result``) whose part only the left side has."""
    right_only: tuple[str, ...]


def compare(left: Rows, right: Rows, *, left_origin: str = "left", right_origin: str = "right") -> Comparison:
    """Put two companies' measurements side by side by the rules of parts and characteristics."""
    matches = match_parts(left, right, left_origin=left_origin, right_origin=right_origin)
    found = match_characteristics(left, right, matches)
    ours, theirs = _by_result(left), _by_result(right)
    design = {part.id: part.design for part in matches.parts}
    pairs = [
        Pair(match.part, mine, other, one.rule, one.confidence)
        for match in matches.matches
        for one in found
        if one.design == design[match.part]  # ids are the report's own: another design has the same ones
        and (mine := ours.get(match.left, {}).get(one.left.id)) is not None
        and (other := theirs.get(match.right, {}).get(one.right.id)) is not None
    ]
    order = {part.id: number for number, part in enumerate(matches.parts)}
    pairs.sort(key=lambda pair: order[pair.part])
    return Comparison(
        matches.parts,
        tuple(found),
        tuple(pairs),
        tuple(_alone(left, right, found)),
        matches.left_only,
        matches.right_only,
    )


def natural(text: str | None) -> tuple[tuple[int, int, str], ...]:
    """Sorts numbers in a text by value and words by letter: A2 before A10."""
    return tuple(
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", text or "") if piece
    )


def _by_result(rows: Rows) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(f"{row['report']}#{row['result']}", {})[f"{row['feature'] or ''}#{row['characteristic']}"] = (
            row
        )
    return found


def _alone(left: Rows, right: Rows, found: Sequence[CharacteristicMatch]) -> list[Unmatched]:
    ours, theirs = characteristics(left), characteristics(right)
    there = {design: other for design, (other, _) in pair_designs(ours, theirs).items()}
    back = {other: design for design, other in there.items()}
    matched = {(one.design, one.left.id) for one in found}, {(one.design, one.right.id) for one in found}
    alone: list[Unmatched] = []
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for side, mine, others, partner, taken in zip(
        sides, (ours, theirs), (theirs, ours), (there, back), matched, strict=True
    ):
        for model, list_ in mine.items():
            facing = others.get(partner.get(model, ""), [])
            design = min(model, partner.get(model, model), key=len)
            alone += [
                Unmatched(
                    side,
                    model,
                    one,
                    (
                        sum(declared_alike(one, other) for other in list_),
                        sum(declared_alike(one, other) for other in facing),
                    ),
                )
                for one in list_
                if (design, one.id) not in taken
            ]
    return alone
