"""Passwords and tokens of sources, by base address. They are kept in one file beside the data, never in an interface or a record.

The file is TOML, a table for each address; only its owner may read it::

    ["mqtt://broker.plant:1883/"]
    user = "historian"
    password = "…"
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from guantong.base.errors import ConfigProblem

__all__ = ["NAMES", "Lookup", "Secrets", "none"]

NAMES = ("user", "password", "token", "certificate", "key", "ca")
"""What may be kept for an address; the last three are paths of PEM files."""

Lookup = Callable[[str], Mapping[str, str]]
"""Address to what is kept for it; nothing kept gives an empty mapping."""


def none(_: str) -> Mapping[str, str]:
    """No secrets at all."""
    return {}


def _key(base: str) -> str:
    parts = urlsplit(base)
    return f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"


class Secrets:
    """The file. It is read each time it is asked, so that an edited one holds at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, base: str) -> Mapping[str, str]:
        """What is kept for an address. Raises ConfigProblem ``connect.secrets-unreadable``."""
        return self._read().get(_key(base), {})

    def keep(self, base: str, **values: str) -> None:
        """Keep values for an address; no values forget it. Written whole or not at all, readable by its owner only."""
        kept = self._read()
        wanted = {name: value for name, value in values.items() if value}
        unknown = set(wanted) - set(NAMES)
        if unknown:
            raise ConfigProblem("connect.secrets-unreadable", path=self._path, reason=f"unknown {sorted(unknown)}")
        if wanted:
            kept[_key(base)] = wanted
        else:
            kept.pop(_key(base), None)
        lines = []
        for address, table in sorted(kept.items()):
            lines.append(f"[{json.dumps(address)}]")
            lines.extend(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(table.items()))
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            stored = tomllib.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigProblem("connect.secrets-unreadable", path=self._path, reason=str(error)[:200]) from error
        return {
            _key(base): {str(name): str(value) for name, value in table.items()}
            for base, table in stored.items()
            if isinstance(table, dict)
        }
