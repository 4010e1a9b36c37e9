"""Write what the migrations make of an empty SQLite database: ``.venv/bin/python scripts/make_schema.py`` after each new migration."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from guantong.records import schema


def main() -> None:
    """Migrate in memory and write the statements beside the migrations."""
    target = Path(schema.__file__).parent / "migrations" / "fresh_auto.sql"
    with sa.create_engine("sqlite://").begin() as connection:
        schema.upgrade(connection)
        target.write_text(schema.fresh_sql(connection), "utf-8")


if __name__ == "__main__":
    main()
