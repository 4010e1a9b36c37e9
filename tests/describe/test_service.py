"""Datasets, shells and lineage over a real keep."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pytest
from aas_core3_1 import jsonization, verification
from describe_house import ME, PARTNER, SECOND, T0, readings
from sqlalchemy import select

from guantong.base.errors import ConfigProblem, Skippable
from guantong.describe.model import Dataset, DescribeSettings
from guantong.describe.tables import DOCUMENTS, ELEMENTS
from guantong.fuse.model import Part
from guantong.records import Edge
from guantong.records.tables import LEAVES

MILL = Dataset("mill", "Mill", "铣床", signals=(1, 2, 3))


async def read(batches) -> pa.Table:
    return pa.Table.from_batches([batch async for batch in batches])


async def test_a_dataset_is_defined_listed_and_stated_on_record(describe, records):
    await describe.define(ME, MILL)

    assert await describe.datasets(ME) == [MILL]
    assert await describe.dataset(ME, "mill") == MILL
    assert await describe.datasets(PARTNER) == []
    leaves = [orjson.loads(row["leaf"])["kind"] for row in await records.rows(select(LEAVES.c.leaf))]
    assert leaves[-1] == "describe.dataset-defined"


FAULTY = [
    Dataset("Mill", "x", "x", signals=(1,)),
    Dataset("", "x", "x", signals=(1,)),
    Dataset("a/b", "x", "x", signals=(1,)),
    Dataset("mill", "", " ", signals=(1,)),
    Dataset("mill", "x", "x"),
    Dataset("mill", "x", "x", signals=(1, 77)),
    Dataset("mill", "x", "x", kind="measurements", signals=(1,)),
    Dataset("mill", "x", "x", signals=(1,), start=5, end=5),
]


async def test_a_faulty_definition_is_refused(describe):
    for dataset in FAULTY:
        with pytest.raises(Skippable) as caught:
            await describe.define(ME, dataset)
        assert caught.value.code == "describe.dataset-invalid", dataset
    assert await describe.datasets(ME) == []


async def test_rows_name_signal_source_and_unit_and_keep_every_digit(describe):
    await describe.define(ME, MILL)
    table = await read(describe.rows(ME, "mill"))
    rows = table.drop_columns(["source_time"]).to_pylist()

    assert len(rows) == 14
    first = next(row for row in rows if row["signal_id"] == 1)
    assert (first["source"], first["signal"], first["unit"]) == ("mill-01", "Xload", "%")
    assert min(table.column("source_time").cast(pa.int64()).to_pylist()) == T0
    counts = sorted(row["value_i64"] for row in rows if row["signal_id"] == 2)
    assert counts == [9_007_199_254_740_993, 9_007_199_254_740_994, 9_007_199_254_740_995]


async def test_rows_are_cut_by_the_asked_window_and_the_datasets_own(describe):
    await describe.define(ME, Dataset("mill", "Mill", "铣床", signals=(1,), start=T0 + 2 * SECOND, end=T0 + 8 * SECOND))

    assert (await read(describe.rows(ME, "mill"))).num_rows == 6
    assert (await read(describe.rows(ME, "mill", T0, T0 + 4 * SECOND))).num_rows == 2
    assert [batch async for batch in describe.rows(ME, "mill", T0 + 9 * SECOND)] == []


async def test_measurements_can_be_limited_to_a_source(describe):
    await describe.define(ME, Dataset("both", "Both", "双方", kind="measurements"))
    await describe.define(ME, Dataset("ours", "Ours", "我方", kind="measurements", sources=("fair",), models=("BOX",)))

    assert (await read(describe.rows(ME, "both"))).num_rows == 3
    assert (await read(describe.rows(ME, "ours"))).num_rows == 2


async def test_statistics_are_counted(describe):
    await describe.define(ME, MILL)
    found = await describe.statistics(ME, "mill")

    assert (found.rows, found.complete) == (14, True)
    assert found.first == T0 - T0 % 1000
    assert found.bytes_estimated > 0


async def test_an_unknown_dataset_has_a_code(describe):
    with pytest.raises(Skippable) as caught:
        await read(describe.rows(ME, "none"))
    assert caught.value.code == "describe.unknown-dataset"


async def test_dcat_says_what_is_inside_and_for_which_time(describe):
    await describe.define(ME, MILL)
    node = await describe.dcat(ME, "mill")
    whole = await describe.dcat(ME)

    assert node["@type"] == "dcat:Dataset"
    assert {"@language": "zh", "@value": "铣床"} in node["dcterms:title"]
    assert "Xload" in node["dcat:keyword"]
    assert node["dcterms:temporal"]["dcat:startDate"]["@value"] == "2026-11-24T07:00:00.123456Z"
    assert [one["dcterms:identifier"] for one in whole["dcat:dataset"]] == ["mill"]


async def test_every_written_document_passes_the_full_verification(describe, records):
    assert await describe.write_shells(ME) == 11  # mill-01 and mill-02: 4 each; the part: 3
    rows = await records.rows(select(DOCUMENTS))

    for row in rows:
        document = orjson.loads(row["body"])
        parse = (
            jsonization.submodel_from_jsonable
            if row["kind"] == "submodel"
            else jsonization.asset_administration_shell_from_jsonable
        )
        assert list(verification.verify(parse(document))) == []
    shells = [orjson.loads(row["body"]) for row in rows if row["kind"] == "shell"]
    ids = {row["id"] for row in rows}
    assert len(shells) == 3
    assert all(reference["keys"][0]["value"] in ids for one in shells for reference in one["submodels"])


async def test_writing_again_changes_nothing(describe):
    await describe.write_shells(ME)

    assert await describe.write_shells(ME) == 0


async def test_shells_of_vanished_parts_are_deleted_and_new_ones_added_at_the_end(describe, catalogue):
    await describe.write_shells(ME)
    before = [one["id"] for one in (await describe.shells(ME)).items]
    catalogue.known = [Part("cover-1", "cover", "1", (("fair", "1"),), (), 1.0)]
    await describe.write_shells(ME)
    after = [one["id"] for one in (await describe.shells(ME)).items]

    assert after[:2] == before[:2]
    assert after[-1].endswith("part:cover-1")
    assert not any("box-2" in one for one in after)


async def test_the_index_holds_typed_values_by_path(describe, records):
    await describe.write_shells(ME)
    rows = await records.rows(
        select(ELEMENTS).where(ELEMENTS.c.path == "Companies[0].Measurements[0].Value").order_by(ELEMENTS.c.submodel)
    )

    assert [(row["value_type"], row["value_text"], row["value_number"]) for row in rows] == [
        ("xs:double", "10.01", 10.01)
    ]
    assert rows[0]["semantic_ids"] == "urn:guantong:aas:PartMeasurements:1:0:Value"


async def test_a_part_shows_both_companies_measurements_side_by_side(describe):
    await describe.write_shells(ME)
    part = next(one for one in (await describe.submodels(ME)).items if one["idShort"] == "PartMeasurements")
    companies = next(one for one in part["submodelElements"] if one["idShort"] == "Companies")["value"]

    assert [company["value"][0]["value"] for company in companies] == ["fair", "incoming"]


async def test_stated_facts_appear_and_unstated_ones_have_no_value(describe):
    await describe.set_nameplate(ME, "mill-01", {"ManufacturerName": "Mazak", "YearOfConstruction": "2014"})
    await describe.write_shells(ME)
    plate = next(
        one for one in (await describe.submodels(ME)).items if one["idShort"] == "Nameplate" and "mill-01" in one["id"]
    )
    elements = {one["idShort"]: one for one in plate["submodelElements"]}

    assert elements["ManufacturerName"]["value"] == [{"language": "en", "text": "Mazak"}]
    assert "value" not in elements["OrderCodeOfManufacturer"]
    assert "SerialNumber" not in elements
    with pytest.raises(Skippable):
        await describe.set_nameplate(ME, "mill-01", {"Favourite": "x"})


async def test_a_fact_that_breaks_the_metamodel_is_refused_and_nothing_is_written(describe, records):
    await describe.set_nameplate(ME, "mill-01", {"DateOfManufacture": "last year"})

    with pytest.raises(ConfigProblem) as caught:
        await describe.write_shells(ME)
    assert caught.value.code == "describe.constraints"
    assert await records.rows(select(DOCUMENTS.c.id)) == []


async def test_an_interface_description_becomes_a_submodel_of_its_machine(records, keep, catalogue, clock):
    from guantong.describe.service import Describe

    described = {"modelType": "Submodel", "id": "x", "idShort": "AssetInterfacesDescription", "kind": "Instance"}
    describe = Describe(
        records, keep, catalogue, clock, settings=DescribeSettings(),
        interfaces=lambda participant: [{"source": "mill-01", "submodel": described}],
    )  # fmt: skip
    await describe.write_shells(ME)
    shell = next(one for one in (await describe.shells(ME)).items if one["idShort"] == "mill_01")

    assert any(reference["keys"][0]["value"].endswith(":mill-01:interfaces") for reference in shell["submodels"])


# lineage


async def test_lineage_walks_both_ways_and_survives_a_cycle(describe):
    await describe.link(
        ME,
        [
            Edge("keep:batch:mill-01/1", "fuse:signal:1", "derived"),
            Edge("fuse:signal:1", "describe:dataset:mill", "included"),
            Edge("describe:dataset:mill", "exchange:agreement:7", "agreed"),
            Edge("exchange:agreement:7", "exchange:receipt:7-1", "delivered"),
            Edge("exchange:receipt:7-1", "keep:batch:mill-01/1", "odd"),  # closes a circle
        ],
    )
    back = await describe.lineage(ME, "exchange:receipt:7-1", "back")
    forward = await describe.lineage(ME, "keep:batch:mill-01/1", "forward")

    assert [edge.source for edge in back][:4] == [
        "exchange:agreement:7", "describe:dataset:mill", "fuse:signal:1", "keep:batch:mill-01/1",
    ]  # fmt: skip
    assert len(back) == len(forward) == 5
    assert await describe.lineage(PARTNER, "exchange:receipt:7-1", "back") == []


async def test_lineage_is_bounded_in_depth_and_number(records, keep, catalogue, clock):
    from guantong.describe.service import Describe

    describe = Describe(records, keep, catalogue, clock, settings=DescribeSettings(lineage_depth=3, lineage_edges=40))
    await describe.link(ME, [Edge(f"a:b:{n}", f"a:b:{n + 1}", "derived") for n in range(10)])
    await describe.link(ME, [Edge(f"a:leaf:{n}", "a:root:1", "derived") for n in range(100)])

    assert len(await describe.lineage(ME, "a:b:10", "back")) == 3
    assert len(await describe.lineage(ME, "a:root:1", "back")) == 40


async def test_a_value_is_traced_to_its_batch_its_correction_and_the_receipt_it_went_out_with(describe):
    await describe.define(ME, MILL)
    await describe.link(
        ME,
        [
            Edge("govern:rule:gbt-43697/suspected@2024.1", "fuse:signal:1", "graded"),
            Edge("describe:dataset:mill", "exchange:agreement:7", "agreed"),
            Edge("exchange:agreement:7", "exchange:receipt:7-1", "delivered"),
        ],
    )
    at = T0 + 3 * SECOND
    trace = await describe.trace(ME, 1, at)
    edges = {(edge.source, edge.target, edge.relation) for edge in trace.edges}
    value = "fuse:value:1@2026-11-24T07:00:03.123456789Z#0"

    assert edges == {
        ("keep:batch:mill-01/1", value, "derived"),
        ("fuse:correction:c7", value, "corrected"),
        ("fuse:rule:clock-offset@1", "fuse:correction:c7", "decided"),
        (value, "fuse:signal:1", "belongs"),
        ("govern:rule:gbt-43697/suspected@2024.1", "fuse:signal:1", "graded"),
        ("fuse:signal:1", "describe:dataset:mill", "included"),
        ("describe:dataset:mill", "exchange:agreement:7", "agreed"),
        ("exchange:agreement:7", "exchange:receipt:7-1", "delivered"),
    }
    assert trace.rows[0]["value_f64"] == 3.1
    assert not trace.truncated


async def test_both_revisions_of_a_value_are_traced(describe, keep):
    again = [{"signal_id": 1, "at": T0, "value_f64": 5.0, "revision": 1, "reason": "differs", "log_position": 2}]
    await keep.store(ME, 2, readings=readings(again))
    trace = await describe.trace(ME, 1, T0)

    assert {row["value_f64"] for row in trace.rows} == {0.1, 5.0}
    assert {edge.source for edge in trace.edges if edge.relation == "derived"} == {
        "keep:batch:mill-01/1", "keep:batch:mill-01/2",
    }  # fmt: skip


async def test_a_value_that_is_not_there_cannot_be_traced(describe):
    with pytest.raises(Skippable) as caught:
        await describe.trace(ME, 1, T0 + 1)
    assert caught.value.code == "describe.unknown"


async def test_a_value_outside_a_datasets_window_did_not_go_out_with_it(describe):
    await describe.define(ME, Dataset("early", "Early", "早", signals=(1,), end=T0 + 2 * SECOND))
    await describe.define(ME, Dataset("late", "Late", "晚", signals=(1,), start=T0 + 2 * SECOND))
    await describe.link(
        ME,
        [
            Edge("describe:dataset:early", "exchange:agreement:1", "agreed"),
            Edge("describe:dataset:late", "exchange:agreement:2", "agreed"),
            Edge("keep:batch:mill-01/99", "fuse:signal:1", "derived"),
        ],
    )
    reached = {edge.target for edge in (await describe.trace(ME, 1, T0 + 5 * SECOND)).edges}
    sources = {edge.source for edge in (await describe.trace(ME, 1, T0 + 5 * SECOND)).edges}

    assert "exchange:agreement:2" in reached
    assert "exchange:agreement:1" not in reached
    assert "keep:batch:mill-01/99" not in sources


async def test_a_measurement_is_traced_to_its_batch_part_and_datasets(describe):
    await describe.define(ME, Dataset("both", "Both", "双方", kind="measurements"))
    await describe.define(ME, Dataset("theirs", "Theirs", "对方", kind="measurements", sources=("incoming",)))
    await describe.link(ME, [Edge("describe:dataset:both", "exchange:agreement:7", "agreed")])
    trace = await describe.trace_measurement(ME, "r", "1", "0")
    edges = {(edge.source.partition(":measurement")[0], edge.target, edge.relation) for edge in trace.edges}

    assert trace.rows[0]["value_f64"] == 10.01
    assert ("fuse", "fuse:part:box-2", "belongs") in edges
    assert ("fuse", "describe:dataset:both", "included") in edges
    assert ("describe:dataset:both", "exchange:agreement:7", "agreed") in edges
    assert "keep:batch:fair/1" in {edge.source for edge in trace.edges}
    assert "describe:dataset:theirs" not in {edge.target for edge in trace.edges}
