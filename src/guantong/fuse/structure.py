"""Bits, split and join at work: values that a mapping takes out of others, or puts together, become signals of their own.

They work on rows as they are kept, after every correction in place, so that a repeated reading makes no second value and a revised one
makes a revision. A value that can't be had is missing and bad, never zero. Join takes what was read together: the same source time in the
same entry of the log, whatever the chunks that fusion reads the log in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Facts
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guantong.base.batch import BAD
from guantong.fuse.aimc import signal_of
from guantong.fuse.catalogue import Catalogue
from guantong.fuse.findings import stable_id
from guantong.fuse.mapping import hash_of, transform_numbers, transform_texts
from guantong.fuse.model import Bits, Correction, Join, Mapping, Signal, Split, Transformation, Unit

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Ints = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["Derived", "derive", "is_structural"]

_TYPES = {"number": "f64", "integer": "i64", "text": "text", "bool": "bool"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,19}")

Values = list[Any]
"""One value a row: int, float, str, bool or None."""


@dataclass(slots=True)
class Derived:
    """What structural mappings made of a chunk."""

    tables: list[pa.Table] = field(default_factory=list)
    """Rows as keep stores them."""
    corrections: list[tuple[Correction, list[int]]] = field(default_factory=list)
    """Each with the signals that it made."""
    origins: list[tuple[int, int]] = field(default_factory=list)
    """(signal, signal derived from it)."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by source."""


def is_structural(mapping: Mapping) -> bool:
    """Whether it makes signals of its own; other mappings change values in place."""
    return bool(mapping.transformations) and isinstance(mapping.transformations[0], Bits | Split | Join)


def derive(made: pa.Table, catalogue: Catalogue, mappings: Facts[str, tuple[Mapping, int]]) -> Derived:
    """The rows that structural mappings add to kept ones."""
    import numpy as np

    done = Derived()
    numbers = None
    for _, (mapping, version) in sorted(mappings.items()):
        if not is_structural(mapping):
            continue
        found = [
            catalogue.find(*place) if place else None
            for place in (signal_of(source.reference) for source in mapping.sources)
        ]
        sources = [signal for signal in found if signal is not None]
        if len(sources) < len(mapping.sources):
            continue  # a source that has not spoken yet
        numbers = made["signal_id"].to_numpy() if numbers is None else numbers
        rows = [np.flatnonzero(numbers == signal.id) for signal in sources]
        step, *after = mapping.transformations
        columns: list[tuple[Values, str]]
        if isinstance(step, Join):
            together = _together(made, rows)
            if not len(together[0]):
                continue
            columns = [(_joined(made, together, step), step.kind)] * len(mapping.sinks)
            where = together[-1]
            status = np.max([made["status"].to_numpy()[one] for one in together], axis=0)
        else:
            where = rows[0]
            if not len(where):
                continue
            columns = _bits(made, where, step) if isinstance(step, Bits) else _pieces(made, where, step)  # type: ignore[arg-type]
            status = made["status"].to_numpy()[where]
        _add(done, made, catalogue, mapping, version, sources, columns, where, status, tuple(after))
    return done


def _add(
    done: Derived,
    made: pa.Table,
    catalogue: Catalogue,
    mapping: Mapping,
    version: int,
    sources: Sequence[Signal],
    columns: Sequence[tuple[Values, str]],
    where: Ints,
    status: Ints,
    after: tuple[Transformation, ...],
) -> None:
    import numpy as np
    import pyarrow as pa

    times = made["source_time"].cast(pa.int64()).to_numpy()[where] * 1000
    first = sources[0]
    fix = Correction(
        stable_id("fix-mapping", first.source, mapping.name, hash_of(mapping.name, version)),
        "mapping",
        first.source,
        first.native_id,
        int(times.min()),
        int(times.max()) + 999,
        {"mapping": mapping.name, "version": version},
        f"mapping.{mapping.name}"[:64],
        version,
    )
    base = made.take(pa.array(where))
    marks = [f"{old} {fix.id}" if old else fix.id for old in base["corrections"].to_pylist()]
    units = [one.target for one in after if isinstance(one, Unit)]
    ids = []
    for sink, (raw, kind) in zip(mapping.sinks, columns, strict=True):
        values, type_ = _finished(raw, kind, after)
        place = signal_of(sink.reference) or (first.source, f"{mapping.name}#{sink.id}")
        number = catalogue.derived(*place, name=sink.id, like=first, type=type_, unit=units[-1] if units else "")
        ids.append(number)
        missing = np.array([value is None for value in values], bool)
        bad = np.where(missing, np.maximum(status, BAD), status)
        table = base
        fresh = {
            "signal_id": pa.array(np.full(len(where), number), pa.int32()),
            "status": pa.array(bad, pa.int64()),
            "corrections": pa.array(marks, pa.string()),
            **{
                f"value_{home}": pa.array(values, kept) if home == type_ else pa.nulls(len(where), kept)
                for home, kept in (
                    ("f64", pa.float64()), ("i64", pa.int64()), ("text", pa.string()), ("bool", pa.bool_())
                )
            },
        }  # fmt: skip
        for name, column in fresh.items():
            index = table.schema.get_field_index(name)
            table = table.set_column(index, table.schema.field(index), column)
        done.tables.append(table)
        done.counts[place[0]] = done.counts.get(place[0], 0) + len(where)
        done.origins += [(source.id, number) for source in sources]
    done.corrections.append((fix, ids))


def _finished(values: Values, kind: str, after: tuple[Transformation, ...]) -> tuple[Values, str]:
    """Values after the further steps, and their type."""
    type_ = _TYPES[kind]
    if not after:
        return values, type_
    if type_ == "text":
        return transform_texts(values, after), type_
    found = [None if value is None else float(transform_numbers(float(value), after)) for value in values]
    return [value if value is not None and abs(value) < float("inf") else None for value in found], "f64"


def _plain(made: pa.Table, rows: Ints) -> Values:
    """The one value of each row."""
    import pyarrow as pa

    part = made.select(["value_i64", "value_f64", "value_text", "value_bool"]).take(pa.array(rows)).to_pydict()
    return [next((one for one in row if one is not None), None) for row in zip(*part.values(), strict=True)]


def _bits(made: pa.Table, rows: Ints, step: Bits) -> list[tuple[Values, str]]:
    words = [_whole(value) for value in _plain(made, rows)]
    return [
        (
            [None if word is None else bool(word >> first & 1) for word in words]
            if width == 1
            else [None if word is None else (word >> first) & ((1 << width) - 1) for word in words],
            "bool" if width == 1 else "integer",
        )
        for _, first, width in step.fields
    ]


def _whole(value: Any) -> int | None:
    """A word of bits; a whole number that came as a float is one."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1 << 53 else None
    return value if isinstance(value, int) else None


def _pieces(made: pa.Table, rows: Ints, step: Split) -> list[tuple[Values, str]]:
    cut: list[list[str] | None] = []
    for value in _plain(made, rows):
        pieces = value.split(step.separator) if isinstance(value, str) else None
        cut.append(pieces if pieces is not None and len(pieces) == len(step.kinds) else None)
    return [
        ([None if pieces is None else typed(pieces[place], kind) for pieces in cut], kind)
        for place, kind in enumerate(step.kinds)
    ]


def typed(text: str, kind: str) -> Any:
    """A text as the kind that a mapping says it is; None where it isn't."""
    if kind == "text":
        return text
    text = text.strip()
    if kind == "integer":
        found = int(text) if _WHOLE.fullmatch(text) and text.isascii() else None
        return found if found is not None and -(1 << 63) <= found < 1 << 63 else None
    number = float(text) if _NUMBER.fullmatch(text) and text.isascii() else None
    return number if number is not None and abs(number) < float("inf") else None


def _together(made: pa.Table, rows: Sequence[Ints]) -> list[Ints]:
    """For each source the rows that were read together, in order; of several of one source the last counts."""
    import numpy as np
    import pyarrow as pa

    time = made["source_time"].cast(pa.int64()).to_numpy() * 1000 + made["source_ns"].to_numpy()
    entry = made["log_position"].to_numpy()
    found = [
        {(at, position): row for at, position, row in zip(time[one].tolist(), entry[one].tolist(), one.tolist(), strict=True)}
        for one in rows
    ]  # fmt: skip
    keys = sorted(set(found[0]).intersection(*found[1:]), key=lambda key: (key[1], key[0]))
    return [np.array([one[key] for key in keys], np.int64) for one in found]


def _joined(made: pa.Table, together: Sequence[Ints], step: Join) -> Values:
    columns = [_plain(made, rows) for rows in together]
    return [
        None if any(value is None for value in row) else typed(step.separator.join(map(_text, row)), step.kind)
        for row in zip(*columns, strict=True)
    ]


def _text(value: Any) -> str:
    return (
        ("true" if value else "false") if isinstance(value, bool) else value if isinstance(value, str) else repr(value)
    )
