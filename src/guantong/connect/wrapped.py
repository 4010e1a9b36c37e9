"""Recordings whose lines a screen or a script has broken, put together again where the break can be undone without a guess.

Two kinds of break are known from the recordings of the NIST SMS Test Bed:

- ``wrap``: copied from a terminal. The screen broke each line at its width, inside numbers too, and, since the machine sent line feeds
  without carriage returns, the next line begins where the last one ended: with exactly as many blanks. A line as long as the screen is
  wide goes on in the next one, unless that one begins with a whole time: then it ended at the edge.
- ``year``: a script that gave each reading a line of its own began one at every ``2017``, also at a block number or a run time with
  these digits. A line that consists of a number that begins with the year of the line before it is the end of that line, where both
  together are a number.

What doesn't follow these rules stays as it is: the parser quarantines it. No line of a recording in good order is touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["SCREEN_WIDTHS", "Mended", "Mender"]

SCREEN_WIDTHS = (80, 132)
"""Widths at which terminals break lines."""

_TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^|]*\|", re.ASCII)
_BEGINS = re.compile(r"\d{4}-\d\d-\d\dT", re.ASCII)
_YEAR = re.compile(r"20\d\d\d*(?:\.\d*)?", re.ASCII)
_ENDS = re.compile(r"[^|]+\|[^|]+\|(-?\d*(?:\.\d*)?)", re.ASCII)
_SOUND = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)


@dataclass(slots=True)
class Mended:
    """Lines after mending."""

    lines: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """Where each begins in the source."""
    made: list[tuple[int, str, str]] = field(default_factory=list)
    """Lines that were put together: (offset, ``wrap`` or ``year``, the whole line)."""


class Mender:
    """Mends line by line; what may still go on is held back until the next call or :meth:`rest`."""

    def __init__(self) -> None:
        self._width = 0
        """Of the screen; 0 until the recording has shown one."""
        self._widest = 0
        self._column = 0
        """Where the cursor stood after the last line of a wrapped recording."""
        self._open: tuple[str, int, int] | None = None
        """A line that may go on: its text, its offset, of how many pieces it is made."""
        self._timed: tuple[str, int] | None = None
        """The last line, held back: a number that belongs to it may follow."""

    def feed(self, lines: Sequence[str], offsets: Sequence[int]) -> Mended:
        """The next lines (without line ends) with their offsets."""
        done = Mended()
        odd = [index for index, line in enumerate(lines) if line[10:11] != "T" or line[4:5] != "-"]
        if odd or self._width:
            lines = [line.removesuffix("\r") for line in lines]
        if not self._width and odd:
            self._width = self._screen(lines, odd)
        self._widest = max(self._widest, max(map(len, lines), default=0))
        if self._width and self._widest > self._width:
            self._width = 0  # a longer line: no screen of that width was here
        if self._width:
            self._last(done)
            for line, offset in zip(lines, offsets, strict=True):
                self._wrapped(line, offset, done)
        else:
            self._close(done)
            self._years(lines, offsets, odd, done)
        return done

    def rest(self) -> Mended:
        """What was held back."""
        done = Mended()
        self._close(done)
        self._last(done)
        return done

    def _last(self, done: Mended) -> None:
        if self._timed is not None:
            done.lines.append(self._timed[0])
            done.offsets.append(self._timed[1])
            self._timed = None

    def _screen(self, lines: Sequence[str], odd: Sequence[int]) -> int:
        """The width of the screen that broke these lines, if at least two breaks show one and no line is wider."""
        for width in SCREEN_WIDTHS:
            broken = sum(1 for index in odd if index and len(lines[index - 1]) == width)
            stairs = sum(1 for index in odd if index and 0 < _indent(lines[index]) == len(lines[index - 1]) < width)
            if broken >= 2 and max(map(len, lines)) == width and (stairs or broken == len(odd)):
                return width
        return 0

    def _wrapped(self, line: str, offset: int, done: Mended) -> None:
        if self._open is not None and _TIMED.match(line):
            self._close(done)  # the line before ended at the edge of the screen
        if self._open is None:
            stair = self._column if _indent(line) >= self._column else 0
            text, start, pieces = line[stair:], offset + stair, 1
        else:
            text, start, pieces = self._open[0] + line, self._open[1], self._open[2] + 1
        self._open = (text, start, pieces)
        if len(line) == self._width:
            self._column = 0
            return
        self._column = len(line)
        self._close(done)

    def _close(self, done: Mended) -> None:
        if self._open is None:
            return
        text, offset, pieces = self._open
        self._open = None
        if pieces > 1:
            done.made.append((offset, "wrap", text))
        done.lines.append(text)
        done.offsets.append(offset)

    def _years(self, lines: Sequence[str], offsets: Sequence[int], odd: Sequence[int], done: Mended) -> None:
        """Put back numbers with the year's digits that stand alone; the last line waits for the next call."""
        given, places = list(lines), list(offsets)
        if self._timed is not None:
            given.insert(0, self._timed[0])
            places.insert(0, self._timed[1])
            odd = [index + 1 for index in odd]
        gone = set()
        for index in odd:
            stray = given[index]
            before = given[index - 1].removesuffix("\r") if index and index - 1 not in gone else ""
            if _YEAR.fullmatch(stray) and stray[:4] == before[:4] and _BEGINS.match(before):
                number = _ENDS.fullmatch(before)
                if number and _SOUND.fullmatch(number[1] + stray):
                    given[index - 1] = before + stray
                    done.made.append((places[index - 1], "year", given[index - 1]))
                    gone.add(index)
        if gone:
            places = [place for index, place in enumerate(places) if index not in gone]
            given = [line for index, line in enumerate(given) if index not in gone]
        self._timed = (given.pop(), places.pop()) if given else None
        done.lines += given
        done.offsets += places


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
