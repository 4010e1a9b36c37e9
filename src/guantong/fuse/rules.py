"""Pure decisions of fusion over measurement tables: which parts and which characteristics of two companies are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guantong.fuse.model import CharacteristicMatch, Matches

__all__ = ["match_characteristics", "match_parts"]

Rows = Sequence[Mapping[str, object]]
"""Rows of the measurement schema as dicts (``table.to_pylist()``)."""


def match_parts(left: Rows, right: Rows, *, left_origin: str = "left", right_origin: str = "right") -> Matches:
    """Parts that both tables measure."""
    raise NotImplementedError


def match_characteristics(left: Rows, right: Rows, matches: Matches) -> list[CharacteristicMatch]:
    """Characteristics that measure the same."""
    raise NotImplementedError
