"""SQL of a person over views of his participant's tables, in a DuckDB that can reach nothing else.

One SELECT (or WITH, VALUES) statement. No file, no network, no extension, no setting can be reached: see ``engine.py``. Views:
``readings`` and ``measurements`` (the highest revision of each), ``readings_all`` and ``measurements_all`` (every revision), and each
named table under its own name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.errors import Skippable
from guantong.keep.delta import MEASUREMENTS, NAMED, READINGS
from guantong.keep.engine import Engine, Guard, bounded
from guantong.keep.model import MEASUREMENT_KEY, READINGS_KEY, clean_measurement_schema, clean_schema
from guantong.keep.queries import View, union

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["STATEMENT_MAX", "select", "syntax", "written"]

STATEMENT_MAX = 20_000
"""Longest statement, in characters."""


def select(
    engine: Engine,
    views: Mapping[str, View],
    guard: Guard,
    *,
    statement: str,
    limit: int,
    parameters: Mapping[str, Any] | None = None,
) -> pa.Table:
    """The answer to one statement; ``parameters``: values of its ``$name``.

    Raises Skippable ``keep.query-invalid``, Refused ``keep.query-too-large``, ``-too-long``.
    """
    import duckdb

    if len(statement) > STATEMENT_MAX:
        raise Skippable("keep.query-invalid", reason=f"a statement of more than {STATEMENT_MAX} characters")
    tables: dict[str, Any] = {}
    made: dict[str, str] = {}
    for number, (name, view) in enumerate(views.items()):
        stored, tail = f"_stored_{number}", f"_tail_{number}"
        found, waiting, sources = _sources(name, view, stored, tail)
        if found.schema.names:
            tables[stored], tables[tail] = found, waiting
            made |= sources
    with engine.connection(guard, tables) as connection:
        parsed = connection.extract_statements(statement)
        if len(parsed) != 1 or parsed[0].type != duckdb.StatementType.SELECT:
            raise Skippable("keep.query-invalid", reason="one SELECT statement is asked here, nothing else")
        guard.check()
        try:
            for name, source in made.items():
                connection.execute(f"CREATE TEMP VIEW {_quoted(name)} AS SELECT * FROM {source}")  # noqa: S608 - names are quoted
            # the statement was parsed as one SELECT, so it can't close the bracket around it
            limited = f"SELECT * FROM ({parsed[0].query.rstrip().rstrip(';')}\n) LIMIT {limit + 1}"  # noqa: S608
            given = dict(parameters) if parameters else None
            return bounded(connection.sql(limited, params=given).to_arrow_table(), limit)
        finally:
            with contextlib.suppress(duckdb.Error):
                for name in made:
                    connection.execute(f"DROP VIEW IF EXISTS {_quoted(name)}")


def syntax(engine: Engine, guard: Guard, *, statement: str) -> dict[str, Any]:
    """The syntax tree of one SELECT statement, as the engine itself reads it; nothing is run.

    Raises Skippable ``keep.query-invalid``.
    """
    import orjson

    if len(statement) > STATEMENT_MAX:
        raise Skippable("keep.query-invalid", reason=f"a statement of more than {STATEMENT_MAX} characters")
    with engine.connection(guard, {}) as connection:
        [(text,)] = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
        found: dict[str, Any] = orjson.loads(text)
        if found.get("error") or len(found.get("statements", ())) != 1:
            reason = str(found.get("error_message", "one SELECT statement is asked here, nothing else"))
            raise Skippable("keep.query-invalid", reason=reason[:200])
        return found


def written(engine: Engine, guard: Guard, *, tree: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a syntax tree as :func:`syntax` gives it, under ``statement``. Raises Skippable ``keep.query-invalid``."""
    import orjson

    with engine.connection(guard, {}) as connection:
        [(text,)] = connection.execute("SELECT json_deserialize_sql(?::JSON)", [orjson.dumps(tree).decode()]).fetchall()
        return {"statement": text}


def _sources(name: str, view: View, stored: str, tail: str) -> tuple[Any, pa.Table, dict[str, str]]:
    import pyarrow as pa

    own = {READINGS: (clean_schema, READINGS_KEY), MEASUREMENTS: (clean_measurement_schema, MEASUREMENT_KEY)}.get(name)
    waiting = [piece.rows for piece in view.pieces]
    if own is not None:
        schema, key = own[0](), own[1]
        rows = pa.concat_tables(waiting) if waiting else schema.empty_table()
        base = schema.empty_table() if view.snapshot.dataset is None else view.snapshot.dataset
        revised = name == MEASUREMENTS or view.revised(None, None, rows)
        return base, rows, {name: union(revised, stored, tail, key), f"{name}_all": union(False, stored, tail)}
    if view.snapshot.dataset is not None:
        waiting.insert(0, view.snapshot.dataset.schema.empty_table())
    rows = pa.concat_tables(waiting, promote_options="permissive") if waiting else pa.table({})
    base = rows.schema.empty_table() if view.snapshot.dataset is None else view.snapshot.dataset
    return base, rows, {name.removeprefix(NAMED): union(False, stored, tail)}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
