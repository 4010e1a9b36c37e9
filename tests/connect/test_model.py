"""What stands still: values, rules, entries, the way from reader to sink."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import jsonschema_rs
import pytest
from connect_peers import QUICK, SUPPLIER, ListSink, value_of
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem, Corrupt, Refused, Retryable, Skippable
from guantong.connect import Interface
from guantong.connect.delivery import Delivery
from guantong.connect.document import parse_xml
from guantong.connect.model import ENTRY_KINDS, KINDS, PROTOCOLS, QUARANTINE_REASONS
from guantong.connect.mtconnect import Parts
from guantong.connect.rules import holes
from guantong.records.tables import LEAVES


@given(st.integers(0, 50), st.integers(0, 60), st.sets(st.integers(-5, 80)))
def test_holes_and_present_numbers_make_up_the_interval(first, end, present):
    missing = [number for low, high in holes(first, end, present) for number in range(low, high + 1)]

    assert sorted({*missing, *(number for number in present if first <= number < end)}) == list(
        range(first, max(first, end))
    )
    assert not {*missing} & present


def test_an_interval_of_any_width_costs_nothing():
    assert list(holes(1, 10**18, [5])) == [(1, 4), (6, 10**18 - 1)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("length", [True, False])
def test_parts_of_a_stream_are_found_however_it_is_cut(size, length):
    documents = [f"<a>{number}</a>".encode() for number in range(5)]
    data = b"".join(
        b"--b\r\nContent-type: text/xml\r\n"
        + (f"Content-length: {len(document)}\r\n".encode() if length else b"")
        + b"\r\n"
        + document
        + b"\r\n"
        for document in documents
    )
    data += b"--b\r\n"
    parts, found = Parts("b", 1000), []
    for begin in range(0, len(data), size):
        found += parts.feed(data[begin : begin + size])

    assert found == documents


def test_a_part_that_claims_to_be_huge_is_refused_before_it_arrives():
    with pytest.raises(Skippable) as caught:
        Parts("b", 1000).feed(b"--b\r\nContent-length: 99999999999\r\n\r\n<a/>")

    assert caught.value.code == "connect.document-too-large"


@pytest.mark.parametrize("depth", [1, 5])
def test_entity_bombs_are_refused_and_never_expanded(depth):
    levels = "".join(f'<!ENTITY a{level + 1} "{f"&a{level};" * 10}">' for level in range(depth))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{levels}]><x>&a{depth};</x>'
    with pytest.raises(Refused) as caught:
        parse_xml(bomb.encode(), name="bomb", limit=10_000)

    assert caught.value.code == "connect.document-hostile"


async def test_a_reader_cancelled_while_its_batch_is_written_neither_loses_nor_repeats_it():
    class Slow(ListSink):
        async def take(self, participant, batch):
            await asyncio.sleep(0.05)
            return await super().take(participant, batch)

    sink = Slow()
    delivery = Delivery(SUPPLIER, Interface("a", "shdr", "shdr://h"), sink, SystemClock(), QUICK)
    delivery.rows.append("x", 1, 2, 1)
    task = asyncio.create_task(delivery.flush())
    await asyncio.sleep(0.01)
    task.cancel()
    delivery.rows.append("x", 2, 2, 2)
    await delivery.flush()

    assert [value_of(reading) for reading in sink.readings()] == [1, 2]
    assert delivery.scorecard().received == 2


async def test_a_place_is_stored_only_after_the_rows_before_it_are_durable():
    sink, stored = ListSink(), []
    delivery = Delivery(SUPPLIER, Interface("a", "mtconnect", "http://h/"), sink, SystemClock(), QUICK)

    async def save(place):
        stored.append((dict(place), len(sink.readings())))

    delivery.save = save
    for number in range(3):
        delivery.rows.append("x", number, number, number)
        delivery.mark(next=number + 1)
        await delivery.flush()

    assert stored == [({"next": 1}, 1), ({"next": 2}, 2), ({"next": 3}, 3)]


async def test_a_damaged_sink_stops_nothing_for_good_and_keeps_the_rows(connect, adapter, sink, monkeypatch):
    broken = {"left": 2}
    take = sink.take

    async def refusing(participant, batch):
        if broken["left"]:
            broken["left"] -= 1
            raise Corrupt("records.unopenable", url="x", reason="test")
        return await take(participant, batch)

    monkeypatch.setattr(sink, "take", refusing)
    await connect.add(SUPPLIER, Interface("mill", "shdr", f"shdr://127.0.0.1:{adapter.port}"))
    adapter.greeting = b""
    async with asyncio.timeout(5):
        while not adapter.writers:
            await asyncio.sleep(0.01)
        adapter.say("2026-11-24T08:00:00Z|x|1\n")
        while not sink.readings():
            await asyncio.sleep(0.01)

    assert value_of(sink.readings()[0]) == 1


async def test_stopping_ends_although_the_sink_can_not_write():
    class Full(ListSink):
        async def take(self, participant, batch):
            raise Retryable("records.disk-full", reason="test")

    from dataclasses import replace

    delivery = Delivery(
        SUPPLIER, Interface("a", "shdr", "shdr://h"), Full(), SystemClock(), replace(QUICK, stop_wait_s=0.05)
    )
    delivery.rows.append("x", 1, 1, 1)
    async with asyncio.timeout(2):
        await delivery.close()

    assert delivery.scorecard().state == "stopped"
    assert delivery.scorecard().last_error == "records.disk-full"


async def test_entries_are_as_their_schemas_say(connect, memory, tmp_path):
    (tmp_path / "a.csv").write_text("time,x\n2026-11-24 08:00:00,1\n")
    await connect.add(SUPPLIER, Interface("mill", "shdr", "shdr://127.0.0.1:9"), start=False)
    await connect.import_file(SUPPLIER, "a", tmp_path / "a.csv")
    await connect.remove(SUPPLIER, "mill")
    schemas = {kind.name: kind.schema for kind in ENTRY_KINDS}
    leaves = [json.loads(row["leaf"]) for row in memory.rows_now(LEAVES.select().order_by(LEAVES.c.number))]

    assert [leaf["kind"] for leaf in leaves] == ["connect.source-added", "connect.file-read", "connect.source-removed"]
    for leaf in leaves:
        jsonschema_rs.validate(dict(schemas[leaf["kind"]]), leaf["body"])


def test_kinds_protocols_and_reasons_are_complete_and_in_both_languages():
    assert set(PROTOCOLS) == set(KINDS)
    for english, chinese in QUARANTINE_REASONS.values():
        assert english.isascii()
        assert any("\u4e00" <= char <= "\u9fff" for char in chinese)


def test_the_values_load_no_heavy_library_and_a_missing_extra_says_how_to_get_it():
    code = (
        "import sys, guantong.connect, guantong.connect.rules, guantong.connect.shdr\n"
        "heavy = {'pyarrow', 'sqlalchemy', 'aiohttp', 'polars', 'lxml', 'asyncua', 'starlette'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.modules['asyncua'] = None\n"
        "from guantong.base.errors import ConfigProblem\n"
        "try:\n    import guantong.connect.opcua\n"
        "except ConfigProblem as error:\n    print(error.code, error.hint())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout.strip() == 'base.extra-missing Run: pip install "guantong[opcua]"'


@pytest.mark.parametrize(
    "kind, base, code",
    [
        ("shdr", "http://h:1", "connect.address-unusable"),
        ("shdr", "shdr://h:99999", "connect.address-unusable"),
        ("mtconnect", "ftp://h/", "connect.address-unusable"),
        ("opcua", "http://h/", "connect.address-unusable"),
        ("folder", "ftp://h/x", "connect.address-unusable"),
        ("qif", "file://elsewhere/x", "connect.address-unusable"),
        ("modbus", "modbus+tcp://h", "connect.address-unusable"),
    ],
)
async def test_an_address_that_can_not_be_read_is_refused_when_it_is_added(connect, kind, base, code):
    with pytest.raises(ConfigProblem) as caught:
        await connect.add(SUPPLIER, Interface("x", kind, base))

    assert caught.value.code == code
    assert connect.interfaces(SUPPLIER) == []
