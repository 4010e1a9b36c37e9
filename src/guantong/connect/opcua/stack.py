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


def _bounded_arrays() -> None:
    """An array of nulls has elements without bytes: four bytes of length would be taken at their word, up to 2^31 objects. It is refused,
    at whatever depth of a value it stands; elements of every other type take bytes, which run out.
    """
    binary: Any = asyncua.ua.ua_binary
    original = binary._create_uatype_array_deserializer

    def create(kind: Any) -> Any:
        if kind != ua.VariantType.Null:
            return original(kind)

        def nulls(data: Any) -> list[None] | None:
            length = binary.Primitives.Int32.unpack(data)
            if length > len(data):
                raise ua.UaError(f"an array of {length} nulls")
            return None if length < 0 else [None] * length

        return nulls

    binary._create_uatype_array_deserializer = create


_bounded_arrays()


def foreign() -> tuple[type[BaseException], ...]:
    """What the stack raises when the other side, or the line, fails; it asserts where something else comes than it waits for."""
    return (ua.UaError, OSError, TimeoutError, asyncio.TimeoutError, ConnectionError, AssertionError)


def say(error: BaseException) -> str:
    """A foreign error in few words."""
    return (str(error) or type(error).__name__)[:200]
