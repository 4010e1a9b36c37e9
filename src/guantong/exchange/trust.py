"""Whom a participant trusts, what it issues and what it asks of callers: the settings, and the spaces it is in.

Held in memory, since every request of a partner asks; ``space.py`` puts in what the records say.
"""

from __future__ import annotations

from dataclasses import dataclass

from guantong.exchange.model import ExchangeSettings

__all__ = ["Standards", "Trust"]


@dataclass(frozen=True, slots=True)
class Standards:
    """What the spaces of a participant add to its settings."""

    issued: tuple[str, ...] = ()
    """Types of credentials that it issues."""
    issuers: tuple[str, ...] = ()
    """Whose credentials it believes, as in the setting ``trusted-issuers``."""
    required: tuple[str, ...] = ()
    """Credentials that its callers must show."""


class Trust:
    """The answer for every hosted participant."""

    def __init__(self, settings: ExchangeSettings) -> None:
        self._own = Standards(settings.issued_credentials, settings.trusted_issuers, settings.required_credentials)
        self._of: dict[str, Standards] = {}

    def put(self, participant: str, added: Standards) -> None:
        """Let a participant's spaces count."""
        self._of[participant] = Standards(
            tuple(dict.fromkeys(self._own.issued + added.issued)),
            tuple(dict.fromkeys(self._own.issuers + added.issuers)),
            tuple(dict.fromkeys(self._own.required + added.required)),
        )

    def issued(self, participant: str) -> tuple[str, ...]:
        """Types of credentials that it issues; empty: it is no issuer."""
        return self._of.get(participant, self._own).issued

    def issuers(self, participant: str) -> tuple[str, ...]:
        """Whose credentials it believes: DIDs, each with a type where only one is believed."""
        return self._of.get(participant, self._own).issuers

    def required(self, participant: str) -> tuple[str, ...]:
        """Credentials that its callers must show; empty: none."""
        return self._of.get(participant, self._own).required
