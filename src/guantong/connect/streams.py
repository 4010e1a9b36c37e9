"""MTConnectStreams documents, from an agent or a file: observations in, readings with their sequence numbers out.

Source: MTConnect Part 1 (Header, errors) and Part 3, Streams Information Model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guantong.base.errors import Skippable
from guantong.connect.columns import Readings, Value
from guantong.connect.document import local, parse_xml
from guantong.connect.model import Property
from guantong.connect.shdr import LEVELS, Instants, typed

__all__ = ["AgentFault", "Header", "observations", "parse_streams"]

_NUMERIC_TAGS = frozenset({"Line", "LineNumber", "PartCount", "BlockCount", "CycleCount", "ToolNumber"})

Quarantine = Callable[[int, str, str], None]


@dataclass(frozen=True, slots=True)
class Header:
    """What an agent says of its buffer."""

    instance: int
    first: int
    """Oldest sequence number it still holds."""
    last: int
    next: int
    """Where the next request should go on."""
    size: int
    version: str


class AgentFault(Exception):
    """An MTConnectError document: the agent's own codes, such as OUT_OF_RANGE."""

    def __init__(self, codes: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.codes = codes
        self.text = text


def parse_streams(data: bytes, *, name: str, limit: int) -> tuple[Header, Any]:
    """Header and root element of a streams document.

    Raises AgentFault for an error document, Skippable ``connect.document-unreadable`` and ``connect.document-too-large``, Refused
    ``connect.document-hostile``.
    """
    root = parse_xml(data, name=name, limit=limit)
    kind = local(root)
    if kind == "MTConnectError":
        faults = [element for element in root.iter() if element.get("errorCode") or local(element) == "OutOfRange"]
        codes = tuple(element.get("errorCode") or "OUT_OF_RANGE" for element in faults)
        raise AgentFault(codes, "; ".join((element.text or "").strip() for element in faults)[:200])
    head = next((child for child in root if local(child) == "Header"), None)
    if kind != "MTConnectStreams" or head is None:
        raise Skippable("connect.document-unreadable", name=name, reason=f"{kind} instead of MTConnectStreams")
    try:
        header = Header(
            instance=int(head.get("instanceId")),
            first=int(head.get("firstSequence")),
            last=int(head.get("lastSequence")),
            next=int(head.get("nextSequence")),
            size=int(head.get("bufferSize", "0")),
            version=head.get("version", ""),
        )
    except (TypeError, ValueError) as error:
        raise Skippable("connect.document-unreadable", name=name, reason="the header lacks sequence numbers") from error
    return header, root


def observations(
    root: Any,
    receive: int,
    rows: Readings,
    quarantine: Quarantine,
    items: Mapping[str, Property],
    instants: Instants,
    *,
    below: int | None = None,
    lowest: int | None = None,
) -> list[int]:
    """Append the readings of a streams document, in the order of their sequence numbers; returns those numbers.

    below, lowest: take only observations with a smaller number, and none below the lowest. A value that can't be used is quarantined with its number as offset; its number
    is returned all the same, because it has arrived.
    """
    found: list[tuple[int, Any, str]] = []
    for component in root.iter("{*}ComponentStream"):
        for group in component:
            found.extend(
                (_sequence(element), element, local(group)) for element in group if isinstance(element.tag, str)
            )
    found.sort(key=lambda entry: entry[0])
    numbers = []
    for sequence, element, group in found:
        if (below is not None and sequence >= below) or (lowest is not None and sequence < lowest):
            continue
        numbers.append(sequence)
        signal = element.get("dataItemId") or element.get("name")
        instant = instants.read(element.get("timestamp", ""))
        if not signal or instant is None:
            quarantine(sequence, "time" if signal else "empty-key", f"{local(element)} {dict(element.attrib)}")
            continue
        try:
            value = _value(element, group, items.get(signal))
        except Skippable as error:
            quarantine(sequence, error.code.partition(".")[2], f"{signal}: {(element.text or '')[:100]}")
            continue
        rows.append(signal, instant, receive, value, sequence=sequence if sequence >= 0 else None)
    return numbers


def names_in(root: Any) -> dict[str, Property]:
    """What a streams document itself says of its signals: name, device and component, type; no units."""
    found: dict[str, Property] = {}
    for device in root.iter("{*}DeviceStream"):
        for component in device.iter("{*}ComponentStream"):
            path = f"{device.get('name', '')}/{component.get('name') or component.get('componentId') or ''}"
            for group in component:
                category = {"Samples": "SAMPLE", "Events": "EVENT"}.get(local(group), "CONDITION")
                for element in group:
                    signal = element.get("dataItemId") or element.get("name")
                    if signal and signal not in found:
                        kind = element.get("type") or _screaming(local(element))
                        if element.get("subType"):
                            kind = f"{kind}:{element.get('subType')}"
                        found[signal] = Property(
                            signal,
                            title=element.get("name") or signal,
                            terms=(("category", category), ("path", path), ("type", kind)),
                        )
    return found


def _screaming(tag: str) -> str:
    """``RotaryVelocity`` → ``ROTARY_VELOCITY``, the form types have in the device model."""
    return "".join(("_" + char if char.isupper() and index else char).upper() for index, char in enumerate(tag))


def _sequence(element: Any) -> int:
    text = element.get("sequence", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _value(element: Any, group: str, item: Property | None) -> Value:
    tag = local(element)
    if group == "Condition" or tag.upper() in LEVELS:
        level = tag.upper()
        if level == "UNAVAILABLE":
            return None
        rest = [
            element.get("nativeCode", ""),
            element.get("nativeSeverity", ""),
            element.get("qualifier", ""),
            element.text or "",
        ]
        rest[3] = rest[3].strip()
        return "|".join([level, *rest]) if any(rest) else level
    if len(element):  # a data set or table: its entries as text
        entries = [f"{entry.get('key', '')}={(entry.text or '').strip()}" for entry in element]
        return " ".join(entries)
    text = element.text or ""
    bare = text.strip()
    if bare.upper() == "UNAVAILABLE":
        return None
    if group == "Samples":
        value = typed(bare)
        if isinstance(value, int):
            return float(value) if abs(value) <= 1 << 53 else value
        if isinstance(value, str) and bare and tag.endswith(("TimeSeries",)):
            return bare
        if isinstance(value, str) and not all(isinstance(typed(part), int | float) for part in bare.split()):
            raise Skippable("connect.not-a-number", text=bare[:40])
        return value
    numeric = item.type in ("integer", "number", None) if item is not None else None
    if numeric is None:
        numeric = (
            tag in _NUMERIC_TAGS or tag.endswith("Override") or ":" in (element.prefix or "") or element.prefix == "x"
        )
    return typed(bare) if numeric else text
