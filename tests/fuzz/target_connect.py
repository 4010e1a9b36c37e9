"""Targets of connect: SHDR, MTConnect, QIF, OPC UA notifications."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import Target

from guantong.connect.columns import Readings
from guantong.connect.devices import read_devices
from guantong.connect.qif import read_qif
from guantong.connect.shdr import Instants, Item, ShdrParser
from guantong.connect.streams import AgentFault, observations, parse_streams

LIMIT = 1 << 22
SHDR = b"2017-02-01T08:00:00.1234567Z|Xact|1.5|mode|AUTOMATIC\n2017-02-01T08:00:01Z|logic|FAULT|1|2|HIGH|text\n2017-02-01T08:00:02Z|Xpos|1 2 3\n"
STREAMS = (
    b'<?xml version="1.0"?><MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:1.3"><Header instanceId="1" version="1.3" bufferSize="10" '
    b'firstSequence="1" lastSequence="2" nextSequence="3"/><Streams><DeviceStream name="M" uuid="m"><ComponentStream component="Linear" name="X" '
    b'componentId="x"><Samples><Position dataItemId="p" sequence="1" timestamp="2026-11-24T08:00:00Z">1.5</Position></Samples><Condition>'
    b'<Fault dataItemId="c" sequence="2" timestamp="2026-11-24T08:00:01Z" type="SYSTEM">hot</Fault></Condition></ComponentStream></DeviceStream>'
    b"</Streams></MTConnectStreams>"
)


def _pieces(path: Path, pattern: str, size: int, most: int) -> list[bytes]:
    found = []
    for file in sorted(path.rglob(pattern))[:most] if path.is_dir() else ():
        with file.open("rb") as opened:
            found.append(opened.read(size))
    return found


def shdr_seeds(data: Path) -> Sequence[bytes]:
    raw = data / "nist_smstestbed"
    return [SHDR, *_pieces(raw / "raw", "*.txt", 4000, 4), *_pieces(raw / "tdp_mtc", "*.txt", 4000, 6)]


ITEMS = {
    "Xact": Item("SAMPLE", "POSITION", True),
    "logic": Item("CONDITION", "LOGIC_PROGRAM", None),
    "mode": Item("EVENT", "CONTROLLER_MODE", False),
}


def shdr(data: bytes) -> Any:
    """Every line gives rows or is quarantined with an offset of its own; the columns stay equally long and make a batch."""
    lines = data.decode("utf-8", "replace").split("\n")
    said = set()
    for recording in (False, True):
        rows, refused = Readings(), list[tuple[int, str, str]]()
        parser = ShdrParser(ITEMS, recording=recording)
        take: Any = lambda *piece, into=refused: into.append(piece)  # noqa: E731
        count, parsed = parser.feed(lines, list(range(len(lines))), 1, rows, take)
        assert 0 <= parsed <= count <= len(lines), (count, parsed)
        assert all(0 <= offset < len(lines) and isinstance(text, str) for offset, _, text in refused)
        rows.batch()
        said.add((recording, min(len(rows), 3), frozenset(reason for _, reason, _ in refused)))
    return frozenset(said)


def streams_seeds(data: Path) -> Sequence[bytes]:
    return [
        STREAMS,
        *_pieces(data / "nist_smstestbed" / "raw", "*.xml", 60_000, 2),
        *_pieces(data / "nist_smstestbed" / "agent", "*.xml", 60_000, 2),
    ]


def streams(data: bytes) -> Any:
    """A document is refused whole, or every observation in it becomes a row or is quarantined, and its number is known."""
    try:
        header, root = parse_streams(data, name="fuzz", limit=LIMIT)
    except AgentFault as fault:
        return ("fault", bool(fault.codes))
    rows, refused = Readings(), []
    numbers = observations(root, 1, rows, lambda *piece: refused.append(piece), {}, Instants())
    assert len(numbers) == len(rows) + len(refused)
    rows.batch()
    return (header.size > 0, min(len(rows), 3), frozenset(reason for _, reason, _ in refused))


def devices_seeds(data: Path) -> Sequence[bytes]:
    return [
        (
            b'<MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:1.3"><Devices><Device id="d" name="M" uuid="u"><DataItems>'
            b'<DataItem category="SAMPLE" id="x" type="POSITION" units="MILLIMETER"/></DataItems></Device></Devices></MTConnectDevices>'
        ),
        *_pieces(data / "nist_smstestbed" / "agent", "Devices.xml", 60_000, 1),
    ]


def devices(data: bytes) -> Any:
    """A device model is refused with our own error, or every property in it has a key."""
    found = read_devices(data, name="fuzz", limit=LIMIT)
    assert all(item.key for device in found for item in device.items)
    return (min(len(found), 3), min(sum(len(device.items) for device in found), 5))


def qif_seeds(data: Path) -> Sequence[bytes]:
    small = (
        b'<?xml version="1.0"?><QIFDocument xmlns="http://qifstandards.org/xsd/qif2" versionQIF="2.1.0"><QPId>a</QPId><MeasurementsResults>'
        b'<MeasurementResultSet id="1"><MeasurementResults id="2"><MeasuredCharacteristics><CharacteristicMeasurements n="1">'
        b'<DiameterCharacteristicMeasurement id="3"><Status><CharacteristicStatusEnum>PASS</CharacteristicStatusEnum></Status>'
        b"<CharacteristicItemId>4</CharacteristicItemId><Value>1.5</Value></DiameterCharacteristicMeasurement></CharacteristicMeasurements>"
        b"</MeasuredCharacteristics></MeasurementResults></MeasurementResultSet></MeasurementsResults></QIFDocument>"
    )
    return [small, *_pieces(data / "nist_smstestbed" / "tdp_mtc", "*.[qQ][iI][fF]", 150_000, 2)]


def qif(data: bytes) -> Any:
    """A report is refused with our own error, or gives rows of the schema."""
    report = read_qif(data, name="fuzz.qif", receive=1, limit=LIMIT)
    report.rows.validate(full=True)
    return (min(report.results, 3), min(report.rows.num_rows, 3))


def opcua_seeds(_: Path) -> Sequence[bytes]:
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
    response.Parameters = ua.PublishResult(SubscriptionId=3, AvailableSequenceNumbers=[1], NotificationMessage=message)
    history = ua.HistoryReadResponse()
    history.Results = [ua.HistoryReadResult(HistoryData=ua.HistoryData(DataValues=[ua.DataValue(ua.Variant(1.5))]))]
    again = ua.RepublishResponse(NotificationMessage=message)
    return [struct_to_binary(one) for one in (response, history, again)]


def opcua(data: bytes) -> Any:
    """Bytes are read, or are garbled, or are a fault of the service; a value is a scalar or the stack's variant."""
    from asyncua import ua

    from guantong.connect.opcua.values import plain
    from guantong.connect.opcua.wire import Garbled, history_results, publish_result, republished

    said: list[Any] = []
    for read in (publish_result, republished, history_results):
        try:
            found = read(ua.utils.Buffer(data))
        except Garbled as error:
            said.append(str(error)[:12])
            continue
        except ua.UaStatusCodeError:
            said.append("fault")
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
        said.append(min(len(items), 12))
    return tuple(said)


TARGETS = (
    Target("shdr", shdr_seeds, shdr, shdr.__doc__ or ""),
    Target("mtconnect", streams_seeds, streams, streams.__doc__ or ""),
    Target("devices", devices_seeds, devices, devices.__doc__ or ""),
    Target("qif", qif_seeds, qif, qif.__doc__ or ""),
    Target("opcua", opcua_seeds, opcua, opcua.__doc__ or ""),
)
