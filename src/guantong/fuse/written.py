"""Mappings as people write them, in TOML or JSON, and back.

::

    [[mapping]]
    name = "press status"
    sources = ["press/status_word"]
    sinks = ["running", "fault", "mode"]
    steps = [{ bits = { running = 0, fault = 1, mode = [4, 3] } }]

A source is ``source/native id``. The steps, one key each: ``scale = 0.1``, ``offset = -40``, ``unit = ["[psi]", "bar"]``,
``lookup = { "1" = "AUTO" }``, ``bits = { sink = bit or [first bit, width] }``, ``split = { separator = " ", kinds = ["number", …] }``,
``join = { separator = " ", kind = "text" }``. Bits, split and join make the signals ``source/name#sink``; the other steps change the
source's values. ``polling_interval_s`` may be given too.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping as Facts
from typing import Any

from guantong.base.errors import Skippable
from guantong.fuse.aimc import mapping_to_element, signal_of, signal_reference
from guantong.fuse.model import (
    Bits,
    Join,
    Lookup,
    Mapping,
    MapSink,
    MapSource,
    Offset,
    Scale,
    Split,
    Transformation,
    Unit,
)

__all__ = ["mappings_of", "written"]

_MAX = 1024 * 1024
_SINKS = "https://guantong.org/mapping"
"""Submodel of sinks that are not a signal of ours: the name that the value has outside."""
_FIELDS = {"name", "sources", "sinks", "steps", "polling_interval_s"}


def _bad(name: str, reason: str) -> Skippable:
    return Skippable("fuse.mapping-invalid", name=name[:60], reason=reason[:200])


def mappings_of(text: str) -> list[Mapping]:
    """The mappings that a text holds, each checked. Raises Skippable ``fuse.mapping-invalid``."""
    if len(text) > _MAX:
        raise _bad("", "it is too long")
    try:
        found = json.loads(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad("", str(error)) from error
    listed = found.get("mapping", [found] if "name" in found else None)
    if not isinstance(listed, list) or not listed:
        raise _bad("", "[[mapping]] with name, sources, sinks and steps is expected")
    made = [_mapping(one) for one in listed]
    for one in made:
        mapping_to_element(one)  # every check
    return made


def _mapping(given: Any) -> Mapping:
    name = str(given.get("name", "")) if isinstance(given, Facts) else ""
    try:
        unknown = set(given) - _FIELDS
        if unknown:
            raise _bad(name, f"unknown: {', '.join(sorted(unknown))}")
        places = [_place(name, one) for one in given["sources"]]
        steps = tuple(_step(name, one) for one in given.get("steps", ()))
        sources = tuple(MapSource(native, signal_reference(source, native)) for source, native in places)
        structural = bool(steps) and isinstance(steps[0], Bits | Split | Join)
        sinks = tuple(
            _sink(str(one), name if structural else "", places[0][0])
            for one in given.get("sinks", [source.id for source in sources] if not steps else ["value"])
        )
        interval = given.get("polling_interval_s")
        return Mapping(name, sources, sinks, steps, None if interval is None else float(interval))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _bad(name, f"{type(error).__name__}: {error}") from error


def _place(name: str, given: Any) -> tuple[str, str]:
    source, separator, native = str(given).partition("/")
    if not source or not separator or not native:
        raise _bad(name, f"{given}: a source is written source/native id")
    return source, native


def _sink(id: str, mapping: str, source: str) -> MapSink:
    if mapping:
        return MapSink(id, signal_reference(source, f"{mapping}#{id}"))
    return MapSink(id, (("Submodel", _SINKS), ("Property", id)))


def _step(name: str, given: Any) -> Transformation:
    match given:
        case {"scale": int() | float() as factor, **rest} if not rest:
            return Scale(float(factor))
        case {"offset": int() | float() as by, **rest} if not rest:
            return Offset(float(by))
        case {"unit": [str() as source, str() as target], **rest} if not rest:
            return Unit(source, target)
        case {"lookup": {**pairs}, **rest} if not rest:
            return Lookup(tuple((str(old), str(new)) for old, new in pairs.items()))
        case {"bits": {**fields}, **rest} if not rest:
            return Bits(tuple(_field(name, sink, value) for sink, value in fields.items()))
        case {"split": {"separator": str() as separator, "kinds": [*kinds], **more}, **rest} if not rest and not more:
            if not set(kinds) <= {"number", "integer", "text"}:
                raise _bad(name, "kinds are number, integer and text")
            return Split(separator, tuple(kinds))
        case {"join": {"separator": str() as separator, **more}, **rest} if not rest and set(more) <= {"kind"}:
            kind = more.get("kind", "text")
            if kind not in ("number", "integer", "text"):
                raise _bad(name, "kinds are number, integer and text")
            return Join(separator, kind)
    raise _bad(name, f"no step: {json.dumps(given, ensure_ascii=False, default=str)}")


def _field(name: str, sink: Any, value: Any) -> tuple[str, int, int]:
    match value:
        case bool():
            pass
        case int() as bit:
            return str(sink), bit, 1
        case [int() as first, int() as width]:
            return str(sink), first, width
    raise _bad(name, f"{sink}: a bit, or [first bit, width], is expected")


def written(mapping: Mapping) -> dict[str, Any]:
    """The mapping as :func:`mappings_of` reads it; references that are not ours are given as their last key."""
    places = [signal_of(one.reference) for one in mapping.sources]
    found: dict[str, Any] = {
        "name": mapping.name,
        "sources": ["/".join(place) if place else one.reference[-1][1] for place, one in zip(places, mapping.sources, strict=True)],
        "sinks": [one.id for one in mapping.sinks],
        "steps": [_written_step(step) for step in mapping.transformations],
    }  # fmt: skip
    if mapping.default_polling_interval_s is not None:
        found["polling_interval_s"] = mapping.default_polling_interval_s
    return found


def _written_step(step: Transformation) -> dict[str, Any]:
    match step:
        case Scale(factor):
            return {"scale": factor}
        case Offset(by):
            return {"offset": by}
        case Unit(source, target):
            return {"unit": [source, target]}
        case Lookup(pairs):
            return {"lookup": dict(pairs)}
        case Bits(fields):
            return {"bits": {name: first if width == 1 else [first, width] for name, first, width in fields}}
        case Split(separator, kinds):
            return {"split": {"separator": separator, "kinds": list(kinds)}}
        case Join(separator, kind):
            return {"join": {"separator": separator, "kind": kind}}
