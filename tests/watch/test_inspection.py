"""Control charts of what two companies measured on the same parts: real QIF files, read by our own reader."""

from __future__ import annotations

import pyarrow as pa
import pytest

from guantong.base.batch import Batch
from guantong.connect.service import Connect
from guantong.records import Records
from guantong.watch import inspection


class Sink:
    def __init__(self):
        self.batches: list[Batch] = []

    async def take(self, participant: str, batch: Batch) -> int:
        self.batches.append(batch)
        return len(self.batches)

    def table(self) -> pa.Table:
        rows = pa.Table.from_batches([batch.rows for batch in self.batches])
        times = [
            pa.field(c.name, pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(c.type) else c.type)
            for c in rows.schema
        ]
        # clean measurements hold microseconds, and name their source
        rows = rows.cast(pa.schema(times), safe=False)
        source = [batch.source for batch in self.batches for _ in range(batch.rows.num_rows)]
        return rows.append_column("source", pa.array(source)).append_column(
            "part", pa.nulls(rows.num_rows, pa.string())
        )


async def read(folder, pattern, records: Records, clock) -> pa.Table:
    sink = Sink()
    connect = Connect(records, sink, clock, None)  # type: ignore[arg-type] # reading a file needs no network
    for path in sorted(folder.glob(pattern)):
        await connect.import_file("did:web:a", "inspection", path)
    return sink.table()


@pytest.mark.parametrize(
    ("folder", "pattern", "designs", "beyond"),
    [
        # 45 and 28 values a part, one of them the part's own number
        ("FAIR", "*.qif", {"box": 44, "cover": 27}, {"flatness": 1, "perpendicularity": 3}),
        # 47 and 27; the 76 are four counterbores declared with the nominal of the hole under them, 20 covers carry a negative zone
        ("QIF-IncomingInspection", "*.QIF", {"box": 47, "cover": 27}, {"diameter": 76, "position": 1}),
    ],
)
async def test_each_characteristic_of_a_design_has_one_chart_and_out_of_tolerance_is_as_declared(
    data_dir, records, clock, folder, pattern, designs, beyond
):
    table = await read(data_dir / "nist_smstestbed" / "tdp_mtc" / folder, pattern, records, clock)
    found = inspection.charts(table)
    charts: dict[str, int] = {}
    outside: dict[str, int] = {}
    for chart in found:
        design = "box" if "box" in chart.source else "cover"
        charts[design] = charts.get(design, 0) + 1
        kind = chart.name.rstrip(" 0123456789").lower()
        outside[kind] = outside.get(kind, 0) + chart.out_of_tolerance
        assert len(chart.ranges) == len(chart.values) - 1
        assert len(set(chart.parts)) == len(chart.parts)
        assert 0 < chart.coverage <= 1

    assert charts == designs
    assert {kind: count for kind, count in outside.items() if count} == beyond


async def test_a_negative_zone_is_no_limit_and_the_chart_says_that_there_is_none(data_dir, records, clock):
    table = await read(
        data_dir / "nist_smstestbed" / "tdp_mtc" / "QIF-IncomingInspection", "Cover*.QIF", records, clock
    )
    (chart,) = [chart for chart in inspection.charts(table, "PERPENDICULARITY1") if "cover" in chart.source]
    cp, cpk = chart.capability

    assert (cp.value, cpk.value) == (None, None)
    assert cpk.reason == "no tolerance limit is declared"
    assert chart.out_of_tolerance == 0


async def test_the_charts_of_a_real_design_are_in_the_order_of_its_parts(data_dir, records, clock):
    table = await read(data_dir / "nist_smstestbed" / "tdp_mtc" / "FAIR", "*Box*.qif", records, clock)
    for chart in inspection.charts(table):
        assert [int(part) for part in chart.parts] == sorted(int(part) for part in chart.parts)


def test_part_order_is_by_number_and_not_by_letter():
    names = ["A10", "A2", "02of20", "1of20", "x"]

    assert sorted(names, key=inspection._natural) == ["1of20", "02of20", "A2", "A10", "x"]


async def test_parts_measured_twice_have_a_chart_for_each_report(records, clock, tmp_path):
    from guantong.demo.gauge import CHARACTERISTICS, PARTS, measure, qif

    for name, bias in (("final", 0.002), ("in-process", 0.001)):
        report = qif(measure(1, bias=bias), customer=False, made_at=clock.now(), uid=name)
        (tmp_path / f"{name}.qif").write_text(report, "utf-8")
    charts = inspection.charts(await read(tmp_path, "*.qif", records, clock))

    assert len(charts) == 2 * len(CHARACTERISTICS)
    assert all(len(chart.values) == PARTS == len(set(chart.parts)) for chart in charts)
    assert len({(chart.name, chart.source) for chart in charts}) == len(charts)
