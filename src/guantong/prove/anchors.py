"""Anchors: one 32-byte root per log and interval handed to somebody outside both parties, never data.

Each kind is an :class:`guantong.prove.ports.Anchor`: a partner's witness (the default), an RFC 3161 time-stamp authority, or a contract
on a chain (``prove/evm.py``). What they hand back, a reference, is plain JSON; ``rules.check_anchor`` verifies it without network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guantong.base import timestamp
from guantong.base.canonical import b64
from guantong.base.clock import Clock
from guantong.base.errors import ConfigProblem, Retryable
from guantong.base.ids import Randomness, system_random
from guantong.base.note import Checkpoint, VerifierKey
from guantong.base.wire import Http
from guantong.prove import rules
from guantong.prove.model import Anchored, CheckpointView, ProveSettings
from guantong.prove.ports import Anchor

__all__ = ["TimestampAnchor", "WitnessAnchor", "chosen"]


def chosen(settings: ProveSettings, http: Http, clock: Clock) -> list[Anchor]:
    """The anchors that the settings name, beside the partners' witnesses. Raises ConfigProblem ``prove.anchor-setting``."""
    found: list[Anchor] = []
    if settings.timestamp_url:
        roots = _read("rfc3161", settings.timestamp_roots) if settings.timestamp_roots else b""
        try:
            found.append(TimestampAnchor(http, settings.timestamp_url, roots))
        except ValueError as error:
            raise ConfigProblem(
                "prove.anchor-setting", kind="rfc3161", reason="the certificates are no PEM file"
            ) from error
    if settings.evm_url:
        from guantong.prove.evm import EvmAnchor

        key = _read("evm", settings.evm_key_file).decode("ascii", "replace")
        found.append(EvmAnchor(http, clock, settings.evm_url, settings.evm_contract, key))
    return found


def _read(kind: str, name: str) -> bytes:
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise ConfigProblem("prove.anchor-setting", kind=kind, reason=f"{name or 'its file'} can't be read") from error


class WitnessAnchor:
    """A partner that cosigned a checkpoint of at least the size (C2SP tlog-cosignature)."""

    kind = "witness"

    def __init__(
        self,
        witnessed: Callable[[int], Awaitable[CheckpointView]],
        keys: Callable[[], Sequence[VerifierKey]],
        *,
        wait_s: float,
    ) -> None:
        self._witnessed = witnessed
        self._keys = keys
        self._wait_s = wait_s

    def trust_lines(self) -> list[str]:
        """Witnesses stand in the trust file by themselves."""
        return []

    async def submit(self, origin: str, size: int, root: bytes) -> Mapping[str, Any]:
        """Wait for a cosignature. Raises Retryable ``prove.anchor-later``."""
        try:
            async with asyncio.timeout(self._wait_s):
                view = await self._witnessed(size)
        except TimeoutError as error:
            raise Retryable("prove.anchor-later", kind=self.kind, reason="no witness has cosigned yet") from error
        return {"kind": self.kind, "note": view.note.decode()}

    async def verify(self, ref: Mapping[str, Any]) -> Anchored:
        """The time of the earliest cosignature of a witness known. Raises Refused."""
        return rules.check_witness_anchor(ref, self._keys())


class TimestampAnchor:
    """A time-stamp authority (RFC 3161 over HTTP, 3.4). What it stamps is the checkpoint's text: origin, size and root."""

    kind = "rfc3161"

    def __init__(
        self,
        http: Http,
        url: str,
        roots: bytes = b"",
        *,
        timeout_s: float = 30.0,
        random: Randomness = system_random,
    ) -> None:
        self._http = http
        self._url = url
        self._roots = timestamp.load_roots(roots) if roots else ()
        self._timeout_s = timeout_s
        self._random = random

    def trust_lines(self) -> list[str]:
        """The authority's certificates for a trust file."""
        return [f"authority {b64(timestamp.der_of(root))}" for root in self._roots]

    async def submit(self, origin: str, size: int, root: bytes) -> Mapping[str, Any]:
        """Have the checkpoint's text stamped. Raises Retryable ``prove.anchor-later`` and Refused ``base.timestamp-refused``."""
        text = Checkpoint(origin, size, root).text
        nonce = int.from_bytes(self._random(8), "big") >> 1
        answer = await self._http.request(
            "POST",
            self._url,
            body=timestamp.request(text.encode(), nonce),
            headers={"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"},
            timeout_s=self._timeout_s,
            max_bytes=timestamp.MAX_TOKEN_BYTES,
        )
        if answer.status != 200:
            raise Retryable("prove.anchor-later", kind=self.kind, reason=f"HTTP {answer.status}")
        timestamp.verify(answer.body, text.encode(), self._roots, nonce=nonce)
        return {"kind": self.kind, "text": text, "token": b64(answer.body)}

    async def verify(self, ref: Mapping[str, Any]) -> Anchored:
        """What the token says. Raises Skippable ``base.timestamp-malformed`` and Refused ``base.timestamp-refused``."""
        return rules.check_timestamp_anchor(ref, self._roots)
