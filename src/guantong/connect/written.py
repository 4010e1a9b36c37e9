"""Interfaces as people write them: TOML or JSON with the fields of AID 1.1, and lists of signals as CSV.

::

    name = "meter"
    kind = "modbus"
    base = "modbus+tcp://192.168.1.20:502/1/"
    interval_ms = "1000"

    [[signal]]
    key = "power"
    address = "40089?quantity=2"
    type = "xs:float"
    unit = "kW"

A list of signals has the columns key, address, type, unit, title, scale, offset, bit; only the first is needed.
"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from guantong.base.depth import too_deep
from guantong.base.errors import ConfigProblem, Skippable
from guantong.connect.model import OWN_TERMS, Form, Interface, Property

__all__ = ["interface_of", "signals_of"]

_OWN = ("scale", "offset", "bit", "path", "category")
_MODBUS = ("entity", "function", "mostSignificantByte", "mostSignificantWord", "zeroBasedAddressing")
_MAX = 4 * 1024 * 1024


def _bad(reason: str) -> Skippable:
    return Skippable("connect.interface-unreadable", reason=reason)


def interface_of(text: str) -> Interface:
    """The interface that a TOML or JSON text describes. Raises Skippable ``connect.interface-unreadable``, ConfigProblem."""
    if len(text) > _MAX:
        raise _bad("it is too long")
    if too_deep(text.encode()):
        raise _bad("it is nested too deeply")
    try:
        found = json.loads(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)[:200]) from error
    if "schemes" in found and "properties" in found:  # every field, as Interface.to_json writes it
        try:
            return Interface.from_json(found)
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(f"{type(error).__name__}: {error}") from error
    signals = found.pop("signal", [])
    fixed = {name: str(found.pop(name)) for name in ("name", "kind", "base", "title") if name in found}
    unknown = set(found) - set(OWN_TERMS)
    if unknown:
        raise _bad(f"unknown: {', '.join(sorted(unknown))}")
    if not {"name", "kind", "base"} <= set(fixed) or not isinstance(signals, list):
        raise _bad("name, kind and base are wanted, and signals as [[signal]]")
    terms = tuple(
        sorted((name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in found.items())
    )
    properties = tuple(_signal(one, fixed["kind"]) for one in signals)
    kind: Any = fixed["kind"]
    return Interface(
        fixed["name"], kind, fixed["base"], title=fixed.get("title", ""), terms=terms, properties=properties
    )


def signals_of(text: str, kind: str) -> tuple[Property, ...]:
    """Signals of a CSV list. Raises Skippable ``connect.interface-unreadable``."""
    try:
        rows: Iterable[Mapping[str, Any]] = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
    except csv.Error as error:
        raise _bad(str(error)) from error
    return tuple(_signal({name: value for name, value in row.items() if name and value}, kind) for row in rows)


def _signal(row: Any, kind: str) -> Property:
    if not isinstance(row, Mapping) or not row.get("key"):
        raise _bad("a signal without key")
    given = {str(name): str(value) for name, value in row.items()}
    terms = [("modv_" + name, given[name]) for name in _MODBUS if name in given]
    declared = given.get("type")
    if kind == "modbus" and declared:
        terms.append(("modv_type", declared))
    plain = declared if declared in ("number", "integer", "string", "boolean", "object", "array") else None
    try:
        return Property(
            given["key"],
            type=plain,
            title=given.get("title"),
            unit=given.get("unit"),
            form=Form(given.get("address", given["key"]), terms=tuple(sorted(terms))),
            terms=tuple(sorted(
                [(name, given[name]) for name in _OWN if name in given] + ([("type", declared)] if declared and not plain else [])
            )),
        )  # fmt: skip
    except ConfigProblem as error:
        raise _bad(error.message()) from error
