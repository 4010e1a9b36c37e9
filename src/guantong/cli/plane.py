"""``guantong plane``: this node's sources as the data plane of somebody else's control plane."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import click

from guantong.base.errors import ConfigProblem, GuantongError, Retryable
from guantong.cli.node import _config, _until_stopped, run_async
from guantong.cli.root import config_option, directory_option, json_option, main, read_text

__all__: list[str] = []


@main.command()
@click.option(
    "--control-plane", required=True, help="Address of the control plane's signaling API. / 控制面信令接口的地址。"
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="File with the key shared with it; else one is made in the directory. / 与控制面共享的密钥文件，不写则在目录中生成。",
)
@click.option("--label", "labels", multiple=True, help="Label of this plane. / 本数据面的标签。")
@click.option("--no-register", is_flag=True, help="Do not tell the control plane that we are here. / 不向控制面注册。")
@config_option
@directory_option
@json_option
@click.option("--host", help="Address to listen on. / 监听地址。")
@click.option("--port", type=int, help="Port to listen on; 0: any free port. / 监听端口；0 表示任选。")
def plane(
    control_plane: str,
    key_file: Path | None,
    labels: tuple[str, ...],
    no_register: bool,
    file: Path | None,
    directory: Path | None,
    as_json: bool,
    host: str | None,
    port: int | None,
) -> None:
    """Serve our data for somebody else's control plane until Ctrl-C.

    为外部控制面提供本方数据，直到按 Ctrl-C。
    """
    config = _config(file, node__directory=directory, web__host=host, web__port=port)
    key, made = _key(key_file or Path(config["node.directory"]).expanduser() / "signaling.key")
    config = _config(
        file,
        node__directory=directory,
        web__host=host,
        web__port=port,
        exchange__control_plane=control_plane.rstrip("/"),
        exchange__signaling_key=key,
    )

    async def serve() -> None:
        from guantong.node import Node

        node = Node(config)
        await node.start()
        try:
            address = await node.serve()
            told: dict[str, Any] = {
                "participant": node.participant,
                "signaling": f"{address}/signaling",
                "control_plane": control_plane,
                "key": str(made),
            }
            if not no_register:
                told["registered"] = await _register(node, control_plane, labels)
            if as_json:
                click.echo(json.dumps(told))
            else:
                click.echo(f"{node.participant}  {told['signaling']}")
                click.echo(f"Key shared with the control plane / 与控制面共享的密钥：{made}")
                if not no_register:
                    click.echo(f"Registered / 已注册：{told['registered']}")
                click.echo("Sign in once with this link / 一次性登录链接：")
                click.echo("  " + await node.sign_in_link())
            await _until_stopped()
        finally:
            await node.stop()

    run_async(serve())


async def _register(node: Any, control_plane: str, labels: tuple[str, ...]) -> str:
    """``yes``, or the code of what stood in the way: a control plane that is down now may ask for us later."""
    for attempt in range(5):
        try:
            await node.exchange.flows.register(node.participant, control_plane, labels=labels)
        except Retryable as error:
            if attempt == 4:
                return error.code
            await node.clock.sleep(0.2 * 2**attempt)
        except GuantongError as error:
            return error.code
        else:
            return "yes"
    return ""


def _key(path: Path) -> tuple[str, Path]:
    """The shared key and its file, made readable by the owner only where there is none. Raises ConfigProblem."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
    key = read_text(path).strip()
    if len(key) < 16:
        raise ConfigProblem("base.key-unreadable", name=path.name)
    return key, path
