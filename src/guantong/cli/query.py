"""Commands about query templates: sign, approve, ask, run at home; and whose copy a found table is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from guantong.cli.root import Place, at_node, facts, main, read_text, table, write_file

__all__: list[str] = []


def _given(parameters: tuple[str, ...]) -> str:
    found = {}
    for one in parameters:
        name, sign, value = one.partition("=")
        if not sign:
            raise click.BadParameter(f"{one}: NAME=VALUE")
        found[name] = value
    return json.dumps(found)


_PARAMETERS = click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")


@main.group()
def query() -> None:
    """Query templates: a question comes to the data, and only permitted answers leave.

    查询模板：查询到数据处运行，只有符合规则的结果可以发出。
    """


@query.command("list")
@at_node
def query_list(place: Place) -> None:
    """Templates that were approved here.

    本节点批准过的模板。
    """
    place.listing("/queries", "templates", ("name", "version", "state", "author", "digest"))


@query.command("jobs")
@click.option("--agreement", help="Only those of this agreement. / 只列出该合约的运行。")
@at_node
def query_jobs(place: Place, agreement: str | None) -> None:
    """Runs of templates, with what each output rule said.

    模板的运行记录，含每条输出规则的结论。
    """
    place.listing("/queries", "jobs", ("at", "template", "partner", "outcome", "rows", "rules"), agreement=agreement)


@query.command("sign")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the signed template goes. / 已签名模板的存放位置。")
@at_node
def query_sign(place: Place, path: Path, out: Path | None) -> None:
    """Sign a template of our own, to hand it to whose data it asks.

    签名自己的模板，以便交给数据所有方。
    """
    with place.desk() as desk:
        data = desk.act("/queries/sign", document=read_text(path))
    if out is not None:
        write_file(out, json.dumps(data["signed"], ensure_ascii=False).encode())
        place.say({"digest": data["digest"], "file": str(out)}, facts)
    else:
        place.say(data["signed"], lambda signed: json.dumps(signed, ensure_ascii=False))


@query.command("approve")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def query_approve(place: Place, path: Path) -> None:
    """Check a signed template and let contracts name it.

    检查已签名的模板，并允许合约引用它。
    """
    place.action("/queries/approve", document=read_text(path))


@query.command("withdraw")
@click.argument("template", metavar="DIGEST")
@at_node
def query_withdraw(place: Place, template: str) -> None:
    """Run a template no more, whatever contracts name it.

    不再运行该模板，无论哪些合约引用它。
    """
    place.action("/queries/withdraw", template=template)


@query.command("ask")
@click.argument("agreement")
@_PARAMETERS
@click.option("--purpose", help="What for, as the agreement names it. / 合约所述的使用目的。")
@at_node
def query_ask(place: Place, agreement: str, parameters: tuple[str, ...], purpose: str | None) -> None:
    """Ask the template of an agreement of a partner's data.

    按合约的模板查询伙伴的数据。
    """
    with place.desk(serving=True) as desk:
        data = desk.act("/queries/ask", agreement=agreement, parameters=_given(parameters), purpose=purpose)
    place.say(data, _rows)


@query.command("run")
@click.argument("agreement")
@click.argument("dataset")
@_PARAMETERS
@at_node
def query_run(place: Place, agreement: str, dataset: str, parameters: tuple[str, ...]) -> None:
    """Run a platform's template over a dataset of our own; each run is metered, no row leaves.

    在自己的数据集上运行平台的模板；每次运行都会计量，数据不出节点。
    """
    with place.desk(serving=True) as desk:
        data = desk.act("/queries/run", agreement=agreement, dataset=dataset, parameters=_given(parameters))
    place.say(data, _rows)


@query.command("trace")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def query_trace(place: Place, path: Path) -> None:
    """Whose copy a found table is: a CSV or Parquet file with the columns of a delivery.

    判断一份流出的表格来自哪个合约：CSV 或 Parquet 文件，列名与交付时相同。
    """
    with place.desk() as desk:
        data = desk.act("/products/trace", path=str(path.resolve()))
    place.say(data, lambda found: table(found["found"], ("agreement", "partner", "named", "rows", "agree", "chance")))


def _rows(data: Any) -> str:
    return table(data["rows"], tuple(data["columns"]))
