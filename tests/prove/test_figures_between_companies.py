"""NIST's two companies: Cpk of each matched characteristic is ordered, made, challenged and verified, node to node, under the contract."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from guantong.config import load
from guantong.node import Node
from guantong.prove.figure import FIGURE_CHALLENGED
from guantong.prove.figure_chunks import stream_of_measurement
from guantong.prove.figure_cpk import cpk_definitions
from guantong.prove.figure_proof import check_bundle
from guantong.prove.rules import parse_trust
from guantong.records.tables import LEAVES
from guantong.watch.inspection import charts

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nist_two_companies.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("nist_two_companies", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nist_two_companies"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    made = []
    for name in ("supplier", "customer"):
        settings = {"node.directory": tmp_path / name, "node.name": name, "web.port": 0, "prove.gather-s": 0.02}
        node = Node(load(settings, environment={}))
        await node.start()
        await node.serve()
        made.append(node)
    yield made[0], made[1]
    for node in reversed(made):
        await node.stop()


async def test_cpk_of_each_matched_characteristic_is_ordered_challenged_and_verified(
    nodes: tuple[Node, Node], data_dir: Path
) -> None:
    nist, (supplier, customer) = example(), nodes
    folder = data_dir / "nist_smstestbed"
    fair = await nist.read_inspection(supplier, "fair", folder / nist.FAIR)
    await nist.read_inspection(customer, "incoming", folder / nist.INCOMING)
    await nist.offer(supplier, fair, customer.participant)
    agreement = (await nist.buy(customer, supplier))["agreement"]
    compared = await customer.fuse.compare(customer.participant, "fair", "incoming")
    table = await supplier.keep.measurements(supplier.participant)
    watched = {(one.source.split(", ")[0], one.characteristic): one for one in charts(table)}
    named = {stream_of_measurement(row): (f"{row['source']}: {row['model']}", row) for row in table.to_pylist()}
    wanted = {one.left.id for one in compared.characteristics}
    definitions = [
        one
        for one in cpk_definitions(table.to_pylist(), openings=25, agreements=(agreement,))
        if one.inputs[0].streams[0].rpartition("/")[2] in wanted
    ]
    for one in definitions:
        await supplier.figures.define(supplier.participant, one)
    start, end = 0, supplier.clock.now()
    trust = parse_trust(await customer.trust())
    verdicts, values, undefined, one_sided = [], [], [], 0
    for one in definitions:
        made = await customer.trade.order(customer.participant, agreement, one.id, start, end)
        checked = await customer.trade.challenge_partner(customer.participant, made.digest, 20)
        proof = (await customer.figures.figure(customer.participant, made.digest)).proof
        verdicts.append((checked.verdict, check_bundle(orjson.loads(orjson.dumps(proof)), trust).verdict))
        where, row = named[one.inputs[0].streams[0]]
        theirs = watched[
            where, f"{row['feature']}#{row['characteristic']}" if row["feature"] else row["characteristic"]
        ].capability[1]
        one_sided += proof["figure"]["facts"].get("sides") == "one"
        if made.value is None:
            undefined.append((proof["figure"]["reason"], theirs.reason))
        else:
            values.append((float(made.value), theirs.value))
        assert proof["receipt"]["statement"]["verdict"] == checked.verdict
    kept = await supplier.figures.figures(supplier.participant)
    rows = await supplier.records.rows(LEAVES.select().where(LEAVES.c.kind == FIGURE_CHALLENGED.name))
    receipts = [body for row in rows if (body := orjson.loads(row["leaf"])["body"])["verdict"] == "clean"]

    assert len(definitions) >= len(compared.characteristics) > 0
    assert set(verdicts) == {("clean", "clean")}
    assert all(ours == pytest.approx(theirs, abs=1e-6) for ours, theirs in values)
    assert all(ours == theirs for ours, theirs in undefined)
    assert values
    assert one_sided > 0
    assert len(kept) == len(receipts) == len(definitions)
    print(
        f"{len(compared.characteristics)} matched, {len(values)} with a value, {one_sided} one-sided, {len(undefined)} undefined"
    )
