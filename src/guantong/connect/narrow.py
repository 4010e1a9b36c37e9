"""Narrow form, as historians export it: one reading a row, with columns for signal, time and value, often quality and unit too.

What the columns are is found out by their names and shown with the file's other facts; the interface's terms overrule it. Quality that
can't be told for sure (a lone 0 is good in OPC UA and bad in OPC DA) is not guessed: the readings are good, and the facts say that the
column was not used.

Source of the numbers: OPC DA 3.00, 6.8 (quality flags, the two high bits of the low byte); OPC UA Part 4, 7.39 (StatusCode).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD, GOOD, UNCERTAIN, reading_schema
from guantong.connect.model import Interface

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Narrow", "find_narrow", "narrow_rows", "units_in"]

_SIGNAL = re.compile(
    r"(?i)_?(tag|tag ?_?name|tag ?_?id|signal|signal ?_?(id|name)|point|point ?_?(id|name)|item|item ?_?(id|name)|series|variable|sensor"
    r"|channel|metric|field|measurand|messstelle|位号|测点|测点名|测点名称|信号|信号名|信号名称|变量|变量名|点名)"
)
_VALUE = re.compile(r"(?i)_?(value|val|float_?value|num_?value|reading|wert|messwert|值|数值|测量值|读数)")
_QUALITY = re.compile(
    r"(?i)_?(quality|quality_?detail|opc_?quality|data_?integrity|status|status_?code|qualität|质量|质量码|状态)"
)
_UNIT = re.compile(r"(?i)_?(unit|units|uom|eng_?units?|engineering units?|einheit|单位)")
_WORDS = {
    **dict.fromkeys(("good", "g", "ok", "valid", "true", "good, non-specific", "gut", "良好", "好", "正常", "有效"), GOOD),
    **dict.fromkeys(("uncertain", "u", "questionable", "suspect", "doubtful", "unsicher", "不确定", "可疑"), UNCERTAIN),
    **dict.fromkeys(
        ("bad", "b", "invalid", "false", "bad, non-specific", "no data", "error", "schlecht", "坏", "差", "异常", "无效"), BAD
    ),
}  # fmt: skip
_STATES = (
    "bad", "bad input", "bad output", "bad data", "bad quality", "no data", "no sample", "no result", "calc failed", "calc crash",
    "i/o timeout", "io timeout", "comm fail", "configure", "pt created", "shutdown", "scan off", "scan timeout", "under range", "over range",
    "not connect", "intf shut", "arc off-line", "error", "#n/a", "#value!", "inf", "-inf",
)  # fmt: skip
"""What historians write into the value column in place of a value (system digital states of AVEVA PI, spreadsheets' errors)."""
_SAMPLE = 2_000


@dataclass(frozen=True, slots=True)
class Narrow:
    """Which column is what."""

    signal: str
    value: str
    quality: str | None
    scheme: str | None
    """``words``, ``opc-da`` or ``opc-ua``; None where there is no quality or it can't be told for sure, and then it isn't used."""
    unit: str | None
    unused: tuple[str, ...]
    """Columns that nothing is made of."""

    def facts(self) -> dict[str, Any]:
        """For the account of the file."""
        given = {f"{name}_column": value for name, value in asdict(self).items() if name not in ("scheme", "unused")}
        return {"layout": "narrow", **given, "quality_scheme": self.scheme, "unused": list(self.unused)}


def find_narrow(
    columns: Sequence[str], time_column: str | None, interface: Interface, sample: Callable[[str], Sequence[str]]
) -> Narrow | None:
    """What the columns are; None where the file isn't in narrow form. ``sample``: values of a column from the file's beginning."""
    if time_column is None or interface.term("as") == "table":
        return None
    left = [name for name in columns if name != time_column]

    def pick(term: str, names: re.Pattern[str]) -> str | None:
        wanted = interface.term(term)
        if wanted is not None:
            found = wanted if wanted in left else None
        else:
            fitting = [name for name in left if names.fullmatch(name.strip())]
            found = fitting[0] if len(fitting) == 1 else None
        if found is not None:
            left.remove(found)
        return found

    value = pick("value_column", _VALUE)
    signal = pick("signal_column", _SIGNAL) if value is not None else None
    if value is None or signal is None:
        return None
    quality, unit = pick("quality_column", _QUALITY), pick("unit_column", _UNIT)
    scheme = None
    if quality is not None:
        scheme = interface.term("quality_scheme") or _scheme(sample(quality)[:_SAMPLE])
    return Narrow(signal, value, quality, scheme, unit, tuple(left))


def _scheme(texts: Sequence[str]) -> str | None:
    texts = [text.strip() for text in texts if text.strip()]
    if texts and all(text.lower() in _WORDS for text in texts):
        return "words"
    numbers = [_number(text) for text in texts]
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(texts):
        return None
    if all(0 <= number < 256 for number in known) and any(number >= 64 for number in known):
        return "opc-da"
    return "opc-ua" if all(number == 0 or number >= 1 << 30 for number in known) and any(known) else None


def _number(text: str) -> int | None:
    match = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,8})|(\d{1,10})(?:\.0+)?", text.strip())
    return None if match is None else int(match[1], 16) if match[1] else int(match[2])


def _status(text: str, scheme: str) -> int:
    """The status of one quality; what doesn't belong to the scheme is uncertain, never good."""
    if scheme == "words":
        return _WORDS.get(text.strip().lower(), UNCERTAIN)
    number = _number(text)
    if number is None:
        return UNCERTAIN
    if scheme == "opc-da":
        return {3: GOOD, 1: UNCERTAIN}.get((number & 0xC0) >> 6, BAD)
    return number if number < 1 << 32 else UNCERTAIN


def units_in(signals: Any, units: Any, known: dict[str, str]) -> dict[str, str]:
    """The unit of each signal that ``known`` lacks, by its first row with one; they are added to ``known``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs = pa.table({"signal": signals, "unit": pc.utf8_trim_whitespace(units)})
    found: dict[str, str] = {}
    for row in pairs.group_by(["signal", "unit"], use_threads=False).aggregate([]).to_pylist():
        if row["signal"] and row["unit"] and row["signal"] not in known:
            found[row["signal"]] = known[row["signal"]] = row["unit"]
    return found


def narrow_rows(
    narrow: Narrow,
    signals: Any,
    values: Any,
    qualities: Any | None,
    instants: Any,
    receive: int,
    typed: Callable[[str, Any], Any],
) -> pa.RecordBatch:
    """Readings of such rows, in their order. ``typed`` gives the values of one signal their type (int64, float64 or text).

    In place of a value may stand what a historian writes when it has none (:data:`_STATES`): such a reading is bad and has no value,
    and the signal's other values keep their type.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = reading_schema()
    size = len(signals)
    if pa.types.is_string(values.type):
        states = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), pa.array(_STATES))
        values = pc.if_else(states, pa.scalar(None, pa.string()), values)
    codes = pc.dictionary_encode(signals)
    names = codes.dictionary.to_pylist()
    numbers = codes.indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    edges = np.flatnonzero(np.diff(numbers[order])) + 1
    homes: dict[str, list[Any]] = {name: [] for name in ("value_i64", "value_f64", "value_text", "value_bool")}
    for place in np.split(order, edges) if size else ():
        column = typed(names[numbers[place[0]]], values.take(pa.array(place)))
        home = (
            "value_i64"
            if pa.types.is_integer(column.type)
            else "value_f64"
            if pa.types.is_floating(column.type)
            else "value_bool"
            if pa.types.is_boolean(column.type)
            else "value_text"
        )
        for name, pieces in homes.items():
            type_ = schema.field(name).type
            pieces.append(column.cast(type_) if name == home else pa.nulls(len(place), type_))
    back = np.empty(size, np.int64)
    back[order] = np.arange(size)
    made = {
        name: pa.concat_arrays(pieces).take(pa.array(back)) if pieces else pa.nulls(size, schema.field(name).type)
        for name, pieces in homes.items()
    }
    valid = np.zeros(size, bool)
    for column in made.values():
        valid |= pc.is_valid(column).to_numpy(zero_copy_only=False)
    status = np.where(valid, GOOD, BAD).astype(np.uint32)
    if qualities is not None and narrow.scheme is not None:
        words = pc.dictionary_encode(pc.fill_null(qualities.cast(pa.string()), ""))
        table = np.array([_status(text, narrow.scheme) for text in words.dictionary.to_pylist()], np.uint32)
        if size:
            status = np.where(valid, table[words.indices.to_numpy()], BAD).astype(np.uint32)
    time_type = schema.field("source_time").type
    columns = {
        **made,
        "signal": signals.cast(schema.field("signal").type),
        "source_time": instants.cast(time_type),
        "server_time": pa.nulls(size, time_type),
        "receive_time": pa.array(np.full(size, receive), pa.int64()).cast(time_type),
        "status": pa.array(status),
        "sequence": pa.nulls(size, pa.int64()),
    }
    return pa.RecordBatch.from_arrays([columns[field.name] for field in schema], schema=schema)
