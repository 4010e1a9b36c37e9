"""The migrations make exactly the tables that the stages declare, and only once."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import guantong
from guantong.base.errors import ConfigProblem
from guantong.records import METADATA, schema


def every_table() -> None:
    for module in pkgutil.walk_packages(guantong.__path__, "guantong."):
        if module.name.endswith(".tables"):
            importlib.import_module(module.name)


def test_the_migrations_make_the_declared_tables() -> None:
    every_table()
    with sa.create_engine("sqlite://").begin() as connection:
        schema.upgrade(connection)
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)

    assert [item for item in differences if item[0] != "remove_table" or item[1].name in METADATA.tables] == []


def test_a_fresh_database_is_what_the_migrations_make() -> None:
    with sa.create_engine("sqlite://").begin() as connection:
        schema.upgrade(connection)
        migrated = schema.fresh_sql(connection)
    with sa.create_engine("sqlite://").begin() as connection:
        schema.migrate(connection)
        fresh = schema.fresh_sql(connection)
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()

    assert fresh == migrated, "run scripts/make_schema.py"
    assert version == schema.HEAD


def test_the_newest_migration_is_the_one_the_code_names() -> None:
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))

    assert scripts.get_current_head() == schema.HEAD
    assert {script.revision for script in scripts.walk_revisions()} == set(schema._KNOWN)


def test_opening_again_changes_nothing_and_newer_records_are_refused() -> None:
    with sa.create_engine("sqlite://").begin() as connection:
        schema.migrate(connection)
        before = sa.inspect(connection).get_table_names()
        schema.migrate(connection)

        assert sa.inspect(connection).get_table_names() == before
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(ConfigProblem, match=r"records\.newer"):
            schema.migrate(connection)
