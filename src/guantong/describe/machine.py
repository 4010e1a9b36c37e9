"""Submodels of a machine: TimeSeries 1.1.1 (IDTA 02008-1-1) with a LinkedSegment that answers, and the live values of its signals.

OperationalData is a submodel of our own (no IDTA template covers live values in general); its semantic ids are in the namespace
``urn:guantong:aas:OperationalData:1:0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.clock import iso
from guantong.describe.elements import collection, id_short, languages, prop, submodel, unique

__all__ = ["OPERATIONAL", "TIME_SERIES", "Live", "SignalFacts", "lexical", "operational_data", "time_series"]

_TS = "https://admin-shell.io/idta/TimeSeries/"
TIME_SERIES = _TS + "1/1"
OPERATIONAL = "urn:guantong:aas:OperationalData:1:0"

_XSD = {"f64": "xs:double", "i64": "xs:long", "bool": "xs:boolean"}


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What the catalogue knows of a signal, as far as these submodels need it."""

    id: int
    native_id: str
    name: str
    path: str
    unit: str
    type: str
    category: str


Live = tuple[str, int, str]
"""Path of a property, signal id, and what it shows: ``value``, ``time`` or ``status``."""


def lexical(row: Mapping[str, Any], what: str) -> str | None:
    """The XML Schema form of one figure of keep's newest row, None where there is none (a bad status has no value)."""
    if what == "status":
        return str(row["status"])
    if what == "time":
        return iso(row["time_ns"])
    if row["value_f64"] is not None:
        value = row["value_f64"]
        return (
            "NaN"
            if value != value
            else "INF"
            if value == float("inf")
            else "-INF"
            if value == float("-inf")
            else repr(value)
        )
    if row["value_i64"] is not None:
        return str(row["value_i64"])
    if row["value_bool"] is not None:
        return "true" if row["value_bool"] else "false"
    text: str | None = row["value_text"]
    return text


def operational_data(id: str, signals: Sequence[SignalFacts]) -> tuple[dict[str, Any], list[Live]]:
    """One collection a signal (value, time, status, unit, path, the source's own id), and which of them are filled at read."""
    taken: set[str] = set()
    elements: list[dict[str, Any]] = []
    live: list[Live] = []
    for signal in signals:
        name = unique(id_short(signal.name or signal.native_id, "signal"), taken)
        members = [
            prop("Value", None, f"{OPERATIONAL}:Value", type=_XSD.get(signal.type, "xs:string")),
            prop("Time", None, f"{OPERATIONAL}:Time", type="xs:dateTime"),
            prop("Status", None, f"{OPERATIONAL}:Status", type="xs:unsignedInt"),
            prop("NativeId", signal.native_id, f"{OPERATIONAL}:NativeId"),
            prop("SignalId", str(signal.id), f"{OPERATIONAL}:SignalId", type="xs:int"),
        ]
        for label, text in (("Unit", signal.unit), ("Path", signal.path), ("Category", signal.category)):
            if text:
                members.append(prop(label, text, f"{OPERATIONAL}:{label}"))
        elements.append(collection(name, members, f"{OPERATIONAL}:Signal"))
        live += [
            (f"{name}.Value", signal.id, "value"),
            (f"{name}.Time", signal.id, "time"),
            (f"{name}.Status", signal.id, "status"),
        ]
    body = submodel(
        id,
        "OperationalData",
        elements,
        OPERATIONAL,
        description={"en": "Newest value of every signal; a submodel of guantong, no IDTA template."},
    )
    return body, live


def time_series(
    id: str, title: str, signals: Sequence[SignalFacts], *, endpoint: str, query: str
) -> tuple[dict[str, Any], list[Live]]:
    """The historian as a LinkedSegment: ``endpoint?query`` answers with the readings. Source: IDTA 02008-1-1-1.

    The last instant and the update time are filled at read from the newest row of any signal (signal id -1).
    """
    taken = {"time"}
    record = [prop("Time", None, f"{_TS}UtcTime/1/1", type="xs:dateTime")]
    record.extend(
        prop(
            unique(id_short(signal.name or signal.native_id, "signal"), taken),
            None,
            f"urn:guantong:signal:{signal.id}",
            type=_XSD.get(signal.type, "xs:string"),
        )
        for signal in signals
    )
    segment = collection(
        "LinkedSegment",
        [
            languages("Name", {"en": title, "zh": title}, f"{_TS}Segment/Name/1/1"),
            languages(
                "Description",
                {
                    "en": "All readings of this machine, read from its tables when asked.",
                    "zh": "该设备的全部读数，查询时从数据表读取。",
                },
                f"{_TS}Segment/Description/1/1",
            ),
            prop("EndTime", None, f"{_TS}Segment/EndTime/1/1"),
            prop("LastUpdate", None, f"{_TS}Segment/LastUpdate/1/1"),
            prop("State", "in progress", f"{_TS}Segment/State/1/1"),
            prop("Endpoint", endpoint, f"{_TS}Segment/Endpoint/1/1"),
            prop("Query", query, f"{_TS}Segment/Query/1/1"),
        ],
        f"{_TS}Segments/LinkedSegment/1/1",
    )
    body = submodel(
        id,
        "TimeSeries",
        [
            collection(
                "Metadata",
                [
                    languages("Name", {"en": title, "zh": title}, f"{_TS}Metadata/Name/1/1"),
                    collection("Record", record, f"{_TS}Metadata/Record/1/1"),
                ],
                f"{_TS}Metadata/1/1",
            ),
            collection("Segments", [segment], f"{_TS}Segments/1/1"),
        ],
        TIME_SERIES,
        version=("1", "1"),
        template="https://admin-shell.io/idta-02008-1-1",
    )
    return body, [
        ("Segments.LinkedSegment.EndTime", -1, "time"),
        ("Segments.LinkedSegment.LastUpdate", -1, "time"),
    ]
