"""AASX packages (IDTA 01005-3-1): the interface descriptions in a supplier's package, and a package with our own.

A package is a stranger's ZIP archive: its entries, sizes and documents are bounded, nothing is unpacked to disk, XML has no DOCTYPE.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from guantong.base.errors import Skippable
from guantong.connect.aid import Described, from_aid, to_aid
from guantong.connect.document import local, parse_xml
from guantong.connect.model import Interface

__all__ = ["read_package", "read_submodels", "write_package"]

_ORIGIN = "http://admin-shell.io/aasx/relationships/aasx-origin"
_SPEC = "http://admin-shell.io/aasx/relationships/aas-spec"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_MAX_PARTS = 2_000
_NAMESPACE = "https://admin-shell.io/aas/3/1"
_AID = "AssetInterfacesDescription"


def _bad(reason: str) -> Skippable:
    return Skippable("connect.interface-unreadable", reason=reason)


def read_package(data: bytes, *, limit: int) -> Described:
    """The interfaces that a package (or a bare JSON document: environment or submodel) describes.

    Raises Skippable ``connect.interface-unreadable`` and ``connect.document-too-large``, Refused ``connect.document-hostile``.
    """
    found: list[Interface] = []
    unread: list[tuple[str, str]] = []
    submodels = 0
    for document in _documents(data, limit):
        for submodel in _submodels(document, _AID):
            submodels += 1
            described = from_aid(submodel)
            found += described.interfaces
            unread += described.unread
    if not submodels:
        raise _bad("it holds no Asset Interfaces Description")
    return Described(tuple(found), tuple(unread))


def read_submodels(data: bytes, kind: str, *, limit: int) -> list[Mapping[str, Any]]:
    """Submodels of a kind (its name in the template's semantic ids) in a package or bare JSON document, as AAS JSON. Raises as
    :func:`read_package`.
    """
    found = [submodel for document in _documents(data, limit) for submodel in _submodels(document, kind)]
    if not found:
        raise _bad(f"it holds no {kind}")
    return found


def _documents(data: bytes, limit: int) -> Iterator[Mapping[str, Any]]:
    if len(data) > limit:
        raise Skippable("connect.document-too-large", name="package", size=len(data), limit=limit)
    if data[:2] != b"PK":
        yield _json(data)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {info.filename.lstrip("/"): info for info in archive.infolist()}
            if len(parts) > _MAX_PARTS:
                raise _bad("too many parts")
            left = limit

            def part(name: str) -> bytes:
                nonlocal left
                info = parts.get(name)
                if info is None:
                    raise _bad(f"{name} is missing")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise _bad(f"{name} is compressed in another way than the conventions allow")
                if info.file_size > left:
                    raise Skippable("connect.document-too-large", name=name, size=info.file_size, limit=limit)
                with archive.open(info) as file:
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise Skippable("connect.document-too-large", name=name, size=len(content), limit=limit)
                return content

            for origin in _targets(part, parts, "", _ORIGIN):
                for spec in _targets(part, parts, origin, _SPEC):
                    content = part(spec)
                    yield (
                        _xml(content, spec, limit)
                        if content.lstrip()[:1] == b"<"
                        or (content[:3] == b"\xef\xbb\xbf" and content[3:].lstrip()[:1] == b"<")
                        else _json(content)
                    )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error) as error:
        raise _bad(f"the package: {str(error)[:150]}") from error


def _targets(part: Any, parts: Mapping[str, Any], source: str, kind: str) -> list[str]:
    folder, name = posixpath.split(source)
    relations = posixpath.join(folder, "_rels", f"{name}.rels")
    if relations not in parts:
        if not source:
            raise _bad("it is no package of the Open Packaging Conventions")
        return []
    root = parse_xml(part(relations), name=relations, limit=1_000_000)
    found = []
    for element in root:
        if isinstance(element.tag, str) and local(element) == "Relationship" and element.get("Type") == kind:
            target = posixpath.normpath(posixpath.join("/" + folder, str(element.get("Target") or "")))
            found.append(target.lstrip("/"))
    return found


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _bad(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _bad("not an object")
    return found


def _xml(data: bytes, name: str, limit: int) -> Mapping[str, Any]:
    parse_xml(data, name=name, limit=limit)  # bounded and without entities, before another parser sees it
    from aas_core3_1 import jsonization, xmlization

    text = data.decode("utf-8-sig", "replace").replace("https://admin-shell.io/aas/3/0", _NAMESPACE)
    try:
        return dict(jsonization.to_jsonable(xmlization.environment_from_str(text)))  # type: ignore[arg-type]
    except (xmlization.DeserializationException, ValueError) as error:
        raise _bad(f"{name}: {str(error)[:150]}") from error


def _submodels(document: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    candidates = [document] if document.get("modelType") == "Submodel" else document.get("submodels")
    for one in candidates if isinstance(candidates, list) else []:
        if not isinstance(one, Mapping):
            continue
        keys = (one.get("semanticId") or {}).get("keys") if isinstance(one.get("semanticId"), Mapping) else None
        named = any(f"/{kind}/" in str(key.get("value")) for key in keys or () if isinstance(key, Mapping))
        if named or one.get("idShort") == kind:
            yield one


def write_package(interfaces: Iterable[Interface], *, asset: str, more: Iterable[Mapping[str, Any]] = ()) -> bytes:
    """An AASX with one shell for ``asset``, the description of its interfaces, and ``more`` submodels as AAS JSON.

    The same input gives the same bytes.
    """
    submodels = [to_aid(interfaces, id=f"{asset}/submodels/AssetInterfacesDescription"), *more]
    environment = {
        "assetAdministrationShells": [
            {
                "modelType": "AssetAdministrationShell",
                "id": f"{asset}/aas",
                "assetInformation": {"assetKind": "Instance", "globalAssetId": asset},
                "submodels": [
                    {"type": "ModelReference", "keys": [{"type": "Submodel", "value": submodel["id"]}]}
                    for submodel in submodels
                ],
            }
        ],
        "submodels": submodels,
    }
    relation = '<Relationships xmlns="{}"><Relationship Type="{}" Target="{}" Id="r1"/></Relationships>'
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="json" ContentType="application/json"/>'
        '<Override PartName="/aasx/aasx-origin" ContentType="text/plain"/></Types>',
        "_rels/.rels": relation.format(_RELATIONS, _ORIGIN, "/aasx/aasx-origin"),
        "aasx/aasx-origin": "Intentionally empty.",
        "aasx/_rels/aasx-origin.rels": relation.format(_RELATIONS, _SPEC, "/aasx/data.json"),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("aasx/data.json"), orjson.dumps(environment), zipfile.ZIP_DEFLATED)
    return out.getvalue()
