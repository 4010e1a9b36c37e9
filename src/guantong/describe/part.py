"""Submodel of a part: every measurement of it, of whichever company, with unit, nominal and limits as declared.

A submodel of our own (``urn:guantong:aas:PartMeasurements:1:0``): the nearest IDTA template, QualityControlForMachining 02049, has no
semantic id in its published file. Names of the elements follow QIF 2.1 where it has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guantong.base.clock import iso
from guantong.describe.elements import collection, items, prop, submodel

__all__ = ["PART_MEASUREMENTS", "part_measurements"]

PART_MEASUREMENTS = "urn:guantong:aas:PartMeasurements:1:0"

_TEXTS = (
    ("Source", "source"),
    ("Report", "report"),
    ("Result", "result"),
    ("Characteristic", "characteristic"),
    ("Feature", "feature"),
    ("Name", "name"),
    ("Kind", "kind"),
    ("Unit", "unit"),
    ("LimitForm", "limit_form"),
    ("DeclaredStatus", "declared_status"),
    ("Value", "value_text"),
)
_NUMBERS = (("Value", "value_f64"), ("Nominal", "nominal"), ("LowerLimit", "lower"), ("UpperLimit", "upper"))


def part_measurements(id: str, names: Iterable[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The submodel as metamodel JSON. ``names``: (where, name as written there) · ``rows``: clean measurements of the part.

    Measurements of different companies stand side by side under the source they came through; nothing is averaged.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        members = [
            prop(label, str(row[column])[:2000], f"{PART_MEASUREMENTS}:{label}")
            for label, column in _TEXTS
            if row.get(column) is not None and not (label == "Value" and row.get("value_f64") is not None)
        ]
        members += [
            prop(label, repr(float(row[column])), f"{PART_MEASUREMENTS}:{label}", type="xs:double")
            for label, column in _NUMBERS
            if row.get(column) is not None
        ]
        if row.get("measured_time") is not None:
            members.append(
                prop("MeasuredTime", iso(row["measured_time"]), f"{PART_MEASUREMENTS}:MeasuredTime", type="xs:dateTime")
            )
        by_source.setdefault(str(row["source"]), []).append(collection("", members, f"{PART_MEASUREMENTS}:Measurement"))
    elements = [
        items(
            "Names",
            [
                collection(
                    "",
                    [
                        prop("Where", where, f"{PART_MEASUREMENTS}:Where"),
                        prop("Name", name, f"{PART_MEASUREMENTS}:WrittenName"),
                    ],
                    f"{PART_MEASUREMENTS}:Naming",
                )
                for where, name in names
            ],
            f"{PART_MEASUREMENTS}:Names",
        ),
        items(
            "Companies",
            [
                collection(
                    "",
                    [
                        prop("Source", source, f"{PART_MEASUREMENTS}:Source"),
                        items("Measurements", measured, f"{PART_MEASUREMENTS}:Measurements"),
                    ],
                    f"{PART_MEASUREMENTS}:Company",
                )
                for source, measured in sorted(by_source.items())
            ],
            f"{PART_MEASUREMENTS}:Companies",
        ),
    ]
    return submodel(
        id,
        "PartMeasurements",
        elements,
        PART_MEASUREMENTS,
        description={"en": "Measurements of this part by every company; a submodel of guantong, no IDTA template."},
    )
