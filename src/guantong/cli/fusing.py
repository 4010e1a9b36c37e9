"""Commands about what fusion makes of signals: their quality, their limits, their mappings."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import click

from guantong.cli.root import Place, at_node, facts, language, main, read_text, table, write_file

__all__: list[str] = []

_WINDOW = (
    click.option("--from", "start", help="First instant, RFC 3339. / 起始时刻，RFC 3339 格式。"),
    click.option("--to", "end", help="Instant after the last, RFC 3339. / 结束时刻（不含），RFC 3339 格式。"),
)


def _pairs(limit: tuple[str, ...]) -> dict[str, Any]:
    """``name=value`` as a document; values are JSON."""
    found: dict[str, Any] = {}
    for one in limit:
        name, separator, value = one.partition("=")
        try:
            found[name] = json.loads(value) if separator else None
        except json.JSONDecodeError:
            found[name] = value
    return found


@main.command()
@click.argument("signal", type=int)
@_WINDOW[0]
@_WINDOW[1]
@click.option(
    "--limit",
    multiple=True,
    metavar="NAME=VALUE",
    help="Limit for this answer alone; repeat it. / 仅用于本次的限值，可重复。",
)
@click.option("--propose", is_flag=True, help="Propose limits read off the window. / 根据该时段给出建议限值。")
@at_node
def quality(
    place: Place, signal: int, start: str | None, end: str | None, limit: tuple[str, ...], propose: bool
) -> None:
    """Judge a signal: every check with what passed of what was evaluated.

    评定信号质量：逐项给出通过数与评定数。
    """
    fields: dict[str, Any] = {"signal": str(signal), "from": start, "to": end, "propose": "1" if propose else None}
    if limit:
        fields["limits"] = json.dumps(_pairs(limit))
    with place.desk() as desk:
        found = desk.act("/signals/quality", **fields)
    place.say(found, _shown)


def _shown(found: Any) -> str:
    zh = language() == "zh"
    rows = [
        {
            "check": one["name"]["zh" if zh else "en"],
            "passed": one["passed"],
            "evaluated": one["evaluated"],
            "share": None if one["share"] is None else f"{one['share']:.4%}",
            "suspect": one["flags"].get("suspect", 0),
            "fail": one["flags"].get("fail", 0),
            "limits": ", ".join(f"{name}={value}" for name, value in one["limits"].items()),
        }
        for one in found["checks"]
    ]
    text = table(rows, ("check", "passed", "evaluated", "share", "suspect", "fail", "limits"))
    text += "\n\n" + ", ".join(f"{name} {count}" for name, count in found["flags"].items())
    for row in found["worst"]:
        text += f"\n{row['time']}  {row['value']}  {', '.join(row['checks'])}"
    if "proposed" in found:
        text += "\n\n" + json.dumps(found["proposed"], ensure_ascii=False, indent=2)
    return text


@main.command()
@click.argument("signal", type=int)
@click.argument("limits", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def limits(place: Place, signal: int, limits: Path) -> None:
    """State a signal's limits from a JSON file; they replace the ones before.

    用 JSON 文件设定信号的限值，替换原有限值。
    """
    place.action("/signals/limits", signal=str(signal), limits=read_text(limits))


@main.group()
def mappings() -> None:
    """What signals are in a companion model.

    信号在配套模型中的含义。
    """


@mappings.command("suggest")
@at_node
def mappings_suggest(place: Place) -> None:
    """Open suggestions, strongest first, with their reasons.

    待确认的映射建议，按可信度排序并附理由。
    """
    with place.desk() as desk:
        found = desk.act("/mappings/suggest")
    columns = ("id", "name", "target", "confidence", "source_unit", "target_unit", "reasons")
    place.say(found, lambda data: table(data["suggestions"], columns))


@mappings.command("confirm")
@click.argument("suggestion", metavar="ID")
@at_node
def mappings_confirm(place: Place, suggestion: str) -> None:
    """Take a suggestion over as a mapping.

    采纳建议，设为映射。
    """
    place.action("/mappings/confirm", id=suggestion)


@mappings.command("reject")
@click.argument("suggestion", metavar="ID")
@at_node
def mappings_reject(place: Place, suggestion: str) -> None:
    """Put a suggestion aside; it is not made again.

    拒绝建议，不再提出。
    """
    place.action("/mappings/reject", id=suggestion)


@mappings.command("list")
@at_node
def mappings_list(place: Place) -> None:
    """Mappings in force.

    列出生效的映射。
    """
    with place.desk() as desk:
        found = desk.act("/mappings/list")

    def shown(data: Any) -> str:
        rows = [
            {
                "name": one["name"],
                "sources": " ".join(one["sources"]),
                "steps": " ".join(json.dumps(step, ensure_ascii=False) for step in one["steps"]),
                "sinks": " ".join(one["sinks"]),
            }
            for one in data["mappings"]
        ]
        return table(rows, ("name", "sources", "steps", "sinks"))

    place.say(found, shown)


@mappings.command("set")
@click.argument("written", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def mappings_set(place: Place, written: Path) -> None:
    """Put mappings of a TOML or JSON file in force: scale, offset, unit, lookup, bits, split, join.

    使 TOML 或 JSON 文件中的映射生效：scale、offset、unit、lookup、bits、split、join。
    """
    place.action("/mappings/set", mapping=read_text(written))


@mappings.command("remove")
@click.argument("name")
@at_node
def mappings_remove(place: Place, name: str) -> None:
    """Take a mapping away; what it made stays.

    移除映射，已生成的数据保留。
    """
    place.action("/mappings/remove", name=name)


@mappings.command("export")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="AASX file to write. / 写入的 AASX 文件。")
@at_node
def mappings_export(place: Place, out: Path) -> None:
    """Interfaces and mappings as an AASX package (AID 1.1, AIMC 2.0).

    将接口和映射导出为 AASX 包（AID 1.1、AIMC 2.0）。
    """
    with place.desk() as desk:
        made = desk.act("/mappings/export")
    data = b64decode(made["package"])
    write_file(out, data)
    place.say({"file": str(out), "bytes": len(data)}, facts)


@mappings.command("import")
@click.argument("package", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def mappings_import(place: Place, package: Path) -> None:
    """Put the mappings of an AASX package or AAS JSON file (AIMC 2.0) in force.

    使 AASX 包或 AAS JSON 文件（AIMC 2.0）中的映射生效。
    """
    place.action("/mappings/import", path=str(package.resolve()))
