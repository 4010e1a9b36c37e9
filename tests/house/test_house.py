"""The house keeps its own rules: rooms, names, order, purity, entries. Read from the sources, not from what they say of themselves."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest

import guantong
from guantong.base.entry import EntryKind
from guantong.journey import JOURNEY, ORDER

PACKAGE = Path(guantong.__file__).resolve().parent
ROOT = PACKAGE.parent.parent
STAGES = tuple(stage.name for stage in JOURNEY)
HAN = re.compile(r"[\u4e00-\u9fff]")
SOURCES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# -- rooms


def test_the_folders_are_the_stages_of_the_journey_the_two_floors_and_the_shells() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert folders == {*STAGES, "base", "records", "web", "demo", "cli"}


def test_every_room_of_the_order_exists_and_every_room_stands_in_it() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "__init__.py", "py.typed")}

    assert len(set(ORDER)) == len(ORDER)
    assert ORDER[2:12] == STAGES
    outside = {"config_auto", "journey", "verify"}
    assert rooms - set(ORDER) == outside, "only the story, config's generated rows and the verifier stand outside"
    assert set(ORDER) <= rooms


def test_the_import_contract_lists_the_rooms_in_the_order_of_the_journey() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers")

    assert tuple(reversed(layers)) == ORDER


def test_the_stage_of_a_sentence_is_said_in_both_languages() -> None:
    for stage in JOURNEY:
        assert stage.name.isascii()
        assert stage.sentence_en.isascii() or "’" in stage.sentence_en
        assert len(stage.zh) == 2
        assert len(stage.mark) == 1
        assert HAN.search(stage.sentence_zh), stage.name
    assert len({stage.mark for stage in JOURNEY}) == 10


def test_rooms_are_at_most_two_folders_deep_in_python_code() -> None:
    deep = [name_of(path) for path in SOURCES if len(path.relative_to(PACKAGE).parts) > 3]

    assert deep == ["records/migrations/versions/m0001.py"] or all("migrations/versions/" in name for name in deep)


UNWELCOME = re.compile(
    r"^(models|rule|port|table|services|route|types|interfaces|views)$|(^|_)(utils?|common|commons|helpers?|misc|managers?|factory|factories|handlers?|"
    r"core|lib|impl|constants|controllers?|tools)(_|$)"
)


def test_no_module_has_a_vague_name_or_a_role_under_a_second_name() -> None:
    found = [name_of(path) for path in SOURCES if UNWELCOME.search(path.stem)]

    assert found == []


@pytest.mark.parametrize("name", ["models", "db_utils", "common", "source_manager", "factory", "handlers", "helper"])
def test_the_rule_of_names_refuses_what_it_is_there_for(name: str) -> None:
    assert UNWELCOME.search(name)


def test_no_hand_written_module_is_longer_than_its_reader_has_patience_for() -> None:
    long = {
        name_of(path): count
        for path in SOURCES
        if (count := len(path.read_text("utf-8").splitlines())) > 720
        and not path.stem.endswith(("_auto", "_table"))  # generated, or rows that are looked up and not read through
    }

    assert long == {}


def test_every_module_says_in_one_docstring_what_it_is() -> None:
    silent = [
        name_of(path) for path in SOURCES if not ast.get_docstring(tree(path)) and path.read_text("utf-8").strip()
    ]

    assert silent == []


def test_generated_files_say_so_in_name_and_first_line_with_the_command() -> None:
    found = sorted(path for path in PACKAGE.rglob("*_auto.*") if "__pycache__" not in path.parts)

    assert found
    for path in found:
        with path.open(encoding="utf-8") as file:
            first = file.readline() + file.readline()
        command = re.search(r"scripts/(\w+\.py)", first)
        assert command, f"{name_of(path)} does not name its command in its first line"
        assert (ROOT / "scripts" / command.group(1)).exists()


# -- what is promised


PROMISING = [path for path in SOURCES if "__all__" in path.read_text("utf-8") and "migrations" not in path.parts]


@pytest.mark.parametrize("path", PROMISING, ids=name_of)
def test_every_promised_name_can_be_imported(path: Path) -> None:
    if "asyncua" in path.read_text("utf-8"):
        pytest.importorskip("asyncua")
    module = importlib.import_module(module_of(path))

    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []
    assert len(set(module.__all__)) == len(module.__all__)


# -- purity (habit 13)

FORBIDDEN_CALLS = {
    ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
    ("time", "time"), ("time", "time_ns"),
    ("uuid", "uuid1"), ("uuid", "uuid4"),
}  # fmt: skip
RANDOM_MODULES = {"random", "secrets"}


def impure_lines(module: ast.Module, name: str) -> Iterator[str]:
    """Places where a module asks the machine for time, an id or chance."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in FORBIDDEN_CALLS or (owner, node.attr) == ("os", "urandom"):
                yield f"{name}:{node.lineno} {owner}.{node.attr}"
        if isinstance(node, ast.Import):
            yield from (f"{name}:{node.lineno} import {one.name}" for one in node.names if one.name in RANDOM_MODULES)
        if isinstance(node, ast.ImportFrom) and node.module in (*RANDOM_MODULES, "uuid"):
            yield f"{name}:{node.lineno} from {node.module}"


ASKING = {
    # path: why it may ask the machine itself
    "connect/opcua/session.py datetime.now": "the validity of a certificate that is made once and kept",
    "connect/opcua/values.py uuid": "only the type of a value that a server sends",
    "keep/blobs.py os.urandom": "the name of a draft file, gone before anybody sees it",
    "keep/delta.py time.time": "compared with the file system's own times, to find the files of a commit that failed",
    "keep/seal.py os.urandom": "nonces of AES-GCM: one that a seed could repeat would open the cipher",
    "web/guard.py secrets": "the reference number of an unexpected failure, told to a person and the log only",
}


def test_time_ids_and_chance_are_arguments_outside_base_and_the_shells() -> None:
    found = [
        place
        for path in SOURCES
        if path.relative_to(PACKAGE).parts[0] not in ("base", "demo", "cli")
        and path.name not in ("verify.py", "node.py")
        for place in impure_lines(tree(path), name_of(path))
    ]

    unexcused = [
        place
        for place in found
        if not any(place.startswith(key.split()[0]) and key.split()[1] in place for key in ASKING)
    ]
    assert unexcused == []
    assert len(found) >= len(ASKING), "an excuse is no longer needed: take it off the list"


@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "from uuid import uuid4",
        "time.time()",
        "datetime.datetime.now()",
        "datetime.now(UTC)",
        "os.urandom(4)",
    ],
)
def test_the_scan_for_time_and_chance_sees_each_of_its_kinds(line: str) -> None:
    assert list(impure_lines(ast.parse(line), "x.py"))


@pytest.mark.parametrize("line", ["clock.now()", "time.monotonic()", "parse(time)", "import numpy.random_array"])
def test_the_scan_for_time_and_chance_lets_arguments_pass(line: str) -> None:
    assert list(impure_lines(ast.parse(line), "x.py")) == []


HEAVY = {
    "aiohttp", "asyncua", "deltalake", "duckdb", "polars", "pyarrow", "scipy", "socket", "sqlalchemy", "sqlite3",
    "starlette", "uvicorn", "cedarpy", "lxml",
}  # fmt: skip


def imported_at_load(path: Path) -> set[str]:
    """Top-level packages that a module imports when it is loaded (not under TYPE_CHECKING, not inside functions)."""

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (one.name.split(".")[0] for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield node.module.split(".")[0]
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from walk(node.body)
                yield from walk(node.orelse)
            elif isinstance(node, ast.Try):
                yield from walk(node.body)

    return set(walk(tree(path).body))


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.name in ("model.py", "rules.py", "negotiation.py", "transfer.py")],
    ids=name_of,
)
def test_models_rules_and_protocol_tables_load_nothing_heavy_and_do_no_input_or_output(path: Path) -> None:
    assert imported_at_load(path) & HEAVY == set()
    calls = {
        node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls & {"open", "print", "input"} == set()
    assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree(path)) if path.name != "model.py")


CANONICAL = "guantong.base.canonical"


def test_only_base_imports_the_library_of_canonical_bytes() -> None:
    users = [name_of(path) for path in SOURCES if "rfc8785" in imported_at_load(path)]

    assert all(name.startswith("base/") for name in users), users


# -- evidence entries


def stages_with_kinds() -> list[str]:
    return [room for room in (*STAGES, "web") if "EntryKind(" in (PACKAGE / room / "model.py").read_text("utf-8")]


def entry_kinds(room: str) -> tuple[EntryKind, ...]:
    return tuple(importlib.import_module(f"guantong.{room}.model").ENTRY_KINDS)


def test_every_stage_that_acts_has_kinds_of_entries() -> None:
    assert set(STAGES) <= set(stages_with_kinds())


def test_kinds_of_entries_are_unique_named_by_room_and_act_and_said_in_both_languages() -> None:
    seen: dict[str, str] = {}
    for room in stages_with_kinds():
        for kind in entry_kinds(room):
            assert kind.name not in seen, f"{kind.name} is in {seen.get(kind.name)} and {room}"
            seen[kind.name] = room
            assert re.fullmatch(rf"{room}\.[a-z]+(-[a-z]+)*", kind.name), kind.name
            assert not HAN.search(kind.en), kind.name
            assert HAN.search(kind.zh), kind.name


@pytest.mark.parametrize("room", stages_with_kinds())
def test_the_body_of_each_kind_has_a_valid_and_closed_schema(room: str) -> None:
    for kind in entry_kinds(room):
        jsonschema_rs.meta.validate(dict(kind.schema))
        assert kind.schema["type"] == "object", kind.name
        assert kind.schema["additionalProperties"] is False, f"{kind.name}: a leaf may hold only what its kind names"
        assert set(kind.schema.get("required", ())) <= set(kind.schema["properties"]), kind.name


def constants_of_kinds() -> dict[str, dict[str, EntryKind]]:
    """Per room, the constants that hold kinds: of its model, and of the model of a part (``figure.py``) that the room's lists."""
    found: dict[str, dict[str, EntryKind]] = {}
    for room in stages_with_kinds():
        found[room] = {}
        for name in models_of_kinds(room):
            module = importlib.import_module(f"guantong.{room}.{name}")
            found[room] |= {name: value for name, value in vars(module).items() if isinstance(value, EntryKind)}
    return found


def models_of_kinds(room: str) -> list[str]:
    """Modules of a room that make kinds."""
    return [path.stem for path in sorted((PACKAGE / room).glob("*.py")) if "EntryKind(" in path.read_text("utf-8")]


def test_every_kind_that_a_stage_defines_is_listed_and_recorded_somewhere_in_its_room() -> None:
    for room, kinds in constants_of_kinds().items():
        listed = {kind.name for kind in entry_kinds(room)}
        assert {kind.name for kind in kinds.values()} == listed, room
        used = {
            node.id
            for path in (PACKAGE / room).rglob("*.py")
            if path.name != "__init__.py" and path.stem not in models_of_kinds(room)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        assert set(kinds) <= used, f"{room} lists a kind that it never records: {set(kinds) - used}"


def test_every_entry_that_is_recorded_has_a_kind_of_its_own_room() -> None:
    constants = constants_of_kinds()
    checked = defaultdict(int)
    for path in SOURCES:
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Entry":
                kind = node.args[0]
                assert isinstance(kind, ast.Name), (
                    f"{name_of(path)}:{node.lineno}: an entry's kind is a constant or a parameter"
                )
                parameter = any(
                    kind.id in (argument.arg for argument in function.args.args)
                    for function in ast.walk(tree(path))
                    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
                    and function.lineno <= node.lineno <= (function.end_lineno or 0)
                )
                if not parameter:
                    assert kind.id in constants.get(room, {}), f"{name_of(path)}:{node.lineno}: {kind.id}"
                checked[room] += 1

    assert set(checked) >= set(STAGES)


def test_settings_of_a_stage_are_one_frozen_value_with_a_docstring_under_each_field() -> None:
    for path in SOURCES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
                decorators = " ".join(ast.unparse(one) for one in node.decorator_list)
                assert "frozen=True" in decorators, f"{name_of(path)} {node.name}"
                for at, field in enumerate(node.body):
                    if isinstance(field, ast.AnnAssign):
                        after = node.body[at + 1] if at + 1 < len(node.body) else None
                        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                        assert told, f"{node.name}.{ast.unparse(field.target)} has no docstring"


def test_the_participant_is_the_first_argument_of_a_stage_s_public_actions() -> None:
    strange = []
    excused = {
        "start",
        "stop",
        "routes",
        "host",
        "answer",
        "register",
        "on_append",
        "on_change",
        "on_finding",
        "probe",
        "devices",
    }
    for room in STAGES:
        service = importlib.import_module(f"guantong.{room}.service")
        main = getattr(service, room.capitalize())
        for name, method in inspect.getmembers(main, inspect.iscoroutinefunction):
            if name.startswith("_") or name in excused:
                continue
            parameters = list(inspect.signature(method).parameters)[1:]
            if parameters and parameters[0] not in ("participant", "participants"):
                strange.append(f"{room}.{name}({parameters[0]})")

    assert strange == []


def test_every_table_is_kept_per_participant() -> None:
    from guantong.records import METADATA

    for path in PACKAGE.glob("*/tables.py"):
        importlib.import_module(module_of(path))

    assert len(METADATA.tables) > 40
    for name, table in METADATA.tables.items():
        assert [column.name for column in table.primary_key][:1] == ["participant"], name
