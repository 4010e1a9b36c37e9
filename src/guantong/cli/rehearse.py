"""The command that shows what an offer would have done, before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from guantong.cli.root import Place, at_node, language, main, read_text, table

__all__: list[str] = []


class _Days(click.ParamType):
    """``30d`` or a number of days."""

    name = "DAYS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).removesuffix("d")
        if not text.isdigit() or not 1 <= int(text) <= 366:
            self.fail("1d to 366d / 1d 至 366d", param, ctx)
        return int(text)


@main.command()
@click.argument("dataset", metavar="OFFER")
@click.option(
    "--last", "days", type=_Days(), default="30d", show_default=True, help="Length of the history. / 历史的天数。"
)
@click.option("--id", "product", help="Id of the product; else the dataset's. / 产品标识，不写则同数据集。")
@click.option("--terms", help="Contract terms in plain words. / 合同条款正文。")
@click.option("--policy", type=click.Path(path_type=Path), help="ODRL policy, JSON file. / ODRL 策略（JSON 文件）。")
@click.option("--price", type=click.Path(path_type=Path), help="Price plan, JSON file. / 价格方案（JSON 文件）。")
@click.option("--visible-to", multiple=True, help="DID that sees it; repeat it. / 可见伙伴的 DID，可重复。")
@click.option("--query", help="Digest of the query template. / 查询模板的摘要。")
@click.option(
    "--fingerprint", type=click.Path(path_type=Path), help="Fingerprint, JSON file. / 指纹声明（JSON 文件）。"
)
@click.option("--partner", "partners", multiple=True, help="DID that would come; repeat it. / 来访伙伴的 DID，可重复。")
@click.option("--whole", is_flag=True, help="Each visit takes everything until then. / 每次来访取走此前的全部数据。")
@at_node
def rehearse(
    place: Place,
    dataset: str,
    days: int,
    product: str | None,
    terms: str | None,
    policy: Path | None,
    price: Path | None,
    visible_to: tuple[str, ...],
    query: str | None,
    fingerprint: Path | None,
    partners: tuple[str, ...],
    whole: bool,
) -> None:
    """What an offer of a dataset would have done over the own history: what leaves, what is refused, what is invoiced.

    预演数据集的要约：按自己的历史数据，哪些会交付、哪些会被拒绝、会开出多少账单。
    """
    with place.desk() as desk:
        data = desk.ask(
            "/rehearsal",
            strict="true",
            dataset=dataset,
            days=days,
            id=product,
            terms=terms,
            policy=None if policy is None else read_text(policy),
            price=None if price is None else read_text(price),
            visible_to=" ".join(visible_to) or None,
            query=query,
            fingerprint=None if fingerprint is None else read_text(fingerprint),
            partners=" ".join(partners) or None,
            whole="true" if whole else None,
        )["told"]
    place.say(data, _words)


def _words(told: Any) -> str:
    chinese = language() == "zh"
    lines = [table([told], ("visits", "left", "refused", "rows", "bytes", "grade"))]
    if told["refusals"]:
        lines.append(table(told["refusals"], ("visits", "reason")))
    if told["invoices"]:
        lines.append(table(told["invoices"], ("partner", "currency", "subtotal", "total")))
    terms = [{"term": one["zh" if chinese else "en"], "status": one["status"]} for one in told["terms"]]
    lines.append(table(terms, ("term", "status")))
    return "\n\n".join(lines)
