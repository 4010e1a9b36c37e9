"""Commands about the node's own keys: show, rotate, declare lost; confirm a partner's new key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from guantong.base.errors import ConfigProblem, Refused
from guantong.cli.root import Place, at_node, facts, main, read_text, write_file

__all__: list[str] = []


@main.group()
def keys() -> None:
    """The node's own keys, and what to do when they change or are gone.

    本节点的密钥，以及更换或丢失时的处理。
    """


@keys.command("show")
@at_node
def keys_show(place: Place) -> None:
    """Show the public keys and every change of the evidence key so far.

    显示公钥及存证密钥的历次变更。
    """
    ring, path, did = _ring(place)
    held = ring.load_keys(path)
    place.say(_shown(held, did), facts)


@keys.command("rotate")
@click.option("--overlap-days", type=click.FloatRange(0, 3650), default=30.0, show_default=True,
              help="How long the old keys stay listed; 0 where one may be in wrong hands. / 旧密钥继续列出的天数；若可能已泄露，取 0。")  # fmt: skip
@at_node
def keys_rotate(place: Place, overlap_days: float) -> None:
    """Take new token and evidence keys; the old one signs the change. The node must not run; partners follow by themselves.

    更换令牌密钥与存证密钥，由旧密钥签署变更声明。须先停止节点；伙伴会自动跟进。
    """
    from guantong.base.clock import SystemClock

    ring, path, did = _ring(place, stopped=True)
    new = ring.rotated(ring.load_keys(path), did, SystemClock().now(), overlap_s=round(overlap_days * 86_400))
    ring.store_keys(path, replace(new, former=None, former_until=0) if overlap_days == 0 else new)
    place.say(_shown(new, did), facts)


@keys.command("lost")
@click.option("--old", help="The lost evidence key in base64, as a partner's trust file lists it. / 丢失的存证密钥（base64），见伙伴的信任文件。")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File for the statement that partners confirm. / 供伙伴确认的声明文件。")  # fmt: skip
@click.confirmation_option(
    prompt="All keys are replaced, and partners must confirm the new one. Go on? / 将替换全部密钥，且须由伙伴确认。继续？",
    help="Do not ask. / 不再询问。",
)
@at_node
def keys_lost(place: Place, old: str | None, out: Path) -> None:
    """Declare the keys lost or stolen and make new ones. The node must not run. Restore a back-up instead where there is one.

    声明密钥丢失或被盗，并生成新密钥。须先停止节点；若有备份，应先恢复备份。
    """
    from guantong.base.canonical import unb64
    from guantong.base.clock import SystemClock

    ring, path, did = _ring(place, stopped=True)
    try:
        known = None if old is None else unb64(old)
    except ValueError as error:
        raise ConfigProblem("base.key-unreadable", name="--old") from error
    new = ring.lost(path, did, SystemClock().now(), old=known)
    if path.exists():
        path.replace(path.with_name("keys-replaced.json"))
    ring.store_keys(path, new)
    write_file(out, json.dumps(dict(new.changes[-1]), indent=1).encode())
    place.say({**_shown(new, did), "statement": str(out)}, facts)


@keys.command("company")
@click.argument("certificate", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    help="The certificate's private key, PEM; its password is taken from GUANTONG_CERTIFICATE_PASSWORD. / 证书私钥（PEM）；口令取自 GUANTONG_CERTIFICATE_PASSWORD。",
)
@click.option(
    "--roots",
    type=click.Path(path_type=Path),
    help="Check the chain against these roots, PEM. / 按这些根证书（PEM）检查证书链。",
)
@at_node
def keys_company(place: Place, certificate: Path, key: Path, roots: Path | None) -> None:
    """Have the company's certificate (X.509, RSA or EC; PEM with its chain) stand for this node's DID and evidence key.

    用单位证书（X.509，RSA 或 EC；PEM，含证书链）为本节点的 DID 和存证密钥背书。须先停止节点。
    """
    import os

    from guantong.base import company
    from guantong.base.clock import SystemClock

    ring, path, did = _ring(place, stopped=True)
    held = ring.load_keys(path)
    password = os.environ.get("GUANTONG_CERTIFICATE_PASSWORD")
    statement = company.bind(
        did,
        held.evidence.public,
        SystemClock().now(),
        certificates=read_text(certificate).encode(),
        key=read_text(key).encode(),
        password=None if password is None else password.encode(),
    )
    trusted = company.load_roots(read_text(roots).encode()) if roots is not None else []
    found = company.read(statement, trusted)
    held = replace(held, company=statement)
    ring.store_keys(path, held)
    place.say({**_shown(held, did), "issuer": found.issuer, "chain_checked": found.confirmed}, facts)


@keys.command("confirm")
@click.argument("statement", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    help="The new key as its owner told it over another channel. / 所有者通过其他渠道告知的新密钥。",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File for the confirmation. / 确认书文件。")
@at_node
def keys_confirm(place: Place, statement: Path, key: str, out: Path) -> None:
    """Confirm a partner's new key, after you have compared it with its owner over another channel.

    在通过其他渠道与所有者核对之后，确认伙伴的新密钥。
    """
    from guantong.base import keychange
    from guantong.base.canonical import b64
    from guantong.base.clock import SystemClock

    ring, path, did = _ring(place)
    change = keychange.parse(_json(statement))
    if key.strip() != b64(change.new):
        raise Refused("base.key-change-refused", reason="the statement is about another key")
    word = keychange.confirmation(change, did, ring.load_keys(path).evidence, SystemClock().now())
    write_file(out, json.dumps({"change": change.digest, **word}, indent=1).encode())
    place.say({"partner": change.did, "key": b64(change.new), "confirmation": str(out)}, facts)


@keys.command("confirmed")
@click.argument("confirmation", type=click.Path(path_type=Path))
@at_node
def keys_confirmed(place: Place, confirmation: Path) -> None:
    """Add a partner's confirmation to the statement of loss, which partners then follow. The node must not run.

    把伙伴的确认书并入丢失声明，此后伙伴据此跟进。须先停止节点。
    """
    from guantong.base import keychange

    ring, path, did = _ring(place, stopped=True)
    held, word = ring.load_keys(path), _json(confirmation)
    changes = []
    for document in held.changes:
        if isinstance(word, dict) and keychange.parse(document).digest == word.get("change"):
            kept = {name: word.get(name) for name in ("by", "at", "signature")}
            document = {**document, "confirmations": [*document["confirmations"], kept]}
            keychange.parse(document)
        changes.append(document)
    if changes == list(held.changes):
        raise Refused("base.key-change-refused", reason="the confirmation is of another change")
    held = replace(held, changes=tuple(changes))
    ring.store_keys(path, held)
    place.say(_shown(held, did), facts)


def _shown(held: Any, did: str) -> dict[str, Any]:
    from guantong.base import gm
    from guantong.base.canonical import b64
    from guantong.base.clock import iso

    shown: dict[str, Any] = {
        "participant": did,
        "evidence": b64(held.evidence.public),
        "witness": b64(held.witness.public),
        "token": held.token_name,
        "retired": [f"{one.name} (until {iso(one.until)})" for one in held.retired],
        "changes": [
            f"{one['at']} {one['reason']} {one['old']} -> {one['new']}, confirmed by {len(one['confirmations'])}"
            for one in held.changes
        ],
    }
    if held.company is not None:
        from guantong.base import company

        shown["company"] = company.read(held.company).subject
    if held.sm2 is not None:
        shown["sm2"] = b64(held.sm2.public)
        shown["note"] = " / ".join(gm.NOT_CERTIFIED.values())
    return shown


def _ring(place: Place, *, stopped: bool = False) -> tuple[Any, Path, str]:
    from guantong.cli.desk import running_place
    from guantong.exchange import keyring
    from guantong.exchange.identity import did_of

    config = place.config
    directory = Path(config["node.directory"]).expanduser().resolve()
    path = directory / keyring.FILE
    if not path.exists() and not path.with_name(keyring.PUBLIC).exists() and not (directory / "records.db").exists():
        raise ConfigProblem("node.none-here", directory=directory)
    if stopped and running_place(directory) is not None:
        raise ConfigProblem("keep.in-use", directory=directory.name)
    address = config["web.public-url"]
    if not address:
        port = directory / "port"
        address = (
            f"http://{config['web.host']}:{port.read_text('ascii').strip() if port.exists() else config['web.port']}"
        )
    return keyring, path, did_of(address.rstrip("/"))


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise Refused("base.key-change-refused", reason="the file is not JSON") from error
