"""The transfer process as one table, blind to the side we are on.

Source: Dataspace Protocol 2025-1, Transfer Process Protocol, State Machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from guantong.base.errors import Refused

__all__ = ["START", "STATES", "TERMINAL", "TRANSITIONS", "next_state", "possible"]

START = ""
"""Before the first message."""

STATES = ("REQUESTED", "STARTED", "SUSPENDED", "COMPLETED", "TERMINATED")
TERMINAL = frozenset({"COMPLETED", "TERMINATED"})

TRANSITIONS: Mapping[tuple[str, str, str], str] = MappingProxyType(
    {
        # (state, sender, message): state after
        (START, "consumer", "request"): "REQUESTED",
        ("REQUESTED", "provider", "start"): "STARTED",
        ("REQUESTED", "consumer", "termination"): "TERMINATED",
        ("REQUESTED", "provider", "termination"): "TERMINATED",
        ("STARTED", "consumer", "completion"): "COMPLETED",
        ("STARTED", "provider", "completion"): "COMPLETED",
        ("STARTED", "consumer", "suspension"): "SUSPENDED",
        ("STARTED", "provider", "suspension"): "SUSPENDED",
        ("STARTED", "consumer", "termination"): "TERMINATED",
        ("STARTED", "provider", "termination"): "TERMINATED",
        ("SUSPENDED", "consumer", "start"): "STARTED",
        ("SUSPENDED", "provider", "start"): "STARTED",
        ("SUSPENDED", "consumer", "termination"): "TERMINATED",
        ("SUSPENDED", "provider", "termination"): "TERMINATED",
    }
)


def next_state(state: str, sender: str, message: str) -> str:
    """The state after a message. Raises Refused ``exchange.transition-refused`` where the table has no such edge."""
    after = TRANSITIONS.get((state, sender, message))
    if after is None:
        raise Refused("exchange.transition-refused", message=message, sender=sender, state=state or "none")
    return after


def possible(state: str, sender: str) -> tuple[str, ...]:
    """The messages a side may send in a state, in the order of the table."""
    return tuple(message for (at, side, message) in TRANSITIONS if at == state and side == sender)
