"""Identifiers: random ones for messages and processes, and the port through which tests make them predictable."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

__all__ = ["NewId", "Randomness", "new_uuid", "system_random"]

NewId = Callable[[], str]
"""Returns a new identifier at each call, unique in the world."""

Randomness = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""


def new_uuid() -> str:
    """A random UUID (RFC 9562 version 4) as ``urn:uuid:…``."""
    return uuid.uuid4().urn


def system_random(size: int) -> bytes:
    """``size`` bytes from the system's randomness."""
    return os.urandom(size)
