"""States what the data cost, in a ledger of its own, and appraises what it is worth, with every factor traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.value.model import (
    ENTRY_KINDS,
    Appraisal,
    CostEntry,
    CostSheet,
    Factor,
    Meter,
    Meters,
    QualityFact,
    Range,
    Rate,
    Sensitivity,
    ValueSettings,
)

if TYPE_CHECKING:
    from guantong.value.service import Value

__all__ = [
    "ENTRY_KINDS",
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
    "Value",
    "ValueSettings",
]


def __getattr__(name: str) -> Any:
    if name == "Value":
        from guantong.value.service import Value

        return Value
    raise AttributeError(name)
