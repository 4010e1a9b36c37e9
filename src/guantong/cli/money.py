"""Commands about money: invoices, what data cost, what they are worth."""

from __future__ import annotations

from typing import Any

import click

from guantong.cli.root import Place, at_node, facts, main, page_option, table

__all__: list[str] = []


@main.group()
def invoices() -> None:
    """Invoices derived from usage receipts.

    由使用回执得出的账单。
    """


@invoices.command("list")
@page_option
@at_node
def invoices_list(place: Place, page: int | None) -> None:
    """Every invoice, both as provider and as consumer.

    全部账单，含提供方和使用方两种身份。
    """
    columns = ("number", "role", "state", "total", "currency", "receipts", "partner_total", "agreement", "partner")
    place.listing("/invoices", "invoices", columns, page=page)


@invoices.command("make")
@click.argument("agreement")
@at_node
def invoices_make(place: Place, agreement: str) -> None:
    """Derive the invoice of an agreement from its receipts, sign it and hand it to the partner.

    由回执得出合约的账单，签名并交给伙伴。
    """
    place.action("/invoices/make", agreement=agreement)


@main.group()
def value() -> None:
    """What the data cost and what they are worth.

    数据的成本与价值。
    """


@value.command("meter")
@at_node
def value_meter(place: Place) -> None:
    """Read the meters into the cost evidence ledger.

    读取计量，记入成本凭证台账。
    """
    place.action("/value/meter")


@value.command("rate")
@click.argument("meter")
@click.argument("price")
@click.argument("currency")
@click.option(
    "--source", prompt="Where this price comes from / 价格依据", help="Where this price comes from. / 价格依据。"
)
@click.option("--voucher", help="Number of the voucher. / 凭证号。")
@at_node
def value_rate(place: Place, meter: str, price: str, currency: str, source: str, voucher: str | None) -> None:
    """State what one unit of a meter costs.

    说明某项计量每单位的成本。
    """
    place.action("/value/rate", meter=meter, price=price, currency=currency, source=source, voucher=voucher)


@value.command("costs")
@page_option
@at_node
def value_costs(place: Place, page: int | None) -> None:
    """The cost evidence ledger with its totals.

    成本凭证台账及合计。
    """

    def text(data: Any) -> str:
        columns = ("end", "subject", "item", "quantity", "unit", "rate", "amount", "currency", "grade", "source")
        entries = table(data["costs"]["entries"], columns)
        return entries + (f"\n\n{facts(data['costs']['totals'])}" if data["costs"]["totals"] else "")

    with place.desk() as desk:
        data = desk.ask("/value", page=page)
    place.say(data, text)


@value.command("appraise")
@click.argument("dataset")
@at_node
def value_appraise(place: Place, dataset: str) -> None:
    """Appraise a dataset by the cost approach. Never a booking figure.

    按成本法评估数据集。不可作为入账数字。
    """

    def text(one: Any) -> str:
        head = {name: one[name] for name in ("id", "subject", "method", "currency", "coverage", "stamp")}
        return (
            facts(head | one["value"])
            + "\n\n"
            + table(one["factors"], ("name", "symbol", "value.likely", "unit", "source"))
        )

    with place.desk() as desk:
        made = desk.act("/value/appraise", dataset=dataset)["appraisal"]
        data = next(one for one in desk.ask("/value")["appraisals"] if one["id"] == made)
    place.say(data, text)
