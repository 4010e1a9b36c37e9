"""Reads the chain for availability, quality, energy and carbon, warns early, and tells how long supply lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.watch.model import (
    DAYS_OF_SUPPLY,
    ENTRY_KINDS,
    Availability,
    Carbon,
    Chart,
    EnergyFactor,
    Figure,
    Interval,
    Signalled,
    Supply,
    Survival,
    WatchSettings,
)

if TYPE_CHECKING:
    from guantong.watch.service import Watch

__all__ = [
    "DAYS_OF_SUPPLY",
    "ENTRY_KINDS",
    "Availability",
    "Carbon",
    "Chart",
    "EnergyFactor",
    "Figure",
    "Interval",
    "Signalled",
    "Supply",
    "Survival",
    "Watch",
    "WatchSettings",
]


def __getattr__(name: str) -> Any:
    if name == "Watch":
        from guantong.watch.service import Watch

        return Watch
    raise AttributeError(name)
