"""idShort paths and serialisation modifiers. Expected forms are written by hand from IDTA-01001 and 01002."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.errors import Skippable
from guantong.describe.elements import collection, id_short, items, languages, prop, submodel, unique, verified_bytes
from guantong.describe.paths import encode, find, metadata, parse_path, path_list, value_only, walk

TREE = submodel(
    "urn:x",
    "Tree",
    [
        collection("aa", [prop("bb", "5", type="xs:int"), prop("empty", None), collection("none", [])]),
        items("list", [collection("", [prop("cc", "x")]), collection("", [prop("cc", "y"), items("deep", [collection("", [prop("dd", "true", type="xs:boolean")])])])]),
        languages("name", {"en": "mill", "zh": "铣床"}),
        {"modelType": "Range", "idShort": "range", "valueType": "xs:double", "min": "1.5", "max": "INF"},
        {"modelType": "Entity", "idShort": "thing", "entityType": "CoManagedEntity", "statements": [prop("ss", "1.50", type="xs:decimal")]},
        {"modelType": "Capability", "idShort": "can"},
        {"modelType": "File", "idShort": "file", "contentType": "text/plain", "value": "/a.txt"},
        {"modelType": "ReferenceElement", "idShort": "ref", "value": {"type": "ExternalReference", "keys": [{"type": "GlobalReference", "value": "u"}]}},
    ],
    "urn:meaning",
)  # fmt: skip


def test_the_tree_of_these_tests_satisfies_the_metamodel():
    assert json.loads(verified_bytes(TREE))["id"] == "urn:x"


@pytest.mark.parametrize(
    "path, steps",
    [
        ("a", ["a"]),
        ("a.b", ["a", "b"]),
        ("a[0][12].c-d", ["a", 0, 12, "c-d"]),
        ("list[1].deep[0].d", ["list", 1, "deep", 0, "d"]),
    ],
)
def test_a_path_is_cut_into_names_and_indexes(path, steps):
    assert parse_path(path) == steps


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "a.",
        ".a",
        "[0]",
        "a..b",
        "a[01]",
        "a[-1]",
        "a[x]",
        "a[0",
        "a]",
        "1a",
        "a b",
        "a[0]b",
        "ä",
        "a." * 80 + "a",
    ],
)
def test_what_is_no_path_is_refused(path):
    with pytest.raises(Skippable) as caught:
        parse_path(path)
    assert caught.value.code == "describe.bad-path"


@pytest.mark.parametrize(
    "path, value",
    [("aa.bb", "5"), ("list[0].cc", "x"), ("list[1].deep[0].dd", "true"), ("thing.ss", "1.50")],
)
def test_members_are_found_by_name_and_list_members_by_index_only(path, value):
    found = find(TREE, path)

    assert found is not None
    assert found["value"] == value


@pytest.mark.parametrize("path", ["aa[0]", "list.cc", "list[2]", "nothing", "aa.bb.cc", "name.en", "can.x"])
def test_what_is_not_there_is_none(path):
    assert find(TREE, path) is None


def test_every_walked_path_finds_its_own_element():
    walked = list(walk(TREE))

    assert len(walked) == 19
    for path, element in walked:
        assert find(TREE, path) is element


def test_the_value_only_form_is_the_specified_one():
    expected = {
        "aa": {"bb": 5, "none": {}},
        "list": [{"cc": "x"}, {"cc": "y", "deep": [{"dd": True}]}],
        "name": [{"en": "mill"}, {"zh": "铣床"}],
        "range": {"min": 1.5, "max": "INF"},
        "thing": {"statements": {"ss": 1.5}, "entityType": "CoManagedEntity"},
        "file": {"contentType": "text/plain", "value": "/a.txt"},
        "ref": {"type": "ExternalReference", "keys": [{"type": "GlobalReference", "value": "u"}]},
    }

    assert json.loads(encode(value_only(TREE))) == expected


@pytest.mark.parametrize(
    "kind, text, written",
    [
        ("xs:decimal", "1.50", b"1.50"),
        ("xs:integer", "123456789012345678901234567890", b"123456789012345678901234567890"),
        ("xs:long", "9007199254740993", b"9007199254740993"),
        ("xs:double", "0.1", b"0.1"),
        ("xs:double", "1e-05", b"1e-05"),
        ("xs:double", "NaN", b'"NaN"'),
        ("xs:double", "-INF", b'"-INF"'),
        ("xs:int", "+5", b"5"),
        ("xs:decimal", ".5", b"0.5"),
        ("xs:int", "007", b"7"),
        ("xs:boolean", "1", b"true"),
        ("xs:boolean", "false", b"false"),
        ("xs:string", "5", b'"5"'),
        ("xs:dateTime", "2026-11-24T08:00:00Z", b'"2026-11-24T08:00:00Z"'),
    ],
)
def test_values_keep_every_digit(kind, text, written):
    assert encode(value_only(prop("p", text, type=kind))) == written


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_decimal_is_squeezed_through_float(number):
    text = format(number, "f")
    written = encode(value_only(prop("p", text, type="xs:decimal")))

    assert json.loads(written, parse_float=type(number), parse_int=type(number)) == number


def test_an_operation_has_no_value():
    with pytest.raises(Skippable):
        value_only({"modelType": "Operation", "idShort": "do"})


def test_metadata_drops_exactly_the_tabled_fields():
    shown = metadata(prop("p", "5", "urn:m", type="xs:int"))

    assert set(shown) == {"modelType", "idShort", "valueType", "semanticId"}
    assert "submodelElements" not in metadata(TREE)


def test_the_path_form_includes_the_element_itself():
    element = find(TREE, "list[1]")
    assert element is not None
    assert path_list(element, "list[1]") == [
        "list[1]",
        "list[1].cc",
        "list[1].deep",
        "list[1].deep[0]",
        "list[1].deep[0].dd",
    ]


@given(st.text(max_size=200))
def test_any_name_becomes_an_id_short_that_the_metamodel_accepts(name):
    verified_bytes(submodel("urn:x", "Tree", [collection(id_short(name), [])], "urn:m"))


@given(st.lists(st.text(max_size=20), max_size=20))
def test_names_in_one_container_are_told_apart(names):
    taken: set[str] = set()
    made = [unique(id_short(name), taken) for name in names]

    verified_bytes(submodel("urn:x", "Tree", [prop(name, None) for name in made], "urn:m"))
    assert len({name.lower() for name in made}) == len(made)
