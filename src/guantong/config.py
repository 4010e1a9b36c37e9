"""One table of settings, read from defaults < TOML < environment < flags.

A setting is named ``section.name`` in TOML and ``GUANTONG_SECTION_NAME`` in the environment. The reference page is generated from this
table, and a test holds the two together.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.config_auto import ROWS

__all__ = ["SETTINGS", "Config", "Setting", "load"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    """``section.name``."""
    kind: type
    """``str``, ``int``, ``float``, ``bool``, ``Path``, ``tuple`` (comma-separated text) or ``dict`` (a TOML table, or
    comma-separated ``name=value``)."""
    default: Any
    en: str
    zh: str
    secret: bool = False
    """Whether the value is never shown."""

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return "GUANTONG_" + self.name.replace(".", "_").replace("-", "_").upper()


def _rows(*rows: tuple[str, type, Any, str, str]) -> tuple[Setting, ...]:
    return tuple(Setting(*row) for row in rows)


# fmt: off
_BY_HAND: tuple[Setting, ...] = _rows(
    # node
    ("node.directory", Path, Path(".guantong"), "Directory of all data of this node.", "本节点全部数据所在的目录。"),
    ("node.name", str, "", "Name of the company as partners see it; empty: the DID.", "伙伴看到的公司名称；留空则显示 DID。"),
    ("node.records", str, "", "SQLAlchemy URL of the records; empty: SQLite in the directory.", "记录库的 SQLAlchemy 地址；留空则为目录中的 SQLite。"),
    # web
    ("web.host", str, "127.0.0.1", "Address to listen on. Loopback unless told otherwise.", "监听地址，未经指定只监听本机。"),
    ("web.port", int, 8443, "Port to listen on; 0: any free port.", "监听端口；0 表示任选空闲端口。"),
    ("web.public-url", str, "", "Address under which partners reach this node; empty: from host and port.", "伙伴访问本节点的地址；留空则由监听地址和端口得出。"),
    ("web.language", str, "en", "Language of pages when the browser names none: en or zh-CN.", "浏览器未指明语言时页面所用的语言：en 或 zh-CN。"),
)
# fmt: on

SETTINGS: tuple[Setting, ...] = (*_BY_HAND, *(Setting(*row) for row in ROWS))
"""Every setting: those of the node, then those of the stages, whose settings classes are the source (``config_auto.py``)."""

HIDDEN = "•••"
"""What stands where a secret is set."""

_BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


class Config(Mapping[str, Any]):
    """Every setting with its value, and where the value came from."""

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.origins = dict(origins)
        """Per setting: ``default``, the TOML file's path, ``environment`` or ``flag``."""

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def shown(self, name: str) -> Any:
        """The value as it may be shown to a person: no secret, and no password in an address."""
        value = self._values[name]
        if _BY_NAME[name].secret:
            return HIDDEN if value else ""
        return re.sub(r"(://[^/@:]*:)[^@]*@", rf"\1{HIDDEN}@", value) if isinstance(value, str) else value

    def section(self, prefix: str, into: Callable[..., Any]) -> Any:
        """The settings ``prefix.*`` as keyword arguments of a stage's settings class."""
        return into(
            **{
                name.split(".", 1)[1].replace("-", "_"): value
                for name, value in self._values.items()
                if name.startswith(prefix + ".")
            }
        )


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Read all settings. Raises ConfigProblem ``config.unknown``, ``config.wrong-type`` or ``config.unreadable``."""
    environment = os.environ if environment is None else environment
    values = {setting.name: setting.default for setting in SETTINGS}
    origins = dict.fromkeys(values, "default")
    if file is not None:
        for name, value in _flatten(_read(file)).items():
            values[name] = _parse(_setting(name, str(file)), value)
            origins[name] = str(file)
    for setting in SETTINGS:
        if setting.variable in environment:
            values[setting.name] = _parse(setting, environment[setting.variable])
            origins[setting.name] = "environment"
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = _parse(_setting(name, "flag"), value)
            origins[name] = "flag"
    return Config(values, origins)


def _setting(name: str, where: str) -> Setting:
    setting = _BY_NAME.get(name)
    if setting is None:
        raise ConfigProblem("config.unknown", name=name, where=where)
    return setting


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigProblem("config.unreadable", file=file, reason=error) from error


def _flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, rows in tree.items():
        if isinstance(rows, dict):
            flat.update({f"{section}.{name}": value for name, value in rows.items()})
        else:
            flat[section] = rows
    return flat


def _parse(setting: Setting, value: Any) -> Any:
    try:
        if setting.kind is bool:
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]
        if setting.kind is tuple:
            items = value if isinstance(value, list | tuple) else str(value).split(",")
            return tuple(str(item).strip() for item in items if str(item).strip())
        if setting.kind is dict:
            pairs = (
                value
                if isinstance(value, Mapping)
                else dict(_pair(one) for one in str(value).split(",") if one.strip())
            )
            return {str(name): str(item) for name, item in pairs.items()}
        if setting.kind in (int, float) and isinstance(value, bool):
            raise ValueError(value)
        if setting.kind is int and isinstance(value, float):
            raise ValueError(value)
        if setting.kind is str and not isinstance(value, str):
            raise ValueError(value)
        return setting.kind(value)
    except (ValueError, KeyError, TypeError) as error:
        shown = HIDDEN if setting.secret else value
        raise ConfigProblem("config.wrong-type", name=setting.name, value=shown, kind=setting.kind.__name__) from error


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(text)
    return name.strip(), value.strip()
