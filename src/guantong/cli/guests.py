"""Commands about guests: suppliers without a node who act through a page here, and the way of one into a node of its own."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from guantong.cli.root import Place, at_node, facts, main, read_text, table, write_file

__all__: list[str] = []


@main.group()
def guests() -> None:
    """Suppliers without a node, who share files through a page of this one.

    没有节点的供应商，通过本节点的页面共享文件。
    """


@guests.command("list")
@at_node
def guests_list(place: Place) -> None:
    """Who they are, what they share and for what; and who has moved in here.

    访客方、其共享内容及用途，以及已迁入本节点者。
    """

    def text(data: Any) -> str:
        parts = [
            table(data["guests"], ("name", "did", "statements", "joined_at", "moved_to")),
            table(data["shares"], ("id", "name", "file", "purpose", "state", "rows", "uses", "shared_at")),
        ]
        if data["requests"]:
            parts.append(table(data["requests"], ("id", "name", "purpose", "state", "asked_at")))
        if data["moved"]:
            parts.append(table(data["moved"], ("guest", "host", "statements", "told", "at")))
        return "\n\n".join(parts)

    with place.desk() as desk:
        data = desk.ask("/guests")
    place.say(data, text)


@guests.command("terms")
@click.argument("purpose")
@click.argument("terms")
@at_node
def guests_terms(place: Place, purpose: str, terms: str) -> None:
    """Say what guests are asked for from now on; each statement repeats it, what was signed stands.

    设定今后请访客方同意的用途和条款；每份声明都会写明，已签的不受影响。
    """
    place.action("/guests/terms", purpose=purpose, terms=terms)


@guests.command("ask")
@click.argument("share")
@click.argument("purpose")
@click.option("--terms", help="Terms; else those of the share. / 条款，不写则沿用原条款。")
@at_node
def guests_ask(place: Place, share: str, purpose: str, terms: str | None) -> None:
    """Ask a guest for one more use of what it shares; SHARE is the beginning of its id.

    请求访客方同意新的用途；SHARE 为共享标识的开头。
    """
    place.action("/guests/ask", share=share, purpose=purpose, terms=terms)


@guests.command("use")
@click.argument("share")
@click.option("--purpose", help="For what, as the guest agreed to; else the purpose of the share. / 访客方同意的用途，不写则为原用途。")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="CSV file to write. / 写入的 CSV 文件。")
@at_node
def guests_use(place: Place, share: str, purpose: str | None, out: Path | None) -> None:
    """The rows of a share, at most 10,000; the use is recorded first. Refused once the guest has revoked.

    共享内容的数据行，最多 10,000 行；使用前先行记录。访客方撤销后即被拒绝。
    """
    with place.desk() as desk:
        made = desk.act("/guests/use", share=share, purpose=purpose)
    made.pop("next", None)
    if out is not None:
        written = io.StringIO()
        csv.writer(written).writerows([made["columns"], *made["rows"]])
        write_file(out, written.getvalue().encode())
        made = {"file": made["file"], "purpose": made["purpose"], "rows": made["total"], "out": str(out)}
        place.say(made, facts)
        return
    columns = made["columns"]
    place.say(made, lambda data: table([dict(zip(columns, row, strict=True)) for row in data["rows"][:50]], columns))


@guests.command("revoke")
@click.argument("guest")
@click.argument("share")
@at_node
def guests_revoke(place: Place, guest: str, share: str) -> None:
    """End what you shared as a guest, from your own node; GUEST is your did:key, SHARE the whole id.

    在自己的节点上撤销作为访客方时的共享；GUEST 为您的 did:key，SHARE 为完整标识。
    """
    place.action("/guests/revoke", guest=guest, share=share)


@main.command("move-in")
@click.argument("papers", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--passphrase",
    envvar="GUANTONG_PASSPHRASE",
    prompt="Passphrase of the key file / 密钥文件口令",
    hide_input=True,
    help="Passphrase of the key; else GUANTONG_PASSPHRASE, else it is asked for. / 密钥口令；不写则取 GUANTONG_PASSPHRASE，再不然会询问。",
)
@at_node
def move_in(place: Place, papers: Path, passphrase: str) -> None:
    """Move from a customer's guest page to this node, with key, contracts and proofs (what the page saves at "Take along").

    从客户节点的访客页面迁入本节点，携密钥、合约和证明（页面的“带走”所存文件）。
    """
    place.action("/guests/move-in", creates=True, papers=read_text(papers), passphrase=passphrase)
