"""The watch over a real keep and fuse: what went through the log is what the figures stand on."""

from __future__ import annotations

import jsonschema_rs
import numpy as np
import orjson
import pytest
from sqlalchemy import select
from tests.watch.conftest import US, House
from tests.watch.test_drift import plant

from guantong.base.clock import NS, parse_iso
from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.connect.service import Connect
from guantong.exchange.model import Agreement, Question
from guantong.fuse.service import Fuse
from guantong.keep.model import KeepSettings
from guantong.keep.service import Keep
from guantong.records import METADATA, Records
from guantong.records.tables import LEAVES
from guantong.watch.model import DAYS_OF_SUPPLY, ENTRY_KINDS, EnergyFactor, Supply, WatchSettings
from guantong.watch.service import Watch

T0 = parse_iso("2026-11-24T00:00:00Z")
HOUR = 3600 * NS
SUPPLIER = "did:web:supplier.example"


async def bodies(records, participant=US):
    """Recorded entries of this room, each checked against its schema."""
    schemas = {kind.name: kind.schema for kind in ENTRY_KINDS}
    rows = await records.rows(select(LEAVES).where(LEAVES.c.participant == participant).order_by(LEAVES.c.number))
    found = [leaf for leaf in (orjson.loads(row["leaf"]) for row in rows) if leaf["kind"] in schemas]
    for leaf in found:
        jsonschema_rs.validator_for(dict(schemas[leaf["kind"]])).validate(leaf["body"])
    return [(leaf["kind"], leaf["body"]) for leaf in found]


async def test_a_real_milling_machines_day_gives_its_states_and_availability(house, records, clock, data_dir):
    """Mazak01, 2016-11-29: the truth is counted from the lines of the file, without product code."""
    path = data_dir / "nist_smstestbed" / "raw" / "Mazak01-20161129-20161130.txt"
    connect = Connect(records, house.keep, clock, None)  # type: ignore[arg-type] # reading a file needs no network
    await connect.import_file(US, "mazak01", path)
    await house.fuse.drain(US)
    start, end = parse_iso("2016-11-29T09:00:00Z"), parse_iso("2016-11-29T20:00:00Z")
    (found,) = await house.watch.availability(US, start=start, end=end)
    changes = []
    for line in path.read_text(encoding="utf-8").splitlines():
        at, key, value = line.split("|")[:3]
        if key == "execution":
            changes.append((parse_iso(at), value))
    changes.sort()
    active = known = 0
    for (at, state), until in zip(changes, [*(at for at, _ in changes[1:]), end], strict=True):
        length = max(0, min(until, end) - max(at, start))
        known += length * (state != "UNAVAILABLE")
        active += length * (state == "ACTIVE")
    fault = found.durations_s.get("FAULT", 0.0)

    assert found.machine == "mazak01"
    assert active / NS - fault <= found.durations_s["ACTIVE"] <= active / NS
    assert found.availability.value == pytest.approx(active / known, abs=fault * NS / known)
    assert found.availability.coverage == pytest.approx(known / (end - start))
    assert found.faults == 1
    assert sum(found.durations_s.values()) == pytest.approx((end - start) / NS)


async def test_a_machine_without_execution_has_no_availability(house):
    await house.feed("m", [{"signal": "x", "source_time": T0 + n * NS, "value_f64": 1.5 + n} for n in range(5)])

    assert await house.watch.availability(US) == []


def history(seed, *, drift_from=None, drift_to=None, frozen=None, rows=1200, channels=12, step=10 * NS):
    """Correlated channels of one machine as readings, each at moments of its own; trouble planted where asked."""
    rng = np.random.default_rng(seed)
    values = plant(rng, rows, channels)
    if drift_from is not None:
        values[drift_from:drift_to, 4] += 6 * values[:, 4].std() * np.linspace(0, 1, drift_to - drift_from)
    if frozen is not None:
        values[frozen[0] : frozen[1], 7] = values[frozen[0], 7]
    offsets = rng.integers(0, step, channels)
    readings = [
        {
            "signal": f"c{channel:02d}",
            "source_time": T0 + row * step + int(offsets[channel]),
            "value_f64": float(values[row, channel]),
            "sequence": row * channels + channel,
        }
        for row in range(rows)
        for channel in range(channels)
    ]
    readings.sort(key=lambda reading: reading["source_time"])
    return readings


async def test_a_drift_is_found_once_by_its_channel_while_a_frozen_value_raises_none(house, records):
    step = 10 * NS
    await house.feed("mill", history(3, drift_from=800, drift_to=1000, frozen=(560, 700)))
    frozen = await house.fuse.findings(US, kinds=["frozen"])
    found = await house.watch.warnings(US)
    again = await house.watch.warnings(US)

    assert [item.signal for item in frozen] == ["c07"]
    assert [(item.kind, item.source, item.signal) for item in found] == [("drift", "mill", "c04")]
    assert T0 + 800 * step <= found[0].start < T0 + 930 * step
    assert T0 + 990 * step <= found[0].end < T0 + 1020 * step
    assert found[0].facts["channels"][0]["signal"] == "c04"
    assert again == found
    assert await house.watch.recorded_warnings(US) == found
    assert [kind for kind, _ in await bodies(records)] == ["watch.warned"]


async def test_a_history_without_trouble_raises_no_warning(house):
    await house.feed("mill", history(4))

    assert await house.watch.warnings(US) == []


async def test_a_short_history_has_no_model_rather_than_a_guess(house):
    await house.feed("mill", history(5, rows=25, drift_from=10, drift_to=24))

    assert await house.watch.warnings(US) == []


async def test_more_readings_than_one_answer_holds_are_looked_at_in_buckets(tmp_path, records, clock):
    async with Keep(tmp_path / "small", records, clock, KeepSettings(query_rows_max=5000)) as keep:
        fuse = Fuse(records, keep, clock)
        watch = Watch(records, keep, fuse, clock)
        small = House(keep, fuse, watch)
        await small.feed("mill", history(3, drift_from=800, drift_to=1000))
        with pytest.raises(Refused):
            await keep.range(US, None, None, None)
        found = await watch.warnings(US)

    assert [(item.source, item.signal) for item in found] == [("mill", "c04")]


async def test_energy_of_a_counter_becomes_carbon_with_its_factor(house):
    note = {"units": {"kwh": "kWh"}}
    rows = [{"signal": "kwh", "source_time": T0 + n * HOUR, "value_f64": 1000.0 + 25.0 * n} for n in range(9)]
    await house.feed("meter", rows, note)
    (found,) = await house.watch.energy(US, start=T0, end=T0 + 8 * HOUR + 1)
    own = EnergyFactor("contract", "wind", 0.01, "CO2e", "contractual", 2026, "certificate 9", True)
    (other,) = await house.watch.energy(US, start=T0, end=T0 + 8 * HOUR + 1, factor=own)

    assert found.energy.value == pytest.approx(200.0)
    assert found.emission.value == pytest.approx(200 * 0.5366)
    assert found.energy.source == "meter: kwh"
    assert (other.emission.value, other.emission.unit) == (pytest.approx(2.0), "kgCO2e")


async def test_apparent_power_is_not_counted_as_energy(house):
    await house.feed(
        "meter",
        [{"signal": "s", "source_time": T0 + n * HOUR, "value_f64": 5.5} for n in range(3)],
        {"units": {"s": "kVA"}},
    )

    assert await house.watch.energy(US) == []


# two companies


def agreement(role: str, partner: str) -> Agreement:
    return Agreement(
        id="urn:uuid:a1", role=role, partner=partner, partner_address="https://x", dataset_id="d", product_id="p",
        agreement={}, agreement_hash="", policy_hash="", terms="", price={}, state="final", agreed_at=0, negotiation_pid="n",
    )  # fmt: skip


@pytest.fixture
async def two(house, clock):
    """Our watch, and that of a supplier with records of its own; the exchange between them is a call."""
    records = Records("sqlite://", clock, inline=True)
    records.open(METADATA.create_all)
    supplier = Watch(records, house.keep, house.fuse, clock)
    wire = []

    async def ask(participant, agreement_id, kind, body):
        assert kind == DAYS_OF_SUPPLY
        wire.append(dict(body))
        answer = await supplier.answer(SUPPLIER, Question(kind, participant, agreement("provider", participant), body))
        wire.append(dict(answer.body))
        return answer.body

    ours = Watch(house.watch.records, house.keep, house.fuse, clock, ask=ask)
    yield ours, supplier, wire
    records.close()


OURS = [
    Supply("gear", 40, 10, partner=SUPPLIER, agreement_id="urn:uuid:a1", partner_component="G-17"),
    Supply("housing", 90, 10),
    Supply("gearbox", 25, 10, ("gear", "housing"), end_product=True),
]
THEIRS = [Supply("steel", 60, 10), Supply("G-17", 30, 10, ("steel",))]


async def test_two_companies_learn_how_long_supply_lasts_from_one_scalar(two, house):
    """Steel 6 d + gear at the supplier 3 d; our gears 4 d, our gearboxes 2.5 d: at least 15.5 days."""
    ours, supplier, wire = two
    await ours.set_supply(US, OURS)
    await supplier.set_supply(SUPPLIER, THEIRS)
    (found,) = await ours.time_to_survive(US, "steel")
    (at_once,) = await ours.time_to_survive(US, "gear")

    assert found.figure.value == 15.5
    assert found.days == {"gear": 13.0, "gearbox": 15.5}
    assert at_once.figure.value == 9.5  # the supplier's own stock of gears, ours, and the gearboxes
    assert found.lower_bound
    assert wire[0] == {"component": "G-17", "disrupted": "steel"}
    assert set(wire[1]) == {"component", "days", "unit", "lowerBound", "asOf"}
    assert (wire[1]["days"], wire[3]["days"]) == ("9.000", "3.000")
    assert sorted(row["days"] for row in await ours.scalars(US)) == ["3.000", "9.000"]
    assert [kind for kind, _ in await bodies(ours.records)] == ["watch.days-asked"] * 2
    assert [kind for kind, _ in await bodies(supplier.records, SUPPLIER)] == ["watch.days-answered"] * 2


async def test_a_stop_of_our_own_component_asks_nobody(two):
    ours, _, wire = two
    await ours.set_supply(US, OURS)
    (found,) = await ours.time_to_survive(US, "housing")

    assert (found.figure.value, wire, found.lower_bound) == (11.5, [], False)


async def test_what_does_not_touch_the_partner_leaves_us_unaffected(two):
    ours, supplier, _ = two
    await ours.set_supply(US, OURS)
    await supplier.set_supply(SUPPLIER, [*THEIRS, Supply("paint", 1, 1)])

    assert await ours.time_to_survive(US, "paint") == []


async def test_a_component_nobody_knows_is_refused_by_name(two):
    ours, supplier, _ = two
    await ours.set_supply(US, [OURS[1]])
    with pytest.raises(Skippable) as caught:
        await ours.time_to_survive(US, "moon dust")
    with pytest.raises(Skippable) as theirs:
        await supplier.answer(SUPPLIER, Question(DAYS_OF_SUPPLY, US, agreement("provider", US), {"component": "x"}))

    assert caught.value.code == theirs.value.code == "watch.component-unknown"


async def test_an_answer_that_is_no_number_of_days_is_refused(house, clock):
    async def ask(participant, agreement_id, kind, body):
        return {"component": body["component"], "days": "a while"}

    ours = Watch(house.watch.records, house.keep, house.fuse, clock, ask=ask)
    await ours.set_supply(US, OURS)
    with pytest.raises(Refused) as caught:
        await ours.time_to_survive(US, "gear")

    assert caught.value.code == "watch.partner-silent"
    assert await ours.scalars(US) == []


async def test_a_partner_can_not_probe_the_chain_without_end(house, clock):
    supplier = Watch(house.watch.records, house.keep, house.fuse, clock, WatchSettings(questions_per_day=2))
    await supplier.set_supply(SUPPLIER, THEIRS)
    question = Question(DAYS_OF_SUPPLY, US, agreement("provider", US), {"component": "G-17"})
    for _ in range(2):
        await supplier.answer(SUPPLIER, question)
    with pytest.raises(Refused) as caught:
        await supplier.answer(SUPPLIER, question)
    clock.advance(86_400)
    later = await supplier.answer(SUPPLIER, question)

    assert caught.value.code == "records.limit-reached"
    assert later.body["days"] == "3.000"


async def test_a_broken_table_is_refused_and_the_old_one_stays(two):
    ours, _, _ = two
    await ours.set_supply(US, OURS)
    with pytest.raises(ConfigProblem):
        await ours.set_supply(US, [Supply("a", 1, 0)])

    assert [supply.component for supply in await ours.supply(US)] == ["gear", "gearbox", "housing"]
    assert sorted(await ours.supply(US), key=lambda s: s.component) == sorted(OURS, key=lambda s: s.component)
