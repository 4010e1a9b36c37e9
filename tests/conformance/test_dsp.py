"""The Dataspace Protocol kit's runner. The whole kit is ``make conformance``; here is what must hold for its result to mean anything."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "src" / "guantong"


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("dsp_run", HERE / "dsp" / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dsp_run"] = module
    spec.loader.exec_module(module)
    return module


def test_properties_that_make_the_kit_test_itself_are_refused(runner):
    with pytest.raises(SystemExit):
        runner.refuse_self_test({"dataspacetck.dsp.local.connector": "true"})


def test_the_persona_s_ids_never_occur_in_the_product():
    found = [
        path
        for path in SOURCE.rglob("*.py")
        if any(name in path.read_text("utf-8") for name in ("TCK_PARTICIPANT", "ACN0101", "ATP0101", "CD123"))
    ]

    assert found == []


async def test_the_persona_s_anonymous_callers_get_401_from_a_normal_node(runner, tmp_path):
    import aiohttp

    persona = runner.load_persona().Persona()
    await persona.start(tmp_path)
    try:
        persona.exchange.hosting.identify = persona.exchange.hosting.tokens.identify
        async with aiohttp.ClientSession() as session:
            for method, path in (
                ("POST", "/catalog/request"),
                ("GET", "/negotiations/x"),
                ("POST", "/transfers/request"),
            ):
                url = f"{persona.address}/dsp/2025-1{path}"
                async with session.request(method, url, data=b"{}", headers={"authorization": "anybody"}) as answer:
                    assert answer.status == 401
    finally:
        await persona.stop()


@pytest.mark.slow
async def test_without_the_node_the_kit_fails(runner, tool):
    tool("java"), tool("mvn")
    kits = os.environ.get("KITS")
    if not kits or not (Path(kits) / "dsp").is_dir():
        pytest.skip("KITS: the kit has not been fetched (make conformance fetches it)")

    passed, failed, _, served, _ = await runner.run(
        kits, "org.eclipse.dataspacetck.dsp.verification.metadata", stopped=True
    )

    assert (passed, failed > 0, served) == (0, True, 0)
