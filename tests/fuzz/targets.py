"""One entry for each parser: bytes in, nothing but its own errors out.

The invariant of each stands in its first line; what any target may raise is a GuantongError (refused, quarantined, unreadable).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from guantong.base.errors import GuantongError

Target = Callable[[bytes], None]
LIMIT = 1 << 20
STREAMS = (
    b'<?xml version="1.0"?><MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:1.3"><Header instanceId="1" version="1.3" bufferSize="10" '
    b'firstSequence="1" lastSequence="2" nextSequence="3"/><Streams><DeviceStream name="M" uuid="m"><ComponentStream component="Linear" name="X" '
    b'componentId="x"><Samples><Position dataItemId="p" sequence="1" timestamp="2026-11-24T08:00:00Z">1.5</Position></Samples><Condition>'
    b'<Fault dataItemId="c" sequence="2" timestamp="2026-11-24T08:00:01Z" type="SYSTEM">hot</Fault></Condition></ComponentStream></DeviceStream>'
    b"</Streams></MTConnectStreams>"
)


def shdr(data: bytes) -> None:
    """Every line gives rows or a quarantined piece; columns stay of one length and make a batch."""
    from guantong.connect.columns import Readings
    from guantong.connect.shdr import ShdrParser

    rows, refused = Readings(), []
    lines = data.decode("utf-8", "replace").split("\n")[:200]
    offsets = [0] * len(lines)
    ShdrParser().feed(
        lines, offsets, 1_795_507_200_000_000_000, rows, lambda offset, reason, text: refused.append(reason)
    )
    assert rows.batch().num_rows == len(rows)


def mtconnect(data: bytes) -> None:
    """A streams document is refused or gives a batch."""
    from guantong.connect.columns import Readings
    from guantong.connect.shdr import Instants
    from guantong.connect.streams import AgentFault, observations, parse_streams

    with contextlib.suppress(AgentFault):
        _, root = parse_streams(data, name="fuzz", limit=LIMIT)
        rows = Readings()
        observations(root, 0, rows, lambda offset, reason, text: None, {}, Instants())
        rows.batch()


def qif(data: bytes) -> None:
    """A report is refused or gives measurements."""
    from guantong.connect.qif import read_qif

    read_qif(data, name="fuzz", receive=0, limit=LIMIT)


def sparkplug(data: bytes) -> None:
    """The columns and the whole reader agree on every plain metric of a payload that can be taken apart."""
    import numpy as np

    from guantong.connect.sparkplug_payload import outline, read_columns, read_metric, read_payload, value_of

    found = outline(data)
    columns = read_columns(data, np.array(found.spans, np.int64).reshape(-1, 2))
    for row, (start, end) in enumerate(found.spans[:200]):
        try:
            metric = read_metric(data, start, end)
        except GuantongError:
            continue  # a name or text that is not UTF-8: the columns leave it to their reader
        value_of(metric.value, metric.datatype or 0)
        if not columns.odd[row]:
            assert (metric.alias if metric.alias is not None else -1) == columns.alias[row]
            assert (metric.timestamp if metric.timestamp is not None else -1) == columns.timestamp[row]
            assert metric.null == bool(columns.flags[row] & 4)
    read_payload(data)


def sparkplug_batch(data: bytes) -> None:
    """A data message becomes a batch whatever it holds; every metric is a row, quarantined, or asked for."""
    from guantong.connect.sparkplug import Book, Told, readings_of
    from guantong.connect.sparkplug_host import topic_of
    from guantong.connect.sparkplug_payload import Metric, outline

    topic = topic_of("spBv1.0/p/NDATA/n")
    assert topic is not None
    book = Book()
    book.born(topic, [Metric(name=f"m{n}", alias=n, datatype=n) for n in range(40)])
    found = outline(data)
    rows, bad, _, _ = readings_of([Told(topic, data, found, 1)], book)
    assert rows.num_rows <= len(found.spans)
    assert rows.num_rows + len(bad) >= sum(1 for _ in found.spans) - _controls(data)


def _controls(data: bytes) -> int:
    return data.count(b"bdSeq") + data.count(b"Control/")


def table(data: bytes) -> None:
    """A CSV or other file is refused, or its form is found and every row is read or quarantined."""
    from guantong.base.clock import SystemClock
    from guantong.connect.delivery import Delivery
    from guantong.connect.files import read_file
    from guantong.connect.model import ConnectSettings, Interface

    class Sink:
        async def take(self, participant: str, batch: object) -> int:
            return 1

    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(data)
        file.flush()
        interface = Interface("fuzz", "folder", "file:///fuzz")
        delivery = Delivery(
            "p", interface, Sink(), SystemClock(), ConnectSettings(file_bytes=LIMIT, document_bytes=LIMIT)
        )
        asyncio.run(read_file(Path(file.name), delivery))


def aid(data: bytes) -> None:
    """A description is refused or read; what was read is written and read back the same."""
    from guantong.connect.aasx import read_package
    from guantong.connect.aid import from_aid, to_aid

    found = read_package(data, limit=LIMIT)
    if found.interfaces:
        from_aid(to_aid(found.interfaces, id="x"))


def aimc(data: bytes) -> None:
    """A mapping document is refused or read."""
    from guantong.fuse.aimc import mappings_from_submodel

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        mappings_from_submodel(document)


def modbus(data: bytes) -> None:
    """Words of any reply have a meaning for every type, or a reason why not; addresses are refused or within the device."""
    from guantong.connect.modbus_plan import Item, blocks, item_of, value_of
    from guantong.connect.model import Form, Interface, Property

    if len(data) < 8:
        return
    words = list(struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2]))[:125]
    for kind in ("short", "unsignedlong", "float", "double", "string", "hexbinary", "boolean"):
        count = {"short": 1, "float": 2, "unsignedlong": 4, "double": 4}.get(kind, len(words))
        value, reason = value_of(Item("x", 1, 3, 0, count, kind, bool(data[0] & 1), bool(data[0] & 2)), words[:count])
        assert value is None or reason is None
    found = item_of(
        Property("x", form=Form(data.decode("latin-1"), terms=(("modv_type", data[:6].decode("latin-1")),))),
        Interface("m", "modbus", "modbus+tcp://h:502/1/"),
    )
    if found is not None:
        assert 0 <= found.start < found.end <= 65_536
        assert blocks([found])


def modbus_frame(data: bytes) -> None:
    """A reply in wire form is a reply, more is waited for, or the library refuses it with an error that we turn into ours."""
    from pymodbus import FramerType
    from pymodbus.exceptions import ModbusException
    from pymodbus.framer import FRAMER_NAME_TO_CLASS
    from pymodbus.pdu import DecodePDU

    for name in (FramerType.SOCKET, FramerType.RTU):
        framer = FRAMER_NAME_TO_CLASS[name](DecodePDU(False))
        with contextlib.suppress(ModbusException):
            framer.handleFrame(data, 1, 1)


def s7(data: bytes) -> None:
    """Bytes of any reply have a meaning for every symbol, or a reason why not; symbols are refused or have a size."""
    from guantong.connect.model import Form, Property
    from guantong.connect.s7 import spot_of, spots_together, value_of

    spots = [
        spot_of(Property("x", form=Form(text)))
        for text in ("DB1,REAL0", "DB1,X0.3", "DB1,STRING4.20", "M,LREAL9", "DB2,CHAR1", "DB1,DINT8")
    ]
    for spot in spots:
        value, reason = value_of(spot, data)
        assert value is None or reason is None
    found = spot_of(Property("x", form=Form(data.decode("latin-1"))))
    assert found.size > 0
    assert spots_together([*spots, found])


def payload(data: bytes) -> None:
    """JSON of MQTT, HTTP and webhooks gives readings that make a batch."""
    from guantong.base.clock import SystemClock
    from guantong.connect.delivery import Delivery
    from guantong.connect.model import ConnectSettings, Interface
    from guantong.connect.values import Shape, at_path, instant_of, read_json

    value = read_json(data)
    delivery = Delivery("p", Interface("f", "http", "http://h/"), None, SystemClock(), ConnectSettings())  # type: ignore[arg-type]
    shape = Shape()
    shape.take("k", value, None, instant_of(value, shape) or 1, 1, delivery)
    at_path(value, "a/0/b")
    delivery.rows.batch()


def devices(data: bytes) -> None:
    """A device model is refused with our own error, or every property in it has a key."""
    from guantong.connect.devices import read_devices

    found = read_devices(data, name="fuzz", limit=LIMIT)
    assert all(item.key for device in found for item in device.items)


def opcua(data: bytes) -> None:
    """Bytes are read, or are garbled, or are a fault of the service; a value is a scalar or the stack's variant."""
    from asyncua import ua

    from guantong.connect.opcua.values import plain
    from guantong.connect.opcua.wire import Garbled, history_results, publish_result, republished

    for read in (publish_result, republished, history_results):
        try:
            found = read(ua.utils.Buffer(data))
        except (Garbled, ua.UaStatusCodeError):
            continue
        items = (
            found[1].items
            if isinstance(found, tuple)
            else found.items
            if hasattr(found, "items")
            else [one for _, _, list_ in found for one in list_]
        )
        for _, status, source, server, value in items:
            assert 0 <= status < 1 << 32
            assert all(one is None or -(1 << 63) <= one < 1 << 63 for one in (source, server))
            if isinstance(value, ua.Variant):
                plain(value)


TARGETS: dict[str, Target] = {
    "aid": aid, "aimc": aimc, "devices": devices, "modbus": modbus, "modbus-frame": modbus_frame, "mtconnect": mtconnect, "opcua": opcua, "payload": payload, "qif": qif,
    "s7": s7, "shdr": shdr, "sparkplug": sparkplug, "sparkplug-batch": sparkplug_batch, "table": table,
}  # fmt: skip


def seeds(name: str, data: Path) -> Iterator[bytes]:
    """What the fuzzer begins with: real files where they are, else what the protocols' own documents show."""
    nist = data / "nist_smstestbed"

    def head(path: Path, size: int = 20_000) -> Iterator[bytes]:
        if path.is_file():
            with path.open("rb") as file:
                yield file.read(size)

    if name == "shdr":
        yield from head(nist / "raw" / "Mazak01-20161129-20161130.txt")
        yield from head(nist / "agent" / "mtc_adapter007.txt")
        yield b"2026-11-24T08:00:00.1234567Z|x|1|y|UNAVAILABLE\n2026-11-24T08:00:00Z|c|FAULT|1|2|HIGH|text\n"
    elif name == "mtconnect":
        yield STREAMS
        yield from head(nist / "raw" / "qdr_input001.xml", 60_000)
    elif name == "devices":
        yield from head(nist / "agent" / "Devices.xml", 60_000)
        yield (
            b'<MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:1.3"><Devices><Device id="d" name="M" uuid="u">'
            b'<DataItems><DataItem category="SAMPLE" id="x" type="POSITION" units="MILLIMETER"/></DataItems></Device>'
            b"</Devices></MTConnectDevices>"
        )
    elif name == "opcua":
        from asyncua import ua
        from asyncua.ua.ua_binary import struct_to_binary

        values = [True, 1, -5, 2**40, 1.5, "text", b"\0\1", [1.0, 2.0], ["a"], None]
        items = [
            ua.MonitoredItemNotification(ClientHandle=number, Value=ua.DataValue(ua.Variant(value)))
            for number, value in enumerate(values)
        ]
        notification = ua.DataChangeNotification(MonitoredItems=items)
        message = ua.NotificationMessage(SequenceNumber=7, NotificationData=[notification])
        response = ua.PublishResponse()
        response.Parameters = ua.PublishResult(
            SubscriptionId=3, AvailableSequenceNumbers=[1], NotificationMessage=message
        )
        history = ua.HistoryReadResponse()
        history.Results = [ua.HistoryReadResult(HistoryData=ua.HistoryData(DataValues=[ua.DataValue(ua.Variant(1.5))]))]
        again = ua.RepublishResponse(NotificationMessage=message)
        yield from (struct_to_binary(one) for one in (response, history, again))
    elif name == "qif":
        for path in sorted(nist.rglob("*.[qQ][iI][fF]"))[:2]:
            yield from head(path, LIMIT)
    elif name.startswith("sparkplug"):
        from guantong.connect.sparkplug_payload import Metric, write_payload

        values = [1, -5, 2.5, True, "text", b"\x01\x02", None]
        yield write_payload(
            [Metric(alias=n, timestamp=9, datatype=n, value=value) for n, value in enumerate(values)],
            timestamp=1,
            seq=0,
        )
        yield write_payload(
            [Metric(name=f"m{n}", datatype=n, value=value) for n, value in enumerate(values)], timestamp=1, seq=255
        )
    elif name == "table":
        for path in sorted((data / "steel").glob("*.csv"))[:1] + sorted((data / "gas_turbine").glob("*.csv"))[:1]:
            yield from head(path, 4_000)
        yield b"time;a;b\n24.11.2026 08:00;1,5;x\n25.11.2026 08:00;2,5;y\n"
        yield b"TagName,DateTime,Value,Quality,Unit\na,2026-11-24 08:00:00,1.5,192,bar\nb,2026-11-24 08:00:01,Bad Input,0,\n"
        yield "time,x\n2026-11-24 08:00:00,度\n2026-11-24 08:00:01,".encode() + b"\xb6\xc8\n"
    elif name in ("aid", "aimc"):
        from guantong.connect.aasx import write_package
        from guantong.connect.aid import to_aid
        from guantong.connect.model import Form, Interface, Property

        one = Interface(
            "p",
            "modbus",
            "modbus+tcp://h:502/1/",
            properties=(Property("s", type="number", form=Form("4?quantity=2")),),
        )
        if name == "aid":
            yield write_package([one], asset="urn:a")
            yield json.dumps(to_aid([one], id="x")).encode()
        else:
            from guantong.fuse.aimc import mappings_to_submodel, signal_reference
            from guantong.fuse.model import Mapping, MapSink, MapSource, Scale

            place = signal_reference("mill", "x")
            mapping = Mapping("m", (MapSource("a", place, 1.0),), (MapSink("b", place),), (Scale(2.0),))
            yield json.dumps(mappings_to_submodel("x", [mapping])).encode()
    elif name == "payload":
        yield b'{"timestamp_ms": 1764000000000, "a": {"value": 1.5, "unit": "Cel"}, "b": [1, {"name": "x", "v": true}]}'
    elif name == "modbus-frame":
        yield bytes.fromhex("000100000007010304 41ac0000".replace(" ", ""))
        yield bytes.fromhex("0103044 1ac00003e0b".replace(" ", ""))
    else:
        yield b"40089?quantity=2"
        yield b"DB1,REAL4"
