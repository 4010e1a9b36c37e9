"""What the node of these tests makes and offers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from guantong.base.batch import Batch, reading_schema
from guantong.base.clock import NS, parse_iso

if TYPE_CHECKING:
    from guantong.node import Node

__all__ = ["batch", "describe_and_offer"]

DATASET, PURPOSE = "spindle", "incoming inspection"
START = parse_iso("2026-11-24T08:00:00Z")
PRICE = {"currency": "CNY", "charges": [{"per": "row", "price": "0.02"}, {"per": "transfer", "price": "5.00"}]}


def batch(first: int, count: int, **changes: Any) -> Batch:
    """Readings of one signal with the numbers ``first`` and following; the same numbers are the same readings."""
    columns: dict[str, list[Any]] = {
        "signal": ["load"] * count,
        "source_time": [START + number * NS // 10 for number in range(first, first + count)],
        "receive_time": [START + number * NS // 10 + 5_000_000 for number in range(first, first + count)],
        "value_f64": [20 + random.Random(number).gauss(0, 1) for number in range(first, first + count)],
        "status": [0] * count,
        "sequence": list(range(first, first + count)),
        **changes,
    }
    schema = reading_schema()
    arrays = [
        pa.array(columns.get(item.name, [None] * count), pa.int64()).cast(item.type)
        if pa.types.is_timestamp(item.type)
        else pa.array(columns.get(item.name, [None] * count), item.type)
        for item in schema
    ]
    return Batch("mill", "readings", pa.RecordBatch.from_arrays(arrays, schema=schema), {"file": "day.shdr"})


async def describe_and_offer(node: Node, partner: str) -> str:
    """The dataset of all signals, its rights, and the product for one partner; doing it again changes nothing."""
    from guantong.describe.model import Dataset
    from guantong.exchange.model import Product
    from guantong.govern.model import Rights

    me = node.participant
    signals = await node.fuse.signals(me)
    await node.describe.define(
        me, Dataset(DATASET, "Spindle", "主轴", kind="readings", signals=tuple(signal.id for signal in signals))
    )
    await node.govern.state_rights(
        me,
        Rights(
            DATASET,
            holder=me,
            processor=me,
            operator=me,
            source="own production",
            evidence="asset register",
            valid_from="2026-11-01T00:00:00Z",
        ),
    )
    constraints = [
        {"leftOperand": "recipient", "operator": "eq", "rightOperand": partner},
        {"leftOperand": "purpose", "operator": "eq", "rightOperand": PURPOSE},
        {"leftOperand": "count", "operator": "lteq", "rightOperand": "500"},
    ]
    policy = {"permission": [{"action": "use", "constraint": constraints}]}
    return await node.exchange.offer(
        me,
        Product("product", DATASET, policy, title_en="Spindle", title_zh="主轴", terms="For order 4711.", price=PRICE),
    )
