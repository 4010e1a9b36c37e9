"""Days of supply asked under an agreement over two real exchanges: tokens, answer and record included."""

from __future__ import annotations

import pytest
from tests.exchange.conftest import Company, Network, _agreed

from guantong.base.clock import SystemClock
from guantong.base.errors import Refused
from guantong.exchange.model import ExchangeSettings
from guantong.records import METADATA, Records
from guantong.watch.model import DAYS_OF_SUPPLY, Supply
from guantong.watch.service import Watch


@pytest.fixture
async def pair(house):
    network, clock, made = Network(), SystemClock(), []
    for host in ("localhost:7201", "localhost:7202"):
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        company = Company(network, host, records, clock, ExchangeSettings())
        company.watch = Watch(records, house.keep, house.fuse, clock, ask=company.exchange.ask)
        company.exchange.answer(DAYS_OF_SUPPLY, company.watch)
        await company.start()
        made.append(company)
    yield made
    for company in made:
        await company.stop()
        company.records.close()


async def test_one_scalar_crosses_and_nothing_else_of_the_chain(pair):
    supplier, customer = pair
    agreement_id = await _agreed(supplier, customer)
    await supplier.watch.set_supply(supplier.did, [Supply("steel", 60, 10), Supply("G-17", 30, 10, ("steel",))])
    gear = Supply("gear", 40, 10, partner=supplier.did, agreement_id=agreement_id, partner_component="G-17")
    await customer.watch.set_supply(customer.did, [gear, Supply("gearbox", 25, 10, ("gear",), end_product=True)])
    (found,) = await customer.watch.time_to_survive(customer.did, "steel")
    told = supplier.leaves("watch.days-answered")
    asked = customer.leaves("watch.days-asked")

    assert found.figure.value == 15.5
    assert [body["days"] for body in told] == [body["days"] for body in asked] == ["9.000"]
    assert told[0]["agreementId"] == asked[0]["agreementId"] == agreement_id


async def test_a_supplier_that_has_no_table_says_so_by_code(pair):
    supplier, customer = pair
    agreement_id = await _agreed(supplier, customer)
    gear = Supply("gear", 40, 10, partner=supplier.did, agreement_id=agreement_id)
    await customer.watch.set_supply(customer.did, [gear])
    with pytest.raises(Refused) as caught:
        await customer.watch.time_to_survive(customer.did, "gear")

    assert caught.value.code.startswith("exchange.")
