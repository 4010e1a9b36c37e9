"""idShort paths and the serialisation modifiers of the AAS API, over metamodel JSON.

Source: IDTA-01002 v3.1.2 (idShortPath; SerializationModifier), IDTA-01001 v3.1.2 (value-only and metadata formats).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from guantong.base.errors import Skippable

__all__ = ["Lexical", "children", "encode", "find", "metadata", "parse_path", "path_list", "put", "value_only", "walk"]

Json = dict[str, Any]

_STEP = re.compile(r"(?:^|\.)([a-zA-Z][a-zA-Z0-9_-]*)|\[(0|[1-9]\d{0,8})\]")
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DEPTH = 64

_MEMBERS = {
    "AnnotatedRelationshipElement": "annotations",
    "Entity": "statements",
    "Submodel": "submodelElements",
    "SubmodelElementCollection": "value",
    "SubmodelElementList": "value",
}
"""Where the members of a container are; these and only these are steps of a path."""

_NUMBERS = frozenset(
    "xs:" + name
    for name in (
        "byte", "decimal", "double", "float", "int", "integer", "long", "negativeInteger", "nonNegativeInteger",
        "nonPositiveInteger", "positiveInteger", "short", "unsignedByte", "unsignedInt", "unsignedLong", "unsignedShort",
    )
)  # fmt: skip


class Lexical(str):
    """The digits of a number, written into JSON as they are: no value is ever squeezed through float."""

    __slots__ = ()


def parse_path(path: str) -> list[str | int]:
    """Steps of an idShort path: text for a name, int for an index. The first is a name.

    >>> parse_path("Segments.Records[0][1].Time")
    ['Segments', 'Records', 0, 1, 'Time']

    Raises Skippable ``describe.bad-path``.
    """
    steps: list[str | int] = []
    place = 0
    while place < len(path) and not path.startswith("."):
        match = _STEP.match(path, place)
        if match is None or (match.start() == 0 and match.group(1) is None):
            raise Skippable("describe.bad-path", path=path[:100])
        steps.append(match.group(1) if match.group(1) is not None else int(match.group(2)))
        place = match.end()
    if not steps or len(steps) > _DEPTH:
        raise Skippable("describe.bad-path", path=path[:100])
    return steps


def children(element: Json) -> list[Json]:
    """Members of a container; none for a leaf."""
    member = _MEMBERS.get(element["modelType"])
    return element.get(member, []) if member else []


def find(submodel: Json, path: str) -> Json | None:
    """The element at the path, or None. Members of a list are reached by index only, all others by idShort only."""
    here = submodel
    for step in parse_path(path):
        members = children(here)
        is_list = here["modelType"] == "SubmodelElementList"
        if isinstance(step, int):
            if not is_list or step >= len(members):
                return None
            here = members[step]
        else:
            if is_list:
                return None
            found = next((member for member in members if member.get("idShort") == step), None)
            if found is None:
                return None
            here = found
    return here


def put(submodel: Json, path: str, value: str | None) -> None:
    """Set the value of the property at the path; an absent one is left alone."""
    element = find(submodel, path)
    if element is not None:
        if value is None:
            element.pop("value", None)
        else:
            element["value"] = value


def walk(container: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Every element below with its path, parents first."""
    is_list = container["modelType"] == "SubmodelElementList"
    for index, member in enumerate(children(container)):
        if is_list:
            path = f"{prefix}[{index}]"
        else:
            path = f"{prefix}.{member['idShort']}" if prefix else member["idShort"]
        yield path, member
        yield from walk(member, path)


def value_only(element: Json) -> Any:
    """The ``$value`` form: typed by valueType; members without a value are left out; the root is not named.

    Raises Skippable ``describe.bad-request`` for a Capability or Operation, which have none. Doubles that JSON can't write (NaN, INF) are
    text, as in their XML Schema form.
    """
    if element["modelType"] in ("Capability", "Operation"):
        raise Skippable("describe.bad-request", name="$value", reason=f"a {element['modelType']} has no value")
    value = _value(element)
    return None if value is _ABSENT else value


_ABSENT = object()


def _value(element: Json) -> Any:
    kind = element["modelType"]
    if kind == "Submodel" or kind == "SubmodelElementCollection":
        return dict(_named(children(element)))
    if kind == "SubmodelElementList":
        return [value for value in map(_value, children(element)) if value is not _ABSENT]
    if kind == "Property":
        return _typed(element["valueType"], element["value"]) if "value" in element else _ABSENT
    if kind == "MultiLanguageProperty":
        return [{text["language"]: text["text"]} for text in element["value"]] if "value" in element else _ABSENT
    if kind == "Range":
        return {end: _typed(element["valueType"], element[end]) for end in ("min", "max") if end in element}
    if kind in ("File", "Blob"):
        return {key: element[key] for key in ("contentType", "value") if key in element}
    if kind == "ReferenceElement":
        return element.get("value", _ABSENT)
    if kind in ("RelationshipElement", "AnnotatedRelationshipElement"):
        body: Json = {end: element[end] for end in ("first", "second") if end in element}
        if kind == "AnnotatedRelationshipElement":
            body["annotations"] = [{name: value} for name, value in _named(children(element))]
        return body
    if kind == "Entity":
        body = {"statements": dict(_named(children(element)))}
        return body | {
            key: element[key] for key in ("entityType", "globalAssetId", "specificAssetIds") if key in element
        }
    if kind == "BasicEventElement":
        return {"observed": element["observed"]} if "observed" in element else _ABSENT
    return _ABSENT


def _named(members: list[Json]) -> Iterator[tuple[str, Any]]:
    for member in members:
        value = _value(member)
        if value is not _ABSENT:
            yield member["idShort"], value


def _typed(kind: str, text: str) -> Any:
    if kind == "xs:boolean":
        return text in ("true", "1")
    if kind in _NUMBERS:
        if _JSON_NUMBER.fullmatch(text):
            return Lexical(text)
        try:
            number = Decimal(text)
        except InvalidOperation:
            return text
        return Lexical(format(number, "f")) if number.is_finite() else text
    return text


_DROPPED = {
    "Property": ("value", "valueId"),
    "MultiLanguageProperty": ("value", "valueId"),
    "Range": ("min", "max"),
    "File": ("value", "contentType"),
    "Blob": ("value", "contentType"),
    "ReferenceElement": ("value",),
    "RelationshipElement": ("first", "second"),
    "AnnotatedRelationshipElement": ("first", "second", "annotations"),
    "Entity": ("statements", "globalAssetId", "specificAssetIds"),
    "BasicEventElement": ("observed",),
    "SubmodelElementCollection": ("value",),
    "SubmodelElementList": ("value",),
    "Submodel": ("submodelElements",),
    "Operation": ("inputVariables", "outputVariables", "inoutputVariables"),
}
"""Fields that ``$metadata`` leaves out, by kind."""


def metadata(element: Json) -> Json:
    """The ``$metadata`` form: exactly the tabled fields are dropped."""
    dropped = _DROPPED.get(element["modelType"], ())
    return {key: value for key, value in element.items() if key not in dropped}


def path_list(element: Json, prefix: str) -> list[str]:
    """The ``$path`` form of an element: its own path, then those of everything below."""
    return ([prefix] if prefix else []) + [path for path, _ in walk(element, prefix)]


def encode(value: Any) -> bytes:
    """JSON bytes of a value-only form, numbers digit for digit."""
    return _encode(value).encode()


def _encode(value: Any) -> str:
    if isinstance(value, Lexical):
        return str(value)
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_encode(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_encode, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
