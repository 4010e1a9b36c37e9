"""Data pushed to a broker: as a Sparkplug edge node, read by npm's sparkplug-payload and by our own host, and as a tree of topics."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "connect"))

from protocol_peers import Mosquitto, Script
from tests.exchange.mill import START, readings, value_of

from guantong.base.errors import Refused
from guantong.exchange.mqtt_out import SparkplugWriter, broker_target, frames


def expected(table):
    return [
        (f"mill/{row['signal']}", START // 1_000_000 + at, value_of(row)) for at, row in enumerate(table.to_pylist())
    ]


@pytest.fixture
async def broker(tool, tmp_path):
    peer = Mosquitto(tool("mosquitto"), tmp_path)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def parties(companies, agreed, broker):
    provider = await companies("localhost:7001", brokers=(f"127.0.0.1:{broker.port}",), chunk_rows=100)
    consumer = await companies("localhost:7002")
    return provider, consumer, await agreed(provider, consumer)


def target(broker, **names):
    properties = {"endpoint": f"mqtt://127.0.0.1:{broker.port}", **names}
    return {"@type": "DataAddress", "endpointType": "MQTT", "endpointProperties": [
        {"@type": "EndpointProperty", "name": name, "value": value} for name, value in properties.items()]}  # fmt: skip


async def pushed(parties, form, address, state="COMPLETED"):
    _, consumer, agreement = parties
    pid = await consumer.exchange.request_transfer(consumer.did, agreement, format=form, target=address)
    done = await consumer.exchange.wait_transfer(consumer.did, pid, states=("COMPLETED", "TERMINATED"), timeout_s=20)
    assert done.state == state, done.reason
    return done


async def test_an_edge_node_of_ours_is_read_by_a_host_that_we_did_not_write(parties, broker, peers):
    provider, _, agreement = parties
    provider.table = readings(900, late=True)
    host = Script(peers, "sparkplug_host.js", f"mqtt://127.0.0.1:{broker.port}")
    await host.start()
    await host.hear("ready")
    await pushed(parties, "Sparkplug-PUSH", target(broker, groupId="plant", edgeNodeId="mill-7"))
    for _ in range(200):
        if any('"NDEATH"' in line for line in host.lines):
            break
        await asyncio.sleep(0.02)
    heard = [json.loads(line) for line in list(host.lines) if line.startswith("{")]
    await host.kill()

    assert {(one["group"], one["node"]) for one in heard} == {("plant", "mill-7")}
    verbs = [one["verb"] for one in heard]
    assert (verbs[0], verbs[-1], verbs.count("NBIRTH")) == ("NBIRTH", "NDEATH", 2)  # a new signal, a new birth
    numbers = [one["seq"] for one in heard if one["verb"] != "NDEATH"]
    for before, after in pairwise(numbers):
        assert after == (before + 1) % 256 or after == 0
    told = [(one["name"], one["at"], one["value"]) for message in heard if message["verb"] == "NDATA"
            for one in message["metrics"]]  # fmt: skip
    assert told == expected(provider.table)
    kinds = {one["name"]: one["type"] for message in heard if message["verb"] == "NBIRTH" for one in message["metrics"]}
    assert {name: kinds[f"mill/{name}"] for name in ("load", "parts", "mode", "door")} == {
        "load": "Double", "parts": "Int64", "mode": "String", "door": "Boolean"}  # fmt: skip

    (receipt,) = await provider.exchange.receipts(provider.did, agreement)
    assert (receipt.state, receipt.record["rows"]) == ("one-sided", 900)
    assert provider.leaves("exchange.delivery-intended")[0]["format"] == SparkplugWriter.form


async def test_our_own_host_takes_what_our_edge_node_publishes(parties, broker, tmp_path):
    from connect_peers import QUICK, SUPPLIER, ListSink, until
    from connect_peers import value_of as taken

    from guantong.base.clock import SystemClock
    from guantong.connect import tables  # noqa: F401 - declares its tables
    from guantong.connect.model import Interface
    from guantong.connect.service import Connect
    from guantong.records import METADATA, Records

    provider, *_ = parties
    provider.table = readings(400)
    records, sink = Records("sqlite://", SystemClock(), inline=True), ListSink()
    records.open(METADATA.create_all)
    stage = Connect(records, sink, SystemClock(), None, QUICK)
    await stage.start()
    await stage.add(SUPPLIER, Interface("cells", "sparkplug", f"sparkplug://127.0.0.1:{broker.port}/"))
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    await pushed(parties, "Sparkplug-PUSH", target(broker, groupId="plant", edgeNodeId="mill"))
    good = {(f"plant/mill/{name}", at, value) for name, at, value in expected(provider.table) if value is not None}
    await until(
        lambda: good <= {(one["signal"], one["source_time"] // 1_000_000, taken(one)) for one in sink.readings()}, 20
    )
    await stage.stop()
    records.close()

    assert sink.noted("gaps") == []
    assert sink.noted("quarantined") == []


async def test_a_tree_of_topics_holds_every_reading_in_order(parties, broker, tool):
    provider, *_ = parties
    provider.table = readings(200)
    reader = subprocess.Popen(
        [tool("mosquitto_sub"), "-p", str(broker.port), "-t", "umh/v1/acme/#", "-q", "1", "-v", "-C", "200", "-W", "20"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    await asyncio.sleep(0.5)
    await pushed(parties, "UNS-PUSH", target(broker, root="umh/v1/acme"))
    said, _ = await asyncio.to_thread(reader.communicate)
    found = []
    for line in said.splitlines():
        topic, _, text = line.partition(" ")
        body = json.loads(text)
        found.append((topic.removeprefix("umh/v1/acme/"), body["timestamp_ms"], body["value"]))

    assert found == expected(provider.table)


async def test_a_broker_that_is_not_listed_and_a_denied_partner_get_no_message(parties, broker, tool):
    from guantong.exchange.ports import Verdict

    provider, *_ = parties
    provider.table = readings(20)
    reader = subprocess.Popen(
        [tool("mosquitto_sub"), "-p", str(broker.port), "-t", "#", "-W", "3"], stdout=subprocess.PIPE, text=True
    )
    for form, names in (
        ("Sparkplug-PUSH", {"endpoint": "mqtt://127.0.0.1:1", "groupId": "g", "edgeNodeId": "n"}),
        ("Sparkplug-PUSH", {"groupId": "g/#", "edgeNodeId": "n"}),
        ("UNS-PUSH", {"root": ""}),
        ("UNS-PUSH", {"endpoint": "http://localhost/", "root": "x"}),
    ):
        done = await pushed(parties, form, target(broker, **names), "TERMINATED")
        assert "400" in done.reason, done.reason
    provider.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    done = await pushed(parties, "UNS-PUSH", target(broker, root="x"), "TERMINATED")
    assert "grade 3" in done.reason
    said, _ = await asyncio.to_thread(reader.communicate)
    assert said == ""


def test_what_is_no_dataset_of_readings_is_refused():
    address = target(type("Broker", (), {"port": 1883}), groupId="g", edgeNodeId="n")
    writer = SparkplugWriter(broker_target("Sparkplug-PUSH", address, ("127.0.0.1:1883",)))
    with pytest.raises(Refused):
        writer.encode(pa.record_batch({"value": [1]}))
    births = [topic for topic, _ in frames(writer.encode(readings(4).to_batches()[0]))]
    assert births == ["spBv1.0/g/NBIRTH/n", "spBv1.0/g/NDATA/n"]
