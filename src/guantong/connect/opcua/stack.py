"""asyncua, imported in one place: untyped here, because its annotations do not cover what it exports."""

from __future__ import annotations

import asyncio
from typing import Any

from guantong.base.errors import ConfigProblem

try:
    import asyncua
    from asyncua.client.ua_session import SessionState as _SessionState
    from asyncua.crypto import security_policies as _policies
    from asyncua.crypto import uacrypto as _uacrypto
except ModuleNotFoundError as error:
    raise ConfigProblem("base.extra-missing", feature="OPC UA", extra="opcua") from error

__all__ = ["Client", "SessionState", "foreign", "policies", "say", "ua", "uacrypto"]

Client: Any = asyncua.Client  # type: ignore[attr-defined]
ua: Any = asyncua.ua
policies: Any = _policies
uacrypto: Any = _uacrypto
SessionState: Any = _SessionState


def foreign() -> tuple[type[BaseException], ...]:
    """What the stack raises when the other side, or the line, fails; it asserts where something else comes than it waits for."""
    return (ua.UaError, OSError, TimeoutError, asyncio.TimeoutError, ConnectionError, AssertionError)


def say(error: BaseException) -> str:
    """A foreign error in few words."""
    return (str(error) or type(error).__name__)[:200]
