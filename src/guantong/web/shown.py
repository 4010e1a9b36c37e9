"""How figures, instants and sizes are shown. Digits and separators follow the language; units never change.

What was not measured shows as an en dash, never as zero.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from guantong.base.clock import iso, parse_iso, to_datetime
from guantong.base.errors import Skippable

__all__ = ["NOTHING", "compact", "duration", "instant", "number", "percent", "size", "unit", "when"]

NOTHING = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any, digits: int | None = None, *, sign: bool = False) -> str:
    """A number with thousands in groups. Whole numbers and decimals keep every digit; floats show six significant ones or ``digits``
    places.
    """
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return NOTHING
    plus = "+" if sign else ""
    text: str
    if digits is not None:
        text = f"{value:{plus},.{digits}f}"
    elif isinstance(value, float):
        text = f"{value:{plus},.6g}"
        if "e" in text:
            text = f"{value:{plus},.4g}"
    else:
        text = f"{value:{plus},}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


_UNITS = {
    "By.h": "B·h",
    "{point}": "pt",
    "1": "",
    "%": "%",
    "Cel": "°C",
    "[degF]": "°F",
    "deg": "°",
    "um": "µm",
    "us": "µs",
    "Ohm": "Ω",
    "[psi]": "psi",
    "{rev}": "rev",
    "kW.h": "kWh",
    "W.h": "Wh",
    "V.A": "VA",
    "kV.A": "kVA",
    "N.m": "N·m",
    "m/s2": "m/s²",
    "mm/s2": "mm/s²",
    "m2": "m²",
    "m3": "m³",
    "mm2": "mm²",
    "mm3": "mm³",
    "kg{CO2}": "kg CO₂",
    "kg{CO2e}": "kg CO₂e",
}
_PIECE = re.compile(r"\[[^\]]*\]|\{[^}]*\}|[^/.]+|[/.]")


def unit(code: Any) -> str:
    """A UCUM code as people write the unit: ``Cel`` is °C, ``{rev}/min`` is rev/min. What is no code stays as it is."""
    text = str(code or "")
    known = _UNITS.get(text)
    if known is not None:
        return known
    pieces = _PIECE.findall(text)
    if "".join(pieces) != text:
        return text
    return "".join(_UNITS.get(one) or ("·" if one == "." else one.strip("[]{}")) for one in pieces)


def significant(value: Any, digits: int = 6) -> str:
    """A number of arbitrary length (a rate that was divided, a quantity that was measured) with so many significant digits. Whole digits
    are never cut.
    """
    if value is None or value == "":
        return NOTHING
    try:
        exact = Decimal(str(value))
    except ArithmeticError:
        return str(value)
    if not exact.is_finite():
        return NOTHING
    whole = max(exact.adjusted() + 1, 0)
    cut = Context(prec=max(digits, whole)).create_decimal(exact)
    if cut and cut.adjusted() < -9:
        power = cut.adjusted()
        small = f"{cut.scaleb(-power).normalize():f} × 10" + str(power).translate(_RAISED)
        return small.replace("-", "−", 1) if small.startswith("-") else small
    text = f"{cut:,f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def compact(value: Any, language: str) -> str:
    """A large count in few characters: ``1.28 M`` in English, ``128 万`` in Chinese."""
    if value is None:
        return NOTHING
    steps = ((1e8, "亿"), (1e4, "万")) if language.startswith("zh") else ((1e9, "G"), (1e6, "M"), (1e5, "k"))
    for step, word in steps:
        if abs(value) >= step:
            scaled = value / (1e3 if word == "k" else step)
            return f"{scaled:.3g} {word}"
    return number(value)


def percent(value: Any, digits: int = 1) -> str:
    """A share between 0 and 1 as ``98.2 %``."""
    return NOTHING if value is None else f"{float(value) * 100:.{digits}f} %"


def size(value: Any) -> str:
    """Bytes in binary multiples (IEC 80000-13)."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024 or unit == "TiB":
            return (
                f"{amount:.0f} B"
                if unit == "B"
                else f"{amount:.3g} {unit}"
                if amount < 1000
                else f"{amount:.0f} {unit}"
            )
        amount /= 1024
    return NOTHING


def duration(seconds: Any, language: str) -> str:
    """A stretch of time in the one or two largest units that say it."""
    if seconds is None:
        return NOTHING
    value = float(seconds)
    zh = language.startswith("zh")
    if abs(value) < 1:
        return f"{value * 1000:.3g} {'毫秒' if zh else 'ms'}"
    if abs(value) < 120:
        return f"{value:.3g} {'秒' if zh else 's'}"
    whole = round(value)
    parts: list[str] = []
    for length, en, word in ((86_400, "d", "天"), (3_600, "h", "小时"), (60, "min", "分"), (1, "s", "秒")):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count} {word if zh else en}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def when(text: Any) -> datetime | None:
    """The instant of RFC 3339 text in the node's own time zone."""
    if not text:
        return None
    try:
        return to_datetime(text if isinstance(text, int) else parse_iso(str(text))).astimezone()
    except (Skippable, OverflowError, OSError, ValueError):
        return None


def instant(text: Any, language: str, form: str = "full") -> str:
    """Local time: ``full`` date and time, ``date``, ``time`` alone, or ``short`` without the year."""
    at = when(text)
    if at is None:
        return NOTHING
    clock = f"{at:%H:%M:%S}"
    if form == "time":
        return clock
    if language.startswith("zh"):
        date = f"{at.month} 月 {at.day} 日" if form == "short" else f"{at.year} 年 {at.month} 月 {at.day} 日"
    else:
        month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[at.month - 1]
        date = f"{at.day} {month}" if form == "short" else f"{at.day} {month} {at.year}"
    return date if form == "date" else f"{date} {clock}"


def zone_note(text: Any) -> str:
    """What a time shows on hover: the instant in UTC and the zone it is shown in."""
    at = when(text)
    if at is None:
        return ""
    stamp = text if isinstance(text, str) else iso(text)
    return f"{stamp} · UTC{at:%z}"
