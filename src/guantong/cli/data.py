"""Commands about data: sources, signals, datasets, where they come from, grades and rights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from guantong.cli.root import Place, at_node, facts, json_option, main, page_option, table

__all__: list[str] = []


@main.group()
def sources() -> None:
    """Equipment and systems that the node reads.

    节点读取的设备和系统。
    """


@sources.command("list")
@at_node
def sources_list(place: Place) -> None:
    """Every source and how it is doing.

    全部数据源及其状况。
    """
    columns = ("name", "kind", "state", "received", "gap_records", "rejected", "lag_s", "address", "last_error")
    place.listing("/sources", "sources", columns)


@sources.command("probe")
@click.argument("url")
@json_option
def sources_probe(url: str, as_json: bool) -> None:
    """Ask an address what it offers and propose a configuration; nothing is stored.

    询问某个地址提供什么并给出配置建议，不保存任何内容。
    """
    from guantong.cli.node import run_async

    found = run_async(_probed(url))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{found['interface']['kind']}  {found['interface']['base']}")
    click.echo(table(found["offers"], ("key", "unit", "title")))
    click.echo("")
    click.echo(json.dumps(found["interface"], ensure_ascii=False, indent=2))


@sources.command("add")
@click.argument("url")
@click.option("--name", help="Name of the source in this node. / 数据源在本节点的名称。")
@click.option("--title", help="What people call it. / 人们对它的称呼。")
@click.option(
    "--pick",
    multiple=True,
    help="Key of a signal to read; repeat it; all if none. / 要读取的信号键，可重复；不写则全部读取。",
)
@at_node
def sources_add(place: Place, url: str, name: str | None, title: str | None, pick: tuple[str, ...]) -> None:
    """Probe an address, put it on record and start reading.

    探测地址、登记并开始读取。
    """
    place.action("/sources/add", creates=True, url=_here(url), name=name, title=title, pick=list(pick))


def _here(url: str) -> str:
    """A path of this terminal, as the node must hear it: it may run in another folder."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


_name = click.argument("name")


@sources.command("remove")
@_name
@at_node
def sources_remove(place: Place, name: str) -> None:
    """Disconnect a source; what it delivered stays.

    断开数据源，已交付的数据保留。
    """
    place.action(f"/sources/{quote(name, safe='')}/remove")


@sources.command("pause")
@_name
@at_node
def sources_pause(place: Place, name: str) -> None:
    """Stop reading a source for now.

    暂停读取数据源。
    """
    place.action(f"/sources/{quote(name, safe='')}/pause")


@sources.command("resume")
@_name
@at_node
def sources_resume(place: Place, name: str) -> None:
    """Read a paused source again.

    恢复读取已暂停的数据源。
    """
    place.action(f"/sources/{quote(name, safe='')}/resume")


@sources.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--source", help="Source the rows belong to; else the file's name. / 数据所属的数据源，不写则用文件名。")
@at_node
def sources_import(place: Place, path: Path, source: str | None) -> None:
    """Read one file to its end: SHDR log, MTConnect streams, QIF, CSV or Parquet.

    将一个文件读到末尾：SHDR 日志、MTConnect 数据流、QIF、CSV 或 Parquet。
    """
    place.action("/sources/import", creates=True, path=str(path.expanduser().resolve()), source=source)


@main.group()
def signals() -> None:
    """Time series that the node knows.

    节点已知的时间序列。
    """


_words = click.option("--search", "words", help="Only what holds these words. / 只列出含有这些词的项。")


@signals.command("list")
@_words
@page_option
@at_node
def signals_list(place: Place, words: str | None, page: int | None) -> None:
    """Every signal with its last value.

    全部信号及最新值。
    """
    columns = ("id", "source", "native_id", "name", "last.value", "unit", "last.quality", "last.source_time")
    place.listing("/signals", "signals", columns, q=words, page=page)


@main.group()
def datasets() -> None:
    """Signals or measurements under one description.

    归于同一描述之下的信号或测量结果。
    """


@datasets.command("list")
@at_node
def datasets_list(place: Place) -> None:
    """Every dataset.

    全部数据集。
    """
    place.listing("/describe", "datasets", ("id", "kind", "title_en", "title_zh", "signals", "models", "rights"))


@datasets.command("define")
@click.argument("dataset", metavar="ID")
@click.option("--title", help="Title; the id if none. / 标题，不写则用标识。")
@click.option("--title-zh", help="Title in Chinese. / 中文标题。")
@click.option("--description", help="What it holds. / 内容说明。")
@click.option("--kind", type=click.Choice(["readings", "measurements"]), help="What its rows are. / 数据行的种类。")
@click.option(
    "--signal",
    "signal_ids",
    type=int,
    multiple=True,
    help="Number of a signal; repeat it; all if none. / 信号编号，可重复；不写则为全部。",
)
@click.option(
    "--model", "models", multiple=True, help="Part design of measurements; repeat it. / 测量所属的零件型号，可重复。"
)
@click.option("--keyword", "keywords", multiple=True, help="Keyword; repeat it. / 关键词，可重复。")
@at_node
def datasets_define(
    place: Place,
    dataset: str,
    title: str | None,
    title_zh: str | None,
    description: str | None,
    kind: str | None,
    signal_ids: tuple[int, ...],
    models: tuple[str, ...],
    keywords: tuple[str, ...],
) -> None:
    """Put signals or measurements under one description.

    将信号或测量结果归于同一描述之下。
    """
    place.action(
        "/datasets/define",
        id=dataset,
        title_en=title or dataset,
        title_zh=title_zh,
        description=description,
        kind=kind,
        signals=[str(one) for one in signal_ids],
        models=list(models),
        keywords=list(keywords),
    )


@main.command()
@click.argument("node_id", metavar="ID")
@at_node
def lineage(place: Place, node_id: str) -> None:
    """Where something comes from and what was made of it; for example: lineage fuse:signal:1

    某项数据从何而来、又用于何处；例如：lineage fuse:signal:1
    """

    def text(data: Any) -> str:
        edges = [{"": "←", **edge} for edge in data["back"]] + [{"": "→", **edge} for edge in data["forward"]]
        return table(edges, ("", "from", "relation", "to"))

    with place.desk() as desk:
        data = desk.ask("/lineage", id=node_id)
    place.say(data, text)


@main.group()
def govern() -> None:
    """Classes, grades and quality.

    分类、分级与质量。
    """


@govern.command("grade")
@at_node
def govern_grade(place: Place) -> None:
    """Classify and grade every signal and every dataset by the rule packs.

    按规则包对全部信号和数据集分类分级。
    """
    with place.desk() as desk:
        done = desk.act("/govern/grade")
        done["levels"] = desk.ask("/govern")["levels"]
    done.pop("next", None)
    place.say(done, facts)


@govern.command("score")
@at_node
def govern_score(place: Place) -> None:
    """Score the quality of every dataset from its own rows.

    按各数据集自身的数据评定质量。
    """
    with place.desk() as desk:
        done = desk.act("/govern/score")
    done.pop("next", None)
    place.say(done, facts)


@main.group()
def rights() -> None:
    """Who holds which right in a dataset.

    谁对数据集持有何种权利。
    """


@rights.command("state")
@click.argument("dataset")
@click.option("--source", prompt="Where the data come from / 数据来源", help="Where the data come from. / 数据来源。")
@click.option("--evidence", prompt="What proves that / 依据", help="What proves the right. / 权利依据。")
@click.option("--holder", help="Who holds the data; else this participant. / 数据持有者，不写则为本方。")
@click.option("--processor", help="Who may process and use them. / 数据加工使用者。")
@click.option("--operator", help="Who may offer products of them. / 数据产品经营者。")
@click.option("--valid-from", help="First instant, RFC 3339; else now. / 起始时间（RFC 3339），不写则为现在。")
@click.option("--valid-to", help="Last instant; open if none. / 截止时间，不写则不限。")
@click.option("--personal-basis", help="Legal basis where data are personal. / 涉及个人信息时的合法性依据。")
@click.option("--restrictions", help="What limits the right. / 权利所受限制。")
@at_node
def rights_state(place: Place, dataset: str, valid_from: str | None, **given: Any) -> None:
    """State who holds, processes and offers a dataset, on what evidence.

    说明由谁持有、加工使用和经营某个数据集，以及依据。
    """
    if valid_from is None:
        from guantong.base.clock import SystemClock, iso

        valid_from = iso(SystemClock().now(), digits=0)
    place.action("/govern/rights", dataset=dataset, valid_from=valid_from, **given)


async def _probed(url: str) -> dict[str, Any]:
    """What an address offers and a proposed interface, as plain JSON; needs no node and stores nothing."""
    from dataclasses import asdict

    from guantong.base.clock import SystemClock
    from guantong.connect.model import ConnectSettings
    from guantong.connect.probe import probe as ask
    from guantong.web.client import AiohttpClient
    from guantong.web.model import WebSettings

    http = AiohttpClient(WebSettings())
    try:
        found = await ask(url, http=http, clock=SystemClock(), settings=ConnectSettings())
    finally:
        await http.close()
    interface = found.interface.to_json()
    return {"interface": interface, "offers": [asdict(offer) for offer in found.offers]}
