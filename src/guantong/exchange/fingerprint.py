"""A fingerprint per agreement in delivered copies of tables, so that a copy found elsewhere names the contract it left under.

Method. The contract states for each series (signal, characteristic) a resolution r: a difference below it means nothing. Values are written
to the grid of r/2, and a keyed bit of each row decides whether the multiple is even or odd: the nearest multiple with that parity is
written, so no value moves by more than r/2 (and a millionth of it, since numbers are floats). The bit is HMAC-SHA256 of the row's own identity (series, time or serial, never its place or
its value) under a random key of the agreement. A copy is compared with every agreement's key: under all keys but its own the parities are
fair coins, whatever the data are.

It survives deletion, reordering, added rows and renamed columns that are named back; it does not survive rounding to r or coarser, noise
beyond r/4, or the loss of the rows' identity. Opt-in: the term ``fingerprint`` of the contract holds this whole statement.
Related: Li, Swarup and Jajodia 2005, "Fingerprinting relational databases" (which marks chosen bits of chosen rows; here every row is
marked, within a resolution that the contract declares).
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select

from guantong.base.canonical import canonical_bytes, sha256
from guantong.base.entry import Entry
from guantong.base.errors import Refused
from guantong.exchange.model import COPY_MARKED
from guantong.exchange.tables import MARKS

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.hosting import Hosting

__all__ = ["FALSE_NAMING", "Found", "Marking", "Marks", "detect", "mark", "read_marking"]

FALSE_NAMING = 1e-6
"""Most probable wrong naming of any agreement in one search, over all agreements together."""
SERIES_MAX = 1000
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Marking:
    """What a contract states about its fingerprint."""

    value: str
    """The column that is marked (float64)."""
    series: str
    """The column that names the series of a row."""
    identity: tuple[str, ...]
    """Further columns that make a row itself: its time, or the part's serial and the report."""
    resolution: Mapping[str, str]
    """For each series marked, its measuring resolution as a decimal, in the unit of its values. Other series leave as they are."""

    def text(self) -> str:
        """The value of the contract's term."""
        return canonical_bytes(
            {
                "identity": list(self.identity),
                "resolution": dict(self.resolution),
                "series": self.series,
                "v": 1,
                "value": self.value,
            }
        ).decode()


def read_marking(text: Any) -> Marking:
    """The statement of a contract. Raises Refused ``exchange.fingerprint-refused`` where no resolution is declared or it is unusable."""
    try:
        given = orjson.loads(text) if isinstance(text, str | bytes) and len(text) <= 65_536 else text
    except orjson.JSONDecodeError as error:
        raise _refused("it is not JSON") from error
    if not isinstance(given, Mapping) or set(given) - {"v", "value", "series", "identity", "resolution"}:
        raise _refused("value, series, identity and resolution are wanted")
    value, series, identity = given.get("value"), given.get("series"), given.get("identity")
    if not isinstance(value, str) or not isinstance(series, str) or not value or not series or given.get("v", 1) != 1:
        raise _refused("value and series name columns")
    if (
        not isinstance(identity, list)
        or not identity
        or any(not isinstance(one, str) or one == value for one in identity)
    ):
        raise _refused("identity names the columns that make a row itself")
    resolution = given.get("resolution")
    if not isinstance(resolution, Mapping) or not 0 < len(resolution) <= SERIES_MAX:
        raise _refused("no resolution is declared")
    for name, step in resolution.items():
        _step(name, step)
    return Marking(value, series, tuple(identity), dict(resolution))


def mark(batch: pa.RecordBatch, marking: Marking, key: bytes) -> pa.RecordBatch:
    """The batch as a copy under the agreement of ``key``: no value moves by more than half its resolution.

    Raises Refused ``exchange.fingerprint-refused`` where a column is missing or no float64.
    """
    import numpy as np
    import pyarrow as pa

    place = batch.schema.get_field_index(marking.value)
    values, rows, halves, digits = _marked_rows(batch, marking)
    if rows.size == 0:
        return batch
    bits = _bits(batch, marking, key, rows)
    picked = values[rows]
    ratio = picked / halves
    near = np.rint(ratio)
    # the parity of large multiples is not in a float64 any more; such a value says less than its resolution claims and stays
    usable = np.abs(near) < 2.0**52
    odd = np.where(usable, np.mod(near, 2.0), 0.0) != 0.0
    other = near + np.where(ratio >= near, 1.0, -1.0)
    chosen = np.where(odd == bits, near, other)
    written = _rounded(chosen * halves, digits)
    # half a resolution, and the last digit of a float64 where that is far below it
    room = halves + np.minimum(2 * np.spacing(np.abs(picked)), halves * 1e-6)
    fits = usable & (np.abs(written - picked) <= room)
    out = values.copy()
    out[rows] = np.where(fits, written, picked)
    column = batch.column(place)
    marked = pa.array(out, pa.float64(), mask=column.is_null().to_numpy(zero_copy_only=False))
    return batch.set_column(place, batch.schema.field(place), marked)


@dataclass(frozen=True, slots=True)
class Found:
    """What a copy says about one agreement."""

    agreement_id: str
    rows: int
    """Different rows with a marked value."""
    agree: int
    """Of those, how many have the parity of this agreement's key."""
    chance: float
    """Probability that a copy not of this agreement agrees as often or more."""
    named: bool
    """Whether the agreement is named: its chance times the number of agreements searched is at most ``FALSE_NAMING``."""


def detect(table: pa.Table, candidates: Iterable[tuple[str, Marking, bytes]]) -> list[Found]:
    """The agreements of a found copy, likeliest first.

    Under a key that did not make the copy the parities are independent fair coins, so the number that agree is binomial; the bound over
    all candidates is that of Bonferroni.
    """
    import numpy as np
    import pyarrow as pa

    listed = list(candidates)
    whole = table.combine_chunks().to_batches()
    batch = whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)
    seen: dict[str, tuple[list[bytes], list[bool]]] = {}
    found = []
    for agreement_id, marking, key in listed:
        statement = marking.text()
        if statement not in seen:
            values, rows, halves, _ = _marked_rows(batch, marking)
            odd = np.mod(np.rint(values[rows] / halves), 2.0) != 0.0
            # a row that stands there twice counts once
            different, first = np.unique(_names(batch, marking, rows), return_index=True)
            seen[statement] = different.tolist(), odd[first].tolist()
        names, parities = seen[statement]
        agree = sum(
            (hmac.digest(key, name, "sha256")[0] & 1) == parity for name, parity in zip(names, parities, strict=True)
        )
        chance = tail(len(names), agree)
        found.append(Found(agreement_id, len(names), agree, chance, chance * len(listed) <= FALSE_NAMING))
    return sorted(found, key=lambda one: one.chance)


def tail(n: int, least: int) -> float:
    """Probability that of ``n`` fair coins ``least`` or more show heads."""
    if least <= 0:
        return 1.0
    from scipy.special import betainc

    return float(betainc(least, n - least + 1, 0.5)) if n else 1.0


class Marks:
    """Keys of agreements, kept with the records; one statement a contract."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._known: dict[tuple[str, str], bytes] = {}

    async def marked(
        self, participant: str, agreement_id: str, statement: str, rows: AsyncIterator[pa.RecordBatch]
    ) -> AsyncIterator[pa.RecordBatch]:
        """The rows as a copy under the agreement. Raises Refused ``exchange.fingerprint-refused``."""
        marking = read_marking(statement)
        key = await self._key(participant, agreement_id, marking)
        async for batch in rows:
            yield mark(batch, marking, key)

    async def search(self, participant: str, table: pa.Table) -> list[Found]:
        """Whose copy a found table is, likeliest first; the table's columns named as they were delivered."""
        stored = await self._hosting.records.rows(select(MARKS).where(MARKS.c.participant == participant))
        candidates = []
        for row in stored:
            marking = read_marking(row["marking"])
            if {marking.value, marking.series, *marking.identity} <= set(table.schema.names):
                candidates.append((row["agreement_id"], marking, bytes(row["key"])))
        if not candidates:
            raise _refused("the table has the columns of no marked agreement")
        return detect(table, candidates)

    async def _key(self, participant: str, agreement_id: str, marking: Marking) -> bytes:
        name = (participant, agreement_id)
        kept = self._known.get(name)
        if kept is not None:
            return kept
        records = self._hosting.records
        row = await records.find(MARKS, ("key",), participant=participant, agreement_id=agreement_id)
        if row is None:
            key = records.random(_KEY_BYTES)
            async with records.step(participant) as step:
                step.insert(MARKS, agreement_id=agreement_id, key=key, marking=marking.text(), made_at=step.at)
                step.record(
                    Entry(
                        COPY_MARKED,
                        {
                            "agreement": agreement_id,
                            # shows later that this key was there before the copy left, without telling it
                            "keyHash": "sha256:" + sha256(key).hex(),
                            "marking": "sha256:" + sha256(marking.text().encode()).hex(),
                        },
                    )
                )
        else:
            key = bytes(row["key"])
        if len(self._known) >= 10_000:
            self._known.clear()
        self._known[name] = key
        return key


def _marked_rows(batch: pa.RecordBatch, marking: Marking) -> tuple[Any, Any, Any, Any]:
    """Values of the batch, the places of those to mark, and for each of these half its resolution and the digits of that."""
    import numpy as np
    import pyarrow as pa

    for name in (marking.value, marking.series, *marking.identity):
        if name not in batch.schema.names:
            raise _refused(f"the table has no column {name}")
    column = batch.column(marking.value)
    if column.type != pa.float64():
        raise _refused(f"the column {marking.value} holds no floating-point numbers")
    values = column.to_numpy(zero_copy_only=False)
    codes = batch.column(marking.series)
    coded = codes if isinstance(codes, pa.DictionaryArray) else codes.dictionary_encode()
    steps = [
        _step(name, marking.resolution[str(name)]) if str(name) in marking.resolution else None
        for name in coded.dictionary.to_pylist()
    ]
    half = np.array([float(step / 2) if step is not None else 0.0 for step in steps] or [0.0])
    digits = np.array([_digits(step / 2) if step is not None else 0 for step in steps] or [0])
    places = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    of_row = half[places]
    rows = np.flatnonzero((of_row > 0) & np.isfinite(values) & coded.indices.is_valid().to_numpy(zero_copy_only=False))
    return values, rows, of_row[rows], digits[places][rows]


def _names(batch: pa.RecordBatch, marking: Marking, rows: Any) -> Any:
    """The identity of each row as bytes."""
    import numpy as np

    columns = [_texts(batch.column(name).take(_indices(rows))) for name in (marking.series, *marking.identity)]
    return np.array([b"\x1f".join(parts) for parts in zip(*columns, strict=True)], dtype=object)


def _indices(rows: Any) -> pa.Array:
    import pyarrow as pa

    return pa.array(rows, pa.int64())


def _texts(column: pa.Array) -> list[bytes]:
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        # the instant, whatever unit a copy was written in
        column = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    return [str(value).encode() for value in column.to_pylist()]


def _bits(batch: pa.RecordBatch, marking: Marking, key: bytes, rows: Any) -> Any:
    import numpy as np

    names = _names(batch, marking, rows)
    return np.fromiter((hmac.digest(key, name, "sha256")[0] & 1 for name in names), dtype=bool, count=len(names))


def _step(name: Any, text: Any) -> Decimal:
    try:
        step = Decimal(text) if isinstance(text, str) and len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        step = Decimal("NaN")
    if not step.is_finite() or not Decimal("1e-12") <= step <= Decimal("1e12"):
        raise _refused(f"the resolution of {str(name)[:100]} is no decimal between 1e-12 and 1e12")
    return step


def _digits(step: Decimal) -> int:
    return max(0, -int(step.normalize().as_tuple().exponent))


def _rounded(values: Any, digits: Sequence[int]) -> Any:
    import numpy as np

    out = values.copy()
    wanted = np.asarray(digits)
    for count in np.unique(wanted):
        mine = wanted == count
        out[mine] = np.round(values[mine], int(count))
    return out


def _refused(reason: str) -> Refused:
    return Refused("exchange.fingerprint-refused", reason=reason)
