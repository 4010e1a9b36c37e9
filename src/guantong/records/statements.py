"""The writer's statements, written once and sent to the driver as they are.

Building and looking up a statement for each row costs more than the database's own work (measured, an insert: 230 microseconds built by
SQLAlchemy, 54 as text through its connection, 6 as text through SQLite's own), and the writer thread shares the interpreter with the
event loop. Tables with column types or defaults that need SQLAlchemy's help are left to it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Dialect,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    func,
    insert,
    select,
)
from sqlalchemy import update as update_table

__all__ = ["Statements", "Writing"]

_PLAIN = (String, BigInteger, Integer, LargeBinary, Boolean)
"""Types whose values the drivers take as they are."""


class Writing:
    """The writer's connection: transactions and statement texts go to SQLite's own connection where there is one, else through SQLAlchemy.

    Operations that use ``connection`` take part in the same transaction (see ``_sqlite_begin`` in service.py: a transaction already begun
    is not begun again).
    """

    __slots__ = ("_lite", "_savepoint", "_whole", "connection", "run")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._whole: Any = None
        self._savepoint: Any = None
        self._lite: Any = connection.connection.dbapi_connection if connection.dialect.name == "sqlite" else None
        self.run: Callable[[str, Sequence[Any]], Any] = self._through if self._lite is None else self._lite.execute
        """``run(text, values)``: one statement; what comes back has ``rowcount`` and ``fetchone()``."""

    def _through(self, text: str, given: Sequence[Any]) -> Any:
        return self.connection.exec_driver_sql(text, tuple(given))

    def run_many(self, text: str, given: Sequence[tuple[Any, ...]]) -> None:
        """One statement for many rows."""
        if self._lite is not None:
            self._lite.executemany(text, given)
        elif given:
            self.connection.exec_driver_sql(text, list(given))

    def begin(self) -> None:
        """Begin a transaction."""
        if self._lite is not None:
            self._lite.execute("BEGIN")
        else:
            self._whole = self.connection.begin()

    def commit(self) -> None:
        """Make it durable."""
        if self._lite is None:
            self._whole.commit()
        elif self.connection.in_transaction():  # SQLAlchemy took part and must know that it is over
            self.connection.commit()
        else:
            self._lite.execute("COMMIT")

    def rollback(self) -> None:
        """Nothing of it was; a transaction that the database has ended itself is no error."""
        if self._lite is None:
            self._whole.rollback()
            return
        if self.connection.in_transaction():
            self.connection.rollback()
        with contextlib.suppress(sqlite3.Error):
            if self._lite.in_transaction:
                self._lite.execute("ROLLBACK")

    def mark(self) -> None:
        """Begin a part that can be taken back alone."""
        if self._lite is not None:
            self._lite.execute("SAVEPOINT part")
        else:
            self._savepoint = self.connection.begin_nested()

    def keep(self) -> None:
        """The part stands with the rest."""
        if self._lite is not None:
            self._lite.execute("RELEASE part")
        else:
            self._savepoint.commit()

    def take_back(self) -> None:
        """The part is gone, the rest stands."""
        if self._lite is not None:
            self._lite.execute("ROLLBACK TO part")
            self._lite.execute("RELEASE part")
        else:
            self._savepoint.rollback()


class Statements:
    """Inserts, upserts, updates and reads by key for one engine."""

    def __init__(self, dialect: Dialect) -> None:
        self._preparer = dialect.identifier_preparer
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"
        self._fast = dialect.name in ("sqlite", "postgresql")
        self._texts: dict[tuple[Any, ...], str] = {}
        self._plain: dict[tuple[str, tuple[str, ...]], bool] = {}

    def insert(self, writing: Writing, into: Table, row: Mapping[str, Any]) -> None:
        """Add a row."""
        names = tuple(row)
        if not self._is_plain(into, names):
            writing.connection.execute(insert(into), dict(row))
            return
        key = ("insert", into.name, names)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._insert_text(into, names)
        writing.run(text, tuple(row.values()))

    def insert_many(
        self, writing: Writing, into: Table, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Add rows of these columns to a table of plain types."""
        key = ("insert", into.name, names)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._insert_text(into, names)
        if len(rows) == 1:
            writing.run(text, rows[0])
        else:
            writing.run_many(text, rows)

    def add(self, writing: Writing, into: Table, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> int:
        """Add rows of these columns; those whose key is there already are left alone. How many were added, where it was one."""
        key = ("add", into.name, names)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._insert_text(into, names) + " ON CONFLICT DO NOTHING"
        if len(rows) == 1:
            return int(writing.run(text, rows[0]).rowcount)
        writing.run_many(text, rows)
        return -1

    def find_text(self, table: Table, columns: tuple[str, ...], key: tuple[str, ...]) -> str:
        """A read of one row by (part of) its key."""
        name = ("find", table.name, columns, key)
        text = self._texts.get(name)
        if text is None:
            assert not any(isinstance(table.c[column].type, Boolean) for column in columns), "drivers differ in truth"
            quote = self._preparer.quote
            wanted = ", ".join(quote(column) for column in columns)
            where = " AND ".join(f"{quote(column)} = {self._mark}" for column in ("participant", *key))
            text = f"SELECT {wanted} FROM {self._preparer.format_table(table)} WHERE {where}"  # noqa: S608 - names are ours
            self._texts[name] = text
        return text

    def upsert(self, writing: Writing, into: Table, row: Mapping[str, Any]) -> None:
        """Add a row, or replace the other columns of the row with that key."""
        names = tuple(row)
        keys = [column.name for column in into.primary_key]
        if not self._is_plain(into, names):
            where = and_(*(into.c[name] == row[name] for name in keys))
            rest = {name: value for name, value in row.items() if name not in keys}
            changed = writing.connection.execute(update_table(into).where(where), rest).rowcount if rest else 0
            if (
                not changed
                and not writing.connection.execute(select(func.count()).select_from(into).where(where)).scalar_one()
            ):
                writing.connection.execute(insert(into), dict(row))
            return
        key = ("upsert", into.name, names)
        text = self._texts.get(key)
        if text is None:
            quote = self._preparer.quote
            others = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in names if name not in keys)
            target = ", ".join(quote(name) for name in keys)
            text = f"{self._insert_text(into, names)} ON CONFLICT ({target}) DO "
            text += f"UPDATE SET {others}" if others else "NOTHING"
            self._texts[key] = text
        writing.run(text, tuple(row.values()))

    def update(
        self,
        writing: Writing,
        table: Table,
        wanted: Mapping[str, Any],
        values: Mapping[str, Any],
        expect: Mapping[str, Any],
    ) -> int:
        """Change the rows that hold ``wanted`` and ``expect`` (a tuple means: one of these); how many there were."""
        if not self._is_plain(table, (*wanted, *values, *expect), whole=False):
            conditions = [table.c[name] == value for name, value in wanted.items()]
            for name, value in expect.items():
                column = table.c[name]
                conditions.append(column.in_(value) if isinstance(value, tuple) else column == value)
            bound = {f"set_{name}": value for name, value in values.items()}
            statement = update_table(table).where(and_(*conditions))
            return writing.connection.execute(
                statement.values({name: bindparam(f"set_{name}") for name in values}), bound
            ).rowcount
        shapes = tuple(_shape(value) for value in (*wanted.values(), *expect.values()))
        key = ("update", table.name, tuple(wanted), tuple(values), tuple(expect), shapes)
        text = self._texts.get(key)
        if text is None:
            quote = self._preparer.quote
            changes = ", ".join(f"{quote(name)} = {self._mark}" for name in values)
            where = " AND ".join(
                self._condition(quote(name), shape) for name, shape in zip((*wanted, *expect), shapes, strict=True)
            )
            # names come from our table declarations and are quoted; values are always bound
            text = f"UPDATE {self._preparer.format_table(table)} SET {changes} WHERE {where}"  # noqa: S608
            self._texts[key] = text
        given: list[Any] = list(values.values())
        for value in (*wanted.values(), *expect.values()):
            if isinstance(value, tuple):
                given.extend(value)
            elif value is not None:
                given.append(value)
        return int(writing.run(text, given).rowcount)

    def _insert_text(self, into: Table, names: Sequence[str]) -> str:
        columns = ", ".join(self._preparer.quote(name) for name in names)
        marks = ", ".join([self._mark] * len(names))
        return f"INSERT INTO {self._preparer.format_table(into)} ({columns}) VALUES ({marks})"  # noqa: S608 - names are ours

    def _condition(self, column: str, shape: int) -> str:
        if shape == -1:
            return f"{column} = {self._mark}"
        if shape == -2:
            return f"{column} IS NULL"
        return f"{column} IN ({', '.join([self._mark] * shape)})" if shape else "1 = 0"

    def _is_plain(self, table: Table, names: tuple[str, ...], *, whole: bool = True) -> bool:
        key = (table.name, (*names, "*") if whole else names)
        found = self._plain.get(key)
        if found is None:
            found = (
                self._fast
                and all(isinstance(table.c[name].type, _PLAIN) for name in names)
                and not (
                    whole
                    and any(
                        column.default is not None or column.server_default is not None
                        for column in table.c
                        if column.name not in names
                    )
                )
                and not any(column.onupdate is not None for column in table.c)
            )
            self._plain[key] = found
        return found


def _shape(value: Any) -> int:
    # what decides the text of a condition: a list of so many values, nothing, or one value
    return len(value) if isinstance(value, tuple) else -2 if value is None else -1
