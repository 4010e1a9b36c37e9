"""Inspection reports in QIF 2.1 (ANSI/DMSC QIF 2.1, MBD and Results): each measured characteristic becomes a row.

What a report leaves out stays empty: no unit where none is declared, no serial number where the result carries none. Limits come out
absolute: as they stand where ``DefinedAsLimit`` is true, nominal plus offset where it is false; the zone of a form or position tolerance
is its upper limit, as declared, even where a maker declares it negative.

The identity of a characteristic within a part is its item and the feature it was measured on: one item may cover many features, and
names repeat.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guantong.base.batch import measurement_schema
from guantong.base.errors import Skippable
from guantong.connect.document import local, parse_xml

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NAMESPACES", "Report", "read_qif"]

NAMESPACES = ("http://qifstandards.org/xsd/qif2", "http://qifstandards.org/xsd/qif3")
"""Namespaces that are read; QIF 3.0 writes results in the same elements."""

_ANGULAR = ("Angle", "Angular", "Conicity")
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")
_POINTS = ("AxisPoint", "Location", "Center", "CenterPoint", "Point", "SpherePoint", "Vertex")


@dataclass(frozen=True, slots=True)
class Report:
    """A report as rows, and what was said about it."""

    rows: pa.RecordBatch
    """Rows of ``measurement_schema``."""
    results: int
    """Parts measured."""
    quarantined: tuple[tuple[int, str, str], ...]
    """Values that can't be used: line in the document, reason, text."""
    facts: dict[str, Any]
    """Report id, model, units, date of the report, number of zones declared negative."""


@dataclass(frozen=True, slots=True)
class _Limits:
    nominal: float | None = None
    lower: float | None = None
    upper: float | None = None
    form: str | None = None


def read_qif(data: bytes, *, name: str, receive: int, limit: int) -> Report:
    """Read a report. ``name`` is the file's name; ``receive`` the receive time in ns.

    Raises Skippable ``connect.document-unreadable`` and ``connect.document-too-large``, Refused ``connect.document-hostile``.
    """
    import pyarrow as pa

    root = parse_xml(data, name=name, limit=limit)
    if local(root) != "QIFDocument" or root.tag.rpartition("}")[0].lstrip("{") not in NAMESPACES:
        raise Skippable("connect.document-unreadable", name=name, reason="not a QIF document")
    document = _Document(root, name)
    columns: dict[str, list[Any]] = {field.name: [] for field in measurement_schema()}
    for row in document.measurements():
        for column, values in columns.items():
            values.append(receive if column == "receive_time" else row.get(column))
    arrays = [
        pa.array(columns[field.name], pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array(columns[field.name], field.type)
        for field in measurement_schema()
    ]
    return Report(
        pa.RecordBatch.from_arrays(arrays, schema=measurement_schema()),
        document.results,
        tuple(document.quarantined),
        document.facts,
    )


class _Document:
    def __init__(self, root: Any, name: str) -> None:
        self._ns = root.tag.rpartition("}")[0] + "}"
        self._root = root
        self._by_id: dict[str, Any] = {}
        for element in root.iter():
            key = element.get("id")
            if key is not None:
                self._by_id.setdefault(key, element)
        qpid = self._text(root, "QPId") or ""
        self.report = f"{name}/{qpid}" if qpid else name
        self.results = 0
        self.quarantined: list[tuple[int, str, str]] = []
        units = root.find(f"{self._ns}FileUnits/{self._ns}PrimaryUnits")
        self._linear = self._text(units, "LinearUnit/UnitName")
        self._angular = self._text(units, "AngularUnit/UnitName")
        self._model = self._model_name()
        self._negative: set[tuple[str, str]] = set()
        self._limits: dict[str, tuple[str | None, str, _Limits]] = {}
        self.facts: dict[str, Any] = {
            "report": self.report,
            "model": self._model,
            "linear_unit": self._linear,
            "angular_unit": self._angular,
            "version": root.get("versionQIF"),
            "prepared": self._text(root, "MeasurementsResults/InspectionTraceability/ReportPreparationDate"),
            "created": self._text(root, "Version/TimeCreated"),
            "organization": self._text(root, "PreInspectionTraceability/InspectingOrganization/Name"),
        }

    def measurements(self) -> Any:
        """Rows, one for each measured value, in document order."""
        ns = self._ns
        serials = {
            component.get("id"): self._text(component, "SerialNumber")
            for component in self._root.iter(f"{ns}ActualComponent")
        }
        for result in self._root.iter(f"{ns}MeasurementResults"):
            self.results += 1
            key = result.get("id") or str(self.results)
            component = self._text(result, "ActualComponentIds/Id")
            serial = serials.get(component) if component else None
            uri = self._text(result, "ExternalFileReferences/ExternalFileReference/URI")
            actuals = result.find(f"{ns}MeasuredCharacteristics/{ns}CharacteristicActuals")
            for actual in actuals if actuals is not None else ():
                row = self._measurement(actual, (key, serial, uri))
                if row is not None:
                    yield row
        if self._negative:
            self.facts["negative_zones"] = len(self._negative)

    def _measurement(self, actual: Any, of: tuple[str, str | None, str | None]) -> dict[str, Any] | None:
        result, serial, uri = of
        item_id = self._text(actual, "CharacteristicItemId")
        text = self._text(actual, "Value")
        if item_id is None or text is None:
            self.quarantined.append((actual.sourceline or 0, "truncated", f"{local(actual)} {actual.get('id')}"))
            return None
        kind_name = local(actual).removesuffix("Actual").removesuffix("Characteristic")
        value, words = _number(text), None
        if value is None:
            if kind_name.startswith(("UserDefinedAttribute", "AttributeCharacteristic", "Thread")):
                words = text
            else:
                reason = (
                    "not-finite" if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity") else "not-a-number"
                )
                self.quarantined.append((actual.sourceline or 0, reason, f"{local(actual)} {actual.get('id')}: {text}"))
                return None
        name, definition, limits = self._item(item_id)
        feature, where = self._feature(actual, item_id)
        if limits.form == "zone" and limits.upper is not None and limits.upper < 0:
            self._negative.add((result, item_id))
        point = where or (None, None, None)
        return {
            "report": self.report,
            "result": result,
            "model": self._model,
            "serial": serial,
            "source_uri": uri,
            "characteristic": item_id,
            "feature": feature,
            "name": name or definition,
            "kind": _kind(kind_name),
            "value_f64": value,
            "value_text": words,
            "unit": self._angular if kind_name.startswith(_ANGULAR) else self._linear,
            "nominal": limits.nominal,
            "lower": limits.lower,
            "upper": limits.upper,
            "limit_form": limits.form,
            "x": point[0],
            "y": point[1],
            "z": point[2],
            "declared_status": self._text(actual, "Status/CharacteristicStatusEnum"),
            "measured_time": None,  # QIF dates the report, not the value
        }

    def _item(self, item_id: str) -> tuple[str | None, str, _Limits]:
        known = self._limits.get(item_id)
        if known is None:
            item = self._by_id.get(item_id)
            nominal = self._by_id.get(self._text(item, "CharacteristicNominalId") or "")
            definition = self._by_id.get(self._text(nominal, "CharacteristicDefinitionId") or "")
            name = self._text(item, "Name") or self._text(definition, "Name")
            known = name, f"item {item_id}", self._limits_of(definition, self._text(nominal, "TargetValue"))
            self._limits[item_id] = known
        return known

    def _limits_of(self, definition: Any, target: str | None) -> _Limits:
        nominal = _decimal(target)
        zone = _decimal(self._text(definition, "ToleranceValue"))
        if zone is not None:
            return _Limits(_float(nominal), None, float(zone), "zone")
        tolerance = definition.find(f"{self._ns}Tolerance") if definition is not None else None
        if tolerance is None:
            return _Limits(_float(nominal))
        upper, lower = _decimal(self._text(tolerance, "MaxValue")), _decimal(self._text(tolerance, "MinValue"))
        if (self._text(tolerance, "DefinedAsLimit") or "true").strip() in ("true", "1"):
            return _Limits(_float(nominal), _float(lower), _float(upper), "absolute")
        if nominal is None:  # offsets from nothing bound nothing
            return _Limits(None, None, None, "offset")
        # decimal, because 6.6 + 0.3 in binary is less than 6.9
        return _Limits(
            float(nominal),
            None if lower is None else float(nominal + lower),
            None if upper is None else float(nominal + upper),
            "offset",
        )

    def _feature(self, actual: Any, item_id: str) -> tuple[str | None, tuple[float, float, float] | None]:
        """The feature item a value was measured on, and where the design puts it (where it was measured, if the design does not say)."""
        measured = self._by_id.get(self._text(actual, "FeatureActualIds/Id") or "")
        feature = self._text(measured, "FeatureItemId") or self._text(self._by_id.get(item_id), "FeatureItemIds/Id")
        if feature is None:
            return None, None
        nominal = self._by_id.get(self._text(self._by_id.get(feature), "FeatureNominalId") or "")
        return feature, self._point(nominal) or self._point(measured)

    def _point(self, feature: Any) -> tuple[float, float, float] | None:
        if feature is None:
            return None
        for name in _POINTS:
            found = next(feature.iter(f"{self._ns}{name}"), None)
            numbers = [_number(part) for part in (found.text or "").split()] if found is not None else []
            if len(numbers) == 3 and None not in numbers:
                return (numbers[0], numbers[1], numbers[2])  # type: ignore[return-value]
        return None

    def _model_name(self) -> str | None:
        part = self._root.find(f"{self._ns}Product/{self._ns}PartSet/{self._ns}Part")
        for path in (
            "Header/Name",
            "Name",
            "DefinitionExternal/DigitalModel/Name",
            "DefinitionExternal/PrintedDrawing/Name",
            "ModelNumber",
        ):
            name = self._text(part, path)
            if name:
                return name
        return None

    def _text(self, element: Any, path: str) -> str | None:
        if element is None:
            return None
        found = element.find("/".join(self._ns + step for step in path.split("/")))
        text: str | None = found.text if found is not None else None
        return text.strip() if text else None


def _kind(name: str) -> str:
    """``DistanceBetween`` → ``distance``; other names in lower case with hyphens between their words."""
    return "distance" if name == "DistanceBetween" else _WORDS.sub("-", name).lower()


def _decimal(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) < 300 else None


def _number(text: str) -> float | None:
    value = _decimal(text)
    return None if value is None else float(value)


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def qif_name(path: Path) -> bool:
    """Whether a file's name says that it is a QIF document."""
    return path.suffix.lower() == ".qif"
