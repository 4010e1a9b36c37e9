"""AIMC 2.0: mappings to documents and back without loss; free code is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.canonical import canonical_bytes
from guantong.base.errors import Skippable
from guantong.fuse.aimc import (
    lua_of,
    mapping_from_element,
    mapping_to_element,
    mappings_from_submodel,
    mappings_to_submodel,
    signal_of,
    signal_reference,
)
from guantong.fuse.model import Lookup, Mapping, MapSink, MapSource, Offset, Scale, Unit

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
FLOAT = st.floats(-1e12, 1e12, allow_nan=False)
KEY = st.tuples(st.sampled_from(["Submodel", "Property", "SubmodelElementCollection"]), TEXT)
INTERVAL = st.none() | st.floats(0.001, 1e6)
UNITS = st.sampled_from([("bar", "[psi]"), ("Cel", "[degF]"), ("kW", "W"), ("mm", "[in_i]")])
STEP = st.one_of(
    st.builds(Scale, FLOAT),
    st.builds(Offset, FLOAT),
    UNITS.map(lambda pair: Unit(*pair)),
    st.lists(st.tuples(TEXT, TEXT), max_size=4, unique_by=lambda pair: pair[0]).map(lambda pairs: Lookup(tuple(pairs))),
)
REFERENCE = st.lists(KEY, min_size=1, max_size=4).map(tuple)


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    steps = tuple(draw(st.lists(STEP, max_size=4)))
    ids = draw(st.lists(TEXT, min_size=1, max_size=1 if steps else 4, unique=True))
    sources = tuple(MapSource(one, draw(REFERENCE), draw(INTERVAL)) for one in ids)
    sink_ids = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True)) if steps else draw(st.permutations(ids))
    sinks = tuple(MapSink(one, draw(REFERENCE)) for one in sink_ids)
    return Mapping(draw(TEXT), sources, sinks, steps, draw(INTERVAL))


@settings(deadline=None, max_examples=40)
@given(mappings())
def test_a_mapping_survives_the_way_to_a_document_and_back(mapping: Mapping) -> None:
    element = mapping_to_element(mapping)
    canonical_bytes(element)  # plain JSON

    assert mapping_from_element(element) == mapping
    assert mappings_from_submodel(mappings_to_submodel("urn:example:aimc", [mapping, mapping])) == [mapping, mapping]


@settings(deadline=None)
@given(TEXT, TEXT)
def test_a_signal_reference_leads_back_to_its_signal(source: str, native: str) -> None:
    reference = signal_reference(source, native)

    assert signal_of(reference) == (source, native)
    assert all(
        value[0].isalpha() and value.replace("_", "").isalnum() and value.isascii() for _, value in reference[1:]
    )


def example(*steps: Scale | Offset | Unit | Lookup) -> Mapping:
    return Mapping(
        "pressure",
        (MapSource("p", signal_reference("mill-01", "coolant_pressure")),),
        (MapSink("out", (("Submodel", "urn:x"), ("Property", "Pressure"))),),
        steps,
    )


def test_the_document_has_the_names_and_ids_of_the_template() -> None:
    """IDTA 02027-2-0: idShorts, semantic ids, the list's id of 1/0, the Blob's content type and entry point."""
    document = mappings_to_submodel("urn:x", [example(Scale(2.0))])
    root = "https://admin-shell.io/idta/AssetInterfacesMappingConfiguration"

    (listing,) = document["submodelElements"]
    assert listing["semanticId"]["keys"][0]["value"] == f"{root}/1/0/MappingConfigurations"
    (item,) = listing["value"]
    assert item["semanticId"]["keys"][0]["value"] == f"{root}/2/0/MappingConfiguration"
    assert [part["idShort"] for part in item["value"]] == ["Transformation", "Sources", "Sinks"]
    blob = item["value"][0]
    assert (blob["modelType"], blob["contentType"]) == ("Blob", "text/plain")
    assert "function aimc_main(sources)" in base64.b64decode(blob["value"]).decode()


def test_the_library_for_shells_reads_the_document() -> None:
    jsonization = pytest.importorskip("aas_core3_1.jsonization", reason="needs aas-core3.1")

    submodel = jsonization.submodel_from_jsonable(
        mappings_to_submodel("urn:x", [example(Unit("[psi]", "bar"), Lookup((("a", "b"),)))])
    )
    from aas_core3_1 import verification

    assert [str(problem.cause) for problem in verification.verify(submodel)] == []


def test_free_lua_and_lua_that_belies_its_first_line_are_refused() -> None:
    element = mapping_to_element(example(Scale(2.0)))
    text = lua_of(example(Scale(2.0)))
    for changed in ("function aimc_main(s) return {} end", text.replace("v * 2.0", "v * 3.0"), text + "os.exit()"):
        element["value"][0]["value"] = base64.b64encode(changed.encode()).decode()
        with pytest.raises(Skippable) as caught:
            mapping_from_element(element)
        assert caught.value.code == "fuse.mapping-invalid"


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping("", (MapSource("a", (("Submodel", "x"),)),), (MapSink("a", (("Submodel", "x"),)),)),
        Mapping("m", (), (MapSink("a", (("Submodel", "x"),)),)),
        Mapping("m", (MapSource("a", (("Submodel", "x"),)),), (MapSink("b", (("Submodel", "x"),)),)),
        Mapping("m", (MapSource("a", ()),), (MapSink("a", (("Submodel", "x"),)),)),
        Mapping("m", (MapSource("a", (("Submodel", "x"),), 0.0),), (MapSink("a", (("Submodel", "x"),)),)),
        example(Scale(float("nan"))),
        example(Lookup((("a", "b"), ("a", "c")))),
    ],
)
def test_a_mapping_that_breaks_a_rule_is_refused(mapping: Mapping) -> None:
    with pytest.raises(Skippable):
        mapping_to_element(mapping)


def test_units_that_measure_different_things_are_refused_with_both_codes() -> None:
    with pytest.raises(Skippable) as caught:
        mapping_to_element(example(Unit("bar", "mm")))
    assert caught.value.code == "base.unit-mismatch"
