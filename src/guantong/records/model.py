"""Frozen values that a step may carry beside state: messages for the outbox and edges of lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Edge", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message for the outbox. It leaves only after its step is durable.

    lane: messages of one lane go out in order (the partner's DID) · kind: which sender takes it (``exchange.dsp``) · key: repeated keys
    of a kind are queued once · payload: JSON for the sender · context: ids the person who looks at a stuck message needs.
    """

    lane: str
    kind: str
    key: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of lineage: ``target`` was made from ``source``. Ids are ``room:kind:id``, for example ``keep:batch:mill-01/17``."""

    source: str
    target: str
    relation: str
    """``derived``, ``corrected``, ``covers``, ``agreed``, ``delivered``, …"""
