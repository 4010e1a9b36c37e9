"""Commands for whoever audits: search, alarms and their proofs, the regulator's pack, a deposit, a link that may only read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click

from guantong.cli.root import Place, at_node, main, read_text, table, write_file

__all__: list[str] = []


@main.group()
def audit() -> None:
    """For the auditor: what is recorded, what is wrong, what can be taken away and verified elsewhere.

    供审计使用：有哪些记录、有何异常、哪些材料可以带走并在别处核验。
    """


@audit.command("search")
@click.option("--text", "words", help="Only entries that hold this text. / 只列出含有该文字的条目。")
@click.option("--kind", help="Only entries of this kind. / 只列出此类条目。")
@click.option("--from", "start", help="From this instant (RFC 3339). / 起始时间（RFC 3339）。")
@click.option("--to", "end", help="Before this instant. / 截止时间（不含）。")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV. / 输出 CSV。")
@at_node
def audit_search(
    place: Place, words: str | None, kind: str | None, start: str | None, end: str | None, as_csv: bool
) -> None:
    """Search the evidence log; at most 1,000 entries, newest first.

    检索存证日志；最多 1000 条，最新在前。
    """
    with place.desk() as desk:
        found = desk.act("/audit/search", text=words, kind=kind, **{"from": start, "to": end})
    if as_csv:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(("number", "at", "kind", "body"))
        for one in found["entries"]:
            writer.writerow((one["number"], one["at"], one["kind"], json.dumps(one["body"], ensure_ascii=False)))
        click.echo(out.getvalue(), nl=False)
        return
    place.say(
        found, lambda data: table(data["entries"], ("number", "at", "kind", "body")) + ("\n…" if data["more"] else "")
    )


@audit.command("alarms")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the proofs of forks. / 保存日志分叉证明的文件夹。"
)
@at_node
def audit_alarms(place: Place, out: Path | None) -> None:
    """What is wrong with this or a partner's log; proofs of forks are verified by `guantong verify`.

    本方或伙伴日志的异常；日志分叉证明可用 guantong verify 核验。
    """
    with place.desk() as desk:
        data = desk.ask("/evidence")
    written = []
    for number, one in enumerate(data["alarms"], 1):
        if out is not None and one["proof"]:
            out.mkdir(parents=True, exist_ok=True)
            path = out / f"fork-{number}.json"
            write_file(path, one["proof"].encode())
            written.append(str(path))
    found: dict[str, Any] = {"failure": data["failure"], "alarms": data["alarms"], "written": written}
    place.say(
        found,
        lambda said: (
            table(said["alarms"], ("at", "did", "kind", "over", "facts")) + "".join(f"\n{one}" for one in written)
        ),
    )


@audit.command("regulator")
@click.option("--from", "start", help="Deliveries from this instant (RFC 3339). / 起始时间（RFC 3339）。")
@click.option("--to", "end", help="Deliveries before this instant. / 截止时间（不含）。")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("regulator.zip"),
    show_default=True,
    help="File to write. / 写入的文件。",
)
@at_node
def audit_regulator(place: Place, start: str | None, end: str | None, out: Path) -> None:
    """The regulator's pack: who received which grade of data, under which contract, when (CSV and JSON).

    监管材料：谁在何时依据哪份合约收到了哪一级别的数据（CSV 与 JSON）。
    """
    with place.desk() as desk:
        content = desk.act_for_bytes("/audit/regulator", **{"from": start, "to": end})
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")


@audit.command("deposit")
@click.argument("agreement")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("deposit.zip"),
    show_default=True,
    help="File to write. / 写入的文件。",
)
@click.option("--uscc", help="Own unified social credit code. / 本方统一社会信用代码。")
@click.option("--partner-uscc", help="The partner's. / 对方统一社会信用代码。")
@at_node
def audit_deposit(place: Place, agreement: str, out: Path, uscc: str | None, partner_uscc: str | None) -> None:
    """A deposit of evidence about a product under an agreement. It is not a registration certificate.

    某合约项下产品的存证包。它不是登记证书。
    """
    with place.desk() as desk:
        content = desk.act_for_bytes("/audit/deposit", agreement=agreement, uscc=uscc, partner_uscc=partner_uscc)
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")


@audit.command("invite")
@at_node
def audit_invite(place: Place) -> None:
    """A one-time link for an auditor: pages of contracts, grades, evidence and invoices, and nothing may be changed.

    供审计人员使用的一次性链接：可看合约、分级、存证和账单，不能作任何改动。
    """
    with place.desk() as desk:
        link = desk.act("/audit/invite")
    place.say(link, lambda made: str(made["link"]))


@audit.command("deploy")
@click.argument("url")
@click.argument("key", type=click.Path(path_type=Path))
def audit_deploy(url: str, key: Path) -> None:
    """Put the anchor contract on a chain whose node speaks Ethereum's JSON-RPC; prints its address. KEY: file with the paying key.

    在支持以太坊 JSON-RPC 的链上部署锚定合约并输出其地址。KEY：付费私钥文件。
    """
    import asyncio

    from guantong.base.clock import SystemClock
    from guantong.prove.evm import deploy
    from guantong.web.client import AiohttpClient
    from guantong.web.model import WebSettings

    secret = read_text(key)

    async def work() -> str:
        http = AiohttpClient(WebSettings())
        try:
            return await deploy(http, SystemClock(), url, secret)
        finally:
            await http.close()

    click.echo(asyncio.run(work()))
