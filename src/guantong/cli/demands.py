"""Commands about demands: what is wanted of partners, and which own datasets would serve what they want."""

from __future__ import annotations

from typing import Any

import click

from guantong.cli.root import Place, at_node, language, main, table

__all__: list[str] = []

_REASONS = {
    ("vocabulary", True): ("{term} is there", "有 {term}"),
    ("vocabulary", False): ("{term} is not there", "没有 {term}"),
    ("unit", True): ("its unit {has} can be converted to {wanted}", "单位 {has} 可换算为 {wanted}"),
    ("unit", False): ("its unit {has} is no {wanted}", "单位 {has} 不能换算为 {wanted}"),
    ("coverage", True): ("{share:.0%} of the period, {rows} rows", "覆盖所需时段的 {share:.0%}，{rows} 行"),
    ("coverage", False): ("nothing of the period", "未覆盖所需时段"),
}


@main.group()
def demands() -> None:
    """Datasets that are wanted, and what would serve them.

    数据需求，以及可满足需求的数据集。
    """


@demands.command("publish")
@click.argument("id")
@click.argument("wanted", nargs=-1, required=True)
@click.option("--title", required=True, help="Title. / 标题。")
@click.option("--purpose", help="What it is for. / 用途。")
@click.option("--from", "start", help="First instant of interest. / 所需时段的起点。")
@click.option("--until", help="First instant no longer of interest. / 所需时段的终点（不含）。")
@at_node
def demands_publish(
    place: Place,
    id: str,
    wanted: tuple[str, ...],
    title: str,
    purpose: str | None,
    start: str | None,
    until: str | None,
) -> None:
    """Publish a demand to partners; WANTED is a term, or a term and its unit: Temperature:Cel.

    向伙伴发布数据需求；WANTED 为术语，或术语与单位，如 Temperature:Cel。
    """
    fields: dict[str, Any] = {"from": start}
    place.action("/demands/publish", id=id, wanted=list(wanted), title=title, purpose=purpose, until=until, **fields)


@demands.command("list")
@click.option("--partner", help="A partner's DID; else the own ones. / 伙伴的 DID，不写则列出本方需求。")
@at_node
def demands_list(place: Place, partner: str | None) -> None:
    """What is wanted, here or by a partner.

    本方或某个伙伴的数据需求。
    """
    with place.desk() as desk:
        data = desk.act("/demands/list", partner=partner)
    place.say(data, lambda found: table(found["demands"], ("id", "title", "purpose", "wanted", "from", "until")))


@demands.command("withdraw")
@click.argument("id")
@at_node
def demands_withdraw(place: Place, id: str) -> None:
    """Want it no more.

    撤回数据需求。
    """
    place.action("/demands/withdraw", id=id)


@demands.command("match")
@click.argument("partner")
@at_node
def demands_match(place: Place, partner: str) -> None:
    """Own datasets that would serve what a partner (DID) wants, with the reasons for and against each.

    本方哪些数据集可满足伙伴（DID）的需求，并逐条说明理由。
    """

    def text(data: Any) -> str:
        lines = []
        for demand in data["demands"]:
            lines.append(f"{demand['id']}  {demand['title']}")
            for one in demand["matches"]:
                lines.append(f"  {one['score']:.0%}  {one['dataset']}  {one['title']}")
                lines += [
                    f"      {'✓' if why['ok'] else '✗'} "
                    + _REASONS[why["kind"], why["ok"]][language() == "zh"].format(**why["facts"])
                    for why in one["reasons"]
                ]
        return "\n".join(lines) or "–"

    with place.desk() as desk:
        data = desk.act("/demands/match", partner=partner)
    place.say(data, text)
