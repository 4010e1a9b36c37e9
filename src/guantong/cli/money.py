"""Commands about money: invoices, what data cost, what they are worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from guantong.base.errors import ConfigProblem
from guantong.cli.root import (
    Place,
    at_node,
    facts,
    json_option,
    language,
    main,
    page_option,
    read_text,
    table,
    write_file,
)

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


def _paper_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a paper needs to know of the partner, and where it goes."""
    for option in (
        click.option("--partner-name", required=True, help="Name of the partner on paper. / 单据上的对方名称。"),
        click.option("--partner-country", help="Its country, ISO 3166. / 对方国家代码。"),
        click.option("--partner-registration", help="Its registration number. / 对方登记号（统一社会信用代码）。"),
        click.option("--partner-tax-number", help="Its tax number. / 对方税号。"),
        click.option("--partner-address", help="Its address. / 对方地址。"),
        click.option("--fapiao", help="Number of the tax invoice. / 发票号码。"),
        click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write. / 写入的文件。"),
    ):
        command = option(command)
    return command


def _print(place: Place, path: str, out: Path, **fields: Any) -> None:
    with place.desk() as desk:
        content = desk.act_for_bytes(path, language=language(), **fields)
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")


@invoices.command("print")
@click.argument("number")
@click.option(
    "--form", type=click.Choice(["html", "pdf", "ubl"]), default="html", show_default=True, help="Form. / 格式。"
)
@_paper_options
@at_node
def invoices_print(place: Place, number: str, form: str, out: Path, **fields: Any) -> None:
    """An invoice or credit note on paper, or as UBL 2.1 (EN 16931).

    将账单或红字账单输出为纸面格式，或输出为 UBL 2.1（EN 16931）。
    """
    _print(place, "/invoices/print", out, number=number, form=form, **fields)


@invoices.command("credit")
@click.argument("agreement")
@click.argument("reason", type=click.Choice(["dispute", "service-level"]))
@at_node
def invoices_credit(place: Place, agreement: str, reason: str) -> None:
    """Give back what a resolved dispute or a missed service level takes off: a credit note that both sides sign.

    因争议解决或服务水平未达标而退还：由双方签名的红字账单。
    """
    place.action("/invoices/credit", serving=True, agreement=agreement, reason=reason)


@invoices.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def invoices_lint(file: Path, as_json: bool) -> None:
    """Check a price plan or a price list: is more ever cheaper, does a bundle undercut an offer? Needs no node. Problems: exit code 1.

    检查价格方案或价目表：是否出现买得多反而便宜，组合购买是否低于单项。无需节点。有问题时退出码为 1。
    """
    found = _lint(_read_json(file))
    click.echo(
        json.dumps(found, ensure_ascii=False)
        if as_json
        else table(found, ("rule", "offer", "price", "cheaper", "instead"))
    )
    if found:
        raise click.exceptions.Exit(1)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ConfigProblem("cli.file-unreadable", path=file, reason="it is not JSON") from error


def _lint(document: Any) -> list[dict[str, Any]]:
    from decimal import Decimal

    from guantong.settle.plan import Listed, PricePlan, lint, lint_plan

    if isinstance(document, dict) and "offers" in document:
        return lint(
            [
                Listed(str(one["id"]), frozenset(map(str, one["contains"])), Decimal(str(one["price"])))
                for one in document["offers"]
            ]
        )
    plan = PricePlan.parse(document)
    found: list[dict[str, Any]] = []
    for charge in plan.charges:
        # where a price can turn: at the free quota and at each tier, and a little beyond
        edges = [charge.free, *(charge.free + tier.start for tier in charge.tiers)]
        steps = sorted({edge * factor + more for edge in edges for factor in (1, 2) for more in (0, 1, 10, 100)})
        found += [{**one, "offer": f"{one['offer']} {charge.per}"} for one in lint_plan(plan, charge.per, steps)]
    return found


@main.group()
def disputes() -> None:
    """Disputed deliveries: which block differs, and what is owed.

    有争议的交付：哪个数据块不同，应付多少。
    """


@disputes.command("list")
@at_node
def disputes_list(place: Place) -> None:
    """Disputes that were narrowed down, and credit notes.

    已定位的争议，以及红字账单。
    """

    def text(found: Any) -> str:
        columns = ("receipt", "role", "state", "block", "blocks", "messages", "agreed", "by", "agreement")
        notes = table(found["notes"], ("number", "invoice", "role", "state", "total", "currency", "reason"))
        return table(found["disputes"], columns) + "\n\n" + notes

    with place.desk() as desk:
        data = desk.act("/disputes/list")
    place.say(data, text)


@disputes.command("narrow")
@click.argument("agreement")
@click.argument("receipt")
@at_node
def disputes_narrow(place: Place, agreement: str, receipt: str) -> None:
    """As the consumer: find the first block that differs, by halving.

    使用方：用二分法找出首个不同的数据块。
    """
    place.action("/disputes/narrow", serving=True, agreement=agreement, receipt=receipt)


@disputes.command("propose")
@click.argument("agreement")
@click.argument("receipt")
@click.option("--rows", type=click.IntRange(0), required=True, help="Rows that are owed. / 应付的行数。")
@click.option("--bytes", "size", type=click.IntRange(0), required=True, help="Bytes that are owed. / 应付的字节数。")
@click.option("--reason", required=True, help="Why. / 理由。")
@at_node
def disputes_propose(place: Place, agreement: str, receipt: str, rows: int, size: int, reason: str) -> None:
    """Propose what is owed; the other side signs it at once where it is its own count.

    提出应付数量；若与对方计数一致，对方立即签名。
    """
    fields: dict[str, Any] = {"agreement": agreement, "receipt": receipt, "rows": str(rows), "bytes": str(size)}
    place.action("/disputes/propose", serving=True, reason=reason, **fields)


@disputes.command("accept")
@click.argument("agreement")
@click.argument("receipt")
@at_node
def disputes_accept(place: Place, agreement: str, receipt: str) -> None:
    """Sign what the other side proposed.

    签署对方提出的处理结果。
    """
    place.action("/disputes/accept", serving=True, agreement=agreement, receipt=receipt)


@main.group()
def netting() -> None:
    """Set debts off against each other, with a certificate.

    债务相互抵销（轧差），并附证书。
    """


@netting.command("clear")
@click.argument("debts", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File for the certificates. / 证书写入的文件。")
@at_node
def netting_clear(place: Place, debts: Path, out: Path | None) -> None:
    """Set off the debts of a CSV file (debtor, creditor, amount, currency) and record it.

    对 CSV 文件中的债务（debtor、creditor、amount、currency）轧差并存证。
    """
    with place.desk() as desk:
        data = desk.act("/netting/clear", table=read_text(debts))
    if out is not None:
        write_file(out, json.dumps(data["certificates"], ensure_ascii=False, indent=1).encode("utf-8"))
    columns = ("currency", "gross", "cancelled", "inputRoot", "outputRoot")
    place.say(data, lambda found: table(found["certificates"], columns))


@netting.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def netting_check(file: Path, as_json: bool) -> None:
    """Check netting certificates. Needs no node and no solver. Wrong: exit code 1.

    核验轧差证书。无需节点和求解器。有误时退出码为 1。
    """
    from guantong.settle.netting import check, in_chinese

    given = _read_json(file)
    found: list[dict[str, Any]] = []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, dict):
            continue
        problems = check(one)
        head = {"currency": str(one.get("currency", "–")), "gross": one.get("gross"), "cancelled": one.get("cancelled")}
        found.append({**head, "problems": problems, "problemsZh": [in_chinese(problem) for problem in problems]})
    click.echo(
        json.dumps(found, ensure_ascii=False)
        if as_json
        else table(found, ("currency", "gross", "cancelled", "problemsZh" if language() == "zh" else "problems"))
    )
    if not found or any(one["problems"] for one in found):
        raise click.exceptions.Exit(1)


@main.command("share")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--check", "against", type=click.Path(path_type=Path), help="Shares to compare with. / 用于比对的分配结果。"
)
@json_option
def share(file: Path, against: Path | None, as_json: bool) -> None:
    """Share revenue by the rule and inputs of a JSON file, or pay out a risk pool. Needs no node. Other shares: exit code 1.

    按 JSON 文件中的规则和输入分配收益，或对风险池赔付。无需节点。与所给结果不一致时退出码为 1。
    """
    from guantong.settle.rules import payouts, share_out

    given = _read_json(file)
    try:
        made = payouts(given["pool"], given["claims"]) if "pool" in given else share_out(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigProblem("settle.share-invalid", reason=f"{type(error).__name__}: {error}") from error
    rows = made.get("shares") or made.get("members")
    columns = ("owner", "weight", "share", "copyOf") if "shares" in made else ("member", "due", "paid", "why")
    click.echo(json.dumps(made, ensure_ascii=False) if as_json else table(rows, columns))
    if against is not None and _read_json(against) != made:
        raise click.exceptions.Exit(1)


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
