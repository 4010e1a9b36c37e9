"""Templates to HTML: Jinja with autoescape, the words of one language, and figures shown its way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.datastructures import URL

from guantong.base.clock import iso
from guantong.base.entry import EntryKind
from guantong.base.error_table import ERRORS
from guantong.base.errors import GuantongError
from guantong.base.finding import FINDING_KINDS
from guantong.journey import JOURNEY
from guantong.web import drawing, shown
from guantong.web.loaders.journey import station_states
from guantong.web.model import LANGUAGES, Session
from guantong.web.pages import PAGES, STATION, Page
from guantong.web.rooms import Rooms
from guantong.web.texts import all_texts, say

__all__ = ["Render"]

_STATIC = Path(__file__).parent / "static"
_FRESH_S = 3.0


@cache
def _mark(name: str) -> str:
    """Address of a static file with the hash of its content, so that browsers may keep it for ever and never show an old one."""
    try:
        digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    except OSError:
        return f"/static/{name}"
    return f"/static/{name}?v={digest}"


@pass_context
def _say(context: Context, key: str, **facts: Any) -> str:
    return say(context["lang"], key, **facts)


@pass_context
def _word(context: Context, group: str, name: Any) -> str:
    """The word for a value of a standard's enumeration, or the value itself where the table has none."""
    key = f"{group}.{str(name).lower().replace('_', '-')}"
    return say(context["lang"], key) if key in all_texts() else str(name)


@pass_context
def _instant(context: Context, text: Any, form: str = "full") -> Markup:
    if not text:
        return Markup("–")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        text, shown.zone_note(text), shown.instant(text, context["lang"], form)
    )


@pass_context
def _instant_ns(context: Context, instant: int) -> Markup:
    return _instant(context, iso(instant), "short")


@pass_context
def _duration(context: Context, seconds: Any) -> str:
    return shown.duration(seconds, context["lang"])


@pass_context
def _compact(context: Context, value: Any) -> str:
    return shown.compact(value, context["lang"])


@pass_context
def _error(context: Context, code: str, facts: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Message and next step of a code; where a place holds the code without its facts, a dash stands for each."""
    row = ERRORS.get(code)
    if row is None:
        return {"code": code, "message": code, "hint": ""}
    zh = context["lang"].startswith("zh")
    known = _Blank(facts or {})
    return {
        "code": code,
        "message": (row.message_zh if zh else row.message_en).format_map(known),
        "hint": (row.hint_zh if zh else row.hint_en).format_map(known),
    }


@pass_context
def _finding(context: Context, kind: str) -> str:
    names = FINDING_KINDS.get(kind, (kind, kind))
    return names[1] if context["lang"].startswith("zh") else names[0]


class _Blank(dict[str, Any]):
    """A fact that a finding does not have shows as a dash."""

    def __missing__(self, key: str) -> str:
        return shown.NOTHING


def _prepared(language: str, facts: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """Facts of a finding as its sentence shows them: seconds with one decimal, units as people write them."""
    filled = dict(facts)
    filled |= {name: shown.number(value, 1) for name, value in facts.items() if name in _SECONDS and _is_number(value)}
    for name in ("written", "declared", "unit"):
        if isinstance(facts.get(name), str):
            filled[name] = shown.unit(facts[name])
    written = facts.get("written")
    if isinstance(written, list | tuple):
        filled["written"] = say(language, "findings.and").join(
            say(language, "findings.quoted", text=one) for one in written
        )
    filled["rows"] = facts.get("rows", facts.get("max_rows"))
    filled["length"] = shown.duration(seconds, language)
    return {name: value for name, value in filled.items() if value is not None}


_SECONDS = ("offset_s", "max_late_s", "uncertainty_s", "seconds", "step_s")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pass_context
def _finding_words(context: Context, one: Mapping[str, Any], group: str = "finding") -> str:
    """What was found, or with ``group`` ``done`` what was done about it, in a sentence with its figures."""
    language, facts = context["lang"], one["facts"]
    filled = _prepared(language, facts, one.get("seconds"))
    plainly = f"{group}.{one['kind']}"
    for key in (plainly if "rows" in filled else f"{plainly}-alone", plainly):
        if key in all_texts():
            return _fill(language, key, filled)
    return _finding(context, one["kind"])


_HIDDEN = ("correction", "channels", "signal_ids")


@pass_context
def _facts(context: Context, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts of a finding or correction, each with its word and in the form that suits it."""
    shown_facts = []
    for name, value in facts.items():
        if value is None or isinstance(value, Mapping) or name in _HIDDEN:
            continue
        shown_facts.append((_word(context, "fact", name), _fact(context, name, value)))
    return shown_facts


def _fact(context: Context, name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return say(context["lang"], "frame.list-sep").join(_fact(context, name, one) for one in value)
    if name == "coverage" and _is_number(value):
        return shown.percent(value, 0)
    if name in _SECONDS and _is_number(value):
        return shown.number(value, 1 if abs(value) >= 1 else 3)
    if _is_number(value):
        return shown.number(value)
    if name in ("trained_from", "trained_to"):
        return shown.instant(value, context["lang"])
    if name in ("written", "declared", "unit", "from", "to"):
        return shown.unit(value)
    if name == "reason":
        return _cause(context, value)
    if name == "rule":
        sep = say(context["lang"], "frame.list-sep")
        return sep.join(_word(context, "match-rule", one.split(".")[-1]) for one in str(value).split())
    return str(value)


@pass_context
def _cause(context: Context, reason: Any) -> str:
    """A reason that a source gave, in the language of the page where the table has it, else as it came."""
    text = str(reason or "")
    slug = "-".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))
    for key in (f"gap.{slug}", *(f"gap.{one}" for one in _CAUSES if one in slug)):
        if key in all_texts():
            return say(context["lang"], key)
    return text


_CAUSES = (
    "buffer-moved-on",
    "ended-the-stream",
    "closed-by-the-other-side",
    "connection-refused",
    "connection-lost",
    "connection-cut",
    "queue-overflowed",
    "no-answer",
)


def _fill(language: str, key: str, facts: Mapping[str, Any]) -> str:
    text = all_texts()[key]
    chosen = (
        text["zh"]
        if language.startswith("zh")
        else text["one"]
        if "one" in text and facts.get("n") == 1
        else text["en"]
    )
    shown_facts = {
        name: shown.number(value, None)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
        for name, value in facts.items()
    }
    return chosen.format_map(_Blank(shown_facts))


@pass_context
def _say_facts(context: Context, key: str, facts: Mapping[str, Any]) -> str:
    return _fill(context["lang"], key, facts)


def _has(key: str) -> bool:
    return key in all_texts()


@pass_context
def _station(context: Context, name: str, facts: Mapping[str, Any]) -> str:
    """A station's figure, each fact in the form that suits it."""
    language = context["lang"]
    forms: Mapping[str, Any] = {
        "rows": lambda value: shown.compact(value, language),
        "rate": lambda value: shown.number(round(value) if value >= 10 else round(value, 1)),
        "bytes": shown.size,
        "seconds": lambda value: shown.duration(value, language),
        "share": shown.percent,
    }
    filled = {key: forms.get(key, _plain_fact)(value) for key, value in facts.items()}
    return say(language, f"station.{name}", **filled)


def _plain_fact(value: Any) -> str:
    if isinstance(value, str):
        return shown.number(value) if value[:1].isdigit() else value
    return shown.number(value)


@cache
def _entry_kinds() -> Mapping[str, tuple[str, str]]:
    """What each kind of entry states, in both languages, from the stages' own tables."""
    found: dict[str, tuple[str, str]] = {}
    for room in (*(stage.name for stage in JOURNEY), "web"):
        for kind in vars(import_module(f"guantong.{room}.model")).values():
            if isinstance(kind, EntryKind):
                found[kind.name] = (kind.en.rstrip("."), kind.zh.rstrip("。"))
    return found


@pass_context
def _rule_name(context: Context, rule: str) -> str:
    """Why two names are one thing, in the words of fuse's own table of rules."""
    from guantong.fuse.parts import RULES

    known = RULES.get(rule)
    if known is None:
        return rule
    return known.zh if context["lang"].startswith("zh") else known.en


@pass_context
def _entry_name(context: Context, kind: str) -> str:
    names = _entry_kinds().get(kind, (kind, kind))
    return names[1] if context["lang"].startswith("zh") else names[0]


class Render:
    """All HTML of one participant's pages."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._states: tuple[float, dict[str, str]] = (float("-inf"), {})
        env = Environment(
            loader=PackageLoader("guantong.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        env.globals.update(
            curve_lines=drawing.curve_lines,
            tolerance=drawing.tolerance,
            strip=drawing.strip,
            control=drawing.control,
            drawn=drawing.drawn,
            t=_say,
            t_facts=_say_facts,
            t_has=_has,
            station=_station,
            entry_name=_entry_name,
            rule_name=_rule_name,
            word=_word,
            asset=_mark,
            error=_error,
            finding_name=_finding,
            finding_words=_finding_words,
            facts_shown=_facts,
            cause=_cause,
            NOTHING=shown.NOTHING,
        )
        env.filters.update(
            num=shown.number,
            sig=shown.significant,
            signed=lambda value, digits=None: shown.number(value, digits, sign=True),
            compact=_compact,
            percent=shown.percent,
            size=shown.size,
            unit=shown.unit,
            duration=_duration,
            instant=_instant,
            instant_ns=_instant_ns,
            path=lambda text: quote(str(text), safe=""),
        )
        self._env = env

    def _base(self, language: str, session: Session | None) -> dict[str, Any]:
        zh = language.startswith("zh")
        return {
            "lang": language,
            "zh": zh,
            "company": self._rooms.name,
            "participant": self._rooms.participant,
            "csrf": session.csrf if session else "",
            "signed_in": session is not None,
            "stages": [
                {
                    "name": stage.name,
                    "href": STATION[stage.name],
                    "verb": stage.zh if zh else stage.name.capitalize(),
                    "mark": stage.mark,
                    "sentence": stage.sentence_zh if zh else stage.sentence_en,
                }
                for stage in JOURNEY
            ],
            "menu": [page for page in PAGES if page.menu],
            "states": {},
            "stage": "",
            "page": None,
            "other": {},
            "live_url": "",
            "api_url": "",
            "languages": LANGUAGES,
        }

    async def _rail(self) -> dict[str, str]:
        """States for the rail, at most a few seconds old: they cost one question to each stage."""
        now = self._rooms.records.clock.monotonic()
        if now - self._states[0] > _FRESH_S:
            self._states = (now, await station_states(self._rooms))
        return self._states[1]

    async def page(self, page: Page, data: Mapping[str, Any], *, language: str, session: Session, url: URL) -> str:
        """A whole page."""
        context = self._base(language, session)
        query = {name: value for name, value in _pairs(url) if name != "lang"}
        context |= {
            "data": data,
            "page": page,
            "stage": page.stage,
            "states": data["states"] if page.name == "journey" else await self._rail(),
            "title": _title(data.get("title"), language) or say(language, f"{page.name}.title"),
            "other": {tag: "?" + urlencode({**query, "lang": tag}) for tag in LANGUAGES if tag != language},
            "api_url": "/api" + url.path + (f"?{urlencode(query)}" if query else ""),
            "live_url": "/live" + url.path + (f"?{urlencode(query)}" if query else "") if page.live else "",
            "query": query,
            "here": url.path,
        }
        return self._env.get_template(f"{page.name}.html").render(context)

    async def bare(self, fragment: str, data: Mapping[str, Any], *, language: str, session: Session, url: URL) -> str:
        """A fragment inside the frame of a page, for browsers without script."""
        context = self._base(language, session)
        context |= {"data": data, "title": say(language, f"{fragment}.title"), "fragment": f"parts/{fragment}.html"}
        context |= {"states": await self._rail(), "query": {}, "here": url.path}
        return self._env.get_template("bare.html").render(context)

    def live(self, page: Page, data: Mapping[str, Any], *, language: str, session: Session) -> str:
        """The block ``live`` of a page alone."""
        template = self._env.get_template(f"{page.name}.html")
        context = self._base(language, session) | {
            "data": data,
            "page": page,
            "title": "",
            "query": {},
            "here": page.path,
        }
        return "".join(template.blocks["live"](template.new_context(context)))

    def fragment(self, name: str, data: Mapping[str, Any], *, language: str, session: Session) -> str:
        """A small piece that HTMX puts into the page."""
        context = self._base(language, session) | {"data": data, "query": {}, "here": ""}
        return self._env.get_template(f"parts/{name}.html").render(context)

    def error(self, error: GuantongError, language: str, *, signed_in: bool) -> str:
        """What went wrong, its code, and what to do."""
        context = self._base(language, None) | {
            "title": error.message(language),
            "hint": error.hint(language),
            "code": error.code,
            "status": error.status,
            "signed_in": signed_in,
        }
        return self._env.get_template("error.html").render(context)

    def signed_in(self, language: str) -> str:
        """The step between the link and the pages."""
        context = self._base(language, None) | {"title": say(language, "signin.title"), "signed_in": False}
        return self._env.get_template("signed_in.html").render(context)

    def guest(self, language: str) -> str:
        """The page of a guest, with the words that its script says."""
        zh = language.startswith("zh")
        words = {
            key.removeprefix("guest."): text["zh" if zh else "en"]
            for key, text in all_texts().items()
            if key.startswith("guest.")
        }
        words["host-did"] = self._rooms.participant
        context = self._base(language, None) | {"title": say(language, "guest.title"), "words": words}
        return self._env.get_template("guest.html").render(context)


def _title(title: Any, language: str) -> str:
    if isinstance(title, Mapping):
        return str(title["zh" if language.startswith("zh") else "en"])
    return str(title or "")


def _pairs(url: URL) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(url.query, keep_blank_values=True)[:50]
