"""A describe stage over real keep and records, with a small catalogue in place of fuse."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette

sys.path.insert(0, str(Path(__file__).parent))
from describe_house import ME, SECOND, T0, Catalogue, Get, Rulebook, call, measurements, readings, signal

from guantong.describe.model import DescribeSettings
from guantong.describe.routes import aas_routes
from guantong.describe.service import Describe
from guantong.fuse.model import Correction, Part
from guantong.keep.service import Keep


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        listed=[
            signal(1, "Xload", unit="%"),
            signal(2, "count", "i64"),
            signal(3, "mode", "text"),
            signal(4, "door open", "bool"),
            signal(9, "Zload", source="mill-02"),
        ],
        known=[Part("box-2", "box", "2", (("fair", "A02"), ("incoming", "2")), ("serial-number",), 0.98)],
        corrected=[Correction("c7", "clock", "mill-01", "", T0, T0 + 9 * SECOND, {"offset_s": 37}, "clock-offset", 1)],
    )


@pytest.fixture
async def keep(tmp_path: Path, records, clock) -> AsyncIterator[Keep]:
    async with Keep(tmp_path / "keep", records, clock, inline=True) as kept:
        rows = [
            {"signal_id": 1, "at": T0 + n * SECOND, "value_f64": n + 0.1, "corrections": "c7" if n == 3 else None}
            for n in range(10)
        ]
        rows += [
            {"signal_id": 2, "at": T0 + n * SECOND, "value_i64": 9_007_199_254_740_993 + n, "sequence": n}
            for n in range(3)
        ]
        rows += [
            {"signal_id": 3, "at": T0, "value_text": 'AUTO "é" 中'},
            {"signal_id": 4, "at": T0 + SECOND, "value_bool": True},
            {"signal_id": 9, "at": T0, "status": 0x80000000},
        ]
        inspected = [
            {
                "part": "box-2",
                "model": "BOX",
                "value_f64": 10.01,
                "unit": "mm",
                "nominal": 10.0,
                "lower": 9.9,
                "upper": 10.1,
            },
            {"part": "box-2", "model": "BOX", "value_f64": 10.02, "unit": "mm", "source": "incoming", "report": "q"},
            {"part": "box-2", "model": "BOX", "value_text": "A02", "kind": "serial", "measured_time": T0 // 1000},
        ]
        await kept.store(ME, 1, readings=readings(rows), measurements=measurements(inspected))
        await kept.flush(ME)
        yield kept


@pytest.fixture
def rulebook() -> Rulebook:
    return Rulebook()


@pytest.fixture
def describe(records, keep: Keep, catalogue: Catalogue, clock, rulebook: Rulebook) -> Describe:
    return Describe(
        records, keep, catalogue, clock, rulebook, settings=DescribeSettings(base_url="http://node.example")
    )  # type: ignore[arg-type]


@pytest.fixture
def get(describe: Describe) -> Get:
    """``await get(path, subject=ME, raw=False)`` → status and JSON."""
    app = Starlette(routes=aas_routes(describe, lambda request: (ME, request.headers["x-subject"])))

    async def run(url: str, subject: str = ME, *, raw: bool = False) -> tuple[int, Any]:
        status, body = await call(app, url, subject)
        return status, body if raw else orjson.loads(body)

    return run
