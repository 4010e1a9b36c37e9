"""What a person does with interfaces beside adding and removing: descriptions in and out, secrets, webhooks, openness, replay.

Rows of :data:`guantong.web.actions.ACTIONS`.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from guantong.base.canonical import b64url
from guantong.base.errors import Skippable
from guantong.web.ask import Ask
from guantong.web.loaders.connect import openness_rows
from guantong.web.rooms import Rooms

__all__ = [
    "describe_source",
    "export_sources",
    "import_package",
    "keep_secret",
    "make_hook",
    "openness",
    "replay_source",
]


def _text(ask: Ask, name: str) -> str:
    given = ask.query.get(name, "")
    return given.strip() if isinstance(given, str) else ""


async def import_package(rooms: Rooms, path: Path) -> dict[str, Any]:
    """Every source of an AASX package or AID document."""
    found = await rooms.connect.import_interfaces(rooms.participant, path)
    return {
        "added": [
            {"name": one.name, "kind": one.kind, "address": one.base, "signals": len(one.properties)}
            for one in found.interfaces
        ],
        "unread": [{"name": name, "reason": reason} for name, reason in found.unread],
        "next": "/sources",
    }


async def describe_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Add a source by its interface, as JSON of the fields of AID 1.1."""
    from guantong.connect.written import interface_of

    interface = interface_of(_text(ask, "interface"))
    await rooms.connect.add(rooms.participant, interface)
    return {"name": interface.name, "kind": interface.kind, "signals": len(interface.properties), "next": "/sources"}


async def export_sources(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """An AASX with the interfaces of all sources, or of those named."""
    given: Any = ask.query.get("source", [])
    names = [given] if isinstance(given, str) and given else [str(one) for one in given or ()]
    return {
        "package": b64encode(rooms.connect.export_interfaces(rooms.participant, names)).decode("ascii"),
        "next": "/sources",
    }


async def keep_secret(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Keep user and password, or a token, for an address."""
    from guantong.connect.secrets import NAMES

    base = _text(ask, "url")
    rooms.connect.keep_secret(base, {name: _text(ask, name) for name in NAMES})
    return {"kept": base, "next": "/sources"}


async def make_hook(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """A webhook source and its token, which is shown this once."""
    from guantong.connect.model import Interface
    from guantong.connect.webhook import token_digest

    name = _text(ask, "name")
    if not name or "/" in name:
        raise Skippable("web.field-missing", field="name", reason="a name without / is wanted")
    token = b64url(rooms.records.random(32))
    interface = Interface(name, "webhook", f"webhook://{name}/", terms=(("token_sha256", token_digest(token)),))
    await rooms.connect.add(rooms.participant, interface)
    return {"name": name, "address": f"{rooms.base_url}/connect/hooks/{name}", "token": token, "next": "/sources"}


async def openness(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The openness register: a row for each source."""
    return {"sources": openness_rows(rooms)}


async def replay_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Read the files of a source again of which something was quarantined; fusion drops what it has."""
    name = _text(ask, "source")
    done = await rooms.connect.replay(rooms.participant, name)
    await rooms.fuse.drain(rooms.participant)
    return {
        "source": name,
        "files": [{"file": Path(one.path).name, "rows": one.rows, "quarantined": one.quarantined} for one in done],
        "next": "/sources",
    }
