"""The device model of MTConnect (``Devices.xml``, the answer to ``probe``): what each signal is called, where it sits, its unit and type.

Source: MTConnect Part 2, Device Information Model. An agent hands values over in ``units``; an adapter (SHDR) writes them in
``nativeUnits``, and names them by the data item's ``name`` or, where it has none, its ``id``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guantong.base.errors import Skippable
from guantong.connect.document import local, parse_xml
from guantong.connect.model import Form, Property

__all__ = ["Device", "read_devices"]

_WHOLE_EVENTS = frozenset({"LINE", "LINE_NUMBER", "PART_COUNT", "BLOCK_COUNT", "CYCLE_COUNT", "ACTIVATION_COUNT"})
_OPEN_EVENTS = frozenset({"TOOL_NUMBER", "TOOL_OFFSET", "WORK_OFFSET", "USER", "MACHINE_AXIS_LOCK"})
_CONTAINERS = frozenset({"Components", "DataItems", "Devices"})


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its data items."""

    name: str
    uuid: str | None
    maker: str | None
    model: str | None
    serial: str | None
    items: tuple[Property, ...]
    """As the agent hands them over: key is the data item's id, unit its ``units``."""
    adapter_items: tuple[Property, ...]
    """As an adapter writes them: key is the name (or id), unit its ``nativeUnits``."""


def read_devices(data: bytes, *, name: str, limit: int) -> tuple[Device, ...]:
    """Devices of an MTConnectDevices document. Raises Skippable ``connect.document-unreadable``, Refused ``connect.document-hostile``."""
    root = parse_xml(data, name=name, limit=limit)
    if local(root) != "MTConnectDevices":
        raise Skippable("connect.document-unreadable", name=name, reason=f"{local(root)} instead of MTConnectDevices")
    return tuple(_device(element) for element in root.iter() if local(element) in ("Device", "Agent"))


def _device(element: Any) -> Device:
    description = next((child for child in element if local(child) == "Description"), None)
    said = description.attrib if description is not None else {}
    # a data item without id and name can't be told from another
    found = [(item, path) for item, path in _items(element, "") if item.get("id") or item.get("name")]
    name = element.get("name") or element.get("id") or ""
    return Device(
        name=name,
        uuid=element.get("uuid"),
        maker=said.get("manufacturer"),
        model=said.get("model"),
        serial=said.get("serialNumber"),
        items=tuple(_property(item, path, adapter=False) for item, path in found),
        adapter_items=tuple(_property(item, path, adapter=True) for item, path in found),
    )


def _items(element: Any, path: str) -> Iterator[tuple[Any, str]]:
    kind = local(element)
    if kind == "DataItem":
        yield element, path
        return
    if kind not in _CONTAINERS:
        path = f"{path}/{element.get('name') or element.get('id') or kind}".lstrip("/")
    for child in element:
        if kind in _CONTAINERS or local(child) in _CONTAINERS:
            yield from _items(child, path)


def _property(item: Any, path: str, *, adapter: bool) -> Property:
    category, kind = item.get("category", ""), item.get("type", "")
    name = item.get("name") or item.get("id", "")
    key = name if adapter else item.get("id") or name
    unit = (item.get("nativeUnits") or item.get("units")) if adapter else item.get("units")
    sub = item.get("subType")
    terms = {"category": category, "path": path, "type": f"{kind}:{sub}" if sub else kind}
    return Property(
        key=key,
        type=_json_type(category, kind, unit),
        title=name,
        unit=unit,
        observable=True,
        form=Form(href=key),
        terms=tuple(sorted((term, value) for term, value in terms.items() if value)),
    )


def _json_type(category: str, kind: str, unit: str | None) -> str | None:
    """JSON type of the values; None where the standard leaves it open and each value decides."""
    if category == "SAMPLE":
        return "array" if unit and unit.endswith("_3D") else "number"
    if category == "EVENT":
        if kind in _WHOLE_EVENTS:
            return "integer"
        if unit:
            return "number"
        return None if kind in _OPEN_EVENTS or ":" in kind else "string"
    return "string"
