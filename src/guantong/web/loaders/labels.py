"""Names of what a lineage holds: a signal's name, a dataset's title, a part, an agreement, in place of the id."""

from __future__ import annotations

from collections.abc import Iterable

from guantong.web.rooms import Rooms

__all__ = ["labels"]


async def labels(rooms: Rooms, nodes: Iterable[str]) -> dict[str, dict[str, str]]:
    """``kind`` (names ``node.<kind>``) and ``en``, ``zh`` for each node that has a name."""
    wanted = set(nodes)
    me = rooms.participant
    found: dict[str, dict[str, str]] = {}

    def put(node: str, kind: str, en: str, zh: str = "") -> None:
        if node in wanted:
            found[node] = {"kind": kind, "en": en, "zh": zh or en}

    kinds = {node.rsplit(":", 1)[0] for node in wanted}
    if "fuse:signal" in kinds:
        for signal in await rooms.fuse.signals(me):
            put(f"fuse:signal:{signal.id}", "signal", f"{signal.name or signal.native_id} · {signal.source}")
    if any(node.startswith("fuse:part:") for node in wanted):
        for part in await rooms.fuse.parts(me):
            design = part.design.replace("_", " ")
            put(f"fuse:part:{part.id}", "part", f"{design} No. {part.serial}", f"{design} {part.serial} 号")
    if any(node.startswith("describe:dataset:") for node in wanted):
        for dataset in await rooms.describe.datasets(me):
            put(f"describe:dataset:{dataset.id}", "dataset", dataset.title_en, dataset.title_zh)
    if any(node.startswith("exchange:agreement:") for node in wanted):
        for deal in await rooms.exchange.agreements(me):
            put(f"exchange:agreement:{deal.id}", "agreement", f"{deal.dataset_id} · {deal.partner}")
    for node in wanted:
        if node.startswith("keep:batch:"):
            source, _, position = node.removeprefix("keep:batch:").rpartition("/")
            put(node, "batch", f"{source} #{position}")
        elif node.startswith("exchange:receipt:"):
            put(node, "receipt", node.removeprefix("exchange:receipt:")[-12:])
    return found
