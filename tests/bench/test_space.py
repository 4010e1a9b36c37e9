"""The how-to about spaces shows commands that exist, in both languages the same; ``python -m bench.space`` types them for real."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from guantong.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_both_languages_show_the_same_commands_and_each_exists() -> None:
    from bench.space import PAGES, shown

    english, chinese = (shown(page.read_text("utf-8")) for page in PAGES)

    assert english == chinese
    assert set(english) == {"leader", "customer", "supplier"}
    for name in {name for names in english.values() for name in names}:
        command: click.Command = main
        for word in name.split():
            assert isinstance(command, click.Group), name
            assert word in command.commands, name
            command = command.commands[word]


def test_a_story_in_which_something_is_wrong_is_called_wrong() -> None:
    from bench.space import FIRM, PAGES, ROWS, shown, verdict

    good = {
        "issued": [True, True],
        "seat": "did:web:10.77.0.1%3A8443:p:zhou-gears",
        "members": sorted(["Gear Works", "Drives Ltd", FIRM]),
        "reached_from_outside": [False, False],
        "state": "FINALIZED",
        "rows": ROWS,
        "verify_exit": 0,
        "relayed": [("zhou-gears", True)],
        "revoked": [0, 1],
        "revoked_told": "exchange.answer-unusable: refused",
        "typed": shown(PAGES[0].read_text("utf-8")),
    }
    bad = {
        "issued": [True, False],
        "seat": "did:web:x",
        "members": [],
        "reached_from_outside": [False, True],
        "state": "TERMINATED",
        "rows": ROWS - 1,
        "verify_exit": 1,
        "relayed": [("zhou-gears", False)],
        "revoked": [0, 0],
        "typed": {},
    }

    assert verdict(good) == []
    assert len(verdict(bad)) == len(bad)
    for name, value in bad.items():
        assert len(verdict({**good, name: value})) == 1
