"""Openness register: what a machine's interface offers, what stays closed, how its data can be had all the same, and a request for access.

Pure: a table by kind of interface, and what the source's own card says. Legal ground of the request: Regulation (EU) 2023/2854 (Data
Act), Articles 3-5 (access by design; right of the user to data of a connected product).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guantong.connect.model import Interface, Kind, Scorecard

__all__ = ["Openness", "openness_of"]

Words = tuple[str, str]
"""English and Chinese."""


@dataclass(frozen=True, slots=True)
class Openness:
    """One row of the register."""

    source: str
    kind: Kind
    base: str
    signals: int
    """Signals that the interface describes."""
    with_unit: int
    with_type: int
    offers: tuple[str, ...]
    """``names``, ``units``, ``source-time``, ``status``, ``history``, ``push``: what the protocol gives."""
    closed: tuple[str, ...]
    """What it does not give, from the same list; ``encryption`` where the line is open to read."""
    licensed: Words
    """What is usually sold apart."""
    retrofit: Words
    """How data can be had where the interface stays closed."""
    request_en: str
    request_zh: str


_ALL = ("names", "units", "source-time", "status", "history", "push")
_OFFERS: Mapping[Kind, tuple[str, ...]] = {
    "opcua": _ALL,
    "mtconnect": ("names", "units", "source-time", "status", "history", "push"),
    "shdr": ("source-time", "status", "push"),
    "shdr-log": ("source-time", "status", "history"),
    "sparkplug": ("names", "units", "source-time", "status", "push"),
    "mqtt": ("source-time", "push"),
    "modbus": (),
    "s7": (),
    "http": ("names",),
    "webhook": ("names", "push"),
    "sql": ("names", "history"),
    "qif": ("names", "units", "source-time", "history"),
    "folder": ("names", "history"),
}
_LICENSED: Mapping[str, Words] = {
    "opcua": ("OPC UA servers of controls are often an option with a licence of its own", "控制系统的 OPC UA 服务器往往是需单独授权的选件"),
    "mtconnect": ("The adapter of a control is often sold apart; the agent is free (cppagent, Apache-2.0)", "控制系统的适配器常需另购；代理程序免费（cppagent，Apache-2.0）"),
    "s7": ("Blocks with optimised access are closed to classic S7; OPC UA needs a runtime licence", "启用优化访问的数据块不对经典 S7 开放；OPC UA 需运行许可"),
}  # fmt: skip
_NO_LICENCE: Words = ("None known", "未发现需另行授权的部分")
_RETROFIT: Mapping[str, Words] = {
    "modbus": ("Ask the maker for the register list; what is not in registers: an energy clamp, or the control's OPC UA server", "向制造商索取寄存器表；寄存器中没有的数据可加装电流钳，或启用控制系统的 OPC UA 服务器"),
    "s7": ("Turn optimised access off for one block made for reading, or use the CPU's OPC UA server; else an energy clamp", "为读取专设一个关闭优化访问的数据块，或使用 CPU 的 OPC UA 服务器；否则加装电流钳"),
    "shdr": ("Put an MTConnect agent with a device model before the adapter: names and units come with it", "在适配器前加装带设备模型的 MTConnect 代理，即可获得名称和单位"),
    "folder": ("Follow the machine's log file (log tail), or DNC for program and tool; an energy clamp for running and idle", "跟踪设备日志文件，或通过 DNC 获取程序和刀具；用电流钳区分运行与空闲"),
}  # fmt: skip
_ANY_RETROFIT: Words = (
    "Log tail, DNC, S7 or Modbus of the control beside it, energy clamp",
    "日志跟踪、DNC、旁路读取控制系统的 S7 或 Modbus、加装电流钳",
)
_NAMES_EN = {
    "names": "names of signals", "units": "units", "source-time": "the time at the source", "status": "status codes",
    "history": "stored history", "push": "changes as they happen", "encryption": "an encrypted line",
}  # fmt: skip
_NAMES_ZH = {
    "names": "信号名称", "units": "单位", "source-time": "数据源时间", "status": "状态码", "history": "历史数据", "push": "变化即时推送",
    "encryption": "加密连接",
}  # fmt: skip


def openness_of(interface: Interface, card: Scorecard | None, *, company: str, today: str) -> Openness:
    """The row of one source, with a request ready to be sent. ``today``: YYYY-MM-DD."""
    offers = _OFFERS[interface.kind]
    closed = [name for name in _ALL if name not in offers]
    local = interface.base.startswith("file:")
    secure = interface.base.startswith(("https:", "mqtts:", "sparkplugs:")) or any(
        scheme != "nosec_sc" for scheme in interface.security
    )
    if not local and not secure:
        closed.append("encryption")
    title = interface.title or interface.name
    en = "; ".join(_NAMES_EN[name] for name in closed) or "nothing more"
    zh = "、".join(_NAMES_ZH[name] for name in closed) or "无"
    # the rate is that of the last seconds: a machine at rest says nothing, which is not a rate
    if card is not None and card.rate_hz > 0:
        rate_en, rate_zh = f"read at {card.rate_hz:g} readings a second", f"当前每秒 {card.rate_hz:g} 条读数"
    elif card is not None and card.received:
        rate_en, rate_zh = (
            f"{card.received} readings so far, idle at the moment",
            f"已接收 {card.received} 条读数，当前空闲",
        )
    else:
        rate_en, rate_zh = "no reading so far", "尚无读数"
    return Openness(
        source=interface.name,
        kind=interface.kind,
        base=interface.base,
        signals=len(interface.properties),
        with_unit=sum(1 for item in interface.properties if item.unit),
        with_type=sum(1 for item in interface.properties if item.type),
        offers=offers,
        closed=tuple(closed),
        licensed=_LICENSED.get(interface.kind, _NO_LICENCE),
        retrofit=_RETROFIT.get(interface.kind, _ANY_RETROFIT),
        request_en=(
            f"{today}\n\nTo the maker of {title}\n\nWe, {company}, use {title} ({interface.kind}, {rate_en}). As its user we "
            f"ask for access to the data that it generates (Regulation (EU) 2023/2854, Articles 4 and 5), read only, without charge, "
            f"continuously and in real time where it is technically feasible, with the metadata needed to interpret it. Its interface "
            f"does not give us: {en}. Please send the interface description (Asset Interfaces Description 1.1, or the list of "
            f"signals with addresses, types and units) and name licences that this needs, with their price.\n\n{company}\n"
        ),
        request_zh=(
            f"{today}\n\n致 {title} 制造商：\n\n我方 {company} 使用 {title}（接口类型 {interface.kind}，{rate_zh}）。作为设备使用者，"
            f"我方请求只读访问该设备产生的数据及解读所需的元数据；在技术可行时持续、实时提供。现有接口未提供：{zh}。"
            f"请提供接口描述（资产接口描述 AID 1.1，或含地址、类型和单位的信号清单），并列明所需的授权及价格。\n\n{company}\n"
        ),
    )
