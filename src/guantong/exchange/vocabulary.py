"""The words a policy may be written with: rows in data files, one file a vocabulary, from which reading, enforcement, pages and docs work.

Each term is exactly one of three: compared with a fact at the places its row names, shown to both sides as a legal term, or refused by name.
Source: ODRL Vocabulary and Expression 2.2; catenax-eV/cx-odrl-profile, 2025/9.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

__all__ = ["PLACES", "Action", "Place", "Point", "Status", "Term", "Vocabulary", "action_of", "term_of", "vocabularies"]

Place = Literal["permission", "prohibition", "obligation"]
Point = Literal["catalogue", "agreement", "access", "after"]
Status = Literal["enforced", "legal", "refused"]

PLACES: tuple[Place, ...] = ("permission", "prohibition", "obligation")
POINTS: tuple[Point, ...] = ("catalogue", "agreement", "access", "after")
NAMES = ("odrl", "cx-policy-2025-9", "guantong", "gb")
"""The data files, in the order of the documents."""
VALUES = frozenset({"text", "whole", "instant", "duration", "days", "credential", "mode"})
SETS = frozenset({"did", "parties", "credentials", "bpns", "groups", "regions", "modes", "purposes"})
NUMBERS = frozenset({"now", "elapsed", "uses", "rows", "bytes", "floor"})


@dataclass(frozen=True, slots=True)
class Term:
    """A left operand: where it may stand, with which operators and values, and what becomes of it."""

    name: str
    """Short name, for people and for refusals."""
    left: str
    """How it is written in a policy: a bare ODRL name, or the IRI."""
    vocabulary: str
    status: Status
    places: tuple[Place, ...] = ()
    operators: tuple[str, ...] = ()
    value: str = "text"
    """Kind of the right operand."""
    fact: str = ""
    """The fact it is compared with; empty: none, it is legal."""
    test: str = ""
    """``le`` or ``ge`` where the operator alone does not say it."""
    at: tuple[Point, ...] = ()
    """Where it is compared."""
    en: str = ""
    """Plain words; ``{op}`` and ``{value}`` are filled in."""
    zh: str = ""
    not_en: str = ""
    """The same where the operator excludes."""
    not_zh: str = ""
    note_en: str = ""
    note_zh: str = ""
    tests: tuple[str, ...] = ()
    """Tests beyond those that every term of its status has."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action, with the sentence it makes as permission, prohibition and obligation."""

    name: str
    vocabulary: str
    places: tuple[Place, ...] = ()
    bare: tuple[Place, ...] = ()
    """Where it may stand without a constraint."""
    words: Mapping[Place, tuple[str, str]] | None = None
    todo: bool = False
    """A duty that somebody confirms when it is done."""
    note_en: str = ""
    note_zh: str = ""

    def says(self, place: Place) -> tuple[str, str]:
        """The sentence in English and Chinese."""
        return (self.words or {}).get(place, ("", ""))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One data file."""

    name: str
    namespace: str
    prefixes: tuple[str, ...]
    bare: bool
    """Whether its names stand for themselves, without a prefix."""
    en: str
    zh: str
    terms: Mapping[str, Term]
    actions: Mapping[str, Action]


@cache
def vocabularies() -> tuple[Vocabulary, ...]:
    """Every vocabulary, read once. Raises ValueError where a data file is not well made: that is our bug."""
    folder = files("guantong.exchange") / "vocabularies"
    return tuple(_vocabulary(name, tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))) for name in NAMES)


@cache
def _terms() -> Mapping[str, Term]:
    found: dict[str, Term] = {}
    for vocabulary in vocabularies():
        for term in vocabulary.terms.values():
            names = [vocabulary.namespace + term.name, *(f"{prefix}:{term.name}" for prefix in vocabulary.prefixes)]
            found.update(dict.fromkeys([*names, term.name] if vocabulary.bare else names, term))
    return found


@cache
def _actions() -> Mapping[str, Action]:
    found: dict[str, Action] = {}
    for vocabulary in vocabularies():
        for action in vocabulary.actions.values():
            names = [vocabulary.namespace + action.name, *(f"{prefix}:{action.name}" for prefix in vocabulary.prefixes)]
            for name in (*names, action.name):
                found.setdefault(name, action)
    return found


def term_of(left: str) -> Term | None:
    """The term that a left operand names, by bare ODRL name, prefixed name or IRI; None where no vocabulary here has it."""
    return _terms().get(left)


def action_of(name: str) -> Action | None:
    """The action of a name."""
    return _actions().get(name)


def _vocabulary(name: str, data: Mapping[str, Any]) -> Vocabulary:
    refused = data.get("refused", {})
    bare = bool(data["bare"])
    terms = {key: _term(name, data["namespace"], bare, key, row) for key, row in data["terms"].items()}
    for key in refused.get("terms", ()):
        terms[key] = Term(key, key if bare else data["namespace"] + key, name, "refused")
    actions = {key: _action(name, key, row) for key, row in data.get("actions", {}).items()}
    actions |= {key: Action(key, name) for key in refused.get("actions", ())}
    return Vocabulary(name, data["namespace"], tuple(data["prefixes"]), bare, data["en"], data["zh"], terms, actions)


def _term(vocabulary: str, namespace: str, bare: bool, name: str, row: Mapping[str, Any]) -> Term:
    fact, at = row.get("fact", ""), tuple(row.get("at", ()))
    well_made = (
        bool(fact) == bool(at)
        and (not fact or fact in SETS or fact in NUMBERS)
        and set(at) <= set(POINTS)
        and set(row["in"]) <= set(PLACES)
        and row["value"] in VALUES
    )
    if not well_made:
        raise ValueError(f"{vocabulary}.toml: {name} is not well made")
    return Term(
        name,
        name if bare else namespace + name,
        vocabulary,
        cast("Status", row.get("status", "enforced" if fact else "legal")),
        tuple(row["in"]),
        tuple(row["operators"]),
        row["value"],
        fact,
        row.get("test", ""),
        at,
        row["en"],
        row["zh"],
        row.get("not_en", ""),
        row.get("not_zh", ""),
        row.get("note_en", ""),
        row.get("note_zh", ""),
        tuple(row.get("tests", ())),
    )


def _action(vocabulary: str, name: str, row: Mapping[str, Any]) -> Action:
    places: tuple[Place, ...] = tuple(row["in"])
    words: dict[Place, tuple[str, str]] = {}
    for place, key in (("permission", ""), ("prohibition", "not_"), ("obligation", "duty_")):
        if f"{key}en" in row:
            words[cast("Place", place)] = (row[f"{key}en"], row[f"{key}zh"])
    return Action(
        name,
        vocabulary,
        places,
        tuple(row.get("bare_in", places)),
        words,
        bool(row.get("todo", False)),
        row.get("note_en", ""),
        row.get("note_zh", ""),
    )
