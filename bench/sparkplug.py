"""Sparkplug B: metrics decoded and written to the durable log, per second of one core, beside the same through protobuf's own library.

Both sides read the same payloads (1,000 data messages of 100 metrics by alias: doubles and signed integers), put them into the same
Arrow columns and hand the same batches to keep's log. The peer decodes with google.protobuf (upb, in C), which is what Eclipse Tahu's
Python client uses, and a loop over its metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import SystemClock
from guantong.connect.sparkplug import Book, Told, readings_of
from guantong.connect.sparkplug_host import topic_of
from guantong.connect.sparkplug_payload import Metric, outline, value_of, write_payload
from guantong.keep.model import KeepSettings
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

MESSAGES, METRICS, RUNS = 1_000, 100, 7
TYPES = (10, 3, 4, 9)


def protobuf_class() -> Any:
    """The payload's class, from its description: the fields of sparkplug_b.proto that data messages use."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="spb.proto", package="spb", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for name, number, kind in (
        ("name", 1, kinds.TYPE_STRING), ("alias", 2, kinds.TYPE_UINT64), ("timestamp", 3, kinds.TYPE_UINT64),
        ("datatype", 4, kinds.TYPE_UINT32), ("is_historical", 5, kinds.TYPE_BOOL), ("is_transient", 6, kinds.TYPE_BOOL),
        ("is_null", 7, kinds.TYPE_BOOL), ("int_value", 10, kinds.TYPE_UINT32), ("long_value", 11, kinds.TYPE_UINT64),
        ("float_value", 12, kinds.TYPE_FLOAT), ("double_value", 13, kinds.TYPE_DOUBLE), ("boolean_value", 14, kinds.TYPE_BOOL),
        ("string_value", 15, kinds.TYPE_STRING),
    ):  # fmt: skip
        metric.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    payload.field.add(name="timestamp", number=1, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=kinds.TYPE_MESSAGE, type_name=".spb.Payload.Metric", label=kinds.LABEL_REPEATED
    )
    payload.field.add(name="seq", number=3, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("spb.Payload"))


def payloads() -> list[bytes]:
    made = []
    for n in range(MESSAGES):
        at = 1_764_000_000_000 + n * 100
        metrics = []
        for alias in range(METRICS):
            kind = TYPES[alias % len(TYPES)]
            value: Any = n / 7 + alias if kind in (9, 10) else alias - n
            metrics.append(Metric(alias=alias, timestamp=at + alias % 100, value=value, datatype=kind))
        # data messages leave the type out (6.4.7), the writer needs it for the width
        made.append(write_payload(metrics, timestamp=at, seq=n % 256))
    return made


async def ours(data: list[bytes], log: Keep, book: Book, now: int) -> int:
    topic = topic_of("spBv1.0/plant/NDATA/cell")
    assert topic is not None
    rows = 0
    for begin in range(0, len(data), 100):
        told = [Told(topic, one, outline(one), now) for one in data[begin : begin + 100]]
        batch, bad, _, _ = readings_of(told, book)
        assert not bad
        rows += batch.num_rows
        await _append(log, batch)
    return rows


async def peer(data: list[bytes], log: Keep, book: Book, now: int, kind: Any) -> int:
    import pyarrow as pa

    schema = reading_schema()
    time_type = schema.field("source_time").type
    rows = 0
    for begin in range(0, len(data), 100):
        signal, source, number, whole = [], [], [], []
        for one in data[begin : begin + 100]:
            payload = kind.FromString(one)
            for metric in payload.metrics:
                place = metric.alias
                which = book.types[place]
                signal.append(book.names[place])
                source.append(metric.timestamp * 1_000_000)
                value, _ = value_of(
                    metric.double_value if which == 10 else metric.float_value if which == 9
                    else metric.long_value if which == 4 else metric.int_value,
                    which,
                )  # fmt: skip
                number.append(value if which in (9, 10) else None)
                whole.append(value if which not in (9, 10) else None)
        count = len(signal)
        rows += count
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(signal), pa.array(source, pa.int64()).cast(time_type), pa.nulls(count, time_type),
                pa.array([now] * count, pa.int64()).cast(time_type), pa.array(number, pa.float64()), pa.array(whole, pa.int64()),
                pa.nulls(count, pa.string()), pa.nulls(count, pa.bool_()), pa.array([0] * count, pa.uint32()),
                pa.nulls(count, pa.int64()),
            ],
            schema=schema,
        )  # fmt: skip
        await _append(log, batch)
    return rows


async def _append(log: Keep, rows: Any) -> None:
    await log.take("did:web:bench.example", Batch("cells", "readings", rows, {}))


async def measure(runs: int, messages: int) -> dict[str, Any]:
    data = payloads()[:messages]
    book = Book()
    birth = topic_of("spBv1.0/plant/NBIRTH/cell")
    assert birth is not None
    book.born(birth, [Metric(name=f"m{n}", alias=n, datatype=TYPES[n % len(TYPES)]) for n in range(METRICS)])
    kind = protobuf_class()
    clock = SystemClock()
    figures: dict[str, list[float]] = {"ours": [], "protobuf": [], "ours, decoded only": []}
    with tempfile.TemporaryDirectory() as folder:
        records = Records(f"sqlite:///{folder}/records.db", clock)
        records.open(METADATA.create_all)
        keep = Keep(Path(folder) / "keep", records, clock, KeepSettings())
        await keep.start()
        topic = topic_of("spBv1.0/plant/NDATA/cell")
        assert topic is not None
        try:
            for run in range(runs + 1):
                for name in ("ours", "protobuf"):
                    now = clock.now() + run
                    began = time.process_time()
                    rows = await (ours(data, keep, book, now) if name == "ours" else peer(data, keep, book, now, kind))
                    spent = time.process_time() - began
                    if run:  # the first warms both
                        figures[name].append(rows / spent)
                began = time.process_time()
                for begin in range(0, len(data), 100):
                    readings_of([Told(topic, one, outline(one), 0) for one in data[begin : begin + 100]], book)
                if run:
                    figures["ours, decoded only"].append(messages * METRICS / (time.process_time() - began))
        finally:
            await keep.stop()
            records.close()
    found: dict[str, Any] = {
        f"metrics per core-second to the durable log, {name}": {
            "min": min(values), "median": statistics.median(values), "max": max(values)
        }
        for name, values in figures.items()
    }  # fmt: skip
    found["ratio to protobuf's own library"] = statistics.median(figures["ours"]) / statistics.median(
        figures["protobuf"]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    found = asyncio.run(measure(3 if asked.quick else RUNS, 300 if asked.quick else MESSAGES))
    found["load"] = os.getloadavg()[0]
    if asked.as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name:<70} {value['min']:>12,.0f} / {value['median']:,.0f} / {value['max']:,.0f}")
        else:
            print(f"{name:<70} {value:>12.2f}")


if __name__ == "__main__":
    main()
