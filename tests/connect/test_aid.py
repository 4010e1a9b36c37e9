"""Interfaces as Asset Interfaces Descriptions: lossless, valid for the metamodel's own checker, lenient towards what is published."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aas_core3_1 import jsonization, verification
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.errors import ConfigProblem, Skippable
from guantong.connect.aid import from_aid, to_aid
from guantong.connect.model import KINDS, Form, Interface, Property, SecurityScheme

ID = "urn:example:submodel:aid"
plain = st.text(
    st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_categories=("Cs", "Cc")), min_size=1, max_size=20
)
stripped = plain.map(str.strip).filter(bool)
short = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{1,15}", fullmatch=True)
optional = st.none() | plain
terms = st.lists(
    st.tuples(short.map(lambda name: "uav_" + name), plain), max_size=3, unique_by=lambda term: term[0].lower()
).map(tuple)
names = st.lists(short, max_size=2).map(tuple)
forms = st.builds(Form, href=plain, content_type=optional, subprotocol=optional, security=names, terms=terms)
numbers = st.none() | st.integers(-1000, 1000).map(str)


def properties(depth: int) -> st.SearchStrategy[tuple[Property, ...]]:
    one = st.builds(
        Property,
        key=plain,
        type=st.none() | st.sampled_from(["number", "integer", "string"]),
        title=optional,
        unit=optional,
        observable=st.none() | st.booleans(),
        const=optional,
        default=optional,
        enum=st.lists(plain, max_size=2).map(tuple),
        minimum=numbers,
        maximum=numbers,
        value_semantics=st.none() | stripped,
        form=st.none() | forms,
        properties=properties(depth - 1) if depth else st.just(()),
        terms=st.lists(st.tuples(short, plain), max_size=2, unique_by=lambda term: term[0].lower()).map(tuple),
    )
    return st.lists(one, max_size=3).map(tuple)


interfaces = st.builds(
    Interface,
    name=plain,
    kind=st.sampled_from(KINDS),
    base=st.sampled_from(["shdr://10.0.0.7:7878", "opc.tcp://m:4840/x", "http://a:5000/", "file:///data/in"]),
    title=st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc")), max_size=20),
    created=st.none() | st.just("2026-11-24T08:00:00Z"),
    support=st.none() | st.just("mailto:help@example.org"),
    content_type=optional,
    security=names,
    schemes=st.lists(
        st.builds(SecurityScheme, short, short, terms), max_size=2, unique_by=lambda scheme: scheme.name.lower()
    ).map(tuple),
    properties=properties(1),
    terms=st.lists(
        st.tuples(st.sampled_from(["device", "count", "pattern"]), plain), max_size=2, unique_by=lambda t: t[0]
    ).map(tuple),
)


@settings(max_examples=30, deadline=None)
@given(interfaces)
def test_an_interface_survives_its_description(interface):
    document = json.loads(json.dumps(to_aid([interface], id=ID)))

    assert from_aid(document).interfaces == (interface,)
    assert Interface.from_json(json.loads(json.dumps(interface.to_json()))) == interface


@settings(max_examples=10, deadline=None)
@given(st.lists(interfaces, min_size=1, max_size=2))
def test_a_description_is_valid_for_the_metamodel(many):
    submodel = jsonization.submodel_from_jsonable(to_aid(many, id=ID))

    assert [str(error.cause) for error in verification.verify(submodel)] == []


def opcua() -> dict:
    prop = Property(
        "Speed",
        "number",
        unit="RPM",
        form=Form("/?id=nsu=urn:x;s=Speed", terms=(("uav_browsePath", "/Objects/Speed"),)),
    )
    return to_aid(
        [
            Interface(
                "pump",
                "opcua",
                "opc.tcp://m:4840",
                security=("opcua_channel_sc",),
                schemes=(SecurityScheme("opcua_channel_sc", "uav_channelsec"),),
                properties=(prop,),
            )
        ],
        id=ID,
    )


def test_the_errors_of_the_published_template_are_read_over():
    right = from_aid(opcua()).interfaces[0]
    document = opcua()
    element = document["submodelElements"][0]
    element["supplementalSemanticIds"][1]["keys"][0]["value"] = "http://www.w3.org/2011/mqtt"
    element["value"] = [child for child in element["value"] if child["idShort"] != "guantong"]  # not ours
    text = json.dumps(document).replace("uav_channelsec", "ua_channelsec").replace("#baseURI", "#baseURI ")
    document = json.loads(text)
    for child in document["submodelElements"][0]["value"]:
        if child["idShort"] == "InteractionMetadata":
            speed = child["value"][0]["value"][0]["value"]
            speed.append({"modelType": "Property", "idShort": "observable", "valueType": "xs:boolean", "value": True})
    read = from_aid(document).interfaces[0]

    assert read == replace(right, properties=(replace(right.properties[0], observable=True),))
    assert read.schemes[0].scheme == "uav_channelsec"


def test_interfaces_without_a_reader_are_named_not_dropped():
    document = opcua()
    text = json.dumps(document).replace("opc.tcp://m:4840", "bacnet://5")
    document = json.loads(text)
    element = document["submodelElements"][0]
    element["value"] = [child for child in element["value"] if child["idShort"] != "guantong"]

    assert from_aid(document).interfaces == ()
    assert from_aid(document).unread[0][0] == "pump"


@pytest.mark.parametrize(
    "document", [{}, {"modelType": "Submodel"}, {"modelType": "Submodel", "submodelElements": [1, None]}, []]
)
def test_other_documents_are_refused_with_a_code(document):
    with pytest.raises(Skippable) as caught:
        from_aid(document)

    assert caught.value.code == "connect.interface-unreadable"


def test_a_secret_never_gets_into_an_interface():
    with pytest.raises(ConfigProblem) as caught:
        Interface("mill", "shdr", "shdr://user:secret@10.0.0.7:7878")
    described = from_aid(json.loads(json.dumps(opcua()).replace("opc.tcp://m", "opc.tcp://u:secret@m")))

    assert caught.value.code == "connect.secret-in-address"
    assert "secret" not in repr(described)
    assert described.interfaces == ()
