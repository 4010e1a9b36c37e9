"""What keep promises about its values and its weight."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa

from guantong.base.batch import measurement_schema
from guantong.keep.model import MEASUREMENT_KEY, READINGS_KEY, clean_measurement_schema, clean_schema


def test_a_node_that_only_opens_keep_and_asks_how_it_is_loads_no_engine():
    code = (
        "import sys, tempfile, asyncio; from pathlib import Path\n"
        "from guantong.base.clock import SystemClock; from guantong.keep.service import Keep\n"
        "async def main():\n"
        "    async with Keep(Path(tempfile.mkdtemp()), None, SystemClock()) as keep:\n"
        "        await keep.stored('did:web:a'); assert (await keep.stats('did:web:a')).rows == 0\n"
        "asyncio.run(main())\n"
        "print([name for name in ('pyarrow', 'duckdb', 'deltalake', 'polars', 'obstore') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_clean_measurements_have_every_column_of_arriving_ones_and_say_where_they_come_from():
    arriving, clean = measurement_schema().names, clean_measurement_schema().names

    assert clean[: len(arriving)] == arriving
    assert clean[len(arriving) :] == ["source", "part", "revision", "corrections", "log_position"]


def test_no_value_column_is_squeezed_into_another():
    schema = clean_schema()

    assert [schema.field(f"value_{kind}").type for kind in ("f64", "i64", "text", "bool")] == [
        pa.float64(),
        pa.int64(),
        pa.string(),
        pa.bool_(),
    ]
    assert schema.field("status").type == pa.int64()  # 32 unsigned bits fit; Delta knows no unsigned


def test_the_keys_are_columns():
    assert set(READINGS_KEY) <= set(clean_schema().names)
    assert set(MEASUREMENT_KEY) <= set(clean_measurement_schema().names)
