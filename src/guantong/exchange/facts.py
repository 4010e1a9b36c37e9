"""What is known at a decision: who asks, what it has proven, when, and what was delivered before.

The same facts answer a policy compiled here (:meth:`Terms.refusal`) and its Cedar permit at govern's decision point. Only credentials of
issuers that are believed here reach them. Source: CX-0018, 2.4 (policy to credential); W3C Verifiable Credentials Data Model 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MODES", "Facts", "facts_of", "groups_of"]

MODES: Mapping[str, str] = {"HttpData-PULL": "pull", "HttpData-PUSH": "push", "AmazonS3-PUSH": "object-store"}
"""Formats of transfers and the mode of use each one is."""

_BPN = re.compile(r"BPN[LSA][A-Z0-9]{12}")
_USCC = re.compile(r"[0-9A-HJ-NPQRTUWXY]{18}")  # GB 32100-2015: 18 places, without I, O, S, V, Z
_REGIONS = ("region", "country", "addressCountry")
_GROUPS = ("groups", "memberOf")
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one decision. Sets are empty where nothing is proven."""

    did: str
    at: int
    """Nanoseconds since the epoch."""
    agreed_at: int | None = None
    """When the agreement was made; None while there is none."""
    uses: int = 0
    """Deliveries under the agreement so far."""
    rows: int = 0
    """Rows delivered under it so far."""
    bytes: int = 0
    """Bytes delivered under it so far."""
    floor: int = 1
    """Fewest records that one delivered row stands for; 1 for raw rows."""
    mode: str = ""
    """How the data would reach the consumer; empty where that is not asked yet."""
    purposes: frozenset[str] = _NONE
    """Purposes stated with this access."""
    credentials: frozenset[str] = _NONE
    """Types of credentials shown, each also with its version (``Type:1.0``)."""
    bpns: frozenset[str] = _NONE
    """Business partner numbers in them."""
    codes: frozenset[str] = _NONE
    """Unified social credit codes in them."""
    groups: frozenset[str] = _NONE
    """Groups it belongs to: by credential, or by this node's own settings."""
    regions: frozenset[str] = _NONE
    """Regions in them."""

    def members(self, fact: str) -> frozenset[str]:
        """A fact that is a set."""
        if fact == "did":
            return frozenset((self.did,))
        if fact == "parties":
            return self.bpns | self.codes | {self.did}
        if fact == "modes":
            return frozenset((self.mode,)) if self.mode else _NONE
        found: frozenset[str] = getattr(self, fact)
        return found

    def number(self, fact: str) -> int:
        """A fact that is a whole number; ``now`` and ``elapsed`` are nanoseconds."""
        if fact == "now":
            return self.at
        if fact == "elapsed":
            return 0 if self.agreed_at is None else self.at - self.agreed_at
        found: int = getattr(self, fact)
        return found

    def proven(self) -> tuple[frozenset[str], ...]:
        """What distinguishes callers beside their DID, for a cache."""
        return (self.credentials, self.bpns, self.codes, self.groups, self.regions)

    def context(self, needs: Iterable[str]) -> dict[str, Any]:
        """The facts that a policy needs, as Cedar's context. ``now`` is the decision point's own."""
        found: dict[str, Any] = {}
        for fact in needs:
            if fact == "elapsed":
                found["agreed"] = (self.at if self.agreed_at is None else self.agreed_at) // 1_000_000
            elif fact in ("uses", "rows", "bytes", "floor"):
                found[fact] = min(self.number(fact), 2**62)
            elif fact not in ("did", "now"):
                found[fact] = sorted(self.members(fact))
        return found


def groups_of(settings: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The groups of each DID, from lines ``group did did …``."""
    found: dict[str, set[str]] = {}
    for line in settings:
        group, *members = line.split()
        for member in members:
            found.setdefault(member, set()).add(group)
    return {member: frozenset(groups) for member, groups in found.items()}


def facts_of(
    did: str,
    at: int,
    claims: Mapping[str, Any] | None = None,
    groups: Mapping[str, frozenset[str]] | None = None,
) -> Facts:
    """The facts about a caller. ``claims``: with ``credentials`` as :meth:`Standing.claims` gives them, or without."""
    own = (groups or {}).get(did, _NONE)
    shown = (claims or {}).get("credentials")
    if not isinstance(shown, list) or not shown:
        return Facts(did, at, groups=own)
    types: set[str] = set()
    bpns: set[str] = set()
    codes: set[str] = set()
    regions: set[str] = set()
    member_of: set[str] = set(own)
    for one in (found for found in shown if isinstance(found, Mapping)):
        named = [name for name in one.get("types", ()) if isinstance(name, str)]
        types.update(named)
        subject = one.get("subject")
        for part in subject if isinstance(subject, list) else [subject]:
            if not isinstance(part, Mapping) or part.get("id", did) != did:
                continue
            version = part.get("contractVersion", part.get("version"))
            if isinstance(version, str):
                types.update(f"{name}:{version}" for name in named)
            bpns.update(text for text in _texts(part, ("holderIdentifier", "bpn")) if _BPN.fullmatch(text))
            codes.update(
                text for text in _texts(part, ("unifiedSocialCreditCode", "holderIdentifier")) if _USCC.fullmatch(text)
            )
            regions.update(_texts(part, _REGIONS))
            member_of.update(_texts(part, _GROUPS))
    return Facts(
        did,
        at,
        credentials=frozenset(types),
        bpns=frozenset(bpns),
        codes=frozenset(codes),
        groups=frozenset(member_of),
        regions=frozenset(regions),
    )


def _texts(subject: Mapping[str, Any], names: Iterable[str]) -> Iterable[str]:
    for name in names:
        value = subject.get(name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item:
                yield item
