"""Modbus against npm's modbus-serial: blocks, types and orders, refused registers, late replies, silence."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from connect_peers import QUICK, SUPPLIER, ListSink, until, value_of
from hypothesis import given
from hypothesis import strategies as st
from protocol_peers import Script, free_port, listening

from guantong.base.clock import SystemClock
from guantong.base.errors import ConfigProblem
from guantong.connect.modbus_plan import Item, blocks, item_of
from guantong.connect.modbus_plan import value_of as meaning
from guantong.connect.model import Form, Interface, Property
from guantong.connect.service import Connect


def register(
    key: str, href: str, kind: str | None = None, *, unit: str | None = None, own: tuple = (), **terms: str
) -> Property:
    if kind:
        terms["modv_type"] = kind
    return Property(key, unit=unit, form=Form(href, terms=tuple(sorted(terms.items()))), terms=own)


@pytest.fixture
async def device(peers: Any) -> AsyncIterator[Script]:
    port = free_port()
    script = Script(peers, "modbus_server.js", str(port))
    script.port = port  # type: ignore[attr-defined]
    await script.start()
    await script.hear("ready", 20)
    await listening(port)
    yield script
    await script.kill()


@pytest.fixture
async def stage(memory: Any, sink: ListSink) -> AsyncIterator[Connect]:
    made = Connect(memory, sink, SystemClock(), None, replace(QUICK, poll_timeout_s=0.25))  # type: ignore[arg-type]
    await made.start()
    yield made
    await made.stop()


def meter(device: Any, *properties: Property, **terms: str) -> Interface:
    base = f"modbus+tcp://127.0.0.1:{device.port}/1/"
    return Interface(
        "meter", "modbus", base, properties=properties, terms=tuple(sorted({"interval_ms": "50", **terms}.items()))
    )


async def test_types_orders_and_scales_of_registers_are_read_in_joined_requests(stage, device, sink):
    high, low = struct.unpack(">HH", struct.pack(">f", 21.5))
    for place, word in ((100, high), (101, low), (102, low), (103, high), (104, 0xFFFF), (105, 0xFFF4), (106, 215)):
        device.say(f"set {place} {word}")
    await device.hear("done set 106")
    await stage.add(
        SUPPLIER,
        meter(
            device,
            register("temperature", "100?quantity=2", "xs:float", unit="Cel"),
            register("swapped", "102?quantity=2", "xs:float", modv_mostSignificantWord="false"),
            register("offset", "104?quantity=2", "xs:int"),
            register("scaled", "106", "xs:unsignedShort", own=(("offset", "-40"), ("scale", "0.1"))),
            register("bit", "106", own=(("bit", "2"),)),
            register("far", "900", "xs:unsignedShort"),
            register("one-based", "108", "xs:short", modv_zeroBasedAddressing="false"),
            register("input", "7", modv_entity="InputRegister"),
            register("coil", "3", modv_entity="Coil"),
            register("switch", "4", modv_function="readDiscreteInput"),
            register("written", "5", modv_function="writeSingleHoldingRegister"),
        ),
    )
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= 30, 20)
    await stage.pause(SUPPLIER, "meter")
    found = {one["signal"]: value_of(one) for one in sink.readings()}

    assert found.pop("scaled") == pytest.approx(-18.5)
    assert found == {
        "temperature": 21.5,
        "swapped": 21.5,
        "offset": -12,
        "bit": True,  # 215 = 0b11010111
        "far": 900,
        "one-based": 107,
        "input": 7,
        "coil": True,
        "switch": False,
    }
    asked = {line for line in device.lines if line.startswith("ask")}
    assert asked == {"ask holding 100 8 1", "ask holding 900 1 1", "ask input 7 1 1"}
    assert not any(line.startswith("WRITTEN") for line in device.lines)
    assert sink.noted("units")[0] == {"temperature": "Cel"}


async def test_a_device_that_takes_few_registers_at_once_is_asked_for_few(stage, device, sink):
    await stage.add(SUPPLIER, meter(device, *(register(f"r{n}", str(n)) for n in range(20)), block="6"))
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= 20, 20)

    sizes = [int(line.split()[3]) for line in device.lines if line.startswith("ask")]
    assert max(sizes) == 6
    assert {one["signal"]: value_of(one) for one in sink.readings()} == {f"r{n}": n for n in range(20)}


async def test_one_register_that_the_device_refuses_keeps_no_other_out(stage, device, sink):
    device.say("refuse 12")
    await device.hear("done refuse")
    await stage.add(SUPPLIER, meter(device, *(register(f"r{n}", str(n)) for n in (10, 11, 12, 13))))
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= 20, 20)
    good = {one["signal"]: value_of(one) for one in sink.readings() if one["status"] == 0}
    bad = [one for one in sink.readings() if one["status"] != 0]

    assert good == {"r10": 10, "r11": 11, "r13": 13}
    assert [one["signal"] for one in bad] == ["r12"]  # said once, asked again a minute later
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["refused"]


async def test_late_replies_are_never_taken_for_the_answer_to_another_request(stage, device, sink):
    device.say("late 300 3")  # every third reply comes after we have given up
    await device.hear("done late")
    await stage.add(SUPPLIER, meter(device, *(register(f"r{n}", str(n)) for n in range(0, 400, 40)), interval_ms="20"))
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= 60, 30)
    await stage.pause(SUPPLIER, "meter")
    readings = sink.readings()

    assert len(readings) > 5
    assert all(value_of(one) == int(one["signal"][1:]) for one in readings)


async def test_rtu_frames_through_a_gateway_are_read_and_a_late_frame_costs_the_line_not_the_truth(stage, sink):
    """The gateway is written here, from the frames of the specification: modbus-serial has no RTU-over-TCP server."""
    late = {"next": False}

    def crc(frame: bytes) -> bytes:
        value = 0xFFFF
        for byte in frame:
            value ^= byte
            for _ in range(8):
                value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
        return value.to_bytes(2, "little")

    lines = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lines
        lines += 1
        try:
            while True:
                frame = await reader.readexactly(8)
                assert crc(frame[:6]) == frame[6:]
                start, count = struct.unpack(">HH", frame[2:6])
                body = frame[:2] + bytes([2 * count]) + b"".join(struct.pack(">H", start + n) for n in range(count))
                if late["next"]:
                    late["next"] = False
                    await asyncio.sleep(0.4)
                writer.write(body + crc(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await stage.add(
        SUPPLIER,
        Interface(
            "gateway",
            "modbus",
            f"modbus+tcp://127.0.0.1:{port}/9/",
            properties=tuple(register(f"r{n}", str(n)) for n in (1, 50, 100)),
            terms=(("framing", "rtu"), ("interval_ms", "30")),
        ),
    )
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= 9, 20)
    late["next"] = True
    await until(lambda: lines == 2)
    before = stage.scorecards(SUPPLIER)[0].received
    await until(lambda: stage.scorecards(SUPPLIER)[0].received >= before + 9)
    await stage.remove(SUPPLIER, "gateway")
    server.close()

    assert all(value_of(one) == int(one["signal"][1:]) for one in sink.readings())
    assert [gap["reason"] for gap in sink.noted("gaps")] == ["not polled"]


def test_addresses_and_registers_that_can_not_be_are_refused():
    base = Interface("meter", "modbus", "modbus+tcp://h:502/1/")
    for href in ("a", "70000", "65535?quantity=2", "5?quantity=200"):
        with pytest.raises(ConfigProblem):
            item_of(register("x", href), base)
    assert item_of(register("x", "7/40089?quantity=2", "xs:float"), base).unit == 7
    assert item_of(register("x", "modbus+tcp://h:502/3/9"), base).start == 9


items = st.builds(
    lambda n, start, count, function: Item(f"i{n}", 1, function, start, count, "hexbinary"),
    st.integers(0, 99), st.integers(0, 2_000), st.integers(1, 20), st.sampled_from((3, 4)),
)  # fmt: skip


@given(st.lists(items, max_size=40), st.integers(20, 125), st.integers(0, 20))
def test_blocks_hold_every_item_whole_once_and_no_block_is_too_large(wanted, most, skip):
    found = blocks(wanted, most=most, skip=skip)

    assert sorted(map(repr, wanted)) == sorted(repr(item) for block in found for item in block.items)
    for block in found:
        assert block.count <= most
        assert all(block.start <= item.start and item.end <= block.start + block.count for item in block.items)


@given(st.integers(-(2**31), 2**31 - 1), st.booleans(), st.booleans())
def test_an_integer_comes_back_in_any_order_of_bytes_and_words(value, high_byte, high_word):
    words = list(struct.unpack(">HH", struct.pack(">i", value)))
    if not high_byte:
        words = [(word >> 8) | (word & 255) << 8 for word in words]
    if not high_word:
        words.reverse()

    assert meaning(Item("i", 1, 3, 0, 2, "int", high_byte, high_word), words) == (value, None)
