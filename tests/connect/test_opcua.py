"""OPC UA against asyncua's server, which is not ours; a proxy between the two cuts the line."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from connect_peers import SUPPLIER, until, value_of

from guantong.connect import Interface
from guantong.connect.model import SecurityScheme

asyncua = pytest.importorskip("asyncua")
from asyncua import Server, ua  # noqa: E402

URI = "urn:energy.example"


class Proxy:
    """A TCP line that can be cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, back]

        async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    to.write(data)
            to.close()

        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async def cut(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        await self.server.wait_closed()


class Meter:
    """A server with one energy meter, on a loop and thread of its own: it takes seconds to start, so all tests share it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.nodes: dict[str, Any] = {}
        self.port = 0

    async def call(self, work: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def write(self, name: str, value: Any) -> None:
        await self.call(self.nodes[name].write_value(value))

    async def start(self) -> None:
        self.server = server = Server()
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(URI)
        folder = await server.nodes.objects.add_object(ua.NodeId("Meter", index), ua.QualifiedName("Meter", index))
        for name, (value, kind) in VALUES.items():
            self.nodes[name] = await folder.add_variable(
                ua.NodeId(name, index), ua.QualifiedName(name, index), value, kind
            )
        unit = ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=int.from_bytes(b"KWT", "big"),
            DisplayName=ua.LocalizedText("kW"),
            Description=ua.LocalizedText("kilowatt"),
        )
        power = self.nodes["Power"]
        await power.add_property(ua.NodeId("PowerUnit", index), ua.QualifiedName("EngineeringUnits", 0), unit)
        await server.start()
        self.port = server.bserver._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


VALUES = {
    "Power": (1.5, ua.VariantType.Double),
    "Energy": (9007199254740993, ua.VariantType.Int64),
    "Running": (True, ua.VariantType.Boolean),
    "State": ("ready", ua.VariantType.String),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Meter]:
    shared = Meter()
    asyncio.run_coroutine_threadsafe(shared.start(), shared.loop).result(60)
    yield shared
    shared.close()


@pytest.fixture
async def meter(server: Meter) -> Meter:
    for name, (value, kind) in VALUES.items():
        await server.write(name, ua.Variant(value, kind))
    return server


def interface(port: int, **rest: Any) -> Interface:
    return Interface("meter", "opcua", f"opc.tcp://127.0.0.1:{port}/", terms=(("interval_ms", "20"),), **rest)


def key(name: str) -> str:
    return f"nsu={URI};p=/Meter/{name}"


async def test_values_arrive_in_their_own_type_with_status_both_times_and_the_unit(connect, meter, sink):
    await connect.add(SUPPLIER, interface(meter.port))
    await until(lambda: len(sink.readings()) >= 4)
    await meter.write(
        "Power",
        ua.DataValue(ua.Variant(2.5, ua.VariantType.Double), ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)),
    )
    await until(lambda: len(sink.readings()) >= 5)
    await meter.write("Power", ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure)))
    await until(lambda: len(sink.readings()) >= 6)
    readings = sink.readings()
    first = {reading["signal"]: reading for reading in readings[:4]}

    assert value_of(first[key("Energy")]) == 9007199254740993  # beyond what a double can hold
    assert value_of(first[key("Running")]) is True
    assert value_of(first[key("State")]) == "ready"
    assert first[key("Power")]["server_time"] is not None
    assert (value_of(readings[4]), readings[4]["status"]) == (2.5, ua.StatusCodes.UncertainLastUsableValue)
    assert (value_of(readings[5]), readings[5]["status"]) == (None, ua.StatusCodes.BadSensorFailure)
    assert sink.noted("units")[0] == {key("Power"): "kW"}
    assert sink.noted("names")[0][key("Power")]["path"] == "/Meter/Power"


async def test_the_overflow_bit_is_a_gap_of_its_signal(connect, meter, sink):
    await connect.add(SUPPLIER, interface(meter.port))
    await until(lambda: len(sink.readings()) >= 4)
    await meter.write("Power", ua.DataValue(ua.Variant(3.5, ua.VariantType.Double), ua.StatusCode(ua.UInt32(0x480))))
    await until(lambda: sink.noted("gaps"))
    (gap,) = sink.noted("gaps")

    assert gap["signal"] == key("Power")
    assert gap["reason"] == "the server's queue overflowed"
    assert value_of(sink.readings()[-1]) == 3.5


async def test_not_a_number_is_quarantined(connect, meter, sink):
    await connect.add(SUPPLIER, interface(meter.port))
    await until(lambda: len(sink.readings()) >= 4)
    await meter.write("Power", float("nan"))
    await until(lambda: sink.noted("quarantined"))

    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["not-finite"]


@pytest.fixture
async def proxy(meter: Meter) -> AsyncIterator[Proxy]:
    line = Proxy(meter.port)
    await line.open()
    yield line
    await line.cut()


async def test_a_cut_that_the_server_bridges_loses_nothing(connect, meter, proxy, sink):
    await connect.add(SUPPLIER, interface(proxy.port))
    await until(lambda: len(sink.readings()) >= 4)
    await proxy.cut()
    await until(lambda: sink.noted("connection"))
    for value in (5.5, 6.5, 7.5):
        await meter.write("Power", value)
        await asyncio.sleep(0.05)
    await proxy.open()
    await until(lambda: len(sink.noted("connection")) == 2, 15)
    await meter.write("Power", 8.5)
    await until(lambda: any(value_of(reading) == 8.5 for reading in sink.readings()))
    power = [value_of(reading) for reading in sink.readings() if reading["signal"] == key("Power")]
    await connect.remove(SUPPLIER, "meter")

    assert power == [1.5, 5.5, 6.5, 7.5, 8.5]
    assert [event["event"] for event in sink.noted("connection")] == ["lost", "back"]
    assert sink.noted("gaps") == []


async def test_where_the_server_forgot_the_subscription_the_gap_is_on_record(connect, meter, proxy, sink):
    await connect.add(SUPPLIER, interface(proxy.port))
    await until(lambda: len(sink.readings()) >= 4)
    await proxy.cut()
    await until(lambda: sink.noted("connection"))
    service = meter.server.iserver.subscription_service
    await meter.call(service.delete_subscriptions(list(service.subscriptions)))
    await meter.write("Power", 7.5)
    await proxy.open()
    await until(lambda: len(sink.noted("connection")) == 2, 15)
    await until(lambda: any(value_of(reading) == 7.5 for reading in sink.readings()))
    card = connect.scorecards(SUPPLIER)[0]
    await connect.remove(SUPPLIER, "meter")
    (gap,) = sink.noted("gaps")

    assert (gap["unit"], gap["count"]) == ("time", 0)
    assert gap["from"] < gap["to"]
    assert (card.losses, card.gap_records, card.connected) == (1, 1, True)


async def test_a_closed_port_is_tried_again_and_says_so(connect, sink, unused_port):
    await connect.add(SUPPLIER, interface(unused_port))
    await until(lambda: connect.scorecards(SUPPLIER)[0].last_error)
    card = connect.scorecards(SUPPLIER)[0]

    assert (card.last_error, card.connected, card.state) == ("connect.unreachable", False, "connecting")
    assert sink.batches == []


async def test_an_interface_that_asks_for_encryption_is_never_read_without(connect, meter, sink):
    secured = interface(
        meter.port, security=("opcua_channel_sc",), schemes=(SecurityScheme("opcua_channel_sc", "uav_channelsec"),)
    )
    await connect.add(SUPPLIER, secured)
    await until(lambda: connect.scorecards(SUPPLIER)[0].last_error)

    assert connect.scorecards(SUPPLIER)[0].last_error == "connect.security-unsupported"
    assert sink.readings() == []


async def test_a_probe_lists_what_a_server_offers_and_the_proposal_can_be_read(connect, meter, sink):
    proposal = await connect.probe(f"opc.tcp://127.0.0.1:{meter.port}/")
    offered = {item.key: item for item in proposal.offers}
    await connect.add(SUPPLIER, proposal.interface)
    await until(lambda: len(sink.readings()) >= 4)

    assert set(offered) == {key(name) for name in ("Power", "Energy", "Running", "State")}
    assert (offered[key("Power")].unit, offered[key("Power")].term("unece")) == ("kW", "KWT")
    assert offered[key("Energy")].type == "integer"
    assert offered[key("Power")].form.href == f"/?id=nsu={URI};s=Power"
