"""Bits, split and join: what a mapping takes out of values or puts together, through the whole of fusion; written forms both ways."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.batch import BAD
from guantong.base.clock import NS
from guantong.base.errors import Skippable
from guantong.fuse.aimc import lua_of, mapping_from_element, mapping_to_element
from guantong.fuse.written import mappings_of, written

from .test_service import START, WHO, Shop, batch

TOML = """
[[mapping]]
name = "press status"
sources = ["mill/word"]
sinks = ["running", "fault", "mode"]
steps = [{ bits = { running = 0, fault = 1, mode = [4, 3] } }]

[[mapping]]
name = "place"
sources = ["mill/position"]
sinks = ["x", "y", "tool"]
steps = [{ split = { separator = " ", kinds = ["number", "number", "text"] } }]

[[mapping]]
name = "lot"
sources = ["mill/day", "mill/shift"]
sinks = ["lot"]
steps = [{ join = { separator = "-", kind = "text" } }]

[[mapping]]
name = "length"
sources = ["mill/digits"]
sinks = ["inch", "count"]
steps = [{ split = { separator = "/", kinds = ["number", "number"] } }, { unit = ["mm", "[in_i]"] }]
"""


@pytest.fixture
async def shop(tmp_path: Path, clock: Any) -> AsyncIterator[Shop]:
    opened = await Shop(tmp_path, clock).open()
    yield opened
    await opened.close()


async def set_all(shop: Shop, text: str = TOML) -> None:
    for mapping in mappings_of(text):
        await shop.fuse.set_mapping(WHO, mapping)


async def values(shop: Shop, native: str) -> list[tuple[Any, ...]]:
    """(seconds after START, value, status, revision) of a signal, in order."""
    number = next((one.id for one in await shop.fuse.signals(WHO) if one.native_id == native), None)
    found = []
    for row in (await shop.rows()).to_dicts():
        if row["signal_id"] == number:
            value = next(
                (row[f"value_{home}"] for home in ("f64", "i64", "text", "bool") if row[f"value_{home}"] is not None),
                None,
            )
            at = round(row["source_time"].timestamp()) - START // NS
            found.append((at, value, row["status"], row["revision"]))
    return found  # fmt: skip


async def test_a_word_gives_its_bits_as_signals_of_their_own_and_keeps_itself(shop: Shop) -> None:
    await set_all(shop)
    await shop.take(
        batch(
            [
                ("word", START, 0b0101_0001),
                ("word", START + NS, 0b0010_0010),
                ("word", START + 2 * NS, 96.0),
                ("word", START + 3 * NS, "?"),
                ("word", START + 4 * NS, None, None, None, BAD),
                ("word", START + 5 * NS, -1),
            ]
        )
    )

    assert await values(shop, "press status#running") == [
        (0, True, 0, 0), (1, False, 0, 0), (2, False, 0, 0), (3, None, BAD, 0), (4, None, BAD, 0), (5, True, 0, 0),
    ]  # fmt: skip
    assert [row[1] for row in await values(shop, "press status#mode")] == [5, 2, 6, None, None, 7]
    assert [row[1] for row in await values(shop, "word")] == [81, 34, 96.0, "?", None, -1]
    signals = {one.native_id: one for one in await shop.fuse.signals(WHO)}
    assert (signals["press status#running"].name, signals["press status#running"].type) == ("running", "bool")
    assert signals["press status#mode"].type == "i64"
    await shop.sound()


async def test_a_text_is_cut_into_typed_pieces_and_one_that_does_not_fit_gives_none(shop: Shop) -> None:
    await set_all(shop)
    texts = ["1.5 -2 T7", "1.5 2", "1 2 3 4", "x 2 T8"]
    await shop.take(batch([("position", START + n * NS, text) for n, text in enumerate(texts)]))
    await shop.take(batch([("digits", START, "25.4/50.8")]))

    assert await values(shop, "place#x") == [(0, 1.5, 0, 0), (1, None, BAD, 0), (2, None, BAD, 0), (3, None, BAD, 0)]
    assert [row[1] for row in await values(shop, "place#tool")] == ["T7", None, None, "T8"]
    assert [row[1] for row in await values(shop, "place#y")] == [-2.0, None, None, 2.0]
    assert [row[1] for row in await values(shop, "length#inch")] == [pytest.approx(1.0)]
    assert next(one for one in await shop.fuse.signals(WHO) if one.native_id == "length#inch").unit == "[in_i]"
    await shop.sound()


async def test_what_was_read_together_is_joined_and_nothing_else(shop: Shop) -> None:
    await set_all(shop)
    await shop.take(
        batch([("day", START, "2026-11-24"), ("shift", START, 2), ("day", START + NS, "2026-11-25")]),
        batch([("shift", START + NS, 1)]),  # another entry of the log: not read together
        batch([("day", START + 2 * NS, "2026-11-26"), ("shift", START + 2 * NS, None, None, None, BAD)]),
    )

    assert await values(shop, "lot#lot") == [(0, "2026-11-24-2", 0, 0), (2, None, BAD, 0)]
    await shop.sound()


async def test_a_repeat_makes_no_second_value_a_revision_makes_a_revision_and_a_restart_neither(
    tmp_path: Path, clock: Any
) -> None:
    shop = await Shop(tmp_path, clock).open()
    await set_all(shop)
    await shop.take(batch([("word", START, 1)]), batch([("word", START, 1)]))
    await shop.close(crash=True)
    shop = await Shop(tmp_path, clock).open()
    await shop.take(batch([("word", START, 2)]))
    before = await values(shop, "press status#running")
    edges = await shop.records.rows(_edges())
    await shop.sound()
    await shop.close()

    assert before == [(0, True, 0, 0), (0, False, 0, 1)]
    assert {("fuse:signal:1", f"fuse:signal:{n}") for n in (2, 3, 4)} <= {(e["source"], e["target"]) for e in edges}


def _edges() -> Any:
    from sqlalchemy import select

    from guantong.records.tables import EDGES

    return select(EDGES)


async def test_a_mapping_that_is_taken_away_makes_nothing_more_and_its_name_counts_on(shop: Shop) -> None:
    await set_all(shop)
    await shop.take(batch([("word", START, 1)]))
    await shop.fuse.remove_mapping(WHO, "press status")
    await shop.take(batch([("word", START + NS, 1)]))
    left = [one.name for one in await shop.fuse.mappings(WHO)]
    with pytest.raises(Skippable) as missing:
        await shop.fuse.remove_mapping(WHO, "press status")
    await set_all(shop)
    await shop.take(batch([("word", START + 2 * NS, 1)]))

    assert left == ["length", "lot", "place"]
    assert missing.value.code == "fuse.no-such-mapping"
    assert [row[0] for row in await values(shop, "press status#running")] == [0, 2]
    assert [one.value["version"] for one in await shop.fuse.corrections(WHO)] == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        'name="m"\nsources=["a"]\nsinks=["x"]\nsteps=[{scale=1}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{scale=1, offset=2}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{scale=1},{bits={x=0}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x","y"]\nsteps=[{bits={y=0,x=1}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{bits={x=[60,4]}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{bits={x=true}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{bits={x=0}},{scale=2}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{split={separator="",kinds=["text"]}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{split={separator=" ",kinds=["text","text"]}}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{join={separator=" "}}]',
        'name="m"\nsources=["a/b","a/c"]\nsinks=["x"]\nsteps=[{scale=2}]',
        'name="m"\nsources=["a/b"]\nsinks=["x"]\nsteps=[{lua="return 1"}]',
        'name="m"\nsources=["a/b"]\nspeed=1',
        "[",
        "{",
        "x=1",
    ],
)
def test_a_mapping_that_does_not_hold_together_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(Skippable) as refused:
        mappings_of(text)

    assert refused.value.code == "fuse.mapping-invalid"


_NAME = st.text("abcxyz中 #", min_size=1, max_size=8)
_KIND = st.sampled_from(["number", "integer", "text"])
_STRUCTURE = st.one_of(
    st.lists(st.tuples(_NAME, st.integers(0, 50), st.integers(1, 12)), min_size=1, max_size=4, unique_by=lambda one: one[0]).map(
        lambda fields: (["s/a"], [one[0] for one in fields], {"bits": {name: [first, width] for name, first, width in fields}})
    ),
    st.tuples(st.text(" ,;|", min_size=1, max_size=3), st.lists(_KIND, min_size=1, max_size=4)).map(
        lambda one: (["s/a"], [f"p{n}" for n in range(len(one[1]))], {"split": {"separator": one[0], "kinds": one[1]}})
    ),
    st.tuples(st.text(" -/", max_size=2), _KIND, st.integers(2, 4)).map(
        lambda one: ([f"s/{n}" for n in range(one[2])], ["x"], {"join": {"separator": one[0], "kind": one[1]}})
    ),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(_NAME, _STRUCTURE)
def test_a_mapping_survives_the_way_through_its_document_and_its_written_form(
    name: str, structure: tuple[list[str], list[str], dict[str, Any]]
) -> None:
    sources, sinks, step = structure
    text = orjson.dumps({"name": name, "sources": sources, "sinks": sinks, "steps": [step]}).decode()
    (mapping,) = mappings_of(text)

    assert mapping_from_element(mapping_to_element(mapping)) == mapping
    assert mappings_of(orjson.dumps(written(mapping)).decode()) == [mapping]


def test_lua_of_each_step_does_what_its_name_says(peers: Any) -> None:
    """Run by an interpreter that we did not write; it is never run by the product."""
    found = {mapping.name: lua_of(mapping) for mapping in mappings_of(TOML)}
    script = "\n".join(
        [
            *(f"local function {name.replace(' ', '_')}(sources)\n{text}\nreturn aimc_main(sources)\nend" for name, text in found.items()),
            'local s = press_status({["word"]=81}); print(s.running, s.fault, s.mode)',
            'local p = place({["position"]="1.5 -2 T7"}); print(p.x, p.y, p.tool)',
            'print(next(place({["position"]="1 2"})))',
            'print(lot({["day"]="2026-11-24", ["shift"]=2}).lot)',
            'print(length({["digits"]="25.4/50.8"}).inch)',
        ]
    )  # fmt: skip
    command = peers.run(Path(__file__).resolve().parent.parent / "peers" / "lua.js")
    done = subprocess.run(command, input=script, capture_output=True, text=True, env=peers.environment, check=False)
    said = done.stdout + done.stderr

    assert said.split() == ["true", "false", "5", "1.5", "-2", "T7", "nil", "2026-11-24-2", "1.0"]
