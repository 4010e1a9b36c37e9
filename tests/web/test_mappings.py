"""Mappings over the pages' own ways: written in TOML, shown in force, out and in as AASX that an independent library reads, taken away."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guantong.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="session")

SignedIn = Callable[[Node], Any]
WRITTEN = 'name = "lamp"\nsources = ["nowhere/word"]\nsinks = ["on", "mode"]\nsteps = [{ bits = { on = 0, mode = [4, 3] } }]\n'


async def test_a_mapping_is_put_in_force_shown_exported_imported_and_taken_away(
    world: tuple[Node, Node], signed_in: SignedIn, tmp_path: Path
) -> None:
    node, _ = world
    browser = await signed_in(node)
    answer = await browser.act("/mappings/set", mapping=WRITTEN)
    shown = [one for one in (await browser.get("/api/mappings")).json["in_force"] if one["name"] == "lamp"]
    page = (await browser.get("/mappings")).text
    wrong = await browser.act("/mappings/set", mapping=WRITTEN.replace("bits", "beats"))
    package = b64decode((await browser.act("/api/mappings/export")).json["package"])
    path = tmp_path / "out.aasx"
    path.write_bytes(package)
    await browser.act("/mappings/remove", name="lamp")
    gone = [one["name"] for one in (await browser.get("/api/mappings")).json["in_force"]]
    again = (await browser.act("/api/mappings/import", path=str(path))).json
    await browser.act("/mappings/remove", name="lamp")

    assert (answer.status, answer.header("location")) == (303, "/mappings")
    assert (shown[0]["sources"], shown[0]["sinks"]) == (["nowhere/word"], ["on", "mode"])
    assert "lamp" in page
    assert (wrong.status, "no step" in wrong.text) == (400, True)
    assert "lamp" not in gone
    assert "lamp" in again["set"]

    from basyx.aas import adapter, model

    objects: model.DictIdentifiableStore[Any] = model.DictIdentifiableStore()
    with adapter.aasx.AASXReader(io.BytesIO(package)) as reader:
        reader.read_into(objects, adapter.aasx.DictSupplementaryFileContainer())
    submodel = next(one for one in objects if getattr(one, "id_short", "") == "AssetInterfacesMappingConfiguration")
    names = [item.display_name["en"] for item in submodel.get_referable("MappingConfigurations").value]
    assert "lamp" in names


@pytest.mark.parametrize("path", ["nothing.aasx", "text.json"])
async def test_a_file_without_mappings_is_refused_with_its_reason(
    world: tuple[Node, Node], signed_in: SignedIn, tmp_path: Path, path: str
) -> None:
    node, _ = world
    browser = await signed_in(node)
    (tmp_path / "text.json").write_text('{"modelType": "Submodel", "idShort": "Nameplate"}')
    answer = await browser.act("/api/mappings/import", path=str(tmp_path / path))

    assert answer.status >= 400
    assert answer.json["code"] in ("connect.file-unreadable", "connect.interface-unreadable")
