"""Bodies of deliveries: every Arrow stream is read as it was written, whatever pieces it comes in; hostile bytes are refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.errors import Skippable
from guantong.exchange.encoding import ARROW, CSV, JSON, ArrowReader, Encoder, negotiated

TABLES = [
    pa.table({"n": pa.array([2**63 - 1, None, -(2**63)], pa.int64()), "text": ["你好", None, ""]}),
    pa.table({"d": pa.array(["a", "b", "a"]).dictionary_encode(), "t": pa.array([1, 2, 3], pa.timestamp("us", "UTC"))}),
    pa.table({"x": pa.array([], pa.float64())}),
]


def body_of(table, rows=2):
    encoder = Encoder(ARROW)
    pieces = [
        encoder.encode(batch)
        for batch in table.to_batches(max_chunksize=rows)
        or [pa.record_batch(table.slice(0, 0).to_pydict(), schema=table.schema)]
    ]
    return b"".join(pieces) + encoder.end()


@pytest.mark.parametrize("table", TABLES)
@given(cuts=st.lists(st.integers(1, 300), max_size=20))
def test_a_stream_is_read_whatever_pieces_it_comes_in(table, cuts):
    body, reader, batches, at = body_of(table), ArrowReader(), [], 0
    for cut in [*cuts, len(body)]:
        batches.extend(reader.feed(body[at : at + cut]))
        at += cut

    assert reader.complete
    assert pa.Table.from_batches(batches, table.schema).equals(table)


def test_a_foreign_reader_reads_our_stream():
    assert pa.ipc.open_stream(body_of(TABLES[0])).read_all().equals(TABLES[0])


@pytest.mark.parametrize("cut", [1, 7, 8, 50, 300])
def test_a_stream_that_was_cut_is_not_complete(cut):
    reader = ArrowReader()
    list(reader.feed(body_of(TABLES[0])[:-cut]))

    assert not reader.complete


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_awaited(body):
    reader = ArrowReader()
    try:
        list(reader.feed(body))
        list(reader.feed(b"\xff\xff\xff\xff" + body))
    except Skippable as error:
        assert error.code == "exchange.body-unreadable"  # noqa: PT017 - both outcomes are right


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_damaged_stream_is_refused_or_read_without_a_crash(at, value):
    body = bytearray(body_of(TABLES[0]))
    body[at % len(body)] = value
    reader = ArrowReader()
    try:
        list(reader.feed(bytes(body)))
    except Skippable as error:
        assert error.code == "exchange.body-unreadable"  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    "accept, form",
    [
        ("", ARROW),
        ("*/*", ARROW),
        ("text/csv", CSV),
        ("application/json;q=0.9", JSON),
        ("text/html, text/csv", CSV),
        (ARROW, ARROW),
    ],
)
def test_the_form_asked_for_first_is_given(accept, form):
    assert negotiated(accept) == form
