"""The schema of the records: brought up to date when they are opened, one migration after the other."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from guantong.base.errors import ConfigProblem

__all__ = ["HEAD", "migrate"]

HEAD = "0001"
"""The newest migration; a test compares it with the scripts."""

_KNOWN = ("0001",)


def migrate(connection: Connection) -> None:
    """Bring the schema to :data:`HEAD`. Quick where it is there already. Raises ConfigProblem ``records.newer``."""
    found = None
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found == HEAD:
        return
    if found is not None and found not in _KNOWN:
        raise ConfigProblem("records.newer", found=found, known=HEAD)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
