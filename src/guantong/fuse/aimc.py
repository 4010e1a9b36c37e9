"""Mappings as documents: a submodel Asset Interfaces Mapping Configuration 2.0, in AAS JSON, both ways without loss.

Source: IDTA 02027-2-0; AAS JSON as in IDTA-01001-3-1. A mapping's transformations become the Blob ``Transformation`` (``text/plain``, Lua,
entry point ``aimc_main(sources)``). Lua is written, never run: reading accepts only what :func:`lua_of` writes, by comparing the text
with what the same transformations would give, and refuses anything else by name.

Where a reference points to a signal of ours, its last key holds source and native id in a spelling that is valid as an idShort.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from guantong.base.depth import too_deep
from guantong.base.errors import Skippable
from guantong.fuse.model import (
    Bits,
    Join,
    Key,
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

__all__ = [
    "SUBMODEL",
    "lua_of",
    "mapping_from_element",
    "mapping_to_element",
    "mappings_from_submodel",
    "mappings_to_submodel",
    "signal_of",
    "signal_reference",
]

_ROOT = "https://admin-shell.io/idta/AssetInterfacesMappingConfiguration"
SUBMODEL = f"{_ROOT}/2/0/Submodel"
"""semanticId of the submodel."""
_M = f"{_ROOT}/2/0/MappingConfiguration"
_LIST = f"{_ROOT}/1/0/MappingConfigurations"  # 2.0 kept the 1/0 id here
_INTERFACES = "urn:guantong:interfaces"
_HEAD = "-- guantong transformations: "
_SIZE = 65_536
_KINDS = ("number", "integer", "text")


def signal_reference(source: str, native_id: str) -> tuple[Key, ...]:
    """The ModelReference to a signal of one of our sources."""
    return (
        ("Submodel", _INTERFACES),
        ("SubmodelElementCollection", _spell(source)),
        ("Property", _spell(native_id)),
    )


def signal_of(reference: tuple[Key, ...]) -> tuple[str, str] | None:
    """(source, native id) of such a reference; None of any other."""
    if len(reference) != 3 or reference[0] != ("Submodel", _INTERFACES):
        return None
    try:
        return _unspell(reference[1][1]), _unspell(reference[2][1])
    except ValueError:
        return None


def _spell(text: str) -> str:
    return "s" + "".join(char if char.isascii() and char.isalnum() else f"_{ord(char):x}_" for char in text)


def _unspell(text: str) -> str:
    if not text.startswith("s"):
        raise ValueError(text)
    made = re.sub(r"_([0-9a-f]{1,6})_", lambda match: chr(int(match[1], 16)), text[1:])
    if _spell(made) != text:
        raise ValueError(text)
    return made


def _step_to_json(step: Transformation) -> list[Any]:
    if isinstance(step, Scale):
        return ["scale", step.factor]
    if isinstance(step, Offset):
        return ["offset", step.by]
    if isinstance(step, Unit):
        return ["unit", step.source, step.target]
    if isinstance(step, Bits):
        return ["bits", [list(one) for one in step.fields]]
    if isinstance(step, Split):
        return ["split", step.separator, list(step.kinds)]
    if isinstance(step, Join):
        return ["join", step.separator, step.kind]
    return ["lookup", [list(pair) for pair in step.pairs]]


def _step_from_json(value: Any) -> Transformation:
    match value:
        case ["scale", float() | int() as factor]:
            return Scale(float(factor))
        case ["offset", float() | int() as by]:
            return Offset(float(by))
        case ["unit", str() as source, str() as target]:
            return Unit(source, target)
        case ["lookup", [*pairs]] if all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
        ):
            return Lookup(tuple((pair[0], pair[1]) for pair in pairs))
        case ["bits", [*fields]] if all(
            isinstance(one, list) and list(map(type, one)) == [str, int, int] for one in fields
        ):
            return Bits(tuple((one[0], one[1], one[2]) for one in fields))
        case ["split", str() as separator, [*kinds]] if set(kinds) <= set(_KINDS):
            return Split(separator, tuple(kinds))
        case ["join", str() as separator, ("number" | "integer" | "text") as kind]:
            return Join(separator, kind)
    raise ValueError("not a transformation")


def lua_of(mapping: Mapping) -> str:
    """The Lua text of the mapping's transformations; its first line names them as JSON, the rest does them."""
    steps = json.dumps([_step_to_json(step) for step in mapping.transformations], ensure_ascii=True)
    first, *after = mapping.transformations
    lines = [_HEAD + steps, "function aimc_main(sources)"]
    if isinstance(first, Bits | Split | Join):
        if after:
            lines += ["  local function after(v)", "    if v == nil then return nil end"]
            lines += [f"  {line}" for step in after for line in _lua_step(step)]
            lines += ["    return v", "  end"]
        lines += _lua_structure(mapping, first, "after({})" if after else "{}")
    else:
        lines.append(f"  local v = sources[{_quote(mapping.sources[0].id)}]")
        lines += [line for step in mapping.transformations for line in _lua_step(step)]
        sinks = ", ".join(f"[{_quote(sink.id)}]=v" for sink in mapping.sinks)
        lines.append(f"  return {{{sinks}}}")
    return "\n".join([*lines, "end", ""])


def _lua_step(step: Transformation) -> list[str]:
    from guantong.base.units import convert

    if isinstance(step, Scale):
        return [f"  v = v * {step.factor!r}"]
    if isinstance(step, Offset):
        return [f"  v = v + {step.by!r}"]
    if isinstance(step, Unit):
        shift = convert(0.0, step.source, step.target)
        return [f"  v = v * {convert(1.0, step.source, step.target) - shift!r} + {shift!r}"]
    assert isinstance(step, Lookup)
    table = ", ".join(f"[{_quote(old)}]={_quote(new)}" for old, new in step.pairs)
    return [f"  local t = {{{table}}}", "  if t[v] ~= nil then v = t[v] end"]


_LUA_TYPED = {"text": "{}", "number": "tonumber({})", "integer": "math.tointeger(tonumber({}))"}


def _lua_structure(mapping: Mapping, step: Bits | Split | Join, after: str) -> list[str]:
    """Lua 5.3: operators on bits, math.tointeger, string.find with plain text."""
    if isinstance(step, Join):
        texts = [f"tostring(sources[{_quote(source.id)}])" for source in mapping.sources]
        value = _LUA_TYPED[step.kind].format("(" + f" .. {_quote(step.separator)} .. ".join(texts) + ")")
        nothing = " or ".join(f"sources[{_quote(source.id)}] == nil" for source in mapping.sources)
        sinks = ", ".join(f"[{_quote(sink.id)}]=v" for sink in mapping.sinks)
        return [f"  if {nothing} then return {{}} end", f"  local v = {after.format(value)}", f"  return {{{sinks}}}"]
    lines = [f"  local v = sources[{_quote(mapping.sources[0].id)}]", "  if v == nil then return {} end"]
    values = []
    if isinstance(step, Bits):
        lines.append("  v = math.tointeger(v)")
        lines.append("  if v == nil then return {} end")
        for _, first, width in step.fields:
            bits = f"((v >> {first}) & {(1 << width) - 1})"
            values.append(f"{bits} == 1" if width == 1 else bits)
    else:
        mark = _quote(step.separator)
        lines += [
            "  local p, at = {}, 1",
            "  while true do",
            f"    local from, to = string.find(v, {mark}, at, true)",
            "    p[#p + 1] = string.sub(v, at, from and from - 1)",
            "    if from == nil then break end",
            "    at = to + 1",
            "  end",
            f"  if #p ~= {len(step.kinds)} then return {{}} end",
        ]
        values = [_LUA_TYPED[kind].format(f"p[{place + 1}]") for place, kind in enumerate(step.kinds)]
    sinks = ", ".join(
        f"[{_quote(sink.id)}]={after.format(value)}" for sink, value in zip(mapping.sinks, values, strict=True)
    )
    return [*lines, f"  return {{{sinks}}}"]


def _quote(text: str) -> str:
    return (
        '"'
        + "".join(char if 32 <= ord(char) < 127 and char not in '"\\' else f"\\u{{{ord(char):x}}}" for char in text)
        + '"'
    )


def mapping_to_element(mapping: Mapping) -> dict[str, Any]:
    """One item of MappingConfigurations. Raises Skippable ``fuse.mapping-invalid``."""
    _check(mapping)
    value: list[dict[str, Any]] = []
    if mapping.default_polling_interval_s is not None:
        value.append(
            _number("DefaultPollingInterval", mapping.default_polling_interval_s, f"{_M}/DefaultPollingInterval")
        )
    if mapping.transformations:
        text = lua_of(mapping).encode()
        value.append(
            {
                "modelType": "Blob",
                "idShort": "Transformation",
                "semanticId": _semantic(f"{_M}/Transformation"),
                "contentType": "text/plain",
                "value": base64.b64encode(text).decode("ascii"),
            }
        )
    value.append(
        _list(
            "Sources",
            f"{_M}/Sources",
            [
                _collection(
                    f"{_M}/Sources/Source",
                    [
                        _reference("Source", source.reference),
                        *(
                            [_number("PollingInterval", source.polling_interval_s, "")]
                            if source.polling_interval_s is not None
                            else []
                        ),
                        _text("SourceId", source.id),
                    ],
                )
                for source in mapping.sources
            ],
        )
    )
    value.append(
        _list(
            "Sinks",
            f"{_M}/Sinks",
            [
                _collection(f"{_M}/Sinks/Sink", [_reference("Sink", sink.reference), _text("SinkId", sink.id)])
                for sink in mapping.sinks
            ],
        )
    )
    return {
        "modelType": "SubmodelElementCollection",
        "displayName": [{"language": "en", "text": mapping.name}],
        "semanticId": _semantic(_M),
        "value": value,
    }


def mapping_from_element(element: dict[str, Any]) -> Mapping:
    """The mapping of such an item. Raises Skippable ``fuse.mapping-invalid``: also where free Lua would have to be run."""
    try:
        parts = {part["idShort"]: part for part in element["value"]}
        default = parts.get("DefaultPollingInterval")
        name = (element.get("displayName") or [{"text": element.get("idShort") or "mapping"}])[0]["text"]
        sources = tuple(
            MapSource(inner["SourceId"]["value"], _keys(inner["Source"]), _seconds(inner.get("PollingInterval")))
            for inner in map(_inside, parts["Sources"]["value"])
        )
        sinks = tuple(
            MapSink(inner["SinkId"]["value"], _keys(inner["Sink"])) for inner in map(_inside, parts["Sinks"]["value"])
        )
        mapping = Mapping(name, sources, sinks, (), _seconds(default))
        blob = parts.get("Transformation")
        if blob is not None:
            text = base64.b64decode(blob["value"], validate=True).decode()
            head = text.split("\n", 1)[0]
            if len(text) > _SIZE or not head.startswith(_HEAD):
                raise Skippable(
                    "fuse.mapping-invalid", name=name, reason="free Lua is not run; use the named transformations"
                )
            if too_deep(head.encode()):
                raise Skippable("fuse.mapping-invalid", name=name, reason="its steps are nested too deeply")
            steps = tuple(_step_from_json(step) for step in json.loads(head.removeprefix(_HEAD)))
            mapping = Mapping(name, sources, sinks, steps, _seconds(default))
            _check(mapping)
            if lua_of(mapping) != text:
                raise Skippable(
                    "fuse.mapping-invalid",
                    name=name,
                    reason="the Lua text does something else than its first line says",
                )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, binascii.Error, RecursionError) as error:
        raise Skippable("fuse.mapping-invalid", name="", reason=f"{type(error).__name__}: {error}"[:200]) from error
    _check(mapping)
    return mapping


def mappings_to_submodel(id: str, mappings: Iterable[Mapping]) -> dict[str, Any]:
    """The submodel with all mappings. Raises Skippable ``fuse.mapping-invalid``."""
    return {
        "modelType": "Submodel",
        "id": id,
        "idShort": "AssetInterfacesMappingConfiguration",
        "semanticId": _semantic(SUBMODEL),
        "submodelElements": [_list("MappingConfigurations", _LIST, [mapping_to_element(one) for one in mappings])],
    }


def mappings_from_submodel(submodel: dict[str, Any]) -> list[Mapping]:
    """All mappings of such a submodel. Raises Skippable ``fuse.mapping-invalid``."""
    try:
        (items,) = [one for one in submodel["submodelElements"] if one["idShort"] == "MappingConfigurations"]
        elements = items.get("value", [])
    except (KeyError, TypeError, ValueError) as error:
        raise Skippable("fuse.mapping-invalid", name="", reason="no MappingConfigurations") from error
    return [mapping_from_element(element) for element in elements]


def _check(mapping: Mapping) -> None:
    problem = ""
    ids = [source.id for source in mapping.sources]
    sinks = [sink.id for sink in mapping.sinks]
    intervals = [mapping.default_polling_interval_s, *(source.polling_interval_s for source in mapping.sources)]
    if not 1 <= len(mapping.name) <= 128:
        problem = "a name has 1 to 128 characters"
    elif not ids or not sinks:
        problem = "at least one source and one sink are needed"
    elif len(set(ids)) != len(ids) or len(set(sinks)) != len(sinks):
        problem = "ids must be unique within sources and within sinks"
    elif any(value is not None and not (math.isfinite(value) and value > 0) for value in intervals):
        problem = "a polling interval is above zero"
    elif not all([*(one.reference for one in mapping.sources), *(one.reference for one in mapping.sinks)]):
        problem = "every source and sink needs a reference"
    elif not mapping.transformations and sorted(ids) != sorted(sinks):
        problem = "without a transformation sources and sinks are 1:1 with equal ids"
    else:
        problem = _wrong_order(mapping) or next(filter(None, map(_wrong_step, mapping.transformations)), "")
    if problem:
        raise Skippable("fuse.mapping-invalid", name=mapping.name[:60], reason=problem)


def _wrong_step(step: Transformation) -> str:
    """What is wrong with a step by itself. Raises what the conversion of units raises, with both codes named."""
    if isinstance(step, Unit):
        from guantong.base.units import convert

        convert(1.0, step.source, step.target)
    elif isinstance(step, Lookup):
        if len({old for old, _ in step.pairs}) != len(step.pairs):
            return "a lookup lists each value once"
    elif isinstance(step, Scale | Offset):
        if not math.isfinite(step.factor if isinstance(step, Scale) else step.by):
            return "factor and offset are finite"
    elif isinstance(step, Bits):
        if any(first < 0 or width < 1 or first + width > 63 for _, first, width in step.fields):
            return "bits lie within 0 to 62"
    elif len(step.separator) > 16 or (isinstance(step, Split) and not step.separator):
        return "a separator has 1 to 16 characters; that of a join may be empty"
    return ""


def _wrong_order(mapping: Mapping) -> str:
    """What is wrong with the steps together: their order, and whether sources, sinks and types fit."""
    if not mapping.transformations:
        return ""
    first, *after = mapping.transformations
    kinds: set[str] = set()
    if any(isinstance(step, Bits | Split | Join) for step in after):
        return "bits, split and join come first, and one of them"
    if isinstance(first, Join):
        kinds = {first.kind}
        if len(mapping.sources) < 2:
            return "a join takes two sources or more"
    elif len(mapping.sources) != 1:
        return "named transformations other than join take one source"
    if isinstance(first, Bits):
        kinds = {"bool" if width == 1 else "integer" for _, _, width in first.fields}
        if [name for name, _, _ in first.fields] != [sink.id for sink in mapping.sinks]:
            return "bits name each sink once, in the sinks' order"
    if isinstance(first, Split):
        kinds = set(first.kinds)
        if len(first.kinds) != len(mapping.sinks):
            return "a split has a kind for each sink"
    for step in after:
        if kinds and (kinds - {"text"} if isinstance(step, Lookup) else kinds & {"text", "bool"}):
            return "a lookup needs texts, and every other step numbers"
    return ""


def _semantic(value: str) -> dict[str, Any]:
    return {"type": "ExternalReference", "keys": [{"type": "GlobalReference", "value": value}]}


def _list(name: str, semantic: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "modelType": "SubmodelElementList",
        "idShort": name,
        "semanticId": _semantic(semantic),
        "typeValueListElement": "SubmodelElementCollection",
        "value": items,
    }


def _collection(semantic: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"modelType": "SubmodelElementCollection", "semanticId": _semantic(semantic), "value": items}


def _reference(name: str, keys: tuple[Key, ...]) -> dict[str, Any]:
    return {
        "modelType": "ReferenceElement",
        "idShort": name,
        "value": {"type": "ModelReference", "keys": [{"type": kind, "value": value} for kind, value in keys]},
    }


def _text(name: str, value: str) -> dict[str, Any]:
    return {"modelType": "Property", "idShort": name, "valueType": "xs:string", "value": value}


def _number(name: str, value: float, semantic: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "modelType": "Property",
        "idShort": name,
        "valueType": "xs:double",
        "value": repr(float(value)),
    }
    return {**made, "semanticId": _semantic(semantic)} if semantic else made


def _seconds(part: dict[str, Any] | None) -> float | None:
    return None if part is None else float(part["value"])


def _inside(item: dict[str, Any]) -> dict[str, Any]:
    return {part["idShort"]: part for part in item["value"]}


def _keys(part: dict[str, Any]) -> tuple[Key, ...]:
    return tuple((key["type"], key["value"]) for key in part["value"]["keys"])
