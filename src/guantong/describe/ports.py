"""What later or other rooms give describe: the decision of access and the interface documents of the sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Decide", "Interfaces", "deny"]

Decide = Callable[[str, str, str, str], bool]
"""(participant, subject, action, object) → allowed. Objects are ``shell:<id>``, ``submodel:<id>`` and ``dataset:<id>``."""

Interfaces = Callable[[str], Sequence[Mapping[str, Any]]]
"""(participant) → the AssetInterfacesDescription of each source: ``{"source": name, "submodel": AID 1.1 as metamodel JSON}``."""


def deny(participant: str, subject: str, action: str, object: str) -> bool:
    """The decision while none is wired: no."""
    return False
