"""Write the difference between the migrations and the tables of all stages as a new migration.

python scripts/make_migration.py "message" [--id 0002]     (--first rewrites 0001, for as long as nothing has been released)
"""

import argparse
import importlib
import pkgutil
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import guantong
from guantong.records.tables import METADATA

MIGRATIONS = Path(guantong.__file__).parent / "records" / "migrations"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("message")
    parser.add_argument("--id", default="0001")
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    for module in pkgutil.walk_packages(guantong.__path__, "guantong."):
        if module.name.endswith(".tables"):
            importlib.import_module(module.name)
    if options.first:
        for old in (MIGRATIONS / "versions").glob("*.py"):
            old.unlink()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("file_template", "m%%(rev)s")
    config.attributes["metadata"] = METADATA
    with sa.create_engine("sqlite://").connect() as connection:
        config.attributes["connection"] = connection
        if not options.first:
            command.upgrade(config, "head")
        command.revision(config, options.message, autogenerate=True, rev_id=options.id)


if __name__ == "__main__":
    main()
