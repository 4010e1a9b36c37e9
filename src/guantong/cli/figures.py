"""Commands about figures with proof: what functions there are, define, make, order, challenge, verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from guantong.base.errors import ConfigProblem
from guantong.cli.root import Place, at_node, facts, json_option, language, main, read_text, table, write_file

__all__: list[str] = []

_COLUMNS = ("figure", "role", "definition", "value", "unit", "coverage", "verdict", "reason", "partner", "made_at")


@main.group()
def figure() -> None:
    """Figures that carry their proof.

    带证数：自带证明的数字。
    """


@figure.command("functions")
@json_option
def figure_functions(as_json: bool) -> None:
    """The published functions: roles, unit, definition, hash. Needs no node.

    已公布的函数：角色、单位、定义、散列。无需节点。
    """
    from guantong.prove.figure_functions import FUNCTIONS, function_hash

    rows = [
        {
            "function": name,
            "unit": one.unit,
            "roles": list(one.roles),
            "title": {"en": one.en, "zh": one.zh},
            "definition": one.definition,
            "weighted": one.weighted,
            "hash": function_hash(one),
        }
        for name, one in sorted(FUNCTIONS.items())
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    click.echo(table(rows, ("function", "unit", "roles", "title", "definition", "hash")))


@figure.command("streams")
@click.option(
    "--table", "only", help="readings, measurements or table:<name>. / readings、measurements 或 table:<名称>。"
)
@at_node
def figure_streams(place: Place, only: str | None) -> None:
    """What figures can be made of: streams with commitments.

    可用于带证数的数据流，即已有承诺的数据流。
    """
    with place.desk() as desk:
        data = desk.act("/figures/streams", table=only)
    place.say(data, lambda found: table(found["streams"], ("table", "stream", "chunks", "commitments")))


@figure.command("define")
@click.argument("name", metavar="ID")
@click.argument("function")
@click.option(
    "--input", "inputs", multiple=True, metavar="ROLE=TABLE:STREAM",
    help="Data of a role; repeat it. / 某角色所用的数据，可重复。",
)  # fmt: skip
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Parameter; repeat it. / 参数，可重复。"
)
@click.option("--title", help="Title. / 标题。")
@click.option("--title-zh", help="Title in Chinese. / 中文标题。")
@click.option(
    "--openings", type=click.IntRange(1), default=300, show_default=True,
    help="Most chunks that a challenge opens. / 抽查最多可打开的数据块数。",
)  # fmt: skip
@click.option(
    "--agreement", "agreements", multiple=True,
    help="Agreement under which partners may order it; repeat it. / 伙伴可据以订购的合约，可重复。",
)  # fmt: skip
@at_node
def figure_define(
    place: Place,
    name: str,
    function: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    title: str | None,
    title_zh: str | None,
    openings: int,
    agreements: tuple[str, ...],
) -> None:
    """Define a figure: a published function over recorded data.

    定义带证数：对已记录数据应用一个已公布的函数。
    """
    place.action(
        "/figures/define",
        id=name,
        function=function,
        inputs=json.dumps(_inputs(inputs)),
        parameters=json.dumps({key: _value(value) for key, value in map(_pair, parameters)}),
        title_en=title,
        title_zh=title_zh,
        openings=openings,
        agreements=list(agreements),
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text}: NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    # lists (planned times, gaps) come as JSON; numbers stay text, so that no digit is lost
    return json.loads(text) if text.startswith("[") else text


def _inputs(given: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[str]] = {}
    for text in given:
        role, value = _pair(text)
        # the stream of a named table names it already: table:orders stands for both
        name, _, stream = value.partition(":")
        if name == "table":
            name, stream = value, value.replace(":", "/", 1)
        found.setdefault((role, name), []).append(stream)
    return [{"role": role, "table": name, "streams": streams} for (role, name), streams in found.items()]


@figure.command("make")
@click.argument("definition", required=False)
@click.option("--from", "start", metavar="TIME", help="Start of the window. / 时间窗口起点。")
@click.option("--to", "end", metavar="TIME", help="End of the window, not included. / 时间窗口终点（不含）。")
@click.option("--function", help="For a figure of figures: its function. / 引用其他带证数时所用的函数。")
@click.option(
    "--cite", multiple=True, metavar="FIGURE", help="Figure that it cites; repeat it. / 所引用的带证数，可重复。"
)
@at_node
def figure_make(
    place: Place,
    definition: str | None,
    start: str | None,
    end: str | None,
    function: str | None,
    cite: tuple[str, ...],
) -> None:
    """Make a figure for a window, or one of other figures.

    为某个时间窗口出具带证数，或由其他带证数得出。
    """
    given: dict[str, Any] = {
        "definition": definition,
        "from": start,
        "to": end,
        "function": function,
        "figures": list(cite) or None,
    }
    place.action("/figures/make", **given)


@figure.command("order")
@click.argument("agreement")
@click.argument("definition")
@click.option("--from", "start", metavar="TIME", required=True, help="Start of the window. / 时间窗口起点。")
@click.option(
    "--to", "end", metavar="TIME", required=True, help="End of the window, not included. / 时间窗口终点（不含）。"
)
@at_node
def figure_order(place: Place, agreement: str, definition: str, start: str, end: str) -> None:
    """Order a figure from the partner of an agreement.

    依合约向伙伴订购带证数。
    """
    given: dict[str, Any] = {"agreement": agreement, "definition": definition, "from": start, "to": end}
    place.action("/figures/order", serving=True, **given)


@figure.command("challenge")
@click.argument("name", metavar="FIGURE")
@click.option("--count", type=click.IntRange(1), default=300, show_default=True, help="Draws. / 抽取次数。")
@at_node
def figure_challenge(place: Place, name: str, count: int) -> None:
    """Challenge a figure: draw chunks, open them, compute them anew. Wrong: exit code 1.

    抽查带证数：抽取数据块、打开并重新计算。有误时退出码为 1。
    """
    with place.desk() as desk:
        kept = desk.act("/figures/list")["figures"]
    # whose seller is a partner can only be challenged where the partner reaches us
    bought = any(one["figure"] == name and one["role"] == "buyer" for one in kept)
    with place.desk(serving=bought) as desk:
        data = desk.act("/figures/challenge", figure=name, count=count)
    data.pop("next", None)
    place.say(data, _checked)
    if data["verdict"] == "wrong":
        raise click.exceptions.Exit(1)


@figure.command("list")
@at_node
def figure_list(place: Place) -> None:
    """Definitions and figures, own and received.

    带证数的定义，以及本方出具和收到的带证数。
    """

    def text(found: Any) -> str:
        return "\n\n".join(
            (
                table(found["definitions"], ("id", "function", "openings", "agreements")),
                table(found["figures"], _COLUMNS),
            )
        )

    with place.desk() as desk:
        data = desk.act("/figures/list")
    place.say(data, text)


@figure.command("export")
@click.argument("name", metavar="FIGURE")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("figure.json"), show_default=True,
    help="File to write. / 写入的文件。",
)  # fmt: skip
@at_node
def figure_export(place: Place, name: str, out: Path) -> None:
    """Write a figure with its proof to a file.

    将带证数及其证明写入文件。
    """
    with place.desk() as desk:
        content = desk.act_for_bytes("/figures/export", figure=name)
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")


@figure.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), help="Keys from outside the file. / 来自文件之外的密钥。")
@json_option
def figure_verify(file: Path, trust: Path | None, as_json: bool) -> None:
    """Verify a figure and all that it cites. Needs no node and no network. Wrong: exit code 1; signer unknown: 6.

    核验带证数及其引用的全部带证数。无需节点和网络。有误时退出码为 1，签名者身份未知时为 6。
    """
    from guantong.prove.figure_proof import check_bundle
    from guantong.prove.rules import parse_trust

    known = None if trust is None else parse_trust(read_text(trust))
    try:
        bundle = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ConfigProblem("cli.file-unreadable", path=file, reason="it is not JSON") from error
    checked = check_bundle(bundle if isinstance(bundle, dict) else {}, known)
    document = checked.document()
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else _checked(document))
    if checked.verdict == "wrong":
        raise click.exceptions.Exit(1)
    if checked.verdict == "signer-unknown":
        raise click.exceptions.Exit(6)


def _checked(found: Any) -> str:
    zh = language() == "zh"
    names = (
        "verdict",
        "figure",
        "value",
        "unit",
        "reason",
        "opened",
        "positions",
        "units",
        "bound",
        "weighted",
        "committedBefore",
    )
    parts = [facts({name: found[name] for name in names})]
    if found["problems"]:
        parts.append("\n".join(f"✗ {problem}" for problem in found["problems"]))
    if found["opened"]:
        share = float(found["bound"])
        parts.append(
            f"抽查 {found['opened']} 次均无误：以 95% 的置信度，有误部分的占比不超过 {share:.2%}。"
            if zh and not found["problems"]
            else ""
            if found["problems"]
            else f"{found['opened']} draws, none wrong: with 95 % confidence at most {share:.2%} is wrong."
        )
    if covers := found.get("covers"):
        first, last, missing = covers["first"], covers["last"], covers["uncovered"]
        parts.append(
            f"列明的承诺覆盖日志位置 {first} 至 {last}，其间 {missing} 个位置不在任何承诺之中。"
            if zh
            else f"The commitments named span log positions {first} to {last}; {missing} in between are in none of them."
        )
    parts.append(
        "\n".join(
            ["抽查不能说明：" if zh else "Not shown:", *(f"· {one['zh' if zh else 'en']}" for one in found["notShown"])]
        )
    )
    return "\n\n".join(part for part in parts if part)
