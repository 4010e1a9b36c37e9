"""Govern's score and the appraisal's coefficient speak of the same quality."""

from guantong.govern.model import Quality
from guantong.value.metering import quality_of


def test_a_score_of_0_9_is_90_points() -> None:
    scored = Quality("d", 0.9, 0.8, {}, (), 10, 0, 1, "sha256:x", (), capped=False)

    found = quality_of(scored)

    assert found is not None
    assert (found.score, found.coverage) == (90.0, 0.8)
