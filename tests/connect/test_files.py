"""Files and watched folders, on real data and on what people really save."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from connect_peers import SUPPLIER, until, value_of

from guantong.base.batch import BAD, GOOD, UNCERTAIN
from guantong.base.clock import parse_iso
from guantong.base.errors import ConfigProblem, Refused
from guantong.connect import Interface
from guantong.connect.tabular import time_reader


async def test_the_steel_plants_year_is_read_with_its_bom_and_its_days_before_months(connect, sink, data_dir):
    imported = await connect.import_file(SUPPLIER, "energy", data_dir / "steel/Steel_industry_data.csv")
    rows = pa.Table.from_batches([batch.rows for batch in sink.batches])
    nsm = rows.filter(pc.equal(rows["signal"], "NSM"))

    assert imported.facts["bom"] is True
    assert imported.facts["time_format"] == "DD/MM/YYYY"
    assert imported.facts["time_column"] == "date"
    assert (imported.lines, rows.num_rows, imported.rows, imported.quarantined) == (35_040, 350_400, 350_400, 0)
    assert rows["source_time"].cast(pa.int64())[0].as_py() == parse_iso("2018-01-01T00:15:00Z")
    assert (nsm["value_i64"][0].as_py(), nsm["value_f64"].null_count) == (900, 35_040)  # whole numbers stay whole


async def test_a_file_without_times_is_a_table_with_one_type_a_column(connect, sink, data_dir):
    imported = await connect.import_file(SUPPLIER, "turbine", data_dir / "gas_turbine/gt_2011.csv")

    assert imported.rows == len((data_dir / "gas_turbine/gt_2011.csv").read_text().splitlines()) - 1
    assert {batch.kind for batch in sink.batches} == {"table"}
    assert sink.batches[0].note["table"] == "gt_2011"
    assert {str(field.type) for field in sink.batches[0].rows.schema} == {"double"}


async def test_recorded_agent_streams_keep_their_sequence_numbers(connect, sink, data_dir):
    imported = await connect.import_file(SUPPLIER, "agie", data_dir / "nist_smstestbed/raw/qdr_input001.xml")
    numbers = [reading["sequence"] for reading in sink.readings()]

    assert numbers == list(range(1, len(numbers) + 1))  # the header says: first 1, next 10050
    assert imported.facts["last"] == len(numbers) == imported.rows
    assert sink.noted("names")[0]["GFAgie01-dtop_1"]["type"] == "AVAILABILITY"


@pytest.mark.parametrize(
    "text, encoding, facts, first",
    [
        (
            "Zeit;Druck;Name\n24.11.2026 08:00:01,5;1,25;Müller\n24.11.2026 08:00:02;2,5;Ä\n",
            "cp1252",
            {"delimiter": ";", "decimal": ",", "encoding": "cp1252", "time_format": "DD.MM.YYYY"},
            ("Druck", "2026-11-24T08:00:01.5Z", 1.25),
        ),
        (
            "时间,温度\n2026年11月24日 8:00:00,21\n2026年11月24日 8:00:01,22\n",
            "gb18030",
            {"delimiter": ",", "encoding": "gb18030", "time_format": "YYYY年MM月DD日"},
            ("温度", "2026-11-24T08:00:00Z", 21),
        ),
        (
            "time\tx\n2026-11-24T08:00:00+08:00\t9007199254740993\n2026-11-24T08:00:01+08:00\t\n",
            "utf-16",
            {"delimiter": "\t", "bom": True, "time_format": "ISO 8601"},
            ("x", "2026-11-24T00:00:00Z", 9007199254740993),
        ),
        (
            "timestamp,x\n1795507200,1.5\n1795507201,2.5\n",
            "utf-8",
            {"time_format": "epoch s"},
            ("x", "2026-11-24T08:00:00Z", 1.5),
        ),
        (
            "date,x\n11/24/2026 1:05 PM,1.5\n11/25/2026 1:05 AM,2.5\n",
            "utf-8",
            {"time_format": "MM/DD/YYYY"},
            ("x", "2026-11-24T13:05:00Z", 1.5),
        ),
    ],
)
async def test_how_a_file_is_written_is_found_out_and_shown(connect, sink, tmp_path, text, encoding, facts, first):
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode(encoding))
    imported = await connect.import_file(SUPPLIER, "log", path)
    reading = next(reading for reading in sink.readings() if reading["signal"] == first[0])

    assert {name: imported.facts[name] for name in facts} == facts
    assert (reading["source_time"], value_of(reading)) == (parse_iso(first[1]), first[2])


async def test_days_and_months_that_could_be_either_are_not_guessed(connect, sink, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("date,x\n01/02/2026 08:00,1\n03/02/2026 08:00,2\n")
    imported = await connect.import_file(SUPPLIER, "log", path)
    told = Interface("told", "folder", tmp_path.as_uri(), terms=(("time_format", "DD/MM/YYYY"),))
    await connect.add(SUPPLIER, told, start=False)
    second = await connect.import_file(SUPPLIER, "told", path)

    assert imported.facts["time_format"] == "ambiguous"
    assert sink.batches[0].kind == "table"
    assert second.facts["time_format"] == "DD/MM/YYYY"
    assert sink.readings()[0]["source_time"] == parse_iso("2026-02-01T08:00:00Z")


async def test_broken_rows_and_missing_values_are_told_apart(connect, sink, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "time,x,code\n2026-11-24 08:00:00,1.5,007\n2026-11-24 08:00:01,,008\n2026-11-24 08:00:02,3\nlater,4,009\n"
    )
    told = (("time_column", "time"), ("time_format", "ISO 8601"))
    await connect.add(SUPPLIER, Interface("log", "folder", (tmp_path / "none").as_uri(), terms=told), start=False)
    imported = await connect.import_file(SUPPLIER, "log", path)
    readings = sink.readings()

    assert [(value_of(r), r["status"]) for r in readings if r["signal"] == "x"] == [(1.5, 0), (None, 0x80000000)]
    assert [value_of(r) for r in readings if r["signal"] == "code"] == ["007", "008"]  # a name, not a number
    assert sorted(piece["reason"] for piece in sink.noted("quarantined")) == ["fields", "time"]
    assert (imported.lines, imported.parsed, imported.quarantined) == (4, 2, 2)


async def test_a_historian_s_export_of_one_reading_a_row_is_found_and_shown(connect, sink, tmp_path):
    path = tmp_path / "export.csv"
    path.write_text(
        "TagName;DateTime;Value;QualityDetail;EngUnits\n"
        "Oven.Temp;24.11.2026 08:00:00;21,5;192;degC\n"
        "Oven.Count;24.11.2026 08:00:00;9007199254740993;192;\n"
        "Oven.Temp;24.11.2026 08:00:01;22;192;degC\n"
        "Oven.Temp;24.11.2026 08:00:02;23,5;24;degC\n"
        "Oven.Temp;24.11.2026 08:00:03;I/O Timeout;0;degC\n"
        "Oven.State;24.11.2026 08:00:03;RUN;64;\n"
        ";24.11.2026 08:00:04;1;192;\n"
    )
    proposal = await connect.probe(path.as_uri())
    imported = await connect.import_file(SUPPLIER, "old", path)
    found = [(r["signal"], value_of(r), r["status"]) for r in sink.readings()]

    assert found == [
        ("Oven.Temp", 21.5, GOOD),
        ("Oven.Count", 9007199254740993, GOOD),
        ("Oven.Temp", 22.0, GOOD),
        ("Oven.Temp", 23.5, BAD),
        ("Oven.Temp", None, BAD),
        ("Oven.State", "RUN", UNCERTAIN),
    ]
    shown = {"layout": "narrow", "signal_column": "TagName", "value_column": "Value", "quality_scheme": "opc-da"}
    assert {name: imported.facts[name] for name in shown} == {name: proposal.facts[name] for name in shown} == shown
    assert sink.noted("units") == [{"Oven.Temp": "degC"}]
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["empty-key"]
    assert (imported.lines, imported.parsed) == (7, 6)


@pytest.mark.parametrize(
    "head, rows, terms, layout, statuses",
    [
        ("time,tag,value,quality", ["a,1,Good", "a,2,Bad"], {}, "words", [GOOD, BAD]),
        ("time,tag,value,quality", ["a,1,0", "a,2,0"], {}, None, [GOOD, GOOD]),
        ("time,tag,value,status", ["a,1,0", "a,2,2147483648"], {}, "opc-ua", [GOOD, BAD]),
        ("time,tag,value,quality", ["a,1,0", "a,2,192"], {"quality_scheme": "opc-da"}, "opc-da", [BAD, GOOD]),
        ("_time,_field,_value,x", ["a,1,0", "a,2,7"], {}, None, [GOOD, GOOD]),
        ("time,who,much,x", ["a,1,0", "a,2,7"], {"signal_column": "who", "value_column": "much"}, None, [GOOD, GOOD]),
    ],
)
async def test_quality_is_taken_where_it_can_be_told_and_never_guessed(
    connect, sink, tmp_path, head, rows, terms, layout, statuses
):
    path = tmp_path / "export.csv"
    path.write_text("\n".join([head, *(f"2026-11-24T08:00:0{n}Z,{row}" for n, row in enumerate(rows))]) + "\n")
    interface = Interface("old", "folder", (tmp_path / "none").as_uri(), terms=tuple(sorted(terms.items())))
    await connect.add(SUPPLIER, interface, start=False)
    imported = await connect.import_file(SUPPLIER, "old", path)

    assert imported.facts["quality_scheme"] == layout
    assert [(r["signal"], value_of(r), r["status"]) for r in sink.readings()] == [
        ("a", 1, statuses[0]),
        ("a", 2, statuses[1]),
    ]


async def test_a_narrow_parquet_export_gives_each_reading_to_its_signal(connect, sink, tmp_path):
    path = tmp_path / "export.parquet"
    times = pa.array(
        [1_795_507_200_000_000_001, 1_795_507_201_000_000_000, 1_795_507_202_000_000_000], pa.timestamp("ns")
    )
    table = pa.table({"t": times, "tag": ["a", None, "b"], "value": [1.5, 2.5, None], "unit": ["bar", "", "mm"]})
    pq.write_table(table, path)
    await connect.import_file(SUPPLIER, "old", path)

    assert [(r["signal"], value_of(r), r["status"], r["source_time"]) for r in sink.readings()] == [
        ("a", 1.5, GOOD, 1_795_507_200_000_000_001),
        ("b", None, BAD, 1_795_507_202_000_000_000),
    ]
    assert sink.noted("units") == [{"a": "bar", "b": "mm"}]
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["empty-key"]


@pytest.mark.parametrize(
    "encoding, text, spoiler", [("utf-8", "温度计", "Müller".encode("cp1252")), ("gb18030", "温度计", b"\xff\xff")]
)
@pytest.mark.parametrize("as_table", [False, True])
async def test_rows_in_another_encoding_are_quarantined_and_the_rest_is_read(
    connect, sink, tmp_path, encoding, text, spoiler, as_table
):
    path = tmp_path / "log.csv"
    lines = [f"2026-11-24T08:00:0{n}Z,{n},{text}".encode(encoding) for n in range(9)]
    lines[4] = lines[4].rpartition(b",")[0] + b"," + spoiler
    path.write_bytes(b"\n".join([b"time,x,name", *lines]) + b"\n")
    terms = (("as", "table"),) if as_table else ()
    await connect.add(SUPPLIER, Interface("log", "folder", (tmp_path / "none").as_uri(), terms=terms), start=False)
    imported = await connect.import_file(SUPPLIER, "log", path)
    (piece,) = sink.noted("quarantined")

    if as_table:
        values = [value for batch in sink.batches for value in batch.rows.column("x").to_pylist()]
    else:
        values = [value_of(r) for r in sink.readings() if r["signal"] == "x"]
    assert imported.facts["encoding"] == encoding
    assert values == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (piece["offset"], piece["reason"]) == (6, "not-text")  # as an editor numbers the line
    assert piece["text"].startswith("2026-11-24T08:00:04Z,4,")
    assert (imported.lines, imported.parsed, imported.quarantined) == (9, 8, 1)


async def test_parquet_keeps_types_and_nanoseconds(connect, sink, tmp_path):
    path = tmp_path / "log.parquet"
    times = pa.array([1_795_507_200_123_456_789, 1_795_507_201_000_000_000], pa.timestamp("ns", tz="UTC"))
    table = pa.table(
        {
            "when": times,
            "counter": pa.array([9007199254740993, 2], pa.int64()),
            "load": pa.array([1.5, float("nan")]),
            "run": [True, False],
            "word": ["007", None],
        }
    )
    pq.write_table(table, path)
    imported = await connect.import_file(SUPPLIER, "log", path)
    by_signal = {}
    for reading in sink.readings():
        by_signal.setdefault(reading["signal"], []).append(reading)

    assert imported.rows == 8
    assert by_signal["counter"][0]["value_i64"] == 9007199254740993
    assert by_signal["counter"][0]["source_time"] == 1_795_507_200_123_456_789
    assert [(value_of(r), r["status"]) for r in by_signal["load"]] == [(1.5, 0), (None, 0x80000000)]
    assert [value_of(r) for r in by_signal["run"]] == [True, False]
    assert value_of(by_signal["word"][0]) == "007"


async def test_a_watched_folder_takes_each_file_once_when_it_stands_still(connect, sink, tmp_path, data_dir):
    folder = tmp_path / "in"
    folder.mkdir()
    await connect.add(SUPPLIER, Interface("inbox", "folder", folder.as_uri()))
    growing = folder / "a.csv"
    growing.write_text("time,x\n2026-11-24 08:00:00,1\n")
    for second in range(1, 4):
        await asyncio.sleep(0.02)
        with growing.open("a") as file:
            file.write(f"2026-11-24 08:00:0{second},{second}\n")
    await until(lambda: len(sink.readings()) == 4)
    (folder / "copy.csv").write_bytes(growing.read_bytes())
    report = next((data_dir / "nist_smstestbed/tdp_mtc/FAIR").glob("*Cover*.qif"))
    (folder / "report.qif").write_bytes(report.read_bytes())
    (folder / "bomb.xml").write_text(
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><MTConnectStreams>&b;</MTConnectStreams>'
    )
    await until(lambda: any(batch.kind == "measurements" for batch in sink.batches))
    await until(lambda: sink.noted("quarantined"))
    await asyncio.sleep(0.2)

    assert len(sink.readings()) == 4
    assert sum(batch.rows.num_rows for batch in sink.batches if batch.kind == "measurements") == 560
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["hostile"]
    assert connect.scorecards(SUPPLIER)[0].connected
    assert connect.scorecards(SUPPLIER)[0].last_error == "connect.document-hostile"


async def test_a_recording_as_a_source_is_read_once_and_recorded(connect, memory, sink, data_dir):
    path = data_dir / "nist_smstestbed/tdp_mtc/PartData/Cover-Hurco04-01of20.txt"
    await connect.add(SUPPLIER, Interface("history", "shdr-log", path.resolve().as_uri()))
    await until(lambda: connect.scorecards(SUPPLIER)[0].state == "finished")
    count = len(sink.readings())
    await connect.pause(SUPPLIER, "history")
    await connect.resume(SUPPLIER, "history")
    await until(lambda: connect.scorecards(SUPPLIER)[0].state == "finished")
    from sqlalchemy import select

    from guantong.records.tables import LEAVES

    kinds = [row["kind"] for row in await memory.rows(select(LEAVES.c.kind).order_by(LEAVES.c.number))]

    assert count == len(sink.readings()) == len(path.read_text().splitlines())
    assert kinds == ["connect.source-added", "connect.file-read"]


async def test_a_recordings_account_counts_its_forms_of_lines_and_names_what_it_could_not_use(connect, tmp_path):
    path = tmp_path / "mill.txt"
    lines = ["2026-11-24T08:00:00Z|load|5", "no time|load|5", "2026-11-24T08:00:01Z|servo|FAULT|7|||hot"]
    path.write_text("\n".join([*lines, "2026-11-24T08:00:02Z|load", "2026-11-24T08:00:03Z|load|6"]) + "\n")
    imported = await connect.import_file(SUPPLIER, "mill", path)

    assert imported.facts["fields"] == {"3": 2, "7": 1}
    assert imported.facts["quarantined"] == [
        {"offset": 28, "reason": "time", "text": "no time|load|5"},
        {"offset": 28 + 15 + len(lines[2]) + 1, "reason": "fields", "text": "2026-11-24T08:00:02Z|load"},
    ]


async def test_the_account_of_a_file_repeats_a_thousand_pieces_and_counts_the_rest(connect, sink, tmp_path):
    path = tmp_path / "mill.txt"
    path.write_text("2026-11-24T08:00:00Z|load|5\n" + "2026-11-24T08:00:00Z|load\n" * 1_500)
    imported = await connect.import_file(SUPPLIER, "mill", path)

    assert (imported.quarantined, len(imported.facts["quarantined"])) == (1_500, 1_000)
    assert len(sink.noted("quarantined")) == 1_500


async def test_a_device_model_gives_a_recording_names_and_units(connect, sink, tmp_path, data_dir):
    devices = {one.name: one for one in await connect.devices(data_dir / "nist_smstestbed/agent/Devices.xml")}
    path = tmp_path / "mill.txt"
    path.write_text("2016-11-29T08:00:00Z|Xload|5\n2016-11-29T08:00:01Z|Xfrt|6\n")
    mill = Interface("mill", "shdr-log", path.as_uri(), properties=devices["Mazak01"].adapter_items)
    await connect.add(SUPPLIER, mill, start=False)
    await connect.import_file(SUPPLIER, "mill", path)

    assert len(devices) == 8
    assert sink.noted("units")[0]["Xfrt"] == "MILLIMETER/SECOND"
    assert sink.noted("names")[0]["Xload"]["path"] == "Mazak01/base/X"
    with pytest.raises(ConfigProblem):
        await connect.devices(tmp_path / "none.xml")


async def test_a_missing_file_and_a_hostile_one_have_their_codes(connect, tmp_path):
    with pytest.raises(ConfigProblem) as missing:
        await connect.import_file(SUPPLIER, "x", tmp_path / "no.csv")
    (tmp_path / "x.qif").write_text('<?xml version="1.0"?><!DOCTYPE q [<!ENTITY a "b">]><QIFDocument/>')
    with pytest.raises(Refused) as hostile:
        await connect.import_file(SUPPLIER, "x", tmp_path / "x.qif")
    (tmp_path / "x.bin").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(ConfigProblem) as other:
        await connect.import_file(SUPPLIER, "x", tmp_path / "x.bin")

    assert [error.value.code for error in (missing, hostile, other)] == [
        "connect.file-unreadable",
        "connect.document-hostile",
        "connect.file-unreadable",
    ]


async def test_probes_show_what_stands_behind_an_address(connect, adapter, agent, data_dir):
    adapter.greeting = b"2026-11-24T08:00:00Z|x|1|y|a\nbroken\n"
    shdr = await connect.probe(f"shdr://127.0.0.1:{adapter.port}")
    mtconnect = await connect.probe(f"http://127.0.0.1:{agent.port}/probe")
    csv = await connect.probe(str(data_dir / "steel/Steel_industry_data.csv"))
    folder = await connect.probe(str(data_dir / "nist_smstestbed/tdp_mtc/FAIR"))

    assert [(item.key, item.type) for item in shdr.offers] == [("x", "number"), ("y", "string")]
    assert shdr.facts["heartbeat"] is True
    assert shdr.facts["refused"] == 1
    assert mtconnect.interface.base.endswith("/")
    assert len(mtconnect.facts["devices"]) == 8
    assert {item.key: item.unit for item in mtconnect.offers}["Mazak01-X_1"] == "MILLIMETER"
    assert csv.facts["time_format"] == "DD/MM/YYYY"
    assert folder.facts["forms"] == {"qif": 2}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "shdr://u:hunter2@127.0.0.1:1",
        "opc.tcp://u:hunter2@127.0.0.1:1",
        "/no/such/folder",
        "http://u:hunter2@127.0.0.1/",
    ],
)
async def test_addresses_that_can_not_be_used_are_refused_without_showing_secrets(connect, url):
    with pytest.raises(ConfigProblem) as caught:
        await connect.probe(url)

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


def test_times_of_a_zone_are_taken_back_to_utc():
    assert time_reader("DD/MM/YYYY", "+08:00")("24/11/2026 16:00") == parse_iso("2026-11-24T08:00:00Z")
    assert time_reader("%d %b %Y %H:%M")("24 Nov 2026 08:00") == parse_iso("2026-11-24T08:00:00Z")
    assert time_reader("DD/MM/YYYY")("31/02/2026 16:00") is None
