"""Commands about live agreements (change, answer, end) and somebody else's data planes."""

from __future__ import annotations

from pathlib import Path

import click

from guantong.cli.partners import contracts
from guantong.cli.root import Place, at_node, main, read_text, table

__all__: list[str] = []

_REASON = click.option("--reason", help="Why, told to the partner. / 告知伙伴的原因。")


@contracts.command("proposals")
@click.argument("agreement")
@at_node
def contracts_proposals(place: Place, agreement: str) -> None:
    """Proposals to change an agreement, and its end, with what is wrong with their signatures.

    变更合约的提议与终止通知，以及签名核验结果。
    """
    with place.desk() as desk:
        data = desk.act("/contracts/amendments/list", agreement=agreement)
    place.say(
        data,
        lambda found: "\n".join(
            [table(found["proposals"], ("id", "kind", "by", "state", "changed_at", "reason")), *found["problems"]]
        ),
    )


@contracts.command("amend")
@click.argument("agreement")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    required=True,
    help="ODRL policy as it would be, JSON file. / 变更后的 ODRL 策略（JSON 文件）。",
)
@click.option("--terms", help="Contract terms in plain words; else they stay. / 合同条款正文，不写则不变。")
@_REASON
@at_node
def contracts_amend(place: Place, agreement: str, policy: Path, terms: str | None, reason: str | None) -> None:
    """Propose other rules for an agreement; they hold once the partner accepts. The price stays.

    提议变更合约规则，伙伴接受后生效；价格不变。
    """
    place.action(
        "/contracts/amend", serving=True, agreement=agreement, policy=read_text(policy), terms=terms, reason=reason
    )


@contracts.command("answer")
@click.argument("proposal")
@click.argument("verdict", type=click.Choice(["accept", "refuse"]))
@_REASON
@at_node
def contracts_answer(place: Place, proposal: str, verdict: str, reason: str | None) -> None:
    """Accept or refuse what the partner proposes.

    接受或拒绝伙伴的变更提议。
    """
    place.action("/contracts/amendments/answer", serving=True, proposal=proposal, verdict=verdict, reason=reason)


@contracts.command("end")
@click.argument("agreement")
@_REASON
@at_node
def contracts_end(place: Place, agreement: str, reason: str | None) -> None:
    """End an agreement now: its transfers end, nothing more is delivered or used.

    立即终止合约：传输结束，不再交付或使用。
    """
    place.action("/contracts/end", serving=True, agreement=agreement, reason=reason)


@main.group()
def planes() -> None:
    """Somebody else's data planes under this node's control plane.

    由本节点控制面管理的外部数据面。
    """


@planes.command("list")
@at_node
def planes_list(place: Place) -> None:
    """Data planes that registered here.

    已在此注册的数据面。
    """
    with place.desk() as desk:
        data = desk.act("/planes/list")["planes"]
    place.say(data, lambda found: table(found, ("id", "endpoint", "profiles", "labels")))


@planes.command("serve")
@click.argument("dataset")
@click.argument("plane", required=False, default="")
@at_node
def planes_serve(place: Place, dataset: str, plane: str) -> None:
    """Let a registered data plane serve a dataset; without PLANE this node serves it itself again.

    由已注册的数据面提供数据集；不写 PLANE 则恢复由本节点提供。
    """
    place.action("/planes/serve", dataset=dataset, plane=plane)
