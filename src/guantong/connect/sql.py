"""Tables of ERP, MES and quality systems through any SQLAlchemy URL: only SELECT, new rows by a column that grows.

With ``key`` rows are read beyond the greatest key seen. With ``time`` alone rows of the newest instant are read again and told apart by
their content, because more of them may come. With neither the table is read whole where it has changed. What the columns are is compared
with the last time; a change goes on record and the new columns are read from then on.

While the system was away, rows beyond the greatest key are still there afterwards: nothing is missing. A table whose rows change shows
only what they are now, so that without ``key`` the interruption goes on record as a gap of time.

Four kinds of table are documented in :data:`VIEWS`: a view of that name and those columns in the system, made by its administrator, is all
that guantong needs of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from guantong.base.errors import ConfigProblem, Retryable
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface, Property
from guantong.connect.secrets import Lookup

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["VIEWS", "SqlReader", "look"]

VIEWS: Mapping[str, tuple[str, ...]] = {
    "orders": ("order_id", "part", "quantity", "due_at", "state", "changed_at"),
    "routings": ("order_id", "step", "machine", "planned_start", "planned_end", "started_at", "ended_at", "changed_at"),
    "deliveries": ("delivery_id", "order_id", "partner", "part", "quantity", "shipped_at", "changed_at"),
    "complaints": ("complaint_id", "delivery_id", "part", "serial", "defect", "reported_at", "changed_at"),
}
"""The view that guantong expects of each kind of table, with its columns; further columns are taken along. ``changed_at`` is set by
every change of a row: read with ``time`` = changed_at."""

_SEEN = 20_000


class SqlReader:
    """Reads one table or view again and again."""

    def __init__(self, interface: Interface, secrets: Lookup) -> None:
        self._interface = interface
        self._secrets = secrets
        self._table = interface.term("table") or ""
        if not self._table:
            raise ConfigProblem("connect.address-unusable", base=interface.base, reason="the term table is missing")
        self._key = interface.term("key")
        self._time = interface.term("time")
        self._limit = max(1, int(interface.term("limit") or 10_000))
        self._last = 0
        _url(interface.base, {})

    async def run(self, delivery: Delivery) -> None:
        """Read until lost. Raises Retryable ``connect.unreachable``, ConfigProblem ``connect.address-unusable``."""
        every_s = float(self._interface.term("interval_ms") or 60_000) / 1000
        engine = _engine(self._interface.base, self._secrets)
        try:
            table = await asyncio.to_thread(self._reflect, engine)
            await self._compare(table, delivery)
            if self._key is None and delivery.lost_at is not None:
                delivery.unasked(self._last)
            await delivery.connected()
            while True:
                while await self._read(engine, table, delivery) >= self._limit:
                    pass  # more waits: at once
                self._last = delivery.clock.now()
                await delivery.clock.sleep(every_s)
                fresh = await asyncio.to_thread(self._reflect, engine)
                if _columns(fresh) != _columns(table):
                    table = fresh
                    await self._compare(table, delivery)
        except sa.exc.SQLAlchemyError as error:
            raise Retryable("connect.unreachable", base=self._interface.base, reason=_say(error)) from error
        finally:
            await asyncio.to_thread(engine.dispose)

    def _reflect(self, engine: sa.Engine) -> sa.Table:
        schema, _, name = self._table.rpartition(".")
        try:
            with engine.connect() as connection:
                table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)
        except sa.exc.NoSuchTableError as error:
            raise ConfigProblem(
                "connect.address-unusable", base=self._interface.base, reason=f"there is no table {self._table}"
            ) from error
        if engine.dialect.name == "sqlite":  # it has no times: what stands there is text, and is compared as such
            for one in table.columns:
                if isinstance(one.type, sa.DateTime | sa.Date):
                    one.type = sa.String()
        for column in (self._key, self._time):
            if column and column not in table.columns:
                raise ConfigProblem(
                    "connect.address-unusable",
                    base=self._interface.base,
                    reason=f"{self._table} has no column {column}",
                )
        return table

    async def _compare(self, table: sa.Table, delivery: Delivery) -> None:
        now = _columns(table)
        before = delivery.resume.get("columns")
        if before is not None and before != now:
            delivery.note(
                schema={
                    "table": self._table,
                    "added": sorted(set(now) - set(before)),
                    "removed": sorted(set(before) - set(now)),
                    "changed": sorted(name for name in set(now) & set(before) if now[name] != before[name]),
                }
            )
        delivery.mark(columns=now)
        await delivery.flush()

    async def _read(self, engine: sa.Engine, table: sa.Table, delivery: Delivery) -> int:
        last = _thawed(delivery.resume.get("last"))
        seen = set(delivery.resume.get("seen") or ())
        rows = await asyncio.to_thread(self._select, engine, table, last, len(seen))
        asked = len(rows)
        column = self._key or self._time
        if column is None:
            digest = _digest(rows)
            if delivery.resume.get("digest") == digest:
                return 0
            place: dict[str, Any] = {"digest": digest}
        else:
            if self._key is None:
                rows = [row for row in rows if row[column] != last or _digest([row]) not in seen]
            if not rows:
                return 0
            newest = rows[-1][column]
            place = {"last": _frozen(newest)}
            if self._key is None:
                same = [_digest([row]) for row in rows if row[column] == newest]
                place["seen"] = (sorted(seen) if newest == last else []) + same
                if len(place["seen"]) > _SEEN:
                    raise ConfigProblem(
                        "connect.address-unusable",
                        base=self._interface.base,
                        reason=f"too many rows of one instant in {column}; name a key",
                    )
        batch = _arrow(rows, table)
        delivery.mark(columns=_columns(table), **place)
        delivery.lines(len(rows), len(rows))
        await delivery.send(batch, {"table": self._table.rpartition(".")[2]}, kind="table")
        return asked if column is not None else 0

    def _select(self, engine: sa.Engine, table: sa.Table, last: Any, again: int) -> list[dict[str, Any]]:
        query = sa.select(table)
        if self._key:
            column = table.columns[self._key]
            query = query.where(column > last) if last is not None else query.where(column.is_not(None))
            query = query.order_by(column).limit(self._limit)
        elif self._time:
            column = table.columns[self._time]
            query = query.where(column >= last) if last is not None else query.where(column.is_not(None))
            query = query.order_by(column).limit(self._limit + again)
        else:
            query = query.limit(1_000_000)
        with engine.connect() as connection:
            return [{str(name): value for name, value in row.items()} for row in connection.execute(query).mappings()]


def _url(base: str, kept: Mapping[str, str]) -> sa.URL:
    try:
        url = sa.make_url(base)
    except sa.exc.ArgumentError as error:
        raise ConfigProblem(
            "connect.address-unusable", base=base[:200], reason="a SQLAlchemy URL is expected"
        ) from error
    if kept.get("user"):
        url = url.set(username=kept["user"], password=kept.get("password"))
    return url


def _engine(base: str, secrets: Lookup) -> sa.Engine:
    try:  # no pool: a connection ends with its question, also where the source was stopped meanwhile
        return sa.create_engine(_url(base, secrets(base)), poolclass=sa.NullPool)
    except (ImportError, sa.exc.SQLAlchemyError) as error:
        raise ConfigProblem("connect.address-unusable", base=base[:200], reason=f"no driver: {_say(error)}") from error


def _columns(table: sa.Table) -> dict[str, str]:
    return {str(column.name): str(column.type) for column in table.columns}


def _say(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200] if str(error) else type(error).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def _digest(rows: list[dict[str, Any]]) -> str:
    text = orjson.dumps([{name: _plain(value) for name, value in row.items()} for row in rows])
    return hashlib.sha256(text).hexdigest()[:24]


def _frozen(value: Any) -> list[Any]:
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, date):
        return ["date", value.isoformat()]
    if isinstance(value, Decimal):
        return ["decimal", str(value)]
    return ["plain", _plain(value)]


def _thawed(value: Any) -> Any:
    if not value:
        return None
    kind, content = value
    makers: dict[str, Any] = {"datetime": datetime.fromisoformat, "date": date.fromisoformat, "decimal": Decimal}
    return makers[kind](content) if kind in makers else content


def _arrow(rows: list[dict[str, Any]], table: sa.Table) -> pa.RecordBatch:
    """Rows as columns of the table's own types; a decimal number keeps its digits, what has no column type becomes text."""
    import pyarrow as pa

    arrays, names = [], []
    for column in table.columns:
        values = [row[column.name] for row in rows]
        kind = _arrow_type(column.type)
        try:
            array = pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # a database that does not keep to its types
            array = pa.array([None if value is None else str(_plain(value)) for value in values], pa.string())
        arrays.append(array)
        names.append(str(column.name))
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _arrow_type(kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(kind, sa.Boolean):
        return pa.bool_()
    if isinstance(kind, sa.Integer):
        return pa.int64()
    if isinstance(kind, sa.Float):
        return pa.float64()
    if isinstance(kind, sa.Numeric):
        return pa.decimal128(38, kind.scale) if kind.scale is not None and 0 <= kind.scale <= 38 else pa.string()
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", tz="UTC") if kind.timezone else pa.timestamp("us")
    if isinstance(kind, sa.Date):
        return pa.date32()
    return pa.string()


async def look(base: str, secrets: Lookup) -> tuple[tuple[Property, ...], dict[str, Any]]:
    """Tables and views behind an address, and which of VIEWS they serve. Raises Retryable ``connect.unreachable``."""

    def ask() -> dict[str, list[str]]:
        engine = _engine(base, secrets)
        try:
            found = sa.inspect(engine)
            return {
                name: [str(column["name"]) for column in found.get_columns(name)]
                for name in [*found.get_table_names(), *found.get_view_names()][:500]
            }
        finally:
            engine.dispose()

    try:
        tables = await asyncio.to_thread(ask)
    except sa.exc.SQLAlchemyError as error:
        raise Retryable("connect.unreachable", base=base, reason=_say(error)) from error
    serves = {
        name: kind
        for name, columns in tables.items()
        for kind, wanted in VIEWS.items()
        if set(wanted) <= {column.lower() for column in columns}
    }
    offers = tuple(Property(name, title=", ".join(columns)[:200]) for name, columns in sorted(tables.items()))
    return offers, {"tables": len(tables), "serves": serves}
