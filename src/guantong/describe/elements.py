"""Building blocks of Asset Administration Shells as metamodel JSON, and the one gate through which every document is written.

Source: IDTA-01001 v3.1.2. Documents are built as JSON, parsed and fully verified by aas-core3.1, and stored as canonical bytes of what it
gives back, so that nothing that it does not know can slip in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guantong.base.canonical import canonical_bytes
from guantong.base.errors import ConfigProblem

__all__ = [
    "collection",
    "id_short",
    "items",
    "languages",
    "prop",
    "reference",
    "shell",
    "submodel",
    "unique",
    "verified_bytes",
]

Json = dict[str, Any]

_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9_]+")


def id_short(name: str, fallback: str = "item") -> str:
    """A name as an idShort: letters, digits and ``_``, a letter first, 2 to 128 characters (AASd-002)."""
    text = _NOT_ALLOWED.sub("_", name).strip("_") or fallback
    if not text[0].isalpha() or len(text) == 1:
        text = f"{fallback}_{text}"
    return text[:120].rstrip("_")


def unique(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it if it is taken (AASd-022, case is not told apart)."""
    candidate, number = name, 2
    while candidate.lower() in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate.lower())
    return candidate


def reference(*keys: tuple[str, str], external: bool = True) -> Json:
    """A Reference; external by default, else a model reference."""
    return {
        "type": "ExternalReference" if external else "ModelReference",
        "keys": [{"type": kind, "value": value} for kind, value in keys],
    }


def _meaning(semantic: str, supplemental: Sequence[str]) -> Json:
    body: Json = {}
    if semantic:
        body["semanticId"] = reference(("GlobalReference", semantic))
    if supplemental:
        body["supplementalSemanticIds"] = [reference(("GlobalReference", each)) for each in supplemental]
    return body


def prop(
    name: str, value: str | None, semantic: str = "", *, type: str = "xs:string", supplemental: Sequence[str] = ()
) -> Json:
    """A Property; ``value`` is its lexical form, None where the value is not known."""
    body: Json = {"modelType": "Property", "valueType": type, **_meaning(semantic, supplemental)}
    if name:
        body["idShort"] = name
    if value is not None:
        body["value"] = value
    return body


def languages(name: str, texts: Mapping[str, str], semantic: str = "", *, supplemental: Sequence[str] = ()) -> Json:
    """A MultiLanguageProperty; without texts it has no value."""
    body: Json = {"modelType": "MultiLanguageProperty", **_meaning(semantic, supplemental)}
    if name:
        body["idShort"] = name
    value = [{"language": language, "text": text[:1023]} for language, text in texts.items() if text]
    if value:
        body["value"] = value
    return body


def collection(name: str, elements: Iterable[Json], semantic: str = "", *, supplemental: Sequence[str] = ()) -> Json:
    """A SubmodelElementCollection; an empty one has no value."""
    body: Json = {"modelType": "SubmodelElementCollection", **_meaning(semantic, supplemental)}
    if name:
        body["idShort"] = name
    value = list(elements)
    if value:
        body["value"] = value
    return body


def items(name: str, elements: Iterable[Json], semantic: str = "", *, of: str = "SubmodelElementCollection") -> Json:
    """A SubmodelElementList of unnamed collections."""
    body: Json = {
        "modelType": "SubmodelElementList",
        "idShort": name,
        "typeValueListElement": of,
        **_meaning(semantic, ()),
    }
    value = list(elements)
    if value:
        body["value"] = value
    return body


def submodel(
    id: str,
    name: str,
    elements: Iterable[Json],
    semantic: str,
    *,
    version: tuple[str, str] = ("1", "0"),
    template: str = "",
    description: Mapping[str, str] | None = None,
) -> Json:
    """A Submodel instance."""
    administration: Json = {"version": version[0], "revision": version[1]}
    if template:
        administration["templateId"] = template
    body: Json = {
        "modelType": "Submodel",
        "id": id,
        "idShort": name,
        "kind": "Instance",
        "administration": administration,
        **_meaning(semantic, ()),
    }
    if description:
        body["description"] = [{"language": language, "text": text} for language, text in description.items()]
    value = list(elements)
    if value:
        body["submodelElements"] = value
    return body


def shell(
    id: str,
    name: str,
    asset: str,
    submodels: Iterable[str],
    *,
    type: str = "",
    specific: Mapping[str, str] | None = None,
    title: str = "",
) -> Json:
    """An AssetAdministrationShell of an asset instance, with model references to its submodels."""
    information: Json = {"assetKind": "Instance", "globalAssetId": asset}
    if type:
        information["assetType"] = type
    named = [{"name": key, "value": value} for key, value in (specific or {}).items() if value]
    if named:
        information["specificAssetIds"] = named
    body: Json = {
        "modelType": "AssetAdministrationShell",
        "id": id,
        "idShort": name,
        "assetInformation": information,
    }
    if title:
        body["displayName"] = [{"language": "en", "text": title[:128]}]
    references = [reference(("Submodel", each), external=False) for each in submodels]
    if references:
        body["submodels"] = references
    return body


def verified_bytes(document: Json) -> bytes:
    """Canonical bytes of a shell or submodel after parsing and verifying it against every constraint of the metamodel.

    Raises ConfigProblem ``describe.constraints`` with the first faults (at most five). Source: IDTA-01001 v3.1.2.
    """
    from aas_core3_1 import jsonization, verification

    identity = str(document.get("id", "–"))
    parse = (
        jsonization.submodel_from_jsonable
        if document.get("modelType") == "Submodel"
        else jsonization.asset_administration_shell_from_jsonable
    )
    try:
        value = parse(document)
    except jsonization.DeserializationException as error:
        raise ConfigProblem("describe.constraints", id=identity, reason=f"{error.path}: {error.cause}") from error
    faults = []
    for fault in verification.verify(value):
        faults.append(f"{fault.path}: {fault.cause}")
        if len(faults) == 5:
            break
    if faults:
        raise ConfigProblem("describe.constraints", id=identity, reason="; ".join(faults))
    return canonical_bytes(jsonization.to_jsonable(value))
