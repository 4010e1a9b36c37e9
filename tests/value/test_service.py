"""The two ledgers in their tables."""

from __future__ import annotations

from decimal import Decimal

import jsonschema_rs
import orjson
import pytest
from sqlalchemy import func, select

from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, Refused, Retryable
from guantong.records.tables import LEAVES
from guantong.value.model import ENTRY_KINDS, Meter, Meters, QualityFact, Rate
from guantong.value.service import Value, _add, appraisal_document, costs_document
from guantong.value.tables import APPRAISALS, COSTS

US, THEM = "did:web:supplier.example", "did:web:other.example"
HOUR = 3600 * NS


class House:
    """The counters of a node, as a test moves them."""

    def __init__(self, clock):
        self.clock = clock
        self.points, self.stored, self.hours = Decimal(0), Decimal(0), Decimal(0)
        self.quality_fact = QualityFact(90.0, 0.8, "ruleset sha256:1")

    async def meters(self, participant):
        return Meters(
            self.clock.now(),
            (
                Meter("points", self.points, "{point}", "keep.stats: rows"),
                Meter("stored-bytes", self.stored, "By", "keep.stats: bytes", cumulative=False),
                Meter("connector-hours", self.hours, "h", "connect.scorecards: connected"),
            ),
        )

    async def quality(self, participant, dataset_id):
        return self.quality_fact


@pytest.fixture
def house(clock):
    return House(clock)


@pytest.fixture
def value(records, clock, house):
    return Value(records, house.meters, house.quality, clock)


RATES = [
    Rate("points", Decimal("0.10"), "CNY", "internal allocation 2026", per=Decimal(1000)),
    Rate("stored-bytes", Decimal("0.0002"), "CNY", "disk price over 5 years", per=Decimal(1024**2)),
]


async def test_the_ledger_grows_by_what_was_used_and_prices_it_at_the_configured_rate(value, house, clock):
    await value.set_rates(US, RATES)
    await value.meter(US)
    house.points, house.stored, house.hours = Decimal(50_000), Decimal(2 * 1024**3), Decimal(1)
    clock.advance(3600)
    lines = await value.meter(US)
    again = await value.meter(US)
    sheet = await value.costs(US)

    assert {line.item: line.amount for line in lines} == {
        "points": Decimal("5.00"),
        "stored-bytes": Decimal("0.20"),  # mean of 0 and 2 GiB over one hour: 1024 MiB·h · 0.0002
        "connector-hours": None,
    }
    assert again == []
    assert sheet.totals == {"CNY": Decimal("5.20")}
    assert [line.item for line in sheet.unpriced] == ["connector-hours"]
    assert {line.source for line in lines} == {"keep.stats: rows", "keep.stats: bytes", "connect.scorecards: connected"}


async def test_a_new_rate_leaves_old_lines_alone(value, house, clock):
    await value.set_rates(US, RATES)
    house.points = Decimal(1000)
    await value.meter(US)
    await value.set_rates(US, [Rate("points", Decimal(9), "CNY", "new")])
    house.points = Decimal(1001)
    clock.advance(1)
    await value.meter(US)

    assert [line.amount for line in (await value.costs(US)).entries] == [Decimal("0.10"), Decimal("9.00")]


async def test_appraising_writes_nothing_into_the_cost_ledger(value, house, records):
    await value.set_rates(US, RATES)
    house.points = Decimal(1_000_000)
    await value.meter(US)
    before = await records.rows(select(COSTS))
    found = await value.appraise(US, "milling", delta=("0.8", "1", "1.5"), delta_source="board minute 12")
    (kept,) = await value.appraisals(US)

    assert await records.rows(select(COSTS)) == before
    assert kept == found
    assert (await value.costs(US)).totals == {"CNY": Decimal("100.00")}
    assert found.value.likely == Decimal("90.00")
    assert found.factors[1].source == "board minute 12"
    assert appraisal_document(found)["stamp"] == ["reference, not for booking", "仅供参考，不得作为入账依据"]


async def test_the_ledgers_tables_have_no_column_in_common_that_could_carry_a_value_over(records):
    amounts = {"amount", "rate", "quantity"}

    assert amounts <= set(COSTS.c.keys())
    assert not amounts & set(APPRAISALS.c.keys())
    assert not COSTS.foreign_keys
    assert not APPRAISALS.foreign_keys


async def test_an_appraisal_pushed_at_the_ledger_is_refused_before_anything_is_written(value, house, records):
    await value.set_rates(US, RATES)
    house.points = Decimal(1000)
    await value.meter(US)
    found = await value.appraise(US, "milling")
    with pytest.raises(TypeError, match="no line of the cost ledger"):
        async with records.step(US) as step:
            _add(step, [found])
    with pytest.raises(ConfigProblem):
        await value.purchase(US, "x", found.value, "CNY", voucher="v", start=0, end=1, source="s")

    assert (await records.rows(select(func.count().label("n")).select_from(COSTS)))[0]["n"] == 1


async def test_a_purchase_carries_its_voucher_and_a_correction_replaces_it_in_the_sum(value):
    first = await value.purchase(
        US,
        "quality assessment",
        Decimal("800.00"),
        "CNY",
        voucher="记-2026-11-031",
        start=0,
        end=HOUR,
        source="invoice 7",
    )
    await value.purchase(
        US,
        "quality assessment",
        Decimal("780.00"),
        "CNY",
        voucher="记-2026-11-044",
        start=0,
        end=HOUR,
        source="credit note",
        corrects=first.entry_id,
    )
    sheet = await value.costs(US)

    assert (first.grade, first.voucher) == ("high", "记-2026-11-031")
    assert sheet.totals == {"CNY": Decimal("780.00")}
    assert len(sheet.entries) == 2


async def test_a_correction_of_a_line_that_is_not_there_is_refused(value):
    with pytest.raises(Refused) as caught:
        await value.purchase(US, "x", Decimal(1), "CNY", voucher="v", start=0, end=1, source="s", corrects="none")

    assert caught.value.code == "value.cost-unknown"


@pytest.mark.parametrize(
    "rate",
    [
        Rate("points", Decimal(-1), "CNY", "s"),
        Rate("points", Decimal("NaN"), "CNY", "s"),
        Rate("points", Decimal(1), "cny", "s"),
        Rate("points", Decimal(1), "CNY", ""),
        Rate("points", Decimal(1), "CNY", "s", per=Decimal(0)),
        Rate("points", Decimal(1), "CNY", "s", grade="high"),
    ],
)
async def test_a_rate_that_says_too_little_is_refused(value, rate):
    with pytest.raises(ConfigProblem) as caught:
        await value.set_rates(US, [rate])

    assert caught.value.code == "value.rate-invalid"


async def test_participants_never_see_each_others_ledgers(value, house):
    await value.set_rates(US, RATES)
    house.points = Decimal(1000)
    await value.meter(US)

    assert (await value.costs(THEM)).entries == ()
    assert await value.rates(THEM) == []
    assert await value.appraisals(THEM) == []


async def test_two_readings_at_once_do_not_count_the_same_use_twice(value, house, clock):
    await value.set_rates(US, RATES)
    await value.meter(US)
    house.points = Decimal(1000)
    clock.advance(60)
    slow = value.records.step

    def meanwhile(participant):
        # while the first reading prepares its step, another one finishes
        value.records.step = slow
        step = slow(participant)
        raced.append(value.meter(US))
        return Racing(step, raced)

    raced: list = []
    value.records.step = meanwhile
    with pytest.raises(Retryable):
        await value.meter(US)

    assert (await value.costs(US)).totals == {"CNY": Decimal("0.10")}


class Racing:
    def __init__(self, step, raced):
        self.step, self.raced = step, raced

    async def __aenter__(self):
        await self.raced.pop()
        return await self.step.__aenter__()

    async def __aexit__(self, *facts):
        return await self.step.__aexit__(*facts)


async def test_entries_fit_their_schemas(value, house, records):
    await value.set_rates(US, RATES)
    house.points = Decimal(1000)
    await value.meter(US)
    await value.appraise(US, "milling")
    schemas = {kind.name: kind.schema for kind in ENTRY_KINDS}
    leaves = [orjson.loads(row["leaf"]) for row in await records.rows(select(LEAVES))]
    for leaf in leaves:
        jsonschema_rs.validator_for(dict(schemas[leaf["kind"]])).validate(leaf["body"])

    assert [leaf["kind"] for leaf in leaves] == ["value.cost-recorded", "value.appraised"]


async def test_the_ledger_as_json_has_every_line_and_every_sum_as_text(value, house, clock):
    await value.set_rates(US, RATES)
    house.points, house.hours = Decimal(5000), Decimal(1)
    await value.meter(US)
    document = orjson.loads(orjson.dumps(costs_document(await value.costs(US))))

    assert document["totals"] == {"CNY": "0.50"}
    assert document["by_item"] == [{"currency": "CNY", "item": "points", "amount": "0.50"}]
    assert {line["item"]: line["amount"] for line in document["entries"]} == {"points": "0.50", "connector-hours": None}
    assert len(document["unpriced"]) == 1
