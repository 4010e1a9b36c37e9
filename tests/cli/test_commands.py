"""Every command: its help in both languages, its answer in words, and that whatever pages and documents name exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import guantong
from guantong.base.error_table import ERRORS
from guantong.cli import main
from guantong.cli.root import table

PACKAGE = Path(guantong.__file__).parent
ROOT = PACKAGE.parent.parent
HAN = re.compile(r"[\u4e00-\u9fff]")
WANTED = """
run; demo; verify; trust export; sign-in; status; sources list; sources probe; sources add; sources remove; sources pause;
sources resume; sources import; signals list; datasets list; datasets define; lineage; govern grade; rights state; products list;
products offer; products withdraw; catalogue; negotiate; transfers; receive; contracts list; contracts show; evidence; package;
invoices list; invoices make; value meter; value appraise; value costs; watch availability; watch spc; watch warnings; watch energy;
watch supply; watch survive; settings; errors; stages; units convert
"""


def every(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from every(inner, (*path, name))


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, and what is left of them."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


def test_every_verb_that_was_promised_is_there() -> None:
    known = {" ".join(path) for path, _ in every()}

    assert {" ".join(one.split()) for one in WANTED.split(";")} <= known


@pytest.mark.parametrize("path", [pytest.param(path, id=" ".join(("guantong", *path))) for path, _ in every()])
def test_help_is_an_english_line_then_a_chinese_one_and_options_have_both(path: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(main, [*path, "--help"])
    command, _ = found(list(path))
    english, chinese = (command.help or "").split("\n\n")[:2]

    assert answer.exit_code == 0
    assert english.isascii()
    assert HAN.search(chinese)
    assert HAN.search(answer.output)
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in ("help", "version"):
            assert " / " in (option.help or ""), option.opts


def test_help_loads_no_library_of_the_stages() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, guantong.cli; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert not {"aiohttp", "duckdb", "polars", "pyarrow", "rich", "sqlalchemy", "ssl", "starlette"} & set(told)


def named() -> Iterator[tuple[str, str]]:
    files = [PACKAGE / "web" / "texts.toml", PACKAGE / "base" / "error_table.py"]
    files += [
        *PACKAGE.glob("web/templates/**/*.html"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("README*.md"),
        *ROOT.glob("*/README*.md"),
    ]
    for file in files:
        text = file.read_text("utf-8")
        marked = file.suffix in (".html", ".py", ".toml")
        pieces = (
            re.findall(r"<code>(.*?)</code>|\"(guantong [^\"]*)\"|`([^`\n]*)`", text) if file.suffix == ".html" else []
        )
        spans = [next(filter(None, piece), "") for piece in pieces]
        if file.suffix == ".md":
            spans = re.findall(r"`([^`\n]+)`", text)
            for block in re.findall(r"```(?:sh|bash|console|shell)?\n(.*?)```", text, re.S):
                spans += block.replace("\\\n", " ").splitlines()
        elif marked and not spans:
            spans = re.findall(r"(?<!as )guantong [a-z][^\n\"`，。、；,（]*", text)  # "as guantong derives it" is prose
        for span in spans:
            line = span.strip().removeprefix("$ ").removeprefix("uvx ").removeprefix("uv run ")
            if line.startswith("guantong ") and "{%" not in line:
                yield file.name, line.split(" #")[0]


def test_pages_and_documents_name_enough_commands_to_be_worth_a_check() -> None:
    assert len({line for _, line in named()}) > 15


@pytest.mark.parametrize(("file", "line"), sorted(set(named())))
def test_a_command_that_a_page_or_document_names_exists_with_those_options(file: str, line: str) -> None:
    words = re.sub(r"\{\{.*?\}\}", "VALUE", line).split()[1:]
    command, rest = found(words)
    known = {
        opt
        for param in command.params
        if isinstance(param, click.Option)
        for opt in (*param.opts, *param.secondary_opts)
    }

    if words[0].startswith("-"):
        return
    assert command is not main, f"{file}: {line}"
    if isinstance(command, click.Group) and not command.invoke_without_command:
        assert not rest or not rest[0].isascii(), f"{file}: {line}"
    options = {word.split("=")[0] for word in rest if word.startswith("--") and len(word) > 2}
    assert options <= known | {"--help"}, f"{file}: {line}"


def test_a_command_for_which_there_is_no_node_says_so_and_makes_none(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["sources", "list", "--directory", str(tmp_path / "none")])

    assert answer.exit_code == ERRORS["node.none-here"].exit_code
    assert "node.none-here" in answer.output
    assert "guantong run" in answer.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "words", [["catalogue", "https://node.example"], ["receive", "x"], ["sign-in"], ["watch", "survive", "x"]]
)
def test_what_partners_must_reach_needs_a_running_node(tmp_path: Path, words: list[str]) -> None:
    answer = CliRunner(env={"LANG": "zh_CN.UTF-8", "LC_ALL": ""}).invoke(main, [*words, "--directory", str(tmp_path)])

    assert answer.exit_code == ERRORS["node.not-running"].exit_code
    assert "没有运行" in answer.output


def test_what_nobody_foresaw_is_told_in_words_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guantong.base.units.canonical", lambda text: 1 / 0)
    monkeypatch.delenv("GUANTONG_DEBUG", raising=False)
    answer = CliRunner().invoke(main, ["units", "convert", "1", "m", "mm"])

    assert answer.exit_code == 3
    assert "cli.unexpected" in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["25.4", "mm", "[in_i]"], "1 [in_i]"),
        (["-40", "Cel", "[degF]"], "-40 [degF]"),
        (["90", "km/h", "m/s"], "25 m/s"),
    ],
)
def test_units_are_converted(words: list[str], text: str) -> None:
    assert CliRunner().invoke(main, ["units", "convert", *words]).output.strip() == text


def test_units_that_measure_different_things_are_refused() -> None:
    answer = CliRunner().invoke(main, ["units", "convert", "1", "mm", "s"])

    assert answer.exit_code == ERRORS["base.unit-mismatch"].exit_code


def test_a_table_is_aligned_also_where_characters_are_wide() -> None:
    lines = table([{"a": "铣床", "b": 1}, {"a": "mill", "b": 2}], ("a", "b")).splitlines()

    assert lines == ["a     b", "铣床  1", "mill  2"]


def test_settings_are_printed_as_json() -> None:
    assert json.loads(CliRunner().invoke(main, ["settings", "--json"]).output)
