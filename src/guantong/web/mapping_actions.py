"""What a person does with mappings beside deciding on suggestions: state, list, take away, in and out as AASX.

Rows of :data:`guantong.web.actions.ACTIONS`.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from guantong.web.ask import Ask
from guantong.web.rooms import Rooms

__all__ = ["export_mappings", "import_mappings", "list_mappings", "remove_mapping", "set_mappings"]

_KIND = "AssetInterfacesMappingConfiguration"
_LIMIT = 8 * 1024 * 1024


async def list_mappings(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The mappings in force, as they are written."""
    from guantong.fuse.written import written

    return {"mappings": [written(one) for one in await rooms.fuse.mappings(rooms.participant)]}


async def set_mappings(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Put the mappings of a TOML or JSON text in force; all of them are checked before the first is set."""
    from guantong.fuse.written import mappings_of

    found = mappings_of(str(ask.query.get("mapping") or ""))
    for one in found:
        await rooms.fuse.set_mapping(rooms.participant, one)
    return {"set": [one.name for one in found], "next": "/mappings"}


async def remove_mapping(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Take a mapping away; what it made stays."""
    name = str(ask.query.get("name") or "")
    await rooms.fuse.remove_mapping(rooms.participant, name)
    return {"removed": name, "next": "/mappings"}


async def export_mappings(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """An AASX with the interfaces of all sources (AID) and the mappings in force (AIMC)."""
    from guantong.fuse.aimc import mappings_to_submodel

    me = rooms.participant
    submodel = mappings_to_submodel(f"{me}/submodels/{_KIND}", await rooms.fuse.mappings(me))
    package = rooms.connect.export_interfaces(me, more=[submodel])
    return {"package": b64encode(package).decode("ascii"), "next": "/mappings"}


async def import_mappings(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Put the mappings of an AASX or AAS JSON file (AIMC) on the node's machine in force."""
    from guantong.connect.aasx import read_submodels
    from guantong.connect.files import read_bytes
    from guantong.fuse.aimc import mappings_from_submodel

    data = read_bytes(Path(str(ask.query.get("path") or "")), _LIMIT)
    found = [
        one for submodel in read_submodels(data, _KIND, limit=_LIMIT) for one in mappings_from_submodel(dict(submodel))
    ]
    for one in found:
        await rooms.fuse.set_mapping(rooms.participant, one)
    return {"set": [one.name for one in found], "next": "/mappings"}
