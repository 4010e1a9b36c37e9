"""Commands about spaces: found one, invite with a link, join with one, see and end memberships."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from guantong.cli.root import Place, at_node, facts, language, main, table

if TYPE_CHECKING:
    from guantong.exchange.space import Offer

__all__: list[str] = []

_TOLD = {
    "relay": (
        "Partners reach you through the relay {root}. It can read the data that passes; your keys and evidence stay here.",
        "伙伴通过中转节点 {root} 与您联系。中转节点可以读到经过的数据；密钥和存证都留在本机。",
    ),
    "joined": ("You are a member of “{space}”.", "已加入“{space}”。"),
    "waiting": (
        "You are admitted to “{space}”; the credential comes as soon as the leader's node reaches this one.",
        "已获准加入“{space}”；发起方节点连通本节点后即送达凭证。",
    ),
    "next": (
        "Next: guantong run, then see what the leader offers: guantong catalogue {address}",
        "下一步：guantong run，然后查看发起方的数据目录：guantong catalogue {address}",
    ),
    "scan": (
        "The link works once, until {until}. Hand it over yourself; whoever has it can use it.",
        "链接仅可使用一次，有效期至 {until}。请亲自交给对方，持有链接者即可使用。",
    ),
}


def _told(name: str, **values: Any) -> str:
    return _TOLD[name][language() == "zh"].format(**values)


@main.group()
def space() -> None:
    """A space of companies that know each other as members.

    企业互认为成员的数据空间。
    """


@space.command("init")
@click.argument("name")
@click.option(
    "--open",
    "open_to_all",
    is_flag=True,
    help="Answer callers who are no members too. / 也应答非成员的请求。",
)
@at_node
def space_init(place: Place, name: str, open_to_all: bool) -> None:
    """Found a space: this node issues memberships from now on, and answers members only.

    发起数据空间：本节点此后签发成员凭证，且只应答成员。
    """
    place.action("/partners/space", creates=True, name=name, required=not open_to_all)


@space.command("invite")
@click.option("--name", help="Whom it is for, as a note to yourself. / 邀请对象，供自己备忘。")
@click.option(
    "--days", type=click.FloatRange(0.01, 90), default=7.0, show_default=True, help="Days it works. / 有效天数。"
)
@click.option(
    "--guest",
    is_flag=True,
    help="For a supplier without a node: a page in its browser. / 给没有节点的供应商：浏览器页面。",
)
@click.option("--no-qr", is_flag=True, help="Without the QR code. / 不显示二维码。")
@at_node
def space_invite(place: Place, name: str | None, days: float, guest: bool, no_qr: bool) -> None:
    """Make a link that lets one company in, once.

    生成一次性邀请链接，供一家企业加入。
    """
    with place.desk() as desk:
        made = desk.act("/partners/invite", name=name, days=days, kind="guest" if guest else "join")

    def text(found: Any) -> str:
        drawn = "" if no_qr else _drawn(found["link"])
        return f"{drawn}{found['link']}\n{_told('scan', until=found['until'])}"

    made.pop("next", None)
    place.say(made, text)


def _drawn(link: str) -> str:
    """The link as a QR code of half blocks; nothing without the library that draws it."""
    try:
        import segno
    except ImportError:
        return ""
    import io

    out = io.StringIO()
    segno.make(link, error="m", micro=False).terminal(out, border=2, compact=True)
    return out.getvalue() + "\n"


@space.command("invitations")
@at_node
def space_invitations(place: Place) -> None:
    """Every invitation and what became of it.

    全部邀请及其使用情况。
    """
    place.listing("/partners", "invitations", ("id", "kind", "name", "state", "until", "used_by"))


@space.command("withdraw")
@click.argument("invitation")
@at_node
def space_withdraw(place: Place, invitation: str) -> None:
    """Make an open link useless; INVITATION is the beginning of its id.

    撤回尚未使用的链接；INVITATION 为其标识的开头。
    """
    place.action("/partners/withdraw", invitation=invitation)


@space.command("show")
@at_node
def space_show(place: Place) -> None:
    """The spaces of this node, whom it trusts, and its relay.

    本节点所在的空间、信任的签发方及中转情况。
    """

    def text(data: Any) -> str:
        parts = [
            table(data["spaces"], ("name", "role", "issuer", "leader", "required", "credential_until")),
            facts({"trusted": [one["issuer"] for one in data["trust"]]}),
        ]
        if data["relay"]:
            parts.append(facts(data["relay"]))
        if data["relayed"]:
            parts.append(table(data["relayed"], ("name", "did", "state", "connected", "in_flight")))
        return "\n\n".join(parts)

    with place.desk() as desk:
        data = desk.ask("/partners")
    place.say({name: data[name] for name in ("spaces", "trust", "relay", "relayed")}, text)


@space.command("members")
@at_node
def space_members(place: Place) -> None:
    """Who is in the spaces of this node, as their leaders say now.

    本节点所在空间的成员，以发起方当前答复为准。
    """
    with place.desk() as desk:
        data = desk.act("/partners/directory")
    place.say(data, lambda found: table(found["members"], ("space", "name", "did", "address")))


@space.command("revoke")
@click.argument("member", metavar="DID")
@at_node
def space_revoke(place: Place, member: str) -> None:
    """End a company's membership; its partners know within a minute.

    终止成员资格，伙伴在一分钟内即知。
    """
    place.action("/partners/revoke", member=member)


@space.command("join")
@click.argument("link")
@click.option("--name", help="Name of your company, for the members. / 贵企业名称，供成员查看。")
@click.option(
    "--relay",
    "seat",
    metavar="NAME",
    help="Be reached through the leader's relay, under this name. / 经发起方中转，使用此名称。",
)
@click.option(
    "--direct",
    is_flag=True,
    help="Never through a relay: this node has an address of its own. / 不用中转：本节点自有地址。",
)
@at_node
def space_join(place: Place, link: str, name: str | None, seat: str | None, direct: bool) -> None:
    """Join a space with a link. A node without an address of its own gets one at the leader's relay.

    用链接加入数据空间。没有自有地址的节点会在发起方的中转节点上获得一个地址。
    """
    from guantong.cli.desk import running_place

    config = place.config
    directory = Path(config["node.directory"]).expanduser().resolve()
    if running_place(directory) is not None:
        if seat or (not direct and _needs_relay(config, directory, link)):
            _refuse_late(directory)
        with place.desk(serving=True) as desk:
            done = desk.act("/partners/join", link=link, name=name)
        done.pop("next", None)
    else:
        from guantong.cli.node import run_async

        relayed = bool(seat) or (not direct and _needs_relay(config, directory, link))
        keys = _keys_of_a_new_node(directory) if relayed else None
        done = run_async(_joined(config, directory, link, name or "", seat or "", keys))
    place.say(done, _said)


def _said(done: Any) -> str:
    lines = [_told("joined" if done["issued"] else "waiting", space=done["space"])]
    if done["relay"]:
        lines.append(_told("relay", root=done["relay"]))
    lines.append(facts({name: done[name] for name in ("participant", "issuer", "leader")}))
    lines.append(_told("next", address=done["address"]))
    return "\n".join(lines)


def _needs_relay(config: Any, directory: Path, link: str) -> bool:
    """Whether a node has no address that the leader could reach: none of its own is set, and the leader is on another machine."""
    from guantong.exchange.relayed import seat_in

    if config["web.public-url"] or seat_in(directory) is not None:
        return False
    host = urlsplit(link).hostname or ""
    try:
        return host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _refuse_late(directory: Path) -> None:
    from guantong.base.errors import ConfigProblem
    from guantong.cli.desk import running_place

    place = running_place(directory) or {}
    raise ConfigProblem("exchange.relay-name-late", did=place.get("participant", "–"))


async def _joined(config: Any, directory: Path, link: str, name: str, seat: str, keys: Any) -> dict[str, Any]:
    """Take a seat at the relay where one is wanted, then run the node for as long as joining takes."""
    from guantong.node import Node

    if keys is not None:
        await _seated(config, directory, link, seat or _slug(name), keys)
    node = Node(config)
    try:
        await node.start()
        await node.serve()
        if node.uplink is not None:
            await node.uplink.connected(20.0)
        space, issued = await node.exchange.spaces.join(node.participant, link, name=name)
        return {
            "space": space.name,
            "issuer": space.issuer,
            "leader": space.leader,
            "participant": node.participant,
            "issued": issued,
            "relay": "" if node.seat is None else node.seat.root,
            "address": urlsplit(link)._replace(path="", fragment="").geturl(),
        }
    finally:
        await node.stop()


def _keys_of_a_new_node(directory: Path) -> Any:
    """The keys of a node that has no name yet; None where it has a seat already. Raises ConfigProblem ``exchange.relay-name-late``."""
    from guantong.base.errors import ConfigProblem
    from guantong.exchange.keyring import FILE, load_keys
    from guantong.exchange.relayed import seat_in

    if seat_in(directory) is not None:
        return None
    if (directory / "records.db").exists():
        raise ConfigProblem("exchange.relay-name-late", did=_former(directory))
    directory.mkdir(parents=True, exist_ok=True)
    return load_keys(directory / FILE)


async def _seated(config: Any, directory: Path, link: str, name: str, keys: Any) -> None:
    from guantong.base.clock import SystemClock
    from guantong.exchange.relayed import take_seat
    from guantong.exchange.space import looked
    from guantong.web.client import AiohttpClient
    from guantong.web.model import WebSettings

    http = AiohttpClient(config.section("web", WebSettings))
    try:
        offer: Offer = await looked(http, link)
        await take_seat(directory, http, SystemClock(), keys.identity, offer, name, keys.changes)
    finally:
        await http.close()


def _former(directory: Path) -> str:
    port = directory / "port"
    return f"did:web:127.0.0.1%3A{port.read_text('ascii')}" if port.exists() else str(directory)


def _slug(name: str) -> str:
    """A name for the relay's path: what is left of the company's in small letters, else some drawn by lot."""
    import secrets

    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return found or f"company-{secrets.token_hex(4)}"
