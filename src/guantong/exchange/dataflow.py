"""The data flow of a data plane as one table, blind to how the data go.

Source: Data Plane Signaling 1.0, Data Flow State Machine and Data Flow API.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from guantong.base.errors import Refused

__all__ = ["START", "STATES", "TERMINAL", "TRANSITIONS", "next_state"]

START = "INITIALIZED"
STATES = (
    "INITIALIZED",
    "PREPARING",
    "PREPARED",
    "STARTING",
    "STARTED",
    "SUSPENDED",
    "COMPLETED",
    "TERMINATED",
)
TERMINAL = frozenset({"COMPLETED", "TERMINATED"})

_RUNNING = ("INITIALIZED", "PREPARING", "PREPARED", "STARTING", "STARTED", "SUSPENDED")

TRANSITIONS: Mapping[tuple[str, str, str], str] = MappingProxyType(
    {
        # (state, role, signal): state after; the signals in capitals are the plane's own
        ("INITIALIZED", "consumer", "prepare"): "PREPARED",
        ("INITIALIZED", "consumer", "prepare later"): "PREPARING",
        ("PREPARING", "consumer", "READY"): "PREPARED",
        ("PREPARED", "consumer", "started"): "STARTED",
        ("INITIALIZED", "provider", "start"): "STARTED",
        ("INITIALIZED", "provider", "start later"): "STARTING",
        ("STARTING", "provider", "READY"): "STARTED",
        **{("STARTED", role, "suspend"): "SUSPENDED" for role in ("consumer", "provider")},
        **{("SUSPENDED", role, "resume"): "STARTED" for role in ("consumer", "provider")},
        **{("STARTED", role, "completed"): "COMPLETED" for role in ("consumer", "provider")},
        **{("STARTED", role, "DONE"): "COMPLETED" for role in ("consumer", "provider")},
        **{(state, role, "terminate"): "TERMINATED" for state in _RUNNING for role in ("consumer", "provider")},
    }
)


def next_state(state: str, role: str, signal: str) -> str:
    """The state after a signal. Raises Refused ``exchange.transition-refused`` where the table has no such edge."""
    after = TRANSITIONS.get((state, role, signal))
    if after is None:
        raise Refused(
            "exchange.transition-refused", message=signal, sender="the control plane", state=f"{state} ({role})"
        )
    return after
