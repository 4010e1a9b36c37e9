"""Mappings at work: the named transformations applied to columns. Free code is never run."""

from __future__ import annotations

from collections.abc import Mapping as Facts
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guantong.base.units import convert
from guantong.fuse.aimc import signal_of
from guantong.fuse.catalogue import Catalogue
from guantong.fuse.findings import stable_id
from guantong.fuse.model import Bits, Correction, Join, Lookup, Mapping, Offset, Scale, Split, Transformation, Unit

if TYPE_CHECKING:
    import numpy as np

    from guantong.fuse.readings import Piece

    Ints = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["Applied", "apply_mappings", "hash_of", "transform_numbers", "transform_texts"]


@dataclass(slots=True)
class Applied:
    """What mappings did to a chunk."""

    corrections: list[Correction] = field(default_factory=list)
    signals: dict[str, list[int]] = field(default_factory=dict)
    """Signals of each correction."""
    rows: list[tuple[Ints, str]] = field(default_factory=list)
    """Rows that each correction changed."""


def transform_numbers(values: Any, steps: tuple[Transformation, ...]) -> Any:
    """Numbers (float64 array or float) through the steps; a lookup leaves numbers alone."""
    for step in steps:
        if isinstance(step, Scale):
            values = values * step.factor
        elif isinstance(step, Offset):
            values = values + step.by
        elif isinstance(step, Unit):
            values = convert(values, step.source, step.target)
    return values


def transform_texts(values: list[str | None], steps: tuple[Transformation, ...]) -> list[str | None]:
    """Texts through the steps; only lookups change them."""
    for step in steps:
        if isinstance(step, Lookup):
            table = dict(step.pairs)
            values = [value if value is None else table.get(value, value) for value in values]
    return values


def apply_mappings(piece: Piece, catalogue: Catalogue, mappings: Facts[str, tuple[Mapping, int]]) -> Applied:
    """Change the piece's values in place of the columns; the log has the values as they came."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    applied = Applied()
    for name, (mapping, version) in sorted(mappings.items()):
        if not mapping.transformations or isinstance(mapping.transformations[0], Bits | Split | Join):
            continue  # those make signals of their own: structure.py
        place = signal_of(mapping.sources[0].reference)
        signal = catalogue.find(*place) if place else None
        rows = np.flatnonzero(piece.signal == signal.id) if signal else np.zeros(0, np.int64)
        if signal is None or not len(rows):
            continue
        table = piece.table
        numbers = pc.coalesce(table["value_f64"], table["value_i64"].cast(pa.float64(), safe=False))
        numeric = pc.is_valid(numbers).to_numpy()
        mine = rows[numeric[rows]]
        if len(mine) and not all(isinstance(step, Lookup) for step in mapping.transformations):
            values = pc.fill_null(table["value_f64"], np.nan).to_numpy().copy()
            valid = pc.is_valid(table["value_f64"]).to_numpy().copy()
            values[mine] = transform_numbers(numbers.to_numpy()[mine], mapping.transformations)
            valid[mine] = True
            whole = pc.is_valid(table["value_i64"]).to_numpy().copy()
            whole[mine] = False  # one value a row: an integer that was scaled is a float now
            table = _put(table, "value_f64", pa.array(values, mask=~valid))
            table = _put(
                table, "value_i64", pc.if_else(pa.array(whole), table["value_i64"], pa.scalar(None, pa.int64()))
            )
        if any(isinstance(step, Lookup) for step in mapping.transformations):
            texts = table["value_text"].to_pylist()
            new = transform_texts([texts[row] for row in rows.tolist()], mapping.transformations)
            for row, text in zip(rows.tolist(), new, strict=True):
                texts[row] = text
            table = _put(table, "value_text", pa.array(texts, pa.string()))
        piece.table = table
        units = [step.target for step in mapping.transformations if isinstance(step, Unit)]
        if units:
            catalogue.set_unit(signal.id, units[-1])
        times = table["source_time"].cast(pa.int64()).to_numpy()[rows]
        fix = Correction(
            stable_id("fix-mapping", signal.source, signal.native_id, hash_of(name, version)),
            "mapping",
            signal.source,
            signal.native_id,
            int(times.min()),
            int(times.max()),
            {"mapping": name, "version": version},
            f"mapping.{name}"[:64],
            version,
        )
        applied.corrections.append(fix)
        applied.signals[fix.id] = [signal.id]
        applied.rows.append((rows, fix.id))
    return applied


def hash_of(name: str, version: int) -> int:
    """A number that stands for this version of the mapping in the id of its correction."""
    return int.from_bytes(f"{name}@{version}".encode()[:64], "big")


def _put(table: Any, name: str, column: Any) -> Any:
    return table.set_column(table.schema.get_field_index(name), name, column)
