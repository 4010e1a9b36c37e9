"""CSV and Parquet: what a file says by its own form is found out and shown, not assumed.

A file with a time column becomes readings, one signal a column; any other becomes a table. Days and months that could be either way
round in the whole column are not guessed: such a file becomes a table until its interface says ``time_format``.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guantong.base.batch import reading_schema
from guantong.base.clock import NS, parse_iso
from guantong.base.errors import ConfigProblem, Skippable
from guantong.connect.delivery import Delivery
from guantong.connect.encoded import SPOILT, Utf8, encoding_of
from guantong.connect.model import Interface
from guantong.connect.narrow import Narrow, find_narrow, narrow_rows, units_in
from guantong.connect.parquet import parquet_pieces
from guantong.connect.pieces import Piece, melt

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CsvForm", "find_form", "read_tabular", "time_reader"]

_SAMPLE_BYTES = 256 * 1024
_DELIMITERS = ",;\t|"
_MISSING = ("", "NaN", "nan", "NA", "N/A", "null", "NULL", "None", "-")
_TIME_NAMES = re.compile(r"(?i)time|date|stamp|^ts$|时间|日期|时刻")
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LEADING_ZERO = r"^[+-]?0\d"
_CLOCK = r"(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp][Mm])?)?"

FORMATS: tuple[tuple[str, str, str], ...] = (
    ("ISO 8601", r"(\d{4})-(\d{1,2})-(\d{1,2})" + _CLOCK + r"\s*(?:Z|[+-]\d\d:?\d\d)?", "ymd"),
    ("YYYY/MM/DD", r"(\d{4})/(\d{1,2})/(\d{1,2})" + _CLOCK, "ymd"),
    ("YYYY.MM.DD", r"(\d{4})\.(\d{1,2})\.(\d{1,2})" + _CLOCK, "ymd"),
    ("YYYY年MM月DD日", r"(\d{4})年(\d{1,2})月(\d{1,2})日" + _CLOCK.replace("[ T]+", r"\s*"), "ymd"),
    ("DD/MM/YYYY", r"(\d{1,2})/(\d{1,2})/(\d{4})" + _CLOCK, "dmy"),
    ("MM/DD/YYYY", r"(\d{1,2})/(\d{1,2})/(\d{4})" + _CLOCK, "mdy"),
    ("DD.MM.YYYY", r"(\d{1,2})\.(\d{1,2})\.(\d{4})" + _CLOCK, "dmy"),
    ("DD-MM-YYYY", r"(\d{1,2})-(\d{1,2})-(\d{4})" + _CLOCK, "dmy"),
    ("MM-DD-YYYY", r"(\d{1,2})-(\d{1,2})-(\d{4})" + _CLOCK, "mdy"),
)
"""Names of the forms of a time, their pattern, and the order of year, month and day in it."""

ReadTime = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written."""

    encoding: str
    bom: bool
    delimiter: str
    decimal: str
    header: bool
    columns: tuple[str, ...]
    time_column: str | None
    """None: no column that reads as time all through."""
    time_format: str | None
    """A name of FORMATS, a strptime form, ``epoch s``, ``epoch ms``; ``ambiguous`` where day and month could be either way round."""
    narrow: Narrow | None = None
    """Which column is what, where each row is one reading of the signal that it names."""

    def facts(self) -> dict[str, Any]:
        """What was found out, for the account of the file."""
        return {
            "encoding": self.encoding,
            "bom": self.bom,
            "delimiter": self.delimiter,
            "decimal": self.decimal,
            "header": self.header,
            "columns": len(self.columns),
            "time_column": self.time_column,
            "time_format": self.time_format,
            **(self.narrow.facts() if self.narrow is not None else {}),
        }


def time_reader(form: str, zone: str | None = None) -> ReadTime:
    """A function from text to ns since the epoch, None for text that is no time of that form. ``zone``: +HH:MM, absent means UTC."""
    shift = 0
    if zone:
        match = re.fullmatch(r"([+-])(\d\d):?(\d\d)", zone)
        if match is None:
            raise ConfigProblem("connect.address-unusable", base=zone, reason="a zone is written +HH:MM")
        shift = (-1 if match[1] == "-" else 1) * (int(match[2]) * 3600 + int(match[3]) * 60) * NS
    if form in ("epoch s", "epoch ms"):
        unit = NS if form == "epoch s" else 1_000_000
        return lambda text: round(float(text) * unit) if re.fullmatch(_DECIMAL, text) else None
    known = next((entry for entry in FORMATS if entry[0] == form), None)
    if known is None:
        return lambda text: _strptime(text, form, shift)
    pattern, order = re.compile(known[1], re.ASCII if "年" not in known[1] else 0), known[2]

    def read(text: str) -> int | None:
        text = text.strip()
        match = pattern.fullmatch(text)
        if match is None:
            return None
        if form == "ISO 8601" and (text[-1] in "Zz" or re.search(r"[+-]\d\d:?\d\d$", text[10:])):
            try:
                return parse_iso(text)
            except Skippable:
                return None
        parts = dict(zip(order, match.groups()[:3], strict=True))
        hour, minute, second, fraction, half = match.groups()[3:8]
        hours = int(hour or 0)
        if half:
            hours = hours % 12 + (12 if half.upper() == "PM" else 0)
        try:
            moment = datetime(
                int(parts["y"]), int(parts["m"]), int(parts["d"]), hours, int(minute or 0), int(second or 0), tzinfo=UTC
            )
        except ValueError:
            return None
        return int(moment.timestamp()) * NS + int((fraction or "0").ljust(9, "0")) - shift

    return read


def _strptime(text: str, form: str, shift: int) -> int | None:
    try:
        moment = datetime.strptime(text.strip(), form)  # noqa: DTZ007 - the zone is added below
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    else:
        shift = 0
    return int(moment.replace(microsecond=0).timestamp()) * NS + moment.microsecond * 1000 - shift


def find_form(path: Path, interface: Interface) -> CsvForm:
    """How the file is written, by its beginning and, for day and month, by its whole time column.

    Raises ConfigProblem ``connect.file-unreadable``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
    try:
        return _form_in(raw, path, interface)
    except (csv.Error, LookupError) as error:  # an unknown encoding, a field beyond csv's own limit
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=str(error)[:200]) from error


def _form_in(raw: bytes, path: Path, interface: Interface) -> CsvForm:
    encoding, bom = encoding_of(raw, interface.term("encoding"))
    text = raw.decode(encoding, "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")[:200]
    if len(raw) == _SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason="it is empty")
    delimiter = interface.term("delimiter") or _delimiter(lines)
    rows = list(csv.reader(lines, delimiter=delimiter))
    width = max({len(row) for row in rows}, key=[len(row) for row in rows].count)
    rows = [row for row in rows if len(row) == width]
    decimal = interface.term("decimal") or _decimal_mark(rows, delimiter)
    header = _has_header(rows, decimal)
    columns = _unique(rows[0] if header else [f"column_{number + 1}" for number in range(width)])
    body = rows[1:] if header else rows
    column, form = _time_column(columns, body, interface)
    if form == "either":
        form = _day_or_month(path, encoding, delimiter, columns.index(column or ""), header)
    narrow = None
    if _as_readings(column, form, interface):
        narrow = find_narrow(columns, column, interface, lambda name: [row[columns.index(name)] for row in body])
    return CsvForm(encoding, bom, delimiter, decimal, header, tuple(columns), column, form, narrow)


async def read_tabular(path: Path, form: str, delivery: Delivery) -> dict[str, Any]:
    """Read a CSV (``form`` csv) or Parquet file into the delivery; returns the facts found out.

    Raises ConfigProblem ``connect.file-unreadable``.
    """
    pieces: Iterator[Piece]
    if form == "parquet":
        facts, pieces = await asyncio.to_thread(parquet_pieces, path, delivery)
    else:
        found = await asyncio.to_thread(find_form, path, delivery.interface)
        facts = found.facts()
        pieces = _csv(path, found, delivery)
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return facts
        for offset, reason, text in piece.bad:
            delivery.quarantine(offset, reason, text)
        delivery.lines(piece.lines, piece.parsed)
        note: dict[str, Any] = {"file": path.name, "form": facts}
        if piece.kind == "table":
            note["table"] = path.stem
        if piece.units:
            note["units"] = piece.units
        await delivery.send(piece.rows, note, kind=piece.kind)


def _csv(path: Path, form: CsvForm, delivery: Delivery) -> Iterator[Piece]:
    """The file in pieces: text columns from pyarrow's reader, each value then typed by its whole column in the piece."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    bad: list[tuple[int, str, str]] = []

    def refuse(row: Any) -> str:
        bad.append((row.number or 0, "fields", (row.text or "").replace(SPOILT, "\ufffd")))
        return "skip"

    as_readings = _as_readings(form.time_column, form.time_format, delivery.interface)
    read_time = time_reader(form.time_format or "", delivery.interface.term("zone")) if as_readings else None

    def texts(source: Utf8, handler: Any) -> Any:
        return pacsv.open_csv(
            pa.PythonFile(source, "r"),
            read_options=pacsv.ReadOptions(
                column_names=list(form.columns),
                skip_rows=1 if form.header else 0,
                block_size=4 * 1024 * 1024,
                use_threads=False,
            ),
            parse_options=pacsv.ParseOptions(delimiter=form.delimiter, invalid_row_handler=handler),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in form.columns}, strings_can_be_null=False
            ),
        )

    try:
        kinds: dict[str, str] = {}
        units: dict[str, str] = {}
        first = 2 if form.header else 1  # rows are numbered as an editor shows them
        if read_time is None:  # a table keeps one type a column: looked at once through before it is read
            with Utf8(path, form.encoding) as source:
                for batch in texts(source, lambda row: "skip"):
                    whole = batch.filter(pa.array(~_spoilt(batch))) if source.spoilt else batch
                    for name in form.columns:
                        kind = _kind(_present(whole.column(name)), form.decimal)
                        kinds[name] = kind if kinds.get(name, kind) == kind else _wider(kind, kinds[name])
        with Utf8(path, form.encoding) as source:
            for batch in texts(source, refuse):
                refused, bad[:] = list(bad), []
                spoilt = _spoilt(batch) if source.spoilt else None
                cut = _Cut(form, read_time, kinds, units, delivery)
                yield from cut.pieces(batch, refused, spoilt, first)
                first += batch.num_rows
        if bad:
            empty = pa.RecordBatch.from_pylist([], schema=reading_schema())
            yield Piece("readings", empty, len(bad), 0, list(bad))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ConfigProblem("connect.file-unreadable", path=path.name, reason=str(error)[:200]) from error


def _spoilt(batch: pa.RecordBatch) -> Any:
    """Which rows hold bytes that were no text."""
    import numpy as np
    import pyarrow.compute as pc

    found = np.zeros(batch.num_rows, bool)
    for column in batch.columns:
        found |= pc.match_substring(column, SPOILT).to_numpy(zero_copy_only=False)
    return found


@dataclass(frozen=True, slots=True)
class _Cut:
    """Batches of text cut into pieces that a log entry holds."""

    form: CsvForm
    read_time: ReadTime | None
    kinds: dict[str, str]
    """Type of each column of a table, or of each signal in narrow form so far."""
    units: dict[str, str]
    """Units told so far, in narrow form."""
    delivery: Delivery

    def pieces(
        self, batch: pa.RecordBatch, refused: list[tuple[int, str, str]], spoilt: Any, first: int
    ) -> Iterator[Piece]:
        """The batch's pieces; ``first`` is the number of its first row, ``refused`` rows that were left out before it."""
        import pyarrow as pa

        form = self.form
        if spoilt is not None:
            for row in spoilt.nonzero()[0].tolist():
                refused.append((first + row, "not-text", _row_text(batch, row, form.delimiter)))
        if self.read_time is None:
            whole = batch if spoilt is None else batch.filter(pa.array(~spoilt))
            typed = [_typed_column(whole.column(name), form.decimal, self.kinds[name]) for name in form.columns]
            table = pa.RecordBatch.from_arrays(typed, names=list(form.columns))
            yield Piece("table", table, table.num_rows + len(refused), table.num_rows, refused)
            return
        width = 1 if form.narrow is not None else max(1, len(form.columns) - 1)
        step = max(1, self.delivery.settings.file_batch_rows // width)
        for begin in range(0, batch.num_rows, step):
            part = batch.slice(begin, step)
            bad, refused = refused, []
            lines = part.num_rows + sum(1 for _, reason, _ in bad if reason == "fields")
            texts = part.column(form.time_column).to_pylist()
            if spoilt is not None:
                texts = [
                    None if wrong else text for text, wrong in zip(texts, spoilt[begin : begin + step], strict=True)
                ]
            # a year that nanoseconds in 64 bits do not reach is no time either
            times = [None if text is None else self.read_time(text) for text in texts]
            times = [time if time is None or -(1 << 63) <= time < 1 << 63 else None for time in times]
            for row, (text, time) in enumerate(zip(texts, times, strict=True)):
                if text is not None and time is None:
                    bad.append((first + begin + row, "time", text))
            yield self._readings(part, times, bad, lines, first + begin)

    def _readings(
        self, part: pa.RecordBatch, times: list[int | None], bad: list[tuple[int, str, str]], lines: int, first: int
    ) -> Piece:
        import pyarrow as pa

        form, narrow, receive = self.form, self.form.narrow, self.delivery.clock.now()
        if narrow is not None:
            for row, name in enumerate(part.column(narrow.signal).to_pylist()):
                if times[row] is not None and not name.strip():
                    bad.append((first + row, "empty-key", _row_text(part, row, form.delimiter)))
                    times[row] = None
        whole = part.filter(pa.array([time is not None for time in times], pa.bool_()))
        instants = pa.array([time for time in times if time is not None], pa.int64())
        if narrow is None:
            columns = {
                name: _typed_column(whole.column(name), form.decimal)
                for name in form.columns
                if name != form.time_column
            }
            return Piece("readings", melt(columns, instants, receive), lines, whole.num_rows, bad)
        signals = whole.column(narrow.signal)
        units = units_in(signals, whole.column(narrow.unit), self.units) if narrow.unit is not None else {}
        quality = whole.column(narrow.quality) if narrow.quality is not None else None
        rows = narrow_rows(narrow, signals, whole.column(narrow.value), quality, instants, receive, self._typed)
        return Piece("readings", rows, lines, whole.num_rows, bad, units)

    def _typed(self, signal: str, texts: Any) -> Any:
        """Values of one signal, typed by all of them in the piece and what earlier pieces showed."""
        kind = _kind(_present(texts), self.form.decimal)
        self.kinds[signal] = kind = _wider(kind, self.kinds.get(signal, "none")) if kind != "none" else "none"
        return _typed_column(texts, self.form.decimal, kind)


def _row_text(batch: pa.RecordBatch, row: int, delimiter: str) -> str:
    return delimiter.join(str(column[row].as_py()) for column in batch.columns).replace(SPOILT, "\ufffd")


def _present(texts: Any) -> Any:
    """The values of a text column that are not missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(texts)
    return texts.filter(pc.invert(pc.is_in(texts, pa.array(_MISSING))))


def _kind(present: Any, decimal: str) -> str:
    """``none`` for a column without values, ``whole`` or ``decimal`` if every value is such a number, else ``text``.

    Whole numbers with leading zeros are names, not numbers.
    """
    import pyarrow.compute as pc

    if len(present) == 0:
        return "none"
    plain = pc.replace_substring(present, ",", ".") if decimal == "," else present
    if pc.any(pc.match_substring_regex(plain, _LEADING_ZERO)).as_py():
        return "text"
    if pc.all(pc.match_substring_regex(plain, _WHOLE)).as_py():
        return "whole"
    return "decimal" if pc.all(pc.match_substring_regex(plain, _DECIMAL)).as_py() else "text"


def _wider(one: str, other: str) -> str:
    """The kind that holds both."""
    kinds = {one, other} - {"none"}
    return kinds.pop() if len(kinds) == 1 else "decimal" if kinds == {"whole", "decimal"} else "text"


def _typed_column(texts: Any, decimal: str, kind: str | None = None) -> Any:
    """A column of text in its own type (or the given kind); missing values are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(texts)
    bare = pc.if_else(pc.is_in(texts, pa.array(_MISSING)), pa.scalar(None, pa.string()), texts)
    kind = kind or _kind(_present(texts), decimal)
    if kind == "whole":
        return pc.utf8_ltrim(bare, "+").cast(pa.int64())
    if kind == "decimal":
        numbers = pc.replace_substring(bare, ",", ".") if decimal == "," else bare
        return pc.utf8_ltrim(numbers, "+").cast(pa.float64())
    return bare


def _as_readings(column: str | None, form: str | None, interface: Interface) -> bool:
    return column is not None and form not in (None, "ambiguous") and interface.term("as") != "table"


def _delimiter(lines: Sequence[str]) -> str:
    def score(mark: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=mark)]
        usual = max(set(counts), key=counts.count)
        return (counts.count(usual) / len(counts) if usual > 1 else 0.0, usual)

    return max(_DELIMITERS, key=score)


def _decimal_mark(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    cells = [cell.strip() for row in rows for cell in row]
    commas = sum(re.fullmatch(r"[+-]?\d+,\d+", cell) is not None for cell in cells)
    points = sum(re.fullmatch(r"[+-]?\d+\.\d+", cell) is not None for cell in cells)
    return "," if commas > points else "."


def _has_header(rows: Sequence[Sequence[str]], decimal: str) -> bool:
    def numeric(cell: str) -> bool:
        return re.fullmatch(_DECIMAL, cell.strip().replace(decimal, ".")) is not None

    first = rows[0]
    return not any(numeric(cell) for cell in first) and len({*first}) == len(first) and not _form_of([first[0]])


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for number, raw in enumerate(names):
        name = raw.strip() or f"column_{number + 1}"
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found


def _form_of(cells: Sequence[str]) -> list[str]:
    """Forms of FORMATS by which every cell is a time."""
    return [
        name
        for name, *_ in FORMATS
        if cells and all(time_reader(name)(cell) is not None for cell in cells if cell.strip())
    ]


def _time_column(
    columns: Sequence[str], body: Sequence[Sequence[str]], interface: Interface
) -> tuple[str | None, str | None]:
    wanted, form = interface.term("time_column"), interface.term("time_format")
    names = [wanted] if wanted in columns else sorted(columns, key=lambda name: _TIME_NAMES.search(name) is None)
    if wanted and wanted not in columns:
        return None, None
    if wanted and form:  # said, so not doubted: cells that don't fit are quarantined
        return wanted, form
    for name in names:
        assert name is not None
        place = columns.index(name)
        cells = [row[place] for row in body[:100]]
        if not any(cell.strip() for cell in cells):
            continue
        if form is not None:
            read = time_reader(form)
            if all(read(cell) is not None for cell in cells if cell.strip()):
                return name, form
            continue
        forms = _form_of(cells)
        if len(forms) == 1:
            return name, forms[0]
        if forms:
            return name, "either"
        if _TIME_NAMES.search(name) and all(re.fullmatch(r"\d{10}(\.\d+)?", cell.strip()) for cell in cells):
            return name, "epoch s"
        if _TIME_NAMES.search(name) and all(re.fullmatch(r"\d{13}", cell.strip()) for cell in cells):
            return name, "epoch ms"
    return None, None


def _day_or_month(path: Path, encoding: str, delimiter: str, place: int, header: bool) -> str:
    """The one form by which the whole column can be read, or ``ambiguous``."""
    left: list[str] | None = None
    with io.open(path, encoding=encoding, errors="replace", newline="") as file:  # noqa: UP020 - newline is csv's own rule
        rows = csv.reader(file, delimiter=delimiter)
        if header:
            next(rows, None)
        seen: set[str] = set()
        for row in rows:
            cell = row[place].lstrip("\ufeff").strip() if len(row) > place else ""
            day = cell.partition(" ")[0]
            if not cell or day in seen:
                continue
            seen.add(day)
            forms = _form_of([cell])
            if not forms:
                continue
            left = forms if left is None else [name for name in left if name in forms]
            if len(left) == 1:
                return left[0]
    return "ambiguous"
