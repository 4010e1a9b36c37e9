"""The address space: what a server offers, and where a known signal is now.

A signal's identity is the namespace URI and the browse path. The index of a namespace and the NodeId may change with a restart or a
download to the controller; both are looked up again whenever a session is new. Where an interface names only a NodeId, that is used.

Source: OPC 10000-4, 5.9 (View services: Browse, TranslateBrowsePathsToNodeIds); OPC 10000-8, 5.6.4 (EUInformation).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any
from urllib.parse import unquote

from guantong.connect.model import Form, Property
from guantong.connect.opcua.rules import Profile, join_path, split_path, unece_code
from guantong.connect.opcua.stack import foreign, say, ua

__all__ = ["JSON_TYPES", "MAX_NODES", "browse", "build_info", "resolve"]

MAX_NODES = 20_000
_MAX_DEPTH = 20
_SERVER = 2253
_READ_AT_ONCE = 500

JSON_TYPES: Mapping[str, str] = {
    "Boolean": "boolean",
    "Double": "number",
    "Float": "number",
    "String": "string",
    "LocalizedText": "string",
    "DateTime": "string",
    "ExtensionObject": "object",
    **dict.fromkeys(("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64"), "integer"),
}


async def build_info(client: Any) -> dict[str, str]:
    """What the server says it is: manufacturer, product, version. A server that does not say is an empty mapping."""
    node = client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_BuildInfo))
    with contextlib.suppress(*foreign()):
        info = await node.read_value()
        if info is not None:
            return {
                "manufacturer": str(info.ManufacturerName or ""),
                "product": str(info.ProductName or ""),
                "version": str(info.SoftwareVersion or ""),
            }
    return {}


async def browse(client: Any, profile: Profile, *, limit: int = MAX_NODES) -> tuple[Property, ...]:
    """Variables below Objects, the server's own left out: key is namespace URI and browse path, with unit and type.

    Raises what asyncua raises; callers turn it into ours.
    """
    uris = await client.get_namespace_array()
    gate = asyncio.Semaphore(profile.browse_at_once)
    seen = {str(client.nodes.objects.nodeid)}
    level: list[tuple[Any, tuple[tuple[str, str], ...]]] = [(client.nodes.objects, ())]
    variables: list[tuple[Any, tuple[tuple[str, str], ...]]] = []
    properties: dict[str, list[Any]] = {}

    async def children(node: Any) -> list[Any]:
        async with gate:
            try:
                return list(await node.get_children_descriptions(refs=ua.ObjectIds.HierarchicalReferences))
            except ua.UaStatusCodeError:
                return []  # a branch that can't be looked into hides only itself

    depth = 0
    while level and len(variables) < limit and depth < _MAX_DEPTH:
        depth += 1
        answers = await asyncio.gather(*(children(node) for node, _ in level))
        following: list[tuple[Any, tuple[tuple[str, str], ...]]] = []
        for (node, path), references in zip(level, answers, strict=True):
            for reference in references:
                node_id = reference.NodeId
                if node_id.NamespaceIndex == 0 and node_id.Identifier == _SERVER:
                    continue
                if (
                    reference.ReferenceTypeId.Identifier == ua.ObjectIds.HasProperty
                    and not reference.ReferenceTypeId.NamespaceIndex
                ):
                    properties.setdefault(str(node.nodeid), []).append(reference)
                    continue
                key = str(node_id)
                if key in seen:
                    continue
                seen.add(key)
                name = reference.BrowseName
                uri = uris[name.NamespaceIndex] if name.NamespaceIndex < len(uris) else ""
                below = (*path, (uri, name.Name))
                if reference.NodeClass == ua.NodeClass.Variable and len(variables) < limit:
                    variables.append((reference, below))
                if reference.NodeClass in (ua.NodeClass.Object, ua.NodeClass.Variable):
                    following.append((client.get_node(node_id), below))
        level = following
    return await _described(client, variables, properties, uris)


async def _described(
    client: Any, variables: list[tuple[Any, Any]], properties: Mapping[str, list[Any]], uris: list[str]
) -> tuple[Property, ...]:
    ids = [reference.NodeId for reference, _ in variables]
    types = await _attribute(client, ids, ua.AttributeIds.DataType)
    ranks = await _attribute(client, ids, ua.AttributeIds.ValueRank)
    units: dict[str, Any] = {}
    wanted = [
        (str(node_id), one.NodeId)
        for node_id in ids
        for one in properties.get(str(node_id), ())
        if one.BrowseName.Name == "EngineeringUnits"
    ]
    for (owner, _), data in zip(
        wanted, await _attribute(client, [node for _, node in wanted], ua.AttributeIds.Value), strict=True
    ):
        units[owner] = data
    names = await _type_names(client, types)
    structures = [
        node
        for node, name, rank in zip(ids, names, ranks, strict=True)
        if name == "ExtensionObject" and rank in (None, -1)
    ]
    samples = dict(zip(map(str, structures), await _attribute(client, structures, ua.AttributeIds.Value), strict=True))
    found: list[Property] = []
    taken: set[str] = set()
    for (reference, path), name, rank in zip(variables, names, ranks, strict=True):
        node_id = reference.NodeId
        uri = uris[node_id.NamespaceIndex] if node_id.NamespaceIndex < len(uris) else ""
        plain = "/" + "/".join(element for _, element in path)
        key = f"nsu={uri};p={plain}"
        if key in taken:  # two nodes of one name below one parent: told apart by their id
            key = f"{key};{_identifier(node_id)}"
        taken.add(key)
        information: Any = units.get(str(node_id))
        code = unece_code(int(information.UnitId)) if hasattr(information, "UnitId") else None
        unit = (
            (information.DisplayName.Text or None)
            if hasattr(information, "DisplayName") and information.DisplayName
            else None
        )
        listed = rank is not None and rank != -1
        terms = {"path": plain, "type": name and (f"{name}[]" if listed else name), "unece": code}
        found.append(
            Property(
                key=key,
                type="array" if listed else JSON_TYPES.get(name or ""),
                title=reference.DisplayName.Text or reference.BrowseName.Name,
                unit=unit or code,
                observable=True,
                form=Form(
                    href=f"/?id=nsu={_escape(uri)};{_escape(_identifier(node_id))}",
                    terms=(("uav_browsePath", join_path(path, uri)),),
                ),
                properties=_members(samples.get(str(node_id))),
                terms=tuple(sorted((term, str(value)) for term, value in terms.items() if value)),
            )
        )
    return tuple(sorted(found, key=lambda item: item.key))


def _members(sample: Any) -> tuple[Property, ...]:
    """The scalar members of a structure: each becomes a column of its own."""
    if not is_dataclass(sample) or isinstance(sample, ua.ExtensionObject):
        return ()
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found = []
    for field in fields(sample):
        value = getattr(sample, field.name)
        kind = next((name for base, name in kinds.items() if isinstance(value, base)), None)
        if kind is None:
            return ()  # a structure within a structure stays whole, as JSON text
        found.append(Property(field.name, type=kind))
    return tuple(found)


async def _type_names(client: Any, types: list[Any]) -> list[str | None]:
    """Built-in type of each data type: by its own id, or by the built-in type it derives from (OPC 10000-6, 5.1.2)."""
    known: dict[str, str | None] = {}
    for data_type in types:
        key = str(data_type)
        if key in known or data_type is None:
            continue
        known[key] = None
        with contextlib.suppress(*foreign(), ValueError):
            if data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int) and data_type.Identifier <= 25:
                known[key] = ua.VariantType(data_type.Identifier).name
            else:
                from asyncua.common.ua_utils import data_type_to_variant_type

                known[key] = (await data_type_to_variant_type(client.get_node(data_type))).name
    return [known.get(str(data_type)) for data_type in types]


async def _attribute(client: Any, ids: list[Any], attribute: Any) -> list[Any]:
    """One attribute of many nodes; None where a node does not give it."""
    found: list[Any] = []
    for begin in range(0, len(ids), _READ_AT_ONCE):
        part = ids[begin : begin + _READ_AT_ONCE]
        for data in await client.uaclient.session.read_attributes(part, attribute):
            good = data.StatusCode is None or data.StatusCode.is_good()
            found.append(data.Value.Value if good and data.Value is not None else None)
    return found


async def resolve(
    client: Any, properties: Iterable[Property], profile: Profile
) -> tuple[dict[str, Any], dict[str, str]]:
    """The NodeId of each property now, by its key; and those that the server does not know, with the reason."""
    uris = list(await client.get_namespace_array())
    nodes: dict[str, Any] = {}
    bad: dict[str, str] = {}
    paths: list[tuple[Property, Any, Any]] = []
    for item in properties:
        href = unquote(item.form.href if item.form is not None else item.key)
        by_id, reason = _node_id(href, uris)
        own = item.key.removeprefix("nsu=").partition(";p=")[0] if item.key.startswith("nsu=") else ""
        text = dict(item.form.terms).get("uav_browsePath") if item.form is not None else None
        if text is None and ";p=" in item.key:
            text = item.key.partition(";p=")[2]
        path = None if text is None else _relative(split_path(text, own), uris)
        if path is not None:
            paths.append((item, path, by_id))
        elif by_id is not None and (text is None or not own):
            nodes[item.key] = by_id
        else:
            bad[item.key] = reason or "the server has no such namespace"
    for begin in range(0, len(paths), profile.items_per_call):
        part = paths[begin : begin + profile.items_per_call]
        results = await client.uaclient.session.translate_browsepaths_to_nodeids([path for _, path, _ in part])
        for (item, _, by_id), result in zip(part, results, strict=True):
            targets = [target.TargetId for target in result.Targets or []] if result.StatusCode.is_good() else []
            targets = [ua.NodeId(target.Identifier, target.NamespaceIndex) for target in targets]
            if by_id is not None and (by_id in targets or (not targets and not item.key.startswith("nsu="))):
                nodes[item.key] = by_id
            elif targets:
                nodes[item.key] = targets[0]
            else:  # a NodeId that now stands for something else must not be taken for it
                bad[item.key] = result.StatusCode.name
    return nodes, bad


def _relative(elements: list[tuple[str, str]], uris: list[str]) -> Any | None:
    """A BrowsePath from Objects, or None where a namespace is not there."""
    path = ua.BrowsePath()
    path.StartingNode = ua.NodeId(ua.ObjectIds.ObjectsFolder)
    for uri, name in elements:
        if uri not in uris:
            return None
        element = ua.RelativePathElement()
        element.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
        element.IsInverse = False
        element.IncludeSubtypes = True
        element.TargetName = ua.QualifiedName(name, uris.index(uri))
        path.RelativePath.Elements.append(element)
    return path if elements else None


def _node_id(href: str, uris: list[str]) -> tuple[Any | None, str | None]:
    """The NodeId that an href names, its namespace found by URI; or why there is none."""
    identifier = href.partition("id=")[2] or href
    if identifier.startswith("nsu="):
        uri, _, rest = identifier[4:].rpartition(";")
        if uri not in uris:
            return None, "the server has no such namespace"
        identifier = f"ns={uris.index(uri)};{rest}"
    try:
        return ua.NodeId.from_string(identifier), None
    except (ua.UaError, ValueError) as error:
        return None, say(error)


def _identifier(node_id: Any) -> str:
    """``s=Speed`` of ``ns=2;s=Speed``."""
    text: str = node_id.to_string()
    return text.partition(";")[2] if text.startswith("ns=") else text


def _escape(text: str) -> str:
    """AID 1.1: ``#`` and ``&`` are escaped in an href."""
    return text.replace("%", "%25").replace("#", "%23").replace("&", "%26")
