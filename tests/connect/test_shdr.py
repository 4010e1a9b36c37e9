"""SHDR lines: what they say, in the type they say it, and what is wrong with the broken ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from connect_peers import value_of
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.batch import BAD, GOOD
from guantong.base.clock import parse_iso
from guantong.connect import Interface
from guantong.connect.columns import Readings
from guantong.connect.devices import read_devices
from guantong.connect.model import QUARANTINE_REASONS
from guantong.connect.rules import names_of, units_of
from guantong.connect.shdr import Condition, Item, ShdrParser, condition, typed
from guantong.connect.shdr_log import read_shdr_log
from guantong.connect.shdr_tcp import items_of
from guantong.connect.wrapped import Mender

T = "2026-11-24T08:00:00Z"


def parse(*lines: str, items: dict[str, Item] | None = None, recording: bool = False):
    rows, refused = Readings(), []
    counts = ShdrParser(items, recording=recording).feed(
        list(lines), list(range(len(lines))), 1, rows, lambda offset, reason, text: refused.append((offset, reason))
    )
    readings = []
    for index, signal in enumerate(rows.signal):
        value = next(
            (column[index] for column in (rows.number, rows.whole, rows.text) if column[index] is not None), None
        )
        readings.append((signal, value, rows.status[index]))
    return readings, refused, counts


async def read(path: Path, delivery, sink):
    await read_shdr_log(path, delivery)
    return sink.readings(), sink.noted("quarantined"), sum(sink.noted("lines")), sum(sink.noted("parsed"))


async def test_the_real_mazak_day_is_read_whole(data_dir, delivery, sink):
    path = data_dir / "nist_smstestbed/raw/Mazak01-20161129-20161130.txt"
    await read_shdr_log(path, delivery)
    fields = [line.split("|") for line in path.read_text().splitlines()]
    rows = pa.Table.from_batches([batch.rows for batch in sink.batches])
    lines, parsed = sum(sink.noted("lines")), sum(sink.noted("parsed"))

    assert (lines, parsed, rows.num_rows, sink.noted("quarantined")) == (102_601, 102_601, 102_601, [])
    assert Counter(len(parts) for parts in fields) == {3: 101_950, 7: 651}
    assert rows["signal"].to_pylist() == [parts[1] for parts in fields]
    assert rows["status"].to_pylist().count(BAD) == sum(parts[2].upper() == "UNAVAILABLE" for parts in fields)
    assert rows["source_time"].cast(pa.int64())[0].as_py() == parse_iso("2016-11-14T18:37:34.798605Z")


async def test_every_reading_of_a_real_part_is_what_its_line_says(data_dir, delivery, sink):
    path = data_dir / "nist_smstestbed/tdp_mtc/PartData/Cover-Hurco04-01of20.txt"
    readings, refused, _, _ = await read(path, delivery, sink)
    lines = path.read_text().splitlines()

    assert refused == []
    for line, reading in zip(lines, readings, strict=True):
        time, key, value = line.split("|")
        assert (reading["signal"], reading["source_time"]) == (key, parse_iso(time))
        found = value_of(reading)
        assert float(value) == found if isinstance(found, int | float) else found == value


async def test_numbers_that_a_script_cut_off_at_the_digits_of_the_year_are_put_back(data_dir, delivery, sink):
    path = data_dir / "nist_smstestbed/tdp_mtc/PartData/Box-Hurco02-01of20.txt"
    raw = path.read_bytes()
    stray = sum(1 for line in raw.split(b"\n") if line and b"|" not in line)
    readings, refused, lines, parsed = await read(path, delivery, sink)
    mended = sink.noted("mended")

    assert stray > 0
    assert refused == []
    assert lines == parsed == raw.count(b"\n") - stray
    assert len(mended) == stray
    for piece in mended:
        assert piece["how"] == "year"
        assert raw[piece["offset"] :].replace(b"\n", b"", 1).startswith(piece["text"].encode())
    assert ("Block_Number", 12017) in {(reading["signal"], value_of(reading)) for reading in readings}


@pytest.mark.parametrize("name", ["1-31-2017-Hurco02", "1-31-2017-Hurco04"])
async def test_a_hard_wrapped_recording_gives_the_readings_of_the_twin_that_nist_repaired(
    data_dir, delivery, sink, name
):
    folder = data_dir / "nist_smstestbed/tdp_mtc"
    readings, refused, lines, parsed = await read(folder / f"Raw/{name}.txt", delivery, sink)
    clean = []
    twin = (folder / f"Clean/{name}-Clean.txt").read_text().splitlines()
    for line in twin:
        time, *pairs = line.split("|")
        clean += [(parse_iso(time), key, str(typed(value))) for key, value in zip(pairs[::2], pairs[1::2], strict=True)]

    assert refused == []
    assert lines == parsed == len(twin)
    assert [(r["source_time"], r["signal"], str(value_of(r))) for r in readings] == clean


def wrapped(lines: list[str], width: int) -> str:
    """Lines as a terminal without carriage returns shows them, copied off the screen."""
    shown, column = [], 0
    for line in lines:
        text = " " * column + line
        pieces = [text[at : at + width] for at in range(0, len(text), width)]
        shown += pieces
        column = len(pieces[-1]) % width
    return "\n".join(shown) + "\n"


@given(
    st.lists(
        st.tuples(
            st.text("abcXYZ_", min_size=1, max_size=30), st.from_regex(r"[0-9]{1,30}(\.[0-9]{1,9})?", fullmatch=True)
        ),
        min_size=8,
    ),
    st.sampled_from([80, 132]),
    st.integers(1, 7),
)
def test_what_a_screen_wrapped_is_put_together_as_it_was(pairs, width, step):
    lines = [f"2017-02-01T10:{index:02d}:00.1250000Z|{key}|{value}" for index, (key, value) in enumerate(pairs[:60])]
    lines += [f"2017-02-01T11:00:0{index}.0000000Z|long|{'9' * 130}" for index in range(3)]
    physical = wrapped(lines, width).split("\n")[:-1]
    mender, found = Mender(), []
    whole = mender.feed(physical, range(len(physical)))
    found = whole.lines + mender.rest().lines

    assert found == lines

    mender, found = Mender(), []
    mender.feed(
        physical, range(len(physical))
    )  # the screen is known from here on: the rest may come in pieces of any size
    mender.rest()
    mender._column = 0
    for at in range(0, len(physical), step):
        found += mender.feed(physical[at : at + step], range(at, at + len(physical[at : at + step]))).lines

    assert found + mender.rest().lines == lines


@pytest.mark.parametrize(
    "lines",
    [
        [f"{T}|x|1", f"{T}|y|2"],
        [f"{T}|x|1", "2024", f"{T}|y|2"],  # another year than that of the line
        [f"{T}|x|word", "2026", f"{T}|y|2"],  # a word has no digits to come
        [f"{T}|x|1", "20265x", f"{T}|y|2"],
        ["2026", f"{T}|x|1"],
        [
            f"{T}|x|" + "1" * 200,
            f"{T}|x|" + "1" * (80 - len(T) - 3),
            "23",
            f"{T}|x|" + "1" * (80 - len(T) - 3),
            "45",
        ],  # a wider line: no screen
    ],
)
def test_breaks_that_no_rule_explains_are_left_to_the_parser(lines):
    mender = Mender()
    done = mender.feed(lines, range(len(lines)))

    assert done.lines + mender.rest().lines == lines
    assert done.made == []


async def test_two_histories_in_one_file_are_quarantined_not_guessed(data_dir, delivery, sink):
    path = data_dir / "nist_smstestbed/agent/mtc_adapter007.txt"
    readings, refused, lines, _ = await read(path, delivery, sink)

    assert readings == []
    assert {piece["reason"] for piece in refused} == {"conflict"}
    assert len(refused) == lines == len(path.read_text().splitlines()) - len(sink.noted("mended"))


async def test_a_file_that_breaks_off_or_holds_other_bytes_is_read_up_to_there(tmp_path, delivery, sink):
    path = tmp_path / "log.txt"
    path.write_bytes(
        f"{T}|x|1\n{T}|y|\xff\xfe\n".encode("latin-1") + f"{T}|z|{'9' * 70_000}\n{T}|x|2\n2026-11-24T08".encode()
    )
    readings, refused, lines, parsed = await read(path, delivery, sink)

    assert [value_of(reading) for reading in readings] == [1, 2]
    assert Counter(piece["reason"] for piece in refused) == {"not-text": 1, "too-long": 1, "time": 1}
    assert (lines, parsed) == (5, 2)


def test_conditions_are_told_by_their_seven_fields_or_by_the_device_model():
    readings, refused, _ = parse(
        f"{T}|system|Warning|406|HIGH|x|MEMORY PROTECT",
        f"{T}|system|normal||||",
        f"{T}|system|Unavailable||||",
        f"{T}|a|UNAVAILABLE|b|2|c|3",
    )

    assert refused == []
    assert readings[:3] == [
        ("system", "WARNING|406|HIGH|x|MEMORY PROTECT", GOOD),
        ("system", "NORMAL", GOOD),
        ("system", None, BAD),
    ]
    assert readings[3:] == [("a", None, BAD), ("b", 2, GOOD), ("c", 3, GOOD)]
    assert condition("WARNING|406|HIGH|x|a|b") == Condition("WARNING", "406", "HIGH", "x", "a|b")
    model = {"s": Item("CONDITION"), "m": Item("EVENT", "MESSAGE")}
    modelled, refused, _ = parse(f"{T}|x|1|s|FAULT|1|2|3|t|m|7|look", f"{T}|s|FAULT", items=model)
    assert modelled == [("x", 1, GOOD), ("s", "FAULT|1|2|3|t", GOOD), ("m", "7|look", GOOD)]
    assert refused == [(1, "fields")]


def test_the_device_model_decides_types_and_a_word_where_a_number_is_promised_is_quarantined():
    items = {
        "load": Item("SAMPLE", "LOAD", True),
        "program": Item("EVENT", "PROGRAM", False),
        "at": Item("SAMPLE", "PATH_POSITION", True),
    }
    readings, refused, _ = parse(
        f"{T}|load|90|program|1234|at|1.0 2.0 3.5", f"{T}|load|much", f"{T}|load|NaN", f"{T}|program|NaN", items=items
    )

    assert readings == [
        ("load", 90.0, GOOD),
        ("program", "1234", GOOD),
        ("at", "1.0 2.0 3.5", GOOD),
        ("program", "NaN", GOOD),
    ]
    assert refused == [(1, "not-a-number"), (2, "not-finite")]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("2026-11-24T08:00|x|1", "time"),
        ("9.0468750Z|Spindle_Override|157.000000", "time"),
        (f"{T}|x", "fields"),
        (f"{T}", "fields"),
        (f"{T}|x|1|y", "fields"),
        (f"{T}||1", "empty-key"),
        (f"{T}|x|1||2", "empty-key"),
        (f"{T}|x|1e999", "not-finite"),
        (f"{T}|x|-Infinity", "not-finite"),
        (f"{T}|@ASSET@|tool|CuttingTool|<x/>", "asset"),
        ("2026-13-45T99:00:00.1Z|x|1", "time"),
    ],
)
def test_a_broken_line_gives_no_reading_and_its_reason(line, reason):
    readings, refused, counts = parse(line)

    assert readings == []
    assert refused == [(0, reason)]
    assert counts == (1, 0)
    assert reason in QUARANTINE_REASONS


def test_times_keep_seven_and_nine_digits_and_leave_durations_aside():
    rows = Readings()
    lines = [
        f"2017-02-01T03:13:55{end}|x|1" for end in (".0468750Z", ".123Z", ".123456789Z", "Z", ".5Z@12.5", "+01:00")
    ]
    ShdrParser().feed(lines, [0] * 6, 1, rows, lambda *_: pytest.fail("quarantined"))
    base = parse_iso("2017-02-01T03:13:55Z")

    assert [time - base for time in rows.source] == [
        46_875_000,
        123_000_000,
        123_456_789,
        0,
        500_000_000,
        -3_600 * 10**9,
    ]


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_of_64_bits_are_kept_exactly(number):
    assert typed(str(number)) == number
    assert type(typed(str(number))) is int


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_are_kept_exactly(number):
    assert typed(repr(number)) == number


@given(st.text(max_size=200))
def test_no_line_whatever_breaks_the_parser_and_none_is_lost(text):
    # fuzz: every non-empty line is either parsed or quarantined once
    lines = text.split("\n")
    for recording in (False, True):
        readings, refused, (count, parsed) = parse(*lines, recording=recording)

        assert count == parsed + len(refused)
        assert len(readings) >= parsed


@pytest.mark.parametrize("text", ["007", "1_000", "9223372036854775808", "0x10", " 1", "1,5", "٣"])
def test_what_only_looks_like_a_number_stays_text(text):
    assert typed(text) == text


@given(
    st.sampled_from(
        [
            "2026-11-24T08:00:00.5Z",
            "2026-11-24T08:00:60.123456789Z",
            "2026-02-30T08:00:00.5Z",
            "x",
            "2026-11-24T08:00:00.١Z",
            "",
        ]
    ),
    st.sampled_from(["x", " x", "", "@ASSET@", "x y"]),
    st.sampled_from(["1", "1.50", "Unavailable", "NaN", "", " ", "007", "é", "1 2 3"])
    | st.text(st.characters(exclude_characters="|\n\r"), max_size=5),
)
def test_the_fast_way_and_the_thorough_way_agree(time, key, value):
    line = f"{time}|{key}|{value}"
    other = {"some other key": Item("EVENT")}

    assert parse(line, line) == parse(line, line, items=other)


def test_a_real_device_model_fits_the_real_recording(data_dir, delivery):
    folder = data_dir / "nist_smstestbed"
    devices = read_devices((folder / "agent/Devices.xml").read_bytes(), name="Devices.xml", limit=1 << 24)
    mazak = next(device for device in devices if device.name == "Mazak01")
    interface = Interface("mazak", "shdr-log", "file:///x", properties=mazak.adapter_items)
    lines = (folder / "raw/Mazak01-20161129-20161130.txt").read_text().splitlines()[-20_000:]
    rows, refused = Readings(), []
    ShdrParser(items_of(interface)).feed(lines, range(len(lines)), 1, rows, lambda *what: refused.append(what))
    types = {signal: type(value) for signal, value in zip(rows.signal, rows.number, strict=True) if value is not None}

    assert refused == []
    assert len(rows) == len(lines)
    assert types["Xabs"] is float
    assert units_of(mazak.adapter_items)["Fact"] == "FOOT/MINUTE"  # as the adapter writes; the agent converts
    assert {item.title: item.unit for item in mazak.items}["Fact"] == "MILLIMETER/SECOND"
    assert names_of(mazak.adapter_items)["execution"] == {
        "name": "execution",
        "path": "Mazak01/controller/path",
        "type": "EXECUTION",
        "category": "EVENT",
    }
