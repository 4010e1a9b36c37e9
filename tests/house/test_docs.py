"""What the documents say is so: their commands exist, their code runs, their links lead somewhere, both languages say the same."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest

import guantong
from guantong.base.error_table import ERRORS
from guantong.cli import main
from guantong.config import SETTINGS
from guantong.connect.model import KINDS
from guantong.fuse.written import mappings_of
from guantong.journey import JOURNEY

PACKAGE = Path(guantong.__file__).resolve().parent
ROOT = PACKAGE.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "changes").glob("*.md")])
WRITTEN = [page for page in PAGES if "reference" not in page.parts]
PAIRS = [(ROOT / "README.md", ROOT / "README.zh-CN.md"), (DOCS / "tutorial.md", DOCS / "tutorial.zh-CN.md")]
HAN = re.compile(r"[\u4e00-\u9fff]")
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+ .*)$", prose, re.MULTILINE)


# -- generated pages


@cache
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_reference_is_what_the_script_writes_from_the_tables_of_the_code() -> None:
    made = await asyncio.to_thread(make_docs().documents)

    differing = [name for name, text in made.items() if not (DOCS / name).exists() or text_of(DOCS / name) != text]
    assert differing == [], "run: python scripts/make_docs.py"
    measured = {"reference/disturbances.md"}  # written by a run, not from the code
    assert {f"reference/{page.name}" for page in (DOCS / "reference").iterdir()} - measured == {
        name for name in made if name.startswith("reference/")
    }


@pytest.mark.parametrize(
    "name", ["settings", "errors", "commands", "entries", "wires", "journey", "states", "routes", "terms"]
)
def test_a_page_of_the_reference_says_in_its_first_line_how_it_is_made_and_speaks_both_languages(name: str) -> None:
    page = text_of(DOCS / "reference" / f"{name}.md")

    assert "scripts/make_docs.py" in page.splitlines()[0]
    assert HAN.search(page)


def test_every_setting_error_and_command_has_its_entry() -> None:
    reference = {name: text_of(DOCS / "reference" / f"{name}.md") for name in ("settings", "errors", "commands")}

    assert [row.name for row in SETTINGS if f"`{row.name}`" not in reference["settings"]] == []
    assert [row.variable for row in SETTINGS if f"`{row.variable}`" not in reference["settings"]] == []
    assert [code for code in ERRORS if f"`{code}`" not in reference["errors"]] == []
    assert [
        " ".join(path)
        for path, _ in commands()
        if f"\n## {' '.join(('guantong', *path))}\n" not in reference["commands"]
    ] == []


def test_the_pictures_of_the_state_machines_have_every_edge() -> None:
    from guantong.exchange import negotiation, transfer

    page = text_of(DOCS / "reference" / "states.md")
    for module in (negotiation, transfer):
        for (state, sender, message), after in module.TRANSITIONS.items():
            assert re.search(
                rf"^    {re.escape(state or '[*]')} --> {after}: .*{message} \({sender}\)", page, re.MULTILINE
            )


# -- both languages


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=["README", "tutorial"])
def test_both_languages_have_the_same_headings_tables_and_code(english: Path, chinese: Path) -> None:
    assert [line.split()[0] for line in headings(english)] == [line.split()[0] for line in headings(chinese)]
    assert all(HAN.search(line) for line in headings(chinese))
    for language in ("sh", "python", "toml"):
        assert blocks(english, language) == blocks(chinese, language)
    rows = [re.findall(r"^\|.*\|$", text_of(page), re.MULTILINE) for page in (english, chinese)]
    assert len(rows[0]) == len(rows[1])
    assert [row.count("|") for row in rows[0]] == [row.count("|") for row in rows[1]]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "README.zh-CN.md"], ids=["en", "zh"])
def test_the_readme_keeps_its_order_and_names_every_stage_in_the_order_of_the_journey(page: Path) -> None:
    text = text_of(page)
    first = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    stages = [name for cell in first for name in (stage.name for stage in JOURNEY) if name in cell.split()]

    assert stages == [stage.name for stage in JOURNEY] * 2, "once what it does, once what is missing"
    assert blocks(page, "sh")[0] == "make demo\n"
    assert text.index("make demo") < text.index("docs/journey.svg") < text.index("```python") < text.index("](LICENSE)")


def test_the_connectors_of_the_readme_are_the_kinds_of_sources() -> None:
    section = text_of(ROOT / "README.md").split("## Connectors")[1].split("\n## ")[0]
    named = {
        "shdr": "SHDR adapter",
        "shdr-log": "SHDR log",
        "mtconnect": "MTConnect agent",
        "opcua": "OPC UA",
        "qif": "QIF",
        "folder": "watched folder",
        "mqtt": "MQTT 3.1.1 and 5",
        "sparkplug": "Sparkplug B",
        "modbus": "Modbus TCP",
        "http": "HTTP, webhook",
        "webhook": "HTTP, webhook",
        "sql": "SQL",
        "s7": "S7",
    }

    assert set(named) == set(KINDS)
    assert [kind for kind, words in named.items() if words not in section] == []


def test_the_lines_of_the_readme_run_and_do_what_it_says(tmp_path: Path) -> None:
    [program] = blocks(ROOT / "README.md", "python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "received=3, kept=2, duplicates=0, quarantined=1" in ended.stdout
    assert "'value_i64': 1180" in ended.stdout


# -- commands, settings and codes that pages name


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


def named_commands(page: Path) -> list[str]:
    text = text_of(page)
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    inline = re.findall(
        r"`((?:\.venv/bin/)?(?:guantong|make) [^`\n]+)`",
        re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL),
    )
    return [line.removeprefix(".venv/bin/") for line in (*lines, *inline) if line.strip()]


def problem_of(line: str) -> str | None:
    """Why a line that a page shows can't be typed; None where it can."""
    words = shlex.split(line, comments=True)
    if not words:
        return None
    if words[0] == "python":
        return None if (ROOT / words[1]).exists() else f"no file {words[1]}"
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
        return None if words[1] in targets else f"no target {words[1]}"
    if words[0] != "guantong":
        return f"no command {words[0]}"
    command: click.Command = main
    words = words[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    if command.name == "verify":
        return (
            None
            if {word for word in words if word.startswith("--")} <= {"--trust", "--json", "--lang"}
            else "no such option"
        )
    known = {option: one for one in command.params if isinstance(one, click.Option) for option in one.opts}
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    rest = []
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            if word not in known:
                return f"{command.name} has no option {word}"
            if not known[word].is_flag and words:
                words.pop(0)
        else:
            rest.append(word)
    return None if len(rest) <= len(arguments) else f"{command.name} takes no {rest[-1]}"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_can_be_typed(page: Path) -> None:
    assert [f"{line}: {why}" for line in named_commands(page) if (why := problem_of(line))] == []


def test_the_check_of_commands_finds_what_can_not_be_typed() -> None:
    for line in (
        "make nothing",
        "guantong fly",
        "guantong demo --fast",
        "guantong stages connect",
        "guantong verify --force x",
        "guantong sources fly",
    ):
        assert problem_of(line), line
    for line in (
        "make demo",
        "guantong demo --once --seed 7 --json",
        "guantong errors connect",
        "guantong sources probe http://127.0.0.1:5000/",
    ):
        assert problem_of(line) is None, line
    assert len([line for page in WRITTEN for line in named_commands(page)]) > 15


OTHER_VARIABLES = {"GUANTONG_REQUIRE", "GUANTONG_DATA", "GUANTONG_LOOP"}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_variables_and_codes_that_a_page_names_exist(page: Path) -> None:
    text = text_of(page)
    sections = {row.name.split(".")[0] for row in SETTINGS}
    names = {row.name for row in SETTINGS} | set(ERRORS)
    variables = {row.variable for row in SETTINGS} | OTHER_VARIABLES

    dotted = {
        one
        for one in re.findall(r"`([a-z]+\.[a-z0-9-]+)`", text)
        if one.split(".")[0] in sections and not one.endswith((".py", ".md"))
    }
    assert dotted - names == set()
    assert set(re.findall(r"GUANTONG_[A-Z_]+", text)) - variables == set()
    for block in blocks(page, "toml"):
        import tomllib

        if "steps" in tomllib.loads(block):  # a mapping, as examples/press.toml is
            assert mappings_of(block)
            continue
        for section, rows in tomllib.loads(block).items():
            assert {f"{section}.{name}" for name in rows} <= names


# -- links, decisions, the life of a reading


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL))
    targets = [one.split("#")[0] for one in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in one]

    assert [one for one in targets if one and not (page.parent / one).exists()] == []


def test_every_decision_is_a_page_of_its_own_with_context_options_choice_and_consequences() -> None:
    index = text_of(DOCS / "README.md")
    pages = sorted((DOCS / "adr").glob("*.md"))

    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = text_of(page)
        title = text.splitlines()[0].removeprefix("# ")
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page.name)
        assert f"[{title}](adr/{page.name})" in index
        assert [word for word in ("Context", "Options", "Choice", "Consequences") if f"**{word}.**" not in text] == []
        assert len(text.splitlines()) < 60


def places(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)`\s+`([\w.]+)`", text_of(page))


def defined(path: Path) -> set[str]:
    found: set[str] = set()

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")

    walk(ast.parse(text_of(path)).body, "")
    return found


def test_the_life_of_a_reading_names_files_and_functions_that_exist_in_every_stage() -> None:
    named = places(DOCS / "life-of-a-reading.md")

    assert len(named) > 30
    assert [
        f"{file} {name}" for file, name in named if not (PACKAGE / file).exists() or name not in defined(PACKAGE / file)
    ] == []
    rooms = list(dict.fromkeys(file.split("/")[0] for file, _ in named))
    assert [room for room in rooms if room in {stage.name for stage in JOURNEY}] == [stage.name for stage in JOURNEY]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:src/guantong/|scripts/|docs/|tests/)?[\w-]+(?:/[\w-]+)*\.py)`", text_of(page))

    assert [one for one in named if not any((root / one).exists() for root in (ROOT, PACKAGE))] == []


# -- what travels with the project


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git: this is no checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_lock_files_pin_by_hash_and_name_no_address() -> None:
    locks = [*ROOT.glob("requirements*.lock"), ROOT / "package-lock.json"]

    assert len(locks) == 4
    for lock in locks:
        text = re.sub(r'"funding": \{[^}]*\}', "", text_of(lock))
        assert "://" not in text, lock.name
        assert "sha256:" in text or "sha512-" in text


REGISTRIES = [".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"), ("repo1", "maven", "org"), ("repo", "maven", "apache", "org"),
    ("proxy", "golang", "org"), ("static", "crates", "io"), ("unpkg", "com"), ("jsdelivr", "net"), ("cdnjs", "cloudflare", "com"),
)]  # fmt: skip
MACHINE = re.compile(r"(?<![\w.:/\-*}])/(?:work|home|Users|root)/[\w.-]")


def test_no_tracked_file_names_a_registry_or_a_path_of_somebody_s_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = text_of(path)
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRIES if host in text]
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE.finditer(text)]

    assert found == []


def test_targets_of_the_makefile_that_the_continuous_integration_calls_exist() -> None:
    script = text_of(ROOT / ".ci" / "run")
    called = re.findall(r"^make ([a-z-]+)", script, re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))

    assert called == ["setup-dev", "peers", "lint", "test", "conformance"]
    assert set(called) <= targets
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    phony = re.search(r"^\.PHONY: (.*)$", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert phony
    assert set(phony.group(1).split()) <= targets


def test_what_the_makefile_runs_is_there() -> None:
    makefile = text_of(ROOT / "Makefile")

    for module in re.findall(r"python -m (bench|tests\.\w+)", makefile):
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module
    for file in re.findall(r"python (scripts/\w+\.py)", makefile):
        assert (ROOT / file).exists(), file
    for lock in re.findall(r"(requirements[\w-]*\.lock)", makefile):
        assert (ROOT / lock).exists(), lock


def test_the_notice_names_the_works_of_others_that_travel_inside() -> None:
    notice = " ".join(text_of(ROOT / "NOTICE").split())

    assert (
        "src/guantong/base/units_auto.json is derived from the QUDT unit vocabulary (https://qudt.org), © QUDT.org, licensed CC BY 4.0; "
        "selected and reformatted by scripts/make_units.py." in notice
    )
    assert "Dataspace Protocol" in notice
    assert "National Institute of Standards and Technology" in notice
    for library in ("htmx", "uPlot", "rfc8785"):
        assert library in notice
    assert "PROVENANCE.md" in notice


def test_the_version_is_one() -> None:
    import tomllib

    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]

    assert project["version"] == guantong.__version__
    assert f"\n## {guantong.__version__} " in text_of(ROOT / "CHANGELOG.md")


def test_fragments_of_the_next_release_are_named_by_what_they_change() -> None:
    for page in (ROOT / "changes").glob("*.md"):
        assert page.name == "README.md" or re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", page.name)
