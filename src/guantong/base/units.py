"""Units of measurement: what a source writes becomes a UCUM code, and values are converted between codes that measure the same.

The table ``units_auto.json`` is made from QUDT (CC BY 4.0) by ``scripts/make_units.py``: UCUM, UNECE (Recommendation 20) and IEC 61360
codes, symbol, factor, offset, dimension, quantity kinds. A value in SI is ``(value + offset) · factor``. Codes here are the UCUM code
with a slash where that reads better (``mm/min`` for ``mm.min-1``; both are UCUM).

What shares a dimension need not be the same thing. Kept apart, as UCUM annotations in braces: gauge pressure (``bar{gauge}``) from
absolute, temperature difference (``K{difference}``) from temperature, gas volume at 0 °C and 1013.25 mbar (``m3{normal}``) from actual
volume, and each reference condition from the others (``m3{standard15}``, ``m3{standard20}``, ``[ft_i]3{standard60F}``); and by
quantity kind: torque from energy, frequency from speed of rotation, active from reactive and apparent power.

What ``convert`` refuses may be asked for by name with what it needs: :func:`absolute_pressure` with the atmosphere's pressure,
:func:`refer` between reference conditions of a gas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from importlib import resources
from typing import Any, TypeVar

from guantong.base.errors import Skippable

__all__ = [
    "REFERENCE_CONDITIONS", "UnitOfMeasure", "absolute_pressure", "canonical", "compatible", "convert", "factors", "find_unit", "refer",
    "unece_code", "unit_of",
]  # fmt: skip

Values = TypeVar("Values", float, Any)
"""A number, or anything with elementwise arithmetic (numpy array, polars series)."""


@dataclass(frozen=True, slots=True)
class UnitOfMeasure:
    """One unit."""

    code: str
    """UCUM, with annotation where a kind is kept apart."""
    factor: Fraction
    offset: Fraction
    dimension: str
    """QUDT dimension vector."""
    kinds: frozenset[str]
    """QUDT quantity kinds."""
    annotation: str = ""
    """``gauge``, ``difference``, a key of REFERENCE_CONDITIONS, or empty."""
    symbol: str = ""
    unece: tuple[str, ...] = ()
    iec61360: tuple[str, ...] = ()
    qudt: str = ""


_PREFERRED = {
    "REV-PER-MIN": "{rev}/min", "REV-PER-SEC": "{rev}/s", "REV": "{rev}", "NUM": "{#}", "V-A": "V.A", "HZ": "Hz", "DEG": "deg",
}  # fmt: skip
"""Codes chosen by hand where QUDT's own is rare or shared by several units."""

_NAMES = {
    # MTConnect Part 2 units and nativeUnits
    "AMPERE": "A", "BAR": "bar", "CELSIUS": "Cel", "CENTIPOISE": "cP", "COUNT": "{#}", "COUNT/SECOND": "{#}/s",
    "CUBIC_FOOT/MINUTE": "[ft_i]3/min", "CUBIC_MILLIMETER": "mm3", "CUBIC_MILLIMETER/SECOND": "mm3/s", "CUBIC_METER": "m3",
    "DAY": "d", "DECIBEL": "dB", "DEGREE": "deg", "DEGREE/MINUTE": "deg/min", "DEGREE/SECOND": "deg/s", "DEGREE/SECOND^2": "deg/s2",
    "DEGREE_3D": "deg", "FAHRENHEIT": "[degF]", "FOOT": "[ft_i]", "FOOT/MINUTE": "[ft_i]/min", "FOOT/SECOND": "[ft_i]/s",
    "FOOT_3D": "[ft_i]", "GALLON/MINUTE": "[gal_us]/min", "GIGABYTE": "GBy", "GRAM": "g", "GRAM/CUBIC_METER": "g/m3", "HERTZ": "Hz",
    "HOUR": "h", "INCH": "[in_i]", "INCH/MINUTE": "[in_i]/min", "INCH/SECOND": "[in_i]/s", "INCH/SECOND^2": "[in_i]/s2",
    "INCH_3D": "[in_i]", "JOULE": "J", "KELVIN": "K", "KILOGRAM": "kg", "KILOMETER": "km", "KILOPASCAL": "kPa",
    "KILOVOLT_AMPERE": "kV.A", "KILOVOLT_AMPERE_REACTIVE": "kvar", "KILOWATT": "kW", "KILOWATT_HOUR": "kW.h", "LITER": "L",
    "LITER/MINUTE": "L/min", "LITER/SECOND": "L/s", "METER": "m", "METER/SECOND": "m/s", "METER/SECOND^2": "m/s2",
    "MICROMETER": "um", "MICRO_RADIAN": "urad", "MILLIGRAM": "mg", "MILLIGRAM/CUBIC_MILLIMETER": "mg/mm3", "MILLILITER": "mL",
    "MILLIMETER": "mm", "MILLIMETER/MINUTE": "mm/min", "MILLIMETER/REVOLUTION": "mm/{rev}", "MILLIMETER/SECOND": "mm/s",
    "MILLIMETER/SECOND^2": "mm/s2", "MILLIMETER_3D": "mm", "MINUTE": "min", "NEWTON": "N", "NEWTON_METER": "N.m", "OHM": "Ohm",
    "PASCAL": "Pa", "PASCAL_SECOND": "Pa.s", "PERCENT": "%", "PH": "[pH]", "POUND": "[lb_av]", "POUND/INCH^2": "[psi]",
    "RADIAN": "rad", "RADIAN/MINUTE": "rad/min", "RADIAN/SECOND": "rad/s", "REVOLUTION": "{rev}", "REVOLUTION/MINUTE": "{rev}/min",
    "REVOLUTION/SECOND": "{rev}/s", "SECOND": "s", "SIEMENS/METER": "S/m", "TESLA": "T", "TORR": "mm[Hg]", "VOLT": "V",
    "VOLT_AMPERE": "V.A", "VOLT_AMPERE_REACTIVE": "var", "WATT": "W", "WATT_HOUR": "W.h", "WATT_SECOND": "J",
    # common spellings, looked up without case after blanks, dots and raised digits are brought to one form
    "celsius": "Cel", "fahrenheit": "[degF]", "degc": "Cel", "deg c": "Cel", "°c": "Cel", "℃": "Cel", "摄氏度": "Cel", "degf": "[degF]", "deg f": "[degF]",
    "°f": "[degF]", "℉": "[degF]", "°": "deg", "degrees": "deg", "degree": "deg", "度": "deg", "rpm": "{rev}/min", "r/min": "{rev}/min",
    "rev/min": "{rev}/min", "1/min": "{rev}/min", "u/min": "{rev}/min", "转/分": "{rev}/min", "psi": "[psi]", "psia": "[psi]",
    "psi(a)": "[psi]", "psig": "[psi]{gauge}", "psi(g)": "[psi]{gauge}", "bara": "bar", "bar(a)": "bar", "barg": "bar{gauge}",
    "bar(g)": "bar{gauge}", "kpag": "kPa{gauge}", "kpa(g)": "kPa{gauge}", "kpaa": "kPa", "kpa(a)": "kPa", "mpag": "MPa{gauge}",
    "mpa(g)": "MPa{gauge}", "inch": "[in_i]", "in": "[in_i]", "inches": "[in_i]", "ft": "[ft_i]", "lb": "[lb_av]", "lbs": "[lb_av]",
    "hp": "[HP]", "kwh": "kW.h", "mwh": "MW.h", "wh": "W.h", "kvarh": "kvar.h", "kvar": "kvar",
    "var": "var", "va": "V.A", "kva": "kV.A", "l": "L", "l/min": "L/min", "lpm": "L/min", "l/h": "L/h", "l/s": "L/s",
    "gpm": "[gal_us]/min", "nm3": "m3{normal}", "nm3/h": "m3/h{normal}", "nm3/min": "m3/min{normal}", "nl/min": "L/min{normal}", "标立方米": "m3{normal}",
    "sm3": "m3{standard15}", "sm3/h": "m3/h{standard15}", "scf": "[ft_i]3{standard60F}", "scfm": "[ft_i]3/min{standard60F}",
    "scfh": "[ft_i]3/h{standard60F}", "percent": "%", "pct": "%", "micron": "um", "µm": "um",
    "microns": "um", "sec": "s", "seconds": "s", "hours": "h", "hr": "h", "ω": "Ohm", "hz": "Hz", "kw": "kW", "mm": "mm", "delta k": "K{difference}",
    "Δk": "K{difference}", "Δ°c": "Cel{difference}", "tco2": "t", "毫米": "mm", "千瓦": "kW", "千瓦时": "kW.h", "兆帕": "MPa", "安": "A",
    "伏": "V",
}  # fmt: skip

_APART: tuple[tuple[str, frozenset[str]], ...] = (
    ("torque", frozenset({"Torque", "MomentOfForce"})),
    ("energy", frozenset({"Energy", "ThermalEnergy", "ElectricEnergy"})),
    ("rotation", frozenset({"AngularVelocity", "RotationalVelocity", "RotationalFrequency", "AngularFrequency"})),
    ("frequency", frozenset({"Frequency"})),
    ("activity", frozenset({"Activity", "Radioactivity"})),
    ("angle", frozenset({"Angle", "PlaneAngle"})),
    ("solid angle", frozenset({"SolidAngle"})),
    ("ratio", frozenset({"DimensionlessRatio"})),
    ("count", frozenset({"Count"})),
)
"""Natures that share a dimension and yet are not converted into each other; the first that fits a unit is its nature."""

_POWER = "A0E0L2I0M1H0T-3D0"
_PRESSURE, _TEMPERATURE = "A0E0L-1I0M1H0T-2D0", "A0E0L0I0M0H1T0D0"
_VOLUMES = ("A0E0L3I0M0H0T0D0", "A0E0L3I0M0H0T-1D0")

REFERENCE_CONDITIONS: dict[str, tuple[Fraction, Fraction]] = {
    "normal": (Fraction("273.15"), Fraction(101_325)),  # DIN 1343, ISO 10780: 0 degrees Celsius
    "standard15": (Fraction("288.15"), Fraction(101_325)),  # ISO 13443: natural gas
    "standard20": (Fraction("293.15"), Fraction(101_325)),  # GB/T 17291: oil and gas in China
    "standard60F": (
        Fraction(5, 9) * (60 + Fraction("459.67")),
        Fraction("6894.757293168") * Fraction("14.696"),
    ),  # US scf
}
"""Reference conditions of gas volumes by annotation: temperature in kelvin, pressure in pascal."""

_ANNOTATIONS = {"gauge": (_PRESSURE,), "difference": (_TEMPERATURE,), **dict.fromkeys(REFERENCE_CONDITIONS, _VOLUMES)}
"""What an annotation may stand behind, by dimension."""

_RAISED = str.maketrans({"²": "2", "³": "3", "·": ".", "×": ".", "∙": ".", "⋅": ".", "μ": "u", "µ": "u"})
_ATOM = re.compile(r"(.*?[^0-9+-])([+-]?\d+)?$")
_PREFIX = {"k": 3, "M": 6, "G": 9, "m": -3, "u": -6, "n": -9, "c": -2, "d": -1, "h": 2, "T": 12, "da": 1}


@dataclass(frozen=True, slots=True)
class _Table:
    codes: dict[str, UnitOfMeasure]
    unece: dict[str, UnitOfMeasure]
    iec: dict[str, UnitOfMeasure]
    symbols: dict[str, UnitOfMeasure]
    labels: dict[str, UnitOfMeasure]


def _slashed(code: str) -> str:
    """``a.b-1`` as ``a/b`` where exactly one atom is below the line."""
    atoms = code.split(".")
    below = [atom for atom in atoms if re.search(r"-\d$", atom)]
    above = [atom for atom in atoms if atom not in below]
    if len(below) != 1 or not above:
        return code
    bottom, power = below[0].rsplit("-", 1)
    return ".".join(above) + "/" + bottom + ("" if power == "1" else power)


@cache
def _table() -> _Table:
    document = json.loads(resources.files("guantong.base").joinpath("units_auto.json").read_text("utf-8"))
    kinds: list[str] = document["kinds"]
    table = _Table({}, {}, {}, {}, {})
    clashes: set[str] = set()
    for qudt, ucum, unece, iec, symbol, label, factor, offset, dimension, own in document["units"]:
        code = _PREFERRED.get(qudt) or (_slashed(ucum[0]) if ucum else "")
        if not code:
            continue
        unit = UnitOfMeasure(
            code, Fraction(factor), Fraction(offset), dimension, frozenset(kinds[number] for number in own), "", symbol,
            tuple(unece), tuple(iec), qudt,
        )  # fmt: skip
        for name in {code, *ucum} if qudt not in ("REV-PER-MIN", "REV-PER-SEC", "REV") else {code}:
            other = table.codes.setdefault(name, unit)
            if other is not unit and abs(other.factor / unit.factor - 1) > Fraction(1, 10**9):
                clashes.add(name)
        for index, names in ((table.unece, unece), (table.iec, iec), (table.symbols, [symbol])):
            for name in names:
                index.setdefault(name, unit)
        if label:
            table.labels.setdefault(label.lower(), unit)
    for name in ("dB", "[pH]"):  # logarithms: no factor, convertible to themselves only
        table.codes[name] = UnitOfMeasure(name, Fraction(1), Fraction(0), name, frozenset())
    for name in clashes:  # QUDT gives one code to different units (long and short ton): better unknown than wrong
        del table.codes[name]
    return table


def unit_of(code: str) -> UnitOfMeasure:
    """The unit with that UCUM code. Raises Skippable ``base.unit-unknown``."""
    unit = find_unit(code)
    if unit is None:
        raise Skippable("base.unit-unknown", unit=code[:60])
    return unit


@lru_cache(4096)
def find_unit(code: str) -> UnitOfMeasure | None:
    """The unit with that UCUM code, or None. Products, quotients and metric prefixes of known units are put together."""
    base, annotation = code, ""
    for word in _ANNOTATIONS:
        if code.endswith("{" + word + "}"):
            base, annotation = code.removesuffix("{" + word + "}"), word
    unit = _table().codes.get(base) or _composed(base)
    if unit is None or not annotation:
        return unit
    if unit.dimension not in _ANNOTATIONS[annotation]:
        return None
    # a difference has no zero point
    offset = Fraction(0) if annotation == "difference" else unit.offset
    return UnitOfMeasure(
        code, unit.factor, offset, unit.dimension, unit.kinds, annotation, unit.symbol, (), (), unit.qudt
    )


def _composed(code: str) -> UnitOfMeasure | None:
    above, *below = code.split("/")
    atoms = [(atom, 1) for atom in above.split(".")] + [(atom, -1) for part in below for atom in part.split(".")]
    if len(atoms) > 6 or len(code) > 60:
        return None
    factor, vector = Fraction(1), dict.fromkeys("AELIMHTD", Fraction(0))
    for text, sign in atoms:
        match = _ATOM.match(text)
        if match is None:
            return None
        unit = _table().codes.get(match[1]) or _prefixed(match[1])
        power = sign * int(match[2] or 1)
        if unit is None or unit.offset or abs(power) > 9:
            return None
        factor *= unit.factor**power
        for letter, exponent in re.findall(r"([A-Z])(-?[\dp]+)", unit.dimension.replace("dot", "p")):
            vector[letter] += Fraction(exponent.replace("p", ".")) * power
    if len(atoms) == 1 and not _ATOM.match(code)[2]:  # type: ignore[index]  # matched above
        return _prefixed(code)
    vector["D"] = Fraction(all(not value for letter, value in vector.items() if letter != "D"))
    dimension = "".join(f"{letter}{str(float(value)).removesuffix('.0')}" for letter, value in vector.items())
    return UnitOfMeasure(code, factor, Fraction(0), dimension, frozenset())


def _prefixed(code: str) -> UnitOfMeasure | None:
    for prefix, exponent in _PREFIX.items():
        unit = _table().codes.get(code.removeprefix(prefix)) if code.startswith(prefix) else None
        if unit is not None and not unit.offset and unit.dimension != "A0E0L0I0M0H0T0D1":
            return UnitOfMeasure(code, unit.factor * Fraction(10) ** exponent, Fraction(0), unit.dimension, unit.kinds)
    return None


@lru_cache(4096)
def canonical(text: str) -> str:
    """UCUM code of a unit however it is written; empty text stays empty.

    Understood: UCUM; MTConnect names (``REVOLUTION/MINUTE``); OPC UA ``unitId`` (the number that Part 8, 5.6.3, makes of a UNECE code)
    and UNECE codes as ``UNECE:MMT`` or alone; IEC 61360 codes; QUDT symbols and English names; common spellings in English and Chinese.
    Raises Skippable ``base.unit-unknown``.
    """
    text = text.strip()
    if not text:
        return ""
    table = _table()
    if text in _NAMES:
        return _NAMES[text]
    if text.isascii() and text.isdigit():
        number = int(text)
        code = number.to_bytes(4, "big").lstrip(b"\0").decode("ascii", "replace") if number < 2**32 else ""
        if code in table.unece:
            return table.unece[code].code
        raise Skippable("base.unit-unknown", unit=text[:60])
    if text.upper().startswith("UNECE:"):
        found = table.unece.get(text[6:].strip())
        if found is not None:
            return found.code
        raise Skippable("base.unit-unknown", unit=text[:60])
    if text in table.iec:
        return table.iec[text].code
    plain = text.translate(_RAISED)
    for name in (text, plain):
        if name.lower() in _NAMES and name not in table.codes:
            return _NAMES[name.lower()]
        unit = find_unit(name)
        if unit is not None:
            return unit.code
    for found in (
        table.symbols.get(text) if text not in ("C", "F") else None,
        table.labels.get(text.lower()),
        table.labels.get(text.lower().replace("meter", "metre").replace("liter", "litre")),
        table.unece.get(text),
    ):
        if found is not None:
            return found.code
    lowered = plain.lower().replace(" ", "")
    if lowered in _NAMES:
        return _NAMES[lowered]
    raise Skippable("base.unit-unknown", unit=text[:60])


def unece_code(code: str) -> str:
    """UNECE Recommendation 20 code of a UCUM code, empty where there is none."""
    unit = find_unit(code)
    return unit.unece[0] if unit and unit.unece else ""


def _nature(unit: UnitOfMeasure) -> str:
    if unit.dimension == _POWER:
        # QUDT gives the watt all kinds of power, so the code decides
        return (
            "reactive power"
            if "var" in unit.code
            else "apparent power"
            if "VA" in unit.code or "V.A" in unit.code
            else "active power"
        )
    return next((name for name, kinds in _APART if unit.kinds & kinds), "")


def compatible(source: str, target: str) -> bool:
    """Whether values can be converted from one UCUM code to the other."""
    one, other = find_unit(source), find_unit(target)
    if one is None or other is None or one.annotation != other.annotation or one.dimension != other.dimension:
        return False
    if one.code == other.code:
        return True
    natures = _nature(one), _nature(other)
    return natures[0] == natures[1] or "" in natures


@lru_cache(4096)
def _line(source: str, target: str) -> tuple[float, float]:
    one, other = unit_of(source), unit_of(target)
    if not compatible(source, target):
        raise Skippable("base.unit-mismatch", source=source, target=target)
    slope = one.factor / other.factor
    return float(slope), float(one.offset * slope - other.offset)


def convert(values: Values, source: str, target: str) -> Values:
    """Values in the UCUM unit ``source`` as values in ``target``; unchanged where both are the same.

    Raises Skippable ``base.unit-unknown`` or ``base.unit-mismatch``, which names both codes.
    """
    slope, shift = _line(source, target)
    if slope == 1.0 and shift == 0.0:
        return values
    return values * slope + shift if shift else values * slope


def absolute_pressure(values: Values, source: str, target: str, *, atmosphere_pa: float) -> Values:
    """Gauge pressure as absolute pressure, or the other way round, with the atmosphere's pressure at the gauge in pascal.

    Raises Skippable ``base.unit-mismatch`` unless exactly one of both units is a gauge pressure.
    """
    one, other = unit_of(source), unit_of(target)
    if one.dimension != _PRESSURE or other.dimension != _PRESSURE or (one.annotation == other.annotation):
        raise Skippable("base.unit-mismatch", source=source, target=target)
    slope = one.factor / other.factor
    shift = atmosphere_pa / float(other.factor)
    return values * float(slope) + (shift if one.annotation else -shift)


def refer(values: Values, source: str, target: str) -> Values:
    """A gas volume, or flow of volume, at one reference condition as the same amount of gas at another, as an ideal gas.

    V2 = V1 · (T2/T1) · (p1/p2). Compressibility is left out (below 0.1 % for air near these conditions). Raises Skippable
    ``base.unit-mismatch`` unless both units name their condition.
    """
    one, other = unit_of(source), unit_of(target)
    before, after = REFERENCE_CONDITIONS.get(one.annotation), REFERENCE_CONDITIONS.get(other.annotation)
    if before is None or after is None or one.dimension != other.dimension:
        raise Skippable("base.unit-mismatch", source=source, target=target)
    return values * float(one.factor / other.factor * (after[0] / before[0]) * (before[1] / after[1]))


def factors(code: str, among: Iterable[str]) -> list[tuple[str, float, float]]:
    """For each compatible and different unit: (code, slope, shift) so that the same quantity shows as ``value · slope + shift`` in it."""
    found = []
    for other in among:
        if other != code and compatible(code, other):
            slope, shift = _line(code, other)
            if (slope, shift) != (1.0, 0.0):
                found.append((other, slope, shift))
    return found
