"""A supplier's package, made with the Eclipse BaSyx SDK, becomes running sources without code; each is read from a peer server."""

from __future__ import annotations

import io
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from connect_peers import QUICK, SUPPLIER, ListSink, PlainHttp, until, value_of
from protocol_peers import Mosquitto, Script, free_port, listening

from guantong.base.clock import SystemClock
from guantong.base.errors import Refused, Skippable
from guantong.connect.aasx import read_package, write_package
from guantong.connect.model import Interface
from guantong.connect.service import Connect

A = "https://admin-shell.io/idta/AssetInterfacesDescription/1/0/"
TD = "https://www.w3.org/2019/wot/td#"


def package(path: Path, interfaces: list[dict[str, Any]], *, as_json: bool) -> Path:
    """Written by basyx-python-sdk from the tables of IDTA 02017-1-1, without any code of ours."""
    from basyx.aas import model
    from basyx.aas.adapter import aasx

    def external(value: str) -> model.ExternalReference:
        return model.ExternalReference((model.Key(model.KeyTypes.GLOBAL_REFERENCE, value),))

    def text(name: str, value: str, meaning: str) -> model.Property:
        return model.Property(name, model.datatypes.String, value, semantic_id=external(meaning))

    def collection(name: str, children: list[Any], meaning: str, *more: str) -> model.SubmodelElementCollection:
        return model.SubmodelElementCollection(
            name, children, semantic_id=external(meaning), supplemental_semantic_id=[external(one) for one in more]
        )

    elements = []
    for one in interfaces:
        properties = []
        for item in one["properties"]:
            form = [text("href", item["href"], "https://www.w3.org/2019/wot/hypermedia#hasTarget")]
            form += [text(name, value, meaning) for name, value, meaning in item["terms"]]
            properties.append(
                collection(
                    item["name"],
                    [
                        text("type", item["type"], "https://www.w3.org/1999/02/22-rdf-syntax-ns#type"),
                        text("title", item["name"], TD + "title"),
                        text("unit", item.get("unit", "Cel"), "https://schema.org/unitCode"),
                        collection("forms", form, TD + "hasForm"),
                    ],
                    A + "PropertyDefinition",
                )
            )
        endpoint = [
            model.Property("base", model.datatypes.AnyURI, one["base"], semantic_id=external(TD + "baseURI")),
            text("contentType", "application/json", "https://www.w3.org/2019/wot/hypermedia#forContentType"),
            model.SubmodelElementList(
                "security", model.ReferenceElement, semantic_id=external(TD + "hasSecurityConfiguration")
            ),
            collection(
                "securityDefinitions",
                [
                    collection(
                        "nosec_sc",
                        [text("scheme", "nosec", TD + "hasSecurityScheme")],
                        "https://www.w3.org/2019/wot/security#NoSecurityScheme",
                    )
                ],
                TD + "definesSecurityScheme",
            ),
        ]
        elements.append(
            collection(
                one["name"],
                [
                    text("title", one["name"], TD + "title"),
                    collection("EndpointMetadata", endpoint, A + "EndpointMetadata"),
                    collection(
                        "InteractionMetadata",
                        [collection("properties", properties, TD + "PropertyAffordance")],
                        A + "InteractionMetadata",
                        TD + "InteractionAffordance",
                    ),
                ],
                A + "Interface",
                one["protocol"],
                "https://www.w3.org/2019/wot/td",
            )
        )
    submodel = model.Submodel(
        "https://supplier.example/aid",
        elements,
        id_short="AssetInterfacesDescription",
        semantic_id=external("https://admin-shell.io/idta/AssetInterfacesDescription/1/1/Submodel"),
    )
    shell = model.AssetAdministrationShell(
        model.AssetInformation(global_asset_id="https://supplier.example/pump/1"),
        "https://supplier.example/aas",
        submodel={model.ModelReference.from_referable(submodel)},
    )
    store: Any = model.DictIdentifiableStore([shell, submodel])
    with aasx.AASXWriter(str(path)) as writer:
        writer.write_aas(
            ["https://supplier.example/aas"], store, aasx.DictSupplementaryFileContainer(), write_json=as_json
        )
    return path


@pytest.fixture
async def stage(memory: Any, sink: ListSink) -> Any:
    http = PlainHttp()
    made = Connect(memory, sink, SystemClock(), http, replace(QUICK, poll_s=0.05))
    await made.start()
    yield made
    await made.stop()
    await http.close()


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "xml"])
async def test_a_package_with_a_modbus_interface_starts_data_flow(stage, sink, peers, tmp_path, as_json):
    port = free_port()
    device = Script(peers, "modbus_server.js", str(port))
    await device.start()
    await device.hear("ready", 20)
    await listening(port)
    modbus = "https://www.w3.org/2019/wot/modbus#"
    path = package(
        tmp_path / "pump.aasx",
        [
            {
                "name": "Pump",
                "base": f"modbus+tcp://127.0.0.1:{port}/1/",
                "protocol": "http://www.w3.org/2011/modbus",
                "properties": [
                    {
                        "name": name,
                        "type": "integer",
                        "href": f"{place}?quantity=1",
                        "terms": [
                            ("modv_function", "readHoldingRegisters", modbus + "hasFunction"),
                            ("modv_entity", "HoldingRegister", modbus + "hasEntity"),
                            ("modv_type", "xs:unsignedShort", modbus + "hasPayloadDataType"),
                            ("modv_pollingTime", "50", modbus + "hasPollingTime"),
                        ],
                    }
                    for name, place in (("speed", 40), ("flow", 41))
                ],
            }
        ],
        as_json=as_json,
    )
    described = await stage.import_interfaces(SUPPLIER, path)
    await until(lambda: {one["signal"]: value_of(one) for one in sink.readings()} == {"speed": 40, "flow": 41}, 20)
    await stage.remove(SUPPLIER, "Pump")
    await device.kill()

    assert [one.kind for one in described.interfaces] == ["modbus"]
    assert described.unread == ()
    assert "ask holding 40 2 1" in device.lines


async def test_a_package_with_an_mqtt_interface_starts_data_flow(stage, sink, tool, tmp_path):
    broker = Mosquitto(tool("mosquitto"), tmp_path)
    await broker.start()
    mqtt = "https://www.w3.org/2019/wot/mqtt#"
    path = package(
        tmp_path / "oven.aasx",
        [
            {
                "name": "Oven",
                "base": f"mqtt://127.0.0.1:{broker.port}",
                "protocol": "http://www.w3.org/2011/mqtt",
                "properties": [
                    {
                        "name": "temperature",
                        "type": "number",
                        "href": "/plant/oven/temperature",
                        "terms": [
                            ("mqv_controlPacket", "subscribe", mqtt + "ControlPacket"),
                            ("mqv_qos", "1", mqtt + "hasQoSFlag"),
                        ],
                    }
                ],
            }
        ],
        as_json=True,
    )
    await stage.import_interfaces(SUPPLIER, path)
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    publish = [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", "plant/oven/temperature", "-m"]
    for text in ("21", '{"value": 21.5, "timestamp": 1764000000123}'):
        subprocess.run([*publish, text], check=True)
    await until(lambda: len(sink.readings()) == 2)
    await stage.remove(SUPPLIER, "Oven")
    await broker.stop()
    first, second = sink.readings()

    assert (first["signal"], value_of(first)) == ("temperature", 21.0)
    assert (value_of(second), second["source_time"]) == (21.5, 1764000000123_000_000)


async def test_a_package_with_an_http_interface_starts_data_flow(stage, sink, tmp_path):
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path))
        return web.json_response({"level": 7, "state": "open", "time": "2026-11-24T08:00:00Z"})

    app = web.Application()
    app.router.add_route("*", "/tank", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    get = [("htv_methodName", "GET", "https://www.w3.org/2011/http#methodName")]
    path = package(
        tmp_path / "tank.aasx",
        [
            {
                "name": "Tank",
                "base": f"http://127.0.0.1:{port}/",
                "protocol": "http://www.w3.org/2011/http",
                "properties": [
                    {"name": "level", "type": "number", "href": "tank", "unit": "m", "terms": get},
                    {"name": "state", "type": "string", "href": "tank", "terms": get},
                ],
            }
        ],
        as_json=True,
    )
    await stage.import_interfaces(SUPPLIER, path)
    await until(lambda: len(sink.readings()) >= 4)
    await stage.remove(SUPPLIER, "Tank")
    await runner.cleanup()
    found = {one["signal"]: (value_of(one), one["source_time"]) for one in sink.readings()}

    assert found == {"level": (7.0, 1795507200_000_000_000), "state": ("open", 1795507200_000_000_000)}
    assert set(asked) == {("GET", "/tank")}
    assert sink.noted("units")[0] == {"level": "m", "state": "Cel"}


async def test_answers_that_stay_away_are_a_gap_from_the_last_one_to_the_next(stage, sink):
    answers = [200, 200, 503, 200, *[503] * 5, 200]
    seen: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        status = answers[len(seen)] if len(seen) < len(answers) else 200
        seen.append(status)
        return web.json_response({"level": len(seen)}, status=status)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await stage.add(SUPPLIER, Interface("tank", "http", f"http://127.0.0.1:{port}/", terms=(("interval_ms", "30"),)))
    await until(lambda: len(seen) > len(answers) + 1)
    await stage.remove(SUPPLIER, "tank")
    await runner.cleanup()
    at = {value_of(one): one["receive_time"] for one in sink.readings()}
    gaps = sink.noted("gaps")

    assert [answer for answer in at if answer <= len(answers)] == [1, 2, 4, 10]
    assert len(gaps) == 2
    for gap, before, after in zip(gaps, (2, 4), (4, 10), strict=True):
        assert at[before] <= gap["start"] < gap["end"] <= at[after]


def test_a_package_of_ours_is_read_back_whole_and_basyx_reads_it_too(tmp_path):
    from basyx.aas import model
    from basyx.aas.adapter import aasx

    made = read_package(
        package(
            tmp_path / "a.aasx",
            [{"name": "Pump", "base": "modbus+tcp://h:502/1/", "protocol": "http://www.w3.org/2011/modbus",
              "properties": [{"name": "speed", "type": "integer", "href": "4", "terms": []}]}],
            as_json=True,
        ).read_bytes(),
        limit=1 << 20,
    )  # fmt: skip
    ours = write_package(made.interfaces, asset="did:web:supplier.example")
    (tmp_path / "b.aasx").write_bytes(ours)
    store: Any = model.DictIdentifiableStore()
    with aasx.AASXReader(str(tmp_path / "b.aasx")) as reader:
        reader.read_into(store, aasx.DictSupplementaryFileContainer())

    assert read_package(ours, limit=1 << 20).interfaces == made.interfaces
    assert {type(one).__name__ for one in store} == {"AssetAdministrationShell", "Submodel"}
    assert write_package(made.interfaces, asset="did:web:supplier.example") == ours


def test_hostile_and_broken_packages_are_refused_with_a_code():
    def archive(**parts: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in parts.items():
                file.writestr(name.replace("__", "/"), data)
        return out.getvalue()

    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa">]><Relationships>&a;</Relationships>'
    for data in (b"PK\x03\x04nonsense", b"[]", b"{}", archive(x=b"y")):
        with pytest.raises(Skippable):
            read_package(data, limit=1 << 20)
    with pytest.raises(Refused):
        read_package(archive(**{"_rels__.rels": bomb}), limit=1 << 20)
    with pytest.raises(Skippable) as caught:
        read_package(archive(**{"_rels__.rels": b" " * (4 << 20)}), limit=1 << 20)
    assert caught.value.code == "connect.document-too-large"
