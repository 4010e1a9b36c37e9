"""Commands about the node itself: run it, try it, sign in, look at the whole line, verify, and look things up."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from guantong.base.errors import Retryable
from guantong.cli.root import Place, at_node, config_option, directory_option, json_option, language, main, table

__all__ = ["run_async"]

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; loaded late, since most commands need no event loop."""
    from guantong.node import run_async as run_to_end

    return run_to_end(work)


def _config(file: Path | None, **flags: Any) -> Any:
    from guantong.config import load

    return load({name.replace("__", ".").replace("_", "-"): value for name, value in flags.items()}, file=file)


@main.command()
@config_option
@directory_option
@click.option("--host", help="Address to listen on. / 监听地址。")
@click.option("--port", type=int, help="Port to listen on; 0: any free port. / 监听端口；0 表示任选。")
def run(file: Path | None, directory: Path | None, host: str | None, port: int | None) -> None:
    """Run a node until Ctrl-C.

    运行节点，直到按 Ctrl-C。
    """
    config = _config(file, node__directory=directory, web__host=host, web__port=port)

    async def serve() -> None:
        from guantong.node import Node

        node = Node(config)
        await node.start()
        try:
            address = await node.serve()
            click.echo(f"{node.participant}  {address}")
            click.echo("Sign in once with this link / 一次性登录链接：")
            click.echo("  " + await node.sign_in_link())
            await _until_stopped()
        finally:
            await node.stop()

    run_async(serve())


async def _until_stopped() -> None:
    import asyncio

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows has no signal handlers on its loop
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    await stopped.wait()


@main.command()
@click.option("--once", is_flag=True, help="Exit when the journey is done. / 走完全程即退出。")
@json_option
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Seed of everything simulated. / 全部模拟所用的种子。"
)
@click.option("--no-trouble", is_flag=True, help="Simulate without planned trouble. / 模拟时不安排任何故障。")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path(".guantong-demo"),
    show_default=True,
    help="Directory of the demo; emptied at the start. / 演示目录；开始时清空。",
)
def demo(once: bool, as_json: bool, seed: int, no_trouble: bool, directory: Path) -> None:
    """Two companies, simulated machines, the whole journey.

    两家公司、模拟设备，走完全程。
    """
    from guantong.demo.journey import demonstrate

    serve = not once and not as_json and sys.stdout.isatty()
    report = run_async(
        demonstrate(directory, seed=seed, trouble=not no_trouble, serve=serve, echo=None if as_json else click.echo)
    )
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    if not report["ok"]:
        sys.exit(1)


@main.command("sign-in")
@at_node
def sign_in(place: Place) -> None:
    """Print a link that signs one person in to the pages, once.

    给出一次性登录链接，供一人登录页面。
    """
    from guantong.cli.desk import running_place, sign_in_link

    config = place.config
    directory = Path(config["node.directory"]).expanduser().resolve()
    found = running_place(directory)
    if found is None:
        raise Retryable("node.not-running", directory=directory)
    place.say({"link": sign_in_link(config, directory, found)}, lambda made: str(made["link"]))


@main.command()
@at_node
def status(place: Place) -> None:
    """The whole line at a glance: one figure a stage, and what waits for a person.

    全程一览：每站一个数字，以及等待人来处理的事项。
    """
    with place.desk() as desk:
        data = desk.ask("/")
    place.say(data, _line_text)


def _line_text(data: Any) -> str:
    from guantong.journey import JOURNEY
    from guantong.web.texts import say

    chosen = language()
    names = {stage.name: (stage.mark, stage.zh if chosen == "zh" else stage.name) for stage in JOURNEY}
    rows = [
        {
            "": names[one["stage"]][0],
            "stage": names[one["stage"]][1],
            "state": one["state"],
            "figure": say(chosen, f"station.{one['figure']}", **one["facts"]),
            "detail": say(chosen, f"station.{one['detail']}", **one["facts"]),
        }
        for one in data["stations"]
    ]
    waiting = [f"→ {say(chosen, 'decide.' + one['text'], **one['facts'])}  {one['href']}" for one in data["decisions"]]
    return "\n".join([table(rows, ("", "stage", "state", "figure", "detail")), *waiting])


@main.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Trust file with keys you have checked. / 您已核对过的信任文件。",
)
@json_option
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the report. / 报告语言。")
def verify(package: Path, trust: Path | None, as_json: bool, lang: str | None) -> None:
    """Verify an evidence package, without network or database: verify --trust KEYS PACKAGE. Exit codes: 0 verified, 1 not,
    4 unreadable, 6 consistent but the signer is unknown.

    验证存证包，无需网络和数据库：verify --trust 密钥文件 存证包。退出码：0 通过，1 未通过，4 无法读取，6 一致但签名者未知。
    """
    from guantong.verify import main as verify_main

    options = ["--lang", lang or language(), *(["--json"] if as_json else [])]
    sys.exit(verify_main([*options, *(["--trust", str(trust)] if trust else []), "--", str(package)]))


@main.group()
def trust() -> None:
    """Keys that evidence is verified with.

    验证存证所用的密钥。
    """


@trust.command("export")
@at_node
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write; else printed. / 写入的文件；不写则直接输出。"
)
def trust_export(place: Place, out: Path | None) -> None:
    """The trust file of this node: its own keys and its partners'. Compare them with their owners before you use it.

    本节点的信任文件，含自己和伙伴的密钥。使用前请与各方核对。
    """
    from guantong.cli.root import write_file

    with place.desk() as desk:
        made = desk.act("/evidence/trust")
    made.pop("next", None)
    if out is not None:
        write_file(out, made["trust"].encode())
        made["file"] = str(out)
    place.say(made, lambda found: str(out) if out else found["trust"].rstrip("\n"))


@main.group()
def units() -> None:
    """Units of measurement.

    计量单位。
    """


@units.command("convert", context_settings={"ignore_unknown_options": True})
@click.argument("value", type=float)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
def units_convert(value: float, source: str, target: str, as_json: bool) -> None:
    """Convert a value; units as UCUM codes or as machines write them.

    换算数值；单位可用 UCUM 代码或设备惯用写法。
    """
    from guantong.base.units import canonical, convert

    codes = canonical(source), canonical(target)
    converted = float(convert(value, *codes))
    made = {"value": converted, "unit": codes[1], "from": {"value": value, "unit": codes[0]}}
    click.echo(json.dumps(made, ensure_ascii=False) if as_json else f"{converted:.12g} {codes[1]}")


@main.command()
@config_option
@json_option
def settings(file: Path | None, as_json: bool) -> None:
    """Every setting with its value and where it comes from.

    全部设置、取值及其来源。
    """
    from guantong.config import SETTINGS

    config = _config(file)
    rows = [
        {
            "name": row.name,
            "value": str(value) if isinstance(value := config.shown(row.name), Path) else value,
            "from": config.origins[row.name],
            "variable": row.variable,
            "en": row.en,
            "zh": row.zh,
        }
        for row in SETTINGS
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for found in rows:
        click.echo(
            f"{found['name']} = {json.dumps(found['value'], ensure_ascii=False)}  ({found['from']})\n    {found['en']} / {found['zh']}"
        )


@main.command()
@click.argument("code", required=False)
def errors(code: str | None) -> None:
    """What an error code means and what to do.

    错误代码的含义和处理办法。
    """
    from guantong.base.error_table import ERRORS

    found = {name: row for name, row in ERRORS.items() if code is None or name == code or name.startswith(f"{code}.")}
    if not found:
        raise click.BadParameter(f"{code}: no such error code / 没有这个错误代码", param_hint="CODE")
    for name, row in found.items():
        click.echo(f"{name}\n    {row.message_en} {row.hint_en}\n    {row.message_zh}{row.hint_zh}")


@main.command()
def stages() -> None:
    """The ten stages of the journey.

    全程十站。
    """
    from guantong.journey import JOURNEY

    for stage in JOURNEY:
        click.echo(f"{stage.mark} {stage.name:<9} {stage.sentence_en}\n            {stage.zh}：{stage.sentence_zh}")


if __name__ == "__main__":
    main()
