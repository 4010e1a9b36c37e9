"""Commands about interfaces: described by file, in and out as AASX, their secrets, webhooks, openness, and reading again."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import click

from guantong.cli.data import sources
from guantong.cli.root import Place, at_node, facts, language, read_text, table, write_file

__all__: list[str] = []


@sources.command("describe")
@click.argument("described", metavar="FILE", type=click.Path(path_type=Path))
@at_node
def sources_describe(place: Place, described: Path) -> None:
    """Add a source by its interface: TOML or JSON with name, kind, base and signals.

    按接口描述文件（TOML 或 JSON，含名称、类型、地址和信号）添加数据源。
    """
    place.action("/sources/describe", creates=True, interface=read_text(described))


@sources.command("export")
@click.argument("names", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="AASX file to write. / 写入的 AASX 文件。")
@at_node
def sources_export(place: Place, names: tuple[str, ...], out: Path) -> None:
    """Interfaces of all sources, or of those named, as an AASX package (AID 1.1). No secrets go with it.

    将全部或指定数据源的接口导出为 AASX 包（AID 1.1），不含任何密钥。
    """
    with place.desk() as desk:
        made = desk.act("/sources/export", source=list(names))
    data = b64decode(made["package"])
    write_file(out, data)
    place.say({"file": str(out), "bytes": len(data)}, facts)


@sources.command("secret")
@click.argument("url")
@click.option("--user", help="User name. / 用户名。")
@click.option("--token", help="Token, instead of user and password. / 令牌，用来代替用户名和密码。")
@click.option("--ca", help="PEM file of the authority that signed the server. / 签发服务器证书的机构的 PEM 文件。")
@click.option("--certificate", help="PEM file of our certificate. / 我方证书的 PEM 文件。")
@click.option("--key", help="PEM file of its key. / 证书私钥的 PEM 文件。")
@at_node
def sources_secret(
    place: Place,
    url: str,
    user: str | None,
    token: str | None,
    ca: str | None,
    certificate: str | None,
    key: str | None,
) -> None:
    """Keep what an address asks for; the password is asked for, never given on the command line. Nothing given: forget it.

    为某个地址保存登录信息；密码以提示方式输入，不出现在命令行。什么都不给则删除。
    """
    password = click.prompt("Password / 密码", hide_input=True, default="", show_default=False) if user else ""
    given: dict[str, Any] = {
        "user": user,
        "password": password,
        "token": token,
        "ca": ca,
        "certificate": certificate,
        "key": key,
    }
    place.action("/sources/secret", creates=True, url=url, **{name: value for name, value in given.items() if value})


@sources.command("hook")
@click.argument("name")
@at_node
def sources_hook(place: Place, name: str) -> None:
    """A webhook: an address to send JSON to, and its token, which is shown once.

    新建 Webhook：接收 JSON 的地址及其令牌；令牌只显示一次。
    """
    place.action("/sources/hook", creates=True, name=name)


@sources.command("openness")
@click.option("--request", "source", help="Print the request for access of one source. / 输出某个数据源的访问请求。")
@at_node
def sources_openness(place: Place, source: str | None) -> None:
    """The openness register: what each interface offers, what is closed, how to get it all the same.

    开放性登记：每个接口提供什么、什么未开放、如何补齐。
    """
    with place.desk() as desk:
        found = desk.act("/sources/openness")
    found.pop("next", None)
    if source is not None:
        row = next((one for one in found["sources"] if one["source"] == source), None)
        if row is None:
            raise click.BadParameter(f"{source}: no such source / 没有这个数据源", param_hint="--request")
        place.say(row, lambda one: str(one["request_zh" if language() == "zh" else "request_en"]))
        return
    place.say(
        found, lambda data: table(data["sources"], ("source", "kind", "signals", "with_unit", "offers", "closed"))
    )


@sources.command("replay")
@click.argument("source")
@at_node
def sources_replay(place: Place, source: str) -> None:
    """Read again the files of a source of which something was quarantined, after the fault was mended.

    故障修复后，重新读取某个数据源中有隔离内容的文件。
    """
    place.action("/sources/replay", source=source)
