"""Decisions of the OPC UA reader, and the bytes of its messages against asyncua's own encoder."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.errors import ConfigProblem
from guantong.connect.model import NOSEC, Interface, SecurityScheme

pytest.importorskip("asyncua")
import contextlib

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from guantong.connect.opcua.rules import (
    Hole,
    Security,
    after,
    channel_of,
    companions,
    following,
    grouped,
    join_path,
    overflowed,
    profile_of,
    remaining,
    security_of,
    split_path,
    unece_code,
)
from guantong.connect.opcua.wire import Garbled, history_results, publish_result, republished


@pytest.mark.parametrize(
    ("manufacturer", "product", "name", "items"),
    [
        ("Siemens AG", "S7-1200 OPC UA Server", "S7-1200", 100),
        ("Siemens AG", "SIMATIC.S7-1500.OPC-UA", "S7-1500", 500),
        ("Inductive Automation", "Ignition OPC UA Server", "Ignition", 100),
        ("Kepware", "KEPServerEX", "Kepware", 1000),
        ("Prosys OPC Ltd.", "SimulationServer", "Prosys", 800),
        ("Example", "Nobody has seen it", "unknown", 50),
        (None, None, "unknown", 50),
    ],
)
def test_what_a_server_bears_is_known_by_its_build_info(manufacturer, product, name, items):
    found = profile_of(manufacturer, product)

    assert (found.name, found.items_per_call) == (name, items)


def test_sequence_numbers_begin_again_at_one():
    assert following(1) == 2
    assert following(0xFFFFFFFF) == 1
    assert after(1, 0xFFFFFFFF)
    assert after(7, 3)
    assert not after(3, 7)
    assert not after(7, 7)


def test_the_overflow_bit_counts_only_with_the_info_type_of_a_value():
    assert overflowed(0x480)
    assert overflowed(0x40000480)
    assert not overflowed(0x080)
    assert not overflowed(0x400)


@pytest.mark.parametrize(
    ("history", "left"),
    [
        ([], (11, 19)),
        ([10, 14, 20], None),  # it holds both known ends: it was kept through the hole
        ([10, 14], (15, 19)),
        ([14, 20], (11, 13)),
        ([14], (11, 19)),  # it holds neither: it proves nothing
        ([3, 25], (11, 19)),
    ],
)
def test_what_history_leaves_open_of_a_hole(history, left):
    assert remaining(Hole("x", 10, 20, "why"), history) == left


def test_a_hole_without_room_is_none():
    assert remaining(Hole("x", 10, 11, "why"), []) is None


def test_holes_of_all_signals_alike_are_one_record():
    alike = [("a", 1, 2, "r"), ("b", 1, 2, "r")]

    assert grouped(alike, 2) == [(None, 1, 2, "r")]
    assert grouped(alike, 3) == alike
    assert grouped([("a", 1, 2, "r"), ("b", 1, 3, "r")], 2) == [("a", 1, 2, "r"), ("b", 1, 3, "r")]


_NAME = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: not name.startswith("nsu=")
)
_URI = st.sampled_from(["urn:own", "http://opcfoundation.org/UA/", "http://other.example/a&b/"])


@given(st.lists(st.tuples(_URI, _NAME), min_size=1, max_size=6))
def test_a_browse_path_as_text_comes_back_whole(elements):
    assert split_path(join_path(elements, "urn:own"), "urn:own") == elements


def channel(**terms: str) -> Interface:
    scheme = SecurityScheme("channel", "uav_channelsec", tuple(sorted(terms.items())))
    return Interface("m", "opcua", "opc.tcp://h:4840/", security=("channel",), schemes=(NOSEC, scheme))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256", "Basic256Sha256"),
        ("Aes128_Sha256_RsaOaep", "Aes128Sha256RsaOaep"),
        ("aes256Sha256RsaPss", "Aes256Sha256RsaPss"),
    ],
)
def test_three_policies_are_kept(text, policy):
    found = security_of(channel(uav_securityPolicy=text, uav_securityMode="sign_encrypt", thumbprint="AB:cd"))

    assert (found.policy, found.mode, found.thumbprint) == (policy, "SignAndEncrypt", "abcd")


@pytest.mark.parametrize(
    "terms",
    [
        {"uav_securityPolicy": "Basic128Rsa15"},
        {"uav_securityPolicy": "http://opcfoundation.org/UA/SecurityPolicy#Basic256"},
        {"uav_securityPolicy": "None"},
        {"uav_securityMode": "none"},
    ],
)
def test_what_rests_on_sha1_or_on_nothing_is_refused_never_lowered(terms):
    with pytest.raises(ConfigProblem) as caught:
        security_of(channel(**terms))

    assert caught.value.code == "connect.security-unsupported"


def test_a_scheme_that_is_not_known_is_refused():
    scheme = SecurityScheme("x", "oauth2")
    with pytest.raises(ConfigProblem):
        security_of(Interface("m", "opcua", "opc.tcp://h/", security=("x",), schemes=(scheme,)))


def test_the_strongest_channel_is_proposed_where_a_server_takes_no_open_one():
    offered = ["Sign Basic256Sha256", "SignAndEncrypt Basic256", "SignAndEncrypt Basic256Sha256"]
    scheme = channel_of(offered, "ab" * 32)

    assert scheme is not None
    assert security_of(Interface("m", "opcua", "opc.tcp://h/", security=(scheme.name,), schemes=(scheme,))) == (
        Security("Basic256Sha256", "SignAndEncrypt", "anonymous", "ab" * 32)
    )
    assert channel_of([*offered, "None_ None"], "") is None
    assert channel_of(["SignAndEncrypt Basic256"], "") is None


def test_companion_models_are_told_by_their_namespaces():
    uris = ["http://opcfoundation.org/UA/", "http://opcfoundation.org/UA/Machinery/", "http://opcfoundation.org/UA/CNC"]

    assert companions(uris) == ["Machinery", "CNC"]


def test_a_unit_id_is_a_unece_code():
    assert unece_code(4937544) == "KWH"
    assert unece_code(-1) is None


# bytes ---------------------------------------------------------------------------------------------------------------------------


MOMENT = datetime(2026, 11, 24, 8, 0, 0, 123456, tzinfo=UTC)
AT = 1795507200123456000


def item(
    handle: int, variant: ua.Variant, status: int = 0, *, source: bool = True, server: bool = True
) -> ua.MonitoredItemNotification:
    value = ua.DataValue(
        variant, ua.StatusCode(ua.UInt32(status)), MOMENT if source else None, MOMENT if server else None
    )
    return ua.MonitoredItemNotification(ClientHandle=handle, Value=value)


def published(*items: ua.MonitoredItemNotification, number: int = 7):
    notification = ua.DataChangeNotification(MonitoredItems=list(items))
    message = ua.NotificationMessage(
        SequenceNumber=number, PublishTime=MOMENT, NotificationData=[notification] if items else []
    )
    response = ua.PublishResponse()
    response.ResponseHeader.Timestamp = MOMENT
    response.Parameters = ua.PublishResult(
        SubscriptionId=3, AvailableSequenceNumbers=[5, 6, 7], NotificationMessage=message
    )
    return ua.utils.Buffer(struct_to_binary(response))


SCALARS = [
    (True, ua.VariantType.Boolean),
    (-5, ua.VariantType.SByte),
    (250, ua.VariantType.Byte),
    (-30000, ua.VariantType.Int16),
    (60000, ua.VariantType.UInt16),
    (-(2**31), ua.VariantType.Int32),
    (2**32 - 1, ua.VariantType.UInt32),
    (-(2**63), ua.VariantType.Int64),
    (2**53 + 1, ua.VariantType.UInt64),
    (1.25, ua.VariantType.Float),
    (0.1, ua.VariantType.Double),
    ("主轴", ua.VariantType.String),
    (None, ua.VariantType.Null),
]


def test_scalars_are_read_from_the_bytes_as_they_were_written():
    items = [item(number, ua.Variant(value, kind), number) for number, (value, kind) in enumerate(SCALARS)]
    subscription, message = publish_result(published(*items))

    assert (subscription, message.number, message.empty, message.status) == (3, 7, False, None)
    assert message.items == [(number, number, AT, AT, value) for number, (value, _) in enumerate(SCALARS)]


def test_an_unsigned_number_beyond_a_column_of_integers_becomes_text():
    _, message = publish_result(published(item(1, ua.Variant(2**64 - 1, ua.VariantType.UInt64))))

    assert message.items[0][4] == str(2**64 - 1)


def test_arrays_are_left_to_the_stack():
    _, message = publish_result(published(item(1, ua.Variant([1.0, 2.0])), item(2, ua.Variant(3.5))))

    assert message.items[0][4].Value == [1.0, 2.0]
    assert message.items[1][4] == 3.5


def test_picoseconds_stand_behind_their_own_time():
    # as OPC 10000-6, 5.2.2.17 orders them: source time, source picoseconds, server time, server picoseconds
    whole = struct_to_binary(item(9, ua.Variant(1.5)))
    times = whole[-16:]
    mask = whole[4] | 0x10 | 0x20
    mended = (
        whole[:4]
        + bytes([mask])
        + whole[5:-16]
        + times[:8]
        + (7400).to_bytes(2, "little")
        + times[8:]
        + (100).to_bytes(2, "little")
    )
    plain = bytes(published(item(9, ua.Variant(1.5)))._data)
    body = plain.replace(whole, mended)
    place = body.index(mended)
    length = int.from_bytes(body[place - 8 : place - 4], "little")
    body = body[: place - 8] + (length + 4).to_bytes(4, "little") + body[place - 4 :]
    _, message = publish_result(ua.utils.Buffer(body))

    assert message.items == [(9, 0, AT + 74, AT + 1, 1.5)]


def test_a_keep_alive_is_empty_and_no_time_is_none():
    assert publish_result(published())[1].empty
    _, message = publish_result(published(item(1, ua.Variant(1.5), source=False, server=False)))
    assert message.items == [(1, 0, None, None, 1.5)]


def test_a_fault_of_the_service_is_raised_as_the_stack_does():
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadMessageNotAvailable))
    with pytest.raises(ua.uaerrors.BadMessageNotAvailable):
        republished(ua.utils.Buffer(struct_to_binary(fault)))


@given(st.data())
def test_damaged_messages_are_garbled_and_nothing_else(data):
    whole = bytearray(
        bytes(
            published(
                *(item(n, ua.Variant(v, k)) for n, (v, k) in enumerate(SCALARS)), item(99, ua.Variant([1, 2]))
            )._data
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for read in (publish_result, republished, history_results):
        with contextlib.suppress(Garbled, ua.UaStatusCodeError):
            read(ua.utils.Buffer(bytes(whole[:cut])))
