"""A dataset served as an MTConnect agent serves it: the documents' form by the standard, and read to the end by our own agent reader."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from lxml import etree
from tests.exchange.mill import START, readings, value_of

from guantong.exchange.messages import token_of
from guantong.exchange.ports import Verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "connect"))

COUNT = 400


@pytest.fixture
async def agent(pair, agreed, started, network):
    provider, consumer = pair
    provider.table = readings(COUNT)
    agreement = await agreed(provider, consumer)
    pid = await started(provider, consumer, agreement)
    endpoint, token = token_of((await consumer.exchange.transfer(consumer.did, pid)).data_address)

    async def ask(path, *, key=token, status=200):
        answer = await network.request("GET", f"{endpoint}/mtconnect/{path}", headers={"authorization": key})
        assert answer.status == status, answer.body
        return etree.fromstring(answer.body) if answer.body.startswith(b"<") else answer

    ask.provider, ask.agreement, ask.token, ask.endpoint = provider, agreement, token, endpoint
    return ask


def header(root):
    return {name: int(root[0].get(name)) for name in ("instanceId", "firstSequence", "lastSequence", "nextSequence")}


def observed(root):
    """Device, name, time, number and text of every observation, in the order of the numbers."""
    found = [
        (stream.get("name"), one.get("name"), one.get("timestamp"), int(one.get("sequence")), one.text)
        for stream in root.iter("{*}DeviceStream") for group in stream.iter("{*}Samples", "{*}Events") for one in group
    ]  # fmt: skip
    return sorted(found, key=lambda one: one[3])


def text_of(row):
    value = value_of(row)
    return "UNAVAILABLE" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


async def test_probe_current_and_sample_have_the_form_of_the_standard(agent):
    devices = await agent("probe")
    assert etree.QName(devices).localname == "MTConnectDevices"
    assert etree.QName(devices).namespace == "urn:mtconnect.org:MTConnectDevices:2.0"
    assert [child.tag.rpartition("}")[2] for child in devices] == ["Header", "Devices"]
    assert {"creationTime", "sender", "instanceId", "version", "bufferSize", "assetBufferSize", "assetCount"} <= set(
        devices[0].attrib
    )
    (device,) = devices.iter("{*}Device")
    assert set(device.attrib) == {"id", "name", "uuid"}
    items = {item.get("name"): item for item in device.iter("{*}DataItem")}
    assert {name: item.get("category") for name, item in items.items()} == {
        "load": "SAMPLE", "parts": "EVENT", "mode": "EVENT", "door": "EVENT"}  # fmt: skip
    assert items["load"].get("units") == "%"
    ids = [node.get("id") for node in devices.iter("{*}Device", "{*}DataItem")]
    assert len(ids) == len(set(ids))

    current = await agent("current")
    assert etree.QName(current).localname == "MTConnectStreams"
    assert [child.tag.rpartition("}")[2] for child in current] == ["Header", "Streams"]
    assert [one[3] for one in observed(current)] == [COUNT - 3, COUNT - 2, COUNT - 1, COUNT]
    assert header(current)["nextSequence"] == COUNT + 1
    known = {item.get("id") for item in items.values()}
    for one in current.iter("{urn:guantong:mtconnect:1}Reading"):
        assert one.get("dataItemId") in known
        assert one.getparent().tag.rpartition("}")[2] in ("Samples", "Events")
        assert one.getparent().getparent().tag.rpartition("}")[2] == "ComponentStream"


async def test_the_standard_s_client_loop_gets_every_observation_once_and_in_order(agent):
    at, found = header(await agent("sample?from=1&count=1"))["firstSequence"], []
    while True:
        root = await agent(f"sample?from={at}&count=150")
        part = observed(root)
        if not part:
            break
        assert [one[3] for one in part] == list(range(at, at + len(part)))
        found += part
        at = header(root)["nextSequence"]
    rows = agent.provider.table.to_pylist()

    assert at == COUNT + 1
    assert [(device, name, text) for device, name, _, _, text in found] == [
        (row["source"], row["signal"], text_of(row)) for row in rows
    ]
    assert found[1][2] == "2025-11-24T16:00:00.001000000Z"


async def test_every_answer_is_decided_recorded_and_counted(agent):
    provider = agent.provider
    await agent("probe")
    await agent("sample?from=1&count=10")
    receipts = await provider.exchange.wait_receipts(provider.did, agent.agreement, count=2, timeout_s=5)
    assert [(one.state, one.record["rows"]) for one in receipts] == [("one-sided", 0), ("one-sided", 10)]
    assert len(provider.leaves("exchange.delivery-intended")) == 2
    assert await provider.exchange.deliveries(provider.did, agent.agreement) == 1  # a probe holds no reading
    await agent("current", key="guess", status=401)
    basic = "Basic " + base64.b64encode(f"me:{agent.token}".encode()).decode()
    await agent("current", key=basic)
    provider.verdict = Verdict(allowed=False, reason="grade 3 stays at home")
    await agent("current", status=403)


async def test_what_an_agent_refuses_is_an_error_document(agent):
    for path, code in (
        ("sample?from=900", "OUT_OF_RANGE"),
        ("sample?count=0", "OUT_OF_RANGE"),
        ("sample?from=x", "INVALID_REQUEST"),
        ("assets", "UNSUPPORTED"),
    ):
        root = await agent(path, status=404)
        assert etree.QName(root).localname == "MTConnectError"
        assert [one.get("errorCode") for one in root.iter("{*}Error")] == [code], path


async def test_new_readings_follow_and_a_late_one_begins_a_new_instance(agent):
    before = header(await agent("current"))
    more = readings(COUNT + 5).slice(COUNT)
    agent.provider.table = pa.concat_tables([agent.provider.table, more])
    root = await agent(f"sample?from={before['nextSequence']}")
    assert header(root)["instanceId"] == before["instanceId"]
    assert [one[3] for one in observed(root)] == list(range(COUNT + 1, COUNT + 6))

    late = readings(1).set_column(
        5, agent.provider.table.schema.field(5), pa.array([START + 500_000], agent.provider.table.schema.field(5).type)
    )
    agent.provider.table = pa.concat_tables([agent.provider.table, late])
    assert header(await agent("current"))["instanceId"] > before["instanceId"]


async def test_our_own_agent_reader_takes_all_of_it(agent, network):
    from connect_peers import QUICK, SUPPLIER, ListSink, until
    from connect_peers import value_of as taken

    from guantong.base.clock import SystemClock
    from guantong.connect import tables  # noqa: F401 - declares its tables
    from guantong.connect.model import Interface
    from guantong.connect.service import Connect
    from guantong.records import METADATA, Records

    class Signed:
        """The network, with the transfer's token."""

        def request(self, method, url, **options):
            return network.request(method, url, **{**options, "headers": {"authorization": agent.token}})

        def stream(self, method, url, **options):
            return network.stream(method, url, **{**options, "headers": {"authorization": agent.token}})

    records, sink = Records("sqlite://", SystemClock(), inline=True), ListSink()
    records.open(METADATA.create_all)
    stage = Connect(records, sink, SystemClock(), Signed(), QUICK)
    await stage.start()
    await stage.add(SUPPLIER, Interface("bought", "mtconnect", f"{agent.endpoint}/mtconnect"))
    await until(lambda: len(sink.readings()) >= COUNT, 20)
    await stage.stop()
    records.close()
    numbers = sorted(one["sequence"] for one in sink.readings())

    assert numbers == list(range(1, COUNT + 1))
    assert sink.noted("gaps") == []
    by_number = {one["sequence"]: one for one in sink.readings()}
    assert by_number[1]["source_time"] == START
    assert taken(by_number[3]) == "运行2"
