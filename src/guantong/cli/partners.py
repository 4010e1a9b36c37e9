"""Commands about partners: what is offered, catalogues, negotiations, transfers, contracts, evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from guantong.cli.root import Place, at_node, facts, language, main, page_option, read_text, table, write_file

if TYPE_CHECKING:
    from guantong.cli.desk import Desk

__all__: list[str] = []

DSP_PATH = "/dsp/2025-1"
_ADDRESS_COLUMNS = ("id", "dataset", "title", "price", "formats", "terms")


def _base(address: str) -> str:
    """The partner's protocol base; who gives only its host means the usual path."""
    return address.rstrip("/") + (DSP_PATH if urlsplit(address).path in ("", "/") else "")


def _did(address: str) -> str:
    """The DID of who answers at a host: did:web names it. Source: did:web method specification."""
    return "did:web:" + urlsplit(address).netloc.replace(":", "%3A")


@main.group()
def products() -> None:
    """What this node offers.

    本节点提供的数据产品。
    """


@products.command("list")
@at_node
def products_list(place: Place) -> None:
    """Every product on offer.

    全部上架产品。
    """
    place.listing("/products", "products", ("id", "dataset", "title", "price", "visible_to", "offer"))


@products.command("offer")
@click.argument("dataset")
@click.option("--id", "product", help="Id of the product; else the dataset's. / 产品标识，不写则同数据集。")
@click.option("--title", help="Title. / 标题。")
@click.option("--title-zh", help="Title in Chinese. / 中文标题。")
@click.option("--terms", help="Contract terms in plain words. / 合同条款正文。")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="ODRL policy, JSON file; else use is permitted. / ODRL 策略（JSON 文件），不写则允许使用。",
)
@click.option(
    "--price",
    type=click.Path(path_type=Path),
    help="Price plan, JSON file; free if none. / 价格方案（JSON 文件），不写则免费。",
)
@click.option(
    "--visible-to",
    multiple=True,
    help="DID that sees it; repeat it; all if none. / 可见伙伴的 DID，可重复；不写则全部可见。",
)
@click.option("--query", help="Digest of a query template: only its answers leave. / 查询模板的摘要：只交付查询结果。")
@click.option(
    "--fingerprint",
    type=click.Path(path_type=Path),
    help="Mark each copy: JSON file with the resolutions. / 为副本加指纹：含分辨率声明的 JSON 文件。",
)
@at_node
def products_offer(
    place: Place,
    dataset: str,
    product: str | None,
    title: str | None,
    title_zh: str | None,
    terms: str | None,
    policy: Path | None,
    price: Path | None,
    visible_to: tuple[str, ...],
    query: str | None,
    fingerprint: Path | None,
) -> None:
    """Put a dataset on offer, with a policy, terms and a price, once its rehearsal was seen (guantong rehearse).

    上架数据集，附策略、条款和价格；须先看过预演（guantong rehearse）。
    """
    place.action(
        "/products/offer",
        dataset=dataset,
        id=product,
        title_en=title,
        title_zh=title_zh,
        terms=terms,
        policy=None if policy is None else read_text(policy),
        price=None if price is None else read_text(price),
        visible_to=list(visible_to),
        query=query,
        fingerprint=None if fingerprint is None else read_text(fingerprint),
    )


@products.command("withdraw")
@click.argument("product")
@at_node
def products_withdraw(place: Place, product: str) -> None:
    """Take a product off the offer; agreements stay in force.

    下架产品，已签合约继续有效。
    """
    place.action("/products/withdraw", id=product)


@main.command()
@click.argument("address")
@click.argument("partner", metavar="[DID]", required=False)
@at_node
def catalogue(place: Place, address: str, partner: str | None) -> None:
    """A partner's offers, asked for now. Without DID: the did:web of that host.

    现在查询伙伴的目录。不写 DID 时取该主机的 did:web。
    """
    with place.desk(serving=True) as desk:
        data = desk.ask("/catalogue", address=_base(address), partner=partner or _did(address))
    place.say(data, lambda found: table(found["offers"], _ADDRESS_COLUMNS))


@main.command()
@click.argument("address")
@click.argument("partner", metavar="DID")
@click.argument("offer")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the end. / 等待结果的秒数。",
)
@at_node
def negotiate(place: Place, address: str, partner: str, offer: str, wait_s: float) -> None:
    """Ask a partner for an offer of its catalogue, and wait until it is agreed, ended, or waits for a person. Ended: exit code 1.

    请求伙伴目录中的报价，等到达成合约、终止或需要人来决定。终止时退出码为 1。
    """
    with place.desk(serving=True) as desk:
        pid = desk.act("/catalogue/negotiate", address=_base(address), partner=partner, offer=offer)["pid"]
        talk = _settled(desk, pid, wait_s)
    place.say(talk, facts)
    if talk["state"] == "TERMINATED":
        raise click.exceptions.Exit(1)


def _settled(desk: Desk, pid: str, wait_s: float) -> dict[str, Any]:
    end = time.monotonic() + wait_s
    while True:
        talk = desk.ask(f"/contracts/{quote(pid, safe='')}")["talk"]
        if talk["turn"] != "partner" or time.monotonic() >= end:
            names = ("pid", "state", "agreement", "partner", "dataset", "turn", "reason")
            return {name: talk[name] for name in names}
        time.sleep(0.1)


@main.group(invoke_without_command=True)
@click.option("--agreement", help="Only those of this agreement. / 只列出该合约的传输。")
@at_node
def transfers(place: Place, agreement: str | None) -> None:
    """Transfers of data under agreements; without a verb: list them.

    合约下的数据传输；不带动词时列出全部。
    """
    if click.get_current_context().invoked_subcommand is None:
        with place.desk() as desk:
            ids = [agreement] if agreement else [one["id"] for one in _every_agreement(desk)]
            found = [one for item in ids for one in desk.ask(f"/contracts/{quote(item, safe='')}")["transfers"]]
        place.say(
            found, lambda rows: table(rows, ("pid", "role", "state", "dataset", "partner", "agreement", "reason"))
        )


def _every_agreement(desk: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page, pages = 1, 1
    while page <= pages:
        part = desk.ask("/contracts", page=page)["agreements"]
        found += part["items"]
        page, pages = page + 1, part["pages"]
    return found


@transfers.command("request")
@click.argument("agreement")
@at_node
def transfers_request(place: Place, agreement: str) -> None:
    """Ask for the data of an agreement, to be fetched by other means than this node's log; see also: receive.

    请求合约下的数据，由本节点之外的方式取用；另见 receive。
    """
    place.action("/contracts/transfer", serving=True, agreement=agreement)


@transfers.command("say")
@click.argument("agreement")
@click.argument("pid")
@click.argument("verb", type=click.Choice(["start", "suspend", "complete", "terminate"]))
@click.option("--reason", help="Why, told to the partner. / 告知伙伴的原因。")
@at_node
def transfers_say(place: Place, agreement: str, pid: str, verb: str, reason: str | None) -> None:
    """Start, suspend, complete or terminate a transfer.

    启动、中止、完成或终止传输。
    """
    place.action("/contracts/transfer/say", serving=True, agreement=agreement, pid=pid, verb=verb, reason=reason)


@main.command()
@click.argument("agreement")
@click.option("--purpose", help="What the data are used for, as the agreement names it. / 合约所述的使用目的。")
@at_node
def receive(place: Place, agreement: str, purpose: str | None) -> None:
    """Have the data of an agreement delivered into the own log, like a source of one's own.

    将合约下的数据收入本节点的日志，如同自有数据源。
    """
    place.action("/contracts/receive", serving=True, agreement=agreement, purpose=purpose)


@main.group()
def contracts() -> None:
    """Negotiations and agreements.

    协商与合约。
    """


@contracts.command("list")
@page_option
@at_node
def contracts_list(place: Place, page: int | None) -> None:
    """Every agreement, and the negotiations that are open or were ended.

    全部合约，以及进行中或已终止的协商。
    """

    def text(data: Any) -> str:
        columns = ("id", "role", "state", "dataset", "partner", "transfers", "receipts", "agreed_at")
        talks = table(data["talks"], ("pid", "role", "state", "turn", "dataset", "partner", "reason"))
        return table(data["agreements"], columns) + (f"\n\n{talks}" if data["talks"] else "")

    with place.desk() as desk:
        data = desk.ask("/contracts", page=page)
    place.say(data, text)


@contracts.command("show")
@click.argument("contract")
@at_node
def contracts_show(place: Place, contract: str) -> None:
    """One contract: terms, rules, use so far, receipts, conversation.

    单个合同：条款、规则、已用量、回执、往来消息。
    """

    def text(data: Any) -> str:
        head = data["agreement"] or data["talk"]
        names = ("id", "pid", "role", "state", "partner", "dataset", "terms", "price", "hash", "turn", "reason")
        parts = [
            facts({name: head[name] for name in names if name in head}),
            table([_kept(one, language()) for one in data["constraints"]], ("term", "kept")),
            table(data["duties"], ("duty", "state", "deadline", "role", "done_at", "by", "note")),
            facts(data["used"]),
            table(data["transfers"], ("pid", "role", "state", "format", "changed_at")),
            table(data["receipts"], ("seq", "state", "signed", "countersigned", "recorded_at", "id")),
            table(data["turns"], ("leaf", "at", "by", "message", "state", "reason")),
        ]
        return "\n\n".join(part for part in parts if part != "–")

    with place.desk() as desk:
        data = desk.ask(f"/contracts/{quote(contract, safe='')}")
    place.say(data, text)


def _kept(one: Mapping[str, Any], words: str) -> dict[str, str]:
    """A term in plain words, and whether the node keeps it or the parties owe it."""
    chinese = words == "zh"
    if one["refused"]:
        return {"term": one["refused"][words], "kept": "本节点拒绝" if chinese else "refused here"}
    places = f" ({', '.join(one['at'])})" if one["at"] else ""
    if one["enforced"]:
        return {"term": one["says"][words], "kept": ("系统强制" if chinese else "enforced here") + places}
    return {"term": one["says"][words], "kept": "法律条款" if chinese else "legal term"}


@contracts.command("duties")
@at_node
def contracts_duties(place: Place) -> None:
    """Duties that are still to be fulfilled, ours and the partners'; overdue ones first.

    尚待履行的义务（我方与对方），逾期者在前。
    """
    with place.desk() as desk:
        data = desk.ask("/contracts")["duties"]
    place.say(
        data, lambda found: table(found, ("duty", "state", "deadline", "role", "partner", "dataset", "agreement"))
    )


@contracts.command("done")
@click.argument("agreement")
@click.argument("duty")
@click.option("--note", help="How it was done, or what the partner is to know. / 履行方式，或需告知对方的内容。")
@click.option("--by", help="Who says so. / 声明人。")
@at_node
def contracts_done(place: Place, agreement: str, duty: str, note: str | None, by: str | None) -> None:
    """Say that a duty of ours, such as delete or inform, was fulfilled: evidence here and at the partner's.

    声明我方义务已履行（如删除、告知），双方均留证。
    """
    place.action("/contracts/duty", serving=True, agreement=agreement, duty=duty, note=note, by=by)


@contracts.command("say")
@click.argument("pid")
@click.argument("verb", type=click.Choice(["accept", "agree", "verify", "finalize", "terminate"]))
@click.option("--reason", help="Why, told to the partner. / 告知伙伴的原因。")
@at_node
def contracts_say(place: Place, pid: str, verb: str, reason: str | None) -> None:
    """Take our turn in a negotiation that waits for a person.

    在等待人工决定的协商中作出答复。
    """
    place.action("/contracts/say", serving=True, pid=pid, verb=verb, reason=reason)


@contracts.command("print")
@click.argument("agreement")
@click.option("--form", type=click.Choice(["html", "pdf"]), default="pdf", show_default=True, help="Form. / 格式。")
@click.option("--partner-name", required=True, help="Name of the partner on paper. / 合同上的对方名称。")
@click.option("--partner-registration", help="Its registration number. / 对方登记号（统一社会信用代码）。")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write. / 写入的文件。")
@at_node
def contracts_print(
    place: Place, agreement: str, form: str, partner_name: str, partner_registration: str | None, out: Path
) -> None:
    """A contract on paper, with places to sign.

    可打印的合同，留有签字盖章处。
    """
    with place.desk() as desk:
        content = desk.act_for_bytes(
            "/contracts/print",
            agreement=agreement,
            form=form,
            partner_name=partner_name,
            partner_registration=partner_registration,
            language=language(),
        )
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")


@main.command()
@click.option("--kind", help="Only entries of this kind. / 只列出此类条目。")
@page_option
@at_node
def evidence(place: Place, kind: str | None, page: int | None) -> None:
    """The evidence log, newest first, with its tree and witnesses.

    存证日志（最新在前）及其树和见证方。
    """

    def text(data: Any) -> str:
        head = {name: data[name] for name in ("origin", "size", "behind", "witnessed", "root")}
        return facts(head) + "\n\n" + table(data["entries"], ("number", "at", "kind", "proof"))

    with place.desk() as desk:
        data = desk.ask("/evidence", kind=kind, page=page)
    place.say(data, text)


@main.command()
@click.argument("agreement")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("evidence.guantong.zip"),
    show_default=True,
    help="File to write. / 写入的文件。",
)
@click.option(
    "--transfer", metavar="PID", help="Only this transfer, by either side's id. / 只含此次传输（任一方的标识）。"
)
@click.option("--from", "start", metavar="TIME", help="Only what was recorded from then on (RFC 3339). / 起始时间。")
@click.option("--to", "end", metavar="TIME", help="Only what was recorded before. / 截止时间（不含）。")
@at_node
def package(place: Place, agreement: str, out: Path, transfer: str | None, start: str | None, end: str | None) -> None:
    """Write the evidence package of an agreement, which strangers verify without us; or of one transfer or period of it.

    生成合约的存证包，他人无需本方即可验证；也可只含一次传输或一段时间。
    """
    with place.desk() as desk:
        content = desk.act_for_bytes(
            "/evidence/package", agreement=agreement, transfer=transfer, **{"from": start, "to": end}
        )
    write_file(out, content)
    place.say({"file": str(out), "bytes": len(content)}, lambda made: f"{made['file']}  ({made['bytes']} B)")
