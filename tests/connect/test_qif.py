"""QIF reports of two companies about the same parts: figures counted independently of the reader, and reports that are wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from guantong.base.errors import Refused, Skippable
from guantong.connect.qif import read_qif
from guantong.connect.rules import out_of_tolerance

LIMIT = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def rows(data_dir) -> dict[str, list[dict]]:
    folder = data_dir / "nist_smstestbed/tdp_mtc"
    paths = {
        "fair_box": next(folder.glob("FAIR/*Box*.qif")),
        "fair_cover": next(folder.glob("FAIR/*Cover*.qif")),
        "incoming_box": folder / "QIF-IncomingInspection/BoxResults_19_samples.QIF",
        "incoming_cover": folder / "QIF-IncomingInspection/CoverResults_20_samples.QIF",
    }
    found = {}
    for name, path in paths.items():
        report = read_qif(path.read_bytes(), name=path.name, receive=0, limit=LIMIT)
        assert report.quarantined == ()
        found[name] = report.rows.drop_columns(["receive_time", "measured_time"]).to_pylist()
    return found


def per_part(rows: list[dict]) -> Counter:
    return Counter(Counter(row["result"] for row in rows).values())


def test_the_supplier_reports_45_values_of_19_boxes_and_28_of_20_covers(rows):
    assert len(rows["fair_box"]) == 855
    assert per_part(rows["fair_box"]) == {45: 19}
    assert len(rows["fair_cover"]) == 560
    assert per_part(rows["fair_cover"]) == {28: 20}
    numbers = [row for row in rows["fair_cover"] if row["name"] == "Part Number"]
    assert len(numbers) == 20
    assert all(str(int(row["value_f64"])) == row["serial"] for row in numbers)


def test_the_customer_reports_47_values_of_19_boxes_and_27_of_20_covers_one_more_of_a10(rows):
    assert len(rows["incoming_box"]) == 893
    assert per_part(rows["incoming_box"]) == {47: 19}
    assert len(rows["incoming_cover"]) == 541
    assert per_part(rows["incoming_cover"]) == {27: 19, 28: 1}
    more = next(
        result for result, count in Counter(row["result"] for row in rows["incoming_cover"]).items() if count == 28
    )
    assert "_A10_" in next(row["serial"] for row in rows["incoming_cover"] if row["result"] == more)


def test_out_of_tolerance_as_declared(rows):
    def count(*names: str) -> Counter:
        return Counter(row["kind"] for name in names for row in rows[name] if out_of_tolerance(row))

    assert count("fair_box", "fair_cover") == {"flatness": 1, "perpendicularity": 3}
    assert count("incoming_box", "incoming_cover") == {"diameter": 76, "position": 1}
    assert {row["name"] for row in rows["incoming_box"] if out_of_tolerance(row) and row["kind"] == "diameter"} == {
        "DIAMETER7"
    }


def test_our_verdict_is_the_makers_own_except_for_the_hole_declared_wrong(rows):
    differs = [
        row["name"]
        for name in rows
        for row in rows[name]
        if out_of_tolerance(row) is not None and out_of_tolerance(row) != (row["declared_status"] == "FAIL")
    ]

    assert set(differs) == {"DIAMETER7"}


def test_the_result_without_a_serial_names_its_part_in_the_source_uri(rows):
    for name in ("incoming_box", "incoming_cover"):
        without = {(row["result"], row["source_uri"]) for row in rows[name] if row["serial"] is None}
        assert len(without) == 1
        assert "\\A20\\" in without.pop()[1]


def test_the_feature_is_the_identity_where_names_repeat(rows):
    first = next(row["result"] for row in rows["incoming_box"])
    sevens = [row for row in rows["incoming_box"] if row["result"] == first and row["name"] == "DIAMETER7"]

    assert len(sevens) == len({row["feature"] for row in sevens}) == 8
    for found in rows.values():
        assert len({(row["result"], row["characteristic"], row["feature"]) for row in found}) == len(found)
    assert all(None not in (row["x"], row["y"], row["z"]) for row in sevens)


def test_limits_come_out_absolute_and_a_negative_zone_as_declared(rows):
    supplier = {row["limit_form"] for row in rows["fair_box"] if row["kind"] == "diameter"}
    one = next(row for row in rows["incoming_box"] if row["kind"] == "diameter" and row["nominal"] == 3.3)
    negative = [row for row in rows["incoming_cover"] if row["limit_form"] == "zone" and row["upper"] < 0]

    assert supplier == {"absolute"}
    assert (one["lower"], one["upper"], one["limit_form"]) == (3.1, 3.5, "offset")  # 3.3 - 0.2 in binary is not 3.1
    assert len(negative) == 20
    assert {(row["kind"], row["upper"], out_of_tolerance(row)) for row in negative} == {
        ("perpendicularity", -0.13, None)
    }


def test_units_are_the_declared_ones_and_none_where_none_is_declared(rows):
    assert {row["unit"] for name in ("fair_box", "fair_cover") for row in rows[name]} == {None}
    assert {row["unit"] for name in ("incoming_box", "incoming_cover") for row in rows[name]} == {"mm"}


def altered(data_dir: Path, change) -> bytes:
    path = data_dir / "nist_smstestbed/tdp_mtc/QIF-IncomingInspection/CoverResults_20_samples.QIF"
    data = change(path.read_bytes())
    assert data != path.read_bytes()
    return data


def test_a_value_that_is_no_number_is_quarantined_and_the_others_kept(data_dir):
    data = altered(
        data_dir,
        lambda raw: raw.replace(b"<Value>0.042</Value>", b"<Value>NaN</Value>", 1).replace(
            b"<Value>4.522</Value>", b"<Value>big</Value>", 1
        ),
    )
    report = read_qif(data, name="x.qif", receive=0, limit=LIMIT)

    assert report.rows.num_rows == 539
    assert sorted(reason for _, reason, _ in report.quarantined) == ["not-a-number", "not-finite"]


@pytest.mark.parametrize(
    "change, kind, code",
    [
        (lambda raw: raw[: len(raw) // 2], Skippable, "connect.document-unreadable"),
        (lambda raw: raw.replace(b"QIFDocument", b"OtherDocument"), Skippable, "connect.document-unreadable"),
        (
            lambda raw: raw.replace(
                b"<QIFDocument", b'<!DOCTYPE q [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]><QIFDocument', 1
            ),
            Refused,
            "connect.document-hostile",
        ),
        (
            lambda raw: raw.replace(b"<QIFDocument", b'<!DOCTYPE q SYSTEM "file:///etc/passwd"><QIFDocument', 1),
            Refused,
            "connect.document-hostile",
        ),
    ],
    ids=["cut", "foreign", "bomb", "external"],
)
def test_documents_that_are_cut_foreign_or_hostile_are_refused_with_a_code(data_dir, change, kind, code):
    with pytest.raises(kind) as caught:
        read_qif(altered(data_dir, change), name="x.qif", receive=0, limit=LIMIT)

    assert caught.value.code == code


def test_an_oversized_document_is_refused_before_it_is_parsed():
    with pytest.raises(Skippable) as caught:
        read_qif(b"<" * 1001, name="x.qif", receive=0, limit=1000)

    assert caught.value.code == "connect.document-too-large"
