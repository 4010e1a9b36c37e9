"""SHDR, the line protocol between a machine's adapter and an MTConnect agent: lines in, readings out, nothing guessed.

Forms of a line, as the NIST recordings and the adapter guide of the C++ agent have them: ``time|key|value``; several ``key|value``
pairs behind one time; a condition with ``time|key|level|native code|native severity|qualifier|text``; a message with
``time|key|native code|text``. The device model says which keys are conditions and messages; without one, a line of seven fields whose
third is a level is a condition, and a line of four is one that was cut. Times have no, three, six, seven or nine fractional digits and may carry ``@duration``.

What can't be read is quarantined with its offset and reason. Broken lines of a recording are put together in ``wrapped.py``; a line that
another was broken off from in a way that is not known there is quarantined as well, because its last value may be cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.batch import BAD, GOOD
from guantong.base.clock import NS, parse_iso
from guantong.base.errors import Skippable
from guantong.connect.columns import Readings, Value
from guantong.connect.wrapped import SCREEN_WIDTHS

__all__ = ["LEVELS", "Condition", "Instants", "Item", "ShdrParser", "condition", "typed"]

LEVELS = frozenset({"NORMAL", "WARNING", "FAULT", "UNAVAILABLE"})
"""Levels of a condition (MTConnect Part 3, condition states), in any case on the wire."""

CONDITION_FIELDS = 7

_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+", re.ASCII)
_NOT_FINITE = frozenset(
    {"nan", "+nan", "-nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "-1.#ind", "1.#inf", "1.#qnan"}
)
_YEAR_FRAGMENT = re.compile(r"20\d\d\d*(?:\.\d*)?", re.ASCII)
_STARTS_WITH_TIME = re.compile(r"\s*\d{4}-\d\d-\d\dT", re.ASCII)
_MARKERS = ("<<<<<<<", "=======", ">>>>>>>")

_UNKNOWN = object()
SCALE = tuple(10 ** (9 - digits) for digits in range(10))

Quarantine = Callable[[int, str, str], None]


@dataclass(frozen=True, slots=True)
class Item:
    """What the device model says of a key."""

    category: str
    """SAMPLE, EVENT or CONDITION."""
    type: str = ""
    numeric: bool | None = None
    """Whether values are numbers; None: as each value looks."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as stated: level and what the control says of it."""

    level: str
    """NORMAL, WARNING, FAULT."""
    native_code: str = ""
    native_severity: str = ""
    qualifier: str = ""
    text: str = ""


def condition(value: str) -> Condition:
    """The condition in a reading's text: ``LEVEL`` or ``LEVEL|native code|native severity|qualifier|text``."""
    fields = value.split("|", 4)
    return Condition(*fields)


def typed(text: str) -> Value:
    """A value in its own type: int64 if written as one, float64 if written as a decimal, else the text unchanged.

    A whole number with leading zeros or beyond 64 bits stays text. Raises Skippable ``connect.not-finite`` for NaN and infinities.
    """
    if _WHOLE.fullmatch(text):
        whole = int(text)
        return whole if -(1 << 63) <= whole < 1 << 63 else text
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number - number != 0.0:
            raise Skippable("connect.not-finite", text=text[:40])
        return number
    if text.lower() in _NOT_FINITE:
        raise Skippable("connect.not-finite", text=text[:40])
    return text


_SPAN = (1 << 63) - 61 * NS
"""Instants are signed 64-bit nanoseconds: years 1678 to 2261. A machine that writes another has no time."""


class Instants:
    """Reads RFC 3339 times fast: what many readings share, the minute and the second, is worked out once."""

    def __init__(self) -> None:
        self.seconds: dict[str, int] = {}
        """Text up to the seconds, to ns since the epoch; only for times written with Z."""
        self._minutes: dict[str, int] = {}

    def second(self, prefix: str) -> int | None:
        """Nanoseconds since the epoch of ``YYYY-MM-DDTHH:MM:SS`` in UTC, None if it is no time."""
        whole = self.seconds.get(prefix)
        if whole is not None:
            return whole
        minute = self._minutes.get(prefix[:17])
        rest = prefix[17:19]
        if minute is None:
            try:
                minute = parse_iso(prefix[:17] + "00Z")
            except Skippable:
                return None
            if not -_SPAN < minute < _SPAN:
                return None
            if len(self._minutes) > 10_000:
                self._minutes.clear()
            self._minutes[prefix[:17]] = minute
        if len(rest) != 2 or not (rest.isascii() and rest.isdigit()) or rest > "60":
            return None
        if len(self.seconds) > 50_000:
            self.seconds.clear()
        whole = self.seconds[prefix] = minute + int(rest) * NS
        return whole

    def read(self, text: str) -> int | None:
        """Nanoseconds since the epoch, None if it is no time; ``@duration`` behind it is left aside."""
        stamp = text.strip().partition("@")[0]
        fraction = stamp[20:-1]
        if stamp[-1:] == "Z" and stamp[19:20] == "." and fraction.isdigit() and fraction.isascii():
            whole = self.second(stamp[:19])
            return None if whole is None else whole + int(fraction[:9].ljust(9, "0"))
        try:
            instant = parse_iso(stamp)
        except Skippable:
            return None
        return instant if -_SPAN < instant < _SPAN else None


class ShdrParser:
    """Turns lines into readings. It keeps what a stream needs: the conflict it stands in, and small caches."""

    def __init__(self, items: Mapping[str, Item] | None = None, *, recording: bool = False) -> None:
        self._items = items or {}
        self._recording = recording
        self._instants = Instants()
        self._values: dict[str, Any] = {}
        self._in_conflict = False
        self.fields: dict[int, int] = {}
        """How many lines of so many fields gave readings."""

    def feed(
        self,
        lines: Sequence[str],
        offsets: Sequence[int],
        receive: int,
        rows: Readings,
        quarantine: Quarantine,
        *,
        upto: int | None = None,
    ) -> tuple[int, int]:
        """Parse ``lines[:upto]`` (without line ends; later ones are only looked at) and append their readings to ``rows``.

        offsets: where each line begins in the source. receive: receive time in ns. Empty lines count as nothing. Returns how many lines
        were read and how many of them gave readings; ``quarantine(offset, reason, text)`` is called once for each other line.
        """
        count = parsed = usual = 0
        last = len(lines) - 1
        recording = self._recording
        seconds, second, values = self._instants.seconds, self._instants.second, self._values
        unknown: Any = _UNKNOWN
        plain = not self._items
        signal_add, source_add = rows.signal.append, rows.source.append
        server_add, receive_add = rows.server.append, rows.receive.append
        number_add, whole_add = rows.number.append, rows.whole.append
        text_add, flag_add = rows.text.append, rows.flag.append
        status_add, sequence_add = rows.status.append, rows.sequence.append
        for index in range(len(lines) if upto is None else upto):
            line = lines[index]
            if line.endswith("\r"):
                line = line[:-1]
            if not line or line.isspace():
                continue
            count += 1
            if line[0] in "<=>" or self._in_conflict:
                if line.startswith(_MARKERS):
                    self._in_conflict = line.startswith(_MARKERS[:2])
                    quarantine(offsets[index], "conflict", line)
                    continue
                if self._in_conflict:
                    quarantine(offsets[index], "conflict", line)
                    continue
            if recording and index < last:
                following = lines[index + 1]
                # the usual next line begins with a date: nothing to judge
                if (following[4:5] != "-" or following[10:11] != "T") and self._broken(line, following):
                    quarantine(offsets[index], "broken-by-wrap", line)
                    continue
            fields = line.split("|")
            # the usual line, without a call: time|key|value with a fraction and a Z
            if plain and len(fields) == 3:
                time, key, text = fields
                fraction = time[20:-1]
                if key and time[-1:] == "Z" and time[19:20] == "." and fraction.isdigit() and fraction.isascii():
                    whole = seconds.get(time[:19])
                    if whole is None:
                        whole = second(time[:19])
                    value = values.get(text, unknown)
                    if value is unknown and text.isascii():
                        value = self._remember(text)
                    if (
                        whole is not None
                        and value is not unknown
                        and len(fraction) < 10
                        and key.strip() == key
                        and key[0] != "@"
                    ):
                        kind = type(value)
                        signal_add(key)
                        source_add(whole + int(fraction) * SCALE[len(fraction)])
                        server_add(None)
                        receive_add(receive)
                        number_add(value if kind is float else None)
                        whole_add(value if kind is int else None)
                        text_add(value if kind is str else None)
                        flag_add(None)
                        status_add(GOOD if value is not None else BAD)
                        sequence_add(None)
                        usual += 1
                        continue
            reason = self._line(fields, receive, rows)
            if reason is None:
                parsed += 1
                self.fields[len(fields)] = self.fields.get(len(fields), 0) + 1
            else:
                quarantine(offsets[index], reason, line)
        if usual:
            self.fields[3] = self.fields.get(3, 0) + usual
        return count, parsed + usual

    def _broken(self, line: str, following: str) -> bool:
        following = following.strip()
        if not following or _STARTS_WITH_TIME.match(following):
            return False
        return (len(line) in SCREEN_WIDTHS and not following.startswith(_MARKERS)) or (
            _YEAR_FRAGMENT.fullmatch(following) is not None and "|" in line
        )

    def _line(self, fields: list[str], receive: int, rows: Readings) -> str | None:
        """Append the readings of a line, or return why it can't be used; then nothing of it is appended."""
        time = self._instants.read(fields[0])
        if time is None:
            return "time"
        found: list[tuple[str, Value]] = []
        place, end = 1, len(fields)
        if end < 3:
            return "fields"
        try:
            while place < end:
                key = fields[place].strip()
                if key.startswith("@"):
                    return "asset"
                width = self._width(key, fields, place)
                if place + width >= end:
                    return "fields"
                if not key:
                    return "empty-key"
                if width == 1:
                    found.append((key, self._value(key, fields[place + 1])))
                elif width == 2:  # a message: native code and text
                    code, text = fields[place + 1], fields[place + 2]
                    empty = text.upper() == "UNAVAILABLE"
                    found.append((key, None if empty else f"{code}|{text}" if code else text))
                else:
                    level = fields[place + 1].strip().upper()
                    if level not in LEVELS:
                        return "unknown"
                    rest = fields[place + 2 : place + 6]
                    value = "|".join([level, *rest]) if any(rest) else level
                    found.append((key, None if level == "UNAVAILABLE" else value))
                place += width + 1
        except Skippable as error:
            return error.code.partition(".")[2]
        for name, reading in found:
            rows.append(name, time, receive, reading)
        return None

    def _width(self, key: str, fields: list[str], place: int) -> int:
        """How many fields follow the key: 5 for a condition, 2 for a message, else 1."""
        item = self._items.get(key)
        if item is not None:
            return 5 if item.category == "CONDITION" else 2 if item.type == "MESSAGE" else 1
        if len(fields) == CONDITION_FIELDS and place == 1:
            level = fields[2].strip().upper()
            if level in LEVELS and (level != "UNAVAILABLE" or not (fields[3] or fields[5])):
                return 5
        return 1

    def _value(self, key: str, text: str) -> Value:
        """The value of a key; None where it is UNAVAILABLE in any case."""
        item = self._items.get(key)
        if item is not None and item.numeric is not None:
            if text.strip().upper() == "UNAVAILABLE":
                return None
            if not item.numeric:
                return text
            value = typed(text.strip())
            if item.category == "SAMPLE":
                if isinstance(value, int):
                    return float(value) if abs(value) <= 1 << 53 else value
                if isinstance(value, str) and text.strip() and not _coordinates(text):
                    raise Skippable("connect.not-a-number", text=text[:40])
            return value
        value = self._values.get(text, _UNKNOWN)
        return typed(text) if (value is _UNKNOWN and (value := self._remember(text)) is _UNKNOWN) else value

    def _remember(self, text: str) -> Any:
        """The value of a text, kept for the next one alike; _UNKNOWN where it is none (``typed`` then says why)."""
        value: Any
        try:
            value = None if text.strip().upper() == "UNAVAILABLE" else typed(text)
        except Skippable:
            return _UNKNOWN
        if len(self._values) > 50_000:
            self._values.clear()
        self._values[text] = value
        return value


def _coordinates(text: str) -> bool:
    """Whether the text is several numbers with blanks between them, as a three-dimensional position is written."""
    parts = text.split()
    return len(parts) > 1 and all(_WHOLE.fullmatch(part) or _NUMBER.fullmatch(part) for part in parts)
