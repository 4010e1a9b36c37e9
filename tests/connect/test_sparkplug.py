"""Sparkplug B against npm's sparkplug-client over mosquitto: what is offered comes from the peer's own file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from connect_peers import QUICK, SUPPLIER, ListSink, until, value_of
from protocol_peers import Mosquitto, Script, offered

from guantong.base.clock import SystemClock
from guantong.connect.model import Interface
from guantong.connect.service import Connect
from guantong.connect.sparkplug import NO_COMMUNICATION
from guantong.connect.sparkplug_host import EdgeNode, topic_of


@pytest.fixture
async def broker(tool: Any, tmp_path: Path) -> AsyncIterator[Mosquitto]:
    peer = Mosquitto(tool("mosquitto"), tmp_path)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def edge(peers: Any, broker: Mosquitto, tmp_path: Path) -> AsyncIterator[Script]:
    script = Script(
        peers, "sparkplug_edge.js", f"mqtt://127.0.0.1:{broker.port}", "plant", "cell", str(tmp_path / "offered")
    )
    yield script
    await script.kill()


@pytest.fixture
async def host(memory: Any, sink: ListSink, broker: Mosquitto) -> AsyncIterator[Connect]:
    stage = Connect(memory, sink, SystemClock(), None, replace(QUICK, reorder_s=0.2))  # type: ignore[arg-type]
    await stage.start()
    await stage.add(SUPPLIER, Interface("cells", "sparkplug", f"sparkplug://127.0.0.1:{broker.port}/"))
    yield stage
    await stage.stop()


Rows = set[tuple[str, int, Any]]


def told(sink: ListSink) -> Rows:
    return {
        (one["signal"], one["source_time"] // 1_000_000, value_of(one)) for one in sink.readings() if one["status"] == 0
    }


def expected(path: Path) -> Rows:
    return {
        (f"plant/cell/{'mill/' if one['device'] else ''}{one['name']}", one["timestamp"], one["value"])
        for one in offered(path)
    }


async def test_every_metric_that_the_edge_node_offers_arrives_with_its_type_and_sign(host, edge, sink, tmp_path):
    await until(lambda: host.scorecards(SUPPLIER)[0].connected, 20)
    await edge.start()
    await edge.hear("birth")
    edge.say("data 300")  # the number wraps twice
    await edge.hear("done data")
    await until(lambda: host.scorecards(SUPPLIER)[0].received >= 11 + 1200, 20)
    wanted = expected(tmp_path / "offered")
    found = told(sink)

    assert len(wanted) == 11 + 1200
    assert found == wanted
    assert ("plant/cell/offset", 1764000000000, -12) in found
    assert {one["signal"]: type(value_of(one)) for one in sink.readings()}["plant/cell/counter"] is int
    assert sink.noted("gaps") == []
    assert sink.noted("quarantined") == []
    assert {"plant/cell/mill/temperature": "Cel", "plant/cell/mill/pressure": "Cel"} in sink.noted("units")
    assert not any("bdSeq" in one["signal"] or "Control" in one["signal"] for one in sink.readings())


async def test_a_missing_number_is_waited_for_then_the_birth_is_asked_once_and_the_gap_names_the_number(
    host, edge, sink, tmp_path
):
    await until(lambda: host.scorecards(SUPPLIER)[0].connected, 20)
    await edge.start()
    await edge.hear("birth")
    edge.say("data 5")
    edge.say("skip")
    edge.say("data 5")
    await edge.hear("ncmd Node Control/Rebirth")
    await until(lambda: len(sink.noted("gaps")) == 1)
    await until(lambda: len(told(sink)) == len(expected(tmp_path / "offered")))

    assert sum(line.startswith("ncmd") for line in edge.lines) == 1
    gap = sink.noted("gaps")[0]
    assert (gap["from"], gap["to"], gap["count"], gap["unit"]) == (12, 12, 1, "sequence")  # birth 0, device 1, ten data
    assert told(sink) == expected(tmp_path / "offered")  # what came after the missing number was held and not lost


async def test_a_host_that_comes_late_asks_for_the_birth_and_puts_on_record_what_it_could_not_read(
    memory, broker, edge, sink, tmp_path
):
    await edge.start()
    await edge.hear("birth")
    stage = Connect(memory, sink, SystemClock(), None, replace(QUICK, reorder_s=0.2))  # type: ignore[arg-type]
    await stage.start()
    await stage.add(SUPPLIER, Interface("cells", "sparkplug", f"sparkplug://127.0.0.1:{broker.port}/"))
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    await asyncio.sleep(0.1)
    edge.say("data 3")
    await edge.hear("ncmd")
    await until(lambda: len(told(sink)) >= 11)
    edge.say("data 1")
    await until(lambda: len(told(sink)) >= 15)
    await stage.stop()

    assert [gap["unit"] for gap in sink.noted("gaps")] == ["time"]
    assert {piece["reason"] for piece in sink.noted("quarantined")} == {"before-birth"}
    assert sum(line.startswith("ncmd") for line in edge.lines) == 1


async def test_deaths_make_values_bad_and_a_new_birth_makes_them_good_again(host, edge, sink):
    await until(lambda: host.scorecards(SUPPLIER)[0].connected, 20)
    await edge.start()
    await edge.hear("birth")
    await until(lambda: len(told(sink)) == 11)
    edge.say("ddeath")
    await until(lambda: sum(one["status"] == NO_COMMUNICATION for one in sink.readings()) == 2)
    await edge.kill()  # the broker says the will
    await until(lambda: sum(one["status"] == NO_COMMUNICATION for one in sink.readings()) >= 11, 15)
    bad = [one for one in sink.readings() if one["status"] == NO_COMMUNICATION]

    assert all(value_of(one) is None for one in bad)
    assert {one["signal"] for one in bad} >= {"plant/cell/temperature", "plant/cell/mill/pressure"}


async def test_the_broker_tells_others_that_the_host_is_there_and_that_it_is_gone(host, broker, tool):
    listen = [tool("mosquitto_sub"), "-p", str(broker.port), "-t", "spBv1.0/STATE/guantong", "-C", "1", "-W", "5"]
    speak = [tool("mosquitto_pub"), "-p", str(broker.port), "-t", "spBv1.0/STATE/guantong", "-r", "-q", "1", "-m"]
    await until(lambda: host.scorecards(SUPPLIER)[0].connected, 20)
    assert json.loads(await asyncio.to_thread(subprocess.check_output, listen))["online"] is True

    await asyncio.to_thread(subprocess.check_call, [*speak, '{"online":false,"timestamp":1}'])
    await asyncio.sleep(0.3)
    assert (
        json.loads(await asyncio.to_thread(subprocess.check_output, listen))["online"] is True
    )  # 5.3: it says so again

    await host.stop()
    assert json.loads(await asyncio.to_thread(subprocess.check_output, listen))["online"] is False


async def test_a_broker_that_restarts_leaves_a_gap_of_time_and_nothing_else(host, broker, edge, sink, tmp_path):
    await until(lambda: host.scorecards(SUPPLIER)[0].connected, 20)
    await edge.start()
    await edge.hear("birth")
    edge.say("data 2")
    await until(lambda: len(told(sink)) == 19)
    await broker.stop()
    await until(lambda: sink.noted("connection"))
    await broker.start()
    await until(lambda: len(sink.noted("connection")) == 2, 10)
    first = len(edge.lines)
    with contextlib.suppress(TimeoutError):
        await edge.hear("birth", 6, after=2)
    edge.say("data 1")
    await edge.hear("done data 1", after=first)
    await until(lambda: told(sink) >= expected(tmp_path / "offered"), 10)

    assert told(sink) == expected(tmp_path / "offered")
    assert {gap["unit"] for gap in sink.noted("gaps")} <= {"time"}


def test_topics_are_taken_apart_by_the_rules_of_chapter_4():
    assert topic_of("spBv1.0/plant/DDATA/cell/mill").source == "plant/cell/mill"
    assert topic_of("spBv1.0/plant/NDATA/cell").source == "plant/cell"
    for wrong in (
        "spBv1.0/plant/NDATA/cell/mill",
        "spBv1.0/plant/DDATA/cell",
        "spAv1.0/a/NDATA/b",
        "spBv1.0/a/XDATA/b",
        "spBv1.0//NDATA/b",
        "x",
    ):
        assert topic_of(wrong) is None


def test_messages_out_of_order_are_put_in_order_and_a_second_birth_in_between_is_not_waited_through():
    node: EdgeNode[str] = EdgeNode("plant/cell")
    node.born(1, 0)

    assert node.accept(2, "two", 20, 0.0) == []
    assert not node.must_ask(0.1, 0.2)
    assert node.accept(1, "one", 30, 0.15) == ["one", "two"]
    assert not node.must_ask(9.0, 0.2)
    assert node.accept(5, "five", 40, 10.0) == []
    assert node.must_ask(10.3, 0.2)
    assert not node.must_ask(10.4, 0.2)  # once
    assert node.accept(3, "three", 45, 10.5) == []  # asked: wait for the birth, what comes is held
    readable, missing, lost = node.born(1, 50)  # the same session
    assert readable == ["three", "five"]
    assert [(one.first, one.last) for one in missing] == [(4, 4)]
    assert lost == []

    assert node.accept(3, "early", 60, 20.0) == []
    readable, missing, lost = node.born(2, 70)  # a new session: its aliases may mean other things
    assert readable == []
    assert lost == ["early"]
    assert [(one.first, one.last) for one in missing] == [(1, 3)]
