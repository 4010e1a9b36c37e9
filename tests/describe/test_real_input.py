"""The day file of a real machine and real inspection reports, read, kept and fused, then described and graded."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from aas_core3_1 import jsonization, verification
from describe_house import ME, call
from starlette.applications import Starlette

from guantong.base.clock import SystemClock
from guantong.connect.service import Connect
from guantong.describe.model import Dataset, DescribeSettings
from guantong.describe.routes import aas_routes
from guantong.describe.service import Describe
from guantong.fuse.service import Fuse
from guantong.govern.model import SubjectFacts
from guantong.govern.service import Govern
from guantong.keep.service import Keep
from guantong.records import METADATA, Records

LINES = 4000


@pytest.fixture
def sample(data_dir: Path, tmp_path: Path) -> Path:
    """The first lines of the day file; the acceptance case reads all of them."""
    whole = data_dir / "nist_smstestbed" / "raw" / "Mazak01-20161129-20161130.txt"
    with whole.open("rb") as lines:
        part = b"".join(line for _, line in zip(range(LINES), lines, strict=False))
    path = tmp_path / whole.name
    path.write_bytes(part)
    return path


async def test_a_real_machine_is_described_graded_and_its_series_answers(sample, data_dir, tmp_path):
    clock = SystemClock()
    records = Records(f"sqlite:///{tmp_path / 'records.db'}", clock)
    records.open(METADATA.create_all)
    keep = Keep(tmp_path / "keep", records, clock)
    await keep.start()
    fuse = Fuse(records, keep, clock)
    connect = Connect(records, keep, clock, None)  # type: ignore[arg-type] # files need no network
    govern = Govern(records, clock)
    describe = Describe(
        records, keep, fuse, clock, govern.allows, settings=DescribeSettings(base_url="http://node.example")
    )
    try:
        await connect.import_file(ME, "mazak01", sample)
        for report in sorted((data_dir / "nist_smstestbed" / "tdp_mtc" / "FAIR").glob("*.qif")):
            await connect.import_file(ME, "fair", report)
        await fuse.drain(ME)
        await keep.flush(ME)
        signals = [one for one in await fuse.signals(ME) if one.source == "mazak01"]
        parts = await fuse.parts(ME)
        counted = (await keep.range(ME, [one.id for one in signals], None, None)).num_rows

        await describe.write_shells(ME)
        await describe.define(ME, Dataset("mill", "Mill", "铣床", signals=tuple(one.id for one in signals)))
        app = Starlette(routes=aas_routes(describe, lambda request: (ME, request.headers["x-subject"])))

        async def get(url: str, subject: str = ME) -> tuple[int, object]:
            status, body = await call(app, url, subject)
            return status, orjson.loads(body)

        shells = [one["assetInformation"] for one in (await describe.shells(ME)).items]
        assert len(shells) == 1 + len(parts)
        assert parts
        for one in (await describe.submodels(ME, limit=1000)).items:
            assert not list(verification.verify(jsonization.submodel_from_jsonable(one)))

        # the segment's own address answers with every reading that the tables hold
        series = next(one for one in (await describe.submodels(ME)).items if one["idShort"] == "TimeSeries")
        segment = next(one for one in series["submodelElements"] if one["idShort"] == "Segments")["value"][0]["value"]
        fields = {one["idShort"]: one.get("value") for one in segment}
        url, walked, cursor = (
            f"{fields['Endpoint']}?{fields['Query']}&limit=2000".removeprefix("http://node.example"),
            0,
            "",
        )
        for _ in range(10):
            status, page = await get(url + cursor)
            assert status == 200
            walked += len(page["records"])  # type: ignore[index]
            if "cursor" not in page["paging_metadata"]:  # type: ignore[index]
                break
            cursor = f"&cursor={page['paging_metadata']['cursor']}"  # type: ignore[index]
        assert walked == counted > LINES / 2
        assert (await get(url, "did:web:stranger.example"))[0] == 403
        assert (await get(url, ""))[0] == 401

        table = pa.Table.from_batches([batch async for batch in describe.rows(ME, "mill")])
        assert table.num_rows == counted
        place = table.num_rows // 2
        trace = await describe.trace(
            ME, table["signal_id"][place].as_py(), table["source_time"].cast(pa.int64())[place].as_py()
        )
        assert any(edge.source.startswith("keep:batch:mazak01/") for edge in trace.edges)
        assert any(edge.target == "describe:dataset:mill" for edge in trace.edges)

        graded = await govern.classify(
            ME,
            [
                SubjectFacts(f"signal:{one.id}", one.name or one.native_id, one.path, one.unit, table="mill")
                for one in signals
            ],
        )
        by_name = {one.native_id: graded[place] for place, one in enumerate(signals)}
        assert by_name["Xload"].subclass == "production.state"
        assert by_name["program"].subclass == "production.control"
        assert by_name["Xfrt"].subclass == "production.process-parameter"
        assert {one.status for one in graded} == {"general"}
        assert all(not one.personal for one in graded)
    finally:
        await keep.stop()
        records.close()
