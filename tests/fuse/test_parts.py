"""Parts and characteristics of two companies, against the truth counted from the files by hand."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.connect.qif import read_qif
from guantong.fuse.comparison import compare
from guantong.fuse.model import CharacteristicMatch
from guantong.fuse.parts import RULES, join, joined, read_name, same_design
from guantong.fuse.rules import find_misdeclared, find_negative_zones, match_characteristics, match_parts

Row = dict[str, Any]


def rows_of(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".qif":
            rows += read_qif(path.read_bytes(), name=path.name, receive=0, limit=2**30).rows.to_pylist()
    return rows


@pytest.fixture(scope="module")
def real(data_dir: Path) -> tuple[list[Row], list[Row]]:
    folder = data_dir / "nist_smstestbed" / "tdp_mtc"
    return rows_of(folder / "FAIR"), rows_of(folder / "QIF-IncomingInspection")


@pytest.mark.parametrize(
    "serial, uri, number, rule",
    [
        ("2", None, "2", "serial.plain"),
        ("02", None, "2", "serial.plain"),
        ("01of20", None, "1", "serial.of-lot"),
        ("BOXRESULTS_A19_NIST_MTC_CRADA_BOX_ORIGIN_NIKON_TOUCH", None, "19", "serial.inside"),
        ("HOUSING_A03_RECEIVED_CMM2", None, "3", "serial.inside"),
        (
            None,
            "D:\\CM14_Parts\\MTC\\BoxResults\\A20\\NIST_MTC_CRADA_BOX_ORIGIN_NIKON_TOUCH.OUT",
            "20",
            "serial.from-source",
        ),
        (None, "/cell/7/out.qif", "7", "serial.from-source"),
    ],
)
def test_a_name_is_read_by_a_rule(serial: str | None, uri: str | None, number: str, rule: str) -> None:
    reading = read_name(serial, uri)

    assert reading is not None
    assert (reading.number, reading.rule) == (number, rule)


@pytest.mark.parametrize(
    "serial, uri",
    [(None, None), ("", None), ("LOT_A1_A2", None), ("unknown", "/cell/7/out.qif"), (None, "/a1/b2/x.out")],
)
def test_a_name_that_could_mean_two_parts_is_not_read(serial: str | None, uri: str | None) -> None:
    assert read_name(serial, uri) is None


def test_designs_are_one_if_one_name_begins_the_other() -> None:
    assert same_design("nist_mtc_crada_box", "nist_mtc_crada_box_Origin_Nikon_Touch") == "design.name-begins"
    assert same_design("Housing-7", "housing_7") == "design.same-name"
    assert same_design("nist_mtc_crada_box", "nist_mtc_crada_cover_Origin") is None
    assert same_design("", "") is None


def test_every_rule_says_why_in_both_languages() -> None:
    for rule in RULES.values():
        assert 0 < rule.confidence <= 1
        assert rule.en.endswith(".")
        assert rule.zh.endswith("。")


def test_boxes_2_to_20_and_covers_1_to_20_are_matched(real: tuple[list[Row], list[Row]]) -> None:
    matched = match_parts(*real, left_origin="supplier", right_origin="customer")

    assert {(part.design, int(part.serial)) for part in matched.parts} == {
        *(("nist_mtc_crada_box", number) for number in range(2, 21)),
        *(("nist_mtc_crada_cover", number) for number in range(1, 21)),
    }
    assert len(matched.matches) == 39
    assert matched.left_only == matched.right_only == ()
    without_serial = [one for one in matched.matches if "serial.from-source" in one.rule]
    assert len(without_serial) == 2
    assert all("A20" in one.right_serial and one.part.endswith("/20") for one in without_serial)


def test_a_renamed_serial_and_a_dropped_part_cost_one_match_each(real: tuple[list[Row], list[Row]]) -> None:
    left, right = copy.deepcopy(real)
    for row in right:
        if row["serial"] and "_A07_" in row["serial"] and "box" in row["model"]:
            row["serial"] = row["serial"].replace("_A07_", "_SEVEN_")
    matched = match_parts(left, right)

    assert len(matched.parts) == 38
    assert len(matched.left_only) == len(matched.right_only) == 1
    left = [row for row in left if not (row["serial"] == "3" and "cover" in row["model"])]
    assert len(match_parts(left, right).parts) == 37


def test_characteristics_are_matched_by_feature_and_what_cannot_be_told_is_said(
    real: tuple[list[Row], list[Row]],
) -> None:
    found = match_characteristics(*real, match_parts(*real))
    sure = {(one.left.name, one.right.name): one.rule for one in found if one.confidence >= 0.9}

    assert sure[("Distance 3", "DISTANCEBETWEEN4")] == "characteristic.only-one"
    assert sure[("Distance 1", "DISTANCEBETWEEN2")] == "characteristic.near-nominal"
    assert sure[("Distance 2", "WIDTH2")] == "characteristic.near-nominal"
    assert sure[("Flatness 1", "FLATNESS1")] == "characteristic.only-one"
    # each feature is matched once, though names repeat
    assert max(Counter((one.design, one.right.id) for one in found).values()) == 1
    assert max(Counter((one.design, one.left.id) for one in found).values()) == 1
    names = {one.left.name for one in found}
    assert "Part Number" not in names
    # six slot ends of the supplier are three widths of the customer: not matched
    assert not names & {"Diameter 6", "Diameter 7"} & {one.left.name for one in found if one.left.nominal == 5.0}
    counterbores = [one for one in found if one.rule == "characteristic.declared-otherwise"]
    assert {one.left.name for one in counterbores} == {f"Diameter {number}" for number in range(16, 20)}
    assert {one.right.name for one in counterbores} == {"DIAMETER7"}
    assert all(one.left.nominal == 11.0 and one.right.nominal == 6.6 for one in counterbores)


def test_a_tolerance_declared_for_another_feature_is_one_finding(real: tuple[list[Row], list[Row]]) -> None:
    assert find_misdeclared(real[0]) == []
    (found,) = find_misdeclared(real[1])

    assert (found.name, found.nominal, len(found.features), found.parts, found.rows) == ("DIAMETER7", 6.6, 4, 19, 76)
    assert found.measured == pytest.approx(11.0, abs=0.1)


def test_bad_parts_are_not_taken_for_a_wrong_declaration(real: tuple[list[Row], list[Row]]) -> None:
    right = copy.deepcopy(real[1])
    for row in right:  # one hole far too wide on four parts
        if row["feature"] == "58" and row["name"] == "DIAMETER7" and row["result"] in ("219", "296", "373", "1528"):
            row["value_f64"] += 4.4

    (found,) = find_misdeclared(right)
    assert found.rows == 76


def test_a_zone_declared_negative_is_one_finding_with_its_parts(real: tuple[list[Row], list[Row]]) -> None:
    assert find_negative_zones(real[0]) == []
    (found,) = find_negative_zones(real[1])

    assert (found.name, found.zone, found.unit, found.parts) == ("PERPENDICULARITY1", -0.13, "mm", 20)


def test_both_companies_values_stand_side_by_side(real: tuple[list[Row], list[Row]]) -> None:
    found = compare(*real, left_origin="supplier", right_origin="customer")
    box = [pair for pair in found.pairs if pair.part == "nist-mtc-crada-box/7"]
    length = next(pair for pair in box if pair.left["name"] == "Distance 3")

    assert len(found.parts) == 39
    assert len(found.characteristics) == 53
    assert Counter(Counter(pair.part for pair in found.pairs).values()) == {27: 19, 26: 20}
    assert (length.right["name"], length.right["unit"], length.rule) == (
        "DISTANCEBETWEEN4",
        "mm",
        "characteristic.only-one",
    )
    assert all("_A07_" in pair.right["serial"] and pair.left["serial"] == "7" for pair in box)


def test_what_stays_alone_says_why(real: tuple[list[Row], list[Row]]) -> None:
    alone = compare(*real).unmatched
    by_name = {(one.side, one.characteristic.name): one for one in alone}

    assert by_name["left", "Part Number"].reason[0] == "the other side has none of this kind and nominal"
    assert by_name["left", "Diameter 3"].alike == (
        2,
        4,
    )  # two holes of one, four of the other: which is which can't be told
    assert "2 here and 4 there" in by_name["left", "Diameter 3"].reason[0]
    assert by_name["right", "LENGTH2"].alike == (4, 0) or by_name["right", "LENGTH2"].alike[1] == 0
    names = Counter((one.side, one.characteristic.name) for one in alone)
    assert names["right", "DIAMETER7"] == 0
    matched = compare(*real).characteristics
    assert len(matched) + sum(one.side == "left" for one in alone) == 45 + 28
    assert compare([], real[1]).pairs == ()


def test_one_part_under_two_companies_design_names_is_one() -> None:
    ours = [join("crada_box", n, [("fair", n)], ["serial.plain"]) for n in ("1", "2")]
    theirs = [join("crada_box_Touch", n, [("incoming", f"A{n}_X")], ["serial.inside"]) for n in ("2", "3")]
    first, second, third = joined([*ours, *theirs])

    assert (first, third) == (ours[0], theirs[1])
    assert second.id == "crada-box/2"
    assert second.names == (("fair", "2"), ("incoming", "A2_X"))
    assert second.rules == ("design.name-begins", "serial.inside", "serial.plain")


def test_two_designs_of_one_company_stay_two() -> None:
    parts = [join(design, "1", [("gauge", "1")], ["serial.plain"]) for design in ("crada_box", "crada_box_left")]
    assert joined(parts) == parts
    third = join("crada_box", "1", [("fair", "1")], ["serial.plain"])
    fitting = [join(f"crada_box_{side}", "1", [(side, "1")], ["serial.plain"]) for side in ("left", "right")]
    assert joined([third, *fitting]) == [third, *fitting]  # it begins both: neither is taken


def turned(found: list[CharacteristicMatch]) -> set[tuple[str, str, str, str, float]]:
    return {(one.design, one.right.id, one.left.id, one.rule, one.confidence) for one in found}


def plain(found: list[CharacteristicMatch]) -> set[tuple[str, str, str, str, float]]:
    return {(one.design, one.left.id, one.right.id, one.rule, one.confidence) for one in found}


def test_real_reports_match_the_same_whichever_company_asks(real: tuple[list[Row], list[Row]]) -> None:
    left, right = real
    found = match_characteristics(left, right, match_parts(left, right))

    assert len(found) > 20
    assert turned(match_characteristics(right, left, match_parts(right, left))) == plain(found)


_NAMES = st.sampled_from(["Diameter 1", "DIAMETER2", "Distance 1", "WIDTH2", "Flatness 1", "x"])
_ROW = st.fixed_dictionaries(
    {
        "name": _NAMES,
        "kind": st.sampled_from(["diameter", "distance"]),
        "nominal": st.sampled_from([None, 5.0, 5.01, 6.6, 11.0]),
        "value_f64": st.sampled_from([None, 5.0, 5.1, 11.0]),
        "half": st.sampled_from([0.05, 0.5]),
        "place": st.sampled_from([None, 0.0, 0.05, 9.0]),
        "feature": st.integers(0, 5),
    }
)


def report(rows: list[Row], name: str, model: str) -> list[Row]:
    made = []
    for number, row in enumerate(rows):
        nominal, place = row["nominal"], row["place"]
        limits = {
            "lower": None if nominal is None else nominal - row["half"],
            "upper": None if nominal is None else nominal + row["half"],
        }
        made.append(
            {
                **row,
                **limits,
                "report": name,
                "result": str(number % 3),
                "model": model,
                "serial": str(number % 3),
                "source_uri": None,
                "unit": "mm",
                "characteristic": f"c{number}",
                "x": place,
                "y": place,
                "z": place,
                "status": "PASS",
            }
        )
    return made


@given(st.lists(_ROW, max_size=8), st.lists(_ROW, max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_characteristics_match_the_same_whichever_side_stands_left(
    one: list[Row], other: list[Row], same_name: bool
) -> None:
    left, right = report(one, "a", "mtc_box"), report(other, "b", "mtc_box" if same_name else "box_mtc")
    found = match_characteristics(left, right)

    assert turned(match_characteristics(right, left)) == plain(found)
    assert max(Counter(match.left.id for match in found).values(), default=0) <= 1
    assert max(Counter(match.right.id for match in found).values(), default=0) <= 1
