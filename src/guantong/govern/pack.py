"""Rule packs: data files under ``packs/``, loaded once. A rule without a verifier loads, but every output that uses it says so."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.govern.model import Rule

__all__ = ["PACKS", "Packs", "load_packs", "read_pack"]

PACKS = ("gbt-43697", "industrial-2020", "personal", "quality")
"""Shipped packs, by file name."""

_EVIDENCE = ("verified", "secondary", "memory", "measured", "inference")
_TEXTS = tuple(name for name in (item.name for item in fields(Rule)) if name not in ("pack", "when", "then"))


@dataclass(frozen=True, slots=True)
class Packs:
    """All loaded rules by ``pack/id``, in the order of the files."""

    rules: Mapping[str, Rule]

    def of(self, pack: str, prefix: str = "") -> list[Rule]:
        """Rules of a pack whose id starts with ``prefix``."""
        return [rule for rule in self.rules.values() if rule.pack == pack and rule.id.startswith(prefix)]

    def get(self, name: str) -> Rule:
        """The rule ``pack/id``; KeyError if there is none."""
        return self.rules[name]

    def digests(self) -> frozenset[str]:
        """Further digests that rules ask of the evidence log beside SHA-256: ``then = { digest = "sm3" }`` (GM/T, not a certified module)."""
        return frozenset(str(rule.then["digest"]) for rule in self.rules.values() if "digest" in rule.then)

    def unverified(self, refs: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the references whose rule no person has verified."""
        return tuple(ref for ref in refs if not self.rules[ref.rpartition("@")[0]].verified_by)


def read_pack(name: str, text: str) -> list[Rule]:
    """Rules of one pack file (TOML). Raises ConfigProblem ``govern.pack-broken`` naming the first fault."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem("govern.pack-broken", pack=name, reason=str(error)[:300]) from error
    rules: list[Rule] = []
    seen: set[str] = set()
    defaults = document.get("defaults", {})
    for row in document.get("rule", []):
        merged = {**defaults, **row}
        known: dict[str, Any] = {field: merged.get(field) for field in _TEXTS}
        missing = [field for field, value in known.items() if not isinstance(value, str)]
        if missing:
            raise ConfigProblem(
                "govern.pack-broken", pack=name, reason=f"{row.get('id')}: {', '.join(missing)} missing"
            )
        if known["evidence"] not in _EVIDENCE or known["id"] in seen:
            raise ConfigProblem("govern.pack-broken", pack=name, reason=f"{row['id']}: evidence mark or id")
        if bool(known["verified_by"]) != bool(known["verified_on"]):
            raise ConfigProblem(
                "govern.pack-broken", pack=name, reason=f"{row['id']}: verified_by and verified_on go together"
            )
        if merged.get("then", {}).get("digest", "sm3") != "sm3":
            raise ConfigProblem("govern.pack-broken", pack=name, reason=f"{row['id']}: the only further digest is sm3")
        seen.add(row["id"])
        rules.append(Rule(pack=name, when=merged.get("when", {}), then=merged.get("then", {}), **known))
    return rules


@cache
def load_packs() -> Packs:
    """The shipped packs."""
    folder = files("guantong.govern") / "packs"
    return Packs(
        {
            f"{name}/{rule.id}": rule
            for name in PACKS
            for rule in read_pack(name, (folder / f"{name}.toml").read_text("utf-8"))
        }
    )
