"""Excel, JSON lines, written interfaces, openness, secrets, webhooks, reading again; S7 against its library's own server (wiring only)."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from connect_peers import SUPPLIER, ListSink, until, value_of
from protocol_peers import free_port

from guantong.base.clock import parse_iso
from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.connect.model import KINDS, Interface, Scorecard
from guantong.connect.openness import openness_of
from guantong.connect.secrets import Secrets
from guantong.connect.webhook import token_digest
from guantong.connect.written import interface_of, signals_of


def workbook(path: Path) -> Path:
    """A workbook by hand, from ECMA-376: two columns, times as serial numbers with a date format."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{kind}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{kind}"><sheets><sheet name="Log" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{kind}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{kind}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet {main}><fonts count="1"><font/></fonts><fills count="1"><fill/></fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>',
        "xl/worksheets/sheet1.xml": f'<worksheet {main}><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>time</t></is></c><c r="B1" t="inlineStr"><is><t>temperature</t></is></c></row>'
        '<row r="2"><c r="A2" s="1"><v>46350.5</v></c><c r="B2"><v>21.5</v></c></row><row r="3"><c r="A3" s="1"><v>46350.75</v></c><c r="B3"><v>22.5</v></c></row></sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


async def test_a_workbook_with_times_becomes_readings(connect, sink, tmp_path):
    done = await connect.import_file(SUPPLIER, "log", workbook(tmp_path / "log.xlsx"))

    assert (done.form, done.facts["sheet"], done.facts["time_column"]) == ("excel", "Log", "time")
    assert [(one["signal"], value_of(one), one["source_time"]) for one in sink.readings()] == [
        ("temperature", 21.5, parse_iso("2026-11-24T12:00:00Z")),
        ("temperature", 22.5, parse_iso("2026-11-24T18:00:00Z")),
    ]


async def test_json_lines_become_readings_or_a_table_and_bad_lines_are_named(connect, sink, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"ts": 1764000000, "a": 1, "b": 2.5}\nnonsense\n{"order": 5, "part": "box"}\n[1]\n')
    done = await connect.import_file(SUPPLIER, "log", path)
    tables = [row for batch in sink.batches if batch.kind == "table" for row in batch.rows.to_pylist()]

    assert {one["signal"]: value_of(one) for one in sink.readings()} == {"a": 1, "b": 2.5}
    assert tables == [{"order": 5, "part": "box"}]
    assert [(piece["offset"], piece["reason"]) for piece in done.facts["quarantined"]] == [
        (2, "unreadable"),
        (4, "fields"),
    ]


async def test_what_was_quarantined_is_read_again_once_the_fault_is_mended(connect, sink, tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    good = "".join(f"2026-11-24T08:{n // 60:02}:{n % 60:02}Z,{n}\n" for n in range(150))
    path.write_text(f"time,a\n{good}24|11|2026 09:00,2000\n2026-11-24T10:00:00Z,3\n")
    first = await connect.import_file(SUPPLIER, "log", path)
    assert [(piece["offset"], piece["reason"]) for piece in first.facts["quarantined"]] == [(152, "time")]

    from guantong.connect import tabular

    kept = tabular.time_reader
    monkeypatch.setattr(
        tabular, "time_reader", lambda form, zone=None: lambda text: kept(form, zone)(text) or (parse_iso("2026-11-24T09:00:00Z") if "|" in text else None)
    )  # fmt: skip
    again = await connect.replay(SUPPLIER, "log")

    assert [(one.rows, one.quarantined) for one in again] == [(152, 0)]
    assert value_of(sink.readings()[-2]) == 2000
    assert await connect.replay(SUPPLIER, "log") == []


async def test_a_webhook_takes_json_with_its_token_and_answers_when_it_is_durable(connect, sink):
    source = Interface("press", "webhook", "webhook://press/", terms=(("token_sha256", token_digest("open sesame")),))
    await connect.add(SUPPLIER, source)
    await until(lambda: connect.scorecards(SUPPLIER)[0].connected)
    taken = await connect.hooks.post(
        SUPPLIER, "press", "open sesame", b'{"force": 5.5, "time": "2026-11-24T08:00:00Z"}'
    )
    readings = sink.readings()

    assert taken == len(readings) == 1
    assert (readings[0]["signal"], value_of(readings[0])) == ("force", 5.5)
    for source_name, token in (("press", "wrong"), ("press", ""), ("other", "open sesame")):
        with pytest.raises(Refused):
            await connect.hooks.post(SUPPLIER, source_name, token, b"{}")
    with pytest.raises(Skippable) as caught:
        await connect.hooks.post(SUPPLIER, "press", "open sesame", b"x" * (2 << 20))
    assert caught.value.code == "connect.document-too-large"
    with pytest.raises(Skippable):
        await connect.hooks.post(SUPPLIER, "press", "open sesame", b"\xff\xfe")


def test_an_interface_is_written_as_people_write_it_and_mistakes_are_named():
    made = interface_of(
        'name = "meter"\nkind = "modbus"\nbase = "modbus+tcp://h:502/1/"\ninterval_ms = 500\n'
        '[[signal]]\nkey = "power"\naddress = "40089?quantity=2"\ntype = "xs:float"\nunit = "kW"\n'
    )
    assert made.properties[0].form.href == "40089?quantity=2"
    assert dict(made.properties[0].form.terms) == {"modv_type": "xs:float"}
    assert made.term("interval_ms") == "500"
    assert interface_of(__import__("json").dumps(made.to_json())) == made
    assert [one.key for one in signals_of('\ufeffkey,address,unit\nspeed,"DB1,REAL4",rpm\n', "s7")] == ["speed"]
    for wrong in (
        "name = 1",
        "nonsense",
        "{",
        'name="a"\nkind="modbus"\nbase="x"\nspeed=1',
        '{"schemes": 1, "properties": 2}',
    ):
        with pytest.raises(Skippable):
            interface_of(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_interface_has_a_row_in_the_openness_register_and_a_request_in_both_languages(kind):
    row = openness_of(Interface("m", kind, "x://h/"), None, company="Supplier", today="2026-11-24")

    assert set(row.offers) | set(row.closed) >= {"names", "units", "source-time", "status", "history", "push"}
    assert not set(row.offers) & set(row.closed)
    assert "2023/2854" in row.request_en
    assert "只读访问" in row.request_zh
    assert all(row.retrofit)


def test_a_source_at_rest_is_called_idle_and_not_said_to_read_nothing_a_second():
    def card(rate: float, received: int) -> Scorecard:
        return Scorecard("m", "modbus", "x://h/", "connected", True, 0, rate, None, received, *[0] * 7, None, None, None, None)  # fmt: skip

    def asked(found: Scorecard | None) -> str:
        return openness_of(Interface("m", "modbus", "x://h/"), found, company="S", today="2026-11-24").request_en

    assert "read at 2.5 readings a second" in asked(card(2.5, 100))
    assert "100 readings so far, idle at the moment" in asked(card(0.0, 100))
    assert "no reading so far" in asked(card(0.0, 0))
    assert "no reading so far" in asked(None)


def test_secrets_are_kept_by_address_in_a_file_of_their_owner_only(tmp_path):
    secrets = Secrets(tmp_path / "secrets.toml")
    secrets.keep("mqtt://Broker:1883/", user="a", password='x"\\\n中')

    assert secrets("mqtt://broker:1883") == {"user": "a", "password": 'x"\\\n中'}
    assert stat.S_IMODE((tmp_path / "secrets.toml").stat().st_mode) == 0o600
    assert secrets("mqtt://other:1883") == {}
    secrets.keep("mqtt://broker:1883/")
    assert secrets("mqtt://broker:1883/") == {}
    (tmp_path / "secrets.toml").write_text("[")
    with pytest.raises(ConfigProblem):
        secrets("mqtt://broker:1883/")


async def test_s7_symbols_are_read_from_the_librarys_own_server_which_proves_the_wiring_only(
    connect, sink: ListSink, peers: Any
):
    snap7 = pytest.importorskip("snap7")
    from ctypes import c_uint8

    port = free_port()
    server = snap7.Server(log=False)
    block = (c_uint8 * 100)()
    struct.pack_into(">fh?", block, 4, 21.5, -12, True)
    server.register_area(snap7.SrvArea.DB, 1, block)
    server.start(tcp_port=port)
    try:
        await connect.add(
            SUPPLIER,
            interface_of(
                f'name = "plc"\nkind = "s7"\nbase = "s7://127.0.0.1:{port}/0/1"\ninterval_ms = 50\n'
                + "".join(
                    f'[[signal]]\nkey = "{key}"\naddress = "{place}"\n'
                    for key, place in (("t", "DB1,REAL4"), ("o", "DB1,INT8"), ("b", "DB1,X10.0"))
                )
            ),
        )
        await until(lambda: connect.scorecards(SUPPLIER)[0].received >= 3, 15)
        await connect.remove(SUPPLIER, "plc")
    finally:
        server.stop()
        server.destroy()

    assert {one["signal"]: value_of(one) for one in sink.readings()} == {"t": 21.5, "o": -12, "b": True}
