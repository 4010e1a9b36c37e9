"""Pure decisions of govern: class, grade, fusion, quality."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from guantong.govern.documents import (
    graded_from_json, graded_to_json, quality_from_json, quality_to_json, rights_from_json, rights_problems, rights_to_json,
)
from guantong.govern.model import Graded, Quality, QualityInputs, SubjectFacts
from guantong.govern.pack import Packs


def grade(subject: SubjectFacts, packs: Packs) -> Graded:
    raise NotImplementedError


def fuse_grades(id: str, members: Sequence[Graded], packs: Packs, *, elements: Mapping[str, object] | None = None) -> Graded:
    raise NotImplementedError


def score_quality(dataset_id: str, inputs: QualityInputs, packs: Packs) -> Quality:
    raise NotImplementedError
