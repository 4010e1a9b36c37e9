"""The command line: ``guantong ...``. Each command says what it does in both languages and loads what it needs when it runs."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from guantong import __version__
from guantong.base.errors import GuantongError

__all__ = ["main"]

T = TypeVar("T")


def _language() -> str:
    return os.environ.get("GUANTONG_WEB_LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LANG") or "en"


class _Commands(click.Group):
    """Prints an error's code, sentence and next step instead of a traceback, and exits with its code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GuantongError as error:
            language = _language()
            click.echo(f"{error.code}: {error.message(language)}\n  {error.hint(language)}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="guantong")
def main() -> None:
    """guantong: from a machine's port to a partner's screen.

    贯通：从设备端口到伙伴屏幕。
    """


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; loaded late, since most commands need no event loop."""
    from guantong.node import run_async as run_to_end

    return run_to_end(work)


def _config(file: Path | None, **flags: Any) -> Any:
    from guantong.config import load

    return load({name.replace("__", ".").replace("_", "-"): value for name, value in flags.items()}, file=file)


_file = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Settings file (TOML). / 设置文件（TOML）。"
)
_directory = click.option(
    "--directory", type=click.Path(path_type=Path), help="Directory of all data of the node. / 节点全部数据所在的目录。"
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object. / 输出一个 JSON 对象。")


@main.command()
@_file
@_directory
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
@_json
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


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def verify(arguments: tuple[str, ...]) -> None:
    """Verify an evidence package, without network or database: verify --trust KEYS PACKAGE.

    验证存证包，无需网络和数据库：verify --trust 密钥文件 存证包。
    """
    from guantong.verify import main as verify_main

    sys.exit(verify_main(list(arguments)))


@main.group()
def sources() -> None:
    """Equipment and systems that the node reads.

    节点读取的设备和系统。
    """


@sources.command("probe")
@click.argument("url")
@_json
def sources_probe(url: str, as_json: bool) -> None:
    """Ask an address what it offers and propose a configuration; nothing is stored.

    询问某个地址提供什么并给出配置建议，不保存任何内容。
    """

    async def ask() -> dict[str, Any]:
        from guantong.node import probe

        return await probe(url)

    found = run_async(ask())
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{found['interface']['kind']}  {found['interface']['base']}")
    for item in found["offers"]:
        click.echo(f"  {item['key']:<40} {item['unit'] or '–':<18} {item['title'] or ''}")
    click.echo("")
    click.echo(json.dumps(found["interface"], ensure_ascii=False, indent=2))


@main.command()
@_file
@_json
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
