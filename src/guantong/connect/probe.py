"""What stands behind an address, and the interface it proposes. Nothing is written and nothing is kept open."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlunsplit

from guantong.base.clock import Clock, iso
from guantong.base.errors import ConfigProblem, Retryable
from guantong.base.wire import Http
from guantong.connect.columns import Readings
from guantong.connect.files import form_of, path_of
from guantong.connect.model import ConnectSettings, Form, Interface, Property, Proposal
from guantong.connect.rules import address_parts
from guantong.connect.secrets import Lookup, none

__all__ = ["probe"]

_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_SHDR_SECONDS = 2.0


async def probe(url: str, *, http: Http, clock: Clock, settings: ConnectSettings, secrets: Lookup = none) -> Proposal:
    """Look at an address: ``shdr://``, ``http(s)://`` (MTConnect agent, else JSON), ``opc.tcp://``, ``mqtt(s)://``, ``sparkplug(s)://``,
    ``modbus+tcp://``, a database's SQLAlchemy URL, ``file://`` or a path.

    Raises Retryable ``connect.unreachable`` and ``connect.agent-error``, ConfigProblem ``connect.address-unusable``,
    ``connect.file-unreadable``, ``connect.secret-in-address`` and ``base.extra-missing``.
    """
    scheme = address_parts(url).scheme.lower()
    now = iso(clock.now(), digits=0)
    if scheme == "shdr":
        return await _shdr(url, now, clock, settings)
    if scheme in ("http", "https"):
        return await _agent(url, now, http, settings)
    if scheme == "opc.tcp":
        return await _opcua(url, now, settings)
    if scheme in ("mqtt", "mqtts", "sparkplug", "sparkplugs"):
        return await _broker(url, now, clock, settings, secrets)
    if scheme == "modbus+tcp":
        return await _modbus(url, now, settings)
    if scheme.partition("+")[0] in ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql"):
        from guantong.connect.sql import look as look_sql

        interface = Interface(
            "database", "sql", url, created=now, terms=(("table", "orders"),)
        )  # refuses secrets first
        offers, facts = await look_sql(url, secrets)
        table = next(iter(facts["serves"]), offers[0].key if offers else "")
        name = _name(table or "database", "table")
        return Proposal(url, replace(interface, name=name, terms=(("table", table),)), offers, facts)
    if scheme in ("", "file") or (len(scheme) == 1 and scheme.isalpha()):
        return await asyncio.to_thread(_path, url, now, settings)
    raise ConfigProblem("connect.address-unusable", base=url[:200], reason=f"{scheme}:// is not read")


def _name(text: str, fallback: str) -> str:
    name = _NAME.sub("-", text).strip("-")
    if not name or not name[0].isalpha():
        name = f"{fallback}-{name}".strip("-")
    return name[:64]


async def _shdr(url: str, now: str, clock: Clock, settings: ConnectSettings) -> Proposal:
    from guantong.connect.shdr import ShdrParser
    from guantong.connect.shdr_tcp import address

    host, port = address(url)
    interface = Interface(_name(f"shdr-{host}-{port}", "shdr"), "shdr", url, title=f"{host}:{port}", created=now)
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), settings.connect_timeout_s)
    except (OSError, TimeoutError) as error:
        raise Retryable("connect.unreachable", base=url, reason=str(error) or "no answer") from error
    data = bytearray()
    try:
        writer.write(b"* PING\n")
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_SHDR_SECONDS):
                while len(data) < settings.line_bytes * 4 and (piece := await reader.read(65_536)):
                    data += piece
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    lines = data.decode("utf-8", "replace").split("\n")[:-1]
    commands = [line.strip() for line in lines if line.startswith("*")]
    rows = Readings()
    refused: list[str] = []
    plain = [line for line in lines if line and not line.startswith("*")]
    ShdrParser().feed(plain, [0] * len(plain), clock.now(), rows, lambda _, reason, __: refused.append(reason))
    offers: dict[str, Property] = {}
    for index, signal in enumerate(rows.signal):
        kind = "number" if rows.number[index] is not None or rows.whole[index] is not None else "string"
        offers.setdefault(signal, Property(signal, kind, title=signal, observable=True, form=Form(signal)))
    facts: dict[str, Any] = {"lines": len(plain), "refused": len(refused), "says": commands[:20]}
    facts["heartbeat"] = any("PONG" in command for command in commands)
    # the keys seen in two seconds are hardly all: the interface takes whatever comes
    return Proposal(url, interface, tuple(sorted(offers.values(), key=lambda item: item.key)), facts)


async def _agent(url: str, now: str, http: Http, settings: ConnectSettings) -> Proposal:
    from guantong.connect.mtconnect import agent_devices

    parts = address_parts(url)
    path = re.sub(r"/(probe|current|sample|asset[s]?)/?$", "/", parts.path or "/")
    base = urlunsplit((parts.scheme, parts.netloc, path if path.endswith("/") else path + "/", "", ""))
    interface = Interface("agent", "mtconnect", base, created=now, content_type="text/xml")  # refuses secrets first
    try:
        devices = await agent_devices(http, base, settings.document_bytes)
    except Retryable as error:
        if error.code == "connect.agent-error" and (found := await _json(url, now, http, settings)) is not None:
            return found
        raise
    if not devices:
        raise ConfigProblem("connect.address-unusable", base=base, reason="the agent has no device")
    title = ", ".join(device.name for device in devices)
    offers = tuple(item for device in devices for item in device.items)
    facts: dict[str, Any] = {
        "devices": [
            {
                "name": device.name,
                "uuid": device.uuid,
                "maker": device.maker,
                "model": device.model,
                "serial": device.serial,
            }
            for device in devices
        ]
    }
    name = _name(devices[0].name if len(devices) == 1 else f"agent-{parts.hostname}", "agent")
    return Proposal(base, replace(interface, name=name, title=title[:200], properties=offers), offers, facts)


async def _opcua(url: str, now: str, settings: ConnectSettings) -> Proposal:
    interface = Interface("opcua", "opcua", url, created=now)  # refuses secrets before anything is opened
    from guantong.connect.opcua import channel_of, look

    offers, facts = await look(url, settings.connect_timeout_s)
    host = address_parts(url).hostname or "opcua"
    name = _name(f"opcua-{host}-{address_parts(url).port or 4840}", "opcua")
    interface = replace(interface, name=name, title=str(facts.get("server") or host), properties=offers)
    channel = channel_of(facts["security"], facts["certificate"])
    if (
        channel is not None
    ):  # the server wants no open channel: what is proposed names its certificate, for a person to compare
        interface = replace(interface, security=(channel.name,), schemes=(channel,))
    return Proposal(url, interface, offers, facts)


_LISTEN_S = 3.0


async def _json(url: str, now: str, http: Http, settings: ConnectSettings) -> Proposal | None:
    """An address that answers with JSON, and its members as signals."""
    from guantong.connect.values import read_json

    answer = await http.request("GET", url, max_bytes=settings.message_bytes, zone="plant")
    value = read_json(answer.body) if answer.status == 200 else None
    if not isinstance(value, dict | list):
        return None
    parts = address_parts(url)
    interface = Interface(_name(parts.hostname or "http", "http"), "http", url, title=parts.netloc, created=now)
    members = value if isinstance(value, dict) else {}
    offers = tuple(Property(str(name), title=str(name), form=Form("")) for name in members if str(name))
    return Proposal(url, interface, offers, {"form": "JSON", "members": len(members)})


async def _broker(url: str, now: str, clock: Clock, settings: ConnectSettings, secrets: Lookup) -> Proposal:
    """What a broker says within three seconds: retained and live topics, or the edge nodes of Sparkplug."""
    from guantong.connect.mqtt import Broker
    from guantong.connect.sparkplug_host import topic_of

    kind = "sparkplug" if url.startswith("sparkplug") else "mqtt"
    host = address_parts(url).hostname or kind
    interface = Interface(_name(f"{kind}-{host}", kind), kind, url, title=host, created=now)  # type: ignore[arg-type]
    schemes = ("sparkplug", "sparkplugs") if kind == "sparkplug" else ("mqtt", "mqtts")
    broker = Broker(interface, settings, secrets, clock.now, client="", clean=True, schemes=schemes)
    topics: dict[str, int] = {}
    await broker.open()
    try:
        await broker.subscribe([("spBv1.0/#" if kind == "sparkplug" else "#", 0)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_S):
                while len(topics) < 5_000:
                    for message in await broker.take():
                        topics[message.topic] = topics.get(message.topic, 0) + 1
    finally:
        await broker.close()
    facts: dict[str, Any] = {"topics": len(topics), "messages": sum(topics.values())}
    if kind == "sparkplug":
        facts["edge_nodes"] = sorted({found.source for topic in topics if (found := topic_of(topic))})[:100]
        return Proposal(url, interface, (), facts)  # births name the signals once the source runs
    facts["sparkplug"] = any(topic.startswith("spBv1.0/") for topic in topics)
    offers = tuple(
        Property(topic, title=topic, observable=True, form=Form(topic.replace("%", "%25").replace("#", "%23")))
        for topic in sorted(topics)
        if not topic.startswith("spBv1.0/")
    )
    return Proposal(url, interface, offers, facts)


async def _modbus(url: str, now: str, settings: ConnectSettings) -> Proposal:
    from guantong.connect.modbus import identify

    host = address_parts(url).hostname or "modbus"
    interface = Interface(_name(f"modbus-{host}", "modbus"), "modbus", url, title=host, created=now)
    said = await identify(url, connect_s=settings.connect_timeout_s, answer_s=settings.poll_timeout_s)
    # Modbus tells no names of registers: they come from the maker's list or an interface description
    return Proposal(url, interface, (), {**said, "registers": "not told by the protocol"})


def _path(url: str, now: str, settings: ConnectSettings) -> Proposal:
    path = path_of(url)
    try:
        folder = path.is_dir()
        names = sorted(entry.name for entry in path.iterdir() if entry.is_file())[:1000] if folder else []
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
    base = path.resolve().as_uri()
    if folder:
        forms: dict[str, int] = {}
        for name in names[:50]:
            try:
                form = form_of(path / name)
            except ConfigProblem:
                form = "unreadable"
            forms[form] = forms.get(form, 0) + 1
        interface = Interface(
            _name(path.name, "folder"), "folder", base, title=path.name, created=now, terms=(("pattern", "*"),)
        )
        return Proposal(base, interface, (), {"files": len(names), "forms": forms})
    return _file(path, base, now, settings)


def _file(path: Path, base: str, now: str, settings: ConnectSettings) -> Proposal:
    form = form_of(path)
    kind = {"shdr": "shdr-log", "qif": "qif"}.get(form, "folder")
    interface = Interface(_name(path.stem, "file"), kind, base, title=path.name, created=now)  # type: ignore[arg-type]
    facts: dict[str, Any] = {"form": form, "size": path.stat().st_size}
    offers: tuple[Property, ...] = ()
    if form == "csv":
        from guantong.connect.tabular import find_form

        found = find_form(path, interface)
        offers = tuple(
            Property(name, title=name, form=Form(name)) for name in found.columns if name != found.time_column
        )
        facts.update(found.facts())
    elif form == "qif":
        from guantong.connect.qif import read_qif

        report = read_qif(path.read_bytes(), name=path.name, receive=0, limit=settings.document_bytes)
        facts.update(report.facts, results=report.results, values=report.rows.num_rows)
    return Proposal(base, interface, offers, facts)
