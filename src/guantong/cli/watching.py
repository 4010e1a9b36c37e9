"""Commands of the watch: availability, control charts, warnings, energy, stocks and how long they last."""

from __future__ import annotations

from pathlib import Path

import click

from guantong.cli.root import Place, at_node, main, read_text, table

__all__: list[str] = []


@main.group()
def watch() -> None:
    """What the watch sees.

    察看所见。
    """


@watch.command("availability")
@at_node
def watch_availability(place: Place) -> None:
    """Availability of each machine (ISO 22400-2).

    各台设备的可用率（ISO 22400-2）。
    """
    columns = ("machine", "figure.value", "figure.coverage", "faults", "figure.start", "figure.end", "figure.reason")
    place.listing("/watch", "availability", columns)


@watch.command("spc")
@at_node
def watch_spc(place: Place) -> None:
    """Control charts of inspected characteristics, the worst first.

    检测特性的控制图，问题最多的在前。
    """
    columns = ("characteristic", "name", "unit", "centre", "lower", "upper", "out_of_tolerance", "coverage")
    place.listing("/watch", "charts", columns)


@watch.command("warnings")
@at_node
def watch_warnings(place: Place) -> None:
    """Early warnings with the channels that explain them.

    早期预警及其相关通道。
    """
    place.listing("/watch", "warnings", ("id", "kind", "source", "signal", "start", "end", "contributions"))


@watch.command("energy")
@at_node
def watch_energy(place: Place) -> None:
    """Energy of each meter and the emissions that follow from it.

    各表计的用能及相应排放。
    """
    columns = (
        "meter",
        "energy.value",
        "energy.unit",
        "energy.coverage",
        "emission.value",
        "emission.unit",
        "factor.id",
    )
    place.listing("/watch", "energy", columns)


@watch.command("supply")
@click.argument("stocks", metavar="[CSV]", required=False, type=click.Path(path_type=Path))
@at_node
def watch_supply(place: Place, stocks: Path | None) -> None:
    """List stocks and usage, or state them from a CSV file. Columns: component, stock, usage_per_day; and, where known, inputs,
    partner, agreement, partner_component, end_product, capacity_per_day.

    列出库存与用量，或由 CSV 文件说明。列：component、stock、usage_per_day；已知时另有 inputs、partner、agreement、
    partner_component、end_product、capacity_per_day。
    """
    if stocks is not None:
        place.action("/watch/supply", table=read_text(stocks))
        return
    columns = ("component", "stock", "usage_per_day", "inputs", "end_product", "partner", "agreement", "as_of")
    place.listing("/watch", "supply", columns)


@watch.command("survive")
@click.argument("component")
@at_node
def watch_survive(place: Place, component: str) -> None:
    """How long each end product lasts when a component stops; partners are asked for one figure each.

    某个部件断供后各最终产品能维持多久；只向每个伙伴询问一个数字。
    """
    with place.desk(serving=True) as desk:
        data = desk.act("/watch/survive", component=component)
    columns = ("component", "disrupted", "figure.value", "figure.unit", "lower_bound", "figure.reason")
    place.say(data, lambda found: table(found["survivals"], columns))
