"""The words of the pages: equal keys and places in both languages, Chinese that is written as Chinese, none missing, none idle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guantong.web.model import LANGUAGES
from guantong.web.pages import PAGES
from guantong.web.texts import all_texts, chosen_language, places, say

HERE = Path(__file__).resolve().parents[2] / "src" / "guantong" / "web"
HAN = re.compile(r"[\u4e00-\u9fff]")
# figures, signs and names that are the same in every language
SAME = {
    "frame.sep",
    "frame.list-sep",
    "station.rows",
    "station.offset",
    "station.leaves",
    "station.amount",
    "station.worth",
    "station.availability",
    "station.received-once",
    "station.measurements",
    "findings.quoted",
    "station.silent",
}


def test_every_text_has_both_languages_and_the_same_places() -> None:
    for key, text in all_texts().items():
        assert set(text) <= {"en", "zh", "one"}, key
        assert text["en"], key
        assert places(text["en"]) == places(text["zh"]), key
        assert "one" not in text or places(text["one"]) == places(text["en"]), key


def test_chinese_is_chinese_with_full_width_punctuation_and_spaced_figures() -> None:
    for key, text in all_texts().items():
        zh = text["zh"]
        if key in SAME:
            continue
        assert HAN.search(zh), key
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]", zh), f"{key}: half-width punctuation in {zh}"
        assert not re.search(r"[\u4e00-\u9fff](\{(n|left|right|same|rows|pages|total)\}|\d)", zh), (
            f"{key}: no space before a figure in {zh}"
        )
        assert not re.search(r"(\{(n|left|right|same|pages|total)\}|\d)[\u4e00-\u9fff]", zh), (
            f"{key}: no space after a figure in {zh}"
        )


def test_every_key_that_a_template_names_exists() -> None:
    missing = []
    for path in (HERE / "templates").rglob("*.html"):
        for key in re.findall(r"""\bt(?:_facts)?\(\s*["']([a-z0-9-]+\.[a-z0-9-]+)["']\s*[,)]""", path.read_text()):
            if key not in all_texts():
                missing.append(f"{path.name}: {key}")
    assert not missing


def test_every_page_has_title_and_lead_and_every_menu_entry_its_word() -> None:
    for page in PAGES:
        for part in ("title", "lead", *(["menu"] if page.menu else [])):
            assert f"{page.name}.{part}" in all_texts(), (page.name, part)


def test_no_text_is_idle() -> None:
    source = "".join(path.read_text() for path in (HERE / "templates").rglob("*.html"))
    source += "".join(path.read_text() for path in HERE.rglob("*.py"))
    computed = re.findall(r"""["']([a-z-]+)\.["'] ~""", source) + re.findall(r"""word\(["']([a-z-]+)["']""", source)
    groups = {
        *computed,
        "gap",
        "station",
        "decide",
        "finding",
        "done",
        "verb",
        "level",
        "evidence",
        "state",
        "alarm",
        "anchor",
    }
    # the guest's page says its words from its script
    source += "".join(
        f" guest.{name}" for name in re.findall(r"""["'`]([a-z-]+)["'`$]""", (HERE / "static" / "guest.js").read_text())
    )
    idle = [
        key
        for key in all_texts()
        if key.split(".")[0] not in groups
        and key not in source
        and not key.startswith(("guest.state-", "guest.answer-"))
        and key.split(".")[1] not in ("title", "lead", "menu")
    ]
    assert not idle


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "language"),
    [
        ("zh-CN", "en", "en", "zh-CN"),
        ("zh", None, "", "zh-CN"),
        (None, "en", "zh-CN,zh;q=0.9", "en"),
        (None, None, "zh-TW,zh;q=0.9,en;q=0.8", "zh-CN"),
        (None, None, "de, en;q=0.5, zh;q=0.4", "en"),
        (None, None, "zh;q=0, fr", "en"),
        ("tlh", "tlh", "tlh;q=nonsense", "en"),
    ],
)
def test_the_language_is_what_was_asked_then_remembered_then_accepted(
    asked: str | None, remembered: str | None, accepted: str, language: str
) -> None:
    assert chosen_language(asked, remembered, accepted, "en") == language
    assert language in LANGUAGES


def test_one_thing_is_singular_in_english() -> None:
    assert say("en", "station.sources", n="1") == "1 source"
    assert say("en", "station.sources", n="4") == "4 sources"
    assert say("zh-CN", "station.sources", n="1") == "1 个数据源"
