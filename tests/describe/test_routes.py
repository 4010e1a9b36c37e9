"""The read API as a foreign client sees it. Status codes and forms are those of IDTA-01002 v3.1.2."""

from __future__ import annotations

from urllib.parse import quote

import orjson
import pytest
from aas_core3_1 import jsonization, verification
from describe_house import ME, PARTNER, call
from starlette.applications import Starlette

from guantong.base.canonical import b64url
from guantong.describe.routes import aas_routes
from guantong.describe.service import Describe

API = "/api/v3.1"


def key(id: str) -> str:
    return b64url(id.encode())


@pytest.fixture
async def ids(describe) -> dict[str, str]:
    """Ids of the first machine's documents by idShort."""
    await describe.write_shells(ME)
    found = {one["idShort"]: one["id"] for one in (await describe.shells(ME)).items}
    for one in (await describe.submodels(ME)).items:
        found.setdefault(one["idShort"], one["id"])
    return found


async def test_shells_and_submodels_parse_as_the_metamodel(get, ids):
    status, shells = await get(f"{API}/shells")
    _, submodels = await get(f"{API}/submodels")

    assert status == 200
    assert len(shells["result"]) == 3
    assert shells["paging_metadata"] == {}
    for one in shells["result"]:
        assert not list(verification.verify(jsonization.asset_administration_shell_from_jsonable(one)))
    for one in submodels["result"]:
        assert not list(verification.verify(jsonization.submodel_from_jsonable(one)))


async def test_live_values_are_merged_at_read(get, ids):
    base = f"{API}/submodels/{key(ids['OperationalData'])}"
    _, load = await get(f"{base}/submodel-elements/Xload.Value")
    status, value = await get(f"{base}/submodel-elements/Xload/$value", raw=True)
    _, count = await get(f"{base}/submodel-elements/count.Value/$value", raw=True)
    _, door = await get(f"{base}/submodel-elements/door_open.Value/$value")
    _, mode = await get(f"{base}/submodel-elements/mode.Value/$value")

    assert load["value"] == "9.1"
    assert status == 200
    assert b'"Value":9.1' in value
    assert b'"Time":"2026-11-24T07:00:09.123456789Z"' in value
    assert count == b"9007199254740995"
    assert door is True
    assert mode == 'AUTO "é" 中'


async def test_a_bad_reading_has_a_status_and_no_value(get, describe, ids):
    _, page = await get(f"{API}/submodels?idShort=OperationalData")
    other = next(one for one in page["result"] if "mill-02" in one["id"])
    _, value = await get(f"{API}/submodels/{key(other['id'])}/$value")

    assert value["Zload"]["Status"] == 0x80000000
    assert "Value" not in value["Zload"]


async def test_the_linked_segment_really_answers(get, ids):
    base = f"{API}/submodels/{key(ids['TimeSeries'])}"
    _, segment = await get(f"{base}/submodel-elements/Segments.LinkedSegment/$value")
    url = f"{segment['Endpoint']}?{segment['Query']}"
    status, answer = await get(url.removeprefix("http://node.example"))

    assert segment["EndTime"] == "2026-11-24T07:00:09.123456789Z"
    assert status == 200
    assert len(answer["records"]) == 15
    assert answer["records"][0] == {
        "signal": "Xload", "signalId": 1, "time": "2026-11-24T07:00:00.123456789Z", "value": "0.1", "unit": "%", "status": 0,
    }  # fmt: skip


async def test_linked_readings_can_be_walked_in_pages_without_loss_or_repeat(get, ids):
    path = f"/guantong/series/{key(ids['TimeSeries'])}?limit=4"
    _, whole = await get(f"/guantong/series/{key(ids['TimeSeries'])}")
    walked: list[object] = []
    cursor = ""
    for _ in range(10):
        _, page = await get(path + cursor)
        walked += page["records"]
        if "cursor" not in page["paging_metadata"]:
            break
        cursor = f"&cursor={page['paging_metadata']['cursor']}"

    assert walked == whole["records"]


async def test_linked_readings_are_cut_by_time_and_signal_and_refuse_strangers(get, ids):
    path = f"/guantong/series/{key(ids['TimeSeries'])}"
    _, cut = await get(f"{path}?signals=1&start=2026-11-24T07:00:02Z&end=2026-11-24T07:00:05Z")
    status, _ = await get(f"{path}?signals=9")
    bad = [(await get(f"{path}?{query}"))[0] for query in ("signals=x", "start=never", "limit=0", "cursor=AAAA")]

    assert [one["value"] for one in cut["records"]] == ["2.1", "3.1", "4.1"]
    assert status == 400
    assert bad == [400, 400, 400, 400]


async def test_pages_are_walked_by_an_opaque_cursor_without_loss_or_repeat(get, describe, ids):
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        _, page = await get(f"{API}/submodels?limit=1{cursor}")
        seen += [one["id"] for one in page["result"]]
        # writing again between the pages must not disturb the order
        await describe.set_nameplate(ME, "mill-01", {"SerialNumber": str(len(seen))})
        await describe.write_shells(ME)
        if "cursor" not in page["paging_metadata"]:
            break
        cursor = f"&cursor={page['paging_metadata']['cursor']}"

    assert len(seen) == len(set(seen)) == 8


async def test_the_last_page_has_no_cursor_even_when_exactly_full(get, ids):
    _, page = await get(f"{API}/shells?limit=3")

    assert len(page["result"]) == 3
    assert page["paging_metadata"] == {}


BAD = [
    (f"{API}/shells?limit=0", 400),
    (f"{API}/shells?limit=-1", 400),
    (f"{API}/shells?limit=x", 400),
    (f"{API}/shells?cursor=x", 400),
    (f"{API}/shells?cursor=AAAA", 400),
    (f"{API}/shells?assetIds=x", 400),
    (f"{API}/submodels?semanticId=AAAA", 400),
    (f"{API}/submodels?level=wide", 400),
    (f"{API}/submodels/$metadata?level=core", 400),
    (f"{API}/shells/%C3%A4", 400),
    (f"{API}/shells/{b64url(b'urn:none')}", 404),
    (f"{API}/submodels/{b64url(b'urn:none')}", 404),
    (f"{API}/submodels/{b64url(b'urn:none')}/submodel-elements", 404),
]


async def test_bad_requests_get_the_right_code_and_exactly_messages(get, ids):
    for url, status in BAD:
        found, body = await get(url)

        assert found == status, url
        assert set(body) == {"messages"}
        message = body["messages"][0]
        assert set(message) == {"code", "messageType", "text", "timestamp"}
        assert len(message["code"]) <= 32
        assert message["timestamp"].endswith("Z")


async def test_element_paths_that_lead_nowhere_are_told_from_bad_ones(get, ids):
    for path, status in (("Nope", 404), ("a..b", 400), ("[0]", 400), (".Segments", 400), ("Segments[0]", 404)):
        found, _ = await get(f"{API}/submodels/{key(ids['TimeSeries'])}/submodel-elements/{path}")

        assert found == status, path


async def test_list_members_are_reached_by_index_also_percent_encoded(get, ids):
    base = f"{API}/submodels/{key(ids['PartMeasurements'])}/submodel-elements"
    path = "Companies[0].Measurements[0].Value"
    _, plain = await get(f"{base}/{path}/$value")
    _, _ = await get(f"{base}/{quote(path)}/$value")
    _, reference = await get(f"{base}/{path}/$reference")

    assert plain == 10.01
    assert [(one["type"], one["value"]) for one in reference["keys"]] == [
        ("Submodel", ids["PartMeasurements"]),
        ("SubmodelElementList", "Companies"),
        ("SubmodelElementCollection", "0"),
        ("SubmodelElementList", "Measurements"),
        ("SubmodelElementCollection", "0"),
        ("Property", "Value"),
    ]


async def test_elements_come_in_pages_and_as_an_object_of_values(get, ids):
    base = f"{API}/submodels/{key(ids['TimeSeries'])}/submodel-elements"
    _, first = await get(f"{base}?limit=1")
    _, second = await get(f"{base}?limit=1&cursor={first['paging_metadata']['cursor']}")
    _, values = await get(f"{base}/$value")
    _, core = await get(f"{base}?level=core")

    assert [one["idShort"] for one in (*first["result"], *second["result"])] == ["Metadata", "Segments"]
    assert second["paging_metadata"] == {}
    assert set(values["result"]) == {"Metadata", "Segments"}
    assert "value" not in core["result"][1]["value"][0]


async def test_shells_are_found_by_the_serial_number_of_their_asset(get, describe, ids):
    def asked(name: str, value: str) -> str:
        return b64url(orjson.dumps({"name": name, "value": value}))

    _, part = await get(f"{API}/shells?assetIds={asked('serialNumber', '2')}&assetIds={asked('part', 'box-2')}")
    _, none = await get(f"{API}/shells?assetIds={asked('serialNumber', '2')}&assetIds={asked('source', 'mill-01')}")
    _, all_of = await get(f"{API}/shells/{key(part['result'][0]['id'])}/submodel-refs")
    _, information = await get(f"{API}/shells/{key(part['result'][0]['id'])}/asset-information")

    assert [one["idShort"] for one in part["result"]] == ["box_2"]
    assert none["result"] == []
    assert len(all_of["result"]) == 2
    assert information["assetKind"] == "Instance"


async def test_submodels_are_reached_through_their_own_shell_only(get, ids):
    series = key(ids["TimeSeries"])
    good, _ = await get(f"{API}/shells/{key(ids['mill_01'])}/submodels/{series}")
    other, _ = await get(f"{API}/shells/{key(ids['mill_02'])}/submodels/{series}")

    assert (good, other) == (200, 404)


async def test_the_description_claims_no_profile_that_is_not_whole(get, ids):
    assert await get(f"{API}/description") == (200, {"profiles": []})


async def test_without_a_wired_decision_everything_is_denied(records, keep, catalogue, clock):
    bare = Describe(records, keep, catalogue, clock)
    await bare.write_shells(ME)
    app = Starlette(routes=aas_routes(bare, lambda request: (ME, request.headers["x-subject"])))
    shell = (await bare.shells(ME)).items[0]["id"]
    submodel = (await bare.submodels(ME)).items[0]["id"]
    paths = {route.path for route in aas_routes(bare, lambda request: (ME, ""))}
    for path in paths:
        url = path.replace("{shell}", key(shell)).replace("{submodel}", key(submodel)).replace("{path}", "SerialNumber")
        assert (await call(app, url, ME))[0] == 403, path
        assert (await call(app, url, ""))[0] == 401, path


async def test_a_partner_sees_only_what_was_allowed(get, rulebook, ids):
    shell = ids["mill_01"]
    before, body = await get(f"{API}/shells/{key(shell)}", PARTNER)
    rulebook.allowed |= {(PARTNER, "list", "node:aas"), (PARTNER, "read", f"shell:{shell}")}
    _, page = await get(f"{API}/shells", PARTNER)
    _, none = await get(f"{API}/submodels", PARTNER)
    hidden, _ = await get(f"{API}/shells/{key(shell)}/submodels/{key(ids['TimeSeries'])}", PARTNER)

    assert before == 403
    assert set(body) == {"messages"}
    assert [one["id"] for one in page["result"]] == [shell]
    assert none["result"] == []
    assert hidden == 403


async def test_a_stranger_cannot_tell_what_exists(get, ids):
    real, _ = await get(f"{API}/shells/{key(ids['mill_01'])}", PARTNER)
    unreal, _ = await get(f"{API}/shells/{key('urn:none')}", PARTNER)

    assert real == unreal == 403
