"""The contract negotiation as one table: from which state which message of which side leads where.

The table does not know which side we are; both sides face the same rules. Source: Dataspace Protocol 2025-1, Contract Negotiation
Protocol, State Machine (the figure limits who may terminate in a state; we keep to the figure).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from guantong.base.errors import Refused

__all__ = ["START", "STATES", "TERMINAL", "TRANSITIONS", "next_state", "possible"]

START = ""
"""Before the first message."""

STATES = ("REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED", "TERMINATED")
TERMINAL = frozenset({"FINALIZED", "TERMINATED"})

TRANSITIONS: Mapping[tuple[str, str, str], str] = MappingProxyType(
    {
        # (state, sender, message): state after
        (START, "consumer", "request"): "REQUESTED",
        (START, "provider", "offer"): "OFFERED",
        ("REQUESTED", "provider", "offer"): "OFFERED",
        ("REQUESTED", "provider", "agreement"): "AGREED",
        ("REQUESTED", "consumer", "termination"): "TERMINATED",
        ("REQUESTED", "provider", "termination"): "TERMINATED",
        ("OFFERED", "consumer", "request"): "REQUESTED",
        ("OFFERED", "consumer", "accepted"): "ACCEPTED",
        ("OFFERED", "consumer", "termination"): "TERMINATED",
        ("OFFERED", "provider", "termination"): "TERMINATED",
        ("ACCEPTED", "provider", "agreement"): "AGREED",
        ("ACCEPTED", "provider", "termination"): "TERMINATED",
        ("AGREED", "consumer", "verification"): "VERIFIED",
        ("AGREED", "consumer", "termination"): "TERMINATED",
        ("VERIFIED", "provider", "finalized"): "FINALIZED",
        ("VERIFIED", "provider", "termination"): "TERMINATED",
    }
)


def next_state(state: str, sender: str, message: str) -> str:
    """The state after a message. Raises Refused ``exchange.transition-refused`` where the table has no such edge."""
    after = TRANSITIONS.get((state, sender, message))
    if after is None:
        raise Refused("exchange.transition-refused", message=message, sender=sender, state=state or "none")
    return after


def possible(state: str, sender: str) -> tuple[str, ...]:
    """The messages a side may send in a state, in the order of the table: whose turn it is."""
    return tuple(message for (at, side, message) in TRANSITIONS if at == state and side == sender)
