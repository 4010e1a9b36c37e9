"""Simulated inspection of the parts: QIF 2.1 documents of the supplier (in process and final) and of the customer (on arrival).

Sources: QIF 2.1 (ANSI/DMSC), element names as in real reports of two makers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from xml.sax.saxutils import escape

from guantong.base.clock import iso

__all__ = ["CHARACTERISTICS", "PARTS", "Characteristic", "Measured", "measure", "qif"]

PARTS = 12
MODEL = "housing-7"


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One dimension on the drawing, in millimetres; ``offset`` limits from the nominal."""

    name: str
    customer_name: str
    kind: str
    nominal: float
    lower: float
    upper: float
    x: float
    y: float


CHARACTERISTICS: tuple[Characteristic, ...] = (
    Characteristic("Diameter 1", "DIAMETER1", "Diameter", 12.0, -0.1, 0.1, 20.0, 20.0),
    Characteristic("Diameter 2", "DIAMETER2", "Diameter", 6.6, -0.2, 0.2, 60.0, 20.0),
    Characteristic("Diameter 3", "DIAMETER3", "Diameter", 11.0, -0.25, 0.25, 100.0, 20.0),
    Characteristic("Distance 1", "DISTANCE1", "DistanceBetween", 144.4, -0.5, 0.5, 0.0, 50.0),
    Characteristic("Distance 2", "DISTANCE2", "DistanceBetween", 73.0, -0.5, 0.5, 50.0, 0.0),
    Characteristic("Flatness 1", "FLATNESS1", "Flatness", 0.0, 0.0, 0.05, 70.0, 50.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One part measured once: serial as this company writes it, and a value per characteristic."""

    serial: str
    values: tuple[float, ...]


def measure(seed: int, *, bias: float = 0.0) -> list[Measured]:
    """The same parts of a seed, measured by one company whose gauge has a small bias of its own."""
    true = random.Random(seed + 100)  # noqa: S311 - reproducible, not secret
    own = random.Random(f"{seed}/{bias}")  # noqa: S311
    parts = []
    for number in range(1, PARTS + 1):
        values = []
        for item in CHARACTERISTICS:
            span = item.upper - item.lower
            real = (
                abs(true.gauss(0.012, 0.004)) if item.kind == "Flatness" else item.nominal + true.gauss(0.0, span / 12)
            )
            values.append(round(real + own.gauss(bias, 0.002) * (0.1 if item.kind == "Flatness" else 1.0), 4))
        parts.append(Measured(f"{number:02d}", tuple(max(value, 0.001) for value in values)))
    return parts


def qif(parts: list[Measured], *, customer: bool, made_at: int, uid: str) -> str:
    """A QIF 2.1 document. The customer's form names features, units and offsets from the nominal; the supplier's absolute limits."""
    number = iter(range(10, 1_000_000))
    definitions, nominals, items, features = [], [], [], []
    item_ids = []
    for item in CHARACTERISTICS:
        definition, nominal, ident, feature = (next(number) for _ in range(4))
        item_ids.append(ident)
        tag = f"{item.kind}Characteristic"
        name = item.customer_name if customer else item.name
        if item.kind == "Flatness":
            limits = f"<ToleranceValue>{item.upper}</ToleranceValue>"
            target = ""
        else:
            low, high = (item.lower, item.upper) if customer else (item.nominal + item.lower, item.nominal + item.upper)
            limits = (
                f"<Tolerance><MaxValue>{high:.4f}</MaxValue><MinValue>{low:.4f}</MinValue>"
                f"<DefinedAsLimit>{'false' if customer else 'true'}</DefinedAsLimit></Tolerance>"
            )
            target = f"<TargetValue>{item.nominal}</TargetValue>"
        definitions.append(f'<{tag}Definition id="{definition}"><Name>{name}</Name>{limits}</{tag}Definition>')
        nominals.append(
            f'<{tag}Nominal id="{nominal}"><CharacteristicDefinitionId>{definition}</CharacteristicDefinitionId>{target}</{tag}Nominal>'
        )
        link = f'<FeatureItemIds n="1"><Id>{feature}</Id></FeatureItemIds>' if customer else ""
        items.append(
            f'<{tag}Item id="{ident}"><Name>{name}</Name>{link}<CharacteristicNominalId>{nominal}</CharacteristicNominalId></{tag}Item>'
        )
        if customer:
            features.append(f'<PointFeatureItem id="{feature}"><FeatureName>{name}</FeatureName></PointFeatureItem>')
    results, components = [], []
    for part in parts:
        result = next(number)
        actuals = []
        for item, ident, value in zip(CHARACTERISTICS, item_ids, part.values, strict=True):
            tag = f"{item.kind}CharacteristicActual"
            ok = item.lower <= value - item.nominal <= item.upper
            actuals.append(
                f'<{tag} id="{next(number)}"><Status><CharacteristicStatusEnum>{"PASS" if ok else "FAIL"}</CharacteristicStatusEnum></Status>'
                f"<CharacteristicItemId>{ident}</CharacteristicItemId><Value>{value}</Value></{tag}>"
            )
        component = next(number)
        components.append(
            f'<ActualComponent id="{component}"><SerialNumber>{escape(part.serial)}</SerialNumber>'
            "<Status><InspectionStatusEnum>PASS</InspectionStatusEnum></Status></ActualComponent>"
        )
        results.append(
            f'<MeasurementResults id="{result}"><MeasuredCharacteristics><CharacteristicActuals n="{len(actuals)}">{"".join(actuals)}'
            "</CharacteristicActuals></MeasuredCharacteristics><InspectionStatus><InspectionStatusEnum>PASS</InspectionStatusEnum>"
            f'</InspectionStatus><ActualComponentIds n="1"><Id>{component}</Id></ActualComponentIds></MeasurementResults>'
        )
    units = (
        "<FileUnits><PrimaryUnits><LinearUnit><SIUnitName>meter</SIUnitName><UnitName>mm</UnitName>"
        "<UnitConversion><Factor>0.001</Factor></UnitConversion></LinearUnit></PrimaryUnits></FileUnits>"
        if customer
        else ""
    )
    count = len(CHARACTERISTICS)
    feature_block = (
        f'<Features><FeatureItems n="{count}">{"".join(features)}</FeatureItems></Features>' if customer else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<QIFDocument xmlns="http://qifstandards.org/xsd/qif2" versionQIF="2.1.0" idMax="{next(number)}"><QPId>{uid}</QPId>'
        f"<Version><TimeCreated>{iso(made_at, digits=0)}</TimeCreated></Version>{units}"
        f'<Product><Header><Name>{MODEL}</Name></Header><PartSet n="1"><Part id="4"><Header><Name>{MODEL}</Name></Header></Part></PartSet></Product>'
        f"{feature_block}"
        f'<Characteristics><CharacteristicDefinitions n="{count}">{"".join(definitions)}</CharacteristicDefinitions>'
        f'<CharacteristicNominals n="{count}">{"".join(nominals)}</CharacteristicNominals>'
        f'<CharacteristicItems n="{count}">{"".join(items)}</CharacteristicItems></Characteristics>'
        f'<MeasurementsResults><MeasurementResultsSet n="{len(results)}">{"".join(results)}</MeasurementResultsSet>'
        f'<ActualComponentSets n="1"><ActualComponentSet n="{len(components)}">{"".join(components)}</ActualComponentSet>'
        "</ActualComponentSets></MeasurementsResults></QIFDocument>\n"
    )
