"""Govern (治): classify, grade and score data with reasons, state rights, and decide every access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.govern.model import (
    ENTRY_KINDS,
    LEVELS,
    Check,
    Decision,
    GovernSettings,
    Graded,
    Impact,
    LoggedDecision,
    Quality,
    QualityInputs,
    Reason,
    Request,
    Rights,
    Rule,
    SubjectFacts,
)

if TYPE_CHECKING:
    from guantong.govern.service import Govern

__all__ = [
    "ENTRY_KINDS",
    "LEVELS",
    "Check",
    "Decision",
    "Govern",
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


def __getattr__(name: str) -> Any:
    if name == "Govern":
        from guantong.govern.service import Govern

        return Govern
    raise AttributeError(name)
