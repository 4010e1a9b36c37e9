"""Errors, settings and commands: each is said in both languages, used, and known; nothing secret is shown."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner

import guantong
from guantong.base import errors as branches
from guantong.base.error_table import ERRORS
from guantong.base.errors import ConfigProblem
from guantong.cli import main
from guantong.config import SETTINGS, load

PACKAGE = Path(guantong.__file__).resolve().parent
ROOT = PACKAGE.parent.parent
HAN = re.compile(r"[\u4e00-\u9fff]")
BRANCHES = {
    name: kind.kind
    for name, kind in vars(branches).items()
    if isinstance(kind, type) and issubclass(kind, branches.GuantongError) and kind is not branches.GuantongError
}
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "error_table.py"]


# -- errors


def raised() -> Iterator[tuple[str, str, set[str] | None, str]]:
    """Every construction of an error with a literal or constant code: branch, code, facts (None: passed on), place."""
    for path in SOURCES:
        module = ast.parse(path.read_text("utf-8"))
        constants = {
            target.id: node.value.value
            for node in module.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(module):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in BRANCHES
                and node.args
            ):
                code = node.args[0]
                value = code.value if isinstance(code, ast.Constant) else constants.get(getattr(code, "id", ""))
                names = {one.arg for one in node.keywords}
                if isinstance(value, str):
                    facts = None if None in names else {str(name) for name in names}
                    yield node.func.id, value, facts, f"{path.relative_to(PACKAGE)}:{node.lineno}"


def mentioned() -> set[str]:
    """Codes that stand as text anywhere in the code."""
    return {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in ERRORS
    }


def test_every_error_that_is_raised_is_in_the_table_under_its_branch() -> None:
    found = list(raised())

    assert len(found) > 150
    for branch, code, _, place in found:
        assert code in ERRORS, f"{place}: {code}"
        assert ERRORS[code].kind == BRANCHES[branch], f"{place}: {code} is {ERRORS[code].kind}, raised as {branch}"


def test_every_code_of_the_table_is_raised_somewhere() -> None:
    assert set(ERRORS) - mentioned() == set()


def test_every_error_that_is_raised_brings_the_facts_that_its_words_name() -> None:
    lacking = [
        f"{place}: {code} lacks {sorted(wanted - facts)}"
        for _, code, facts, place in raised()
        if facts is not None and (wanted := names_in(ERRORS[code].message_en, ERRORS[code].hint_en)) - facts
    ]

    assert lacking == []


def names_in(*texts: str) -> set[str]:
    return {name for text in texts for name in re.findall(r"{(\w+)}", text)}


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_says_the_same_facts_in_both_languages_with_a_next_step(code: str) -> None:
    row = ERRORS[code]

    assert names_in(row.message_en, row.hint_en) == names_in(row.message_zh, row.hint_zh)
    assert HAN.search(row.message_zh)
    assert HAN.search(row.hint_zh)
    assert not HAN.search(row.message_en + row.hint_en)
    assert row.message_en.rstrip("”").endswith((".", "?", "{reason}")), row.message_en
    assert row.message_zh.rstrip("”").endswith(("。", "？", "{reason}")), row.message_zh
    assert row.kind in BRANCHES.values()
    assert 400 <= row.status < 600
    assert 1 <= row.exit_code <= 6


def test_codes_are_grouped_by_the_room_that_raises_them() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir()}
    places: dict[str, set[str]] = defaultdict(set)
    for _, code, _, place in raised():
        places[code].add(place.split("/")[0].split(":")[0].removesuffix(".py"))

    for code in ERRORS:
        assert code.split(".")[0] in rooms, code
        assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", code), code


# -- settings


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_rows_of_the_stages_are_what_the_script_makes_of_their_settings_classes() -> None:
    made = script("make_settings").text()

    assert (PACKAGE / "config_auto.py").read_text("utf-8") == made, "run: python scripts/make_settings.py"


def test_every_settings_class_of_the_package_has_its_section() -> None:
    known = {path.rpartition(".")[2] for path in script("make_settings").CLASSES.values()}
    defined = {
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and re.fullmatch(r"\w+Settings", node.name)
    }

    assert known == defined


def test_every_setting_is_named_once_and_said_in_both_languages() -> None:
    names = [row.name for row in SETTINGS]

    assert len(set(names)) == len(names)
    assert len({row.variable for row in SETTINGS}) == len(names)
    for row in SETTINGS:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", row.name), row.name
        assert HAN.search(row.zh), row.name
        assert not HAN.search(row.en), row.name
        assert row.en.rstrip(")").endswith("."), row.name


def test_a_section_becomes_the_settings_class_of_its_stage() -> None:
    settings_class = script("make_settings").settings_class
    config = load(
        {"keep.commit-rows": 7}, environment={"GUANTONG_WATCH_MARGIN": "2.5", "GUANTONG_VALUE_DELTA": "1,2,3"}
    )

    assert config.section("keep", settings_class("keep")).commit_rows == 7
    assert config.section("watch", settings_class("watch")).margin == 2.5
    assert config.section("value", settings_class("value")).delta == ("1", "2", "3")
    for section in script("make_settings").CLASSES:
        made = config.section(section, settings_class(section))
        assert dataclasses.is_dataclass(made)


def test_a_mapping_is_read_from_a_toml_table_and_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[keep.storage-options]\nAWS_SECRET_ACCESS_KEY = "hush"\n', "utf-8")

    assert load(file=file, environment={})["keep.storage-options"] == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert load(environment={"GUANTONG_KEEP_STORAGE_OPTIONS": "A=1, B=x=y"})["keep.storage-options"] == {
        "A": "1",
        "B": "x=y",
    }


def test_a_secret_is_never_shown_by_the_command_nor_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUANTONG_KEEP_STORAGE_OPTIONS", "AWS_SECRET_ACCESS_KEY=hush-hush")
    monkeypatch.setenv("GUANTONG_NODE_RECORDS", "postgresql+psycopg://shop:hush-hush@db.example/records")

    for arguments in (["settings"], ["settings", "--json"]):
        shown = CliRunner().invoke(main, arguments)
        assert shown.exit_code == 0
        assert "hush-hush" not in shown.output
        assert "db.example" in shown.output
    with pytest.raises(ConfigProblem) as refused:
        load(environment={"GUANTONG_KEEP_STORAGE_OPTIONS": "hush-hush"})
    assert "hush-hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep.commit-rows", 1.5),
        ("keep.commit-rows", True),
        ("keep.commit-rows", "many"),
        ("fuse.unit-correct", "perhaps"),
        ("node.name", 3),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigProblem) as refused:
        load({name: value}, environment={})

    assert refused.value.code == "config.wrong-type"
    assert name in str(refused.value)


def test_a_name_that_is_no_setting_is_refused_with_the_place_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[keep]\ncommit-row = 1\n", "utf-8")

    with pytest.raises(ConfigProblem) as refused:
        load(file=file, environment={})
    assert refused.value.code == "config.unknown"
    assert "keep.commit-row" in str(refused.value)


# -- commands


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*one, id=" ".join(("guantong", *one[0]))) for one in commands()]
)
def test_a_command_and_each_of_its_options_say_in_both_languages_what_they_do(
    path: tuple[str, ...], command: click.Command
) -> None:
    help_text = command.help or ""

    assert HAN.search(help_text), path
    assert re.search(r"[A-Za-z]{3}", help_text), path
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in ("help", "version"):
            assert HAN.search(option.help or ""), f"{path} {option.opts}"
            assert re.search(r"[A-Za-z]{3}", option.help or ""), f"{path} {option.opts}"


def test_an_error_of_a_command_is_its_code_its_words_and_its_exit_code_without_a_traceback(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["settings", "--config", str(tmp_path / "absent.toml")])

    assert answer.exit_code == ERRORS["config.unreadable"].exit_code
    assert "config.unreadable" in answer.output
    assert "Traceback" not in answer.output


def test_the_command_for_errors_knows_every_code() -> None:
    shown = CliRunner().invoke(main, ["errors"])

    assert shown.exit_code == 0
    assert {line for line in shown.output.splitlines() if line in ERRORS} == set(ERRORS)


def test_the_settings_command_lists_every_setting_with_its_variable() -> None:
    rows = json.loads(CliRunner().invoke(main, ["settings", "--json"]).output)

    assert [row["name"] for row in rows] == [row.name for row in SETTINGS]
