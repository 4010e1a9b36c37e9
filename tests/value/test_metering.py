"""The meters of a real keep and connect, and the ledger that grows from them."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from guantong.base.batch import GOOD, Batch, reading_schema
from guantong.base.clock import NS
from guantong.connect.service import Connect
from guantong.fuse.service import Fuse
from guantong.govern.service import Govern
from guantong.keep.service import Keep
from guantong.value.metering import meters_of, read_meters, read_quality
from guantong.value.model import Rate
from guantong.value.service import Value

US = "did:web:supplier.example"


async def test_what_is_kept_costs_what_its_points_and_bytes_cost(tmp_path, records, clock):
    rows = [
        {
            "signal": "s",
            "source_time": clock.now() + n * NS,
            "receive_time": clock.now() + n * NS,
            "value_f64": n + 0.5,
            "status": GOOD,
        }
        for n in range(500)
    ]
    columns = {name: [row.get(name) for row in rows] for name in reading_schema().names}
    async with Keep(tmp_path / "keep", records, clock) as keep:
        fuse = Fuse(records, keep, clock)
        connect = Connect(records, keep, clock, None)  # type: ignore[arg-type] # nothing is connected here
        value = Value(
            records,
            read_meters(keep, connect, clock, compute_s=lambda: 2.5),
            read_quality(Govern(records, clock)),
            clock,
        )
        await value.set_rates(US, [Rate("points", Decimal(2), "CNY", "allocation", per=Decimal(1000))])
        await value.meter(US)
        await keep.take(US, Batch("m", "readings", pa.record_batch(columns, schema=reading_schema()), {}))
        await fuse.drain(US)
        clock.advance(3600)
        lines = {line.item: line for line in await value.meter(US)}

    assert (lines["points"].quantity, lines["points"].amount) == (Decimal(500), Decimal("1.00"))
    assert lines["stored-bytes"].unit == "By.h"
    assert lines["stored-bytes"].quantity > 0
    assert lines["stored-bytes"].amount is None
    assert lines["points"].end - lines["points"].start == 3600 * NS


async def test_a_rate_for_connector_hours_prices_every_source(records, clock):
    hours = Decimal(0)

    async def read(participant):
        from guantong.value.model import Meter, Meters

        return Meters(
            clock.now(), tuple(Meter(f"connector-hours/{name}", hours, "h", "connect") for name in ("a", "b"))
        )

    value = Value(records, read, read_quality(Govern(records, clock)), clock)
    await value.set_rates(US, [Rate("connector-hours", Decimal(3), "CNY", "allocation")])
    await value.meter(US)
    hours = Decimal(2)
    lines = await value.meter(US)

    assert [line.amount for line in lines] == [Decimal("6.00"), Decimal("6.00")]


async def test_what_was_never_scored_has_no_quality(records, clock):
    assert await read_quality(Govern(records, clock))(US, "milling") is None


def test_a_source_that_is_not_connected_counts_no_hours(clock):
    from guantong.connect.model import Scorecard
    from guantong.keep.model import KeepStats

    stats = KeepStats(**dict.fromkeys(KeepStats.__dataclass_fields__, 0))
    facts = dict.fromkeys(Scorecard.__dataclass_fields__, 0)
    on = Scorecard(**{**facts, "source": "a", "connected": True, "since": clock.now() - 7200 * NS})
    off = Scorecard(**{**facts, "source": "b", "connected": False, "since": clock.now() - 7200 * NS})
    found = {meter.name: meter.value for meter in meters_of(stats, [on, off], 0.0, at=clock.now()).meters}

    assert (found["connector-hours/a"], found["connector-hours/b"]) == (2, 0)
