"""What every command shares: the group, the options that name a node, errors in words, and tables of text."""

from __future__ import annotations

import errno
import functools
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guantong import __version__
from guantong.base.error_table import ERRORS
from guantong.base.errors import ConfigProblem, GuantongError, Retryable

if TYPE_CHECKING:
    from guantong.cli.desk import Desk

__all__ = [
    "Place",
    "at_node",
    "config_option",
    "directory_option",
    "json_option",
    "language",
    "main",
    "page_option",
    "read_text",
    "table",
    "write_file",
]


def language() -> str:
    """``zh`` or ``en``, from the settings' variable or the terminal's locale."""
    found = os.environ.get("GUANTONG_WEB_LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LANG") or "en"
    return "zh" if found.lower().startswith("zh") else "en"


class _Commands(click.Group):
    """Prints an error's code, sentence and next step instead of a traceback, and exits with its code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GuantongError as error:
            _fail(ctx, error.code, error.message(language()), error.hint(language()), error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from guantong.cli.desk import Answered

            if isinstance(error, Answered):
                row = ERRORS.get(error.code)
                _fail(ctx, error.code, error.title, error.detail, 3 if row is None else row.exit_code)
            if os.environ.get("GUANTONG_DEBUG") or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            problem = Retryable("cli.unexpected", reason=f"{type(error).__name__}: {error}")
            _fail(ctx, problem.code, problem.message(language()), problem.hint(language()), problem.exit_code)


def _fail(ctx: click.Context, code: str, message: str, hint: str, exit_code: int) -> None:
    click.echo(f"{code}: {message}\n  {hint}", err=True)
    ctx.exit(exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="guantong")
def main() -> None:
    """guantong: from a machine's port to a partner's screen.

    贯通：从设备端口到伙伴屏幕。
    """


config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Settings file (TOML). / 设置文件（TOML）。"
)
directory_option = click.option(
    "--directory", type=click.Path(path_type=Path), help="Directory of all data of the node. / 节点全部数据所在的目录。"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON. / 输出 JSON。")
page_option = click.option("--page", type=click.IntRange(1), help="Which page of a long list. / 长列表的第几页。")


@dataclass(frozen=True, slots=True)
class Place:
    """Which node a command is for, and how it prints."""

    file: Path | None
    directory: Path | None
    as_json: bool

    @property
    def config(self) -> Any:
        """The settings."""
        from guantong.config import load

        return load({"node.directory": self.directory}, file=self.file)

    @contextmanager
    def desk(self, *, serving: bool = False, creates: bool = False) -> Iterator[Desk]:
        """The node's desk; ``serving``: partners must reach it · ``creates``: a directory without a node becomes one."""
        from guantong.cli.desk import open_desk

        opened = open_desk(self.config, "zh-CN" if language() == "zh" else "en", serving=serving, creates=creates)
        try:
            yield opened
        finally:
            opened.close()

    def say(self, data: Any, text: Callable[[Any], str]) -> None:
        """Print JSON where that is asked for, else the text made of it."""
        click.echo(json.dumps(data, ensure_ascii=False) if self.as_json else text(data))

    def listing(self, path: str, pick: str, columns: Sequence[str], /, **query: Any) -> None:
        """A list of a page: the rows at ``pick`` (dots go deeper), in these columns; JSON prints the whole page."""
        with self.desk() as desk:
            data = desk.ask(path, **query)
        self.say(data, lambda found: table(_at(found, pick), columns))

    def action(self, path: str, /, *, serving: bool = False, creates: bool = False, **fields: Any) -> None:
        """An action and its result, a line for each figure."""
        with self.desk(serving=serving, creates=creates) as desk:
            done = desk.act(path, **fields)
        done.pop("next", None)
        self.say(done, facts)


def at_node(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name a node and the form of output; the command gets a :class:`Place` first."""

    @config_option
    @directory_option
    @json_option
    @functools.wraps(command)
    def run(file: Path | None, directory: Path | None, as_json: bool, **rest: Any) -> None:
        command(Place(file, directory, as_json), **rest)

    return run


def read_text(path: Path) -> str:
    """A text file. Raises ConfigProblem ``cli.file-unreadable``."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(
            "cli.file-unreadable", path=path, reason=getattr(error, "strerror", None) or error
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file. Raises ConfigProblem ``cli.file-unreadable``."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigProblem("cli.file-unreadable", path=path, reason=error.strerror or error) from error


def _at(data: Any, pick: str) -> Any:
    for name in filter(None, pick.split(".")):
        data = data[name]
    return data


def table(rows: Any, columns: Sequence[str]) -> str:
    """Rows as aligned text under the names that JSON has; nothing is cut, so that ids can be copied. A cut list says its page."""
    note = ""
    if isinstance(rows, Mapping):
        if rows["pages"] > 1:
            note = f"\n{rows['page']}/{rows['pages']}  ({rows['total']})  --page N"
        rows = rows["items"]
    if not rows:
        return "–"
    cells = [list(columns), *([_cell(_at_or_none(row, name)) for name in columns] for row in rows)]
    widths = [max(_width(line[index]) for line in cells) for index in range(len(columns))]
    lines = (
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
    return "\n".join(lines) + note


def facts(data: Mapping[str, Any]) -> str:
    """Names and values, a line each."""
    names = [name for name, value in data.items() if not isinstance(value, list | dict) or value]
    width = max((len(name) for name in names), default=0)
    return "\n".join(f"{name:<{width}}  {_cell(data[name])}" for name in names)


def _at_or_none(row: Any, name: str) -> Any:
    for part in name.split("."):
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def _cell(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping) and set(value) == {"en", "zh"}:
        return str(value[language()])
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return " ".join(str(item) for item in value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return " ".join(str(value).split())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
